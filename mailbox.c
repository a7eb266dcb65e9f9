#include "mailbox.h"

#include <errno.h>
#include <stdlib.h>

#include "proxy/str.h"

enum {
    BATCH_MAX = 64,        /* messages of one wake-up: the loop has others to serve */
    BYTES_MAX = 16777216U, /* waiting in one mailbox */
};

struct message {
    struct message *next;
    struct core_addr from;
    size_t len;
    char bytes[];
};

struct mailbox {
    uv_async_t async;
    mailbox_deliver deliver;
    void *context;
    unsigned messages_max;

    uv_mutex_t mutex; /* guards what follows */
    struct message *first, **last;
    unsigned count;
    size_t bytes;
    uint64_t posted, dropped;
};

static void put_last(struct mailbox *mailbox, struct message *message)
{
    message->next = NULL;
    *mailbox->last = message;
    mailbox->last = &message->next;
    mailbox->count++;
    mailbox->bytes += message->len;
}

static struct message *take_first(struct mailbox *mailbox)
{
    struct message *message = mailbox->first;

    if (!message)
        return NULL;
    mailbox->first = message->next;
    if (!mailbox->first)
        mailbox->last = &mailbox->first;
    mailbox->count--;
    mailbox->bytes -= message->len;
    return message;
}

static void wake_up(uv_async_t *async)
{
    struct mailbox *mailbox = async->data;
    bool more = true;

    for (int i = 0; i < BATCH_MAX && more; i++) {
        uv_mutex_lock(&mailbox->mutex);
        struct message *message = take_first(mailbox);
        more = mailbox->first;
        uv_mutex_unlock(&mailbox->mutex);
        if (!message)
            return;
        mailbox->deliver(mailbox->context, &message->from, message->bytes, message->len);
        free(message);
        if (uv_is_closing((uv_handle_t *)async))
            return;
    }
    if (more)
        uv_async_send(async); /* the rest at the next turn of the loop */
}

int mailbox_open(uv_loop_t *loop, unsigned messages_max, mailbox_deliver deliver, void *context,
                 struct mailbox **out)
{
    struct mailbox *mailbox = calloc(1, sizeof(*mailbox));
    int err;

    if (!mailbox)
        return -ENOMEM;
    mailbox->deliver = deliver;
    mailbox->context = context;
    mailbox->messages_max = messages_max;
    mailbox->last = &mailbox->first;
    err = uv_mutex_init(&mailbox->mutex);
    if (err) {
        free(mailbox);
        return err;
    }
    err = uv_async_init(loop, &mailbox->async, wake_up);
    if (err) {
        uv_mutex_destroy(&mailbox->mutex);
        free(mailbox);
        return err;
    }
    mailbox->async.data = mailbox;
    *out = mailbox;
    return 0;
}

int mailbox_post(struct mailbox *mailbox, const struct core_addr *from, struct str bytes)
{
    struct message *message = malloc(sizeof(*message) + bytes.len);
    bool first = false, full;

    if (message) {
        message->from = *from;
        message->len = bytes.len;
        if (bytes.len)
            memcpy(message->bytes, bytes.p, bytes.len);
    }
    uv_mutex_lock(&mailbox->mutex);
    full = mailbox->count >= mailbox->messages_max || bytes.len > BYTES_MAX - mailbox->bytes;
    if (full || !message) {
        mailbox->dropped++;
    } else {
        first = !mailbox->first;
        mailbox->posted++;
        put_last(mailbox, message);
    }
    uv_mutex_unlock(&mailbox->mutex);
    if (!message)
        return -ENOMEM;
    if (full) {
        free(message);
        return -ENOBUFS;
    }
    if (first) /* else a wake-up is under way, and looks again before it ends */
        uv_async_send(&mailbox->async);
    return 0;
}

struct mailbox_counters mailbox_counters(struct mailbox *mailbox)
{
    struct mailbox_counters counters;

    uv_mutex_lock(&mailbox->mutex);
    counters = (struct mailbox_counters){mailbox->posted, mailbox->dropped, mailbox->count};
    uv_mutex_unlock(&mailbox->mutex);
    return counters;
}

static void closed(uv_handle_t *handle)
{
    struct mailbox *mailbox = handle->data;
    struct message *message;

    while ((message = take_first(mailbox)))
        free(message);
    uv_mutex_destroy(&mailbox->mutex);
    free(mailbox);
}

void mailbox_close(struct mailbox **mailbox)
{
    if (*mailbox)
        uv_close((uv_handle_t *)&(*mailbox)->async, closed);
    *mailbox = NULL;
}

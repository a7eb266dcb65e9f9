/* A bounded queue of messages into one loop, from any thread: datagrams that another worker owns,
 * and messages to and from the embedded registrar.
 *
 * Ownership: mailbox_post() copies the bytes; deliver() borrows them out, and may change them.
 * Threads:   mailbox_post() and mailbox_counters() from any; deliver() runs on the loop.
 * Order:     messages of one sender arrive in the order they were posted.
 * Bounds:    messages_max messages and 16 MiB waiting. */
#pragma once

#include <uv.h>

#include "proxy/core.h"

struct mailbox;

typedef void (*mailbox_deliver)(void *context, const struct core_addr *from, char *bytes,
                                size_t len);

int mailbox_open(uv_loop_t *loop, unsigned messages_max, mailbox_deliver deliver, void *context,
                 struct mailbox **out);
/* Never delivers from inside. -ENOBUFS: full, the message is dropped as a network would (and
 * counted). -ENOMEM. */
int mailbox_post(struct mailbox *mailbox, const struct core_addr *from, struct str bytes);

struct mailbox_counters {
    uint64_t posted, dropped;
    uint64_t waiting; /* now */
};
struct mailbox_counters mailbox_counters(struct mailbox *mailbox);
/* No more posts, from no thread. What waits is dropped; the loop must run once more. A NULL
 * *mailbox is fine. */
void mailbox_close(struct mailbox **mailbox);

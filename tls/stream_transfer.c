#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tls/stream_internal.h"

enum {
    READS_PER_WAKE_UP = 32,    /* then the next connection's turn */
    PARTIAL_START_SIZE = 4096, /* most messages that come in pieces */
};

/* Sending -------------------------------------------------------------------------------------- */

int stream_queue_flush(struct stream *stream)
{
    while (stream->queue.base) {
        ssize_t put = channel_write(&stream->channel, queue_bytes(&stream->queue));

        if (put < 0)
            return (int)put;
        queue_drop(&stream->queue, (size_t)put);
        stream->streams->counters.queued -= (uint64_t)put;
    }
    return 0;
}

void stream_queue_clear(struct stream *stream)
{
    stream->streams->counters.queued -= queue_bytes(&stream->queue).len;
    queue_clear(&stream->queue);
}

static int stream_queue(struct stream *stream, struct str bytes)
{
    int err = queue_add(&stream->queue, bytes, stream->streams->options.conf->limits.send_queue);

    if (err == -ENOBUFS)
        stream_end_later(stream, CAUSE_SLOW_READER, NULL, END_RESET);
    else if (err)
        stream_end_later(stream, CAUSE_NO_MEMORY, NULL, END_AT_ONCE);
    if (err)
        return err;
    stream->streams->counters.queued += bytes.len;
    stream_events_update(stream);
    return 0;
}

int stream_send(struct stream *stream, struct str bytes)
{
    if (stream->state != STREAM_OPEN || stream->ending)
        return -EPIPE;
    while (bytes.len && !stream->queue.base) {
        ssize_t put = channel_write(&stream->channel, bytes);

        if (put == -EAGAIN)
            break;
        if (put < 0) {
            char reason[STREAM_REASON_SIZE];
            enum cause cause = stream_error(stream, put, reason);

            stream_end_later(stream, cause, reason, END_AT_ONCE);
            return -EPIPE;
        }
        bytes.p += put;
        bytes.len -= (size_t)put;
    }
    return bytes.len ? stream_queue(stream, bytes) : 0;
}

void stream_close(struct stream *stream, enum cause cause, const char *reason)
{
    stream_end_later(stream, cause, reason, END_PROPERLY);
}

/* Receiving ------------------------------------------------------------------------------------ */

void stream_partial_free(struct stream *stream)
{
    free(stream->partial);
    stream->partial = NULL;
    stream->partial_len = stream->partial_size = 0;
}

/* What stays when all complete messages are taken: copied only now, kept in its own buffer. */
static int partial_keep(struct stream *stream, const char *bytes, size_t len)
{
    if (!len) {
        stream_partial_free(stream);
        return 0;
    }
    if (!stream->partial) {
        size_t size = len > PARTIAL_START_SIZE / 2 ? len * 2 : PARTIAL_START_SIZE;

        stream->partial_size =
            size < stream->streams->buffer_size ? size : stream->streams->buffer_size;
        stream->partial = malloc(stream->partial_size);
        if (!stream->partial)
            return -ENOMEM;
    }
    memmove(stream->partial, bytes, len);
    stream->partial_len = len;
    return 0;
}

/* true: it goes on, or the loop ends it. false: end it, because of *cause. */
static bool stream_take(struct stream *stream, char *bytes, size_t len, enum cause *cause)
{
    ssize_t taken = 0;

    if (stream->state == STREAM_CHOICE)
        stream_choose(stream, (struct str){bytes, len});
    if (stream_ending(stream))
        return true;
    if (stream->state == STREAM_OPEN)
        taken = stream->protocol->receive(stream->conn, bytes, len);
    if (stream_ending(stream))
        return true; /* the loop ends it */
    if (taken < 0) {
        *cause = taken == -EMSGSIZE ? CAUSE_MESSAGE_TOO_LARGE : CAUSE_FRAMING;
        return false;
    }
    assert((size_t)taken <= len);
    if (len - (size_t)taken >= stream->streams->buffer_size) {
        *cause = CAUSE_MESSAGE_TOO_LARGE;
        return false;
    }
    *cause = CAUSE_NO_MEMORY;
    return partial_keep(stream, bytes + taken, len - (size_t)taken) == 0;
}

/* Where the next bytes go: behind the partial message if there is one. */
static int room_find(struct stream *stream, char **at, size_t *room)
{
    size_t size = stream->partial_size;
    char *grown;

    if (!stream->partial) {
        *at = stream->streams->buffer;
        *room = stream->streams->buffer_size;
        return 0;
    }
    if (size - stream->partial_len < size / 4 && size < stream->streams->buffer_size) {
        size = size * 2 < stream->streams->buffer_size ? size * 2 : stream->streams->buffer_size;
        grown = realloc(stream->partial, size);
        if (!grown)
            return -ENOMEM;
        stream->partial = grown;
        stream->partial_size = size;
    }
    *at = stream->partial + stream->partial_len;
    *room = stream->partial_size - stream->partial_len;
    return 0;
}

/* One read. True: there may be more to read at once. */
static bool stream_read(struct stream *stream)
{
    size_t room, before = stream->partial_len;
    enum cause cause;
    ssize_t got;
    bool taken;
    char *at;

    if (room_find(stream, &at, &room)) {
        stream_end(stream, CAUSE_NO_MEMORY, NULL, END_AT_ONCE);
        return false;
    }
    got = channel_read(&stream->channel, at, room);
    if (got == -EAGAIN)
        return false;
    if (got <= 0) {
        stream_failed(stream, got);
        return false;
    }
    taken = stream_take(stream, at - before, before + (size_t)got, &cause);
    if (stream_ending(stream))
        return false;
    if (!taken) {
        stream_end(stream, cause, NULL, END_PROPERLY);
        return false;
    }
    return stream->channel.ssl ? channel_pending(&stream->channel) : (size_t)got == room;
}

void stream_receive(struct stream *stream)
{
    bool more = true;

    for (int i = 0; more && i < READS_PER_WAKE_UP; i++)
        more = stream_read(stream);
    if (stream_ending(stream))
        return;
    if (more && stream->channel.ssl)
        stream_read_later(stream); /* what OpenSSL holds wakes nobody up */
    stream_deadline_update(stream);
    stream_events_update(stream);
}

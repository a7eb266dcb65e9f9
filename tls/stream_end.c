#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "proxy/log.h"
#include "tls/socket.h"
#include "tls/stream_internal.h"

enum {
    CLOSE_TIMEOUT_MS = 1000, /* for the peer to answer a proper close */
    READS_PER_WAKE_UP = 32,
};

/* Deadlines (F7) ------------------------------------------------------------------------------- */

static uint64_t after(uint64_t start, unsigned seconds)
{
    return seconds ? start + (uint64_t)seconds * 1000 : UINT64_MAX;
}

/* When this connection ends if nothing happens, and the cause that is then, if it is not the
 * protocol's. */
static uint64_t stream_deadline(const struct stream *stream, enum cause *cause)
{
    const struct conf *conf = stream->streams->options.conf;

    *cause = CAUSE_STOPPING;
    switch (stream->state) {
    case STREAM_PREFACE:
        *cause = CAUSE_PROXY_HEADER_TIMEOUT;
        return after(stream->since, conf->limits.handshake_timeout_s);
    case STREAM_HANDSHAKE:
        *cause = CAUSE_HANDSHAKE_TIMEOUT;
        return stream_waits(stream) ? UINT64_MAX
                                    : after(stream->since, conf->limits.handshake_timeout_s);
    case STREAM_CHOICE:
        *cause = CAUSE_FIRST_MESSAGE_TIMEOUT;
        return after(stream->since, conf->limits.first_message_timeout_s);
    case STREAM_OPEN: return stream->protocol->deadline(stream->conn);
    case STREAM_CLOSING: return stream->since + CLOSE_TIMEOUT_MS;
    case STREAM_GONE: break;
    }
    return UINT64_MAX;
}

static void stream_gone(struct stream *stream);

static void stream_timer(struct timer *timer, uint64_t now)
{
    struct stream *stream =
        (struct stream *)(void *)((char *)timer - offsetof(struct stream, timer));
    enum cause cause;
    uint64_t deadline = stream_deadline(stream, &cause);

    if (deadline == UINT64_MAX || stream->ending)
        return;
    if (now < deadline) {
        timer_start(stream->streams->options.timers, timer, deadline, stream_timer);
        return;
    }
    switch (stream->state) {
    case STREAM_PREFACE:
    case STREAM_HANDSHAKE: stream_end(stream, cause, NULL, END_AT_ONCE); break;
    case STREAM_CHOICE: stream_end(stream, cause, NULL, END_PROPERLY); break;
    case STREAM_OPEN:
        stream->protocol->expire(stream->conn, now);
        if (!stream->ending)
            stream_deadline_update(stream);
        break;
    case STREAM_CLOSING: stream_gone(stream); break;
    case STREAM_GONE: break;
    }
}

/* A later deadline than before costs nothing: the timer finds out when it fires. */
void stream_deadline_update(struct stream *stream)
{
    const struct streams_options *options = &stream->streams->options;
    enum cause cause;
    uint64_t deadline = stream_deadline(stream, &cause);

    if (deadline == UINT64_MAX || (timer_running(&stream->timer) && stream->timer.due <= deadline))
        return;
    timer_start(options->timers, &stream->timer, deadline, stream_timer);
    if (options->timers_changed)
        options->timers_changed(options->context);
}

void stream_state_set(struct stream *stream, enum state state)
{
    stream->state = state;
    stream->since = stream_now(stream);
    stream_deadline_update(stream);
}

void stream_events_update(struct stream *stream)
{
    bool waiting = stream->queue.base || stream->channel.wants_write;
    int events = UV_READABLE;

    switch (stream->state) {
    case STREAM_PREFACE: break;
    case STREAM_HANDSHAKE: events = stream->channel.wants_write ? UV_WRITABLE : UV_READABLE; break;
    case STREAM_CHOICE:
    case STREAM_OPEN: events = UV_READABLE | (waiting ? UV_WRITABLE : 0); break;
    case STREAM_CLOSING: events = stream->finished ? UV_READABLE : UV_WRITABLE; break;
    case STREAM_GONE: return;
    }
    if (stream->ending || stream_waits(stream)) /* for its turn */
        events = 0;
    if (events == stream->events)
        return;
    stream->events = events;
    uv_poll_start(&stream->poll, events, stream_event);
}

/* Ending --------------------------------------------------------------------------------------- */

static void all_remove(struct stream *stream)
{
    stream_scan_leave(stream);
    *stream->link = stream->next;
    if (stream->next)
        stream->next->link = stream->link;
    stream->streams->count--;
}

static void stream_free(uv_handle_t *handle)
{
    struct stream *stream = handle->data;

    all_remove(stream);
    free(stream->proxied);
    free(stream);
}

/* The socket closes; the struct stays until libuv has let go of it. */
static void stream_gone(struct stream *stream)
{
    const struct streams_options *options = &stream->streams->options;

    if (stream->state == STREAM_GONE)
        return;
    stream->state = STREAM_GONE;
    timer_stop(options->timers, &stream->timer);
    stream_todo_remove(stream);
    stream_queue_clear(stream);
    free(stream->preface);
    stream->preface = NULL;
    uv_close((uv_handle_t *)&stream->poll, stream_free); /* first: it knows the socket */
    channel_close(&stream->channel);
    atomic_fetch_sub(options->connections, 1);
}

/* A health check, or a scanner: it connected, and said nothing before it went. */
static bool only_looked(const struct stream *stream, enum cause cause)
{
    return stream->unproxied ||
           ((cause == CAUSE_HANDSHAKE_CLOSED || cause == CAUSE_HANDSHAKE_RESET) &&
            channel_silent(&stream->channel));
}

static void end_log(const struct stream *stream, enum cause cause, const char *reason,
                    enum ending how)
{
    char name[FLOW_NAME_SIZE], peer[SOCKET_TEXT];

    stream_name(stream, name);
    socket_text(&stream->peer.sa, peer);
    if (stream->state == STREAM_PREFACE || stream->state == STREAM_HANDSHAKE)
        log_event(only_looked(stream, cause) ? LOG_DEBUG : LOG_INFO,
                  stream->state == STREAM_PREFACE ? "PROXY protocol failed"
                                                  : "TLS handshake failed",
                  LOG_TEXT("flow", str_of(name)), LOG_TEXT("peer", str_of(peer)),
                  LOG_TEXT("reason", str_of(reason)));
    else if (how == END_RESET && stream->flow)
        log_event(LOG_WARNING, "slow reader closed", LOG_TEXT("flow", str_of(name)),
                  LOG_TEXT("peer", str_of(peer)),
                  LOG_NUMBER("queued", (int64_t)queue_bytes(&stream->queue).len));
}

static void end_count(const struct stream *stream, enum cause cause)
{
    struct stream_counters *counters = &stream->streams->counters;

    if (stream->transport == TRANSPORT_UNDECIDED)
        counters->opened[TRANSPORT_UNDECIDED]++;
    counters->closed[stream->transport][cause]++;
}

/* The flow and the protocol are told, in this order: until here the flow may still ask to send. */
static void protocol_close(struct stream *stream, const char *reason)
{
    struct flow *flow = stream->flow;

    stream->flow = NULL;
    if (flow)
        flow_close(flow, reason, stream_now(stream));
    if (stream->conn)
        stream->protocol->close(stream->conn);
    stream->conn = NULL;
    stream_partial_free(stream);
}

void stream_end(struct stream *stream, enum cause cause, const char *reason, enum ending how)
{
    char *copy = stream->end_reason; /* `reason` may be in it */

    if (stream->state >= STREAM_CLOSING)
        return;
    reason = reason ? reason : cause_row(cause)->words;
    end_log(stream, cause, reason, how);
    end_count(stream, cause);
    stream->ending = false;
    if (how == END_PROPERLY && stream->conn && stream->protocol->farewell)
        stream->protocol->farewell(stream->conn, reason);
    stream_remember(stream, cause, reason);
    stream->state = STREAM_CLOSING; /* from here on send() says -EPIPE */
    stream->since = stream_now(stream);
    stream_todo_remove(stream);
    protocol_close(stream, reason);
    if (stream->end_reason != copy)
        free(stream->end_reason);
    stream->end_reason = NULL;
    free(copy);
    if (how == END_RESET) {
        struct linger reset = {.l_onoff = 1, .l_linger = 0};

        setsockopt(stream->channel.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    }
    if (how == END_AT_ONCE || how == END_RESET)
        stream_gone(stream);
    else
        stream_closing(stream);
    if (how == END_OF_PEER && stream->state == STREAM_CLOSING && stream->finished)
        stream_gone(stream);
}

void stream_websocket_code(struct stream *stream, unsigned code, bool sent)
{
    stream->websocket_code = (uint16_t)code;
    stream->websocket_sent = sent;
}

bool stream_ending(const struct stream *stream)
{
    return stream->state >= STREAM_CLOSING || stream->ending;
}

enum cause stream_error(const struct stream *stream, ssize_t err, char reason[STREAM_REASON_SIZE])
{
    bool unready = stream->state <= STREAM_HANDSHAKE;
    enum cause cause = err ? stream->channel.cause : CAUSE_CLIENT_CLOSED;
    const char *words;

    if (unready && cause == CAUSE_CLIENT_CLOSED)
        cause = CAUSE_HANDSHAKE_CLOSED;
    else if (unready && cause == CAUSE_RESET)
        cause = CAUSE_HANDSHAKE_RESET;
    else if (!unready && err == -EPROTO)
        cause = CAUSE_TLS_BROKEN;
    words = cause_row(cause)->words;
    if (cause == CAUSE_CLIENT_CLOSED && stream->protocol)
        words = stream->protocol->lost;
    else if (err == -EPROTO || cause == CAUSE_NETWORK || cause == CAUSE_SYSTEM)
        words = stream->channel.error;
    snprintf(reason, STREAM_REASON_SIZE, "%s%s", cause == CAUSE_TLS_BROKEN ? "TLS error: " : "",
             words);
    return cause;
}

/* After an error of TLS itself OpenSSL has sent an alert, which the peer should live to read. */
void stream_failed(struct stream *stream, ssize_t err)
{
    char reason[STREAM_REASON_SIZE];
    enum cause cause = stream_error(stream, err, reason);
    enum ending how = err == 0 ? END_OF_PEER : err == -EPROTO ? END_ANSWERED : END_AT_ONCE;

    stream_queue_clear(stream);
    stream_end_later(stream, cause, reason, how);
}

/* What is queued, close_notify, FIN; then the peer's own end, which keeps a RST from eating what
 * it has not read yet. */
void stream_closing(struct stream *stream)
{
    int err = stream->finished ? 0 : stream_queue_flush(stream);

    if (!err && !stream->finished) {
        err = channel_finish(&stream->channel);
        stream->finished = !err;
    }
    if (err && err != -EAGAIN) {
        stream_gone(stream);
        return;
    }
    for (int i = 0; stream->finished && i < READS_PER_WAKE_UP; i++) {
        ssize_t got =
            recv(stream->channel.fd, stream->streams->buffer, stream->streams->buffer_size, 0);

        if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
            stream_gone(stream);
            return;
        }
        if (got < 0)
            break;
    }
    stream_deadline_update(stream);
    stream_events_update(stream);
}

/* libuv stops polling and says EBADF when the socket has an error: the real one is in the socket.
 */
void stream_broken(struct stream *stream)
{
    char reason[STREAM_REASON_SIZE];
    enum cause cause;
    int err;

    if (stream->state == STREAM_CLOSING) {
        stream_gone(stream);
        return;
    }
    err = stream->state == STREAM_HANDSHAKE ? channel_handshake(&stream->channel) : 0;
    if (err && err != -EAGAIN) { /* a client's alert, which came before its RST */
        stream_failed(stream, err);
        return;
    }
    cause = stream_error(stream, channel_socket_error(&stream->channel), reason);
    stream_end_later(stream, cause, reason, END_AT_ONCE);
}

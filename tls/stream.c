#include "tls/stream.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proxy/log.h"
#include "tls/channel.h"
#include "tls/proxy_protocol.h"
#include "tls/queue.h"
#include "tls/sip.h"
#include "tls/socket.h"

enum {
    READS_PER_WAKE_UP = 32,    /* then the next connection's turn */
    READ_SLACK = 16384,        /* the shared buffer: a message at its limit, and one TLS record */
    PARTIAL_START_SIZE = 4096, /* most messages that come in pieces */
    CLOSE_TIMEOUT_MS = 1000,   /* for the peer to answer a proper close */
    REASON_SIZE = 128,
    ALPN_SIZE = 32,
};

enum state {
    STREAM_PREFACE,   /* a PROXY protocol header, where the listener wants one */
    STREAM_HANDSHAKE, /* TLS only */
    STREAM_CHOICE,    /* of the protocol, by the first bytes */
    STREAM_OPEN,      /* the protocol's */
    STREAM_CLOSING,   /* the flow is told; what is queued, close_notify and FIN go out */
    STREAM_GONE,      /* socket closed; libuv still has the handle */
};

enum ending {
    END_PROPERLY, /* the protocol's last words, and what is queued, go out; the peer may answer */
    END_ANSWERED, /* the same without last words: the peer has ended, or had an alert */
    END_AT_ONCE,  /* nothing more can be said */
    END_RESET,    /* and what the kernel holds for the peer goes too */
};

struct preface {
    size_t len;
    uint8_t bytes[PROXY_HEADER_MAX];
};

struct stream {
    struct streams *streams;
    struct stream *next, **link;           /* of all */
    struct stream *todo_next, **todo_link; /* link NULL: nothing to do */
    uv_poll_t poll;
    int events; /* polled for */
    enum state state;
    enum conf_listener_kind kind;
    struct preface *preface; /* NULL: not in that state */
    bool unproxied;          /* the load balancer itself: a health check */
    struct channel channel;
    bool finished; /* closing: close_notify and FIN are out */

    const struct stream_protocol *protocol; /* NULL: not yet known */
    void *conn;                             /* the protocol's */
    struct flow *flow;
    union conf_sockaddr peer, local;

    struct timer timer; /* never after the deadline: events move that, only firing looks */
    uint64_t since;     /* of the state */

    char *partial; /* bytes that the protocol has not taken; NULL: none */
    size_t partial_len, partial_size;
    struct queue queue;

    bool ending; /* decided inside a call of proxy/, done by the loop */
    enum ending end_how;
    char *end_reason; /* NULL: no memory for it */
};

struct streams {
    struct streams_options options;
    struct stream *all, *todo;
    uv_idle_t todo_idle; /* runs while there is something to do */
    unsigned count;
    bool closing;
    char *buffer; /* all connections read into it, one after another */
    size_t buffer_size;
    char alpn[ALPN_SIZE]; /* of both protocols */
};

/* What a listener serves. */
static const struct {
    bool tls, sip, websocket;
} kinds[] = {
    [CONF_TLS] = {true,  true,  false},
      [CONF_WSS] = {true,  false, true },
    [CONF_TCP] = {false, true,  false},
      [CONF_WS] = {false, false, true },
    [CONF_TLS_WSS] = {true,  true,  true },
      [CONF_TCP_WS] = {false, true,  true },
};

static void stream_event(uv_poll_t *poll, int status, int events);
static void stream_receive(struct stream *stream);
static void stream_closing(struct stream *stream);

uint64_t stream_now(const struct stream *stream)
{
    return uv_now(stream->streams->options.loop);
}

/* Lists ---------------------------------------------------------------------------------------- */

static void todo_remove(struct stream *stream)
{
    if (!stream->todo_link)
        return;
    *stream->todo_link = stream->todo_next;
    if (stream->todo_next)
        stream->todo_next->todo_link = stream->todo_link;
    stream->todo_link = NULL;
}

static void todo_run(uv_idle_t *idle);

static void todo_add(struct stream *stream)
{
    struct streams *streams = stream->streams;

    if (stream->todo_link)
        return;
    stream->todo_next = streams->todo;
    stream->todo_link = &streams->todo;
    if (streams->todo)
        streams->todo->todo_link = &stream->todo_next;
    streams->todo = stream;
    uv_idle_start(&streams->todo_idle, todo_run);
}

static void all_add(struct streams *streams, struct stream *stream)
{
    stream->next = streams->all;
    stream->link = &streams->all;
    if (streams->all)
        streams->all->link = &stream->next;
    streams->all = stream;
    streams->count++;
}

static void all_remove(struct stream *stream)
{
    *stream->link = stream->next;
    if (stream->next)
        stream->next->link = stream->link;
    stream->streams->count--;
}

/* Deadlines (F7) ------------------------------------------------------------------------------- */

static uint64_t after(uint64_t start, unsigned seconds)
{
    return seconds ? start + (uint64_t)seconds * 1000 : UINT64_MAX;
}

/* When this connection ends if nothing happens, and what the reason is then. */
static uint64_t stream_deadline(const struct stream *stream, const char **reason)
{
    const struct conf *conf = stream->streams->options.conf;

    *reason = NULL;
    switch (stream->state) {
    case STREAM_PREFACE:
        *reason = "PROXY protocol header timeout";
        return after(stream->since, conf->limits.handshake_timeout_s);
    case STREAM_HANDSHAKE:
        *reason = "handshake timeout";
        return after(stream->since, conf->limits.handshake_timeout_s);
    case STREAM_CHOICE:
        *reason = "first message timeout";
        return after(stream->since, conf->limits.first_message_timeout_s);
    case STREAM_OPEN: return stream->protocol->deadline(stream->conn);
    case STREAM_CLOSING: *reason = "close timeout"; return stream->since + CLOSE_TIMEOUT_MS;
    case STREAM_GONE: break;
    }
    return UINT64_MAX;
}

static void stream_end(struct stream *stream, const char *reason, enum ending how);
static void stream_gone(struct stream *stream);

static void deadline_update(struct stream *stream);

static void stream_timer(struct timer *timer, uint64_t now)
{
    struct stream *stream =
        (struct stream *)(void *)((char *)timer - offsetof(struct stream, timer));
    const char *reason;
    uint64_t deadline = stream_deadline(stream, &reason);

    if (deadline == UINT64_MAX)
        return;
    if (now < deadline) {
        timer_start(stream->streams->options.timers, timer, deadline, stream_timer);
        return;
    }
    switch (stream->state) {
    case STREAM_PREFACE:
    case STREAM_HANDSHAKE: stream_end(stream, reason, END_AT_ONCE); break;
    case STREAM_CHOICE: stream_end(stream, reason, END_PROPERLY); break;
    case STREAM_OPEN:
        if (stream->ending) /* the loop ends it this very turn */
            break;
        stream->protocol->expire(stream->conn, now);
        if (!stream->ending)
            deadline_update(stream);
        break;
    case STREAM_CLOSING: stream_gone(stream); break;
    case STREAM_GONE: break;
    }
}

/* A later deadline than before costs nothing: the timer finds out when it fires. */
static void deadline_update(struct stream *stream)
{
    const struct streams_options *options = &stream->streams->options;
    const char *reason;
    uint64_t deadline = stream_deadline(stream, &reason);

    if (deadline == UINT64_MAX || (timer_running(&stream->timer) && stream->timer.due <= deadline))
        return;
    timer_start(options->timers, &stream->timer, deadline, stream_timer);
    if (options->timers_changed)
        options->timers_changed(options->context);
}

static void state_set(struct stream *stream, enum state state)
{
    stream->state = state;
    stream->since = stream_now(stream);
    deadline_update(stream);
}

static void events_update(struct stream *stream)
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
    if (events == stream->events)
        return;
    stream->events = events;
    uv_poll_start(&stream->poll, events, stream_event);
}

/* Ending --------------------------------------------------------------------------------------- */

static void stream_free(uv_handle_t *handle)
{
    struct stream *stream = handle->data;

    all_remove(stream);
    free(stream);
}

static void partial_free(struct stream *stream)
{
    free(stream->partial);
    stream->partial = NULL;
    stream->partial_len = stream->partial_size = 0;
}

/* The socket closes; the struct stays until libuv has let go of it. */
static void stream_gone(struct stream *stream)
{
    const struct streams_options *options = &stream->streams->options;

    if (stream->state == STREAM_GONE)
        return;
    stream->state = STREAM_GONE;
    timer_stop(options->timers, &stream->timer);
    todo_remove(stream);
    queue_clear(&stream->queue);
    free(stream->preface);
    stream->preface = NULL;
    uv_close((uv_handle_t *)&stream->poll, stream_free); /* first: it knows the socket */
    channel_close(&stream->channel);
    atomic_fetch_sub(options->connections, 1);
}

static void end_log(const struct stream *stream, const char *reason, enum ending how)
{
    char peer[SOCKET_TEXT];

    socket_text(&stream->peer.sa, peer);
    if (stream->state == STREAM_PREFACE || stream->state == STREAM_HANDSHAKE)
        log_event(stream->unproxied ? LOG_DEBUG : LOG_INFO,
                  stream->state == STREAM_PREFACE ? "PROXY protocol failed"
                                                  : "TLS handshake failed",
                  LOG_TEXT("peer", str_of(peer)), LOG_TEXT("reason", str_of(reason)));
    else if (how == END_RESET && stream->flow)
        log_event(LOG_WARNING, "slow reader closed",
                  LOG_TEXT("flow", str_of(flow_name(stream->flow))), LOG_TEXT("peer", str_of(peer)),
                  LOG_NUMBER("queued", (int64_t)queue_bytes(&stream->queue).len));
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
    partial_free(stream);
}

/* From the loop only, never inside a call of proxy/: it tells the flow. */
static void stream_end(struct stream *stream, const char *reason, enum ending how)
{
    char *copy = stream->end_reason; /* `reason` may be in it */

    if (stream->state >= STREAM_CLOSING)
        return;
    end_log(stream, reason, how);
    stream->ending = false;
    if (how == END_PROPERLY && stream->conn && stream->protocol->farewell)
        stream->protocol->farewell(stream->conn, reason);
    stream->state = STREAM_CLOSING; /* from here on send() says -EPIPE */
    stream->since = stream_now(stream);
    todo_remove(stream);
    protocol_close(stream, reason);
    if (stream->end_reason != copy)
        free(stream->end_reason);
    stream->end_reason = NULL;
    free(copy);
    if (how == END_RESET) {
        struct linger reset = {.l_onoff = 1, .l_linger = 0};

        setsockopt(stream->channel.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    }
    if (how == END_PROPERLY || how == END_ANSWERED)
        stream_closing(stream);
    else
        stream_gone(stream);
}

/* Inside a call of proxy/: the loop does it, soon. The first reason counts. */
static void stream_end_later(struct stream *stream, const char *reason, enum ending how)
{
    if (stream->state >= STREAM_CLOSING || stream->ending)
        return;
    stream->ending = true;
    stream->end_how = how;
    stream->end_reason = strdup(reason);
    todo_add(stream);
}

bool stream_ending(const struct stream *stream)
{
    return stream->state >= STREAM_CLOSING || stream->ending;
}

/* In words, for an error that the channel returned. */
static void error_reason(const struct stream *stream, ssize_t err, char reason[REASON_SIZE])
{
    const char *error = stream->channel.error;

    switch (err) {
    case 0:
    case -ECONNRESET:
    case -EPIPE:
        error = stream->protocol ? stream->protocol->lost : "closed by client";
        snprintf(reason, REASON_SIZE, "%s", error);
        break;
    case -EPROTO: snprintf(reason, REASON_SIZE, "TLS error: %s", error); break;
    default: snprintf(reason, REASON_SIZE, "%s", error); break;
    }
}

/* After an error of TLS itself OpenSSL has sent an alert, which the peer should live to read. */
static void stream_failed(struct stream *stream, ssize_t err)
{
    char reason[REASON_SIZE];

    if (err == -EPROTO && stream->state == STREAM_HANDSHAKE) /* the line says TLS already */
        snprintf(reason, sizeof(reason), "%s", stream->channel.error);
    else
        error_reason(stream, err, reason);
    queue_clear(&stream->queue);
    stream_end(stream, reason, err == -EPROTO || err == 0 ? END_ANSWERED : END_AT_ONCE);
    /* It ended of its own: nothing to wait for, once what we had to say is said. */
    if (err == 0 && stream->state == STREAM_CLOSING && stream->finished)
        stream_gone(stream);
}

/* Sending -------------------------------------------------------------------------------------- */

/* 0: all is with the kernel. -EAGAIN: the rest waits. Other errors: the connection is broken. */
static int queue_flush(struct stream *stream)
{
    while (stream->queue.base) {
        ssize_t put = channel_write(&stream->channel, queue_bytes(&stream->queue));

        if (put < 0)
            return (int)put;
        queue_drop(&stream->queue, (size_t)put);
    }
    return 0;
}

static int stream_queue(struct stream *stream, struct str bytes)
{
    int err = queue_add(&stream->queue, bytes, stream->streams->options.conf->limits.send_queue);

    if (err == -ENOBUFS)
        stream_end_later(stream, "slow reader", END_RESET);
    else if (err)
        stream_end_later(stream, "out of memory", END_AT_ONCE);
    else
        events_update(stream);
    return err;
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
            char reason[REASON_SIZE];

            error_reason(stream, put, reason);
            stream_end_later(stream, reason, END_AT_ONCE);
            return -EPIPE;
        }
        bytes.p += put;
        bytes.len -= (size_t)put;
    }
    return bytes.len ? stream_queue(stream, bytes) : 0;
}

void stream_close(struct stream *stream, const char *reason)
{
    stream_end_later(stream, reason, END_PROPERLY);
}

/* What protocols ask ------------------------------------------------------------------------- */

static const char *open_error(int err)
{
    return err == -EMFILE ? "the flow table is full" : "out of memory";
}

int stream_flow_open(struct stream *stream, const struct flow_transport *transport, void *conn,
                     const char *host)
{
    char client[CLIENT_NAME_SIZE];
    bool known = stream->channel.ssl && certificates_client(stream->channel.ssl, client);
    const struct flow_options options = {
        .transport = transport,
        .conn = conn,
        .peer = &stream->peer.sa,
        .local = &stream->local.sa,
        .host = stream->channel.ssl ? certificates_host(stream->channel.ssl) : host,
        .client = known ? client : NULL,
    };
    int err =
        flow_open(stream->streams->options.proxy, &options, stream_now(stream), &stream->flow);
    char peer[SOCKET_TEXT];

    if (!err)
        return 0;
    stream->flow = NULL;
    socket_text(&stream->peer.sa, peer);
    log_event(LOG_WARNING, "connection refused: no room for its flow",
              LOG_TEXT("peer", str_of(peer)), LOG_TEXT("reason", str_of(open_error(err))));
    stream_close(stream, "no room for its flow");
    return err;
}

struct flow *stream_flow(const struct stream *stream)
{
    return stream->flow;
}

bool stream_is_tls(const struct stream *stream)
{
    return stream->channel.ssl;
}

void stream_peer(const struct stream *stream, char *text)
{
    socket_text(&stream->peer.sa, text);
}

/* The protocol ------------------------------------------------------------------------------- */

static void protocol_open(struct stream *stream, const struct stream_protocol *protocol)
{
    const struct streams_options *options = &stream->streams->options;
    void *context = protocol == &sip_protocol ? (void *)options->conf : options->websocket_context;

    stream->protocol = protocol;
    stream->state = STREAM_OPEN;
    stream->since = stream_now(stream);
    if (protocol->open(context, stream, &stream->conn)) {
        stream_end(stream, "out of memory", END_AT_ONCE);
        return;
    }
    deadline_update(stream);
    events_update(stream);
}

/* The one of the listener, or the one that ALPN agreed on. NULL: the first bytes will tell. */
static const struct stream_protocol *protocol_known(const struct stream *stream)
{
    const struct stream_protocol *websocket = stream->streams->options.websocket;
    const unsigned char *alpn = NULL;
    unsigned len = 0;

    if (!kinds[stream->kind].websocket)
        return &sip_protocol;
    if (!kinds[stream->kind].sip)
        return websocket;
    if (stream->channel.ssl)
        SSL_get0_alpn_selected(stream->channel.ssl, &alpn, &len);
    if (!len)
        return NULL;
    return len == (unsigned)websocket->alpn[0] && !memcmp(alpn, websocket->alpn + 1, len)
               ? websocket
               : &sip_protocol;
}

/* The connection is ready for bytes. */
static void stream_ready(struct stream *stream)
{
    const struct stream_protocol *protocol = protocol_known(stream);

    if (protocol) {
        protocol_open(stream, protocol);
        return;
    }
    state_set(stream, STREAM_CHOICE);
    events_update(stream);
}

static void stream_choose(struct stream *stream, struct str first)
{
    const struct stream_protocol *websocket = stream->streams->options.websocket;
    int is = websocket->recognise(first);

    if (is != -EAGAIN)
        protocol_open(stream, is ? websocket : &sip_protocol);
}

/* Receiving ------------------------------------------------------------------------------------ */

/* What stays when all complete messages are taken: copied only now, kept in its own buffer. */
static int partial_keep(struct stream *stream, const char *bytes, size_t len)
{
    if (!len) {
        partial_free(stream);
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

/* 0, or a reason to end. */
static const char *stream_take(struct stream *stream, char *bytes, size_t len)
{
    ssize_t taken = 0;

    if (stream->state == STREAM_CHOICE)
        stream_choose(stream, (struct str){bytes, len});
    if (stream_ending(stream))
        return NULL;
    if (stream->state == STREAM_OPEN)
        taken = stream->protocol->receive(stream->conn, bytes, len);
    if (stream_ending(stream))
        return NULL; /* the loop ends it */
    if (taken < 0)
        return "broken framing";
    assert((size_t)taken <= len);
    if (len - (size_t)taken >= stream->streams->buffer_size)
        return "message too large";
    return partial_keep(stream, bytes + taken, len - (size_t)taken) ? "out of memory" : NULL;
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
    const char *reason;
    ssize_t got;
    char *at;

    if (room_find(stream, &at, &room)) {
        stream_end(stream, "out of memory", END_AT_ONCE);
        return false;
    }
    got = channel_read(&stream->channel, at, room);
    if (got == -EAGAIN)
        return false;
    if (got <= 0) {
        stream_failed(stream, got);
        return false;
    }
    reason = stream_take(stream, at - before, before + (size_t)got);
    if (stream_ending(stream))
        return false;
    if (reason) {
        stream_end(stream, reason, END_PROPERLY);
        return false;
    }
    return stream->channel.ssl ? channel_pending(&stream->channel) : (size_t)got == room;
}

/* Events --------------------------------------------------------------------------------------- */

static void stream_receive(struct stream *stream)
{
    bool more = true;

    for (int i = 0; more && i < READS_PER_WAKE_UP; i++)
        more = stream_read(stream);
    if (stream_ending(stream))
        return;
    if (more && stream->channel.ssl)
        todo_add(stream); /* what OpenSSL holds wakes nobody up */
    deadline_update(stream);
    events_update(stream);
}

/* The addresses are known: TLS, or the protocol at once. */
static void stream_begin(struct stream *stream)
{
    if (!stream->channel.ssl) {
        stream_ready(stream);
        return;
    }
    state_set(stream, STREAM_HANDSHAKE);
    events_update(stream);
}

/* Nothing behind the header is read: that may be TLS's. 0: it is complete. -EAGAIN. Else it ended.
 */
static int preface_read(struct stream *stream, struct proxy_header *header)
{
    struct preface *preface = stream->preface;
    ssize_t taken = proxy_header_parse(preface->bytes, preface->len, header);

    while (taken == 0) {
        ssize_t got =
            recv(stream->channel.fd, preface->bytes + preface->len, header->need - preface->len, 0);

        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return -EAGAIN;
        if (got <= 0) {
            stream->unproxied = preface->len == 0; /* a health check that only connects */
            stream_end(stream, "closed by client", END_AT_ONCE);
            return -ECONNRESET;
        }
        preface->len += (size_t)got;
        taken = proxy_header_parse(preface->bytes, preface->len, header);
    }
    if (taken > 0)
        return 0;
    stream_end(stream, header->error, END_AT_ONCE);
    return -EPROTO;
}

static void stream_preface(struct stream *stream)
{
    struct proxy_header header;

    if (preface_read(stream, &header))
        return;
    stream->unproxied = !header.proxied;
    if (header.proxied) {
        stream->peer = header.source;
        stream->local = header.destination;
    }
    free(stream->preface);
    stream->preface = NULL;
    stream_begin(stream);
}

static void stream_handshake(struct stream *stream)
{
    int err = channel_handshake(&stream->channel);

    if (err == -EAGAIN) {
        events_update(stream);
        return;
    }
    if (err) {
        stream_failed(stream, err);
        return;
    }
    stream_ready(stream);
    if (!stream_ending(stream) && channel_pending(&stream->channel))
        stream_receive(stream); /* the first message came with the client's Finished */
}

/* What is queued, close_notify, FIN; then the peer's own end, which keeps a RST from eating what
 * it has not read yet. */
static void stream_closing(struct stream *stream)
{
    int err = stream->finished ? 0 : queue_flush(stream);

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
    deadline_update(stream);
    events_update(stream);
}

static void stream_writable(struct stream *stream)
{
    int err = queue_flush(stream);

    if (err && err != -EAGAIN)
        stream_failed(stream, err);
}

/* libuv stops polling and says EBADF when the socket has an error: the real one is in the socket.
 */
static void stream_broken(struct stream *stream)
{
    char reason[REASON_SIZE];

    if (stream->state == STREAM_CLOSING) {
        stream_gone(stream);
        return;
    }
    error_reason(stream, channel_socket_error(&stream->channel), reason);
    stream_end(stream, reason, END_AT_ONCE);
}

static void stream_event(uv_poll_t *poll, int status, int events)
{
    struct stream *stream = poll->data;

    if (status < 0) {
        stream_broken(stream);
        return;
    }
    switch (stream->state) {
    case STREAM_PREFACE: stream_preface(stream); break;
    case STREAM_HANDSHAKE: stream_handshake(stream); break;
    case STREAM_CHOICE:
    case STREAM_OPEN:
        if (stream->ending) /* the loop ends it this very turn */
            break;
        if (events & UV_WRITABLE)
            stream_writable(stream);
        if (!stream_ending(stream) && (events & UV_READABLE || stream->channel.wants_write))
            stream_receive(stream);
        else
            events_update(stream);
        break;
    case STREAM_CLOSING: stream_closing(stream); break;
    case STREAM_GONE: break;
    }
}

/* What was left for the loop: ends decided inside proxy/, and reading on. */
static void todo_run(uv_idle_t *idle)
{
    struct streams *streams = idle->data;
    struct stream *list = streams->todo, *stream;

    streams->todo = NULL;
    if (list)
        list->todo_link = &list;
    while ((stream = list)) {
        todo_remove(stream);
        if (stream->ending)
            stream_end(stream, stream->end_reason ? stream->end_reason : "out of memory",
                       stream->end_how);
        else if (stream->state == STREAM_CHOICE || stream->state == STREAM_OPEN)
            stream_receive(stream);
    }
    if (!streams->todo)
        uv_idle_stop(idle);
}

/* Life ----------------------------------------------------------------------------------------- */

int streams_create(const struct streams_options *options, struct streams **out)
{
    struct streams *streams = calloc(1, sizeof(*streams));

    if (!streams)
        return -ENOMEM;
    streams->options = *options;
    streams->buffer_size = options->conf->limits.message_size + READ_SLACK;
    streams->buffer = malloc(streams->buffer_size);
    if (!streams->buffer) {
        free(streams);
        return -ENOMEM;
    }
    if (options->websocket)
        (void)snprintf(streams->alpn, sizeof(streams->alpn), "%s%s", sip_protocol.alpn,
                       options->websocket->alpn);
    uv_idle_init(options->loop, &streams->todo_idle);
    streams->todo_idle.data = streams;
    *out = streams;
    return 0;
}

static const char *kind_alpn(const struct streams *streams, enum conf_listener_kind kind)
{
    if (!kinds[kind].websocket)
        return sip_protocol.alpn;
    return kinds[kind].sip ? streams->alpn : streams->options.websocket->alpn;
}

static int channel_open(struct streams *streams, const struct conf_listener *listener, int fd,
                        struct channel *channel)
{
    int err;

    if (!kinds[listener->kind].tls) {
        channel_open_plain(channel, fd);
        return 0;
    }
    err = channel_open_tls(channel, fd, certificates_default(streams->options.certificates));
    if (!err)
        err = certificates_alpn(channel->ssl, kind_alpn(streams, listener->kind));
    if (!err)
        err = certificates_demand(channel->ssl, listener->client_certificate);
    return err;
}

static int stream_create(struct streams *streams, const struct conf_listener *listener, int fd,
                         struct stream **out)
{
    struct stream *stream = calloc(1, sizeof(*stream));
    int err = 0;

    if (!stream)
        return -ENOMEM;
    stream->streams = streams;
    stream->kind = listener->kind;
    if (listener->proxy_protocol_count) {
        stream->preface = calloc(1, sizeof(*stream->preface));
        err = stream->preface ? 0 : -ENOMEM;
    }
    if (!err)
        err = channel_open(streams, listener, fd, &stream->channel);
    if (!err)
        err = uv_poll_init(streams->options.loop, &stream->poll, fd);
    if (err) {
        SSL_free(stream->channel.ssl);
        free(stream->preface);
        free(stream);
        return err;
    }
    stream->poll.data = stream;
    *out = stream;
    return 0;
}

static bool sender_trusted(const struct conf_listener *listener, const struct sockaddr *peer)
{
    for (unsigned i = 0; i < listener->proxy_protocol_count; i++)
        if (conf_network_has(&listener->proxy_protocol[i], peer))
            return true;
    return listener->proxy_protocol_count == 0;
}

static void accept_refuse(struct streams *streams, int fd, enum log_level level,
                          const struct sockaddr *peer, const char *reason)
{
    char text[SOCKET_TEXT];

    socket_text(peer, text);
    if (!streams->closing)
        log_event(level, "connection refused", LOG_TEXT("peer", str_of(text)),
                  LOG_TEXT("reason", str_of(reason)));
    close(fd);
    atomic_fetch_sub(streams->options.connections, 1);
}

void streams_accept(struct streams *streams, const struct conf_listener *listener, int fd,
                    const struct sockaddr *peer, const struct sockaddr *local)
{
    struct stream *stream;
    int err;

    if (!sender_trusted(listener, peer)) {
        accept_refuse(streams, fd, LOG_INFO, peer, "not in this listener's proxy_protocol");
        return;
    }
    err = streams->closing ? -ESHUTDOWN : stream_create(streams, listener, fd, &stream);
    if (err) {
        accept_refuse(streams, fd, LOG_WARNING, peer, strerrordesc_np(-err));
        return;
    }
    memcpy(&stream->peer, peer, socket_len(peer));
    memcpy(&stream->local, local, socket_len(local));
    all_add(streams, stream);
    if (!stream->preface) {
        stream_begin(stream);
        return;
    }
    state_set(stream, STREAM_PREFACE);
    events_update(stream);
}

void streams_close(struct streams *streams)
{
    streams->closing = true;
    for (struct stream *stream = streams->all; stream; stream = stream->next)
        stream_end(stream, "server is stopping",
                   stream->state <= STREAM_HANDSHAKE ? END_AT_ONCE : END_PROPERLY);
}

unsigned streams_count(const struct streams *streams)
{
    return streams->count;
}

static void streams_free(uv_handle_t *handle)
{
    struct streams *streams = handle->data;

    free(streams->buffer);
    free(streams);
}

void streams_destroy(struct streams **streams)
{
    struct streams *gone = *streams;

    if (!gone)
        return;
    assert(gone->count == 0);
    uv_close((uv_handle_t *)&gone->todo_idle, streams_free);
    *streams = NULL;
}

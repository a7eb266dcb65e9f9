/* One connection after the handshake: messages in (F4), messages out (X2), pings (F8), limits (F7),
 * and the ways it ends. */
#include <errno.h>
#include <stdlib.h>

#include "proxy/log.h"
#include "ws/internal.h"
#include "ws/utf8.h"

enum {
    CLOSE_TIMEOUT_MS = 1000, /* a peer has so long to answer a close frame */
    FIRST_SIZE = 4096,       /* of the memory that fragments are put together in */
    PER_S = 1000,
    CLOSE_TRY_AGAIN_LATER = 1013, /* of the IANA registry */
};

/* A ping with a payload: libwebsockets says nothing about a pong without one. */
static const char ping_payload[] = "sipward";
enum { PING_LEN = sizeof(ping_payload) - 1 };

static uint64_t conn_now(const struct ws_conn *conn)
{
    return uv_now(conn->ws->options.loop);
}

void conn_text(const struct ws_conn *conn, char text[SOCKET_TEXT])
{
    socket_text(&conn->peer.sa, text);
}

static void set_reason(struct ws_conn *conn, const char *reason)
{
    size_t len = strnlen(reason, CLOSE_REASON_SIZE - 1);

    if (conn->reason[0]) /* the first one is the one that counts */
        return;
    memcpy(conn->reason, reason, len);
    conn->reason[len] = '\0';
}

/* Limits (F7, F8) ------------------------------------------------------------------------------ */

static void conn_fire(struct timer *timer, uint64_t now);
static void close_continue(struct ws_conn *conn, uint64_t now);

static void arm(struct ws_conn *conn, uint64_t due)
{
    struct ws_options *options = &conn->ws->options;

    timer_start(options->timers, &conn->timer, due, conn_fire);
    options->timers_changed(options->context);
}

static uint64_t sooner(uint64_t due, uint64_t since, uint64_t span_ms)
{
    return span_ms && since + span_ms < due ? since + span_ms : due;
}

/* When an open connection has to be looked at next. */
static uint64_t conn_due(const struct ws_conn *conn)
{
    const struct conf *conf = conn->ws->options.conf;
    uint64_t due = UINT64_MAX;

    if (conn->ping_waits_pong)
        due = sooner(due, conn->pinged, (uint64_t)conf->websocket.pong_timeout_s * PER_S);
    else
        due = sooner(due, conn->received, conn->ping_interval);
    if (conn->in_message)
        due = sooner(due, conn->begun, (uint64_t)conf->limits.message_timeout_s * PER_S);
    if (!conn->had_message)
        due = sooner(due, conn->opened, (uint64_t)conf->limits.first_message_timeout_s * PER_S);
    return sooner(due, conn->received, (uint64_t)conf->limits.idle_timeout_s * PER_S);
}

/* The timer is moved only to an earlier time; to a later one it moves itself when it fires. So a
 * message that comes in costs no timer. */
static void conn_arm(struct ws_conn *conn)
{
    uint64_t due = conn_due(conn);

    if (due != UINT64_MAX && (!timer_running(&conn->timer) || due < conn->timer.due))
        arm(conn, due);
}

/* Hang up without a word, at the next turn of the loop: libwebsockets has no other way to close a
 * connection that has something left to send. It is woken because it may sleep. */
static void conn_cut(struct ws_conn *conn, const char *reason)
{
    if (conn->state == CONN_GONE || !conn->wsi) /* no wsi: failed in ws_accept(), ends by itself */
        return;
    set_reason(conn, reason);
    if (conn->state < CONN_OPEN) {
        char peer[SOCKET_TEXT];

        conn_text(conn, peer);
        log_event(LOG_INFO, "connection closed", LOG_TEXT("peer", str_of(peer)),
                  LOG_TEXT("transport", str_of(conn->tls ? "WSS" : "WS")),
                  LOG_TEXT("reason", str_of(conn->reason)));
    }
    conn->state = CONN_CLOSING;
    timer_stop(conn->ws->options.timers, &conn->timer);
    lws_set_timeout(conn->wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_ASYNC);
    lws_cancel_service_pt(conn->wsi);
}

static int write_ping(struct ws_conn *conn)
{
    unsigned char ping[LWS_PRE + PING_LEN];

    memcpy(ping + LWS_PRE, ping_payload, PING_LEN);
    conn->ping_unsent = false;
    return lws_write(conn->wsi, ping + LWS_PRE, PING_LEN, LWS_WRITE_PING) < 0 ? -EPIPE : 0;
}

static void conn_ping(struct ws_conn *conn, uint64_t now)
{
    conn->ping_waits_pong = true;
    conn->pinged = now;
    if (conn->queue || lws_partial_buffered(conn->wsi)) {
        conn->ping_unsent = true;
        lws_callback_on_writable(conn->wsi);
    } else if (write_ping(conn)) {
        conn_cut(conn, "connection lost");
    }
}

static bool passed(uint64_t now, uint64_t since, uint64_t span_ms)
{
    return span_ms && now >= since + span_ms;
}

static void conn_check(struct ws_conn *conn, uint64_t now)
{
    const struct conf *conf = conn->ws->options.conf;

    if (conn->in_message &&
        passed(now, conn->begun, (uint64_t)conf->limits.message_timeout_s * PER_S))
        conn_close(conn, LWS_CLOSE_STATUS_POLICY_VIOLATION, "message not finished in time");
    else if (!conn->had_message &&
             passed(now, conn->opened, (uint64_t)conf->limits.first_message_timeout_s * PER_S))
        conn_close(conn, LWS_CLOSE_STATUS_POLICY_VIOLATION, "no message in time");
    else if (passed(now, conn->received, (uint64_t)conf->limits.idle_timeout_s * PER_S))
        conn_close(conn, LWS_CLOSE_STATUS_GOINGAWAY, "idle");
    else if (conn->ping_waits_pong &&
             passed(now, conn->pinged, (uint64_t)conf->websocket.pong_timeout_s * PER_S))
        conn_close(conn, LWS_CLOSE_STATUS_GOINGAWAY, "ping missed");
    else if (!conn->ping_waits_pong && passed(now, conn->received, conn->ping_interval))
        conn_ping(conn, now);

    if (conn->state == CONN_OPEN)
        conn_arm(conn);
}

static void conn_fire(struct timer *timer, uint64_t now)
{
    struct ws_conn *conn = lws_container_of(timer, struct ws_conn, timer);
    const struct conf *conf = conn->ws->options.conf;

    switch (conn->state) {
    case CONN_HANDSHAKE:
        /* libwebsockets does not tell the end of the handshake: it is looked up when its time is
         * over, and only then the time of the HTTP upgrade begins */
        if (!SSL_is_init_finished(lws_get_ssl(conn->wsi))) {
            conn_cut(conn, "TLS handshake not finished in time");
            break;
        }
        conn->state = CONN_UPGRADE;
        arm(conn, now + (uint64_t)conf->limits.upgrade_timeout_s * PER_S);
        break;
    case CONN_UPGRADE: conn_cut(conn, "HTTP upgrade not finished in time"); break;
    case CONN_OPEN: conn_check(conn, now); break;
    case CONN_CLOSING: close_continue(conn, now); break;
    case CONN_GONE: break;
    }
}

void conn_start(struct ws_conn *conn)
{
    const struct conf *conf = conn->ws->options.conf;
    unsigned limit_s =
        conn->tls ? conf->limits.handshake_timeout_s : conf->limits.upgrade_timeout_s;

    conn->state = conn->tls ? CONN_HANDSHAKE : CONN_UPGRADE;
    conn->queue_end = &conn->queue;
    arm(conn, conn_now(conn) + (uint64_t)limit_s * PER_S);
}

/* Sending (X2) --------------------------------------------------------------------------------- */

/* Text where it may be: JavaScript clients get a string then; a body that is no UTF-8 needs a
 * binary message, whatever the client sent itself (RFC 7118 4.2 allows both). */
static enum lws_write_protocol message_type(struct str bytes)
{
    return utf8_valid(bytes) ? LWS_WRITE_TEXT : LWS_WRITE_BINARY;
}

static int write_message(struct ws_conn *conn, struct str bytes)
{
    struct ws *ws = conn->ws;

    if (ws->out_size < LWS_PRE + bytes.len) {
        unsigned char *more = realloc(ws->out, LWS_PRE + bytes.len);

        if (!more)
            return -ENOMEM;
        ws->out = more;
        ws->out_size = LWS_PRE + bytes.len;
    }
    memcpy(ws->out + LWS_PRE, bytes.p, bytes.len);
    return lws_write(conn->wsi, ws->out + LWS_PRE, bytes.len, message_type(bytes)) < 0 ? -EPIPE : 0;
}

static int queue_message(struct ws_conn *conn, struct str bytes)
{
    size_t size = sizeof(struct frame) + LWS_PRE + bytes.len;
    struct frame *frame;

    if (size > conn->ws->options.conf->limits.send_queue - conn->queued)
        return -ENOBUFS;
    frame = malloc(size);
    if (!frame)
        return -ENOMEM;
    frame->next = NULL;
    frame->len = bytes.len;
    frame->type = message_type(bytes);
    memcpy(frame->room + LWS_PRE, bytes.p, bytes.len);
    *conn->queue_end = frame;
    conn->queue_end = &frame->next;
    conn->queued += size;
    lws_callback_on_writable(conn->wsi);
    return 0;
}

static void queue_drop_first(struct ws_conn *conn)
{
    struct frame *frame = conn->queue;

    conn->queue = frame->next;
    if (!conn->queue)
        conn->queue_end = &conn->queue;
    conn->queued -= sizeof(*frame) + LWS_PRE + frame->len;
    free(frame);
}

/* At once if nothing waits: the way over WRITEABLE costs twice the system calls. A write while
 * libwebsockets still has the rest of an earlier one would lose frame headers. */
static int conn_send(void *context, struct str bytes)
{
    struct ws_conn *conn = context;
    int err;

    if (conn->state != CONN_OPEN)
        return -EPIPE;
    if (conn->queue || lws_partial_buffered(conn->wsi))
        err = queue_message(conn, bytes);
    else
        err = write_message(conn, bytes);
    if (!err)
        return 0;

    /* cut from the loop: send() never calls back */
    set_reason(conn, err == -ENOBUFS  ? "slow reader"
                     : err == -ENOMEM ? "out of memory"
                                      : "connection lost");
    conn->state = CONN_CLOSING;
    conn->deadline = conn_now(conn);
    arm(conn, conn->deadline);
    return err == -ENOBUFS ? -ENOBUFS : -EPIPE;
}

/* What waits goes out as far as the socket takes it. False: something is left, or it failed. */
static bool flush(struct ws_conn *conn)
{
    while (conn->queue && !lws_partial_buffered(conn->wsi)) {
        struct frame *frame = conn->queue;

        if (lws_write(conn->wsi, frame->room + LWS_PRE, frame->len, frame->type) < 0) {
            conn_cut(conn, "connection lost");
            return false;
        }
        queue_drop_first(conn);
    }
    if (!lws_partial_buffered(conn->wsi))
        return true;
    lws_callback_on_writable(conn->wsi);
    return false;
}

/* The socket takes more: the queue, then an own ping, or the close that had to wait for it. */
int conn_writeable(struct ws_conn *conn)
{
    if (conn->state != CONN_OPEN && conn->state != CONN_CLOSING)
        return 0;
    if (!flush(conn))
        return 0;
    if (conn->state == CONN_OPEN)
        return conn->ping_unsent ? write_ping(conn) : 0;
    if (conn->close_code && !conn->close_sent)
        arm(conn, conn_now(conn)); /* not from here: 4.1.6 would close twice, without the frame */
    return 0;
}

/* Is it time for the close frame? libwebsockets sends it when it is asked to close then, and waits
 * for the peer's. */
static bool close_prepare(struct ws_conn *conn)
{
    if (!conn->close_code || conn->close_sent || !flush(conn))
        return false;
    conn->close_sent = true;
    lws_close_reason(conn->wsi, (enum lws_close_status)conn->close_code,
                     (unsigned char *)conn->reason, strlen(conn->reason));
    return true;
}

/* From the timer, so outside of the connection's own callbacks. */
static void close_continue(struct ws_conn *conn, uint64_t now)
{
    if (now >= conn->deadline) {
        conn_cut(conn, "close not answered");
        return;
    }
    arm(conn, conn->deadline);
    if (close_prepare(conn))
        lws_set_timeout(conn->wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_SYNC);
}

/* Receiving (F4) ------------------------------------------------------------------------------- */

static void message_free(struct ws_conn *conn)
{
    free(conn->message);
    conn->message = NULL;
    conn->message_len = conn->message_size = 0;
    conn->in_message = false;
}

/* From inside RECEIVE: nothing that comes behind it is read any more. */
static int fail(struct ws_conn *conn, unsigned code, const char *reason)
{
    conn_close(conn, code, reason);
    return close_prepare(conn) ? -1 : 0;
}

/* One whole message. */
static int message_deliver(struct ws_conn *conn, char *bytes, size_t len, bool binary)
{
    int err;

    if (!binary && !utf8_valid((struct str){bytes, len}))
        return fail(conn, LWS_CLOSE_STATUS_INVALID_PAYLOAD, "text that is not UTF-8");
    if (!len)
        return 0;
    conn->had_message = true;
    err = proxy_receive_message(conn->flow, bytes, len, conn_now(conn));
    if (err == -EMSGSIZE)
        return fail(conn, LWS_CLOSE_STATUS_MESSAGE_TOO_LARGE, "message too large");
    if (err)
        return fail(conn, LWS_CLOSE_STATUS_POLICY_VIOLATION, "not a SIP message");
    return 0;
}

/* Memory grows with what came, never with what was announced. */
static int message_append(struct ws_conn *conn, const char *bytes, size_t len)
{
    size_t need = conn->message_len + len, size = conn->message_size;
    char *more;

    if (need > size) {
        size = size ? size : FIRST_SIZE;
        while (size < need)
            size *= 2;
        more = realloc(conn->message, size);
        if (!more)
            return -ENOMEM;
        conn->message = more;
        conn->message_size = size;
    }
    memcpy(conn->message + conn->message_len, bytes, len);
    conn->message_len = need;
    return 0;
}

static void received_something(struct ws_conn *conn)
{
    conn->received = conn_now(conn);
    conn->ping_waits_pong = conn->ping_unsent = false;
}

void conn_receive_pong(struct ws_conn *conn)
{
    received_something(conn);
}

/* A piece of a frame: libwebsockets hands over what came, no more than rx_buffer_size. */
int conn_receive(struct ws_conn *conn, char *bytes, size_t len)
{
    size_t limit = conn->ws->options.conf->limits.message_size;
    bool final = lws_is_final_fragment(conn->wsi), binary = lws_frame_is_binary(conn->wsi);
    char *message;
    int ret;

    if (conn->state != CONN_OPEN)
        return 0;
    received_something(conn);
    if (len > limit - conn->message_len ||
        lws_remaining_packet_payload(conn->wsi) > limit - conn->message_len - len)
        return fail(conn, LWS_CLOSE_STATUS_MESSAGE_TOO_LARGE, "message too large");
    if (!conn->in_message && final)
        return message_deliver(conn, bytes, len, binary);

    if (!conn->in_message) {
        conn->in_message = true;
        conn->begun = conn->received;
        conn_arm(conn);
    }
    if (len && message_append(conn, bytes, len))
        return fail(conn, LWS_CLOSE_STATUS_UNEXPECTED_CONDITION, "out of memory");
    if (!final)
        return 0;

    message = conn->message;
    len = conn->message_len;
    conn->message = NULL;
    message_free(conn);
    ret = message_deliver(conn, message, len, binary);
    free(message);
    return ret;
}

/* From the beginning to the end ---------------------------------------------------------------- */

static void transport_close(void *context, const char *reason)
{
    conn_close(context, LWS_CLOSE_STATUS_POLICY_VIOLATION, reason);
}

/* RFC 7118 5.2.1; a URI has transport=ws for both, and sips or the port tell them apart. */
static const struct flow_transport transport_ws = {"WS", "ws", 80, conn_send, transport_close};
static const struct flow_transport transport_wss = {"WSS", "ws", 443, conn_send, transport_close};

/* A tenth earlier or later for each, so that thousands which came back together after a restart do
 * not ping together for ever. */
static uint64_t ping_interval(struct ws *ws)
{
    uint64_t interval = (uint64_t)ws->options.conf->websocket.ping_interval_s * PER_S;

    ws->jitter = ws->jitter * 1664525U + 1013904223U; /* Numerical Recipes' generator */
    return interval - interval / 10 + (ws->jitter >> 8) % (interval / 5 + 1);
}

int conn_open(struct ws_conn *conn, const char *host)
{
    const struct flow_options options = {
        .transport = conn->tls ? &transport_wss : &transport_ws,
        .conn = conn,
        .peer = &conn->peer.sa,
        .local = &conn->local.sa,
        .host = host,
    };
    int err;

    conn->state = CONN_OPEN;
    conn->opened = conn->received = conn_now(conn);
    conn->ping_interval = ping_interval(conn->ws);
    err = flow_open(conn->ws->options.proxy, &options, conn->opened, &conn->flow);
    if (err) {
        conn_close(conn, CLOSE_TRY_AGAIN_LATER, "too many connections");
        return 0;
    }
    timer_stop(conn->ws->options.timers, &conn->timer);
    conn_arm(conn);
    return 0;
}

/* Nothing is received or sent any more; the peer has a second. */
static void closing(struct ws_conn *conn, const char *reason)
{
    set_reason(conn, reason);
    conn->state = CONN_CLOSING;
    message_free(conn);
    conn->deadline = conn_now(conn) + CLOSE_TIMEOUT_MS;
    arm(conn, conn->deadline);
}

void conn_close(struct ws_conn *conn, unsigned code, const char *reason)
{
    if (conn->state >= CONN_CLOSING)
        return;
    if (conn->state != CONN_OPEN) {
        conn_cut(conn, reason);
        return;
    }
    closing(conn, reason);
    conn->close_code = code;
    arm(conn, conn_now(conn));
}

void conn_closing(struct ws_conn *conn, const char *reason)
{
    if (conn->state == CONN_OPEN)
        closing(conn, reason);
}

void conn_gone(struct ws_conn *conn)
{
    if (conn->state == CONN_GONE)
        return;
    conn->state = CONN_GONE;
    timer_stop(conn->ws->options.timers, &conn->timer);
    if (conn->flow) {
        set_reason(conn, "connection lost");
        flow_close(conn->flow, conn->reason, conn_now(conn));
        conn->flow = NULL;
    }
}

void conn_free(struct ws_conn *conn)
{
    struct ws *ws = conn->ws;

    conn_gone(conn);
    while (conn->queue)
        queue_drop_first(conn);
    message_free(conn);
    *conn->link = conn->next;
    if (conn->next)
        conn->next->link = conn->link;
    ws->count--;
    if (ws->adopting == conn)
        ws->adopting = NULL;
    free(conn);
    atomic_fetch_sub(ws->options.connections, 1);
}

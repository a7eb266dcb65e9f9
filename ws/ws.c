/* One connection from the upgrade request to its end: its limits (F7), pings (F8), and messages out
 * (X2). */
#include "ws/ws.h"

#include <errno.h>
#include <stdlib.h>

#include <openssl/rand.h>

#include "proxy/log.h"
#include "ws/internal.h"
#include "ws/request.h"
#include "ws/utf8.h"

enum { PER_S = 1000, GATHERED_START_SIZE = 4096, CLOSE_PAYLOAD_MAX = 125 };

/* Gathered bytes ------------------------------------------------------------------------------- */

int gathered_room(struct gathered *bytes, size_t len)
{
    size_t need = bytes->len + len, size = bytes->size ? bytes->size : GATHERED_START_SIZE;
    char *more;

    if (need <= bytes->size)
        return 0;
    while (size < need)
        size *= 2;
    more = realloc(bytes->base, size);
    if (!more)
        return -ENOMEM;
    bytes->base = more;
    bytes->size = size;
    return 0;
}

void gathered_add(struct gathered *bytes, const void *more, size_t len)
{
    if (len)
        memcpy(bytes->base + bytes->len, more, len);
    bytes->len += len;
}

/* Sending -------------------------------------------------------------------------------------- */

/* Text where it may be: JavaScript clients get a string then; a body that is no UTF-8 needs a
 * binary message, whatever the client sent itself (RFC 7118 4.2 allows both). */
static int transport_send(void *context, struct str bytes)
{
    struct ws_conn *conn = context;

    if (stream_ending(conn->stream))
        return -EPIPE;
    return frame_send(conn, utf8_valid(bytes) ? OPCODE_TEXT : OPCODE_BINARY, bytes);
}

void conn_close(struct ws_conn *conn, enum close_code code, enum cause cause, const char *reason)
{
    if (stream_ending(conn->stream))
        return;
    conn->close_code = code;
    stream_close(conn->stream, cause, reason);
}

static void transport_close(void *context, enum cause cause)
{
    conn_close(context, CLOSE_POLICY_VIOLATION, cause, NULL);
}

/* RFC 7118 5.2.1; a URI has transport=ws for both, and sips or the port tell them apart. */
static const struct flow_transport transport_ws = {"ws", "WS",           "ws",
                                                   80,   transport_send, transport_close};
static const struct flow_transport transport_wss = {"wss", "WSS",          "ws",
                                                    443,   transport_send, transport_close};

static void ws_farewell(void *context, const char *reason)
{
    struct ws_conn *conn = context;
    char payload[CLOSE_PAYLOAD_MAX] = {(char)(conn->close_code >> 8), (char)conn->close_code};
    size_t len = strnlen(reason, sizeof(payload) - 2);

    if (conn->request || !conn->close_code)
        return;
    memcpy(payload + 2, reason, len);
    stream_websocket_code(conn->stream, conn->close_code, true);
    (void)frame_send(conn, OPCODE_CLOSE, (struct str){payload, 2 + len});
}

/* Limits (F7, F8) ------------------------------------------------------------------------------ */

/* What an open connection waits for, the nearest first. */
enum due { DUE_MESSAGE, DUE_FIRST, DUE_IDLE, DUE_PONG, DUE_PING, DUE_COUNT };

static uint64_t after(uint64_t since, uint64_t span_ms)
{
    return span_ms ? since + span_ms : UINT64_MAX;
}

/* A tenth earlier or later for each, so that thousands which came back together after a restart do
 * not ping together for ever. */
static uint64_t ping_interval(const struct ws_conn *conn, const struct conf *conf)
{
    uint64_t interval = (uint64_t)conf->websocket.ping_interval_s * PER_S;

    return interval - interval / 10 + interval / 5 * conn->ping_jitter / UINT8_MAX;
}

static uint64_t due_at(const struct ws_conn *conn, enum due due)
{
    const struct conf *conf = stream_conf(conn->stream);

    switch (due) {
    case DUE_MESSAGE:
        return conn->begun ? after(conn->begun, (uint64_t)conf->limits.message_timeout_s * PER_S)
                           : UINT64_MAX;
    case DUE_FIRST:
        return conn->had_message
                   ? UINT64_MAX
                   : after(conn->opened, (uint64_t)conf->limits.first_message_timeout_s * PER_S);
    case DUE_IDLE: return after(conn->received, (uint64_t)conf->limits.idle_timeout_s * PER_S);
    case DUE_PONG:
        return conn->ping_waits_pong
                   ? after(conn->pinged, (uint64_t)conf->websocket.pong_timeout_s * PER_S)
                   : UINT64_MAX;
    case DUE_PING:
        return conn->ping_waits_pong ? UINT64_MAX
                                     : after(conn->received, ping_interval(conn, conf));
    case DUE_COUNT: break;
    }
    return UINT64_MAX;
}

static uint64_t ws_deadline(const void *context)
{
    const struct ws_conn *conn = context;
    uint64_t nearest = UINT64_MAX;

    if (conn->request)
        return after(conn->opened,
                     (uint64_t)stream_conf(conn->stream)->limits.upgrade_timeout_s * PER_S);
    for (enum due due = 0; due < DUE_COUNT; due++)
        if (due_at(conn, due) < nearest)
            nearest = due_at(conn, due);
    return nearest;
}

static void upgrade_expire(struct ws_conn *conn)
{
    char name[FLOW_NAME_SIZE], peer[SOCKET_TEXT];

    stream_name(conn->stream, name);
    stream_peer(conn->stream, peer);
    log_event(LOG_INFO, "upgrade refused", LOG_TEXT("flow", str_of(name)),
              LOG_TEXT("peer", str_of(peer)),
              LOG_TEXT("reason", str_of(cause_row(CAUSE_UPGRADE_TIMEOUT)->words)));
    stream_close(conn->stream, CAUSE_UPGRADE_TIMEOUT, NULL);
}

static void ws_expire(void *context, uint64_t now)
{
    struct ws_conn *conn = context;
    enum due due = 0;

    if (conn->request) {
        upgrade_expire(conn);
        return;
    }
    while (due < DUE_COUNT && due_at(conn, due) > now)
        due++;
    switch (due) {
    case DUE_MESSAGE: conn_close(conn, CLOSE_POLICY_VIOLATION, CAUSE_MESSAGE_TIMEOUT, NULL); break;
    case DUE_FIRST:
        conn_close(conn, CLOSE_POLICY_VIOLATION, CAUSE_FIRST_MESSAGE_TIMEOUT, NULL);
        break;
    case DUE_IDLE: conn_close(conn, CLOSE_GOING_AWAY, CAUSE_IDLE, NULL); break;
    case DUE_PONG: conn_close(conn, CLOSE_GOING_AWAY, CAUSE_PING_MISSED, NULL); break;
    case DUE_PING:
        conn->ping_waits_pong = true;
        conn->pinged = now;
        (void)frame_send(conn, OPCODE_PING, (struct str){NULL, 0});
        break;
    case DUE_COUNT: break;
    }
}

/* Life ----------------------------------------------------------------------------------------- */

static int ws_open(void *context, struct stream *stream, void **out)
{
    struct ws_conn *conn = calloc(1, sizeof(*conn));

    if (!conn)
        return -ENOMEM;
    conn->request = malloc(sizeof(*conn->request));
    if (!conn->request) {
        free(conn);
        return -ENOMEM;
    }
    request_start(conn->request);
    conn->ws = context;
    conn->stream = stream;
    conn->opened = stream_now(stream);
    *out = conn;
    return 0;
}

/* The upgrade is answered: a flow. */
static void conn_open(struct ws_conn *conn)
{
    const struct conf *conf = stream_conf(conn->stream);
    const char *host = handshake_host(conf, conn->request);

    free(conn->request);
    conn->request = NULL;
    conn->opened = conn->received = stream_now(conn->stream);
    conn->ws->jitter = conn->ws->jitter * 1664525U + 1013904223U; /* Numerical Recipes' generator */
    conn->ping_jitter = (uint8_t)(conn->ws->jitter >> 24);
    conn->close_code = CLOSE_TRY_AGAIN_LATER;
    if (!stream_flow_open(conn->stream,
                          stream_is_tls(conn->stream) ? &transport_wss : &transport_ws, conn, host))
        conn->close_code = CLOSE_GOING_AWAY; /* what a stop will say */
}

/* Returns what request_parse() does, or it is refused. */
static ssize_t request_receive(struct ws_conn *conn, struct str bytes)
{
    ssize_t taken = request_parse(conn->request, bytes);

    if (taken == -EPROTO)
        handshake_refuse(conn, "400 Bad Request", "This is no HTTP/1.1 request.");
    else if (taken == -E2BIG)
        handshake_refuse(conn, "431 Request Header Fields Too Large",
                         "The request is larger than 16 kB.");
    else if (taken > 0 && handshake_answer(conn, conn->request) == 0)
        conn_open(conn);
    return taken > 0 ? taken : 0;
}

static ssize_t ws_receive(void *context, char *bytes, size_t len)
{
    struct ws_conn *conn = context;
    size_t taken = 0;

    if (conn->request) {
        taken = (size_t)request_receive(conn, (struct str){bytes, len});
        if (conn->request)
            return (ssize_t)taken;
    }
    if (taken < len && !stream_ending(conn->stream))
        frames_receive(conn, bytes + taken, len - taken);
    return (ssize_t)len;
}

static void ws_close(void *context)
{
    struct ws_conn *conn = context;

    frames_free(conn);
    free(conn->request);
    free(conn);
}

int ws_create(struct ws **out)
{
    struct ws *ws = calloc(1, sizeof(*ws));

    if (!ws)
        return -ENOMEM;
    (void)RAND_bytes((unsigned char *)&ws->jitter, sizeof(ws->jitter));
    *out = ws;
    return 0;
}

void ws_destroy(struct ws **ws)
{
    if (!*ws)
        return;
    if ((*ws)->decoder)
        wslay_event_context_free((*ws)->decoder);
    free((*ws)->message.base);
    free((*ws)->out.base);
    free(*ws);
    *ws = NULL;
}

const struct stream_protocol ws_protocol = {
    .alpn = "\x08http/1.1",
    .lost = "closed by client, without a WebSocket close",
    .recognise = request_recognise,
    .open = ws_open,
    .receive = ws_receive,
    .deadline = ws_deadline,
    .expire = ws_expire,
    .farewell = ws_farewell,
    .close = ws_close,
};

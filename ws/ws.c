/* libwebsockets of one worker: its context on the worker's loop, two vhosts without a listening
 * socket (WS and WSS), sockets that are adopted into them, and the callback of all their events.
 *
 * Settings that look odd are there because of libwebsockets 4.1.6, Debian 12's; all are right for
 * 4.3.5 too. */
#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proxy/log.h"
#include "ws/internal.h"

enum {
    RX_BUFFER_SIZE = 2048,  /* of each connection */
    TX_PACKET_SIZE = 65536, /* a longer message is written in two steps */
    SERV_BUF_SIZE = 32768,  /* of each context: what one read takes */
    REQUEST_SIZE = 16384,   /* of a whole upgrade request, cookies and all; freed after it */
    BACKSTOP_S = 5,         /* libwebsockets' own limits, behind ours (connection.c) */
    DESTROY_TURNS = 5,
};

/* No keep-alive by libwebsockets: its timers are a linear list. Ours are a wheel. */
static const lws_retry_bo_t no_keepalive = {0};

static void *allocate(void *ptr, size_t size, const char *what)
{
    (void)what;
    if (size)
        return realloc(ptr, size);
    free(ptr);
    return NULL;
}

/* Much of what libwebsockets calls an error is a client's mistake. */
static void log_line(int level, const char *line)
{
    enum log_level ours = level == LLL_ERR ? LOG_WARNING : LOG_INFO;
    struct str text = str_of(line);

    while (text.len && (text.p[text.len - 1] == '\n' || text.p[text.len - 1] == ' '))
        text.len--;
    log_event(ours, "libwebsockets", LOG_TEXT("reason", text));
}

void ws_init(void)
{
    lws_set_log_level(LLL_ERR | LLL_WARN, log_line);
    lws_set_allocator(allocate);
}

/* Events --------------------------------------------------------------------------------------- */

/* libwebsockets is closing a connection by itself: lost, or a frame that is not RFC 6455. */
static void on_drop(struct ws_conn *conn, struct lws *wsi)
{
    const unsigned char *close = lws_get_close_payload(wsi);
    bool mistake = lws_get_close_length(wsi) >= 2 &&
                   ((unsigned)close[0] << 8 | close[1]) == LWS_CLOSE_STATUS_PROTOCOL_ERR;

    conn_closing(conn, mistake ? "WebSocket protocol error" : "connection lost");
}

static int on_established(struct ws_conn *conn, struct lws *wsi)
{
    return conn_open(conn,
                     conn->tls ? certificates_host(lws_get_ssl(wsi)) : handshake_host(conn, wsi));
}

static int on_connection(struct ws_conn *conn, struct lws *wsi, enum lws_callback_reasons reason,
                         void *in, size_t len)
{
    switch (reason) {
    case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE: return handshake_check(conn, wsi, in);
    case LWS_CALLBACK_FILTER_HTTP_CONNECTION: return handshake_refuse(conn, wsi);
    case LWS_CALLBACK_HTTP:
    case LWS_CALLBACK_RAW_ADOPT: /* the method CONNECT */
    case LWS_CALLBACK_RAW_RX: return -1;
    case LWS_CALLBACK_ESTABLISHED: return on_established(conn, wsi);
    case LWS_CALLBACK_RECEIVE: return conn_receive(conn, in, len);
    case LWS_CALLBACK_RECEIVE_PONG: conn_receive_pong(conn); return 0;
    case LWS_CALLBACK_SERVER_WRITEABLE: return conn_writeable(conn);
    case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE: conn_closing(conn, "closed by client"); return 0;
    case LWS_CALLBACK_WS_SERVER_DROP_PROTOCOL: on_drop(conn, wsi); return 0;
    case LWS_CALLBACK_CLOSED: conn_gone(conn); return 0;
    case LWS_CALLBACK_WSI_DESTROY: conn_free(conn); return 0;
    default: return 0;
    }
}

static int callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                    size_t len)
{
    struct ws_conn *conn;
    struct ws *ws;

    switch (reason) {
    case LWS_CALLBACK_OPENSSL_LOAD_EXTRA_SERVER_VERIFY_CERTS: /* user: the vhost's SSL_CTX */
        ws = lws_context_user(lws_get_context(wsi));
        return certificates_serve(ws->options.certificates, user);
    case LWS_CALLBACK_WSI_CREATE: /* has no opaque data yet */
        ws = lws_context_user(lws_get_context(wsi));
        ws->adopted = true;
        return 0;
    case LWS_CALLBACK_PROTOCOL_INIT: /* these two: not of a connection */
    case LWS_CALLBACK_PROTOCOL_DESTROY: return 0;
    default:
        conn = lws_get_opaque_user_data(wsi);
        return conn ? on_connection(conn, wsi, reason, in, len) : 0;
    }
}

/* Connections ---------------------------------------------------------------------------------- */

static struct ws_conn *conn_create(struct ws *ws, bool tls, const struct sockaddr *peer,
                                   const struct sockaddr *local)
{
    struct ws_conn *conn = calloc(1, sizeof(*conn));

    if (!conn)
        return NULL;
    conn->ws = ws;
    conn->tls = tls;
    memcpy(&conn->peer, peer, socket_len(peer));
    memcpy(&conn->local, local, socket_len(local));
    conn->next = ws->conns;
    conn->link = &ws->conns;
    if (conn->next)
        conn->next->link = &conn->next;
    ws->conns = conn;
    ws->count++;
    return conn;
}

void ws_accept(struct ws *ws, bool tls, int fd, const struct sockaddr *peer,
               const struct sockaddr *local)
{
    lws_adopt_desc_t adopt = {
        .vh = tls ? ws->secure : ws->plain,
        .type = LWS_ADOPT_SOCKET | LWS_ADOPT_HTTP | (tls ? LWS_ADOPT_ALLOW_SSL : 0),
        .fd.sockfd = fd,
    };
    struct ws_conn *conn = NULL;
    struct lws *wsi;

    if (adopt.vh && !ws->closing)
        conn = conn_create(ws, tls, peer, local);
    if (!conn) {
        close(fd);
        atomic_fetch_sub(ws->options.connections, 1);
        return;
    }

    adopt.opaque = conn;
    ws->adopting = conn;
    ws->adopted = false;
    wsi = lws_adopt_descriptor_vhost_via_info(&adopt);
    conn = ws->adopting; /* NULL: it failed and is freed already */
    ws->adopting = NULL;
    if (wsi && conn) {
        conn->wsi = wsi;
        conn_start(conn);
    } else if (conn && !ws->adopted) {
        conn_free(conn); /* else WSI_DESTROY does, now or later; libwebsockets closes the socket */
    }
}

void ws_close(struct ws *ws)
{
    ws->closing = true;
    for (struct ws_conn *conn = ws->conns, *next; conn; conn = next) {
        next = conn->next;
        conn_close(conn, LWS_CLOSE_STATUS_GOINGAWAY, "server is stopping");
    }
}

unsigned ws_count(const struct ws *ws)
{
    return ws->count;
}

/* Beginning and end ---------------------------------------------------------------------------- */

static unsigned request_timeout_s(const struct ws *ws)
{
    const struct conf *conf = ws->options.conf;

    return conf->limits.handshake_timeout_s + conf->limits.upgrade_timeout_s + BACKSTOP_S;
}

static struct lws_vhost *vhost_create(struct ws *ws, const char *name, uint64_t options)
{
    const struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN_SERVER,
        .vhost_name = name,
        .protocols = ws->protocols,
        .options = options,
        .alpn = "http/1.1", /* never HTTP/2 */
        .retry_and_idle_policy = &no_keepalive,
        .timeout_secs_ah_idle = request_timeout_s(ws),
        .user = ws,
    };

    return lws_create_vhost(ws->context, &info);
}

/* libwebsockets 4.3 watches the routes, and closes every connection that it thinks has none: any
 * address that comes or goes on the machine would end all those from behind an IPv4 gateway that
 * came in by an IPv6 socket. It can't be told not to; without the groups it hears of nothing. */
static void netlink_mute(uv_handle_t *handle, void *context)
{
    int domain = 0;
    socklen_t len = sizeof(domain);
    uv_os_fd_t fd;

    (void)context;
    if (uv_handle_get_type(handle) != UV_POLL || uv_fileno(handle, &fd) ||
        getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) || domain != AF_NETLINK)
        return;
    for (int group = RTNLGRP_LINK; group <= RTNLGRP_IPV6_ROUTE; group++)
        (void)setsockopt(fd, SOL_NETLINK, NETLINK_DROP_MEMBERSHIP, &group, sizeof(group));
}

static int context_create(struct ws *ws)
{
    void *loops[] = {ws->options.loop};
    const struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN_SERVER,
        .options = LWS_SERVER_OPTION_LIBUV | LWS_SERVER_OPTION_EXPLICIT_VHOSTS |
                   LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT,
        .foreign_loops = loops,
        .pcontext = &ws->context,
        .user = ws,
        .gid = -1, /* we drop privileges ourselves */
        .uid = -1,
        .pt_serv_buf_size = SERV_BUF_SIZE,
        .max_http_header_data = REQUEST_SIZE,
        .retry_and_idle_policy = &no_keepalive,
        .timeout_secs = request_timeout_s(ws),
    };

    ws->context = lws_create_context(&info);
    if (!ws->context)
        return -EIO;
    uv_walk(ws->options.loop, netlink_mute, NULL);
    ws->plain = vhost_create(ws, "ws", 0);
    if (ws->options.certificates)
        ws->secure = vhost_create(ws, "wss",
                                  LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT |
                                      LWS_SERVER_OPTION_CREATE_VHOST_SSL_CTX);
    return ws->plain && (ws->secure || !ws->options.certificates) ? 0 : -EIO;
}

int ws_create(const struct ws_options *options, struct ws **out)
{
    struct ws *ws = calloc(1, sizeof(*ws));
    int err;

    if (!ws)
        return -ENOMEM;
    ws->options = *options;
    ws->jitter = (uint32_t)uv_hrtime();
    /* The memory for each session is not used. It is there because libwebsockets tells the begin
     * of a close (DROP_PROTOCOL) only to who has some. Bodies in text frames are checked here,
     * not there: a pong between two fragments would confuse it. */
    ws->protocols[0] = (struct lws_protocols){
        .name = "sip",
        .callback = callback,
        .per_session_data_size = 1,
        .rx_buffer_size = RX_BUFFER_SIZE,
        .tx_packet_size = TX_PACKET_SIZE,
    };
    uv_idle_init(options->loop, &ws->reaper);
    ws->reaper.data = ws;

    err = context_create(ws);
    if (err) {
        ws_destroy(&ws);
        return err;
    }
    *out = ws;
    return 0;
}

static void reaper_closed(uv_handle_t *handle)
{
    struct ws *ws = handle->data;

    free(ws->out);
    free(ws);
}

/* libwebsockets takes its context down in steps: its sockets' handles are closed in one turn of the
 * loop, its own ones in the next, and then it wants to be asked again. It does not tell when that
 * is; sooner, it would free handles that are still closing. */
static void reap(uv_idle_t *reaper)
{
    struct ws *ws = reaper->data;

    if (ws->context && ++ws->turns >= DESTROY_TURNS)
        lws_context_destroy(ws->context);
    if (!ws->context)
        uv_close((uv_handle_t *)reaper, reaper_closed);
}

void ws_destroy(struct ws **ws)
{
    struct ws *dying = *ws;

    if (!dying)
        return;
    *ws = NULL;
    uv_idle_start(&dying->reaper, reap);
    if (dying->context)
        lws_context_destroy(dying->context);
}

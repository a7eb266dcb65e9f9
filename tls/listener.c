#include "tls/listener.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <unistd.h>

#include "proxy/log.h"
#include "tls/socket.h"

enum {
    ACCEPTS_PER_WAKE_UP = 64, /* a storm of connections does not hold up the messages */
    REST_MS = 100,            /* out of file descriptors */
    LOG_EVERY_MS = 10000,     /* refused connections: one line for so long */
    KEEPALIVE_IDLE_S = 300,   /* a client that vanished without a word; SIP's own is shorter */
    /* With TCP_USER_TIMEOUT there is one probe: where nothing has come by the next, that is the
     * end (tcp(7); tried on Linux 6.18). So the one has as long as anything else that we send. */
    KEEPALIVE_INTERVAL_S = 30,
    UNACKNOWLEDGED_MS = 30000, /* what we sent and nobody took */
};

struct listener {
    struct listener_options options;
    uv_poll_t poll;
    uv_timer_t rest;
    int fd;
    unsigned handles; /* not yet closed */
    bool closing;
    uint64_t logged_at; /* 0: never */
    unsigned refused;   /* since then */
};

/* Opening -------------------------------------------------------------------------------------- */

static int option_set(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof(value)) ? -errno : 0;
}

/* Accepted sockets inherit these from the listening one (Linux), without a system call each. */
static int options_inherited(int fd)
{
    int err = option_set(fd, IPPROTO_TCP, TCP_NODELAY, 1);

    if (!err)
        err = option_set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS);
    if (!err)
        err = option_set(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S);
    if (!err)
        err = option_set(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S);
    if (!err)
        err = option_set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    return err;
}

static int socket_bind(const struct sockaddr *address, bool both_families, bool share, int *out)
{
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int err = fd < 0 ? -errno : 0;

    if (err)
        return err;
    err = option_set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (!err && share)
        err = option_set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (!err && address->sa_family == AF_INET6)
        err = option_set(fd, IPPROTO_IPV6, IPV6_V6ONLY, !both_families);
    if (!err)
        err = options_inherited(fd);
    if (!err && bind(fd, address, socket_len(address)))
        err = -errno;
    if (err)
        close(fd);
    else
        *out = fd;
    return err;
}

/* PORT alone is both families, and IPv4 where the system has no IPv6. */
static int address_bind(const struct conf_listener *conf, bool share, int *out)
{
    int err = socket_bind(&conf->address.sa, conf->any, share, out);

    if (conf->any && conf->address.sa.sa_family == AF_INET6 &&
        (err == -EAFNOSUPPORT || err == -EADDRNOTAVAIL || err == -EPROTONOSUPPORT)) {
        struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = conf->address.in6.sin6_port};

        err = socket_bind((const struct sockaddr *)&any, false, share, out);
    }
    return err;
}

int listener_probe(const struct conf_listener *conf)
{
    int fd, err = address_bind(conf, false, &fd);

    if (!err)
        close(fd);
    return err;
}

/* Accepting ------------------------------------------------------------------------------------ */

static void readable(uv_poll_t *poll, int status, int events);

static bool poll_start(struct listener *listener)
{
    return uv_poll_start(&listener->poll, UV_READABLE, readable) == 0;
}

static void rested(uv_timer_t *timer)
{
    struct listener *listener = timer->data;

    if (!poll_start(listener))
        uv_timer_start(timer, rested, REST_MS, 0);
}

/* One line for a while, however many there are. */
static void refuse_log(struct listener *listener, const char *what, const struct sockaddr *peer)
{
    uint64_t now = uv_now(listener->options.loop);
    char text[SOCKET_TEXT] = "";

    listener->refused++;
    if (listener->logged_at && now - listener->logged_at < LOG_EVERY_MS)
        return;
    if (peer)
        socket_text(peer, text);
    log_event(LOG_WARNING, what, LOG_TEXT("peer", str_of(text)),
              LOG_NUMBER("limit", listener->options.connections_max),
              LOG_NUMBER("times", listener->refused));
    listener->logged_at = now ? now : 1;
    listener->refused = 0;
}

static void connection_take(struct listener *listener, int fd, union conf_sockaddr *peer)
{
    const struct listener_options *options = &listener->options;
    union conf_sockaddr local;
    socklen_t len = sizeof(local);

    socket_unmap(peer);
    if (getsockname(fd, &local.sa, &len)) {
        close(fd);
        return;
    }
    socket_unmap(&local);
    if (atomic_fetch_add(options->connections, 1) >= options->connections_max) {
        atomic_fetch_sub(options->connections, 1);
        close(fd);
        if (options->refused)
            options->refused(options->context, options->conf, CAUSE_CONNECTION_LIMIT, &peer->sa,
                             &local.sa);
        refuse_log(listener, "connection refused: limits.connections reached", &peer->sa);
        return;
    }
    options->accepted(options->context, options->conf, fd, &peer->sa, &local.sa);
}

static void accept_failed(struct listener *listener, int error)
{
    switch (error) {
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM: break;
    default: return; /* EAGAIN: no more. Else that connection's own end: the next may be fine */
    }
    refuse_log(listener,
               error == EMFILE || error == ENFILE ? "accept rests: out of file descriptors"
                                                  : "accept rests: out of memory",
               NULL);
    uv_poll_stop(&listener->poll);
    uv_timer_start(&listener->rest, rested, REST_MS, 0);
}

static void accept_some(struct listener *listener, int most)
{
    for (int i = 0; i < most && !listener->closing; i++) {
        union conf_sockaddr peer;
        socklen_t len = sizeof(peer);
        int fd = accept4(listener->fd, &peer.sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd < 0) {
            accept_failed(listener, errno);
            return;
        }
        connection_take(listener, fd, &peer);
    }
}

static void readable(uv_poll_t *poll, int status, int events)
{
    struct listener *listener = poll->data;

    (void)events;
    if (status < 0) /* libuv has stopped polling; a listening socket has no lasting error */
        uv_timer_start(&listener->rest, rested, REST_MS, 0);
    else
        accept_some(listener, ACCEPTS_PER_WAKE_UP);
}

/* Life ----------------------------------------------------------------------------------------- */

static void handle_closed(uv_handle_t *handle)
{
    struct listener *listener = handle->data;

    if (--listener->handles == 0)
        free(listener);
}

int listener_open(const struct listener_options *options, struct listener **out)
{
    struct listener *listener = calloc(1, sizeof(*listener));
    int err;

    if (!listener)
        return -ENOMEM;
    listener->options = *options;
    err = address_bind(options->conf, true, &listener->fd);
    if (err) {
        free(listener);
        return err;
    }
    if (listen(listener->fd, SOMAXCONN))
        err = -errno;
    if (!err)
        err = uv_poll_init(options->loop, &listener->poll, listener->fd);
    if (err) {
        close(listener->fd);
        free(listener);
        return err;
    }
    uv_timer_init(options->loop, &listener->rest);
    listener->poll.data = listener->rest.data = listener;
    listener->handles = 2;
    *out = listener;
    return 0;
}

int listener_start(struct listener *listener)
{
    return poll_start(listener) ? 0 : -ENOMEM;
}

void listener_conf_set(struct listener *listener, const struct conf_listener *conf,
                       unsigned connections_max)
{
    listener->options.conf = conf;
    listener->options.connections_max = connections_max;
}

void listener_retire(struct listener **listener)
{
    if (*listener)
        accept_some(*listener, SOMAXCONN);
    listener_close(listener);
}

uint16_t listener_port(const struct listener *listener)
{
    union conf_sockaddr local = {0};
    socklen_t len = sizeof(local);

    if (getsockname(listener->fd, &local.sa, &len))
        return 0;
    return ntohs(local.sa.sa_family == AF_INET6 ? local.in6.sin6_port : local.in.sin_port);
}

void listener_close(struct listener **listener)
{
    struct listener *closing = *listener;

    if (!closing)
        return;
    closing->closing = true;
    uv_close((uv_handle_t *)&closing->poll, handle_closed);
    uv_close((uv_handle_t *)&closing->rest, handle_closed);
    close(closing->fd);
    *listener = NULL;
}

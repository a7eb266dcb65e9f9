#include "proxy/core_listener.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    ACCEPTS_PER_WAKE_UP = 16,
    REST_MS = 100, /* out of file descriptors */
};

struct core_listener {
    struct core_listener_options options;
    uv_poll_t poll;
    int fd;
    struct timer rest;
};

static void poll_events(uv_poll_t *poll, int status, int events);

static void rested(struct timer *timer, uint64_t now)
{
    struct core_listener *listener =
        (struct core_listener *)(void *)((char *)timer - offsetof(struct core_listener, rest));

    (void)now;
    uv_poll_start(&listener->poll, UV_READABLE, poll_events);
}

static void rest(struct core_listener *listener)
{
    uv_poll_stop(&listener->poll);
    timer_start(listener->options.timers, &listener->rest, uv_now(listener->options.loop) + REST_MS,
                rested);
}

static bool is_short_of(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

static void poll_events(uv_poll_t *poll, int status, int events)
{
    struct core_listener *listener = poll->data;

    (void)events;
    if (status < 0) { /* libuv has stopped polling; a listening socket has no lasting error */
        rest(listener);
        return;
    }
    for (int i = 0; i < ACCEPTS_PER_WAKE_UP; i++) {
        struct core_addr peer = {.kind = CORE_TCP};
        socklen_t len = sizeof(peer.in6);
        int fd = accept4(listener->fd, &peer.sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd < 0) { /* no more, or that connection's own end: the next one comes next turn */
            if (is_short_of(errno))
                rest(listener);
            return;
        }
        listener->options.accepted(listener->options.context, fd, &peer);
    }
}

static int socket_open(const struct core_addr *local, int *out)
{
    const int on = 1;
    bool six = local->sa.sa_family == AF_INET6;
    int fd = socket(local->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int err = fd < 0 ? -errno : 0;

    if (err)
        return err;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) ||
        (six && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on))) ||
        bind(fd, &local->sa, six ? sizeof(local->in6) : sizeof(local->in)) ||
        listen(fd, SOMAXCONN)) {
        err = -errno;
        close(fd);
        return err;
    }
    *out = fd;
    return 0;
}

int core_listener_open(const struct core_listener_options *options, struct core_listener **out)
{
    struct core_listener *listener = calloc(1, sizeof(*listener));
    int err;

    if (!listener)
        return -ENOMEM;
    listener->options = *options;
    err = socket_open(options->local, &listener->fd);
    if (err) {
        free(listener);
        return err;
    }
    err = uv_poll_init(options->loop, &listener->poll, listener->fd);
    if (err) {
        close(listener->fd);
        free(listener);
        return err;
    }
    listener->poll.data = listener;
    uv_poll_start(&listener->poll, UV_READABLE, poll_events);
    *out = listener;
    return 0;
}

static void closed(uv_handle_t *handle)
{
    free(handle->data);
}

void core_listener_close(struct core_listener **listener)
{
    struct core_listener *closing = *listener;

    if (!closing)
        return;
    timer_stop(closing->options.timers, &closing->rest);
    uv_close((uv_handle_t *)&closing->poll, closed);
    close(closing->fd);
    *listener = NULL;
}

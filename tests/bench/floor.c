/* The floor: one thread that answers SIP over TLS, WSS, TCP or WS by itself and forwards nothing.
 * What OpenSSL, the sockets and a minimal reading cost at least; and, without TLS, the backend
 * behind a load balancer.
 *
 * floor (tls|wss) ADDRESS PORT CHAIN KEY, or floor (tcp|ws) ADDRESS PORT */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "wire.h"

enum { EVENTS_MAX = 256, MESSAGE_MAX = 65536 };

static volatile sig_atomic_t stopped;

static void stop(int signal)
{
    (void)signal;
    stopped = 1;
}

static void answer(struct wire *wire, const struct sip *request)
{
    static char text[MESSAGE_MAX];
    struct out out = {text, 0, sizeof(text), false};

    if (request->status || text_is(request->method, "ACK"))
        return;
    sip_serve(&out, request, NULL, NULL);
    wire_send(wire, out.p, out.len);
}

static int listen_on(const char *address, const char *port)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)strtoul(port, NULL, 10))};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;

    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (inet_pton(AF_INET, address, &at.sin_addr) != 1 ||
        bind(fd, (struct sockaddr *)&at, sizeof(at)) || listen(fd, 65535)) {
        perror("floor: listen");
        exit(1);
    }
    return fd;
}

static void accept_all(const struct wire_kind *kind, int listener)
{
    int fd;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct wire *wire = calloc(1, sizeof(*wire));
        if (!wire)
            exit(1);
        wire_accept(wire, kind, fd);
        if (wire->state == WIRE_DEAD) {
            wire_drop(wire, true);
            free(wire);
        }
    }
}

static void serve(const struct wire_kind *kind, int listener)
{
    struct epoll_event events[EVENTS_MAX], event = {.events = EPOLLIN, .data.ptr = NULL};

    (void)epoll_ctl(kind->epoll, EPOLL_CTL_ADD, listener, &event);
    while (!stopped) {
        int count = epoll_wait(kind->epoll, events, EVENTS_MAX, -1);
        for (int i = 0; i < count; i++) {
            struct wire *wire = events[i].data.ptr;
            if (!wire) {
                accept_all(kind, listener);
                continue;
            }
            wire_ready(wire, events[i].events);
            if (wire->state == WIRE_DEAD) {
                wire_drop(wire, true);
                free(wire);
            }
        }
    }
}

int main(int argc, char **argv)
{
    struct wire_kind kind = {.message = answer};
    struct rlimit files;
    bool secure;

    if (argc != 4 && argc != 6) {
        fprintf(stderr,
                "usage: floor (tls|wss) ADDRESS PORT CHAIN KEY, floor (tcp|ws) ADDRESS PORT\n");
        return 2;
    }
    secure = strcmp(argv[1], "tls") == 0 || strcmp(argv[1], "wss") == 0;
    kind.websocket = argv[1][0] == 'w';
    kind.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (secure) {
        kind.tls = argc == 6 ? wire_tls(false, argv[4], argv[5]) : NULL;
        if (!kind.tls) {
            fprintf(stderr, "floor: no certificate\n");
            return 1;
        }
    }
    (void)signal(SIGTERM, stop);
    (void)signal(SIGINT, stop);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &files);
    serve(&kind, listen_on(argv[2], argv[3]));
    SSL_CTX_free(kind.tls);
    return 0;
}

/* Listeners: accepted connections of one worker, for every kind (tls, wss, tls+wss, tcp, ...).
 *
 * Each worker has its own socket on each port (SO_REUSEPORT). Accepted sockets are non-blocking,
 * close-on-exec, with TCP_NODELAY, TCP_USER_TIMEOUT and keepalive. Out of file descriptors or
 * memory, a listener rests for a moment and clients wait in the backlog.
 *
 * Ownership: listener_open() to listener_close(); the loop must run once more after close.
 * Threads:   one worker's, but for the counter of connections, which is shared (atomic). */
#pragma once

#include <stdatomic.h>

#include <uv.h>

#include "conf/conf.h"
#include "proxy/cause.h"

struct listener;

struct listener_options {
    uv_loop_t *loop;
    const struct conf_listener *conf;
    /* Connections open in the process and their maximum: what is over it is closed at once and
     * logged. The accepted() side gives its place back with atomic_fetch_sub() when a connection
     * ends. */
    atomic_uint *connections;
    unsigned connections_max;
    /* `fd` is the callee's. Addresses are borrowed; IPv4 is AF_INET even on an IPv6 socket. */
    void (*accepted)(void *context, const struct conf_listener *conf, int fd,
                     const struct sockaddr *peer, const struct sockaddr *local);
    /* One was over the maximum. NULL: not told. */
    void (*refused)(void *context, const struct conf_listener *conf, enum cause cause,
                    const struct sockaddr *peer, const struct sockaddr *local);
    void *context;
};

/* Whether the address can be had by one program alone: with SO_REUSEPORT a second sipward of the
 * same user would be let in without a word. For the main thread, before the workers listen.
 * 0 or what listener_open() would return. */
int listener_probe(const struct conf_listener *conf);
/* It listens, and accepts nothing yet. -EADDRINUSE, -EACCES (port below 1024), -EADDRNOTAVAIL, ...
 * as the system says it. */
int listener_open(const struct listener_options *options, struct listener **out);
int listener_start(struct listener *listener); /* accept what comes from now on. -ENOMEM */
uint16_t listener_port(const struct listener *listener); /* bound: port 0 becomes a free one */
/* What it accepts from now on is for this one, of the same address. */
void listener_conf_set(struct listener *listener, const struct conf_listener *conf,
                       unsigned connections_max);
/* Accept those that are connected and wait, and close. A NULL *listener is fine. */
void listener_retire(struct listener **listener);
void listener_close(struct listener **listener); /* a NULL *listener is fine */

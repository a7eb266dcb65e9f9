/* SIP over WebSocket (RFC 7118): connections of one worker, by libwebsockets on adopted sockets.
 *
 * Upgrade requests are judged here (F5). Origin: a list, if there is one, binds who sends the
 * field, as browsers always do; other clients, which send none, are not asked for it. Messages go
 * out as text where they are UTF-8, else binary.
 *
 * Ownership: a connection belongs to libwebsockets from ws_accept() until it is closed and its flow
 *            told. `certificates` is borrowed until ws_destroy() is through.
 * Threads:   one worker's; ws_create() of several workers one after another (it writes global
 *            tables of libwebsockets), before any of them serves.
 * Units:     bytes, milliseconds of the loop clock. */
#pragma once

#include <stdatomic.h>

#include <uv.h>

#include "proxy/proxy.h"
#include "tls/certificate.h"

struct ws;

struct ws_options {
    uv_loop_t *loop;
    struct proxy *proxy;
    struct timers *timers;
    void (*timers_changed)(void *context);
    void *context;
    const struct conf *conf;
    const struct certificates *certificates; /* NULL: no WSS listener */
    atomic_uint *connections;                /* one is given back for each connection that ends */
};

void ws_init(void); /* once, before the threads: libwebsockets' log and allocator */
int ws_create(const struct ws_options *options, struct ws **out); /* -ENOMEM, -EIO */
/* Take an accepted socket over: closed on any error. tls false: plain WS. */
void ws_accept(struct ws *ws, bool tls, int fd, const struct sockaddr *peer,
               const struct sockaddr *local);
/* Close all, properly (1001). ws_count() is 0 when the last is gone, after some more turns of the
 * loop; a peer that does not answer is cut after a second. */
void ws_close(struct ws *ws);
unsigned ws_count(const struct ws *ws);
/* ws_count() must be 0. The loop must run until its handles are closed: some turns. */
void ws_destroy(struct ws **ws);

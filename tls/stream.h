/* Connections of one worker, over TLS and over plain TCP: SIP, or a protocol that the wiring adds.
 *
 * Own OpenSSL code on uv_poll_t: SSL_set_fd, read ahead, buffers released while idle; a connection
 * without a partial message holds no buffer. What the bytes are is the protocol's (protocol.h).
 * The process must ignore SIGPIPE.
 *
 * Ownership: a connection owns itself from streams_accept() until it is closed and its flow told.
 * Threads:   one worker's.
 * Units:     bytes, milliseconds of the loop clock (uv_now()). */
#pragma once

#include <stdatomic.h>

#include <uv.h>

#include "proxy/proxy.h"
#include "tls/certificate.h"
#include "tls/counters.h"
#include "tls/protocol.h"

struct streams;

struct streams_options {
    uv_loop_t *loop;
    struct proxy *proxy;
    struct timers *timers; /* the worker's wheel; whoever owns it calls timers_run() */
    void (*timers_changed)(void *context); /* a timer was started; NULL: not told */
    void *context;
    const struct conf *conf;
    struct certificates *certificates;       /* a reference is taken; NULL: no TLS listener */
    const struct stream_protocol *websocket; /* NULL: no listener of it */
    void *websocket_context;
    atomic_uint *connections; /* one is given back for each connection that ends */
};

int streams_create(const struct streams_options *options, struct streams **out); /* -ENOMEM */
/* Make room for what a configuration asks for, ahead of streams_conf_set(). -ENOMEM. */
int streams_conf_prepare(struct streams *streams, const struct conf *conf);
/* For all that comes; a connection that is there keeps what it has agreed on. */
void streams_conf_set(struct streams *streams, const struct conf *conf);
void streams_certificates_set(struct streams *streams, struct certificates *certificates);
/* Take a socket over that this listener accepted: closed on any error. */
void streams_accept(struct streams *streams, const struct conf_listener *listener, int fd,
                    const struct sockaddr *peer, const struct sockaddr *local);
/* Close all, properly (the protocol's last words, close_notify). streams_count() is 0 when the last
 * is gone, after some more turns of the loop; a peer that does not take it is cut after a second.
 * Not from inside a call of proxy/. */
void streams_close(struct streams *streams);
unsigned streams_count(const struct streams *streams);
/* A listener closed a connection at once: counted. */
void streams_refused(struct streams *streams, enum cause cause);
const struct stream_counters *streams_counters(const struct streams *streams);
void streams_destroy(struct streams **streams); /* count must be 0; the loop must run once more */

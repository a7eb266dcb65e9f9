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
#include "tls/facts.h"
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
/* Also for the connections that are there. */
void streams_conf_set(struct streams *streams, const struct conf *conf);
void streams_certificates_set(struct streams *streams, struct certificates *certificates);
/* Take a socket over that this listener accepted: closed on any error. */
void streams_accept(struct streams *streams, const struct conf_listener *listener, int fd,
                    const struct sockaddr *peer, const struct sockaddr *local);
/* Close all, properly (the protocol's last words, close_notify). streams_count() is 0 when the last
 * is gone, after some more turns of the loop; a peer that does not take it is cut after a second.
 * Not from inside a call of proxy/. */
void streams_close(struct streams *streams);
/* Close them one by one, in random order over spread_ms, properly; one whose flow is busy when it
 * is no longer. A look closes those whose time has come: to be called now and then. */
void streams_drain(struct streams *streams, unsigned spread_ms);
void streams_drain_look(struct streams *streams);
unsigned streams_count(const struct streams *streams);

/* Connections for people who ask: open ones, those that were flows and ended, and those that ended
 * before they got so far. The newest first, by their numbers or their ends. */
enum streams_list { STREAMS_OPEN, STREAMS_CLOSED, STREAMS_FAILED };

enum { STREAMS_SLICE = 32, STREAMS_REMEMBERED = 1000 /* of each list of ended ones */ };

struct streams_question {
    enum streams_list list;
    uint64_t before; /* this one; 0: from the first on */
    unsigned max;    /* at most STREAMS_SLICE */
    struct facts_filter filter;
};

struct streams_slice {
    struct facts *found[STREAMS_SLICE]; /* of whoever asked */
    unsigned count;
    uint64_t next; /* `before` for what follows; 0: that was all */
};

/* Some of them: a bounded piece of work, however many there are. */
void streams_slice(struct streams *streams, const struct streams_question *question,
                   struct streams_slice *out);
/* The one with that number, open or not any more. NULL: not known, or no memory. */
struct facts *streams_find(struct streams *streams, uint64_t number);
/* A connection was closed at once: counted, and remembered. */
void streams_refused(struct streams *streams, const struct conf_listener *listener,
                     enum cause cause, const struct sockaddr *peer, const struct sockaddr *local);
const struct stream_counters *streams_counters(const struct streams *streams);
void streams_destroy(struct streams **streams); /* count must be 0; the loop must run once more */

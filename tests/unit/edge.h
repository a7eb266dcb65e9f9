/* A proxy without sockets for unit tests: messages go in as text, and what it sends is kept.
 *
 * The clock is edge.now; edge_wait() lets time pass and fires what is due on the way. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proxy/message.h"
#include "proxy/proxy.h"
#include "proxy/value.h"

enum { EDGE_SENT_MAX = 256, EDGE_CLIENTS = 4 };

/* Above 0 while the harness itself is at work inside of a call to the proxy: its allocations are
 * not the proxy's. */
extern unsigned edge_inside;

/* Messages that one peer of the proxy was sent. */
struct inbox {
    char *messages[EDGE_SENT_MAX]; /* with a NUL behind the bytes */
    size_t lengths[EDGE_SENT_MAX];
    uint64_t times[EDGE_SENT_MAX];
    struct core_addr to[EDGE_SENT_MAX]; /* core side */
    unsigned count;
    bool closed;
};

struct client {
    struct edge *edge;
    struct flow *flow;
    struct inbox inbox;
    bool broken; /* send() fails */
};

struct edge {
    struct conf conf;
    struct core_view view; /* changed by proxy_view_set(), or edge_start() */
    struct health health;
    struct timers *timers;
    struct proxy *proxy;
    uint64_t now;
    uint8_t token_key; /* its first byte */
    uint32_t instance;
    struct inbox core;
    struct client clients[EDGE_CLIENTS];
    struct core_addr pbx; /* where core messages come from */
    int tcp_error;        /* what sending to the core by TCP answers; 0: it is sent */
    unsigned dead;        /* the core addresses 10.0.0.N with this bit N can't be sent to */
    bool probes;          /* from the next edge_start() on */
};

void edge_setup(struct edge *edge,
                bool contact_path); /* one backend 10.0.0.5:5060, core 10.0.0.2 */
/* `count` backends instead, by UDP: 10.0.0.5:5060, .6, ..., in that order of priority; and a new
 * proxy: before there are clients. */
void edge_backends(struct edge *edge, unsigned count);
struct core_addr edge_backend(unsigned index);
void edge_start(struct edge *edge);    /* setup calls it; again after conf changes */
void edge_teardown(struct edge *edge); /* every table must be empty or be emptied */
/* NULL: the proxy has no memory for it. */
struct client *edge_client(struct edge *edge, unsigned index, const char *transport);
void edge_hang_up(struct client *client);
void edge_wait(struct edge *edge, uint64_t ms);

/* One whole message, headers separated by \n, completed with CRLFs, and Content-Length if there is
 * none. Returns what the transport is told (0: fine). */
int edge_from_client(struct client *client, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void edge_from_core(struct edge *edge, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The newest message of an inbox, "" if there is none; and how many there are since the last look.
 */
const char *inbox_last(const struct inbox *inbox);
unsigned inbox_take(struct inbox *inbox); /* count, then forget them */
/* Value of the nth (from 0) header of a message, into a static buffer; "" if there is none. */
const char *header_of(const char *message, const char *name, unsigned nth);
/* First line; a static buffer. */
const char *start_line(const char *message);
/* A response to a request that was sent out: its Vias, From, To (with `tag` unless it has one),
 * Call-ID, CSeq and Record-Routes, then `more` header lines, into a static buffer. */
const char *response_to(const char *request, const char *status_line, const char *tag,
                        const char *more);
/* Text between two marks, into one of some static buffers. */
const char *between(const char *text, const char *from, const char *to);

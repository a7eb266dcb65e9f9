/* The SIP proxy of one worker: bytes come in, are framed, checked, sent where they belong.
 *
 * SIP has no sockets and no clock: who calls gives `now`; answers go out through the flow's
 * transport and options.core_send. One request, top to bottom, is in forward.c.
 *
 * Ownership: `bytes` are borrowed during a call and may be changed in place (unfolded).
 * Threads:   one worker's, no locks. The configuration is that of the view.
 * Units:     milliseconds of the loop clock. */
#pragma once

#include <sys/types.h>

#include "conf/conf.h"
#include "proxy/backends.h"
#include "proxy/core.h"
#include "proxy/counters.h"
#include "proxy/flow.h"
#include "proxy/timer.h"

struct proxy_options {
    const struct core_view *core; /* the first one, and the configuration; see proxy_view_set() */
    struct health *health;        /* of all workers; borrowed */
    bool probes;                  /* this worker's proxy sends them, for all (B2) */
    uint64_t now;
    uint8_t worker;
    struct timers *timers;
    const uint8_t
        *run_key; /* 32 random bytes, the same for all workers: signs tokens where the
                     file has no flow_token_keys, and verifies them in any case. Copied. */
    uint32_t
        instance; /* random, the same for all workers: tells this run's flows from older ones */
    int (*core_send)(void *context, const struct core_addr *to, struct str bytes);
    /* A flow is gone that registered at CORE_EMBEDDED, which has no other way to know. NULL: there
     * is no such core. */
    void (*flow_gone)(void *context, struct str token);
    void *context;
};

struct proxy;

int proxy_create(const struct proxy_options *options, struct proxy **out);
void proxy_destroy(struct proxy **proxy); /* every flow must be closed before */
/* The core side has changed, or the configuration, which comes with it. Not from inside another
 * call. */
void proxy_view_set(struct proxy *proxy, const struct core_view *view);
/* Make what another configuration asks for, ahead of the view that brings it, so that nothing of it
 * can fail then; what was made for one that never came is forgotten. -ENOMEM. */
int proxy_conf_prepare(struct proxy *proxy, const struct conf *conf);

/* Bytes of a stream (TLS, TCP), from the beginning of what was not yet taken. Returns how many were
 * taken: drop those, keep the rest, and call again with more. -EPROTO, or -EMSGSIZE for a message
 * that is too large: framing is lost; what could be answered was: close the connection (F3, F6).
 * `scanned` is the connection's cursor: 0 at start,
 * then left alone. */
ssize_t proxy_receive_stream(struct flow *flow, char *bytes, size_t len, size_t *scanned,
                             uint64_t now);
/* One whole WebSocket message (F4). -EMSGSIZE: too large, close with 1009. */
int proxy_receive_message(struct flow *flow, char *bytes, size_t len, uint64_t now);
/* The transport did not even receive all of one (F6): to be counted. */
void proxy_oversize(struct flow *flow);
/* One datagram or, by TCP, one framed message of the core side; or what the embedded registrar
 * sends. */
void proxy_receive_core(struct proxy *proxy, const struct core_addr *from, char *bytes, size_t len,
                        uint64_t now);

/* A connection to a core address was lost, or could not be made (not `connected`); or a UDP one is
 * not there, as ICMP says: requests that wait for a response by it are answered from the next
 * timers_run(), or go another way (T7, B3), and are not left to their timers. */
void proxy_core_lost(struct proxy *proxy, const struct core_addr *to, bool connected, int err,
                     uint64_t now);
/* Did we send this request there, of which the beginning is enough, and wait for its response? What
 * ICMP quotes may be forged, but for who has seen the branch. */
bool proxy_core_waits(const struct proxy *proxy, const struct core_addr *to, struct str quoted);
/* Is it the address of a backend, whatever the port and transport (R8)? */
bool proxy_core_known(const struct proxy *proxy, const struct core_addr *from);

/* Stop taking what is new: requests outside of dialogs get 503 with Retry-After. What is under way
 * and what is in a dialog goes on. spread_ms: in that time flows that aren't busy will be closed.
 */
void proxy_drain(struct proxy *proxy, unsigned spread_ms, uint64_t now);
/* Requests that still wait for their final response: what a stop gives some time. */
size_t proxy_unanswered(const struct proxy *proxy);

/* Read by the worker itself. */
const struct proxy_counters *proxy_counters(const struct proxy *proxy);
const struct retransmissions *proxy_retransmissions(const struct proxy *proxy);
uint64_t proxy_given_up(const struct proxy *proxy); /* transactions, before their time (X3) */

/* How much there is at this moment. */
struct proxy_sizes {
    uint64_t flows;
    uint64_t requests;     /* on their way, or kept for retransmissions of theirs */
    uint64_t transactions; /* those too that only wait for retransmissions */
    uint64_t dialogs;      /* calls that are answered, by flows: one between two clients is two */
};
struct proxy_sizes proxy_sizes(const struct proxy *proxy);

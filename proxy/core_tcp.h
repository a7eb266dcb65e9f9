/* The TCP connections of one worker with the backends: those it opens, one to an address, and those
 * that it accepts on the core address, which all workers listen on (SO_REUSEPORT).
 *
 * A connection is opened by the first message for its address, and kept. Messages are framed by
 * Content-Length (F1); what can't be framed ends its connection. What a turn of the loop sends
 * goes out by one sendmsg(2) for each connection before the loop waits.
 *
 * A request that can't be delivered is told by `lost`. A response goes back on the connection that
 * its request came on, or, if that is gone, once more by one to the address that the request's Via
 * named (RFC 3261 18.2.2).
 *
 * Ownership: core_tcp_open() to core_tcp_close(); the loop must run once more after close.
 * Threads:   one loop's.
 * Errors:    0, or a negative errno value. */
#pragma once

#include <uv.h>

#include "proxy/core.h"
#include "proxy/timer.h"

struct core_tcp;

enum { CORE_TCP_ACCEPTED_MAX = 256 }; /* connections that backends opened; a PBX has one or two */

struct core_tcp_options {
    uv_loop_t *loop;
    struct timers *timers; /* of that loop; borrowed */
    uint8_t worker;        /* goes into the addresses that messages come from */
    size_t message_max;
    /* May this address connect (R8)? */
    bool (*known)(void *context, const struct core_addr *from);
    /* One whole message. The bytes may be changed. It may send, it must not close. */
    void (*received)(void *context, const struct core_addr *from, char *bytes, size_t len);
    /* The connection to an address is lost, or could not be made (not `connected`): what was sent
     * there and has no answer gets none by it. It may send, by a new connection. Never called from
     * inside core_tcp_send(). */
    void (*lost)(void *context, const struct core_addr *to, bool connected, int err);
    void *context;
};

/* Counted events; read by the loop's thread. */
struct core_tcp_counters {
    uint64_t received, sent; /* messages */
    uint64_t opened, accepted;
    uint64_t refused;      /* strangers, and more than CORE_TCP_ACCEPTED_MAX */
    uint64_t failed;       /* could not be made, or lost */
    uint64_t send_dropped; /* messages for which there was no room, or no connection any more */
};

/* -ENOMEM. */
int core_tcp_open(const struct core_tcp_options *options, struct core_tcp **out);
/* A family of addresses comes into use: this one is listened on; connections are opened from it, as
 * PBXs tell peers by it, and any port. Once for each family.
 * -EADDRINUSE, -EADDRNOTAVAIL, -EACCES, ... as the system says it. */
int core_tcp_local_set(struct core_tcp *tcp, const struct core_addr *local);
/* Queued until the end of this turn, or until the connection is there. -ENOBUFS: too much waits for
 * that connection. -EHOSTUNREACH: it could not be made a moment ago, and is not tried again yet.
 * -ENOMEM, -EMFILE, ... */
int core_tcp_send(struct core_tcp *tcp, const struct core_addr *to, struct str bytes);
int core_tcp_message_max_set(struct core_tcp *tcp, size_t message_max); /* -ENOMEM: it stays */
const struct core_tcp_counters *core_tcp_counters(const struct core_tcp *tcp);
void core_tcp_close(struct core_tcp **tcp); /* what the sockets take is sent; a NULL *tcp is fine */

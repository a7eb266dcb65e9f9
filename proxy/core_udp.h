/* A UDP socket of the core side: one for each worker and address family, all on the one address
 * that the PBX sees (SO_REUSEPORT).
 *
 * What a turn of the loop sends goes out by one sendmmsg(2) before the loop waits; what has come is
 * read by recvmmsg(2). Datagrams may be fragmented: a WebRTC INVITE has 6 kB.
 *
 * What the network says it could not deliver (ICMP) is told: it comes to the socket that the kernel
 * picks for that address, whichever of them had sent.
 *
 * Ownership: core_udp_open() to core_udp_close(); the loop must run once more after close.
 * Threads:   one loop's.
 * Errors:    0, or a negative errno value. */
#pragma once

#include <uv.h>

#include "proxy/core.h"

struct core_udp;

struct core_udp_options {
    uv_loop_t *loop;
    const struct core_addr *local; /* copied */
    /* One datagram. The bytes may be changed. It may send, it must not close the socket. */
    void (*received)(void *context, const struct core_addr *from, char *bytes, size_t len);
    /* Nobody listens at an address, or there is no way to it. -ECONNREFUSED, -EHOSTUNREACH, ...
     * `quoted`: the beginning of the datagram that ICMP has come for, if it was ICMP, which anyone
     * can forge who can't know that; p NULL: the system itself says so. It may send. Never called
     * from inside core_udp_send(). */
    void (*refused)(void *context, const struct core_addr *to, int err, struct str quoted);
    void *context;
};

/* Counted events; read by the loop's thread. */
struct core_udp_counters {
    uint64_t received, sent;
    uint64_t refused;      /* ICMP said that nobody listens, or that there is no way */
    uint64_t send_dropped; /* the socket's and our queue are full, or no way there */
};

/* -EADDRINUSE, -EADDRNOTAVAIL, -EACCES, ... as the system says it. */
int core_udp_open(const struct core_udp_options *options, struct core_udp **out);
/* Queued until the end of this turn of the loop. -EMSGSIZE: larger than a datagram can be.
 * -ENOBUFS: the queue is full. */
int core_udp_send(struct core_udp *udp, const struct core_addr *to, struct str bytes);
const struct core_udp_counters *core_udp_counters(const struct core_udp *udp);
void core_udp_close(struct core_udp **udp); /* what is queued is sent; a NULL *udp is fine */

/* Our address on the way to `to`, with port 0. -ENETUNREACH, ...: no way there. */
int core_udp_route(const struct core_addr *to, struct core_addr *local);
/* Whether a program alone can have that address, SOCK_DGRAM or SOCK_STREAM: with SO_REUSEPORT a
 * second sipward would share it, unnoticed. 0, -EADDRINUSE, -EADDRNOTAVAIL, -EACCES, ... */
int core_probe(int type, const struct core_addr *local);

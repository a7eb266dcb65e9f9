/* The core side's addresses: a backend's socket, the embedded registrar, or this edge itself.
 *
 * A core address is a plain value. Messages to CORE_EMBEDDED and CORE_SELF never meet a socket:
 * whoever wires the worker hands the bytes over, and they arrive like a datagram. CORE_SELF is a
 * request that goes from one client of this edge to another without the PBX between (M4, R2). */
#pragma once

#include <netinet/in.h>

#include "proxy/str.h"

enum core_kind { CORE_UDP, CORE_TCP, CORE_EMBEDDED, CORE_SELF };

struct core_addr {
    enum core_kind kind;
    /* CORE_TCP: the connection that a message came on, by its worker and its number there, so that
     * what answers it goes back on it; 0: none. The address is then where to connect to if that
     * connection is gone (RFC 3261 18.2.2). */
    uint8_t worker;
    uint32_t connection;
    int refused; /* CORE_UDP, between workers: errno of ICMP about this address; 0: a message from
                    it */
    bool or_udp; /* CORE_TCP: chosen for the size of a request; UDP will do where TCP fails (T7) */
    union {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
    };
};

enum { CORE_ADDR_TEXT = 64 };
/* With an IP address: UDP or TCP. */
static inline bool core_addr_is_ip(const struct core_addr *addr)
{
    return addr->kind == CORE_UDP || addr->kind == CORE_TCP;
}
/* Kind, address and port. Two connections to one place are the same place. */
bool core_addr_eq(const struct core_addr *a, const struct core_addr *b);
/* The same machine: the IP address, whatever the transport and port. */
bool core_addr_same_host(const struct core_addr *a, const struct core_addr *b);
/* Change the port; of an address with an IP address. */
void core_addr_port_set(struct core_addr *addr, uint16_t port);
void core_addr_text(const struct core_addr *addr, char text[CORE_ADDR_TEXT]); /* 10.0.0.5:5060 */

/* Which worker has to see a message of the core side: the one named in the branch (responses) or
 * in the flow token (requests), else one chosen by Call-ID. Reads, changes nothing, verifies
 * nothing: a wrong name only costs its sender a 403. Any thread. */
unsigned core_owner(struct str message, unsigned workers);
/* Which worker sent this request, of which the beginning is enough, by its branch. -1: none. */
int core_sender(struct str request, unsigned workers);

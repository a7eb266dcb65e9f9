/* The core side's addresses: a backend's socket, the embedded registrar, or this edge itself.
 *
 * A core address is a plain value. Messages to CORE_EMBEDDED and CORE_SELF never meet a socket:
 * whoever wires the worker hands the bytes over, and they arrive like a datagram. CORE_SELF is a
 * request that goes from one client of this edge to another without the PBX between (M4, R2). */
#pragma once

#include <netinet/in.h>

#include "proxy/str.h"

enum core_kind { CORE_UDP, CORE_EMBEDDED, CORE_SELF };

struct core_addr {
    enum core_kind kind;
    union {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
    };
};

enum { CORE_ADDR_TEXT = 64 };
bool core_addr_eq(const struct core_addr *a, const struct core_addr *b);
void core_addr_text(const struct core_addr *addr, char text[CORE_ADDR_TEXT]); /* 10.0.0.5:5060 */

/* Which worker has to see a datagram of the core side: the one named in the branch (responses) or
 * in the flow token (requests), else one chosen by Call-ID. Reads, changes nothing, verifies
 * nothing: a wrong name only costs its sender a 403. Any thread. */
unsigned core_owner(struct str datagram, unsigned workers);

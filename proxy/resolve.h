/* Names of backends, by RFC 3263 4.1 and 4.2: from what an operator wrote to addresses, and again
 * whenever these change (B1).
 *
 *   an address          itself
 *   in /etc/hosts       its addresses, port 5060 unless given
 *   port given          A and AAAA
 *   transport given     SRV of _sip._udp or _sip._tcp
 *   neither             NAPTR (SIP+D2U, SIP+D2T), and the SRV records it names; where there is no
 *                       NAPTR of use, SRV of _sip._udp and _sip._tcp
 *   no SRV, or none yet A and AAAA, port 5060
 *
 * Search domains apply as everywhere on the machine: of the absolute names that one can stand for,
 * the first that has anything is it.
 *
 * A name is asked for again ahead of the end of each record's TTL. While that fails, what was known
 * stays. Where the DNS says that nothing is left of a name, its last addresses are kept for
 * `gone_keep_ms` more: most such answers are mistakes that somebody is about to mend, and the
 * backend is still there; whoever probes it knows better. Failures are asked again after 1 s, and
 * then less and less often, to 30 s. Each change is one line of the log, and so is each time that
 * look-ups begin to fail or work again.
 *
 * Ownership: resolver_open() to resolver_close(), resolve_start() to resolve_stop(). A result is
 *            immutable and counted: changed() borrows it out, resolve_result_ref() keeps it.
 * Threads:   one loop's; resolve_result_ref() and resolve_result_unref() are for any thread.
 * Units:     milliseconds of the loop clock.
 * Errors:    0, or a negative errno value. */
#pragma once

#include <netinet/in.h>
#include <stdatomic.h>

#include <uv.h>

#include "proxy/dns.h"

enum {
    RESOLVE_ADDRESSES_MAX = 64, /* of one name; more are ignored */
    RESOLVE_LOOKUPS_MAX = 96,   /* questions that one name leads to; more SRV targets are ignored */
};

enum resolve_transport { RESOLVE_AUTO, RESOLVE_UDP, RESOLVE_TCP };

struct resolve_target {
    const char *host; /* name or address, without brackets */
    uint16_t port;    /* 0: not given */
    enum resolve_transport transport;
};

/* Port and address are in network order, as the sockets want them. */
struct resolve_address {
    enum resolve_transport transport; /* RESOLVE_UDP or RESOLVE_TCP */
    uint16_t priority; /* from 0, less goes first: the rank of its NAPTR and SRV record */
    uint16_t weight;   /* of its SRV record (RFC 2782), else 0. Addresses of one SRV
                          record have the same name and port: one share among them */
    union {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
    };
    char name[DNS_NAME_SIZE]; /* whose address: an SRV record's target, or the host */
};

/* Sorted by priority, then greater weight, and the AF_INET addresses of a name first. Within one
 * priority the order is no preference: it is the same for the same records, in whatever order a
 * server sends them. */
struct resolve_result {
    atomic_uint references; /* of resolve_result_ref() */
    unsigned count;         /* 0: nothing is known of the name, or it is gone */
    struct resolve_address addresses[];
};

struct resolver;
struct resolve_name;

/* Once when the first round of look-ups ends, even if with nothing, and at each change after that.
 * From the loop, never from inside resolve_start(); it may start and stop names, and close. */
typedef void (*resolve_changed)(void *context, const struct resolve_result *result);

struct resolver_options {
    uv_loop_t *loop;
    unsigned query_timeout_ms; /* of a first try; the second gets twice that. 0: 1500 */
    unsigned ttl_min_ms;       /* 0: 5000; the longest is 1 h */
    unsigned gone_keep_ms;     /* 0: 300000 */
};

int resolver_open(const struct resolver_options *options, struct resolver **out);
/* Stops all names. The loop must run once more. A NULL *resolver is fine. */
void resolver_close(struct resolver **resolver);

/* `target` is copied. -EINVAL: the host is longer than a name can be. -ENOMEM. */
int resolve_start(struct resolver *resolver, const struct resolve_target *target,
                  resolve_changed changed, void *context, struct resolve_name **out);
void resolve_stop(struct resolve_name **name); /* changed() is not called any more; NULL is fine */

/* Until when the present result is good; it is renewed ahead of that, and is kept beyond it while
 * look-ups fail. 0: there is none. UINT64_MAX: an address, not a name. */
uint64_t resolve_good_until(const struct resolve_name *name);

const struct resolve_result *resolve_result_ref(const struct resolve_result *result);
void resolve_result_unref(const struct resolve_result **result); /* *result becomes NULL */
/* "udp 10.0.0.1:5060", or with an SRV record's rank "udp 10.0.0.1:5060 priority 0 weight 10" */
enum { RESOLVE_ADDRESS_TEXT = 96 };
void resolve_address_text(const struct resolve_address *address, char text[RESOLVE_ADDRESS_TEXT]);

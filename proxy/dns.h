/* One question to the hosts file or the DNS, and what came back: c-ares on a loop (B1).
 *
 * Servers and search domains are those of /etc/resolv.conf, read again when it changes. DNS
 * answers that do not fit a datagram come by TCP. Nothing here waits: small local files are read,
 * all else is sockets on the loop.
 *
 * Ownership: dns_open() to dns_close(); the loop must run once more after close.
 * Threads:   one loop's.
 * Errors:    0, or a negative errno value; dns_strerror() has the words for those of an answer. */
#pragma once

#include <uv.h>

#include "proxy/str.h"

enum {
    DNS_NAME_SIZE = 256,  /* text of the longest name, and its NUL */
    DNS_RECORDS_MAX = 16, /* of an answer; of more, the first of their order (below) are kept */
    DNS_CANDIDATES_MAX = 8,
};

/* HOSTS: addresses of both families from the hosts file alone. */
enum dns_type { DNS_HOSTS, DNS_A, DNS_AAAA, DNS_SRV, DNS_NAPTR };

/* Fields that its type does not have are 0. Plain values: equal records have equal fields. */
struct dns_record {
    uint16_t order;      /* SRV: priority. NAPTR: order. Less goes first */
    uint16_t preference; /* NAPTR */
    uint16_t weight;     /* SRV (RFC 2782) */
    uint16_t port;       /* SRV, not 0 */
    bool tcp;            /* NAPTR: SIP+D2T, else SIP+D2U (RFC 3263 4.1) */
    int family;          /* HOSTS, A, AAAA: of the address */
    union {
        struct in_addr in;
        struct in6_addr in6;
    };
    char name[DNS_NAME_SIZE]; /* SRV, NAPTR: where it points to, in lower case. "": the root, which
                                 in SRV says that there is no such service */
};

/* Sorted by order, preference, greater weight, and then by the rest: the same records are the same
 * answer, in whatever order a server sends them. */
struct dns_answer {
    uint32_t ttl_s; /* the least of all records and aliases on the way, as they came */
    unsigned count; /* at least 1 */
    struct dns_record records[];
};

struct dns;

/* `answer` is NULL if `err`, else the receiver's to free(). It may come from inside dns_ask() and
 * dns_candidates(), and must not ask, nor close.
 * -ENOENT: no such name. -ENODATA: nothing usable of that type. Both are the DNS's word; all else
 * is a failure to get it: -ETIMEDOUT, -ECONNREFUSED, -EREMOTEIO: server failure or refusal,
 * -EBADMSG, -EACCES: resolv.conf, -ENOMEM, -EIO. -ECANCELED: resolv.conf has changed, or close: ask
 * again, or don't. */
typedef void (*dns_answered)(void *context, int err, struct dns_answer *answer);

/* How long one server gets for one try. Each is tried twice, the second time twice as long. */
int dns_open(uv_loop_t *loop, unsigned timeout_ms, struct dns **out);
void dns_ask(struct dns *dns, enum dns_type type, const char *name, dns_answered answered,
             void *context);
void dns_close(struct dns **dns); /* open questions end by -ECANCELED; a NULL *dns is fine */

/* The absolute names that one in a configuration may stand for, the likeliest first: with the
 * search domains, and as it is (resolv.conf(5): search, ndots). Each is a question of its own: of
 * several answers in one it would not be known which of them was a failure. Returns how many, 1 or
 * more. */
unsigned dns_candidates(struct dns *dns, const char *name,
                        char out[DNS_CANDIDATES_MAX][DNS_NAME_SIZE]);

/* The records of one type in a DNS message (RFC 1035 4.1). Whose they are is not compared: an alias
 * and its target come in one answer, from the server that the machine's administrator chose.
 * -EBADMSG: broken. -ENODATA. -ENOMEM. */
int dns_parse(enum dns_type type, const uint8_t *bytes, size_t len, struct dns_answer **out);

bool dns_answer_eq(const struct dns_answer *a, const struct dns_answer *b); /* TTLs may differ */

const char *dns_strerror(int err); /* "no such name" */
const char *dns_type_text(enum dns_type type);

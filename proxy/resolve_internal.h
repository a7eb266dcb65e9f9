/* What the files about names share. */
#pragma once

#include "proxy/resolve.h"

enum { RESOLVE_WHY_TEXT = DNS_NAME_SIZE + 32 };

/* One question that a name leads to, and all that is known of its answer. It is asked at `due`. */
struct lookup {
    struct lookup *next;
    struct resolve_name *of; /* NULL: stopped; ends when its answer comes */
    enum dns_type type;
    char name[DNS_NAME_SIZE];

    bool used;   /* the last walk came by here */
    bool asking; /* an answer will come */
    int err;     /* of the last answer */
    unsigned tries;
    uint64_t due, until;
    struct dns_answer *answer; /* the last good one, unless the DNS took it back; or NULL */
};

enum state { STATE_NEW, STATE_GOOD, STATE_FAILING, STATE_GONE };

struct resolve_name {
    struct resolve_name *next;
    struct resolver *resolver;
    char host[DNS_NAME_SIZE];
    uint16_t port;
    enum resolve_transport transport;
    resolve_changed changed;
    void *context;

    struct lookup *lookups;
    uint64_t walk_at;
    enum state state;
    uint64_t gone_at;           /* the present result is given up then; 0: it is not gone */
    char why[RESOLVE_WHY_TEXT]; /* which answer has changed since the last result */
    const struct resolve_result *result;
};

struct resolver {
    struct resolver_options options;
    struct dns *dns;
    uv_timer_t timer;
    bool closing;
    struct resolve_name *names;
};

/* One passage from a name down to addresses, over what is known. What is not known, or due again,
 * is asked for on the way, and then the passage is not the last one. */
struct resolve_walk {
    struct resolve_name *of;
    uint64_t now;
    bool asking; /* there are answers to come */
    bool broken; /* there was no memory for it */
    unsigned lookups;
    uint16_t priority;
    unsigned count;
    struct resolve_address addresses[RESOLVE_ADDRESSES_MAX];
};

/* ---- resolve.c ---- */

/* The records of a name, as far as they are known; else NULL, and that may be for now. */
const struct dns_answer *resolve_ask(struct resolve_walk *walk, enum dns_type type,
                                     const char *asked);

/* ---- resolve_walk.c ---- */

void resolve_walk(struct resolve_walk *walk);

/* ---- resolve_result.c ---- */

bool resolve_address_in(const struct resolve_address *list, unsigned count,
                        const struct resolve_address *address);
/* NULL: no memory. */
const struct resolve_result *resolve_result_create(const struct resolve_walk *walk);
bool resolve_result_is(const struct resolve_result *result, const struct resolve_walk *walk);
/* One line: what came, what went, and why. `before` may be NULL. */
void resolve_change_log(const struct resolve_name *name, const struct resolve_result *before,
                        const struct resolve_result *now);

/* The core side as workers see it: the backends' addresses, which of them a request goes to, and
 * what is known of their health (B1 to B4).
 *
 * An endpoint is one address of one backend of the configuration. Its slot is its place in `struct
 * health`, and belongs to the address for as long as any backend has it, however lists of endpoints
 * change: so a set of slots says which ones a request has tried.
 *
 * Ownership: a view is counted; it is immutable, and replaced as a whole when names come to other
 *            addresses (proxy/endpoints.h), or with the configuration. Lists and sets are the
 *            caller's.
 * Threads:   `struct health` is one for all workers and the main thread, each may read and write
 *            at any time, without locks. Views are for any thread. All else is the caller's own.
 * Units:     milliseconds of uv_now(), which all loops of a process share; seconds in _s. */
#pragma once

#include <stdatomic.h>

#include "conf/conf.h"
#include "proxy/core.h"

enum { ENDPOINTS_MAX = 256, ENDPOINT_RANK_BITS = 16, ENDPOINT_NO_BACKEND = UINT16_MAX };

struct endpoint {
    struct core_addr addr; /* CORE_UDP, CORE_TCP or CORE_EMBEDDED */
    bool tcp_too;          /* a CORE_UDP one that has TCP as well, for what is large (T7) */
    bool retired;      /* no name leads here any more: nothing new goes here, but what comes from
                          here and what is in a dialog is as before (R2, R8) */
    uint16_t slot;     /* below ENDPOINTS_MAX */
    uint16_t backend;  /* index in the view's conf->backends; ENDPOINT_NO_BACKEND: of the embedded
                          registrar, or of one that is retired and is not in there any more */
    uint64_t name;     /* host_name_hash() of the name whose address it is; 0: none */
    uint32_t priority; /* less goes first: the backend's, above the rank of this address in it */
    double weight;     /* share of those of equal priority; 0: only a very small chance, where
                          others have more (RFC 2782) */
};

struct core_view {
    atomic_uint references;          /* from 1 */
    const struct conf *conf;         /* that it was made for: a reference */
    struct core_addr local4, local6; /* what the backends see of us; port 0: that family is not in
                                        use, and may come to be with a later view */
    bool tcp; /* a backend has, or had, TCP: the core address listens for it */
    unsigned endpoint_count;
    struct endpoint endpoints[ENDPOINTS_MAX]; /* in the order of backends; retired ones are last */
};

const struct core_view *core_view_ref(const struct core_view *view);
void core_view_unref(const struct core_view **view); /* *view becomes NULL; a NULL *view is fine */

/* For comparing, letter case aside. Never 0. */
uint64_t host_name_hash(struct str name);
/* The endpoint at that address and port; better one of its kind than one by another transport, and
 * one in use than a retired one. NULL: none. */
const struct endpoint *endpoint_at(const struct core_view *view, const struct core_addr *addr);
/* Is it the machine of an endpoint, whatever the port and transport? */
bool endpoint_host_known(const struct core_view *view, const struct core_addr *addr);

/* ---- health (B2, B3) ---- */

enum health_state {
    HEALTH_UNKNOWN, /* nothing has been heard: as good as up */
    HEALTH_UP,
    HEALTH_DOWN,
};

/* What made an endpoint's health another. */
enum health_cause {
    HEALTH_NOTHING,         /* nothing has yet */
    HEALTH_REQUESTS_SILENT, /* requests without an answer; `number` of them, or of probes */
    HEALTH_PROBES_SILENT,   /* likewise, and the last was a probe */
    HEALTH_PROBES_503,      /* likewise, answered so */
    HEALTH_PROBES_408,      /* likewise */
    HEALTH_REFUSED,         /* by the system, with the errno `number` */
    HEALTH_RETRY_AFTER,     /* 503 with so many seconds */
    HEALTH_PROBES_ANSWERED, /* `number` of them */
};

struct health_change {
    uint64_t at; /* 0: never */
    enum health_cause cause;
    unsigned number;
};

enum { HEALTH_CHANGE_TEXT = 64 };

/* All zero at first. */
struct health {
    struct {
        _Atomic uint64_t change; /* struct health_change, packed */
        _Atomic enum health_state state;
        _Atomic uint64_t busy_until; /* it asked to be left alone until then (Retry-After) */
        atomic_uint silent;          /* requests in a row that it did not answer */
    } slots[ENDPOINTS_MAX];
};

/* true: that is news, to be logged by the caller. */
bool health_up(struct health *health, unsigned slot);
bool health_down(struct health *health, unsigned slot);
/* Something came from it: what was silent before doesn't count. It stays down if it is. */
bool health_answered(struct health *health, unsigned slot); /* true: it was silent */
/* It did not answer a request. Returns how many in a row. */
unsigned health_silent(struct health *health, unsigned slot);
void health_busy(struct health *health, unsigned slot, uint64_t until); /* never shortened */
/* Nothing is known: the slot has another address now. */
void health_forget(struct health *health, unsigned slot);
enum health_state health_state(const struct health *health, unsigned slot);
/* Until when it asked to be left alone, or is left alone; it may have passed. */
uint64_t health_busy_until(const struct health *health, unsigned slot);
/* For people: when and why it changed. */
void health_changed(struct health *health, unsigned slot, const struct health_change *change);
struct health_change health_change(const struct health *health, unsigned slot);
void health_change_text(const struct health_change *change, char text[HEALTH_CHANGE_TEXT]);
/* Neither down nor busy. */
bool health_usable(const struct health *health, unsigned slot, uint64_t now);

/* ---- the choice (B3) ---- */

struct slot_set {
    uint64_t bits[ENDPOINTS_MAX / 64];
};

static inline void slot_set_add(struct slot_set *set, unsigned slot)
{
    set->bits[slot / 64] |= UINT64_C(1) << slot % 64;
}

static inline bool slot_set_has(const struct slot_set *set, unsigned slot)
{
    return set->bits[slot / 64] >> slot % 64 & 1;
}

/* Of the endpoints that are usable and not tried (NULL: none is), one of the least priority. Among
 * those of equal priority a user keeps its own as long as that can be had, and users are spread by
 * weight (rendezvous hashing): one that goes takes only its own users with it. NULL: there is none.
 */
const struct endpoint *backend_choose(const struct endpoint *list, unsigned count,
                                      const struct health *health, struct str aor,
                                      const struct slot_set *tried, uint64_t now);
/* What to say in Retry-After when there is none (B4): the time until the first busy one can be
 * asked again; if none is just busy, `otherwise_s`. At least 1. */
unsigned backend_retry_after_s(const struct endpoint *list, unsigned count,
                               const struct health *health, unsigned otherwise_s, uint64_t now);

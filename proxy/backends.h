/* Which of the backends' addresses a request goes to, and what is known of their health (B1 to B4).
 *
 * An endpoint is one address of one backend of the configuration. Its slot is its place in `struct
 * health`, and belongs to the address for as long as any backend has it, however lists of endpoints
 * change: so a set of slots says which ones a request has tried.
 *
 * Ownership: lists and sets are the caller's.
 * Threads:   `struct health` is one for all workers and the main thread, each may read and write at
 *            any time, without locks. All else is the caller's own or immutable.
 * Units:     milliseconds of uv_now(), which all loops of a process share; seconds in _s. */
#pragma once

#include <stdatomic.h>

#include "proxy/core.h"

enum { ENDPOINTS_MAX = 256 };

struct endpoint {
    struct core_addr addr; /* CORE_UDP, CORE_TCP or CORE_EMBEDDED */
    bool tcp_too;          /* a CORE_UDP one that has TCP as well, for what is large (T7) */
    bool retired;      /* no name leads here any more: nothing new goes here, but what comes from
                          here and what is in a dialog is as before (R2, R8) */
    uint16_t slot;     /* below ENDPOINTS_MAX */
    uint16_t backend;  /* index in conf->backends */
    uint32_t priority; /* less goes first */
    double weight;     /* share of those of equal priority; 0: only a very small chance, where
                          others have more (RFC 2782) */
};

/* ---- health (B2, B3) ---- */

enum health_state {
    HEALTH_UNKNOWN, /* nothing has been heard: as good as up */
    HEALTH_UP,
    HEALTH_DOWN,
};

/* All zero at first. */
struct health {
    struct {
        _Atomic enum health_state state;
        _Atomic uint64_t busy_until; /* it asked to be left alone until then (Retry-After) */
    } slots[ENDPOINTS_MAX];
};

/* true: that is news, to be logged by the caller. */
bool health_up(struct health *health, unsigned slot);
bool health_down(struct health *health, unsigned slot);
void health_busy(struct health *health, unsigned slot, uint64_t until); /* never shortened */
/* Nothing is known: the slot has another address now. */
void health_forget(struct health *health, unsigned slot);
enum health_state health_state(const struct health *health, unsigned slot);
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

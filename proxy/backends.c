#include "proxy/backends.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>

#include <xxhash.h>

const struct core_view *core_view_ref(const struct core_view *view)
{
    atomic_fetch_add(&((struct core_view *)view)->references, 1);
    return view;
}

void core_view_unref(const struct core_view **view)
{
    struct core_view *mine = (struct core_view *)*view;

    *view = NULL;
    if (mine && atomic_fetch_sub(&mine->references, 1) == 1) {
        conf_unref(&mine->conf);
        free(mine);
    }
}

uint64_t host_name_hash(struct str name)
{
    char lower[256]; /* no name is longer */
    size_t len = name.len < sizeof(lower) ? name.len : sizeof(lower);
    uint64_t hash;

    for (size_t i = 0; i < len; i++)
        lower[i] =
            (char)(name.p[i] >= 'A' && name.p[i] <= 'Z' ? name.p[i] + ('a' - 'A') : name.p[i]);
    hash = XXH3_64bits(lower, len);
    return hash ? hash : 1;
}

const struct endpoint *endpoint_at(const struct core_view *view, const struct core_addr *addr)
{
    const struct endpoint *other = NULL;
    struct core_addr its;

    for (unsigned i = 0; i < view->endpoint_count; i++) {
        const struct endpoint *endpoint = &view->endpoints[i];

        if (core_addr_eq(&endpoint->addr, addr))
            return endpoint;
        its = endpoint->addr;
        its.kind = addr->kind;
        if (!other && core_addr_is_ip(&endpoint->addr) && core_addr_eq(&its, addr))
            other = endpoint;
    }
    return other;
}

bool endpoint_host_known(const struct core_view *view, const struct core_addr *addr)
{
    for (unsigned i = 0; i < view->endpoint_count; i++)
        if (core_addr_same_host(&view->endpoints[i].addr, addr))
            return true;
    return false;
}

/* ---- health ---- */

bool health_up(struct health *health, unsigned slot)
{
    return atomic_exchange(&health->slots[slot].state, HEALTH_UP) == HEALTH_DOWN;
}

bool health_down(struct health *health, unsigned slot)
{
    return atomic_exchange(&health->slots[slot].state, HEALTH_DOWN) != HEALTH_DOWN;
}

bool health_answered(struct health *health, unsigned slot)
{
    /* Read first: this is for each response, and the line is shared by all workers. */
    return atomic_load_explicit(&health->slots[slot].silent, memory_order_relaxed) &&
           atomic_exchange(&health->slots[slot].silent, 0);
}

unsigned health_silent(struct health *health, unsigned slot)
{
    return atomic_fetch_add(&health->slots[slot].silent, 1) + 1;
}

void health_busy(struct health *health, unsigned slot, uint64_t until)
{
    _Atomic uint64_t *at = &health->slots[slot].busy_until;
    uint64_t before = atomic_load(at);

    while (before < until && !atomic_compare_exchange_weak(at, &before, until))
        continue;
}

void health_forget(struct health *health, unsigned slot)
{
    atomic_store(&health->slots[slot].state, HEALTH_UNKNOWN);
    atomic_store(&health->slots[slot].busy_until, 0);
    atomic_store(&health->slots[slot].silent, 0);
    atomic_store(&health->slots[slot].change, 0);
}

uint64_t health_busy_until(const struct health *health, unsigned slot)
{
    return atomic_load(&health->slots[slot].busy_until);
}

/* In one word, as any thread may read it at any time: 40 bits of milliseconds, 34 years. */
enum { CHANGE_NUMBER_BITS = 16, CHANGE_CAUSE_BITS = 8 };

void health_changed(struct health *health, unsigned slot, const struct health_change *change)
{
    unsigned number = change->number <= UINT16_MAX ? change->number : UINT16_MAX;

    atomic_store(&health->slots[slot].change,
                 change->at << (CHANGE_CAUSE_BITS + CHANGE_NUMBER_BITS) |
                     (uint64_t)change->cause << CHANGE_NUMBER_BITS | number);
}

struct health_change health_change(const struct health *health, unsigned slot)
{
    uint64_t packed = atomic_load(&health->slots[slot].change);

    return (struct health_change){
        .at = packed >> (CHANGE_CAUSE_BITS + CHANGE_NUMBER_BITS),
        .cause = (enum health_cause)(packed >> CHANGE_NUMBER_BITS & UINT8_MAX),
        .number = (unsigned)(packed & UINT16_MAX),
    };
}

void health_change_text(const struct health_change *change, char text[HEALTH_CHANGE_TEXT])
{
    static const char *const what[] = {
        [HEALTH_REQUESTS_SILENT] = "requests without an answer",
        [HEALTH_PROBES_SILENT] = "probes without an answer",
        [HEALTH_PROBES_503] = "probes answered 503",
        [HEALTH_PROBES_408] = "probes answered 408",
        [HEALTH_PROBES_ANSWERED] = "probes answered",
    };

    switch (change->cause) {
    case HEALTH_NOTHING: *text = '\0'; break;
    case HEALTH_REFUSED:
        (void)snprintf(text, HEALTH_CHANGE_TEXT, "%s", strerror((int)change->number));
        break;
    case HEALTH_RETRY_AFTER:
        (void)snprintf(text, HEALTH_CHANGE_TEXT, "503, Retry-After: %u", change->number);
        break;
    default:
        (void)snprintf(text, HEALTH_CHANGE_TEXT, "%u %s", change->number, what[change->cause]);
        break;
    }
}

enum health_state health_state(const struct health *health, unsigned slot)
{
    return atomic_load(&health->slots[slot].state);
}

bool health_usable(const struct health *health, unsigned slot, uint64_t now)
{
    return atomic_load(&health->slots[slot].state) != HEALTH_DOWN &&
           atomic_load(&health->slots[slot].busy_until) <= now;
}

/* ---- the choice ---- */

/* One number for a user and an address, even between 0 and 1 and never either. Weighted rendezvous
 * hashing takes the largest -weight / ln(number) (Schindelhauer and Schomaker, 2005: the chance of
 * each is its share of the weights, whoever else takes part). */
static double score(const struct endpoint *endpoint, struct str aor)
{
    const double none = 1e-6;                        /* the weight of those that have 0 */
    const void *place = &endpoint->addr.in.sin_port; /* port and address, in both families */
    uint64_t hash, user = XXH3_64bits(aor.len ? aor.p : "", aor.len);
    size_t len = 0;

    if (core_addr_is_ip(&endpoint->addr))
        len = endpoint->addr.sa.sa_family == AF_INET6
                  ? sizeof(struct sockaddr_in6) - offsetof(struct sockaddr_in6, sin6_port) -
                        sizeof(endpoint->addr.in6.sin6_scope_id)
                  : sizeof(in_port_t) + sizeof(struct in_addr);
    hash = XXH3_64bits_withSeed(place, len, user);
    return -(endpoint->weight > 0 ? endpoint->weight : none) /
           log(((double)(hash >> 12) + 0.5) * 0x1p-52);
}

const struct endpoint *backend_choose(const struct endpoint *list, unsigned count,
                                      const struct health *health, struct str aor,
                                      const struct slot_set *tried, uint64_t now)
{
    const struct endpoint *best = NULL;
    double high = 0, its; /* 0: not yet needed, as when there is no other */

    for (const struct endpoint *endpoint = list; endpoint < list + count; endpoint++) {
        if (endpoint->retired || (best && endpoint->priority > best->priority) ||
            (tried && slot_set_has(tried, endpoint->slot)) ||
            !health_usable(health, endpoint->slot, now))
            continue;
        its = 0;
        if (best && endpoint->priority == best->priority) {
            high = high > 0 ? high : score(best, aor);
            its = score(endpoint, aor);
            if (its <= high)
                continue;
        }
        best = endpoint;
        high = its;
    }
    return best;
}

unsigned backend_retry_after_s(const struct endpoint *list, unsigned count,
                               const struct health *health, unsigned otherwise_s, uint64_t now)
{
    uint64_t first = UINT64_MAX, until;

    for (const struct endpoint *endpoint = list; endpoint < list + count; endpoint++) {
        until = atomic_load(&health->slots[endpoint->slot].busy_until);
        if (!endpoint->retired && health_state(health, endpoint->slot) != HEALTH_DOWN &&
            until > now && until < first)
            first = until;
    }
    if (first != UINT64_MAX)
        return (unsigned)((first - now + 999) / 1000);
    return otherwise_s ? otherwise_s : 1;
}

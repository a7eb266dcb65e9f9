#include "proxy/endpoints.h"

#include <errno.h>
#include <stdlib.h>

#include "proxy/log.h"

struct slot {
    bool used, live;
    uint64_t retired_until;   /* of one that is not live */
    struct endpoint endpoint; /* as it was last in a view */
};

struct endpoints {
    const struct conf *conf; /* of the last view, a reference; NULL: there was none */
    struct health *health;
    struct slot slots[ENDPOINTS_MAX];
    unsigned
        last; /* slot given: the next is looked for behind it, so that one is not used again soon */
    bool had_tcp; /* an earlier configuration: its connections may carry calls */
    bool told_full;
};

int endpoints_create(struct health *health, struct endpoints **out)
{
    struct endpoints *endpoints = calloc(1, sizeof(*endpoints));

    if (!endpoints)
        return -ENOMEM;
    endpoints->health = health;
    endpoints->last = ENDPOINTS_MAX - 1;
    *out = endpoints;
    return 0;
}

void endpoints_destroy(struct endpoints **endpoints)
{
    if (*endpoints)
        conf_unref(&(*endpoints)->conf);
    free(*endpoints);
    *endpoints = NULL;
}

uint64_t endpoints_next(const struct endpoints *endpoints)
{
    uint64_t next = UINT64_MAX;

    for (unsigned i = 0; i < ENDPOINTS_MAX; i++) {
        const struct slot *slot = &endpoints->slots[i];

        if (slot->used && !slot->live && slot->retired_until < next)
            next = slot->retired_until;
    }
    return next;
}

struct core_addr endpoint_addr(const struct resolve_address *address)
{
    struct core_addr addr = {.kind = address->transport == RESOLVE_TCP ? CORE_TCP : CORE_UDP};

    if (address->sa.sa_family == AF_INET)
        addr.in = address->in;
    else
        addr.in6 = address->in6;
    return addr;
}

bool endpoint_wanted(const struct conf *conf, const struct resolve_result *result, unsigned i)
{
    bool four = conf->core4.sa.sa_family, six = conf->core6.sa.sa_family;
    int family = four ? AF_INET : AF_INET6;

    if (four == six || result->addresses[i].sa.sa_family == family)
        return true;
    for (unsigned j = 0; j < result->count; j++)
        if (result->addresses[j].sa.sa_family == family)
            return false;
    return true;
}

/* ---- the addresses of one backend ---- */

struct candidate {
    const struct resolve_address *from;
    struct endpoint endpoint;
};

struct candidates {
    unsigned count;
    struct candidate list[RESOLVE_ADDRESSES_MAX];
};

/* The same record: one share of weight, and one machine. */
static bool same_record(const struct resolve_address *a, const struct resolve_address *b)
{
    return a->transport == b->transport && a->priority == b->priority && a->weight == b->weight &&
           strcmp(a->name, b->name) == 0 &&
           a->in.sin_port == b->in.sin_port; /* at the same place in both families */
}

static bool same_place(const struct core_addr *a, const struct core_addr *b)
{
    struct core_addr by = *a;

    by.kind = b->kind;
    return core_addr_eq(&by, b);
}

/* The place is there already, by this transport; or, where both will do, by another. */
static struct candidate *candidate_find(struct candidates *candidates, const struct core_addr *addr,
                                        bool both)
{
    for (unsigned i = 0; i < candidates->count; i++) {
        struct endpoint *endpoint = &candidates->list[i].endpoint;

        if (both ? same_place(&endpoint->addr, addr) : core_addr_eq(&endpoint->addr, addr))
            return &candidates->list[i];
    }
    return NULL;
}

static bool is_ours(const struct core_addr *addr, const struct core_addr *local)
{
    return local->in.sin_port && same_place(addr, local);
}

static void candidates_find(const struct conf *conf, const struct conf_backend *backend,
                            const struct resolve_result *result, const struct core_addr *local4,
                            const struct core_addr *local6, struct candidates *out)
{
    bool both = backend->transport == CONF_TRANSPORT_AUTO;

    out->count = 0;
    for (unsigned i = 0; i < result->count; i++) {
        const struct resolve_address *address = &result->addresses[i];
        const struct core_addr *local = address->sa.sa_family == AF_INET ? local4 : local6;
        struct core_addr addr = endpoint_addr(address);
        struct candidate *same = candidate_find(out, &addr, both);

        if (!local->in.sin_port || is_ours(&addr, local) || !endpoint_wanted(conf, result, i))
            continue;
        if (same && addr.kind == CORE_UDP)
            same->endpoint.addr.kind = CORE_UDP;
        if (same)
            continue; /* the first has the better rank */
        out->list[out->count++] = (struct candidate){
            .from = address,
            .endpoint = {.addr = addr, .name = host_name_hash(str_of(address->name))},
        };
    }
    for (unsigned i = 0; i < out->count; i++)
        out->list[i].endpoint.tcp_too = both && out->list[i].endpoint.addr.kind == CORE_UDP;
}

static void priorities_set(const struct conf_backend *backend, struct candidates *candidates)
{
    for (unsigned i = 0; i < candidates->count; i++) {
        struct candidate *it = &candidates->list[i];
        bool second = false; /* it is the same machine by another family */

        for (unsigned j = 0; j < candidates->count && it->from->sa.sa_family == AF_INET6; j++)
            second |= candidates->list[j].from->sa.sa_family == AF_INET &&
                      same_record(candidates->list[j].from, it->from);
        it->endpoint.priority = (uint32_t)backend->priority << ENDPOINT_RANK_BITS |
                                (uint32_t)(it->from->priority * 2 + second);
    }
}

static void weights_set(const struct conf_backend *backend, struct candidates *candidates)
{
    for (unsigned i = 0; i < candidates->count; i++) {
        struct candidate *it = &candidates->list[i];
        unsigned addresses = 0, records = 0;
        double total = 0;

        for (unsigned j = 0; j < candidates->count; j++) {
            const struct candidate *other = &candidates->list[j];
            bool first = true;

            if (other->endpoint.priority != it->endpoint.priority)
                continue;
            addresses += same_record(other->from, it->from);
            for (unsigned k = 0; k < j; k++)
                first &= candidates->list[k].endpoint.priority != it->endpoint.priority ||
                         !same_record(candidates->list[k].from, other->from);
            if (first) {
                records++;
                total += other->from->weight;
            }
        }
        it->endpoint.weight = total > 0 ? it->from->weight / total : 1.0 / records;
        it->endpoint.weight *= (double)backend->weight / addresses;
    }
}

/* ---- slots ---- */

/* Retired, and its time is over. */
static bool slot_is_over(const struct slot *slot, uint64_t now)
{
    return !slot->live && slot->endpoint.retired && now >= slot->retired_until;
}

/* The slot of an address, a free one if it is new. NULL: there is none. */
static struct slot *slot_take(struct endpoints *endpoints, const struct core_addr *addr,
                              uint64_t now)
{
    struct slot *slot;

    for (unsigned i = 0; i < ENDPOINTS_MAX; i++) {
        slot = &endpoints->slots[i];
        if (slot->used && core_addr_eq(&slot->endpoint.addr, addr))
            return slot;
    }
    for (unsigned i = 1; i <= ENDPOINTS_MAX; i++) {
        unsigned number = (endpoints->last + i) % ENDPOINTS_MAX;

        slot = &endpoints->slots[number];
        if (slot->used && !slot_is_over(slot, now))
            continue;
        slot->used = true;
        endpoints->last = number;
        health_forget(endpoints->health, number);
        return slot;
    }
    return NULL;
}

static void endpoint_add(struct endpoints *endpoints, struct core_view *view,
                         const struct endpoint *endpoint, uint64_t now)
{
    struct slot *slot =
        view->endpoint_count < ENDPOINTS_MAX ? slot_take(endpoints, &endpoint->addr, now) : NULL;

    if (!slot) {
        if (!endpoints->told_full)
            log_event(LOG_ERROR, "too many addresses of backends: some are not used",
                      LOG_NUMBER("maximum", ENDPOINTS_MAX));
        endpoints->told_full = true;
        return;
    }
    slot->endpoint = *endpoint;
    slot->endpoint.slot = (uint16_t)(slot - endpoints->slots);
    slot->live = true;
    view->endpoints[view->endpoint_count++] = slot->endpoint;
}

static void retired_add(struct endpoints *endpoints, struct core_view *view, uint64_t now)
{
    for (unsigned i = 0; i < ENDPOINTS_MAX; i++) {
        struct slot *slot = &endpoints->slots[i];

        if (!slot->used || slot->live)
            continue;
        if (slot_is_over(slot, now)) {
            *slot = (struct slot){0};
            continue;
        }
        if (!slot->endpoint.retired)
            slot->retired_until = now + ENDPOINT_RETIRED_MS;
        slot->endpoint.retired = true;
        if (view->endpoint_count < ENDPOINTS_MAX)
            view->endpoints[view->endpoint_count++] = slot->endpoint;
    }
}

/* ---- all together ---- */

/* Slots keep the indexes that they have in the configuration. */
static void conf_take(struct endpoints *endpoints, const struct conf *conf)
{
    const struct conf *before = endpoints->conf;

    if (before == conf)
        return;
    for (unsigned i = 0; before && i < before->backend_count; i++)
        endpoints->had_tcp |= before->backends[i].transport != CONF_TRANSPORT_UDP;
    for (unsigned i = 0; before && i < ENDPOINTS_MAX; i++) {
        uint16_t *backend = &endpoints->slots[i].endpoint.backend;
        int now = *backend < before->backend_count
                      ? conf_backend_at(conf, &before->backends[*backend])
                      : -1;

        *backend = now < 0 ? ENDPOINT_NO_BACKEND : (uint16_t)now;
    }
    endpoints->conf = conf_ref(conf);
    conf_unref(&before);
}

int endpoints_view(struct endpoints *endpoints, const struct conf *conf,
                   const struct resolve_result *const *results, const struct core_addr *local4,
                   const struct core_addr *local6, uint64_t now, const struct core_view **out)
{
    const struct endpoint registrar = {
        .addr = {.kind = CORE_EMBEDDED}, .backend = ENDPOINT_NO_BACKEND, .weight = 1};
    struct core_view *view = calloc(1, sizeof(*view));
    struct candidates *candidates = malloc(sizeof(*candidates));

    if (!view || !candidates) {
        free(view);
        free(candidates);
        return -ENOMEM;
    }
    atomic_init(&view->references, 1);
    view->conf = conf_ref(conf);
    conf_take(endpoints, conf);
    view->tcp = endpoints->had_tcp;
    view->local4 = *local4;
    view->local6 = *local6;
    for (unsigned i = 0; i < ENDPOINTS_MAX; i++)
        endpoints->slots[i].live = false;
    for (unsigned i = 0; i < conf->backend_count; i++) {
        const struct conf_backend *backend = &conf->backends[i];

        view->tcp |= backend->transport != CONF_TRANSPORT_UDP;
        if (!results[i])
            continue;
        candidates_find(conf, backend, results[i], local4, local6, candidates);
        priorities_set(backend, candidates);
        weights_set(backend, candidates);
        for (unsigned j = 0; j < candidates->count; j++) {
            candidates->list[j].endpoint.backend = (uint16_t)i;
            endpoint_add(endpoints, view, &candidates->list[j].endpoint, now);
        }
    }
    if (!conf->backend_count)
        endpoint_add(endpoints, view, &registrar, now);
    retired_add(endpoints, view, now);
    free(candidates);
    *out = view;
    return 0;
}

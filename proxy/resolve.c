#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "proxy/log.h"
#include "proxy/resolve_internal.h"

enum {
    QUERY_TIMEOUT_MS = 1500,
    TTL_MIN_MS = 5000,
    TTL_MAX_MS = 3600 * 1000,
    GONE_KEEP_MS = 300 * 1000,
    RETRY_MIN_MS = 1000,
    RETRY_MAX_MS = 30 * 1000,
    RETRY_DOUBLINGS_MAX = 5,
};

/* ---- the log ---- */

static bool failure(int err)
{
    return err && err != -ENOENT && err != -ENODATA;
}

static const struct lookup *lookup_failing(const struct resolve_name *name)
{
    for (const struct lookup *lookup = name->lookups; lookup; lookup = lookup->next)
        if (lookup->used && failure(lookup->err))
            return lookup;
    return NULL;
}

static void failing_log(const struct resolve_name *name, const struct lookup *lookup)
{
    char asked[RESOLVE_WHY_TEXT];

    snprintf(asked, sizeof(asked), "%s %s", dns_type_text(lookup->type), lookup->name);
    log_event(LOG_WARNING, "look-ups of a backend's name fail",
              LOG_TEXT("name", str_of(name->host)), LOG_TEXT("asked", str_of(asked)),
              LOG_TEXT("reason", str_of(dns_strerror(lookup->err))),
              LOG_NUMBER("addresses", name->result ? name->result->count : 0));
}

static void state_set(struct resolve_name *name, const struct resolve_walk *walk)
{
    const struct lookup *failing = lookup_failing(name);
    enum state before = name->state;

    name->state = failing ? STATE_FAILING : walk->count ? STATE_GOOD : STATE_GONE;
    if (name->state == before)
        return;
    switch (name->state) {
    case STATE_FAILING: failing_log(name, failing); break;
    case STATE_GONE:
        log_event(LOG_WARNING, "the DNS has no address for a backend's name",
                  LOG_TEXT("name", str_of(name->host)),
                  LOG_NUMBER("addresses", name->result ? name->result->count : 0),
                  LOG_NUMBER("kept-seconds", name->resolver->options.gone_keep_ms / 1000));
        break;
    default:
        if (before != STATE_NEW)
            log_event(LOG_INFO, "look-ups of a backend's name work again",
                      LOG_TEXT("name", str_of(name->host)));
    }
}

/* ---- look-ups ---- */

/* `ms` less up to a quarter or so: names that were asked for together part, and so do edges. */
static uint64_t jittered(uint64_t ms)
{
    uint32_t random = 0;

    if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != sizeof(random))
        random = 0;
    return ms - ms / 20 - ((ms / 5) * (random >> 16) >> 16);
}

static uint64_t retry_ms(unsigned tries)
{
    uint64_t ms = (uint64_t)RETRY_MIN_MS
                  << (tries < RETRY_DOUBLINGS_MAX ? tries : RETRY_DOUBLINGS_MAX);

    return jittered(ms < RETRY_MAX_MS ? ms : RETRY_MAX_MS);
}

static uint64_t good_ms(const struct resolver *resolver, uint32_t ttl_s)
{
    uint64_t ms = (uint64_t)ttl_s * 1000;

    if (ms > TTL_MAX_MS)
        ms = TTL_MAX_MS;
    return ms < resolver->options.ttl_min_ms ? resolver->options.ttl_min_ms : ms;
}

/* What the DNS said takes the place of what it said before; a failure does not. */
static void lookup_learn(struct lookup *lookup, struct dns_answer *answer)
{
    if (!dns_answer_eq(lookup->answer, answer))
        snprintf(lookup->of->why, sizeof(lookup->of->why), "%s %s", dns_type_text(lookup->type),
                 lookup->name);
    free(lookup->answer);
    lookup->answer = answer;
}

static void turn(uv_timer_t *timer);

static void lookup_answered(void *context, int err, struct dns_answer *answer)
{
    struct lookup *lookup = context;
    struct resolver *resolver;
    uint64_t now;

    if (!lookup->of) {
        free(answer);
        free(lookup);
        return;
    }
    resolver = lookup->of->resolver;
    now = uv_now(resolver->options.loop);
    lookup->asking = false;
    lookup->of->walk_at = 0;
    uv_timer_start(&resolver->timer, turn, 0, 0);
    if (err == -ECANCELED) {
        lookup->due = now;
        return;
    }
    lookup->err = err;
    if (!failure(err))
        lookup_learn(lookup, answer);
    if (err) {
        lookup->due = now + retry_ms(lookup->tries++);
        return;
    }
    lookup->tries = 0;
    lookup->until = now + good_ms(resolver, answer->ttl_s);
    lookup->due = now + jittered(lookup->until - now);
}

static struct lookup *lookup_create(struct resolve_name *name, enum dns_type type,
                                    const char *asked)
{
    struct lookup *lookup = calloc(1, sizeof(*lookup));

    if (!lookup)
        return NULL;
    lookup->of = name;
    lookup->type = type;
    snprintf(lookup->name, sizeof(lookup->name), "%s", asked);
    lookup->next = name->lookups;
    name->lookups = lookup;
    return lookup;
}

static void lookup_destroy(struct lookup *lookup)
{
    free(lookup->answer);
    lookup->answer = NULL;
    lookup->of = NULL;
    if (!lookup->asking)
        free(lookup); /* else when the answer comes */
}

/* Those that the last walk did not come by. What is asked is waited for: it may be wanted then. */
static void lookups_sweep(struct resolve_name *name)
{
    for (struct lookup **at = &name->lookups; *at;) {
        struct lookup *lookup = *at;

        if (lookup->used || lookup->asking) {
            at = &lookup->next;
            continue;
        }
        *at = lookup->next;
        lookup_destroy(lookup);
    }
}

const struct dns_answer *resolve_ask(struct resolve_walk *walk, enum dns_type type,
                                     const char *asked)
{
    struct lookup *lookup = walk->of->lookups;

    while (lookup && (lookup->type != type || strcmp(lookup->name, asked) != 0))
        lookup = lookup->next;
    if (!lookup || !lookup->used) {
        if (walk->lookups == RESOLVE_LOOKUPS_MAX)
            return NULL;
        if (!lookup)
            lookup = lookup_create(walk->of, type, asked);
        if (!lookup) {
            walk->broken = true;
            return NULL;
        }
        walk->lookups++;
        lookup->used = true;
    }
    if (!lookup->asking && lookup->due <= walk->now) {
        lookup->asking = true;
        dns_ask(walk->of->resolver->dns, type, asked, lookup_answered, lookup);
    }
    walk->asking |= lookup->asking;
    return lookup->answer;
}

/* ---- and again ---- */

/* Nothing is left of the name. Has the last result been kept for long enough? */
static bool gone_for_good(struct resolve_name *name, uint64_t now)
{
    if (!name->result || !name->result->count)
        return true;
    if (!name->gone_at)
        name->gone_at = now + name->resolver->options.gone_keep_ms;
    if (now < name->gone_at)
        return false;
    snprintf(name->why, sizeof(name->why), "gone for %u s",
             name->resolver->options.gone_keep_ms / 1000);
    return true;
}

/* A walk that met no open question: what it came to is the truth of today. Returns whether that is
 * another one than before. */
static bool walk_done(struct resolve_name *name, struct resolve_walk *walk)
{
    const struct resolve_result *result, *old = name->result;

    state_set(name, walk);
    if (!walk->count && !gone_for_good(name, walk->now))
        return false;
    name->gone_at = 0;
    if (resolve_result_is(old, walk))
        return false;
    result = resolve_result_create(walk);
    if (!result) {
        walk->broken = true;
        return false;
    }
    if (old || result->count) /* else state_set() has told all */
        resolve_change_log(name, old, result);
    name->why[0] = 0;
    name->result = result;
    resolve_result_unref(&old);
    return true;
}

/* An answer that will come makes a walk by itself, and may decide whether the name is gone. */
static uint64_t next_walk(const struct resolve_name *name, const struct resolve_walk *walk)
{
    uint64_t at = name->gone_at && !walk->asking ? name->gone_at : UINT64_MAX;

    if (walk->broken)
        return walk->now + RETRY_MIN_MS;
    for (const struct lookup *lookup = name->lookups; lookup; lookup = lookup->next)
        if (lookup->used && !lookup->asking && lookup->due < at)
            at = lookup->due;
    return at;
}

/* changed() may do anything: nothing is touched after it. */
static void name_walk(struct resolve_name *name, uint64_t now)
{
    struct resolve_walk walk = {.of = name, .now = now};
    bool changed;

    for (struct lookup *lookup = name->lookups; lookup; lookup = lookup->next)
        lookup->used = false;
    resolve_walk(&walk);
    lookups_sweep(name);
    changed = !walk.asking && !walk.broken && walk_done(name, &walk);
    name->walk_at = next_walk(name, &walk);
    if (changed)
        name->changed(name->context, name->result);
}

static struct resolve_name *name_first(const struct resolver *resolver)
{
    struct resolve_name *first = resolver->names;

    for (struct resolve_name *name = first; name; name = name->next)
        if (name->walk_at < first->walk_at)
            first = name;
    return first;
}

static void turn(uv_timer_t *timer)
{
    struct resolver *resolver = timer->data;
    uint64_t now = uv_now(resolver->options.loop);
    struct resolve_name *name;

    while (!resolver->closing && (name = name_first(resolver)) != NULL && name->walk_at <= now)
        name_walk(name, now);
    if (resolver->closing)
        return;
    name = name_first(resolver);
    if (name && name->walk_at != UINT64_MAX)
        uv_timer_start(timer, turn, name->walk_at - now, 0);
    else
        uv_timer_stop(timer);
}

/* ---- open, start, stop, close ---- */

int resolver_open(const struct resolver_options *options, struct resolver **out)
{
    struct resolver *resolver = calloc(1, sizeof(*resolver));
    int err;

    if (!resolver)
        return -ENOMEM;
    resolver->options = *options;
    if (!resolver->options.query_timeout_ms)
        resolver->options.query_timeout_ms = QUERY_TIMEOUT_MS;
    if (!resolver->options.ttl_min_ms)
        resolver->options.ttl_min_ms = TTL_MIN_MS;
    if (!resolver->options.gone_keep_ms)
        resolver->options.gone_keep_ms = GONE_KEEP_MS;
    err = dns_open(options->loop, resolver->options.query_timeout_ms, &resolver->dns);
    if (err) {
        free(resolver);
        return err;
    }
    (void)uv_timer_init(options->loop, &resolver->timer); /* never fails */
    resolver->timer.data = resolver;
    *out = resolver;
    return 0;
}

static void resolver_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void name_destroy(struct resolve_name *name)
{
    while (name->lookups) {
        struct lookup *lookup = name->lookups;

        name->lookups = lookup->next;
        lookup_destroy(lookup);
    }
    resolve_result_unref(&name->result);
    free(name);
}

void resolver_close(struct resolver **resolver)
{
    struct resolver *mine = *resolver;

    *resolver = NULL;
    if (!mine)
        return;
    mine->closing = true;
    while (mine->names) {
        struct resolve_name *name = mine->names;

        mine->names = name->next;
        name_destroy(name);
    }
    dns_close(&mine->dns);
    uv_close((uv_handle_t *)&mine->timer, resolver_closed);
}

int resolve_start(struct resolver *resolver, const struct resolve_target *target,
                  resolve_changed changed, void *context, struct resolve_name **out)
{
    struct resolve_name *name;

    if (strlen(target->host) >= DNS_NAME_SIZE)
        return -EINVAL;
    name = calloc(1, sizeof(*name));
    if (!name)
        return -ENOMEM;
    name->resolver = resolver;
    snprintf(name->host, sizeof(name->host), "%s", target->host);
    name->port = target->port;
    name->transport = target->transport;
    name->changed = changed;
    name->context = context;
    name->next = resolver->names;
    resolver->names = name;
    uv_timer_start(&resolver->timer, turn, 0, 0);
    *out = name;
    return 0;
}

void resolve_stop(struct resolve_name **name)
{
    struct resolve_name *mine = *name, **at;

    *name = NULL;
    if (!mine)
        return;
    for (at = &mine->resolver->names; *at != mine;)
        at = &(*at)->next;
    *at = mine->next;
    name_destroy(mine);
}

uint64_t resolve_good_until(const struct resolve_name *name)
{
    uint64_t until = UINT64_MAX;

    if (!name->result || !name->result->count)
        return 0;
    for (const struct lookup *lookup = name->lookups; lookup; lookup = lookup->next)
        if (lookup->used && lookup->answer && lookup->until < until)
            until = lookup->until;
    return until;
}

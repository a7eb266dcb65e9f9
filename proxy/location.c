#include "proxy/location.h"

#include <errno.h>
#include <stdlib.h>

#include <utlist.h>
#include <xxhash.h>

enum { FLOW_BUCKETS = 1024 };

/* An AOR and its user in one configuration. */
struct entry {
    const struct conf_user *user;
    struct aor *aor;
};

/* Sorted by the users' names. */
struct entries {
    struct entry *list;
    unsigned count;
};

struct location {
    struct location_options options;
    uint64_t last_id;
    struct entries users, next; /* next: prepared */
    size_t binding_count;
    struct binding *flows[FLOW_BUCKETS]; /* bindings by their flow */
};

static int name_compare(struct str a, struct str b)
{
    size_t len = a.len < b.len ? a.len : b.len;
    int order = len ? memcmp(a.p, b.p, len) : 0;

    return order ? order : (a.len > b.len) - (a.len < b.len);
}

static int entry_compare(const void *a, const void *b)
{
    return name_compare(str_of(((const struct entry *)a)->user->name),
                        str_of(((const struct entry *)b)->user->name));
}

static int entry_search(const void *user, const void *entry)
{
    return name_compare(*(const struct str *)user,
                        str_of(((const struct entry *)entry)->user->name));
}

static struct aor *entry_find(const struct entries *entries, struct str user)
{
    const struct entry *entry = entries->count ? bsearch(&user, entries->list, entries->count,
                                                         sizeof(*entries->list), entry_search)
                                               : NULL;

    return entry ? entry->aor : NULL;
}

struct aor *location_find(const struct location *location, struct str user)
{
    return user.p ? entry_find(&location->users, user) : NULL;
}

struct aor *aor_ref(struct aor *aor)
{
    aor->references++;
    return aor;
}

void aor_unref(struct aor **aor)
{
    if (*aor && --(*aor)->references == 0)
        free(*aor);
    *aor = NULL;
}

static void entries_free(struct entries *entries)
{
    for (unsigned i = 0; i < entries->count; i++)
        aor_unref(&entries->list[i].aor);
    free(entries->list);
    *entries = (struct entries){0};
}

/* One that there is, or a new one. */
static struct aor *aor_take(struct location *location, const struct conf_user *user)
{
    struct aor *aor = entry_find(&location->users, str_of(user->name));

    if (!aor)
        aor = calloc(1, sizeof(*aor));
    if (!aor)
        return NULL;
    aor->location = location;
    return aor_ref(aor);
}

int location_prepare(struct location *location, const struct conf *conf)
{
    struct entries *next = &location->next;

    entries_free(next);
    next->list = calloc(conf->user_count + 1, sizeof(*next->list)); /* none is no error */
    if (!next->list)
        return -ENOMEM;
    while (next->count < conf->user_count) {
        const struct conf_user *user = &conf->users[next->count];
        struct aor *aor = aor_take(location, user);

        if (!aor) {
            entries_free(next);
            return -ENOMEM;
        }
        next->list[next->count++] = (struct entry){user, aor};
    }
    qsort(next->list, next->count, sizeof(*next->list), entry_compare);
    return 0;
}

static void binding_end(struct binding *binding, const char *why);

void location_take(struct location *location, const struct conf *conf)
{
    struct entries *next = &location->next;

    for (unsigned i = 0; i < location->users.count; i++) {
        struct aor *aor = location->users.list[i].aor;

        if (entry_find(next, str_of(aor->user->name)))
            continue;
        while (aor->bindings)
            binding_end(aor->bindings, "user removed");
        aor->user = NULL;
    }
    for (unsigned i = 0; i < next->count; i++)
        next->list[i].aor->user = next->list[i].user;
    location->options.conf = conf;
    entries_free(&location->users);
    location->users = *next;
    *next = (struct entries){0};
}

int location_create(const struct location_options *options, struct location **out)
{
    struct location *location = calloc(1, sizeof(*location));

    if (!location)
        return -ENOMEM;
    location->options = *options;
    if (location_prepare(location, options->conf)) {
        free(location);
        return -ENOMEM;
    }
    location_take(location, options->conf);
    *out = location;
    return 0;
}

/* ---- comparing URIs ---- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Take one character, an escape undone. */
static char next_char(struct str *rest)
{
    char c = rest->p[0];
    size_t taken = 1;

    if (c == '%' && rest->len >= 3) {
        int high = hex_digit(rest->p[1]), low = hex_digit(rest->p[2]);

        if (high >= 0 && low >= 0) {
            c = (char)(high << 4 | low);
            taken = 3;
        }
    }
    rest->p += taken;
    rest->len -= taken;
    return c;
}

struct str location_user(struct arena *arena, const struct sip_uri *uri)
{
    struct str rest = uri->user;
    char *text;
    size_t len = 0;

    if (!rest.p || !memchr(rest.p, '%', rest.len))
        return rest;
    text = arena_alloc(arena, rest.len);
    if (!text)
        return (struct str){NULL, 0};
    while (rest.len)
        text[len++] = next_char(&rest);
    return (struct str){text, len};
}

static bool user_equal(struct str a, struct str b)
{
    while (a.len && b.len)
        if (next_char(&a) != next_char(&b))
            return false;
    return !a.len && !b.len;
}

/* ";a=b;c" one by one. */
static bool param_next(struct str *rest, struct str *name)
{
    const char *end;
    size_t len;

    if (!rest->len)
        return false;
    rest->p++; /* the ';' */
    rest->len--;
    end = memchr(rest->p, ';', rest->len);
    len = end ? (size_t)(end - rest->p) : rest->len;
    *name = (struct str){rest->p, len};
    rest->p += len;
    rest->len -= len;
    end = memchr(name->p, '=', name->len);
    if (end)
        name->len = (size_t)(end - name->p);
    *name = str_trim(*name);
    return true;
}

/* A parameter of `a` that decides must be in `b` too, and those in both must be the same. */
static bool params_covered(struct str a, struct str b)
{
    static const struct str deciding[] = {
        {"transport", 9},
        {"user",      4},
        {"ttl",       3},
        {"method",    6},
        {"maddr",     5},
    };
    struct str rest = a, name, in_a, in_b;

    while (param_next(&rest, &name)) {
        if (!name.len || !sip_param(a, name, &in_a))
            continue;
        if (sip_param(b, name, &in_b)) {
            if (!str_eq_nocase(in_a, in_b))
                return false;
            continue;
        }
        for (size_t i = 0; i < ARRAY_LEN(deciding); i++)
            if (str_eq_nocase(name, deciding[i]))
                return false;
    }
    return true;
}

bool location_uri_equal(const struct sip_uri *a, const struct sip_uri *b)
{
    return str_eq_nocase(a->scheme, b->scheme) && !a->user.p == !b->user.p &&
           user_equal(a->user, b->user) && str_eq(a->password, b->password) &&
           str_eq_nocase(a->host, b->host) && a->port == b->port &&
           params_covered(a->params, b->params) && params_covered(b->params, a->params) &&
           str_eq_nocase(a->headers, b->headers);
}

/* ---- bindings ---- */

static struct binding **flow_bucket(struct location *location, const uint8_t flow[FLOW_ID_LEN])
{
    return &location->flows[XXH3_64bits(flow, FLOW_ID_LEN) % FLOW_BUCKETS];
}

/* Take a binding out of its AOR's list. */
static struct binding *binding_unlink(struct binding **link)
{
    struct binding *binding = *link;
    struct location *location = binding->aor->location;

    *link = binding->next;
    binding->aor->count--;
    location->binding_count--;
    timer_stop(location->options.timers, &binding->expiry);
    if (binding->has_flow)
        DL_DELETE2(*flow_bucket(location, binding->flow), binding, flow_prev, flow_next);
    return binding;
}

/* It ends by itself, whatever its user wants. */
static void binding_end(struct binding *binding, const char *why)
{
    const struct location_options *options = &binding->aor->location->options;
    struct binding **link = &binding->aor->bindings;

    while (*link != binding)
        link = &(*link)->next;
    (void)binding_unlink(link);
    options->ended(options->context, binding, why);
    free(binding);
}

void location_destroy(struct location **location)
{
    struct location *gone = *location;

    if (!gone)
        return;
    for (unsigned i = 0; i < gone->users.count; i++)
        while (gone->users.list[i].aor->bindings)
            free(binding_unlink(&gone->users.list[i].aor->bindings));
    entries_free(&gone->users);
    entries_free(&gone->next);
    free(gone);
    *location = NULL;
}

size_t location_bindings(const struct location *location)
{
    return location->binding_count;
}

static void binding_expired(struct timer *timer, uint64_t now)
{
    (void)now;
    binding_end((struct binding *)((char *)timer - offsetof(struct binding, expiry)), "expired");
}

static struct str text_take(char **at, struct str s)
{
    struct str copy = {s.p ? *at : NULL, s.len};

    if (s.p && s.len)
        memcpy(*at, s.p, s.len);
    *at += s.len;
    return copy;
}

/* The same URI in a copy of its text. */
static struct sip_uri uri_rebase(const struct sip_uri *uri, struct str text)
{
    struct sip_uri copy = *uri;
    struct str *const parts[] = {&copy.user, &copy.password, &copy.host, &copy.params,
                                 &copy.headers};

    copy.text = text;
    copy.scheme = uri->scheme.len == 3 ? STR("sip") : STR("sips");
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        if (parts[i]->p)
            parts[i]->p = text.p + (parts[i]->p - uri->text.p);
    return copy;
}

/* A new binding, not yet one of its AOR's. */
static int binding_create(const struct location_update *update, const struct contact_change *change,
                          struct binding **out)
{
    size_t len =
        change->uri.text.len + change->params.len + change->instance.len + update->call_id.len;
    struct binding *binding;
    char *at;

    for (unsigned i = 0; i < update->path_count; i++)
        len += update->paths[i].len;
    if (len > BINDING_BYTES_MAX)
        return -EMSGSIZE;
    binding = calloc(1, sizeof(*binding) + len);
    if (!binding)
        return -ENOMEM;
    at = binding->text;
    binding->uri = uri_rebase(&change->uri, text_take(&at, change->uri.text));
    binding->params = text_take(&at, change->params);
    binding->instance = text_take(&at, change->instance);
    binding->reg_id = change->reg_id;
    binding->has_flow = change->has_flow;
    memcpy(binding->flow, change->flow, FLOW_ID_LEN);
    binding->call_id = text_take(&at, update->call_id);
    binding->cseq = update->cseq;
    binding->path_count = update->path_count;
    for (unsigned i = 0; i < update->path_count; i++)
        binding->paths[i] = text_take(&at, update->paths[i]);
    *out = binding;
    return 0;
}

/* Is this the binding that the change is about: the same URI, or the same flow of the same device
 * (S5, RFC 5626 6)? */
static bool binding_matches(const struct binding *binding, const struct contact_change *change)
{
    if (binding->reg_id && change->reg_id && binding->instance.p && change->instance.p)
        return binding->reg_id == change->reg_id && str_eq(binding->instance, change->instance);
    return location_uri_equal(&binding->uri, &change->uri);
}

/* Where the list has it; at the end of the list (*link NULL): nowhere. */
static struct binding **binding_find(struct aor *aor, const struct contact_change *change)
{
    struct binding **link = &aor->bindings;

    while (*link && !binding_matches(*link, change))
        link = &(*link)->next;
    return link;
}

/* -ESTALE: the binding is newer than the request. -EALREADY: it is what this request made. */
static int order_check(const struct binding *binding, const struct location_update *update)
{
    if (!str_eq(binding->call_id, update->call_id) || update->cseq > binding->cseq)
        return 0;
    return update->cseq == binding->cseq ? -EALREADY : -ESTALE;
}

static void binding_enter(struct aor *aor, struct binding *binding, unsigned expires_s,
                          uint64_t now)
{
    struct location *location = aor->location;

    binding->aor = aor;
    binding->id = ++location->last_id;
    binding->expires_at = now + (uint64_t)expires_s * 1000;
    binding->next = aor->bindings;
    aor->bindings = binding;
    aor->count++;
    location->binding_count++;
    if (binding->has_flow)
        DL_APPEND2(*flow_bucket(location, binding->flow), binding, flow_prev, flow_next);
    timer_start(location->options.timers, &binding->expiry, binding->expires_at, binding_expired);
}

/* Bindings beyond the limit: the oldest are last. */
static void bindings_trim(struct aor *aor, struct location_update *update)
{
    struct binding **link = &aor->bindings;

    for (unsigned n = aor->location->options.conf->registrar.max_bindings; *link && n; n--)
        link = &(*link)->next;
    while (*link) {
        free(binding_unlink(link));
        update->replaced++;
    }
}

/* Everything that can fail, before anything is changed. made[i] NULL: nothing to enter. */
static int update_prepare(struct aor *aor, const struct location_update *update,
                          struct binding **made)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < update->change_count; i++) {
        const struct contact_change *change = &update->changes[i];
        const struct binding *old = *binding_find(aor, change);
        int err = old ? order_check(old, update) : 0;

        if (err == -ESTALE)
            return err;
        if (!change->expires_s || err == -EALREADY)
            continue;
        if (++kept > aor->location->options.conf->registrar.max_bindings)
            return -ENOSPC;
        err = binding_create(update, change, &made[i]);
        if (err)
            return err;
    }
    return 0;
}

int location_update(struct aor *aor, struct location_update *update, uint64_t now)
{
    struct binding **made = calloc(update->change_count + 1, sizeof(struct binding *));
    int err = made ? update_prepare(aor, update, made) : -ENOMEM;

    for (unsigned i = 0; !err && i < update->change_count; i++) {
        const struct contact_change *change = &update->changes[i];
        struct binding **link = binding_find(aor, change);
        bool found = *link;

        if (found && !made[i] && order_check(*link, update))
            continue; /* seen already */
        if (found)
            free(binding_unlink(link));
        if (made[i]) {
            binding_enter(aor, made[i], change->expires_s, now);
            *(found ? &update->refreshed : &update->added) += 1;
        } else if (found) {
            update->removed++;
        }
        made[i] = NULL;
    }
    if (!err)
        bindings_trim(aor, update);
    for (unsigned i = 0; made && i < update->change_count; i++)
        free(made[i]);
    free(made);
    return err;
}

int location_clear(struct aor *aor, struct location_update *update)
{
    for (const struct binding *binding = aor->bindings; binding; binding = binding->next)
        if (order_check(binding, update) == -ESTALE)
            return -ESTALE;
    for (struct binding **link = &aor->bindings; *link;) {
        if (order_check(*link, update) == -EALREADY) {
            link = &(*link)->next;
            continue;
        }
        free(binding_unlink(link));
        update->removed++;
    }
    return 0;
}

bool location_remove(struct aor *aor, uint64_t id)
{
    for (struct binding **link = &aor->bindings; *link; link = &(*link)->next) {
        if ((*link)->id == id) {
            free(binding_unlink(link));
            return true;
        }
    }
    return false;
}

void location_flow_gone(struct location *location, const uint8_t flow[FLOW_ID_LEN])
{
    struct binding *binding, *next;

    DL_FOREACH_SAFE2(*flow_bucket(location, flow), binding, next, flow_next)
    if (memcmp(binding->flow, flow, FLOW_ID_LEN) == 0)
        binding_end(binding, "flow gone");
}

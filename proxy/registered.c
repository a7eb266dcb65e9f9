#include "proxy/registered.h"

#include <stdio.h>
#include <stdlib.h>

#include <xxhash.h>

#include "proxy/text.h"
#include "proxy/value.h"

enum {
    CHANGES_MAX = 8,  /* of one request */
    EXPIRES_S = 3600, /* where nobody says (RFC 3261 10.2.1.1) */
    EXPIRES_MAX_S = 1 << 30,
    PER_S = 1000,
};

struct change {
    uint32_t contact;
    uint32_t expires_s; /* as asked for; 0: it ends */
};

struct registering {
    bool all_end; /* Contact: * */
    unsigned count;
    struct change changes[CHANGES_MAX];
    size_t aor_len;
    char aor[];
};

static uint32_t contact_hash(struct str uri)
{
    return (uint32_t)XXH3_64bits(uri.p, uri.len);
}

/* The parameter of a Contact, or the header, or what is given. */
static uint32_t expires_of(const struct sip_msg *msg, struct str params, uint32_t otherwise)
{
    struct str text = {0};
    uint64_t seconds;

    if (!sip_param(params, STR("expires"), &text))
        text = sip_value(msg, HEADER_EXPIRES);
    if (!text.p || str_to_uint(text, UINT32_MAX, &seconds))
        return otherwise;
    return seconds < EXPIRES_MAX_S ? (uint32_t)seconds : EXPIRES_MAX_S;
}

/* All that is said there of bindings, in a number; 0: nothing is. */
static uint64_t said(const struct sip_msg *msg)
{
    struct str expires = sip_value(msg, HEADER_EXPIRES);
    uint64_t hash = 0;

    for (int i = -1; (i = sip_find(msg, HEADER_CONTACT, (unsigned)(i + 1))) >= 0;)
        hash = XXH3_64bits_withSeed(msg->headers[i].value.p, msg->headers[i].value.len, hash);
    return expires.len ? XXH3_64bits_withSeed(expires.p, expires.len, hash) : hash;
}

/* ---- what is asked ---- */

uint64_t registering_key(const struct sip_msg *request)
{
    struct str to = sip_value(request, HEADER_TO);

    if (sip_find(request, HEADER_CONTACT, 0) < 0)
        return 0;
    return XXH3_64bits_withSeed(to.p, to.len, said(request));
}

static struct registered **known(struct registered **list, uint64_t key)
{
    while (*list && (*list)->key != key)
        list = &(*list)->next;
    return list;
}

bool registered_has(struct registered *list, uint64_t key)
{
    return *known(&list, key) != NULL;
}

/* The AOR in To (RFC 3261 10.2), without password, port and parameters. */
static struct registering *registering_create(const struct text_addr *to)
{
    struct registering *registering;
    struct text_uri uri = to->pieces;
    struct str scheme = uri.scheme, user = uri.user.p ? uri.user : STR("");
    const char *colon;
    bool bare;
    size_t size;

    if (!uri.host.p)
        return NULL;
    colon = memchr(user.p, ':', user.len);
    user.len = colon ? (size_t)(colon - user.p) : user.len;
    bare = memchr(uri.host.p, ':', uri.host.len); /* IPv6 */
    size = scheme.len + user.len + uri.host.len + sizeof(":@[]");
    if (size > REGISTERED_AOR_MAX)
        return NULL;
    registering = calloc(1, sizeof(*registering) + size);
    if (!registering)
        return NULL;
    registering->aor_len = (size_t)snprintf(
        registering->aor, size,
        bare ? STR_FMT ":" STR_FMT "%s[" STR_FMT "]" : STR_FMT ":" STR_FMT "%s" STR_FMT,
        STR_ARG(scheme), STR_ARG(user), user.len ? "@" : "", STR_ARG(uri.host));
    return registering;
}

struct registering *registering_read(const struct sip_msg *request)
{
    struct registering *registering = NULL;
    int to_index = sip_find(request, HEADER_TO, 0);
    struct text_addr to;

    if (sip_find(request, HEADER_CONTACT, 0) >= 0 && to_index >= 0 &&
        sip_addr_cut(request, (unsigned)to_index, &to))
        registering = registering_create(&to);
    if (!registering)
        return NULL;
    for (int i = -1; (i = sip_find(request, HEADER_CONTACT, (unsigned)(i + 1))) >= 0;) {
        struct str value = request->headers[i].value;
        struct text_addr addr;

        if (str_eq(value, STR("*")))
            registering->all_end = true;
        else if (registering->count < CHANGES_MAX && sip_addr_cut(request, (unsigned)i, &addr))
            registering->changes[registering->count++] = (struct change){
                contact_hash(addr.uri), expires_of(request, addr.params, EXPIRES_S)};
    }
    return registering;
}

/* ---- what is granted ---- */

/* The registrar lists all bindings of the AOR. One that it spells in another way isn't found. */
static uint32_t granted(const struct change *change, const struct sip_msg *response)
{
    for (int i = -1; (i = sip_find(response, HEADER_CONTACT, (unsigned)(i + 1))) >= 0;) {
        struct text_addr addr;

        if (sip_addr_cut(response, (unsigned)i, &addr) && contact_hash(addr.uri) == change->contact)
            return expires_of(response, addr.params, change->expires_s);
    }
    return expires_of(response, STR(""), change->expires_s);
}

static bool is_of(const struct registered *one, const struct registering *registering)
{
    return strlen(one->aor) == registering->aor_len &&
           !memcmp(one->aor, registering->aor, registering->aor_len);
}

static void forget(const struct registering *registering, const struct change *change,
                   struct registered **list)
{
    while (*list) {
        struct registered *one = *list;

        if (!is_of(one, registering) || (change && one->contact != change->contact)) {
            list = &one->next;
            continue;
        }
        *list = one->next;
        free(one);
    }
}

static void add(const struct registering *registering, const struct change *change,
                struct registered **list, uint64_t key, const struct sip_msg *response,
                uint64_t now)
{
    struct registered *one = calloc(1, sizeof(*one) + registering->aor_len + 1);

    if (!one)
        return;
    one->next = *list;
    one->contact = change->contact;
    one->asked_s = change->expires_s;
    one->granted_s = granted(change, response);
    one->until_s = (uint32_t)(now / PER_S) + one->granted_s;
    one->key = key;
    one->answer = said(response);
    memcpy(one->aor, registering->aor, registering->aor_len);
    *list = one;
    for (unsigned i = 0; *list && i < REGISTERED_MAX; i++)
        list = &(*list)->next;
    registered_clear(list);
}

/* The same as the last time: nothing is new but how long it lasts, if that. */
static void refresh(struct registered **list, uint64_t key, const struct sip_msg *response,
                    uint64_t now)
{
    struct registered **link = known(list, key), *one = *link;
    uint64_t answer = said(response);

    if (!one)
        return;
    if (one->answer != answer)
        one->granted_s = granted(&(struct change){one->contact, one->asked_s}, response);
    one->answer = answer;
    one->until_s = (uint32_t)(now / PER_S) + one->granted_s;
    *link = one->next;
    one->next = *list;
    *list = one;
}

void registering_done(const struct registering *registering, uint64_t key, struct registered **list,
                      const struct sip_msg *response, uint64_t now)
{
    if (!registering) {
        refresh(list, key, response, now);
        return;
    }
    if (registering->all_end)
        forget(registering, NULL, list);
    for (unsigned i = 0; i < registering->count; i++) {
        const struct change *change = &registering->changes[i];

        forget(registering, change, list);
        if (change->expires_s)
            add(registering, change, list, registering->count == 1 ? key : 0, response, now);
    }
}

const struct registered *registered_next(const struct registered *from, uint64_t now)
{
    while (from && from->until_s <= now / PER_S)
        from = from->next;
    return from;
}

void registered_clear(struct registered **list)
{
    struct registered *one = *list, *next;

    for (*list = NULL; one; one = next) {
        next = one->next;
        free(one);
    }
}

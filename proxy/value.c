/* Values by libosip2's parsers; its types end here. It decodes escapes and sorts parameters away,
 * so pieces "as spelled" are cut from the text (text.c), and what osip read must agree with them:
 * a value with two readings is refused (N8). */
#include "proxy/value.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <osipparser2/osip_parser.h>

#include "proxy/text.h"

/* osip appends to lists from their front: the time for n parameters grows with n squared. */
enum { URI_MAX = 4096, ADDR_MAX = 4 * URI_MAX, SEPARATORS_MAX = 64 };

/* What libosip2 makes of one value, given back all at once: where the heap runs out inside of it,
 * it leaks, and reports a bad value. The bounds above keep it far below this size. */
enum { POOL_SIZE = 65536 };

static _Thread_local struct {
    bool open;
    size_t used;
    _Alignas(max_align_t) char bytes[POOL_SIZE];
} pool;

static void pool_open(void)
{
    pool.open = true;
    pool.used = 0;
}

static void pool_close(void)
{
    pool.open = false;
}

static bool pool_has(const void *p)
{
    return (const char *)p >= pool.bytes && (const char *)p < pool.bytes + POOL_SIZE;
}

static void *pool_alloc(size_t size)
{
    size_t align = _Alignof(max_align_t), taken = (size + align - 1) & ~(align - 1);
    void *p = pool.bytes + pool.used;

    if (!pool.open)
        return malloc(size);
    if (taken > POOL_SIZE - pool.used)
        return NULL;
    pool.used += taken;
    return p;
}

static void *pool_realloc(void *p, size_t size)
{
    return pool.open ? NULL : realloc(p, size); /* the parsers of values don't */
}

static void pool_free(void *p)
{
    if (!pool_has(p))
        free(p);
}

static bool bounded(struct str s, const char *separators)
{
    unsigned count = 0;

    if (!s.len || s.len > URI_MAX || text_has_control(s))
        return false;
    for (size_t i = 0; i < s.len; i++)
        if (strchr(separators, s.p[i]))
            count++;
    return count <= SEPARATORS_MAX;
}

static struct str part(struct str s, size_t from, size_t to)
{
    return (struct str){s.p + from, to - from};
}

/* Did osip read the same host and port? It keeps or drops the brackets of IPv6, and blanks. */
static bool host_port_agree(const char *osip_host, const char *osip_port, struct str host, int port)
{
    struct str theirs = str_trim(str_of(osip_host)), number = str_trim(str_of(osip_port));
    uint64_t value = 0;

    if (theirs.len >= 2 && theirs.p[0] == '[' && theirs.p[theirs.len - 1] == ']')
        theirs = part(theirs, 1, theirs.len - 1);
    return str_eq_nocase(theirs, host) &&
           (!number.len || !str_to_uint(number, UINT16_MAX, &value)) && (int)value == port;
}

/* sip and sips: the text after "sip:" in pieces. At most one '@': more would be two readings. */
static bool sip_uri_cut(struct str rest, struct sip_uri *uri)
{
    const char *at = memchr(rest.p, '@', rest.len);
    size_t i = 0;

    if (at) {
        struct str info = {rest.p, (size_t)(at - rest.p)};
        const char *colon = info.len ? memchr(info.p, ':', info.len) : NULL;

        rest = part(rest, info.len + 1, rest.len);
        if (!info.len || colon == info.p || (rest.len && memchr(rest.p, '@', rest.len)))
            return false;
        uri->user = info;
        if (colon) {
            uri->user.len = (size_t)(colon - info.p);
            uri->password = part(info, uri->user.len + 1, info.len);
        }
    }
    while (i < rest.len && rest.p[i] != ';' && rest.p[i] != '?')
        i++;
    if (text_has_any(part(rest, 0, i), " \t") ||
        !text_host_port_cut(part(rest, 0, i), &uri->host, &uri->port))
        return false;
    rest = part(rest, i, rest.len);
    for (i = 0; i < rest.len && rest.p[i] != '?';)
        i++;
    uri->params = part(rest, 0, i);
    uri->headers = part(rest, i, rest.len);
    return true;
}

/* 0, -EINVAL: libosip2 reads something else, or -ENOMEM. */
static int osip_uri_check(struct arena *arena, const struct sip_uri *uri)
{
    struct str text = uri->text;
    osip_uri_t *parsed;
    bool agrees;

    if (uri->password.p && !uri->password.len) { /* RFC 3261 25.1 allows it, osip does not */
        size_t colon = (size_t)(uri->password.p - text.p) - 1;

        text = arena_printf(arena, "%.*s%s", (int)colon, text.p, text.p + colon + 1);
    }
    if (!text.p)
        return -ENOMEM;
    pool_open();
    agrees = !osip_uri_init(&parsed) && !osip_uri_parse(parsed, text.p) && parsed->scheme &&
             str_eq_nocase(str_of(parsed->scheme), uri->scheme) &&
             host_port_agree(parsed->host, parsed->port, uri->host, uri->port) &&
             (parsed->username != NULL) == (uri->user.p != NULL);
    pool_close();
    return agrees ? 0 : -EINVAL;
}

static struct str lower_case(struct arena *arena, struct str s)
{
    char *p = arena_alloc(arena, s.len + 1);

    if (!p)
        return (struct str){NULL, 0};
    for (size_t i = 0; i < s.len; i++)
        p[i] = (char)(s.p[i] >= 'A' && s.p[i] <= 'Z' ? s.p[i] + ('a' - 'A') : s.p[i]);
    p[s.len] = '\0';
    return (struct str){p, s.len};
}

int sip_uri_parse(struct arena *arena, struct str text, struct sip_uri *out)
{
    struct sip_uri uri = {0};
    struct str rest;

    text = str_trim(text);
    if (!bounded(text, ";&?=,") || text_has_any(text, " \t<>\""))
        return -EINVAL;
    uri.scheme = text_scheme(text);
    if (!uri.scheme.p || text.len == uri.scheme.len + 1)
        return -EINVAL;
    uri.text = arena_dup(arena, text); /* with the NUL that osip wants */
    uri.scheme = lower_case(arena, uri.scheme);
    if (!uri.text.p || !uri.scheme.p)
        return -ENOMEM;

    rest = part(uri.text, uri.scheme.len + 1, uri.text.len);
    uri.params = uri.headers = part(rest, rest.len, rest.len);
    if (str_eq(uri.scheme, STR("sip")) || str_eq(uri.scheme, STR("sips"))) {
        int err = sip_uri_cut(rest, &uri) ? osip_uri_check(arena, &uri) : -EINVAL;

        if (err)
            return err;
    } else if (str_eq(uri.scheme, STR("tel"))) {
        size_t i = 0;

        while (i < rest.len && rest.p[i] != ';')
            i++;
        if (!i)
            return -EINVAL;
        uri.user = part(rest, 0, i);
        uri.params = part(rest, i, rest.len);
        uri.headers = part(rest, rest.len, rest.len);
    }
    *out = uri;
    return 0;
}

int sip_via_parse(struct arena *arena, struct str text, struct sip_via *out)
{
    struct sip_via via = {0};
    struct text_via cut;
    osip_via_t *parsed;
    bool agrees;

    text = str_trim(text);
    if (!bounded(text, ";,"))
        return -EINVAL;
    text = arena_dup(arena, text);
    if (!text.p)
        return -ENOMEM;
    if (!text_via_cut(text, &cut) || !text_host_port_cut(cut.sent_by, &via.host, &via.port))
        return -EINVAL;

    pool_open();
    agrees = !osip_via_init(&parsed) && !osip_via_parse(parsed, text.p) &&
             host_port_agree(parsed->host, parsed->port, via.host, via.port);
    pool_close();
    if (!agrees)
        return -EINVAL;

    via.transport = cut.transport;
    if (!sip_param(cut.params, STR("branch"), &via.branch))
        via.branch = (struct str){NULL, 0};
    if (!sip_param(cut.params, STR("received"), &via.received))
        via.received = (struct str){NULL, 0};
    via.rport = sip_param(cut.params, STR("rport"), NULL);
    *out = via;
    return 0;
}

int sip_addr_parse(struct arena *arena, struct str text, struct sip_addr *out)
{
    struct sip_addr addr = {0};
    struct text_addr cut;
    int err;

    text = str_trim(text);
    if (!text.len || text.len > ADDR_MAX || text_has_control(text))
        return -EINVAL;
    text = arena_dup(arena, text);
    if (!text.p)
        return -ENOMEM;
    if (!text_addr_cut(text, &cut))
        return -EINVAL;
    err = sip_uri_parse(arena, cut.uri, &addr.uri);
    if (err)
        return err;
    addr.display = cut.display;
    addr.params = cut.params;
    addr.brackets = cut.brackets;
    *out = addr;
    return 0;
}

static void quiet(const char *file, int line, osip_trace_level_t level, const char *format,
                  va_list args)
{
    (void)file;
    (void)line;
    (void)level;
    (void)format;
    (void)args;
}

void sip_values_init(void)
{
    osip_set_allocators(pool_alloc, pool_realloc, pool_free);
    parser_init();
    /* Debian's build else logs every bad value to standard output. */
    osip_trace_initialize_func(TRACE_LEVEL0, quiet);
    for (int level = TRACE_LEVEL0; level < END_TRACE_LEVEL; level++)
        osip_trace_disable_level((osip_trace_level_t)level);
}

/* Values, cut from their text as spelled (text.c). Unless one is plain, libosip2 reads it as well
 * and must agree: a value with two readings is refused (N8). Its types end here. */
#include "proxy/value.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <osipparser2/osip_parser.h>

#include "proxy/text.h"

/* osip appends to lists from their front: the time for n parameters grows with n squared. */
enum { URI_MAX = 4096, ADDR_MAX = 4 * URI_MAX, SEPARATORS_MAX = 64 };
#define URI_SEPARATORS ";&?=,"

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

/* Few enough for osip. */
static bool bounded(struct str s, const char *separators)
{
    unsigned count = 0;

    if (!s.len || s.len > URI_MAX)
        return false;
    for (size_t i = 0; s.len > SEPARATORS_MAX && i < s.len; i++)
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

/* Index of the first byte from `at` on that is '%' or in no token: nothing that anyone decodes
 * or takes for a delimiter. */
static size_t plain_end(struct str s, size_t at)
{
    while (at < s.len && s.p[at] != '%' && text_token_char[(unsigned char)s.p[at]])
        at++;
    return at;
}

/* Nothing, or ";name" and ";name=value" of plain bytes. */
static bool params_plain(struct str params)
{
    for (size_t i = 0, end; i < params.len; i = end) {
        end = plain_end(params, i + 1);
        if (params.p[i] != ';' || end == i + 1)
            return false;
        if (end < params.len && params.p[end] == '=') {
            i = end + 1;
            end = plain_end(params, i);
            if (end == i)
                return false;
        }
    }
    return true;
}

/* No IPv6, and no zeros before the port that stands from there to `end`. */
static bool host_plain(struct str host, const char *end)
{
    return !memchr(host.p, ':', host.len) &&
           end - (host.p + host.len) < (ptrdiff_t)sizeof(":65535");
}

/* What nearly all are: nobody can read it in another way, and osip need not be asked. */
static bool uri_plain(const struct sip_uri *uri)
{
    return !uri->password.p && !uri->headers.len && plain_end(uri->user, 0) == uri->user.len &&
           host_plain(uri->host, uri->params.p) && params_plain(uri->params);
}

/* 0, -EINVAL: libosip2 reads something else, or -ENOMEM. */
static int osip_uri_check(struct arena *arena, const struct sip_uri *uri)
{
    struct str text = uri->text;
    osip_uri_t *parsed;
    bool agrees;

    if (uri->password.p && !uri->password.len) { /* RFC 3261 25.1 allows it, osip does not */
        size_t colon = (size_t)(uri->password.p - text.p) - 1;

        text = arena_printf(arena, STR_FMT STR_FMT, (int)colon, text.p,
                            STR_ARG(part(text, colon + 1, text.len)));
    } else {
        text = arena_dup(arena, text); /* with the NUL that osip wants */
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

void uri_of(struct str text, const struct text_uri *pieces, struct sip_uri *out)
{
    const char *colon, *headers;
    struct str rest = pieces->rest;

    *out = (struct sip_uri){.text = text,
                            .scheme = pieces->scheme,
                            .user = pieces->user,
                            .host = pieces->host,
                            .port = pieces->port};
    if (!pieces->host.p)
        return;
    colon = out->user.len ? memchr(out->user.p, ':', out->user.len) : NULL;
    if (colon) {
        out->user.len = (size_t)(colon - out->user.p);
        out->password = part(pieces->user, out->user.len + 1, pieces->user.len);
    }
    headers = rest.len ? memchr(rest.p, '?', rest.len) : NULL;
    out->params = part(rest, 0, headers ? (size_t)(headers - rest.p) : rest.len);
    out->headers = part(rest, out->params.len, rest.len);
}

/* From its pieces in `text`, which is in the arena. */
static int uri_read(struct arena *arena, struct str text, const struct text_uri *cut,
                    struct sip_uri *out)
{
    struct str rest = part(text, cut->scheme.len + 1, text.len);
    struct sip_uri uri;

    uri_of(text, cut, &uri);
    if (!str_eq(uri.scheme, STR("sip")))
        uri.scheme = lower_case(arena, uri.scheme);
    if (!uri.scheme.p)
        return -ENOMEM;
    if (cut->host.p) {
        int err;

        if (cut->user.p && !cut->user.len)
            return -EINVAL;
        err = uri_plain(&uri) ? 0 : osip_uri_check(arena, &uri);
        if (err)
            return err;
        *out = uri;
        return 0;
    }
    uri.params = uri.headers = part(rest, rest.len, rest.len);
    if (str_eq(uri.scheme, STR("tel"))) {
        const char *semicolon = memchr(rest.p, ';', rest.len);
        size_t i = semicolon ? (size_t)(semicolon - rest.p) : rest.len;

        if (!i)
            return -EINVAL;
        uri.user = part(rest, 0, i);
        uri.params = part(rest, i, rest.len);
    }
    *out = uri;
    return 0;
}

int sip_uri_parse(struct arena *arena, struct str text, struct sip_uri *out)
{
    struct text_uri cut;

    text = str_trim(text);
    if (!bounded(text, URI_SEPARATORS) || text_has_control(text) || text_has_any(text, " \t<>\""))
        return -EINVAL;
    text = arena_dup(arena, text);
    if (!text.p)
        return -ENOMEM;
    return text_uri_cut(text, &cut) ? uri_read(arena, text, &cut, out) : -EINVAL;
}

/* What nearly all are, as above. */
static bool via_plain(struct str text, const struct text_via *cut)
{
    return text.p == cut->protocol.p && cut->version.p == cut->protocol.p + cut->protocol.len + 1 &&
           cut->transport.p == cut->version.p + cut->version.len + 1 &&
           cut->transport.p[cut->transport.len] == ' ' &&
           cut->sent_by.p == cut->transport.p + cut->transport.len + 1 &&
           cut->params.p == cut->sent_by.p + cut->sent_by.len &&
           !text_has_any(cut->sent_by, " \t") && host_plain(cut->host, cut->params.p) &&
           params_plain(cut->params);
}

static bool osip_via_agrees(struct str text, const struct sip_via *via)
{
    osip_via_t *parsed;
    bool agrees;

    pool_open();
    agrees = !osip_via_init(&parsed) && !osip_via_parse(parsed, text.p) &&
             host_port_agree(parsed->host, parsed->port, via->host, via->port);
    pool_close();
    return agrees;
}

int sip_via_parse(struct arena *arena, struct str text, struct sip_via *out)
{
    struct sip_via via = {0};
    struct text_via cut;

    text = str_trim(text);
    if (!bounded(text, ";,") || text_has_control(text))
        return -EINVAL;
    text = arena_dup(arena, text);
    if (!text.p)
        return -ENOMEM;
    if (!text_via_cut(text, &cut))
        return -EINVAL;
    via.host = cut.host;
    via.port = cut.port;
    if (!via_plain(text, &cut) && !osip_via_agrees(text, &via))
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
    if (!text_addr_cut(text, &cut) || !bounded(cut.uri, URI_SEPARATORS))
        return -EINVAL;
    err = uri_read(arena, cut.uri, &cut.pieces, &addr.uri);
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

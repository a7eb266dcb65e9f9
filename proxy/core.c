#include "proxy/core.h"

#include <arpa/inet.h>
#include <stdio.h>

#include <xxhash.h>

static bool same_ip(const struct core_addr *a, const struct core_addr *b)
{
    if (a->sa.sa_family != b->sa.sa_family)
        return false;
    if (a->sa.sa_family == AF_INET)
        return a->in.sin_addr.s_addr == b->in.sin_addr.s_addr;
    return IN6_ARE_ADDR_EQUAL(&a->in6.sin6_addr, &b->in6.sin6_addr) &&
           /* the system fills in a link's number, a configuration need not */
           (a->in6.sin6_scope_id == b->in6.sin6_scope_id || !a->in6.sin6_scope_id ||
            !b->in6.sin6_scope_id);
}

bool core_addr_eq(const struct core_addr *a, const struct core_addr *b)
{
    if (a->kind != b->kind)
        return false;
    /* the port is at the same place in both families */
    return !core_addr_is_ip(a) || (a->in.sin_port == b->in.sin_port && same_ip(a, b));
}

bool core_addr_same_host(const struct core_addr *a, const struct core_addr *b)
{
    if (core_addr_is_ip(a) && core_addr_is_ip(b))
        return same_ip(a, b);
    return a->kind == b->kind;
}

void core_addr_port_set(struct core_addr *addr, uint16_t port)
{
    if (addr->sa.sa_family == AF_INET6)
        addr->in6.sin6_port = htons(port);
    else
        addr->in.sin_port = htons(port);
}

void core_addr_text(const struct core_addr *addr, char text[CORE_ADDR_TEXT])
{
    char host[INET6_ADDRSTRLEN] = "?";

    if (addr->kind == CORE_EMBEDDED) {
        snprintf(text, CORE_ADDR_TEXT, "registrar");
    } else if (addr->kind == CORE_SELF) {
        snprintf(text, CORE_ADDR_TEXT, "self");
    } else if (addr->sa.sa_family == AF_INET) {
        inet_ntop(AF_INET, &addr->in.sin_addr, host, sizeof(host));
        snprintf(text, CORE_ADDR_TEXT, "%s:%u", host, ntohs(addr->in.sin_port));
    } else {
        inet_ntop(AF_INET6, &addr->in6.sin6_addr, host, sizeof(host));
        snprintf(text, CORE_ADDR_TEXT, "[%s]:%u", host, ntohs(addr->in6.sin6_port));
    }
}

/* ---- the owner of a message ----
 *
 * Any message of the core side comes by here before it is scanned, so this looks at no more than it
 * must and believes nothing: it is sip_scan() of the owner that says what is right. */

enum { NOBODY = 256 }; /* more than any worker's number */

static bool blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void skip(struct str *s, size_t len)
{
    s->p += len;
    s->len -= len;
}

static void skip_blanks(struct str *s)
{
    while (s->len && blank(s->p[0]))
        skip(s, 1);
}

static bool take_nocase(struct str *s, struct str word)
{
    if (s->len < word.len || !str_eq_nocase((struct str){s->p, word.len}, word))
        return false;
    skip(s, word.len);
    return true;
}

/* The next line without its end. false: no more. */
static bool line_next(struct str *rest, struct str *line)
{
    const char *end;

    if (!rest->len)
        return false;
    end = memchr(rest->p, '\n', rest->len);
    *line = (struct str){rest->p, end ? (size_t)(end - rest->p) : rest->len};
    skip(rest, line->len + (end != NULL));
    if (line->len && line->p[line->len - 1] == '\r')
        line->len--;
    return true;
}

/* The first header of that name, from `rest` on, without leaving the headers. The value includes
 * folded lines, as sent. */
static bool header_find(struct str rest, struct str name, struct str compact, struct str *value)
{
    struct str line;

    while (line_next(&rest, &line) && line.len) {
        if (!take_nocase(&line, name) && (!compact.len || !take_nocase(&line, compact)))
            continue;
        skip_blanks(&line);
        if (!line.len || line.p[0] != ':')
            continue;
        skip(&line, 1);
        while (rest.len && (rest.p[0] == ' ' || rest.p[0] == '\t')) {
            struct str fold;

            line_next(&rest, &fold);
            line.len = (size_t)(fold.p + fold.len - line.p);
        }
        *value = line;
        return true;
    }
    return false;
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* ...;branch=z9hG4bK0c...: two digits of the worker come first in a branch of ours (M3). */
static unsigned via_worker(struct str via)
{
    while (via.len && via.p[0] != ',') {
        bool param = via.p[0] == ';';

        skip(&via, 1);
        if (!param)
            continue;
        skip_blanks(&via);
        if (!take_nocase(&via, STR("branch")))
            continue;
        skip_blanks(&via);
        if (!take_nocase(&via, STR("=")))
            continue;
        skip_blanks(&via);
        if (!take_nocase(&via, STR("z9hG4bK")) || via.len < 2 || hex(via.p[0]) < 0 ||
            hex(via.p[1]) < 0)
            return NOBODY;
        return (unsigned)(hex(via.p[0]) * 16 + hex(via.p[1]));
    }
    return NOBODY;
}

/* A flow token begins with version, key and worker; a shorter word or another alphabet is a user's
 * name, or somebody else's. */
static unsigned token_worker(struct str token)
{
    enum { TOKEN_LEN_MIN = 32 }; /* 24 bytes */

    if (token.len < TOKEN_LEN_MIN)
        return NOBODY;
    for (size_t i = 0; i < token.len; i++)
        if (base64url_digit(token.p[i]) < 0)
            return NOBODY;
    return (unsigned)((base64url_digit(token.p[2]) & 3) << 6 | base64url_digit(token.p[3]));
}

/* Bytes before the first of `stops`. */
static struct str until(struct str s, const char *stops)
{
    size_t len = 0;

    while (len < s.len && s.p[len] && !strchr(stops, s.p[len]))
        len++;
    return (struct str){s.p, len};
}

/* sip:TOKEN@host */
static unsigned user_worker(struct str uri)
{
    struct str user;

    if (!take_nocase(&uri, STR("sip:")) && !take_nocase(&uri, STR("sips:")))
        return NOBODY;
    user = until(uri, ":@;?>, \t\r\n"); /* a password is not looked at */
    return user.len < uri.len && strchr(":@", uri.p[user.len]) ? token_worker(user) : NOBODY;
}

static unsigned route_worker(struct str route)
{
    bool quoted = false;

    skip_blanks(&route);
    while (route.len && (quoted || route.p[0] != '<')) { /* a display name */
        if (route.p[0] == '\\' && route.len > 1)
            skip(&route, 1);
        else if (route.p[0] == '"')
            quoted = !quoted;
        else if (!quoted && route.p[0] == ',')
            return NOBODY;
        skip(&route, 1);
    }
    if (!route.len)
        return NOBODY;
    skip(&route, 1);
    skip_blanks(&route);
    return user_worker(route);
}

/* ;flow=TOKEN of a masked Contact that came back (R6), or all of a URI of ours where a strict
 * router put it (R4). */
static unsigned uri_worker(struct str uri)
{
    struct str rest = uri;

    while (rest.len) {
        bool param = rest.p[0] == ';';

        skip(&rest, 1);
        if (param && take_nocase(&rest, STR("flow=")))
            return token_worker(until(rest, ";?"));
    }
    return user_worker(uri);
}

unsigned core_owner(struct str message, unsigned workers)
{
    struct str start = STR(""), value = STR("");
    unsigned worker = NOBODY;

    if (workers <= 1)
        return 0;
    skip_blanks(&message);
    line_next(&message, &start);

    if (take_nocase(&start, STR("SIP/"))) {
        if (header_find(message, STR("Via"), STR("v"), &value))
            worker = via_worker(value);
    } else {
        if (header_find(message, STR("Route"), STR(""), &value))
            worker = route_worker(value);
        if (worker >= workers) {
            skip(&start, until(start, " ").len); /* the method */
            skip_blanks(&start);
            worker = uri_worker(until(start, " "));
        }
    }
    if (worker < workers)
        return worker;
    value = STR("");
    header_find(message, STR("Call-ID"), STR("i"), &value);
    value = str_trim(value);
    return (unsigned)(XXH3_64bits(value.p, value.len) % workers);
}

int core_sender(struct str request, unsigned workers)
{
    struct str value;
    unsigned worker;

    if (!header_find(request, STR("Via"), STR("v"), &value))
        return -1;
    worker = via_worker(value);
    return worker < workers ? (int)worker : -1;
}

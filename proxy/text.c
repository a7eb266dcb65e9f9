#include "proxy/text.h"

#include <arpa/inet.h>
#include <stdint.h>

#include "proxy/value.h"

const bool text_token_char[256] = {
    ['0' ... '9'] = true, ['A' ... 'Z'] = true, ['a' ... 'z'] = true, ['-'] = true, ['.'] = true,
    ['!'] = true,         ['%'] = true,         ['*'] = true,         ['_'] = true, ['+'] = true,
    ['`'] = true,         ['\''] = true,        ['~'] = true,
};

bool text_is_token(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (!text_token_char[(unsigned char)s.p[i]])
            return false;
    return s.len > 0;
}

static struct str part(struct str s, size_t from, size_t to)
{
    return (struct str){s.p + from, to - from};
}

static bool controls(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (((unsigned char)s.p[i] < 0x20 && s.p[i] != '\t') || s.p[i] == 0x7f)
            return true;
    return false;
}

/* The highest bit of one of these eight bytes: it is below 0x20, or 0x7f, or no ASCII. */
static uint64_t suspicious(const char *p)
{
    const uint64_t ones = 0x0101010101010101U;
    uint64_t word;

    memcpy(&word, p, sizeof(word));
    return (word - 0x20 * ones) | ((word ^ (0x7f * ones)) - ones);
}

/* Eight bytes at a time, the last ones perhaps twice, and one by one only where a tab or umlaut or
 * worse is among them: every header line of every message comes through here. */
bool text_has_control(struct str s)
{
    const uint64_t tops = 0x8080808080808080U;
    uint64_t found;

    if (s.len < sizeof(found))
        return controls(s);
    found = suspicious(s.p + s.len - sizeof(found));
    for (size_t i = 0; i + sizeof(found) < s.len; i += sizeof(found))
        found |= suspicious(s.p + i);
    return found & tops && controls(s);
}

bool text_has_any(struct str s, const char *set)
{
    for (; *set; set++)
        if (s.len && memchr(s.p, *set, s.len))
            return true;
    return false;
}

struct str text_scheme(struct str uri)
{
    for (size_t i = 0; i < uri.len; i++) {
        char c = uri.p[i];

        if (c == ':')
            return i ? (struct str){uri.p, i} : (struct str){NULL, 0};
        if (!text_alpha(c) && (i == 0 || !(text_digit(c) || c == '+' || c == '-' || c == '.')))
            break;
    }
    return (struct str){NULL, 0};
}

/* Index after the quoted string that begins at `at`; 0: it is not closed. */
static size_t quoted_end(struct str s, size_t at)
{
    static const bool stops[256] = {['"'] = true, ['\\'] = true};

    for (size_t i = at + 1; (i = text_find(s, i, stops)) < s.len; i += 2)
        if (s.p[i] == '"')
            return i + 1;
    return 0;
}

/* Index of the '>' that closes the '<' at `at`; 0: none, or something in between that no URI has.
 */
static size_t bracket_end(struct str s, size_t at)
{
    static const bool stops[256] = {['<'] = true, ['>'] = true, ['"'] = true};
    size_t i = text_find(s, at + 1, stops);

    return i < s.len && s.p[i] == '>' ? i : 0;
}

/* Index of the next comma that neither quotes nor brackets protect, or the length. */
static size_t comma(struct str s, bool *balanced)
{
    static const bool stops[256] = {[','] = true, ['"'] = true, ['<'] = true, ['>'] = true};

    for (size_t i = 0; (i = text_find(s, i, stops)) < s.len; i++) {
        size_t end;

        switch (s.p[i]) {
        case ',': return i;
        case '"':
            end = quoted_end(s, i);
            if (!end) {
                *balanced = false;
                return s.len;
            }
            i = end - 1;
            break;
        case '<':
            end = bracket_end(s, i);
            if (!end) {
                *balanced = false;
                return s.len;
            }
            i = end;
            break;
        default: *balanced = false;
        }
    }
    return s.len;
}

bool text_list_next(struct str *rest, struct str *value, bool *balanced)
{
    *balanced = true;
    while (rest->len) {
        size_t end = comma(*rest, balanced);
        struct str found = str_trim(part(*rest, 0, end));

        *rest = end < rest->len ? part(*rest, end + 1, rest->len) : part(*rest, end, end);
        if (found.len) {
            *value = found;
            return true;
        }
    }
    return false;
}

bool sip_list_next(struct str *rest, struct str *value)
{
    bool balanced;

    return text_list_next(rest, value, &balanced);
}

/* Of a host name or IPv4 address; '_' is in none by RFC 3261, but in many. */
static const bool host_char[256] = {
    ['0' ... '9'] = true, ['A' ... 'Z'] = true, ['a' ... 'z'] = true,
    ['.'] = true,         ['-'] = true,         ['_'] = true,
};

bool text_host_port_cut(struct str text, struct str *host, int *port)
{
    size_t i = 0;
    uint64_t number = 0;

    if (text.len && text.p[0] == '[') {
        char address[INET6_ADDRSTRLEN];
        struct in6_addr parsed;

        while (i < text.len && text.p[i] != ']')
            i++;
        if (i == text.len || i - 1 >= sizeof(address))
            return false;
        *host = part(text, 1, i++);
        memcpy(address, host->p, host->len);
        address[host->len] = '\0';
        if (inet_pton(AF_INET6, address, &parsed) != 1)
            return false;
    } else {
        while (i < text.len && host_char[(unsigned char)text.p[i]])
            i++;
        *host = part(text, 0, i);
        if (!i)
            return false;
    }
    *port = 0;
    if (i == text.len)
        return true;
    text = str_trim(part(text, i, text.len));
    if (text.len &&
        (text.p[0] != ':' || str_to_uint(str_trim(part(text, 1, text.len)), UINT16_MAX, &number) ||
         number == 0))
        return false;
    *port = (int)number;
    return true;
}

static bool is_sip(struct str scheme)
{
    return (scheme.len == 3 || (scheme.len == 4 && (scheme.p[3] | 0x20) == 's')) &&
           (scheme.p[0] | 0x20) == 's' && (scheme.p[1] | 0x20) == 'i' &&
           (scheme.p[2] | 0x20) == 'p';
}

bool text_uri_cut(struct str uri, struct text_uri *out)
{
    static const bool stops[256] = {[';'] = true, ['?'] = true};
    struct str rest;
    const char *at;
    size_t end;

    *out = (struct text_uri){.scheme = text_scheme(uri)};
    if (!out->scheme.p)
        return false;
    rest = part(uri, out->scheme.len + 1, uri.len);
    if (!is_sip(out->scheme))
        return rest.len > 0;
    at = rest.len ? memchr(rest.p, '@', rest.len) : NULL;
    if (at) {
        out->user = part(rest, 0, (size_t)(at - rest.p));
        rest = part(rest, out->user.len + 1, rest.len);
    }
    end = text_find(rest, 0, stops);
    out->rest = part(rest, end, rest.len);
    return !(out->user.len && out->user.p[0] == ':') &&
           !(at && rest.len && memchr(rest.p, '@', rest.len)) &&
           text_host_port_cut(part(rest, 0, end), &out->host, &out->port);
}

/* A display name is a quoted string or tokens (RFC 3261 25.1). Other words are clear as well, and
 * get their quotes; what is half quoted is not. */
static bool display_read(struct text_addr *addr)
{
    struct str s = addr->display;

    if (s.len && s.p[0] == '"')
        return quoted_end(s, 0) == s.len;
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] == '"' || s.p[i] == '\\')
            return false;
        if (!text_token_char[(unsigned char)s.p[i]] && !text_blank(s.p[i]))
            addr->wants_quotes = true;
    }
    return true;
}

/* What a look over header parameters finds. */
struct params {
    bool untidy;      /* a ';' or '=' with nothing behind it, or a blank before a quote: not every
                       * reader takes that */
    struct str value; /* of the one that was asked for; p NULL: it has none */
    unsigned count;   /* of those that have its name */
};

/* The parameter that stands from `at` to `end`, its '=' at `equal` if that is not 0. */
static void param_read(struct str params, size_t at, size_t equal, size_t end, struct str name,
                       struct params *out)
{
    size_t stop = equal ? equal : end;

    if (stop - at < name.len || !str_eq_nocase(str_trim(part(params, at, stop)), name))
        return;
    out->count++;
    out->value = equal ? str_trim(part(params, equal + 1, end)) : (struct str){NULL, 0};
}

/* Header parameters: nothing, or from a ';' on; none of , < > outside of quotes, nor, where `at` is
 * false, an '@'; quotes around all of a value or nowhere (RFC 3261 25.1: gen-value). `name`: the
 * one whose value is wanted. */
static bool params_read(struct str params, bool at, struct str name, struct params *out)
{
    static const bool stops[256] = {
        [' '] = true, ['\t'] = true, [','] = true, ['<'] = true, ['>'] = true,
        ['@'] = true, ['='] = true,  [';'] = true, ['"'] = true,
    };
    size_t start = 1, equal = 0; /* of the parameter at hand */
    char last = ';';             /* byte that is no blank */

    *out = (struct params){0};
    if (!params.len)
        return true;
    if (params.p[0] != ';')
        return false;
    for (size_t i = 1; i < params.len; i++) {
        char c = params.p[i];
        size_t end;

        if (text_blank(c))
            continue;
        if (last == '"' && c != ';')
            return false;
        switch (c) {
        case ',':
        case '<':
        case '>': return false;
        case '@':
            if (!at)
                return false;
            break;
        case '=':
            if (last == ';')
                return false;
            c = equal ? ' ' : '='; /* a second one is a byte of the value */
            equal = equal ? equal : i;
            break;
        case ';':
            out->untidy |= last == ';' || last == '=';
            param_read(params, start, equal, i, name, out);
            start = i + 1;
            equal = 0;
            break;
        case '"':
            end = last == '=' ? quoted_end(params, i) : 0;
            if (!end)
                return false;
            out->untidy |= params.p[i - 1] != '=';
            i = end - 1;
            break;
        default: i = text_find(params, i, stops) - 1;
        }
        last = c;
    }
    out->untidy |= last == ';' || last == '=';
    param_read(params, start, equal, params.len, name, out);
    return true;
}

bool text_addr_cut(struct str value, struct text_addr *out)
{
    static const bool stops[256] = {
        [' '] = true, ['\t'] = true, ['"'] = true, ['<'] = true, ['>'] = true};
    struct text_addr addr = {
        .text = value, .display = {value.p, 0}
    };
    struct params params;
    size_t i = 0, semicolon = value.len;

    if (!value.len)
        return false;
    for (; i < value.len && value.p[i] != '<'; i++) {
        if (value.p[i] == '"') {
            if (semicolon < value.len)
                break; /* quotes in a parameter's value: no bracket will follow */
            i = quoted_end(value, i);
            if (!i)
                return false;
            i--;
        } else if (value.p[i] == ',' || value.p[i] == '>') {
            return false;
        } else if (value.p[i] == ';' && semicolon == value.len) {
            semicolon = i;
        }
    }

    if (i < value.len && value.p[i] == '<') {
        size_t end = text_find(value, i + 1, stops);

        if (end == value.len || value.p[end] != '>' || semicolon < value.len)
            return false;
        addr.brackets = true;
        addr.display = str_trim(part(value, 0, i));
        addr.uri = part(value, i + 1, end);
        addr.params = str_trim(part(value, end + 1, value.len));
    } else {
        addr.uri = str_trim(part(value, 0, semicolon));
        addr.params = str_trim(part(value, semicolon, value.len));
        if (text_has_any(addr.uri, " \t\"?")) /* RFC 3261 20.10 */
            return false;
    }
    if (!text_uri_cut(addr.uri, &addr.pieces) || !display_read(&addr) ||
        !params_read(addr.params, addr.brackets, STR("tag"), &params)) /* '@': whose is the ';'? */
        return false;
    addr.untidy = params.untidy;
    addr.tag = params.value;
    addr.tag_clear =
        !params.count || (params.count == 1 && addr.tag.len && !text_has_any(addr.tag, " \t\"@"));
    *out = addr;
    return true;
}

/* The text before the next `delimiter` of *rest, trimmed; the delimiter is taken too. */
static bool cut_at(struct str *rest, char delimiter, struct str *out)
{
    const char *at = rest->len ? memchr(rest->p, delimiter, rest->len) : NULL;

    if (!at)
        return false;
    *out = str_trim((struct str){rest->p, (size_t)(at - rest->p)});
    *rest = (struct str){at + 1, rest->len - (size_t)(at - rest->p) - 1};
    return true;
}

bool text_via_cut(struct str value, struct text_via *out)
{
    static const bool stops[256] = {
        [';'] = true, ['/'] = true, [','] = true, ['<'] = true,
        ['>'] = true, ['"'] = true, ['@'] = true, ['?'] = true,
    };
    struct text_via via;
    struct str rest = value;
    struct params params;
    size_t i = 0;

    if (!cut_at(&rest, '/', &via.protocol) || !cut_at(&rest, '/', &via.version))
        return false;
    rest = str_trim(rest);
    while (i < rest.len && text_token_char[(unsigned char)rest.p[i]])
        i++;
    via.transport = part(rest, 0, i);
    if (i == rest.len || !text_blank(rest.p[i]))
        return false;

    rest = str_trim(part(rest, i, rest.len));
    i = text_find(rest, 0, stops);
    via.sent_by = str_trim(part(rest, 0, i));
    via.params = part(rest, i, rest.len);
    if (!text_is_token(via.protocol) || !text_is_token(via.version) || !via.transport.len ||
        !via.sent_by.len || text_has_any(value, "()") || /* comments, to readers of RFC 2543 */
        !params_read(via.params, true, STR("branch"), &params) ||
        !text_host_port_cut(via.sent_by, &via.host, &via.port))
        return false;
    via.untidy = params.untidy;
    via.branch = params.value;
    via.branch_clear = !params.count || (params.count == 1 && !text_has_any(via.branch, " \t\""));
    *out = via;
    return true;
}

bool sip_param_next(struct str *rest, struct str *name, struct str *value)
{
    static const bool stops[256] = {[';'] = true, ['='] = true, ['"'] = true};

    while (rest->len) {
        struct str s = *rest, param;
        size_t i = 0, equal = 0;

        for (; (i = text_find(s, i, stops)) < s.len && s.p[i] != ';'; i++) {
            if (s.p[i] == '=' && !equal) {
                equal = i + 1;
            } else if (s.p[i] == '"') {
                size_t end = quoted_end(s, i);
                i = (end ? end : s.len) - 1;
            }
        }
        *rest = i < s.len ? part(s, i + 1, s.len) : part(s, i, i);
        param = part(s, 0, i);
        *name = str_trim(equal ? part(param, 0, equal - 1) : param);
        *value = equal ? str_trim(part(param, equal, i)) : (struct str){NULL, 0};
        if (name->len)
            return true;
    }
    return false;
}

bool sip_param(struct str params, struct str name, struct str *value)
{
    struct str found, text;

    while (sip_param_next(&params, &found, &text)) {
        if (!str_eq_nocase(found, name))
            continue;
        if (value) {
            bool quoted = text.len >= 2 && text.p[0] == '"' && text.p[text.len - 1] == '"';
            *value = quoted ? part(text, 1, text.len - 1) : text;
        }
        return true;
    }
    return false;
}

struct str sip_param_drop(struct arena *arena, struct str params, struct str name)
{
    struct str found, text;
    char *p = arena_alloc(arena, params.len + 2); /* a ';' that was missing, and a NUL */
    size_t len = 0;

    if (!p)
        return (struct str){NULL, 0};
    while (sip_param_next(&params, &found, &text)) {
        if (str_eq_nocase(found, name))
            continue;
        p[len++] = ';';
        memcpy(p + len, found.p, found.len);
        len += found.len;
        if (!text.len)
            continue;
        p[len++] = '=';
        memcpy(p + len, text.p, text.len);
        len += text.len;
    }
    p[len] = '\0';
    return (struct str){p, len};
}

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

static bool control(unsigned char c)
{
    return (c < 0x20 && c != '\t') || c == 0x7f;
}

/* Eight bytes at a time: every header line of every message comes through here. */
bool text_has_control(struct str s)
{
    const uint64_t ones = 0x0101010101010101U, tops = 0x8080808080808080U;
    size_t i = 0;

    for (; i + 8 <= s.len; i += 8) {
        uint64_t word, del;

        memcpy(&word, s.p + i, 8);
        del = word ^ (0x7f * ones);
        /* Non-zero if a byte is below 0x20 or is 0x7f: a TAB needs a second look. */
        if ((((word - 0x20 * ones) & ~word) | ((del - ones) & ~del)) & tops)
            for (size_t k = i; k < i + 8; k++)
                if (control((unsigned char)s.p[k]))
                    return true;
    }
    for (; i < s.len; i++)
        if (control((unsigned char)s.p[i]))
            return true;
    return false;
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

static struct str part(struct str s, size_t from, size_t to)
{
    return (struct str){s.p + from, to - from};
}

/* Index after the quoted string that begins at `at`; 0: it is not closed. */
static size_t quoted_end(struct str s, size_t at)
{
    for (size_t i = at + 1; i < s.len; i++) {
        if (s.p[i] == '\\')
            i++;
        else if (s.p[i] == '"')
            return i + 1;
    }
    return 0;
}

/* Index of the '>' that closes the '<' at `at`; 0: none, or something in between that no URI has.
 */
static size_t bracket_end(struct str s, size_t at)
{
    for (size_t i = at + 1; i < s.len; i++) {
        if (s.p[i] == '>')
            return i;
        if (s.p[i] == '<' || s.p[i] == '"')
            return 0;
    }
    return 0;
}

/* Index of the next comma that neither quotes nor brackets protect, or the length. */
static size_t comma(struct str s, bool *balanced)
{
    for (size_t i = 0; i < s.len; i++) {
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
        case '>': *balanced = false; break;
        default: break;
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
    text = str_trim(part(text, i, text.len));
    if (text.len &&
        (text.p[0] != ':' || str_to_uint(str_trim(part(text, 1, text.len)), UINT16_MAX, &number) ||
         number == 0))
        return false;
    *port = (int)number;
    return true;
}

bool text_uri_cut(struct str uri, struct text_uri *out)
{
    struct str scheme = text_scheme(uri), rest;
    struct text_uri cut = {0};
    const char *at;
    size_t i = 0;

    if (!scheme.p)
        return false;
    rest = part(uri, scheme.len + 1, uri.len);
    *out = cut;
    if (!str_eq_nocase(scheme, STR("sip")) && !str_eq_nocase(scheme, STR("sips")))
        return rest.len > 0;
    at = rest.len ? memchr(rest.p, '@', rest.len) : NULL;
    if (at) {
        cut.user = part(rest, 0, (size_t)(at - rest.p));
        rest = part(rest, cut.user.len + 1, rest.len);
    }
    while (i < rest.len && rest.p[i] != ';' && rest.p[i] != '?')
        i++;
    if ((cut.user.len && cut.user.p[0] == ':') ||
        (at && rest.len && memchr(rest.p, '@', rest.len)) ||
        !text_host_port_cut(part(rest, 0, i), &cut.host, &cut.port))
        return false;
    *out = cut;
    return true;
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

/* Header parameters: nothing, or from a ';' on; none of , < > outside of quotes, nor, where `at` is
 * false, an '@'; quotes around all of a value or nowhere (RFC 3261 25.1: gen-value). `untidy`: a
 * ';' or '=' with nothing behind it, or a blank before a quote; not every reader takes that. */
static bool params_clear(struct str params, bool at, bool *untidy)
{
    char last = ';';    /* byte that is no blank */
    bool value = false; /* behind the '=' of a parameter */

    *untidy = false;
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
            c = value ? ' ' : '='; /* a second one is a byte of the value */
            value = true;
            break;
        case ';':
            *untidy |= last == ';' || last == '=';
            value = false;
            break;
        case '"':
            end = last == '=' ? quoted_end(params, i) : 0;
            if (!end)
                return false;
            *untidy |= params.p[i - 1] != '=';
            i = end - 1;
            break;
        default: break;
        }
        last = c;
    }
    *untidy |= last == ';' || last == '=';
    return true;
}

bool text_addr_cut(struct str value, struct text_addr *out)
{
    struct text_addr addr = {
        .display = {value.p, 0}
    };
    struct text_uri uri;
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
        size_t end = bracket_end(value, i);

        if (!end || semicolon < value.len)
            return false;
        addr.brackets = true;
        addr.display = str_trim(part(value, 0, i));
        addr.uri = part(value, i + 1, end);
        addr.params = str_trim(part(value, end + 1, value.len));
    } else {
        addr.uri = str_trim(part(value, 0, semicolon));
        addr.params = str_trim(part(value, semicolon, value.len));
    }
    if (!text_uri_cut(addr.uri, &uri) || text_has_any(addr.uri, " \t\"") || !display_read(&addr) ||
        !params_clear(addr.params, addr.brackets, &addr.untidy)) /* '@': whose is the ';'? */
        return false;
    if (!addr.brackets && text_has_any(addr.uri, "?")) /* RFC 3261 20.10 */
        return false;
    *out = addr;
    return true;
}

bool text_tag_read(struct str params, struct str *tag)
{
    struct str name, text, found = {NULL, 0};

    while (sip_param_next(&params, &name, &text)) {
        if (!str_eq_nocase(name, STR("tag")))
            continue;
        if (found.p || !text.len || text_has_any(text, " \t\"@"))
            return false;
        found = text;
    }
    *tag = found;
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
    struct text_via via;
    struct str rest = value;
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
    for (i = 0; i < rest.len && rest.p[i] != ';';)
        i++;
    via.sent_by = str_trim(part(rest, 0, i));
    via.params = part(rest, i, rest.len);
    if (!text_is_token(via.protocol) || !text_is_token(via.version) ||
        !text_is_token(via.transport) || !via.sent_by.len ||
        text_has_any(value, "()") || /* comments, to readers of RFC 2543 */
        text_has_any(via.sent_by, "/,<>\"@?") || !params_clear(via.params, true, &via.untidy))
        return false;
    *out = via;
    return true;
}

bool sip_param_next(struct str *rest, struct str *name, struct str *value)
{
    while (rest->len) {
        struct str s = *rest, param;
        size_t i = 0, equal = 0;

        for (; i < s.len && s.p[i] != ';'; i++) {
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

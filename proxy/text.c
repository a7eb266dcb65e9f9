#include "proxy/text.h"

#include <arpa/inet.h>
#include <stdint.h>

#include "proxy/bytes.h"
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

static inline bytes16 controls_among(bytes16 bytes)
{
    return bytes_below(bytes, 0x20) | bytes_equal(bytes, 0x7f);
}

/* Many bytes at a time, the last ones perhaps twice, and one by one only where a tab or umlaut or
 * worse is among them: every header line of every message comes through here. */
bool text_has_control(struct str s)
{
    bytes16 found;

    if (s.len < sizeof(found) / 2)
        return controls(s);
    found = controls_among(bytes_load_last(s));
    for (size_t i = 0; i + sizeof(found) < s.len; i += sizeof(found))
        found |= controls_among(bytes_load(s.p + i));
    return bytes_bits(found) && controls(s);
}

static inline bytes16 no_uri_among(bytes16 bytes)
{
    return bytes_below(bytes, '"' + 1) | bytes_equal(bytes & ~2, '<');
}

bool text_uri_clear(struct str uri)
{
    static const bool stops[256] = {
        [' '] = true, ['\t'] = true, ['"'] = true, ['<'] = true, ['>'] = true};
    bytes16 found;

    if (uri.len >= sizeof(found) / 2) {
        found = no_uri_among(bytes_load_last(uri));
        for (size_t i = 0; i + sizeof(found) < uri.len; i += sizeof(found))
            found |= no_uri_among(bytes_load(uri.p + i));
        if (!bytes_bits(found))
            return true;
    }
    return text_find(uri, 0, stops) == uri.len;
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

/* The same for what nearly all are, a name or IPv4 address and a port without blanks and zeros,
 * where it ends with the text or with a byte in `stops`. The index behind it; 0: it is not that. */
static size_t host_port_plain(struct str text, const bool stops[256], struct str *host, int *port)
{
    size_t i = 0, colon;
    unsigned number = 0;

    while (i < text.len && host_char[(unsigned char)text.p[i]])
        i++;
    *host = part(text, 0, i);
    if (i && i < text.len && text.p[i] == ':') {
        for (colon = i++; i < text.len && text_digit(text.p[i]); i++)
            number = number * 10 + (unsigned)(text.p[i] - '0');
        if (number == 0 || number > UINT16_MAX || i > colon + 1 + 5)
            return 0;
    }
    *port = (int)number;
    return i == text.len || stops[(unsigned char)text.p[i]] ? i : 0;
}

/* Length of the scheme if it is sip or sips and something follows, else 0. */
static size_t sip_scheme(struct str uri)
{
    const char *p = uri.p;

    if (uri.len < 5 || (p[0] | 0x20) != 's' || (p[1] | 0x20) != 'i' || (p[2] | 0x20) != 'p')
        return 0;
    return p[3] == ':' ? 3 : (p[3] | 0x20) == 's' && p[4] == ':' ? 4 : 0;
}

bool text_uri_cut(struct str uri, struct text_uri *out)
{
    static const bool stops[256] = {[';'] = true, ['?'] = true};
    size_t scheme = sip_scheme(uri), end;
    struct str rest, unread;
    const char *at;

    *out = (struct text_uri){.scheme = scheme ? part(uri, 0, scheme) : text_scheme(uri)};
    if (!scheme)
        return out->scheme.p && uri.len > out->scheme.len + 1;
    rest = part(uri, scheme + 1, uri.len);
    at = memchr(rest.p, '@', rest.len);
    if (at) {
        out->user = part(rest, 0, (size_t)(at - rest.p));
        rest = part(rest, out->user.len + 1, rest.len);
        if (out->user.len && out->user.p[0] == ':')
            return false;
    }
    end = host_port_plain(rest, stops, &out->host, &out->port);
    unread = part(rest, end, rest.len);
    if (!end) {
        end = text_find(rest, 0, stops);
        if (!text_host_port_cut(part(rest, 0, end), &out->host, &out->port))
            return false;
    }
    out->rest = part(rest, end, rest.len);
    return !(at && unread.len && memchr(unread.p, '@', unread.len));
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

/* Where parameters have their seams, one after the other: delimiters, blanks, quotes, parentheses
 * and brackets. */
struct seams {
    struct str params;
    size_t at;      /* before it all was looked at */
    unsigned found; /* in the sixteen bytes before `at`, not yet told */
};

static inline bytes16 seams_among(bytes16 bytes)
{
    return bytes_below(bytes, '#') | bytes_equal(bytes, ',') | bytes_equal(bytes & 0xfe, '(') |
           (bytes_below(bytes, '@' + 1) & ~bytes_below(bytes, ';'));
}

/* Index of the next one; the length: there is none. A byte that is no ASCII may be told as well. */
static inline size_t seam_next(struct seams *seams)
{
    static const bool stops[256] = {
        [' '] = true, ['\t'] = true, ['"'] = true, [','] = true, ['('] = true, [')'] = true,
        [';'] = true, ['<'] = true,  ['='] = true, ['>'] = true, ['?'] = true, ['@'] = true,
    };
    size_t i;

    while (!seams->found) {
        size_t left = seams->params.len - seams->at;

        if (!left)
            return seams->params.len;
        if (seams->params.len < sizeof(bytes16)) {
            i = text_find(seams->params, seams->at, stops);
            seams->at = i < seams->params.len ? i + 1 : i;
            return i;
        }
        if (left >= sizeof(bytes16)) {
            seams->found = bytes_bits(seams_among(bytes_load(seams->params.p + seams->at)));
            seams->at += sizeof(bytes16);
        } else {
            seams->found = bytes_bits(seams_among(bytes_load_last(seams->params))) &
                           (0xffffU << (sizeof(bytes16) - left));
            seams->at = seams->params.len;
        }
    }
    i = seams->at - sizeof(bytes16) + (size_t)__builtin_ctz(seams->found);
    seams->found &= seams->found - 1;
    return i;
}

/* The byte there; NUL: the text ends. */
static inline char seam_char(const struct seams *seams, size_t at)
{
    return (char)(at < seams->params.len ? seams->params.p[at] : '\0');
}

/* What a look over header parameters finds. */
struct params {
    bool untidy;      /* a ';' or '=' with nothing behind it, or a blank before a quote: not every
                       * reader takes that */
    struct str value; /* of the one that was asked for; p NULL: it has none */
    unsigned count;   /* of those that have its name */
    bool plain;       /* no blanks, quotes, parentheses nor '@' in its value */
};

static const bool param_stops[256] = {
    [' '] = true, ['\t'] = true, [','] = true, ['<'] = true, ['>'] = true,
    ['@'] = true, ['='] = true,  [';'] = true, ['"'] = true,
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

/* Parameters as nearly all are, from the ';' before `start` to the end of the text: name or
 * name=value, without blanks, a value perhaps in quotes. false: they have to be read otherwise. */
static inline bool params_plain(struct seams *seams, size_t start, struct str name,
                                struct params *out)
{
    struct str params = seams->params;

    *out = (struct params){.plain = true};
    for (;;) {
        size_t end = seam_next(seams), stop = end;
        bool has_value = seam_char(seams, end) == '=';

        if (end == start)
            return false;
        if (has_value) {
            end = seam_next(seams);
            if (end == stop + 1) {
                end = seam_char(seams, end) == '"' ? quoted_end(params, end) : 0;
                if (!end)
                    return false;
                out->plain = false;
                *seams = (struct seams){params, end < params.len ? end + 1 : end, 0};
            }
        }
        if (stop - start == name.len && str_same_nocase(params.p + start, name.p, name.len)) {
            out->count++;
            out->value = has_value ? part(params, stop + 1, end) : (struct str){NULL, 0};
        }
        if (end == params.len)
            return true;
        if (params.p[end] != ';')
            return false;
        start = end + 1;
    }
}

/* Header parameters: nothing, or from a ';' on; none of , < > outside of quotes, nor, where `at` is
 * false, an '@'; quotes around all of a value or nowhere (RFC 3261 25.1: gen-value). `name`: the
 * one whose value is wanted. */
static bool params_read(struct str params, bool at, struct str name, struct params *out)
{
    struct seams seams = {params, 1, 0};
    size_t start = 1, equal = 0; /* of the parameter at hand */
    char last = ';';             /* byte that is no blank */

    *out = (struct params){.plain = true};
    if (!params.len)
        return true;
    if (params.p[0] != ';')
        return false;
    if (params_plain(&seams, 1, name, out))
        return true;
    *out = (struct params){0};
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
        default: i = text_find(params, i, param_stops) - 1;
        }
        last = c;
    }
    out->untidy |= last == ';' || last == '=';
    param_read(params, start, equal, params.len, name, out);
    return true;
}

bool text_addr_cut(struct str value, struct text_addr *out)
{
    struct params params;
    size_t i = 0, semicolon = value.len;

    *out = (struct text_addr){
        .text = value, .display = {value.p, 0}
    };
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

    out->brackets = i < value.len && value.p[i] == '<';
    if (out->brackets) {
        const char *close = memchr(value.p + i, '>', value.len - i);
        size_t end = close ? (size_t)(close - value.p) : 0;

        if (!end || semicolon < value.len)
            return false;
        out->display = str_trim(part(value, 0, i));
        out->uri = part(value, i + 1, end);
        out->params = str_trim(part(value, end + 1, value.len));
        if (!text_uri_clear(out->uri))
            return false;
    } else {
        out->uri = str_trim(part(value, 0, semicolon));
        out->params = str_trim(part(value, semicolon, value.len));
        if (text_has_any(out->uri, " \t\"?")) /* RFC 3261 20.10 */
            return false;
    }
    if (!text_uri_cut(out->uri, &out->pieces) || !display_read(out) ||
        !params_read(out->params, out->brackets, STR("tag"), &params)) /* '@': whose is the ';'? */
        return false;
    out->untidy = params.untidy;
    out->tag = params.value;
    out->tag_clear = !params.count || (params.count == 1 && out->tag.len &&
                                       (params.plain || !text_has_any(out->tag, " \t\"@")));
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
    static const bool params_begin[256] = {[';'] = true};
    static const struct str usual = STR("SIP/2.0/");
    struct text_via via;
    struct str rest = value;
    struct params params;
    size_t i = 0;

    if (value.len > usual.len && !memcmp(value.p, usual.p, sizeof("SIP/2.0/") - 1)) {
        via.protocol = part(value, 0, 3);
        via.version = part(value, 4, 7);
        rest = part(value, usual.len, value.len);
    } else if (!cut_at(&rest, '/', &via.protocol) || !cut_at(&rest, '/', &via.version) ||
               !text_is_token(via.protocol) || !text_is_token(via.version)) {
        return false;
    }
    rest = str_trim(rest);
    while (i < rest.len && text_token_char[(unsigned char)rest.p[i]])
        i++;
    via.transport = part(rest, 0, i);
    if (i == rest.len || !text_blank(rest.p[i]))
        return false;

    rest = str_trim(part(rest, i, rest.len));
    i = host_port_plain(rest, params_begin, &via.host, &via.port);
    if (i) {
        via.sent_by = part(rest, 0, i);
    } else {
        i = text_find(rest, 0, stops);
        via.sent_by = str_trim(part(rest, 0, i));
        if (!text_host_port_cut(via.sent_by, &via.host, &via.port))
            return false;
    }
    via.params = part(rest, i, rest.len);
    if (!via.transport.len || !params_read(via.params, true, STR("branch"), &params) ||
        (!params.plain && text_has_any(via.params, "()"))) /* comments, to readers of RFC 2543 */
        return false;
    via.untidy = params.untidy;
    via.branch = params.value;
    via.branch_clear = !params.count ||
                       (params.count == 1 && (params.plain || !text_has_any(via.branch, " \t\"")));
    *out = via;
    return true;
}

/* Index of the ';' behind a parameter, or the length; and of what follows its '=', 0: it has none.
 * Only one with quotes is looked at byte by byte. */
static size_t param_end(struct str s, size_t *value)
{
    static const bool stops[256] = {[';'] = true, ['='] = true, ['"'] = true};
    const char *semicolon = memchr(s.p, ';', s.len), *equal;
    size_t i = semicolon ? (size_t)(semicolon - s.p) : s.len;

    *value = 0;
    if (!memchr(s.p, '"', i)) {
        equal = memchr(s.p, '=', i);
        *value = equal ? (size_t)(equal - s.p) + 1 : 0;
        return i;
    }
    for (i = 0; (i = text_find(s, i, stops)) < s.len && s.p[i] != ';'; i++) {
        if (s.p[i] == '=' && !*value) {
            *value = i + 1;
        } else if (s.p[i] == '"') {
            size_t end = quoted_end(s, i);
            i = (end ? end : s.len) - 1;
        }
    }
    return i;
}

bool sip_param_next(struct str *rest, struct str *name, struct str *value)
{
    while (rest->len) {
        struct str s = *rest;
        size_t equal, end = param_end(s, &equal);

        *rest = end < s.len ? part(s, end + 1, s.len) : part(s, end, end);
        *name = str_trim(part(s, 0, equal ? equal - 1 : end));
        *value = equal ? str_trim(part(s, equal, end)) : (struct str){NULL, 0};
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

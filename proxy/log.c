#include "proxy/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum {
    EVENT_LINE_MAX = 4096, /* PIPE_BUF: lines of several threads don't mix in a pipe either */
    MESSAGE_LINE_MAX = 32768,
    VALUE_MAX = 512, /* one field must not push the others out */
    RESERVE = 32,    /* for what closes a line that was cut */
};

static _Atomic enum log_level log_level = LOG_INFO;
static atomic_bool log_json;

static const char *const level_names[] = {
    [LOG_ERROR] = "error",
    [LOG_WARNING] = "warning",
    [LOG_INFO] = "info",
    [LOG_DEBUG] = "debug",
};

/* A line in the making. What does not fit sets `cut`, and from then on nothing is added. */
struct line {
    char *p;
    size_t len, max;
    bool cut;
    bool json; /* for all of it, whatever log_open() is told meanwhile */
};

static void add(struct line *line, struct str s)
{
    size_t room = line->max - RESERVE;

    /* What closed a value may stand in the reserve already. */
    if (line->cut || line->len > room || s.len > room - line->len) {
        line->cut = true;
        return;
    }
    if (s.len)
        memcpy(line->p + line->len, s.p, s.len);
    line->len += s.len;
}

/* Into the reserve: marks and what closes a value or the line. */
static void add_end(struct line *line, struct str s)
{
    if (s.len > line->max - line->len)
        return; /* the reserve holds all ends of one line: never */
    memcpy(line->p + line->len, s.p, s.len);
    line->len += s.len;
}

/* Read one code point of UTF-8. Returns its bytes; 0: no valid one starts here. */
static size_t utf8_next(struct str s, uint32_t *code)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned char first = (unsigned char)s.p[0];
    size_t len = first < 0x80 ? 1 : first < 0xc0 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;

    if (!len || first > 0xf4 || len > s.len)
        return 0;
    *code = len == 1 ? first : first & (0x7fU >> len);
    for (size_t i = 1; i < len; i++) {
        unsigned char next = (unsigned char)s.p[i];
        if ((next & 0xc0) != 0x80)
            return 0;
        *code = *code << 6 | (next & 0x3fU);
    }
    if (*code < least[len] || *code > 0x10ffff || (*code >= 0xd800 && *code <= 0xdfff))
        return 0;
    return len;
}

/* Moves a terminal's cursor, ends a line, or turns the direction of writing: text that a peer sent
 * must not be able to look like a line of ours. */
static bool deceives(uint32_t code)
{
    return code < 0x20 || (code >= 0x7f && code <= 0x9f) || (code >= 0x2028 && code <= 0x202e) ||
           (code >= 0x2066 && code <= 0x2069);
}

static bool special(char c)
{
    return c == '"' || c == '\\';
}

/* Text that needs no quotes in a key=value line. */
static bool plain(struct str s)
{
    uint32_t code;
    size_t len;

    if (!s.len)
        return false;
    for (; s.len; s.p += len, s.len -= len) {
        if (s.p[0] > ' ' && s.p[0] < 0x7f && !special(s.p[0])) {
            len = 1;
            continue;
        }
        len = utf8_next(s, &code);
        if (!len || deceives(code) || code == ' ' || special(s.p[0]))
            return false;
    }
    return true;
}

/* One character of a peer's text, made harmless. Returns the bytes it was. */
static size_t add_char(struct line *line, struct str s, bool quoted)
{
    char escape[8];
    uint32_t code = 0;
    size_t len = utf8_next(s, &code);

    if (!len) {
        if (line->json) { /* JSON has no bytes, only characters */
            add(line, STR("\\ufffd"));
        } else {
            snprintf(escape, sizeof(escape), "\\x%02x", (unsigned char)s.p[0]);
            add(line, str_of(escape));
        }
        return 1;
    }
    if (code == '\r' || code == '\n' || code == '\t') {
        add(line, code == '\r' ? STR("\\r") : code == '\n' ? STR("\\n") : STR("\\t"));
    } else if (deceives(code)) {
        snprintf(escape, sizeof(escape), "\\u%04" PRIx32, code);
        add(line, str_of(escape));
    } else {
        if (quoted && special(s.p[0])) {
            snprintf(escape, sizeof(escape), "\\%c", s.p[0]);
            add(line, str_of(escape));
        } else {
            add(line, (struct str){s.p, len});
        }
    }
    return len;
}

/* Bytes at its start that go out as they are, in every form of a line; no more than `max`. */
static size_t harmless(struct str s, size_t max)
{
    size_t len = 0;

    while (len < s.len && len < max && s.p[len] >= ' ' && s.p[len] < 0x7f && !special(s.p[len]))
        len++;
    return len;
}

static void add_text(struct line *line, struct str s, bool quoted)
{
    while (s.len && !line->cut) {
        size_t len = harmless(s, line->max - RESERVE - line->len);

        if (len > 1) /* what doesn't fit is cut behind its last character */
            add(line, (struct str){s.p, len});
        else
            len = add_char(line, s, quoted);
        s.p += len;
        s.len -= len;
    }
}

/* Bytes of `s` before a flow token's secret part; all of it, if there is none: a long word of
 * base64url after "sip:" or "flow=". What names worker and slot is shown, the MAC is not. */
static size_t token_shown(struct str s, size_t *token_end)
{
    enum { TOKEN_LEN_MIN = 32, TOKEN_LEN_SHOWN = 8 };
    static const bool base64url[256] = {
        ['A' ... 'Z'] = true, ['a' ... 'z'] = true, ['0' ... '9'] = true,
        ['-'] = true,         ['_'] = true,
    };
    size_t begin = 0;

    for (size_t i = 0; i <= s.len; i++) {
        if (i < s.len && base64url[(unsigned char)s.p[i]])
            continue;
        if (i - begin >= TOKEN_LEN_MIN && begin && strchr(":=", s.p[begin - 1])) {
            *token_end = i;
            return begin + TOKEN_LEN_SHOWN;
        }
        begin = i + 1;
    }
    *token_end = s.len;
    return s.len;
}

/* The same for the password of a SIP URI, "sip:user:password@host" (RFC 3261 19.1.1). */
static size_t password_shown(struct str s, size_t *password_end)
{
    for (size_t at = 0; at < s.len; at++) {
        size_t colon = at, begin;

        if (s.p[at] != '@')
            continue;
        while (colon > 0 && !strchr(":<>\"@ ", s.p[colon - 1]))
            colon--;
        if (!colon || s.p[colon - 1] != ':')
            continue;
        begin = colon - 1;
        while (begin > 0 && !strchr(":<>\"@ ", s.p[begin - 1]))
            begin--;
        if (begin < 4 || begin == colon - 1 || s.p[begin - 1] != ':' ||
            ((s.p[begin - 2] | 0x20) != 'p' && (s.p[begin - 2] | 0x20) != 's'))
            continue; /* neither "sip:" nor "sips:" before the user */
        *password_end = at;
        return colon;
    }
    *password_end = s.len;
    return s.len;
}

/* Text that may hold what is secret: that is left out (X5). It stands behind ':' or '='. */
static void add_shown(struct line *line, struct str s, bool quoted)
{
    if (s.len && !memchr(s.p, ':', s.len) && !memchr(s.p, '=', s.len)) {
        add_text(line, s, quoted);
        return;
    }
    while (s.len && !line->cut) {
        size_t token_end, password_end;
        size_t shown = token_shown(s, &token_end), end = token_end;
        size_t before_password = password_shown(s, &password_end);

        if (before_password < shown) {
            shown = before_password;
            end = password_end;
        }
        add_text(line, (struct str){s.p, shown}, quoted);
        if (shown < end)
            add(line, STR("…"));
        s.p += end;
        s.len -= end;
    }
}

static void add_value(struct line *line, struct str s)
{
    bool quoted = line->json || !plain(s);
    bool shortened = s.len > VALUE_MAX;
    size_t begin = line->len;

    if (shortened) {
        s.len = VALUE_MAX;
        while (s.len > VALUE_MAX - 4 && ((unsigned char)s.p[s.len] & 0xc0) == 0x80)
            s.len--; /* not in the middle of a character */
    }
    if (quoted)
        add(line, STR("\""));
    if (line->len == begin && quoted)
        return;
    add_shown(line, s, quoted);
    if (shortened || line->cut)
        add_end(line, STR("…"));
    if (quoted)
        add_end(line, STR("\""));
}

static void add_field(struct line *line, const struct log_field *field)
{
    size_t begin = line->len;
    int64_t number = field->number;
    char digits[NUMBER_SIZE];

    add(line, line->json ? STR(",\"") : STR(" "));
    add(line, str_of(field->key));
    add(line, line->json ? STR("\":") : STR("="));
    if (field->kind == LOG_FIELD_INT) {
        add(line, number < 0 ? STR("-") : STR(""));
        add(line, number_text(digits, number < 0 ? -(uint64_t)number : (uint64_t)number));
        if (line->cut)
            line->len = begin; /* half a number would be a wrong one */
        return;
    }
    if (line->cut || line->len + RESERVE + 2 > line->max) {
        line->cut = true;
        line->len = begin;
        return;
    }
    add_value(line, field->text);
}

/* Decimal digits of a number, with zeros in front. */
static char *put_digits(char *at, unsigned digits, long number)
{
    for (unsigned i = digits; i--; number /= 10)
        at[i] = (char)('0' + number % 10);
    return at + digits;
}

enum { TIME_SIZE = sizeof("2026-11-23T09:48:00.123Z") - 1 };

static struct str time_text(char text[TIME_SIZE])
{
    struct timespec now;
    struct tm utc;
    char *at = text;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    const struct {
        long number;
        unsigned digits;
        char end;
    } parts[] = {
        {utc.tm_year + 1900,    4, '-'},
        {utc.tm_mon + 1,        2, '-'},
        {utc.tm_mday,           2, 'T'},
        {utc.tm_hour,           2, ':'},
        {utc.tm_min,            2, ':'},
        {utc.tm_sec,            2, '.'},
        {now.tv_nsec / 1000000, 3, 'Z'},
    };
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        at = put_digits(at, parts[i].digits, parts[i].number);
        *at++ = parts[i].end;
    }
    return (struct str){text, TIME_SIZE};
}

static void line_begin(struct line *line, enum log_level level, const char *what)
{
    struct str name = str_of(level_names[level]);
    char text[TIME_SIZE];

    if (line->json)
        add(line, STR("{\"time\":\""));
    add(line, time_text(text));
    add(line, line->json ? STR("\",\"level\":\"") : STR(" "));
    add(line, name);
    if (line->json)
        add(line, STR("\",\"event\":\""));
    else
        add(line, level == LOG_INFO ? STR("  ") : STR(" ")); /* what follows is in columns */
    add_text(line, str_of(what), line->json);
    if (line->json)
        add_end(line, STR("\""));
}

static void line_write(struct line *line)
{
    size_t done = 0;

    while (done < line->len) { /* once, but for a full pipe or disk */
        ssize_t n = write(STDERR_FILENO, line->p + done, line->len - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return; /* nowhere left to say so */
        done += (size_t)n;
    }
}

static void line_end(struct line *line)
{
    if (line->json)
        add_end(line, line->cut ? STR(",\"cut\":true}\n") : STR("}\n"));
    else
        add_end(line, line->cut ? STR(" …\n") : STR("\n"));
    line_write(line);
}

void log_open(enum log_level level, bool json)
{
    log_level = level;
    log_json = json;
}

bool log_enabled(enum log_level level)
{
    return level <= log_level;
}

void log_write(enum log_level level, const char *what, const struct log_field *fields)
{
    char bytes[EVENT_LINE_MAX];
    struct line line = {.p = bytes, .max = sizeof(bytes), .json = log_json};

    line_begin(&line, level, what);
    for (const struct log_field *field = fields; field->kind != LOG_FIELD_END && !line.cut; field++)
        add_field(&line, field);
    line_end(&line);
}

/* ---- whole messages ---- */

/* What is secret in a message: credentials, and the keys of its media. Looked for in every line, of
 * the body too: a body may hold another message (RFC 3420). */
static const struct {
    struct str begin;
    char end; /* of the name, after blanks */
} secrets[] = {
    {{"Authorization", 13},       ':'},
    {{"Proxy-Authorization", 19}, ':'},
    {{"a=crypto", 8},             ':'},
    {{"a=ice-pwd", 9},            ':'},
};

/* Length of the part of a line that may be shown before "(hidden)"; 0: nothing to hide. */
static size_t secret_name(struct str text)
{
    for (size_t i = 0; i < ARRAY_LEN(secrets); i++) {
        size_t len = secrets[i].begin.len;

        if (text.len <= len || !str_eq_nocase((struct str){text.p, len}, secrets[i].begin))
            continue;
        while (len < text.len && (text.p[len] == ' ' || text.p[len] == '\t'))
            len++;
        if (len < text.len && text.p[len] == secrets[i].end)
            return len + 1;
    }
    return 0;
}

/* Cut the next line off. `end` is its CRLF, LF or CR: whatever somebody might take for an end. */
static struct str line_next(struct str *rest, struct str *end)
{
    struct str text = {rest->p, 0};
    size_t end_len;

    while (text.len < rest->len && rest->p[text.len] != '\r' && rest->p[text.len] != '\n')
        text.len++;
    end_len = text.len < rest->len;
    if (text.len + 1 < rest->len && rest->p[text.len] == '\r' && rest->p[text.len + 1] == '\n')
        end_len = 2;
    *end = (struct str){rest->p + text.len, end_len};
    rest->p += text.len + end_len;
    rest->len -= text.len + end_len;
    return text;
}

static void add_message(struct line *line, struct str message)
{
    bool hiding = false;

    while (message.len && !line->cut) {
        struct str end, text = line_next(&message, &end);
        bool folded = text.len && (text.p[0] == ' ' || text.p[0] == '\t');
        size_t shown = 0;

        if (!folded) {
            shown = secret_name(text);
            hiding = shown != 0;
        } else if (hiding) {
            continue; /* the rest of a folded secret (RFC 3261 7.3.1) */
        }
        if (!line->json)
            add(line, text.len ? STR("\n    ") : STR("\n"));
        add_shown(line, hiding ? (struct str){text.p, shown} : text, line->json);
        if (hiding)
            add(line, STR(" (hidden)"));
        if (line->json)
            add_text(line, end, true);
    }
}

void log_message(const char *what, struct str flow_or_address, struct str message)
{
    char bytes[MESSAGE_LINE_MAX];
    struct line line = {.p = bytes, .max = sizeof(bytes), .json = log_json};

    if (!log_enabled(LOG_DEBUG))
        return;
    line_begin(&line, LOG_DEBUG, what);
    add_field(&line, &LOG_TEXT("where", flow_or_address));
    add_field(&line, &LOG_NUMBER("bytes", (int64_t)message.len));
    if (line.json)
        add(&line, STR(",\"message\":\""));
    add_message(&line, message);
    if (line.json)
        add_end(&line, line.cut ? STR("…\"") : STR("\""));
    line_end(&line);
}

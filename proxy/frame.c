/* Where a message ends in a stream (F1, F2, F3, F6; RFC 3261 18.3). */
#include "proxy/message.h"
#include "proxy/text.h"

/* The cursor counts bytes that were searched for the end of the headers. Two bits above any length
 * say that it counts something else, and what came before. */
#define CURSOR_WHOLE                                                                               \
    (((size_t)-1 >> 1) + 1)              /* the head was read: the count is the whole message      \
                                          */
#define CURSOR_CRLF ((size_t)-1 / 4 + 1) /* a CRLF was taken just before: half a ping */
#define CURSOR_FLAGS (CURSOR_WHOLE | CURSOR_CRLF)

static void more(struct sip_frame *out, size_t need)
{
    *out = (struct sip_frame){.kind = FRAME_MORE, .need = need};
}

static void broken(struct sip_frame *out, enum refusal refusal, size_t head)
{
    *out = (struct sip_frame){.kind = FRAME_BROKEN, .len = head, .taken = head, .refusal = refusal};
}

/* CRLFs before a start line (F2). false: there are none here. A lone LF is skipped like a CRLF. */
static bool keepalive(struct str bytes, size_t *scanned, struct sip_frame *out)
{
    bool half = *scanned & CURSOR_CRLF;

    if (bytes.p[0] == '\r' && bytes.len == 1) {
        more(out, 2);
        return true;
    }
    if (bytes.p[0] == '\n') {
        *scanned = 0;
        *out = (struct sip_frame){.kind = FRAME_IGNORE, .taken = 1};
        return true;
    }
    if (bytes.p[0] != '\r' || bytes.p[1] != '\n') {
        *scanned &= ~CURSOR_CRLF;
        return false;
    }
    if (half) {
        *scanned = 0;
        *out = (struct sip_frame){.kind = FRAME_PING, .taken = 2};
    } else if (bytes.len >= 4 && bytes.p[2] == '\r' && bytes.p[3] == '\n') {
        *scanned = 0;
        *out = (struct sip_frame){.kind = FRAME_PING, .taken = 4};
    } else {
        *scanned = CURSOR_CRLF;
        *out = (struct sip_frame){.kind = FRAME_IGNORE, .taken = 2};
    }
    return true;
}

/* May a Content-Length begin here? */
static bool length_begins(struct str bytes, size_t at)
{
    static const size_t far = sizeof("Content-") - 1; /* other headers differ there at the latest */
    char first = (char)(bytes.p[at] | 0x20);

    return first == 'l' ||
           (first == 'c' && at + far < bytes.len && (bytes.p[at + far] | 0x20) == 'l');
}

/* Length of start line, headers and empty line; 0: the end has not come. `lengths` becomes where
 * the first line is that may be a Content-Length, as far as was seen. */
static size_t head_length(struct str bytes, size_t *scanned, size_t *lengths)
{
    size_t at = *scanned;

    *lengths = at ? 0 : bytes.len;
    for (;;) {
        const char *lf = at < bytes.len ? memchr(bytes.p + at, '\n', bytes.len - at) : NULL;

        if (!lf) {
            *scanned = bytes.len;
            return 0;
        }
        at = (size_t)(lf - bytes.p) + 1;
        if (at < bytes.len && bytes.p[at] == '\n')
            return at + 1;
        if (at + 1 < bytes.len && bytes.p[at] == '\r' && bytes.p[at + 1] == '\n')
            return at + 2;
        if (at == bytes.len || (at + 1 == bytes.len && bytes.p[at] == '\r')) {
            *scanned = at - 1; /* this line end may yet be the last */
            return 0;
        }
        if (*lengths == bytes.len && length_begins(bytes, at))
            *lengths = at;
    }
}

/* A header line with those that continue it, from *at on; no line end at its end. */
static struct str logical_line(struct str head, size_t *at)
{
    size_t start = *at, next = start;

    do {
        const char *lf = memchr(head.p + next, '\n', head.len - next);
        next = lf ? (size_t)(lf - head.p) + 1 : head.len;
    } while (next < head.len && text_blank(head.p[next]));
    *at = next;
    if (next > start && head.p[next - 1] == '\n')
        next--;
    if (next > start && head.p[next - 1] == '\r')
        next--;
    return (struct str){head.p + start, next - start};
}

/* Blanks and folds at both ends. */
static struct str trim_folds(struct str s)
{
    for (;;) {
        size_t len = s.len;

        s = str_trim(s);
        if (s.len && s.p[0] == '\n') {
            s = (struct str){s.p + 1, s.len - 1};
        } else if (s.len > 1 && s.p[0] == '\r' && s.p[1] == '\n') {
            s = (struct str){s.p + 2, s.len - 2};
        } else if (s.len && s.p[s.len - 1] == '\n') {
            s.len--;
            if (s.len && s.p[s.len - 1] == '\r')
                s.len--;
        } else if (s.len == len) {
            return s;
        }
    }
}

/* Is this line a Content-Length? Its value, in any case. */
static bool content_length_line(struct str line, struct str *value)
{
    const char *colon;
    struct str name;

    if (!line.len || ((line.p[0] | 0x20) != 'c' && (line.p[0] | 0x20) != 'l'))
        return false;
    colon = memchr(line.p, ':', line.len);
    if (!colon)
        return false;
    name = trim_folds((struct str){line.p, (size_t)(colon - line.p)});
    *value = trim_folds((struct str){colon + 1, (size_t)(line.p + line.len - colon) - 1});
    return str_eq_nocase(name, STR("Content-Length")) || str_eq_nocase(name, STR("l"));
}

/* The one Content-Length of a head; none is before `at`. */
static enum refusal content_length(struct str head, size_t at, size_t max, size_t *length)
{
    bool found = false;

    if (!at)
        logical_line(head, &at); /* start line */
    while (at < head.len) {
        struct str value;
        uint64_t number;

        if (!content_length_line(logical_line(head, &at), &value))
            continue;
        for (size_t i = 0; i < value.len; i++)
            if (!text_digit(value.p[i]))
                return REFUSE_CONTENT_LENGTH;
        if (!value.len)
            return REFUSE_CONTENT_LENGTH;
        if (str_to_uint(value, max, &number))
            return REFUSE_TOO_LARGE;
        if (found && number != *length)
            return REFUSE_CONTENT_LENGTH_CONFLICT;
        *length = (size_t)number;
        found = true;
    }
    return found ? REFUSE_NOT : REFUSE_CONTENT_LENGTH_MISSING;
}

/* The bytes that end with the last whole line of at most `max`. */
static size_t lines_length(struct str bytes, size_t max)
{
    size_t len = bytes.len < max ? bytes.len : max;
    const char *lf = len ? memrchr(bytes.p, '\n', len) : NULL;

    return lf ? (size_t)(lf - bytes.p) + 1 : len;
}

void sip_frame(struct str bytes, size_t message_max, size_t *scanned, struct sip_frame *out)
{
    size_t max = message_max < SIP_HEADERS_BYTES ? message_max : SIP_HEADERS_BYTES;
    size_t head, lengths, body = 0;
    enum refusal refusal;

    if (!bytes.len) {
        more(out, 1);
        return;
    }
    if (*scanned & CURSOR_WHOLE) {
        if (bytes.len < (*scanned & ~CURSOR_FLAGS)) {
            more(out, *scanned & ~CURSOR_FLAGS);
            return;
        }
        *scanned = 0;
    }
    if ((*scanned & ~CURSOR_FLAGS) == 0 && keepalive(bytes, scanned, out))
        return;

    head = head_length(bytes, scanned, &lengths);
    if (head > max || (!head && bytes.len >= max)) {
        *scanned = 0;
        broken(out, REFUSE_TOO_LARGE, lines_length(bytes, max));
        return;
    }
    if (!head) {
        more(out, bytes.len + 1);
        return;
    }
    refusal = content_length((struct str){bytes.p, head}, lengths, message_max, &body);
    if (!refusal && body > message_max - head)
        refusal = REFUSE_TOO_LARGE;
    if (refusal) {
        *scanned = 0;
        broken(out, refusal, head);
    } else if (bytes.len - head < body) {
        *scanned = (head + body) | CURSOR_WHOLE;
        more(out, head + body);
    } else {
        *scanned = 0;
        *out = (struct sip_frame){.kind = FRAME_MESSAGE, .len = head + body, .taken = head + body};
    }
}

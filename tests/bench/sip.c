#include "sip.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

static bool name_is(struct text name, const char *full, char compact)
{
    if (name.len == 1)
        return compact && (name.p[0] | 0x20) == compact;
    return name.len == strlen(full) && strncasecmp(name.p, full, name.len) == 0;
}

static struct text trim(const char *from, const char *to)
{
    while (from < to && (*from == ' ' || *from == '\t'))
        from++;
    while (to > from && (to[-1] == ' ' || to[-1] == '\t'))
        to--;
    return (struct text){from, (size_t)(to - from)};
}

/* Add the values of a line, which are divided by the commas outside of <>. */
static bool values_add(struct values *values, struct text line, bool list)
{
    const char *from = line.p, *end = line.p + line.len;
    bool inside = false;

    for (const char *p = from; p <= end; p++) {
        if (p < end && *p == '<')
            inside = true;
        else if (p < end && *p == '>')
            inside = false;
        if (p < end && (!list || inside || *p != ','))
            continue;
        if (values->count == SIP_VALUES_MAX)
            return false;
        values->value[values->count++] = trim(from, p);
        from = p + 1;
    }
    return true;
}

unsigned long sip_number(struct text digits)
{
    unsigned long number = 0;

    for (size_t i = 0; i < digits.len && digits.p[i] >= '0' && digits.p[i] <= '9'; i++)
        number = number * 10 + (unsigned long)(digits.p[i] - '0');
    return number;
}

bool sip_line(struct text *rest, struct text *line, struct text *name, struct text *value)
{
    const char *end = memchr(rest->p, '\n', rest->len), *colon;

    if (!end)
        return false;
    line->p = rest->p;
    line->len = (size_t)(end - rest->p);
    if (line->len && end[-1] == '\r')
        line->len--;
    rest->len -= (size_t)(end + 1 - rest->p);
    rest->p = end + 1;
    colon = memchr(line->p, ':', line->len);
    if (!colon)
        return false;
    *name = trim(line->p, colon);
    *value = trim(colon + 1, line->p + line->len);
    return true;
}

static bool start_read(struct sip *sip, struct text line)
{
    const char *space = memchr(line.p, ' ', line.len), *second;

    if (!space)
        return false;
    if (line.len > 12 && memcmp(line.p, "SIP/2.0 ", 8) == 0) {
        sip->status = (int)sip_number((struct text){space + 1, 3});
        return sip->status >= 100;
    }
    second = memchr(space + 1, ' ', (size_t)(line.p + line.len - space - 1));
    if (!second ||
        !text_is((struct text){second + 1, (size_t)(line.p + line.len - second - 1)}, "SIP/2.0"))
        return false;
    sip->method = (struct text){line.p, (size_t)(space - line.p)};
    sip->uri = (struct text){space + 1, (size_t)(second - space - 1)};
    return true;
}

static bool header_read(struct sip *sip, struct text name, struct text value, long *length)
{
    switch (name.p[0] | 0x20) {
    case 'v': return !name_is(name, "Via", 'v') || values_add(&sip->vias, value, false);
    case 'f':
        if (name_is(name, "From", 'f'))
            sip->from = value;
        return true;
    case 't':
        if (name_is(name, "To", 't'))
            sip->to = value;
        return true;
    case 'i':
    case 'c':
    case 'l':
    case 'm':
        if (name_is(name, "Call-ID", 'i'))
            sip->call_id = value;
        else if (name_is(name, "Content-Length", 'l'))
            *length = (long)sip_number(value);
        else if (name_is(name, "Contact", 'm'))
            sip->contact = value;
        else if (name_is(name, "CSeq", 0)) {
            const char *space = memchr(value.p, ' ', value.len);
            sip->cseq = (unsigned)sip_number(value);
            if (space)
                sip->cseq_method = trim(space, value.p + value.len);
        }
        return true;
    case 'r':
        if (name_is(name, "Route", 0))
            return values_add(&sip->routes, value, true);
        return !name_is(name, "Record-Route", 0) || values_add(&sip->record_routes, value, true);
    case 'p': return !name_is(name, "Path", 0) || values_add(&sip->paths, value, true);
    default: return true;
    }
}

long sip_read(struct sip *sip, const char *bytes, size_t len, bool whole)
{
    const char *empty = memmem(bytes, len, "\r\n\r\n", 4), *line_end;
    struct text rest, line, name, value;
    long length = -1, head;

    if (!empty)
        return whole || len > 65536 ? -1 : 0;
    *sip = (struct sip){.status = 0};
    line_end = memmem(bytes, len, "\r\n", 2);
    if (!start_read(sip, (struct text){bytes, (size_t)(line_end - bytes)}))
        return -1;
    sip->headers = (struct text){line_end + 2, (size_t)(empty + 2 - (line_end + 2))};
    for (rest = sip->headers; rest.len;)
        if (!sip_line(&rest, &line, &name, &value) || !name.len ||
            !header_read(sip, name, value, &length))
            return -1;
    head = empty + 4 - bytes;
    if (length < 0)
        length = whole ? (long)len - head : -1;
    if (length < 0 || !sip->vias.count || !sip->from.p || !sip->to.p || !sip->call_id.p ||
        !sip->cseq_method.p)
        return -1;
    if ((long)len < head + length)
        return whole ? -1 : 0;
    sip->body = (struct text){bytes + head, (size_t)length};
    return head + length;
}

struct text sip_uri_of(struct text name_addr)
{
    const char *from = memchr(name_addr.p, '<', name_addr.len), *to;

    if (!from) {
        to = memchr(name_addr.p, ';', name_addr.len);
        return trim(name_addr.p, to ? to : name_addr.p + name_addr.len);
    }
    to = memchr(from, '>', name_addr.len - (size_t)(from - name_addr.p));
    return to ? (struct text){from + 1, (size_t)(to - from - 1)} : (struct text){from, 0};
}

struct text sip_param(struct text value, const char *name)
{
    const char *end = value.p + value.len, *p = memchr(value.p, '>', value.len);
    size_t len = strlen(name);

    for (p = p ? p : value.p; (p = memchr(p, ';', (size_t)(end - p))) != NULL;) {
        const char *stop;
        p++;
        if ((size_t)(end - p) < len || strncasecmp(p, name, len) != 0)
            continue;
        stop = memchr(p, ';', (size_t)(end - p));
        stop = stop ? stop : end;
        if (p + len == stop)
            return (struct text){stop, 0};
        if (p[len] == '=')
            return trim(p + len + 1, stop);
    }
    return (struct text){NULL, 0};
}

bool sip_host_port(struct text uri, struct text *host, int *port)
{
    const char *end = uri.p + uri.len, *from = memchr(uri.p, ':', uri.len), *at, *stop;

    if (!from)
        return false;
    at = memchr(uri.p, '@', uri.len);
    from = at ? at + 1 : from + 1;
    stop = from;
    while (stop < end && *stop != ';' && *stop != '?' && *stop != ':')
        stop++;
    *host = (struct text){from, (size_t)(stop - from)};
    *port = 5060;
    if (stop < end && *stop == ':')
        *port = (int)sip_number((struct text){stop + 1, (size_t)(end - stop - 1)});
    return host->len > 0;
}

/* ---- writing ---- */

void out_text(struct out *out, const char *p, size_t len)
{
    if (out->full || len > out->size - out->len) {
        out->full = true;
        return;
    }
    memcpy(out->p + out->len, p, len);
    out->len += len;
}

void out_str(struct out *out, const char *s)
{
    out_text(out, s, strlen(s));
}

void out_put(struct out *out, struct text text)
{
    out_text(out, text.p, text.len);
}

void out_number(struct out *out, unsigned long number)
{
    char digits[20];
    size_t at = sizeof(digits);

    do
        digits[--at] = (char)('0' + number % 10);
    while (number /= 10);
    out_text(out, digits + at, sizeof(digits) - at);
}

static void header_put(struct out *out, const char *name, struct text value)
{
    out_str(out, name);
    out_put(out, value);
    out_str(out, "\r\n");
}

static void via_put(struct out *out, struct text via, const char *received, const char *rport)
{
    struct text asked = sip_param(via, "rport");

    if (!received || !asked.p || asked.len) {
        header_put(out, "Via: ", via);
        return;
    }
    out_str(out, "Via: ");
    out_text(out, via.p, (size_t)(asked.p - via.p)); /* up to the end of "rport" */
    out_str(out, "=");
    out_str(out, rport);
    out_text(out, asked.p, (size_t)(via.p + via.len - asked.p));
    out_str(out, ";received=");
    out_str(out, received);
    out_str(out, "\r\n");
}

void sip_answer(struct out *out, const struct sip *request, const struct answer *answer)
{
    out_str(out, "SIP/2.0 ");
    out_str(out, answer->status);
    out_str(out, "\r\n");
    for (unsigned i = 0; i < request->vias.count; i++)
        via_put(out, request->vias.value[i], i ? NULL : answer->received, answer->rport);
    if (text_is(request->method, "INVITE"))
        for (unsigned i = 0; i < request->record_routes.count; i++)
            header_put(out, "Record-Route: ", request->record_routes.value[i]);
    header_put(out, "From: ", request->from);
    out_str(out, "To: ");
    out_put(out, request->to);
    if (answer->to_tag && !sip_param(request->to, "tag").p) {
        out_str(out, ";tag=");
        out_str(out, answer->to_tag);
    }
    out_str(out, "\r\n");
    header_put(out, "Call-ID: ", request->call_id);
    out_str(out, "CSeq: ");
    out_number(out, request->cseq);
    out_str(out, " ");
    header_put(out, "", request->method);
    if (answer->more.p)
        out_put(out, answer->more);
    out_str(out, "Content-Length: ");
    out_number(out, answer->body.len);
    out_str(out, "\r\n\r\n");
    if (answer->body.p)
        out_put(out, answer->body);
}

void sip_serve(struct out *out, const struct sip *request, const char *received, const char *rport)
{
    char lines[2048];
    struct out more = {lines, 0, sizeof(lines), false};
    struct answer answer = {.status = "200 OK", .received = received, .rport = rport};

    if (text_is(request->method, "REGISTER") && request->contact.p) {
        for (unsigned i = 0; i < request->paths.count; i++)
            header_put(&more, "Path: ", request->paths.value[i]);
        out_str(&more, "Contact: ");
        out_put(&more, request->contact);
        out_str(&more, ";expires=3600\r\n");
        answer.to_tag = "registrar";
    } else {
        out_str(&more, "Allow: INVITE, ACK, CANCEL, BYE, OPTIONS\r\nAccept: application/sdp\r\n");
        answer.to_tag = "pbx";
    }
    answer.more = (struct text){lines, more.len};
    sip_answer(out, request, &answer);
}

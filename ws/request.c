#include "ws/request.h"

#include <errno.h>

enum { METHOD_MAX = 32 }; /* longer than any of HTTP, or of SIP */

static const struct str names[FIELD_COUNT] = {
    [FIELD_HOST] = {"Host",                   4 },
    [FIELD_UPGRADE] = {"Upgrade",                7 },
    [FIELD_CONNECTION] = {"Connection",             10},
    [FIELD_ORIGIN] = {"Origin",                 6 },
    [FIELD_VERSION] = {"Sec-WebSocket-Version",  21},
    [FIELD_KEY] = {"Sec-WebSocket-Key",      17},
    [FIELD_PROTOCOL] = {"Sec-WebSocket-Protocol", 22},
    [FIELD_CONTENT_LENGTH] = {"Content-Length",         14},
    [FIELD_TRANSFER_ENCODING] = {"Transfer-Encoding",      17},
};

static struct str place_str(const struct request *request, struct place place)
{
    return (struct str){request->base + place.at, place.len};
}

/* What the parser reports comes in as many pieces as the request did. */
static void place_add(const struct request *request, struct place *place, const char *at,
                      size_t len)
{
    if (!place->len)
        place->at = (uint32_t)(at - request->base);
    place->len = (uint32_t)(at + len - request->base) - place->at;
}

static enum field field_of(struct str name)
{
    enum field field = 0;

    while (field < FIELD_COUNT && !str_eq_nocase(name, names[field]))
        field++;
    return field;
}

/* A header line is complete. Nonzero: there are too many, or a blank is in its name, which the
 * parser allows and RFC 9112 5.1 does not. */
static int field_end(struct request *request)
{
    struct str name = place_str(request, request->name);
    enum field field = field_of(name);

    if (name.len && memchr(name.p, ' ', name.len))
        return -1;
    if (request->in_value && field != FIELD_OTHER) {
        if (request->field_count == REQUEST_FIELDS_MAX)
            return -1;
        request->fields[request->field_count].field = field;
        request->fields[request->field_count++].value = request->value;
    }
    request->name = request->value = (struct place){0, 0};
    request->in_value = false;
    return 0;
}

static int on_url(http_parser *parser, const char *at, size_t len)
{
    struct request *request = parser->data;

    place_add(request, &request->target, at, len);
    return 0;
}

static int on_header_field(http_parser *parser, const char *at, size_t len)
{
    struct request *request = parser->data;

    if (request->in_value && field_end(request))
        return -1;
    place_add(request, &request->name, at, len);
    return 0;
}

/* A line that is folded (RFC 7230 3.2.4: to be refused) comes as pieces with a gap between. */
static int on_header_value(http_parser *parser, const char *at, size_t len)
{
    struct request *request = parser->data;
    const struct place *value = &request->value;

    request->in_value = true;
    if (value->len && request->base + value->at + value->len != at)
        return -1;
    place_add(request, &request->value, at, len);
    return 0;
}

static int on_headers_complete(http_parser *parser)
{
    struct request *request = parser->data;

    if (field_end(request))
        return -1;
    request->complete = true;
    return 2; /* whatever follows is not HTTP */
}

static const http_parser_settings settings = {
    .on_url = on_url,
    .on_header_field = on_header_field,
    .on_header_value = on_header_value,
    .on_headers_complete = on_headers_complete,
};

void request_start(struct request *request)
{
    memset(request, 0, sizeof(*request));
    http_parser_init(&request->parser, HTTP_REQUEST);
    request->parser.data = request;
}

ssize_t request_parse(struct request *request, struct str bytes)
{
    struct str more;

    request->base = bytes.p;
    more = (struct str){bytes.p + request->parsed, bytes.len - request->parsed};
    if (bytes.len > REQUEST_SIZE_MAX)
        more.len = request->parsed < REQUEST_SIZE_MAX ? REQUEST_SIZE_MAX - request->parsed : 0;
    request->parsed += http_parser_execute(&request->parser, &settings, more.p, more.len);
    if (HTTP_PARSER_ERRNO(&request->parser) != HPE_OK)
        return -EPROTO;
    if (request->complete)
        return (ssize_t)request->parsed;
    return bytes.len > REQUEST_SIZE_MAX ? -E2BIG : 0;
}

struct str request_target(const struct request *request)
{
    return place_str(request, request->target);
}

struct str request_field(const struct request *request, enum field field, unsigned n)
{
    for (unsigned i = 0; i < request->field_count; i++)
        if (request->fields[i].field == field && n-- == 0)
            return str_trim(place_str(request, request->fields[i].value));
    return (struct str){NULL, 0};
}

/* Both begin with a method and what it is for. In HTTP that is a path, "*", or a URI of its own
 * (RFC 9112 3.2), in SIP a URI, which is none of these. */
int request_recognise(struct str first)
{
    static const struct str scheme = {"http", 4};
    const char *blank = memchr(first.p, ' ', first.len < METHOD_MAX ? first.len : METHOD_MAX);
    struct str target;

    if (first.len && (first.p[0] < 'A' || first.p[0] > 'Z')) /* CRLF, or what SIP will refuse */
        return 0;
    if (!blank)
        return first.len < METHOD_MAX ? -EAGAIN : 0;
    target = (struct str){blank + 1, first.len - (size_t)(blank + 1 - first.p)};
    if (!target.len)
        return -EAGAIN;
    if (target.p[0] == '/' || target.p[0] == '*')
        return 1;
    if (target.len < scheme.len && str_eq_nocase(target, (struct str){scheme.p, target.len}))
        return -EAGAIN;
    return target.len >= scheme.len && str_eq_nocase((struct str){target.p, scheme.len}, scheme);
}

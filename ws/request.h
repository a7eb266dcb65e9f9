/* An HTTP/1.1 request as it comes in, cut at any byte: what the opening handshake needs of it.
 *
 * The HTTP is http-parser's. It sees each byte once, so that what is no HTTP is known at once; what
 * it finds is kept as places in the request, which therefore has to stay in one piece. Not read: a
 * body, trailers, a second request.
 *
 * Ownership: in its owner's struct; holds no memory.
 * Threads:   no state but the struct. */
#pragma once

#include <sys/types.h>

#include <http_parser.h>

#include "proxy/str.h"

enum {
    REQUEST_SIZE_MAX = 16384, /* of request line and headers, cookies and all */
    REQUEST_FIELDS_MAX = 24,  /* lines of headers that are looked at */
};

enum field {
    FIELD_HOST,
    FIELD_UPGRADE,
    FIELD_CONNECTION,
    FIELD_ORIGIN,
    FIELD_VERSION,
    FIELD_KEY,
    FIELD_PROTOCOL,
    FIELD_CONTENT_LENGTH,
    FIELD_TRANSFER_ENCODING,
    FIELD_COUNT,
    FIELD_OTHER = FIELD_COUNT,
};

struct request {
    http_parser parser;
    size_t parsed;    /* bytes that it has seen */
    const char *base; /* of the request, while a function here runs, and after it was complete */
    struct place {
        uint32_t at, len;
    } target, name, value;
    bool in_value, folded, complete;
    struct {
        enum field field;
        struct place value;
    } fields[REQUEST_FIELDS_MAX];
    unsigned field_count;
};

void request_start(struct request *request);
/* Bytes from the beginning of the request. Returns how many the request takes, up to the end of its
 * headers; 0: more are needed. -EPROTO: no HTTP request, or one that is unclear. -E2BIG. */
ssize_t request_parse(struct request *request, struct str bytes);
struct str request_target(const struct request *request);
/* The n-th line of that header; p NULL: there is none. */
struct str request_field(const struct request *request, enum field field, unsigned n);
/* Does a connection that begins so speak HTTP, not SIP? 1: yes. 0: no. -EAGAIN: more will tell. */
int request_recognise(struct str first);

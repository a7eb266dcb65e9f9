/* SIP as the parts of the bench read and write it: framing, the few headers they need, answers.
 *
 * It shares no code with sipward, whose output it judges.
 * Ownership: a struct sip borrows from the bytes it was read from. No allocation.
 * Limits:    one header line is one value, but for Route, Record-Route and Path. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct text {
    const char *p;
    size_t len;
};

enum { SIP_VALUES_MAX = 16 };

struct values {
    struct text value[SIP_VALUES_MAX];
    unsigned count;
};

struct sip {
    int status;              /* 0: a request */
    struct text method, uri; /* of a request */
    struct values vias;      /* topmost first */
    struct values routes, record_routes, paths;
    struct text from, to, call_id, contact, cseq_method;
    unsigned cseq;
    struct text headers; /* from behind the first line up to the empty one */
    struct text body;
};

/* Read the message at the beginning of `bytes`. `whole`: they are one message (a datagram or a
 * WebSocket message), else Content-Length says where it ends. Returns its bytes, 0: more are
 * needed, -1: not SIP. */
long sip_read(struct sip *sip, const char *bytes, size_t len, bool whole);

/* The next header line of `rest`, which is moved behind it: the line without its end, and the value
 * in it. False: there is none. */
bool sip_line(struct text *rest, struct text *line, struct text *name, struct text *value);

struct text sip_uri_of(struct text name_addr);                     /* what is between < and > */
struct text sip_param(struct text value, const char *name);        /* .p NULL: none */
bool sip_host_port(struct text uri, struct text *host, int *port); /* of a SIP URI */
unsigned long sip_number(struct text digits);

static inline bool text_is(struct text a, const char *b)
{
    return a.len == strlen(b) && memcmp(a.p, b, a.len) == 0;
}

static inline bool text_same(struct text a, struct text b)
{
    return a.len == b.len && memcmp(a.p, b.p, a.len) == 0;
}

/* A message being written. What does not fit is lost, and `full` says so. */
struct out {
    char *p;
    size_t len, size;
    bool full;
};

void out_text(struct out *out, const char *p, size_t len);
void out_str(struct out *out, const char *s);
void out_put(struct out *out, struct text text);
void out_number(struct out *out, unsigned long number);

/* The response to `request`: Via (the topmost with `received`, "ADDRESS" and "PORT" of the sender,
 * NULL: as it is), Record-Route for INVITE, From, To with the tag, Call-ID, CSeq, then `more`
 * (header lines) and the body. */
struct answer {
    const char *status; /* "200 OK" */
    const char *received, *rport;
    const char *to_tag; /* NULL: none is added */
    struct text more, body;
};
void sip_answer(struct out *out, const struct sip *request, const struct answer *answer);
/* 200 to a REGISTER or OPTIONS, as a registrar says it. */
void sip_serve(struct out *out, const struct sip *request, const char *received, const char *rport);

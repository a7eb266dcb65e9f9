/* Header values in pieces, only when a rule needs them; what is not plain is read by libosip2's
 * parsers as well, which must agree.
 *
 * Ownership: results borrow from the arena.
 * Threads:   libosip2's allocators are ours, in all of the program; each thread has its own pool.
 * Errors:    -EINVAL: not such a value. -ENOMEM: the arena is full. */
#pragma once

#include "proxy/str.h"

struct sip_uri {
    struct str scheme;         /* lower case */
    struct str user, password; /* as spelled, escapes kept; p NULL: none. tel: the number */
    struct str host;           /* without the brackets of IPv6; p NULL: not sip or sips */
    int port;                  /* 0: none */
    struct str params;         /* as spelled, from the first ';' on; may be empty */
    struct str headers;        /* as spelled, from '?' on; may be empty */
    struct str text;           /* all of it */
};

struct sip_via {
    struct str transport; /* "UDP", as spelled */
    struct str host;      /* without brackets */
    int port;             /* 0: none */
    struct str branch, received;
    bool rport; /* asked for, with or without a value */
};

/* name-addr or addr-spec with header parameters: Contact, From, To, Route, Path, ... */
struct sip_addr {
    struct str display; /* as spelled, quotes included; may be empty */
    struct sip_uri uri;
    bool brackets;     /* the URI stood in <> */
    struct str params; /* header parameters as spelled, from the first ';' on; may be empty */
};

struct text_uri;

/* A URI in the pieces that it was cut into when it was found clear, by the scan (V2) or before a
 * token was made of it: no second parser is asked as by sip_uri_parse(), the scheme stays as
 * spelled, and nothing is read of schemes but sip and sips. It borrows from `text`. */
void uri_of(struct str text, const struct text_uri *pieces, struct sip_uri *out);
int sip_uri_parse(struct arena *arena, struct str text, struct sip_uri *out);
int sip_via_parse(struct arena *arena, struct str text, struct sip_via *out);
/* Never for "*" (Contact). Without <>, parameters are the header's (RFC 3261 20.10). */
int sip_addr_parse(struct arena *arena, struct str text, struct sip_addr *out);

/* Next parameter of ";a=b;c": its name, and its value as spelled, quotes included; value p NULL
 * for one that has none. false: the end. */
bool sip_param_next(struct str *rest, struct str *name, struct str *value);
/* Find `name` in ";a=b;c" (case-insensitive). true: it is there; *value (may be NULL) is its value,
 * without quotes, p NULL for one that has none. */
bool sip_param(struct str params, struct str name, struct str *value);
/* ";a=b;c" without parameter `name`. p NULL: arena full. */
struct str sip_param_drop(struct arena *arena, struct str params, struct str name);

/* Next value of a comma-separated list; quotes and <> protect commas. false: the end. */
bool sip_list_next(struct str *rest, struct str *value);
void sip_values_init(void); /* libosip2's own set-up; once, before the threads */

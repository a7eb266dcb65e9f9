/* Bytes of a SIP message by class, and values cut at their seams, as spelled: what the scanner and
 * the value parsers share inside this folder (RFC 3261 25.1). Nothing here allocates. */
#pragma once

#include "proxy/str.h"

/* token of RFC 3261 25.1. */
extern const bool text_token_char[256];

static inline bool text_blank(char c)
{
    return c == ' ' || c == '\t';
}

static inline bool text_digit(char c)
{
    return c >= '0' && c <= '9';
}

static inline bool text_alpha(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Index of the first byte from `at` on that is in `stops`, or the length. */
static inline size_t text_find(struct str s, size_t at, const bool stops[256])
{
    while (at < s.len && !stops[(unsigned char)s.p[at]])
        at++;
    return at;
}

bool text_is_token(struct str s); /* false for an empty one */
/* NUL, CR, LF, DEL and other control bytes; TAB is fine (V4). */
bool text_has_control(struct str s);
/* Any of `c` in it? Those of a short set. */
bool text_has_any(struct str s, const char *set);
/* No blanks, quotes and brackets in it? */
bool text_uri_clear(struct str uri);
/* The scheme of a URI, without the colon; p NULL: it has none. */
struct str text_scheme(struct str uri);

/* The next value of a comma-separated list, as sip_list_next(), and whether its quotes and
 * brackets are closed and not nested: where they are not, where a value ends is anyone's guess. */
bool text_list_next(struct str *rest, struct str *value, bool *balanced);

/* host, or [IPv6] (given without the brackets), and an optional port (0: none), with blanks around
 * the colon (RFC 3261 20.42). */
bool text_host_port_cut(struct str text, struct str *host, int *port);
/* Pieces of a sip or sips URI; of others there are none. */
struct text_uri {
    struct str scheme;
    struct str user; /* and password, as spelled; p NULL: none */
    struct str host; /* without brackets; p NULL: not sip or sips */
    int port;        /* 0: none */
    struct str rest; /* parameters and headers, as spelled */
};
/* A URI that all read alike: sip and sips have one '@' at most, and host[:port] where it belongs.
 * Of others only a scheme is asked for. */
bool text_uri_cut(struct str uri, struct text_uri *out);

/* name-addr or addr-spec with header parameters, cut but not parsed (RFC 3261 25.1, 20.10). */
struct text_addr {
    struct str text;    /* all of it */
    struct str display; /* may be empty */
    struct str uri;
    struct str params;      /* from the first ';' on, or empty */
    struct text_uri pieces; /* of the URI */
    struct str tag;         /* of From or To; p NULL: none */
    bool tag_clear;         /* there are no two, and it is plain */
    bool brackets;
    bool wants_quotes; /* the display name is neither tokens nor quoted, and has no quote in it */
    bool untidy;       /* params have to be printed anew, one by one */
};
/* false: it has no clear seams (N8). */
bool text_addr_cut(struct str value, struct text_addr *out);
/* Via's pieces (RFC 3261 20.42). sent_by is host[:port] as spelled, params as above. */
struct text_via {
    struct str protocol, version, transport, sent_by, params;
    struct str branch; /* p NULL: none, or without a value */
    struct str host;   /* of sent_by, without brackets */
    int port;          /* 0: none */
    bool branch_clear; /* there are no two, and it is plain: transactions are told apart by it */
    bool untidy;       /* as above */
};
bool text_via_cut(struct str value, struct text_via *out);

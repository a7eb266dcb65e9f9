/* A SIP message as it is received, changed and printed (RFC 3261 7; rules F, V, N).
 *
 * sip_scan() cuts the received bytes into start line, headers and body without copying: an index
 * into the caller's buffer. It changes that buffer only to unfold lines. A rule changes the message
 * by dropping, replacing and inserting headers; sip_print() then gathers it into canonical form
 * (N1, N2, N3). What no rule touched stays the sender's bytes.
 *
 * Via, Route, Record-Route, Path and Contact lists are cut at their commas: one header each (N2).
 *
 * Ownership: everything borrows from the received bytes, or from the arena that rules print into.
 * Threads:   no state.
 * Errors:    sip_scan() returns a status to answer with, or -EBADMSG. */
#pragma once

#include <stdint.h>

#include "proxy/refusal.h"
#include "proxy/str.h"
#include "proxy/text.h"

enum {
    SIP_HEADERS_MAX = 256,     /* lines and list values, as cut */
    SIP_LINE_MAX = 16384,      /* one header line, unfolded */
    SIP_ADDRS_KEPT = 32,       /* values whose pieces are kept; more of them are cut again */
    SIP_HEADERS_BYTES = 65536, /* start line and headers; limits.message_size may be lower */
};

enum sip_method {
    SIP_OTHER, /* passes as a non-INVITE transaction (V2) */
    SIP_INVITE,
    SIP_ACK,
    SIP_BYE,
    SIP_CANCEL,
    SIP_REGISTER,
    SIP_OPTIONS,
    SIP_SUBSCRIBE,
    SIP_NOTIFY,
    SIP_REFER,
    SIP_MESSAGE,
    SIP_INFO,
    SIP_UPDATE,
    SIP_PRACK,
    SIP_PUBLISH,
    SIP_METHODS,
};

/* Headers that the proxy has to know. The table in header.c has the spelling of the IANA registry
 * for these and all other registered ones, and compact forms. A registered one without a name here
 * has a number from HEADER_ID_COUNT on; one that is not registered is HEADER_OTHER. */
enum header_id {
    HEADER_OTHER,
    HEADER_VIA,
    HEADER_ROUTE,
    HEADER_RECORD_ROUTE,
    HEADER_PATH,
    HEADER_SERVICE_ROUTE,
    HEADER_MAX_FORWARDS,
    HEADER_MAX_BREADTH,
    HEADER_PROXY_REQUIRE,
    HEADER_REQUIRE,
    HEADER_SUPPORTED,
    HEADER_UNSUPPORTED,
    HEADER_FROM,
    HEADER_TO,
    HEADER_CALL_ID,
    HEADER_CSEQ,
    HEADER_CONTACT,
    HEADER_EXPIRES,
    HEADER_MIN_EXPIRES,
    HEADER_AUTHORIZATION,
    HEADER_PROXY_AUTHORIZATION,
    HEADER_WWW_AUTHENTICATE,
    HEADER_PROXY_AUTHENTICATE,
    HEADER_FLOW_TIMER,
    HEADER_RETRY_AFTER,
    HEADER_TIMESTAMP,
    HEADER_CONTENT_TYPE,
    HEADER_CONTENT_LENGTH,
    HEADER_ID_COUNT,
    HEADER_ID_MAX = 255,
};

struct sip_header {
    enum header_id id;
    struct str name;  /* as it will be printed: the registry's spelling, else the sender's */
    struct str value; /* trimmed and unfolded */
    uint8_t addr;     /* its pieces are addrs[addr - 1] of the message; 0: not kept */
    bool repair;      /* clear but malformed: printed as it should have been (N4, N8) */
};

struct sip_msg {
    bool is_request;
    enum sip_method method;  /* request: its own; response: the CSeq's */
    struct str method_name;  /* likewise */
    struct str uri;          /* request only */
    struct text_uri uri_cut; /* as it came; its scheme is where it begins */
    int status;              /* response only: 100 to 699; -1: a bad one, behind "SIP/" */
    struct str reason;       /* response only */

    struct str body;

    /* Keys the scan reads on its way, as they came: edits of the headers leave them alone.
     * Empty (p NULL) where the header is missing or can't be read. */
    struct str call_id, from_tag, to_tag;
    struct text_via top_via; /* the first one */
    struct str top_branch;   /* its parameter */
    uint32_t cseq;           /* RFC 3261 8.1.1.5 */
    bool has_content_length;
    bool readable;        /* Via, Call-ID and CSeq are: for sip_answerable() */
    enum refusal refusal; /* why the scan refuses */

    uint64_t present[(HEADER_ID_MAX + 1) / 64]; /* no bit of an id: no header of it */
    unsigned header_count, addr_count;
    struct sip_header headers[SIP_HEADERS_MAX];
    struct text_addr addrs[SIP_ADDRS_KEPT];
};

/* How the bytes were cut out: decides what Content-Length means (F3, F4). */
enum sip_framing {
    SIP_STREAM,   /* `bytes` is exactly one message, cut by sip_frame() */
    SIP_DATAGRAM, /* UDP or WebSocket: the end of `bytes` is the end of the message at the latest */
};

/* Read a message. 0: it is well formed by V1 to V4 (syntax, mandatory headers, single headers).
 * 400 to 513: it is not; msg->refusal says why, and as much as could be read is there, so that
 * sip_response() can answer a request if sip_answerable(). -EBADMSG: nothing to answer, drop it;
 * with msg->status set it is a broken response, and framing is not in doubt (V5). `peer_2543`: From
 * without tag is fine (V1: core side). */
int sip_scan(char *bytes, size_t len, enum sip_framing framing, bool peer_2543,
             struct sip_msg *msg);
/* Via, Call-ID and CSeq are readable, and it is no ACK and no response (V5). */
bool sip_answerable(const struct sip_msg *msg);

/* ---- headers of a scanned message ---- */

/* Index of the first header `id` at or after `from`; -1: none. */
int sip_find(const struct sip_msg *msg, enum header_id id, unsigned from);
/* The same by name, for headers that rules of the configuration name (N5, N6). */
int sip_find_name(const struct sip_msg *msg, struct str name, unsigned from);
struct str sip_value(const struct sip_msg *msg, enum header_id id); /* first; p NULL: none */
/* The pieces of a From, To, Contact, Route, Record-Route or Path: of one that nobody changed they
 * are there since the scan. false: it has no clear seams. */
bool sip_addr_cut(const struct sip_msg *msg, unsigned index, struct text_addr *out);
void sip_drop(struct sip_msg *msg, unsigned index); /* later ones move up */
/* Those of another message in place of its own. */
void sip_headers_set(struct sip_msg *msg, const struct sip_header *headers, unsigned count);
/* Put a header before index (header_count: last). -ENOSPC: the message is full. */
int sip_insert(struct sip_msg *msg, unsigned index, enum header_id id, struct str value);
int sip_insert_name(struct sip_msg *msg, unsigned index, struct str name, struct str value);
/* Put it before the first of its kind; if there is none: Via and Route lists at the top after what
 * precedes them by custom, others at the end. */
int sip_push(struct sip_msg *msg, enum header_id id, struct str value);
/* Is `token` one of the values of the comma-separated list headers `id` (Supported, Require)? */
bool sip_has_token(const struct sip_msg *msg, enum header_id id, struct str token);

struct str header_name(enum header_id id);
/* The registry's spelling of a name or compact form, and its id; unknown: the name itself. */
struct str header_canonical(struct str name, enum header_id *id);
enum sip_method sip_method_of(struct str name);      /* case-sensitive, RFC 3261 7.1 */
const char *sip_method_name(enum sip_method method); /* SIP_OTHER: "other" */

/* ---- output ---- */

/* Canonical form, with an exact Content-Length and brackets in From, To and Contact (N1 to N4).
 * buf->overflow: it did not fit. */
void sip_print(const struct sip_msg *msg, struct buf *out);
/* A response to a request by this element (RFC 3261 8.2.6): its Vias, From, To, Call-ID, CSeq, and
 * Timestamp for 100; a To tag made from `to_tag` unless there is one or status is 100.
 * `extra`: whole header lines with CRLF, or empty. reason NULL: the standard phrase. */
void sip_response(const struct sip_msg *request, int status, const char *reason, struct str to_tag,
                  struct str extra, struct buf *out);
const char *sip_reason(int status); /* "Not Found"; "" for one that no RFC names */

/* ---- framing of a stream (F1, F2, F3, F6) ---- */

struct sip_frame {
    enum {
        FRAME_MORE,    /* `need` bytes in all are needed before it is worth asking again */
        FRAME_MESSAGE, /* `len` bytes from `start` are one message */
        FRAME_PING,    /* CRLFCRLF: answer CRLF (F2) */
        FRAME_IGNORE,  /* a CRLF: a pong, before a message, or half a ping: skip `taken` */
        FRAME_BROKEN,  /* framing is lost: answer `refusal` to what is there, then close (F3, F6) */
    } kind;
    size_t start, len; /* of the message; for FRAME_BROKEN: of its readable head */
    size_t taken;      /* bytes done with, to be dropped before the next call */
    size_t need;
    enum refusal refusal; /* for FRAME_BROKEN */
};

/* Look at the bytes received and not yet taken. `scanned` is the connection's cursor: 0 at its
 * start, then left alone by the caller whatever the answer is. It makes each byte of a slow sender
 * cost one look, and remembers that the CRLF before was half a ping, so that a lone CRLF is taken
 * at once and a split ping is one (F1, F2). 0 bytes: FRAME_MORE. */
void sip_frame(struct str bytes, size_t message_max, size_t *scanned, struct sip_frame *out);

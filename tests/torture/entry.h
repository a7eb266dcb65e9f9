/* Torture entries: messages that are hard to read, and what must become of each.
 *
 * A file of entries is text, one entry after the other:
 *
 *   # comment, above or inside of an entry
 *   let TO To: <sip:bob@sip.test>    from here on, {TO} stands for that
 *   == 3.1.1.6 lwsdisp: no blank between display name and <
 *   tls ws core: passes              what becomes of it, for each way in that is to be tried
 * differs body: 0                          bytes of the body that goes out; not given: all that
 * came of: INVITE                       the message is a response, to a request of this method
 *   tshark: why                      tshark is not asked about what goes out
 *   = To: <sip:bob@sip.test>         this line is in what goes out, once
 *   - P-Asserted-Identity            no header of this name is in what goes out
 *   | OPTIONS sip:bob@sip.test SIP/2.0      the message: lines that end with CRLF,
 *   | To: <sip:bob@sip
 *   + .test>                                and what goes on without one; "+" alone: none here
 *
 * Ways in: tls (a stream), ws (a WebSocket message), core (a UDP datagram). What becomes of it: any
 * of "passes", "STATUS Reason" (what its sender is told), "dropped" (neither), "closed" (the stream
 * is) and "waits" (the stream, for more), with commas between, and as often as it happens.
 *
 * In lines that begin with | + or =, {0d0a} is bytes, {300*text} is text 300 times, {token} is the
 * flow token of the client that a request of the core is for, {via} all Via lines of the request
 * that a response is to. A request of the core that names no {token} gets a Route with it.
 *
 * Ownership: the entries own all that they point to.
 * Errors:    a file that can't be read ends the program and says why. */
#pragma once

#include "proxy/str.h"

enum way { WAY_TLS, WAY_WS, WAY_CORE, WAY_COUNT };
extern const char *const way_names[WAY_COUNT];

enum { OUTCOME_STATUSES = 4, ENTRY_LINES = 32, BODY_ALL = -1, BODY_ANY = -2 };

struct outcome {
    bool wanted; /* this way is to be tried */
    unsigned passes;
    const char *statuses[OUTCOME_STATUSES]; /* "400 Bad Via" */
    unsigned status_count;
    bool closed, waits;
};

struct entry {
    const char *file, *name; /* "rfc4475", "3.1.1.6 lwsdisp" */
    int line;
    struct outcome ways[WAY_COUNT];
    long body;      /* or BODY_ALL, BODY_ANY */
    const char *of; /* NULL: no response to anything */
    bool skip_tshark;
    struct str text; /* not expanded */
    struct str lines[ENTRY_LINES];
    unsigned line_count;
    const char *absent[ENTRY_LINES];
    unsigned absent_count;
};

struct entry *entries_read(const char *path, unsigned *count);

/* The bytes that `text` stands for. To be freed. */
struct str entry_expand(struct str text, const char *token, const char *via);

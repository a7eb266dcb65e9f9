/* What is known of a connection, open or not any more, for people who ask: a copy that can be
 * handed to another thread. One malloc()ed block; free() it.
 *
 * Threads: made on the worker's; constant from then on.
 * Units:   milliseconds since 1970, bytes. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "conf/conf.h"
#include "proxy/cause.h"
#include "proxy/str.h"

struct facts {
    size_t size; /* of the block */
    uint64_t number;
    const char *state;     /* "open"; static, as all text that is not in text[] */
    const char *transport; /* "tls", "wss", ...; NULL: it is, or was, no flow */
    enum conf_listener_kind kind;
    union conf_sockaddr peer, local, bound; /* bound: the listener's side of the socket */
    union conf_sockaddr sender; /* of a PROXY protocol header; family 0: there is none */
    int64_t since, heard;

    const char *tls_version, *cipher; /* NULL: no TLS, or not that far */
    bool resumed;

    uint64_t messages_in, messages_out, bytes_in, bytes_out;
    uint64_t queued; /* in our own queue */
    unsigned rtt_us, retransmits;
    unsigned requests, dialogs;
    unsigned flow_timer_s, ping_s; /* keepalives: the client's, or our pings; 0: none */

    int status; /* of the last final response that it was sent; 0: none */
    const char *method;
    int64_t answered;

    struct {
        int64_t at; /* 0: it is open */
        enum cause cause;
        unsigned tls_alert; /* 0: none */
        const char *tls_alert_name;
        bool tls_alert_sent;
        unsigned websocket_code; /* 0: none */
        bool websocket_sent;
    } closed;

    /* In text[]; 0: there is none. */
    uint16_t alpn, server_name, client, host, reason;
    uint16_t aors; /* the first of so many, one behind the other's NUL */
    unsigned aor_count;
    char text[];
};

static inline const char *facts_text(const struct facts *facts, uint16_t at)
{
    return at ? facts->text + at : NULL;
}

struct facts *facts_copy(const struct facts *facts); /* NULL: no memory */

/* Which ones. */
struct facts_filter {
    union conf_sockaddr peer; /* family 0: any; port 0: any of its ports */
    char aor[256];            /* "sip:alice@example.com", "alice@example.com" or "alice"; "": any */
};

/* Read "192.0.2.7", "192.0.2.7:50123", "2001:db8::7" or "[2001:db8::7]:50123". */
int facts_filter_peer(struct facts_filter *filter, const char *text); /* -EINVAL */
int facts_filter_aor(struct facts_filter *filter, const char *text);  /* -EINVAL: too long */
bool facts_peer_fits(const struct facts_filter *filter, const union conf_sockaddr *peer);
bool facts_aor_fits(const struct facts_filter *filter, const char *aor);

/* Connections that ended, the last ones of so many. */
struct history {
    struct facts **all; /* a ring of `size`; NULL until there is one */
    unsigned size, count, next;
};

void history_add(struct history *history, struct facts *facts); /* it is the history's */
/* The one that ended before this one; from 0: the last one. NULL: there is none, or `number` isn't
 * there any more, and so nothing that is older. */
const struct facts *history_before(const struct history *history, uint64_t number);
const struct facts *history_find(const struct history *history, uint64_t number); /* NULL: not */
void history_clear(struct history *history);

/* Flows: connections a client opened, on which requests can go back to it (RFC 5626 2.1).
 *
 * Ownership: a flow belongs to its table from flow_open() to flow_close(); proxy/ forgets it in
 *            flow_close(), so a pointer to it is good until then and never kept across it.
 *            The transport calls flow_close() exactly once, when the connection is gone for good.
 * Threads:   a flow stays on the worker that accepted it; nothing here locks.
 * Units:     bytes, and milliseconds of the loop clock.
 * Errors:    0, or a negative errno value named at the function. */
#pragma once

#include <netinet/in.h>

#include "proxy/cause.h"
#include "proxy/str.h"

struct flow;
struct proxy;
struct registered;

enum { FLOW_NAME_SIZE = 25 }; /* "255.18446744073709551615" */

/* One for each kind of connection. */
struct flow_transport {
    const char *name;      /* as the configuration spells it, logs and metrics: "tls", "wss" */
    const char *via;       /* as Via spells it: "TLS", "TCP", "WSS", "WS" (RFC 7118 5.2.1) */
    const char *uri;       /* as a URI's transport parameter spells it: "tls", "tcp", "ws" */
    uint16_t default_port; /* of a URI with that transport */
    /* Send at once or queue. -EPIPE: closed or closing. -ENOBUFS: a slow reader's queue is full
     * (the transport closes the connection itself, X2). It never calls back into proxy/ from
     * inside send(): a close that send() causes is reported by flow_close() from the loop. */
    int (*send)(void *conn, struct str bytes);
    void (*close)(void *conn, enum cause cause); /* start closing; flow_close() follows, later */
};

struct flow_options {
    const struct flow_transport *transport; /* borrowed until flow_close() */
    void *conn;
    const struct sockaddr *peer, *local; /* copied. local: what the client connected to */
    const char *host; /* copied. Name that the client asked for (SNI, Host) and that the certificate
                         has; NULL: conf->domain. Goes into Via and Record-Route towards it. */
    const char *client; /* who its certificate says it is, for the log; NULL: it showed none */
    uint64_t number;    /* of the connection, on this worker: never used twice */
};

/* Enter an accepted connection that is ready for SIP. -EMFILE: the table is at its maximum.
 * -ENOMEM. */
int flow_open(struct proxy *proxy, const struct flow_options *options, uint64_t now,
              struct flow **out);
/* The connection is gone: its INVITEs are cancelled, its other transactions end (T6), what waits
 * for it is answered 430. `reason` for the log and the metrics: "closed by client". */
void flow_close(struct flow *flow, const char *reason, uint64_t now);

/* Worker and number of a connection, "2.17", flow or not. */
void flow_name_print(const struct proxy *proxy, uint64_t number, char name[FLOW_NAME_SIZE]);
/* It has a call, or a request from or to it waits for its final response. */
bool flow_is_busy(const struct flow *flow);

/* What is known of it, for people who ask. */
struct flow_facts {
    const char *transport; /* as in flow_transport's name; static */
    const char *host;      /* as in flow_options; NULL: conf->domain */
    uint64_t messages_in, messages_out;
    uint64_t answered_at;  /* when the last final response went to it; 0: none yet */
    int status;            /* that response's */
    const char *method;    /* and that of its request; static */
    unsigned flow_timer_s; /* keepalives that were agreed on (RFC 5626 4.4); 0: none */
    unsigned requests;     /* from it, still open */
    unsigned dialogs;      /* calls that are answered */
    const struct registered *registered; /* until the next call to proxy/ */
};

void flow_facts(const struct flow *flow, struct flow_facts *out);

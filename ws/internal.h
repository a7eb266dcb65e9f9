/* What the files of ws/ share: one worker's context, and one connection of it.
 *
 * A connection goes from the accept to its end through the states below. libwebsockets closes
 * sockets in several turns of the loop; a connection lives until it says WSI_DESTROY. The flow is
 * told as soon as the connection is gone for the peer (CLOSED).
 * Threads: one worker's. */
#pragma once

#include <libwebsockets.h>

#include "tls/socket.h"
#include "ws/ws.h"

enum conn_state {
    CONN_HANDSHAKE, /* TLS */
    CONN_UPGRADE,   /* the HTTP request */
    CONN_OPEN,
    CONN_CLOSING, /* nothing is received or sent any more, but a close frame */
    CONN_GONE,
};

struct frame { /* waits for a slow reader */
    struct frame *next;
    size_t len;
    enum lws_write_protocol type;
    unsigned char room[]; /* LWS_PRE bytes for the frame's header, then the message */
};

enum { CLOSE_REASON_SIZE = 64 };

struct ws_conn {
    struct ws *ws;
    struct ws_conn *next, **link; /* in ws->conns */
    struct lws *wsi;
    struct flow *flow;
    enum conn_state state;
    bool tls;
    union conf_sockaddr peer, local;

    struct timer timer; /* one for every limit: fires at the nearest, looks what is due */
    uint64_t opened, received, begun, pinged; /* times; received: anything at all */
    uint64_t ping_interval;                   /* this connection's, jittered; 0: none */
    bool in_message, had_message, ping_waits_pong, ping_unsent;

    char *message; /* the fragments so far (F4) */
    size_t message_len, message_size;

    struct frame *queue, **queue_end;
    size_t queued; /* bytes, the frames' own memory counted in */

    unsigned close_code; /* 0: no close frame */
    uint64_t deadline;   /* of the close */
    bool close_sent;
    char reason[CLOSE_REASON_SIZE]; /* why it ends: for flow_close() */
};

struct ws {
    struct ws_options options;
    struct lws_context *context; /* becomes NULL when libwebsockets is done with it */
    struct lws_vhost *plain, *secure;
    struct lws_protocols protocols[2];
    struct ws_conn *conns;
    unsigned count;
    bool closing;

    struct ws_conn *adopting; /* by ws_accept(), until libwebsockets is done with it */
    bool adopted;             /* it made a struct lws for it */

    unsigned char *out; /* LWS_PRE, and room for one message that is sent */
    size_t out_size;
    uint32_t jitter;  /* of pings: a state of its own, not security */
    uv_idle_t reaper; /* waits until libwebsockets has closed its handles */
    unsigned turns;
};

/* connection.c */
void conn_start(struct ws_conn *conn); /* just accepted */
void conn_free(struct ws_conn *conn);  /* gives its place back */
/* What libwebsockets calls back for. Nonzero: it has to close the connection now. */
int conn_open(struct ws_conn *conn, const char *host);
int conn_receive(struct ws_conn *conn, char *bytes, size_t len);
void conn_receive_pong(struct ws_conn *conn);
int conn_writeable(struct ws_conn *conn);
void conn_closing(struct ws_conn *conn, const char *reason); /* libwebsockets does it */
void conn_gone(struct ws_conn *conn);
/* Close with a frame, within a second. Not yet open: cut. */
void conn_close(struct ws_conn *conn, unsigned code, const char *reason);
void conn_text(const struct ws_conn *conn, char text[SOCKET_TEXT]); /* the peer's address */

/* handshake.c */
/* The upgrade request is complete: 0 to accept, else it is answered and has to be closed (F5). */
int handshake_check(struct ws_conn *conn, struct lws *wsi, const char *upgrade);
/* A request without upgrade: answered, has to be closed. */
int handshake_refuse(struct ws_conn *conn, struct lws *wsi);
/* The name that the Host header has, if it is one of ours. NULL: not. Of the configuration. */
const char *handshake_host(const struct ws_conn *conn, struct lws *wsi);

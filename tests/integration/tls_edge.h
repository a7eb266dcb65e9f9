/* One worker's connections over loopback, and clients of them in the same thread: a test turns the
 * loop itself, so nothing runs that it does not see. */
#pragma once

#include <openssl/ssl.h>

#include "fake_proxy.h"
#include "tls/listener.h"
#include "tls/stream.h"

struct edge {
    uv_loop_t loop;
    struct timers *timers;
    uint64_t skew; /* added to the clock of the timers: a test that skips time */
    struct conf conf;
    struct conf_certificate certificates[2];
    struct conf_listener listen;
    struct tickets *tickets;
    struct certificates *table;
    struct proxy proxy;
    struct streams *streams;
    struct listener *listener;
    atomic_uint connections;
    unsigned timers_changed;
    int accepted_fd; /* the last */
};

/* Limits may be changed in edge->conf between the two. */
void edge_setup(struct edge *edge);
struct certificates *edge_certificates(struct edge *edge); /* of the files as they are now */
void edge_start(struct edge *edge, enum conf_listener_kind kind, const char *address);
void edge_teardown(struct edge *edge); /* every connection must end in time; nothing may leak */
void edge_turn(struct edge *edge);     /* whatever is ready now, or 5 ms */

/* Turn the loop until it is so; fail after some seconds. */
#define UNTIL(edge, condition)                                                                     \
    do {                                                                                           \
        uint64_t until_end_ = uv_hrtime() + 10000000000U;                                          \
        while (!(condition) && uv_hrtime() < until_end_)                                           \
            edge_turn(edge);                                                                       \
        if (!(condition))                                                                          \
            fail_msg("still not so: %s", #condition);                                              \
    } while (0)

struct client {
    struct edge *edge;
    int fd;
    SSL_CTX *context;
    SSL *ssl; /* NULL: plain */
};

struct client_options {
    const char *name; /* SNI */
    int version;      /* 0: the newest */
    bool plain;
    int receive_buffer; /* bytes; 0: the system's */
};

/* Connects; the handshake is client_handshake()'s. */
void client_connect(struct client *client, struct edge *edge, const struct client_options *options);
bool client_handshake(struct client *client); /* false: refused */
void client_open(struct client *client, struct edge *edge, const struct client_options *options);
void client_send(struct client *client, const char *bytes, size_t len);
void client_say(struct client *client, const char *text);
/* Exactly these bytes are the next to come. */
void client_expect(struct client *client, const char *bytes, size_t len);
void client_hear(struct client *client, const char *text);
/* How the connection ended, once all that came before is read: */
enum client_end { CLIENT_CLOSED_PROPERLY, CLIENT_CUT, CLIENT_RESET };
enum client_end client_ended(struct client *client);
void client_close(struct client *client); /* FIN, no close_notify */

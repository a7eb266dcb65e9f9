/* A whole edge for the fuzzer, without sockets: the proxy, the embedded registrar or some backends,
 * clients, and a clock set by hand. Whatever the proxy sends is judged at once against what it was
 * given (oracle.c): a broken rule ends the program.
 *
 * Nothing in it is left to chance: random numbers come from a fixed seed, so an input always does
 * the same. */
#pragma once

#include <assert.h>

#include "proxy/internal.h"
#include "proxy/registrar_internal.h"

enum {
    WORLD_CLIENTS = 4,
    WORLD_BACKENDS = 3,
    WORLD_KEPT = 64,
    WORLD_URIS = 32,
    STREAM_MAX = 40000,
};

/* Where a message came from or went to. */
struct place {
    int client;    /* -1: the core side */
    unsigned life; /* the client's connection, counted */
    struct core_addr core;
};

struct kept {
    struct place place;
    char *bytes;
    size_t len;
    bool is_request;
    bool sent; /* by the proxy */
};

struct client {
    struct world *world;
    unsigned number, life;
    struct flow *flow; /* NULL: not connected */
    bool websocket, hung_up;
    int failure; /* what send() returns; 0: none */
    char stream[STREAM_MAX];
    size_t stream_len, scanned;
    bool challenged, sha256;
    char nonce[128];
    unsigned nonce_count, cseq;
};

struct posted {        /* on its way without a socket */
    bool to_registrar; /* else to the proxy */
    enum core_kind from;
    char *bytes;
    size_t len;
    struct posted *next;
};

struct world_options {
    bool contact_path, embedded, several_backends, small_limits, header_rules;
};

struct world {
    struct world_options options;
    struct conf conf;
    struct core_view view;
    struct health health;
    struct timers *timers;
    struct proxy *proxy;
    struct registrar *registrar; /* NULL: backends */
    struct token_keys *keys;     /* to read tokens without the proxy */
    struct arena arena;
    uint64_t now;
    int core_failure;
    struct client clients[WORLD_CLIENTS];

    struct posted *posted, **posted_end; /* to self, the registrar, and what it sends */
    unsigned posted_count;

    struct kept kept[WORLD_KEPT]; /* the newest messages, a ring */
    unsigned kept_count;
    char *uris[WORLD_URIS]; /* the newest URIs of ours, a ring */
    unsigned uri_count;
    bool plain; /* nothing but templates came so far */
};

void world_open(struct world *world, const struct world_options *options);
/* All flows closed and all timers run: nothing may be left; or `at_once`. */
void world_close(struct world *world, bool at_once);

void client_open(struct client *client, unsigned kind);
void client_close(struct client *client);
/* Bytes of a stream, or one WebSocket message. */
void client_says(struct client *client, struct str bytes);
void core_says(struct world *world, const struct core_addr *from, struct str bytes);
void world_wait(struct world *world, uint64_t ms);

const struct kept *world_kept(const struct world *world, unsigned back); /* NULL: none so far */
const char *world_uri(const struct world *world, unsigned back);         /* NULL: none so far */

/* ---- oracle.c ---- */

void oracle_reset(const struct world *world);
/* The proxy is about to be given these bytes, which are messages, or some and a part of one; it is
 * done with them, and with all that they caused. */
void oracle_given(const struct world *world, const struct place *from, struct str bytes,
                  size_t scanned, enum sip_framing framing);
void oracle_done(void);
/* The proxy sends. */
void oracle_sent(struct world *world, const struct place *to, struct str bytes);
void oracle_registrar_sent(struct str bytes);
void oracle_flow_gone(const struct client *client);

/* The configuration: one YAML file, checked whole, as plain structs.
 *
 * Ownership: counted. conf_load() gives the first reference. Strings are the struct's own. Optional
 *            keys have their defaults filled in: readers never see "unset" but where said here.
 * Threads:   whoever loads one may change it until others have it; immutable from then on.
 *            References are for any thread.
 * Units:     seconds are in _s, milliseconds in _ms, bytes in _bytes or said at the key.
 *            Lines are those of the file, and negative where a variable gave the thing: see
 *            conf_place_print().
 * Errors:    conf_load() reports every mistake in the file, in the order of lines. */
#pragma once

#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum {
    CONF_BACKENDS_MAX = 32,
    CONF_LISTENERS_MAX = 64,
    CONF_TOKEN_KEYS_MAX = 8,
    CONF_WORKERS_MAX = 128,
};

enum conf_listener_kind {
    CONF_TLS,
    CONF_WSS,
    CONF_TCP,
    CONF_WS,
    CONF_TLS_WSS, /* both on one port */
    CONF_TCP_WS,
};

/* What a listener wants of its clients' certificates. A bad one is refused by both that ask. */
enum conf_client_certificate { CONF_CLIENT_NO, CONF_CLIENT_ASKED, CONF_CLIENT_REQUIRED };

union conf_sockaddr {
    struct sockaddr sa;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
};

struct conf_network {
    union conf_sockaddr address; /* port 0, host bits 0 */
    unsigned bits;
};

struct conf_listener {
    enum conf_listener_kind kind;
    union conf_sockaddr address; /* PORT alone: [::], both families (IPV6_V6ONLY off) */
    bool any;                    /* PORT alone was given: where there is no IPv6, 0.0.0.0 */
    enum conf_client_certificate client_certificate; /* of kinds without TLS: no */
    struct conf_network *proxy_protocol; /* who connects: load balancers in these networks, with a
                                            PROXY protocol header; none: clients themselves */
    unsigned proxy_protocol_count;
    int line;
};

struct conf_certificate {
    char *chain, *key; /* PEM files, a relative name put beside the configuration; that they can be
                          read is checked, what is in them is tls/'s to say */
    int line;
};

/* How a backend is spoken to. AUTO: by UDP, and by TCP where a request is over limits.udp_size
 * (T7).
 */
enum conf_transport { CONF_TRANSPORT_UDP, CONF_TRANSPORT_TCP, CONF_TRANSPORT_AUTO };

struct conf_backend {
    enum conf_transport transport;
    char *host;        /* name or address, without brackets */
    uint16_t port;     /* 0: not given, so SRV records say it, else it is 5060 (RFC 3263 4.2) */
    uint16_t priority; /* less goes first: 1 */
    uint16_t weight;   /* share of the users, among those of equal priority: 1 */
    int line;
};

/* Which PBX the backends are. What it is known to need is in the keys that the file leaves out. */
enum conf_profile {
    CONF_GENERIC,
    CONF_ASTERISK,
    CONF_FREESWITCH,
    CONF_KAMAILIO,
    CONF_3CX,
    CONF_CUCM
};

struct conf_user {
    char *name;
    char *password;             /* NULL: only hashes are known */
    char *ha1_md5, *ha1_sha256; /* lower-case hex of user:realm:password, or NULL */
};

enum conf_direction { CONF_TO_CORE, CONF_TO_ACCESS };
enum conf_action { CONF_REMOVE, CONF_SET, CONF_ADD };

struct conf_header_rule { /* N6 */
    enum conf_direction direction;
    enum conf_action action;
    char *name, *value; /* value NULL: remove */
};

struct conf {
    atomic_uint shared;       /* references beyond the first */
    unsigned connections_max; /* what limits.connections comes to on this machine: for who runs it
                                 to fill in; 0: no limit is known */
    char *path;               /* of the file */
    char *domain;   /* SIP domain, and the name in Via and Record-Route towards clients that did not
                       ask for another one in the certificate. An IPv6 address is in its
                       shortest form, without brackets */
    char **aliases; /* more host names or addresses that clients use for this edge, as above */
    unsigned alias_count;

    struct conf_certificate *certificates; /* the first is the default; `certificate` and
                                              `certificates` are the same list */
    unsigned certificate_count;
    char *client_ca; /* PEM file, named as above: CAs of the clients' certificates; NULL: no
                        listener asks for one */
    int client_ca_line;
    struct conf_listener *listeners;
    unsigned listener_count;

    struct conf_backend *backends; /* none: the embedded registrar */
    unsigned backend_count;
    union conf_sockaddr core4, core6; /* family 0: to be found out at start; port is filled in */
    uint16_t core_port;               /* 5060 unless `core` says otherwise */

    bool contact_path;                                /* contact: path; else mask (R6) */
    int flow_gone_status;                             /* 430 (R7) */
    uint8_t flow_token_keys[CONF_TOKEN_KEYS_MAX][32]; /* 64 hex digits each in the file */
    unsigned flow_token_key_count;                    /* 0: random at start */

    struct conf_user *users;
    unsigned user_count;
    struct {
        char *realm;                                              /* the domain unless set */
        unsigned min_expires_s, default_expires_s, max_expires_s; /* 60, 3600, 7200 */
        unsigned max_bindings;                                    /* for one AOR: 10 */
        unsigned nonce_lifetime_s;                                /* 300 */
    } registrar;

    struct {
        char *path;     /* "/": any path is fine; else exactly this one (F5: 404) */
        char **origins; /* allow list; none: any */
        unsigned origin_count;
        /* Silence after which sipward pings, a tenth more or less; and after the ping, until it
         * closes, for which a client has one second. 18 * 1.1 + 8 + 1 = 28.8: who vanished without
         * a word is found within 30 s (F8). */
        unsigned ping_interval_s; /* 18 */
        unsigned pong_timeout_s;  /* 8 */
    } websocket;

    struct {                 /* N5, N6, N7 */
        char **from_clients; /* removed on the way in; "P-Access-Network-Info;network-provided"
                                removes only values with that parameter */
        unsigned from_client_count;
        char **to_clients; /* removed on the way out */
        unsigned to_client_count;
        struct conf_header_rule *rules;
        unsigned rule_count;
        char *client_address; /* name of the header that tells the PBX the client's address, port
                                 and transport; NULL: none */
    } headers;

    struct {
        size_t message_size;                  /* 65536 bytes (F6) */
        size_t udp_size;                      /* 1300 bytes: larger requests go by TCP where the
                                                 backend's transport is auto (T7) */
        unsigned max_forwards;                /* 70 (M2) */
        unsigned connections;                 /* of the process; 0: from RLIMIT_NOFILE */
        unsigned transactions;                /* of one worker: 100000 */
        unsigned transactions_per_connection; /* 100 */
        size_t send_queue;                    /* bytes waiting for one slow reader: 262144 (X2) */
        unsigned handshake_timeout_s;         /* TLS: 10 (F7) */
        unsigned upgrade_timeout_s;           /* HTTP upgrade: 10 (F7) */
        unsigned message_timeout_s;           /* a message begun but not finished: 15 (F7) */
        unsigned first_message_timeout_s;     /* nothing at all after the handshake: 30 (F7) */
        unsigned idle_timeout_s;              /* nothing received for so long: 7200; 0: never */
        unsigned try_timeout_ms;              /* 1600: a backend's time for any answer to a request
                                                 that another one could be asked for (B3) */
        unsigned stop_timeout_ms;             /* open transactions get this long at a stop: 2000 */
        unsigned drain_spread_s;              /* connections without a call leave in it: 10 */
        unsigned drain_timeout_s;             /* those with one are waited for so long: 60 */
    } limits;

    struct {                 /* OPTIONS to backends (B2) */
        unsigned interval_s; /* 10; 0: none */
        unsigned timeout_s;  /* 2 */
        unsigned down_after; /* without an answer, in a row: 3 */
        unsigned up_after;   /* answered in a row: 2 */
    } probe;

    struct {
        union conf_sockaddr address; /* family 0: there is no admin side; port 0: any free one */
        char *token;                 /* NULL: none is wanted */
        bool given; /* by the file: then an address that can't be had ends a start */
        int line;
    } admin;

    enum conf_profile profile;
    unsigned workers; /* 0 in the file or none: one for each core */
    int log_level;    /* enum log_level: 0 error, 1 warning, 2 info, 3 debug */
    bool log_json;
};

/* Read and check a file, and the environment variables that win over it (deploy/README.md). 0: *out
 * is complete. -EINVAL: mistakes in it, each reported as one line on `errors`: "FILE:LINE: key:
 * 'value' is wrong: what would be right", or with a variable's name in the place of FILE:LINE.
 * -ENOENT, -EACCES, -EFBIG, ...: the file can't be read; reported too. -ENOMEM. */
int conf_load(const char *path, FILE *errors, struct conf **out);
void conf_free(struct conf **conf); /* the reference of conf_load(); a NULL *conf is fine */
const struct conf *conf_ref(const struct conf *conf);
void conf_unref(const struct conf **conf); /* *conf becomes NULL; a NULL *conf is fine */
/* Which of its backends is at the same place by the same transport; which of its listeners is at
 * the same address. -1: none. */
int conf_backend_at(const struct conf *conf, const struct conf_backend *backend);
int conf_listener_at(const struct conf *conf, const struct conf_listener *listener);
bool conf_network_has(const struct conf_network *network, const struct sockaddr *address);
/* How a message about a line begins: "FILE:LINE: ", or "VARIABLE: " for what that gave. */
void conf_place_print(const char *path, int line, FILE *out);
const char *conf_listener_kind_name(enum conf_listener_kind kind); /* as the file has it: "tls" */
/* What can't change while it runs becomes what it is in `running`: `workers`, which must be filled
 * in, and `core`. Those that were different are named on `out`: "core, workers". -ENOMEM. */
int conf_keep(struct conf *conf, const struct conf *running, FILE *out);
/* Has this key of the file's, or the mapping, the same value in both? */
bool conf_same(const struct conf *one, const struct conf *two, const char *key);
/* The keys that have not: "listen, limits.connections", or "limits" where many of them have not.
 * false: all are the same. */
bool conf_changes_print(const struct conf *before, const struct conf *after, FILE *out);
/* What the file and the defaults came to, for `sipward check`: no secrets. */
void conf_print(const struct conf *conf, FILE *out);
/* Every key with its default and one line of help, from the schema: for the documents' test. */
void conf_print_keys(FILE *out);

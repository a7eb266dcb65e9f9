/* A connection that carries SIP: TCP, TLS over it, and WebSocket (RFC 7118) over either; of a
 * client or of a server. Non-blocking, on the caller's epoll.
 *
 * Ownership: the caller has the struct; wire_open() or wire_accept() begin, wire_drop() ends.
 * Threads:   all of one thread, which share buffers.
 * Errors:    state WIRE_DEAD and `why`, to be looked for after wire_ready(). Nothing is freed
 * inside a callback. */
#pragma once

#include <netinet/in.h>
#include <stdint.h>

#include <openssl/ssl.h>

#include "sip.h"

enum wire_state { WIRE_NONE, WIRE_CONNECTING, WIRE_TLS, WIRE_UPGRADE, WIRE_OPEN, WIRE_DEAD };

struct wire;

/* What the wires of one kind have in common. */
struct wire_kind {
    int epoll;
    SSL_CTX *tls; /* NULL: none */
    bool client;
    bool websocket;
    const char *domain; /* of a client: SNI, Host, Origin */
    void (*opened)(struct wire *wire);
    void (*message)(struct wire *wire, const struct sip *sip);
};

struct bytes {
    char *p;
    size_t len, size;
};

struct wire {
    const struct wire_kind *kind;
    int fd;
    enum wire_state state;
    bool wants_out; /* what epoll was last told */
    const char *why;
    SSL *ssl;
    struct bytes in, out; /* of an unfinished message; what the socket did not take */
};

/* Connect from `from` (address; port 0) to `to`. `session`: to be resumed, or NULL. */
void wire_open(struct wire *wire, const struct wire_kind *kind, const struct sockaddr_in *from,
               const struct sockaddr_in *to, SSL_SESSION *session);
void wire_accept(struct wire *wire, const struct wire_kind *kind, int fd);
void wire_ready(struct wire *wire, uint32_t events); /* epoll says so; its data is the wire */
void wire_send(struct wire *wire, const char *message, size_t len);
/* Say that nothing more comes, in TLS and in TCP, and wait for the other side to say the same: it
 * is done with all that it was sent when the state is WIRE_DEAD. */
void wire_end(struct wire *wire);
/* `abort`: by RST, with no word of TLS or WebSocket before. Fine for one that never began. */
void wire_drop(struct wire *wire, bool abort);

/* A context of OpenSSL with what both sides of the bench use: TLS 1.3, few buffers, few reads. */
SSL_CTX *wire_tls(bool client, const char *chain_file, const char *key_file);

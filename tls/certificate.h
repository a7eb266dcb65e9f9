/* Certificates of one worker: an SSL_CTX for each pair in the file, chosen by SNI (X4).
 *
 * Made in the calling thread's OpenSSL library context, so: on the worker's own thread.
 * TLS 1.2 and 1.3, forward secrecy, no renegotiation, no compression; ticket keys shared by all
 * workers.
 *
 * Ownership: certificates_load() allocates, certificates_free() frees. Handshakes under way borrow
 *            the table; finished ones do not need it.
 * Threads:   one worker's. */
#pragma once

#include <stdio.h>

#include <openssl/ssl.h>

#include "conf/conf.h"

struct certificates;

enum { TICKET_KEYS_SIZE = 80, CLIENT_NAME_SIZE = 256 };

/* What the keys of the session tickets begin with, random and the same for all workers; a new key
 * follows from it each day. Whoever made it forgets it when all workers have it. */
struct ticket_keys {
    uint8_t bytes[TICKET_KEYS_SIZE];
    int64_t made_s; /* when, by CLOCK_MONOTONIC */
};

/* Each mistake (unreadable, not PEM, encrypted, key does not fit, too weak, ...) is one line on
 * `errors` with the configuration's line, the file's name and what would be right. What works but
 * will be refused by clients (expired, not yet valid, not for the domain, ...), or ends within 14
 * days, is a warning in the log. `errors` NULL: a worker's copy of what was checked before; no
 * line, no warning. -EINVAL: mistakes. -ENOMEM. */
int certificates_load(const struct conf *conf, const struct ticket_keys *ticket_keys, FILE *errors,
                      struct certificates **out);
void certificates_free(struct certificates **certificates); /* a NULL *certificates is fine */
/* The context to make sessions from: its client-hello callback switches to the pair that fits the
 * server name, the default if none does; EC before RSA where the client can do both. */
SSL_CTX *certificates_default(const struct certificates *certificates);
/* What a new session may agree on (RFC 7301): static text, each name behind a byte that is its
 * length. The client's order decides; who offers none of them gets none. Not called: none.
 * -ENOMEM. */
int certificates_alpn(SSL *ssl, const char *names);
/* Make a new session demand a certificate of its client as the listener says, before the handshake.
 * It takes tickets of listeners with the same demand only, and none of a client whose certificate
 * has ended since. -EIO: OpenSSL refused. */
int certificates_demand(SSL *ssl, enum conf_client_certificate demand);
/* Who the client has proved to be: its certificate's subject (RFC 4514) or, where that is empty,
 * its first subjectAltName. For the log. False: no certificate was shown. */
bool certificates_client(SSL *ssl, char name[CLIENT_NAME_SIZE]);
/* Why the client's certificate was refused, where the handshake ended by
 * SSL_R_CERTIFICATE_VERIFY_FAILED: static text. */
const char *certificates_refusal(const SSL *ssl);
/* The server name of a finished handshake if the certificate in use has it, else NULL. For
 * flow_options.host. Borrowed from `ssl`. */
const char *certificates_host(SSL *ssl);

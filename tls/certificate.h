/* Certificates of one worker: an SSL_CTX for each pair in the file, chosen by SNI (X4).
 *
 * The files are read once, by the main thread; tables are made from those bytes, in the calling
 * thread's OpenSSL library context, so: on the worker's own thread. TLS 1.2 and 1.3, forward
 * secrecy, no renegotiation, no compression; ticket keys shared by all workers.
 *
 * Ownership: tables are counted. A handshake under way holds its table (tls/channel.h); a
 *            finished one does not need it. Who read the bytes keeps them while tables are made.
 * Threads:   a table and its tickets are one worker's; the bytes are for any thread. */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#include <openssl/ssl.h>

#include "conf/conf.h"

struct certificates;

enum { TICKET_KEYS_SIZE = 80, CLIENT_NAME_SIZE = 256 };

/* ---- bytes ---- */

/* The PEM files of one configuration as they were at one moment, also what could not be read. */
struct pems;

int pems_read(const struct conf *conf, const struct pems **out); /* -ENOMEM */
void pems_free(const struct pems **pems); /* *pems becomes NULL; a NULL *pems is fine */
/* Were the same bytes read for as many pairs, in that order? Both may be NULL. */
bool pems_eq(const struct pems *one, const struct pems *two);

/* ---- session tickets ---- */

/* What the keys of the session tickets begin with, random and the same for all workers; a new key
 * follows from it each day. Whoever made it forgets it when all workers have it. */
struct ticket_keys {
    uint8_t bytes[TICKET_KEYS_SIZE];
    int64_t made_s; /* when, by CLOCK_MONOTONIC */
};

/* The keys of one worker, for all of its tables: tickets outlive certificates. */
struct tickets;

int tickets_open(const struct ticket_keys *keys, struct tickets **out); /* -EIO, -ENOMEM */
void tickets_close(struct tickets **tickets); /* a NULL *tickets is fine */

/* ---- tables ---- */

struct certificates_options {
    const struct conf *conf;    /* borrowed during the call; certificate_count is not 0 */
    const struct pems *pems;    /* that were read for it */
    const struct pems *running; /* what is served now; NULL: nothing yet */
    struct tickets *tickets;    /* borrowed; NULL: nobody will connect */
    FILE *errors;               /* NULL: a worker's copy of what was checked before; no word */
};

/* Each mistake (unreadable, not PEM, encrypted, key does not fit, too weak, ...) is one line on
 * `errors` with the configuration's line, the file's name and what would be right. What works but
 * will be refused by clients (expired, not yet valid, not for the domain, ...), or ends within 14
 * days, is a warning in the log; but one that has expired is a mistake where it would take the
 * place of another one that runs. -EINVAL: mistakes. -ENOMEM. */
int certificates_load(const struct certificates_options *options, struct certificates **out);
struct certificates *certificates_ref(struct certificates *certificates);
void certificates_unref(struct certificates **certificates); /* a NULL *certificates is fine */
/* When the pair at this index of conf->certificates ends, in seconds since 1970. */
int64_t certificates_until(const struct certificates *certificates, unsigned index);
/* The context to make sessions from: its client-hello callback switches to the pair that fits the
 * server name, the default if none does; EC before RSA where the client can do both. */
SSL_CTX *certificates_default(const struct certificates *certificates);
/* What a new session may agree on (RFC 7301): static text, each name behind a byte that is its
 * length. The client's order decides; who offers none of them gets none. Not called: none.
 * -ENOMEM. */
int certificates_alpn(SSL *ssl, const char *names);
/* Make a new session demand a certificate of its client as the listener says, before the handshake.
 * It takes tickets of listeners with the same demand and the same CAs only, and none of a client
 * whose certificate has ended since. -EIO: OpenSSL refused. */
int certificates_demand(const struct certificates *certificates, SSL *ssl,
                        enum conf_client_certificate demand);
/* Who the client has proved to be: its certificate's subject (RFC 4514) or, where that is empty,
 * its first subjectAltName. For the log. False: no certificate was shown. */
bool certificates_client(SSL *ssl, char name[CLIENT_NAME_SIZE]);
/* Why the client's certificate was refused, where the handshake ended by
 * SSL_R_CERTIFICATE_VERIFY_FAILED: static text. */
const char *certificates_refusal(const SSL *ssl);
/* The server name of a finished handshake if the certificate in use has it, else NULL. For
 * flow_options.host. Borrowed from `ssl`. */
const char *certificates_host(SSL *ssl);

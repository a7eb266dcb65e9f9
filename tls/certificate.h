/* Certificates of one worker: an SSL_CTX for each pair in the file, chosen by SNI (X4).
 *
 * Made in the calling thread's OpenSSL library context, so: on the worker's own thread.
 * TLS 1.2 and 1.3, forward secrecy, no renegotiation, no compression; ticket keys shared by all
 * workers. One table serves both own TLS and, through the client-hello callback, libwebsockets.
 *
 * Ownership: certificates_load() allocates, certificates_free() frees.
 * Threads:   one worker's. */
#pragma once

#include <stdio.h>

#include <openssl/ssl.h>

#include "conf/conf.h"

struct certificates;

enum { TICKET_KEYS_SIZE = 80 }; /* as SSL_CTX_set_tlsext_ticket_keys() takes them */

/* Each mistake (unreadable, not PEM, key does not fit, expired, ...) is one line on `errors` with
 * the file's name and what would be right; a certificate that ends within 14 days a warning in the
 * log. -EINVAL: mistakes. */
int certificates_load(const struct conf *conf, const uint8_t ticket_keys[TICKET_KEYS_SIZE],
                      FILE *errors, struct certificates **out);
void certificates_free(struct certificates **certificates);
SSL_CTX *certificates_default(const struct certificates *certificates);
/* For the client hello's server name; the default if none fits. EC before RSA where the client can
 * do both. For SSL_CTX_set_client_hello_cb(): call SSL_set_SSL_CTX() with the result. */
SSL_CTX *certificates_choose(const struct certificates *certificates, SSL *ssl);
/* The server name of a finished handshake if the certificate in use has it, else NULL. For
 * flow_options.host. Borrowed from `ssl`. */
const char *certificates_host(SSL *ssl);

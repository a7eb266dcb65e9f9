/* What the files behind certificate.h share: reading PEM files, the keys of session tickets, and
 * the certificates of clients. */
#pragma once

#include <stdio.h>

#include <openssl/ssl.h>

#include "conf/conf.h"
#include "tls/certificate.h"

/* What mistakes and warnings are about while it is loaded. */
struct loading {
    const struct conf *conf;
    const char *key; /* of the configuration */
    int line;
    FILE *errors; /* NULL: nothing is said */
};

/* One line on `errors`; empties OpenSSL's queue. Returns -EINVAL. */
int mistake(const struct loading *loading, const char *file, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* `more`: the date or name that it is about; NULL: none. */
void warning(const struct loading *loading, const char *what, const char *file, const char *more);
const char *openssl_reason(void);

/* -EINVAL: told. -ENOMEM. The caller frees *out. */
int chain_read(const struct loading *loading, const char *file, STACK_OF(X509) * *out);
int key_read(const struct loading *loading, const char *file, EVP_PKEY **out);
/* Not in its time, or soon not any more. */
void dates_warn(const struct loading *loading, const char *file, const X509 *certificate);

/* Keys of session tickets: each is good for a day of new tickets, and a day of old ones. They move
 * on with the handshakes that need them. */
struct tickets {
    struct ticket_keys now, before;
    EVP_CIPHER *cipher;
};
int tickets_open(struct tickets *tickets, const struct ticket_keys *keys); /* -EIO, -ENOMEM */
void tickets_close(struct tickets *tickets);                   /* one that is all zeros is fine */
bool tickets_apply(struct tickets *tickets, SSL_CTX *context); /* borrowed by the context */

/* The CAs of clients' certificates, for every context: those of conf->client_ca, or none. */
struct client_ca {
    X509_STORE *store; /* NULL: no client is asked */
    STACK_OF(X509_NAME) * names;
};
int client_ca_load(const struct conf *conf, FILE *errors, struct client_ca *out);
void client_ca_free(struct client_ca *ca);
/* Let sessions of this context verify by these CAs, where certificates_demand() says so. */
bool client_ca_apply(const struct client_ca *ca, SSL_CTX *context);

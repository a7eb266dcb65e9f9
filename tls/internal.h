/* What the files behind certificate.h share: reading PEM files, the keys of session tickets, and
 * the certificates of clients. */
#pragma once

#include <stdio.h>
#include <sys/types.h>

#include <openssl/ssl.h>

#include "conf/conf.h"
#include "tls/certificate.h"

/* One file, as it was read. */
struct pem {
    char *bytes; /* and a NUL */
    size_t len;
    int err; /* why it could not be read; 0: it was */
    mode_t mode;
};

struct pems {
    struct pem client_ca; /* bytes NULL: the configuration has none */
    unsigned count;
    struct pem_pair {
        struct pem chain, key;
    } pairs[];
};

bool pem_pair_eq(const struct pem_pair *one, const struct pem_pair *two);

/* What mistakes and warnings are about while it is loaded. */
struct loading {
    const struct conf *conf;
    const char *key; /* of the configuration */
    int line;
    FILE *errors; /* NULL: nothing is said */
    bool renewal; /* another certificate is in its place now */
};

/* One line on `errors`; empties OpenSSL's queue. Returns -EINVAL. */
int mistake(const struct loading *loading, const char *file, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* `more`: the date or name that it is about; NULL: none. */
void warning(const struct loading *loading, const char *what, const char *file, const char *more);
const char *openssl_reason(void);

/* -EINVAL: told. -ENOMEM. The caller frees *out. */
int chain_read(const struct loading *loading, const char *file, const struct pem *pem,
               STACK_OF(X509) * *out);
int key_read(const struct loading *loading, const char *file, const struct pem *pem,
             EVP_PKEY **out);
/* Not in its time, or soon not any more. */
void dates_warn(const struct loading *loading, const char *file, const X509 *certificate);

/* Keys of session tickets: each is good for a day of new tickets, and a day of old ones. They move
 * on with the handshakes that need them. */
struct tickets {
    struct ticket_keys now, before;
    EVP_CIPHER *cipher;
};
bool tickets_apply(struct tickets *tickets, SSL_CTX *context); /* borrowed by the context */

/* The CAs of clients' certificates, for every context: those of conf->client_ca, or none. */
struct client_ca {
    X509_STORE *store; /* NULL: no client is asked */
    STACK_OF(X509_NAME) * names;
    unsigned char digest[32]; /* of the file's bytes */
};
int client_ca_load(const struct certificates_options *options, struct client_ca *out);
void client_ca_free(struct client_ca *ca);
/* Let sessions of this context verify by these CAs, where certificates_demand() says so. */
bool client_ca_apply(const struct client_ca *ca, SSL_CTX *context);
int client_ca_demand(const struct client_ca *ca, SSL *ssl, enum conf_client_certificate demand);

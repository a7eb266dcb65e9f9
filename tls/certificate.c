#include "tls/certificate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "proxy/str.h"
#include "tls/internal.h"

enum { WARN_DAYS = 14, SECURITY_LEVEL = 2 /* 112 bits: RSA 2048, no SHA-1 */ };

struct pair {
    SSL_CTX *context;
    X509 *leaf;
    uint16_t signature; /* what a client must be able to verify (RFC 8446 4.2.3); 0: RSA, anyone */
    uint16_t group;     /* and its curve, which TLS 1.2 wants named apart; 0: none */
    bool fallback;      /* for those that ask for no name of ours */
};

struct certificates {
    unsigned references;     /* from 1 */
    struct tickets *tickets; /* NULL: none; borrowed */
    struct client_ca client_ca;
    unsigned count;
    struct pair pairs[];
};

/* Checks --------------------------------------------------------------------------------------- */

/* Whether it is a host's name and the certificate has it. X509_check_host() would take ".b.test"
 * for any name below b.test, and "*.b.test" for one of a wildcard's. */
static bool certificate_has(X509 *leaf, const char *name, size_t len)
{
    return len && name[0] != '.' && name[0] != '*' &&
           X509_check_host(leaf, name, len, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, NULL) == 1;
}

static bool certificate_names(X509 *leaf, const char *name)
{
    return certificate_has(leaf, name, strlen(name)) || X509_check_ip_asc(leaf, name, 0) == 1;
}

static void certificate_date(const ASN1_TIME *time, char text[32])
{
    struct tm tm;

    if (!ASN1_TIME_to_tm(time, &tm) || !strftime(text, 32, "%Y-%m-%d %H:%M UTC", &tm))
        text[0] = '\0';
}

void dates_warn(const struct loading *loading, const char *file, const X509 *certificate)
{
    time_t soon = time(NULL) + (time_t)WARN_DAYS * 24 * 3600;
    const ASN1_TIME *from = X509_get0_notBefore(certificate);
    const ASN1_TIME *until = X509_get0_notAfter(certificate);
    char date[32];

    certificate_date(until, date);
    if (X509_cmp_current_time(until) < 0)
        warning(loading, "certificate has expired", file, date);
    else if (X509_cmp_time(until, &soon) < 0)
        warning(loading, "certificate ends soon", file, date);
    certificate_date(from, date);
    if (X509_cmp_current_time(from) > 0)
        warning(loading, "certificate is not valid yet", file, date);
}

/* What a client will complain about, though it works: the service goes on. */
static void certificate_warn(const struct loading *loading, const char *file,
                             STACK_OF(X509) * chain)
{
    X509 *leaf = sk_X509_value(chain, 0);

    dates_warn(loading, file, leaf);
    if (X509_check_purpose(leaf, X509_PURPOSE_SSL_SERVER, 0) != 1)
        warning(loading, "certificate is not one for TLS servers", file, NULL);
    for (int i = 1; i < sk_X509_num(chain); i++)
        if (X509_check_issued(sk_X509_value(chain, i), sk_X509_value(chain, i - 1)) != X509_V_OK) {
            warning(loading, "chain is not in order, each certificate before its issuer", file,
                    NULL);
            break;
        }
}

static int key_check(const struct loading *loading, const struct conf_certificate *pair,
                     STACK_OF(X509) * chain, EVP_PKEY *key)
{
    if (X509_check_private_key(sk_X509_value(chain, 0), key) == 1)
        return 0;
    for (int i = 1; i < sk_X509_num(chain); i++)
        if (X509_check_private_key(sk_X509_value(chain, i), key) == 1)
            return mistake(loading, pair->chain,
                           "has the certificate of '%s' as number %d: the server's own must stand "
                           "first",
                           pair->key, i + 1);
    return mistake(loading, pair->key, "is not the key of '%s': it belongs to another certificate",
                   pair->chain);
}

/* Making a context ----------------------------------------------------------------------------- */

/* What holds for every handshake, whoever accepted the connection (X4). */
static bool context_protocol(SSL_CTX *context, struct certificates *certificates)
{
    static const unsigned char session_id_context[] = "sipward";

    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                     SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF); /* tickets are stateless */
    if (SSL_CTX_get_security_level(context) < SECURITY_LEVEL)
        SSL_CTX_set_security_level(context, SECURITY_LEVEL);
    return SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) == 1 &&
           SSL_CTX_set_max_proto_version(context, 0) == 1 &&
           SSL_CTX_set_cipher_list(context, "ECDHE+AESGCM:ECDHE+CHACHA20") == 1 &&
           SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
                                             "TLS_CHACHA20_POLY1305_SHA256") == 1 &&
           SSL_CTX_set1_groups_list(context, "X25519:P-256:P-384") == 1 &&
           SSL_CTX_set_num_tickets(context, 1) == 1 &&
           SSL_CTX_set_session_id_context(context, session_id_context,
                                          sizeof(session_id_context) - 1) == 1 &&
           (!certificates->tickets || tickets_apply(certificates->tickets, context)) &&
           client_ca_apply(&certificates->client_ca, context);
}

/* Where a session keeps what certificates_alpn() gave it. */
static int alpn_index = -1;

static void alpn_index_make(void)
{
    alpn_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
}

static bool alpn_index_ready(void)
{
    static CRYPTO_ONCE once = CRYPTO_ONCE_STATIC_INIT;

    return CRYPTO_THREAD_run_once(&once, alpn_index_make) == 1 && alpn_index >= 0;
}

/* The next name of a list with its length in front; a list that is cut has no more. */
static struct str alpn_next(struct str *list)
{
    struct str name = {NULL, 0};

    if (!list->len || (uint8_t)list->p[0] >= list->len)
        return name;
    name = (struct str){list->p + 1, (uint8_t)list->p[0]};
    *list = (struct str){name.p + name.len, list->len - 1 - name.len};
    return name;
}

static bool alpn_has(struct str list, struct str name)
{
    struct str one;

    while ((one = alpn_next(&list)).p)
        if (str_eq(one, name))
            return true;
    return false;
}

/* RFC 7301: what the listener serves and nothing else (no cross-protocol confusion), in the
 * client's order. Who offers none, or others, gets none: SIP over TLS needs no ALPN. */
static int alpn_select(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                       const unsigned char *in, unsigned in_len, void *context)
{
    struct str ours = str_of(SSL_get_ex_data(ssl, alpn_index));
    struct str theirs = {(const char *)in, in_len}, name;

    (void)context;
    while ((name = alpn_next(&theirs)).p)
        if (alpn_has(ours, name)) {
            *out = (const unsigned char *)name.p;
            *out_len = (unsigned char)name.len;
            return SSL_TLSEXT_ERR_OK;
        }
    return SSL_TLSEXT_ERR_NOACK;
}

int certificates_alpn(SSL *ssl, const char *names)
{
    return SSL_set_ex_data(ssl, alpn_index, (void *)names) ? 0 : -ENOMEM;
}

/* The choice was made at the client hello; OK makes OpenSSL keep the name in the session, so that
 * a TLS 1.2 resumption knows it. */
static int servername_accept(SSL *ssl, int *alert, void *context)
{
    (void)ssl, (void)alert, (void)context;
    return SSL_TLSEXT_ERR_OK;
}

static SSL_CTX *context_choose(const struct certificates *certificates, SSL *ssl);

static int client_hello(SSL *ssl, int *alert, void *certificates)
{
    SSL_CTX *chosen = context_choose(certificates, ssl);

    if (SSL_set_SSL_CTX(ssl, chosen) == chosen)
        return SSL_CLIENT_HELLO_SUCCESS;
    *alert = SSL_AD_INTERNAL_ERROR;
    return SSL_CLIENT_HELLO_ERROR;
}

static int context_fill(const struct loading *loading, const struct conf_certificate *pair,
                        SSL_CTX *context, STACK_OF(X509) * chain, EVP_PKEY *key)
{
    const char *file = pair->chain;

    for (int i = 0; i < sk_X509_num(chain); i++) {
        X509 *one = sk_X509_value(chain, i);
        int ok = i == 0 ? SSL_CTX_use_certificate(context, one)
                        : (int)SSL_CTX_add1_chain_cert(context, one);

        if (ok == 1)
            continue;
        switch (ERR_GET_REASON(ERR_peek_last_error())) {
        case SSL_R_EE_KEY_TOO_SMALL:
        case SSL_R_CA_KEY_TOO_SMALL:
            return mistake(loading, file,
                           "has a key that is too weak, certificate %d in it: RSA of 2048 bits or "
                           "EC P-256 is needed",
                           i + 1);
        case SSL_R_CA_MD_TOO_WEAK:
            return mistake(loading, file,
                           "is signed with a hash that is too weak, certificate %d in it: SHA-256 "
                           "is needed",
                           i + 1);
        default:
            return mistake(loading, file, "is refused by OpenSSL, certificate %d in it: %s", i + 1,
                           openssl_reason());
        }
    }
    if (SSL_CTX_use_PrivateKey(context, key) != 1)
        return mistake(loading, pair->key, "is refused by OpenSSL: %s", openssl_reason());
    return 0;
}

static int context_make(const struct loading *loading, const struct conf_certificate *pair,
                        struct certificates *certificates, STACK_OF(X509) * chain, EVP_PKEY *key,
                        SSL_CTX **out)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    int err;

    if (!context)
        return -ENOMEM;
    if (!context_protocol(context, certificates)) {
        err =
            mistake(loading, pair->chain, "can't be served by this OpenSSL: %s", openssl_reason());
        SSL_CTX_free(context);
        return err;
    }
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_client_hello_cb(context, client_hello, certificates);
    SSL_CTX_set_tlsext_servername_callback(context, servername_accept);
    SSL_CTX_set_alpn_select_cb(context, alpn_select, NULL);
    err = context_fill(loading, pair, context, chain, key);
    if (err)
        SSL_CTX_free(context);
    else
        *out = context;
    return err;
}

/* The table ------------------------------------------------------------------------------------ */

static const struct {
    const char *curve;
    uint16_t signature, group;
} curves[] = {
    {"prime256v1", 0x0403, 23},
    {"secp384r1",  0x0503, 24},
    {"secp521r1",  0x0603, 25},
};

static void pair_needs(struct pair *pair, EVP_PKEY *key)
{
    char curve[32];

    if (EVP_PKEY_is_a(key, "ED25519"))
        pair->signature = 0x0807;
    else if (EVP_PKEY_is_a(key, "ED448"))
        pair->signature = 0x0808;
    else if (EVP_PKEY_get_group_name(key, curve, sizeof(curve), NULL) == 1)
        for (size_t i = 0; i < ARRAY_LEN(curves); i++)
            if (!strcmp(curve, curves[i].curve)) {
                pair->signature = curves[i].signature;
                pair->group = curves[i].group;
            }
}

/* A warning at start, where nothing better is known: not a reason to give up what runs. */
static int expired_check(const struct loading *loading, const char *file, const X509 *leaf)
{
    const ASN1_TIME *until = X509_get0_notAfter(leaf);
    char date[32];

    if (!loading->renewal || X509_cmp_current_time(until) >= 0)
        return 0;
    certificate_date(until, date);
    return mistake(loading, file, "has expired on %s: a renewed certificate is needed", date);
}

static int pair_load(const struct loading *loading, const struct conf_certificate *files,
                     const struct pem_pair *pems, struct certificates *certificates,
                     struct pair *pair)
{
    STACK_OF(X509) *chain = NULL;
    EVP_PKEY *key = NULL;
    int chain_err = chain_read(loading, files->chain, &pems->chain, &chain);
    int key_err = key_read(loading, files->key, &pems->key, &key);
    int err = chain_err ? chain_err : key_err;

    if (!err)
        err = key_check(loading, files, chain, key);
    if (!err)
        err = expired_check(loading, files->chain, sk_X509_value(chain, 0));
    if (!err)
        err = context_make(loading, files, certificates, chain, key, &pair->context);
    if (!err) {
        pair->leaf = sk_X509_value(chain, 0);
        X509_up_ref(pair->leaf);
        pair_needs(pair, key);
        certificate_warn(loading, files->chain, chain);
    }
    sk_X509_pop_free(chain, X509_free);
    EVP_PKEY_free(key);
    return err;
}

/* Who names none of ours gets the first pair, or one of the other kind for the same domain. */
static void fallback_mark(const struct loading *loading, struct certificates *certificates)
{
    const char *domain = loading->conf->domain;
    bool named = domain && certificate_names(certificates->pairs[0].leaf, domain), any = named;

    certificates->pairs[0].fallback = true;
    for (unsigned i = 1; i < certificates->count; i++)
        if (domain && certificate_names(certificates->pairs[i].leaf, domain)) {
            certificates->pairs[i].fallback = named;
            any = true;
        }
    if (domain && !any)
        warning(loading, "no certificate has the domain's name: clients that check will refuse",
                loading->conf->certificates[0].chain, domain);
}

static bool runs_already(const struct pems *running, const struct pem_pair *pair)
{
    for (unsigned i = 0; i < running->count; i++)
        if (pem_pair_eq(&running->pairs[i], pair))
            return true;
    return false;
}

int certificates_load(const struct certificates_options *options, struct certificates **out)
{
    const struct conf *conf = options->conf;
    const struct pems *pems = options->pems;
    struct loading loading = {.conf = conf, .key = "certificate", .errors = options->errors};
    struct certificates *certificates;
    int err;

    if (!alpn_index_ready())
        return -ENOMEM;
    certificates = calloc(1, sizeof(*certificates) + pems->count * sizeof(struct pair));
    if (!certificates)
        return -ENOMEM;
    certificates->references = 1;
    certificates->count = pems->count;
    certificates->tickets = options->tickets;
    err = client_ca_load(options, &certificates->client_ca);
    for (unsigned i = 0; i < pems->count; i++) {
        const struct conf_certificate *files = &conf->certificates[i];
        int one;

        loading.line = files->line;
        loading.renewal = options->running && options->running->count &&
                          !runs_already(options->running, &pems->pairs[i]);
        one = pair_load(&loading, files, &pems->pairs[i], certificates, &certificates->pairs[i]);
        err = err ? err : one; /* go on: all mistakes at once */
    }
    ERR_clear_error(); /* channel.c counts on that */
    if (err) {
        certificates_unref(&certificates);
        return err;
    }
    fallback_mark(&loading, certificates);
    *out = certificates;
    return 0;
}

struct certificates *certificates_ref(struct certificates *certificates)
{
    certificates->references++;
    return certificates;
}

void certificates_unref(struct certificates **certificates)
{
    struct certificates *table = *certificates;

    *certificates = NULL;
    if (!table || --table->references)
        return;
    for (unsigned i = 0; i < table->count; i++) {
        SSL_CTX_free(table->pairs[i].context);
        X509_free(table->pairs[i].leaf);
    }
    client_ca_free(&table->client_ca);
    free(table);
}

int64_t certificates_until(const struct certificates *certificates, unsigned index)
{
    struct tm tm;

    return ASN1_TIME_to_tm(X509_get0_notAfter(certificates->pairs[index].leaf), &tm) == 1
               ? (int64_t)timegm(&tm)
               : 0;
}

int certificates_demand(const struct certificates *certificates, SSL *ssl,
                        enum conf_client_certificate demand)
{
    return client_ca_demand(&certificates->client_ca, ssl, demand);
}

SSL_CTX *certificates_default(const struct certificates *certificates)
{
    return certificates->pairs[0].context;
}

/* The choice ----------------------------------------------------------------------------------- */

struct bytes {
    const unsigned char *p;
    size_t len;
};

/* A list of 16-bit numbers, big-endian. */
static bool list_has(struct bytes list, uint16_t number)
{
    for (size_t i = 0; i + 1 < list.len; i += 2)
        if ((list.p[i] << 8 | list.p[i + 1]) == number)
            return true;
    return false;
}

/* An extension that is a list behind its length in `prefix` bytes; cut to what is there. */
static struct bytes extension(SSL *ssl, unsigned type, size_t prefix)
{
    struct bytes all = {NULL, 0};

    if (SSL_client_hello_get0_ext(ssl, type, &all.p, &all.len) != 1 || all.len < prefix)
        return (struct bytes){NULL, 0};
    return (struct bytes){all.p + prefix, all.len - prefix};
}

/* RFC 6066 3: a list of names, of which only the first kind, host_name (0), was ever defined. */
static struct bytes hello_name(SSL *ssl)
{
    struct bytes list = extension(ssl, TLSEXT_TYPE_server_name, 2);
    size_t len;

    if (list.len < 3 || list.p[0] != TLSEXT_NAMETYPE_host_name)
        return (struct bytes){NULL, 0};
    len = (size_t)(list.p[1] << 8 | list.p[2]);
    if (len == 0 || len > list.len - 3)
        return (struct bytes){NULL, 0};
    return (struct bytes){list.p + 3, len};
}

static bool hello_can(SSL *ssl, const struct pair *pair)
{
    struct bytes ciphers;

    if (!list_has(extension(ssl, TLSEXT_TYPE_signature_algorithms, 2), pair->signature))
        return false;
    if (list_has(extension(ssl, TLSEXT_TYPE_supported_versions, 1), TLS1_3_VERSION))
        return true;
    /* TLS 1.2: ECDSA is part of the cipher suite, and the curve one of the groups (RFC 8422). */
    ciphers.len = SSL_client_hello_get0_ciphers(ssl, &ciphers.p);
    return (list_has(ciphers, 0xc02b) || list_has(ciphers, 0xc02c) || list_has(ciphers, 0xcca9)) &&
           (!pair->group || list_has(extension(ssl, TLSEXT_TYPE_supported_groups, 2), pair->group));
}

static bool pair_fits(const struct pair *pair, struct bytes name)
{
    if (!name.len)
        return pair->fallback;
    return certificate_has(pair->leaf, (const char *)name.p, name.len);
}

static const struct pair *pair_choose(const struct certificates *certificates, SSL *ssl,
                                      struct bytes name)
{
    const struct pair *rsa = NULL, *any = NULL;

    for (unsigned i = 0; i < certificates->count; i++) {
        const struct pair *pair = &certificates->pairs[i];

        if (!pair_fits(pair, name))
            continue;
        if (pair->signature && hello_can(ssl, pair))
            return pair;
        if (!pair->signature && !rsa)
            rsa = pair;
        if (!any)
            any = pair;
    }
    return rsa ? rsa : any;
}

static SSL_CTX *context_choose(const struct certificates *certificates, SSL *ssl)
{
    const struct pair *pair = pair_choose(certificates, ssl, hello_name(ssl));

    if (!pair)
        pair = pair_choose(certificates, ssl, (struct bytes){NULL, 0});
    return pair ? pair->context : certificates_default(certificates);
}

const char *certificates_host(SSL *ssl)
{
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    X509 *leaf = SSL_get_certificate(ssl);

    return name && leaf && certificate_has(leaf, name, strlen(name)) ? name : NULL;
}

/* Certificates of clients (X4): the CAs to know them by, and who asks for them. */
#include <errno.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "proxy/str.h"
#include "tls/certificate.h"
#include "tls/internal.h"

static int ca_add(const struct loading *loading, X509 *one, int number, struct client_ca *ca)
{
    const char *file = loading->conf->client_ca;
    X509_NAME *name;

    if (X509_check_ca(one) == 0)
        return mistake(
            loading, file,
            "has a certificate that is not one of a CA, number %d in it: only those that "
            "sign the clients' certificates belong there",
            number);
    dates_warn(loading, file, one);
    name = X509_NAME_dup(X509_get_subject_name(one));
    if (!name || !sk_X509_NAME_push(ca->names, name)) {
        X509_NAME_free(name);
        return -ENOMEM;
    }
    return X509_STORE_add_cert(ca->store, one) == 1 ? 0 : -ENOMEM;
}

int client_ca_load(const struct certificates_options *options, struct client_ca *out)
{
    const struct conf *conf = options->conf;
    const struct pem *pem = &options->pems->client_ca;
    const struct loading loading = {
        .conf = conf,
        .key = "client_ca",
        .line = conf->client_ca_line,
        .errors = options->errors,
    };
    STACK_OF(X509) *list = NULL;
    struct client_ca ca;
    int err;

    *out = (struct client_ca){0};
    if (!conf->client_ca)
        return 0;
    err = chain_read(&loading, conf->client_ca, pem, &list);
    if (err)
        return err;
    ca = (struct client_ca){.store = X509_STORE_new(), .names = sk_X509_NAME_new_null()};
    /* Each certificate of the file is trusted by itself, also where its issuer is not there. */
    if (!ca.store || !ca.names || X509_STORE_set_flags(ca.store, X509_V_FLAG_PARTIAL_CHAIN) != 1)
        err = -ENOMEM;
    for (int i = 0; i < sk_X509_num(list) && !err; i++)
        err = ca_add(&loading, sk_X509_value(list, i), i + 1, &ca);
    sk_X509_pop_free(list, X509_free);
    if (!err && EVP_Q_digest(NULL, "SHA256", NULL, pem->bytes, pem->len, ca.digest, NULL) != 1)
        err = -ENOMEM;
    if (err)
        client_ca_free(&ca);
    else
        *out = ca;
    return err;
}

void client_ca_free(struct client_ca *ca)
{
    X509_STORE_free(ca->store);
    sk_X509_NAME_pop_free(ca->names, X509_NAME_free);
    *ca = (struct client_ca){0};
}

/* A ticket holds the certificate that was verified when it was given out. */
static SSL_TICKET_RETURN ticket_take(SSL *ssl, SSL_SESSION *session, const unsigned char *key_name,
                                     size_t key_name_len, SSL_TICKET_STATUS status, void *context)
{
    X509 *client;

    (void)ssl, (void)key_name, (void)key_name_len, (void)context;
    if (status != SSL_TICKET_SUCCESS && status != SSL_TICKET_SUCCESS_RENEW)
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    client = SSL_SESSION_get0_peer(session);
    if (client && X509_cmp_current_time(X509_get0_notAfter(client)) < 0)
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    return status == SSL_TICKET_SUCCESS ? SSL_TICKET_RETURN_USE : SSL_TICKET_RETURN_USE_RENEW;
}

bool client_ca_apply(const struct client_ca *ca, SSL_CTX *context)
{
    STACK_OF(X509_NAME) * names;

    if (!ca->store)
        return true;
    names = SSL_dup_CA_list(ca->names);
    if (!names)
        return false;
    SSL_CTX_set_client_CA_list(context, names);
    /* Not the context's certificate store: OpenSSL would complete our own chain from that. */
    return SSL_CTX_set1_verify_cert_store(context, ca->store) == 1 &&
           SSL_CTX_set_session_ticket_cb(context, NULL, ticket_take, NULL) == 1;
}

/* A ticket is for the session id context that it was given out in: this demand, by these CAs. */
int client_ca_demand(const struct client_ca *ca, SSL *ssl, enum conf_client_certificate demand)
{
    static const int verify[] = {
        [CONF_CLIENT_ASKED] = SSL_VERIFY_PEER,
        [CONF_CLIENT_REQUIRED] = SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
    };
    unsigned char id[sizeof(ca->digest)];

    if (demand == CONF_CLIENT_NO)
        return 0;
    SSL_set_verify(ssl, verify[demand], NULL);
    memcpy(id, ca->digest, sizeof(id));
    id[0] = (unsigned char)demand;
    return SSL_set_session_id_context(ssl, id, sizeof(id)) == 1 ? 0 : -EIO;
}

static bool name_print(BIO *out, X509 *client)
{
    const X509_NAME *subject = X509_get_subject_name(client);
    GENERAL_NAMES *names;
    bool printed = false;

    if (X509_NAME_entry_count(subject))
        return X509_NAME_print_ex(out, subject, 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) >= 0;
    names = X509_get_ext_d2i(client, NID_subject_alt_name, NULL, NULL);
    if (sk_GENERAL_NAME_num(names) > 0)
        printed = GENERAL_NAME_print(out, sk_GENERAL_NAME_value(names, 0)) == 1;
    GENERAL_NAMES_free(names);
    return printed;
}

bool certificates_client(SSL *ssl, char name[CLIENT_NAME_SIZE])
{
    X509 *client = SSL_get0_peer_certificate(ssl);
    BIO *out;
    int len;

    if (!client)
        return false;
    out = BIO_new(BIO_s_mem());
    if (!out || !name_print(out, client))
        (void)BIO_reset(out), BIO_puts(out, "(no name)");
    len = BIO_read(out, name, CLIENT_NAME_SIZE - 1);
    name[len > 0 ? len : 0] = '\0';
    BIO_free(out);
    ERR_clear_error();
    return true;
}

const char *certificates_refusal(const SSL *ssl)
{
    long result = SSL_get_verify_result(ssl);

    switch (result) {
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
        return "the client's certificate is by no CA of client_ca";
    case X509_V_ERR_CERT_HAS_EXPIRED: return "the client's certificate has expired";
    case X509_V_ERR_CERT_NOT_YET_VALID: return "the client's certificate is not valid yet";
    case X509_V_ERR_INVALID_PURPOSE: return "the client's certificate is not one for TLS clients";
    case X509_V_ERR_EE_KEY_TOO_SMALL: return "the client's certificate has a key that is too weak";
    case X509_V_ERR_CA_MD_TOO_WEAK:
        return "the client's certificate is signed with a hash that is too weak";
    default: return X509_verify_cert_error_string(result);
    }
}

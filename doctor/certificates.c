/* The certificates: what sipward itself would refuse, and what clients would. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "doctor/internal.h"
#include "tls/certificate.h"

enum { SOON_DAYS = 14, NAME_TEXT = 128 };

/* ---- reading ---- */

/* NULL: not readable, which certificates_load() has told. */
static STACK_OF(X509) * chain_open(const char *file)
{
    STACK_OF(X509) *chain = sk_X509_new_null();
    BIO *in = BIO_new_file(file, "r");
    X509 *one;

    while (chain && in && (one = PEM_read_bio_X509(in, NULL, NULL, "")))
        if (!sk_X509_push(chain, one)) {
            X509_free(one);
            break;
        }
    BIO_free(in);
    ERR_clear_error();
    if (chain && sk_X509_num(chain))
        return chain;
    sk_X509_pop_free(chain, X509_free);
    return NULL;
}

/* The common name or, where there is none, the organisation. */
static void name_text(const X509_NAME *name, char text[NAME_TEXT])
{
    if (X509_NAME_get_text_by_NID(name, NID_commonName, text, NAME_TEXT) < 0 &&
        X509_NAME_get_text_by_NID(name, NID_organizationName, text, NAME_TEXT) < 0)
        (void)snprintf(text, NAME_TEXT, "(no name)");
}

static bool certificate_has(X509 *leaf, const char *name)
{
    return X509_check_host(leaf, name, 0, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, NULL) == 1 ||
           X509_check_ip_asc(leaf, name, 0) == 1;
}

/* ---- one certificate ---- */

static void dates_check(struct doctor *doctor, const char *file, const X509 *leaf)
{
    const ASN1_TIME *from = X509_get0_notBefore(leaf), *until = X509_get0_notAfter(leaf);
    int days = 0, seconds = 0;
    char date[32] = "";
    struct tm tm;

    if (X509_cmp_current_time(from) > 0) {
        if (ASN1_TIME_to_tm(from, &tm))
            (void)strftime(date, sizeof(date), "%Y-%m-%d %H:%M", &tm);
        finding(doctor, STATUS_FAILED, "dates", "%s is not valid before %s UTC", file, date);
        remedy(doctor, "look at this machine's clock: date -u; if it is right, get a certificate "
                       "that is valid now");
        return;
    }
    if (ASN1_TIME_to_tm(until, &tm))
        (void)strftime(date, sizeof(date), "%Y-%m-%d", &tm);
    ASN1_TIME_diff(&days, &seconds, NULL, until);
    if (X509_cmp_current_time(until) < 0) {
        finding(doctor, STATUS_FAILED, "dates", "%s has expired on %s: clients refuse it", file,
                date);
        remedy(doctor, "renew it; with certbot: certbot renew");
    } else if (days < SOON_DAYS) {
        finding(doctor, STATUS_WARNING, "dates", "%s ends in %d days, on %s", file, days, date);
        remedy(doctor, "renew it now (certbot renew), and see why that has not happened by itself "
                       "(systemctl list-timers)");
    } else {
        finding(doctor, STATUS_OK, "dates", "%s is valid for %d more days, until %s", file, days,
                date);
    }
}

/* Whether the CAs that this machine trusts come to know it: 0, or X509_V_ERR_... */
static int chain_verify(STACK_OF(X509) * chain)
{
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *verify = X509_STORE_CTX_new();
    int result = X509_V_ERR_OUT_OF_MEM;

    if (store && verify && X509_STORE_set_default_paths(store) == 1 &&
        X509_STORE_CTX_init(verify, store, sk_X509_value(chain, 0), chain) == 1) {
        X509_STORE_CTX_set_flags(verify, X509_V_FLAG_NO_CHECK_TIME);
        X509_STORE_CTX_set_purpose(verify, X509_PURPOSE_SSL_SERVER);
        result = X509_verify_cert(verify) == 1 ? X509_V_OK : X509_STORE_CTX_get_error(verify);
    }
    X509_STORE_CTX_free(verify);
    X509_STORE_free(store);
    ERR_clear_error();
    return result;
}

static bool in_order(STACK_OF(X509) * chain)
{
    for (int i = 1; i < sk_X509_num(chain); i++)
        if (X509_check_issued(sk_X509_value(chain, i), sk_X509_value(chain, i - 1)) != X509_V_OK)
            return false;
    return true;
}

/* It says where its issuer's certificate can be had, as those of public CAs do. */
static bool names_issuer(const X509 *leaf)
{
    return X509_get_ext_by_NID(leaf, NID_info_access, -1) >= 0;
}

static void issuer_missing(struct doctor *doctor, const char *file, STACK_OF(X509) * chain)
{
    const X509 *last = sk_X509_value(chain, sk_X509_num(chain) - 1);
    char issuer[NAME_TEXT];

    name_text(X509_get_issuer_name(last), issuer);
    if (sk_X509_num(chain) == 1 && names_issuer(last)) {
        finding(doctor, STATUS_FAILED, "chain",
                "%s lacks the certificate of its issuer '%s': phones can't verify it", file,
                issuer);
        remedy(doctor, "use the file with the whole chain (certbot: fullchain.pem, not cert.pem), "
                       "or append the issuer's certificate to it");
    } else if (access(X509_get_default_cert_dir(), R_OK) &&
               access(X509_get_default_cert_file(), R_OK)) {
        finding(doctor, STATUS_WARNING, "chain",
                "%s can't be verified here: this machine has no list of CAs", file);
        remedy(doctor, "apt-get install ca-certificates");
    } else {
        finding(doctor, STATUS_WARNING, "chain",
                "%s comes from '%s', a CA that this machine does not know", file, issuer);
        remedy(doctor,
               "if that is your own CA, each phone and browser has to be told to trust it; "
               "if not, append the certificate of '%s' to the file",
               issuer);
    }
}

static void chain_check(struct doctor *doctor, const char *file, STACK_OF(X509) * chain)
{
    int result = chain_verify(chain);
    char issuer[NAME_TEXT];

    name_text(X509_get_issuer_name(sk_X509_value(chain, 0)), issuer);
    if (!in_order(chain)) {
        finding(doctor, STATUS_WARNING, "chain",
                "%s has its certificates in a wrong order: some phones can't verify it", file);
        remedy(doctor, "put the server's own first, then each before the one of its issuer");
    }
    switch (result) {
    case X509_V_OK:
        finding(doctor, STATUS_OK, "chain", "%s is complete, and by a CA that machines know: '%s'",
                file, issuer);
        break;
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        finding(doctor, STATUS_WARNING, "chain",
                "%s is self-signed, as for development: no client trusts it by itself", file);
        remedy(doctor, "for real clients get one of a CA: certbot certonly --standalone -d %s",
               doctor->conf->domain);
        break;
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
        finding(doctor, STATUS_WARNING, "chain",
                "%s is by '%s', a CA of somebody's own: clients trust it only if told to", file,
                issuer);
        remedy(doctor,
               "install that CA on each phone and browser, or get a certificate of a "
               "public one: certbot certonly --standalone -d %s",
               doctor->conf->domain);
        break;
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE: issuer_missing(doctor, file, chain); break;
    default:
        finding(doctor, STATUS_WARNING, "chain", "%s can't be verified: %s", file,
                X509_verify_cert_error_string(result));
        remedy(doctor, "openssl x509 -in %s -noout -text shows what is in it", file);
        break;
    }
}

static void key_check(struct doctor *doctor, const char *file)
{
    struct stat status;

    if (stat(file, &status) || !(status.st_mode & S_IROTH))
        return;
    finding(doctor, STATUS_WARNING, "key", "%s, the private key, can be read by every user", file);
    remedy(doctor, "chmod o= %s", file);
}

/* ---- all of them ---- */

static void name_check(struct doctor *doctor, const char *name, STACK_OF(X509) * *chains)
{
    for (unsigned i = 0; i < doctor->conf->certificate_count; i++)
        if (chains[i] && certificate_has(sk_X509_value(chains[i], 0), name)) {
            finding(doctor, STATUS_OK, "name", "%s is for %s", doctor->conf->certificates[i].chain,
                    name);
            return;
        }
    finding(doctor, STATUS_FAILED, "name",
            "no certificate is for %s: clients that connect to that name refuse it", name);
    remedy(doctor, "get one that has it in subjectAltName; with certbot: certbot certonly -d %s",
           name);
}

/* What keeps sipward from starting. */
static bool load_check(struct doctor *doctor)
{
    struct certificates_options options = {.conf = doctor->conf};
    struct certificates *certificates = NULL;
    char *lines = NULL;
    size_t len;
    int err;

    options.errors = open_memstream(&lines, &len);
    if (!options.errors) {
        doctor->no_memory = true;
        return false;
    }
    err = pems_read(doctor->conf, &options.pems);
    if (!err)
        err = certificates_load(&options, &certificates);
    certificates_unref(&certificates);
    pems_free(&options.pems);
    (void)fclose(options.errors);
    if (lines)
        findings_lines(doctor, "files", lines);
    free(lines);
    doctor->no_memory |= err == -ENOMEM;
    return !err;
}

void certificates_check(struct doctor *doctor)
{
    const struct conf *conf = doctor->conf;
    STACK_OF(X509) * *chains;

    if (!conf->certificate_count) {
        finding(doctor, STATUS_OK, "none", "no listener has TLS, so none is needed");
        return;
    }
    chains = calloc(conf->certificate_count, sizeof(STACK_OF(X509) *));
    if (!chains) {
        doctor->no_memory = true;
        return;
    }
    if (load_check(doctor))
        finding(doctor, STATUS_OK, "files", "%s",
                conf->certificate_count > 1 ? "each key fits its certificate"
                                            : "the key fits the certificate");
    for (unsigned i = 0; i < conf->certificate_count; i++) {
        chains[i] = chain_open(conf->certificates[i].chain);
        if (chains[i]) {
            dates_check(doctor, conf->certificates[i].chain, sk_X509_value(chains[i], 0));
            chain_check(doctor, conf->certificates[i].chain, chains[i]);
        }
        key_check(doctor, conf->certificates[i].key);
    }
    name_check(doctor, conf->domain, chains);
    for (unsigned i = 0; i < conf->alias_count; i++)
        name_check(doctor, conf->aliases[i], chains);
    for (unsigned i = 0; i < conf->certificate_count; i++)
        sk_X509_pop_free(chains[i], X509_free);
    free(chains);
}

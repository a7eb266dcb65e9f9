/* PEM files that the configuration names, and what to say where they are not right. */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <openssl/err.h>
#include <openssl/pem.h>

#include "proxy/log.h"
#include "proxy/str.h"
#include "tls/internal.h"

int mistake(const struct loading *loading, const char *file, const char *format, ...)
{
    va_list args;

    if (loading->errors) {
        conf_place_print(loading->conf->path, loading->line, loading->errors);
        fprintf(loading->errors, "%s: '%s' ", loading->key, file);
        va_start(args, format);
        vfprintf(loading->errors, format, args);
        va_end(args);
        fputc('\n', loading->errors);
    }
    ERR_clear_error();
    return -EINVAL;
}

void warning(const struct loading *loading, const char *what, const char *file, const char *more)
{
    if (!loading->errors)
        return;
    if (more)
        log_event(LOG_WARNING, what, LOG_TEXT("file", str_of(file)),
                  LOG_TEXT("value", str_of(more)));
    else
        log_event(LOG_WARNING, what, LOG_TEXT("file", str_of(file)));
}

const char *openssl_reason(void)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());

    return reason ? reason : "OpenSSL gives no reason";
}

static int file_open(const struct loading *loading, const char *file, BIO **out)
{
    FILE *stream = fopen(file, "re");
    struct stat status;

    if (!stream)
        return mistake(loading, file, "can't be read: %s", strerrordesc_np(errno));
    if (fstat(fileno(stream), &status) == 0 && S_ISDIR(status.st_mode)) {
        fclose(stream);
        return mistake(loading, file, "is a folder: name the PEM file in it");
    }
    *out = BIO_new_fp(stream, BIO_CLOSE);
    if (!*out) {
        fclose(stream);
        return -ENOMEM;
    }
    return 0;
}

/* OpenSSL would ask at the terminal. */
static int no_password(char *password, int size, int writing, void *asked)
{
    (void)password, (void)size, (void)writing;
    *(bool *)asked = true;
    return -1;
}

int chain_read(const struct loading *loading, const char *file, STACK_OF(X509) * *out)
{
    STACK_OF(X509) *chain = sk_X509_new_null();
    bool asked = false;
    BIO *in = NULL;
    X509 *one;
    int err;

    if (!chain)
        return -ENOMEM;
    err = file_open(loading, file, &in);
    while (!err && (one = PEM_read_bio_X509(in, NULL, no_password, &asked)))
        if (!sk_X509_push(chain, one)) {
            X509_free(one);
            err = -ENOMEM;
        }
    if (!err && ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
        err = mistake(loading, file, "has a broken certificate, number %d in it: %s",
                      sk_X509_num(chain) + 1, openssl_reason());
    if (!err && sk_X509_num(chain) == 0)
        err = mistake(loading, file,
                      "has no certificate in it: a PEM file with BEGIN CERTIFICATE is needed");
    ERR_clear_error();
    BIO_free(in);
    if (err)
        sk_X509_pop_free(chain, X509_free);
    else
        *out = chain;
    return err;
}

int key_read(const struct loading *loading, const char *file, EVP_PKEY **out)
{
    EVP_PKEY *key = NULL;
    struct stat status;
    bool asked = false;
    BIO *in = NULL;
    int err;

    err = file_open(loading, file, &in);
    if (err)
        return err;
    key = PEM_read_bio_PrivateKey_ex(in, NULL, no_password, &asked, NULL, NULL);
    BIO_free(in);
    if (!key && asked)
        return mistake(loading, file,
                       "is encrypted, and sipward has no password for it: decrypt it with openssl "
                       "pkey, and let only sipward's user read it");
    if (!key)
        return mistake(
            loading, file,
            "has no private key that can be read: a PEM file with BEGIN PRIVATE KEY is needed");
    if (stat(file, &status) == 0 && (status.st_mode & S_IROTH))
        warning(loading, "private key can be read by every user", file, NULL);
    *out = key;
    return 0;
}

/* PEM files that the configuration names, and what to say where they are not right. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>

#include "proxy/log.h"
#include "proxy/str.h"
#include "tls/internal.h"

enum { FILE_MAX = 1 << 20 }; /* a bundle of all CAs of the web has 200 kB */

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
                  LOG_TEXT("until", str_of(more)));
    else
        log_event(LOG_WARNING, what, LOG_TEXT("file", str_of(file)));
}

const char *openssl_reason(void)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());

    return reason ? reason : "OpenSSL gives no reason";
}

/* ---- bytes ---- */

/* `room` bytes at most. Returns how many, or a negative errno. */
static ssize_t bytes_read(int fd, char *at, size_t room)
{
    size_t len = 0;
    ssize_t got = 0;

    while (len < room && (got = read(fd, at + len, room - len)) > 0)
        len += (size_t)got;
    return got < 0 ? -errno : (ssize_t)len;
}

/* What is wrong with the file is kept for who knows how to say it. -ENOMEM. */
static int pem_read(const char *file, struct pem *out)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO would hold up the thread */
    struct stat status = {0};
    char *smaller;
    ssize_t len;

    if (fd < 0 || fstat(fd, &status))
        out->err = -errno;
    else if (S_ISDIR(status.st_mode))
        out->err = -EISDIR;
    else if (status.st_size > FILE_MAX)
        out->err = -EFBIG;
    if (out->err) {
        if (fd >= 0)
            close(fd);
        return 0;
    }
    out->mode = status.st_mode;
    out->bytes = calloc(1, FILE_MAX + 1);
    len = out->bytes ? bytes_read(fd, out->bytes, FILE_MAX) : -ENOMEM;
    close(fd);
    if (len < 0) {
        free(out->bytes);
        out->bytes = NULL;
        out->err = (int)len;
        return len == -ENOMEM ? -ENOMEM : 0;
    }
    out->len = (size_t)len;
    smaller = realloc(out->bytes, out->len + 1);
    out->bytes = smaller ? smaller : out->bytes;
    return 0;
}

static void pem_free(struct pem *pem)
{
    if (pem->bytes)
        OPENSSL_cleanse(pem->bytes, pem->len); /* it may be a key */
    free(pem->bytes);
}

static bool pem_eq(const struct pem *one, const struct pem *two)
{
    return one->err == two->err && one->len == two->len &&
           (!one->len || !memcmp(one->bytes, two->bytes, one->len));
}

int pems_read(const struct conf *conf, const struct pems **out)
{
    struct pems *pems = calloc(1, sizeof(*pems) + conf->certificate_count * sizeof(pems->pairs[0]));
    const struct pems *made = pems;
    int err = 0;

    if (!pems)
        return -ENOMEM;
    if (conf->client_ca)
        err = pem_read(conf->client_ca, &pems->client_ca);
    for (unsigned i = 0; i < conf->certificate_count && !err; i++) {
        pems->count++;
        err = pem_read(conf->certificates[i].chain, &pems->pairs[i].chain);
        if (!err)
            err = pem_read(conf->certificates[i].key, &pems->pairs[i].key);
    }
    if (err)
        pems_free(&made);
    else
        *out = made;
    return err;
}

void pems_free(const struct pems **pems)
{
    struct pems *mine = (struct pems *)*pems;

    *pems = NULL;
    if (!mine)
        return;
    pem_free(&mine->client_ca);
    for (unsigned i = 0; i < mine->count; i++) {
        pem_free(&mine->pairs[i].chain);
        pem_free(&mine->pairs[i].key);
    }
    free(mine);
}

bool pem_pair_eq(const struct pem_pair *one, const struct pem_pair *two)
{
    return pem_eq(&one->chain, &two->chain) && pem_eq(&one->key, &two->key);
}

bool pems_eq(const struct pems *one, const struct pems *two)
{
    if (!one || !two)
        return one == two;
    if (one->count != two->count || !pem_eq(&one->client_ca, &two->client_ca))
        return false;
    for (unsigned i = 0; i < one->count; i++)
        if (!pem_pair_eq(&one->pairs[i], &two->pairs[i]))
            return false;
    return true;
}

/* ---- what is in them ---- */

static int pem_open(const struct loading *loading, const char *file, const struct pem *pem,
                    BIO **out)
{
    switch (pem->err) {
    case 0: break;
    case -EISDIR: return mistake(loading, file, "is a folder: name the PEM file in it");
    default: return mistake(loading, file, "can't be read: %s", strerrordesc_np(-pem->err));
    }
    *out = BIO_new_mem_buf(pem->bytes, (int)pem->len);
    return *out ? 0 : -ENOMEM;
}

/* OpenSSL would ask at the terminal. */
static int no_password(char *password, int size, int writing, void *asked)
{
    (void)password, (void)size, (void)writing;
    *(bool *)asked = true;
    return -1;
}

int chain_read(const struct loading *loading, const char *file, const struct pem *pem,
               STACK_OF(X509) * *out)
{
    STACK_OF(X509) *chain = sk_X509_new_null();
    bool asked = false;
    BIO *in = NULL;
    X509 *one;
    int err;

    if (!chain)
        return -ENOMEM;
    err = pem_open(loading, file, pem, &in);
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

int key_read(const struct loading *loading, const char *file, const struct pem *pem, EVP_PKEY **out)
{
    EVP_PKEY *key = NULL;
    bool asked = false;
    BIO *in = NULL;
    int err;

    err = pem_open(loading, file, pem, &in);
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
    if (pem->mode & S_IROTH)
        warning(loading, "private key can be read by every user", file, NULL);
    *out = key;
    return 0;
}

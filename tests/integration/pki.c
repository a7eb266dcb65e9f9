#include "pki.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

static char folder[256];

const char *pki_folder(void)
{
    const char *base = getenv("TMPDIR");

    if (!folder[0]) {
        (void)snprintf(folder, sizeof(folder), "%s/sipward-test.XXXXXX", base ? base : "/tmp");
        assert_non_null(mkdtemp(folder));
    }
    return folder;
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *at)
{
    (void)status, (void)kind, (void)at;
    return remove(path);
}

void pki_remove(void)
{
    if (folder[0])
        (void)nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    folder[0] = '\0';
}

const char *pki_path(const char *name)
{
    static char paths[8][512];
    static unsigned next;
    char *path = paths[next++ % 8];

    (void)snprintf(path, sizeof(paths[0]), "%s/%s", pki_folder(), name);
    return path;
}

static FILE *file_create(const char *name)
{
    FILE *file = fopen(pki_path(name), "we");

    assert_non_null(file);
    assert_int_equal(fchmod(fileno(file), 0600), 0);
    return file;
}

void pki_write(const char *name, const char *text)
{
    FILE *file = file_create(name);

    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void extension_add(X509 *certificate, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

    assert_non_null(extension);
    assert_int_equal(X509_add_ext(certificate, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

void pki_make(const struct pki_spec *spec, const char *chain, const char *key_name)
{
    EVP_PKEY *key = spec->rsa_bits ? EVP_RSA_gen(spec->rsa_bits) : EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    X509_NAME *name;
    FILE *file;

    assert_non_null(key);
    assert_non_null(certificate);
    X509_set_version(certificate, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), spec->from_s);
    X509_gmtime_adj(X509_getm_notAfter(certificate),
                    spec->until_s ? spec->until_s : 3650L * 24 * 3600);
    name = X509_get_subject_name(certificate);
    X509_NAME_add_entry_by_txt(name, "O", MBSTRING_ASC, (const unsigned char *)"test", -1, -1, 0);
    X509_set_issuer_name(certificate, name);
    X509_set_pubkey(certificate, key);
    extension_add(certificate, NID_subject_alt_name, spec->san);
    if (spec->usage)
        extension_add(certificate, NID_ext_key_usage, spec->usage);
    assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);

    file = file_create(chain);
    assert_int_equal(PEM_write_X509(file, certificate), 1);
    assert_int_equal(fclose(file), 0);
    file = file_create(key_name);
    assert_int_equal(PEM_write_PKCS8PrivateKey(
                         file, key, spec->password ? EVP_aes_128_cbc() : NULL, spec->password,
                         spec->password ? (int)strlen(spec->password) : 0, NULL, NULL),
                     1);
    assert_int_equal(fclose(file), 0);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

static void file_append(FILE *out, const char *name)
{
    FILE *in = fopen(pki_path(name), "re");
    int c;

    assert_non_null(in);
    while ((c = fgetc(in)) != EOF)
        assert_int_equal(fputc(c, out), c);
    assert_int_equal(fclose(in), 0);
}

void pki_join(const char *name, const char *first, const char *second)
{
    FILE *out = file_create(name);

    file_append(out, first);
    file_append(out, second);
    assert_int_equal(fclose(out), 0);
}

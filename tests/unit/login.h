/* What a client answers to a challenge (RFC 7616 3.4). */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/evp.h>

static inline void hash_text(const char *algorithm, const char *text, char hex[65])
{
    unsigned char hash[EVP_MAX_MD_SIZE];
    size_t len = 0;

    assert_int_equal(EVP_Q_digest(NULL, algorithm, NULL, text, strlen(text), hash, &len), 1);
    for (size_t i = 0; i < len; i++)
        (void)snprintf(hex + 2 * i, 3, "%02x", hash[i]);
}

struct login {
    const char *user, *password, *algorithm; /* "MD5" */
    const char *uri;                         /* NULL: the Request-URI */
    const char *nonce;                       /* NULL: of the challenge */
};

static inline void quoted(const char *text, const char *name, char out[256])
{
    const char *at = strstr(text, name);

    assert_non_null(at);
    at = strchr(at, '"') + 1;
    (void)snprintf(out, 256, "%.*s", (int)strcspn(at, "\""), at);
}

/* A header line that answers the challenge in `response`, the nc-th with its nonce. */
static inline void authorize_again(const char *response, const struct login *login, unsigned nc,
                                   const char *method, const char *request_uri, char out[2048])
{
    const char *hash = strcmp(login->algorithm, "MD5") == 0 ? "MD5" : "SHA256";
    const char *uri = login->uri ? login->uri : request_uri;
    char realm[256], nonce[256], text[2048], a1[65], a2[65], answer[65];

    quoted(response, "realm=", realm);
    quoted(response, "nonce=", nonce);
    if (login->nonce)
        (void)snprintf(nonce, sizeof(nonce), "%s", login->nonce);
    (void)snprintf(text, sizeof(text), "%s:%s:%s", login->user, realm, login->password);
    hash_text(hash, text, a1);
    (void)snprintf(text, sizeof(text), "%s:%s", method, uri);
    hash_text(hash, text, a2);
    (void)snprintf(text, sizeof(text), "%s:%s:%08x:c0ffee:auth:%s", a1, nonce, nc, a2);
    hash_text(hash, text, answer);
    (void)snprintf(out, 2048,
                   "%s: Digest username=\"%s\", realm=\"%s\", nonce=\"%s\", uri=\"%s\", "
                   "response=\"%s\", algorithm=%s, qop=auth, cnonce=\"c0ffee\", nc=%08x\r\n",
                   strncmp(response, "SIP/2.0 401", 11) == 0 ? "Authorization"
                                                             : "Proxy-Authorization",
                   login->user, realm, nonce, uri, answer, login->algorithm, nc);
}

static inline void authorize(const char *response, const struct login *login, const char *method,
                             const char *request_uri, char out[2048])
{
    authorize_again(response, login, 1, method, request_uri, out);
}

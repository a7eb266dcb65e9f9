/* Keys of session tickets (RFC 5077 4), a new one each day.
 *
 * The next key is a hash of the one before, so workers that began with the same have the same ever
 * after without a word between them, and none knows what it forgot: tickets of TLS 1.2 give away
 * their sessions to whoever gets their key (RFC 9325 3.4). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include "tls/internal.h"

enum { KEY_LIFE_S = 24 * 3600, NAME_SIZE = 16, MAC_KEY_SIZE = 32 };

/* bytes: name, key of the MAC, key of the cipher */
static bool key_next(struct ticket_keys *keys)
{
    unsigned char out[2 * 64], in[1 + TICKET_KEYS_SIZE];
    bool done = true;

    memcpy(in + 1, keys->bytes, TICKET_KEYS_SIZE);
    for (unsigned char i = 0; i < 2 && done; i++) {
        in[0] = i;
        done = EVP_Q_digest(NULL, "SHA512", NULL, in, sizeof(in), out + (size_t)i * 64, NULL) == 1;
    }
    if (done) {
        memcpy(keys->bytes, out, TICKET_KEYS_SIZE);
        keys->made_s += KEY_LIFE_S;
    }
    OPENSSL_cleanse(in, sizeof(in));
    OPENSSL_cleanse(out, sizeof(out));
    return done;
}

static bool keys_advance(struct tickets *tickets)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    while (now.tv_sec - tickets->now.made_s >= KEY_LIFE_S) {
        tickets->before = tickets->now;
        if (!key_next(&tickets->now))
            return false;
    }
    return true;
}

static int ticket_key(SSL *ssl, unsigned char name[NAME_SIZE], unsigned char *iv,
                      EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int encrypt)
{
    struct tickets *tickets = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    struct ticket_keys *keys = &tickets->now;
    OSSL_PARAM params[3];

    if (!keys_advance(tickets))
        return -1;
    if (encrypt) {
        memcpy(name, keys->bytes, NAME_SIZE);
        if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(tickets->cipher)) != 1)
            return -1;
    } else if (memcmp(name, keys->bytes, NAME_SIZE) != 0) {
        keys = &tickets->before;
        if (memcmp(name, keys->bytes, NAME_SIZE) != 0)
            return 0; /* none of ours, or too old */
    }
    params[0] = OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, keys->bytes + NAME_SIZE,
                                                  MAC_KEY_SIZE);
    params[1] = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char[]){"SHA256"}, 0);
    params[2] = OSSL_PARAM_construct_end();
    if (EVP_MAC_CTX_set_params(mac, params) != 1 ||
        EVP_CipherInit_ex2(cipher, tickets->cipher, keys->bytes + NAME_SIZE + MAC_KEY_SIZE, iv,
                           encrypt, NULL) != 1)
        return -1;
    /* 2: and a new ticket, please. TLS 1.3's are for one use each (RFC 8446 C.4). */
    return keys == &tickets->now && SSL_version(ssl) < TLS1_3_VERSION ? 1 : 2;
}

int tickets_open(const struct ticket_keys *keys, struct tickets **out)
{
    struct tickets *tickets = calloc(1, sizeof(*tickets));

    if (!tickets)
        return -ENOMEM;
    tickets->now = *keys;
    tickets->cipher = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
    /* Until a day has passed there is no key before: one that nobody has. */
    if (!tickets->cipher || RAND_bytes(tickets->before.bytes, TICKET_KEYS_SIZE) != 1) {
        int err = tickets->cipher ? -EIO : -ENOMEM;

        tickets_close(&tickets);
        return err;
    }
    *out = tickets;
    return 0;
}

void tickets_close(struct tickets **tickets)
{
    if (!*tickets)
        return;
    EVP_CIPHER_free((*tickets)->cipher);
    OPENSSL_cleanse(*tickets, sizeof(**tickets));
    free(*tickets);
    *tickets = NULL;
}

bool tickets_apply(struct tickets *tickets, SSL_CTX *context)
{
    return SSL_CTX_set_app_data(context, tickets) == 1 &&
           SSL_CTX_set_tlsext_ticket_key_evp_cb(context, ticket_key) == 1;
}

#include "proxy/token.h"

#include <errno.h>
#include <stdlib.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "conf/conf.h"

enum { HEAD = 14, MAC = 10, KEYS_MAX = CONF_TOKEN_KEYS_MAX + 1 };

struct token_keys {
    EVP_MAC *hmac;
    EVP_MAC_CTX *contexts[KEYS_MAX];
    unsigned count;
};

int token_keys_create(const uint8_t (*keys)[32], unsigned count, struct token_keys **out)
{
    struct token_keys *set = calloc(1, sizeof(*set));
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"SHA256", 0),
        OSSL_PARAM_construct_end(),
    };

    if (!set)
        return -ENOMEM;
    set->hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    for (; set->hmac && set->count < count && set->count < KEYS_MAX; set->count++) {
        EVP_MAC_CTX *context = EVP_MAC_CTX_new(set->hmac);
        set->contexts[set->count] = context;
        if (!context || !EVP_MAC_init(context, keys[set->count], sizeof(keys[0]), params)) {
            set->count++;
            token_keys_destroy(&set);
            return -ENOMEM;
        }
    }
    if (!set->count) {
        token_keys_destroy(&set);
        return -ENOMEM;
    }
    *out = set;
    return 0;
}

void token_keys_destroy(struct token_keys **keys)
{
    struct token_keys *set = *keys;

    if (!set)
        return;
    for (unsigned i = 0; i < set->count; i++)
        EVP_MAC_CTX_free(set->contexts[i]);
    EVP_MAC_free(set->hmac);
    free(set);
    *keys = NULL;
}

static bool sign(EVP_MAC_CTX *context, const uint8_t *bytes, size_t len, uint8_t mac[MAC])
{
    uint8_t whole[EVP_MAX_MD_SIZE];
    size_t size;

    /* No key given: the one from token_keys_create() again. */
    if (!EVP_MAC_init(context, NULL, 0, NULL) || !EVP_MAC_update(context, bytes, len) ||
        !EVP_MAC_final(context, whole, &size, sizeof(whole)))
        return false;
    memcpy(mac, whole, MAC);
    return true;
}

static void put(uint8_t *at, uint32_t n, int bytes)
{
    for (int i = bytes - 1; i >= 0; i--, n >>= 8)
        at[i] = (uint8_t)n;
}

static uint32_t get(const uint8_t *at, int bytes)
{
    uint32_t n = 0;

    for (int i = 0; i < bytes; i++)
        n = n << 8 | at[i];
    return n;
}

struct str token_print(struct token_keys *keys, struct arena *arena, const struct token *token)
{
    struct str none = {NULL, 0};
    size_t len = HEAD + token->uri.len + MAC;
    uint8_t *bytes, *text;
    int size;

    if (token->uri.len > TOKEN_URI_MAX)
        return none;
    bytes = arena_alloc(arena, len);
    text = arena_alloc(arena, (len + 2) / 3 * 4 + 1);
    if (!bytes || !text)
        return none;

    bytes[0] = (uint8_t)token->kind;
    bytes[1] = 0;
    bytes[2] = token->worker;
    put(bytes + 3, token->slot, 3);
    put(bytes + 6, token->instance, 4);
    put(bytes + 10, token->generation, 4);
    if (token->uri.len)
        memcpy(bytes + HEAD, token->uri.p, token->uri.len);
    if (!sign(keys->contexts[0], bytes, len - MAC, bytes + len - MAC)) {
        arena->no_memory = true;
        return none;
    }

    size = EVP_EncodeBlock(text, bytes, (int)len);
    while (size && text[size - 1] == '=')
        size--;
    for (int i = 0; i < size; i++)
        text[i] = text[i] == '+' ? '-' : text[i] == '/' ? '_' : text[i];
    return (struct str){(char *)text, (size_t)size};
}

/* base64url without padding. Bytes that it stands for; 0: it is none. */
static size_t decode(struct str text, uint8_t *bytes)
{
    uint32_t bits = 0;
    size_t len = 0;

    if (text.len % 4 == 1)
        return 0;
    for (size_t i = 0; i < text.len; i++) {
        int value = base64url_digit(text.p[i]);

        if (value < 0)
            return 0;
        bits = bits << 6 | (uint32_t)value;
        if (i % 4) /* each but the first of four completes a byte */
            bytes[len++] = (uint8_t)(bits >> (6 - 2 * (i % 4)));
    }
    return len;
}

/* All but the MAC and the URI, from bytes of at least HEAD. -EINVAL: not a token. */
static int head_read(const uint8_t *bytes, struct token *out)
{
    if (bytes[0] != TOKEN_FLOW && bytes[0] != TOKEN_CONTACT)
        return -EINVAL;
    *out = (struct token){
        .kind = (enum token_kind)bytes[0],
        .worker = bytes[2],
        .slot = get(bytes + 3, 3),
        .instance = get(bytes + 6, 4),
        .generation = get(bytes + 10, 4),
    };
    return 0;
}

int token_slot(struct str text, uint32_t *out)
{
    enum { SLOT_TEXT = 4, SLOT_TEXT_LEN = 4 }; /* where put() has the slot: whole characters */
    uint8_t bytes[3];

    if (text.len < TOKEN_FLOW_LEN ||
        !decode((struct str){text.p + SLOT_TEXT, SLOT_TEXT_LEN}, bytes))
        return -EINVAL;
    *out = get(bytes, sizeof(bytes));
    return 0;
}

bool token_equals(struct str text, struct str kept)
{
    return text.len == kept.len && !CRYPTO_memcmp(kept.p, text.p, text.len);
}

int token_parse(struct token_keys *keys, struct arena *arena, struct str text, struct token *out)
{
    uint8_t *bytes, mac[MAC];
    struct token token;
    size_t len;

    if (text.len < TOKEN_FLOW_LEN || text.len > TOKEN_TEXT_MAX)
        return -EINVAL;
    bytes = arena_alloc(arena, text.len);
    len = bytes ? decode(text, bytes) : 0;
    if (!len || head_read(bytes, &token))
        return -EINVAL;
    token.uri = (struct str){(char *)bytes + HEAD, len - HEAD - MAC};
    /* The key id only names the newest key of whoever signed: after a rotation it says nothing, so
     * all keys are tried. They are few, and this runs only where the flow's own text differs. */
    for (unsigned i = 0; i < keys->count; i++) {
        if (!sign(keys->contexts[i], bytes, len - MAC, mac)) {
            arena->no_memory = true;
            return -EBADMSG;
        }
        if (CRYPTO_memcmp(mac, bytes + len - MAC, MAC))
            continue;
        *out = token;
        return 0;
    }
    return -EBADMSG;
}

bool token_flow_id(struct arena *arena, struct str text, uint8_t id[FLOW_ID_LEN])
{
    enum { KIND_AND_KEY = 2 };
    struct token token;
    uint8_t *bytes;

    if (text.len < TOKEN_FLOW_LEN || text.len > TOKEN_TEXT_MAX)
        return false;
    bytes = arena_alloc(arena, text.len);
    if (!bytes || !decode(text, bytes) || head_read(bytes, &token))
        return false;
    memcpy(id, bytes + KIND_AND_KEY, FLOW_ID_LEN);
    return true;
}

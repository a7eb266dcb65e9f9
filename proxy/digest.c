#include "proxy/digest.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include "proxy/value.h"

enum {
    KEY_SIZE = 32,
    HASH_MAX = 32,              /* bytes of a SHA-256 */
    HEX_MAX = 2 * HASH_MAX + 1, /* as text, with its NUL */
    NONCE_TIME_LEN = 16,        /* hex digits: 48 bits of time, 16 that make it the only one */
    NONCE_SERIAL_BITS = 16,
    NONCE_MAC_LEN = 32, /* hex digits of half a MAC */
    NONCE_LEN = NONCE_TIME_LEN + NONCE_MAC_LEN,
    FAILURE_SLOTS = 1024,
    COUNT_SLOTS = 4096,
};

struct failures {
    unsigned count;
    uint64_t since; /* of the last one counted or forgotten */
};

/* The highest nc that came with a nonce (RFC 7616 3.3). A slot is taken over by the newer nonce: a
 * replay of the older one then passes until that is stale, which is what all had without counts. */
struct count {
    uint64_t nonce; /* keyed hash; 0: free */
    uint32_t nc;
};

struct digest {
    struct str realm;
    uint64_t nonce_lifetime_ms;
    uint8_t key[KEY_SIZE];
    uint16_t serial;                         /* of the last nonce */
    struct failures failures[FAILURE_SLOTS]; /* by a keyed hash of the user name */
    struct count counts[COUNT_SLOTS];        /* by that hash of the nonce */
};

int digest_create(const struct conf *conf, struct digest **out)
{
    struct digest *digest = calloc(1, sizeof(*digest));

    if (!digest)
        return -ENOMEM;
    if (RAND_bytes(digest->key, sizeof(digest->key)) != 1) {
        free(digest);
        return -EIO;
    }
    digest_conf_set(digest, conf);
    *out = digest;
    return 0;
}

void digest_conf_set(struct digest *digest, const struct conf *conf)
{
    digest->realm = str_of(conf->registrar.realm);
    digest->nonce_lifetime_ms = (uint64_t)conf->registrar.nonce_lifetime_s * 1000;
}

void digest_destroy(struct digest **digest)
{
    if (*digest)
        OPENSSL_cleanse((*digest)->key, sizeof((*digest)->key));
    free(*digest);
    *digest = NULL;
}

/* ---- reading credentials ---- */

/* Without quotes and escapes: this is what RFC 7616 3.4.2 calls unq(). p NULL: arena full. */
static struct str unquote(struct arena *arena, struct str s)
{
    char *text;
    size_t len = 0;

    if (s.len < 2 || s.p[0] != '"' || s.p[s.len - 1] != '"')
        return s;
    s.p++;
    s.len -= 2;
    if (!memchr(s.p, '\\', s.len))
        return s;
    text = arena_alloc(arena, s.len);
    if (!text)
        return (struct str){NULL, 0};
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] == '\\' && i + 1 < s.len)
            i++;
        text[len++] = s.p[i];
    }
    return (struct str){text, len};
}

static const struct {
    struct str name;
    enum digest_algorithm algorithm;
} algorithms[] = {
    {{"SHA-256", 7}, DIGEST_SHA256},
    {{"MD5", 3},     DIGEST_MD5   },
};

static bool algorithm_find(struct str name, enum digest_algorithm *out)
{
    for (size_t i = 0; i < ARRAY_LEN(algorithms); i++) {
        if (str_eq_nocase(name, algorithms[i].name)) {
            *out = algorithms[i].algorithm;
            return true;
        }
    }
    return false;
}

static bool credentials_parse(const struct digest *digest, struct str value, struct arena *arena,
                              struct digest_credentials *out)
{
    const struct str scheme = STR("Digest");
    struct str realm = {0}, algorithm = STR("MD5"), qop = {0}, rest, param;
    struct digest_credentials found = {0};
    const struct {
        struct str name;
        struct str *value;
    } params[] = {
        {STR("username"),  &found.username},
        {STR("realm"),     &realm         },
        {STR("nonce"),     &found.nonce   },
        {STR("uri"),       &found.uri     },
        {STR("response"),  &found.response},
        {STR("algorithm"), &algorithm     },
        {STR("qop"),       &qop           },
        {STR("cnonce"),    &found.cnonce  },
        {STR("nc"),        &found.nc      },
    };

    if (value.len <= scheme.len || !str_eq_nocase((struct str){value.p, scheme.len}, scheme) ||
        (value.p[scheme.len] != ' ' && value.p[scheme.len] != '\t'))
        return false;
    rest = str_trim((struct str){value.p + scheme.len, value.len - scheme.len});
    while (sip_list_next(&rest, &param)) {
        const char *equals = memchr(param.p, '=', param.len);
        struct str name, text;

        if (!equals)
            return false;
        name = str_trim((struct str){param.p, (size_t)(equals - param.p)});
        text = str_trim((struct str){equals + 1, param.len - (size_t)(equals - param.p) - 1});
        for (size_t i = 0; i < ARRAY_LEN(params); i++)
            if (str_eq_nocase(name, params[i].name))
                *params[i].value = unquote(arena, text);
    }
    if (!found.username.p || !found.nonce.p || !found.uri.p || !found.response.p ||
        !str_eq(realm, digest->realm) || !algorithm_find(algorithm, &found.algorithm))
        return false;
    found.qop = qop.p;
    if (found.qop && (!str_eq_nocase(qop, STR("auth")) || !found.cnonce.p || found.nc.len != 8))
        return false;
    *out = found;
    return true;
}

bool digest_credentials(const struct digest *digest, const struct sip_msg *request,
                        enum header_id id, struct arena *arena, struct digest_credentials *out)
{
    for (int i = sip_find(request, id, 0); i >= 0; i = sip_find(request, id, (unsigned)i + 1)) {
        if (credentials_parse(digest, request->headers[i].value, arena, out)) {
            out->index = (unsigned)i;
            return true;
        }
    }
    return false;
}

/* ---- hashes ---- */

static void hex_print(const uint8_t *bytes, size_t len, char *text)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < len; i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[2 * i + 1] = digits[bytes[i] & 15];
    }
    text[2 * len] = '\0';
}

/* Hash of the parts with ':' between them, as lower-case hex. The empty string: libcrypto refuses
 * the algorithm (a FIPS provider has no MD5). */
static void hash_parts(enum digest_algorithm algorithm, const struct str *parts, size_t count,
                       char hex[HEX_MAX])
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    uint8_t hash[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    bool fine =
        context &&
        EVP_DigestInit_ex(context, algorithm == DIGEST_MD5 ? EVP_md5() : EVP_sha256(), NULL) == 1;

    for (size_t i = 0; fine && i < count; i++) {
        if (i)
            fine = EVP_DigestUpdate(context, ":", 1) == 1;
        if (fine && parts[i].len)
            fine = EVP_DigestUpdate(context, parts[i].p, parts[i].len) == 1;
    }
    fine = fine && EVP_DigestFinal_ex(context, hash, &len) == 1 && len <= HASH_MAX;
    EVP_MD_CTX_free(context);
    hex_print(hash, fine ? len : 0, hex);
}

/* H(user:realm:password). An unknown user has a password that nobody can know: the same work is
 * done, so that the time taken says nothing either. */
static void ha1(const struct digest *digest, const struct digest_credentials *credentials,
                const struct conf_user *user, char hex[HEX_MAX])
{
    const char *stored = NULL;
    struct str password = {(const char *)digest->key, sizeof(digest->key)};

    if (user) {
        stored = credentials->algorithm == DIGEST_MD5 ? user->ha1_md5 : user->ha1_sha256;
        if (user->password)
            password = str_of(user->password);
    }
    hash_parts(credentials->algorithm,
               (const struct str[]){credentials->username, digest->realm, password}, 3, hex);
    if (stored && strlen(stored) < HEX_MAX)
        memcpy(hex, stored, strlen(stored) + 1);
}

static bool response_matches(const struct digest *digest, const struct sip_msg *request,
                             const struct digest_credentials *credentials,
                             const struct conf_user *user, struct arena *arena)
{
    char a1[HEX_MAX], a2[HEX_MAX], expected[HEX_MAX];
    bool same;

    ha1(digest, credentials, user, a1);
    hash_parts(credentials->algorithm, (const struct str[]){request->method_name, credentials->uri},
               2, a2);
    if (credentials->qop)
        hash_parts(credentials->algorithm,
                   (const struct str[]){str_of(a1), credentials->nonce, credentials->nc,
                                        credentials->cnonce, STR("auth"), str_of(a2)},
                   6, expected);
    else
        hash_parts(credentials->algorithm,
                   (const struct str[]){str_of(a1), credentials->nonce, str_of(a2)}, 3, expected);
    if (!*expected || !*a1 || !*a2)
        arena->no_memory = true; /* it can't be judged */
    same = credentials->response.len == strlen(expected) &&
           CRYPTO_memcmp(credentials->response.p, expected, credentials->response.len) == 0;
    OPENSSL_cleanse(a1, sizeof(a1));
    return same && user && !arena->no_memory;
}

/* ---- nonces: time and serial number, and a MAC of them ---- */

static bool mac(const struct digest *digest, struct str data, uint8_t out[HASH_MAX])
{
    unsigned len = 0;

    return HMAC(EVP_sha256(), digest->key, sizeof(digest->key), (const uint8_t *)data.p, data.len,
                out, &len) &&
           len == HASH_MAX;
}

static void nonce_print(const struct digest *digest, uint64_t stamp, char nonce[NONCE_LEN + 1])
{
    uint8_t sum[HASH_MAX];
    char text[NONCE_TIME_LEN + 1];
    uint8_t bytes[8];

    for (unsigned i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(stamp >> (56 - 8 * i));
    hex_print(bytes, sizeof(bytes), text);
    memcpy(nonce, text, sizeof(text));
    if (mac(digest, str_of(text), sum))
        hex_print(sum, NONCE_MAC_LEN / 2, nonce + NONCE_TIME_LEN);
    /* else it stays without a MAC, and is stale when it comes back */
}

static bool nonce_fresh(const struct digest *digest, struct str nonce, uint64_t now)
{
    char expected[NONCE_LEN + 1] = "";
    uint64_t stamp = 0, time;

    if (nonce.len != NONCE_LEN)
        return false;
    for (size_t i = 0; i < NONCE_TIME_LEN; i++) {
        char c = nonce.p[i];
        uint64_t digit;

        if (c >= '0' && c <= '9')
            digit = (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            digit = (uint64_t)(c - 'a') + 10;
        else
            return false;
        stamp = stamp << 4 | digit;
    }
    nonce_print(digest, stamp, expected);
    time = stamp >> NONCE_SERIAL_BITS;
    return strlen(expected) == NONCE_LEN && CRYPTO_memcmp(nonce.p, expected, NONCE_LEN) == 0 &&
           time <= now && now - time <= digest->nonce_lifetime_ms;
}

/* ---- judging ---- */

static struct failures *failures_of(struct digest *digest, struct str username, uint64_t now)
{
    uint8_t sum[HASH_MAX] = {0};
    struct failures *failures;
    uint64_t forgotten;

    if (!mac(digest, username, sum))
        return &digest->failures[0];
    failures = &digest->failures[(sum[0] | (unsigned)sum[1] << 8) % FAILURE_SLOTS];
    forgotten = (now - failures->since) / DIGEST_FAILURE_DECAY_MS;
    failures->count = forgotten < failures->count ? failures->count - (unsigned)forgotten : 0;
    failures->since += forgotten * DIGEST_FAILURE_DECAY_MS;
    return failures;
}

/* The uri parameter names what the request is for. Proxies may have rewritten the Request-URI since
 * (RFC 3261 22.4 item 7), so the same host is enough. */
static bool uri_matches(struct arena *arena, struct str uri, struct str request_uri)
{
    struct sip_uri a, b;

    return str_eq(uri, request_uri) ||
           (sip_uri_parse(arena, uri, &a) == 0 && sip_uri_parse(arena, request_uri, &b) == 0 &&
            str_eq_nocase(a.host, b.host));
}

static bool nc_read(struct str text, uint32_t *out)
{
    uint32_t n = 0;

    for (size_t i = 0; i < text.len; i++) {
        char c = text.p[i];

        if (c >= '0' && c <= '9')
            n = n << 4 | (uint32_t)(c - '0');
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
            n = n << 4 | (uint32_t)((c | 0x20) - 'a' + 10);
        else
            return false;
    }
    *out = n;
    return text.len == 8;
}

/* Was this count not used before? Requests of one client may overtake each other on their way, and
 * then the later one is asked to try again with a new nonce: it is told so, not refused. RFC 2069
 * has no counts. */
static bool nc_new(struct digest *digest, const struct digest_credentials *credentials)
{
    uint8_t sum[HASH_MAX] = {0};
    struct count *slot;
    uint64_t nonce;
    uint32_t nc;

    if (!credentials->qop)
        return true;
    if (!nc_read(credentials->nc, &nc) || !mac(digest, credentials->nonce, sum))
        return false;
    memcpy(&nonce, sum, sizeof(nonce));
    slot = &digest->counts[nonce % COUNT_SLOTS];
    if (slot->nonce == nonce && nc <= slot->nc)
        return false;
    *slot = (struct count){nonce, nc};
    return true;
}

enum digest_result digest_verify(struct digest *digest, const struct sip_msg *request,
                                 const struct digest_credentials *credentials,
                                 const struct conf_user *user, struct arena *arena, uint64_t now)
{
    struct failures *failures = failures_of(digest, credentials->username, now);
    bool can = user && (user->password ||
                        (credentials->algorithm == DIGEST_MD5 ? user->ha1_md5 : user->ha1_sha256));

    if (response_matches(digest, request, credentials, can ? user : NULL, arena) &&
        uri_matches(arena, credentials->uri, request->uri)) {
        failures->count = 0;
        return nonce_fresh(digest, credentials->nonce, now) && nc_new(digest, credentials)
                   ? DIGEST_OK
                   : DIGEST_STALE;
    }
    if (arena->no_memory)
        return DIGEST_WRONG; /* which is not counted */
    if (failures->count >= DIGEST_FAILURES_MAX)
        return DIGEST_REFUSED; /* counted no further: a minute's pause is a new try */
    if (failures->count++ == 0)
        failures->since = now;
    return failures->count >= DIGEST_FAILURES_MAX ? DIGEST_REFUSED : DIGEST_WRONG;
}

void digest_challenge(struct digest *digest, enum header_id id, const struct conf_user *user,
                      bool stale, uint64_t now, struct buf *out)
{
    bool sha256 = user && user->ha1_sha256;
    bool md5 = !user || user->password || user->ha1_md5;
    char nonce[NONCE_LEN + 1] = "";

    nonce_print(digest, now << NONCE_SERIAL_BITS | ++digest->serial, nonce);
    for (size_t i = 0; i < ARRAY_LEN(algorithms); i++) {
        if (algorithms[i].algorithm == DIGEST_MD5 ? !md5 : !sha256)
            continue;
        buf_printf(out,
                   STR_FMT ": Digest realm=\"" STR_FMT "\", nonce=\"%s\", algorithm=" STR_FMT
                           ", qop=\"auth\"%s\r\n",
                   STR_ARG(header_name(id)), STR_ARG(digest->realm), nonce,
                   STR_ARG(algorithms[i].name), stale ? ", stale=true" : "");
    }
}

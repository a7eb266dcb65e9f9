#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proxy/digest.h"

/* What RFC 7616 3.9.1 prints, but for the realm's users: Mufasa, "Circle of Life". */
#define REALM "http-auth@example.org"
#define NONCE "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
#define CNONCE "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"

#define HEX32 "00112233445566778899aabbccddeeff"

static struct conf_user users[] = {
    {"Mufasa", "Circle of Life", NULL,  NULL       },
    {"md5",    NULL,             HEX32, NULL       },
    {"sha",    NULL,             NULL,  HEX32 HEX32},
    {"both",   "x",              NULL,  HEX32 HEX32},
};

struct world {
    struct conf conf;
    struct digest *digest;
    struct arena arena;
    struct sip_msg message;
    char text[4096];
};

static int setup(void **state)
{
    struct world *world = calloc(1, sizeof(*world));

    assert_non_null(world);
    world->conf.registrar.realm = REALM;
    world->conf.registrar.nonce_lifetime_s = 10;
    assert_int_equal(digest_create(&world->conf, &world->digest), 0);
    assert_int_equal(arena_create(&world->arena, 65536), 0);
    *state = world;
    return 0;
}

static int teardown(void **state)
{
    struct world *world = *state;

    digest_destroy(&world->digest);
    arena_destroy(&world->arena);
    free(world);
    return 0;
}

/* GET is what the examples of RFC 7616 hash; to SIP it is an unknown method. */
static bool parse(struct world *world, const char *credentials, struct digest_credentials *out)
{
    int len = snprintf(world->text, sizeof(world->text),
                       "GET sip:example.org SIP/2.0\r\nVia: SIP/2.0/TLS a;branch=z9hG4bK1\r\n"
                       "From: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 GET\r\n"
                       "Authorization: %s\r\nContent-Length: 0\r\n\r\n",
                       credentials);

    assert_int_equal(sip_scan(world->text, (size_t)len, SIP_DATAGRAM, false, &world->message), 0);
    return digest_credentials(world->digest, &world->message, HEADER_AUTHORIZATION, &world->arena,
                              out);
}

static const struct {
    const char *algorithm, *response;
} examples[] = {
    {"MD5",     "8ca523f5e9506fed4657c9700eebdbec"                                },
    {"SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"},
};

static void examples_of_rfc_7616_are_right_but_for_the_nonce(void **state) /* S3 */
{
    struct world *world = *state;

    for (size_t i = 0; i < ARRAY_LEN(examples); i++) {
        struct digest_credentials credentials;
        char text[1024];

        (void)snprintf(text, sizeof(text),
                       "Digest username=\"Mufasa\", realm=\"" REALM "\", uri=\"/dir/index.html\", "
                       "algorithm=%s, nonce=\"" NONCE "\", nc=00000001, cnonce=\"" CNONCE
                       "\", qop=auth, response=\"%s\", opaque=\"x\"",
                       examples[i].algorithm, examples[i].response);
        assert_true(parse(world, text, &credentials));
        world->message.uri = STR("/dir/index.html");
        assert_int_equal(digest_verify(world->digest, &world->message, &credentials, &users[0],
                                       &world->arena, 1000),
                         DIGEST_STALE); /* right, and no nonce of ours */
        credentials.nc = STR("00000002");
        assert_int_equal(digest_verify(world->digest, &world->message, &credentials, &users[0],
                                       &world->arena, 1000),
                         DIGEST_WRONG);
        assert_int_equal(
            digest_verify(world->digest, &world->message, &credentials, NULL, &world->arena, 1000),
            DIGEST_WRONG);
    }
}

#define A "username=\"a\", "
#define HOME "realm=\"" REALM "\", "
#define REST "nonce=n, uri=\"u\", response=\"00\""
#define ODD "digest username=\"a\\\"b\",realm=\"" REALM "\",nonce=\"n,n\" , uri=u,response=0"

static const struct {
    const char *what, *text;
    bool found;
} headers[] = {
    {"odd but right",         ODD,                                                           true },
    {"as usual",              "Digest " A HOME REST,                                         true },
    {"another realm",         "Digest " A "realm=\"other\", " REST,                          false},
    {"another scheme",        "Basic Zm9vOmJhcg==",                                          false},
    {"no nonce",              "Digest " A HOME "uri=\"u\", response=\"00\"",                 false},
    {"qop not offered",       "Digest " A HOME REST ", qop=auth-int, cnonce=c, nc=00000001", false},
    {"qop without nc",        "Digest " A HOME REST ", qop=auth, cnonce=c",                  false},
    {"algorithm not offered", "Digest " A HOME REST ", algorithm=MD5-sess",                  false},
    {"nothing",               "Digest",                                                      false},
    {"no parameter",          "Digest hello",                                                false},
};

static void credentials_are_read_or_passed_over(void **state) /* S3 */
{
    struct world *world = *state;

    for (size_t i = 0; i < ARRAY_LEN(headers); i++) {
        struct digest_credentials credentials;

        if (parse(world, headers[i].text, &credentials) != headers[i].found)
            fail_msg("%s", headers[i].what);
        if (i == 0) {
            assert_true(str_eq(credentials.username, STR("a\"b")));
            assert_true(str_eq(credentials.nonce, STR("n,n")));
        }
    }
}

static const struct {
    const struct conf_user *user;
    bool sha256, md5;
} offers[] = {
    {NULL,      false, true },
    {&users[0], false, true },
    {&users[1], false, true },
    {&users[2], true,  false},
    {&users[3], true,  true },
};

/* Clients that know MD5 only must find it in the last challenge, or alone. */
static void challenge_offers_what_the_file_has(void **state) /* S3 */
{
    struct world *world = *state;
    struct buf out;

    assert_int_equal(buf_create(&out, 4096), 0);
    for (size_t i = 0; i < ARRAY_LEN(offers); i++) {
        const char *sha256, *md5;

        buf_reset(&out);
        digest_challenge(world->digest, HEADER_PROXY_AUTHENTICATE, offers[i].user, true, 5000,
                         &out);
        buf_add(&out, (struct str){"", 1});
        sha256 = strstr(out.p, "algorithm=SHA-256, qop=\"auth\", stale=true\r\n");
        md5 = strstr(out.p, "algorithm=MD5, qop=\"auth\", stale=true\r\n");
        assert_int_equal(sha256 != NULL, offers[i].sha256);
        assert_int_equal(md5 != NULL, offers[i].md5);
        assert_true(!sha256 || !md5 || sha256 < md5);
        assert_memory_equal(out.p, "Proxy-Authenticate: Digest realm=\"" REALM "\", nonce=\"",
                            strlen("Proxy-Authenticate: Digest realm=\"" REALM "\", nonce=\""));
    }
    buf_destroy(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(examples_of_rfc_7616_are_right_but_for_the_nonce, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(credentials_are_read_or_passed_over, setup, teardown),
        cmocka_unit_test_setup_teardown(challenge_offers_what_the_file_has, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

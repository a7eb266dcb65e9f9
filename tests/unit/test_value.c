#include <errno.h>
#include <stdlib.h>

#include "check.h"
#include "proxy/value.h"

static struct arena arena;

static int setup(void **state)
{
    (void)state;
    sip_values_init();
    return arena_create(&arena, 256 * 1024);
}

static int teardown(void **state)
{
    (void)state;
    arena_destroy(&arena);
    return 0;
}

static const struct {
    const char *text, *scheme, *user, *password, *host;
    int port;
    const char *params, *headers;
} uris[] = {
    {"sip:a@b",                                     "sip",    "a",                        NULL, "b",              0,    "",              ""                  },
    {"SIP:a@B.example:5070;lr",                     "sip",    "a",                        NULL, "B.example",      5070, ";lr",           ""                  },
    {"sips:b",                                      "sips",   NULL,                       NULL, "b",              0,    "",              ""                  },
    {"sip:a:pw@b",                                  "sip",    "a",                        "pw", "b",              0,    "",              ""                  },
    {"sip:a:@b",                                    "sip",    "a",                        "",   "b",              0,    "",              ""                  },
    {"sip:[2001:db8::1]:5061;transport=tls",        "sip",    NULL,                       NULL, "2001:db8::1",    5061,
     ";transport=tls",                                                                                                                   ""                  },
    {"sip:a@[::1]",                                 "sip",    "a",                        NULL, "::1",            0,    "",              ""                  },
    {"sip:a%40x%20y@b",                             "sip",    "a%40x%20y",                NULL, "b",              0,    "",              ""                  },
    {"sip:sip%3Auser%40example.com@h;other=%41",    "sip",    "sip%3Auser%40example.com", NULL, "h",              0,
     ";other=%41",                                                                                                                       ""                  },
    {"sip:user;par=u%40example.net@example.com",    "sip",    "user;par=u%40example.net", NULL,
     "example.com",                                                                                               0,    "",              ""                  },
    {"sip:a?b@h",                                   "sip",    "a?b",                      NULL, "h",              0,    "",              ""                  },
    {"sip:+49-30;phone-context=x@h;user=phone",     "sip",    "+49-30;phone-context=x",   NULL, "h",              0,
     ";user=phone",                                                                                                                      ""                  },
    {"sip:h;maddr=1.2.3.4;ttl=1?Subject=a%20b&x=y", "sip",    NULL,                       NULL, "h",              0,
     ";maddr=1.2.3.4;ttl=1",                                                                                                             "?Subject=a%20b&x=y"},
    {"sip:u@h;;lr;",                                "sip",    "u",                        NULL, "h",              0,    ";;lr;",         ""                  },
    {"sip:abc123.invalid;transport=ws",             "sip",    NULL,                       NULL, "abc123.invalid", 0,    ";transport=ws",
     ""                                                                                                                                                      },
    {"tel:+1-201-555-0123;phone-context=x",         "tel",    "+1-201-555-0123",          NULL, NULL,             0,
     ";phone-context=x",                                                                                                                 ""                  },
    {"urn:service:sos",                             "urn",    NULL,                       NULL, NULL,             0,    "",              ""                  },
    {"mailto:a@b",                                  "mailto", NULL,                       NULL, NULL,             0,    "",              ""                  },
};

static void check_optional(const char *what, struct str got, const char *want)
{
    CHECK_INT(what, got.p != NULL, want != NULL);
    CHECK_STR(what, got, str_of(want));
}

static void uri_is_cut_as_spelled(void **state) /* R6, N2 */
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(uris); i++) {
        struct sip_uri uri;

        arena_reset(&arena);
        CHECK_INT(uris[i].text, sip_uri_parse(&arena, str_of(uris[i].text), &uri), 0);
        CHECK_STR(uris[i].text, uri.scheme, str_of(uris[i].scheme));
        check_optional(uris[i].text, uri.user, uris[i].user);
        check_optional(uris[i].text, uri.password, uris[i].password);
        check_optional(uris[i].text, uri.host, uris[i].host);
        CHECK_INT(uris[i].text, uri.port, uris[i].port);
        CHECK_STR(uris[i].text, uri.params, str_of(uris[i].params));
        CHECK_STR(uris[i].text, uri.headers, str_of(uris[i].headers));
        CHECK_STR(uris[i].text, uri.text, str_of(uris[i].text));
    }
}

static void unclear_uri_is_refused(void **state) /* N8, V7 */
{
    static const char *const bad[] = {
        "",
        "sip:",
        "sip",
        ":a@b",
        "a@b",
        "1sip:a@b",
        "sip:@b",
        "sip::pw@b",
        "sip:a@",
        "sip:a@b@c",
        "sip:a@b;x=y@c",
        "sip:a@b:",
        "sip:a@b:0",
        "sip:a@b:65536",
        "sip:a@b:50x",
        "sip:a@b:-1",
        "sip:a@b :5060",
        "sip:a b@c",
        "<sip:a@b>",
        "sip:a@b>",
        "sip:a@b\"",
        "sip:a@b\t",
        "sip:a@b\nc",
        "sip:[::1",
        "sip:[::1]x",
        "sip:[::g]",
        "sip:[]",
        "sip:[",
        "sip:::1",
        "sip:[1:2:3:4:5:6:7:8:9:10:11:12:13:14:15:16:17:18:19:20:21:22:23]",
        "sip:a@b/c",
        "sip:a@h\xc3\xa4",
        "tel:",
        "tel:;x=y",
    };
    char many[4 * 200 + 16] = "sip:a@b", *at = many + strlen(many);
    struct sip_uri uri;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct str text = str_of(bad[i]);

        arena_reset(&arena);
        if (i == 21) /* blanks at the ends are no part of it */
            CHECK_INT(bad[i], sip_uri_parse(&arena, text, &uri), 0);
        else
            CHECK_INT(bad[i], sip_uri_parse(&arena, text, &uri), -EINVAL);
    }
    for (int i = 0; i < 200; i++)
        at += sprintf(at, ";x=1");
    CHECK_INT("200 parameters", sip_uri_parse(&arena, str_of(many), &uri), -EINVAL);
    assert_int_equal(sip_uri_parse(&arena, (struct str){"sip:a\0b@c", 9}, &uri), -EINVAL);
}

static const struct {
    const char *text, *transport, *host;
    int port;
    const char *branch, *received;
    bool rport;
} vias[] = {
    {"SIP/2.0/UDP pc33.atlanta.com;branch=z9hG4bK776",                                           "UDP",     "pc33.atlanta.com",     0,    "z9hG4bK776",
     NULL,                                                                                                                                                                   false},
    {"SIP/2.0/WSS df7jal23ls0d.invalid;branch=z9hG4bKx;rport",                                   "WSS",     "df7jal23ls0d.invalid", 0,
     "z9hG4bKx",                                                                                                                                        NULL,                true },
    {"SIP/2.0/TLS 192.0.2.1:5061;rport=1234;received=192.0.2.9;branch=a",                        "TLS",     "192.0.2.1",            5061,
     "a",                                                                                                                                               "192.0.2.9",         true },
    {"SIP/2.0/TCP [2001:db8::9:1]:5060;received=[2001:db8::9:255];branch=z",                     "TCP",     "2001:db8::9:1",
     5060,                                                                                                                                "z",          "[2001:db8::9:255]", false},
    {"SIP/2.0/UDP [::1];branch=z",                                                               "UDP",     "::1",                  0,    "z",          NULL,                false},
    {"SIP / 2.0 / UDP first.example.com : 4000 ; ttl=16 ; maddr=224.2.0.1 ; branch = z9hG4bKa7",
     "UDP",                                                                                                 "first.example.com",    4000, "z9hG4bKa7",  NULL,                false},
    {"SIP/2.0/UDP host",                                                                         "UDP",     "host",                 0,    NULL,         NULL,                false},
    {"SIP/2.0/UNKNOWN host_1;branch=",                                                           "UNKNOWN", "host_1",               0,    "",           NULL,                false},
};

static void via_is_read(void **state) /* R1 */
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(vias); i++) {
        struct sip_via via;

        arena_reset(&arena);
        CHECK_INT(vias[i].text, sip_via_parse(&arena, str_of(vias[i].text), &via), 0);
        CHECK_STR(vias[i].text, via.transport, str_of(vias[i].transport));
        CHECK_STR(vias[i].text, via.host, str_of(vias[i].host));
        CHECK_INT(vias[i].text, via.port, vias[i].port);
        check_optional(vias[i].text, via.branch, vias[i].branch);
        check_optional(vias[i].text, via.received, vias[i].received);
        CHECK_INT(vias[i].text, via.rport, vias[i].rport);
    }
}

static void unclear_via_is_refused(void **state) /* N8, V7 */
{
    static const char *const bad[] = {
        "",
        "SIP/2.0",
        "SIP/2.0/UDP",
        "SIP/2.0/UDP ",
        "SIP/2.0/UDP ;branch=x",
        "SIP/2.0 UDP host",
        "SIP/2.0/UDP host:0",
        "SIP/2.0/UDP host:70000",
        "SIP/2.0/UDP host:",
        "SIP/2.0/UDP host other",
        "SIP/2.0/UDP [::1;branch=x",
        "SIP/2.0/UDP ::1;branch=x",
        "SIP/2.0/UDP a@b;branch=x",
        "SIP/2.0/UDP a;branch=\"x",
        "SIP/2.0/UDP a;branch=x, SIP/2.0/UDP b;branch=y",
    };
    struct sip_via via;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        arena_reset(&arena);
        CHECK_INT(bad[i], sip_via_parse(&arena, str_of(bad[i]), &via), -EINVAL);
    }
}

static const struct {
    const char *text, *display, *uri;
    bool brackets;
    const char *params;
} addrs[] = {
    {"<sip:a@b>",                                   "",                           "sip:a@b",                   true,  ""      },
    {"sip:a@b",                                     "",                           "sip:a@b",                   false, ""      },
    {"sip:a@b;tag=1",                               "",                           "sip:a@b",                   false, ";tag=1"},
    {"sip:a@b;+sip.instance=\"<urn:uuid:1>\"",      "",                           "sip:a@b",                   false,
     ";+sip.instance=\"<urn:uuid:1>\""                                                                                        },
    {"Alice <sip:a@b;x=y>;tag=1",                   "Alice",                      "sip:a@b;x=y",               true,  ";tag=1"},
    {"\"A, \\\"<sip:no@no>\\\"\" <sip:a@b> ;q=0.5", "\"A, \\\"<sip:no@no>\\\"\"", "sip:a@b",                   true,
     ";q=0.5"                                                                                                                 },
    {"\"\" <sip:a@b>",                              "\"\"",                       "sip:a@b",                   true,  ""      },
    {"caller<sip:a@b>",                             "caller",                     "sip:a@b",                   true,  ""      },
    {"<sip:a@b?Route=%3Csip:c%3E>",                 "",                           "sip:a@b?Route=%3Csip:c%3E", true,  ""      },
    {"<sip:[::1]:5060;lr>",                         "",                           "sip:[::1]:5060;lr",         true,  ""      },
    {"\"J\xc3\xbcrgen\" <sip:j@b>",                 "\"J\xc3\xbcrgen\"",          "sip:j@b",                   true,  ""      },
};

static void address_is_cut_as_spelled(void **state) /* N4, R6 */
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(addrs); i++) {
        struct sip_addr addr;

        arena_reset(&arena);
        CHECK_INT(addrs[i].text, sip_addr_parse(&arena, str_of(addrs[i].text), &addr), 0);
        CHECK_STR(addrs[i].text, addr.display, str_of(addrs[i].display));
        CHECK_STR(addrs[i].text, addr.uri.text, str_of(addrs[i].uri));
        CHECK_INT(addrs[i].text, addr.brackets, addrs[i].brackets);
        CHECK_STR(addrs[i].text, addr.params, str_of(addrs[i].params));
    }
}

static void unclear_address_is_refused(void **state) /* N8 */
{
    static const char *const bad[] = {
        "",
        "*",
        "<>",
        "alice",
        "<alice>",
        "\"Alice <sip:a@b>",
        "<sip:a@b",
        "sip:a@b>",
        "<<sip:a@b>>",
        "< sip:a@b>",
        "<sip:a@b> junk",
        "<sip:a@b>;x=<y>",
        "<sip:a@b>;x=\"y",
        "<sip:a@b>, <sip:c@d>",
        "Bell, Alexander <sip:a@b>",
        "\"Alice\" sip:a@b",
        "a;b <sip:a@b>",
        "sip:a b@c",
        "sip:u;p@h",
    };
    struct sip_addr addr;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        arena_reset(&arena);
        CHECK_INT(bad[i], sip_addr_parse(&arena, str_of(bad[i]), &addr), -EINVAL);
    }
}

static void parameter_is_found_outside_of_quotes(void **state) /* N8 */
{
    static const struct {
        const char *params, *name, *value;
        bool found;
    } cases[] = {
        {";tag=1",                        "tag", "1",      true },
        {";TAG=1",                        "tag", "1",      true },
        {" ; tag = 1 ; x",                "tag", "1",      true },
        {";x=\";tag=2\";tag=1",           "tag", "1",      true },
        {";x=\"\\\";tag=2\";tag=\"a b\"", "tag", "a b",    true },
        {";tagx=1;xtag=2",                "tag", NULL,     false},
        {";;lr;",                         "lr",  NULL,     true },
        {";lr=",                          "lr",  "",       true },
        {";lr=on=off",                    "lr",  "on=off", true },
        {";x=\"tag=1",                    "tag", NULL,     false},
        {"",                              "tag", NULL,     false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct str value = {NULL, 0};

        CHECK_INT(cases[i].params,
                  sip_param(str_of(cases[i].params), str_of(cases[i].name), &value),
                  cases[i].found);
        check_optional(cases[i].params, value, cases[i].value);
    }
}

static void parameter_is_dropped_everywhere(void **state) /* R6 */
{
    static const struct {
        const char *params, *without;
    } cases[] = {
        {";a=b;c",                       ";a=b;c"          },
        {";flow=x",                      ""                },
        {";a;flow=x;b=\";flow=y\";FLOW", ";a;b=\";flow=y\""},
        {"flow;x",                       ";x"              },
        {"x",                            ";x"              },
        {"",                             ""                },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        CHECK_STR(cases[i].params, sip_param_drop(&arena, str_of(cases[i].params), STR("flow")),
                  str_of(cases[i].without));
}

static void list_is_cut_at_bare_commas(void **state) /* N2 */
{
    struct str rest = STR(" , <sip:a,b@c>;x=\"1,\\\",2\" ,, sip:d@e\t,\"a,b\" <sip:f>,");
    static const char *const values[] = {"<sip:a,b@c>;x=\"1,\\\",2\"", "sip:d@e",
                                         "\"a,b\" <sip:f>"};
    struct str value;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        assert_true(sip_list_next(&rest, &value));
        CHECK_STR("list", value, str_of(values[i]));
    }
    assert_false(sip_list_next(&rest, &value));
}

/* "head;a0=xxx;a1=xxx..." of 4096 bytes and 64 parameters: as much as there may be. */
static struct str largest(const char *head, char equals)
{
    enum { LEN = 4096, PARAMS = 64 };
    static char text[LEN];
    size_t at = strlen(head), step = (LEN - at) / PARAMS;

    memset(text, 'x', sizeof(text));
    memcpy(text, head, at);
    for (unsigned i = 0; i < PARAMS; i++) {
        char *start = text + at + i * step;

        start[0] = ';';
        start[1] = (char)('a' + i / 10);
        start[2] = (char)('0' + i % 10);
        start[3] = equals;
    }
    return (struct str){text, LEN};
}

static void largest_values_are_read(void **state) /* V7 */
{
    struct sip_uri uri;
    struct sip_via via;

    (void)state;
    assert_int_equal(sip_via_parse(&arena, largest("SIP/2.0/TLS h", '='), &via), 0);
    /* '=' counts as well in a URI */
    assert_int_equal(sip_uri_parse(&arena, largest("sip:h", 'x'), &uri), 0);
    assert_int_equal(uri.params.len, 4096 - 5);
}

static void full_arena_is_an_error(void **state) /* V7 */
{
    (void)state;
    for (size_t size = 1; size < 300; size++) {
        struct arena small;
        struct sip_addr addr;
        struct sip_via via;
        int err;

        assert_int_equal(arena_create(&small, size), 0);
        err = sip_addr_parse(&small, STR("Alice <sip:alice@example.com;x=y>;tag=1"), &addr);
        assert_true(err == 0 || err == -ENOMEM);
        arena_reset(&small);
        err = sip_via_parse(&small, STR("SIP/2.0/UDP a.example.com;branch=z9hG4bKx"), &via);
        assert_true(err == 0 || err == -ENOMEM);
        arena_reset(&small);
        sip_param_drop(&small, STR(";a=b;c=d"), STR("c"));
        arena_destroy(&small);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uri_is_cut_as_spelled),
        cmocka_unit_test(unclear_uri_is_refused),
        cmocka_unit_test(via_is_read),
        cmocka_unit_test(unclear_via_is_refused),
        cmocka_unit_test(address_is_cut_as_spelled),
        cmocka_unit_test(unclear_address_is_refused),
        cmocka_unit_test(parameter_is_found_outside_of_quotes),
        cmocka_unit_test(parameter_is_dropped_everywhere),
        cmocka_unit_test(list_is_cut_at_bare_commas),
        cmocka_unit_test(largest_values_are_read),
        cmocka_unit_test(full_arena_is_an_error),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}

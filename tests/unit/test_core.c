#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proxy/core.h"

static struct core_addr udp4(const char *host, uint16_t port)
{
    struct core_addr addr = {.kind = CORE_UDP};

    addr.in.sin_family = AF_INET;
    addr.in.sin_port = htons(port);
    assert_int_equal(inet_pton(AF_INET, host, &addr.in.sin_addr), 1);
    return addr;
}

static struct core_addr udp6(const char *host, uint16_t port, uint32_t scope)
{
    struct core_addr addr = {.kind = CORE_UDP};

    addr.in6.sin6_family = AF_INET6;
    addr.in6.sin6_port = htons(port);
    addr.in6.sin6_scope_id = scope;
    assert_int_equal(inet_pton(AF_INET6, host, &addr.in6.sin6_addr), 1);
    return addr;
}

static void addresses_are_equal_by_kind_family_host_and_port(void **state) /* R8 */
{
    struct core_addr a = udp4("10.0.0.5", 5060), b = udp4("10.0.0.5", 5060);
    struct core_addr six = udp6("2001:db8::5", 5060, 0), same = udp6("2001:db8::5", 5060, 0);
    struct core_addr link = udp6("fe80::1", 5060, 2), other = udp6("fe80::1", 5060, 3);
    struct core_addr any_link = udp6("fe80::1", 5060, 0);
    struct core_addr embedded = {.kind = CORE_EMBEDDED}, self = {.kind = CORE_SELF};

    (void)state;
    b.in.sin_zero[0] = 1; /* not part of an address */
    same.in6.sin6_flowinfo = 7;
    assert_true(core_addr_eq(&a, &b));
    assert_true(core_addr_eq(&six, &same));
    assert_true(core_addr_eq(&embedded, &embedded));
    assert_true(core_addr_eq(&link, &any_link));
    assert_false(core_addr_eq(&link, &other));
    assert_false(core_addr_eq(&embedded, &self));
    assert_false(core_addr_eq(&a, &embedded));
    assert_false(core_addr_eq(&a, &six));
    b = udp4("10.0.0.5", 5061);
    assert_false(core_addr_eq(&a, &b));
    assert_true(core_addr_same_host(&a, &b));
    b = a;
    b.kind = CORE_TCP;
    assert_false(core_addr_eq(&a, &b));
    assert_true(core_addr_same_host(&a, &b));
    assert_false(core_addr_same_host(&a, &six));
    assert_false(core_addr_same_host(&a, &embedded));
    struct core_addr c = b;
    c.worker = 1; /* two connections to one place */
    c.connection = 2;
    assert_true(core_addr_eq(&b, &c));
    core_addr_port_set(&c, 5070);
    assert_false(core_addr_eq(&b, &c));
    same = six;
    core_addr_port_set(&same, 5070);
    assert_int_equal(ntohs(same.in6.sin6_port), 5070);
    b = udp4("10.0.0.6", 5060);
    assert_false(core_addr_eq(&a, &b));
    b = udp6("2001:db8::6", 5060, 0);
    assert_false(core_addr_eq(&six, &b));
}

static void addresses_are_printed_as_a_uri_would(void **state)
{
    struct core_addr a = udp4("10.0.0.5", 5060), six = udp6("2001:db8::5", 65535, 0);
    struct core_addr embedded = {.kind = CORE_EMBEDDED}, self = {.kind = CORE_SELF};
    char text[CORE_ADDR_TEXT];

    (void)state;
    core_addr_text(&a, text);
    assert_string_equal(text, "10.0.0.5:5060");
    core_addr_text(&six, text);
    assert_string_equal(text, "[2001:db8::5]:65535");
    core_addr_text(&embedded, text);
    assert_string_equal(text, "registrar");
    core_addr_text(&self, text);
    assert_string_equal(text, "self");
}

/* Tokens of worker 3 and 7: bytes 01 00 03..., 01 00 07... */
#define TOKEN3 "AQADAAABxSxSxSxSxSxSxSxSxSxSxSxSxSxS"
#define TOKEN7 "AQAHAAABxSxSxSxSxSxSxSxSxSxSxSxSxSxS"
#define TOKEN200 "AQDIAAABxSxSxSxSxSxSxSxSxSxSxSxSxSxS"

enum { BY_CALL_ID = -1 };

static const struct {
    const char *what, *text;
    int owner;
} datagrams[] = {
    {"branch of a response",
     "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK03000002.0a;rport\r\nCall-ID: "
     "a\r\n\r\n",                                                                                                       3         },
    {"compact Via, other spelling, blanks, folded",
     "SIP/2.0 200 OK\r\nFoo: Via\r\nv :SIP/2.0/UDP h;rport\r\n ; Branch = Z9hG4bK07\r\n\r\n",                           7         },
    {"hex digits of either case, above the workers",
     "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKfF\r\nCall-ID: a\r\n\r\n",                                     BY_CALL_ID},
    {"only the first Via counts",
     "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h, SIP/2.0/UDP h;branch=z9hG4bK03\r\n"
     "Via: SIP/2.0/UDP h;branch=z9hG4bK04\r\nCall-ID: a\r\n\r\n",                                                       BY_CALL_ID},
    {"no branch of ours",
     "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKx1\r\nCall-ID: a\r\n\r\n",                                     BY_CALL_ID},
    {"a branch cut off",
     "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK0\r\nCall-ID: a\r\n\r\n",                                      BY_CALL_ID},
    {"a Via in the body is none",
     "SIP/2.0 200 OK\r\nCall-ID: a\r\n\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK03\r\n",                                     BY_CALL_ID},
    {"token in the Route",
     "BYE sip:a@b SIP/2.0\r\nRoute: <sip:" TOKEN3 "@10.0.0.1;lr>\r\nCall-ID: a\r\n\r\n",                                3         },
    {"first Route only, display name, folded, bare LF",
     "\r\nBYE sip:a@b SIP/2.0\nrOUTE:\n \"x\\\"<y, \" <SIPS:" TOKEN7 "@h;lr>, <sip:" TOKEN3
     "@h;lr>\nCall-ID: a\n\n",                                                                                          7         },
    {"Route before Request-URI",
     "BYE sip:a@b;flow=" TOKEN3 " SIP/2.0\r\nRoute: <sip:" TOKEN7 "@h;lr>\r\n\r\n",                                     7         },
    {"another's Route: Request-URI",
     "BYE sip:a@b;x=1;Flow=" TOKEN3 ";y SIP/2.0\r\nRoute: <sip:carol@h;lr>\r\n\r\n",                                    3         },
    {"masked Contact",                                  "INVITE sip:a@b;flow=" TOKEN3 " SIP/2.0\r\nCall-ID: a\r\n\r\n", 3         },
    {"a strict router's Request-URI",                   "BYE sip:" TOKEN3 "@h;lr SIP/2.0\r\n\r\n",                      3         },
    {"a token of a worker that is not",
     "BYE sip:a@b SIP/2.0\r\nRoute: <sip:" TOKEN200 "@h;lr>\r\nCall-ID: a\r\n\r\n",                                     BY_CALL_ID},
    {"a word too short for a token",
     "BYE sip:a@b;flow=AQAD SIP/2.0\r\nRoute: <sip:AQAD@h;lr>\r\nCall-ID: a\r\n\r\n",                                   BY_CALL_ID},
    {"a password beside the token",
     "BYE sip:a@b SIP/2.0\r\nRoute: <sip:" TOKEN3 ":x@h;lr>\r\nCall-ID: a\r\n\r\n",                                     3         },
    {"a Route without brackets or user",
     "BYE sip:a@b SIP/2.0\r\nRoute: sip:" TOKEN3 "@h;lr\r\nCall-ID: a\r\n\r\n",                                         BY_CALL_ID},
    {"compact Call-ID",                                 "INVITE sip:a@b SIP/2.0\r\nIn-Reply-To: z\r\ni :  a \r\n\r\n",  BY_CALL_ID},
};

static unsigned owner_of(const char *text, unsigned workers)
{
    return core_owner(str_of(text), workers);
}

static void the_owner_is_read_from_branch_or_token(void **state) /* T8, R7 */
{
    unsigned by_call_id = owner_of("INVITE sip:a@b SIP/2.0\r\nCall-ID: a\r\n\r\n", 16);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(datagrams); i++) {
        unsigned owner = owner_of(datagrams[i].text, 16);
        unsigned expected =
            datagrams[i].owner == BY_CALL_ID ? by_call_id : (unsigned)datagrams[i].owner;

        if (owner != expected)
            print_error("%s: %u, not %u\n", datagrams[i].what, owner, expected);
        assert_int_equal(owner, expected);
        assert_int_equal(owner_of(datagrams[i].text, 1), 0);
    }
}

static void call_ids_are_spread_over_all_workers(void **state)
{
    unsigned got[4] = {0};
    char text[128];

    (void)state;
    for (int i = 0; i < 400; i++) {
        snprintf(text, sizeof(text), "INVITE sip:a@b SIP/2.0\r\nCall-ID: %d@pbx\r\n\r\n", i);
        got[owner_of(text, 4)]++;
    }
    for (size_t i = 0; i < ARRAY_LEN(got); i++)
        assert_in_range(got[i], 50, 150);
}

static void any_prefix_of_anything_has_an_owner(void **state) /* V7 */
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(datagrams); i++) {
        size_t len = strlen(datagrams[i].text);
        for (size_t cut = 0; cut <= len; cut++) {
            char *copy = malloc(cut + !cut); /* ASan sees a read beyond it */
            assert_non_null(copy);
            memcpy(copy, datagrams[i].text, cut);
            assert_in_range(core_owner((struct str){copy, cut}, 4), 0, 3);
            if (cut) {
                copy[cut / 2] = '\0';
                assert_in_range(core_owner((struct str){copy, cut}, 4), 0, 3);
            }
            free(copy);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_equal_by_kind_family_host_and_port),
        cmocka_unit_test(addresses_are_printed_as_a_uri_would),
        cmocka_unit_test(the_owner_is_read_from_branch_or_token),
        cmocka_unit_test(call_ids_are_spread_over_all_workers),
        cmocka_unit_test(any_prefix_of_anything_has_an_owner),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* How far a message may go, through the whole proxy, from either side (rules M). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "calls.h"

#define HEAD(method)                                                                               \
    method " $ SIP/2.0\nVia: SIP/2.0/TLS x;branch=z9hG4bKm#;rport\n"                               \
           "From: <sip:a@sip.test>;tag=a\nTo: <sip:bob@sip.test>;tag=b\n"                          \
           "Call-ID: m#\nCSeq: 1 " method "\n"
#define END "Content-Length: 0\n\n"

static void max_forwards_is_lowered_by_one(
    void **state) /* M1 to core, M1 to access, M2 to core, M2 to access */
{
    static const struct {
        const char *text, *core, *access;
    } cases[] = {
        {HEAD("MESSAGE") "Max-Forwards: 70\n" END,  "69", "69" },
        {HEAD("MESSAGE") "Max-Forwards: 1\n" END,   "0",  "0"  },
        {HEAD("MESSAGE") "Max-Forwards: 007\n" END, "6",  "6"  },
        {HEAD("MESSAGE") END,                       "70", "70" },
        {HEAD("MESSAGE") "Max-Forwards: 71\n" END,  "69", "70" }, /* a client's is cut to 70 */
        {HEAD("MESSAGE") "Max-Forwards: 255\n" END, "69", "254"},
        {HEAD("ACK") "Max-Forwards: 5\n" END,       NULL, "4"  },
        {HEAD("OPTIONS") "Max-Forwards: 1\n" END,   "0",  "0"  },
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        for (int to_core = 0; to_core < 2; to_core++) {
            const char *expected = to_core ? cases[i].core : cases[i].access;
            struct passage passage = cross(to_core, cases[i].text);

            if (!expected)
                continue;
            assert_string_equal(header_of(passage.passed, "Max-Forwards", 0), expected);
            assert_string_equal(header_of(passage.passed, "Max-Forwards", 1), "");
            assert_string_equal(passage.answer, "");
        }
}

static void
a_request_with_no_hop_left_ends_here(void **state) /* M1 to core refused, M1 to access refused */
{
    static const struct {
        const char *text, *answer;
    } cases[] = {
        {HEAD("MESSAGE") "Max-Forwards: 0\n" END,  "SIP/2.0 483 Too Many Hops\r\n"},
        {HEAD("REGISTER") "Max-Forwards: 0\n" END, "SIP/2.0 483 Too Many Hops\r\n"},
        {HEAD("OPTIONS") "Max-Forwards: 0\n" END,  "SIP/2.0 200 OK\r\n"           },
        {HEAD("ACK") "Max-Forwards: 0\n" END,      ""                             },
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        for (int to_core = 0; to_core < 2; to_core++) {
            struct passage passage = cross(to_core, cases[i].text);

            assert_memory_equal(passage.answer, cases[i].answer, strlen(cases[i].answer));
            assert_true(cases[i].answer[0] || !passage.answer[0]);
            assert_string_equal(passage.passed, "");
        }
}

static void
an_invite_with_no_hop_left_has_its_ack_absorbed(void **state) /* M1 to core refused, T3 */
{
    (void)state;
    edge_from_client(alice, "INVITE sip:bob@sip.test SIP/2.0\nVia: SIP/2.0/TLS x;branch=z9hG4bKi\n"
                            "From: <sip:a@b>;tag=a\nTo: <sip:b@b>\nCall-ID: i\nCSeq: 1 INVITE\n"
                            "Max-Forwards: 0");
    assert_string_equal(start_line(inbox_last(&alice->inbox)), "SIP/2.0 483 Too Many Hops");
    edge_from_client(alice,
                     "ACK sip:bob@sip.test SIP/2.0\nVia: SIP/2.0/TLS x;branch=z9hG4bKi\n"
                     "From: <sip:a@b>;tag=a\nTo: %s\nCall-ID: i\nCSeq: 1 ACK",
                     header_of(inbox_last(&alice->inbox), "To", 0));
    assert_int_equal(edge.core.count, 0);
    assert_int_equal(alice->inbox.count, 1);
}

static void max_forwards_that_is_no_number_is_refused(
    void **state) /* M2 to core refused, M2 to access refused */
{
    static const char *const cases[] = {
        HEAD("MESSAGE") "Max-Forwards: 256\n" END,
        HEAD("MESSAGE") "Max-Forwards: -1\n" END,
        HEAD("MESSAGE") "Max-Forwards: x\n" END,
        HEAD("MESSAGE") "Max-Forwards:\n" END,
        HEAD("MESSAGE") "Max-Forwards: 1 1\n" END,
        HEAD("MESSAGE") "Max-Forwards: 99999999999999999999\n" END,
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        for (int to_core = 0; to_core < 2; to_core++) {
            struct passage passage = cross(to_core, cases[i]);

            assert_string_equal(start_line(passage.answer), "SIP/2.0 400 Bad Max-Forwards");
            assert_string_equal(passage.passed, "");
        }
}

static void max_breadth_passes(void **state) /* M5 to core, M5 to access */
{
    (void)state;
    for (int to_core = 0; to_core < 2; to_core++) {
        struct passage passage = cross(to_core, HEAD("MESSAGE") "Max-Breadth: 5\n" END);

        assert_string_equal(header_of(passage.passed, "Max-Breadth", 0), "5");
    }
}

static void max_breadth_of_0_is_refused(void **state) /* M5 to core refused, M5 to access refused */
{
    (void)state;
    for (int to_core = 0; to_core < 2; to_core++) {
        struct passage passage = cross(to_core, HEAD("MESSAGE") "Max-Breadth: 0\n" END);

        assert_string_equal(start_line(passage.answer), "SIP/2.0 440 Max-Breadth Exceeded");
        assert_string_equal(passage.passed, "");
        passage = cross(to_core, HEAD("MESSAGE") "Max-Breadth: many\n" END);
        assert_string_equal(start_line(passage.answer), "SIP/2.0 400 Bad Max-Breadth");
        assert_string_equal(passage.passed, "");
    }
}

/* ---- loops ---- */

static void every_branch_has_its_transaction_and_its_loop_part(void **state) /* M3 */
{
    (void)state;
    char one[256], other[256];

    snprintf(one, sizeof(one), "%s",
             between(header_of(cross(true, HEAD("MESSAGE") END).passed, "Via", 0), "branch=", ";"));
    snprintf(other, sizeof(other), "%s",
             between(header_of(cross(true, HEAD("MESSAGE") END).passed, "Via", 0), "branch=", ";"));
    assert_int_equal(strlen(one), strlen("z9hG4bK") + 16 + 1 + 16);
    assert_memory_equal(one, "z9hG4bK02", 9); /* and the worker, for core_owner() */
    assert_int_equal(one[7 + 16], '.');
    assert_true(memcmp(one + 7, other + 7, 16) != 0);
    assert_string_not_equal(one + 24, other + 24); /* another Call-ID */
}

static void a_request_that_comes_back_unchanged_is_a_loop(void **state) /* M3 refused */
{
    (void)state;
    char back[8192];

    edge_from_client(alice, INVITE(""));
    snprintf(back, sizeof(back), "%s", inbox_last(&edge.core));
    /* The backend puts its own Via on top, as it must. */
    const char *rest = strstr(back, "\r\n") + 2;
    inbox_take(&edge.core);
    edge_from_core(&edge,
                   "INVITE sip:bob@sip.test SIP/2.0\n"
                   "Via: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bKback;rport\n%s",
                   rest);
    assert_string_equal(start_line(inbox_last(&edge.core)), "SIP/2.0 482 Loop Detected");
    assert_int_equal(bob->inbox.count, 0);
}

static void what_decides_routing_makes_it_another_request(void **state) /* M3, M4 */
{
    static const struct {
        const char *from, *to;
        bool loop;
    } changes[] = {
        {"Subject: x",                   "Subject: changed",              true }, /* decides nothing */
        {"Max-Forwards: 69",             "Max-Forwards: 50",              true },
        {"MESSAGE sip:bob@sip.test",     "MESSAGE sip:bob2@sip.test",     false},
        {"From: <sip:a@sip.test>;tag=a", "From: <sip:a@sip.test>;tag=A",  false},
        {"To: <sip:bob@sip.test>;tag=b", "To: <sip:bob@sip.test>;tag=B",  false},
        {"Subject: x",                   "Proxy-Authorization: Digest x", false},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
        char back[8192];
        const char *sent = cross(true, HEAD("MESSAGE") "Max-Forwards: 70\nSubject: x\n" END).passed;
        const char *at = strstr(sent, changes[i].from), *vias = strstr(sent, "Via: ");

        assert_non_null(at);
        if (at < vias) /* the backend's own Via goes on top */
            snprintf(back, sizeof(back),
                     "%s%.*sVia: SIP/2.0/UDP 10.0.0.5;branch=z9hG4bKback%zu\r\n%s", changes[i].to,
                     (int)(vias - at - strlen(changes[i].from)), at + strlen(changes[i].from), i,
                     vias);
        else
            snprintf(back, sizeof(back),
                     "%.*sVia: SIP/2.0/UDP 10.0.0.5;branch=z9hG4bKback%zu\r\n%.*s%s%s",
                     (int)(vias - sent), sent, i, (int)(at - vias), vias, changes[i].to,
                     at + strlen(changes[i].from));
        inbox_take(&edge.core);
        proxy_receive_core(edge.proxy, &edge.pbx, back, strlen(back), edge.now);
        /* not a loop: it leads nowhere, which is another answer */
        assert_string_equal(start_line(inbox_last(&edge.core)), changes[i].loop
                                                                    ? "SIP/2.0 482 Loop Detected"
                                                                    : "SIP/2.0 404 No Flow Token");
    }
}

static void a_spiral_passes(void **state) /* M4, R7, R6 */
{
    (void)state;
    char uri[1024], vias[2048];

    snprintf(uri, sizeof(uri), "%s", masked_contact(bob, "bob"));
    edge_from_client(alice, INVITE(""));
    const char *sent = inbox_last(&edge.core);
    snprintf(vias, sizeof(vias), "Via: %s\nVia: %s\n", header_of(sent, "Via", 0),
             header_of(sent, "Via", 1));
    edge_from_core(&edge,
                   "INVITE %s SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.5;branch=z9hG4bKspiral;rport\n%s"
                   "From: <sip:alice@sip.test>;tag=a\nTo: <sip:bob@sip.test>\n"
                   "Call-ID: call1\nCSeq: 1 INVITE\nMax-Forwards: 68",
                   uri, vias);
    assert_int_equal(bob->inbox.count, 1);
    assert_string_equal(start_line(inbox_last(&bob->inbox)),
                        "INVITE sip:bob@x.invalid;transport=ws SIP/2.0");
    assert_non_null(strstr(header_of(inbox_last(&bob->inbox), "Via", 0),
                           "SIP/2.0/WSS sip.test:5061;branch=z9hG4bK02"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        MASK(max_forwards_is_lowered_by_one),
        MASK(a_request_with_no_hop_left_ends_here),
        MASK(an_invite_with_no_hop_left_has_its_ack_absorbed),
        MASK(max_forwards_that_is_no_number_is_refused),
        MASK(max_breadth_passes),
        MASK(max_breadth_of_0_is_refused),
        MASK(every_branch_has_its_transaction_and_its_loop_part),
        MASK(a_request_that_comes_back_unchanged_is_a_loop),
        MASK(what_decides_routing_makes_it_another_request),
        MASK(a_spiral_passes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

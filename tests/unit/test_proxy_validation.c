/* What is a message, and how far it may go, through the whole proxy (rules F, V, M). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "calls.h"

static void max_forwards_is_checked_and_lowered(void **state) /* M1, M2 */
{
    static const struct {
        const char *given, *sent; /* sent NULL: answered */
        const char *answer;
    } cases[] = {
        {"Max-Forwards: 70",  "69", NULL                       },
        {"Max-Forwards: 71",  "69", NULL                       }, /* lowered to 70 first */
        {"Max-Forwards: 255", "69", NULL                       },
        {"Max-Forwards: 1",   "0",  NULL                       },
        {"Subject: none",     "70", NULL                       },
        {"Max-Forwards: 0",   NULL, "SIP/2.0 483 Too Many Hops"},
        {"Max-Forwards: 256", NULL, "SIP/2.0 400 "             },
        {"Max-Forwards: x",   NULL, "SIP/2.0 400 "             },
        {"Max-Forwards: -1",  NULL, "SIP/2.0 400 "             },
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        inbox_take(&edge.core);
        inbox_take(&alice->inbox);
        edge_from_client(alice,
                         "MESSAGE sip:bob@sip.test SIP/2.0\n"
                         "Via: SIP/2.0/TLS x;branch=z9hG4bKm%zu\n"
                         "From: <sip:a@sip.test>;tag=a\nTo: <sip:bob@sip.test>\n"
                         "Call-ID: m\nCSeq: 1 MESSAGE\n%s",
                         i, cases[i].given);
        if (cases[i].sent)
            assert_string_equal(header_of(inbox_last(&edge.core), "Max-Forwards", 0),
                                cases[i].sent);
        else
            assert_non_null(strstr(inbox_last(&alice->inbox), cases[i].answer));
        assert_int_equal(edge.core.count, cases[i].sent ? 1 : 0);
    }
}

static void options_with_max_forwards_0_is_answered(void **state) /* M1 */
{
    (void)state;
    edge_from_client(alice, REQUEST("OPTIONS", "Max-Forwards: 0"));
    assert_string_equal(start_line(inbox_last(&alice->inbox)), "SIP/2.0 200 OK");
    assert_int_equal(edge.core.count, 0);
}

static void ack_with_max_forwards_0_is_dropped(void **state) /* M1, V5 */
{
    (void)state;
    edge_from_client(alice, "ACK sip:bob@sip.test SIP/2.0\n"
                            "Via: SIP/2.0/TLS x;branch=z9hG4bKack\n"
                            "From: <sip:a@sip.test>;tag=a\nTo: <sip:bob@sip.test>;tag=b\n"
                            "Call-ID: m\nCSeq: 1 ACK\nMax-Forwards: 0");
    assert_int_equal(edge.core.count + alice->inbox.count, 0);
}

static void proxy_require_and_max_breadth_are_refused(void **state) /* V6, M5 */
{
    (void)state;
    edge_from_client(alice, REQUEST("MESSAGE", "Proxy-Require: foo"));
    assert_string_equal(start_line(inbox_last(&alice->inbox)), "SIP/2.0 420 Bad Extension");
    assert_string_equal(header_of(inbox_last(&alice->inbox), "Unsupported", 0), "foo");
    edge_from_client(alice, REQUEST("MESSAGE", "Max-Breadth: 0"));
    assert_non_null(strstr(inbox_last(&alice->inbox), "SIP/2.0 440 "));
    assert_int_equal(edge.core.count, 0);
    edge_from_client(alice, REQUEST("MESSAGE", "Max-Breadth: 5"));
    assert_string_equal(header_of(inbox_last(&edge.core), "Max-Breadth", 0), "5");
}

static void broken_requests_are_answered_and_not_forwarded(void **state) /* V1, V2, V3 */
{
    static const struct {
        const char *message, *answer;
    } cases[] = {
        {REQUEST("MESSAGE", "CSeq: 2 MESSAGE"),                   "SIP/2.0 400 "},
        {"MESSAGE http://x SIP/2.0\nVia: SIP/2.0/TLS x;branch=z9hG4bK1\nFrom: <sip:a@b>;tag=1\n"
         "To: <sip:a@b>\nCall-ID: x\nCSeq: 1 MESSAGE",                 "SIP/2.0 416 "},
        {"MESSAGE sip:x SIP/7.0\nVia: SIP/2.0/TLS x;branch=z9hG4bK1\nFrom: <sip:a@b>;tag=1\n"
         "To: <sip:a@b>\nCall-ID: x\nCSeq: 1 MESSAGE",                 "SIP/2.0 505 "},
        {"MESSAGE sip:x SIP/2.0\nVia: SIP/2.0/TLS x;branch=z9hG4bK1\nFrom: <sip:a@b>;tag=1\n"
         "To: <sip:a@b>\nCall-ID: x\nCSeq: 1 INVITE",                 "SIP/2.0 400 " },
        {"MESSAGE sip:x SIP/2.0\nVia: SIP/2.0/TLS x;branch=z9hG4bK1\nFrom: <sip:a@b>\n"
         "To: <sip:a@b>\nCall-ID: x\nCSeq: 1 MESSAGE",                 "SIP/2.0 400 "},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        inbox_take(&alice->inbox);
        assert_int_equal(edge_from_client(alice, "%s", cases[i].message), 0);
        assert_non_null(strstr(inbox_last(&alice->inbox), cases[i].answer));
        assert_int_equal(edge.core.count, 0);
    }
}

static void lost_framing_is_answered_and_closes(void **state) /* F3 */
{
    (void)state;
    assert_true(edge_from_client(alice, REQUEST("MESSAGE", "Content-Length: -5")) < 0);
    assert_non_null(strstr(inbox_last(&alice->inbox), "SIP/2.0 400 "));
    assert_int_equal(edge.core.count, 0);
}

static void pings_get_pongs_and_nothing_reaches_the_core(void **state) /* F2 */
{
    (void)state;
    char ping[] = "\r\n\r\n", pong[] = "\r\n";
    size_t scanned = 0;

    assert_int_equal(proxy_receive_stream(alice->flow, ping, 4, &scanned, edge.now), 4);
    assert_string_equal(inbox_last(&alice->inbox), "\r\n");
    assert_int_equal(proxy_receive_message(bob->flow, ping, 4, edge.now), 0);
    assert_string_equal(inbox_last(&bob->inbox), "\r\n");
    assert_int_equal(proxy_receive_message(bob->flow, pong, 2, edge.now), 0);
    assert_int_equal(bob->inbox.count, 1);
    assert_int_equal(edge.core.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        MASK(max_forwards_is_checked_and_lowered),
        MASK(options_with_max_forwards_0_is_answered),
        MASK(ack_with_max_forwards_0_is_dropped),
        MASK(proxy_require_and_max_breadth_are_refused),
        MASK(broken_requests_are_answered_and_not_forwarded),
        MASK(lost_framing_is_answered_and_closes),
        MASK(pings_get_pongs_and_nothing_reaches_the_core),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Transactions through the whole proxy: who is sent what, when, and when no more (rules T). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "calls.h"
#include "check.h"

static void requests_to_the_core_are_retransmitted(
    void **state) /* T1 to core, T5 to core refused: never a 408 */
{
    (void)state;
    uint64_t start = edge.now;

    edge_from_client(alice, REQUEST("MESSAGE", ""));
    edge_wait(&edge, 31999);
    static const uint64_t expected[] = {0,     500,   1500,  3500,  7500, 11500,
                                        15500, 19500, 23500, 27500, 31500};
    assert_int_equal(edge.core.count, ARRAY_LEN(expected));
    for (size_t i = 0; i < ARRAY_LEN(expected); i++)
        assert_int_equal(edge.core.times[i] - start, expected[i]);
    edge_wait(&edge, 1000);
    assert_int_equal(alice->inbox.count, 0); /* T5: never a 408 */
    assert_int_equal(proxy_sizes(edge.proxy).transactions, 0);
}

static void an_invite_without_answer_gets_408(void **state) /* T5 to core */
{
    (void)state;
    edge_from_client(alice, INVITE(""));
    edge_wait(&edge, 31999);
    assert_int_equal(alice->inbox.count, 1);
    edge_wait(&edge, 1);
    assert_string_equal(start_line(inbox_last(&alice->inbox)), "SIP/2.0 408 Request Timeout");
}

static void timer_c_cancels_and_ends_in_408(void **state) /* T5 to core */
{
    (void)state;
    char invite[8192];

    edge_from_client(alice, INVITE(""));
    snprintf(invite, sizeof(invite), "%s", inbox_last(&edge.core));
    edge_from_core(&edge, "%s", response_to(invite, "180 Ringing", "b", NULL));
    inbox_take(&edge.core);
    edge_wait(&edge, 180999);
    assert_int_equal(edge.core.count, 0);
    edge_wait(&edge, 1);
    assert_non_null(strstr(inbox_last(&edge.core), "CANCEL sip:bob@sip.test SIP/2.0"));
    edge_from_core(&edge, "%s", response_to(inbox_last(&edge.core), "200 OK", "b", NULL));
    edge_from_core(&edge, "%s", response_to(invite, "487 Request Terminated", "b", NULL));
    assert_string_equal(start_line(inbox_last(&alice->inbox)), "SIP/2.0 408 Request Timeout");
    assert_string_equal(start_line(inbox_last(&edge.core)), "ACK sip:bob@sip.test SIP/2.0");
}

static void cancel_goes_on_once_a_provisional_came(void **state) /* T4 to core, T3 to core */
{
    (void)state;
    char invite[8192], cancel[8192];

    edge_from_client(alice, INVITE(""));
    snprintf(invite, sizeof(invite), "%s", inbox_last(&edge.core));
    inbox_take(&edge.core);
    edge_from_client(alice, CANCEL "\nReason: SIP;cause=200;text=\"Call completed elsewhere\"");
    assert_string_equal(start_line(inbox_last(&alice->inbox)), "SIP/2.0 200 OK");
    assert_string_equal(header_of(inbox_last(&alice->inbox), "CSeq", 0), "1 CANCEL");
    assert_int_equal(edge.core.count, 0);

    edge_from_core(&edge, "%s", response_to(invite, "180 Ringing", "b", NULL));
    snprintf(cancel, sizeof(cancel), "%s", inbox_last(&edge.core));
    assert_string_equal(start_line(cancel), "CANCEL sip:bob@sip.test SIP/2.0");
    assert_string_equal(header_of(cancel, "Via", 0), header_of(invite, "Via", 0));
    assert_string_equal(header_of(cancel, "Via", 1), "");
    assert_string_equal(header_of(cancel, "Reason", 0),
                        "SIP;cause=200;text=\"Call completed elsewhere\"");
    edge_from_core(&edge, "%s", response_to(cancel, "200 OK", "b", NULL));
    edge_from_core(&edge, "%s", response_to(invite, "487 Request Terminated", "b", NULL));
    assert_string_equal(start_line(inbox_last(&alice->inbox)), "SIP/2.0 487 Request Terminated");
    assert_string_equal(start_line(inbox_last(&edge.core)), "ACK sip:bob@sip.test SIP/2.0");
}

static void a_call_that_is_given_up_and_not_answered_ends_in_487(void **state) /* T4, T5 */
{
    (void)state;
    edge_from_client(alice, INVITE(""));
    edge_from_client(alice, CANCEL);
    inbox_take(&alice->inbox);
    edge_wait(&edge, 32000);
    assert_string_equal(start_line(inbox_last(&alice->inbox)), "SIP/2.0 487 Request Terminated");
    assert_null(strstr(inbox_last(&edge.core), "CANCEL ")); /* nothing came to be cancelled */
}

static void cancel_without_a_match_gets_481(void **state) /* T4 refused */
{
    (void)state;
    edge_from_client(alice, CANCEL);
    assert_non_null(strstr(inbox_last(&alice->inbox), "SIP/2.0 481 "));
    edge_from_client(alice, INVITE(""));
    edge_from_client(bob, CANCEL); /* another client's transaction is none of its business */
    assert_non_null(strstr(inbox_last(&bob->inbox), "SIP/2.0 481 "));
}

static char *replaced(const char *text, const char *from, const char *to)
{
    static char out[8192];
    const char *at = strstr(text, from);

    assert_non_null(at);
    snprintf(out, sizeof(out), "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    return out;
}

static void a_response_to_another_request_is_none(void **state) /* V5, V7, RFC 3261 8.2.6.2 */
{
    (void)state;
    static const struct {
        const char *what, *from, *to;
    } cases[] = {
        {"another branch below ours", "branch=z9hG4bKreq1",  "branch=z9hG4bKother"},
        {"no branch",                 ";branch=z9hG4bKreq1", ""                   },
        {"another Call-ID",           "Call-ID: req1",       "Call-ID: req2"      },
        {"another CSeq",              "CSeq: 1 FOO",         "CSeq: 2 FOO"        },
        {"another method unknown",    "CSeq: 1 FOO",         "CSeq: 1 BAR"        },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        inbox_take(&edge.core);
        inbox_take(&alice->inbox);
        edge_from_client(alice, REQUEST("FOO", ""));
        const char *answer = response_to(inbox_last(&edge.core), "200 OK", "b", NULL);
        edge_from_core(&edge, "%s", replaced(answer, cases[i].from, cases[i].to));
        CHECK_INT(cases[i].what, alice->inbox.count, 1);
        assert_string_equal(start_line(inbox_last(&alice->inbox)), "SIP/2.0 502 Bad Response");
        edge_wait(&edge, 32000);
    }
}

static void every_2xx_passes_and_a_late_final_does_not(void **state) /* T3 to core, T3 refused */
{
    (void)state;
    char invite[8192];

    edge_from_client(alice, INVITE(""));
    snprintf(invite, sizeof(invite), "%s", inbox_last(&edge.core));
    edge_from_core(&edge, "%s", response_to(invite, "200 OK", "b", NULL));
    edge_from_core(&edge, "%s", response_to(invite, "200 OK", "b", NULL));
    assert_int_equal(inbox_take(&alice->inbox), 3); /* 100, 200, 200 */
    edge_from_core(&edge, "%s", response_to(invite, "486 Busy Here", "b", NULL));
    assert_int_equal(alice->inbox.count, 0);
}

static void a_client_that_is_gone_has_its_invite_cancelled(void **state) /* T6 */
{
    (void)state;
    char invite[8192];

    edge_from_client(alice, INVITE(""));
    snprintf(invite, sizeof(invite), "%s", inbox_last(&edge.core));
    edge_from_core(&edge, "%s", response_to(invite, "180 Ringing", "b", NULL));
    edge_hang_up(alice);
    assert_non_null(strstr(inbox_last(&edge.core), "CANCEL "));
    edge_from_core(&edge, "%s", response_to(inbox_last(&edge.core), "200 OK", "b", NULL));
    edge_from_core(&edge, "%s", response_to(invite, "487 Request Terminated", "b", NULL));
    assert_non_null(strstr(inbox_last(&edge.core), "ACK "));
    assert_int_equal(proxy_counters(edge.proxy)->dropped_stray, 1);
}

static void a_call_that_is_answered_to_nobody_is_ended(void **state) /* T6, T6 to core, R2 */
{
    (void)state;
    char invite[8192];

    edge_from_client(alice, INVITE(""));
    snprintf(invite, sizeof(invite), "%s", inbox_last(&edge.core));
    edge_from_core(&edge, "%s", response_to(invite, "180 Ringing", "b", NULL));
    edge_hang_up(alice);
    inbox_take(&edge.core);
    edge_from_core(&edge, "%sContent-Type: application/sdp\n\nv=0\n",
                   response_to(invite, "200 OK", "b", "Contact: <sip:bob@10.0.0.5:5060;x=y>\n"));
    assert_int_equal(edge.core.count, 2);
    const char *ack = edge.core.messages[0], *bye = edge.core.messages[1];
    assert_string_equal(start_line(ack), "ACK sip:bob@10.0.0.5:5060;x=y SIP/2.0");
    assert_string_equal(header_of(ack, "CSeq", 0), "1 ACK");
    assert_string_equal(header_of(ack, "Content-Length", 0), "0");
    assert_string_equal(header_of(ack, "Content-Type", 0), "");
    assert_string_equal(header_of(ack, "From", 0), "<sip:alice@sip.test>;tag=a");
    assert_string_equal(header_of(ack, "To", 0), "<sip:bob@sip.test>;tag=b");
    assert_string_equal(header_of(ack, "Call-ID", 0), "call1");
    assert_string_equal(header_of(ack, "Route", 0), ""); /* both were ours */
    assert_string_equal(header_of(ack, "Via", 1), "");
    assert_true(strcmp(header_of(ack, "Via", 0), header_of(invite, "Via", 0)) != 0);
    assert_string_equal(start_line(bye), "BYE sip:bob@10.0.0.5:5060;x=y SIP/2.0");
    assert_string_equal(header_of(bye, "CSeq", 0), "2 BYE");
    assert_string_equal(header_of(bye, "To", 0), "<sip:bob@sip.test>;tag=b");
    assert_string_equal(header_of(bye, "Via", 1), "");
    assert_true(strcmp(header_of(bye, "Via", 0), header_of(ack, "Via", 0)) != 0);
    assert_string_equal(header_of(bye, "Max-Forwards", 0), "70");

    /* The 200 comes again, as the ACK was lost: so does the ACK, the same, but no other BYE. */
    char first[2048];
    snprintf(first, sizeof(first), "%s", ack);
    edge_from_core(&edge, "%s", response_to(bye, "200 OK", NULL, NULL));
    edge_from_core(&edge, "%s",
                   response_to(invite, "200 OK", "b", "Contact: <sip:bob@10.0.0.5:5060;x=y>"));
    assert_int_equal(edge.core.count, 3);
    assert_string_equal(edge.core.messages[2], first);
    /* and another callee, as the PBX forked it, is another dialog */
    edge_from_core(&edge, "%s",
                   response_to(invite, "200 OK", "c", "Contact: <sip:bob@10.0.0.5:5062>"));
    assert_int_equal(edge.core.count, 3); /* nowhere that a client's BYE could go (R2) */
    edge_from_core(&edge, "%s",
                   response_to(invite, "200 OK", "d", "Contact: <sip:dave@10.0.0.5:5060>"));
    assert_int_equal(edge.core.count, 5);
    assert_string_equal(start_line(edge.core.messages[4]), "BYE sip:dave@10.0.0.5:5060 SIP/2.0");
}

static void a_call_is_ended_along_its_route(void **state) /* T6, R4 */
{
    (void)state;
    char invite[8192], answer[16384];

    edge_from_client(alice, INVITE(""));
    snprintf(invite, sizeof(invite), "%s", inbox_last(&edge.core));
    edge_hang_up(alice); /* before any response */
    inbox_take(&edge.core);
    const char *plain = response_to(invite, "200 OK", "b", "Contact: <sip:bob@192.0.2.99:5070>");
    const char *ours = strstr(plain, "Record-Route: ");
    snprintf(answer, sizeof(answer), "%.*sRecord-Route: <sip:10.0.0.5;lr;here>\n%s",
             (int)(ours - plain), plain, ours);
    edge_from_core(&edge, "%s", answer);
    assert_int_equal(edge.core.count, 2);
    for (unsigned i = 0; i < 2; i++) {
        const char *sent = edge.core.messages[i];

        assert_non_null(strstr(sent, i ? "BYE sip:bob@192.0.2.99:5070 SIP/2.0\r\n"
                                       : "ACK sip:bob@192.0.2.99:5070 SIP/2.0\r\n"));
        assert_string_equal(header_of(sent, "Route", 0), "<sip:10.0.0.5;lr;here>");
        assert_string_equal(header_of(sent, "Route", 1), "");
        assert_true(core_addr_eq(&edge.core.to[i], &edge.pbx));
    }
}

static void a_dialog_outlives_the_connection_of_its_client(void **state) /* T6 refused, R7 */
{
    (void)state;
    char routes[2048], invite[8192];

    call_up(routes);
    edge_from_client(alice, IN_DIALOG("ACK", "1"), "sip:bob@10.0.0.5:5060", routes);
    edge_from_client(alice, IN_DIALOG("INVITE", "2"), "sip:bob@10.0.0.5:5060", routes);
    snprintf(invite, sizeof(invite), "%s", inbox_last(&edge.core));
    edge_from_core(&edge, "%s", response_to(invite, "180 Ringing", NULL, NULL));
    edge_hang_up(alice);
    inbox_take(&edge.core);
    edge_from_core(&edge, "%s",
                   response_to(invite, "200 OK", NULL, "Contact: <sip:bob@10.0.0.5:5060>"));
    assert_int_equal(edge.core.count, 0); /* no BYE: alice may come back for her call */
}

static void a_callee_that_is_gone_ends_the_request(void **state) /* R7 refused, T6 to access */
{
    (void)state;
    char uri[1024];

    snprintf(uri, sizeof(uri), "%s", masked_contact(bob, "bob"));
    edge_from_core(&edge, FROM_PBX("INVITE", uri, ""));
    assert_string_equal(start_line(inbox_last(&edge.core)), "SIP/2.0 100 Trying");
    edge_hang_up(bob);
    assert_string_equal(start_line(inbox_last(&edge.core)), "SIP/2.0 430 Flow Failed");
}

static void a_retransmitted_request_is_never_forwarded_twice(void **state) /* T8 */
{
    (void)state;
    char uri[1024];

    snprintf(uri, sizeof(uri), "%s", masked_contact(bob, "bob"));
    edge_from_core(&edge, FROM_PBX("MESSAGE", uri, ""));
    edge_from_core(&edge, FROM_PBX("MESSAGE", uri, ""));
    assert_int_equal(bob->inbox.count, 1);
    edge_from_client(bob, "%s", response_to(inbox_last(&bob->inbox), "200 OK", "b", NULL));
    edge_from_core(&edge, FROM_PBX("MESSAGE", uri, ""));
    assert_int_equal(bob->inbox.count, 1);
    assert_int_equal(edge.core.count, 2);
    assert_string_equal(edge.core.messages[0], edge.core.messages[1]);
}

static void
a_final_to_the_core_is_repeated_until_its_ack(void **state) /* T1 to access, T3 to access */
{
    (void)state;
    char uri[1024], invite[8192];

    snprintf(uri, sizeof(uri), "%s", masked_contact(bob, "bob"));
    edge_from_core(&edge, FROM_PBX("INVITE", uri, ""));
    snprintf(invite, sizeof(invite), "%s", inbox_last(&bob->inbox));
    edge_from_client(bob, "%s", response_to(invite, "486 Busy Here", "b", NULL));
    assert_non_null(strstr(inbox_last(&bob->inbox), "ACK sip:bob@x.invalid;transport=ws "));
    inbox_take(&edge.core);
    edge_wait(&edge, 1500);
    assert_int_equal(inbox_take(&edge.core), 2); /* at 500 and 1500 ms */
    edge_from_core(&edge,
                   "ACK %s SIP/2.0\n"
                   "Via: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bKpbx1;rport\n"
                   "From: <sip:pbx@sip.test>;tag=p\nTo: <sip:bob@sip.test>;tag=b\n"
                   "Call-ID: pbx1\nCSeq: 1 ACK",
                   uri);
    edge_wait(&edge, 32000);
    assert_int_equal(edge.core.count, 0);
}

static void one_client_cannot_answer_for_another(void **state) /* T1, V5 */
{
    (void)state;
    char uri[1024];

    snprintf(uri, sizeof(uri), "%s", masked_contact(bob, "bob"));
    edge_from_core(&edge, FROM_PBX("MESSAGE", uri, ""));
    edge_from_client(alice, "%s", response_to(inbox_last(&bob->inbox), "200 OK", "b", NULL));
    assert_int_equal(edge.core.count, 0);
    assert_int_equal(proxy_counters(edge.proxy)->dropped_stray, 1);
}

static void a_full_client_is_refused(void **state)
{
    (void)state;
    edge.conf.limits.transactions_per_connection = 1;
    edge_from_client(alice, INVITE(""));
    edge_from_client(alice, REQUEST("MESSAGE", ""));
    assert_non_null(strstr(inbox_last(&alice->inbox), "SIP/2.0 503 "));
    assert_string_equal(header_of(inbox_last(&alice->inbox), "Retry-After", 0), "5");
}

static void what_is_refused_is_within_the_limit_too(void **state) /* X3 refused, T3 */
{
    (void)state;
    char routes[2048], ack[2048];

    call_up(routes);
    edge_wait(&edge, 40000);
    edge.conf.limits.transactions_per_connection = 2;
    for (unsigned i = 0; i < 5; i++)
        edge_from_client(alice,
                         "INVITE sip:bob@sip.test SIP/2.0\n"
                         "Via: SIP/2.0/TLS client.invalid;branch=z9hG4bKfull%u\nMax-Forwards: 0\n"
                         "From: <sip:alice@sip.test>;tag=a\nTo: <sip:bob@sip.test>\n"
                         "Call-ID: full\nCSeq: %u INVITE\n",
                         i, i);
    assert_int_equal(alice->inbox.count, 5);
    assert_int_equal(proxy_sizes(edge.proxy).transactions, 2);
    /* that ACK goes nowhere, and that of the call does */
    snprintf(ack, sizeof(ack), "%s", header_of(inbox_last(&alice->inbox), "To", 0));
    edge_from_client(alice,
                     "ACK sip:bob@sip.test SIP/2.0\n"
                     "Via: SIP/2.0/TLS client.invalid;branch=z9hG4bKfull4\nMax-Forwards: 70\n"
                     "From: <sip:alice@sip.test>;tag=a\nTo: %s\nCall-ID: full\nCSeq: 4 ACK\n",
                     ack);
    assert_int_equal(edge.core.count, 0);
    edge_from_client(alice, IN_DIALOG("ACK", "1"), "sip:bob@10.0.0.5:5060", routes);
    assert_int_equal(edge.core.count, 1);
}

/* ---- towards a client ---- */

static void to_a_flow_nothing_is_sent_twice(void **state) /* T1 to access refused, T5 to access */
{
    (void)state;
    char uri[1024], invite[8192];

    snprintf(uri, sizeof(uri), "%s", masked_contact(bob, "bob"));
    edge_from_core(&edge, FROM_PBX("MESSAGE", uri, ""));
    edge_wait(&edge, 40000);
    assert_int_equal(inbox_take(&bob->inbox), 1);
    assert_int_equal(edge.core.count, 0); /* T5: no 408 for it */

    edge_from_core(&edge, FROM_PBX("INVITE", uri, ""));
    edge_wait(&edge, 31999);
    assert_int_equal(bob->inbox.count, 1);
    assert_int_equal(inbox_take(&edge.core), 1); /* 100 */
    edge_wait(&edge, 1);
    assert_string_equal(start_line(inbox_last(&edge.core)), "SIP/2.0 408 Request Timeout");
    edge_wait(&edge, 40000); /* the 408 is repeated to the core, as no ACK comes */
    inbox_take(&edge.core);

    /* a 486 of alice's callee goes to her once, whether or not her ACK comes */
    edge_from_client(alice, INVITE(""));
    snprintf(invite, sizeof(invite), "%s", inbox_last(&edge.core));
    inbox_take(&alice->inbox);
    edge_from_core(&edge, "%s", response_to(invite, "486 Busy Here", "b", NULL));
    edge_wait(&edge, 40000);
    assert_int_equal(alice->inbox.count, 1);
}

static void an_invite_of_the_core_gets_100_at_once(void **state) /* T2 to access, T2 refused, T8 */
{
    (void)state;
    char uri[1024], invite[8192];

    snprintf(uri, sizeof(uri), "%s", masked_contact(bob, "bob"));
    edge_from_core(&edge, FROM_PBX("INVITE", uri, "Timestamp: 54.2\n"));
    assert_string_equal(start_line(inbox_last(&edge.core)), "SIP/2.0 100 Trying");
    assert_string_equal(header_of(inbox_last(&edge.core), "Timestamp", 0), "54.2");
    assert_null(strstr(header_of(inbox_last(&edge.core), "To", 0), "tag="));
    snprintf(invite, sizeof(invite), "%s", inbox_last(&bob->inbox));
    inbox_take(&edge.core);
    edge_from_client(bob, "%s", response_to(invite, "100 Trying", NULL, NULL));
    assert_int_equal(edge.core.count, 0);
    edge_from_core(&edge, FROM_PBX("INVITE", uri, "Timestamp: 54.2\n"));
    assert_string_equal(start_line(inbox_last(&edge.core)), "SIP/2.0 100 Trying"); /* again */
    edge_from_client(bob, "%s", response_to(invite, "180 Ringing", "b", NULL));
    assert_string_equal(start_line(inbox_last(&edge.core)), "SIP/2.0 180 Ringing");
    assert_int_equal(bob->inbox.count, 1);
}

static void a_call_of_the_core_is_answered_and_acknowledged(void **state) /* T3 to access */
{
    (void)state;
    char uri[1024], invite[8192];

    snprintf(uri, sizeof(uri), "%s", masked_contact(bob, "bob"));
    edge_from_core(&edge, FROM_PBX("INVITE", uri, ""));
    snprintf(invite, sizeof(invite), "%s", inbox_last(&bob->inbox));
    inbox_take(&edge.core);
    for (unsigned i = 1; i <= 3; i++) { /* bob repeats it until the ACK comes */
        edge_from_client(bob, "%s", response_to(invite, "200 OK", "b", NULL));
        assert_int_equal(edge.core.count, i);
    }
    edge_wait(&edge, 10000);
    assert_int_equal(inbox_take(&edge.core), 3); /* and only bob does */
    inbox_take(&bob->inbox);
    edge_from_core(&edge,
                   "ACK %s SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bKack;rport\n"
                   "From: <sip:pbx@sip.test>;tag=p\nTo: <sip:bob@sip.test>;tag=b\n"
                   "Call-ID: pbx1\nCSeq: 1 ACK",
                   uri);
    assert_memory_equal(inbox_last(&bob->inbox), "ACK sip:bob@x.invalid;transport=ws ", 35);
    assert_int_equal(edge.core.count, 0); /* V5: ACK has no answer */
}

static void acks_of_other_finals_go_no_further(void **state) /* T3 refused */
{
    (void)state;
    char invite[8192];

    edge_from_client(alice, INVITE(""));
    snprintf(invite, sizeof(invite), "%s", inbox_last(&edge.core));
    edge_from_core(&edge, "%s", response_to(invite, "486 Busy Here", "b", NULL));
    assert_memory_equal(inbox_last(&edge.core), "ACK sip:bob@sip.test SIP/2.0\r\n", 30); /* ours */
    assert_string_equal(header_of(inbox_last(&edge.core), "Via", 0), header_of(invite, "Via", 0));
    inbox_take(&edge.core);
    edge_from_client(alice, "ACK sip:bob@sip.test SIP/2.0\n"
                            "Via: SIP/2.0/TLS client.invalid;branch=z9hG4bKinv1;rport\n"
                            "From: <sip:alice@sip.test>;tag=a\nTo: <sip:bob@sip.test>;tag=b\n"
                            "Call-ID: call1\nCSeq: 1 ACK");
    assert_int_equal(edge.core.count, 0);
    edge_from_core(&edge, "%s", response_to(invite, "486 Busy Here", "b", NULL)); /* again */
    assert_memory_equal(inbox_last(&edge.core), "ACK ", 4);
    assert_int_equal(alice->inbox.count, 2); /* 100 and one 486 */
}

static void
the_core_cancels_its_call_to_a_client(void **state) /* T4 to access, T4 to access refused */
{
    (void)state;
    static const char cancel[] =
        "CANCEL %s SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bK%s;rport\n"
        "From: <sip:pbx@sip.test>;tag=p\nTo: <sip:bob@sip.test>\n"
        "Call-ID: pbx1\nCSeq: 1 CANCEL\nReason: Q.850;cause=16";
    char uri[1024], invite[8192];

    snprintf(uri, sizeof(uri), "%s", masked_contact(bob, "bob"));
    edge_from_core(&edge, FROM_PBX("INVITE", uri, ""));
    snprintf(invite, sizeof(invite), "%s", inbox_last(&bob->inbox));
    edge_from_core(&edge, cancel, uri, "other"); /* another branch: another call */
    assert_memory_equal(inbox_last(&edge.core), "SIP/2.0 481 ", 12);
    edge_from_core(&edge, cancel, uri, "pbx1");
    assert_string_equal(start_line(inbox_last(&edge.core)), "SIP/2.0 200 OK");
    assert_int_equal(bob->inbox.count, 1); /* nothing came from bob yet */
    edge_from_client(bob, "%s", response_to(invite, "180 Ringing", "b", NULL));
    assert_memory_equal(inbox_last(&bob->inbox), "CANCEL sip:bob@x.invalid;transport=ws ", 38);
    assert_string_equal(header_of(inbox_last(&bob->inbox), "Via", 0), header_of(invite, "Via", 0));
    assert_string_equal(header_of(inbox_last(&bob->inbox), "Reason", 0), "Q.850;cause=16");
    edge_from_client(bob, "%s", response_to(invite, "487 Request Terminated", "b", NULL));
    assert_string_equal(start_line(inbox_last(&edge.core)), "SIP/2.0 487 Request Terminated");
}

/* ---- after the end (T5, T8) ---- */

static void what_comes_too_late_is_not_passed_on(void **state) /* T5 refused, T5 to core refused */
{
    (void)state;
    char request[8192];

    edge_from_client(alice, REQUEST("MESSAGE", ""));
    snprintf(request, sizeof(request), "%s", inbox_last(&edge.core));
    edge_wait(&edge, 32000);
    edge_from_core(&edge, "%s", response_to(request, "200 OK", "b", NULL));
    assert_int_equal(alice->inbox.count, 0);
    assert_int_equal(proxy_counters(edge.proxy)->dropped_stray, 1);
    /* a 408 of another element is for nobody either (RFC 4320 4.2) */
    edge_from_client(alice, "INFO sip:bob@sip.test SIP/2.0\nVia: SIP/2.0/TLS x;branch=z9hG4bKi\n"
                            "From: <sip:a@b>;tag=a\nTo: <sip:b@b>\nCall-ID: i\nCSeq: 1 INFO");
    edge_from_core(&edge, "%s",
                   response_to(inbox_last(&edge.core), "408 Request Timeout", "b", NULL));
    assert_int_equal(alice->inbox.count, 0);
}

static void a_final_in_time_is_passed_on(void **state) /* T5 to core */
{
    (void)state;
    edge_from_client(alice, REQUEST("MESSAGE", ""));
    edge_wait(&edge, 31999);
    edge_from_core(&edge, "%s", response_to(inbox_last(&edge.core), "200 OK", "b", NULL));
    assert_string_equal(start_line(inbox_last(&alice->inbox)), "SIP/2.0 200 OK");
}

static void ringing_that_goes_on_is_no_reason_to_give_up(void **state) /* T5 refused: timer C */
{
    (void)state;
    char invite[8192];

    edge_from_client(alice, INVITE(""));
    snprintf(invite, sizeof(invite), "%s", inbox_last(&edge.core));
    for (unsigned i = 0; i < 10; i++) {
        edge_from_core(&edge, "%s", response_to(invite, "180 Ringing", "b", NULL));
        inbox_take(&edge.core);
        inbox_take(&alice->inbox);
        edge_wait(&edge, 170000);
        assert_int_equal(edge.core.count + alice->inbox.count, 0);
    }
    edge_from_core(&edge, "%s", response_to(invite, "200 OK", "b", NULL));
    assert_string_equal(start_line(inbox_last(&alice->inbox)), "SIP/2.0 200 OK");
}

static void another_request_is_no_retransmission(void **state) /* T8 refused */
{
    static const char *const others[] = {
        "branch=z9hG4bKother;rport\nFrom: <sip:pbx@sip.test>;tag=p\nCSeq: 1 MESSAGE\n",
        "branch=z9hG4bKpbx1;rport\nFrom: <sip:pbx@sip.test>;tag=p\nCSeq: 1 INFO\n",
    };
    (void)state;
    char uri[1024];

    snprintf(uri, sizeof(uri), "%s", masked_contact(bob, "bob"));
    edge_from_core(&edge, FROM_PBX("MESSAGE", uri, ""));
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        edge_from_core(&edge,
                       "%s %s SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.5:5060;%s"
                       "To: <sip:bob@sip.test>\nCall-ID: pbx1",
                       i ? "INFO" : "MESSAGE", uri, others[i]);
        assert_int_equal(bob->inbox.count, 2 + i);
    }
    /* alice can't meet a transaction of the core's, or of bob's, by its branch */
    edge_from_client(alice, "MESSAGE sip:bob@sip.test SIP/2.0\n"
                            "Via: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bKpbx1;rport\n"
                            "From: <sip:pbx@sip.test>;tag=p\nTo: <sip:bob@sip.test>\n"
                            "Call-ID: pbx1\nCSeq: 1 MESSAGE");
    assert_memory_equal(inbox_last(&edge.core), "MESSAGE sip:bob@sip.test ", 25);
}

/* ---- limits, and what can't be sent ---- */

static void a_100_alone_does_not_keep_a_call_for_ever(void **state) /* T5 to core */
{
    (void)state;
    char invite[8192];

    edge_from_client(alice, INVITE(""));
    snprintf(invite, sizeof(invite), "%s", inbox_last(&edge.core));
    edge_from_core(&edge, "%s", response_to(invite, "100 Trying", NULL, NULL));
    inbox_take(&edge.core);
    edge_wait(&edge, 180999);
    assert_int_equal(edge.core.count, 0);
    edge_wait(&edge, 1); /* timer C */
    assert_memory_equal(inbox_last(&edge.core), "CANCEL ", 7);
    edge_wait(&edge, 32000);
    assert_string_equal(start_line(inbox_last(&alice->inbox)), "SIP/2.0 408 Request Timeout");
}

static void
what_a_client_cannot_be_sent_is_answered_430(void **state) /* R7 refused, T6 to access */
{
    (void)state;
    char uri[1024];

    snprintf(uri, sizeof(uri), "%s", masked_contact(bob, "bob"));
    bob->broken = true;
    edge_from_core(&edge, FROM_PBX("MESSAGE", uri, ""));
    edge_wait(&edge, 1);
    assert_string_equal(start_line(inbox_last(&edge.core)), "SIP/2.0 430 Flow Failed");
}

static void a_transaction_that_is_over_counts_no_more(void **state) /* T1 to core */
{
    (void)state;
    edge.conf.limits.transactions_per_connection = 1;
    for (unsigned i = 0; i < 5; i++) {
        edge_from_client(alice,
                         "MESSAGE sip:b@x SIP/2.0\nVia: SIP/2.0/TLS x;branch=z9hG4bKo%u\n"
                         "From: <sip:a@b>;tag=a\nTo: <sip:b@b>\nCall-ID: o\nCSeq: 1 MESSAGE",
                         i);
        edge_from_core(&edge, "%s", response_to(inbox_last(&edge.core), "200 OK", "b", NULL));
        assert_string_equal(start_line(inbox_last(&alice->inbox)), "SIP/2.0 200 OK");
        edge_wait(&edge, 1); /* timer K of the core's side is still to come */
    }
}

static void a_full_proxy_refuses_and_says_when_to_come_again(void **state) /* V7 */
{
    (void)state;
    edge.conf.limits.transactions = 2;
    edge_hang_up(alice);
    edge_hang_up(bob);
    edge_start(&edge);
    alice = edge_client(&edge, 0, "TLS");
    for (unsigned i = 0; i < 3; i++) {
        inbox_take(&edge.core);
        edge_from_client(alice,
                         "MESSAGE sip:b@x SIP/2.0\nVia: SIP/2.0/TLS x;branch=z9hG4bKf%u\n"
                         "From: <sip:a@b>;tag=a\nTo: <sip:b@b>\nCall-ID: f\nCSeq: 1 MESSAGE",
                         i);
        assert_int_equal(edge.core.count, i < 2);
    }
    assert_string_equal(start_line(inbox_last(&alice->inbox)), "SIP/2.0 503 Service Unavailable");
    assert_string_equal(header_of(inbox_last(&alice->inbox), "Retry-After", 0), "5");
}

static void what_grows_too_large_on_its_way_is_refused(void **state) /* F6 refused, V7 */
{
    (void)state;
    enum { CONTACTS = 200, LEN = 310 };
    static char text[CONTACTS * (LEN + 32) + 1024];
    char *at = text + sprintf(text, "%s",
                              "REGISTER sip:sip.test SIP/2.0\nVia: SIP/2.0/TLS x;branch=z9hG4bKg\n"
                              "From: <sip:a@b>;tag=a\nTo: <sip:a@b>\nCall-ID: g\nCSeq: 1 REGISTER");

    for (unsigned i = 0; i < CONTACTS; i++)
        at += sprintf(at, "\nContact: <sip:%0*u@x>", LEN - 20, i);
    edge_from_client(alice, "%s", text);
    assert_string_equal(start_line(inbox_last(&alice->inbox)), "SIP/2.0 513 Message Too Large");
    assert_int_equal(edge.core.count, 0);
    edge_wait(&edge, 1);
    assert_int_equal(proxy_sizes(edge.proxy).transactions, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        MASK(requests_to_the_core_are_retransmitted),
        MASK(an_invite_without_answer_gets_408),
        MASK(timer_c_cancels_and_ends_in_408),
        MASK(cancel_goes_on_once_a_provisional_came),
        MASK(a_call_that_is_given_up_and_not_answered_ends_in_487),
        MASK(cancel_without_a_match_gets_481),
        MASK(every_2xx_passes_and_a_late_final_does_not),
        MASK(a_response_to_another_request_is_none),
        MASK(a_client_that_is_gone_has_its_invite_cancelled),
        MASK(a_call_that_is_answered_to_nobody_is_ended),
        MASK(a_call_is_ended_along_its_route),
        MASK(a_dialog_outlives_the_connection_of_its_client),
        MASK(a_callee_that_is_gone_ends_the_request),
        MASK(a_retransmitted_request_is_never_forwarded_twice),
        MASK(a_final_to_the_core_is_repeated_until_its_ack),
        MASK(one_client_cannot_answer_for_another),
        MASK(a_full_client_is_refused),
        MASK(what_is_refused_is_within_the_limit_too),
        MASK(to_a_flow_nothing_is_sent_twice),
        MASK(an_invite_of_the_core_gets_100_at_once),
        MASK(a_call_of_the_core_is_answered_and_acknowledged),
        MASK(acks_of_other_finals_go_no_further),
        MASK(the_core_cancels_its_call_to_a_client),
        MASK(what_comes_too_late_is_not_passed_on),
        MASK(a_final_in_time_is_passed_on),
        MASK(ringing_that_goes_on_is_no_reason_to_give_up),
        MASK(another_request_is_no_retransmission),
        MASK(a_100_alone_does_not_keep_a_call_for_ever),
        MASK(what_a_client_cannot_be_sent_is_answered_430),
        MASK(a_transaction_that_is_over_counts_no_more),
        MASK(a_full_proxy_refuses_and_says_when_to_come_again),
        MASK(what_grows_too_large_on_its_way_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

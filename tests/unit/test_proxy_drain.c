/* What goes on during a drain, and which flows it waits for. */
#include "calls.h"
#include "check.h"

enum { SPREAD_MS = 10000 };

#define CONTACT "Contact: <sip:bob@10.0.0.5:5060>"

static unsigned retry_after(const struct inbox *inbox)
{
    return (unsigned)atoi(header_of(inbox_last(inbox), "Retry-After", 0));
}

static void drain(void)
{
    proxy_drain(edge.proxy, SPREAD_MS, edge.now);
}

static void alice_sends(const char *method, unsigned cseq)
{
    edge_from_client(alice,
                     "%s sip:bob@10.0.0.5:5060 SIP/2.0\n"
                     "Via: SIP/2.0/TLS client.invalid;branch=z9hG4bK%s%u\n"
                     "From: <sip:alice@sip.test>;tag=a\nTo: <sip:bob@sip.test>;tag=b\n"
                     "Call-ID: call1\nCSeq: %u %s\nMax-Forwards: 70\n%s",
                     method, method, cseq, cseq, method,
                     strcmp(method, "INVITE") ? "" : "Contact: <sip:alice@client.invalid>");
}

static void core_answers(const char *status)
{
    edge_from_core(&edge, "%s", response_to(inbox_last(&edge.core), status, "b", CONTACT));
}

static void what_is_new_is_refused(void **state) /* T9 refused, T9 to core refused */
{
    static const char *const methods[] = {"INVITE",    "REGISTER", "OPTIONS",
                                          "SUBSCRIBE", "MESSAGE",  "BYE"};

    (void)state;
    drain();
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        edge_from_client(alice,
                         "%s sip:bob@sip.test SIP/2.0\n"
                         "Via: SIP/2.0/TLS client.invalid;branch=z9hG4bKnew%zu\n"
                         "From: <sip:alice@sip.test>;tag=a\nTo: <sip:bob@sip.test>\n"
                         "Call-ID: new%zu\nCSeq: 1 %s\nContact: <sip:alice@client.invalid>",
                         methods[i], i, i, methods[i]);
        if (strcmp(start_line(inbox_last(&alice->inbox)), "SIP/2.0 503 Shutting Down") != 0)
            fail_msg("%s: %s", methods[i], inbox_last(&alice->inbox));
        assert_int_equal(edge.core.count, 0);
    }
}

/* A PBX finds out by its probe, or asks another edge for this one call. */
static void the_core_is_refused_too(void **state) /* T9 to access refused */
{
    char uri[1024];
    static const char *const methods[] = {"INVITE", "MESSAGE", "OPTIONS"};

    (void)state;
    snprintf(uri, sizeof(uri), "%s", masked_contact(bob, "bob"));
    drain();
    for (size_t i = 0; i <= ARRAY_LEN(methods); i++) {
        const char *method = i < ARRAY_LEN(methods) ? methods[i] : "OPTIONS";

        edge_from_core(&edge,
                       "%s %s SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bKnew%zu;rport\n"
                       "From: <sip:pbx@sip.test>;tag=p\nTo: <sip:bob@sip.test>\n"
                       "Call-ID: new%zu\nCSeq: 1 %s\nMax-Forwards: 70",
                       method, i < ARRAY_LEN(methods) ? uri : "sip:10.0.0.2:5060", i, i, method);
        assert_string_equal(start_line(inbox_last(&edge.core)), "SIP/2.0 503 Shutting Down");
        assert_int_equal(retry_after(&edge.core), 1);
        assert_int_equal(bob->inbox.count, 0);
    }
}

static void clients_come_back_when_their_connections_are_closed(void **state)
{
    unsigned lowest = UINT32_MAX, highest = 0;

    (void)state;
    drain();
    edge_wait(&edge, 4000);
    for (unsigned i = 0; i < 200; i++) {
        edge_from_client(alice,
                         "MESSAGE sip:bob@sip.test SIP/2.0\n"
                         "Via: SIP/2.0/TLS client.invalid;branch=z9hG4bKnew%u\n"
                         "From: <sip:alice@sip.test>;tag=a\nTo: <sip:bob@sip.test>\n"
                         "Call-ID: new%u\nCSeq: 1 MESSAGE",
                         i, i);
        unsigned seconds = retry_after(&alice->inbox);
        lowest = seconds < lowest ? seconds : lowest;
        highest = seconds > highest ? seconds : highest;
        inbox_take(&alice->inbox);
    }
    assert_int_equal(lowest, 7); /* 6 s are left */
    assert_int_equal(highest, 17);
    edge_wait(&edge, 3600000);
    edge_from_client(alice, REQUEST("MESSAGE", ""));
    assert_in_range(retry_after(&alice->inbox), 1, 11);
}

static void what_is_in_a_dialog_goes_on(void **state) /* T9 to core, T9 to access */
{
    static const char *const methods[] = {"INVITE", "UPDATE", "INFO", "REFER", "NOTIFY", "BYE"};
    char uri[1024], routes[2048];

    (void)state;
    snprintf(uri, sizeof(uri), "%s", masked_contact(bob, "bob"));
    call_up(routes);
    drain();
    alice_sends("ACK", 1);
    assert_memory_equal(inbox_last(&edge.core), "ACK ", 4);
    for (unsigned i = 0; i < ARRAY_LEN(methods); i++) {
        inbox_take(&edge.core);
        inbox_take(&bob->inbox);
        edge_from_core(&edge,
                       "%s %s SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bKin%u;rport\n"
                       "From: <sip:pbx@sip.test>;tag=p\nTo: <sip:bob@sip.test>;tag=b\n"
                       "Call-ID: pbx1\nCSeq: %u %s\nMax-Forwards: 70\n"
                       "Contact: <sip:pbx@10.0.0.5>",
                       methods[i], uri, i, i + 2, methods[i]);
        CHECK_INT(methods[i], bob->inbox.count, 1);
        alice_sends(methods[i], i + 2);
        if (strncmp(inbox_last(&edge.core), methods[i], strlen(methods[i])) != 0)
            fail_msg("%s: %s", methods[i], inbox_last(&edge.core));
    }
}

static void an_invite_under_way_goes_on(void **state) /* T9 to core */
{
    char invite[8192];

    (void)state;
    edge_from_client(alice, INVITE(""));
    snprintf(invite, sizeof(invite), "%s", inbox_last(&edge.core));
    drain();
    edge_from_core(&edge, "%s", response_to(invite, "180 Ringing", "b", NULL));
    assert_string_equal(start_line(inbox_last(&alice->inbox)), "SIP/2.0 180 Ringing");
    edge_from_client(alice, CANCEL);
    assert_memory_equal(inbox_last(&edge.core), "CANCEL ", 7);
    edge_from_core(&edge, "%s", response_to(invite, "487 Request Terminated", "b", NULL));
    assert_string_equal(start_line(inbox_last(&alice->inbox)), "SIP/2.0 487 Request Terminated");
}

static int setup_two_backends(void **state)
{
    (void)state;
    edge_setup(&edge, false);
    edge_backends(&edge, 2);
    alice = edge_client(&edge, 0, "TLS");
    return 0;
}

static void one_under_way_still_moves_to_another_backend(void **state) /* T9 to core, B3 */
{
    (void)state;
    edge_from_client(alice, INVITE(""));
    drain();
    inbox_take(&edge.core);
    edge_wait(&edge, 5000); /* the first is silent */
    assert_memory_equal(inbox_last(&edge.core), "INVITE ", 7);
    assert_true(core_addr_eq(&edge.core.to[edge.core.count - 1], &edge.view.endpoints[1].addr));
    edge.pbx = edge_backend(1);
    core_answers("200 OK");
    assert_string_equal(start_line(inbox_last(&alice->inbox)), "SIP/2.0 200 OK");
}

/* What the embedded registrar and the edge itself pass on was let in before. */
static void what_was_let_in_reaches_its_callee(void **state) /* T9 to access */
{
    static const enum core_kind kinds[] = {CORE_EMBEDDED, CORE_SELF};
    char uri[1024];

    (void)state;
    snprintf(uri, sizeof(uri), "%s", masked_contact(bob, "bob"));
    drain();
    for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
        edge.pbx = (struct core_addr){.kind = kinds[i]};
        edge_from_core(&edge,
                       "INVITE %s SIP/2.0\nVia: SIP/2.0/UDP x.invalid;branch=z9hG4bKown%u;rport\n"
                       "From: <sip:alice@sip.test>;tag=a\nTo: <sip:bob@sip.test>\n"
                       "Call-ID: own%u\nCSeq: 1 INVITE\nMax-Forwards: 70\n"
                       "Contact: <sip:alice@10.0.0.5>",
                       uri, i, i);
        assert_int_equal(inbox_take(&bob->inbox), 1);
    }
}

static void a_flow_is_busy_while_it_has_a_call(void **state)
{
    char invite[8192];

    (void)state;
    assert_false(flow_is_busy(alice->flow));
    edge_from_client(alice, INVITE(""));
    assert_true(flow_is_busy(alice->flow));
    assert_false(flow_is_busy(bob->flow));
    snprintf(invite, sizeof(invite), "%s", inbox_last(&edge.core));
    edge_from_core(&edge, "%s", response_to(invite, "180 Ringing", "b", NULL));
    edge_wait(&edge, 60000);
    assert_true(flow_is_busy(alice->flow)); /* it rings */
    edge_from_core(&edge, "%s", response_to(invite, "200 OK", "b", CONTACT));
    alice_sends("ACK", 1);
    edge_wait(&edge, 3600000);
    assert_true(flow_is_busy(alice->flow));
    alice_sends("BYE", 2);
    assert_true(flow_is_busy(alice->flow));
    core_answers("200 OK");
    assert_false(flow_is_busy(alice->flow));
}

static void a_flow_is_busy_while_a_request_waits(void **state)
{
    char uri[1024], message[8192];

    (void)state;
    snprintf(uri, sizeof(uri), "%s", masked_contact(bob, "bob"));
    edge_from_core(&edge, FROM_PBX("MESSAGE", uri, ""));
    snprintf(message, sizeof(message), "%s", inbox_last(&bob->inbox));
    assert_true(flow_is_busy(bob->flow));
    edge_from_client(bob, "%s", response_to(message, "200 OK", "b", NULL));
    assert_false(flow_is_busy(bob->flow));

    edge_from_client(alice, REQUEST("MESSAGE", ""));
    assert_true(flow_is_busy(alice->flow));
    edge_wait(&edge, 33000); /* nobody answers */
    assert_false(flow_is_busy(alice->flow));
    edge_from_client(alice, INVITE(""));
    core_answers("486 Busy Here");
    assert_false(flow_is_busy(alice->flow));
}

static void a_subscription_keeps_nobody(void **state)
{
    (void)state;
    edge_from_client(alice, REQUEST("SUBSCRIBE", "Contact: <sip:alice@client.invalid>"));
    core_answers("200 OK");
    assert_false(flow_is_busy(alice->flow));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        MASK(what_is_new_is_refused),
        MASK(the_core_is_refused_too),
        MASK(clients_come_back_when_their_connections_are_closed),
        MASK(what_is_in_a_dialog_goes_on),
        MASK(an_invite_under_way_goes_on),
        cmocka_unit_test_setup_teardown(one_under_way_still_moves_to_another_backend,
                                        setup_two_backends, teardown),
        MASK(what_was_let_in_reaches_its_callee),
        MASK(a_flow_is_busy_while_it_has_a_call),
        MASK(a_flow_is_busy_while_a_request_waits),
        MASK(a_subscription_keeps_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

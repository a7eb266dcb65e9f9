/* limits.transactions and limits.transactions_per_connection through the whole proxy: what is open
 * is limited, and what is answered makes room (X3). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "calls.h"

static void limits_are(unsigned transactions, unsigned of_connection)
{
    edge.conf.limits.transactions = transactions;
    edge.conf.limits.transactions_per_connection = of_connection;
    edge_hang_up(alice);
    edge_hang_up(bob);
    edge_start(&edge);
    alice = edge_client(&edge, 0, "TLS");
    bob = edge_client(&edge, 1, "WSS");
}

/* The n-th request of a client, outside of dialogs or with a To tag. Returns whether it went on:
 * the core's last message is that then. */
static bool asks(struct client *client, const char *method, unsigned n, const char *to_tag)
{
    inbox_take(&edge.core);
    inbox_take(&client->inbox);
    edge_from_client(client,
                     "%s sip:bob@sip.test SIP/2.0\n"
                     "Via: SIP/2.0/TLS client.invalid;branch=z9hG4bKn%u;rport\n"
                     "Max-Forwards: 70\nFrom: <sip:alice@sip.test>;tag=a\n"
                     "To: <sip:bob@sip.test>%s\nCall-ID: call%u\nCSeq: %u %s\n"
                     "Contact: <sip:alice@client.invalid>",
                     method, n, to_tag, n, n, method);
    if (edge.core.count)
        return true;
    assert_non_null(strstr(inbox_last(&client->inbox), "SIP/2.0 503 "));
    return false;
}

static void answers(struct client *client, const char *status_line)
{
    edge_from_core(
        &edge, "%s",
        response_to(inbox_last(&edge.core), status_line, "b", "Contact: <sip:bob@10.0.0.5:5060>"));
    assert_memory_equal(inbox_last(&client->inbox) + strlen("SIP/2.0 "), status_line, 3);
}

static void acknowledges(struct client *client, unsigned n)
{
    edge_from_client(client,
                     "ACK sip:bob@sip.test SIP/2.0\n"
                     "Via: SIP/2.0/TLS client.invalid;branch=z9hG4bKn%u;rport\n"
                     "Max-Forwards: 70\nFrom: <sip:alice@sip.test>;tag=a\n"
                     "To: <sip:bob@sip.test>;tag=b\nCall-ID: call%u\nCSeq: %u ACK",
                     n, n, n);
}

static void answered_requests_are_never_a_reason_to_refuse(void **state) /* X3, T1 to core */
{
    (void)state;
    limits_are(4, 1000);
    for (unsigned i = 0; i < 50; i++) { /* all in one millisecond */
        assert_true(asks(alice, i % 2 ? "MESSAGE" : "INVITE", i, ""));
        answers(alice, i % 4 ? "200 OK" : "486 Busy Here");
        assert_in_range(proxy_sizes(edge.proxy).transactions, 1, 8);
    }
    assert_true(proxy_given_up(edge.proxy) >= 40);
    assert_int_equal(proxy_counters(edge.proxy)->refused[REFUSE_NO_ROOM], 0);
    for (unsigned i = 0; i < 4; i++)
        assert_true(asks(alice, "MESSAGE", 100 + i, ""));
    assert_false(asks(alice, "MESSAGE", 104, "")); /* all are open */
    edge_wait(&edge, 40000);
    assert_int_equal(proxy_sizes(edge.proxy).transactions, 0);
    assert_int_equal(proxy_sizes(edge.proxy).requests, 0);
}

static void calls_of_a_connection_that_are_answered_are_not_counted(void **state) /* X3 */
{
    struct flow_facts facts;

    (void)state;
    limits_are(1000, 2);
    for (unsigned i = 0; i < 20; i++) { /* three in a second */
        assert_true(asks(alice, "INVITE", i, ""));
        answers(alice, "200 OK");
        acknowledges(alice, i);
        edge_wait(&edge, 333);
    }
    flow_facts(alice->flow, &facts);
    assert_int_equal(facts.requests, 0);
    assert_int_equal(proxy_given_up(edge.proxy), 0); /* there is room */
    assert_true(asks(alice, "BYE", 99, ";tag=b"));
}

static void what_will_not_be_answered_is_not_counted(void **state) /* T5, X3 */
{
    (void)state;
    limits_are(1000, 1);
    assert_true(asks(alice, "MESSAGE", 1, ""));
    edge_from_core(&edge, "%s",
                   response_to(inbox_last(&edge.core), "408 Request Timeout", "b", NULL));
    assert_int_equal(alice->inbox.count, 0);
    assert_true(asks(alice, "MESSAGE", 2, ""));
    edge_wait(&edge, 32000); /* timer F */
    assert_int_equal(alice->inbox.count, 0);
    assert_true(asks(alice, "MESSAGE", 3, ""));
}

static void in_a_dialog_twice_as_many_may_be_open(void **state) /* X3 */
{
    (void)state;
    limits_are(1000, 2);
    assert_true(asks(alice, "INVITE", 1, ""));
    answers(alice, "180 Ringing");
    assert_true(asks(alice, "MESSAGE", 2, ""));
    assert_false(asks(alice, "MESSAGE", 3, ""));
    assert_true(asks(alice, "BYE", 4, ";tag=b"));
    assert_true(asks(alice, "INVITE", 5, ";tag=b"));
    assert_false(asks(alice, "BYE", 6, ";tag=b"));
    assert_true(asks(bob, "MESSAGE", 7, ""));
    edge_wait(&edge, 40000); /* of the others' answers there are none any more */
    assert_true(asks(alice, "MESSAGE", 8, ""));
}

/* A 2xx comes again as its ACK was lost. */
static bool passes_again(const char *ok, struct client *client)
{
    inbox_take(&client->inbox);
    inbox_take(&edge.core);
    edge_from_core(&edge, "%s", ok);
    assert_int_equal(edge.core.count, 0);
    return client->inbox.count == 1;
}

/* Which one of its two transactions is given up first. */
static void a_call_that_is_given_up_early_goes_on(void **state) /* X3, T3, T6 */
{
    enum { OTHERS_FAIL, OTHERS_TALK, CORE_IS_REFUSED } what;
    char ok[8192];

    (void)state;
    for (what = OTHERS_FAIL; what <= CORE_IS_REFUSED; what++) {
        limits_are(3, 1000);
        assert_true(asks(alice, "INVITE", 1, ""));
        snprintf(
            ok, sizeof(ok), "%s",
            response_to(inbox_last(&edge.core), "200 OK", "b", "Contact: <sip:bob@10.0.0.5:5060>"));
        assert_true(passes_again(ok, alice));
        assert_true(passes_again(ok, alice));
        for (unsigned i = 0; i < 4; i++) {
            if (what == CORE_IS_REFUSED) { /* by a server transaction alone */
                edge_from_core(&edge,
                               "INVITE sip:bob@sip.test SIP/2.0\n"
                               "Via: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bKpbx%u;rport\n"
                               "From: <sip:pbx@sip.test>;tag=p\nTo: <sip:bob@sip.test>\n"
                               "Call-ID: pbx%u\nCSeq: 1 INVITE\nMax-Forwards: 0\n",
                               i, i);
                continue;
            }
            assert_true(asks(bob, "INVITE", 10 + i, ""));
            answers(bob, what == OTHERS_FAIL ? "486 Busy Here" : "200 OK");
        }
        assert_false(passes_again(ok, alice)); /* nor is it hung up */
        edge_wait(&edge, 40000);
        assert_false(passes_again(ok, alice));
        assert_int_equal(proxy_sizes(edge.proxy).requests, 0);
    }
}

static void one_connection_does_not_take_what_others_keep(void **state) /* X3 */
{
    static const char *const methods[] = {"MESSAGE", "INVITE"};
    char ok[8192];

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        limits_are(20, 3);
        assert_true(asks(bob, "INVITE", 1, ""));
        snprintf(
            ok, sizeof(ok), "%s",
            response_to(inbox_last(&edge.core), "200 OK", "b", "Contact: <sip:bob@10.0.0.5:5060>"));
        assert_true(passes_again(ok, bob));
        for (unsigned j = 0; j < 100; j++) {
            assert_true(asks(alice, methods[i], 100 + j, ""));
            answers(alice, "486 Busy Here");
            acknowledges(alice, 100 + j);
            edge_wait(&edge, 1);
        }
        assert_true(passes_again(ok, bob));
        assert_true(proxy_given_up(edge.proxy) >= 80);
        assert_true(proxy_counters(edge.proxy)->given_up >= 80);
        assert_in_range(proxy_sizes(edge.proxy).transactions, 3, 13);

        /* of its own, calls are the last to go */
        assert_true(asks(alice, "INVITE", 300, ""));
        snprintf(
            ok, sizeof(ok), "%s",
            response_to(inbox_last(&edge.core), "200 OK", "b", "Contact: <sip:bob@10.0.0.5:5060>"));
        assert_true(passes_again(ok, alice));
        for (unsigned j = 0; j < 100; j++) {
            assert_true(asks(alice, "MESSAGE", 400 + j, ""));
            answers(alice, "200 OK");
            edge_wait(&edge, 1);
        }
        assert_true(passes_again(ok, alice));
    }
}

static void a_flow_with_answered_requests_may_close(void **state) /* T6 */
{
    (void)state;
    limits_are(1000, 3);
    for (unsigned i = 0; i < 5; i++) {
        assert_true(asks(alice, "MESSAGE", i, ""));
        answers(alice, "200 OK");
        assert_true(asks(alice, "INVITE", 10 + i, ""));
        answers(alice, i % 2 ? "200 OK" : "486 Busy Here");
    }
    assert_true(asks(alice, "MESSAGE", 50, ""));
    edge_wait(&edge, 1);
    edge_hang_up(alice);
    edge_wait(&edge, 40000);
    assert_int_equal(proxy_sizes(edge.proxy).requests, 0);
}

/* The CANCEL's own transaction may need the room of the INVITE that it is for. */
static void a_cancel_that_comes_too_late_may_take_the_room_of_its_invite(void **state) /* T4, X3 */
{
    char uri[1024], invite[8192], cancel[2048];
    uint64_t before;

    (void)state;
    limits_are(1, 1000);
    snprintf(uri, sizeof(uri), "%s", masked_contact(bob, "bob"));
    edge_from_core(&edge, FROM_PBX("INVITE", uri, ""));
    snprintf(invite, sizeof(invite), "%s", inbox_last(&bob->inbox));
    edge_from_client(bob, "%s", response_to(invite, "486 Busy Here", "b", NULL));
    inbox_take(&edge.core);
    before = proxy_given_up(edge.proxy);
    snprintf(cancel, sizeof(cancel),
             "CANCEL %s SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bKpbx1;rport\n"
             "From: <sip:pbx@sip.test>;tag=p\nTo: <sip:bob@sip.test>\n"
             "Call-ID: pbx1\nCSeq: 1 CANCEL\nMax-Forwards: 70\n",
             uri);
    edge_from_core(&edge, "%s", cancel);
    assert_string_equal(start_line(inbox_last(&edge.core)), "SIP/2.0 200 OK");
    assert_int_equal(proxy_given_up(edge.proxy), before + 1);
}

/* So may the BYE by which a call is ended that nobody wants. */
static void a_call_is_ended_in_the_room_of_its_own_invite(void **state) /* T6, X3 */
{
    char invite[8192];

    (void)state;
    limits_are(1, 1000);
    assert_true(asks(alice, "INVITE", 1, ""));
    snprintf(invite, sizeof(invite), "%s", inbox_last(&edge.core));
    edge_hang_up(alice);
    inbox_take(&edge.core);
    edge_from_core(&edge, "%s",
                   response_to(invite, "200 OK", "b", "Contact: <sip:bob@10.0.0.5:5060>"));
    assert_memory_equal(inbox_last(&edge.core), "BYE ", 4);
    assert_int_equal(proxy_given_up(edge.proxy), 1);
    edge_from_core(&edge, "%s", response_to(inbox_last(&edge.core), "200 OK", "b", NULL));
    edge_wait(&edge, 40000);
    assert_int_equal(proxy_sizes(edge.proxy).transactions, 0);
}

/* And the second backend's transaction that of the first one, which answered 503. */
static void a_request_moves_in_the_room_of_its_first_try(void **state) /* B3, X3 */
{
    static const char *const methods[] = {"MESSAGE", "INVITE"};

    (void)state;
    edge_hang_up(alice);
    edge_hang_up(bob);
    edge.conf.limits.transactions = 1;
    edge.conf.limits.transactions_per_connection = 1;
    edge_backends(&edge, 2);
    for (unsigned i = 0; i < 2; i++) {
        alice = edge_client(&edge, 0, "TLS");
        assert_true(asks(alice, methods[i], 1 + i, ""));
        edge.pbx = edge.core.to[0];
        edge_from_core(&edge, "%s",
                       response_to(inbox_last(&edge.core), "503 Service Unavailable", "b", NULL));
        assert_false(core_addr_eq(&edge.core.to[edge.core.count - 1], &edge.pbx));
        assert_memory_equal(inbox_last(&edge.core), methods[i], strlen(methods[i]));
        edge.pbx = edge.core.to[edge.core.count - 1];
        answers(alice, "200 OK");
        edge_hang_up(alice);
        edge_wait(&edge, 40000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        MASK(answered_requests_are_never_a_reason_to_refuse),
        MASK(calls_of_a_connection_that_are_answered_are_not_counted),
        MASK(what_will_not_be_answered_is_not_counted),
        MASK(in_a_dialog_twice_as_many_may_be_open),
        MASK(a_call_that_is_given_up_early_goes_on),
        MASK(one_connection_does_not_take_what_others_keep),
        MASK(a_flow_with_answered_requests_may_close),
        MASK(a_cancel_that_comes_too_late_may_take_the_room_of_its_invite),
        MASK(a_call_is_ended_in_the_room_of_its_own_invite),
        MASK(a_request_moves_in_the_room_of_its_first_try),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Which calls a flow has, as requests and responses pass: what a drain waits for. */
#include "calls.h"
#include "check.h"

static unsigned flow_dialogs(const struct flow *flow)
{
    struct flow_facts facts;

    flow_facts(flow, &facts);
    return facts.dialogs;
}

#define CONTACT "Contact: <sip:bob@10.0.0.5:5060>"

static unsigned all(void)
{
    return (unsigned)proxy_sizes(edge.proxy).dialogs;
}

/* alice's, in the dialog of her call whose other tag is `tag`. */
static void alice_sends(const char *method, unsigned cseq, const char *tag)
{
    edge_from_client(alice,
                     "%s sip:bob@10.0.0.5:5060 SIP/2.0\n"
                     "Via: SIP/2.0/TLS client.invalid;branch=z9hG4bK%s%u%s\n"
                     "From: <sip:alice@sip.test>;tag=a\nTo: <sip:bob@sip.test>;tag=%s\n"
                     "Call-ID: call1\nCSeq: %u %s\nMax-Forwards: 70\n%s",
                     method, method, cseq, tag, tag, cseq, method,
                     strcmp(method, "INVITE") ? "" : "Contact: <sip:alice@client.invalid>");
}

static void core_answers(const char *status, const char *tag)
{
    edge_from_core(&edge, "%s", response_to(inbox_last(&edge.core), status, tag, CONTACT));
}

/* The PBX's, in the dialog of its call to bob. */
static void core_sends(const char *uri, const char *method, unsigned cseq)
{
    edge_from_core(&edge,
                   "%s %s SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bK%s%u;rport\n"
                   "From: <sip:pbx@sip.test>;tag=p\nTo: <sip:bob@sip.test>;tag=b\n"
                   "Call-ID: pbx1\nCSeq: %u %s\nMax-Forwards: 70",
                   method, uri, method, cseq, cseq, method);
}

static void client_answers(struct client *client, const char *status)
{
    edge_from_client(client, "%s",
                     response_to(inbox_last(&client->inbox), status, "b",
                                 "Contact: <sip:bob@x.invalid;transport=ws>"));
}

/* The PBX calls bob, who answers; where to ask for him. */
static const char *bob_is_called(void)
{
    static char uri[1024];

    snprintf(uri, sizeof(uri), "%s", masked_contact(bob, "bob"));
    edge_from_core(&edge, FROM_PBX("INVITE", uri, ""));
    client_answers(bob, "200 OK");
    core_sends(uri, "ACK", 1);
    return uri;
}

static void a_call_lasts_from_its_2xx_until_bye_is_answered(void **state)
{
    char routes[2048];

    (void)state;
    edge_from_client(alice, INVITE(""));
    core_answers("180 Ringing", "b");
    assert_int_equal(all(), 0);
    core_answers("200 OK", "b");
    core_answers("200 OK", "b"); /* again, as no ACK came yet */
    alice_sends("ACK", 1, "b");
    assert_int_equal(flow_dialogs(alice->flow), 1);
    assert_int_equal(flow_dialogs(bob->flow), 0);
    edge_wait(&edge, 100000); /* its INVITE is long forgotten */
    assert_int_equal(all(), 1);
    alice_sends("BYE", 2, "b");
    assert_int_equal(all(), 1);
    core_answers("200 OK", "b");
    assert_int_equal(all(), 0);

    call_up(routes);
    assert_int_equal(all(), 1);
    edge_hang_up(alice);
    assert_int_equal(all(), 0);
}

static void a_call_of_the_core_is_the_callees(void **state)
{
    const char *uri = bob_is_called();

    (void)state;
    assert_int_equal(flow_dialogs(bob->flow), 1);
    assert_int_equal(flow_dialogs(alice->flow), 0);
    core_sends(uri, "BYE", 2);
    client_answers(bob, "200 OK");
    assert_int_equal(all(), 0);
}

/* A PBX that is a proxy: one Call-ID, the same tags. */
static void a_call_between_two_clients_is_one_of_each(void **state)
{
    char uri[1024], invite[8192];

    (void)state;
    snprintf(uri, sizeof(uri), "%s", masked_contact(bob, "bob"));
    edge_from_client(alice, INVITE(""));
    snprintf(invite, sizeof(invite), "%s", inbox_last(&edge.core));
    edge_from_core(&edge,
                   "INVITE %s SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bKp;rport\n"
                   "From: <sip:alice@sip.test>;tag=a\nTo: <sip:bob@sip.test>\nCall-ID: call1\n"
                   "CSeq: 1 INVITE\nMax-Forwards: 60\nContact: <sip:alice@10.0.0.5>",
                   uri);
    client_answers(bob, "200 OK");
    edge_from_core(&edge, "%s", response_to(invite, "200 OK", "b", CONTACT));
    assert_int_equal(flow_dialogs(alice->flow), 1);
    assert_int_equal(flow_dialogs(bob->flow), 1);
    assert_int_equal(all(), 2);
    alice_sends("BYE", 2, "b");
    core_answers("200 OK", "b");
    assert_int_equal(flow_dialogs(alice->flow), 0);
    assert_int_equal(flow_dialogs(bob->flow), 1); /* its own BYE is still on the way */
}

static void each_2xx_of_a_fork_is_a_dialog(void **state)
{
    char invite[8192];

    (void)state;
    edge_from_client(alice, INVITE(""));
    snprintf(invite, sizeof(invite), "%s", inbox_last(&edge.core));
    edge_from_core(&edge, "%s", response_to(invite, "200 OK", "b1", CONTACT));
    edge_from_core(&edge, "%s", response_to(invite, "200 OK", "b2", CONTACT));
    assert_int_equal(all(), 2);
    alice_sends("BYE", 2, "b2");
    core_answers("200 OK", "b2");
    assert_int_equal(all(), 1);
    edge_from_core(&edge, "%s", response_to(invite, "200 OK", "b2", CONTACT)); /* a late copy */
    assert_int_equal(all(), 1);
    alice_sends("BYE", 3, "b1");
    core_answers("200 OK", "b1");
    assert_int_equal(all(), 0);
}

static void what_ends_a_call(void **state)
{
    static const struct {
        const char *method, *status; /* status "": no answer */
        bool ends;
    } finals[] = {
        {"BYE",       "200 OK",                              true },
        {"BYE",       "481 Call/Transaction Does Not Exist", true },
        {"BYE",       "408 Request Timeout",                 true },
        {"BYE",       "503 Service Unavailable",             true },
        {"BYE",       "",                                    true },
        {"BYE",       "401 Unauthorized",                    false}, /* it comes again */
        {"BYE",       "407 Proxy Authentication Required",   false},
        {"INVITE",    "200 OK",                              false},
        {"INVITE",    "481 Call/Transaction Does Not Exist", true },
        {"INVITE",    "488 Not Acceptable Here",             false},
        {"INVITE",    "",                                    false}, /* its BYE follows */
        {"UPDATE",    "200 OK",                              false},
        {"UPDATE",    "481 Call/Transaction Does Not Exist", true },
        {"INFO",      "481 Call/Transaction Does Not Exist", true },
        {"SUBSCRIBE", "481 Subscription Does Not Exist",     false}, /* that is all it says */
        {"NOTIFY",    "481 Subscription Does Not Exist",     false},
        {"REFER",     "202 Accepted",                        false},
        {"MESSAGE",   "408 Request Timeout",                 false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(finals); i++) {
        char routes[2048], what[128];

        snprintf(what, sizeof(what), "%s, %s", finals[i].method, finals[i].status);
        call_up(routes);
        alice_sends("ACK", 1, "b");
        alice_sends(finals[i].method, 2, "b");
        if (*finals[i].status)
            core_answers(finals[i].status, "b");
        edge_wait(&edge, 70000);
        CHECK_INT(what, all(), finals[i].ends ? 0 : 1);
        edge_hang_up(alice);
        edge_wait(&edge, 100000);
        alice = edge_client(&edge, 0, "TLS");
        inbox_take(&edge.core);
    }
}

static void a_bye_for_a_client_that_is_gone_or_silent_ends_the_call(void **state)
{
    const char *uri = bob_is_called();

    (void)state;
    core_sends(uri, "BYE", 2);
    edge_wait(&edge, 31000);
    assert_int_equal(all(), 1);
    edge_wait(&edge, 2000);
    assert_int_equal(all(), 0);
}

static void a_copy_of_a_2xx_behind_the_bye_begins_nothing(void **state)
{
    char invite[8192];

    (void)state;
    edge_from_client(alice, INVITE(""));
    snprintf(invite, sizeof(invite), "%s", inbox_last(&edge.core));
    core_answers("200 OK", "b");
    alice_sends("ACK", 1, "b");
    alice_sends("BYE", 2, "b");
    core_answers("200 OK", "b");
    edge_from_core(&edge, "%s", response_to(invite, "200 OK", "b", CONTACT));
    assert_int_equal(all(), 0);
}

static void a_reinvite_begins_no_second_dialog(void **state)
{
    char routes[2048];

    (void)state;
    call_up(routes);
    alice_sends("ACK", 1, "b");
    alice_sends("INVITE", 2, "b");
    core_answers("200 OK", "b");
    assert_int_equal(all(), 1);
    alice_sends("BYE", 3, "b");
    core_answers("200 OK", "b");
    assert_int_equal(all(), 0);
}

static void a_call_goes_on_by_the_flow_that_came_in_place_of_its_own(void **state)
{
    static const char *const methods[] = {"INVITE", "UPDATE", "INFO"};
    char routes[2048];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        call_up(routes);
        alice_sends("ACK", 1, "b");
        edge_hang_up(alice);
        alice = edge_client(&edge, 0, "TLS");
        assert_int_equal(all(), 0); /* nobody has told of it yet */
        alice_sends("MESSAGE", 2, "b");
        core_answers("200 OK", "b");
        CHECK_INT(methods[i], all(), 0); /* that may be of any dialog */
        alice_sends(methods[i], 3, "b");
        core_answers("200 OK", "b");
        CHECK_INT(methods[i], flow_dialogs(alice->flow), 1);
        alice_sends("BYE", 4, "b");
        core_answers("200 OK", "b");
        CHECK_INT(methods[i], all(), 0);
        edge_wait(&edge, 100000);
        inbox_take(&edge.core);
    }
}

static void an_early_dialog_is_none_yet(void **state)
{
    char invite[8192];

    (void)state;
    edge_from_client(alice, INVITE(""));
    snprintf(invite, sizeof(invite), "%s", inbox_last(&edge.core));
    core_answers("183 Session Progress", "b");
    alice_sends("UPDATE", 2, "b");
    core_answers("200 OK", "b");
    alice_sends("INFO", 3, "b");
    core_answers("200 OK", "b");
    assert_int_equal(all(), 0);
    edge_from_core(&edge, "%s", response_to(invite, "486 Busy Here", "b", NULL));
    assert_int_equal(all(), 0);
}

static void other_methods_make_no_calls(void **state)
{
    static const char *const methods[] = {"SUBSCRIBE", "REFER", "MESSAGE", "REGISTER"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        edge_from_client(alice,
                         "%s sip:bob@sip.test SIP/2.0\n"
                         "Via: SIP/2.0/TLS client.invalid;branch=z9hG4bK%s\n"
                         "From: <sip:alice@sip.test>;tag=a\nTo: <sip:alice@sip.test>\n"
                         "Call-ID: %s\nCSeq: 1 %s\nContact: <sip:alice@client.invalid>",
                         methods[i], methods[i], methods[i], methods[i]);
        core_answers("200 OK", "s");
        CHECK_INT(methods[i], all(), 0);
    }
}

/* T6: the 2xx crossed our CANCEL; the BYE for it is our own. */
static void a_call_that_is_hung_up_for_its_caller_is_nobodys(void **state)
{
    char invite[8192];

    (void)state;
    edge_from_client(alice, INVITE(""));
    snprintf(invite, sizeof(invite), "%s", inbox_last(&edge.core));
    edge_hang_up(alice);
    edge_from_core(&edge, "%s", response_to(invite, "200 OK", "b", CONTACT));
    assert_memory_equal(inbox_last(&edge.core), "BYE ", 4);
    assert_int_equal(all(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        MASK(a_call_lasts_from_its_2xx_until_bye_is_answered),
        MASK(a_call_of_the_core_is_the_callees),
        MASK(a_call_between_two_clients_is_one_of_each),
        MASK(each_2xx_of_a_fork_is_a_dialog),
        MASK(what_ends_a_call),
        MASK(a_bye_for_a_client_that_is_gone_or_silent_ends_the_call),
        MASK(a_copy_of_a_2xx_behind_the_bye_begins_nothing),
        MASK(a_reinvite_begins_no_second_dialog),
        MASK(a_call_goes_on_by_the_flow_that_came_in_place_of_its_own),
        MASK(an_early_dialog_is_none_yet),
        MASK(other_methods_make_no_calls),
        MASK(a_call_that_is_hung_up_for_its_caller_is_nobodys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

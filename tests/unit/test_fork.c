#include "registrar_edge.h"

#define BOB_PATH "Path: <sip:T1@core.invalid;lr>\r\nPath: <sip:T2@inner.invalid;lr>\r\n"

static const struct call invite = {.method = "INVITE",
                                   .uri = "sip:bob@sip.test",
                                   .from = "sip:alice@sip.test",
                                   .branch = "i1",
                                   .call_id = "call",
                                   .lines = "",
                                   .cseq = 1};

/* Send it again with the challenge answered; what was sent before is forgotten. */
static void call_as(struct edge *edge, const struct login *login, const struct call *call)
{
    struct call again = *call;
    char credentials[2048], branch[64];

    request_send(edge, call, "");
    assert_int_equal(last_status(edge), 407);
    if (strcmp(call->method, "INVITE") == 0) {
        again.method = "ACK";
        request_send(edge, &again, "");
        again.method = call->method;
    }
    authorize(last_sent(edge), login, call->method, call->uri, credentials);
    (void)snprintf(branch, sizeof(branch), "%sb", call->branch);
    again.branch = branch;
    again.cseq++;
    take_all(edge);
    request_send(edge, &again, credentials);
}

/* Bob is at n places. */
static void bob_registers(struct edge *edge, unsigned n)
{
    char lines[512];

    for (unsigned i = 1; i <= n; i++) {
        (void)snprintf(lines, sizeof(lines),
                       "Path: <sip:T%u@core.invalid;lr>\r\n"
                       "Contact: <sip:bob@%u.invalid;transport=ws>\r\n",
                       i, i);
        assert_int_equal(register_as(edge, &bob, "reg", lines), 200);
    }
    take_all(edge);
}

/* The INVITE that went to place n. */
static const char *invite_to(const struct edge *edge, unsigned n)
{
    char start[64];
    const char *text;

    (void)snprintf(start, sizeof(start), "INVITE sip:bob@%u.invalid;", n);
    text = find_sent(edge, start, 0);
    assert_non_null(text);
    return text;
}

static void request_follows_binding_and_its_path(void **state) /* S4, M1, R11 */
{
    struct edge *edge = *state;
    struct call call = invite;
    const char *sent;

    assert_int_equal(register_as(edge, &bob, "reg",
                                 BOB_PATH "Contact: <sip:bob@1.invalid;transport=ws;x=y>\r\n"),
                     200);
    take_all(edge);
    call.lines = "Route: <sip:sip.test;lr>\r\nX-Other: kept\r\n";
    call_as(edge, &alice, &call);
    assert_int_equal(status_of(edge->sent[0]), 100);
    assert_int_equal(edge->sent_count, 2);
    sent = edge->sent[1];
    assert_memory_equal(sent, "INVITE sip:bob@1.invalid;transport=ws;x=y SIP/2.0\r\n", 51);
    assert_string_equal(line_of(sent, "Route: ", 0), "<sip:T1@core.invalid;lr>");
    assert_string_equal(line_of(sent, "Route: ", 1), "<sip:T2@inner.invalid;lr>");
    assert_int_equal(count_of(sent, "Route: "), 2);
    assert_int_equal(count_of(sent, "Via: "), 2);
    assert_memory_equal(line_of(sent, "Via: ", 0), "SIP/2.0/UDP registrar.invalid;branch=z9hG4bKff",
                        46);
    assert_string_equal(line_of(sent, "Max-Forwards: ", 0), "68");
    assert_string_equal(line_of(sent, "X-Other: ", 0), "kept");
    assert_null(line_of(sent, "Proxy-Authorization: ", 0)); /* consumed */
    assert_null(line_of(sent, "Record-Route: ", 0));
    assert_non_null(strstr(sent, "\r\n\r\nbody"));
}

static void answers_come_back_without_our_via(void **state) /* S4, T2, T3 */
{
    struct edge *edge = *state;
    const char *sent;

    bob_registers(edge, 1);
    call_as(edge, &alice, &invite);
    sent = invite_to(edge, 1);
    respond(edge, sent, "100 Trying", "b");
    assert_int_equal(edge->sent_count, 2);
    respond(edge, sent, "180 Ringing", "b");
    assert_int_equal(last_status(edge), 180);
    assert_int_equal(count_of(last_sent(edge), "Via: "), 1);
    assert_string_equal(line_of(last_sent(edge), "Via: ", 0),
                        "SIP/2.0/UDP core.invalid;branch=z9hG4bKi1b");
    respond(edge, sent, "200 OK", "b");
    assert_int_equal(last_status(edge), 200);
    take_all(edge);
}

static void a_response_to_another_request_is_none(void **state) /* S4, V5, RFC 3261 8.2.6.2 */
{
    struct edge *edge = *state;
    char *sent, *branch;

    bob_registers(edge, 1);
    call_as(edge, &alice, &invite);
    sent = strdup(invite_to(edge, 1));
    assert_non_null(sent);
    branch = strstr(sent, "z9hG4bKi1b");
    assert_non_null(branch);
    memcpy(branch, "z9hG4bKi1c", 10);
    respond(edge, sent, "180 Ringing", "b");
    assert_int_equal(edge->sent_count, 2); /* 100 to the caller, INVITE */
    respond(edge, sent, "200 OK", "b");
    assert_int_equal(last_status(edge), 502);
    assert_string_equal(line_of(last_sent(edge), "Via: ", 0),
                        "SIP/2.0/UDP core.invalid;branch=z9hG4bKi1b");
    free(sent);
}

static void every_2xx_is_forwarded(void **state) /* T3 */
{
    struct edge *edge = *state;
    char *sent;
    unsigned before;

    bob_registers(edge, 1);
    call_as(edge, &alice, &invite);
    sent = strdup(invite_to(edge, 1));
    respond(edge, sent, "200 OK", "b");
    before = edge->sent_count;
    pass(edge, 500);
    respond(edge, sent, "200 OK", "b");
    assert_int_equal(edge->sent_count, before + 1);
    assert_int_equal(last_status(edge), 200);
    free(sent);
    pass(edge, 40000); /* all of it ends */
}

static const struct {
    const char *what, *user;
    const char *uri;
    int status;
} targets[] = {
    {"no binding",       "bob",   "sip:alice@sip.test",     480},
    {"unknown user",     "alice", "sip:nobody@sip.test",    404},
    {"no user",          "alice", "sip:sip.test",           404},
    {"foreign domain",   "alice", "sip:bob@elsewhere.test", 403},
    {"telephone number", "alice", "tel:+15551234",          403},
};

static void request_without_a_target_is_refused(void **state) /* S4 refused, R2 refused */
{
    struct edge *edge = *state;

    for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
        struct call call = invite;
        char from[64], branch[16];

        (void)snprintf(from, sizeof(from), "sip:%s@sip.test", targets[i].user);
        (void)snprintf(branch, sizeof(branch), "t%zu", i);
        call.method = "MESSAGE";
        call.from = from;
        call.branch = branch;
        call.uri = targets[i].uri;
        call_as(edge, strcmp(targets[i].user, "bob") == 0 ? &bob : &alice, &call);
        if (last_status(edge) != targets[i].status)
            fail_msg("%s: %d", targets[i].what, last_status(edge));
        take_all(edge);
    }
}

static void caller_must_be_who_it_says(void **state) /* S3 refused */
{
    struct edge *edge = *state;
    struct call call = invite;

    bob_registers(edge, 1);
    call_as(edge, &bob, &call); /* From is alice */
    assert_int_equal(last_status(edge), 403);
    take_all(edge);
    call.from = "sip:alice@elsewhere.test";
    call.branch = "i2";
    call_as(edge, &alice, &call);
    assert_int_equal(last_status(edge), 403);
    take_all(edge);
    call.from = "sip:anonymous@anonymous.invalid"; /* RFC 3323 */
    call.branch = "i3";
    call_as(edge, &alice, &call);
    assert_non_null(invite_to(edge, 1));
    take_all(edge);
    call.branch = "i4"; /* a To tag doesn't open the door */
    call.to_tag = "made-up";
    request_send(edge, &call, "");
    assert_int_equal(last_status(edge), 407);
}

static void first_to_answer_gets_the_call_and_the_others_are_cancelled(void **state) /* S4, T4 */
{
    struct edge *edge = *state;
    const char *cancel;

    bob_registers(edge, 2);
    call_as(edge, &alice, &invite);
    assert_int_equal(edge->sent_count, 3);
    respond(edge, invite_to(edge, 1), "180 Ringing", "b1");
    respond(edge, invite_to(edge, 2), "180 Ringing", "b2");
    assert_non_null(find_sent(edge, "SIP/2.0 180", 1));
    respond(edge, invite_to(edge, 2), "200 OK", "b2");
    assert_non_null(find_sent(edge, "SIP/2.0 200", 0));
    cancel = find_sent(edge, "CANCEL ", 0);
    assert_non_null(cancel);
    assert_null(find_sent(edge, "CANCEL ", 1));
    assert_string_equal(line_of(cancel, "Via: ", 0), line_of(invite_to(edge, 1), "Via: ", 0));
    assert_string_equal(line_of(cancel, "Route: ", 0), "<sip:T1@core.invalid;lr>");
    respond(edge, cancel, "200 OK", "b1");
    respond(edge, invite_to(edge, 1), "487 Request Terminated", "b1");
    assert_null(find_sent(edge, "SIP/2.0 487", 0)); /* the caller has its answer */
    assert_non_null(find_sent(edge, "ACK ", 0));
}

static void highest_q_is_tried_first_and_the_next_when_none_answers(void **state) /* S4 */
{
    struct edge *edge = *state;

    assert_int_equal(register_as(edge, &bob, "reg",
                                 "Contact: <sip:bob@1.invalid;x>;q=0.5\r\n"
                                 "Contact: <sip:bob@2.invalid;x>\r\n"
                                 "Contact: <sip:bob@3.invalid;x>;q=0.25\r\n"),
                     200);
    take_all(edge);
    call_as(edge, &alice, &invite);
    respond(edge, invite_to(edge, 2), "180 Ringing", "b2");
    assert_null(find_sent(edge, "INVITE ", 1));
    respond(edge, invite_to(edge, 2), "486 Busy Here", "b2");
    assert_null(find_sent(edge, "SIP/2.0 486", 0));
    respond(edge, invite_to(edge, 1), "480 Temporarily Unavailable", "b1");
    respond(edge, invite_to(edge, 3), "200 OK", "b3");
    assert_non_null(find_sent(edge, "SIP/2.0 200", 0));
    assert_null(find_sent(edge, "CANCEL ", 0));
}

static void who_gives_up_is_not_called_elsewhere(void **state) /* S4 refused, T4 */
{
    struct edge *edge = *state;
    struct call cancel = invite;

    assert_int_equal(register_as(edge, &bob, "reg",
                                 "Contact: <sip:bob@1.invalid;x>;q=0.5\r\n"
                                 "Contact: <sip:bob@2.invalid;x>\r\n"),
                     200);
    take_all(edge);
    call_as(edge, &alice, &invite);
    respond(edge, invite_to(edge, 2), "180 Ringing", "b2");
    cancel.method = "CANCEL";
    cancel.branch = "i1b";
    cancel.cseq = 2;
    request_send(edge, &cancel, "");
    respond(edge, invite_to(edge, 2), "487 Request Terminated", "b2");
    assert_non_null(find_sent(edge, "SIP/2.0 487", 0));
    assert_null(find_sent(edge, "INVITE sip:bob@1.invalid", 0));
}

static void message_is_not_tried_elsewhere_when_its_sender_waits_no_more(void **state) /* T5 */
{
    struct edge *edge = *state;
    struct call message = invite;

    assert_int_equal(register_as(edge, &bob, "reg",
                                 "Contact: <sip:bob@1.invalid;x>;q=0.5\r\n"
                                 "Contact: <sip:bob@2.invalid;x>\r\n"),
                     200);
    take_all(edge);
    message.method = "MESSAGE";
    call_as(edge, &alice, &message);
    for (unsigned i = 0; i < 33; i++)
        pass(edge, 1000);
    assert_non_null(find_sent(edge, "MESSAGE sip:bob@2.invalid", 0));
    assert_null(find_sent(edge, "MESSAGE sip:bob@1.invalid", 0));
    assert_null(find_sent(edge, "SIP/2.0 4", 0));
}

static void max_breadth_is_shared_and_limits(void **state) /* M5, M5 refused, RFC 5393 5.3.3 */
{
    struct edge *edge = *state;
    struct call call = invite;

    bob_registers(edge, 3);
    call.lines = "Max-Breadth: 7\r\n";
    call_as(edge, &alice, &call);
    for (unsigned i = 1; i <= 3; i++) {
        assert_string_equal(line_of(invite_to(edge, i), "Max-Breadth: ", 0), "2");
        respond(edge, invite_to(edge, i), "486 Busy Here", "b");
    }
    take_all(edge);
    call.lines = "Max-Breadth: 2\r\n";
    call.branch = "m2";
    call_as(edge, &alice, &call);
    assert_null(find_sent(edge, "INVITE ", 2)); /* the third waits */
    assert_string_equal(line_of(invite_to(edge, 2), "Max-Breadth: ", 0), "1");
    respond(edge, invite_to(edge, 3), "486 Busy Here", "b3");
    respond(edge, invite_to(edge, 2), "486 Busy Here", "b2");
    assert_string_equal(line_of(invite_to(edge, 1), "Max-Breadth: ", 0), "2");
    respond(edge, invite_to(edge, 1), "302 Moved Temporarily", "b1");
    assert_non_null(find_sent(edge, "SIP/2.0 302", 0));
    take_all(edge);
    call.lines = "Max-Breadth: 0\r\n";
    call.branch = "m3";
    call_as(edge, &alice, &call);
    assert_int_equal(last_status(edge), 440);
}

static const struct {
    const char *first, *second;
    int best;
} finals[] = {
    {"486 Busy Here",           "603 Decline",             603},
    {"486 Busy Here",           "503 Service Unavailable", 486},
    {"503 Service Unavailable", "500 Server Error",        500},
    {"404 Not Found",           "302 Moved",               302},
    {"486 Busy Here",           "415 Unsupported Media",   415},
    {"430 Flow Failed",         "486 Busy Here",           486},
    {"430 Flow Failed",         "430 Flow Failed",         480},
    {"503 Service Unavailable", "503 Service Unavailable", 500},
};

static void best_final_response_is_forwarded_when_all_are_in(void **state) /* S4 */
{
    struct edge *edge = *state;

    for (size_t i = 0; i < ARRAY_LEN(finals); i++) {
        struct call call = invite;
        char branch[16];

        bob_registers(edge, 2);
        (void)snprintf(branch, sizeof(branch), "f%zu", i);
        call.branch = branch;
        call.call_id = branch;
        call_as(edge, &alice, &call);
        respond(edge, invite_to(edge, 1), finals[i].first, "b1");
        assert_null(find_sent(edge, "SIP/2.0 ", 1)); /* nothing but the 100 */
        respond(edge, invite_to(edge, 2), finals[i].second, "b2");
        if (status_of(find_sent(edge, "SIP/2.0 ", 1)) != finals[i].best)
            fail_msg("%s, %s: %s", finals[i].first, finals[i].second, last_sent(edge));
        take_all(edge);
    }
}

static void challenges_of_all_branches_reach_the_caller(void **state) /* S4, R12 */
{
    struct edge *edge = *state;
    const char *answer;

    bob_registers(edge, 2);
    call_as(edge, &alice, &invite);
    respond(edge, invite_to(edge, 1),
            "407 Proxy Authentication Required\r\nProxy-Authenticate: Digest realm=\"one\"", "b1");
    respond(edge, invite_to(edge, 2), "401 Unauthorized\r\nWWW-Authenticate: Digest realm=\"two\"",
            "b2");
    answer = find_sent(edge, "SIP/2.0 407", 0);
    assert_non_null(answer);
    assert_string_equal(line_of(answer, "Proxy-Authenticate: ", 0), "Digest realm=\"one\"");
    assert_string_equal(line_of(answer, "WWW-Authenticate: ", 0), "Digest realm=\"two\"");
}

static void decline_cancels_the_others(void **state) /* S4, T4 */
{
    struct edge *edge = *state;

    bob_registers(edge, 2);
    call_as(edge, &alice, &invite);
    respond(edge, invite_to(edge, 1), "180 Ringing", "b1");
    respond(edge, invite_to(edge, 2), "603 Decline", "b2");
    assert_non_null(find_sent(edge, "CANCEL sip:bob@1.invalid", 0));
    assert_null(find_sent(edge, "SIP/2.0 603", 0)); /* RFC 3261 16.7 step 5 */
    respond(edge, invite_to(edge, 1), "487 Request Terminated", "b1");
    assert_non_null(find_sent(edge, "SIP/2.0 603", 0));
}

static void cancel_reaches_all_branches(void **state) /* T4 */
{
    struct edge *edge = *state;
    struct call cancel = invite;

    bob_registers(edge, 2);
    call_as(edge, &alice, &invite);
    respond(edge, invite_to(edge, 1), "180 Ringing", "b1");
    cancel.method = "CANCEL";
    cancel.branch = "i1b";
    cancel.cseq = 2;
    request_send(edge, &cancel, "");
    assert_non_null(find_sent(edge, "SIP/2.0 200", 0));
    assert_non_null(find_sent(edge, "CANCEL sip:bob@1.invalid", 0));
    assert_null(find_sent(edge, "CANCEL sip:bob@2.invalid", 0)); /* nothing came from there yet */
    respond(edge, invite_to(edge, 2), "180 Ringing", "b2");
    assert_non_null(find_sent(edge, "CANCEL sip:bob@2.invalid", 0));
    respond(edge, invite_to(edge, 1), "487 Request Terminated", "b1");
    assert_null(find_sent(edge, "SIP/2.0 487", 0));
    respond(edge, invite_to(edge, 2), "487 Request Terminated", "b2");
    assert_non_null(find_sent(edge, "SIP/2.0 487", 0));

    cancel.branch = "nothing";
    request_send(edge, &cancel, "");
    assert_int_equal(last_status(edge), 481);
}

static void call_that_nobody_answers_ends(void **state) /* T5, S4 */
{
    struct edge *edge = *state;

    bob_registers(edge, 1);
    call_as(edge, &alice, &invite);
    for (unsigned i = 0; i < 33; i++)
        pass(edge, 1000);
    assert_non_null(find_sent(edge, "SIP/2.0 408", 0));
}

static void message_that_nobody_answers_is_not_answered(void **state) /* T5 refused, S4 */
{
    struct edge *edge = *state;
    struct call message = invite;

    bob_registers(edge, 1);
    message.method = "MESSAGE";
    call_as(edge, &alice, &message);
    for (unsigned i = 0; i < 33; i++)
        pass(edge, 1000);
    assert_null(find_sent(edge, "SIP/2.0 4", 0)); /* RFC 4320 4.1 */
}

static void ringing_without_end_is_cancelled_by_timer_c(void **state) /* T5 */
{
    struct edge *edge = *state;

    bob_registers(edge, 1);
    call_as(edge, &alice, &invite);
    respond(edge, invite_to(edge, 1), "180 Ringing", "b");
    pass(edge, 100000);
    respond(edge, invite_to(edge, 1), "180 Ringing", "b"); /* starts it again */
    pass(edge, 184999);
    assert_null(find_sent(edge, "CANCEL ", 0));
    pass(edge, 1);
    assert_non_null(find_sent(edge, "CANCEL ", 0));
    respond(edge, invite_to(edge, 1), "487 Request Terminated", "b");
    assert_non_null(find_sent(edge, "SIP/2.0 408", 0));
}

#define FLOW(host, reg_id)                                                                         \
    "Contact: <sip:bob@" host ";x>;reg-id=" reg_id ";+sip.instance=\"<urn:uuid:1>\"\r\n"

static void failed_flow_is_forgotten_and_the_other_one_tried(void **state) /* S5, R7 */
{
    struct edge *edge = *state;

    assert_int_equal(register_as(edge, &bob, "reg", FLOW("1.invalid", "1")), 200);
    assert_int_equal(register_as(edge, &bob, "reg", FLOW("2.invalid", "2")), 200);
    take_all(edge);
    call_as(edge, &alice, &invite);
    assert_int_equal(edge->sent_count, 2); /* one flow of the device at a time */
    respond(edge, invite_to(edge, 2), "430 Flow Failed", "e");
    respond(edge, invite_to(edge, 1), "180 Ringing", "b");
    assert_int_equal(last_status(edge), 180);
    respond(edge, invite_to(edge, 1), "486 Busy Here", "b");
    assert_non_null(find_sent(edge, "SIP/2.0 486", 0));
    take_all(edge);
    assert_int_equal(register_as(edge, &bob, "reg", ""), 200);
    assert_int_equal(count_of(last_sent(edge), "Contact: "), 1);
}

static void device_that_answered_is_not_called_on_its_other_flow(void **state) /* S5 refused */
{
    struct edge *edge = *state;

    assert_int_equal(register_as(edge, &bob, "reg", FLOW("1.invalid", "1")), 200);
    assert_int_equal(register_as(edge, &bob, "reg", FLOW("2.invalid", "2")), 200);
    take_all(edge);
    call_as(edge, &alice, &invite);
    respond(edge, invite_to(edge, 2), "486 Busy Here", "b");
    assert_non_null(find_sent(edge, "SIP/2.0 486", 0));
    assert_null(find_sent(edge, "INVITE sip:bob@1.invalid", 0));
}

static void retransmitted_request_is_not_forwarded_twice(void **state) /* T8 */
{
    struct edge *edge = *state;
    struct call again = invite;
    unsigned before;

    bob_registers(edge, 1);
    call_as(edge, &alice, &invite);
    respond(edge, invite_to(edge, 1), "180 Ringing", "b");
    before = edge->sent_count;
    again.branch = "i1b";
    again.cseq = 2;
    request_send(edge, &again, "");
    assert_int_equal(edge->sent_count, before + 1);
    assert_int_equal(last_status(edge), 180);
}

static void requests_in_a_dialog_go_on_unchallenged(void **state) /* R4, R11, T3 */
{
    struct edge *edge = *state;
    struct call bye = invite;

    bye.method = "BYE";
    bye.uri = "sip:bob@core.invalid;flow=TOKEN";
    bye.to_tag = "b";
    bye.lines = "Route: <sip:registrar.invalid;lr>\r\nRoute: <sip:T@core.invalid;lr>\r\n";
    request_send(edge, &bye, "");
    assert_memory_equal(last_sent(edge), "BYE sip:bob@core.invalid;flow=TOKEN SIP/2.0\r\n", 45);
    assert_int_equal(count_of(last_sent(edge), "Route: "), 1);
    assert_string_equal(line_of(last_sent(edge), "Route: ", 0), "<sip:T@core.invalid;lr>");
    respond(edge, last_sent(edge), "200 OK", "b");
    assert_int_equal(last_status(edge), 200);

    bye.method = "ACK";
    bye.branch = "a1";
    request_send(edge, &bye, "");
    assert_memory_equal(last_sent(edge), "ACK sip:bob@core.invalid;flow=TOKEN SIP/2.0\r\n", 45);
    assert_int_equal(count_of(last_sent(edge), "Via: "), 2);
}

static void masked_contact_can_be_called_by_a_user(void **state) /* S4, R6 */
{
    struct edge *edge = *state;
    struct call call = invite;

    call.uri = "sip:bob@core.invalid;flow=TOKEN";
    call_as(edge, &alice, &call);
    assert_non_null(find_sent(edge, "INVITE sip:bob@core.invalid;flow=TOKEN SIP/2.0\r\n", 0));
}

static const struct {
    const char *forwards;
    int status;
    const char *out;
} forwards[] = {
    {"Max-Forwards: 0\r\n",   483, NULL},
    {"Max-Forwards: 1\r\n",   0,   "0" },
    {"Max-Forwards: x\r\n",   400, NULL},
    {"Max-Forwards: 256\r\n", 400, NULL},
};

static void max_forwards_is_lowered_or_ends_the_request(void **state) /* M1, M2 */
{
    struct edge *edge = *state;

    for (size_t i = 0; i < ARRAY_LEN(forwards); i++) {
        struct call call = invite;
        char branch[16];

        (void)snprintf(branch, sizeof(branch), "m%zu", i);
        call.branch = branch;
        call.method = "INFO";
        call.uri = "sip:bob@core.invalid;flow=T";
        call.to_tag = "b";
        call.lines = forwards[i].forwards;
        request_send(edge, &call, "");
        assert_int_equal(last_status(edge), forwards[i].status);
        if (forwards[i].out)
            assert_string_equal(line_of(last_sent(edge), "Max-Forwards: ", 0), forwards[i].out);
    }
}

static void request_that_comes_back_is_a_loop(void **state) /* M3 refused */
{
    struct edge *edge = *state;
    struct call call = invite;
    char *sent;

    call.method = "INFO";
    call.uri = "sip:bob@core.invalid;flow=T";
    call.to_tag = "b";
    request_send(edge, &call, "");
    sent = strdup(last_sent(edge));
    receive(edge, sent);
    assert_int_equal(last_status(edge), 482);
    free(sent);
}

static void options_and_extensions_are_answered_here(void **state) /* M1, V6 */
{
    struct edge *edge = *state;
    struct call call = invite;

    call.method = "OPTIONS";
    call.uri = "sip:sip.test";
    request_send(edge, &call, "");
    assert_int_equal(last_status(edge), 200);
    assert_non_null(strstr(line_of(last_sent(edge), "Allow: ", 0), "INVITE"));
    assert_non_null(line_of(last_sent(edge), "Accept: ", 0));
    call.uri = "sip:bob@sip.test";
    call.branch = "o2";
    call.lines = "Max-Forwards: 0\r\n";
    request_send(edge, &call, "");
    assert_int_equal(last_status(edge), 200);
    call.branch = "o3";
    call.lines = "Proxy-Require: teleport\r\n";
    request_send(edge, &call, "");
    assert_int_equal(last_status(edge), 420);
    assert_string_equal(line_of(last_sent(edge), "Unsupported: ", 0), "teleport");
}

/* The n-th request in some dialog: it goes on, and is open then. */
static void in_dialog_send(struct edge *edge, unsigned n)
{
    struct call call = invite;
    char branch[16];

    (void)snprintf(branch, sizeof(branch), "x%u", n);
    call.branch = branch;
    call.method = "MESSAGE";
    call.uri = "sip:bob@core.invalid;x=y";
    call.to_tag = "b";
    take_all(edge);
    request_send(edge, &call, "");
}

static void full_transaction_table_is_503(void **state) /* V7 */
{
    struct edge *edge = *state;

    for (unsigned i = 0; i < 100; i++) {
        in_dialog_send(edge, i);
        assert_memory_equal(last_sent(edge), "MESSAGE ", 8);
    }
    in_dialog_send(edge, 100);
    assert_int_equal(last_status(edge), 503);
}

static void answered_requests_make_room(void **state) /* X3 */
{
    struct edge *edge = *state;

    for (unsigned i = 0; i < 250; i++) {
        in_dialog_send(edge, i);
        assert_memory_equal(last_sent(edge), "MESSAGE ", 8);
        respond(edge, last_sent(edge), "200 OK", "b");
        assert_int_equal(last_status(edge), 200);
    }
    assert_int_equal(registrar_transactions(edge->registrar), 200);
    assert_int_equal(registrar_given_up(edge->registrar), 300);
    pass(edge, 33000);
    assert_int_equal(registrar_transactions(edge->registrar), 0);
}

/* The one that failed may be what makes room for the next. */
static void the_next_is_tried_in_the_room_of_the_first(void **state) /* S4, X3 */
{
    struct edge *edge = *state;

    assert_int_equal(register_as(edge, &bob, "reg",
                                 "Contact: <sip:bob@1.invalid;x>\r\n"
                                 "Contact: <sip:bob@2.invalid;x>;q=0.5\r\n"),
                     200);
    edge->conf.limits.transactions = 1;
    assert_int_equal(registrar_prepare(edge->registrar, &edge->conf), 0);
    registrar_take(edge->registrar, &edge->conf);
    call_as(edge, &alice, &invite);
    respond(edge, invite_to(edge, 1), "486 Busy Here", "b");
    respond(edge, invite_to(edge, 2), "200 OK", "b");
    assert_int_equal(last_status(edge), 200);
    assert_true(registrar_given_up(edge->registrar) > 0);
    pass(edge, 32000);
    assert_int_equal(registrar_transactions(edge->registrar), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        edge_test(request_follows_binding_and_its_path),
        edge_test(answers_come_back_without_our_via),
        edge_test(every_2xx_is_forwarded),
        edge_test(a_response_to_another_request_is_none),
        edge_test(request_without_a_target_is_refused),
        edge_test(caller_must_be_who_it_says),
        edge_test(first_to_answer_gets_the_call_and_the_others_are_cancelled),
        edge_test(highest_q_is_tried_first_and_the_next_when_none_answers),
        edge_test(who_gives_up_is_not_called_elsewhere),
        edge_test(message_is_not_tried_elsewhere_when_its_sender_waits_no_more),
        edge_test(max_breadth_is_shared_and_limits),
        edge_test(best_final_response_is_forwarded_when_all_are_in),
        edge_test(challenges_of_all_branches_reach_the_caller),
        edge_test(decline_cancels_the_others),
        edge_test(cancel_reaches_all_branches),
        edge_test(call_that_nobody_answers_ends),
        edge_test(message_that_nobody_answers_is_not_answered),
        edge_test(ringing_without_end_is_cancelled_by_timer_c),
        edge_test(failed_flow_is_forgotten_and_the_other_one_tried),
        edge_test(device_that_answered_is_not_called_on_its_other_flow),
        edge_test(retransmitted_request_is_not_forwarded_twice),
        edge_test(requests_in_a_dialog_go_on_unchallenged),
        edge_test(masked_contact_can_be_called_by_a_user),
        edge_test(max_forwards_is_lowered_or_ends_the_request),
        edge_test(request_that_comes_back_is_a_loop),
        edge_test(options_and_extensions_are_answered_here),
        edge_test(full_transaction_table_is_503),
        edge_test(answered_requests_make_room),
        edge_test(the_next_is_tried_in_the_room_of_the_first),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

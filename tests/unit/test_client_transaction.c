#include "transaction_harness.h"

static char client_id[TRANSACTION_ID_SIZE];

static const char *request_text(const char *method)
{
    static char text[2048];

    (void)snprintf(text, sizeof(text),
                   "%s sip:bob@10.0.0.5 SIP/2.0\r\n"
                   "Via: SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK%s.0123456789abcdef\r\n"
                   "Via: SIP/2.0/TLS client.invalid;branch=z9hG4bKclient\r\n"
                   "Route: <sip:one@10.0.0.5;lr>\r\n"
                   "Route: <sip:two@10.0.0.6;lr>\r\n"
                   "Max-Forwards: 69\r\n"
                   "From: \"A: \" <sip:alice@example.com>;tag=from\r\n"
                   "To: <sip:bob@example.com>\r\n"
                   "Call-ID: call@example.com\r\n"
                   "CSeq: 7 %s\r\n"
                   "Require: 100rel\r\n"
                   "Content-Length: 4\r\n\r\nbody",
                   method, client_id, method);
    return text;
}

static void send_as(struct client_transaction *client, enum sip_method method, const char *name)
{
    char branch[64];

    (void)snprintf(branch, sizeof(branch), "z9hG4bK%s.0123456789abcdef", client_id);
    client_transaction_send(client,
                            &(struct client_request){.method = method,
                                                     .bytes = str_of(request_text(name)),
                                                     .branch = str_of(branch),
                                                     .body_len = strlen("body")},
                            now);
}

static struct client_transaction *client_of(enum sip_method method, const char *name, struct hop to)
{
    struct client_transaction *client = NULL;

    assert_int_equal(client_transaction_create(table, &to, &user, &owner, now, &client), 0);
    client_transaction_id(client, client_id);
    send_as(client, method, name);
    assert_true(hop_eq(client_transaction_hop(client), &to));
    return client;
}

/* A response to the client transaction that was made last. */
static const char *loop_part = "0123456789abcdef";

static int respond_from(struct hop from, int status, const char *method)
{
    struct sip_msg *response = scan("SIP/2.0 %d Whatever\r\n"
                                    "Via: SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK%s.%s\r\n"
                                    "Via: SIP/2.0/TLS client.invalid;branch=z9hG4bKclient\r\n"
                                    "From: \"A: \" <sip:alice@example.com>;tag=from\r\n"
                                    "To: <sip:bob@example.com>;tag=to\r\n"
                                    "Call-ID: call@example.com\r\n"
                                    "CSeq: 7 %s\r\n"
                                    "Content-Length: 0\r\n\r\n",
                                    status, client_id, loop_part, method);

    return transactions_response(table, response, &from, now);
}

static int respond(int status, const char *method)
{
    return respond_from(pbx(), status, method);
}

/* ---- INVITE ---- */

TEST(invite_is_sent_again_with_doubled_time_until_it_fails) /* T1, T5 */
{
    (void)state;
    begin();
    (void)client_of(SIP_INVITE, "INVITE", pbx());
    clock_to(31999);
    CHECK_SENT("INVITE", 0, 500, 1500, 3500, 7500, 15500, 31500); /* A */
    CHECK_QUIET();
    clock_to(32000);
    CHECK_EVENT(32000, "failed -110"); /* B */
    CHECK_EVENT(32000, "ended");
    assert_int_equal(respond(200, "INVITE"), -ENOENT);
    end();
}

TEST(provisional_ends_timers_a_and_b) /* T1, T5 */
{
    struct client_transaction *client;

    (void)state;
    begin();
    client = client_of(SIP_INVITE, "INVITE", pbx());
    assert_int_equal(client_transaction_state(client), CLIENT_CALLING);
    clock_to(600);
    assert_int_equal(respond(100, "INVITE"), 0);
    assert_int_equal(client_transaction_state(client), CLIENT_PROCEEDING);
    clock_to(700);
    assert_int_equal(respond(180, "INVITE"), 0);
    CHECK_EVENT(600, "100");
    CHECK_EVENT(700, "180");
    clock_to(180000); /* timer C is the user's */
    CHECK_SENT("INVITE", 0, 500);
    assert_int_equal(respond(180, "INVITE"), 0);
    CHECK_EVENT(180000, "180");
    client_transaction_drop(client);
    CHECK_QUIET();
    end();
}

TEST(on_a_flow_invite_is_sent_once) /* T1 */
{
    (void)state;
    begin();
    (void)client_of(SIP_INVITE, "INVITE", on_flow(0));
    clock_to(32000);
    CHECK_SENT("INVITE", 0);
    CHECK_EVENT(32000, "failed -110");
    CHECK_EVENT(32000, "ended");
    end();
}

TEST(ack_for_non_2xx_is_made_of_the_invite) /* T3, RFC 3261 17.1.1.3 */
{
    static const char ack[] = "ACK sip:bob@10.0.0.5 SIP/2.0\r\n"
                              "Via: SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK%s.0123456789abcdef\r\n"
                              "Route: <sip:one@10.0.0.5;lr>\r\n"
                              "Route: <sip:two@10.0.0.6;lr>\r\n"
                              "Max-Forwards: 69\r\n"
                              "From: \"A: \" <sip:alice@example.com>;tag=from\r\n"
                              "To: <sip:bob@example.com>;tag=to\r\n"
                              "Call-ID: call@example.com\r\n"
                              "CSeq: 7 ACK\r\n"
                              "Content-Length: 0\r\n\r\n";
    char expected[1024];
    struct client_transaction *client;

    (void)state;
    begin();
    client = client_of(SIP_INVITE, "INVITE", pbx());
    (void)snprintf(expected, sizeof(expected), ack, client_id);
    clock_to(100);
    assert_int_equal(respond(486, "INVITE"), 0);
    assert_string_equal(sent[1].text, expected);
    assert_true(hop_eq(&sent[1].to, client_transaction_hop(client)));
    assert_int_equal(client_transaction_state(client), CLIENT_COMPLETED);

    clock_to(600); /* the ACK was lost: the final comes again, and the user is not told */
    assert_int_equal(respond(486, "INVITE"), 0);
    assert_string_equal(sent[2].text, expected);
    assert_int_equal(respond(180, "INVITE"), 0);
    assert_int_equal(respond(200, "INVITE"), 0);
    client_transaction_cancel(client, now);
    CHECK_EVENT(100, "486");
    clock_to(32099);
    CHECK_QUIET();
    assert_int_equal(sent_count, 3);
    clock_to(32100);
    CHECK_EVENT(32100, "ended"); /* D */
    assert_int_equal(respond(486, "INVITE"), -ENOENT);
    end();
}

TEST(on_a_flow_a_non_2xx_ends_invite_from_the_next_timers_run) /* T3 */
{
    (void)state;
    begin();
    (void)client_of(SIP_INVITE, "INVITE", on_flow(0));
    assert_int_equal(respond_from(on_flow(0), 603, "INVITE"), 0);
    CHECK_EVENT(0, "603");
    CHECK_SENT("ACK", 0);
    CHECK_QUIET();
    clock_to(0);
    CHECK_EVENT(0, "ended"); /* D is zero */
    end();
}

TEST(every_2xx_reaches_the_user) /* T3, RFC 6026 7.2 */
{
    static const struct {
        uint64_t at;
        bool flow;
    } sides[] = {
        {0,      false},
        {100000, true }
    };

    (void)state;
    begin();
    for (size_t i = 0; i < ARRAY_LEN(sides); i++) {
        struct hop to = sides[i].flow ? on_flow(0) : pbx();
        uint64_t at = sides[i].at;
        struct client_transaction *client;

        clock_to(at);
        client = client_of(SIP_INVITE, "INVITE", to);
        assert_int_equal(respond_from(to, 200, "INVITE"), 0);
        assert_int_equal(client_transaction_state(client), CLIENT_ACCEPTED);
        clock_to(at + 500);
        assert_int_equal(respond_from(to, 200, "INVITE"), 0);
        assert_int_equal(respond_from(to, 180, "INVITE"), 0); /* absorbed */
        assert_int_equal(respond_from(to, 486, "INVITE"), 0); /* absorbed, without ACK */
        client_transaction_cancel(client, now);
        clock_to(at + 31999);
        assert_int_equal(respond_from(to, 200, "INVITE"), 0);
        CHECK_EVENT(at, "200");
        CHECK_EVENT(at + 500, "200");
        CHECK_EVENT(at + 31999, "200");
        CHECK_QUIET();
        clock_to(at + 32000);
        CHECK_EVENT(at + 32000, "ended"); /* M */
        CHECK_NOT_SENT("ACK");
        CHECK_NOT_SENT("CANCEL");
    }
    CHECK_SENT("INVITE", 0, 100000);
    end();
}

/* ---- CANCEL ---- */

TEST(cancel_waits_for_a_provisional) /* T4 */
{
    static const char cancel[] =
        "CANCEL sip:bob@10.0.0.5 SIP/2.0\r\n"
        "Via: SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK%s.0123456789abcdef\r\n"
        "Route: <sip:one@10.0.0.5;lr>\r\n"
        "Route: <sip:two@10.0.0.6;lr>\r\n"
        "Max-Forwards: 69\r\n"
        "From: \"A: \" <sip:alice@example.com>;tag=from\r\n"
        "To: <sip:bob@example.com>\r\n"
        "Call-ID: call@example.com\r\n"
        "CSeq: 7 CANCEL\r\n"
        "Reason: SIP;cause=200;text=\"Call completed elsewhere\"\r\n"
        "Content-Length: 0\r\n\r\n";
    char expected[1024];
    struct client_transaction *client;

    (void)state;
    begin();
    client = client_of(SIP_INVITE, "INVITE", pbx());
    (void)snprintf(expected, sizeof(expected), cancel, client_id);
    clock_to(100);
    client_transaction_cancel_with(
        client, STR("Reason: SIP;cause=200;text=\"Call completed elsewhere\"\r\n"), now);
    client_transaction_cancel(client, now); /* once is enough */
    assert_int_equal(respond(200, "CANCEL"), -ENOENT);
    clock_to(600); /* the INVITE itself goes on */
    CHECK_SENT("INVITE", 0, 500);
    CHECK_NOT_SENT("CANCEL");

    assert_int_equal(respond(180, "INVITE"), 0);
    assert_string_equal(sent[2].text, expected);
    CHECK_EVENT(600, "180");
    clock_to(700);
    assert_int_equal(respond(200, "CANCEL"), 0);
    CHECK_QUIET(); /* it is hop by hop */
    assert_int_equal(respond(487, "INVITE"), 0);
    CHECK_EVENT(700, "487");
    CHECK_SENT("ACK", 700);
    clock_to(32700);
    CHECK_EVENT(32700, "ended");
    CHECK_SENT("CANCEL", 600);
    CHECK_SENT("INVITE", 0, 500);
    end();
}

TEST(cancel_before_any_response_ends_with_timer_b) /* T4, T5 */
{
    struct client_transaction *client;

    (void)state;
    begin();
    client = client_of(SIP_INVITE, "INVITE", pbx());
    clock_to(100);
    client_transaction_cancel(client, now);
    clock_to(32000);
    CHECK_EVENT(32000, "failed -110");
    CHECK_EVENT(32000, "ended");
    CHECK_NOT_SENT("CANCEL");
    end();
}

TEST(cancel_is_sent_again_until_answered) /* T1, T4 */
{
    struct client_transaction *client;

    (void)state;
    begin();
    client = client_of(SIP_INVITE, "INVITE", pbx());
    assert_int_equal(respond(180, "INVITE"), 0);
    client_transaction_cancel(client, now);
    clock_to(10000);
    CHECK_SENT("CANCEL", 0, 500, 1500, 3500, 7500); /* E */
    assert_int_equal(respond(200, "CANCEL"), 0);
    assert_int_equal(respond(200, "CANCEL"), 0);
    clock_to(20000);
    CHECK_SENT("CANCEL", 0, 500, 1500, 3500, 7500);
    assert_int_equal(respond(487, "INVITE"), 0);
    CHECK_EVENT(0, "180");
    CHECK_EVENT(20000, "487");
    clock_to(52000);
    CHECK_EVENT(52000, "ended");
    end();
}

TEST(cancelled_invite_without_final_fails_after_64_t1) /* T4, T5, RFC 3261 9.1 */
{
    static const struct {
        uint64_t at;
        bool flow, answered;
    } rows[] = {
        {0,      false, true },
        {100000, false, false},
        {200000, true,  true }
    };

    (void)state;
    begin();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct hop to = rows[i].flow ? on_flow(0) : pbx();
        uint64_t at = rows[i].at;
        struct client_transaction *client;

        clock_to(at);
        client = client_of(SIP_INVITE, "INVITE", to);
        assert_int_equal(respond_from(to, 180, "INVITE"), 0);
        CHECK_EVENT(at, "180");
        clock_to(at + 50000);
        client_transaction_cancel(client, now);
        if (rows[i].answered)
            assert_int_equal(respond_from(to, 200, "CANCEL"), 0);
        clock_to(at + 81999);
        CHECK_QUIET();
        clock_to(at + 82000);
        CHECK_EVENT(at + 82000, "failed -110");
        CHECK_EVENT(at + 82000, "ended");
    }
    end();
}

TEST(provisional_after_cancel_is_told_and_changes_nothing) /* T4 */
{
    struct client_transaction *client;

    (void)state;
    begin();
    client = client_of(SIP_INVITE, "INVITE", pbx());
    assert_int_equal(respond(180, "INVITE"), 0);
    client_transaction_cancel(client, now);
    clock_to(100);
    assert_int_equal(respond(183, "INVITE"), 0);
    assert_int_equal(respond(100, "CANCEL"), 0); /* from now on every T2 */
    CHECK_EVENT(0, "180");
    CHECK_EVENT(100, "183");
    clock_to(31999);
    CHECK_SENT("CANCEL", 0, 500, 4500, 8500, 12500, 16500, 20500, 24500, 28500);
    CHECK_QUIET();
    clock_to(32000);
    CHECK_EVENT(32000, "failed -110");
    CHECK_EVENT(32000, "ended");
    end();
}

TEST(final_that_crosses_cancel_counts) /* T3, T4 */
{
    static const struct {
        uint64_t at;
        int status;
        const char *text;
    } rows[] = {
        {0,      200, "200"},
        {100000, 486, "486"}
    };

    (void)state;
    begin();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint64_t at = rows[i].at;
        struct client_transaction *client;

        clock_to(at);
        sent_count = 0;
        client = client_of(SIP_INVITE, "INVITE", pbx());
        assert_int_equal(respond(180, "INVITE"), 0);
        client_transaction_cancel(client, now);
        clock_to(at + 100);
        assert_int_equal(respond(rows[i].status, "INVITE"), 0);
        clock_to(at + 600);
        assert_int_equal(respond(481, "CANCEL"), 0);
        CHECK_EVENT(at, "180");
        CHECK_EVENT(at + 100, rows[i].text);
        clock_to(at + 32099);
        CHECK_SENT("CANCEL", at);
        CHECK_QUIET();
        clock_to(at + 32100);
        CHECK_EVENT(at + 32100, "ended");
    }
    end();
}

TEST(final_before_any_provisional_needs_no_cancel) /* T4 */
{
    struct client_transaction *client;

    (void)state;
    begin();
    client = client_of(SIP_INVITE, "INVITE", pbx());
    client_transaction_cancel(client, now);
    assert_int_equal(respond(200, "INVITE"), 0);
    clock_to(32000);
    CHECK_EVENT(0, "200");
    CHECK_EVENT(32000, "ended");
    CHECK_NOT_SENT("CANCEL");
    end();
}

TEST(on_a_flow_the_end_waits_for_the_answer_to_cancel) /* T4 */
{
    struct client_transaction *client;
    struct hop to = on_flow(0);

    (void)state;
    begin();
    client = client_of(SIP_INVITE, "INVITE", to);
    assert_int_equal(respond_from(to, 180, "INVITE"), 0);
    client_transaction_cancel(client, now);
    assert_int_equal(respond_from(to, 487, "INVITE"), 0);
    clock_to(1000);
    CHECK_EVENT(0, "180");
    CHECK_EVENT(0, "487");
    CHECK_QUIET();
    assert_int_equal(respond_from(to, 200, "CANCEL"), 0);
    clock_to(1000);
    CHECK_EVENT(1000, "ended");
    CHECK_SENT("CANCEL", 0);

    client = client_of(SIP_INVITE, "INVITE", to); /* and where that never comes */
    assert_int_equal(respond_from(to, 180, "INVITE"), 0);
    client_transaction_cancel(client, now);
    assert_int_equal(respond_from(to, 487, "INVITE"), 0);
    CHECK_EVENT(1000, "180");
    CHECK_EVENT(1000, "487");
    clock_to(32999);
    CHECK_QUIET();
    clock_to(33000);
    CHECK_EVENT(33000, "ended");
    end();
}

TEST(only_invite_that_was_sent_is_cancelled) /* T4 */
{
    struct client_transaction *client;
    struct hop to = pbx();

    (void)state;
    begin();
    assert_int_equal(client_transaction_create(table, &to, &user, &owner, now, &client), 0);
    client_transaction_id(client, client_id);
    client_transaction_cancel(client, now);
    assert_int_equal(respond(180, "INVITE"), -ENOENT); /* nothing was asked */
    client_transaction_drop(client);
    client = client_of(SIP_MESSAGE, "MESSAGE", to);
    assert_int_equal(respond(100, "MESSAGE"), 0);
    client_transaction_cancel(client, now);
    assert_int_equal(respond(200, "CANCEL"), -ENOENT);
    CHECK_NOT_SENT("CANCEL");
    client_transaction_drop(client);
    end();
}

/* ---- other methods ---- */

TEST(request_is_sent_again_at_most_every_t2_until_it_fails) /* T1, T5 */
{
    (void)state;
    begin();
    (void)client_of(SIP_REGISTER, "REGISTER", pbx());
    clock_to(31999);
    CHECK_SENT("REGISTER", 0, 500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500,
               31500); /* E */
    CHECK_QUIET();
    clock_to(32000);
    CHECK_EVENT(32000, "failed -110"); /* F */
    CHECK_EVENT(32000, "ended");
    end();
}

TEST(provisional_slows_a_request_down_to_t2) /* T1, RFC 3261 17.1.2.2 */
{
    (void)state;
    begin();
    (void)client_of(SIP_REGISTER, "REGISTER", pbx());
    clock_to(600);
    assert_int_equal(respond(100, "REGISTER"), 0);
    clock_to(31999);
    CHECK_SENT("REGISTER", 0, 500, 1500, 5500, 9500, 13500, 17500, 21500, 25500, 29500);
    CHECK_EVENT(600, "100");
    CHECK_QUIET();
    clock_to(32000); /* F goes on */
    CHECK_EVENT(32000, "failed -110");
    CHECK_EVENT(32000, "ended");
    end();
}

TEST(final_is_told_once) /* T1 */
{
    (void)state;
    begin();
    (void)client_of(SIP_REGISTER, "REGISTER", pbx());
    clock_to(100);
    assert_int_equal(respond(401, "REGISTER"), 0);
    assert_int_equal(respond(401, "REGISTER"), 0);
    assert_int_equal(respond(100, "REGISTER"), 0);
    CHECK_EVENT(100, "401");
    clock_to(99 + K_OVER);
    CHECK_QUIET();
    clock_to(100 + K_OVER);
    CHECK_EVENT(100 + K_OVER, "ended");
    CHECK_SENT("REGISTER", 0);
    CHECK_NOT_SENT("ACK");
    end();
}

TEST(on_a_flow_a_request_is_sent_once_and_its_final_ends_it) /* T1, T5 */
{
    (void)state;
    begin();
    (void)client_of(SIP_OPTIONS, "OPTIONS", on_flow(0));
    clock_to(20000);
    assert_int_equal(respond_from(on_flow(0), 200, "OPTIONS"), 0);
    CHECK_EVENT(20000, "200");
    CHECK_QUIET();
    clock_to(20000);
    CHECK_EVENT(20000, "ended"); /* K is zero */
    (void)client_of(SIP_OPTIONS, "OPTIONS", on_flow(0));
    clock_to(52000);
    CHECK_EVENT(52000, "failed -110");
    CHECK_EVENT(52000, "ended");
    CHECK_SENT("OPTIONS", 0, 20000);
    end();
}

TEST(over_tcp_nothing_is_sent_again_and_finals_end) /* T7 */
{
    struct hop to = on_tcp(0x0A000005, 5060);

    (void)state;
    begin();
    (void)client_of(SIP_OPTIONS, "OPTIONS", to);
    clock_to(20000);
    assert_int_equal(respond_from(to, 200, "OPTIONS"), 0);
    clock_to(20000);
    CHECK_EVENT(20000, "200");
    CHECK_EVENT(20000, "ended"); /* K is zero */
    CHECK_SENT("OPTIONS", 0);
    (void)client_of(SIP_INVITE, "INVITE", to);
    clock_to(30000);
    CHECK_SENT("INVITE", 20000);
    assert_int_equal(respond_from(to, 486, "INVITE"), 0);
    clock_to(30000);
    CHECK_EVENT(30000, "486");
    CHECK_EVENT(30000, "ended"); /* D is zero */
    CHECK_SENT("ACK", 30000);
    (void)client_of(SIP_INVITE, "INVITE", to);
    clock_to(62000);
    CHECK_EVENT(62000, "failed -110"); /* B */
    CHECK_EVENT(62000, "ended");
    end();
}

TEST(mailboxes_lose_messages_as_a_network_does) /* T1 */
{
    static const enum core_kind kinds[] = {CORE_EMBEDDED, CORE_SELF};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct hop to = {.core = {.kind = kinds[i]}};

        begin();
        send_error = -ENOBUFS;
        (void)client_of(SIP_OPTIONS, "OPTIONS", to);
        send_error = 0;
        clock_to(600);
        CHECK_SENT("OPTIONS", 0, 500);
        assert_int_equal(respond_from(to, 200, "OPTIONS"), 0);
        CHECK_EVENT(600, "200");
        clock_to(600 + K_OVER);
        CHECK_EVENT(600 + K_OVER, "ended");
        end();
    }
}

/* ---- matching ---- */

TEST(response_must_come_from_where_the_request_went) /* T1, V5 */
{
    const struct hop hops[] = {on_flow(0),
                               on_flow(1),
                               on_udp(0x0A000005, 5060),
                               on_udp(0x0A000006, 5060),
                               on_udp6(1, 5060),
                               on_udp6(2, 5060),
                               {.core = {.kind = CORE_EMBEDDED}},
                               {.core = {.kind = CORE_SELF}}};

    (void)state;
    begin();
    for (size_t to = 0; to < ARRAY_LEN(hops); to++) {
        struct client_transaction *client = client_of(SIP_OPTIONS, "OPTIONS", hops[to]);
        for (size_t from = 0; from < ARRAY_LEN(hops); from++)
            assert_int_equal(respond_from(hops[from], 100, "OPTIONS"), from == to ? 0 : -ENOENT);
        CHECK_EVENT(0, "100");
        CHECK_QUIET();
        client_transaction_drop(client);
    }
    (void)client_of(SIP_OPTIONS, "OPTIONS", pbx());
    assert_int_equal(respond_from(on_udp(0x0A000005, 5070), 200, "OPTIONS"), 0); /* other port */
    CHECK_EVENT(0, "200");
    clock_to(K_OVER);
    CHECK_EVENT(K_OVER, "ended");
    end();
}

TEST(response_must_have_branch_and_method_of_the_request) /* M3, T1, V5 */
{
    static const char *const ids[] = {
        "2a00000000000000", /* of another generation */
        "2b000000",         /* no id at all */
        "2a0000zz00000000", "2affffff00000000", "", "z9hG4bK",
    };
    struct client_transaction *client;
    char id[TRANSACTION_ID_SIZE];

    (void)state;
    begin();
    client = client_of(SIP_OPTIONS, "OPTIONS", pbx());
    assert_int_equal(strlen(client_id), 16);
    assert_memory_equal(client_id, "2a000000", 8);
    assert_int_equal(respond(200, "MESSAGE"), -ENOENT);
    assert_int_equal(respond(200, "CANCEL"), -ENOENT);

    memcpy(id, client_id, sizeof(id));
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        (void)snprintf(client_id, sizeof(client_id), "%s", ids[i]);
        if (strcmp(client_id, id) != 0)
            assert_int_equal(respond(200, "OPTIONS"), -ENOENT);
    }
    memcpy(client_id, id, sizeof(id));
    client_id[1] = 'b'; /* another worker's */
    assert_int_equal(respond(200, "OPTIONS"), -ENOENT);
    memcpy(client_id, id, sizeof(id));
    client_id[15] = client_id[15] == '0' ? '1' : '0';
    assert_int_equal(respond(200, "OPTIONS"), -ENOENT);
    CHECK_QUIET();
    client_transaction_drop(client);
    end();
}

TEST(all_of_the_branch_comes_back) /* V5, RFC 3261 17.1.3 */
{
    static const char *const others[] = {"0123456789abcdee", "0123456789abcdef0", "",
                                         "0123456789ABCDEF"};
    const char *before = loop_part;
    struct client_transaction *client;

    (void)state;
    begin();
    client = client_of(SIP_OPTIONS, "OPTIONS", pbx());
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        loop_part = others[i];
        assert_int_equal(respond(200, "OPTIONS"), -ENOENT);
    }
    loop_part = before;
    CHECK_QUIET();
    assert_int_equal(respond(200, "OPTIONS"), 0);
    client_transaction_drop(client);
    end();
}

TEST(late_response_never_meets_the_next_owner_of_the_slot) /* T1, V5 */
{
    struct client_transaction *client;
    char old[TRANSACTION_ID_SIZE];

    (void)state;
    begin();
    client = client_of(SIP_OPTIONS, "OPTIONS", pbx());
    memcpy(old, client_id, sizeof(old));
    client_transaction_drop(client);
    client = client_of(SIP_OPTIONS, "OPTIONS", pbx());
    assert_memory_equal(old, client_id, 8);
    memcpy(client_id, old, sizeof(old));
    assert_int_equal(respond(200, "OPTIONS"), -ENOENT);
    CHECK_QUIET();
    client_transaction_drop(client);
    end();
}

/* ---- errors, limits and lifetimes ---- */

TEST(send_error_is_told_from_the_next_timers_run) /* T5 */
{
    static const struct {
        int error;
        bool flow, fails;
    } rows[] = {
        {-EPIPE,        true,  true },
        {-ENOBUFS,      true,  true },
        {-EPIPE,        false, true },
        {-EHOSTUNREACH, false, true },
        {-ENOBUFS,      false, false},
        {-EAGAIN,       false, false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct client_transaction *client;

        begin();
        send_error = rows[i].error;
        client = client_of(SIP_INVITE, "INVITE", rows[i].flow ? on_flow(0) : pbx());
        client_transaction_cancel(client, now);
        CHECK_QUIET();
        clock_to(100);
        if (rows[i].fails) {
            CHECK_EVENT(0, "failed -32");
            CHECK_EVENT(0, "ended");
        } else {
            CHECK_QUIET();
            client_transaction_drop(client);
        }
        end();
    }
}

TEST(retransmission_that_cannot_be_sent_fails) /* T5 */
{
    (void)state;
    begin();
    (void)client_of(SIP_OPTIONS, "OPTIONS", pbx());
    clock_to(100);
    send_error = -EHOSTUNREACH;
    clock_to(500);
    CHECK_EVENT(500, "failed -32");
    CHECK_EVENT(500, "ended");
    end();
}

TEST(response_between_a_send_error_and_its_report_is_not_told) /* T5 */
{
    (void)state;
    begin();
    send_error = -EPIPE;
    (void)client_of(SIP_OPTIONS, "OPTIONS", pbx());
    assert_int_equal(respond(200, "OPTIONS"), 0);
    CHECK_QUIET();
    clock_to(0);
    CHECK_EVENT(0, "failed -32");
    CHECK_EVENT(0, "ended");
    end();
}

TEST(client_transactions_are_limited)
{
    struct client_transaction *clients[100], *more;
    struct hop to = pbx();

    (void)state;
    begin();
    for (unsigned i = 0; i < 100; i++) /* the table grows on the way */
        clients[i] = client_of(SIP_OPTIONS, "OPTIONS", to);
    sent_count = 0;
    assert_int_equal(client_transaction_create(table, &to, &user, &owner, now, &more), -ENOSPC);
    client_transaction_drop(clients[50]);
    assert_int_equal(client_transaction_create(table, &to, &user, &owner, now, &clients[50]), 0);
    for (unsigned i = 0; i < 100; i++)
        client_transaction_drop(clients[i]);
    end();
}

/* One more, answered: `id` is what a response to it has to name. */
static void answered(enum sip_method method, const char *name, int status, char *id)
{
    (void)client_of(method, name, pbx());
    assert_int_equal(respond(status, name), 0);
    memcpy(id, client_id, TRANSACTION_ID_SIZE);
}

static bool knows(const char *id, int status, const char *method)
{
    memcpy(client_id, id, TRANSACTION_ID_SIZE);
    return respond(status, method) == 0;
}

TEST(answered_requests_end_in_their_order_by_one_timer) /* T1 */
{
    struct client_transaction *dropped;

    (void)state;
    begin();
    dropped = client_of(SIP_OPTIONS, "OPTIONS", pbx());
    assert_int_equal(respond(200, "OPTIONS"), 0);
    clock_to(100);
    for (unsigned i = 0; i < 3; i++) {
        (void)client_of(SIP_OPTIONS, "OPTIONS", pbx());
        assert_int_equal(respond(200, "OPTIONS"), 0);
    }
    assert_int_equal(timers_count(timers), 1);
    (void)client_of(SIP_OPTIONS, "OPTIONS", on_flow(0)); /* has nothing to wait for */
    assert_int_equal(respond_from(on_flow(0), 200, "OPTIONS"), 0);
    event_count = 0;
    clock_to(101);
    CHECK_EVENT(100, "ended");
    clock_to(250);
    (void)client_of(SIP_OPTIONS, "OPTIONS", pbx());
    assert_int_equal(respond(200, "OPTIONS"), 0);
    CHECK_EVENT(250, "200");
    client_transaction_drop(dropped); /* the first one */
    clock_to(10000);
    for (unsigned i = 0; i < 3; i++)
        CHECK_EVENT(K_OVER, "ended"); /* when the one that was dropped would have */
    CHECK_EVENT(250 + K_OVER, "ended");
    CHECK_QUIET();
    end();
}

TEST(one_that_was_left_absorbs_and_tells_nothing) /* T1, X3 */
{
    struct client_group group = {0};
    struct client_transaction *clients[3], *more;
    char first[TRANSACTION_ID_SIZE], second[TRANSACTION_ID_SIZE];
    struct hop to = pbx();
    uint64_t repeated;

    (void)state;
    begin_with(3);
    for (unsigned i = 0; i < 3; i++) {
        clients[i] = client_of(SIP_OPTIONS, "OPTIONS", to);
        assert_false(client_transaction_leave(clients[i], &group)); /* it waits for an answer */
        memcpy(i ? second : first, client_id, sizeof(first));
        assert_int_equal(respond(200, "OPTIONS"), 0);
        assert_true(client_transaction_leave(clients[i], i < 2 ? &group : NULL));
    }
    assert_int_equal(group.count, 2);
    assert_int_equal(transactions_left(table), 3);
    event_count = 0;
    repeated = transactions_repeated(table)->received[SIDE_CORE];
    assert_true(knows(first, 200, "OPTIONS"));
    assert_true(transactions_repeated(table)->received[SIDE_CORE] == repeated + 1);

    assert_int_equal(client_transaction_create(table, &to, &user, &owner, now, &more), 0);
    assert_false(knows(first, 200, "OPTIONS")); /* it made room */
    assert_int_equal(transactions_given_up(table), 1);
    assert_int_equal(group.count, 1);
    assert_ptr_equal(group.first, clients[1]);
    client_transaction_drop(group.first);
    assert_int_equal(group.count, 0);
    assert_null(group.first);
    assert_null(group.last);
    assert_true(knows(second, 200, "OPTIONS"));
    client_transaction_drop(more);
    clock_to(K_OVER);
    assert_false(knows(second, 200, "OPTIONS"));
    assert_int_equal(transactions_left(table), 0);
    CHECK_QUIET();
    end();
}

TEST(a_group_is_in_the_order_of_its_ends_whoever_leaves_it) /* X3 */
{
    static const unsigned drops[][4] = {
        {0, 1, 2, 3},
        {3, 2, 1, 0},
        {1, 2, 0, 3},
        {2, 0, 3, 1}
    };

    (void)state;
    begin();
    for (size_t i = 0; i < ARRAY_LEN(drops); i++) {
        struct client_group group = {0};
        struct client_transaction *clients[4];

        for (unsigned j = 0; j < 4; j++) {
            clients[j] = client_of(SIP_OPTIONS, "OPTIONS", pbx());
            assert_int_equal(respond(200, "OPTIONS"), 0);
            assert_true(client_transaction_leave(clients[j], &group));
        }
        for (unsigned j = 0; j < 4; j++) {
            unsigned oldest = 0, youngest = 3;

            while (oldest < 4 && !clients[oldest])
                oldest++;
            while (youngest > 0 && !clients[youngest])
                youngest--;
            assert_ptr_equal(group.first, clients[oldest]);
            assert_ptr_equal(group.last, clients[youngest]);
            assert_int_equal(group.count, 4 - j);
            client_transaction_drop(clients[drops[i][j]]);
            clients[drops[i][j]] = NULL;
        }
        assert_null(group.first);
        assert_null(group.last);
    }
    event_count = 0;
    end();
}

TEST(a_group_that_is_forgotten_is_not_met_again) /* T6 */
{
    struct client_group group = {0};

    (void)state;
    begin();
    for (unsigned i = 0; i < 3; i++) {
        struct client_transaction *client = client_of(SIP_OPTIONS, "OPTIONS", pbx());
        assert_int_equal(respond(200, "OPTIONS"), 0);
        assert_true(client_transaction_leave(client, &group));
    }
    client_group_forget(&group);
    assert_int_equal(group.count, 0);
    assert_null(group.first);
    clock_to(K_OVER);
    assert_int_equal(group.count, 0);
    end();
}

TEST(answered_requests_make_room_in_the_order_of_their_ends) /* X3, T3 */
{
    char rejected[TRANSACTION_ID_SIZE], accepted[TRANSACTION_ID_SIZE];
    char first[TRANSACTION_ID_SIZE], second[TRANSACTION_ID_SIZE];
    struct client_transaction *more;
    struct hop to = pbx();

    (void)state;
    begin_with(4);
    answered(SIP_INVITE, "INVITE", 486, rejected);
    answered(SIP_INVITE, "INVITE", 200, accepted);
    answered(SIP_OPTIONS, "OPTIONS", 200, first);
    answered(SIP_OPTIONS, "OPTIONS", 200, second);
    event_count = 0;
    (void)client_of(SIP_OPTIONS, "OPTIONS", to);
    CHECK_EVENT(0, "ended");
    assert_false(knows(first, 200, "OPTIONS"));
    assert_true(knows(second, 200, "OPTIONS"));
    (void)client_of(SIP_OPTIONS, "OPTIONS", to);
    CHECK_EVENT(0, "ended");
    assert_false(knows(second, 200, "OPTIONS"));
    assert_true(knows(rejected, 486, "INVITE"));
    assert_true(knows(accepted, 200, "INVITE"));
    CHECK_EVENT(0, "200");
    CHECK_SENT("ACK", 0, 0); /* a 486 that comes again has its ACK */

    (void)client_of(SIP_OPTIONS, "OPTIONS", to); /* nothing else is left */
    CHECK_EVENT(0, "ended");
    assert_false(knows(rejected, 486, "INVITE"));
    (void)client_of(SIP_OPTIONS, "OPTIONS", to);
    CHECK_EVENT(0, "ended");
    assert_false(knows(accepted, 200, "INVITE"));
    CHECK_SENT("ACK", 0, 0);
    CHECK_QUIET();
    assert_int_equal(client_transaction_create(table, &to, &user, &owner, now, &more), -ENOSPC);
    assert_int_equal(transactions_given_up(table), 4);
    transactions_destroy(&table);
    timers_destroy(&timers);
}

static void on_response_another(void *of, struct client_transaction *client,
                                struct sip_msg *response, uint64_t at)
{
    struct client_transaction *another;
    struct hop to = pbx();

    (void)client;
    event("%d", response->status);
    assert_int_equal(client_transaction_create(table, &to, &user, of, at, &another), 0);
    client_transaction_drop(another);
}

TEST(one_that_is_told_its_response_may_make_room) /* X3 */
{
    static const struct {
        enum sip_method method;
        const char *name;
        int status;
    } all[] = {
        {SIP_INVITE,  "INVITE",  503},
        {SIP_INVITE,  "INVITE",  200},
        {SIP_OPTIONS, "OPTIONS", 503},
    };
    struct transaction_user another = user;

    (void)state;
    begin_with(1);
    another.response = on_response_another;
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        struct client_transaction *client;
        struct hop to = pbx();

        assert_int_equal(client_transaction_create(table, &to, &another, &owner, now, &client), 0);
        client_transaction_id(client, client_id);
        send_as(client, all[i].method, all[i].name);
        assert_int_equal(respond(all[i].status, all[i].name), 0);
        CHECK_EVENT(0, all[i].status == 200 ? "200" : "503");
        CHECK_EVENT(0, "ended");
        CHECK_QUIET();
    }
    end();
}

/* Whoever is told that one has ended, or that none will answer, may ask for another. */
static void on_failed_another(void *of, struct client_transaction *client, int err, uint64_t at)
{
    struct client_transaction *another;
    struct hop to = pbx();

    (void)client;
    event("failed %d", err);
    assert_int_equal(client_transaction_create(table, &to, &user, of, at, &another), -ENOSPC);
}

static void on_ended_another(void *of, struct client_transaction *client, uint64_t at)
{
    struct client_transaction *another;
    struct hop to = pbx();

    (void)client;
    event("ended", 0);
    assert_int_equal(client_transaction_create(table, &to, &user, of, at, &another), -ENOSPC);
}

TEST(ends_are_told_once_where_room_is_made) /* X3, T5 */
{
    struct transaction_user another = user;
    struct client_transaction *client;
    struct hop to = pbx();

    (void)state;
    begin_with(1);
    another.client_failed = on_failed_another;
    another.client_ended = on_ended_another;
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(client_transaction_create(table, &to, &another, &owner, now, &client), 0);
        client_transaction_id(client, client_id);
        send_as(client, SIP_OPTIONS, "OPTIONS");
        if (i)
            assert_int_equal(respond(200, "OPTIONS"), 0);
        clock_to(UINT64_C(40000) * (i + 1));
    }
    CHECK_EVENT(32000, "failed -110");
    CHECK_EVENT(32000, "ended");
    CHECK_EVENT(40000, "200");
    CHECK_EVENT(40000 + K_OVER, "ended");
    CHECK_QUIET();
    end();
}

TEST(room_is_made_though_memory_is_short)
{
    char one[TRANSACTION_ID_SIZE], two[TRANSACTION_ID_SIZE];
    struct client_transaction *client;
    struct hop to = pbx();
    int err;

    (void)state;
    begin_with(2);
    answered(SIP_OPTIONS, "OPTIONS", 200, one);
    answered(SIP_OPTIONS, "OPTIONS", 200, two);
    event_count = 0;
    memory_fails(1, 1);
    err = client_transaction_create(table, &to, &user, &owner, now, &client);
    memory_is_back();
    assert_true(!err || err == -ENOMEM); /* what was given up may be kept, and do */
    if (!err)
        client_transaction_drop(client);
    CHECK_EVENT(0, "ended");
    assert_false(knows(one, 200, "OPTIONS"));
    assert_true(knows(two, 200, "OPTIONS"));
    clock_to(K_OVER);
    CHECK_EVENT(K_OVER, "ended");
    CHECK_QUIET();
    end();
}

TEST(client_transaction_may_be_dropped_in_any_callback) /* T6 */
{
    (void)state;
    begin();
    drop_in = DROP_IN_RESPONSE;
    (void)client_of(SIP_INVITE, "INVITE", pbx());
    assert_int_equal(respond(180, "INVITE"), 0);
    (void)client_of(SIP_INVITE, "INVITE", pbx());
    assert_int_equal(respond(200, "INVITE"), 0);
    (void)client_of(SIP_INVITE, "INVITE", pbx());
    assert_int_equal(respond(486, "INVITE"), 0);
    (void)client_of(SIP_OPTIONS, "OPTIONS", pbx());
    assert_int_equal(respond(200, "OPTIONS"), 0);
    CHECK_EVENT(0, "180");
    CHECK_EVENT(0, "200");
    CHECK_EVENT(0, "486");
    CHECK_EVENT(0, "200");
    assert_int_equal(transactions_count(table), 0);

    drop_in = DROP_IN_FAILED; /* and client_ended() doesn't follow */
    (void)client_of(SIP_INVITE, "INVITE", on_flow(0));
    clock_to(32000);
    CHECK_EVENT(32000, "failed -110");
    CHECK_QUIET();

    drop_in = DROP_IN_ENDED;
    (void)client_of(SIP_INVITE, "INVITE", on_flow(0));
    clock_to(64000);
    CHECK_EVENT(64000, "failed -110");
    CHECK_EVENT(64000, "ended");
    end();
}

TEST(destroy_ends_everything_without_callbacks)
{
    struct client_transaction *client;
    struct hop to = pbx();

    (void)state;
    begin();
    assert_int_equal(client_transaction_create(table, &to, &user, &owner, now, &client), 0);
    client = client_of(SIP_INVITE, "INVITE", to);
    client_transaction_cancel_with(client, STR("Reason: SIP;cause=200\r\n"), now);
    (void)client_of(SIP_OPTIONS, "OPTIONS", to);
    assert_int_equal(transactions_count(table), 3);
    transactions_destroy(&table);
    timers_run(timers, now + 100000);
    CHECK_QUIET();
    timers_destroy(&timers);
}

TEST(full_heap_fails_a_client_transaction_from_the_next_timers_run)
{
    struct hop to = pbx();
    struct client_transaction *client;

    (void)state;
    for (unsigned at = 1; at <= 2; at++) { /* the slots; the transaction */
        begin();
        memory_fails(at, 1);
        assert_int_equal(client_transaction_create(table, &to, &user, &owner, now, &client),
                         -ENOMEM);
        memory_is_back();
        end();
    }
    begin();
    memory_fails(3, 1);
    (void)client_of(SIP_INVITE, "INVITE", to); /* no copy of the request: it is not sent at all */
    memory_is_back();
    CHECK_QUIET();
    assert_int_equal(sent_count, 0);
    clock_to(0);
    CHECK_EVENT(0, "failed -12");
    CHECK_EVENT(0, "ended");
    end();
}

TEST(cancel_without_memory_for_its_reason_goes_without) /* T4 */
{
    struct client_transaction *client;

    (void)state;
    begin();
    client = client_of(SIP_INVITE, "INVITE", pbx());
    memory_fails(1, 1);
    assert_int_equal(respond(180, "INVITE"), 0); /* the shorter copy is not to be had either */
    client_transaction_cancel_with(client, STR("Reason: SIP;cause=200\r\n"), now);
    memory_is_back();
    CHECK_EVENT(0, "180");
    CHECK_SENT("CANCEL", 0);
    assert_null(strstr(sent[1].text, "Reason"));
    client_transaction_drop(client);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(invite_is_sent_again_with_doubled_time_until_it_fails),
        cmocka_unit_test(provisional_ends_timers_a_and_b),
        cmocka_unit_test(on_a_flow_invite_is_sent_once),
        cmocka_unit_test(ack_for_non_2xx_is_made_of_the_invite),
        cmocka_unit_test(on_a_flow_a_non_2xx_ends_invite_from_the_next_timers_run),
        cmocka_unit_test(every_2xx_reaches_the_user),
        cmocka_unit_test(cancel_waits_for_a_provisional),
        cmocka_unit_test(cancel_before_any_response_ends_with_timer_b),
        cmocka_unit_test(cancel_is_sent_again_until_answered),
        cmocka_unit_test(cancelled_invite_without_final_fails_after_64_t1),
        cmocka_unit_test(provisional_after_cancel_is_told_and_changes_nothing),
        cmocka_unit_test(final_that_crosses_cancel_counts),
        cmocka_unit_test(final_before_any_provisional_needs_no_cancel),
        cmocka_unit_test(on_a_flow_the_end_waits_for_the_answer_to_cancel),
        cmocka_unit_test(only_invite_that_was_sent_is_cancelled),
        cmocka_unit_test(request_is_sent_again_at_most_every_t2_until_it_fails),
        cmocka_unit_test(provisional_slows_a_request_down_to_t2),
        cmocka_unit_test(final_is_told_once),
        cmocka_unit_test(on_a_flow_a_request_is_sent_once_and_its_final_ends_it),
        cmocka_unit_test(over_tcp_nothing_is_sent_again_and_finals_end),
        cmocka_unit_test(mailboxes_lose_messages_as_a_network_does),
        cmocka_unit_test(response_must_come_from_where_the_request_went),
        cmocka_unit_test(response_must_have_branch_and_method_of_the_request),
        cmocka_unit_test(all_of_the_branch_comes_back),
        cmocka_unit_test(late_response_never_meets_the_next_owner_of_the_slot),
        cmocka_unit_test(send_error_is_told_from_the_next_timers_run),
        cmocka_unit_test(retransmission_that_cannot_be_sent_fails),
        cmocka_unit_test(response_between_a_send_error_and_its_report_is_not_told),
        cmocka_unit_test(client_transactions_are_limited),
        cmocka_unit_test(answered_requests_end_in_their_order_by_one_timer),
        cmocka_unit_test(one_that_was_left_absorbs_and_tells_nothing),
        cmocka_unit_test(a_group_is_in_the_order_of_its_ends_whoever_leaves_it),
        cmocka_unit_test(a_group_that_is_forgotten_is_not_met_again),
        cmocka_unit_test(answered_requests_make_room_in_the_order_of_their_ends),
        cmocka_unit_test(one_that_is_told_its_response_may_make_room),
        cmocka_unit_test(ends_are_told_once_where_room_is_made),
        cmocka_unit_test(room_is_made_though_memory_is_short),
        cmocka_unit_test(client_transaction_may_be_dropped_in_any_callback),
        cmocka_unit_test(destroy_ends_everything_without_callbacks),
        cmocka_unit_test(full_heap_fails_a_client_transaction_from_the_next_timers_run),
        cmocka_unit_test(cancel_without_memory_for_its_reason_goes_without),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

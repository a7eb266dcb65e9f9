#include "transaction_harness.h"

#define INVITE "z9hG4bKinvite"

/* A request as it comes in; ACK and CANCEL of an INVITE have its branch. */
static struct sip_msg *request(const char *method, const char *branch)
{
    return scan("%s sip:bob@example.com SIP/2.0\r\n"
                "Via: SIP/2.0/UDP pbx.example.com:5060;branch=%s\r\n"
                "Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKother\r\n"
                "From: <sip:alice@example.com>;tag=from\r\n"
                "To: <sip:bob@example.com>\r\n"
                "Call-ID: call@example.com\r\n"
                "CSeq: 7 %s\r\n"
                "Max-Forwards: 70\r\n"
                "Timestamp: 54\r\n"
                "Content-Length: 0\r\n\r\n",
                method, branch, method);
}

static struct server_transaction *server_of(const char *method, const char *branch, struct hop from)
{
    struct server_transaction *server = NULL;

    assert_false(transactions_absorb(table, request(method, branch), &from, now));
    assert_int_equal(server_transaction_create(table, request(method, branch), &from, &user, &owner,
                                               now, &server),
                     0);
    assert_int_equal(server_transaction_status(server), 0);
    return server;
}

static bool absorb(const char *method, const char *branch, struct hop from)
{
    return transactions_absorb(table, request(method, branch), &from, now);
}

static void respond_486(struct server_transaction *server)
{
    server_transaction_send(server, 486, STR("SIP/2.0 486 Busy Here\r\n\r\n"), now);
}

static void respond_200(struct server_transaction *server)
{
    server_transaction_send(server, 200, STR("SIP/2.0 200 OK\r\n\r\n"), now);
}

/* ---- INVITE ---- */

TEST(final_to_invite_is_sent_again_until_ack) /* T1, T3 */
{
    struct server_transaction *server;

    (void)state;
    begin();
    server = server_of("INVITE", INVITE, pbx());
    respond_486(server);
    assert_int_equal(server_transaction_status(server), 486);
    clock_to(8000);
    CHECK_SENT("SIP/2.0 486", 0, 500, 1500, 3500, 7500); /* G */
    assert_true(absorb("ACK", INVITE, pbx()));
    assert_true(absorb("ACK", INVITE, pbx()));
    assert_true(absorb("INVITE", INVITE, pbx())); /* Confirmed: nothing more to say */
    clock_to(12999);
    assert_int_equal(sent_count, 5);
    CHECK_QUIET();
    clock_to(13000);
    CHECK_EVENT(13000, "server ended"); /* I */
    end();
}

TEST(lost_ack_ends_invite_after_64_t1) /* T3 */
{
    (void)state;
    begin();
    respond_486(server_of("INVITE", INVITE, pbx()));
    clock_to(31999);
    CHECK_SENT("SIP/2.0 486", 0, 500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500);
    CHECK_QUIET();
    clock_to(32000);
    CHECK_EVENT(32000, "server ended"); /* H */
    assert_false(absorb("ACK", INVITE, pbx()));
    end();
}

TEST(on_a_flow_nothing_is_sent_twice_and_ack_ends_invite) /* T1 */
{
    (void)state;
    begin();
    respond_486(server_of("INVITE", INVITE, on_flow(0)));
    clock_to(20000);
    CHECK_SENT("SIP/2.0 486", 0);
    assert_true(absorb("ACK", INVITE, on_flow(0)));
    CHECK_QUIET(); /* callbacks come from timers_run() alone */
    clock_to(20000);
    CHECK_EVENT(20000, "server ended");

    respond_486(server_of("INVITE", INVITE, on_flow(0)));
    clock_to(51999);
    CHECK_QUIET();
    clock_to(52000);
    CHECK_EVENT(52000, "server ended"); /* H, where the ACK never comes */
    end();
}

TEST(accepted_passes_2xx_and_ack_and_absorbs_invite) /* T3, RFC 6026 7.1 */
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
        struct hop from = sides[i].flow ? on_flow(0) : pbx();
        struct server_transaction *server;
        uint64_t at = sides[i].at;

        clock_to(at);
        sent_count = 0;
        server = server_of("INVITE", INVITE, from);
        respond_200(server);
        assert_true(absorb("INVITE", INVITE, from)); /* without an answer */
        assert_false(absorb("ACK", INVITE, from));   /* goes on to the UAS */
        clock_to(at + 500);
        respond_200(server);
        respond_486(server);
        server_transaction_send(server, 180, STR("SIP/2.0 180 Ringing\r\n\r\n"), now);
        server_transaction_reply(server, 408, NULL, STR(""), now);
        assert_int_equal(server_transaction_status(server), 200);
        clock_to(at + 31999);
        assert_int_equal(sent_count, 2);
        CHECK_SENT("SIP/2.0 200", at, at + 500);
        CHECK_QUIET();
        clock_to(at + 32000);
        CHECK_EVENT(at + 32000, "server ended"); /* L: counts from the first 2xx */
    }
    end();
}

TEST(retransmitted_invite_gets_the_last_response) /* T2, T8 */
{
    struct server_transaction *server;

    (void)state;
    begin();
    server = server_of("INVITE", INVITE, pbx());
    assert_true(absorb("INVITE", INVITE, pbx()));
    assert_int_equal(sent_count, 0); /* there is none yet */
    server_transaction_reply(server, 100, NULL, STR(""), now);
    clock_to(100);
    assert_true(absorb("INVITE", INVITE, pbx()));
    server_transaction_send(server, 180, STR("SIP/2.0 180 Ringing\r\n\r\n"), now);
    clock_to(200);
    assert_true(absorb("INVITE", INVITE, pbx()));
    assert_true(absorb("ACK", INVITE, pbx())); /* for nothing that was sent: not forwarded */
    respond_486(server);
    clock_to(300);
    assert_true(absorb("INVITE", INVITE, pbx()));
    CHECK_SENT("SIP/2.0 100", 0, 100);
    CHECK_SENT("SIP/2.0 180", 100, 200);
    CHECK_SENT("SIP/2.0 486", 200, 300);
    server_transaction_drop(server);
    CHECK_QUIET();
    end();
}

/* ---- other methods ---- */

TEST(retransmitted_request_gets_the_last_response) /* T8 */
{
    struct server_transaction *server;

    (void)state;
    begin();
    server = server_of("MESSAGE", "z9hG4bKm", pbx());
    assert_true(absorb("MESSAGE", "z9hG4bKm", pbx()));
    assert_int_equal(sent_count, 0);
    server_transaction_send(server, 100, STR("SIP/2.0 100 Trying\r\n\r\n"), now);
    assert_true(absorb("MESSAGE", "z9hG4bKm", pbx()));
    clock_to(1000);
    respond_200(server);
    respond_486(server); /* after the final: ignored */
    respond_200(server);
    clock_to(2000);
    assert_true(absorb("MESSAGE", "z9hG4bKm", pbx()));
    CHECK_SENT("SIP/2.0 100", 0, 0);
    CHECK_SENT("SIP/2.0 200", 1000, 2000);
    CHECK_NOT_SENT("SIP/2.0 486");
    clock_to(999 + J_OVER);
    CHECK_QUIET();
    clock_to(1000 + J_OVER);
    CHECK_EVENT(1000 + J_OVER, "server ended");
    assert_false(absorb("MESSAGE", "z9hG4bKm", pbx()));
    end();
}

TEST(on_a_flow_the_final_ends_it_from_the_next_timers_run) /* T1 */
{
    (void)state;
    begin();
    respond_200(server_of("MESSAGE", "z9hG4bKm", on_flow(0)));
    CHECK_QUIET();
    clock_to(0);
    CHECK_EVENT(0, "server ended"); /* J is zero */
    end();
}

TEST(send_error_changes_nothing) /* T8 */
{
    struct server_transaction *server;

    (void)state;
    begin();
    server = server_of("MESSAGE", "z9hG4bKm", pbx());
    send_error = -ENOBUFS;
    respond_200(server);
    send_error = 0;
    assert_true(absorb("MESSAGE", "z9hG4bKm", pbx()));
    CHECK_SENT("SIP/2.0 200", 0, 0);
    clock_to(J_OVER);
    CHECK_EVENT(J_OVER, "server ended");
    end();
}

/* ---- matching ---- */

TEST(key_is_branch_sent_by_method_and_hop) /* T8, RFC 3261 17.2.3 */
{
    static const struct {
        const char *what, *method, *branch;
        bool found;
    } rows[] = {
        {"the same",      "INVITE", INVITE,            true },
        {"its ACK",       "ACK",    INVITE,            true },
        {"its CANCEL",    "CANCEL", INVITE,            false},
        {"other method",  "BYE",    INVITE,            false},
        {"other branch",  "INVITE", "z9hG4bKinvitf",   false},
        {"longer branch", "INVITE", "z9hG4bKinvite.1", false},
    };

    (void)state;
    begin();
    struct server_transaction *server = server_of("INVITE", INVITE, pbx());
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (absorb(rows[i].method, rows[i].branch, pbx()) != rows[i].found)
            fail_msg("%s", rows[i].what);
    server_transaction_drop(server);
    end();
}

TEST(transaction_of_another_hop_is_not_met) /* R7, T8 */
{
    const struct hop hops[] = {on_flow(0),
                               on_flow(1),
                               on_udp(0x0A000005, 5060),
                               on_udp(0x0A000006, 5060),
                               on_udp6(1, 5060),
                               on_udp6(2, 5060),
                               {.core = {.kind = CORE_EMBEDDED}},
                               {.core = {.kind = CORE_SELF}}};
    struct server_transaction *servers[ARRAY_LEN(hops)];

    (void)state;
    begin();
    for (size_t i = 0; i < ARRAY_LEN(hops); i++)
        servers[i] = server_of("INVITE", INVITE, hops[i]);
    for (size_t i = 0; i < ARRAY_LEN(hops); i++)
        assert_ptr_equal(transactions_cancelled(table, request("CANCEL", INVITE), &hops[i]),
                         servers[i]);
    assert_true(absorb("INVITE", INVITE, on_udp(0x0A000005, 5070))); /* the port is free */
    assert_true(absorb("INVITE", INVITE, on_udp6(2, 5070)));
    for (size_t i = 0; i < ARRAY_LEN(hops); i++)
        server_transaction_drop(servers[i]);
    end();
}

TEST(sent_by_is_compared_without_case) /* RFC 3261 17.2.3 */
{
    static const struct {
        const char *sent_by;
        bool found;
    } rows[] = {
        {"pbx.example.com:5060", true },
        {"PBX.Example.COM:5060", true },
        {"pbx.example.com:5061", false},
        {"pbx.example.com",      false},
    };
    struct hop from = pbx();

    (void)state;
    begin();
    struct server_transaction *server = server_of("INVITE", INVITE, from);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct sip_msg *invite = scan("INVITE sip:bob@example.com SIP/2.0\r\n"
                                      "Via: SIP/2.0/UDP %s;branch=" INVITE "\r\n"
                                      "From: <sip:alice@example.com>;tag=from\r\n"
                                      "To: <sip:bob@example.com>\r\n"
                                      "Call-ID: call@example.com\r\n"
                                      "CSeq: 7 INVITE\r\n\r\n",
                                      rows[i].sent_by);
        assert_int_equal(transactions_absorb(table, invite, &from, now), rows[i].found);
    }
    server_transaction_drop(server);
    end();
}

TEST(cancel_finds_its_invite_and_is_a_transaction_of_its_own) /* T4 */
{
    struct server_transaction *invite, *cancel;
    struct hop from = pbx();

    (void)state;
    begin();
    invite = server_of("INVITE", INVITE, from);
    cancel = server_of("CANCEL", INVITE, from);
    assert_ptr_equal(transactions_cancelled(table, request("CANCEL", INVITE), &from), invite);
    assert_null(transactions_cancelled(table, request("CANCEL", "z9hG4bKnone"), &from));
    server_transaction_reply(cancel, 200, NULL, STR(""), now);
    server_transaction_reply(invite, 487, NULL, STR(""), now);
    clock_to(100);
    assert_true(absorb("CANCEL", INVITE, from));
    CHECK_SENT("SIP/2.0 200 OK", 0, 100);
    CHECK_SENT("SIP/2.0 487 Request Terminated", 0);
    assert_true(absorb("ACK", INVITE, from));
    clock_to(5100);
    CHECK_EVENT(5100, "server ended"); /* I */
    clock_to(J_OVER);
    CHECK_EVENT(J_OVER, "server ended");
    end();
}

static struct sip_msg *old_request(const char *method, const char *uri, const char *call_id,
                                   int cseq, const char *to_tag)
{
    return scan("%s %s SIP/2.0\r\n"
                "Via: SIP/2.0/UDP old.example.com\r\n"
                "From: <sip:alice@example.com>\r\n"
                "To: <sip:bob@example.com>%s\r\n"
                "Call-ID: %s\r\n"
                "CSeq: %d %s\r\n\r\n",
                method, uri, to_tag, call_id, cseq, method);
}

TEST(peer_without_magic_cookie_is_matched_by_what_it_has) /* V1, T8, RFC 3261 17.2.3 */
{
    static const char uri[] = "sip:bob@example.com";
    static const char busy[] = "SIP/2.0 486 Busy Here\r\n"
                               "Via: SIP/2.0/UDP old.example.com\r\n"
                               "From: <sip:alice@example.com>\r\n"
                               "To: <sip:bob@example.com>;tag=busy\r\n"
                               "Call-ID: one\r\n"
                               "CSeq: 7 INVITE\r\n\r\n";
    static const struct {
        const char *method, *uri, *call_id;
        int cseq;
        const char *to_tag;
        bool found;
    } rows[] = {
        {"INVITE", uri,                   "one", 7, "",          true },
        {"INVITE", "sip:eve@example.com", "one", 7, "",          false},
        {"INVITE", uri,                   "two", 7, "",          false},
        {"INVITE", uri,                   "one", 8, "",          false},
        {"INVITE", uri,                   "one", 7, ";tag=x",    false},
        {"BYE",    uri,                   "one", 7, "",          false},
        {"ACK",    uri,                   "one", 7, ";tag=x",    false},
        {"ACK",    uri,                   "one", 8, ";tag=busy", false},
        {"ACK",    uri,                   "one", 7, ";tag=busy", true },
        {"ACK",    uri,                   "one", 7, ";tag=busy", true },
    };
    struct server_transaction *server;
    struct hop from = pbx();

    (void)state;
    begin();
    assert_int_equal(server_transaction_create(table, old_request("INVITE", uri, "one", 7, ""),
                                               &from, &user, &owner, now, &server),
                     0);
    assert_ptr_equal(transactions_cancelled(table, old_request("CANCEL", uri, "one", 7, ""), &from),
                     server);
    assert_null(transactions_cancelled(table, old_request("CANCEL", uri, "one", 8, ""), &from));
    server_transaction_send(server, 486, str_of(busy), now);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct sip_msg *msg =
            old_request(rows[i].method, rows[i].uri, rows[i].call_id, rows[i].cseq, rows[i].to_tag);
        if (transactions_absorb(table, msg, &from, now) != rows[i].found)
            fail_msg("row %zu", i);
    }
    clock_to(5000);
    CHECK_EVENT(5000, "server ended");
    end();
}

TEST(cookie_with_nothing_after_it_is_no_identifier) /* RFC 4475 3.2.1 */
{
    struct server_transaction *server;
    struct hop from = pbx();

    (void)state;
    begin();
    server = server_of("OPTIONS", "z9hG4bK", from);
    assert_true(absorb("OPTIONS", "z9hG4bK", from));
    struct sip_msg *other = request("OPTIONS", "z9hG4bK");
    other->cseq++;
    assert_false(transactions_absorb(table, other, &from, now));
    server_transaction_drop(server);
    end();
}

/* ---- responses of its own ---- */

static const char *to_line(unsigned i)
{
    static char line[128];
    const char *begin = strstr(sent[i].text, "\r\nTo: ");

    assert_non_null(begin);
    (void)snprintf(line, sizeof(line), "%.*s", (int)strcspn(begin + 2, "\r"), begin + 2);
    return line;
}

TEST(own_responses_have_one_to_tag_and_a_100_has_none) /* T2, RFC 3261 8.2.6 */
{
    struct server_transaction *server;
    char tagged[128];

    (void)state;
    begin();
    server = server_of("INVITE", INVITE, pbx());
    server_transaction_reply(server, 100, NULL, STR(""), now);
    server_transaction_reply(server, 181, NULL, STR(""), now);
    server_transaction_reply(server, 430, "Gone", STR("Retry-After: 5\r\n"), now);
    assert_int_equal(sent_count, 3);

    assert_string_equal(to_line(0), "To: <sip:bob@example.com>");
    (void)snprintf(tagged, sizeof(tagged), "%s", to_line(1));
    assert_int_equal(strlen(tagged), strlen("To: <sip:bob@example.com>;tag=") + 16);
    assert_string_equal(to_line(2), tagged);
    assert_non_null(strstr(sent[0].text, "SIP/2.0 100 Trying\r\n"));
    assert_non_null(strstr(sent[0].text, "\r\nTimestamp: 54"));
    assert_non_null(strstr(sent[2].text, "SIP/2.0 430 Gone\r\n"));
    assert_non_null(strstr(sent[2].text, "\r\nRetry-After: 5\r\n"));
    for (unsigned i = 0; i < sent_count; i++) {
        const char *via = strstr(sent[i].text, "pbx.example.com:5060;branch=" INVITE);
        assert_non_null(via);
        assert_non_null(strstr(via, "Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKother\r\n"));
        assert_non_null(strstr(sent[i].text, "\r\nCSeq: 7 INVITE\r\n"));
        assert_non_null(strstr(sent[i].text, "\r\nCall-ID: call@example.com\r\n"));
        assert_non_null(strstr(sent[i].text, "\r\nFrom: <sip:alice@example.com>;tag=from\r\n"));
    }
    server_transaction_drop(server);
    end();
}

/* ---- limits and lifetimes ---- */

TEST(server_transactions_are_limited)
{
    struct server_transaction *servers[3];
    struct hop from = pbx();

    (void)state;
    begin_with(2);
    servers[0] = server_of("INVITE", "z9hG4bK0", from);
    servers[1] = server_of("INVITE", "z9hG4bK1", from);
    assert_int_equal(server_transaction_create(table, request("INVITE", "z9hG4bK2"), &from, &user,
                                               &owner, now, &servers[2]),
                     -ENOSPC);
    server_transaction_drop(servers[0]);
    servers[2] = server_of("INVITE", "z9hG4bK2", from);
    assert_int_equal(transactions_count(table), 2);
    server_transaction_drop(servers[1]);
    server_transaction_drop(servers[2]);
    end();
}

/* The table is full, and this is one more: is there room for it? */
static bool has_room(const char *branch)
{
    struct server_transaction *server;
    struct hop from = pbx();
    int err;

    assert_false(absorb("OPTIONS", branch, from));
    err = server_transaction_create(table, request("OPTIONS", branch), &from, &user, &owner, now,
                                    &server);
    assert_true(!err || err == -ENOSPC);
    return !err;
}

static void table_destroy(void)
{
    transactions_destroy(&table);
    timers_destroy(&timers);
}

TEST(answered_requests_end_in_their_order_by_one_timer) /* T8 */
{
    struct server_transaction *dropped;

    (void)state;
    begin();
    dropped = server_of("MESSAGE", "z9hG4bK1", pbx());
    respond_200(dropped);
    clock_to(100);
    respond_200(server_of("MESSAGE", "z9hG4bK2", pbx()));
    respond_200(server_of("MESSAGE", "z9hG4bK3", pbx()));
    assert_int_equal(timers_count(timers), 1);
    respond_200(server_of("MESSAGE", "z9hG4bK4", on_flow(0))); /* has nothing to wait for */
    respond_486(server_of("INVITE", "z9hG4bK5", pbx()));
    assert_true(absorb("ACK", "z9hG4bK5", pbx())); /* ends before those that are older */
    clock_to(250);
    CHECK_EVENT(100, "server ended");
    respond_200(server_of("MESSAGE", "z9hG4bK6", pbx()));
    server_transaction_drop(dropped); /* the first one */
    clock_to(40000);
    CHECK_EVENT(5100, "server ended");
    CHECK_EVENT(J_OVER, "server ended"); /* when the one that was dropped would have */
    CHECK_EVENT(J_OVER, "server ended");
    CHECK_EVENT(250 + J_OVER, "server ended");
    CHECK_QUIET();
    end();
}

TEST(answered_requests_make_room_in_the_order_of_their_ends) /* X3 */
{
    struct server_transaction *first, *second;

    (void)state;
    begin_with(4);
    first = server_of("MESSAGE", "z9hG4bK1", pbx());
    second = server_of("MESSAGE", "z9hG4bK2", pbx());
    (void)server_of("MESSAGE", "z9hG4bK3", pbx());
    respond_200(second);
    respond_200(first);
    respond_200(server_of("MESSAGE", "z9hG4bK4", on_flow(0)));
    assert_true(has_room("z9hG4bK5"));
    CHECK_EVENT(0, "server ended");
    CHECK_QUIET();
    assert_true(absorb("MESSAGE", "z9hG4bK1", pbx()));
    assert_false(absorb("MESSAGE", "z9hG4bK2", pbx()));
    assert_true(has_room("z9hG4bK6"));
    assert_false(absorb("MESSAGE", "z9hG4bK1", pbx()));
    assert_true(has_room("z9hG4bK7"));
    assert_false(absorb("MESSAGE", "z9hG4bK4", on_flow(0)));
    assert_int_equal(event_count, 2);
    assert_int_equal(transactions_given_up(table), 3);

    assert_false(has_room("z9hG4bK8")); /* all are open */
    assert_true(absorb("MESSAGE", "z9hG4bK3", pbx()));
    assert_int_equal(event_count, 2);
    assert_int_equal(transactions_count(table), 4);
    table_destroy();
}

TEST(invites_make_room_last) /* X3, T3 */
{
    (void)state;
    begin_with(4);
    respond_486(server_of("INVITE", "z9hG4bK1", pbx()));
    respond_200(server_of("INVITE", "z9hG4bK2", pbx()));
    respond_486(server_of("INVITE", "z9hG4bK3", pbx()));
    respond_200(server_of("MESSAGE", "z9hG4bK4", pbx()));
    assert_true(absorb("ACK", "z9hG4bK3", pbx())); /* nothing is owed to that one any more */
    assert_true(has_room("z9hG4bK5"));
    assert_false(absorb("MESSAGE", "z9hG4bK4", pbx()));
    assert_true(has_room("z9hG4bK6"));
    assert_false(absorb("INVITE", "z9hG4bK3", pbx()));
    assert_true(has_room("z9hG4bK7"));
    assert_false(absorb("INVITE", "z9hG4bK1", pbx()));
    assert_true(absorb("INVITE", "z9hG4bK2", pbx()));
    assert_true(has_room("z9hG4bK8"));
    assert_false(absorb("INVITE", "z9hG4bK2", pbx()));
    assert_false(has_room("z9hG4bK9"));
    table_destroy();
}

TEST(what_comes_again_after_giving_up_does_no_harm) /* T3, T8, X3 */
{
    struct server_transaction *server;

    (void)state;
    begin_with(1);
    respond_486(server_of("INVITE", INVITE, pbx()));
    server = server_of("MESSAGE", "z9hG4bKm", pbx());
    CHECK_EVENT(0, "server ended");
    assert_false(absorb("ACK", INVITE, pbx()));
    assert_false(absorb("INVITE", INVITE, pbx())); /* a new one, for which there is no room */
    clock_to(40000);
    CHECK_SENT("SIP/2.0 486", 0);
    CHECK_QUIET();
    server_transaction_drop(server);
    end();
}

TEST(table_that_became_smaller_gives_one_up_for_each_new_one)
{
    char branch[32];

    (void)state;
    begin_with(8);
    for (unsigned i = 0; i < 8; i++) {
        (void)snprintf(branch, sizeof(branch), "z9hG4bK%u", i);
        respond_200(server_of("MESSAGE", branch, pbx()));
    }
    transactions_max_set(table, 3);
    assert_int_equal(transactions_count(table), 8);
    assert_true(has_room("z9hG4bKmore"));
    assert_int_equal(transactions_count(table), 8);
    assert_true(absorb("MESSAGE", "z9hG4bK1", pbx()));
    clock_to(J_OVER);
    assert_int_equal(transactions_count(table), 1);
    table_destroy();
}

TEST(room_is_made_though_memory_is_short)
{
    struct server_transaction *server;
    struct hop from = pbx();
    int err;

    (void)state;
    begin_with(2);
    respond_200(server_of("MESSAGE", "z9hG4bK1", from));
    respond_200(server_of("MESSAGE", "z9hG4bK2", from));
    memory_fails(1, 1);
    err = server_transaction_create(table, request("OPTIONS", "z9hG4bK3"), &from, &user, &owner,
                                    now, &server);
    memory_is_back();
    assert_true(!err || err == -ENOMEM); /* what was given up may be kept, and do */
    if (!err)
        server_transaction_drop(server);
    CHECK_EVENT(0, "server ended");
    assert_true(absorb("MESSAGE", "z9hG4bK2", from));
    assert_true(has_room("z9hG4bK3"));
    CHECK_QUIET();
    table_destroy();
}

TEST(thousands_of_transactions_are_told_apart)
{
    struct hop from = pbx();
    char branch[32];

    (void)state;
    begin_with(5000);
    for (unsigned i = 0; i < 5000; i++) {
        (void)snprintf(branch, sizeof(branch), "z9hG4bK%u", i);
        (void)server_of("OPTIONS", branch, from);
    }
    for (unsigned i = 0; i < 5000; i++) {
        (void)snprintf(branch, sizeof(branch), "z9hG4bK%u", i);
        assert_true(absorb("OPTIONS", branch, from));
    }
    assert_int_equal(transactions_count(table), 5000);
    transactions_destroy(&table); /* whatever is left goes too, without a word */
    CHECK_QUIET();
    timers_destroy(&timers);
}

TEST(server_transaction_may_be_dropped_in_its_server_ended)
{
    (void)state;
    begin();
    drop_in = DROP_IN_ENDED;
    respond_200(server_of("MESSAGE", "z9hG4bKm", on_flow(0)));
    clock_to(0);
    CHECK_EVENT(0, "server ended");
    assert_int_equal(sent_count, 1); /* what was tried in server_ended() came too late */
    end();
}

TEST(destroy_ends_everything_without_callbacks)
{
    (void)state;
    begin();
    respond_486(server_of("INVITE", INVITE, pbx()));
    respond_200(server_of("MESSAGE", "z9hG4bKm", on_flow(0)));
    (void)server_of("INVITE", "z9hG4bKi", on_flow(1));
    assert_int_equal(transactions_count(table), 3);
    transactions_destroy(&table);
    timers_run(timers, now + 100000);
    CHECK_QUIET();
    timers_destroy(&timers);
}

TEST(full_heap_refuses_a_transaction_and_harms_no_other)
{
    enum { COUNT = 2000 };
    static bool there[COUNT];
    struct server_transaction *server;
    struct hop from = pbx();
    unsigned refused = 0;
    char branch[32];

    (void)state;
    for (unsigned every = 1; every < 8; every++) { /* the hash table's own growth fails as well */
        begin_with(COUNT);
        memory_fails(every, every);
        for (unsigned i = 0; i < COUNT; i++) {
            (void)snprintf(branch, sizeof(branch), "z9hG4bK%u", i);
            int err = server_transaction_create(table, request("OPTIONS", branch), &from, &user,
                                                &owner, now, &server);
            assert_true(!err || err == -ENOMEM);
            there[i] = !err;
            refused += err != 0;
        }
        memory_is_back();
        for (unsigned i = 0; i < COUNT; i++) {
            (void)snprintf(branch, sizeof(branch), "z9hG4bK%u", i);
            assert_int_equal(absorb("OPTIONS", branch, from), there[i]);
        }
        transactions_destroy(&table);
        timers_destroy(&timers);
    }
    assert_true(refused > COUNT);
}

TEST(response_without_memory_for_its_copy_is_sent_once) /* T8 */
{
    struct server_transaction *server;

    (void)state;
    begin();
    server = server_of("INVITE", INVITE, pbx());
    memory_fails(1, 1);
    respond_486(server);
    memory_is_back();
    assert_true(absorb("INVITE", INVITE, pbx()));
    clock_to(32000);
    CHECK_SENT("SIP/2.0 486", 0);
    CHECK_EVENT(32000, "server ended");
    end();
}

TEST(table_without_memory_is_not_made)
{
    struct transactions_options options = {.max = 1, .send = record_send};
    struct transactions *none = NULL;
    unsigned at = 1;

    (void)state;
    assert_int_equal(timers_create(0, &timers), 0);
    options.timers = timers;
    for (int err = -ENOMEM; err; at++) {
        memory_fails(at, UINT16_MAX);
        err = transactions_create(&options, &none);
        memory_is_back();
        assert_true(err == -ENOMEM || (!err && at == 5));
    }
    transactions_destroy(&none);
    timers_destroy(&timers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(final_to_invite_is_sent_again_until_ack),
        cmocka_unit_test(lost_ack_ends_invite_after_64_t1),
        cmocka_unit_test(on_a_flow_nothing_is_sent_twice_and_ack_ends_invite),
        cmocka_unit_test(accepted_passes_2xx_and_ack_and_absorbs_invite),
        cmocka_unit_test(retransmitted_invite_gets_the_last_response),
        cmocka_unit_test(retransmitted_request_gets_the_last_response),
        cmocka_unit_test(on_a_flow_the_final_ends_it_from_the_next_timers_run),
        cmocka_unit_test(send_error_changes_nothing),
        cmocka_unit_test(key_is_branch_sent_by_method_and_hop),
        cmocka_unit_test(transaction_of_another_hop_is_not_met),
        cmocka_unit_test(sent_by_is_compared_without_case),
        cmocka_unit_test(cancel_finds_its_invite_and_is_a_transaction_of_its_own),
        cmocka_unit_test(peer_without_magic_cookie_is_matched_by_what_it_has),
        cmocka_unit_test(cookie_with_nothing_after_it_is_no_identifier),
        cmocka_unit_test(own_responses_have_one_to_tag_and_a_100_has_none),
        cmocka_unit_test(server_transactions_are_limited),
        cmocka_unit_test(answered_requests_end_in_their_order_by_one_timer),
        cmocka_unit_test(answered_requests_make_room_in_the_order_of_their_ends),
        cmocka_unit_test(invites_make_room_last),
        cmocka_unit_test(what_comes_again_after_giving_up_does_no_harm),
        cmocka_unit_test(table_that_became_smaller_gives_one_up_for_each_new_one),
        cmocka_unit_test(room_is_made_though_memory_is_short),
        cmocka_unit_test(thousands_of_transactions_are_told_apart),
        cmocka_unit_test(server_transaction_may_be_dropped_in_its_server_ended),
        cmocka_unit_test(destroy_ends_everything_without_callbacks),
        cmocka_unit_test(full_heap_refuses_a_transaction_and_harms_no_other),
        cmocka_unit_test(response_without_memory_for_its_copy_is_sent_once),
        cmocka_unit_test(table_without_memory_is_not_made),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

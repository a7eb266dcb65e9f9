/* Several backends, some of which fail: what the client hears, and what the backends get. The
 * first is asked first, then the second, then the third. */
#include <errno.h>

#include "calls.h"

enum { FIRST, SECOND, THIRD, COUNT };

static const char *const methods[] = {"INVITE", "REGISTER", "OPTIONS", "MESSAGE"};

static int setup(void **state)
{
    (void)state;
    edge_setup(&edge, false);
    edge_backends(&edge, COUNT);
    for (unsigned i = 0; i < COUNT; i++)
        health_up(&edge.health, i); /* as probes have found */
    alice = edge_client(&edge, 0, "TLS");
    bob = edge_client(&edge, 1, "WSS");
    return 0;
}

static int setup_probes(void **state)
{
    (void)state;
    edge_setup(&edge, false);
    edge.probes = true;
    edge_backends(&edge, COUNT);
    for (unsigned i = 0; i < COUNT; i++)
        health_up(&edge.health, i);
    return 0;
}

static int teardown_probes(void **state)
{
    (void)state;
    edge.probes = false;
    edge_start(&edge);
    edge_teardown(&edge);
    return 0;
}

/* ---- what was sent ---- */

static bool starts_with(const char *message, const char *start)
{
    return strncmp(message, start, strlen(start)) == 0;
}

/* The last message to a backend that begins so; NULL: none. And how many. */
static const char *got(unsigned backend, const char *start)
{
    const struct core_addr to = edge_backend(backend);

    for (unsigned i = edge.core.count; i-- > 0;)
        if (core_addr_same_host(&edge.core.to[i], &to) && starts_with(edge.core.messages[i], start))
            return edge.core.messages[i];
    return NULL;
}

static unsigned got_count(unsigned backend, const char *start)
{
    const struct core_addr to = edge_backend(backend);
    unsigned count = 0;

    for (unsigned i = 0; i < edge.core.count; i++)
        count +=
            core_addr_same_host(&edge.core.to[i], &to) && starts_with(edge.core.messages[i], start);
    return count;
}

/* A backend answers the last request of that method that it got. */
static void answer(unsigned backend, const char *method, const char *status, const char *more)
{
    const char *request = got(backend, method);

    assert_non_null(request);
    edge.pbx = edge_backend(backend);
    edge_from_core(&edge, "%s", response_to(request, status, "b", more));
}

static void refuse(unsigned backend)
{
    const struct core_addr addr = edge_backend(backend);

    proxy_core_lost(edge.proxy, &addr, false, -ECONNREFUSED, edge.now);
    edge_wait(&edge, 0);
}

/* Final responses that alice got. */
static unsigned finals(void)
{
    unsigned count = 0;

    for (unsigned i = 0; i < alice->inbox.count; i++)
        count +=
            starts_with(alice->inbox.messages[i], "SIP/2.0 ") && alice->inbox.messages[i][8] >= '2';
    return count;
}

static void assert_final(const char *status)
{
    assert_int_equal(finals(), 1);
    assert_non_null(strstr(start_line(inbox_last(&alice->inbox)), status));
}

static unsigned request_serial, request_first; /* Call-ID tryN */

static void request(const char *method)
{
    unsigned serial = ++request_serial;

    edge_from_client(alice,
                     "%s sip:%s@sip.test SIP/2.0\n"
                     "Via: SIP/2.0/TLS client.invalid;branch=z9hG4bKtry%u;rport\n"
                     "Max-Forwards: 70\nFrom: <sip:alice@sip.test>;tag=a\n"
                     "To: <sip:%s@sip.test>\nCall-ID: try%u\nCSeq: 7 %s\n"
                     "Contact: <sip:alice@client.invalid;transport=ws>\n\nbody",
                     method, "bob", serial, strcmp(method, "REGISTER") ? "bob" : "alice", serial,
                     method);
}

static void cancel(void)
{
    const char *invite = got(FIRST, "INVITE");
    const char *branch = between(header_of(invite, "Via", 1), "branch=", ";");

    edge_from_client(alice,
                     "CANCEL sip:bob@sip.test SIP/2.0\n"
                     "Via: SIP/2.0/TLS client.invalid;branch=%s;rport\n"
                     "Max-Forwards: 70\nFrom: <sip:alice@sip.test>;tag=a\nTo: <sip:bob@sip.test>\n"
                     "Call-ID: %s\nCSeq: 7 CANCEL",
                     branch, header_of(invite, "Call-ID", 0));
}

/* ---- how a backend fails ---- */

enum failure { SILENT, REFUSED, OVERLOADED, UNSENDABLE, FAILURES };

static void dead_set(unsigned backend, bool dead)
{
    unsigned bit = 1U << (5 + backend);

    edge.dead = dead ? edge.dead | bit : edge.dead & ~bit;
}

/* The request that it got last fails there, or the one to come does. */
static void fail_before(enum failure failure, unsigned backend)
{
    if (failure == UNSENDABLE)
        dead_set(backend, true);
}

static void fail_after(enum failure failure, unsigned backend, const char *method)
{
    switch (failure) {
    case SILENT: edge_wait(&edge, 1600); break;
    case REFUSED: refuse(backend); break;
    case OVERLOADED: answer(backend, method, "503 Service Unavailable", NULL); break;
    case UNSENDABLE: edge_wait(&edge, 0); break;
    default: break;
    }
}

static void each(void (*check)(const char *method, enum failure failure))
{
    for (size_t m = 0; m < ARRAY_LEN(methods); m++)
        for (unsigned failure = 0; failure < FAILURES; failure++) {
            void *state = NULL;

            setup(&state);
            check(methods[m], failure);
            edge.dead = 0;
            teardown(&state);
        }
}

/* ---- tests ---- */

static void moves_once(const char *method, enum failure failure)
{
    const char *first, *second;

    fail_before(failure, FIRST);
    request(method);
    fail_after(failure, FIRST, method);
    assert_int_equal(finals(), 0);
    assert_int_equal(got_count(SECOND, method), 1);
    assert_int_equal(got_count(THIRD, method), 0);

    second = got(SECOND, method);
    assert_string_equal(header_of(second, "Max-Forwards", 0), "69");
    assert_non_null(strstr(second, "\r\n\r\nbody"));
    assert_string_equal(header_of(second, "CSeq", 0) + 2, method);
    first = got(FIRST, method);
    if (first) { /* another branch, and all else the same */
        assert_string_not_equal(header_of(first, "Via", 0), header_of(second, "Via", 0));
        assert_string_equal(header_of(first, "Via", 1), header_of(second, "Via", 1));
        assert_string_equal(header_of(first, "Contact", 0), header_of(second, "Contact", 0));
        assert_string_equal(header_of(first, "Call-ID", 0), header_of(second, "Call-ID", 0));
    }
    answer(SECOND, method, "200 OK", "Contact: <sip:bob@10.0.0.6>\n");
    assert_final("200 OK");
    edge_wait(&edge, 40000);
    assert_int_equal(finals(), 1);
    assert_int_equal(got_count(FIRST, "CANCEL"), 0);
}

static void a_request_goes_on_where_a_backend_fails(void **state) /* B3, T5 */
{
    (void)state;
    each(moves_once);
}

static void moves_to_the_last(const char *method, enum failure failure)
{
    unsigned sent;

    for (unsigned i = FIRST; i < COUNT; i++)
        fail_before(failure, i);
    request(method);
    for (unsigned i = FIRST; i < THIRD; i++)
        fail_after(failure, i, method);
    assert_int_equal(got_count(THIRD, method), failure != UNSENDABLE);
    if (failure == SILENT) { /* it has the timers of RFC 3261 */
        edge_wait(&edge, 32000 - 1);
        assert_int_equal(finals(), 0);
        edge_wait(&edge, 1);
        if (strcmp(method, "INVITE") == 0)
            assert_final("408");
        else
            assert_int_equal(finals(), 0); /* RFC 4320 4.1 */
    } else {
        fail_after(failure, THIRD, method);
        assert_final("503");
        assert_true(*header_of(inbox_last(&alice->inbox), "Retry-After", 0));
    }
    sent = edge.core.count;
    edge_wait(&edge, 1600);
    assert_int_equal(edge.core.count, sent); /* no fourth try */
}

static void all_fail_and_the_client_hears_it_once(void **state) /* B3, B4, T5 */
{
    (void)state;
    each(moves_to_the_last);
}

static void any_provisional_ends_the_time_of_a_try(void **state) /* B3 refused */
{
    (void)state;
    request("INVITE");
    edge_wait(&edge, 1599);
    answer(FIRST, "INVITE", "100 Trying", NULL);
    edge_wait(&edge, 20000);
    assert_int_equal(got_count(SECOND, "INVITE"), 0);
    answer(FIRST, "INVITE", "180 Ringing", NULL);
    answer(FIRST, "INVITE", "486 Busy Here", NULL);
    assert_final("486");
    edge_wait(&edge, 5000);
    assert_int_equal(got_count(SECOND, "INVITE"), 0);
}

static void a_backend_that_dies_while_it_rings_is_replaced(void **state) /* B3 */
{
    (void)state;
    request("INVITE");
    answer(FIRST, "INVITE", "180 Ringing", NULL);
    refuse(FIRST);
    assert_int_equal(got_count(SECOND, "INVITE"), 1);
    assert_int_equal(got_count(FIRST, "CANCEL"), 1); /* should it live */
    refuse(FIRST);
    edge_wait(&edge, 500);
    assert_int_equal(got_count(FIRST, "CANCEL"), 2); /* and be reached later */
    edge_wait(&edge, 1000);
    assert_int_equal(got_count(FIRST, "CANCEL"), 3);
    answer(SECOND, "INVITE", "200 OK", "Contact: <sip:bob@10.0.0.6>\n");
    assert_final("200 OK");
}

static void lost_by_tcp(const char *method, bool connected)
{
    struct core_addr addr = edge_backend(FIRST);

    edge_hang_up(alice);
    edge_hang_up(bob);
    addr.kind = CORE_TCP;
    edge.view.endpoints[FIRST].addr = addr;
    edge_start(&edge);
    alice = edge_client(&edge, 0, "TLS");
    request(method);
    assert_int_equal(got_count(FIRST, method), 1);
    proxy_core_lost(edge.proxy, &addr, connected, -ECONNREFUSED, edge.now);
    edge_wait(&edge, 0);
    assert_int_equal(got_count(SECOND, method), 1);
    /* one that ends its connection may be up again by the next */
    assert_int_equal(health_usable(&edge.health, FIRST, edge.now), connected);
    answer(SECOND, method, "200 OK", "Contact: <sip:bob@10.0.0.6>\n");
    assert_final("200 OK");
}

static void a_lost_connection_moves_what_waits_for_it(void **state) /* B3, T7 */
{
    for (size_t m = 0; m < ARRAY_LEN(methods); m++)
        for (int connected = 0; connected < 2; connected++) {
            setup(state);
            lost_by_tcp(methods[m], connected);
            teardown(state);
        }
}

static void icmp_is_believed_by_the_branch_that_it_quotes(void **state) /* B2, B2 refused */
{
    const struct core_addr to = edge_backend(FIRST), other = edge_backend(SECOND);
    char quoted[512], *branch;

    (void)state;
    request("MESSAGE");
    snprintf(quoted, sizeof(quoted), "%s", got(FIRST, "MESSAGE"));
    assert_true(proxy_core_waits(edge.proxy, &to, str_of(quoted)));
    assert_int_equal(core_sender(str_of(quoted), 3), 2);
    assert_int_equal(core_sender(str_of(quoted), 2), -1);
    assert_false(proxy_core_waits(edge.proxy, &other, str_of(quoted)));
    branch = strstr(quoted, "z9hG4bK02");
    assert_false(
        proxy_core_waits(edge.proxy, &to, (struct str){quoted, (size_t)(branch - quoted)}));
    branch[16] ^= 1; /* of the generation */
    assert_false(proxy_core_waits(edge.proxy, &to, str_of(quoted)));
    branch[16] ^= 1;
    answer(FIRST, "MESSAGE", "200 OK", NULL);
    assert_false(proxy_core_waits(edge.proxy, &to, str_of(quoted)));
    assert_false(proxy_core_waits(edge.proxy, &to, STR("")));
}

static void what_is_final_moves_nothing(void **state) /* B3 refused */
{
    static const char *const answers[] = {"200 OK", "401 Unauthorized", "404 Not Found",
                                          "500 Server Error", "603 Decline"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        inbox_take(&alice->inbox);
        inbox_take(&edge.core);
        request("REGISTER");
        answer(FIRST, "REGISTER", answers[i], NULL);
        assert_final(answers[i]);
        refuse(FIRST);
        edge_wait(&edge, 1600);
        assert_int_equal(got_count(SECOND, "REGISTER"), 0);
        health_up(&edge.health, FIRST);
    }
}

static void a_cancelled_call_moves_nowhere(void **state) /* B3 refused, T4 */
{
    (void)state;
    request("INVITE");
    cancel();
    edge_wait(&edge, 1600); /* nobody waits for what is silent */
    assert_int_equal(got_count(SECOND, "INVITE"), 0);
    assert_non_null(strstr(start_line(inbox_last(&alice->inbox)), "487"));
    assert_int_equal(got_count(FIRST, "CANCEL"), 0);
    answer(FIRST, "INVITE", "180 Ringing", NULL);
    assert_int_equal(got_count(FIRST, "CANCEL"), 1);
    answer(FIRST, "CANCEL", "200 OK", NULL);
    answer(FIRST, "INVITE", "487 Request Terminated", NULL);
    assert_int_equal(got_count(FIRST, "ACK"), 1);
    edge_wait(&edge, 40000);
    assert_int_equal(finals(), 2); /* of INVITE and CANCEL */
}

static void cancel_follows_the_live_branch(void **state) /* B3, T4 */
{
    (void)state;
    request("INVITE");
    edge_wait(&edge, 1600);
    answer(SECOND, "INVITE", "180 Ringing", NULL);
    cancel();
    assert_int_equal(got_count(SECOND, "CANCEL"), 1);
    assert_int_equal(got_count(FIRST, "CANCEL"), 0);
    answer(SECOND, "CANCEL", "200 OK", NULL);
    answer(SECOND, "INVITE", "487 Request Terminated", NULL);
    assert_int_equal(finals(), 2); /* of INVITE and CANCEL */
    assert_non_null(strstr(start_line(inbox_last(&alice->inbox)), "487"));
    edge_wait(&edge, 40000);
    assert_int_equal(got_count(THIRD, "INVITE"), 0);
}

static void a_call_given_up_is_cancelled_when_it_comes_to_life(void **state) /* B3, T4 */
{
    unsigned sent;

    (void)state;
    request("INVITE");
    edge_wait(&edge, 1600);
    sent = got_count(FIRST, "INVITE");
    answer(SECOND, "INVITE", "180 Ringing", NULL);
    edge_wait(&edge, 10000);
    assert_int_equal(got_count(FIRST, "INVITE"), sent); /* not repeated any more */
    inbox_take(&alice->inbox);
    answer(FIRST, "INVITE", "100 Trying", NULL);
    assert_int_equal(got_count(FIRST, "CANCEL"), 1);
    edge_wait(&edge, 500); /* it may get lost */
    assert_int_equal(got_count(FIRST, "CANCEL"), 2);
    answer(FIRST, "CANCEL", "200 OK", NULL);
    answer(FIRST, "INVITE", "180 Ringing", NULL);
    answer(FIRST, "INVITE", "487 Request Terminated", NULL);
    assert_int_equal(got_count(FIRST, "ACK"), 1);
    assert_int_equal(alice->inbox.count, 0); /* she hears nothing of it */
    answer(SECOND, "INVITE", "200 OK", "Contact: <sip:bob@10.0.0.6>\n");
    assert_final("200 OK");
}

static void a_call_given_up_that_is_answered_is_hung_up(void **state) /* B3, T3 */
{
    (void)state;
    request("INVITE");
    edge_wait(&edge, 1600);
    inbox_take(&alice->inbox);
    answer(FIRST, "INVITE", "200 OK", "Contact: <sip:bob@10.0.0.5:5060>\n");
    assert_int_equal(got_count(FIRST, "ACK"), 1);
    assert_int_equal(got_count(FIRST, "BYE"), 1);
    answer(FIRST, "INVITE", "200 OK", "Contact: <sip:bob@10.0.0.5:5060>\n");
    assert_int_equal(got_count(FIRST, "ACK"), 2);
    assert_int_equal(got_count(FIRST, "BYE"), 1);
    answer(FIRST, "BYE", "200 OK", NULL);
    assert_int_equal(alice->inbox.count, 0);
    answer(SECOND, "INVITE", "200 OK", "Contact: <sip:bob@10.0.0.6>\n");
    assert_final("200 OK");
}

static void a_late_answer_to_another_request_is_dropped(void **state) /* B3 */
{
    (void)state;
    request("MESSAGE");
    edge_wait(&edge, 1600);
    answer(FIRST, "MESSAGE", "200 OK", NULL);
    assert_int_equal(finals(), 0);
    assert_int_equal(proxy_counters(edge.proxy)->dropped_stray, 1);
    answer(SECOND, "MESSAGE", "404 Not Found", NULL);
    assert_final("404");
}

static void a_503_is_acknowledged_whenever_it_comes_again(void **state) /* B3, T3 */
{
    (void)state;
    request("INVITE");
    for (unsigned i = 1; i <= 3; i++) {
        answer(FIRST, "INVITE", "503 Service Unavailable", NULL);
        assert_int_equal(got_count(FIRST, "ACK"), i);
    }
    assert_int_equal(got_count(SECOND, "INVITE"), 1);
    assert_int_equal(finals(), 0);
    answer(SECOND, "INVITE", "200 OK", "Contact: <sip:bob@10.0.0.6>\n");
    assert_final("200 OK");
}

static void who_says_retry_after_is_left_alone_for_so_long(void **state) /* B3 */
{
    static const struct {
        const char *line;
        unsigned seconds; /* 0: not at all */
    } rows[] = {
        {"Retry-After: 20\n",                       20 },
        {"Retry-After: 20 (lunch);duration=3600\n", 20 },
        {"Retry-After: 4000000000000000000000\n",   300},
        {"Retry-After: 0\n",                        0  },
        {"Retry-After: soon\n",                     0  },
        {"",                                        0  },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        request("REGISTER");
        answer(FIRST, "REGISTER", "503 Service Unavailable", rows[i].line);
        answer(SECOND, "REGISTER", "200 OK", NULL);
        if (rows[i].seconds) {
            edge_wait(&edge, rows[i].seconds * 1000 - 1);
            assert_false(health_usable(&edge.health, FIRST, edge.now));
            edge_wait(&edge, 1);
        }
        assert_true(health_usable(&edge.health, FIRST, edge.now));
        inbox_take(&edge.core);
    }
}

static void a_register_that_moves_is_challenged_anew(void **state) /* B3, R12 */
{
    (void)state;
    request("REGISTER");
    edge_wait(&edge, 1600);
    answer(SECOND, "REGISTER", "401 Unauthorized",
           "WWW-Authenticate: Digest realm=\"x\", nonce=\"second\"\n");
    assert_final("401");
    assert_non_null(strstr(inbox_last(&alice->inbox), "nonce=\"second\""));
}

static void a_dialog_stays_where_it_is(void **state) /* B3 refused */
{
    char routes[2048];

    (void)state;
    edge.pbx = edge_backend(FIRST);
    call_up(routes);
    edge_from_client(alice, IN_DIALOG("INFO", "3"), "sip:bob@10.0.0.5:5060", routes);
    assert_int_equal(got_count(FIRST, "INFO"), 1);
    edge_wait(&edge, 5000);
    answer(FIRST, "INFO", "503 Service Unavailable", "Retry-After: 10\n");
    assert_final("503");
    inbox_take(&alice->inbox);
    health_down(&edge.health, FIRST);
    edge_from_client(alice, IN_DIALOG("BYE", "4"), "sip:bob@10.0.0.5:5060", routes);
    assert_int_equal(got_count(FIRST, "BYE"), 1);
    refuse(FIRST);
    assert_final("503");
    for (unsigned i = SECOND; i < COUNT; i++)
        assert_int_equal(got_count(i, ""), 0);

    health_up(&edge.health, FIRST); /* nor one of which it isn't known where it is */
    inbox_take(&edge.core);
    inbox_take(&alice->inbox);
    edge_from_client(alice, IN_DIALOG("UPDATE", "5"), "sip:sip.test", "");
    assert_int_equal(got_count(FIRST, "UPDATE"), 1);
    refuse(FIRST);
    assert_final("503");
    assert_int_equal(got_count(SECOND, ""), 0);
}

static void where_all_are_down_it_is_said_at_once(void **state) /* B4, T5 */
{
    (void)state;
    for (unsigned i = FIRST; i < COUNT; i++)
        refuse(i);
    for (size_t m = 0; m < ARRAY_LEN(methods); m++) {
        inbox_take(&alice->inbox);
        request(methods[m]);
        assert_final("503");
        assert_true(*header_of(inbox_last(&alice->inbox), "Retry-After", 0));
    }
    assert_int_equal(edge.core.count, 0);
}

static void silence_in_a_row_is_down_and_an_answer_ends_the_row(void **state) /* B2 */
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        request("MESSAGE");
        edge_wait(&edge, 1600);
        answer(SECOND, "MESSAGE", "200 OK", NULL);
    }
    answer(FIRST, "MESSAGE", "200 OK", NULL); /* late, to nobody: but it lives */
    for (unsigned i = 0; i < 2; i++) {
        request("MESSAGE");
        edge_wait(&edge, 1600);
        answer(SECOND, "MESSAGE", "200 OK", NULL);
    }
    assert_true(health_usable(&edge.health, FIRST, edge.now));
    request("MESSAGE");
    edge_wait(&edge, 1600);
    assert_int_equal(health_state(&edge.health, FIRST), HEALTH_DOWN);
    inbox_take(&edge.core);
    request("MESSAGE");
    assert_int_equal(got_count(SECOND, "MESSAGE"), 1);
    assert_int_equal(got_count(FIRST, "MESSAGE"), 0);
}

static void without_probes_a_failing_one_is_left_alone_for_a_while(void **state) /* B2, B3 */
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        edge.conf.probe.interval_s = i * 10;
        if (i) /* or if it has never answered one */
            health_forget(&edge.health, FIRST);
        refuse(FIRST);
        assert_int_not_equal(health_state(&edge.health, FIRST), HEALTH_DOWN);
        assert_false(health_usable(&edge.health, FIRST, edge.now));
        edge_wait(&edge, 15000);
        assert_true(health_usable(&edge.health, FIRST, edge.now));
    }
}

static void the_only_one_is_asked_though_it_answers_no_probes(void **state) /* B2 refused, B4 */
{
    (void)state;
    edge.view.endpoint_count = 1;
    health_forget(&edge.health, FIRST);
    for (unsigned i = 0; i < 4; i++) {
        refuse(FIRST);
        request("MESSAGE");
        refuse(FIRST);
        assert_final("503");
        inbox_take(&alice->inbox);
    }
    request("MESSAGE");
    answer(FIRST, "MESSAGE", "200 OK", NULL);
    assert_final("200 OK");
}

static void the_only_backend_is_asked_as_ever(void **state) /* B3 */
{
    (void)state;
    edge_hang_up(alice);
    edge_hang_up(bob);
    edge_backends(&edge, 1);
    alice = edge_client(&edge, 0, "TLS");
    request("INVITE");
    edge_wait(&edge, 31999);
    assert_int_equal(got_count(FIRST, "INVITE"), 7);
    assert_int_equal(finals(), 0);
    edge_wait(&edge, 1);
    assert_final("408");
    inbox_take(&alice->inbox);
    request("REGISTER"); /* its own answer, as it is, and nobody is left alone for it */
    answer(FIRST, "REGISTER", "503 Out Of Lines", "Retry-After: 100\n");
    assert_final("503 Out Of Lines");
    assert_true(health_usable(&edge.health, FIRST, edge.now));
}

static void a_client_that_is_gone_needs_no_other_backend(void **state) /* B3, T6 */
{
    (void)state;
    request("INVITE");
    request("MESSAGE");
    edge_hang_up(alice);
    edge_wait(&edge, 1600);
    assert_int_equal(got_count(SECOND, ""), 0);
    answer(FIRST, "INVITE", "180 Ringing", NULL);
    assert_int_equal(got_count(FIRST, "CANCEL"), 1);
}

/* ---- probes ---- */

static unsigned state_of(unsigned backend)
{
    return health_state(&edge.health, backend);
}

/* Let time pass; these backends answer what they get, with this. */
static void probes_run(uint64_t ms, unsigned answering, const char *status)
{
    for (uint64_t end = edge.now + ms; edge.now < end;) {
        edge_wait(&edge, 10);
        for (unsigned i = FIRST; i < COUNT; i++)
            if (answering >> i & 1 && got(i, "OPTIONS"))
                answer(i, "OPTIONS", status, NULL);
        inbox_take(&edge.core);
    }
}

static void backends_are_asked_by_options(void **state) /* B2, M1 */
{
    unsigned asked[COUNT] = {0};
    const char *probe;

    (void)state;
    edge_wait(&edge, 1000);
    for (unsigned i = FIRST; i < COUNT; i++) {
        probe = got(i, "OPTIONS");
        assert_non_null(probe);
        assert_true(starts_with(probe, "OPTIONS sip:10.0.0."));
        assert_string_equal(header_of(probe, "Max-Forwards", 0), "70");
        answer(i, "OPTIONS", i ? "404 Not Found" : "200 OK", NULL);
        assert_int_equal(state_of(i), HEALTH_UP);
    }
    for (unsigned second = 0; second < 300; second++) {
        inbox_take(&edge.core);
        edge_wait(&edge, 1000);
        for (unsigned i = FIRST; i < COUNT; i++)
            if (got(i, "OPTIONS")) {
                asked[i]++;
                answer(i, "OPTIONS", "483 Too Many Hops", NULL);
            }
    }
    for (unsigned i = FIRST; i < COUNT; i++)
        assert_in_range(asked[i], 25, 36);
    assert_int_equal(proxy_counters(edge.proxy)->dropped_stray, 0);
}

static void silence_makes_it_down_and_two_answers_up(void **state) /* B2 */
{
    (void)state;
    probes_run(60000, 7, "200 OK");
    probes_run(3 * 2000 + 2 * 750 - 100, 6, "200 OK"); /* no sooner than this */
    assert_int_equal(state_of(FIRST), HEALTH_UP);
    probes_run(12500 + 2 * 500 + 100, 6, "200 OK");
    assert_int_equal(state_of(FIRST), HEALTH_DOWN);
    assert_int_equal(state_of(SECOND), HEALTH_UP);
    probes_run(120000, 6, "200 OK"); /* long */
    assert_int_equal(state_of(FIRST), HEALTH_DOWN);
    probes_run(12500 + 1250 + 100, 7, "200 OK");
    assert_int_equal(state_of(FIRST), HEALTH_UP);
}

static void a_503_is_no_life(void **state) /* B2 */
{
    (void)state;
    probes_run(6000, 7, "503 Service Unavailable");
    for (unsigned i = FIRST; i < COUNT; i++)
        assert_int_equal(state_of(i), HEALTH_DOWN);
    probes_run(15000, 7, "200 OK");
    for (unsigned i = FIRST; i < COUNT; i++)
        assert_int_equal(state_of(i), HEALTH_UP);
}

static void one_that_was_refused_is_asked_soon(void **state) /* B2 */
{
    (void)state;
    probes_run(60000, 7, "200 OK");
    refuse(SECOND);
    assert_int_equal(state_of(SECOND), HEALTH_DOWN);
    probes_run(2 * 1250 + 1100, 7, "200 OK"); /* it was a restart */
    assert_int_equal(state_of(SECOND), HEALTH_UP);
}

/* Asterisk warns of each OPTIONS of who is no endpoint of its, and fail2ban counts the warnings. */
static void one_alone_is_asked_only_until_it_answers_and_while_it_is_down(void **state) /* B2, B4 */
{
    (void)state;
    edge_backends(&edge, 1);
    health_forget(&edge.health, FIRST);
    edge_wait(&edge, 700);
    assert_int_equal(got_count(FIRST, "OPTIONS"), 1);
    answer(FIRST, "OPTIONS", "401 Unauthorized", NULL);
    assert_int_equal(state_of(FIRST), HEALTH_UP);
    inbox_take(&edge.core);
    edge_wait(&edge, 600000);
    assert_int_equal(edge.core.count, 0);

    alice = edge_client(&edge, 0, "TLS");
    request("MESSAGE");
    refuse(FIRST);
    assert_int_equal(state_of(FIRST), HEALTH_DOWN);
    probes_run(2 * 1250 + 1100, 1, "401 Unauthorized");
    assert_int_equal(state_of(FIRST), HEALTH_UP);
    inbox_take(&edge.core);
    edge_wait(&edge, 600000);
    assert_int_equal(edge.core.count, 0);
    edge_hang_up(alice);
}

static void what_leaves_the_view_is_not_asked(void **state) /* B1, B2 */
{
    (void)state;
    edge_wait(&edge, 1000);
    edge.view.endpoints[FIRST].retired = true;
    inbox_take(&edge.core);
    edge_wait(&edge, 60000);
    assert_int_equal(got_count(FIRST, ""), 0);
    assert_true(got_count(SECOND, "OPTIONS") > 3);
}

/* ---- anything, in any order ---- */

static uint64_t seed;

static unsigned any(unsigned below)
{
    seed = seed * 6364136223846793005 + 1442695040888963407;
    return (unsigned)(seed >> 33) % below;
}

enum { REQUESTS_MAX = 64 };

static struct {
    const char *method;
    unsigned finals;
    bool answered; /* by a 2xx, which may come again */
} asked[REQUESTS_MAX];

/* What alice heard since the last look. */
static void hear(void)
{
    for (unsigned i = 0; i < alice->inbox.count; i++) {
        const char *message = alice->inbox.messages[i];
        const char *call_id = header_of(message, "Call-ID", 0); /* tryN */
        unsigned number = (unsigned)strtoul(call_id + 3, NULL, 10) - request_first;

        assert_true(number < REQUESTS_MAX && asked[number].method);
        if (message[8] < '2' || !strstr(header_of(message, "CSeq", 0), asked[number].method))
            continue; /* or of a CANCEL */
        if (asked[number].answered && message[8] == '2')
            continue;
        asked[number].finals++;
        asked[number].answered = message[8] == '2' && strcmp(asked[number].method, "INVITE") == 0;
        assert_int_equal(asked[number].finals, 1);
    }
    inbox_take(&alice->inbox);
}

/* Requests, failures, late and repeated answers, CANCELs, at any time. */
static void step(void)
{
    static const char *const answers[] = {"100 Trying",    "180 Ringing",
                                          "200 OK",        "401 Unauthorized",
                                          "404 Not Found", "503 Service Unavailable",
                                          "500 Oh",        "487 Request Terminated"};
    const char *method = methods[any(ARRAY_LEN(methods))];
    unsigned backend = any(COUNT), number = request_serial - request_first + 1;

    switch (any(8)) {
    case 0:
    case 1:
        if (number == REQUESTS_MAX)
            break;
        asked[number].method = method;
        request(method);
        break;
    case 2: refuse(backend); break;
    case 3: edge_wait(&edge, any(3) ? any(900) : any(9000)); break;
    case 4: health_up(&edge.health, backend); break;
    case 5:
        if (got(FIRST, "INVITE"))
            cancel();
        break;
    default:
        if (got(backend, method))
            answer(backend, method, answers[any(ARRAY_LEN(answers))],
                   any(2) ? "Contact: <sip:bob@10.0.0.5>\nRetry-After: 3\n" : NULL);
    }
    hear();
    if (edge.core.count > EDGE_SENT_MAX / 2)
        inbox_take(&edge.core);
}

static void nothing_is_answered_twice_whatever_the_order(void **state) /* B3, T3, T5, V7 */
{
    (void)state;
    for (unsigned run = 0; run < 300; run++) {
        void *none = NULL;

        setup(&none);
        seed = run + 1;
        memset(asked, 0, sizeof(asked));
        request_first = request_serial;
        for (unsigned i = 0; i < 80; i++)
            step();
        for (unsigned second = 0; second < 400; second++) { /* timer C and all */
            edge_wait(&edge, 1000);
            inbox_take(&edge.core);
        }
        hear();
        for (unsigned i = 0; i < REQUESTS_MAX; i++)
            if (asked[i].method && strcmp(asked[i].method, "INVITE") == 0)
                assert_int_equal(asked[i].finals, 1);
        teardown(&none);
    }
}

int main(void)
{
#define TRIES(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
#define PROBES(test) cmocka_unit_test_setup_teardown(test, setup_probes, teardown_probes)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_goes_on_where_a_backend_fails),
        cmocka_unit_test(all_fail_and_the_client_hears_it_once),
        TRIES(any_provisional_ends_the_time_of_a_try),
        TRIES(a_backend_that_dies_while_it_rings_is_replaced),
        cmocka_unit_test(a_lost_connection_moves_what_waits_for_it),
        TRIES(icmp_is_believed_by_the_branch_that_it_quotes),
        TRIES(what_is_final_moves_nothing),
        TRIES(a_cancelled_call_moves_nowhere),
        TRIES(cancel_follows_the_live_branch),
        TRIES(a_call_given_up_is_cancelled_when_it_comes_to_life),
        TRIES(a_call_given_up_that_is_answered_is_hung_up),
        TRIES(a_late_answer_to_another_request_is_dropped),
        TRIES(a_503_is_acknowledged_whenever_it_comes_again),
        TRIES(who_says_retry_after_is_left_alone_for_so_long),
        TRIES(a_register_that_moves_is_challenged_anew),
        TRIES(a_dialog_stays_where_it_is),
        TRIES(where_all_are_down_it_is_said_at_once),
        TRIES(silence_in_a_row_is_down_and_an_answer_ends_the_row),
        TRIES(without_probes_a_failing_one_is_left_alone_for_a_while),
        TRIES(the_only_one_is_asked_though_it_answers_no_probes),
        TRIES(the_only_backend_is_asked_as_ever),
        TRIES(a_client_that_is_gone_needs_no_other_backend),
        PROBES(backends_are_asked_by_options),
        PROBES(silence_makes_it_down_and_two_answers_up),
        PROBES(a_503_is_no_life),
        PROBES(one_that_was_refused_is_asked_soon),
        PROBES(one_alone_is_asked_only_until_it_answers_and_while_it_is_down),
        PROBES(what_leaves_the_view_is_not_asked),
        cmocka_unit_test(nothing_is_answered_twice_whatever_the_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

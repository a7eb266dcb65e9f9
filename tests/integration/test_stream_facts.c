/* What is told of connections, open and ended ones, in slices. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "pki.h"
#include "proxy/log.h"
#include "tls_edge.h"

#define TEST(name) static void name(void **state)

enum { CLIENTS = 150 };

static const struct client_options plain = {.plain = true};
static struct edge edge;
static struct client clients[CLIENTS];

static int setup(void **state)
{
    (void)state;
    edge_setup(&edge);
    edge.conf.limits.connections = CLIENTS;
    edge_start(&edge, CONF_TCP, "127.0.0.1");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    edge_teardown(&edge);
    return 0;
}

static void clients_open(unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++)
        client_open(&clients[i], &edge, &plain);
    UNTIL(&edge, streams_count(edge.streams) >= to - from);
}

static void clients_close(unsigned from, unsigned to)
{
    unsigned before = streams_count(edge.streams);

    for (unsigned i = from; i < to; i++)
        client_close(&clients[i]);
    UNTIL(&edge, streams_count(edge.streams) == before - (to - from));
}

/* Takes what was found: numbers[] says how often each was. */
static uint64_t slice_take(const struct streams_question *question, unsigned *numbers)
{
    struct streams_slice slice;
    uint64_t last = UINT64_MAX;

    streams_slice(edge.streams, question, &slice);
    assert_true(slice.count <= question->max);
    for (unsigned i = 0; i < slice.count; i++) {
        assert_true(slice.found[i]->number < last || question->list != STREAMS_OPEN);
        last = slice.found[i]->number;
        assert_true(last < 1000);
        numbers[last]++;
        free(slice.found[i]);
    }
    return slice.next;
}

TEST(slices_are_complete_while_connections_come_and_go)
{
    struct streams_question question = {.list = STREAMS_OPEN, .max = 7};
    unsigned numbers[1000] = {0}, slices = 0;

    (void)state;
    clients_open(0, 100); /* numbers 1 to 100 */
    do {
        question.before = slice_take(&question, numbers);
        slices++;
        if (slices == 2) /* one of those that were seen, the next ones, and new ones */
            clients_close(80, 100);
        if (slices == 4)
            clients_open(100, 150);
        if (slices == 6) /* somebody else asks in between */
            (void)slice_take(&(struct streams_question){.list = STREAMS_OPEN, .max = 3},
                             (unsigned[1000]){0});
    } while (question.before);
    for (unsigned number = 1; number <= 80; number++)
        assert_int_equal(numbers[number], 1);
    for (unsigned number = 81; number < 1000; number++)
        assert_true(numbers[number] <= 1);
    clients_close(0, 80);
    clients_close(100, 150);
}

TEST(connections_that_ended_are_remembered_and_no_more_than_so_many)
{
    struct streams_question question = {.list = STREAMS_CLOSED, .max = STREAMS_SLICE};
    static unsigned numbers[10000];
    unsigned count = 0;

    (void)state;
    for (unsigned i = 0; i < STREAMS_REMEMBERED + 20; i += 60) {
        clients_open(0, 60);
        clients_close(0, 60);
    }
    do {
        struct streams_slice slice;

        streams_slice(edge.streams, &question, &slice);
        for (unsigned i = 0; i < slice.count; i++) {
            const struct facts *facts = slice.found[i];

            assert_int_equal(facts->closed.cause, CAUSE_CLIENT_CLOSED);
            assert_string_equal(facts_text(facts, facts->reason), "closed by client");
            assert_string_equal(facts->transport, "tcp");
            assert_int_equal(numbers[facts->number]++, 0);
            count++;
            free(slice.found[i]);
        }
        question.before = slice.next;
    } while (question.before);
    assert_int_equal(count, STREAMS_REMEMBERED);
}

TEST(one_is_found_by_its_number_open_and_ended)
{
    struct facts *facts;

    (void)state;
    clients_open(0, 3);
    client_say(&clients[1], "0005\nhello");
    client_hear(&clients[1], "0005\nhello");
    facts = streams_find(edge.streams, 2);
    assert_non_null(facts);
    assert_int_equal(facts->number, 2);
    assert_string_equal(facts->state, "open");
    assert_int_equal(facts->closed.at, 0);
    assert_int_equal(facts->bytes_in, 10);
    assert_int_equal(facts->bytes_out, 10);
    assert_true(facts->since > 1600000000000 && facts->heard >= facts->since);
    free(facts);
    assert_null(streams_find(edge.streams, 4));
    assert_null(streams_find(edge.streams, 0));
    clients_close(0, 3);
    facts = streams_find(edge.streams, 2);
    assert_non_null(facts);
    assert_string_equal(facts->state, "closed");
    assert_int_equal(facts->bytes_in, 10);
    assert_true(facts->closed.at >= facts->since);
    free(facts);
}

TEST(peers_are_filtered)
{
    struct streams_question question = {.list = STREAMS_OPEN, .max = STREAMS_SLICE};
    union conf_sockaddr address;
    socklen_t len = sizeof(address);
    struct streams_slice slice;

    (void)state;
    clients_open(0, 10);
    assert_int_equal(getsockname(clients[4].fd, &address.sa, &len), 0);
    question.filter.peer = address;
    for (question.list = STREAMS_OPEN; question.list <= STREAMS_CLOSED; question.list++) {
        streams_slice(edge.streams, &question, &slice);
        assert_int_equal(slice.count, 1);
        assert_int_equal(slice.next, 0);
        assert_int_equal(slice.found[0]->number, 5);
        free(slice.found[0]);
        if (question.list == STREAMS_OPEN)
            clients_close(0, 10);
    }
}

static int group_setup(void **state)
{
    (void)state;
    pki_make(&(struct pki_spec){.san = "DNS:sip.example.com"}, "ec.pem", "ec.key");
    pki_make(&(struct pki_spec){.san = "DNS:*.example.org"}, "wild.pem", "wild.key");
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    pki_remove();
    return 0;
}

#define FACTS(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FACTS(slices_are_complete_while_connections_come_and_go),
        FACTS(connections_that_ended_are_remembered_and_no_more_than_so_many),
        FACTS(one_is_found_by_its_number_open_and_ended),
        FACTS(peers_are_filtered),
    };

    log_open(LOG_ERROR, false);
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/pem.h>

#include "pki.h"
#include "proxy/log.h"
#include "tls_edge.h"

#define TEST(name) static void name(void **state)

static const struct client_options usual = {.name = "sip.example.com"};
static const struct client_options plain = {.plain = true};

static void setup(struct edge *edge)
{
    edge_setup(edge);
    edge_start(edge, CONF_TLS, "127.0.0.1");
}

/* The loop has seen what was sent: as far as the socket it is a matter of turns. */
static void turns(struct edge *edge)
{
    for (int i = 0; i < 3; i++)
        edge_turn(edge);
}

/* Framing -------------------------------------------------------------------------------------- */

static void cut_everywhere(enum conf_listener_kind kind, const struct client_options *options)
{
    static const char message[] = "0026\nabcdefghijklmnopqrstuvwxyz";
    size_t len = sizeof(message) - 1;
    struct edge edge;
    struct client client;

    edge_setup(&edge);
    edge_start(&edge, kind, "127.0.0.1");
    client_open(&client, &edge, options);
    for (size_t cut = 1; cut < len; cut++) {
        client_send(&client, message, cut);
        turns(&edge);
        assert_int_equal(edge.proxy.messages, cut - 1);
        client_send(&client, message + cut, len - cut);
        client_expect(&client, message, len);
    }
    for (size_t i = 0; i < len; i++) { /* and byte by byte */
        client_send(&client, message + i, 1);
        edge_turn(&edge);
    }
    client_expect(&client, message, len);
    client_close(&client);
    edge_teardown(&edge);
}

TEST(message_cut_at_any_byte_is_one_message_over_tls) /* F1 */
{
    (void)state;
    cut_everywhere(CONF_TLS, &usual);
}

TEST(message_cut_at_any_byte_is_one_message_over_tcp) /* F1 */
{
    (void)state;
    cut_everywhere(CONF_TCP, &plain);
}

TEST(several_messages_in_one_record_are_all_taken) /* F1 */
{
    struct client client;
    struct edge edge;

    (void)state;
    setup(&edge);
    client_open(&client, &edge, &usual);
    client_say(&client, "0005\nfirst0006\nsecond\r\n\r\n0005\nth");
    client_hear(&client, "0005\nfirst0006\nsecond");
    assert_int_equal(edge.proxy.messages, 2);
    client_say(&client, "ird0006\nfourth");
    client_hear(&client, "0005\nthird0006\nfourth");
    client_close(&client);
    edge_teardown(&edge);
}

TEST(more_records_than_one_wake_up_reads_are_all_taken) /* F1 */
{
    enum { COUNT = 500 };
    struct client client;
    struct edge edge;
    char message[16];

    (void)state;
    setup(&edge);
    client_open(&client, &edge, &usual);
    for (unsigned i = 0; i < COUNT; i++) {
        (void)snprintf(message, sizeof(message), "0004\n%04u", i);
        client_say(&client, message);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        (void)snprintf(message, sizeof(message), "0004\n%04u", i);
        client_hear(&client, message);
    }
    assert_int_equal(edge.proxy.messages, COUNT);
    client_close(&client);
    edge_teardown(&edge);
}

static void big_message(enum conf_listener_kind kind, const struct client_options *options)
{
    static const char head[] = {'9', '6', '5', '0', '\n'};
    const size_t len = sizeof(head) + 65000;
    char *message = malloc(len);
    struct client client;
    struct edge edge;

    assert_non_null(message);
    for (size_t i = 0; i < len; i++)
        message[i] = (char)('a' + i % 23);
    memcpy(message, head, sizeof(head));
    edge_setup(&edge);
    edge_start(&edge, kind, "127.0.0.1");
    client_open(&client, &edge, options);
    for (int i = 0; i < 3; i++) {
        client_send(&client, message, len);
        client_expect(&client, message, len);
    }
    free(message);
    client_close(&client);
    edge_teardown(&edge);
}

TEST(big_message_passes_whole_over_tls) /* F1, F6 */
{
    (void)state;
    big_message(CONF_TLS, &usual);
}

TEST(big_message_passes_whole_over_tcp) /* F1, F6 */
{
    (void)state;
    big_message(CONF_TCP, &plain);
}

TEST(message_that_never_ends_is_cut_off_at_the_buffer) /* F7 refused */
{
    static char block[10000];
    struct client client;
    struct edge edge;

    (void)state;
    edge_setup(&edge);
    edge_start(&edge, CONF_TCP, "127.0.0.1");
    client_open(&client, &edge, &plain);
    client_say(&client, "9900\n"); /* 90,000 bytes, and the fake proxy knows no limit */
    for (int i = 0; i < 9 && !edge.proxy.closed; i++) {
        (void)send(client.fd, block, sizeof(block), MSG_NOSIGNAL);
        turns(&edge);
    }
    UNTIL(&edge, edge.proxy.closed == 1);
    assert_string_equal(edge.proxy.reason, "message too large");
    client_close(&client);
    edge_teardown(&edge);
}

TEST(lost_framing_is_answered_then_closed) /* F3 refused */
{
    struct client client;
    struct edge edge;

    (void)state;
    setup(&edge);
    client_open(&client, &edge, &usual);
    client_say(&client, "0003\nbad0005\nnever");
    client_hear(&client, "0003\nbad");
    assert_int_equal(client_ended(&client), CLIENT_CLOSED_PROPERLY);
    UNTIL(&edge, edge.proxy.closed == 1);
    assert_string_equal(edge.proxy.reason, "broken framing");
    assert_int_equal(edge.proxy.messages, 1);
    client_close(&client);
    edge_teardown(&edge);
}

/* Time limits (F7) ----------------------------------------------------------------------------- */

/* Nothing happens one millisecond before `ms`; then it closes, for this reason. The clock of the
 * timers is set ahead; what began, began at most `slack` ago. */
static void closes_after(struct edge *edge, uint64_t ms, const char *reason)
{
    const uint64_t slack = 5000;

    edge->skew = ms - slack;
    turns(edge);
    assert_int_equal(edge->proxy.closed, 0);
    edge->skew = ms;
    UNTIL(edge, edge->proxy.closed == 1);
    assert_string_equal(edge->proxy.reason, reason);
}

TEST(half_a_handshake_is_closed_after_its_time) /* F7 refused */
{
    struct client silent, half;
    struct edge edge;

    (void)state;
    setup(&edge);
    client_connect(&silent, &edge, &plain);
    client_connect(&half, &edge, &plain);
    client_send(&half, "\x16\x03\x01\x02\x00\x01", 6);
    UNTIL(&edge, streams_count(edge.streams) == 2);
    edge.skew = 5000;
    turns(&edge);
    assert_int_equal(streams_count(edge.streams), 2);
    edge.skew = 10000;
    UNTIL(&edge, streams_count(edge.streams) == 0);
    assert_int_equal(edge.proxy.opened, 0);
    assert_int_equal(atomic_load(&edge.connections), 0);
    client_close(&silent);
    client_close(&half);
    edge_teardown(&edge);
}

TEST(handshake_limit_holds_on_the_real_clock) /* F7 refused */
{
    struct client client;
    struct edge edge;

    (void)state;
    edge_setup(&edge);
    edge.conf.limits.handshake_timeout_s = 1;
    edge_start(&edge, CONF_TLS, "127.0.0.1");
    client_connect(&client, &edge, &plain);
    UNTIL(&edge, streams_count(edge.streams) == 1);
    assert_true(edge.timers_changed > 0);
    UNTIL(&edge, streams_count(edge.streams) == 0);
    client_close(&client);
    edge_teardown(&edge);
}

TEST(silence_after_the_handshake_is_closed) /* F7 refused */
{
    struct client client;
    struct edge edge;

    (void)state;
    setup(&edge);
    client_open(&client, &edge, &usual);
    closes_after(&edge, 30000, "first message timeout");
    assert_int_equal(client_ended(&client), CLIENT_CLOSED_PROPERLY);
    client_close(&client);
    edge_teardown(&edge);
}

TEST(half_a_message_is_closed_however_it_trickles) /* F7 refused */
{
    struct client client;
    struct edge edge;

    (void)state;
    setup(&edge);
    client_open(&client, &edge, &usual);
    client_say(&client, "0005\nwhole0100\nh");
    client_hear(&client, "0005\nwhole");
    turns(&edge);
    edge.skew = 10000;
    client_say(&client, "alf");
    turns(&edge);
    closes_after(&edge, 15000, "message timeout");
    assert_int_equal(client_ended(&client), CLIENT_CLOSED_PROPERLY);
    client_close(&client);
    edge_teardown(&edge);
}

TEST(message_completed_in_time_starts_no_other_limit) /* F7 */
{
    struct client client;
    struct edge edge;

    (void)state;
    setup(&edge);
    client_open(&client, &edge, &usual);
    client_say(&client, "0005\nwh");
    turns(&edge);
    client_say(&client, "ole\r"); /* half a keepalive is not a message */
    client_hear(&client, "0005\nwhole");
    edge.skew = 7000000;
    turns(&edge);
    assert_int_equal(edge.proxy.closed, 0);
    closes_after(&edge, 7200000, "idle timeout");
    assert_int_equal(client_ended(&client), CLIENT_CLOSED_PROPERLY);
    client_close(&client);
    edge_teardown(&edge);
}

TEST(idle_limit_can_be_off)
{
    struct client client;
    struct edge edge;

    (void)state;
    edge_setup(&edge);
    edge.conf.limits.idle_timeout_s = 0;
    edge_start(&edge, CONF_TLS, "127.0.0.1");
    client_open(&client, &edge, &usual);
    client_say(&client, "0002\nhi");
    client_hear(&client, "0002\nhi");
    edge.skew = 1000ULL * 3600 * 24 * 365;
    turns(&edge);
    client_say(&client, "0002\nho");
    client_hear(&client, "0002\nho");
    assert_int_equal(edge.proxy.closed, 0);
    client_close(&client);
    edge_teardown(&edge);
}

/* Slow readers (X2) ---------------------------------------------------------------------------- */

TEST(slow_reader_gets_all_that_the_queue_holds) /* X2 */
{
    const struct client_options slow = {.name = "sip.example.com", .receive_buffer = 65536};
    enum { COUNT = 8000 };
    char message[1001];
    struct client client;
    struct edge edge;

    (void)state;
    edge_setup(&edge);
    edge.conf.limits.send_queue = (size_t)16 << 20;
    edge_start(&edge, CONF_TLS, "127.0.0.1");
    client_open(&client, &edge, &slow);
    client_say(&client, "0010\nflood 8000");
    UNTIL(&edge, edge.proxy.messages == 1);
    assert_int_equal(edge.proxy.send_error, 0);
    assert_true(streams_counters(edge.streams)->queued > 1000000);
    client_say(&client, "0005\nclose");
    UNTIL(&edge, edge.proxy.messages == 2);
    for (unsigned i = 0; i < COUNT; i++) {
        (void)snprintf(message, sizeof(message), "0995\n%0995u", i);
        client_hear(&client, message);
    }
    client_hear(&client, "0005\nclose");
    assert_int_equal(client_ended(&client), CLIENT_CLOSED_PROPERLY);
    assert_int_equal(streams_counters(edge.streams)->queued, 0);
    client_close(&client);
    edge_teardown(&edge);
}

static uint64_t closed(const struct edge *edge, enum transport transport, enum cause cause)
{
    return streams_counters(edge->streams)->closed[transport][cause];
}

/* A handshake, and one that is none; a port that two share decides late, or never. */
TEST(connections_are_counted_by_what_they_became_and_why_they_ended)
{
    const struct client_options old = {.version = TLS1_2_VERSION};
    const struct stream_counters *counters;
    struct client client;
    struct edge edge;

    (void)state;
    setup(&edge);
    counters = streams_counters(edge.streams);
    client_open(&client, &edge, &usual);
    UNTIL(&edge, edge.proxy.opened == 1);
    assert_int_equal(counters->opened[TRANSPORT_TLS], 1);
    assert_int_equal(counters->handshakes_13[0], 1);
    client_close(&client);
    UNTIL(&edge, closed(&edge, TRANSPORT_TLS, CAUSE_CLIENT_CLOSED) +
                         closed(&edge, TRANSPORT_TLS, CAUSE_RESET) == /* its ticket was not read */
                     1);
    client_open(&client, &edge, &old);
    assert_int_equal(counters->handshakes_12[0], 1);
    client_close(&client);
    client_connect(&client, &edge, &plain);
    client_send(&client, "GET / HTTP/1.1\r\n\r\n", 18);
    UNTIL(&edge, closed(&edge, TRANSPORT_TLS, CAUSE_NOT_TLS) == 1);
    client_close(&client);
    UNTIL(&edge, streams_count(edge.streams) == 0);
    assert_int_equal(counters->opened[TRANSPORT_TLS], 3);
    edge_teardown(&edge);

    edge_setup(&edge);
    edge_start(&edge, CONF_TCP_WS, "127.0.0.1");
    counters = streams_counters(edge.streams);
    client_connect(&client, &edge, &plain);
    UNTIL(&edge, streams_count(edge.streams) == 1);
    assert_int_equal(counters->opened[TRANSPORT_UNDECIDED], 0);
    client_close(&client);
    UNTIL(&edge, closed(&edge, TRANSPORT_UNDECIDED, CAUSE_CLIENT_CLOSED) == 1);
    assert_int_equal(counters->opened[TRANSPORT_UNDECIDED], 1);
    edge_teardown(&edge);
}

static void slow_reader_ends(enum conf_listener_kind kind, bool is_plain)
{
    const struct client_options slow = {.receive_buffer = 4096, .plain = is_plain};
    struct client client;
    struct edge edge;

    edge_setup(&edge);
    edge_start(&edge, kind, "127.0.0.1");
    client_open(&client, &edge, &slow);
    /* It overflows while its own message is being received. */
    client_say(&client, "0013\nflood 10000000005\nnever");
    UNTIL(&edge, edge.proxy.closed == 1);
    assert_int_equal(edge.proxy.send_error, -ENOBUFS);
    assert_string_equal(edge.proxy.reason, "slow reader");
    UNTIL(&edge, streams_count(edge.streams) == 0);
    assert_int_equal(
        closed(&edge, kind == CONF_TLS ? TRANSPORT_TLS : TRANSPORT_TCP, CAUSE_SLOW_READER), 1);
    assert_int_equal(streams_counters(edge.streams)->queued, 0);
    assert_int_equal(client_ended(&client), CLIENT_RESET);
    client_close(&client);
    edge_teardown(&edge);
}

TEST(slow_reader_is_cut_when_its_queue_is_full_over_tls) /* X2 refused */
{
    (void)state;
    slow_reader_ends(CONF_TLS, false);
}

TEST(slow_reader_is_cut_when_its_queue_is_full_over_tcp) /* X2 refused */
{
    (void)state;
    slow_reader_ends(CONF_TCP, true);
}

/* Ends ----------------------------------------------------------------------------------------- */

TEST(close_from_inside_lets_the_answer_out_first)
{
    struct client client;
    struct edge edge;

    (void)state;
    setup(&edge);
    client_open(&client, &edge, &usual);
    client_say(&client, "0005\nclose0005\nnever");
    client_hear(&client, "0005\nclose");
    assert_int_equal(client_ended(&client), CLIENT_CLOSED_PROPERLY);
    UNTIL(&edge, edge.proxy.closed == 1);
    assert_string_equal(edge.proxy.reason, "silent for longer than its Flow-Timer");
    client_close(&client);
    UNTIL(&edge, streams_count(edge.streams) == 0);
    edge_teardown(&edge);
}

TEST(shutdown_says_close_notify_to_all)
{
    struct client clients[3], half;
    struct edge edge;

    (void)state;
    setup(&edge);
    for (size_t i = 0; i < ARRAY_LEN(clients); i++)
        client_open(&clients[i], &edge, &usual);
    client_connect(&half, &edge, &plain);
    UNTIL(&edge, streams_count(edge.streams) == 4);
    streams_close(edge.streams);
    assert_int_equal(edge.proxy.closed, 3);
    assert_string_equal(edge.proxy.reason, "server is stopping");
    for (size_t i = 0; i < ARRAY_LEN(clients); i++) {
        assert_int_equal(client_ended(&clients[i]), CLIENT_CLOSED_PROPERLY);
        client_close(&clients[i]);
    }
    UNTIL(&edge, streams_count(edge.streams) == 0);
    client_close(&half);
    edge_teardown(&edge);
}

TEST(drain_waits_for_a_busy_flow)
{
    struct client clients[3], half;
    struct edge edge;

    (void)state;
    setup(&edge);
    for (size_t i = 0; i < ARRAY_LEN(clients); i++) {
        client_open(&clients[i], &edge, &usual);
        if (i == 1)
            edge.proxy.busy = edge.proxy.last;
    }
    client_connect(&half, &edge, &plain);
    UNTIL(&edge, streams_count(edge.streams) == 4);
    streams_drain(edge.streams, 0);
    UNTIL(&edge, streams_count(edge.streams) == 1);
    assert_int_equal(edge.proxy.closed, 2);
    assert_string_equal(edge.proxy.reason, "server is draining");
    client_say(&clients[1], "0005\nhello");
    client_hear(&clients[1], "0005\nhello");
    streams_drain_look(edge.streams);
    assert_int_equal(edge.proxy.closed, 2);
    edge.proxy.busy = NULL;
    streams_drain_look(edge.streams);
    assert_int_equal(edge.proxy.closed, 3);
    for (size_t i = 0; i < ARRAY_LEN(clients); i++) {
        assert_int_equal(client_ended(&clients[i]), CLIENT_CLOSED_PROPERLY);
        client_close(&clients[i]);
    }
    UNTIL(&edge, streams_count(edge.streams) == 0);
    client_close(&half);
    edge_teardown(&edge);
}

TEST(drain_takes_its_time)
{
    enum { SPREAD_MS = 400 };
    struct client clients[12];
    uint64_t started;
    struct edge edge;

    (void)state;
    setup(&edge);
    for (size_t i = 0; i < ARRAY_LEN(clients); i++)
        client_open(&clients[i], &edge, &usual);
    started = uv_hrtime();
    streams_drain(edge.streams, SPREAD_MS);
    UNTIL(&edge, (streams_drain_look(edge.streams), edge.proxy.closed == ARRAY_LEN(clients)));
    /* One of twelve is almost certainly none of the first tenth. */
    assert_true(uv_hrtime() - started > SPREAD_MS / 10 * 1000000U);
    for (size_t i = 0; i < ARRAY_LEN(clients); i++)
        client_close(&clients[i]);
    edge_teardown(&edge);
}

TEST(peer_that_does_not_take_the_end_is_cut_after_a_second)
{
    uint64_t started = uv_hrtime();
    struct client client;
    struct edge edge;

    (void)state;
    setup(&edge);
    client_open(&client, &edge, &usual);
    streams_close(edge.streams);
    UNTIL(&edge, streams_count(edge.streams) == 0);
    assert_true(uv_hrtime() - started > 900000000);
    client_close(&client);
    edge_teardown(&edge);
}

TEST(client_that_ends_is_told_to_the_flow)
{
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    struct client client;
    struct edge edge;

    (void)state;
    setup(&edge);
    for (unsigned way = 0; way < 3; way++) {
        client_open(&client, &edge, &usual);
        client_say(&client, "0005\nhello0100\nand half");
        client_hear(&client, "0005\nhello");
        if (way == 0) {
            SSL_shutdown(client.ssl);
            assert_int_equal(client_ended(&client), CLIENT_CLOSED_PROPERLY);
        }
        if (way == 2)
            setsockopt(client.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        client_close(&client);
        UNTIL(&edge, edge.proxy.closed == way + 1);
        assert_string_equal(edge.proxy.reason,
                            cause_row(way == 2 ? CAUSE_RESET : CAUSE_CLIENT_CLOSED)->words);
        UNTIL(&edge, streams_count(edge.streams) == 0);
    }
    edge_teardown(&edge);
}

TEST(sending_to_a_client_that_is_gone_closes_it_from_the_loop)
{
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    struct client client;
    struct flow *flow;
    struct edge edge;

    (void)state;
    setup(&edge);
    client_open(&client, &edge, &usual);
    flow = edge.proxy.last;
    setsockopt(client.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    client_close(&client);
    assert_int_equal(flow->transport->send(flow->conn, STR("hello")), -EPIPE);
    assert_int_equal(flow->transport->send(flow->conn, STR("hello")), -EPIPE);
    flow->transport->close(flow->conn, CAUSE_STOPPING);
    assert_int_equal(edge.proxy.closed, 0); /* never inside send() */
    UNTIL(&edge, edge.proxy.closed == 1);
    assert_string_equal(edge.proxy.reason, cause_row(CAUSE_RESET)->words);
    edge_teardown(&edge);
}

TEST(broken_record_is_a_tls_error)
{
    struct client client;
    struct edge edge;

    (void)state;
    setup(&edge);
    client_open(&client, &edge, &usual);
    assert_int_equal(send(client.fd, "\x17\x03\x03\x00\x20not what the keys would make!!!!", 37, 0),
                     37);
    UNTIL(&edge, edge.proxy.closed == 1);
    assert_memory_equal(edge.proxy.reason, "TLS error: ", 11);
    client_close(&client);
    edge_teardown(&edge);
}

TEST(flow_that_finds_no_room_is_closed)
{
    struct client client;
    struct edge edge;

    (void)state;
    setup(&edge);
    edge.proxy.refuse = -EMFILE;
    client_connect(&client, &edge, &usual);
    assert_true(client_handshake(&client));
    assert_int_equal(client_ended(&client), CLIENT_CLOSED_PROPERLY);
    client_close(&client);
    UNTIL(&edge, streams_count(edge.streams) == 0);
    edge_teardown(&edge);
}

/* Handshakes ----------------------------------------------------------------------------------- */

static bool has_bytes(const struct client *client)
{
    char byte;

    return recv(client->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
}

/* Waiting ones have no time limit but the client's own; one that left is found when its turn comes.
 */
TEST(handshakes_begin_a_few_in_each_turn) /* F7 */
{
    enum { COUNT = 90, GONE = COUNT - 5, TURN_MAX = 32 };
    struct client clients[COUNT];
    struct edge edge;
    unsigned answered = 0, more;

    (void)state;
    setup(&edge);
    for (unsigned i = 0; i < COUNT; i++) {
        client_connect(&clients[i], &edge, &usual);
        assert_int_equal(SSL_do_handshake(clients[i].ssl), -1); /* its hello is out */
    }
    client_close(&clients[GONE]);
    while (answered < COUNT - 1) {
        edge_turn(&edge);
        more = 0;
        for (unsigned i = 0; i < COUNT; i++)
            more += i != GONE && has_bytes(&clients[i]);
        assert_in_range(more - answered, 0, TURN_MAX);
        answered = more;
    }
    for (unsigned i = 0; i < COUNT; i++)
        if (i != GONE) {
            assert_true(client_handshake(&clients[i]));
            client_close(&clients[i]);
        }
    edge_teardown(&edge);
}

TEST(handshakes_that_wait_end_with_a_stop) /* F7 */
{
    enum { COUNT = 60 };
    struct client clients[COUNT];
    struct edge edge;

    (void)state;
    setup(&edge);
    for (unsigned i = 0; i < COUNT; i++) {
        client_connect(&clients[i], &edge, &usual);
        assert_int_equal(SSL_do_handshake(clients[i].ssl), -1);
    }
    UNTIL(&edge, has_bytes(&clients[0]));
    edge_teardown(&edge);
    for (unsigned i = 0; i < COUNT; i++)
        client_close(&clients[i]);
}

static const struct {
    const char *what, *name, *host;
    int version;
    bool established;
} handshakes[] = {
    {"TLS 1.3",        "sip.example.com", "sip.example.com", 0,              true },
    {"TLS 1.2",        "sip.example.com", "sip.example.com", TLS1_2_VERSION, true },
    {"TLS 1.1",        "sip.example.com", "",                TLS1_1_VERSION, false},
    {"TLS 1.0",        "sip.example.com", "",                TLS1_VERSION,   false},
    {"second pair",    "a.example.org",   "a.example.org",   0,              true },
    {"no name",        NULL,              "-",               0,              true },
    {"name of nobody", "sip.invalid",     "-",               0,              true },
};

TEST(handshake_chooses_certificate_and_host) /* X4 */
{
    struct client client;
    struct edge edge;

    (void)state;
    setup(&edge);
    for (size_t i = 0; i < ARRAY_LEN(handshakes); i++) {
        const struct client_options options = {.name = handshakes[i].name,
                                               .version = handshakes[i].version};
        unsigned opened = edge.proxy.opened;

        client_connect(&client, &edge, &options);
        if (client_handshake(&client) != handshakes[i].established)
            fail_msg("%s: the other way round", handshakes[i].what);
        if (handshakes[i].established) {
            UNTIL(&edge, edge.proxy.opened > opened);
            if (strcmp(edge.proxy.host, handshakes[i].host) != 0)
                fail_msg("%s: host %s", handshakes[i].what, edge.proxy.host);
            client_say(&client, "0002\nhi");
            client_hear(&client, "0002\nhi");
        }
        client_close(&client);
        UNTIL(&edge, streams_count(edge.streams) == 0);
        assert_int_equal(edge.proxy.opened, opened + handshakes[i].established);
    }
    edge_teardown(&edge);
}

TEST(what_is_not_tls_gets_an_alert_and_no_flow)
{
    static const char *const hellos[] = {
        "REGISTER sip:sip.example.com SIP/2.0\r\nVia: SIP/2.0/TLS 192.0.2.7\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: sip.example.com\r\n\r\n",
        "\r\n\r\n\r\n\r\n\r\n\r\n",
    };
    struct client client;
    struct edge edge;

    (void)state;
    setup(&edge);
    for (size_t i = 0; i < ARRAY_LEN(hellos); i++) {
        client_connect(&client, &edge, &plain);
        client_say(&client, hellos[i]);
        assert_int_equal(client_ended(&client), CLIENT_CLOSED_PROPERLY); /* FIN, no RST */
        client_close(&client);
        UNTIL(&edge, streams_count(edge.streams) == 0);
    }
    assert_int_equal(edge.proxy.opened, 0);
    edge_teardown(&edge);
}

TEST(message_with_the_last_flight_is_not_forgotten)
{
    struct client client;
    struct edge edge;

    (void)state;
    setup(&edge);
    client_connect(&client, &edge, &usual);
    assert_true(client_handshake(&client)); /* the client's Finished is out, and unread */
    client_say(&client, "0005\nearly");
    client_hear(&client, "0005\nearly");
    client_close(&client);
    edge_teardown(&edge);
}

TEST(client_may_change_its_keys)
{
    struct client client;
    struct edge edge;

    (void)state;
    setup(&edge);
    client_open(&client, &edge, &usual);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(SSL_key_update(client.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
        client_say(&client, "0004\nkeys");
        client_hear(&client, "0004\nkeys");
    }
    client_close(&client);
    edge_teardown(&edge);
}

TEST(client_may_not_renegotiate) /* X4 refused */
{
    const struct client_options old = {.version = TLS1_2_VERSION};
    struct client client;
    struct edge edge;

    (void)state;
    setup(&edge);
    client_open(&client, &edge, &old);
    assert_int_equal(SSL_renegotiate(client.ssl), 1);
    assert_false(client_handshake(&client));
    client_close(&client);
    UNTIL(&edge, edge.proxy.closed == 1);
    edge_teardown(&edge);
}

TEST(flow_knows_its_transport_and_addresses)
{
    static const struct {
        const char *address, *peer, *local;
    } ways[] = {
        {"127.0.0.1", "127.0.0.1:", "127.0.0.1:"},
        {"any",       "127.0.0.1:", "127.0.0.1:"}, /* IPv4 through an IPv6 socket is plain IPv4 */
        {"::1",       "[::1]:",     "[::1]:"    },
    };

    (void)state;
    for (size_t i = 0; i < 2 * ARRAY_LEN(ways); i++) {
        bool tls = i % 2;
        struct client client;
        struct edge edge;

        edge_setup(&edge);
        edge_start(&edge, tls ? CONF_TLS : CONF_TCP, ways[i / 2].address);
        client_open(&client, &edge, tls ? &usual : &plain);
        assert_string_equal(edge.proxy.via, tls ? "TLS" : "TCP");
        assert_string_equal(edge.proxy.host, tls ? "sip.example.com" : "-");
        assert_memory_equal(edge.proxy.peer, ways[i / 2].peer, strlen(ways[i / 2].peer));
        assert_memory_equal(edge.proxy.local, ways[i / 2].local, strlen(ways[i / 2].local));
        client_say(&client, "0002\nhi");
        client_hear(&client, "0002\nhi");
        client_close(&client);
        edge_teardown(&edge);
    }
}

static bool client_was_shown(struct client *client, const char *name)
{
    BIO *in = BIO_new_file(pki_path(name), "r");
    X509 *leaf = PEM_read_bio_X509(in, NULL, NULL, NULL);
    bool same = X509_cmp(SSL_get0_peer_certificate(client->ssl), leaf) == 0;

    X509_free(leaf);
    BIO_free(in);
    return same;
}

/* As a reload does: the pair "next" takes the place of "ec". */
static void certificates_renew(struct edge *edge)
{
    free(edge->certificates[0].chain);
    free(edge->certificates[0].key);
    edge->certificates[0].chain = strdup(pki_path("next.pem"));
    edge->certificates[0].key = strdup(pki_path("next.key"));
    certificates_unref(&edge->table);
    edge->table = edge_certificates(edge);
    streams_certificates_set(edge->streams, edge->table);
}

TEST(handshakes_end_with_the_certificates_that_they_began_with)
{
    struct client before, silent, half, after;
    struct edge edge;

    (void)state;
    setup(&edge);
    client_open(&before, &edge, &usual);
    client_connect(&silent, &edge, &usual);
    client_connect(&half, &edge, &usual);
    UNTIL(&edge, atomic_load(&edge.connections) == 3);
    assert_int_equal(SSL_do_handshake(half.ssl), -1); /* the hello is under way */
    turns(&edge);
    certificates_renew(&edge);
    certificates_renew(&edge); /* what was in between goes at once */
    assert_true(client_handshake(&half) && client_was_shown(&half, "ec.pem"));
    assert_true(client_handshake(&silent) && client_was_shown(&silent, "ec.pem"));
    client_open(&after, &edge, &usual);
    assert_true(client_was_shown(&after, "next.pem"));
    client_say(&before, "0002\nhi");
    client_hear(&before, "0002\nhi");
    client_close(&before);
    client_close(&silent);
    client_close(&half);
    client_close(&after);
    client_connect(&half, &edge, &usual); /* and one that ends in between */
    UNTIL(&edge, atomic_load(&edge.connections) == 1);
    certificates_renew(&edge);
    client_close(&half);
    edge_teardown(&edge);
}

TEST(limits_of_a_new_configuration_are_for_all_that_comes)
{
    struct conf larger;
    struct client client;
    struct edge edge;

    (void)state;
    setup(&edge);
    client_open(&client, &edge, &usual);
    client_say(&client, "0005\nhe");
    turns(&edge);
    larger = edge.conf;
    larger.limits.message_size *= 2;
    larger.limits.idle_timeout_s = 60;
    assert_int_equal(streams_conf_prepare(edge.streams, &larger), 0);
    streams_conf_set(edge.streams, &larger);
    client_say(&client, "llo");
    client_hear(&client, "0005\nhello");
    edge.skew = 61000;
    UNTIL(&edge, edge.proxy.closed == 1);
    assert_string_equal(edge.proxy.reason, "idle timeout");
    client_close(&client);
    edge_teardown(&edge);
}

static int group_setup(void **state)
{
    (void)state;
    pki_make(&(struct pki_spec){.san = "DNS:sip.example.com"}, "ec.pem", "ec.key");
    pki_make(&(struct pki_spec){.san = "DNS:*.example.org"}, "wild.pem", "wild.key");
    pki_make(&(struct pki_spec){.san = "DNS:sip.example.com"}, "next.pem", "next.key");
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    pki_remove();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(message_cut_at_any_byte_is_one_message_over_tls),
        cmocka_unit_test(message_cut_at_any_byte_is_one_message_over_tcp),
        cmocka_unit_test(several_messages_in_one_record_are_all_taken),
        cmocka_unit_test(more_records_than_one_wake_up_reads_are_all_taken),
        cmocka_unit_test(big_message_passes_whole_over_tls),
        cmocka_unit_test(big_message_passes_whole_over_tcp),
        cmocka_unit_test(message_that_never_ends_is_cut_off_at_the_buffer),
        cmocka_unit_test(lost_framing_is_answered_then_closed),
        cmocka_unit_test(half_a_handshake_is_closed_after_its_time),
        cmocka_unit_test(handshake_limit_holds_on_the_real_clock),
        cmocka_unit_test(silence_after_the_handshake_is_closed),
        cmocka_unit_test(half_a_message_is_closed_however_it_trickles),
        cmocka_unit_test(message_completed_in_time_starts_no_other_limit),
        cmocka_unit_test(idle_limit_can_be_off),
        cmocka_unit_test(slow_reader_gets_all_that_the_queue_holds),
        cmocka_unit_test(connections_are_counted_by_what_they_became_and_why_they_ended),
        cmocka_unit_test(slow_reader_is_cut_when_its_queue_is_full_over_tls),
        cmocka_unit_test(slow_reader_is_cut_when_its_queue_is_full_over_tcp),
        cmocka_unit_test(close_from_inside_lets_the_answer_out_first),
        cmocka_unit_test(shutdown_says_close_notify_to_all),
        cmocka_unit_test(drain_waits_for_a_busy_flow),
        cmocka_unit_test(drain_takes_its_time),
        cmocka_unit_test(peer_that_does_not_take_the_end_is_cut_after_a_second),
        cmocka_unit_test(client_that_ends_is_told_to_the_flow),
        cmocka_unit_test(sending_to_a_client_that_is_gone_closes_it_from_the_loop),
        cmocka_unit_test(broken_record_is_a_tls_error),
        cmocka_unit_test(flow_that_finds_no_room_is_closed),
        cmocka_unit_test(handshakes_begin_a_few_in_each_turn),
        cmocka_unit_test(handshakes_that_wait_end_with_a_stop),
        cmocka_unit_test(handshake_chooses_certificate_and_host),
        cmocka_unit_test(what_is_not_tls_gets_an_alert_and_no_flow),
        cmocka_unit_test(message_with_the_last_flight_is_not_forgotten),
        cmocka_unit_test(client_may_change_its_keys),
        cmocka_unit_test(client_may_not_renegotiate),
        cmocka_unit_test(flow_knows_its_transport_and_addresses),
        cmocka_unit_test(handshakes_end_with_the_certificates_that_they_began_with),
        cmocka_unit_test(limits_of_a_new_configuration_are_for_all_that_comes),
    };

    log_open(LOG_ERROR, false);
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}

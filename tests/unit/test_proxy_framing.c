/* Where messages begin and end, through the whole proxy (rules F). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "calls.h"

#define MESSAGE(branch)                                                                            \
    "MESSAGE sip:bob@sip.test SIP/2.0\r\nVia: SIP/2.0/TLS x;branch=z9hG4bK" branch "\r\n"          \
    "From: <sip:a@sip.test>;tag=a\r\nTo: <sip:bob@sip.test>\r\nCall-ID: f\r\nCSeq: 1 MESSAGE\r\n"
#define BODY(text) "Content-Length: 5\r\n\r\n" text

/* Bytes on alice's stream, of which what was not taken comes again with the rest: as a transport
 * does it. Returns the last thing the transport was told. */
static ssize_t stream(struct str bytes, size_t piece)
{
    char *kept = malloc(bytes.len + 1);
    size_t have = 0, scanned = 0;
    ssize_t taken = 0;

    assert_non_null(kept);
    for (size_t at = 0; at < bytes.len && taken >= 0; at += piece) {
        size_t len = piece < bytes.len - at ? piece : bytes.len - at;

        memcpy(kept + have, bytes.p + at, len);
        have += len;
        taken = proxy_receive_stream(alice->flow, kept, have, &scanned, edge.now);
        if (taken > 0) {
            have -= (size_t)taken;
            memmove(kept, kept + taken, have);
        }
    }
    free(kept);
    return taken < 0 ? taken : (ssize_t)have;
}

static void messages_in_any_pieces_are_the_same_messages(void **state) /* F1, F2 */
{
    const struct str bytes = STR("\r\n\r\n" MESSAGE("1") BODY("first") "\r\n" MESSAGE("2")
                                     BODY("secon") MESSAGE("3") "Content-Length: 0\r\n\r\n");
    static const char *const bodies[] = {"first", "secon", ""};

    (void)state;
    for (size_t piece = 1; piece <= bytes.len; piece++) {
        assert_int_equal(stream(bytes, piece), 0);
        assert_int_equal(edge.core.count, 3);
        for (size_t i = 0; i < ARRAY_LEN(bodies); i++)
            assert_string_equal(strstr(edge.core.messages[i], "\r\n\r\n") + 4, bodies[i]);
        assert_int_equal(alice->inbox.count, 1); /* the pong, and nothing else */
        inbox_take(&edge.core);
        inbox_take(&alice->inbox);
        edge_wait(&edge, 40000); /* the transactions end: the next are new ones */
        inbox_take(&edge.core);
    }
}

static void half_a_message_goes_nowhere(void **state) /* F1 refused */
{
    const struct str bytes = STR(MESSAGE("1") BODY("first"));

    (void)state;
    for (size_t len = 1; len < bytes.len; len++) {
        assert_true(stream((struct str){bytes.p, len}, len) > 0);
        assert_int_equal(edge.core.count + alice->inbox.count, 0);
    }
}

static void pings_get_pongs(void **state) /* F2 */
{
    (void)state;
    char ping[] = "\r\n\r\n";

    assert_int_equal(stream(STR("\r\n\r\n"), 4), 0);
    assert_string_equal(inbox_last(&alice->inbox), "\r\n");
    assert_int_equal(stream(STR("\r\n\r\n"), 3), 0);
    assert_int_equal(inbox_take(&alice->inbox), 2);
    assert_int_equal(proxy_receive_message(bob->flow, ping, 4, edge.now), 0);
    assert_string_equal(inbox_last(&bob->inbox), "\r\n");
}

static void keepalives_go_no_further_and_a_pong_gets_nothing(void **state) /* F2 refused */
{
    (void)state;
    char pong[] = "\r\n", ping[] = "\r\n\r\n", zero[4] = "";

    assert_int_equal(stream(STR("\r\n"), 2), 0);
    assert_int_equal(proxy_receive_message(bob->flow, pong, 2, edge.now), 0);
    assert_int_equal(proxy_receive_message(bob->flow, pong, 0, edge.now), 0);
    proxy_receive_core(edge.proxy, &edge.pbx, ping, 4, edge.now); /* a PBX that does so too */
    proxy_receive_core(edge.proxy, &edge.pbx, zero, 4, edge.now);
    assert_int_equal(stream(STR("\r\n\r\n"), 4), 0);
    assert_int_equal(edge.core.count + bob->inbox.count, 0);
    assert_int_equal(alice->inbox.count, 1);
    assert_int_equal(proxy_counters(edge.proxy)->dropped_broken, 0);
}

static void content_length_is_right_in_many_spellings(void **state) /* F3, N1 to core, N3 to core */
{
    static const char *const spellings[] = {
        "Content-Length: 5", "l:5", "CONTENT-LENGTH :\t5 ", "Content-Length:\r\n 5", "l: 00005",
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(spellings); i++) {
        char text[1024];
        int len =
            snprintf(text, sizeof(text), MESSAGE("%zu") "%s\r\n\r\nfirst\r\n", i, spellings[i]);

        assert_int_equal(stream((struct str){text, (size_t)len}, (size_t)len), 0);
        assert_string_equal(header_of(inbox_last(&edge.core), "Content-Length", 0), "5");
        assert_string_equal(strstr(inbox_last(&edge.core), "\r\n\r\n"), "\r\n\r\nfirst");
    }
}

static void lost_framing_is_answered_and_closes(void **state) /* F3 refused */
{
    static const struct {
        const char *lines, *answer;
    } cases[] = {
        {"",                                         "SIP/2.0 400 Missing Content-Length"    },
        {"Content-Length: -5\r\n",                   "SIP/2.0 400 Bad Content-Length"        },
        {"Content-Length: five\r\n",                 "SIP/2.0 400 Bad Content-Length"        },
        {"Content-Length:\r\n",                      "SIP/2.0 400 Bad Content-Length"        },
        {"Content-Length: 5 5\r\n",                  "SIP/2.0 400 Bad Content-Length"        },
        {"Content-Length: 99999999999999999999\r\n", "SIP/2.0 513 Message Too Large"         },
        {"Content-Length: 5\r\nl: 6\r\n",            "SIP/2.0 400 Conflicting Content-Length"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[1024];
        int len = snprintf(text, sizeof(text),
                           MESSAGE("1") "%s\r\nfirst" MESSAGE("2") BODY("secon"), cases[i].lines);

        assert_int_equal(stream((struct str){text, (size_t)len}, (size_t)len),
                         strstr(cases[i].answer, "513") ? -EMSGSIZE : -EPROTO);
        assert_string_equal(start_line(inbox_last(&alice->inbox)), cases[i].answer);
        assert_int_equal(inbox_take(&alice->inbox), 1);
        assert_int_equal(edge.core.count, 0);
    }
    /* an ACK, a response, and what is no SIP: not answered, and closed all the same (V5) */
    static const char *const silent[] = {
        "ACK sip:bob@sip.test SIP/2.0\r\nVia: SIP/2.0/TLS x;branch=z9hG4bKa\r\nFrom: "
        "<sip:a@b>;tag=a"
        "\r\nTo: <sip:a@b>;tag=b\r\nCall-ID: f\r\nCSeq: 1 ACK\r\n\r\n",
        "SIP/2.0 200 OK\r\nVia: SIP/2.0/TLS x;branch=z9hG4bKa\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(silent); i++)
        assert_int_equal(stream(str_of(silent[i]), strlen(silent[i])), -EPROTO);
    assert_int_equal(edge.core.count + alice->inbox.count, 0);
}

/* One whole WebSocket message of bob's. */
static int websocket(const char *text)
{
    char *bytes = strdup(text);
    int err = proxy_receive_message(bob->flow, bytes, strlen(text), edge.now);

    free(bytes);
    return err;
}

static void the_end_of_a_websocket_message_is_the_end(void **state) /* F4, N3 to core */
{
    static const struct {
        const char *message, *body, *length;
    } cases[] = {
        {MESSAGE("1") "\r\nno length",            "no length", "9"},
        {MESSAGE("2") "\r\n",                     "",          "0"},
        {MESSAGE("3") BODY("first and surplus"),  "first",     "5"},
        {"\r\n" MESSAGE("4") BODY("first"),       "first",     "5"},
        {MESSAGE("5") "l: 0\r\n\r\n" MESSAGE(""), "",          "0"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(websocket(cases[i].message), 0);
        assert_int_equal(edge.core.count, i + 1);
        assert_string_equal(header_of(inbox_last(&edge.core), "Content-Length", 0),
                            cases[i].length);
        assert_string_equal(strstr(inbox_last(&edge.core), "\r\n\r\n") + 4, cases[i].body);
    }
}

static void more_than_a_websocket_message_has_is_refused(void **state) /* F4 refused */
{
    (void)state;
    assert_int_equal(websocket(MESSAGE("1") BODY("firs")), 0); /* framing is not in doubt */
    assert_string_equal(start_line(inbox_last(&bob->inbox)),
                        "SIP/2.0 400 Content-Length does not match the body");
    assert_int_equal(websocket(MESSAGE("2") "Content-Length: x\r\n\r\n"), 0);
    assert_string_equal(start_line(inbox_last(&bob->inbox)), "SIP/2.0 400 Bad Content-Length");
    assert_int_equal(edge.core.count, 0);
}

/* A MESSAGE of exactly `len` bytes. */
static char *message_of(size_t len)
{
    static const char head[] = MESSAGE("big") "Content-Length: 00000\r\n\r\n";
    char *text = malloc(len + 1);
    char digits[8];

    assert_non_null(text);
    memset(text, 'x', len);
    text[len] = '\0';
    memcpy(text, head, sizeof(head) - 1);
    snprintf(digits, sizeof(digits), "%05zu", len - (sizeof(head) - 1));
    memcpy(strstr(text, "00000"), digits, 5);
    return text;
}

static void a_message_of_the_largest_size_passes(void **state) /* F6 */
{
    (void)state;
    char *text = message_of(65536);

    assert_int_equal(stream((struct str){text, 65536}, 16384), 0);
    assert_int_equal(edge.core.count, 1);
    edge_wait(&edge, 40000);
    inbox_take(&edge.core);
    assert_int_equal(websocket(text), 0);
    assert_int_equal(edge.core.count, 1);
    free(text);
}

static void a_larger_one_is_refused_and_closes(void **state) /* F6 refused */
{
    (void)state;
    char *text = message_of(65537);

    assert_int_equal(stream((struct str){text, 65537}, 16384), -EMSGSIZE);
    assert_string_equal(start_line(inbox_last(&alice->inbox)), "SIP/2.0 513 Message Too Large");
    assert_int_equal(websocket(text), -EMSGSIZE);
    free(text);
    /* headers without end */
    text = malloc(70001);
    memset(text, 'x', 70000);
    memcpy(text, MESSAGE("1") "X: ", sizeof(MESSAGE("1") "X: ") - 1);
    inbox_take(&alice->inbox);
    assert_int_equal(stream((struct str){text, 70000}, 7000), -EMSGSIZE);
    assert_string_equal(start_line(inbox_last(&alice->inbox)), "SIP/2.0 513 Message Too Large");
    free(text);
    assert_int_equal(edge.core.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        MASK(messages_in_any_pieces_are_the_same_messages),
        MASK(half_a_message_goes_nowhere),
        MASK(pings_get_pongs),
        MASK(keepalives_go_no_further_and_a_pong_gets_nothing),
        MASK(content_length_is_right_in_many_spellings),
        MASK(lost_framing_is_answered_and_closes),
        MASK(the_end_of_a_websocket_message_is_the_end),
        MASK(more_than_a_websocket_message_has_is_refused),
        MASK(a_message_of_the_largest_size_passes),
        MASK(a_larger_one_is_refused_and_closes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

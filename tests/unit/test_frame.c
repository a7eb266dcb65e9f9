#include <stdlib.h>

#include "check.h"
#include "proxy/message.h"

enum { MAX = 4096 };

/* ---- a connection that gets bytes in pieces ---- */

struct trace {
    char text[8192]; /* "M" and the message, "P" for a ping, "B400" */
    size_t len;
};

static void trace_add(struct trace *trace, struct str s)
{
    assert_true(s.len <= sizeof(trace->text) - trace->len);
    if (s.len)
        memcpy(trace->text + trace->len, s.p, s.len);
    trace->len += s.len;
}

/* Bytes [*taken, have) of the stream are in the buffer. false: the connection is closed. */
static bool trace_frames(struct trace *trace, struct str stream, size_t have, size_t *taken,
                         size_t *scanned)
{
    for (;;) {
        /* a copy of exactly these bytes: the sanitizer sees a look beyond */
        size_t len = have - *taken;
        char *bytes = malloc(len + !len), status[16];
        struct sip_frame frame;

        memcpy(bytes, stream.p + *taken, len);
        sip_frame((struct str){bytes, len}, MAX, scanned, &frame);
        free(bytes);
        assert_true(frame.taken <= len);
        switch (frame.kind) {
        case FRAME_MORE:
            assert_true(frame.need > len);
            assert_int_equal(frame.taken, 0);
            return true;
        case FRAME_PING: trace_add(trace, STR("P")); break;
        case FRAME_IGNORE: break;
        case FRAME_MESSAGE:
            trace_add(trace, STR("M"));
            trace_add(trace, (struct str){stream.p + *taken + frame.start, frame.len});
            break;
        case FRAME_BROKEN:
            (void)snprintf(status, sizeof(status), "B%d", refusals[frame.refusal].status);
            trace_add(trace, str_of(status));
            return false;
        }
        assert_true(frame.taken > 0);
        *taken += frame.taken;
    }
}

static void trace_pieces(struct trace *trace, struct str stream, const size_t *ends, size_t count)
{
    size_t taken = 0, scanned = 0;

    trace->len = 0;
    for (size_t i = 0; i < count; i++)
        if (!trace_frames(trace, stream, ends[i], &taken, &scanned))
            return;
}

#define REQUEST(headers) "OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/TLS b\r\n" headers

#define PLAIN REQUEST("Content-Length: 0\r\n\r\n")
#define BODY REQUEST("l:4\r\n\r\n\r\n\r\n")
#define NULS REQUEST("Content-Length : 3 \r\nX: y\r\n\r\n\0x\0")
#define BARE "OPTIONS sip:a SIP/2.0\nX: y\n l: 9\nL:\n \t2 \nZ:\n\nab"
#define MIXED "OPTIONS sip:a SIP/2.0\r\nconTENT-length:1\n\r\nx"
#define MIXED2 "OPTIONS sip:a SIP/2.0\r\ncontent-length\r\n : 1\r\n\nx"

static const struct str stream = STR("\r\n\r\n" PLAIN "\r\n" BODY "\r\n\r\n\r\n" NULS BARE
                                     "\n\n\r\n" MIXED "\r\n\r\n\r\n\r\n" MIXED2 PLAIN "\r\n");
static const struct str frames =
    STR("PM" PLAIN "M" BODY "PM" NULS "M" BARE "M" MIXED "PPM" MIXED2 "M" PLAIN);

static void split_at_any_byte_gives_the_same_messages(void **state) /* F1, F2 */
{
    struct trace *trace = malloc(sizeof(*trace));
    size_t ends[1024];

    (void)state;
    assert_true(stream.len < ARRAY_LEN(ends));
    for (size_t piece = 1; piece <= stream.len; piece++) {
        size_t count = 0;

        for (size_t end = piece; end < stream.len; end += piece)
            ends[count++] = end;
        ends[count++] = stream.len;
        trace_pieces(trace, stream, ends, count);
        CHECK_STR("pieces", ((struct str){trace->text, trace->len}), frames);
    }
    for (size_t cut = 0; cut < stream.len; cut++) {
        trace_pieces(trace, stream, (const size_t[]){cut, stream.len}, 2);
        CHECK_STR("one cut", ((struct str){trace->text, trace->len}), frames);
    }
    free(trace);
}

/* ---- broken framing ---- */

static const struct {
    const char *what, *headers;
    int status;
    const char *error;
} broken[] = {
    {"none",                "X: y\r\n",                                           400, "Missing Content-Length"    },
    {"negative",            "Content-Length: -1\r\n",                             400, "Bad Content-Length"        },
    {"signed",              "Content-Length: +1\r\n",                             400, "Bad Content-Length"        },
    {"empty",               "Content-Length:\r\n",                                400, "Bad Content-Length"        },
    {"not a number",        "Content-Length: x\r\n",                              400, "Bad Content-Length"        },
    {"hexadecimal",         "Content-Length: 0x1\r\n",                            400, "Bad Content-Length"        },
    {"list",                "Content-Length: 1, 1\r\n",                           400, "Bad Content-Length"        },
    {"folded in two",       "Content-Length: 1\r\n 1\r\n",                        400, "Bad Content-Length"        },
    {"bare CR",             "Content-Length: 1\r\r\n",                            400, "Bad Content-Length"        },
    {"two that differ",     "Content-Length: 1\r\nX: y\r\nContent-Length: 2\r\n", 400,
     "Conflicting Content-Length"                                                                                  },
    {"compact and long",    "l: 1\r\ncontent-LENGTH: 2\r\n",                      400, "Conflicting Content-Length"},
    {"second one bad",      "l: 1\r\nl: x\r\n",                                   400, "Bad Content-Length"        },
    {"above the limit",     "Content-Length: 4097\r\n",                           513, "Message Too Large"         },
    {"with its head",       "Content-Length: 4050\r\n",                           513, "Message Too Large"         },
    {"above 64 bits",       "l: 99999999999999999999999999\r\n",                  513, "Message Too Large"         },
    {"in a folded line",    "X: y\r\n Content-Length: 1\r\n",                     400, "Missing Content-Length"    },
    {"in another's name",   "XContent-Length: 1\r\nlx: 1\r\n",                    400, "Missing Content-Length"    },
    {"after a bare CR",     "X: y\rContent-Length: 1\r\n",                        400, "Missing Content-Length"    },
    {"in the request line", "",                                                   400, "Missing Content-Length"    },
};

static void lost_framing_is_refused(void **state) /* F3, F6 */
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(broken); i++) {
        char text[512];
        struct sip_frame frame;
        size_t scanned = 0;
        int len =
            snprintf(text, sizeof(text), "OPTIONS sip:a SIP/2.0\r\n%s\r\nbody", broken[i].headers);

        sip_frame((struct str){text, (size_t)len}, MAX, &scanned, &frame);
        CHECK_INT(broken[i].what, frame.kind, FRAME_BROKEN);
        CHECK_INT(broken[i].what, refusals[frame.refusal].status, broken[i].status);
        CHECK_STR(broken[i].what, str_of(refusals[frame.refusal].reason), str_of(broken[i].error));
        CHECK_INT(broken[i].what, frame.start + frame.len, len - 4);
    }
}

static void equal_content_lengths_keep_the_framing(void **state) /* F3: the scan refuses them */
{
    struct str bytes = STR(REQUEST("l: 1\r\nContent-Length: 01\r\n\r\nx"));
    struct sip_frame frame;
    size_t scanned = 0;

    (void)state;
    sip_frame(bytes, MAX, &scanned, &frame);
    assert_int_equal(frame.kind, FRAME_MESSAGE);
    assert_int_equal(frame.len, bytes.len);
}

static void message_of_exactly_the_limit_passes(void **state) /* F6 */
{
    char text[MAX];
    struct sip_frame frame;
    size_t scanned = 0;
    int head = snprintf(text, sizeof(text), REQUEST("Content-Length: %04d\r\n\r\n"), 0);

    (void)state;
    (void)snprintf(text, sizeof(text), REQUEST("Content-Length: %04d\r\n\r\n"), MAX - head);
    memset(text + head, 'x', (size_t)(MAX - head));
    sip_frame((struct str){text, MAX}, MAX, &scanned, &frame);
    assert_int_equal(frame.kind, FRAME_MESSAGE);
    assert_int_equal(frame.len, MAX);

    scanned = 0;
    sip_frame((struct str){text, MAX}, MAX - 1, &scanned, &frame);
    assert_int_equal(frame.kind, FRAME_BROKEN);
    assert_int_equal(frame.refusal, REFUSE_TOO_LARGE);
}

static void endless_headers_are_refused_at_the_limit(void **state) /* F6, F7 */
{
    char text[MAX];
    struct sip_frame frame;
    size_t scanned = 0, len = 0;

    (void)state;
    memset(text, 'x', sizeof(text));
    memcpy(text, REQUEST("X: "), sizeof(REQUEST("X: ")) - 1);
    do
        sip_frame((struct str){text, ++len}, MAX, &scanned, &frame);
    while (frame.kind == FRAME_MORE);
    assert_int_equal(len, MAX);
    assert_int_equal(frame.kind, FRAME_BROKEN);
    assert_int_equal(frame.refusal, REFUSE_TOO_LARGE);
    /* the whole lines, so that it can be answered if they hold enough */
    assert_int_equal(frame.len, sizeof(REQUEST("")) - 1);
}

static void slow_sender_costs_no_second_look(void **state) /* F7 */
{
    static const struct str bytes = STR(REQUEST("Content-Length: 100\r\n\r\n"));
    struct sip_frame frame;
    size_t scanned = 0;

    (void)state;
    for (size_t len = 1; len < bytes.len; len++) {
        sip_frame((struct str){bytes.p, len}, MAX, &scanned, &frame);
        assert_int_equal(frame.kind, FRAME_MORE);
        assert_true(scanned + 2 >= len);
    }
    sip_frame(bytes, MAX, &scanned, &frame);
    assert_int_equal(frame.kind, FRAME_MORE);
    assert_int_equal(frame.need, bytes.len + 100);
    /* while the body comes, the head is not even looked at */
    sip_frame((struct str){NULL, bytes.len + 99}, MAX, &scanned, &frame);
    assert_int_equal(frame.kind, FRAME_MORE);
    assert_int_equal(frame.need, bytes.len + 100);
}

static void lone_crlf_is_taken_at_once(void **state) /* F2, F7: a pong is not half a message */
{
    struct sip_frame frame;
    size_t scanned = 0;

    (void)state;
    sip_frame(STR("\r\n"), MAX, &scanned, &frame);
    assert_int_equal(frame.kind, FRAME_IGNORE);
    assert_int_equal(frame.taken, 2);
    sip_frame(STR(PLAIN), MAX, &scanned, &frame);
    assert_int_equal(frame.kind, FRAME_MESSAGE);
    /* the message between them: these are two, not a ping */
    sip_frame(STR("\r\n"), MAX, &scanned, &frame);
    assert_int_equal(frame.kind, FRAME_IGNORE);
    sip_frame(STR("\r\n"), MAX, &scanned, &frame);
    assert_int_equal(frame.kind, FRAME_PING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(split_at_any_byte_gives_the_same_messages),
        cmocka_unit_test(lost_framing_is_refused),
        cmocka_unit_test(equal_content_lengths_keep_the_framing),
        cmocka_unit_test(message_of_exactly_the_limit_passes),
        cmocka_unit_test(endless_headers_are_refused_at_the_limit),
        cmocka_unit_test(slow_sender_costs_no_second_look),
        cmocka_unit_test(lone_crlf_is_taken_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

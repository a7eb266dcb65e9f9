/* What is a message at all, through the whole proxy, from either side (rules V). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "calls.h"

#define VIA "Via: SIP/2.0/TLS x.invalid;branch=z9hG4bKv#;rport\n"
#define FROM "From: <sip:a@sip.test>;tag=a\n"
#define TO "To: <sip:bob@sip.test>\n"
#define CALL "Call-ID: v#@x\n"
#define CSEQ "CSeq: 1 MESSAGE\n"
#define END "Content-Length: 0\n\n"
#define GOOD VIA FROM TO CALL CSEQ

struct refused {
    const char *what, *text, *answer;
};

/* Each is refused with this start line and goes no further, and the same side is served as before.
 */
static void check_refused(bool to_core, const struct refused *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t rejected = rejected_count(proxy_counters(edge.proxy));
        struct passage passage = cross(to_core, cases[i].text);

        if (strncmp(passage.answer, cases[i].answer, strlen(cases[i].answer)) != 0 ||
            passage.passed[0] || passage.told)
            fail_msg("%s: told %d, answered %s, passed %s", cases[i].what, passage.told,
                     passage.answer, passage.passed);
        assert_non_null(strstr(header_of(passage.answer, "Via", 0), "x.invalid;branch=z9hG4bKv"));
        assert_int_equal(rejected_count(proxy_counters(edge.proxy)), rejected + 1);
        passage = cross(to_core, "MESSAGE $ SIP/2.0\n" GOOD END);
        assert_memory_equal(passage.passed, "MESSAGE ", 8);
    }
}

/* ---- V1 ---- */

#define WITHOUT_TAG "MESSAGE $ SIP/2.0\n" VIA "From: <sip:a@sip.test>\n" TO CALL CSEQ END

static const struct refused mandatory[] = {
    {"no From",            "MESSAGE $ SIP/2.0\n" VIA TO CALL CSEQ END,                              "SIP/2.0 400 Missing From\r"},
    {"no To",              "MESSAGE $ SIP/2.0\n" VIA FROM CALL CSEQ END,                            "SIP/2.0 400 Missing To\r"  },
    {"From in no shape",   "MESSAGE $ SIP/2.0\n" VIA "From: <sip:a;tag=a\n" TO CALL CSEQ END,
     "SIP/2.0 400 Bad From\r"                                                                                                   },
    {"To in no shape",     "MESSAGE $ SIP/2.0\n" VIA FROM "To: \"b <sip:b>\n" CALL CSEQ END,
     "SIP/2.0 400 Bad To\r"                                                                                                     },
    {"CSeq of 2^31",       "MESSAGE $ SIP/2.0\n" VIA FROM TO CALL "CSeq: 2147483648 MESSAGE\n" END,
     "SIP/2.0 400 Bad CSeq\r"                                                                                                   },
    {"CSeq above 2^32",    "MESSAGE $ SIP/2.0\n" VIA FROM TO CALL "CSeq: 4294967297 MESSAGE\n" END,
     "SIP/2.0 400 Bad CSeq\r"                                                                                                   },
    {"CSeq of another",    "MESSAGE $ SIP/2.0\n" VIA FROM TO CALL "CSeq: 1 INVITE\n" END,
     "SIP/2.0 400 CSeq method does not match\r"                                                                                 },
    {"CSeq in other case", "MESSAGE $ SIP/2.0\n" VIA FROM TO CALL "CSeq: 1 message\n" END,
     "SIP/2.0 400 CSeq method does not match\r"                                                                                 },
};

static void a_request_without_what_it_needs_is_refused_and_told_what(
    void **state) /* V1 to core refused, V1 to access refused */
{
    static const struct refused tag[] = {
        {"From without tag", WITHOUT_TAG, "SIP/2.0 400 Missing From tag\r"},
    };
    (void)state;
    check_refused(true, mandatory, ARRAY_LEN(mandatory));
    check_refused(false, mandatory, ARRAY_LEN(mandatory));
    check_refused(true, tag, ARRAY_LEN(tag));
}

static void the_core_may_be_of_rfc_2543(void **state) /* V1 to access */
{
    (void)state;
    struct passage passage = cross(false, WITHOUT_TAG);

    assert_string_equal(header_of(passage.passed, "From", 0), "<sip:a@sip.test>");
}

static void the_limits_of_cseq_pass(void **state) /* V1 to core, V1 to access */
{
    (void)state;
    for (int to_core = 0; to_core < 2; to_core++) {
        struct passage passage =
            cross(to_core, "MESSAGE $ SIP/2.0\n" VIA FROM TO CALL "CSeq: 2147483647 MESSAGE\n" END);

        assert_string_equal(header_of(passage.passed, "CSeq", 0), "2147483647 MESSAGE");
        passage = cross(to_core, "MESSAGE $ SIP/2.0\n" VIA FROM TO CALL "CSeq: 0 MESSAGE\n" END);
        assert_string_equal(header_of(passage.passed, "CSeq", 0), "0 MESSAGE");
    }
}

/* ---- V2 ---- */

static void
other_versions_and_schemes_are_refused(void **state) /* V2 to core refused, V2 to access refused */
{
    static const struct refused cases[] = {
        {"version 7",    "MESSAGE $ SIP/7.0\n" GOOD END,          "SIP/2.0 505 Version Not Supported\r" },
        {"version 2.00", "MESSAGE $ SIP/2.00\n" GOOD END,         "SIP/2.0 505 Version Not Supported\r" },
        {"http",         "MESSAGE http://x/ SIP/2.0\n" GOOD END,  "SIP/2.0 416 Unsupported URI Scheme\r"},
        {"mailto",       "MESSAGE mailto:a@b SIP/2.0\n" GOOD END, "SIP/2.0 416 Unsupported URI Scheme\r"},
        {"no URI",       "MESSAGE  SIP/2.0\n" GOOD END,           "SIP/2.0 400 Bad request line\r"      },
        {"two URIs",     "MESSAGE $ $ SIP/2.0\n" GOOD END,        "SIP/2.0 400 Bad request line\r"      },
    };
    (void)state;
    check_refused(true, cases, ARRAY_LEN(cases));
    check_refused(false, cases, ARRAY_LEN(cases));
}

static void an_unknown_method_passes_and_so_do_tel_and_sips(void **state) /* V2, T1 */
{
    (void)state;
    for (int to_core = 0; to_core < 2; to_core++) {
        struct passage passage = cross(to_core, "DO-IT!%*_+`' $ SIP/2.0\n" VIA FROM TO CALL
                                                "CSeq: 1 DO-IT!%*_+`'\n" END);

        assert_memory_equal(passage.passed, "DO-IT!%*_+`' sip:", 17);
        assert_string_equal(passage.answer, "");
    }
    assert_memory_equal(cross(true, "MESSAGE tel:+15551234 SIP/2.0\n" GOOD END).passed,
                        "MESSAGE tel:+15551234 SIP/2.0\r\n", 31);
    assert_memory_equal(cross(true, "MESSAGE sips:b@x SIP/2.0\n" GOOD END).passed,
                        "MESSAGE sips:b@x SIP/2.0\r\n", 26);
}

/* ---- V3 ---- */

static void
what_may_stand_once_stands_once(void **state) /* V3 to core refused, V3 to access refused */
{
    static const struct refused cases[] = {
        {"From",           "MESSAGE $ SIP/2.0\n" GOOD FROM END,                                 "SIP/2.0 400 Duplicate From\r"   },
        {"From, compact",  "MESSAGE $ SIP/2.0\n" GOOD "f: <sip:x@y>;tag=z\n" END,
         "SIP/2.0 400 Duplicate From\r"                                                                                          },
        {"To",             "MESSAGE $ SIP/2.0\n" GOOD TO END,                                   "SIP/2.0 400 Duplicate To\r"     },
        {"Call-ID",        "MESSAGE $ SIP/2.0\n" GOOD CALL END,                                 "SIP/2.0 400 Duplicate Call-ID\r"},
        {"CSeq",           "MESSAGE $ SIP/2.0\n" GOOD CSEQ END,                                 "SIP/2.0 400 Duplicate CSeq\r"   },
        {"Max-Forwards",   "MESSAGE $ SIP/2.0\n" GOOD "Max-Forwards: 9\nMax-Forwards: 9\n" END,
         "SIP/2.0 400 Duplicate Max-Forwards\r"                                                                                  },
        {"Content-Length", "MESSAGE $ SIP/2.0\n" GOOD "l: 0\n" END,
         "SIP/2.0 400 Duplicate Content-Length\r"                                                                                },
    };
    (void)state;
    check_refused(true, cases, ARRAY_LEN(cases));
    check_refused(false, cases, ARRAY_LEN(cases));
}

static void what_may_stand_twice_does(void **state) /* V3, N2 to core, N2 to access */
{
    (void)state;
    for (int to_core = 0; to_core < 2; to_core++) {
        struct passage passage = cross(to_core, "MESSAGE $ SIP/2.0\n" GOOD
                                                "Subject: b\nX-A: 1\nSubject: a\nx-a: 2\n" END);

        assert_string_equal(header_of(passage.passed, "Subject", 0), "b");
        assert_string_equal(header_of(passage.passed, "Subject", 1), "a");
        assert_non_null(strstr(passage.passed, "Subject: b\r\nX-A: 1\r\nSubject: a\r\nx-a: 2\r\n"));
    }
}

/* ---- V4 ---- */

static void control_bytes_are_refused(void **state) /* V4 to core refused, V4 to access refused */
{
    static const struct refused cases[] = {
        {"NUL in a header",       "MESSAGE $ SIP/2.0\n" GOOD "Subject: a~b\n" END,
         "SIP/2.0 400 Control byte in header\r"      },
        {"NUL in a name",         "MESSAGE $ SIP/2.0\n" GOOD "Sub~ject: a\n" END,
         "SIP/2.0 400 Control byte in header\r"      },
        {"BEL in a header",       "MESSAGE $ SIP/2.0\n" GOOD "Subject: a\ab\n" END,
         "SIP/2.0 400 Control byte in header\r"      },
        {"DEL in a header",       "MESSAGE $ SIP/2.0\n" GOOD "Subject: a\177b\n" END,
         "SIP/2.0 400 Control byte in header\r"      },
        {"CR in a header",        "MESSAGE $ SIP/2.0\n" GOOD "Subject: a\rVia: x\n" END,
         "SIP/2.0 400 Control byte in header\r"      },
        {"NUL in the start line", "MESSAGE $~x SIP/2.0\n" GOOD END,
         "SIP/2.0 400 Control byte in request line\r"},
    };
    (void)state;
    check_refused(true, cases, ARRAY_LEN(cases));
    check_refused(false, cases, ARRAY_LEN(cases));
}

static void a_body_of_all_bytes_passes(void **state) /* V4, N3 to core, R12 to core */
{
    (void)state;
    static const char head[] =
        "MESSAGE sip:bob@sip.test SIP/2.0\r\nVia: SIP/2.0/TLS x;branch=z9hG4bKb"
        "\r\nFrom: <sip:a@b>;tag=a\r\nTo: <sip:b@b>\r\nCall-ID: b\r\n"
        "CSeq: 1 MESSAGE\r\nContent-Length: 256\r\n\r\n";
    char message[sizeof(head) + 256], *body = message + sizeof(head) - 1;
    size_t scanned = 0;

    memcpy(message, head, sizeof(head));
    for (int i = 0; i < 256; i++)
        body[i] = (char)(255 - i); /* the NUL last: the inbox is text */
    assert_int_equal(
        proxy_receive_stream(alice->flow, message, sizeof(head) - 1 + 256, &scanned, edge.now),
        sizeof(head) - 1 + 256);
    const char *sent = inbox_last(&edge.core);
    assert_string_equal(header_of(sent, "Content-Length", 0), "256");
    for (int i = 0; i < 256; i++)
        assert_int_equal((unsigned char)(strstr(sent, "\r\n\r\n") + 4)[i], 255 - i);
}

/* ---- V5 ---- */

#define ACK(more) "ACK $ SIP/2.0\n" VIA FROM TO "Call-ID: v#\n" more END
#define OK_TO_NOBODY "SIP/2.0 200 OK\n" VIA FROM "To: <sip:b@sip.test>;tag=b\n" CALL

static void what_must_not_be_answered_is_not(
    void **state) /* V5 to core refused, V5 to access refused, M1 refused */
{
    static const struct {
        const char *what, *text;
        bool closes;
    } cases[] = {
        {"ACK with two CSeqs",         ACK("CSeq: 1 ACK\nCSeq: 1 ACK\n"),                            true },
        {"ACK of another CSeq",        ACK("CSeq: 1 INVITE\n"),                                      true },
        {"ACK with no hop left",       ACK("CSeq: 1 ACK\nMax-Forwards: 0\n"),                        false},
        {"ACK with odd Max-Forwards",  ACK("CSeq: 1 ACK\nMax-Forwards: x\n"),                        false},
        {"ACK with Proxy-Require",     ACK("CSeq: 1 ACK\nProxy-Require: x\n"),                       false},
        {"ACK for somewhere",
         "ACK sip:x@192.0.2.99 SIP/2.0\n" VIA FROM "To: <sip:b@b>;tag=b\n" CALL "CSeq: 1 ACK\n" END,
         false                                                                                            },
        {"response without a request", OK_TO_NOBODY "CSeq: 1 MESSAGE\n" END,                         false},
        {"response of no shape",       OK_TO_NOBODY "CSeq: 1\n" END,                                 false},
        {"response of status 99",      "SIP/2.0 99 Low\n" VIA FROM TO CALL CSEQ END,                 false},
        {"no Via",                     "MESSAGE $ SIP/2.0\n" FROM TO CALL CSEQ END,                  true },
        {"Via of no shape",            "MESSAGE $ SIP/2.0\nVia: x\n" FROM TO CALL CSEQ END,          true },
        {"Via with an odd port",
         "MESSAGE $ SIP/2.0\nVia: SIP/2.0/TLS x:0;branch=z9hG4bK1\n" FROM TO CALL CSEQ END,          true },
        {"no Call-ID",                 "MESSAGE $ SIP/2.0\n" VIA FROM TO CSEQ END,                   true },
        {"Call-ID with blanks",        "MESSAGE $ SIP/2.0\n" VIA FROM TO "Call-ID: a b\n" CSEQ END,  true },
        {"no CSeq",                    "MESSAGE $ SIP/2.0\n" VIA FROM TO CALL END,                   true },
        {"no SIP",                     "HELO x\nl: 0\n\n",                                           true },
    };
    (void)state;
    for (int to_core = 0; to_core < 2; to_core++)
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
            struct proxy_counters before = *proxy_counters(edge.proxy);
            struct passage passage = cross(to_core, cases[i].text);
            const struct proxy_counters *after = proxy_counters(edge.proxy);

            if (passage.answer[0] || passage.passed[0] ||
                passage.told != (to_core && cases[i].closes ? -EPROTO : 0))
                fail_msg("%s: told %d, answered %s, passed %s", cases[i].what, passage.told,
                         passage.answer, passage.passed);
            if (strncmp(cases[i].what, "ACK", 3) != 0 &&
                after->dropped_broken + after->dropped_stray !=
                    before.dropped_broken + before.dropped_stray + 1)
                fail_msg("%s: not counted", cases[i].what);
        }
}

static void a_broken_request_that_can_be_answered_closes_nothing(void **state) /* V5 */
{
    (void)state;
    struct passage passage = cross(true, "MESSAGE $ SIP/2.0\n" GOOD FROM END);

    assert_int_equal(passage.told, 0);
    assert_memory_equal(passage.answer, "SIP/2.0 400 ", 12);
}

/* ---- V6 ---- */

static void options_of_a_proxy_that_we_do_not_have_are_named(
    void **state) /* V6 to core refused, V6 to access refused */
{
    static const struct refused cases[] = {
        {"one",   "MESSAGE $ SIP/2.0\n" GOOD "Proxy-Require: foo\n" END,
         "SIP/2.0 420 Bad Extension\r"},
        {"three", "MESSAGE $ SIP/2.0\n" GOOD "Proxy-Require: foo, bar\nProxy-Require: baz\n" END,
         "SIP/2.0 420 Bad Extension\r"},
    };
    (void)state;
    check_refused(true, cases, ARRAY_LEN(cases));
    check_refused(false, cases, ARRAY_LEN(cases));
    struct passage passage = cross(true, cases[1].text);
    assert_string_equal(header_of(passage.answer, "Unsupported", 0), "foo, bar");
    assert_string_equal(header_of(passage.answer, "Unsupported", 1), "baz");
}

static void options_of_the_other_end_pass(void **state) /* V6, R10 */
{
    (void)state;
    for (int to_core = 0; to_core < 2; to_core++)
        assert_string_equal(header_of(cross(to_core, "MESSAGE $ SIP/2.0\n" GOOD
                                                     "Require: foo\nProxy-Require:\n" END)
                                          .passed,
                                      "Require", 0),
                            "foo");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        MASK(a_request_without_what_it_needs_is_refused_and_told_what),
        MASK(the_core_may_be_of_rfc_2543),
        MASK(the_limits_of_cseq_pass),
        MASK(other_versions_and_schemes_are_refused),
        MASK(an_unknown_method_passes_and_so_do_tel_and_sips),
        MASK(what_may_stand_once_stands_once),
        MASK(what_may_stand_twice_does),
        MASK(control_bytes_are_refused),
        MASK(a_body_of_all_bytes_passes),
        MASK(what_must_not_be_answered_is_not),
        MASK(a_broken_request_that_can_be_answered_closes_nothing),
        MASK(options_of_a_proxy_that_we_do_not_have_are_named),
        MASK(options_of_the_other_end_pass),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <errno.h>
#include <stdlib.h>

#include <osipparser2/osip_parser.h>

#include "check.h"
#include "proxy/message.h"
#include "proxy/value.h"

/* ---- scan a copy of exactly these bytes, print, ask the oracle ---- */

static struct sip_msg *msg;
static struct buf out;
static char *bytes; /* what was scanned last */

static int setup(void **state)
{
    (void)state;
    sip_values_init();
    msg = malloc(sizeof(*msg));
    return msg ? buf_create(&out, 128 * 1024) : -1;
}

static int teardown(void **state)
{
    (void)state;
    free(bytes);
    free(msg);
    buf_destroy(&out);
    return 0;
}

static int scan_as(struct str text, enum sip_framing framing, bool peer_2543)
{
    free(bytes);
    bytes = malloc(text.len + !text.len);
    memcpy(bytes, text.p, text.len);
    return sip_scan(bytes, text.len, framing, peer_2543, msg);
}

static int scan(struct str text)
{
    return scan_as(text, SIP_DATAGRAM, false);
}

static struct str print(void)
{
    buf_reset(&out);
    sip_print(msg, &out);
    assert_false(out.overflow);
    return buf_str(&out);
}

/* What is sent must be a message to libosip2 too, with as many Vias as we think (V7). */
static void check_oracle(const char *what, struct str text)
{
    osip_message_t *theirs;
    int vias = 0;

    for (int i = sip_find(msg, HEADER_VIA, 0); i >= 0;
         i = sip_find(msg, HEADER_VIA, (unsigned)i + 1))
        vias++;
    assert_int_equal(osip_message_init(&theirs), 0);
    CHECK_INT(what, osip_message_parse(theirs, text.p, text.len), 0);
    CHECK_INT(what, osip_list_size(&theirs->vias), vias);
    assert_non_null(theirs->call_id);
    assert_non_null(theirs->cseq);
    assert_non_null(theirs->from);
    assert_non_null(theirs->to);
    assert_non_null(theirs->content_length);
    osip_message_free(theirs);
}

/* Printed once more from its own output, nothing changes. */
static void check_fixed_point(const char *what)
{
    struct str first = print();
    char *copy = malloc(first.len);

    memcpy(copy, first.p, first.len);
    CHECK_INT(what, scan((struct str){copy, first.len}), 0);
    CHECK_STR(what, print(), ((struct str){copy, first.len}));
    free(copy);
}

#define VIA_LINE "Via: SIP/2.0/TLS h;branch=z9hG4bKx\r\n"
#define FROM_LINE "From: <sip:a@b>;tag=1\r\n"
#define TO_LINE "To: <sip:c@d>\r\n"
#define CALL_ID_LINE "Call-ID: 1@2\r\n"
#define CSEQ_LINE "CSeq: 7 OPTIONS\r\n"
#define REST FROM_LINE TO_LINE CALL_ID_LINE CSEQ_LINE
#define LINE "OPTIONS sip:c@d SIP/2.0\r\n"
#define LENGTH "Content-Length: 0\r\n"

/* ---- accepted, and how it comes out ---- */

static const struct {
    const char *what;
    struct str in, canonical;
} accepted[] = {
    {"as it should be",                            STR(LINE VIA_LINE REST LENGTH "\r\n"),
     STR(LINE VIA_LINE REST LENGTH "\r\n")                                                                                                                                   },
    {"no Content-Length",                          STR(LINE VIA_LINE REST "\r\n"),                                                      STR(LINE VIA_LINE REST LENGTH "\r\n")},
    {"Content-Length moves to the end",            STR(LINE LENGTH VIA_LINE REST "\r\n"),
     STR(LINE VIA_LINE REST LENGTH "\r\n")                                                                                                                                   },
    {"CRLF before it",                             STR("\r\n\r\n" LINE VIA_LINE REST "\r\n"),
     STR(LINE VIA_LINE REST LENGTH "\r\n")                                                                                                                                   },
    {"surplus after the body",                     STR(LINE VIA_LINE REST LENGTH "\r\nsurplus"),
     STR(LINE VIA_LINE REST LENGTH "\r\n")                                                                                                                                   },
    {"body of any bytes",                          STR(LINE VIA_LINE REST "\r\n\0\r\n\x01\xff"),
     STR(LINE VIA_LINE REST "Content-Length: 5\r\n\r\n\0\r\n\x01\xff")                                                                                                       },
    {"version in lower case, blanks at the end",
     STR("OPTIONS sip:c@d sip/2.0 \t\r\n" VIA_LINE REST "\r\n"),
     STR(LINE VIA_LINE REST LENGTH "\r\n")                                                                                                                                   },
    {"bare LF",
     STR("OPTIONS sip:c@d SIP/2.0\nVia: SIP/2.0/TLS h;branch=z9hG4bKx\nFrom: "
         "<sip:a@b>;tag=1\nTo: <sip:c@d>\nCall-ID: 1@2\nCSeq: 7 OPTIONS\n\n"),
     STR(LINE VIA_LINE REST LENGTH "\r\n")                                                                                                                                   },
    {"compact names",
     STR(LINE "v: SIP/2.0/TLS h;branch=z9hG4bKx\r\nf:<sip:a@b>;tag=1\r\n"
              "T :<sip:c@d>\r\ni\t:\t1@2 \r\n" CSEQ_LINE "l: 0\r\n\r\n"),
     STR(LINE VIA_LINE REST LENGTH "\r\n")                                                                                                                                   },
    {"names in any case",
     STR(LINE VIA_LINE REST
         "WWW-AUTHENTICATE: a\r\nsip-etag: b\r\nmax-forwards:70\r\nk:x\r\no:y\r\n\r\n"),
     STR(LINE VIA_LINE REST
         "WWW-Authenticate: a\r\nSIP-ETag: b\r\nMax-Forwards: 70\r\nSupported: x\r\n"
         "Event: y\r\n" LENGTH "\r\n")                                                                                                                                       },
    {"unknown headers keep name, order and bytes",
     STR(LINE VIA_LINE "X-b: \"a  ,\t;\xc3\xa4\r\nx-A : b,b ,b\r\n" REST "X-b:\r\nq: 1\r\n\r\n"),
     STR(LINE VIA_LINE "X-b: \"a  ,\t;\xc3\xa4\r\nx-A: b,b ,b\r\n" REST "X-b:\r\nq: 1\r\n" LENGTH
                       "\r\n")                                                                                                                                               },
    {"folds",                                      STR(LINE VIA_LINE REST "Subject:\r\n a\r\n\tb  \r\n \t c\n d\r\n \r\nXx:y\r\n\r\n"),
     STR(LINE VIA_LINE REST "Subject: a b c d\r\nXx: y\r\n" LENGTH "\r\n")                                                                                                   },
    {"lists cut at their commas",
     STR(LINE "v: SIP/2.0/TLS h;branch=z9hG4bKx , SIP / 2.0 / UDP i;x=\",\",,\r\n" REST
              "Route:<sip:r,1@h;lr>,\r\n <sip:r2;lr>\r\nm: <sip:a@b>,\"x,y\" "
              "<sip:a@b>;q=1,\r\nPath: ,\r\n"
              "Allow: a,b\r\n\r\n"),
     STR(LINE VIA_LINE "Via: SIP / 2.0 / UDP i;x=\",\"\r\n" REST
                       "Route: <sip:r,1@h;lr>\r\nRoute: <sip:r2;lr>\r\nContact: <sip:a@b>\r\n"
                       "Contact: \"x,y\" <sip:a@b>;q=1\r\nAllow: a,b\r\n" LENGTH "\r\n")                                                                                     },
    {"brackets",
     STR(LINE VIA_LINE "From: sip:a@b;tag=1\r\nTo: sip:c@d\r\n" CALL_ID_LINE CSEQ_LINE
                       "Contact: sip:a@b;+sip.instance=\"<urn:uuid:1>\"\r\n"
                       "Contact: mailto:x@y\r\nReply-To: sip:a@b\r\n\r\n"),
     STR(LINE VIA_LINE "From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\n" CALL_ID_LINE CSEQ_LINE
                       "Contact: <sip:a@b>;+sip.instance=\"<urn:uuid:1>\"\r\n"
                       "Contact: <mailto:x@y>\r\nReply-To: sip:a@b\r\n" LENGTH "\r\n")                                                                                       },
    {"unknown method",
     STR("!a%*_+`'~.- tel:+1 SIP/2.0\r\n" VIA_LINE FROM_LINE TO_LINE CALL_ID_LINE
         "CSeq: 2147483647 !a%*_+`'~.-\r\n\r\n"),
     STR("!a%*_+`'~.- tel:+1 SIP/2.0\r\n" VIA_LINE FROM_LINE TO_LINE CALL_ID_LINE
         "CSeq: 2147483647 !a%*_+`'~.-\r\n" LENGTH "\r\n")                                                                                                                   },
    {"response",                                   STR("SIP/2.0 200 Fine \xc3\xa4\r\n" VIA_LINE REST "\r\n"),
     STR("SIP/2.0 200 Fine \xc3\xa4\r\n" VIA_LINE REST LENGTH "\r\n")                                                                                                        },
    {"response without phrase",                    STR("sip/2.0 100\r\n" VIA_LINE REST "\r\n"),
     STR("SIP/2.0 100 \r\n" VIA_LINE REST LENGTH "\r\n")                                                                                                                     },
    {"tags in odd places",
     STR(LINE VIA_LINE
         "From: \"<sip:x>;tag=no\" <sip:a@b;tag=no>;x=\";tag=no\";Tag = 1\r\n" TO_LINE CALL_ID_LINE
             CSEQ_LINE "\r\n"),
     STR(LINE VIA_LINE
         "From: \"<sip:x>;tag=no\" <sip:a@b;tag=no>;x=\";tag=no\";Tag = 1\r\n" TO_LINE CALL_ID_LINE
             CSEQ_LINE LENGTH "\r\n")                                                                                                                                        },
};

static void accepted_message_comes_out_canonical(void **state) /* N1, N2, N3, N4, N8, F2, F4, V2 */
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(accepted); i++) {
        const char *what = accepted[i].what;

        CHECK_INT(what, scan(accepted[i].in), 0);
        CHECK_STR(what, str_of(refusals[msg->refusal].reason), str_of(NULL));
        CHECK_STR(what, msg->from_tag, STR("1"));
        CHECK_STR(what, msg->call_id, STR("1@2"));
        CHECK_STR(what, msg->top_branch, STR("z9hG4bKx"));
        CHECK_STR(what, msg->top_via.sent_by, STR("h"));
        CHECK_INT(what, sip_answerable(msg), msg->is_request);
        CHECK_STR(what, print(), accepted[i].canonical);
        check_oracle(what, buf_str(&out));
        check_fixed_point(what);
        /* the buffer still holds the message, unfolded */
        assert_int_equal(scan(accepted[i].in), 0);
        assert_int_equal(sip_scan(bytes, accepted[i].in.len, SIP_DATAGRAM, false, msg), 0);
        CHECK_STR(what, print(), accepted[i].canonical);
    }
}

/* ---- refused ---- */

enum { DROPPED = -EBADMSG };

static const struct {
    struct str in;
    int status;
    const char *error;
    bool answerable;
} refused[] = {
  /* V1 */
    {STR(LINE REST "\r\n"),                                                                          400,     "Missing Via",                      false},
    {STR(LINE "Via:\r\n" REST "\r\n"),                                                               400,     "Missing Via",                      false},
    {STR(LINE "Via: h;branch=z9hG4bKx\r\n" REST "\r\n"),                                             400,     "Bad Via",                          false},
    {STR(LINE "Via: SIP/2.0/TLS\r\n" REST "\r\n"),                                                   400,     "Bad Via",                          false},
    {STR(LINE "Via: SIP/2.0/TLS h;x=\"\r\n" REST "\r\n"),                                            400,     "Bad Via",                          false},
    {STR(LINE VIA_LINE TO_LINE CALL_ID_LINE CSEQ_LINE "\r\n"),                                       400,     "Missing From",                     true },
    {STR(LINE VIA_LINE "From: <sip:a@b>\r\n" TO_LINE CALL_ID_LINE CSEQ_LINE "\r\n"),                 400,
     "Missing From tag",                                                                                                                          true },
    {STR(LINE VIA_LINE "From: <sip:a@b;tag=1>\r\n" TO_LINE CALL_ID_LINE CSEQ_LINE "\r\n"),           400,
     "Missing From tag",                                                                                                                          true },
    {STR(LINE VIA_LINE "From: a;tag=1\r\n" TO_LINE CALL_ID_LINE CSEQ_LINE "\r\n"),                   400,     "Bad From",
     true                                                                                                                                              },
    {STR(LINE VIA_LINE "From: <sip:a@b>;tag=1;tag=1\r\n" TO_LINE CALL_ID_LINE CSEQ_LINE "\r\n"),
     400,                                                                                                     "Bad From",                         true },
    {STR(LINE VIA_LINE "From: <sip:a@b>;tag=\r\n" TO_LINE CALL_ID_LINE CSEQ_LINE "\r\n"),            400,
     "Bad From",                                                                                                                                  true },
    {STR(LINE VIA_LINE "From: Bell, A <sip:a@b>;tag=1\r\n" TO_LINE CALL_ID_LINE CSEQ_LINE "\r\n"),
     400,                                                                                                     "Bad From",                         true },
    {STR(LINE VIA_LINE "From: sip:u;tag=1@h\r\n" TO_LINE CALL_ID_LINE CSEQ_LINE "\r\n"),             400,
     "Bad From",                                                                                                                                  true },
    {STR(LINE VIA_LINE FROM_LINE CALL_ID_LINE CSEQ_LINE "\r\n"),                                     400,     "Missing To",                       true },
    {STR(LINE VIA_LINE FROM_LINE "To: \"Mr <sip:c@d>\r\n" CALL_ID_LINE CSEQ_LINE "\r\n"),            400,
     "Bad To",                                                                                                                                    true },
    {STR(LINE VIA_LINE FROM_LINE "To: <sip:c@d> x\r\n" CALL_ID_LINE CSEQ_LINE "\r\n"),               400,
     "Bad To",                                                                                                                                    true },
    {STR(LINE VIA_LINE FROM_LINE TO_LINE CSEQ_LINE "\r\n"),                                          400,     "Missing Call-ID",                  false},
    {STR(LINE VIA_LINE FROM_LINE TO_LINE "Call-ID:\r\n" CSEQ_LINE "\r\n"),                           400,     "Bad Call-ID",
     false                                                                                                                                             },
    {STR(LINE VIA_LINE FROM_LINE TO_LINE "i: a b\r\n" CSEQ_LINE "\r\n"),                             400,     "Bad Call-ID",                      false},
    {STR(LINE VIA_LINE FROM_LINE TO_LINE CALL_ID_LINE "\r\n"),                                       400,     "Missing CSeq",                     false},
    {STR(LINE VIA_LINE FROM_LINE TO_LINE CALL_ID_LINE "CSeq: OPTIONS\r\n\r\n"),                      400,     "Bad CSeq",
     false                                                                                                                                             },
    {STR(LINE VIA_LINE FROM_LINE TO_LINE CALL_ID_LINE "CSeq: 7\r\n\r\n"),                            400,     "Bad CSeq",                         false},
    {STR(LINE VIA_LINE FROM_LINE TO_LINE CALL_ID_LINE "CSeq: 7OPTIONS\r\n\r\n"),                     400,     "Bad CSeq",
     false                                                                                                                                             },
    {STR(LINE VIA_LINE FROM_LINE TO_LINE CALL_ID_LINE "CSeq: -7 OPTIONS\r\n\r\n"),                   400,     "Bad CSeq",
     false                                                                                                                                             },
    {STR(LINE VIA_LINE FROM_LINE TO_LINE CALL_ID_LINE "CSeq: 2147483648 OPTIONS\r\n\r\n"),           400,
     "Bad CSeq",                                                                                                                                  true },
    {STR(LINE VIA_LINE FROM_LINE TO_LINE CALL_ID_LINE "CSeq: 36893488147419103232 OPTIONS\r\n\r\n"),
     400,                                                                                                     "Bad CSeq",                         true },
    {STR(LINE VIA_LINE FROM_LINE TO_LINE CALL_ID_LINE "CSeq: 7 INVITE\r\n\r\n"),                     400,
     "CSeq method does not match",                                                                                                                true },
    {STR(LINE VIA_LINE FROM_LINE TO_LINE CALL_ID_LINE "CSeq: 7 options\r\n\r\n"),                    400,
     "CSeq method does not match",                                                                                                                true },
 /* V2 */
    {STR("OPTIONS sip:c@d SIP/7.0\r\n" VIA_LINE REST "\r\n"),                                        505,     "Version Not Supported",            true },
    {STR("OPTIONS sip:c@d SIP/2.00\r\n" VIA_LINE REST "\r\n"),                                       505,     "Version Not Supported",            true },
    {STR("OPTIONS http://d SIP/2.0\r\n" VIA_LINE REST "\r\n"),                                       416,     "Unsupported URI Scheme",           true },
    {STR("OPTIONS soap.beep://192.0.2.103:3002 SIP/2.0\r\n" VIA_LINE REST "\r\n"),                   416,
     "Unsupported URI Scheme",                                                                                                                    true },
    {STR("OPTIONS c@d SIP/2.0\r\n" VIA_LINE REST "\r\n"),                                            400,     "Bad Request-URI",                  true },
    {STR("OPTIONS * SIP/2.0\r\n" VIA_LINE REST "\r\n"),                                              400,     "Bad Request-URI",                  true },
    {STR("OPTIONS sip: SIP/2.0\r\n" VIA_LINE REST "\r\n"),                                           400,     "Bad Request-URI",                  true },
    {STR("OPTIONS <sip:c@d> SIP/2.0\r\n" VIA_LINE REST "\r\n"),                                      400,     "Bad Request-URI",                  true },
    {STR("OPTIONS sip:c@d; lr SIP/2.0\r\n" VIA_LINE REST "\r\n"),                                    400,     "Bad request line",                 true },
    {STR("OPTIONS  sip:c@d SIP/2.0\r\n" VIA_LINE REST "\r\n"),                                       400,     "Bad request line",                 true },
    {STR("OPTIONS sip:c@d  SIP/2.0\r\n" VIA_LINE REST "\r\n"),                                       400,     "Bad request line",                 true },
    {STR("OPTIONS sip:c@d\r\n" VIA_LINE REST "\r\n"),                                                400,     "Bad request line",                 true },
    {STR("OPTIONS sip:c@d HTTP/1.1\r\n" VIA_LINE REST "\r\n"),                                       400,     "Bad request line",                 true },
    {STR("OPTIONS \r\n" VIA_LINE REST "\r\n"),                                                       400,     "Bad request line",                 true },
    {STR("OPTIONS sip:c@d SIP/2.0\r\n X: y\r\n" VIA_LINE REST "\r\n"),                               400,     "Folded request line",
     true                                                                                                                                              },
 /* V3 */
    {STR(LINE VIA_LINE REST FROM_LINE "\r\n"),                                                       400,     "Duplicate From",                   true },
    {STR(LINE VIA_LINE REST "t: <sip:c@d>\r\n\r\n"),                                                 400,     "Duplicate To",                     true },
    {STR(LINE VIA_LINE REST CALL_ID_LINE "\r\n"),                                                    400,     "Duplicate Call-ID",                true },
    {STR(LINE VIA_LINE REST CSEQ_LINE "\r\n"),                                                       400,     "Duplicate CSeq",                   true },
    {STR(LINE VIA_LINE REST "Max-Forwards: 1\r\nmax-forwards: 1\r\n\r\n"),                           400,
     "Duplicate Max-Forwards",                                                                                                                    true },
    {STR(LINE VIA_LINE REST LENGTH "l: 0\r\n\r\n"),                                                  400,     "Duplicate Content-Length",         true },
 /* V4 */
    {STR(LINE VIA_LINE REST "Xx: a\0b\r\n\r\n"),                                                     400,     "Control byte in header",           true },
    {STR(LINE VIA_LINE REST "Xx: a\rb: c\r\n\r\n"),                                                  400,     "Control byte in header",           true },
    {STR(LINE VIA_LINE REST "Xx: a\r\r\n\r\n"),                                                      400,     "Control byte in header",           true },
    {STR(LINE VIA_LINE REST "Xx: 12345678\x7f\r\n\r\n"),                                             400,     "Control byte in header",           true },
    {STR(LINE VIA_LINE REST "Xx: \x1b[31m\r\n\r\n"),                                                 400,     "Control byte in header",           true },
    {STR(LINE VIA_LINE "From: \"a\0\" <sip:a@b>;tag=1\r\n" TO_LINE CALL_ID_LINE CSEQ_LINE "\r\n"),
     400,                                                                                                     "Control byte in header",           true },
    {STR("OPTIONS sip:c\0@d SIP/2.0\r\n" VIA_LINE REST "\r\n"),                                      400,     "Control byte in request line",
     true                                                                                                                                              },
 /* F4 */
    {STR(LINE VIA_LINE REST "Content-Length: 5\r\n\r\nfour"),                                        400,
     "Content-Length does not match the body",                                                                                                    true },
    {STR(LINE VIA_LINE REST "Content-Length: -5\r\n\r\nfour"),                                       400,     "Bad Content-Length",               true },
    {STR(LINE VIA_LINE REST "Content-Length: 4 4\r\n\r\nfour"),                                      400,     "Bad Content-Length",               true },
    {STR(LINE VIA_LINE REST "Content-Length:\r\n\r\nfour"),                                          400,     "Bad Content-Length",               true },
    {STR(LINE VIA_LINE REST "Content-Length: 99999999999999999999\r\n\r\n"),                         400,
     "Bad Content-Length",                                                                                                                        true },
 /* N8 */
    {STR(LINE VIA_LINE REST "X\r\n\r\n"),                                                            400,     "Header line without colon",        true },
    {STR(LINE VIA_LINE REST ": y\r\n\r\n"),                                                          400,     "Bad header name",                  true },
    {STR(LINE VIA_LINE REST "X y: z\r\n\r\n"),                                                       400,     "Bad header name",                  true },
    {STR(LINE VIA_LINE REST "X\xc3\xa4: z\r\n\r\n"),                                                 400,     "Bad header name",                  true },
    {STR(LINE VIA_LINE REST "Contact: \"x <sip:a>\r\n\r\n"),                                         400,     "Bad Contact",                      true },
    {STR(LINE VIA_LINE REST "Contact: <sip:a\r\n\r\n"),                                              400,     "Bad Contact",                      true },
    {STR(LINE VIA_LINE REST "Contact: a\r\n\r\n"),                                                   400,     "Bad Contact",                      true },
    {STR(LINE VIA_LINE REST "Route: <sip:a>>\r\n\r\n"),                                              400,     "Bad Route",                        true },
    {STR(LINE VIA_LINE REST "Record-Route: <sip:a<sip:b>\r\n\r\n"),                                  400,     "Bad Record-Route",                 true },
    {STR(LINE VIA_LINE REST "Path: \"\r\n\r\n"),                                                     400,     "Bad Path",                         true },
    {STR(LINE VIA_LINE REST),                                                                        400,     "Missing empty line after headers", true },
    {STR(LINE VIA_LINE REST "Xx: y"),                                                                400,     "Missing empty line after headers", true },
    {STR(LINE VIA_LINE REST "Xx: y\r\n "),                                                           400,     "Missing empty line after headers", true },
 /* V5 */
    {STR("ACK sip:c@d SIP/2.0\r\n" VIA_LINE FROM_LINE TO_LINE CALL_ID_LINE
         "CSeq: 7 ACK\r\nX\r\n\r\n"),
     400,                                                                                                     "Header line without colon",        false},
    {STR("SIP/2.0 200 OK\r\n" VIA_LINE REST "X\r\n\r\n"),                                            DROPPED, "Header line without colon",
     false                                                                                                                                             },
    {STR("SIP/2.0 200 OK\r\n" FROM_LINE TO_LINE CALL_ID_LINE CSEQ_LINE "\r\n"),                      DROPPED,
     "Missing Via",                                                                                                                               false},
    {STR("SIP/2.0 200 OK\r\n" VIA_LINE REST "l: 1\r\n\r\n"),                                         DROPPED,
     "Content-Length does not match the body",                                                                                                    false},
    {STR("SIP/2.0 99 OK\r\n" VIA_LINE REST "\r\n"),                                                  DROPPED, NULL,                               false},
    {STR("SIP/2.0 700 OK\r\n" VIA_LINE REST "\r\n"),                                                 DROPPED, NULL,                               false},
    {STR("SIP/2.0 4294967301 OK\r\n" VIA_LINE REST "\r\n"),                                          DROPPED, NULL,                               false},
    {STR("SIP/3.0 200 OK\r\n" VIA_LINE REST "\r\n"),                                                 DROPPED, NULL,                               false},
    {STR("SIP/2.0  200 OK\r\n" VIA_LINE REST "\r\n"),                                                DROPPED, NULL,                               false},
    {STR("SIP/2.0\r\n" VIA_LINE REST "\r\n"),                                                        DROPPED, NULL,                               false},
    {STR("OPTIONS\r\n" VIA_LINE REST "\r\n"),                                                        DROPPED, NULL,                               false},
    {STR(" OPTIONS sip:c@d SIP/2.0\r\n" VIA_LINE REST "\r\n"),                                       DROPPED, NULL,                               false},
    {STR("OPT@ONS sip:c@d SIP/2.0\r\n" VIA_LINE REST "\r\n"),                                        DROPPED, NULL,                               false},
    {STR("\x16\x03\x01\x02\x00\x01"),                                                                DROPPED, NULL,                               false},
    {STR("\r\n\r\n"),                                                                                DROPPED, NULL,                               false},
    {STR(""),                                                                                        DROPPED, NULL,                               false},
};

static void broken_message_is_refused_for_its_own_reason(void **state) /* V1 to V5, F4, N8 */
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        char what[32];

        (void)snprintf(what, sizeof(what), "row %zu", i);
        CHECK_INT(what, scan(refused[i].in), refused[i].status);
        if (refused[i].error || refused[i].status != DROPPED)
            CHECK_STR(what, str_of(refusals[msg->refusal].reason), str_of(refused[i].error));
        CHECK_INT(what, sip_answerable(msg), refused[i].answerable);
        if (!sip_answerable(msg))
            continue;
        buf_reset(&out);
        sip_response(msg, refused[i].status, refused[i].error, STR("t1"), (struct str){NULL, 0},
                     &out);
        check_oracle(what, buf_str(&out));
        free(bytes);
        bytes = malloc(out.len);
        memcpy(bytes, out.p, out.len);
        if (strcmp(refused[i].error, "Bad CSeq") != 0) /* that one is the sender's own */
            CHECK_INT(what, sip_scan(bytes, out.len, SIP_STREAM, true, msg), 0);
    }
}

/* A value of `len` bytes, with `bad` at `at`, between the two. */
static struct str value_with(struct buf *text, struct str before, size_t len, size_t at, char bad,
                             struct str after)
{
    buf_reset(text);
    buf_add(text, before);
    for (size_t i = 0; i < len; i++)
        buf_add(text, i == at ? (struct str){&bad, 1} : STR("x"));
    buf_add(text, after);
    return buf_str(text);
}

static void bad_byte_is_found_wherever_it_stands(void **state) /* V4, N8 */
{
    static const struct {
        const char *bad;
        struct str before, after;
        enum refusal refusal;
    } places[] = {
        {"\x01\x1f\x7f\r", STR(LINE VIA_LINE REST "Xx:"),                       STR("\r\n\r\n"),                          REFUSE_HEADER_CONTROL},
        {"\"<>,@",         STR(LINE VIA_LINE "From: <sip:a@b>;y;tag="),
         STR("\r\n" TO_LINE CALL_ID_LINE CSEQ_LINE "\r\n"),                                                               REFUSE_FROM          },
        {"\"<>()",         STR(LINE "Via: SIP/2.0/TLS h;branch="),              STR("\r\n" REST "\r\n"),                  REFUSE_VIA           },
        {" \t\"<",         STR(LINE VIA_LINE REST "Contact: <sip:u;"),          STR(";z@h:5060;y>\r\n\r\n"),
         REFUSE_CONTACT                                                                                                                        },
        {" \t\"<>@",       STR(LINE VIA_LINE REST "Contact: <sip:u@h:5060;y="), STR(";lr>\r\n\r\n"),
         REFUSE_CONTACT                                                                                                                        },
        {"\"<>?",          STR("OPTIONS sip:h;x"),                              STR(" SIP/2.0\r\n" VIA_LINE REST "\r\n"),
         REFUSE_REQUEST_URI                                                                                                                    },
    };
    struct buf text;

    (void)state;
    assert_int_equal(buf_create(&text, 1024), 0);
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        for (size_t len = 1; len <= 40; len++) {
            for (size_t at = 0; at < len; at++) {
                for (const char *bad = places[i].bad; *bad; bad++) {
                    char what[64];

                    (void)snprintf(what, sizeof(what), "place %zu, byte %02x at %zu of %zu", i,
                                   (unsigned char)*bad, at, len);
                    CHECK_INT(
                        what,
                        scan(value_with(&text, places[i].before, len, at, *bad, places[i].after)),
                        400);
                    CHECK_INT(what, msg->refusal, places[i].refusal);
                }
            }
            CHECK_INT("none",
                      scan(value_with(&text, places[i].before, len, len, 'x', places[i].after)), 0);
            CHECK_INT(
                "no ASCII",
                scan(value_with(&text, places[i].before, len, len / 2, '\xc3', places[i].after)),
                0);
        }
    }
    buf_destroy(&text);
}

static void refused_value_leaves_the_others_as_they_are(void **state) /* V5, N8 */
{
    (void)state;
    assert_int_equal(scan(STR(LINE VIA_LINE FROM_LINE TO_LINE
                              "Route: sip:a;lr\r\nCall-ID: sip:x\r\n" CSEQ_LINE "\r\n")),
                     400);
    buf_reset(&out);
    sip_response(msg, 400, NULL, STR("t1"), (struct str){NULL, 0}, &out);
    CHECK_STR("400", buf_str(&out),
              STR("SIP/2.0 400 Bad Request\r\n" VIA_LINE FROM_LINE "To: <sip:c@d>;tag=t1\r\n"
                  "Call-ID: sip:x\r\n" CSEQ_LINE LENGTH "\r\n"));
}

static void broken_response_is_told_from_what_is_not_sip(void **state) /* V5 */
{
    (void)state;
    assert_int_equal(scan(STR("SIP/2.0 486 Busy\r\n" REST "\r\n")), -EBADMSG);
    assert_int_equal(msg->status, 486);
    assert_int_equal(scan(STR("HTTP/1.1 486 Busy\r\n\r\n")), -EBADMSG);
    assert_int_equal(msg->status, 0);
}

static void from_without_tag_is_fine_for_an_old_peer(void **state) /* V1 */
{
    struct str text =
        STR(LINE VIA_LINE "From: <sip:a@b>\r\n" TO_LINE CALL_ID_LINE CSEQ_LINE "\r\n");

    (void)state;
    assert_int_equal(scan_as(text, SIP_DATAGRAM, true), 0);
    assert_null(msg->from_tag.p);
}

static void stream_message_has_its_exact_length(void **state) /* F3 */
{
    (void)state;
    assert_int_equal(scan_as(STR(LINE VIA_LINE REST "l: 2\r\n\r\nab"), SIP_STREAM, false), 0);
    CHECK_STR("body", msg->body, STR("ab"));
    assert_int_equal(scan_as(STR(LINE VIA_LINE REST "\r\n"), SIP_STREAM, false), 400);
    assert_int_equal(msg->refusal, REFUSE_CONTENT_LENGTH_MISSING);
    assert_int_equal(scan_as(STR(LINE VIA_LINE REST "l: 1\r\n\r\nab"), SIP_STREAM, false), 400);
}

static void message_within_the_caps_passes(void **state) /* V7 */
{
    struct buf text;
    char what[32];

    (void)state;
    assert_int_equal(buf_create(&text, 2 * SIP_HEADERS_BYTES), 0);
    for (unsigned extra = 0; extra < 3; extra++) { /* 5 headers, and these */
        buf_reset(&text);
        buf_add(&text, STR(LINE VIA_LINE REST "Route: "));
        for (unsigned i = 0; i < SIP_HEADERS_MAX - 6 + extra; i++)
            buf_add(&text, STR("<sip:a>,"));
        buf_add(&text, STR("\r\n\r\n"));
        (void)snprintf(what, sizeof(what), "%u headers", SIP_HEADERS_MAX - 1 + extra);
        CHECK_INT(what, scan(buf_str(&text)), extra < 2 ? 0 : 400);
        CHECK_INT(what, sip_answerable(msg), true);
    }

    for (unsigned extra = 0; extra < 2; extra++) {
        buf_reset(&text);
        buf_add(&text, STR(LINE VIA_LINE REST "Xx:"));
        for (unsigned i = 0; i < SIP_LINE_MAX - 3 + extra; i++)
            buf_add(&text, STR("x"));
        buf_add(&text, STR("\r\n\r\n"));
        CHECK_INT("long line", scan(buf_str(&text)), extra ? 400 : 0);
    }

    buf_reset(&text);
    buf_add(&text, STR(LINE VIA_LINE REST));
    while (text.len < SIP_HEADERS_BYTES) {
        buf_add(&text, STR("Xx:"));
        for (unsigned i = 0; i < 1000; i++)
            buf_add(&text, STR("x"));
        buf_add(&text, STR("\r\n"));
    }
    buf_add(&text, STR("\r\n"));
    CHECK_INT("long head", scan(buf_str(&text)), 513);
    CHECK_INT("long head", sip_answerable(msg), true);
    buf_destroy(&text);
}

static void torture_of_rfc_4475_is_read(void **state) /* N1, N8, V7 */
{
    static const struct str wild =
        STR("INVITE sip:vivekg@chair-dnrc.example.com;unknownparam SIP/2.0\r\n"
            "TO :\r\n sip:vivekg@chair-dnrc.example.com ;   tag    = 1918181833n\r\n"
            "from   : \"J Rosenberg \\\\\\\"\"       <sip:jdrosen@example.com>\r\n"
            "  ;\r\n  tag = 98asjd8\r\n"
            "MaX-fOrWaRdS: 0068\r\n"
            "Call-ID: wsinv.ndaksdj@192.0.2.1\r\n"
            "Content-Length   : 4\r\n"
            "cseq: 0009\r\n  INVITE\r\n"
            "Via  : SIP  /   2.0\r\n /UDP\r\n    192.0.2.2;branch=390skdjuw\r\n"
            "s :\r\n"
            "NewFangledHeader:   newfangled value\r\n continued newfangled value\r\n"
            "UnknownHeaderWithUnusualValue: ;;,,;;,;\r\n"
            "Content-Type: application/sdp\r\n"
            "Route:\r\n <sip:services.example.com;lr;unknownwith=value;unknown-no-value>\r\n"
            "v:  SIP  / 2.0  / TCP     spindle.example.com   ;\r\n"
            "  branch  =   z9hG4bK9ikj8  ,\r\n"
            " SIP  /    2.0   / UDP  192.168.255.111   ; branch=\r\n z9hG4bK30239\r\n"
            "m:\"Quoted string \\\"\\\"\" <sip:jdrosen@example.com> ; newparam =\r\n"
            "      newvalue ;\r\n  secondparam ; q = 0.33\r\n\r\nv=0\n");

    (void)state;
    assert_int_equal(scan(wild), 0);
    CHECK_STR("branch", msg->top_branch, STR("390skdjuw"));
    CHECK_STR("sent-by", msg->top_via.sent_by, STR("192.0.2.2"));
    CHECK_STR("From tag", msg->from_tag, STR("98asjd8"));
    CHECK_STR("To tag", msg->to_tag, STR("1918181833n"));
    CHECK_INT("CSeq", msg->cseq, 9);
    CHECK_INT("method", msg->method, SIP_INVITE);
    CHECK_STR("fold", msg->headers[sip_find_name(msg, STR("newfangledheader"), 0)].value,
              STR("newfangled value continued newfangled value"));
    CHECK_STR("unusual",
              msg->headers[sip_find_name(msg, STR("UnknownHeaderWithUnusualValue"), 0)].value,
              STR(";;,,;;,;"));
    check_oracle("wild", print());
    check_fixed_point("wild");
}

/* Every byte left out, and every byte replaced by each of some: nothing is read beyond the end,
 * and what is accepted comes out the same when it comes in again (V7). */
static void mutation_is_refused_or_canonical(void **state) /* V7, N8 */
{
    static const struct str seed =
        STR("INVITE sip:b@d SIP/2.0\r\nv: SIP/2.0/WSS x.invalid:1;branch=z,SIP/2.0/TLS [::1]\r\n"
            "f:\"a,\\\"\" <sip:a@b>;tag=1\r\nTo: sip:b@d;x\r\nCall-ID: 1@2\r\nCSeq: 1 INVITE\r\n"
            "m: <sip:a@x.invalid;ob>;+sip.instance=\"<urn:uuid:1>\"\r\nRoute: <sip:r;lr>,\r\n "
            "<sip:s>\r\n"
            "Xx: y\r\nl: 3\r\n\r\nabc");
    static const char bad[] = {0,   '\r', '\n', ' ', '\t', ',', ';',    ':',    '<',
                               '>', '"',  '\\', '=', '@',  '/', '\x7f', '\xff', 'l'};
    char text[512];

    (void)state;
    for (size_t at = 0; at < seed.len; at++) {
        for (size_t k = 0; k <= ARRAY_LEN(bad); k++) {
            size_t len = seed.len;
            int status;

            memcpy(text, seed.p, seed.len);
            if (k < ARRAY_LEN(bad)) {
                text[at] = bad[k];
            } else {
                memmove(text + at, text + at + 1, seed.len - at - 1);
                len--;
            }
            status = scan((struct str){text, len});
            if (status == 0) {
                char *copy, what[64];

                (void)snprintf(what, sizeof(what), "byte %zu, change %zu", at, k);
                print();
                assert_non_null(copy = malloc(out.len));
                memcpy(copy, out.p, out.len);
                CHECK_INT(what, scan_as((struct str){copy, out.len}, SIP_STREAM, false), 0);
                CHECK_STR(what, print(), ((struct str){copy, out.len}));
                free(copy);
            } else {
                assert_true(status == -EBADMSG || (status >= 400 && status <= 513));
                assert_true(status == -EBADMSG || msg->refusal);
            }
        }
    }
    for (size_t len = 0; len < seed.len; len++)
        assert_int_not_equal(scan((struct str){seed.p, len}), 0);
}

/* ---- edits ---- */

static void pushed_headers_go_where_they_belong(void **state) /* N2 */
{
    (void)state;
    assert_int_equal(scan(STR(LINE REST VIA_LINE "Xx: y\r\n\r\n")), 0);
    assert_int_equal(sip_push(msg, HEADER_RECORD_ROUTE, STR("<sip:r1>")), 0);
    assert_int_equal(sip_push(msg, HEADER_RECORD_ROUTE, STR("<sip:r2>")), 0);
    assert_int_equal(sip_push(msg, HEADER_ROUTE, STR("<sip:route>")), 0);
    assert_int_equal(sip_push(msg, HEADER_PATH, STR("<sip:path>")), 0);
    assert_int_equal(sip_push(msg, HEADER_VIA, STR("SIP/2.0/UDP new")), 0);
    assert_int_equal(sip_push(msg, HEADER_MAX_FORWARDS, STR("70")), 0);
    sip_drop(msg, (unsigned)sip_find_name(msg, STR("xX"), 0));
    assert_int_equal(sip_insert_name(msg, 0, STR("k"), STR("path")), 0);
    CHECK_STR("edited", print(),
              STR(LINE "Supported: path\r\n" REST "Via: SIP/2.0/UDP new\r\n" VIA_LINE
                       "Route: <sip:route>\r\n"
                       "Record-Route: <sip:r2>\r\nRecord-Route: <sip:r1>\r\nPath: <sip:path>\r\n"
                       "Max-Forwards: 70\r\n" LENGTH "\r\n"));
    assert_int_equal(sip_find(msg, HEADER_VIA, 6), 6);
    assert_int_equal(sip_find(msg, HEADER_VIA, 7), -1);
    assert_null(sip_value(msg, HEADER_EXPIRES).p);
}

static void pieces_are_those_of_the_value_that_is_there(void **state) /* N8 */
{
    struct text_addr addr;
    int from;

    (void)state;
    assert_int_equal(scan(STR(LINE VIA_LINE REST "\r\n")), 0);
    from = sip_find(msg, HEADER_FROM, 0);
    assert_true(sip_addr_cut(msg, (unsigned)from, &addr));
    CHECK_STR("as it came", addr.text, msg->headers[from].value);
    CHECK_STR("as it came", addr.tag, msg->from_tag);
    msg->headers[from].value = STR("<sips:new@host:5070>;tag=other");
    assert_true(sip_addr_cut(msg, (unsigned)from, &addr));
    CHECK_STR("changed", addr.uri, STR("sips:new@host:5070"));
    CHECK_STR("changed", addr.tag, STR("other"));
    CHECK_INT("changed", addr.pieces.port, 5070);
    msg->headers[from].value = STR("<sip:half");
    assert_false(sip_addr_cut(msg, (unsigned)from, &addr));
}

static void full_message_takes_no_more(void **state) /* V7 */
{
    (void)state;
    assert_int_equal(scan(STR(LINE VIA_LINE REST "\r\n")), 0);
    while (msg->header_count < SIP_HEADERS_MAX)
        assert_int_equal(sip_push(msg, HEADER_ROUTE, STR("<sip:a>")), 0);
    assert_int_equal(sip_push(msg, HEADER_ROUTE, STR("<sip:a>")), -ENOSPC);
    assert_int_equal(sip_insert_name(msg, 0, STR("Xx"), STR("y")), -ENOSPC);
    print();
    out.size = out.len - 1;
    buf_reset(&out);
    sip_print(msg, &out);
    assert_true(out.overflow);
    out.size = 128 * 1024;
}

static void token_is_found_in_any_of_the_lists(void **state) /* R5, V6 */
{
    (void)state;
    assert_int_equal(scan(STR(LINE VIA_LINE REST "k: a, outBound\r\nSupported: ,path ,\r\n\r\n")),
                     0);
    assert_true(sip_has_token(msg, HEADER_SUPPORTED, STR("outbound")));
    assert_true(sip_has_token(msg, HEADER_SUPPORTED, STR("path")));
    assert_false(sip_has_token(msg, HEADER_SUPPORTED, STR("bound")));
    assert_false(sip_has_token(msg, HEADER_REQUIRE, STR("path")));
}

/* ---- responses and names ---- */

static void response_copies_what_it_must(void **state) /* V5; RFC 3261 8.2.6 */
{
    struct str none = {NULL, 0};

    (void)state;
    assert_int_equal(scan(STR(LINE "Via: SIP/2.0/TLS h;branch=z9hG4bKx,SIP/2.0/UDP g\r\n"
                                   "From: sip:a@b;tag=1\r\nTo: sip:c@d\r\n" CALL_ID_LINE CSEQ_LINE
                                   "Timestamp: 54\r\nXx: y\r\n\r\nbody")),
                     0);
    buf_reset(&out);
    sip_response(msg, 100, NULL, STR("t1"), none, &out);
    CHECK_STR("100", buf_str(&out),
              STR("SIP/2.0 100 Trying\r\n" VIA_LINE "Via: SIP/2.0/UDP g\r\n" REST
                  "Timestamp: 54\r\n" LENGTH "\r\n"));
    buf_reset(&out);
    sip_response(msg, 420, "No Such Thing", STR("t1"), STR("Unsupported: x\r\n"), &out);
    CHECK_STR("420", buf_str(&out),
              STR("SIP/2.0 420 No Such Thing\r\n" VIA_LINE "Via: SIP/2.0/UDP g\r\n" FROM_LINE
                  "To: <sip:c@d>;tag=t1\r\n" CALL_ID_LINE CSEQ_LINE "Unsupported: x\r\n" LENGTH
                  "\r\n"));

    assert_int_equal(
        scan(STR(LINE VIA_LINE FROM_LINE "To: <sip:c@d>;tag=2\r\n" CALL_ID_LINE CSEQ_LINE "\r\n")),
        0);
    buf_reset(&out);
    sip_response(msg, 481, NULL, STR("t1"), none, &out);
    CHECK_STR("481", buf_str(&out),
              STR("SIP/2.0 481 Call/Transaction Does Not Exist\r\n" VIA_LINE FROM_LINE
                  "To: <sip:c@d>;tag=2\r\n" CALL_ID_LINE CSEQ_LINE LENGTH "\r\n"));
}

static void every_known_header_has_its_registered_name(void **state) /* N1 */
{
    static const struct {
        const char *name, *canonical;
    } names[] = {
        {"call-id",             "Call-ID"            },
        {"CSEQ",                "CSeq"               },
        {"www-authenticate",    "WWW-Authenticate"   },
        {"mime-version",        "MIME-Version"       },
        {"RACK",                "RAck"               },
        {"rseq",                "RSeq"               },
        {"MIN-se",              "Min-SE"             },
        {"sip-if-match",        "SIP-If-Match"       },
        {"p-asserted-identity", "P-Asserted-Identity"},
        {"user-to-user",        "User-to-User"       },
        {"x-NEW",               "x-NEW"              },
        {"z",                   "z"                  },
        {"a",                   "Accept-Contact"     },
        {"B",                   "Referred-By"        },
        {"c",                   "Content-Type"       },
        {"D",                   "Request-Disposition"},
        {"e",                   "Content-Encoding"   },
        {"F",                   "From"               },
        {"i",                   "Call-ID"            },
        {"J",                   "Reject-Contact"     },
        {"k",                   "Supported"          },
        {"L",                   "Content-Length"     },
        {"m",                   "Contact"            },
        {"N",                   "Identity-Info"      },
        {"o",                   "Event"              },
        {"R",                   "Refer-To"           },
        {"s",                   "Subject"            },
        {"T",                   "To"                 },
        {"u",                   "Allow-Events"       },
        {"V",                   "Via"                },
        {"x",                   "Session-Expires"    },
        {"Y",                   "Identity"           },
        {"",                    ""                   },
    };
    enum header_id id;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        CHECK_STR(names[i].name, header_canonical(str_of(names[i].name), &id),
                  str_of(names[i].canonical));
    for (int known = HEADER_OTHER + 1; known < HEADER_ID_COUNT; known++) {
        struct str name = header_name((enum header_id)known);

        assert_non_null(name.p);
        CHECK_STR("itself", header_canonical(name, &id), name);
        CHECK_INT(name.p, id, known);
    }
    header_canonical(STR("p-asserted-identity"),
                     &id); /* registered, though the proxy has no name for it */
    assert_true(id >= HEADER_ID_COUNT && id <= HEADER_ID_MAX);
    CHECK_STR("its name", header_name(id), STR("P-Asserted-Identity"));
    header_canonical(STR("X-Own"), &id);
    assert_int_equal(id, HEADER_OTHER);
    assert_int_equal(sip_method_of(STR("INVITE")), SIP_INVITE);
    assert_int_equal(sip_method_of(STR("invite")), SIP_OTHER);
    assert_string_equal(sip_reason(404), "Not Found");
    assert_string_equal(sip_reason(599), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepted_message_comes_out_canonical),
        cmocka_unit_test(broken_message_is_refused_for_its_own_reason),
        cmocka_unit_test(bad_byte_is_found_wherever_it_stands),
        cmocka_unit_test(refused_value_leaves_the_others_as_they_are),
        cmocka_unit_test(broken_response_is_told_from_what_is_not_sip),
        cmocka_unit_test(from_without_tag_is_fine_for_an_old_peer),
        cmocka_unit_test(stream_message_has_its_exact_length),
        cmocka_unit_test(message_within_the_caps_passes),
        cmocka_unit_test(torture_of_rfc_4475_is_read),
        cmocka_unit_test(mutation_is_refused_or_canonical),
        cmocka_unit_test(pushed_headers_go_where_they_belong),
        cmocka_unit_test(pieces_are_those_of_the_value_that_is_there),
        cmocka_unit_test(full_message_takes_no_more),
        cmocka_unit_test(token_is_found_in_any_of_the_lists),
        cmocka_unit_test(response_copies_what_it_must),
        cmocka_unit_test(every_known_header_has_its_registered_name),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}

/* What changes in a message as it crosses, through the whole proxy (rules N, R12). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "calls.h"

static void
what_only_the_core_may_say_is_stripped(void **state) /* N5 to core refused, N7, N7 refused */
{
    (void)state;
    edge.conf.headers.client_address = (char *)"X-Client-Address";
    edge_from_client(alice, INVITE("P-Asserted-Identity: <sip:boss@sip.test>\n"
                                   "P-Access-Network-Info: X;network-provided\n"
                                   "P-Access-Network-Info: IEEE-802.11\n"
                                   "X-Client-Address: 6.6.6.6"));
    const char *sent = inbox_last(&edge.core);

    assert_string_equal(header_of(sent, "P-Asserted-Identity", 0), "");
    assert_string_equal(header_of(sent, "P-Access-Network-Info", 0), "IEEE-802.11");
    assert_string_equal(header_of(sent, "P-Access-Network-Info", 1), "");
    assert_string_equal(header_of(sent, "X-Client-Address", 0), "192.0.2.7:50000;transport=TLS");
    assert_string_equal(header_of(sent, "X-Client-Address", 1), "");
}

static void a_private_identity_stays_in_the_core(
    void **state) /* N5 to access, N5 to access refused, RFC 3325 7 */
{
    static const struct {
        const char *privacy;
        bool kept;
    } cases[] = {
        {"none",          true },
        {"header;ident",  true },
        {"id",            false},
        {"user; ID",      false},
        {"id ; critical", false},
    };
    (void)state;
    char uri[1024];

    snprintf(uri, sizeof(uri), "%s", masked_contact(bob, "bob"));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        edge_from_core(&edge,
                       "MESSAGE %s SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.5;branch=z9hG4bKp%zu;rport\n"
                       "From: <sip:pbx@sip.test>;tag=p\nTo: <sip:bob@sip.test>\n"
                       "Call-ID: p%zu\nCSeq: 1 MESSAGE\n"
                       "P-Asserted-Identity: <sip:boss@sip.test>\nPrivacy: %s",
                       uri, i, i, cases[i].privacy);
        assert_string_equal(header_of(inbox_last(&bob->inbox), "P-Asserted-Identity", 0),
                            cases[i].kept ? "<sip:boss@sip.test>" : "");
        edge_from_client(bob, "%s", response_to(inbox_last(&bob->inbox), "200 OK", "b", NULL));
    }
}

static void a_private_party_stays_in_the_core(
    void **state) /* N5 to access, N5 to access refused: draft-ietf-sip-privacy-04 */
{
    static const struct {
        const char *params, *privacy;
        bool kept;
    } cases[] = {
        {";party=calling;screen=yes;privacy=off",                      "none", true },
        {";privacy=\"off\"",                                           "none", true },
        {"",                                                           "none", true },
        {";party=calling;screen=yes;privacy=off",                      "id",   false},
        {";party=calling;screen=yes;privacy=full",                     "none", false},
        {";Privacy=URI;screen=no",                                     "none", false},
        {";privacy=name",                                              "none", false},
        {";privacy",                                                   "none", false},
        {";privacy=off, \"x;privacy=off\" <sip:a@b;c=d>;privacy=full", "none", false},
        {";privacy=full;x=\">;privacy=off\"",                          "none", false},
        {";x=\"",                                                      "none", false},
    };
    (void)state;
    char uri[1024], party[256];

    snprintf(uri, sizeof(uri), "%s", masked_contact(bob, "bob"));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        snprintf(party, sizeof(party), "\"B;privacy=full\" <sip:1@sip.test;user=phone>%s",
                 cases[i].params);
        edge_from_core(&edge,
                       "MESSAGE %s SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.5;branch=z9hG4bKq%zu;rport\n"
                       "From: <sip:pbx@sip.test>;tag=p\nTo: <sip:bob@sip.test>\n"
                       "Call-ID: q%zu\nCSeq: 1 MESSAGE\n"
                       "Remote-Party-ID: %s\nPrivacy: %s",
                       uri, i, i, party, cases[i].privacy);
        assert_string_equal(header_of(inbox_last(&bob->inbox), "Remote-Party-ID", 0),
                            cases[i].kept ? party : "");
        edge_from_client(bob, "%s", response_to(inbox_last(&bob->inbox), "200 OK", "b", NULL));
    }
}

static void configured_rules_remove_set_and_add(
    void **state) /* N6 to core, N6 to access, N6 refused: the other direction is left alone */
{
    (void)state;
    struct conf_header_rule rules[] = {
        {CONF_TO_CORE,   CONF_REMOVE, (char *)"User-Agent", NULL         },
        {CONF_TO_CORE,   CONF_SET,    (char *)"Subject",    (char *)"new"},
        {CONF_TO_CORE,   CONF_ADD,    (char *)"X-Edge",     (char *)"one"},
        {CONF_TO_ACCESS, CONF_REMOVE, (char *)"Server",     NULL         },
    };
    edge.conf.headers.rules = rules;
    edge.conf.headers.rule_count = ARRAY_LEN(rules);
    edge_from_client(alice, INVITE("User-Agent: phone\nSubject: old\nX-Edge: zero\nServer: odd"));
    const char *sent = inbox_last(&edge.core);

    assert_string_equal(header_of(sent, "User-Agent", 0), "");
    assert_string_equal(header_of(sent, "Subject", 0), "new");
    assert_string_equal(header_of(sent, "Subject", 1), "");
    assert_string_equal(header_of(sent, "X-Edge", 1), "one");
    assert_string_equal(header_of(sent, "Server", 0), "odd");
    edge_from_core(
        &edge, "%s",
        response_to(sent, "486 Busy Here", "b", "Server: pbx\nUser-Agent: pbx\nSubject: kept"));
    assert_string_equal(header_of(inbox_last(&alice->inbox), "Server", 0), "");
    assert_string_equal(header_of(inbox_last(&alice->inbox), "User-Agent", 0), "pbx");
    assert_string_equal(header_of(inbox_last(&alice->inbox), "Subject", 0), "kept");
    assert_string_equal(header_of(inbox_last(&alice->inbox), "X-Edge", 0), "");
    edge_from_client(alice, "ACK sip:bob@sip.test SIP/2.0\n"
                            "Via: SIP/2.0/TLS client.invalid;branch=z9hG4bKinv1;rport\n"
                            "From: <sip:alice@sip.test>;tag=a\nTo: <sip:bob@sip.test>;tag=b\n"
                            "Call-ID: call1\nCSeq: 1 ACK");
}

static void cseq_comes_out_with_one_blank(void **state) /* N1 to core */
{
    (void)state;
    edge_from_client(alice, "MESSAGE sip:bob@sip.test SIP/2.0\n"
                            "Via: SIP/2.0/TLS x;branch=z9hG4bKc\nFrom: <sip:a@b>;tag=a\n"
                            "To: <sip:bob@sip.test>\nCall-ID: c\nCSeq: 7 \t  MESSAGE");
    assert_string_equal(header_of(inbox_last(&edge.core), "CSeq", 0), "7 MESSAGE");
}

static void
digest_headers_and_bodies_pass_unchanged(void **state) /* R12 to core, N2 to core, N3 to core */
{
    (void)state;
    edge_from_client(alice,
                     INVITE("Proxy-Authorization: Digest username=\"a\",uri=\"sip:bob@sip.test\" , "
                            "response=\"x\"\nX-Odd:  a ,b\nContent-Type: text/plain\n\nbody"));
    const char *sent = inbox_last(&edge.core);
    assert_string_equal(header_of(sent, "Proxy-Authorization", 0),
                        "Digest username=\"a\",uri=\"sip:bob@sip.test\" , response=\"x\"");
    assert_string_equal(header_of(sent, "X-Odd", 0), "a ,b");
    assert_string_equal(header_of(sent, "Content-Length", 0), "4");
    assert_string_equal(strstr(sent, "\r\n\r\n"), "\r\n\r\nbody");
}

/* ---- one spelling (N1 to N4, N8) ---- */

#define VIA "Via: SIP/2.0/TLS x;branch=z9hG4bKn#\n"
#define FROM "From: <sip:a@sip.test>;tag=a\n"
#define TO "To: <sip:bob@sip.test>\n"
#define CALL "Call-ID: n#@x\n"
#define CSEQ "CSeq: 1 MESSAGE\n"
#define GOOD "MESSAGE $ SIP/2.0\n" VIA FROM TO CALL CSEQ
#define END "Content-Length: 0\n\n"

static void one_spelling_comes_out(
    void **state) /* N1 to core, N1 to access, N3 to core, N3 to access, N8 to core, N8 to access */
{
    static const char untidy[] = "MESSAGE $ SIP/2.0  |v : SIP / 2.0 / TLS x ;branch=z9hG4bKn#|"
                                 "f:<sip:a@sip.test>;tag=a|t\t:\t<sip:bob@sip.test> \n"
                                 "i:n#@x\ncSEQ:   1 \t MESSAGE\ns:\n  in three \n\t lines  \n"
                                 "user-agent:x\nk:\nc:text/plain\nL:\n 00002\n\nhi";
    static const char *const lines[] = {
        "\r\nFrom: <sip:a@sip.test>;tag=a\r\n",
        "\r\nTo: <sip:bob@sip.test>\r\n",
        "\r\nCall-ID: n",
        "\r\nCSeq: 1 MESSAGE\r\n",
        "\r\nSubject: in three lines\r\n",
        "\r\nUser-Agent: x\r\n",
        "\r\nSupported:\r\n",
        "\r\nContent-Type: text/plain\r\n",
        "\r\nContent-Length: 2\r\n\r\nhi",
    };
    (void)state;
    for (int to_core = 0; to_core < 2; to_core++) {
        struct passage passage = cross(to_core, untidy);

        for (size_t i = 0; i < ARRAY_LEN(lines); i++)
            if (!strstr(passage.passed, lines[i]))
                fail_msg("no %s in %s%s", lines[i], passage.passed, passage.answer);
        for (const char *lf = passage.passed; (lf = strchr(lf, '\n')); lf++)
            assert_int_equal(lf[-1], '\r');
    }
}

static void
a_datagram_gets_its_content_length(void **state) /* N3 to access, N8 to access refused */
{
    (void)state;
    struct passage passage = cross(false, GOOD "\nbody");

    assert_string_equal(header_of(passage.passed, "Content-Length", 0), "4");
    passage = cross(false, GOOD "Content-Length: 3\n\nbody");
    assert_string_equal(header_of(passage.passed, "Content-Length", 0), "3");
    assert_string_equal(strstr(passage.passed, "\r\n\r\n"), "\r\n\r\nbod");
    passage = cross(false, GOOD "Content-Length: 5\n\nbody");
    assert_string_equal(start_line(passage.answer),
                        "SIP/2.0 400 Content-Length does not match the body");
    assert_string_equal(passage.passed, "");
}

static void lists_are_cut_and_all_else_keeps_its_order(void **state) /* N2 to core, N2 to access */
{
    (void)state;
    for (int to_core = 0; to_core < 2; to_core++) {
        struct passage passage =
            cross(to_core,
                  "MESSAGE $ SIP/2.0\nVia: SIP/2.0/TLS x;branch=z9hG4bKn#,SIP/2.0/UDP y;v=\"a,b\" "
                  ", SIP/2.0/UDP z\n" FROM TO CALL CSEQ "X-Odd:  a ,b;c = d , \"e,  f\" \n"
                  "Record-Route: <sip:one;lr>,<sip:2,b@two;lr>\nZ-Last: 1\nAccept: b/b , a/a\n"
                  "X-Odd: 2\n" END);
        const char *sent = passage.passed;

        assert_string_equal(header_of(sent, "Via", 2), "SIP/2.0/UDP y;v=\"a,b\"");
        assert_string_equal(header_of(sent, "Via", 3), "SIP/2.0/UDP z");
        assert_string_equal(header_of(sent, "Record-Route", 0), "<sip:one;lr>");
        assert_string_equal(header_of(sent, "Record-Route", 1), "<sip:2,b@two;lr>");
        assert_non_null(strstr(sent, "\r\nZ-Last: 1\r\nAccept: b/b , a/a\r\nX-Odd: 2\r\n"));
        assert_string_equal(header_of(sent, "X-Odd", 0), "a ,b;c = d , \"e,  f\"");
    }
}

static void uris_stand_in_brackets(void **state) /* N4 to core, N4 to access */
{
    (void)state;
    for (int to_core = 0; to_core < 2; to_core++) {
        struct passage passage = cross(
            to_core, "MESSAGE $ SIP/2.0\n" VIA "From: sip:a@sip.test;tag=a;x=y\n"
                     "To: sip:bob@sip.test\n" CALL CSEQ "Contact: <sip:q@10.0.0.5;p>;q=1\n" END);

        assert_string_equal(header_of(passage.passed, "From", 0), "<sip:a@sip.test>;tag=a;x=y");
        assert_string_equal(header_of(passage.passed, "To", 0), "<sip:bob@sip.test>");
        passage = cross(to_core, "MESSAGE $ SIP/2.0\n" VIA "From: \"A\" <sip:a@sip.test;p>;tag=a\n"
                                 "To: Bob B <sip:bob@sip.test>;y\n" CALL CSEQ
                                 "Contact: sip:q@10.0.0.5;q=0.5\n" END);
        assert_string_equal(header_of(passage.passed, "From", 0), "\"A\" <sip:a@sip.test;p>;tag=a");
        assert_string_equal(header_of(passage.passed, "To", 0), "Bob B <sip:bob@sip.test>;y");
        assert_non_null(strstr(header_of(passage.passed, "Contact", 0), ">;q=0.5"));
    }
}

static void what_is_unclear_is_refused_and_not_guessed(
    void **state) /* N8 to core refused, N8 to access refused */
{
    static const struct {
        const char *text, *answer;
    } cases[] = {
        {"MESSAGE $ SIP/2.0\n" VIA "From: <sip:a@b>, <sip:c@d>;tag=a\n" TO CALL CSEQ END,
         "SIP/2.0 400 Bad From"                                                                                                  },
        {"MESSAGE $ SIP/2.0\n" VIA FROM "To: <sip:bob@sip.test\n" CALL CSEQ END,
         "SIP/2.0 400 Bad To"                                                                                                    },
        {GOOD "Contact: \"A <sip:a@b>\n" END,                                             "SIP/2.0 400 Bad Contact"              },
        {GOOD "Record-Route: <sip:a;lr\n" END,                                            "SIP/2.0 400 Bad Record-Route"         },
        {GOOD "Route: \"x <sip:a;lr>\n" END,                                              "SIP/2.0 400 Bad Route"                },
        {GOOD "Subject\n" END,                                                            "SIP/2.0 400 Header line without colon"},
        {GOOD "Sub ject: x\n" END,                                                        "SIP/2.0 400 Bad header name"          },
        {"MESSAGE <$> SIP/2.0\n" VIA FROM TO CALL CSEQ END,                               "SIP/2.0 400 Bad Request-URI"          },
        {"MESSAGE $\n" VIA FROM TO CALL CSEQ END,                                         "SIP/2.0 400 Bad request line"         },
        {"MESSAGE $ SIP/2.0\n folded\n" VIA FROM TO CALL CSEQ END,
         "SIP/2.0 400 Folded request line"                                                                                       },
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        for (int to_core = 0; to_core < 2; to_core++) {
            struct passage passage = cross(to_core, cases[i].text);

            assert_string_equal(start_line(passage.answer), cases[i].answer);
            assert_string_equal(passage.passed, "");
        }
    struct passage passage = cross(true, GOOD "Contact: <sip:a@b:99999>\n" END); /* to be masked */
    assert_string_equal(start_line(passage.answer), "SIP/2.0 400 Bad Contact");
    assert_string_equal(passage.passed, "");
}

/* ---- who may say what (N5, N7) ---- */

static void what_a_client_may_say_passes(void **state) /* N5 to core */
{
    (void)state;
    struct passage passage =
        cross(true, GOOD "P-Preferred-Identity: <sip:a@sip.test>\nPrivacy: id\n"
                         "P-Access-Network-Info: IEEE-802.11\n" END);

    assert_string_equal(header_of(passage.passed, "P-Preferred-Identity", 0), "<sip:a@sip.test>");
    assert_string_equal(header_of(passage.passed, "P-Access-Network-Info", 0), "IEEE-802.11");
    assert_string_equal(header_of(passage.passed, "Privacy", 0), "id");
}

static void
responses_are_stripped_as_requests_are(void **state) /* N5 to core refused, N5 to access refused */
{
    (void)state;
    char request[8192];

    snprintf(request, sizeof(request), "%s", cross(false, GOOD END).passed);
    edge_from_client(
        bob, "%s", response_to(request, "200 OK", "b", "P-Asserted-Identity: <sip:boss@sip.test>"));
    assert_string_equal(start_line(inbox_last(&edge.core)), "SIP/2.0 200 OK");
    assert_string_equal(header_of(inbox_last(&edge.core), "P-Asserted-Identity", 0), "");
    snprintf(request, sizeof(request), "%s", cross(true, GOOD END).passed);
    edge_from_core(&edge, "%s",
                   response_to(request, "200 OK", "b",
                               "P-Charging-Vector: x\nP-Asserted-Identity: <sip:bob@sip.test>"));
    assert_string_equal(start_line(inbox_last(&alice->inbox)), "SIP/2.0 200 OK");
    assert_string_equal(header_of(inbox_last(&alice->inbox), "P-Charging-Vector", 0), "");
    assert_string_equal(header_of(inbox_last(&alice->inbox), "P-Asserted-Identity", 0),
                        "<sip:bob@sip.test>");
}

static void nothing_is_told_of_a_client_unless_asked_for(void **state) /* N7 refused */
{
    (void)state;
    assert_null(strstr(cross(true, GOOD END).passed, "192.0.2.7:50000"));
}

/* ---- digest (R12) ---- */

static void challenges_and_what_the_core_answers_to_them_pass_unchanged(
    void **state) /* R12 to access, N2 to access, R6 to access */
{
    static const char challenge[] = "Digest  realm=\"a\",nonce=\"n\" ,qop=\"auth,auth-int\"";
    static const char authorization[] = "Digest username=\"pbx\" ,uri=\"sip:bob@x.invalid\",nc=1";
    (void)state;
    char request[8192];

    snprintf(request, sizeof(request), "%s", cross(true, GOOD END).passed);
    edge_from_core(&edge,
                   "%sWWW-Authenticate: %s\nProxy-Authenticate: %s\nContent-Type: a/b\n\n a b ",
                   response_to(request, "401 Unauthorized", "b", NULL), challenge, challenge);
    const char *answer = inbox_last(&alice->inbox);
    assert_string_equal(start_line(answer), "SIP/2.0 401 Unauthorized");
    assert_string_equal(header_of(answer, "WWW-Authenticate", 0), challenge);
    assert_string_equal(header_of(answer, "Proxy-Authenticate", 0), challenge);
    assert_string_equal(strstr(answer, "\r\n\r\n"), "\r\n\r\n a b ");

    char text[1024];
    snprintf(text, sizeof(text), GOOD "Authorization: %s\nContent-Length: 6\n\n b\n\nb",
             authorization);
    const char *passed = cross(false, text).passed;
    assert_string_equal(start_line(passed), "MESSAGE sip:bob@x.invalid;transport=ws SIP/2.0");
    assert_string_equal(header_of(passed, "Authorization", 0), authorization);
    assert_string_equal(strstr(passed, "\r\n\r\n"), "\r\n\r\n b\r\n\r\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        MASK(what_only_the_core_may_say_is_stripped),
        MASK(a_private_identity_stays_in_the_core),
        MASK(a_private_party_stays_in_the_core),
        MASK(configured_rules_remove_set_and_add),
        MASK(cseq_comes_out_with_one_blank),
        MASK(digest_headers_and_bodies_pass_unchanged),
        MASK(one_spelling_comes_out),
        MASK(a_datagram_gets_its_content_length),
        MASK(lists_are_cut_and_all_else_keeps_its_order),
        MASK(uris_stand_in_brackets),
        MASK(what_is_unclear_is_refused_and_not_guessed),
        MASK(what_a_client_may_say_passes),
        MASK(responses_are_stripped_as_requests_are),
        MASK(nothing_is_told_of_a_client_unless_asked_for),
        MASK(challenges_and_what_the_core_answers_to_them_pass_unchanged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* What changes in a message as it crosses, through the whole proxy (rules N, R12). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "calls.h"

static void what_only_the_core_may_say_is_stripped(void **state) /* N5, N7 */
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

static void a_private_identity_stays_in_the_core(void **state) /* N5, RFC 3325 7 */
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

static void configured_rules_remove_set_and_add(void **state) /* N6 */
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
    edge_from_client(alice, INVITE("User-Agent: phone\nSubject: old\nX-Edge: zero"));
    const char *sent = inbox_last(&edge.core);

    assert_string_equal(header_of(sent, "User-Agent", 0), "");
    assert_string_equal(header_of(sent, "Subject", 0), "new");
    assert_string_equal(header_of(sent, "Subject", 1), "");
    assert_string_equal(header_of(sent, "X-Edge", 1), "one");
    edge_from_core(&edge, "%s", response_to(sent, "486 Busy Here", "b", "Server: pbx"));
    assert_string_equal(header_of(inbox_last(&alice->inbox), "Server", 0), "");
    edge_from_client(alice, "ACK sip:bob@sip.test SIP/2.0\n"
                            "Via: SIP/2.0/TLS client.invalid;branch=z9hG4bKinv1;rport\n"
                            "From: <sip:alice@sip.test>;tag=a\nTo: <sip:bob@sip.test>;tag=b\n"
                            "Call-ID: call1\nCSeq: 1 ACK");
}

static void cseq_comes_out_with_one_blank(void **state) /* N1 */
{
    (void)state;
    edge_from_client(alice, "MESSAGE sip:bob@sip.test SIP/2.0\n"
                            "Via: SIP/2.0/TLS x;branch=z9hG4bKc\nFrom: <sip:a@b>;tag=a\n"
                            "To: <sip:bob@sip.test>\nCall-ID: c\nCSeq: 7 \t  MESSAGE");
    assert_string_equal(header_of(inbox_last(&edge.core), "CSeq", 0), "7 MESSAGE");
}

static void digest_headers_and_bodies_pass_unchanged(void **state) /* R12, N2, N3 */
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        MASK(what_only_the_core_may_say_is_stripped),   MASK(a_private_identity_stays_in_the_core),
        MASK(configured_rules_remove_set_and_add),      MASK(cseq_comes_out_with_one_blank),
        MASK(digest_headers_and_bodies_pass_unchanged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

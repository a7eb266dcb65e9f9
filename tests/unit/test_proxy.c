/* The whole proxy core, driven with strings and a hand-set clock. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edge.h"

#define REGISTER(more)                                                                             \
    "REGISTER sip:sip.test SIP/2.0\n"                                                              \
    "Via: SIP/2.0/TLS client.invalid;branch=z9hG4bKreg1;rport\n"                                   \
    "Max-Forwards: 70\nFrom: <sip:alice@sip.test>;tag=a\nTo: <sip:alice@sip.test>\n"               \
    "Call-ID: reg1\nCSeq: 1 REGISTER\n" more

#define INVITE(more)                                                                               \
    "INVITE sip:bob@sip.test SIP/2.0\n"                                                            \
    "Via: SIP/2.0/TLS client.invalid;branch=z9hG4bKinv1;rport\n"                                   \
    "Max-Forwards: 70\nFrom: <sip:alice@sip.test>;tag=a\nTo: <sip:bob@sip.test>\n"                 \
    "Call-ID: call1\nCSeq: 1 INVITE\n"                                                             \
    "Contact: <sip:alice@client.invalid;transport=ws>\n" more

#define REQUEST(method, more)                                                                      \
    method " sip:bob@sip.test SIP/2.0\n"                                                           \
           "Via: SIP/2.0/TLS client.invalid;branch=z9hG4bKreq1\n"                                  \
           "From: <sip:alice@sip.test>;tag=a\nTo: <sip:bob@sip.test>\n"                            \
           "Call-ID: req1\nCSeq: 1 " method "\n" more

static struct edge edge;
static struct client *alice, *bob;

static int setup_mask(void **state)
{
    (void)state;
    edge_setup(&edge, false);
    alice = edge_client(&edge, 0, "TLS");
    bob = edge_client(&edge, 1, "WSS");
    return 0;
}

static int setup_path(void **state)
{
    (void)state;
    edge_setup(&edge, true);
    alice = edge_client(&edge, 0, "TLS");
    bob = edge_client(&edge, 1, "WSS");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    edge_teardown(&edge);
    return 0;
}

/* The masked Contact that the core gets for `client`: REGISTER and take it. */
static const char *masked_contact(struct client *client, const char *user)
{
    edge_from_client(client,
                     "REGISTER sip:sip.test SIP/2.0\n"
                     "Via: SIP/2.0/TLS x.invalid;branch=z9hG4bKreg%s\n"
                     "From: <sip:%s@sip.test>;tag=a\nTo: <sip:%s@sip.test>\n"
                     "Call-ID: reg%s\nCSeq: 1 REGISTER\n"
                     "Contact: <sip:%s@x.invalid;transport=ws>;expires=300",
                     user, user, user, user, user);
    static char uri[1024];
    snprintf(uri, sizeof(uri), "%s",
             between(header_of(inbox_last(&edge.core), "Contact", 0), "<", ">"));
    edge_from_core(&edge, "%s", response_to(inbox_last(&edge.core), "200 OK", "r", NULL));
    inbox_take(&edge.core);
    inbox_take(&client->inbox);
    return uri;
}

#define FROM_PBX(method, uri, more)                                                                \
    method " %s SIP/2.0\n"                                                                         \
           "Via: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bKpbx1;rport\n"                             \
           "From: <sip:pbx@sip.test>;tag=p\nTo: <sip:bob@sip.test>\n"                              \
           "Call-ID: pbx1\nCSeq: 1 " method "\nMax-Forwards: 70\n" more,                           \
        uri

/* ---- routing and rewriting towards the core ---- */

static void register_goes_to_the_backend_with_a_masked_contact(void **state) /* R2, R6, R9 */
{
    (void)state;
    assert_int_equal(
        edge_from_client(alice, REGISTER("Contact: \"A, B\" <sip:alice@client.invalid;transport=ws;"
                                         "ob>;expires=60;+sip.instance=\"<urn:uuid:1>\";reg-id=1"
                                         "\nSupported: path, outbound")),
        0);
    assert_int_equal(edge.core.count, 1);
    const char *sent = inbox_last(&edge.core);
    const char *contact = header_of(sent, "Contact", 0);

    assert_string_equal(start_line(sent), "REGISTER sip:sip.test SIP/2.0");
    assert_non_null(strstr(contact, "\"A, B\" <sip:alice@10.0.0.2:5060;ob;flow="));
    assert_non_null(strstr(contact, ">;expires=60;+sip.instance=\"<urn:uuid:1>\";reg-id=1"));
    assert_null(strstr(contact, "transport"));
    assert_string_equal(header_of(sent, "Path", 0), "");
    assert_true(edge.core.to[0].in.sin_addr.s_addr == edge.pbx.in.sin_addr.s_addr);
}

static void register_200_gives_the_client_its_own_contact_back(void **state) /* R6, R10 */
{
    (void)state;
    char contact[1024], more[1200];

    edge_from_client(alice, REGISTER("Contact: <sip:alice@client.invalid:1234;transport=ws;x=y>;"
                                     "reg-id=1;expires=60\nSupported: outbound"));
    snprintf(contact, sizeof(contact), "%s", header_of(inbox_last(&edge.core), "Contact", 0));
    snprintf(more, sizeof(more), "Contact: %s;extra=1\nService-Route: <sip:pbx;lr>", contact);
    edge_from_core(&edge, "%s", response_to(inbox_last(&edge.core), "200 OK", "r", more));

    const char *answer = inbox_last(&alice->inbox);
    assert_string_equal(header_of(answer, "Contact", 0),
                        "<sip:alice@client.invalid:1234;transport=ws;x=y>;reg-id=1;expires=60;"
                        "extra=1");
    assert_string_equal(header_of(answer, "Flow-Timer", 0), "120");
    assert_string_equal(header_of(answer, "Service-Route", 0), "<sip:pbx;lr>");
    assert_string_equal(header_of(answer, "Via", 1), "");
}

static void register_with_path_names_the_flow(void **state) /* R5, R9 */
{
    (void)state;
    edge_from_client(alice, REGISTER("Contact: <sip:alice@client.invalid;transport=ws>\n"
                                     "Path: <sip:other;lr>\nSupported: outbound"));
    const char *sent = inbox_last(&edge.core);

    assert_non_null(strstr(header_of(sent, "Path", 0), "@10.0.0.2:5060;lr;ob>"));
    assert_string_equal(header_of(sent, "Path", 1), "<sip:other;lr>");
    assert_string_equal(header_of(sent, "Contact", 0), "<sip:alice@client.invalid;transport=ws>");
    assert_string_equal(header_of(sent, "Supported", 1), "path");
}

static void the_top_via_gets_received_and_rport(void **state) /* R1, M3 */
{
    (void)state;
    edge_from_client(alice, REGISTER("Contact: *\nExpires: 0"));
    const char *sent = inbox_last(&edge.core);

    assert_non_null(
        strstr(header_of(sent, "Via", 0), "SIP/2.0/UDP 10.0.0.2:5060;branch=z9hG4bK02"));
    assert_string_equal(header_of(sent, "Via", 1),
                        "SIP/2.0/TLS client.invalid;branch=z9hG4bKreg1;received=192.0.2.7;rport="
                        "50000");
    assert_string_equal(header_of(sent, "Contact", 0), "*");
}

static void a_forged_received_is_replaced(void **state) /* R1 */
{
    (void)state;
    edge_from_client(alice, "OPTIONS sip:bob@sip.test SIP/2.0\n"
                            "Via: SIP/2.0/TLS x:1;received=9.9.9.9;branch=z9hG4bKo;rport=77\n"
                            "From: <sip:a@sip.test>;tag=a\nTo: <sip:bob@sip.test>\n"
                            "Call-ID: o\nCSeq: 1 OPTIONS");
    assert_string_equal(header_of(inbox_last(&edge.core), "Via", 1),
                        "SIP/2.0/TLS x:1;branch=z9hG4bKo;received=192.0.2.7;rport=50000");
}

static void invite_gets_100_and_two_record_routes(void **state) /* T2, R3, R6 */
{
    (void)state;
    edge_from_client(alice, INVITE(""));
    assert_string_equal(start_line(inbox_last(&alice->inbox)), "SIP/2.0 100 Trying");
    const char *sent = inbox_last(&edge.core);
    char token[64];

    snprintf(token, sizeof(token), "%s", between(header_of(sent, "Record-Route", 0), "<sip:", "@"));
    assert_string_equal(strchr(header_of(sent, "Record-Route", 0), '@'), "@10.0.0.2:5060;lr>");
    assert_string_equal(strchr(header_of(sent, "Record-Route", 1), '@'),
                        "@sip.test:5061;transport=tls;lr>");
    assert_string_equal(between(header_of(sent, "Record-Route", 1), "<sip:", "@"), token);
    assert_string_equal(header_of(sent, "Record-Route", 2), "");
    assert_string_equal(header_of(sent, "Max-Forwards", 0), "69");

    edge_from_core(&edge, "%s", response_to(sent, "100 Trying", NULL, NULL));
    assert_int_equal(alice->inbox.count, 1); /* a 100 is not forwarded */
    edge_from_core(&edge, "%s", response_to(sent, "180 Ringing", "b", NULL));
    assert_string_equal(start_line(inbox_last(&alice->inbox)), "SIP/2.0 180 Ringing");
}

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

/* ---- Max-Forwards, loops, checks ---- */

static void max_forwards_is_checked_and_lowered(void **state) /* M1, M2 */
{
    static const struct {
        const char *given, *sent; /* sent NULL: answered */
        const char *answer;
    } cases[] = {
        {"Max-Forwards: 70",  "69", NULL                       },
        {"Max-Forwards: 71",  "69", NULL                       }, /* lowered to 70 first */
        {"Max-Forwards: 255", "69", NULL                       },
        {"Max-Forwards: 1",   "0",  NULL                       },
        {"Subject: none",     "70", NULL                       },
        {"Max-Forwards: 0",   NULL, "SIP/2.0 483 Too Many Hops"},
        {"Max-Forwards: 256", NULL, "SIP/2.0 400 "             },
        {"Max-Forwards: x",   NULL, "SIP/2.0 400 "             },
        {"Max-Forwards: -1",  NULL, "SIP/2.0 400 "             },
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        inbox_take(&edge.core);
        inbox_take(&alice->inbox);
        edge_from_client(alice,
                         "MESSAGE sip:bob@sip.test SIP/2.0\n"
                         "Via: SIP/2.0/TLS x;branch=z9hG4bKm%zu\n"
                         "From: <sip:a@sip.test>;tag=a\nTo: <sip:bob@sip.test>\n"
                         "Call-ID: m\nCSeq: 1 MESSAGE\n%s",
                         i, cases[i].given);
        if (cases[i].sent)
            assert_string_equal(header_of(inbox_last(&edge.core), "Max-Forwards", 0),
                                cases[i].sent);
        else
            assert_non_null(strstr(inbox_last(&alice->inbox), cases[i].answer));
        assert_int_equal(edge.core.count, cases[i].sent ? 1 : 0);
    }
}

static void options_with_max_forwards_0_is_answered(void **state) /* M1 */
{
    (void)state;
    edge_from_client(alice, REQUEST("OPTIONS", "Max-Forwards: 0"));
    assert_string_equal(start_line(inbox_last(&alice->inbox)), "SIP/2.0 200 OK");
    assert_int_equal(edge.core.count, 0);
}

static void ack_with_max_forwards_0_is_dropped(void **state) /* M1, V5 */
{
    (void)state;
    edge_from_client(alice, "ACK sip:bob@sip.test SIP/2.0\n"
                            "Via: SIP/2.0/TLS x;branch=z9hG4bKack\n"
                            "From: <sip:a@sip.test>;tag=a\nTo: <sip:bob@sip.test>;tag=b\n"
                            "Call-ID: m\nCSeq: 1 ACK\nMax-Forwards: 0");
    assert_int_equal(edge.core.count + alice->inbox.count, 0);
}

static void a_request_that_comes_back_unchanged_is_a_loop(void **state) /* M3 */
{
    (void)state;
    char back[8192];

    edge_from_client(alice, INVITE(""));
    snprintf(back, sizeof(back), "%s", inbox_last(&edge.core));
    /* The backend puts its own Via on top, as it must. */
    const char *rest = strstr(back, "\r\n") + 2;
    inbox_take(&edge.core);
    edge_from_core(&edge,
                   "INVITE sip:bob@sip.test SIP/2.0\n"
                   "Via: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bKback;rport\n%s",
                   rest);
    assert_string_equal(start_line(inbox_last(&edge.core)), "SIP/2.0 482 Loop Detected");
    assert_int_equal(bob->inbox.count, 0);
}

static void a_spiral_passes(void **state) /* M4, R7, R6 */
{
    (void)state;
    char uri[1024], vias[2048];

    snprintf(uri, sizeof(uri), "%s", masked_contact(bob, "bob"));
    edge_from_client(alice, INVITE(""));
    const char *sent = inbox_last(&edge.core);
    snprintf(vias, sizeof(vias), "Via: %s\nVia: %s\n", header_of(sent, "Via", 0),
             header_of(sent, "Via", 1));
    edge_from_core(&edge,
                   "INVITE %s SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.5;branch=z9hG4bKspiral;rport\n%s"
                   "From: <sip:alice@sip.test>;tag=a\nTo: <sip:bob@sip.test>\n"
                   "Call-ID: call1\nCSeq: 1 INVITE\nMax-Forwards: 68",
                   uri, vias);
    assert_int_equal(bob->inbox.count, 1);
    assert_string_equal(start_line(inbox_last(&bob->inbox)),
                        "INVITE sip:bob@x.invalid;transport=ws SIP/2.0");
    assert_non_null(strstr(header_of(inbox_last(&bob->inbox), "Via", 0),
                           "SIP/2.0/WSS sip.test:5061;branch=z9hG4bK02"));
}

static void proxy_require_and_max_breadth_are_refused(void **state) /* V6, M5 */
{
    (void)state;
    edge_from_client(alice, REQUEST("MESSAGE", "Proxy-Require: foo"));
    assert_string_equal(start_line(inbox_last(&alice->inbox)), "SIP/2.0 420 Bad Extension");
    assert_string_equal(header_of(inbox_last(&alice->inbox), "Unsupported", 0), "foo");
    edge_from_client(alice, REQUEST("MESSAGE", "Max-Breadth: 0"));
    assert_non_null(strstr(inbox_last(&alice->inbox), "SIP/2.0 440 "));
    assert_int_equal(edge.core.count, 0);
    edge_from_client(alice, REQUEST("MESSAGE", "Max-Breadth: 5"));
    assert_string_equal(header_of(inbox_last(&edge.core), "Max-Breadth", 0), "5");
}

static void broken_requests_are_answered_and_not_forwarded(void **state) /* V1, V2, V3 */
{
    static const struct {
        const char *message, *answer;
    } cases[] = {
        {REQUEST("MESSAGE", "CSeq: 2 MESSAGE"),                   "SIP/2.0 400 "},
        {"MESSAGE http://x SIP/2.0\nVia: SIP/2.0/TLS x;branch=z9hG4bK1\nFrom: <sip:a@b>;tag=1\n"
         "To: <sip:a@b>\nCall-ID: x\nCSeq: 1 MESSAGE",                 "SIP/2.0 416 "},
        {"MESSAGE sip:x SIP/7.0\nVia: SIP/2.0/TLS x;branch=z9hG4bK1\nFrom: <sip:a@b>;tag=1\n"
         "To: <sip:a@b>\nCall-ID: x\nCSeq: 1 MESSAGE",                 "SIP/2.0 505 "},
        {"MESSAGE sip:x SIP/2.0\nVia: SIP/2.0/TLS x;branch=z9hG4bK1\nFrom: <sip:a@b>;tag=1\n"
         "To: <sip:a@b>\nCall-ID: x\nCSeq: 1 INVITE",                 "SIP/2.0 400 " },
        {"MESSAGE sip:x SIP/2.0\nVia: SIP/2.0/TLS x;branch=z9hG4bK1\nFrom: <sip:a@b>\n"
         "To: <sip:a@b>\nCall-ID: x\nCSeq: 1 MESSAGE",                 "SIP/2.0 400 "},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        inbox_take(&alice->inbox);
        assert_int_equal(edge_from_client(alice, "%s", cases[i].message), 0);
        assert_non_null(strstr(inbox_last(&alice->inbox), cases[i].answer));
        assert_int_equal(edge.core.count, 0);
    }
}

static void lost_framing_is_answered_and_closes(void **state) /* F3 */
{
    (void)state;
    assert_true(edge_from_client(alice, REQUEST("MESSAGE", "Content-Length: -5")) < 0);
    assert_non_null(strstr(inbox_last(&alice->inbox), "SIP/2.0 400 "));
    assert_int_equal(edge.core.count, 0);
}

static void pings_get_pongs_and_nothing_reaches_the_core(void **state) /* F2 */
{
    (void)state;
    char ping[] = "\r\n\r\n", pong[] = "\r\n";
    size_t scanned = 0;

    assert_int_equal(proxy_receive_stream(alice->flow, ping, 4, &scanned, edge.now), 4);
    assert_string_equal(inbox_last(&alice->inbox), "\r\n");
    assert_int_equal(proxy_receive_message(bob->flow, ping, 4, edge.now), 0);
    assert_string_equal(inbox_last(&bob->inbox), "\r\n");
    assert_int_equal(proxy_receive_message(bob->flow, pong, 2, edge.now), 0);
    assert_int_equal(bob->inbox.count, 1);
    assert_int_equal(edge.core.count, 0);
}

/* ---- routing from the core ---- */

static void a_token_leads_to_its_flow_or_nowhere(void **state) /* R7 */
{
    (void)state;
    char uri[1024], forged[1024];

    snprintf(uri, sizeof(uri), "%s", masked_contact(bob, "bob"));
    snprintf(forged, sizeof(forged), "%s", uri);
    char *token = strstr(forged, "flow=") + 5;
    token[8] = token[8] == 'A' ? 'B' : 'A';

    edge_from_core(&edge, FROM_PBX("OPTIONS", uri, ""));
    assert_string_equal(start_line(inbox_last(&bob->inbox)),
                        "OPTIONS sip:bob@x.invalid;transport=ws SIP/2.0");
    assert_int_equal(alice->inbox.count, 0);
    edge_from_client(bob, "%s", response_to(inbox_last(&bob->inbox), "200 OK", "b", NULL));
    assert_string_equal(start_line(inbox_last(&edge.core)), "SIP/2.0 200 OK");

    inbox_take(&bob->inbox);
    edge_from_core(&edge, FROM_PBX("MESSAGE", forged, ""));
    assert_non_null(strstr(inbox_last(&edge.core), "SIP/2.0 403 "));
    edge_from_core(&edge, FROM_PBX("INFO", "sip:bob@10.0.0.2", ""));
    assert_non_null(strstr(inbox_last(&edge.core), "SIP/2.0 404 "));

    edge_hang_up(bob);
    bob = edge_client(&edge, 1, "WSS"); /* the same slot, another connection */
    edge_from_core(&edge, FROM_PBX("NOTIFY", uri, ""));
    assert_string_equal(start_line(inbox_last(&edge.core)), "SIP/2.0 430 Flow Failed");
    assert_int_equal(bob->inbox.count, 0);
}

static void the_path_leads_to_the_flow(void **state) /* R5, R7, R4 */
{
    (void)state;
    char path[256];

    edge_from_client(bob, REGISTER("Contact: <sip:bob@x.invalid>"));
    snprintf(path, sizeof(path), "%s", header_of(inbox_last(&edge.core), "Path", 0));
    edge_from_core(&edge,
                   "INVITE sip:bob@x.invalid SIP/2.0\n"
                   "Via: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bKpbx1;rport\n"
                   "Route: %s\nFrom: <sip:pbx@sip.test>;tag=p\nTo: <sip:bob@sip.test>\n"
                   "Call-ID: pbx1\nCSeq: 1 INVITE\nContact: <sip:pbx@10.0.0.5>\n"
                   "P-Charging-Vector: x",
                   path);
    const char *got = inbox_last(&bob->inbox);

    assert_string_equal(start_line(got), "INVITE sip:bob@x.invalid SIP/2.0");
    assert_string_equal(header_of(got, "Route", 0), "");
    assert_string_equal(header_of(got, "P-Charging-Vector", 0), "");
    assert_string_equal(header_of(got, "Contact", 0), "<sip:pbx@10.0.0.5>");
    assert_non_null(strstr(header_of(got, "Record-Route", 0), "@sip.test:5061;transport=ws;lr>"));
    assert_non_null(strstr(header_of(got, "Record-Route", 1), "@10.0.0.2:5060;lr>"));
}

static void a_stranger_on_the_core_side_is_dropped(void **state) /* R8 */
{
    (void)state;
    char uri[1024];

    snprintf(uri, sizeof(uri), "%s", masked_contact(bob, "bob"));
    edge.pbx.in.sin_addr.s_addr = htonl(0x0a000063);
    edge_from_core(&edge, FROM_PBX("OPTIONS", uri, ""));
    assert_int_equal(edge.core.count + bob->inbox.count, 0);
    assert_int_equal(proxy_counters(edge.proxy)->dropped_foreign, 1);
}

static void options_to_the_edge_itself_is_answered(void **state)
{
    (void)state;
    edge_from_core(&edge, FROM_PBX("OPTIONS", "sip:10.0.0.2:5060", ""));
    assert_string_equal(start_line(inbox_last(&edge.core)), "SIP/2.0 200 OK");
}

/* ---- dialogs ---- */

/* A call from alice that the PBX answers; its Record-Route header lines, as the client has them. */
static void call_up(char routes[2048])
{
    edge_from_client(alice, INVITE(""));
    const char *answer =
        response_to(inbox_last(&edge.core), "200 OK", "b", "Contact: <sip:bob@10.0.0.5:5060>");
    edge_from_core(&edge, "%s", answer);
    const char *got = inbox_last(&alice->inbox);
    assert_string_equal(start_line(got), "SIP/2.0 200 OK");
    /* The client's route set is the reverse of the Record-Routes (RFC 3261 12.1.2). */
    snprintf(routes, 2048, "Route: %s\nRoute: %s\n", header_of(got, "Record-Route", 1),
             header_of(got, "Record-Route", 0));
    inbox_take(&edge.core);
    inbox_take(&alice->inbox);
}

#define IN_DIALOG(method, cseq)                                                                    \
    method " %s SIP/2.0\n"                                                                         \
           "Via: SIP/2.0/TLS client.invalid;branch=z9hG4bKdialog" method "\n"                      \
           "%sFrom: <sip:alice@sip.test>;tag=a\nTo: <sip:bob@sip.test>;tag=b\n"                    \
           "Call-ID: call1\nCSeq: " cseq " " method "\nMax-Forwards: 70"

static void requests_in_a_dialog_follow_their_route(void **state) /* R4, R11, T3 */
{
    (void)state;
    char routes[2048];

    call_up(routes);
    edge_from_client(alice, IN_DIALOG("ACK", "1"), "sip:bob@10.0.0.5:5060", routes);
    assert_string_equal(start_line(inbox_last(&edge.core)), "ACK sip:bob@10.0.0.5:5060 SIP/2.0");
    assert_string_equal(header_of(inbox_last(&edge.core), "Route", 0), "");
    edge_from_client(alice, IN_DIALOG("BYE", "2"), "sip:bob@10.0.0.5:5060", routes);
    assert_string_equal(start_line(inbox_last(&edge.core)), "BYE sip:bob@10.0.0.5:5060 SIP/2.0");
    assert_string_equal(header_of(inbox_last(&edge.core), "Record-Route", 0), "");
    edge_from_core(&edge, "%s", response_to(inbox_last(&edge.core), "200 OK", NULL, NULL));
    assert_string_equal(start_line(inbox_last(&alice->inbox)), "SIP/2.0 200 OK");
}

static void a_route_or_uri_elsewhere_is_refused(void **state) /* R2, R4 */
{
    (void)state;
    char routes[2048], foreign[4096];

    call_up(routes);
    edge_from_client(alice, IN_DIALOG("ACK", "1"), "sip:bob@10.0.0.5:5060", routes);
    inbox_take(&edge.core);
    edge_from_client(alice, IN_DIALOG("BYE", "2"), "sip:bob@10.9.9.9:5060", routes);
    assert_non_null(strstr(inbox_last(&alice->inbox), "SIP/2.0 403 "));
    snprintf(foreign, sizeof(foreign), "%sRoute: <sip:10.9.9.9;lr>\n", routes);
    edge_from_client(alice, IN_DIALOG("INFO", "3"), "sip:bob@10.0.0.5:5060", foreign);
    assert_non_null(strstr(inbox_last(&alice->inbox), "SIP/2.0 403 "));
    edge_from_client(alice, REQUEST("MESSAGE", "Route: <sip:10.9.9.9;lr>"));
    assert_non_null(strstr(inbox_last(&alice->inbox), "SIP/2.0 403 "));
    assert_int_equal(edge.core.count, 0);
    /* whatever the Request-URI says, out of dialog it is the backend's to decide */
    edge_from_client(alice, "MESSAGE sip:x@elsewhere.example SIP/2.0\n"
                            "Via: SIP/2.0/TLS x;branch=z9hG4bKelse\n"
                            "Route: <sip:sip.test:5061;transport=tls;lr>\n"
                            "From: <sip:a@sip.test>;tag=a\nTo: <sip:x@elsewhere.example>\n"
                            "Call-ID: e\nCSeq: 1 MESSAGE");
    assert_string_equal(start_line(inbox_last(&edge.core)),
                        "MESSAGE sip:x@elsewhere.example SIP/2.0");
    assert_string_equal(header_of(inbox_last(&edge.core), "Route", 0), "");
}

static void a_forged_route_token_is_refused(void **state) /* R4, R7 */
{
    (void)state;
    char routes[2048];

    call_up(routes);
    edge_from_client(alice, IN_DIALOG("ACK", "1"), "sip:bob@10.0.0.5:5060", routes);
    inbox_take(&edge.core);
    char *token = strstr(routes, "<sip:") + 5;
    token[10] = token[10] == 'A' ? 'B' : 'A';
    edge_from_client(alice, IN_DIALOG("BYE", "2"), "sip:bob@10.0.0.5:5060", routes);
    assert_non_null(strstr(inbox_last(&alice->inbox), "SIP/2.0 403 "));
    assert_int_equal(edge.core.count, 0);
}

static void strict_routers_are_repaired(void **state) /* R4, RFC 3261 16.4 */
{
    (void)state;
    char routes[2048], first[512], second[512], strict[1024];

    call_up(routes);
    edge_from_client(alice, IN_DIALOG("ACK", "1"), "sip:bob@10.0.0.5:5060", routes);
    snprintf(first, sizeof(first), "%s", between(routes, "Route: <", ">"));
    snprintf(second, sizeof(second), "%s", between(strchr(routes, '\n'), "Route: <", ">"));
    snprintf(strict, sizeof(strict), "Route: <%s>\nRoute: <sip:bob@10.0.0.5:5060>\n", second);
    edge_from_client(alice, IN_DIALOG("BYE", "2"), first, strict);
    assert_string_equal(start_line(inbox_last(&edge.core)), "BYE sip:bob@10.0.0.5:5060 SIP/2.0");
    assert_string_equal(header_of(inbox_last(&edge.core), "Route", 0), "");
}

static void a_dialog_follows_its_client_to_a_new_connection(void **state) /* R7 */
{
    (void)state;
    char uri[1024], route[512];

    edge_from_client(bob, REQUEST("SUBSCRIBE", "Contact: <sip:bob@x.invalid>"));
    snprintf(route, sizeof(route), "%s", header_of(inbox_last(&edge.core), "Record-Route", 0));
    edge_from_core(&edge, "%s", response_to(inbox_last(&edge.core), "200 OK", "n", NULL));
    edge_hang_up(bob);
    bob = edge_client(&edge, 1, "WSS");
    snprintf(uri, sizeof(uri), "%s", masked_contact(bob, "bob"));
    edge_from_core(&edge,
                   "NOTIFY %s SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.5;branch=z9hG4bKn;rport\n"
                   "Route: %s\nFrom: <sip:b@sip.test>;tag=n\nTo: <sip:bob@sip.test>;tag=a\n"
                   "Call-ID: n\nCSeq: 2 NOTIFY",
                   uri, route);
    assert_non_null(strstr(inbox_last(&bob->inbox), "NOTIFY sip:bob@x.invalid;transport=ws "));
}

/* ---- transactions ---- */

static void requests_to_the_core_are_retransmitted(void **state) /* T1 */
{
    (void)state;
    uint64_t start = edge.now;

    edge_from_client(alice, REQUEST("MESSAGE", ""));
    edge_wait(&edge, 31999);
    static const uint64_t expected[] = {0,     500,   1500,  3500,  7500, 11500,
                                        15500, 19500, 23500, 27500, 31500};
    assert_int_equal(edge.core.count, ARRAY_LEN(expected));
    for (size_t i = 0; i < ARRAY_LEN(expected); i++)
        assert_int_equal(edge.core.times[i] - start, expected[i]);
    edge_wait(&edge, 1000);
    assert_int_equal(alice->inbox.count, 0); /* T5: never a 408 */
    assert_int_equal(proxy_transactions(edge.proxy), 0);
}

static void an_invite_without_answer_gets_408(void **state) /* T5 */
{
    (void)state;
    edge_from_client(alice, INVITE(""));
    edge_wait(&edge, 31999);
    assert_int_equal(alice->inbox.count, 1);
    edge_wait(&edge, 1);
    assert_string_equal(start_line(inbox_last(&alice->inbox)), "SIP/2.0 408 Request Timeout");
}

static void timer_c_cancels_and_ends_in_408(void **state) /* T5 */
{
    (void)state;
    char invite[8192];

    edge_from_client(alice, INVITE(""));
    snprintf(invite, sizeof(invite), "%s", inbox_last(&edge.core));
    edge_from_core(&edge, "%s", response_to(invite, "180 Ringing", "b", NULL));
    inbox_take(&edge.core);
    edge_wait(&edge, 180999);
    assert_int_equal(edge.core.count, 0);
    edge_wait(&edge, 1);
    assert_non_null(strstr(inbox_last(&edge.core), "CANCEL sip:bob@sip.test SIP/2.0"));
    edge_from_core(&edge, "%s", response_to(inbox_last(&edge.core), "200 OK", "b", NULL));
    edge_from_core(&edge, "%s", response_to(invite, "487 Request Terminated", "b", NULL));
    assert_string_equal(start_line(inbox_last(&alice->inbox)), "SIP/2.0 408 Request Timeout");
    assert_string_equal(start_line(inbox_last(&edge.core)), "ACK sip:bob@sip.test SIP/2.0");
}

#define CANCEL                                                                                     \
    "CANCEL sip:bob@sip.test SIP/2.0\n"                                                            \
    "Via: SIP/2.0/TLS client.invalid;branch=z9hG4bKinv1;rport\n"                                   \
    "Max-Forwards: 70\nFrom: <sip:alice@sip.test>;tag=a\nTo: <sip:bob@sip.test>\n"                 \
    "Call-ID: call1\nCSeq: 1 CANCEL"

static void cancel_goes_on_once_a_provisional_came(void **state) /* T4, T3 */
{
    (void)state;
    char invite[8192], cancel[8192];

    edge_from_client(alice, INVITE(""));
    snprintf(invite, sizeof(invite), "%s", inbox_last(&edge.core));
    inbox_take(&edge.core);
    edge_from_client(alice, CANCEL "\nReason: SIP;cause=200;text=\"Call completed elsewhere\"");
    assert_string_equal(start_line(inbox_last(&alice->inbox)), "SIP/2.0 200 OK");
    assert_string_equal(header_of(inbox_last(&alice->inbox), "CSeq", 0), "1 CANCEL");
    assert_int_equal(edge.core.count, 0);

    edge_from_core(&edge, "%s", response_to(invite, "180 Ringing", "b", NULL));
    snprintf(cancel, sizeof(cancel), "%s", inbox_last(&edge.core));
    assert_string_equal(start_line(cancel), "CANCEL sip:bob@sip.test SIP/2.0");
    assert_string_equal(header_of(cancel, "Via", 0), header_of(invite, "Via", 0));
    assert_string_equal(header_of(cancel, "Via", 1), "");
    assert_string_equal(header_of(cancel, "Reason", 0),
                        "SIP;cause=200;text=\"Call completed elsewhere\"");
    edge_from_core(&edge, "%s", response_to(cancel, "200 OK", "b", NULL));
    edge_from_core(&edge, "%s", response_to(invite, "487 Request Terminated", "b", NULL));
    assert_string_equal(start_line(inbox_last(&alice->inbox)), "SIP/2.0 487 Request Terminated");
    assert_string_equal(start_line(inbox_last(&edge.core)), "ACK sip:bob@sip.test SIP/2.0");
}

static void cancel_without_a_match_gets_481(void **state) /* T4 */
{
    (void)state;
    edge_from_client(alice, CANCEL);
    assert_non_null(strstr(inbox_last(&alice->inbox), "SIP/2.0 481 "));
    edge_from_client(alice, INVITE(""));
    edge_from_client(bob, CANCEL); /* another client's transaction is none of its business */
    assert_non_null(strstr(inbox_last(&bob->inbox), "SIP/2.0 481 "));
}

static void every_2xx_passes_and_a_late_final_does_not(void **state) /* T3 */
{
    (void)state;
    char invite[8192];

    edge_from_client(alice, INVITE(""));
    snprintf(invite, sizeof(invite), "%s", inbox_last(&edge.core));
    edge_from_core(&edge, "%s", response_to(invite, "200 OK", "b", NULL));
    edge_from_core(&edge, "%s", response_to(invite, "200 OK", "b", NULL));
    assert_int_equal(inbox_take(&alice->inbox), 3); /* 100, 200, 200 */
    edge_from_core(&edge, "%s", response_to(invite, "486 Busy Here", "b", NULL));
    assert_int_equal(alice->inbox.count, 0);
}

static void a_client_that_is_gone_has_its_invite_cancelled(void **state) /* T6 */
{
    (void)state;
    char invite[8192];

    edge_from_client(alice, INVITE(""));
    snprintf(invite, sizeof(invite), "%s", inbox_last(&edge.core));
    edge_from_core(&edge, "%s", response_to(invite, "180 Ringing", "b", NULL));
    edge_hang_up(alice);
    assert_non_null(strstr(inbox_last(&edge.core), "CANCEL "));
    edge_from_core(&edge, "%s", response_to(inbox_last(&edge.core), "200 OK", "b", NULL));
    edge_from_core(&edge, "%s", response_to(invite, "487 Request Terminated", "b", NULL));
    assert_non_null(strstr(inbox_last(&edge.core), "ACK "));
    assert_int_equal(proxy_counters(edge.proxy)->dropped_stray, 1);
}

static void a_callee_that_is_gone_ends_the_request(void **state) /* R7, T6 */
{
    (void)state;
    char uri[1024];

    snprintf(uri, sizeof(uri), "%s", masked_contact(bob, "bob"));
    edge_from_core(&edge, FROM_PBX("INVITE", uri, ""));
    assert_string_equal(start_line(inbox_last(&edge.core)), "SIP/2.0 100 Trying");
    edge_hang_up(bob);
    assert_string_equal(start_line(inbox_last(&edge.core)), "SIP/2.0 430 Flow Failed");
}

static void a_retransmitted_request_is_never_forwarded_twice(void **state) /* T8 */
{
    (void)state;
    char uri[1024];

    snprintf(uri, sizeof(uri), "%s", masked_contact(bob, "bob"));
    edge_from_core(&edge, FROM_PBX("MESSAGE", uri, ""));
    edge_from_core(&edge, FROM_PBX("MESSAGE", uri, ""));
    assert_int_equal(bob->inbox.count, 1);
    edge_from_client(bob, "%s", response_to(inbox_last(&bob->inbox), "200 OK", "b", NULL));
    edge_from_core(&edge, FROM_PBX("MESSAGE", uri, ""));
    assert_int_equal(bob->inbox.count, 1);
    assert_int_equal(edge.core.count, 2);
    assert_string_equal(edge.core.messages[0], edge.core.messages[1]);
}

static void a_final_to_the_core_is_repeated_until_its_ack(void **state) /* T1, T3 */
{
    (void)state;
    char uri[1024], invite[8192];

    snprintf(uri, sizeof(uri), "%s", masked_contact(bob, "bob"));
    edge_from_core(&edge, FROM_PBX("INVITE", uri, ""));
    snprintf(invite, sizeof(invite), "%s", inbox_last(&bob->inbox));
    edge_from_client(bob, "%s", response_to(invite, "486 Busy Here", "b", NULL));
    assert_non_null(strstr(inbox_last(&bob->inbox), "ACK sip:bob@x.invalid;transport=ws "));
    inbox_take(&edge.core);
    edge_wait(&edge, 1500);
    assert_int_equal(inbox_take(&edge.core), 2); /* at 500 and 1500 ms */
    edge_from_core(&edge,
                   "ACK %s SIP/2.0\n"
                   "Via: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bKpbx1;rport\n"
                   "From: <sip:pbx@sip.test>;tag=p\nTo: <sip:bob@sip.test>;tag=b\n"
                   "Call-ID: pbx1\nCSeq: 1 ACK",
                   uri);
    edge_wait(&edge, 32000);
    assert_int_equal(edge.core.count, 0);
}

static void one_client_cannot_answer_for_another(void **state) /* T1, V5 */
{
    (void)state;
    char uri[1024];

    snprintf(uri, sizeof(uri), "%s", masked_contact(bob, "bob"));
    edge_from_core(&edge, FROM_PBX("MESSAGE", uri, ""));
    edge_from_client(alice, "%s", response_to(inbox_last(&bob->inbox), "200 OK", "b", NULL));
    assert_int_equal(edge.core.count, 0);
    assert_int_equal(proxy_counters(edge.proxy)->dropped_stray, 1);
}

static void responses_of_a_client_have_masked_contacts(void **state) /* R6 */
{
    (void)state;
    char uri[1024], invite[8192];

    snprintf(uri, sizeof(uri), "%s", masked_contact(bob, "bob"));
    edge_from_core(&edge, FROM_PBX("INVITE", uri, ""));
    snprintf(invite, sizeof(invite), "%s", inbox_last(&bob->inbox));
    edge_from_client(bob, "%s",
                     response_to(invite, "200 OK", "b",
                                 "Contact: <sip:bob@x.invalid;ob>\n"
                                 "P-Asserted-Identity: <sip:boss@x>"));
    const char *answer = inbox_last(&edge.core);
    assert_non_null(strstr(header_of(answer, "Contact", 0), "<sip:bob@10.0.0.2:5060;ob;flow="));
    assert_string_equal(header_of(answer, "P-Asserted-Identity", 0), "");
}

static void a_full_client_is_refused(void **state)
{
    (void)state;
    edge.conf.limits.transactions_per_connection = 1;
    edge_from_client(alice, INVITE(""));
    edge_from_client(alice, REQUEST("MESSAGE", ""));
    assert_non_null(strstr(inbox_last(&alice->inbox), "SIP/2.0 503 "));
    assert_string_equal(header_of(inbox_last(&alice->inbox), "Retry-After", 0), "5");
}

static void draining_refuses_what_is_new(void **state)
{
    (void)state;
    char routes[2048];

    call_up(routes);
    edge_from_client(alice, IN_DIALOG("ACK", "1"), "sip:bob@10.0.0.5:5060", routes);
    proxy_drain(edge.proxy);
    edge_from_client(alice, REQUEST("MESSAGE", ""));
    assert_non_null(strstr(inbox_last(&alice->inbox), "SIP/2.0 503 "));
    edge_from_client(alice, IN_DIALOG("BYE", "2"), "sip:bob@10.0.0.5:5060", routes);
    assert_non_null(strstr(inbox_last(&edge.core), "BYE "));
}

static void between_clients_of_one_edge_it_goes_through_the_core_address(void **state) /* R2, M4 */
{
    (void)state;
    char uri[1024];

    snprintf(uri, sizeof(uri), "%s", masked_contact(bob, "bob"));
    edge_from_client(alice, IN_DIALOG("BYE", "2"), uri, "");
    assert_int_equal(edge.core.count, 1);
    assert_int_equal(edge.core.to[0].kind, CORE_SELF);
    struct core_addr self = {.kind = CORE_SELF};
    char *bytes = strdup(inbox_last(&edge.core));
    proxy_receive_core(edge.proxy, &self, bytes, strlen(bytes), edge.now);
    free(bytes);
    assert_string_equal(start_line(inbox_last(&bob->inbox)),
                        "BYE sip:bob@x.invalid;transport=ws SIP/2.0");
    edge_from_client(bob, "%s", response_to(inbox_last(&bob->inbox), "200 OK", NULL, NULL));
    assert_int_equal(edge.core.to[edge.core.count - 1].kind, CORE_SELF);
    bytes = strdup(inbox_last(&edge.core));
    proxy_receive_core(edge.proxy, &self, bytes, strlen(bytes), edge.now);
    free(bytes);
    assert_string_equal(start_line(inbox_last(&alice->inbox)), "SIP/2.0 200 OK");
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

#define MASK(test) cmocka_unit_test_setup_teardown(test, setup_mask, teardown)
#define PATH(test) cmocka_unit_test_setup_teardown(test, setup_path, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        MASK(register_goes_to_the_backend_with_a_masked_contact),
        MASK(register_200_gives_the_client_its_own_contact_back),
        PATH(register_with_path_names_the_flow),
        MASK(the_top_via_gets_received_and_rport),
        MASK(a_forged_received_is_replaced),
        MASK(invite_gets_100_and_two_record_routes),
        MASK(what_only_the_core_may_say_is_stripped),
        MASK(a_private_identity_stays_in_the_core),
        MASK(configured_rules_remove_set_and_add),
        MASK(max_forwards_is_checked_and_lowered),
        MASK(options_with_max_forwards_0_is_answered),
        MASK(ack_with_max_forwards_0_is_dropped),
        MASK(a_request_that_comes_back_unchanged_is_a_loop),
        MASK(a_spiral_passes),
        MASK(proxy_require_and_max_breadth_are_refused),
        MASK(broken_requests_are_answered_and_not_forwarded),
        MASK(lost_framing_is_answered_and_closes),
        MASK(pings_get_pongs_and_nothing_reaches_the_core),
        MASK(a_token_leads_to_its_flow_or_nowhere),
        PATH(the_path_leads_to_the_flow),
        MASK(a_stranger_on_the_core_side_is_dropped),
        MASK(options_to_the_edge_itself_is_answered),
        MASK(requests_in_a_dialog_follow_their_route),
        PATH(requests_in_a_dialog_follow_their_route),
        MASK(a_route_or_uri_elsewhere_is_refused),
        MASK(a_forged_route_token_is_refused),
        MASK(strict_routers_are_repaired),
        MASK(a_dialog_follows_its_client_to_a_new_connection),
        MASK(requests_to_the_core_are_retransmitted),
        MASK(an_invite_without_answer_gets_408),
        MASK(timer_c_cancels_and_ends_in_408),
        MASK(cancel_goes_on_once_a_provisional_came),
        MASK(cancel_without_a_match_gets_481),
        MASK(every_2xx_passes_and_a_late_final_does_not),
        MASK(a_client_that_is_gone_has_its_invite_cancelled),
        MASK(a_callee_that_is_gone_ends_the_request),
        MASK(a_retransmitted_request_is_never_forwarded_twice),
        MASK(a_final_to_the_core_is_repeated_until_its_ack),
        MASK(one_client_cannot_answer_for_another),
        MASK(responses_of_a_client_have_masked_contacts),
        MASK(a_full_client_is_refused),
        MASK(draining_refuses_what_is_new),
        MASK(between_clients_of_one_edge_it_goes_through_the_core_address),
        MASK(cseq_comes_out_with_one_blank),
        MASK(digest_headers_and_bodies_pass_unchanged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

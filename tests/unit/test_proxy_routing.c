/* Where messages go, and how they find back, through the whole proxy (rules R). */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "calls.h"

static void register_goes_to_the_backend_with_a_masked_contact(
    void **state) /* R2, R6 to core, R9, R9 refused */
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

static void register_200_gives_the_client_its_own_contact_back(void **state) /* R6 to access, R10 */
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

/* The one that the client uses now, one that it used before, and one whose parameters the registrar
 * put in another order. */
static void all_own_contacts_of_a_register_200_are_given_back(void **state) /* R6 to access */
{
    (void)state;
    char before[512], now[512], turned[600], more[2048];

    edge_from_client(alice, REQUEST("OPTIONS", "Contact: <sip:old@client.invalid;ob>"));
    snprintf(before, sizeof(before), "%s", header_of(inbox_last(&edge.core), "Contact", 0));
    edge_from_client(alice, REGISTER("Contact: <sip:alice@client.invalid;ob>"));
    snprintf(now, sizeof(now), "%s", header_of(inbox_last(&edge.core), "Contact", 0));
    snprintf(turned, sizeof(turned), "<sip:alice@10.0.0.2:5060;flow=%s;ob>",
             between(now, "flow=", ">"));
    snprintf(more, sizeof(more), "Contact: %s;expires=1\nContact: %s;q=0.5\nContact: %s", now,
             before, turned);
    edge_from_core(&edge, "%s", response_to(inbox_last(&edge.core), "200 OK", "r", more));

    const char *answer = inbox_last(&alice->inbox);
    assert_string_equal(header_of(answer, "Contact", 0), "<sip:alice@client.invalid;ob>;expires=1");
    assert_string_equal(header_of(answer, "Contact", 1), "<sip:old@client.invalid;ob>;q=0.5");
    assert_string_equal(header_of(answer, "Contact", 2), "<sip:alice@client.invalid;ob>");
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

static void the_top_via_gets_received_and_rport(void **state) /* R1 to core, M3 */
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

static void a_forged_received_is_replaced(void **state) /* R1 to core refused */
{
    (void)state;
    edge_from_client(alice, "OPTIONS sip:bob@sip.test SIP/2.0\n"
                            "Via: SIP/2.0/TLS x:1;received=9.9.9.9;branch=z9hG4bKo;rport=77\n"
                            "From: <sip:a@sip.test>;tag=a\nTo: <sip:bob@sip.test>\n"
                            "Call-ID: o\nCSeq: 1 OPTIONS");
    assert_string_equal(header_of(inbox_last(&edge.core), "Via", 1),
                        "SIP/2.0/TLS x:1;branch=z9hG4bKo;received=192.0.2.7;rport=50000");
}

static void invite_gets_100_and_two_record_routes(
    void **state) /* T2 to core, T2 refused, R3 to core, R6 to core */
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

static void a_token_leads_to_its_flow_or_nowhere(void **state) /* R7, R7 refused */
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

static void the_path_leads_to_the_flow(void **state) /* R3 to access, R5, R7, R4 */
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

static void a_stranger_on_the_core_side_is_dropped(void **state) /* R8 refused */
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

static void
requests_in_a_dialog_follow_their_route(void **state) /* R4 to core, R11 to core, T3 to core */
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

static void a_route_or_uri_elsewhere_is_refused(void **state) /* R2, R2 refused, R4 refused */
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

static void a_forged_route_token_is_refused(void **state) /* R4 refused, R7 refused */
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

static void strict_routers_are_repaired(void **state) /* R4 to core, RFC 3261 16.4 */
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

static void a_strict_routers_last_route_is_a_sip_uri(void **state) /* R4, V2 */
{
    (void)state;
    char routes[2048], first[512];

    call_up(routes);
    edge_from_client(alice, IN_DIALOG("ACK", "1"), "sip:bob@10.0.0.5:5060", routes);
    inbox_take(&edge.core);
    snprintf(first, sizeof(first), "%s", between(routes, "Route: <", ">"));
    edge_from_client(alice, IN_DIALOG("BYE", "2"), first, "Route: <urn:uuid:1>\n");
    assert_string_equal(start_line(inbox_last(&alice->inbox)), "SIP/2.0 400 Bad Route");
    assert_int_equal(edge.core.count, 0);
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

static void responses_of_a_client_have_masked_contacts(void **state) /* R6 to core */
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

/* ---- the way back (R1) ---- */

static void
a_request_of_the_core_gets_its_address_too(void **state) /* R1 to access, R1 to access refused */
{
    (void)state;
    char uri[1024];

    snprintf(uri, sizeof(uri), "%s", masked_contact(bob, "bob"));
    edge_from_core(&edge,
                   "MESSAGE %s SIP/2.0\n"
                   "Via: SIP/2.0/UDP pbx.invalid:5999;received=9.9.9.9;branch=z9hG4bKr;rport=1\n"
                   "From: <sip:pbx@sip.test>;tag=p\nTo: <sip:bob@sip.test>\n"
                   "Call-ID: r\nCSeq: 1 MESSAGE",
                   uri);
    assert_string_equal(
        header_of(inbox_last(&bob->inbox), "Via", 1),
        "SIP/2.0/UDP pbx.invalid:5999;branch=z9hG4bKr;received=10.0.0.5;rport=5060");
    /* the response goes where the request came from, not where sent-by says */
    edge_from_client(bob, "%s", response_to(inbox_last(&bob->inbox), "200 OK", "b", NULL));
    assert_true(core_addr_eq(&edge.core.to[edge.core.count - 1], &edge.pbx));
}

static void without_rport_the_core_is_answered_at_its_sent_by(void **state) /* R1 to access */
{
    (void)state;
    char uri[1024];

    snprintf(uri, sizeof(uri), "%s", masked_contact(bob, "bob"));
    edge_from_core(&edge,
                   "MESSAGE %s SIP/2.0\nVia: SIP/2.0/UDP pbx.invalid:5999;branch=z9hG4bKr\n"
                   "From: <sip:pbx@sip.test>;tag=p\nTo: <sip:bob@sip.test>\n"
                   "Call-ID: r\nCSeq: 1 MESSAGE",
                   uri);
    edge_from_client(bob, "%s", response_to(inbox_last(&bob->inbox), "200 OK", "b", NULL));
    assert_int_equal(ntohs(edge.core.to[edge.core.count - 1].in.sin_port), 5999);
    assert_true(edge.core.to[edge.core.count - 1].in.sin_addr.s_addr ==
                edge.pbx.in.sin_addr.s_addr);
}

/* ---- what is recorded, and what is not (R3, R5) ---- */

static void only_what_opens_a_dialog_is_recorded(void **state) /* R3 refused, R5 refused */
{
    static const struct {
        const char *method, *tag;
        bool recorded;
    } cases[] = {
        {"INVITE",    "",       true },
        {"SUBSCRIBE", "",       true },
        {"REFER",     "",       true },
        {"REGISTER",  "",       false},
        {"MESSAGE",   "",       false},
        {"OPTIONS",   "",       false},
        {"PUBLISH",   "",       false},
        {"INVITE",    ";tag=b", false},
        {"BYE",       ";tag=b", false},
        {"SUBSCRIBE", ";tag=b", false},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        for (int to_core = 0; to_core < 2; to_core++) {
            char text[1024];

            snprintf(text, sizeof(text),
                     "%s $ SIP/2.0\nVia: SIP/2.0/TLS x;branch=z9hG4bKd#\nFrom: <sip:a@b>;tag=a\n"
                     "To: <sip:bob@sip.test>%s\nCall-ID: d#\nCSeq: 1 %s\nContent-Length: 0\n%s\n",
                     cases[i].method, cases[i].tag, cases[i].method,
                     to_core && cases[i].tag[0] ? "Route: <sip:10.0.0.5;lr>\n" : "");
            const char *sent = cross(to_core, text).passed;
            assert_memory_equal(sent, cases[i].method, strlen(cases[i].method));
            for (unsigned nth = 0; nth < 2; nth++)
                assert_int_equal(header_of(sent, "Record-Route", nth)[0] != '\0',
                                 cases[i].recorded);
            assert_string_equal(header_of(sent, "Path", 0), "");
        }
}

static void path_is_for_register_and_ob_for_outbound_alone(void **state) /* R5 refused, R9 */
{
    (void)state;
    edge_from_client(alice, REGISTER("Contact: <sip:alice@client.invalid;transport=ws>"));
    const char *path = header_of(inbox_last(&edge.core), "Path", 0);
    assert_non_null(strstr(path, "@10.0.0.2:5060;lr>"));
    assert_string_equal(header_of(inbox_last(&edge.core), "Supported", 0), "path");
    edge_from_client(alice, REQUEST("MESSAGE", "Supported: outbound"));
    assert_string_equal(header_of(inbox_last(&edge.core), "Path", 0), "");
    assert_string_equal(header_of(inbox_last(&edge.core), "Supported", 1), "");
    edge_from_client(alice, INVITE("Supported: outbound, path"));
    assert_string_equal(header_of(inbox_last(&edge.core), "Path", 0), "");
}

/* ---- Contacts (R6) ---- */

static void a_request_uri_is_restored_as_the_client_wrote_it(void **state) /* R6 to access */
{
    static const char *const contacts[] = {
        "sip:bob@x.invalid;transport=ws",
        "sips:bob@x.invalid",
        "sip:b%6Fb:pw@[2001:db8::7]:5061;ob;x=y",
        "sip:x.invalid:65535;lr;maddr=10.0.0.1;ttl=5",
        "sip:bob@x.invalid;flow=mine",
        "sip:b?b@x.invalid?Subject=x",
        "SIP:+1(555)@x.invalid;transport=TLS",
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(contacts); i++) {
        char uri[2048];

        edge_from_client(bob,
                         "REGISTER sip:sip.test SIP/2.0\nVia: SIP/2.0/TLS x;branch=z9hG4bKc%zu\n"
                         "From: <sip:bob@sip.test>;tag=a\nTo: <sip:bob@sip.test>\n"
                         "Call-ID: c\nCSeq: 1 REGISTER\nContact: <%s>;q=0.7;+sip.instance=\"<u>\"",
                         i, contacts[i]);
        const char *masked = header_of(inbox_last(&edge.core), "Contact", 0);
        assert_non_null(strstr(masked, ">;q=0.7;+sip.instance=\"<u>\""));
        assert_non_null(strstr(masked, "10.0.0.2:5060"));
        for (const char *const *hidden = (const char *[]){"transport", "maddr", "x.invalid", "ttl",
                                                          "2001", "flow=mine", NULL};
             *hidden; hidden++)
            assert_null(strstr(masked, *hidden));
        snprintf(uri, sizeof(uri), "%s", between(masked, "<", ">"));
        inbox_take(&edge.core);
        edge_from_core(&edge,
                       "OPTIONS %s SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.5;branch=z9hG4bKo%zu;rport\n"
                       "From: <sip:p@sip.test>;tag=p\nTo: <sip:bob@sip.test>\nCall-ID: o\n"
                       "CSeq: 1 OPTIONS",
                       uri, i);
        /* all of it but headers, which a Request-URI can't have (RFC 3261 19.1.5) */
        const char *headers = strstr(contacts[i], "?Subject");
        int len = (int)(headers ? (size_t)(headers - contacts[i]) : strlen(contacts[i]));
        snprintf(uri, sizeof(uri), "%.*s", len, contacts[i]);
        assert_string_equal(between(inbox_last(&bob->inbox), "OPTIONS ", " SIP/2.0"), uri);
    }
}

static void contacts_that_are_not_ours_stay_what_they_are(void **state) /* R6 refused */
{
    (void)state;
    char masked[1024], forged[1024], more[4096], request[8192];

    edge_from_client(alice, REGISTER("Contact: <sip:alice@client.invalid>"));
    snprintf(request, sizeof(request), "%s", inbox_last(&edge.core));
    snprintf(masked, sizeof(masked), "%s", header_of(request, "Contact", 0));
    snprintf(forged, sizeof(forged), "%s", masked);
    char *token = strstr(forged, "flow=") + 7;
    *token = *token == 'A' ? 'B' : 'A';
    snprintf(more, sizeof(more),
             "Contact: <sip:desk@10.0.0.77>;q=0.3\nContact: %s\nContact: "
             "<sip:x@10.0.0.2;flow=short>\nContact: %s",
             forged, masked);
    edge_from_core(&edge, "%s", response_to(request, "200 OK", "r", more));
    const char *answer = inbox_last(&alice->inbox);
    assert_string_equal(header_of(answer, "Contact", 0), "<sip:desk@10.0.0.77>;q=0.3");
    assert_string_equal(header_of(answer, "Contact", 1), forged);
    assert_string_equal(header_of(answer, "Contact", 2), "<sip:x@10.0.0.2;flow=short>");
    assert_string_equal(header_of(answer, "Contact", 3), "<sip:alice@client.invalid>");

    /* the core's own, and those of a redirection, which name others */
    edge_from_core(&edge, FROM_PBX("INVITE", masked_contact(bob, "bob"),
                                   "Contact: <sip:pbx@10.0.0.5;transport=udp>\n"));
    snprintf(request, sizeof(request), "%s", inbox_last(&bob->inbox));
    assert_string_equal(header_of(request, "Contact", 0), "<sip:pbx@10.0.0.5;transport=udp>");
    edge_from_client(bob, "%s",
                     response_to(request, "302 Moved Temporarily", "b",
                                 "Contact: <sip:carol@elsewhere.test>;q=0.5, <tel:+15551234>"));
    assert_string_equal(header_of(inbox_last(&edge.core), "Contact", 0),
                        "<sip:carol@elsewhere.test>;q=0.5");
    assert_string_equal(header_of(inbox_last(&edge.core), "Contact", 1), "<tel:+15551234>");
}

/* ---- tokens (R7, R8) ---- */

/* Another run of the program, or another edge, at the same address. */
static const char *contact_of_another(uint8_t key, uint32_t instance)
{
    static struct edge other;
    static char uri[1024];

    edge_setup(&other, false);
    other.token_key = key;
    other.instance = instance;
    edge_start(&other);
    struct client *client = edge_client(&other, 1, "WSS");
    edge_from_client(client, "REGISTER sip:sip.test SIP/2.0\nVia: SIP/2.0/TLS x;branch=z9hG4bKx\n"
                             "From: <sip:bob@sip.test>;tag=a\nTo: <sip:bob@sip.test>\nCall-ID: x\n"
                             "CSeq: 1 REGISTER\nContact: <sip:bob@x.invalid>");
    snprintf(uri, sizeof(uri), "%s",
             between(header_of(inbox_last(&other.core), "Contact", 0), "<", ">"));
    edge_teardown(&other);
    return uri;
}

static void a_token_of_another_edge_or_another_run_leads_nowhere(void **state) /* R7 refused */
{
    (void)state;
    edge_from_core(&edge, FROM_PBX("MESSAGE", contact_of_another(7, 54321), ""));
    assert_string_equal(start_line(inbox_last(&edge.core)), "SIP/2.0 430 Flow Failed");
    edge_from_core(&edge, FROM_PBX("INFO", contact_of_another(8, 12345), ""));
    assert_string_equal(start_line(inbox_last(&edge.core)), "SIP/2.0 403 Forged Flow Token");
    assert_int_equal(bob->inbox.count, 0);
    edge.conf.flow_gone_status = 410;
    edge_from_core(&edge, FROM_PBX("NOTIFY", contact_of_another(7, 54321), ""));
    assert_memory_equal(inbox_last(&edge.core), "SIP/2.0 410 ", 12);
}

static void a_route_may_not_name_one_flow_and_the_uri_another(void **state) /* R7 */
{
    (void)state;
    char routes[2048], uri[1024];

    call_up(routes);
    snprintf(uri, sizeof(uri), "%s", masked_contact(bob, "bob"));
    edge_from_core(&edge,
                   "INFO %s SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.5;branch=z9hG4bKn;rport\n"
                   "%sFrom: <sip:b@sip.test>;tag=n\nTo: <sip:bob@sip.test>;tag=a\n"
                   "Call-ID: n\nCSeq: 2 INFO",
                   uri, routes);
    assert_int_equal(bob->inbox.count, 0); /* the route decides: it is the dialog's */
    assert_int_equal(alice->inbox.count, 1);
}

static void a_backend_may_send_from_another_port(void **state) /* R8 */
{
    (void)state;
    char uri[1024];

    snprintf(uri, sizeof(uri), "%s", masked_contact(bob, "bob"));
    edge.pbx.in.sin_port = htons(40000);
    edge_from_core(&edge, FROM_PBX("OPTIONS", uri, ""));
    assert_int_equal(bob->inbox.count, 1);
    assert_int_equal(proxy_counters(edge.proxy)->dropped_foreign, 0);
}

/* ---- what passes in the 200 to REGISTER (R10) ---- */

static void
flow_timer_is_added_where_it_is_missing_and_asked_for_alone(void **state) /* R10, R10 refused */
{
    static const struct {
        const char *supported, *status, *more, *timer;
    } cases[] = {
        {"Supported: outbound", "200 OK",           "Require: outbound",                    "120"},
        {"Supported: outbound", "200 OK",           "Require: outbound\nFlow-Timer: 33",    "33" },
        {"Supported: path",     "200 OK",           "Contact: <sip:a@b;gr>;pub-gruu=\"x\"", ""   },
        {"Supported: outbound", "401 Unauthorized", "WWW-Authenticate: Digest realm=\"x\"", ""   },
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        edge_from_client(alice,
                         "REGISTER sip:sip.test SIP/2.0\nVia: SIP/2.0/TLS x;branch=z9hG4bKt%zu\n"
                         "From: <sip:a@sip.test>;tag=a\nTo: <sip:a@sip.test>\nCall-ID: t\n"
                         "CSeq: 1 REGISTER\nContact: <sip:a@x.invalid>\n%s",
                         i, cases[i].supported);
        edge_from_core(&edge, "%s",
                       response_to(inbox_last(&edge.core), cases[i].status, "r", cases[i].more));
        const char *answer = inbox_last(&alice->inbox);
        assert_string_equal(header_of(answer, "Flow-Timer", 0), cases[i].timer);
        assert_string_equal(header_of(answer, "Flow-Timer", 1), "");
        if (strncmp(cases[i].more, "Contact", 7) != 0)
            assert_non_null(strstr(answer, between(cases[i].more, "", ":")));
        else
            assert_string_equal(header_of(answer, "Contact", 0), "<sip:a@b;gr>;pub-gruu=\"x\"");
    }
}

/* ---- all methods (R4, R11) ---- */

/* Every method in the dialog of a call that rings or is up, each with its answer back. */
static void check_methods(bool to_core, const char *uri, const char *routes)
{
    static const char *const methods[] = {"PRACK",   "UPDATE",    "INFO",    "REFER",  "NOTIFY",
                                          "MESSAGE", "SUBSCRIBE", "PUBLISH", "INVITE", "BYE"};
    struct inbox *sender = to_core ? &alice->inbox : &edge.core;
    struct inbox *receiver = to_core ? &edge.core : &alice->inbox;

    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        static unsigned serial;
        char text[4096], answer[4096];

        inbox_take(sender);
        inbox_take(receiver);
        serial++;
        snprintf(text, sizeof(text),
                 "%s %s SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bKall%u;rport\n"
                 "%sFrom: <sip:%s@sip.test>;tag=%s\nTo: <sip:%s@sip.test>;tag=%s\n"
                 "Call-ID: call1\nCSeq: %u %s\nMax-Forwards: 70",
                 methods[i], uri, serial, routes, to_core ? "alice" : "bob", to_core ? "a" : "b",
                 to_core ? "bob" : "alice", to_core ? "b" : "a", serial + 10, methods[i]);
        if (to_core)
            edge_from_client(alice, "%s", text);
        else
            edge_from_core(&edge, "%s", text);
        const char *sent = inbox_last(receiver);
        if (strncmp(sent, methods[i], strlen(methods[i])) != 0)
            fail_msg("%s: %s%s", methods[i], sent, inbox_last(sender));
        assert_string_equal(between(sent, " ", " SIP/2.0"),
                            to_core ? uri : "sip:alice@client.invalid");
        assert_string_equal(header_of(sent, "Route", 0), "");
        snprintf(answer, sizeof(answer), "%s", response_to(sent, "200 OK", NULL, NULL));
        if (to_core)
            edge_from_core(&edge, "%s", answer);
        else
            edge_from_client(alice, "%s", answer);
        assert_string_equal(start_line(inbox_last(sender)), "SIP/2.0 200 OK");
        assert_string_equal(header_of(inbox_last(sender), "Via", 1), "");
    }
}

static void all_methods_follow_a_dialog_early_or_not(
    void **state) /* R4 to core, R4 to access, R11 to core, R11 to access */
{
    (void)state;
    char invite[8192], contact[1024], to_core[2048], to_access[2048];

    edge_from_client(alice, "INVITE sip:bob@sip.test SIP/2.0\n"
                            "Via: SIP/2.0/TLS client.invalid;branch=z9hG4bKinv1;rport\n"
                            "From: <sip:alice@sip.test>;tag=a\nTo: <sip:bob@sip.test>\n"
                            "Call-ID: call1\nCSeq: 1 INVITE\nContact: <sip:alice@client.invalid>");
    snprintf(invite, sizeof(invite), "%s", inbox_last(&edge.core));
    const char *masked = header_of(invite, "Contact", 0);
    snprintf(contact, sizeof(contact), "%s", masked[0] == '<' ? between(masked, "<", ">") : masked);
    /* the callee's route set is the order of the Record-Routes, the caller's the reverse */
    snprintf(to_access, sizeof(to_access), "Route: %s\nRoute: %s\n",
             header_of(invite, "Record-Route", 0), header_of(invite, "Record-Route", 1));
    snprintf(to_core, sizeof(to_core), "Route: %s\nRoute: %s\n",
             header_of(invite, "Record-Route", 1), header_of(invite, "Record-Route", 0));
    for (int up = 0; up < 2; up++) {
        edge_from_core(&edge, "%s",
                       response_to(invite, up ? "200 OK" : "183 Session Progress", "b",
                                   "Contact: <sip:bob@10.0.0.5:5060>\nRSeq: 1\nRequire: 100rel"));
        check_methods(true, "sip:bob@10.0.0.5:5060", to_core);
        check_methods(false, contact, to_access);
    }
}

static void what_a_dialog_has_to_have_and_what_not(void **state) /* R4 refused, R7 refused */
{
    (void)state;
    char routes[2048], mixed[4096];

    call_up(routes);
    /* a flow of its own behind ours: where this goes is not a client's to say */
    snprintf(mixed, sizeof(mixed), "%sRoute: <sip:10.0.0.99:5060;lr>\n", routes);
    edge_from_client(alice, IN_DIALOG("INFO", "3"), "sip:bob@10.0.0.5:5060", mixed);
    assert_string_equal(start_line(inbox_last(&alice->inbox)), "SIP/2.0 403 Route Is No Backend");
    edge_from_client(alice, IN_DIALOG("UPDATE", "4"), "sip:bob@10.0.0.5:5061", routes);
    assert_memory_equal(inbox_last(&alice->inbox), "SIP/2.0 403 ", 12); /* another port */
    edge_from_client(alice, IN_DIALOG("NOTIFY", "5"), "tel:+15551234", routes);
    assert_memory_equal(inbox_last(&alice->inbox), "SIP/2.0 403 ", 12);
    /* our own name, but not of this passage: no way leads there */
    snprintf(mixed, sizeof(mixed), "%sRoute: <sip:sip.test:5061;lr>\n", routes);
    edge_from_client(alice, IN_DIALOG("REFER", "7"), "sip:bob@10.0.0.5:5060", mixed);
    assert_string_equal(start_line(inbox_last(&alice->inbox)), "SIP/2.0 403 Route Is No Backend");
    /* a token of ours that was changed, where a client's dialog leads (R7) */
    char uri[1024];
    snprintf(uri, sizeof(uri), "%s", masked_contact(bob, "bob"));
    char *token = strstr(uri, "flow=") + 7;
    *token = *token == 'A' ? 'B' : 'A';
    edge_from_client(alice, IN_DIALOG("BYE", "8"), uri, routes);
    assert_string_equal(start_line(inbox_last(&alice->inbox)), "SIP/2.0 403 Forged Flow Token");
    edge_from_client(alice, IN_DIALOG("PRACK", "6"), "sip:bob@10.0.0.5:5060", "Route: <x\n");
    assert_string_equal(start_line(inbox_last(&alice->inbox)), "SIP/2.0 400 Bad Route");
    assert_int_equal(edge.core.count, 0);
}

/* ---- what a callee says of the way (R3) ---- */

static void a_callee_cannot_route_the_core_elsewhere(void **state) /* R3 refused */
{
#define CLIENTS "<sip:%s@SIP.test:5061;lr;transport=tls>"
#define CORES "<sip:%s@10.0.0.2;lr=on>"
#define OURS CLIENTS ", " CORES
#define PBX "<sip:proxy.test:5070>"
    static const struct {
        const char *what, *record_routes;
        bool passes;
    } cases[] = {
        {"as they came, spelled otherwise", OURS ", <sip:Proxy.test:5070;lr;f=p>", true },
        {"none",                            "",                                    true },
        {"one of its own side above",       "<sip:x.test>, " OURS ", " PBX,        true },
        {"one more below",                  OURS ", " PBX ", <sip:evil.test>",     false},
        {"the last one is another host",    OURS ", <sip:evil.test:5070>",         false},
        {"the last one is another port",    OURS ", <sip:proxy.test:22>",          false},
        {"the last one has a user",         OURS ", <sip:proxy@.test:5070>",       false},
        {"the last one is missing",         OURS,                                  false},
        {"the port belongs to the name",    OURS ", <sip:proxy.test5070>",         false},
        {"the user belongs to the name",    CLIENTS ", <sip:%s10.0.0.2>, " PBX,    false},
        {"another order",                   CORES ", " CLIENTS ", " PBX,           false},
        {"the last one is the first",       PBX ", " OURS,                         false},
        {"ours is another host's",          CLIENTS ", <sip:%s@evil.test>, " PBX,  false},
    };
    char uri[1024], token[64], more[1024];
    (void)state;

    snprintf(uri, sizeof(uri), "%s", masked_contact(alice, "alice"));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        edge_from_core(&edge,
                       "INVITE %s SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bKrr%zu\n"
                       "Record-Route: <sip:proxy.test:5070;lr;f=p>\n"
                       "From: <sip:pbx@sip.test>;tag=p\nTo: <sip:alice@sip.test>\n"
                       "Call-ID: rr%zu\nCSeq: 1 INVITE",
                       uri, i, i);
        const char *invite = inbox_last(&alice->inbox);
        snprintf(token, sizeof(token), "%s",
                 between(header_of(invite, "Record-Route", 0), "<sip:", "@"));
        snprintf(more, sizeof(more), cases[i].record_routes, token, token);
        edge_from_client(alice,
                         "SIP/2.0 200 OK\nVia: %s\nVia: %s\nRecord-Route: %s\nFrom: %s\n"
                         "To: <sip:alice@sip.test>;tag=b\nCall-ID: rr%zu\nCSeq: 1 INVITE\n",
                         header_of(invite, "Via", 0), header_of(invite, "Via", 1), more,
                         header_of(invite, "From", 0), i);
        const char *told = start_line(inbox_last(&edge.core));
        if (strcmp(told, cases[i].passes ? "SIP/2.0 200 OK" : "SIP/2.0 502 Bad Response") != 0)
            fail_msg("%s: %s", cases[i].what, told);
    }
}

static void a_strict_router_of_the_core_is_repaired(void **state) /* R4 to access */
{
    (void)state;
    char invite[8192], ours[512], other[512];

    edge_from_client(alice, INVITE(""));
    snprintf(invite, sizeof(invite), "%s", inbox_last(&edge.core));
    snprintf(ours, sizeof(ours), "%s", between(header_of(invite, "Record-Route", 0), "<", ">"));
    snprintf(other, sizeof(other), "%s", header_of(invite, "Record-Route", 1));
    edge_from_core(&edge,
                   "BYE %s SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.5;branch=z9hG4bKs;rport\n"
                   "Route: %s\nRoute: <sip:alice@client.invalid;transport=ws>\n"
                   "From: <sip:bob@sip.test>;tag=b\nTo: <sip:alice@sip.test>;tag=a\n"
                   "Call-ID: call1\nCSeq: 1 BYE",
                   ours, other);
    assert_memory_equal(inbox_last(&alice->inbox), "BYE sip:alice@client.invalid;transport=ws ",
                        42);
    assert_string_equal(header_of(inbox_last(&alice->inbox), "Route", 0), "");
}

static void
our_own_address_needs_no_port_and_our_own_name_no_route(void **state) /* R4 to access, R2 */
{
    (void)state;
    char uri[1024];

    snprintf(uri, sizeof(uri), "%s", masked_contact(bob, "bob"));
    edge_from_core(&edge, FROM_PBX("MESSAGE", uri, "Route: <sip:10.0.0.2;lr>\n"));
    assert_string_equal(header_of(inbox_last(&bob->inbox), "Route", 0), "");
    assert_memory_equal(inbox_last(&bob->inbox), "MESSAGE ", 8);
    inbox_take(&edge.core);
    edge_from_client(alice, IN_DIALOG("BYE", "2"), "sip:bob@sip.test", "");
    assert_memory_equal(inbox_last(&edge.core), "BYE sip:bob@sip.test ", 21);
    assert_true(core_addr_eq(&edge.core.to[0], &edge.pbx));
}

static void a_client_can_call_itself(void **state) /* R4 to core, R4 to access, M4 */
{
    (void)state;
    char first[8192], second[8192], routes[4096] = "";
    struct core_addr self = {.kind = CORE_SELF};

    /* By way of the PBX, as a proxy: both passages are recorded, with the same token in all four.
     */
    edge_from_client(alice, INVITE(""));
    snprintf(first, sizeof(first), "%s", inbox_last(&edge.core));
    edge_from_core(&edge,
                   "INVITE %s SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.5;branch=z9hG4bKself;rport\n%s",
                   between(header_of(first, "Contact", 0), "<", ">"), strstr(first, "\r\n") + 2);
    snprintf(second, sizeof(second), "%s", inbox_last(&alice->inbox));
    assert_memory_equal(second, "INVITE sip:alice@client.invalid;transport=ws ", 45);
    for (int i = 3; i >= 0; i--) {
        size_t at = strlen(routes);
        snprintf(routes + at, sizeof(routes) - at, "Route: %s\n",
                 header_of(second, "Record-Route", (unsigned)i));
    }
    edge_from_client(alice, "%s", response_to(second, "200 OK", "b", NULL));
    inbox_take(&edge.core);
    inbox_take(&alice->inbox);
    edge_from_client(alice, IN_DIALOG("BYE", "2"),
                     between(header_of(first, "Contact", 0), "<", ">"), routes);
    assert_int_equal(edge.core.count, 1);
    assert_int_equal(edge.core.to[0].kind, CORE_SELF);
    assert_non_null(strstr(header_of(inbox_last(&edge.core), "Route", 1), ";lr>"));
    assert_string_equal(header_of(inbox_last(&edge.core), "Route", 2), "");
    char *bytes = strdup(inbox_last(&edge.core));
    proxy_receive_core(edge.proxy, &self, bytes, strlen(bytes), edge.now);
    free(bytes);
    assert_memory_equal(inbox_last(&alice->inbox), "BYE sip:alice@client.invalid;transport=ws ",
                        42);
    assert_string_equal(header_of(inbox_last(&alice->inbox), "Route", 0), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        MASK(register_goes_to_the_backend_with_a_masked_contact),
        MASK(register_200_gives_the_client_its_own_contact_back),
        MASK(all_own_contacts_of_a_register_200_are_given_back),
        PATH(register_with_path_names_the_flow),
        MASK(the_top_via_gets_received_and_rport),
        MASK(a_forged_received_is_replaced),
        MASK(invite_gets_100_and_two_record_routes),
        MASK(a_token_leads_to_its_flow_or_nowhere),
        PATH(the_path_leads_to_the_flow),
        MASK(a_stranger_on_the_core_side_is_dropped),
        MASK(options_to_the_edge_itself_is_answered),
        MASK(requests_in_a_dialog_follow_their_route),
        PATH(requests_in_a_dialog_follow_their_route),
        MASK(a_route_or_uri_elsewhere_is_refused),
        MASK(a_forged_route_token_is_refused),
        MASK(strict_routers_are_repaired),
        MASK(a_strict_routers_last_route_is_a_sip_uri),
        MASK(a_dialog_follows_its_client_to_a_new_connection),
        MASK(responses_of_a_client_have_masked_contacts),
        MASK(between_clients_of_one_edge_it_goes_through_the_core_address),
        MASK(a_request_of_the_core_gets_its_address_too),
        MASK(without_rport_the_core_is_answered_at_its_sent_by),
        MASK(only_what_opens_a_dialog_is_recorded),
        PATH(path_is_for_register_and_ob_for_outbound_alone),
        MASK(a_request_uri_is_restored_as_the_client_wrote_it),
        MASK(contacts_that_are_not_ours_stay_what_they_are),
        MASK(a_token_of_another_edge_or_another_run_leads_nowhere),
        MASK(a_route_may_not_name_one_flow_and_the_uri_another),
        MASK(a_backend_may_send_from_another_port),
        MASK(flow_timer_is_added_where_it_is_missing_and_asked_for_alone),
        MASK(all_methods_follow_a_dialog_early_or_not),
        PATH(all_methods_follow_a_dialog_early_or_not),
        MASK(what_a_dialog_has_to_have_and_what_not),
        MASK(a_callee_cannot_route_the_core_elsewhere),
        PATH(a_strict_router_of_the_core_is_repaired),
        MASK(our_own_address_needs_no_port_and_our_own_name_no_route),
        MASK(a_client_can_call_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

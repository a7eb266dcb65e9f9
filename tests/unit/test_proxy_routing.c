/* Where messages go, and how they find back, through the whole proxy (rules R). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "calls.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        MASK(register_goes_to_the_backend_with_a_masked_contact),
        MASK(register_200_gives_the_client_its_own_contact_back),
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

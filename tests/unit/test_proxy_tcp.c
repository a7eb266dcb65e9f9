/* TCP towards the core: what it sees, what goes by it, and what happens when it fails (T7, R9). */
#include <errno.h>
#include <stdlib.h>

#include "calls.h"

enum { HEAD_MAX = 8192 };

/* The backend as `tcp:` or `auto:` of the configuration. */
static void backend_has_tcp(bool alone)
{
    edge.view.endpoints[0].addr.kind = alone ? CORE_TCP : CORE_UDP;
    edge.view.endpoints[0].tcp_too = !alone;
    edge.view.tcp = true;
    for (unsigned i = 0; i < 2; i++)
        edge_hang_up(&edge.clients[i]);
    edge_start(&edge);
    alice = edge_client(&edge, 0, "TLS");
    bob = edge_client(&edge, 1, "WSS");
    if (alone) {
        edge.pbx.kind = CORE_TCP;
        edge.pbx.worker = 2;
        edge.pbx.connection = 99;
    }
}

static const struct core_addr *last_to(void)
{
    return &edge.core.to[edge.core.count - 1];
}

static const char *last_header(const char *name)
{
    return header_of(inbox_last(&edge.core), name, 0);
}

static bool goes_by(enum core_kind kind)
{
    const char *via = last_header("Via");

    return last_to()->kind == kind && !last_to()->connection &&
           strncmp(via, kind == CORE_TCP ? "SIP/2.0/TCP " : "SIP/2.0/UDP ", 12) == 0;
}

/* A request of alice that goes out with this many bytes more than without. */
static void send_filled(const char *branch, size_t more)
{
    char fill[HEAD_MAX];

    assert_true(more < sizeof(fill));
    memset(fill, 'x', more);
    fill[more] = '\0';
    edge_from_client(alice,
                     "MESSAGE sip:bob@sip.test SIP/2.0\n"
                     "Via: SIP/2.0/TLS client.invalid;branch=z9hG4bK%s\n"
                     "From: <sip:alice@sip.test>;tag=a\nTo: <sip:bob@sip.test>\n"
                     "Call-ID: %s\nCSeq: 1 MESSAGE\nX-Fill: %s",
                     branch, branch, fill);
}

static size_t filled_size(size_t more)
{
    send_filled("size", more);
    size_t size = strlen(inbox_last(&edge.core));
    edge_from_core(&edge, "%s", response_to(inbox_last(&edge.core), "200 OK", "t", NULL));
    edge_wait(&edge, 40000);
    inbox_take(&edge.core);
    inbox_take(&alice->inbox);
    return size - more;
}

#define LARGE "X-Fill: %01500d"

static void a_tcp_backend_sees_tcp_everywhere(void **state) /* R3, R6, R9 */
{
    (void)state;
    backend_has_tcp(true);
    edge_from_client(alice, INVITE(""));
    assert_true(goes_by(CORE_TCP));
    assert_non_null(strstr(last_header("Record-Route"), "@10.0.0.2:5060;transport=tcp;lr>"));
    assert_non_null(strstr(last_header("Contact"), "<sip:alice@10.0.0.2:5060;transport=tcp;flow="));

    edge_wait(&edge, 31999); /* A doesn't run */
    assert_int_equal(edge.core.count, 1);
    edge_wait(&edge, 1); /* B does */
    assert_string_equal(start_line(inbox_last(&alice->inbox)), "SIP/2.0 408 Request Timeout");
}

static void a_path_names_the_transport(void **state) /* R5, R9 */
{
    (void)state;
    backend_has_tcp(true);
    edge_from_client(alice, REGISTER("Contact: <sip:alice@client.invalid;transport=ws>"));
    assert_true(goes_by(CORE_TCP));
    assert_non_null(strstr(last_header("Path"), "@10.0.0.2:5060;transport=tcp;lr>"));
    assert_string_equal(last_header("Contact"), "<sip:alice@client.invalid;transport=ws>");
}

/* The masked Contact says tcp, and is the client's again when the PBX uses it. */
static void a_call_from_a_tcp_backend(void **state) /* R6, R7, R9 */
{
    (void)state;
    const char *uri;

    backend_has_tcp(true);
    uri = masked_contact(bob, "bob");
    assert_non_null(strstr(uri, "sip:bob@10.0.0.2:5060;transport=tcp;flow="));
    edge.pbx.in.sin_port = htons(40123); /* it came from any port */
    edge_from_core(&edge,
                   "INVITE %s SIP/2.0\n"
                   "Via: SIP/2.0/TCP 10.0.0.5:5070;branch=z9hG4bKpbx1;rport\n"
                   "From: <sip:pbx@sip.test>;tag=p\nTo: <sip:bob@sip.test>\n"
                   "Call-ID: pbx1\nCSeq: 1 INVITE\nMax-Forwards: 70\n"
                   "Contact: <sip:pbx@10.0.0.5:5070;transport=tcp>",
                   uri);
    assert_string_equal(start_line(inbox_last(&bob->inbox)),
                        "INVITE sip:bob@x.invalid;transport=ws SIP/2.0");
    /* 100 Trying went back on its connection, and would go to the port of its Via without it. */
    assert_string_equal(start_line(inbox_last(&edge.core)), "SIP/2.0 100 Trying");
    assert_int_equal(last_to()->kind, CORE_TCP);
    assert_int_equal(last_to()->worker, 2);
    assert_int_equal(last_to()->connection, 99);
    assert_int_equal(ntohs(last_to()->in.sin_port), 5070);
    assert_string_equal(last_header("Via"), "SIP/2.0/TCP 10.0.0.5:5070;branch=z9hG4bKpbx1;"
                                            "received=10.0.0.5;rport=40123");

    edge_from_client(bob, "%s", response_to(inbox_last(&bob->inbox), "486 Busy Here", "b", NULL));
    inbox_take(&edge.core);
    edge_wait(&edge, 20000); /* G doesn't run */
    assert_int_equal(edge.core.count, 0);
    assert_int_equal(proxy_sizes(edge.proxy).transactions, 1);
    edge_from_core(&edge,
                   "ACK %s SIP/2.0\n"
                   "Via: SIP/2.0/TCP 10.0.0.5:5070;branch=z9hG4bKpbx1;rport\n"
                   "From: <sip:pbx@sip.test>;tag=p\nTo: <sip:bob@sip.test>;tag=b\n"
                   "Call-ID: pbx1\nCSeq: 1 ACK",
                   uri);
    edge_wait(&edge, 0);
    assert_int_equal(proxy_sizes(edge.proxy).transactions, 0); /* I is zero */
}

/* A small CANCEL by UDP for a large INVITE by TCP: some PBXs do so. */
static void a_cancel_matches_whatever_its_transport(void **state) /* T4 */
{
    (void)state;
    const char *uri;
    char invite[HEAD_MAX];

    backend_has_tcp(false);
    uri = masked_contact(bob, "bob");
    edge.pbx.kind = CORE_TCP;
    edge.pbx.connection = 99;
    edge_from_core(&edge, FROM_PBX("INVITE", uri, ""));
    snprintf(invite, sizeof(invite), "%s", inbox_last(&bob->inbox));
    edge_from_client(bob, "%s", response_to(invite, "180 Ringing", "b", NULL));
    edge.pbx.kind = CORE_UDP;
    edge.pbx.connection = 0;
    edge_from_core(&edge, FROM_PBX("CANCEL", uri, ""));
    assert_string_equal(start_line(inbox_last(&edge.core)), "SIP/2.0 200 OK");
    assert_int_equal(last_to()->kind, CORE_UDP);
    assert_non_null(strstr(inbox_last(&bob->inbox), "CANCEL "));
    edge_from_client(bob, "%s", response_to(inbox_last(&bob->inbox), "200 OK", "b", NULL));
    edge_from_client(bob, "%s", response_to(invite, "487 Request Terminated", "b", NULL));
    assert_string_equal(start_line(inbox_last(&edge.core)), "SIP/2.0 487 Request Terminated");
    assert_int_equal(last_to()->kind, CORE_TCP);
    assert_int_equal(last_to()->connection, 99);
}

static void what_is_over_the_limit_goes_by_tcp(void **state) /* T7 to core */
{
    (void)state;
    backend_has_tcp(false);
    size_t base = filled_size(100);

    send_filled("even", 1300 - base);
    assert_true(goes_by(CORE_UDP));
    assert_int_equal(strlen(inbox_last(&edge.core)), 1300);
    send_filled("over", 1301 - base);
    assert_true(goes_by(CORE_TCP));
    assert_int_equal(strlen(inbox_last(&edge.core)), 1301);
    assert_string_equal(header_of(inbox_last(&edge.core), "Via", 2), ""); /* ours once */
    inbox_take(&edge.core);
    edge_wait(&edge, 31000);
    for (unsigned i = 0; i < edge.core.count; i++) /* E runs for the other one alone */
        assert_int_equal(edge.core.to[i].kind, CORE_UDP);
    assert_int_equal(proxy_counters(edge.proxy)->tcp_by_udp, 0);
}

static void a_udp_backend_gets_all_by_udp(void **state) /* T7 to core refused */
{
    (void)state;
    send_filled("large", 3000);
    assert_true(goes_by(CORE_UDP));
}

/* URIs of ours have no transport for an auto: backend: the size of this very request says nothing
 * about what the backend will send us. */
static void a_large_invite_of_an_auto_backend_has_plain_uris(void **state) /* T7, R9 */
{
    (void)state;
    backend_has_tcp(false);
    edge_from_client(alice, INVITE(LARGE), 0);
    assert_true(goes_by(CORE_TCP));
    assert_null(strstr(last_header("Record-Route"), "transport"));
    assert_null(strstr(last_header("Contact"), "transport"));

    /* All of its transaction stays with TCP. */
    char invite[HEAD_MAX];
    snprintf(invite, sizeof(invite), "%s", inbox_last(&edge.core));
    edge.pbx.kind = CORE_TCP;
    edge_from_core(&edge, "%s", response_to(invite, "180 Ringing", "b", NULL));
    edge_from_client(alice, CANCEL);
    assert_string_equal(start_line(inbox_last(&edge.core)), "CANCEL sip:bob@sip.test SIP/2.0");
    assert_true(goes_by(CORE_TCP));
    edge_from_core(&edge, "%s", response_to(inbox_last(&edge.core), "200 OK", "b", NULL));
    edge_from_core(&edge, "%s", response_to(invite, "487 Request Terminated", "b", NULL));
    assert_string_equal(start_line(inbox_last(&edge.core)), "ACK sip:bob@sip.test SIP/2.0");
    assert_true(goes_by(CORE_TCP));
}

static void without_tcp_the_same_request_goes_by_udp(void **state) /* T7 */
{
    (void)state;
    struct core_addr to;
    char branch[256];

    backend_has_tcp(false);
    edge_from_client(alice, INVITE(LARGE), 0);
    assert_true(goes_by(CORE_TCP));
    to = *last_to();
    snprintf(branch, sizeof(branch), "%s", strstr(last_header("Via"), ";branch"));
    size_t size = strlen(inbox_last(&edge.core));
    inbox_take(&edge.core);

    edge_wait(&edge, 1000);
    proxy_core_lost(edge.proxy, &to, false, -ECONNREFUSED, edge.now);
    assert_int_equal(edge.core.count, 1);
    assert_true(goes_by(CORE_UDP));
    assert_string_equal(strstr(last_header("Via"), ";branch"), branch);
    assert_int_equal(strlen(inbox_last(&edge.core)), size);
    edge_wait(&edge, 500); /* A runs now */
    assert_int_equal(edge.core.count, 2);
    assert_int_equal(proxy_counters(edge.proxy)->tcp_by_udp, 1);
    edge_from_core(&edge, "%s", response_to(inbox_last(&edge.core), "200 OK", "b", NULL));
    assert_string_equal(start_line(inbox_last(&alice->inbox)), "SIP/2.0 200 OK");

    /* Remembered, and asked again later. */
    send_filled("next", 3000);
    assert_true(goes_by(CORE_UDP));
    assert_int_equal(proxy_counters(edge.proxy)->tcp_by_udp, 2);
    edge_wait(&edge, 290000);
    send_filled("still", 3000);
    assert_true(goes_by(CORE_UDP));
    edge_wait(&edge, 10000);
    send_filled("again", 3000);
    assert_true(goes_by(CORE_TCP));
}

static void a_send_that_fails_at_once_goes_by_udp(void **state) /* T7 */
{
    static const int errors[] = {-EPIPE, -ENOBUFS, -EHOSTUNREACH};

    (void)state;
    backend_has_tcp(false);
    for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
        char branch[32];

        snprintf(branch, sizeof(branch), "large%zu", i);
        edge.tcp_error = errors[i];
        send_filled(branch, 3000);
        assert_int_equal(edge.core.count, i + 1);
        assert_true(goes_by(CORE_UDP));
        assert_int_equal(proxy_counters(edge.proxy)->tcp_by_udp, i + 1);
    }
    edge.tcp_error = 0;
    send_filled("back", 3000); /* it may have been for the moment */
    assert_true(goes_by(CORE_TCP));
}

static void a_tcp_backend_that_is_gone_is_answered_at_once(void **state) /* T5 */
{
    static const int errors[] = {-EPIPE, -ENOBUFS, -EHOSTUNREACH};

    (void)state;
    backend_has_tcp(true);
    for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
        char branch[32];

        snprintf(branch, sizeof(branch), "try%zu", i);
        edge.tcp_error = errors[i];
        send_filled(branch, 10);
        edge_wait(&edge, 0);
        assert_int_equal(alice->inbox.count, i + 1);
        assert_string_equal(start_line(inbox_last(&alice->inbox)),
                            "SIP/2.0 503 Service Unavailable");
    }
    assert_int_equal(edge.core.count, 0);
}

static void requests_in_flight_end_with_their_connection(void **state) /* T5, T7 to core */
{
    (void)state;
    struct core_addr to, other;

    backend_has_tcp(true);
    edge_from_client(alice, INVITE(""));
    edge_from_client(alice, REQUEST("MESSAGE", ""));
    to = *last_to();
    other = to;
    other.in.sin_port = htons(5070);
    inbox_take(&alice->inbox);
    proxy_core_lost(edge.proxy, &other, true, -ECONNRESET, edge.now);
    edge_wait(&edge, 0);
    assert_int_equal(alice->inbox.count, 0);
    inbox_take(&edge.core);

    proxy_core_lost(edge.proxy, &to, true, -ECONNRESET, edge.now);
    edge_wait(&edge, 0);
    assert_int_equal(alice->inbox.count, 2);
    for (unsigned i = 0; i < 2; i++)
        assert_string_equal(start_line(alice->inbox.messages[i]),
                            "SIP/2.0 503 Service Unavailable");
    assert_int_equal(edge.core.count, 0);
}

static void a_call_that_rings_is_cancelled_when_its_connection_goes(void **state) /* T5, T4 */
{
    (void)state;
    struct core_addr to;

    backend_has_tcp(true);
    edge_from_client(alice, INVITE(""));
    to = *last_to();
    edge_from_core(&edge, "%s", response_to(inbox_last(&edge.core), "180 Ringing", "b", NULL));
    inbox_take(&edge.core);
    inbox_take(&alice->inbox);
    proxy_core_lost(edge.proxy, &to, true, -ECONNRESET, edge.now);
    edge_wait(&edge, 0);
    assert_string_equal(start_line(inbox_last(&edge.core)), "CANCEL sip:bob@sip.test SIP/2.0");
    assert_true(goes_by(CORE_TCP));
    assert_string_equal(start_line(inbox_last(&alice->inbox)), "SIP/2.0 503 Service Unavailable");
    proxy_core_lost(edge.proxy, &to, false, -ECONNREFUSED, edge.now); /* the CANCEL's own */
    edge_wait(&edge, 0);
    assert_int_equal(edge.core.count, 1);
    assert_int_equal(alice->inbox.count, 1);
}

static void a_call_that_stands_outlives_its_connection(void **state) /* T3 */
{
    (void)state;
    char routes[2048], answer[HEAD_MAX];
    struct core_addr to;

    backend_has_tcp(true);
    edge_from_client(alice, INVITE(""));
    to = *last_to();
    snprintf(answer, sizeof(answer), "%s",
             response_to(inbox_last(&edge.core), "200 OK", "b",
                         "Contact: <sip:bob@10.0.0.5:5060;transport=tcp>"));
    edge_from_core(&edge, "%s", answer);
    snprintf(routes, sizeof(routes), "Route: %s\nRoute: %s\n",
             header_of(inbox_last(&alice->inbox), "Record-Route", 1),
             header_of(inbox_last(&alice->inbox), "Record-Route", 0));
    proxy_core_lost(edge.proxy, &to, true, -EPIPE, edge.now);
    inbox_take(&alice->inbox);
    edge_from_core(&edge, "%s", answer); /* the UAS sends it again, by another connection */
    assert_string_equal(start_line(inbox_last(&alice->inbox)), "SIP/2.0 200 OK");
    edge_from_client(alice, IN_DIALOG("ACK", "1"), "sip:bob@10.0.0.5:5060;transport=tcp", routes);
    assert_string_equal(start_line(inbox_last(&edge.core)),
                        "ACK sip:bob@10.0.0.5:5060;transport=tcp SIP/2.0");
    assert_true(goes_by(CORE_TCP));
}

/* Where the backend's own Route or Contact says tcp, it is tcp, whatever the size. */
static void a_uri_that_names_tcp_is_followed(void **state) /* R4, T7 */
{
    static const struct {
        const char *uri;
        enum core_kind kind;
    } uris[] = {
        {"sip:bob@10.0.0.5:5060",               CORE_UDP},
        {"sip:bob@10.0.0.5:5060;transport=udp", CORE_UDP},
        {"sip:bob@10.0.0.5:5060;transport=TCP", CORE_TCP},
    };
    char routes[2048];

    (void)state;
    backend_has_tcp(false);
    call_up(routes);
    for (size_t i = 0; i < ARRAY_LEN(uris); i++) {
        edge_from_client(alice, IN_DIALOG("ACK", "1"), uris[i].uri, routes);
        assert_int_equal(edge.core.count, i + 1);
        assert_true(goes_by(uris[i].kind));
    }
}

/* But not where there was no TCP a moment ago. */
static void a_uri_that_names_tcp_of_a_backend_without_it(void **state) /* T7 */
{
    struct core_addr to = edge.pbx;
    char routes[2048];

    (void)state;
    backend_has_tcp(false);
    call_up(routes);
    to.kind = CORE_TCP;
    proxy_core_lost(edge.proxy, &to, false, -ECONNREFUSED, edge.now);
    edge_from_client(alice, IN_DIALOG("ACK", "1"), "sip:bob@10.0.0.5:5060;transport=tcp", routes);
    assert_int_equal(edge.core.count, 1);
    assert_true(goes_by(CORE_UDP));
    edge_from_client(alice, IN_DIALOG("INFO", "2"), "sip:bob@10.0.0.5:5060;transport=tcp", routes);
    assert_true(goes_by(CORE_UDP));
    assert_int_equal(proxy_counters(edge.proxy)->tcp_by_udp, 2);
}

static void a_large_ack_goes_by_tcp(void **state) /* T7, T3 */
{
    char routes[2048];

    (void)state;
    backend_has_tcp(false);
    call_up(routes);
    edge_from_client(alice, IN_DIALOG("ACK", "1") "\n" LARGE, "sip:bob@10.0.0.5:5060", routes, 0);
    assert_true(goes_by(CORE_TCP));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        MASK(a_tcp_backend_sees_tcp_everywhere),
        PATH(a_path_names_the_transport),
        MASK(a_call_from_a_tcp_backend),
        MASK(a_cancel_matches_whatever_its_transport),
        MASK(what_is_over_the_limit_goes_by_tcp),
        MASK(a_udp_backend_gets_all_by_udp),
        MASK(a_large_invite_of_an_auto_backend_has_plain_uris),
        MASK(without_tcp_the_same_request_goes_by_udp),
        MASK(a_send_that_fails_at_once_goes_by_udp),
        MASK(a_tcp_backend_that_is_gone_is_answered_at_once),
        MASK(requests_in_flight_end_with_their_connection),
        MASK(a_call_that_rings_is_cancelled_when_its_connection_goes),
        MASK(a_call_that_stands_outlives_its_connection),
        MASK(a_uri_that_names_tcp_is_followed),
        MASK(a_uri_that_names_tcp_of_a_backend_without_it),
        MASK(a_large_ack_goes_by_tcp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

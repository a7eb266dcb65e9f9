/* Requests, calls and clients that the tests of the whole proxy begin with: alice on TLS, bob on
 * WSS, one backend. */
#pragma once

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

static inline int setup_mask(void **state)
{
    (void)state;
    edge_setup(&edge, false);
    alice = edge_client(&edge, 0, "TLS");
    bob = edge_client(&edge, 1, "WSS");
    return 0;
}

static inline int setup_path(void **state)
{
    (void)state;
    edge_setup(&edge, true);
    alice = edge_client(&edge, 0, "TLS");
    bob = edge_client(&edge, 1, "WSS");
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    edge_teardown(&edge);
    return 0;
}

/* The masked Contact that the core gets for `client`: REGISTER and take it. */
static inline const char *masked_contact(struct client *client, const char *user)
{
    static unsigned serial;

    edge_from_client(client,
                     "REGISTER sip:sip.test SIP/2.0\n"
                     "Via: SIP/2.0/TLS x.invalid;branch=z9hG4bKreg%u\n"
                     "From: <sip:%s@sip.test>;tag=a\nTo: <sip:%s@sip.test>\n"
                     "Call-ID: reg%s\nCSeq: 1 REGISTER\n"
                     "Contact: <sip:%s@x.invalid;transport=ws>;expires=300",
                     ++serial, user, user, user, user);
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

/* What came of a message on its way through: what its sender was answered and what the other side
 * got, each "" for nothing, and what the transport was told (0: fine). */
struct passage {
    const char *answer, *passed;
    int told;
};

/* A message as it is, from alice to the core or from the core to bob, but for: \n is a CRLF unless
 * behind a \r, | an LF alone, $ the URI that leads to bob, # a number that is new each time, ~ a
 * NUL. */
static inline struct passage cross(bool to_core, const char *text)
{
    static char bob_uri[1024];
    static unsigned serial;
    struct inbox *sender = to_core ? &alice->inbox : &edge.core;
    struct inbox *receiver = to_core ? &edge.core : &bob->inbox;
    char *bytes = calloc(2, strlen(text) + 16384), *at = bytes;
    size_t scanned = 0;
    struct passage passage = {0};

    snprintf(bob_uri, sizeof(bob_uri), "%s", masked_contact(bob, "bob"));
    inbox_take(&alice->inbox);
    inbox_take(&edge.core);
    inbox_take(&bob->inbox);
    serial++;
    for (const char *c = text; *c; c++) {
        if (*c == '\n' && (c == text || c[-1] != '\r'))
            at += sprintf(at, "\r\n");
        else if (*c == '$')
            at += sprintf(at, "%s", to_core ? "sip:bob@sip.test" : bob_uri);
        else if (*c == '#')
            at += sprintf(at, "%u", serial);
        else
            *at++ = *c == '~' ? '\0' : *c == '|' ? '\n' : *c;
    }
    if (to_core) {
        ssize_t taken =
            proxy_receive_stream(alice->flow, bytes, (size_t)(at - bytes), &scanned, edge.now);
        passage.told = taken < 0 ? (int)taken : 0;
        assert_true(taken < 0 || taken == at - bytes);
    } else {
        proxy_receive_core(edge.proxy, &edge.pbx, bytes, (size_t)(at - bytes), edge.now);
    }
    free(bytes);
    passage.answer = inbox_last(sender);
    passage.passed = inbox_last(receiver);
    return passage;
}

/* A call from alice that the PBX answers; its Record-Route header lines, as the client has them. */
static inline void call_up(char routes[2048])
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

#define CANCEL                                                                                     \
    "CANCEL sip:bob@sip.test SIP/2.0\n"                                                            \
    "Via: SIP/2.0/TLS client.invalid;branch=z9hG4bKinv1;rport\n"                                   \
    "Max-Forwards: 70\nFrom: <sip:alice@sip.test>;tag=a\nTo: <sip:bob@sip.test>\n"                 \
    "Call-ID: call1\nCSeq: 1 CANCEL"

#define MASK(test) cmocka_unit_test_setup_teardown(test, setup_mask, teardown)
#define PATH(test) cmocka_unit_test_setup_teardown(test, setup_path, teardown)

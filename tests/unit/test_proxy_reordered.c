/* Datagrams of the core that come late, twice, or in another order than they were sent: what the
 * client and the core are told, and what not (rules T). */
#include <stdlib.h>

#include "calls.h"

/* A step of a story: what the core sends, or the client; and what each of them gets of it, as start
 * lines without "SIP/2.0" and URI, NULL: nothing. */
struct move {
    enum { CORE, CLIENT, WAIT } who;
    const char *what; /* a response to the INVITE (or to CANCEL, BYE), or a request; WAIT: ms */
    const char *core, *client;
};

struct story {
    const char *what;
    bool from_core; /* the INVITE */
    struct move moves[16];
    size_t strays; /* responses dropped and counted */
};

static char invite_at_client[8192], invite_at_core[8192], cancel[8192], bye[8192], uri[1024];
static char routes[2048];

static const struct story stories[] = {
    {"200 overtakes 180",
     false, {{CORE, "200 OK", NULL, "200 OK"}, {CORE, "180 Ringing", NULL, NULL}},
     0},
    {"200 overtakes 100",
     false, {{CORE, "200 OK", NULL, "200 OK"}, {CORE, "100 Trying", NULL, NULL}},
     0},
    {"180 comes twice, 100 in between",
     false, {{CORE, "180 Ringing", NULL, "180 Ringing"},
      {CORE, "100 Trying", NULL, NULL},
      {CORE, "180 Ringing", NULL, "180 Ringing"}},
     0},
    {"486 overtakes 180 and comes twice",
     false, {{CORE, "486 Busy Here", "ACK", "486 Busy Here"},
      {CORE, "180 Ringing", NULL, NULL},
      {CORE, "486 Busy Here", "ACK", NULL},
      {CLIENT, "ACK", NULL, NULL},
      {CORE, "486 Busy Here", "ACK", NULL}},
     0},
    {"a final after another one",
     false, {{CORE, "486 Busy Here", "ACK", "486 Busy Here"},
      {CORE, "200 OK", NULL, NULL},
      {CORE, "603 Decline", "ACK", NULL}},
     0},
    {"a refusal after 200",
     false, {{CORE, "200 OK", NULL, "200 OK"}, {CORE, "486 Busy Here", NULL, NULL}},
     0},
    {"200 again, before and behind the ACK",
     false, {{CORE, "200 OK", NULL, "200 OK"},
      {CORE, "200 OK", NULL, "200 OK"},
      {CLIENT, "ACK to 2xx", "ACK", NULL},
      {CORE, "200 OK", NULL, "200 OK"},
      {CLIENT, "ACK to 2xx", "ACK", NULL}},
     0},
    {"200 when all is over",
     false, {{CORE, "200 OK", NULL, "200 OK"},
      {CLIENT, "ACK to 2xx", "ACK", NULL},
      {WAIT, "32000", NULL, NULL},
      {CORE, "200 OK", NULL, NULL},
      {CORE, "180 Ringing", NULL, NULL}},
     2},
    {"486 when all is over",
     false, {{CORE, "486 Busy Here", "ACK", "486 Busy Here"},
      {WAIT, "32000", NULL, NULL},
      {CORE, "486 Busy Here", NULL, NULL}},
     1},
    {"487 overtakes the CANCEL's 200",
     false, {{CORE, "180 Ringing", NULL, "180 Ringing"},
      {CLIENT, "CANCEL", "CANCEL", "200 OK"},
      {CORE, "487 Request Terminated", "ACK", "487 Request Terminated"},
      {CORE, "CANCEL 200 OK", NULL, NULL},
      {CORE, "CANCEL 200 OK", NULL, NULL},
      {WAIT, "600", NULL, NULL}},
     0},
    {"180 comes behind the CANCEL",
     false, {{CLIENT, "CANCEL", NULL, "200 OK"},
      {CORE, "180 Ringing", "CANCEL", "180 Ringing"},
      {CORE, "100 Trying", NULL, NULL},
      {CORE, "CANCEL 200 OK", NULL, NULL},
      {CORE, "180 Ringing", NULL, "180 Ringing"},
      {CORE, "487 Request Terminated", "ACK", "487 Request Terminated"}},
     0},
    {"200 crosses the CANCEL",
     false, {{CORE, "180 Ringing", NULL, "180 Ringing"},
      {CLIENT, "CANCEL", "CANCEL", "200 OK"},
      {CORE, "200 OK", NULL, "200 OK"},
      {CORE, "CANCEL 481 None", NULL, NULL},
      {CLIENT, "ACK to 2xx", "ACK", NULL},
      {WAIT, "5000", NULL, NULL}},
     0},

    {"INVITE comes again at every stage",
     true,  {{CORE, "INVITE", "100 Trying", NULL},
      {CLIENT, "180 Ringing", "180 Ringing", NULL},
      {CORE, "INVITE", "180 Ringing", NULL},
      {CLIENT, "486 Busy Here", "486 Busy Here", "ACK"},
      {CORE, "INVITE", "486 Busy Here", NULL},
      {CORE, "ACK", NULL, NULL},
      {CORE, "INVITE", NULL, NULL},
      {CORE, "ACK", NULL, NULL}},
     0},
    {"INVITE comes again behind the 200 and the ACK",
     true,  {{CLIENT, "200 OK", "200 OK", NULL},
      {CORE, "INVITE", NULL, NULL},
      {CORE, "ACK to 2xx", NULL, "ACK"},
      {CORE, "INVITE", NULL, NULL},
      {CLIENT, "200 OK", "200 OK", NULL},
      {CORE, "ACK to 2xx", NULL, "ACK"}},
     0},
    {"INVITE comes again behind the CANCEL",
     true,  {{CLIENT, "180 Ringing", "180 Ringing", NULL},
      {CORE, "CANCEL", "200 OK", "CANCEL"},
      {CORE, "INVITE", "180 Ringing", NULL},
      {CLIENT, "487 Request Terminated", "487 Request Terminated", "ACK"},
      {CORE, "INVITE", "487 Request Terminated", NULL},
      {CORE, "CANCEL", "200 OK", NULL},
      {CORE, "ACK", NULL, NULL},
      {CORE, "INVITE", NULL, NULL},
      {WAIT, "6000", NULL, NULL}, /* the INVITE is forgotten */
      {CORE, "CANCEL", "200 OK", NULL}},
     0},
    {"CANCEL comes twice",
     true,  {{CLIENT, "180 Ringing", "180 Ringing", NULL},
      {CORE, "CANCEL", "200 OK", "CANCEL"},
      {CORE, "CANCEL", "200 OK", NULL},
      {CLIENT, "CANCEL 200 OK", NULL, NULL},
      {CLIENT, "487 Request Terminated", "487 Request Terminated", "ACK"},
      {CORE, "ACK", NULL, NULL}},
     0},
    {"BYE overtakes the ACK and comes twice",
     true,  {{CLIENT, "200 OK", "200 OK", NULL},
      {CORE, "BYE", NULL, "BYE"},
      {CORE, "BYE", NULL, NULL},
      {CORE, "ACK to 2xx", NULL, "ACK"},
      {CLIENT, "BYE 200 OK", "200 OK", NULL},
      {CORE, "BYE", "200 OK", NULL}},
     0},
    {"the client answers when all is over",
     true,  {{CLIENT, "486 Busy Here", "486 Busy Here", "ACK"},
      {CORE, "ACK", NULL, NULL},
      {WAIT, "1", NULL, NULL},
      {CLIENT, "486 Busy Here", NULL, NULL},
      {WAIT, "6000", NULL, NULL},
      {CLIENT, "200 OK", NULL, NULL}},
     2},
};

#define PBX_REQUEST(method, cseq, branch, target, way, tag)                                        \
    "%s %s SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bK%s;rport\n%s"                     \
    "From: <sip:pbx@sip.test>;tag=p\nTo: <sip:bob@sip.test>%s\n"                                   \
    "Call-ID: story\nCSeq: %d %s\nMax-Forwards: 70\nContact: <sip:pbx@10.0.0.5>",                  \
        method, target, branch, way, tag, cseq, method

#define CLIENT_REQUEST(method, branch, target, way, tag)                                           \
    "%s %s SIP/2.0\nVia: SIP/2.0/TLS c.invalid;branch=z9hG4bK%s\n%s"                               \
    "From: <sip:alice@sip.test>;tag=a\nTo: <sip:bob@sip.test>%s\n"                                 \
    "Call-ID: story\nCSeq: 1 %s\nMax-Forwards: 70\nContact: <sip:alice@c.invalid>",                \
        method, target, branch, way, tag, method

static void core_sends(const struct story *story, const char *what)
{
    static const char contact[] = "Contact: <sip:pbx@10.0.0.5>";

    if (!story->from_core && strncmp(what, "CANCEL ", 7) == 0)
        edge_from_core(&edge, "%s", response_to(cancel, what + 7, "core", NULL));
    else if (!story->from_core)
        edge_from_core(&edge, "%s", response_to(invite_at_core, what, "core", contact));
    else if (strcmp(what, "ACK") == 0)
        edge_from_core(&edge, PBX_REQUEST("ACK", 1, "i", uri, "", ";tag=client"));
    else if (strcmp(what, "ACK to 2xx") == 0)
        edge_from_core(&edge, PBX_REQUEST("ACK", 1, "a", uri, routes, ";tag=client"));
    else if (strcmp(what, "BYE") == 0)
        edge_from_core(&edge, PBX_REQUEST("BYE", 2, "b", uri, routes, ";tag=client"));
    else /* INVITE, CANCEL */
        edge_from_core(&edge, PBX_REQUEST(what, 1, "i", uri, "", ""));
}

static void client_sends(const struct story *story, const char *what)
{
    static const char contact[] = "Contact: <sip:alice@c.invalid>";

    if (story->from_core && strncmp(what, "CANCEL ", 7) == 0)
        edge_from_client(alice, "%s", response_to(cancel, what + 7, "client", NULL));
    else if (story->from_core && strncmp(what, "BYE ", 4) == 0)
        edge_from_client(alice, "%s", response_to(bye, what + 4, "client", NULL));
    else if (story->from_core)
        edge_from_client(alice, "%s", response_to(invite_at_client, what, "client", contact));
    else if (strcmp(what, "ACK to 2xx") == 0)
        edge_from_client(alice,
                         CLIENT_REQUEST("ACK", "a", "sip:pbx@10.0.0.5", routes, ";tag=core"));
    else if (strcmp(what, "ACK") == 0)
        edge_from_client(alice, CLIENT_REQUEST("ACK", "i", "sip:bob@sip.test", "", ";tag=core"));
    else /* INVITE, CANCEL */
        edge_from_client(alice, CLIENT_REQUEST(what, "i", "sip:bob@sip.test", "", ""));
}

/* One message or none, of that kind. It is kept if it is needed later. */
static void got(const struct story *story, unsigned move, struct inbox *inbox, const char *wanted)
{
    char start[256] = "";
    const char *message = inbox_last(inbox);

    if (strncmp(message, "SIP/2.0 ", 8) == 0)
        snprintf(start, sizeof(start), "%s", start_line(message) + 8);
    else
        snprintf(start, sizeof(start), "%.*s", (int)strcspn(message, " "), message);
    if (inbox->count != (wanted ? 1 : 0) || strcmp(start, wanted ? wanted : "") != 0)
        fail_msg("%s, move %u: the %s got %u messages, the last: %s", story->what, move,
                 inbox == &edge.core ? "core" : "client", inbox->count, start);
    if (strcmp(start, "CANCEL") == 0)
        snprintf(cancel, sizeof(cancel), "%s", message);
    else if (strcmp(start, "BYE") == 0)
        snprintf(bye, sizeof(bye), "%s", message);
    else if (strcmp(start, "200 OK") == 0 && strstr(header_of(message, "CSeq", 0), "INVITE"))
        snprintf(routes, sizeof(routes), "Route: %s\nRoute: %s\n",
                 header_of(message, "Record-Route", 1), header_of(message, "Record-Route", 0));
    inbox_take(inbox);
}

static void begin(const struct story *story)
{
    setup_mask(NULL);
    if (story->from_core) {
        snprintf(uri, sizeof(uri), "%s", masked_contact(alice, "alice"));
        core_sends(story, "INVITE");
        snprintf(invite_at_client, sizeof(invite_at_client), "%s", inbox_last(&alice->inbox));
    } else {
        client_sends(story, "INVITE");
        snprintf(invite_at_core, sizeof(invite_at_core), "%s", inbox_last(&edge.core));
    }
    inbox_take(&edge.core);
    inbox_take(&alice->inbox);
}

static void each_is_told_what_is_new_to_it(void **state) /* T1 to T4, T2 refused, T8 refused */
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(stories); i++) {
        const struct story *story = &stories[i];

        begin(story);
        for (unsigned m = 0; story->moves[m].what; m++) {
            const struct move *move = &story->moves[m];

            switch (move->who) {
            case CORE: core_sends(story, move->what); break;
            case CLIENT: client_sends(story, move->what); break;
            case WAIT: edge_wait(&edge, strtoul(move->what, NULL, 10)); break;
            }
            if (move->who == WAIT && !move->core) /* what is sent again is another test's */
                inbox_take(&edge.core);
            else
                got(story, m, &edge.core, move->core);
            got(story, m, &alice->inbox, move->client);
        }
        if (proxy_counters(edge.proxy)->dropped_stray != story->strays)
            fail_msg("%s: %u strays", story->what,
                     (unsigned)proxy_counters(edge.proxy)->dropped_stray);
        teardown(NULL);
    }
}

/* There was no INVITE yet, so it says; the INVITE is none the worse for it. */
static void a_cancel_that_overtakes_its_invite_matches_nothing(void **state) /* T4 refused */
{
    static const struct story story = {.from_core = true};

    (void)state;
    snprintf(uri, sizeof(uri), "%s", masked_contact(alice, "alice"));
    core_sends(&story, "CANCEL");
    assert_non_null(strstr(inbox_last(&edge.core), "SIP/2.0 481 "));
    core_sends(&story, "INVITE");
    assert_int_equal(alice->inbox.count, 1);
    core_sends(&story, "CANCEL");
    assert_string_equal(start_line(inbox_last(&edge.core)), "SIP/2.0 200 OK");
    edge_from_client(alice, "%s",
                     response_to(alice->inbox.messages[0], "180 Ringing", "client", NULL));
    assert_string_equal(between(inbox_last(&alice->inbox), "", " "), "CANCEL");
}

/* The same branch, so that the PBX knows an ACK for one that it had. */
static void an_ack_that_is_repeated_has_the_same_branch(void **state) /* T3 to core */
{
    char first[512];

    (void)state;
    call_up(routes);
    for (unsigned i = 0; i < 2; i++) {
        edge_from_client(alice, IN_DIALOG("ACK", "1"), "sip:bob@10.0.0.5:5060", routes);
        if (i)
            assert_string_equal(header_of(inbox_last(&edge.core), "Via", 0), first);
        snprintf(first, sizeof(first), "%s", header_of(inbox_last(&edge.core), "Via", 0));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_is_told_what_is_new_to_it),
        MASK(a_cancel_that_overtakes_its_invite_matches_nothing),
        MASK(an_ack_that_is_repeated_has_the_same_branch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

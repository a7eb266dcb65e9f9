/* Clients that vanish, at every step of a call and on either side of it: what the core is told, and
 * that nothing is left (T6, R7). Then 1,000 of them at random. */
#include <stdlib.h>
#include <time.h>

#include "calls.h"
#include "proxy/log.h"

/* One client and what it was doing. Its calls have ids of their own, so scenes can go on side by
 * side. */
struct scene {
    struct client *client;
    const char *transport;
    unsigned number; /* in Call-IDs and branches */
    unsigned requests;
    char id[32];
    char target[1024], route[1024]; /* as the core knows it: its Contact, its Path */
    char invite[8192];              /* the newest to or from the core */
    char dialog_uri[1024], dialog_routes[4096], dialog_tags[256]; /* of the core's requests */
    char client_routes[4096];                                     /* of the client's */
    bool dialog;
    bool settled; /* the core has sent a final response to the INVITE */
};

static struct scene scenes[EDGE_CLIENTS];
static unsigned scene_count; /* so far, for names that were never used */

/* ---- what anybody was sent ---- */

/* The newest message that begins so and belongs to the scene. */
static const char *sent(const struct inbox *inbox, const struct scene *scene, const char *start)
{
    for (unsigned i = inbox->count; i-- > 0;)
        if (strncmp(inbox->messages[i], start, strlen(start)) == 0 &&
            strcmp(header_of(inbox->messages[i], "Call-ID", 0), scene->id) == 0)
            return inbox->messages[i];
    return NULL;
}

static const char *core_got(const struct scene *scene, const char *start)
{
    const char *message = sent(&edge.core, scene, start);

    assert_non_null(message);
    return message;
}

static const char *client_got(const struct scene *scene, const char *start)
{
    const char *message = sent(&scene->client->inbox, scene, start);

    assert_non_null(message);
    return message;
}

/* Record-Route lines of a message as the Route lines of its receiver. */
static void routes_copy(const char *message, bool reversed, char out[4096])
{
    unsigned count = 0;
    char *at = out;

    while (*header_of(message, "Record-Route", count))
        count++;
    *out = '\0';
    for (unsigned i = 0; i < count; i++)
        at += snprintf(at, (size_t)(out + 4096 - at), "Route: %s\n",
                       header_of(message, "Record-Route", reversed ? count - 1 - i : i));
}

/* ---- what the core does ---- */

static void core_answers(struct scene *scene, const char *method, const char *status,
                         const char *more)
{
    char start[32];

    snprintf(start, sizeof(start), "%s ", method);
    edge_from_core(&edge, "%s", response_to(core_got(scene, start), status, "core", more));
}

static void core_sends(struct scene *scene, const char *method, unsigned cseq, const char *branch)
{
    const char *tags = scene->dialog ? scene->dialog_tags : NULL;

    edge_from_core(&edge,
                   "%s %s SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bK%s%u.%s;rport\n%s"
                   "%s\nCall-ID: %s\nCSeq: %u %s\nMax-Forwards: 70\n%s",
                   method, scene->dialog ? scene->dialog_uri : scene->target, scene->id,
                   scene->requests, branch, scene->dialog ? scene->dialog_routes : scene->route,
                   tags ? tags : "From: <sip:pbx@sip.test>;tag=core\nTo: <sip:bob@sip.test>",
                   scene->id, cseq, method,
                   strcmp(method, "INVITE") == 0 ? "Contact: <sip:pbx@10.0.0.5>" : "");
}

/* ---- what the client does ---- */

static void client_sends(struct scene *scene, const char *method, unsigned cseq, const char *branch,
                         const char *to_tag, const char *more)
{
    edge_from_client(scene->client,
                     "%s %s SIP/2.0\nVia: SIP/2.0/%s c.invalid;branch=z9hG4bK%s%u.%s\n%s"
                     "From: <sip:bob@sip.test>;tag=client\nTo: <sip:100@sip.test>%s\n"
                     "Call-ID: %s\nCSeq: %u %s\nMax-Forwards: 70\n%s",
                     method, *to_tag ? "sip:pbx@10.0.0.5" : "sip:100@sip.test", scene->transport,
                     scene->id, scene->requests, branch, *to_tag ? scene->client_routes : "",
                     to_tag, scene->id, cseq, method, more);
}

static void client_answers(struct scene *scene, const char *method, const char *status,
                           const char *more)
{
    char start[32];

    snprintf(start, sizeof(start), "%s ", method);
    edge_from_client(scene->client, "%s",
                     response_to(client_got(scene, start), status, "client", more));
}

/* ---- how far they come ---- */

static void nothing(struct scene *scene)
{
    (void)scene;
}

static void half_an_invite(struct scene *scene)
{
    char bytes[] = "INVITE sip:100@sip.test SIP/2.0\r\nVia: SIP/2.0/TLS c.invalid;bra";
    size_t scanned = 0;

    assert_int_equal(
        proxy_receive_stream(scene->client->flow, bytes, strlen(bytes), &scanned, edge.now), 0);
}

static void registers(struct scene *scene)
{
    client_sends(scene, "REGISTER", 1, "r", "", "Contact: <sip:bob@c.invalid>;expires=300");
}

static void registered(struct scene *scene)
{
    const char *got;

    registers(scene);
    got = core_got(scene, "REGISTER ");
    snprintf(scene->target, sizeof(scene->target), "%s",
             between(header_of(got, "Contact", 0), "<", ">"));
    if (edge.conf.contact_path)
        snprintf(scene->route, sizeof(scene->route), "Route: %s\n", header_of(got, "Path", 0));
    core_answers(scene, "REGISTER", "200 OK", NULL);
}

static void sends_a_message(struct scene *scene)
{
    client_sends(scene, "MESSAGE", 1, "m", "", "");
}

static void invites(struct scene *scene)
{
    client_sends(scene, "INVITE", 1, "i", "", "Contact: <sip:bob@c.invalid>");
    snprintf(scene->invite, sizeof(scene->invite), "%s", core_got(scene, "INVITE "));
}

static void hears_ringing(struct scene *scene)
{
    invites(scene);
    core_answers(scene, "INVITE", "180 Ringing", "Contact: <sip:pbx@10.0.0.5>");
    routes_copy(client_got(scene, "SIP/2.0 180"), true, scene->client_routes);
}

static void is_answered(struct scene *scene)
{
    hears_ringing(scene);
    core_answers(scene, "INVITE", "200 OK", "Contact: <sip:pbx@10.0.0.5>");
    routes_copy(client_got(scene, "SIP/2.0 200"), true, scene->client_routes);
    snprintf(scene->dialog_uri, sizeof(scene->dialog_uri), "%s",
             between(header_of(scene->invite, "Contact", 0), "<", ">"));
    routes_copy(scene->invite, false, scene->dialog_routes);
    snprintf(scene->dialog_tags, sizeof(scene->dialog_tags),
             "From: <sip:100@sip.test>;tag=core\nTo: <sip:bob@sip.test>;tag=client");
    scene->dialog = true;
}

static void talks(struct scene *scene)
{
    is_answered(scene);
    client_sends(scene, "ACK", 1, "a", ";tag=core", "");
    assert_non_null(sent(&edge.core, scene, "ACK "));
}

static void hangs_up(struct scene *scene)
{
    talks(scene);
    client_sends(scene, "BYE", 2, "b", ";tag=core", "");
}

static void cancels(struct scene *scene)
{
    hears_ringing(scene);
    client_sends(scene, "CANCEL", 1, "i", "", "");
    assert_non_null(sent(&edge.core, scene, "CANCEL "));
}

static void cancels_early(struct scene *scene)
{
    invites(scene);
    client_sends(scene, "CANCEL", 1, "i", "", "");
    assert_null(sent(&edge.core, scene, "CANCEL ")); /* T4 */
}

static void pracks(struct scene *scene)
{
    hears_ringing(scene);
    client_sends(scene, "PRACK", 2, "p", ";tag=core", "RAck: 1 1 INVITE");
}

static void invites_again(struct scene *scene)
{
    talks(scene);
    client_sends(scene, "INVITE", 2, "again", ";tag=core", "Contact: <sip:bob@c.invalid>");
}

static void is_sent_a_message(struct scene *scene)
{
    registered(scene);
    core_sends(scene, "MESSAGE", 1, "m");
}

static void is_invited(struct scene *scene)
{
    registered(scene);
    core_sends(scene, "INVITE", 1, "i");
    assert_non_null(sent(&scene->client->inbox, scene, "INVITE "));
}

static void rings(struct scene *scene)
{
    is_invited(scene);
    client_answers(scene, "INVITE", "180 Ringing", "Contact: <sip:bob@c.invalid>");
}

static void answers(struct scene *scene)
{
    const char *answer;

    rings(scene);
    client_answers(scene, "INVITE", "200 OK", "Contact: <sip:bob@c.invalid>");
    routes_copy(client_got(scene, "INVITE "), false, scene->client_routes);
    answer = core_got(scene, "SIP/2.0 200");
    snprintf(scene->dialog_uri, sizeof(scene->dialog_uri), "%s",
             between(header_of(answer, "Contact", 0), "<", ">"));
    routes_copy(answer, true, scene->dialog_routes);
    snprintf(scene->dialog_tags, sizeof(scene->dialog_tags),
             "From: <sip:pbx@sip.test>;tag=core\nTo: <sip:bob@sip.test>;tag=client");
    scene->dialog = true;
}

static void is_acked(struct scene *scene)
{
    answers(scene);
    core_sends(scene, "ACK", 1, "a");
    assert_non_null(sent(&scene->client->inbox, scene, "ACK "));
}

static void is_hung_up(struct scene *scene)
{
    is_acked(scene);
    core_sends(scene, "BYE", 2, "b");
}

static void is_cancelled(struct scene *scene)
{
    rings(scene);
    core_sends(scene, "CANCEL", 1, "i");
    assert_non_null(sent(&scene->client->inbox, scene, "CANCEL "));
}

static void is_pracked(struct scene *scene)
{
    rings(scene);
    core_sends(scene, "PRACK", 2, "p");
}

static void is_invited_again(struct scene *scene)
{
    is_acked(scene);
    core_sends(scene, "INVITE", 2, "again");
}

/* What the core still answers when the client is gone: "METHOD STATUS; METHOD STATUS". Then all
 * that it is sent in return, while it answers CANCEL and sends ACK as it has to; behind that, if
 * there was a dialog, the answer to its BYE. */
static const struct step {
    const char *what;
    void (*comes_to)(struct scene *scene);
    const char *late, *core;
    unsigned strays; /* responses dropped and counted */
} steps[] = {
    {"nothing at all",           nothing,           "",                                    "",                     0},
    {"half an INVITE",           half_an_invite,    "",                                    "",                     0},
    {"REGISTER is open",         registers,         "REGISTER 200 OK",                     "",                     1},
    {"registered",               registered,        "",                                    "",                     0},
    {"MESSAGE is open",          sends_a_message,   "MESSAGE 200 OK",                      "",                     1},
    {"INVITE without a word",    invites,           "INVITE 180 Ringing",                  "CANCEL ACK",           2},
    {"INVITE, refused at last",  invites,           "INVITE 486 Busy Here",                "ACK",                  1},
    {"INVITE rings",             hears_ringing,     "",                                    "CANCEL ACK",           1},
    {"CANCEL is open",           cancels,           "CANCEL 200 OK; INVITE 487 Cancelled", "ACK",                  1},
    {"CANCEL waits",             cancels_early,     "INVITE 180 Ringing",                  "CANCEL ACK",           2},
    {"PRACK is open",            pracks,            "PRACK 200 OK",                        "CANCEL ACK",           2},
    {"its 200 crosses CANCEL",   hears_ringing,     "INVITE 200 OK",                       "CANCEL ACK BYE",       1},
    {"200 at once",              invites,           "INVITE 200 OK",                       "ACK BYE",              1},
    {"200 without ACK",          is_answered,       "INVITE 200 OK",                       "ACK BYE 430/BYE",      1},
    {"in the call",              talks,             "",                                    "430/BYE",              0},
    {"re-INVITE is open",        invites_again,     "INVITE 100 Trying",                   "CANCEL ACK 430/BYE",   1},
    {"BYE is open",              hangs_up,          "BYE 200 OK",                          "430/BYE",              1},
    {"MESSAGE not answered",     is_sent_a_message, "",                                    "430/MESSAGE",          0},
    {"INVITE not answered",      is_invited,        "",                                    "430/INVITE",           0},
    {"it rang",                  rings,             "",                                    "430/INVITE",           0},
    {"CANCEL not answered",      is_cancelled,      "",                                    "487/INVITE",           0},
    {"PRACK not answered",       is_pracked,        "",                                    "430/INVITE 430/PRACK", 0},
    {"it answered, no ACK",      answers,           "",                                    "430/BYE",              0},
    {"it answered, in the call", is_acked,          "",                                    "430/BYE",              0},
    {"re-INVITE not answered",   is_invited_again,  "",                                    "430/INVITE 430/BYE",   0},
    {"BYE not answered",         is_hung_up,        "",                                    "430/BYE 430/BYE",      0},
};

/* ---- one after the other ---- */

static struct scene *scene_begin(unsigned index, const char *transport)
{
    struct scene *scene = &scenes[index];

    *scene = (struct scene){.transport = transport, .number = ++scene_count};
    snprintf(scene->id, sizeof(scene->id), "scene%u", scene->number);
    scene->client = edge_client(&edge, index, transport);
    return scene;
}

static void late_answers(struct scene *scene, const char *late)
{
    char text[256], *rest = text, *answer;

    snprintf(text, sizeof(text), "%s", late);
    while ((answer = strsep(&rest, ";"))) {
        char method[16];
        int taken = 0;

        if (sscanf(answer, " %15s %n", method, &taken) != 1) /* NOLINT(cert-err34-c) */
            continue;
        core_answers(scene, method, answer + taken, "Contact: <sip:pbx@10.0.0.5>");
        scene->settled |= strcmp(method, "INVITE") == 0 && answer[taken] != '1';
    }
}

/* The ACK of the core for a final response other than 2xx to its INVITE. */
static void core_acks(struct scene *scene, const char *response)
{
    edge_from_core(&edge, "ACK %s SIP/2.0\nVia: %s\nFrom: %s\nTo: %s\nCall-ID: %s\nCSeq: %s ACK",
                   scene->target, header_of(response, "Via", 0), header_of(response, "From", 0),
                   header_of(response, "To", 0), scene->id, between(response, "CSeq: ", " "));
}

/* Act on one message as the core has to, and write down what it was. */
static void core_acts(struct scene *scene, const char *message, char *seen, size_t size)
{
    size_t len = strlen(seen);
    int status = 0;
    char method[16] = "";

    if (sscanf(message, "SIP/2.0 %d", &status) == 1) { /* NOLINT(cert-err34-c) */
        snprintf(method, sizeof(method), "%s", strchr(header_of(message, "CSeq", 0), ' ') + 1);
        snprintf(seen + len, size - len, "%s%d/%s", len ? " " : "", status, method);
        if (status >= 300 && strcmp(method, "INVITE") == 0)
            core_acks(scene, message);
        return;
    }
    snprintf(seen + len, size - len, "%s%.*s", len ? " " : "", (int)strcspn(message, " "), message);
    if (strncmp(message, "ACK ", 4) == 0)
        return;
    edge_from_core(&edge, "%s", response_to(message, "200 OK", "core", NULL));
    if (strncmp(message, "CANCEL ", 7) == 0 && !scene->settled)
        core_answers(scene, "INVITE", "487 Request Terminated", NULL);
}

static void core_catches_up(struct scene *scene, unsigned from, char *seen, size_t size)
{
    for (unsigned i = from; i < edge.core.count; i++) {
        char message[8192];

        snprintf(message, sizeof(message), "%s", edge.core.messages[i]);
        core_acts(scene, message, seen, size);
    }
}

static void step_check(const struct step *step, const char *transport)
{
    struct scene *scene = scene_begin(2, transport);
    const uint64_t strays = proxy_counters(edge.proxy)->dropped_stray;
    char seen[256] = "";
    unsigned before;

    step->comes_to(scene);
    before = edge.core.count;
    inbox_take(&scene->client->inbox);
    edge_hang_up(scene->client);
    late_answers(scene, step->late);
    core_catches_up(scene, before, seen, sizeof(seen));
    before = edge.core.count;
    if (scene->dialog) {
        core_sends(scene, "BYE", 9, "probe");
        core_catches_up(scene, before, seen, sizeof(seen));
    }
    if (strcmp(seen, step->core) != 0)
        print_error("%s: the core got: %s\n", step->what, seen);
    assert_string_equal(seen, step->core);
    if (proxy_counters(edge.proxy)->dropped_stray - strays != step->strays)
        print_error("%s: strays\n", step->what);
    assert_int_equal(proxy_counters(edge.proxy)->dropped_stray - strays, step->strays);
    assert_int_equal(inbox_take(&scene->client->inbox), 0);
    inbox_take(&edge.core);

    edge_wait(&edge, 40000); /* longer than any transaction */
    if (edge.core.count || proxy_sizes(edge.proxy).transactions)
        print_error("%s: something is left\n", step->what);
    assert_int_equal(inbox_take(&edge.core), 0);
    assert_int_equal(proxy_sizes(edge.proxy).transactions, 0);
    assert_int_equal(proxy_sizes(edge.proxy).requests, 0);
    assert_int_equal(timers_count(edge.timers), 0);
}

static void the_gone_leave_nothing(void **state) /* T6 to core, T6 to access, T6 refused */
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        step_check(&steps[i], "TLS");
        step_check(&steps[i], "WSS");
    }
}

static void what_a_client_sent_last_is_still_delivered(void **state) /* T1 to core, T6 */
{
    struct scene *scene;

    (void)state;
    scene = scene_begin(2, "WSS");
    hangs_up(scene);
    inbox_take(&edge.core);
    edge_hang_up(scene->client);
    edge_wait(&edge, 1500);
    assert_int_equal(edge.core.count, 2); /* after 500 ms and 1000 ms more */
    assert_non_null(sent(&edge.core, scene, "BYE "));
    core_answers(scene, "BYE", "200 OK", NULL);
    inbox_take(&edge.core);
    edge_wait(&edge, 40000);
    assert_int_equal(edge.core.count, 0);
}

/* ---- silence ---- */

/* REGISTER, and a 200 with these headers beside the Contact. */
static void registers_with(struct scene *scene, const char *supported, const char *answer)
{
    char more[256];

    snprintf(more, sizeof(more), "Contact: <sip:bob@c.invalid>;reg-id=1\nSupported: %s", supported);
    client_sends(scene, "REGISTER", ++scene->requests, "r", "", more);
    core_answers(scene, "REGISTER", "200 OK", answer);
}

/* Whether the connection was closed when it had been silent for so long after a keepalive. */
static bool closed_after(struct scene *scene, uint64_t silence_ms)
{
    char ping[] = "\r\n\r\n";
    size_t scanned = 0;

    edge_wait(&edge, 70000);
    if (strcmp(scene->transport, "WSS") == 0)
        (void)proxy_receive_message(scene->client->flow, ping, 4, edge.now);
    else
        (void)proxy_receive_stream(scene->client->flow, ping, 4, &scanned, edge.now);
    edge_wait(&edge, silence_ms);
    return scene->client->inbox.closed;
}

static void who_promised_keepalives_is_held_to_it(void **state) /* R10, T6 */
{
    static const struct {
        const char *supported, *answer;
        uint64_t silence_ms;
        bool closed;
    } cases[] = {
        {"outbound", "Require: outbound",                  149999,  false}, /* Flow-Timer: 120 */
        {"outbound", "Require: outbound",                  150000,  true },
        {"outbound", "Require: outbound\nFlow-Timer: 60",  89999,   false},
        {"outbound", "Require: outbound\nFlow-Timer: 60",  90000,   true },
        {"outbound", "Require: outbound\nFlow-Timer: odd", 7000000, false},
        {"outbound", "Supported: outbound",                7000000, false}, /* only one wants it */
        {"path",     "Require: outbound",                  7000000, false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct scene *scene = scene_begin(2, "TLS");

        scene->client->inbox.closed = false;
        registers_with(scene, cases[i].supported, cases[i].answer);
        if (closed_after(scene, cases[i].silence_ms) != cases[i].closed)
            fail_msg("%s / %s, silent for %u ms", cases[i].supported, cases[i].answer,
                     (unsigned)cases[i].silence_ms);
        edge_hang_up(scene->client);
        inbox_take(&edge.core);
        inbox_take(&scene->client->inbox);
        assert_int_equal(timers_count(edge.timers), 0);
    }
}

/* A WebSocket has pings of its own, which proxy/ does not see (RFC 7118 6). */
static void a_websocket_promises_nothing(void **state) /* R10 refused */
{
    struct scene *scene;
    char message[1024], *at;

    (void)state;
    scene = scene_begin(2, "WSS");
    snprintf(message, sizeof(message),
             "REGISTER sip:sip.test SIP/2.0\r\nVia: SIP/2.0/WSS c.invalid;branch=z9hG4bKw\r\n"
             "From: <sip:bob@sip.test>;tag=1\r\nTo: <sip:bob@sip.test>\r\nCall-ID: %s\r\n"
             "CSeq: 1 REGISTER\r\nContact: <sip:bob@c.invalid>;reg-id=1\r\n"
             "Supported: outbound\r\n\r\n",
             scene->id);
    at = strdup(message);
    assert_int_equal(proxy_receive_message(scene->client->flow, at, strlen(at), edge.now), 0);
    free(at);
    core_answers(scene, "REGISTER", "200 OK", "Require: outbound");
    assert_string_equal(header_of(client_got(scene, "SIP/2.0 200"), "Flow-Timer", 0), "120");
    assert_false(closed_after(scene, 7000000));
}

/* ---- at random ---- */

static uint64_t random_state;

static unsigned draw(unsigned below)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned)((random_state >> 16) % below);
}

/* The core answers what is open to this scene with anything, or not at all. */
static void core_answers_something(struct scene *scene)
{
    static const char *const answers[] = {"100 Trying",        "180 Ringing",   "200 OK",
                                          "486 Busy Here",     "487 Cancelled", "408 Timeout",
                                          "503 Not Available", "603 Decline"};
    static const char *const methods[] = {"INVITE ", "BYE ", "CANCEL ", "PRACK ", "REGISTER "};

    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        const char *request = sent(&edge.core, scene, methods[i]);

        if (request && draw(2))
            edge_from_core(&edge, "%s",
                           response_to(request, answers[draw(ARRAY_LEN(answers))], "core", NULL));
    }
}

static void random_tear(unsigned index)
{
    static const char *const transports[] = {"TLS", "WSS", "TCP"};
    const struct step *step = &steps[draw(ARRAY_LEN(steps))];
    struct scene *scene = scene_begin(index, transports[draw(ARRAY_LEN(transports))]);

    step->comes_to(scene);
    edge_wait(&edge, draw(4) ? draw(300) : draw(5000));
    if (!draw(4)) /* the connection is broken before anybody tells */
        scene->client->broken = true;
    if (draw(2))
        core_answers_something(scene);
    if (scene->dialog && draw(2))
        core_sends(scene, "BYE", 9, "x");
}

static void a_thousand_tears_leave_nothing(void **state) /* T6, V7 */
{
    const char *seed = getenv("TORN_SEED");

    (void)state;
    random_state = seed ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL);
    print_message("TORN_SEED=%llu\n", (unsigned long long)random_state);
    edge_hang_up(alice);
    edge_hang_up(bob);
    for (unsigned i = 0; i < 1000; i++) {
        unsigned index = draw(EDGE_CLIENTS);

        edge_hang_up(&edge.clients[index]);
        edge.clients[index].broken = false;
        if (scenes[index].client && draw(2))
            core_answers_something(&scenes[index]);
        inbox_take(&edge.clients[index].inbox);
        random_tear(index);
        for (unsigned k = 0; k < EDGE_CLIENTS; k++)
            inbox_take(&edge.clients[k].inbox);
        if (!draw(3))
            edge_wait(&edge, draw(20000));
        inbox_take(&edge.core);
    }
    for (unsigned k = 0; k < EDGE_CLIENTS; k++)
        edge_hang_up(&edge.clients[k]);
    edge_wait(&edge, 40000);
    inbox_take(&edge.core);
    edge_wait(&edge, 40000); /* timer B, then what its CANCEL takes */
    assert_int_equal(proxy_sizes(edge.proxy).flows, 0);
    assert_int_equal(proxy_sizes(edge.proxy).requests, 0);
    assert_int_equal(proxy_sizes(edge.proxy).transactions, 0);
    assert_int_equal(timers_count(edge.timers), 0);
    assert_int_equal(proxy_counters(edge.proxy)->flows_opened,
                     proxy_counters(edge.proxy)->flows_closed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        MASK(the_gone_leave_nothing),
        PATH(the_gone_leave_nothing),
        MASK(what_a_client_sent_last_is_still_delivered),
        MASK(who_promised_keepalives_is_held_to_it),
        MASK(a_websocket_promises_nothing),
        MASK(a_thousand_tears_leave_nothing),
        PATH(a_thousand_tears_leave_nothing),
    };
    log_open(LOG_ERROR, false); /* a thousand connections */
    return cmocka_run_group_tests(tests, NULL, NULL);
}

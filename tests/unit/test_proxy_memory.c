/* Memory that runs out: each scene is played with the k-th allocation failing, for every k, until
 * none fails any more; once with that one failing alone, once with all from it on. Then the same
 * proxy has to serve a call as if nothing had been, and nothing may be left over (V7).
 *
 * Allocations are those of proxy/ and of libcrypto (libosip2 is given no heap: value.c). The PBX
 * and the clients answer whatever they are sent, so that a scene goes on as far as it can. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "calls.h"
#include "login.h"
#include "proxy/registrar.h"

/* ---- memory that is not there ---- */

static struct {
    bool on;
    unsigned long count, first; /* fail from this one on */
    bool once;
    unsigned long failed;
} memory;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *p, size_t size);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t len);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *p, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t len);

static bool fails(void)
{
    if (!memory.on || edge_inside)
        return false;
    memory.count++;
    if (memory.count < memory.first || (memory.once && memory.count > memory.first))
        return false;
    memory.failed++;
    return true;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *p, size_t size)
{
    return fails() ? NULL : __real_realloc(p, size);
}

char *__wrap_strdup(const char *text)
{
    return fails() ? NULL : __real_strdup(text);
}

char *__wrap_strndup(const char *text, size_t len)
{
    return fails() ? NULL : __real_strndup(text, len);
}

static void *crypto_malloc(size_t size, const char *file, int line)
{
    (void)file, (void)line;
    return fails() ? NULL : __real_malloc(size);
}

static void *crypto_realloc(void *p, size_t size, const char *file, int line)
{
    (void)file, (void)line;
    return fails() ? NULL : __real_realloc(p, size);
}

static void crypto_free(void *p, const char *file, int line)
{
    (void)file, (void)line;
    free(p);
}

/* ---- the world around the proxy ---- */

enum { QUEUE_MAX = 64, STATUS_MAX = 700 };

static enum { PBX_ANSWERS, PBX_RINGS, PBX_ANSWERS_LATE, PBX_SILENT, PBX_EARLY } pbx;
static enum { FIRST_WELL, FIRST_SILENT, FIRST_BUSY } first_backend; /* of two */

static struct registrar *registrar;
static char *queue[QUEUE_MAX]; /* from the registrar to the proxy */
static unsigned queue_count;

static bool told[STATUS_MAX];     /* statuses that anybody was told */
static char answer[16384];        /* the last final response to alice's request but ACK */
static char challenge[16384];     /* the last 401 or 407 for her */
static char pbx_got[16384];       /* the last final response for the PBX */
static char invite[16384];        /* the last INVITE that the PBX got */
static char to_the_silent[16384]; /* the last request that a silent backend got */
static char rings[16384];         /* the last INVITE that a client got */

static void keep_text(char copy[16384], const char *text)
{
    snprintf(copy, 16384, "%s", text);
}

static int status_of(const char *text)
{
    return strncmp(text, "SIP/2.0 ", 8) == 0 ? atoi(text + 8) : 0; /* NOLINT(cert-err34-c) */
}

static bool is(const char *message, const char *method)
{
    return strncmp(message, method, strlen(method)) == 0 && message[strlen(method)] == ' ';
}

static void registrar_sent(void *context, struct str bytes)
{
    (void)context;
    edge_inside++;
    assert_true(queue_count < QUEUE_MAX);
    queue[queue_count++] = strndup(bytes.p, bytes.len);
    edge_inside--;
}

static void pbx_gets(const char *message)
{
    char first[16384];
    bool is_first = edge.view.endpoint_count > 1 &&
                    edge.pbx.in.sin_addr.s_addr == edge_backend(0).in.sin_addr.s_addr;

    keep_text(first, message);
    if (is_first && first_backend == FIRST_SILENT) {
        keep_text(to_the_silent, first);
    } else if (is_first && first_backend == FIRST_BUSY && !is(first, "ACK")) {
        edge_from_core(&edge, "%s", response_to(first, "503 Busy", "b", "Retry-After: 9"));
    } else if (status_of(first)) {
        told[status_of(first)] = true;
        if (status_of(first) >= 200)
            keep_text(pbx_got, first);
    } else if (is(first, "INVITE")) {
        keep_text(invite, first);
        if (pbx == PBX_SILENT)
            return;
        edge_from_core(&edge, "%s",
                       response_to(first, pbx == PBX_EARLY ? "183 Session Progress" : "180 Ringing",
                                   "b", "Contact: <sip:pbx@10.0.0.5:5060>\nRSeq: 1"));
        if (pbx == PBX_ANSWERS)
            edge_from_core(&edge, "%s",
                           response_to(first, "200 OK", "b", "Contact: <sip:pbx@10.0.0.5:5060>"));
    } else if (is(first, "CANCEL")) {
        edge_from_core(&edge, "%s", response_to(first, "200 OK", "b", NULL));
        edge_from_core(&edge, "%s",
                       pbx == PBX_ANSWERS_LATE
                           ? response_to(invite, "200 OK", "b", "Contact: <sip:pbx@10.0.0.5:5060>")
                           : response_to(invite, "487 Request Terminated", "b", NULL));
    } else if (is(first, "REGISTER") && !strstr(first, "\r\nAuthorization:")) {
        edge_from_core(&edge, "%s",
                       response_to(first, "401 Unauthorized", "r",
                                   "WWW-Authenticate: Digest realm=\"pbx\", nonce=\"n\""));
    } else if (is(first, "REGISTER")) {
        char contact[2048];

        snprintf(contact, sizeof(contact), "Contact: %s", header_of(first, "Contact", 0));
        edge_from_core(&edge, "%s", response_to(first, "200 OK", "r", contact));
    } else if (!is(first, "ACK")) {
        edge_from_core(&edge, "%s", response_to(first, "200 OK", "b", NULL));
    }
}

static void client_gets(struct client *client, const char *message)
{
    char first[16384];
    int status = status_of(message);

    keep_text(first, message);
    if (status) {
        told[status] = true;
        if (status == 401 || status == 407)
            keep_text(challenge, first);
        if (status >= 200 && client == alice)
            keep_text(answer, first);
        return;
    }
    if (!client->flow || is(first, "ACK"))
        return;
    if (is(first, "INVITE")) {
        keep_text(rings, first);
        edge_from_client(client, "%s", response_to(first, "180 Ringing", "c", NULL));
    }
    if (is(first, "INVITE") && pbx == PBX_RINGS)
        return;
    edge_from_client(client, "%s",
                     response_to(first, "200 OK", "c", "Contact: <sip:bob@x.invalid>"));
    if (is(first, "CANCEL"))
        edge_from_client(client, "%s", response_to(rings, "487 Request Terminated", "c", NULL));
}

/* A message that goes without a socket. */
static void hand_over(enum core_kind from, const char *message, void *to_registrar)
{
    size_t len = strlen(message);
    const struct core_addr addr = {.kind = from};
    char *bytes;

    edge_inside++;
    bytes = strdup(message);
    edge_inside--;
    if (to_registrar)
        registrar_receive(registrar, bytes, len, edge.now);
    else
        proxy_receive_core(edge.proxy, &addr, bytes, len, edge.now);
    free(bytes);
}

/* Everybody reads and answers until there is no more to read. */
static void pump(void)
{
    for (bool busy = true; busy;) {
        static struct inbox now_core, now_client;

        now_core = edge.core;
        edge.core.count = 0;
        busy = now_core.count > 0;
        for (unsigned i = 0; i < now_core.count; i++) {
            if (now_core.to[i].kind == CORE_UDP) {
                edge.pbx = now_core.to[i];
                pbx_gets(now_core.messages[i]);
            } else {
                hand_over(CORE_SELF, now_core.messages[i],
                          now_core.to[i].kind == CORE_EMBEDDED ? registrar : NULL);
            }
            free(now_core.messages[i]);
        }
        for (unsigned c = 0; c < EDGE_CLIENTS; c++) {
            now_client = edge.clients[c].inbox;
            edge.clients[c].inbox.count = 0;
            busy = busy || now_client.count > 0;
            for (unsigned i = 0; i < now_client.count; i++) {
                client_gets(&edge.clients[c], now_client.messages[i]);
                free(now_client.messages[i]);
            }
        }
        while (queue_count) {
            char *message = queue[0];

            memmove(&queue[0], &queue[1], --queue_count * sizeof(queue[0]));
            hand_over(CORE_EMBEDDED, message, NULL);
            free(message);
            busy = true;
        }
    }
}

/* ---- what clients do ---- */

static unsigned serial;

/* A request of a client's own, and all that comes of it. A good message costs nobody the
 * connection, whatever memory there is. Returns the final status, 0: none came. */
static int ask(struct client *client, const char *method, const char *uri, const char *to_tag,
               const char *more)
{
    const char *user = client == alice ? "alice" : "bob";

    answer[0] = '\0';
    if (!client->flow)
        return 0;
    serial++;
    assert_int_equal(edge_from_client(client,
                                      "%s %s SIP/2.0\nVia: SIP/2.0/TLS x.invalid;branch=z9hG4bKm%u;"
                                      "rport\nFrom: <sip:%s@sip.test>;tag=%s\nTo: <%s>%s%s\n"
                                      "Call-ID: memory\nCSeq: %u %s\nMax-Forwards: 70\n%s",
                                      method, uri, serial, user, user, uri, to_tag ? ";tag=" : "",
                                      to_tag ? to_tag : "", serial, method, more),
                     0);
    pump();
    return status_of(answer);
}

/* ACK, hop by hop or end to end, for `answer` of the last request. */
static void acknowledge(const char *uri, const char *routes)
{
    bool success = status_of(answer) / 100 == 2;
    char to[512];

    snprintf(to, sizeof(to), "%s", header_of(answer, "To", 0));
    edge_from_client(alice,
                     "ACK %s SIP/2.0\nVia: SIP/2.0/TLS x.invalid;branch=z9hG4bKm%u%s;rport\n%s"
                     "From: <sip:alice@sip.test>;tag=alice\nTo: %s\nCall-ID: memory\n"
                     "CSeq: %u ACK\nMax-Forwards: 70",
                     uri, serial, success ? "ack" : "", success ? routes : "", to, serial);
    pump();
}

static const char *routes_of(const char *message, bool reverse)
{
    static char routes[4096];
    char *at = routes;
    unsigned count = 0;

    *at = '\0';
    while (*header_of(message, "Record-Route", count))
        count++;
    for (unsigned i = 0; i < count; i++)
        at += sprintf(at, "Route: %s\n",
                      header_of(message, "Record-Route", reverse ? count - 1 - i : i));
    return routes;
}

/* ---- scenes ---- */

static void client_connects(void)
{
    edge_hang_up(alice);
    alice = edge_client(&edge, 0, "WSS");
    if (!alice)
        alice = &edge.clients[0];
}

static void register_with_the_pbx(void)
{
    static const char contact[] = "Contact: <sip:alice@x.invalid;transport=ws>;reg-id=1;"
                                  "+sip.instance=\"<u>\"\nSupported: outbound, path\n";
    char more[2048];

    if (ask(alice, "REGISTER", "sip:sip.test", NULL, contact) != 401)
        return;
    snprintf(more, sizeof(more), "%sAuthorization: Digest username=\"alice\", nonce=\"n\"\n",
             contact);
    ask(alice, "REGISTER", "sip:sip.test", NULL, more);
}

static void call_the_pbx(void)
{
    char routes[4096];

    pbx = PBX_ANSWERS;
    if (ask(alice, "INVITE", "sip:pbx@sip.test", NULL, "Contact: <sip:alice@x.invalid>\n") != 200) {
        if (answer[0])
            acknowledge("sip:pbx@sip.test", "");
        return;
    }
    snprintf(routes, sizeof(routes), "%s", routes_of(answer, true));
    acknowledge("sip:pbx@10.0.0.5:5060", routes);
    ask(alice, "UPDATE", "sip:pbx@10.0.0.5:5060", "b", routes);
    ask(alice, "BYE", "sip:pbx@10.0.0.5:5060", "b", routes);
}

static void early_dialog(void)
{
    char routes[4096];
    unsigned of_invite;

    pbx = PBX_EARLY;
    invite[0] = '\0';
    ask(alice, "INVITE", "sip:pbx@sip.test", NULL, "Contact: <sip:alice@x.invalid>\n");
    of_invite = serial;
    if (!invite[0] || answer[0])
        return;
    snprintf(routes, sizeof(routes), "%s", routes_of(invite, true));
    ask(alice, "PRACK", "sip:pbx@10.0.0.5:5060", "b", routes);
    ask(alice, "UPDATE", "sip:pbx@10.0.0.5:5060", "b", routes);
    answer[0] = '\0';
    edge_from_core(&edge, "%s",
                   response_to(invite, "486 Busy Here", "b", "Reason: Q.850;cause=17"));
    pump();
    serial = of_invite;
    if (answer[0])
        acknowledge("sip:pbx@sip.test", "");
    serial += 100;
}

static void cancel_a_call(void)
{
    pbx = PBX_RINGS;
    ask(alice, "INVITE", "sip:pbx@sip.test", NULL, "");
    if (answer[0])
        return;
    edge_from_client(alice,
                     "CANCEL sip:pbx@sip.test SIP/2.0\n"
                     "Via: SIP/2.0/TLS x.invalid;branch=z9hG4bKm%u;rport\n"
                     "From: <sip:alice@sip.test>;tag=alice\nTo: <sip:pbx@sip.test>\n"
                     "Call-ID: memory\nCSeq: %u CANCEL\nReason: SIP;cause=200",
                     serial, serial);
    pump();
    if (status_of(answer) >= 300)
        acknowledge("sip:pbx@sip.test", "");
}

static void call_from_the_pbx(void)
{
    char uri[1024], routes[4096];

    invite[0] = pbx_got[0] = '\0';
    pbx = PBX_ANSWERS;
    /* the PBX learns alice's masked Contact by her own call */
    ask(alice, "SUBSCRIBE", "sip:pbx@sip.test", NULL, "Contact: <sip:alice@x.invalid>\n");
    ask(alice, "INVITE", "sip:pbx@sip.test", NULL, "Contact: <sip:alice@x.invalid>\n");
    if (!invite[0])
        return;
    snprintf(uri, sizeof(uri), "%s", between(header_of(invite, "Contact", 0), "<", ">"));
    serial++;
    edge_from_core(&edge,
                   "INVITE %s SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.5;branch=z9hG4bKp%u;rport\n"
                   "From: <sip:pbx@sip.test>;tag=p\nTo: <sip:alice@sip.test>\nCall-ID: in\n"
                   "CSeq: %u INVITE\nContact: <sip:pbx@10.0.0.5>",
                   uri, serial, serial);
    pump();
    if (status_of(pbx_got) != 200)
        return;
    snprintf(routes, sizeof(routes), "%s", routes_of(pbx_got, true));
    for (unsigned i = 0; i < 2; i++) {
        edge_from_core(&edge,
                       "%s %s SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.5;branch=z9hG4bKp%u%s;rport\n"
                       "%sFrom: <sip:pbx@sip.test>;tag=p\nTo: <sip:alice@sip.test>;tag=c\n"
                       "Call-ID: in\nCSeq: %u %s",
                       i ? "BYE" : "ACK", uri, serial, i ? "bye" : "ack", routes, serial + i,
                       i ? "BYE" : "ACK");
        pump();
    }
}

static void client_to_client(void)
{
    char uri[1024];

    invite[0] = '\0';
    pbx = PBX_SILENT;
    if (!bob->flow)
        return;
    ask(bob, "INVITE", "sip:pbx@sip.test", NULL, "Contact: <sip:bob@x.invalid>\n");
    if (!invite[0])
        return;
    snprintf(uri, sizeof(uri), "%s", between(header_of(invite, "Contact", 0), "<", ">"));
    ask(alice, "MESSAGE", uri, "c", "");
    ask(alice, "INVITE", uri, "c", "");
}

static void flow_closes_in_a_call(void)
{
    pbx = PBX_ANSWERS_LATE;
    ask(alice, "INVITE", "sip:pbx@sip.test", NULL, "Contact: <sip:alice@x.invalid>\n");
    edge_hang_up(alice);
    pump();
    edge_wait(&edge, 1000);
    pump();
}

static void flow_closes_while_it_rings(void)
{
    char uri[1024];

    invite[0] = '\0';
    pbx = PBX_RINGS;
    ask(alice, "INVITE", "sip:pbx@sip.test", NULL, "Contact: <sip:alice@x.invalid>\n");
    if (!invite[0])
        return;
    snprintf(uri, sizeof(uri), "%s", between(header_of(invite, "Contact", 0), "<", ">"));
    edge_from_core(&edge,
                   "INVITE %s SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.5;branch=z9hG4bKp%u;rport\n"
                   "From: <sip:pbx@sip.test>;tag=p\nTo: <sip:alice@sip.test>\nCall-ID: in\n"
                   "CSeq: 1 INVITE",
                   uri, ++serial);
    pump();
    edge_hang_up(alice);
    pump();
}

static void nobody_answers(void)
{
    pbx = PBX_SILENT;
    ask(alice, "INVITE", "sip:pbx@sip.test", NULL, "");
    for (unsigned i = 0; i < 33; i++) {
        edge_wait(&edge, 1000);
        pump();
    }
}

#define HEAD_OF(n)                                                                                 \
    "Via: SIP/2.0/UDP 10.0.0.5;branch=z9hG4bKbad" n ";rport\nFrom: <sip:a@sip.test>;tag=a\n"       \
    "To: <sip:b@sip.test>;tag=b\nCall-ID: bad\n"

static void bad_messages(void)
{
    static const char *const bad[] = {
        "MESSAGE sip:b@x SIP/2.0\n" HEAD_OF("1") "CSeq: 2 MESSAGE\n",
        "INVITE http://x SIP/2.0\n" HEAD_OF("2"),
        "INVITE sip:b@x SIP/2.0\n" HEAD_OF("3") "Max-Forwards: 0\nProxy-Require: x\n",
        "OPTIONS sip:b@x SIP/2.0\n" HEAD_OF("4") "Max-Forwards: 0\n",
        "MESSAGE sip:b@x SIP/2.0\n" HEAD_OF("5") "Proxy-Require: x\nProxy-Require: y\n",
        "BYE sip:b@192.0.2.99 SIP/2.0\n" HEAD_OF("6") "Route: <sip:nowhere.test;lr>\n",
        "CANCEL sip:b@x SIP/2.0\n" HEAD_OF("7"),
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        const char *method = between(bad[i], "", " ");

        if (!alice->flow)
            return;
        edge_from_client(alice, "%sCSeq: 1 %s", bad[i], method);
        pump();
        edge_from_core(&edge, "%sCSeq: 1 %s", bad[i], method);
        pump();
    }
}

static void a_loop(void)
{
    char back[16384];

    pbx = PBX_SILENT;
    invite[0] = '\0';
    ask(alice, "INVITE", "sip:pbx@sip.test", NULL, "Contact: <sip:alice@x.invalid>\n");
    if (!invite[0])
        return;
    snprintf(back, sizeof(back),
             "INVITE sip:pbx@sip.test SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.5;branch=z9hG4bKl%u\n%s",
             serial, strstr(invite, "\r\n") + 2);
    edge_from_core(&edge, "%s", back);
    pump();
}

/* ---- with two backends ---- */

static void begin_with(int first)
{
    memset(&edge.health, 0, sizeof(edge.health)); /* of the scenes before */
    first_backend = first;
    pbx = PBX_ANSWERS;
    to_the_silent[0] = '\0';
}

/* The first one is silent, and answers when the call is with the second. */
static void the_first_backend_is_silent(void)
{
    begin_with(FIRST_SILENT);
    ask(alice, "INVITE", "sip:pbx@sip.test", NULL, "Contact: <sip:alice@x.invalid>\n");
    if (answer[0]) {
        if (status_of(answer) >= 300)
            acknowledge("sip:pbx@sip.test", "");
        first_backend = FIRST_WELL;
        return;
    }
    edge_wait(&edge, 1600);
    pump();
    if (is(to_the_silent, "INVITE")) {
        edge.pbx = edge_backend(0);
        edge_from_core(&edge, "%s",
                       response_to(to_the_silent, "200 OK", "l", "Contact: <sip:pbx@10.0.0.5>"));
    }
    first_backend = FIRST_WELL;
    pump();
}

static void the_first_backend_is_busy(void)
{
    begin_with(FIRST_BUSY);
    register_with_the_pbx();
    memset(&edge.health, 0, sizeof(edge.health));
    call_the_pbx();
    memset(&edge.health, 0, sizeof(edge.health));
    first_backend = FIRST_WELL;
}

/* ---- with the embedded registrar ---- */

static struct conf_user users[] = {
    {"alice", "wonder",  NULL, NULL},
    {"bob",   "builder", NULL, NULL},
};

/* The request again with the challenge of the registrar answered. */
static int ask_with_digest(struct client *client, const char *method, const char *uri,
                           const char *more)
{
    const struct login login = {client == alice ? "alice" : "bob",
                                client == alice ? "wonder" : "builder", "MD5", NULL, NULL};
    char again[4096], credentials[2048];

    challenge[0] = '\0';
    ask(client, method, uri, NULL, more);
    if (!challenge[0])
        return 0;
    if (strcmp(method, "INVITE") == 0)
        acknowledge(uri, "");
    edge_inside++;
    authorize(challenge, &login, method, uri, credentials);
    edge_inside--;
    snprintf(again, sizeof(again), "%s%s", more, credentials);
    return ask(client, method, uri, NULL, again);
}

static void register_and_call_a_fork(void)
{
    char routes[4096];

    ask_with_digest(alice, "REGISTER", "sip:sip.test",
                    "Contact: <sip:alice@x.invalid>\nExpires: 60\n");
    ask_with_digest(bob, "REGISTER", "sip:sip.test",
                    "Contact: <sip:bob@x.invalid;transport=ws>;q=0.5\nExpires: 60\n"
                    "Contact: <sip:bob@y.invalid;transport=ws>;q=0.5\n"
                    "Contact: <sip:bob@z.invalid;transport=ws>\n");
    pbx = PBX_ANSWERS;
    if (ask_with_digest(alice, "INVITE", "sip:bob@sip.test", "Contact: <sip:alice@x.invalid>\n") !=
        200)
        return;
    snprintf(routes, sizeof(routes), "%s", routes_of(answer, true));
    char uri[1024];
    snprintf(uri, sizeof(uri), "%s", between(header_of(answer, "Contact", 0), "<", ">"));
    acknowledge(uri, routes);
    ask(alice, "BYE", uri, "c", routes);
}

static void fork_and_cancel(void)
{
    ask_with_digest(bob, "REGISTER", "sip:sip.test",
                    "Contact: <sip:bob@x.invalid>\nContact: <sip:bob@y.invalid>\nExpires: 60\n");
    pbx = PBX_RINGS;
    ask_with_digest(alice, "INVITE", "sip:bob@sip.test", "Contact: <sip:alice@x.invalid>\n");
    edge_hang_up(alice);
    pump();
    edge_from_client(bob, "%s", response_to(rings, "487 Request Terminated", "c", NULL));
    pump();
}

/* ---- playing them ---- */

static void drain(void)
{
    while (timers_count(edge.timers)) { /* timer C, a binding: minutes of the edge's clock */
        edge_wait(&edge, 4000);
        pump();
    }
}

static void all_there(void)
{
    if (!alice->flow)
        assert_non_null(alice = edge_client(&edge, 0, "TLS"));
    if (!bob->flow)
        assert_non_null(bob = edge_client(&edge, 1, "WSS"));
}

/* A refusal that says what is true: there was no memory, and so on. What a scene is told when all
 * goes well is fine too. */
static bool honest(int status)
{
    static const int statuses[] = {408, 430, 480, 481, 487, 500, 503};

    for (size_t i = 0; i < ARRAY_LEN(statuses); i++)
        if (statuses[i] == status)
            return true;
    return false;
}

/* One scene with one failure, or more. false: there was none, it has been played to its end. */
static bool play(void (*scene)(void), unsigned long first, bool once, bool told_well[STATUS_MAX])
{
    bool failed;

    memset(told, 0, sizeof(told));
    memory.first = first;
    memory.once = once;
    memory.count = memory.failed = 0;
    memory.on = first > 0;
    scene();
    memory.on = false;
    failed = memory.failed > 0;
    for (int status = 100; first && status < STATUS_MAX; status++)
        if (told[status] && !told_well[status] && !honest(status))
            fail_msg("allocation %lu: somebody was told %d", first, status);
    if (!first)
        memcpy(told_well, told, sizeof(told));
    drain();
    all_there();
    drain();
    assert_int_equal(proxy_sizes(edge.proxy).transactions, 0);
    assert_int_equal(proxy_sizes(edge.proxy).requests, 0);
    assert_int_equal(timers_count(edge.timers), 0);
    return failed;
}

/* What comes from a free list can't fail: a scene alone may allocate nothing. */
static void check_scene(void (*scene)(void), void (*normal)(void), const char *name)
{
    static unsigned long in_all;
    bool told_well[STATUS_MAX], normally[STATUS_MAX];

    play(normal, 0, true, normally);
    play(scene, 0, true, told_well);
    for (int once = 0; once < 2; once++) {
        unsigned long k = 1;

        while (play(scene, k, once, told_well)) {
            play(normal, 0, true, told_well);
            if (memcmp(told, normally, sizeof(told)) != 0)
                fail_msg("%s, allocation %lu: a call is not what it was", name, k);
            play(scene, 0, true, told_well);
            k++;
        }
        print_message("%s: %lu allocations\n", name, k - 1);
        in_all += k - 1;
        assert_true(in_all > 0);
    }
}

#define CHECK_SCENE(scene, normal) check_scene(scene, normal, #scene)

static void scenes_with_a_pbx_survive_any_failure(void **state) /* V7 */
{
    (void)state;
    CHECK_SCENE(client_connects, call_the_pbx);
    CHECK_SCENE(register_with_the_pbx, call_the_pbx);
    CHECK_SCENE(call_the_pbx, call_the_pbx);
    CHECK_SCENE(early_dialog, call_the_pbx);
    CHECK_SCENE(cancel_a_call, call_the_pbx);
    CHECK_SCENE(flow_closes_in_a_call, call_the_pbx);
    CHECK_SCENE(nobody_answers, call_the_pbx);
    CHECK_SCENE(bad_messages, call_the_pbx);
    CHECK_SCENE(a_loop, call_the_pbx);
}

static void scenes_with_path_survive_any_failure(void **state) /* V7 */
{
    (void)state;
    CHECK_SCENE(register_with_the_pbx, call_the_pbx);
    CHECK_SCENE(call_the_pbx, call_the_pbx);
}

static void scenes_towards_clients_survive_any_failure(void **state) /* V7 */
{
    (void)state;
    CHECK_SCENE(call_from_the_pbx, call_the_pbx);
    CHECK_SCENE(client_to_client, call_the_pbx);
    CHECK_SCENE(flow_closes_while_it_rings, call_the_pbx);
}

static void scenes_with_two_backends_survive_any_failure(void **state) /* V7, B3 */
{
    (void)state;
    CHECK_SCENE(the_first_backend_is_silent, call_the_pbx);
    CHECK_SCENE(the_first_backend_is_busy, call_the_pbx);
}

static void scenes_with_the_registrar_survive_any_failure(void **state) /* V7 */
{
    (void)state;
    CHECK_SCENE(register_and_call_a_fork, register_and_call_a_fork);
    CHECK_SCENE(fork_and_cancel, register_and_call_a_fork);
}

/* The making of all that lives as long as the program. */
static void what_can_not_be_made_is_an_error(void **state) /* V7 */
{
    (void)state;
    for (bool failed = true; failed;) {
        struct proxy *proxy = NULL;
        struct registrar *other = NULL;
        struct timers *timers = NULL;
        static unsigned long first;
        const uint8_t key[32] = {1};
        struct proxy_options options = {
            .core = &edge.view, .health = &edge.health, .timers = edge.timers, .run_key = key};

        memory.first = ++first;
        memory.once = true;
        memory.count = memory.failed = 0;
        memory.on = true;
        int errs[] = {
            timers_create(0, &timers),
            proxy_create(&options, &proxy),
            registrar_create(&(struct registrar_options){.conf = &edge.conf,
                                                         .timers = edge.timers,
                                                         .send = registrar_sent},
                             &other),
        };
        memory.on = false;
        failed = memory.failed > 0;
        int err = 0;
        for (size_t i = 0; i < ARRAY_LEN(errs); i++) {
            assert_true(errs[i] <= 0);
            err = err ? err : errs[i];
        }
        assert_true(failed || !err); /* libcrypto can do without some */
        assert_true((errs[0] == 0) == (timers != NULL) && (errs[1] == 0) == (proxy != NULL) &&
                    (errs[2] == 0) == (other != NULL));
        timers_destroy(&timers);
        proxy_destroy(&proxy);
        registrar_destroy(&other);
    }
}

/* Another configuration that there is no memory for: the one before goes on as it was. */
static void what_can_not_be_prepared_changes_nothing(void **state) /* V7 */
{
    static struct conf_user more[] = {
        {.name = "alice", .password = "wonder"},
        {.name = "zoe",   .password = "new"   },
    };
    struct conf larger = edge.conf;
    bool failed = true;

    (void)state;
    larger.limits.message_size *= 2;
    larger.flow_token_key_count = 1;
    larger.users = more;
    larger.user_count = ARRAY_LEN(more);
    memory.first = 0;
    while (failed) {
        memory.first++;
        memory.once = true;
        memory.count = memory.failed = 0;
        memory.on = true;
        int err = proxy_conf_prepare(edge.proxy, &larger);
        int registrar_err = registrar_prepare(registrar, &larger);
        memory.on = false;
        failed = memory.failed > 0;
        assert_true(err == 0 || err == -ENOMEM);
        assert_true(registrar_err == 0 || registrar_err == -ENOMEM);
        assert_true(failed || (!err && !registrar_err));
    }
    registrar_take(registrar, &larger);
    registrar_prepare(registrar, &edge.conf);
    registrar_take(registrar, &edge.conf);
}

static int setup_two(void **state)
{
    (void)state;
    edge_setup(&edge, false);
    edge_backends(&edge, 2);
    alice = edge_client(&edge, 0, "TLS");
    bob = edge_client(&edge, 1, "WSS");
    return 0;
}

static int setup_embedded(void **state)
{
    (void)state;
    edge_setup(&edge, false);
    edge.view.endpoints[0].addr = (struct core_addr){.kind = CORE_EMBEDDED};
    edge.conf.backend_count = 0;
    edge.conf.users = users;
    edge.conf.user_count = ARRAY_LEN(users);
    edge.conf.registrar.realm = "home";
    edge.conf.registrar.min_expires_s = 60;
    edge.conf.registrar.default_expires_s = 3600;
    edge.conf.registrar.max_expires_s = 7200;
    edge.conf.registrar.max_bindings = 4;
    edge.conf.registrar.nonce_lifetime_s = 300;
    edge_start(&edge);
    alice = edge_client(&edge, 0, "TLS");
    bob = edge_client(&edge, 1, "WSS");
    struct registrar_options options = {
        .conf = &edge.conf, .timers = edge.timers, .send = registrar_sent};
    assert_int_equal(registrar_create(&options, &registrar), 0);
    return 0;
}

static int teardown_embedded(void **state)
{
    registrar_destroy(&registrar);
    return teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_can_not_be_made_is_an_error, setup_embedded,
                                        teardown_embedded),
        cmocka_unit_test_setup_teardown(what_can_not_be_prepared_changes_nothing, setup_embedded,
                                        teardown_embedded),
        MASK(scenes_with_a_pbx_survive_any_failure),
        PATH(scenes_with_path_survive_any_failure),
        MASK(scenes_towards_clients_survive_any_failure),
        cmocka_unit_test_setup_teardown(scenes_with_two_backends_survive_any_failure, setup_two,
                                        teardown),
        cmocka_unit_test_setup_teardown(scenes_with_the_registrar_survive_any_failure,
                                        setup_embedded, teardown_embedded),
    };

    if (!CRYPTO_set_mem_functions(crypto_malloc, crypto_realloc, crypto_free))
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}

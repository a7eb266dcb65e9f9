/* The embedded registrar's tests: strings go in as the edge sends them, what comes out is kept, the
 * clock is set by hand. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "login.h"
#include "proxy/registrar.h"
#include "proxy/str.h"
#include "proxy/timer.h"
#include "proxy/value.h"

enum { SENT_MAX = 64, TEXT_MAX = 16384 };

struct edge {
    struct conf conf;
    struct timers *timers;
    struct registrar *registrar;
    uint64_t now;
    char *sent[SENT_MAX]; /* since the last take_all() */
    unsigned sent_count;
    unsigned cseq; /* of the last REGISTER */
};

/* HA1 hashes of carol, whose password is "sesame", and dave with SHA-256 only. */
static struct conf_user edge_users[] = {
    {"alice", "wonder",  NULL, NULL},
    {"bob",   "builder", NULL, NULL},
    {"carol", NULL,      NULL, NULL},
    {"dave",  NULL,      NULL, NULL},
};
static char *edge_aliases[] = {"alias.test"};
static char edge_hashes[3][65];

static inline void edge_sent(void *context, struct str bytes)
{
    struct edge *edge = context;

    assert_true(edge->sent_count < SENT_MAX);
    edge->sent[edge->sent_count] = strndup(bytes.p, bytes.len);
    assert_non_null(edge->sent[edge->sent_count++]);
}

static inline void take_all(struct edge *edge)
{
    while (edge->sent_count)
        free(edge->sent[--edge->sent_count]);
}

static inline int edge_setup(void **state)
{
    struct edge *edge = calloc(1, sizeof(*edge));
    struct registrar_options options;

    assert_non_null(edge);
    sip_values_init();
    hash_text("MD5", "carol:home:sesame", edge_hashes[0]);
    hash_text("SHA256", "carol:home:sesame", edge_hashes[1]);
    hash_text("SHA256", "dave:home:jones", edge_hashes[2]);
    edge_users[2].ha1_md5 = edge_hashes[0];
    edge_users[2].ha1_sha256 = edge_hashes[1];
    edge_users[3].ha1_sha256 = edge_hashes[2];
    edge->conf.domain = "sip.test";
    edge->conf.aliases = edge_aliases;
    edge->conf.alias_count = ARRAY_LEN(edge_aliases);
    edge->conf.users = edge_users;
    edge->conf.user_count = ARRAY_LEN(edge_users);
    edge->conf.registrar.realm = "home";
    edge->conf.registrar.min_expires_s = 60;
    edge->conf.registrar.default_expires_s = 3600;
    edge->conf.registrar.max_expires_s = 7200;
    edge->conf.registrar.max_bindings = 3;
    edge->conf.registrar.nonce_lifetime_s = 300;
    edge->conf.limits.message_size = 65536;
    edge->conf.limits.transactions = 100;
    edge->now = 1000000;
    assert_int_equal(timers_create(edge->now, &edge->timers), 0);
    options = (struct registrar_options){
        .conf = &edge->conf, .timers = edge->timers, .send = edge_sent, .context = edge};
    assert_int_equal(registrar_create(&options, &edge->registrar), 0);
    *state = edge;
    return 0;
}

static inline int edge_teardown(void **state)
{
    struct edge *edge = *state;

    registrar_destroy(&edge->registrar);
    timers_destroy(&edge->timers);
    take_all(edge);
    free(edge);
    return 0;
}

#define edge_test(f) cmocka_unit_test_setup_teardown(f, edge_setup, edge_teardown)

static inline void receive(struct edge *edge, const char *text)
{
    char *bytes = strdup(text); /* it may be changed in place */

    assert_non_null(bytes);
    registrar_receive(edge->registrar, bytes, strlen(text), edge->now);
    free(bytes);
}

static inline void pass(struct edge *edge, uint64_t ms)
{
    edge->now += ms;
    timers_run(edge->timers, edge->now);
}

/* ---- reading what was sent ---- */

static inline const char *last_sent(const struct edge *edge)
{
    assert_true(edge->sent_count > 0);
    return edge->sent[edge->sent_count - 1];
}

static inline int status_of(const char *text)
{
    return strncmp(text, "SIP/2.0 ", 8) == 0 ? atoi(text + 8) : 0; /* NOLINT(cert-err34-c) */
}

static inline int last_status(const struct edge *edge)
{
    return status_of(last_sent(edge));
}

/* The n-th header line that begins with `start`, without it; NULL: none. Static memory. */
static inline const char *line_of(const char *text, const char *start, unsigned n)
{
    static char lines[8][4096];
    static unsigned turn;
    char *line = lines[turn++ % 8];

    for (const char *at = text; (at = strchr(at, '\n')) != NULL;) {
        at++;
        if (strncmp(at, start, strlen(start)) != 0 || n-- > 0)
            continue;
        at += strlen(start);
        (void)snprintf(line, sizeof(lines[0]), "%.*s", (int)strcspn(at, "\r\n"), at);
        return line;
    }
    return NULL;
}

static inline unsigned count_of(const char *text, const char *start)
{
    unsigned n = 0;

    while (line_of(text, start, n))
        n++;
    return n;
}

/* The n-th message sent that begins with `start` ("INVITE ", "SIP/2.0 180"); NULL: none. */
static inline const char *find_sent(const struct edge *edge, const char *start, unsigned n)
{
    for (unsigned i = 0; i < edge->sent_count; i++)
        if (strncmp(edge->sent[i], start, strlen(start)) == 0 && n-- == 0)
            return edge->sent[i];
    return NULL;
}

static const struct login alice = {"alice", "wonder", "MD5", NULL, NULL};
static const struct login bob = {"bob", "builder", "MD5", NULL, NULL};

/* ---- REGISTER ---- */

/* `lines`: Contact and other header lines with CRLF. */
static inline void register_once(struct edge *edge, const char *aor_user, const char *call_id,
                                 unsigned cseq, const char *lines, const char *credentials)
{
    static unsigned branch;
    char text[TEXT_MAX];

    (void)snprintf(text, sizeof(text),
                   "REGISTER sip:sip.test SIP/2.0\r\n"
                   "Via: SIP/2.0/UDP core.invalid;branch=z9hG4bKr%u\r\n"
                   "Max-Forwards: 69\r\n"
                   "From: <sip:%s@sip.test>;tag=f1\r\n"
                   "To: <sip:%s@sip.test>\r\n"
                   "Call-ID: %s\r\n"
                   "CSeq: %u REGISTER\r\n"
                   "%s%s"
                   "Content-Length: 0\r\n\r\n",
                   ++branch, aor_user, aor_user, call_id, cseq, lines, credentials);
    receive(edge, text);
}

/* With the challenge answered. Returns the status that came last. */
static inline int register_as(struct edge *edge, const struct login *login, const char *call_id,
                              const char *lines)
{
    char credentials[2048];

    register_once(edge, login->user, call_id, ++edge->cseq, lines, "");
    if (last_status(edge) != 401)
        return last_status(edge);
    authorize(last_sent(edge), login, "REGISTER", "sip:sip.test", credentials);
    register_once(edge, login->user, call_id, ++edge->cseq, lines, credentials);
    return last_status(edge);
}

/* ---- other requests ---- */

struct call {
    const char *method, *uri, *from, *branch, *call_id, *lines, *to_tag;
    unsigned cseq;
};

static inline void request_send(struct edge *edge, const struct call *call, const char *credentials)
{
    char text[TEXT_MAX];

    (void)snprintf(text, sizeof(text),
                   "%s %s SIP/2.0\r\n"
                   "Via: SIP/2.0/UDP core.invalid;branch=z9hG4bK%s\r\n"
                   "%s"
                   "From: <%s>;tag=f1\r\n"
                   "To: <%s>%s%s\r\n"
                   "Call-ID: %s\r\n"
                   "CSeq: %u %s\r\n"
                   "%s%s"
                   "Content-Length: 4\r\n\r\nbody",
                   call->method, call->uri, call->branch,
                   strstr(call->lines, "Max-Forwards") ? "" : "Max-Forwards: 69\r\n", call->from,
                   call->uri, call->to_tag ? ";tag=" : "", call->to_tag ? call->to_tag : "",
                   call->call_id, call->cseq, call->method, call->lines, credentials);
    receive(edge, text);
}

/* Answer a request that the registrar sent, as the edge would. */
static inline void respond(struct edge *edge, const char *request, const char *status,
                           const char *to_tag)
{
    char text[TEXT_MAX];
    int len = snprintf(text, sizeof(text), "SIP/2.0 %s\r\n", status);
    const char *via, *to = line_of(request, "To: ", 0);

    for (unsigned i = 0; (via = line_of(request, "Via: ", i)) != NULL; i++)
        len += snprintf(text + len, sizeof(text) - (size_t)len, "Via: %s\r\n", via);
    (void)snprintf(text + len, sizeof(text) - (size_t)len,
                   "From: %s\r\nTo: %s%s%s\r\nCall-ID: %s\r\nCSeq: %s\r\n"
                   "Content-Length: 0\r\n\r\n",
                   line_of(request, "From: ", 0), to,
                   strstr(to, ";tag=") ? "" : ";tag=", strstr(to, ";tag=") ? "" : to_tag,
                   line_of(request, "Call-ID: ", 0), line_of(request, "CSeq: ", 0));
    receive(edge, text);
}

/* Two networks without sockets, a clock set by hand, and a user that writes down what it is told:
 * for the tests of the transaction layer. One test at a time, so all of it is static. */
#pragma once

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proxy/transaction.h"

#define TEST(name) static void name(void **state)

enum { SENT_MAX = 128, EVENTS_MAX = 64 };

static struct timers *timers;
static struct transactions *table;
static uint64_t now;

/* What was sent, when, where to. */
static struct {
    uint64_t at;
    struct hop to;
    char text[2048];
} sent[SENT_MAX];
static unsigned sent_count;
static int send_error; /* what send() answers */

/* What the user was told: "486", "failed -110", "ended" of a client; "server ended". */
static struct {
    uint64_t at;
    char text[32];
} events[EVENTS_MAX];
static unsigned event_count;
static enum { DROP_NEVER, DROP_IN_RESPONSE, DROP_IN_FAILED, DROP_IN_ENDED } drop_in;

static int record_send(void *context, const struct hop *to, struct str bytes)
{
    (void)context;
    assert_true(sent_count < SENT_MAX);
    assert_true(bytes.len < sizeof(sent[0].text));
    sent[sent_count].at = now;
    sent[sent_count].to = *to;
    memcpy(sent[sent_count].text, bytes.p, bytes.len);
    sent[sent_count++].text[bytes.len] = '\0';
    return send_error;
}

static void event(const char *format, int number)
{
    assert_true(event_count < EVENTS_MAX);
    events[event_count].at = now;
    (void)snprintf(events[event_count].text, sizeof(events[0].text), format, number);
    event_count++;
}

static int owner; /* its address stands for the user's own object */

static void on_response(void *of, struct client_transaction *client, struct sip_msg *response,
                        uint64_t at)
{
    assert_ptr_equal(of, &owner);
    assert_true(at == now);
    event("%d", response->status);
    if (drop_in == DROP_IN_RESPONSE)
        client_transaction_drop(client);
}

static void on_failed(void *of, struct client_transaction *client, int err, uint64_t at)
{
    assert_ptr_equal(of, &owner);
    assert_true(at == now);
    event("failed %d", err);
    client_transaction_cancel(client, at); /* comes too late: nothing */
    if (drop_in == DROP_IN_FAILED)
        client_transaction_drop(client);
}

static void on_client_ended(void *of, struct client_transaction *client, uint64_t at)
{
    assert_ptr_equal(of, &owner);
    assert_true(at == now);
    event("ended", 0);
    if (drop_in == DROP_IN_ENDED)
        client_transaction_drop(client);
}

static void on_server_ended(void *of, struct server_transaction *server, uint64_t at)
{
    assert_ptr_equal(of, &owner);
    assert_true(at == now);
    event("server ended", 0);
    server_transaction_send(server, 200, STR("too late"), at);
    server_transaction_reply(server, 200, NULL, STR(""), at);
    if (drop_in == DROP_IN_ENDED)
        server_transaction_drop(server);
}

static const struct transaction_user user = {
    .response = on_response,
    .client_failed = on_failed,
    .client_ended = on_client_ended,
    .server_ended = on_server_ended,
};

/* ---- memory that is not there ---- */

/* The linker leads all allocations here (--wrap). Each `fail_every`-th one fails from the
 * `fail_at`-th on; fail_at 0: none. */
static unsigned allocations, fail_at, fail_every;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *p, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *p, size_t size);

static bool allocation_fails(void)
{
    allocations++;
    return fail_at && allocations >= fail_at && (allocations - fail_at) % fail_every == 0;
}

void *__wrap_malloc(size_t size)
{
    return allocation_fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return allocation_fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *p, size_t size)
{
    return allocation_fails() ? NULL : __real_realloc(p, size);
}

static void memory_fails(unsigned at, unsigned every)
{
    allocations = 0;
    fail_at = at;
    fail_every = every;
}

static void memory_is_back(void)
{
    fail_at = 0;
}

/* ---- the clock ---- */

enum { BEGIN = 1000000 };

static void begin_with(size_t max)
{
    struct transactions_options options = {.worker = 0x2a, .max = max, .send = record_send};

    now = BEGIN;
    sent_count = event_count = 0;
    send_error = 0;
    drop_in = DROP_NEVER;
    assert_int_equal(timers_create(now, &timers), 0);
    options.timers = timers;
    assert_int_equal(transactions_create(&options, &table), 0);
}

static void begin(void)
{
    begin_with(100);
}

/* Go on to a time after the begin, as a loop would: from timer to timer. */
static void clock_to(uint64_t ms)
{
    uint64_t until = BEGIN + ms, next;

    while ((next = timers_next(timers)) <= until) {
        now = next > now ? next : now;
        timers_run(timers, now);
    }
    now = until;
    timers_run(timers, now);
}

/* Every test ends with an empty table, unless it says why not. */
static void end(void)
{
    assert_int_equal(transactions_count(table), 0);
    assert_true(timers_next(timers) == UINT64_MAX);
    transactions_destroy(&table);
    assert_null(table);
    transactions_destroy(&table);
    timers_destroy(&timers);
}

/* ---- who is who ---- */

static char flow_objects[2]; /* only their addresses matter */

static struct hop on_flow(unsigned i)
{
    return (struct hop){.flow = (struct flow *)(void *)&flow_objects[i]};
}

static struct hop on_udp(uint32_t ip, uint16_t port)
{
    struct hop hop = {.core = {.kind = CORE_UDP}};

    hop.core.in.sin_family = AF_INET;
    hop.core.in.sin_addr.s_addr = htonl(ip);
    hop.core.in.sin_port = htons(port);
    return hop;
}

static struct hop on_udp6(uint8_t last, uint16_t port)
{
    struct hop hop = {.core = {.kind = CORE_UDP}};

    hop.core.in6.sin6_family = AF_INET6;
    hop.core.in6.sin6_addr.s6_addr[15] = last;
    hop.core.in6.sin6_port = htons(port);
    return hop;
}

static inline struct hop on_tcp(uint32_t ip, uint16_t port)
{
    struct hop hop = on_udp(ip, port);

    hop.core.kind = CORE_TCP;
    return hop;
}

static struct hop pbx(void)
{
    return on_udp(0x0A000005, 5060);
}

/* ---- messages ---- */

static struct sip_msg *scan(const char *format, ...) __attribute__((format(printf, 1, 2)));
static struct sip_msg *scan(const char *format, ...)
{
    static char bytes[4096];
    static struct sip_msg msg;
    va_list args;
    int len;

    va_start(args, format);
    len = vsnprintf(bytes, sizeof(bytes), format, args);
    va_end(args);
    assert_true(len > 0 && len < (int)sizeof(bytes));
    assert_int_equal(sip_scan(bytes, (size_t)len, SIP_DATAGRAM, true, &msg), 0);
    return &msg;
}

/* When an answered request is over that does not end at once, and those that came with it. */
enum {
    J_OVER = TIMER_64_T1_MS + TIMER_SLACK_MS,
    K_OVER = TIMER_T4_MS + TIMER_SLACK_MS,
};

/* ---- checks ---- */

/* Messages from the first one on that begin with `start`, at these times after the begin. */
static void check_sent_(const char *start, const uint64_t *at, unsigned count, int line)
{
    unsigned seen = 0;

    for (unsigned i = 0; i < sent_count; i++) {
        if (strncmp(sent[i].text, start, strlen(start)) != 0)
            continue;
        if (seen >= count || sent[i].at != BEGIN + at[seen])
            fail_msg("line %d: \"%s\" number %u was sent at %" PRIu64, line, start, seen,
                     sent[i].at - BEGIN);
        seen++;
    }
    if (seen != count)
        fail_msg("line %d: \"%s\" was sent %u times, not %u", line, start, seen, count);
}

#define CHECK_SENT(start, ...)                                                                     \
    check_sent_(start, (const uint64_t[]){__VA_ARGS__},                                            \
                sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t), __LINE__)
#define CHECK_NOT_SENT(start) check_sent_(start, NULL, 0, __LINE__)

/* The next thing the user was told, in order; CHECK_QUIET: nothing more. */
static void check_event_(uint64_t at, const char *text, int line)
{
    if (!event_count || events[0].at != BEGIN + at || strcmp(events[0].text, text) != 0)
        fail_msg("line %d: \"%s\" at %" PRIu64 " instead of \"%s\" at %" PRIu64, line,
                 event_count ? events[0].text : "nothing", event_count ? events[0].at - BEGIN : 0,
                 text, at);
    event_count--;
    memmove(events, events + 1, event_count * sizeof(events[0]));
}

#define CHECK_EVENT(at, text) check_event_(at, text, __LINE__)
#define CHECK_QUIET()                                                                              \
    do {                                                                                           \
        if (event_count)                                                                           \
            fail_msg("line %d: \"%s\" was told", __LINE__, events[0].text);                        \
    } while (0)

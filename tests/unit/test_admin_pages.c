/* Pages of the admin side that are made of a report. */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "admin/backends.h"
#include "admin/health.h"

enum { UDP, AUTO, TCP, GONE, COUNT };
enum { NOW = 100000 };

static struct conf_backend hosts[] = {
    {.host = "pbx.example.com", .transport = CONF_TRANSPORT_AUTO, .priority = 1, .weight = 1},
    {.host = "10.0.0.9",        .transport = CONF_TRANSPORT_TCP,  .priority = 2, .weight = 3},
    {.host = "nowhere.example", .transport = CONF_TRANSPORT_UDP,  .priority = 3, .weight = 4},
};

static struct conf conf;
static struct core_view view;
static struct health health;
static struct report report;

static struct core_addr at(unsigned number, enum core_kind kind)
{
    struct core_addr addr = {.kind = kind};

    addr.in.sin_family = AF_INET;
    addr.in.sin_port = htons(5060);
    addr.in.sin_addr.s_addr = htonl(0x0a000000 + number);
    return addr;
}

/* 10.0.0.1 and .2 of a name, .9, and .4 that no name leads to any more. */
static int setup(void **state)
{
    (void)state;
    memset(&view, 0, sizeof(view));
    memset(&health, 0, sizeof(health));
    conf = (struct conf){.backends = hosts, .backend_count = 3};
    view.conf = &conf;
    view.endpoint_count = COUNT;
    view.endpoints[UDP] = (struct endpoint){
        .addr = at(1, CORE_UDP), .slot = 7, .priority = 1U << ENDPOINT_RANK_BITS, .weight = 0.25};
    view.endpoints[AUTO] = (struct endpoint){.addr = at(2, CORE_UDP),
                                             .tcp_too = true,
                                             .slot = 3,
                                             .priority = (1U << ENDPOINT_RANK_BITS) + 2,
                                             .weight = 0.75};
    view.endpoints[TCP] = (struct endpoint){.addr = at(9, CORE_TCP),
                                            .slot = 5,
                                            .backend = 1,
                                            .priority = 2U << ENDPOINT_RANK_BITS,
                                            .weight = 3};
    view.endpoints[GONE] = (struct endpoint){
        .addr = at(4, CORE_UDP), .slot = 1, .backend = 17, .retired = true, .weight = 1};
    report = (struct report){
        .phase = REPORT_SERVING,
        .now = NOW,
        .wall_ms = INT64_C(1795422245678),
        .conf = &conf,
        .view = &view,
        .health = &health,
        .worker_count = 3,
        .responding = {true, true, true}
    };
    return 0;
}

static void says(int (*print)(const struct report *, FILE *), int status, const char *text)
{
    size_t size;
    char *body;
    FILE *out = open_memstream(&body, &size);

    assert_non_null(out);
    assert_int_equal(print(&report, out), status);
    (void)fclose(out);
    assert_string_equal(body, text);
    free(body);
}

static void it_is_alive_while_all_workers_answer(void **state)
{
    (void)state;
    says(healthz_print, 200, "alive\n");
    report.phase = REPORT_DRAINING; /* nobody should kill it for that */
    says(healthz_print, 200, "alive\n");
    report.responding[1] = false;
    says(healthz_print, 503, "no answer within a second from worker 1\n");
    report.responding[2] = false;
    says(healthz_print, 503, "no answer within a second from worker 1, 2\n");
}

static void it_is_ready_while_it_serves_and_a_backend_is_up(void **state)
{
    (void)state;
    says(readyz_print, 200, "ready\n"); /* of which nothing is heard: as good as up */
    health_down(&health, 7);
    health_busy(&health, 3, NOW + 1);
    says(readyz_print, 200, "ready\n");
    health_down(&health, 5);
    says(readyz_print, 503, "no backend is up\n");
    report.now = NOW + 1; /* busy no more */
    says(readyz_print, 200, "ready\n");
    view.endpoint_count = 0;
    says(readyz_print, 503, "no backend is up\n");
    report.phase = REPORT_STARTING;
    says(readyz_print, 503, "starting\n");
    report.phase = REPORT_DRAINING;
    report.view = NULL;
    says(readyz_print, 503, "draining\n");
}

/* The members of one entry that may change, from its state on. */
static void entry_ends(unsigned i, const char *end)
{
    char *body, *entry, *close;
    size_t size;
    FILE *out = open_memstream(&body, &size);

    assert_non_null(out);
    assert_int_equal(backends_print(&report, out), 200);
    (void)fclose(out);
    entry = strstr(body, "\"state\"");
    while (i--)
        entry = strstr(entry + 1, "\"state\"");
    close = strstr(entry, ",\n      \"responses\"");
    *close = '\0';
    for (char *from = entry, *to = entry;; from++) { /* one blank for many */
        if ((*from == ' ' || *from == '\n') && to > entry && to[-1] == ' ')
            continue;
        *to++ = (char)(*from == '\n' ? ' ' : *from);
        if (!*from)
            break;
    }
    assert_string_equal(entry, end);
    free(body);
}

static void each_address_of_a_backend_is_an_entry(void **state)
{
    (void)state;
    view.endpoint_count = 2;
    conf.backend_count = 1;
    report.sum.proxy.backends[3] = (struct histogram){
        .buckets = {1, 0, 2, [HISTOGRAM_BOUNDS] = 1},
          .sum_ms = 500
    };
    says(backends_print, 200,
         "{\n"
         "  \"backends\": [\n"
         "    {\n"
         "      \"backend\": \"pbx.example.com\",\n"
         "      \"address\": \"10.0.0.1:5060\",\n"
         "      \"transport\": \"udp\",\n"
         "      \"priority\": 1,\n"
         "      \"rank\": 0,\n"
         "      \"weight\": 0.25,\n"
         "      \"state\": \"unknown\",\n"
         "      \"since\": null,\n"
         "      \"reason\": null,\n"
         "      \"busy_until\": null,\n"
         "      \"responses\": null\n"
         "    },\n"
         "    {\n"
         "      \"backend\": \"pbx.example.com\",\n"
         "      \"address\": \"10.0.0.2:5060\",\n"
         "      \"transport\": \"auto\",\n"
         "      \"priority\": 1,\n"
         "      \"rank\": 2,\n"
         "      \"weight\": 0.75,\n"
         "      \"state\": \"unknown\",\n"
         "      \"since\": null,\n"
         "      \"reason\": null,\n"
         "      \"busy_until\": null,\n"
         "      \"responses\": {\n"
         "        \"count\": 4,\n"
         "        \"mean_seconds\": 0.125\n"
         "      }\n"
         "    }\n"
         "  ]\n"
         "}\n");
}

static void an_entry_says_since_when_and_why(void **state)
{
    (void)state;
    health_down(&health, 7);
    health_changed(&health, 7, &(struct health_change){NOW - 2678, HEALTH_PROBES_SILENT, 3});
    entry_ends(UDP, "\"state\": \"down\", \"since\": \"2026-11-23T08:24:03.000Z\", "
                    "\"reason\": \"3 probes without an answer\", \"busy_until\": null");
    health_changed(&health, 7, &(struct health_change){NOW, HEALTH_REFUSED, ECONNREFUSED});
    entry_ends(UDP, "\"state\": \"down\", \"since\": \"2026-11-23T08:24:05.678Z\", "
                    "\"reason\": \"Connection refused\", \"busy_until\": null");
    health_up(&health, 7);
    health_changed(&health, 7, &(struct health_change){NOW, HEALTH_PROBES_ANSWERED, 2});
    entry_ends(UDP, "\"state\": \"up\", \"since\": \"2026-11-23T08:24:05.678Z\", "
                    "\"reason\": \"2 probes answered\", \"busy_until\": null");

    health_busy(&health, 5, NOW + 4322);
    health_changed(&health, 5, &(struct health_change){NOW - 678, HEALTH_RETRY_AFTER, 5});
    entry_ends(TCP, "\"state\": \"busy\", \"since\": \"2026-11-23T08:24:05.000Z\", "
                    "\"reason\": \"503, Retry-After: 5\", "
                    "\"busy_until\": \"2026-11-23T08:24:10.000Z\"");
    report.now += 4322; /* and so is over */
    report.wall_ms += 4322;
    entry_ends(TCP, "\"state\": \"unknown\", \"since\": \"2026-11-23T08:24:10.000Z\", "
                    "\"reason\": null, \"busy_until\": null");
}

static void what_is_retired_or_has_no_address_is_said(void **state)
{
    (void)state;
    entry_ends(GONE,
               "\"state\": \"retired\", \"since\": null, \"reason\": null, \"busy_until\": null");
    entry_ends(COUNT, "\"state\": \"unresolved\", \"since\": null, "
                      "\"reason\": \"its name has no address yet\", \"busy_until\": null");
    report.view = NULL;
    says(backends_print, 200, "{\n  \"backends\": []\n}\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(it_is_alive_while_all_workers_answer, setup),
        cmocka_unit_test_setup(it_is_ready_while_it_serves_and_a_backend_is_up, setup),
        cmocka_unit_test_setup(each_address_of_a_backend_is_an_entry, setup),
        cmocka_unit_test_setup(an_entry_says_since_when_and_why, setup),
        cmocka_unit_test_setup(what_is_retired_or_has_no_address_is_said, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The page for Prometheus, printed from a report that is made up. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "admin/metrics.h"

static struct conf_backend backends[] = {{.host = "pbx\"1\\"}, {.host = "two.example.com"}};
static struct conf conf = {.backends = backends, .backend_count = 2, .flow_gone_status = 480};
static struct core_view view = {.conf = &conf, .endpoint_count = 3};
static struct health health;
static struct report report = {
    .phase = REPORT_SERVING,
    .now = 1000,
    .conf = &conf,
    .view = &view,
    .health = &health,
    .connections_max = 500,
    .worker_count = 2,
    .responding = {true, false},
};
static char *text;

static void print(void)
{
    size_t len;
    FILE *out = open_memstream(&text, &len);

    assert_non_null(out);
    assert_int_equal(metrics_print(&report, out), 200);
    fclose(out);
}

static void has(const char *line)
{
    const char *at = strstr(text, line);

    if (!at || (at != text && at[-1] != '\n') || at[strlen(line)] != '\n')
        fail_msg("no line: %s", line);
}

static int setup(void **state)
{
    (void)state;
    for (unsigned i = 0; i < view.endpoint_count; i++) {
        view.endpoints[i] = (struct endpoint){.addr = {.kind = i ? CORE_TCP : CORE_UDP},
                                              .slot = (uint16_t)i,
                                              .backend = i > 0,
                                              .retired = i == 2};
        view.endpoints[i].addr.in.sin_family = AF_INET;
        view.endpoints[i].addr.in.sin_port = htons(5060);
        view.endpoints[i].addr.in.sin_addr.s_addr = htonl(0x0a000001 + i);
    }
    report.sum = (struct worker_totals){0};
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    free(text);
    text = NULL;
    return 0;
}

static void every_family_has_its_head_and_every_sample_its_family(void **state)
{
    char family[64] = "", *save = NULL;
    unsigned families = 0, samples = 0;

    (void)state;
    print();
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        if (sscanf(line, "# HELP %63s", family) == 1) {
            families++;
        } else if (strncmp(line, "# TYPE ", 7) == 0) {
            assert_memory_equal(line + 7, family, strlen(family));
        } else {
            assert_memory_equal(line, family, strlen(family));
            samples++;
        }
    }
    assert_true(families > 30 && samples > families);
}

static void rows_of_one_rule_and_code_are_one_sample(void **state)
{
    (void)state;
    report.sum.proxy.refused[REFUSE_FROM_MISSING] = 1;
    report.sum.proxy.refused[REFUSE_TO_MISSING] = 2;
    report.sum.proxy.refused[ANSWER_MAX_FORWARDS_ZERO] = 4;
    report.sum.proxy.refused[REFUSE_FLOW_GONE] = 8;
    print();
    has("sipward_requests_rejected_total{rule=\"V1\",code=\"400\"} 3");
    has("sipward_requests_rejected_total{rule=\"R7\",code=\"480\"} 8"); /* as it is answered */
    assert_null(strstr(text, "code=\"200\""));
}

static void connections_are_those_that_opened_and_did_not_close(void **state)
{
    (void)state;
    report.sum.streams.opened[TRANSPORT_TLS] = 5;
    report.sum.streams.closed[TRANSPORT_TLS][CAUSE_NOT_TLS] = 1;
    report.sum.streams.closed[TRANSPORT_TLS][CAUSE_IDLE] = 2;
    print();
    has("sipward_connections{transport=\"tls\"} 2");
    has("sipward_connections_limit 500");
    has("sipward_connections_closed_total{transport=\"tls\",reason=\"idle-timeout\",by=\"sipward\"}"
        " 2");
    has("sipward_handshake_failures_total{reason=\"not-tls\"} 1");
    assert_null(strstr(text, "handshake_failures_total{reason=\"idle"));
    assert_null(strstr(text, "closed_total{transport=\"wss\""));
}

static void a_histogram_adds_up_its_buckets_and_labels_are_escaped(void **state)
{
    (void)state;
    histogram_add(&report.sum.proxy.backends[0], 2);
    histogram_add(&report.sum.proxy.backends[0], 30);
    histogram_add(&report.sum.proxy.backends[0], 20000);
    (void)health_down(&health, 1);
    print();
#define ONE "backend=\"pbx\\\"1\\\\\",address=\"10.0.0.1:5060\",transport=\"udp\""
    has("sipward_backend_response_seconds_bucket{" ONE ",le=\"0.002\"} 1");
    has("sipward_backend_response_seconds_bucket{" ONE ",le=\"0.05\"} 2");
    has("sipward_backend_response_seconds_bucket{" ONE ",le=\"10\"} 2");
    has("sipward_backend_response_seconds_bucket{" ONE ",le=\"+Inf\"} 3");
    has("sipward_backend_response_seconds_sum{" ONE "} 20.032");
    has("sipward_backend_response_seconds_count{" ONE "} 3");
    has("sipward_backend_up{" ONE "} 1");
    has("sipward_backend_up{backend=\"two.example.com\",address=\"10.0.0.2:5060\","
        "transport=\"tcp\"} 0");
    assert_null(strstr(text, "backend_up{backend=\"two.example.com\",address=\"10.0.0.3"));
    has("sipward_worker_responding{worker=\"1\"} 0");
}

static void the_longest_lag_is_not_added_up(void **state)
{
    struct worker_totals one = {.timers = 3, .lag_longest_ms = 40}, two = {.lag_longest_ms = 7};

    (void)state;
    worker_totals_add(&report.sum, &one);
    worker_totals_add(&report.sum, &two);
    print();
    has("sipward_loop_lag_longest_seconds 0.040");
    has("sipward_timers 3");
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(every_family_has_its_head_and_every_sample_its_family),
        T(rows_of_one_rule_and_code_are_one_sample),
        T(connections_are_those_that_opened_and_did_not_close),
        T(a_histogram_adds_up_its_buckets_and_labels_are_escaped),
        T(the_longest_lag_is_not_added_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

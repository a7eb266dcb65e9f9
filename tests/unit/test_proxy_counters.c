/* What the whole proxy counts: each event moves its own counter. */
#include "calls.h"

static const struct proxy_counters *counters(void)
{
    return proxy_counters(edge.proxy);
}

static char sent[8192]; /* to the core, last */

static const char *to_core(void)
{
    snprintf(sent, sizeof(sent), "%s", inbox_last(&edge.core));
    return sent;
}

static void requests_and_responses_are_counted_by_side_method_and_class(void **state)
{
    (void)state;
    edge_from_client(alice, INVITE(""));
    edge_from_core(&edge, "%s", response_to(to_core(), "180 Ringing", "b", NULL));
    edge_from_core(&edge, "%s", response_to(sent, "486 Busy Here", "b", NULL));
    edge_from_client(alice, REQUEST("FROBNICATE", ""));
    edge_from_core(&edge, "%s", response_to(to_core(), "200 OK", "b", NULL));

    assert_int_equal(counters()->requests[SIDE_ACCESS][SIP_INVITE], 1);
    assert_int_equal(counters()->requests[SIDE_ACCESS][SIP_OTHER], 1);
    assert_int_equal(counters()->responses[SIDE_CORE][SIP_INVITE][0], 1);
    assert_int_equal(counters()->responses[SIDE_CORE][SIP_INVITE][3], 1);
    assert_int_equal(counters()->responses[SIDE_CORE][SIP_OTHER][1], 1);
    assert_int_equal(requests_count(counters(), SIDE_ACCESS), 2);
    assert_int_equal(responses_count(counters(), SIDE_CORE), 3);
    assert_int_equal(requests_count(counters(), SIDE_CORE), 0);
    assert_int_equal(responses_count(counters(), SIDE_ACCESS), 0);
    assert_int_equal(rejected_count(counters()), 0);
}

static void refusals_are_counted_by_their_row(void **state) /* M1 to core refused */
{
    (void)state;
    edge_from_client(alice, REQUEST("MESSAGE", "Max-Forwards: 0\n"));
    edge_from_client(alice, REQUEST("CANCEL", ""));
    edge_from_client(alice, REQUEST("OPTIONS", "Max-Forwards: 0\n"));

    assert_int_equal(counters()->refused[REFUSE_MAX_FORWARDS_ZERO], 1);
    assert_int_equal(counters()->refused[REFUSE_CANCEL_UNKNOWN], 1);
    assert_int_equal(counters()->refused[ANSWER_MAX_FORWARDS_ZERO], 1);
    assert_int_equal(rejected_count(counters()), 2); /* an answer is no rejection */
}

/* Our own token with one letter changed. */
static void forged_flow_tokens_are_counted(void **state) /* R7 refused */
{
    char uri[1024], *flow;

    (void)state;
    snprintf(uri, sizeof(uri), "%s", masked_contact(alice, "alice"));
    flow = strstr(uri, "flow=") + 20;
    *flow = *flow == 'A' ? 'B' : 'A';
    edge_from_core(&edge, FROM_PBX("OPTIONS", uri, ""));
    assert_int_equal(counters()->tokens_refused, 1);
    assert_int_equal(counters()->refused[REFUSE_TOKEN_FORGED], 1);
}

static void retransmissions_are_counted_by_side_and_direction(void **state) /* T1, T8 */
{
    const struct retransmissions *again = proxy_retransmissions(edge.proxy);

    (void)state;
    edge_from_client(alice, INVITE(""));
    to_core();
    edge_wait(&edge, 1600); /* A: after 500 and 1500 ms */
    assert_int_equal(again->sent[SIDE_CORE], 2);
    edge_from_core(&edge, "%s", response_to(sent, "486 Busy Here", "b", NULL));
    edge_from_core(&edge, "%s", response_to(sent, "486 Busy Here", "b", NULL));
    assert_int_equal(again->received[SIDE_CORE], 1);
    assert_int_equal(again->sent[SIDE_ACCESS], 0); /* nothing is repeated to a flow */
    edge_from_client(alice, REQUEST("PUBLISH", ""));
    edge_from_client(alice, REQUEST("PUBLISH", ""));
    assert_int_equal(again->received[SIDE_ACCESS], 1);
}

/* Once for a request, by what came first. */
static void the_time_to_the_first_response_is_counted_for_its_backend(void **state) /* B3 */
{
    const struct histogram *times = counters()->backends;

    (void)state;
    edge_from_client(alice, INVITE(""));
    to_core();
    edge_wait(&edge, 30);
    edge_from_core(&edge, "%s", response_to(sent, "100 Trying", NULL, NULL));
    edge_wait(&edge, 5000);
    edge_from_core(&edge, "%s", response_to(sent, "486 Busy Here", "b", NULL));

    assert_int_equal(times[0].buckets[4], 1); /* of up to 50 ms */
    assert_int_equal(times[0].sum_ms, 30);
    for (unsigned i = 0; i < ENDPOINTS_MAX; i++)
        for (unsigned j = 0; j <= HISTOGRAM_BOUNDS; j++)
            assert_int_equal(times[i].buckets[j], i == 0 && j == 4);
}

static void a_message_that_is_too_large_is_counted(void **state) /* F6 refused */
{
    char text[512], body[300];
    size_t scanned = 0;
    int len;

    (void)state;
    memset(body, 'x', sizeof(body));
    edge.conf.limits.message_size = 256;
    edge_start(&edge);
    alice = edge_client(&edge, 0, "TLS");
    len = snprintf(text, sizeof(text), "MESSAGE sip:b SIP/2.0\r\nContent-Length: 300\r\n\r\n");
    assert_true(proxy_receive_stream(alice->flow, text, (size_t)len, &scanned, edge.now) < 0);
    assert_int_equal(counters()->oversize, 1);
    bob = edge_client(&edge, 1, "WSS");
    assert_true(proxy_receive_message(bob->flow, body, sizeof(body), edge.now) < 0);
    assert_int_equal(counters()->oversize, 2);
}

static void a_duration_is_in_the_first_bucket_that_holds_it(void **state)
{
    struct histogram histogram = {0};

    (void)state;
    histogram_add(&histogram, 0);
    histogram_add(&histogram, 2);
    histogram_add(&histogram, 3);
    histogram_add(&histogram, 10000);
    histogram_add(&histogram, 10001);
    assert_int_equal(histogram.buckets[0], 2);
    assert_int_equal(histogram.buckets[1], 1);
    assert_int_equal(histogram.buckets[HISTOGRAM_BOUNDS - 1], 1);
    assert_int_equal(histogram.buckets[HISTOGRAM_BOUNDS], 1);
    assert_int_equal(histogram.sum_ms, 20006);
}

static void counters_add_up_field_by_field(void **state)
{
    struct histogram sum =
                         {
                             .buckets = {1, 2},
                               .sum_ms = 3
    },
                     more = {.buckets = {10}, .sum_ms = 30};

    (void)state;
    counters_add(&sum, &more, sizeof(sum));
    assert_int_equal(sum.buckets[0], 11);
    assert_int_equal(sum.buckets[1], 2);
    assert_int_equal(sum.sum_ms, 33);
}

#define WITH_EDGE(test) cmocka_unit_test_setup_teardown(test, setup_mask, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_EDGE(requests_and_responses_are_counted_by_side_method_and_class),
        WITH_EDGE(refusals_are_counted_by_their_row),
        WITH_EDGE(forged_flow_tokens_are_counted),
        WITH_EDGE(retransmissions_are_counted_by_side_and_direction),
        WITH_EDGE(the_time_to_the_first_response_is_counted_for_its_backend),
        WITH_EDGE(a_message_that_is_too_large_is_counted),
        cmocka_unit_test(a_duration_is_in_the_first_bucket_that_holds_it),
        cmocka_unit_test(counters_add_up_field_by_field),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

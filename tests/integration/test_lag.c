/* How long a loop is busy is noticed, and an idle one is left alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lag.h"

enum { BUSY_MS = 30 };

static void be_busy(uv_timer_t *timer)
{
    (void)timer;
    uv_sleep(BUSY_MS);
}

static void nothing(uv_timer_t *timer)
{
    (void)timer;
}

static uint64_t turns_over_25_ms(const struct lag *lag)
{
    uint64_t sum = 0;

    for (unsigned i = 4; i <= HISTOGRAM_BOUNDS; i++)
        sum += lag->turns.buckets[i];
    return sum;
}

static void a_busy_turn_is_noticed_and_waiting_is_not(void **state)
{
    uv_timer_t timer;
    struct lag lag;
    uv_loop_t loop;

    (void)state;
    uv_loop_init(&loop);
    lag_open(&loop, &lag);
    uv_timer_init(&loop, &timer);

    uv_timer_start(&timer, nothing, BUSY_MS, 0); /* the loop waits */
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_timer_start(&timer, be_busy, 1, 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_timer_start(&timer, nothing, 1, 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_true(turns_over_25_ms(&lag) >= 1);
    assert_true(lag.turns.sum_ms >= BUSY_MS);
    assert_true(lag_longest_ms(&lag) >= BUSY_MS);

    uv_close((uv_handle_t *)&timer, NULL);
    lag_close(&lag);
    lag_close(&lag);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_busy_turn_is_noticed_and_waiting_is_not),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Timers of a wheel fire on its loop, and those that are due at once without another wait. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "wheel.h"

struct place {
    uv_loop_t loop;
    struct wheel wheel;
    uv_async_t async;
    uv_prepare_t prepare; /* called once a turn, before the loop waits */
    struct timer at_once, later;
    unsigned waits, waits_at_event, waits_at_fire;
    uint64_t due, fired_at;
};

static struct place place;

static void waiting(uv_prepare_t *prepare)
{
    (void)prepare;
    place.waits++;
}

static void later_fired(struct timer *timer, uint64_t now)
{
    (void)timer;
    place.fired_at = now;
    uv_stop(&place.loop);
}

static void at_once_fired(struct timer *timer, uint64_t now)
{
    (void)timer;
    place.waits_at_fire = place.waits;
    place.due = now + 20;
    timer_start(place.wheel.timers, &place.later, place.due, later_fired);
}

static void event(uv_async_t *async)
{
    place.waits_at_event = place.waits;
    timer_start(place.wheel.timers, &place.at_once, uv_now(async->loop), at_once_fired);
}

static void a_timer_that_is_due_at_once_waits_for_no_event(void **state)
{
    (void)state;
    uv_loop_init(&place.loop);
    assert_int_equal(wheel_open(&place.loop, &place.wheel), 0);
    uv_prepare_init(&place.loop, &place.prepare);
    uv_prepare_start(&place.prepare, waiting);
    uv_async_init(&place.loop, &place.async, event);
    uv_async_send(&place.async);

    uv_run(&place.loop, UV_RUN_DEFAULT);
    assert_true(place.waits_at_event > 0);
    assert_int_equal(place.waits_at_fire, place.waits_at_event);
    assert_true(place.fired_at >= place.due);

    wheel_close(&place.wheel);
    wheel_close(&place.wheel);
    uv_close((uv_handle_t *)&place.async, NULL);
    uv_close((uv_handle_t *)&place.prepare, NULL);
    uv_run(&place.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&place.loop), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_timer_that_is_due_at_once_waits_for_no_event),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

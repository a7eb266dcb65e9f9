/* Timers of a wheel fire on its loop: those that are due at once without another wait, and all of
 * them behind the events that came in time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

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

/* ---- a loop that was held up ---- */

struct late {
    uv_loop_t loop;
    struct wheel wheel;
    uv_async_t async;
    uv_poll_t poll;
    struct timer limit;
    bool answered, answered_at_fire;
};

static struct late late;

static void answer(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    late.answered = true;
    uv_poll_stop(poll);
}

static void limit_over(struct timer *timer, uint64_t now)
{
    (void)timer;
    (void)now;
    late.answered_at_fire = late.answered;
    uv_stop(&late.loop);
}

/* Once the loop knows of the limit, the answer comes, but the thread is kept from it until the
 * limit is over. */
static void held_up(uv_async_t *async)
{
    if (!timer_running(&late.limit) || late.limit.due <= uv_now(async->loop)) {
        timer_start(late.wheel.timers, &late.limit, uv_now(async->loop) + 20, limit_over);
        uv_async_send(async);
        return;
    }
    assert_int_equal(write(*(int *)async->data, "x", 1), 1);
    while (uv_hrtime() / 1000000 < late.limit.due + 2)
        continue;
}

static void what_came_in_time_is_read_before_a_limit_is_over(void **state)
{
    int ends[2];

    (void)state;
    assert_int_equal(pipe(ends), 0);
    uv_loop_init(&late.loop);
    assert_int_equal(wheel_open(&late.loop, &late.wheel), 0);
    uv_poll_init(&late.loop, &late.poll, ends[0]);
    uv_poll_start(&late.poll, UV_READABLE, answer);
    uv_async_init(&late.loop, &late.async, held_up);
    late.async.data = &ends[1];
    uv_async_send(&late.async);

    uv_run(&late.loop, UV_RUN_DEFAULT);
    assert_true(late.answered_at_fire);

    wheel_close(&late.wheel);
    uv_close((uv_handle_t *)&late.poll, NULL);
    uv_close((uv_handle_t *)&late.async, NULL);
    uv_run(&late.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&late.loop), 0);
    close(ends[0]);
    close(ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_timer_that_is_due_at_once_waits_for_no_event),
        cmocka_unit_test(what_came_in_time_is_read_before_a_limit_is_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

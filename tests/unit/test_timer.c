#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proxy/timer.h"

#define TEST(name) static void name(void **state)
#define LEN(array) (sizeof(array) / sizeof((array)[0]))

/* A timer that writes down when it fired, and does something more if asked to. */
struct probe {
    struct timer timer;
    uint64_t fired_at;
    unsigned fired, order;
    struct probe *stops, *starts;
    uint64_t starts_after;
    bool frees_itself;
};

static struct timers *timers;
static unsigned order;

static void probe_fire(struct timer *timer, uint64_t now)
{
    struct probe *probe = (struct probe *)timer; /* its first member */

    assert_false(timer_running(timer));
    probe->fired++;
    probe->fired_at = now;
    probe->order = ++order;
    if (probe->stops)
        timer_stop(timers, &probe->stops->timer);
    if (probe->starts)
        timer_start(timers, &probe->starts->timer, now + probe->starts_after, probe_fire);
    if (probe->frees_itself)
        free(probe);
}

static void start(struct probe *probe, uint64_t due)
{
    timer_start(timers, &probe->timer, due, probe_fire);
}

static void begin(uint64_t now)
{
    order = 0;
    assert_int_equal(timers_create(now, &timers), 0);
    assert_true(timers_next(timers) == UINT64_MAX);
}

static void end(void)
{
    timers_destroy(&timers);
    assert_null(timers);
    timers_destroy(&timers);
}

/* Go on by timers_next() alone, as the worker's loop does. */
static unsigned run_until(uint64_t now)
{
    unsigned runs = 0;

    for (uint64_t next; (next = timers_next(timers)) <= now; runs++)
        timers_run(timers, next);
    timers_run(timers, now);
    return runs;
}

TEST(timer_fires_on_its_millisecond_and_not_before)
{
    static const uint64_t delays[] = {
        0,    1,    2,    62,   63,    64,     65,     127,     128,      500,
        4000, 4095, 4096, 4097, 32000, 262143, 262144, 3600000, 86400000, UINT64_C(1) << 40};
    static const uint64_t bases[] = {
        0, 1, 63, 64, 4095, 1234567, UINT64_C(0xFFFFFFFF), (UINT64_C(1) << 60) - 1, UINT64_MAX / 2};

    (void)state;
    for (size_t b = 0; b < LEN(bases); b++)
        for (size_t d = 0; d < LEN(delays); d++) {
            struct probe probe = {0};
            uint64_t due = bases[b] + delays[d];

            begin(bases[b]);
            start(&probe, due);
            assert_true(timers_next(timers) <= due);
            if (delays[d]) {
                timers_run(timers, due - 1);
                assert_int_equal(probe.fired, 0);
                assert_true(timer_running(&probe.timer));
            }
            timers_run(timers, due);
            assert_int_equal(probe.fired, 1);
            assert_true(probe.fired_at == due);
            assert_true(timers_next(timers) == UINT64_MAX);
            end();
        }
}

TEST(timers_next_leads_to_the_exact_millisecond_in_a_few_steps)
{
    struct probe probe = {0};

    (void)state;
    begin(17);
    start(&probe, 17 + 86400000);
    assert_true(run_until(17 + 86400000) <= 6);
    assert_int_equal(probe.fired, 1);
    assert_true(probe.fired_at == 17 + 86400000);
    end();
}

TEST(timer_of_the_past_fires_at_the_next_run)
{
    struct probe probe = {0};

    (void)state;
    begin(1000);
    start(&probe, 3);
    assert_int_equal(probe.fired, 0);
    assert_true(timers_next(timers) == 1000);
    timers_run(timers, 1000);
    assert_int_equal(probe.fired, 1);
    end();
}

TEST(clock_that_goes_back_fires_nothing_early)
{
    struct probe probe = {0};

    (void)state;
    begin(1000);
    start(&probe, 1500);
    timers_run(timers, 1400);
    timers_run(timers, 10);
    assert_int_equal(probe.fired, 0);
    timers_run(timers, 1500);
    assert_int_equal(probe.fired, 1);
    end();
}

TEST(long_idle_jump_fires_everything_in_order_of_time)
{
    struct probe probes[300] = {0};
    uint64_t jump = UINT64_C(1000) * 60 * 60 * 24 * 400;

    (void)state;
    begin(5);
    for (size_t i = 0; i < LEN(probes); i++) /* strewn: 7919 is prime to 300 */
        start(&probes[i], 5 + (i * 7919 % LEN(probes)) * 100003);
    timers_run(timers, jump);
    for (size_t i = 0; i < LEN(probes); i++) {
        assert_int_equal(probes[i].fired, 1);
        assert_true(probes[i].fired_at == jump);
        assert_int_equal(probes[i].order, i * 7919 % LEN(probes) + 1);
    }
    assert_true(timers_next(timers) == UINT64_MAX);
    end();
}

TEST(stopped_timer_does_not_fire)
{
    struct probe one = {0}, two = {0};

    (void)state;
    begin(0);
    start(&one, 700);
    start(&two, 700);
    timers_run(timers, 699); /* both have come down through the levels by now */
    timer_stop(timers, &one.timer);
    timer_stop(timers, &one.timer);
    assert_false(timer_running(&one.timer));
    timers_run(timers, 5000);
    assert_int_equal(one.fired, 0);
    assert_int_equal(two.fired, 1);
    start(&one, 9000);
    timer_stop(timers, &one.timer);
    assert_true(timers_next(timers) == UINT64_MAX);
    end();
}

TEST(running_timer_is_moved)
{
    struct probe probe = {0};

    (void)state;
    begin(0);
    start(&probe, 100);
    start(&probe, 100000);
    timers_run(timers, 50000);
    assert_int_equal(probe.fired, 0);
    start(&probe, 50010);
    timers_run(timers, 50009);
    assert_int_equal(probe.fired, 0);
    timers_run(timers, 50010);
    assert_int_equal(probe.fired, 1);
    run_until(200000);
    assert_int_equal(probe.fired, 1);
    end();
}

TEST(fire_may_stop_and_start_others_and_itself)
{
    struct probe victim = {0}, other = {0}, again = {0}, killer = {0};

    (void)state;
    begin(0);
    start(&victim, 200);
    killer.stops = &victim;
    killer.starts = &other;
    start(&killer, 199);
    timers_run(timers, 300); /* `other` is started for 300 and fires in the same run */
    assert_int_equal(killer.fired, 1);
    assert_int_equal(victim.fired, 0);
    assert_int_equal(other.fired, 1);

    again.starts = &again;
    again.starts_after = 20;
    start(&again, 320);
    run_until(400);
    assert_int_equal(again.fired, 5);
    timer_stop(timers, &again.timer);
    end();
}

TEST(fire_may_stop_a_timer_of_the_same_millisecond)
{
    struct probe one = {0}, two = {0};

    (void)state;
    begin(0);
    one.stops = &two;
    two.stops = &one;
    start(&one, 64);
    start(&two, 64);
    timers_run(timers, 64);
    assert_int_equal(one.fired + two.fired, 1);
    assert_true(timers_next(timers) == UINT64_MAX);
    end();
}

TEST(fire_may_free_its_owner)
{
    (void)state;
    begin(0);
    for (uint64_t i = 0; i < 200; i++) {
        struct probe *probe = calloc(1, sizeof(*probe));
        assert_non_null(probe);
        probe->frees_itself = true;
        start(probe, i * 3 % 50);
    }
    timers_run(timers, 1000);
    assert_int_equal(order, 200);
    end();
}

/* Against the plainest model: an array that is searched. */
TEST(random_starts_and_stops_agree_with_a_list)
{
    struct probe probes[64] = {0};
    uint64_t due[64] = {0}, now = 1000000, random = 88172645463325252U;
    unsigned fired[64] = {0};

    (void)state;
    begin(now);
    for (unsigned step = 0; step < 20000; step++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        unsigned i = random % 64;
        uint64_t span = UINT64_C(1) << (random >> 8) % 24, offset = (random >> 20) % span;

        switch ((random >> 14) % 4) {
        case 0: timer_stop(timers, &probes[i].timer), due[i] = 0; break;
        case 1: timers_run(timers, now += offset >> 6); break;
        default: start(&probes[i], due[i] = now + offset); break;
        }
        size_t running = 0;
        for (unsigned k = 0; k < 64; k++) {
            if (due[k] && due[k] <= now && (random >> 14) % 4 == 1) {
                due[k] = 0;
                fired[k]++;
            }
            assert_int_equal(probes[k].fired, fired[k]);
            assert_int_equal(timer_running(&probes[k].timer), due[k] != 0);
            running += due[k] != 0;
        }
        assert_int_equal(timers_count(timers), running);
    }
    end();
    for (unsigned k = 0; k < 64; k++)
        assert_false(timer_running(&probes[k].timer)); /* forgotten with the wheel */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timer_fires_on_its_millisecond_and_not_before),
        cmocka_unit_test(timers_next_leads_to_the_exact_millisecond_in_a_few_steps),
        cmocka_unit_test(timer_of_the_past_fires_at_the_next_run),
        cmocka_unit_test(clock_that_goes_back_fires_nothing_early),
        cmocka_unit_test(long_idle_jump_fires_everything_in_order_of_time),
        cmocka_unit_test(stopped_timer_does_not_fire),
        cmocka_unit_test(running_timer_is_moved),
        cmocka_unit_test(fire_may_stop_and_start_others_and_itself),
        cmocka_unit_test(fire_may_stop_a_timer_of_the_same_millisecond),
        cmocka_unit_test(fire_may_free_its_owner),
        cmocka_unit_test(random_starts_and_stops_agree_with_a_list),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Timers of one worker: a hashed hierarchical wheel with a slot for each millisecond.
 *
 * Start and stop are O(1), whatever the number of timers. A timer fires at the first
 * timers_run() whose `now` is at or past its time, in order of their times.
 * Ownership: a timer lives in its owner's struct; the wheel only links it. Zeroed is "stopped".
 * Threads:   one worker's, no locks.
 * Units:     milliseconds of the loop clock. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct timers;

struct timer {
    struct timer *next, **link; /* the wheel's; link NULL: stopped */
    uint64_t due;
    void (*fire)(struct timer *timer, uint64_t now); /* stopped when called; may start it again,
                                                        or free its owner */
};

int timers_create(uint64_t now, struct timers **out); /* -ENOMEM */
void timers_destroy(struct timers **timers);          /* timers still running are forgotten */

/* A running timer is moved. A time in the past fires at the next timers_run(). */
void timer_start(struct timers *timers, struct timer *timer, uint64_t due,
                 void (*fire)(struct timer *timer, uint64_t now));
void timer_stop(struct timers *timers, struct timer *timer); /* a stopped one is fine */
static inline bool timer_running(const struct timer *timer)
{
    return timer->link;
}

/* Fire what is due. Timers started meanwhile for `now` or before fire in the same call. */
void timers_run(struct timers *timers, uint64_t now);
size_t timers_count(const struct timers *timers); /* running */
/* When to call timers_run() next: a time that is never after the first timer's. UINT64_MAX: no
 * timer runs. */
uint64_t timers_next(const struct timers *timers);

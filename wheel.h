/* Drives a wheel of timers from a loop: one uv_timer, set right before the loop waits; what is due
 * when its events are dealt with fires in the same turn, and nothing fires before they are.
 *
 * Ownership: the wheel lives in its owner's struct and owns the timers; after wheel_close() the
 *            loop must run once more before that struct is freed.
 * Threads:   the loop's. */
#pragma once

#include <uv.h>

#include "proxy/timer.h"

struct wheel {
    struct timers *timers;
    uv_prepare_t prepare;
    uv_check_t check;
    uv_timer_t timer;
    uint64_t next; /* the timer's, while it is active */
};

int wheel_open(uv_loop_t *loop, struct wheel *wheel); /* -ENOMEM: nothing to close */
void wheel_close(struct wheel *wheel);                /* twice, or never opened but zeroed: fine */

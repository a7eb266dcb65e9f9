/* How long a loop is busy between two looks at what has come: what arrives meanwhile waits as long.
 *
 * Measured where the loop turns anyway, by one look at the clock for each turn: no timer wakes an
 * idle worker for it. Milliseconds of the loop clock; a turn that takes less may count as one.
 *
 * Ownership: lives in its owner's struct; after lag_close() the loop must run once more before that
 *            is freed.
 * Threads:   the loop's. */
#pragma once

#include <uv.h>

#include "proxy/counters.h"

struct lag {
    uv_check_t check;
    uv_prepare_t prepare;
    uint64_t woken_at;      /* 0: it has not turned yet */
    struct histogram turns; /* by their length */
    uint64_t window;        /* a number that moves on every 30 s */
    uint64_t longest_ms[2]; /* in this window and in the one before */
};

void lag_open(uv_loop_t *loop, struct lag *lag); /* before other prepare handles: it ends last */
uint64_t lag_longest_ms(const struct lag *lag);  /* of the last 30 to 60 s */
void lag_close(struct lag *lag);                 /* zeroed, and never opened: fine */

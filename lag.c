#include "lag.h"

enum { WINDOW_MS = 30000 };

/* Right after what the loop had waited for was dealt with: its time is that of the wake-up. */
static void checked(uv_check_t *check)
{
    struct lag *lag = check->data;

    lag->woken_at = uv_now(check->loop);
}

static uint64_t window_of(uint64_t now)
{
    return now / WINDOW_MS;
}

static void longest_note(struct lag *lag, uint64_t now, uint64_t ms)
{
    uint64_t window = window_of(now);

    if (window != lag->window) {
        lag->longest_ms[1] = window == lag->window + 1 ? lag->longest_ms[0] : 0;
        lag->longest_ms[0] = 0;
        lag->window = window;
    }
    if (ms > lag->longest_ms[0])
        lag->longest_ms[0] = ms;
}

/* All is done; the loop is about to wait again. */
static void prepared(uv_prepare_t *prepare)
{
    struct lag *lag = prepare->data;
    uint64_t now = uv_hrtime() / 1000000; /* the clock of the loop, which stood still since */
    uint64_t ms = now > lag->woken_at ? now - lag->woken_at : 0;

    if (!lag->woken_at)
        return;
    histogram_add(&lag->turns, ms);
    longest_note(lag, now, ms);
}

/* libuv calls the handle that was started last first. */
void lag_open(uv_loop_t *loop, struct lag *lag)
{
    *lag = (struct lag){0};
    uv_check_init(loop, &lag->check); /* these can't fail */
    uv_prepare_init(loop, &lag->prepare);
    lag->check.data = lag->prepare.data = lag;
    uv_check_start(&lag->check, checked);
    uv_prepare_start(&lag->prepare, prepared);
    uv_unref((uv_handle_t *)&lag->check);
    uv_unref((uv_handle_t *)&lag->prepare);
}

uint64_t lag_longest_ms(const struct lag *lag)
{
    uint64_t window = window_of(uv_now(lag->check.loop));
    bool before = window <= lag->window + 1;

    if (window == lag->window && lag->longest_ms[1] > lag->longest_ms[0])
        return lag->longest_ms[1];
    return before ? lag->longest_ms[0] : 0;
}

void lag_close(struct lag *lag)
{
    if (!lag->check.data)
        return;
    uv_close((uv_handle_t *)&lag->check, NULL);
    uv_close((uv_handle_t *)&lag->prepare, NULL);
    lag->check.data = NULL;
}

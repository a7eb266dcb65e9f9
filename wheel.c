#include "wheel.h"

static void turn(uv_timer_t *timer)
{
    struct wheel *wheel = timer->data;

    timers_run(wheel->timers, uv_now(timer->loop));
}

/* Whatever this turn of the loop started or stopped is known by now. */
static void set(uv_prepare_t *prepare)
{
    struct wheel *wheel = prepare->data;
    uint64_t next = timers_next(wheel->timers), now = uv_now(prepare->loop);

    if (next == UINT64_MAX)
        uv_timer_stop(&wheel->timer);
    else
        uv_timer_start(&wheel->timer, turn, next > now ? next - now : 0, 0);
}

int wheel_open(uv_loop_t *loop, struct wheel *wheel)
{
    int err;

    uv_update_time(loop);
    err = timers_create(uv_now(loop), &wheel->timers);
    if (err)
        return err;
    uv_timer_init(loop, &wheel->timer); /* these three can't fail */
    uv_prepare_init(loop, &wheel->prepare);
    wheel->timer.data = wheel;
    wheel->prepare.data = wheel;
    uv_prepare_start(&wheel->prepare, set);
    return 0;
}

void wheel_close(struct wheel *wheel)
{
    if (!wheel->timers)
        return;
    uv_close((uv_handle_t *)&wheel->timer, NULL);
    uv_close((uv_handle_t *)&wheel->prepare, NULL);
    timers_destroy(&wheel->timers);
}

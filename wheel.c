#include "wheel.h"

/* That the loop does not wait any longer is all: look() follows. */
static void wake(uv_timer_t *timer)
{
    (void)timer;
}

/* Behind the events of this turn, never before them: on a thread that was held up, what is waited
 * for may have come in time and not have been read. */
static void look(uv_check_t *check)
{
    struct wheel *wheel = check->data;

    if (timers_next(wheel->timers) <= uv_now(check->loop))
        timers_run(wheel->timers, uv_now(check->loop));
}

/* Whatever this turn of the loop started or stopped is known by now. */
static void set(uv_prepare_t *prepare)
{
    struct wheel *wheel = prepare->data;
    uint64_t next = timers_next(wheel->timers), now = uv_now(prepare->loop);

    if (next == wheel->next && uv_is_active((uv_handle_t *)&wheel->timer))
        return;
    wheel->next = next;
    if (next == UINT64_MAX)
        uv_timer_stop(&wheel->timer);
    else
        uv_timer_start(&wheel->timer, wake, next > now ? next - now : 0, 0);
}

int wheel_open(uv_loop_t *loop, struct wheel *wheel)
{
    int err;

    uv_update_time(loop);
    err = timers_create(uv_now(loop), &wheel->timers);
    if (err)
        return err;
    uv_timer_init(loop, &wheel->timer); /* these can't fail */
    uv_prepare_init(loop, &wheel->prepare);
    uv_check_init(loop, &wheel->check);
    wheel->timer.data = wheel->prepare.data = wheel->check.data = wheel;
    uv_prepare_start(&wheel->prepare, set);
    uv_check_start(&wheel->check, look);
    return 0;
}

void wheel_close(struct wheel *wheel)
{
    if (!wheel->timers)
        return;
    uv_close((uv_handle_t *)&wheel->timer, NULL);
    uv_close((uv_handle_t *)&wheel->prepare, NULL);
    uv_close((uv_handle_t *)&wheel->check, NULL);
    timers_destroy(&wheel->timers);
}

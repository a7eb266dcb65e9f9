#include "proxy/timer.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

/* Level l has a slot for each value of bits 6*l to 6*l+5 of a time; 11 levels take in all 64 bits.
 * A timer stands at the level of the highest bit in which its time and the wheel's differ. So:
 * - at level 0 a slot is one millisecond, and all of its timers are due in it;
 * - all slots in use at a level lie ahead of the wheel's own, without wrap around, and before
 *   every slot of the levels above: the first bit set at the lowest level in use comes first;
 * - `now` may jump to any time up to the start of that slot, and each timer stands right still. */
enum { SLOT_BITS = 6, SLOTS = 1 << SLOT_BITS, LEVELS = 11 };

struct timers {
    uint64_t now;
    size_t count;
    unsigned levels; /* one bit for each level in use */
    uint64_t used[LEVELS];
    struct timer *slots[LEVELS][SLOTS];
};

int timers_create(uint64_t now, struct timers **out)
{
    struct timers *timers = calloc(1, sizeof(*timers));

    if (!timers)
        return -ENOMEM;
    timers->now = now;
    *out = timers;
    return 0;
}

static unsigned level_of(const struct timers *timers, uint64_t due)
{
    uint64_t differs = (timers->now ^ due) | 1;

    return (63 - (unsigned)__builtin_clzll(differs)) / SLOT_BITS;
}

static unsigned slot_of(unsigned level, uint64_t due)
{
    return (unsigned)(due >> (level * SLOT_BITS)) & (SLOTS - 1);
}

static void link_timer(struct timers *timers, struct timer *timer)
{
    unsigned level = level_of(timers, timer->due);
    unsigned slot = slot_of(level, timer->due);
    struct timer **head = &timers->slots[level][slot];

    timer->next = *head;
    if (timer->next)
        timer->next->link = &timer->next;
    timer->link = head;
    *head = timer;
    timers->used[level] |= UINT64_C(1) << slot;
    timers->levels |= 1U << level;
}

static void slot_emptied(struct timers *timers, unsigned level, unsigned slot)
{
    timers->used[level] &= ~(UINT64_C(1) << slot);
    if (!timers->used[level])
        timers->levels &= ~(1U << level);
}

static void unlink_timer(struct timers *timers, struct timer *timer)
{
    unsigned level = level_of(timers, timer->due);
    unsigned slot = slot_of(level, timer->due);

    assert(timer->link);
    *timer->link = timer->next;
    if (timer->next)
        timer->next->link = timer->link;
    timer->next = NULL;
    timer->link = NULL;
    if (!timers->slots[level][slot])
        slot_emptied(timers, level, slot);
}

void timer_start(struct timers *timers, struct timer *timer, uint64_t due,
                 void (*fire)(struct timer *timer, uint64_t now))
{
    timer_stop(timers, timer);
    timer->due = due > timers->now ? due : timers->now;
    timer->fire = fire;
    link_timer(timers, timer);
    timers->count++;
}

void timer_stop(struct timers *timers, struct timer *timer)
{
    if (!timer_running(timer))
        return;
    unlink_timer(timers, timer);
    timers->count--;
}

void timers_destroy(struct timers **timers)
{
    if (!*timers)
        return;
    /* Their owners may still ask timer_running(), or stop them in another order of tear-down. */
    for (unsigned level = 0; level < LEVELS; level++)
        for (unsigned slot = 0; slot < SLOTS; slot++)
            while ((*timers)->slots[level][slot])
                unlink_timer(*timers, (*timers)->slots[level][slot]);
    free(*timers);
    *timers = NULL;
}

/* The first slot in use, and when it begins. false: no timer runs. */
static bool first_slot(const struct timers *timers, unsigned *level, unsigned *slot, uint64_t *at)
{
    uint64_t below;

    if (!timers->levels)
        return false;
    *level = (unsigned)__builtin_ctz(timers->levels);
    *slot = (unsigned)__builtin_ctzll(timers->used[*level]);
    /* The bits of time that this level and those under it stand for; the top level has four. */
    below = *level < LEVELS - 1 ? (UINT64_C(1) << ((*level + 1) * SLOT_BITS)) - 1 : UINT64_MAX;
    *at = (timers->now & ~below) | (uint64_t)*slot << (*level * SLOT_BITS);
    return true;
}

static void fire_slot(struct timers *timers, unsigned slot, uint64_t now)
{
    struct timer *timer;

    /* One at a time from the head: fire() may start and stop any timer, free its owner, and put
     * more into this very slot. */
    while ((timer = timers->slots[0][slot])) {
        timer_stop(timers, timer);
        timer->fire(timer, now);
    }
}

/* The wheel has come to where this slot begins: its timers move to the levels below. */
static void spread_slot(struct timers *timers, unsigned level, unsigned slot)
{
    struct timer *timer = timers->slots[level][slot], *next;

    timers->slots[level][slot] = NULL;
    slot_emptied(timers, level, slot);
    for (; timer; timer = next) {
        next = timer->next;
        link_timer(timers, timer);
    }
}

void timers_run(struct timers *timers, uint64_t now)
{
    unsigned level, slot;
    uint64_t at;

    if (now < timers->now)
        now = timers->now;
    while (first_slot(timers, &level, &slot, &at) && at <= now) {
        timers->now = at;
        if (level)
            spread_slot(timers, level, slot);
        else
            fire_slot(timers, slot, now);
    }
    timers->now = now;
}

size_t timers_count(const struct timers *timers)
{
    return timers->count;
}

uint64_t timers_next(const struct timers *timers)
{
    unsigned level, slot;
    uint64_t at;

    return first_slot(timers, &level, &slot, &at) ? at : UINT64_MAX;
}

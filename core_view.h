/* The core side as it is now: the addresses that backends' names come to, followed as they change
 * (B1), and those that the backends see of us. Whatever changes makes a new view for the workers.
 *
 * A family of addresses comes into use with the first backend that has one of it, or at start if
 * `core` names one of it. What keeps it from that later (no way there, a port that is taken) is
 * logged, and tried again.
 *
 * Ownership: core_views_open() to core_views_close(); the loop must run once more after.
 * Threads:   the main thread's. */
#pragma once

#include <stdio.h>

#include <uv.h>

#include "conf/conf.h"
#include "proxy/backends.h"

struct core_views;

struct core_views_options {
    uv_loop_t *loop;
    const struct conf *conf;
    struct health *health; /* slots are given to addresses here; borrowed */
    /* There is a new view; from the loop. Borrowed. */
    void (*changed)(void *context, const struct core_view *view);
    void *context;
};

/* -ENOMEM, ... */
int core_views_open(const struct core_views_options *options, struct core_views **out);
/* The first view: the loop runs until each name has come to something or nothing, but not for long.
 * A name without an address is no mistake: it may get one. -EINVAL: mistakes, each one line on
 * `errors`. changed() may come from now on. */
int core_views_start(struct core_views *views, FILE *errors);
const struct core_view *core_views_now(const struct core_views *views); /* borrowed */
void core_views_close(struct core_views **views);                       /* a NULL *views is fine */

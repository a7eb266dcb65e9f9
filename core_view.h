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
    const struct conf *conf; /* the first; a reference is taken */
    struct health *health;   /* slots are given to addresses here; borrowed */
    /* There is a new view of the configuration that it is; from the loop. Borrowed. */
    void (*changed)(void *context, const struct core_view *view);
    void *context;
};

/* -ENOMEM, ... */
int core_views_open(const struct core_views_options *options, struct core_views **out);
/* The first view: the loop runs until each name has come to something or nothing, but not for long.
 * A name without an address is no mistake: it may get one. -EINVAL: mistakes, each one line on
 * `errors`. changed() may come from now on. */
int core_views_start(struct core_views *views, FILE *errors);
/* Another configuration: names that are new are looked up beside those of now. done() comes from
 * the loop, soon, when each has come to something or nothing. -ENOMEM, ...: nothing is prepared. */
int core_views_prepare(struct core_views *views, const struct conf *conf,
                       void (*done)(void *context), void *context);
/* What was prepared is it from here on, and core_views_now() its first view: changed() is not
 * called for that one. -EINVAL: mistakes, each one line on `errors`; that or -ENOMEM: all is as
 * before, and nothing is prepared. */
int core_views_take(struct core_views *views, FILE *errors);
void core_views_forget(struct core_views *views); /* what was prepared; done() won't come */
const struct core_view *core_views_now(const struct core_views *views); /* borrowed */
void core_views_close(struct core_views **views);                       /* a NULL *views is fine */

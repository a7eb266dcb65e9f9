/* A listening TCP socket on the core address; all workers have one there (SO_REUSEPORT).
 *
 * Ownership: core_listener_open() to core_listener_close(); the loop must run once more after.
 * Threads:   one loop's.
 * Errors:    0, or a negative errno value. */
#pragma once

#include <uv.h>

#include "proxy/core.h"
#include "proxy/timer.h"

struct core_listener;

struct core_listener_options {
    uv_loop_t *loop;
    struct timers *timers;         /* of that loop; borrowed */
    const struct core_addr *local; /* copied */
    /* A connection: the socket is the callee's. */
    void (*accepted)(void *context, int fd, const struct core_addr *peer);
    void *context;
};

/* -EADDRINUSE, -EADDRNOTAVAIL, -EACCES, ... as the system says it. */
int core_listener_open(const struct core_listener_options *options, struct core_listener **out);
void core_listener_close(struct core_listener **listener); /* a NULL *listener is fine */

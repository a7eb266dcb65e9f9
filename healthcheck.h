/* Is the sipward that runs with a configuration alive? For containers, whose engine asks.
 *
 * Threads: needs none; a second process beside the one it asks. */
#pragma once

#include "conf/conf.h"

enum healthcheck {
    HEALTHY,
    UNHEALTHY,
    HEALTH_UNASKED /* it has no admin side that could say it */
};

/* Asks /healthz of its admin side, a few seconds at most, and says in a line what came of it: on
 * standard output where it is healthy, else on standard error. */
enum healthcheck healthcheck(const struct conf *conf);

/* `sipward doctor`: tries what an operator would try by hand, and says what it found, with a remedy
 * where something is wrong.
 *
 * It changes nothing, and may run beside a sipward that serves: ports that this one has are ours.
 * Backends get one OPTIONS by each transport. It takes ten seconds at the most.
 *
 * Threads: one, in a process that does nothing else. */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#include "conf/conf.h"

struct doctor_options {
    const char *path; /* of the configuration */
    bool json;
    FILE *out;
    /* How many connections a sipward started from here could have. Fills in conf->workers. */
    unsigned (*connections_max)(struct conf *conf);
};

/* Returns the exit code: 0 nothing has failed, 1 something has, 2 the configuration has mistakes or
 * can't be read. */
int doctor_run(const struct doctor_options *options);

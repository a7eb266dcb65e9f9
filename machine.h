/* What a configuration leaves to the machine.
 *
 * Threads: the main thread's. */
#pragma once

#include "conf/conf.h"

unsigned machine_cores(void); /* how many this process may use */
/* As many file descriptors as are useful and allowed are made so. Returns the maximum of
 * connections, 0: there is not room for one. */
unsigned machine_connections_max(const struct conf *conf);
/* Fill in `workers` and `connections_max`. -EMFILE: not one connection can be, which is told. */
int machine_fit(struct conf *conf, FILE *errors);

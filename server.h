/* The running program: workers, signals and, without backends, the embedded registrar.
 *
 * Threads: the main thread's. */
#pragma once

#include "conf/conf.h"

/* Run until SIGINT or SIGTERM and a clean stop. 0; 1: it could not run, and said why. */
int server_run(const struct conf *conf);

/* Is it alive, and should it get traffic: for what starts programs and what spreads load over them.
 *
 * Each prints a line for a person, and returns the HTTP status. */
#pragma once

#include <stdio.h>

#include "admin/report.h"

int healthz_print(const struct report *report, FILE *out); /* 200; 503: a worker doesn't answer */
int readyz_print(const struct report *report, FILE *out);  /* 200; 503: not now, and why */

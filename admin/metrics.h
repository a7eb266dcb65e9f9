/* The page for Prometheus, in its text format 0.0.4: one table has all families, each with its
 * name, kind, help and labels.
 *
 * Labels are bounded: methods, causes and rules that are known, backends and certificates of the
 * configuration. None holds anything that a client chose (X5).
 *
 * Threads: the main thread's. */
#pragma once

#include <stdio.h>

#include "admin/report.h"

#define METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

int metrics_print(const struct report *report, FILE *out); /* 200 */

/* Reports, made of what all workers answer and what the main thread knows.
 *
 * Threads: the main thread's. */
#pragma once

#include "admin/report.h"
#include "asks.h"

struct reports;

struct reports_options {
    struct asks *asks; /* borrowed; closed first, so that done() has come for each report */
    /* What is the main thread's of a report: all but workers, and its own part of the sum. */
    void (*fill)(void *context, struct report *report);
    void *context;
};

typedef void (*reports_done)(void *context, const struct report *report);

int reports_open(const struct reports_options *options, struct reports **out); /* -ENOMEM */
/* done() comes once, in a second at the latest, and never from inside. -ENOMEM. */
int reports_ask(struct reports *reports, reports_done done, void *context);
void reports_close(struct reports **reports); /* a NULL *reports is fine */

/* The log's line: what there is now, then what there was since the start. Whatever log_level says:
 * it is asked for. */
void report_log(const struct report *report, const char *what);

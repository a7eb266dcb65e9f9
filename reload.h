/* Another configuration while it runs (SIGHUP), and certificates whose files have changed.
 *
 * The file is checked whole, and all that it needs is made ready beside what runs: names are looked
 * up, each worker opens listeners and makes its tables of certificates. Only then it is taken, by
 * each worker between two messages. Whatever is wrong until then leaves all as it was; the log says
 * what, a line for each mistake as `sipward check` has it.
 *
 * `workers` and `core` wait for a restart. Certificates that change by themselves are taken alone.
 *
 * Ownership: reload_open() to reload_close(), which comes after the workers have ended; the loop
 *            must run once more after that.
 * Threads:   the main thread's. */
#pragma once

#include "admin/report.h"
#include "core_view.h"
#include "embedded.h"
#include "pages.h"
#include "tls/certificate.h"

struct reload;

struct reload_options {
    uv_loop_t *loop;
    const struct conf *conf; /* that runs; a reference is taken */
    struct worker *const *workers;
    /* Borrowed until reload_stop(). */
    struct core_views *views;
    struct embedded *embedded;
    struct pages *pages;
    struct health *health;
    /* It is another one from now on; borrowed until the next. */
    void (*taken)(void *context, const struct conf *conf);
    void *context;
};

/* Reads and checks the certificates that the workers start with. -EINVAL: mistakes, each a line on
 * `errors`. -ENOMEM. */
int reload_open(const struct reload_options *options, FILE *errors, struct reload **out);
const struct pems *reload_pems(const struct reload *reload); /* that run; borrowed */
/* From here on changes of certificates are followed. */
void reload_start(struct reload *reload);
/* Read the file again. While that is under way, once more after it. */
void reload_begin(struct reload *reload);
/* A worker went on (shared->changed). */
void reload_look(struct reload *reload);
void reload_report(const struct reload *reload, struct report *report); /* adds its part */
/* Nothing is taken any more: workers are told to stop. A NULL *reload is fine here and below. */
void reload_stop(struct reload *reload);
void reload_close(struct reload **reload);

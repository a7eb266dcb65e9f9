/* The embedded registrar on the main loop, behind a mailbox that is always there: a configuration
 * may come to need it later. One that was needed once stays, for the calls that run through it.
 *
 * Ownership: the struct is the caller's, all zero before embedded_open(), and stays until the
 *            loop has run once more after embedded_close().
 * Threads:   the main thread's; its mailbox is for all. */
#pragma once

#include <uv.h>

#include "admin/report.h"
#include "mailbox.h"
#include "proxy/registrar.h"
#include "wheel.h"
#include "worker.h"

struct embedded {
    uv_loop_t *loop;
    struct worker *const *workers;
    unsigned worker_count;
    struct mailbox *mailbox;
    struct wheel wheel;          /* timers NULL: not open */
    struct registrar *registrar; /* NULL: no configuration has needed it */
    const struct conf *conf;     /* that it has: a reference */
};

/* workers: complete before any is run. -ENOMEM, ... */
int embedded_open(struct embedded *embedded, uv_loop_t *loop, struct worker *const *workers,
                  unsigned worker_count);
/* Another configuration, or the first: prepared, which can fail, then taken. -ENOMEM, -EIO. */
int embedded_prepare(struct embedded *embedded, const struct conf *conf);
void embedded_take(struct embedded *embedded, const struct conf *conf);       /* the one prepared */
void embedded_report(const struct embedded *embedded, struct report *report); /* adds its part */
/* Nothing is sent to workers from here on. Its mailbox stays until they have ended. */
void embedded_stop(struct embedded *embedded);
void embedded_close(struct embedded *embedded); /* one that is all zero is fine */

/* Questions to workers: each answers on its own thread, and the main thread goes on when all
 * have, or after a second with what there is.
 *
 * Ownership: question and answers are copied and kept until the last worker is through with them,
 *            which may be long after the second.
 * Threads:   the main thread's; answer() is called on the worker's, and asks_look() whenever a
 *            worker told that it went on (shared->changed). */
#pragma once

#include <uv.h>

#include "worker.h"

struct asks; /* those that are open */

struct answers {
    unsigned count;                   /* of workers */
    const void *of[CONF_WORKERS_MAX]; /* NULL: that worker has not answered; borrowed */
};

struct ask_kind {
    size_t question_size, answer_size; /* plain bytes; an answer is all zero at first */
    /* On the worker's thread, of which it may use what worker.h says is that thread's. */
    void (*answer)(struct worker *worker, const void *question, void *answer);
    /* Free what an answer points to; on any thread. NULL: nothing. */
    void (*release)(void *answer);
};

/* Once for each question that was asked. */
typedef void (*asks_done)(void *context, const struct answers *answers);

/* workers: `count` of them, complete before the first question. */
int asks_open(uv_loop_t *loop, struct worker *const *workers, unsigned count, struct asks **out);
/* `kind` is static. -ENOMEM: nothing was asked. done() never comes from inside. */
int ask_all(struct asks *asks, const struct ask_kind *kind, const void *question, asks_done done,
            void *context);
/* The same to one of them; answers->of[worker] is the only one that can be there. */
int ask_one(struct asks *asks, unsigned worker, const struct ask_kind *kind, const void *question,
            asks_done done, void *context);
unsigned asks_count(const struct asks *asks); /* of workers */
void asks_look(struct asks *asks);
/* What is open is done with the answers of now; no worker is asked any more. The loop must run once
 * more. A NULL *asks is fine. */
void asks_close(struct asks **asks);

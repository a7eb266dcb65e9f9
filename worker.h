/* A worker: a thread with its own loop, OpenSSL library context, timers, proxy, listeners,
 * connections and sockets of the core side.
 *
 * Life: worker_start() .. worker_wait() .. worker_run() .. [worker_drain() .. WORKER_DRAINED ..]
 *       worker_stop() .. WORKER_IDLE .. worker_end() .. WORKER_ENDED .. worker_destroy(). A worker
 *       posts to other mailboxes, and may be posted to, until it is idle; so all must be idle
 *       before any is ended.
 * Threads: these functions are the main thread's. Each change of state is told by
 *          uv_async_send(shared->changed). */
#pragma once

#include <stdatomic.h>

#include <uv.h>

#include "admin/report.h"
#include "mailbox.h"
#include "proxy/proxy.h"
#include "tls/certificate.h"

struct worker;
struct streams;

/* What all workers have in common. Immutable while they run, but for what is atomic. */
struct worker_shared {
    const struct core_view *core; /* at the start of workers, and their configuration */
    struct health *health;
    const uint8_t *run_key; /* of proxy_options */
    uint32_t instance;
    const struct pems
        *pems; /* at the start of workers: read, and checked, for that configuration */
    struct ticket_keys ticket_keys; /* until all workers have started */
    atomic_uint connections;
    struct mailbox *registrar; /* of the embedded registrar */
    struct worker **workers;   /* worker_count; each is complete before any runs */
    unsigned worker_count;
    uv_async_t *changed;
};

enum worker_state {
    WORKER_STARTING,
    WORKER_FAILED,
    WORKER_READY, /* all sockets are open, nothing is served yet */
    WORKER_RUNNING,
    WORKER_DRAINED, /* no connection is left; it still helps other workers */
    WORKER_IDLE,    /* stopped: no connection is left, and it will post nothing any more */
    WORKER_ENDED,   /* the thread is about to return */
};

/* A question to a worker, part of what whoever asks keeps until it is answered. */
struct worker_ask {
    /* On the worker's thread, in the order of questions; or on the main thread's with NULL, where
     * the worker ended before. */
    void (*answer)(struct worker_ask *ask, struct worker *worker);
    struct worker_ask *next; /* the worker's */
};

int worker_start(struct worker_shared *shared, unsigned number, struct worker **out);
/* Wait until it is WORKER_READY or WORKER_FAILED. errors: lines that say why, or "". */
enum worker_state worker_wait(struct worker *worker, const char **errors);
void worker_run(struct worker *worker);
/* No new connections or dialogs; connections go one by one, and with a call when that has ended. It
 * waits without limit. */
void worker_drain(struct worker *worker);
/* Begin to stop: no new connections or requests, and an end to the open ones within their time; at
 * once behind a drain. */
void worker_stop(struct worker *worker);
/* Ask it something, before worker_end(): that it has answered is told like a change of state. */
void worker_ask(struct worker *worker, struct worker_ask *ask);
/* On the worker's thread: its totals of this moment. */
void worker_totals(const struct worker *worker, struct worker_totals *totals);
struct streams *worker_streams(const struct worker *worker); /* on its thread */
void worker_end(struct worker *worker); /* of an idle one, or one that never ran */
enum worker_state worker_state(const struct worker *worker);
/* The core side has changed: told to the worker's loop, which takes a reference of its own. */
void worker_view_set(struct worker *worker, const struct core_view *view);
/* On the worker's thread, in this order: make all that another configuration needs and this one has
 * not (`pems` NULL: the certificates stay as they are). Each mistake is a line on `errors`, and
 * then nothing is prepared. The configuration is borrowed until the next step. */
int worker_prepare(struct worker *worker, const struct conf *conf, const struct pems *pems,
                   FILE *errors);
/* That view and its configuration are it from here on; NULL: the certificates alone were new. */
void worker_take(struct worker *worker, const struct core_view *view);
void worker_forget(struct worker *worker); /* what was prepared */
struct mailbox *worker_mailbox(const struct worker *worker);
/* Wait for the thread's return and free all. totals may be NULL. */
void worker_destroy(struct worker **worker, struct worker_totals *totals);

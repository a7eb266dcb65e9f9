#include "worker.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <openssl/crypto.h>
#include <openssl/provider.h>

#include "lag.h"
#include "listeners.h"
#include "proxy/core_udp.h"
#include "proxy/log.h"
#include "tls/memory.h"
#include "tls/stream.h"
#include "wheel.h"
#include "ws/ws.h"

enum {
    MAILBOX_MESSAGES_MAX = 8192,
    STOP_LOOK_MS = 10,   /* how often a stopping worker looks whether it is done */
    DRAIN_LOOK_MS = 100, /* and a draining one whose connections may go */
};

enum command { COMMAND_NONE, COMMAND_DRAIN, COMMAND_STOP, COMMAND_END };

struct worker {
    struct worker_shared *shared;
    unsigned number;
    uv_thread_t thread;
    uv_sem_t ready, go;
    bool run; /* written before `go` is posted */
    char *errors;
    size_t errors_len;
    _Atomic enum worker_state state;
    _Atomic enum command command;
    _Atomic(const struct core_view *) view; /* a new one, with its reference; NULL: taken */
    _Atomic(struct worker_ask *) asks;      /* not yet seen, the last one first */
    struct worker_totals totals;            /* read after the thread's return */

    /* The thread's own from here on. */
    OSSL_LIB_CTX *openssl, *openssl_before;
    OSSL_PROVIDER *provider;
    struct tickets *tickets;
    struct certificates *certificates; /* NULL: no listener needs them */
    uv_loop_t loop;
    bool loop_open, control_open, draining, quiet;
    uv_async_t control;
    uv_timer_t stop_timer;
    uint64_t stop_deadline;
    struct lag lag;
    struct wheel wheel;
    const struct core_view *core; /* in use, a reference; its conf is the configuration */
    struct proxy *proxy;
    struct streams *streams;
    struct ws *ws;
    struct mailbox *mailbox; /* received by another worker, for this one's proxy */
    struct mailbox *outbox;  /* another's responses, to be sent on a connection of this one */
    struct core_udp *udp4, *udp6;
    struct core_tcp *tcp; /* NULL: no backend has TCP */
    struct listeners listeners;
    struct {
        bool certificates_new;
        struct certificates *certificates;
    } next; /* prepared */
};

static void state_set(struct worker *worker, enum worker_state state)
{
    atomic_store(&worker->state, state);
    uv_async_send(worker->shared->changed);
}

/* ---- the core side ---- */

static void core_deliver(struct worker *worker, const struct core_addr *from, char *bytes,
                         size_t len)
{
    if (worker->proxy && !worker->quiet)
        proxy_receive_core(worker->proxy, from, bytes, len, uv_now(&worker->loop));
}

static void core_lost(void *context, const struct core_addr *to, bool connected, int err)
{
    struct worker *worker = context;

    if (worker->proxy)
        proxy_core_lost(worker->proxy, to, connected, err, uv_now(&worker->loop));
}

static void core_refused(struct worker *worker, const struct core_addr *to, int err)
{
    if (!worker->quiet)
        core_lost(worker, to, false, err);
}

/* The kernel tells one socket of what it can't deliver, whichever had sent: all workers are told.
 * No bytes come with that. */
static void core_refused_all(struct worker *worker, const struct core_addr *to, int err)
{
    const struct worker_shared *shared = worker->shared;
    struct core_addr addr = *to;

    addr.refused = -err;
    for (unsigned i = 0; i < shared->worker_count && !worker->quiet; i++)
        if (i != worker->number)
            mailbox_post(shared->workers[i]->mailbox, &addr, STR(""));
    core_refused(worker, to, err);
}

/* ICMP about a request of ours, as that says itself. */
static void core_returned(struct worker *worker, const struct core_addr *to, int err,
                          struct str quoted)
{
    if (worker->proxy && proxy_core_waits(worker->proxy, to, quoted))
        core_refused_all(worker, to, err);
}

static void core_refused_udp(void *context, const struct core_addr *to, int err, struct str quoted)
{
    struct worker *worker = context;
    struct core_addr addr = *to;
    int sender;

    if (!quoted.p) {
        core_refused_all(worker, to, err);
        return;
    }
    sender = core_sender(quoted, worker->shared->worker_count);
    if (sender < 0 || worker->quiet)
        return;
    addr.refused = -err;
    if ((unsigned)sender == worker->number)
        core_returned(worker, to, err, quoted);
    else
        mailbox_post(worker->shared->workers[sender]->mailbox, &addr, quoted);
}

static void mailbox_delivered(void *context, const struct core_addr *from, char *bytes, size_t len)
{
    if (!from->refused)
        core_deliver(context, from, bytes, len);
    else if (len)
        core_returned(context, from, -from->refused, (struct str){bytes, len});
    else
        core_refused(context, from, -from->refused);
}

static void outbox_delivered(void *context, const struct core_addr *to, char *bytes, size_t len)
{
    struct worker *worker = context;

    if (worker->tcp)
        (void)core_tcp_send(worker->tcp, to, (struct str){bytes, len}); /* what fails is counted */
}

static void core_received(void *context, const struct core_addr *from, char *bytes, size_t len)
{
    struct worker *worker = context;
    unsigned owner = core_owner((struct str){bytes, len}, worker->shared->worker_count);

    if (owner == worker->number)
        core_deliver(worker, from, bytes, len);
    else
        mailbox_post(worker->shared->workers[owner]->mailbox, from, (struct str){bytes, len});
}

static bool core_known(void *context, const struct core_addr *from)
{
    const struct worker *worker = context;

    return worker->proxy && proxy_core_known(worker->proxy, from);
}

/* A full mailbox loses messages as a network would: who sent them sends again. */
static int core_send(void *context, const struct core_addr *to, struct str bytes)
{
    struct worker *worker = context;
    struct core_udp *udp;
    unsigned owner;

    if (worker->quiet)
        return -EPIPE;
    switch (to->kind) {
    case CORE_UDP:
        udp = to->sa.sa_family == AF_INET ? worker->udp4 : worker->udp6;
        return udp ? core_udp_send(udp, to, bytes) : -EPIPE;
    case CORE_TCP:
        if (to->connection && to->worker != worker->number)
            return mailbox_post(worker->shared->workers[to->worker]->outbox, to, bytes);
        return worker->tcp ? core_tcp_send(worker->tcp, to, bytes) : -EPIPE;
    case CORE_EMBEDDED: return mailbox_post(worker->shared->registrar, to, bytes);
    case CORE_SELF: /* through the mailbox even if it is this worker's: never from inside a send */
        owner = core_owner(bytes, worker->shared->worker_count);
        return mailbox_post(worker->shared->workers[owner]->mailbox, to, bytes);
    }
    return -EPIPE;
}

static void flow_gone(void *context, struct str token)
{
    const struct core_addr self = {.kind = CORE_SELF};
    struct worker *worker = context;

    if (!worker->quiet)
        mailbox_post(worker->shared->registrar, &self, token);
}

/* ---- the access side ---- */

static void accepted(void *context, const struct conf_listener *conf, int fd,
                     const struct sockaddr *peer, const struct sockaddr *local)
{
    struct worker *worker = context;

    streams_accept(worker->streams, conf, fd, peer, local);
}

static void refused(void *context, const struct conf_listener *conf, enum cause cause,
                    const struct sockaddr *peer, const struct sockaddr *local)
{
    const struct worker *worker = context;

    streams_refused(worker->streams, conf, cause, peer, local);
}

static void timers_changed(void *context)
{
    (void)context; /* the wheel is set before the loop waits */
}

/* ---- start ---- */

static int certificates_make(struct worker *worker, const struct conf *conf,
                             const struct pems *pems, struct certificates **out)
{
    const struct certificates_options options = {
        .conf = conf, .pems = pems, .tickets = worker->tickets};

    return conf->certificate_count ? certificates_load(&options, out) : 0;
}

static int openssl_open(struct worker *worker, FILE *errors)
{
    int err;

    worker->openssl = OSSL_LIB_CTX_new();
    if (worker->openssl)
        worker->provider = OSSL_PROVIDER_load(worker->openssl, "default");
    if (!worker->provider) {
        fprintf(errors, "OpenSSL: no library context, or its default provider can't be loaded\n");
        return -EIO;
    }
    worker->openssl_before = OSSL_LIB_CTX_set0_default(worker->openssl);
    err = tickets_open(&worker->shared->ticket_keys, &worker->tickets);
    if (!err)
        err = certificates_make(worker, worker->core->conf, worker->shared->pems,
                                &worker->certificates);
    if (err)
        fprintf(errors, "a worker can't use the certificates: %s\n", strerror(-err));
    return err;
}

/* A family of addresses that the view has, and we have no socket of yet. */
static int core_open(struct worker *worker, const struct core_addr *local, struct core_udp **udp)
{
    struct core_udp_options options = {
        .loop = &worker->loop,
        .local = local,
        .received = core_received,
        .refused = core_refused_udp,
        .context = worker,
    };
    int err;

    if (!local->in.sin_port || *udp) /* the port is at the same place in both families */
        return 0;
    err = core_udp_open(&options, udp);
    if (!err && worker->tcp)
        err = core_tcp_local_set(worker->tcp, local);
    if (err)
        core_udp_close(udp);
    return err;
}

static int core_tcp_start(struct worker *worker, const struct core_view *view)
{
    struct core_tcp_options options = {
        .loop = &worker->loop,
        .timers = worker->wheel.timers,
        .worker = (uint8_t)worker->number,
        .message_max = view->conf->limits.message_size,
        .known = core_known,
        .received = core_received,
        .lost = core_lost,
        .context = worker,
    };
    int err;

    if (!view->tcp || worker->tcp)
        return 0;
    err = core_tcp_open(&options, &worker->tcp);
    if (!err && worker->udp4)
        err = core_tcp_local_set(worker->tcp, &view->local4);
    if (!err && worker->udp6)
        err = core_tcp_local_set(worker->tcp, &view->local6);
    if (err)
        core_tcp_close(&worker->tcp);
    return err;
}

/* What it needs and is not there yet. */
static int core_follow(struct worker *worker, const struct core_view *view)
{
    int err = core_tcp_start(worker, view);

    if (!err)
        err = core_open(worker, &view->local4, &worker->udp4);
    return err ? err : core_open(worker, &view->local6, &worker->udp6);
}

static int sides_open(struct worker *worker)
{
    struct worker_shared *shared = worker->shared;
    struct streams_options streams = {
        .loop = &worker->loop,
        .proxy = worker->proxy,
        .timers = worker->wheel.timers,
        .timers_changed = timers_changed,
        .context = worker,
        .conf = worker->core->conf,
        .certificates = worker->certificates,
        .websocket = &ws_protocol,
        .connections = &shared->connections,
    };
    int err = ws_create(&worker->ws);

    streams.websocket_context = worker->ws;
    if (!err)
        err = streams_create(&streams, &worker->streams);
    if (!err)
        err = core_follow(worker, worker->core);
    return err;
}

static int access_open(struct worker *worker, FILE *errors)
{
    int err;

    worker->listeners.options = (struct listener_options){
        .loop = &worker->loop,
        .connections = &worker->shared->connections,
        .accepted = accepted,
        .refused = refused,
        .context = worker,
    };
    err = listeners_open(&worker->listeners, worker->core->conf, errors);
    return err ? err : listeners_start(&worker->listeners);
}

static void control_received(uv_async_t *control);

static int loop_open(struct worker *worker)
{
    int err = uv_loop_init(&worker->loop);

    if (err)
        return err;
    worker->loop_open = true;
    lag_open(&worker->loop, &worker->lag);
    err = uv_async_init(&worker->loop, &worker->control, control_received);
    if (err)
        return err;
    worker->control_open = true;
    worker->control.data = worker;
    uv_timer_init(&worker->loop, &worker->stop_timer);
    worker->stop_timer.data = worker;
    err = wheel_open(&worker->loop, &worker->wheel);
    if (!err)
        err = mailbox_open(&worker->loop, MAILBOX_MESSAGES_MAX, mailbox_delivered, worker,
                           &worker->mailbox);
    if (!err)
        err = mailbox_open(&worker->loop, MAILBOX_MESSAGES_MAX, outbox_delivered, worker,
                           &worker->outbox);
    return err;
}

static int set_up(struct worker *worker, FILE *errors)
{
    const struct worker_shared *shared = worker->shared;
    struct proxy_options proxy = {
        .core = worker->core,
        .health = shared->health,
        .probes = worker->number == 0,
        .worker = (uint8_t)worker->number,
        .run_key = shared->run_key,
        .instance = shared->instance,
        .core_send = core_send,
        .flow_gone = flow_gone,
        .context = worker,
    };
    int err = openssl_open(worker, errors);

    if (err)
        return err; /* and said why */
    err = loop_open(worker);
    if (!err) {
        proxy.timers = worker->wheel.timers;
        proxy.now = uv_now(&worker->loop);
        err = proxy_create(&proxy, &worker->proxy);
    }
    if (!err)
        err = sides_open(worker);
    if (err) {
        fprintf(errors, "a worker can't start: %s\n", strerror(-err));
        return err;
    }
    return access_open(worker, errors);
}

/* ---- stop ---- */

void worker_totals(const struct worker *worker, struct worker_totals *totals)
{
    const struct core_udp *const udp[] = {worker->udp4, worker->udp6};
    struct mailbox *const boxes[] = {worker->mailbox, worker->outbox};

    *totals = worker->totals;
    for (size_t i = 0; i < ARRAY_LEN(udp); i++)
        if (udp[i]) {
            totals->core_received += core_udp_counters(udp[i])->received;
            totals->core_sent += core_udp_counters(udp[i])->sent;
            totals->core_dropped += core_udp_counters(udp[i])->send_dropped;
        }
    if (worker->proxy) {
        totals->proxy = *proxy_counters(worker->proxy);
        totals->retransmissions = *proxy_retransmissions(worker->proxy);
        totals->given_up = proxy_given_up(worker->proxy);
        totals->sizes = proxy_sizes(worker->proxy);
    }
    if (worker->streams)
        totals->streams = *streams_counters(worker->streams);
    if (worker->mailbox)
        memset(&totals->mailbox, 0, sizeof(totals->mailbox));
    for (size_t i = 0; i < ARRAY_LEN(boxes); i++)
        if (boxes[i]) {
            const struct mailbox_counters counters = mailbox_counters(boxes[i]);

            totals->mailbox.posted += counters.posted;
            totals->mailbox.dropped += counters.dropped;
            totals->mailbox.waiting += counters.waiting;
        }
    if (worker->tcp)
        totals->tcp = *core_tcp_counters(worker->tcp);
    if (worker->wheel.timers)
        totals->timers = timers_count(worker->wheel.timers);
    totals->lag = worker->lag.turns;
    totals->lag_longest_ms = worker->loop_open ? lag_longest_ms(&worker->lag) : 0;
}

/* Nothing is posted by this worker from here on, whatever its timers still do. */
static void be_quiet(struct worker *worker)
{
    worker->quiet = true;
    worker_totals(worker, &worker->totals);
    core_udp_close(&worker->udp4);
    core_udp_close(&worker->udp6);
    core_tcp_close(&worker->tcp);
}

/* Two times to wait for: open transactions to end, then connections to close. */
static void stop_look(uv_timer_t *timer)
{
    struct worker *worker = timer->data;
    bool closing = !worker->stop_deadline;

    if (!closing &&
        (!proxy_unanswered(worker->proxy) || uv_now(&worker->loop) >= worker->stop_deadline)) {
        worker->stop_deadline = 0;
        streams_close(worker->streams);
        closing = true;
    }
    if (!closing || streams_count(worker->streams))
        return;
    uv_timer_stop(timer);
    be_quiet(worker);
    state_set(worker, WORKER_IDLE);
}

/* It waits for calls that come to an end by themselves. Its sockets stay open: other workers may
 * still get their messages by them. */
static void drain_look(uv_timer_t *timer)
{
    struct worker *worker = timer->data;

    streams_drain_look(worker->streams);
    if (streams_count(worker->streams))
        return;
    uv_timer_stop(timer);
    state_set(worker, WORKER_DRAINED);
}

static void drain_begin(struct worker *worker)
{
    unsigned spread_s = worker->core->conf->limits.drain_spread_s;
    unsigned timeout_s = worker->core->conf->limits.drain_timeout_s;
    unsigned spread_ms = (spread_s < timeout_s ? spread_s : timeout_s) * 1000;

    worker->draining = true;
    listeners_close(&worker->listeners);
    uv_update_time(&worker->loop);
    proxy_drain(worker->proxy, spread_ms, uv_now(&worker->loop));
    streams_drain(worker->streams, spread_ms);
    uv_timer_start(&worker->stop_timer, drain_look, 0, DRAIN_LOOK_MS);
}

static void stop_begin(struct worker *worker)
{
    unsigned timeout_ms = worker->draining ? 0 : worker->core->conf->limits.stop_timeout_ms;

    listeners_close(&worker->listeners);
    uv_update_time(&worker->loop);
    proxy_drain(worker->proxy, timeout_ms, uv_now(&worker->loop));
    worker->stop_deadline = uv_now(&worker->loop) + timeout_ms;
    uv_timer_start(&worker->stop_timer, stop_look, 0, STOP_LOOK_MS);
}

/* Close every handle, so that the loop ends. Everything may be missing: also for a failed start. */
static void tear_down(struct worker *worker)
{
    listeners_close(&worker->listeners);
    be_quiet(worker);
    if (worker->streams)
        streams_destroy(&worker->streams);
    ws_destroy(&worker->ws);
    if (worker->proxy)
        proxy_destroy(&worker->proxy);
    wheel_close(&worker->wheel);
    lag_close(&worker->lag);
    mailbox_close(&worker->mailbox);
    mailbox_close(&worker->outbox);
    if (worker->control_open) {
        uv_close((uv_handle_t *)&worker->control, NULL);
        uv_close((uv_handle_t *)&worker->stop_timer, NULL);
        worker->control_open = false;
    }
}

/* What can't be opened is tried with the next view; until then nothing goes there. */
static void view_use(struct worker *worker, const struct core_view *view)
{
    const struct core_view *before = worker->core;
    int err = core_follow(worker, view);

    if (err)
        log_event(LOG_ERROR, "a worker has no socket of the core side",
                  LOG_NUMBER("worker", worker->number), LOG_TEXT("reason", str_of(strerror(-err))));
    worker->core = core_view_ref(view);
    proxy_view_set(worker->proxy, view);
    if (before->conf != view->conf) {
        streams_conf_set(worker->streams, view->conf);
        listeners_take(&worker->listeners, view->conf);
        if (worker->tcp)
            (void)core_tcp_message_max_set(worker->tcp, view->conf->limits.message_size);
    }
    core_view_unref(&before);
}

/* One of another configuration was made before that came to be ours, so a later one has been taken
 * since. */
static void view_take(struct worker *worker, const struct core_view *view)
{
    if (view && worker->proxy && !worker->quiet && view->conf == worker->core->conf)
        view_use(worker, view);
    core_view_unref(&view);
}

/* ---- another configuration ---- */

int worker_prepare(struct worker *worker, const struct conf *conf, const struct pems *pems,
                   FILE *errors)
{
    int err = 0;

    worker_forget(worker);
    if (!worker->proxy || worker->quiet)
        return 0;
    if (pems)
        err = certificates_make(worker, conf, pems, &worker->next.certificates);
    worker->next.certificates_new = pems;
    if (!err)
        err = proxy_conf_prepare(worker->proxy, conf);
    if (!err)
        err = streams_conf_prepare(worker->streams, conf);
    if (!err && worker->tcp && conf->limits.message_size > worker->core->conf->limits.message_size)
        err = core_tcp_message_max_set(worker->tcp, conf->limits.message_size);
    if (err)
        fprintf(errors, "a worker can't prepare for it: %s\n", strerror(-err));
    else
        err = listeners_prepare(&worker->listeners, conf, errors);
    if (err)
        worker_forget(worker);
    return err;
}

void worker_take(struct worker *worker, const struct core_view *view)
{
    if (worker->next.certificates_new) {
        certificates_unref(&worker->certificates);
        worker->certificates = worker->next.certificates;
        worker->next.certificates = NULL;
        worker->next.certificates_new = false;
        if (worker->streams)
            streams_certificates_set(worker->streams, worker->certificates);
    }
    if (view && worker->proxy && !worker->quiet)
        view_use(worker, view);
    worker_forget(worker);
}

void worker_forget(struct worker *worker)
{
    certificates_unref(&worker->next.certificates);
    worker->next.certificates_new = false;
    listeners_forget(&worker->listeners);
}

/* `by` NULL: nobody is there any more who could. */
static void asks_answer(struct worker *worker, struct worker *by)
{
    struct worker_ask *ask = atomic_exchange(&worker->asks, NULL), *first = NULL, *next;

    for (; ask; ask = next) {
        next = ask->next;
        ask->next = first;
        first = ask;
    }
    for (ask = first; ask; ask = next) {
        next = ask->next; /* it may be gone once it is answered */
        ask->answer(ask, by);
    }
}

static void control_received(uv_async_t *control)
{
    struct worker *worker = control->data;
    /* Before the questions, as what has been taken with one is older than a view that follows. */
    const struct core_view *view = atomic_exchange(&worker->view, NULL);

    if (atomic_load(&worker->asks)) {
        asks_answer(worker, worker);
        uv_async_send(worker->shared->changed);
    }
    view_take(worker, view);
    switch (atomic_exchange(&worker->command, COMMAND_NONE)) {
    case COMMAND_DRAIN: drain_begin(worker); break;
    case COMMAND_STOP: stop_begin(worker); break;
    case COMMAND_END: tear_down(worker); break;
    case COMMAND_NONE: break;
    }
}

static void release(struct worker *worker)
{
    if (worker->loop_open) {
        uv_run(&worker->loop, UV_RUN_DEFAULT); /* what was closed says good-bye */
        if (uv_loop_close(&worker->loop))
            log_event(LOG_ERROR, "a handle of a worker was left open",
                      LOG_NUMBER("worker", worker->number));
    }
    certificates_unref(&worker->certificates);
    certificates_unref(&worker->next.certificates);
    tickets_close(&worker->tickets);
    core_view_unref(&worker->core);
    if (worker->openssl) {
        if (worker->openssl_before) /* OpenSSL does not free a context that is the default */
            OSSL_LIB_CTX_set0_default(worker->openssl_before);
        OPENSSL_thread_stop_ex(worker->openssl);
        if (worker->provider)
            OSSL_PROVIDER_unload(worker->provider);
        OSSL_LIB_CTX_free(worker->openssl);
    }
    tls_memory_thread_end();
}

static void thread_main(void *context)
{
    struct worker *worker = context;
    FILE *errors = open_memstream(&worker->errors, &worker->errors_len);
    int err;

    worker->core = core_view_ref(worker->shared->core);
    err = errors ? set_up(worker, errors) : -ENOMEM;
    if (errors)
        fclose(errors); /* the text is complete now */
    atomic_store(&worker->state, err ? WORKER_FAILED : WORKER_READY);
    uv_sem_post(&worker->ready);
    uv_sem_wait(&worker->go);
    if (!err && worker->run) {
        atomic_store(&worker->state, WORKER_RUNNING);
        uv_run(&worker->loop, UV_RUN_DEFAULT); /* until tear_down() */
    } else {
        tear_down(worker);
    }
    release(worker);
    state_set(worker, WORKER_ENDED);
}

/* ---- the main thread's ---- */

int worker_start(struct worker_shared *shared, unsigned number, struct worker **out)
{
    struct worker *worker = calloc(1, sizeof(*worker));
    int err;

    if (!worker)
        return -ENOMEM;
    worker->shared = shared;
    worker->number = number;
    err = uv_sem_init(&worker->ready, 0);
    if (err)
        goto no_ready;
    err = uv_sem_init(&worker->go, 0);
    if (err)
        goto no_go;
    err = uv_thread_create(&worker->thread, thread_main, worker);
    if (err)
        goto no_thread;
    *out = worker;
    return 0;
no_thread:
    uv_sem_destroy(&worker->go);
no_go:
    uv_sem_destroy(&worker->ready);
no_ready:
    free(worker);
    return err;
}

enum worker_state worker_wait(struct worker *worker, const char **errors)
{
    uv_sem_wait(&worker->ready);
    *errors = worker->errors ? worker->errors : "out of memory\n";
    return atomic_load(&worker->state);
}

void worker_run(struct worker *worker)
{
    worker->run = true;
    uv_sem_post(&worker->go);
}

void worker_drain(struct worker *worker)
{
    atomic_store(&worker->command, COMMAND_DRAIN);
    uv_async_send(&worker->control);
}

void worker_stop(struct worker *worker)
{
    atomic_store(&worker->command, COMMAND_STOP);
    uv_async_send(&worker->control);
}

void worker_ask(struct worker *worker, struct worker_ask *ask)
{
    ask->next = atomic_load(&worker->asks);
    while (!atomic_compare_exchange_weak(&worker->asks, &ask->next, ask))
        ;
    uv_async_send(&worker->control);
}

void worker_end(struct worker *worker)
{
    if (!worker->run) {
        uv_sem_post(&worker->go);
        return;
    }
    atomic_store(&worker->command, COMMAND_END);
    uv_async_send(&worker->control);
}

enum worker_state worker_state(const struct worker *worker)
{
    return atomic_load(&worker->state);
}

void worker_view_set(struct worker *worker, const struct core_view *view)
{
    const struct core_view *before = atomic_exchange(&worker->view, core_view_ref(view));

    core_view_unref(&before); /* one that it has not seen */
    uv_async_send(&worker->control);
}

struct streams *worker_streams(const struct worker *worker)
{
    return worker->streams;
}

struct mailbox *worker_mailbox(const struct worker *worker)
{
    return worker->mailbox;
}

void worker_destroy(struct worker **worker, struct worker_totals *totals)
{
    const struct core_view *view;

    if (!*worker)
        return;
    uv_thread_join(&(*worker)->thread);
    view = atomic_load(&(*worker)->view);
    core_view_unref(&view);
    asks_answer(*worker, NULL);
    if (totals)
        *totals = (*worker)->totals;
    uv_sem_destroy(&(*worker)->go);
    uv_sem_destroy(&(*worker)->ready);
    free((*worker)->errors);
    free(*worker);
    *worker = NULL;
}

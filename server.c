#include "server.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "announce.h"
#include "core_view.h"
#include "embedded.h"
#include "listeners.h"
#include "pages.h"
#include "proxy/log.h"
#include "proxy/value.h"
#include "reload.h"
#include "reports.h"
#include "worker.h"

enum { SIGNAL_ECHO_MS = 500, DRAIN_REPORT_MS = 10000 };

struct server {
    const struct conf *conf;  /* a reference */
    struct core_views *views; /* NULL: stopped */
    struct health health;
    uint8_t run_key[32];
    struct reload *reload;
    struct worker_shared shared;
    struct worker *workers[CONF_WORKERS_MAX];

    uv_loop_t loop;
    uv_async_t changed;
    uv_signal_t signals[4];
    struct embedded embedded;
    struct asks *asks;
    struct reports *reports;
    struct pages *pages;
    bool serving, stopping, draining, ending; /* it stops while it drains, too */
    uint64_t stopping_since, drain_until;     /* of the loop clock */
    uv_timer_t drain_timer;
    struct worker_totals totals;
};

/* ---- the embedded registrar ---- */

static int embedded_start(struct server *server)
{
    int err =
        embedded_open(&server->embedded, &server->loop, server->workers, server->conf->workers);

    server->shared.registrar = server->embedded.mailbox;
    return err ? err : embedded_prepare(&server->embedded, server->conf);
}

/* ---- the core side ---- */

static void view_changed(void *context, const struct core_view *view)
{
    struct server *server = context;

    for (unsigned i = 0; i < server->conf->workers; i++)
        worker_view_set(server->workers[i], view);
}

static int views_open(struct server *server)
{
    const struct core_views_options options = {
        .loop = &server->loop,
        .conf = server->conf,
        .health = &server->health,
        .changed = view_changed,
        .context = server,
    };
    int err = core_views_open(&options, &server->views);

    if (err == -ENOMEM)
        fprintf(stderr, "no memory\n");
    if (!err)
        err = core_views_start(server->views, stderr);
    if (!err)
        server->shared.core = core_views_now(server->views);
    return err;
}

/* ---- another configuration ---- */

static void conf_taken(void *context, const struct conf *conf)
{
    struct server *server = context;

    conf_unref(&server->conf);
    server->conf = conf_ref(conf);
}

static int reload_prepare(struct server *server)
{
    const struct reload_options options = {
        .loop = &server->loop,
        .conf = server->conf,
        .workers = server->workers,
        .views = server->views,
        .embedded = &server->embedded,
        .pages = server->pages,
        .health = &server->health,
        .taken = conf_taken,
        .context = server,
    };
    int err = reload_open(&options, stderr, &server->reload);

    if (!err)
        server->shared.pems = reload_pems(server->reload);
    return err;
}

/* ---- workers ---- */

static int workers_start(struct server *server)
{
    const char *errors, *said = "";
    int err = 0;

    for (unsigned i = 0; i < server->conf->workers && !err; i++) {
        err = worker_start(&server->shared, i, &server->workers[i]);
        if (err)
            fprintf(stderr, "worker %u: %s\n", i, strerror(-err));
    }
    for (unsigned i = 0; i < server->conf->workers && server->workers[i]; i++) {
        if (worker_wait(server->workers[i], &errors) == WORKER_READY)
            continue;
        err = -EIO;
        if (strcmp(said, errors) != 0) /* all workers meet the same mistakes */
            fputs(errors, stderr);
        said = errors;
    }
    explicit_bzero(&server->shared.ticket_keys, sizeof(server->shared.ticket_keys));
    server->shared.core = NULL;
    server->shared.pems = NULL;
    return err;
}

static bool workers_all(const struct server *server, enum worker_state state)
{
    for (unsigned i = 0; i < server->conf->workers; i++)
        if (server->workers[i] && worker_state(server->workers[i]) != state)
            return false;
    return true;
}

static void workers_join(struct server *server)
{
    for (unsigned i = 0; i < server->conf->workers; i++) {
        struct worker_totals totals = {0};

        worker_destroy(&server->workers[i], &totals);
        worker_totals_add(&server->totals, &totals);
    }
}

static void workers_end(struct server *server)
{
    for (unsigned i = 0; i < server->conf->workers; i++)
        if (server->workers[i])
            worker_end(server->workers[i]);
}

/* ---- what there is at a moment ---- */

static int64_t wall_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

static void report_fill(void *context, struct report *report)
{
    struct server *server = context;

    report->phase = server->stopping  ? REPORT_DRAINING
                    : server->serving ? REPORT_SERVING
                                      : REPORT_STARTING;
    report->now = uv_now(&server->loop);
    report->wall_ms = wall_ms();
    report->conf = server->conf;
    report->view = server->views ? core_views_now(server->views) : NULL;
    report->health = &server->health;
    report->connections = atomic_load(&server->shared.connections);
    report->connections_max = server->conf->connections_max;
    embedded_report(&server->embedded, report);
    reload_report(server->reload, report);
}

static int reports_start(struct server *server)
{
    struct reports_options options = {.fill = report_fill, .context = server};
    int err = asks_open(&server->loop, server->workers, server->conf->workers, &server->asks);

    options.asks = server->asks;
    if (!err)
        err = reports_open(&options, &server->reports);
    if (!err)
        err = pages_open(&(struct pages_options){&server->loop, server->asks, server->reports},
                         &server->pages);
    return err;
}

/* Workers are about to end: they are asked no more. */
static void reports_end(struct server *server)
{
    asks_close(&server->asks);
    reports_close(&server->reports);
    pages_close(&server->pages);
}

/* ---- the main loop ---- */

static void loop_handles_close(struct server *server)
{
    core_views_close(&server->views);
    reports_end(server);
    reload_close(&server->reload);
    embedded_close(&server->embedded);
    uv_close((uv_handle_t *)&server->changed, NULL);
    uv_close((uv_handle_t *)&server->drain_timer, NULL);
    for (size_t i = 0; i < ARRAY_LEN(server->signals); i++)
        uv_close((uv_handle_t *)&server->signals[i], NULL);
}

static void status(void *context, const struct report *report)
{
    (void)context;
    report_log(report, "status");
}

static void report(uv_signal_t *handle, int signum)
{
    const struct server *server = handle->data;

    (void)signum;
    if (server->reports && reports_ask(server->reports, status, NULL))
        log_event(LOG_ERROR, "no memory for the status");
}

static void workers_stop(struct server *server)
{
    core_views_close(&server->views); /* it would tell workers that are gone */
    for (unsigned i = 0; i < server->conf->workers; i++)
        worker_stop(server->workers[i]);
}

/* ---- drain ---- */

static int64_t drain_seconds(const struct server *server)
{
    return (int64_t)(uv_now(&server->loop) - server->stopping_since) / 1000;
}

static void drain_log(void *context, const struct report *report)
{
    const struct server *server = context;

    log_event(LOG_INFO, "draining", LOG_NUMBER("connections", report->connections),
              LOG_NUMBER("dialogs", (int64_t)report->sum.sizes.dialogs),
              LOG_NUMBER("seconds", drain_seconds(server)),
              LOG_NUMBER("timeout", server->conf->limits.drain_timeout_s));
}

static void drain_end(struct server *server)
{
    unsigned connections = atomic_load(&server->shared.connections);

    server->draining = false;
    uv_timer_stop(&server->drain_timer);
    if (connections)
        log_event(LOG_WARNING, "drain timeout: what is left is closed",
                  LOG_NUMBER("connections", connections),
                  LOG_NUMBER("seconds", drain_seconds(server)),
                  LOG_TEXT("remedy", STR("limits.drain_timeout is the time that calls get")));
    else
        log_event(LOG_INFO, "drained", LOG_NUMBER("seconds", drain_seconds(server)));
    workers_stop(server);
}

static void drain_look(uv_timer_t *timer)
{
    struct server *server = timer->data;
    uint64_t now = uv_now(&server->loop);
    uint64_t left = server->drain_until > now ? server->drain_until - now : 0;

    if (!left) {
        drain_end(server);
        return;
    }
    (void)reports_ask(server->reports, drain_log, server); /* without memory: no line */
    uv_timer_start(timer, drain_look, left < DRAIN_REPORT_MS ? left : DRAIN_REPORT_MS, 0);
}

static void drain_begin(struct server *server)
{
    server->draining = true;
    server->drain_until = server->stopping_since + server->conf->limits.drain_timeout_s * 1000ULL;
    drain_look(&server->drain_timer); /* the workers answer before they begin */
    for (unsigned i = 0; i < server->conf->workers && server->draining; i++)
        worker_drain(server->workers[i]);
}

/* ---- stop ---- */

/* A worker went on. All of them idle: nobody posts any more, so they can end. */
static void worker_changed(uv_async_t *changed)
{
    struct server *server = changed->data;

    if (server->asks)
        asks_look(server->asks);
    reload_look(server->reload);
    if (server->draining && workers_all(server, WORKER_DRAINED))
        drain_end(server);
    if (server->stopping && !server->ending && workers_all(server, WORKER_IDLE)) {
        server->ending = true;
        reports_end(server);
        embedded_stop(&server->embedded);
        workers_end(server);
    } else if (server->ending && workers_all(server, WORKER_ENDED)) {
        workers_join(server); /* before the handle that they tell this by is closed */
        loop_handles_close(server);
    }
}

/* SIGTERM waits for calls to end, SIGINT is somebody at a terminal. */
static void stop(uv_signal_t *handle, int signum)
{
    struct server *server = handle->data;
    struct str name = signum == SIGINT ? STR("SIGINT") : STR("SIGTERM");

    if (server->stopping) {
        /* timeout(1) and shells signal the process and its group: both are the first one. */
        if (uv_now(handle->loop) - server->stopping_since < SIGNAL_ECHO_MS)
            return;
        log_event(LOG_WARNING, "stopped at once by a second signal", LOG_TEXT("signal", name));
        _exit(1);
    }
    server->stopping = true;
    server->stopping_since = uv_now(handle->loop);
    log_event(LOG_INFO, "stopping", LOG_TEXT("signal", name),
              LOG_NUMBER("connections", atomic_load(&server->shared.connections)));
    reload_stop(server->reload);
    if (signum == SIGTERM)
        drain_begin(server);
    else
        workers_stop(server);
}

static void reload(uv_signal_t *handle, int signum)
{
    const struct server *server = handle->data;

    (void)signum;
    reload_begin(server->reload);
}

static int loop_open(struct server *server)
{
    int err = uv_loop_init(&server->loop);

    if (err)
        return err;
    err = uv_async_init(&server->loop, &server->changed, worker_changed);
    if (err) {
        uv_loop_close(&server->loop);
        return err;
    }
    server->changed.data = server;
    uv_timer_init(&server->loop, &server->drain_timer);
    server->drain_timer.data = server;
    for (size_t i = 0; i < ARRAY_LEN(server->signals); i++) {
        uv_signal_init(&server->loop, &server->signals[i]);
        server->signals[i].data = server;
    }
    return 0;
}

static int signals_start(struct server *server)
{
    int err = uv_signal_start(&server->signals[0], stop, SIGINT);

    if (!err)
        err = uv_signal_start(&server->signals[1], stop, SIGTERM);
    if (!err)
        err = uv_signal_start(&server->signals[2], reload, SIGHUP);
    if (!err)
        err = uv_signal_start(&server->signals[3], report, SIGUSR1);
    return err;
}

/* ---- what it says ---- */

static void log_start(const struct server *server)
{
    log_event(LOG_INFO, "sipward starts", LOG_TEXT("version", STR(SIPWARD_VERSION)),
              LOG_NUMBER("workers", server->conf->workers),
              LOG_NUMBER("connections-max", server->conf->connections_max));
    announce_listeners(server->conf, NULL);
    announce_core(core_views_now(server->views), NULL);
    pages_log(server->pages, server->conf);
}

/* ---- all together ---- */

static int shared_init(struct server *server, unsigned workers)
{
    struct worker_shared *shared = &server->shared;

    shared->health = &server->health;
    shared->workers = server->workers;
    shared->worker_count = workers;
    shared->changed = &server->changed;
    shared->run_key = server->run_key;
    if (getrandom(server->run_key, sizeof(server->run_key), 0) < 0 ||
        getrandom(&shared->instance, sizeof(shared->instance), 0) < 0 ||
        getrandom(shared->ticket_keys.bytes, sizeof(shared->ticket_keys.bytes), 0) < 0) {
        fprintf(stderr, "no random numbers: %s\n", strerror(errno));
        return -1;
    }
    shared->ticket_keys.made_s = (int64_t)(uv_hrtime() / 1000000000); /* CLOCK_MONOTONIC */
    return 0;
}

/* From here to the end of a clean stop. */
static int serve(struct server *server)
{
    int err = reports_start(server);

    if (err) {
        fprintf(stderr, "can't start: %s\n", strerror(-err));
    } else {
        err = views_open(server);
        err |= reload_prepare(server);
        err |= listeners_probe(server->conf, NULL, stderr);
        err |= pages_listen(server->pages, server->conf, stderr);
    }
    if (!err) {
        err = embedded_start(server);
        if (!err)
            err = signals_start(server);
        if (err)
            fprintf(stderr, "can't start: %s\n", strerror(-err));
    }
    if (!err)
        err = workers_start(server);
    if (err) { /* none of them serves yet */
        workers_end(server);
        workers_join(server);
        loop_handles_close(server);
        uv_run(&server->loop, UV_RUN_DEFAULT);
        return 1;
    }
    log_start(server);
    for (unsigned i = 0; i < server->conf->workers; i++)
        worker_run(server->workers[i]);
    server->serving = true;
    reload_start(server->reload);
    log_event(LOG_INFO, "sipward is ready");
    uv_run(&server->loop, UV_RUN_DEFAULT);
    if (log_enabled(LOG_INFO)) {
        struct report report = {.sum = server->totals};

        report_fill(server, &report);
        report_log(&report, "stopped");
    }
    return 0;
}

int server_run(const struct conf *conf)
{
    static struct server server; /* large; one in a process */
    int result;

    server = (struct server){0};
    signal(SIGPIPE, SIG_IGN);
    if (shared_init(&server, conf->workers))
        return 1;
    sip_values_init();
    if (loop_open(&server)) {
        fprintf(stderr, "can't make an event loop\n");
        return 1;
    }
    server.conf = conf_ref(conf);
    result = serve(&server);
    if (uv_loop_close(&server.loop))
        log_event(LOG_ERROR, "a handle of the main loop was left open");
    conf_unref(&server.conf);
    return result;
}

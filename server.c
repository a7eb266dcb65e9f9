#include "server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include "admin/admin.h"
#include "core_view.h"
#include "pages.h"
#include "proxy/log.h"
#include "proxy/registrar.h"
#include "proxy/value.h"
#include "reports.h"
#include "tls/listener.h"
#include "wheel.h"
#include "worker.h"

enum {
    SIGNAL_ECHO_MS = 500,
    DRAIN_REPORT_MS = 10000,
    CONNECTIONS_CAP = 1048576,
    DESCRIPTORS_RESERVE = 64 + ADMIN_CONNECTIONS_MAX, /* of the process */
    DESCRIPTORS_FOR_A_WORKER = 32,                    /* loop, core sockets, what libraries open */
    DESCRIPTORS_FOR_CORE_TCP = CORE_TCP_ACCEPTED_MAX + ENDPOINTS_MAX, /* of a worker */
    REGISTRAR_MESSAGES_MAX = 16384,
};

struct server {
    const struct conf *conf;
    struct core_views *views; /* NULL: stopped */
    struct health health;
    uint8_t random_key[1][32];
    struct certificates *certificates; /* the main thread's own, checked; NULL: none */
    struct worker_shared shared;
    struct worker *workers[CONF_WORKERS_MAX];

    uv_loop_t loop;
    uv_async_t changed;
    uv_signal_t signals[4];
    struct wheel wheel;
    struct registrar *registrar;
    struct asks *asks;
    struct reports *reports;
    struct pages *pages;
    bool serving, stopping, draining, ending; /* it stops while it drains, too */
    uint64_t stopping_since, drain_until;     /* of the loop clock */
    uv_timer_t drain_timer;
    struct worker_totals totals;
};

static const char *const transports[] = {
    [CONF_TRANSPORT_UDP] = "udp",
    [CONF_TRANSPORT_TCP] = "tcp",
    [CONF_TRANSPORT_AUTO] = "auto",
};

/* ---- what the system gives ---- */

static bool has_tcp_backend(const struct conf *conf)
{
    for (unsigned i = 0; i < conf->backend_count; i++)
        if (conf->backends[i].transport != CONF_TRANSPORT_UDP)
            return true;
    return false;
}

unsigned server_connections_max(const struct conf *conf)
{
    rlim_t reserve = DESCRIPTORS_RESERVE + DESCRIPTORS_FOR_A_WORKER * (rlim_t)conf->workers +
                     (rlim_t)conf->workers * conf->listener_count;
    rlim_t wanted = conf->limits.connections ? conf->limits.connections : CONNECTIONS_CAP;
    struct rlimit limit;

    if (has_tcp_backend(conf))
        reserve += DESCRIPTORS_FOR_CORE_TCP * (rlim_t)conf->workers;
    if (wanted > CONNECTIONS_CAP)
        wanted = CONNECTIONS_CAP;
    if (getrlimit(RLIMIT_NOFILE, &limit))
        return 0;
    if (limit.rlim_cur < wanted + reserve) {
        limit.rlim_cur = limit.rlim_max < wanted + reserve ? limit.rlim_max : wanted + reserve;
        if (setrlimit(RLIMIT_NOFILE, &limit))
            getrlimit(RLIMIT_NOFILE, &limit);
    }
    if (limit.rlim_cur <= reserve)
        return 0;
    if (limit.rlim_cur - reserve >= wanted)
        return (unsigned)wanted;
    if (conf->limits.connections)
        log_event(LOG_WARNING, "limits.connections is more than the system allows",
                  LOG_NUMBER("connections", conf->limits.connections),
                  LOG_NUMBER("descriptors", (int64_t)limit.rlim_cur),
                  LOG_TEXT("remedy", STR("ulimit -n, or LimitNOFILE= of the unit")));
    return (unsigned)(limit.rlim_cur - reserve);
}

static void listener_text(const struct conf_listener *listener, char text[CORE_ADDR_TEXT])
{
    struct core_addr addr = {.kind = CORE_UDP};

    if (listener->any) {
        snprintf(text, CORE_ADDR_TEXT, "%u", ntohs(listener->address.in6.sin6_port));
        return;
    }
    if (listener->address.sa.sa_family == AF_INET)
        addr.in = listener->address.in;
    else
        addr.in6 = listener->address.in6;
    core_addr_text(&addr, text);
}

static const char *listener_remedy(int err)
{
    switch (err) {
    case -EACCES:
        return "ports below 1024 need root, CAP_NET_BIND_SERVICE, or sysctl "
               "net.ipv4.ip_unprivileged_port_start=0";
    case -EADDRINUSE: return "another program, or another sipward, has it: ss -ltnp shows which";
    case -EADDRNOTAVAIL: return "this machine has no such address: ip address shows those it has";
    default: return "";
    }
}

static int listeners_probe(const struct conf *conf)
{
    int failed = 0;

    for (unsigned i = 0; i < conf->listener_count; i++) {
        const struct conf_listener *listener = &conf->listeners[i];
        int err = listener_probe(listener);
        char text[CORE_ADDR_TEXT];

        if (!err)
            continue;
        listener_text(listener, text);
        fprintf(stderr, "%s:%d: listen: %s %s: %s%s%s\n", conf->path, listener->line,
                conf_listener_kind_name(listener->kind), text, strerror(-err),
                *listener_remedy(err) ? ": " : "", listener_remedy(err));
        failed = -1;
    }
    return failed;
}

/* ---- certificates ---- */

static int certificates_open(struct server *server)
{
    const struct conf *conf = server->conf;
    struct certificates_options options = {.conf = conf, .errors = stderr};
    int err = pems_read(conf, &server->shared.pems);

    if (err) {
        fprintf(stderr, "certificates: %s\n", strerror(-err));
        return err;
    }
    options.pems = server->shared.pems;
    return conf->certificate_count ? certificates_load(&options, &server->certificates) : 0;
}

static void certificates_close(struct server *server)
{
    certificates_unref(&server->certificates);
    pems_unref(&server->shared.pems);
}

/* ---- the embedded registrar ---- */

static void registrar_delivered(void *context, const struct core_addr *from, char *bytes,
                                size_t len)
{
    struct server *server = context;

    if (!server->registrar)
        return;
    if (from->kind == CORE_SELF) /* a worker's own word, behind all that its flow sent */
        registrar_flow_gone(server->registrar, (struct str){bytes, len});
    else
        registrar_receive(server->registrar, bytes, len, uv_now(&server->loop));
}

static void registrar_sends(void *context, struct str bytes)
{
    struct server *server = context;
    unsigned owner = core_owner(bytes, server->conf->workers);
    const struct core_addr from = {.kind = CORE_EMBEDDED};

    mailbox_post(worker_mailbox(server->workers[owner]), &from, bytes);
}

static int registrar_open(struct server *server)
{
    struct registrar_options options = {
        .conf = server->conf, .send = registrar_sends, .context = server};
    int err;

    if (server->conf->backend_count)
        return 0;
    err = wheel_open(&server->loop, &server->wheel);
    if (err)
        return err;
    options.timers = server->wheel.timers;
    err = registrar_create(&options, &server->registrar);
    if (!err)
        err = mailbox_open(&server->loop, REGISTRAR_MESSAGES_MAX, registrar_delivered, server,
                           &server->shared.registrar);
    return err;
}

/* Nothing is sent to workers from here on. Its mailbox stays until they have ended. */
static void registrar_close(struct server *server)
{
    if (server->registrar)
        registrar_destroy(&server->registrar);
    wheel_close(&server->wheel);
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
    report->certificates = server->certificates;
    report->connections = atomic_load(&server->shared.connections);
    report->connections_max = server->shared.connections_max;
    if (!server->registrar)
        return;
    report->bindings = registrar_bindings(server->registrar);
    report->sum.sizes.transactions += registrar_transactions(server->registrar);
    report->sum.timers += timers_count(server->wheel.timers);
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
    registrar_close(server);
    mailbox_close(&server->shared.registrar);
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
    if (server->draining && workers_all(server, WORKER_DRAINED))
        drain_end(server);
    if (server->stopping && !server->ending && workers_all(server, WORKER_IDLE)) {
        server->ending = true;
        reports_end(server);
        registrar_close(server);
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
    if (signum == SIGTERM)
        drain_begin(server);
    else
        workers_stop(server);
}

static void reload(uv_signal_t *handle, int signum)
{
    (void)handle;
    (void)signum;
    log_event(LOG_WARNING, "SIGHUP: this version reads its file at start only; restart it");
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

static void log_backend(const struct conf_backend *backend, unsigned index,
                        const struct core_view *view)
{
    char text[CORE_ADDR_TEXT];
    bool none = true;

    for (unsigned i = 0; i < view->endpoint_count; i++) {
        if (view->endpoints[i].backend != index)
            continue;
        none = false;
        core_addr_text(&view->endpoints[i].addr, text);
        log_event(LOG_INFO, "backend", LOG_TEXT("name", str_of(backend->host)),
                  LOG_TEXT("address", str_of(text)),
                  LOG_TEXT("transport", str_of(transports[backend->transport])));
    }
    if (none)
        log_event(LOG_WARNING, "backend has no address yet",
                  LOG_TEXT("name", str_of(backend->host)),
                  LOG_TEXT("transport", str_of(transports[backend->transport])));
}

static void log_core(const struct server *server)
{
    const struct core_view *view = core_views_now(server->views);
    const struct core_addr *locals[] = {&view->local4, &view->local6};
    char text[CORE_ADDR_TEXT];

    if (!server->conf->backend_count) {
        log_event(LOG_INFO, "embedded registrar", LOG_TEXT("domain", str_of(server->conf->domain)),
                  LOG_NUMBER("users", server->conf->user_count));
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(locals); i++)
        if (locals[i]->in.sin_port) { /* at the same place in both families */
            core_addr_text(locals[i], text);
            log_event(LOG_INFO, "core", LOG_TEXT("address", str_of(text)));
        }
    for (unsigned i = 0; i < server->conf->backend_count; i++)
        log_backend(&server->conf->backends[i], i, view);
}

static void log_start(const struct server *server)
{
    char text[CORE_ADDR_TEXT];

    log_event(LOG_INFO, "sipward starts", LOG_TEXT("version", STR(SIPWARD_VERSION)),
              LOG_NUMBER("workers", server->conf->workers),
              LOG_NUMBER("connections-max", server->shared.connections_max));
    for (unsigned i = 0; i < server->conf->listener_count; i++) {
        listener_text(&server->conf->listeners[i], text);
        log_event(
            LOG_INFO, "listening",
            LOG_TEXT("kind", str_of(conf_listener_kind_name(server->conf->listeners[i].kind))),
            LOG_TEXT("address", str_of(text)));
    }
    log_core(server);
    pages_log(server->pages, server->conf);
}

/* ---- all together ---- */

static int shared_init(struct server *server)
{
    struct worker_shared *shared = &server->shared;
    const struct conf *conf = server->conf;

    shared->health = &server->health;
    shared->workers = server->workers;
    shared->worker_count = conf->workers;
    shared->changed = &server->changed;
    shared->token_keys = conf->flow_token_key_count ? conf->flow_token_keys : server->random_key;
    shared->token_key_count = conf->flow_token_key_count ? conf->flow_token_key_count : 1;
    if (getrandom(server->random_key, sizeof(server->random_key), 0) < 0 ||
        getrandom(&shared->instance, sizeof(shared->instance), 0) < 0 ||
        getrandom(shared->ticket_keys.bytes, sizeof(shared->ticket_keys.bytes), 0) < 0) {
        fprintf(stderr, "no random numbers: %s\n", strerror(errno));
        return -1;
    }
    shared->ticket_keys.made_s = (int64_t)(uv_hrtime() / 1000000000); /* CLOCK_MONOTONIC */
    shared->connections_max = server_connections_max(conf);
    if (!shared->connections_max) {
        fprintf(stderr, "too few file descriptors for one connection: raise ulimit -n\n");
        return -1;
    }
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
        err |= certificates_open(server);
        err |= listeners_probe(server->conf);
        err |= pages_listen(server->pages, server->conf, stderr);
    }
    if (!err) {
        err = registrar_open(server);
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

    server = (struct server){.conf = conf};
    signal(SIGPIPE, SIG_IGN);
    if (shared_init(&server))
        return 1;
    sip_values_init();
    if (loop_open(&server)) {
        fprintf(stderr, "can't make an event loop\n");
        return 1;
    }
    result = serve(&server);
    certificates_close(&server);
    if (uv_loop_close(&server.loop))
        log_event(LOG_ERROR, "a handle of the main loop was left open");
    return result;
}

#include "core_view.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>

#include "proxy/core_udp.h"
#include "proxy/endpoints.h"
#include "proxy/log.h"

enum {
    START_MS = 2000,  /* what names get at start */
    RETRY_MS = 30000, /* what could not be had is tried again */
    MISTAKE_TEXT = 512,
};

struct name {
    struct core_views *views;
    struct resolve_name *name;
    const struct resolve_result *result; /* NULL: not known yet */
};

struct core_views {
    struct core_views_options options;
    struct resolver *resolver; /* NULL: the embedded registrar is the backend */
    struct name names[CONF_BACKENDS_MAX];
    struct endpoints *endpoints;
    uv_timer_t timer; /* the end of the wait at start; then what is due */
    bool started;

    FILE *errors;                    /* at start: mistakes end it */
    bool mistaken;                   /* something could not be had */
    bool told;                       /* that was logged */
    bool missing;                    /* a family that is to be tried again */
    struct core_addr local4, local6; /* port 0: not in use */
    const struct core_view *view;
};

static void mistake(struct core_views *views, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void mistake(struct core_views *views, int line, const char *format, ...)
{
    char text[MISTAKE_TEXT];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    views->mistaken = true;
    if (views->errors && line)
        conf_place_print(views->options.conf->path, line, views->errors);
    if (views->errors)
        fprintf(views->errors, "%s\n", text);
    else if (!views->told)
        log_event(LOG_ERROR, "core side", LOG_TEXT("reason", str_of(text)));
}

/* ---- our own addresses ---- */

/* Where a backend speaks TCP, the core address listens for it: a listener for clients there, with
 * the workers' SO_REUSEPORT, would get some of its connections. */
static void listeners_check(struct core_views *views, const struct core_addr *local)
{
    const struct conf *conf = views->options.conf;
    char text[CORE_ADDR_TEXT];

    for (unsigned i = 0; i < conf->listener_count; i++) {
        const struct conf_listener *listener = &conf->listeners[i];
        struct core_addr address = {.kind = CORE_UDP};

        memcpy(&address.in6, &listener->address.in6, sizeof(address.in6));
        if (address.in.sin_port != local->in.sin_port ||
            (!listener->any && !core_addr_eq(&address, local)))
            continue;
        core_addr_text(local, text);
        mistake(
            views, listener->line,
            "listen: sipward has %s for TCP connections of its backends; use another port here, "
            "or set core: ADDRESS:PORT",
            text);
    }
}

static const char *remedy(int err)
{
    switch (err) {
    case -EADDRINUSE: return ": is the PBX on this machine? set core: ADDRESS:PORT";
    case -EADDRNOTAVAIL: return ": this machine has no such address; set core: ADDRESS:PORT";
    case -EACCES: return ": ports below 1024 need root or CAP_NET_BIND_SERVICE";
    default: return "";
    }
}

static bool has_tcp(const struct conf *conf)
{
    for (unsigned i = 0; i < conf->backend_count; i++)
        if (conf->backends[i].transport != CONF_TRANSPORT_UDP)
            return true;
    return false;
}

static int local_check(struct core_views *views, const struct core_addr *local)
{
    bool tcp = has_tcp(views->options.conf);
    bool before = views->mistaken;
    char text[CORE_ADDR_TEXT];
    int err;

    views->mistaken = false;
    if (tcp)
        listeners_check(views, local);
    err = core_probe(SOCK_DGRAM, local);
    if (!err && tcp && !views->mistaken)
        err = core_probe(SOCK_STREAM, local);
    if (err) {
        core_addr_text(local, text);
        mistake(views, 0, "core %s: %s%s", text, strerror(-err), remedy(err));
    }
    err = views->mistaken ? -EINVAL : 0;
    views->mistaken |= before;
    return err;
}

/* The way to the first backend that has an address of that family. -ENOENT: none has. */
static int route_find(struct core_views *views, int family, struct core_addr *out)
{
    const struct conf *conf = views->options.conf;
    char text[CORE_ADDR_TEXT];
    int result = -ENOENT;

    for (unsigned i = 0; i < conf->backend_count; i++) {
        const struct resolve_result *addresses = views->names[i].result;

        for (unsigned j = 0; addresses && j < addresses->count; j++) {
            struct core_addr to = endpoint_addr(&addresses->addresses[j]);
            int err;

            if (to.sa.sa_family != family || !endpoint_wanted(conf, addresses, j))
                continue;
            err = core_udp_route(&to, out);
            if (!err)
                return 0;
            result = err;
            if (resolve_good_until(views->names[i].name) != UINT64_MAX)
                continue; /* of a name, which may have better ones */
            core_addr_text(&to, text);
            mistake(views, conf->backends[i].line,
                    "backends: no way to %s: %s; set core: ADDRESS:PORT if this machine has an "
                    "address that it can be reached from",
                    text, strerror(-err));
        }
    }
    return result;
}

/* Bring a family into use if it can be. */
static void local_find(struct core_views *views, int family, struct core_addr *local)
{
    const struct conf *conf = views->options.conf;
    const union conf_sockaddr *set = family == AF_INET ? &conf->core4 : &conf->core6;
    struct core_addr found = {.kind = CORE_UDP};
    char text[CORE_ADDR_TEXT];

    if (local->in.sin_port)
        return;
    if (set->sa.sa_family) {
        memcpy(&found.in6, &set->in6, sizeof(found.in6));
    } else {
        int err = route_find(views, family, &found);

        if (err == -ENOENT)
            return;
        if (err) {
            views->missing = true;
            return;
        }
        core_addr_port_set(&found, conf->core_port);
    }
    if (local_check(views, &found)) {
        views->missing = true;
        return;
    }
    *local = found;
    if (!views->started)
        return;
    core_addr_text(local, text);
    log_event(LOG_INFO, "core", LOG_TEXT("address", str_of(text)));
}

/* A backend that is this edge itself would get its own requests back. */
static void self_check(struct core_views *views, unsigned backend)
{
    const struct conf *conf = views->options.conf;
    const struct resolve_result *result = views->names[backend].result;
    char text[CORE_ADDR_TEXT];

    for (unsigned i = 0; result && i < result->count; i++) {
        struct core_addr addr = endpoint_addr(&result->addresses[i]);

        addr.kind = CORE_UDP;
        if (!core_addr_eq(&addr, &views->local4) && !core_addr_eq(&addr, &views->local6))
            continue;
        core_addr_text(&addr, text);
        mistake(
            views, conf->backends[backend].line,
            "backends: %s is also sipward's own address on the core side; if the PBX is on this "
            "machine, set core: ADDRESS:PORT with another port",
            text);
    }
}

/* ---- views ---- */

static int view_make(struct core_views *views, const struct core_view **out)
{
    const struct resolve_result *results[CONF_BACKENDS_MAX];

    views->mistaken = views->missing = false;
    local_find(views, AF_INET, &views->local4);
    local_find(views, AF_INET6, &views->local6);
    for (unsigned i = 0; i < views->options.conf->backend_count; i++) {
        self_check(views, i);
        results[i] = views->names[i].result;
    }
    views->told = views->mistaken;
    if (views->errors && views->mistaken)
        return -EINVAL;
    return endpoints_view(views->endpoints, results, &views->local4, &views->local6,
                          uv_now(views->options.loop), out);
}

static void due(uv_timer_t *timer);

static void timer_set(struct core_views *views, bool failed)
{
    uint64_t now = uv_now(views->options.loop), next = endpoints_next(views->endpoints);

    if ((failed || views->missing) && next > now + RETRY_MS)
        next = now + RETRY_MS;
    if (next == UINT64_MAX)
        uv_timer_stop(&views->timer);
    else
        uv_timer_start(&views->timer, due, next > now ? next - now : 0, 0);
}

static void view_renew(struct core_views *views)
{
    const struct core_view *view, *before = views->view;
    int err = view_make(views, &view);

    if (!err) {
        views->view = view;
        views->options.changed(views->options.context, view);
        core_view_unref(&before);
    }
    timer_set(views, err != 0); /* no memory: as it was, for now */
}

static void due(uv_timer_t *timer)
{
    struct core_views *views = timer->data;

    if (views->started)
        view_renew(views);
    else
        uv_stop(views->options.loop);
}

static bool all_known(const struct core_views *views)
{
    for (unsigned i = 0; i < views->options.conf->backend_count; i++)
        if (!views->names[i].result)
            return false;
    return true;
}

static void name_changed(void *context, const struct resolve_result *result)
{
    struct name *name = context;

    resolve_result_unref(&name->result);
    name->result = resolve_result_ref(result);
    if (name->views->started)
        view_renew(name->views);
    else if (all_known(name->views))
        uv_stop(name->views->options.loop);
}

/* ---- open, start, close ---- */

static int names_start(struct core_views *views)
{
    static const enum resolve_transport transports[] = {
        [CONF_TRANSPORT_UDP] = RESOLVE_UDP,
        [CONF_TRANSPORT_TCP] = RESOLVE_TCP,
        [CONF_TRANSPORT_AUTO] = RESOLVE_AUTO,
    };
    const struct conf *conf = views->options.conf;
    const struct resolver_options options = {.loop = views->options.loop};
    int err = resolver_open(&options, &views->resolver);

    for (unsigned i = 0; i < conf->backend_count && !err; i++) {
        const struct conf_backend *backend = &conf->backends[i];
        const struct resolve_target target = {.host = backend->host,
                                              .port = backend->port,
                                              .transport = transports[backend->transport]};

        views->names[i].views = views;
        err = resolve_start(views->resolver, &target, name_changed, &views->names[i],
                            &views->names[i].name);
    }
    return err;
}

int core_views_open(const struct core_views_options *options, struct core_views **out)
{
    struct core_views *views = calloc(1, sizeof(*views));
    int err;

    if (!views)
        return -ENOMEM;
    views->options = *options;
    views->local4 = views->local6 = (struct core_addr){.kind = CORE_UDP};
    views->local4.in.sin_family = AF_INET;
    views->local6.in6.sin6_family = AF_INET6;
    uv_timer_init(options->loop, &views->timer);
    views->timer.data = views;
    err = endpoints_create(options->conf, options->health, &views->endpoints);
    if (!err && options->conf->backend_count)
        err = names_start(views);
    if (err) {
        core_views_close(&views);
        return err;
    }
    *out = views;
    return 0;
}

static int embedded_view(const struct conf *conf, const struct core_view **out)
{
    struct core_view *view = calloc(1, sizeof(*view));

    if (!view)
        return -ENOMEM;
    atomic_init(&view->references, 1);
    view->conf = conf_ref(conf);
    view->local4.in.sin_family = AF_INET;
    view->local6.in6.sin6_family = AF_INET6;
    view->endpoints[view->endpoint_count++] =
        (struct endpoint){.addr = {.kind = CORE_EMBEDDED}, .weight = 1};
    *out = view;
    return 0;
}

int core_views_start(struct core_views *views, FILE *errors)
{
    int err;

    if (!views->resolver) {
        err = embedded_view(views->options.conf, &views->view);
    } else {
        uv_timer_start(&views->timer, due, START_MS, 0);
        uv_run(views->options.loop, UV_RUN_DEFAULT);
        uv_timer_stop(&views->timer);
        views->errors = errors;
        err = view_make(views, &views->view);
        views->errors = NULL;
    }
    if (err == -ENOMEM)
        fprintf(errors, "no memory for the core side\n");
    if (err)
        return err;
    views->started = true;
    timer_set(views, false);
    return 0;
}

const struct core_view *core_views_now(const struct core_views *views)
{
    return views->view;
}

static void closed(uv_handle_t *timer)
{
    free(timer->data);
}

void core_views_close(struct core_views **views)
{
    struct core_views *closing = *views;

    if (!closing)
        return;
    *views = NULL;
    resolver_close(&closing->resolver);
    for (unsigned i = 0; i < CONF_BACKENDS_MAX; i++)
        resolve_result_unref(&closing->names[i].result);
    endpoints_destroy(&closing->endpoints);
    core_view_unref(&closing->view);
    uv_close((uv_handle_t *)&closing->timer, closed);
}

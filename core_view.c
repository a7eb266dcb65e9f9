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

/* A configuration, and a name for each of its backends. */
struct side {
    const struct conf *conf; /* a reference; NULL: there is none */
    struct name *names[CONF_BACKENDS_MAX];
};

struct core_views {
    struct core_views_options options;
    struct resolver *resolver; /* NULL: no backend has been there yet */
    struct side now, next;     /* next: prepared; it shares the names that both have */
    void (*done)(void *context);
    void *done_context;
    struct endpoints *endpoints;
    uv_timer_t timer; /* the end of the wait at start; then what is due */
    uv_timer_t wait;  /* for what is prepared */
    unsigned handles; /* not yet closed */
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
        conf_place_print(views->now.conf->path, line, views->errors);
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
    const struct conf *conf = views->now.conf;
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
    bool tcp = has_tcp(views->now.conf);
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

/* An address that is in use has UDP; TCP may come to be needed there by another configuration. */
static void tcp_check(struct core_views *views, const struct core_addr *local)
{
    char text[CORE_ADDR_TEXT];
    int err = 0;

    if (!local->in.sin_port || !has_tcp(views->now.conf))
        return;
    listeners_check(views, local);
    if (!views->view->tcp && !views->mistaken)
        err = core_probe(SOCK_STREAM, local);
    if (!err)
        return;
    core_addr_text(local, text);
    mistake(views, 0, "core %s: %s%s", text, strerror(-err), remedy(err));
}

/* The way to the first backend that has an address of that family. -ENOENT: none has. */
static int route_find(struct core_views *views, int family, struct core_addr *out)
{
    const struct conf *conf = views->now.conf;
    char text[CORE_ADDR_TEXT];
    int result = -ENOENT;

    for (unsigned i = 0; i < conf->backend_count; i++) {
        const struct resolve_result *addresses = views->now.names[i]->result;

        for (unsigned j = 0; addresses && j < addresses->count; j++) {
            struct core_addr to = endpoint_addr(&addresses->addresses[j]);
            int err;

            if (to.sa.sa_family != family || !endpoint_wanted(conf, addresses, j))
                continue;
            err = core_udp_route(&to, out);
            if (!err)
                return 0;
            result = err;
            if (resolve_good_until(views->now.names[i]->name) != UINT64_MAX)
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
    const struct conf *conf = views->now.conf;
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
    log_event(LOG_INFO, "core side", LOG_TEXT("address", str_of(text)));
}

/* A backend that is this edge itself would get its own requests back. */
static void self_check(struct core_views *views, unsigned backend)
{
    const struct conf *conf = views->now.conf;
    const struct resolve_result *result = views->now.names[backend]->result;
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
    if (views->errors) {
        tcp_check(views, &views->local4);
        tcp_check(views, &views->local6);
    }
    if (views->now.conf->backend_count) {
        local_find(views, AF_INET, &views->local4);
        local_find(views, AF_INET6, &views->local6);
    }
    for (unsigned i = 0; i < views->now.conf->backend_count; i++) {
        self_check(views, i);
        results[i] = views->now.names[i]->result;
    }
    views->told = views->mistaken;
    if (views->errors && views->mistaken)
        return -EINVAL;
    return endpoints_view(views->endpoints, views->now.conf, results, &views->local4,
                          &views->local6, uv_now(views->options.loop), out);
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

/* ---- names ---- */

static bool all_known(const struct side *side)
{
    for (unsigned i = 0; i < side->conf->backend_count; i++)
        if (!side->names[i] || !side->names[i]->result)
            return false;
    return true;
}

static bool has_name(const struct side *side, const struct name *name)
{
    for (unsigned i = 0; i < CONF_BACKENDS_MAX; i++)
        if (side->names[i] == name)
            return true;
    return false;
}

static void prepared(uv_timer_t *timer)
{
    struct core_views *views = timer->data;

    views->done(views->done_context);
}

static void name_changed(void *context, const struct resolve_result *result)
{
    struct name *name = context;
    struct core_views *views = name->views;

    resolve_result_unref(&name->result);
    name->result = resolve_result_ref(result);
    if (!views->started) {
        if (all_known(&views->now))
            uv_stop(views->options.loop);
        return;
    }
    if (has_name(&views->now, name))
        view_renew(views);
    if (uv_is_active((uv_handle_t *)&views->wait) && all_known(&views->next))
        uv_timer_start(&views->wait, prepared, 0, 0);
}

static void name_stop(struct name *name)
{
    if (!name)
        return;
    resolve_stop(&name->name);
    resolve_result_unref(&name->result);
    free(name);
}

static int name_start(struct core_views *views, const struct conf_backend *backend,
                      struct name **out)
{
    static const enum resolve_transport transports[] = {
        [CONF_TRANSPORT_UDP] = RESOLVE_UDP,
        [CONF_TRANSPORT_TCP] = RESOLVE_TCP,
        [CONF_TRANSPORT_AUTO] = RESOLVE_AUTO,
    };
    const struct resolve_target target = {
        .host = backend->host, .port = backend->port, .transport = transports[backend->transport]};
    struct name *name = calloc(1, sizeof(*name));
    int err;

    if (!name)
        return -ENOMEM;
    name->views = views;
    err = resolve_start(views->resolver, &target, name_changed, name, &name->name);
    if (err)
        free(name);
    else
        *out = name;
    return err;
}

/* Let go of a side, but for the names that the other one has too. */
static void side_close(struct side *side, const struct side *other)
{
    for (unsigned i = 0; i < CONF_BACKENDS_MAX; i++)
        if (!has_name(other, side->names[i]))
            name_stop(side->names[i]);
    conf_unref(&side->conf);
    *side = (struct side){0};
}

/* Begin with a configuration, with the names that `other` has of it. */
static int side_open(struct core_views *views, const struct conf *conf, const struct side *other,
                     struct side *out)
{
    const struct resolver_options options = {.loop = views->options.loop};
    struct side side = {.conf = conf_ref(conf)};
    int err = 0;

    if (conf->backend_count && !views->resolver)
        err = resolver_open(&options, &views->resolver);
    for (unsigned i = 0; i < conf->backend_count && !err; i++) {
        int same = other->conf ? conf_backend_at(other->conf, &conf->backends[i]) : -1;

        if (same >= 0)
            side.names[i] = other->names[same];
        else
            err = name_start(views, &conf->backends[i], &side.names[i]);
    }
    if (err)
        side_close(&side, other);
    else
        *out = side;
    return err;
}

/* ---- open, start, close ---- */

static void closed(uv_handle_t *timer)
{
    struct core_views *views = timer->data;

    if (--views->handles == 0)
        free(views);
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
    uv_timer_init(options->loop, &views->wait);
    views->timer.data = views->wait.data = views;
    views->handles = 2;
    err = endpoints_create(options->health, &views->endpoints);
    if (!err)
        err = side_open(views, options->conf, &views->next, &views->now);
    if (err) {
        core_views_close(&views);
        return err;
    }
    *out = views;
    return 0;
}

int core_views_start(struct core_views *views, FILE *errors)
{
    int err;

    if (!all_known(&views->now)) {
        uv_timer_start(&views->timer, due, START_MS, 0);
        uv_run(views->options.loop, UV_RUN_DEFAULT);
        uv_timer_stop(&views->timer);
    }
    views->errors = errors;
    err = view_make(views, &views->view);
    views->errors = NULL;
    if (err == -ENOMEM)
        fprintf(errors, "no memory for the core side\n");
    if (err)
        return err;
    views->started = true;
    timer_set(views, false);
    return 0;
}

/* ---- another configuration ---- */

int core_views_prepare(struct core_views *views, const struct conf *conf,
                       void (*done)(void *context), void *context)
{
    int err;

    core_views_forget(views);
    err = side_open(views, conf, &views->now, &views->next);
    if (err)
        return err;
    views->done = done;
    views->done_context = context;
    uv_timer_start(&views->wait, prepared, all_known(&views->next) ? 0 : START_MS, 0);
    return 0;
}

int core_views_take(struct core_views *views, FILE *errors)
{
    const struct core_addr local4 = views->local4, local6 = views->local6;
    const struct core_view *view, *before = views->view;
    struct side side = views->now;
    int err;

    uv_timer_stop(&views->wait);
    views->now = views->next;
    views->next = (struct side){0};
    views->errors = errors;
    err = view_make(views, &view);
    views->errors = NULL;
    if (err) {
        views->next = views->now;
        views->now = side;
        views->local4 = local4;
        views->local6 = local6;
        core_views_forget(views);
        return err;
    }
    side_close(&side, &views->now);
    views->view = view;
    core_view_unref(&before);
    timer_set(views, false);
    return 0;
}

void core_views_forget(struct core_views *views)
{
    uv_timer_stop(&views->wait);
    side_close(&views->next, &views->now);
}

const struct core_view *core_views_now(const struct core_views *views)
{
    return views->view;
}

void core_views_close(struct core_views **views)
{
    struct core_views *closing = *views;

    if (!closing)
        return;
    *views = NULL;
    core_views_forget(closing);
    side_close(&closing->now, &closing->next);
    resolver_close(&closing->resolver);
    endpoints_destroy(&closing->endpoints);
    core_view_unref(&closing->view);
    uv_close((uv_handle_t *)&closing->timer, closed);
    uv_close((uv_handle_t *)&closing->wait, closed);
}

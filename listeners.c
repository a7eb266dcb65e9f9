#include "listeners.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "proxy/log.h"
#include "proxy/str.h"

/* ---- before they are opened ---- */

void listener_text(const struct conf_listener *listener, char text[LISTENER_TEXT])
{
    struct core_addr addr = {.kind = CORE_UDP};

    if (listener->any) {
        snprintf(text, LISTENER_TEXT, "%u", ntohs(listener->address.in6.sin6_port));
        return;
    }
    if (listener->address.sa.sa_family == AF_INET)
        addr.in = listener->address.in;
    else
        addr.in6 = listener->address.in6;
    core_addr_text(&addr, text);
}

static const char *remedy(int err)
{
    switch (err) {
    case -EACCES:
        return ": ports below 1024 need root, CAP_NET_BIND_SERVICE, or sysctl "
               "net.ipv4.ip_unprivileged_port_start=0";
    case -EADDRINUSE: return ": another program, or another sipward, has it: ss -ltnp shows which";
    case -EADDRNOTAVAIL: return ": this machine has no such address: ip address shows those it has";
    default: return "";
    }
}

/* By ourselves: also where one of the two is for all addresses. */
static bool port_is_had(const struct conf *running, const struct conf_listener *listener)
{
    for (unsigned i = 0; running && i < running->listener_count; i++)
        if (running->listeners[i].address.in.sin_port == /* at the same place in both families */
            listener->address.in.sin_port)
            return true;
    return false;
}

static int mistake(const struct conf *conf, const struct conf_listener *listener, int err,
                   FILE *errors)
{
    char text[LISTENER_TEXT];

    listener_text(listener, text);
    conf_place_print(conf->path, listener->line, errors);
    fprintf(errors, "listen: %s %s: %s%s\n", conf_listener_kind_name(listener->kind), text,
            strerror(-err), remedy(err));
    return err;
}

int listeners_probe(const struct conf *conf, const struct conf *running, FILE *errors)
{
    int result = 0;

    for (unsigned i = 0; i < conf->listener_count; i++) {
        const struct conf_listener *listener = &conf->listeners[i];
        int err = port_is_had(running, listener) ? 0 : listener_probe(listener);

        if (err)
            result = mistake(conf, listener, err, errors);
    }
    return result;
}

/* ---- those of a worker ---- */

static int open_one(const struct listeners *listeners, const struct conf *conf, unsigned index,
                    struct listener **out, FILE *errors)
{
    struct listener_options options = listeners->options;
    int err;

    options.conf = &conf->listeners[index];
    options.connections_max = conf->connections_max;
    err = listener_open(&options, out);
    return err ? mistake(conf, options.conf, err, errors) : 0;
}

static void close_all(struct listener **list)
{
    for (unsigned i = 0; i < CONF_LISTENERS_MAX; i++)
        listener_close(&list[i]);
}

int listeners_open(struct listeners *listeners, const struct conf *conf, FILE *errors)
{
    int err = 0;

    for (unsigned i = 0; i < conf->listener_count && !err; i++)
        err = open_one(listeners, conf, i, &listeners->now[i], errors);
    if (err)
        close_all(listeners->now);
    else
        listeners->conf = conf;
    return err;
}

int listeners_start(struct listeners *listeners)
{
    int err = 0;

    for (unsigned i = 0; i < listeners->conf->listener_count && !err; i++)
        err = listener_start(listeners->now[i]);
    return err;
}

int listeners_prepare(struct listeners *listeners, const struct conf *conf, FILE *errors)
{
    int err = 0;

    listeners_forget(listeners);
    if (!listeners->conf)
        return 0;
    for (unsigned i = 0; i < conf->listener_count && !err; i++)
        if (conf_listener_at(listeners->conf, &conf->listeners[i]) < 0)
            err = open_one(listeners, conf, i, &listeners->next[i], errors);
    if (err)
        listeners_forget(listeners);
    return err;
}

void listeners_take(struct listeners *listeners, const struct conf *conf)
{
    struct listener *now[CONF_LISTENERS_MAX] = {NULL};

    if (!listeners->conf)
        return;
    for (unsigned i = 0; i < conf->listener_count; i++) {
        int before = conf_listener_at(listeners->conf, &conf->listeners[i]);

        now[i] = before < 0 ? listeners->next[i] : listeners->now[before];
        if (before >= 0)
            listeners->now[before] = NULL;
        else if (now[i] && listener_start(now[i]))
            log_event(LOG_ERROR, "a listener can't accept: out of memory",
                      LOG_NUMBER("line", conf->listeners[i].line));
        if (now[i])
            listener_conf_set(now[i], &conf->listeners[i], conf->connections_max);
    }
    for (unsigned i = 0; i < CONF_LISTENERS_MAX; i++)
        listener_retire(&listeners->now[i]);
    memcpy(listeners->now, now, sizeof(now));
    memset(listeners->next, 0, sizeof(listeners->next));
    listeners->conf = conf;
}

void listeners_forget(struct listeners *listeners)
{
    close_all(listeners->next);
}

void listeners_close(struct listeners *listeners)
{
    close_all(listeners->now);
    close_all(listeners->next);
    listeners->conf = NULL;
}

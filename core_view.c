#include "core_view.h"

#include <errno.h>
#include <netdb.h>

#include "proxy/core_udp.h"

/* The first address of a name, of the family that `core` names if it names just one. */
static int resolve(const struct conf *conf, const struct conf_backend *backend, FILE *errors,
                   struct core_addr *out)
{
    bool four = conf->core4.sa.sa_family, six = conf->core6.sa.sa_family;
    struct addrinfo hints = {.ai_socktype = SOCK_DGRAM, .ai_flags = AI_ADDRCONFIG};
    struct addrinfo *found = NULL, *choice;
    uint16_t port = backend->port ? backend->port : 5060;
    int err = getaddrinfo(backend->host, NULL, &hints, &found);

    if (err == EAI_NONAME || err == EAI_ADDRFAMILY) { /* AI_ADDRCONFIG leaves loopback out */
        hints.ai_flags = 0;
        err = getaddrinfo(backend->host, NULL, &hints, &found);
    }
    if (err || !found) {
        fprintf(errors, "%s:%d: backends: '%s' does not resolve: %s\n", conf->path, backend->line,
                backend->host, gai_strerror(err));
        return -EINVAL;
    }
    for (choice = found; choice; choice = choice->ai_next)
        if (four == six || choice->ai_family == (four ? AF_INET : AF_INET6))
            break;
    if (!choice)
        choice = found;
    *out =
        (struct core_addr){.kind = backend->transport == CONF_TRANSPORT_TCP ? CORE_TCP : CORE_UDP};
    if (choice->ai_family == AF_INET) {
        memcpy(&out->in, choice->ai_addr, sizeof(out->in));
        out->in.sin_port = htons(port);
    } else {
        memcpy(&out->in6, choice->ai_addr, sizeof(out->in6));
        out->in6.sin6_port = htons(port);
    }
    freeaddrinfo(found);
    return 0;
}

/* The address of one family: from the file, or the one that routes to its first backend. */
static int local_find(const struct conf *conf, const struct core_view *view, int family,
                      FILE *errors, struct core_addr *out)
{
    const union conf_sockaddr *set = family == AF_INET ? &conf->core4 : &conf->core6;
    char text[CORE_ADDR_TEXT];
    int err;

    for (unsigned i = 0; i < view->backend_count; i++) {
        const struct core_addr *backend = &view->backends[i];

        if (backend->sa.sa_family != family)
            continue;
        *out = (struct core_addr){.kind = CORE_UDP};
        if (set->sa.sa_family) {
            if (family == AF_INET)
                out->in = set->in;
            else
                out->in6 = set->in6;
            return 0;
        }
        err = core_udp_route(backend, out);
        if (err) {
            core_addr_text(backend, text);
            fprintf(errors,
                    "%s:%d: backends: no way to %s: %s; set core: ADDRESS:PORT if this machine has "
                    "an address that it can be reached from\n",
                    conf->path, conf->backends[i].line, text, strerror(-err));
            return -EINVAL;
        }
        if (family == AF_INET)
            out->in.sin_port = htons(conf->core_port);
        else
            out->in6.sin6_port = htons(conf->core_port);
        return 0;
    }
    return 0; /* no backend of that family: port 0, not in use */
}

/* A backend that is this edge itself would get its own requests back. */
static int self_check(const struct conf *conf, const struct core_view *view, FILE *errors)
{
    char text[CORE_ADDR_TEXT];
    int err = 0;

    for (unsigned i = 0; i < view->backend_count; i++) {
        struct core_addr backend = view->backends[i];

        backend.kind = CORE_UDP;
        if (!core_addr_eq(&backend, &view->local4) && !core_addr_eq(&backend, &view->local6))
            continue;
        core_addr_text(&view->backends[i], text);
        fprintf(errors,
                "%s:%d: backends: %s is also sipward's own address on the core side; if the PBX is "
                "on this machine, set core: ADDRESS:PORT with another port\n",
                conf->path, conf->backends[i].line, text);
        err = -EINVAL;
    }
    return err;
}

/* Where a backend speaks TCP, the core address listens for it: a listener for clients there, with
 * the workers' SO_REUSEPORT, would get some of its connections. */
static int listeners_check(const struct conf *conf, const struct core_addr *local, FILE *errors)
{
    char text[CORE_ADDR_TEXT];
    int err = 0;

    for (unsigned i = 0; i < conf->listener_count; i++) {
        const struct conf_listener *listener = &conf->listeners[i];
        struct core_addr address = {.kind = CORE_UDP};

        memcpy(&address.in6, &listener->address.in6, sizeof(address.in6));
        if (!local->in.sin_port || address.in.sin_port != local->in.sin_port ||
            (!listener->any && !core_addr_eq(&address, local)))
            continue;
        core_addr_text(local, text);
        fprintf(errors,
                "%s:%d: listen: sipward has %s for TCP connections of its backends; use another "
                "port here, or set core: ADDRESS:PORT\n",
                conf->path, listener->line, text);
        err = -EINVAL;
    }
    return err;
}

int core_view_find(const struct conf *conf, FILE *errors, struct core_view *out)
{
    struct core_view view = {.local4 = {.kind = CORE_UDP}, .local6 = {.kind = CORE_UDP}};
    int err = 0;

    view.local4.in.sin_family = AF_INET;
    view.local6.in6.sin6_family = AF_INET6;
    if (!conf->backend_count) {
        view.backends[0].kind = CORE_EMBEDDED;
        view.backend_count = 1;
        *out = view;
        return 0;
    }
    for (unsigned i = 0; i < conf->backend_count; i++)
        if (resolve(conf, &conf->backends[i], errors, &view.backends[i]))
            err = -EINVAL;
    if (err)
        return err;
    view.backend_count = conf->backend_count;
    for (unsigned i = 0; i < conf->backend_count; i++) {
        view.tcp_too[i] = conf->backends[i].transport == CONF_TRANSPORT_AUTO;
        view.tcp |= conf->backends[i].transport != CONF_TRANSPORT_UDP;
    }
    err = local_find(conf, &view, AF_INET, errors, &view.local4);
    if (!err)
        err = local_find(conf, &view, AF_INET6, errors, &view.local6);
    if (!err)
        err = self_check(conf, &view, errors);
    if (!err && view.tcp)
        err = listeners_check(conf, &view.local4, errors) |
              listeners_check(conf, &view.local6, errors);
    if (!err)
        *out = view;
    return err;
}

/* The core address: what the PBX sees of sipward, and where it must reach it. */
#include <errno.h>
#include <string.h>

#include "doctor/internal.h"
#include "proxy/core_udp.h"
#include "proxy/endpoints.h"

static bool has_tcp(const struct conf *conf)
{
    for (unsigned i = 0; i < conf->backend_count; i++)
        if (conf->backends[i].transport != CONF_TRANSPORT_UDP)
            return true;
    return false;
}

/* ---- can it be had? ---- */

/* What to write where the port is the PBX's, which mostly is 5060. */
static void core_elsewhere(struct doctor *doctor, const struct core_addr *local)
{
    unsigned port = ntohs(local->in.sin_port); /* at the same place in both families */
    struct core_addr other = *local;
    char text[CORE_ADDR_TEXT];

    core_addr_port_set(&other, (uint16_t)(port < 65526 ? port + 10 : port - 10));
    core_addr_text(&other, text);
    remedy(doctor, "if that is the PBX, give sipward another port: core: \"%s\"", text);
}

static void taken(struct doctor *doctor, int type, const struct core_addr *local, const char *text)
{
    const char *transport = type == SOCK_STREAM ? "TCP" : "UDP";
    struct taker taker = port_taker(doctor, type, local);
    char who[TAKER_TEXT];

    doctor->core_taken = true;
    if (taker.ours) {
        ours_text(doctor, who);
        finding(doctor, STATUS_OK, "address", "%s (%s), where the backends see it, belongs to %s",
                text, transport, who);
        return;
    }
    taker_text(&taker, who);
    finding(doctor, STATUS_FAILED, "address",
            "%s (%s), where the backends are to see sipward, is "
            "taken by %s",
            text, transport, taker.found ? who : "another program");
    core_elsewhere(doctor, local);
}

static void local_check(struct doctor *doctor, int type, const struct core_addr *local)
{
    int err = core_probe(type, local);
    char text[CORE_ADDR_TEXT], own[256];

    core_addr_text(local, text);
    machine_text(doctor, local->sa.sa_family, own, sizeof(own));
    switch (err) {
    case 0:
        finding(doctor, STATUS_OK, "address", "%s (%s) is free: there the backends see sipward",
                text, type == SOCK_STREAM ? "TCP" : "UDP");
        break;
    case -EADDRINUSE: taken(doctor, type, local, text); break;
    case -EADDRNOTAVAIL:
        finding(doctor, STATUS_FAILED, "address", "core: %s is no address of this machine", text);
        remedy(doctor, "it has: %s; or core: :%u, for the one that routes to the backend",
               *own ? own : "none besides loopback", ntohs(local->in.sin_port));
        break;
    default:
        finding(doctor, STATUS_FAILED, "address", "core: %s can't be had: %s", text,
                strerror(-err));
        remedy(doctor, err == -EACCES ? "ports below 1024 need root or CAP_NET_BIND_SERVICE; use "
                                        "one above"
                                      : "set another one: core: ADDRESS:PORT");
        break;
    }
}

/* ---- which one is it? ---- */

/* A reason not to reach a backend from `local` that can be seen without trying. */
static void way_check(struct doctor *doctor, const struct core_addr *local,
                      const struct core_addr *to)
{
    struct core_addr source;
    char from[CORE_ADDR_TEXT], there[CORE_ADDR_TEXT], host[CORE_ADDR_TEXT];
    int err = core_udp_route(to, &source);

    core_addr_text(to, there);
    if (err) {
        finding(doctor, STATUS_FAILED, "route", "there is no way to %s: %s", there, strerror(-err));
        addr_host_text(to, host);
        remedy(doctor, "ip route get %s shows what the system would do", host);
        return;
    }
    if (!local->in.sin_port || core_addr_same_host(&source, local) || machine_has(doctor, to))
        return;
    core_addr_port_set(&source, ntohs(local->in.sin_port));
    core_addr_text(&source, host);
    addr_host_text(local, from);
    if (addr_is_loopback(local)) {
        finding(doctor, STATUS_FAILED, "route", "%s can't be reached from %s, as core says", there,
                from);
        remedy(doctor, "with the address that routes there: core: \"%s\"", host);
    } else {
        finding(doctor, STATUS_WARNING, "route",
                "core says %s, and the system would go to %s from another address", from, there);
        remedy(doctor, "fine if %s knows the way back to %s; else core: \"%s\"", there, from, host);
    }
}

static void self_check(struct doctor *doctor, const struct core_addr *to)
{
    const struct core_addr *locals[] = {&doctor->local4, &doctor->local6};
    char text[CORE_ADDR_TEXT];

    for (size_t i = 0; i < ARRAY_LEN(locals); i++) {
        struct core_addr local = *locals[i];

        local.kind = to->kind;
        if (!local.in.sin_port || !core_addr_eq(&local, to))
            continue;
        core_addr_text(to, text);
        finding(doctor, STATUS_FAILED, "self",
                "the backend %s is also where the backends see sipward", text);
        core_elsewhere(doctor, to);
    }
}

/* As sipward itself finds it: what the file says, or the way to the first backend. */
static void local_find(struct doctor *doctor, int family, struct core_addr *local)
{
    const struct conf *conf = doctor->conf;
    const union conf_sockaddr *set = family == AF_INET ? &conf->core4 : &conf->core6;

    *local = (struct core_addr){.kind = CORE_UDP};
    local->sa.sa_family = (sa_family_t)family;
    if (set->sa.sa_family) {
        memcpy(&local->in6, &set->in6, sizeof(local->in6));
        return;
    }
    for (unsigned i = 0; i < conf->backend_count; i++) {
        const struct resolve_result *result = doctor->backends[i];

        for (unsigned j = 0; result && j < result->count; j++) {
            struct core_addr to = endpoint_addr(&result->addresses[j]);

            if (to.sa.sa_family == family && endpoint_wanted(conf, result, j) &&
                !core_udp_route(&to, local)) {
                core_addr_port_set(local, conf->core_port);
                return;
            }
        }
    }
}

void core_find(struct doctor *doctor)
{
    const struct core_addr *locals[] = {&doctor->local4, &doctor->local6};

    local_find(doctor, AF_INET, &doctor->local4);
    local_find(doctor, AF_INET6, &doctor->local6);
    for (size_t i = 0; i < ARRAY_LEN(locals); i++)
        if (locals[i]->in.sin_port && core_probe(SOCK_DGRAM, locals[i]))
            doctor->core_taken = true;
}

void core_check(struct doctor *doctor)
{
    const struct conf *conf = doctor->conf;
    const struct core_addr *locals[] = {&doctor->local4, &doctor->local6};

    if (!conf->backend_count) {
        finding(doctor, STATUS_OK, "embedded",
                "no backends: sipward's own registrar serves %u users, so no address is needed",
                conf->user_count);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(locals); i++) {
        if (!locals[i]->in.sin_port) /* at the same place in both families */
            continue;
        local_check(doctor, SOCK_DGRAM, locals[i]);
        if (has_tcp(conf))
            local_check(doctor, SOCK_STREAM, locals[i]);
    }
    for (unsigned i = 0; i < doctor->ask_count; i++) {
        const struct ask *ask = &doctor->asks[i];
        bool seen = false;

        for (unsigned j = 0; j < i && !seen; j++)
            seen = core_addr_same_host(&doctor->asks[j].to, &ask->to);
        if (!seen)
            way_check(doctor, ask->to.sa.sa_family == AF_INET ? locals[0] : locals[1], &ask->to);
        if (!ask->advice)
            self_check(doctor, &ask->to);
    }
}

/* The ports that clients come to: free, or already ours; and who it is that comes. */
#include <errno.h>
#include <string.h>

#include "doctor/internal.h"
#include "tls/listener.h"

bool listener_has_tls(const struct conf_listener *listener)
{
    return listener->kind == CONF_TLS || listener->kind == CONF_WSS ||
           listener->kind == CONF_TLS_WSS;
}

bool listener_has_websocket(const struct conf_listener *listener)
{
    return listener->kind != CONF_TLS && listener->kind != CONF_TCP;
}

uint16_t listener_port_of(const struct conf_listener *listener)
{
    return ntohs(listener->address.in.sin_port); /* at the same place in both families */
}

static struct core_addr listener_addr(const struct conf_listener *listener)
{
    struct core_addr addr = {.kind = CORE_TCP};

    memcpy(&addr.in6, &listener->address.in6, sizeof(addr.in6));
    return addr;
}

/* "tls 5061", "wss 10.0.0.2:443" */
static void listener_text(const struct conf_listener *listener, char *text, size_t size)
{
    struct core_addr addr = listener_addr(listener);
    char at[CORE_ADDR_TEXT];

    if (listener->any)
        (void)snprintf(at, sizeof(at), "%u", listener_port_of(listener));
    else
        core_addr_text(&addr, at);
    (void)snprintf(text, size, "%s %s", conf_listener_kind_name(listener->kind), at);
}

static void port_failed(struct doctor *doctor, const struct conf_listener *listener, int err,
                        const char *name)
{
    struct core_addr addr = listener_addr(listener);
    struct taker taker = port_taker(doctor, SOCK_STREAM, &addr);
    char who[TAKER_TEXT], own[256];

    if (taker.found && taker.ours) { /* also where this user may not have a port below 1024 */
        ours_text(doctor, who);
        finding(doctor, STATUS_OK, "port", "%s is served by %s", name, who);
        return;
    }
    taker_text(&taker, who);
    if (taker.found) {
        finding(doctor, STATUS_FAILED, "port", "%s is taken by %s", name, who);
        if (taker.pid)
            remedy(doctor,
                   "end it (kill %d, or systemctl stop its service), or use another port here",
                   (int)taker.pid);
        else
            remedy(doctor, "as root, this says which: ss -ltnp 'sport = :%u'",
                   listener_port_of(listener));
        return;
    }
    finding(doctor, STATUS_FAILED, "port", "%s can't be had: %s", name, strerror(-err));
    switch (err) {
    case -EACCES:
        remedy(doctor,
               "ports below 1024 need root or CAP_NET_BIND_SERVICE (in a unit: "
               "AmbientCapabilities=CAP_NET_BIND_SERVICE); or for all users: sysctl -w "
               "net.ipv4.ip_unprivileged_port_start=%u",
               listener_port_of(listener));
        break;
    case -EADDRNOTAVAIL:
        machine_text(doctor, AF_UNSPEC, own, sizeof(own));
        remedy(doctor, "this machine has no such address, but: %s; or give the port alone",
               *own ? own : "none besides loopback");
        break;
    default: remedy(doctor, "as root, this says what there is: ss -ltnp"); break;
    }
}

/* One who may speak for others, and clients in the clear. */
static void peers_check(struct doctor *doctor, const struct conf_listener *listener,
                        const char *name)
{
    struct core_addr addr = listener_addr(listener);

    for (unsigned i = 0; i < listener->proxy_protocol_count; i++)
        if (!listener->proxy_protocol[i].bits) {
            finding(doctor, STATUS_WARNING, "proxy_protocol",
                    "%s takes a PROXY protocol header of anyone, who can so claim any address",
                    name);
            remedy(doctor, "name only the load balancers: proxy_protocol: [10.0.0.7/32]");
            return;
        }
    if (listener->proxy_protocol_count)
        finding(doctor, STATUS_OK, "proxy_protocol",
                "%s takes connections from %u network%s of load balancers alone, each with a PROXY "
                "protocol header (HAProxy: send-proxy-v2)",
                name, listener->proxy_protocol_count,
                listener->proxy_protocol_count > 1 ? "s" : "");
    if (listener_has_tls(listener) || (!listener->any && addr_is_loopback(&addr)))
        return;
    finding(doctor, STATUS_WARNING, "plain", "%s has no TLS: what clients say there can be read",
            name);
    remedy(doctor, listener->proxy_protocol_count
                       ? "fine if the load balancer has the TLS, and its network is your own"
                       : "use tls: or wss: unless a load balancer in your own network has the TLS; "
                         "it then wants proxy_protocol: [ITS ADDRESS/32] here");
}

void listeners_check(struct doctor *doctor)
{
    const struct conf *conf = doctor->conf;
    bool outside = false;

    for (unsigned i = 0; i < conf->listener_count; i++) {
        const struct conf_listener *listener = &conf->listeners[i];
        struct core_addr addr = listener_addr(listener);
        int err = listener_probe(listener);
        char name[CORE_ADDR_TEXT + 16];

        listener_text(listener, name, sizeof(name));
        outside |= listener->any || !addr_is_loopback(&addr);
        if (err)
            port_failed(doctor, listener, err, name);
        else
            finding(doctor, STATUS_OK, "port", "%s is free", name);
        peers_check(doctor, listener, name);
    }
    if (!outside) {
        finding(doctor, STATUS_WARNING, "loopback",
                "all listeners are at loopback addresses: only programs on this machine connect");
        remedy(doctor, "for clients elsewhere, give the port alone: - tls: 5061");
    }
}

/* Where a request goes (RFC 3261 16.4 and 16.5; rules R2, R4, R7). */
#include <arpa/inet.h>
#include <errno.h>

#include <xxhash.h>

#include "proxy/internal.h"

enum { SIP_PORT = 5060 };

struct str core_host(const struct proxy *proxy, const struct core_addr *to)
{
    bool six = core_addr_is_ip(to) ? to->sa.sa_family == AF_INET6 : !proxy->core_host4[0];
    const char *host = six ? proxy->core_host6 : proxy->core_host4;

    return *host ? str_of(host) : STR(CORE_HOST_EMBEDDED);
}

/* Does `addr` stand for host and port as a URI gives them? */
static bool addr_is(const struct core_addr *addr, const char *host, int port)
{
    struct in6_addr six;
    struct in_addr four;

    port = port ? port : SIP_PORT;
    if (!core_addr_is_ip(addr))
        return false;
    if (addr->sa.sa_family == AF_INET6)
        return ntohs(addr->in6.sin6_port) == port && inet_pton(AF_INET6, host, &six) == 1 &&
               IN6_ARE_ADDR_EQUAL(&six, &addr->in6.sin6_addr);
    return addr->sa.sa_family == AF_INET && ntohs(addr->in.sin_port) == port &&
           inet_pton(AF_INET, host, &four) == 1 && four.s_addr == addr->in.sin_addr.s_addr;
}

/* A configured backend, by address or by the name in the file (R2). NULL: none. */
static const struct core_addr *backend_find(struct proxy *proxy, const struct sip_uri *uri)
{
    struct str host = arena_dup(&proxy->arena, uri->host);
    int port = uri->port ? uri->port : SIP_PORT;

    for (unsigned i = 0; host.p && i < proxy->core.backend_count; i++) {
        const struct core_addr *backend = &proxy->core.backends[i];
        if (backend->kind == CORE_EMBEDDED) {
            if (str_eq_nocase(host, STR("registrar.invalid")))
                return backend;
            continue;
        }
        if (addr_is(backend, host.p, port))
            return backend;
        if (i < proxy->conf->backend_count &&
            (proxy->conf->backends[i].port ? proxy->conf->backends[i].port : SIP_PORT) == port &&
            str_eq_nocase(host, str_of(proxy->conf->backends[i].host)))
            return backend;
    }
    return NULL;
}

/* The backend of a user: the same one for all its requests (rendezvous hashing on the AOR). */
static const struct core_addr *backend_of_user(struct proxy *proxy, const struct sip_msg *request)
{
    struct str from = sip_value(request, HEADER_FROM);
    const struct core_addr *best = &proxy->core.backends[0];
    struct sip_addr addr;
    uint64_t high = 0;

    if (proxy->core.backend_count == 1)
        return best;
    if (!sip_addr_parse(&proxy->arena, from, &addr) && addr.uri.user.p)
        from = addr.uri.user; /* of our one domain */
    for (unsigned i = 0; i < proxy->core.backend_count; i++) {
        uint64_t weight = XXH3_64bits_withSeed(from.p, from.len, i + 1);
        if (weight >= high) {
            high = weight;
            best = &proxy->core.backends[i];
        }
    }
    return best;
}

static bool is_core_host(struct proxy *proxy, const struct sip_uri *uri)
{
    struct str host = arena_dup(&proxy->arena, uri->host);

    return host.p && (addr_is(&proxy->core.local4, host.p, uri->port) ||
                      addr_is(&proxy->core.local6, host.p, uri->port) ||
                      str_eq_nocase(host, STR(CORE_HOST_EMBEDDED)));
}

/* A name or address under which clients reach this edge. */
static bool is_own_name(const struct proxy *proxy, const struct flow *flow, struct str host)
{
    const struct conf *conf = proxy->conf;

    if (str_eq_nocase(host, str_of(conf->domain)))
        return true;
    for (unsigned i = 0; i < conf->alias_count; i++)
        if (str_eq_nocase(host, str_of(conf->aliases[i])))
            return true;
    return flow && ((flow->host && str_eq_nocase(host, str_of(flow->host))) ||
                    str_eq_nocase(host, str_of(flow->local)));
}

static bool is_own_port(const struct proxy *proxy, const struct flow *flow, int port)
{
    if (!port || (flow && flow->port == port))
        return true;
    for (unsigned i = 0; i < proxy->conf->listener_count; i++) {
        const union conf_sockaddr *address = &proxy->conf->listeners[i].address;
        if (port == ntohs(address->sa.sa_family == AF_INET6 ? address->in6.sin6_port
                                                            : address->in.sin_port))
            return true;
    }
    return false;
}

/* The flow token of one of our own URIs: 0; -EINVAL: it has none; -EBADMSG: a forged one (R7). */
static int uri_token(struct proxy *proxy, const struct sip_uri *uri, struct token *token)
{
    if (!uri->user.p || uri->user.len != TOKEN_FLOW_LEN)
        return -EINVAL;
    return token_parse(proxy->tokens, &proxy->arena, uri->user, token);
}

/* What the Route set said about the way, once our own values are off. */
struct routing {
    bool has_token;
    struct token token; /* of the first Route value that was ours */
    bool has_next;
    struct sip_uri next; /* the first Route value that is left */
    struct str uri;      /* Request-URI, as a strict router should have left it */
};

/* Read the top Route value. 0, 1: there is none, or a status. */
static int route_top(struct proxy *proxy, const struct sip_msg *request, int *index,
                     struct sip_uri *uri)
{
    struct sip_addr addr;

    *index = sip_find(request, HEADER_ROUTE, 0);
    if (*index < 0)
        return 1;
    if (sip_addr_parse(&proxy->arena, request->headers[*index].value, &addr))
        return 400;
    *uri = addr.uri;
    return 0;
}

static bool token_same(const struct token *a, const struct token *b)
{
    return a->worker == b->worker && a->slot == b->slot && a->instance == b->instance &&
           a->generation == b->generation;
}

/* A strict router put our Record-Route URI into the Request-URI: the last Route value is what it
 * stood for (RFC 3261 16.4). */
static int strict_repair(struct proxy *proxy, struct sip_msg *request, struct routing *routing)
{
    struct sip_uri uri;
    struct sip_addr last;
    int index = -1;

    if (sip_find(request, HEADER_ROUTE, 0) < 0 || sip_uri_parse(&proxy->arena, request->uri, &uri))
        return 0;
    switch (uri_token(proxy, &uri, &routing->token)) {
    case -EBADMSG: return 403;
    case 0: break;
    default: return 0;
    }
    for (int i = 0; (i = sip_find(request, HEADER_ROUTE, (unsigned)(index + 1))) >= 0;)
        index = i;
    if (sip_addr_parse(&proxy->arena, request->headers[index].value, &last) ||
        !last.uri.host.p) /* it becomes the Request-URI: sip or sips (V2) */
        return 400;
    routing->uri = last.uri.text;
    sip_drop(request, (unsigned)index);
    routing->has_token = true;
    return 0;
}

/* Take our own Route values off: the pair that one passage left (the same token in both, R3), or
 * those without a token that a client was given as its outbound proxy. 0 or a status. */
static int routes_take(struct proxy *proxy, struct sip_msg *request, const struct flow *flow,
                       struct routing *routing)
{
    struct token token;
    struct sip_uri uri;
    unsigned taken;
    int index, status;

    *routing = (struct routing){.uri = request->uri};
    status = strict_repair(proxy, request, routing);
    if (status)
        return status;
    taken = routing->has_token ? 1 : 0;

    while (!(status = route_top(proxy, request, &index, &uri))) {
        int err = uri_token(proxy, &uri, &token);
        if (err == -EBADMSG)
            return 403;
        if (err == 0) {
            if (taken == 2 || (routing->has_token && !token_same(&token, &routing->token)))
                break; /* another passage: where the request goes, not where it came from */
            routing->token = token;
            routing->has_token = true;
            taken++;
        } else if (routing->has_token || (flow && backend_find(proxy, &uri)) ||
                   !(is_core_host(proxy, &uri) ||
                     (is_own_name(proxy, flow, uri.host) && is_own_port(proxy, flow, uri.port)))) {
            break;
        }
        sip_drop(request, (unsigned)index);
    }
    if (status > 1)
        return status;
    routing->has_next = status == 0;
    routing->next = uri;
    return 0;
}

/* The token in a masked Contact that became a Request-URI (R6). As uri_token(). */
static int contact_token(struct proxy *proxy, const struct sip_uri *uri, struct token *token)
{
    struct str text;
    int err;

    if (!sip_param(uri->params, STR("flow"), &text) || !text.p)
        return -EINVAL;
    err = token_parse(proxy->tokens, &proxy->arena, text, token);
    return err == 0 && token->kind != TOKEN_CONTACT ? -EBADMSG : err;
}

static int refuse(struct target *target, int status, const char *why)
{
    target->why = why;
    return status;
}

static bool names_tcp(const struct sip_uri *uri)
{
    struct str transport;

    return sip_param(uri->params, STR("transport"), &transport) &&
           str_eq_nocase(transport, STR("tcp"));
}

/* Access to core: out of dialog to a backend, in dialog along the route (R2, R4). */
static int target_core(struct proxy *proxy, struct sip_msg *request, const struct routing *routing,
                       const struct flow *flow, struct target *target)
{
    const struct core_addr *backend;
    struct token token;
    struct sip_uri uri;

    if (!routing->has_next && !request->to_tag.p) {
        target->hop.core = *backend_of_user(proxy, request);
        return 0;
    }
    if (routing->has_next)
        uri = routing->next;
    else if (sip_uri_parse(&proxy->arena, routing->uri, &uri))
        return refuse(target, 403, "Request-URI Is No Backend");

    backend = backend_find(proxy, &uri);
    if (backend) {
        target->hop.core = *backend;
        if (proxy->core.tcp_too[backend - proxy->core.backends] && names_tcp(&uri)) {
            target->hop.core.kind = CORE_TCP;
            target->hop.core.or_udp = true;
        }
        return 0;
    }
    switch (routing->has_next ? uri_token(proxy, &uri, &token)
                              : contact_token(proxy, &uri, &token)) {
    case 0: target->hop.core = (struct core_addr){.kind = CORE_SELF}; return 0;
    case -EBADMSG: return refuse(target, 403, "Forged Flow Token");
    default: break;
    }
    if (!routing->has_next && is_own_name(proxy, flow, uri.host)) {
        target->hop.core = *backend_of_user(proxy, request);
        return 0;
    }
    return refuse(target, 403,
                  routing->has_next ? "Route Is No Backend" : "Request-URI Is No Backend");
}

/* The client's own Contact as a Request-URI: without "?headers", which have no place there (RFC
 * 3261 19.1.5). */
static struct str contact_uri(struct proxy *proxy, struct str contact)
{
    struct sip_uri uri;

    if (!sip_uri_parse(&proxy->arena, contact, &uri))
        contact.len -= uri.headers.len;
    return contact;
}

/* Core to access: the flow that the token names (R7). */
static int target_flow(struct proxy *proxy, struct sip_msg *request, const struct routing *routing,
                       struct target *target)
{
    struct token contact;
    struct sip_uri uri = {0};
    int err = -EINVAL;

    if (!sip_uri_parse(&proxy->arena, routing->uri, &uri)) {
        err = contact_token(proxy, &uri, &contact);
        if (err == -EBADMSG)
            return refuse(target, 403, "Forged Flow Token");
        if (err == 0)
            target->uri = contact_uri(proxy, contact.uri);
    }
    if (routing->has_token && !flow_find(proxy, &routing->token, &target->hop.flow))
        return 0;
    /* The dialog's flow may have been replaced: a later Contact of the same client counts then. */
    if (err == 0 && !flow_find(proxy, &contact, &target->hop.flow))
        return 0;
    if (routing->has_token || err == 0)
        return refuse(target, proxy->conf->flow_gone_status, "Flow Failed");

    err = uri_token(proxy, &uri, &contact); /* a Path URI used as Request-URI */
    if (err == 0)
        return flow_find(proxy, &contact, &target->hop.flow)
                   ? refuse(target, proxy->conf->flow_gone_status, "Flow Failed")
                   : 0;
    if (err == -EBADMSG)
        return refuse(target, 403, "Forged Flow Token");
    if (request->method == SIP_OPTIONS && !uri.user.p)
        return 200; /* a PBX asks whether we live */
    return refuse(target, 404, "No Flow Token");
}

static int target_begin(struct proxy *proxy, struct sip_msg *request, const struct flow *flow,
                        struct routing *routing, struct target *target)
{
    int status = routes_take(proxy, request, flow, routing);

    *target = (struct target){.uri = routing->uri};
    if (status)
        return refuse(target, status, status == 403 ? "Forged Flow Token" : "Bad Route");
    return 0;
}

int target_choose(struct proxy *proxy, struct sip_msg *request, const struct hop *from,
                  struct target *target)
{
    struct routing routing;
    int status = target_begin(proxy, request, from->flow, &routing, target);

    if (status)
        return status;
    if (from->flow)
        return target_core(proxy, request, &routing, from->flow, target);
    return target_flow(proxy, request, &routing, target);
}

int target_choose_own(struct proxy *proxy, struct sip_msg *request, struct target *target)
{
    struct routing routing;
    int status = target_begin(proxy, request, NULL, &routing, target);

    return status ? status : target_core(proxy, request, &routing, NULL, target);
}

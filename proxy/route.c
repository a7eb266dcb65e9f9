/* Where a request goes (RFC 3261 16.4 and 16.5; rules R2, R4, R7). */
#include <arpa/inet.h>
#include <errno.h>

#include "proxy/internal.h"
#include "proxy/text.h"

enum { SIP_PORT = 5060 };

static bool uri_cut(struct str text, struct sip_uri *out)
{
    struct text_uri pieces;

    if (!text_uri_cut(text, &pieces))
        return false;
    uri_of(text, &pieces, out);
    return true;
}

/* The Request-URI as it came, or what a strict router had in its place. */
static bool request_uri_cut(const struct sip_msg *request, struct str text, struct sip_uri *out)
{
    if (request->uri_cut.scheme.p != text.p)
        return uri_cut(text, out);
    uri_of(text, &request->uri_cut, out);
    return true;
}

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

static bool endpoint_port_is(const struct endpoint *endpoint, int port)
{
    return ntohs(endpoint->addr.in.sin_port) == port; /* at the same place in both families */
}

struct str request_user(struct proxy *proxy, const struct sip_msg *request)
{
    bool registers = request->method == SIP_REGISTER; /* To is whom it is for (RFC 3261 10.2) */
    int index = sip_find(request, registers ? HEADER_TO : HEADER_FROM, 0);
    struct str value;
    struct text_addr cut;
    struct sip_uri uri;
    struct sip_addr addr;

    if (index < 0)
        return (struct str){NULL, 0};
    value = request->headers[index].value;
    if (sip_addr_cut(request, (unsigned)index, &cut) && cut.pieces.host.p) {
        uri_of(cut.uri, &cut.pieces, &uri);
        return uri.user.p ? uri.user : value; /* of our one domain */
    }
    if (!sip_addr_parse(&proxy->arena, value, &addr) && addr.uri.user.p)
        return addr.uri.user; /* tel */
    return value;
}

/* Of the endpoints of one backend: the user's own if it can be had, else any that there is. */
static const struct endpoint *endpoint_of(struct proxy *proxy, const struct sip_msg *request,
                                          unsigned backend, uint64_t now)
{
    const struct core_view *view = proxy->core;
    const struct endpoint *first = NULL, *best;
    unsigned count = 0;

    for (unsigned i = 0; i < view->endpoint_count; i++) {
        if (view->endpoints[i].backend != backend)
            continue;
        first = first ? first : &view->endpoints[i];
        count += !view->endpoints[i].retired; /* these are one after the other */
    }
    best = backend_choose(first, count, proxy->options.health, request_user(proxy, request), NULL,
                          now);
    return best ? best : first;
}

/* A backend that the file has by this name, its port given there or, by SRV, not (R2). */
static const struct endpoint *endpoint_named(struct proxy *proxy, const struct sip_msg *request,
                                             const struct sip_uri *uri, struct str host,
                                             uint64_t now)
{
    const struct conf *conf = proxy->conf;

    for (unsigned i = 0; i < conf->backend_count; i++) {
        const struct conf_backend *backend = &conf->backends[i];

        if (!str_eq_nocase(host, str_of(backend->host)))
            continue;
        if (backend->port ? (uri->port ? uri->port : SIP_PORT) == backend->port : !uri->port)
            return endpoint_of(proxy, request, i, now);
    }
    return NULL;
}

/* An address of a configured backend, by the address itself, by the name that SRV records give it,
 * or by the backend's in the file (R2). NULL: none. */
static const struct endpoint *backend_find(struct proxy *proxy, const struct sip_msg *request,
                                           const struct sip_uri *uri, uint64_t now)
{
    struct str host = arena_dup(&proxy->arena, uri->host);
    uint64_t name = host_name_hash(uri->host);
    int port = uri->port ? uri->port : SIP_PORT;
    const struct endpoint *named;

    if (!host.p)
        return NULL;
    named = endpoint_named(proxy, request, uri, host, now);
    if (named)
        return named;
    for (unsigned i = 0; i < proxy->core->endpoint_count; i++) {
        const struct endpoint *endpoint = &proxy->core->endpoints[i];

        if (endpoint->addr.kind == CORE_EMBEDDED
                ? str_eq_nocase(host, STR("registrar.invalid"))
                : addr_is(&endpoint->addr, host.p, port) ||
                      (endpoint->name == name && endpoint_port_is(endpoint, port)))
            return endpoint;
    }
    return NULL;
}

static bool is_core_host(struct proxy *proxy, const struct sip_uri *uri)
{
    struct str host = arena_dup(&proxy->arena, uri->host);

    return host.p && (addr_is(&proxy->core->local4, host.p, uri->port) ||
                      addr_is(&proxy->core->local6, host.p, uri->port) ||
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
    int err;

    if (!uri->user.p || uri->user.len != TOKEN_FLOW_LEN)
        return -EINVAL;
    err = flow_token_read(proxy, uri->user, token);
    proxy->counters.tokens_refused += err == -EBADMSG;
    return err;
}

/* What the Route set said about the way, once our own values are off. */
struct routing {
    bool has_token;
    struct token token; /* of the first Route value that was ours */
    bool has_next;
    struct sip_uri next; /* the first Route value that is left */
    struct str uri;      /* Request-URI, as a strict router should have left it */
};

/* Read the top Route value. 0, -ENOENT: there is none, -EINVAL. */
static int route_top(const struct sip_msg *request, int *index, struct sip_uri *uri)
{
    struct text_addr addr;

    *index = sip_find(request, HEADER_ROUTE, 0);
    if (*index < 0)
        return -ENOENT;
    if (!sip_addr_cut(request, (unsigned)*index, &addr))
        return -EINVAL;
    uri_of(addr.uri, &addr.pieces, uri);
    return 0;
}

static bool token_same(const struct token *a, const struct token *b)
{
    return a->worker == b->worker && a->slot == b->slot && a->instance == b->instance &&
           a->generation == b->generation;
}

/* A strict router put our Record-Route URI into the Request-URI: the last Route value is what it
 * stood for (RFC 3261 16.4). */
static enum refusal strict_repair(struct proxy *proxy, struct sip_msg *request,
                                  struct routing *routing)
{
    struct sip_uri uri;
    struct sip_addr last;
    int index = -1;

    if (sip_find(request, HEADER_ROUTE, 0) < 0 || !request_uri_cut(request, request->uri, &uri))
        return REFUSE_NOT;
    switch (uri_token(proxy, &uri, &routing->token)) {
    case -EBADMSG: return REFUSE_TOKEN_FORGED;
    case 0: break;
    default: return REFUSE_NOT;
    }
    for (int i = 0; (i = sip_find(request, HEADER_ROUTE, (unsigned)(index + 1))) >= 0;)
        index = i;
    if (sip_addr_parse(&proxy->arena, request->headers[index].value, &last) ||
        !last.uri.host.p) /* it becomes the Request-URI: sip or sips (V2) */
        return REFUSE_ROUTE;
    routing->uri = last.uri.text;
    sip_drop(request, (unsigned)index);
    routing->has_token = true;
    return REFUSE_NOT;
}

/* Take our own Route values off: the pair that one passage left (the same token in both, R3), or
 * those without a token that a client was given as its outbound proxy. */
static enum refusal routes_take(struct proxy *proxy, struct sip_msg *request,
                                const struct flow *flow, uint64_t now, struct routing *routing)
{
    struct token token;
    struct sip_uri uri;
    enum refusal refusal;
    unsigned taken;
    int index, top;

    *routing = (struct routing){.uri = request->uri};
    refusal = strict_repair(proxy, request, routing);
    if (refusal)
        return refusal;
    taken = routing->has_token ? 1 : 0;

    while (!(top = route_top(request, &index, &uri))) {
        int err = uri_token(proxy, &uri, &token);
        if (err == -EBADMSG)
            return REFUSE_TOKEN_FORGED;
        if (err == 0) {
            if (taken == 2 || (routing->has_token && !token_same(&token, &routing->token)))
                break; /* another passage: where the request goes, not where it came from */
            routing->token = token;
            routing->has_token = true;
            taken++;
        } else if (routing->has_token || (flow && backend_find(proxy, request, &uri, now)) ||
                   !(is_core_host(proxy, &uri) ||
                     (is_own_name(proxy, flow, uri.host) && is_own_port(proxy, flow, uri.port)))) {
            break;
        }
        sip_drop(request, (unsigned)index);
    }
    if (top == -EINVAL)
        return REFUSE_ROUTE;
    routing->has_next = top == 0;
    routing->next = uri;
    return REFUSE_NOT;
}

/* The token in a masked Contact that became a Request-URI (R6). As uri_token(). */
static int contact_token(struct proxy *proxy, const struct sip_uri *uri, struct token *token)
{
    struct str text;
    int err;

    if (!sip_param(uri->params, STR("flow"), &text) || !text.p)
        return -EINVAL;
    err = flow_token_read(proxy, text, token);
    if (err == 0 && token->kind != TOKEN_CONTACT)
        err = -EBADMSG;
    proxy->counters.tokens_refused += err == -EBADMSG;
    return err;
}

static bool names_tcp(const struct sip_uri *uri)
{
    struct str transport;

    return sip_param(uri->params, STR("transport"), &transport) &&
           str_eq_nocase(transport, STR("tcp"));
}

/* A backend for what is in no dialog (B3), or 503 (B4). */
static enum refusal target_backend(struct proxy *proxy, const struct sip_msg *request, uint64_t now,
                                   struct target *target)
{
    enum { RETRY_AFTER_S = 10 };
    const struct core_view *view = proxy->core;
    struct str user = view->endpoint_count > 1 ? request_user(proxy, request) : STR("");

    target->endpoint = backend_choose(view->endpoints, view->endpoint_count, proxy->options.health,
                                      user, NULL, now);
    if (target->endpoint) {
        target->hop.core = target->endpoint->addr;
        return REFUSE_NOT;
    }
    target->extra = arena_printf(&proxy->arena, "Retry-After: %u\r\n",
                                 backend_retry_after_s(view->endpoints, view->endpoint_count,
                                                       proxy->options.health, RETRY_AFTER_S, now));
    return REFUSE_NO_BACKEND;
}

/* Access to core: out of dialog to a backend, in dialog along the route (R2, R4). */
static enum refusal target_core(struct proxy *proxy, struct sip_msg *request,
                                const struct routing *routing, const struct flow *flow,
                                uint64_t now, struct target *target)
{
    const struct endpoint *backend;
    struct token token;
    struct sip_uri uri;

    if (!routing->has_next && !request->to_tag.p)
        return target_backend(proxy, request, now, target);
    if (routing->has_next)
        uri = routing->next;
    else if (!request_uri_cut(request, routing->uri, &uri))
        return REFUSE_URI_FOREIGN;

    backend = backend_find(proxy, request, &uri, now);
    if (backend) {
        target->hop.core = backend->addr;
        if (backend->tcp_too && names_tcp(&uri)) {
            target->hop.core.kind = CORE_TCP;
            target->hop.core.or_udp = true;
        }
        return REFUSE_NOT;
    }
    switch (routing->has_next ? uri_token(proxy, &uri, &token)
                              : contact_token(proxy, &uri, &token)) {
    case 0: target->hop.core = (struct core_addr){.kind = CORE_SELF}; return REFUSE_NOT;
    case -EBADMSG: return REFUSE_TOKEN_FORGED;
    default: break;
    }
    if (!routing->has_next && is_own_name(proxy, flow, uri.host))
        return target_backend(proxy, request, now, target);
    return routing->has_next ? REFUSE_ROUTE_FOREIGN : REFUSE_URI_FOREIGN;
}

/* The client's own Contact as a Request-URI: without "?headers", which have no place there (RFC
 * 3261 19.1.5). */
static struct str contact_uri(struct str contact)
{
    struct sip_uri uri;

    if (uri_cut(contact, &uri))
        contact.len -= uri.headers.len;
    return contact;
}

/* Core to access: the flow that the token names (R7). */
static enum refusal target_flow(struct proxy *proxy, struct sip_msg *request,
                                const struct routing *routing, struct target *target)
{
    struct token contact;
    struct sip_uri uri = {0};
    int err = -EINVAL;

    if (request_uri_cut(request, routing->uri, &uri)) {
        err = contact_token(proxy, &uri, &contact);
        if (err == -EBADMSG)
            return REFUSE_TOKEN_FORGED;
        if (err == 0)
            target->uri = contact_uri(contact.uri);
    }
    if (routing->has_token && !flow_find(proxy, &routing->token, &target->hop.flow))
        return REFUSE_NOT;
    /* The dialog's flow may have been replaced: a later Contact of the same client counts then. */
    if (err == 0 && !flow_find(proxy, &contact, &target->hop.flow))
        return REFUSE_NOT;
    if (routing->has_token || err == 0)
        return REFUSE_FLOW_GONE;

    err = uri_token(proxy, &uri, &contact); /* a Path URI used as Request-URI */
    if (err == 0)
        return flow_find(proxy, &contact, &target->hop.flow) ? REFUSE_FLOW_GONE : REFUSE_NOT;
    if (err == -EBADMSG)
        return REFUSE_TOKEN_FORGED;
    if (request->method == SIP_OPTIONS && !uri.user.p)
        return ANSWER_CORE_OPTIONS;
    return REFUSE_TOKEN_MISSING;
}

static enum refusal target_begin(struct proxy *proxy, struct sip_msg *request,
                                 const struct flow *flow, uint64_t now, struct routing *routing,
                                 struct target *target)
{
    enum refusal refusal = routes_take(proxy, request, flow, now, routing);

    *target = (struct target){.uri = routing->uri};
    return refusal;
}

enum refusal target_choose(struct proxy *proxy, struct sip_msg *request, const struct hop *from,
                           uint64_t now, struct target *target)
{
    struct routing routing;
    enum refusal refusal = target_begin(proxy, request, from->flow, now, &routing, target);

    if (refusal)
        return refusal;
    if (from->flow)
        return target_core(proxy, request, &routing, from->flow, now, target);
    return target_flow(proxy, request, &routing, target);
}

enum refusal target_choose_own(struct proxy *proxy, struct sip_msg *request, uint64_t now,
                               struct target *target)
{
    struct routing routing;
    enum refusal refusal = target_begin(proxy, request, NULL, now, &routing, target);

    return refusal ? refusal : target_core(proxy, request, &routing, NULL, now, target);
}

/* How a message changes as it crosses (RFC 3261 16.3, 16.6; rules M, N5 to N7, R1, R3, R5, R6). */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>

#include <xxhash.h>

#include "proxy/internal.h"
#include "proxy/text.h"

enum {
    MAX_FORWARDS_DEFAULT = 70,
    MAX_FORWARDS_LIMIT = 255,
    LOOP_LEN = 16, /* hex digits, behind "z9hG4bK", the transaction id and a dot */
    LOOP_AT = 7 + TRANSACTION_ID_SIZE - 1 + 1,
    FLOW_TIMER_S = 120,
};

/* ---- Via ---- */

/* Parameters of a Via, each in its one spelling, without `received`, which is ours to say, and, if
 * it is ours as well, without `rport`. Returns their end; they are no longer than they were. */
static char *via_params_put(char *at, struct str params, bool drop_rport, bool *rport)
{
    struct str name, value;

    *rport = false;
    while (sip_param_next(&params, &name, &value)) {
        bool is_rport = str_eq_nocase(name, STR("rport"));

        *rport |= is_rport;
        if ((is_rport && drop_rport) || str_eq_nocase(name, STR("received")))
            continue;
        at = str_put(str_put(at, STR(";")), name);
        if (value.len)
            at = str_put(str_put(at, STR("=")), value);
    }
    return at;
}

/* host[:port] of a Via in its one spelling. */
static char *sent_by_put(char *at, const struct text_via *via)
{
    bool brackets = via->sent_by.p[0] == '[';
    char digits[NUMBER_SIZE];

    at = str_put(at, brackets ? STR("[") : STR(""));
    at = str_put(at, via->host);
    at = str_put(at, brackets ? STR("]") : STR(""));
    if (via->port)
        at = str_put(str_put(at, STR(":")), number_text(digits, (uint64_t)via->port));
    return at;
}

/* As inet_ntop(), but without its printf: this is done for every request of the core side. */
static struct str ipv4_text(const struct in_addr *address, char text[INET6_ADDRSTRLEN])
{
    const uint8_t *bytes = (const uint8_t *)&address->s_addr;
    char *at = text;

    for (size_t i = 0; i < sizeof(address->s_addr); i++) {
        char digits[NUMBER_SIZE];
        struct str number = number_text(digits, bytes[i]);

        if (i)
            *at++ = '.';
        memcpy(at, number.p, number.len);
        at += number.len;
    }
    return (struct str){text, (size_t)(at - text)};
}

/* Where a request came from, as `received` and `rport` say it. p NULL: from no address. */
static struct str source(const struct hop *from, char text[INET6_ADDRSTRLEN], uint16_t *port)
{
    *port = 0;
    if (from->flow) {
        *port = from->flow->peer_port;
        return from->flow->peer_address;
    }
    if (!core_addr_is_ip(&from->core))
        return (struct str){NULL, 0};
    if (from->core.sa.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &from->core.in6.sin6_addr, text, INET6_ADDRSTRLEN);
        *port = ntohs(from->core.in6.sin6_port);
        return str_of(text);
    }
    *port = ntohs(from->core.in.sin_port);
    return ipv4_text(&from->core.in.sin_addr, text);
}

int via_received(struct proxy *proxy, struct sip_msg *request, const struct hop *from,
                 struct hop *reply_to)
{
    enum { ADDED = sizeof(";received=;rport=65535") + INET6_ADDRSTRLEN };
    int index = sip_find(request, HEADER_VIA, 0);
    const struct text_via *via = &request->top_via;
    char text[INET6_ADDRSTRLEN], digits[NUMBER_SIZE], *start, *at;
    struct str address;
    bool rport;
    uint16_t port;

    *reply_to = *from;
    if (index < 0 || !via->host.p)
        return -EINVAL;
    start = arena_alloc(&proxy->arena, request->headers[index].value.len + ADDED);
    if (!start)
        return -ENOMEM;
    address = source(from, text, &port);
    at = str_put(str_put(start, STR("SIP/")), via->version);
    at = str_put(str_put(at, STR("/")), via->transport);
    at = sent_by_put(str_put(at, STR(" ")), via);
    at = via_params_put(at, via->params, address.p != NULL, &rport);
    if (address.p)
        at = str_put(str_put(at, STR(";received=")), address);
    if (address.p && rport)
        at = str_put(str_put(at, STR(";rport=")), number_text(digits, port));
    request->headers[index].value = (struct str){start, (size_t)(at - start)};
    /* RFC 3261 18.2.2: to the port in sent-by. By TCP to the connection that it came on, and there
     * only if that is gone: the port it came from accepts nobody. From no address it goes back the
     * way it came. */
    if (address.p && !from->flow && (!rport || from->core.kind == CORE_TCP))
        core_addr_port_set(&reply_to->core, (uint16_t)(via->port ? via->port : 5060));
    return 0;
}

static uint64_t hash_add(uint64_t hash, struct str s)
{
    return XXH3_64bits_withSeed(s.len ? s.p : "", s.len, hash);
}

/* What decides routing, never Via (RFC 5393 4.2; M3). Taken from the request as it is sent, so that
 * one that comes back unchanged is known at once; a spiral comes back changed (M4). */
static uint64_t loop_hash(const struct proxy *proxy, const struct sip_msg *request)
{
    static const enum header_id lists[] = {HEADER_ROUTE, HEADER_PROXY_REQUIRE,
                                           HEADER_PROXY_AUTHORIZATION};
    uint64_t hash = hash_add(proxy->options.instance, request->uri);

    hash = hash_add(hash, request->from_tag);
    hash = hash_add(hash, request->to_tag);
    hash = hash_add(hash, request->call_id);
    hash = XXH3_64bits_withSeed(&request->cseq, sizeof(request->cseq), hash);
    for (size_t l = 0; l < ARRAY_LEN(lists); l++)
        for (int i = -1; (i = sip_find(request, lists[l], (unsigned)(i + 1))) >= 0;)
            hash = hash_add(hash, request->headers[i].value);
    return hash;
}

/* Host and port of our side that faces a client: the name and port that it connected to. linphone
 * sends its responses there, and takes this connection only if they are the same. p NULL: the arena
 * is full. */
static struct str access_host(struct proxy *proxy, const struct flow *flow)
{
    const char *host = flow->host ? flow->host : proxy->conf->domain;
    bool six = strchr(host, ':');
    char digits[NUMBER_SIZE];

    return ARENA_JOIN(&proxy->arena, six ? STR("[") : STR(""), str_of(host),
                      six ? STR("]:") : STR(":"), number_text(digits, flow->port));
}

enum refusal via_push(struct proxy *proxy, struct sip_msg *request, const struct hop *to,
                      const char *id)
{
    bool tcp = to->core.kind == CORE_TCP;
    struct str transport = to->flow ? str_of(to->flow->transport->via)
                           : tcp    ? STR("TCP")
                                    : STR("UDP");
    struct str host = to->flow ? access_host(proxy, to->flow) : core_host(proxy, &to->core);
    struct str value = {NULL, 0};
    char loop[LOOP_LEN];

    number_hex(loop, LOOP_LEN, loop_hash(proxy, request));
    if (host.p)
        value = ARENA_JOIN(&proxy->arena, STR("SIP/2.0/"), transport, STR(" "), host,
                           STR(";branch=z9hG4bK"), (struct str){id, TRANSACTION_ID_SIZE - 1},
                           STR("."), (struct str){loop, LOOP_LEN}, STR(";rport"));
    if (!value.p || sip_push(request, HEADER_VIA, value))
        return REFUSE_TOO_LARGE;
    return REFUSE_NOT;
}

struct str via_pushed_branch(const struct sip_msg *request)
{
    struct str via = sip_value(request, HEADER_VIA);
    size_t len = LOOP_AT + LOOP_LEN;

    return (struct str){via.p + via.len - strlen(";rport") - len, len};
}

/* A Via of ours with the same loop part: the request was here before (M3). */
static bool is_loop(struct proxy *proxy, const struct sip_msg *request, const struct hop *from)
{
    struct str branch = request->top_branch; /* then of the Vias below */
    char mine[LOOP_LEN] = {0};

    if (!from->flow && from->core.kind == CORE_SELF)
        return false; /* it comes unchanged on purpose, and goes on to a client */
    for (int top = sip_find(request, HEADER_VIA, 0), i = top; i >= 0;
         i = sip_find(request, HEADER_VIA, (unsigned)(i + 1))) {
        struct str value = request->headers[i].value;
        const char *params = i == top ? NULL : memchr(value.p, ';', value.len);
        if (i != top &&
            (!params || !sip_param((struct str){params, value.len - (size_t)(params - value.p)},
                                   STR("branch"), &branch)))
            continue;
        if (branch.len != LOOP_AT + LOOP_LEN || branch.p[LOOP_AT - 1] != '.' ||
            memcmp(branch.p, "z9hG4bK", 7) != 0)
            continue;
        if (!mine[0])
            number_hex(mine, LOOP_LEN, loop_hash(proxy, request));
        if (memcmp(branch.p + LOOP_AT, mine, LOOP_LEN) == 0)
            return true;
    }
    return false;
}

/* ---- checks ---- */

/* M1, M2. */
static enum refusal max_forwards_check(struct proxy *proxy, struct sip_msg *request,
                                       const struct hop *from)
{
    int index = sip_find(request, HEADER_MAX_FORWARDS, 0);
    uint64_t hops;

    if (index < 0)
        return 0;
    if (str_to_uint(request->headers[index].value, MAX_FORWARDS_LIMIT, &hops))
        return REFUSE_MAX_FORWARDS;
    if (from->flow && hops > proxy->conf->limits.max_forwards)
        hops = proxy->conf->limits.max_forwards;
    if (hops == 0)
        return request->method == SIP_OPTIONS ? ANSWER_MAX_FORWARDS_ZERO : REFUSE_MAX_FORWARDS_ZERO;
    struct str value = arena_number(&proxy->arena, hops - 1);
    request->headers[index].value = value;
    return value.p ? REFUSE_NOT : REFUSE_TOO_LARGE;
}

/* M5. */
static enum refusal max_breadth_check(const struct sip_msg *request)
{
    struct str value = sip_value(request, HEADER_MAX_BREADTH);
    uint64_t breadth;

    if (!value.p)
        return 0;
    if (str_to_uint(value, UINT32_MAX, &breadth))
        return REFUSE_MAX_BREADTH;
    return breadth ? REFUSE_NOT : REFUSE_MAX_BREADTH_ZERO;
}

/* V6: sipward knows no option that a client could require of a proxy. */
static enum refusal proxy_require_check(struct proxy *proxy, const struct sip_msg *request,
                                        struct str *extra)
{
    struct str lines = STR("");

    for (int i = -1; (i = sip_find(request, HEADER_PROXY_REQUIRE, (unsigned)(i + 1))) >= 0;) {
        struct str tokens = request->headers[i].value;
        if (tokens.len)
            lines = arena_printf(&proxy->arena, STR_FMT "Unsupported: " STR_FMT "\r\n",
                                 STR_ARG(lines), STR_ARG(tokens));
        if (!lines.p)
            return REFUSE_TOO_LARGE;
    }
    if (!lines.len)
        return REFUSE_NOT;
    *extra = lines;
    return REFUSE_PROXY_REQUIRE;
}

enum refusal request_check(struct proxy *proxy, struct sip_msg *request, const struct hop *from,
                           struct str *extra)
{
    enum refusal refusal = max_forwards_check(proxy, request, from);

    if (!refusal)
        refusal = max_breadth_check(request);
    if (!refusal && is_loop(proxy, request, from))
        refusal = REFUSE_LOOP;
    if (!refusal)
        refusal = proxy_require_check(proxy, request, extra);
    return refusal;
}

/* ---- Path and Record-Route ---- */

static bool starts_dialog(const struct sip_msg *request)
{
    return !request->to_tag.p && (request->method == SIP_INVITE || request->method == SIP_REFER ||
                                  request->method == SIP_SUBSCRIBE);
}

/* How our URIs name the transport to the core (R9): TCP where this message goes or came by TCP.
 * Without a parameter it is UDP to all PBXs, which is what an auto: backend gets, as its requests
 * are small but for some: when the very request is large, TCP is chosen after this (T7). Asterisk,
 * FreeSWITCH and Kamailio then send their own requests by UDP, fragmented if need be, or change
 * over to TCP by themselves, and both reach us. */
static struct str core_transport(const struct core_addr *core)
{
    return core->kind == CORE_TCP ? STR(";transport=tcp") : STR("");
}

static struct str core_uri(struct proxy *proxy, const struct flow *flow,
                           const struct core_addr *core, struct str params)
{
    return ARENA_JOIN(&proxy->arena, STR("<sip:"), (struct str){flow->token, TOKEN_FLOW_LEN},
                      STR("@"), core_host(proxy, core), core_transport(core), params, STR(">"));
}

static struct str access_uri(struct proxy *proxy, const struct flow *flow)
{
    struct str host = access_host(proxy, flow);

    if (!host.p)
        return host;
    return ARENA_JOIN(&proxy->arena, STR("<sip:"), (struct str){flow->token, TOKEN_FLOW_LEN},
                      STR("@"), host, STR(";transport="), str_of(flow->transport->uri),
                      STR(";lr>"));
}

/* Two of them, as the transport changes: the one that faces the next hop on top (R3, RFC 5658). */
static int record_route_push(struct proxy *proxy, struct sip_msg *request, const struct flow *flow,
                             const struct core_addr *core, bool to_core)
{
    struct str sides[] = {access_uri(proxy, flow), core_uri(proxy, flow, core, STR(";lr"))};

    if (!sides[0].p || !sides[1].p)
        return -ENOMEM;
    if (sip_push(request, HEADER_RECORD_ROUTE, sides[to_core ? 0 : 1]))
        return -ENOSPC;
    return sip_push(request, HEADER_RECORD_ROUTE, sides[to_core ? 1 : 0]);
}

static int path_push(struct proxy *proxy, struct sip_msg *request, const struct flow *flow,
                     const struct core_addr *core) /* R5 */
{
    bool outbound = sip_has_token(request, HEADER_SUPPORTED, STR("outbound"));
    struct str path = core_uri(proxy, flow, core, outbound ? STR(";lr;ob") : STR(";lr"));

    if (!path.p || sip_push(request, HEADER_PATH, path))
        return -ENOMEM;
    if (sip_has_token(request, HEADER_SUPPORTED, STR("path")))
        return 0;
    return sip_insert(request, request->header_count, HEADER_SUPPORTED, STR("path"));
}

/* ---- Contact (R6, R9) ---- */

/* URI parameters that the core may see: what names the client's own transport would mislead it. */
static struct str contact_params(struct arena *arena, struct str params)
{
    static const struct str private[] = {
        {"transport", 9},
        {"maddr",     5},
        {"ttl",       3},
        {"lr",        2},
        {"flow",      4},
    };

    for (size_t i = 0; params.p && i < ARRAY_LEN(private); i++)
        if (sip_param(params, private[i], NULL))
            params = sip_param_drop(arena, params, private[i]);
    return params;
}

/* A Contact URI of this flow that is another one than before. -EBADMSG: it can't be read. -ENOMEM.
 * *out NULL: it is neither sip nor sips, and stays as it is. */
static int contact_mask_make(struct proxy *proxy, struct flow *flow, struct str uri,
                             const struct contact_mask **out)
{
    struct str text, params, tail;
    struct token token;
    struct contact_mask *mask, *kept;
    struct sip_uri parsed;
    size_t size;
    int err = sip_uri_parse(&proxy->arena, uri, &parsed);

    *out = NULL;
    if (err)
        return err == -ENOMEM ? err : -EBADMSG;
    if (!parsed.host.p)
        return 0;
    token = flow_token(flow, TOKEN_CONTACT, parsed.text);
    text = token_print(proxy->tokens, &proxy->arena, &token);
    params = contact_params(&proxy->arena, parsed.params);
    if (!text.p || !params.p)
        return -ENOMEM;
    tail = ARENA_JOIN(&proxy->arena, params, STR(";flow="), text);
    if (!tail.p)
        return -ENOMEM;
    size = sizeof(*mask) + parsed.text.len + tail.len;
    kept = malloc(size);
    mask = kept ? kept : arena_alloc(&proxy->arena, size); /* then it is made again next time */
    if (!mask)
        return -ENOMEM;
    mask->uri = (struct str){mask->bytes, parsed.text.len};
    mask->user = (struct str){NULL, parsed.user.len};
    mask->tail = (struct str){mask->bytes + parsed.text.len, tail.len};
    mask->token = (struct str){mask->tail.p + tail.len - text.len, text.len};
    memcpy(mask->bytes, parsed.text.p, parsed.text.len);
    if (parsed.user.len)
        mask->user.p = mask->bytes + (parsed.user.p - parsed.text.p);
    memcpy(mask->bytes + parsed.text.len, tail.p, tail.len);
    if (kept) {
        free(flow->contact);
        flow->contact = kept;
    }
    *out = mask;
    return 0;
}

static int contacts_mask(struct proxy *proxy, struct sip_msg *msg, struct flow *flow,
                         const struct core_addr *core)
{
    struct str host = core_host(proxy, core);

    for (int i = -1; (i = sip_find(msg, HEADER_CONTACT, (unsigned)(i + 1))) >= 0;) {
        const struct contact_mask *mask = flow->contact;
        struct str value = msg->headers[i].value;
        struct text_addr addr;
        int err = 0;

        if (str_eq(value, STR("*")))
            continue;
        if (!sip_addr_cut(msg, (unsigned)i, &addr))
            return -EBADMSG;
        if (!mask || !str_eq(mask->uri, addr.uri))
            err = contact_mask_make(proxy, flow, addr.uri, &mask);
        if (err)
            return err;
        if (!mask)
            continue;
        value =
            ARENA_JOIN(&proxy->arena, addr.display, addr.display.len ? STR(" <sip:") : STR("<sip:"),
                       mask->user, mask->user.len ? STR("@") : STR(""), host, core_transport(core),
                       mask->tail, STR(">"), addr.params);
        if (!value.p)
            return -ENOMEM;
        msg->headers[i].value = value;
    }
    return 0;
}

/* Most come back as they were sent: nothing of them has to be read again. */
static bool is_masked(const struct contact_mask *mask, struct str uri)
{
    return mask && uri.len > mask->tail.len &&
           !memcmp(uri.p + uri.len - mask->tail.len, mask->tail.p, mask->tail.len);
}

/* The client's own URI in the place of one that the core was told; p NULL: it is none of ours. */
static struct str contact_own(struct proxy *proxy, const struct flow *flow,
                              const struct text_addr *addr)
{
    struct str none = {NULL, 0}, text;
    struct sip_uri uri;
    struct token token;

    if (is_masked(flow->contact, addr->uri))
        return flow->contact->uri;
    uri_of(addr->uri, &addr->pieces, &uri);
    if (!sip_param(uri.params, STR("flow"), &text) || !text.p ||
        flow_token_read(proxy, text, &token) || token.kind != TOKEN_CONTACT)
        return none;
    return token.uri;
}

/* A REGISTER's 200 lists what the core was told: the client gets its own URIs back. */
static int contacts_restore(struct proxy *proxy, struct sip_msg *response, const struct flow *flow)
{
    for (int i = -1; (i = sip_find(response, HEADER_CONTACT, (unsigned)(i + 1))) >= 0;) {
        struct str value, own;
        struct text_addr addr;

        if (!sip_addr_cut(response, (unsigned)i, &addr))
            continue;
        own = contact_own(proxy, flow, &addr);
        if (!own.p)
            continue;
        value = ARENA_JOIN(&proxy->arena, addr.display, addr.display.len ? STR(" <") : STR("<"),
                           own, STR(">"), addr.params);
        if (!value.p)
            return -ENOMEM;
        response->headers[i].value = value;
    }
    return 0;
}

/* ---- requests and responses ---- */

/* One blank between number and method, whatever the sender put there (N1). */
static int cseq_tidy(struct proxy *proxy, struct sip_msg *msg)
{
    int index = sip_find(msg, HEADER_CSEQ, 0);
    struct str value = msg->headers[index].value;

    if (value.p[value.len - msg->method_name.len - 1] == ' ' &&
        value.p[value.len - msg->method_name.len - 2] != ' ' &&
        value.p[value.len - msg->method_name.len - 2] != '\t')
        return 0;
    value = arena_printf(&proxy->arena, "%u " STR_FMT, msg->cseq, STR_ARG(msg->method_name));
    if (!value.p)
        return -ENOMEM;
    msg->headers[index].value = value;
    return 0;
}

static int request_to_core(struct proxy *proxy, struct sip_msg *request, struct flow *flow,
                           const struct core_addr *core)
{
    const struct conf *conf = proxy->conf;
    int err = headers_cross(proxy, request, CONF_TO_CORE);

    if (!err)
        err = client_address_add(proxy, request, flow);
    if (!err && request->method == SIP_REGISTER && conf->contact_path)
        err = path_push(proxy, request, flow, core);
    if (!err && starts_dialog(request))
        err = record_route_push(proxy, request, flow, core, true);
    if (!err && !conf->contact_path)
        err = contacts_mask(proxy, request, flow, core);
    return err;
}

static int request_to_access(struct proxy *proxy, struct sip_msg *request,
                             const struct core_addr *core, const struct flow *flow)
{
    int err = headers_cross(proxy, request, CONF_TO_ACCESS);

    if (!err && starts_dialog(request))
        err = record_route_push(proxy, request, flow, core, false);
    return err;
}

enum refusal request_rewrite(struct proxy *proxy, struct sip_msg *request, const struct hop *from,
                             const struct target *target)
{
    int err;

    request->uri = target->uri;
    err = cseq_tidy(proxy, request);
    if (err)
        return REFUSE_TOO_LARGE;
    err = target->hop.flow ? request_to_access(proxy, request, &from->core, target->hop.flow)
                           : request_to_core(proxy, request, from->flow, &target->hop.core);
    if (!err && sip_find(request, HEADER_MAX_FORWARDS, 0) < 0) { /* M2 */
        struct str hops = arena_number(&proxy->arena, MAX_FORWARDS_DEFAULT);
        err = sip_insert(request, request->header_count, HEADER_MAX_FORWARDS, hops);
    }
    switch (err) {
    case 0: return REFUSE_NOT;
    case -EBADMSG: return REFUSE_CONTACT; /* the only header that is read so late */
    default: return REFUSE_TOO_LARGE;     /* too large for our scratch memory or header table */
    }
}

int response_rewrite(struct proxy *proxy, struct sip_msg *response, const struct hop *from,
                     const struct hop *to, bool outbound)
{
    int err = cseq_tidy(proxy, response);

    if (err)
        return err;
    if (from->flow) {
        err = headers_cross(proxy, response, CONF_TO_CORE);
        /* The Contacts of a redirection name others, not this client. */
        if (!err && !proxy->conf->contact_path && response->status < 300)
            err = contacts_mask(proxy, response, from->flow, &to->core);
        return err;
    }
    err = headers_cross(proxy, response, CONF_TO_ACCESS);
    if (err || response->method != SIP_REGISTER || response->status / 100 != 2)
        return err;
    err = contacts_restore(proxy, response, to->flow);
    if (!err && outbound && sip_find(response, HEADER_FLOW_TIMER, 0) < 0) { /* R10 */
        unsigned idle = proxy->conf->limits.idle_timeout_s;
        unsigned most = idle - idle / 5; /* a keepalive has some way to come */
        struct str seconds =
            arena_number(&proxy->arena, idle && most < FLOW_TIMER_S ? most : FLOW_TIMER_S);
        err = sip_insert(response, response->header_count, HEADER_FLOW_TIMER, seconds);
    }
    return err;
}

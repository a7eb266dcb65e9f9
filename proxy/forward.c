/* One request, top to bottom, and its responses back (RFC 3261 16). */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#include <utlist.h>
#include <xxhash.h>

#include "proxy/forward_internal.h"
#include "proxy/text.h"

enum { TIMER_C_MS = 181 * 1000 };

static const struct transaction_user forward_user;

/* ---- what a flow has sent ---- */

static struct forward **kept_list(const struct forward *forward)
{
    return &forward->from.flow->kept[forward->method == SIP_INVITE];
}

static void origin_enter(struct forward *forward)
{
    struct flow *flow = forward->from.flow;

    if (!flow)
        return;
    DL_APPEND2(flow->origins, forward, origin_prev, origin_next);
    flow->open_count++;
}

static void origin_leave(struct forward *forward)
{
    struct flow *flow = forward->from.flow;

    if (!flow)
        return;
    if (forward->kept) {
        DL_DELETE2(*kept_list(forward), forward, origin_prev, origin_next);
        flow->kept_count--;
    } else {
        DL_DELETE2(flow->origins, forward, origin_prev, origin_next);
        flow->open_count--;
    }
    forward->from.flow = NULL;
}

/* It isn't open any more, once it is answered or will not be. */
static void origin_settle(struct forward *forward)
{
    struct flow *flow = forward->from.flow;

    if (!flow || forward->kept || forward_unanswered(forward))
        return;
    DL_DELETE2(flow->origins, forward, origin_prev, origin_next);
    flow->open_count--;
    DL_APPEND2(*kept_list(forward), forward, origin_prev, origin_next);
    flow->kept_count++;
    forward->kept = true;
}

struct forward *forward_new(struct proxy *proxy, enum sip_method method)
{
    struct forward *forward;

    proxy->forward_pool.size = sizeof(*forward);
    forward = pool_take(&proxy->forward_pool);
    if (!forward)
        return NULL;
    memset(forward, 0, sizeof(*forward));
    forward->proxy = proxy;
    forward->method = method;
    forward->slot = NO_BACKEND;
    DL_APPEND(proxy->forwards, forward);
    proxy->forward_count++;
    return forward;
}

static struct forward *forward_create(struct proxy *proxy, const struct sip_msg *request,
                                      const struct hop *from)
{
    struct forward *forward = forward_new(proxy, request->method);
    size_t kept;

    if (!forward)
        return NULL;
    forward->from = *from;
    forward->opens = !request->to_tag.p;
    kept = request->call_id.len < CALL_ID_KEPT ? request->call_id.len : CALL_ID_KEPT - 1;
    memcpy(forward->call_id, request->call_id.p, kept);
    origin_enter(forward);
    return forward;
}

static void target_enter(struct forward *forward, const struct hop *to)
{
    forward->to = *to;
    if (to->flow)
        DL_APPEND2(to->flow->targets, forward, target_prev, target_next);
}

static void target_leave(struct forward *forward)
{
    struct flow *flow = forward->to.flow;

    if (!flow)
        return;
    DL_DELETE2(flow->targets, forward, target_prev, target_next);
    forward->to.flow = NULL;
}

void forward_free(struct forward *forward)
{
    timer_stop(forward->proxy->options.timers, &forward->timer_c);
    tries_end(forward);
    free(forward->registering);
    origin_leave(forward);
    target_leave(forward);
    DL_DELETE(forward->proxy->forwards, forward);
    forward->proxy->forward_count--;
    pool_give(&forward->proxy->forward_pool, forward);
}

/* What its client transaction may still absorb takes no forward. */
static void forward_settle(struct forward *forward)
{
    struct flow *flow = forward->from.flow;

    if (!forward->server && forward->client &&
        client_transaction_leave(forward->client, flow ? &flow->absorbing : NULL))
        forward->client = NULL;
    if (!forward->server && !forward->client)
        forward_free(forward);
}

static void drop_server(struct forward *forward)
{
    if (forward->server)
        server_transaction_drop(forward->server);
    forward->server = NULL;
}

static void drop_client(struct forward *forward)
{
    if (forward->client)
        client_transaction_drop(forward->client);
    forward->client = NULL;
}

/* Where the table gets full, a connection that has more than its limit in it makes room of its own:
 * the oldest of what is answered, INVITEs last (transaction.h). Two for each one that is new, so
 * that what it gathered while there was room goes down to its limit. */
static void kept_give_up(struct proxy *proxy, struct flow *flow)
{
    for (unsigned i = 0; i < 2; i++) {
        struct forward *oldest = flow->kept[0] ? flow->kept[0] : flow->kept[1];
        struct client_transaction *left = flow->absorbing.first;

        if ((!left && !oldest) || !flow_keeps_enough(flow) ||
            !transactions_crowded(proxy->transactions))
            return;
        if (left) {
            proxy->counters.given_up++;
            client_transaction_drop(left);
            continue;
        }
        proxy->counters.given_up += !!oldest->server + !!oldest->client;
        drop_server(oldest);
        drop_client(oldest);
        forward_free(oldest);
    }
}

bool forward_unanswered(const struct forward *forward)
{
    return forward->server && server_transaction_status(forward->server) < 200;
}

size_t forwards_unanswered(const struct proxy *proxy)
{
    const struct forward *forward;
    size_t count = 0;

    DL_FOREACH(proxy->forwards, forward)
    if (forward_unanswered(forward))
        count++;
    return count;
}

void forwards_destroy(struct proxy *proxy)
{
    struct forward *forward, *next;

    DL_FOREACH_SAFE(proxy->forwards, forward, next)
    {
        drop_server(forward);
        drop_client(forward);
        forward_free(forward);
    }
    pool_clear(&proxy->forward_pool);
}

void forward_answer(struct forward *forward, enum refusal refusal, uint64_t now)
{
    const struct flow *flow = forward->from.flow ? forward->from.flow : forward->to.flow;
    const struct refusal_row *row = &refusals[refusal];
    int status;

    if (!forward->server)
        return;
    status = refusal_count(forward->proxy, refusal);
    log_event(LOG_INFO, "request answered", LOG_TEXT("flow", str_of(flow ? flow->name : "core")),
              LOG_TEXT("method", str_of(sip_method_name(forward->method))),
              LOG_NUMBER("status", status), LOG_TEXT("call-id", str_of(forward->call_id)),
              LOG_TEXT("reason", str_of(row->reason)), LOG_TEXT("rule", str_of(row->rule)));
    flow_answered(forward->from.flow, forward->method, status, now);
    server_transaction_reply(forward->server, status, row->reason, refusal_headers(status, STR("")),
                             now);
    origin_settle(forward);
}

/* ---- requests ---- */

/* Answer in a transaction, which absorbs what comes again, and the ACK. false: no room for one. */
static bool answer_kept(struct proxy *proxy, const struct sip_msg *request,
                        const struct hop *reply_to, int status, const char *why, struct str extra,
                        uint64_t now)
{
    struct forward *forward = forward_create(proxy, request, reply_to);

    if (!forward)
        return false;
    if (server_transaction_create(proxy->transactions, request, reply_to, &forward_user, forward,
                                  now, &forward->server)) {
        forward_free(forward);
        return false;
    }
    flow_answered(reply_to->flow, request->method, status, now);
    server_transaction_reply(forward->server, status, why, extra, now);
    origin_settle(forward);
    return true;
}

/* Answer a request that goes nowhere. INVITE gets a transaction, but not without limit: a client
 * must not be able to fill the table with what is refused. */
static void request_answer(struct proxy *proxy, const struct sip_msg *request,
                           const struct hop *reply_to, enum refusal refusal, struct str extra,
                           uint64_t now)
{
    const struct refusal_row *row = &refusals[refusal];
    const struct flow *flow = reply_to->flow;
    int status;

    if (request->method == SIP_ACK) /* V5, M1 */
        return;
    status = refusal_count(proxy, refusal);
    log_event(status >= 400 ? LOG_INFO : LOG_DEBUG,
              status >= 400 ? "request refused" : "request answered",
              LOG_TEXT("flow", str_of(flow ? flow->name : "core")),
              LOG_TEXT("method", request->method_name), LOG_NUMBER("status", status),
              LOG_TEXT("call-id", request->call_id), LOG_TEXT("uri", request->uri),
              LOG_TEXT("reason", str_of(row->reason)), LOG_TEXT("rule", str_of(row->rule)));
    extra = refusal_headers(status, extra);
    if (request->method != SIP_INVITE || (flow && flow_keeps_enough(flow)) ||
        !answer_kept(proxy, request, reply_to, status, row->reason, extra, now))
        proxy_reply(proxy, request, reply_to, status, row->reason, extra);
}

enum refusal request_print(struct proxy *proxy, struct sip_msg *request, const struct hop *to,
                           const char *id)
{
    enum refusal refusal = via_push(proxy, request, to, id);

    if (!refusal) {
        buf_reset(&proxy->out);
        sip_print(request, &proxy->out);
        refusal = proxy->out.overflow ? REFUSE_TOO_LARGE : REFUSE_NOT;
    }
    return unless_no_memory(proxy, refusal);
}

struct client_request request_printed(const struct proxy *proxy, const struct sip_msg *request)
{
    return (struct client_request){
        .method = request->method,
        .bytes = buf_str(&proxy->out),
        .branch = via_pushed_branch(request),
        .body_len = request->body.len,
    };
}

void ack_id(const struct proxy *proxy, struct str key, char id[TRANSACTION_ID_SIZE])
{
    number_hex(id, 8, (uint64_t)proxy->options.worker << 24 | 0xffffff);
    number_hex(id + 8, 8, XXH3_64bits_withSeed(key.p, key.len, proxy->options.instance));
    id[TRANSACTION_ID_SIZE - 1] = '\0';
}

/* As it goes out. What turns out too large for a datagram is printed anew for TCP (T7). */
static enum refusal request_print_sized(struct proxy *proxy, struct sip_msg *request,
                                        struct hop *to, const char *id, uint64_t now)
{
    enum refusal refusal = request_print(proxy, request, to, id);

    if (refusal || !core_transport_choose(proxy, to, proxy->out.len, now))
        return refusal;
    sip_drop(request, (unsigned)sip_find(request, HEADER_VIA, 0));
    return request_print(proxy, request, to, id);
}

/* ACK for a 2xx: end to end, without a transaction (T3). */
static void ack_forward(struct proxy *proxy, struct sip_msg *ack, const struct hop *from,
                        uint64_t now)
{
    char id[TRANSACTION_ID_SIZE];
    struct target target;
    struct str extra = STR("");
    enum refusal refusal;

    if (proxy_replied(proxy, ack))
        return;
    refusal = request_check(proxy, ack, from, &extra);
    if (!refusal)
        refusal = target_choose(proxy, ack, from, now, &target);
    if (!refusal)
        refusal = request_rewrite(proxy, ack, from, &target);
    ack_id(proxy, ack->top_branch, id);
    if (!refusal)
        refusal = request_print_sized(proxy, ack, &target.hop, id, now);
    if (!refusal && proxy_send(proxy, &target.hop, buf_str(&proxy->out)))
        refusal = target.hop.flow ? REFUSE_FLOW_GONE : REFUSE_BACKENDS_FAILED;
    if (refusal)
        log_event(LOG_INFO, "ACK dropped",
                  LOG_TEXT("flow", str_of(from->flow ? from->flow->name : "core")),
                  LOG_TEXT("call-id", ack->call_id),
                  LOG_NUMBER("status", refusal_status(proxy, refusal)),
                  LOG_TEXT("reason", str_of(refusals[refusal].reason)),
                  LOG_TEXT("rule", str_of(refusals[refusal].rule)));
}

/* Why it is cancelled goes on: a call that was answered elsewhere is no missed one (RFC 3326 2). */
static struct str reasons(struct proxy *proxy, const struct sip_msg *cancel)
{
    struct str lines = STR("");

    for (int i = -1; (i = sip_find_name(cancel, STR("Reason"), (unsigned)(i + 1))) >= 0;) {
        struct str more = arena_printf(&proxy->arena, STR_FMT "Reason: " STR_FMT "\r\n",
                                       STR_ARG(lines), STR_ARG(cancel->headers[i].value));
        lines = more.p ? more : lines;
    }
    return lines;
}

/* CANCEL is hop by hop (T4). */
static void cancel_receive(struct proxy *proxy, struct sip_msg *cancel, const struct hop *reply_to,
                           uint64_t now)
{
    struct server_transaction *server =
        transactions_cancelled(proxy->transactions, cancel, reply_to);
    struct forward *forward;
    bool open;

    if (!server) {
        request_answer(proxy, cancel, reply_to, REFUSE_CANCEL_UNKNOWN, STR(""), now);
        return;
    }
    forward = server_transaction_owner(server);
    open = forward_unanswered(forward); /* else it may be given up for the CANCEL's */
    /* One that comes again may find the INVITE over: it gets its 200 all the same (T8). */
    if (reply_to->flow || !answer_kept(proxy, cancel, reply_to, 200, NULL, STR(""), now))
        proxy_reply(proxy, cancel, reply_to, 200, NULL, STR(""));
    if (!open || forward->cancelled)
        return;
    forward->cancelled = true;
    if (forward->client)
        client_transaction_cancel_with(forward->client, reasons(proxy, cancel), now);
}

static void timer_c_fire(struct timer *timer, uint64_t now)
{
    struct forward *forward =
        (struct forward *)(void *)((char *)timer - offsetof(struct forward, timer_c));

    forward->expired = true;
    if (forward->client)
        client_transaction_cancel(forward->client, now);
}

static void timer_c_start(struct forward *forward, uint64_t now)
{
    if (forward->method == SIP_INVITE)
        timer_start(forward->proxy->options.timers, &forward->timer_c, now + TIMER_C_MS,
                    timer_c_fire);
}

/* Of a name in any case. One that is too long for DNS is nobody's, and stays as spelled. */
static uint64_t host_hash(const struct transactions *transactions, struct str host)
{
    char lower[256];

    if (host.len > sizeof(lower))
        return transactions_hash(transactions, host);
    for (size_t i = 0; i < host.len; i++)
        lower[i] =
            (char)(host.p[i] >= 'A' && host.p[i] <= 'Z' ? host.p[i] + ('a' - 'A') : host.p[i]);
    return transactions_hash(transactions, (struct str){lower, host.len});
}

/* Who stands in the Record-Routes behind the first `skip`, in their order: user, host and port. All
 * else of them may come back in another spelling, default ports too. By a secret: what differs
 * could be made to look the same otherwise. */
static uint64_t record_routes_hash(const struct transactions *transactions,
                                   const struct sip_msg *msg, unsigned skip)
{
    uint64_t hash = 0;

    for (int i = -1; (i = sip_find(msg, HEADER_RECORD_ROUTE, (unsigned)(i + 1))) >= 0;) {
        struct text_addr addr;
        const struct text_uri *uri = &addr.pieces;
        uint64_t parts[4];

        if (skip && skip--)
            continue;
        if (!sip_addr_cut(msg, (unsigned)i, &addr))
            continue; /* none that sip_scan() lets pass */
        parts[0] = hash;
        parts[1] = transactions_hash(transactions, uri->user);
        parts[2] = host_hash(transactions, uri->host);
        parts[3] = uri->port == 5060 || uri->port == 5061 ? 0 : (uint64_t)uri->port;
        hash = transactions_hash(transactions, (struct str){(const char *)parts, sizeof(parts)});
    }
    return hash;
}

static unsigned record_route_count(const struct sip_msg *msg)
{
    unsigned count = 0;

    for (int i = -1; (i = sip_find(msg, HEADER_RECORD_ROUTE, (unsigned)(i + 1))) >= 0;)
        count++;
    return count;
}

/* The core routes by a callee's copy of the Record-Routes, the last one first: it must end with
 * those that the callee got, or one could send the PBX anywhere (R3, RFC 3261 12.1.1). */
static bool record_routes_kept(const struct forward *forward, const struct sip_msg *response)
{
    unsigned count = record_route_count(response);

    if (!count || !forward->to.flow)
        return true;
    return count >= forward->record_route_count &&
           record_routes_hash(forward->proxy->transactions, response,
                              count - forward->record_route_count) == forward->record_routes;
}

enum refusal forward_send(struct forward *forward, struct sip_msg *request,
                          const struct target *target, uint64_t now)
{
    struct proxy *proxy = forward->proxy;
    struct hop to = target->hop;
    struct client_request printed;
    char id[TRANSACTION_ID_SIZE];
    enum refusal refusal =
        unless_no_memory(proxy, request_rewrite(proxy, request, &forward->from, target));

    if (refusal)
        return refusal;
    if (client_transaction_create(proxy->transactions, &to, &forward_user, forward, now,
                                  &forward->client))
        return REFUSE_NO_ROOM;
    target_enter(forward, &to);
    client_transaction_id(forward->client, id);
    refusal = request_print_sized(proxy, request, &to, id, now);
    if (refusal) {
        drop_client(forward);
        return refusal;
    }
    if (target->hop.flow) {
        forward->record_route_count = record_route_count(request);
        forward->record_routes = record_routes_hash(proxy->transactions, request, 0);
    }
    timer_c_start(forward, now);
    client_transaction_hop_set(forward->client, &to);
    printed = request_printed(proxy, request);
    client_transaction_send(forward->client, &printed, now);
    forward->asked_at = now;
    try_start(forward, now);
    if (to.core.or_udp && !client_transaction_hop(forward->client)->core.or_udp)
        proxy->counters.tcp_by_udp++;
    return REFUSE_NOT;
}

/* What a REGISTER of a client changes, once it is answered. */
static void register_note(struct forward *forward, const struct sip_msg *request,
                          const struct flow *flow)
{
    forward->outbound = sip_has_token(request, HEADER_SUPPORTED, STR("outbound"));
    forward->registering_key = registering_key(request);
    if (forward->registering_key &&
        !registered_has(flow->registered_aors, forward->registering_key))
        forward->registering = registering_read(request);
}

/* Take one request to where it belongs: decide, then rewrite, then send. What a decision refuses
 * was never touched. */
static void request_forward(struct proxy *proxy, struct sip_msg *request,
                            const struct hop *reply_to, uint64_t now)
{
    struct str extra = STR("");
    struct target target = {0};
    struct forward *forward;
    enum refusal refusal = request_check(proxy, request, reply_to, &extra); /* 16.3 */

    if (!refusal)
        refusal = drain_check(proxy, request, reply_to, now, &extra);
    if (!refusal && reply_to->flow && flow_is_full(reply_to->flow, request))
        refusal = REFUSE_FLOW_FULL;
    if (!refusal) {
        refusal = target_choose(proxy, request, reply_to, now, &target); /* 16.4, 16.5 */
        extra = target.extra.p ? target.extra : extra;
    }
    if (proxy->arena.no_memory) { /* whatever was decided */
        refusal = REFUSE_NO_ROOM;
        extra = STR("");
    }
    if (refusal) {
        request_answer(proxy, request, reply_to, refusal, extra, now);
        return;
    }
    if (reply_to->flow)
        kept_give_up(proxy, reply_to->flow);
    forward = forward_create(proxy, request, reply_to);
    if (!forward || server_transaction_create(proxy->transactions, request, reply_to, &forward_user,
                                              forward, now, &forward->server)) {
        if (forward)
            forward_free(forward);
        proxy_refuse(proxy, request, reply_to, REFUSE_NO_ROOM, STR(""));
        return;
    }
    if (request->method == SIP_REGISTER && reply_to->flow && target.hop.core.kind == CORE_EMBEDDED)
        reply_to->flow->registered = true;
    if (request->method == SIP_REGISTER && reply_to->flow)
        register_note(forward, request, reply_to->flow);
    if (request->method == SIP_INVITE)
        server_transaction_reply(forward->server, 100, NULL, STR(""), now); /* T2 */
    dialog_asked(forward, request);
    tries_begin(forward, &target, now);
    refusal = forward_send(forward, request, &target, now); /* 16.6 */
    if (refusal)
        forward_answer(forward, refusal, now);
}

int request_receive(struct proxy *proxy, struct sip_msg *request, const struct hop *from,
                    uint64_t now)
{
    struct hop reply_to;
    int err = via_received(proxy, request, from, &reply_to);

    if (err) {
        proxy->counters.dropped_broken++;
        log_event(LOG_INFO, "message dropped",
                  LOG_TEXT("flow", str_of(from->flow ? from->flow->name : "core")),
                  LOG_TEXT("call-id", request->call_id),
                  LOG_TEXT("reason", str_of(err == -ENOMEM ? "no memory" : "Bad Via")));
        if (err == -EINVAL)
            return -EPROTO;
        if (from->flow && request->method != SIP_ACK) /* nobody sends it again */
            proxy_refuse(proxy, request, from, REFUSE_NO_ROOM, STR(""));
        return 0;
    }
    if (transactions_absorb(proxy->transactions, request, &reply_to, now))
        return 0;
    switch (request->method) {
    case SIP_ACK: ack_forward(proxy, request, &reply_to, now); break;
    case SIP_CANCEL: cancel_receive(proxy, request, &reply_to, now); break;
    default: request_forward(proxy, request, &reply_to, now);
    }
    return 0;
}

/* ---- responses ---- */

void response_receive(struct proxy *proxy, struct sip_msg *response, const struct hop *from,
                      uint64_t now)
{
    const struct endpoint *late;

    if (!transactions_response(proxy->transactions, response, from, now))
        return;
    proxy->counters.dropped_stray++;
    late = from->flow ? NULL : endpoint_at(proxy->core, &from->core);
    if (late) /* slow, but not silent */
        backend_answered(proxy, late->slot);
}

static void log_final(const struct forward *forward, const struct sip_msg *response)
{
    const struct flow *flow = forward->from.flow ? forward->from.flow : forward->to.flow;
    bool worth = response->method == SIP_INVITE ||
                 (response->status >= 400 && response->status != 401 && response->status != 407);

    log_event(worth ? LOG_INFO : LOG_DEBUG, "request forwarded",
              LOG_TEXT("flow", str_of(flow ? flow->name : "core")),
              LOG_TEXT("method", response->method_name), LOG_NUMBER("status", response->status),
              LOG_TEXT("call-id", response->call_id), LOG_TEXT("reason", response->reason));
}

/* As the sender of the request gets it: our Via off, then rewritten. false: it can't be. */
static bool response_print(struct forward *forward, struct sip_msg *response)
{
    struct proxy *proxy = forward->proxy;

    sip_drop(response, (unsigned)sip_find(response, HEADER_VIA, 0));
    if (sip_find(response, HEADER_VIA, 0) < 0 ||
        !server_transaction_answered_by(forward->server, response) ||
        !record_routes_kept(forward, response) ||
        response_rewrite(proxy, response, &forward->to, &forward->from, forward->outbound))
        return false;
    buf_reset(&proxy->out);
    sip_print(response, &proxy->out);
    return !proxy->out.overflow && !proxy->arena.no_memory;
}

/* Nobody is there to get this (T6). What would be a call is ended; a re-INVITE is left alone, since
 * the client may come back for its dialog. */
static void response_drop(struct forward *forward, struct sip_msg *response, uint64_t now)
{
    struct str tag = response->to_tag;
    uint64_t dialog = XXH3_64bits(tag.p ? tag.p : "", tag.len);
    bool bye;

    forward->proxy->counters.dropped_stray++;
    bye = dialog != forward->ended;
    if (forward->method != SIP_INVITE || !forward->opens || response->status / 100 != 2)
        return;
    forward->ended = dialog; /* `forward` may be given up for the BYE's transaction */
    call_hang_up(forward->proxy, response, bye,
                 forward->left ? "another backend was asked" : "its caller is gone", now);
}

/* What the registrar requires of the client it will do: send keepalives as often as Flow-Timer says
 * (R10, RFC 5626 4.4). */
static void keepalives_note(const struct forward *forward, const struct sip_msg *response,
                            uint64_t now)
{
    enum { DAY_S = 86400 };
    int index = sip_find(response, HEADER_FLOW_TIMER, 0);
    unsigned seconds = 0;

    if (!forward->outbound || !forward->from.flow || response->status / 100 != 2 || index < 0 ||
        !sip_has_token(response, HEADER_REQUIRE, STR("outbound")))
        return;
    for (size_t i = 0; i < response->headers[index].value.len && seconds < DAY_S; i++) {
        char c = response->headers[index].value.p[i];
        if (c < '0' || c > '9')
            break;
        seconds = seconds * 10 + (unsigned)(c - '0');
    }
    if (seconds)
        flow_keepalives_agreed(forward->from.flow, seconds, now);
}

/* What is remembered of a response that passes, once it is sent: nothing of this may delay it. */
static void response_note(struct forward *forward, const struct sip_msg *response, uint64_t now)
{
    struct flow *flow = forward->from.flow;

    if (response->status >= 200)
        log_final(forward, response);
    keepalives_note(forward, response, now);
    flow_answered(flow, forward->method, response->status, now);
    if (forward->registering_key && flow && response->status / 100 == 2)
        registering_done(forward->registering, forward->registering_key, &flow->registered_aors,
                         response, now);
    dialog_answered(forward, response);
}

static void on_response(void *owner, struct client_transaction *client, struct sip_msg *response,
                        uint64_t now)
{
    struct forward *forward = owner;
    struct proxy *proxy = forward->proxy;
    int status = response->status;

    (void)client;
    backend_heard(forward, now);
    if (status == 100)
        return; /* T2 */
    if (status < 200 && !forward->expired)
        timer_c_start(forward, now);
    if (status >= 200) {
        timer_stop(proxy->options.timers, &forward->timer_c);
        dialog_bye_answered(forward, status);
    }
    if (!forward->server) {
        response_drop(forward, response, now);
        return;
    }
    if (status == 503 && overload_answer(forward, response, now))
        return;
    if (status >= 200)
        tries_end(forward);
    if (status == 408 && forward->method != SIP_INVITE) { /* T5, RFC 4320 4.2 */
        drop_server(forward);
        origin_settle(forward);
        return;
    }
    if (status == 487 && forward->expired) {
        forward_answer(forward, REFUSE_TIMEOUT, now);
        return;
    }
    if (!response_print(forward, response)) {
        proxy->counters.dropped_broken++;
        if (proxy->arena.no_memory && forward->method == SIP_INVITE && status / 100 == 2)
            return; /* it comes again, until there is an ACK */
        if (status >= 200 && proxy->arena.no_memory)
            forward_answer(forward, REFUSE_RESPONSE_NO_ROOM, now);
        else if (status >= 200)
            forward_answer(forward, REFUSE_RESPONSE, now);
        return;
    }
    server_transaction_send(forward->server, status, buf_str(&proxy->out), now);
    origin_settle(forward);
    response_note(forward, response, now);
}

/* What a request gets whose client is gone: one that its sender has cancelled is no failure. */
static void flow_gone_answer(struct forward *forward, uint64_t now)
{
    forward_answer(forward, forward->cancelled ? REFUSE_CANCELLED : REFUSE_FLOW_GONE, now);
}

static void on_client_failed(void *owner, struct client_transaction *client, int err, uint64_t now)
{
    struct forward *forward = owner;

    if (err == -ETIMEDOUT && forward->slot != NO_BACKEND &&
        client_transaction_state(client) == CLIENT_CALLING)
        backend_silent(forward->proxy, (unsigned)forward->slot, now);
    if (err != -ENOMEM && forward_move(forward, strerror(-err), now))
        return;
    tries_end(forward);
    dialog_bye_answered(forward, 408);
    if (err == -ETIMEDOUT && forward->method != SIP_INVITE) {
        drop_server(forward); /* T5: the client's own timer F is over too */
        return;
    }
    if (forward->cancelled || err == -ETIMEDOUT)
        forward_answer(forward, forward->cancelled ? REFUSE_CANCELLED : REFUSE_TIMEOUT, now);
    else if (forward->to.flow)
        flow_gone_answer(forward, now);
    else
        forward_answer(forward, REFUSE_BACKENDS_FAILED, now);
}

static void on_client_ended(void *owner, struct client_transaction *client, uint64_t now)
{
    struct forward *forward = owner;

    (void)client;
    (void)now;
    forward->client = NULL;
    timer_stop(forward->proxy->options.timers, &forward->timer_c);
    if (forward_unanswered(forward))
        drop_server(forward); /* nothing will answer it any more */
    target_leave(forward);
    forward_settle(forward);
}

static void on_server_ended(void *owner, struct server_transaction *server, uint64_t now)
{
    struct forward *forward = owner;

    (void)now;
    forward->server = NULL;
    /* The way of a 2xx is no longer than that of its first one, else a call would be hung up. */
    if (forward->method == SIP_INVITE && server_transaction_status(server) / 100 == 2)
        drop_client(forward);
    forward_settle(forward);
}

static const struct transaction_user forward_user = {
    .response = on_response,
    .client_failed = on_client_failed,
    .client_ended = on_client_ended,
    .server_ended = on_server_ended,
};

/* ---- a flow that is gone (T6, R7) ---- */

/* It can't be answered any more. Its INVITEs are cancelled, which ends them. What else it sent
 * still goes where it should: the client was done with it when its connection took it, as with the
 * BYE of a page that is closed (T1). */
static void origin_gone(struct forward *forward, uint64_t now)
{
    bool pending = forward->client && forward->method == SIP_INVITE &&
                   client_transaction_state(forward->client) < CLIENT_COMPLETED;

    drop_server(forward);
    origin_leave(forward);
    tries_end(forward); /* what it was is known by its client alone */
    if (pending) {
        forward->cancelled = true;
        client_transaction_cancel(forward->client, now);
    }
    forward_settle(forward);
}

/* What waits for its answer will not get one. */
static void target_gone(struct forward *forward, uint64_t now)
{
    bool pending = forward_unanswered(forward);

    drop_client(forward);
    if (pending)
        flow_gone_answer(forward, now);
    target_leave(forward);
    timer_stop(forward->proxy->options.timers, &forward->timer_c);
    forward_settle(forward);
}

void forwards_flow_closed(struct proxy *proxy, struct flow *flow, uint64_t now)
{
    struct forward *forward, *next;

    (void)proxy;
    DL_FOREACH_SAFE2(flow->origins, forward, next, origin_next)
    origin_gone(forward, now);
    for (unsigned i = 0; i < ARRAY_LEN(flow->kept); i++) {
        DL_FOREACH_SAFE2(flow->kept[i], forward, next, origin_next)
        origin_gone(forward, now);
    }
    client_group_forget(&flow->absorbing);
    DL_FOREACH_SAFE2(flow->targets, forward, next, target_next)
    target_gone(forward, now);
}

#include "proxy/proxy.h"

#include <errno.h>
#include <stdlib.h>

#include <xxhash.h>

#include "proxy/internal.h"

enum { ARENA_SIZE = 256 * 1024, OUT_SLACK = 32 * 1024 };

static int transaction_send(void *context, const struct hop *to, struct str bytes)
{
    return proxy_send(context, to, bytes);
}

/* The file's keys, and that of this run: tokens that it signed before the file had any are good. */
static int tokens_make(const struct proxy *proxy, const struct conf *conf, struct token_keys **out)
{
    uint8_t keys[CONF_TOKEN_KEYS_MAX + 1][32];
    unsigned count = conf->flow_token_key_count;
    int err;

    memcpy(keys, conf->flow_token_keys, count * sizeof(keys[0]));
    memcpy(keys[count], proxy->run_key, sizeof(keys[0]));
    err = token_keys_create(keys, count + 1, out);
    explicit_bzero(keys, sizeof(keys));
    return err;
}

int proxy_create(const struct proxy_options *options, struct proxy **out)
{
    struct proxy *proxy = calloc(1, sizeof(*proxy));
    int err;

    if (!proxy)
        return -ENOMEM;
    proxy->options = *options;
    proxy->options.run_key = NULL;
    memcpy(proxy->run_key, options->run_key, sizeof(proxy->run_key));
    proxy->free_slot = SLOT_NONE;
    proxy_view_set(proxy, options->core);

    err = arena_create(&proxy->arena, ARENA_SIZE);
    if (!err)
        err = buf_create(&proxy->out, proxy->conf->limits.message_size + OUT_SLACK);
    if (!err)
        err = tokens_make(proxy, proxy->conf, &proxy->tokens);
    if (!err)
        err = transactions_create(
            &(struct transactions_options){
                .worker = options->worker,
                .timers = options->timers,
                .max = proxy->conf->limits.transactions,
                .send = transaction_send,
                .context = proxy,
            },
            &proxy->transactions);
    if (!err && options->probes)
        err = probes_create(proxy, options->now);
    if (err) {
        proxy_destroy(&proxy);
        return err;
    }
    *out = proxy;
    return 0;
}

void proxy_destroy(struct proxy **proxy)
{
    struct proxy *p = *proxy;

    if (!p)
        return;
    probes_destroy(p);
    flows_destroy(p);
    forwards_destroy(p);
    transactions_destroy(&p->transactions);
    token_keys_destroy(&p->tokens);
    token_keys_destroy(&p->next_tokens);
    explicit_bzero(p->run_key, sizeof(p->run_key));
    buf_destroy(&p->out);
    arena_destroy(&p->arena);
    core_view_unref(&p->core);
    free(p);
    *proxy = NULL;
}

int proxy_conf_prepare(struct proxy *proxy, const struct conf *conf)
{
    struct buf larger;

    token_keys_destroy(&proxy->next_tokens);
    if (conf->limits.message_size + OUT_SLACK > proxy->out.size) {
        if (buf_create(&larger, conf->limits.message_size + OUT_SLACK))
            return -ENOMEM;
        buf_destroy(&proxy->out); /* between two messages: nothing is in it */
        proxy->out = larger;
    }
    return tokens_make(proxy, conf, &proxy->next_tokens);
}

static void conf_changed(struct proxy *proxy, const struct conf *before)
{
    const struct conf *conf = proxy->conf;
    bool keys = before->flow_token_key_count != conf->flow_token_key_count ||
                memcmp(before->flow_token_keys, conf->flow_token_keys,
                       conf->flow_token_key_count * sizeof(conf->flow_token_keys[0])) != 0;

    flows_conf_changed(proxy, before);
    if (proxy->next_tokens && keys) {
        token_keys_destroy(&proxy->tokens);
        proxy->tokens = proxy->next_tokens;
        proxy->next_tokens = NULL;
        flows_sign(proxy);
    }
    token_keys_destroy(&proxy->next_tokens);
    transactions_max_set(proxy->transactions, conf->limits.transactions);
    probes_conf_changed(proxy);
}

void proxy_view_set(struct proxy *proxy, const struct core_view *view)
{
    const struct core_view *before = proxy->core;

    proxy->core = core_view_ref(view);
    proxy->conf = view->conf;
    if (!before || before->conf != view->conf)
        crossings_set(proxy);
    if (before && before->conf != view->conf)
        conf_changed(proxy, before->conf);
    core_view_unref(&before);
    if (view->local4.in.sin_port)
        core_addr_text(&view->local4, proxy->core_host4);
    if (view->local6.in6.sin6_port)
        core_addr_text(&view->local6, proxy->core_host6);
}

static struct str hop_text(const struct hop *hop, char text[CORE_ADDR_TEXT])
{
    if (hop->flow)
        return str_of(hop->flow->name);
    core_addr_text(&hop->core, text);
    return str_of(text);
}

int proxy_send(struct proxy *proxy, const struct hop *to, struct str bytes)
{
    char text[CORE_ADDR_TEXT];

    if (log_enabled(LOG_DEBUG))
        log_message("sent", hop_text(to, text), bytes);
    if (to->flow) {
        to->flow->messages_out++;
        return to->flow->transport->send(to->flow->conn, bytes);
    }
    return proxy->options.core_send(proxy->options.context, &to->core, bytes);
}

enum { REPLY_TAG_SIZE = 17 };

/* The To tag of an answer for which nothing is kept: the same for a retransmission, and known again
 * in the ACK (RFC 3261 8.2.7). */
static void reply_tag(const struct proxy *proxy, const struct sip_msg *request,
                      char tag[REPLY_TAG_SIZE])
{
    uint64_t hash = XXH3_64bits_withSeed(request->call_id.p, request->call_id.len,
                                         proxy->options.instance + request->cseq);

    number_hex(tag, REPLY_TAG_SIZE - 1, hash);
    tag[REPLY_TAG_SIZE - 1] = '\0';
}

bool proxy_replied(const struct proxy *proxy, const struct sip_msg *ack)
{
    char tag[REPLY_TAG_SIZE];

    reply_tag(proxy, ack, tag);
    return str_eq(ack->to_tag, str_of(tag));
}

void proxy_reply(struct proxy *proxy, const struct sip_msg *request, const struct hop *to,
                 int status, const char *reason, struct str extra)
{
    char tag[REPLY_TAG_SIZE];

    reply_tag(proxy, request, tag);
    buf_reset(&proxy->out);
    sip_response(request, status, reason, str_of(tag), extra, &proxy->out);
    if (proxy->out.overflow) {
        proxy->counters.dropped_broken++;
        return;
    }
    flow_answered(to->flow, request->method, status, proxy->received_at);
    (void)proxy_send(proxy, to, buf_str(&proxy->out)); /* a reply that can't be sent is lost */
}

int refusal_status(const struct proxy *proxy, enum refusal refusal)
{
    return refusal == REFUSE_FLOW_GONE ? proxy->conf->flow_gone_status : refusals[refusal].status;
}

int refusal_count(struct proxy *proxy, enum refusal refusal)
{
    proxy->counters.refused[refusal]++;
    return refusal_status(proxy, refusal);
}

struct str refusal_headers(int status, struct str extra)
{
    return status == 503 && !extra.len ? STR("Retry-After: 5\r\n") : extra;
}

void proxy_refuse(struct proxy *proxy, const struct sip_msg *request, const struct hop *to,
                  enum refusal refusal, struct str extra)
{
    int status = refusal_count(proxy, refusal);

    proxy_reply(proxy, request, to, status, refusals[refusal].reason,
                refusal_headers(status, extra));
}

/* Answer what the scan refused, if it can be answered (V1 to V5). */
static void refuse_scanned(struct proxy *proxy, const struct hop *from, enum refusal refusal)
{
    const struct refusal_row *row = &refusals[refusal];
    struct sip_msg *msg = &proxy->msg;
    char text[CORE_ADDR_TEXT];
    struct hop reply_to;

    log_event(LOG_INFO, "request refused", LOG_TEXT("flow", hop_text(from, text)),
              LOG_TEXT("method", msg->method_name), LOG_NUMBER("status", row->status),
              LOG_TEXT("call-id", msg->call_id), LOG_TEXT("reason", str_of(row->reason)),
              LOG_TEXT("rule", str_of(row->rule)));
    if (!sip_answerable(msg) || via_received(proxy, msg, from, &reply_to))
        proxy->counters.dropped_broken++;
    else
        proxy_refuse(proxy, msg, &reply_to, refusal, STR(""));
}

/* One message, whole. -EPROTO: too broken to answer. */
static int receive(struct proxy *proxy, const struct hop *from, char *bytes, size_t len,
                   enum sip_framing framing, uint64_t now)
{
    struct sip_msg *msg = &proxy->msg;
    char text[CORE_ADDR_TEXT];
    int status;

    arena_reset(&proxy->arena);
    proxy->received = (struct str){bytes, len};
    proxy->received_at = now;
    proxy->framing = framing;
    if (log_enabled(LOG_DEBUG))
        log_message("received", hop_text(from, text), (struct str){bytes, len});
    if (from->flow)
        from->flow->messages_in++;
    status = sip_scan(bytes, len, framing, !from->flow, msg);
    if (status < 0) {
        proxy->counters.dropped_broken++;
        log_event(
            LOG_INFO, "message dropped", LOG_TEXT("flow", hop_text(from, text)),
            LOG_TEXT("reason", str_of(msg->refusal ? refusals[msg->refusal].reason : "not SIP")));
        return msg->status ? 0 : -EPROTO; /* a broken response costs nobody the connection (V5) */
    }
    if (status > 0) {
        bool answerable = sip_answerable(msg);
        refuse_scanned(proxy, from, msg->refusal);
        return answerable ? 0 : -EPROTO;
    }
    if (msg->is_request) {
        proxy->counters.requests[hop_side(from)][msg->method]++;
        return request_receive(proxy, msg, from, now);
    }
    proxy->counters.responses[hop_side(from)][msg->method][msg->status / 100 - 1]++;
    response_receive(proxy, msg, from, now);
    return 0;
}

/* Framing is lost: say why to whoever sent this head, if it can be read at all (F3, F6). */
static void refuse_frame(struct flow *flow, char *head, const struct sip_frame *frame)
{
    struct proxy *proxy = flow->proxy;
    struct hop from = {.flow = flow};

    proxy->counters.oversize += frame->refusal == REFUSE_TOO_LARGE;
    proxy->received_at = flow->heard;
    arena_reset(&proxy->arena);
    if (sip_scan(head, frame->len, SIP_DATAGRAM, false, &proxy->msg) < 0) {
        proxy->counters.dropped_broken++;
        return;
    }
    refuse_scanned(proxy, &from, frame->refusal);
}

ssize_t proxy_receive_stream(struct flow *flow, char *bytes, size_t len, size_t *scanned,
                             uint64_t now)
{
    struct proxy *proxy = flow->proxy;
    struct hop from = {.flow = flow};
    struct sip_frame frame;
    size_t done = 0;

    flow->heard = now;
    while (done < len) {
        sip_frame((struct str){bytes + done, len - done}, proxy->conf->limits.message_size, scanned,
                  &frame);
        switch (frame.kind) {
        case FRAME_MORE: return (ssize_t)(done + frame.taken);
        case FRAME_IGNORE: break;
        case FRAME_PING: (void)flow->transport->send(flow->conn, STR("\r\n")); break;
        case FRAME_BROKEN:
            refuse_frame(flow, bytes + done + frame.start, &frame);
            return frame.refusal == REFUSE_TOO_LARGE ? -EMSGSIZE : -EPROTO;
        case FRAME_MESSAGE:
            if (receive(proxy, &from, bytes + done + frame.start, frame.len, SIP_STREAM, now))
                return -EPROTO;
            break;
        }
        done += frame.taken;
    }
    return (ssize_t)done;
}

void proxy_oversize(struct flow *flow)
{
    flow->proxy->counters.oversize++;
}

int proxy_receive_message(struct flow *flow, char *bytes, size_t len, uint64_t now)
{
    struct proxy *proxy = flow->proxy;
    struct hop from = {.flow = flow};

    if (len > proxy->conf->limits.message_size) {
        proxy_oversize(flow);
        return -EMSGSIZE;
    }
    if (str_eq((struct str){bytes, len}, STR("\r\n\r\n"))) { /* F2 */
        (void)flow->transport->send(flow->conn, STR("\r\n"));
        return 0;
    }
    for (; len && (*bytes == '\r' || *bytes == '\n'); bytes++)
        len--;
    if (len)
        (void)receive(proxy, &from, bytes, len, SIP_DATAGRAM, now); /* framing is the WebSocket's */
    return 0;
}

bool proxy_core_known(const struct proxy *proxy, const struct core_addr *from)
{
    if (!core_addr_is_ip(from))
        return true;
    return endpoint_host_known(proxy->core, from);
}

void proxy_receive_core(struct proxy *proxy, const struct core_addr *from, char *bytes, size_t len,
                        uint64_t now)
{
    enum { KEEPALIVE_MAX = 8 }; /* CRLF, CRLFCRLF, or some zero bytes, as PBXs send them */
    struct hop hop = {.core = *from};
    char text[CORE_ADDR_TEXT];

    if (!proxy_core_known(proxy, from)) {
        uint64_t n = ++proxy->counters.dropped_foreign;
        core_addr_text(from, text);
        if ((n & (n - 1)) == 0) /* 1, 2, 4, 8, ...: a flood must not fill the log */
            log_event(LOG_WARNING, "core message dropped", LOG_TEXT("from", str_of(text)),
                      LOG_TEXT("reason", STR("its address is no backend")),
                      LOG_NUMBER("dropped", (int64_t)n));
        return;
    }
    if (len > KEEPALIVE_MAX)
        (void)receive(proxy, &hop, bytes, len, from->kind == CORE_TCP ? SIP_STREAM : SIP_DATAGRAM,
                      now);
}

/* ---- large requests by TCP (T7) ---- */

bool core_transport_choose(struct proxy *proxy, struct hop *to, size_t len, uint64_t now)
{
    const struct endpoint *endpoint = to->flow ? NULL : endpoint_at(proxy->core, &to->core);
    bool by_tcp = to->core.kind == CORE_TCP, large = len > proxy->conf->limits.udp_size;
    bool tcp = by_tcp || large;

    if (!endpoint || !endpoint->tcp_too || !tcp)
        return false;
    if (now < proxy->no_tcp_until[endpoint->slot]) {
        proxy->counters.tcp_by_udp++;
        tcp = false;
    }
    proxy->tcp_size = len;
    to->core.kind = tcp ? CORE_TCP : CORE_UDP;
    to->core.or_udp = tcp;
    return tcp != by_tcp;
}

void proxy_core_lost(struct proxy *proxy, const struct core_addr *to, bool connected, int err,
                     uint64_t now)
{
    enum { NO_TCP_MS = 300000 }; /* until it is asked again whether it has TCP */
    const struct endpoint *endpoint = endpoint_at(proxy->core, to);
    char text[CORE_ADDR_TEXT];

    if (!connected && to->kind == CORE_TCP && endpoint && endpoint->tcp_too) {
        proxy->no_tcp_until[endpoint->slot] = now + NO_TCP_MS;
        core_addr_text(to, text);
        log_event(LOG_WARNING, "no TCP: large requests go by UDP",
                  LOG_TEXT("backend", str_of(text)), LOG_NUMBER("bytes", (int64_t)proxy->tcp_size),
                  LOG_TEXT("reason", str_of(strerror(-err))));
    }
    if (!connected)
        backend_refused(proxy, to, err, now);
    proxy->counters.tcp_by_udp += transactions_core_lost(proxy->transactions, to, now);
}

bool proxy_core_waits(const struct proxy *proxy, const struct core_addr *to, struct str quoted)
{
    static const struct str mark = {"branch=z9hG4bK", 14}; /* as sip_print() has it in our Via */
    const char *at = memmem(quoted.p, quoted.len, mark.p, mark.len);
    struct str branch = {NULL, 0};

    if (!at)
        return false;
    branch.p = at + strlen("branch=");
    while (branch.p + branch.len < quoted.p + quoted.len && branch.p[branch.len] > ' ' &&
           branch.p[branch.len] != ';')
        branch.len++;
    return transactions_wait(proxy->transactions, branch, to);
}

struct proxy_sizes proxy_sizes(const struct proxy *proxy)
{
    return (struct proxy_sizes){
        .flows = proxy->flow_count,
        .requests = proxy->forward_count + transactions_left(proxy->transactions),
        .transactions = transactions_count(proxy->transactions),
        .dialogs = proxy->dialog_count,
    };
}

size_t proxy_unanswered(const struct proxy *proxy)
{
    return forwards_unanswered(proxy);
}

const struct proxy_counters *proxy_counters(const struct proxy *proxy)
{
    return &proxy->counters;
}

uint64_t proxy_given_up(const struct proxy *proxy)
{
    return proxy->counters.given_up + transactions_given_up(proxy->transactions);
}

const struct retransmissions *proxy_retransmissions(const struct proxy *proxy)
{
    return transactions_repeated(proxy->transactions);
}

#include "proxy/flow.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "proxy/internal.h"

enum {
    SLOTS_MAX = 1 << 24,
    SILENCE_GRACE_MS = 30000, /* for what delays a keepalive on its way (RFC 5626 4.4.1) */
};

/* A free slot, from the list or by growing the table; SLOT_NONE: out of memory. */
static uint32_t slot_take(struct proxy *proxy)
{
    uint32_t slot = proxy->free_slot;

    if (slot != SLOT_NONE) {
        proxy->free_slot = proxy->slots[slot].next_free;
        return slot;
    }
    if (proxy->slot_count == proxy->slot_size) {
        uint32_t size = proxy->slot_size ? proxy->slot_size * 2 : 64;
        struct flow_slot *slots = realloc(proxy->slots, size * sizeof(*slots));
        if (!slots || size > SLOTS_MAX) {
            proxy->slots = slots ? slots : proxy->slots;
            return SLOT_NONE;
        }
        proxy->slots = slots;
        proxy->slot_size = size;
    }
    slot = proxy->slot_count++;
    proxy->slots[slot] = (struct flow_slot){.generation = 0, .next_free = SLOT_NONE};
    return slot;
}

static void slot_give(struct proxy *proxy, uint32_t slot)
{
    proxy->slots[slot].flow = NULL;
    proxy->slots[slot].generation++; /* a token of the old flow names nobody */
    proxy->slots[slot].next_free = proxy->free_slot;
    proxy->free_slot = slot;
}

static uint16_t address_print(const struct sockaddr *sa, char *text, size_t size)
{
    const struct sockaddr_in *in = (const void *)sa;
    const struct sockaddr_in6 *in6 = (const void *)sa;

    if (sa->sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &in6->sin6_addr, text, (socklen_t)size);
        return ntohs(in6->sin6_port);
    }
    inet_ntop(AF_INET, &in->sin_addr, text, (socklen_t)size);
    return ntohs(in->sin_port);
}

struct token flow_token(const struct flow *flow, enum token_kind kind, struct str uri)
{
    return (struct token){
        .kind = kind,
        .worker = flow->proxy->options.worker,
        .slot = flow->slot,
        .instance = flow->proxy->options.instance,
        .generation = flow->generation,
        .uri = uri,
    };
}

static int flow_sign(struct flow *flow)
{
    struct proxy *proxy = flow->proxy;
    struct token token = flow_token(flow, TOKEN_FLOW, STR(""));
    struct str text;

    arena_reset(&proxy->arena);
    text = token_print(proxy->tokens, &proxy->arena, &token);
    if (!text.p)
        return -ENOMEM;
    memcpy(flow->token, text.p, TOKEN_FLOW_LEN);
    return 0;
}

void flow_name_print(const struct proxy *proxy, uint64_t number, char name[FLOW_NAME_SIZE])
{
    snprintf(name, FLOW_NAME_SIZE, "%u.%" PRIu64, proxy->options.worker, number);
}

static int flow_name_it(struct flow *flow, const struct flow_options *options)
{
    struct proxy *proxy = flow->proxy;
    bool six = options->peer->sa_family == AF_INET6;
    char peer[INET6_ADDRSTRLEN];

    if (flow_sign(flow))
        return -ENOMEM;
    flow_name_print(proxy, options->number, flow->name);
    flow->peer_port = address_print(options->peer, peer, sizeof(peer));
    snprintf(flow->peer, sizeof(flow->peer), six ? "[%s]:%u" : "%s:%u", peer, flow->peer_port);
    flow->peer_address = (struct str){flow->peer + six, strlen(peer)};
    flow->port = address_print(options->local, flow->local, sizeof(flow->local));
    if (options->host) {
        flow->host = strdup(options->host);
        if (!flow->host)
            return -ENOMEM;
    }
    return 0;
}

int flow_open(struct proxy *proxy, const struct flow_options *options, uint64_t now,
              struct flow **out)
{
    struct flow *flow;
    uint32_t slot;
    int err;

    (void)now;
    if (proxy->conf->connections_max && proxy->flow_count >= proxy->conf->connections_max)
        return -EMFILE;
    flow = calloc(1, sizeof(*flow));
    if (!flow)
        return -ENOMEM;
    slot = slot_take(proxy);
    if (slot == SLOT_NONE) {
        free(flow);
        return -ENOMEM;
    }
    flow->proxy = proxy;
    flow->transport = options->transport;
    flow->conn = options->conn;
    flow->slot = slot;
    flow->generation = proxy->slots[slot].generation;
    err = flow_name_it(flow, options);
    if (err) {
        slot_give(proxy, slot);
        free(flow->host);
        free(flow);
        return err;
    }
    proxy->slots[slot].flow = flow;
    proxy->flow_count++;
    proxy->counters.flows_opened++;
    log_event(LOG_INFO, "flow opened", LOG_TEXT("flow", str_of(flow->name)),
              LOG_TEXT("peer", str_of(flow->peer)),
              LOG_TEXT("transport", str_of(flow->transport->name)),
              LOG_TEXT("host", str_of(flow->host ? flow->host : proxy->conf->domain)),
              options->client ? LOG_TEXT("client", str_of(options->client))
                              : (struct log_field){.kind = LOG_FIELD_END});
    *out = flow;
    return 0;
}

static void silence_fire(struct timer *timer, uint64_t now)
{
    struct flow *flow = (struct flow *)(void *)((char *)timer - offsetof(struct flow, silence));
    uint64_t due = flow->heard + flow->silence_max_ms;

    if (now < due)
        timer_start(flow->proxy->options.timers, timer, due, silence_fire);
    else
        flow->transport->close(flow->conn, CAUSE_FLOW_TIMER);
}

void flow_keepalives_agreed(struct flow *flow, unsigned seconds, uint64_t now)
{
    if (!flow->heard)
        return;
    flow->silence_max_ms = (uint64_t)seconds * 1000 + SILENCE_GRACE_MS;
    timer_start(flow->proxy->options.timers, &flow->silence, now + flow->silence_max_ms,
                silence_fire);
}

void flow_close(struct flow *flow, const char *reason, uint64_t now)
{
    const struct registered *last = registered_next(flow->registered_aors, now);
    struct proxy *proxy = flow->proxy;

    timer_stop(proxy->options.timers, &flow->silence);
    forwards_flow_closed(proxy, flow, now);
    dialogs_flow_closed(flow);
    log_event(LOG_INFO, "flow closed", LOG_TEXT("flow", str_of(flow->name)),
              LOG_TEXT("peer", str_of(flow->peer)), LOG_TEXT("reason", str_of(reason)),
              last ? LOG_TEXT("aor", str_of(last->aor))
                   : (struct log_field){.kind = LOG_FIELD_END});
    registered_clear(&flow->registered_aors);
    if (flow->registered && proxy->options.flow_gone)
        proxy->options.flow_gone(proxy->options.context, str_of(flow->token));
    slot_give(proxy, flow->slot);
    proxy->flow_count--;
    proxy->counters.flows_closed++;
    free(flow->contact);
    free(flow->host);
    free(flow);
}

void flows_destroy(struct proxy *proxy)
{
    for (uint32_t i = 0; i < proxy->slot_count; i++)
        if (proxy->slots[i].flow)
            flow_close(proxy->slots[i].flow, "stopped", 0);
    free(proxy->slots);
    proxy->slots = NULL;
}

void flows_sign(struct proxy *proxy)
{
    for (uint32_t i = 0; i < proxy->slot_count; i++) {
        struct flow *flow = proxy->slots[i].flow;

        if (!flow)
            continue;
        (void)flow_sign(flow); /* else its old one is as good as its key */
        free(flow->contact);
        flow->contact = NULL;
    }
}

/* A client has the name in its dialogs, and may take another one for another server. */
void flows_conf_changed(struct proxy *proxy, const struct conf *before)
{
    if (strcmp(before->domain, proxy->conf->domain) == 0)
        return;
    for (uint32_t i = 0; i < proxy->slot_count; i++) {
        struct flow *flow = proxy->slots[i].flow;

        if (!flow || flow->host)
            continue;
        flow->host = strdup(before->domain);
        if (!flow->host)
            flow->transport->close(flow->conn, CAUSE_NO_MEMORY);
    }
}

void flow_answered(struct flow *flow, enum sip_method method, int status, uint64_t now)
{
    if (!flow || status < 200)
        return;
    flow->answer.at = now;
    flow->answer.status = (uint16_t)status;
    flow->answer.method = (uint8_t)method;
}

void flow_facts(const struct flow *flow, struct flow_facts *out)
{
    uint64_t silence_ms = flow->silence_max_ms;

    *out = (struct flow_facts){
        .transport = flow->transport->name,
        .host = flow->host,
        .messages_in = flow->messages_in,
        .messages_out = flow->messages_out,
        .answered_at = flow->answer.at,
        .status = flow->answer.status,
        .method = flow->answer.at ? sip_method_name(flow->answer.method) : NULL,
        .flow_timer_s = silence_ms ? (unsigned)((silence_ms - SILENCE_GRACE_MS) / 1000) : 0,
        .requests = flow->open_count,
        .dialogs = flow->dialogs.count,
        .registered = flow->registered_aors,
    };
}

int flow_find(struct proxy *proxy, const struct token *token, struct flow **out)
{
    const struct flow_slot *slot;

    if (token->worker != proxy->options.worker || token->instance != proxy->options.instance ||
        token->slot >= proxy->slot_count)
        return -ENOENT;
    slot = &proxy->slots[token->slot];
    if (!slot->flow || slot->generation != token->generation)
        return -ENOENT;
    *out = slot->flow;
    return 0;
}

int flow_token_read(struct proxy *proxy, struct str text, struct token *out)
{
    struct str uri = {NULL, 0};
    struct flow *flow = NULL;
    bool contact = false;
    uint32_t slot;

    if (!token_slot(text, &slot) && slot < proxy->slot_count)
        flow = proxy->slots[slot].flow;
    if (flow && token_equals(text, (struct str){flow->token, TOKEN_FLOW_LEN})) {
        uri = STR("");
    } else if (flow && flow->contact && token_equals(text, flow->contact->token)) {
        contact = true;
        uri = arena_dup(&proxy->arena, flow->contact->uri);
    }
    if (!uri.p)
        return token_parse(proxy->tokens, &proxy->arena, text, out);
    *out = flow_token(flow, contact ? TOKEN_CONTACT : TOKEN_FLOW, uri);
    return 0;
}

bool flow_is_full(const struct flow *flow, const struct sip_msg *request)
{
    unsigned max = flow->proxy->conf->limits.transactions_per_connection;

    return flow->open_count >= (request->to_tag.p ? 2 * max : max);
}

bool flow_keeps_enough(const struct flow *flow)
{
    return flow->open_count + flow->kept_count + flow->absorbing.count >=
           flow->proxy->conf->limits.transactions_per_connection;
}

/* A request that goes on to another backend where one fails (B3, RFC 3261 16.7, RFC 3263 4.3). */
#include <stddef.h>
#include <stdlib.h>

#include <utlist.h>

#include "proxy/forward_internal.h"

/* The request as it came, while another backend may be asked. */
struct tries {
    struct forward *forward;
    struct timer timer; /* of the backend at hand, for any answer */
    struct slot_set tried;
    enum sip_framing framing;
    size_t len;
    char bytes[];
};

void tries_end(struct forward *forward)
{
    if (forward->tries)
        timer_stop(forward->proxy->options.timers, &forward->tries->timer);
    free(forward->tries);
    forward->tries = NULL;
}

/* Is there one that was not tried? Which one it is for a user is no matter here. */
static bool backend_left(const struct proxy *proxy, const struct slot_set *tried, uint64_t now)
{
    return backend_choose(proxy->core->endpoints, proxy->core->endpoint_count,
                          proxy->options.health, STR(""), tried, now);
}

void tries_begin(struct forward *forward, const struct target *target, uint64_t now)
{
    const struct proxy *proxy = forward->proxy;
    struct slot_set tried = {0};
    struct tries *tries;

    if (!target->endpoint || !core_addr_is_ip(&target->hop.core))
        return;
    forward->slot = target->endpoint->slot;
    if (!forward->opens) /* a dialog is with one backend */
        return;
    slot_set_add(&tried, target->endpoint->slot);
    if (!backend_left(proxy, &tried, now))
        return;
    tries = malloc(sizeof(*tries) + proxy->received.len);
    if (!tries)
        return;
    *tries = (struct tries){
        .forward = forward, .tried = tried, .framing = proxy->framing, .len = proxy->received.len};
    memcpy(tries->bytes, proxy->received.p, proxy->received.len);
    forward->tries = tries;
}

/* The backend at hand is given up, but what it may still make of an INVITE is not forgotten: that
 * is a request of its own from here on, whose client is gone, and is cancelled and hung up as such.
 */
static void branch_leave(struct forward *forward, uint64_t now)
{
    struct proxy *proxy = forward->proxy;
    struct client_transaction *client = forward->client;
    struct forward *left = NULL;

    forward->client = NULL;
    timer_stop(proxy->options.timers, &forward->timer_c);
    if (client && forward->method == SIP_INVITE)
        left = forward_new(proxy, forward->method);
    if (!client || !left || !client_transaction_give_up(client, left, now)) {
        if (left)
            forward_free(left);
        if (client)
            client_transaction_drop(client);
        return;
    }
    left->client = client;
    left->to = forward->to;
    left->opens = left->left = left->cancelled = true;
    memcpy(left->call_id, forward->call_id, sizeof(left->call_id));
}

/* Read the request anew, as it came, and choose a backend that was not tried. */
static enum refusal request_again(struct forward *forward, struct target *target, uint64_t now)
{
    struct proxy *proxy = forward->proxy;
    struct tries *tries = forward->tries;
    struct sip_msg *request = &proxy->msg;
    struct str extra = STR("");
    enum refusal refusal;
    struct hop reply_to;

    arena_reset(&proxy->arena);
    if (sip_scan(tries->bytes, tries->len, tries->framing, false, request) ||
        via_received(proxy, request, &forward->from, &reply_to))
        return REFUSE_NO_ROOM; /* they were fine before */
    refusal = request_check(proxy, request, &forward->from, &extra);
    if (!refusal)
        refusal = target_choose(proxy, request, &forward->from, now, target);
    if (refusal)
        return unless_no_memory(proxy, refusal);
    target->endpoint =
        backend_choose(proxy->core->endpoints, proxy->core->endpoint_count, proxy->options.health,
                       request_user(proxy, request), &tries->tried, now);
    if (!target->endpoint)
        return REFUSE_BACKENDS_FAILED;
    target->hop = (struct hop){.core = target->endpoint->addr};
    return unless_no_memory(proxy, REFUSE_NOT);
}

static void log_moved(const struct forward *forward, const struct core_addr *before,
                      const char *reason)
{
    char from[CORE_ADDR_TEXT], to[CORE_ADDR_TEXT];
    const struct flow *flow = forward->from.flow;

    core_addr_text(before, from);
    core_addr_text(&forward->to.core, to);
    log_event(LOG_INFO, "request moved", LOG_TEXT("flow", str_of(flow ? flow->name : "core")),
              LOG_TEXT("call-id", str_of(forward->call_id)), LOG_TEXT("from", str_of(from)),
              LOG_TEXT("to", str_of(to)), LOG_TEXT("reason", str_of(reason)));
}

bool forward_move(struct forward *forward, const char *reason, uint64_t now)
{
    struct core_addr before = forward->to.core;
    struct target target = {0};
    enum refusal refusal;

    if (!forward->tries || !forward->server || forward->cancelled || forward->expired ||
        !backend_left(forward->proxy, &forward->tries->tried, now))
        return false;
    timer_stop(forward->proxy->options.timers, &forward->tries->timer);
    branch_leave(forward, now);
    refusal = request_again(forward, &target, now);
    if (!refusal) {
        forward->slot = target.endpoint->slot;
        slot_set_add(&forward->tries->tried, target.endpoint->slot);
        forward->proxy->counters.moved++;
        forward->moved = true;
        refusal = forward_send(forward, &forward->proxy->msg, &target, now);
    }
    if (!refusal) {
        log_moved(forward, &before, reason);
        return true;
    }
    tries_end(forward);
    forward_answer(forward, refusal, now);
    return true;
}

/* No answer at all. Where there is nothing else to try any more, it is waited for by timers B and
 * F. A client that has cancelled is not kept waiting. */
static void try_fire(struct timer *timer, uint64_t now)
{
    struct tries *tries = (struct tries *)(void *)((char *)timer - offsetof(struct tries, timer));
    struct forward *forward = tries->forward;

    backend_silent(forward->proxy, (unsigned)forward->slot, now);
    if (forward_move(forward, "no answer in time", now))
        return;
    tries_end(forward);
    if (!forward->cancelled)
        return;
    branch_leave(forward, now);
    forward_answer(forward, REFUSE_CANCELLED, now);
}

/* The last has the timers of RFC 3261. */
void try_start(struct forward *forward, uint64_t now)
{
    const struct proxy *proxy = forward->proxy;

    if (!forward->tries)
        return;
    if (backend_left(proxy, &forward->tries->tried, now))
        timer_start(proxy->options.timers, &forward->tries->timer,
                    now + proxy->conf->limits.try_timeout_ms, try_fire);
    else
        tries_end(forward);
}

void backend_heard(struct forward *forward, uint64_t now)
{
    if (forward->slot != NO_BACKEND) {
        backend_answered(forward->proxy, (unsigned)forward->slot);
        if (forward->asked_at)
            histogram_add(&forward->proxy->counters.backends[forward->slot],
                          now - forward->asked_at);
        forward->asked_at = 0;
    }
    if (forward->tries)
        timer_stop(forward->proxy->options.timers, &forward->tries->timer);
}

bool overload_answer(struct forward *forward, const struct sip_msg *response, uint64_t now)
{
    if (forward->slot == NO_BACKEND)
        return false;
    backend_overloaded(forward->proxy, (unsigned)forward->slot, response, now);
    if (forward_move(forward, "503", now))
        return true;
    if (!forward->moved || forward->cancelled)
        return false;
    forward_answer(forward, REFUSE_BACKENDS_FAILED, now);
    return true;
}

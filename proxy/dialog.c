#include "proxy/dialog.h"

#include <stdlib.h>

#include <utlist.h>
#include <xxhash.h>

#include "proxy/forward_internal.h"

enum { DIALOGS_FIRST = 4 };

/* ---- the keys of one flow ---- */

uint64_t dialog_key(struct str call_id, struct str own_tag, struct str other_tag)
{
    const struct str parts[] = {call_id, own_tag, other_tag};
    uint64_t key = 0;

    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        key = XXH3_64bits_withSeed(parts[i].p ? parts[i].p : "", parts[i].len, key);
    return key ? key : 1;
}

/* Its place; `count`: it is not there. */
static unsigned find(const struct dialogs *dialogs, uint64_t key)
{
    unsigned at = 0;

    while (at < dialogs->count && dialogs->keys[at] != key)
        at++;
    return at;
}

static void remove_at(struct dialogs *dialogs, unsigned at)
{
    dialogs->count--;
    memmove(dialogs->keys + at, dialogs->keys + at + 1,
            (dialogs->count - at) * sizeof(*dialogs->keys));
}

bool dialogs_has(const struct dialogs *dialogs, uint64_t key)
{
    return find(dialogs, key) < dialogs->count;
}

void dialogs_add(struct dialogs *dialogs, uint64_t key)
{
    if (dialogs_has(dialogs, key))
        return;
    if (dialogs->count == DIALOGS_MAX)
        remove_at(dialogs, 0);
    if (dialogs->count == dialogs->size) {
        unsigned size = dialogs->size ? dialogs->size * 2 : DIALOGS_FIRST;
        uint64_t *keys = realloc(dialogs->keys, size * sizeof(*keys));

        if (!keys)
            return;
        dialogs->keys = keys;
        dialogs->size = size;
    }
    dialogs->keys[dialogs->count++] = key;
}

void dialogs_remove(struct dialogs *dialogs, uint64_t key)
{
    unsigned at = find(dialogs, key);

    if (at == dialogs->count)
        return;
    remove_at(dialogs, at);
    if (!dialogs->count)
        dialogs_clear(dialogs); /* most flows have none most of the time */
}

void dialogs_clear(struct dialogs *dialogs)
{
    free(dialogs->keys);
    *dialogs = (struct dialogs){0};
}

/* ---- what requests and responses tell of them ---- */

/* Of the two hops one is a client's. NULL: it is gone. */
static struct flow *client_flow(const struct forward *forward)
{
    return forward->from.flow ? forward->from.flow : forward->to.flow;
}

/* From and To say the same in a request and its responses, but for the To tag of the first. */
static uint64_t key_of(const struct forward *forward, const struct sip_msg *msg)
{
    return forward->from.flow ? dialog_key(msg->call_id, msg->from_tag, msg->to_tag)
                              : dialog_key(msg->call_id, msg->to_tag, msg->from_tag);
}

static void dialog_add(struct flow *flow, uint64_t key)
{
    unsigned before = flow->dialogs.count;

    dialogs_add(&flow->dialogs, key);
    flow->proxy->dialog_count += flow->dialogs.count - before;
}

static void dialog_remove(struct flow *flow, uint64_t key)
{
    unsigned before = flow->dialogs.count;

    dialogs_remove(&flow->dialogs, key);
    flow->proxy->dialog_count -= before - flow->dialogs.count;
}

void dialogs_flow_closed(struct flow *flow)
{
    flow->proxy->dialog_count -= flow->dialogs.count;
    dialogs_clear(&flow->dialogs);
}

/* An INVITE of this Call-ID that still waits for its final response. */
static bool is_open_invite(const struct forward *forward, struct str call_id)
{
    size_t len = call_id.len < CALL_ID_KEPT ? call_id.len : CALL_ID_KEPT - 1;

    return forward->method == SIP_INVITE && forward_unanswered(forward) &&
           !memcmp(forward->call_id, call_id.p, len) && !forward->call_id[len];
}

static bool is_early(const struct flow *flow, struct str call_id)
{
    const struct forward *forward;

    DL_FOREACH2(flow->origins, forward, origin_next)
    if (is_open_invite(forward, call_id))
        return true;
    DL_FOREACH2(flow->targets, forward, target_next)
    if (is_open_invite(forward, call_id))
        return true;
    return false;
}

void dialog_asked(struct forward *forward, const struct sip_msg *request)
{
    if (request->method == SIP_BYE)
        forward->dialog = key_of(forward, request);
}

void dialog_bye_answered(struct forward *forward, int status)
{
    struct flow *flow = client_flow(forward);

    /* Whoever is asked for a password sends it again with one. All else is the end of the call for
     * who sent it (RFC 3261 15.1.1), also 481, 408 and no answer at all. */
    if (forward->method == SIP_BYE && flow && status != 401 && status != 407)
        dialog_remove(flow, forward->dialog);
}

void dialog_answered(struct forward *forward, const struct sip_msg *response)
{
    struct flow *flow = client_flow(forward);
    uint64_t key;

    if (!flow || response->status < 200 ||
        (forward->method != SIP_INVITE && forward->method != SIP_UPDATE &&
         forward->method != SIP_INFO))
        return;
    key = key_of(forward, response);
    if (response->status == 481)
        dialog_remove(flow, key);
    if (response->status / 100 != 2 || key == forward->dialog)
        return; /* a 2xx that comes again may be behind the BYE */
    if (forward->method != SIP_INVITE && is_early(flow, response->call_id))
        return;
    forward->dialog = key;
    dialog_add(flow, key);
}

/* The time before a stop: what goes on may end, nothing new begins. */
#include <utlist.h>
#include <xxhash.h>

#include "proxy/forward_internal.h"

void proxy_drain(struct proxy *proxy, unsigned spread_ms, uint64_t now)
{
    proxy->draining = true;
    proxy->drain.spread_ms = spread_ms;
    proxy->drain.until = now + spread_ms;
}

/* For when its connection is closed, if it has no call. All the clients that asked meanwhile should
 * not come back in the same second, so some more is added, up to the spread again; the same each
 * time that one request is asked. */
static unsigned retry_after_s(const struct proxy *proxy, const struct sip_msg *request,
                              uint64_t now)
{
    uint64_t left_ms = now < proxy->drain.until ? proxy->drain.until - now : 0;
    uint64_t hash =
        XXH3_64bits_withSeed(request->call_id.p, request->call_id.len, proxy->options.instance);

    return (unsigned)((left_ms + 999) / 1000 + 1 + hash % (proxy->drain.spread_ms / 1000 + 1));
}

enum refusal drain_check(struct proxy *proxy, const struct sip_msg *request, const struct hop *from,
                         uint64_t now, struct str *extra)
{
    bool let_in_before = !from->flow && !core_addr_is_ip(&from->core);

    if (!proxy->draining || request->to_tag.p || let_in_before)
        return REFUSE_NOT;
    /* A PBX may keep all away from us for that time, also what is in a dialog (21.5.4): no longer
     * than it has to. It asks another edge at once. */
    *extra = arena_printf(&proxy->arena, "Retry-After: %u\r\n",
                          from->flow ? retry_after_s(proxy, request, now) : 1);
    return REFUSE_STOPPING;
}

bool flow_is_busy(const struct flow *flow)
{
    const struct forward *forward;

    if (flow->dialogs.count)
        return true;
    DL_FOREACH2(flow->origins, forward, origin_next)
    if (forward_unanswered(forward))
        return true;
    DL_FOREACH2(flow->targets, forward, target_next)
    if (forward_unanswered(forward))
        return true;
    return false;
}

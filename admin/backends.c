#include "admin/backends.h"

#include "admin/json.h"

enum { FINE = 200, FAILED = 500 };

/* A moment of the loop clock as RFC 3339 has it, or null. */
static json_t *time_json(const struct report *report, uint64_t at)
{
    int64_t ms = report->wall_ms + (int64_t)(at - report->now);

    return at ? json_time(ms) : json_null();
}

static const char *state_text(const struct report *report, const struct endpoint *endpoint)
{
    if (endpoint->retired)
        return "retired";
    if (endpoint->addr.kind == CORE_EMBEDDED)
        return "up";
    switch (health_state(report->health, endpoint->slot)) {
    case HEALTH_DOWN: return "down";
    case HEALTH_UP:
    case HEALTH_UNKNOWN: break;
    }
    if (health_busy_until(report->health, endpoint->slot) > report->now)
        return "busy";
    return health_state(report->health, endpoint->slot) == HEALTH_UP ? "up" : "unknown";
}

/* When and why it came to be as it is. One that was busy and is not any more is as before since the
 * end of that time. */
static void change_add(const struct report *report, const struct endpoint *endpoint, json_t *entry)
{
    struct health_change change = health_change(report->health, endpoint->slot);
    uint64_t busy_until = health_busy_until(report->health, endpoint->slot);
    char reason[HEALTH_CHANGE_TEXT];

    if (health_usable(report->health, endpoint->slot, report->now) && busy_until > change.at)
        change = (struct health_change){.at = busy_until};
    health_change_text(&change, reason);
    (void)json_object_set_new(entry, "since", time_json(report, change.at));
    (void)json_object_set_new(entry, "reason", *reason ? json_string(reason) : json_null());
    (void)json_object_set_new(entry, "busy_until",
                              time_json(report, busy_until > report->now ? busy_until : 0));
}

/* Of requests outside of dialogs, since the start: how many it answered, and in what time. */
static json_t *responses_json(const struct histogram *times)
{
    uint64_t count = 0;

    for (unsigned i = 0; i <= HISTOGRAM_BOUNDS; i++)
        count += times->buckets[i];
    if (!count)
        return json_null();
    return json_pack("{s:I, s:f}", "count", (json_int_t)count, "mean_seconds",
                     (double)times->sum_ms / (double)count / 1000.0);
}

static const char *transport_text(const struct endpoint *endpoint)
{
    switch (endpoint->addr.kind) {
    case CORE_UDP: return endpoint->tcp_too ? "auto" : "udp";
    case CORE_TCP: return "tcp";
    default: return "embedded";
    }
}

static json_t *endpoint_json(const struct report *report, const struct endpoint *endpoint)
{
    bool embedded = endpoint->addr.kind == CORE_EMBEDDED;
    const char *host = NULL;
    char address[CORE_ADDR_TEXT];
    json_t *entry;

    if (!embedded && !endpoint->retired) /* whose it was, the configuration may know no more */
        host = report->view->conf->backends[endpoint->backend].host;
    core_addr_text(&endpoint->addr, address);
    entry = json_pack("{s:s?, s:s?, s:s, s:I, s:I, s:f, s:s}", "backend", host, "address",
                      embedded ? NULL : address, "transport", transport_text(endpoint), "priority",
                      (json_int_t)(endpoint->priority >> ENDPOINT_RANK_BITS), "rank",
                      (json_int_t)(endpoint->priority & ((1U << ENDPOINT_RANK_BITS) - 1)), "weight",
                      endpoint->weight, "state", state_text(report, endpoint));
    if (!entry)
        return NULL;
    change_add(report, endpoint, entry);
    (void)json_object_set_new(entry, "responses",
                              responses_json(&report->sum.proxy.backends[endpoint->slot]));
    return entry;
}

static json_t *unresolved_json(const struct conf_backend *backend)
{
    static const char *const transports[] = {
        [CONF_TRANSPORT_UDP] = "udp",
        [CONF_TRANSPORT_TCP] = "tcp",
        [CONF_TRANSPORT_AUTO] = "auto",
    };

    return json_pack("{s:s, s:n, s:s, s:i, s:i, s:i, s:s, s:n, s:s, s:n, s:n}", "backend",
                     backend->host, "address", "transport", transports[backend->transport],
                     "priority", (int)backend->priority, "rank", 0, "weight", (int)backend->weight,
                     "state", "unresolved", "since", "reason", "its name has no address yet",
                     "busy_until", "responses");
}

static json_t *backends_json(const struct report *report)
{
    const struct core_view *view = report->view;
    bool known[CONF_BACKENDS_MAX] = {false};
    json_t *list = json_array();
    int failed = 0;

    if (!view) /* stopped */
        return json_pack("{s:o}", "backends", list);

    for (unsigned i = 0; i < view->endpoint_count; i++) {
        const struct endpoint *endpoint = &view->endpoints[i];

        if (!endpoint->retired && endpoint->backend != ENDPOINT_NO_BACKEND)
            known[endpoint->backend] = true;
        failed |= json_array_append_new(list, endpoint_json(report, endpoint));
    }
    for (unsigned i = 0; i < view->conf->backend_count; i++)
        if (!known[i])
            failed |= json_array_append_new(list, unresolved_json(&view->conf->backends[i]));
    if (!failed)
        return json_pack("{s:o}", "backends", list);
    json_decref(list);
    return NULL;
}

int backends_print(const struct report *report, FILE *out)
{
    json_t *root = backends_json(report);
    int failed = root ? json_dumpf(root, out, JSON_INDENT(2)) : -1;

    json_decref(root);
    fputs(failed ? "no memory" : "", out);
    fputc('\n', out);
    return failed ? FAILED : FINE;
}

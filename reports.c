#include "reports.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "proxy/log.h"

struct reports {
    struct reports_options options;
    struct worker_totals last[CONF_WORKERS_MAX]; /* what each worker said last */
};

struct question {
    struct reports *reports;
    reports_done done;
    void *context;
};

static void totals_answer(struct worker *worker, const void *question, void *answer)
{
    (void)question;
    worker_totals(worker, answer);
}

static void totals_done(void *context, const struct answers *answers)
{
    struct question question = *(struct question *)context;
    struct report report = {.worker_count = answers->count};

    free(context);
    for (unsigned i = 0; i < answers->count; i++) {
        report.responding[i] = answers->of[i] != NULL;
        if (answers->of[i])
            question.reports->last[i] = *(const struct worker_totals *)answers->of[i];
        worker_totals_add(&report.sum, &question.reports->last[i]);
    }
    question.reports->options.fill(question.reports->options.context, &report);
    question.done(question.context, &report);
}

int reports_ask(struct reports *reports, reports_done done, void *context)
{
    static const struct ask_kind totals = {.answer_size = sizeof(struct worker_totals),
                                           .answer = totals_answer};
    struct question *question = malloc(sizeof(*question));
    int err;

    if (!question)
        return -ENOMEM;
    *question = (struct question){reports, done, context};
    err = ask_all(reports->options.asks, &totals, NULL, totals_done, question);
    if (err)
        free(question);
    return err;
}

int reports_open(const struct reports_options *options, struct reports **out)
{
    struct reports *reports = calloc(1, sizeof(*reports));

    if (!reports)
        return -ENOMEM;
    reports->options = *options;
    *out = reports;
    return 0;
}

void reports_close(struct reports **reports)
{
    free(*reports);
    *reports = NULL;
}

/* ---- the log's line ---- */

/* How many backends' addresses are up and down, and which are down; "-": none. */
struct backends_seen {
    unsigned up, down;
    char names[512];
};

static void backends_see(const struct report *report, struct backends_seen *seen)
{
    const struct core_view *view = report->view;
    char text[CORE_ADDR_TEXT];
    size_t len = 0;

    *seen = (struct backends_seen){.names = "-"};
    for (unsigned i = 0; view && i < view->endpoint_count; i++) {
        const struct endpoint *endpoint = &view->endpoints[i];

        if (endpoint->retired)
            continue;
        if (health_usable(report->health, endpoint->slot, report->now)) {
            seen->up++;
            continue;
        }
        seen->down++;
        core_addr_text(&endpoint->addr, text);
        if (len + strlen(text) + 2 < sizeof(seen->names))
            len += (size_t)snprintf(seen->names + len, sizeof(seen->names) - len, "%s%s",
                                    len ? "," : "", text);
    }
}

void report_log(const struct report *report, const char *what)
{
    const struct worker_totals *totals = &report->sum;
    const struct proxy_counters *proxy = &totals->proxy;
    struct backends_seen backends;

    backends_see(report, &backends);
    const struct log_field fields[] = {
        LOG_NUMBER("connections", report->connections),
        LOG_NUMBER("flows", (int64_t)totals->sizes.flows),
        LOG_NUMBER("requests", (int64_t)totals->sizes.requests),
        LOG_NUMBER("transactions", (int64_t)totals->sizes.transactions),
        LOG_NUMBER("dialogs", (int64_t)totals->sizes.dialogs),
        LOG_NUMBER("timers", (int64_t)totals->timers),
        LOG_NUMBER("bindings", (int64_t)report->bindings),
        LOG_NUMBER("backends-up", backends.up),
        LOG_NUMBER("backends-down", backends.down),
        LOG_TEXT("down", str_of(backends.names)),
        LOG_NUMBER("flows-opened", (int64_t)proxy->flows_opened),
        LOG_NUMBER("requests-access", (int64_t)requests_count(proxy, SIDE_ACCESS)),
        LOG_NUMBER("requests-core", (int64_t)requests_count(proxy, SIDE_CORE)),
        LOG_NUMBER("responses-access", (int64_t)responses_count(proxy, SIDE_ACCESS)),
        LOG_NUMBER("responses-core", (int64_t)responses_count(proxy, SIDE_CORE)),
        LOG_NUMBER("rejected", (int64_t)rejected_count(proxy)),
        LOG_NUMBER("broken", (int64_t)proxy->dropped_broken),
        LOG_NUMBER("stray", (int64_t)proxy->dropped_stray),
        LOG_NUMBER("foreign", (int64_t)proxy->dropped_foreign),
        LOG_NUMBER("given-up", (int64_t)totals->given_up),
        LOG_NUMBER("tokens-refused", (int64_t)proxy->tokens_refused),
        LOG_NUMBER("datagrams-received", (int64_t)totals->core_received),
        LOG_NUMBER("datagrams-sent", (int64_t)totals->core_sent),
        LOG_NUMBER("datagrams-dropped", (int64_t)totals->core_dropped),
        LOG_NUMBER("moved", (int64_t)proxy->moved),
        LOG_NUMBER("tcp-by-udp", (int64_t)proxy->tcp_by_udp),
        LOG_NUMBER("tcp-received", (int64_t)totals->tcp.received),
        LOG_NUMBER("tcp-sent", (int64_t)totals->tcp.sent),
        LOG_NUMBER("tcp-opened", (int64_t)totals->tcp.opened),
        LOG_NUMBER("tcp-accepted", (int64_t)totals->tcp.accepted),
        LOG_NUMBER("tcp-refused", (int64_t)totals->tcp.refused),
        LOG_NUMBER("tcp-failed", (int64_t)totals->tcp.failed),
        LOG_NUMBER("tcp-dropped", (int64_t)totals->tcp.send_dropped),
        LOG_NUMBER("handover-dropped", (int64_t)totals->mailbox.dropped),
        {0},
    };

    log_write(LOG_INFO, what, fields);
}

#include "admin/metrics.h"

#include <assert.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>

#include "admin/process.h"

enum { FINE = 200, NUMBER_TEXT = 24, LABELS_MAX = 3 };

struct page;

struct family {
    const char *name, *kind, *help;
    const char *labels[LABELS_MAX + 1];
    void (*print)(const struct page *page); /* NULL: it is one number, */
    size_t total;                           /* at this place in struct worker_totals */
};

struct page {
    FILE *out;
    const struct report *report;
    const struct worker_totals *sum;
    struct process process;
    const struct family *family; /* at hand */
};

/* ---- samples ---- */

static void value_print(FILE *out, const char *value)
{
    for (; *value; value++)
        switch (*value) {
        case '"': fputs("\\\"", out); break;
        case '\\': fputs("\\\\", out); break;
        case '\n': fputs("\\n", out); break;
        default: putc(*value, out);
        }
}

/* Name and labels of a sample; `le`: of a bucket, else NULL. */
static void head_print(const struct page *page, const char *suffix, const char *const *values,
                       const char *le)
{
    const char *const *labels = page->family->labels;
    char mark = '{';

    fprintf(page->out, "%s%s", page->family->name, suffix);
    for (; *labels && *values; labels++, values++, mark = ',') {
        fprintf(page->out, "%c%s=\"", mark, *labels);
        value_print(page->out, *values);
        putc('"', page->out);
    }
    assert(!*labels && !*values);
    if (le)
        fprintf(page->out, "%cle=\"%s\"", mark, le);
    fputs(le || mark == ',' ? "} " : " ", page->out);
}

static void number_print(const struct page *page, uint64_t value, const char *const *values)
{
    head_print(page, "", values, NULL);
    fprintf(page->out, "%" PRIu64 "\n", value);
}

static void seconds(const struct page *page, double value)
{
    const char *const none = NULL;

    head_print(page, "", &none, NULL);
    fprintf(page->out, "%.3f\n", value);
}

static void histogram_print(const struct page *page, const struct histogram *histogram,
                            const char *const *values)
{
    uint64_t count = 0;

    for (unsigned i = 0; i <= HISTOGRAM_BOUNDS; i++) {
        char le[NUMBER_TEXT] = "+Inf";

        if (i < HISTOGRAM_BOUNDS)
            (void)snprintf(le, sizeof(le), "%g", histogram_bounds_ms[i] / 1000.0);
        count += histogram->buckets[i];
        head_print(page, "_bucket", values, le);
        fprintf(page->out, "%" PRIu64 "\n", count);
    }
    head_print(page, "_sum", values, NULL);
    fprintf(page->out, "%.3f\n", (double)histogram->sum_ms / 1000.0);
    head_print(page, "_count", values, NULL);
    fprintf(page->out, "%" PRIu64 "\n", count);
}

/* number(page, 3, "tls", "slow-reader"): a value for each label of the family. */
#define VALUES(...) ((const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})
#define number(page, value, ...) number_print(page, value, VALUES(__VA_ARGS__))
#define histogram(page, of, ...) histogram_print(page, of, VALUES(__VA_ARGS__))

/* ---- the process ---- */

static void build_info(const struct page *page)
{
    number(page, 1, SIPWARD_VERSION);
}

static void draining(const struct page *page)
{
    number(page, page->report->phase == REPORT_DRAINING);
}

static void worker_responding(const struct page *page)
{
    char worker[NUMBER_TEXT];

    for (unsigned i = 0; i < page->report->worker_count; i++) {
        (void)snprintf(worker, sizeof(worker), "%u", i);
        number(page, page->report->responding[i], worker);
    }
}

static void loop_lag(const struct page *page)
{
    histogram(page, &page->sum->lag);
}

static void loop_lag_longest(const struct page *page)
{
    seconds(page, (double)page->sum->lag_longest_ms / 1000.0);
}

static const char *const whats[RELOADS] = {
    [RELOAD_CONFIGURATION] = "configuration", [RELOAD_CERTIFICATES] = "certificates"};

static void reload_times(const struct page *page)
{
    for (unsigned i = 0; i < RELOADS; i++)
        number(page, (uint64_t)page->report->reloads[i].last_s, whats[i]);
}

static void reload_results(const struct page *page)
{
    for (unsigned i = 0; i < RELOADS; i++)
        number(page, !page->report->reloads[i].last_refused, whats[i]);
}

static void reloads(const struct page *page)
{
    for (unsigned i = 0; i < RELOADS; i++) {
        number(page, page->report->reloads[i].done, whats[i], "done");
        number(page, page->report->reloads[i].refused, whats[i], "refused");
    }
}

static void certificate_expiry(const struct page *page)
{
    const struct conf *conf = page->report->conf;

    for (unsigned i = 0; page->report->certificates && i < conf->certificate_count; i++)
        number(page, (uint64_t)certificates_until(page->report->certificates, i),
               conf->certificates[i].chain);
}

static void process_cpu(const struct page *page)
{
    seconds(page, page->process.cpu_seconds);
}

static void process_start(const struct page *page)
{
    seconds(page, page->process.start_seconds);
}

static void process_resident(const struct page *page)
{
    number(page, page->process.resident_bytes);
}

static void process_virtual(const struct page *page)
{
    number(page, page->process.virtual_bytes);
}

static void process_fds(const struct page *page)
{
    number(page, page->process.open_fds);
}

static void process_fds_max(const struct page *page)
{
    number(page, page->process.max_fds);
}

/* ---- connections ---- */

static uint64_t closed(const struct page *page, enum transport transport)
{
    uint64_t sum = 0;

    for (unsigned cause = 0; cause < CAUSES; cause++)
        sum += page->sum->streams.closed[transport][cause];
    return sum;
}

static void connections(const struct page *page)
{
    for (unsigned i = 0; i < TRANSPORT_UNDECIDED; i++)
        number(page, page->sum->streams.opened[i] - closed(page, i), transport_name(i));
}

static void connections_limit(const struct page *page)
{
    number(page, page->report->connections_max);
}

static void connections_opened(const struct page *page)
{
    for (unsigned i = 0; i < TRANSPORTS; i++)
        number(page, page->sum->streams.opened[i], transport_name(i));
}

/* Of transports that were never used there is nothing to say. */
static void connections_closed(const struct page *page)
{
    for (unsigned i = 0; i < TRANSPORTS; i++)
        for (unsigned cause = 0; cause < CAUSES && page->sum->streams.opened[i]; cause++)
            number(page, page->sum->streams.closed[i][cause], transport_name(i),
                   cause_row(cause)->name, cause_by_name(cause_row(cause)->by));
}

static void connections_refused(const struct page *page)
{
    static const enum cause causes[] = {CAUSE_CONNECTION_LIMIT, CAUSE_PROXY_SENDER, CAUSE_NO_MEMORY,
                                        CAUSE_STOPPING};

    for (size_t i = 0; i < ARRAY_LEN(causes); i++)
        number(page, page->sum->streams.refused[causes[i]], cause_row(causes[i])->name);
}

static void handshakes(const struct page *page)
{
    const struct stream_counters *streams = &page->sum->streams;

    for (unsigned resumed = 0; resumed < 2; resumed++) {
        const char *text = resumed ? "true" : "false";

        number(page, streams->handshakes_12[resumed], "1.2", text);
        number(page, streams->handshakes_13[resumed], "1.3", text);
    }
}

static void handshake_failures(const struct page *page)
{
    for (unsigned cause = 0; cause < CAUSES; cause++) {
        uint64_t sum = 0;

        if (cause_row(cause)->class != CLASS_HANDSHAKE || cause == CAUSE_PROXY_SENDER)
            continue;
        for (unsigned i = 0; i < TRANSPORTS; i++)
            sum += page->sum->streams.closed[i][cause];
        number(page, sum, cause_row(cause)->name);
    }
}

/* ---- messages ---- */

static const char *const sides[SIDES] = {[SIDE_ACCESS] = "access", [SIDE_CORE] = "core"};

static void requests(const struct page *page)
{
    for (unsigned side = 0; side < SIDES; side++)
        for (unsigned method = 0; method < SIP_METHODS; method++)
            number(page, page->sum->proxy.requests[side][method], sides[side],
                   sip_method_name(method));
}

static void responses(const struct page *page)
{
    static const char *const classes[RESPONSE_CLASSES] = {"1xx", "2xx", "3xx", "4xx", "5xx", "6xx"};

    for (unsigned side = 0; side < SIDES; side++)
        for (unsigned method = 0; method < SIP_METHODS; method++)
            for (unsigned i = 0; i < RESPONSE_CLASSES; i++)
                number(page, page->sum->proxy.responses[side][method][i], sides[side],
                       sip_method_name(method), classes[i]);
}

static int status_of(const struct page *page, unsigned refusal)
{
    return refusal == REFUSE_FLOW_GONE ? page->report->conf->flow_gone_status
                                       : refusals[refusal].status;
}

static bool same_row(const struct page *page, unsigned one, unsigned two)
{
    return !strcmp(refusals[one].rule, refusals[two].rule) &&
           status_of(page, one) == status_of(page, two);
}

/* Rows of one rule and code are one sample, where the first of them stands. */
static void rejected(const struct page *page)
{
    char code[NUMBER_TEXT];

    for (unsigned i = REFUSE_NOT + 1; i < REFUSAL_COUNT; i++) {
        unsigned first = REFUSE_NOT + 1;
        uint64_t sum = 0;

        while (!same_row(page, first, i))
            first++;
        if (first != i || status_of(page, i) < 400)
            continue;
        for (unsigned j = i; j < REFUSAL_COUNT; j++)
            sum += same_row(page, i, j) ? page->sum->proxy.refused[j] : 0;
        (void)snprintf(code, sizeof(code), "%d", status_of(page, i));
        number(page, sum, refusals[i].rule, code);
    }
}

static void dropped(const struct page *page)
{
    number(page, page->sum->proxy.dropped_broken, "broken");
    number(page, page->sum->proxy.dropped_stray, "stray");
    number(page, page->sum->proxy.dropped_foreign, "foreign");
}

static void retransmissions(const struct page *page)
{
    for (unsigned side = 0; side < SIDES; side++) {
        number(page, page->sum->retransmissions.sent[side], sides[side], "sent");
        number(page, page->sum->retransmissions.received[side], sides[side], "received");
    }
}

static void bindings(const struct page *page)
{
    number(page, page->report->bindings);
}

/* ---- backends ---- */

/* Endpoints that are reached by the network, and the values of their labels. */
struct backend {
    const struct endpoint *endpoint;
    const char *name, *transport;
    char address[CORE_ADDR_TEXT];
};

/* From the endpoint at *index on. false: no more. */
static bool backend_next(const struct page *page, unsigned *index, struct backend *backend)
{
    const struct core_view *view = page->report->view;

    while (view && *index < view->endpoint_count) {
        const struct endpoint *endpoint = &view->endpoints[(*index)++];

        if (!core_addr_is_ip(&endpoint->addr) || endpoint->backend == ENDPOINT_NO_BACKEND)
            continue;
        backend->endpoint = endpoint;
        backend->name = view->conf->backends[endpoint->backend].host;
        backend->transport = endpoint->addr.kind == CORE_TCP ? "tcp" : "udp";
        core_addr_text(&endpoint->addr, backend->address);
        return true;
    }
    return false;
}

static void backend_up(const struct page *page)
{
    const struct report *report = page->report;
    struct backend one;

    for (unsigned i = 0; backend_next(page, &i, &one);)
        if (!one.endpoint->retired)
            number(page, health_usable(report->health, one.endpoint->slot, report->now), one.name,
                   one.address, one.transport);
}

static void backend_response(const struct page *page)
{
    struct backend one;

    for (unsigned i = 0; backend_next(page, &i, &one);)
        histogram(page, &page->sum->proxy.backends[one.endpoint->slot], one.name, one.address,
                  one.transport);
}

static void core_messages(const struct page *page)
{
    number(page, page->sum->core_received, "udp", "received");
    number(page, page->sum->core_sent, "udp", "sent");
    number(page, page->sum->tcp.received, "tcp", "received");
    number(page, page->sum->tcp.sent, "tcp", "sent");
}

static void core_dropped(const struct page *page)
{
    number(page, page->sum->core_dropped, "udp");
    number(page, page->sum->tcp.send_dropped, "tcp");
}

static void core_connections(const struct page *page)
{
    number(page, page->sum->tcp.opened, "opened");
    number(page, page->sum->tcp.accepted, "accepted");
    number(page, page->sum->tcp.refused, "refused");
    number(page, page->sum->tcp.failed, "failed");
}

/* ---- the table ---- */

#define PRINT(function) function, 0
#define TOTAL(field) NULL, offsetof(struct worker_totals, field)

/* clang-format off */
#define NONE {NULL}

static const struct family families[] = {
    {"sipward_build_info", "gauge",
     "Always 1, with the version that runs.",
     {"version"}, PRINT(build_info)},
    {"sipward_draining", "gauge",
     "1 while it drains: calls end by themselves, new ones are refused.",
     NONE, PRINT(draining)},
    {"sipward_worker_responding", "gauge",
     "Whether the worker answered within a second; 0: its share of all figures is older.",
     {"worker"}, PRINT(worker_responding)},

    {"sipward_connections", "gauge",
     "Open connections of clients.",
     {"transport"}, PRINT(connections)},
    {"sipward_connections_limit", "gauge",
     "How many connections may be open at once.",
     NONE, PRINT(connections_limit)},
    {"sipward_connections_opened_total", "counter",
     "Connections accepted; undecided: one that ended before it was known what it is.",
     {"transport"}, PRINT(connections_opened)},
    {"sipward_connections_closed_total", "counter",
     "Connections that ended, why, and who ended them.",
     {"transport", "reason", "by"}, PRINT(connections_closed)},
    {"sipward_connections_refused_total", "counter",
     "Connections that were closed as soon as they were accepted.",
     {"reason"}, PRINT(connections_refused)},
    {"sipward_handshakes_total", "counter",
     "TLS handshakes that succeeded.",
     {"version", "resumed"}, PRINT(handshakes)},
    {"sipward_handshake_failures_total", "counter",
     "Handshakes of TLS, WebSocket or the PROXY protocol that failed, and why.",
     {"reason"}, PRINT(handshake_failures)},
    {"sipward_flows", "gauge",
     "Connections that are ready for SIP.",
     NONE, TOTAL(sizes.flows)},
    {"sipward_send_queue_bytes", "gauge",
     "Bytes that wait to be sent to clients that read slowly.",
     NONE, TOTAL(streams.queued)},

    {"sipward_requests_total", "counter",
     "Requests received, by the side that they came from.",
     {"side", "method"}, PRINT(requests)},
    {"sipward_responses_total", "counter",
     "Responses received, by the side that they came from and the method of their request.",
     {"side", "method", "class"}, PRINT(responses)},
    {"sipward_requests_rejected_total", "counter",
     "Requests that sipward itself refused, by rule (tests/RULES.md) and status.",
     {"rule", "code"}, PRINT(rejected)},
    {"sipward_messages_dropped_total", "counter",
     "Messages dropped without an answer: broken, a response that nobody waits for, or from an address that is no backend.",
     {"reason"}, PRINT(dropped)},
    {"sipward_messages_oversize_total", "counter",
     "Messages of clients above limits.message_size.",
     NONE, TOTAL(proxy.oversize)},
    {"sipward_flow_tokens_refused_total", "counter",
     "Flow tokens that were forged or altered.",
     NONE, TOTAL(proxy.tokens_refused)},
    {"sipward_retransmissions_total", "counter",
     "Messages sent again or received again (RFC 3261 17).",
     {"side", "direction"}, PRINT(retransmissions)},
    {"sipward_requests_open", "gauge",
     "Requests under way, or kept to recognise their retransmissions.",
     NONE, TOTAL(sizes.requests)},
    {"sipward_transactions", "gauge",
     "Transactions (RFC 3261 17): those of both sides, also while they only wait for retransmissions.",
     NONE, TOTAL(sizes.transactions)},
    {"sipward_transactions_given_up_total", "counter",
     "Answered transactions that stopped waiting for retransmissions early, to keep within limits.transactions.",
     NONE, TOTAL(given_up)},
    {"sipward_dialogs", "gauge",
     "Answered calls, counted at each client: one between two clients is two.",
     NONE, TOTAL(sizes.dialogs)},
    {"sipward_registrar_bindings", "gauge",
     "Bindings of the embedded registrar.",
     NONE, PRINT(bindings)},

    {"sipward_backend_up", "gauge",
     "Whether this address of a backend gets new requests; 0: it is down, or asked to be left alone.",
     {"backend", "address", "transport"}, PRINT(backend_up)},
    {"sipward_backend_response_seconds", "histogram",
     "From a request outside of dialogs to its first response; probes are not counted.",
     {"backend", "address", "transport"}, PRINT(backend_response)},
    {"sipward_requests_moved_total", "counter",
     "Requests that went on to another backend.",
     NONE, TOTAL(proxy.moved)},
    {"sipward_requests_by_udp_total", "counter",
     "Requests too large for UDP that went by UDP all the same, as TCP failed.",
     NONE, TOTAL(proxy.tcp_by_udp)},
    {"sipward_core_messages_total", "counter",
     "Messages from and to backends, with retransmissions and probes.",
     {"transport", "direction"}, PRINT(core_messages)},
    {"sipward_core_messages_dropped_total", "counter",
     "Messages to backends that could not be sent.",
     {"transport"}, PRINT(core_dropped)},
    {"sipward_core_connections_total", "counter",
     "TCP connections with backends: opened, accepted, refused to strangers, failed.",
     {"event"}, PRINT(core_connections)},

    {"sipward_loop_lag_seconds", "histogram",
     "How long a worker was busy at a stretch, while what arrived had to wait.",
     NONE, PRINT(loop_lag)},
    {"sipward_loop_lag_longest_seconds", "gauge",
     "The longest time that a worker was busy at a stretch, within the last minute.",
     NONE, PRINT(loop_lag_longest)},
    {"sipward_mailbox_messages_total", "counter",
     "Messages handed from one thread to another.",
     NONE, TOTAL(mailbox.posted)},
    {"sipward_mailbox_dropped_total", "counter",
     "Messages lost between threads, as a mailbox was full.",
     NONE, TOTAL(mailbox.dropped)},
    {"sipward_mailbox_waiting", "gauge",
     "Messages that wait between threads now.",
     NONE, TOTAL(mailbox.waiting)},
    {"sipward_timers", "gauge",
     "Timers that run.",
     NONE, TOTAL(timers)},
    {"sipward_certificate_expiry_timestamp_seconds", "gauge",
     "When the certificate that is served ends, in seconds since 1970.",
     {"certificate"}, PRINT(certificate_expiry)},
    {"sipward_reloads_total", "counter",
     "Reloads of the configuration, or of certificates alone.",
     {"what", "result"}, PRINT(reloads)},
    {"sipward_reload_last_timestamp_seconds", "gauge",
     "When the last reload was, in seconds since 1970; 0: there was none.",
     {"what"}, PRINT(reload_times)},
    {"sipward_reload_last_successful", "gauge",
     "Whether the last reload was taken; 0: the files have a mistake, and what ran before runs on.",
     {"what"}, PRINT(reload_results)},

    {"process_cpu_seconds_total", "counter",
     "Total user and system CPU time spent in seconds.",
     NONE, PRINT(process_cpu)},
    {"process_start_time_seconds", "gauge",
     "Start time of the process since unix epoch in seconds.",
     NONE, PRINT(process_start)},
    {"process_resident_memory_bytes", "gauge",
     "Resident memory size in bytes.",
     NONE, PRINT(process_resident)},
    {"process_virtual_memory_bytes", "gauge",
     "Virtual memory size in bytes.",
     NONE, PRINT(process_virtual)},
    {"process_open_fds", "gauge",
     "Number of open file descriptors.",
     NONE, PRINT(process_fds)},
    {"process_max_fds", "gauge",
     "Maximum number of open file descriptors.",
     NONE, PRINT(process_fds_max)},
};
/* clang-format on */

int metrics_print(const struct report *report, FILE *out)
{
    struct page page = {.out = out, .report = report, .sum = &report->sum};

    process_look(&page.process);
    for (size_t i = 0; i < ARRAY_LEN(families); i++) {
        const struct family *family = &families[i];
        const char *total = (const char *)page.sum + family->total;

        page.family = family;
        fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", family->name, family->help, family->name,
                family->kind);
        if (family->print)
            family->print(&page);
        else
            number(&page, *(const uint64_t *)(const void *)total);
    }
    return FINE;
}

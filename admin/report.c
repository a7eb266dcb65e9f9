#include "admin/report.h"

void worker_totals_add(struct worker_totals *sum, const struct worker_totals *more)
{
    sum->proxy.requests_access += more->proxy.requests_access;
    sum->proxy.requests_core += more->proxy.requests_core;
    sum->proxy.responses_access += more->proxy.responses_access;
    sum->proxy.responses_core += more->proxy.responses_core;
    for (size_t i = 0; i < REFUSAL_COUNT; i++)
        sum->proxy.refused[i] += more->proxy.refused[i];
    sum->proxy.dropped_broken += more->proxy.dropped_broken;
    sum->proxy.dropped_stray += more->proxy.dropped_stray;
    sum->proxy.dropped_foreign += more->proxy.dropped_foreign;
    sum->proxy.tokens_refused += more->proxy.tokens_refused;
    sum->proxy.flows_opened += more->proxy.flows_opened;
    sum->proxy.flows_closed += more->proxy.flows_closed;
    sum->core_received += more->core_received;
    sum->core_sent += more->core_sent;
    sum->core_dropped += more->core_dropped;
    sum->mailbox_dropped += more->mailbox_dropped;
    sum->sizes.flows += more->sizes.flows;
    sum->sizes.requests += more->sizes.requests;
    sum->sizes.transactions += more->sizes.transactions;
    sum->sizes.dialogs += more->sizes.dialogs;
    sum->timers += more->timers;
    sum->proxy.tcp_by_udp += more->proxy.tcp_by_udp;
    sum->proxy.moved += more->proxy.moved;
    sum->tcp.received += more->tcp.received;
    sum->tcp.sent += more->tcp.sent;
    sum->tcp.opened += more->tcp.opened;
    sum->tcp.accepted += more->tcp.accepted;
    sum->tcp.refused += more->tcp.refused;
    sum->tcp.failed += more->tcp.failed;
    sum->tcp.send_dropped += more->tcp.send_dropped;
}

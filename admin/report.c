#include "admin/report.h"

void worker_totals_add(struct worker_totals *sum, const struct worker_totals *more)
{
    uint64_t longest =
        sum->lag_longest_ms > more->lag_longest_ms ? sum->lag_longest_ms : more->lag_longest_ms;

    counters_add(sum, more, sizeof(*sum));
    sum->lag_longest_ms = longest;
}

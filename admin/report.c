#include "admin/report.h"

void worker_totals_add(struct worker_totals *sum, const struct worker_totals *more)
{
    counters_add(sum, more, sizeof(*sum));
}

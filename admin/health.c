#include "admin/health.h"

enum { FINE = 200, UNAVAILABLE = 503 };

int healthz_print(const struct report *report, FILE *out)
{
    unsigned silent = 0;

    for (unsigned i = 0; i < report->worker_count; i++)
        if (!report->responding[i])
            fprintf(out, "%s%u", silent++ ? ", " : "no answer within a second from worker ", i);
    fprintf(out, "%s\n", silent ? "" : "alive");
    return silent ? UNAVAILABLE : FINE;
}

static bool a_backend_is_up(const struct report *report)
{
    for (unsigned i = 0; report->view && i < report->view->endpoint_count; i++)
        if (!report->view->endpoints[i].retired &&
            health_usable(report->health, report->view->endpoints[i].slot, report->now))
            return true;
    return false;
}

int readyz_print(const struct report *report, FILE *out)
{
    const char *reason = NULL;

    switch (report->phase) {
    case REPORT_STARTING: reason = "starting"; break;
    case REPORT_DRAINING: reason = "draining"; break;
    case REPORT_SERVING: reason = a_backend_is_up(report) ? NULL : "no backend is up"; break;
    }
    fprintf(out, "%s\n", reason ? reason : "ready");
    return reason ? UNAVAILABLE : FINE;
}

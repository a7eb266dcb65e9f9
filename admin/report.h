/* A report: what sipward knows of itself at one moment, from which the status line of the log and
 * the pages of the admin side are made.
 *
 * Ownership: everything is borrowed, for as long as the page that is given it runs.
 * Threads:   the main thread's; worker_totals are copies.
 * Units:     milliseconds of uv_now(), which all loops of a process share. */
#pragma once

#include "conf/conf.h"
#include "proxy/backends.h"
#include "proxy/core_tcp.h"
#include "proxy/proxy.h"
#include "tls/certificate.h"
#include "tls/counters.h"

/* What one worker has counted, or all of them together. Nothing but uint64_t. */
struct worker_totals {
    struct proxy_counters proxy;
    struct retransmissions retransmissions;
    uint64_t given_up; /* transactions */
    struct stream_counters streams;
    uint64_t core_received, core_sent, core_dropped;
    struct {
        uint64_t posted, dropped, waiting; /* between the threads */
    } mailbox;
    struct core_tcp_counters tcp;
    struct proxy_sizes sizes;
    uint64_t timers;         /* running */
    struct histogram lag;    /* of the loops, by turns */
    uint64_t lag_longest_ms; /* lately; of all workers: the longest */
};

void worker_totals_add(struct worker_totals *sum, const struct worker_totals *more);

enum reload_kind { RELOAD_CONFIGURATION, RELOAD_CERTIFICATES, RELOADS };

struct reload_counts {
    uint64_t done, refused;
    int64_t last_s;    /* when, in seconds since 1970; 0: never */
    bool last_refused; /* that one */
};

enum report_phase { REPORT_STARTING, REPORT_SERVING, REPORT_DRAINING };

struct report {
    enum report_phase phase;
    uint64_t now;
    int64_t wall_ms; /* the same moment, since 1970 */
    const struct conf *conf;
    const struct core_view *view; /* NULL: stopped */
    const struct health *health;
    const struct certificates *certificates; /* those of conf that are served; NULL: none */
    struct reload_counts reloads[RELOADS];
    unsigned connections, connections_max;
    size_t bindings; /* of the embedded registrar */
    unsigned worker_count;
    bool responding[CONF_WORKERS_MAX]; /* whether that worker answered within the second */
    struct worker_totals sum; /* of all workers, of one that didn't answer what it said last; and
                                 of the embedded registrar */
};

/* Counted events of the proxy of one worker. All are plain uint64_t: an event is one increment, and
 * what several workers counted is summed field by field, whatever the fields are (counters_add()).
 *
 * Threads: the worker's own; others get copies. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "proxy/backends.h"
#include "proxy/message.h"
#include "proxy/refusal.h"

enum side { SIDE_ACCESS, SIDE_CORE, SIDES };

enum { RESPONSE_CLASSES = 6 }; /* 1xx to 6xx */

/* How often something took how long. The last bucket is for what is longer than all bounds. */
enum { HISTOGRAM_BOUNDS = 12 };
extern const unsigned histogram_bounds_ms[HISTOGRAM_BOUNDS]; /* each is in its bucket */
struct histogram {
    uint64_t buckets[HISTOGRAM_BOUNDS + 1];
    uint64_t sum_ms;
};
void histogram_add(struct histogram *histogram, uint64_t ms);

/* What is sent again, and what comes again (RFC 3261 17), by the side it goes to or comes from. */
struct retransmissions {
    uint64_t sent[SIDES], received[SIDES];
};

struct proxy_counters {
    uint64_t requests[SIDES][SIP_METHODS]; /* by the side that they came from */
    uint64_t responses[SIDES][SIP_METHODS][RESPONSE_CLASSES];
    uint64_t refused[REFUSAL_COUNT]; /* requests that sipward itself answered, by why */
    uint64_t dropped_broken;         /* too broken to answer, or a broken response (V5) */
    uint64_t dropped_stray;          /* responses that belong to no transaction (V5, T6) */
    uint64_t dropped_foreign;        /* from a core address that is no backend (R8) */
    uint64_t oversize;               /* messages of clients over limits.message_size (F6) */
    uint64_t tokens_refused;         /* forged or altered (R7) */
    uint64_t
        tcp_by_udp;    /* requests that were for TCP, mostly for their size, and TCP failed (T7) */
    uint64_t moved;    /* requests that went on to another backend (B3) */
    uint64_t given_up; /* transactions, for what their own connection sent after them (X3) */
    uint64_t flows_opened, flows_closed;
    /* From a request outside of dialogs to the first response of the backend in that slot (B3).
     * Probes are not among them. */
    struct histogram backends[ENDPOINTS_MAX];
};

/* Add up two structs of nothing but uint64_t. */
void counters_add(void *sum, const void *more, size_t size);

uint64_t requests_count(const struct proxy_counters *counters, enum side side);
uint64_t responses_count(const struct proxy_counters *counters, enum side side);
/* Requests that were answered with 4xx or 5xx by sipward itself. */
uint64_t rejected_count(const struct proxy_counters *counters);

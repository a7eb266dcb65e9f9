#include "proxy/counters.h"

const unsigned histogram_bounds_ms[HISTOGRAM_BOUNDS] = {2,   5,   10,   25,   50,   100,
                                                        250, 500, 1000, 2500, 5000, 10000};

void histogram_add(struct histogram *histogram, uint64_t ms)
{
    unsigned bucket = 0;

    while (bucket < HISTOGRAM_BOUNDS && ms > histogram_bounds_ms[bucket])
        bucket++;
    histogram->buckets[bucket]++;
    histogram->sum_ms += ms;
}

void counters_add(void *sum, const void *more, size_t size)
{
    const uint64_t *from = more;
    uint64_t *to = sum;

    for (size_t i = 0; i < size / sizeof(*to); i++)
        to[i] += from[i];
}

uint64_t requests_count(const struct proxy_counters *counters, enum side side)
{
    uint64_t sum = 0;

    for (unsigned method = 0; method < SIP_METHODS; method++)
        sum += counters->requests[side][method];
    return sum;
}

uint64_t responses_count(const struct proxy_counters *counters, enum side side)
{
    uint64_t sum = 0;

    for (unsigned method = 0; method < SIP_METHODS; method++)
        for (unsigned class = 0; class < RESPONSE_CLASSES; class ++)
            sum += counters->responses[side][method][class];
    return sum;
}

uint64_t rejected_count(const struct proxy_counters *counters)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < REFUSAL_COUNT; i++)
        sum += refusals[i].status >= 400 ? counters->refused[i] : 0;
    return sum;
}

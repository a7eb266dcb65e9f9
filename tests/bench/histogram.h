/* Times, counted in buckets of which each is less than 1 % wide (as HdrHistogram's): what is asked
 * of it later is exact to that. Units: nanoseconds. */
#pragma once

#include <stdint.h>
#include <stdio.h>

enum { HISTOGRAM_STEPS = 128, HISTOGRAM_EXACT = 256, HISTOGRAM_BUCKETS = 40 * HISTOGRAM_STEPS };

struct histogram {
    uint64_t count, sum, max;
    uint64_t bucket[HISTOGRAM_BUCKETS];
};

void histogram_clear(struct histogram *histogram);
void histogram_add(struct histogram *histogram, uint64_t value);
uint64_t histogram_at(const struct histogram *histogram, double share); /* 0.99: the p99 */
/* {"count":..,"mean":..,"p50":..,"p90":..,"p99":..,"p999":..,"max":..} in microseconds */
void histogram_print(const struct histogram *histogram, FILE *to);

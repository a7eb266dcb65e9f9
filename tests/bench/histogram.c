#include "histogram.h"

#include <string.h>

/* Below EXACT each value has a bucket; from there on each power of two has STEPS. */
static unsigned bucket_of(uint64_t value)
{
    unsigned shift, index;

    if (value < HISTOGRAM_EXACT)
        return (unsigned)value;
    shift = 63 - (unsigned)__builtin_clzll(value) - 7; /* value >> shift is in [STEPS, 2 STEPS) */
    index = shift * HISTOGRAM_STEPS + (unsigned)(value >> shift);
    return index < HISTOGRAM_BUCKETS ? index : HISTOGRAM_BUCKETS - 1;
}

static uint64_t bucket_top(unsigned index)
{
    unsigned shift;

    if (index < HISTOGRAM_EXACT)
        return index;
    shift = index / HISTOGRAM_STEPS - 1;
    return ((uint64_t)(index - shift * HISTOGRAM_STEPS + 1) << shift) - 1;
}

void histogram_clear(struct histogram *histogram)
{
    memset(histogram, 0, sizeof(*histogram));
}

void histogram_add(struct histogram *histogram, uint64_t value)
{
    histogram->bucket[bucket_of(value)]++;
    histogram->count++;
    histogram->sum += value;
    if (value > histogram->max)
        histogram->max = value;
}

uint64_t histogram_at(const struct histogram *histogram, double share)
{
    uint64_t wanted = (uint64_t)(share * (double)histogram->count + 0.5), seen = 0, top;

    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += histogram->bucket[i];
        if (seen >= wanted && seen) {
            top = bucket_top(i);
            return top < histogram->max ? top : histogram->max;
        }
    }
    return histogram->max;
}

void histogram_print(const struct histogram *histogram, FILE *to)
{
    const double us = 1000;

    fprintf(to, "{\"count\":%llu,\"mean\":%.1f,\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,",
            (unsigned long long)histogram->count,
            histogram->count ? (double)histogram->sum / (double)histogram->count / us : 0,
            (double)histogram_at(histogram, 0.5) / us, (double)histogram_at(histogram, 0.9) / us,
            (double)histogram_at(histogram, 0.99) / us);
    fprintf(to, "\"p999\":%.1f,\"max\":%.1f}", (double)histogram_at(histogram, 0.999) / us,
            (double)histogram->max / us);
}

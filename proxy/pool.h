/* Objects of one size that come and go with each message: what was given back last is taken next,
 * since it is still in the cache, and the heap is not asked.
 *
 * Bounded: `kept` objects are kept at most, the rest goes back to the heap, as after a storm.
 * With AddressSanitizer none is kept: it sees who uses what was given back.
 * Ownership: of an object its taker's, until it gives it back to the same pool.
 * Threads:   one worker's, no locks. */
#pragma once

#include <stddef.h>

enum { POOL_KEPT = 512 };

struct pool_object;

struct pool {
    size_t size;   /* of an object; all else zeroed: empty */
    unsigned kept; /* at most; 0: POOL_KEPT */
    unsigned count;
    struct pool_object *first;
};

void *pool_take(struct pool *pool); /* not cleared; NULL: out of memory */
void pool_give(struct pool *pool, void *object);
void pool_clear(struct pool *pool); /* all that is kept goes back to the heap */

#include "proxy/pool.h"

#include <stdlib.h>

#ifndef __has_feature
#define __has_feature(feature) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
static const unsigned kept_max = 0;
#else
static const unsigned kept_max = POOL_KEPT;
#endif

/* What lies in an object that nobody has. */
struct pool_object {
    struct pool_object *next;
};

/* It will be wanted soon, and filled from its beginning on. */
static void fetch(struct pool_object *object)
{
    enum { LINE = 64, LINES = 5 };

    for (unsigned i = 0; i < LINES; i++)
        __builtin_prefetch((char *)object + (size_t)i * LINE, 1);
}

void *pool_take(struct pool *pool)
{
    struct pool_object *object = pool->first;

    if (!object)
        return malloc(pool->size);
    pool->first = object->next;
    pool->count--;
    if (pool->first)
        fetch(pool->first);
    return object;
}

void pool_give(struct pool *pool, void *object)
{
    struct pool_object *given = object;

    if (pool->count >= kept_max) {
        free(object);
        return;
    }
    given->next = pool->first;
    pool->first = given;
    pool->count++;
}

void pool_clear(struct pool *pool)
{
    while (pool->first)
        free(pool_take(pool));
}

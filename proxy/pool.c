#include "proxy/pool.h"

#include <stdlib.h>

#ifndef __has_feature
#define __has_feature(feature) 0
#endif

static unsigned most(const struct pool *pool)
{
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
    (void)pool;
    return 0;
#else
    return pool->kept ? pool->kept : POOL_KEPT;
#endif
}

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

    if (pool->count >= most(pool)) {
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

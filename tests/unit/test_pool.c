#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/pool.h"

#define TEST(name) static void name(void **state)

enum { SIZE = 100, MANY = 3 * POOL_KEPT };

static void *objects[MANY];

static void take_all(struct pool *pool)
{
    for (unsigned i = 0; i < MANY; i++) {
        objects[i] = pool_take(pool);
        assert_non_null(objects[i]);
        memset(objects[i], (int)i, SIZE);
    }
}

TEST(each_taker_has_its_own)
{
    struct pool pool = {.size = SIZE};

    (void)state;
    for (unsigned round = 0; round < 3; round++) {
        take_all(&pool);
        for (unsigned i = 0; i < MANY; i++) {
            const unsigned char *bytes = objects[i];
            for (unsigned j = 0; j < SIZE; j++)
                assert_int_equal(bytes[j], (unsigned char)i);
            pool_give(&pool, objects[i]);
        }
    }
    pool_clear(&pool);
}

TEST(what_is_kept_is_bounded)
{
    static const unsigned bounds[] = {0, 3};

    (void)state;
    for (size_t i = 0; i < sizeof(bounds) / sizeof(bounds[0]); i++) {
        struct pool pool = {.size = SIZE, .kept = bounds[i]};
        unsigned kept;

        take_all(&pool);
        for (unsigned n = 0; n < MANY; n++)
            pool_give(&pool, objects[n]);
        kept = pool.count; /* none with ASan */
        assert_true(kept == 0 || kept == (bounds[i] ? bounds[i] : POOL_KEPT));
        pool_clear(&pool);
        assert_int_equal(pool.count, 0);
        assert_null(pool.first);
    }
}

TEST(the_last_one_given_is_the_first_one_taken)
{
    struct pool pool = {.size = SIZE};
    uintptr_t given[2];

    (void)state;
    objects[0] = pool_take(&pool);
    objects[1] = pool_take(&pool);
    given[0] = (uintptr_t)objects[0];
    given[1] = (uintptr_t)objects[1];
    pool_give(&pool, objects[0]);
    pool_give(&pool, objects[1]);
    if (pool.count) {
        objects[0] = pool_take(&pool);
        objects[1] = pool_take(&pool);
        assert_true((uintptr_t)objects[0] == given[1]);
        assert_true((uintptr_t)objects[1] == given[0]);
        pool_give(&pool, objects[0]);
        pool_give(&pool, objects[1]);
    }
    pool_clear(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_taker_has_its_own),
        cmocka_unit_test(what_is_kept_is_bounded),
        cmocka_unit_test(the_last_one_given_is_the_first_one_taken),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

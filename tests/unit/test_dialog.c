#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proxy/dialog.h"

static void a_key_tells_dialogs_apart(void **state)
{
    static const struct {
        const char *call_id, *own, *other;
    } dialogs[] = {
        {"c",  "a",  "b" },
        {"c",  "b",  "a" }, /* as the other end sees it */
        {"c",  "a",  "b2"}, /* a fork */
        {"c2", "a",  "b" },
        {"c",  "ab", ""  },
        {"ca", "",   "b" },
        {"",   "",   ""  },
    };
    uint64_t keys[ARRAY_LEN(dialogs)];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(dialogs); i++) {
        keys[i] = dialog_key(str_of(dialogs[i].call_id), str_of(dialogs[i].own),
                             str_of(dialogs[i].other));
        assert_int_not_equal(keys[i], 0);
        for (size_t j = 0; j < i; j++)
            assert_int_not_equal(keys[i], keys[j]);
    }
    assert_int_equal(keys[0], dialog_key(STR("c"), STR("a"), STR("b")));
    assert_int_equal(keys[6], dialog_key(STR(""), (struct str){0}, (struct str){0}));
}

static void each_is_there_once_until_it_is_removed(void **state)
{
    struct dialogs dialogs = {0};

    (void)state;
    for (uint64_t key = 1; key <= 10; key++) {
        dialogs_add(&dialogs, key);
        dialogs_add(&dialogs, key);
    }
    assert_int_equal(dialogs.count, 10);
    dialogs_remove(&dialogs, 11);
    for (uint64_t key = 1; key <= 10; key += 2) {
        assert_true(dialogs_has(&dialogs, key));
        dialogs_remove(&dialogs, key);
        dialogs_remove(&dialogs, key);
        assert_false(dialogs_has(&dialogs, key));
    }
    assert_int_equal(dialogs.count, 5);
    for (uint64_t key = 2; key <= 10; key += 2)
        assert_true(dialogs_has(&dialogs, key));
    for (uint64_t key = 2; key <= 10; key += 2)
        dialogs_remove(&dialogs, key);
    assert_null(dialogs.keys); /* a flow without calls has no memory for them */
    dialogs_remove(&dialogs, 2);
    dialogs_clear(&dialogs);
}

static void of_too_many_the_oldest_is_forgotten(void **state)
{
    struct dialogs dialogs = {0};

    (void)state;
    for (uint64_t key = 1; key <= DIALOGS_MAX + 3; key++)
        dialogs_add(&dialogs, key);
    assert_int_equal(dialogs.count, DIALOGS_MAX);
    assert_false(dialogs_has(&dialogs, 3));
    assert_true(dialogs_has(&dialogs, 4));
    assert_true(dialogs_has(&dialogs, DIALOGS_MAX + 3));
    dialogs_clear(&dialogs);
    assert_int_equal(dialogs.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_tells_dialogs_apart),
        cmocka_unit_test(each_is_there_once_until_it_is_removed),
        cmocka_unit_test(of_too_many_the_oldest_is_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/cause.h"

/* Metrics have them as label values, and operators search for them. */
static void each_cause_has_a_name_of_its_own_and_words(void **state)
{
    (void)state;
    for (enum cause cause = 0; cause < CAUSES; cause++) {
        const struct cause_row *row = cause_row(cause);

        assert_non_null(row->name);
        assert_non_null(row->words);
        assert_int_equal(strspn(row->name, "abcdefghijklmnopqrstuvwxyz-"), strlen(row->name));
        assert_non_null(cause_class_name(row->class));
        assert_non_null(cause_by_name(row->by));
        for (enum cause other = 0; other < cause; other++)
            assert_string_not_equal(row->name, cause_row(other)->name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_cause_has_a_name_of_its_own_and_words),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

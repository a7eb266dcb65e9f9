/* The table of refusals: what the answer, the log and the metric are made of. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/message.h"

static void every_refusal_has_a_rule_a_status_and_a_reason(void **state)
{
    (void)state;
    for (int i = REFUSE_NOT + 1; i < REFUSAL_COUNT; i++) {
        const struct refusal_row *row = &refusals[i];

        if (!row->rule || !row->reason || !row->reason[0] ||
            (row->status != 200 && (row->status < 400 || row->status > 599)))
            fail_msg("row %d is not complete", i);
        if (row->status == 200)
            assert_string_equal(row->reason, sip_reason(200));
    }
    assert_null(refusals[REFUSE_NOT].rule);
    assert_int_equal(refusals[REFUSE_NOT].status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_refusal_has_a_rule_a_status_and_a_reason),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "check.h"
#include "tls/facts.h"

static struct facts *facts_make(uint64_t number)
{
    struct facts *facts = calloc(1, sizeof(*facts) + 1);

    assert_non_null(facts);
    facts->size = sizeof(*facts) + 1;
    facts->number = number;
    return facts;
}

static void a_history_keeps_the_last_ones(void **state)
{
    struct history history = {.size = 10};
    const struct facts *one;

    (void)state;
    assert_null(history_before(&history, 0));
    assert_null(history_find(&history, 7));
    for (uint64_t number = 1; number <= 25; number++) {
        uint64_t want = number;

        history_add(&history, facts_make(number));
        for (one = history_before(&history, 0); one; one = history_before(&history, one->number))
            assert_int_equal(one->number, want--);
        assert_int_equal(want, number <= 10 ? 0 : number - 10);
    }
    assert_null(history_find(&history, 15));
    assert_int_equal(history_find(&history, 16)->number, 16);
    assert_null(history_before(&history, 3)); /* it is gone, and so is all before it */
    history_clear(&history);
    assert_null(history_before(&history, 0));
}

/* They end in another order than they began. */
static void a_history_is_in_the_order_of_ends(void **state)
{
    static const uint64_t numbers[] = {30, 4, 17};
    struct history history = {.size = 10};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        history_add(&history, facts_make(numbers[i]));
    assert_int_equal(history_before(&history, 0)->number, 17);
    assert_int_equal(history_before(&history, 17)->number, 4);
    assert_int_equal(history_before(&history, 4)->number, 30);
    assert_null(history_before(&history, 30));
    history_clear(&history);
}

static void peers_are_told_apart(void **state)
{
    static const struct {
        const char *filter, *peer;
        int fits; /* -1: no filter */
    } rows[] = {
        {"192.0.2.7",            "192.0.2.7:50123",    1 },
        {"192.0.2.7:50123",      "192.0.2.7:50123",    1 },
        {"192.0.2.7:50124",      "192.0.2.7:50123",    0 },
        {"192.0.2.8",            "192.0.2.7:50123",    0 },
        {"2001:db8::7",          "[2001:db8::7]:5061", 1 },
        {"[2001:db8::7]",        "[2001:db8::7]:5061", 1 },
        {"[2001:db8::7]:5061",   "[2001:db8::7]:5061", 1 },
        {"[2001:db8::7]:5062",   "[2001:db8::7]:5061", 0 },
        {"2001:db8:0:0:0:0:0:7", "[2001:db8::7]:5061", 1 },
        {"2001:db8::7",          "192.0.2.7:50123",    0 },
        {"",                     NULL,                 -1},
        {"alice",                NULL,                 -1},
        {"192.0.2",              NULL,                 -1},
        {"192.0.2.7:",           NULL,                 -1},
        {"192.0.2.7:0",          NULL,                 -1},
        {"192.0.2.7:65536",      NULL,                 -1},
        {"[2001:db8::7",         NULL,                 -1},
        {"[",                    NULL,                 -1},
        {"[]",                   NULL,                 -1},
        {"[]:5",                 NULL,                 -1},
        {"[2001:db8::7]5061",    NULL,                 -1},
        {"sip.example.com:5061", NULL,                 -1},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct facts_filter filter = {0}, peer = {0};
        int err = facts_filter_peer(&filter, rows[i].filter);

        CHECK_INT(rows[i].filter, err < 0, rows[i].fits < 0);
        if (err)
            continue;
        assert_int_equal(facts_filter_peer(&peer, rows[i].peer), 0);
        CHECK_INT(rows[i].filter, facts_peer_fits(&filter, &peer.peer), rows[i].fits);
    }
}

static void aors_are_told_apart(void **state)
{
    static const struct {
        const char *filter, *aor;
        int fits;
    } rows[] = {
        {"sip:alice@sip.test", "sip:alice@sip.test", 1},
        {"alice@sip.test",     "sip:alice@sip.test", 1},
        {"ALICE@SIP.test",     "sip:alice@sip.test", 1},
        {"alice",              "sip:alice@sip.test", 1},
        {"alic",               "sip:alice@sip.test", 0},
        {"lice",               "sip:alice@sip.test", 0},
        {"alice@",             "sip:alice@sip.test", 0},
        {"alice@other.test",   "sip:alice@sip.test", 0},
        {"sip.test",           "sip:sip.test",       1},
        {"sip",                "sip:sip.test",       0},
    };
    struct facts_filter any = {0};
    char longest[300];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct facts_filter filter = {0};

        assert_int_equal(facts_filter_aor(&filter, rows[i].filter), 0);
        CHECK_INT(rows[i].filter, facts_aor_fits(&filter, rows[i].aor), rows[i].fits);
        assert_true(facts_aor_fits(&any, rows[i].aor));
    }
    memset(longest, 'a', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    assert_true(facts_filter_aor(&any, longest) < 0);
    assert_true(facts_filter_aor(&any, "") < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_history_keeps_the_last_ones),
        cmocka_unit_test(a_history_is_in_the_order_of_ends),
        cmocka_unit_test(peers_are_told_apart),
        cmocka_unit_test(aors_are_told_apart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

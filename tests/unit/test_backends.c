#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/backends.h"

enum { USERS = 10000, COUNT = 5, NOW = 5000 };

static struct health health;
static struct endpoint list[COUNT];

static struct endpoint endpoint(unsigned number, uint32_t priority, double weight)
{
    struct endpoint made = {
        .addr = {.kind = CORE_UDP},
        .slot = (uint16_t)(number + 60), /* around the border of two words of a slot_set */
        .priority = priority,
        .weight = weight,
    };

    made.addr.in.sin_family = AF_INET;
    made.addr.in.sin_port = htons(5060);
    made.addr.in.sin_addr.s_addr = htonl(0x0a000001 + number);
    return made;
}

/* COUNT of them, of equal priority and weight. */
static int setup(void **state)
{
    (void)state;
    memset(&health, 0, sizeof(health));
    for (unsigned i = 0; i < COUNT; i++)
        list[i] = endpoint(i, 0, 1);
    return 0;
}

static struct str aor(unsigned user)
{
    static char text[32];

    snprintf(text, sizeof(text), "user%u", user);
    return str_of(text);
}

static const struct endpoint *choice(unsigned user, const struct slot_set *tried)
{
    return backend_choose(list, COUNT, &health, aor(user), tried, NOW);
}

static void shares(unsigned counts[COUNT])
{
    memset(counts, 0, sizeof(unsigned) * COUNT);
    for (unsigned user = 0; user < USERS; user++)
        counts[choice(user, NULL) - list]++;
}

/* Six standard deviations of a fair draw. */
static void assert_share(unsigned count, double of, double share)
{
    if (fabs(count - of * share) > 6 * sqrt(of * share * (1 - share)) + 1)
        fail_msg("%u of %.0f, instead of %.3f of them", count, of, share);
}

static void users_are_spread_by_weight(void **state) /* B3 */
{
    static const double weights[COUNT] = {1, 2, 3, 4, 0.5};
    unsigned counts[COUNT];

    (void)state;
    shares(counts);
    for (unsigned i = 0; i < COUNT; i++)
        assert_share(counts[i], USERS, 1.0 / COUNT);
    for (unsigned i = 0; i < COUNT; i++)
        list[i].weight = weights[i];
    shares(counts);
    for (unsigned i = 0; i < COUNT; i++)
        assert_share(counts[i], USERS, weights[i] / 10.5);
}

static void one_that_dies_moves_only_its_own_users_and_by_weight(void **state) /* B3 */
{
    static const double weights[COUNT] = {1, 2, 3, 4, 2};
    const struct endpoint *before[USERS];
    unsigned moved_to[COUNT] = {0}, moved = 0;

    (void)state;
    for (unsigned i = 0; i < COUNT; i++)
        list[i].weight = weights[i];
    for (unsigned user = 0; user < USERS; user++)
        before[user] = choice(user, NULL);
    assert_true(health_down(&health, list[2].slot));

    for (unsigned user = 0; user < USERS; user++) {
        const struct endpoint *now = choice(user, NULL);

        if (before[user] != &list[2]) {
            assert_ptr_equal(now, before[user]);
            continue;
        }
        moved++;
        moved_to[now - list]++;
    }
    assert_share(moved, USERS, 3.0 / 12);
    assert_int_equal(moved_to[2], 0);
    for (unsigned i = 0; i < COUNT; i++)
        if (i != 2)
            assert_share(moved_to[i], moved, weights[i] / 9);

    assert_true(health_up(&health, list[2].slot));
    for (unsigned user = 0; user < USERS; user++) /* it comes back, and they to it */
        assert_ptr_equal(choice(user, NULL), before[user]);
}

static void a_choice_is_the_same_whatever_the_order_of_the_list(void **state) /* B3 */
{
    struct core_addr before[USERS];
    struct endpoint swapped;

    (void)state;
    for (unsigned user = 0; user < USERS; user++)
        before[user] = choice(user, NULL)->addr;
    swapped = list[0];
    list[0] = list[4];
    list[4] = swapped;
    for (unsigned user = 0; user < USERS; user++)
        assert_true(core_addr_eq(&choice(user, NULL)->addr, &before[user]));
}

static void weight_0_is_chosen_where_nothing_else_is(void **state) /* B3, RFC 2782 */
{
    unsigned counts[COUNT];

    (void)state;
    for (unsigned i = 0; i < COUNT; i++)
        list[i].weight = i == 3;
    shares(counts);
    assert_true(counts[3] >= USERS - 1);

    list[3].weight = 0; /* all of them: they share */
    shares(counts);
    for (unsigned i = 0; i < COUNT; i++)
        assert_share(counts[i], USERS, 1.0 / COUNT);
}

static void the_least_priority_that_is_usable_and_not_tried_goes_first(void **state) /* B3 */
{
    struct slot_set tried = {0};
    const struct endpoint *first;

    (void)state;
    list[0].priority = 2;
    list[1].priority = list[2].priority = 1;
    list[3].priority = 3;
    list[4].priority = 0;
    list[4].retired = true;

    first = choice(1, &tried);
    assert_true(first == &list[1] || first == &list[2]);
    slot_set_add(&tried, first->slot);
    assert_ptr_equal(choice(1, &tried), first == &list[1] ? &list[2] : &list[1]);
    health_busy(&health, choice(1, &tried)->slot, NOW + 1);
    assert_ptr_equal(choice(1, &tried), &list[0]);
    health_down(&health, list[0].slot);
    assert_ptr_equal(choice(1, &tried), &list[3]);
    slot_set_add(&tried, list[3].slot);
    assert_null(choice(1, &tried));
    assert_null(backend_choose(list, 0, &health, aor(1), NULL, NOW));
    assert_ptr_equal(backend_choose(&list[3], 1, &health, STR(""), NULL, NOW), &list[3]);
}

static void a_busy_one_is_left_alone_for_its_time(void **state) /* B3 */
{
    (void)state;
    health_busy(&health, 3, NOW + 100);
    health_busy(&health, 3, NOW + 50); /* asks for less: the longer time stays */
    assert_false(health_usable(&health, 3, NOW + 99));
    assert_true(health_usable(&health, 3, NOW + 100));
    health_down(&health, 3);
    assert_false(health_usable(&health, 3, NOW + 100));
    assert_int_equal(health_state(&health, 3), HEALTH_DOWN);
    health_forget(&health, 3);
    assert_int_equal(health_state(&health, 3), HEALTH_UNKNOWN);
    assert_true(health_usable(&health, 3, NOW));
}

static void silence_counts_in_a_row(void **state) /* B2 */
{
    (void)state;
    assert_int_equal(health_silent(&health, 4), 1);
    assert_int_equal(health_silent(&health, 4), 2);
    health_answered(&health, 4);
    assert_int_equal(health_silent(&health, 4), 1);
    assert_int_equal(health_silent(&health, 5), 1);
    assert_true(health_usable(&health, 4, NOW)); /* what is enough others say */
    assert_true(health_down(&health, 4));
    health_answered(&health, 4);
    assert_int_equal(health_state(&health, 4), HEALTH_DOWN); /* until health_up() */
    health_forget(&health, 5);
    assert_int_equal(health_silent(&health, 5), 1);
}

static void only_a_change_of_health_is_news(void **state) /* B2 */
{
    (void)state;
    assert_false(health_up(&health, 0)); /* unknown counts as up */
    assert_true(health_down(&health, 0));
    assert_false(health_down(&health, 0));
    assert_true(health_up(&health, 0));
    assert_false(health_up(&health, 0));
    assert_true(health_usable(&health, 0, NOW));
}
static void why_it_changed_is_kept_and_told(void **state) /* B2 */
{
    static const struct {
        struct health_change change;
        const char *text;
    } changes[] = {
        {{NOW, HEALTH_REQUESTS_SILENT, 3},                  "3 requests without an answer"},
        {{1, HEALTH_PROBES_SILENT, 100},                    "100 probes without an answer"},
        {{NOW, HEALTH_PROBES_503, 2},                       "2 probes answered 503"       },
        {{NOW, HEALTH_PROBES_408, 2},                       "2 probes answered 408"       },
        {{NOW, HEALTH_REFUSED, ECONNREFUSED},               "Connection refused"          },
        {{UINT64_C(0xffffffffff), HEALTH_RETRY_AFTER, 300}, "503, Retry-After: 300"       },
        {{NOW, HEALTH_PROBES_ANSWERED, 65535},              "65535 probes answered"       },
    };
    struct health_change change = health_change(&health, 6);
    char text[HEALTH_CHANGE_TEXT];

    (void)state;
    assert_int_equal(change.at, 0);
    health_change_text(&change, text);
    assert_string_equal(text, "");
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        health_changed(&health, 6, &changes[i].change);
        change = health_change(&health, 6);
        assert_int_equal(change.at, changes[i].change.at);
        health_change_text(&change, text);
        assert_string_equal(text, changes[i].text);
    }
    health_forget(&health, 6);
    assert_int_equal(health_change(&health, 6).at, 0);
}

static void retry_after_is_the_time_of_the_first_busy_one(void **state) /* B4 */
{
    (void)state;
    for (unsigned i = 0; i < COUNT; i++)
        health_down(&health, list[i].slot);
    health_busy(&health, list[0].slot, NOW + 1000); /* down as well: that is no hope */
    assert_int_equal(backend_retry_after_s(list, COUNT, &health, 10, NOW), 10);
    assert_int_equal(backend_retry_after_s(list, COUNT, &health, 0, NOW), 1);
    health_up(&health, list[1].slot);
    health_up(&health, list[2].slot);
    health_busy(&health, list[1].slot, NOW + 20001);
    health_busy(&health, list[2].slot, NOW + 30000);
    assert_int_equal(backend_retry_after_s(list, COUNT, &health, 10, NOW), 21);
    list[1].retired = true;
    assert_int_equal(backend_retry_after_s(list, COUNT, &health, 10, NOW), 30);
}
static void both_families_and_ports_are_places_of_their_own(void **state) /* B3 */
{
    unsigned counts[COUNT];

    (void)state;
    for (unsigned i = 0; i < COUNT; i++) {
        list[i].addr = (struct core_addr){.kind = CORE_UDP};
        list[i].addr.in6.sin6_family = AF_INET6;
        list[i].addr.in6.sin6_port = htons((uint16_t)(5060 + i));
        inet_pton(AF_INET6, "2001:db8::5", &list[i].addr.in6.sin6_addr);
    }
    list[4].addr.in6.sin6_port = list[3].addr.in6.sin6_port;
    list[4].addr.in6.sin6_addr.s6_addr[15]++;
    shares(counts);
    for (unsigned i = 0; i < COUNT; i++)
        assert_share(counts[i], USERS, 1.0 / COUNT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(users_are_spread_by_weight, setup),
        cmocka_unit_test_setup(one_that_dies_moves_only_its_own_users_and_by_weight, setup),
        cmocka_unit_test_setup(a_choice_is_the_same_whatever_the_order_of_the_list, setup),
        cmocka_unit_test_setup(weight_0_is_chosen_where_nothing_else_is, setup),
        cmocka_unit_test_setup(the_least_priority_that_is_usable_and_not_tried_goes_first, setup),
        cmocka_unit_test_setup(a_busy_one_is_left_alone_for_its_time, setup),
        cmocka_unit_test_setup(silence_counts_in_a_row, setup),
        cmocka_unit_test_setup(why_it_changed_is_kept_and_told, setup),
        cmocka_unit_test_setup(only_a_change_of_health_is_news, setup),
        cmocka_unit_test_setup(retry_after_is_the_time_of_the_first_busy_one, setup),
        cmocka_unit_test_setup(both_families_and_ports_are_places_of_their_own, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

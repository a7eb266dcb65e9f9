#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proxy/endpoints.h"

enum { BACKENDS = 2, RESULTS = 80, HOUR = ENDPOINT_RETIRED_MS };

/* What one address of a result is made from; host NULL: no more. */
struct row {
    const char *host, *name;
    uint16_t port, priority, weight;
    enum resolve_transport transport; /* RESOLVE_AUTO: RESOLVE_UDP */
};

static struct conf_backend backends[BACKENDS];
static struct conf conf;
static struct health health;
static struct endpoints *endpoints;
static const struct resolve_result *results[BACKENDS];
static struct core_addr local4, local6;
static const struct core_view *view;
static uint64_t now;

static struct core_addr address(const char *host, uint16_t port)
{
    struct core_addr addr = {.kind = CORE_UDP};

    if (inet_pton(AF_INET, host, &addr.in.sin_addr) == 1) {
        addr.in.sin_family = AF_INET;
        addr.in.sin_port = htons(port);
    } else {
        assert_int_equal(inet_pton(AF_INET6, host, &addr.in6.sin6_addr), 1);
        addr.in6.sin6_family = AF_INET6;
        addr.in6.sin6_port = htons(port);
    }
    return addr;
}

static void result_set(unsigned backend, const struct row *rows)
{
    struct resolve_result *result =
        calloc(1, sizeof(*result) + RESULTS * sizeof(result->addresses[0]));

    assert_non_null(result);
    atomic_init(&result->references, 1);
    for (; rows->host; rows++) {
        struct resolve_address *to = &result->addresses[result->count++];
        struct core_addr addr = address(rows->host, rows->port ? rows->port : 5060);

        memcpy(&to->in6, &addr.in6, sizeof(to->in6));
        to->transport = rows->transport == RESOLVE_TCP ? RESOLVE_TCP : RESOLVE_UDP;
        to->priority = rows->priority;
        to->weight = rows->weight;
        snprintf(to->name, sizeof(to->name), "%s", rows->name ? rows->name : "pbx.test");
    }
    resolve_result_unref(&results[backend]);
    results[backend] = result;
}

#define ROWS(...) ((const struct row[]){__VA_ARGS__, {0}})

static void renew(void)
{
    core_view_unref(&view);
    assert_int_equal(endpoints_view(endpoints, &conf, results, &local4, &local6, now, &view), 0);
}

static const struct endpoint *at(const char *host)
{
    struct core_addr addr = address(host, 5060);

    return endpoint_at(view, &addr);
}

static void assert_weight(const char *host, double weight)
{
    assert_non_null(at(host));
    assert_int_equal((int)(at(host)->weight * 1000 + 0.5), (int)(weight * 1000 + 0.5));
}

/* ---- memory that runs out (linked with --wrap) ---- */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);

static unsigned long until_failure; /* 0: none will fail */

void *__wrap_malloc(size_t size)
{
    return until_failure && !--until_failure ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return until_failure && !--until_failure ? NULL : __real_calloc(count, size);
}

static int setup(void **state)
{
    (void)state;
    memset(&health, 0, sizeof(health));
    for (unsigned i = 0; i < BACKENDS; i++)
        backends[i] = (struct conf_backend){.host = "pbx.test", .priority = 1, .weight = 1};
    conf = (struct conf){.backends = backends, .backend_count = BACKENDS};
    local4 = address("10.0.0.2", 5060);
    local6 = address("2001:db8::2", 5060);
    now = 1000;
    return endpoints_create(&health, &endpoints);
}

static int teardown(void **state)
{
    (void)state;
    endpoints_destroy(&endpoints);
    core_view_unref(&view);
    for (unsigned i = 0; i < BACKENDS; i++)
        resolve_result_unref(&results[i]);
    return 0;
}

static void nothing_known_is_a_view_without_endpoints(void **state) /* B4 */
{
    (void)state;
    renew();
    assert_int_equal(view->endpoint_count, 0);
    assert_true(core_addr_eq(&view->local4, &local4));
    assert_true(endpoints_next(endpoints) == UINT64_MAX);
}

static void priority_is_the_files_then_the_records(void **state) /* B1 */
{
    (void)state;
    backends[1].priority = 0;
    result_set(0, ROWS({.host = "10.0.0.10"}, {.host = "10.0.0.11", .priority = 1}));
    result_set(1, ROWS({.host = "10.0.1.10", .priority = 7}, {.host = "10.0.1.11", .priority = 9}));
    renew();
    assert_int_equal(view->endpoint_count, 4);
    assert_true(at("10.0.1.10")->priority < at("10.0.1.11")->priority);
    assert_true(at("10.0.1.11")->priority < at("10.0.0.10")->priority);
    assert_true(at("10.0.0.10")->priority < at("10.0.0.11")->priority);
    assert_int_equal(at("10.0.0.11")->backend, 0);
    assert_int_equal(at("10.0.1.11")->backend, 1);
}

/* A machine's other family is for when the first one fails, and before what comes next. */
static void ipv6_of_the_same_name_comes_after_ipv4(void **state) /* B1 */
{
    (void)state;
    result_set(0, ROWS({.host = "10.0.0.10", .name = "a.test"},
                       {.host = "2001:db8::10", .name = "a.test"},
                       {.host = "2001:db8::11", .name = "b.test"},
                       {.host = "10.0.0.12", .name = "c.test", .priority = 1}));
    renew();
    assert_true(at("10.0.0.10")->priority == at("2001:db8::11")->priority);
    assert_true(at("10.0.0.10")->priority < at("2001:db8::10")->priority);
    assert_true(at("2001:db8::10")->priority < at("10.0.0.12")->priority);
}

static void weight_is_shared_by_records_and_then_by_addresses(void **state) /* B1, RFC 2782 */
{
    (void)state;
    backends[0].weight = 4;
    result_set(0, ROWS({.host = "10.0.0.10", .name = "a.test", .weight = 30},
                       {.host = "10.0.0.11", .name = "a.test", .weight = 30},
                       {.host = "10.0.0.12", .name = "b.test", .weight = 10},
                       {.host = "10.0.0.13", .name = "c.test"},
                       {.host = "10.0.0.14", .name = "d.test", .priority = 1},
                       {.host = "10.0.0.15", .name = "e.test", .priority = 1}));
    result_set(1, ROWS({.host = "10.0.1.10"}, {.host = "10.0.1.11"}));
    renew();
    assert_weight("10.0.0.10", 1.5);
    assert_weight("10.0.0.11", 1.5);
    assert_weight("10.0.0.12", 1);
    assert_weight("10.0.0.13", 0);
    assert_weight("10.0.0.14", 2); /* none has a weight: they share */
    assert_weight("10.0.0.15", 2);
    assert_weight("10.0.1.10", 0.5);
    backends[1].weight = 0;
    renew();
    assert_weight("10.0.1.10", 0);
}

static void an_address_keeps_its_slot_and_health(void **state) /* B1, B2 */
{
    unsigned slot;

    (void)state;
    result_set(0, ROWS({.host = "10.0.0.10"}, {.host = "10.0.0.11"}));
    renew();
    slot = at("10.0.0.11")->slot;
    assert_int_not_equal(slot, at("10.0.0.10")->slot);
    health_down(&health, slot);

    result_set(0, ROWS({.host = "10.0.0.9"}, {.host = "10.0.0.11", .priority = 3}));
    result_set(1, ROWS({.host = "10.0.0.11"})); /* of two backends: one address, one slot */
    renew();
    assert_int_equal(view->endpoint_count, 4); /* with 10.0.0.10 */
    for (unsigned i = 0; i < view->endpoint_count; i++)
        assert_int_equal(core_addr_eq(&view->endpoints[i].addr, &at("10.0.0.11")->addr),
                         view->endpoints[i].slot == slot);
    assert_int_equal(health_state(&health, slot), HEALTH_DOWN);
}

static void an_address_that_vanished_is_retired_for_an_hour(void **state) /* R2, R8 */
{
    struct core_addr gone = address("10.0.0.10", 5060), machine = address("10.0.0.10", 9);
    unsigned slot;

    (void)state;
    result_set(0, ROWS({.host = "10.0.0.10"}, {.host = "10.0.0.11"}));
    renew();
    slot = at("10.0.0.10")->slot;
    result_set(0, ROWS({.host = "10.0.0.11"}));
    renew();
    assert_true(at("10.0.0.10")->retired);
    assert_false(at("10.0.0.11")->retired);
    assert_int_equal(at("10.0.0.10")->slot, slot);
    assert_true(view->endpoints[view->endpoint_count - 1].retired); /* the last ones */
    assert_true(endpoint_host_known(view, &machine));
    assert_true(endpoints_next(endpoints) == now + HOUR);

    now += HOUR - 1;
    result_set(0, ROWS({.host = "10.0.0.12"}));
    renew();
    assert_true(at("10.0.0.10")->retired); /* from when it vanished, whatever came since */
    assert_true(endpoints_next(endpoints) == now + 1);
    health_down(&health, slot);
    now++;
    renew();
    assert_null(endpoint_at(view, &gone));
    assert_false(endpoint_host_known(view, &machine));
    assert_true(endpoints_next(endpoints) == now - 1 + HOUR); /* 10.0.0.11 */
}

static void one_that_comes_back_is_as_before(void **state) /* B1 */
{
    unsigned slot;

    (void)state;
    result_set(0, ROWS({.host = "10.0.0.10"}));
    renew();
    slot = at("10.0.0.10")->slot;
    result_set(0, (struct row[]){{0}});
    renew();
    assert_true(at("10.0.0.10")->retired);
    result_set(0, ROWS({.host = "10.0.0.10"}));
    renew();
    assert_false(at("10.0.0.10")->retired);
    assert_int_equal(at("10.0.0.10")->slot, slot);
    assert_true(endpoints_next(endpoints) == UINT64_MAX);
    result_set(0, (struct row[]){{0}});
    now += HOUR;
    renew();
    assert_true(endpoints_next(endpoints) == now + HOUR); /* the hour begins anew */
}

/* All slots but one in use for ever; that one goes round, and begins without a past each time. */
static void a_slot_that_is_given_again_has_no_past(void **state) /* B2 */
{
    char host[32];

    (void)state;
    for (unsigned i = 0; i < 600; i++) {
        snprintf(host, sizeof(host), "10.1.%u.%u", i / 200, i % 200);
        result_set(0, ROWS({.host = host}));
        renew();
        assert_non_null(at(host));
        assert_int_equal(health_state(&health, at(host)->slot), HEALTH_UNKNOWN);
        health_down(&health, at(host)->slot);
        now += HOUR;
        if (i % 2) {
            result_set(0, (struct row[]){{0}});
            renew();
            now += HOUR;
            renew();
            assert_int_equal(view->endpoint_count, 0);
        }
    }
}

static void more_addresses_than_slots_are_left_out(void **state) /* B1 */
{
    struct row rows[RESULTS + 1] = {0};
    char hosts[RESULTS][32];

    (void)state;
    for (unsigned round = 0; round < 6; round++) {
        for (unsigned i = 0; i < RESOLVE_ADDRESSES_MAX; i++) {
            snprintf(hosts[i], sizeof(hosts[i]), "10.2.%u.%u", round, i);
            rows[i] = (struct row){.host = hosts[i], .priority = (uint16_t)i};
        }
        result_set(0, rows);
        renew();
        assert_int_equal(view->endpoint_count, round < 4 ? 64 * (round + 1) : ENDPOINTS_MAX);
    }
    assert_null(at("10.2.5.0"));
    now += HOUR;
    renew();
    assert_non_null(at("10.2.5.63"));
}

static void auto_has_udp_and_tcp_at_one_endpoint(void **state) /* T7, B1 */
{
    (void)state;
    backends[0].transport = CONF_TRANSPORT_AUTO;
    backends[1].transport = CONF_TRANSPORT_UDP;
    result_set(0, ROWS({.host = "10.0.0.10", .priority = 0},
                       {.host = "10.0.0.10", .priority = 1, .transport = RESOLVE_TCP},
                       {.host = "10.0.0.11", .priority = 1, .transport = RESOLVE_TCP},
                       {.host = "10.0.0.12", .priority = 1, .transport = RESOLVE_TCP},
                       {.host = "10.0.0.12", .priority = 2}));
    result_set(1, ROWS({.host = "10.0.1.10"}));
    renew();
    assert_int_equal(view->endpoint_count, 4);
    assert_true(view->tcp);
    assert_true(at("10.0.0.10")->addr.kind == CORE_UDP && at("10.0.0.10")->tcp_too);
    assert_true(at("10.0.0.11")->addr.kind == CORE_TCP && !at("10.0.0.11")->tcp_too);
    assert_true(at("10.0.0.12")->addr.kind == CORE_UDP && at("10.0.0.12")->tcp_too);
    assert_int_equal(at("10.0.0.12")->priority, at("10.0.0.11")->priority);
    assert_false(at("10.0.1.10")->tcp_too);
    backends[0].transport = CONF_TRANSPORT_UDP;
    renew();
    assert_false(view->tcp);
}

static void families_without_a_local_address_are_left_out(void **state) /* B1 */
{
    (void)state;
    result_set(0, ROWS({.host = "10.0.0.10"}, {.host = "2001:db8::10"}));
    local4.in.sin_port = 0;
    renew();
    assert_null(at("10.0.0.10"));
    assert_non_null(at("2001:db8::10"));
    local4.in.sin_port = htons(5060);
    conf.core4.in = local4.in; /* the file names this family alone */
    renew();
    assert_non_null(at("10.0.0.10"));
    assert_true(at("2001:db8::10")->retired);
    result_set(1, ROWS({.host = "2001:db8::11"})); /* it has no other */
    renew();
    assert_false(at("2001:db8::11")->retired);
    memset(&conf.core4, 0, sizeof(conf.core4));
}

static void our_own_address_is_no_endpoint(void **state) /* M3 */
{
    (void)state;
    result_set(0, ROWS({.host = "10.0.0.2"}, {.host = "10.0.0.2", .transport = RESOLVE_TCP},
                       {.host = "2001:db8::2"}, {.host = "10.0.0.2", .port = 5070}));
    renew();
    assert_int_equal(view->endpoint_count, 1);
    assert_int_equal(ntohs(view->endpoints[0].addr.in.sin_port), 5070);
}

static void a_view_lives_as_long_as_it_is_referred_to(void **state)
{
    const struct core_view *kept;

    (void)state;
    result_set(0, ROWS({.host = "10.0.0.10"}));
    renew();
    kept = core_view_ref(view);
    result_set(0, ROWS({.host = "10.0.0.11"}));
    renew();
    assert_ptr_not_equal(kept, view);
    assert_false(kept->endpoints[0].retired); /* it does not change */
    assert_int_equal(kept->endpoint_count, 1);
    core_view_unref(&kept);
    assert_null(kept);
}

static uint32_t random_next(void)
{
    static uint32_t state = 1;

    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

/* Up to six addresses out of eighteen, in records with ranks and weights as a resolver sorts them.
 */
static void result_random(unsigned backend)
{
    static const char *const hosts[] = {"10.0.0.%u", "10.0.1.%u", "2001:db8::%u"};
    static const char *const names[] = {"a.test", "b.test", "c.test"};
    char texts[6][32];
    struct row rows[7] = {0};
    unsigned count = random_next() % 7, priority = 0;

    for (unsigned i = 0; i < count; i++) {
        priority += random_next() % 3 == 0;
        snprintf(texts[i], sizeof(texts[i]), hosts[random_next() % 3], 10 + random_next() % 6);
        rows[i] = (struct row){.host = texts[i],
                               .name = names[random_next() % 3],
                               .priority = (uint16_t)priority,
                               .weight = (uint16_t)(random_next() % 3 * 10),
                               .transport = random_next() % 2 ? RESOLVE_TCP : RESOLVE_UDP};
    }
    result_set(backend, rows);
}

/* Slots and addresses belong together; the weights of each rank are the file's weight, shared. */
static void view_check(const struct core_view *before)
{
    for (unsigned i = 0; i < view->endpoint_count; i++) {
        const struct endpoint *endpoint = &view->endpoints[i], *same;
        double sum = 0;

        for (unsigned j = 0; j < view->endpoint_count; j++) {
            const struct endpoint *other = &view->endpoints[j];

            assert_int_equal(core_addr_eq(&other->addr, &endpoint->addr),
                             other->slot == endpoint->slot);
            if (!other->retired && other->backend == endpoint->backend &&
                other->priority == endpoint->priority)
                sum += other->weight;
        }
        if (!endpoint->retired)
            assert_true(sum > 3 - 1e-9 && sum < 3 + 1e-9);
        assert_true(!i || endpoint->retired || !endpoint[-1].retired);
        same = before ? endpoint_at(before, &endpoint->addr) : NULL;
        if (same && core_addr_eq(&same->addr, &endpoint->addr))
            assert_int_equal(same->slot, endpoint->slot);
    }
}

static void whatever_names_come_to_a_view_is_in_order(void **state) /* B1, B3 */
{
    const struct core_view *before = NULL;

    (void)state;
    backends[0].weight = backends[1].weight = 3;
    backends[1].transport = CONF_TRANSPORT_AUTO;
    for (unsigned round = 0; round < 3000; round++) {
        result_random(round % 2);
        now += random_next() % (HOUR / 2);
        renew();
        view_check(before);
        core_view_unref(&before);
        before = core_view_ref(view);
    }
    core_view_unref(&before);
}

/* The second backend, and a new one before it. */
static void another_configuration_keeps_slots_and_retires_the_rest(void **state) /* B1, R8 */
{
    struct conf_backend list[] = {
        {.host = "new.test",               .priority = 1, .weight = 1},
        { .host = "PBX.test", .transport = CONF_TRANSPORT_TCP, .priority = 1, .weight = 1},
    };
    struct conf next = {.backends = list, .backend_count = ARRAY_LEN(list)}, none = {0};
    const struct resolve_result *of_next[2];
    unsigned slot;

    (void)state;
    backends[1].transport = CONF_TRANSPORT_TCP;
    result_set(0, ROWS({.host = "10.0.0.10"}));
    result_set(1, ROWS({.host = "10.0.0.11", .transport = RESOLVE_TCP}));
    renew();
    slot = at("10.0.0.11")->slot;
    of_next[0] = NULL;
    of_next[1] = results[1];
    core_view_unref(&view);
    assert_int_equal(endpoints_view(endpoints, &next, of_next, &local4, &local6, now, &view), 0);
    assert_ptr_equal(view->conf, &next);
    assert_int_equal(at("10.0.0.11")->slot, slot);
    assert_int_equal(at("10.0.0.11")->backend, 1);
    assert_true(at("10.0.0.10")->retired && at("10.0.0.10")->backend == ENDPOINT_NO_BACKEND);

    core_view_unref(&view); /* to the embedded registrar */
    assert_int_equal(endpoints_view(endpoints, &none, NULL, &local4, &local6, now, &view), 0);
    assert_int_equal(view->endpoints[0].addr.kind, CORE_EMBEDDED);
    assert_false(view->endpoints[0].retired);
    assert_true(at("10.0.0.11")->retired && at("10.0.0.11")->backend == ENDPOINT_NO_BACKEND);
    assert_true(view->tcp); /* its calls go on */

    renew(); /* and back */
    assert_false(at("10.0.0.10")->retired || at("10.0.0.11")->retired);
    assert_int_equal(at("10.0.0.10")->backend, 0);
    assert_int_equal(at("10.0.0.11")->slot, slot);
    assert_true(view->endpoints[2].retired && view->endpoints[2].addr.kind == CORE_EMBEDDED);
    now += HOUR;
    renew();
    assert_int_equal(view->endpoint_count, 2);
}

static void without_memory_all_stays_as_it_was(void **state) /* B1 */
{
    const struct core_view *none = NULL;
    unsigned slot;

    (void)state;
    result_set(0, ROWS({.host = "10.0.0.10"}));
    renew();
    slot = at("10.0.0.10")->slot;
    result_set(0, ROWS({.host = "10.0.0.11"}));
    for (until_failure = 1;; until_failure++) {
        unsigned long failing = until_failure;
        int err = endpoints_view(endpoints, &conf, results, &local4, &local6, now, &none);

        until_failure = failing;
        if (!err)
            break;
        assert_int_equal(err, -ENOMEM);
        assert_null(none);
        assert_true(endpoints_next(endpoints) == UINT64_MAX);
    }
    assert_int_equal(until_failure, 3);
    until_failure = 0;
    core_view_unref(&none);
    renew();
    assert_true(at("10.0.0.10")->retired);
    assert_int_equal(at("10.0.0.10")->slot, slot);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(nothing_known_is_a_view_without_endpoints),
        T(priority_is_the_files_then_the_records),
        T(ipv6_of_the_same_name_comes_after_ipv4),
        T(weight_is_shared_by_records_and_then_by_addresses),
        T(an_address_keeps_its_slot_and_health),
        T(an_address_that_vanished_is_retired_for_an_hour),
        T(one_that_comes_back_is_as_before),
        T(a_slot_that_is_given_again_has_no_past),
        T(more_addresses_than_slots_are_left_out),
        T(auto_has_udp_and_tcp_at_one_endpoint),
        T(families_without_a_local_address_are_left_out),
        T(our_own_address_is_no_endpoint),
        T(whatever_names_come_to_a_view_is_in_order),
        T(another_configuration_keeps_slots_and_retires_the_rest),
        T(without_memory_all_stays_as_it_was),
        T(a_view_lives_as_long_as_it_is_referred_to),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Which backend gets a request, while names come to other addresses, through the whole proxy (B).
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "calls.h"

enum { FIRST, SECOND, THIRD, COUNT };

static struct conf_backend backends[] = {
    {.host = "cluster.example.com", .priority = 1, .weight = 1}, /* port by SRV */
    { .host = "old.example.com",                 .port = 5070, .priority = 2, .weight = 1},
};

static struct core_addr udp(unsigned number, uint16_t port)
{
    struct core_addr addr = {.kind = CORE_UDP};

    addr.in.sin_family = AF_INET;
    addr.in.sin_port = htons(port);
    addr.in.sin_addr.s_addr = htonl(0x0a000100 + number);
    return addr;
}

/* 10.0.1.0 and 10.0.1.1 of the cluster, and behind them 10.0.1.2:5070. */
static int setup(void **state)
{
    setup_mask(state);
    edge.conf.backends = backends;
    edge.conf.backend_count = ARRAY_LEN(backends);
    edge.view.endpoint_count = COUNT;
    for (unsigned i = 0; i < COUNT; i++)
        edge.view.endpoints[i] = (struct endpoint){
            .addr = udp(i, i == THIRD ? 5070 : 5060),
            .slot = (uint16_t)i,
            .backend = i == THIRD,
            .priority = i == THIRD,
            .weight = 1,
            .name = host_name_hash(i == FIRST ? STR("one.example.com") : STR("two.example.com")),
        };
    proxy_view_set(edge.proxy, &edge.view);
    return 0;
}

static void send_of(const char *user, const char *method, unsigned serial)
{
    edge_from_client(alice,
                     "%s sip:sip.test SIP/2.0\n"
                     "Via: SIP/2.0/TLS client.invalid;branch=z9hG4bK%s%u\n"
                     "From: <sip:%s@sip.test>;tag=a\nTo: <sip:%s@sip.test>\n"
                     "Call-ID: %s%u\nCSeq: 1 %s\nContact: <sip:%s@client.invalid>",
                     method, user, serial, user, strcmp(method, "REGISTER") ? "x" : user, user,
                     serial, method, user);
}

/* The endpoint that the last message went to; -1: no message did. */
static int went_to(void)
{
    int to = -1;

    for (int i = 0; i < COUNT && edge.core.count; i++)
        if (core_addr_eq(&edge.core.to[edge.core.count - 1], &edge.view.endpoints[i].addr))
            to = i;
    return to;
}

static int backend_of(const char *user, const char *method)
{
    static unsigned serial;
    int to;

    inbox_take(&edge.core);
    send_of(user, method, ++serial);
    to = went_to();
    if (to >= 0) {
        edge.pbx = edge.view.endpoints[to].addr;
        edge_from_core(
            &edge, "%s",
            response_to(inbox_last(&edge.core), "480 Temporarily Unavailable", "x", NULL));
    }
    return to;
}

static void a_user_stays_with_one_backend(void **state) /* B3, B1 */
{
    static const char *const methods[] = {"REGISTER", "INVITE", "MESSAGE", "SUBSCRIBE", "OPTIONS"};
    unsigned users[COUNT] = {0};
    char user[16];

    (void)state;
    for (unsigned i = 0; i < 24; i++) {
        snprintf(user, sizeof(user), "user%u", i);
        int backend = backend_of(user, methods[0]);

        assert_true(backend >= 0);
        users[backend]++;
        for (size_t j = 1; j < ARRAY_LEN(methods); j++)
            assert_int_equal(backend_of(user, methods[j]), backend);
        inbox_take(&alice->inbox);
        edge_wait(&edge, 40000); /* transactions of one connection are limited */
    }
    assert_true(users[FIRST] > 4 && users[SECOND] > 4);
    assert_int_equal(users[THIRD], 0);
}

static void one_that_is_down_moves_its_own_users(void **state) /* B3, B3 refused */
{
    int before[12];
    char user[16];

    (void)state;
    for (int i = 0; i < 12; i++) {
        snprintf(user, sizeof(user), "user%d", i);
        before[i] = backend_of(user, "MESSAGE");
    }
    health_down(&edge.health, FIRST);
    for (int i = 0; i < 12; i++) {
        snprintf(user, sizeof(user), "user%d", i);
        assert_int_equal(backend_of(user, "MESSAGE"), SECOND);
    }
    health_busy(&edge.health, SECOND, edge.now + 5000);
    assert_int_equal(backend_of("user1", "MESSAGE"), THIRD); /* of lesser rank */
    health_up(&edge.health, FIRST);
    edge_wait(&edge, 5000);
    for (int i = 0; i < 12; i++) {
        snprintf(user, sizeof(user), "user%d", i);
        assert_int_equal(backend_of(user, "MESSAGE"), before[i]);
    }
}

static void none_that_is_up_is_503_at_once(void **state) /* B4, T5 */
{
    static const char *const methods[] = {"INVITE", "REGISTER", "MESSAGE", "PUBLISH"};

    (void)state;
    for (unsigned i = 0; i < COUNT; i++)
        health_down(&edge.health, i);
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        assert_int_equal(backend_of("alice", methods[i]), -1);
        assert_memory_equal(inbox_last(&alice->inbox), "SIP/2.0 503 No Backend Is Up\r\n", 30);
        assert_string_equal(header_of(inbox_last(&alice->inbox), "Retry-After", 0), "10");
    }
    health_up(&edge.health, THIRD);
    health_busy(&edge.health, THIRD, edge.now + 33500);
    assert_int_equal(backend_of("alice", "MESSAGE"), -1);
    assert_string_equal(header_of(inbox_last(&alice->inbox), "Retry-After", 0), "34");
    edge_wait(&edge, 33500);
    assert_int_equal(backend_of("alice", "MESSAGE"), THIRD);
}

static void names_that_came_to_nothing_are_503_until_they_do(void **state) /* B4, B1 */
{
    struct core_view empty = {.references = 1, .conf = &edge.conf, .local4 = edge.view.local4};

    (void)state;
    proxy_view_set(edge.proxy, &empty);
    assert_int_equal(backend_of("alice", "REGISTER"), -1);
    assert_memory_equal(inbox_last(&alice->inbox), "SIP/2.0 503 ", 12);
    proxy_view_set(edge.proxy, &edge.view);
    assert_true(backend_of("alice", "REGISTER") >= 0);
}

static void bye_along(const char *route)
{
    static unsigned serial;

    serial++;
    edge_from_client(alice,
                     "BYE sip:x@192.0.2.99 SIP/2.0\n"
                     "Via: SIP/2.0/TLS client.invalid;branch=z9hG4bKbye%u\n"
                     "From: <sip:alice@sip.test>;tag=a\nTo: <sip:x@sip.test>;tag=b\n"
                     "Call-ID: bye\nCSeq: %u BYE\nRoute: <%s>",
                     serial, serial, route);
}

static void a_dialog_stays_where_it_is_whatever_the_names_say(void **state) /* B3, R2, R8 */
{
    struct core_view after = edge.view;

    (void)state;
    after.endpoints[0].retired = after.endpoints[1].retired = true;
    after.references = 1;
    proxy_view_set(edge.proxy, &after);
    assert_int_equal(backend_of("alice", "INVITE"), THIRD);
    health_down(&edge.health, FIRST); /* it may have come back; who else could know the call? */
    bye_along("sip:10.0.1.0;lr");
    assert_int_equal(went_to(), FIRST);
    bye_along("sip:two.example.com;lr");
    assert_int_equal(went_to(), SECOND);
    edge.pbx = edge.view.endpoints[FIRST].addr;
    inbox_take(&edge.core);
    edge_from_core(&edge, FROM_PBX("OPTIONS", "sip:10.0.0.2", ""));
    assert_memory_equal(inbox_last(&edge.core), "SIP/2.0 200 ", 12);
    proxy_view_set(edge.proxy, &edge.view);
}

static void one_retired_for_good_is_a_stranger(void **state) /* R2 refused, R8 refused */
{
    struct core_view after = edge.view;

    (void)state;
    after.references = 1;
    after.endpoint_count = 1;
    after.endpoints[0] = edge.view.endpoints[THIRD];
    proxy_view_set(edge.proxy, &after);
    bye_along("sip:10.0.1.0;lr");
    assert_int_equal(went_to(), -1);
    assert_memory_equal(inbox_last(&alice->inbox), "SIP/2.0 403 Route Is No Backend\r\n", 33);
    edge.pbx = edge.view.endpoints[FIRST].addr;
    edge_from_core(&edge, FROM_PBX("OPTIONS", "sip:10.0.0.2", ""));
    assert_int_equal(edge.core.count, 0);
    assert_int_equal(proxy_counters(edge.proxy)->dropped_foreign, 1);
    proxy_view_set(edge.proxy, &edge.view);
}

static const struct {
    const char *uri;
    int to; /* -1: 403; COUNT: alice's own of the cluster's */
} routes[] = {
    {"sip:10.0.1.1;lr",               SECOND},
    {"sip:10.0.1.1:5060;lr",          SECOND},
    {"sip:10.0.1.1:5061;lr",          -1    },
    {"sip:one.example.com;lr",        FIRST },
    {"sip:ONE.Example.com:5060;lr",   FIRST },
    {"sip:one.example.com:5070;lr",   -1    },
    {"sip:two.example.com:5070;lr",   THIRD },
    {"sip:old.example.com:5070;lr",   THIRD },
    {"sip:old.example.com;lr",        -1    },
    {"sip:Cluster.example.com;lr",    COUNT },
    {"sip:cluster.example.com:1;lr",  -1    },
    {"sip:three.example.com;lr",      -1    },
    {"sip:one.example.com.evil.x;lr", -1    },
};

static void names_in_a_route_are_those_of_backends(void **state) /* R2, R4, B1, R2 refused */
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
        int own = backend_of("alice", "MESSAGE");

        inbox_take(&edge.core);
        bye_along(routes[i].uri);
        if (went_to() != (routes[i].to == COUNT ? own : routes[i].to))
            fail_msg("%s went to %d", routes[i].uri, went_to());
        if (routes[i].to < 0)
            assert_memory_equal(inbox_last(&alice->inbox), "SIP/2.0 403 ", 12);
        inbox_take(&alice->inbox);
    }
    health_down(&edge.health, FIRST);
    health_down(&edge.health, SECOND);
    bye_along("sip:cluster.example.com;lr"); /* in a dialog there is no other */
    assert_true(went_to() == FIRST || went_to() == SECOND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(a_user_stays_with_one_backend),
        T(one_that_is_down_moves_its_own_users),
        T(none_that_is_up_is_503_at_once),
        T(names_that_came_to_nothing_are_503_until_they_do),
        T(a_dialog_stays_where_it_is_whatever_the_names_say),
        T(one_retired_for_good_is_a_stranger),
        T(names_in_a_route_are_those_of_backends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

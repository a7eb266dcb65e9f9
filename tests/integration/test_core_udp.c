#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "proxy/core_udp.h"

/* Two sockets on one loop: what one sends, the other receives. */
struct pair {
    uv_loop_t loop;
    struct core_addr addr[2];
    struct core_udp *udp[2];
    unsigned received;
    size_t bytes, last_len;
    struct core_addr last_from;
    bool broken;
    unsigned refused;
    struct core_addr last_refused;
    int last_error;
    char last_quoted[16];
};

static struct core_addr loopback(int family)
{
    struct core_addr addr = {.kind = CORE_UDP};
    socklen_t len = sizeof(addr.in6);
    int fd = socket(family, SOCK_DGRAM, 0);

    assert_true(fd >= 0);
    addr.sa.sa_family = (sa_family_t)family;
    if (family == AF_INET)
        addr.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else
        addr.in6.sin6_addr = in6addr_loopback;
    assert_int_equal(bind(fd, &addr.sa, len), 0);
    assert_int_equal(getsockname(fd, &addr.sa, &len), 0); /* a free port */
    close(fd);
    return addr;
}

/* Byte i of a datagram is its length plus i. */
static void received(void *context, const struct core_addr *from, char *bytes, size_t len)
{
    struct pair *pair = context;

    pair->received++;
    pair->bytes += len;
    pair->last_len = len;
    pair->last_from = *from;
    for (size_t i = 0; i < len; i++)
        if (bytes[i] != (char)(len + i))
            pair->broken = true;
}

static void refused(void *context, const struct core_addr *to, int err, struct str quoted)
{
    struct pair *pair = context;

    pair->refused++;
    pair->last_refused = *to;
    pair->last_error = err;
    snprintf(pair->last_quoted, sizeof(pair->last_quoted), STR_FMT, STR_ARG(quoted));
}

static void pair_open(struct pair *pair, int family)
{
    *pair = (struct pair){0};
    assert_int_equal(uv_loop_init(&pair->loop), 0);
    for (int i = 0; i < 2; i++) {
        struct core_udp_options options = {.loop = &pair->loop,
                                           .local = &pair->addr[i],
                                           .received = received,
                                           .refused = refused,
                                           .context = pair};

        pair->addr[i] = loopback(family);
        assert_int_equal(core_udp_open(&options, &pair->udp[i]), 0);
    }
}

static void pair_close(struct pair *pair)
{
    core_udp_close(&pair->udp[0]);
    core_udp_close(&pair->udp[1]);
    uv_run(&pair->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&pair->loop), 0);
}

static void pair_send(struct pair *pair, size_t len)
{
    static char bytes[65536];

    for (size_t i = 0; i < len; i++)
        bytes[i] = (char)(len + i);
    assert_int_equal(core_udp_send(pair->udp[0], &pair->addr[1], (struct str){bytes, len}), 0);
}

static void give_up(uv_timer_t *timer)
{
    (void)timer;
    fail_msg("nothing came in time");
}

/* Until so many datagrams have come in all, and so many addresses were refused. */
static void pair_run_until(struct pair *pair, unsigned received, unsigned refused)
{
    uv_timer_t deadline;

    uv_timer_init(&pair->loop, &deadline);
    uv_timer_start(&deadline, give_up, 10000, 0);
    while (pair->received < received || pair->refused < refused)
        uv_run(&pair->loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&deadline, NULL);
    uv_run(&pair->loop, UV_RUN_NOWAIT);
}

static void pair_run(struct pair *pair, unsigned count)
{
    pair_run_until(pair, count, 0);
}

static const int families[] = {AF_INET, AF_INET6};

static void datagrams_of_any_size_arrive_whole_from_the_core_address(void **state)
{
    static const size_t sizes[] = {0, 1, 1300, 6000, 65507};

    (void)state;
    for (size_t f = 0; f < ARRAY_LEN(families); f++) {
        struct pair pair;

        pair_open(&pair, families[f]);
        for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
            pair_send(&pair, sizes[i]);
            pair_run(&pair, (unsigned)i + 1);
            assert_int_equal(pair.last_len, sizes[i]);
            assert_true(core_addr_eq(&pair.last_from, &pair.addr[0]));
        }
        assert_false(pair.broken);
        pair_close(&pair);
    }
}

static void more_than_a_queue_in_one_turn_goes_out_in_order(void **state)
{
    struct pair pair;

    (void)state;
    pair_open(&pair, AF_INET);
    for (int i = 0; i < 150; i++)
        pair_send(&pair, 500);
    pair_run(&pair, 150);
    assert_int_equal(core_udp_counters(pair.udp[0])->sent, 150);
    assert_int_equal(core_udp_counters(pair.udp[1])->received, 150);
    assert_int_equal(pair.bytes, 150 * 500);
    assert_false(pair.broken);
    pair_close(&pair);
}

static void what_can_not_be_sent_does_not_stop_what_can(void **state)
{
    struct core_addr nobody = loopback(AF_INET), other_family = loopback(AF_INET6);
    static char big[65536];
    struct pair pair;

    (void)state;
    pair_open(&pair, AF_INET);
    assert_int_equal(core_udp_send(pair.udp[0], &nobody, STR("x")), 0); /* ICMP port unreachable */
    assert_int_equal(core_udp_send(pair.udp[0], &pair.addr[1], (struct str){big, sizeof(big)}),
                     -EMSGSIZE);
    assert_int_equal(core_udp_send(pair.udp[0], &pair.addr[1], (struct str){big, 65535}), 0);
    assert_int_equal(core_udp_send(pair.udp[0], &other_family, STR("x")), 0);
    for (int i = 0; i < 10; i++) {
        pair_send(&pair, 100);
        pair_run(&pair, (unsigned)i + 1);
    }
    assert_true(core_udp_counters(pair.udp[0])->send_dropped >= 2);
    pair_close(&pair);
}

static void who_does_not_listen_is_told_by_its_address(void **state) /* B2 */
{
    (void)state;
    for (size_t f = 0; f < ARRAY_LEN(families); f++) {
        struct core_addr nobody = loopback(families[f]);
        struct pair pair;

        pair_open(&pair, families[f]);
        for (unsigned i = 1; i <= 3; i++) { /* each time anew: the socket goes on */
            assert_int_equal(core_udp_send(pair.udp[0], &nobody, STR("INVITE it")), 0);
            pair_send(&pair, 100);
            pair_run_until(&pair, i, i);
            assert_true(core_addr_eq(&pair.last_refused, &nobody));
            assert_int_equal(pair.last_error, -ECONNREFUSED);
            assert_string_equal(pair.last_quoted, "INVITE it");
        }
        for (unsigned i = 0; i < 50; i++) { /* what is sent between is not lost */
            assert_int_equal(core_udp_send(pair.udp[0], &nobody, STR("x")), 0);
            pair_send(&pair, 7);
        }
        pair_run_until(&pair, 53, 4);
        assert_int_equal(core_udp_counters(pair.udp[0])->send_dropped, 0);
        assert_false(pair.broken);
        pair_close(&pair);
    }
}

static void workers_share_the_address(void **state)
{
    struct pair pair;
    struct core_udp *second = NULL;

    (void)state;
    pair_open(&pair, AF_INET);
    struct core_udp_options options = {.loop = &pair.loop,
                                       .local = &pair.addr[0],
                                       .received = received,
                                       .refused = refused,
                                       .context = &pair};
    assert_int_equal(core_udp_open(&options, &second), 0);
    core_udp_close(&second);

    struct core_addr elsewhere = {.kind = CORE_UDP};
    elsewhere.in = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(5060)};
    assert_int_equal(inet_pton(AF_INET, "192.0.2.1", &elsewhere.in.sin_addr), 1);
    options.local = &elsewhere;
    assert_int_equal(core_udp_open(&options, &second), -EADDRNOTAVAIL);
    pair_close(&pair);
}

static void the_route_to_a_backend_names_our_address(void **state)
{
    for (size_t f = 0; f < ARRAY_LEN(families); f++) {
        struct core_addr to = loopback(families[f]), local, expected = to;

        (void)state;
        assert_int_equal(core_udp_route(&to, &local), 0);
        if (families[f] == AF_INET)
            expected.in.sin_port = 0;
        else
            expected.in6.sin6_port = 0;
        assert_true(core_addr_eq(&local, &expected));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(datagrams_of_any_size_arrive_whole_from_the_core_address),
        cmocka_unit_test(more_than_a_queue_in_one_turn_goes_out_in_order),
        cmocka_unit_test(what_can_not_be_sent_does_not_stop_what_can),
        cmocka_unit_test(who_does_not_listen_is_told_by_its_address),
        cmocka_unit_test(workers_share_the_address),
        cmocka_unit_test(the_route_to_a_backend_names_our_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "pki.h"
#include "proxy/log.h"
#include "tls_edge.h"

#define TEST(name) static void name(void **state)

static const struct client_options plain = {.plain = true};

static void setup(struct edge *edge)
{
    edge_setup(edge);
    edge_start(edge, CONF_TCP, "127.0.0.1");
}

static int option(int fd, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof(value);

    assert_int_equal(getsockopt(fd, level, name, &value, &len), 0);
    return value;
}

TEST(accepted_sockets_have_their_options)
{
    struct client client;
    struct edge edge;

    (void)state;
    setup(&edge);
    client_open(&client, &edge, &plain);
    assert_true(option(edge.accepted_fd, IPPROTO_TCP, TCP_NODELAY));
    assert_int_equal(option(edge.accepted_fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 30000);
    assert_int_equal(option(edge.accepted_fd, IPPROTO_TCP, TCP_KEEPIDLE), 300);
    assert_int_equal(option(edge.accepted_fd, IPPROTO_TCP, TCP_KEEPINTVL), 30);
    assert_true(option(edge.accepted_fd, SOL_SOCKET, SO_KEEPALIVE));
    assert_true(fcntl(edge.accepted_fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(edge.accepted_fd, F_GETFD) & FD_CLOEXEC);
    client_close(&client);
    edge_teardown(&edge);
}

TEST(connections_over_the_limit_are_closed_at_once)
{
    struct client clients[3], again;
    struct edge edge;

    (void)state;
    edge_setup(&edge);
    edge.conf.limits.connections = 2;
    edge_start(&edge, CONF_TCP, "127.0.0.1");
    client_open(&clients[0], &edge, &plain);
    client_open(&clients[1], &edge, &plain);
    client_connect(&clients[2], &edge, &plain);
    assert_int_equal(client_ended(&clients[2]), CLIENT_CLOSED_PROPERLY);
    assert_int_equal(atomic_load(&edge.connections), 2);
    client_close(&clients[0]); /* and its place is free again */
    UNTIL(&edge, streams_count(edge.streams) == 1);
    client_open(&again, &edge, &plain);
    assert_int_equal(atomic_load(&edge.connections), 2);
    client_close(&clients[1]);
    client_close(&clients[2]);
    client_close(&again);
    edge_teardown(&edge);
}

TEST(without_descriptors_clients_wait_until_there_are_some)
{
    struct rlimit before, none;
    struct client client;
    struct edge edge;
    int next;

    (void)state;
    setup(&edge);
    client_connect(&client, &edge, &plain);
    next = dup(client.fd); /* the lowest one that is free: nothing from here on */
    assert_true(next >= 0);
    close(next);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = (rlim_t)next;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    for (int i = 0; i < 10; i++)
        edge_turn(&edge);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(edge.proxy.opened, 0);
    UNTIL(&edge, edge.proxy.opened == 1);
    client_close(&client);
    edge_teardown(&edge);
}

TEST(a_storm_is_accepted_over_several_turns)
{
    enum { COUNT = 150 };
    static struct client clients[COUNT];
    struct edge edge;

    (void)state;
    edge_setup(&edge);
    edge.conf.limits.connections = COUNT;
    edge_start(&edge, CONF_TCP, "127.0.0.1");
    for (int i = 0; i < COUNT; i++)
        client_connect(&clients[i], &edge, &plain);
    edge_turn(&edge);
    assert_in_range(edge.proxy.opened, 1, 64);
    UNTIL(&edge, edge.proxy.opened == COUNT);
    for (int i = 0; i < COUNT; i++)
        client_close(&clients[i]);
    edge_teardown(&edge);
}

TEST(two_workers_share_a_port_and_a_stranger_is_noticed)
{
    struct listener_options options;
    struct conf_listener same;
    struct listener *second = NULL;
    struct edge edge;

    (void)state;
    setup(&edge);
    same = edge.listen;
    same.address.in.sin_port = htons(listener_port(edge.listener));
    assert_int_equal(listener_probe(&same), -EADDRINUSE);
    options = (struct listener_options){
        .loop = &edge.loop, .conf = &same, .connections = &edge.connections};
    assert_int_equal(listener_open(&options, &second), 0);
    listener_close(&second);
    assert_null(second);
    listener_close(&edge.listener);
    assert_int_equal(listener_probe(&same), 0);
    edge_teardown(&edge);
}

TEST(address_that_is_not_ours_is_an_error)
{
    struct conf_listener foreign = {.address.in = {.sin_family = AF_INET}};
    struct listener_options options = {.conf = &foreign};
    struct listener *listener = NULL;
    uv_loop_t loop;

    (void)state;
    assert_int_equal(inet_pton(AF_INET, "192.0.2.1", &foreign.address.in.sin_addr), 1);
    assert_int_equal(uv_loop_init(&loop), 0);
    options.loop = &loop;
    assert_int_equal(listener_open(&options, &listener), -EADDRNOTAVAIL);
    assert_int_equal(listener_probe(&foreign), -EADDRNOTAVAIL);
    assert_null(listener);
    assert_int_equal(uv_loop_close(&loop), 0);
}

static int group_setup(void **state)
{
    (void)state;
    pki_make(&(struct pki_spec){.san = "DNS:sip.example.com"}, "ec.pem", "ec.key");
    pki_make(&(struct pki_spec){.san = "DNS:*.example.org"}, "wild.pem", "wild.key");
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    pki_remove();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepted_sockets_have_their_options),
        cmocka_unit_test(connections_over_the_limit_are_closed_at_once),
        cmocka_unit_test(without_descriptors_clients_wait_until_there_are_some),
        cmocka_unit_test(a_storm_is_accepted_over_several_turns),
        cmocka_unit_test(two_workers_share_a_port_and_a_stranger_is_noticed),
        cmocka_unit_test(address_that_is_not_ours_is_an_error),
    };

    log_open(LOG_ERROR, false);
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}

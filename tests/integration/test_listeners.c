/* The listeners of a worker while configurations come and go, on real sockets. */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "listeners.h"
#include "proxy/log.h"

static uv_loop_t loop;
static atomic_uint connections;
static struct listeners set;
static char *errors;
static size_t errors_len;
static FILE *out;
static unsigned accepted_by[CONF_LISTENERS_MAX]; /* by its line */

static void accepted(void *context, const struct conf_listener *conf, int fd,
                     const struct sockaddr *peer, const struct sockaddr *local)
{
    (void)context, (void)peer, (void)local;
    accepted_by[conf->line]++;
    close(fd);
}

static uint16_t free_port(void)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(any);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&any, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&any, &len), 0);
    close(fd);
    return ntohs(any.sin_port);
}

static struct conf_listener at(uint16_t port, int line)
{
    struct conf_listener listener = {.kind = CONF_TCP, .line = line};

    listener.address.in.sin_family = AF_INET;
    listener.address.in.sin_port = htons(port);
    listener.address.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return listener;
}

/* 0, or a negative errno. The connection waits where nobody accepts. */
static int client(uint16_t port)
{
    struct conf_listener there = at(port, 0);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int err = connect(fd, &there.address.sa, sizeof(there.address.in)) ? -errno : 0;

    close(fd);
    return err;
}

static void turns(void)
{
    for (int i = 0; i < 5; i++)
        uv_run(&loop, UV_RUN_NOWAIT);
}

static int setup(void **state)
{
    (void)state;
    memset(&set, 0, sizeof(set));
    memset(accepted_by, 0, sizeof(accepted_by));
    set.options =
        (struct listener_options){.loop = &loop, .connections = &connections, .accepted = accepted};
    assert_int_equal(uv_loop_init(&loop), 0);
    out = open_memstream(&errors, &errors_len);
    return out ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    listeners_close(&set);
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&loop), 0);
    assert_int_equal(fclose(out), 0);
    free(errors);
    return 0;
}

static void one_that_stays_keeps_who_waits(void **state)
{
    uint16_t kept = free_port(), gone = free_port(), new = free_port();
    struct conf_listener before[] = {at(kept, 1), at(gone, 2)}, after[] = {at(new, 3), at(kept, 4)};
    struct conf first = {.listeners = before, .listener_count = 2, .connections_max = 100};
    struct conf second = {.listeners = after, .listener_count = 2, .connections_max = 100};

    (void)state;
    assert_int_equal(listeners_open(&set, &first, out), 0);
    assert_int_equal(listeners_start(&set), 0);
    assert_int_equal(client(kept), 0);
    assert_int_equal(client(gone), 0);
    assert_int_equal(listeners_prepare(&set, &second, out), 0);
    assert_int_equal(client(new), 0); /* it waits until this is taken */
    listeners_take(&set, &second);    /* and so does who came to the other two */
    turns();
    assert_int_equal(accepted_by[2], 1);
    assert_int_equal(accepted_by[3], 1);
    assert_int_equal(accepted_by[4], 1);
    assert_int_equal(client(gone), -ECONNREFUSED);
    assert_int_equal(client(new), 0);
    turns();
    assert_int_equal(accepted_by[3], 2);
    listeners_close(&set); /* a stop: nothing comes back */
    assert_int_equal(listeners_prepare(&set, &first, out), 0);
    listeners_take(&set, &first);
    assert_int_equal(client(kept), -ECONNREFUSED);
}

static void what_can_not_be_had_changes_nothing(void **state)
{
    uint16_t kept = free_port(), new = free_port();
    struct conf_listener before[] = {at(kept, 1)}, after[] = {at(new, 2), at(new, 3)};
    struct conf first = {.path = "FILE", .listeners = before, .listener_count = 1};
    struct conf second = {.path = "FILE", .listeners = after, .listener_count = 2};

    (void)state;
    after[1].address.in.sin_addr.s_addr = htonl(0xc0000201); /* 192.0.2.1 */
    first.connections_max = second.connections_max = 100;
    assert_int_equal(listeners_open(&set, &first, out), 0);
    assert_int_equal(listeners_start(&set), 0);
    assert_int_equal(listeners_probe(&second, &first, out), -EADDRNOTAVAIL);
    assert_int_equal(listeners_probe(&first, NULL, out), -EADDRINUSE);
    assert_int_equal(listeners_probe(&first, &first, out), 0); /* by ourselves */
    assert_int_equal(listeners_prepare(&set, &second, out), -EADDRNOTAVAIL);
    assert_int_equal(fflush(out), 0);
    assert_non_null(strstr(errors, "FILE:3: listen: tcp 192.0.2.1:"));
    assert_int_equal(client(new), -ECONNREFUSED);
    assert_int_equal(client(kept), 0);
    turns();
    assert_int_equal(accepted_by[1], 1);

    assert_int_equal(listeners_prepare(&set, &first, out), 0);
    listeners_forget(&set);
    assert_int_equal(client(kept), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_that_stays_keeps_who_waits, setup, teardown),
        cmocka_unit_test_setup_teardown(what_can_not_be_had_changes_nothing, setup, teardown),
    };

    log_open(LOG_ERROR, false);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

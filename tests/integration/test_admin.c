/* The admin side's HTTP with pages of the test's own, over loopback. */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <uv.h>

#include "admin/admin.h"

enum { LARGE = 16 << 20, GOT_MAX = LARGE + 4096, PATIENCE_MS = 20000 };

static uv_loop_t loop;
static struct admin *admin;
static char got[GOT_MAX]; /* what came last */
static size_t got_len;

/* ---- pages ---- */

static struct admin_request *waiting[4];
static unsigned waiting_count;

static void late(void *context, struct admin_request *request)
{
    assert_ptr_equal(context, &waiting);
    waiting[waiting_count++] = request;
}

static void large(void *context, struct admin_request *request)
{
    char *body = malloc(LARGE);

    (void)context;
    assert_non_null(body);
    memset(body, 'x', LARGE);
    admin_answer(request, 200, "text/plain", body, LARGE);
}

static void below(void *context, struct admin_request *request)
{
    const char *first = admin_request_argument(request, "a");
    char text[256];

    (void)context;
    assert_null(admin_request_argument(request, "none"));
    snprintf(text, sizeof(text), "%s of %s, a is %s", admin_request_rest(request),
             admin_request_page(request)->path, first ? first : "not there");
    admin_answer_text(request, 200, text);
}

static void no_memory(void *context, struct admin_request *request)
{
    (void)context;
    admin_answer(request, 200, "text/plain", NULL, 0);
}

static const struct admin_page pages[] = {
    {"/late",      "comes later", true, late,      NULL, NULL},
    {"/large",     "is large",    true, large,     NULL, NULL},
    {"/below/",    NULL,          true, below,     NULL, NULL},
    {"/no-memory", NULL,          true, no_memory, NULL, NULL},
};

/* ---- a client ---- */

static union conf_sockaddr loopback(const char *host, uint16_t port)
{
    union conf_sockaddr address = {{0}};

    address.in.sin_family = AF_INET;
    address.in.sin_port = htons(port);
    assert_int_equal(inet_pton(AF_INET, host, &address.in.sin_addr), 1);
    return address;
}

static uint16_t port_now(void)
{
    char text[ADMIN_ADDRESS_TEXT];

    assert_true(admin_address(admin, text));
    return (uint16_t)strtoul(strrchr(text, ':') + 1, NULL, 10);
}

/* -ECONNREFUSED: nobody is there. */
static int dial(const char *host, uint16_t port)
{
    union conf_sockaddr address = loopback(host, port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    if (!connect(fd, &address.sa, sizeof(address.in)))
        return fd;
    close(fd);
    return -errno;
}

static void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* Let the loop run until so much has come that `is_enough`, or the connection has ended. */
static bool hear(int fd, bool (*is_enough)(void))
{
    uint64_t until = uv_hrtime() / 1000000 + PATIENCE_MS;

    got_len = 0;
    got[0] = '\0';
    while (!is_enough()) {
        ssize_t len;

        uv_run(&loop, UV_RUN_NOWAIT);
        len = recv(fd, got + got_len, GOT_MAX - 1 - got_len, MSG_DONTWAIT);
        if (len == 0 || (len < 0 && errno != EAGAIN))
            return false;
        if (len < 0)
            usleep(500);
        got_len += len > 0 ? (size_t)len : 0;
        got[got_len] = '\0';
        assert_true(uv_hrtime() / 1000000 < until);
    }
    return true;
}

static bool a_line_of_body(void)
{
    const char *body = strstr(got, "\r\n\r\n");

    return body && strchr(body + 4, '\n');
}

static bool a_large_body(void)
{
    return got_len > LARGE && strstr(got, "\r\n\r\n") + 4 + LARGE == got + got_len;
}

static bool never(void)
{
    return false;
}

static void turn(void)
{
    for (int i = 0; i < 20; i++) {
        uv_run(&loop, UV_RUN_NOWAIT);
        usleep(500);
    }
}

static void asked(unsigned count)
{
    uint64_t until = uv_hrtime() / 1000000 + PATIENCE_MS;

    while (waiting_count < count && uv_hrtime() / 1000000 < until)
        uv_run(&loop, UV_RUN_NOWAIT);
    assert_int_equal(waiting_count, count);
}

static void get_is(int fd, const char *target, const char *end)
{
    char request[256];

    snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", target);
    say(fd, request);
    assert_true(hear(fd, a_line_of_body));
    assert_string_equal(strstr(got, "\r\n\r\n") + 4, end);
}

/* ---- */

static int setup(void **state)
{
    const struct admin_options options = {.loop = &loop,
                                          .pages = pages,
                                          .page_count = sizeof(pages) / sizeof(pages[0]),
                                          .context = &waiting};
    union conf_sockaddr address = loopback("127.0.0.1", 0);

    (void)state;
    waiting_count = 0;
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(admin_open(&options, &admin), 0);
    return admin_listen(admin, &address);
}

static int teardown(void **state)
{
    (void)state;
    admin_close(&admin);
    uv_run(&loop, UV_RUN_DEFAULT);
    return uv_loop_close(&loop);
}

static void a_page_may_answer_later(void **state)
{
    int fd = dial("127.0.0.1", port_now()), other = dial("127.0.0.1", port_now());

    (void)state;
    say(fd, "GET /late HTTP/1.1\r\nHost: a\r\n\r\n");
    asked(1);
    get_is(other, "/below/this?a=1%202&b", "this of /below/, a is 1 2\n"); /* it holds up nobody */
    admin_answer_text(waiting[0], 200, "at last");
    assert_true(hear(fd, a_line_of_body));
    assert_string_equal(strstr(got, "\r\n\r\n") + 4, "at last\n");
    get_is(fd, "/below/deep/er", "deep/er of /below/, a is not there\n"); /* it is still open */
    close(fd);
    close(other);
}

static void whose_client_is_gone_is_answered_all_the_same(void **state)
{
    int fd = dial("127.0.0.1", port_now());

    (void)state;
    say(fd, "GET /late HTTP/1.1\r\nHost: a\r\n\r\n");
    asked(1);
    close(fd);
    turn();
    admin_answer_text(waiting[0], 200, "to nobody");
    turn();

    fd = dial("127.0.0.1", port_now());
    say(fd, "GET /late HTTP/1.1\r\nHost: a\r\n\r\n");
    asked(2);
    admin_answer_text(waiting[1], 200, "at the end"); /* and right then it closes */
    admin_close(&admin);
    assert_true(hear(fd, a_line_of_body));
    assert_string_equal(strstr(got, "\r\n\r\n") + 4, "at the end\n");
    close(fd);
}

static void a_large_page_waits_for_its_reader(void **state)
{
    int fd = dial("127.0.0.1", port_now()), other = dial("127.0.0.1", port_now());

    (void)state;
    say(fd, "GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
    turn();
    get_is(other, "/below/x", "x of /below/, a is not there\n");
    assert_true(hear(fd, a_large_body));
    say(fd, "GET /large HTTP/1.1\r\nHost: a\r\n\r\n"); /* and this is cut by the end */
    turn();
    close(other);
    admin_close(&admin);
    assert_false(hear(fd, never));
    assert_true(got_len < LARGE);
    close(fd);
}

static void without_memory_the_connection_ends(void **state)
{
    int fd = dial("127.0.0.1", port_now());

    (void)state;
    say(fd, "GET /no-memory HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_false(hear(fd, never));
    assert_int_equal(got_len, 0);
    close(fd);
}

static void it_moves_to_another_address(void **state)
{
    union conf_sockaddr address, taken = {{0}}, none = {{0}};
    socklen_t len = sizeof(taken);
    int fd = dial("127.0.0.1", port_now()), other = socket(AF_INET, SOCK_STREAM, 0);
    uint16_t port = port_now();
    char text[ADMIN_ADDRESS_TEXT];

    (void)state;
    get_is(fd, "/below/a", "a of /below/, a is not there\n");
    taken = loopback("127.0.0.1", 0); /* one that can't be had leaves all as it was */
    assert_int_equal(bind(other, &taken.sa, sizeof(taken.in)), 0);
    assert_int_equal(listen(other, 1), 0);
    assert_int_equal(getsockname(other, &taken.sa, &len), 0);
    assert_int_equal(admin_listen(admin, &taken), -EADDRINUSE);
    assert_int_equal(port_now(), port);

    address = loopback("0.0.0.0", port); /* that one is its own */
    assert_int_equal(admin_listen(admin, &address), 0);
    assert_int_equal(port_now(), port);
    get_is(fd, "/below/b", "b of /below/, a is not there\n"); /* who is there stays */
    close(fd);
    fd = dial("127.0.0.2", port);
    get_is(fd, "/below/c", "c of /below/, a is not there\n");

    address = loopback("127.0.0.3", 0);
    assert_int_equal(admin_listen(admin, &address), 0);
    assert_int_equal(dial("127.0.0.2", port), -ECONNREFUSED);
    get_is(fd, "/below/d", "d of /below/, a is not there\n");
    assert_int_equal(admin_listen(admin, &none), 0);
    assert_false(admin_address(admin, text));
    get_is(fd, "/below/e", "e of /below/, a is not there\n");
    close(fd);
    close(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_page_may_answer_later, setup, teardown),
        cmocka_unit_test_setup_teardown(whose_client_is_gone_is_answered_all_the_same, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_large_page_waits_for_its_reader, setup, teardown),
        cmocka_unit_test_setup_teardown(without_memory_the_connection_ends, setup, teardown),
        cmocka_unit_test_setup_teardown(it_moves_to_another_address, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

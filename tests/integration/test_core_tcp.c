#include <errno.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmocka.h>

#include "proxy/core_tcp.h"

enum { MESSAGE_MAX = 65536, DEADLINE_MS = 10000, EVENTS_MAX = 512 };

#define OPTIONS(id) "OPTIONS sip:x SIP/2.0\r\nCall-ID: " id "\r\nContent-Length: 3\r\n\r\nabc"

/* One worker's connections, and what they told it. Timers run by hand. */
static struct bench {
    uv_loop_t loop;
    struct timers *timers;
    struct core_tcp *tcp;
    struct core_addr local;
    unsigned received, lost;
    char last[MESSAGE_MAX];
    size_t last_len;
    struct core_addr from, lost_to;
    bool lost_connected, stranger, answer;
    int lost_err, answered;
} bench;

static const int families[] = {AF_INET, AF_INET6};

static struct core_addr loopback(int family, enum core_kind kind)
{
    struct core_addr addr = {.kind = kind};

    addr.sa.sa_family = (sa_family_t)family;
    if (family == AF_INET)
        addr.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else
        addr.in6.sin6_addr = in6addr_loopback;
    return addr;
}

static socklen_t len_of(const struct core_addr *addr)
{
    return addr->sa.sa_family == AF_INET ? sizeof(addr->in) : sizeof(addr->in6);
}

/* A listening socket of a backend, on a free port. backlog < 0: bound only, so that it refuses. */
static int backend_open(int family, int backlog, struct core_addr *addr)
{
    socklen_t len = sizeof(addr->in6);
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;

    *addr = loopback(family, CORE_TCP);
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
    assert_int_equal(bind(fd, &addr->sa, len_of(addr)), 0);
    assert_int_equal(getsockname(fd, &addr->sa, &len), 0);
    if (backlog >= 0)
        assert_int_equal(listen(fd, backlog), 0);
    return fd;
}

static bool known(void *context, const struct core_addr *from)
{
    (void)context;
    assert_true(from->sa.sa_family == bench.local.sa.sa_family);
    return !bench.stranger;
}

static void received(void *context, const struct core_addr *from, char *bytes, size_t len)
{
    (void)context;
    bench.received++;
    bench.from = *from;
    bench.last_len = len;
    memcpy(bench.last, bytes, len);
    memset(bytes, 'x', len); /* they are ours */
    if (bench.answer)
        bench.answered = core_tcp_send(bench.tcp, from, STR("answer\r\n"));
}

static void lost(void *context, const struct core_addr *to, bool connected, int err)
{
    (void)context;
    bench.lost++;
    bench.lost_to = *to;
    bench.lost_connected = connected;
    bench.lost_err = err;
}

static void bench_open(int family)
{
    struct core_tcp_options options = {
        .loop = &bench.loop,
        .worker = 7,
        .message_max = MESSAGE_MAX,
        .known = known,
        .received = received,
        .lost = lost,
    };
    int fd;

    memset(&bench, 0, sizeof(bench));
    assert_int_equal(uv_loop_init(&bench.loop), 0);
    assert_int_equal(timers_create(uv_now(&bench.loop), &bench.timers), 0);
    options.timers = bench.timers;
    fd = backend_open(family, -1, &bench.local); /* a free port */
    close(fd);
    assert_int_equal(core_tcp_open(&options, &bench.tcp), 0);
    assert_int_equal(core_tcp_local_set(bench.tcp, &bench.local), 0);
}

static void bench_close(void)
{
    core_tcp_close(&bench.tcp);
    uv_run(&bench.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&bench.loop), 0);
    assert_true(timers_next(bench.timers) == UINT64_MAX);
    timers_destroy(&bench.timers);
}

/* Let the loop turn until something is so. */
#define UNTIL(condition)                                                                           \
    do {                                                                                           \
        uint64_t deadline = uv_hrtime() + (uint64_t)DEADLINE_MS * 1000000;                         \
        while (!(condition)) {                                                                     \
            assert_true(uv_hrtime() < deadline);                                                   \
            turn();                                                                                \
        }                                                                                          \
    } while (0)

static void turn(void)
{
    uv_run(&bench.loop, UV_RUN_NOWAIT);
    usleep(200);
}

static int accepted(int listening)
{
    int fd;

    UNTIL((fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0);
    assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)), 0);
    return fd;
}

static int backend_connect(void)
{
    int fd = socket(bench.local.sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    if (connect(fd, &bench.local.sa, len_of(&bench.local)))
        assert_int_equal(errno, EINPROGRESS);
    return fd;
}

static void put(int fd, const char *text, size_t len)
{
    size_t done = 0;
    ssize_t n;

    UNTIL(((n = write(fd, text + done, len - done)) > 0 && (done += (size_t)n) == len) || !len);
}

/* The backend reads exactly this. */
static void expect(int fd, const char *text)
{
    char bytes[1024];
    int ready;

    UNTIL(!ioctl(fd, FIONREAD, &ready) && (size_t)ready >= strlen(text));
    assert_int_equal(read(fd, bytes, sizeof(bytes)), strlen(text));
    assert_memory_equal(bytes, text, strlen(text));
}

/* 0: the other side closed it. */
static bool closed(int fd)
{
    char byte;

    return read(fd, &byte, 1) == 0 || (errno != EAGAIN && errno != ENOTCONN);
}

static void reset(int fd)
{
    const struct linger now = {.l_onoff = 1};

    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
    close(fd);
}

static void messages_are_whole_wherever_they_are_cut(void **state) /* F1, F2 */
{
    static const char stream[] = OPTIONS("a") "\r\n\r\n" OPTIONS("b") "\r\n" OPTIONS("c");
    static const size_t size = sizeof(stream) - 1;

    (void)state;
    for (size_t f = 0; f < ARRAY_LEN(families); f++) {
        struct core_addr to;
        int listening, fd;

        bench_open(families[f]);
        listening = backend_open(families[f], 8, &to);
        assert_int_equal(core_tcp_send(bench.tcp, &to, STR("hello")), 0);
        fd = accepted(listening);
        expect(fd, "hello");
        for (size_t cut = 1; cut < size; cut++) {
            unsigned before = bench.received;

            put(fd, stream, cut);
            turn();
            put(fd, stream + cut, size - cut);
            UNTIL(bench.received == before + 3);
            expect(fd, "\r\n"); /* the ping's pong */
            assert_int_equal(bench.last_len, strlen(OPTIONS("c")));
            assert_memory_equal(bench.last, OPTIONS("c"), bench.last_len);
            assert_true(core_addr_eq(&bench.from, &to));
            assert_int_equal(bench.from.worker, 7);
            assert_int_not_equal(bench.from.connection, 0);
        }
        close(fd);
        close(listening);
        bench_close();
    }
}

static void a_large_message_and_many_small_ones_arrive(void **state) /* F1, F6 */
{
    char head[128], *stream = malloc(MESSAGE_MAX + 1);
    struct core_addr to;
    int listening, fd, len;

    (void)state;
    bench_open(AF_INET);
    listening = backend_open(AF_INET, 8, &to);
    assert_int_equal(core_tcp_send(bench.tcp, &to, STR("hello")), 0);
    fd = accepted(listening);

    memset(stream, 'b', MESSAGE_MAX);
    len =
        snprintf(head, sizeof(head), "OPTIONS sip:x SIP/2.0\r\nContent-Length: %d\r\n\r\n", 65000);
    memcpy(stream, head, (size_t)len);
    put(fd, stream, (size_t)len + 65000);
    UNTIL(bench.received == 1);
    assert_int_equal(bench.last_len, len + 65000);

    len = 0;
    for (int i = 0; i < 500; i++)
        len += snprintf(stream + len, MESSAGE_MAX - (size_t)len, "%s", OPTIONS("x"));
    put(fd, stream, (size_t)len);
    UNTIL(bench.received == 501);

    /* One that is too large, or without a length, is where framing ends. */
    put(fd, "OPTIONS sip:x SIP/2.0\r\nContent-Length: 65536\r\n\r\n", 48);
    UNTIL(bench.lost == 1);
    assert_true(bench.lost_connected);
    assert_int_equal(bench.lost_err, -EPROTO);
    free(stream);
    close(fd);
    close(listening);
    bench_close();
}

static void one_connection_serves_an_address_and_its_answers(void **state) /* R9 */
{
    struct core_addr to, other;
    int listening, second, fd, fd2;
    struct core_addr name = {.kind = CORE_TCP};
    socklen_t len = sizeof(name.in6);

    (void)state;
    bench_open(AF_INET);
    listening = backend_open(AF_INET, 8, &to);
    second = backend_open(AF_INET, 8, &other);
    for (int i = 0; i < 100; i++) /* before it is connected; more than one sendmsg() takes */
        assert_int_equal(core_tcp_send(bench.tcp, &to, STR("0123456789")), 0);
    fd = accepted(listening);
    assert_int_equal(core_tcp_send(bench.tcp, &other, STR("other")), 0);
    fd2 = accepted(second);
    expect(fd2, "other");
    assert_int_equal(core_tcp_send(bench.tcp, &to, STR("and more")), 0);
    int ready;
    UNTIL(!ioctl(fd, FIONREAD, &ready) && ready == 1008);
    assert_int_equal(core_tcp_counters(bench.tcp)->opened, 2);
    assert_int_equal(core_tcp_counters(bench.tcp)->sent, 102);

    /* The backend knows us by the core address: its lists of peers do. */
    assert_int_equal(getpeername(fd, &name.sa, &len), 0);
    assert_true(core_addr_same_host(&name, &bench.local));

    bench.answer = true;
    put(fd2, OPTIONS("a"), strlen(OPTIONS("a")));
    expect(fd2, "answer\r\n");
    close(fd);
    close(fd2);
    close(listening);
    close(second);
    bench_close();
}

static void responses_go_back_on_the_connection_that_they_belong_to(void **state)
{
    (void)state;
    for (size_t f = 0; f < ARRAY_LEN(families); f++) {
        struct core_addr first;
        int fd1, fd2;

        bench_open(families[f]);
        fd1 = backend_connect();
        fd2 = backend_connect();
        put(fd1, OPTIONS("1"), strlen(OPTIONS("1")));
        UNTIL(bench.received == 1);
        first = bench.from;
        put(fd2, OPTIONS("2"), strlen(OPTIONS("2")));
        UNTIL(bench.received == 2);
        assert_int_not_equal(first.connection, bench.from.connection);
        assert_int_equal(core_tcp_send(bench.tcp, &first, STR("to the first")), 0);
        assert_int_equal(core_tcp_send(bench.tcp, &bench.from, STR("to the second")), 0);
        expect(fd1, "to the first");
        expect(fd2, "to the second");
        assert_int_equal(core_tcp_counters(bench.tcp)->accepted, 2);
        assert_int_equal(core_tcp_counters(bench.tcp)->opened, 0);
        close(fd1);
        close(fd2);
        bench_close();
    }
}

/* RFC 3261 18.2.2: a connection that is gone is replaced by one to the sent-by port. */
static void a_response_finds_its_way_when_its_connection_is_gone(void **state)
{
    struct core_addr to, reply;
    int listening, fd, again;

    (void)state;
    bench_open(AF_INET);
    listening = backend_open(AF_INET, 8, &to);
    fd = backend_connect();
    put(fd, OPTIONS("1"), strlen(OPTIONS("1")));
    UNTIL(bench.received == 1);
    reply = bench.from;
    core_addr_port_set(&reply, ntohs(to.in.sin_port)); /* as via_received() does */

    reset(fd); /* while the response waits */
    assert_int_equal(core_tcp_send(bench.tcp, &reply, STR("response")), 0);
    again = accepted(listening);
    expect(again, "response");
    assert_int_equal(core_tcp_send(bench.tcp, &reply, STR("another")), 0); /* known to be gone */
    expect(again, "another");
    assert_int_equal(core_tcp_counters(bench.tcp)->opened, 1);
    assert_int_equal(bench.lost, 0); /* only requests have somebody who waits */

    /* Once: where that one can't be made either, the response is dropped and counted. */
    close(listening);
    reset(again);
    UNTIL(bench.lost == 1);
    assert_int_equal(core_tcp_send(bench.tcp, &reply, STR("response")), 0);
    UNTIL(bench.lost == 2);
    assert_false(bench.lost_connected);
    assert_int_equal(bench.lost_err, -ECONNREFUSED);
    UNTIL(core_tcp_counters(bench.tcp)->send_dropped > 0);
    bench_close();
}

static void a_refused_connection_is_told_at_once_and_tried_again_later(void **state) /* T7 */
{
    struct core_addr to;
    int fd, listening;
    uint64_t start;

    (void)state;
    bench_open(AF_INET);
    fd = backend_open(AF_INET, -1, &to);
    start = uv_hrtime();
    assert_int_equal(core_tcp_send(bench.tcp, &to, STR("hello")), 0);
    assert_int_equal(bench.lost, 0); /* never from inside */
    UNTIL(bench.lost == 1);
    assert_true(uv_hrtime() - start < 1000000000);
    assert_false(bench.lost_connected);
    assert_int_equal(bench.lost_err, -ECONNREFUSED);
    assert_true(core_addr_eq(&bench.lost_to, &to));
    assert_int_equal(bench.lost_to.connection, 0);
    assert_int_equal(core_tcp_send(bench.tcp, &to, STR("hello")), -EHOSTUNREACH);

    assert_int_equal(listen(fd, 8), 0); /* it is back */
    UNTIL(core_tcp_send(bench.tcp, &to, STR("hello")) == 0);
    listening = accepted(fd);
    expect(listening, "hello");
    close(listening);
    close(fd);
    bench_close();
}

static void no_way_there_is_told_by_the_loop(void **state)
{
    struct core_addr to = {.kind = CORE_TCP};

    (void)state;
    bench_open(AF_INET);
    to.in = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(5060)};
    to.in.sin_addr.s_addr = htonl(0xF0000001); /* 240.0.0.1: reserved, connect() refuses it */
    assert_int_equal(core_tcp_send(bench.tcp, &to, STR("hello")), 0);
    assert_int_equal(bench.lost, 0);
    UNTIL(bench.lost == 1);
    assert_false(bench.lost_connected);
    assert_true(bench.lost_err < 0);
    bench_close();
}

static void a_connect_without_an_answer_ends_after_its_time(void **state) /* T7 */
{
    struct core_addr to;
    int listening = 0, filler[8];

    (void)state;
    bench_open(AF_INET);
    listening = backend_open(AF_INET, 0, &to);
    for (size_t i = 0; i < ARRAY_LEN(filler); i++) { /* a full backlog: SYNs are dropped */
        filler[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void)connect(filler[i], &to.sa, sizeof(to.in));
    }
    uv_update_time(&bench.loop);
    assert_int_equal(core_tcp_send(bench.tcp, &to, STR("hello")), 0);
    for (int i = 0; i < 50; i++)
        turn();
    assert_int_equal(bench.lost, 0);
    timers_run(bench.timers, uv_now(&bench.loop) + 3000);
    assert_int_equal(bench.lost, 0);
    timers_run(bench.timers, uv_now(&bench.loop) + 4001);
    assert_int_equal(bench.lost, 1);
    assert_false(bench.lost_connected);
    assert_int_equal(bench.lost_err, -ETIMEDOUT);
    for (size_t i = 0; i < ARRAY_LEN(filler); i++)
        close(filler[i]);
    close(listening);
    bench_close();
}

static void a_connection_that_ends_is_told_and_replaced(void **state) /* T5 */
{
    struct core_addr to;
    int listening, fd;

    (void)state;
    bench_open(AF_INET6);
    listening = backend_open(AF_INET6, 8, &to);
    for (unsigned i = 1; i <= 4; i++) {
        assert_int_equal(core_tcp_send(bench.tcp, &to, STR("hello")), 0);
        fd = accepted(listening);
        expect(fd, "hello");
        put(fd, OPTIONS("last"), strlen(OPTIONS("last"))); /* what came before the end counts */
        if (i % 2)
            reset(fd);
        else
            close(fd);
        UNTIL(bench.lost == i);
        assert_true(bench.lost_connected);
        assert_true(core_addr_eq(&bench.lost_to, &to));
        assert_int_equal(bench.received, i);
    }
    close(listening);
    bench_close();
}

static void a_slow_reader_has_a_bound(void **state) /* X2 */
{
    static char bytes[65536];
    struct core_addr to;
    int listening, fd, err;
    unsigned count = 0;

    (void)state;
    bench_open(AF_INET);
    listening = backend_open(AF_INET, 8, &to);
    memset(bytes, 'x', sizeof(bytes));
    do {
        err = core_tcp_send(bench.tcp, &to, (struct str){bytes, sizeof(bytes)});
        count += !err;
    } while (!err && count < 1000);
    assert_int_equal(err, -ENOBUFS);
    assert_int_equal(count, 64); /* 4 MiB while connecting */
    fd = accepted(listening);
    do { /* the kernel's buffers, then ours again */
        turn();
        err = core_tcp_send(bench.tcp, &to, (struct str){bytes, sizeof(bytes)});
        count += !err;
    } while (!err && count < 1000);
    assert_int_equal(err, -ENOBUFS);
    assert_int_equal(bench.lost, 0);
    UNTIL(read(fd, bytes, sizeof(bytes)) > 0); /* it reads on: there is room again */
    UNTIL(read(fd, bytes, sizeof(bytes)) > 0 && !core_tcp_send(bench.tcp, &to, STR("small")));
    assert_true(core_tcp_counters(bench.tcp)->send_dropped >= 2);
    close(fd);
    close(listening);
    bench_close();
}

static void an_idle_connection_is_kept_alive(void **state) /* F2, RFC 5626 4.4.1 */
{
    struct core_addr to;
    int listening, fd;

    (void)state;
    bench_open(AF_INET);
    listening = backend_open(AF_INET, 8, &to);
    assert_int_equal(core_tcp_send(bench.tcp, &to, STR("hello")), 0);
    fd = accepted(listening);
    expect(fd, "hello");
    timers_run(bench.timers, uv_now(&bench.loop) + 29000);
    turn();
    assert_false(closed(fd)); /* and nothing to read */
    timers_run(bench.timers, uv_now(&bench.loop) + 31000);
    expect(fd, "\r\n\r\n");
    put(fd, "\r\n", 2); /* a pong is fine, and none too */
    timers_run(bench.timers, uv_now(&bench.loop) + 62000);
    expect(fd, "\r\n\r\n");
    assert_int_equal(bench.lost + bench.received, 0);
    assert_int_equal(core_tcp_counters(bench.tcp)->sent, 1);
    close(fd);
    close(listening);
    bench_close();
}

static void strangers_and_too_many_are_closed_and_counted(void **state) /* R8, X1 */
{
    static int fds[CORE_TCP_ACCEPTED_MAX];
    int stranger, one_more;

    (void)state;
    bench_open(AF_INET);
    bench.stranger = true;
    stranger = backend_connect();
    UNTIL(core_tcp_counters(bench.tcp)->refused == 1);
    UNTIL(closed(stranger));
    bench.stranger = false;
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        fds[i] = backend_connect();
    UNTIL(core_tcp_counters(bench.tcp)->accepted == ARRAY_LEN(fds));
    one_more = backend_connect();
    UNTIL(core_tcp_counters(bench.tcp)->refused == 2);
    UNTIL(closed(one_more));
    close(one_more);

    close(fds[0]); /* one goes, one may come */
    for (int i = 0; i < 20; i++)
        turn();
    fds[0] = backend_connect();
    UNTIL(core_tcp_counters(bench.tcp)->accepted == ARRAY_LEN(fds) + 1);
    put(fds[0], OPTIONS("a"), strlen(OPTIONS("a")));
    UNTIL(bench.received == 1);
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        close(fds[i]);
    close(stranger);
    bench_close();
}

static void workers_share_the_address_and_others_keep_theirs(void **state)
{
    struct core_tcp_options options = {.loop = &bench.loop, .message_max = 2048};
    struct core_tcp *second = NULL;
    struct core_addr elsewhere;

    (void)state;
    bench_open(AF_INET);
    elsewhere = bench.local;
    options.timers = bench.timers;
    assert_int_equal(core_tcp_open(&options, &second), 0);
    elsewhere.in.sin_addr.s_addr = htonl(0xC0000201); /* 192.0.2.1 */
    assert_int_equal(core_tcp_local_set(second, &elsewhere), -EADDRNOTAVAIL);
    assert_int_equal(core_tcp_local_set(second, &bench.local), 0);
    core_tcp_close(&second);
    bench_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_are_whole_wherever_they_are_cut),
        cmocka_unit_test(a_large_message_and_many_small_ones_arrive),
        cmocka_unit_test(one_connection_serves_an_address_and_its_answers),
        cmocka_unit_test(responses_go_back_on_the_connection_that_they_belong_to),
        cmocka_unit_test(a_response_finds_its_way_when_its_connection_is_gone),
        cmocka_unit_test(a_refused_connection_is_told_at_once_and_tried_again_later),
        cmocka_unit_test(no_way_there_is_told_by_the_loop),
        cmocka_unit_test(a_connect_without_an_answer_ends_after_its_time),
        cmocka_unit_test(a_connection_that_ends_is_told_and_replaced),
        cmocka_unit_test(a_slow_reader_has_a_bound),
        cmocka_unit_test(an_idle_connection_is_kept_alive),
        cmocka_unit_test(strangers_and_too_many_are_closed_and_counted),
        cmocka_unit_test(workers_share_the_address_and_others_keep_theirs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

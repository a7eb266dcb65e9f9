#include "admin/get.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ANSWER_MAX = 2048, REQUEST_MAX = 128 };

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

static int await(int fd, short events, int64_t until)
{
    struct pollfd pollfd = {.fd = fd, .events = events};
    int64_t left = until - now_ms();

    if (left <= 0 || poll(&pollfd, 1, (int)left) == 0)
        return -ETIMEDOUT;
    return 0; /* what else there may be the next call says */
}

static int connect_to(int fd, const struct core_addr *addr, int64_t until)
{
    socklen_t len = addr->sa.sa_family == AF_INET ? sizeof(addr->in) : sizeof(addr->in6);
    socklen_t err_len = sizeof(int);
    int err;

    if (!connect(fd, &addr->sa, len))
        return 0;
    if (errno != EINPROGRESS)
        return -errno;
    err = await(fd, POLLOUT, until);
    if (!err && (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &err_len) || err))
        return err ? -err : -errno;
    return err;
}

/* The whole answer, or as much of it as anybody wants to know. */
static int talk(int fd, const struct core_addr *addr, const char *path, int64_t until,
                char answer[ANSWER_MAX])
{
    char request[REQUEST_MAX]; /* 1.0: the end of the connection is that of the answer */
    int len = snprintf(request, sizeof(request), "GET %s HTTP/1.0\r\n\r\n", path);
    int err = connect_to(fd, addr, until);
    size_t used = 0;
    ssize_t got = 1;

    if (!err && send(fd, request, (size_t)len, MSG_NOSIGNAL) != len)
        err = -EIO;
    while (!err && got > 0 && used < ANSWER_MAX - 1) {
        err = await(fd, POLLIN, until);
        if (err)
            break;
        got = recv(fd, answer + used, ANSWER_MAX - 1 - used, 0);
        if (got < 0 && errno != EAGAIN && errno != EINTR)
            err = -errno;
        else if (got < 0)
            got = 1; /* nothing yet */
        else
            used += (size_t)got;
    }
    answer[used] = '\0';
    return err;
}

/* Who listens everywhere listens at loopback. */
static struct core_addr addr_of(const union conf_sockaddr *address)
{
    struct core_addr addr = {.kind = CORE_TCP};

    memcpy(&addr.in6, &address->in6, sizeof(addr.in6));
    if (addr.sa.sa_family == AF_INET && addr.in.sin_addr.s_addr == htonl(INADDR_ANY))
        addr.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else if (addr.sa.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&addr.in6.sin6_addr))
        addr.in6.sin6_addr = in6addr_loopback;
    return addr;
}

static void line_take(const char *from, char line[ADMIN_GOT_TEXT])
{
    (void)snprintf(line, ADMIN_GOT_TEXT, "%.*s", (int)strcspn(from, "\r\n"), from);
}

/* "HTTP/1.1 200 OK", headers, an empty line, the body. */
static void answer_read(const char *answer, struct admin_got *out)
{
    const char *body = strstr(answer, "\r\n\r\n");

    line_take(answer, out->line);
    if (strncmp(answer, "HTTP/1.", 7) != 0 || strlen(out->line) < 12 || !body)
        return;
    for (const char *at = out->line + 9; at < out->line + 12; at++)
        out->status = out->status * 10 + (*at >= '0' && *at <= '9' ? *at - '0' : 0);
    line_take(body + 4, out->body);
}

int admin_get(const union conf_sockaddr *address, const char *path, unsigned time_ms,
              struct admin_got *out)
{
    struct core_addr addr = addr_of(address);
    char answer[ANSWER_MAX] = "";
    int fd = socket(addr.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int err = fd < 0 ? -errno : talk(fd, &addr, path, now_ms() + time_ms, answer);

    if (fd >= 0)
        close(fd);
    *out = (struct admin_got){0};
    core_addr_text(&addr, out->where);
    if (!err)
        answer_read(answer, out);
    return err;
}

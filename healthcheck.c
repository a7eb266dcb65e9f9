#include "healthcheck.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "proxy/core.h"

enum { TIME_MS = 4000, ANSWER_MAX = 2048 };

static const char request[] = "GET /healthz HTTP/1.0\r\n\r\n"; /* 1.0: the end of it is the end */

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

static int connect_to(int fd, const union conf_sockaddr *address, int64_t until)
{
    socklen_t len = address->sa.sa_family == AF_INET ? sizeof(address->in) : sizeof(address->in6);
    socklen_t err_len = sizeof(int);
    int err;

    if (!connect(fd, &address->sa, len))
        return 0;
    if (errno != EINPROGRESS)
        return -errno;
    err = await(fd, POLLOUT, until);
    if (!err && (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &err_len) || err))
        return err ? -err : -errno;
    return err;
}

/* The whole answer, or as much of it as anybody wants to know. */
static int talk(int fd, const union conf_sockaddr *address, char answer[ANSWER_MAX])
{
    int64_t until = now_ms() + TIME_MS;
    int err = connect_to(fd, address, until);
    size_t used = 0;
    ssize_t got = 1;

    if (!err && send(fd, request, strlen(request), MSG_NOSIGNAL) != (ssize_t)strlen(request))
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

/* Who listens everywhere listens here. */
static void to_loopback(union conf_sockaddr *address)
{
    if (address->sa.sa_family == AF_INET && address->in.sin_addr.s_addr == htonl(INADDR_ANY))
        address->in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else if (address->sa.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&address->in6.sin6_addr))
        address->in6.sin6_addr = in6addr_loopback;
}

static const char *remedy(int err)
{
    switch (err) {
    case -ECONNREFUSED: return ": sipward does not run, or another `admin` is in its configuration";
    case -ETIMEDOUT: return ": its main thread hangs";
    default: return "";
    }
}

/* "HTTP/1.1 200 OK ... \r\n\r\nalive\n": what it is told by is the first word of ours. */
static enum healthcheck judge(const char *where, const char *answer)
{
    const char *body = strstr(answer, "\r\n\r\n");
    int line = (int)strcspn(answer, "\r\n");
    unsigned status = 0;

    (void)sscanf(answer, "HTTP/1.%*1[01] %3u ", &status);
    if (status == 200 && body && !strncmp(body + 4, "alive", 5)) {
        printf("%s: alive\n", where);
        return HEALTHY;
    }
    if (status == 503 && body)
        fprintf(stderr, "%s: %.*s\n", where, (int)strcspn(body + 4, "\r\n"), body + 4);
    else
        fprintf(stderr, "%s: not what sipward says: %.*s\n", where, line, answer);
    return UNHEALTHY;
}

enum healthcheck healthcheck(const struct conf *conf)
{
    union conf_sockaddr address = conf->admin.address;
    struct core_addr addr = {.kind = CORE_TCP};
    char where[CORE_ADDR_TEXT], answer[ANSWER_MAX];
    int fd, err;

    if (!address.sa.sa_family || !address.in.sin_port) { /* the port is at the same place in both */
        conf_place_print(conf->path, conf->admin.line, stderr);
        fprintf(stderr, "admin: %s: nobody can be asked; give it an ADDRESS:PORT\n",
                address.sa.sa_family ? "port 0 is a new one at each start" : "no");
        return HEALTH_UNASKED;
    }
    to_loopback(&address);
    memcpy(&addr.in6, &address.in6, sizeof(addr.in6));
    core_addr_text(&addr, where);
    fd = socket(address.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    err = fd < 0 ? -errno : talk(fd, &address, answer);
    if (fd >= 0)
        close(fd);
    if (!err)
        return judge(where, answer);
    fprintf(stderr, "%s: %s%s\n", where, strerror(-err), remedy(err));
    return UNHEALTHY;
}

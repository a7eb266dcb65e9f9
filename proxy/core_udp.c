#include "proxy/core_udp.h"

#include <errno.h>
#include <linux/errqueue.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proxy/log.h"

enum {
    DATAGRAM_MAX = 65535,
    SLOT_SIZE = 65536, /* mapped; pages that no datagram touches cost nothing */
    RECEIVE_SLOTS = 32,
    RECEIVE_STRIDE = SLOT_SIZE + 1088, /* else a cache has room for few: they'd all start alike */
    RECEIVE_ROUNDS = 4,                /* of one wake-up: the loop has others to serve */
    SEND_SLOTS = 64,
    SEND_BYTES = 16 * SLOT_SIZE,
    SOCKET_BUFFER = 4194304, /* asked for; the system may give less */
    WARN_INTERVAL_MS = 1000,
    SEND_TRIES = 3,   /* of one datagram: an error may be that of an earlier one */
    UNSENT_MAX = 8,   /* addresses without a way, between two turns of the loop */
    ERRORS_MAX = 64,  /* read in one turn of the loop */
    QUOTED_MAX = 1500 /* bytes of a datagram that come back with its error */
};

struct core_udp {
    uv_poll_t poll;
    uv_prepare_t prepare;
    int fd, open_handles;
    bool writable_wanted;
    void (*received)(void *context, const struct core_addr *from, char *bytes, size_t len);
    void (*refused)(void *context, const struct core_addr *to, int err, struct str quoted);
    void *context;
    struct core_udp_counters counters;
    uint64_t warned_at;

    char *receive_bytes; /* RECEIVE_SLOTS slots */
    struct mmsghdr receive[RECEIVE_SLOTS];
    struct iovec receive_iov[RECEIVE_SLOTS];
    struct core_addr receive_from[RECEIVE_SLOTS];

    char *send_bytes;
    size_t send_used;
    uint64_t queued_at; /* the first of them */
    unsigned send_count;
    struct mmsghdr send[SEND_SLOTS];
    struct iovec send_iov[SEND_SLOTS];
    struct core_addr send_to[SEND_SLOTS];

    struct { /* the system itself says that there is no way: to be told before the loop waits */
        struct core_addr to;
        int err;
    } unsent[UNSENT_MAX];
    unsigned unsent_count;
};

static socklen_t address_len(const struct core_addr *addr)
{
    return addr->sa.sa_family == AF_INET ? sizeof(addr->in) : sizeof(addr->in6);
}

static void warn(struct core_udp *udp, const struct core_addr *to, size_t len, int err)
{
    char address[CORE_ADDR_TEXT];
    uint64_t now = uv_now(udp->poll.loop);

    if (udp->warned_at && now - udp->warned_at < WARN_INTERVAL_MS)
        return;
    udp->warned_at = now;
    core_addr_text(to, address);
    log_event(LOG_WARNING, "datagram not sent", LOG_TEXT("to", str_of(address)),
              LOG_NUMBER("bytes", (int64_t)len), LOG_TEXT("reason", str_of(strerror(-err))));
}

/* ---- sending ---- */

static void poll_events(uv_poll_t *poll, int status, int events);

static void want_writable(struct core_udp *udp, bool wanted)
{
    if (udp->writable_wanted == wanted)
        return;
    udp->writable_wanted = wanted;
    uv_poll_start(&udp->poll, UV_READABLE | (wanted ? UV_WRITABLE : 0), poll_events);
}

/* Forget the first `count` of the queue. Their bytes are kept until all is gone: a queue that does
 * not empty is rare, and moving it would cost every turn. */
static void queue_shift(struct core_udp *udp, unsigned count)
{
    udp->send_count -= count;
    if (!udp->send_count) {
        udp->send_used = 0;
        return;
    }
    for (unsigned i = 0; i < udp->send_count; i++) {
        udp->send_iov[i] = udp->send_iov[i + count];
        udp->send_to[i] = udp->send_to[i + count];
        udp->send[i].msg_hdr.msg_namelen = address_len(&udp->send_to[i]);
    }
}

static bool says_unreachable(int err)
{
    return err == ECONNREFUSED || err == EHOSTUNREACH || err == ENETUNREACH || err == EACCES;
}

static void unsent_keep(struct core_udp *udp, const struct core_addr *to, int err)
{
    for (unsigned i = 0; i < udp->unsent_count; i++)
        if (core_addr_eq(&udp->unsent[i].to, to))
            return;
    if (udp->unsent_count == UNSENT_MAX)
        return; /* its requests have their timers */
    udp->unsent[udp->unsent_count].to = *to;
    udp->unsent[udp->unsent_count++].err = err;
}

static void flush(struct core_udp *udp)
{
    bool full = false;
    unsigned tries = 0;

    while (udp->send_count && !full) {
        int n = sendmmsg(udp->fd, udp->send, udp->send_count, MSG_DONTWAIT);

        if (n > 0) {
            udp->counters.sent += (unsigned)n;
            queue_shift(udp, (unsigned)n);
            tries = 0;
        } else if (errno == EAGAIN || errno == ENOBUFS) {
            full = true;
        } else if (says_unreachable(errno) && ++tries < SEND_TRIES) {
            continue; /* said of an earlier datagram, in the error queue too; now it is off */
        } else if (errno != EINTR) {
            if (says_unreachable(errno))
                unsent_keep(udp, &udp->send_to[0], -errno);
            warn(udp, &udp->send_to[0], udp->send_iov[0].iov_len, -errno);
            udp->counters.send_dropped++;
            queue_shift(udp, 1);
            tries = 0;
        }
    }
    want_writable(udp, full);
}

/* With very many events libuv looks for more before it comes to before_wait(): what was queued
 * at an earlier look waits no longer. */
int core_udp_send(struct core_udp *udp, const struct core_addr *to, struct str bytes)
{
    unsigned i;

    if (bytes.len > DATAGRAM_MAX) {
        warn(udp, to, bytes.len, -EMSGSIZE);
        udp->counters.send_dropped++;
        return -EMSGSIZE;
    }
    if (udp->send_count == SEND_SLOTS || bytes.len > SEND_BYTES - udp->send_used)
        flush(udp);
    if (udp->send_count == SEND_SLOTS || bytes.len > SEND_BYTES - udp->send_used) {
        warn(udp, to, bytes.len, -ENOBUFS);
        udp->counters.send_dropped++;
        return -ENOBUFS;
    }
    i = udp->send_count++;
    udp->send_to[i] = *to;
    udp->send[i].msg_hdr.msg_namelen = address_len(to);
    udp->send_iov[i] = (struct iovec){udp->send_bytes + udp->send_used, bytes.len};
    if (bytes.len)
        memcpy(udp->send_iov[i].iov_base, bytes.p, bytes.len);
    udp->send_used += bytes.len;
    if (i == 0)
        udp->queued_at = uv_now(udp->poll.loop);
    else if (udp->queued_at != uv_now(udp->poll.loop) && !udp->writable_wanted)
        flush(udp);
    return 0;
}

/* true: somebody was told. */
static bool unsent_tell(struct core_udp *udp)
{
    unsigned count = udp->unsent_count;

    for (unsigned i = 0; i < count; i++)
        udp->refused(udp->context, &udp->unsent[i].to, udp->unsent[i].err, (struct str){NULL, 0});
    udp->unsent_count = 0;
    return count > 0;
}

static void before_wait(uv_prepare_t *prepare)
{
    struct core_udp *udp = prepare->data;

    do { /* who is told may send */
        if (udp->send_count && !udp->writable_wanted)
            flush(udp);
    } while (unsent_tell(udp));
}

/* ---- errors ---- */

/* 0: it says nothing about the address. */
static int error_of(struct msghdr *msg)
{
    for (struct cmsghdr *part = CMSG_FIRSTHDR(msg); part; part = CMSG_NXTHDR(msg, part)) {
        struct sock_extended_err error;

        if (!(part->cmsg_level == IPPROTO_IP && part->cmsg_type == IP_RECVERR) &&
            !(part->cmsg_level == IPPROTO_IPV6 && part->cmsg_type == IPV6_RECVERR))
            continue;
        memcpy(&error, CMSG_DATA(part), sizeof(error));
        if (says_unreachable((int)error.ee_errno))
            return -(int)error.ee_errno;
    }
    return 0;
}

/* The error queue: one entry for each datagram that was sent back, with where it had gone to. */
static void errors_read(struct core_udp *udp)
{
    struct core_addr to = {.kind = CORE_UDP};
    union {
        struct cmsghdr align;
        char bytes[512];
    } control;
    char quoted[QUOTED_MAX];

    for (int i = 0; i < ERRORS_MAX; i++) {
        struct iovec iov = {quoted, sizeof(quoted)};
        struct msghdr msg = {.msg_name = &to.sa,
                             .msg_namelen = sizeof(to.in6),
                             .msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
        ssize_t len = recvmsg(udp->fd, &msg, MSG_ERRQUEUE | MSG_DONTWAIT);
        int err;

        if (len < 0)
            return;
        err = error_of(&msg);
        if (!err)
            continue;
        udp->counters.refused++;
        udp->refused(udp->context, &to, err, (struct str){quoted, (size_t)len});
    }
}

/* ---- receiving ---- */

/* Read one batch. false: there is no more. */
static bool receive_batch(struct core_udp *udp)
{
    int n;

    n = recvmmsg(udp->fd, udp->receive, RECEIVE_SLOTS, MSG_DONTWAIT, NULL);
    if (n < 0)
        return errno != EAGAIN; /* an error of the error queue's is off once it was said */
    for (int i = 0; i < n; i++) {
        udp->receive[i].msg_hdr.msg_namelen = sizeof(udp->receive_from[i].in6); /* for the next */
        if (udp->receive[i].msg_hdr.msg_flags & MSG_TRUNC)
            continue; /* no datagram is larger than a slot */
        udp->counters.received++;
        udp->received(udp->context, &udp->receive_from[i], udp->receive_iov[i].iov_base,
                      udp->receive[i].msg_len);
    }
    return n == RECEIVE_SLOTS;
}

static void poll_events(uv_poll_t *poll, int status, int events)
{
    struct core_udp *udp = poll->data;

    if (status < 0) { /* the error queue is not empty; libuv has stopped the handle */
        events = UV_READABLE;
        uv_poll_start(poll, UV_READABLE | (udp->writable_wanted ? UV_WRITABLE : 0), poll_events);
        errors_read(udp);
    }
    if (events & UV_WRITABLE)
        flush(udp);
    if (events & UV_READABLE)
        for (int i = 0; i < RECEIVE_ROUNDS && receive_batch(udp); i++)
            continue;
}

/* ---- open and close ---- */

static int socket_open(const struct core_addr *local, int *out)
{
    const int on = 1, size = SOCKET_BUFFER, dont4 = IP_PMTUDISC_DONT, dont6 = IPV6_PMTUDISC_DONT;
    bool six = local->sa.sa_family == AF_INET6;
    int fd = socket(local->sa.sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int err;

    if (fd < 0)
        return -errno;
    err = setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
    if (!err && six)
        err = setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    if (!err) /* may be fragmented on the way: no DF, no EMSGSIZE */
        err = six ? setsockopt(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &dont6, sizeof(dont6))
                  : setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &dont4, sizeof(dont4));
    if (!err) /* ICMP */
        err = six ? setsockopt(fd, IPPROTO_IPV6, IPV6_RECVERR, &on, sizeof(on))
                  : setsockopt(fd, IPPROTO_IP, IP_RECVERR, &on, sizeof(on));
    if (!err)
        err = bind(fd, &local->sa, address_len(local));
    if (err) {
        err = -errno;
        close(fd);
        return err;
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)); /* as much as is allowed */
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    *out = fd;
    return 0;
}

static char *map(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

static void release(struct core_udp *udp)
{
    if (udp->fd >= 0)
        close(udp->fd);
    if (udp->receive_bytes)
        munmap(udp->receive_bytes, (size_t)RECEIVE_SLOTS * RECEIVE_STRIDE);
    if (udp->send_bytes)
        munmap(udp->send_bytes, SEND_BYTES);
    free(udp);
}

static void slots_init(struct core_udp *udp)
{
    for (size_t i = 0; i < RECEIVE_SLOTS; i++) {
        udp->receive_iov[i] = (struct iovec){udp->receive_bytes + i * RECEIVE_STRIDE, SLOT_SIZE};
        udp->receive_from[i].kind = CORE_UDP;
        udp->receive[i].msg_hdr = (struct msghdr){.msg_name = &udp->receive_from[i].sa,
                                                  .msg_namelen = sizeof(udp->receive_from[i].in6),
                                                  .msg_iov = &udp->receive_iov[i],
                                                  .msg_iovlen = 1};
    }
    for (size_t i = 0; i < SEND_SLOTS; i++)
        udp->send[i].msg_hdr = (struct msghdr){
            .msg_name = &udp->send_to[i].sa, .msg_iov = &udp->send_iov[i], .msg_iovlen = 1};
}

int core_udp_open(const struct core_udp_options *options, struct core_udp **out)
{
    struct core_udp *udp = calloc(1, sizeof(*udp));
    int err;

    if (!udp)
        return -ENOMEM;
    udp->fd = -1;
    udp->received = options->received;
    udp->refused = options->refused;
    udp->context = options->context;
    udp->receive_bytes = map((size_t)RECEIVE_SLOTS * RECEIVE_STRIDE);
    udp->send_bytes = map(SEND_BYTES);
    err = udp->receive_bytes && udp->send_bytes ? 0 : -ENOMEM;
    if (!err)
        err = socket_open(options->local, &udp->fd);
    if (!err)
        err = uv_poll_init(options->loop, &udp->poll, udp->fd);
    if (err) {
        release(udp);
        return err;
    }
    slots_init(udp);
    udp->poll.data = udp;
    uv_prepare_init(options->loop, &udp->prepare);
    udp->prepare.data = udp;
    udp->open_handles = 2;
    uv_prepare_start(&udp->prepare, before_wait);
    uv_poll_start(&udp->poll, UV_READABLE, poll_events);
    *out = udp;
    return 0;
}

const struct core_udp_counters *core_udp_counters(const struct core_udp *udp)
{
    return &udp->counters;
}

static void handle_closed(uv_handle_t *handle)
{
    struct core_udp *udp = handle->data;

    if (!--udp->open_handles)
        release(udp);
}

void core_udp_close(struct core_udp **udp)
{
    if (!*udp)
        return;
    flush(*udp);
    uv_close((uv_handle_t *)&(*udp)->poll, handle_closed);
    uv_close((uv_handle_t *)&(*udp)->prepare, handle_closed);
    *udp = NULL;
}

int core_udp_route(const struct core_addr *to, struct core_addr *local)
{
    struct core_addr found = {.kind = CORE_UDP};
    socklen_t len = sizeof(found.in6);
    int fd = socket(to->sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int err = 0;

    if (fd < 0)
        return -errno;
    if (connect(fd, &to->sa, address_len(to)) || getsockname(fd, &found.sa, &len))
        err = -errno;
    close(fd);
    if (err)
        return err;
    if (found.sa.sa_family == AF_INET)
        found.in.sin_port = 0;
    else
        found.in6.sin6_port = 0;
    *local = found;
    return 0;
}

int core_probe(int type, const struct core_addr *local)
{
    int fd = socket(local->sa.sa_family, type | SOCK_CLOEXEC, 0);
    const int on = 1;
    int err = 0;

    if (fd < 0)
        return -errno;
    if (type == SOCK_STREAM) /* connections of an earlier run may still be in TIME_WAIT */
        err = setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (!err && local->sa.sa_family == AF_INET6)
        err = setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    if (!err)
        err = bind(fd, &local->sa, address_len(local));
    if (err)
        err = -errno;
    close(fd);
    return err;
}

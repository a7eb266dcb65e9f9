/* OPTIONS to the backends, to all at once: plain sockets and poll(), as nothing else goes on. The
 * request is that of sipward's own probes (proxy/probe.c). */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "doctor/internal.h"
#include "proxy/message.h"

enum {
    PATIENCE_MS = 3500,
    AGAIN_MS = 500, /* T1 (RFC 3261 17.1.2.1), doubled each time */
    REQUEST_SIZE = 1024,
};

const char *ask_transport(const struct ask *ask)
{
    return ask->to.kind == CORE_TCP ? "tcp" : "udp";
}

static uint64_t now_ms(void)
{
    return uv_hrtime() / 1000000;
}

static socklen_t addr_len(const struct core_addr *addr)
{
    return addr->sa.sa_family == AF_INET ? sizeof(addr->in) : sizeof(addr->in6);
}

static void ask_end(struct ask *ask, int state, int err)
{
    ask->state = state;
    ask->err = err;
    if (ask->fd >= 0)
        close(ask->fd);
    ask->fd = -1;
}

/* ---- what is sent ---- */

static size_t request_print(const struct ask *ask, char text[REQUEST_SIZE])
{
    char from[CORE_ADDR_TEXT], to[CORE_ADDR_TEXT];
    bool tcp = ask->to.kind == CORE_TCP;

    core_addr_text(&ask->from, from);
    core_addr_text(&ask->to, to);
    return (size_t)snprintf(text, REQUEST_SIZE,
                            "OPTIONS sip:%s%s SIP/2.0\r\n"
                            "Via: SIP/2.0/%s %s;branch=z9hG4bK%08x;rport\r\n"
                            "Max-Forwards: 70\r\n"
                            "From: <sip:%s>;tag=%08x\r\n"
                            "To: <sip:%s>\r\n"
                            "Call-ID: doctor-%08x@%s\r\n"
                            "CSeq: 1 OPTIONS\r\n"
                            "Content-Length: 0\r\n\r\n",
                            to, tcp ? ";transport=tcp" : "", tcp ? "TCP" : "UDP", from, ask->number,
                            from, ask->number, to, ask->number, from);
}

static void request_send(struct ask *ask)
{
    char text[REQUEST_SIZE];
    size_t len = request_print(ask, text);

    if (send(ask->fd, text, len, MSG_NOSIGNAL) < 0 && errno != EAGAIN)
        ask_end(ask, ASK_FAILED, -errno);
}

/* From the core address, also from its port if nobody has that; several then share it. */
static int source_bind(const struct doctor *doctor, struct ask *ask)
{
    struct core_addr local = ask->to.sa.sa_family == AF_INET ? doctor->local4 : doctor->local6;
    const int on = 1;

    if (!local.in.sin_port) /* at the same place in both families */
        return 0;
    if (ask->to.kind == CORE_TCP || doctor->core_taken)
        core_addr_port_set(&local, 0);
    else if (setsockopt(ask->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)))
        return -errno;
    if (!bind(ask->fd, &local.sa, addr_len(&local)) || errno == EADDRNOTAVAIL)
        return 0; /* not ours: the check of the core address says so */
    return -errno;
}

static void ask_start(const struct doctor *doctor, struct ask *ask)
{
    bool tcp = ask->to.kind == CORE_TCP;
    socklen_t len = sizeof(ask->from.in6);
    int err;

    ask->started = now_ms();
    ask->fd = socket(ask->to.sa.sa_family,
                     (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (ask->fd < 0) {
        ask_end(ask, ASK_FAILED, -errno);
        return;
    }
    if (getrandom(&ask->number, sizeof(ask->number), GRND_NONBLOCK) < 0)
        ask->number = (unsigned)ask->started;
    err = source_bind(doctor, ask);
    if (!err && connect(ask->fd, &ask->to.sa, addr_len(&ask->to)) && errno != EINPROGRESS)
        err = -errno;
    if (!err && getsockname(ask->fd, &ask->from.sa, &len))
        err = -errno;
    if (err) {
        ask_end(ask, ASK_FAILED, err);
        return;
    }
    ask->state = tcp ? ASK_CONNECTING : ASK_WAITING;
    ask->pause_ms = AGAIN_MS;
    ask->again = tcp ? UINT64_MAX : ask->started + AGAIN_MS;
    if (!tcp)
        request_send(ask);
}

/* ---- what comes ---- */

static void text_take(struct str from, char to[ASK_TEXT_SIZE])
{
    size_t len = from.len < ASK_TEXT_SIZE - 1 ? from.len : ASK_TEXT_SIZE - 1;

    for (size_t i = 0; i < len; i++)
        to[i] = (char)(from.p[i] >= ' ' && from.p[i] < 127 ? from.p[i] : '?');
    to[len] = '\0';
}

static struct str header(const struct sip_msg *msg, struct str name)
{
    int at = sip_find_name(msg, name, 0);

    return at < 0 ? (struct str){NULL, 0} : msg->headers[at].value;
}

/* "Sat, 13 Nov 2010 23:29:00 GMT" (RFC 3261 20.17) */
static int64_t date_read(struct str value)
{
    struct tm tm = {0};
    char text[ASK_TEXT_SIZE];
    const char *end;

    text_take(value, text);
    end = strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    return end && !*end ? (int64_t)timegm(&tm) : 0;
}

/* true: it is the answer. */
static bool answer_read(struct ask *ask, char *bytes, size_t len, enum sip_framing framing)
{
    struct sip_msg msg;
    char number[16];
    struct str server;
    int status = sip_scan(bytes, len, framing, true, &msg);

    if (status == 0 && msg.is_request)
        return false; /* a request of the backend's own */
    (void)snprintf(number, sizeof(number), "z9hG4bK%08x", ask->number);
    if (status == 0 && (!str_eq(msg.top_branch, str_of(number)) || msg.status < 200))
        return false;
    if (status) {
        text_take(str_of(refusals[msg.refusal].reason), ask->reason);
        ask_end(ask, ASK_FAILED, -EBADMSG);
        return true;
    }
    ask->took_ms = (unsigned)(now_ms() - ask->started);
    ask->code = msg.status;
    text_take(msg.reason, ask->reason);
    server = header(&msg, STR("Server"));
    text_take(server.len ? server : header(&msg, STR("User-Agent")), ask->server);
    ask->lists_supported = sip_find(&msg, HEADER_SUPPORTED, 0) >= 0;
    ask->supports_path = sip_has_token(&msg, HEADER_SUPPORTED, STR("path"));
    ask->date_s = date_read(header(&msg, STR("Date")));
    ask_end(ask, ASK_ANSWERED, 0);
    return true;
}

static void stream_read(struct ask *ask)
{
    struct sip_frame frame;

    while (ask->state == ASK_WAITING && ask->len) {
        sip_frame((struct str){ask->bytes, ask->len}, sizeof(ask->bytes), &ask->scanned, &frame);
        if (frame.kind == FRAME_MORE)
            return;
        if (frame.kind == FRAME_BROKEN) {
            text_take(str_of(refusals[frame.refusal].reason), ask->reason);
            ask_end(ask, ASK_FAILED, -EBADMSG);
        } else if (frame.kind == FRAME_MESSAGE &&
                   answer_read(ask, ask->bytes + frame.start, frame.len, SIP_STREAM)) {
            return;
        }
        ask->len -= frame.taken;
        memmove(ask->bytes, ask->bytes + frame.taken, ask->len);
    }
}

static void ask_read(struct ask *ask)
{
    bool tcp = ask->to.kind == CORE_TCP;
    ssize_t len = recv(ask->fd, ask->bytes + ask->len, sizeof(ask->bytes) - ask->len, 0);

    if (len < 0) {
        if (errno != EAGAIN)
            ask_end(ask, ASK_FAILED, -errno);
    } else if (!tcp) {
        (void)answer_read(ask, ask->bytes, (size_t)len, SIP_DATAGRAM);
    } else if (!len) {
        ask_end(ask, ASK_FAILED, -ECONNRESET);
    } else {
        ask->len += (size_t)len;
        stream_read(ask);
    }
}

static void connected(struct ask *ask)
{
    socklen_t len = sizeof(int);
    int err = 0;

    if (getsockopt(ask->fd, SOL_SOCKET, SO_ERROR, &err, &len))
        err = errno;
    if (err) {
        ask_end(ask, ASK_FAILED, -err);
        return;
    }
    ask->state = ASK_WAITING;
    request_send(ask);
}

/* ---- all of them ---- */

static bool ask_open(const struct ask *ask)
{
    return ask->state == ASK_CONNECTING || ask->state == ASK_WAITING;
}

static void ask_turn(struct ask *ask, short events)
{
    uint64_t now = now_ms();

    if (ask->state == ASK_CONNECTING && events)
        connected(ask);
    else if (events)
        ask_read(ask);
    if (ask->state == ASK_WAITING && now >= ask->again) {
        ask->pause_ms *= 2;
        ask->again = now + ask->pause_ms;
        request_send(ask);
    }
}

/* How much of a datagram's way is known only once something was sent. */
static void mtu_look(struct ask *ask)
{
    bool four = ask->to.sa.sa_family == AF_INET;
    socklen_t len = sizeof(int);
    int mtu = 0;

    if (ask->fd >= 0 && ask->to.kind == CORE_UDP &&
        !getsockopt(ask->fd, four ? IPPROTO_IP : IPPROTO_IPV6, four ? IP_MTU : IPV6_MTU, &mtu,
                    &len) &&
        mtu > 0)
        ask->mtu = (unsigned)mtu;
}

void asks_run(struct doctor *doctor)
{
    struct pollfd polled[ASKS_MAX];
    uint64_t end = now_ms() + PATIENCE_MS, now;
    bool open = true;

    for (unsigned i = 0; i < doctor->ask_count; i++) {
        ask_start(doctor, &doctor->asks[i]);
        mtu_look(&doctor->asks[i]);
    }
    while (open && (now = now_ms()) < end) {
        uint64_t next = end;

        open = false;
        for (unsigned i = 0; i < doctor->ask_count; i++) {
            const struct ask *ask = &doctor->asks[i];

            polled[i] = (struct pollfd){.fd = ask->fd,
                                        .events = ask->state == ASK_CONNECTING ? POLLOUT : POLLIN};
            open |= ask_open(ask);
            if (ask_open(ask) && ask->again < next)
                next = ask->again;
        }
        if (!open)
            break;
        if (poll(polled, doctor->ask_count, next > now ? (int)(next - now) : 0) < 0)
            break;
        for (unsigned i = 0; i < doctor->ask_count; i++)
            if (ask_open(&doctor->asks[i]))
                ask_turn(&doctor->asks[i], polled[i].revents);
    }
    for (unsigned i = 0; i < doctor->ask_count; i++)
        if (ask_open(&doctor->asks[i])) /* connected, or not even that */
            ask_end(&doctor->asks[i],
                    doctor->asks[i].state == ASK_CONNECTING ? ASK_FAILED : ASK_SILENT, -ETIMEDOUT);
}

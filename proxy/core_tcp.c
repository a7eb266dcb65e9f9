#include "proxy/core_tcp.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proxy/core_listener.h"
#include "proxy/log.h"
#include "proxy/message.h"

enum {
    CONNECT_TIMEOUT_MS = 4000, /* three SYNs: at 0, 1 and 3 s */
    HOLD_OFF_MIN_MS = 100,     /* after a connection that could not be made, then doubled */
    HOLD_OFF_MAX_MS = 2000,    /* so long may a backend be back, and not be asked */
    UNACKNOWLEDGED_MS = 8000,  /* what we sent and nobody took: far below timers B and F */
    KEEPALIVE_MS = 30000,      /* of silence on a connection of ours (RFC 5626 4.4.1) */
    TCP_KEEPALIVE_IDLE_S = 60, /* of the kernel's, for accepted ones */
    TCP_KEEPALIVE_INTERVAL_S = 10,
    QUEUE_BYTES_MAX = 4194304, /* for one connection: as much as a UDP socket is asked to hold */
    READ_SIZE = 65536,
    READS_PER_WAKE_UP = 8, /* then the next connection's turn */
    GATHER_MAX = 64,       /* messages of one sendmsg() */
    PLACES_MAX = 64,
};

struct message {
    struct message *next;
    struct core_addr to;
    bool again; /* its connection was lost once */
    size_t len;
    char bytes[];
};

struct connection {
    struct core_tcp *tcp;
    struct connection *next, **link;
    uv_poll_t poll;
    int fd, events;
    struct core_addr peer; /* with worker and connection number: where messages come from */
    bool ours, connected;
    int error;          /* connect() said so at once; told by the loop */
    struct timer timer; /* of the connect, then of the keepalive */
    uint64_t used_at;

    struct message *first, **last;
    size_t queued; /* bytes */
    size_t begun;  /* bytes of the first message that are sent */

    char *partial; /* of the message that is not complete; NULL: none */
    size_t partial_len, scanned;
};

/* An address that could not be connected to lately. */
struct place {
    struct core_addr addr;
    unsigned failures; /* 0: none, or it works again */
    uint64_t retry_at;
};

struct core_tcp {
    struct core_tcp_options options;
    struct connection *connections;
    struct core_listener *listener4, *listener6;
    struct core_addr local4, local6; /* all zero: that family is not in use */
    struct place places[PLACES_MAX];
    unsigned place_next, accepted, open_handles;
    uint32_t last_number;
    uv_prepare_t prepare;
    bool unsent, closing;
    struct core_tcp_counters counters;
    char *buffer; /* buffer_max and READ_SIZE: all connections read into it, one after another */
    size_t buffer_max;
};

static bool is_crlf(const struct message *message) /* a ping or pong */
{
    return message->len <= strlen("\r\n\r\n");
}

static uint64_t now_of(const struct core_tcp *tcp)
{
    return uv_now(tcp->options.loop);
}

static socklen_t address_len(const struct core_addr *addr)
{
    return addr->sa.sa_family == AF_INET ? sizeof(addr->in) : sizeof(addr->in6);
}

static void log_connection(enum log_level level, const char *what, const struct core_addr *peer,
                           const char *reason)
{
    char text[CORE_ADDR_TEXT];

    core_addr_text(peer, text);
    log_event(level, what, LOG_TEXT("peer", str_of(text)),
              reason ? LOG_TEXT("reason", str_of(reason)) : (struct log_field){0});
}

static void handle_closed(struct core_tcp *tcp)
{
    if (--tcp->open_handles)
        return;
    free(tcp->buffer);
    free(tcp);
}

/* ---- places that can't be connected to ---- */

static struct place *place_find(struct core_tcp *tcp, const struct core_addr *addr)
{
    for (size_t i = 0; i < PLACES_MAX; i++)
        if (tcp->places[i].failures && core_addr_eq(&tcp->places[i].addr, addr))
            return &tcp->places[i];
    return NULL;
}

/* A quarter more or less, so that workers and edges don't come back all at once. */
static uint64_t jitter(uint64_t ms)
{
    uint32_t random = 0;

    if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0)
        return ms;
    return ms - ms / 4 + random % (ms / 2 + 1);
}

static void place_failed(struct core_tcp *tcp, const struct core_addr *addr)
{
    struct place *place = place_find(tcp, addr);
    uint64_t hold_off = HOLD_OFF_MIN_MS;

    if (!place) {
        place = &tcp->places[tcp->place_next++ % PLACES_MAX];
        *place = (struct place){.addr = *addr};
    }
    for (unsigned i = 0; i < place->failures && hold_off < HOLD_OFF_MAX_MS; i++)
        hold_off *= 2;
    if (hold_off > HOLD_OFF_MAX_MS)
        hold_off = HOLD_OFF_MAX_MS;
    place->failures++;
    place->retry_at = now_of(tcp) + jitter(hold_off);
}

static void place_works(struct core_tcp *tcp, const struct core_addr *addr)
{
    struct place *place = place_find(tcp, addr);

    if (place)
        place->failures = 0;
}

/* ---- the end of a connection ---- */

static void connection_closed(uv_handle_t *handle)
{
    struct connection *connection = handle->data;
    struct core_tcp *tcp = connection->tcp;

    free(connection);
    handle_closed(tcp);
}

/* Out of everything; the struct stays until libuv has let go of it. Returns what was not sent. */
static struct message *connection_close(struct connection *connection)
{
    struct core_tcp *tcp = connection->tcp;

    timer_stop(tcp->options.timers, &connection->timer);
    *connection->link = connection->next;
    if (connection->next)
        connection->next->link = connection->link;
    if (!connection->ours)
        tcp->accepted--;
    free(connection->partial);
    uv_close((uv_handle_t *)&connection->poll, connection_closed); /* first: it knows the socket */
    close(connection->fd);
    return connection->first;
}

static void messages_free(struct message *message)
{
    struct message *next;

    for (; message; message = next) {
        next = message->next;
        free(message);
    }
}

static int send_to(struct core_tcp *tcp, const struct core_addr *to, struct str bytes, bool again);

/* Requests are told by lost(). Responses may go by another connection, once. */
static void messages_redirect(struct core_tcp *tcp, const struct message *message)
{
    for (; message; message = message->next) {
        struct core_addr to = message->to;

        to.connection = 0;
        if (!message->to.connection || message->again)
            tcp->counters.send_dropped += !is_crlf(message);
        else
            (void)send_to(tcp, &to, (struct str){message->bytes, message->len}, true);
    }
}

static void connection_lost(struct connection *connection, int err)
{
    struct core_tcp *tcp = connection->tcp;
    bool ours = connection->ours, connected = connection->connected;
    struct core_addr peer = connection->peer;
    struct message *unsent = connection_close(connection);

    log_connection(connected ? LOG_INFO : LOG_WARNING,
                   connected ? "core connection closed" : "core connection not made", &peer,
                   err == -EPIPE ? "closed by the backend" : strerror(-err));
    if (ours && (!connected || err != -EPIPE))
        tcp->counters.failed++;
    if (ours && !connected)
        place_failed(tcp, &peer);
    if (ours) {
        peer.connection = 0;
        tcp->options.lost(tcp->options.context, &peer, connected, err);
    }
    messages_redirect(tcp, unsent);
    messages_free(unsent);
}

/* ---- sending ---- */

static void poll_events(uv_poll_t *poll, int status, int events);

static void events_set(struct connection *connection, int events)
{
    if (connection->events == events)
        return;
    connection->events = events;
    uv_poll_start(&connection->poll, events, poll_events);
}

static unsigned gather(const struct connection *connection, struct iovec iov[GATHER_MAX])
{
    size_t skip = connection->begun;
    unsigned count = 0;

    for (struct message *message = connection->first; message && count < GATHER_MAX;
         message = message->next) {
        iov[count++] = (struct iovec){message->bytes + skip, message->len - skip};
        skip = 0;
    }
    return count;
}

static void sent(struct connection *connection, size_t len)
{
    connection->used_at = now_of(connection->tcp);
    connection->queued -= len;
    connection->begun += len;
    while (connection->first && connection->begun >= connection->first->len) {
        struct message *message = connection->first;

        connection->begun -= message->len;
        connection->first = message->next;
        if (!connection->first)
            connection->last = &connection->first;
        connection->tcp->counters.sent += !is_crlf(message);
        free(message);
    }
}

/* The backend has said that it is done (FIN), and we have yet to read it: what were sent now would
 * be lost without a word. */
static bool is_ending(const struct connection *connection)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof(info);

    return !getsockopt(connection->fd, IPPROTO_TCP, TCP_INFO, &info, &len) &&
           info.tcpi_state == TCP_CLOSE_WAIT;
}

/* An error here is one of the socket, which the loop is told of too: it ends the connection then,
 * and nothing is told from inside a send. */
static void flush(struct connection *connection)
{
    if (is_ending(connection)) {
        events_set(connection, UV_READABLE);
        return;
    }
    while (connection->first) {
        struct iovec iov[GATHER_MAX];
        struct msghdr header = {.msg_iov = iov, .msg_iovlen = gather(connection, iov)};
        ssize_t n = sendmsg(connection->fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            break;
        sent(connection, (size_t)n);
    }
    events_set(connection, connection->first ? UV_READABLE | UV_WRITABLE : UV_READABLE);
}

static void before_wait(uv_prepare_t *prepare)
{
    struct core_tcp *tcp = prepare->data;

    if (!tcp->unsent)
        return;
    tcp->unsent = false;
    for (struct connection *c = tcp->connections; c; c = c->next)
        if (c->connected && c->first && !(c->events & UV_WRITABLE))
            flush(c);
}

static int message_add(struct connection *connection, const struct core_addr *to, struct str bytes,
                       bool again)
{
    struct message *message;

    if (bytes.len > QUEUE_BYTES_MAX - connection->queued)
        return -ENOBUFS;
    message = malloc(sizeof(*message) + bytes.len);
    if (!message)
        return -ENOMEM;
    message->next = NULL;
    message->to = *to;
    message->again = again;
    message->len = bytes.len;
    memcpy(message->bytes, bytes.p, bytes.len);
    *connection->last = message;
    connection->last = &message->next;
    connection->queued += bytes.len;
    connection->tcp->unsent = true;
    return 0;
}

/* ---- keepalive ---- */

static void keepalive_fire(struct timer *timer, uint64_t now)
{
    struct connection *connection =
        (struct connection *)(void *)((char *)timer - offsetof(struct connection, timer));
    struct core_tcp *tcp = connection->tcp;

    if (now - connection->used_at >= KEEPALIVE_MS) {
        connection->used_at = now;
        if (!connection->first)
            (void)message_add(connection, &connection->peer, STR("\r\n\r\n"), true);
    }
    timer_start(tcp->options.timers, timer, connection->used_at + KEEPALIVE_MS, keepalive_fire);
}

/* ---- opening ---- */

static int option_set(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof(value)) ? -errno : 0;
}

static int options_set(int fd)
{
    int err = option_set(fd, IPPROTO_TCP, TCP_NODELAY, 1);

    if (!err)
        err = option_set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS);
    if (!err)
        err = option_set(fd, IPPROTO_TCP, TCP_KEEPIDLE, TCP_KEEPALIVE_IDLE_S);
    if (!err)
        err = option_set(fd, IPPROTO_TCP, TCP_KEEPINTVL, TCP_KEEPALIVE_INTERVAL_S);
    if (!err)
        err = option_set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    return err;
}

static int connection_create(struct core_tcp *tcp, int fd, const struct core_addr *peer,
                             struct connection **out)
{
    struct connection *connection = calloc(1, sizeof(*connection));
    int err = connection ? uv_poll_init(tcp->options.loop, &connection->poll, fd) : -ENOMEM;

    if (err) {
        free(connection);
        return err;
    }
    tcp->open_handles++;
    connection->tcp = tcp;
    connection->poll.data = connection;
    connection->fd = fd;
    connection->last = &connection->first;
    connection->used_at = now_of(tcp);
    connection->peer = *peer;
    connection->peer.kind = CORE_TCP;
    connection->peer.worker = tcp->options.worker;
    if (!++tcp->last_number) /* 0: none */
        tcp->last_number = 1;
    connection->peer.connection = tcp->last_number;

    connection->next = tcp->connections;
    connection->link = &tcp->connections;
    if (connection->next)
        connection->next->link = &connection->next;
    tcp->connections = connection;
    *out = connection;
    return 0;
}

static void connect_fire(struct timer *timer, uint64_t now)
{
    struct connection *connection =
        (struct connection *)(void *)((char *)timer - offsetof(struct connection, timer));

    (void)now;
    connection_lost(connection, -ETIMEDOUT);
}

/* 0: under way. */
static int connect_start(const struct core_tcp *tcp, int fd, const struct core_addr *to)
{
    struct core_addr local = to->sa.sa_family == AF_INET ? tcp->local4 : tcp->local6;
    int err = options_set(fd);

    core_addr_port_set(&local, 0);
    (void)option_set(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1); /* else ports run out sooner */
    if (!err && bind(fd, &local.sa, address_len(&local)))
        err = -errno;
    if (!err && connect(fd, &to->sa, address_len(to)) && errno != EINPROGRESS)
        err = -errno;
    return err;
}

static int connection_open(struct core_tcp *tcp, const struct core_addr *to,
                           struct connection **out)
{
    const struct place *place = place_find(tcp, to);
    struct connection *connection;
    int fd, err;

    if (place && now_of(tcp) < place->retry_at)
        return -EHOSTUNREACH;
    fd = socket(to->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    err = fd < 0 ? -errno : 0;
    if (err)
        return err;
    err = connection_create(tcp, fd, to, &connection);
    if (err) {
        close(fd);
        return err;
    }
    connection->ours = true;
    connection->peer.or_udp = false;
    connection->error = connect_start(tcp, fd, to); /* a socket without a peer has an event, too */
    timer_start(tcp->options.timers, &connection->timer, now_of(tcp) + CONNECT_TIMEOUT_MS,
                connect_fire);
    events_set(connection, UV_WRITABLE);
    *out = connection;
    return 0;
}

/* The one that it came on, else ours to that address. */
static struct connection *connection_find(struct core_tcp *tcp, const struct core_addr *to)
{
    struct connection *ours = NULL;

    for (struct connection *c = tcp->connections; c; c = c->next) {
        if (to->connection && c->peer.connection == to->connection)
            return c;
        if (c->ours && core_addr_eq(&c->peer, to))
            ours = c;
    }
    return ours;
}

static int send_to(struct core_tcp *tcp, const struct core_addr *to, struct str bytes, bool again)
{
    struct connection *connection = connection_find(tcp, to);
    int err = connection ? 0 : connection_open(tcp, to, &connection);

    if (!err)
        err = message_add(connection, to, bytes, again);
    if (err)
        tcp->counters.send_dropped++;
    return err;
}

int core_tcp_send(struct core_tcp *tcp, const struct core_addr *to, struct str bytes)
{
    return send_to(tcp, to, bytes, false);
}

/* ---- receiving ---- */

/* Take all complete messages. Returns how many bytes were taken; -EPROTO: framing is lost (F3). */
static ssize_t messages_take(struct connection *connection, char *bytes, size_t len)
{
    struct core_tcp *tcp = connection->tcp;
    struct sip_frame frame;
    size_t done = 0;

    while (done < len) {
        sip_frame((struct str){bytes + done, len - done}, tcp->options.message_max,
                  &connection->scanned, &frame);
        switch (frame.kind) {
        case FRAME_MORE: return (ssize_t)(done + frame.taken);
        case FRAME_IGNORE: break;
        case FRAME_PING: (void)message_add(connection, &connection->peer, STR("\r\n"), true); break;
        case FRAME_BROKEN:
            log_connection(LOG_WARNING, "core connection has a broken message", &connection->peer,
                           refusals[frame.refusal].reason);
            return -EPROTO;
        case FRAME_MESSAGE:
            tcp->counters.received++;
            tcp->options.received(tcp->options.context, &connection->peer,
                                  bytes + done + frame.start, frame.len);
            break;
        }
        done += frame.taken;
    }
    return (ssize_t)done;
}

static int partial_keep(struct connection *connection, const char *bytes, size_t len)
{
    char *grown;

    connection->partial_len = len;
    if (!len) {
        free(connection->partial);
        connection->partial = NULL;
        return 0;
    }
    grown = realloc(connection->partial, len);
    if (!grown)
        return -ENOMEM;
    connection->partial = grown;
    memcpy(grown, bytes, len);
    return 0;
}

/* One read. 0: nothing more to read now, 1: there may be; else the connection is over. */
static int read_once(struct connection *connection)
{
    struct core_tcp *tcp = connection->tcp;
    size_t len = connection->partial_len;
    ssize_t got, taken;
    int err;

    got = recv(connection->fd, tcp->buffer + len, READ_SIZE, MSG_DONTWAIT);
    if (got == 0)
        return -EPIPE;
    if (got < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    if (len)
        memcpy(tcp->buffer, connection->partial, len);
    len += (size_t)got;
    connection->used_at = now_of(tcp);
    taken = messages_take(connection, tcp->buffer, len);
    if (taken < 0)
        return (int)taken;
    err = partial_keep(connection, tcp->buffer + taken, len - (size_t)taken);
    return err ? err : got == READ_SIZE;
}

static void readable(struct connection *connection)
{
    int more = 1;

    for (int i = 0; more == 1 && i < READS_PER_WAKE_UP; i++)
        more = read_once(connection);
    if (more < 0)
        connection_lost(connection, more);
}

/* libuv has stopped polling: what came before the error, then that. */
static void broken(struct connection *connection, int err)
{
    int more = 0;

    for (int i = 0; more >= 0 && i < READS_PER_WAKE_UP; i++)
        more = read_once(connection);
    connection_lost(connection, more < 0 ? more : err);
}

static int socket_error(const struct connection *connection)
{
    socklen_t len = sizeof(int);
    int error = 0;

    if (connection->error)
        return connection->error;
    if (getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &error, &len))
        return -errno;
    return -error;
}

static void connect_done(struct connection *connection)
{
    struct core_tcp *tcp = connection->tcp;
    int err = socket_error(connection);

    if (err) {
        connection_lost(connection, err);
        return;
    }
    connection->connected = true;
    connection->used_at = now_of(tcp);
    tcp->counters.opened++;
    place_works(tcp, &connection->peer);
    log_connection(LOG_INFO, "core connection opened", &connection->peer, NULL);
    timer_start(tcp->options.timers, &connection->timer, now_of(tcp) + KEEPALIVE_MS,
                keepalive_fire);
    flush(connection);
}

static void poll_events(uv_poll_t *poll, int status, int events)
{
    struct connection *connection = poll->data;

    if (!connection->connected) {
        connect_done(connection);
    } else if (status < 0) {
        broken(connection, -ECONNRESET);
    } else {
        if (events & UV_WRITABLE)
            flush(connection);
        if (events & UV_READABLE)
            readable(connection);
    }
}

/* ---- accepting ---- */

static void refuse(struct core_tcp *tcp, const struct core_addr *peer, const char *reason)
{
    uint64_t n = ++tcp->counters.refused;

    if ((n & (n - 1)) == 0) /* 1, 2, 4, 8, ...: a flood must not fill the log */
        log_connection(LOG_WARNING, "core connection refused", peer, reason);
}

static void accepted(void *context, int fd, const struct core_addr *peer)
{
    struct core_tcp *tcp = context;
    struct connection *connection;
    const char *reason = NULL;

    if (!tcp->options.known(tcp->options.context, peer))
        reason = "its address is no backend";
    else if (tcp->accepted >= CORE_TCP_ACCEPTED_MAX)
        reason = "too many connections from backends";
    else if (options_set(fd) || connection_create(tcp, fd, peer, &connection))
        reason = "out of memory";
    if (reason) {
        refuse(tcp, peer, reason);
        close(fd);
        return;
    }
    tcp->accepted++;
    tcp->counters.accepted++;
    connection->connected = true;
    log_connection(LOG_INFO, "core connection accepted", peer, NULL);
    events_set(connection, UV_READABLE);
}

/* ---- open and close ---- */

static void prepare_closed(uv_handle_t *handle)
{
    handle_closed(handle->data);
}

static int listener_open(struct core_tcp *tcp, const struct core_addr *local,
                         struct core_listener **out)
{
    const struct core_listener_options options = {.loop = tcp->options.loop,
                                                  .timers = tcp->options.timers,
                                                  .local = local,
                                                  .accepted = accepted,
                                                  .context = tcp};

    return core_listener_open(&options, out);
}

int core_tcp_open(const struct core_tcp_options *options, struct core_tcp **out)
{
    struct core_tcp *tcp = calloc(1, sizeof(*tcp));

    if (!tcp)
        return -ENOMEM;
    tcp->options = *options;
    tcp->buffer = malloc(options->message_max + READ_SIZE);
    tcp->buffer_max = options->message_max;
    if (!tcp->buffer) {
        free(tcp);
        return -ENOMEM;
    }
    uv_prepare_init(options->loop, &tcp->prepare);
    tcp->prepare.data = tcp;
    tcp->open_handles = 1;
    uv_prepare_start(&tcp->prepare, before_wait);
    *out = tcp;
    return 0;
}

int core_tcp_local_set(struct core_tcp *tcp, const struct core_addr *local)
{
    bool six = local->sa.sa_family == AF_INET6;
    int err = listener_open(tcp, local, six ? &tcp->listener6 : &tcp->listener4);

    if (!err)
        *(six ? &tcp->local6 : &tcp->local4) = *local;
    return err;
}

int core_tcp_message_max_set(struct core_tcp *tcp, size_t message_max)
{
    if (message_max > tcp->buffer_max) {
        char *larger = malloc(message_max + READ_SIZE); /* between two reads nothing is in it */

        if (!larger)
            return -ENOMEM;
        free(tcp->buffer);
        tcp->buffer = larger;
        tcp->buffer_max = message_max;
    }
    tcp->options.message_max = message_max;
    return 0;
}

const struct core_tcp_counters *core_tcp_counters(const struct core_tcp *tcp)
{
    return &tcp->counters;
}

void core_tcp_close(struct core_tcp **tcp)
{
    struct core_tcp *closing = *tcp;
    struct connection *connection, *next;

    if (!closing)
        return;
    *tcp = NULL;
    core_listener_close(&closing->listener4);
    core_listener_close(&closing->listener6);
    for (connection = closing->connections; connection; connection = next) {
        next = connection->next;
        if (connection->connected)
            flush(connection);
        messages_free(connection_close(connection));
    }
    uv_close((uv_handle_t *)&closing->prepare, prepare_closed);
}

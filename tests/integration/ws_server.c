/* What tests/integration/test_ws.py talks to: tls/ and ws/ on a real loop, and in place of proxy/
 * one that does what a message says.
 *
 *   ws_server [chain.pem key.pem] [KEY=VALUE ...]
 *
 * It prints the ports it listens on ("ws PORT", "wss PORT"), then an event a line ("open 1 WS ...",
 * "closed 1 REASON"). End of its standard input: streams_close(), then all is taken down and
 * checked. */
#include <arpa/inet.h>
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "proxy/log.h"
#include "tls/socket.h"
#include "tls/stream.h"
#include "ws/ws.h"

enum { LISTENERS = 8, TEXT_SIZE = 256 };

struct flow {
    struct flow_options options;
    unsigned number;
};

struct port {
    uv_poll_t poll;
    int fd;
    struct conf_listener listener;
};

static struct {
    uv_loop_t loop;
    uv_timer_t timer;
    uv_poll_t input;
    struct timers *timers;
    struct ws *ws;
    struct streams *streams;
    struct tickets *tickets;
    struct certificates *certificates;
    struct port ports[LISTENERS];
    unsigned port_count, flows, flows_max;
    atomic_uint connections;
    bool stopping;
} server = {.flows_max = 1000};

static char *origins[2];
static struct conf conf = {
    .domain = "sip.example.com",
    .aliases = (char *[]){"edge.example.com", "::1"},
    .alias_count = 2,
    .websocket.path = "/",
    .websocket.origins = origins,
    .websocket.ping_interval_s = 25,
    .websocket.pong_timeout_s = 10,
    .limits.message_size = 65536,
    .limits.send_queue = 262144,
    .limits.handshake_timeout_s = 10,
    .limits.upgrade_timeout_s = 10,
    .limits.message_timeout_s = 15,
    .limits.first_message_timeout_s = 30,
    .limits.idle_timeout_s = 7200,
};

/* In place of proxy/ --------------------------------------------------------------------------- */

int flow_open(struct proxy *proxy, const struct flow_options *options, uint64_t now,
              struct flow **out)
{
    static unsigned number;
    char peer[SOCKET_TEXT], local[SOCKET_TEXT];
    struct flow *flow;

    (void)proxy, (void)now;
    if (server.flows >= server.flows_max)
        return -EMFILE;
    flow = calloc(1, sizeof(*flow));
    if (!flow)
        return -ENOMEM;
    flow->options = *options;
    flow->number = ++number;
    server.flows++;
    socket_text(options->peer, peer);
    socket_text(options->local, local);
    printf("open %u %s %s %u %s %s %s\n", flow->number, options->transport->via,
           options->transport->uri, options->transport->default_port,
           options->host ? options->host : "-", peer, local);
    *out = flow;
    return 0;
}

void flow_facts(const struct flow *flow, struct flow_facts *out)
{
    *out = (struct flow_facts){.transport = flow->options.transport->via};
}

static int answer(struct flow *flow, struct str bytes)
{
    return flow->options.transport->send(flow->options.conn, bytes);
}

void flow_close(struct flow *flow, const char *reason, uint64_t now)
{
    (void)now;
    if (answer(flow, STR("too late")) != -EPIPE)
        printf("wrong: sent on a flow that is gone\n");
    printf("closed %u %s\n", flow->number, reason);
    server.flows--;
    free(flow);
}

/* "COUNT SIZE": numbered messages, each of one letter, until send() says no. */
static void flood(struct flow *flow, char *what)
{
    unsigned long count = strtoul(what, &what, 10);
    size_t size = strtoul(what, NULL, 10);
    char *bytes = malloc(size + TEXT_SIZE);
    int err = 0;

    assert(bytes);
    for (unsigned long i = 0; i < count && !err; i++) {
        memset(bytes, 'a' + (int)(i % 26), size);
        bytes[snprintf(bytes, TEXT_SIZE, "%lu ", i)] = ' ';
        err = answer(flow, (struct str){bytes, size});
    }
    printf("flood %u %s\n", flow->number, err ? strerror(-err) : "sent");
    free(bytes);
}

void proxy_oversize(struct flow *flow)
{
    (void)flow;
}

int proxy_receive_message(struct flow *flow, char *bytes, size_t len, uint64_t now)
{
    char text[TEXT_SIZE] = "";

    (void)now;
    memcpy(text, bytes, len < sizeof(text) ? len : sizeof(text) - 1);
    if (strncmp(text, "FLOOD ", 6) == 0)
        flood(flow, text + 6);
    else if (strcmp(text, "CLOSE") == 0)
        flow->options.transport->close(flow->options.conn, CAUSE_FLOW_TIMER);
    else if (strcmp(text, "TOO LARGE") == 0)
        return -EMSGSIZE;
    else
        answer(flow, (struct str){bytes, len});
    memset(bytes, 'z', len); /* it may be changed in place */
    return 0;
}

/* A message is a line here. */
ssize_t proxy_receive_stream(struct flow *flow, char *bytes, size_t len, size_t *scanned,
                             uint64_t now)
{
    char *end = memchr(bytes, '\n', len);
    size_t taken = end ? (size_t)(end + 1 - bytes) : 0;

    (void)scanned, (void)now;
    if (taken == 2 && bytes[0] == '\r') /* half a ping, or a pong */
        return 2;
    if (taken)
        answer(flow, (struct str){bytes, taken});
    return (ssize_t)taken;
}

void flow_name_print(const struct proxy *proxy, uint64_t number, char name[FLOW_NAME_SIZE])
{
    (void)proxy;
    (void)snprintf(name, FLOW_NAME_SIZE, "0.%" PRIu64, number);
}

/* In place of the worker ----------------------------------------------------------------------- */

static void timers_changed(void *context);

static void timer_fire(uv_timer_t *timer)
{
    (void)timer;
    timers_run(server.timers, uv_now(&server.loop));
    timers_changed(NULL);
}

static void timers_changed(void *context)
{
    uint64_t next = timers_next(server.timers), now = uv_now(&server.loop);

    (void)context;
    if (next == UINT64_MAX)
        uv_timer_stop(&server.timer);
    else
        uv_timer_start(&server.timer, timer_fire, next > now ? next - now : 0, 0);
}

static void accept_one(uv_poll_t *poll, int status, int events)
{
    struct port *port = poll->data;
    union conf_sockaddr peer, local;
    socklen_t peer_len = sizeof(peer), local_len = sizeof(local);
    int fd, one = 1;

    (void)status, (void)events;
    fd = accept4(port->fd, &peer.sa, &peer_len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    getsockname(fd, &local.sa, &local_len);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    atomic_fetch_add(&server.connections, 1);
    streams_accept(server.streams, &port->listener, fd, &peer.sa, &local.sa);
}

/* Behind a load balancer, which is 127.0.0.1. */
static void listen_behind(struct conf_listener *listener)
{
    static struct conf_network balancer = {.bits = 32};

    uv_ip4_addr("127.0.0.1", 0, &balancer.address.in);
    listener->proxy_protocol = &balancer;
    listener->proxy_protocol_count = 1;
}

static void listen_on(const char *name, const char *address, enum conf_listener_kind kind)
{
    struct port *port = &server.ports[server.port_count++];

    if (strstr(name, "behind"))
        listen_behind(&port->listener);
    union conf_sockaddr sa = {0};
    socklen_t len = sizeof(sa);

    if (uv_ip4_addr(address, 0, &sa.in))
        uv_ip6_addr(address, 0, &sa.in6);
    port->fd = socket(sa.sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    port->listener.kind = kind;
    if (bind(port->fd, &sa.sa, socket_len(&sa.sa)) < 0 || listen(port->fd, 128) < 0) {
        printf("%s 0\n", name); /* no IPv6 here */
        close(port->fd);
        server.port_count--;
        return;
    }
    getsockname(port->fd, &sa.sa, &len);
    printf("%s %u\n", name, ntohs(sa.sa.sa_family == AF_INET ? sa.in.sin_port : sa.in6.sin6_port));
    uv_poll_init(&server.loop, &port->poll, port->fd);
    port->poll.data = port;
    uv_poll_start(&port->poll, UV_READABLE, accept_one);
}

static void port_closed(uv_handle_t *handle)
{
    close(((struct port *)handle->data)->fd);
}

static void stop(uv_poll_t *input, int status, int events)
{
    char bytes[16];

    (void)status, (void)events;
    if (read(STDIN_FILENO, bytes, sizeof(bytes)) > 0)
        return;
    uv_close((uv_handle_t *)input, NULL);
    for (unsigned i = 0; i < server.port_count; i++)
        uv_close((uv_handle_t *)&server.ports[i].poll, port_closed);
    streams_close(server.streams);
    server.stopping = true;
}

static int descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int count = 0;

    assert(dir);
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

static void load_certificates(char *chain, char *key)
{
    static const struct ticket_keys ticket_keys = {
        .bytes = {1, 2, 3}
    };
    static struct conf_certificate pair;
    struct certificates_options with = {.conf = &conf, .errors = stderr};

    pair = (struct conf_certificate){.chain = chain, .key = key, .line = 1};
    conf.certificates = &pair;
    conf.certificate_count = 1;
    if (pems_read(&conf, &with.pems) || tickets_open(&ticket_keys, &server.tickets))
        exit(1);
    with.tickets = server.tickets;
    if (certificates_load(&with, &server.certificates))
        exit(1);
    pems_free(&with.pems);
}

static void set(const char *key, char *value)
{
    const struct {
        const char *key;
        unsigned *number;
    } numbers[] = {
        {"flows",           &server.flows_max                   },
        {"ping",            &conf.websocket.ping_interval_s     },
        {"pong",            &conf.websocket.pong_timeout_s      },
        {"handshake",       &conf.limits.handshake_timeout_s    },
        {"upgrade",         &conf.limits.upgrade_timeout_s      },
        {"message_timeout", &conf.limits.message_timeout_s      },
        {"first",           &conf.limits.first_message_timeout_s},
        {"idle",            &conf.limits.idle_timeout_s         },
    };

    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        if (strcmp(key, numbers[i].key) == 0)
            *numbers[i].number = (unsigned)strtoul(value, NULL, 10);
    if (strcmp(key, "size") == 0)
        conf.limits.message_size = strtoul(value, NULL, 10);
    if (strcmp(key, "queue") == 0)
        conf.limits.send_queue = strtoul(value, NULL, 10);
    if (strcmp(key, "path") == 0)
        conf.websocket.path = value;
    if (strcmp(key, "origin") == 0)
        origins[conf.websocket.origin_count++] = value;
}

static int take_down(int descriptors_before)
{
    int err;

    streams_destroy(&server.streams);
    ws_destroy(&server.ws);
    uv_close((uv_handle_t *)&server.timer, NULL);
    uv_run(&server.loop, UV_RUN_DEFAULT);
    err = uv_loop_close(&server.loop);
    timers_destroy(&server.timers);
    certificates_unref(&server.certificates);
    tickets_close(&server.tickets);
    printf("end loop=%d connections=%u flows=%u descriptors=%d\n", err,
           atomic_load(&server.connections), server.flows, descriptors() - descriptors_before);
    return err;
}

int main(int argc, char **argv)
{
    struct streams_options options = {
        .loop = &server.loop,
        .timers_changed = timers_changed,
        .conf = &conf,
        .connections = &server.connections,
        .websocket = &ws_protocol,
    };
    int before, arg = 1;

    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    (void)signal(SIGPIPE, SIG_IGN); /* as main.c does */
    if (argc > 2 && !strchr(argv[1], '=')) {
        load_certificates(argv[1], argv[2]);
        arg = 3;
    }
    for (; arg < argc; arg++) {
        char *value = argv[arg];
        const char *key = strsep(&value, "=");

        set(key, value);
    }

    uv_loop_init(&server.loop); /* the first loop of a process leaves two descriptors open */
    uv_loop_close(&server.loop);
    before = descriptors();
    uv_loop_init(&server.loop);
    uv_timer_init(&server.loop, &server.timer);
    if (timers_create(uv_now(&server.loop), &server.timers))
        return 1;
    options.timers = server.timers;
    options.certificates = server.certificates;
    if (ws_create(&server.ws))
        return 1;
    options.websocket_context = server.ws;
    if (streams_create(&options, &server.streams))
        return 1;
    listen_on("ws", "127.0.0.1", CONF_WS);
    listen_on("ws6", "::1", CONF_WS);
    listen_on("ws46", "::", CONF_WS); /* IPv4 comes as ::ffff:127.0.0.1 */
    listen_on("tcp+ws", "127.0.0.1", CONF_TCP_WS);
    listen_on("ws-behind", "0.0.0.0", CONF_WS);
    if (server.certificates) {
        listen_on("wss", "127.0.0.1", CONF_WSS);
        listen_on("tls+wss", "127.0.0.1", CONF_TLS_WSS);
        listen_on("wss-behind", "0.0.0.0", CONF_WSS);
    }
    fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK);
    uv_poll_init(&server.loop, &server.input, STDIN_FILENO);
    uv_poll_start(&server.input, UV_READABLE, stop);
    printf("ready\n");

    while (!server.stopping || streams_count(server.streams))
        uv_run(&server.loop, UV_RUN_ONCE);
    return take_down(before);
}

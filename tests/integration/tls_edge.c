#include "tls_edge.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/err.h>

#include "pki.h"

static const struct ticket_keys ticket_keys = {.bytes = "a key"};

void edge_setup(struct edge *edge)
{
    struct conf *conf = &edge->conf;

    (void)signal(SIGPIPE, SIG_IGN); /* as main.c does */
    memset(edge, 0, sizeof(*edge));
    conf->path = "sipward.yaml";
    conf->domain = "sip.example.com";
    conf->certificates = edge->certificates;
    conf->certificate_count = 2;
    edge->certificates[0] =
        (struct conf_certificate){strdup(pki_path("ec.pem")), strdup(pki_path("ec.key")), 2};
    edge->certificates[1] =
        (struct conf_certificate){strdup(pki_path("wild.pem")), strdup(pki_path("wild.key")), 3};
    conf->limits.message_size = 65536;
    conf->limits.connections = 100;
    conf->limits.send_queue = 262144;
    conf->limits.handshake_timeout_s = 10;
    conf->limits.message_timeout_s = 15;
    conf->limits.first_message_timeout_s = 30;
    conf->limits.idle_timeout_s = 7200;
}

static void accepted(void *context, const struct conf_listener *conf, int fd,
                     const struct sockaddr *peer, const struct sockaddr *local)
{
    struct edge *edge = context;

    edge->accepted_fd = fd;
    streams_accept(edge->streams, conf, fd, peer, local);
}

static void timers_changed(void *context)
{
    struct edge *edge = context;

    edge->timers_changed++;
}

static void address_parse(const char *address, struct conf_listener *listen)
{
    if (inet_pton(AF_INET, address, &listen->address.in.sin_addr) == 1) {
        listen->address.sa.sa_family = AF_INET;
        return;
    }
    listen->address.sa.sa_family = AF_INET6;
    listen->any = !strcmp(address, "any");
    if (!listen->any)
        assert_int_equal(inet_pton(AF_INET6, address, &listen->address.in6.sin6_addr), 1);
}

struct certificates *edge_certificates(struct edge *edge)
{
    struct certificates_options options = {
        .conf = &edge->conf, .tickets = edge->tickets, .errors = stderr};
    struct certificates *table;

    assert_int_equal(pems_read(&edge->conf, &options.pems), 0);
    assert_int_equal(certificates_load(&options, &table), 0);
    pems_free(&options.pems);
    return table;
}

void edge_start(struct edge *edge, enum conf_listener_kind kind, const char *address)
{
    struct streams_options streams;
    struct listener_options listener;

    assert_int_equal(uv_loop_init(&edge->loop), 0);
    assert_int_equal(timers_create(uv_now(&edge->loop), &edge->timers), 0);
    assert_int_equal(tickets_open(&ticket_keys, &edge->tickets), 0);
    edge->table = edge_certificates(edge);
    edge->listen.kind = kind;
    address_parse(address, &edge->listen);
    streams = (struct streams_options){
        .loop = &edge->loop,
        .proxy = &edge->proxy,
        .timers = edge->timers,
        .timers_changed = timers_changed,
        .context = edge,
        .conf = &edge->conf,
        .certificates = edge->table,
        .connections = &edge->connections,
    };
    assert_int_equal(streams_create(&streams, &edge->streams), 0);
    listener = (struct listener_options){
        .loop = &edge->loop,
        .conf = &edge->listen,
        .connections = &edge->connections,
        .connections_max = edge->conf.limits.connections,
        .accepted = accepted,
        .context = edge,
    };
    assert_int_equal(listener_open(&listener, &edge->listener), 0);
    assert_int_equal(listener_start(edge->listener), 0);
}

/* Wakes up for `fd` too. */
static void turn_with(struct edge *edge, int fd, short events)
{
    struct pollfd ready[] = {
        {.fd = uv_backend_fd(&edge->loop), .events = POLLIN},
        {.fd = fd,                         .events = events},
    };

    /* Something left for the next turn makes the timeout 0. */
    (void)poll(ready, ARRAY_LEN(ready), uv_backend_timeout(&edge->loop) == 0 ? 0 : 5);
    uv_run(&edge->loop, UV_RUN_NOWAIT);
    timers_run(edge->timers, uv_now(&edge->loop) + edge->skew);
}

void edge_turn(struct edge *edge)
{
    turn_with(edge, -1, 0);
}

void edge_teardown(struct edge *edge)
{
    listener_close(&edge->listener);
    streams_close(edge->streams);
    UNTIL(edge, streams_count(edge->streams) == 0);
    assert_int_equal(atomic_load(&edge->connections), 0);
    assert_int_equal(edge->proxy.opened, edge->proxy.closed);
    streams_destroy(&edge->streams);
    uv_run(&edge->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&edge->loop), 0);
    assert_int_equal(timers_next(edge->timers), UINT64_MAX);
    timers_destroy(&edge->timers);
    certificates_unref(&edge->table);
    tickets_close(&edge->tickets);
    for (size_t i = 0; i < ARRAY_LEN(edge->certificates); i++) {
        free(edge->certificates[i].chain);
        free(edge->certificates[i].key);
    }
}

/* Clients -------------------------------------------------------------------------------------- */

static void client_address(const struct edge *edge, union conf_sockaddr *to)
{
    uint16_t port = htons(listener_port(edge->listener));

    *to = edge->listen.address;
    if (edge->listen.any) { /* by IPv4, to see how that arrives */
        memset(to, 0, sizeof(*to));
        to->in.sin_family = AF_INET;
        to->in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    }
    if (to->sa.sa_family == AF_INET)
        to->in.sin_port = port;
    else
        to->in6.sin6_port = port;
}

void client_connect(struct client *client, struct edge *edge, const struct client_options *options)
{
    union conf_sockaddr to;

    memset(client, 0, sizeof(*client));
    client->edge = edge;
    client_address(edge, &to);
    client->fd = socket(to.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(client->fd >= 0);
    if (options->receive_buffer)
        setsockopt(client->fd, SOL_SOCKET, SO_RCVBUF, &options->receive_buffer, sizeof(int));
    assert_int_equal(connect(client->fd, &to.sa, sizeof(to)), 0); /* the backlog answers */
    assert_int_equal(fcntl(client->fd, F_SETFL, O_NONBLOCK), 0);
    if (options->plain)
        return;
    client->context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_security_level(client->context, 0);
    if (options->version) {
        SSL_CTX_set_min_proto_version(client->context, TLS1_VERSION);
        SSL_CTX_set_max_proto_version(client->context, options->version);
    }
    SSL_CTX_set_mode(client->context, SSL_MODE_ENABLE_PARTIAL_WRITE);
    client->ssl = SSL_new(client->context);
    if (options->name)
        SSL_set_tlsext_host_name(client->ssl, options->name);
    SSL_set_fd(client->ssl, client->fd);
    SSL_set_connect_state(client->ssl);
}

/* Whether a call should be made again after a turn. */
static bool again(struct client *client, int result, short plain_events)
{
    short events = plain_events;

    if (client->ssl) {
        int error = SSL_get_error(client->ssl, result);

        if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
            return false;
        events = error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT;
    } else if (errno != EAGAIN) {
        return false;
    }
    turn_with(client->edge, client->fd, events);
    return true;
}

bool client_handshake(struct client *client)
{
    uint64_t end = uv_hrtime() + 10000000000U;
    int result;

    do {
        ERR_clear_error();
        result = SSL_do_handshake(client->ssl);
    } while (result != 1 && again(client, result, POLLIN) && uv_hrtime() < end);
    return result == 1;
}

void client_open(struct client *client, struct edge *edge, const struct client_options *options)
{
    unsigned opened = edge->proxy.opened;

    client_connect(client, edge, options);
    if (client->ssl)
        assert_true(client_handshake(client));
    UNTIL(edge, edge->proxy.opened > opened);
}

void client_send(struct client *client, const char *bytes, size_t len)
{
    uint64_t end = uv_hrtime() + 10000000000U;

    while (len) {
        int put;

        ERR_clear_error();
        put = client->ssl ? SSL_write(client->ssl, bytes, (int)len)
                          : (int)send(client->fd, bytes, len, MSG_NOSIGNAL);
        if (put > 0) {
            bytes += put;
            len -= (size_t)put;
        } else if (!again(client, put, POLLOUT) || uv_hrtime() > end) {
            fail_msg("the client can't send");
        }
    }
}

void client_say(struct client *client, const char *text)
{
    client_send(client, text, strlen(text));
}

/* >0: bytes. 0: properly closed (plain: FIN). <0: cut or reset, see errno. */
static int client_read(struct client *client, char *bytes, size_t size)
{
    uint64_t end = uv_hrtime() + 10000000000U;
    int got;

    do {
        ERR_clear_error();
        errno = 0;
        got = client->ssl ? SSL_read(client->ssl, bytes, (int)size)
                          : (int)recv(client->fd, bytes, size, 0);
    } while (got < (client->ssl ? 1 : 0) && again(client, got, POLLIN) && uv_hrtime() < end);
    if (client->ssl && got <= 0)
        return SSL_get_error(client->ssl, got) == SSL_ERROR_ZERO_RETURN ? 0 : -1;
    return got;
}

void client_expect(struct client *client, const char *bytes, size_t len)
{
    char got[16384];

    while (len) {
        int count = client_read(client, got, len < sizeof(got) ? len : sizeof(got));

        if (count <= 0)
            fail_msg("closed, and %zu bytes should still come", len);
        assert_memory_equal(got, bytes, count);
        bytes += count;
        len -= (size_t)count;
    }
}

void client_hear(struct client *client, const char *text)
{
    client_expect(client, text, strlen(text));
}

enum client_end client_ended(struct client *client)
{
    char got[16384];
    int count;

    while ((count = client_read(client, got, sizeof(got))) > 0)
        ;
    if (count == 0)
        return CLIENT_CLOSED_PROPERLY;
    return errno == ECONNRESET ? CLIENT_RESET : CLIENT_CUT;
}

void client_close(struct client *client)
{
    SSL_free(client->ssl);
    SSL_CTX_free(client->context);
    if (client->fd >= 0)
        close(client->fd);
    memset(client, 0, sizeof(*client));
    client->fd = -1;
}

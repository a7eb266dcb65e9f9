#include "edge.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *FROM_CLIENTS[] = {"P-Asserted-Identity", "Remote-Party-ID",
                               "P-Access-Network-Info;network-provided"};
static char *TO_CLIENTS[] = {"P-Charging-Vector"};
static struct conf_backend BACKEND = {.host = "pbx.example.com", .port = 5060};

unsigned edge_inside;

/* Whatever goes out is a pong, or a message in canonical form: one that comes out the same when it
 * comes in again (V7, N1 to N4). */
static void check_sent(struct str bytes)
{
    static struct sip_msg msg;
    struct buf again;
    char *copy;

    if (str_eq(bytes, STR("\r\n")))
        return;
    if (bytes.len > 20 && memcmp(bytes.p, "SIP/2.0 400 Bad CSeq", 20) == 0)
        return; /* it repeats the CSeq, as its receiver matches by that (RFC 3261 8.2.6.2) */
    copy = malloc(bytes.len);
    assert_non_null(copy);
    memcpy(copy, bytes.p, bytes.len);
    assert_int_equal(buf_create(&again, bytes.len + 1024), 0);
    if (sip_scan(copy, bytes.len, SIP_STREAM, true, &msg))
        fail_msg("sent (%s):\n" STR_FMT, msg.refusal ? refusals[msg.refusal].reason : "no message",
                 STR_ARG(bytes));
    sip_print(&msg, &again);
    if (again.overflow || !str_eq(buf_str(&again), bytes))
        fail_msg("sent:\n" STR_FMT "\ninstead of:\n" STR_FMT, STR_ARG(bytes),
                 STR_ARG(buf_str(&again)));
    buf_destroy(&again);
    free(copy);
}

static void keep(struct edge *edge, struct inbox *inbox, const struct core_addr *to,
                 struct str bytes)
{
    edge_inside++;
    assert_true(inbox->count < EDGE_SENT_MAX);
    check_sent(bytes);
    inbox->times[inbox->count] = edge->now;
    if (to)
        inbox->to[inbox->count] = *to;
    inbox->lengths[inbox->count] = bytes.len;
    inbox->messages[inbox->count] = calloc(1, bytes.len + 1);
    memcpy(inbox->messages[inbox->count++], bytes.p, bytes.len);
    edge_inside--;
}

static int core_send(void *context, const struct core_addr *to, struct str bytes)
{
    struct edge *edge = context;

    if (to->kind == CORE_TCP && edge->tcp_error)
        return edge->tcp_error;
    if (edge->dead >> (ntohl(to->in.sin_addr.s_addr) & 31) & 1)
        return -EPIPE;
    keep(edge, &edge->core, to, bytes);
    return 0;
}

static int client_send(void *conn, struct str bytes)
{
    struct client *client = conn;

    if (client->broken)
        return -EPIPE;
    keep(client->edge, &client->inbox, NULL, bytes);
    return 0;
}

static void client_close(void *conn, enum cause cause)
{
    struct client *client = conn;

    (void)cause;
    client->inbox.closed = true;
}

static const struct flow_transport TRANSPORTS[] = {
    {"tls", "TLS", "tls", 5061, client_send, client_close},
    {"wss", "WSS", "ws",  443,  client_send, client_close},
    {"tcp", "TCP", "tcp", 5060, client_send, client_close},
};

static struct core_addr udp(const char *host, uint16_t port)
{
    struct core_addr addr = {.kind = CORE_UDP};

    addr.in.sin_family = AF_INET;
    addr.in.sin_port = htons(port);
    inet_pton(AF_INET, host, &addr.in.sin_addr);
    return addr;
}

void edge_setup(struct edge *edge, bool contact_path)
{
    memset(edge, 0, sizeof(*edge));
    sip_values_init();
    edge->now = 1000000;
    edge->token_key = 7;
    edge->instance = 12345;
    edge->conf = (struct conf){
        .domain = "sip.test",
        .connections_max = EDGE_CLIENTS,
        .backends = &BACKEND,
        .backend_count = 1,
        .contact_path = contact_path,
        .flow_gone_status = 430,
        .headers = {.from_clients = FROM_CLIENTS,
                    .from_client_count = ARRAY_LEN(FROM_CLIENTS),
                    .to_clients = TO_CLIENTS,
                    .to_client_count = ARRAY_LEN(TO_CLIENTS) },
        .limits = {.message_size = 65536,
                    .udp_size = 1300,
                    .max_forwards = 70,
                    .transactions = 1000,
                    .transactions_per_connection = 100,
                    .try_timeout_ms = 1600,
                    .idle_timeout_s = 7200},
        .probe = {.interval_s = 10,       .timeout_s = 2,                       .down_after = 3, .up_after = 2},
    };
    edge->pbx = udp("10.0.0.5", 5060);
    edge->view = (struct core_view){
        .references = 1,
        .conf = &edge->conf,
        .endpoints = {{.addr = edge->pbx, .weight = 1}},
        .endpoint_count = 1,
        .local4 = udp("10.0.0.2", 5060),
    };
    edge_start(edge);
}

void edge_start(struct edge *edge)
{
    proxy_destroy(&edge->proxy);
    timers_destroy(&edge->timers);
    assert_int_equal(timers_create(edge->now, &edge->timers), 0);
    const uint8_t key[32] = {edge->token_key};
    struct proxy_options options = {
        .core = &edge->view,
        .health = &edge->health,
        .probes = edge->probes,
        .now = edge->now,
        .worker = 2,
        .timers = edge->timers,
        .run_key = key,
        .instance = edge->instance,
        .core_send = core_send,
        .context = edge,
    };
    assert_int_equal(proxy_create(&options, &edge->proxy), 0);
}

struct core_addr edge_backend(unsigned index)
{
    char host[16];

    snprintf(host, sizeof(host), "10.0.0.%u", 5 + index);
    return udp(host, 5060);
}

void edge_backends(struct edge *edge, unsigned count)
{
    static struct conf_backend backends[8];

    assert_true(count <= ARRAY_LEN(backends));
    for (unsigned i = 0; i < count; i++) {
        backends[i] = (struct conf_backend){.host = "pbx.example.com", .port = 5060};
        edge->view.endpoints[i] = (struct endpoint){.addr = edge_backend(i),
                                                    .slot = (uint16_t)i,
                                                    .backend = (uint16_t)i,
                                                    .priority = i,
                                                    .weight = 1};
    }
    edge->conf.backends = backends;
    edge->conf.backend_count = count;
    edge->view.endpoint_count = count;
    edge_start(edge);
}

static void inbox_free(struct inbox *inbox)
{
    for (unsigned i = 0; i < inbox->count; i++)
        free(inbox->messages[i]);
    inbox->count = 0;
}

void edge_teardown(struct edge *edge)
{
    for (unsigned i = 0; i < EDGE_CLIENTS; i++)
        edge_hang_up(&edge->clients[i]);
    edge_wait(edge, 200000); /* whatever is left ends by its own timers */
    assert_int_equal(proxy_sizes(edge->proxy).transactions, 0);
    assert_int_equal(proxy_sizes(edge->proxy).requests, 0);
    assert_int_equal(proxy_sizes(edge->proxy).dialogs, 0);
    assert_int_equal(timers_count(edge->timers), 0);
    proxy_destroy(&edge->proxy);
    timers_destroy(&edge->timers);
    inbox_free(&edge->core);
    for (unsigned i = 0; i < EDGE_CLIENTS; i++)
        inbox_free(&edge->clients[i].inbox);
}

struct client *edge_client(struct edge *edge, unsigned index, const char *transport)
{
    struct client *client = &edge->clients[index];
    struct sockaddr_in peer = udp("192.0.2.7", (uint16_t)(50000 + index)).in;
    struct sockaddr_in local = udp("198.51.100.1", 5061).in;
    struct flow_options options = {
        .transport = &TRANSPORTS[strcmp(transport, "WSS") == 0   ? 1
                                 : strcmp(transport, "TCP") == 0 ? 2
                                                                 : 0],
        .conn = client,
        .peer = (struct sockaddr *)&peer,
        .local = (struct sockaddr *)&local,
        .number = index,
    };

    client->edge = edge;
    int err = flow_open(edge->proxy, &options, edge->now, &client->flow);
    if (err == -ENOMEM)
        return NULL;
    assert_int_equal(err, 0);
    return client;
}

void edge_hang_up(struct client *client)
{
    if (client->flow)
        flow_close(client->flow, "closed by client", client->edge->now);
    client->flow = NULL;
}

void edge_wait(struct edge *edge, uint64_t ms)
{
    uint64_t end = edge->now + ms, next;

    while ((next = timers_next(edge->timers)) <= end) {
        edge->now = next > edge->now ? next : edge->now;
        timers_run(edge->timers, edge->now);
    }
    edge->now = end;
    timers_run(edge->timers, edge->now);
}

/* Text with \n to a message with CRLF; a body stands behind an empty line. */
static char *compose(const char *format, va_list args, size_t *len)
{
    char *text, *message, *at;

    edge_inside++;
    assert_true(vasprintf(&text, format, args) >= 0);
    message = malloc(strlen(text) * 2 + 64);
    char *body = strstr(text, "\n\n");
    if (body) {
        *body = '\0';
        body += 2;
    }
    at = message;
    for (const char *c = text; *c; c++) {
        if (*c == '\n' && (c == text || c[-1] != '\r'))
            *at++ = '\r';
        *at++ = *c;
    }
    while (at > message && (at[-1] == '\n' || at[-1] == '\r'))
        at--;
    *at = '\0';
    if (!strstr(message, "Content-Length"))
        at += sprintf(at, "\r\nContent-Length: %zu", body ? strlen(body) : 0);
    at += sprintf(at, "\r\n\r\n%s", body ? body : "");
    *len = (size_t)(at - message);
    free(text);
    edge_inside--;
    return message;
}

int edge_from_client(struct client *client, const char *format, ...)
{
    size_t len, scanned = 0;
    va_list args;
    char *message;
    ssize_t taken;

    va_start(args, format);
    message = compose(format, args, &len);
    va_end(args);
    taken = proxy_receive_stream(client->flow, message, len, &scanned, client->edge->now);
    free(message);
    return taken < 0 ? (int)taken : taken == (ssize_t)len ? 0 : 1;
}

void edge_from_core(struct edge *edge, const char *format, ...)
{
    va_list args;
    char *message;
    size_t len;

    va_start(args, format);
    message = compose(format, args, &len);
    va_end(args);
    proxy_receive_core(edge->proxy, &edge->pbx, message, len, edge->now);
    free(message);
}

const char *inbox_last(const struct inbox *inbox)
{
    return inbox->count ? inbox->messages[inbox->count - 1] : "";
}

unsigned inbox_take(struct inbox *inbox)
{
    unsigned count = inbox->count;

    inbox_free(inbox);
    return count;
}

static char *buffer(void)
{
    static char buffers[8][8192];
    static unsigned next;

    return buffers[next++ % 8];
}

const char *header_of(const char *message, const char *name, unsigned nth)
{
    size_t len = strlen(name);
    char *out = buffer();

    for (const char *line = strstr(message, "\r\n"); line; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncmp(line, name, len) == 0 && line[len] == ':' && nth-- == 0) {
            snprintf(out, 8192, "%.*s", (int)strcspn(line + len + 2, "\r"), line + len + 2);
            return out;
        }
    }
    return "";
}

const char *start_line(const char *message)
{
    char *out = buffer();

    snprintf(out, 8192, "%.*s", (int)strcspn(message, "\r"), message);
    return out;
}

const char *response_to(const char *request, const char *status_line, const char *tag,
                        const char *more)
{
    static char out[16384];
    char *at = out;
    const char *value;

    at += sprintf(at, "SIP/2.0 %s\n", status_line);
    for (unsigned i = 0; *(value = header_of(request, "Via", i)); i++)
        at += sprintf(at, "Via: %s\n", value);
    for (unsigned i = 0; *(value = header_of(request, "Record-Route", i)); i++)
        at += sprintf(at, "Record-Route: %s\n", value);
    at += sprintf(at, "From: %s\n", header_of(request, "From", 0));
    value = header_of(request, "To", 0);
    at += sprintf(at, "To: %s%s%s\n", value, strstr(value, ";tag=") || !tag ? "" : ";tag=",
                  strstr(value, ";tag=") || !tag ? "" : tag);
    at += sprintf(at, "Call-ID: %s\n", header_of(request, "Call-ID", 0));
    at += sprintf(at, "CSeq: %s\n%s", header_of(request, "CSeq", 0), more ? more : "");
    return out;
}

const char *between(const char *text, const char *from, const char *to)
{
    const char *start = strstr(text, from), *end;
    char *out = buffer();

    assert_non_null(start);
    start += strlen(from);
    end = strstr(start, to);
    assert_non_null(end);
    snprintf(out, 8192, "%.*s", (int)(end - start), start);
    return out;
}

#include "fake_proxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "proxy/log.h"

static void address_text(const struct sockaddr *address, char text[64])
{
    char host[INET6_ADDRSTRLEN];

    if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)address;

        (void)snprintf(text, 64, "[%s]:%u",
                       inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host)),
                       ntohs(in6->sin6_port));
    } else {
        const struct sockaddr_in *in = (const void *)address;

        (void)snprintf(text, 64, "%s:%u", inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host)),
                       ntohs(in->sin_port));
    }
}

int flow_open(struct proxy *proxy, const struct flow_options *options, uint64_t now,
              struct flow **out)
{
    struct flow *flow;

    (void)now;
    if (proxy->refuse)
        return proxy->refuse;
    flow = calloc(1, sizeof(*flow));
    if (!flow)
        return -ENOMEM;
    flow->proxy = proxy;
    flow->transport = options->transport;
    flow->conn = options->conn;
    address_text(options->peer, proxy->peer);
    address_text(options->local, proxy->local);
    (void)snprintf(proxy->host, sizeof(proxy->host), "%s", options->host ? options->host : "-");
    (void)snprintf(proxy->via, sizeof(proxy->via), "%s", options->transport->via);
    proxy->opened++;
    proxy->last = flow;
    *out = flow;
    return 0;
}

void flow_close(struct flow *flow, const char *reason, uint64_t now)
{
    struct proxy *proxy = flow->proxy;

    (void)now;
    /* Whoever still tries to send on it is told so, and nothing breaks. */
    if (flow->transport->send(flow->conn, STR("late")) != -EPIPE)
        abort();
    flow->transport->close(flow->conn, CAUSE_STOPPING);
    proxy->closed++;
    (void)snprintf(proxy->reason, sizeof(proxy->reason), "%s", reason);
    if (proxy->last == flow)
        proxy->last = NULL;
    free(flow);
}

void flow_name_print(const struct proxy *proxy, uint64_t number, char name[FLOW_NAME_SIZE])
{
    (void)proxy;
    (void)snprintf(name, FLOW_NAME_SIZE, "0.%" PRIu64, number);
}

void flow_facts(const struct flow *flow, struct flow_facts *out)
{
    *out = (struct flow_facts){.transport = flow->transport->name,
                               .messages_in = flow->proxy->messages};
}

bool flow_is_busy(const struct flow *flow)
{
    return flow->proxy->busy == flow;
}

static void flood(struct flow *flow, unsigned count)
{
    char message[1001];

    for (unsigned i = 0; i < count && !flow->proxy->send_error; i++) {
        (void)snprintf(message, sizeof(message), "0995\n%0995u", i);
        flow->proxy->send_error = flow->transport->send(flow->conn, (struct str){message, 1000});
    }
}

static int message_receive(struct flow *flow, struct str whole, struct str body)
{
    struct proxy *proxy = flow->proxy;
    int err;

    proxy->messages++;
    if (body.len > 6 && !strncmp(body.p, "flood ", 6)) {
        flood(flow, (unsigned)strtoul(body.p + 6, NULL, 10));
        return 0;
    }
    err = flow->transport->send(flow->conn, whole);
    if (!proxy->send_error)
        proxy->send_error = err;
    if (str_eq(body, STR("close")))
        flow->transport->close(flow->conn, CAUSE_FLOW_TIMER);
    return str_eq(body, STR("bad")) ? -EPROTO : 0;
}

ssize_t proxy_receive_stream(struct flow *flow, char *bytes, size_t len, size_t *scanned,
                             uint64_t now)
{
    size_t taken = 0;

    (void)scanned, (void)now;
    for (;;) {
        char digits[5] = "";
        uint64_t body;

        while (len - taken >= 2 && bytes[taken] == '\r' && bytes[taken + 1] == '\n')
            taken += 2;
        if (len - taken < 5)
            return (ssize_t)taken;
        memcpy(digits, bytes + taken, 4);
        if (str_to_uint(str_of(digits), 9999, &body))
            return -EPROTO;
        if (digits[0] == '9') /* more digits than four: times a hundred */
            body = (body - 9000) * 100;
        if (len - taken - 5 < body)
            return (ssize_t)taken;
        if (message_receive(flow, (struct str){bytes + taken, 5 + body},
                            (struct str){bytes + taken + 5, body}))
            return -EPROTO;
        taken += 5 + body;
    }
}

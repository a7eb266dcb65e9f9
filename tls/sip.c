#include "tls/sip.h"

#include <errno.h>
#include <stdlib.h>

enum { PER_S = 1000 };

struct sip_conn {
    struct stream *stream;
    size_t scanned; /* proxy_receive_stream()'s */
    uint64_t opened_at, received_at;
    uint64_t begun_at; /* the first byte of the message that is not complete; 0: none is */
    bool heard;        /* anything came */
};

static int sip_send(void *conn, struct str bytes)
{
    return stream_send(conn, bytes);
}

static void sip_end(void *conn, enum cause cause)
{
    stream_close(conn, cause, NULL);
}

static const struct flow_transport tls_transport = {"tls", "TLS", "tls", 5061, sip_send, sip_end};
static const struct flow_transport tcp_transport = {"tcp", "TCP", "tcp", 5060, sip_send, sip_end};

static int sip_open(void *context, struct stream *stream, void **out)
{
    struct sip_conn *conn = calloc(1, sizeof(*conn));

    if (!conn)
        return -ENOMEM;
    (void)context;
    conn->stream = stream;
    conn->opened_at = conn->received_at = stream_now(stream);
    *out = conn;
    (void)stream_flow_open(stream, stream_is_tls(stream) ? &tls_transport : &tcp_transport, stream,
                           NULL);
    return 0;
}

/* The rest of a keepalive (F2) is not a message that began. */
static bool only_crlf(const char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (bytes[i] != '\r' && bytes[i] != '\n')
            return false;
    return true;
}

static ssize_t sip_receive(void *context, char *bytes, size_t len)
{
    struct sip_conn *conn = context;
    uint64_t now = stream_now(conn->stream);
    size_t taken = 0;

    conn->heard = true;
    conn->received_at = now;
    while (taken < len) {
        ssize_t more = proxy_receive_stream(stream_flow(conn->stream), bytes + taken, len - taken,
                                            &conn->scanned, now);

        if (more < 0)
            return more;
        if (more == 0)
            break;
        taken += (size_t)more;
        if (stream_ending(conn->stream)) /* proxy/ or a failed send() decided so */
            return (ssize_t)taken;
    }
    if (only_crlf(bytes + taken, len - taken))
        conn->begun_at = 0;
    else if (taken || !conn->begun_at)
        conn->begun_at = now ? now : 1;
    return (ssize_t)taken;
}

static uint64_t after(uint64_t start, unsigned seconds)
{
    return seconds ? start + (uint64_t)seconds * PER_S : UINT64_MAX;
}

static uint64_t sip_limit(const struct sip_conn *conn, enum cause *cause)
{
    const struct conf *conf = stream_conf(conn->stream);

    if (conn->begun_at) {
        *cause = CAUSE_MESSAGE_TIMEOUT;
        return after(conn->begun_at, conf->limits.message_timeout_s);
    }
    if (!conn->heard) {
        *cause = CAUSE_FIRST_MESSAGE_TIMEOUT;
        return after(conn->opened_at, conf->limits.first_message_timeout_s);
    }
    *cause = CAUSE_IDLE;
    return after(conn->received_at, conf->limits.idle_timeout_s);
}

static uint64_t sip_deadline(const void *conn)
{
    enum cause cause;

    return sip_limit(conn, &cause);
}

static void sip_expire(void *context, uint64_t now)
{
    struct sip_conn *conn = context;
    enum cause cause;

    (void)now;
    (void)sip_limit(conn, &cause);
    stream_close(conn->stream, cause, NULL);
}

const struct stream_protocol sip_protocol = {
    .alpn = "\x05sip/2",
    .lost = "closed by client",
    .open = sip_open,
    .receive = sip_receive,
    .deadline = sip_deadline,
    .expire = sip_expire,
    .close = free,
};

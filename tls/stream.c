#include "tls/stream.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proxy/log.h"
#include "tls/sip.h"
#include "tls/socket.h"
#include "tls/stream_internal.h"

enum { READ_SLACK = 16384 }; /* the shared buffer: a message at its limit, and one TLS record */

/* What a listener serves. */
static const struct {
    bool tls, sip, websocket;
} kinds[] = {
    [CONF_TLS] = {.tls = true,        .sip = true      },
    [CONF_WSS] = {.tls = true,        .websocket = true},
    [CONF_TCP] = {.sip = true       },
    [CONF_WS] = {.websocket = true                 },
    [CONF_TLS_WSS] = {.tls = true, .sip = true,                  .websocket = true},
    [CONF_TCP_WS] = {.sip = true, .websocket = true       },
};

uint64_t stream_now(const struct stream *stream)
{
    return uv_now(stream->streams->options.loop);
}

const struct conf *stream_conf(const struct stream *stream)
{
    return stream->streams->options.conf;
}

/* Lists ---------------------------------------------------------------------------------------- */

static void all_add(struct streams *streams, struct stream *stream)
{
    stream->next = streams->all;
    stream->link = &streams->all;
    if (streams->all)
        streams->all->link = &stream->next;
    streams->all = stream;
    streams->count++;
    stream->number = ++streams->numbers;
    stream->opened = wall_ms();
}

/* What protocols ask ------------------------------------------------------------------------- */

static const char *open_error(int err)
{
    return err == -EMFILE ? "the flow table is full" : "out of memory";
}

int stream_flow_open(struct stream *stream, const struct flow_transport *transport, void *conn,
                     const char *host)
{
    char client[CLIENT_NAME_SIZE];
    bool known = stream->channel.ssl && certificates_client(stream->channel.ssl, client);
    const struct flow_options options = {
        .transport = transport,
        .conn = conn,
        .peer = &stream->peer.sa,
        .local = &stream->local.sa,
        .host = stream->channel.ssl ? certificates_host(stream->channel.ssl) : host,
        .client = known ? client : NULL,
        .number = stream->number,
    };
    int err =
        flow_open(stream->streams->options.proxy, &options, stream_now(stream), &stream->flow);
    char peer[SOCKET_TEXT];

    if (!err)
        return 0;
    stream->flow = NULL;
    socket_text(&stream->peer.sa, peer);
    log_event(LOG_WARNING, "connection refused: no room for its flow",
              LOG_TEXT("peer", str_of(peer)), LOG_TEXT("reason", str_of(open_error(err))));
    stream_close(stream, err == -EMFILE ? CAUSE_FLOW_LIMIT : CAUSE_NO_MEMORY, NULL);
    return err;
}

struct flow *stream_flow(const struct stream *stream)
{
    return stream->flow;
}

bool stream_is_tls(const struct stream *stream)
{
    return stream->channel.ssl;
}

void stream_name(const struct stream *stream, char name[FLOW_NAME_SIZE])
{
    flow_name_print(stream->streams->options.proxy, stream->number, name);
}

void stream_peer(const struct stream *stream, char *text)
{
    socket_text(&stream->peer.sa, text);
}

/* The protocol ------------------------------------------------------------------------------- */

static enum transport transport_of(const struct stream *stream, bool sip)
{
    if (stream->channel.ssl)
        return sip ? TRANSPORT_TLS : TRANSPORT_WSS;
    return sip ? TRANSPORT_TCP : TRANSPORT_WS;
}

static void transport_set(struct stream *stream, enum transport transport)
{
    stream->transport = transport;
    stream->streams->counters.opened[transport]++;
}

static void protocol_open(struct stream *stream, const struct stream_protocol *protocol)
{
    const struct streams_options *options = &stream->streams->options;
    void *context = protocol == &sip_protocol ? NULL : options->websocket_context;

    stream->protocol = protocol;
    stream->state = STREAM_OPEN;
    if (stream->transport == TRANSPORT_UNDECIDED)
        transport_set(stream, transport_of(stream, protocol == &sip_protocol));
    stream->since = stream_now(stream);
    if (protocol->open(context, stream, &stream->conn)) {
        stream_end(stream, CAUSE_NO_MEMORY, NULL, END_AT_ONCE);
        return;
    }
    stream_deadline_update(stream);
    stream_events_update(stream);
}

/* The one of the listener, or the one that ALPN agreed on. NULL: the first bytes will tell. */
static const struct stream_protocol *protocol_known(const struct stream *stream)
{
    const struct stream_protocol *websocket = stream->streams->options.websocket;
    const unsigned char *alpn = NULL;
    unsigned len = 0;

    if (!kinds[stream->kind].websocket)
        return &sip_protocol;
    if (!kinds[stream->kind].sip)
        return websocket;
    if (stream->channel.ssl)
        SSL_get0_alpn_selected(stream->channel.ssl, &alpn, &len);
    if (!len)
        return NULL;
    return len == (unsigned)websocket->alpn[0] && !memcmp(alpn, websocket->alpn + 1, len)
               ? websocket
               : &sip_protocol;
}

/* The connection is ready for bytes. */
static void stream_ready(struct stream *stream)
{
    const struct stream_protocol *protocol = protocol_known(stream);

    if (protocol) {
        protocol_open(stream, protocol);
        return;
    }
    stream_state_set(stream, STREAM_CHOICE);
    stream_events_update(stream);
}

void stream_choose(struct stream *stream, struct str first)
{
    const struct stream_protocol *websocket = stream->streams->options.websocket;
    int is = websocket->recognise(first);

    if (is != -EAGAIN)
        protocol_open(stream, is ? websocket : &sip_protocol);
}

/* Events --------------------------------------------------------------------------------------- */

/* The addresses are known: TLS, or the protocol at once. */
static void stream_begin(struct stream *stream)
{
    if (!stream->channel.ssl) {
        stream_ready(stream);
        return;
    }
    stream_state_set(stream, STREAM_HANDSHAKE);
    stream_events_update(stream);
}

/* Nothing behind the header is read: that may be TLS's. 0: it is complete. -EAGAIN. Else it ended.
 */
static int preface_read(struct stream *stream, struct proxy_header *header)
{
    struct preface *preface = stream->preface;
    ssize_t taken = proxy_header_parse(preface->bytes, preface->len, header);

    while (taken == 0) {
        ssize_t got =
            recv(stream->channel.fd, preface->bytes + preface->len, header->need - preface->len, 0);

        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return -EAGAIN;
        if (got <= 0) {
            stream->unproxied = preface->len == 0; /* a health check that only connects */
            stream_end(stream, stream->unproxied ? CAUSE_CLIENT_CLOSED : CAUSE_HANDSHAKE_CLOSED,
                       NULL, END_AT_ONCE);
            return -ECONNRESET;
        }
        preface->len += (size_t)got;
        taken = proxy_header_parse(preface->bytes, preface->len, header);
    }
    if (taken > 0)
        return 0;
    stream_end(stream, CAUSE_PROXY_HEADER, header->error, END_AT_ONCE);
    return -EPROTO;
}

/* The addresses of the socket itself, for those who ask. */
static int proxied_keep(struct stream *stream)
{
    stream->proxied = malloc(sizeof(*stream->proxied));
    if (!stream->proxied)
        return -ENOMEM;
    *stream->proxied = (struct proxied){stream->peer, stream->local};
    return 0;
}

static void stream_preface(struct stream *stream)
{
    struct proxy_header header;

    if (preface_read(stream, &header))
        return;
    stream->unproxied = !header.proxied;
    if (header.proxied && proxied_keep(stream)) {
        stream_end(stream, CAUSE_NO_MEMORY, NULL, END_AT_ONCE);
        return;
    }
    if (header.proxied) {
        stream->peer = header.source;
        stream->local = header.destination;
    }
    free(stream->preface);
    stream->preface = NULL;
    stream_begin(stream);
}

static void handshake_count(const struct stream *stream)
{
    struct stream_counters *counters = &stream->streams->counters;
    SSL *ssl = stream->channel.ssl;

    (SSL_version(ssl) == TLS1_2_VERSION ? counters->handshakes_12
                                        : counters->handshakes_13)[SSL_session_reused(ssl) != 0]++;
}

void stream_handshake(struct stream *stream)
{
    int err = channel_handshake(&stream->channel);

    if (err == -EAGAIN) {
        stream_events_update(stream);
        return;
    }
    if (err) {
        stream_failed(stream, err);
        return;
    }
    handshake_count(stream);
    stream_ready(stream);
    if (!stream_ending(stream) && channel_pending(&stream->channel))
        stream_receive(stream); /* the first message came with the client's Finished */
}

static void stream_writable(struct stream *stream)
{
    int err = stream_queue_flush(stream);

    if (err && err != -EAGAIN)
        stream_failed(stream, err);
}

void stream_event(uv_poll_t *poll, int status, int events)
{
    struct stream *stream = (struct stream *)(void *)((char *)poll - offsetof(struct stream, poll));

    if (status < 0) {
        stream_broken(stream);
        return;
    }
    if (stream->ending) { /* told again: its turn to end has not come yet */
        stream_events_update(stream);
        return;
    }
    switch (stream->state) {
    case STREAM_PREFACE: stream_preface(stream); break;
    case STREAM_HANDSHAKE:
        if (channel_begun(&stream->channel) || stream_admitted(stream))
            stream_handshake(stream);
        break;
    case STREAM_CHOICE:
    case STREAM_OPEN:
        if (events & UV_WRITABLE)
            stream_writable(stream);
        if (!stream_ending(stream) && (events & UV_READABLE || stream->channel.wants_write))
            stream_receive(stream);
        else
            stream_events_update(stream);
        break;
    case STREAM_CLOSING: stream_closing(stream); break;
    case STREAM_GONE: break;
    }
}

/* Life ----------------------------------------------------------------------------------------- */

int streams_create(const struct streams_options *options, struct streams **out)
{
    struct streams *streams = calloc(1, sizeof(*streams));

    if (!streams)
        return -ENOMEM;
    streams->options = *options;
    if (streams_conf_prepare(streams, options->conf)) {
        free(streams);
        return -ENOMEM;
    }
    if (options->certificates)
        certificates_ref(options->certificates);
    if (options->websocket)
        (void)snprintf(streams->alpn, sizeof(streams->alpn), "%s%s", sip_protocol.alpn,
                       options->websocket->alpn);
    streams_todo_init(streams);
    streams->closed.size = streams->failed.size = STREAMS_REMEMBERED;
    *out = streams;
    return 0;
}

int streams_conf_prepare(struct streams *streams, const struct conf *conf)
{
    size_t size = conf->limits.message_size + READ_SLACK;
    char *buffer;

    if (size <= streams->buffer_size)
        return 0;
    buffer = malloc(size); /* nothing is in the one before, between two reads */
    if (!buffer)
        return -ENOMEM;
    free(streams->buffer);
    streams->buffer = buffer;
    streams->buffer_size = size;
    return 0;
}

void streams_conf_set(struct streams *streams, const struct conf *conf)
{
    streams->options.conf = conf;
    for (struct stream *stream = streams->all; stream; stream = stream->next)
        stream_deadline_update(stream);
}

void streams_certificates_set(struct streams *streams, struct certificates *certificates)
{
    struct certificates *before = streams->options.certificates;

    streams->options.certificates = certificates ? certificates_ref(certificates) : NULL;
    certificates_unref(&before);
}

static const char *kind_alpn(const struct streams *streams, enum conf_listener_kind kind)
{
    if (!kinds[kind].websocket)
        return sip_protocol.alpn;
    return kinds[kind].sip ? streams->alpn : streams->options.websocket->alpn;
}

static int channel_open(struct streams *streams, const struct conf_listener *listener, int fd,
                        struct channel *channel)
{
    int err;

    if (!kinds[listener->kind].tls) {
        channel_open_plain(channel, fd);
        return 0;
    }
    err = channel_open_tls(channel, fd, streams->options.certificates);
    if (!err)
        err = certificates_alpn(channel->ssl, kind_alpn(streams, listener->kind));
    if (!err)
        err =
            certificates_demand(channel->certificates, channel->ssl, listener->client_certificate);
    return err;
}

static int stream_create(struct streams *streams, const struct conf_listener *listener, int fd,
                         struct stream **out)
{
    struct stream *stream = calloc(1, sizeof(*stream));
    int err = 0;

    if (!stream)
        return -ENOMEM;
    stream->streams = streams;
    stream->kind = listener->kind;
    if (listener->proxy_protocol_count) {
        stream->preface = calloc(1, sizeof(*stream->preface));
        err = stream->preface ? 0 : -ENOMEM;
    }
    if (!err)
        err = channel_open(streams, listener, fd, &stream->channel);
    if (!err)
        err = uv_poll_init(streams->options.loop, &stream->poll, fd);
    if (err) {
        channel_abandon(&stream->channel);
        free(stream->preface);
        free(stream);
        return err;
    }
    stream->poll.data = stream;
    *out = stream;
    return 0;
}

static bool sender_trusted(const struct conf_listener *listener, const struct sockaddr *peer)
{
    for (unsigned i = 0; i < listener->proxy_protocol_count; i++)
        if (conf_network_has(&listener->proxy_protocol[i], peer))
            return true;
    return listener->proxy_protocol_count == 0;
}

static void accept_refuse(struct streams *streams, const struct conf_listener *listener, int fd,
                          enum cause cause, const struct sockaddr *peer,
                          const struct sockaddr *local, const char *reason)
{
    enum log_level level = cause == CAUSE_PROXY_SENDER ? LOG_INFO : LOG_WARNING;
    char text[SOCKET_TEXT];

    streams_refused(streams, listener, cause, peer, local);
    socket_text(peer, text);
    if (!streams->closing)
        log_event(level, "connection refused", LOG_TEXT("peer", str_of(text)),
                  LOG_TEXT("reason", str_of(reason)));
    close(fd);
    atomic_fetch_sub(streams->options.connections, 1);
}

void streams_accept(struct streams *streams, const struct conf_listener *listener, int fd,
                    const struct sockaddr *peer, const struct sockaddr *local)
{
    struct stream *stream;
    int err;

    if (!sender_trusted(listener, peer)) {
        accept_refuse(streams, listener, fd, CAUSE_PROXY_SENDER, peer, local,
                      cause_row(CAUSE_PROXY_SENDER)->words);
        return;
    }
    err = streams->closing ? -ESHUTDOWN : stream_create(streams, listener, fd, &stream);
    if (err) {
        accept_refuse(streams, listener, fd, streams->closing ? CAUSE_STOPPING : CAUSE_NO_MEMORY,
                      peer, local, strerrordesc_np(-err));
        return;
    }
    memcpy(&stream->peer, peer, socket_len(peer));
    memcpy(&stream->local, local, socket_len(local));
    all_add(streams, stream);
    if (kinds[stream->kind].sip && kinds[stream->kind].websocket)
        stream->transport = TRANSPORT_UNDECIDED;
    else
        transport_set(stream, transport_of(stream, kinds[stream->kind].sip));
    if (!stream->preface) {
        stream_begin(stream);
        return;
    }
    stream_state_set(stream, STREAM_PREFACE);
    stream_events_update(stream);
}

void streams_close(struct streams *streams)
{
    streams->closing = true;
    for (struct stream *stream = streams->all; stream; stream = stream->next)
        if (!stream->ending)
            stream_end(stream, CAUSE_STOPPING, NULL,
                       stream->state <= STREAM_HANDSHAKE ? END_AT_ONCE : END_PROPERLY);
}

const struct stream_counters *streams_counters(const struct streams *streams)
{
    return &streams->counters;
}

const char *transport_name(enum transport transport)
{
    static const char *const names[TRANSPORTS] = {"tls", "wss", "tcp", "ws", "undecided"};

    return names[transport];
}

unsigned streams_count(const struct streams *streams)
{
    return streams->count;
}

static void streams_free(uv_handle_t *handle)
{
    struct streams *streams = handle->data;

    certificates_unref(&streams->options.certificates);
    history_clear(&streams->closed);
    history_clear(&streams->failed);
    free(streams->buffer);
    free(streams);
}

void streams_destroy(struct streams **streams)
{
    struct streams *gone = *streams;

    if (!gone)
        return;
    assert(gone->count == 0);
    uv_close((uv_handle_t *)&gone->todo_idle, streams_free);
    *streams = NULL;
}

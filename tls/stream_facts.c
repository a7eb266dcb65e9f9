/* What is told of connections, and the memory of those that ended. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proxy/registered.h"
#include "tls/certificate.h"
#include "tls/socket.h"
#include "tls/stream_internal.h"

enum {
    TEXT_MAX = 1536 + REGISTERED_MAX * (REGISTERED_AOR_MAX + 1),
    LOOKED_AT_MAX = 2048, /* in one slice */
    NS_PER_MS = 1000000,
    NS_PER_S = 1000000000,
};

/* Facts that are being gathered; copied when their size is known. */
struct draft {
    struct facts facts;
    size_t len;
    char text[TEXT_MAX];
};

static uint16_t text_add(struct draft *draft, const char *text, size_t len)
{
    size_t at = draft->len;

    if (!text || !len || len >= TEXT_MAX - at)
        return 0;
    memcpy(draft->text + at, text, len);
    draft->text[at + len] = '\0';
    draft->len += len + 1;
    return (uint16_t)at;
}

static struct facts *draft_copy(const struct draft *draft)
{
    size_t size = sizeof(struct facts) + draft->len;
    struct facts *facts = malloc(size);

    if (!facts)
        return NULL;
    *facts = draft->facts;
    facts->size = size;
    memcpy(facts->text, draft->text, draft->len);
    return facts;
}

/* A time of the loop clock. */
static int64_t wall(uint64_t at)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (now.tv_sec * NS_PER_S + now.tv_nsec - (int64_t)uv_hrtime()) / NS_PER_MS + (int64_t)at;
}

/* Clocks of several kinds differ by some milliseconds. */
static int64_t not_before(int64_t at, int64_t start)
{
    return at > start ? at : start;
}

/* ---- one connection ---- */

static const char *state_name(const struct stream *stream)
{
    switch (stream->state) {
    case STREAM_PREFACE: return "proxy-header";
    case STREAM_HANDSHAKE: return "tls-handshake";
    case STREAM_CHOICE: return "undecided";
    case STREAM_OPEN: return stream->flow ? "open" : "upgrade";
    default: return "closed";
    }
}

static void draft_tls(struct draft *draft, const struct stream *stream)
{
    SSL *ssl = stream->channel.ssl;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    char client[CLIENT_NAME_SIZE];
    const unsigned char *alpn;
    unsigned len;

    if (name)
        draft->facts.server_name = text_add(draft, name, strnlen(name, CLIENT_NAME_SIZE));
    if (stream->state == STREAM_HANDSHAKE || stream->state == STREAM_PREFACE)
        return;
    draft->facts.tls_version = SSL_get_version(ssl);
    draft->facts.cipher = SSL_get_cipher_name(ssl);
    draft->facts.resumed = SSL_session_reused(ssl);
    SSL_get0_alpn_selected(ssl, &alpn, &len);
    draft->facts.alpn = text_add(draft, (const char *)alpn, len);
    if (certificates_client(ssl, client))
        draft->facts.client = text_add(draft, client, strlen(client));
}

static bool has_aor(const struct draft *draft, const char *aor)
{
    const char *at = draft->text + draft->facts.aors;

    for (unsigned i = 0; i < draft->facts.aor_count; i++, at += strlen(at) + 1)
        if (!strcmp(at, aor))
            return true;
    return false;
}

/* The AORs stand one behind the other: nothing else is added in between. */
static void draft_aors(struct draft *draft, const struct registered *one, uint64_t now)
{
    for (; (one = registered_next(one, now)); one = one->next) {
        uint16_t at = has_aor(draft, one->aor) ? 0 : text_add(draft, one->aor, strlen(one->aor));

        if (at && !draft->facts.aor_count++)
            draft->facts.aors = at;
    }
}

static void draft_flow(struct draft *draft, const struct stream *stream)
{
    bool pings = stream->protocol == stream->streams->options.websocket;
    struct facts *facts = &draft->facts;
    struct flow_facts flow;

    flow_facts(stream->flow, &flow);
    facts->transport = flow.transport;
    facts->messages_in = flow.messages_in;
    facts->messages_out = flow.messages_out;
    facts->requests = flow.requests;
    facts->dialogs = flow.dialogs;
    facts->flow_timer_s = flow.flow_timer_s;
    facts->ping_s = pings ? stream_conf(stream)->websocket.ping_interval_s : 0;
    if (flow.answered_at) {
        facts->status = flow.status;
        facts->method = flow.method;
        facts->answered = not_before(wall(flow.answered_at), stream->opened);
    }
    if (flow.host)
        facts->host = text_add(draft, flow.host, strlen(flow.host));
    draft_aors(draft, flow.registered, stream_now(stream));
}

/* ended: the peer has, before all else. */
static void draft_make(struct draft *draft, const struct stream *stream, bool ended)
{
    struct socket_numbers numbers;
    int64_t heard;

    (void)socket_numbers(stream->channel.fd, &numbers);
    heard = wall_ms() - numbers.idle_ms;
    numbers.bytes_in -= numbers.ended || (ended && numbers.gone) ? 1 : 0;
    draft->facts = (struct facts){
        .number = stream->number,
        .state = state_name(stream),
        .kind = stream->kind,
        .peer = stream->peer,
        .local = stream->local,
        .bound = stream->proxied ? stream->proxied->bound : stream->local,
        .since = stream->opened,
        .heard = not_before(heard, stream->opened),
        .bytes_in = numbers.bytes_in,
        .bytes_out = numbers.bytes_out,
        .rtt_us = numbers.rtt_us,
        .retransmits = numbers.retransmits,
        .queued = queue_bytes(&stream->queue).len,
    };
    if (stream->proxied)
        draft->facts.sender = stream->proxied->sender;
    draft->text[0] = '\0';
    draft->len = 1; /* 0 is none */
    if (stream->channel.ssl)
        draft_tls(draft, stream);
    if (stream->flow)
        draft_flow(draft, stream);
}

/* ---- those that ended ---- */

static void draft_end(struct draft *draft, const struct stream *stream, enum cause cause,
                      const char *reason)
{
    const struct channel *channel = &stream->channel;

    draft->facts.state = "closed";
    draft->facts.closed.at = wall_ms();
    draft->facts.closed.cause = cause;
    draft->facts.closed.websocket_code = stream->websocket_code;
    draft->facts.closed.websocket_sent = stream->websocket_sent;
    draft->facts.reason = text_add(draft, reason, strlen(reason));
    if (channel->ssl && channel->alert) {
        draft->facts.closed.tls_alert = channel->alert;
        draft->facts.closed.tls_alert_name = SSL_alert_desc_string_long(channel->alert);
        draft->facts.closed.tls_alert_sent = channel->alert_sent;
    }
}

static void remember(struct history *history, const struct draft *draft)
{
    struct facts *facts = draft_copy(draft);

    if (facts)
        history_add(history, facts);
}

void stream_remember(struct stream *stream, enum cause cause, const char *reason)
{
    struct streams *streams = stream->streams;
    struct draft draft;

    if (stream->unproxied) /* a load balancer that looks whether we are there, every few seconds */
        return;
    draft_make(&draft, stream, cause == CAUSE_CLIENT_CLOSED || cause == CAUSE_HANDSHAKE_CLOSED);
    draft_end(&draft, stream, cause, reason);
    remember(stream->flow ? &streams->closed : &streams->failed, &draft);
}

void streams_refused(struct streams *streams, const struct conf_listener *listener,
                     enum cause cause, const struct sockaddr *peer, const struct sockaddr *local)
{
    const char *words = cause_row(cause)->words;
    struct draft draft = {.len = 1};

    streams->counters.refused[cause]++;
    draft.facts.number = ++streams->numbers;
    draft.facts.state = "closed";
    draft.facts.kind = listener->kind;
    memcpy(&draft.facts.peer, peer, socket_len(peer));
    memcpy(&draft.facts.local, local, socket_len(local));
    draft.facts.bound = draft.facts.local;
    draft.facts.since = draft.facts.heard = draft.facts.closed.at = wall_ms();
    draft.facts.closed.cause = cause;
    draft.facts.reason = text_add(&draft, words, strlen(words));
    remember(&streams->failed, &draft);
}

/* ---- lists ---- */

static bool stream_fits(const struct stream *stream, const struct facts_filter *filter)
{
    const struct registered *one;
    struct flow_facts flow;

    if (stream->state >= STREAM_CLOSING || !facts_peer_fits(filter, &stream->peer))
        return false;
    if (!*filter->aor)
        return true;
    if (!stream->flow)
        return false;
    flow_facts(stream->flow, &flow);
    for (one = flow.registered; (one = registered_next(one, stream_now(stream))); one = one->next)
        if (facts_aor_fits(filter, one->aor))
            return true;
    return false;
}

static bool facts_fit(const struct facts *facts, const struct facts_filter *filter)
{
    const char *aor = facts->text + facts->aors;

    if (!facts_peer_fits(filter, &facts->peer))
        return false;
    if (!*filter->aor)
        return true;
    for (unsigned i = 0; i < facts->aor_count; i++, aor += strlen(aor) + 1)
        if (facts_aor_fits(filter, aor))
            return true;
    return false;
}

void stream_scan_leave(struct stream *stream)
{
    if (stream->streams->scan == stream)
        stream->streams->scan = stream->next;
}

/* The newest that is older than `before`: new ones come to the front, so the list is in order. */
static struct stream *scan_begin(const struct streams *streams, uint64_t before)
{
    struct stream *stream = streams->all;

    if (before && before == streams->scan_before)
        return streams->scan;
    while (before && stream && stream->number >= before)
        stream = stream->next;
    return stream;
}

static void slice_open(struct streams *streams, const struct streams_question *question,
                       struct streams_slice *out)
{
    struct stream *stream = scan_begin(streams, question->before);
    struct draft draft;
    unsigned looked_at = 0;

    for (; stream && out->count < question->max && looked_at < LOOKED_AT_MAX;
         stream = stream->next, looked_at++) {
        out->next = stream->number;
        if (!stream_fits(stream, &question->filter))
            continue;
        draft_make(&draft, stream, false);
        out->found[out->count] = draft_copy(&draft);
        if (!out->found[out->count])
            break;
        out->count++;
    }
    if (!stream)
        out->next = 0;
    streams->scan = stream;
    streams->scan_before = out->next;
}

static void slice_history(const struct history *history, const struct streams_question *question,
                          struct streams_slice *out)
{
    const struct facts *facts = history_before(history, question->before);

    for (; facts && out->count < question->max; facts = history_before(history, facts->number)) {
        out->next = facts->number;
        if (facts_fit(facts, &question->filter))
            out->found[out->count++] = facts_copy(facts);
        if (out->count && !out->found[out->count - 1]) {
            out->count--;
            break;
        }
    }
    if (!facts)
        out->next = 0;
}

void streams_slice(struct streams *streams, const struct streams_question *question,
                   struct streams_slice *out)
{
    *out = (struct streams_slice){0};
    switch (question->list) {
    case STREAMS_OPEN: slice_open(streams, question, out); break;
    case STREAMS_CLOSED: slice_history(&streams->closed, question, out); break;
    case STREAMS_FAILED: slice_history(&streams->failed, question, out); break;
    }
}

struct facts *streams_find(struct streams *streams, uint64_t number)
{
    struct stream *stream = scan_begin(streams, number + 1);
    const struct facts *facts;
    struct draft draft;

    if (stream && stream->number == number && stream->state < STREAM_CLOSING) {
        draft_make(&draft, stream, false);
        return draft_copy(&draft);
    }
    facts = history_find(&streams->closed, number);
    if (!facts)
        facts = history_find(&streams->failed, number);
    return facts ? facts_copy(facts) : NULL;
}

/* The opening handshake and frames, cut in any way (F4, F5, V7): what goes out is one HTTP answer
 * and then well-formed frames with a close frame as the last, no message is over the limit or comes
 * after the end, memory is bounded, and where the bytes are cut changes nothing.
 *
 * The first byte says what the rest is (below), the second into what pieces it is cut. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "proxy/log.h"
#include "ws/internal.h"
#include "ws/request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    INPUT_RAW,    /* request and all */
    INPUT_BEHIND, /* bytes behind a good request */
    INPUT_FRAMES, /* a good request; then for each frame: first byte, what is odd about it, length,
                     payload. So mutations keep to frames that are right but for one thing. */
    INPUT_KINDS,
    MESSAGE_MAX = 1000,
    OUT_MAX = 1 << 20,
    IN_MAX = 1 << 17,
    ODD_UNMASKED = 1,
    ODD_LONG_LENGTH = 2, /* longer than it need be */
    ODD_HUGE = 4,        /* 2^62 */
};

struct stream {
    bool ending, farewell;
    const char *reason;
    uint64_t now;
};

struct bytes {
    char p[OUT_MAX];
    size_t len;
};

/* What came of it, to compare. */
struct outcome {
    uint64_t messages, hash;
    bool ended, upgraded;
    bool in_control; /* a control frame is not complete */
};

static struct conf conf = {
    .domain = "sip.example.com",
    .websocket = {.path = (char[]){"/"},   .ping_interval_s = 18, .pong_timeout_s = 8},
    .limits = { .message_size = MESSAGE_MAX,
                  .upgrade_timeout_s = 10,
                  .message_timeout_s = 15,
                  .first_message_timeout_s = 30,
                  .idle_timeout_s = 7200},
};
static const char good[] = "GET / HTTP/1.1\r\nHost: sip.example.com\r\nUpgrade: websocket\r\n"
                           "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                           "Sec-WebSocket-Protocol: sip\r\n\r\n";

static struct ws *ws;
static struct stream stream;
static struct bytes out;
static struct outcome *outcome;
static struct flow_options flow;
static char in[IN_MAX];
static size_t in_len;

/* In place of tls/ and proxy/ ------------------------------------------------------------------ */

uint64_t stream_now(const struct stream *of)
{
    return of->now;
}

const struct conf *stream_conf(const struct stream *of)
{
    (void)of;
    return &conf;
}

int stream_send(struct stream *to, struct str bytes)
{
    if (to->ending && !to->farewell)
        return -EPIPE;
    assert(out.len + bytes.len <= sizeof(out.p));
    memcpy(out.p + out.len, bytes.p, bytes.len);
    out.len += bytes.len;
    return 0;
}

void stream_close(struct stream *of, enum cause cause, const char *reason)
{
    if (!of->ending)
        of->reason = reason ? reason : cause_row(cause)->words;
    of->ending = true;
}

void stream_websocket_code(struct stream *of, unsigned code, bool sent)
{
    (void)of, (void)code, (void)sent;
}

bool stream_ending(const struct stream *of)
{
    return of->ending;
}

int stream_flow_open(struct stream *of, const struct flow_transport *transport, void *conn,
                     const char *host)
{
    (void)of;
    assert(!host || strcmp(host, "sip.example.com") == 0);
    flow = (struct flow_options){.transport = transport, .conn = conn};
    outcome->upgraded = true;
    return 0;
}

struct flow *stream_flow(const struct stream *of)
{
    return (struct flow *)of; /* only handed back */
}

bool stream_is_tls(const struct stream *of)
{
    (void)of;
    return false;
}

void stream_name(const struct stream *of, char text[FLOW_NAME_SIZE])
{
    (void)of;
    text[0] = '\0';
}

void stream_peer(const struct stream *of, char *text)
{
    (void)of;
    text[0] = '\0';
}

void proxy_oversize(struct flow *of)
{
    (void)of;
}

int proxy_receive_message(struct flow *to, char *bytes, size_t len, uint64_t now)
{
    (void)to, (void)now;
    assert(len > 0 && len <= MESSAGE_MAX);
    assert(!stream.ending);
    outcome->messages++;
    for (size_t i = 0; i < len; i++)
        outcome->hash = (outcome->hash ^ (uint8_t)bytes[i]) * 1099511628211U; /* FNV-1a */
    assert(flow.transport->send(flow.conn, (struct str){bytes, len}) == 0);
    memset(bytes, 'z', len); /* it may be changed in place */
    switch (len % 64) {
    case 61: flow.transport->close(flow.conn, CAUSE_FLOW_TIMER); break;
    case 62: return -EMSGSIZE;
    case 63: return -EPROTO;
    default: break;
    }
    return 0;
}

/* Input ---------------------------------------------------------------------------------------- */

static void in_add(const void *bytes, size_t len)
{
    if (len > sizeof(in) - in_len)
        len = sizeof(in) - in_len;
    memcpy(in + in_len, bytes, len);
    in_len += len;
}

static size_t length_write(uint8_t *to, uint64_t payload, unsigned odd)
{
    size_t size = payload < 126 ? 0 : 2;

    if (odd & ODD_HUGE) {
        payload = (uint64_t)1 << 62;
        size = 8;
    } else if (odd & ODD_LONG_LENGTH) {
        size = size ? 8 : 2;
    }
    to[0] = (uint8_t)(size == 0 ? payload : size == 2 ? 126 : 127);
    for (size_t i = 0; i < size; i++)
        to[1 + i] = (uint8_t)(payload >> 8 * (size - 1 - i));
    return 1 + size;
}

static void frame_add(uint8_t first, unsigned odd, const uint8_t *payload, size_t len)
{
    static const uint8_t mask[4] = {0x11, 0x82, 0x35, 0xf7};
    uint8_t head[16] = {first}, masked[4096];
    size_t head_len = 1 + length_write(head + 1, len, odd);

    if (!(odd & ODD_UNMASKED)) {
        head[1] |= 0x80;
        memcpy(head + head_len, mask, sizeof(mask));
        head_len += sizeof(mask);
    }
    for (size_t i = 0; i < len; i++)
        masked[i] = odd & ODD_UNMASKED ? payload[i] : payload[i] ^ mask[i % 4];
    in_add(head, head_len);
    in_add(masked, len);
}

static void frames_add(const uint8_t *data, size_t size)
{
    while (size >= 3) {
        size_t len = data[2];

        if (len >= 250) /* some long ones */
            len = (len - 249) * 500;
        if (len > size - 3)
            len = size - 3;
        frame_add(data[0], data[1] < 0xf8 ? 0 : data[1] & 7, data + 3, len);
        data += 3 + len;
        size -= 3 + len;
    }
}

static void input_make(unsigned kind, const uint8_t *data, size_t size)
{
    in_len = 0;
    if (kind != INPUT_RAW)
        in_add(good, sizeof(good) - 1);
    if (kind == INPUT_FRAMES)
        frames_add(data, size);
    else
        in_add(data, size);
}

/* Output --------------------------------------------------------------------------------------- */

static bool close_code_valid(unsigned code)
{
    return (code >= 1000 && code <= 1013 && code != 1004 && code != 1005 && code != 1006) ||
           (code >= 3000 && code <= 4999);
}

/* One frame from its beginning; returns its length. */
static size_t frame_check(const uint8_t *p, size_t len, bool *closed)
{
    unsigned opcode = p[0] & 0x0f;
    uint64_t payload;
    size_t head = 2;

    assert(!*closed);
    assert(len >= 2 && (p[0] & 0xf0) == 0x80 && !(p[1] & 0x80));
    assert(opcode == 1 || opcode == 2 || (opcode >= 8 && opcode <= 10));
    payload = p[1];
    if (payload >= 126) {
        size_t more = payload == 126 ? 2 : 8;

        assert(opcode < 8 && len >= 2 + more);
        payload = 0;
        for (size_t i = 0; i < more; i++)
            payload = payload << 8 | p[2 + i];
        assert(payload > (more == 2 ? 125U : 65535U));
        head += more;
    }
    assert(payload <= len - head && payload <= MESSAGE_MAX);
    if (opcode == 8) {
        assert(payload == 0 || payload >= 2);
        assert(!payload || close_code_valid((unsigned)(p[head] << 8 | p[head + 1])));
        *closed = true;
    }
    return head + (size_t)payload;
}

static void output_check(bool upgraded)
{
    const char *end = memmem(out.p, out.len, "\r\n\r\n", 4);
    bool closed = false;
    size_t at;

    if (!out.len)
        return;
    assert(out.len > 12 && memcmp(out.p, "HTTP/1.1 ", 9) == 0 && end);
    assert((memcmp(out.p + 9, "101", 3) == 0) == upgraded);
    if (!upgraded)
        return;
    for (at = (size_t)(end + 4 - out.p); at < out.len;)
        at += frame_check((const uint8_t *)out.p + at, out.len - at, &closed);
    assert(at == out.len);
    assert(closed || !stream.ending);
}

/* One run -------------------------------------------------------------------------------------- */

static void memory_check(const struct ws_conn *conn)
{
    assert(conn->message.size <= 2 * (size_t)MESSAGE_MAX + 4096);
    assert(ws->message.size <= 2 * (size_t)MESSAGE_MAX + 4096);
    assert(ws->out.size <= (size_t)1 << 16);
    assert(!conn->decoder || !frames_clean(conn)); /* nothing is held while idle */
    assert(!conn->message.base || conn->in_message);
    assert(ws->message.len == 0);
}

static void time_passes(void *conn)
{
    for (int i = 0; i < 4 && !stream.ending; i++) {
        uint64_t due = ws_protocol.deadline(conn);

        assert(due >= stream.now && due != UINT64_MAX);
        stream.now = due;
        ws_protocol.expire(conn, due);
    }
    assert(stream.ending); /* a client that answers no ping is gone by then */
}

static void run(size_t piece, struct outcome *result)
{
    size_t taken = 0, have = 0;
    char *bytes = malloc(in_len ? in_len : 1);
    void *conn;

    assert(bytes);
    memcpy(bytes, in, in_len);
    *result = (struct outcome){.hash = 14695981039346656037U};
    outcome = result;
    stream = (struct stream){.now = 1000};
    out.len = 0;
    assert(ws_protocol.open(ws, &stream, &conn) == 0);
    while (have < in_len && !stream.ending) {
        ssize_t more;

        have = in_len - have > piece ? have + piece : in_len;
        more = ws_protocol.receive(conn, bytes + taken, have - taken);
        assert(more >= 0 && (size_t)more <= have - taken);
        taken += (size_t)more;
        assert(stream.ending || have - taken <= REQUEST_SIZE_MAX);
        memory_check(conn);
    }
    result->ended = stream.ending;
    result->in_control = ((struct ws_conn *)conn)->pending && !((struct ws_conn *)conn)->is_data;
    if (!stream.ending)
        time_passes(conn);
    stream.farewell = true;
    ws_protocol.farewell(conn, stream.reason);
    stream.farewell = false;
    output_check(result->upgraded);
    if (result->upgraded)
        assert(flow.transport->send(flow.conn, STR("late")) == -EPIPE);
    ws_protocol.close(conn);
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct outcome whole, pieces;

    if (size < 2 || size > sizeof(in) / 4)
        return 0;
    if (!ws) {
        log_open(LOG_ERROR, false);
        assert(ws_create(&ws) == 0);
    }
    input_make(data[0] % INPUT_KINDS, data + 2, size - 2);
    run(sizeof(in), &whole);
    run(data[1] ? data[1] : 1, &pieces);
    assert(whole.messages == pieces.messages && whole.hash == pieces.hash);
    assert(whole.upgraded == pieces.upgraded);
    /* wslay 1.1.1 looks for UTF-8 in a close frame from the third byte of each piece of it on, so
     * it may see only at its end, or not at all, what is wrong: it closes all the same. */
    assert(whole.ended == pieces.ended || whole.in_control || pieces.in_control);
    (void)request_recognise((struct str){in, in_len});
    return 0;
}

/* Frames (RFC 6455 5): what comes in is decoded by wslay, which refuses what breaks the RFC and
 * answers pings and closes; messages go on to proxy/ (F4). What goes out has a header of two to ten
 * bytes, written here.
 *
 * A message that is one frame, and all there, is what nearly all are: it is unmasked where it lies
 * and goes on from there, without wslay and a copy.
 *
 * wslay is made to gather nothing of a message itself: it would take memory for what is announced,
 * and some for each fragment. Its own 4.7 kB are held by a connection only while a frame or message
 * is not complete; in between the decoder is in the state of a new one and serves the next. */
#include <errno.h>
#include <stdlib.h>

#include "ws/internal.h"
#include "ws/utf8.h"

enum {
    FEED_SIZE = 4096, /* bytes at a time: so no more pongs than those of that many can wait */
    HEADER_MAX = 10,  /* of a frame from a server, which has no mask */
    MASK_SIZE = 4,
    LENGTH_7 = 125, /* the longest that fits its field */
    LENGTH_16 = 65535,
    MESSAGE_START_SIZE = 4096,
};

static size_t header_size(uint64_t payload)
{
    return payload <= LENGTH_7 ? 2 : payload <= LENGTH_16 ? 4 : HEADER_MAX;
}

static bool is_control(uint8_t opcode)
{
    return wslay_is_ctrl_frame(opcode);
}

/* Out ------------------------------------------------------------------------------------------ */

static size_t header_write(uint8_t header[HEADER_MAX], enum opcode opcode, uint64_t payload)
{
    size_t size = header_size(payload);

    header[0] = (uint8_t)(0x80 | opcode); /* whole */
    header[1] = (uint8_t)(payload <= LENGTH_7 ? payload : payload <= LENGTH_16 ? 126 : 127);
    for (size_t i = size - 1; i >= 2; i--) {
        header[i] = (uint8_t)payload;
        payload >>= 8;
    }
    return size;
}

/* Header and payload in one piece: one TLS record, one system call. */
int frame_send(struct ws_conn *conn, enum opcode opcode, struct str payload)
{
    struct gathered *out = &conn->ws->out;
    uint8_t header[HEADER_MAX];
    size_t size = header_write(header, opcode, payload.len);

    out->len = 0;
    if (gathered_room(out, size + payload.len)) {
        stream_close(conn->stream, CAUSE_NO_MEMORY, NULL);
        return -ENOMEM;
    }
    gathered_add(out, header, size);
    gathered_add(out, payload.p, payload.len);
    return stream_send(conn->stream, (struct str){out->base, out->len});
}

/* Messages in ---------------------------------------------------------------------------------- */

/* From inside a callback: nothing that comes behind it is looked at. */
static void fail(struct ws_conn *conn, enum close_code code, enum cause cause)
{
    conn_close(conn, code, cause, NULL);
    wslay_event_shutdown_read(conn->decoder);
}

/* The fragments so far: in memory of the connection if an earlier read brought some. */
static struct gathered *message_of(struct ws_conn *conn)
{
    return conn->message.base ? &conn->message : &conn->ws->message;
}

static void message_free(struct ws_conn *conn)
{
    free(conn->message.base);
    conn->message = (struct gathered){0};
    conn->ws->message.len = 0;
}

static void deliver(struct ws_conn *conn, char *bytes, size_t len)
{
    int err;

    if (!len)
        return;
    conn->had_message = true;
    err = proxy_receive_message(stream_flow(conn->stream), bytes, len, stream_now(conn->stream));
    if (err == -EMSGSIZE)
        conn_close(conn, CLOSE_TOO_LARGE, CAUSE_MESSAGE_TOO_LARGE, NULL);
    else if (err)
        conn_close(conn, CLOSE_POLICY_VIOLATION, CAUSE_NOT_SIP, NULL);
}

static void message_deliver(struct ws_conn *conn)
{
    struct gathered *message = message_of(conn);

    deliver(conn, message->base, message->len);
    if (stream_ending(conn->stream))
        wslay_event_shutdown_read(conn->decoder);
}

/* What of a message did not become whole is kept for the next read. */
static int message_keep(struct ws_conn *conn)
{
    struct gathered *scratch = &conn->ws->message;

    if (conn->message.base || !scratch->len)
        return 0;
    if (gathered_room(&conn->message, scratch->len))
        return -ENOMEM;
    gathered_add(&conn->message, scratch->base, scratch->len);
    scratch->len = 0;
    return 0;
}

/* The decoder's callbacks ---------------------------------------------------------------------- */

static ssize_t feed(wslay_event_context_ptr decoder, uint8_t *buf, size_t len, int flags,
                    void *context)
{
    struct ws *ws = context;

    (void)flags;
    if (!ws->feed.len) {
        wslay_event_set_error(decoder, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    len = len < ws->feed.len ? len : ws->feed.len;
    memcpy(buf, ws->feed.p, len);
    ws->feed = (struct str){ws->feed.p + len, ws->feed.len - len};
    ws->conn->pending += len;
    return (ssize_t)len;
}

static ssize_t answer(wslay_event_context_ptr decoder, const uint8_t *bytes, size_t len, int flags,
                      void *context)
{
    struct ws *ws = context;

    (void)flags;
    if (gathered_room(&ws->out, len)) {
        wslay_event_set_error(decoder, WSLAY_ERR_CALLBACK_FAILURE);
        return -1;
    }
    gathered_add(&ws->out, bytes, len);
    return (ssize_t)len;
}

static void frame_start(wslay_event_context_ptr decoder,
                        const struct wslay_event_on_frame_recv_start_arg *frame, void *context)
{
    struct ws *ws = context;
    struct ws_conn *conn = ws->conn;
    size_t max = stream_conf(conn->stream)->limits.message_size;

    (void)decoder;
    conn->frame_size = header_size(frame->payload_length) + MASK_SIZE + frame->payload_length;
    conn->is_data = !is_control(frame->opcode);
    if (!conn->is_data)
        return;
    conn->in_message = true;
    if (frame->payload_length > max || message_of(conn)->len > max - frame->payload_length) {
        proxy_oversize(stream_flow(conn->stream));
        fail(conn, CLOSE_TOO_LARGE, CAUSE_MESSAGE_TOO_LARGE);
    }
}

/* Memory grows with what came, never with what was announced. */
static void frame_chunk(wslay_event_context_ptr decoder,
                        const struct wslay_event_on_frame_recv_chunk_arg *chunk, void *context)
{
    struct ws_conn *conn = ((struct ws *)context)->conn;
    struct gathered *message = message_of(conn);

    (void)decoder;
    if (!conn->is_data || stream_ending(conn->stream))
        return;
    if (gathered_room(message, chunk->data_length))
        fail(conn, CLOSE_INTERNAL_ERROR, CAUSE_NO_MEMORY);
    else
        gathered_add(message, chunk->data, chunk->data_length);
}

static void frame_end(wslay_event_context_ptr decoder, void *context)
{
    struct ws_conn *conn = ((struct ws *)context)->conn;

    (void)decoder;
    conn->pending -= conn->frame_size;
}

/* Data is without its bytes here: frame_chunk() has had them. */
static void message_end(wslay_event_context_ptr decoder,
                        const struct wslay_event_on_msg_recv_arg *message, void *context)
{
    struct ws_conn *conn = ((struct ws *)context)->conn;

    (void)decoder;
    if (stream_ending(conn->stream))
        return;
    if (message->opcode == OPCODE_CLOSE && message->msg_length == 1) /* half a code */
        fail(conn, CLOSE_PROTOCOL_ERROR, CAUSE_WEBSOCKET);
    if (is_control(message->opcode))
        return;
    conn->in_message = false;
    conn->begun = 0;
    message_deliver(conn);
    message_free(conn);
}

/* In ------------------------------------------------------------------------------------------- */

static int decoder_take(struct ws_conn *conn)
{
    static const struct wslay_event_callbacks callbacks = {
        .recv_callback = feed,
        .send_callback = answer,
        .on_frame_recv_start_callback = frame_start,
        .on_frame_recv_chunk_callback = frame_chunk,
        .on_frame_recv_end_callback = frame_end,
        .on_msg_recv_callback = message_end,
    };
    struct ws *ws = conn->ws;

    if (conn->decoder)
        return 0;
    conn->decoder = ws->decoder;
    ws->decoder = NULL;
    if (conn->decoder)
        return 0;
    if (wslay_event_context_server_init(&conn->decoder, &callbacks, ws)) {
        conn->decoder = NULL;
        return -ENOMEM;
    }
    wslay_event_config_set_no_buffering(conn->decoder, 1);
    wslay_event_config_set_max_recv_msg_length(conn->decoder, UINT64_MAX); /* frame_start() looks */
    return 0;
}

static void decoder_free(struct ws_conn *conn)
{
    if (conn->decoder)
        wslay_event_context_free(conn->decoder);
    conn->decoder = NULL;
}

bool frames_clean(const struct ws_conn *conn)
{
    return !conn->pending && !conn->in_message;
}

/* A decoder that owes nothing is as good as new. */
static void decoder_give_back(struct ws_conn *conn)
{
    if (!frames_clean(conn))
        return;
    if (conn->ws->decoder) {
        decoder_free(conn);
        return;
    }
    conn->ws->decoder = conn->decoder;
    conn->decoder = NULL;
}

/* The client's close frame, or what wslay has found wrong, by the one that it has just written. */
static void decoder_closed(struct ws_conn *conn)
{
    wslay_event_context_ptr decoder = conn->decoder;

    conn->close_code = 0; /* it is said */
    if (wslay_event_get_close_received(decoder))
        stream_websocket_code(conn->stream, wslay_event_get_status_code_received(decoder), false);
    else
        stream_websocket_code(conn->stream, wslay_event_get_status_code_sent(decoder), true);
    if (wslay_event_get_close_received(decoder))
        stream_close(conn->stream, CAUSE_CLIENT_CLOSED, NULL);
    else if (wslay_event_get_status_code_sent(decoder) == CLOSE_INVALID_PAYLOAD)
        stream_close(conn->stream, CAUSE_WEBSOCKET, "text that is not UTF-8");
    else
        stream_close(conn->stream, CAUSE_WEBSOCKET, NULL);
}

/* Pongs, and the close frame if it came to that. */
static void answers_send(struct ws_conn *conn)
{
    wslay_event_context_ptr decoder = conn->decoder;
    struct gathered *out = &conn->ws->out;

    out->len = 0;
    if (wslay_event_want_write(decoder) && wslay_event_send(decoder)) {
        stream_close(conn->stream, CAUSE_NO_MEMORY, NULL);
        return;
    }
    if (out->len)
        (void)stream_send(conn->stream, (struct str){out->base, out->len});
    if (!wslay_event_get_read_enabled(decoder))
        decoder_closed(conn);
}

static void frames_feed(struct ws_conn *conn, struct str bytes)
{
    int err;

    conn->ws->conn = conn;
    conn->ws->feed = bytes;
    err = wslay_event_recv(conn->decoder);
    if (stream_ending(conn->stream))
        return;
    if (err == WSLAY_ERR_NOMEM)
        conn_close(conn, CLOSE_INTERNAL_ERROR, CAUSE_NO_MEMORY, NULL);
    else if (err) /* a header that can't be; wslay would close without a code */
        conn_close(conn, CLOSE_PROTOCOL_ERROR, CAUSE_WEBSOCKET, NULL);
    else
        answers_send(conn);
}

/* All that comes behind a frame that is not whole, or no plain message. */
static void decode(struct ws_conn *conn, struct str bytes)
{
    if (decoder_take(conn)) {
        conn_close(conn, CLOSE_INTERNAL_ERROR, CAUSE_NO_MEMORY, NULL);
        return;
    }
    while (bytes.len && !stream_ending(conn->stream)) {
        size_t len = bytes.len < FEED_SIZE ? bytes.len : FEED_SIZE;

        frames_feed(conn, (struct str){bytes.p, len});
        bytes = (struct str){bytes.p + len, bytes.len - len};
    }
    if (!stream_ending(conn->stream) && message_keep(conn))
        conn_close(conn, CLOSE_INTERNAL_ERROR, CAUSE_NO_MEMORY, NULL);
    if (!stream_ending(conn->stream))
        decoder_give_back(conn);
}

/* RFC 6455 5.3 */
static void unmask(char *bytes, size_t len, const char mask[MASK_SIZE])
{
    uint64_t eight, masks;
    size_t i = 0;

    memcpy(&masks, mask, MASK_SIZE);
    memcpy((char *)&masks + MASK_SIZE, mask, MASK_SIZE);
    for (; len - i >= sizeof(eight); i += sizeof(eight)) {
        memcpy(&eight, bytes + i, sizeof(eight));
        eight ^= masks;
        memcpy(bytes + i, &eight, sizeof(eight));
    }
    for (; i < len; i++)
        bytes[i] = (char)(bytes[i] ^ mask[i % MASK_SIZE]);
}

/* Take one text or binary message that is one frame, all there, and no longer than it may be.
 * Returns its size, or 0: it is something else. */
static size_t frame_whole(struct ws_conn *conn, char *bytes, size_t len)
{
    const uint8_t *header = (const uint8_t *)bytes;
    size_t payload, size = 2 + MASK_SIZE;

    if (len < 4 || (header[0] != (0x80 | OPCODE_TEXT) && header[0] != (0x80 | OPCODE_BINARY)) ||
        header[1] < 0x80 || header[1] == 0xFF) /* not masked, or a length of eight bytes */
        return 0;
    payload = header[1] & 0x7F;
    if (payload > LENGTH_7) {
        payload = (size_t)(header[2] << 8 | header[3]);
        size += 2;
    }
    if (header_size(payload) + MASK_SIZE != size || len < size || len - size < payload ||
        payload > stream_conf(conn->stream)->limits.message_size)
        return 0;
    unmask(bytes + size, payload, bytes + size - MASK_SIZE);
    if (header[0] == (0x80 | OPCODE_TEXT) && !utf8_valid((struct str){bytes + size, payload}))
        conn_close(conn, CLOSE_INVALID_PAYLOAD, CAUSE_WEBSOCKET, "text that is not UTF-8");
    else
        deliver(conn, bytes + size, payload);
    return size + payload;
}

void frames_receive(struct ws_conn *conn, char *bytes, size_t len)
{
    uint64_t now = stream_now(conn->stream);
    size_t taken = frames_clean(conn) ? 1 : 0;

    conn->received = now;
    conn->ping_waits_pong = false;
    while (taken && len && !stream_ending(conn->stream)) {
        taken = frame_whole(conn, bytes, len);
        bytes += taken;
        len -= taken;
    }
    if (len && !stream_ending(conn->stream))
        decode(conn, (struct str){bytes, len});
    if (stream_ending(conn->stream)) {
        frames_free(conn);
        return;
    }
    if (frames_clean(conn))
        conn->begun = 0;
    else if (!conn->begun)
        conn->begun = now ? now : 1;
}

void frames_free(struct ws_conn *conn)
{
    decoder_free(conn);
    message_free(conn);
    conn->pending = 0;
    conn->in_message = false;
}

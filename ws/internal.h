/* What the files of ws/ share. */
#pragma once

#include <wslay/wslay.h>

#include "tls/socket.h"
#include "ws/ws.h"

enum opcode {
    OPCODE_CONTINUATION = WSLAY_CONTINUATION_FRAME,
    OPCODE_TEXT = WSLAY_TEXT_FRAME,
    OPCODE_BINARY = WSLAY_BINARY_FRAME,
    OPCODE_CLOSE = WSLAY_CONNECTION_CLOSE,
    OPCODE_PING = WSLAY_PING,
    OPCODE_PONG = WSLAY_PONG,
};

enum close_code { /* RFC 6455 7.4.1, and the registry that it set up */
                  CLOSE_GOING_AWAY = 1001,
                  CLOSE_PROTOCOL_ERROR = 1002,
                  CLOSE_INVALID_PAYLOAD = 1007,
                  CLOSE_POLICY_VIOLATION = 1008,
                  CLOSE_TOO_LARGE = 1009,
                  CLOSE_INTERNAL_ERROR = 1011,
                  CLOSE_TRY_AGAIN_LATER = 1013,
};

/* Bytes of one message that are in hand. */
struct gathered {
    char *base;
    size_t len, size;
};

struct ws_conn {
    struct ws *ws;
    struct stream *stream;
    struct request *request; /* NULL: the connection is open */

    uint64_t opened, received, begun, pinged; /* times; received: anything at all */
    uint8_t ping_jitter;                      /* how much earlier or later it pings than others */
    bool had_message, ping_waits_pong;
    unsigned close_code; /* what the close frame will say; 0: none is due */

    /* Frames: the decoder is here only while a frame or message is not complete. */
    wslay_event_context_ptr decoder;
    uint64_t pending, frame_size; /* bytes that it was fed of frames not complete; of this frame */
    bool is_data;                 /* this frame */
    bool in_message;              /* fragments came, and the final one did not */
    struct gathered message;      /* those fragments, where they came in more than one read */
};

struct ws {
    wslay_event_context_ptr decoder; /* one in waiting; all its state is that of a new one */
    struct ws_conn *conn;            /* whose bytes it is fed: for its callbacks */
    struct str feed;                 /* those bytes */
    struct gathered message; /* a message that comes in one read needs no memory of its own */
    struct gathered out;     /* a frame, or the decoder's answers, on their way out */
    uint32_t jitter;         /* of pings: a state of its own, not security */
};

/* ws.c */
/* Close with this code, soon; reason as for stream_close(). */
void conn_close(struct ws_conn *conn, enum close_code code, enum cause cause, const char *reason);
int gathered_room(struct gathered *bytes, size_t len); /* for `len` more. -ENOMEM */
void gathered_add(struct gathered *bytes, const void *more, size_t len); /* after _room() */

/* frames.c */
/* Bytes after the upgrade, all of them, which it may change: pings are answered, messages
 * delivered, what is wrong is closed (F4, F8). */
void frames_receive(struct ws_conn *conn, char *bytes, size_t len);
bool frames_clean(const struct ws_conn *conn); /* nothing has begun and is not complete */
void frames_free(struct ws_conn *conn);
int frame_send(struct ws_conn *conn, enum opcode opcode, struct str payload); /* stream_send()'s */

/* handshake.c */
struct request;
/* The upgrade request is complete: 101, or it is answered and the stream ends (F5). */
int handshake_answer(struct ws_conn *conn, const struct request *request);
/* Bytes that are no request, or one that is too large. */
void handshake_refuse(struct ws_conn *conn, const char *status, const char *text);
/* The name that the Host header has, if it is one of ours, of the configuration. NULL: not. */
const char *handshake_host(const struct conf *conf, const struct request *request);

/* What a connection's bytes are: SIP's own framing (tls/sip.h) or WebSocket (ws/ws.h).
 *
 * The connection (tls/stream.h) has the socket, TLS, what waits for a slow reader, and the end of
 * it all; the protocol has the bytes in between, and its own time limits.
 *
 * Ownership: a protocol's `conn` lives from open() to close().
 * Threads:   one worker's. The functions of a protocol are called by the loop. Those of the stream
 *            may be called at any time, also from inside proxy/: they never call back.
 * Units:     bytes, milliseconds of the loop clock. */
#pragma once

#include <sys/types.h>

#include "proxy/proxy.h"

struct stream;

struct stream_protocol {
    const char *alpn; /* its name (RFC 7301), behind one byte that is the length of it */
    const char *lost; /* the reason where the peer just ends: "closed by client" */
    /* Does a connection that begins with these bytes speak it? 1: yes. 0: no. -EAGAIN: it takes
     * more to tell. Only asked where a listener serves two protocols and the client named none. */
    int (*recognise)(struct str first);
    /* The connection is ready for bytes. -ENOMEM. */
    int (*open)(void *context, struct stream *stream, void **conn);
    /* Bytes, from the beginning of what was not yet taken. Returns how many are taken: the rest
     * comes again with more behind it. -EMSGSIZE, or another negative value: a message is too
     * large, framing is lost; the stream ends. */
    ssize_t (*receive)(void *conn, char *bytes, size_t len);
    /* When to call expire(), which then ends the stream or moves this on. UINT64_MAX: never. */
    uint64_t (*deadline)(const void *conn);
    void (*expire)(void *conn, uint64_t now);
    /* The stream ends properly: last words, if any. NULL: none. */
    void (*farewell)(void *conn, const char *reason);
    void (*close)(void *conn); /* after the flow is told */
};

uint64_t stream_now(const struct stream *stream);
/* The present one: what is to stay for a connection is copied. */
const struct conf *stream_conf(const struct stream *stream);
/* At once, or as far as it has to wait behind all that was sent before. -EPIPE: closed or closing.
 * -ENOBUFS: too much would wait, the stream ends (X2). */
int stream_send(struct stream *stream, struct str bytes);
/* End soon, from the loop; the first cause counts. What was sent goes out first. reason: more than
 * the words of the cause, copied; NULL: those. */
void stream_close(struct stream *stream, enum cause cause, const char *reason);
/* A close frame (RFC 6455 7.1.5) was sent or came: for those who ask why. */
void stream_websocket_code(struct stream *stream, unsigned code, bool sent);
bool stream_ending(const struct stream *stream); /* stream_close(), or an error, has been */
/* Enter the stream as a flow; the stream closes that at its end. `host`: a name that the client
 * asked for in another way than by SNI; NULL: none. The stream ends if there is no room. */
int stream_flow_open(struct stream *stream, const struct flow_transport *transport, void *conn,
                     const char *host);
struct flow *stream_flow(const struct stream *stream); /* NULL: none */
bool stream_is_tls(const struct stream *stream);
void stream_name(const struct stream *stream, char name[FLOW_NAME_SIZE]); /* for the log */
void stream_peer(const struct stream *stream, char *text); /* SOCKET_TEXT bytes, for the log */

/* What the files behind stream.h share: the connection itself. stream.c begins and runs it,
 * stream_transfer.c moves its bytes, stream_end.c has its limits and its end. */
#pragma once

#include "tls/channel.h"
#include "tls/facts.h"
#include "tls/proxy_protocol.h"
#include "tls/queue.h"
#include "tls/stream.h"

enum { STREAM_REASON_SIZE = 128, STREAM_ALPN_SIZE = 32 };

enum state {
    STREAM_PREFACE,   /* a PROXY protocol header, where the listener wants one */
    STREAM_HANDSHAKE, /* TLS only */
    STREAM_CHOICE,    /* of the protocol, by the first bytes */
    STREAM_OPEN,      /* the protocol's */
    STREAM_CLOSING,   /* the flow is told; what is queued, close_notify and FIN go out */
    STREAM_GONE,      /* socket closed; libuv still has the handle */
};

enum ending {
    END_PROPERLY, /* the protocol's last words, and what is queued, go out; the peer may answer */
    END_ANSWERED, /* the same without last words: the peer had an alert */
    END_OF_PEER,  /* it has ended: what it may still read goes out, and nothing is waited for */
    END_AT_ONCE,  /* nothing more can be said */
    END_RESET,    /* and what the kernel holds for the peer goes too */
};

struct preface {
    size_t len;
    uint8_t bytes[PROXY_HEADER_MAX];
};

/* Behind a load balancer: who connected, to what. */
struct proxied {
    union conf_sockaddr sender, bound;
};

/* In a ring, the one that came first first. */
struct todo {
    struct todo *next, *prev; /* next NULL: in none */
};

/* What a message needs of it begins with the last third of `poll`, ends with `queue`, and lies on
 * few lines of a cache: with thousands of connections each is read from memory. */
struct stream {
    uv_poll_t poll;
    struct streams *streams;
    const struct stream_protocol *protocol; /* NULL: not yet known */
    void *conn;                             /* the protocol's */
    struct flow *flow;
    enum state state;
    int events;  /* polled for */
    bool ending; /* decided, done by the loop */
    struct channel channel;
    struct timer timer; /* never after the deadline: events move that, only firing looks */
    char *partial;      /* bytes that the protocol has not taken; NULL: none */
    size_t partial_len, partial_size;
    struct queue queue;

    uint64_t number;             /* "2.17" is worker 2's connection number 17 */
    struct stream *next, **link; /* of all */
    struct todo todo;
    enum conf_listener_kind kind;
    enum transport transport;
    uint32_t leaves_ms;      /* a drain: how long after its begin */
    bool unproxied;          /* the load balancer itself: a health check */
    struct preface *preface; /* NULL: not in that state */
    union conf_sockaddr peer, local;
    struct proxied *proxied; /* NULL: the socket has the same addresses */
    uint64_t since;          /* of the state */
    int64_t opened;          /* milliseconds since 1970 */

    bool finished;           /* closing: close_notify and FIN are out */
    bool websocket_sent;     /* the close frame is ours */
    uint16_t websocket_code; /* of it; 0: none */
    enum ending end_how;
    enum cause end_cause;
    char *end_reason; /* NULL: the words of the cause, or no memory for more */
};

struct streams {
    struct streams_options options;
    struct stream *all;
    struct todo reading, ends, handshakes; /* what is left for the loop, by turns */
    uv_idle_t todo_idle;                   /* runs while there is something */
    uint64_t admitted_at;                  /* the turn of the loop, by its time */
    unsigned admitted;                     /* handshakes that began in it */
    unsigned count;
    struct stream_counters counters;
    uint64_t numbers;      /* given to connections so far */
    struct history closed; /* those that were flows */
    struct history failed; /* those that never got so far */
    struct stream *scan;   /* where the next slice begins whose `before` is scan_before */
    uint64_t scan_before;  /* 0: nowhere */
    bool closing;
    uint64_t drain_since;
    char *buffer; /* all connections read into it, one after another */
    size_t buffer_size;
    char alpn[STREAM_ALPN_SIZE]; /* of both protocols */
};

/* stream_todo.c: what the loop does by turns, a part in each. So thousands of connections that come
 * or go at once don't hold up what others send. */
void streams_todo_init(struct streams *streams);
void stream_read_later(struct stream *stream);
/* Whether its handshake may begin now. Else it waits for its turn, and has no deadline till then.
 */
bool stream_admitted(struct stream *stream);
bool stream_waits(const struct stream *stream); /* for that */
/* Inside a call of proxy/, or where many may end at once. The first cause counts. */
void stream_end_later(struct stream *stream, enum cause cause, const char *reason, enum ending how);
void stream_todo_remove(struct stream *stream);

/* stream.c */
void stream_handshake(struct stream *stream);
void stream_event(uv_poll_t *poll, int status, int events);
void stream_choose(struct stream *stream, struct str first); /* the protocol, if these bytes tell */

/* stream_transfer.c */
void stream_receive(struct stream *stream);
/* 0: all is with the kernel. -EAGAIN: the rest waits. Other errors: the connection is broken. */
int stream_queue_flush(struct stream *stream);
void stream_queue_clear(struct stream *stream);
void stream_partial_free(struct stream *stream);

/* stream_facts.c */
/* It ends: into the history. Before its flow is told. */
void stream_remember(struct stream *stream, enum cause cause, const char *reason);
void stream_scan_leave(struct stream *stream); /* it goes out of the list of all */

/* stream_end.c */
void stream_state_set(struct stream *stream, enum state state);
void stream_deadline_update(struct stream *stream);
void stream_events_update(struct stream *stream); /* what the socket is polled for */
/* From the loop only, never inside a call of proxy/: it tells the flow. reason NULL: the words of
 * the cause. */
void stream_end(struct stream *stream, enum cause cause, const char *reason, enum ending how);
void stream_failed(struct stream *stream, ssize_t err); /* with an error of the channel */
void stream_broken(struct stream *stream);              /* by an error that polling reported */
void stream_closing(struct stream *stream);             /* goes on with that */
/* What an error that the channel returned means, and in words. */
enum cause stream_error(const struct stream *stream, ssize_t err, char reason[STREAM_REASON_SIZE]);

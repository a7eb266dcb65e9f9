#include <stdlib.h>
#include <string.h>

#include "tls/stream_internal.h"

/* In one turn of the loop: a few milliseconds of each. */
enum { HANDSHAKES_PER_TURN = 16, ENDS_PER_TURN = 64 };

/* Rings ---------------------------------------------------------------------------------------- */

static void ring_init(struct todo *ring)
{
    ring->next = ring->prev = ring;
}

static void ring_add(struct todo *ring, struct todo *todo)
{
    todo->next = ring;
    todo->prev = ring->prev;
    ring->prev->next = todo;
    ring->prev = todo;
}

/* NULL: none is left. */
static struct stream *ring_take(struct todo *ring)
{
    struct todo *todo = ring->next;
    struct stream *stream;

    if (todo == ring)
        return NULL;
    stream = (struct stream *)(void *)((char *)todo - offsetof(struct stream, todo));
    stream_todo_remove(stream);
    return stream;
}

static bool ring_is_empty(const struct todo *ring)
{
    return ring->next == ring;
}

static void ring_move(struct todo *ring, struct todo *to)
{
    ring_init(to);
    if (ring_is_empty(ring))
        return;
    *to = *ring;
    to->next->prev = to->prev->next = to;
    ring_init(ring);
}

void stream_todo_remove(struct stream *stream)
{
    struct todo *todo = &stream->todo;

    if (!todo->next)
        return;
    todo->next->prev = todo->prev;
    todo->prev->next = todo->next;
    *todo = (struct todo){NULL, NULL};
}

/* Turns ---------------------------------------------------------------------------------------- */

/* One more round for each; who has still more to read has it in the next turn. */
static void read_on(struct streams *streams)
{
    struct todo now;
    struct stream *stream;

    ring_move(&streams->reading, &now);
    while ((stream = ring_take(&now)))
        if (stream->state == STREAM_CHOICE || stream->state == STREAM_OPEN)
            stream_receive(stream);
}

static void end_some(struct streams *streams)
{
    struct stream *stream;

    for (int i = 0; i < ENDS_PER_TURN && (stream = ring_take(&streams->ends)); i++)
        stream_end(stream, stream->end_cause, stream->end_reason, stream->end_how);
}

static void handshakes_begin(struct streams *streams)
{
    struct stream *stream;

    for (int i = 0; i < HANDSHAKES_PER_TURN && (stream = ring_take(&streams->handshakes)); i++) {
        stream_state_set(stream, STREAM_HANDSHAKE); /* its time begins now */
        stream_handshake(stream);
    }
}

static void turn(uv_idle_t *idle)
{
    struct streams *streams = idle->data;

    read_on(streams);
    end_some(streams);
    handshakes_begin(streams);
    if (ring_is_empty(&streams->reading) && ring_is_empty(&streams->ends) &&
        ring_is_empty(&streams->handshakes))
        uv_idle_stop(idle);
}

static void add(struct stream *stream, struct todo *ring)
{
    stream_todo_remove(stream);
    ring_add(ring, &stream->todo);
    uv_idle_start(&stream->streams->todo_idle, turn);
}

void streams_todo_init(struct streams *streams)
{
    ring_init(&streams->reading);
    ring_init(&streams->ends);
    ring_init(&streams->handshakes);
    uv_idle_init(streams->options.loop, &streams->todo_idle);
    streams->todo_idle.data = streams;
}

void stream_read_later(struct stream *stream)
{
    add(stream, &stream->streams->reading);
}

/* Most of a handshake's cost is in its first step. uv_now() stands still for a turn. While it waits
 * it is polled for nothing: the loop would be told of thousands in each turn. */
bool stream_admitted(struct stream *stream)
{
    struct streams *streams = stream->streams;
    uint64_t now = stream_now(stream);

    if (now != streams->admitted_at)
        streams->admitted = 0;
    streams->admitted_at = now;
    if (ring_is_empty(&streams->handshakes) && streams->admitted < HANDSHAKES_PER_TURN) {
        streams->admitted++;
        return true;
    }
    add(stream, &streams->handshakes);
    stream_events_update(stream);
    return false;
}

bool stream_waits(const struct stream *stream)
{
    return stream->state == STREAM_HANDSHAKE && stream->todo.next && !stream->ending;
}

void stream_end_later(struct stream *stream, enum cause cause, const char *reason, enum ending how)
{
    if (stream_ending(stream))
        return;
    stream->ending = true;
    stream->end_how = how;
    stream->end_cause = cause;
    stream->end_reason = reason ? strdup(reason) : NULL;
    add(stream, &stream->streams->ends);
}

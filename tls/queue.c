#include "tls/queue.h"

#include <errno.h>
#include <stdlib.h>

enum { QUEUE_START_SIZE = 4096 };

int queue_add(struct queue *queue, struct str bytes, size_t limit)
{
    size_t waiting = queue->end - queue->start, size = queue->size ? queue->size : QUEUE_START_SIZE;
    char *base;

    if (waiting > limit || bytes.len > limit - waiting)
        return -ENOBUFS;
    if (queue->base && queue->size - queue->end < bytes.len && queue->start) {
        memmove(queue->base, queue->base + queue->start, waiting);
        queue->start = 0;
        queue->end = waiting;
    }
    while (size - queue->end < bytes.len)
        size *= 2;
    if (!queue->base || size != queue->size) {
        base = realloc(queue->base, size);
        if (!base)
            return -ENOMEM;
        queue->base = base;
        queue->size = size;
    }
    memcpy(queue->base + queue->end, bytes.p, bytes.len);
    queue->end += bytes.len;
    return 0;
}

void queue_drop(struct queue *queue, size_t len)
{
    queue->start += len;
    if (queue->start == queue->end)
        queue_clear(queue);
}

void queue_clear(struct queue *queue)
{
    free(queue->base);
    *queue = (struct queue){0};
}

/* Bytes that a socket did not take yet, up to a limit (X2). Empty, it holds no memory.
 *
 * Ownership: lives in its owner's struct, zeroed at start; queue_clear() at the end. */
#pragma once

#include "proxy/str.h"

struct queue {
    char *base;
    size_t start, end, size;
};

static inline struct str queue_bytes(const struct queue *queue)
{
    return (struct str){queue->base + queue->start, queue->end - queue->start};
}

/* -ENOBUFS: more than `limit` bytes would wait. -ENOMEM. Nothing was added then. */
int queue_add(struct queue *queue, struct str bytes, size_t limit);
void queue_drop(struct queue *queue, size_t len); /* the first `len` bytes are gone */
void queue_clear(struct queue *queue);

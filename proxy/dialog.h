/* The calls of a flow: its dialogs of INVITE (RFC 3261 12), from the 2xx that passes until the
 * final response to BYE, or until the flow is gone. A drain waits for them, and they are counted.
 *
 * A key stands for a dialog as the flow's client sees it, so a call between two clients is one
 * dialog of each of their flows, and what a client says counts for its own flow alone.
 * SUBSCRIBE makes dialogs too, but no calls.
 *
 * Bounds:    8 bytes for a dialog, DIALOGS_MAX for a flow: of more the oldest is forgotten, which
 *            may be one whose end nobody told us. Without memory a dialog isn't known: all goes on
 *            but that a drain doesn't wait for it.
 * Ownership: a flow's; zeroed is empty.
 * Threads:   one worker's. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proxy/str.h"

enum { DIALOGS_MAX = 1024 };

struct dialogs {
    uint64_t *keys; /* the oldest first; NULL: none */
    unsigned count, size;
};

/* From the client's side: its own tag, and that of the other end. Never 0. */
uint64_t dialog_key(struct str call_id, struct str own_tag, struct str other_tag);
bool dialogs_has(const struct dialogs *dialogs, uint64_t key);
void dialogs_add(struct dialogs *dialogs, uint64_t key); /* a known one is fine */
void dialogs_remove(struct dialogs *dialogs, uint64_t key);
void dialogs_clear(struct dialogs *dialogs);

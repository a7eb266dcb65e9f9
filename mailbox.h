/* A bounded queue of messages into one loop, from any thread: datagrams that another worker owns,
 * and messages to and from the embedded registrar.
 *
 * Ownership: mailbox_post() copies the bytes; deliver() borrows them out.
 * Threads:   mailbox_post() from any; deliver() runs on the loop. */
#pragma once

#include <uv.h>

#include "proxy/core.h"

struct mailbox;

typedef void (*mailbox_deliver)(void *context, const struct core_addr *from, char *bytes,
                                size_t len);

int mailbox_open(uv_loop_t *loop, unsigned messages_max, mailbox_deliver deliver, void *context,
                 struct mailbox **out);
/* -ENOBUFS: full, the message is dropped as a network would (and counted). -ENOMEM. */
int mailbox_post(struct mailbox *mailbox, const struct core_addr *from, struct str bytes);
void mailbox_close(struct mailbox **mailbox); /* no more posts; the loop must run once more */

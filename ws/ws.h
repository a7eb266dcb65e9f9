/* SIP over WebSocket (RFC 6455, RFC 7118): a protocol of the connections of tls/stream.h.
 *
 * Upgrade requests are judged here (F5). Origin: a list, if there is one, binds who sends the
 * field, as browsers always do; other clients, which send none, are not asked for it. Messages go
 * out as text where they are UTF-8, else binary. A close frame is the last thing that is sent:
 * close_notify and FIN follow at once, and what the peer still says is read and dropped.
 *
 * Ownership: ws_create() to ws_destroy(), which comes after the last connection.
 * Threads:   one worker's.
 * Units:     bytes, milliseconds of the loop clock. */
#pragma once

#include "tls/protocol.h"

struct ws;

extern const struct stream_protocol ws_protocol; /* its context: the struct ws */

int ws_create(struct ws **out);  /* -ENOMEM */
void ws_destroy(struct ws **ws); /* a NULL *ws is fine */

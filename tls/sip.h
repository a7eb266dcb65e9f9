/* SIP's own framing on a stream, over TLS or TCP (RFC 3261 18.3): proxy_receive_stream() cuts it,
 * here are the time limits (F7).
 *
 * Threads: one worker's. */
#pragma once

#include "tls/protocol.h"

extern const struct stream_protocol sip_protocol; /* its context: none */

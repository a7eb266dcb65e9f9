/* Counted events of the connections of one worker. Nothing but uint64_t: see proxy/counters.h. */
#pragma once

#include <stdint.h>

#include "proxy/cause.h"

enum transport {
    TRANSPORT_TLS,
    TRANSPORT_WSS,
    TRANSPORT_TCP,
    TRANSPORT_WS,
    TRANSPORT_UNDECIDED, /* on a port that two share, until its first bytes tell */
    TRANSPORTS,
};

struct stream_counters {
    /* How many there are is the difference. One of a shared port is opened when it is decided, or
     * at its end. */
    uint64_t opened[TRANSPORTS];
    uint64_t closed[TRANSPORTS][CAUSES];
    uint64_t handshakes_12[2], handshakes_13[2]; /* of TLS 1.2, 1.3; full, resumed */
    uint64_t refused[CAUSES];                    /* before they were connections at all */
    uint64_t queued;                             /* bytes that wait now, for slow readers (X2) */
};

const char *transport_name(enum transport transport); /* "tls" */

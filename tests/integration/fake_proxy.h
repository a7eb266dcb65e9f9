/* A proxy that echoes: what tls/ calls in proxy/, so that connections are tested alone.
 *
 * A message is its length in four digits, a newline, and that many bytes:
 *   "0005\nhello"   comes back as it is
 *   "....\nclose"   comes back, then the connection is closed from inside
 *   "....\nbad"     comes back, then framing is lost (-EPROTO)
 *   "....\nflood N" is answered with N messages of 1000 bytes, until send() fails
 * A first digit of 9 makes it hundreds: "9650\n" is followed by 65,000 bytes. CR and LF before it
 * are skipped, in pairs. */
#pragma once

#include "proxy/proxy.h"

struct flow {
    struct proxy *proxy;
    const struct flow_transport *transport;
    void *conn;
    char peer[64], local[64], host[64];
};

struct proxy {
    unsigned opened, closed, messages;
    struct flow *last;                          /* opened; NULL when closed */
    const struct flow *busy;                    /* the one flow that is */
    char reason[128];                           /* of the last that closed */
    char host[64], peer[64], local[64], via[8]; /* of the last that opened */
    int refuse;                                 /* what flow_open() returns */
    int send_error;                             /* the first of send() */
};

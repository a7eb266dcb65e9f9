/* The PROXY protocol, version 2 (HAProxy's doc/proxy-protocol.txt, 2.2): what a TCP load balancer
 * sends in front of a connection, to say whose it is.
 *
 * Threads: no state. */
#pragma once

#include <sys/types.h>

#include "conf/conf.h"

enum {
    PROXY_HEADER_MIN = 16,
    PROXY_HEADER_MAX = 2048, /* of ours: the addresses and many times the TLVs that are in use */
};

struct proxy_header {
    bool proxied; /* false: LOCAL, or not TCP over IP: the socket's own addresses hold */
    union conf_sockaddr source, destination;
    size_t need;       /* where more bytes are needed: how many in all, as far as is known */
    const char *error; /* static text */
};

/* Bytes from the beginning of a connection. Returns how many the header takes; 0: more are needed.
 * -EPROTO: never a header, or not one that is taken; `error` says why. */
ssize_t proxy_header_parse(const uint8_t *bytes, size_t len, struct proxy_header *out);

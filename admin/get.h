/* One page of the admin side of a sipward that runs on this machine, for another process: HTTP by
 * plain sockets, while nothing else goes on. */
#pragma once

#include "conf/conf.h"
#include "proxy/core.h"

enum { ADMIN_GOT_TEXT = 256 };

struct admin_got {
    char where[CORE_ADDR_TEXT]; /* who was asked, also where nothing came of it */
    int status;                 /* of HTTP; 0: what came is no HTTP */
    char line[ADMIN_GOT_TEXT];  /* the first of what came: "HTTP/1.1 200 OK" */
    char body[ADMIN_GOT_TEXT];  /* its first line; "": none */
};

/* Of one that listens at `address`, which has a port; the wildcard is asked by loopback.
 * -ECONNREFUSED, -ETIMEDOUT, ...: nothing came. */
int admin_get(const union conf_sockaddr *address, const char *path, unsigned time_ms,
              struct admin_got *out);

/* Can a local address be had? */
#pragma once

#include <stdbool.h>
#include <sys/socket.h>

/* By us, and by nobody else: SO_REUSEPORT lets workers share a port, and would let a second sipward
 * share it too, unnoticed. `type` is SOCK_STREAM or SOCK_DGRAM. 0, -EADDRINUSE, -EADDRNOTAVAIL,
 * -EACCES, ... */
int address_probe(int type, const struct sockaddr *address, bool both_families);

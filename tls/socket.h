/* Socket addresses, as tls/ needs them: IPv4 as IPv4, and as text for the log.
 *
 * Threads: no state. */
#pragma once

#include <netinet/in.h>

#include "conf/conf.h"

enum { SOCKET_TEXT = 64 };

/* An IPv4 address that came through an IPv6 socket (::ffff:192.0.2.7) becomes a plain one. */
void socket_unmap(union conf_sockaddr *address);
/* "192.0.2.7:50123", "[2001:db8::7]:50123" */
void socket_text(const struct sockaddr *address, char text[SOCKET_TEXT]);
socklen_t socket_len(const struct sockaddr *address);

/* What the system counts of a TCP connection. */
struct socket_numbers {
    uint64_t bytes_in, bytes_out; /* of payload, none of it twice; in: and 1 for FIN */
    bool ended;                   /* FIN has come */
    bool gone;                    /* after a RST or an error; FIN may have come before */
    uint32_t idle_ms;             /* since something came; since it was accepted */
    uint32_t rtt_us, retransmits;
};

int64_t wall_ms(void);                                   /* milliseconds since 1970 */
bool socket_numbers(int fd, struct socket_numbers *out); /* false: it can't be told; all 0 */

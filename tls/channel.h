/* A non-blocking socket, with TLS on it or without: bytes in, bytes out, errors in words.
 *
 * Ownership: channel_open_*() takes the socket, channel_close() closes it. A handshake under way
 *            holds its certificates.
 * Threads:   one worker's.
 * Errors:    -EAGAIN: later. -EPROTO: TLS is broken, other negative errno values: the connection
 *            is; both have `cause` and `error` set, and nothing but channel_close() and
 *            channel_finish() may follow. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "proxy/cause.h"
#include "proxy/str.h"
#include "tls/certificate.h"

struct channel {
    int fd;
    SSL *ssl;                          /* NULL: plain TCP */
    struct certificates *certificates; /* of a handshake under way: a reference */
    bool wants_write; /* the last -EAGAIN of a read or handshake waits for room to write */
    bool broken;      /* TLS had an error: it must not be used further */
    enum cause cause;
    const char *error; /* static text: "Connection reset by peer", "no shared cipher" */
    uint8_t alert;     /* the TLS alert that ended it (RFC 8446 6); 0: none */
    bool alert_sent;   /* it is ours */
};

void channel_open_plain(struct channel *channel, int fd);
/* -ENOMEM: fd is open. */
int channel_open_tls(struct channel *channel, int fd, struct certificates *certificates);
int channel_handshake(struct channel *channel);     /* 0: done */
bool channel_begun(const struct channel *channel);  /* the handshake */
bool channel_silent(const struct channel *channel); /* no ClientHello has come by TLS */
ssize_t channel_read(struct channel *channel, char *bytes, size_t size); /* 0: the peer's end */
ssize_t channel_write(struct channel *channel, struct str bytes);        /* may be less than all */
/* Bytes may have been taken from the socket that no event will tell about. */
bool channel_pending(const struct channel *channel);
/* The error that a poll event hinted at. 0: none but that the peer has ended. */
int channel_socket_error(struct channel *channel);
/* Say that nothing more comes: close_notify, then FIN. 0: said, as far as it could be. -EAGAIN. */
int channel_finish(struct channel *channel);
void channel_abandon(struct channel *channel); /* all but the socket */
void channel_close(struct channel *channel);

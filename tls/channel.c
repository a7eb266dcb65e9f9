#include "tls/channel.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>

/* What an operator reads in the log: OpenSSL's own words, but where these need explaining. */
static const struct {
    int reason;
    enum cause cause;
    const char *words;
} reasons[] = {
    {SSL_R_HTTP_REQUEST,                        CAUSE_NOT_TLS,                    "not TLS: plain HTTP, or SIP, on a TLS port"  },
    {SSL_R_HTTPS_PROXY_REQUEST,                 CAUSE_NOT_TLS,                    "not TLS: plain HTTP, or SIP, on a TLS port"  },
    {SSL_R_WRONG_VERSION_NUMBER,                CAUSE_NOT_TLS,
     "not TLS: plain SIP, or something else, on a TLS port"                                                                     },
    {SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE,   CAUSE_CLIENT_CERTIFICATE_MISSING,
     "the client shows no certificate, and this port requires one"                                                              },
    {SSL_R_UNSUPPORTED_PROTOCOL,                CAUSE_TLS_VERSION,                "client can only do TLS 1.1 or older"         },
    {SSL_R_VERSION_TOO_LOW,                     CAUSE_TLS_VERSION,                "client can only do TLS 1.1 or older"         },
    {SSL_R_NO_SHARED_CIPHER,                    CAUSE_TLS_CIPHER,                 "client has no cipher suite in common with us"},
    {SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS,      CAUSE_TLS_CIPHER,
     "client has no signature algorithm in common with us"                                                                      },
    {SSL_R_NO_SUITABLE_KEY_SHARE,               CAUSE_TLS_CIPHER,                 "client has no key exchange in common with us"},
    {SSL_R_TLSV1_ALERT_UNKNOWN_CA,              CAUSE_TLS_UNKNOWN_CA,
     "client does not know the certificate's CA"                                                                                },
    {SSL_R_SSLV3_ALERT_BAD_CERTIFICATE,         CAUSE_TLS_CERTIFICATE_REFUSED,
     "client refuses the certificate"                                                                                           },
    {SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN,     CAUSE_TLS_CERTIFICATE_REFUSED,
     "client refuses the certificate"                                                                                           },
    {SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED,     CAUSE_TLS_CERTIFICATE_REFUSED,
     "client refuses the certificate: expired"                                                                                  },
    {SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE, CAUSE_TLS_CERTIFICATE_REFUSED,
     "client can't use this kind of certificate"                                                                                },
    {SSL_R_TLSV1_ALERT_PROTOCOL_VERSION,        CAUSE_TLS_ALERT,                  "client refuses this TLS version"             },
};

/* An alert of the client's is a reason of OpenSSL's above this. */
static enum cause cause_of(int reason)
{
    return reason > SSL_AD_REASON_OFFSET ? CAUSE_TLS_ALERT : CAUSE_TLS_HANDSHAKE;
}

static void tls_error(struct channel *channel, unsigned long error)
{
    const char *words = ERR_reason_error_string(error);
    int reason = ERR_GET_LIB(error) == ERR_LIB_SSL ? ERR_GET_REASON(error) : 0;

    channel->error = words ? words : "OpenSSL gives no reason";
    channel->cause = cause_of(reason);
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++)
        if (reason == reasons[i].reason) {
            channel->error = reasons[i].words;
            channel->cause = reasons[i].cause;
        }
}

static int system_error(struct channel *channel, int error)
{
    channel->error = strerrordesc_np(error);
    if (!channel->error)
        channel->error = "unknown error of the system";
    switch (error) {
    case ECONNRESET:
    case EPIPE: channel->cause = CAUSE_RESET; break;
    case ETIMEDOUT: channel->cause = CAUSE_UNACKNOWLEDGED; break;
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ENETDOWN:
    case ECONNREFUSED:
    case ECONNABORTED: channel->cause = CAUSE_NETWORK; break;
    default: channel->cause = CAUSE_SYSTEM; break;
    }
    return -error;
}

/* The fatal alert that the call of OpenSSL at hand has sent or read. Sessions have no room of their
 * own for a pointer to their channel, and such a call never changes threads. */
static _Thread_local struct {
    uint8_t number;
    bool sent;
} alert;

static void alert_seen(const SSL *ssl, int where, int what)
{
    (void)ssl;
    if (where & SSL_CB_ALERT && what >> 8 == SSL3_AL_FATAL) {
        alert.number = (uint8_t)what;
        alert.sent = where & SSL_CB_WRITE;
    }
}

/* The error queue is empty: who leaves something there clears it, which costs less than to do that
 * for each message. */
static void call_begin(void)
{
    alert.number = 0;
    errno = 0;
}

/* What a call that returned `result` (<= 0) means. 0: the peer has ended. */
static int tls_result(struct channel *channel, int result)
{
    int error = errno, kind = SSL_get_error(channel->ssl, result);
    unsigned long reason, last;

    switch (kind) {
    case SSL_ERROR_WANT_WRITE: channel->wants_write = true; return -EAGAIN;
    case SSL_ERROR_WANT_READ: return -EAGAIN;
    case SSL_ERROR_ZERO_RETURN: return 0;
    default: break;
    }
    channel->broken = true;
    reason = ERR_peek_error(); /* the first: the cause */
    last = ERR_peek_last_error();
    ERR_clear_error();
    /* FIN without close_notify: SIP has lengths of its own, nothing can be cut off unseen. */
    if (ERR_GET_LIB(reason) == ERR_LIB_SSL &&
        ERR_GET_REASON(reason) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
        return 0;
    if (ERR_SYSTEM_ERROR(reason)) /* OpenSSL 3.5 has put errno into its queue, 3.0 has not */
        return system_error(channel, ERR_GET_REASON(reason));
    if (kind == SSL_ERROR_SYSCALL && !reason)
        return error ? system_error(channel, error) : 0;
    channel->alert = alert.number;
    channel->alert_sent = alert.sent;
    if (ERR_GET_LIB(last) == ERR_LIB_SSL &&
        ERR_GET_REASON(last) == SSL_R_CERTIFICATE_VERIFY_FAILED) {
        channel->error = certificates_refusal(channel->ssl);
        channel->cause = CAUSE_CLIENT_CERTIFICATE_REFUSED;
    } else {
        tls_error(channel, reason);
    }
    return -EPROTO;
}

void channel_open_plain(struct channel *channel, int fd)
{
    *channel = (struct channel){.fd = fd};
}

int channel_open_tls(struct channel *channel, int fd, struct certificates *certificates)
{
    SSL *ssl = SSL_new(certificates_default(certificates));

    if (!ssl || SSL_set_fd(ssl, fd) != 1) {
        SSL_free(ssl);
        ERR_clear_error();
        return -ENOMEM;
    }
    /* A record's header and body, and often the next records, in one system call. */
    SSL_set_read_ahead(ssl, 1);
    SSL_set_accept_state(ssl);
    SSL_set_info_callback(ssl, alert_seen);
    *channel =
        (struct channel){.fd = fd, .ssl = ssl, .certificates = certificates_ref(certificates)};
    return 0;
}

int channel_handshake(struct channel *channel)
{
    int result;

    channel->wants_write = false;
    call_begin();
    result = SSL_do_handshake(channel->ssl);
    if (result == 1) {
        ERR_clear_error(); /* what was tried in vain on the way */
        certificates_unref(&channel->certificates);
        return 0;
    }
    result = tls_result(channel, result);
    if (result == 0) {
        channel->broken = true;
        channel->error = "closed by client";
        channel->cause = CAUSE_HANDSHAKE_CLOSED;
        return -ECONNRESET;
    }
    return result;
}

bool channel_begun(const struct channel *channel)
{
    return !SSL_in_before(channel->ssl);
}

bool channel_silent(const struct channel *channel)
{
    return channel->ssl && SSL_get_state(channel->ssl) == TLS_ST_BEFORE;
}

ssize_t channel_read(struct channel *channel, char *bytes, size_t size)
{
    size_t len = 0;
    ssize_t got;

    channel->wants_write = false;
    if (!channel->ssl) {
        do
            got = recv(channel->fd, bytes, size, 0);
        while (got < 0 && errno == EINTR);
        if (got >= 0)
            return got;
        return errno == EAGAIN ? -EAGAIN : system_error(channel, errno);
    }
    call_begin();
    if (SSL_read_ex(channel->ssl, bytes, size, &len) == 1)
        return (ssize_t)len;
    return tls_result(channel, 0);
}

ssize_t channel_write(struct channel *channel, struct str bytes)
{
    size_t len = 0;
    ssize_t put;
    int result;

    if (!channel->ssl) {
        do
            put = send(channel->fd, bytes.p, bytes.len, MSG_NOSIGNAL);
        while (put < 0 && errno == EINTR);
        if (put >= 0)
            return put;
        return errno == EAGAIN ? -EAGAIN : system_error(channel, errno);
    }
    if (channel->broken)
        return -EPIPE;
    call_begin();
    if (SSL_write_ex(channel->ssl, bytes.p, bytes.len, &len) == 1)
        return (ssize_t)len;
    result = tls_result(channel, 0);
    return result ? result : system_error(channel, EPIPE);
}

bool channel_pending(const struct channel *channel)
{
    return channel->ssl && SSL_has_pending(channel->ssl);
}

int channel_socket_error(struct channel *channel)
{
    socklen_t len = sizeof(int);
    int error = 0;

    if (getsockopt(channel->fd, SOL_SOCKET, SO_ERROR, &error, &len))
        error = errno;
    return error ? system_error(channel, error) : 0;
}

int channel_finish(struct channel *channel)
{
    /* In a handshake there is no close_notify to send; after an error OpenSSL has sent its alert.
     */
    if (channel->ssl && !channel->broken && SSL_is_init_finished(channel->ssl)) {
        int result;

        channel->wants_write = false;
        call_begin();
        result = SSL_shutdown(channel->ssl);
        if (result < 0 && tls_result(channel, result) == -EAGAIN && channel->wants_write)
            return -EAGAIN;
    }
    shutdown(channel->fd, SHUT_WR);
    return 0;
}

void channel_abandon(struct channel *channel)
{
    SSL_free(channel->ssl);
    certificates_unref(&channel->certificates);
}

void channel_close(struct channel *channel)
{
    channel_abandon(channel);
    close(channel->fd);
    *channel = (struct channel){.fd = -1};
}

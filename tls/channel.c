#include "tls/channel.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>

#include "tls/certificate.h"

/* What an operator reads in the log: OpenSSL's own words, but where these need explaining. */
static const struct {
    int reason;
    const char *words;
} reasons[] = {
    {SSL_R_HTTP_REQUEST,                        "not TLS: plain HTTP, or SIP, on a TLS port"          },
    {SSL_R_HTTPS_PROXY_REQUEST,                 "not TLS: plain HTTP, or SIP, on a TLS port"          },
    {SSL_R_WRONG_VERSION_NUMBER,                "not TLS: plain SIP, or something else, on a TLS port"},
    {SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE,
     "the client shows no certificate, and this port requires one"                                    },
    {SSL_R_UNSUPPORTED_PROTOCOL,                "client can only do TLS 1.1 or older"                 },
    {SSL_R_VERSION_TOO_LOW,                     "client can only do TLS 1.1 or older"                 },
    {SSL_R_NO_SHARED_CIPHER,                    "client has no cipher suite in common with us"        },
    {SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS,      "client has no signature algorithm in common with us" },
    {SSL_R_NO_SUITABLE_KEY_SHARE,               "client has no key exchange in common with us"        },
    {SSL_R_TLSV1_ALERT_UNKNOWN_CA,              "client does not know the certificate's CA"           },
    {SSL_R_SSLV3_ALERT_BAD_CERTIFICATE,         "client refuses the certificate"                      },
    {SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN,     "client refuses the certificate"                      },
    {SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED,     "client refuses the certificate: expired"             },
    {SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE, "client can't use this kind of certificate"           },
    {SSL_R_TLSV1_ALERT_PROTOCOL_VERSION,        "client refuses this TLS version"                     },
};

static const char *reason_words(unsigned long error)
{
    const char *words = ERR_reason_error_string(error);

    if (ERR_GET_LIB(error) == ERR_LIB_SSL)
        for (size_t i = 0; i < ARRAY_LEN(reasons); i++)
            if (ERR_GET_REASON(error) == reasons[i].reason)
                return reasons[i].words;
    return words ? words : "OpenSSL gives no reason";
}

static int system_error(struct channel *channel, int error)
{
    channel->error = strerrordesc_np(error);
    if (!channel->error)
        channel->error = "unknown error of the system";
    return -error;
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
    if (ERR_GET_LIB(last) == ERR_LIB_SSL && ERR_GET_REASON(last) == SSL_R_CERTIFICATE_VERIFY_FAILED)
        channel->error = certificates_refusal(channel->ssl);
    else
        channel->error = reason_words(reason);
    return -EPROTO;
}

void channel_open_plain(struct channel *channel, int fd)
{
    *channel = (struct channel){.fd = fd};
}

int channel_open_tls(struct channel *channel, int fd, SSL_CTX *context)
{
    SSL *ssl = SSL_new(context);

    if (!ssl || SSL_set_fd(ssl, fd) != 1) {
        SSL_free(ssl);
        ERR_clear_error();
        return -ENOMEM;
    }
    /* A record's header and body, and often the next records, in one system call. */
    SSL_set_read_ahead(ssl, 1);
    SSL_set_accept_state(ssl);
    *channel = (struct channel){.fd = fd, .ssl = ssl};
    return 0;
}

int channel_handshake(struct channel *channel)
{
    int result;

    channel->wants_write = false;
    ERR_clear_error();
    errno = 0;
    result = SSL_do_handshake(channel->ssl);
    if (result == 1)
        return 0;
    result = tls_result(channel, result);
    if (result == 0) {
        channel->broken = true;
        channel->error = "closed by client";
        return -ECONNRESET;
    }
    return result;
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
    ERR_clear_error();
    errno = 0;
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
    ERR_clear_error();
    errno = 0;
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
        ERR_clear_error();
        errno = 0;
        result = SSL_shutdown(channel->ssl);
        if (result < 0 && tls_result(channel, result) == -EAGAIN && channel->wants_write)
            return -EAGAIN;
    }
    shutdown(channel->fd, SHUT_WR);
    return 0;
}

void channel_close(struct channel *channel)
{
    SSL_free(channel->ssl);
    close(channel->fd);
    *channel = (struct channel){.fd = -1};
}

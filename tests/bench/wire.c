#include "wire.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/sha.h>

enum {
    SCRATCH_SIZE = 256 * 1024,
    WS_TEXT = 1,
    WS_BINARY = 2,
    WS_CLOSE = 8,
    WS_PING = 9,
    WS_PONG = 10,
};

/* Nothing depends on its being another each time; the answer to it is known. */
static const char ws_key[] = "dGhlIHNhbXBsZSBub25jZQ==";

static char in_scratch[SCRATCH_SIZE], out_scratch[SCRATCH_SIZE];

static void die(struct wire *wire, const char *why)
{
    wire->state = WIRE_DEAD;
    if (!wire->why)
        wire->why = why;
    ERR_clear_error(); /* or the next connection's SSL_get_error() would see it */
}

static bool bytes_add(struct bytes *bytes, const char *p, size_t len)
{
    if (bytes->len + len > bytes->size) {
        size_t size = (bytes->len + len + 4095) & ~(size_t)4095;
        char *grown = realloc(bytes->p, size);
        if (!grown)
            return false;
        bytes->p = grown;
        bytes->size = size;
    }
    memcpy(bytes->p + bytes->len, p, len);
    bytes->len += len;
    return true;
}

static void bytes_free(struct bytes *bytes)
{
    free(bytes->p);
    *bytes = (struct bytes){0};
}

static void wants_out(struct wire *wire, bool wants)
{
    struct epoll_event event = {.events = EPOLLIN | (wants ? EPOLLOUT : 0), .data.ptr = wire};

    if (wants != wire->wants_out)
        (void)epoll_ctl(wire->kind->epoll, EPOLL_CTL_MOD, wire->fd, &event);
    wire->wants_out = wants;
}

/* ---- bytes out ---- */

/* How many the socket took; 0: not now. */
static size_t put(struct wire *wire, const char *p, size_t len)
{
    ssize_t done =
        wire->ssl ? SSL_write(wire->ssl, p, (int)len) : send(wire->fd, p, len, MSG_NOSIGNAL);

    if (done > 0)
        return (size_t)done;
    if (wire->ssl ? SSL_get_error(wire->ssl, (int)done) != SSL_ERROR_WANT_WRITE : errno != EAGAIN)
        die(wire, "write failed");
    return 0;
}

static void flush(struct wire *wire)
{
    size_t done = 0, now;

    while (done < wire->out.len && (now = put(wire, wire->out.p + done, wire->out.len - done)) > 0)
        done += now;
    wire->out.len -= done;
    memmove(wire->out.p, wire->out.p + done, wire->out.len);
    if (!wire->out.len)
        bytes_free(&wire->out);
    if (wire->state != WIRE_DEAD)
        wants_out(wire, wire->out.len > 0);
}

static void write_all(struct wire *wire, const char *p, size_t len)
{
    size_t done = wire->out.len ? 0 : put(wire, p, len);

    if (done == len || wire->state == WIRE_DEAD)
        return;
    if (!bytes_add(&wire->out, p + done, len - done))
        die(wire, "no memory");
    else
        flush(wire);
}

/* ---- WebSocket (RFC 6455) ---- */

static void frame_send(struct wire *wire, int opcode, const char *p, size_t len)
{
    static const unsigned char mask[4] = {0x5a, 0xc3, 0x17, 0x9e};
    unsigned char *head = (unsigned char *)out_scratch;
    size_t at = 0;

    if (len > SCRATCH_SIZE - 16) {
        die(wire, "message too long");
        return;
    }
    head[at++] = (unsigned char)(0x80 | opcode);
    head[at++] = (unsigned char)((wire->kind->client ? 0x80 : 0) | (len < 126     ? len
                                                                    : len < 65536 ? 126
                                                                                  : 127));
    if (len >= 126)
        for (int shift = len < 65536 ? 8 : 56; shift >= 0; shift -= 8)
            head[at++] = (unsigned char)((uint64_t)len >> shift);
    if (!wire->kind->client) {
        memcpy(head + at, p, len);
    } else {
        memcpy(head + at, mask, 4);
        at += 4;
        for (size_t i = 0; i < len; i++)
            head[at + i] = (unsigned char)p[i] ^ mask[i & 3];
    }
    write_all(wire, out_scratch, at + len);
}

static void upgrade_ask(struct wire *wire)
{
    char text[512];
    int len = snprintf(text, sizeof(text),
                       "GET / HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                       "Origin: https://%s\r\nSec-WebSocket-Key: %s\r\n"
                       "Sec-WebSocket-Protocol: sip\r\nSec-WebSocket-Version: 13\r\n\r\n",
                       wire->kind->domain, wire->kind->domain, ws_key);

    write_all(wire, text, (size_t)len);
}

/* Behind the name of a header, "NAME: "; load balancers write names in lower case. */
static const char *header_find(const char *p, size_t len, const char *name)
{
    size_t size = strlen(name);

    for (const char *end = p + len; p + size <= end; p++)
        if (strncasecmp(p, name, size) == 0)
            return p + size;
    return NULL;
}

static void accept_of(const char *key, size_t len, char accept[64])
{
    unsigned char text[128], digest[SHA_DIGEST_LENGTH];
    int size = snprintf((char *)text, sizeof(text), "%.*s258EAFA5-E914-47DA-95CA-C5AB0DC85B11",
                        (int)(len < 64 ? len : 64), key);

    SHA1(text, (size_t)size, digest);
    EVP_EncodeBlock((unsigned char *)accept, digest, sizeof(digest));
}

static long upgrade_read(struct wire *wire, const char *p, size_t len)
{
    const char *end = memmem(p, len, "\r\n\r\n", 4), *key, *found;
    char accept[64], answer[256];
    size_t head;

    if (!end)
        return len > 8192 ? -1 : 0;
    head = (size_t)(end + 4 - p);
    if (wire->kind->client) {
        accept_of(ws_key, strlen(ws_key), accept);
        found = memmem(p, head, accept, strlen(accept));
        if (memcmp(p, "HTTP/1.1 101 ", 13) != 0 || !found)
            return -1;
    } else {
        key = header_find(p, head, "\r\nSec-WebSocket-Key: ");
        if (!key)
            return -1;
        accept_of(key, strcspn(key, "\r"), accept);
        int size = snprintf(answer, sizeof(answer),
                            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                            "Connection: Upgrade\r\nSec-WebSocket-Protocol: sip\r\n"
                            "Sec-WebSocket-Accept: %s\r\n\r\n",
                            accept);
        write_all(wire, answer, (size_t)size);
    }
    wire->state = WIRE_OPEN;
    if (wire->kind->opened)
        wire->kind->opened(wire);
    return (long)head;
}

static void message_read(struct wire *wire, const char *p, size_t len)
{
    struct sip sip;

    if ((len == 2 && memcmp(p, "\r\n", 2) == 0) || (len == 4 && memcmp(p, "\r\n\r\n", 4) == 0))
        return; /* a keepalive, or its answer */
    if (sip_read(&sip, p, len, true) < 0)
        die(wire, "a WebSocket message is not SIP");
    else
        wire->kind->message(wire, &sip);
}

static long frame_read(struct wire *wire, char *p, size_t len)
{
    unsigned char *b = (unsigned char *)p;
    size_t head = 2, size;
    bool masked;

    if (len < 2)
        return 0;
    size = b[1] & 0x7f;
    masked = b[1] & 0x80;
    if (!(b[0] & 0x80) || (b[0] & 0x70) || masked == wire->kind->client || size == 127)
        return -1; /* in pieces, with extensions, masked wrongly, or over 64 kB: none of ours */
    if (size == 126) {
        if (len < 4)
            return 0;
        size = (size_t)b[2] << 8 | b[3];
        head = 4;
    }
    if (len < head + (masked ? 4 : 0) + size)
        return 0;
    if (masked) {
        for (size_t i = 0; i < size; i++)
            b[head + 4 + i] ^= b[head + (i & 3)];
        head += 4;
    }
    switch (b[0] & 0x0f) {
    case WS_TEXT:
    case WS_BINARY: message_read(wire, p + head, size); break;
    case WS_PING: frame_send(wire, WS_PONG, p + head, size); break;
    case WS_PONG: break;
    case WS_CLOSE: die(wire, "closed by WebSocket"); break;
    default: return -1;
    }
    return (long)(head + size);
}

/* ---- bytes in ---- */

static long stream_read(struct wire *wire, const char *p, size_t len)
{
    struct sip sip;
    long size;

    if (*p == '\r' || *p == '\n')
        return 1; /* a keepalive, or its answer */
    size = sip_read(&sip, p, len, false);
    if (size > 0)
        wire->kind->message(wire, &sip);
    return size;
}

static size_t take(struct wire *wire, char *p, size_t len)
{
    size_t done = 0;
    long now = 1;

    while (done < len && now > 0 && wire->state != WIRE_DEAD) {
        if (wire->state == WIRE_UPGRADE)
            now = upgrade_read(wire, p + done, len - done);
        else if (wire->kind->websocket)
            now = frame_read(wire, p + done, len - done);
        else
            now = stream_read(wire, p + done, len - done);
        if (now < 0)
            die(wire, "not what the protocol says");
        else
            done += (size_t)now;
    }
    return done;
}

static void took(struct wire *wire, char *p, size_t len)
{
    size_t done;

    if (wire->in.len) {
        if (!bytes_add(&wire->in, p, len))
            die(wire, "no memory");
        done = take(wire, wire->in.p, wire->in.len);
        wire->in.len -= done;
        memmove(wire->in.p, wire->in.p + done, wire->in.len);
        if (!wire->in.len)
            bytes_free(&wire->in);
        return;
    }
    done = take(wire, p, len);
    if (done < len && wire->state != WIRE_DEAD && !bytes_add(&wire->in, p + done, len - done))
        die(wire, "no memory");
}

/* Until OpenSSL has nothing more: what the socket has, epoll will say. */
static void receive(struct wire *wire)
{
    ssize_t len;

    do {
        len = wire->ssl ? SSL_read(wire->ssl, in_scratch, sizeof(in_scratch))
                        : recv(wire->fd, in_scratch, sizeof(in_scratch), 0);
        if (len > 0) {
            took(wire, in_scratch, (size_t)len);
        } else if (wire->ssl) {
            int error = SSL_get_error(wire->ssl, (int)len);
            if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
                die(wire, error == SSL_ERROR_ZERO_RETURN ? "closed" : "connection lost");
        } else if (len == 0 || errno != EAGAIN) {
            die(wire, len == 0 ? "closed" : "connection lost");
        }
    } while (len > 0 && wire->state != WIRE_DEAD && wire->ssl && SSL_has_pending(wire->ssl));
}

/* ---- its beginning ---- */

static void secured(struct wire *wire)
{
    wire->state = wire->kind->websocket ? WIRE_UPGRADE : WIRE_OPEN;
    wants_out(wire, false);
    if (wire->state == WIRE_OPEN && wire->kind->opened)
        wire->kind->opened(wire);
    else if (wire->state == WIRE_UPGRADE && wire->kind->client)
        upgrade_ask(wire);
}

static void handshake(struct wire *wire)
{
    int done = SSL_do_handshake(wire->ssl), error;

    if (done == 1) {
        secured(wire);
        return;
    }
    error = SSL_get_error(wire->ssl, done);
    if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
        die(wire, error == SSL_ERROR_SSL ? "the TLS handshake failed"
                                         : "the connection was lost in the TLS handshake");
    else
        wants_out(wire, error == SSL_ERROR_WANT_WRITE);
}

static void connected(struct wire *wire)
{
    int error = 0;
    socklen_t size = sizeof(error);

    if (getsockopt(wire->fd, SOL_SOCKET, SO_ERROR, &error, &size) || error) {
        die(wire, error == ECONNREFUSED ? "connection refused" : "connecting failed");
    } else if (wire->ssl) {
        wire->state = WIRE_TLS;
        handshake(wire);
    } else {
        secured(wire);
    }
}

void wire_ready(struct wire *wire, uint32_t events)
{
    if (wire->state == WIRE_CONNECTING && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
        connected(wire);
    else if (wire->state == WIRE_TLS)
        handshake(wire);
    if (wire->out.len && (events & EPOLLOUT) && wire->state != WIRE_DEAD)
        flush(wire);
    if (wire->state >= WIRE_UPGRADE && wire->state != WIRE_DEAD)
        receive(wire);
}

static void begin(struct wire *wire, const struct wire_kind *kind, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = wire};
    int on = 1;

    *wire = (struct wire){.kind = kind, .fd = fd, .state = WIRE_CONNECTING};
    if (fd < 0) {
        die(wire, "no more sockets");
        return;
    }
    wire->wants_out = kind->client;
    if (kind->client)
        event.events |= EPOLLOUT;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (kind->tls) {
        wire->ssl = SSL_new(kind->tls);
        if (!wire->ssl || !SSL_set_fd(wire->ssl, fd)) {
            die(wire, "no memory");
            return;
        }
        if (kind->client) {
            SSL_set_connect_state(wire->ssl);
            (void)SSL_set_tlsext_host_name(wire->ssl, kind->domain);
        } else {
            SSL_set_accept_state(wire->ssl);
        }
    }
    if (epoll_ctl(kind->epoll, EPOLL_CTL_ADD, fd, &event))
        die(wire, "epoll does not take it");
}

void wire_open(struct wire *wire, const struct wire_kind *kind, const struct sockaddr_in *from,
               const struct sockaddr_in *to, SSL_SESSION *session)
{
    int on = 1;

    begin(wire, kind, socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (wire->state == WIRE_DEAD)
        return;
    if (session && wire->ssl)
        (void)SSL_set_session(wire->ssl, session);
    /* The port is chosen at connect(): one for each pair of addresses, not for each address. */
    (void)setsockopt(wire->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
    if (bind(wire->fd, (const struct sockaddr *)from, sizeof(*from)))
        die(wire, "can't bind the source address");
    else if (connect(wire->fd, (const struct sockaddr *)to, sizeof(*to)) && errno != EINPROGRESS)
        die(wire, "can't connect");
}

void wire_accept(struct wire *wire, const struct wire_kind *kind, int fd)
{
    begin(wire, kind, fd);
    if (wire->state == WIRE_DEAD)
        return;
    if (wire->ssl)
        wire->state = WIRE_TLS;
    else
        secured(wire);
}

void wire_send(struct wire *wire, const char *message, size_t len)
{
    if (wire->state != WIRE_OPEN)
        return;
    if (wire->kind->websocket)
        frame_send(wire, WS_TEXT, message, len);
    else
        write_all(wire, message, len);
}

void wire_end(struct wire *wire)
{
    if (wire->ssl)
        (void)SSL_shutdown(wire->ssl);
    (void)shutdown(wire->fd, SHUT_WR);
}

void wire_drop(struct wire *wire, bool abort)
{
    static const char normal[2] = {1000 >> 8, (char)(1000 & 0xff)};
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};

    if (wire->state == WIRE_NONE)
        return;
    if (wire->state == WIRE_OPEN && !abort) {
        if (wire->kind->websocket)
            frame_send(wire, WS_CLOSE, normal, sizeof(normal));
        if (wire->ssl)
            (void)SSL_shutdown(wire->ssl);
    }
    if (abort && wire->fd >= 0)
        (void)setsockopt(wire->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    if (wire->ssl) /* else OpenSSL takes its session for a bad one, which can't be resumed */
        SSL_set_shutdown(wire->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(wire->ssl);
    if (wire->fd >= 0)
        (void)close(wire->fd);
    bytes_free(&wire->in);
    bytes_free(&wire->out);
    wire->ssl = NULL;
    wire->fd = -1;
    wire->state = WIRE_NONE;
}

SSL_CTX *wire_tls(bool client, const char *chain_file, const char *key_file)
{
    SSL_CTX *tls = SSL_CTX_new(client ? TLS_client_method() : TLS_server_method());

    if (!tls)
        return NULL;
    SSL_CTX_set_min_proto_version(tls, TLS1_3_VERSION);
    SSL_CTX_set_mode(tls, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(tls, 1);
    SSL_CTX_set_num_tickets(tls, 1);
    SSL_CTX_set_session_cache_mode(tls, client ? SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL
                                               : SSL_SESS_CACHE_OFF);
    if (chain_file && (SSL_CTX_use_certificate_chain_file(tls, chain_file) != 1 ||
                       SSL_CTX_use_PrivateKey_file(tls, key_file, SSL_FILETYPE_PEM) != 1)) {
        SSL_CTX_free(tls);
        return NULL;
    }
    return tls;
}

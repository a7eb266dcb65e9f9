#include "tls/proxy_protocol.h"

#include <errno.h>
#include <string.h>

#include "tls/socket.h"

enum {
    SIGNATURE_SIZE = 12,
    VERSION_COMMAND = 12, /* where they are */
    FAMILY_PROTOCOL = 13,
    LENGTH = 14,
    ADDRESSES = 16,
    COMMAND_LOCAL = 0x20, /* with version 2 in front */
    COMMAND_PROXY = 0x21,
    TCP_OVER_IPV4 = 0x11,
    TCP_OVER_IPV6 = 0x21,
    ADDRESSES_IPV4 = 12,
    ADDRESSES_IPV6 = 36,
};

static const uint8_t signature[SIGNATURE_SIZE] = "\r\n\r\n\0\r\nQUIT\n";
static const char version1[] = "PROXY ";

static ssize_t refuse(struct proxy_header *out, const char *error)
{
    out->error = error;
    return -EPROTO;
}

/* Does it begin so, as far as it goes? */
static bool begins(const uint8_t *bytes, size_t len, const void *with, size_t with_len)
{
    return memcmp(bytes, with, len < with_len ? len : with_len) == 0;
}

/* Source address, destination address, source port, destination port. */
static void ipv4_take(const uint8_t *bytes, struct proxy_header *out)
{
    out->source.in.sin_family = out->destination.in.sin_family = AF_INET;
    memcpy(&out->source.in.sin_addr, bytes, 4);
    memcpy(&out->destination.in.sin_addr, bytes + 4, 4);
    memcpy(&out->source.in.sin_port, bytes + 8, 2);
    memcpy(&out->destination.in.sin_port, bytes + 10, 2);
}

static void ipv6_take(const uint8_t *bytes, struct proxy_header *out)
{
    out->source.in6.sin6_family = out->destination.in6.sin6_family = AF_INET6;
    memcpy(&out->source.in6.sin6_addr, bytes, 16);
    memcpy(&out->destination.in6.sin6_addr, bytes + 16, 16);
    memcpy(&out->source.in6.sin6_port, bytes + 32, 2);
    memcpy(&out->destination.in6.sin6_port, bytes + 34, 2);
    socket_unmap(&out->source);
    socket_unmap(&out->destination);
}

/* All of it is there. What follows the addresses are TLVs, of which none is needed. */
static int addresses_take(const uint8_t *bytes, size_t len, struct proxy_header *out)
{
    size_t room = len - ADDRESSES;

    if (bytes[VERSION_COMMAND] == COMMAND_LOCAL)
        return 0;
    switch (bytes[FAMILY_PROTOCOL]) {
    case TCP_OVER_IPV4:
        if (room < ADDRESSES_IPV4)
            return -EPROTO;
        ipv4_take(bytes + ADDRESSES, out);
        break;
    case TCP_OVER_IPV6:
        if (room < ADDRESSES_IPV6)
            return -EPROTO;
        ipv6_take(bytes + ADDRESSES, out);
        break;
    default: return 0;
    }
    out->proxied = true;
    return 0;
}

ssize_t proxy_header_parse(const uint8_t *bytes, size_t len, struct proxy_header *out)
{
    size_t whole;

    memset(out, 0, sizeof(*out));
    out->need = PROXY_HEADER_MIN;
    if (len && !begins(bytes, len, signature, SIGNATURE_SIZE))
        return refuse(out, begins(bytes, len, version1, sizeof(version1) - 1)
                               ? "PROXY protocol version 1: the sender must use version 2"
                               : "no PROXY protocol header");
    if (len > VERSION_COMMAND && bytes[VERSION_COMMAND] != COMMAND_LOCAL &&
        bytes[VERSION_COMMAND] != COMMAND_PROXY)
        return refuse(out, "PROXY protocol header of an unknown version or command");
    if (len < PROXY_HEADER_MIN)
        return 0;
    whole = PROXY_HEADER_MIN + (size_t)(bytes[LENGTH] << 8 | bytes[LENGTH + 1]);
    if (whole > PROXY_HEADER_MAX)
        return refuse(out, "PROXY protocol header is too long");
    out->need = whole;
    if (len < whole)
        return 0;
    if (addresses_take(bytes, whole, out))
        return refuse(out, "PROXY protocol header is too short for its addresses");
    return (ssize_t)whole;
}

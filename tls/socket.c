#include "tls/socket.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

void socket_unmap(union conf_sockaddr *address)
{
    struct sockaddr_in plain = {.sin_family = AF_INET};

    if (address->sa.sa_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&address->in6.sin6_addr))
        return;
    plain.sin_port = address->in6.sin6_port;
    memcpy(&plain.sin_addr, &address->in6.sin6_addr.s6_addr[12], sizeof(plain.sin_addr));
    address->in = plain;
}

void socket_text(const struct sockaddr *address, char text[SOCKET_TEXT])
{
    union conf_sockaddr at;
    char host[INET6_ADDRSTRLEN] = "";

    memcpy(&at, address, socket_len(address));
    if (at.sa.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &at.in6.sin6_addr, host, sizeof(host));
        snprintf(text, SOCKET_TEXT, "[%s]:%u", host, ntohs(at.in6.sin6_port));
    } else {
        inet_ntop(AF_INET, &at.in.sin_addr, host, sizeof(host));
        snprintf(text, SOCKET_TEXT, "%s:%u", host, ntohs(at.in.sin_port));
    }
}

socklen_t socket_len(const struct sockaddr *address)
{
    return address->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                          : sizeof(struct sockaddr_in);
}

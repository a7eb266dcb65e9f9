#include "tls/socket.h"

#include <arpa/inet.h>
#include <linux/tcp.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

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

int64_t wall_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

bool socket_numbers(int fd, struct socket_numbers *out)
{
    enum { CLOSE = 7, CLOSE_WAIT = 8, LAST_ACK = 9 }; /* netinet/tcp.h has no bytes_received */
    struct tcp_info info = {0};
    socklen_t len = sizeof(info);

    *out = (struct socket_numbers){0};
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len))
        return false;
    out->bytes_in = info.tcpi_bytes_received;
    out->bytes_out = info.tcpi_bytes_sent - info.tcpi_bytes_retrans;
    out->ended = info.tcpi_state == CLOSE_WAIT || info.tcpi_state == LAST_ACK;
    out->gone = info.tcpi_state == CLOSE;
    out->idle_ms = info.tcpi_last_data_recv;
    out->rtt_us = info.tcpi_rtt;
    out->retransmits = info.tcpi_total_retrans;
    return true;
}

#include "address.h"

#include <errno.h>
#include <netinet/in.h>
#include <unistd.h>

int address_probe(int type, const struct sockaddr *address, bool both_families)
{
    socklen_t len =
        address->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    const int on = 1, v6only = !both_families;
    int fd = socket(address->sa_family, type | SOCK_CLOEXEC, 0);
    int err = 0;

    if (fd < 0)
        return -errno;
    if (type == SOCK_STREAM) /* connections of an earlier run may still be in TIME_WAIT */
        err = setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (!err && address->sa_family == AF_INET6)
        err = setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof(v6only));
    if (!err)
        err = bind(fd, address, len);
    if (err)
        err = -errno;
    close(fd);
    return err;
}

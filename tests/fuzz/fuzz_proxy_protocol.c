/* A PROXY protocol header is refused, taken or waited for the same way wherever it is cut, and
 * nothing behind it is touched. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "proxy/str.h"
#include "tls/proxy_protocol.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* In memory of exactly that size, so that a sanitizer sees what is read behind it. */
static ssize_t parse(const uint8_t *data, size_t len, struct proxy_header *header)
{
    uint8_t *copy = malloc(len ? len : 1);
    ssize_t taken;

    assert(copy);
    memcpy(copy, data, len);
    taken = proxy_header_parse(copy, len, header);
    free(copy);
    assert(taken == 0 || taken == -EPROTO || (taken >= PROXY_HEADER_MIN && taken <= (ssize_t)len));
    assert(taken <= PROXY_HEADER_MAX);
    assert((taken == -EPROTO) == (header->error != NULL));
    assert(taken || (header->need > len && header->need <= PROXY_HEADER_MAX));
    assert(!header->proxied || taken > 0);
    return taken;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct proxy_header whole, piece;
    ssize_t taken = parse(data, size, &whole);

    for (size_t len = 0; len <= size && len <= PROXY_HEADER_MAX; len += 1 + len / 64) {
        ssize_t early = parse(data, len, &piece);

        if (early == 0) /* it may wait, but never for more than the header has */
            assert(taken <= 0 || piece.need <= (size_t)taken);
        else
            assert(early == taken);
    }
    if (taken > 0 && whole.proxied)
        assert(whole.source.sa.sa_family == AF_INET || whole.source.sa.sa_family == AF_INET6);
    return 0;
}

/* Sixteen bytes of a text, looked at together. What is found of one is its highest bit. Of bytes
 * that are no ASCII it says nothing for sure: who finds something looks at them one by one. */
#pragma once

#include <endian.h>

#include "proxy/str.h"

typedef uint8_t bytes16 __attribute__((vector_size(16)));
typedef uint64_t bytes16_words __attribute__((vector_size(16)));

static inline bytes16 bytes_load(const char *p)
{
    bytes16 bytes;

    memcpy(&bytes, p, sizeof(bytes));
    return bytes;
}

/* The last sixteen of at least eight; of fewer than sixteen, some twice. */
static inline bytes16 bytes_load_last(struct str s)
{
    bytes16 bytes;

    if (s.len >= sizeof(bytes))
        return bytes_load(s.p + s.len - sizeof(bytes));
    memcpy(&bytes, s.p, sizeof(bytes) / 2);
    memcpy((char *)&bytes + sizeof(bytes) / 2, s.p + s.len - sizeof(bytes) / 2, sizeof(bytes) / 2);
    return bytes;
}

static inline bytes16 bytes_below(bytes16 bytes, uint8_t bound)
{
    return bytes - bound;
}

static inline bytes16 bytes_equal(bytes16 bytes, uint8_t c)
{
    return (bytes ^ c) - 1;
}

static inline uint64_t bytes_tops(bytes16 found, unsigned half)
{
    return le64toh(((bytes16_words)found)[half]) & 0x8080808080808080U;
}

static inline bool bytes_any(bytes16 found)
{
    return bytes_tops(found, 0) | bytes_tops(found, 1);
}

/* A bit for each, that of the first byte the lowest. */
static inline unsigned bytes_bits(bytes16 found)
{
    const uint64_t gather = 0x0002040810204081U; /* the highest bits of eight bytes, on top */

    return (unsigned)(bytes_tops(found, 0) * gather >> 56 |
                      bytes_tops(found, 1) * gather >> 56 << 8);
}

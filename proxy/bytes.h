/* Sixteen bytes of a text, looked at together. What is found of one is its highest bit. Of bytes
 * that are no ASCII it says nothing for sure: who finds something looks at them one by one. */
#pragma once

#include <endian.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

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

/* A bit for each, that of the first byte the lowest: on any machine, and here. */
static inline unsigned bytes_bits_portable(bytes16 found)
{
    const uint64_t tops = 0x8080808080808080U;
    const uint64_t gather = 0x0002040810204081U; /* these bits of eight bytes into the top byte */
    uint64_t low = le64toh(((bytes16_words)found)[0]) & tops;
    uint64_t high = le64toh(((bytes16_words)found)[1]) & tops;

    return (unsigned)(low * gather >> 56 | high * gather >> 56 << 8);
}

static inline unsigned bytes_bits(bytes16 found)
{
#ifdef __SSE2__
    return (unsigned)_mm_movemask_epi8((__m128i)found);
#else
    return bytes_bits_portable(found);
#endif
}

#include "tls/memory.h"

#include <errno.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdlib.h>

#include <openssl/crypto.h>

#ifndef __has_feature
#define __has_feature(feature) 0
#endif

enum { KEPT = 4 };

#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
static const unsigned kept_max = 0;
#else
static const unsigned kept_max = KEPT;
#endif

/* A record (RFC 8446 5.2: 2^14 bytes and 256), its header, and what OpenSSL adds to align it. */
enum { RECORD_LEAST = 16 * 1024, RECORD_SIZE = 18 * 1024 };

static _Thread_local struct {
    void *blocks[KEPT];
    unsigned count;
} kept;

static bool is_record(size_t size)
{
    return size >= RECORD_LEAST && size <= RECORD_SIZE;
}

static void *take(size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    if (!is_record(size))
        return malloc(size);
    return kept.count ? kept.blocks[--kept.count] : malloc(RECORD_SIZE);
}

static void give(void *block, const char *file, int line)
{
    size_t size;

    (void)file;
    (void)line;
    if (!block)
        return;
    size = malloc_usable_size(block);
    if (kept.count < kept_max && size >= RECORD_SIZE && size < 2 * (size_t)RECORD_SIZE)
        kept.blocks[kept.count++] = block;
    else
        free(block);
}

static void *change(void *block, size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return realloc(block, size);
}

int tls_memory_use(void)
{
    return CRYPTO_set_mem_functions(take, change, give) ? 0 : -EBUSY;
}

void tls_memory_thread_end(void)
{
    while (kept.count)
        free(kept.blocks[--kept.count]);
}

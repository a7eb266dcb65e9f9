#include "tls/memory.h"

#include <errno.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdlib.h>

#include <openssl/crypto.h>

#include "proxy/pool.h"

/* A record (RFC 8446 5.2: 2^14 bytes and 256), its header, and what OpenSSL adds to align it. */
enum { RECORD_LEAST = 16 * 1024, RECORD_SIZE = 18 * 1024 };

static _Thread_local struct pool records = {.size = RECORD_SIZE, .kept = 4};

static bool is_record(size_t size)
{
    return size >= RECORD_LEAST && size <= RECORD_SIZE;
}

static void *take(size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return is_record(size) ? pool_take(&records) : malloc(size);
}

static void give(void *block, const char *file, int line)
{
    size_t size;

    (void)file;
    (void)line;
    if (!block)
        return;
    size = malloc_usable_size(block);
    if (size >= RECORD_SIZE && size < 2 * (size_t)RECORD_SIZE)
        pool_give(&records, block);
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
    pool_clear(&records);
}

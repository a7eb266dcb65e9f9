/* The heap as OpenSSL gets it: its record buffers are kept for the next record.
 *
 * No connection holds one while it is idle (SSL_MODE_RELEASE_BUFFERS), so one is taken and given
 * back for each record that is read or written; at 17 kB it is too large for the cache of glibc's
 * malloc, and each goes through its bins.
 * Bounded: a thread keeps a few. With sanitizers none: they see who uses what was given back.
 * Threads: each has its own. What one thread gave may have been taken by another. */
#pragma once

/* Before anything else of OpenSSL. -EBUSY: too late, it has memory already, and goes on with the
 * heap as it is. */
int tls_memory_use(void);
/* At the end of a thread that used OpenSSL: its buffers go back to the heap. */
void tls_memory_thread_end(void);

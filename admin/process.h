/* What the system says of this process, by /proc: as Prometheus' own clients tell it.
 *
 * Threads: any. */
#pragma once

#include <stdint.h>

/* What can't be read is 0. */
struct process {
    double cpu_seconds;   /* user and system */
    double start_seconds; /* since 1970 */
    uint64_t resident_bytes, virtual_bytes;
    uint64_t open_fds, max_fds;
};

void process_look(struct process *process);

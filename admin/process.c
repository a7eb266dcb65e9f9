#include "admin/process.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static uint64_t fds_count(void)
{
    DIR *fds = opendir("/proc/self/fd");
    uint64_t count = 0;

    if (!fds)
        return 0;
    while (readdir(fds))
        count++;
    closedir(fds);
    return count - 3; /* ".", "..", and the one that was opened to look */
}

/* When the system started, in seconds since 1970. */
static double boot_seconds(void)
{
    FILE *stat = fopen("/proc/stat", "re");
    char line[256];
    uint64_t seconds = 0;

    while (stat && fgets(line, sizeof(line), stat))
        if (sscanf(line, "btime %" SCNu64, &seconds) == 1)
            break;
    if (stat)
        fclose(stat);
    return (double)seconds;
}

/* proc(5): fields 14 and 15 are CPU time, 22 the start, in ticks; 23 bytes and 24 pages. */
static void stat_read(struct process *process)
{
    FILE *stat = fopen("/proc/self/stat", "re");
    double tick = 1.0 / (double)sysconf(_SC_CLK_TCK);
    uint64_t user = 0, system = 0, start = 0, bytes = 0, pages = 0;
    char line[1024];
    const char *behind_name;

    if (!stat)
        return;
    behind_name = fgets(line, sizeof(line), stat) ? strrchr(line, ')') : NULL;
    fclose(stat);
    if (!behind_name || sscanf(behind_name,
                               ") %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %" SCNu64 " %" SCNu64
                               " %*s %*s %*s %*s %*s %*s %" SCNu64 " %" SCNu64 " %" SCNu64,
                               &user, &system, &start, &bytes, &pages) != 5)
        return;
    process->cpu_seconds = (double)(user + system) * tick;
    process->start_seconds = boot_seconds() + (double)start * tick;
    process->virtual_bytes = bytes;
    process->resident_bytes = pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

void process_look(struct process *process)
{
    struct rlimit limit;

    *process = (struct process){.open_fds = fds_count()};
    if (!getrlimit(RLIMIT_NOFILE, &limit))
        process->max_fds = limit.rlim_cur;
    stat_read(process);
}

#include "admin/process.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
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
static uint64_t boot_seconds(void)
{
    static const char name[] = "btime ";
    FILE *stat = fopen("/proc/stat", "re");
    char line[256];
    uint64_t seconds = 0;

    while (stat && !seconds && fgets(line, sizeof(line), stat))
        if (strncmp(line, name, strlen(name)) == 0)
            seconds = strtoull(line + strlen(name), NULL, 10);
    if (stat)
        fclose(stat);
    return seconds;
}

/* proc(5) counts the fields from 1; the name of the program, in brackets, is the second. */
static uint64_t stat_field(const char *behind_name, unsigned number)
{
    const char *at = behind_name;

    for (unsigned i = 2; at && i < number; i++)
        at = strchr(at + 1, ' ');
    return at ? strtoull(at, NULL, 10) : 0;
}

static void stat_read(struct process *process)
{
    enum { USER_TIME = 14, SYSTEM_TIME, START_TIME = 22, VIRTUAL_BYTES, RESIDENT_PAGES };
    FILE *stat = fopen("/proc/self/stat", "re");
    double ticks = (double)sysconf(_SC_CLK_TCK);
    char line[1024];
    const char *name;

    if (!stat)
        return;
    name = fgets(line, sizeof(line), stat) ? strrchr(line, ')') : NULL;
    fclose(stat);
    if (!name)
        return;
    process->cpu_seconds =
        (double)(stat_field(name, USER_TIME) + stat_field(name, SYSTEM_TIME)) / ticks;
    process->start_seconds = (double)boot_seconds() + (double)stat_field(name, START_TIME) / ticks;
    process->virtual_bytes = stat_field(name, VIRTUAL_BYTES);
    process->resident_bytes = stat_field(name, RESIDENT_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

void process_look(struct process *process)
{
    struct rlimit limit;

    *process = (struct process){.open_fds = fds_count()};
    if (!getrlimit(RLIMIT_NOFILE, &limit))
        process->max_fds = limit.rlim_cur;
    stat_read(process);
}

/* What the system gives: time, descriptors, memory. */
#include <sys/resource.h>
#include <sys/timex.h>

#include "doctor/internal.h"

enum {
    CONNECTIONS_FEW = 1000,
    CONNECTION_BYTES = 15000, /* an idle one: ARCHITECTURE.md */
    MEMORY_LITTLE = 128 * 1024 * 1024,
};

static void clock_check(struct doctor *doctor)
{
    struct timex state = {0};
    int result = adjtimex(&state);

    if (result >= 0 && result != TIME_ERROR && !(state.status & STA_UNSYNC)) {
        finding(doctor, STATUS_OK, "clock", "the clock is synchronised");
        return;
    }
    finding(doctor, STATUS_WARNING, "clock",
            result < 0 ? "whether the clock is synchronised can't be known here"
                       : "the clock is not synchronised: certificates and nonces depend on it");
    remedy(doctor, "timedatectl set-ntp true; date -u shows the time it has (in a container, look "
                   "at the machine that it runs on)");
}

static void descriptors_check(struct doctor *doctor, unsigned connections)
{
    unsigned wanted = doctor->conf->limits.connections;
    unsigned long running = running_descriptors(doctor);
    struct rlimit limit = {0};
    unsigned long long descriptors;

    (void)getrlimit(RLIMIT_NOFILE, &limit);
    descriptors = limit.rlim_cur;
    if (!connections) {
        finding(doctor, STATUS_FAILED, "descriptors",
                "%llu file descriptors are too few for a single connection", descriptors);
        remedy(doctor, "ulimit -n 65536 before it starts, or LimitNOFILE=65536 in its unit");
    } else if (connections < wanted || connections < CONNECTIONS_FEW) {
        finding(doctor, STATUS_WARNING, "descriptors",
                "%llu file descriptors leave room for %u connections%s", descriptors, connections,
                connections < wanted ? ", fewer than limits.connections" : "");
        if (connections < wanted || !wanted)
            remedy(doctor, "ulimit -n %u before it starts, or LimitNOFILE=%u in its unit",
                   wanted > 65536 - 4096 ? wanted + 4096 : 65536,
                   wanted > 65536 - 4096 ? wanted + 4096 : 65536);
        else
            remedy(doctor, "fine if no more are expected: limits.connections says so");
    } else {
        finding(doctor, STATUS_OK, "descriptors",
                "%llu file descriptors: room for %u connections (a unit or container has limits of "
                "its own)",
                descriptors, connections);
    }
    if (running)
        finding(doctor, STATUS_OK, "running_descriptors",
                "the sipward that runs may have %lu file descriptors", running);
}

static void memory_check(struct doctor *doctor)
{
    uint64_t free_bytes = uv_get_free_memory(), allowed = uv_get_constrained_memory();
    unsigned wanted = doctor->conf->limits.connections;
    uint64_t room;

    if (allowed && allowed < free_bytes)
        free_bytes = allowed;
    room = free_bytes / CONNECTION_BYTES;
    if (wanted > room || free_bytes < MEMORY_LITTLE) {
        finding(doctor, STATUS_WARNING, "memory",
                "%llu MB of memory are to be had: idle, %llu "
                "connections need that",
                (unsigned long long)(free_bytes >> 20), (unsigned long long)room);
        remedy(doctor, "limits: {connections: %llu}, or more memory",
               (unsigned long long)(room / 2 ? room / 2 : 1));
    } else {
        finding(doctor, STATUS_OK, "memory",
                "%llu MB of memory are to be had: room for %llu idle connections",
                (unsigned long long)(free_bytes >> 20), (unsigned long long)room);
    }
}

void system_check(struct doctor *doctor)
{
    clock_check(doctor);
    descriptors_check(doctor, doctor->options->connections_max(doctor->conf));
    memory_check(doctor);
}

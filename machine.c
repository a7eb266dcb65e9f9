#include "machine.h"

#include <errno.h>
#include <sched.h>
#include <sys/resource.h>

#include "admin/admin.h"
#include "proxy/backends.h"
#include "proxy/core_tcp.h"
#include "proxy/log.h"

enum {
    CONNECTIONS_CAP = 1048576,
    DESCRIPTORS_RESERVE = 64 + ADMIN_CONNECTIONS_MAX, /* of the process */
    DESCRIPTORS_FOR_A_WORKER = 32,                    /* loop, core sockets, what libraries open */
    DESCRIPTORS_FOR_CORE_TCP = CORE_TCP_ACCEPTED_MAX + ENDPOINTS_MAX, /* of a worker */
};

unsigned machine_cores(void)
{
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof(set), &set) ? 1 : CPU_COUNT(&set);

    return count < CONF_WORKERS_MAX ? (unsigned)count : CONF_WORKERS_MAX;
}

static bool has_tcp_backend(const struct conf *conf)
{
    for (unsigned i = 0; i < conf->backend_count; i++)
        if (conf->backends[i].transport != CONF_TRANSPORT_UDP)
            return true;
    return false;
}

unsigned machine_connections_max(const struct conf *conf)
{
    rlim_t reserve = DESCRIPTORS_RESERVE + DESCRIPTORS_FOR_A_WORKER * (rlim_t)conf->workers +
                     (rlim_t)conf->workers * conf->listener_count;
    rlim_t wanted = conf->limits.connections ? conf->limits.connections : CONNECTIONS_CAP;
    struct rlimit limit;

    if (has_tcp_backend(conf))
        reserve += DESCRIPTORS_FOR_CORE_TCP * (rlim_t)conf->workers;
    if (wanted > CONNECTIONS_CAP)
        wanted = CONNECTIONS_CAP;
    if (getrlimit(RLIMIT_NOFILE, &limit))
        return 0;
    if (limit.rlim_cur < wanted + reserve) {
        limit.rlim_cur = limit.rlim_max < wanted + reserve ? limit.rlim_max : wanted + reserve;
        if (setrlimit(RLIMIT_NOFILE, &limit))
            getrlimit(RLIMIT_NOFILE, &limit);
    }
    if (limit.rlim_cur <= reserve)
        return 0;
    if (limit.rlim_cur - reserve >= wanted)
        return (unsigned)wanted;
    if (conf->limits.connections)
        log_event(LOG_WARNING, "limits.connections is more than the system allows",
                  LOG_NUMBER("connections", conf->limits.connections),
                  LOG_NUMBER("descriptors", (int64_t)limit.rlim_cur),
                  LOG_TEXT("remedy", STR("ulimit -n, or LimitNOFILE= of the unit")));
    return (unsigned)(limit.rlim_cur - reserve);
}

int machine_fit(struct conf *conf, FILE *errors)
{
    if (!conf->workers)
        conf->workers = machine_cores();
    conf->connections_max = machine_connections_max(conf);
    if (conf->connections_max)
        return 0;
    (void)fprintf(errors, "too few file descriptors for one connection: raise ulimit -n\n");
    return -EMFILE;
}

#include "healthcheck.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "admin/get.h"

enum { TIME_MS = 2500 }; /* a worker is waited for one second, Docker may give us three */

static const char *remedy(int err)
{
    switch (err) {
    case -ECONNREFUSED: return ": sipward does not run, or another `admin` is in its configuration";
    case -ETIMEDOUT: return ": its main thread hangs";
    default: return "";
    }
}

enum healthcheck healthcheck(const struct conf *conf)
{
    const union conf_sockaddr *address = &conf->admin.address;
    struct admin_got got;
    int err;

    if (!address->sa.sa_family || !address->in.sin_port) { /* the port is at one place in both */
        conf_place_print(conf->path, conf->admin.line, stderr);
        fprintf(stderr, "admin: %s: nobody can be asked; give it an ADDRESS:PORT\n",
                address->sa.sa_family ? "port 0 is a new one at each start" : "no");
        return HEALTH_UNASKED;
    }
    err = admin_get(address, "/healthz", TIME_MS, &got);
    if (!err && got.status == 200 && !strcmp(got.body, "alive")) {
        printf("%s: alive\n", got.where);
        return HEALTHY;
    }
    if (err)
        fprintf(stderr, "%s: %s%s\n", got.where, strerror(-err), remedy(err));
    else if (got.status == 503)
        fprintf(stderr, "%s: %s\n", got.where, got.body);
    else
        fprintf(stderr, "%s: not what sipward says: %s\n", got.where, got.line);
    return UNHEALTHY;
}

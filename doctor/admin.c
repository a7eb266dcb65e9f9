/* The admin side: does it answer, can it be had, and who may read it. */
#include <errno.h>
#include <string.h>

#include "admin/get.h"
#include "doctor/internal.h"
#include "proxy/core_udp.h"

enum { GET_MS = 1200 }; /* a worker that doesn't answer is waited for a second */

static struct core_addr admin_addr(const struct conf *conf)
{
    struct core_addr addr = {.kind = CORE_TCP};

    memcpy(&addr.in6, &conf->admin.address.in6, sizeof(addr.in6));
    return addr;
}

static bool can_be_asked(const struct conf *conf)
{
    return conf->admin.address.sa.sa_family && conf->admin.address.in.sin_port;
}

void admin_ask(struct doctor *doctor)
{
    struct admin_got got;

    if (!can_be_asked(doctor->conf) ||
        admin_get(&doctor->conf->admin.address, "/healthz", GET_MS, &got))
        return;
    doctor->answers = !strcmp(got.body, "alive") || !strncmp(got.body, "no answer within", 16);
    if (doctor->answers)
        (void)snprintf(doctor->answers_at, sizeof(doctor->answers_at), "%s", got.where);
}

/* What a running one says of itself. */
static void running_check(struct doctor *doctor)
{
    struct core_addr addr = admin_addr(doctor->conf);
    struct admin_got got;
    struct taker taker;
    char who[TAKER_TEXT];
    int err = admin_get(&doctor->conf->admin.address, "/readyz", GET_MS, &got);

    if (!err && doctor->answers && got.status == 200) {
        finding(doctor, STATUS_OK, "ready", "http://%s/readyz says: %s", got.where, got.body);
    } else if (!err && doctor->answers) {
        finding(doctor, STATUS_WARNING, "ready", "http://%s/readyz says: %s", got.where, got.body);
        remedy(doctor, "curl http://%s/api/backends shows how the backends are for it", got.where);
    } else if (err) {
        finding(doctor, STATUS_WARNING, "ready", "http://%s/readyz does not answer: %s", got.where,
                strerror(-err));
        remedy(doctor,
               "the log of the sipward that runs says at its start why it has no admin side");
    } else {
        taker = port_taker(doctor, SOCK_STREAM, &addr);
        taker_text(&taker, who);
        finding(doctor, STATUS_WARNING, "ready", "%s is answered by %s, not by sipward", got.where,
                who);
        remedy(doctor, "give sipward another one: admin: 127.0.0.1:9091");
    }
}

static void address_check(struct doctor *doctor)
{
    struct core_addr addr = admin_addr(doctor->conf);
    bool given = doctor->conf->admin.given;
    char text[CORE_ADDR_TEXT], who[TAKER_TEXT];
    int err = core_probe(SOCK_STREAM, &addr);
    struct taker taker;

    core_addr_text(&addr, text);
    if (!err) {
        finding(doctor, STATUS_OK, "address", "%s is free", text);
        return;
    }
    taker = port_taker(doctor, SOCK_STREAM, &addr);
    taker_text(&taker, who);
    finding(doctor, given ? STATUS_FAILED : STATUS_WARNING, "address", "%s can't be had: %s%s%s%s",
            text, strerror(-err), taker.found ? ", by " : "", taker.found ? who : "",
            given ? "" : "; sipward runs without its admin side then");
    remedy(doctor, "another one: admin: 127.0.0.1:9091; or none: admin: no");
}

void admin_check(struct doctor *doctor)
{
    const struct conf *conf = doctor->conf;
    struct core_addr addr = admin_addr(conf);
    char text[CORE_ADDR_TEXT];

    if (!addr.sa.sa_family) {
        finding(doctor, STATUS_OK, "none", "admin: no, so there are neither metrics nor pages");
        return;
    }
    core_addr_text(&addr, text);
    if (!can_be_asked(conf))
        finding(doctor, STATUS_OK, "address", "%s is any free port: the log says which", text);
    else if (doctor->running || doctor->answers)
        running_check(doctor);
    else
        address_check(doctor);
    if (addr_is_loopback(&addr) || conf->admin.token)
        return;
    finding(doctor, STATUS_WARNING, "token",
            "whoever reaches %s can read who is connected, as no token is set", text);
    remedy(doctor,
           "admin: {listen: \"%s\", token: SECRET} (openssl rand -hex 24 makes one), or "
           "admin: 127.0.0.1:9090",
           text);
}

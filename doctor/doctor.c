#include "doctor/doctor.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "doctor/internal.h"
#include "proxy/log.h"
#include "proxy/value.h"

enum {
    EXIT_FINE = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    NAMES_MS = 3000, /* for all names */
    QUERY_MS = 900,  /* for the first try of one; the second gets twice that */
};

/* ---- the checks ---- */

/* That the file can be read and has no mistakes is known by then. */
static void configuration_check(struct doctor *doctor)
{
    finding(doctor, STATUS_OK, "file", "%s has no mistakes", doctor->options->path);
    if (doctor->running)
        finding(doctor, STATUS_OK, "running", "a sipward runs with it (process %d)",
                (int)doctor->running);
    else if (doctor->answers)
        finding(
            doctor, STATUS_OK, "running",
            "a sipward answers at its admin address, %s, and is taken for the one that it is of",
            doctor->answers_at);
}

/* One row, one family, in the order of the report. */
static const struct {
    const char *family, *title;
    void (*check)(struct doctor *doctor);
} checks[] = {
    {"configuration", "Configuration",          configuration_check},
    {"names",         "Names that clients use", names_check        },
    {"certificates",  "Certificates",           certificates_check },
    {"listeners",     "Listeners",              listeners_check    },
    {"core",          "Core side",              core_check         },
    {"backends",      "Backends",               backends_check     },
    {"admin",         "Admin side",             admin_check        },
    {"system",        "System",                 system_check       },
};

/* Of a finding's id: what stands before its dot. */
const char *check_title(const char *id)
{
    for (size_t i = 0; i < ARRAY_LEN(checks); i++)
        if (!strncmp(checks[i].family, id, strcspn(id, ".")))
            return checks[i].title;
    return "";
}

/* ---- names, before all ---- */

struct looking {
    struct doctor *doctor;
    struct dns *dns;
    struct resolver *resolver;
    uv_timer_t patience;
    uv_prepare_t seen;
};

struct backend_name {
    struct looking *looking;
    unsigned index;
};

static void backend_changed(void *context, const struct resolve_result *result)
{
    struct backend_name *name = context;
    const struct resolve_result **kept = &name->looking->doctor->backends[name->index];

    resolve_result_unref(kept);
    *kept = resolve_result_ref(result);
}

static void out_of_patience(uv_timer_t *timer)
{
    uv_stop(timer->loop);
}

static void all_seen(uv_prepare_t *seen)
{
    const struct looking *looking = seen->data;
    const struct doctor *doctor = looking->doctor;

    for (unsigned i = 0; i < doctor->question_count; i++)
        if (!doctor->questions[i].answered)
            return;
    for (unsigned i = 0; i < doctor->conf->backend_count; i++)
        if (!doctor->backends[i])
            return;
    uv_stop(seen->loop);
}

static int backends_follow(struct looking *looking, struct backend_name names[CONF_BACKENDS_MAX])
{
    static const enum resolve_transport transports[] = {
        [CONF_TRANSPORT_UDP] = RESOLVE_UDP,
        [CONF_TRANSPORT_TCP] = RESOLVE_TCP,
        [CONF_TRANSPORT_AUTO] = RESOLVE_AUTO,
    };
    const struct conf *conf = looking->doctor->conf;
    const struct resolver_options options = {.loop = &looking->doctor->loop,
                                             .query_timeout_ms = QUERY_MS};
    struct resolve_name *name;
    int err = resolver_open(&options, &looking->resolver);

    for (unsigned i = 0; i < conf->backend_count && !err; i++) {
        const struct resolve_target target = {conf->backends[i].host, conf->backends[i].port,
                                              transports[conf->backends[i].transport]};

        names[i] = (struct backend_name){looking, i};
        err = resolve_start(looking->resolver, &target, backend_changed, &names[i], &name);
    }
    return err;
}

/* Ask for all names, and wait for the answers. */
static int names_look(struct doctor *doctor)
{
    struct backend_name names[CONF_BACKENDS_MAX];
    struct looking looking = {.doctor = doctor};
    int err;

    uv_timer_init(&doctor->loop, &looking.patience);
    uv_prepare_init(&doctor->loop, &looking.seen);
    looking.seen.data = &looking;
    names_ask(doctor);
    err = dns_open(&doctor->loop, QUERY_MS, &looking.dns);
    if (!err)
        err = backends_follow(&looking, names);
    if (!err) {
        for (unsigned i = 0; i < doctor->question_count; i++)
            question_send(&doctor->questions[i], looking.dns);
        uv_timer_start(&looking.patience, out_of_patience, NAMES_MS, 0);
        uv_prepare_start(&looking.seen, all_seen);
        uv_run(&doctor->loop, UV_RUN_DEFAULT);
    }
    if (looking.dns)
        dns_close(&looking.dns);
    resolver_close(&looking.resolver);
    uv_close((uv_handle_t *)&looking.patience, NULL);
    uv_close((uv_handle_t *)&looking.seen, NULL);
    uv_run(&doctor->loop, UV_RUN_DEFAULT);
    return err;
}

/* ---- all together ---- */

/* 0, or what conf_load() returned, and then the mistakes are found. */
static int configuration_load(struct doctor *doctor)
{
    char *errors = NULL;
    size_t len;
    FILE *stream = open_memstream(&errors, &len);
    int err;

    if (!stream)
        return -ENOMEM;
    err = conf_load(doctor->options->path, stream, &doctor->conf);
    (void)fclose(stream);
    doctor->check = "configuration";
    if (errors)
        findings_lines(doctor, "file", errors);
    free(errors);
    if (err && err != -ENOMEM) {
        finding(doctor, STATUS_WARNING, "rest", "nothing else was tried");
        remedy(doctor, "correct that first, and run it again");
    }
    return err;
}

static int examine(struct doctor *doctor)
{
    int err = configuration_load(doctor);

    if (err)
        return err;
    machine_look(doctor);
    admin_ask(doctor);
    err = names_look(doctor);
    if (err == -ENOMEM)
        return err;
    if (err) {
        finding(doctor, STATUS_FAILED, "names", "names can't be looked up: %s", strerror(-err));
        remedy(doctor, "see that /etc/resolv.conf can be read, and raise ulimit -n");
    }
    backends_asks(doctor);
    core_find(doctor);
    asks_run(doctor);
    for (size_t i = 0; i < ARRAY_LEN(checks); i++) {
        doctor->check = checks[i].family;
        checks[i].check(doctor);
    }
    return 0;
}

static void doctor_free(struct doctor *doctor)
{
    for (unsigned i = 0; i < doctor->question_count; i++)
        free(doctor->questions[i].answer);
    for (unsigned i = 0; i < CONF_BACKENDS_MAX; i++)
        resolve_result_unref(&doctor->backends[i]);
    free(doctor->asks);
    json_decref(doctor->checks);
    conf_free(&doctor->conf);
}

int doctor_run(const struct doctor_options *options)
{
    static struct doctor doctor; /* large; one in a process */
    int result = EXIT_FINE, err;

    doctor = (struct doctor){.options = options, .checks = json_array()};
    doctor.asks = calloc(ASKS_MAX, sizeof(*doctor.asks));
    log_open(LOG_ERROR, false); /* what it would warn of is found here */
    sip_values_init();
    err = doctor.checks && doctor.asks ? uv_loop_init(&doctor.loop) : -ENOMEM;
    if (!err) {
        err = examine(&doctor);
        uv_loop_close(&doctor.loop);
    } else if (err != -ENOMEM) {
        (void)fprintf(stderr, "can't make an event loop: %s\n", strerror(-err));
        doctor.failed = true;
    }
    if (err == -ENOMEM || doctor.no_memory)
        (void)fprintf(stderr, "out of memory\n");
    else if (options->json)
        report_json(&doctor, options->out);
    else
        report_text(&doctor, options->out);
    if (fflush(options->out)) {
        (void)fprintf(stderr, "can't write: %s\n", strerror(errno));
        doctor.failed = true;
    }
    if (err == -ENOMEM || doctor.no_memory || doctor.failed)
        result = doctor.conf ? EXIT_FAILED : EXIT_USAGE;
    doctor_free(&doctor);
    return result;
}

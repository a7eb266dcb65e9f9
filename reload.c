#include "reload.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "announce.h"
#include "listeners.h"
#include "machine.h"
#include "proxy/log.h"
#include "watch.h"

enum step {
    STEP_NONE,
    STEP_NAMES,   /* of backends are looked up */
    STEP_PREPARE, /* by the workers */
    STEP_FORGET,  /* by the workers: something is wrong */
    STEP_TAKE,    /* by the workers; nothing can go wrong any more */
};

/* What one worker is asked to do. */
struct slot {
    struct worker_ask ask; /* first: what the worker gives back */
    struct reload *reload;
    atomic_bool answered;
    int err;      /* of its preparations */
    char *errors; /* why, as lines; NULL: none */
    size_t errors_len;
};

/* A configuration and its certificates. */
struct state {
    const struct conf *conf; /* a reference */
    const struct pems *pems;
    struct certificates *certificates; /* the main thread's own; NULL: none */
};

struct reload {
    struct reload_options options;
    struct state now, next;
    enum step step;
    enum reload_kind kind; /* is under way */
    bool stopped;
    bool wanted[RELOADS];         /* once more, after what is under way */
    bool pems_new;                /* workers need `next.pems` */
    const struct core_view *view; /* to be taken, a reference; NULL: certificates alone */
    char *changes;                /* for the log */
    char *errors;                 /* why it is refused, as lines */
    char *refused;                /* the last such lines of certificates; NULL: they were fine */
    struct watch *watch;
    struct reload_counts counts[RELOADS];
    struct slot slots[CONF_WORKERS_MAX];
};

static void next_begin(struct reload *reload);

static void state_release(struct state *state)
{
    conf_unref(&state->conf);
    pems_free(&state->pems);
    certificates_unref(&state->certificates);
}

/* What was read for it. -EINVAL: mistakes, told. -ENOMEM. */
static int certificates_check(struct state *state, const struct pems *running, FILE *errors)
{
    const struct certificates_options options = {
        .conf = state->conf, .pems = state->pems, .running = running, .errors = errors};

    return state->conf->certificate_count ? certificates_load(&options, &state->certificates) : 0;
}

/* ---- how it ends ---- */

static void lines_log(const char *what, const char *lines)
{
    while (*lines) {
        struct str line = {lines, strcspn(lines, "\n")};

        if (line.len)
            log_event(LOG_ERROR, what, LOG_TEXT("reason", line));
        lines += line.len + (lines[line.len] == '\n');
    }
}

static void end(struct reload *reload, bool done)
{
    struct reload_counts *counts = &reload->counts[reload->kind];

    *(done ? &counts->done : &counts->refused) += 1;
    counts->last_refused = !done;
    counts->last_s = (int64_t)time(NULL);
    state_release(&reload->next);
    core_view_unref(&reload->view);
    reload->step = STEP_NONE;
    next_begin(reload);
}

/* Workers have nothing of it. `errors` are taken over, and may be NULL. */
static void refuse(struct reload *reload, char *errors)
{
    bool alone = reload->kind == RELOAD_CERTIFICATES;
    bool said = alone && reload->refused && errors && !strcmp(reload->refused, errors);

    if (!said) { /* a folder may have changes that are nothing to us */
        if (errors)
            lines_log(alone ? "certificate mistake" : "configuration mistake", errors);
        log_event(LOG_ERROR, alone ? "new certificates refused: the old ones are served on"
                                   : "reload refused: the old configuration runs on");
    }
    if (alone) {
        free(reload->refused);
        reload->refused = errors;
    } else {
        free(errors);
    }
    core_views_forget(reload->options.views);
    end(reload, false);
}

static void watch_renew(struct reload *reload)
{
    const struct conf *conf = reload->now.conf;
    const char **files = calloc(2 * (size_t)conf->certificate_count + 1, sizeof(*files));
    size_t count = 0;

    if (!files)
        return; /* those of before are watched */
    for (unsigned i = 0; i < conf->certificate_count; i++) {
        files[count++] = conf->certificates[i].chain;
        files[count++] = conf->certificates[i].key;
    }
    if (conf->client_ca)
        files[count++] = conf->client_ca;
    (void)watch_set(reload->watch, files, count);
    free(files);
}

/* Without probes nobody would find out that one is up again. */
static void health_settle(const struct reload *reload)
{
    const struct conf *conf = reload->now.conf;

    if (conf->probe.interval_s && conf->backend_count)
        return;
    for (unsigned slot = 0; slot < ENDPOINTS_MAX; slot++)
        if (health_state(reload->options.health, slot) == HEALTH_DOWN)
            health_forget(reload->options.health, slot);
}

static void log_certificates(const struct state *state)
{
    for (unsigned i = 0; i < state->conf->certificate_count; i++) {
        time_t until = (time_t)certificates_until(state->certificates, i);
        char date[32] = "";
        struct tm tm;

        if (gmtime_r(&until, &tm))
            (void)strftime(date, sizeof(date), "%Y-%m-%d %H:%M UTC", &tm);
        log_event(LOG_INFO, "certificate reloaded",
                  LOG_TEXT("file", str_of(state->conf->certificates[i].chain)),
                  LOG_TEXT("until", str_of(date)));
    }
}

static void finish(struct reload *reload)
{
    const char *changes = reload->changes && *reload->changes ? reload->changes : "nothing";

    free(reload->refused);
    reload->refused = NULL;
    health_settle(reload);
    if (reload->pems_new)
        log_certificates(&reload->now);
    if (reload->kind == RELOAD_CONFIGURATION)
        log_event(LOG_INFO, "configuration reloaded", LOG_TEXT("changed", str_of(changes)));
    watch_renew(reload);
    end(reload, true);
}

/* ---- workers ---- */

static bool all_answered(const struct reload *reload)
{
    for (unsigned i = 0; i < reload->now.conf->workers; i++)
        if (!atomic_load(&reload->slots[i].answered))
            return false;
    return true;
}

/* Until all have answered, nothing changes of what they read here. */
static void workers_ask(struct reload *reload, enum step step,
                        void (*answer)(struct worker_ask *ask, struct worker *worker))
{
    reload->step = step;
    for (unsigned i = 0; i < reload->now.conf->workers; i++) {
        reload->slots[i].ask.answer = answer;
        reload->slots[i].reload = reload;
        atomic_store(&reload->slots[i].answered, false);
    }
    for (unsigned i = 0; i < reload->now.conf->workers; i++)
        worker_ask(reload->options.workers[i], &reload->slots[i].ask);
}

static void answer_prepare(struct worker_ask *ask, struct worker *worker)
{
    struct slot *slot = (struct slot *)ask;
    const struct reload *reload = slot->reload;
    FILE *errors = open_memstream(&slot->errors, &slot->errors_len);

    slot->err = errors ? 0 : -ENOMEM;
    if (errors && worker)
        slot->err = worker_prepare(worker, reload->next.conf,
                                   reload->pems_new ? reload->next.pems : NULL, errors);
    if (errors && fclose(errors))
        slot->err = -ENOMEM;
    atomic_store(&slot->answered, true);
}

static void answer_take(struct worker_ask *ask, struct worker *worker)
{
    struct slot *slot = (struct slot *)ask;

    if (worker)
        worker_take(worker, slot->reload->view);
    atomic_store(&slot->answered, true);
}

static void answer_forget(struct worker_ask *ask, struct worker *worker)
{
    struct slot *slot = (struct slot *)ask;

    if (worker)
        worker_forget(worker);
    atomic_store(&slot->answered, true);
}

/* `errors` are taken over. */
static void workers_forget(struct reload *reload, char *errors)
{
    reload->errors = errors;
    workers_ask(reload, STEP_FORGET, answer_forget);
}

/* ---- taking it ---- */

/* What can still go wrong. Then all is as before. */
static int main_take(struct reload *reload, FILE *errors)
{
    const struct conf *conf = reload->next.conf, *before = reload->now.conf;
    bool admin = !conf_same(before, conf, "admin");
    int err = admin ? pages_listen(reload->options.pages, conf, errors) : 0;

    if (err)
        return err;
    err = core_views_take(reload->options.views, errors);
    if (err == -ENOMEM)
        fprintf(errors, "out of memory\n");
    if (err && admin)
        (void)pages_listen(reload->options.pages, before, errors);
    return err;
}

static void main_taken(struct reload *reload)
{
    const struct conf *conf = reload->next.conf, *before = reload->now.conf;

    reload->view = core_view_ref(core_views_now(reload->options.views));
    embedded_take(reload->options.embedded, conf);
    log_open((enum log_level)conf->log_level, conf->log_json);
    if (!conf_same(before, conf, "admin"))
        pages_log(reload->options.pages, conf);
    announce_listeners(conf, before);
    announce_core(reload->view, before);
}

static void take(struct reload *reload)
{
    struct state before = reload->now;
    char *lines = NULL;
    size_t len = 0;
    FILE *errors = open_memstream(&lines, &len);
    int err = errors ? 0 : -ENOMEM;

    if (!err && reload->kind == RELOAD_CONFIGURATION)
        err = main_take(reload, errors);
    if (errors)
        (void)fclose(errors);
    if (err) {
        workers_forget(reload, lines);
        return;
    }
    free(lines);
    if (reload->kind == RELOAD_CONFIGURATION)
        main_taken(reload);
    reload->now = reload->next;
    reload->next = (struct state){0};
    reload->options.taken(reload->options.context, reload->now.conf);
    state_release(&before); /* workers hold what they still have of it */
    workers_ask(reload, STEP_TAKE, answer_take);
}

/* All workers are ready for it, or one is not. */
static void prepared(struct reload *reload)
{
    bool failed = false;
    char *why = NULL;

    for (unsigned i = 0; i < reload->now.conf->workers; i++) {
        struct slot *slot = &reload->slots[i];

        if (slot->err && !failed) { /* all meet the same mistakes */
            failed = true;
            why = slot->errors;
        } else {
            free(slot->errors);
        }
        slot->errors = NULL;
    }
    if (failed)
        workers_forget(reload, why);
    else
        take(reload);
}

void reload_look(struct reload *reload)
{
    char *errors;

    if (!reload || reload->stopped || reload->step < STEP_PREPARE || !all_answered(reload))
        return;
    switch (reload->step) {
    case STEP_PREPARE: prepared(reload); break;
    case STEP_FORGET:
        errors = reload->errors;
        reload->errors = NULL;
        refuse(reload, errors);
        break;
    case STEP_TAKE: finish(reload); break;
    case STEP_NONE:
    case STEP_NAMES: break;
    }
}

/* ---- the file ---- */

/* As it is now, but for what can't change while it runs. -ENOMEM, or what conf_load() says. */
static int conf_read(const struct conf *running, FILE *errors, const struct conf **out)
{
    struct conf *conf = NULL;
    char *kept = NULL;
    size_t len = 0;
    FILE *names = open_memstream(&kept, &len);
    int err = names ? conf_load(running->path, errors, &conf) : -ENOMEM;

    if (!err && !conf->workers)
        conf->workers = machine_cores();
    if (!err)
        err = conf_keep(conf, running, names);
    if (names && fclose(names) && !err)
        err = -ENOMEM;
    if (!err)
        err = machine_fit(conf, errors);
    if (!err && *kept)
        log_event(LOG_WARNING, "some keys wait for a restart of sipward",
                  LOG_TEXT("keys", str_of(kept)));
    free(kept);
    if (err)
        conf_free(&conf);
    else
        *out = conf;
    return err;
}

/* -ENOMEM. */
static int changes_find(struct reload *reload)
{
    size_t len = 0;
    FILE *out;

    free(reload->changes);
    reload->changes = NULL;
    out = open_memstream(&reload->changes, &len);
    if (!out)
        return -ENOMEM;
    (void)conf_changes_print(reload->now.conf, reload->next.conf, out);
    return fclose(out) ? -ENOMEM : 0;
}

/* The names of its backends came to what they do. */
static void named(void *context)
{
    struct reload *reload = context;
    int err = embedded_prepare(reload->options.embedded, reload->next.conf);

    if (err)
        refuse(reload, strdup(strerror(-err)));
    else
        workers_ask(reload, STEP_PREPARE, answer_prepare);
}

/* Everything that can be seen without doing any of it; then it begins. -EALREADY: it is what runs.
 */
static int configuration_check(struct reload *reload, FILE *errors)
{
    struct state *now = &reload->now, *next = &reload->next;
    int err = conf_read(now->conf, errors, &next->conf), probed;

    if (err)
        return err;
    err = pems_read(next->conf, &next->pems);
    if (!err)
        err = certificates_check(next, now->pems, errors);
    probed = listeners_probe(next->conf, now->conf, errors);
    err = err ? err : probed;
    if (!err)
        err = changes_find(reload);
    if (err)
        return err;
    reload->pems_new = !pems_eq(now->pems, next->pems) ||
                       strcmp(now->conf->domain, next->conf->domain) != 0; /* SNI's fallback */
    if (!*reload->changes && !reload->pems_new)
        return -EALREADY;
    return core_views_prepare(reload->options.views, next->conf, named, reload);
}

void reload_begin(struct reload *reload)
{
    char *lines = NULL;
    size_t len = 0;
    FILE *errors;
    int err;

    if (!reload || reload->stopped) {
        log_event(LOG_WARNING, "no reload: sipward is stopping");
        return;
    }
    if (reload->step) {
        reload->wanted[RELOAD_CONFIGURATION] = true;
        return;
    }
    reload->kind = RELOAD_CONFIGURATION;
    reload->step = STEP_NAMES;
    errors = open_memstream(&lines, &len);
    err = errors ? configuration_check(reload, errors) : -ENOMEM;
    if (err == -ENOMEM && errors)
        fprintf(errors, "out of memory\n");
    if (errors)
        (void)fclose(errors);
    if (err && err != -EALREADY) {
        refuse(reload, lines);
        return;
    }
    free(lines);
    if (err)
        finish(reload);
}

/* ---- certificates alone ---- */

/* Another file has changed, or they are what they were before. */
static void certificates_same(struct reload *reload)
{
    state_release(&reload->next);
    free(reload->refused);
    reload->refused = NULL;
    next_begin(reload);
}

static void certificates_begin(struct reload *reload)
{
    char *lines = NULL;
    size_t len = 0;
    FILE *errors = open_memstream(&lines, &len);
    int err = errors ? 0 : -ENOMEM;

    reload->kind = RELOAD_CERTIFICATES;
    watch_renew(reload); /* before they are read: what changes later is seen */
    reload->next.conf = conf_ref(reload->now.conf);
    if (!err)
        err = pems_read(reload->next.conf, &reload->next.pems);
    reload->pems_new = !err && !pems_eq(reload->now.pems, reload->next.pems);
    if (reload->pems_new)
        err = certificates_check(&reload->next, reload->now.pems, errors);
    if (errors)
        (void)fclose(errors);
    if (err) {
        refuse(reload, lines);
        return;
    }
    free(lines);
    if (reload->pems_new)
        workers_ask(reload, STEP_PREPARE, answer_prepare);
    else
        certificates_same(reload);
}

static void certificates_changed(void *context)
{
    struct reload *reload = context;

    if (reload->step)
        reload->wanted[RELOAD_CERTIFICATES] = true;
    else
        certificates_begin(reload);
}

static void next_begin(struct reload *reload)
{
    bool configuration = reload->wanted[RELOAD_CONFIGURATION];
    bool certificates = reload->wanted[RELOAD_CERTIFICATES];

    reload->wanted[RELOAD_CONFIGURATION] = reload->wanted[RELOAD_CERTIFICATES] = false;
    if (configuration) /* with which the certificates are read too */
        reload_begin(reload);
    else if (certificates)
        certificates_begin(reload);
}

/* ---- life ---- */

int reload_open(const struct reload_options *options, FILE *errors, struct reload **out)
{
    struct reload *reload = calloc(1, sizeof(*reload));
    int err;

    if (!reload)
        return -ENOMEM;
    reload->options = *options;
    reload->now.conf = conf_ref(options->conf);
    err = pems_read(options->conf, &reload->now.pems);
    if (!err)
        err = certificates_check(&reload->now, NULL, errors);
    if (!err)
        err = watch_open(options->loop, certificates_changed, reload, &reload->watch);
    if (err)
        reload_close(&reload);
    else
        *out = reload;
    return err;
}

const struct pems *reload_pems(const struct reload *reload)
{
    return reload->now.pems;
}

void reload_start(struct reload *reload)
{
    watch_renew(reload);
}

void reload_report(const struct reload *reload, struct report *report)
{
    if (!reload)
        return;
    report->certificates = reload->now.certificates;
    memcpy(report->reloads, reload->counts, sizeof(report->reloads));
}

void reload_stop(struct reload *reload)
{
    if (!reload)
        return;
    reload->stopped = true;
    watch_close(&reload->watch);
}

void reload_close(struct reload **reload)
{
    struct reload *gone = *reload;

    if (!gone)
        return;
    reload_stop(gone);
    state_release(&gone->now);
    state_release(&gone->next);
    core_view_unref(&gone->view);
    for (unsigned i = 0; i < CONF_WORKERS_MAX; i++)
        free(gone->slots[i].errors);
    free(gone->changes);
    free(gone->errors);
    free(gone->refused);
    free(gone);
    *reload = NULL;
}

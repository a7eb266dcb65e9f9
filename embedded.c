#include "embedded.h"

enum { MESSAGES_MAX = 16384 };

static void delivered(void *context, const struct core_addr *from, char *bytes, size_t len)
{
    struct embedded *embedded = context;

    if (!embedded->registrar)
        return;
    if (from->kind == CORE_SELF) /* a worker's own word, behind all that its flow sent */
        registrar_flow_gone(embedded->registrar, (struct str){bytes, len});
    else
        registrar_receive(embedded->registrar, bytes, len, uv_now(embedded->loop));
}

static void registrar_sends(void *context, struct str bytes)
{
    const struct core_addr from = {.kind = CORE_EMBEDDED};
    struct embedded *embedded = context;
    unsigned owner = core_owner(bytes, embedded->worker_count);

    mailbox_post(worker_mailbox(embedded->workers[owner]), &from, bytes);
}

int embedded_open(struct embedded *embedded, uv_loop_t *loop, struct worker *const *workers,
                  unsigned worker_count)
{
    embedded->loop = loop;
    embedded->workers = workers;
    embedded->worker_count = worker_count;
    return mailbox_open(loop, MESSAGES_MAX, delivered, embedded, &embedded->mailbox);
}

static int registrar_start(struct embedded *embedded, const struct conf *conf)
{
    struct registrar_options options = {.conf = conf, .send = registrar_sends, .context = embedded};
    int err = embedded->wheel.timers ? 0 : wheel_open(embedded->loop, &embedded->wheel);

    if (err)
        return err;
    options.timers = embedded->wheel.timers;
    err = registrar_create(&options, &embedded->registrar);
    if (!err)
        embedded->conf = conf_ref(conf);
    return err;
}

int embedded_prepare(struct embedded *embedded, const struct conf *conf)
{
    if (!embedded->registrar)
        return conf->backend_count ? 0 : registrar_start(embedded, conf);
    return registrar_prepare(embedded->registrar, conf);
}

void embedded_take(struct embedded *embedded, const struct conf *conf)
{
    const struct conf *before = embedded->conf;

    if (!embedded->registrar || before == conf)
        return;
    registrar_take(embedded->registrar, conf);
    embedded->conf = conf_ref(conf);
    conf_unref(&before);
}

void embedded_report(const struct embedded *embedded, struct report *report)
{
    if (!embedded->registrar)
        return;
    report->bindings = registrar_bindings(embedded->registrar);
    report->sum.sizes.transactions += registrar_transactions(embedded->registrar);
    report->sum.given_up += registrar_given_up(embedded->registrar);
    report->sum.timers += timers_count(embedded->wheel.timers);
}

void embedded_stop(struct embedded *embedded)
{
    if (embedded->registrar)
        registrar_destroy(&embedded->registrar);
    wheel_close(&embedded->wheel);
    conf_unref(&embedded->conf);
}

void embedded_close(struct embedded *embedded)
{
    embedded_stop(embedded);
    mailbox_close(&embedded->mailbox); /* nothing is delivered from here on */
}

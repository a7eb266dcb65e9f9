#include "pages.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "admin/admin.h"
#include "admin/backends.h"
#include "admin/health.h"
#include "admin/metrics.h"
#include "flows.h"
#include "proxy/log.h"

struct pages {
    struct pages_options options;
    struct admin *admin;
    int err; /* why the default address could not be had */
};

/* ---- the pages ---- */

static void report_done(void *context, const struct report *report)
{
    struct admin_request *request = context;
    const struct admin_page *page = admin_request_page(request);
    char *body = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&body, &len);
    int status = 500;

    if (out) {
        status = page->print(report, out);
        if (fclose(out)) {
            free(body);
            body = NULL;
        }
    }
    admin_answer(request, status, page->type, body, len);
}

/* A page that is made of a report. */
static void report_get(void *context, struct admin_request *request)
{
    const struct pages *pages = context;

    if (reports_ask(pages->options.reports, report_done, request))
        admin_answer_text(request, 503, "no memory");
}

static void flows_get(void *context, struct admin_request *request)
{
    const struct pages *pages = context;

    flows_list(pages->options.asks, request);
}

static void flow_get(void *context, struct admin_request *request)
{
    const struct pages *pages = context;

    flows_show(pages->options.asks, request);
}

#define TEXT "text/plain; charset=utf-8"
#define JSON "application/json"

/* clang-format off */
static const struct admin_page table[] = {
    {"/metrics", "figures for Prometheus", false, report_get, METRICS_TYPE, metrics_print},
    {"/healthz", "200 while all threads answer", true, report_get, TEXT, healthz_print},
    {"/readyz", "200 while new clients are welcome, or 503 and why not", true, report_get, TEXT,
     readyz_print},
    {"/api/backends", "the backends and how they are (JSON)", false, report_get, JSON,
     backends_print},
    {"/api/flows", "who is connected; with ?state=closed who was, and why not any more (JSON)", false,
     flows_get, NULL, NULL},
    {"/api/flows/", NULL, false, flow_get, NULL, NULL},
};
/* clang-format on */

/* ---- where ---- */

static const char *remedy(int err)
{
    switch (err) {
    case -EACCES: return ": ports below 1024 need root, or CAP_NET_BIND_SERVICE";
    case -EADDRINUSE: return ": another program has it (ss -ltnp shows which); give another port";
    case -EADDRNOTAVAIL: return ": this machine has no such address: ip address shows those it has";
    default: return "";
    }
}

static void address_text(const union conf_sockaddr *address, char text[CORE_ADDR_TEXT])
{
    struct core_addr addr = {.kind = CORE_UDP};

    memcpy(&addr.in6, &address->in6, sizeof(addr.in6));
    core_addr_text(&addr, text);
}

int pages_listen(struct pages *pages, const struct conf *conf, FILE *errors)
{
    char text[CORE_ADDR_TEXT];
    int err;

    pages->err = 0;
    err = admin_listen(pages->admin, &conf->admin.address);
    if (err && conf->admin.given) {
        address_text(&conf->admin.address, text);
        conf_place_print(conf->path, conf->admin.line, errors);
        fprintf(errors, "admin: %s: %s%s\n", text, strerror(-err), remedy(err));
        return -EINVAL;
    }
    pages->err = err;
    if (admin_token_set(pages->admin, conf->admin.token)) {
        fprintf(errors, "no memory\n");
        return -EINVAL;
    }
    return 0;
}

static bool is_loopback(const union conf_sockaddr *address)
{
    return address->sa.sa_family == AF_INET ? ntohl(address->in.sin_addr.s_addr) >> 24 == 127
                                            : IN6_IS_ADDR_LOOPBACK(&address->in6.sin6_addr);
}

void pages_log(const struct pages *pages, const struct conf *conf)
{
    char text[CORE_ADDR_TEXT], now[ADMIN_ADDRESS_TEXT];

    if (pages->err) {
        address_text(&conf->admin.address, text);
        log_event(LOG_WARNING, "there is no admin side", LOG_TEXT("address", str_of(text)),
                  LOG_TEXT("reason", str_of(strerror(-pages->err))),
                  LOG_TEXT("remedy", STR("another one: admin: 127.0.0.1:PORT, or admin: no")));
    }
    if (!admin_address(pages->admin, now))
        return;
    log_event(LOG_INFO, "admin listening", LOG_TEXT("address", str_of(now)));
    if (!is_loopback(&conf->admin.address) && !conf->admin.token)
        log_event(LOG_WARNING, "anybody who reaches the admin address can read who is connected",
                  LOG_TEXT("address", str_of(now)),
                  LOG_TEXT("remedy", STR("admin: {listen: ADDRESS:PORT, token: SECRET}")));
}

/* ---- open and close ---- */

int pages_open(const struct pages_options *options, struct pages **out)
{
    struct admin_options admin = {
        .loop = options->loop, .pages = table, .page_count = sizeof(table) / sizeof(table[0])};
    struct pages *pages = calloc(1, sizeof(*pages));
    int err;

    if (!pages)
        return -ENOMEM;
    pages->options = *options;
    admin.context = pages;
    err = admin_open(&admin, &pages->admin);
    if (err) {
        free(pages);
        return err;
    }
    *out = pages;
    return 0;
}

void pages_close(struct pages **pages)
{
    if (!*pages)
        return;
    admin_close(&(*pages)->admin);
    free(*pages);
    *pages = NULL;
}

/* Connections in JSON, for /api/flows, and what such a request asks for.
 *
 * Threads: the main thread's. */
#pragma once

#include <stdio.h>

#include "admin/admin.h"
#include "tls/stream.h"

enum { FLOWS_LIMIT = 1000 };

struct flows_query {
    enum streams_list list;
    unsigned limit;
    unsigned worker; /* to begin with, */
    uint64_t before; /* at what is older than this one */
    struct facts_filter filter;
};

/* During get(). NULL: read; else what is wrong with it, in words. */
const char *flows_query_read(const struct admin_request *request, struct flows_query *out);
/* "2.17". false: it is none. */
bool flow_id_read(const char *text, unsigned *worker, uint64_t *number);

struct flows_page {
    unsigned count;  /* printed so far */
    unsigned worker; /* the last one's */
    uint64_t number;
    bool more;                     /* there may be some behind it */
    bool silent[CONF_WORKERS_MAX]; /* workers that did not answer: theirs are missing */
};

void flows_print_begin(FILE *out);
void flows_print_one(FILE *out, struct flows_page *page, unsigned worker,
                     const struct facts *facts);
void flows_print_end(FILE *out, const struct flows_page *page);
void flow_print(FILE *out, unsigned worker, const struct facts *facts); /* alone */

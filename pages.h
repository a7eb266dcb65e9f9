/* The pages of the admin side: which there are, and what each is made of.
 *
 * Threads: the main thread's. */
#pragma once

#include "reports.h"

struct pages;

struct pages_options {
    uv_loop_t *loop;
    struct asks *asks;
    struct reports *reports; /* both are borrowed, and closed before the pages are */
};

int pages_open(const struct pages_options *options, struct pages **out); /* nowhere yet */
/* Listen where the configuration says, with its token. -EINVAL: it can't be, as a line on `errors`
 * says, and all is as it was. An address that the file does not ask for may fail: then there is no
 * admin side. */
int pages_listen(struct pages *pages, const struct conf *conf, FILE *errors);
/* The log: where that is, who can read it, or why it is nowhere. */
void pages_log(const struct pages *pages, const struct conf *conf);
void pages_close(struct pages **pages); /* a NULL *pages is fine */

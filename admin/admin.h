/* The admin side: a small HTTP server with pages for those who run sipward, by GET and HEAD. What
 * the pages say is not its business.
 *
 * A request has 10 s to arrive, and its answer as long to be taken; where all places are taken, who
 * holds one without a request has 1 s.
 *
 * Ownership: a request is with its page from get() to admin_answer(), which must come once, from
 *            inside get() or later, whatever became of the connection.
 * Threads:   the loop's.
 * Errors:    0, or a negative errno value. */
#pragma once

#include <stdio.h>

#include <uv.h>

#include "admin/report.h"
#include "conf/conf.h"

enum { ADMIN_CONNECTIONS_MAX = 64, ADMIN_ADDRESS_TEXT = 64 };

struct admin;
struct admin_request;

struct admin_page {
    const char *path; /* "/metrics"; one that ends with "/" is everything below it */
    const char *what; /* a few words for the list at "/"; NULL: not in it */
    bool open;        /* for everybody, whatever the token */
    void (*get)(void *context, struct admin_request *request);
    /* For a page that is made of a report: the type of its text, and what prints it. Returns the
     * HTTP status. */
    const char *type;
    int (*print)(const struct report *report, FILE *out);
};

struct admin_options {
    uv_loop_t *loop;
    const struct admin_page *pages; /* `page_count`; the first that fits is taken */
    size_t page_count;
    void *context; /* of get() */
};

int admin_open(const struct admin_options *options, struct admin **out); /* -ENOMEM, ... */
/* Listen there and nowhere else; family 0: nowhere. Connections stay. If it fails, all is as it
 * was. -EADDRINUSE, -EADDRNOTAVAIL, -EACCES, ... */
int admin_listen(struct admin *admin, const union conf_sockaddr *address);
/* Who asks must say it from now on; NULL: nothing. Copied. -ENOMEM: as it was. */
int admin_token_set(struct admin *admin, const char *token);
/* Where it listens, with the port that the system chose. false: nowhere. */
bool admin_address(const struct admin *admin, char text[ADMIN_ADDRESS_TEXT]);
/* Every request is answered before. The loop must run once more. A NULL *admin is fine. */
void admin_close(struct admin **admin);

const struct admin_page *admin_request_page(const struct admin_request *request);
/* What stands behind the path of a page that ends with "/". */
const char *admin_request_rest(const struct admin_request *request);
/* Of the query: ?NAME=VALUE. NULL: not there. During get(). */
const char *admin_request_argument(const struct admin_request *request, const char *name);
/* `body` is malloc()ed and taken over; NULL: there was no memory for it. `type` is static. */
void admin_answer(struct admin_request *request, int status, const char *type, char *body,
                  size_t len);
void admin_answer_text(struct admin_request *request, int status, const char *text); /* one line */

#include "flows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "admin/flows.h"
#include "tls/stream.h"

#define JSON "application/json"

/* ---- several ---- */

struct listing {
    struct asks *asks;
    struct admin_request *request;
    struct flows_query query;
    unsigned worker; /* that is asked now, */
    uint64_t before; /* for what is older than this one */
    unsigned count;
    struct flows_page page;
    FILE *out;
    char *body;
    size_t len;
};

static void slice_answer(struct worker *worker, const void *question, void *answer)
{
    struct streams *streams = worker_streams(worker);

    if (streams)
        streams_slice(streams, question, answer);
}

static void slice_release(void *answer)
{
    struct streams_slice *slice = answer;

    for (unsigned i = 0; i < slice->count; i++)
        free(slice->found[i]);
}

static void listing_end(struct listing *listing, int err)
{
    flows_print_end(listing->out, &listing->page);
    if (fclose(listing->out))
        err = -ENOMEM;
    if (err) {
        free(listing->body);
        admin_answer_text(listing->request, 503, "no memory");
    } else {
        admin_answer(listing->request, 200, JSON, listing->body, listing->len);
    }
    free(listing);
}

static void listing_ask(struct listing *listing);

static void slice_done(void *context, const struct answers *answers)
{
    struct listing *listing = context;
    const struct streams_slice *slice = answers->of[listing->worker];

    for (unsigned i = 0; slice && i < slice->count; i++) {
        flows_print_one(listing->out, &listing->page, listing->worker, slice->found[i]);
        listing->count++;
    }
    listing->before = slice ? slice->next : 0;
    if (!slice)
        listing->page.silent[listing->worker] = true;
    if (!listing->before)
        listing->worker++;
    listing_ask(listing);
}

static void listing_ask(struct listing *listing)
{
    static const struct ask_kind kind = {
        .question_size = sizeof(struct streams_question),
        .answer_size = sizeof(struct streams_slice),
        .answer = slice_answer,
        .release = slice_release,
    };
    unsigned room = listing->query.limit - listing->count;
    struct streams_question question = {
        .list = listing->query.list,
        .before = listing->before,
        .max = room < STREAMS_SLICE ? room : STREAMS_SLICE,
        .filter = listing->query.filter,
    };
    bool more = listing->worker < asks_count(listing->asks);
    int err = 0;

    listing->page.more = more;
    if (more && room)
        err = ask_one(listing->asks, listing->worker, &kind, &question, slice_done, listing);
    if (!more || !room || err)
        listing_end(listing, err);
}

void flows_list(struct asks *asks, struct admin_request *request)
{
    struct listing *listing = calloc(1, sizeof(*listing));
    const char *mistake;

    if (listing)
        listing->out = open_memstream(&listing->body, &listing->len);
    if (!listing || !listing->out) {
        free(listing);
        admin_answer_text(request, 503, "no memory");
        return;
    }
    mistake = flows_query_read(request, &listing->query);
    if (mistake) {
        fclose(listing->out);
        free(listing->body);
        free(listing);
        admin_answer_text(request, 400, mistake);
        return;
    }
    listing->asks = asks;
    listing->request = request;
    listing->worker = listing->query.worker;
    listing->before = listing->query.before;
    flows_print_begin(listing->out);
    listing_ask(listing);
}

/* ---- one ---- */

struct showing {
    struct admin_request *request;
    unsigned worker;
};

static void find_answer(struct worker *worker, const void *question, void *answer)
{
    struct streams *streams = worker_streams(worker);
    const uint64_t *number = question;
    struct facts **facts = answer;

    if (streams)
        *facts = streams_find(streams, *number);
}

static void find_release(void *answer)
{
    free(*(struct facts **)answer);
}

static void facts_answer(struct admin_request *request, unsigned worker, const struct facts *facts)
{
    char *body = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&body, &len);

    if (out) {
        flow_print(out, worker, facts);
        if (fclose(out)) {
            free(body);
            body = NULL;
        }
    }
    admin_answer(request, 200, JSON, body, len);
}

static void find_done(void *context, const struct answers *answers)
{
    const struct showing showing = *(struct showing *)context;
    struct facts *const *facts = answers->of[showing.worker];

    free(context);
    if (!facts)
        admin_answer_text(showing.request, 503, "that worker does not answer");
    else if (!*facts)
        admin_answer_text(showing.request, 404,
                          "not known: there was no such connection, or it ended too long ago");
    else
        facts_answer(showing.request, showing.worker, *facts);
}

void flows_show(struct asks *asks, struct admin_request *request)
{
    static const struct ask_kind kind = {
        .question_size = sizeof(uint64_t),
        .answer_size = sizeof(struct facts *),
        .answer = find_answer,
        .release = find_release,
    };
    struct showing *showing;
    unsigned worker;
    uint64_t number;

    if (!flow_id_read(admin_request_rest(request), &worker, &number)) {
        admin_answer_text(request, 404, "a connection's id is WORKER.NUMBER, as in the log");
        return;
    }
    if (worker >= asks_count(asks)) {
        admin_answer_text(request, 404, "there is no such worker");
        return;
    }
    showing = malloc(sizeof(*showing));
    if (showing)
        *showing = (struct showing){request, worker};
    if (!showing || ask_one(asks, worker, &kind, &number, find_done, showing)) {
        free(showing);
        admin_answer_text(request, 503, "no memory");
    }
}

#include "asks.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { ANSWER_MS = 1000 };

struct slot {
    struct worker_ask ask; /* first: what the worker gives back */
    struct ask *of;
    void *answer;
    atomic_bool answered;
};

struct ask {
    struct ask *next;
    const struct ask_kind *kind;
    asks_done done;
    void *context;
    uint64_t due;           /* of the loop clock */
    atomic_uint references; /* the list's, and one for each worker that is not through */
    void *question;
    unsigned first, count; /* workers that are asked */
    struct slot slots[];
};

struct asks {
    uv_timer_t timer; /* when the first one is due */
    struct worker *const *workers;
    unsigned count;
    struct ask *first, **last; /* in the order of their questions, and so of their ends */
};

static void ask_unref(struct ask *ask)
{
    if (atomic_fetch_sub(&ask->references, 1) != 1)
        return;
    for (unsigned i = 0; i < ask->count; i++) {
        if (ask->kind->release && ask->slots[i].answer)
            ask->kind->release(ask->slots[i].answer);
        free(ask->slots[i].answer);
    }
    free(ask->question);
    free(ask);
}

/* On the worker's thread; worker NULL: it ended before. */
static void slot_answer(struct worker_ask *asked, struct worker *worker)
{
    struct slot *slot = (struct slot *)asked;

    if (worker) {
        slot->of->kind->answer(worker, slot->of->question, slot->answer);
        atomic_store(&slot->answered, true);
    }
    ask_unref(slot->of);
}

static struct ask *ask_create(unsigned first, unsigned count, const struct ask_kind *kind,
                              const void *question)
{
    struct ask *ask = calloc(1, sizeof(*ask) + count * sizeof(ask->slots[0]));
    bool complete = true;

    if (!ask)
        return NULL;
    ask->kind = kind;
    ask->first = first;
    ask->count = count;
    atomic_init(&ask->references, 1);
    ask->question = malloc(kind->question_size + 1); /* some have none */
    if (ask->question && kind->question_size)
        memcpy(ask->question, question, kind->question_size);
    for (unsigned i = 0; i < ask->count; i++) {
        struct slot *slot = &ask->slots[i];

        slot->ask.answer = slot_answer;
        slot->of = ask;
        slot->answer = calloc(1, kind->answer_size);
        complete &= slot->answer != NULL;
    }
    if (!ask->question || !complete) {
        ask_unref(ask);
        return NULL;
    }
    return ask;
}

static void first_done(struct asks *asks)
{
    struct ask *ask = asks->first;
    struct answers answers = {.count = asks->count};

    asks->first = ask->next;
    if (!asks->first)
        asks->last = &asks->first;
    for (unsigned i = 0; i < ask->count; i++)
        if (atomic_load(&ask->slots[i].answered))
            answers.of[ask->first + i] = ask->slots[i].answer;
    ask->done(ask->context, &answers);
    ask_unref(ask);
}

static bool is_answered(const struct ask *ask)
{
    for (unsigned i = 0; i < ask->count; i++)
        if (!atomic_load(&ask->slots[i].answered))
            return false;
    return true;
}

static void due(uv_timer_t *timer)
{
    asks_look(timer->data);
}

/* Each worker answers in the order it was asked, so the first question is answered first. */
void asks_look(struct asks *asks)
{
    uint64_t now = uv_now(asks->timer.loop);

    while (asks->first && (is_answered(asks->first) || asks->first->due <= now))
        first_done(asks);
    if (asks->first)
        uv_timer_start(&asks->timer, due, asks->first->due - now, 0);
    else
        uv_timer_stop(&asks->timer);
}

static int ask_some(struct asks *asks, unsigned first, unsigned count, const struct ask_kind *kind,
                    const void *question, asks_done done, void *context)
{
    struct ask *ask = ask_create(first, count, kind, question);

    if (!ask)
        return -ENOMEM;
    ask->done = done;
    ask->context = context;
    ask->due = uv_now(asks->timer.loop) + ANSWER_MS;
    *asks->last = ask;
    asks->last = &ask->next;
    atomic_fetch_add(&ask->references, ask->count);
    for (unsigned i = 0; i < ask->count; i++)
        worker_ask(asks->workers[first + i], &ask->slots[i].ask);
    if (asks->first == ask)
        uv_timer_start(&asks->timer, due, ANSWER_MS, 0);
    return 0;
}

int ask_all(struct asks *asks, const struct ask_kind *kind, const void *question, asks_done done,
            void *context)
{
    return ask_some(asks, 0, asks->count, kind, question, done, context);
}

int ask_one(struct asks *asks, unsigned worker, const struct ask_kind *kind, const void *question,
            asks_done done, void *context)
{
    return ask_some(asks, worker, 1, kind, question, done, context);
}

unsigned asks_count(const struct asks *asks)
{
    return asks->count;
}

int asks_open(uv_loop_t *loop, struct worker *const *workers, unsigned count, struct asks **out)
{
    struct asks *asks = calloc(1, sizeof(*asks));

    if (!asks)
        return -ENOMEM;
    asks->workers = workers;
    asks->count = count;
    asks->last = &asks->first;
    uv_timer_init(loop, &asks->timer);
    asks->timer.data = asks;
    *out = asks;
    return 0;
}

static void closed(uv_handle_t *timer)
{
    free(timer->data);
}

void asks_close(struct asks **asks)
{
    if (!*asks)
        return;
    while ((*asks)->first)
        first_done(*asks);
    uv_close((uv_handle_t *)&(*asks)->timer, closed);
    *asks = NULL;
}

/* Questions to workers: threads that answer when they are let. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "asks.h"

enum { WORKERS = 3, SILENT = 1 };

/* In the place of worker.c's: questions wait in a list until the test has a thread answer them. */
struct worker {
    unsigned number;
    struct worker_ask *first, **last;
};

static struct worker workers[WORKERS];
static struct worker *const pointers[WORKERS] = {&workers[0], &workers[1], &workers[2]};
static uv_loop_t loop;
static uv_async_t changed;
static struct asks *asks;
static unsigned released; /* answers */

void worker_ask(struct worker *worker, struct worker_ask *ask)
{
    ask->next = NULL;
    *worker->last = ask;
    worker->last = &ask->next;
}

/* ---- a question: twice as much as a number, and some memory ---- */

struct answer {
    unsigned number, worker;
    char *text;
};

static void twice(struct worker *worker, const void *question, void *answer)
{
    *(struct answer *)answer = (struct answer){
        .number = 2 * *(const unsigned *)question,
        .worker = worker->number,
        .text = strdup("mine"),
    };
}

static void answer_release(void *answer)
{
    free(((struct answer *)answer)->text);
    released++;
}

static const struct ask_kind kind = {.question_size = sizeof(unsigned),
                                     .answer_size = sizeof(struct answer),
                                     .answer = twice,
                                     .release = answer_release};

/* What came of one: its turn, and who answered what. */
struct outcome {
    unsigned turn, number[WORKERS];
    bool answered[WORKERS];
};

static unsigned turns;

static void note(void *context, const struct answers *answers)
{
    struct outcome *outcome = context;

    assert_int_equal(outcome->turn, 0); /* once */
    outcome->turn = ++turns;
    assert_int_equal(answers->count, WORKERS);
    for (unsigned i = 0; i < WORKERS; i++) {
        const struct answer *answer = answers->of[i];

        outcome->answered[i] = answer != NULL;
        if (!answer)
            continue;
        assert_int_equal(answer->worker, i);
        assert_string_equal(answer->text, "mine");
        outcome->number[i] = answer->number;
    }
}

/* ---- the worker's thread ---- */

struct task {
    struct worker *worker;
    bool dead; /* the worker ended without having seen its questions */
};

static void thread_main(void *context)
{
    const struct task *task = context;
    struct worker_ask *ask = task->worker->first, *next;

    for (; ask; ask = next) {
        next = ask->next;
        ask->answer(ask, task->dead ? NULL : task->worker);
    }
    uv_async_send(&changed);
}

static void work(unsigned worker, bool dead)
{
    struct task task = {&workers[worker], dead};
    uv_thread_t thread;

    assert_int_equal(uv_thread_create(&thread, thread_main, &task), 0);
    uv_thread_join(&thread);
    workers[worker].first = NULL;
    workers[worker].last = &workers[worker].first;
}

static void worker_went_on(uv_async_t *handle)
{
    (void)handle;
    if (asks)
        asks_look(asks);
}

/* ---- */

static int setup(void **state)
{
    (void)state;
    released = turns = 0;
    for (unsigned i = 0; i < WORKERS; i++)
        workers[i] = (struct worker){.number = i, .last = &workers[i].first};
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(uv_async_init(&loop, &changed, worker_went_on), 0);
    return asks_open(&loop, pointers, WORKERS, &asks);
}

static int teardown(void **state)
{
    (void)state;
    asks_close(&asks);
    uv_close((uv_handle_t *)&changed, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    return uv_loop_close(&loop);
}

static void ask(unsigned number, struct outcome *outcome)
{
    assert_int_equal(ask_all(asks, &kind, &number, note, outcome), 0);
}

static void until(const struct outcome *outcome)
{
    while (!outcome->turn)
        uv_run(&loop, UV_RUN_ONCE);
}

static void it_is_over_when_all_have_answered(void **state)
{
    struct outcome one = {0}, two = {0};

    (void)state;
    ask(4, &one);
    ask(5, &two);
    for (unsigned i = 0; i < WORKERS; i++) {
        uv_run(&loop, UV_RUN_NOWAIT);
        assert_int_equal(one.turn, 0);
        work(i, false);
    }
    until(&two);
    assert_int_equal(one.turn, 1);
    assert_int_equal(two.turn, 2);
    for (unsigned i = 0; i < WORKERS; i++) {
        assert_int_equal(one.number[i], 8);
        assert_int_equal(two.number[i], 10);
    }
    assert_int_equal(released, 2 * WORKERS);
}

static void one_that_is_silent_is_waited_for_no_more_than_a_second(void **state)
{
    struct outcome one = {0}, two = {0};
    uint64_t before;

    (void)state;
    uv_update_time(&loop);
    before = uv_now(&loop);
    ask(1, &one);
    for (unsigned i = 0; i < WORKERS; i++)
        if (i != SILENT)
            work(i, false);
    until(&one);
    assert_true(uv_now(&loop) - before >= 1000);
    for (unsigned i = 0; i < WORKERS; i++)
        assert_int_equal(one.answered[i], i != SILENT);
    assert_int_equal(released, 0); /* it may answer yet, and has a place to put that */

    ask(2, &two); /* it comes back, to both */
    for (unsigned i = 0; i < WORKERS; i++)
        work(i, false);
    assert_int_equal(released, WORKERS);
    until(&two);
    assert_true(two.answered[SILENT]);
    assert_int_equal(two.number[SILENT], 4);
    assert_int_equal(released, 2 * WORKERS);
}

static void at_a_close_it_is_over_with_what_there_is(void **state)
{
    struct outcome one = {0}, two = {0};

    (void)state;
    ask(1, &one);
    work(0, false);
    ask(2, &two);
    asks_close(&asks);
    assert_int_equal(one.turn, 1);
    assert_int_equal(two.turn, 2);
    for (unsigned i = 0; i < WORKERS; i++) {
        assert_int_equal(one.answered[i], i == 0);
        assert_false(two.answered[i]);
    }
    work(0, true); /* workers end without having seen them */
    work(1, true);
    work(2, false); /* or they answer, and nobody is there */
    assert_int_equal(released, 2 * WORKERS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_is_over_when_all_have_answered, setup, teardown),
        cmocka_unit_test_setup_teardown(one_that_is_silent_is_waited_for_no_more_than_a_second,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(at_a_close_it_is_over_with_what_there_is, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

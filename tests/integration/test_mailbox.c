#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "mailbox.h"

enum { SENDERS = 4, MESSAGES = 5000 };

/* A loop with a mailbox, and what came out of it. */
struct receiver {
    uv_loop_t loop;
    struct mailbox *mailbox;
    unsigned next[SENDERS], total, expected;
    bool answer;
};

static void receiver_open(struct receiver *receiver, unsigned max, mailbox_deliver deliver)
{
    *receiver = (struct receiver){0};
    assert_int_equal(uv_loop_init(&receiver->loop), 0);
    assert_int_equal(mailbox_open(&receiver->loop, max, deliver, receiver, &receiver->mailbox), 0);
}

static void receiver_close(struct receiver *receiver)
{
    mailbox_close(&receiver->mailbox);
    uv_run(&receiver->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&receiver->loop), 0);
}

/* "SENDER NUMBER": in order for each sender. */
static void numbered(void *context, const struct core_addr *from, char *bytes, size_t len)
{
    struct receiver *receiver = context;
    unsigned sender, number;

    assert_int_equal(from->kind, CORE_SELF);
    assert_true(len < 32);
    assert_int_equal(sscanf(bytes, "%u %u", &sender, &number), 2);
    assert_true(sender < SENDERS);
    assert_int_equal(number, receiver->next[sender]);
    receiver->next[sender]++;
    bytes[0] = 'x'; /* the bytes are the receiver's */
    if (++receiver->total == receiver->expected)
        uv_stop(&receiver->loop);
}

struct sender {
    struct mailbox *mailbox;
    unsigned number;
};

static void send_all(void *context)
{
    struct sender *sender = context;
    const struct core_addr from = {.kind = CORE_SELF};
    char text[32];

    for (unsigned i = 0; i < MESSAGES; i++) {
        int len = snprintf(text, sizeof(text), "%u %u", sender->number, i);
        int err;

        do /* with the NUL, for sscanf() */
            err = mailbox_post(sender->mailbox, &from, (struct str){text, (size_t)len + 1});
        while (err == -ENOBUFS);
        assert_int_equal(err, 0);
    }
}

static void messages_of_many_threads_all_arrive_in_their_order(void **state)
{
    struct receiver receiver;
    struct sender senders[SENDERS];
    uv_thread_t threads[SENDERS];

    (void)state;
    receiver_open(&receiver, 256, numbered); /* less than what comes: it is full at times */
    receiver.expected = SENDERS * MESSAGES;
    for (unsigned i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){receiver.mailbox, i};
        assert_int_equal(uv_thread_create(&threads[i], send_all, &senders[i]), 0);
    }
    uv_run(&receiver.loop, UV_RUN_DEFAULT);
    for (unsigned i = 0; i < SENDERS; i++)
        uv_thread_join(&threads[i]);
    assert_int_equal(receiver.total, SENDERS * MESSAGES);
    receiver_close(&receiver);
}

static void counted(void *context, const struct core_addr *from, char *bytes, size_t len)
{
    struct receiver *receiver = context;

    (void)bytes;
    (void)len;
    receiver->total++;
    if (receiver->answer) {
        receiver->answer = false;
        assert_int_equal(mailbox_post(receiver->mailbox, from, STR("answer")), 0);
        assert_int_equal(receiver->total, 1); /* not from inside the post */
    }
}

static void a_full_mailbox_drops_counts_and_delivers_the_rest(void **state)
{
    const struct core_addr from = {.kind = CORE_EMBEDDED};
    struct receiver receiver;

    (void)state;
    receiver_open(&receiver, 200, counted); /* more than one batch */
    for (int i = 0; i < 200; i++)
        assert_int_equal(mailbox_post(receiver.mailbox, &from, STR("x")), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(mailbox_post(receiver.mailbox, &from, STR("x")), -ENOBUFS);
    assert_int_equal(mailbox_counters(receiver.mailbox).dropped, 3);
    while (receiver.total < 200)
        uv_run(&receiver.loop, UV_RUN_ONCE);
    assert_int_equal(mailbox_post(receiver.mailbox, &from, STR("x")), 0);
    while (receiver.total < 201)
        uv_run(&receiver.loop, UV_RUN_ONCE);
    receiver_close(&receiver);
}

static void large_messages_are_bounded_by_their_bytes(void **state)
{
    const struct core_addr from = {.kind = CORE_EMBEDDED};
    const size_t size = 1048576;
    char *big = calloc(1, size);
    struct receiver receiver;

    (void)state;
    assert_non_null(big);
    receiver_open(&receiver, 1000, counted);
    for (int i = 0; i < 16; i++)
        assert_int_equal(mailbox_post(receiver.mailbox, &from, (struct str){big, size}), 0);
    assert_int_equal(mailbox_post(receiver.mailbox, &from, STR("x")), -ENOBUFS);
    free(big);
    receiver_close(&receiver); /* with messages waiting: nothing leaks */
}

static void a_post_from_inside_a_delivery_arrives_later(void **state)
{
    const struct core_addr from = {.kind = CORE_SELF};
    struct receiver receiver;

    (void)state;
    receiver_open(&receiver, 10, counted);
    receiver.answer = true;
    assert_int_equal(mailbox_post(receiver.mailbox, &from, STR("x")), 0);
    while (receiver.total < 2)
        uv_run(&receiver.loop, UV_RUN_ONCE);
    receiver_close(&receiver);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_of_many_threads_all_arrive_in_their_order),
        cmocka_unit_test(a_full_mailbox_drops_counts_and_delivers_the_rest),
        cmocka_unit_test(large_messages_are_bounded_by_their_bytes),
        cmocka_unit_test(a_post_from_inside_a_delivery_arrives_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

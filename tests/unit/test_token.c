#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/token.h"

static const uint8_t OLD[1][32] = {{1}};
static const uint8_t NEW[2][32] = {{2}, {1}};
static const uint8_t OTHER[1][32] = {{3}};

static struct arena arena;
static struct token_keys *old_keys, *new_keys, *other_keys;

static int setup(void **state)
{
    (void)state;
    assert_int_equal(arena_create(&arena, 65536), 0);
    assert_int_equal(token_keys_create(OLD, 1, &old_keys), 0);
    assert_int_equal(token_keys_create(NEW, 2, &new_keys), 0);
    assert_int_equal(token_keys_create(OTHER, 1, &other_keys), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    token_keys_destroy(&old_keys);
    token_keys_destroy(&new_keys);
    token_keys_destroy(&other_keys);
    token_keys_destroy(&other_keys); /* NULL is fine */
    arena_destroy(&arena);
    return 0;
}

static const struct token FLOW = {
    .kind = TOKEN_FLOW, .worker = 3, .slot = 0x123456, .instance = 0xfedcba98, .generation = 7};

static void what_was_printed_is_read_again(void **state) /* R7 */
{
    (void)state;
    struct token contact = FLOW, read;
    struct str text = token_print(old_keys, &arena, &FLOW);

    assert_int_equal(text.len, TOKEN_FLOW_LEN);
    assert_int_equal(token_parse(old_keys, &arena, text, &read), 0);
    assert_int_equal(read.kind, TOKEN_FLOW);
    assert_int_equal(read.worker, 3);
    assert_int_equal(read.slot, 0x123456);
    assert_int_equal(read.instance, 0xfedcba98);
    assert_int_equal(read.generation, 7);
    assert_int_equal(read.uri.len, 0);

    for (size_t len = 1; len < 200; len++) { /* every remainder of base64 */
        char uri[200];
        memset(uri, 'x', sizeof(uri));
        contact.kind = TOKEN_CONTACT;
        contact.uri = (struct str){uri, len};
        arena_reset(&arena);
        text = token_print(old_keys, &arena, &contact);
        assert_int_equal(token_parse(old_keys, &arena, text, &read), 0);
        assert_true(str_eq(read.uri, contact.uri));
    }
}

static void any_change_is_refused(void **state) /* R7 */
{
    (void)state;
    struct str text = token_print(old_keys, &arena, &FLOW);
    struct token read;
    char altered[TOKEN_FLOW_LEN];

    for (size_t i = 0; i < text.len; i++) {
        memcpy(altered, text.p, text.len);
        altered[i] = altered[i] == 'A' ? 'B' : 'A';
        int err = token_parse(old_keys, &arena, (struct str){altered, text.len}, &read);
        assert_true(err == -EBADMSG || (i < 2 && err == -EINVAL)); /* no version: not ours */
    }
    assert_int_equal(token_parse(other_keys, &arena, text, &read), -EBADMSG);
}

static void a_kept_token_is_compared(void **state) /* R7 */
{
    (void)state;
    struct str text = token_print(old_keys, &arena, &FLOW);
    struct str kept = arena_dup(&arena, text);
    char altered[TOKEN_FLOW_LEN];
    uint32_t slot;

    assert_int_equal(token_slot(text, &slot), 0);
    assert_int_equal(slot, FLOW.slot);
    assert_true(token_equals(text, kept));
    for (size_t i = 0; i < text.len; i++) {
        memcpy(altered, text.p, text.len);
        altered[i] = altered[i] == 'A' ? 'B' : 'A';
        assert_false(token_equals((struct str){altered, text.len}, kept));
    }
    assert_false(token_equals((struct str){text.p, text.len - 1}, kept));
    assert_int_equal(token_slot((struct str){text.p, text.len - 1}, &slot), -EINVAL);
    memcpy(altered, text.p, text.len);
    altered[4] = '=';
    assert_int_equal(token_slot((struct str){altered, text.len}, &slot), -EINVAL);
}

static void what_is_no_token_is_told_apart(void **state) /* R2 */
{
    static const char *const texts[] = {
        "",
        "alice",
        "ERER",
        "EREREREREREREREREREREREREREREREREREREREREREREREREREREREREREREREREREREREREREREREREREREERER"
        "!",
        "thisisthirtytwocharactersoftext!",
        "abcdefghijklmnopqrstuvwxyzabcdef",
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct token read;
        assert_int_equal(token_parse(old_keys, &arena, str_of(texts[i]), &read), -EINVAL);
    }
}

static void an_older_key_still_verifies(void **state) /* R7: rotation */
{
    (void)state;
    struct token read;

    assert_int_equal(token_parse(new_keys, &arena, token_print(old_keys, &arena, &FLOW), &read), 0);
    assert_int_equal(token_parse(old_keys, &arena, token_print(new_keys, &arena, &FLOW), &read),
                     -EBADMSG);
}

static void a_full_arena_is_no_token(void **state)
{
    (void)state;
    struct arena small;
    struct token contact = FLOW;
    static char uri[TOKEN_URI_MAX + 1];

    assert_int_equal(arena_create(&small, 40), 0);
    assert_null(token_print(old_keys, &small, &FLOW).p);
    arena_destroy(&small);
    contact.uri = (struct str){uri, sizeof(uri)};
    assert_null(token_print(old_keys, &arena, &contact).p);
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(what_was_printed_is_read_again), T(any_change_is_refused),
        T(a_kept_token_is_compared),       T(what_is_no_token_is_told_apart),
        T(an_older_key_still_verifies),    T(a_full_arena_is_no_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

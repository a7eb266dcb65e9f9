/* A connection in JSON, where its values are not what a client would send. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "admin/flows.h"

#define TEXT "\0J\xc3\xb6rg\0\xff\xfe\"\\\n\0sip:a@x\0sip:b@x"

static struct facts *facts_make(void)
{
    struct facts *facts = calloc(1, sizeof(*facts) + sizeof(TEXT));

    assert_non_null(facts);
    memcpy(facts->text, TEXT, sizeof(TEXT));
    facts->number = UINT64_MAX;
    facts->state = "open";
    facts->since = 1763914629007;
    facts->client = 1;
    facts->host = 7;
    facts->aors = 13;
    facts->aor_count = 2;
    facts->tls_version = "TLSv1.3";
    return facts;
}

/* Frees the text. */
static void has(char *text, const char *const *wanted)
{
    for (; *wanted; wanted++)
        if (!strstr(text, *wanted))
            fail_msg("%s is not in\n%s", *wanted, text);
    free(text);
}

static void text_that_is_no_utf8_is_json_all_the_same(void **state)
{
    static const char *const wanted[] = {
        "\"id\": \"3.18446744073709551615\"",
        "\"since\": \"2025-11-23T16:17:09.007Z\"",
        "\"client_certificate\": \"J\xc3\xb6rg\"",
        "\"host\": \"?\?\\\"\\\\\\n\"",
        "\"sip:a@x\",\n    \"sip:b@x\"",
        "\"peer\": null",
        "\"closed\": null",
        NULL,
    };
    struct facts *facts = facts_make();
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    (void)state;
    flow_print(out, 3, facts);
    fclose(out);
    free(facts);
    has(text, wanted);
}

static void a_page_says_what_is_missing_and_where_it_goes_on(void **state)
{
    static const char *const wanted[] = {
        "{\"flows\": [\n{\"id\": \"3.18446744073709551615\"",
        "\"next\": \"3.18446744073709551615\"",
        "\"silent_workers\": [0, 127]}\n",
        NULL,
    };
    struct flows_page page = {.more = true};
    struct facts *facts = facts_make();
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    (void)state;
    page.silent[0] = page.silent[CONF_WORKERS_MAX - 1] = true;
    flows_print_begin(out);
    flows_print_one(out, &page, 3, facts);
    flows_print_end(out, &page);
    fclose(out);
    free(facts);
    has(text, wanted);
}

static void ids_are_read(void **state)
{
    static const char *const wrong[] = {"",    "7",    ".",    "7.",    ".7",  "a.b",
                                        "7.x", "-1.1", "1.-1", "1.2.3", " 1.2"};
    unsigned worker;
    uint64_t number;

    (void)state;
    assert_true(flow_id_read("2.17", &worker, &number));
    assert_int_equal(worker, 2);
    assert_int_equal(number, 17);
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        if (flow_id_read(wrong[i], &worker, &number))
            fail_msg("%s is an id", wrong[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_that_is_no_utf8_is_json_all_the_same),
        cmocka_unit_test(a_page_says_what_is_missing_and_where_it_goes_on),
        cmocka_unit_test(ids_are_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

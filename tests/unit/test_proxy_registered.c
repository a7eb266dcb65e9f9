/* What is known of a flow for people who ask: the AORs registered through it, its last answer. */
#include "calls.h"
#include "check.h"
#include "proxy/registered.h"

/* alice's flow asks for these Contact and Expires lines, and the core says 200 with those. */
static void registers(const char *aor, const char *asks, const char *status, const char *grants)
{
    static unsigned serial;

    serial++;
    edge_from_client(alice,
                     "REGISTER sip:sip.test SIP/2.0\n"
                     "Via: SIP/2.0/TLS x.invalid;branch=z9hG4bKr%u\n"
                     "From: <%s>;tag=a\nTo: %s <%s>\n"
                     "Call-ID: reg\nCSeq: %u REGISTER%s%s",
                     serial, aor, "\"Alice\"", aor, serial, *asks ? "\n" : "", asks);
    edge_from_core(&edge, "%s", response_to(inbox_last(&edge.core), status, "r", grants));
    inbox_take(&edge.core);
}

/* The AORs in order, the newest first. */
static const char *aors(void)
{
    static char text[16384];
    struct flow_facts facts;
    size_t len = 0;

    text[0] = '\0';
    flow_facts(alice->flow, &facts);
    for (const struct registered *one = facts.registered; (one = registered_next(one, edge.now));
         one = one->next)
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s", len ? " " : "", one->aor);
    return text;
}

static void a_2xx_registers_an_aor_and_expires_0_ends_it(void **state)
{
    (void)state;
    assert_string_equal(aors(), "");
    registers("sip:alice@sip.test", "Contact: <sip:alice@x.invalid>", "401 Unauthorized", "X: y");
    assert_string_equal(aors(), "");
    registers("sip:alice:secret@sip.test:5061;transport=tls", "Contact: <sip:alice@x.invalid>",
              "200 OK", "Expires: 60");
    assert_string_equal(aors(), "sip:alice@sip.test");
    registers("sip:alice@sip.test", "", "200 OK", "Contact: <sip:other@x.invalid>"); /* it asks */
    assert_string_equal(aors(), "sip:alice@sip.test");
    registers("sip:a2@sip.test", "Contact: <sip:alice@x.invalid>", "200 OK", "Expires: 60");
    assert_string_equal(aors(), "sip:a2@sip.test sip:alice@sip.test");
    registers("sip:alice@sip.test", "Contact: <sip:alice@x.invalid>;expires=0", "200 OK", "X: y");
    assert_string_equal(aors(), "sip:a2@sip.test");
    registers("sip:a2@sip.test", "Contact: *\nExpires: 0", "200 OK", "X: y");
    assert_string_equal(aors(), "");
}

static void another_contact_that_ends_leaves_the_aor_registered(void **state)
{
    (void)state;
    registers("sip:alice@sip.test", "Contact: <sip:alice@x.invalid>", "200 OK", "Expires: 60");
    registers("sip:alice@sip.test", "Contact: <sip:alice@old.invalid>;expires=0", "200 OK", "X: y");
    assert_string_equal(aors(), "sip:alice@sip.test");
    registers("sip:alice@sip.test",
              "Contact: <sip:alice@x.invalid>;expires=0, <sip:alice@new.invalid>;expires=30",
              "200 OK", "X: y");
    assert_string_equal(aors(), "sip:alice@sip.test");
    registers("sip:alice@sip.test", "Contact: <sip:alice@new.invalid>;expires=0", "200 OK", "X: y");
    assert_string_equal(aors(), "");
}

/* As the registrar grants it: for this contact, for all, or as asked. */
static void a_binding_that_is_not_refreshed_expires(void **state)
{
    static const struct {
        const char *asks, *grants;
        unsigned s;
    } rows[] = {
        {"Contact: <sip:alice@x.invalid>;expires=300",  "Contact: %s;expires=20", 20  },
        {"Contact: <sip:alice@x.invalid>;expires=300",  "Expires: 30",            30  },
        {"Contact: <sip:alice@x.invalid>\nExpires: 40", "X: y",                   40  },
        {"Contact: <sip:alice@x.invalid>",              "X: y",                   3600},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char grants[1024];

        edge_from_client(alice,
                         "REGISTER sip:sip.test SIP/2.0\nVia: SIP/2.0/TLS x.invalid;"
                         "branch=z9hG4bKe%zu\nFrom: <sip:alice@sip.test>;tag=a\n"
                         "To: <sip:alice@sip.test>\nCall-ID: e\nCSeq: %zu REGISTER\n%s",
                         i, i + 1, rows[i].asks);
        snprintf(grants, sizeof(grants), rows[i].grants,
                 header_of(inbox_last(&edge.core), "Contact", 0));
        if (strchr(grants, '>')) /* what was asked for comes with it */
            snprintf(strchr(grants, '>') + 1, 32, ";expires=%u", rows[i].s);
        edge_from_core(&edge, "%s", response_to(inbox_last(&edge.core), "200 OK", "r", grants));
        edge_wait(&edge, (rows[i].s - 2) * 1000ULL);
        CHECK_INT(rows[i].asks, strlen(aors()) > 0, 1);
        edge_wait(&edge, 3000);
        CHECK_STR(rows[i].asks, str_of(aors()), STR(""));
    }
}

static void a_refresh_lasts_as_long_as_its_own_answer_says(void **state)
{
    static const char ask[] = "Contact: <sip:alice@x.invalid>;expires=300";
    static const struct {
        const char *grants;
        unsigned s;
    } rows[] = {
        {"Expires: 30", 30 },
        {"Expires: 30", 30 },
        {"Expires: 90", 90 },
        {"X: y",        300},
        {"Expires: 20", 20 },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        registers("sip:alice@sip.test", ask, "200 OK", rows[i].grants);
        edge_wait(&edge, 10000);
        assert_string_equal(aors(), "sip:alice@sip.test");
        registers("sip:alice@sip.test", ask, "200 OK", rows[i].grants);
        edge_wait(&edge, (rows[i].s - 2) * 1000ULL);
        assert_string_equal(aors(), "sip:alice@sip.test");
        edge_wait(&edge, 3000);
        assert_string_equal(aors(), "");
    }
    registers("sip:alice@sip.test", ask, "200 OK", "Expires: 60");
    registers("sip:a2@sip.test", ask, "200 OK", "Expires: 60");
    assert_string_equal(aors(), "sip:a2@sip.test sip:alice@sip.test");
    registers("sip:alice@sip.test", ask, "403 Forbidden", "X: y");
    assert_string_equal(aors(), "sip:a2@sip.test sip:alice@sip.test");
    registers("sip:alice@sip.test", ask, "200 OK", "Expires: 60");
    assert_string_equal(aors(), "sip:alice@sip.test sip:a2@sip.test");
}

static void no_more_aors_are_kept_than_the_limit(void **state)
{
    char aor[64];

    (void)state;
    for (unsigned i = 0; i < REGISTERED_MAX + 5; i++) {
        snprintf(aor, sizeof(aor), "sip:u%u@sip.test", i);
        registers(aor, "Contact: <sip:alice@x.invalid>", "200 OK", "X: y");
    }
    unsigned count = 1;
    for (const char *c = aors(); *c; c++)
        count += *c == ' ';
    assert_int_equal(count, REGISTERED_MAX);
    assert_null(strstr(aors(), "sip:u4@"));
    assert_non_null(strstr(aors(), "sip:u5@"));
}

static void the_last_answer_and_the_messages_are_known(void **state)
{
    struct flow_facts facts;

    (void)state;
    flow_facts(alice->flow, &facts);
    assert_int_equal(facts.answered_at, 0);
    edge_wait(&edge, 1000);
    registers("sip:alice@sip.test", "Contact: <sip:alice@x.invalid>", "403 Forbidden", "X: y");
    flow_facts(alice->flow, &facts);
    assert_int_equal(facts.status, 403);
    assert_string_equal(facts.method, "REGISTER");
    assert_int_equal(facts.answered_at, edge.now);
    assert_int_equal(facts.messages_in, 1);
    assert_int_equal(facts.messages_out, 1);

    edge_from_client(alice, REQUEST("BYE", "Max-Forwards: 0")); /* answered by sipward itself */
    flow_facts(alice->flow, &facts);
    assert_int_equal(facts.status, 483);
    assert_string_equal(facts.method, "BYE");

    edge_from_client(alice, INVITE("Proxy-Require: x"));
    flow_facts(alice->flow, &facts);
    assert_int_equal(facts.status, 420);
    assert_string_equal(facts.method, "INVITE");
    assert_string_equal(facts.transport, "tls");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        MASK(a_2xx_registers_an_aor_and_expires_0_ends_it),
        PATH(a_2xx_registers_an_aor_and_expires_0_ends_it),
        MASK(another_contact_that_ends_leaves_the_aor_registered),
        PATH(another_contact_that_ends_leaves_the_aor_registered),
        MASK(a_binding_that_is_not_refreshed_expires),
        PATH(a_binding_that_is_not_refreshed_expires),
        MASK(a_refresh_lasts_as_long_as_its_own_answer_says),
        PATH(a_refresh_lasts_as_long_as_its_own_answer_says),
        MASK(no_more_aors_are_kept_than_the_limit),
        MASK(the_last_answer_and_the_messages_are_known),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

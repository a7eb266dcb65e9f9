#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "proxy/log.h"

/* What the log wrote to standard error. */
static struct {
    int saved, file;
    char text[131072];
} capture;

static void capture_begin(enum log_level level, bool json)
{
    fflush(stderr);
    capture.saved = dup(STDERR_FILENO);
    capture.file = memfd_create("log", MFD_CLOEXEC);
    assert_true(capture.saved >= 0 && capture.file >= 0);
    assert_true(dup2(capture.file, STDERR_FILENO) >= 0);
    log_open(level, json);
}

static const char *capture_end(void)
{
    ssize_t len = pread(capture.file, capture.text, sizeof(capture.text) - 1, 0);

    dup2(capture.saved, STDERR_FILENO);
    close(capture.saved);
    close(capture.file);
    log_open(LOG_INFO, false);
    assert_true(len >= 0);
    capture.text[len] = '\0';
    return capture.text;
}

enum {
    TEXT_HEAD = sizeof("2026-11-23T09:48:00.123Z ") - 1,
    JSON_HEAD = sizeof("{\"time\":\"2026-11-23T09:48:00.123Z\",") - 1,
};

/* One line with one field, from its key on. */
static const char *field_line(struct str value, bool json)
{
    static char line[8192];

    capture_begin(LOG_INFO, json);
    log_event(LOG_INFO, "x", LOG_TEXT("k", value));
    snprintf(line, sizeof(line), "%s", strstr(capture_end(), json ? "\"k\"" : "k="));
    return line;
}

static void line_is_time_level_event_and_fields(void **state)
{
    (void)state;
    capture_begin(LOG_INFO, false);
    log_event(LOG_INFO, "flow opened", LOG_TEXT("flow", STR("2.17")),
              LOG_TEXT("peer", STR("192.0.2.7:50123")), LOG_NUMBER("port", -5061));
    log_event(LOG_ERROR, "stopped");
    const char *text = capture_end();
    const char *second = strchr(text, '\n') + 1;

    assert_int_equal(text[4], '-');
    assert_int_equal(text[10], 'T');
    assert_int_equal(text[TEXT_HEAD - 2], 'Z');
    assert_int_equal(second - text - TEXT_HEAD,
                     strlen("info  flow opened flow=2.17 peer=192.0.2.7:50123 port=-5061\n"));
    assert_memory_equal(text + TEXT_HEAD,
                        "info  flow opened flow=2.17 peer=192.0.2.7:50123 port=-5061\n",
                        (size_t)(second - text - TEXT_HEAD));
    assert_string_equal(second + TEXT_HEAD, "error stopped\n");
}

static void a_line_that_is_full_stays_in_its_bounds(void **state) /* V7, X5 */
{
    char long_value[512], value[300];

    (void)state;
    memset(long_value, '\1', sizeof(long_value)); /* six bytes each when printed */
    memset(value, '\1', sizeof(value));
    for (unsigned json = 0; json < 2; json++)
        for (size_t plain = 0; plain < 150; plain++) { /* the end of it comes everywhere */
            memset(value, 'a', plain);
            capture_begin(LOG_INFO, json);
            log_event(LOG_INFO, "x", LOG_TEXT("a", ((struct str){long_value, sizeof(long_value)})),
                      LOG_TEXT("b", ((struct str){value, plain + 140})),
                      LOG_TEXT("c", STR("\1\1\1\1\1\1\1\1")), LOG_NUMBER("d", 12345678));
            const char *text = capture_end();
            assert_in_range(strlen(text), 3500, 4096);
            assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
            memset(value, '\1', sizeof(value));
        }
}

static void json_line_is_one_object(void **state)
{
    (void)state;
    capture_begin(LOG_INFO, true);
    log_event(LOG_WARNING, "flow closed", LOG_TEXT("reason", STR("say \"bye\"\\")),
              LOG_NUMBER("port", 5061));
    const char *text = capture_end();

    assert_memory_equal(text, "{\"time\":\"", 9);
    assert_string_equal(text + JSON_HEAD, "\"level\":\"warning\",\"event\":\"flow closed\","
                                          "\"reason\":\"say \\\"bye\\\"\\\\\",\"port\":5061}\n");
}

static const struct {
    const char *what;
    struct str value;
    const char *text, *json;
} values[] = {
    {"plain",         {"a=b;c", 5},        "k=a=b;c\n",               "\"k\":\"a=b;c\"}\n"                       },
    {"blank",         {"a b", 3},          "k=\"a b\"\n",             "\"k\":\"a b\"}\n"                         },
    {"empty",         {"", 0},             "k=\"\"\n",                "\"k\":\"\"}\n"                            },
    {"none",          {NULL, 0},           "k=\"\"\n",                "\"k\":\"\"}\n"                            },
    {"missing",       {NULL, 0},           "k=\"\"\n",                "\"k\":\"\"}\n"                            },
    {"line end",      {"a\r\nb\t", 5},     "k=\"a\\r\\nb\\t\"\n",     "\"k\":\"a\\r\\nb\\t\"}\n"                 },
    {"NUL, escape",   {"\0\033[", 3},      "k=\"\\u0000\\u001b[\"\n", "\"k\":\"\\u0000\\u001b[\"}\n"             },
    {"valid UTF-8",
     {"\xc3\xa4\xf0\x9f\x98\x80", 6},
     "k=\xc3\xa4\xf0\x9f\x98\x80\n",                                  "\"k\":\"\xc3\xa4\xf0\x9f\x98\x80\"}\n"    },
    {"control of C1", {"\xc2\x9b", 2},     "k=\"\\u009b\"\n",         "\"k\":\"\\u009b\"}\n"                     },
    {"right to left", {"\xe2\x80\xae", 3}, "k=\"\\u202e\"\n",         "\"k\":\"\\u202e\"}\n"                     },
    {"cut short",     {"a\xc3", 2},        "k=\"a\\xc3\"\n",          "\"k\":\"a\\ufffd\"}\n"                    },
    {"overlong",      {"\xc0\xaf", 2},     "k=\"\\xc0\\xaf\"\n",      "\"k\":\"\\ufffd\\ufffd\"}\n"              },
    {"surrogate",
     {"\xed\xa0\x80", 3},
     "k=\"\\xed\\xa0\\x80\"\n",                                       "\"k\":\"\\ufffd\\ufffd\\ufffd\"}\n"       },
    {"above Unicode",
     {"\xf4\x90\x80\x80", 4},
     "k=\"\\xf4\\x90\\x80\\x80\"\n",                                  "\"k\":\"\\ufffd\\ufffd\\ufffd\\ufffd\"}\n"},
};

static void a_peers_text_can_not_forge_a_line(void **state) /* X5, V7 */
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        assert_string_equal(field_line(values[i].value, false), values[i].text);
        assert_string_equal(field_line(values[i].value, true), values[i].json);
    }
}

static void long_values_and_lines_are_cut_and_stay_well_formed(void **state)
{
    char big[2000];

    (void)state;
    memset(big, 'a', sizeof(big));
    const char *line = field_line((struct str){big, sizeof(big)}, true);
    assert_int_equal(strlen(line), strlen("\"k\":\"\"}\n") + 512 + strlen("…"));
    assert_string_equal(line + strlen("\"k\":\"") + 512, "…\"}\n");

    /* Eight of them are more than a line, at every offset of the end. */
    for (size_t shift = 0; shift < 40; shift++)
        for (int json = 0; json < 2; json++) {
            struct str s = {big, 512}, first = {big, 1 + shift};

            memset(big, json ? '\\' : 'a', 512);
            capture_begin(LOG_INFO, json);
            log_event(LOG_INFO, "x", LOG_TEXT("a", first), LOG_TEXT("b", s), LOG_TEXT("c", s),
                      LOG_TEXT("d", s), LOG_TEXT("e", s), LOG_TEXT("f", s), LOG_TEXT("g", s),
                      LOG_TEXT("h", s), LOG_TEXT("i", s), LOG_NUMBER("n", 1));
            const char *text = capture_end();
            size_t len = strlen(text);

            assert_true(len <= 4096);
            assert_ptr_equal(strchr(text, '\n'), text + len - 1);
            if (json)
                assert_string_equal(text + len - strlen("\",\"cut\":true}\n"),
                                    "\",\"cut\":true}\n");
            else
                assert_string_equal(text + len - strlen(" …\n"), " …\n");
        }
}

static void events_above_the_level_are_silent(void **state)
{
    (void)state;
    capture_begin(LOG_WARNING, false);
    log_event(LOG_INFO, "not this");
    log_event(LOG_DEBUG, "nor this");
    log_message("received", STR("2.17"), STR("OPTIONS sip:a SIP/2.0\r\n\r\n"));
    assert_string_equal(capture_end(), "");
}

#define SECRET "c2VjcmV0"

static const char *const secret_messages[] = {
    "Authorization: Digest " SECRET,
    "authorization  : Digest " SECRET,
    "PROXY-AUTHORIZATION: Digest username=\"a\",\r\n  response=\"" SECRET "\"\r\n\t, x=" SECRET,
    "X: 1\nAuthorization:\n " SECRET,
    "X: 1\rAuthorization: " SECRET,
    "Content-Type: message/sip\r\n\r\nBYE sip:a SIP/2.0\r\nAuthorization: " SECRET,
    "Content-Type: application/sdp\r\n\r\nv=0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" SECRET,
    "Content-Type: application/sdp\r\n\r\nv=0\r\na=ice-pwd:" SECRET,
};

static void credentials_and_keys_are_hidden_in_messages(void **state) /* X5 */
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(secret_messages); i++)
        for (int json = 0; json < 2; json++) {
            char message[512];

            snprintf(message, sizeof(message), "BYE sip:a SIP/2.0\r\n%s\r\nLast: kept\r\n\r\n",
                     secret_messages[i]);
            capture_begin(LOG_DEBUG, json);
            log_message("received", STR("2.17"), str_of(message));
            const char *text = capture_end();

            assert_null(strstr(text, SECRET));
            assert_non_null(strstr(text, " (hidden)"));
            assert_non_null(strstr(text, "Last: kept"));
        }
}

static void flow_tokens_are_cut_in_messages(void **state) /* X5 */
{
    (void)state;
    for (int json = 0; json < 2; json++) {
        capture_begin(LOG_DEBUG, json);
        log_message("received", STR("2.17"),
                    STR("BYE sip:bob@h;flow=EgADAAAAUjq9xgAAAABzaXA6Ym9iQHkuaW52YWxp;x SIP/2.0\r\n"
                        "Route: <sip:EQACAAAAb3WBGgAAAAAc-0YPct0WUTpb@h;lr>, <sip:carol@h>\r\n"
                        "Call-ID: 0123456789012345678901234567890123456789\r\n\r\n"));
        const char *text = capture_end();

        assert_non_null(strstr(text, "BYE sip:bob@h;flow=EgADAAAA…;x SIP/2.0"));
        assert_non_null(strstr(text, "Route: <sip:EQACAAAA…@h;lr>, <sip:carol@h>"));
        assert_non_null(strstr(text, "Call-ID: 0123456789012345678901234567890123456789"));
    }
}

static void challenges_are_shown(void **state)
{
    (void)state;
    capture_begin(LOG_DEBUG, false);
    log_message("sent", STR("2.17"),
                STR("SIP/2.0 401 Unauthorized\r\nWWW-Authenticate: Digest nonce=\"n1\"\r\n"
                    "Proxy-Authenticate: Digest nonce=\"n2\"\r\nAuthorization-Info: n3\r\n\r\n"));
    const char *text = capture_end();
    assert_non_null(strstr(text, "n1"));
    assert_non_null(strstr(text, "n2"));
    assert_non_null(strstr(text, "n3"));
}

static void a_message_is_indented_lines_or_one_json_string(void **state)
{
    struct str message = STR("OPTIONS sip:a SIP/2.0\r\nX: \"\001\"\r\n\r\nbody\n\xff");

    (void)state;
    capture_begin(LOG_DEBUG, false);
    log_message("received", STR("10.0.0.5:5060"), message);
    assert_string_equal(capture_end() + TEXT_HEAD,
                        "debug received where=10.0.0.5:5060 bytes=39\n"
                        "    OPTIONS sip:a SIP/2.0\n    X: \"\\u0001\"\n\n    body\n    \\xff\n");
    capture_begin(LOG_DEBUG, true);
    log_message("received", STR("10.0.0.5:5060"), message);
    assert_string_equal(capture_end() + JSON_HEAD,
                        "\"level\":\"debug\",\"event\":\"received\",\"where\":\"10.0.0.5:5060\","
                        "\"bytes\":39,\"message\":\"OPTIONS sip:a SIP/2.0\\r\\nX: "
                        "\\\"\\u0001\\\"\\r\\n\\r\\nbody\\n\\ufffd\"}\n");
}

static void the_largest_message_is_cut(void **state)
{
    static char big[70000];

    (void)state;
    memset(big, 0x01, sizeof(big));
    for (int json = 0; json < 2; json++) {
        capture_begin(LOG_DEBUG, json);
        log_message("received", STR("2.17"), (struct str){big, sizeof(big)});
        const char *text = capture_end();
        assert_in_range(strlen(text), 32000, 32768);
        assert_non_null(strstr(text, json ? "…\",\"cut\":true}\n" : " …\n"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(line_is_time_level_event_and_fields),
        cmocka_unit_test(a_line_that_is_full_stays_in_its_bounds),
        cmocka_unit_test(json_line_is_one_object),
        cmocka_unit_test(a_peers_text_can_not_forge_a_line),
        cmocka_unit_test(long_values_and_lines_are_cut_and_stay_well_formed),
        cmocka_unit_test(events_above_the_level_are_silent),
        cmocka_unit_test(credentials_and_keys_are_hidden_in_messages),
        cmocka_unit_test(flow_tokens_are_cut_in_messages),
        cmocka_unit_test(challenges_are_shown),
        cmocka_unit_test(a_message_is_indented_lines_or_one_json_string),
        cmocka_unit_test(the_largest_message_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

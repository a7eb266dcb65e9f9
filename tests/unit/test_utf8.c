#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "ws/utf8.h"

static const struct {
    const char *what;
    struct str bytes;
    bool valid;
} texts[] = {
    {"nothing",                     {"", 0},                                          true },
    {"ASCII and NUL",               {"INVITE sip:a@b SIP/2.0\r\n\0\x7F", 26},         true },
    {"two bytes",                   {"gr\xC3\xBC\xC3\x9F", 6},                        true },
    {"three bytes",                 {"\xE2\x82\xAC 12", 6},                           true },
    {"four bytes, after eight",     {"12345678\xF0\x9F\x98\x80", 12},                 true },
    {"first and last of each",      {"\xC2\x80\xDF\xBF\xE0\xA0\x80\xEF\xBF\xBF", 10}, true },
    {"U+10FFFF",                    {"\xF4\x8F\xBF\xBF", 4},                          true },
    {"above U+10FFFF",              {"\xF4\x90\x80\x80", 4},                          false},
    {"a surrogate",                 {"\xED\xA0\x80", 3},                              false},
    {"just below the surrogates",   {"\xED\x9F\xBF", 3},                              true },
    {"overlong, two bytes",         {"\xC0\xAF", 2},                                  false},
    {"overlong, three bytes",       {"\xE0\x9F\xBF", 3},                              false},
    {"overlong, four bytes",        {"\xF0\x8F\xBF\xBF", 4},                          false},
    {"a continuation alone",        {"a\x80", 2},                                     false},
    {"cut after one of two",        {"\xC3", 1},                                      false},
    {"cut after two of three",      {"\xE2\x82", 2},                                  false},
    {"cut after three of four",     {"\xF0\x9F\x98", 3},                              false},
    {"second of three is a letter", {"\xE2z\xAC", 3},                                 false},
    {"last of three is a letter",   {"\xE2\x82z", 3},                                 false},
    {"Latin-1 in the ninth byte",   {"12345678\xFC", 9},                              false},
    {"0xFF",                        {"\xFF", 1},                                      false},
};

static void text_is_utf8_or_not(void **state) /* F4 */
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (utf8_valid(texts[i].bytes) != texts[i].valid)
            fail_msg("%s", texts[i].what);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(text_is_utf8_or_not)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}

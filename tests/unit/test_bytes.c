#include "check.h"
#include "proxy/bytes.h"

/* Each byte there is, at each place, among others that are not found. */
static void found_byte_has_its_bit(void **state) /* V4, N8 */
{
    (void)state;
    for (unsigned at = 0; at < sizeof(bytes16); at++) {
        for (unsigned byte = 0; byte < 0x80; byte++) {
            char text[sizeof(bytes16)];
            bytes16 bytes, below, equal;

            memset(text, 'x', sizeof(text));
            text[at] = (char)byte;
            bytes = bytes_load(text);
            below = bytes_below(bytes, 0x20);
            equal = bytes_equal(bytes, 0x7f);
            CHECK_INT("below", bytes_bits(below), byte < 0x20 ? 1 << at : 0);
            CHECK_INT("equal", bytes_bits(equal), byte == 0x7f ? 1 << at : 0);
            CHECK_INT("on any machine", bytes_bits_portable(below), bytes_bits(below));
            CHECK_INT("on any machine", bytes_bits_portable(equal), bytes_bits(equal));
            CHECK_INT("all", bytes_bits_portable(bytes_below(bytes, 0x7f)),
                      bytes_bits(bytes_below(bytes, 0x7f)));
        }
    }
}

static void last_bytes_are_those_of_a_short_text_too(void **state) /* V4 */
{
    static const char text[] = "0123456789abcdefgh";

    (void)state;
    for (size_t len = 8; len < sizeof(text); len++) {
        bytes16 last = bytes_load_last((struct str){text, len});

        for (size_t i = 0; i < len; i++) { /* all of the last sixteen are there */
            if (len - i <= sizeof(last))
                assert_int_not_equal(bytes_bits(bytes_equal(last, (uint8_t)text[i])), 0);
        }
        assert_int_equal(bytes_bits(bytes_equal(last, (uint8_t)text[len])), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(found_byte_has_its_bit),
        cmocka_unit_test(last_bytes_are_those_of_a_short_text_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/str.h"
#include "tls/proxy_protocol.h"
#include "tls/socket.h"

#define TEST(name) static void name(void **state)
#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define V4 "\x21\x11\0\x0c\xc0\0\2\7\xc6\x33\x64\1\xc3\x53\1\xbb"
#define V6                                                                                         \
    "\x21\x21\0\x24\x20\1\xd\xb8\0\0\0\0\0\0\0\0\0\0\0\7\x20\1\xd\xb8\0\0\0\0\0\0\0\0\0\0\0\1"     \
    "\xc3\x53\x13\xc5"
#define MAPPED                                                                                     \
    "\x21\x21\0\x24\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\2\7\0\0\0\0\0\0\0\0\0\0\xff\xff\xc6\x33"     \
    "\x64\1\xc3\x53\1\xbb"

static const struct {
    const char *what;
    struct str bytes;
    const char *source, *destination; /* NULL: the socket's own */
} headers[] = {
    {"IPv4",                                      STR(SIGNATURE V4),                                                              "192.0.2.7:50003",     "198.51.100.1:443"  },
    {"IPv6",                                      STR(SIGNATURE V6),                                                              "[2001:db8::7]:50003", "[2001:db8::1]:5061"},
    {"IPv4 in IPv6",                              STR(SIGNATURE MAPPED),                                                          "192.0.2.7:50003",     "198.51.100.1:443"  },
    {"LOCAL, as HAProxy's health checks send it", STR(SIGNATURE "\x20\0\0\0"),                                                    NULL,                  NULL                },
    {"LOCAL with addresses",                      STR(SIGNATURE "\x20\x11\0\x0c\xc0\0\2\7\xc6\x33\x64\1\xc3\x53\1\xbb"),
     NULL,                                                                                                                                               NULL                },
    {"with TLVs",                                 STR(SIGNATURE "\x21\x11\0\x12\xc0\0\2\7\xc6\x33\x64\1\xc3\x53\1\xbb\4\0\3abc"),
     "192.0.2.7:50003",                                                                                                                                  "198.51.100.1:443"  },
    {"a TLV that is cut",
     STR(SIGNATURE "\x21\x11\0\x0f\xc0\0\2\7\xc6\x33\x64\1\xc3\x53\1\xbb\4\xff\xff"),
     "192.0.2.7:50003",                                                                                                                                  "198.51.100.1:443"  },
    {"no family",                                 STR(SIGNATURE "\x21\0\0\0"),                                                    NULL,                  NULL                },
    {"an unknown family",                         STR(SIGNATURE "\x21\x41\0\2ab"),                                                NULL,                  NULL                },
    {"UDP",                                       STR(SIGNATURE "\x21\x12\0\x0c\xc0\0\2\7\xc6\x33\x64\1\xc3\x53\1\xbb"),          NULL,                  NULL                },
};

static void check_address(const char *what, const union conf_sockaddr *address, const char *right)
{
    char text[SOCKET_TEXT];

    socket_text(&address->sa, text);
    if (strcmp(text, right) != 0)
        fail_msg("%s: %s, not %s", what, text, right);
}

TEST(headers_are_taken_whole_wherever_they_are_cut)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(headers); i++) {
        const uint8_t *bytes = (const uint8_t *)headers[i].bytes.p;
        size_t len = headers[i].bytes.len, have = 0;
        struct proxy_header header;

        for (; have < len; have++) {
            if (proxy_header_parse(bytes, have, &header) != 0)
                fail_msg("%s: taken at %zu", headers[i].what, have);
            assert_true(header.need > have && header.need <= len);
        }
        assert_int_equal(proxy_header_parse(bytes, len, &header), len);
        assert_int_equal(header.proxied, headers[i].source != NULL);
        if (!headers[i].source)
            continue;
        check_address(headers[i].what, &header.source, headers[i].source);
        check_address(headers[i].what, &header.destination, headers[i].destination);
    }
}

static const struct {
    const char *what;
    struct str bytes;
    size_t known_at; /* bytes after which it is refused */
    const char *error;
} wrong[] = {
    {"version 1",                    STR("PROXY TCP4 192.0.2.7 198.51.100.1 50003 443\r\n"),            1,
     "PROXY protocol version 1: the sender must use version 2"                                                                                 },
    {"a client hello",               STR("\x16\3\1\2\0\1\0"),                                           1,  "no PROXY protocol header"         },
    {"a SIP ping",                   STR("\r\n\r\n\r\n\r\n"),                                           5,  "no PROXY protocol header"         },
    {"a REGISTER",                   STR("REGISTER sip:a SIP/2.0"),                                     1,  "no PROXY protocol header"         },
    {"version 3",                    STR(SIGNATURE "\x31\x11\0\x0c"),                                   13,
     "PROXY protocol header of an unknown version or command"                                                                                  },
    {"an unknown command",           STR(SIGNATURE "\x22\x11\0\x0c"),                                   13,
     "PROXY protocol header of an unknown version or command"                                                                                  },
    {"too long",                     STR(SIGNATURE "\x21\x11\x07\xf1"),                                 16, "PROXY protocol header is too long"},
    {"longest",                      STR(SIGNATURE "\x20\x11\xff\xff"),                                 16, "PROXY protocol header is too long"},
    {"IPv4 cut",                     STR(SIGNATURE "\x21\x11\0\x0b\xc0\0\2\7\xc6\x33\x64\1\xc3\x53\1"), 27,
     "PROXY protocol header is too short for its addresses"                                                                                    },
    {"IPv6 with the length of IPv4",
     STR(SIGNATURE "\x21\x21\0\x0c\xc0\0\2\7\xc6\x33\x64\1\xc3\x53\1\xbb"),                             28,
     "PROXY protocol header is too short for its addresses"                                                                                    },
};

TEST(what_is_no_header_is_refused_as_soon_as_it_can_be_known)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        const uint8_t *bytes = (const uint8_t *)wrong[i].bytes.p;
        struct proxy_header header;

        for (size_t have = 0; have <= wrong[i].bytes.len; have++) {
            ssize_t taken = proxy_header_parse(bytes, have, &header);

            if (taken != (have < wrong[i].known_at ? 0 : -EPROTO))
                fail_msg("%s: %zd at %zu", wrong[i].what, taken, have);
        }
        if (strncmp(header.error, wrong[i].error, strlen(wrong[i].error)) != 0)
            fail_msg("%s: %s", wrong[i].what, header.error);
    }
}

TEST(the_longest_header_that_is_taken)
{
    uint8_t bytes[PROXY_HEADER_MAX] = SIGNATURE "\x21\x11\x07\xf0\xc0\0\2\7\xc6\x33\x64\1";
    struct proxy_header header;

    (void)state;
    assert_int_equal(proxy_header_parse(bytes, sizeof(bytes) - 1, &header), 0);
    assert_int_equal(header.need, sizeof(bytes));
    assert_int_equal(proxy_header_parse(bytes, sizeof(bytes), &header), sizeof(bytes));
    assert_true(header.proxied);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_are_taken_whole_wherever_they_are_cut),
        cmocka_unit_test(what_is_no_header_is_refused_as_soon_as_it_can_be_known),
        cmocka_unit_test(the_longest_header_that_is_taken),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

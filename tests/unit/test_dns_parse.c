/* Records out of DNS messages, as the files of the fuzz corpus have them. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>

#include "check.h"
#include "proxy/dns.h"

enum { FILE_MAX = 65536, TEXT_MAX = 4096 };

/* TTL, and each record: order, preference or weight, port or transport, address or name. */
static void answer_text(enum dns_type type, const struct dns_answer *answer, struct buf *text)
{
    char address[INET6_ADDRSTRLEN];

    buf_reset(text);
    buf_printf(text, "%u", answer->ttl_s);
    for (unsigned i = 0; i < answer->count; i++) {
        const struct dns_record *record = &answer->records[i];

        switch (type) {
        case DNS_SRV:
            buf_printf(text, "|%u %u %u %s", record->order, record->weight, record->port,
                       record->name);
            break;
        case DNS_NAPTR:
            buf_printf(text, "|%u %u %s %s", record->order, record->preference,
                       record->tcp ? "tcp" : "udp", record->name);
            break;
        default:
            inet_ntop(record->family, &record->in6, address, sizeof(address));
            buf_printf(text, "|%s", address);
        }
    }
}

/* A file of the corpus: its first byte says what was asked. Returns the rest's length. */
static size_t message_read(const char *name, enum dns_type *type, uint8_t bytes[FILE_MAX])
{
    char path[4096];
    FILE *file;
    size_t len;
    int first;

    snprintf(path, sizeof(path), CORPUS "/%s", name);
    file = fopen(path, "rb");
    assert_non_null(file);
    first = fgetc(file);
    assert_int_not_equal(first, EOF);
    *type = DNS_A + (unsigned)first % 4;
    len = fread(bytes, 1, FILE_MAX, file);
    fclose(file);
    return len;
}

static const struct {
    const char *file;
    int err;
    const char *text;
} messages[] = {
    {"a",                 0,        "30|10.0.0.1|10.0.0.2"                        },
    {"a-same",            0,        "60|1.2.3.4"                                  },
    {"aaaa",              0,        "0|fd00::1"                                   },
    {"cname",             0,        "5|10.0.0.1"                                  }, /* the least TTL */
    {"cname-alone",       -ENODATA, NULL                                          },
    {"cname-loop",        -ENODATA, NULL                                          },
    {"empty",             -ENODATA, NULL                                          },
    {"count-too-large",   -EBADMSG, NULL                                          },
    {"ttl-negative",      0,        "0|1.2.3.4"                                   }, /* RFC 2181 8 */
    {"class-chaos",       -ENODATA, NULL                                          },
    {"a-short",           -EBADMSG, NULL                                          },
    {"a-cut",             -EBADMSG, NULL                                          },
    {"srv",               0,
     "60|1 9 5060 h19.test|1 1 5060 h11.test|1 0 5060 h10.test"
     "|2 9 5060 h29.test|2 1 5060 h21.test|2 0 5060 h20.test"                     },
    {"srv-compressed",    0,        "60|1 1 5060 h.s.test"                        },
    {"srv-root",          0,        "60|0 0 0 "                                   },
    {"srv-port-0",        -ENODATA, NULL                                          },
    {"srv-pointer-loop",  -EBADMSG, NULL                                          },
    {"srv-trailing",      -EBADMSG, NULL                                          },
    {"srv-escape",        -ENODATA, NULL                                          },
    {"naptr",             0,        "60|10 2 tcp _x10.s.test|20 1 udp _x20.s.test"},
    {"naptr-regexp",      -ENODATA, NULL                                          },
    {"naptr-string-long", -EBADMSG, NULL                                          },
    {"naptr-root",        -ENODATA, NULL                                          },
};

static void records_are_read_sorted_and_checked(void **state) /* B1, RFC 2782, RFC 3263 4.1 */
{
    static uint8_t bytes[FILE_MAX];
    struct buf text;

    (void)state;
    assert_int_equal(buf_create(&text, TEXT_MAX), 0);
    for (size_t i = 0; i < ARRAY_LEN(messages); i++) {
        struct dns_answer *answer = NULL;
        enum dns_type type;
        size_t len = message_read(messages[i].file, &type, bytes);

        CHECK_INT(messages[i].file, dns_parse(type, bytes, len, &answer), messages[i].err);
        if (answer) {
            answer_text(type, answer, &text);
            CHECK_STR(messages[i].file, buf_str(&text), str_of(messages[i].text));
        }
        free(answer);
    }
    buf_destroy(&text);
}

static void of_many_records_the_first_are_kept(void **state) /* B1 refused */
{
    static uint8_t bytes[FILE_MAX];
    struct dns_answer *answer = NULL;
    enum dns_type type;
    size_t len = message_read("srv-many", &type, bytes);

    (void)state;
    assert_int_equal(dns_parse(type, bytes, len, &answer), 0);
    assert_int_equal(answer->count, DNS_RECORDS_MAX);
    /* 60 records have priorities i * 7 % 13: five each of 0 to 2, and the sixteenth is of 3 */
    assert_int_equal(answer->records[0].order, 0);
    assert_int_equal(answer->records[DNS_RECORDS_MAX - 2].order, 2);
    assert_int_equal(answer->records[DNS_RECORDS_MAX - 1].order, 3);
    free(answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_are_read_sorted_and_checked),
        cmocka_unit_test(of_many_records_the_first_are_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

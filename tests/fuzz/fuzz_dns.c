/* Whatever a name server sends: few records, sorted, none twice, with names that a host can have
 * (B1). The first byte says what was asked. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "proxy/dns.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void name_check(const char *name)
{
    size_t len = strnlen(name, DNS_NAME_SIZE);

    assert(len < DNS_NAME_SIZE);
    assert(strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == len);
}

static void record_check(enum dns_type type, const struct dns_record *record)
{
    bool addresses = type == DNS_A || type == DNS_AAAA;

    name_check(record->name);
    assert(record->family == (type == DNS_A ? AF_INET : type == DNS_AAAA ? AF_INET6 : 0));
    assert(addresses ? !record->name[0] && !record->order : true);
    assert(type == DNS_SRV ? record->port || !record->name[0] : !record->port && !record->weight);
    assert(type == DNS_NAPTR ? record->name[0] != 0 : !record->tcp && !record->preference);
}

/* One before the other, and not the same. */
static void order_check(const struct dns_record *a, const struct dns_record *b)
{
    assert(a->order <= b->order);
    if (a->order != b->order)
        return;
    assert(a->preference <= b->preference);
    if (a->preference == b->preference)
        assert(a->weight >= b->weight);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dns_answer *answer = NULL;
    enum dns_type type;
    uint8_t *bytes;
    int err;

    if (size < 1)
        return 0;
    type = DNS_A + data[0] % 4;
    bytes = malloc(size - 1 + !(size - 1)); /* not one byte more: its end is watched */
    assert(bytes);
    memcpy(bytes, data + 1, size - 1);
    err = dns_parse(type, bytes, size - 1, &answer);
    free(bytes);
    if (err) {
        assert(!answer && (err == -EBADMSG || err == -ENODATA));
        return 0;
    }
    assert(answer->count > 0 && answer->count <= DNS_RECORDS_MAX && answer->ttl_s <= INT32_MAX);
    assert(dns_answer_eq(answer, answer));
    for (unsigned i = 0; i < answer->count; i++) {
        record_check(type, &answer->records[i]);
        if (i)
            order_check(&answer->records[i - 1], &answer->records[i]);
    }
    free(answer);
    return 0;
}

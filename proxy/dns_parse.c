#include <arpa/nameser.h>
#include <errno.h>
#include <stdlib.h>

#include "proxy/dns_internal.h"

/* ---- sorted lists ---- */

static int compare(unsigned a, unsigned b)
{
    return (a > b) - (a < b);
}

static int record_compare(const struct dns_record *a, const struct dns_record *b)
{
    int order = compare(a->order, b->order);

    if (!order)
        order = compare(a->preference, b->preference);
    if (!order)
        order = compare(b->weight, a->weight);
    if (!order)
        order = compare((unsigned)a->family, (unsigned)b->family); /* AF_INET first */
    if (!order)
        order = memcmp(&a->in6, &b->in6, sizeof(a->in6));
    if (!order)
        order = strcmp(a->name, b->name);
    if (!order)
        order = compare(a->tcp, b->tcp);
    return order ? order : compare(a->port, b->port);
}

void dns_records_add(struct dns_records *records, const struct dns_record *record)
{
    unsigned at = records->count;

    while (at > 0 && record_compare(record, &records->list[at - 1]) < 0)
        at--;
    if (at > 0 && record_compare(record, &records->list[at - 1]) == 0)
        return;
    if (at == DNS_RECORDS_MAX)
        return;
    if (records->count < DNS_RECORDS_MAX)
        records->count++;
    memmove(&records->list[at + 1], &records->list[at],
            (records->count - at - 1) * sizeof(records->list[0]));
    records->list[at] = *record;
}

int dns_records_answer(const struct dns_records *records, uint32_t ttl_s, struct dns_answer **out)
{
    size_t size = records->count * sizeof(records->list[0]);
    struct dns_answer *answer;

    if (!records->count)
        return -ENODATA;
    answer = malloc(sizeof(*answer) + size);
    if (!answer)
        return -ENOMEM;
    answer->ttl_s = ttl_s;
    answer->count = records->count;
    memcpy(answer->records, records->list, size);
    *out = answer;
    return 0;
}

bool dns_answer_eq(const struct dns_answer *a, const struct dns_answer *b)
{
    if (!a || !b)
        return a == b;
    if (a->count != b->count)
        return false;
    for (unsigned i = 0; i < a->count; i++)
        if (record_compare(&a->records[i], &b->records[i]) != 0)
            return false;
    return true;
}

/* ---- records of a message ---- */

/* RDATA that is being read, and the message that names in it may point into. */
struct rdata {
    const ns_msg *msg;
    const uint8_t *p, *end;
};

static bool uint16_read(struct rdata *rdata, uint16_t *out)
{
    if (rdata->end - rdata->p < 2)
        return false;
    *out = (uint16_t)(rdata->p[0] << 8 | rdata->p[1]);
    rdata->p += 2;
    return true;
}

/* A <character-string>: its length, and so many bytes. */
static bool string_read(struct rdata *rdata, struct str *out)
{
    if (rdata->end == rdata->p || rdata->end - rdata->p - 1 < rdata->p[0])
        return false;
    *out = (struct str){(const char *)rdata->p + 1, rdata->p[0]};
    rdata->p += 1 + out->len;
    return true;
}

/* The name that RDATA ends with, as it would be written: the root is ".". */
static bool name_read(struct rdata *rdata, char out[NS_MAXDNAME])
{
    int used = ns_name_uncompress(ns_msg_base(*rdata->msg), ns_msg_end(*rdata->msg), rdata->p, out,
                                  NS_MAXDNAME);

    return used > 0 && used == rdata->end - rdata->p;
}

/* A name that a host can have, in lower case. false: another one. */
static bool name_take(const char *text, char name[DNS_NAME_SIZE])
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789-_.";
    size_t len = strlen(text);

    if (strcmp(text, ".") == 0)
        len = 0;
    if (len >= DNS_NAME_SIZE)
        return false;
    for (size_t i = 0; i < len; i++) {
        bool upper = text[i] >= 'A' && text[i] <= 'Z';

        name[i] = (char)(upper ? text[i] + ('a' - 'A') : text[i]);
        if (!strchr(allowed, name[i]))
            return false;
    }
    return true; /* the record was zeroed: there is a NUL */
}

/* These return 0, -EBADMSG, or -ENODATA: well formed, and of no use here. */

static int address_read(struct rdata *rdata, int family, struct dns_record *record)
{
    size_t len = family == AF_INET ? sizeof(record->in) : sizeof(record->in6);

    if ((size_t)(rdata->end - rdata->p) != len)
        return -EBADMSG;
    record->family = family;
    memcpy(&record->in6, rdata->p, len);
    return 0;
}

static int srv_read(struct rdata *rdata, struct dns_record *record) /* RFC 2782 */
{
    char name[NS_MAXDNAME];

    if (!uint16_read(rdata, &record->order) || !uint16_read(rdata, &record->weight) ||
        !uint16_read(rdata, &record->port) || !name_read(rdata, name))
        return -EBADMSG;
    if (!name_take(name, record->name) || (record->name[0] && !record->port))
        return -ENODATA;
    return 0;
}

static int naptr_read(struct rdata *rdata,
                      struct dns_record *record) /* RFC 3263 4.1, RFC 3403 4.1 */
{
    struct str flags, service, regexp;
    char name[NS_MAXDNAME];

    if (!uint16_read(rdata, &record->order) || !uint16_read(rdata, &record->preference) ||
        !string_read(rdata, &flags) || !string_read(rdata, &service) ||
        !string_read(rdata, &regexp) || !name_read(rdata, name))
        return -EBADMSG;
    record->tcp = str_eq_nocase(service, STR("SIP+D2T"));
    if (!record->tcp && !str_eq_nocase(service, STR("SIP+D2U")))
        return -ENODATA;
    if (!str_eq_nocase(flags, STR("s")) || regexp.len || !name_take(name, record->name))
        return -ENODATA;
    return record->name[0] ? 0 : -ENODATA;
}

static int record_read(const ns_msg *msg, const ns_rr *rr, struct dns_record *record)
{
    struct rdata rdata = {msg, ns_rr_rdata(*rr), ns_rr_rdata(*rr) + ns_rr_rdlen(*rr)};

    switch ((int)ns_rr_type(*rr)) {
    case ns_t_a: return address_read(&rdata, AF_INET, record);
    case ns_t_aaaa: return address_read(&rdata, AF_INET6, record);
    case ns_t_srv: return srv_read(&rdata, record);
    case ns_t_naptr: return naptr_read(&rdata, record);
    default: return -ENODATA;
    }
}

static const int rr_types[] = {
    [DNS_A] = ns_t_a, [DNS_AAAA] = ns_t_aaaa, [DNS_SRV] = ns_t_srv, [DNS_NAPTR] = ns_t_naptr};

int dns_rr_type(enum dns_type type)
{
    return rr_types[type];
}

static uint32_t rr_ttl(const ns_rr *rr)
{
    return ns_rr_ttl(*rr) > INT32_MAX ? 0 : ns_rr_ttl(*rr); /* RFC 2181 8 */
}

int dns_parse(enum dns_type type, const uint8_t *bytes, size_t len, struct dns_answer **out)
{
    struct dns_records records = {0};
    uint32_t ttl_s = INT32_MAX;
    ns_msg msg;
    ns_rr rr;

    if (len > NS_MAXMSG || ns_initparse(bytes, (int)len, &msg))
        return -EBADMSG;
    for (int i = 0; i < ns_msg_count(msg, ns_s_an); i++) {
        struct dns_record record = {0};
        int err;

        if (ns_parserr(&msg, ns_s_an, i, &rr))
            return -EBADMSG;
        if (ns_rr_class(rr) != ns_c_in)
            continue;
        if ((int)ns_rr_type(rr) != rr_types[type] && ns_rr_type(rr) != ns_t_cname)
            continue;
        if (rr_ttl(&rr) < ttl_s)
            ttl_s = rr_ttl(&rr);
        err = record_read(&msg, &rr, &record);
        if (err == -EBADMSG)
            return err;
        if (!err)
            dns_records_add(&records, &record);
    }
    return dns_records_answer(&records, ttl_s, out);
}

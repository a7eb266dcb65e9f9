/* What the files about DNS share. */
#pragma once

#include "proxy/dns.h"

/* The first DNS_RECORDS_MAX of many, sorted, none twice. */
struct dns_records {
    unsigned count;
    struct dns_record list[DNS_RECORDS_MAX];
};

void dns_records_add(struct dns_records *records, const struct dns_record *record);
/* -ENODATA: there are none. -ENOMEM. */
int dns_records_answer(const struct dns_records *records, uint32_t ttl_s, struct dns_answer **out);
int dns_rr_type(enum dns_type type); /* RFC 1035 3.2.2; of any but DNS_HOSTS */

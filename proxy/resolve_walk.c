/* From a name to addresses: RFC 3263 4.1 and 4.2. */
#include <stdio.h>

#include "proxy/resolve_internal.h"

enum { SIP_PORT = 5060 };

static void address_add(struct resolve_walk *walk, const struct dns_record *record,
                        struct resolve_address address, uint16_t port)
{
    if (walk->count == RESOLVE_ADDRESSES_MAX)
        return;
    address.priority = walk->priority;
    if (record->family == AF_INET) {
        address.in.sin_family = AF_INET;
        address.in.sin_addr = record->in;
        address.in.sin_port = htons(port);
    } else {
        address.in6.sin6_family = AF_INET6;
        address.in6.sin6_addr = record->in6;
        address.in6.sin6_port = htons(port);
    }
    if (!resolve_address_in(walk->addresses, walk->count, &address))
        walk->addresses[walk->count++] = address;
}

static void addresses_add(struct resolve_walk *walk, const struct dns_answer *answer,
                          const struct resolve_address *like, uint16_t port)
{
    for (unsigned i = 0; answer && i < answer->count; i++)
        address_add(walk, &answer->records[i], *like, port);
}

static struct resolve_address address_of(enum resolve_transport transport, const char *name)
{
    struct resolve_address address;

    memset(&address, 0, sizeof(address)); /* the whole of in6 is compared */
    address.transport = transport == RESOLVE_AUTO ? RESOLVE_UDP : transport; /* 4.1 */
    memcpy(address.name, name, strnlen(name, sizeof(address.name) - 1));
    return address;
}

/* The addresses of one host. */
static void host_walk(struct resolve_walk *walk, const struct resolve_address *like, uint16_t port)
{
    addresses_add(walk, resolve_ask(walk, DNS_A, like->name), like, port);
    addresses_add(walk, resolve_ask(walk, DNS_AAAA, like->name), like, port);
}

/* false: there are no such records. */
static bool srv_walk(struct resolve_walk *walk, enum resolve_transport transport,
                     const char *service)
{
    const struct dns_answer *answer = resolve_ask(walk, DNS_SRV, service);

    if (!answer)
        return false;
    for (unsigned i = 0; i < answer->count; i++) {
        const struct dns_record *record = &answer->records[i];
        struct resolve_address like = address_of(transport, record->name);

        if (i && record->order != answer->records[i - 1].order)
            walk->priority++;
        like.weight = record->weight;
        if (record->name[0]) /* else: decidedly not available (RFC 2782) */
            host_walk(walk, &like, record->port);
    }
    walk->priority++;
    return true;
}

static bool service_walk(struct resolve_walk *walk, enum resolve_transport transport,
                         const char *domain)
{
    const char *prefix = transport == RESOLVE_TCP ? "_sip._tcp" : "_sip._udp";
    char service[DNS_NAME_SIZE];
    int len = snprintf(service, sizeof(service), "%s.%s", prefix, domain);

    return len < DNS_NAME_SIZE && srv_walk(walk, transport, service);
}

static bool naptr_walk(struct resolve_walk *walk, const char *domain)
{
    const struct dns_answer *answer = resolve_ask(walk, DNS_NAPTR, domain);
    bool found = false;

    for (unsigned i = 0; answer && i < answer->count; i++) {
        const struct dns_record *record = &answer->records[i];

        found |= srv_walk(walk, record->tcp ? RESOLVE_TCP : RESOLVE_UDP, record->name);
    }
    return found;
}

/* With a port there are only addresses (4.2); a transport that was given is the one (4.1). */
static bool services_walk(struct resolve_walk *walk, const char *domain)
{
    bool found;

    if (walk->of->port)
        return false;
    if (walk->of->transport != RESOLVE_AUTO)
        return service_walk(walk, walk->of->transport, domain);
    if (naptr_walk(walk, domain))
        return true;
    found = service_walk(walk, RESOLVE_UDP, domain);
    return service_walk(walk, RESOLVE_TCP, domain) || found;
}

/* One absolute name. What is not known yet counts as not there: so all that may be wanted is asked
 * for at once, and an answer that makes the rest superfluous is no loss. */
static bool domain_walk(struct resolve_walk *walk, const char *domain)
{
    struct resolve_address like = address_of(walk->of->transport, domain);

    if (services_walk(walk, domain))
        return true;
    host_walk(walk, &like, walk->of->port ? walk->of->port : SIP_PORT);
    return walk->count > 0;
}

static bool numeric_walk(struct resolve_walk *walk, const char *host, uint16_t port)
{
    struct resolve_address address = address_of(walk->of->transport, host);

    if (uv_ip4_addr(host, port, &address.in) != 0 && uv_ip6_addr(host, port, &address.in6) != 0)
        return false;
    walk->addresses[walk->count++] = address;
    return true;
}

static bool hosts_walk(struct resolve_walk *walk, const char *host, uint16_t port)
{
    struct resolve_address like = address_of(walk->of->transport, host);
    const struct dns_answer *answer = resolve_ask(walk, DNS_HOSTS, host);

    addresses_add(walk, answer, &like, port);
    return answer != NULL;
}

void resolve_walk(struct resolve_walk *walk)
{
    const struct resolve_name *name = walk->of;
    uint16_t port = name->port ? name->port : SIP_PORT;
    char candidates[DNS_CANDIDATES_MAX][DNS_NAME_SIZE];
    unsigned count;

    if (numeric_walk(walk, name->host, port) || hosts_walk(walk, name->host, port))
        return;
    count = dns_candidates(name->resolver->dns, name->host, candidates);
    for (unsigned i = 0; i < count; i++)
        if (domain_walk(walk, candidates[i]))
            return;
}

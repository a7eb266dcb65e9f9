/* The names that clients use: what the DNS says of them, and where that leads. The hosts file of
 * this machine is nothing that a client sees. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "doctor/internal.h"

enum { LIST_TEXT = 256 };

static const char *const services[] = {"_sips._tcp.", "_sip._tls."};

/* ---- asking ---- */

static void answered(void *context, int err, struct dns_answer *answer)
{
    struct question *question = context;

    question->answered = true;
    question->err = err == -ECANCELED ? -ETIMEDOUT : err; /* at the end of our patience */
    question->answer = answer;
}

static void question_add(struct doctor *doctor, enum dns_type type, const char *prefix,
                         const char *name)
{
    struct question *question = &doctor->questions[doctor->question_count];

    if (doctor->question_count == QUESTIONS_MAX ||
        strlen(prefix) + strlen(name) >= sizeof(question->name))
        return;
    *question = (struct question){.type = type};
    (void)snprintf(question->name, sizeof(question->name), "%s%s", prefix, name);
    doctor->question_count++;
}

static bool is_address(const char *host)
{
    struct in6_addr any;

    return inet_pton(AF_INET, host, &any) == 1 || inet_pton(AF_INET6, host, &any) == 1;
}

static bool is_localhost(const char *host)
{
    static const char name[] = "localhost";
    size_t len = strlen(host), own = strlen(name);

    return len >= own && !strcasecmp(host + len - own, name) &&
           (len == own || host[len - own - 1] == '.');
}

static void host_ask(struct doctor *doctor, const char *host)
{
    if (is_address(host) || is_localhost(host))
        return;
    question_add(doctor, DNS_A, "", host);
    question_add(doctor, DNS_AAAA, "", host);
    question_add(doctor, DNS_HOSTS, "", host);
}

void names_ask(struct doctor *doctor)
{
    host_ask(doctor, doctor->conf->domain);
    if (!is_address(doctor->conf->domain))
        for (size_t i = 0; i < ARRAY_LEN(services); i++)
            question_add(doctor, DNS_SRV, services[i], doctor->conf->domain);
    for (unsigned i = 0; i < doctor->conf->alias_count; i++)
        host_ask(doctor, doctor->conf->aliases[i]);
}

void question_send(struct question *question, struct dns *dns)
{
    dns_ask(dns, question->type, question->name, answered, question);
}

static const struct question *question_of(const struct doctor *doctor, enum dns_type type,
                                          const char *prefix, const char *name)
{
    for (unsigned i = 0; i < doctor->question_count; i++) {
        const struct question *question = &doctor->questions[i];
        size_t len = strlen(prefix);

        if (question->type == type && !strncmp(question->name, prefix, len) &&
            !strcmp(question->name + len, name))
            return question;
    }
    return NULL;
}

/* ---- where a name leads ---- */

/* The ports that clients come to: "5061, 443". */
static void ports_text(const struct conf *conf, char *text, size_t size)
{
    size_t len = 0;

    *text = '\0';
    for (unsigned i = 0; i < conf->listener_count; i++)
        if (len + 8 < size)
            len += (size_t)snprintf(text + len, size - len, "%s%u", i ? ", " : "",
                                    listener_port_of(&conf->listeners[i]));
}

static bool listens_at(const struct conf *conf, const struct core_addr *addr)
{
    for (unsigned i = 0; i < conf->listener_count; i++) {
        const union conf_sockaddr *own = &conf->listeners[i].address;
        struct core_addr listener = {.kind = CORE_UDP};

        memcpy(&listener.in6, &own->in6, sizeof(listener.in6));
        if (conf->listeners[i].any || core_addr_same_host(&listener, addr))
            return true;
        if (own->sa.sa_family != addr->sa.sa_family)
            continue;
        if (own->sa.sa_family == AF_INET ? own->in.sin_addr.s_addr == INADDR_ANY
                                         : IN6_IS_ADDR_UNSPECIFIED(&own->in6.sin6_addr) != 0)
            return true;
    }
    return false;
}

static bool machine_is_public(const struct doctor *doctor, int family)
{
    for (unsigned i = 0; i < doctor->address_count; i++)
        if (doctor->addresses[i].sa.sa_family == family &&
            !addr_is_loopback(&doctor->addresses[i]) && !addr_is_private(&doctor->addresses[i]))
            return true;
    return false;
}

static void elsewhere(struct doctor *doctor, const char *id, const char *host,
                      const struct core_addr *addr)
{
    char text[CORE_ADDR_TEXT], own[LIST_TEXT], ports[LIST_TEXT];

    addr_host_text(addr, text);
    machine_text(doctor, addr->sa.sa_family, own, sizeof(own));
    ports_text(doctor->conf, ports, sizeof(ports));
    if (!*own) {
        finding(doctor, STATUS_WARNING, id,
                "%s is %s, but this machine has no %s address: clients that use it come to another "
                "one",
                host, text, addr->sa.sa_family == AF_INET ? "IPv4" : "IPv6");
        remedy(doctor, "if nothing at %s forwards TCP ports %s to here, take that %s record out",
               text, ports, addr->sa.sa_family == AF_INET ? "A" : "AAAA");
        return;
    }
    finding(doctor, STATUS_WARNING, id, "%s is %s, and this machine is %s%s", host, text, own,
            machine_is_public(doctor, addr->sa.sa_family)
                ? ""
                : ": behind NAT, a load balancer, or in a container");
    remedy(doctor,
           "fine if %s forwards TCP ports %s to here (a load balancer: see proxy_protocol); else "
           "correct the record",
           text, ports);
}

static void address_check(struct doctor *doctor, const char *id, const char *host,
                          const struct core_addr *addr)
{
    char text[CORE_ADDR_TEXT];

    addr_host_text(addr, text);
    if (!machine_has(doctor, addr)) {
        elsewhere(doctor, id, host, addr);
    } else if (!listens_at(doctor->conf, addr)) {
        finding(doctor, STATUS_FAILED, id,
                "%s is %s, an address of this machine, but no listener is at that address", host,
                text);
        remedy(doctor, "in `listen`, give the port alone (all addresses), or with this address");
    } else if (addr_is_loopback(addr)) {
        finding(doctor, STATUS_WARNING, id, "%s is %s: only programs on this machine can use it",
                host, text);
        remedy(doctor, "for clients elsewhere, set its record to an address that they can reach");
    } else {
        bool literal = !strcmp(host, text);

        finding(doctor, STATUS_OK, id, "%s is %s%san address of this machine%s", host,
                literal ? "" : text, literal ? "" : ", ",
                addr_is_private(addr) ? " (a private one: for clients in its own network)" : "");
    }
}

/* What means each client itself, by any resolver (RFC 6761 6.3). Fine beside a domain that is for
 * others as well. */
static void own_machine_check(struct doctor *doctor, const char *id, const char *host)
{
    bool alias = !strcmp(id, "alias");

    finding(doctor, alias ? STATUS_OK : STATUS_WARNING, id,
            "%s is for programs on this machine alone", host);
    if (!alias)
        remedy(doctor, "for clients elsewhere, set a name or an address that they can reach");
}

static bool literal_check(struct doctor *doctor, const char *id, const char *host)
{
    struct core_addr addr = {.kind = CORE_UDP};

    if (inet_pton(AF_INET, host, &addr.in.sin_addr) == 1)
        addr.in.sin_family = AF_INET;
    else if (inet_pton(AF_INET6, host, &addr.in6.sin6_addr) == 1)
        addr.in6.sin6_family = AF_INET6;
    else
        return false;
    if (addr_is_loopback(&addr) && listens_at(doctor->conf, &addr))
        own_machine_check(doctor, id, host);
    else
        address_check(doctor, id, host, &addr);
    return true;
}

/* All addresses of an answer. Returns how many. */
static unsigned answer_check(struct doctor *doctor, const char *id, const struct question *question)
{
    unsigned count = question && question->answer ? question->answer->count : 0;

    for (unsigned i = 0; i < count; i++) {
        const struct dns_record *record = &question->answer->records[i];
        struct core_addr addr = {.kind = CORE_UDP};

        if (record->family == AF_INET)
            addr.in = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = record->in};
        else
            addr.in6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_addr = record->in6};
        address_check(doctor, id, question->name, &addr);
    }
    return count;
}

static bool is_word(const struct question *question)
{
    return question && question->answered &&
           (!question->err || question->err == -ENOENT || question->err == -ENODATA);
}

/* Some phones look for SRV records first (RFC 3263 4.1), browsers never do. */
static bool has_service(const struct doctor *doctor, const char *host)
{
    for (size_t i = 0; i < ARRAY_LEN(services); i++) {
        const struct question *question = question_of(doctor, DNS_SRV, services[i], host);

        if (question && question->answer)
            return true;
    }
    return false;
}

/* No address came of it. */
static void nowhere(struct doctor *doctor, const char *id, const char *host,
                    const struct question *a, const struct question *aaaa,
                    const struct question *hosts)
{
    const struct question *failing = is_word(a) ? aaaa : a;
    char own[LIST_TEXT];

    machine_text(doctor, AF_INET, own, sizeof(own));
    if (hosts && hosts->answer) {
        finding(doctor, STATUS_WARNING, id,
                "%s is known to this machine's /etc/hosts, which others don't see; %s", host,
                is_word(failing) ? "the DNS has no address for it"
                                 : "the DNS can't be asked from here");
        remedy(doctor, "put an A record for %s into the DNS, or it into each client's hosts file",
               host);
    } else if (!is_word(failing)) {
        finding(doctor, STATUS_WARNING, id, "the DNS can't be asked for %s from here: %s", host,
                failing && failing->answered ? dns_strerror(failing->err) : "no answer in time");
        remedy(doctor, "see which name servers /etc/resolv.conf has; from a client: nslookup %s",
               host);
    } else if (has_service(doctor, host)) {
        finding(doctor, STATUS_WARNING, id,
                "the DNS has SRV records for %s but no address: only phones that look for those "
                "find it",
                host);
        remedy(doctor,
               "fine where clients are told another name; browsers need one with an A record");
    } else {
        finding(doctor, STATUS_FAILED, id, "the DNS has no address for %s: clients can't find it",
                host);
        remedy(doctor,
               machine_is_public(doctor, AF_INET)
                   ? "put this machine's into its zone: %s. A %s"
                   : "put the address that clients reach this machine at into its zone: "
                     "%s. A ADDRESS (this machine has %s)",
               host, *own ? own : "none but loopback");
    }
}

static void host_check(struct doctor *doctor, const char *id, const char *host)
{
    const struct question *a = question_of(doctor, DNS_A, "", host);
    const struct question *aaaa = question_of(doctor, DNS_AAAA, "", host);
    unsigned count;

    if (literal_check(doctor, id, host))
        return;
    if (is_localhost(host)) {
        own_machine_check(doctor, id, host);
        return;
    }
    count = answer_check(doctor, id, a);
    count += answer_check(doctor, id, aaaa);
    if (!count)
        nowhere(doctor, id, host, a, aaaa, question_of(doctor, DNS_HOSTS, "", host));
}

/* ---- SRV ---- */

static bool is_ours(const struct conf *conf, const char *host)
{
    if (str_eq_nocase(str_of(conf->domain), str_of(host)))
        return true;
    for (unsigned i = 0; i < conf->alias_count; i++)
        if (str_eq_nocase(str_of(conf->aliases[i]), str_of(host)))
            return true;
    return false;
}

static bool serves_tls_at(const struct conf *conf, uint16_t port)
{
    for (unsigned i = 0; i < conf->listener_count; i++)
        if ((conf->listeners[i].kind == CONF_TLS || conf->listeners[i].kind == CONF_TLS_WSS) &&
            listener_port_of(&conf->listeners[i]) == port)
            return true;
    return false;
}

static void service_check(struct doctor *doctor, const struct question *question)
{
    for (unsigned i = 0; question && question->answer && i < question->answer->count; i++) {
        const struct dns_record *record = &question->answer->records[i];

        if (!*record->name) {
            finding(doctor, STATUS_WARNING, "srv", "%s says that there is no such service",
                    question->name);
            remedy(doctor, "phones that look for SRV records won't come: take that record out");
        } else if (!is_ours(doctor->conf, record->name)) {
            finding(doctor, STATUS_WARNING, "srv",
                    "%s leads phones to %s:%u, a name that the configuration does not have",
                    question->name, record->name, record->port);
            remedy(doctor, "if that is this machine: aliases: [%s]; else correct the record",
                   record->name);
        } else if (!serves_tls_at(doctor->conf, record->port)) {
            finding(doctor, STATUS_WARNING, "srv",
                    "%s leads phones to %s:%u, and no listener has SIP over TLS on port %u",
                    question->name, record->name, record->port, record->port);
            remedy(doctor,
                   "correct the record's port, or add under `listen`: - tls: %u (fine if a "
                   "router or load balancer translates the port)",
                   record->port);
        } else {
            finding(doctor, STATUS_OK, "srv", "%s leads phones to %s:%u, a listener of this file",
                    question->name, record->name, record->port);
        }
    }
}

void names_check(struct doctor *doctor)
{
    const struct conf *conf = doctor->conf;

    host_check(doctor, "domain", conf->domain);
    for (unsigned i = 0; i < conf->alias_count; i++)
        host_check(doctor, "alias", conf->aliases[i]);
    for (size_t i = 0; i < ARRAY_LEN(services); i++)
        service_check(doctor, question_of(doctor, DNS_SRV, services[i], conf->domain));
}

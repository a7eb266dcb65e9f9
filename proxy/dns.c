#include "proxy/dns.h"

#include <arpa/nameser.h>
#include <errno.h>
#include <resolv.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <ares.h>

#include "proxy/dns_internal.h"

enum {
    TRIES = 2,
    HOSTS_TTL_S = 30,
};

static const char resolv_conf[] = "/etc/resolv.conf";

/* What tells one version of a file from another. */
struct version {
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec changed;
};

struct dns {
    uv_loop_t *loop;
    unsigned timeout_ms;
    ares_channel channel;   /* NULL: could not be made, or is about to be made */
    struct version version; /* of resolv.conf, when the channel was made */
    unsigned ndots, domain_count;
    char domains[DNS_CANDIDATES_MAX - 1][DNS_NAME_SIZE];
    struct dns_socket *sockets;
    uv_timer_t timer; /* for c-ares: a try has timed out */
};

/* One of c-ares's sockets, while it is open. */
struct dns_socket {
    uv_poll_t poll;
    ares_socket_t fd;
    struct dns *dns;
    struct dns_socket *next;
};

struct question {
    enum dns_type type;
    dns_answered answered;
    void *context;
};

/* ---- words ---- */

const char *dns_type_text(enum dns_type type)
{
    static const char *const names[] = {[DNS_HOSTS] = "hosts file",
                                        [DNS_A] = "A",
                                        [DNS_AAAA] = "AAAA",
                                        [DNS_SRV] = "SRV",
                                        [DNS_NAPTR] = "NAPTR"};

    return names[type];
}

const char *dns_strerror(int err)
{
    switch (err) {
    case -ENOENT: return "no such name";
    case -ENODATA: return "no record of that type";
    case -ETIMEDOUT: return "no answer in time";
    case -ECONNREFUSED: return "no name server can be reached";
    case -EREMOTEIO: return "the name server failed or refused";
    case -EBADMSG: return "the answer is broken";
    case -EACCES: return "resolv.conf can't be read";
    default: return strerror(-err);
    }
}

static int status_err(int status)
{
    switch (status) {
    case ARES_SUCCESS: return 0;
    case ARES_ENOTFOUND:
    case ARES_EBADNAME: return -ENOENT;
    case ARES_ENODATA: return -ENODATA;
    case ARES_ETIMEOUT: return -ETIMEDOUT;
    case ARES_ECONNREFUSED: return -ECONNREFUSED;
    case ARES_ESERVFAIL:
    case ARES_EREFUSED:
    case ARES_ENOTIMP:
    case ARES_EFORMERR: return -EREMOTEIO;
    case ARES_EBADRESP: return -EBADMSG;
    case ARES_ENOMEM: return -ENOMEM;
    case ARES_EFILE: return -EACCES;
    case ARES_ECANCELLED:
    case ARES_EDESTRUCTION: return -ECANCELED;
    default: return -EIO;
    }
}

/* ---- c-ares on the loop ---- */

static void timed_out(uv_timer_t *timer);

/* After anything that c-ares did: when does it want to look at its time-outs? */
static void timer_set(struct dns *dns)
{
    struct timeval space, *wait = ares_timeout(dns->channel, NULL, &space);

    if (!wait) { /* nothing is asked */
        uv_timer_stop(&dns->timer);
        return;
    }
    uv_timer_start(&dns->timer, timed_out,
                   (uint64_t)wait->tv_sec * 1000 + (uint64_t)wait->tv_usec / 1000 + 1, 0);
}

static void timed_out(uv_timer_t *timer)
{
    struct dns *dns = timer->data;

    ares_process_fd(dns->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    timer_set(dns);
}

static void socket_ready(uv_poll_t *poll, int status, int events)
{
    struct dns_socket *sock = poll->data;
    struct dns *dns = sock->dns; /* the socket may go while c-ares reads */
    ares_socket_t fd = sock->fd;

    if (status < 0)
        events = UV_READABLE | UV_WRITABLE; /* c-ares finds the error out by itself */
    ares_process_fd(dns->channel, events & UV_READABLE ? fd : ARES_SOCKET_BAD,
                    events & UV_WRITABLE ? fd : ARES_SOCKET_BAD);
    timer_set(dns);
}

static void socket_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static struct dns_socket *socket_open(struct dns *dns, ares_socket_t fd)
{
    struct dns_socket *sock = calloc(1, sizeof(*sock));

    if (!sock)
        return NULL; /* the question times out */
    if (uv_poll_init(dns->loop, &sock->poll, fd)) {
        free(sock);
        return NULL;
    }
    *sock = (struct dns_socket){.poll = sock->poll, .fd = fd, .dns = dns, .next = dns->sockets};
    sock->poll.data = sock;
    dns->sockets = sock;
    return sock;
}

static void socket_changed(void *context, ares_socket_t fd, int readable, int writable)
{
    struct dns *dns = context;
    struct dns_socket **at = &dns->sockets, *sock;

    while (*at && (*at)->fd != fd)
        at = &(*at)->next;
    sock = *at;
    if (!readable && !writable) {
        if (!sock)
            return;
        *at = sock->next;
        uv_close((uv_handle_t *)&sock->poll, socket_closed);
        return;
    }
    if (!sock)
        sock = socket_open(dns, fd);
    if (sock)
        uv_poll_start(&sock->poll, (readable ? UV_READABLE : 0) | (writable ? UV_WRITABLE : 0),
                      socket_ready);
}

/* ---- the channel ---- */

static struct version version_now(void)
{
    struct stat file;

    if (stat(resolv_conf, &file))
        return (struct version){0};
    return (struct version){file.st_dev, file.st_ino, file.st_size, file.st_mtim};
}

static bool version_eq(const struct version *a, const struct version *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           a->changed.tv_sec == b->changed.tv_sec && a->changed.tv_nsec == b->changed.tv_nsec;
}

static void channel_close(struct dns *dns)
{
    ares_channel channel = dns->channel;

    dns->channel = NULL;
    if (channel)
        ares_destroy(channel); /* questions end by ARES_EDESTRUCTION, sockets are closed */
}

/* The C library reads them: c-ares 1.34 does not tell what it has read. */
static void domains_read(struct dns *dns)
{
    struct __res_state state = {0};

    dns->ndots = 1;
    dns->domain_count = 0;
    if (res_ninit(&state))
        return;
    dns->ndots = state.ndots;
    for (unsigned i = 0; i < MAXDNSRCH && state.dnsrch[i]; i++)
        if (dns->domain_count < ARRAY_LEN(dns->domains))
            snprintf(dns->domains[dns->domain_count++], DNS_NAME_SIZE, "%s", state.dnsrch[i]);
    res_nclose(&state);
}

/* A channel for resolv.conf as it is now. Looking at the file's version costs less than the
 * question that follows, and there are few. */
static int channel_ready(struct dns *dns)
{
    struct version version = version_now();
    char hosts_alone[] = "f"; /* for ares_getaddrinfo(); ares_query() asks the DNS all the same */
    struct ares_options options = {
        .flags = ARES_FLAG_NOALIASES,
        .timeout = (int)dns->timeout_ms,
        .tries = TRIES,
        .lookups = hosts_alone,
        .sock_state_cb = socket_changed,
        .sock_state_cb_data = dns,
    };
    int mask = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS |
               ARES_OPT_SOCK_STATE_CB;

#ifdef ARES_OPT_QUERY_CACHE
    mask |= ARES_OPT_QUERY_CACHE; /* 0 s: a refresh ahead of its time has to reach the server */
#endif
    if (dns->channel && version_eq(&version, &dns->version))
        return 0;
    channel_close(dns);
    dns->version = version;
    domains_read(dns);
    return status_err(ares_init_options(&dns->channel, &options, mask));
}

int dns_open(uv_loop_t *loop, unsigned timeout_ms, struct dns **out)
{
    struct dns *dns = calloc(1, sizeof(*dns));
    int err;

    if (!dns)
        return -ENOMEM;
    if (ares_library_init(ARES_LIB_INIT_ALL)) {
        free(dns);
        return -ENOMEM;
    }
    err = uv_timer_init(loop, &dns->timer);
    if (err) {
        ares_library_cleanup();
        free(dns);
        return err;
    }
    dns->loop = loop;
    dns->timeout_ms = timeout_ms;
    dns->timer.data = dns;
    *out = dns;
    return 0;
}

static void timer_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void dns_close(struct dns **dns)
{
    if (!*dns)
        return;
    channel_close(*dns);
    uv_close((uv_handle_t *)&(*dns)->timer, timer_closed);
    ares_library_cleanup();
    *dns = NULL;
}

/* ---- questions ---- */

static void dns_came(void *context, int status, int timeouts, unsigned char *bytes, int len)
{
    struct question *question = context;
    struct dns_answer *answer = NULL;
    int err = status_err(status);

    (void)timeouts;
    if (!err)
        err = dns_parse(question->type, bytes, (size_t)len, &answer);
    question->answered(question->context, err, answer);
    free(question);
}

static void hosts_came(void *context, int status, int timeouts, struct ares_addrinfo *found)
{
    struct question *question = context;
    struct dns_records records = {0};
    struct dns_answer *answer = NULL;
    int err =
        status == ARES_ENOMEM ? -ENOMEM : 0; /* else it is there or not, whatever status says */

    (void)timeouts;
    for (const struct ares_addrinfo_node *node = found ? found->nodes : NULL; node;
         node = node->ai_next) {
        struct dns_record record = {.family = node->ai_family};

        if (node->ai_family == AF_INET)
            record.in = ((const struct sockaddr_in *)(const void *)node->ai_addr)->sin_addr;
        else
            record.in6 = ((const struct sockaddr_in6 *)(const void *)node->ai_addr)->sin6_addr;
        dns_records_add(&records, &record);
    }
    if (!err)
        err = dns_records_answer(&records, HOSTS_TTL_S, &answer);
    if (found)
        ares_freeaddrinfo(found);
    question->answered(question->context, err, answer);
    free(question);
}

void dns_ask(struct dns *dns, enum dns_type type, const char *name, dns_answered answered,
             void *context)
{
    static const struct ares_addrinfo_hints both = {.ai_flags = ARES_AI_NOSORT,
                                                    .ai_family = AF_UNSPEC};
    struct question *question = malloc(sizeof(*question));
    int err = question ? channel_ready(dns) : -ENOMEM;

    if (err) {
        free(question);
        answered(context, err, NULL);
        return;
    }
    *question = (struct question){.type = type, .answered = answered, .context = context};
    if (type == DNS_HOSTS)
        ares_getaddrinfo(dns->channel, name, NULL, &both, hosts_came, question);
    else
        ares_query(dns->channel, name, ns_c_in, dns_rr_type(type), dns_came, question);
    timer_set(dns);
}

unsigned dns_candidates(struct dns *dns, const char *name,
                        char out[DNS_CANDIDATES_MAX][DNS_NAME_SIZE])
{
    size_t len = strlen(name);
    unsigned dots = 0, count = 0;

    (void)channel_ready(dns); /* else those of before */
    for (size_t i = 0; i < len; i++)
        dots += name[i] == '.';
    if (dots >= dns->ndots)
        snprintf(out[count++], DNS_NAME_SIZE, "%s", name);
    for (unsigned i = 0; i < dns->domain_count && len && name[len - 1] != '.'; i++)
        if (snprintf(out[count], DNS_NAME_SIZE, "%s.%s", name, dns->domains[i]) < DNS_NAME_SIZE)
            count++;
    if (dots < dns->ndots)
        snprintf(out[count++], DNS_NAME_SIZE, "%s", name);
    return count;
}

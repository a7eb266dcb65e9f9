#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "proxy/text.h"
#include "proxy/transaction_internal.h"
#include "proxy/value.h"

enum server_state {
    SERVER_PROCEEDING, /* and Trying: the request came, a provisional may have been sent */
    SERVER_COMPLETED,  /* final was sent; to INVITE: a non-2xx */
    SERVER_CONFIRMED,  /* its ACK came */
    SERVER_ACCEPTED,   /* 2xx to INVITE (RFC 6026) */
    SERVER_TERMINATED,
};

enum {
    TAG_SIZE = 17,
    CHAINS_MIN = 64,
    SERVER_POOLED = 1536, /* what is kept of an ordinary request fits in */
};

struct server_transaction {
    struct server_transaction *chain; /* the next one of its hash, or so */
    struct str key;
    uint64_t hash; /* of that */
    struct transactions *table;
    struct hop from;
    const struct transaction_user *user;
    void *owner;
    struct server_transaction *prev, *next, **kept; /* kept: that list's head; NULL: it is open */
    uint64_t ends;                                  /* J */

    enum server_state state;
    int status;
    struct timer retransmit; /* G */
    struct timer end;        /* H, I or L, and J where it is zero */
    uint32_t interval;
    struct kept_text last; /* response, to be sent again; p NULL: none, or not needed */
    char tag[TAG_SIZE];

    /* Of the request, for responses of our own. */
    enum sip_method method;
    bool rfc2543;
    bool pooled;
    uint32_t cseq;
    struct str method_name, to_tag;
    unsigned header_count;
    struct sip_header headers[]; /* then the bytes of all of them, and the key */
};

/* ---- the key ---- */

static const struct str cookie = {"z9hG4bK", 7};

/* Nothing after the cookie is no identifier either (RFC 4475 3.2.1). */
static bool is_rfc2543(const struct sip_msg *request)
{
    struct str branch = request->top_branch;

    return branch.len <= cookie.len || !str_eq_nocase((struct str){branch.p, cookie.len}, cookie);
}

/* No part has a NUL in it (V4), so it keeps them apart. */
static void key_add(struct buf *key, struct str part)
{
    buf_add(key, part);
    buf_add(key, (struct str){"", 1});
}

static void key_add_lower(struct buf *key, struct str part)
{
    size_t begin = key->len;

    key_add(key, part);
    if (key->overflow)
        return;
    for (char *c = key->p + begin; c < key->p + key->len; c++)
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c + ('a' - 'A'));
}

static void key_add_bytes(struct buf *key, const void *bytes, size_t len)
{
    buf_add(key, (struct str){bytes, len});
}

/* The same hops that hop_same_host() holds for equal. */
static void key_add_hop(struct buf *key, const struct hop *from)
{
    bool ip = !from->flow && core_addr_is_ip(&from->core);
    unsigned char kind = from->flow ? 0xff : ip ? CORE_UDP : (unsigned char)from->core.kind;

    key_add_bytes(key, &kind, sizeof(kind));
    if (from->flow) {
        uintptr_t flow = (uintptr_t)from->flow;

        key_add_bytes(key, &flow, sizeof(flow));
    } else if (ip) {
        sa_family_t family = from->core.sa.sa_family;

        key_add_bytes(key, &family, sizeof(family));
        if (family == AF_INET)
            key_add_bytes(key, &from->core.in.sin_addr, sizeof(from->core.in.sin_addr));
        else
            key_add_bytes(key, &from->core.in6.sin6_addr, sizeof(from->core.in6.sin6_addr));
    }
}

/* RFC 3261 17.2.3. Of the top Via only what R1 leaves alone. To tags are compared in find(). */
static struct str key_print(struct transactions *transactions, const struct sip_msg *request,
                            struct str method, const struct hop *from)
{
    struct buf *key = &transactions->key;

    buf_reset(key);
    key_add_hop(key, from);
    key_add(key, method);
    key_add_lower(key, request->top_via.sent_by);
    key_add(key, request->top_branch);
    if (is_rfc2543(request)) {
        key_add(key, request->uri);
        key_add(key, request->from_tag);
        key_add(key, request->call_id);
        key_add_bytes(key, &request->cseq, sizeof(request->cseq));
    }
    return buf_str(key);
}

/* ---- finding ---- */

int server_transactions_create(struct transactions *transactions)
{
    transactions->server_pool.size = SERVER_POOLED;
    /* NOLINTNEXTLINE(bugprone-sizeof-expression): of a pointer, and so it should be */
    transactions->servers = calloc(CHAINS_MIN, sizeof(transactions->servers[0]));
    transactions->server_chains = transactions->servers ? CHAINS_MIN : 0;
    return transactions->servers ? 0 : -ENOMEM;
}

static struct server_transaction **chain_of(const struct transactions *transactions, uint64_t hash)
{
    return &transactions->servers[hash & (transactions->server_chains - 1)];
}

/* Twice as many chains. Without memory for them they get longer. */
static void chains_grow(struct transactions *transactions)
{
    struct server_transaction **before = transactions->servers, *server;
    size_t count = transactions->server_chains;
    /* NOLINTNEXTLINE(bugprone-sizeof-expression): of a pointer, and so it should be */
    struct server_transaction **chains = calloc(2 * count, sizeof(chains[0]));

    if (!chains)
        return;
    transactions->servers = chains;
    transactions->server_chains = 2 * count;
    for (size_t i = 0; i < count; i++)
        while ((server = before[i])) {
            struct server_transaction **chain = chain_of(transactions, server->hash);

            before[i] = server->chain;
            server->chain = *chain;
            *chain = server;
        }
    free(before);
}

static void attach(struct server_transaction *server)
{
    struct transactions *transactions = server->table;
    struct server_transaction **chain;

    if (transactions->server_count == transactions->server_chains)
        chains_grow(transactions);
    chain = chain_of(transactions, server->hash);
    server->chain = *chain;
    *chain = server;
    transactions->server_count++;
}

/* The ACK of an RFC 2543 peer has the To tag of the response it is for. What is no longer known is
 * no reason to turn it down. */
static bool acks_last(struct server_transaction *server, struct str to_tag)
{
    struct transactions *transactions = server->table;
    struct buf *copy = &transactions->out;
    bool acks = true;

    buf_reset(copy);
    buf_add(copy, (struct str){server->last.p, server->last.len});
    if (server->last.p && !copy->overflow &&
        !sip_scan(copy->p, copy->len, SIP_DATAGRAM, true, &transactions->msg))
        acks = str_eq(transactions->msg.to_tag, to_tag);
    return acks;
}

/* The transaction of method `method` that the request has to do with. */
static struct server_transaction *find(struct transactions *transactions,
                                       const struct sip_msg *request, struct str method,
                                       const struct hop *from)
{
    struct str key = key_print(transactions, request, method, from);
    uint64_t hash = transactions_hash(transactions, key);
    struct server_transaction *server = *chain_of(transactions, hash);

    transactions->key_hash = hash;
    transactions->key_is_new = false;
    while (server && (server->hash != hash || !str_eq(server->key, key)))
        server = server->chain;
    if (!server || !server->rfc2543)
        return server;
    if (request->method == SIP_ACK)
        return acks_last(server, request->to_tag) ? server : NULL;
    return str_eq(server->to_tag, request->to_tag) ? server : NULL;
}

struct server_transaction *transactions_cancelled(struct transactions *transactions,
                                                  const struct sip_msg *cancel,
                                                  const struct hop *from)
{
    return find(transactions, cancel, STR("INVITE"), from);
}

/* ---- life ---- */

static void last_forget(struct server_transaction *server)
{
    text_forget(server->table, &server->last);
}

static void kept_leave(struct server_transaction *server)
{
    struct transactions *transactions = server->table;

    if (server->kept)
        DL_DELETE(*server->kept, server);
    server->kept = NULL;
    if (!transactions->kept_servers[KEPT_OTHERS])
        timer_stop(transactions->options.timers, &transactions->servers_end);
}

static void kept_enter(struct server_transaction *server, enum kept_kind kind)
{
    kept_leave(server);
    server->kept = &server->table->kept_servers[kind];
    DL_APPEND(*server->kept, server);
}

/* Out of the table, so that nothing finds it any more. */
static void detach(struct server_transaction *server)
{
    struct transactions *transactions = server->table;
    struct server_transaction **chain = chain_of(transactions, server->hash);

    timer_stop(transactions->options.timers, &server->retransmit);
    timer_stop(transactions->options.timers, &server->end);
    kept_leave(server);
    while (*chain != server)
        chain = &(*chain)->chain;
    *chain = server->chain;
    transactions->server_count--;
    server->state = SERVER_TERMINATED;
}

static void server_free(struct server_transaction *server)
{
    last_forget(server);
    if (server->pooled)
        pool_give(&server->table->server_pool, server);
    else
        free(server);
}

void server_transaction_drop(struct server_transaction *server)
{
    if (server->state == SERVER_TERMINATED)
        return; /* inside its own server_ended() */
    detach(server);
    server_free(server);
}

void server_transactions_destroy(struct transactions *transactions)
{
    for (size_t i = 0; i < transactions->server_chains; i++)
        while (transactions->servers[i]) /* each goes out of its chain */
            /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it can't follow detach() */
            server_transaction_drop(transactions->servers[i]);
    free(transactions->servers);
    pool_clear(&transactions->server_pool);
}

static void finish(struct server_transaction *server, uint64_t now)
{
    detach(server);
    server->user->server_ended(server->owner, server, now);
    server_free(server);
}

static void end_fire(struct timer *timer, uint64_t now)
{
    finish(CONTAINER_OF(timer, struct server_transaction, end), now);
}

static void servers_end_fire(struct timer *timer, uint64_t now)
{
    struct transactions *transactions = CONTAINER_OF(timer, struct transactions, servers_end);
    struct server_transaction *first;

    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it can't follow detach() */
    while ((first = transactions->kept_servers[KEPT_OTHERS]) && first->ends <= now)
        finish(first, now);
    if (first)
        timer_start(transactions->options.timers, timer, first->ends + TIMER_SLACK_MS,
                    servers_end_fire);
}

/* J is the same for all, and so they end in their order, by one timer. Those among them that wait
 * for I, or for nothing, have their own, and end before those behind them. */
static void absorb_until_j(struct server_transaction *server, uint64_t now)
{
    struct transactions *transactions = server->table;

    server->ends = now + TIMER_64_T1_MS;
    if (!timer_running(&transactions->servers_end))
        timer_start(transactions->options.timers, &transactions->servers_end,
                    server->ends + TIMER_SLACK_MS, servers_end_fire);
}

/* Make room for one more. false: there is none. */
static bool make_room(struct transactions *transactions, uint64_t now)
{
    struct server_transaction *oldest = transactions->kept_servers[KEPT_OTHERS];

    if (transactions->server_count < transactions->options.max)
        return true;
    if (!oldest)
        oldest = transactions->kept_servers[KEPT_INVITES];
    if (!oldest)
        return false;
    transactions->given_up++;
    finish(oldest, now);
    return true;
}

static void end_after(struct server_transaction *server, uint64_t now, uint64_t delay)
{
    server->ends = now + delay;
    timer_start(server->table->options.timers, &server->end, server->ends, end_fire);
}

/* The headers that responses repeat (RFC 3261 8.2.6): all Vias, of others the first. Their count.
 */
static unsigned echoed_find(const struct sip_msg *request, uint8_t echoed[SIP_HEADERS_MAX])
{
    static const uint64_t single = 1U << HEADER_FROM | 1U << HEADER_TO | 1U << HEADER_CALL_ID |
                                   1U << HEADER_CSEQ | 1U << HEADER_TIMESTAMP;
    uint64_t wanted = single | 1U << HEADER_VIA;
    unsigned count = 0;

    for (unsigned i = 0; i < request->header_count; i++) {
        enum header_id id = request->headers[i].id;

        if (id >= HEADER_ID_COUNT || !(wanted >> id & 1))
            continue;
        echoed[count++] = (uint8_t)i;
        wanted &= ~(single & UINT64_C(1) << id);
    }
    return count;
}

static struct str copy_to(char **at, struct str s)
{
    struct str copy = {*at, s.len};

    if (!s.p)
        return s; /* no To tag stays no To tag */
    memcpy(*at, s.p, s.len);
    *at += s.len;
    return copy;
}

/* One block: the struct, the headers, their bytes, and the key last. */
static struct server_transaction *server_copy(struct transactions *transactions,
                                              const struct sip_msg *request, struct str key)
{
    size_t bytes = request->method_name.len + request->to_tag.len + key.len, size;
    struct server_transaction *server;
    uint8_t echoed[SIP_HEADERS_MAX];
    unsigned count = echoed_find(request, echoed);
    char *at;

    for (unsigned i = 0; i < count; i++)
        bytes += request->headers[echoed[i]].value.len;
    size = sizeof(*server) + count * sizeof(server->headers[0]) + bytes;
    server = size <= SERVER_POOLED ? pool_take(&transactions->server_pool) : malloc(size);
    if (!server)
        return NULL;

    memset(server, 0, sizeof(*server));
    server->table = transactions;
    server->pooled = size <= SERVER_POOLED;
    at = (char *)&server->headers[count];
    server->method = request->method;
    server->rfc2543 = is_rfc2543(request);
    server->cseq = request->cseq;
    server->method_name = copy_to(&at, request->method_name);
    server->to_tag = copy_to(&at, request->to_tag);
    server->header_count = count;
    for (unsigned i = 0; i < count; i++) {
        const struct sip_header *header = &request->headers[echoed[i]];

        server->headers[i] = (struct sip_header){header->id, header_name(header->id),
                                                 copy_to(&at, header->value), 0, header->repair};
    }
    server->key = copy_to(&at, key);
    return server;
}

int server_transaction_create(struct transactions *transactions, const struct sip_msg *request,
                              const struct hop *from, const struct transaction_user *user,
                              void *owner, uint64_t now, struct server_transaction **out)
{
    struct server_transaction *server;

    if (!make_room(transactions, now))
        return -ENOSPC;
    if (!transactions->key_is_new) /* a CANCEL's INVITE was looked for meanwhile */
        (void)find(transactions, request, request->method_name, from);
    transactions->key_is_new = false;
    assert(transactions_hash(transactions, key_print(transactions, request, request->method_name,
                                                     from)) == transactions->key_hash);
    server = server_copy(transactions, request, buf_str(&transactions->key));
    if (!server)
        return -ENOMEM;
    server->hash = transactions->key_hash;
    server->from = *from;
    server->user = user;
    server->owner = owner;
    attach(server);
    *out = server;
    return 0;
}

/* ---- responses ---- */

/* What gets lost is asked for again, or sent again until ACK. Without memory for the copy the peer
 * has to live with the one that was sent. */
static void last_keep(struct server_transaction *server, struct str response)
{
    last_forget(server);
    if (hop_unreliable(&server->from))
        (void)text_keep(server->table, response, &server->last);
}

/* A response that can't be sent changes nothing: either the flow is gone, and whoever closes it
 * drops this transaction too (T6), or the peer asks again. */
static void server_send(struct server_transaction *server, struct str response)
{
    if (response.len)
        (void)hop_send(server->table, &server->from, response);
}

static void last_send_again(struct server_transaction *server)
{
    if (server->last.len)
        (void)hop_send_again(server->table, &server->from,
                             (struct str){server->last.p, server->last.len});
}

static void retransmit_fire(struct timer *timer, uint64_t now)
{
    struct server_transaction *server = CONTAINER_OF(timer, struct server_transaction, retransmit);

    last_send_again(server);
    server->interval = 2 * server->interval < TIMER_T2_MS ? 2 * server->interval : TIMER_T2_MS;
    timer_start(server->table->options.timers, timer, now + server->interval, retransmit_fire);
}

static void final_sent(struct server_transaction *server, uint64_t now)
{
    kept_enter(server, server->method == SIP_INVITE ? KEPT_INVITES : KEPT_OTHERS);
    if (server->method != SIP_INVITE) {
        server->state = SERVER_COMPLETED;
        if (hop_unreliable(&server->from))
            absorb_until_j(server, now);
        else
            end_after(server, now, 0);
    } else if (server->status < 300) {
        server->state = SERVER_ACCEPTED;
        last_forget(server); /* the UAS core beyond sends 2xx again, not this layer */
        end_after(server, now, TIMER_64_T1_MS); /* L, on reliable transports too (RFC 6026 8.7) */
    } else {
        server->state = SERVER_COMPLETED;
        end_after(server, now, TIMER_64_T1_MS); /* H */
        if (hop_unreliable(&server->from)) {
            server->interval = TIMER_T1_MS;
            timer_start(server->table->options.timers, &server->retransmit, now + TIMER_T1_MS,
                        retransmit_fire); /* G */
        }
    }
}

void server_transaction_send(struct server_transaction *server, int status, struct str response,
                             uint64_t now)
{
    bool more_2xx = server->state == SERVER_ACCEPTED && status >= 200 && status < 300;

    if (server->state != SERVER_PROCEEDING && !more_2xx)
        return;
    server->status = status;
    server_send(server, response);
    if (more_2xx)
        return;
    last_keep(server, response);
    if (status >= 200)
        final_sent(server, now);
}

void server_transaction_reply(struct server_transaction *server, int status, const char *reason,
                              struct str extra, uint64_t now)
{
    struct transactions *transactions = server->table;
    struct sip_msg *request = &transactions->msg;
    struct buf *out = &transactions->out;

    if (server->state != SERVER_PROCEEDING)
        return;
    if (!server->tag[0])
        number_hex(server->tag, TAG_SIZE - 1, transactions_random(transactions));

    memset(request, 0, offsetof(struct sip_msg, headers));
    request->is_request = true;
    request->method = server->method;
    request->method_name = server->method_name;
    request->to_tag = server->to_tag;
    request->cseq = server->cseq;
    sip_headers_set(request, server->headers, server->header_count);
    buf_reset(out);
    sip_response(request, status, reason, str_of(server->tag), extra, out);
    if (!out->overflow)
        server_transaction_send(server, status, buf_str(out), now);
}

static struct str header_kept(const struct server_transaction *server, enum header_id id)
{
    for (unsigned i = 0; i < server->header_count; i++)
        if (server->headers[i].id == id)
            return server->headers[i].value;
    return (struct str){NULL, 0};
}

/* The rest of a Via may come back in another spelling, the branch may not. */
static bool branch_same(struct str one, struct str two)
{
    struct str branch1 = {NULL, 0}, branch2 = {NULL, 0};
    struct text_via a, b;

    if (str_eq(one, two))
        return true;
    if (!text_via_cut(one, &a) || !text_via_cut(two, &b))
        return false;
    (void)sip_param(a.params, STR("branch"), &branch1);
    (void)sip_param(b.params, STR("branch"), &branch2);
    return str_eq(branch1, branch2);
}

bool server_transaction_answered_by(const struct server_transaction *server,
                                    const struct sip_msg *response)
{
    return response->cseq == server->cseq && str_eq(response->method_name, server->method_name) &&
           str_eq(response->call_id, header_kept(server, HEADER_CALL_ID)) &&
           branch_same(sip_value(response, HEADER_VIA), header_kept(server, HEADER_VIA));
}

void *server_transaction_owner(const struct server_transaction *server)
{
    return server->owner;
}

int server_transaction_status(const struct server_transaction *server)
{
    return server->status;
}

/* ---- requests that came before ---- */

static bool absorb_ack(struct server_transaction *server, uint64_t now)
{
    if (server->state == SERVER_ACCEPTED)
        return false; /* it goes end to end (T3) */
    if (server->state == SERVER_COMPLETED) {
        server->state = SERVER_CONFIRMED;
        kept_enter(server, KEPT_OTHERS);
        timer_stop(server->table->options.timers, &server->retransmit);
        last_forget(server);
        end_after(server, now, hop_unreliable(&server->from) ? TIMER_T4_MS : 0); /* I */
    } else {
        server->table->repeated.received[hop_side(&server->from)]++;
    }
    return true;
}

bool transactions_absorb(struct transactions *transactions, const struct sip_msg *request,
                         const struct hop *from, uint64_t now)
{
    bool ack = request->method == SIP_ACK;
    struct str method = ack ? STR("INVITE") : request->method_name;
    struct server_transaction *server = find(transactions, request, method, from);

    if (!server) {
        transactions->key_is_new = !ack;
        return false;
    }
    if (ack)
        return absorb_ack(server, now);
    transactions->repeated.received[hop_side(from)]++;
    last_send_again(server);
    return true;
}

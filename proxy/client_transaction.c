#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "proxy/transaction_internal.h"

/* The CANCEL for an INVITE is a client transaction of its own with the same branch (RFC 3261 9.1).
 * It shares the INVITE's timers, which have no other use while it runs. */
enum cancel_state {
    CANCEL_NONE,
    CANCEL_WANTED, /* no provisional came yet: it has to wait (T4) */
    CANCEL_SENT,
    CANCEL_DONE, /* answered */
};

struct client_transaction {
    /* First what is read of it when it ends, seconds after its response: by then it has left the
     * cache. */
    struct client_transaction *prev, *next, **kept; /* kept: that list's head; NULL: it is open */
    uint64_t ends;                                  /* K */
    struct transactions *table;
    const struct transaction_user *user; /* NULL: it was left */
    void *owner;
    struct client_group *group; /* NULL: in none */
    struct client_transaction *group_prev, *group_next;
    uint32_t slot;
    bool bare; /* it only absorbs: it has no timer of its own, and keeps nothing of its request */
    bool sent;
    bool given_up;        /* its user waits for nothing any more: no loss ends it before its time */
    bool ending, dropped; /* inside its last callbacks; and dropped there */
    enum client_state state;

    enum sip_method method;
    enum cancel_state cancel;
    uint64_t branch; /* hash of all of it */
    struct hop to;
    int failure; /* to be reported by the timer `end`; 0: none */

    struct timer retransmit; /* A or E, of the request or its CANCEL */
    struct timer end;        /* B, D, F, K or M; 64*T1 after CANCEL; or at once for a failure */
    uint32_t interval;
    struct kept_text request;  /* to send again, and to make ACK and CANCEL of */
    size_t head;               /* start line and headers of it */
    struct str cancel_headers; /* lines of the user's for the CANCEL */
};

/* ---- slots ---- */

static int slots_grow(struct transactions *transactions)
{
    size_t max = transactions->options.max;
    size_t count = transactions->slot_count ? 2 * (size_t)transactions->slot_count : 64;
    struct client_slot *slots;

    if (max > CLIENT_SLOTS_MAX)
        max = CLIENT_SLOTS_MAX;
    if (count > max)
        count = max;
    if (count <= transactions->slot_count)
        return -ENOSPC;
    slots = realloc(transactions->slots, count * sizeof(*slots));
    if (!slots)
        return -ENOMEM;
    transactions->slots = slots;
    for (uint32_t i = transactions->slot_count; i < count; i++)
        slots[i] = (struct client_slot){
            .generation = (uint32_t)transactions_random(transactions),
            .next_free = i + 1 < count ? i + 1 : NO_SLOT,
        };
    transactions->first_free = transactions->slot_count;
    transactions->slot_count = (uint32_t)count;
    return 0;
}

static bool make_room(struct transactions *transactions, uint64_t now);

void client_transactions_create(struct transactions *transactions)
{
    transactions->client_pool.size = sizeof(struct client_transaction);
    transactions->first_free = NO_SLOT;
}

int client_transaction_create(struct transactions *transactions, const struct hop *to,
                              const struct transaction_user *user, void *owner, uint64_t now,
                              struct client_transaction **out)
{
    struct client_transaction *client;
    struct client_slot *slot;

    if (!make_room(transactions, now))
        return -ENOSPC;
    if (transactions->first_free == NO_SLOT) {
        int err = slots_grow(transactions);
        if (err)
            return err;
    }
    client = pool_take(&transactions->client_pool);
    if (!client)
        return -ENOMEM;
    memset(client, 0, sizeof(*client));
    client->table = transactions;
    client->to = *to;
    client->user = user;
    client->owner = owner;
    client->slot = transactions->first_free;

    slot = &transactions->slots[client->slot];
    transactions->first_free = slot->next_free;
    slot->client = client;
    transactions->client_count++;
    *out = client;
    return 0;
}

void client_transaction_id(const struct client_transaction *client, char id[TRANSACTION_ID_SIZE])
{
    const struct transactions *transactions = client->table;

    number_hex(id, 2, transactions->options.worker);
    number_hex(id + 2, 6, client->slot);
    number_hex(id + 8, 8, transactions->slots[client->slot].generation);
    id[TRANSACTION_ID_SIZE - 1] = '\0';
}

/* Lower case, as printed: a branch is handed back unchanged. */
static bool read_hex(struct str text, uint32_t *out)
{
    uint32_t n = 0;

    for (size_t i = 0; i < text.len; i++) {
        char c = text.p[i];
        if (c >= '0' && c <= '9')
            n = n << 4 | (uint32_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            n = n << 4 | (uint32_t)(c - 'a' + 10);
        else
            return false;
    }
    *out = n;
    return true;
}

/* The transaction that a branch of ours names; NULL: none, or no longer. */
static struct client_transaction *find(const struct transactions *transactions, struct str branch)
{
    static const struct str cookie = {"z9hG4bK", 7};
    uint32_t worker, slot, generation;
    const char *id;

    if (branch.len < cookie.len + TRANSACTION_ID_SIZE ||
        !str_eq_nocase((struct str){branch.p, cookie.len}, cookie))
        return NULL;
    id = branch.p + cookie.len;
    if (id[TRANSACTION_ID_SIZE - 1] != '.')
        return NULL;
    if (!read_hex((struct str){id, 2}, &worker) || !read_hex((struct str){id + 2, 6}, &slot) ||
        !read_hex((struct str){id + 8, 8}, &generation))
        return NULL;
    if (worker != transactions->options.worker || slot >= transactions->slot_count ||
        generation != transactions->slots[slot].generation)
        return NULL;
    return transactions->slots[slot].client;
}

static void request_forget(struct client_transaction *client)
{
    text_forget(client->table, &client->request);
}

static void kept_leave(struct client_transaction *client)
{
    struct transactions *transactions = client->table;

    if (client->kept)
        DL_DELETE(*client->kept, client);
    client->kept = NULL;
    if (!transactions->kept_clients[KEPT_OTHERS])
        timer_stop(transactions->options.timers, &transactions->clients_end);
}

static void kept_enter(struct client_transaction *client, enum kept_kind kind)
{
    client->kept = &client->table->kept_clients[kind];
    DL_APPEND(*client->kept, client);
}

/* All that one needs which may yet send something. */
static void parts_release(struct client_transaction *client)
{
    timer_stop(client->table->options.timers, &client->retransmit);
    timer_stop(client->table->options.timers, &client->end);
    request_forget(client);
    free((char *)client->cancel_headers.p);
}

static void group_leave(struct client_transaction *client)
{
    struct client_group *group = client->group;

    client->table->left_count--;
    if (!group)
        return;
    *(client->group_prev ? &client->group_prev->group_next : &group->first) = client->group_next;
    *(client->group_next ? &client->group_next->group_prev : &group->last) = client->group_prev;
    group->count--;
}

/* No list of utlist.h: those look at the first one to find the last, and it has left the cache. */
static void group_enter(struct client_transaction *client, struct client_group *group)
{
    client->group = group;
    client->group_prev = group->last;
    *(group->last ? &group->last->group_next : &group->first) = client;
    group->last = client;
    group->count++;
}

static void client_free(struct client_transaction *client)
{
    struct transactions *transactions = client->table;
    struct client_slot *slot = &transactions->slots[client->slot];

    if (!client->bare)
        parts_release(client);
    if (!client->user)
        group_leave(client);
    kept_leave(client);
    slot->client = NULL;
    slot->generation++;
    slot->next_free = transactions->first_free;
    transactions->first_free = client->slot;
    transactions->client_count--;
    pool_give(&transactions->client_pool, client);
}

void client_transaction_drop(struct client_transaction *client)
{
    if (client->ending)
        client->dropped = true; /* end_fire() frees it */
    else
        client_free(client);
}

bool client_transaction_leave(struct client_transaction *client, struct client_group *group)
{
    if (!client->bare || client->ending)
        return false;
    client->user = NULL;
    client->table->left_count++;
    if (group)
        group_enter(client, group);
    return true;
}

void client_group_forget(struct client_group *group)
{
    for (struct client_transaction *client = group->first; client; client = client->group_next)
        client->group = NULL;
    *group = (struct client_group){NULL, NULL, 0};
}

void client_transactions_destroy(struct transactions *transactions)
{
    for (uint32_t i = 0; i < transactions->slot_count; i++)
        if (transactions->slots[i].client)
            client_free(transactions->slots[i].client);
    free(transactions->slots);
    pool_clear(&transactions->client_pool);
}

enum client_state client_transaction_state(const struct client_transaction *client)
{
    return client->state;
}

const struct hop *client_transaction_hop(const struct client_transaction *client)
{
    return &client->to;
}

/* ---- the end ---- */

static void finish(struct client_transaction *client, uint64_t now)
{
    kept_leave(client); /* no room is made of it while its user is told */
    client->ending = true;
    if (client->state == CLIENT_CALLING || client->state == CLIENT_PROCEEDING) {
        timer_stop(client->table->options.timers, &client->retransmit);
        client->user->client_failed(client->owner, client,
                                    client->failure ? client->failure : -ETIMEDOUT, now);
    }
    if (!client->ending)
        return; /* it was given up, and goes on */
    if (!client->dropped && client->user)
        client->user->client_ended(client->owner, client, now);
    client_free(client);
}

static void end_fire(struct timer *timer, uint64_t now)
{
    finish(CONTAINER_OF(timer, struct client_transaction, end), now);
}

static void clients_end_fire(struct timer *timer, uint64_t now)
{
    struct transactions *transactions = CONTAINER_OF(timer, struct transactions, clients_end);
    struct client_transaction *first;

    while ((first = transactions->kept_clients[KEPT_OTHERS]) && first->ends <= now)
        finish(first, now);
    if (first)
        timer_start(transactions->options.timers, timer, first->ends + TIMER_SLACK_MS,
                    clients_end_fire);
}

/* K is the same for all, and so they end in their order, by one timer. Where it is zero each has
 * its own, and ends before those behind it. */
static void absorb_until_k(struct client_transaction *client, uint64_t now)
{
    struct transactions *transactions = client->table;

    client->ends = now + TIMER_T4_MS;
    parts_release(client);
    client->bare = true;
    if (!timer_running(&transactions->clients_end))
        timer_start(transactions->options.timers, &transactions->clients_end,
                    client->ends + TIMER_SLACK_MS, clients_end_fire);
}

/* Make room for one more. false: there is none. */
static bool make_room(struct transactions *transactions, uint64_t now)
{
    struct client_transaction *oldest = transactions->kept_clients[KEPT_OTHERS];

    if (transactions->client_count < transactions->options.max)
        return true;
    if (!oldest)
        oldest = transactions->kept_clients[KEPT_INVITES];
    if (!oldest)
        return false;
    transactions->given_up++;
    finish(oldest, now);
    return true;
}

static void end_after(struct client_transaction *client, uint64_t now, uint64_t delay)
{
    timer_start(client->table->options.timers, &client->end, now + delay, end_fire);
}

static void fail(struct client_transaction *client, int err, uint64_t now)
{
    client->failure = err;
    timer_stop(client->table->options.timers, &client->retransmit);
    end_after(client, now, 0);
}

/* ---- ACK and CANCEL, made from the request that was sent ---- */

/* Cut the next line off what sip_print() made. false: the headers are over. */
static bool line_next(struct str *rest, struct str *line)
{
    const char *end = memmem(rest->p, rest->len, "\r\n", 2);

    if (!end || end == rest->p)
        return false;
    *line = (struct str){rest->p, (size_t)(end - rest->p)};
    rest->len -= line->len + 2;
    rest->p = end + 2;
    return true;
}

static struct str header_cut(struct str line, enum header_id *id)
{
    const char *colon = memchr(line.p, ':', line.len);
    size_t name = colon ? (size_t)(colon - line.p) : line.len;
    size_t value = colon ? name + 1 : line.len;

    header_canonical(str_trim((struct str){line.p, name}), id);
    return str_trim((struct str){line.p + value, line.len - value});
}

/* "INVITE sip:bob@example.com SIP/2.0" */
static struct str request_uri(struct str line)
{
    const char *begin = memchr(line.p, ' ', line.len);
    const char *end = memrchr(line.p, ' ', line.len);

    if (!begin || end <= begin)
        return (struct str){line.p, 0};
    return (struct str){begin + 1, (size_t)(end - begin - 1)};
}

static struct str digits(struct str s)
{
    size_t len = 0;

    while (len < s.len && s.p[len] >= '0' && s.p[len] <= '9')
        len++;
    return (struct str){s.p, len};
}

/* A request of the same hop (RFC 3261 9.1, 17.1.1.3): the INVITE's Request-URI, top Via, Route,
 * From, Call-ID, CSeq number and Max-Forwards. `to`: the response's; p NULL: the INVITE's. */
static struct str hop_request(const struct client_transaction *client, const char *method,
                              struct str to, struct str extra)
{
    struct buf *out = &client->table->out;
    struct str rest = {client->request.p, client->head}, line;
    bool via = false;

    buf_reset(out);
    if (!line_next(&rest, &line))
        return (struct str){NULL, 0};
    buf_printf(out, "%s " STR_FMT " SIP/2.0\r\n", method, STR_ARG(request_uri(line)));
    while (line_next(&rest, &line)) {
        enum header_id id = HEADER_OTHER;
        struct str value = header_cut(line, &id);

        if (id == HEADER_VIA && via)
            continue;
        via |= id == HEADER_VIA;
        if (id == HEADER_CSEQ)
            buf_printf(out, "CSeq: " STR_FMT " %s\r\n", STR_ARG(digits(value)), method);
        else if (id == HEADER_TO && to.p)
            buf_printf(out, "To: " STR_FMT "\r\n", STR_ARG(to));
        else if (id == HEADER_VIA || id == HEADER_ROUTE || id == HEADER_FROM || id == HEADER_TO ||
                 id == HEADER_CALL_ID || id == HEADER_MAX_FORWARDS)
            buf_printf(out, STR_FMT "\r\n", STR_ARG(line));
    }
    buf_add(out, extra);
    buf_add(out, STR("Content-Length: 0\r\n\r\n"));
    return out->overflow ? (struct str){NULL, 0} : buf_str(out);
}

/* Neither reports a send error: the INVITE has its answer, or the time it may take ends it. */
static void hop_request_send(const struct client_transaction *client, struct str bytes)
{
    if (bytes.p)
        (void)hop_send(client->table, &client->to, bytes);
}

static void ack_send(const struct client_transaction *client, const struct sip_msg *response)
{
    struct str to = sip_value(response, HEADER_TO);

    hop_request_send(client, hop_request(client, "ACK", to, STR("")));
}

static void cancel_send(const struct client_transaction *client)
{
    hop_request_send(client,
                     hop_request(client, "CANCEL", (struct str){NULL, 0}, client->cancel_headers));
}

/* ---- sending ---- */

static void retransmit_fire(struct timer *timer, uint64_t now)
{
    struct client_transaction *client = CONTAINER_OF(timer, struct client_transaction, retransmit);
    bool calling = client->method == SIP_INVITE && client->cancel != CANCEL_SENT;

    if (client->cancel == CANCEL_SENT) {
        client->table->repeated.sent[hop_side(&client->to)]++;
        cancel_send(client);
    } else {
        struct str request = {client->request.p, client->request.len};
        int err = hop_send_again(client->table, &client->to, request);
        if (err) {
            fail(client, err, now);
            return;
        }
    }
    client->interval *= 2;
    if (!calling && client->interval > TIMER_T2_MS) /* E has a limit, A has none */
        client->interval = TIMER_T2_MS;
    timer_start(client->table->options.timers, timer, now + client->interval, retransmit_fire);
}

static void retransmit_start(struct client_transaction *client, uint64_t now)
{
    if (!hop_unreliable(&client->to))
        return;
    client->interval = TIMER_T1_MS;
    timer_start(client->table->options.timers, &client->retransmit, now + client->interval,
                retransmit_fire);
}

/* It may yet be sent again: by timers A and E, or by UDP in the place of TCP. */
static bool may_repeat(const struct client_transaction *client)
{
    return hop_unreliable(&client->to) || client->to.core.or_udp;
}

/* The whole message where it may have to be sent again, its head where ACK and CANCEL may have to
 * be made of it, else nothing. */
static int request_keep(struct client_transaction *client, const struct client_request *request)
{
    bool repeat = may_repeat(client), invite = client->method == SIP_INVITE;
    struct str kept = request->bytes;

    if (!repeat && !invite)
        return 0;
    client->head = kept.len - request->body_len;
    if (!repeat)
        kept.len = client->head;
    return text_keep(client->table, kept, &client->request);
}

/* Our Via is the first one that sip_print() prints, and no value has a line end in it. */
static const struct str first_via = {"\r\nVia: SIP/2.0/", 15};

static void via_says_udp(struct client_transaction *client)
{
    static const char udp[] = {'U', 'D', 'P'};
    char *via = memmem(client->request.p, client->head, first_via.p, first_via.len);

    if (via)
        memcpy(via + first_via.len, udp, sizeof(udp));
}

/* RFC 3261 18.1.1: TCP was for its size, and there is none (T7). 0, or -EPIPE. */
static int send_by_udp(struct client_transaction *client)
{
    client->to.core.kind = CORE_UDP;
    client->to.core.or_udp = false;
    via_says_udp(client);
    return hop_send(client->table, &client->to,
                    (struct str){client->request.p, client->request.len});
}

void client_transaction_hop_set(struct client_transaction *client, const struct hop *to)
{
    assert(!client->sent);
    client->to = *to;
}

void client_transaction_send(struct client_transaction *client,
                             const struct client_request *request, uint64_t now)
{
    int err;

    assert(!client->sent);
    client->sent = true;
    client->method = request->method;
    /* What stands behind its id is not ours here, but has to come back too (RFC 3261 17.1.3). */
    client->branch = transactions_hash(client->table, request->branch);
    err = request_keep(client, request);
    if (!err)
        err = hop_send(client->table, &client->to, request->bytes);
    if (err == -EPIPE && client->to.core.or_udp)
        err = send_by_udp(client);
    if (err) {
        fail(client, err, now);
        return;
    }
    retransmit_start(client, now);          /* A, E */
    end_after(client, now, TIMER_64_T1_MS); /* B, F */
}

static bool waits_for(const struct client_transaction *client, const struct core_addr *to)
{
    return client->sent && !client->ending && !client->failure && !client->given_up &&
           client->state <= CLIENT_PROCEEDING && !client->to.flow &&
           core_addr_eq(&client->to.core, to);
}

bool transactions_wait(const struct transactions *transactions, struct str branch,
                       const struct core_addr *to)
{
    const struct client_transaction *client = find(transactions, branch);

    return client && waits_for(client, to);
}

unsigned transactions_core_lost(struct transactions *transactions, const struct core_addr *to,
                                uint64_t now)
{
    unsigned by_udp = 0;

    for (uint32_t i = 0; i < transactions->slot_count; i++) {
        struct client_transaction *client = transactions->slots[i].client;

        if (!client || !waits_for(client, to))
            continue;
        if (client->to.core.or_udp && client->state == CLIENT_CALLING && !send_by_udp(client)) {
            retransmit_start(client, now);
            by_udp++;
            continue;
        }
        if (client->method == SIP_INVITE && client->state == CLIENT_PROCEEDING) {
            client->cancel = CANCEL_SENT;
            cancel_send(client);
        }
        fail(client, to->kind == CORE_UDP ? -ECONNREFUSED : -EPIPE, now);
    }
    return by_udp;
}

/* ---- CANCEL ---- */

static void cancel_start(struct client_transaction *client, uint64_t now)
{
    client->cancel = CANCEL_SENT;
    cancel_send(client);
    retransmit_start(client, now);
    end_after(client, now, TIMER_64_T1_MS);
}

void client_transaction_cancel_with(struct client_transaction *client, struct str headers,
                                    uint64_t now)
{
    if (!client->sent || client->ending || client->failure || client->method != SIP_INVITE ||
        client->cancel != CANCEL_NONE || client->state > CLIENT_PROCEEDING)
        return;
    if (headers.len) {
        char *copy = malloc(headers.len);
        if (copy) { /* else the CANCEL goes without: that it goes matters more */
            memcpy(copy, headers.p, headers.len);
            client->cancel_headers = (struct str){copy, headers.len};
        }
    }
    if (client->state == CLIENT_PROCEEDING)
        cancel_start(client, now);
    else
        client->cancel = CANCEL_WANTED;
}

void client_transaction_cancel(struct client_transaction *client, uint64_t now)
{
    client_transaction_cancel_with(client, STR(""), now);
}

/* The user never hears of it: what counts is the INVITE's own final response. */
static int cancel_response(struct client_transaction *client, int status, uint64_t now)
{
    if (client->cancel != CANCEL_SENT && client->cancel != CANCEL_DONE)
        return -ENOENT;
    if (status < 200) {
        client->interval = TIMER_T2_MS;
        return 0;
    }
    if (client->cancel == CANCEL_DONE)
        return 0;
    client->cancel = CANCEL_DONE;
    timer_stop(client->table->options.timers, &client->retransmit);
    if (client->state == CLIENT_COMPLETED && !hop_unreliable(&client->to))
        end_after(client, now, 0); /* D had waited for this */
    return 0;
}

/* ---- responses ---- */

/* The last thing done about a response, because the user may drop the transaction. */
static int tell(struct client_transaction *client, struct sip_msg *response, uint64_t now)
{
    client->user->response(client->owner, client, response, now);
    return 0;
}

/* It isn't sent again: ACK and CANCEL need the head only. */
static void body_forget(struct client_transaction *client)
{
    char *shorter;

    if (client->request.len == client->head)
        return;
    client->request.len = client->head;
    if (client->request.pooled)
        return;
    shorter = realloc(client->request.p, client->request.len);
    if (shorter)
        client->request.p = shorter;
}

bool client_transaction_give_up(struct client_transaction *client, void *owner, uint64_t now)
{
    if (client->method != SIP_INVITE || !client->sent ||
        (client->state <= CLIENT_PROCEEDING && !client->request.p))
        return false;
    client->owner = owner;
    client->given_up = true;
    client->ending = false;
    client->failure = 0;
    if (client->state > CLIENT_PROCEEDING)
        return true;
    timer_stop(client->table->options.timers, &client->retransmit);
    body_forget(client);
    if (client->state == CLIENT_CALLING) {
        client->cancel = CANCEL_WANTED;
        end_after(client, now, TIMER_64_T1_MS);
    } else if (client->cancel == CANCEL_SENT) {
        retransmit_start(client, now);
        end_after(client, now, TIMER_64_T1_MS);
    } else {
        cancel_start(client, now);
    }
    return true;
}

static int invite_provisional(struct client_transaction *client, struct sip_msg *response,
                              uint64_t now)
{
    if (client->state == CLIENT_CALLING) {
        client->state = CLIENT_PROCEEDING;
        timer_stop(client->table->options.timers, &client->retransmit);
        timer_stop(client->table->options.timers, &client->end); /* the user has timer C */
        body_forget(client);
    }
    if (client->cancel == CANCEL_WANTED)
        cancel_start(client, now);
    return tell(client, response, now);
}

static int invite_final(struct client_transaction *client, struct sip_msg *response, uint64_t now)
{
    /* A CANCEL under way has lost its purpose. Its response is still awaited. */
    timer_stop(client->table->options.timers, &client->retransmit);
    kept_enter(client, KEPT_INVITES);
    if (response->status < 300) {
        client->state = CLIENT_ACCEPTED;
        request_forget(client);
        end_after(client, now, TIMER_64_T1_MS); /* M */
    } else {
        client->state = CLIENT_COMPLETED;
        ack_send(client, response);
        end_after(client, now,
                  client->cancel == CANCEL_SENT ? TIMER_64_T1_MS
                  : hop_unreliable(&client->to) ? TIMER_D_MS
                                                : 0); /* D */
    }
    return tell(client, response, now);
}

static void response_again(struct client_transaction *client)
{
    client->table->repeated.received[hop_side(&client->to)]++;
}

static int invite_response(struct client_transaction *client, struct sip_msg *response,
                           uint64_t now)
{
    switch (client->state) {
    case CLIENT_CALLING:
    case CLIENT_PROCEEDING:
        return response->status < 200 ? invite_provisional(client, response, now)
                                      : invite_final(client, response, now);
    case CLIENT_COMPLETED:
        response_again(client);
        if (response->status >= 300)
            ack_send(client, response);
        return 0;
    case CLIENT_ACCEPTED:
        response_again(client); /* or that of another callee (RFC 3261 13.2.2.4) */
        return response->status >= 200 && response->status < 300 ? tell(client, response, now) : 0;
    }
    return 0;
}

static int other_response(struct client_transaction *client, struct sip_msg *response, uint64_t now)
{
    if (client->state == CLIENT_COMPLETED) {
        response_again(client);
        return 0;
    }
    if (response->status < 200) {
        client->state = CLIENT_PROCEEDING;
        client->interval = TIMER_T2_MS; /* from the next retransmission on (17.1.2.2) */
    } else {
        client->state = CLIENT_COMPLETED;
        kept_enter(client, KEPT_OTHERS);
        if (hop_unreliable(&client->to))
            absorb_until_k(client, now);
        else
            end_after(client, now, 0);
    }
    return tell(client, response, now);
}

int transactions_response(struct transactions *transactions, struct sip_msg *response,
                          const struct hop *from, uint64_t now)
{
    struct client_transaction *client = find(transactions, response->top_branch);

    if (!client || !client->sent || !hop_same_host(&client->to, from) ||
        transactions_hash(transactions, response->top_branch) != client->branch)
        return -ENOENT;
    if (response->method == SIP_CANCEL && client->method == SIP_INVITE)
        return cancel_response(client, response->status, now);
    if (response->method != client->method)
        return -ENOENT;
    if (client->ending || client->failure)
        return 0; /* the user is being told, or will be, that no response comes */
    return client->method == SIP_INVITE ? invite_response(client, response, now)
                                        : other_response(client, response, now);
}

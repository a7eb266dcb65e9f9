/* Forwarding to the bindings of an AOR (RFC 3261 16.6 to 16.10, RFC 5626 7): those with the highest
 * q at once, the next when none of them can answer any more. Max-Breadth is shared among those that
 * are tried at once, and limits them (RFC 5393 5.3.3). */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "proxy/log.h"
#include "proxy/registrar_internal.h"

enum {
    TIMER_C_MS = 185 * 1000, /* more than three minutes (RFC 3261 16.6 step 11) */
    CHALLENGES_MAX = 8192,   /* bytes that other branches' challenges may add (16.7 step 7) */
    STATUS_TIMEOUT = 408,
    STATUS_FLOW_FAILED = 430,
    STATUS_CANCELLED = 487,
};

const struct hop edge_hop = {.flow = NULL, .core = {.kind = CORE_EMBEDDED}};

enum branch_state {
    BRANCH_WAITING, /* for those with a higher q, or another flow of its device (RFC 5626 7) */
    BRANCH_CHOSEN,  /* in the group that is about to be tried */
    BRANCH_TRYING,
    BRANCH_DONE,
};

struct branch {
    struct fork *fork;
    struct client_transaction *client;
    struct timer timer_c;
    enum branch_state state;
    bool timed_out; /* timer C: its 487 counts as 408 */
    struct str uri, instance;
    const struct str *routes;
    unsigned route_count;
    uint64_t binding_id;
    unsigned q;       /* thousandths */
    uint64_t breadth; /* its share; 0: unlimited */
};

struct fork {
    struct fork *next, **link;
    struct registrar *registrar;
    struct server_transaction *server;
    struct aor *aor; /* NULL: the target is none of our users */
    struct arena arena;
    struct str request; /* as it goes out, but for Request-URI, Path and Via */
    char loop[LOOP_SIZE];
    uint64_t begun;
    uint64_t breadth; /* Max-Breadth; 0: unlimited */
    bool invite;
    bool closing;    /* cancelled, answered or declined: nothing new is tried */
    bool final_sent; /* upstream has its answer */
    int best_status; /* 0: none yet */
    char *best;      /* NULL: there is no text, it is our own */
    size_t best_len;
    unsigned branch_count;
    struct branch branches[];
};

static struct fork **fork_bucket(struct registrar *registrar,
                                 const struct server_transaction *server)
{
    uintptr_t key = (uintptr_t)server / 64;

    return &registrar->forks[(key ^ key >> 10) % FORK_BUCKETS];
}

static void fork_free(struct fork *fork)
{
    for (unsigned i = 0; i < fork->branch_count; i++)
        timer_stop(fork->registrar->options.timers, &fork->branches[i].timer_c);
    *fork->link = fork->next;
    if (fork->next)
        fork->next->link = fork->link;
    arena_destroy(&fork->arena);
    aor_unref(&fork->aor);
    free(fork->best);
    free(fork);
}

/* It lives as long as one of its transactions does. */
static void fork_release(struct fork *fork)
{
    if (fork->server)
        return;
    for (unsigned i = 0; i < fork->branch_count; i++)
        if (fork->branches[i].client)
            return;
    fork_free(fork);
}

void forks_destroy(struct registrar *registrar)
{
    for (size_t i = 0; i < FORK_BUCKETS; i++)
        while (registrar->forks[i])
            fork_free(registrar->forks[i]);
}

static void branches_cancel(struct fork *fork, uint64_t now)
{
    fork->closing = true;
    for (unsigned i = 0; i < fork->branch_count; i++) {
        struct branch *branch = &fork->branches[i];

        if (branch->state == BRANCH_WAITING)
            branch->state = BRANCH_DONE;
        else if (branch->state == BRANCH_TRYING && fork->invite)
            client_transaction_cancel(branch->client, now);
    }
}

void fork_cancel(struct registrar *registrar, const struct server_transaction *server, uint64_t now)
{
    for (struct fork *fork = *fork_bucket(registrar, server); fork; fork = fork->next) {
        if (fork->server == server) {
            branches_cancel(fork, now);
            return;
        }
    }
}

/* ---- responses ---- */

/* Lower is better: 6xx, then the lowest class, in it what lets the caller try again (16.7 step 6).
 * That a flow or a device is gone says less than what another device said. */
static int status_rank(int status)
{
    int rank = status >= 600 ? 0 : status / 100 * 10;

    switch (status) {
    case 401:
    case 407:
    case 415:
    case 420:
    case 484: return rank;
    case STATUS_TIMEOUT:
    case STATUS_FLOW_FAILED: return rank + 2;
    default: return rank + 1;
    }
}

static bool is_challenge(int status)
{
    return status == 401 || status == 407;
}

/* Challenges of another branch go into the best response, after its first line. */
static void challenges_add(struct fork *fork, const struct sip_msg *response)
{
    struct buf *lines = &fork->registrar->extra;
    char *text, *first = fork->best ? memchr(fork->best, '\n', fork->best_len) : NULL;
    size_t head;

    buf_reset(lines);
    for (unsigned i = 0; i < response->header_count; i++) {
        const struct sip_header *header = &response->headers[i];

        if (header->id == HEADER_WWW_AUTHENTICATE || header->id == HEADER_PROXY_AUTHENTICATE)
            buf_printf(lines, STR_FMT ": " STR_FMT "\r\n", STR_ARG(header->name),
                       STR_ARG(header->value));
    }
    if (!first || !lines->len || lines->overflow || lines->len > CHALLENGES_MAX)
        return;
    text = malloc(fork->best_len + lines->len);
    if (!text)
        return;
    head = (size_t)(first - fork->best) + 1;
    memcpy(text, fork->best, head);
    memcpy(text + head, lines->p, lines->len);
    memcpy(text + head + lines->len, fork->best + head, fork->best_len - head);
    free(fork->best);
    fork->best = text;
    fork->best_len += lines->len;
}

/* Remember a final response, if it is better. `response` NULL: our own. */
static void best_keep(struct fork *fork, int status, const struct sip_msg *response)
{
    struct buf *out = &fork->registrar->out;

    if (response && is_challenge(status) && is_challenge(fork->best_status)) {
        challenges_add(fork, response);
        return;
    }
    if (fork->best_status && status_rank(status) >= status_rank(fork->best_status))
        return;
    fork->best_status = status;
    free(fork->best);
    fork->best = NULL;
    if (!response)
        return;
    buf_reset(out);
    sip_print(response, out);
    if (!out->overflow)
        fork->best = malloc(out->len);
    if (fork->best) {
        memcpy(fork->best, out->p, out->len);
        fork->best_len = out->len;
    }
}

static bool group_start(struct fork *fork, uint64_t now);

/* Try the next when no branch can answer any more; answer upstream when there is none. */
static void fork_settle(struct fork *fork, uint64_t now)
{
    int status;

    for (unsigned i = 0; i < fork->branch_count; i++)
        if (fork->branches[i].state == BRANCH_TRYING)
            return;
    if (fork->final_sent || !fork->server || group_start(fork, now))
        return;
    fork->final_sent = true;
    status = fork->best_status ? fork->best_status : 500;
    if (status == STATUS_TIMEOUT && !fork->invite) { /* RFC 4320 4.1: nothing */
        server_transaction_drop(fork->server);
        fork->server = NULL;
    } else if (status == STATUS_FLOW_FAILED) {
        server_transaction_reply(fork->server, 480, NULL, STR(""), now); /* S4 */
    } else if (status == 503) {
        server_transaction_reply(fork->server, 500, NULL, STR(""), now); /* 16.7 step 6 */
    } else if (fork->best) {
        server_transaction_send(fork->server, status, (struct str){fork->best, fork->best_len},
                                now);
    } else {
        server_transaction_reply(fork->server, status, NULL, STR(""), now);
    }
}

static void response_forward(struct fork *fork, const struct sip_msg *response, uint64_t now)
{
    struct buf *out = &fork->registrar->out;

    if (!fork->server)
        return;
    buf_reset(out);
    sip_print(response, out);
    if (!out->overflow)
        server_transaction_send(fork->server, response->status, buf_str(out), now);
}

static int branch_start(struct branch *branch, uint64_t now);

/* Another flow of the same device, where one did not lead to it (RFC 5626 7). */
static bool branch_fail_over(struct branch *failed, uint64_t now)
{
    struct fork *fork = failed->fork;

    if (fork->closing || !failed->instance.p)
        return false;
    for (unsigned i = 0; i < fork->branch_count; i++) {
        struct branch *branch = &fork->branches[i];

        if (branch->state != BRANCH_WAITING || !str_eq(branch->instance, failed->instance))
            continue;
        branch->breadth = failed->breadth;
        if (branch_start(branch, now) == 0)
            return true;
    }
    return false;
}

/* Other flows of a device that has given its answer are not tried (RFC 5626 7). */
static void branches_forget(struct branch *answered)
{
    struct fork *fork = answered->fork;

    for (unsigned i = 0; i < fork->branch_count; i++) {
        struct branch *branch = &fork->branches[i];

        if (branch->state == BRANCH_WAITING && answered->instance.p &&
            str_eq(branch->instance, answered->instance))
            branch->state = BRANCH_DONE;
    }
}

static void flow_gone(struct branch *branch, struct str call_id)
{
    struct aor *aor = branch->fork->aor;

    if (aor && location_remove(aor, branch->binding_id))
        log_event(LOG_INFO, "unregistered", LOG_TEXT("aor", str_of(aor->user->name)),
                  LOG_NUMBER("contacts", aor->count), LOG_TEXT("call-id", call_id),
                  LOG_TEXT("reason", STR("flow failed")));
}

/* A branch has come to its end without success. `response` NULL: no response came. */
static void branch_failed(struct branch *branch, int status, const struct sip_msg *response,
                          uint64_t now)
{
    struct fork *fork = branch->fork;

    branch->state = BRANCH_DONE;
    timer_stop(fork->registrar->options.timers, &branch->timer_c);
    best_keep(fork, status, response);
    if (status == STATUS_FLOW_FAILED || status == STATUS_TIMEOUT || !response)
        (void)branch_fail_over(branch, now);
    else
        branches_forget(branch);
    if (status >= 600)
        branches_cancel(fork, now);
    fork_settle(fork, now);
}

static void branch_response(void *owner, struct client_transaction *client,
                            struct sip_msg *response, uint64_t now)
{
    struct branch *branch = owner;
    struct fork *fork = branch->fork;
    int via = sip_find(response, HEADER_VIA, 0), status = response->status;

    (void)client;
    if (via < 0 || status == 100)
        return;
    sip_drop(response, (unsigned)via);
    if (fork->server && !server_transaction_answered_by(fork->server, response)) {
        if (status >= 200)
            branch_failed(branch, 502, NULL, now);
        return;
    }

    if (status < 200) {
        if (fork->invite)
            timer_start(fork->registrar->options.timers, &branch->timer_c, now + TIMER_C_MS,
                        branch->timer_c.fire);
        if (!fork->final_sent)
            response_forward(fork, response, now);
    } else if (status < 300) {
        branch->state = BRANCH_DONE;
        timer_stop(fork->registrar->options.timers, &branch->timer_c);
        if (fork->invite || !fork->final_sent) /* every 2xx to INVITE (T3) */
            response_forward(fork, response, now);
        fork->final_sent = true;
        branches_cancel(fork, now);
    } else {
        if (status == STATUS_FLOW_FAILED)
            flow_gone(branch, response->call_id);
        if (branch->timed_out && status == STATUS_CANCELLED)
            branch_failed(branch, STATUS_TIMEOUT, NULL, now);
        else
            branch_failed(branch, status, response, now);
    }
}

static void branch_unanswered(void *owner, struct client_transaction *client, int err, uint64_t now)
{
    (void)client;
    branch_failed(owner, err == -ETIMEDOUT ? STATUS_TIMEOUT : 503, NULL, now);
}

static void branch_ended(void *owner, struct client_transaction *client, uint64_t now)
{
    struct branch *branch = owner;

    (void)client;
    (void)now;
    branch->client = NULL;
    fork_release(branch->fork);
}

static void server_ended(void *owner, struct server_transaction *server, uint64_t now)
{
    struct registrar *registrar = owner;

    (void)now;
    for (struct fork *fork = *fork_bucket(registrar, server); fork; fork = fork->next) {
        if (fork->server == server) {
            fork->server = NULL;
            fork_release(fork);
            return;
        }
    }
}

const struct transaction_user fork_server_user = {.server_ended = server_ended};

static const struct transaction_user branch_user = {
    .response = branch_response,
    .client_failed = branch_unanswered,
    .client_ended = branch_ended,
};

static void timer_c_fired(struct timer *timer, uint64_t now)
{
    struct branch *branch = (struct branch *)((char *)timer - offsetof(struct branch, timer_c));

    branch->timed_out = true;
    client_transaction_cancel(branch->client, now);
}

/* ---- requests ---- */

/* Print the branch's request: its Request-URI, its Path as Route, its Max-Breadth, our Via. */
static int branch_print(const struct branch *branch, struct sip_msg *request,
                        const char *own_branch)
{
    struct registrar *registrar = branch->fork->registrar;
    char via[128], breadth[24];
    int len, index = sip_find(request, HEADER_MAX_BREADTH, 0);

    request->uri = branch->uri;
    if (index >= 0) {
        (void)snprintf(breadth, sizeof(breadth), "%" PRIu64, branch->breadth);
        request->headers[index].value = str_of(breadth);
    }
    for (unsigned i = branch->route_count; i-- > 0;)
        if (sip_push(request, HEADER_ROUTE, branch->routes[i]))
            return -ENOSPC;
    len = snprintf(via, sizeof(via), "SIP/2.0/UDP " STR_FMT ";branch=%s", STR_ARG(REGISTRAR_HOST),
                   own_branch);
    if (sip_push(request, HEADER_VIA, (struct str){via, (size_t)len}))
        return -ENOSPC;
    buf_reset(&registrar->out);
    sip_print(request, &registrar->out);
    return registrar->out.overflow ? -ENOSPC : 0;
}

static int branch_start(struct branch *branch, uint64_t now)
{
    struct fork *fork = branch->fork;
    struct registrar *registrar = fork->registrar;
    struct sip_msg *request = &registrar->branch;
    char id[TRANSACTION_ID_SIZE], own_branch[64];
    int err;

    branch->state = BRANCH_DONE;
    /* what we printed ourselves: it scans, and nothing is unfolded in it */
    if (sip_scan((char *)fork->request.p, fork->request.len, SIP_DATAGRAM, false, request))
        return -EINVAL;
    err = client_transaction_create(registrar->transactions, &edge_hop, &branch_user, branch, now,
                                    &branch->client);
    if (err)
        return err;
    client_transaction_id(branch->client, id);
    (void)snprintf(own_branch, sizeof(own_branch), "z9hG4bK%s.%s", id, fork->loop);
    err = branch_print(branch, request, own_branch);
    if (err) {
        client_transaction_drop(branch->client);
        branch->client = NULL;
        return err;
    }
    branch->state = BRANCH_TRYING;
    if (fork->invite)
        timer_start(registrar->options.timers, &branch->timer_c, now + TIMER_C_MS, timer_c_fired);
    client_transaction_send(branch->client,
                            &(struct client_request){.method = request->method,
                                                     .bytes = buf_str(&registrar->out),
                                                     .branch = str_of(own_branch),
                                                     .body_len = request->body.len},
                            now);
    return 0;
}

/* "0.7" is 700; what register.c let in has no other shape. Without q a binding is as good as any.
 */
static unsigned q_read(const struct binding *binding)
{
    struct str q;
    unsigned value = 0, digit = 1000;

    if (!sip_param(binding->params, STR("q"), &q))
        return 1000;
    for (size_t i = 0; i < q.len; i++) {
        if (q.p[i] == '.')
            continue;
        value += (unsigned)(q.p[i] - '0') * digit;
        digit /= 10;
    }
    return value;
}

static bool targets_copy(struct fork *fork, const struct aor *aor)
{
    const struct binding *binding = aor->bindings;

    for (unsigned i = 0; i < fork->branch_count; i++, binding = binding->next) {
        struct branch *branch = &fork->branches[i];
        struct str *routes =
            arena_alloc(&fork->arena, (binding->path_count + 1) * sizeof(struct str));

        branch->uri = arena_dup(&fork->arena, binding->uri.text);
        if (!routes || !branch->uri.p)
            return false;
        for (unsigned j = 0; j < binding->path_count; j++)
            routes[j] = arena_dup(&fork->arena, binding->paths[j]);
        branch->routes = routes;
        branch->route_count = binding->path_count;
        if (binding->instance.p)
            branch->instance = arena_dup(&fork->arena, binding->instance);
        branch->binding_id = binding->id;
        branch->q = q_read(binding);
    }
    return true;
}

static size_t fork_bytes(const struct aor *aor, size_t request_len)
{
    enum { PIECE = 64 }; /* alignment and NUL of one piece, generously */
    size_t bytes = request_len + (size_t)4 * PIECE;

    for (const struct binding *binding = aor ? aor->bindings : NULL; binding;
         binding = binding->next) {
        bytes += binding->uri.text.len + binding->instance.len + (size_t)4 * PIECE;
        for (unsigned i = 0; i < binding->path_count; i++)
            bytes += binding->paths[i].len + sizeof(struct str) + PIECE;
    }
    return bytes;
}

static struct fork *fork_create(struct registrar *registrar, const struct sip_msg *request,
                                struct aor *aor, struct server_transaction *server)
{
    unsigned count = aor ? aor->count : 1;
    struct fork *fork, **bucket;

    buf_reset(&registrar->out);
    sip_print(request, &registrar->out);
    fork =
        registrar->out.overflow ? NULL : calloc(1, sizeof(*fork) + count * sizeof(struct branch));
    if (!fork)
        return NULL;
    fork->registrar = registrar;
    fork->server = server;
    fork->aor = aor ? aor_ref(aor) : NULL;
    fork->invite = request->method == SIP_INVITE;
    fork->branch_count = count;
    for (unsigned i = 0; i < count; i++)
        fork->branches[i].fork = fork;
    if (arena_create(&fork->arena, fork_bytes(aor, registrar->out.len)) == 0) {
        fork->request = arena_dup(&fork->arena, buf_str(&registrar->out));
        if (!aor)
            fork->branches[0].uri = arena_dup(&fork->arena, request->uri);
    }
    if (!fork->request.p || (aor ? !targets_copy(fork, aor) : !fork->branches[0].uri.p)) {
        arena_destroy(&fork->arena);
        aor_unref(&fork->aor);
        free(fork);
        return NULL;
    }
    bucket = fork_bucket(registrar, server);
    fork->next = *bucket;
    fork->link = bucket;
    if (*bucket)
        (*bucket)->link = &fork->next;
    *bucket = fork;
    return fork;
}

/* Is another flow of the branch's device, registered later, in the group already? */
static bool device_chosen(const struct fork *fork, const struct branch *branch)
{
    if (branch->instance.p)
        for (const struct branch *other = fork->branches; other < branch; other++)
            if (other->state == BRANCH_CHOSEN && str_eq(other->instance, branch->instance))
                return true;
    return false;
}

/* Those to be tried at once: of the ones that wait those with the highest q, one flow of each
 * device, and as many as Max-Breadth allows. */
static unsigned group_choose(struct fork *fork)
{
    unsigned count = 0, q = 0;

    for (unsigned i = 0; i < fork->branch_count; i++)
        if (fork->branches[i].state == BRANCH_WAITING && fork->branches[i].q > q)
            q = fork->branches[i].q;
    for (unsigned i = 0; i < fork->branch_count; i++) {
        struct branch *branch = &fork->branches[i];

        if (branch->state == BRANCH_WAITING && branch->q == q && !device_chosen(fork, branch) &&
            (!fork->breadth || count < fork->breadth)) {
            branch->state = BRANCH_CHOSEN;
            count++;
        }
    }
    return count;
}

/* false: there are none left, or nobody waits for an answer any more (RFC 4320 4.1). */
static bool group_start(struct fork *fork, uint64_t now)
{
    bool started = false;
    unsigned count;

    if (!fork->invite && now - fork->begun >= TIMER_64_T1_MS)
        return false;
    while (!started && (count = group_choose(fork)) > 0) {
        for (unsigned i = 0; i < fork->branch_count; i++) {
            struct branch *branch = &fork->branches[i];

            if (branch->state != BRANCH_CHOSEN)
                continue;
            branch->breadth = fork->breadth / count;
            if (branch_start(branch, now) == 0)
                started = true;
            else
                best_keep(fork, 500, NULL);
        }
    }
    return started;
}

int fork_start(struct registrar *registrar, struct sip_msg *request, struct aor *aor,
               struct server_transaction *server, const char loop[LOOP_SIZE], uint64_t now)
{
    struct str limit = sip_value(request, HEADER_MAX_BREADTH);
    uint64_t breadth = 0;
    struct fork *fork;

    if (aor && !aor->count)
        return 480; /* S4 */
    if (limit.p && (str_to_uint(limit, UINT32_MAX, &breadth) || !breadth))
        return 440; /* M5 */
    fork = fork_create(registrar, request, aor, server);
    if (!fork)
        return 500;
    memcpy(fork->loop, loop, LOOP_SIZE);
    fork->begun = now;
    fork->breadth = breadth;
    if (fork->invite)
        server_transaction_reply(server, 100, NULL, STR(""), now); /* T2 */
    fork_settle(fork, now); /* starts the first, or answers where none can be */
    return 0;
}

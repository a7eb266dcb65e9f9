#include "proxy/registrar.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <openssl/rand.h>
#include <xxhash.h>

#include "proxy/log.h"
#include "proxy/registrar_internal.h"

enum {
    WORKER = 0xff,           /* in our branches: no worker of the edge has this number */
    ARENA_SIZE = 256 * 1024, /* values of one request: 256 Contacts at most */
    EXTRA_SIZE = 64 * 1024,  /* header lines of an answer */
    HEADROOM = 64 * 1024,    /* what our Via and a Path may add to a message */
    MAX_FORWARDS = 70,
};

#define ALLOW                                                                                      \
    "INVITE, ACK, CANCEL, BYE, REGISTER, OPTIONS, SUBSCRIBE, NOTIFY, REFER, MESSAGE, INFO, "       \
    "UPDATE, PRACK, PUBLISH"

static int bytes_send(void *context, const struct hop *to, struct str bytes)
{
    struct registrar *registrar = context;

    (void)to; /* everything goes to the edge */
    registrar->options.send(registrar->options.context, bytes);
    return 0;
}

static void binding_ended(void *context, const struct binding *binding, const char *why)
{
    (void)context;
    log_event(LOG_INFO, why, LOG_TEXT("aor", str_of(binding->aor->user->name)),
              LOG_NUMBER("contacts", binding->aor->count), LOG_TEXT("call-id", binding->call_id));
}

int registrar_create(const struct registrar_options *options, struct registrar **out)
{
    const struct conf *conf = options->conf;
    struct registrar *registrar = calloc(1, sizeof(*registrar));
    int err = -ENOMEM;

    if (!registrar)
        return err;
    registrar->options = *options;
    if (RAND_bytes((unsigned char *)&registrar->loop_seed, sizeof(registrar->loop_seed)) != 1)
        err = -EIO;
    else if (arena_create(&registrar->arena, ARENA_SIZE) == 0 &&
             buf_create(&registrar->extra, EXTRA_SIZE) == 0 &&
             buf_create(&registrar->out, conf->limits.message_size + HEADROOM) == 0)
        err = digest_create(conf, &registrar->digest);
    if (!err)
        err = location_create(&(struct location_options){.conf = conf,
                                                         .timers = options->timers,
                                                         .ended = binding_ended},
                              &registrar->location);
    if (!err)
        err = transactions_create(&(struct transactions_options){.worker = WORKER,
                                                                 .timers = options->timers,
                                                                 .max = conf->limits.transactions,
                                                                 .send = bytes_send,
                                                                 .context = registrar},
                                  &registrar->transactions);
    if (err) {
        registrar_destroy(&registrar);
        return err;
    }
    *out = registrar;
    return 0;
}

int registrar_prepare(struct registrar *registrar, const struct conf *conf)
{
    struct buf larger;

    if (conf->limits.message_size + HEADROOM > registrar->out.size) {
        if (buf_create(&larger, conf->limits.message_size + HEADROOM))
            return -ENOMEM;
        buf_destroy(&registrar->out); /* between two messages: nothing is in it */
        registrar->out = larger;
    }
    return location_prepare(registrar->location, conf);
}

void registrar_take(struct registrar *registrar, const struct conf *conf)
{
    location_take(registrar->location, conf);
    digest_conf_set(registrar->digest, conf);
    transactions_max_set(registrar->transactions, conf->limits.transactions);
    registrar->options.conf = conf;
}

void registrar_destroy(struct registrar **registrar)
{
    struct registrar *gone = *registrar;

    if (!gone)
        return;
    if (gone->transactions)
        transactions_destroy(&gone->transactions);
    forks_destroy(gone);
    location_destroy(&gone->location);
    digest_destroy(&gone->digest);
    buf_destroy(&gone->out);
    buf_destroy(&gone->extra);
    arena_destroy(&gone->arena);
    free(gone);
    *registrar = NULL;
}

bool host_is_ours(const struct registrar *registrar, struct str host)
{
    const struct conf *conf = registrar->options.conf;

    if (str_eq_nocase(host, str_of(conf->domain)))
        return true;
    for (unsigned i = 0; i < conf->alias_count; i++)
        if (str_eq_nocase(host, str_of(conf->aliases[i])))
            return true;
    return false;
}

bool options_unsupported(struct registrar *registrar, const struct sip_msg *request,
                         enum header_id id, const struct str *known, size_t known_count)
{
    bool found = false;

    for (int i = sip_find(request, id, 0); i >= 0; i = sip_find(request, id, (unsigned)i + 1)) {
        struct str rest = request->headers[i].value, tag;

        while (sip_list_next(&rest, &tag)) {
            bool is_known = false;

            for (size_t j = 0; j < known_count; j++)
                is_known = is_known || str_eq_nocase(tag, known[j]);
            if (is_known || !tag.len)
                continue;
            buf_printf(&registrar->extra, "Unsupported: " STR_FMT "\r\n", STR_ARG(tag));
            found = true;
        }
    }
    return found;
}

/* ---- who is it? ---- */

void refused_log(const struct sip_msg *request, struct str user, const char *reason)
{
    log_event(LOG_WARNING, "authentication failed", LOG_TEXT("aor", user),
              LOG_TEXT("method", request->method_name), LOG_TEXT("call-id", request->call_id),
              LOG_TEXT("reason", str_of(reason)));
}

struct answer authenticate(struct registrar *registrar, const struct sip_msg *request,
                           struct str claimed, uint64_t now, struct aor **out, unsigned *index)
{
    bool is_register = request->method == SIP_REGISTER;
    enum header_id from = is_register ? HEADER_AUTHORIZATION : HEADER_PROXY_AUTHORIZATION;
    enum header_id ask = is_register ? HEADER_WWW_AUTHENTICATE : HEADER_PROXY_AUTHENTICATE;
    struct aor *aor = location_find(registrar->location, claimed);
    struct digest_credentials credentials;
    enum digest_result result = DIGEST_WRONG;

    if (digest_credentials(registrar->digest, request, from, &registrar->arena, &credentials)) {
        aor = location_find(registrar->location, credentials.username);
        result = digest_verify(registrar->digest, request, &credentials, aor ? aor->user : NULL,
                               &registrar->arena, now);
        switch (result) {
        case DIGEST_OK:
            *out = aor;
            *index = credentials.index;
            return ANSWER(0, NULL);
        case DIGEST_REFUSED:
            refused_log(request, claimed, "too many wrong passwords");
            return ANSWER(403, "Too Many Failures");
        case DIGEST_WRONG: refused_log(request, claimed, "wrong password"); break;
        case DIGEST_STALE: break;
        }
    }
    digest_challenge(registrar->digest, ask, aor ? aor->user : NULL, result == DIGEST_STALE, now,
                     &registrar->extra);
    return ANSWER(is_register ? 401 : 407, NULL);
}

/* ---- forwarding ---- */

/* RFC 5393 4.2: a hash of all that decides where a request goes (M3). */
static void loop_print(const struct registrar *registrar, const struct sip_msg *request,
                       char loop[LOOP_SIZE])
{
    static const enum header_id ids[] = {HEADER_ROUTE, HEADER_PROXY_REQUIRE,
                                         HEADER_PROXY_AUTHORIZATION};
    const struct str parts[] = {request->uri, request->from_tag, request->to_tag, request->call_id};
    uint64_t hash = registrar->loop_seed ^ request->cseq;

    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        hash = XXH3_64bits_withSeed(parts[i].p ? parts[i].p : "", parts[i].len, hash);
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        for (int j = sip_find(request, ids[i], 0); j >= 0;
             j = sip_find(request, ids[i], (unsigned)j + 1)) {
            struct str value = request->headers[j].value;

            hash = XXH3_64bits_withSeed(value.p ? value.p : "", value.len, hash + i);
        }
    }
    (void)snprintf(loop, LOOP_SIZE, "%016" PRIx64, hash);
}

static bool loop_found(struct registrar *registrar, const struct sip_msg *request,
                       const char loop[LOOP_SIZE])
{
    const size_t len = LOOP_SIZE - 1;

    for (int i = sip_find(request, HEADER_VIA, 0); i >= 0;
         i = sip_find(request, HEADER_VIA, (unsigned)i + 1)) {
        struct sip_via via;

        if (sip_via_parse(&registrar->arena, request->headers[i].value, &via) == 0 &&
            str_eq_nocase(via.host, REGISTRAR_HOST) && via.branch.len > len &&
            memcmp(via.branch.p + via.branch.len - len, loop, len) == 0)
            return true;
    }
    return false;
}

/* M1, M2. */
static struct answer max_forwards_lower(struct registrar *registrar, struct sip_msg *request)
{
    int index = sip_find(request, HEADER_MAX_FORWARDS, 0);
    uint64_t value = MAX_FORWARDS;

    if (index < 0)
        return sip_push(request, HEADER_MAX_FORWARDS, STR("70")) ? ANSWER(500, NULL)
                                                                 : ANSWER(0, NULL);
    if (str_to_uint(request->headers[index].value, 255, &value))
        return ANSWER(400, "Bad Max-Forwards");
    if (!value)
        return ANSWER(483, NULL);
    request->headers[index].value = arena_printf(&registrar->arena, "%u", (unsigned)value - 1);
    return request->headers[index].value.p ? ANSWER(0, NULL) : ANSWER(500, NULL);
}

/* RFC 3261 16.4: the Route that led here has done its work. `all`: the request ends in our domain,
 * and so does any route that it came with; the Path of a binding goes on from here. */
static void routes_pop(struct registrar *registrar, struct sip_msg *request, bool all)
{
    int index;

    while ((index = sip_find(request, HEADER_ROUTE, 0)) >= 0) {
        struct sip_addr addr;

        if (!all && (sip_addr_parse(&registrar->arena, request->headers[index].value, &addr) ||
                     !str_eq_nocase(addr.uri.host, REGISTRAR_HOST)))
            return;
        sip_drop(request, (unsigned)index);
    }
}

/* A call from one of our users, or a request outside a dialog: who is it? RFC 3323's anonymous
 * From is as good as one's own; anybody else's is not. */
static struct answer caller_check(struct registrar *registrar, struct sip_msg *request,
                                  uint64_t now)
{
    struct sip_addr from;
    struct str user;
    struct aor *aor;
    struct answer answer;
    unsigned index;
    bool ours;

    if (sip_addr_parse(&registrar->arena, sip_value(request, HEADER_FROM), &from))
        return ANSWER(400, "Bad From");
    user = location_user(&registrar->arena, &from.uri);
    ours = host_is_ours(registrar, from.uri.host);
    answer = authenticate(registrar, request, user, now, &aor, &index);
    if (answer.status)
        return answer;
    if (ours ? !str_eq(user, str_of(aor->user->name))
             : !str_eq_nocase(from.uri.host, STR("anonymous.invalid"))) {
        refused_log(request, user, "From is another user");
        return ANSWER(403, "Not Your Address");
    }
    sip_drop(request, index); /* consumed: our realm (RFC 3261 22.3) */
    return ANSWER(0, NULL);
}

/* Where does it go? *out NULL with status 0: to the edge as it stands. */
static struct answer target_choose(struct registrar *registrar, const struct sip_uri *target,
                                   bool in_dialog, struct aor **out)
{
    *out = NULL;
    if (host_is_ours(registrar, target->host)) {
        *out = location_find(registrar->location, location_user(&registrar->arena, target));
        return *out ? ANSWER(0, NULL) : ANSWER(404, NULL); /* S4 */
    }
    /* the remote target of a dialog, or a masked Contact that was handed on (REFER) */
    if (in_dialog || str_eq_nocase(target->host, EDGE_HOST))
        return ANSWER(0, NULL);
    return ANSWER(403, "No Relaying");
}

static struct answer forward(struct registrar *registrar, struct sip_msg *request,
                             const struct sip_uri *target, struct server_transaction *server,
                             uint64_t now)
{
    bool ours = host_is_ours(registrar, target->host);
    bool in_dialog = request->to_tag.p && !ours; /* an AOR is no remote target */
    char loop[LOOP_SIZE];
    struct aor *aor;
    struct answer answer;

    loop_print(registrar, request, loop);
    if (loop_found(registrar, request, loop))
        return ANSWER(482, NULL);
    if (options_unsupported(registrar, request, HEADER_PROXY_REQUIRE, NULL, 0))
        return ANSWER(420, NULL);
    answer = max_forwards_lower(registrar, request);
    if (!answer.status && !in_dialog)
        answer = caller_check(registrar, request, now);
    if (!answer.status)
        answer = target_choose(registrar, target, in_dialog, &aor);
    if (answer.status)
        return answer;
    routes_pop(registrar, request, ours);
    if (registrar->arena.no_memory)
        return ANSWER(503, NULL); /* whatever was found may be wrong */
    return ANSWER(fork_start(registrar, request, aor, server, loop, now), NULL);
}

/* ACK for a 2xx: nothing is kept for it, and nothing answers it. */
static void ack_forward(struct registrar *registrar, struct sip_msg *ack,
                        const struct sip_uri *target)
{
    char loop[LOOP_SIZE];
    struct str via;

    loop_print(registrar, ack, loop);
    if (host_is_ours(registrar, target->host) || loop_found(registrar, ack, loop) ||
        max_forwards_lower(registrar, ack).status)
        return;
    routes_pop(registrar, ack, false);
    if (registrar->arena.no_memory)
        return;
    /* a branch of a slot that no transaction ever has */
    via = arena_printf(&registrar->arena,
                       "SIP/2.0/UDP " STR_FMT ";branch=z9hG4bK%02xffffffffffffff.%s",
                       STR_ARG(REGISTRAR_HOST), WORKER, loop);
    if (!via.p || sip_push(ack, HEADER_VIA, via))
        return;
    buf_reset(&registrar->out);
    sip_print(ack, &registrar->out);
    if (!registrar->out.overflow)
        (void)bytes_send(registrar, &edge_hop, buf_str(&registrar->out));
}

/* ---- one message, top to bottom ---- */

/* OPTIONS for the registrar itself (RFC 3261 11.2), or one that may go no further (M1). */
static bool options_for_us(const struct registrar *registrar, const struct sip_msg *request,
                           const struct sip_uri *target)
{
    return request->method == SIP_OPTIONS &&
           ((host_is_ours(registrar, target->host) && !target->user.len) ||
            str_eq(sip_value(request, HEADER_MAX_FORWARDS), STR("0")));
}

static struct answer request_handle(struct registrar *registrar, struct sip_msg *request,
                                    struct server_transaction *server, uint64_t now)
{
    struct sip_uri target;
    struct server_transaction *cancelled;

    if (request->method == SIP_CANCEL) { /* T4; the 200 is the caller's next thing */
        cancelled = transactions_cancelled(registrar->transactions, request, &edge_hop);
        if (!cancelled)
            return ANSWER(481, NULL);
        fork_cancel(registrar, cancelled, now);
        return ANSWER(200, NULL);
    }
    if (sip_uri_parse(&registrar->arena, request->uri, &target))
        return ANSWER(400, "Bad Request-URI");
    if (options_for_us(registrar, request, &target)) {
        buf_printf(&registrar->extra,
                   "Allow: " ALLOW "\r\nAccept: */*\r\nSupported: path, outbound\r\n");
        return ANSWER(200, NULL);
    }
    if (request->method == SIP_REGISTER)
        return register_handle(registrar, request, &target, now);
    return forward(registrar, request, &target, server, now);
}

/* Answer without a transaction: it is refused before there is one. */
static void refuse(struct registrar *registrar, const struct sip_msg *request, int status,
                   const char *reason)
{
    char tag[LOOP_SIZE];

    if (!sip_answerable(request))
        return;
    loop_print(registrar, request, tag); /* the same for a retransmission, as 8.2.7 asks */
    buf_reset(&registrar->out);
    sip_response(request, status, reason, str_of(tag), STR(""), &registrar->out);
    if (!registrar->out.overflow)
        (void)bytes_send(registrar, &edge_hop, buf_str(&registrar->out));
}

static void request_receive(struct registrar *registrar, struct sip_msg *request, uint64_t now)
{
    struct server_transaction *server;
    struct answer answer;
    struct sip_uri target;

    if (transactions_absorb(registrar->transactions, request, &edge_hop, now))
        return;
    if (request->method == SIP_ACK) {
        if (sip_uri_parse(&registrar->arena, request->uri, &target) == 0)
            ack_forward(registrar, request, &target);
        return;
    }
    if (server_transaction_create(registrar->transactions, request, &edge_hop, &fork_server_user,
                                  registrar, now, &server)) {
        refuse(registrar, request, 503, NULL);
        return;
    }
    answer = request_handle(registrar, request, server, now);
    if (answer.status && registrar->arena.no_memory) {
        buf_reset(&registrar->extra);
        answer = ANSWER(503, NULL); /* a refusal may be wrong */
    }
    if (answer.status)
        server_transaction_reply(server, answer.status, answer.reason, buf_str(&registrar->extra),
                                 now);
}

size_t registrar_bindings(const struct registrar *registrar)
{
    return location_bindings(registrar->location);
}

size_t registrar_transactions(const struct registrar *registrar)
{
    return transactions_count(registrar->transactions);
}

uint64_t registrar_given_up(const struct registrar *registrar)
{
    return transactions_given_up(registrar->transactions);
}

void registrar_receive(struct registrar *registrar, char *bytes, size_t len, uint64_t now)
{
    struct sip_msg *message = &registrar->message;
    int status;

    arena_reset(&registrar->arena);
    buf_reset(&registrar->extra);
    status = sip_scan(bytes, len, SIP_DATAGRAM, false, message);
    if (status) {
        if (status > 0 && message->is_request)
            refuse(registrar, message, status, refusals[message->refusal].reason);
    } else if (message->is_request) {
        request_receive(registrar, message, now);
    } else {
        (void)transactions_response(registrar->transactions, message, &edge_hop, now);
    }
}

void registrar_flow_gone(struct registrar *registrar, struct str token)
{
    uint8_t flow[FLOW_ID_LEN];

    arena_reset(&registrar->arena);
    if (token_flow_id(&registrar->arena, token, flow))
        location_flow_gone(registrar->location, flow);
}

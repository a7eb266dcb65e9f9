/* The end of a call whose caller is gone (T6), or has gone to another backend (B3): nobody else can
 * acknowledge the 2xx that crossed our CANCEL, and without an ACK the callee repeats it for 32 s,
 * to silence (RFC 3261 13.2.2.4, 15). */
#include "proxy/internal.h"

enum { ROUTES_MAX = 32 };

/* Nothing depends on the answer to BYE. */
static void on_response(void *owner, struct client_transaction *client, struct sip_msg *response,
                        uint64_t now)
{
    (void)owner, (void)client, (void)response, (void)now;
}

static void on_failed(void *owner, struct client_transaction *client, int err, uint64_t now)
{
    (void)owner, (void)client, (void)err, (void)now;
}

static void on_ended(void *owner, struct client_transaction *client, uint64_t now)
{
    (void)owner, (void)client, (void)now;
}

static const struct transaction_user bye_user = {
    .response = on_response, .client_failed = on_failed, .client_ended = on_ended};

static enum refusal method_set(struct proxy *proxy, struct sip_msg *request, enum sip_method method,
                               struct str name, uint32_t cseq)
{
    int index = sip_find(request, HEADER_CSEQ, 0);
    struct str value = arena_printf(&proxy->arena, "%u " STR_FMT, cseq, STR_ARG(name));

    if (!value.p)
        return REFUSE_NO_ROOM;
    request->method = method;
    request->method_name = name;
    request->headers[index].value = value;
    return REFUSE_NOT;
}

/* The dialog of a 2xx, as its caller sees it (RFC 3261 12.1.2, 13.2.2.4): the Contact is whom to
 * ask for, the Record-Routes in reverse are the way. From, To and Call-ID stay. */
static enum refusal ack_from(struct proxy *proxy, struct sip_msg *answer)
{
    struct str routes[ROUTES_MAX], contact = sip_value(answer, HEADER_CONTACT);
    unsigned count = 0;
    struct sip_addr addr;

    if (!contact.p || sip_addr_parse(&proxy->arena, contact, &addr))
        return REFUSE_RESPONSE;
    for (unsigned i = answer->header_count; i-- > 0;) {
        switch (answer->headers[i].id) {
        case HEADER_FROM:
        case HEADER_TO:
        case HEADER_CALL_ID:
        case HEADER_CSEQ: continue;
        case HEADER_RECORD_ROUTE:
            if (count == ROUTES_MAX)
                return REFUSE_RESPONSE;
            routes[count++] = answer->headers[i].value;
            break;
        default: break;
        }
        sip_drop(answer, i);
    }
    while (count-- > 0)
        if (sip_push(answer, HEADER_ROUTE, routes[count]))
            return REFUSE_NO_ROOM;
    answer->is_request = true;
    answer->uri = addr.uri.text;
    answer->body = STR("");
    if (sip_insert(answer, answer->header_count, HEADER_MAX_FORWARDS, STR("70")))
        return REFUSE_NO_ROOM;
    return method_set(proxy, answer, SIP_ACK, STR("ACK"), answer->cseq);
}

static enum refusal ack_send(struct proxy *proxy, struct sip_msg *ack, const struct hop *to)
{
    char id[TRANSACTION_ID_SIZE];
    enum refusal refusal;

    ack_id(proxy, ack->to_tag, id);
    refusal = request_print(proxy, ack, to, id);
    if (!refusal && proxy_send(proxy, to, buf_str(&proxy->out)))
        refusal = REFUSE_BACKENDS_FAILED;
    return refusal;
}

static enum refusal bye_send(struct proxy *proxy, struct sip_msg *bye, const struct hop *to,
                             uint64_t now)
{
    struct client_transaction *client;
    struct client_request printed;
    char id[TRANSACTION_ID_SIZE];
    enum refusal refusal = method_set(proxy, bye, SIP_BYE, STR("BYE"), bye->cseq + 1);

    if (!refusal &&
        client_transaction_create(proxy->transactions, to, &bye_user, NULL, now, &client))
        refusal = REFUSE_NO_ROOM;
    if (refusal)
        return refusal;
    sip_drop(bye, (unsigned)sip_find(bye, HEADER_VIA, 0)); /* of the ACK */
    client_transaction_id(client, id);
    refusal = request_print(proxy, bye, to, id);
    if (refusal) {
        client_transaction_drop(client);
        return refusal;
    }
    printed = request_printed(proxy, bye);
    client_transaction_send(client, &printed, now);
    return REFUSE_NOT;
}

void call_hang_up(struct proxy *proxy, struct sip_msg *answer, bool bye, const char *why,
                  uint64_t now)
{
    struct target target = {0};
    enum refusal refusal = ack_from(proxy, answer);

    if (!refusal)
        refusal = target_choose_own(proxy, answer, now, &target);
    answer->uri = target.uri;
    if (!refusal)
        refusal = ack_send(proxy, answer, &target.hop);
    if (!refusal && bye)
        refusal = bye_send(proxy, answer, &target.hop, now);
    if (refusal)
        log_event(LOG_INFO, "call not ended", LOG_TEXT("call-id", answer->call_id),
                  LOG_NUMBER("status", refusal_status(proxy, refusal)),
                  LOG_TEXT("reason", str_of(refusals[refusal].reason)));
    else if (bye)
        log_event(LOG_INFO, "call ended", LOG_TEXT("call-id", answer->call_id),
                  LOG_TEXT("reason", str_of(why)));
}

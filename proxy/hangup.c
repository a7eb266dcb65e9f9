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

static int method_set(struct proxy *proxy, struct sip_msg *request, enum sip_method method,
                      struct str name, uint32_t cseq)
{
    int index = sip_find(request, HEADER_CSEQ, 0);
    struct str value = arena_printf(&proxy->arena, "%u " STR_FMT, cseq, STR_ARG(name));

    if (!value.p)
        return 500;
    request->method = method;
    request->method_name = name;
    request->headers[index].value = value;
    return 0;
}

/* The dialog of a 2xx, as its caller sees it (RFC 3261 12.1.2, 13.2.2.4): the Contact is whom to
 * ask for, the Record-Routes in reverse are the way. From, To and Call-ID stay. 0 or a status. */
static int ack_from(struct proxy *proxy, struct sip_msg *answer)
{
    struct str routes[ROUTES_MAX], contact = sip_value(answer, HEADER_CONTACT);
    unsigned count = 0;
    struct sip_addr addr;

    if (!contact.p || sip_addr_parse(&proxy->arena, contact, &addr))
        return 502;
    for (unsigned i = answer->header_count; i-- > 0;) {
        switch (answer->headers[i].id) {
        case HEADER_FROM:
        case HEADER_TO:
        case HEADER_CALL_ID:
        case HEADER_CSEQ: continue;
        case HEADER_RECORD_ROUTE:
            if (count == ROUTES_MAX)
                return 502;
            routes[count++] = answer->headers[i].value;
            break;
        default: break;
        }
        sip_drop(answer, i);
    }
    while (count-- > 0)
        if (sip_push(answer, HEADER_ROUTE, routes[count]))
            return 500;
    answer->is_request = true;
    answer->uri = addr.uri.text;
    answer->body = STR("");
    if (sip_insert(answer, answer->header_count, HEADER_MAX_FORWARDS, STR("70")))
        return 500;
    return method_set(proxy, answer, SIP_ACK, STR("ACK"), answer->cseq);
}

static int ack_send(struct proxy *proxy, struct sip_msg *ack, const struct hop *to)
{
    char id[TRANSACTION_ID_SIZE];
    int status;

    ack_id(proxy, ack->to_tag, id);
    status = request_print(proxy, ack, to, id);
    if (!status && proxy_send(proxy, to, buf_str(&proxy->out)))
        status = 503;
    return status;
}

static int bye_send(struct proxy *proxy, struct sip_msg *bye, const struct hop *to, uint64_t now)
{
    struct client_transaction *client;
    char id[TRANSACTION_ID_SIZE];
    int status = method_set(proxy, bye, SIP_BYE, STR("BYE"), bye->cseq + 1);

    if (!status && client_transaction_create(proxy->transactions, to, &bye_user, NULL, &client))
        status = 503;
    if (status)
        return status;
    sip_drop(bye, (unsigned)sip_find(bye, HEADER_VIA, 0)); /* of the ACK */
    client_transaction_id(client, id);
    status = request_print(proxy, bye, to, id);
    if (status)
        client_transaction_drop(client);
    else
        client_transaction_send(client, SIP_BYE, buf_str(&proxy->out), now);
    return status;
}

void call_hang_up(struct proxy *proxy, struct sip_msg *answer, bool bye, const char *why,
                  uint64_t now)
{
    struct target target = {0};
    int status = ack_from(proxy, answer);

    if (!status)
        status = target_choose_own(proxy, answer, now, &target);
    answer->uri = target.uri;
    if (!status)
        status = ack_send(proxy, answer, &target.hop);
    if (!status && bye)
        status = bye_send(proxy, answer, &target.hop, now);
    if (status)
        log_event(LOG_INFO, "call not ended", LOG_TEXT("call-id", answer->call_id),
                  LOG_NUMBER("status", status),
                  LOG_TEXT("reason", str_of(target.why ? target.why : sip_reason(status))));
    else if (bye)
        log_event(LOG_INFO, "call ended", LOG_TEXT("call-id", answer->call_id),
                  LOG_TEXT("reason", str_of(why)));
}

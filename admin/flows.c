#include "admin/flows.h"

#include <inttypes.h>
#include <string.h>

#include "admin/json.h"
#include "tls/socket.h"

enum { ID_TEXT = 40 };

/* ---- what is asked for ---- */

bool flow_id_read(const char *text, unsigned *worker, uint64_t *number)
{
    const char *dot = strchr(text, '.');
    uint64_t first;

    if (!dot || str_to_uint((struct str){text, (size_t)(dot - text)}, CONF_WORKERS_MAX, &first) ||
        str_to_uint(str_of(dot + 1), UINT64_MAX, number))
        return false;
    *worker = (unsigned)first;
    return true;
}

static const char *state_read(const char *state, enum streams_list *list)
{
    if (!state || !strcmp(state, "open"))
        *list = STREAMS_OPEN;
    else if (!strcmp(state, "closed"))
        *list = STREAMS_CLOSED;
    else if (!strcmp(state, "failed"))
        *list = STREAMS_FAILED;
    else
        return "state is open, closed, or failed (ended before it was ready for SIP)";
    return NULL;
}

const char *flows_query_read(const struct admin_request *request, struct flows_query *out)
{
    const char *limit = admin_request_argument(request, "limit");
    const char *after = admin_request_argument(request, "after");
    const char *aor = admin_request_argument(request, "aor");
    const char *peer = admin_request_argument(request, "peer");
    uint64_t number = FLOWS_LIMIT;

    *out = (struct flows_query){0};
    if (limit && (str_to_uint(str_of(limit), FLOWS_LIMIT, &number) || !number))
        return "limit is a number from 1 to 1000";
    out->limit = (unsigned)number;
    if (after && !flow_id_read(after, &out->worker, &out->before))
        return "after is an id, as `next` of the page before had it";
    if (aor && facts_filter_aor(&out->filter, aor))
        return "aor is sip:USER@DOMAIN, USER@DOMAIN or USER";
    if (peer && facts_filter_peer(&out->filter, peer))
        return "peer is ADDRESS, ADDRESS:PORT or [IPv6]:PORT";
    return state_read(admin_request_argument(request, "state"), &out->list);
}

/* ---- values ---- */

static void set_text(json_t *object, const char *key, const char *text)
{
    json_object_set_new(object, key, json_text(text));
}

static void set_number(json_t *object, const char *key, uint64_t number)
{
    json_object_set_new(object, key, json_integer((json_int_t)number));
}

static void set_time(json_t *object, const char *key, int64_t ms)
{
    json_object_set_new(object, key, json_time(ms));
}

static void set_address(json_t *object, const char *key, const union conf_sockaddr *address)
{
    char text[SOCKET_TEXT];

    if (address->sa.sa_family)
        socket_text(&address->sa, text);
    set_text(object, key, address->sa.sa_family ? text : NULL);
}

/* ---- a connection ---- */

static json_t *listener_make(const struct facts *facts)
{
    json_t *listener = json_object();

    set_text(listener, "kind", conf_listener_kind_name(facts->kind));
    set_address(listener, "address", &facts->bound);
    return listener;
}

static json_t *tls_make(const struct facts *facts)
{
    json_t *tls;

    if (!facts->tls_version && !facts->server_name)
        return json_null();
    tls = json_object();
    set_text(tls, "version", facts->tls_version);
    set_text(tls, "cipher", facts->cipher);
    set_text(tls, "alpn", facts_text(facts, facts->alpn));
    set_text(tls, "server_name", facts_text(facts, facts->server_name));
    set_text(tls, "client_certificate", facts_text(facts, facts->client));
    json_object_set_new(tls, "resumed", json_boolean(facts->resumed));
    return tls;
}

static json_t *aors_make(const struct facts *facts)
{
    const char *aor = facts->text + facts->aors;
    json_t *aors = json_array();

    for (unsigned i = 0; i < facts->aor_count; i++, aor += strlen(aor) + 1)
        json_array_append_new(aors, json_text(aor));
    return aors;
}

static json_t *keepalive_make(const struct facts *facts)
{
    json_t *keepalive;

    if (!facts->flow_timer_s && !facts->ping_s)
        return json_null();
    keepalive = json_object();
    set_text(keepalive, "kind", facts->ping_s ? "websocket-ping" : "flow-timer");
    set_text(keepalive, "by", facts->ping_s ? "sipward" : "client");
    set_number(keepalive, "seconds", facts->ping_s ? facts->ping_s : facts->flow_timer_s);
    return keepalive;
}

static json_t *response_make(const struct facts *facts)
{
    json_t *response;

    if (!facts->status)
        return json_null();
    response = json_object();
    set_number(response, "status", (uint64_t)facts->status);
    set_text(response, "method", facts->method);
    set_time(response, "at", facts->answered);
    return response;
}

static json_t *closed_make(const struct facts *facts)
{
    const struct cause_row *row = cause_row(facts->closed.cause);
    json_t *closed, *more;

    if (!facts->closed.at)
        return json_null();
    closed = json_object();
    set_time(closed, "at", facts->closed.at);
    set_text(closed, "by", cause_by_name(row->by));
    set_text(closed, "class", cause_class_name(row->class));
    set_text(closed, "cause", row->name);
    set_text(closed, "reason", facts_text(facts, facts->reason));
    if (facts->closed.tls_alert) {
        more = json_object();
        set_number(more, "number", facts->closed.tls_alert);
        set_text(more, "name", facts->closed.tls_alert_name);
        set_text(more, "by", facts->closed.tls_alert_sent ? "sipward" : "client");
        json_object_set_new(closed, "tls_alert", more);
    }
    if (facts->closed.websocket_code) {
        more = json_object();
        set_number(more, "code", facts->closed.websocket_code);
        set_text(more, "by", facts->closed.websocket_sent ? "sipward" : "client");
        json_object_set_new(closed, "websocket_close", more);
    }
    return closed;
}

static json_t *flow_make(unsigned worker, const struct facts *facts)
{
    json_t *flow = json_object();
    char id[ID_TEXT];

    snprintf(id, sizeof(id), "%u.%" PRIu64, worker, facts->number);
    set_text(flow, "id", id);
    set_text(flow, "state", facts->state);
    set_text(flow, "transport", facts->transport);
    set_address(flow, "peer", &facts->peer);
    set_address(flow, "local", &facts->local);
    json_object_set_new(flow, "listener", listener_make(facts));
    set_address(flow, "proxy", &facts->sender);
    set_time(flow, "since", facts->since);
    set_time(flow, "last_heard", facts->heard);
    json_object_set_new(flow, "tls", tls_make(facts));
    set_text(flow, "host", facts_text(facts, facts->host));
    json_object_set_new(flow, "aors", aors_make(facts));
    set_number(flow, "dialogs", facts->dialogs);
    set_number(flow, "open_requests", facts->requests);
    set_number(flow, "messages_in", facts->messages_in);
    set_number(flow, "messages_out", facts->messages_out);
    set_number(flow, "bytes_in", facts->bytes_in);
    set_number(flow, "bytes_out", facts->bytes_out);
    set_number(flow, "queued_bytes", facts->queued);
    json_object_set_new(flow, "rtt_ms", json_real(facts->rtt_us / 1000.0));
    set_number(flow, "retransmits", facts->retransmits);
    json_object_set_new(flow, "keepalive", keepalive_make(facts));
    json_object_set_new(flow, "last_response", response_make(facts));
    json_object_set_new(flow, "closed", closed_make(facts));
    return flow;
}

/* ---- pages ---- */

static void object_print(FILE *out, json_t *object, size_t flags)
{
    if (!object || json_dumpf(object, out, flags | JSON_REAL_PRECISION(6)))
        fputs("null", out); /* no memory: the page stays JSON */
    json_decref(object);
}

void flow_print(FILE *out, unsigned worker, const struct facts *facts)
{
    object_print(out, flow_make(worker, facts), JSON_INDENT(2));
    fputc('\n', out);
}

void flows_print_begin(FILE *out)
{
    fputs("{\"flows\": [", out);
}

void flows_print_one(FILE *out, struct flows_page *page, unsigned worker, const struct facts *facts)
{
    fputs(page->count++ ? ",\n" : "\n", out);
    object_print(out, flow_make(worker, facts), 0);
    page->worker = worker;
    page->number = facts->number;
}

void flows_print_end(FILE *out, const struct flows_page *page)
{
    const char *separator = "";

    fputs("\n], \"next\": ", out);
    if (page->more)
        fprintf(out, "\"%u.%" PRIu64 "\"", page->worker, page->number);
    else
        fputs("null", out);
    fputs(", \"silent_workers\": [", out);
    for (unsigned i = 0; i < CONF_WORKERS_MAX; i++)
        if (page->silent[i]) {
            fprintf(out, "%s%u", separator, i);
            separator = ", ";
        }
    fputs("]}\n", out);
}

#include "client.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MESSAGE_MAX = 65536, DIALOG_MAX = 8192 };

static const char *const methods[] = {"REGISTER", "OPTIONS", "INVITE", "BYE"};
static const char kinds[] = {'r', 'o', 'i', 'b'};

static char message_text[MESSAGE_MAX];

uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void mistake(struct crowd *crowd, const struct client *client, const char *what, struct text detail)
{
    if (!crowd->counts.mistakes++)
        snprintf(crowd->counts.mistake, sizeof(crowd->counts.mistake), "u%u: %s: %.*s",
                 client->number, what, (int)(detail.len < 160 ? detail.len : 160), detail.p);
}

static struct text text_of(const char *s)
{
    return (struct text){s, strlen(s)};
}

/* What a browser offers, in length and shape: one audio stream, ICE candidates, DTLS. */
static void sdp_make(char *to, size_t size)
{
    struct out out = {to, 0, size - 1, false};
    char line[160];

    out_str(&out, "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
                  "a=group:BUNDLE 0\r\nm=audio 50000 UDP/TLS/RTP/SAVPF 111 0 8 126\r\n"
                  "c=IN IP4 127.0.0.1\r\na=rtpmap:111 opus/48000/2\r\na=rtpmap:0 PCMU/8000\r\n"
                  "a=setup:actpass\r\na=mid:0\r\na=sendrecv\r\na=rtcp-mux\r\n");
    for (unsigned i = 0; out.len + sizeof(line) < size - 100; i++) {
        int len = snprintf(line, sizeof(line),
                           "a=candidate:%010u 1 udp %u 192.0.2.%u %u typ host generation 0\r\n",
                           2154157821u + i, 2122260223u - i, i & 255, 50000 + i);
        out_text(&out, line, (size_t)len);
    }
    to[out.len] = '\0';
}

void crowd_init(struct crowd *crowd, const char *domain, const char *via, const char *transport)
{
    crowd->kind.domain = domain;
    crowd->via = via;
    crowd->transport = transport;
    snprintf(crowd->salt, sizeof(crowd->salt), "%04x",
             (unsigned)(now_ns() / 1000 ^ getpid()) & 0xffff);
    sdp_make(crowd->offer, 3072);
    sdp_make(crowd->answer, sizeof(crowd->answer));
}

void client_init(struct client *client, struct crowd *crowd, unsigned number)
{
    *client = (struct client){.crowd = crowd, .number = number, .wire.fd = -1};
}

void client_named(struct client *client)
{
    struct sockaddr_in own = {.sin_family = AF_INET};
    socklen_t size = sizeof(own);
    char address[INET_ADDRSTRLEN];

    if (client->wire.kind->websocket) { /* RFC 7118 5.5: a browser does not know its address */
        snprintf(client->local, sizeof(client->local), "c%u.invalid", client->number);
    } else if (!getsockname(client->wire.fd, (struct sockaddr *)&own, &size)) {
        inet_ntop(AF_INET, &own.sin_addr, address, sizeof(address));
        snprintf(client->local, sizeof(client->local), "%s:%u", address, ntohs(own.sin_port));
    }
}

/* ---- asking ---- */

static void hex(char *to, unsigned digits, uint32_t number)
{
    while (digits--) {
        to[digits] = "0123456789abcdef"[number & 15];
        number >>= 4;
    }
}

/* Names a request or dialog, never twice in a run of the bench: kind, run, client, number. */
static void id_make(char id[ID_LEN + 1], char kind, const struct client *client, uint32_t sequence)
{
    id[0] = kind;
    memcpy(id + 1, client->crowd->salt, 4);
    hex(id + 5, 6, client->number);
    hex(id + 11, 8, sequence);
    id[ID_LEN] = '\0';
}

static void contact_put(struct out *out, const struct client *client)
{
    out_str(out, "sip:u");
    out_number(out, client->number);
    out_str(out, "@");
    out_str(out, client->local);
    out_str(out, ";transport=");
    out_str(out, client->crowd->transport);
}

static void aor_put(struct out *out, const struct client *client, const char *header)
{
    out_str(out, header);
    out_str(out, "<sip:u");
    out_number(out, client->number);
    out_str(out, "@");
    out_str(out, client->crowd->kind.domain);
    out_str(out, ">");
}

/* Request line, Via and what all have. `to`: the To header's value; NULL: the client itself. */
static void request_put(struct out *out, const struct client *client, const char *method,
                        struct text uri, const char *branch, const char *dialog, unsigned cseq,
                        struct text to)
{
    out_str(out, method);
    out_str(out, " ");
    out_put(out, uri);
    out_str(out, " SIP/2.0\r\nVia: SIP/2.0/");
    out_str(out, client->crowd->via);
    out_str(out, " ");
    out_str(out, client->local);
    out_str(out, ";branch=z9hG4bK-");
    out_text(out, branch, ID_LEN);
    out_str(out, ";rport\r\nMax-Forwards: 70\r\n");
    aor_put(out, client, "From: ");
    out_str(out, ";tag=");
    out_text(out, dialog, ID_LEN);
    out_str(out, "\r\nTo: ");
    out_put(out, to);
    out_str(out, "\r\nCall-ID: ");
    out_text(out, dialog, ID_LEN);
    out_str(out, "@bench\r\nCSeq: ");
    out_number(out, cseq);
    out_str(out, " ");
    out_str(out, method);
    out_str(out, "\r\nUser-Agent: sipward bench/1.0 (a name as long as those of phones are)\r\n");
}

static void body_put(struct out *out, const char *type, struct text body)
{
    if (type) {
        out_str(out, "Content-Type: ");
        out_str(out, type);
        out_str(out, "\r\n");
    }
    out_str(out, "Content-Length: ");
    out_number(out, body.len);
    out_str(out, "\r\n\r\n");
    out_put(out, body);
}

static void pend(struct client *client, enum request what, uint64_t since, unsigned cseq)
{
    client->pending.open = true;
    client->pending.what = what;
    client->pending.since = since;
    client->pending.cseq = cseq;
    id_make(client->pending.id, kinds[what], client, client->sequence++);
    if (what != REQUEST_BYE) /* which is in its INVITE's dialog */
        memcpy(client->pending.dialog, client->pending.id, sizeof(client->pending.id));
}

static struct text user_uri(const struct client *client, char *text, size_t size, const char *user)
{
    int len = snprintf(text, size, "sip:%s@%s", user, client->crowd->kind.domain);

    return (struct text){text, (size_t)len};
}

static struct text in_brackets(struct text uri, char *text, size_t size)
{
    int len = snprintf(text, size, "<%.*s>", (int)uri.len, uri.p);

    return (struct text){text, (size_t)len};
}

void client_register(struct client *client, uint64_t since)
{
    struct out out = {message_text, 0, MESSAGE_MAX, false};
    char uri[160], own[160], device[13];

    pend(client, REQUEST_REGISTER, since, ++client->registered);
    id_make(client->pending.dialog, 'r', client, UINT32_MAX); /* one for all refreshes */
    snprintf(uri, sizeof(uri), "sip:%s", client->crowd->kind.domain);
    snprintf(own, sizeof(own), "<sip:u%u@%s>", client->number, client->crowd->kind.domain);
    snprintf(device, sizeof(device), "%012x", client->number);
    request_put(&out, client, "REGISTER", text_of(uri), client->pending.id, client->pending.dialog,
                client->pending.cseq, text_of(own));
    out_str(&out, "Contact: <");
    contact_put(&out, client);
    out_str(&out, ">;reg-id=1;+sip.instance=\"<urn:uuid:00000000-0000-4000-8000-");
    out_str(&out, device);
    out_str(&out, ">\"\r\nExpires: 3600\r\nSupported: path, outbound, gruu\r\n"
                  "Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, NOTIFY, REFER, INFO, UPDATE\r\n");
    body_put(&out, NULL, text_of(""));
    wire_send(&client->wire, out.p, out.len);
}

void client_options(struct client *client, uint64_t since)
{
    struct out out = {message_text, 0, MESSAGE_MAX, false};
    char name[16], uri[160], to[160];
    struct text target;

    pend(client, REQUEST_OPTIONS, since, 1);
    snprintf(name, sizeof(name), "u%u", client->number);
    target = user_uri(client, uri, sizeof(uri), name);
    request_put(&out, client, "OPTIONS", target, client->pending.id, client->pending.dialog, 1,
                in_brackets(target, to, sizeof(to)));
    out_str(&out, "Accept: application/sdp\r\n");
    body_put(&out, NULL, text_of(""));
    wire_send(&client->wire, out.p, out.len);
}

static void invite(struct client *client, const char *user, const char *id, struct text sdp)
{
    struct out out = {message_text, 0, MESSAGE_MAX, false};
    char uri[160], to[160];
    struct text target = user_uri(client, uri, sizeof(uri), user);

    request_put(&out, client, "INVITE", target, id, id, 1, in_brackets(target, to, sizeof(to)));
    out_str(&out, "Contact: <");
    contact_put(&out, client);
    out_str(&out, ">\r\nAllow: INVITE, ACK, CANCEL, BYE, OPTIONS\r\nSupported: outbound\r\n");
    body_put(&out, sdp.len ? "application/sdp" : NULL, sdp);
    wire_send(&client->wire, out.p, out.len);
}

void client_call(struct client *client, unsigned callee, uint64_t since)
{
    char name[16];

    pend(client, REQUEST_INVITE, since, 1);
    snprintf(name, sizeof(name), "u%u", callee);
    invite(client, name, client->pending.id, text_of(client->crowd->offer));
}

void client_hold(struct client *client)
{
    char id[ID_LEN + 1];

    id_make(id, 'h', client, client->hold_from + client->held++);
    invite(client, "hold", id, text_of(""));
}

/* CANCEL, and the ACK of the 487: with the INVITE's branch (RFC 3261 9.1, 17.1.1.3). */
static void hold_end(struct client *client, const char *method, const char *id, struct text to)
{
    struct out out = {message_text, 0, MESSAGE_MAX, false};
    char uri[160];

    request_put(&out, client, method, user_uri(client, uri, sizeof(uri), "hold"), id, id, 1, to);
    body_put(&out, NULL, text_of(""));
    wire_send(&client->wire, out.p, out.len);
}

void client_release(struct client *client)
{
    char id[ID_LEN + 1], uri[160], to[160];

    id_make(id, 'h', client, client->hold_from++);
    client->held--;
    hold_end(client, "CANCEL", id,
             in_brackets(user_uri(client, uri, sizeof(uri), "hold"), to, sizeof(to)));
}

/* ---- a call that is answered ---- */

/* To, Contact URI and route set of the dialog that a 2xx made (RFC 3261 12.1.2), as three texts. */
static bool dialog_keep(struct client *client, const struct sip *response)
{
    static char text[DIALOG_MAX];
    struct out out = {text, 0, sizeof(text), false};

    out_put(&out, response->to);
    out_text(&out, "", 1);
    out_put(&out, sip_uri_of(response->contact));
    out_text(&out, "", 1);
    for (unsigned i = response->record_routes.count; i-- > 0;) {
        out_str(&out, "Route: ");
        out_put(&out, response->record_routes.value[i]);
        out_str(&out, "\r\n");
    }
    out_text(&out, "", 1);
    free(client->dialog);
    client->dialog = out.full ? NULL : malloc(out.len);
    if (client->dialog)
        memcpy(client->dialog, text, out.len);
    return client->dialog;
}

static void dialog_send(struct client *client, const char *method, const char *branch,
                        unsigned cseq)
{
    struct out out = {message_text, 0, MESSAGE_MAX, false};
    struct text to = text_of(client->dialog), uri = text_of(to.p + to.len + 1);

    request_put(&out, client, method, uri, branch, client->pending.dialog, cseq, to);
    out_put(&out, text_of(uri.p + uri.len + 1));
    body_put(&out, NULL, text_of(""));
    wire_send(&client->wire, out.p, out.len);
}

static void call_answered(struct client *client)
{
    char id[ID_LEN + 1];

    id_make(id, 'a', client, client->sequence++);
    dialog_send(client, "ACK", id, 1);
    pend(client, REQUEST_BYE, now_ns(), 2);
    dialog_send(client, "BYE", client->pending.id, 2);
}

/* ---- judging what is answered ---- */

static bool id_in(struct text text, size_t at, const char *id)
{
    return text.p && text.len >= at + ID_LEN && memcmp(text.p + at, id, ID_LEN) == 0;
}

static bool contact_is_own(const struct client *client, struct text contact)
{
    char own[160];
    struct out out = {own, 0, sizeof(own), false};

    contact_put(&out, client);
    return text_same(sip_uri_of(contact), (struct text){own, out.len});
}

/* What is wrong with a response; NULL: nothing. */
static const char *response_wrong(const struct client *client, const struct sip *response)
{
    const enum request what = client->pending.what;
    struct text branch = sip_param(response->vias.value[0], "branch");

    if (!client->pending.open)
        return "nothing was asked";
    if (response->vias.count != 1)
        return "not one Via";
    if (branch.len != 8 + ID_LEN || !id_in(branch, 8, client->pending.id))
        return "another branch";
    if (response->call_id.len != ID_LEN + 6 || !id_in(response->call_id, 0, client->pending.dialog))
        return "another Call-ID";
    if (response->cseq != client->pending.cseq || !text_is(response->cseq_method, methods[what]))
        return "another CSeq";
    if (!id_in(sip_param(response->from, "tag"), 0, client->pending.dialog))
        return "another tag in From";
    if (response->status > 100 && !sip_param(response->to, "tag").p)
        return "no tag in To";
    if (response->status >= 300)
        return "refused";
    if (response->status < 200)
        return what == REQUEST_INVITE ? NULL : "a provisional response";
    if (what == REQUEST_REGISTER && !contact_is_own(client, response->contact))
        return "another Contact";
    if (what == REQUEST_INVITE && !text_is(response->body, client->crowd->answer))
        return "another body";
    return NULL;
}

static void response_mistake(struct client *client, const struct sip *response, const char *wrong)
{
    char text[80];
    int len = snprintf(text, sizeof(text), "%d to %.*s", response->status,
                       (int)response->cseq_method.len, response->cseq_method.p);

    mistake(client->crowd, client, wrong, (struct text){text, (size_t)len});
}

static void held_response(struct client *client, const struct sip *response, struct text branch)
{
    struct counts *counts = &client->crowd->counts;
    char id[ID_LEN + 1] = "";

    memcpy(id, branch.p + 8, ID_LEN);
    if (response->vias.count != 1 || !id_in(response->call_id, 0, id))
        response_mistake(client, response, "not one Via, or another Call-ID");
    else if (text_is(response->cseq_method, "CANCEL")
                 ? response->status != 200
                 : response->status != 100 && response->status != 180 && response->status != 487)
        response_mistake(client, response, "a held call is answered otherwise");
    if (!text_is(response->cseq_method, "INVITE") || response->status == 100)
        return;
    if (response->status < 200) {
        counts->ringing++;
        return;
    }
    counts->ended++;
    hold_end(client, "ACK", id, response->to);
}

static void finish(struct client *client)
{
    client->pending.open = false;
    client->crowd->finished(client);
}

/* To an earlier INVITE of this client: UDP behind the edge loses some, so they come again. A 2xx
 * wants another ACK (RFC 3261 13.2.2.4). */
static bool is_repeated(const struct client *client, struct text branch)
{
    char id[ID_LEN + 1];

    id_make(id, 'i', client, 0);
    return branch.len == 8 + ID_LEN && memcmp(branch.p + 8, id, ID_LEN - 8) == 0 &&
           !id_in(branch, 8, client->pending.id);
}

static void repeated(struct client *client, const struct sip *response)
{
    char id[ID_LEN + 1];

    client->crowd->counts.repeated++;
    if (response->status < 200 || !client->dialog ||
        !id_in(response->call_id, 0, client->pending.dialog))
        return;
    id_make(id, 'a', client, client->sequence++);
    dialog_send(client, "ACK", id, 1);
}

static void response(struct client *client, const struct sip *response)
{
    struct counts *counts = &client->crowd->counts;
    struct text branch = sip_param(response->vias.value[0], "branch");
    const char *wrong;

    if (branch.len == 8 + ID_LEN && branch.p[8] == 'h') {
        held_response(client, response, branch);
        return;
    }
    if (is_repeated(client, branch) && response->status < 300) {
        repeated(client, response);
        return;
    }
    wrong = response_wrong(client, response);
    if (wrong) {
        response_mistake(client, response, wrong);
        if (client->pending.open && response->status >= 300)
            finish(client);
        return;
    }
    if (response->status < 200)
        return;
    histogram_add(&counts->times[client->pending.what], now_ns() - client->pending.since);
    if (client->pending.what == REQUEST_INVITE) {
        if (dialog_keep(client, response))
            call_answered(client);
        return;
    }
    if (client->pending.what == REQUEST_BYE) {
        counts->calls++;
        free(client->dialog);
        client->dialog = NULL;
    }
    finish(client);
}

/* ---- being called ---- */

/* A request for "sip:u17@..." has come to the client 17. */
static bool is_for(const struct client *client, const struct sip *request)
{
    char own[24];
    int len = snprintf(own, sizeof(own), "sip:u%u@", client->number);

    return request->uri.len > (size_t)len && memcmp(request->uri.p, own, (size_t)len) == 0;
}

static void answer_send(struct client *client, const struct sip *request,
                        const struct answer *answer)
{
    struct out out = {message_text, 0, MESSAGE_MAX, false};

    sip_answer(&out, request, answer);
    wire_send(&client->wire, out.p, out.len);
}

static void called(struct client *client, const struct sip *request, const char *tag)
{
    char lines[400];
    struct out more = {lines, 0, sizeof(lines), false};
    struct answer answer = {.status = "180 Ringing", .to_tag = tag};

    client->crowd->counts.called++;
    if (!text_is(request->body, client->crowd->offer))
        mistake(client->crowd, client, "another body", request->uri);
    out_str(&more, "Contact: <");
    contact_put(&more, client);
    out_str(&more, ">\r\n");
    answer.more = (struct text){lines, more.len};
    answer_send(client, request, &answer);

    out_str(&more, "Content-Type: application/sdp\r\n");
    answer.status = "200 OK";
    answer.more = (struct text){lines, more.len};
    answer.body = text_of(client->crowd->answer);
    answer_send(client, request, &answer);
}

static void request(struct client *client, const struct sip *request)
{
    const struct answer ok = {.status = "200 OK"};
    char tag[16];

    snprintf(tag, sizeof(tag), "c%u", client->number);
    if (!is_for(client, request)) {
        mistake(client->crowd, client, "a request for somebody else", request->uri);
    } else if (text_is(request->method, "INVITE")) {
        called(client, request, tag);
    } else if (!text_is(sip_param(request->to, "tag"), tag)) {
        mistake(client->crowd, client, "a request in another dialog", request->to);
    } else if (text_is(request->method, "ACK")) {
        client->crowd->counts.acked++;
    } else if (text_is(request->method, "BYE")) {
        answer_send(client, request, &ok);
    } else {
        mistake(client->crowd, client, "a request that nobody sent", request->method);
    }
}

void client_message(struct wire *wire, const struct sip *sip)
{
    struct client *client = (struct client *)wire;

    if (sip->status)
        response(client, sip);
    else
        request(client, sip);
}

void client_failed(struct client *client, const char *why)
{
    mistake(client->crowd, client, why,
            text_of(client->pending.open ? methods[client->pending.what] : "(idle)"));
    if (client->pending.open)
        finish(client);
}

void client_reset(struct client *client)
{
    client->pending.open = false;
    free(client->dialog);
    client->dialog = NULL;
    client->hold_from += client->held;
    client->held = 0;
}

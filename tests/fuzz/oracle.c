/* What must be true of everything that the proxy sends, whatever it was given. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include <osipparser2/osip_parser.h>
#include <xxhash.h>

#include "proxy/text.h"
#include "proxy/transaction_internal.h"
#include "world.h"

enum { ASKED_MAX = 2048, SENT_MAX = 4096, FINALS_MAX = 64 };

/* A request that the proxy was given, and how often. */
struct asked {
    uint64_t key;              /* branch, Call-ID, CSeq */
    uint64_t sent[FINALS_MAX]; /* hashes of the final responses to it */
    struct place from;
    unsigned count, finals;
    bool is_ack, is_invite;
};

/* A request that the proxy has sent. */
struct sent {
    struct place to;
    uint64_t branch, bytes;
};

/* What it is being given. */
static struct {
    bool active, foreign;
    struct place from;
    char *text;
    size_t len;
    int max_forwards;         /* the highest in it; -1: no request */
    bool response, responded; /* there is a response in it; to a request that went there */
} cause;

static struct asked asked[ASKED_MAX];
static struct sent sent[SENT_MAX];
static unsigned asked_count, sent_count;
static struct sip_msg msg;
static struct buf again;

void oracle_reset(const struct world *world)
{
    (void)world;
    asked_count = sent_count = 0;
    if (!again.p && buf_create(&again, 1 << 20))
        abort();
}

static bool same_place(const struct place *a, const struct place *b)
{
    struct hop one = {.core = a->core}, two = {.core = b->core};

    if (a->client >= 0 || b->client >= 0)
        return a->client == b->client && a->life == b->life;
    return hop_same_host(&one, &two);
}

static uint64_t hash(struct str s, uint64_t before)
{
    return XXH3_64bits_withSeed(s.p ? s.p : "", s.len, before);
}

/* Blanks and leading zeros aside. */
static uint64_t cseq_hash(struct str value, uint64_t before)
{
    struct str number = value.p ? value : STR("");

    while (number.len > 1 && number.p[0] == '0')
        number = (struct str){number.p + 1, number.len - 1};
    value = number;
    for (number.len = 0;
         number.len < value.len && value.p[number.len] >= '0' && value.p[number.len] <= '9';)
        number.len++;
    before = hash(number, before);
    return hash(str_trim((struct str){value.p + number.len, value.len - number.len}), before);
}

static uint64_t transaction_key(const struct sip_msg *m)
{
    return cseq_hash(sip_value(m, HEADER_CSEQ), hash(m->call_id, hash(m->top_branch, 1)));
}

static struct asked *asked_find(const struct place *from, uint64_t key)
{
    for (unsigned i = 0; i < asked_count; i++)
        if (asked[i].key == key && same_place(&asked[i].from, from))
            return &asked[i];
    return NULL;
}

static bool sent_find(const struct place *to, struct str branch)
{
    uint64_t wanted = hash(branch, 0);
    unsigned count = sent_count < SENT_MAX ? sent_count : SENT_MAX;

    for (unsigned i = 0; i < count; i++)
        if (sent[i].branch == wanted && same_place(&sent[i].to, to))
            return true;
    return false;
}

/* ---- what it is given ---- */

static void request_given(void)
{
    struct asked *known = asked_find(&cause.from, transaction_key(&msg));
    uint64_t hops = 255;

    if (sip_find(&msg, HEADER_MAX_FORWARDS, 0) >= 0)
        (void)str_to_uint(sip_value(&msg, HEADER_MAX_FORWARDS), 255, &hops);
    if ((int)hops > cause.max_forwards)
        cause.max_forwards = (int)hops;
    if (!known) {
        assert(asked_count < ASKED_MAX);
        known = &asked[asked_count++];
        *known = (struct asked){
            .from = cause.from, .key = transaction_key(&msg), .is_ack = msg.method == SIP_ACK};
    }
    known->is_invite |= msg.method == SIP_INVITE;
    known->is_ack &= msg.method == SIP_ACK;
    known->count++;
}

static void message_given(char *bytes, size_t len, enum sip_framing framing)
{
    (void)sip_scan(bytes, len, framing, true, &msg);
    if (msg.is_request) {
        request_given();
    } else {
        cause.response = true;
        cause.responded |= sent_find(&cause.from, msg.top_branch);
    }
}

static bool is_foreign(const struct world *world, const struct place *from)
{
    struct hop hop = {.core = from->core};

    if (from->client >= 0 || !core_addr_is_ip(&from->core))
        return false;
    for (unsigned i = 0; i < world->view.endpoint_count; i++)
        if (hop_same_host(&hop, &(struct hop){.core = world->view.endpoints[i].addr}))
            return false;
    return true;
}

void oracle_given(const struct world *world, const struct place *from, struct str bytes,
                  size_t scanned, enum sip_framing framing)
{
    struct sip_frame frame;
    char *copy = malloc(bytes.len + 1);

    assert(copy && !cause.active);
    cause.text = malloc(bytes.len + 1);
    assert(cause.text);
    memcpy(cause.text, bytes.p, bytes.len);
    cause.len = bytes.len;
    cause.active = true;
    cause.from = *from;
    cause.foreign = is_foreign(world, from);
    cause.max_forwards = -1;
    cause.response = cause.responded = false;

    memcpy(copy, bytes.p, bytes.len);
    if (framing == SIP_DATAGRAM) {
        message_given(copy, bytes.len, framing);
    } else {
        for (size_t done = 0; done < bytes.len; done += frame.taken) {
            sip_frame((struct str){copy + done, bytes.len - done}, world->conf.limits.message_size,
                      &scanned, &frame);
            if (frame.kind == FRAME_MESSAGE || frame.kind == FRAME_BROKEN)
                message_given(copy + done + frame.start, frame.len,
                              frame.kind == FRAME_BROKEN ? SIP_DATAGRAM : framing);
            if (frame.kind == FRAME_BROKEN || frame.kind == FRAME_MORE)
                break;
        }
    }
    free(copy);
}

void oracle_done(void)
{
    free(cause.text);
    cause.text = NULL;
    cause.active = false;
}

/* Nobody has to answer any more, and a new connection of that client is another one. */
void oracle_flow_gone(const struct client *client)
{
    for (unsigned i = 0; i < asked_count;)
        if (asked[i].from.client == (int)client->number)
            asked[i] = asked[--asked_count];
        else
            i++;
}

/* ---- what it sends ---- */

static bool is_digits(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
    return s.len > 0;
}

/* Lines end in CRLF, none is folded, and Content-Length is there once and exact (N1, N3, V4). */
static void lines_are_canonical(struct str bytes)
{
    const char *at = bytes.p, *end = bytes.p + bytes.len;
    uint64_t length = UINT64_MAX;
    unsigned lengths = 0;

    for (unsigned n = 0;; n++) {
        const char *stop = memmem(at, (size_t)(end - at), "\r\n", 2);
        struct str line, value;

        assert(stop);
        line = (struct str){at, (size_t)(stop - at)};
        at = stop + 2;
        if (!line.len)
            break;
        for (size_t i = 0; i < line.len; i++)
            assert(line.p[i] != '\r' && line.p[i] != '\n' && line.p[i] != '\0');
        assert(line.p[0] != ' ' && line.p[0] != '\t');
        if (n == 0)
            continue;
        const char *colon = memchr(line.p, ':', line.len);
        assert(colon && colon > line.p && colon[-1] != ' ' && colon[-1] != '\t');
        value = (struct str){colon + 1, line.len - (size_t)(colon + 1 - line.p)};
        if (colon - line.p == 1)
            assert(!strchr("vfticmlksbauvrdjxyoen", *line.p)); /* compact forms are gone */
        if (colon - line.p == 14 && !strncasecmp(line.p, "Content-Length", 14)) {
            assert(is_digits(str_trim(value)));
            assert(!str_to_uint(str_trim(value), SIZE_MAX, &length));
            lengths++;
        }
    }
    assert(lengths == 1 && length == (uint64_t)(end - at));
}

/* What the proxy understands is clear to libosip2's whole parser as well. Other headers are their
 * sender's; and with a body it wants a Content-Type. */
static void osip_understands(void)
{
    osip_message_t *parsed;

    for (unsigned i = 0; i < msg.header_count;)
        if (msg.headers[i].id == HEADER_OTHER || msg.headers[i].id > HEADER_CONTACT)
            sip_drop(&msg, i);
        else
            i++;
    msg.body.len = 0;
    buf_reset(&again);
    sip_print(&msg, &again);
    assert(osip_message_init(&parsed) == 0);
    if (osip_message_parse(parsed, again.p, again.len)) {
        fprintf(stderr, "libosip2 does not understand:\n" STR_FMT "\n", STR_ARG(again));
        abort();
    }
    osip_message_free(parsed);
}

static bool has_header(const char *name)
{
    return sip_find_name(&msg, str_of(name), 0) >= 0;
}

/* Does any token in what it was given name this client's connection (R7)? */
static bool cause_names(struct world *world, const struct client *client)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    for (size_t i = 0; i < cause.len;) {
        size_t end = i;
        struct token token;

        while (end < cause.len && cause.text[end] && strchr(alphabet, cause.text[end]))
            end++;
        arena_reset(&world->arena);
        if (!token_parse(world->keys, &world->arena, (struct str){cause.text + i, end - i},
                         &token) &&
            token.worker == 2 && token.instance == 12345 && token.slot == client->flow->slot &&
            token.generation == client->flow->generation)
            return true;
        i = end + 1;
    }
    return false;
}

/* Nowhere but to backends and flows (R2); by TCP where a Route says so, or for the size (T7). */
static bool is_backend(const struct world *world, const struct core_addr *to)
{
    for (unsigned i = 0; i < world->view.endpoint_count; i++) {
        struct core_addr backend = world->view.endpoints[i].addr;

        if (core_addr_is_ip(&backend) && core_addr_is_ip(to))
            backend.kind = to->kind;
        if (core_addr_eq(&backend, to))
            return true;
    }
    return false;
}

/* ---- what a passage leaves in a message ---- */

static bool has_contact_token(struct world *world, struct str uri_params)
{
    struct token token;
    struct str text;

    return sip_param(uri_params, STR("flow"), &text) && text.p &&
           !token_parse(world->keys, &world->arena, text, &token) && token.kind == TOKEN_CONTACT;
}

/* Masked, each Contact in the core has a token of ours, and none comes back to the client in the
 * answer to its REGISTER (R6). */
static void contacts_check(struct world *world, bool to_core)
{
    for (int i = -1; (i = sip_find(&msg, HEADER_CONTACT, (unsigned)(i + 1))) >= 0;) {
        struct sip_addr addr;

        arena_reset(&world->arena);
        if (sip_addr_parse(&world->arena, msg.headers[i].value, &addr) || !addr.uri.host.p)
            continue;
        assert(has_contact_token(world, addr.uri.params) == to_core);
    }
}

static void masking_check(struct world *world, const struct place *to)
{
    if (world->options.contact_path || !cause.active)
        return;
    if (to->client < 0 && (msg.is_request || msg.status < 300))
        contacts_check(world, true);
    if (to->client >= 0 && msg.method == SIP_REGISTER && !msg.is_request && msg.status / 100 == 2)
        contacts_check(world, false);
}

static void names_flow(int index, const struct flow *flow)
{
    struct str value;

    assert(index >= 0);
    value = msg.headers[index].value;
    assert(memmem(value.p, value.len, flow->token, TOKEN_FLOW_LEN));
}

/* A request that has just passed between a client and the core (R3, R5, N6, N7). */
static void passage_check(struct world *world, int from_client, const struct place *to)
{
    bool to_core = to->client < 0;
    const struct flow *flow = world->clients[to_core ? from_client : to->client].flow;
    bool dialog = !msg.to_tag.p && (msg.method == SIP_INVITE || msg.method == SIP_SUBSCRIBE ||
                                    msg.method == SIP_REFER);

    if (dialog) { /* one for each side */
        int first = sip_find(&msg, HEADER_RECORD_ROUTE, 0);

        names_flow(first, flow);
        names_flow(sip_find(&msg, HEADER_RECORD_ROUTE, (unsigned)(first + 1)), flow);
    }
    if (to_core && msg.method == SIP_REGISTER && world->options.contact_path)
        names_flow(sip_find(&msg, HEADER_PATH, 0), flow);
    if (to_core && world->options.header_rules) {
        int edge = sip_find_name(&msg, STR("X-Edge"), 0);
        int address = sip_find_name(&msg, STR("X-Client-Address"), 0);

        assert(edge >= 0 && sip_find_name(&msg, STR("X-Edge"), (unsigned)(edge + 1)) < 0);
        assert(str_eq(msg.headers[edge].value, STR("one")));
        assert(address >= 0 &&
               sip_find_name(&msg, STR("X-Client-Address"), (unsigned)(address + 1)) < 0);
    }
    assert(to_core || !world->options.header_rules || !has_header("Server"));
}

/* The same once more: it has been judged. */
static bool is_retransmission(const struct place *to, uint64_t bytes)
{
    unsigned count = sent_count < SENT_MAX ? sent_count : SENT_MAX;

    for (unsigned i = 0; i < count; i++)
        if (sent[i].bytes == bytes && same_place(&sent[i].to, to))
            return true;
    return false;
}

/* A request of a client that is there, which goes to another backend (B3): the client; -1: not
 * that.
 */
static int moved_from(const struct world *world, const struct place *to)
{
    int below = sip_find(&msg, HEADER_VIA, (unsigned)sip_find(&msg, HEADER_VIA, 0) + 1);
    struct str branch = {NULL, 0};
    struct text_via via;
    uint64_t key;

    if (to->client >= 0 || msg.to_tag.p || below < 0 ||
        !text_via_cut(msg.headers[below].value, &via))
        return -1;
    (void)sip_param(via.params, STR("branch"), &branch);
    key = cseq_hash(sip_value(&msg, HEADER_CSEQ), hash(msg.call_id, hash(branch, 1)));
    for (unsigned i = 0; i < asked_count; i++) {
        const struct place *from = &asked[i].from;

        if (asked[i].key == key && from->client >= 0 && asked[i].finals < asked[i].count &&
            world->clients[from->client].life == from->life)
            return from->client;
    }
    return -1;
}

static void request_sent(struct world *world, const struct place *to, struct str bytes)
{
    int from = cause.from.client, moved;
    uint64_t hops = 0;

    assert(to->client >= 0 || to->core.kind == CORE_SELF || is_backend(world, &to->core));
    assert(!str_to_uint(sip_value(&msg, HEADER_MAX_FORWARDS), 254, &hops));
    if (sent_find(to, msg.top_branch)) /* once more, or its ACK or CANCEL */
        return;
    moved = !cause.active || (cause.responded && msg.method != SIP_ACK && msg.method != SIP_BYE)
                ? moved_from(world, to)
                : -1;
    assert(cause.active || moved >= 0); /* a request out of nothing */
    if (moved >= 0) {
        from = moved;
    } else if (cause.responded) {
        assert(msg.method == SIP_ACK || msg.method == SIP_BYE); /* its caller is gone (T6) */
        assert(cause.from.client < 0 && to->client < 0);
    } else {
        assert((int)hops < cause.max_forwards); /* M1 */
        assert((to->client < 0) == (cause.from.client >= 0));
    }
    if (to->client >= 0)
        assert(cause_names(world, &world->clients[to->client]));
    if (!cause.responded || moved >= 0)
        passage_check(world, from, to);
    sent[sent_count++ % SENT_MAX] =
        (struct sent){.to = *to, .branch = hash(msg.top_branch, 0), .bytes = hash(bytes, 0)};
}

static void response_sent(const struct place *to, struct str bytes)
{
    struct asked *request = asked_find(to, transaction_key(&msg));
    uint64_t final = hash(bytes, 0);

    assert(request && !request->is_ack);
    assert(!cause.active || !cause.response || cause.responded || cause.max_forwards >= 0);
    if (msg.status < 200 || (request->is_invite && msg.status < 300))
        return;
    for (unsigned i = 0; to->client < 0 && i < request->finals; i++)
        if (i == FINALS_MAX || request->sent[i] == final)
            return; /* again, as the core side may lose it (T8) */
    assert(request->finals < request->count);
    if (request->finals < FINALS_MAX)
        request->sent[request->finals] = final;
    request->finals++;
}

/* A message that a scan has nothing against, in its canonical form: into `msg`. What it borrows
 * from is the caller's to free. */
static char *scan_canonical(struct str bytes)
{
    char *copy = malloc(bytes.len);

    lines_are_canonical(bytes);
    assert(copy);
    memcpy(copy, bytes.p, bytes.len);
    assert(sip_scan(copy, bytes.len, SIP_STREAM, true, &msg) == 0);
    buf_reset(&again);
    sip_print(&msg, &again);
    assert(str_eq(buf_str(&again), bytes));
    return copy;
}

void oracle_registrar_sent(struct str bytes)
{
    free(scan_canonical(bytes));
}

/* "Privacy: id" keeps the caller's identity in the core (RFC 3325 7). */
static bool is_private(void)
{
    int i = sip_find_name(&msg, STR("Privacy"), 0);

    return i >= 0 && str_eq_nocase(msg.headers[i].value, STR("id"));
}

void oracle_sent(struct world *world, const struct place *to, struct str bytes)
{
    char *copy;

    assert(!cause.foreign || !cause.active); /* R8 */
    if (to->client >= 0 && str_eq(bytes, STR("\r\n"))) {
        assert(cause.active && cause.from.client == to->client); /* a pong */
        return;
    }
    if (is_retransmission(to, hash(bytes, 0)))
        return;
    copy = scan_canonical(bytes);
    if (to->client < 0)
        assert(!has_header("P-Asserted-Identity") && !has_header("Remote-Party-ID"));
    else
        assert(!has_header("P-Charging-Vector") &&
               !(is_private() && has_header("P-Asserted-Identity")));
    masking_check(world, to);
    if (msg.is_request)
        request_sent(world, to, bytes);
    else
        response_sent(to, bytes);
    if (world->plain)
        osip_understands();
    free(copy);
}

/* The whole proxy in both directions, with virtual time: the input is a program of connections,
 * messages, failures and waiting. oracle.c says what must be true of all that is sent; in the end
 * nothing may be left (V7, and the rules F, M, N, R, T that oracle.c names). */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <openssl/evp.h>

#include "world.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { STEPS_MAX = 100, TEXT_MAX = STREAM_MAX, RAW_MAX = 400 };

static struct {
    const uint8_t *at, *end;
} program;

static struct world world;
static struct buf text;

static unsigned byte(void)
{
    return program.at < program.end ? *program.at++ : 0;
}

static unsigned choose(unsigned count)
{
    return byte() % count;
}

static struct str raw(size_t len)
{
    struct str bytes = {(const char *)program.at, (size_t)(program.end - program.at)};

    if (bytes.len > len)
        bytes.len = len;
    program.at += bytes.len;
    return bytes;
}

/* ---- parts of messages ---- */

static const char *const users[] = {"alice", "bob", "dave", "nobody"};
static const char *const passwords[] = {"wonder", "builder", "jones", ""};

static const char *const methods[] = {
    "INVITE", "REGISTER", "MESSAGE", "ACK",   "CANCEL", "BYE",     "OPTIONS", "SUBSCRIBE",
    "NOTIFY", "REFER",    "UPDATE",  "PRACK", "INFO",   "PUBLISH", "FOO",
};

static const char *const hops[] = {"70", "70", "70", "1", "0", "255", "256", "", "x", "007"};

/* Each is a line. */
static const char *const lines[] = {
    "P-Asserted-Identity: <sip:forged@evil.test>",
    "p-asserted-identity : \"x\" <sip:forged@evil.test>, <tel:+1>",
    "Privacy: none;id",
    "Privacy: id",
    "Supported: outbound, path",
    "k: path",
    "Require: outbound",
    "Proxy-Require: foo,bar",
    "Max-Breadth: 60",
    "Max-Breadth: 0",
    "Expires: 300",
    "Expires: 0",
    "Contact: *",
    "Reason: SIP;cause=200;text=\"Call completed elsewhere\"",
    "Subject: a\r\n folded\r\n\t line",
    "s:",
    "Timestamp: 54",
    "Server: x",
    "P-Charging-Vector: icid-value=1",
    "P-Access-Network-Info: 3GPP;network-provided, IEEE",
    "X-Client-Address: 1.2.3.4",
    "Content-Type: application/sdp",
    "Authorization: Digest username=alice, realm=\"home\", nonce=\"0\", uri=\"\", response=0",
    "Retry-After: 5 (busy);duration=3",
    "Path: <sip:other.test;lr;ob>",
    "Record-Route: <sip:other.test;lr>, <sip:another.test;lr>",
    "Route: <sip:sip.test;lr>",
    "Route: <sip:10.0.0.5;lr>,<sip:evil.test>",
    "Route: <sip:registrar.invalid;lr>",
    "Via: SIP/2.0/UDP below.test;branch=z9hG4bKbelow, SIP/2.0/TCP [2001:db8::7]:5061 ; branch=1",
    "Flow-Timer: 10",
    "Contact: <sip:second@x.invalid>;q=0.1",
    "Contact: <tel:+1>",
    "Contact: <sip:core.invalid;flow=EgACAAAA>;expires=7",
    "Max-Breadth: x",
    "Expires: 1",
    "Expires: x",
    "Require: foo",
    "Path: sip:other.test;lr",
    "WWW-Authenticate: Digest realm=\"home\", nonce=\"1\"",
    "Proxy-Authenticate: Digest realm=\"other\", nonce=\"2\"",
    "Proxy-Authorization: Digest username=\"bob\", realm=\"other\", nonce=\"\"",
    "Content-Encoding: gzip",
};

static void line_add(unsigned which)
{
    buf_printf(&text, "%s\r\n", lines[which % ARRAY_LEN(lines)]);
}

/* Until tables and buffers are full. */
static void lines_add(unsigned which, unsigned count)
{
    while (count--)
        line_add(which);
}

static void long_line_add(unsigned len)
{
    buf_printf(&text, "X-Long: ");
    while (len--)
        buf_add(&text, STR("0123456789abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQR"));
    buf_add(&text, STR("\r\n"));
}

/* A URI of ours, or else `other`. */
static const char *known_uri(const char *other)
{
    const char *uri = world_uri(&world, byte());

    return uri ? uri : other;
}

static void uri_add(void)
{
    static const char *const uris[] = {
        "sip:sip.test",      "sip:alice@sip.test",   "sip:bob@alias.test",
        "sip:dave@sip.test", "tel:+15551234",        "sips:x@10.0.0.5",
        "sip:10.0.0.2",      "sip:x@evil.test:5061", "sip:core.invalid;x=1",
        "http://x",          "sip:pbx.test;lr?a=b",  "sip:al%69ce@sip.test"};
    unsigned which = choose(2 * ARRAY_LEN(uris));

    if (which < ARRAY_LEN(uris))
        buf_printf(&text, "%s", uris[which]);
    else
        buf_printf(&text, "%s", known_uri("sip:sip.test"));
}

/* ---- digest ---- */

static void hash_hex(bool sha256, const char *of, char hex[65])
{
    unsigned char hash[EVP_MAX_MD_SIZE];
    size_t len = 0;

    if (EVP_Q_digest(NULL, sha256 ? "SHA256" : "MD5", NULL, of, strlen(of), hash, &len) != 1)
        abort();
    for (size_t i = 0; i < len; i++)
        (void)snprintf(hex + 2 * i, 3, "%02x", hash[i]);
}

static void credentials_add(struct client *client, const char *method, unsigned user)
{
    const char *algorithm = client->sha256 ? "SHA-256" : "MD5";
    char a1[65], a2[65], answer[65], of[512];
    bool is_register = strcmp(method, "REGISTER") == 0;

    client->nonce_count++;
    (void)snprintf(of, sizeof(of), "%s:home:%s", users[user], passwords[user]);
    hash_hex(client->sha256, of, a1);
    (void)snprintf(of, sizeof(of), "%s:sip:sip.test", method);
    hash_hex(client->sha256, of, a2);
    (void)snprintf(of, sizeof(of), "%s:%s:%08x:c:auth:%s", a1, client->nonce, client->nonce_count,
                   a2);
    hash_hex(client->sha256, of, answer);
    buf_printf(&text,
               "%s: Digest username=\"%s\", realm=\"home\", nonce=\"%s\", uri=\"sip:sip.test\", "
               "response=\"%s\", algorithm=%s, qop=auth, cnonce=\"c\", nc=%08x\r\n",
               is_register ? "Authorization" : "Proxy-Authorization", users[user], client->nonce,
               answer, algorithm, client->nonce_count);
}

/* ---- requests ---- */

static void body_add(unsigned len)
{
    static const char any[] = "ab\r\n\0";

    buf_printf(&text, "Content-Length: %u\r\n\r\n", len);
    for (unsigned i = 0; i < len; i++)
        buf_add(&text, (struct str){&any[i % 5], 1});
}

/* Via of a sender: what it asks for, and a branch of a few, so that requests meet again. */
static void via_add(const char *who, unsigned client, unsigned life)
{
    unsigned how = byte();

    buf_printf(&text, "Via: SIP/2.0/%s %s%u.invalid%s", how & 1 ? "WSS" : "UDP", who, client,
               how & 2 ? ":5070" : "");
    switch (how >> 6) {
    case 0:
    case 1: buf_printf(&text, ";branch=z9hG4bK%s%ux%ux%u", who, client, life, how >> 2 & 3); break;
    case 2: buf_printf(&text, ";branch=%u", how >> 2 & 1); break;
    default: break;
    }
    buf_printf(&text, "%s\r\n", how & 16 ? ";rport" : how & 32 ? ";received=1.2.3.4" : "");
}

static void dialog_add(const char *who, struct client *client, const char *method)
{
    unsigned number = client ? client->number : 9;
    unsigned how = byte(), user = how & 3;

    buf_printf(&text, "From: <sip:%s@sip.test>;tag=f%u\r\n", users[user], how >> 7);
    buf_printf(&text, "To: <sip:%s@sip.test>%s\r\n", users[how >> 2 & 3], how & 16 ? ";tag=t" : "");
    buf_printf(&text, "Call-ID: %s%u-%u\r\n", who, number, how >> 5 & 1);
    how = byte();
    buf_printf(&text, "CSeq: %u%s%s\r\n", 1 + how % 16, how & 128 ? " \t" : " ", method);
    if (client && client->challenged && how & 64)
        credentials_add(client, method, user);
}

static void contact_add(const char *who, unsigned number, unsigned life)
{
    static const char *const params[] = {"",
                                         ";expires=300",
                                         ";expires=0",
                                         ";q=0.5",
                                         ";+sip.instance=\"<urn:uuid:1>\";reg-id=1",
                                         ";expires=1;q=0.7",
                                         ";expires=99999",
                                         ";q=2",
                                         ";reg-id=0;+sip.instance=\"x\"",
                                         ";expires=x",
                                         ";expires=60;+sip.instance=\"<urn:uuid:2>\";reg-id=2"};
    unsigned how = byte();

    if (how & 128)
        return;
    if (how & 64) {
        buf_printf(&text, "Contact: sip:%s%u@x.invalid;transport=ws%s\r\n", who, number,
                   params[how % ARRAY_LEN(params)]);
        return;
    }
    buf_printf(&text, "Contact: \"%s, x\" <sip:%s%ux%u@%s%s>%s\r\n", who, who, number, life,
               how & 32 ? "[::1]:5060" : "x.invalid", how & 16 ? ";transport=ws;lr;a=b" : "",
               params[how % ARRAY_LEN(params)]);
}

/* Some header lines that come and go, among them what the program itself has. */
static void others_add(void)
{
    for (unsigned more = byte() & 3; more; more--) {
        unsigned which = byte();

        if (which < 224) {
            line_add(which);
        } else if (which < 232) {
            lines_add(byte(), byte());
        } else if (which < 240) {
            long_line_add(byte());
        } else {
            world.plain = false;
            buf_add(&text, raw(choose(80)));
            buf_add(&text, STR("\r\n"));
        }
    }
}

/* `client` NULL: from a backend. */
static void request_make(struct client *client, const char *method)
{
    const char *who = client ? "c" : "pbx", *max_forwards = hops[choose(ARRAY_LEN(hops))];
    unsigned number = client ? client->number : 0, life = client ? client->life : 0, routes;

    buf_reset(&text);
    buf_printf(&text, "%s ", method);
    if (client && client->challenged && choose(2))
        buf_printf(&text, "sip:sip.test");
    else
        uri_add();
    buf_printf(&text, " SIP/2.0\r\n");
    via_add(who, number, life);
    for (routes = choose(4); routes > 1; routes--)
        buf_printf(&text, "Route: <%s>\r\n", known_uri("sip:sip.test;lr"));
    if (*max_forwards)
        buf_printf(&text, "Max-Forwards: %s\r\n", max_forwards);
    dialog_add(who, client, method);
    contact_add(who, number, life);
    others_add();
    body_add(choose(8) ? 0 : byte());
}

/* ---- responses ---- */

static const char *const statuses[] = {"100 Trying",
                                       "180 Ringing",
                                       "183 Progress",
                                       "200 OK",
                                       "202 Accepted",
                                       "302 Moved",
                                       "401 Who",
                                       "404 Not Found",
                                       "408 Timeout",
                                       "430 Gone",
                                       "481 What",
                                       "486 Busy",
                                       "487 Stopped",
                                       "500 Oops",
                                       "503 Later",
                                       "603 Declined",
                                       "423 Interval Too Brief"};

/* What the receiver of `request` answers: the headers that a response repeats. */
static void response_make(const struct kept *request, const char *status)
{
    static const char *const repeated[] = {
        "Via:", "From:", "Call-ID:", "CSeq:", "Record-Route:", "Timestamp:"};
    const char *line = strstr(request->bytes, "\r\n");
    bool tag = byte() & 1;

    buf_reset(&text);
    buf_printf(&text, "SIP/2.0 %s\r\n", status);
    for (; line && line[2] && line[2] != '\r'; line = strstr(line + 2, "\r\n")) {
        struct str all = {line + 2, strcspn(line + 2, "\r")};

        for (size_t i = 0; i < ARRAY_LEN(repeated); i++)
            if (!strncmp(all.p, repeated[i], strlen(repeated[i])))
                buf_printf(&text, STR_FMT "\r\n", STR_ARG(all));
        if (!strncmp(all.p, "To:", 3))
            buf_printf(&text, STR_FMT "%s\r\n", STR_ARG(all),
                       tag && !memmem(all.p, all.len, ";tag=", 5) ? ";tag=t" : "");
        if (!strncmp(all.p, "Contact:", 8) && !strncmp(request->bytes, "REGISTER", 8))
            buf_printf(&text, STR_FMT "\r\n", STR_ARG(all));
    }
}

static void response_end(const char *who, unsigned number, unsigned life)
{
    contact_add(who, number, life);
    others_add();
    body_add(choose(8) ? 0 : byte());
}

/* ---- steps ---- */

static const struct core_addr *backend(void)
{
    static struct core_addr addr;
    unsigned which = byte();

    addr = world.view.endpoints[which % world.view.endpoint_count].addr;
    if (core_addr_is_ip(&addr) && which & 64)
        addr.in.sin_port = htons(40000); /* in6 has it at the same place */
    if (core_addr_is_ip(&addr) && which >= 248) {
        addr.in.sin_family = AF_INET;
        addr.in.sin_addr.s_addr = htonl(0x0a090909); /* no backend */
    }
    return &addr;
}

/* What is in `text`, from where `place` is. */
static void say(const struct place *place)
{
    if (text.overflow)
        return;
    if (place->client >= 0)
        client_says(&world.clients[place->client], buf_str(&text));
    else if (core_addr_is_ip(&place->core))
        core_says(&world, &place->core, buf_str(&text));
}

static struct client *client(void)
{
    return &world.clients[choose(WORLD_CLIENTS)];
}

static struct place somewhere(void)
{
    unsigned which = choose(WORLD_CLIENTS + 2);

    if (which < WORLD_CLIENTS)
        return (struct place){.client = (int)which, .life = world.clients[which].life};
    return (struct place){.client = -1, .core = *backend()};
}

static void client_request(void)
{
    struct client *from = client();

    request_make(from, methods[choose(ARRAY_LEN(methods))]);
    client_says(from, buf_str(&text));
}

/* As a client would have it: REGISTER, or a request for a user, and once more if it has to say who
 * it is. */
static void client_asks(const char *method, unsigned user)
{
    struct client *from = client();
    const char *called = strcmp(method, "REGISTER") == 0 ? users[user] : users[choose(3)];

    for (unsigned tries = 0; tries < 2; tries++) {
        bool challenged = from->challenged;

        from->cseq++;
        buf_reset(&text);
        buf_printf(&text, "%s sip:%s%ssip.test SIP/2.0\r\n", method,
                   strcmp(method, "REGISTER") == 0 ? "" : called,
                   strcmp(method, "REGISTER") == 0 ? "" : "@");
        buf_printf(&text, "Via: SIP/2.0/TLS c.invalid;branch=z9hG4bKc%ul%un%u;rport\r\n",
                   from->number, from->life, from->cseq);
        buf_printf(&text, "Max-Forwards: 70\r\nFrom: <sip:%s@sip.test>;tag=f\r\n", users[user]);
        buf_printf(&text, "To: <sip:%s@sip.test>\r\nCall-ID: own%u-%s\r\nCSeq: %u %s\r\n", called,
                   from->number, method, from->cseq, method);
        if (challenged)
            credentials_add(from, method, user);
        contact_add("c", from->number, from->life);
        others_add();
        body_add(0);
        client_says(from, buf_str(&text));
        if (challenged || !from->challenged)
            return;
    }
}

static void client_registers(void)
{
    client_asks("REGISTER", choose(3));
}

static void client_calls(void)
{
    static const char *const often[] = {"INVITE", "INVITE", "MESSAGE", "SUBSCRIBE"};
    unsigned user = choose(3);

    client_asks(often[choose(ARRAY_LEN(often))], user);
}

static void core_request(void)
{
    const struct core_addr *from = backend();

    if (!core_addr_is_ip(from))
        return;
    request_make(NULL, methods[choose(ARRAY_LEN(methods))]);
    core_says(&world, from, buf_str(&text));
}

/* Whoever got a request answers it, now and then someone else. */
static void response(void)
{
    const struct kept *request = world_kept(&world, byte());
    struct place from;

    if (!request || !request->is_request || !request->sent)
        return;
    response_make(request, statuses[choose(ARRAY_LEN(statuses))]);
    from = request->place;
    if (choose(16) == 15) {
        world.plain = false;
        from = somewhere();
    }
    if (from.client >= 0)
        response_end("c", world.clients[from.client].number, world.clients[from.client].life);
    else
        response_end("pbx", 0, 0);
    say(&from);
}

/* ACK or CANCEL for a request that was given: its Request-URI, Via and dialog. */
static void follow_up(void)
{
    const struct kept *request = world_kept(&world, byte());
    const char *method = choose(2) ? "ACK" : "CANCEL", *at;
    struct place from;

    if (!request || !request->is_request || request->sent)
        return;
    buf_reset(&text);
    buf_printf(&text, "%s", method);
    at = request->bytes + strcspn(request->bytes, " ");
    for (; *at && strncmp(at, "\r\n\r\n", 4) != 0; at++) {
        if (!strncmp(at, "\r\nCSeq:", 7)) {
            buf_printf(&text, "%.*s %s", (int)(9 + strspn(at + 8, "0123456789") - 1), at, method);
            at += 2 + strcspn(at + 2, "\r") - 1;
        } else if (!strncmp(at, "\r\nContent-", 10)) {
            at += 2 + strcspn(at + 2, "\r") - 1;
        } else {
            buf_add(&text, (struct str){at, 1});
        }
    }
    buf_printf(&text, "\r\nContent-Length: 0\r\n\r\n");
    from = request->place;
    say(&from);
}

/* A message that was there before, as it was or with some bytes changed, from the same place or
 * from another one. */
static void again(void)
{
    const struct kept *kept = world_kept(&world, byte());
    unsigned changes = byte() & 3;
    struct place from;

    if (!kept)
        return;
    buf_reset(&text);
    buf_add(&text, (struct str){kept->bytes, kept->len});
    from = kept->place;
    if (kept->sent || changes)
        world.plain = false;
    if (kept->sent)
        from = somewhere();
    while (changes-- && text.len && !text.overflow) {
        size_t at = (byte() << 8 | byte()) % text.len, gone = byte() & 15;
        struct str more = raw(byte() & 15);

        if (gone > text.len - at)
            gone = text.len - at;
        if (text.len - gone + more.len > text.size)
            return;
        memmove(text.p + at + more.len, text.p + at + gone, text.len - at - gone);
        memcpy(text.p + at, more.p, more.len);
        text.len += more.len - gone;
    }
    say(&from);
}

static void raw_bytes(void)
{
    struct place from = somewhere();

    world.plain = false;
    buf_reset(&text);
    buf_add(&text, raw((byte() << 8 | byte()) % RAW_MAX));
    say(&from);
}

static void send_failure(void)
{
    static const int failures[] = {0, 0, -EPIPE, -ENOBUFS};
    unsigned which = choose(WORLD_CLIENTS + 1), failure = choose(ARRAY_LEN(failures));

    if (which < WORLD_CLIENTS)
        world.clients[which].failure = failures[failure];
    else
        world.core_failure = failures[failure];
}

static void pause(void)
{
    static const uint32_t pauses[] = {1,     499,   500,   1000,   4000,   5000,   15000,  31999,
                                      32000, 60000, 64000, 180000, 181000, 300001, 600000, 1200000};

    world_wait(&world, pauses[choose(ARRAY_LEN(pauses))]);
}

/* A TCP connection of the core side is lost, or could not be made. */
static void connection_lost(bool connected)
{
    struct core_addr to = *backend();

    if (!core_addr_is_ip(&to))
        return;
    to.kind = CORE_TCP;
    proxy_core_lost(world.proxy, &to, connected, -ECONNRESET, world.now);
}

/* A name leads to another address or back to this one, or its health is another (B1 to B4). */
static void core_changes(void)
{
    unsigned how = byte();
    struct endpoint *endpoint = &world.view.endpoints[how % world.view.endpoint_count];

    switch (how >> 2 & 7) {
    case 0: health_up(&world.health, endpoint->slot); break;
    case 1: health_down(&world.health, endpoint->slot); break;
    case 2:
        health_busy(&world.health, endpoint->slot, world.now + (uint64_t)(how >> 5) * 1000);
        break;
    default: endpoint->retired = how & 16; break;
    }
    proxy_view_set(world.proxy, &world.view);
}

static void step(void)
{
    unsigned what = byte();

    switch (what & 15) {
    case 0: client_open(client(), what >> 4); break;
    case 1: client_registers(); break;
    case 2: client_close(client()); break;
    case 3:
    case 4:
    case 5: client_request(); break;
    case 6: core_request(); break;
    case 7:
    case 8:
    case 9: response(); break;
    case 10: follow_up(); break;
    case 11: again(); break;
    case 12: raw_bytes(); break;
    case 13: send_failure(); break;
    case 14: pause(); break;
    default:
        if (what == 255)
            proxy_drain(world.proxy, 10000, world.now);
        else if (what == 207)
            core_changes();
        else if (what >= 223)
            connection_lost(what == 223);
        else
            client_calls();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct world_options options;
    unsigned how;

    if (!text.p) {
        sip_values_init();
        log_open(getenv("FUZZ_LOG") ? LOG_DEBUG : LOG_ERROR, false); /* to see what it does */
        if (buf_create(&text, TEXT_MAX))
            abort();
    }
    program.at = data;
    program.end = data + size;
    how = byte();
    options = (struct world_options){
        .contact_path = how & 1,
        .embedded = how & 2,
        .several_backends = how & 4,
        .small_limits = how & 8,
        .header_rules = how & 16,
    };
    world_open(&world, &options);
    client_open(&world.clients[0], how >> 5);
    client_open(&world.clients[1], how >> 6);
    for (unsigned steps = 0; steps < STEPS_MAX && program.at < program.end; steps++)
        step();
    world_close(&world, how & 128);
    return 0;
}

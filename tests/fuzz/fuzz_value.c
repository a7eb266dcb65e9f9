/* Every value that the proxy reads out of a header: what can be read, printed from its pieces and
 * read again, is the same; a list is its values; nothing reads beyond its end (V7, N2, N8). The
 * first byte says which. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <osipparser2/osip_parser.h>

#include "proxy/core.h"
#include "proxy/digest.h"
#include "proxy/location.h"
#include "proxy/message.h"
#include "proxy/text.h"
#include "proxy/token.h"
#include "proxy/value.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ARENA_SIZE = 1 << 18 };

static const uint8_t KEYS[2][32] = {{1}, {2}};
static char password[] = "wonder";
static struct conf_user alice = {.name = "alice", .password = password};
static struct conf conf = {
    .domain = "sip.test",
    .users = &alice,
    .user_count = 1,
    .registrar = {.realm = "home", .nonce_lifetime_s = 300}
};

static struct arena arena;
static struct buf text;
static struct token_keys *keys;
static struct digest *digest;
static struct sip_msg msg;

static void same(struct str a, struct str b)
{
    assert(str_eq(a, b));
    assert((a.p != NULL) == (b.p != NULL) || !a.len);
}

/* What was found stands in what was given, or in a copy of it. */
static void within(struct str part, struct str whole)
{
    assert(part.len <= whole.len);
    assert(!part.len || memmem(whole.p, whole.len, part.p, part.len));
}

static void uri_print(const struct sip_uri *uri)
{
    bool six = uri->host.len && memchr(uri->host.p, ':', uri->host.len);

    buf_reset(&text);
    buf_printf(&text, STR_FMT ":", STR_ARG(uri->scheme));
    if (uri->user.p)
        buf_printf(&text, STR_FMT, STR_ARG(uri->user));
    if (uri->password.p)
        buf_printf(&text, ":" STR_FMT, STR_ARG(uri->password));
    if (uri->user.p && uri->host.p)
        buf_printf(&text, "@");
    buf_printf(&text, six ? "[" STR_FMT "]" : STR_FMT, STR_ARG(uri->host));
    if (uri->port)
        buf_printf(&text, ":%d", uri->port);
    buf_printf(&text, STR_FMT STR_FMT, STR_ARG(uri->params), STR_ARG(uri->headers));
}

/* What is plain is not shown to libosip2: it has to read the same all the same (N8). */
static void osip_agrees_uri(const struct sip_uri *uri)
{
    struct str copy = arena_dup(&arena, uri->text);
    osip_uri_t *parsed;

    if (!copy.p || !uri->host.p || (uri->password.p && !uri->password.len))
        return;
    if (osip_uri_init(&parsed))
        abort();
    assert(!osip_uri_parse(parsed, copy.p) && parsed->host);
    if (!memchr(uri->host.p, ':', uri->host.len))
        assert(str_eq(str_of(parsed->host), uri->host));
    assert((parsed->port ? strtol(parsed->port, NULL, 10) : 0) == uri->port);
    assert((parsed->username != NULL) == (uri->user.p != NULL));
    osip_uri_free(parsed);
}

static void uri_check(struct str given)
{
    struct sip_uri uri, again;
    int err = sip_uri_parse(&arena, given, &uri);
    struct str user;

    assert(!err || err == -EINVAL || err == -ENOMEM);
    if (err)
        return;
    assert(uri.port >= 0 && uri.port <= UINT16_MAX);
    assert(!text_has_control(uri.text) && !text_has_any(uri.text, " \t<>\""));
    user = location_user(&arena, &uri);
    assert(user.len <= uri.user.len || !uri.user.p);
    assert(location_uri_equal(&uri, &uri));
    osip_agrees_uri(&uri);
    if (!uri.host.p && !str_eq(uri.scheme, STR("tel")))
        return; /* of a scheme that is nobody's: only its text counts */
    uri_print(&uri);
    assert(!sip_uri_parse(&arena, buf_str(&text), &again));
    same(again.scheme, uri.scheme);
    same(again.user, uri.user);
    same(again.password, uri.password);
    same(again.host, uri.host);
    same(again.params, uri.params);
    same(again.headers, uri.headers);
    assert(again.port == uri.port);
    assert(location_uri_equal(&uri, &again) && location_uri_equal(&again, &uri));
}

/* Two URIs with a line end between them: equal is symmetric. */
static void uris_check(struct str given)
{
    const char *end = given.len ? memchr(given.p, '\n', given.len) : NULL;
    struct sip_uri a, b;

    if (!end || sip_uri_parse(&arena, (struct str){given.p, (size_t)(end - given.p)}, &a) ||
        sip_uri_parse(&arena, (struct str){end + 1, given.len - (size_t)(end + 1 - given.p)}, &b))
        return;
    assert(location_uri_equal(&a, &b) == location_uri_equal(&b, &a));
}

static void osip_agrees_via(struct str given, const struct sip_via *via)
{
    struct str copy = arena_dup(&arena, given);
    osip_via_t *parsed;

    if (!copy.p)
        return;
    if (osip_via_init(&parsed))
        abort();
    assert(!osip_via_parse(parsed, copy.p) && parsed->host);
    if (!memchr(via->host.p, ':', via->host.len))
        assert(str_eq_nocase(str_trim(str_of(parsed->host)), via->host));
    assert((parsed->port ? strtol(parsed->port, NULL, 10) : 0) == via->port);
    osip_via_free(parsed);
}

static void via_check(struct str given)
{
    struct sip_via via, again;
    struct text_via cut;
    int err = sip_via_parse(&arena, given, &via);

    assert(!err || err == -EINVAL || err == -ENOMEM);
    if (err)
        return;
    osip_agrees_via(str_trim(given), &via);
    assert(text_via_cut(str_trim(given), &cut)); /* so the scan takes it too */
    assert(via.host.len && !text_has_any(via.host, " \t,;<>\"/@?"));
    buf_reset(&text);
    buf_printf(&text, "SIP/2.0/" STR_FMT " ", STR_ARG(via.transport));
    buf_printf(&text, memchr(via.host.p, ':', via.host.len) ? "[" STR_FMT "]" : STR_FMT,
               STR_ARG(via.host));
    if (via.port)
        buf_printf(&text, ":%d", via.port);
    buf_printf(&text, STR_FMT, STR_ARG(cut.params));
    assert(!sip_via_parse(&arena, buf_str(&text), &again));
    same(again.transport, via.transport);
    same(again.host, via.host);
    same(again.branch, via.branch);
    same(again.received, via.received);
    assert(again.port == via.port && again.rport == via.rport);
}

static void addr_check(struct str given)
{
    struct sip_addr addr, again;
    struct text_addr cut;
    int err = sip_addr_parse(&arena, given, &addr);

    assert(!err || err == -EINVAL || err == -ENOMEM);
    if (text_addr_cut(str_trim(given), &cut) && cut.tag_clear && cut.tag.p)
        assert(cut.tag.len && !text_has_any(cut.tag, " \t\"@;"));
    if (err)
        return;
    assert(text_addr_cut(str_trim(given), &cut));
    buf_reset(&text); /* as N4 prints it */
    buf_printf(&text, STR_FMT "<" STR_FMT ">" STR_FMT, STR_ARG(addr.display),
               STR_ARG(addr.uri.text), STR_ARG(addr.params));
    assert(!sip_addr_parse(&arena, buf_str(&text), &again));
    same(again.display, addr.display);
    same(again.uri.text, addr.uri.text);
    same(again.params, addr.params);
    assert(again.brackets);
    uri_check(addr.uri.text);
}

/* Its parameters one by one are those that a look-up finds, and without one the others stay. */
static void params_check(struct str given)
{
    struct str rest, name, value, found, without, left;
    unsigned all = 0, others = 0, kept = 0;
    struct text_addr addr;

    if (!text_addr_cut(arena_printf(&arena, "<sip:a>" STR_FMT, STR_ARG(given)), &addr))
        return; /* nothing that cuts would let through */
    rest = given = addr.params;
    while (sip_param_next(&rest, &name, &value)) {
        within(name, given);
        assert(name.len && (text_has_any(name, "\"") || !text_has_any(name, ";=")));
        assert(sip_param(given, name, &found));
        all++;
    }
    assert(!rest.len);
    rest = given;
    if (!sip_param_next(&rest, &left, &value))
        return;
    without = sip_param_drop(&arena, given, left);
    assert(without.p && without.len <= given.len + 1 && !sip_param(without, left, NULL));
    for (rest = given; sip_param_next(&rest, &name, &value);)
        others += !str_eq_nocase(name, left);
    for (rest = without; sip_param_next(&rest, &name, &value);)
        kept++;
    assert(kept == others && kept < all);
}

/* The values joined by commas are cut into the same values. */
static void list_check(struct str given)
{
    struct str rest = given, value, again;
    bool balanced = true, all_balanced = true;

    buf_reset(&text);
    while (text_list_next(&rest, &value, &balanced)) {
        within(value, given);
        assert(value.len && !text_blank(value.p[0]) && !text_blank(value.p[value.len - 1]));
        all_balanced = all_balanced && balanced;
        buf_printf(&text, "%s" STR_FMT, text.len ? ", " : "", STR_ARG(value));
    }
    assert(!rest.len);
    if (!all_balanced || memchr(given.p ? given.p : "", '\0', given.len))
        return;
    rest = buf_str(&text);
    for (struct str first = given; text_list_next(&first, &value, &balanced);) {
        assert(sip_list_next(&rest, &again));
        same(again, value);
    }
    assert(!sip_list_next(&rest, &again));
}

static void token_check(struct str given)
{
    struct token token = {.kind = given.len & 1 ? TOKEN_FLOW : TOKEN_CONTACT,
                          .worker = 3,
                          .slot = 70000,
                          .instance = 5,
                          .generation = 9},
                 again;
    struct str printed;
    int err = token_parse(keys, &arena, given, &again);

    assert(err == -EINVAL || err == -EBADMSG); /* nobody guesses 80 bits */
    if (token.kind == TOKEN_CONTACT)
        token.uri = given;
    printed = token_print(keys, &arena, &token);
    assert((printed.p != NULL) == (token.uri.len <= TOKEN_URI_MAX));
    if (!printed.p)
        return;
    assert(printed.len <= TOKEN_TEXT_MAX);
    assert(!token_parse(keys, &arena, printed, &again));
    assert(again.kind == token.kind && again.worker == 3 && again.slot == 70000 &&
           again.instance == 5 && again.generation == 9);
    assert(str_eq(again.uri, token.uri));
    ((char *)printed.p)[given.len % printed.len] ^= 1;
    err = token_parse(keys, &arena, printed, &again);
    /* the last character has bits that say nothing */
    assert(err || given.len % printed.len == printed.len - 1);
}

/* `given` is a number, a CSeq or a whole Authorization header of a message. */
static int scan(const char *name, struct str given)
{
    buf_reset(&text);
    buf_printf(
        &text,
        "REGISTER sip:sip.test SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\n"
        "From: <sip:alice@sip.test>;tag=1\r\nTo: <sip:alice@sip.test>\r\nCall-ID: a\r\n%s%s: ",
        strcmp(name, "CSeq") == 0 ? "" : "CSeq: 1 REGISTER\r\n", name);
    buf_add(&text, given);
    buf_add(&text, STR("\r\n\r\n"));
    return sip_scan(text.p, text.len, SIP_DATAGRAM, false, &msg);
}

static void number_check(struct str given)
{
    uint64_t number, again;
    char printed[32];

    if (!str_to_uint(given, UINT32_MAX, &number)) {
        (void)snprintf(printed, sizeof(printed), "%llu", (unsigned long long)number);
        assert(number <= UINT32_MAX && !str_to_uint(str_of(printed), UINT32_MAX, &again));
        assert(again == number);
    }
    if (scan("CSeq", given) == 0) {
        assert(msg.cseq <= INT32_MAX);
        assert(str_eq(msg.method_name, STR("REGISTER")));
    }
}

static void digest_check(struct str given)
{
    struct digest_credentials credentials, again;
    enum digest_result result;

    if (scan("Authorization", given) ||
        !digest_credentials(digest, &msg, HEADER_AUTHORIZATION, &arena, &credentials))
        return;
    assert(credentials.username.p && credentials.nonce.p && credentials.uri.p);
    assert(credentials.index < msg.header_count);
    assert(!credentials.qop || (credentials.cnonce.p && credentials.nc.len == 8));
    result = digest_verify(digest, &msg, &credentials, &alice, &arena, 1000000);
    assert(result == DIGEST_WRONG || result == DIGEST_REFUSED); /* nobody guesses a hash */
    assert(digest_verify(digest, &msg, &credentials, NULL, &arena, 1000000) != DIGEST_OK);

    struct str fields[] = {credentials.username, credentials.nonce,  credentials.uri,
                           credentials.response, credentials.cnonce, credentials.nc};
    static const char *const names[] = {"username", "nonce", "uri", "response", "cnonce", "nc"};
    struct buf line;

    if (buf_create(&line, 65536))
        abort();
    buf_printf(&line, "Digest realm=\"home\"%s%s",
               credentials.algorithm == DIGEST_MD5 ? "" : ", algorithm=SHA-256",
               credentials.qop ? ", qop=auth" : "");
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        if (!fields[i].p)
            continue;
        buf_printf(&line, ", %s=\"", names[i]);
        for (size_t k = 0; k < fields[i].len; k++) {
            if (fields[i].p[k] == '"' || fields[i].p[k] == '\\')
                buf_add(&line, STR("\\"));
            buf_add(&line, (struct str){fields[i].p + k, 1});
        }
        buf_add(&line, STR("\""));
    }
    for (size_t i = 0; i < ARRAY_LEN(fields); i++)
        fields[i] = fields[i].p ? arena_dup(&arena, fields[i]) : fields[i];
    if (line.len < SIP_LINE_MAX - 100) { /* escapes make it longer */
        assert(scan("Authorization", buf_str(&line)) == 0);
        assert(digest_credentials(digest, &msg, HEADER_AUTHORIZATION, &arena, &again));
        same(again.username, fields[0]);
        same(again.nonce, fields[1]);
        same(again.uri, fields[2]);
        same(again.response, fields[3]);
        same(again.cnonce, fields[4]);
        same(again.nc, fields[5]);
        assert(again.qop == credentials.qop && again.algorithm == credentials.algorithm);
    }
    buf_destroy(&line);
}

static void owner_check(struct str given)
{
    for (unsigned workers = 1; workers <= 128; workers += 127)
        assert(core_owner(given, workers) < workers);
}

static void (*const checks[])(struct str given) = {
    uri_check,  uris_check,  via_check,    addr_check,   params_check,
    list_check, token_check, number_check, digest_check, owner_check,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str given;
    char *bytes;

    if (!arena.size) {
        sip_values_init();
        if (arena_create(&arena, ARENA_SIZE) || buf_create(&text, 1 << 18) ||
            token_keys_create(KEYS, 2, &keys) || digest_create(&conf, &digest))
            abort();
    }
    if (!size)
        return 0;
    arena_reset(&arena);
    bytes = malloc(size - 1 ? size - 1 : 1); /* of exactly that size */
    assert(bytes);
    memcpy(bytes, data + 1, size - 1);
    given = (struct str){bytes, size - 1};
    checks[data[0] % ARRAY_LEN(checks)](given);
    free(bytes);
    return 0;
}

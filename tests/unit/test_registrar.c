#include "proxy/token.h"
#include "registrar_edge.h"

#define CONTACT "Contact: <sip:alice@192.0.2.1:5061;transport=tls>\r\n"

static void binding_is_added_refreshed_and_listed_with_the_time_left(void **state) /* S1, S2 */
{
    struct edge *edge = *state;

    assert_int_equal(register_as(edge, &alice, "c1", CONTACT "Expires: 600\r\n"), 200);
    assert_string_equal(line_of(last_sent(edge), "Contact: ", 0),
                        "<sip:alice@192.0.2.1:5061;transport=tls>;expires=600");
    pass(edge, 100000);
    assert_int_equal(register_as(edge, &alice, "c1", ""), 200); /* a query */
    assert_non_null(strstr(line_of(last_sent(edge), "Contact: ", 0), ";expires=500"));
    /* the same contact, as 19.1.4 compares */
    assert_int_equal(register_as(edge, &alice, "c1",
                                 "Contact: <SIP:%61lice@192.0.2.1:5061;Transport=TLS>"
                                 ";q=0.5;expires=700;+x=\"a,b\"\r\n"),
                     200);
    assert_int_equal(count_of(last_sent(edge), "Contact: "), 1);
    assert_non_null(strstr(line_of(last_sent(edge), "Contact: ", 0), ";q=0.5"));
    assert_non_null(strstr(line_of(last_sent(edge), "Contact: ", 0), "+x=\"a,b\""));
    assert_non_null(strstr(line_of(last_sent(edge), "Contact: ", 0), ";expires=700"));
}

static void contacts_that_differ_are_bindings_of_their_own(void **state) /* S1 */
{
    static const char *const others[] = {
        "sip:alice@192.0.2.1",      "sip:ALICE@192.0.2.1:5060",
        "sip:alice@192.0.2.1:5060", "sip:alice@192.0.2.1;transport=tcp",
        "sips:alice@192.0.2.1",
    };
    struct edge *edge = *state;
    char lines[512];

    edge->conf.registrar.max_bindings = ARRAY_LEN(others);
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        (void)snprintf(lines, sizeof(lines), "Contact: <%s>\r\n", others[i]);
        assert_int_equal(register_as(edge, &alice, "c1", lines), 200);
        assert_int_equal(count_of(last_sent(edge), "Contact: "), i + 1);
    }
}

static void binding_is_removed_by_expires_zero_and_star(void **state) /* S1, S2 */
{
    struct edge *edge = *state;

    assert_int_equal(register_as(edge, &alice, "c1",
                                 "Contact: <sip:a@1.invalid>, <sip:a@2.invalid>\r\n"
                                 "Contact: <sip:a@3.invalid>\r\n"),
                     200);
    assert_int_equal(count_of(last_sent(edge), "Contact: "), 3);
    assert_int_equal(register_as(edge, &alice, "c1", "Contact: <sip:a@2.invalid>;expires=0\r\n"),
                     200);
    assert_int_equal(count_of(last_sent(edge), "Contact: "), 2);
    assert_int_equal(register_as(edge, &alice, "c1", "Contact: *\r\n"), 400);
    assert_int_equal(register_as(edge, &alice, "c1", "Contact: *\r\nExpires: 10\r\n"), 400);
    assert_int_equal(register_as(edge, &alice, "c1",
                                 "Contact: *\r\nContact: <sip:a@1.invalid>\r\nExpires: 0\r\n"),
                     400);
    assert_int_equal(register_as(edge, &alice, "c1", ""), 200);
    assert_int_equal(count_of(last_sent(edge), "Contact: "), 2);
    assert_int_equal(register_as(edge, &alice, "c1", "Contact: *\r\nExpires: 0\r\n"), 200);
    assert_int_equal(count_of(last_sent(edge), "Contact: "), 0);
}

static void binding_expires_at_its_time(void **state) /* S1, S2 */
{
    struct edge *edge = *state;

    assert_int_equal(register_as(edge, &alice, "c1", CONTACT "Expires: 60\r\n"), 200);
    pass(edge, 59999);
    assert_int_equal(register_as(edge, &alice, "c2", ""), 200);
    assert_int_equal(count_of(last_sent(edge), "Contact: "), 1);
    pass(edge, 1);
    assert_int_equal(register_as(edge, &alice, "c3", ""), 200);
    assert_int_equal(count_of(last_sent(edge), "Contact: "), 0);
}

static const struct {
    const char *lines;
    int status;
    const char *expires;
} times[] = {
    {CONTACT,                                                       200, ";expires=3600"},
    {CONTACT "Expires: 100\r\n",                                    200, ";expires=100" },
    {CONTACT "Expires: soon\r\n",                                   200, ";expires=3600"},
    {CONTACT "Expires: 99999999999999999999\r\n",                   200, ";expires=3600"},
    {CONTACT "Expires: 100000\r\n",                                 200, ";expires=7200"},
    {"Contact: <sip:a@1.invalid>;expires=90\r\nExpires: 200\r\n",   200, ";expires=90"  },
    {"Contact: sip:a@1.invalid;expires=90\r\n",                     200, ";expires=90"  },
    {CONTACT "Expires: 59\r\n",                                     423, NULL           },
    {"Contact: <sip:a@1.invalid>;expires=1\r\nExpires: 200\r\n",    423, NULL           },
    {"Contact: <sip:a@1.invalid>, <sip:a@2.invalid>;expires=1\r\n", 423, NULL           },
};

static void registrar_chooses_the_time(void **state) /* S2, S2 refused: 423 */
{
    struct edge *edge = *state;

    for (size_t i = 0; i < ARRAY_LEN(times); i++) {
        assert_int_equal(register_as(edge, &alice, "c1", times[i].lines), times[i].status);
        if (times[i].status == 423) {
            assert_string_equal(line_of(last_sent(edge), "Min-Expires: ", 0), "60");
            assert_int_equal(register_as(edge, &alice, "c1", ""), 200);
            assert_int_equal(count_of(last_sent(edge), "Contact: "), 0); /* all or nothing */
        } else {
            assert_int_equal(count_of(last_sent(edge), "Contact: "), 1);
            assert_non_null(strstr(line_of(last_sent(edge), "Contact: ", 0), times[i].expires));
        }
        assert_int_equal(register_as(edge, &alice, "c1", "Contact: *\r\nExpires: 0\r\n"), 200);
    }
}

static void older_request_changes_nothing(void **state) /* S1 refused */
{
    struct edge *edge = *state;
    char challenge[2048], credentials[2048];

    assert_int_equal(register_as(edge, &alice, "c1", CONTACT), 200); /* CSeq 2 */
    register_once(edge, "alice", "c1", 1, CONTACT, "");
    (void)snprintf(challenge, sizeof(challenge), "%s", last_sent(edge));
    authorize(challenge, &alice, "REGISTER", "sip:sip.test", credentials);
    register_once(edge, "alice", "c1", 1, CONTACT "Expires: 0\r\n", credentials);
    assert_int_equal(last_status(edge), 500);
    authorize_again(challenge, &alice, 2, "REGISTER", "sip:sip.test", credentials);
    register_once(edge, "alice", "c1", 1,
                  "Contact: <sip:a@new.invalid>\r\n" CONTACT "Expires: 100\r\n", credentials);
    assert_int_equal(last_status(edge), 500); /* nothing of it */
    authorize_again(challenge, &alice, 3, "REGISTER", "sip:sip.test", credentials);
    register_once(edge, "alice", "c1", 1, "Contact: *\r\nExpires: 0\r\n", credentials);
    assert_int_equal(last_status(edge), 500);
    authorize_again(challenge, &alice, 4, "REGISTER", "sip:sip.test", credentials);
    register_once(edge, "alice", "c1", 2, CONTACT "Expires: 0\r\n", credentials); /* seen */
    assert_int_equal(last_status(edge), 200);
    assert_int_equal(count_of(last_sent(edge), "Contact: "), 1);
    assert_non_null(strstr(last_sent(edge), "expires=3600"));
    authorize_again(challenge, &alice, 5, "REGISTER", "sip:sip.test", credentials);
    register_once(edge, "alice", "c2", 1, CONTACT "Expires: 100\r\n", credentials); /* restarted */
    assert_int_equal(last_status(edge), 200);
    assert_non_null(strstr(last_sent(edge), "expires=100"));
    assert_int_equal(count_of(last_sent(edge), "Contact: "), 1);
}

static void oldest_binding_gives_way_and_too_many_at_once_are_refused(void **state) /* S1 */
{
    struct edge *edge = *state;
    char lines[128];

    for (unsigned i = 0; i < 5; i++) {
        (void)snprintf(lines, sizeof(lines), "Contact: <sip:a@%u.invalid>\r\n", i);
        assert_int_equal(register_as(edge, &alice, "c1", lines), 200);
    }
    assert_int_equal(count_of(last_sent(edge), "Contact: "), 3);
    assert_non_null(strstr(last_sent(edge), "sip:a@4.invalid"));
    assert_null(strstr(last_sent(edge), "sip:a@1.invalid"));
    assert_int_equal(
        register_as(edge, &alice, "c1", "Contact: <sip:a@6>, <sip:a@7>, <sip:a@8>, <sip:a@9>\r\n"),
        403);
}

#define DEVICE ";reg-id=%u;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-%012u>\""

static int register_device(struct edge *edge, const char *host, unsigned reg_id, unsigned device)
{
    char lines[512];

    (void)snprintf(lines, sizeof(lines),
                   "Supported: path, outbound\r\n"
                   "Path: <sip:TOKEN@core.invalid;lr;ob>\r\n"
                   "Contact: <sip:alice@%s>" DEVICE "\r\n",
                   host, reg_id, device);
    return register_as(edge, &alice, host, lines);
}

static void new_flow_of_a_device_replaces_the_old_one(void **state) /* S5 */
{
    struct edge *edge = *state;

    assert_int_equal(register_device(edge, "old.invalid", 1, 7), 200);
    assert_string_equal(line_of(last_sent(edge), "Require: ", 0), "outbound");
    assert_string_equal(line_of(last_sent(edge), "Path: ", 0),
                        "<sip:TOKEN@core.invalid;lr;ob>"); /* RFC 3327 5.3 */
    assert_int_equal(register_device(edge, "new.invalid", 1, 7), 200);
    assert_int_equal(count_of(last_sent(edge), "Contact: "), 1);
    assert_non_null(strstr(last_sent(edge), "sip:alice@new.invalid"));
    assert_non_null(strstr(last_sent(edge), ";reg-id=1;+sip.instance=\"<urn:uuid:"));
    assert_int_equal(register_device(edge, "second.invalid", 2, 7), 200); /* another flow */
    assert_int_equal(count_of(last_sent(edge), "Contact: "), 2);
    assert_int_equal(register_device(edge, "other.invalid", 1, 8), 200); /* another device */
    assert_int_equal(count_of(last_sent(edge), "Contact: "), 3);
    assert_int_equal(register_as(edge, &alice, "c9",
                                 "Contact: <sip:a@1.invalid>;reg-id=1;+sip.instance=\"<x>\", "
                                 "<sip:a@2.invalid>\r\n"),
                     400);
}

static void outbound_is_not_confirmed_where_the_first_hop_lacks_it(void **state) /* S5 refused */
{
    struct edge *edge = *state;

    assert_int_equal(register_as(edge, &alice, "c1",
                                 "Supported: path, outbound\r\nPath: <sip:T@core.invalid;lr>\r\n"
                                 "Contact: <sip:a@1.invalid>;reg-id=1;+sip.instance=\"<x>\"\r\n"),
                     200);
    assert_null(line_of(last_sent(edge), "Require: ", 0));
}

static const struct {
    const char *what, *lines;
    int status;
} mistakes[] = {
    {"no URI",            "Contact: <>\r\n",                                               400},
    {"no SIP URI",        "Contact: <mailto:alice@sip.test>\r\n",                          400},
    {"q above 1",         "Contact: <sip:a@1.invalid>;q=1.5\r\n",                          400},
    {"q is no number",    "Contact: <sip:a@1.invalid>;q=x\r\n",                            400},
    {"reg-id 0",          "Contact: <sip:a@1.invalid>;reg-id=0;+sip.instance=\"<x>\"\r\n", 400},
    {"unknown extension", CONTACT "Require: teleport\r\n",                                 420},
};

static void mistakes_in_a_register_are_refused(void **state) /* S1 refused */
{
    struct edge *edge = *state;

    for (size_t i = 0; i < ARRAY_LEN(mistakes); i++) {
        int status = register_as(edge, &alice, "c1", mistakes[i].lines);

        if (status != mistakes[i].status)
            fail_msg("%s: %d", mistakes[i].what, status);
    }
    assert_string_equal(line_of(last_sent(edge), "Unsupported: ", 0), "teleport");
    receive(edge, "REGISTER sip:elsewhere.test SIP/2.0\r\n"
                  "Via: SIP/2.0/UDP core.invalid;branch=z9hG4bKe1\r\nMax-Forwards: 69\r\n"
                  "From: <sip:alice@elsewhere.test>;tag=1\r\nTo: <sip:alice@elsewhere.test>\r\n"
                  "Call-ID: e\r\nCSeq: 1 REGISTER\r\nContent-Length: 0\r\n\r\n");
    assert_int_equal(last_status(edge), 404);
    take_all(edge);
    receive(edge, "REGISTER sip:sip.test SIP/2.0\r\nVia: SIP/2.0/UDP core.invalid;branch=z9hG4bKe2"
                  "\r\nMax-Forwards: 69\r\nFrom: <sip:alice@sip.test>;tag=1\r\n"
                  "To: <sip:alice@sip.test>\r\nCall-ID: e\r\nCSeq: 1 INVITE\r\n\r\n");
    assert_int_equal(last_status(edge), 400);
}

static void alias_is_the_domain_too(void **state) /* S1 */
{
    struct edge *edge = *state;

    receive(edge, "REGISTER sip:alias.test SIP/2.0\r\n"
                  "Via: SIP/2.0/UDP core.invalid;branch=z9hG4bKe1\r\nMax-Forwards: 69\r\n"
                  "From: <sip:alice@ALIAS.test>;tag=1\r\nTo: <sip:alice@ALIAS.test>\r\n"
                  "Call-ID: e\r\nCSeq: 1 REGISTER\r\nContent-Length: 0\r\n\r\n");
    assert_int_equal(last_status(edge), 401);
}

/* ---- digest, as a client meets it ---- */

static const struct {
    const char *what;
    struct login login;
    int status;
} logins[] = {
    {"MD5 of a password",          {"alice", "wonder", "MD5", NULL, NULL},                200},
    {"SHA-256 of a password",      {"alice", "wonder", "SHA-256", NULL, NULL},            200},
    {"stored MD5",                 {"carol", "sesame", "MD5", NULL, NULL},                200},
    {"stored SHA-256",             {"carol", "sesame", "SHA-256", NULL, NULL},            200},
    {"SHA-256 alone",              {"dave", "jones", "SHA-256", NULL, NULL},              200},
    {"MD5 where it is not stored", {"dave", "jones", "MD5", NULL, NULL},                  401},
    {"wrong password",             {"alice", "blunder", "MD5", NULL, NULL},               401},
    {"unknown user",               {"mallory", "wonder", "MD5", NULL, NULL},              401},
    {"unknown algorithm",          {"alice", "wonder", "SHA-1024", NULL, NULL},           401},
    {"uri of the same host",       {"alice", "wonder", "MD5", "sip:sip.test:5061", NULL}, 200},
    {"uri of another host",        {"alice", "wonder", "MD5", "sip:other.test", NULL},    401},
    {"nonce made up",              {"alice", "wonder", "MD5", NULL, "feed"},              401},
};

static void only_right_credentials_register(void **state) /* S3, S3 refused */
{
    struct edge *edge = *state;

    for (size_t i = 0; i < ARRAY_LEN(logins); i++) {
        int status = register_as(edge, &logins[i].login, "c1", "");

        if (status != logins[i].status)
            fail_msg("%s: %d", logins[i].what, status);
        take_all(edge);
    }
}

static void old_nonce_is_stale(void **state) /* S3 */
{
    struct edge *edge = *state;
    char challenge[2048], credentials[2048];

    register_once(edge, "alice", "c1", 1, "", "");
    (void)snprintf(challenge, sizeof(challenge), "%s", last_sent(edge));
    assert_null(strstr(challenge, "stale"));
    pass(edge, 300000);
    authorize(challenge, &alice, "REGISTER", "sip:sip.test", credentials);
    register_once(edge, "alice", "c1", 2, "", credentials);
    assert_int_equal(last_status(edge), 200); /* not yet too old */
    pass(edge, 1);
    authorize_again(challenge, &alice, 2, "REGISTER", "sip:sip.test", credentials);
    register_once(edge, "alice", "c1", 3, "", credentials);
    assert_int_equal(last_status(edge), 401);
    assert_non_null(strstr(last_sent(edge), "stale=true"));
    authorize(last_sent(edge), &alice, "REGISTER", "sip:sip.test", credentials);
    register_once(edge, "alice", "c1", 4, "", credentials);
    assert_int_equal(last_status(edge), 200);
}

static void replay_is_stale(void **state) /* S3 refused, RFC 7616 3.3 */
{
    static const struct {
        unsigned nc;
        int status;
    } uses[] = {
        {2, 200},
        {2, 401},
        {1, 401},
        {3, 200}
    };
    struct edge *edge = *state;
    char challenge[2048], credentials[2048];

    register_once(edge, "alice", "c1", 1, "", "");
    (void)snprintf(challenge, sizeof(challenge), "%s", last_sent(edge));
    for (unsigned i = 0; i < ARRAY_LEN(uses); i++) {
        authorize_again(challenge, &alice, uses[i].nc, "REGISTER", "sip:sip.test", credentials);
        register_once(edge, "alice", "c1", 2 + i, "", credentials);
        assert_int_equal(last_status(edge), uses[i].status);
        if (uses[i].status == 401)
            assert_non_null(strstr(last_sent(edge), "stale=true"));
    }
    /* two that were challenged in the same millisecond do not use up each other's counts */
    assert_int_equal(register_as(edge, &alice, "c2", ""), 200);
    assert_int_equal(register_as(edge, &alice, "c3", ""), 200);
}

static void too_many_wrong_passwords_are_403_known_user_or_not(void **state) /* S3 refused */
{
    struct login wrong[] = {
        {"bob",     "x", "MD5", NULL, NULL},
        {"mallory", "x", "MD5", NULL, NULL},
    };
    struct edge *edge = *state;

    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        int status = register_as(edge, &wrong[i], "c1", "");

        if (i && status == 403) { /* one in 1024 shares its count with bob */
            wrong[i].user = "trudy";
            status = register_as(edge, &wrong[i], "c1", "");
        }
        assert_int_equal(status, 401);
        for (unsigned n = 2; n < 5; n++)
            assert_int_equal(register_as(edge, &wrong[i], "c1", ""), 401);
        assert_int_equal(register_as(edge, &wrong[i], "c1", ""), 403);
        assert_int_equal(register_as(edge, &wrong[i], "c1", ""), 403);
        take_all(edge);
    }
    assert_int_equal(register_as(edge, &bob, "c1", ""), 200); /* nobody locks him out */
    assert_int_equal(register_as(edge, &wrong[0], "c1", ""), 401);
    pass(edge, 60000);
    assert_int_equal(register_as(edge, &wrong[1], "c1", ""), 403);
    take_all(edge);
    pass(edge, 300000);
    assert_int_equal(register_as(edge, &wrong[1], "c1", ""), 401);
}

static void credentials_of_another_user_are_403(void **state) /* S3 refused */
{
    struct edge *edge = *state;
    char credentials[2048];

    register_once(edge, "alice", "c1", 1, CONTACT, "");
    authorize(last_sent(edge), &bob, "REGISTER", "sip:sip.test", credentials);
    register_once(edge, "alice", "c1", 2, CONTACT, credentials);
    assert_int_equal(last_status(edge), 403);
    assert_int_equal(register_as(edge, &alice, "c2", ""), 200);
    assert_int_equal(count_of(last_sent(edge), "Contact: "), 0);
}

static void nonsense_is_dropped(void **state) /* V5, V7 */
{
    struct edge *edge = *state;

    receive(edge, "\r\n\r\n");
    receive(edge, "hello");
    receive(edge, "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP registrar.invalid;branch=z9hG4bKff000000"
                  "00000001.0\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>;tag=2\r\nCall-ID: x\r\n"
                  "CSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n");
    assert_int_equal(edge->sent_count, 0);
}

/* Tokens as the edge writes them: of this flow, with or without a Contact in it. */
static const char *token_of(enum token_kind kind, uint32_t slot, const char *uri)
{
    static const uint8_t keys[1][32] = {{1}};
    static char texts[4][TOKEN_TEXT_MAX + 1];
    static unsigned turn;
    char *text = texts[turn++ % 4];
    const struct token token = {.kind = kind,
                                .worker = 3,
                                .slot = slot,
                                .instance = 5,
                                .generation = 6,
                                .uri = str_of(uri)};
    struct token_keys *set;
    struct arena arena;
    struct str printed;

    assert_int_equal(arena_create(&arena, 4096), 0);
    assert_int_equal(token_keys_create(keys, 1, &set), 0);
    printed = token_print(set, &arena, &token);
    (void)snprintf(text, sizeof(texts[0]), STR_FMT, STR_ARG(printed));
    token_keys_destroy(&set);
    arena_destroy(&arena);
    return text;
}

static void bindings_end_with_the_flow_that_they_need(void **state) /* T6, S1 */
{
    struct edge *edge = *state;
    char lines[2048];

    (void)snprintf(lines, sizeof(lines),
                   "Path: <sip:%s@core.invalid;lr;ob>\r\nContact: <sip:alice@a.invalid>\r\n",
                   token_of(TOKEN_FLOW, 1, ""));
    assert_int_equal(register_as(edge, &alice, "c1", lines), 200);
    (void)snprintf(lines, sizeof(lines), "Contact: <sip:alice@core.invalid;flow=%s>\r\n",
                   token_of(TOKEN_CONTACT, 1, "sip:alice@b.invalid"));
    assert_int_equal(register_as(edge, &alice, "c2", lines), 200);
    (void)snprintf(lines, sizeof(lines), "Contact: <sip:bob@core.invalid;flow=%s>\r\n",
                   token_of(TOKEN_CONTACT, 2, "sip:bob@b.invalid"));
    assert_int_equal(register_as(edge, &bob, "c3", lines), 200);
    assert_int_equal(register_as(edge, &bob, "c4", "Contact: <sip:bob@192.0.2.1>\r\n"), 200);
    assert_int_equal(registrar_bindings(edge->registrar), 4);

    registrar_flow_gone(edge->registrar, str_of(token_of(TOKEN_FLOW, 1, "")));
    assert_int_equal(registrar_bindings(edge->registrar), 2);
    assert_int_equal(register_as(edge, &alice, "c1", ""), 200);
    assert_int_equal(count_of(last_sent(edge), "Contact: "), 0);
    registrar_flow_gone(edge->registrar, str_of(token_of(TOKEN_FLOW, 2, "")));
    assert_int_equal(registrar_bindings(edge->registrar), 1);
}

/* A phone that is back on a new connection keeps its binding when the old one is found dead. */
static void a_binding_that_moved_to_another_flow_stays(void **state) /* T6 refused, S5 */
{
    struct edge *edge = *state;
    char lines[2048];

    for (uint32_t slot = 1; slot <= 2; slot++) {
        (void)snprintf(lines, sizeof(lines),
                       "Path: <sip:%s@core.invalid;lr;ob>\r\nSupported: path, outbound\r\n"
                       "Contact: <sip:alice@a.invalid>;+sip.instance=\"<urn:uuid:1>\";reg-id=1\r\n",
                       token_of(TOKEN_FLOW, slot, ""));
        assert_int_equal(register_as(edge, &alice, "c1", lines), 200);
    }
    registrar_flow_gone(edge->registrar, str_of(token_of(TOKEN_FLOW, 1, "")));
    registrar_flow_gone(edge->registrar, STR("no token"));
    assert_int_equal(registrar_bindings(edge->registrar), 1);
}

/* Of the users of another configuration: who stays, who is new, who goes. */
static void users_of_another_configuration(void **state) /* S1, S3 */
{
    static struct conf_user others[] = {
        {"zoe",   "new",    NULL, NULL},
        {"bob",   "secret", NULL, NULL},
        {"alice", "wonder", NULL, NULL},
    };
    static const struct login carol = {"carol", "sesame", "MD5", NULL, NULL};
    struct edge *edge = *state;
    struct conf before = edge->conf, after = edge->conf, none = edge->conf;

    assert_int_equal(register_as(edge, &alice, "c1", "Contact: <sip:alice@192.0.2.1>\r\n"), 200);
    assert_int_equal(register_as(edge, &bob, "c2", "Contact: <sip:bob@192.0.2.1>\r\n"), 200);
    assert_int_equal(register_as(edge, &carol, "c3", "Contact: <sip:carol@192.0.2.1>\r\n"), 200);
    after.users = others;
    after.user_count = ARRAY_LEN(others);
    none.user_count = 0;
    assert_int_equal(registrar_prepare(edge->registrar, &none), 0); /* that never comes */
    assert_int_equal(registrar_prepare(edge->registrar, &after), 0);
    assert_int_equal(registrar_bindings(edge->registrar), 3);
    registrar_take(edge->registrar, &after);
    assert_int_equal(registrar_bindings(edge->registrar), 2); /* carol is gone */
    assert_int_equal(register_as(edge, &alice, "c1", ""), 200);
    assert_int_equal(count_of(last_sent(edge), "Contact: "), 1);
    assert_int_equal(register_as(edge, &bob, "c2", ""), 401); /* another password */
    assert_int_equal(register_as(edge, &carol, "c3", ""), 401);

    assert_int_equal(registrar_prepare(edge->registrar, &none), 0);
    registrar_take(edge->registrar, &none);
    assert_int_equal(registrar_bindings(edge->registrar), 0);
    assert_int_equal(registrar_prepare(edge->registrar, &before), 0);
    registrar_take(edge->registrar, &before);
    assert_int_equal(register_as(edge, &carol, "c3", "Contact: <sip:carol@192.0.2.1>\r\n"), 200);
    assert_int_equal(registrar_bindings(edge->registrar), 1);
    assert_int_equal(registrar_prepare(edge->registrar, &edge->conf), 0);
    registrar_take(edge->registrar, &edge->conf); /* that outlives this function */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        edge_test(bindings_end_with_the_flow_that_they_need),
        edge_test(a_binding_that_moved_to_another_flow_stays),
        edge_test(binding_is_added_refreshed_and_listed_with_the_time_left),
        edge_test(contacts_that_differ_are_bindings_of_their_own),
        edge_test(binding_is_removed_by_expires_zero_and_star),
        edge_test(binding_expires_at_its_time),
        edge_test(registrar_chooses_the_time),
        edge_test(older_request_changes_nothing),
        edge_test(oldest_binding_gives_way_and_too_many_at_once_are_refused),
        edge_test(new_flow_of_a_device_replaces_the_old_one),
        edge_test(outbound_is_not_confirmed_where_the_first_hop_lacks_it),
        edge_test(mistakes_in_a_register_are_refused),
        edge_test(alias_is_the_domain_too),
        edge_test(only_right_credentials_register),
        edge_test(old_nonce_is_stale),
        edge_test(replay_is_stale),
        edge_test(too_many_wrong_passwords_are_403_known_user_or_not),
        edge_test(credentials_of_another_user_are_403),
        edge_test(nonsense_is_dropped),
        edge_test(users_of_another_configuration),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "pki.h"
#include "proxy/log.h"
#include "proxy/str.h"
#include "tls/certificate.h"

#define TEST(name) static void name(void **state)

static struct ticket_keys ticket_keys = {.bytes = "eighty bytes that every worker has the same"};

/* A configuration with up to four pairs, by the names of their files. */
struct setup {
    struct conf conf;
    struct conf_certificate pairs[4];
    struct tickets *tickets;
    struct certificates *table;
};

/* Read the files and make the table, where `running` is served now. */
static int setup_load(struct setup *setup, const struct pems *running, FILE *errors)
{
    struct certificates_options options = {
        .conf = &setup->conf, .running = running, .errors = errors};
    int err;

    if (!setup->tickets)
        assert_int_equal(tickets_open(&ticket_keys, &setup->tickets), 0);
    options.tickets = setup->tickets;
    assert_int_equal(pems_read(&setup->conf, &options.pems), 0);
    err = certificates_load(&options, &setup->table);
    pems_free(&options.pems);
    return err;
}

static void setup_pair(struct setup *setup, const char *chain, const char *key)
{
    struct conf *conf = &setup->conf;

    setup->pairs[conf->certificate_count] =
        (struct conf_certificate){strdup(pki_path(chain)), strdup(pki_path(key)), 7};
    conf->certificates = setup->pairs;
    conf->certificate_count++;
    conf->path = "sipward.yaml";
    conf->domain = "sip.example.com";
}

static void setup_end(struct setup *setup)
{
    certificates_unref(&setup->table);
    tickets_close(&setup->tickets);
    for (unsigned i = 0; i < setup->conf.certificate_count; i++) {
        free(setup->pairs[i].chain);
        free(setup->pairs[i].key);
    }
}

/* ec and rsa: the domain; wild: *.example.org; other: other.example.net */
static void setup_usual(struct setup *setup)
{
    memset(setup, 0, sizeof(*setup));
    setup_pair(setup, "rsa.pem", "rsa.key");
    setup_pair(setup, "ec.pem", "ec.key");
    setup_pair(setup, "wild.pem", "wild.key");
    setup_pair(setup, "other.pem", "other.key");
    assert_int_equal(setup_load(setup, NULL, stderr), 0);
}

/* A client's wishes, and what came of the handshake. */
struct client {
    const char *name, *sigalgs, *ciphers, *alpn, *server_alpn;
    int version; /* 0: the newest */
    SSL_SESSION *session;

    int established;
    bool rsa, resumed;
    char names[64], host[64], suite[64], group[32], alpn_chosen[16];
    int version_chosen;
    unsigned tickets;
    unsigned long server_error;
};

static unsigned tickets_seen;
static SSL_SESSION *last_session;

static int session_new(SSL *ssl, SSL_SESSION *session)
{
    (void)ssl;
    tickets_seen++;
    SSL_SESSION_free(last_session);
    last_session = session;
    return 1;
}

static SSL *client_make(struct client *client, SSL_CTX **context)
{
    SSL *ssl;

    *context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_security_level(*context, 0);
    SSL_CTX_set_session_cache_mode(*context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(*context, session_new);
    if (client->version) {
        SSL_CTX_set_min_proto_version(*context, TLS1_VERSION);
        SSL_CTX_set_max_proto_version(*context, client->version);
    }
    if (client->ciphers)
        assert_int_equal(SSL_CTX_set_cipher_list(*context, client->ciphers), 1);
    ssl = SSL_new(*context);
    assert_non_null(ssl);
    if (client->name)
        SSL_set_tlsext_host_name(ssl, client->name);
    if (client->sigalgs)
        assert_int_equal(SSL_set1_sigalgs_list(ssl, client->sigalgs), 1);
    if (client->alpn)
        SSL_set_alpn_protos(ssl, (const unsigned char *)client->alpn,
                            (unsigned)strlen(client->alpn));
    if (client->session)
        SSL_set_session(ssl, client->session);
    SSL_set_connect_state(ssl);
    return ssl;
}

static void client_note(struct client *client, SSL *ssl, SSL *server)
{
    X509 *leaf = SSL_get0_peer_certificate(ssl);
    const char *host = certificates_host(server);
    const unsigned char *alpn;
    unsigned alpn_len;
    GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
    ASN1_STRING *first = sk_GENERAL_NAME_value(names, 0)->d.dNSName;

    (void)snprintf(client->names, sizeof(client->names), "%s",
                   (const char *)ASN1_STRING_get0_data(first));
    GENERAL_NAMES_free(names);
    client->rsa = EVP_PKEY_is_a(X509_get0_pubkey(leaf), "RSA");
    (void)snprintf(client->host, sizeof(client->host), "%s", host ? host : "-");
    (void)snprintf(client->suite, sizeof(client->suite), "%s", SSL_get_cipher_name(ssl));
    client->version_chosen = SSL_version(ssl);
    client->resumed = SSL_session_reused(ssl);
    SSL_get0_alpn_selected(ssl, &alpn, &alpn_len);
    (void)snprintf(client->alpn_chosen, sizeof(client->alpn_chosen), "%.*s", (int)alpn_len,
                   alpn ? (const char *)alpn : "");
    (void)snprintf(client->group, sizeof(client->group), "%s",
                   OBJ_nid2sn(SSL_get_shared_group(server, 0)));
}

/* A handshake in memory. */
static void client_run(struct client *client, const struct certificates *table)
{
    SSL_CTX *context;
    SSL *ssl = client_make(client, &context);
    SSL *server = SSL_new(certificates_default(table));
    BIO *near = NULL, *far = NULL;
    int up = 0, down = 0;
    char byte;

    assert_int_equal(BIO_new_bio_pair(&near, 0, &far, 0), 1);
    SSL_set_bio(ssl, near, near);
    SSL_set_bio(server, far, far);
    SSL_set_accept_state(server);
    if (client->server_alpn)
        assert_int_equal(certificates_alpn(server, client->server_alpn), 0);
    tickets_seen = 0;
    for (int i = 0; i < 20 && !(up == 1 && down == 1); i++) {
        ERR_clear_error();
        up = SSL_do_handshake(ssl);
        ERR_clear_error();
        down = SSL_do_handshake(server);
        if (down != 1 && SSL_get_error(server, down) == SSL_ERROR_SSL) {
            client->server_error = ERR_peek_error();
            break;
        }
    }
    client->established = up == 1 && down == 1;
    if (client->established) {
        SSL_read(ssl, &byte, 1); /* takes the ticket in */
        client->tickets = tickets_seen;
        client_note(client, ssl, server);
        SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    }
    ERR_clear_error();
    SSL_free(ssl);
    SSL_free(server);
    SSL_CTX_free(context);
}

static const struct {
    const char *what, *name, *sigalgs, *names, *host;
    int version;
    bool rsa;
} choices[] = {
    {"no name",               NULL,                 NULL,             "sip.example.com",   "-",                  0,              false},
    {"a name of nobody",      "sip.invalid",        NULL,             "sip.example.com",   "-",                  0,              false},
    {"EC before RSA",         "sip.example.com",    NULL,             "sip.example.com",   "sip.example.com",    0,              false},
    {"whatever the case",     "SIP.Example.COM",    NULL,             "sip.example.com",   "SIP.Example.COM",    0,              false},
    {"EC in TLS 1.2",         "sip.example.com",    NULL,             "sip.example.com",   "sip.example.com",    TLS1_2_VERSION,
     false                                                                                                                            },
    {"RSA if no ECDSA",       "sip.example.com",    "RSA-PSS+SHA256", "sip.example.com",   "sip.example.com",
     0,                                                                                                                          true },
    {"RSA without a name",    NULL,                 "RSA-PSS+SHA256", "sip.example.com",   "-",                  0,              true },
    {"wildcard",              "a.example.org",      NULL,             "*.example.org",     "a.example.org",      0,              false},
    {"wildcard, one label",   "a.b.example.org",    NULL,             "sip.example.com",   "-",                  0,              false},
    {"wildcard, no dot",      "example.org",        NULL,             "sip.example.com",   "-",                  0,              false},
    {"a suffix is no name",   ".example.org",       NULL,             "sip.example.com",   "-",                  0,              false},
    {"a wildcard is no name", "*.example.org",      NULL,             "sip.example.com",   "-",                  0,              false},
    {"no blank in it",        "a b.example.org",    NULL,             "sip.example.com",   "-",                  0,              false},
    {"another certificate",   "other.example.net",  NULL,             "other.example.net", "other.example.net",  0,
     true                                                                                                                             },
    {"its second name",       "second.example.net", NULL,             "other.example.net", "second.example.net", 0,
     true                                                                                                                             },
};

TEST(server_name_chooses_the_certificate) /* X4 */
{
    struct setup setup;

    (void)state;
    setup_usual(&setup);
    for (size_t i = 0; i < ARRAY_LEN(choices); i++) {
        struct client client = {
            .name = choices[i].name, .sigalgs = choices[i].sigalgs, .version = choices[i].version};

        client_run(&client, setup.table);
        if (!client.established || strcmp(client.names, choices[i].names) != 0 ||
            strcmp(client.host, choices[i].host) != 0 || client.rsa != choices[i].rsa)
            fail_msg("%s: established %d, certificate %s, host %s, rsa %d", choices[i].what,
                     client.established, client.names, client.host, client.rsa);
    }
    setup_end(&setup);
}

TEST(tls_12_client_without_ecdsa_suites_gets_rsa)
{
    struct client client = {.name = "sip.example.com",
                            .version = TLS1_2_VERSION,
                            .ciphers = "ECDHE-RSA-AES128-GCM-SHA256"};
    struct setup setup;

    (void)state;
    setup_usual(&setup);
    client_run(&client, setup.table);
    assert_true(client.established);
    assert_true(client.rsa);
    setup_end(&setup);
}

TEST(newest_protocol_and_best_suite_are_used) /* X4 */
{
    struct client client = {.name = "sip.example.com"};
    struct setup setup;

    (void)state;
    setup_usual(&setup);
    client_run(&client, setup.table);
    assert_true(client.established);
    assert_int_equal(client.version_chosen, TLS1_3_VERSION);
    assert_string_equal(client.suite, "TLS_AES_128_GCM_SHA256");
    assert_string_equal(client.group, "X25519");
    assert_int_equal(client.tickets, 1);
    setup_end(&setup);
}

static const struct {
    const char *what, *ciphers;
    int version;
    bool established;
} protocols[] = {
    {"TLS 1.0",            NULL,                                             TLS1_VERSION,   false},
    {"TLS 1.1",            NULL,                                             TLS1_1_VERSION, false},
    {"TLS 1.2",            NULL,                                             TLS1_2_VERSION, true },
    {"no forward secrecy", "AES128-GCM-SHA256:AES256-SHA",                   TLS1_2_VERSION, false},
    {"CBC",                "ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES256-SHA384", TLS1_2_VERSION, false},
    {"no encryption",      "NULL-SHA256:ECDHE-ECDSA-NULL-SHA",               TLS1_2_VERSION, false},
    {"AEAD",               "ECDHE-ECDSA-AES256-GCM-SHA384",                  TLS1_2_VERSION, true },
    {"ChaCha20",           "ECDHE-ECDSA-CHACHA20-POLY1305",                  TLS1_2_VERSION, true },
};

TEST(old_protocols_and_weak_suites_are_refused) /* X4 */
{
    struct setup setup;

    (void)state;
    setup_usual(&setup);
    for (size_t i = 0; i < ARRAY_LEN(protocols); i++) {
        struct client client = {.version = protocols[i].version, .ciphers = protocols[i].ciphers};

        client_run(&client, setup.table);
        if (client.established != protocols[i].established)
            fail_msg("%s: established %d", protocols[i].what, client.established);
    }
    setup_end(&setup);
}

TEST(session_is_resumed_by_another_worker) /* X4 */
{
    struct setup one, two;
    const int versions[] = {0, TLS1_2_VERSION};

    (void)state;
    setup_usual(&one);
    setup_usual(&two);
    for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
        struct client first = {.name = "sip.example.com", .version = versions[i]}, second = first;

        client_run(&first, one.table);
        assert_true(first.established);
        assert_false(first.resumed);
        second.session = last_session;
        assert_non_null(last_session);
        last_session = NULL;
        client_run(&second, two.table);
        assert_true(second.established);
        if (!second.resumed)
            fail_msg("TLS version %x: not resumed", second.version_chosen);
        assert_string_equal(second.host, "sip.example.com");
        SSL_SESSION_free(second.session);
        SSL_SESSION_free(last_session);
        last_session = NULL;
    }
    setup_end(&one);
    setup_end(&two);
}

static int64_t uptime_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

/* A table whose keys began so many seconds ago. */
static void setup_aged(struct setup *setup, int64_t age_s)
{
    ticket_keys.made_s = uptime_s() - age_s;
    setup_usual(setup);
}

enum { HOUR_S = 3600, DAY_S = 24 * HOUR_S };

static const struct {
    const char *what;
    int64_t first_s,
        second_s; /* age of the keys when the ticket is given, and when it comes back */
    bool resumed;
} ages[] = {
    {"the same day",           HOUR_S,              2 * HOUR_S,          true },
    {"the next day",           DAY_S - HOUR_S,      DAY_S + HOUR_S,      true },
    {"the day after",          DAY_S - HOUR_S,      2 * DAY_S + HOUR_S,  false},
    {"the first day again",    DAY_S + HOUR_S,      HOUR_S,              false},
    {"the same day, later on", 90 * DAY_S + HOUR_S, 90 * DAY_S + HOUR_S, true },
    {"the next day, later on", 90 * DAY_S + HOUR_S, 91 * DAY_S + HOUR_S, true },
};

TEST(ticket_keys_are_new_each_day_and_the_same_for_all_workers) /* X4, RFC 9325 3.4 */
{
    const int versions[] = {0, TLS1_2_VERSION};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ages) * ARRAY_LEN(versions); i++) {
        struct client first = {.name = "sip.example.com", .version = versions[i % 2]};
        struct client second = first, third = first;
        struct setup one, two;

        setup_aged(&one, ages[i / 2].first_s);
        setup_aged(&two, ages[i / 2].second_s);
        client_run(&first, one.table);
        second.session = last_session;
        assert_non_null(last_session);
        last_session = NULL;
        client_run(&second, two.table);
        if (!second.established || second.resumed != ages[i / 2].resumed)
            fail_msg("%s, TLS version %x: resumed %d", ages[i / 2].what, second.version_chosen,
                     second.resumed);
        SSL_SESSION_free(second.session);
        if (last_session) { /* the ticket that came in its place is of the new day */
            third.session = last_session;
            last_session = NULL;
            client_run(&third, two.table);
            assert_true(third.resumed);
            SSL_SESSION_free(third.session);
        }
        SSL_SESSION_free(last_session);
        last_session = NULL;
        setup_end(&one);
        setup_end(&two);
    }
    ticket_keys.made_s = 0;
}

#define SIP "\x05sip/2"
#define HTTP "\x08http/1.1"

static const struct {
    const char *what, *offered, *served, *chosen;
} alpns[] = {
    {"SIP to a SIP client",               SIP,               SIP,      "sip/2"   },
    {"SIP among others",                  "\x02h2" HTTP SIP, SIP,      "sip/2"   },
    {"no HTTP on a SIP port",             HTTP,              SIP,      ""        },
    {"nothing for the unknown",           "\x03sip",         SIP,      ""        },
    {"nothing asked",                     NULL,              SIP,      ""        },
    {"HTTP to a browser",                 HTTP,              HTTP,     "http/1.1"},
    {"no h2 to a browser",                "\x02h2" HTTP,     HTTP,     "http/1.1"},
    {"no SIP on an HTTP port",            SIP,               HTTP,     ""        },
    {"SIP where both are served",         SIP,               SIP HTTP, "sip/2"   },
    {"HTTP where both are served",        "\x02h2" HTTP,     SIP HTTP, "http/1.1"},
    {"the client's order",                HTTP SIP,          SIP HTTP, "http/1.1"},
    {"the client's order, the other way", SIP HTTP,          HTTP SIP, "sip/2"   },
    {"nothing where nothing is served",   SIP HTTP,          NULL,     ""        },
};

TEST(alpn_names_the_protocol_of_the_port)
{
    struct setup setup;

    (void)state;
    setup_usual(&setup);
    for (size_t i = 0; i < ARRAY_LEN(alpns); i++) {
        struct client client = {
            .alpn = alpns[i].offered, .server_alpn = alpns[i].served, .name = "a.example.org"};

        client_run(&client, setup.table);
        if (!client.established || strcmp(client.alpn_chosen, alpns[i].chosen) != 0)
            fail_msg("%s: established %d, chosen '%s'", alpns[i].what, client.established,
                     client.alpn_chosen);
        assert_string_equal(client.names, "*.example.org");
    }
    setup_end(&setup);
}

static const struct {
    const char *what, *chain, *key, *says, *also;
} mistakes[] = {
    {"no such file",        "none.pem",    "ec.key",     "none.pem' can't be read: No such file",          NULL                     },
    {"no such key",         "ec.pem",      "none.key",   "none.key' can't be read: No such file",          NULL                     },
    {"both missing",        "none.pem",    "none.key",   "none.pem' can't be read",                        "none.key' can't be read"},
    {"a folder",            ".",           "ec.key",     "is a folder",                                    NULL                     },
    {"not PEM",             "text.pem",    "ec.key",     "text.pem' has no certificate in it",             NULL                     },
    {"broken PEM",          "broken.pem",  "ec.key",     "broken.pem' has a broken certificate, number 1", NULL                     },
    {"key in its place",    "ec.key",      "ec.key",     "ec.key' has no certificate in it",               NULL                     },
    {"certificate for key", "ec.pem",      "ec.pem",     "ec.pem' has no private key",                     NULL                     },
    {"another's key",       "ec.pem",      "wild.key",   "wild.key' is not the key of",                    "ec.pem'"                },
    {"another kind of key", "ec.pem",      "rsa.key",    "rsa.key' is not the key of",                     "ec.pem'"                },
    {"encrypted key",       "locked.pem",  "locked.key", "locked.key' is encrypted",                       NULL                     },
    {"weak key",            "weak.pem",    "weak.key",   "weak.pem' has a key that is too weak",           "2048"                   },
    {"wrong order",         "swapped.pem", "ec.key",     "swapped.pem' has the certificate of",            "number 2"               },
};

TEST(mistakes_are_named_with_file_and_remedy)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(mistakes); i++) {
        struct setup setup = {0};
        char *text = NULL;
        size_t len;
        FILE *errors = open_memstream(&text, &len);

        setup_pair(&setup, mistakes[i].chain, mistakes[i].key);
        assert_int_equal(setup_load(&setup, NULL, errors), -EINVAL);
        assert_int_equal(fclose(errors), 0);
        assert_null(setup.table);
        if (!strstr(text, mistakes[i].says) ||
            (mistakes[i].also && !strstr(text, mistakes[i].also)) ||
            strncmp(text, "sipward.yaml:7: certificate: '", 30) != 0)
            fail_msg("%s: it says: %s", mistakes[i].what, text);
        assert_int_equal(ERR_peek_error(), 0);
        free(text);
        setup_end(&setup);
    }
}

TEST(all_mistakes_are_named_at_once)
{
    struct setup setup = {0};
    char *text = NULL;
    size_t len;
    FILE *errors = open_memstream(&text, &len);

    (void)state;
    setup_pair(&setup, "none.pem", "none.key");
    setup_pair(&setup, "ec.pem", "ec.key");
    setup_pair(&setup, "ec.pem", "rsa.key");
    assert_int_equal(setup_load(&setup, NULL, errors), -EINVAL);
    assert_int_equal(fclose(errors), 0);
    assert_non_null(strstr(text, "none.pem"));
    assert_non_null(strstr(text, "rsa.key"));
    free(text);
    setup_end(&setup);
}

TEST(what_clients_will_refuse_is_loaded_all_the_same)
{
    const char *names[] = {"expired", "early", "soon", "client"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct setup setup = {0};
        char chain[32], key[32];

        (void)snprintf(chain, sizeof(chain), "%s.pem", names[i]);
        (void)snprintf(key, sizeof(key), "%s.key", names[i]);
        setup_pair(&setup, chain, key);
        assert_int_equal(setup_load(&setup, NULL, stderr), 0);
        setup_end(&setup);
    }
}

TEST(an_expired_certificate_does_not_replace_another_one) /* X4 */
{
    struct setup runs = {0}, renewed = {0};
    const struct pems *pems, *again, *none = NULL;
    char *text = NULL;
    size_t len;
    FILE *errors = open_memstream(&text, &len);

    (void)state;
    setup_pair(&runs, "ec.pem", "ec.key");
    setup_pair(&renewed, "expired.pem", "expired.key");
    assert_int_equal(pems_read(&runs.conf, &pems), 0);
    assert_int_equal(setup_load(&renewed, pems, errors), -EINVAL);
    assert_int_equal(fclose(errors), 0);
    assert_non_null(strstr(text, "expired.pem' has expired on "));
    pems_free(&pems);
    free(text);

    assert_int_equal(pems_read(&renewed.conf, &pems), 0);
    assert_int_equal(setup_load(&renewed, pems, stderr), 0); /* it is what runs */
    assert_true(certificates_until(renewed.table, 0) < (int64_t)time(NULL));
    assert_int_equal(pems_read(&renewed.conf, &again), 0);
    assert_true(pems_eq(pems, again));
    pems_free(&again);
    assert_int_equal(pems_read(&runs.conf, &again), 0);
    assert_false(pems_eq(pems, again) || pems_eq(pems, NULL));
    pems_free(&again);
    pems_free(&pems);
    pems_free(&none);
    setup_end(&runs);
    setup_end(&renewed);
}

TEST(tables_are_made_from_what_was_read_once)
{
    struct client client = {.name = "sip.example.com"};
    struct setup setup = {0};
    struct certificates_options options = {.conf = &setup.conf};

    (void)state;
    pki_make(&(struct pki_spec){.san = "DNS:sip.example.com"}, "passing.pem", "passing.key");
    setup_pair(&setup, "passing.pem", "passing.key");
    assert_int_equal(pems_read(&setup.conf, &options.pems), 0);
    pki_write("passing.pem", "this is no certificate any more\n");
    pki_write("passing.key", "");
    assert_int_equal(tickets_open(&ticket_keys, &setup.tickets), 0);
    options.tickets = setup.tickets;
    assert_int_equal(certificates_load(&options, &setup.table), 0);
    client_run(&client, setup.table);
    assert_true(client.established);
    pems_free(&options.pems);
    setup_end(&setup);
}

TEST(session_is_resumed_with_the_next_certificate) /* X4 */
{
    struct client first = {.name = "sip.example.com"}, second = first;
    struct setup setup;

    (void)state;
    setup_usual(&setup);
    client_run(&first, setup.table);
    second.session = last_session;
    last_session = NULL;
    certificates_unref(&setup.table);
    assert_int_equal(setup_load(&setup, NULL, stderr), 0);
    client_run(&second, setup.table);
    assert_true(second.established && second.resumed);
    SSL_SESSION_free(second.session);
    setup_end(&setup);
}

static int group_setup(void **state)
{
    const long day = 24L * 3600;

    (void)state;
    pki_make(&(struct pki_spec){.san = "DNS:sip.example.com"}, "ec.pem", "ec.key");
    pki_make(&(struct pki_spec){.san = "DNS:sip.example.com", .rsa_bits = 2048}, "rsa.pem",
             "rsa.key");
    pki_make(&(struct pki_spec){.san = "DNS:*.example.org"}, "wild.pem", "wild.key");
    pki_make(
        &(struct pki_spec){.san = "DNS:other.example.net,DNS:second.example.net", .rsa_bits = 2048},
        "other.pem", "other.key");
    pki_make(&(struct pki_spec){.san = "DNS:sip.example.com", .rsa_bits = 1024}, "weak.pem",
             "weak.key");
    pki_make(&(struct pki_spec){.san = "DNS:sip.example.com", .password = "secret"}, "locked.pem",
             "locked.key");
    pki_make(&(struct pki_spec){.san = "DNS:sip.example.com", .from_s = -2 * day, .until_s = -day},
             "expired.pem", "expired.key");
    pki_make(&(struct pki_spec){.san = "DNS:sip.example.com", .from_s = day}, "early.pem",
             "early.key");
    pki_make(&(struct pki_spec){.san = "DNS:sip.example.com", .until_s = 3 * day}, "soon.pem",
             "soon.key");
    pki_make(&(struct pki_spec){.san = "DNS:sip.example.com", .usage = "clientAuth"}, "client.pem",
             "client.key");
    pki_write("text.pem", "this is no certificate\n");
    pki_write("broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    pki_join("swapped.pem", "wild.pem", "ec.pem");
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    SSL_SESSION_free(last_session);
    pki_remove();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(server_name_chooses_the_certificate),
        cmocka_unit_test(tls_12_client_without_ecdsa_suites_gets_rsa),
        cmocka_unit_test(newest_protocol_and_best_suite_are_used),
        cmocka_unit_test(old_protocols_and_weak_suites_are_refused),
        cmocka_unit_test(session_is_resumed_by_another_worker),
        cmocka_unit_test(ticket_keys_are_new_each_day_and_the_same_for_all_workers),
        cmocka_unit_test(alpn_names_the_protocol_of_the_port),
        cmocka_unit_test(mistakes_are_named_with_file_and_remedy),
        cmocka_unit_test(all_mistakes_are_named_at_once),
        cmocka_unit_test(what_clients_will_refuse_is_loaded_all_the_same),
        cmocka_unit_test(an_expired_certificate_does_not_replace_another_one),
        cmocka_unit_test(tables_are_made_from_what_was_read_once),
        cmocka_unit_test(session_is_resumed_with_the_next_certificate),
    };

    log_open(LOG_ERROR, false);
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "conf/conf.h"

#define ARRAY_LEN(array) (sizeof(array) / sizeof((array)[0]))
#define CERTIFICATE "certificate: {chain: chain.pem, key: key.pem}\n"
#define SMALL                                                                                      \
    "domain: sip.example.com\n" CERTIFICATE "listen:\n"                                            \
    "  - tls: 5061\n"                                                                              \
    "  - wss: 443\n"                                                                               \
    "backends:\n"                                                                                  \
    "  - udp:10.0.0.5:5060\n"

static char folder[] = "/tmp/test_conf.XXXXXX", conf_path[64];

static void file_write(const char *name, const char *text, size_t len)
{
    char path[64];
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

static int group_setup(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    (void)snprintf(conf_path, sizeof(conf_path), "%s/sipward.yaml", folder);
    file_write("chain.pem", "", 0);
    file_write("key.pem", "", 0);
    return 0;
}

static int group_teardown(void **state)
{
    static const char *const names[] = {"chain.pem", "key.pem", "sipward.yaml"};
    char path[64];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        (void)unlink(path);
    }
    return rmdir(folder);
}

/* Load a text; what was reported comes back in *errors, to be freed. */
static int load_bytes(const char *text, size_t len, struct conf **conf, char **errors)
{
    size_t size;
    FILE *stream = open_memstream(errors, &size);
    int err;

    assert_non_null(stream);
    file_write("sipward.yaml", text, len);
    err = conf_load(conf_path, stream, conf);
    (void)fclose(stream);
    return err;
}

static struct conf *load(const char *text)
{
    struct conf *conf = NULL;
    char *errors;
    int err = load_bytes(text, strlen(text), &conf, &errors);

    if (err || *errors)
        fail_msg("%s\n%s", text, errors);
    free(errors);
    return conf;
}

/* Each reported line is FILE:, then what this line of `expected` says, then maybe more. */
static void check_errors(const char *yaml, size_t len, const char *expected)
{
    struct conf *conf = NULL;
    char *errors, *at;
    int err = load_bytes(yaml, len, &conf, &errors);

    at = errors;
    for (const char *line = expected; *line;) {
        size_t size = strcspn(line, "\n"), prefix = strlen(conf_path);
        if (strncmp(at, conf_path, prefix) != 0 || at[prefix] != ':' ||
            strncmp(at + prefix + 1, line, size) != 0)
            fail_msg("\n%s\nexpected: %.*s\nreported:\n%s", yaml, (int)size, line, errors);
        at += strcspn(at, "\n") + 1;
        line += size + (line[size] == '\n');
    }
    if (*at)
        fail_msg("\n%s\nexpected:\n%s\nreported:\n%s", yaml, expected, errors);
    assert_int_equal(err, -EINVAL);
    assert_null(conf);
    free(errors);
}

static void the_seven_lines_load_with_every_default(void **state)
{
    struct conf *conf = load(SMALL);

    (void)state;
    assert_string_equal(conf->path, conf_path);
    assert_string_equal(conf->domain, "sip.example.com");
    assert_int_equal(conf->alias_count, 0);
    assert_int_equal(conf->certificate_count, 1);
    assert_int_equal(conf->certificates[0].line, 2);
    assert_non_null(strstr(conf->certificates[0].chain, "/chain.pem"));
    assert_int_equal(access(conf->certificates[0].key, R_OK), 0);

    assert_int_equal(conf->listener_count, 2);
    assert_int_equal(conf->listeners[0].kind, CONF_TLS);
    assert_int_equal(conf->listeners[0].line, 4);
    assert_true(conf->listeners[0].any);
    assert_int_equal(conf->listeners[0].address.sa.sa_family, AF_INET6);
    assert_int_equal(ntohs(conf->listeners[0].address.in6.sin6_port), 5061);
    assert_int_equal(conf->listeners[1].kind, CONF_WSS);
    assert_int_equal(conf->listeners[1].line, 5);
    assert_int_equal(ntohs(conf->listeners[1].address.in6.sin6_port), 443);

    assert_int_equal(conf->backend_count, 1);
    assert_string_equal(conf->backends[0].host, "10.0.0.5");
    assert_int_equal(conf->backends[0].port, 5060);
    assert_int_equal(conf->backends[0].line, 7);
    assert_int_equal(conf->core4.sa.sa_family, 0);
    assert_int_equal(conf->core6.sa.sa_family, 0);
    assert_int_equal(conf->core_port, 5060);

    assert_false(conf->contact_path);
    assert_int_equal(conf->flow_gone_status, 430);
    assert_int_equal(conf->flow_token_key_count, 0);
    assert_int_equal(conf->user_count, 0);
    assert_string_equal(conf->registrar.realm, "sip.example.com");
    assert_int_equal(conf->registrar.min_expires_s, 60);
    assert_int_equal(conf->registrar.default_expires_s, 3600);
    assert_int_equal(conf->registrar.max_expires_s, 7200);
    assert_int_equal(conf->registrar.max_bindings, 10);
    assert_int_equal(conf->registrar.nonce_lifetime_s, 300);
    assert_string_equal(conf->websocket.path, "/");
    assert_int_equal(conf->websocket.origin_count, 0);
    assert_int_equal(conf->websocket.ping_interval_s, 18);
    assert_int_equal(conf->websocket.pong_timeout_s, 8);
    /* with the jitter of pings: who vanished is found within 30 s (F8) */
    assert_true(conf->websocket.ping_interval_s * 1.1 + conf->websocket.pong_timeout_s < 30);
    assert_int_equal(conf->headers.rule_count, 0);
    assert_null(conf->headers.client_address);
    assert_int_equal(conf->limits.message_size, 65536);
    assert_int_equal(conf->limits.max_forwards, 70);
    assert_int_equal(conf->limits.udp_size, 1300);
    assert_int_equal(conf->limits.connections, 0);
    assert_int_equal(conf->limits.transactions, 100000);
    assert_int_equal(conf->limits.transactions_per_connection, 100);
    assert_int_equal(conf->limits.send_queue, 262144);
    assert_int_equal(conf->limits.handshake_timeout_s, 10);
    assert_int_equal(conf->limits.upgrade_timeout_s, 10);
    assert_int_equal(conf->limits.message_timeout_s, 15);
    assert_int_equal(conf->limits.first_message_timeout_s, 30);
    assert_int_equal(conf->limits.idle_timeout_s, 7200);
    assert_int_equal(conf->limits.try_timeout_ms, 1600);
    assert_int_equal(conf->limits.stop_timeout_ms, 2000);
    assert_int_equal(conf->limits.drain_spread_s, 10);
    assert_int_equal(conf->limits.drain_timeout_s, 60);
    assert_int_equal(conf->probe.interval_s, 10);
    assert_int_equal(conf->probe.timeout_s, 2);
    assert_int_equal(conf->probe.down_after, 3);
    assert_int_equal(conf->probe.up_after, 2);
    assert_int_equal(conf->workers, 0);
    assert_int_equal(conf->log_level, 2);
    assert_false(conf->log_json);
    conf_free(&conf);
    assert_null(conf);
    conf_free(&conf);
}

/* Of the networks in every_key_arrives_where_it_belongs(). */
static void networks_hold(const struct conf_network *networks)
{
    static const struct {
        const char *address;
        unsigned in; /* a bit for each network */
    } cases[] = {
        {"10.0.0.0",         0x09},
        {"10.127.255.255",   0x09},
        {"10.128.0.1",       0x29},
        {"11.0.0.0",         0x08},
        {"9.255.255.255",    0x08},
        {"192.0.2.1",        0x0c},
        {"192.0.2.0",        0x08},
        {"2001:db8:7fff::1", 0x02},
        {"2001:db8:8000::",  0x00},
        {"::1",              0x10},
        {"::",               0x00},
        {"2001:db7:ffff::",  0x00},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        union conf_sockaddr address = {.in.sin_family = AF_INET};
        unsigned in = 0;

        if (inet_pton(AF_INET, cases[i].address, &address.in.sin_addr) != 1) {
            address.sa.sa_family = AF_INET6;
            assert_int_equal(inet_pton(AF_INET6, cases[i].address, &address.in6.sin6_addr), 1);
        }
        for (unsigned j = 0; j < 6; j++)
            in |= (unsigned)conf_network_has(&networks[j], &address.sa) << j;
        if (in != cases[i].in)
            fail_msg("%s is in %x", cases[i].address, in);
    }
}

static void every_key_arrives_where_it_belongs(void **state)
{
    struct conf *conf = load(
        "domain: 2001:DB8:0::1\n"
        "aliases: [edge.example.com, \"[2001:db8::2]\", 192.0.2.1]\n"
        "certificate: {chain: chain.pem, key: key.pem}\n"
        "certificates:\n"
        "  - {chain: key.pem, key: chain.pem}\n"
        "client_ca: chain.pem\n"
        "listen: [{tls: 127.0.0.1:5061, client_certificate: asked}, wss: \"[::1]:443\", tcp: "
        "5070, ws: 8080, tls+wss: 8443, {tcp+ws: 8081, proxy_protocol: "
        "[10.0.0.0/8, \"2001:db8::/33\", 192.0.2.1, 0.0.0.0/0, \"::1\", 10.128.0.0/9]}]\n"
        "backends: [udp:pbx.example.com, {tcp: \"[fd00::5]:5090\", priority: 0}, auto:10.0.0.5,\n"
        "           {weight: 65535, auto: \"pbx.example.com:5061\"}]\n"
        "core: \"[fd00::2]:5070, 10.0.0.2\"\n"
        "contact: path\n"
        "flow_gone_status: 480\n"
        "flow_token_keys: [000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F]\n"
        "registrar: {realm: my realm, min_expires: 1, default_expires: 2, max_expires: 3,\n"
        "            max_bindings: 4, nonce_lifetime: 5}\n"
        "websocket: {path: /sip, origins: [\"https://a.example:8443\", \"http://[::1]:81\"],\n"
        "            ping_interval: 6, pong_timeout: 7}\n"
        "headers:\n"
        "  from_clients: [\"X-A;b\"]\n"
        "  to_clients: []\n"
        "  client_address: X-Client-Address\n"
        "  rules:\n"
        "    - {direction: to_core, action: add, name: X-Edge, value: \"a: b\"}\n"
        "    - {direction: to_clients, action: remove, name: X-Gone}\n"
        "    - {direction: to_clients, action: set, name: X-Set, value: c}\n"
        "limits: {message_size: 4096, udp_size: 1200, max_forwards: 9, connections: 10,\n"
        "         transactions: 12, transactions_per_connection: 13,\n"
        "         send_queue: 8192, handshake_timeout: 14, upgrade_timeout: 15,\n"
        "         message_timeout: 16, first_message_timeout: 17, idle_timeout: 0,\n"
        "         stop_timeout_ms: 18, try_timeout_ms: 900,\n"
        "         drain_spread: 19, drain_timeout: 20}\n"
        "probe: {interval: 0, timeout: 4, down_after: 5, up_after: 6}\n"
        "workers: 128\n"
        "log: json\n"
        "log_level: debug\n");
    char address[INET6_ADDRSTRLEN];

    (void)state;
    assert_string_equal(conf->domain, "2001:db8::1");
    assert_int_equal(conf->alias_count, 3);
    assert_string_equal(conf->aliases[1], "2001:db8::2");
    assert_string_equal(conf->aliases[2], "192.0.2.1");
    assert_int_equal(conf->certificate_count, 2);
    assert_int_equal(conf->certificates[1].line, 5);
    assert_non_null(strstr(conf->certificates[1].chain, "/key.pem"));

    assert_int_equal(conf->listener_count, 6);
    assert_int_equal(conf->listeners[0].address.sa.sa_family, AF_INET);
    assert_int_equal(ntohl(conf->listeners[0].address.in.sin_addr.s_addr), INADDR_LOOPBACK);
    assert_false(conf->listeners[0].any);
    assert_int_equal(conf->listeners[1].address.sa.sa_family, AF_INET6);
    assert_true(IN6_IS_ADDR_LOOPBACK(&conf->listeners[1].address.in6.sin6_addr));
    assert_int_equal(ntohs(conf->listeners[1].address.in6.sin6_port), 443);
    assert_int_equal(conf->listeners[0].client_certificate, CONF_CLIENT_ASKED);
    assert_int_equal(conf->listeners[1].client_certificate, CONF_CLIENT_NO);
    assert_non_null(strstr(conf->client_ca, "/chain.pem"));
    assert_int_equal(conf->client_ca_line, 6);
    assert_int_equal(conf->listeners[2].kind, CONF_TCP);
    assert_int_equal(conf->listeners[3].kind, CONF_WS);
    assert_int_equal(conf->listeners[4].kind, CONF_TLS_WSS);
    assert_int_equal(ntohs(conf->listeners[4].address.in6.sin6_port), 8443);
    assert_int_equal(conf->listeners[5].kind, CONF_TCP_WS);
    assert_int_equal(conf->listeners[4].proxy_protocol_count, 0);
    assert_int_equal(conf->listeners[5].proxy_protocol_count, 6);
    assert_int_equal(conf->listeners[5].proxy_protocol[0].bits, 8);
    assert_int_equal(conf->listeners[5].proxy_protocol[2].bits, 32);
    assert_int_equal(conf->listeners[5].proxy_protocol[4].bits, 128);
    networks_hold(conf->listeners[5].proxy_protocol);

    assert_int_equal(conf->backend_count, 4);
    assert_int_equal(conf->backends[0].transport, CONF_TRANSPORT_UDP);
    assert_int_equal(conf->backends[1].transport, CONF_TRANSPORT_TCP);
    assert_int_equal(conf->backends[2].transport, CONF_TRANSPORT_AUTO);
    assert_string_equal(conf->backends[0].host, "pbx.example.com");
    assert_int_equal(conf->backends[0].port, 0); /* SRV may say it */
    assert_string_equal(conf->backends[1].host, "fd00::5");
    assert_int_equal(conf->backends[1].port, 5090);
    assert_int_equal(conf->backends[0].priority, 1);
    assert_int_equal(conf->backends[0].weight, 1);
    assert_int_equal(conf->backends[1].priority, 0);
    assert_int_equal(conf->backends[3].transport, CONF_TRANSPORT_AUTO);
    assert_int_equal(conf->backends[3].port, 5061);
    assert_int_equal(conf->backends[3].weight, 65535);
    assert_int_equal(conf->backends[3].line, 9);
    assert_int_equal(conf->core_port, 5070);
    assert_int_equal(conf->core4.sa.sa_family, AF_INET);
    assert_int_equal(ntohs(conf->core4.in.sin_port), 5070);
    assert_string_equal(inet_ntop(AF_INET, &conf->core4.in.sin_addr, address, sizeof(address)),
                        "10.0.0.2");
    assert_int_equal(ntohs(conf->core6.in6.sin6_port), 5070);
    assert_string_equal(inet_ntop(AF_INET6, &conf->core6.in6.sin6_addr, address, sizeof(address)),
                        "fd00::2");

    assert_true(conf->contact_path);
    assert_int_equal(conf->flow_gone_status, 480);
    assert_int_equal(conf->flow_token_key_count, 1);
    for (unsigned i = 0; i < 32; i++)
        assert_int_equal(conf->flow_token_keys[0][i], i);
    assert_string_equal(conf->registrar.realm, "my realm");
    assert_int_equal(conf->registrar.min_expires_s, 1);
    assert_int_equal(conf->registrar.default_expires_s, 2);
    assert_int_equal(conf->registrar.max_expires_s, 3);
    assert_int_equal(conf->registrar.max_bindings, 4);
    assert_int_equal(conf->registrar.nonce_lifetime_s, 5);
    assert_string_equal(conf->websocket.path, "/sip");
    assert_int_equal(conf->websocket.origin_count, 2);
    assert_string_equal(conf->websocket.origins[1], "http://[::1]:81");
    assert_int_equal(conf->websocket.ping_interval_s, 6);
    assert_int_equal(conf->websocket.pong_timeout_s, 7);

    assert_int_equal(conf->headers.from_client_count, 1);
    assert_string_equal(conf->headers.from_clients[0], "X-A;b");
    assert_int_equal(conf->headers.to_client_count, 0);
    assert_string_equal(conf->headers.client_address, "X-Client-Address");
    assert_int_equal(conf->headers.rule_count, 3);
    assert_int_equal(conf->headers.rules[0].direction, CONF_TO_CORE);
    assert_int_equal(conf->headers.rules[0].action, CONF_ADD);
    assert_string_equal(conf->headers.rules[0].value, "a: b");
    assert_int_equal(conf->headers.rules[1].direction, CONF_TO_ACCESS);
    assert_int_equal(conf->headers.rules[1].action, CONF_REMOVE);
    assert_null(conf->headers.rules[1].value);
    assert_int_equal(conf->headers.rules[2].action, CONF_SET);

    assert_int_equal(conf->limits.message_size, 4096);
    assert_int_equal(conf->limits.udp_size, 1200);
    assert_int_equal(conf->limits.max_forwards, 9);
    assert_int_equal(conf->limits.connections, 10);
    assert_int_equal(conf->limits.transactions, 12);
    assert_int_equal(conf->limits.transactions_per_connection, 13);
    assert_int_equal(conf->limits.send_queue, 8192);
    assert_int_equal(conf->limits.handshake_timeout_s, 14);
    assert_int_equal(conf->limits.upgrade_timeout_s, 15);
    assert_int_equal(conf->limits.message_timeout_s, 16);
    assert_int_equal(conf->limits.first_message_timeout_s, 17);
    assert_int_equal(conf->limits.idle_timeout_s, 0);
    assert_int_equal(conf->limits.stop_timeout_ms, 18);
    assert_int_equal(conf->limits.drain_spread_s, 19);
    assert_int_equal(conf->limits.drain_timeout_s, 20);
    assert_int_equal(conf->limits.try_timeout_ms, 900);
    assert_int_equal(conf->probe.interval_s, 0);
    assert_int_equal(conf->probe.timeout_s, 4);
    assert_int_equal(conf->probe.down_after, 5);
    assert_int_equal(conf->probe.up_after, 6);
    assert_int_equal(conf->workers, 128);
    assert_int_equal(conf->log_level, 3);
    assert_true(conf->log_json);
    conf_free(&conf);
}

static void users_have_passwords_or_hashes(void **state)
{
    struct conf *conf =
        load("domain: a.example\nlisten: [tcp: 5060]\n"
             "users:\n"
             "  - {name: alice, password: \"s3 cret:\\\"ö\"}\n"
             "  - {name: +4930, ha1_md5: 0123456789ABCDEF0123456789abcdef}\n"
             "  - name: bob\n"
             "    ha1_md5: 00000000000000000000000000000000\n"
             "    ha1_sha256: ABCDEF0000000000000000000000000000000000000000000000000000000000\n");

    (void)state;
    assert_int_equal(conf->user_count, 3);
    assert_string_equal(conf->users[0].password, "s3 cret:\"ö");
    assert_null(conf->users[0].ha1_md5);
    assert_string_equal(conf->users[1].name, "+4930");
    assert_string_equal(conf->users[1].ha1_md5, "0123456789abcdef0123456789abcdef");
    assert_null(conf->users[1].password);
    assert_memory_equal(conf->users[2].ha1_sha256, "abcdef00", 8);
    conf_free(&conf);
}

static void default_tables_name_what_only_a_trusted_network_says(void **state) /* N5 */
{
    static const char *const stripped[] = {"P-Asserted-Identity",
                                           "P-Charging-Vector",
                                           "P-Charging-Function-Addresses",
                                           "P-Access-Network-Info;network-provided",
                                           "P-Served-User",
                                           "Remote-Party-ID"};
    struct conf *conf = load(SMALL);
    unsigned found = 0;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(stripped); i++)
        for (unsigned j = 0; j < conf->headers.from_client_count; j++)
            found += !strcmp(stripped[i], conf->headers.from_clients[j]);
    assert_int_equal(found, ARRAY_LEN(stripped));
    for (unsigned j = 0; j < conf->headers.to_client_count; j++) {
        assert_string_not_equal(conf->headers.to_clients[j], "P-Asserted-Identity");
        found += !strcmp(conf->headers.to_clients[j], "P-Charging-Vector");
    }
    assert_int_equal(found, ARRAY_LEN(stripped) + 1);
    conf_free(&conf);
}

static void core_may_be_a_port_or_an_address_or_two(void **state)
{
    static const struct {
        const char *core;
        bool four, six;
        uint16_t port;
    } cores[] = {
        {":5070",                     false, false, 5070},
        {"10.0.0.2",                  true,  false, 5060},
        {"10.0.0.2:5070",             true,  false, 5070},
        {"\"[fd00::2]\"",             false, true,  5060},
        {"\"[fd00::2]:5070\"",        false, true,  5070},
        {"10.0.0.2,[fd00::2]:5070",   true,  true,  5070},
        {"10.0.0.2:5070 , [fd00::2]", true,  true,  5070},
    };
    char text[256];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cores); i++) {
        struct conf *conf;
        (void)snprintf(text, sizeof(text), SMALL "core: %s\n", cores[i].core);
        conf = load(text);
        assert_int_equal(conf->core4.sa.sa_family, cores[i].four ? AF_INET : 0);
        assert_int_equal(conf->core6.sa.sa_family, cores[i].six ? AF_INET6 : 0);
        assert_int_equal(conf->core_port, cores[i].port);
        conf_free(&conf);
    }
}

static void the_admin_side_is_an_address_a_mapping_or_no(void **state)
{
    static const struct {
        const char *more;
        bool given;
        int family;
        uint16_t port;
        const char *token;
    } admins[] = {
        {"",                                                         false, AF_INET,  9090, NULL              },
        {"admin: no",                                                true,  0,        0,    NULL              },
        {"admin: 0.0.0.0:8080",                                      true,  AF_INET,  8080, NULL              },
        {"admin: 127.0.0.1:0",                                       true,  AF_INET,  0,    NULL              },
        {"admin: \"[::1]:9091\"",                                    true,  AF_INET6, 9091, NULL              },
        {"admin: {}",                                                true,  AF_INET,  9090, NULL              },
        {"admin: {token: 0123456789abcdef}",                         true,  AF_INET,  9090, "0123456789abcdef"},
        {"admin: {listen: \"[::]:1\", token: \"aZ09-._~+/aZ09==\"}", true,  AF_INET6, 1,
         "aZ09-._~+/aZ09=="                                                                                   },
        {"admin: {listen: no, token: 0123456789abcdef}",             true,  0,        0,    "0123456789abcdef"},
    };
    char text[256];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(admins); i++) {
        struct conf *conf;
        (void)snprintf(text, sizeof(text), SMALL "%s\n", admins[i].more);
        conf = load(text);
        assert_int_equal(conf->admin.given, admins[i].given);
        assert_int_equal(conf->admin.address.sa.sa_family, admins[i].family);
        assert_int_equal(ntohs(conf->admin.address.in.sin_port), admins[i].port);
        if (admins[i].token)
            assert_string_equal(conf->admin.token, admins[i].token);
        else
            assert_null(conf->admin.token);
        conf_free(&conf);
    }
}

/* One mistake (or few) each: the file's own three lines come first, so the first line of `more`
 * is line 4. */
#define BASE "domain: a.example\nlisten: [tcp: 5060]\nbackends: [udp:10.0.0.5]\n"
#define HOST_RIGHT "' is not a host name or an address\n"
#define LISTEN_RIGHT "' is not PORT, ADDRESS:PORT or \"[IPV6]:PORT\", ports from 1 to 65535\n"
#define BACKEND_RIGHT "' is not udp:, tcp: or auto:, then HOST or HOST:PORT, an IPv6 address in [ ]"
#define ADMIN_RIGHT " is not ADDRESS:PORT, an IPv6 address in [ ], port 0 for any free one; or no"
#define HEADER_RIGHT " of a header other than Via, Call-ID"
#define TOKEN_KEY "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

/* clang-format off */
static const struct {
    const char *more, *expected;
} one_mistake[] = {
    /* keys */
    {"limit: {}", "4: limit: 'limit' is wrong: no such key; did you mean 'limits'?"},
    {"log-level: info",
     "4: log-level: 'log-level' is wrong: no such key; did you mean 'log_level'?"},
    {"frobnicate: 1",
     "4: frobnicate: 'frobnicate' is wrong: no such key; one of domain, aliases, "},
    {"message_size: 5000",
     "4: message_size: 'message_size' is wrong: no such key here; 'message_size' belongs under "
     "'limits'"},
    {"limits: {workers: 2}",
     "4: limits.workers: 'workers' is wrong: no such key here; 'workers' belongs at the top"},
    {"log: text\nworkers: 1\nlog: json", "6: log: 'log' is wrong: each key once; it is on line 4"},
    {"limits: {idle_timeout: 1,\n  idle_timeout: 2}",
     "5: limits.idle_timeout: 'idle_timeout' is wrong: each key once; it is on line 4"},
    {"<<: {log: text}", "4: <<: '<<' is wrong: no merge keys here"},
    {"? [a, b]\n: 1", "4: [...]: '[...]' is not the name of a key"},
    {"~: 1", "4: ~: '~' is not the name of a key"},

    /* types */
    {"workers: [1]", "4: workers: '[...]' is not a whole number from 0 to 128 (threads)"},
    {"limits: 5", "4: limits: '5' is not a mapping, {KEY: VALUE, ...}, of message_size, "},
    {"limits:", "4: limits: '' is not a mapping"},
    {"aliases: a.example", "4: aliases: 'a.example' is not a list: [..., ...]"},
    {"core: {a: b}", "4: core: '{...}' is not ADDRESS:PORT, ADDRESS or :PORT"},
    {"workers: !!int 5", "4: workers: '5' is wrong: write the value without a tag (!...)"},
    {"headers: {rules: [remove]}",
     "4: headers.rules[0]: 'remove' is not a mapping, {KEY: VALUE, ...}, of direction, action"},
    {"core: \"10.0.0.1\\0\"", "4: core: '10.0.0.1?' is not ADDRESS:PORT"},

    /* the admin side */
    {"admin: 9090", "4: admin: '9090'" ADMIN_RIGHT},
    {"admin:", "4: admin: ''" ADMIN_RIGHT},
    {"admin: localhost:9090", "4: admin: 'localhost:9090'" ADMIN_RIGHT},
    {"admin: 127.0.0.1", "4: admin: '127.0.0.1'" ADMIN_RIGHT},
    {"admin: 127.0.0.1:65536", "4: admin: '127.0.0.1:65536'" ADMIN_RIGHT},
    {"admin: \"::1:9090\"", "4: admin: '::1:9090'" ADMIN_RIGHT},
    {"admin: 127.0.0.1:1:2", "4: admin: '127.0.0.1:1:2'" ADMIN_RIGHT},
    {"admin: off", "4: admin: 'off'" ADMIN_RIGHT},
    {"admin: {listen: 80}", "4: admin.listen: '80'" ADMIN_RIGHT},
    {"admin: {port: 80}", "4: admin.port: 'port' is wrong: no such key; one of listen, token"},
    {"admin: [127.0.0.1:80]", "4: admin: '[...]' is not a mapping, {KEY: VALUE, ...}, of listen"},
    {"admin: {token: 0123456789abcde}", "4: admin.token: '(secret)' is not 16 to 1024 letters"},
    {"admin: {token: \"0123456789 abcdef\"}", "4: admin.token: '(secret)' is not 16 to 1024"},
    {"token: 0123456789abcdef",
     "4: token: 'token' is wrong: no such key here; 'token' belongs under 'admin'"},

    /* numbers */
    {"workers: 129", "4: workers: '129' is not a whole number from 0 to 128 (threads)"},
    {"workers: -1", "4: workers: '-1' is not "},
    {"workers: 01", "4: workers: '01' is not "},
    {"workers: 0x1", "4: workers: '0x1' is not "},
    {"workers: 1.0", "4: workers: '1.0' is not "},
    {"workers: two", "4: workers: 'two' is not "},
    {"workers:", "4: workers: '' is not "},
    {"workers: ~", "4: workers: '~' is not "},
    {"workers: 18446744073709551617", "4: workers: '18446744073709551617' is not "},
    {"limits: {idle_timeout: 0777}",
     "4: limits.idle_timeout: '0777' is not a whole number from 0 to 31536000 (seconds), "
     "without leading zeros"},
    {"limits:\n  idle_timeout: 10s", "5: limits.idle_timeout: '10s' is not "},
    {"limits: {try_timeout_ms: 99}", "4: limits.try_timeout_ms: '99' is not a whole number from 100 to 32000"},
    {"probe: {down_after: 0}", "4: probe.down_after: '0' is not a whole number from 1 to 100"},
    {"probe: {timeout: 33}", "4: probe.timeout: '33' is not a whole number from 1 to 32"},
    {"limits: {udp_size: 199}", "4: limits.udp_size: '199' is not a whole number from 200 to 65535"},
    {"limits: {max_forwards: 0}", "4: limits.max_forwards: '0' is not a whole number from 1 to"},
    {"limits: {max_forwards: 256}", "4: limits.max_forwards: '256' is not "},
    {"flow_gone_status: 399", "4: flow_gone_status: '399' is not "},
    {"flow_gone_status: 700", "4: flow_gone_status: '700' is not "},

    /* choices */
    {"contact: maybe", "4: contact: 'maybe' is not one of mask, path\n"},
    {"profile: elastix",
     "4: profile: 'elastix' is not one of generic, asterisk, freeswitch, kamailio, 3cx, cucm\n"},
    {"profile: Asterisk", "4: profile: 'Asterisk' is not one of generic, asterisk, freeswitch"},
    {"profile:", "4: profile: '' is not one of generic, asterisk, freeswitch"},
    {"contact: Mask", "4: contact: 'Mask' is not one of mask, path\n"},
    {"contact: true", "4: contact: 'true' is not one of mask, path\n"},
    {"contact: 0", "4: contact: '0' is not one of mask, path\n"},
    {"log: xml", "4: log: 'xml' is not one of text, json\n"},
    {"log_level: trace", "4: log_level: 'trace' is not one of error, warning, info, debug\n"},

    /* names and addresses */
    {"aliases: [a_b.example]", "4: aliases[0]: 'a_b.example" HOST_RIGHT},
    {"aliases: [10.0.0.256]", "4: aliases[0]: '10.0.0.256" HOST_RIGHT},
    {"aliases: [-a.example]", "4: aliases[0]: '-a.example" HOST_RIGHT},
    {"aliases: [a..example]", "4: aliases[0]: 'a..example" HOST_RIGHT},
    {"aliases: [a.example.]", "4: aliases[0]: 'a.example." HOST_RIGHT},
    {"aliases: [\"a:5060\"]", "4: aliases[0]: 'a:5060" HOST_RIGHT},
    {"aliases: [\"[::1]:5060\"]", "4: aliases[0]: '[::1]:5060" HOST_RIGHT},
    {"aliases: [\"[::g]\"]", "4: aliases[0]: '[::g]" HOST_RIGHT},
    {"aliases: [\"\"]", "4: aliases[0]: '" HOST_RIGHT},
    {"aliases: [b.example,\n c.example,\n B.example]",
     "6: aliases[2]: 'B.example' is wrong: each one once; it is entry [0] too"},
    {"core: pbx.example.com", "4: core: 'pbx.example.com' is not ADDRESS:PORT"},
    {"core: 10.0.0.1:0", "4: core: '10.0.0.1:0' is not "},
    {"core: 10.0.0.1:65536", "4: core: '10.0.0.1:65536' is not "},
    {"core: 10.0.0.1,10.0.0.2", "4: core: '10.0.0.1,10.0.0.2' is not "},
    {"core: 10.0.0.1,", "4: core: '10.0.0.1,' is not "},
    {"core: 10.0.0.1:1,[::1]:2", "4: core: '10.0.0.1:1,[::1]:2' is not "},
    {"core: 0.0.0.0", "4: core: '0.0.0.0' is not "},
    {"core: \"[::]:5060\"", "4: core: '[::]:5060' is not "},
    {"core: ::1", "4: core: '::1' is not "},
    {"core: 10.0.0.5:5060",
     "3: backends[0]: 'udp:10.0.0.5' is wrong: sipward's own port"},

    /* keys of tokens: never shown */
    {"flow_token_keys: [abcd]",
     "4: flow_token_keys[0]: '(secret)' is not 64 hexadecimal digits"},
    {"flow_token_keys: [" TOKEN_KEY ", " TOKEN_KEY "]",
     "4: flow_token_keys[1]: '(secret)' is wrong: each one once"},
    {"flow_token_keys: [1, 2, 3, 4, 5, 6, 7, 8, 9]",
     "4: flow_token_keys: '[...]' is not a list of 0 to 8 entries"},

    /* registrar, WebSocket */
    {"registrar: {min_expires: 3601, default_expires: 3600}",
     "4: registrar.default_expires: '3600' is wrong: it is below min_expires, which is 3601\n"},
    {"registrar: {max_expires: 3599}",
     "4: registrar.max_expires: '3599' is wrong: it is below default_expires, which is 3600 unless "},
    {"registrar: {min_expires: 3601}",
     "4: registrar.min_expires: '3601' is wrong: it is above default_expires, which is 3600 unless "},
    {"registrar: {realm: 'a\"b'}", "4: registrar.realm: 'a\"b' is not "},
    {"limits:\n  send_queue: 5000\n  message_size: 5001",
     "5: limits.send_queue: '5000' is wrong: it is below message_size, which is 5001"},
    {"websocket: {path: sip}", "4: websocket.path: 'sip' is not a path of a URL"},
    {"websocket: {path: /a b}", "4: websocket.path: '/a b' is not "},
    {"websocket: {path: /a?b}", "4: websocket.path: '/a?b' is not "},
    {"websocket: {origins: [a.example]}",
     "4: websocket.origins[0]: 'a.example' is not https://"},
    {"websocket: {origins: [\"https://a.example/\"]}", "4: websocket.origins[0]: 'https://a.exa"},
    {"websocket: {origins: [\"https://A.example\"]}", "4: websocket.origins[0]: 'https://A.exa"},
    {"websocket: {origins: [\"https://a.example:443\"]}", "4: websocket.origins[0]: 'https://a.e"},
    {"websocket: {origins: [\"http://a.example:80\"]}", "4: websocket.origins[0]: 'http://a.e"},
    {"websocket: {origins: [\"*\"]}", "4: websocket.origins[0]: '*' is not "},

    /* headers: N6 */
    {"headers: {from_clients: [Via]}", "4: headers.from_clients[0]: 'Via' is not NAME or "},
    {"headers: {to_clients: [\"To;tag\"]}",
     "4: headers.to_clients[0]: 'To;tag' is not NAME or "},
    {"headers: {to_clients: [\"A;\"]}", "4: headers.to_clients[0]: 'A;' is not NAME or "},
    {"headers: {client_address: CSEQ}", "4: headers.client_address: 'CSEQ' is not the name"},
    {"headers: {client_address: \"A B\"}", "4: headers.client_address: 'A B' is not the name"},
    {"headers:\n  rules:\n    - {direction: up, action: move, name: \"a:\"}",
     "6: headers.rules[0].direction: 'up' is not one of to_core, to_clients\n"
     "6: headers.rules[0].action: 'move' is not one of remove, set, add\n"
     "6: headers.rules[0].name: 'a:' is not the name" HEADER_RIGHT},
    {"headers: {rules: [{}]}",
     "4: headers.rules[0].direction: is missing: \n4: headers.rules[0].action: is missing: \n"
     "4: headers.rules[0].name: is missing: the name" HEADER_RIGHT},
    {"headers:\n  rules:\n    - direction: to_core\n      action: set\n      name: X",
     "6: headers.rules[0].value: is missing: the value that the action set puts in"},
    {"headers: {rules: [{direction: to_core, action: remove, name: X,\n  value: y}]}",
     "5: headers.rules[0].value: 'y' is wrong: no value where the action is remove"},
    {"headers: {rules: [{direction: to_core, action: add, name: X, value: \"a\\r\\nVia: b\"}]}",
     "4: headers.rules[0].value: 'a??Via: b' is not one line without control characters"},
    {"headers: {rules: [{direction: to_core, action: add, name: X, value: \"\"}]}",
     "4: headers.rules[0].value: '' is not "},

    /* certificates */
    {"certificate: {chain: chain.pem}", "4: certificate.key: is missing: the name of a PEM file"},
    {"certificate:\n  key: gone.pem\n  chain: chain.pem",
     "5: certificate.key: 'gone.pem' is not a file that can be read (No such file or directory): /"},
    {"certificates:\n  - {chain: chain.pem, key: key.pem}\n  - chain: .\n    key: key.pem",
     "6: certificates[1].chain: '.' is not a file that can be read (Is a directory)"},

    /* users */
    {"users: [{name: a, password: b}]", "4: users: '[...]' is wrong: there are `backends` as well"},

    /* the file */
    {"---\nlog: text", "4: (file): '---' is wrong: only one document in a file"},
    {"a: [b", "5: this is not YAML: "},
    {"\tlog: text", "4: this is not YAML: "},
    {"log: *nothing", "4: this is not YAML: "},
    {"log: \"\xff\"", "4: this is not YAML: "},
};
/* clang-format on */

static void every_mistake_is_told_with_line_key_value_and_what_is_right(void **state) /* N6 */
{
    char text[1024];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(one_mistake); i++) {
        (void)snprintf(text, sizeof(text), BASE "%s\n", one_mistake[i].more);
        check_errors(text, strlen(text), one_mistake[i].expected);
    }
}

static void a_deep_file_is_refused_at_once(void **state) /* V7: nothing hangs */
{
    enum { DEEP = 200000 };
    char *text = malloc(DEEP);

    (void)state;
    assert_non_null(text);
    memset(text, '[', DEEP);
    text[20] = '\n';
    check_errors(text, DEEP, "2: (file): more than 32 lists and mappings in one another are wrong");
    free(text);
}

/* Whole files. */
/* clang-format off */
static const struct {
    const char *text, *expected;
} whole_files[] = {
    {"", "1: domain: is missing: a host name or an address\n"
         "1: listen: is missing: where clients connect: PORT, ADDRESS:PORT\n"
         "1: backends: is missing: a list such as [udp:10.0.0.5:5060]; or `users`"},
    {"# nothing\n", "1: domain: is missing: \n1: listen: is missing: \n1: backends: is missing: "},
    {"---\n", "2: (file): '' is not a mapping, {KEY: VALUE, ...}, of domain, "},
    {"- a\n", "1: (file): '[...]' is not a mapping, {KEY: VALUE, ...}, of domain, "},
    {"{}\n---\n{}\n",
     "1: domain: is missing: \n1: listen: is missing: \n1: backends: is missing: \n"
     "2: (file): '---' is wrong: only one document"},
    {"\n\ndomain: a b\nlisten: []\nusers: []\n",
     "3: domain: 'a b' is not \n3: backends: is missing: \n4: listen: '[...]' is not a list "
     "of 1 to 64 entries"},
    {"domain: a.example\nlisten: [tcp: 5060]\nbackends: udp:10.0.0.5\n",
     "3: backends: 'udp:10.0.0.5' is not a list"},
    {"domain: a.example\nbackends: [udp:10.0.0.5]\nlisten:\n  - wss: 443\n",
     "1: certificate: is missing: {chain: FILE, key: FILE}, as tls and wss listeners need one"},
    {"domain: a.example\nbackends: [udp:10.0.0.5]\nlisten:\n  - tls+wss: 443\n",
     "1: certificate: is missing: {chain: FILE, key: FILE}, as tls and wss listeners need one"},
    {"domain: a.example\nbackends: [udp:10.0.0.5]\ncertificates: []\nlisten: [tls: 443]\n",
     "1: certificate: is missing: "},
    {"domain: a.example\n"
     "backends: [udp:10.0.0.5]\n"
     "listen:\n"
     "  - tcp: 0\n"
     "  - tcp: 65536\n"
     "  - tcp: 05060\n"
     "  - tcp: a.example:5060\n"
     "  - tcp: 127.0.0.1\n"
     "  - tcp: ::1:5060\n"
     "  - tcp: \"[127.0.0.1]:5060\"\n"
     "  - tcp: \"[::1]5060\"\n"
     "  - tcp: \"[::1:5060\"\n"
     "  - tcp: \":5060\"\n"
     "  - tcp:\n"
     "  - udp: 5060\n"
     "  - 5061\n"
     "  - {}\n"
     "  - {tcp: 1, ws: 2}\n"
     "  - ws: 127.0.0.1:5060\n"
     "  - tcp: 127.0.0.1:5060\n"
     "  - ws: 5060\n"
     "  - tcp: \"[::]:5060\"\n",
     "4: listen[0].tcp: '0" LISTEN_RIGHT "5: listen[1].tcp: '65536" LISTEN_RIGHT
     "6: listen[2].tcp: '05060" LISTEN_RIGHT "7: listen[3].tcp: 'a.example:5060" LISTEN_RIGHT
     "8: listen[4].tcp: '127.0.0.1" LISTEN_RIGHT "9: listen[5].tcp: '::1:5060" LISTEN_RIGHT
     "10: listen[6].tcp: '[127.0.0.1]:5060" LISTEN_RIGHT
     "11: listen[7].tcp: '[::1]5060" LISTEN_RIGHT "12: listen[8].tcp: '[::1:5060" LISTEN_RIGHT
     "13: listen[9].tcp: ':5060" LISTEN_RIGHT "14: listen[10].tcp: '" LISTEN_RIGHT
     "15: listen[11].udp: 'udp' is wrong: no such key; one of tls, wss, tcp, ws, tls+wss, tcp+ws, "
     "client_certificate\n"
     "16: listen[12]: '5061' is not a mapping, {KEY: VALUE, ...}, of tls, wss, tcp, ws, tls+wss, tcp+ws, "
     "client_certificate\n"
     "17: listen[13]: '{...}' is not one of tls, wss, tcp, ws, tls+wss, tcp+ws; \n"
     "18: listen[14]: '{...}' is not one of tls, wss, tcp, ws, tls+wss, tcp+ws; \n"
     "20: listen[16].tcp: '127.0.0.1:5060' is wrong: listen[15] has that port already\n"
     "22: listen[18].tcp: '[::]:5060' is wrong: listen[17] has that port already"},
    {"domain: a.example\nbackends: [udp:10.0.0.5]\n"
     "listen:\n"
     "  - tcp: 1\n"
     "    proxy_protocol: [10.0.0.1/8, 10.0.0.0/33, 10.0.0.0/, \"2001:db8::1/64\", a.example, /8,\n"
     "      10.0.0.0/08, 10.0.0.1, 10.0.0.1/32]\n"
     "  - {tcp: 2, proxy_protocol: 10.0.0.0/8}\n"
     "  - {proxy_protocol: []}\n",
     "5: listen[0].proxy_protocol[0]: '10.0.0.1/8' is not ADDRESS/BITS, with no bit\n"
     "5: listen[0].proxy_protocol[1]: '10.0.0.0/33' is not ADDRESS/BITS\n"
     "5: listen[0].proxy_protocol[2]: '10.0.0.0/' is not ADDRESS/BITS\n"
     "5: listen[0].proxy_protocol[3]: '2001:db8::1/64' is not ADDRESS/BITS\n"
     "5: listen[0].proxy_protocol[4]: 'a.example' is not ADDRESS/BITS\n"
     "5: listen[0].proxy_protocol[5]: '/8' is not ADDRESS/BITS\n"
     "6: listen[0].proxy_protocol[6]: '10.0.0.0/08' is not ADDRESS/BITS\n"
     "6: listen[0].proxy_protocol[8]: '10.0.0.1/32' is wrong: each one once; it is entry [7] too\n"
     "7: listen[1].proxy_protocol: '10.0.0.0/8' is not a list: [..., ...]\n"
     "8: listen[2]: '{...}' is not one of tls, wss, tcp, ws, tls+wss, tcp+ws\n"},
    {SMALL "client_ca: chain.pem\n",
     "8: client_ca: 'chain.pem' is wrong: no listener has "},
    {"domain: a.example\n" CERTIFICATE "backends: [udp:10.0.0.5]\n"
     "listen:\n"
     "  - {tls: 1, client_certificate: asked}\n"
     "  - {tls: 2, client_certificate: yes}\n"
     "  - {client_certificate: required}\n"
     "  - {tls: 3, client_certificate: no}\n"
     "  - {tls: 4, client_certificates: no}\n",
     "5: listen[0].client_certificate: 'asked' is wrong: `client_ca: FILE` at the top\n"
     "6: listen[1].client_certificate: 'yes' is not one of no, asked, required\n"
     "7: listen[2]: '{...}' is not one of tls, wss, tcp, ws, tls+wss, tcp+ws; \n"
     "7: listen[2].client_certificate: 'required' is wrong: only tls, wss and\n"
     "9: listen[4].client_certificates: 'client_certificates' is wrong: no such key; did you mean"},
    {"domain: a.example\n" CERTIFICATE "backends: [udp:10.0.0.5]\n"
     "client_ca: none.pem\n"
     "listen:\n"
     "  - {ws: 1, client_certificate: asked}\n"
     "  - {tcp: 2, client_certificate: required}\n",
     "4: client_ca: 'none.pem' is not a file that can be read (No such file or directory)\n"
     "6: listen[0].client_certificate: 'asked' is wrong: only tls, wss and tls+wss\n"
     "7: listen[1].client_certificate: 'required' is wrong: only tls, wss and\n"},
    {"domain: a.example\n"
     "listen: [tcp: 5061]\n"
     "core: :5070\n"
     "backends:\n"
     "  - udp:pbx.example.com\n"
     "  - udp:PBX.example.com\n"
     "  - udp:[fd00::5]\n"
     "  - udp:[fd00:0::5]:5060\n"
     "  - tls:10.0.0.5\n"
     "  - 10.0.0.5\n"
     "  - udp:fd00::6:5060\n"
     "  - udp:0.0.0.0\n"
     "  - \"udp:10.0.0.5:\"\n"
     "  - \"udp:\"\n"
     "  - [udp: 10.0.0.5]\n"
     "  - udp:127.0.0.1:5070\n"
     "  - udp:[::1]:5070\n"
     "  - udp:localhost:5070\n"
     "  - auto:PBX.example.com\n"
     "  - {udp: a.example, tcp: b.example}\n"
     "  - {priority: 2, weight: 70000}\n"
     "  - auto: udp:c.example\n"
     "    wieght: 1\n"
     "  - {tcp: pbx.example.com:5060}\n"
     "  - {tcp: PBX.EXAMPLE.com}\n"
     "  - {udp: 127.0.0.1:5070, priority: -1}\n",
     "6: backends[1]: 'udp:PBX.example.com' is wrong: each one once; it is entry [0] too\n"
     "8: backends[3]: 'udp:[fd00:0::5]:5060' is wrong: each one once; it is entry [2] too\n"
     "9: backends[4]: 'tls:10.0.0.5" BACKEND_RIGHT "\n"
     "10: backends[5]: '10.0.0.5" BACKEND_RIGHT "\n11: backends[6]: 'udp:fd00::6:5060" BACKEND_RIGHT
     "\n12: backends[7]: 'udp:0.0.0.0" BACKEND_RIGHT
     "\n13: backends[8]: 'udp:10.0.0.5:" BACKEND_RIGHT "\n14: backends[9]: 'udp:" BACKEND_RIGHT
     "\n15: backends[10]: '[...]" BACKEND_RIGHT
     "\n16: backends[11]: 'udp:127.0.0.1:5070' is wrong: sipward's own port\n"
     "17: backends[12]: 'udp:[::1]:5070' is wrong: sipward's own port\n"
     "18: backends[13]: 'udp:localhost:5070' is wrong: sipward's own port\n"
     "19: backends[14]: 'auto:PBX.example.com' is wrong: each one once; it is entry [0] too\n"
     "20: backends[15]: '{...}' is not one of udp, tcp, auto; an entry for each backend\n"
     "21: backends[16].weight: '70000' is not a whole number from 0 to 65535 (shares)\n"
     "21: backends[16]: '{...}' is not one of udp, tcp, auto; an entry for each backend\n"
     "22: backends[17].auto: 'udp:c.example' is not HOST or HOST:PORT, an IPv6 address in [ ]\n"
     "23: backends[17].wieght: 'wieght' is wrong: no such key; did you mean 'weight'?\n"
     "25: backends[19]: '{...}' is wrong: each one once; it is entry [0] too\n"
     "26: backends[20].priority: '-1' is not a whole number from 0 to 65535 (rank)\n"
     "26: backends[20]: '{...}' is wrong: each one once; it is entry [11] too\n"
     "26: backends[20]: '{...}' is wrong: sipward's own port\n"},
    {"domain: a.example\n"
     "listen: [tcp: 5061]\n"
     "users:\n"
     "  - {name: alice, password: x}\n"
     "  - {name: bob}\n"
     "  - {password: x}\n"
     "  - {name: a@b, password: \"\"}\n"
     "  - {name: alice, password: y}\n"
     "  - {name: carol, password: x, ha1_md5: secret}\n"
     "  - {name: dave, ha1_sha256: 0123456789abcdef0123456789abcdef}\n"
     "  - alice\n"
     "  - {name: alice, password: \"s\\x07\"}\n",
     "5: users[1].password: is missing: a password, or ha1_md5, ha1_sha256 or both\n"
     "6: users[2].name: is missing: the user part of a SIP URI\n"
     "7: users[3].name: 'a@b' is not the user part of a SIP URI\n"
     "7: users[3].password: '(secret)' is not a password\n"
     "8: users[4].name: 'alice' is wrong: each user once; users[0] has this name\n"
     "9: users[5].ha1_md5: '(secret)' is not 32 hexadecimal digits\n"
     "9: users[5]: '{...}' is wrong: password or ha1_md5 and ha1_sha256, not both\n"
     "10: users[6].ha1_sha256: '(secret)' is not 64 hexadecimal digits\n"
     "11: users[7]: 'alice' is not a mapping\n"
     "12: users[8].password: '(secret)' is not a password without control characters\n"
     "12: users[8].name: 'alice' is wrong: each user once; users[0] has this name"},
};
/* clang-format on */

static void many_mistakes_are_told_at_once_in_the_order_of_lines(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(whole_files); i++)
        check_errors(whole_files[i].text, strlen(whole_files[i].text), whole_files[i].expected);
}

/* Every header that N6 names, long and compact, in any case, under every key that takes a name. */
static void rules_can_not_touch_what_sipward_needs(void **state) /* N6 refused */
{
    static const char *const names[] = {"Via",
                                        "Call-ID",
                                        "CSeq",
                                        "From",
                                        "To",
                                        "v",
                                        "i",
                                        "f",
                                        "t",
                                        "l",
                                        "VIA",
                                        "Max-Forwards",
                                        "Content-Length",
                                        "Route",
                                        "F",
                                        "route",
                                        "Record-Route"};
    char text[512], expected[512];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        (void)snprintf(text, sizeof(text),
                       BASE "headers:\n  rules:\n    - direction: to_core\n      action: remove\n"
                            "      name: %s\n  from_clients: [%s]\n  client_address: %s\n",
                       names[i], names[i], names[i]);
        (void)snprintf(expected, sizeof(expected),
                       "8: headers.rules[0].name: '%s' is not \n"
                       "9: headers.from_clients[0]: '%s' is not \n"
                       "10: headers.client_address: '%s' is not \n",
                       names[i], names[i], names[i]);
        check_errors(text, strlen(text), expected);
    }
}

static void long_and_strange_values_are_shown_short_and_printable(void **state)
{
    char text[4096], name[300], expected[192];

    (void)state;
    memset(name, 'a', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    (void)snprintf(text, sizeof(text), BASE "aliases: [%s]\n%s: 1\nlog: \"\\e[31m\"\n", name, name);
    (void)snprintf(expected, sizeof(expected), "4: aliases[0]: '%.76s..." HOST_RIGHT, name);
    check_errors(text, strlen(text),
                 "4: aliases[0]: 'aaaa\n5: aaaa\n6: log: '?[31m' is not one of text, json");
    (void)snprintf(text, sizeof(text), BASE "aliases: [%s]\n", name);
    check_errors(text, strlen(text), expected);
}

static void anchors_work_and_cycles_end(void **state)
{
    static const char cycle[] = BASE "headers: &h {rules: [*h]}\n";
    struct conf *conf = load("domain: &d a.example\n"
                             "aliases: &list [b.example]\n"
                             "listen: [tls: 5061]\n"
                             "certificate: &c {chain: chain.pem, key: key.pem}\n"
                             "certificates: [*c]\n"
                             "registrar: {realm: *d}\n"
                             "users: [{name: &u alice, password: *u}]\n");

    (void)state;
    assert_int_equal(conf->certificate_count, 2);
    assert_string_equal(conf->registrar.realm, "a.example");
    assert_string_equal(conf->users[0].password, "alice");
    conf_free(&conf);
    check_errors(cycle, strlen(cycle),
                 "4: headers.rules[0].rules: 'rules' is wrong: no such key here\n"
                 "4: headers.rules[0].direction: is missing: \n"
                 "4: headers.rules[0].action: is missing: \n"
                 "4: headers.rules[0].name: is missing: ");
}

static void as_many_as_allowed_load_and_one_more_does_not(void **state)
{
    char text[8192], expected[128];
    size_t used;

    (void)state;
    for (int extra = 0; extra < 2; extra++) {
        used = (size_t)snprintf(text, sizeof(text), "domain: a.example\nlisten:\n");
        for (int i = 0; i < CONF_LISTENERS_MAX + extra; i++)
            used += (size_t)snprintf(text + used, sizeof(text) - used, "  - tcp: %d\n", 5000 + i);
        used += (size_t)snprintf(text + used, sizeof(text) - used, "backends:\n");
        for (int i = 0; i < CONF_BACKENDS_MAX + extra; i++)
            used +=
                (size_t)snprintf(text + used, sizeof(text) - used, "  - udp:10.0.0.%d\n", i + 1);
        if (!extra) {
            struct conf *conf = load(text);
            assert_int_equal(conf->listener_count, CONF_LISTENERS_MAX);
            assert_int_equal(conf->backend_count, CONF_BACKENDS_MAX);
            conf_free(&conf);
            continue;
        }
        (void)snprintf(expected, sizeof(expected),
                       "3: listen: '[...]' is not a list of 1 to 64 entries\n"
                       "%d: backends: '[...]' is not a list of 0 to 32 entries",
                       CONF_LISTENERS_MAX + 5);
        check_errors(text, used, expected);
    }
}

static void many_users_load_quickly(void **state)
{
    enum { USERS = 20000 };
    size_t size = (size_t)USERS * 64, used;
    char *text = malloc(size);
    struct conf *conf;

    (void)state;
    assert_non_null(text);
    used = (size_t)snprintf(text, size, "domain: a.example\nlisten: [tcp: 5060]\nusers:\n");
    for (int i = 0; i < USERS; i++)
        used += (size_t)snprintf(text + used, size - used, "  - {name: u%d, password: p}\n", i);
    conf = load(text);
    assert_int_equal(conf->user_count, USERS);
    assert_string_equal(conf->users[USERS - 1].name, "u19999");
    conf_free(&conf);
    free(text);
}

static void a_file_that_can_not_be_read_is_told(void **state)
{
    static const struct {
        const char *path;
        int err;
        const char *says;
    } paths[] = {
        {"/nonexistent/sipward.yaml", -ENOENT, "/nonexistent/sipward.yaml: can't be read: No such"},
        {"/tmp",                      -EISDIR, "/tmp: can't be read: Is a directory"              },
        {"/dev/zero",                 -EFBIG,  "/dev/zero: can't be read: File too large"         },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        struct conf *conf = NULL;
        char *errors;
        size_t size;
        FILE *stream = open_memstream(&errors, &size);

        assert_non_null(stream);
        assert_int_equal(conf_load(paths[i].path, stream, &conf), paths[i].err);
        (void)fclose(stream);
        assert_memory_equal(errors, paths[i].says, strlen(paths[i].says));
        assert_null(conf);
        free(errors);
    }
}

static char *printed(const struct conf *conf)
{
    size_t size;
    char *text;
    FILE *stream = open_memstream(&text, &size);

    assert_non_null(stream);
    if (conf)
        conf_print(conf, stream);
    else
        conf_print_keys(stream);
    (void)fclose(stream);
    return text;
}

static void what_is_printed_loads_again_and_prints_the_same(void **state)
{
    static const char more[] =
        SMALL "aliases: ['[::1]', b.example]\ncore: :5070\n"
              "websocket: {origins: ['https://a.example']}\nadmin: no\n"
              "headers:\n  rules: [{direction: to_core, action: set, name: X, value: 'a \"\\ b'},\n"
              "    {direction: to_clients, action: remove, name: Y}]\n";
    struct conf *conf = load(more);
    char *first = printed(conf), *second;

    (void)state;
    conf_free(&conf);
    conf = load(first);
    second = printed(conf);
    assert_string_equal(first, second);
    assert_non_null(strstr(first, "\ncore: \":5070\"\n"));
    assert_non_null(strstr(first, "\n  idle_timeout: 7200\n"));
    assert_non_null(strstr(first, "\nlog_level: info\n"));
    assert_non_null(
        strstr(first, "- {direction: to_core, action: set, name: \"X\", value: \"a \\\"\\\\ b\"}"));
    conf_free(&conf);
    free(first);
    free(second);
}

/* What each comes to, and how that is printed. */
static void a_profile_sets_what_its_pbx_needs(void **state) /* R6, R7, B2 */
{
    static const struct {
        const char *profile;
        bool path;
        int flow_gone_status;
        unsigned probe_interval_s;
        const char *marks[2]; /* lines of what is printed */
    } profiles[] = {
        {"generic",    false, 430, 10, {NULL}                                              },
        {"asterisk",
         false,               502,
         0,                            {"\nflow_gone_status: 502 # by the profile: cause 27",
          "\n  interval: 0 # by the profile: each is logged"}                   },
        {"freeswitch", false, 430, 10, {NULL}                                              },
        {"kamailio",   true,  430, 10, {"\ncontact: path # by the profile: its registrar"} },
        {"3cx",        false, 480, 10, {"\nflow_gone_status: 480 # by the profile: 430 is"}},
        {"cucm",       false, 430, 10, {NULL}                                              },
    };
    char text[512], *print;
    struct conf *conf, *again;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(profiles); i++) {
        unsigned marks = 0;

        (void)snprintf(text, sizeof(text), SMALL "profile: %s\n", profiles[i].profile);
        conf = load(text);
        print = printed(conf);
        assert_int_equal(conf->profile, i); /* in the order of enum conf_profile */
        for (const char *at = print; (at = strstr(at, "by the profile")) != NULL; at++)
            marks++;
        for (size_t j = 0; j < 2 && profiles[i].marks[j]; j++, marks--)
            assert_non_null(strstr(print, profiles[i].marks[j]));
        assert_int_equal(marks, 0);

        again = load(print); /* what it says is a configuration that says the same */
        for (const struct conf *one = conf; one; one = one == conf ? again : NULL) {
            assert_int_equal(one->contact_path, profiles[i].path);
            assert_int_equal(one->flow_gone_status, profiles[i].flow_gone_status);
            assert_int_equal(one->probe.interval_s, profiles[i].probe_interval_s);
        }
        conf_free(&again);
        conf_free(&conf);
        free(print);
    }
}

/* Wherever it stands, and where it says what the profile says, too. */
static void a_key_of_the_file_wins_over_the_profile(void **state) /* R6, R7, B2 */
{
    struct conf *conf =
        load("flow_gone_status: 410\nprobe: {interval: 7}\n" SMALL "profile: asterisk\n");
    char *print = printed(conf);

    (void)state;
    assert_int_equal(conf->flow_gone_status, 410);
    assert_int_equal(conf->probe.interval_s, 7);
    assert_null(strstr(print, "by the profile"));
    conf_free(&conf);
    free(print);

    conf = load(SMALL "profile: kamailio\ncontact: path\nflow_gone_status: 480\n");
    print = printed(conf);
    assert_true(conf->contact_path);
    assert_int_equal(conf->flow_gone_status, 480);
    assert_null(strstr(print, "by the profile"));
    conf_free(&conf);
    free(print);
}

/* ---- Environment variables ------------------------------------------------------------- */

static const char *const variables[] = {
    "SIPWARD_DOMAIN",          "SIPWARD_BACKENDS",
    "SIPWARD_PROFILE",         "SIPWARD_CERTIFICATE_CHAIN",
    "SIPWARD_CERTIFICATE_KEY", "SIPWARD_LOG",
    "SIPWARD_LOG_LEVEL",       "SIPWARD_CORE",
    "SIPWARD_BACKEND",         "SIPWARD_ADMIN",
    "SIPWARD_ADMIN_TOKEN",
};

static void environment_set(const char *const pairs[][2])
{
    for (; pairs[0][0]; pairs++)
        assert_int_equal(setenv(pairs[0][0], pairs[0][1], 1), 0);
}

static int environment_clear(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(variables); i++)
        assert_int_equal(unsetenv(variables[i]), 0);
    return 0;
}

static const char *const environment[][2] = {
    {"SIPWARD_DOMAIN",            "edge.example"                           },
    {"SIPWARD_BACKENDS",          "udp:10.0.0.7, auto:pbx.example.com:5080"},
    {"SIPWARD_PROFILE",           "kamailio"                               },
    {"SIPWARD_CORE",              ":5070"                                  },
    {"SIPWARD_CERTIFICATE_CHAIN", "chain.pem"                              },
    {"SIPWARD_CERTIFICATE_KEY",   "key.pem"                                },
    {"SIPWARD_LOG",               "json"                                   },
    {"SIPWARD_LOG_LEVEL",         "debug"                                  },
    {"SIPWARD_ADMIN_TOKEN",       "sesam-sesam-sesam"                      },
    {NULL,                        NULL                                     },
};

/* In the place of what the file says, or where it says nothing; also where that would be wrong. */
static void the_environment_wins_over_the_file(void **state)
{
    static const char *const files[] = {
        "listen: [tls: 5061]\n",
        SMALL "profile: asterisk\nlog: text\nlog_level: error\ncore: :5090\n"
              "admin: 127.0.0.1:7070\n",
        "domain: \"\"\nlog: xml\nbackends: none\ncertificate: {chain: no-such-file}\n"
        "listen: [tls: 5061]\nadmin: {listen: 127.0.0.1:7070, token: no}\n",
    };

    (void)state;
    environment_set(environment);
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        struct conf *conf = load(files[i]);
        char *print = printed(conf);

        assert_string_equal(conf->domain, "edge.example");
        assert_int_equal(conf->backend_count, 2);
        assert_string_equal(conf->backends[0].host, "10.0.0.7");
        assert_int_equal(conf->backends[1].transport, CONF_TRANSPORT_AUTO);
        assert_int_equal(conf->backends[1].port, 5080);
        assert_int_equal(conf->profile, CONF_KAMAILIO);
        assert_true(conf->contact_path); /* by that profile */
        assert_int_equal(conf->core_port, 5070);
        assert_int_equal(conf->certificate_count, 1);
        assert_int_equal(access(conf->certificates[0].key, R_OK), 0); /* beside the file */
        assert_true(conf->log_json);
        assert_int_equal(conf->log_level, 3);
        assert_string_equal(conf->admin.token, "sesam-sesam-sesam");
        assert_int_equal(ntohs(conf->admin.address.in.sin_port), i ? 7070 : 9090);

        assert_non_null(strstr(print, "\ndomain: \"edge.example\" # by SIPWARD_DOMAIN\n") ||
                        strstr(print, "domain: \"edge.example\" # by SIPWARD_DOMAIN\n") == print);
        assert_non_null(strstr(print, "\nbackends: # by SIPWARD_BACKENDS\n  - {udp: \"10.0.0.7\""));
        assert_non_null(strstr(print, "\n  key: \"key.pem\" # by SIPWARD_CERTIFICATE_KEY\n"));
        assert_non_null(strstr(print, "\nlog_level: debug # by SIPWARD_LOG_LEVEL\n"));
        assert_non_null(strstr(print, "\n  token: (secret) # by SIPWARD_ADMIN_TOKEN\n"));
        conf_free(&conf);
        free(print);
    }
}

static void an_empty_variable_says_nothing(void **state)
{
    static const char *const empty[][2] = {
        {"SIPWARD_DOMAIN",   ""  },
        {"SIPWARD_BACKENDS", ""  },
        {"SIPWARD_LOG",      ""  },
        {NULL,               NULL}
    };
    struct conf *conf;
    char *print;

    (void)state;
    environment_set(empty);
    conf = load(SMALL);
    print = printed(conf);
    assert_string_equal(conf->domain, "sip.example.com");
    assert_null(strstr(print, "# by"));
    conf_free(&conf);
    free(print);
}

/* All of them, in the order of the table, before those of the file. */
static void a_mistake_in_the_environment_names_the_variable(void **state)
{
    static const struct {
        const char *pairs[5][2];
        const char *file, *errors;
    } mistakes[] = {
        {{{"SIPWARD_DOMAIN", "a b"},
          {"SIPWARD_BACKENDS", "udp:10.0.0.5,,upd:10.0.0.6"},
          {"SIPWARD_ADMIN", "9090"},
          {"SIPWARD_LOG_LEVEL", "loud"}},
         SMALL "workers: many\n",
         "SIPWARD_DOMAIN: domain: 'a b' is not a host name or an address\n"
         "SIPWARD_BACKENDS: backends[1]: '' is not udp:, tcp: or auto:\n"
         "SIPWARD_BACKENDS: backends[2]: 'upd:10.0.0.6' is not udp:, tcp: or auto:\n"
         "SIPWARD_ADMIN: admin.listen: '9090' is not ADDRESS:PORT\n"
         "SIPWARD_LOG_LEVEL: log_level: 'loud' is not one of error, warning, info, debug\n"
         "FILE:8: workers: 'many' is not a whole number\n"                                                                                     },
        {{{"SIPWARD_CERTIFICATE_CHAIN", "/no/such/file"}},
         "domain: a.example\nlisten: [tls: 1]\nbackends: [udp:10.0.0.5]\n",                    "SIPWARD_CERTIFICATE_CHAIN: certificate.key: is missing: the name of a PEM file; or set "
         "the environment variable SIPWARD_CERTIFICATE_KEY\n"
         "SIPWARD_CERTIFICATE_CHAIN: certificate.chain: '/no/such/file' is not a file that "
         "can\n"                                                    },
        {{{"SIPWARD_CERTIFICATE_KEY", "key.pem"}},
         "domain: a.example\nlisten: [tls: 1]\nbackends: [udp:10.0.0.5]\ncertificate: none\n", "FILE:4: certificate: 'none' is not a mapping\n"},
        {{{"SIPWARD_BACKEND", "udp:10.0.0.5"}, {"SIPWARD_DOMAIN", "\xff.example"}},
         "listen: [tcp: 5060]\nusers: [{name: a, password: b}]\n",                             "SIPWARD_DOMAIN: its value is no text in UTF-8\n"
         "SIPWARD_BACKEND: no such variable; did you mean SIPWARD_BACKENDS?\n"
         "FILE:1: domain: is missing: a host name or an address; or set the environment variable "
         "SIPWARD_DOMAIN\n"                                                  },
        {{{"SIPWARD_PORT", "tcp://10.0.0.1:5061"}, {"SIPWARD_SERVICE_HOST", "10.0.0.1"}},
         "listen: [tcp: 5060]\n",                                                              "FILE:1: domain: is missing: a host name\n"
         "FILE:1: backends: is missing: a list such as [udp:10.0.0.5:5060]; or `users`, for "
         "sipward's own "
         "registrar; or set the environment variable SIPWARD_BACKENDS\n"                                      },
    };

    for (size_t i = 0; i < ARRAY_LEN(mistakes); i++) {
        struct conf *conf = NULL;
        char *errors, *at;

        environment_clear(state);
        environment_set(mistakes[i].pairs);
        assert_int_equal(load_bytes(mistakes[i].file, strlen(mistakes[i].file), &conf, &errors),
                         -EINVAL);
        at = errors;
        for (const char *line = mistakes[i].errors; *line; line += strcspn(line, "\n") + 1) {
            const char *rest = line;
            if (!strncmp(line, "FILE", 4) && !strncmp(at, conf_path, strlen(conf_path))) {
                at += strlen(conf_path);
                rest += 4;
            }
            if (strncmp(at, rest, strcspn(rest, "\n")) != 0)
                fail_msg("expected:\n%s\nreported:\n%s", mistakes[i].errors, errors);
            at += strcspn(at, "\n") + 1;
        }
        assert_string_equal(at, "");
        free(errors);
    }
    (void)unsetenv("SIPWARD_PORT");
    (void)unsetenv("SIPWARD_SERVICE_HOST");
}

static void no_secret_is_printed(void **state) /* X5 */
{
    struct conf *conf = load("domain: a.example\nlisten: [tcp: 5060]\n"
                             "flow_token_keys: [" TOKEN_KEY "]\n"
                             "admin: {token: geheimer-als-geheim}\n"
                             "users: [{name: alice, password: geheim},\n"
                             "  {name: bob, ha1_md5: 0123456789abcdef0123456789abcdef}]\n");
    char *text = printed(conf);

    (void)state;
    assert_non_null(strstr(text, "alice"));
    assert_null(strstr(text, "geheim"));
    assert_null(strstr(text, "0123456789abcdef"));
    conf_free(&conf);
    free(text);
}

/* ---- The sample ------------------------------------------------------------------------ */

static char *replace(char *text, const char *from, const char *to)
{
    char *at = strstr(text, from), *out;

    assert_non_null(at);
    assert_true(asprintf(&out, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from)) > 0);
    free(text);
    return out;
}

/* deploy/sipward.yaml with the test's certificate files. `all`: what is commented out too. */
static char *sample(bool all)
{
    FILE *file = fopen(SAMPLE_FILE, "r");
    char *text = NULL, *line = NULL;
    size_t size = 0, room = 0;
    FILE *out = open_memstream(&text, &size);

    assert_non_null(file);
    assert_non_null(out);
    while (getline(&line, &room, file) > 0) {
        bool key = line[0] == '#' && line[1] != '\n' && (line[1] != ' ' || line[2] == ' ');
        (void)fputs(all && key ? line + 1 : line, out);
    }
    (void)fclose(file);
    (void)fclose(out);
    free(line);
    text = replace(text, "/etc/sipward/fullchain.pem", "chain.pem");
    text = replace(text, "/etc/sipward/privkey.pem", "key.pem");
    text = replace(text, "/etc/sipward/other-chain.pem", "chain.pem");
    if (all)
        text = replace(text, "/etc/sipward/client-ca.pem", "chain.pem");
    return replace(text, "/etc/sipward/other-key.pem", "key.pem");
}

static void the_sample_is_the_smallest_configuration(void **state)
{
    char *text = sample(false), *sample_prints, *small_prints;
    struct conf *conf = load(text);

    (void)state;
    sample_prints = printed(conf);
    conf_free(&conf);
    conf = load(SMALL);
    small_prints = printed(conf);
    conf_free(&conf);
    assert_string_equal(sample_prints, small_prints);
    free(text);
    free(sample_prints);
    free(small_prints);
}

/* With everything in it, only `users` beside `backends` is not no key is unknown, no example
 * bad. Without `backends` it loads, and the lists of headers are those of a file without them. */
static void all_of_the_sample_is_right(void **state)
{
    char *text = sample(true), *errors, *backends;
    struct conf *conf = NULL, *small = load(SMALL);

    (void)state;
    assert_int_equal(load_bytes(text, strlen(text), &conf, &errors), -EINVAL);
    assert_non_null(strstr(errors, ": users: '[...]' is wrong: there are `backends` as well"));
    assert_ptr_equal(strchr(errors, '\n'), errors + strlen(errors) - 1);
    free(errors);

    conf_free(&conf);
    backends = strstr(text, "\nbackends:");
    assert_non_null(backends);
    memmove(backends, strstr(backends, "\ncore:"), strlen(strstr(backends, "\ncore:")) + 1);
    conf = load(text);
    assert_int_equal(conf->listener_count, 8);
    assert_int_equal(conf->headers.from_client_count, small->headers.from_client_count);
    for (unsigned i = 0; i < conf->headers.from_client_count; i++)
        assert_string_equal(conf->headers.from_clients[i], small->headers.from_clients[i]);
    assert_int_equal(conf->headers.to_client_count, small->headers.to_client_count);
    for (unsigned i = 0; i < conf->headers.to_client_count; i++)
        assert_string_equal(conf->headers.to_clients[i], small->headers.to_clients[i]);
    conf_free(&conf);
    conf_free(&small);
    free(text);
}

/* Where "NAME:" is a key in the section of the sample that begins with "TOP:"; or NULL. */
static const char *sample_find(const char *text, const char *top, const char *name)
{
    char start[64], word[64];
    const char *section, *end, *at;

    (void)snprintf(start, sizeof(start), "\n%.60s:", top);
    (void)snprintf(word, sizeof(word), "%.60s:", name);
    section = strstr(text, start);
    if (!section)
        return NULL;
    for (end = section + 1; (end = strchr(end, '\n')) && strchr("# -\n", end[1]); end++)
        ;
    for (at = section; (at = strstr(at, word)) && (!end || at < end); at++)
        if (strchr(" \n{", at[-1]))
            return at + strlen(word);
    return NULL;
}

/* Every key of the schema is in the sample, and a commented one shows its default. */
static void the_sample_has_every_key_with_its_default(void **state)
{
    char *text = sample(true), *keys = printed(NULL), *save = NULL;
    unsigned count = 0, presets = 0;

    (void)state;
    for (char *line = strtok_r(keys, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *preset = strstr(line, "; default "), top[64], *leaf;
        const char *at;

        *strchr(line, ' ') = '\0'; /* "limits.idle_timeout (number ...", "users[].name (..." */
        (void)snprintf(top, sizeof(top), "%.*s", (int)strcspn(line, ".["), line);
        if (strlen(line) > 2 && !strcmp(line + strlen(line) - 2, "[]"))
            line[strlen(line) - 2] = '\0';
        leaf = strrchr(line, '.') ? strrchr(line, '.') + 1 : line;
        at = sample_find(text, top, leaf);
        if (!at) {
            fail_msg("%s is not in the sample", line);
            return;
        }
        count++;
        if (!preset || at[1] == '[') /* lists: all_of_the_sample_is_right */
            continue;
        preset += strlen("; default ");
        *strchr(preset, ')') = '\0';
        if (strncmp(at + 1, preset, strlen(preset)) != 0 || at[1 + strlen(preset)] != '\n')
            fail_msg("%s: the default is %s, the sample has%.20s", line, preset, at);
        presets++;
    }
    assert_true(count > 50);
    assert_true(presets > 20);
    free(text);
    free(keys);
}

/* ---- No memory ------------------------------------------------------------------------- */

/* The linker leads these calls of conf/ here (conf.cmake): the one that fail_after counts down to
 * fails. libcyaml's calls come by way of conf/ too. */
static unsigned long fail_after; /* 0: none */

static bool fails(void)
{
    return fail_after && !--fail_after;
}

void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_reallocarray(void *old, size_t count, size_t size);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t len);
int __real_vasprintf(char **out, const char *format, va_list args);

void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return fails() ? NULL : __real_realloc(old, size);
}

void *__wrap_reallocarray(void *old, size_t count, size_t size)
{
    return fails() ? NULL : __real_reallocarray(old, count, size);
}

char *__wrap_strdup(const char *text)
{
    return fails() ? NULL : __real_strdup(text);
}

char *__wrap_strndup(const char *text, size_t len)
{
    return fails() ? NULL : __real_strndup(text, len);
}

int __wrap_vasprintf(char **out, const char *format, va_list args)
{
    return fails() ? -1 : __real_vasprintf(out, format, args);
}

int __wrap_asprintf(char **out, const char *format, ...)
{
    va_list args;
    int len;

    va_start(args, format);
    len = fails() ? -1 : __real_vasprintf(out, format, args);
    va_end(args);
    return len;
}

/* Whichever allocation fails, it is -ENOMEM, and nothing leaks; the first one with an environment.
 */
static void memory_that_runs_out_is_an_error(void **state)
{
    static const struct {
        const char *text;
        int err;
    } files[] = {
        {SMALL "aliases: [\"::1\", b.example]\nflow_token_keys: [" TOKEN_KEY "]\n"
               "certificates: [{chain: chain.pem, key: key.pem}]\n",  0      },
        {"domain: a.example\n" CERTIFICATE "client_ca: chain.pem\nbackends: [udp:10.0.0.5]\n"
         "listen: [{tls: 1, client_certificate: asked}]\n",           0      },
        {"domain: a.example\nlisten: [tcp: 5060]\nusers: [{name: a, password: b},\n"
         "  {name: c, ha1_md5: 0123456789ABCDEF0123456789ABCDEF}]\n", 0      },
        {BASE "users: [{name: a, password: b}]\nlog: xml\nwoorkers: 2\n",      -EINVAL},
    };
    FILE *null = fopen("/dev/null", "w");

    (void)state;
    assert_non_null(null);
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        struct conf *conf = NULL;
        unsigned long k = 0;
        int err;

        if (i == 0)
            environment_set(environment);
        else
            environment_clear(state);
        file_write("sipward.yaml", files[i].text, strlen(files[i].text));
        do {
            fail_after = ++k;
            err = conf_load(conf_path, null, &conf);
            if (fail_after) /* never reached: none failed */
                break;
            assert_int_equal(err, -ENOMEM);
            assert_null(conf);
        } while (k < 10000);
        fail_after = 0;
        assert_in_range(k, 5, 9999);
        assert_int_equal(err, files[i].err);
        conf_free(&conf);
    }
    (void)fclose(null);
}

static void a_conf_lives_until_the_last_reference_is_given_back(void **state)
{
    const struct conf *first, *second, *none = NULL;
    struct conf *conf = load(SMALL);

    (void)state;
    first = conf_ref(conf);
    second = conf_ref(first);
    conf_free(&conf);
    assert_null(conf);
    conf_unref(&first);
    assert_null(first);
    assert_string_equal(second->domain, "sip.example.com"); /* AddressSanitizer sees what is gone */
    conf_unref(&second);
    conf_unref(&none);
}

static void what_is_new_is_named_by_its_key(void **state)
{
    static const struct {
        const char *more, *names;
    } files[] = {
        {"",                                                                              ""                      },
        {"# a comment\n",                                                                 ""                      },
        {"limits: {connections: 7}\n",                                                    "limits.connections"    },
        {"limits: {connections: 7, send_queue: 70000, udp_size: 900, max_forwards: 9}\n", "limits"                },
        {"flow_token_keys: [" TOKEN_KEY "]\nlog: json\n",                                 "flow_token_keys, log"  },
        {"aliases: [b.example]\nheaders: {rules: [{direction: to_core, action: remove, name: "
         "X}]}\n",                                                               "aliases, headers.rules"},
        {"core: 10.0.0.2\nworkers: 3\n",                                                  "core, workers"         },
    };
    struct conf *before = load(SMALL);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        char text[2048], *names = NULL;
        size_t len = 0;
        struct conf *after;
        FILE *out;

        (void)snprintf(text, sizeof(text), "%s%s", SMALL, files[i].more);
        after = load(text);
        out = open_memstream(&names, &len);
        assert_non_null(out);
        assert_int_equal(conf_changes_print(before, after, out), *files[i].names != '\0');
        assert_int_equal(fclose(out), 0);
        assert_string_equal(names, files[i].names);
        free(names);
        conf_free(&after);
    }
    conf_free(&before);
}

static void entries_of_lists_are_compared(void **state)
{
    static const char *const lists[] = {
        "backends: [udp:10.0.0.5:5060]\nlisten: [tls: 5061]\n",
        "backends: [auto:10.0.0.5:5060]\nlisten: [tls: 5061]\n",
        "backends: [{udp: 10.0.0.5:5060, priority: 2}]\nlisten: [tls: 5061]\n",
        "backends: [udp:10.0.0.5:5060, udp:10.0.0.6]\nlisten: [tls: 5061]\n",
        "backends: [udp:10.0.0.5:5060]\nlisten: [wss: 5061]\n",
        "backends: [udp:10.0.0.5:5060]\nlisten: [{tls: 5061, proxy_protocol: [10.0.0.0/8]}]\n",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        for (size_t j = 0; j < ARRAY_LEN(lists); j++) {
            char text[512];
            struct conf *one, *two;

            (void)snprintf(text, sizeof(text), "domain: a.example\n" CERTIFICATE "%s", lists[i]);
            one = load(text);
            (void)snprintf(text, sizeof(text), "domain: a.example\n" CERTIFICATE "%s", lists[j]);
            two = load(text);
            assert_int_equal(conf_same(one, two, "backends") && conf_same(one, two, "listen"),
                             i == j);
            conf_free(&one);
            conf_free(&two);
        }
}

static void what_waits_for_a_restart_is_kept(void **state)
{
    struct conf *running = load(SMALL "core: 10.0.0.2:5070\nworkers: 2\n");
    struct conf *conf = load(SMALL "workers: 3\nlimits: {udp_size: 900}\n");
    char *names = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&names, &len);

    (void)state;
    assert_non_null(out);
    assert_int_equal(conf_keep(conf, running, out), 0);
    assert_int_equal(fclose(out), 0);
    assert_string_equal(names, "core, workers");
    free(names);
    assert_int_equal(conf->workers, 2);
    assert_int_equal(conf->core_port, 5070);
    assert_int_equal(conf->core4.in.sin_addr.s_addr, htonl(0x0a000002));
    assert_true(conf_same(conf, running, "core") && conf_same(conf, running, "workers"));
    assert_int_equal(conf->limits.udp_size, 900);
    conf_free(&running);
    conf_free(&conf);
}

static void listeners_and_backends_are_found_again_by_their_places(void **state)
{
    struct conf *one = load("domain: a.example\n" CERTIFICATE
                            "listen: [tls: 5061, wss: 127.0.0.1:443, tcp: \"[::1]:5060\"]\n"
                            "backends: [udp:10.0.0.5, udp:pbx.example:5060, tcp:10.0.0.6]\n");
    struct conf *two =
        load("domain: a.example\n" CERTIFICATE
             "listen: [tcp: \"[0::1]:5060\", ws: 127.0.0.1:443, tls: \"[::]:5061\"]\n"
             "backends: [tcp:10.0.0.6, udp:PBX.example:5060, udp:10.0.0.5:5060]\n");

    (void)state;
    assert_int_equal(conf_listener_at(one, &two->listeners[0]), 2);
    assert_int_equal(conf_listener_at(one, &two->listeners[1]), 1);  /* whatever is spoken there */
    assert_int_equal(conf_listener_at(one, &two->listeners[2]), -1); /* IPv6 alone */
    assert_int_equal(conf_backend_at(one, &two->backends[0]), 2);
    assert_int_equal(conf_backend_at(one, &two->backends[1]), 1);
    assert_int_equal(conf_backend_at(one, &two->backends[2]), -1); /* no SRV with a port */
    conf_free(&one);
    conf_free(&two);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_seven_lines_load_with_every_default),
        cmocka_unit_test(every_key_arrives_where_it_belongs),
        cmocka_unit_test(users_have_passwords_or_hashes),
        cmocka_unit_test(default_tables_name_what_only_a_trusted_network_says),
        cmocka_unit_test(core_may_be_a_port_or_an_address_or_two),
        cmocka_unit_test(the_admin_side_is_an_address_a_mapping_or_no),
        cmocka_unit_test(every_mistake_is_told_with_line_key_value_and_what_is_right),
        cmocka_unit_test(a_deep_file_is_refused_at_once),
        cmocka_unit_test(many_mistakes_are_told_at_once_in_the_order_of_lines),
        cmocka_unit_test(rules_can_not_touch_what_sipward_needs),
        cmocka_unit_test(long_and_strange_values_are_shown_short_and_printable),
        cmocka_unit_test(anchors_work_and_cycles_end),
        cmocka_unit_test(as_many_as_allowed_load_and_one_more_does_not),
        cmocka_unit_test(many_users_load_quickly),
        cmocka_unit_test(a_file_that_can_not_be_read_is_told),
        cmocka_unit_test(what_is_printed_loads_again_and_prints_the_same),
        cmocka_unit_test(a_profile_sets_what_its_pbx_needs),
        cmocka_unit_test(a_key_of_the_file_wins_over_the_profile),
        cmocka_unit_test_teardown(the_environment_wins_over_the_file, environment_clear),
        cmocka_unit_test_teardown(an_empty_variable_says_nothing, environment_clear),
        cmocka_unit_test_teardown(a_mistake_in_the_environment_names_the_variable,
                                  environment_clear),
        cmocka_unit_test(no_secret_is_printed),
        cmocka_unit_test(the_sample_is_the_smallest_configuration),
        cmocka_unit_test(all_of_the_sample_is_right),
        cmocka_unit_test(the_sample_has_every_key_with_its_default),
        cmocka_unit_test(memory_that_runs_out_is_an_error),
        cmocka_unit_test(a_conf_lives_until_the_last_reference_is_given_back),
        cmocka_unit_test(what_is_new_is_named_by_its_key),
        cmocka_unit_test(entries_of_lists_are_compared),
        cmocka_unit_test(what_waits_for_a_restart_is_kept),
        cmocka_unit_test(listeners_and_backends_are_found_again_by_their_places),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}

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
__attribute__((unused)) static void check_errors(const char *yaml, size_t len, const char *expected)
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
    assert_int_equal(conf->websocket.ping_interval_s, 25);
    assert_int_equal(conf->websocket.pong_timeout_s, 10);
    assert_int_equal(conf->headers.rule_count, 0);
    assert_null(conf->headers.client_address);
    assert_int_equal(conf->limits.message_size, 65536);
    assert_int_equal(conf->limits.max_forwards, 70);
    assert_int_equal(conf->limits.connections, 0);
    assert_int_equal(conf->limits.connections_per_address, 0);
    assert_int_equal(conf->limits.transactions, 100000);
    assert_int_equal(conf->limits.transactions_per_connection, 100);
    assert_int_equal(conf->limits.send_queue, 262144);
    assert_int_equal(conf->limits.handshake_timeout_s, 10);
    assert_int_equal(conf->limits.upgrade_timeout_s, 10);
    assert_int_equal(conf->limits.message_timeout_s, 15);
    assert_int_equal(conf->limits.first_message_timeout_s, 30);
    assert_int_equal(conf->limits.idle_timeout_s, 7200);
    assert_int_equal(conf->limits.stop_timeout_ms, 2000);
    assert_int_equal(conf->workers, 0);
    assert_int_equal(conf->log_level, 2);
    assert_false(conf->log_json);
    conf_free(&conf);
    assert_null(conf);
    conf_free(&conf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_seven_lines_load_with_every_default),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}

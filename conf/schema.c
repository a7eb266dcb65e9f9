#include <string.h>

#include "conf/internal.h"

/* A row: its key, where it goes in struct `in`, and what the file may say. */
/* NOLINTBEGIN(bugprone-macro-parentheses): types, members and whole initialisers */
#define SIZE_OF(in, member) ((uint32_t)sizeof(((in *)0)->member))
#define NUMBER(key, in, member, low, high, unit_, preset_, help_)                                  \
    {                                                                                              \
        .name = key, .type = KEY_NUMBER, .offset = offsetof(in, member),                           \
        .size = SIZE_OF(in, member), .min = low, .max = high, .unit = unit_, .preset = preset_,    \
        .help = help_                                                                              \
    }
#define CHOICE(key, need, in, member, choices_, preset_, help_)                                    \
    {                                                                                              \
        .name = key, .type = KEY_CHOICE, .required = need, .offset = offsetof(in, member),         \
        .size = SIZE_OF(in, member), .choices = choices_, .preset = preset_, .help = help_         \
    }
#define TEXT(key, need, in, member, rule, preset_, help_)                                          \
    {                                                                                              \
        .name = key, .type = KEY_TEXT, .required = need, .offset = offsetof(in, member),           \
        .text = &(rule), .preset = preset_, .help = help_                                          \
    }
#define TEXTS(key, in, member, count, high, rule, preset_, help_)                                  \
    {                                                                                              \
        .name = key, .type = KEY_TEXTS, .offset = offsetof(in, member),                            \
        .count_offset = offsetof(in, count), .size = sizeof(char *), .max = high, .text = &(rule), \
        .preset = preset_, .help = help_                                                           \
    }
#define MAP(key, keys_, help_)                                                                     \
    {                                                                                              \
        .name = key, .type = KEY_MAP, .keys = keys_, .help = help_                                 \
    }
#define MAP_OR_TEXT(key, rule, keys_, help_)                                                       \
    {                                                                                              \
        .name = key, .type = KEY_MAP, .text = &(rule), .keys = keys_, .help = help_                \
    }
#define MAPS(key, need, in, member, count, low, high, keys_, help_)                                \
    {                                                                                              \
        .name = key, .type = KEY_MAPS, .required = need, .offset = offsetof(in, member),           \
        .count_offset = offsetof(in, count), .size = SIZE_OF(in, member[0]), .min = low,           \
        .max = high, .keys = keys_, .help = help_                                                  \
    }
#define ENTRIES(key, in, member, count, high, rule, keys_, help_)                                  \
    {                                                                                              \
        .name = key, .type = KEY_ENTRIES, .offset = offsetof(in, member),                          \
        .count_offset = offsetof(in, count), .size = SIZE_OF(in, member[0]), .max = high,          \
        .text = &(rule), .keys = keys_, .help = help_                                              \
    }
/* NOLINTEND(bugprone-macro-parentheses) */

enum { DAY_S = 86400, YEAR_S = 365 * DAY_S };

static const struct text_rule host = {conf_host_valid, "a host name or an address", NULL, false};
static const struct text_rule file = {conf_text_valid, "the name of a PEM file", NULL, false};
static const struct text_rule listener = {
    conf_listener_valid, "PORT, ADDRESS:PORT or \"[IPV6]:PORT\", ports from 1 to 65535", NULL,
    false};
static const struct text_rule network = {
    conf_network_valid, "ADDRESS/BITS, with no bit of the address set behind those, or ADDRESS",
    conf_network_same, false};
static const struct text_rule backend = {
    conf_backend_valid, "udp:, tcp: or auto:, then HOST or HOST:PORT, an IPv6 address in [ ]", NULL,
    false};
static const struct text_rule place = {conf_place_valid,
                                       "HOST or HOST:PORT, an IPv6 address in [ ]", NULL, false};
static const struct text_rule core = {
    conf_core_valid,
    "ADDRESS:PORT, ADDRESS or :PORT, an IPv6 address in [ ]; or an IPv4 and an IPv6 one with a "
    "comma between them and the same port",
    NULL, false};
static const struct text_rule admin = {
    conf_admin_valid, "ADDRESS:PORT, an IPv6 address in [ ], port 0 for any free one; or no", NULL,
    false};
static const struct text_rule secret = {conf_secret_valid,
                                        "16 to 1024 letters, digits and -._~+/=, as a random text "
                                        "of openssl rand -hex 32 has them",
                                        NULL, true};
static const struct text_rule token_key = {conf_token_key_valid, "64 hexadecimal digits", NULL,
                                           true};
static const struct text_rule user_name = {
    conf_user_valid, "the user part of a SIP URI: letters, digits and -_.!~*'()&=+$,;?/", NULL,
    false};
static const struct text_rule password = {conf_text_valid, "a password without control characters",
                                          NULL, true};
static const struct text_rule md5 = {
    conf_md5_valid, "32 hexadecimal digits, the MD5 of NAME:REALM:PASSWORD", NULL, true};
static const struct text_rule sha256 = {
    conf_sha256_valid, "64 hexadecimal digits, the SHA-256 of NAME:REALM:PASSWORD", NULL, true};
static const struct text_rule realm = {conf_realm_valid,
                                       "a text without \", \\ and control "
                                       "characters",
                                       NULL, false};
static const struct text_rule url_path = {conf_url_path_valid, "a path of a URL, such as /sip",
                                          NULL, false};
static const struct text_rule origin = {
    conf_origin_valid,
    "https://HOST or https://HOST:PORT as browsers send it: in lower case, without a path and "
    "without the scheme's own port",
    NULL, false};
static const struct text_rule header_match = {
    conf_header_match_valid,
    "NAME or NAME;PARAMETER of a header other than Via, Call-ID, CSeq, From, To, Max-Forwards, "
    "Content-Length, Route, Record-Route",
    NULL, false};
static const struct text_rule header_name = {
    conf_header_name_valid,
    "the name of a header other than Via, Call-ID, CSeq, From, To, Max-Forwards, Content-Length, "
    "Route, Record-Route",
    NULL, false};
static const struct text_rule header_value = {
    conf_header_value_valid, "one line without control characters and blanks around it", NULL,
    false};

static const cyaml_strval_t contacts[] = {
    {"mask", false},
    {"path",      true},
    {0}
};
static const cyaml_strval_t profiles[] = {
    {"generic",      CONF_GENERIC},
    {"asterisk",              CONF_ASTERISK},
    {"freeswitch",CONF_FREESWITCH},
    {"kamailio",   CONF_KAMAILIO},
    {"3cx",              CONF_3CX},
    {"cucm",CONF_CUCM},
    {0         }
};
static const cyaml_strval_t logs[] = {
    {"text", false},
    {"json",      true},
    {0}
};
static const cyaml_strval_t levels[] = {
    {"error", 0},
    {"warning",       1},
    {"info",2},
    {"debug",  3},
    {0      }
};
static const cyaml_strval_t directions[] = {
    {"to_core",       CONF_TO_CORE},
    {"to_clients",               CONF_TO_ACCESS},
    {0}
};
static const cyaml_strval_t actions[] = {
    {"remove",  CONF_REMOVE},
    {"set",         CONF_SET},
    {"add",CONF_ADD},
    {0    }
};

static const cyaml_strval_t demands[] = {
    {"no",               CONF_CLIENT_NO},
    {"asked",                  CONF_CLIENT_ASKED},
    {"required",CONF_CLIENT_REQUIRED},
    {0        }
};

static const struct key certificate_keys[] = {
    TEXT("chain", true, struct conf_certificate, chain, file, NULL,
         "PEM file: the certificate, then those that lead to its CA"),
    TEXT("key", true, struct conf_certificate, key, file, NULL, "PEM file: its private key"),
    {0}};

/* The same pair under `certificate`; offsets of a KEY_MAP are those of struct loaded. */
static const struct key first_certificate_keys[] = {
    TEXT("chain", true, struct loaded, certificate.chain, file, NULL,
         "PEM file: the certificate, then those that lead to its CA"),
    TEXT("key", true, struct loaded, certificate.key, file, NULL, "PEM file: its private key"),
    {0}};

static const struct key listen_keys[] = {
    TEXT("tls", false, struct listen, tls, listener, NULL, "SIP over TLS"),
    TEXT("wss", false, struct listen, wss, listener, NULL, "SIP over secure WebSocket"),
    TEXT("tcp", false, struct listen, tcp, listener, NULL,
         "SIP over TCP, for use behind a TLS load balancer"),
    TEXT("ws", false, struct listen, ws, listener, NULL,
         "SIP over WebSocket, for use behind a TLS load balancer"),
    TEXT("tls+wss", false, struct listen, tls_wss, listener, NULL,
         "SIP over TLS and over secure WebSocket on one port"),
    TEXT("tcp+ws", false, struct listen, tcp_ws, listener, NULL,
         "the same two without encryption, for use behind a TLS load balancer"),
    CHOICE("client_certificate", false, struct listen, client_certificate, demands, NULL,
           "of a listener with TLS: whether clients must show one by client_ca; no unless set"),
    TEXTS("proxy_protocol", struct listen, proxy_protocol, proxy_protocol_count, CONF_LIST_MAX,
          network, NULL, "networks of load balancers that put a PROXY protocol 2 header in front"),
    {0}};

static const struct key user_keys[] = {
    TEXT("name", true, struct conf_user, name, user_name, NULL, "user part of the user's URI"),
    TEXT("password", false, struct conf_user, password, password, NULL,
         "the password in clear, in place of the hashes"),
    TEXT("ha1_md5", false, struct conf_user, ha1_md5, md5, NULL,
         "MD5 of NAME:REALM:PASSWORD, in hexadecimal digits"),
    TEXT("ha1_sha256", false, struct conf_user, ha1_sha256, sha256, NULL,
         "SHA-256 of NAME:REALM:PASSWORD, in hexadecimal digits"),
    {0}};

static const struct key registrar_keys[] = {
    TEXT("realm", false, struct loaded, conf.registrar.realm, realm, NULL,
         "realm of the digest; the domain unless set"),
    NUMBER("min_expires", struct loaded, conf.registrar.min_expires_s, 1, YEAR_S, "seconds", "60",
           "shortest time a binding may ask for (else 423)"),
    NUMBER("default_expires", struct loaded, conf.registrar.default_expires_s, 1, YEAR_S, "seconds",
           "3600", "time of a binding that asks for none"),
    NUMBER("max_expires", struct loaded, conf.registrar.max_expires_s, 1, YEAR_S, "seconds", "7200",
           "longest time of a binding"),
    NUMBER("max_bindings", struct loaded, conf.registrar.max_bindings, 1, 1000, "bindings", "10",
           "devices that one user can have registered at once"),
    NUMBER("nonce_lifetime", struct loaded, conf.registrar.nonce_lifetime_s, 1, DAY_S, "seconds",
           "300", "how long a digest nonce is good for"),
    {0}};

static const struct key backend_keys[] = {
    TEXT("udp", false, struct backend, udp, place, NULL, "HOST or HOST:PORT, by UDP"),
    TEXT("tcp", false, struct backend, tcp, place, NULL, "by TCP"),
    TEXT("auto", false, struct backend, by_size, place, NULL, "by UDP, and TCP for what is large"),
    NUMBER("priority", struct backend, priority, 0, 65535, "rank", "1",
           "others are used where none of less priority is up"),
    NUMBER("weight", struct backend, weight, 0, 65535, "shares", "1",
           "of the users, among backends of equal priority"),
    {0}};

static const struct key websocket_keys[] = {
    TEXT("path", false, struct loaded, conf.websocket.path, url_path, "/",
         "path of the URL that clients must use; / stands for any"),
    TEXTS("origins", struct loaded, conf.websocket.origins, conf.websocket.origin_count,
          CONF_LIST_MAX, origin, NULL, "web pages that may connect, by their Origin; none: all"),
    NUMBER("ping_interval", struct loaded, conf.websocket.ping_interval_s, 1, DAY_S, "seconds",
           "18", "silence after which sipward pings the client"),
    NUMBER("pong_timeout", struct loaded, conf.websocket.pong_timeout_s, 1, 3600, "seconds", "8",
           "silence after a ping that ends the connection"),
    {0}};

static const struct key rule_keys[] = {
    CHOICE("direction", true, struct conf_header_rule, direction, directions, NULL,
           "of the messages that the rule is for"),
    CHOICE("action", true, struct conf_header_rule, action, actions, NULL,
           "set replaces all headers of that name, add leaves them"),
    TEXT("name", true, struct conf_header_rule, name, header_name, NULL, "of the header"),
    TEXT("value", false, struct conf_header_rule, value, header_value, NULL,
         "what set and add put in"),
    {0}};

/* RFC 3325 (and 5876), 4457, 5002, 5502, 5503, 6050, 7315, 7316, 8496: what only a trusted
 * network may say. */
#define FROM_CLIENTS                                                                               \
    "P-Asserted-Identity, Remote-Party-ID, P-Asserted-Service, P-Access-Network-Info;"             \
    "network-provided, P-Associated-URI, P-Called-Party-ID, P-Charge-Info, "                       \
    "P-Charging-Function-Addresses, P-Charging-Vector, P-DCS-Billing-Info, P-DCS-LAES, "           \
    "P-DCS-OSPS, P-DCS-Redirect, P-DCS-Trace-Party-ID, P-Private-Network-Indication, "             \
    "P-Profile-Key, P-Served-User, P-User-Database, P-Visited-Network-ID"
/* What the trusted network keeps to itself. P-Asserted-Identity is not among it: phones show the
 * caller from it. */
#define TO_CLIENTS                                                                                 \
    "P-Asserted-Service, P-Access-Network-Info, P-Charge-Info, P-Charging-Function-Addresses, "    \
    "P-Charging-Vector, P-DCS-Billing-Info, P-DCS-LAES, P-DCS-OSPS, P-DCS-Redirect, "              \
    "P-DCS-Trace-Party-ID, P-Private-Network-Indication, P-Profile-Key, P-Served-User, "           \
    "P-User-Database, P-Visited-Network-ID"

static const struct key header_keys[] = {
    TEXTS("from_clients", struct loaded, conf.headers.from_clients, conf.headers.from_client_count,
          CONF_LIST_MAX, header_match, FROM_CLIENTS,
          "headers that are removed from what clients send"),
    TEXTS("to_clients", struct loaded, conf.headers.to_clients, conf.headers.to_client_count,
          CONF_LIST_MAX, header_match, TO_CLIENTS,
          "headers that are removed from what goes to clients"),
    MAPS("rules", false, struct loaded, conf.headers.rules, conf.headers.rule_count, 0,
         CONF_LIST_MAX, rule_keys, "changes of your own, done in this order"),
    TEXT("client_address", false, struct loaded, conf.headers.client_address, header_name, NULL,
         "header that tells the PBX the client's address, port and transport; none unless set"),
    {0}};

static const struct key limit_keys[] = {
    NUMBER("message_size", struct loaded, conf.limits.message_size, 2048, 1 << 20, "bytes", "65536",
           "longest message; above it 513"),
    NUMBER("udp_size", struct loaded, conf.limits.udp_size, 200, 65535, "bytes", "1300",
           "largest request that goes to an auto: backend by UDP; above it TCP"),
    NUMBER("max_forwards", struct loaded, conf.limits.max_forwards, 1, 255, "hops", "70",
           "highest Max-Forwards a client may ask for"),
    NUMBER("connections", struct loaded, conf.limits.connections, 0, 10000000, "connections", "0",
           "of all clients at once; 0: what the limit of open files leaves"),
    NUMBER("transactions", struct loaded, conf.limits.transactions, 1, 10000000, "transactions",
           "100000", "open, of one worker at once"),
    NUMBER("transactions_per_connection", struct loaded, conf.limits.transactions_per_connection, 1,
           1000000, "transactions", "100", "open, of one client connection at once"),
    NUMBER("send_queue", struct loaded, conf.limits.send_queue, 4096, 1 << 26, "bytes", "262144",
           "waiting for one slow client; more ends its connection"),
    NUMBER("handshake_timeout", struct loaded, conf.limits.handshake_timeout_s, 1, 3600, "seconds",
           "10", "for the TLS handshake"),
    NUMBER("upgrade_timeout", struct loaded, conf.limits.upgrade_timeout_s, 1, 3600, "seconds",
           "10", "for the HTTP request that opens a WebSocket"),
    NUMBER("message_timeout", struct loaded, conf.limits.message_timeout_s, 1, 3600, "seconds",
           "15", "for the rest of a message that has begun"),
    NUMBER("first_message_timeout", struct loaded, conf.limits.first_message_timeout_s, 1, 3600,
           "seconds", "30", "for anything at all on a new connection"),
    NUMBER("idle_timeout", struct loaded, conf.limits.idle_timeout_s, 0, YEAR_S, "seconds", "7200",
           "silence that ends a connection; 0: never"),
    NUMBER("try_timeout_ms", struct loaded, conf.limits.try_timeout_ms, 100, 32000, "milliseconds",
           "1600", "for any answer of a backend, before the request goes to another one"),
    NUMBER("stop_timeout_ms", struct loaded, conf.limits.stop_timeout_ms, 0, 60000, "milliseconds",
           "2000", "for open transactions at a quick stop (SIGINT)"),
    NUMBER("drain_spread", struct loaded, conf.limits.drain_spread_s, 0, 86400, "seconds", "10",
           "in which connections without a call are closed at SIGTERM, in random order"),
    NUMBER("drain_timeout", struct loaded, conf.limits.drain_timeout_s, 0, 86400, "seconds", "60",
           "for calls to end at SIGTERM; what is left then is closed"),
    {0}};

static const struct key probe_keys[] = {
    NUMBER("interval", struct loaded, conf.probe.interval_s, 0, 3600, "seconds", "10",
           "between two OPTIONS to a backend; 0: none are sent"),
    NUMBER("timeout", struct loaded, conf.probe.timeout_s, 1, 32, "seconds", "2",
           "for the answer to one"),
    NUMBER("down_after", struct loaded, conf.probe.down_after, 1, 100, "requests", "3",
           "without an answer in a row: the backend is down"),
    NUMBER("up_after", struct loaded, conf.probe.up_after, 1, 100, "requests", "2",
           "answered in a row: the backend is up again"),
    {0}};

static const struct key admin_keys[] = {
    TEXT("listen", false, struct loaded, admin, admin, "127.0.0.1:9090",
         "ADDRESS:PORT, port 0 for any free one; or no"),
    TEXT("token", false, struct loaded, conf.admin.token, secret, NULL,
         "who asks must know it (Authorization: Bearer); unless set anybody may ask"),
    {0}};

const struct key conf_schema[] = {
    TEXT("domain", true, struct loaded, conf.domain, host, NULL,
         "SIP domain of the clients, and the name they connect to"),
    TEXTS("aliases", struct loaded, conf.aliases, conf.alias_count, CONF_LIST_MAX, host, NULL,
          "more names and addresses that clients use for this edge"),
    MAP("certificate", first_certificate_keys, "the default certificate; tls and wss need one"),
    MAPS("certificates", false, struct loaded, certificates, certificate_count, 0, CONF_LIST_MAX,
         certificate_keys, "more certificates, chosen by the name that the client asks for"),
    TEXT("client_ca", false, struct loaded, client_ca, file, NULL,
         "PEM file: the CAs whose client certificates a listener accepts that asks for one"),
    MAPS("listen", true, struct loaded, listen, listen_count, 1, CONF_LISTENERS_MAX, listen_keys,
         "where clients connect: PORT, ADDRESS:PORT or \"[IPV6]:PORT\""),
    ENTRIES(
        "backends", struct loaded, backends, backend_count, CONF_BACKENDS_MAX, backend,
        backend_keys,
        "the PBX or registrar: udp:, tcp: or auto:HOST[:PORT]; none: sipward's own serves `users`"),
    MAP("probe", probe_keys, "whether the backends live: they are asked by OPTIONS"),
    TEXT("core", false, struct loaded, core, core, NULL,
         "what the backends see of sipward; unless set the address that routes to them, port 5060"),
    CHOICE("profile", false, struct loaded, conf.profile, profiles, "generic",
           "which PBX the backends are: it sets what that one is known to need"),
    CHOICE("contact", false, struct loaded, conf.contact_path, contacts, "mask",
           "mask Contacts, for any PBX; or rely on Path (RFC 3327)"),
    NUMBER("flow_gone_status", struct loaded, conf.flow_gone_status, 400, 699, "status code", "430",
           "answer to the PBX where the client's connection is gone"),
    TEXTS("flow_token_keys", struct loaded, token_keys, token_key_count, CONF_TOKEN_KEYS_MAX,
          token_key, NULL,
          "64 hexadecimal digits each, the first one signs; none: random at each start"),
    MAPS("users", false, struct loaded, conf.users, conf.user_count, 0, CONF_USERS_MAX, user_keys,
         "of the embedded registrar: a password, or one hash or both"),
    MAP("registrar", registrar_keys, "the embedded registrar"),
    MAP("websocket", websocket_keys, "WebSocket connections"),
    MAP("headers", header_keys, "what is taken out of and put into messages"),
    MAP("limits", limit_keys, "how much, how many, how long"),
    MAP_OR_TEXT("admin", admin, admin_keys,
                "HTTP for who runs it: health, metrics, connections; a mapping, or `listen` alone"),
    NUMBER("workers", struct loaded, conf.workers, 0, CONF_WORKERS_MAX, "threads", "0",
           "0: one for each core"),
    CHOICE("log", false, struct loaded, conf.log_json, logs, "text", "form of the log's lines"),
    CHOICE("log_level", false, struct loaded, conf.log_level, levels, "info",
           "the least that is logged; debug includes whole messages"),
    {0}};

const struct key *conf_key_find(const struct key *keys, const char *name)
{
    for (; keys->name; keys++)
        if (!strcmp(keys->name, name))
            return keys;
    return NULL;
}

unsigned conf_choice_count(const struct key *key)
{
    unsigned count = 0;

    while (key->choices[count].str)
        count++;
    return count;
}

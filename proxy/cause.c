#include "proxy/cause.h"

#include <assert.h>

/* clang-format off */
static const struct cause_row rows[CAUSES] = {
    [CAUSE_CLIENT_CLOSED] = {"client-closed", CLASS_NORMAL, BY_CLIENT, "closed by client"},
    [CAUSE_RESET] = {"reset", CLASS_NETWORK, BY_CLIENT,
                     "reset by the client, or by a firewall or NAT on the way"},
    [CAUSE_UNACKNOWLEDGED] = {"unacknowledged", CLASS_NETWORK, BY_NETWORK,
                              "the client's system answers no more"},
    [CAUSE_NETWORK] = {"network", CLASS_NETWORK, BY_NETWORK, "error of the network"},

    [CAUSE_HANDSHAKE_TIMEOUT] = {"handshake-timeout", CLASS_HANDSHAKE, BY_SIPWARD,
                                 "handshake timeout"},
    [CAUSE_HANDSHAKE_CLOSED] = {"handshake-closed", CLASS_HANDSHAKE, BY_CLIENT,
                                "closed by client"},
    [CAUSE_HANDSHAKE_RESET] = {"handshake-reset", CLASS_HANDSHAKE, BY_CLIENT,
                               "reset by the client, or by a firewall or NAT on the way"},
    [CAUSE_NOT_TLS] = {"not-tls", CLASS_HANDSHAKE, BY_SIPWARD, "not TLS"},
    [CAUSE_TLS_VERSION] = {"tls-version", CLASS_HANDSHAKE, BY_SIPWARD,
                           "no TLS version in common"},
    [CAUSE_TLS_CIPHER] = {"tls-cipher", CLASS_HANDSHAKE, BY_SIPWARD,
                          "no cipher suite in common"},
    [CAUSE_TLS_UNKNOWN_CA] = {"tls-unknown-ca", CLASS_HANDSHAKE, BY_CLIENT,
                              "client does not know the certificate's CA"},
    [CAUSE_TLS_CERTIFICATE_REFUSED] = {"tls-certificate-refused", CLASS_HANDSHAKE, BY_CLIENT,
                                       "client refuses the certificate"},
    [CAUSE_TLS_ALERT] = {"tls-alert", CLASS_HANDSHAKE, BY_CLIENT, "client sent a TLS alert"},
    [CAUSE_CLIENT_CERTIFICATE_MISSING] = {"client-certificate-missing", CLASS_HANDSHAKE,
                                          BY_SIPWARD, "the client shows no certificate"},
    [CAUSE_CLIENT_CERTIFICATE_REFUSED] = {"client-certificate-refused", CLASS_HANDSHAKE,
                                          BY_SIPWARD, "the client's certificate is refused"},
    [CAUSE_TLS_HANDSHAKE] = {"tls-error", CLASS_HANDSHAKE, BY_SIPWARD, "error of TLS"},
    [CAUSE_PROXY_HEADER] = {"proxy-header", CLASS_HANDSHAKE, BY_SIPWARD,
                            "no PROXY protocol header"},
    [CAUSE_PROXY_HEADER_TIMEOUT] = {"proxy-header-timeout", CLASS_HANDSHAKE, BY_SIPWARD,
                                    "PROXY protocol header timeout"},
    [CAUSE_PROXY_SENDER] = {"proxy-sender", CLASS_HANDSHAKE, BY_SIPWARD,
                            "not in this listener's proxy_protocol"},
    [CAUSE_UPGRADE_REFUSED] = {"upgrade-refused", CLASS_HANDSHAKE, BY_SIPWARD,
                               "HTTP upgrade refused"},
    [CAUSE_UPGRADE_TIMEOUT] = {"upgrade-timeout", CLASS_HANDSHAKE, BY_SIPWARD,
                               "HTTP upgrade not finished in time"},

    [CAUSE_PING_MISSED] = {"ping-missed", CLASS_KEEPALIVE, BY_SIPWARD, "ping missed"},
    [CAUSE_FLOW_TIMER] = {"flow-timer", CLASS_KEEPALIVE, BY_SIPWARD,
                          "silent for longer than its Flow-Timer"},

    [CAUSE_FIRST_MESSAGE_TIMEOUT] = {"first-message-timeout", CLASS_TIMEOUT, BY_SIPWARD,
                                     "first message timeout"},
    [CAUSE_MESSAGE_TIMEOUT] = {"message-timeout", CLASS_TIMEOUT, BY_SIPWARD, "message timeout"},
    [CAUSE_IDLE] = {"idle-timeout", CLASS_TIMEOUT, BY_SIPWARD, "idle timeout"},

    [CAUSE_CONNECTION_LIMIT] = {"connection-limit", CLASS_LIMIT, BY_SIPWARD,
                                "limits.connections reached"},
    [CAUSE_FLOW_LIMIT] = {"flow-limit", CLASS_LIMIT, BY_SIPWARD, "no room for its flow"},
    [CAUSE_MESSAGE_TOO_LARGE] = {"message-too-large", CLASS_LIMIT, BY_SIPWARD,
                                 "message too large"},
    [CAUSE_SLOW_READER] = {"slow-reader", CLASS_LIMIT, BY_SIPWARD, "slow reader"},

    [CAUSE_FRAMING] = {"broken-framing", CLASS_PROTOCOL, BY_SIPWARD, "broken framing"},
    [CAUSE_WEBSOCKET] = {"websocket-error", CLASS_PROTOCOL, BY_SIPWARD,
                         "WebSocket protocol error"},
    [CAUSE_NOT_SIP] = {"not-sip", CLASS_PROTOCOL, BY_SIPWARD, "not a SIP message"},
    [CAUSE_TLS_BROKEN] = {"tls-broken", CLASS_PROTOCOL, BY_SIPWARD, "TLS error"},

    [CAUSE_DRAINING] = {"draining", CLASS_DRAIN, BY_SIPWARD, "server is draining"},
    [CAUSE_STOPPING] = {"stopping", CLASS_DRAIN, BY_SIPWARD, "server is stopping"},
    [CAUSE_NO_MEMORY] = {"out-of-memory", CLASS_ERROR, BY_SIPWARD, "out of memory"},
    [CAUSE_SYSTEM] = {"system-error", CLASS_ERROR, BY_SIPWARD, "error of the system"},
};
/* clang-format on */

const struct cause_row *cause_row(enum cause cause)
{
    assert(cause < CAUSES);
    return &rows[cause];
}

const char *cause_class_name(enum cause_class class)
{
    static const char *const names[CAUSE_CLASSES] = {
        [CLASS_NORMAL] = "normal",       [CLASS_HANDSHAKE] = "handshake",
        [CLASS_KEEPALIVE] = "keepalive", [CLASS_TIMEOUT] = "timeout",
        [CLASS_LIMIT] = "limit",         [CLASS_PROTOCOL] = "protocol",
        [CLASS_NETWORK] = "network",     [CLASS_DRAIN] = "drain",
        [CLASS_ERROR] = "error",
    };

    return names[class];
}

const char *cause_by_name(enum cause_by by)
{
    static const char *const names[] = {
        [BY_CLIENT] = "client", [BY_SIPWARD] = "sipward", [BY_NETWORK] = "network"};

    return names[by];
}

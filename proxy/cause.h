/* Why connections end: one row for each cause. The log's words, what /api/flows tells, and the
 * labels of metrics all come from here, so that they mean the same.
 *
 * Threads: no state. All text is static. */
#pragma once

/* Who ended it, as far as can be known from here. A reset may also be a firewall's. */
enum cause_by { BY_CLIENT, BY_SIPWARD, BY_NETWORK };

enum cause_class {
    CLASS_NORMAL,
    CLASS_HANDSHAKE, /* of TLS, WebSocket or the PROXY protocol: it never got ready for SIP */
    CLASS_KEEPALIVE, /* a ping was not answered, or the client owed one */
    CLASS_TIMEOUT,   /* a time limit of the configuration */
    CLASS_LIMIT,     /* a limit of size or number */
    CLASS_PROTOCOL,  /* what came can't be read */
    CLASS_NETWORK,
    CLASS_DRAIN, /* sipward stops */
    CLASS_ERROR,
    CAUSE_CLASSES,
};

enum cause {
    CAUSE_CLIENT_CLOSED,
    CAUSE_RESET,
    CAUSE_UNACKNOWLEDGED,
    CAUSE_NETWORK,

    CAUSE_HANDSHAKE_TIMEOUT,
    CAUSE_HANDSHAKE_CLOSED,
    CAUSE_HANDSHAKE_RESET,
    CAUSE_NOT_TLS,
    CAUSE_TLS_VERSION,
    CAUSE_TLS_CIPHER,
    CAUSE_TLS_UNKNOWN_CA,
    CAUSE_TLS_CERTIFICATE_REFUSED,
    CAUSE_TLS_ALERT,
    CAUSE_CLIENT_CERTIFICATE_MISSING,
    CAUSE_CLIENT_CERTIFICATE_REFUSED,
    CAUSE_TLS_HANDSHAKE,
    CAUSE_PROXY_HEADER,
    CAUSE_PROXY_HEADER_TIMEOUT,
    CAUSE_PROXY_SENDER,
    CAUSE_UPGRADE_REFUSED,
    CAUSE_UPGRADE_TIMEOUT,

    CAUSE_PING_MISSED,
    CAUSE_FLOW_TIMER,

    CAUSE_FIRST_MESSAGE_TIMEOUT,
    CAUSE_MESSAGE_TIMEOUT,
    CAUSE_IDLE,

    CAUSE_CONNECTION_LIMIT,
    CAUSE_FLOW_LIMIT,
    CAUSE_MESSAGE_TOO_LARGE,
    CAUSE_SLOW_READER,

    CAUSE_FRAMING,
    CAUSE_WEBSOCKET,
    CAUSE_NOT_SIP,
    CAUSE_TLS_BROKEN,

    CAUSE_DRAINING,
    CAUSE_STOPPING,
    CAUSE_NO_MEMORY,
    CAUSE_SYSTEM,
    CAUSES,
};

struct cause_row {
    const char *name; /* "ping-missed": of metrics and the API, never changed */
    enum cause_class class;
    enum cause_by by;
    const char *words; /* "ping missed": for people, where nothing more is known */
};

const struct cause_row *cause_row(enum cause cause);
const char *cause_class_name(enum cause_class class); /* "keepalive" */
const char *cause_by_name(enum cause_by by);          /* "client" */

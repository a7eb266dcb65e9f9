/* The log: one line an event on standard error, for a person or (log: json) for a machine.
 *
 *   2026-11-23T09:48:00.123Z info  flow opened flow=2.17 peer=192.0.2.7:50123 transport=TLS
 *
 * A line is one write(2). The secret part of flow tokens and the password of a SIP URI are left out
 * wherever they stand (X5). Messages are never logged above debug level; log_message() takes the
 * values of Authorization and Proxy-Authorization and media keys out first. Threads: all functions
 * may be called from any thread. */
#pragma once

#include <stdbool.h>

#include "proxy/str.h"

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

struct log_field {
    const char *key; /* as deploy/README.md lists them: flow, call-id, peer, reason, status, ... */
    enum { LOG_FIELD_END, LOG_FIELD_STR, LOG_FIELD_INT } kind;
    struct str text;
    int64_t number;
};

#define LOG_TEXT(name, s) ((struct log_field){.key = (name), .kind = LOG_FIELD_STR, .text = (s)})
#define LOG_NUMBER(name, n)                                                                        \
    ((struct log_field){.key = (name), .kind = LOG_FIELD_INT, .number = (n)})

/* log_event(LOG_INFO, "flow opened", LOG_TEXT("peer", peer), LOG_NUMBER("port", 5061)); */
#define log_event(level, what, ...)                                                                \
    do {                                                                                           \
        if (log_enabled(level))                                                                    \
            log_write(level, what, (const struct log_field[]){__VA_ARGS__ __VA_OPT__(, ){0}});     \
    } while (0)

void log_open(enum log_level level, bool json); /* before it: text, at info; again: as it says */
bool log_enabled(enum log_level level);
void log_write(enum log_level level, const char *what, const struct log_field *fields);
/* A whole message at debug level: "received" or "sent", where, and its text. */
void log_message(const char *what, struct str flow_or_address, struct str message);

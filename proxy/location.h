/* The location service: who is where (RFC 3261 10.3, RFC 3327, RFC 5626 6; rules S1, S2, S5).
 *
 * An AOR is a user of the file; it has at most conf->registrar.max_bindings bindings. Where one
 * more comes, the one that was refreshed longest ago gives way: it most likely is a dead
 * connection of a phone that has a new one, and a phone is not to be locked out by its own past.
 *
 * Ownership: an AOR is counted, and lives at least as long as its user is one. A binding lives
 *            until it is removed, which any call below and the timers may do; its `id` is never
 *            used again. The configuration is borrowed until another one is taken.
 * Threads:   one loop's, no locks.
 * Units:     milliseconds of the loop clock; seconds where a name says _s. */
#pragma once

#include "conf/conf.h"
#include "proxy/str.h"
#include "proxy/timer.h"
#include "proxy/token.h"
#include "proxy/value.h"

enum {
    BINDING_PATHS_MAX = 16,
    BINDING_BYTES_MAX = 8192, /* all text of a binding: Contact, Path, Call-ID */
};

struct location;

struct binding {
    struct binding *next; /* the most recently refreshed comes first */
    struct aor *aor;
    struct timer expiry;
    uint64_t id;
    uint64_t expires_at;
    struct sip_uri uri;  /* of the Contact; uri.text: as spelled */
    struct str params;   /* header parameters as spelled, without expires */
    struct str instance; /* of +sip.instance, p NULL: none */
    uint64_t reg_id;     /* 0: none */
    bool has_flow;       /* of this edge, named by its Path or masked Contact */
    uint8_t flow[FLOW_ID_LEN];
    struct binding *flow_prev, *flow_next; /* in a list of location.c */
    struct str call_id;
    uint32_t cseq;
    struct str paths[BINDING_PATHS_MAX];
    unsigned path_count;
    char text[]; /* what the strings above borrow from */
};

struct aor {
    unsigned references;
    const struct conf_user *user; /* NULL: it is a user no more, and has no bindings */
    struct location *location;
    struct binding *bindings;
    unsigned count;
};

struct location_options {
    const struct conf *conf;
    struct timers *timers;
    /* A binding was removed, and is about to be freed: "expired", "flow gone", "user removed". */
    void (*ended)(void *context, const struct binding *binding, const char *why);
    void *context;
};

int location_create(const struct location_options *options, struct location **out); /* -ENOMEM */
void location_destroy(struct location **location);
size_t location_bindings(const struct location *location); /* of all users */
/* The users of another configuration: prepared, which can fail (-ENOMEM), then taken. Who stays one
 * keeps the bindings. */
int location_prepare(struct location *location, const struct conf *conf);
void location_take(struct location *location, const struct conf *conf); /* what was prepared */
struct aor *aor_ref(struct aor *aor);
void aor_unref(struct aor **aor); /* a NULL *aor is fine */

/* NULL: no such user. Escapes of the URI's user part must be gone: location_user(). */
struct aor *location_find(const struct location *location, struct str user);
/* User part of a URI with its escapes undone. p NULL: arena full. */
struct str location_user(struct arena *arena, const struct sip_uri *uri);

/* One Contact of a REGISTER. */
struct contact_change {
    struct sip_uri uri;
    struct str params; /* without expires */
    struct str instance;
    uint64_t reg_id;
    unsigned expires_s; /* 0: remove */
    bool has_flow;
    uint8_t flow[FLOW_ID_LEN];
};

struct location_update {
    struct str call_id;
    uint32_t cseq;
    struct str paths[BINDING_PATHS_MAX];
    unsigned path_count;
    const struct contact_change *changes;
    unsigned change_count;
    /* what came of it */
    unsigned added, refreshed, removed, replaced;
};

/* All changes or none. A change that is older than its binding refuses all; one that the binding
 * has seen already changes nothing (RFC 3261 10.3 step 7). -ESTALE: older. -ENOSPC: more contacts
 * than an AOR may have. -EMSGSIZE: too much text. -ENOMEM. */
int location_update(struct aor *aor, struct location_update *update, uint64_t now);
/* All of them, as "*" asks. -ESTALE: one is newer, and nothing is removed. */
int location_clear(struct aor *aor, struct location_update *update);
/* The flow behind binding `id` is gone. true: it was still there. */
bool location_remove(struct aor *aor, uint64_t id);
/* A flow is gone, and with it all bindings that need it (T6). */
void location_flow_gone(struct location *location, const uint8_t flow[FLOW_ID_LEN]);

/* Do two URIs name the same contact? RFC 3261 19.1.4: the user with its case, host and scheme
 * without, the port as written; a parameter that both have must be equal, and transport, user,
 * ttl, method and maddr must be in both or none. Header parts are compared as text. */
bool location_uri_equal(const struct sip_uri *a, const struct sip_uri *b);

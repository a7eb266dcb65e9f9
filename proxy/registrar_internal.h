/* What the files of the embedded registrar share: registrar.c (receives, who may do what),
 * register.c (REGISTER) and fork.c (calls to the bindings of an AOR). */
#pragma once

#include "proxy/digest.h"
#include "proxy/location.h"
#include "proxy/registrar.h"
#include "proxy/transaction.h"

#define REGISTRAR_HOST STR("registrar.invalid") /* sent-by of our Via */
#define EDGE_HOST STR("core.invalid")           /* the edge's core URI: masked Contacts are there */

enum {
    LOOP_SIZE = 17, /* 16 hex digits and a NUL */
    FORK_BUCKETS = 1024,
};

struct fork;

struct registrar {
    struct registrar_options options;
    struct location *location;
    struct digest *digest;
    struct transactions *transactions;
    uint64_t loop_seed;
    struct arena arena; /* values of the request that is being looked at */
    struct buf extra;   /* header lines of our answer to it */
    struct buf out;     /* a message being printed */
    struct sip_msg message, branch;
    struct fork *forks[FORK_BUCKETS]; /* by server transaction */
};

extern const struct hop edge_hop;

/* ---- registrar.c ---- */

/* An answer of our own. Its header lines are in registrar->extra. */
struct answer {
    int status; /* 0: none, the request has been forwarded */
    const char *reason;
};

#define ANSWER(status, reason) ((struct answer){status, reason})

bool host_is_ours(const struct registrar *registrar, struct str host);
/* Option tags of header `id` that are not `known`: into an Unsupported header (V6). */
bool options_unsupported(struct registrar *registrar, const struct sip_msg *request,
                         enum header_id id, const struct str *known, size_t known_count);
/* Who sends this? `claimed` is the user that it says it is, for the challenge. Status 0: *out is
 * authenticated, and the credentials are in header *index (S3). */
struct answer authenticate(struct registrar *registrar, const struct sip_msg *request,
                           struct str claimed, uint64_t now, struct aor **out, unsigned *index);
/* Log that somebody was refused. `user` is who it claims to be. */
void refused_log(const struct sip_msg *request, struct str user, const char *reason);

/* ---- register.c ---- */

struct answer register_handle(struct registrar *registrar, const struct sip_msg *request,
                              const struct sip_uri *target, uint64_t now);

/* ---- fork.c ---- */

/* For every server transaction of the registrar; their owner is the registrar. */
extern const struct transaction_user fork_server_user;

/* Forward a request, to be answered by `server`: to the bindings of `aor` along their Path, or (aor
 * NULL) to the edge as it stands. Max-Forwards, credentials and our own Route are dealt with
 * already. Returns 0, or a status to answer with. */
int fork_start(struct registrar *registrar, struct sip_msg *request, struct aor *aor,
               struct server_transaction *server, const char loop[LOOP_SIZE], uint64_t now);
/* The INVITE of `server` was cancelled (T4). */
void fork_cancel(struct registrar *registrar, const struct server_transaction *server,
                 uint64_t now);
void forks_destroy(struct registrar *registrar);

/* What the files of the embedded registrar share: registrar.c (receives, REGISTER, who may do
 * what) and fork.c (calls to the bindings of an AOR). */
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

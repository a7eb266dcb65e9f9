/* What forward.c, dialog.c and failover.c share: a request on its way. */
#pragma once

#include "proxy/internal.h"

enum { NO_BACKEND = -1, CALL_ID_KEPT = 64 };

/* A request on its way: one server transaction, one client transaction (or none, where sipward
 * answers itself). Freed when both have ended, or the client one only absorbs what comes again. */
struct forward {
    /* First what is read when it ends: by then it may have left the cache. */
    struct proxy *proxy;
    struct server_transaction *server;         /* NULL: ended */
    struct client_transaction *client;         /* NULL: ended */
    struct forward *prev, *next;               /* of the proxy */
    struct forward *origin_prev, *origin_next; /* of from.flow */
    struct hop from, to;
    enum sip_method method;
    bool cancelled;                  /* by the client, or because it is gone */
    bool expired;                    /* timer C fired */
    bool kept;                       /* answered: among the kept ones of from.flow */
    bool outbound;                   /* a REGISTER that asked for RFC 5626 */
    bool opens;                      /* a request outside of dialogs */
    bool moved;                      /* it is not with the first backend any more (B3) */
    bool left;                       /* it is for one that was given up, and has no client (B3) */
    struct tries *tries;             /* NULL: it goes nowhere else */
    struct registering *registering; /* what it changes; NULL: nothing, what is known, or unknown */
    struct timer timer_c;
    uint64_t registering_key;    /* of a REGISTER; 0: it changes nothing */
    uint64_t asked_at;           /* when its backend was; 0: that has said something */
    int slot;                    /* of its backend; NO_BACKEND: where it went was fixed */
    unsigned record_route_count; /* as it was sent */
    uint64_t record_routes;      /* and who stands in them */
    uint64_t dialog;             /* BYE: the one it ends; INVITE: it began last */
    uint64_t ended;              /* To tag of the dialog that we hung up last (T6) */
    struct forward *target_prev, *target_next; /* of to.flow */
    char call_id[CALL_ID_KEPT];
};

/* What was decided while memory ran out may be wrong, a refusal as well as a way. */
static inline enum refusal unless_no_memory(const struct proxy *proxy, enum refusal refusal)
{
    return proxy->arena.no_memory ? REFUSE_NO_ROOM : refusal;
}

/* ---- forward.c ---- */

/* One without transactions, from nobody to nowhere. NULL: out of memory. */
struct forward *forward_new(struct proxy *proxy, enum sip_method method);
void forward_free(struct forward *forward);
/* What the request's sender is told by sipward itself. */
void forward_answer(struct forward *forward, enum refusal refusal, uint64_t now);
/* Rewrite and send what has been decided (16.6). */
enum refusal forward_send(struct forward *forward, struct sip_msg *request,
                          const struct target *target, uint64_t now);

bool forward_unanswered(const struct forward *forward); /* its sender waits for a final response */

/* ---- dialog.c ---- */

void dialog_asked(struct forward *forward, const struct sip_msg *request); /* it is sent on */
/* The final response to BYE, whether it passes or not; 408: there is none. Others are ignored. */
void dialog_bye_answered(struct forward *forward, int status);
/* A response passes: a 2xx begins a dialog, or tells of one that this flow did not have, as behind
 * a reconnect; 481 says that there is none. */
void dialog_answered(struct forward *forward, const struct sip_msg *response);

/* ---- failover.c ---- */

/* Keep what a second try needs, if there can be one. Without memory for it there is one try. */
void tries_begin(struct forward *forward, const struct target *target, uint64_t now);
void tries_end(struct forward *forward); /* it goes nowhere else */
/* It was sent. A try is limited in time if there can be another one. */
void try_start(struct forward *forward, uint64_t now);
/* Something came from its backend, which so lives and has the request. */
void backend_heard(struct forward *forward, uint64_t now);
/* To the next backend. true: it went there, or has its answer. The message at hand is lost then. */
bool forward_move(struct forward *forward, const char *reason, uint64_t now);
/* 503: another backend is asked (RFC 3261 21.5.4). Of several that were asked in vain the client
 * hears by one answer of ours. false: the response is to be passed on. */
bool overload_answer(struct forward *forward, const struct sip_msg *response, uint64_t now);

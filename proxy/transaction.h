/* Transactions: server and client side of RFC 3261 17, with RFC 6026's Accepted state (rules T).
 *
 * This layer matches, absorbs and retransmits. It doesn't know what a proxy is: the user above
 * (forward.c for the edge, registrar.c for the embedded registrar) creates transactions and is
 * called back. One user request is one server transaction and one client transaction or more.
 *
 * Ownership: transactions belong to their table and end by themselves; user->server_ended() or
 *            user->client_ended() is the last call about one, and its pointer is dead after it.
 * Room:      what is refused where the table is full is what would be one more open one, without a
 *            final response. Those that are answered, and only stay for what comes again, are given
 *            up before: as if their timer had fired, the oldest first, those of INVITE last. That
 *            costs: a request that comes again is a new one (of datagrams, within 32 s); a response
 *            that does is a stray; a non-2xx to INVITE is not sent again until its ACK, or gets no
 *            further ACK, and that ACK goes on like one for a 2xx; a 2xx that comes again, as its
 *            ACK was lost, doesn't pass, and its call ends.
 * Threads:   one worker's, no locks.
 * Units:     milliseconds of the loop clock.
 * Errors:    0, or a negative errno value named at the function. */
#pragma once

#include "proxy/core.h"
#include "proxy/counters.h"
#include "proxy/flow.h"
#include "proxy/message.h"
#include "proxy/timer.h"

/* Where a message came from or goes to: a flow (access side), or else a core address. */
struct hop {
    struct flow *flow; /* NULL: core side */
    struct core_addr core;
};

static inline enum side hop_side(const struct hop *hop)
{
    return hop->flow ? SIDE_ACCESS : SIDE_CORE;
}

static inline bool hop_eq(const struct hop *a, const struct hop *b)
{
    return a->flow == b->flow && (a->flow || core_addr_eq(&a->core, &b->core));
}

/* RFC 3261 17.1.1.1 and table 4. Timers A, B, E, F, G, H, I, J, K follow from these. */
enum {
    TIMER_T1_MS = 500,
    TIMER_T2_MS = 4000,
    TIMER_T4_MS = 5000,
    TIMER_D_MS = 32000,
    TIMER_64_T1_MS = 64 * TIMER_T1_MS, /* B, F, H, J, L, M */
    /* J and K, where they are not zero, are over up to so much later, all at once that have come to
     * their end meanwhile: an idle loop that wakes up for each costs more than they do. */
    TIMER_SLACK_MS = 200,
};

struct transactions;
struct server_transaction;
struct client_transaction;

struct transaction_user {
    /* A response for the user: provisional or final, each final once, but every 2xx to INVITE
     * (T3). ACK for a non-2xx has been sent already. `response` is the scanned one, with the Via
     * of this element still on top. It may be changed. */
    void (*response)(void *owner, struct client_transaction *client, struct sip_msg *response,
                     uint64_t now);
    /* No final response will come. -ETIMEDOUT: timer B or F, or 64*T1 after CANCEL. -EPIPE: the hop
     * is gone or can't be sent to. -ECONNREFUSED: nobody listens there. -ENOMEM. client_ended()
     * follows. */
    void (*client_failed)(void *owner, struct client_transaction *client, int err, uint64_t now);
    void (*client_ended)(void *owner, struct client_transaction *client, uint64_t now);
    void (*server_ended)(void *owner, struct server_transaction *server, uint64_t now);
};

struct transactions_options {
    uint8_t worker;        /* goes into every branch, for core_owner() */
    struct timers *timers; /* borrowed */
    size_t max;            /* server and client transactions each (limits.transactions) */
    /* Bytes of one message, to be sent now. Returns 0 or -EPIPE, -ENOBUFS, ... Towards the core
     * side -ENOBUFS, -EAGAIN, -EINTR and -ENOMEM count as a message lost on the way. */
    int (*send)(void *context, const struct hop *to, struct str bytes);
    void *context;
};

/* -ENOMEM. -EIO: no random numbers. */
int transactions_create(const struct transactions_options *options, struct transactions **out);
void transactions_destroy(struct transactions **transactions); /* no callbacks */
void transactions_max_set(struct transactions *transactions, size_t max);
size_t transactions_count(const struct transactions *transactions);      /* both kinds */
bool transactions_crowded(const struct transactions *transactions);      /* more than half full */
uint64_t transactions_given_up(const struct transactions *transactions); /* for room, ever */
const struct retransmissions *transactions_repeated(const struct transactions *transactions);
/* By a secret of this run: nobody outside can make two that are the same. */
uint64_t transactions_hash(const struct transactions *transactions, struct str bytes);

/* ---- server transactions ---- */

/* First look at a request. true: it belongs to a server transaction that exists and has been dealt
 * with: a retransmission got the last response again, an ACK for a non-2xx was absorbed (T3, T8).
 * false: it is new (a first CANCEL too), or the ACK for a 2xx.
 * The key is RFC 3261 17.2.3's, and the flow or the core side's IP address: one client never meets
 * another's transaction. It is made from what the scan read, and from `uri` for RFC 2543 peers:
 * look and create before rules change that one. */
bool transactions_absorb(struct transactions *transactions, const struct sip_msg *request,
                         const struct hop *from, uint64_t now);
/* The INVITE transaction that a CANCEL is for (RFC 3261 9.2), NULL: none. */
struct server_transaction *transactions_cancelled(struct transactions *transactions,
                                                  const struct sip_msg *cancel,
                                                  const struct hop *from);

/* For the request that transactions_absorb() found to be new, and looked at last. Never for ACK.
 * Its top Via already has received and rport (R1): what is needed for responses is copied. Others
 * may end in it. -ENOMEM, -ENOSPC: so many are open. */
int server_transaction_create(struct transactions *transactions, const struct sip_msg *request,
                              const struct hop *from, const struct transaction_user *user,
                              void *owner, uint64_t now, struct server_transaction **out);
/* Send a response that was printed by the user, and keep it if it may have to be sent again.
 * After a final one only 2xx to INVITE are still sent; others are ignored. */
void server_transaction_send(struct server_transaction *server, int status, struct str response,
                             uint64_t now);
/* A response of this element itself. reason NULL: the standard phrase. extra: header lines with
 * CRLF, or empty. The To tag is the same in all of a transaction's. */
void server_transaction_reply(struct server_transaction *server, int status, const char *reason,
                              struct str extra, uint64_t now);
/* Does a response from elsewhere answer this request? The branch of its top Via (ours is off
 * already), its Call-ID and CSeq are the request's (RFC 3261 8.2.6.2): with others it would end up
 * in another transaction of who gets it. */
bool server_transaction_answered_by(const struct server_transaction *server,
                                    const struct sip_msg *response);
void *server_transaction_owner(const struct server_transaction *server);
int server_transaction_status(const struct server_transaction *server); /* last sent; 0: none */
/* End without a word, now, without server_ended() (T5, T6: the client is gone or has given up).
 * Nothing that goes to a flow may outlive it: flow_close() drops all of its transactions. */
void server_transaction_drop(struct server_transaction *server);

/* ---- client transactions ---- */

enum { TRANSACTION_ID_SIZE = 17 };

/* Reserve one, so that its id can be printed into the branch of the request that it will send.
 * Others may end in it, also one whose response is being told. -ENOMEM, -ENOSPC. */
int client_transaction_create(struct transactions *transactions, const struct hop *to,
                              const struct transaction_user *user, void *owner, uint64_t now,
                              struct client_transaction **out);
/* 16 hex digits: 2 of the worker, 6 of the slot, 8 of its generation. The branch is
 * "z9hG4bK" + id + "." + anything (M3). */
void client_transaction_id(const struct client_transaction *client, char id[TRANSACTION_ID_SIZE]);
/* Go another way than it was created for: before it is sent. */
void client_transaction_hop_set(struct client_transaction *client, const struct hop *to);
/* A request as it was printed. */
struct client_request {
    enum sip_method method;
    struct str bytes;
    struct str branch; /* of its top Via: that one */
    size_t body_len;
};
/* Send the request; a copy is kept as long as it is needed.
 * A send error is reported by client_failed() from the next timers_run(), never from inside.
 * hop.core.or_udp: what TCP can't take goes by UDP at once, with a Via that says so, and the hop
 * becomes that. */
void client_transaction_send(struct client_transaction *client,
                             const struct client_request *request, uint64_t now);
/* CANCEL it: now, or when the first provisional response comes (T4). INVITE only, else nothing.
 * Its own final response still comes (487), or client_failed(-ETIMEDOUT) 64*T1 after the CANCEL. */
void client_transaction_cancel(struct client_transaction *client, uint64_t now);
/* The same, with header lines of the user's in it, each with CRLF: Reason (RFC 3326 2). */
void client_transaction_cancel_with(struct client_transaction *client, struct str headers,
                                    uint64_t now);
enum client_state {
    CLIENT_CALLING,    /* or Trying: nothing came */
    CLIENT_PROCEEDING, /* a provisional came */
    CLIENT_COMPLETED,  /* final */
    CLIENT_ACCEPTED,   /* 2xx to INVITE (RFC 6026) */
};
enum client_state client_transaction_state(const struct client_transaction *client);
const struct hop *client_transaction_hop(const struct client_transaction *client);
/* End without a word, now, without client_ended(). Fine in any callback about it. */
void client_transaction_drop(struct client_transaction *client);

/* Client transactions that only absorb what comes again, and whose user has left them: of one flow,
 * say, in the order of their ends. All zero: none. */
struct client_group {
    struct client_transaction *first, *last; /* may be dropped */
    unsigned count;
};

/* Its user is done with it, where it only absorbs what comes again: nothing is told of it any more,
 * not even its end. Until then it is in `group`; NULL: in none. false: it may still tell something.
 */
bool client_transaction_leave(struct client_transaction *client, struct client_group *group);
void client_group_forget(struct client_group *group);              /* its members stay, in none */
size_t transactions_left(const struct transactions *transactions); /* by their users */

/* What it may still bring is nobody's wish, but is not forgotten: it goes to `owner` from here on,
 * in any callback about it too. An INVITE is not repeated any more, is cancelled if or when it has
 * a provisional response, and ends 64*T1 from now without client_failed(); a 2xx is told. false:
 * nothing can come of it, or there is no memory to cancel it from: drop it. */
bool client_transaction_give_up(struct client_transaction *client, void *owner, uint64_t now);

/* Is this the branch of a request to that core address which waits for its final response? */
bool transactions_wait(const struct transactions *transactions, struct str branch,
                       const struct core_addr *to);

/* The connection to a core address is gone, or can't be made: nothing comes back by it. Or nobody
 * listens at a UDP one. Requests without a final response fail (-EPIPE, UDP: -ECONNREFUSED; told as
 * a send error is), but those go by UDP that may (or_udp) and had no response at all; returns how
 * many. Where it rang, a CANCEL follows (by a new connection): if the backend lives, nobody goes on
 * ringing for a call that is over. */
unsigned transactions_core_lost(struct transactions *transactions, const struct core_addr *to,
                                uint64_t now);

/* A response. 0: it belonged to a client transaction (all of its top branch came back, RFC 3261
 * 17.1.3) and came from where the request went to, and the user was told or it was absorbed.
 * -ENOENT: it is nobody's: drop it and count it (V5). */
int transactions_response(struct transactions *transactions, struct sip_msg *response,
                          const struct hop *from, uint64_t now);

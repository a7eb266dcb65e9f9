/* What transaction.c, server_transaction.c and client_transaction.c share, and nobody else sees. */
#pragma once

#include <stddef.h>

#include <utlist.h>
#include <xxhash.h>

#include "proxy/pool.h"
#include "proxy/transaction.h"

#define CONTAINER_OF(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

enum {
    CLIENT_SLOTS_MAX = 1 << 24, /* six hex digits in the branch */
    NO_SLOT = UINT32_MAX,
    RANDOM_COUNT = 256, /* asked of the system at a time: two for a request */
    TEXT_POOLED = 1344, /* a message that goes by UDP fits in (T7), ordinary ones do anyway */
};

/* A message that may have to be sent again. p NULL: none. */
struct kept_text {
    char *p;
    size_t len;
    bool pooled;
};

/* Those that are answered, and stay for what comes again: each kind in the order of their ends, and
 * given up in this order. What comes again for INVITE needs more than to be absorbed: an ACK, the
 * way of a 2xx. */
enum kept_kind { KEPT_OTHERS, KEPT_INVITES, KEPT_KINDS };

/* Where a client transaction stands in the table: what its branch names. The generation tells it
 * from those that had the slot before, in this run and in earlier ones. */
struct client_slot {
    struct client_transaction *client; /* NULL: free */
    uint32_t generation;
    uint32_t next_free;
};

struct transactions {
    struct transactions_options options;
    struct retransmissions repeated;

    struct server_transaction **servers; /* chains, by the hash of the key */
    size_t server_chains, server_count;
    struct server_transaction *kept_servers[KEPT_KINDS];
    struct client_transaction *kept_clients[KEPT_KINDS];
    struct timer servers_end, clients_end; /* of the first of KEPT_OTHERS: J, K */
    uint64_t given_up;

    struct pool server_pool, client_pool, text_pool;

    struct client_slot *slots;
    uint32_t slot_count, first_free;
    size_t client_count, left_count;

    struct buf key;     /* of the server transaction that is looked for */
    uint64_t key_hash;  /* of that */
    bool key_is_new;    /* transactions_absorb() has just looked for it in vain */
    struct buf out;     /* a message in the making */
    struct sip_msg msg; /* a message to be looked at, or to be answered */

    uint8_t secret[XXH3_SECRET_SIZE_MIN]; /* of the hash: against flooding with collisions */
    uint64_t random[RANDOM_COUNT];
    unsigned random_left;
};

/* Whether messages may get lost on the way (RFC 3261 17: "unreliable transport"). On the core side
 * all but TCP: the mailboxes to CORE_EMBEDDED and CORE_SELF are bounded, and drop what doesn't
 * fit. */
static inline bool hop_unreliable(const struct hop *hop)
{
    return !hop->flow && hop->core.kind != CORE_TCP;
}

/* Same flow, or same IP address of the core side. The port is free: a PBX may send from another one
 * than it listens on, and only backends get here at all (R8). So is the transport: a request that
 * could not go by TCP comes again by UDP (RFC 3261 18.1.1), and is the same one. */
bool hop_same_host(const struct hop *a, const struct hop *b);

/* 0, or -EPIPE. What an unreliable hop can't take at the moment counts as lost on the way. */
int hop_send(const struct transactions *transactions, const struct hop *to, struct str bytes);

/* The same for what was sent before: counted. */
int hop_send_again(struct transactions *transactions, const struct hop *to, struct str bytes);

uint64_t transactions_random(struct transactions *transactions);

int text_keep(struct transactions *transactions, struct str bytes,
              struct kept_text *out); /* -ENOMEM */
void text_forget(struct transactions *transactions, struct kept_text *text);

int server_transactions_create(struct transactions *transactions); /* -ENOMEM */
void client_transactions_create(struct transactions *transactions);
void server_transactions_destroy(struct transactions *transactions);
void client_transactions_destroy(struct transactions *transactions);

/* The clients of the bench as SIP sees them: what they ask, how they judge the answers, and what
 * they answer when they are called.
 *
 * A client has at most one request of its own open, and any number of calls that it holds. Every
 * response is checked: our Via alone, its branch, Call-ID, CSeq, tags, Contact or body. What is
 * wrong with one is a mistake, and so is a request that reaches the wrong client.
 * Threads: one. Units: nanoseconds of the monotonic clock. */
#pragma once

#include "histogram.h"
#include "wire.h"

enum request { REQUEST_REGISTER, REQUEST_OPTIONS, REQUEST_INVITE, REQUEST_BYE, REQUEST_KINDS };

enum { ID_LEN = 19, SDP_MAX = 4096 };

struct client {
    struct wire wire; /* first: what epoll tells of is a client */
    struct crowd *crowd;
    unsigned number; /* its user is "u" and this */
    char local[40];  /* of its Via and Contact */
    struct {
        bool open;
        enum request what;
        uint64_t since;          /* when it was sent, or should have been */
        char id[ID_LEN + 1];     /* of its branch */
        char dialog[ID_LEN + 1]; /* of its Call-ID and tag */
        unsigned cseq;
    } pending;
    char *dialog; /* of a call that is on: To, Contact URI and Route lines as it needs them */
    uint32_t sequence, registered;
    uint32_t held, hold_from; /* calls that ring until they are cancelled */
    uint64_t begun, retry_at; /* its connection: when it began, when it is tried again */
    bool is_shaker;           /* it only makes connections */
    bool is_ready;            /* its connection is what it should become */
};

struct counts {
    struct histogram times[REQUEST_KINDS];
    uint64_t calls;
    uint64_t called, acked;  /* by the clients that were called */
    uint64_t ringing, ended; /* of those held */
    uint64_t repeated;       /* responses to an INVITE that had its 2xx: somebody sent it twice */
    uint64_t mistakes;
    char mistake[256]; /* the first one */
};

struct crowd {
    struct wire_kind kind;
    const char *via, *transport; /* "TLS"; of a Contact: "tls" */
    char salt[5];
    char offer[SDP_MAX], answer[SDP_MAX / 4];
    struct counts counts;
    void (*finished)(struct client *client); /* its request has ended, well or badly */
};

uint64_t now_ns(void);
void crowd_init(struct crowd *crowd, const char *domain, const char *via, const char *transport);
void client_init(struct client *client, struct crowd *crowd, unsigned number);
void client_named(struct client *client); /* its socket has an address now */

void client_register(struct client *client, uint64_t since);
void client_options(struct client *client, uint64_t since);
void client_call(struct client *client, unsigned callee, uint64_t since); /* INVITE, ACK, BYE */
void client_hold(struct client *client);                                  /* one more */
void client_release(struct client *client);                               /* one less */
void client_message(struct wire *wire, const struct sip *sip);
/* Its connection is gone, or the request took too long. */
void client_failed(struct client *client, const char *why);
void client_reset(struct client *client);

void mistake(struct crowd *crowd, const struct client *client, const char *what,
             struct text detail);

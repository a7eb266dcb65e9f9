/* What the files of the proxy core share: proxy.c (in and out), flow.c, route.c (where to),
 * rewrite.c and cross.c (how it changes), forward.c (transactions and responses). */
#pragma once

#include "proxy/dialog.h"
#include "proxy/log.h"
#include "proxy/message.h"
#include "proxy/pool.h"
#include "proxy/proxy.h"
#include "proxy/registered.h"
#include "proxy/text.h"
#include "proxy/token.h"
#include "proxy/transaction.h"
#include "proxy/value.h"

struct forward;

/* What stands for a client's Contact URI towards the core (R6): clients use one over and over. One
 * block. */
struct contact_mask {
    struct str uri, user; /* the client's, and its user part */
    struct str tail;      /* of ours, behind the host: its parameters, ";flow=" and the token */
    struct str token;     /* in there */
    char bytes[];
};

struct flow {
    /* What each message looks at, side by side. */
    struct proxy *proxy;
    const struct flow_transport *transport;
    void *conn;
    uint32_t slot, generation;
    uint64_t messages_in, messages_out;
    uint64_t heard; /* the last bytes of a stream; 0: it is none, its transport pings */
    struct contact_mask *contact;    /* of the URI that it used last; NULL: none */
    struct forward *origins;         /* requests it sent, unanswered */
    struct forward *kept[2];         /* answered, still with transactions; INVITEs are the second */
    struct forward *targets;         /* requests it was sent, still with transactions */
    unsigned open_count, kept_count; /* of those it sent */
    struct client_group absorbing;   /* what is left of others that it sent; older than kept[0] */
    struct registered *registered_aors;
    struct {
        uint64_t at; /* 0: none yet */
        uint16_t status;
        uint8_t method; /* enum sip_method */
    } answer;           /* the last final response that it was sent */
    struct dialogs dialogs;
    char *host;    /* NULL: conf->domain */
    uint16_t port; /* that the client connected to */
    uint16_t peer_port;
    bool registered;                 /* at CORE_EMBEDDED, or tried to */
    struct str peer_address;         /* in `peer`, without brackets */
    char peer[INET6_ADDRSTRLEN + 8]; /* address:port */
    char token[TOKEN_FLOW_LEN + 1];

    char name[FLOW_NAME_SIZE];
    char local[INET6_ADDRSTRLEN + 1]; /* address alone */
    uint64_t silence_max_ms;          /* that it agreed to, with a grace; 0: none */
    struct timer silence;
};

enum { SLOT_NONE = UINT32_MAX };

struct flow_slot {
    struct flow *flow; /* NULL: free */
    uint32_t generation;
    uint32_t next_free;
};

/* Headers that a rule may remove: of most messages one look at it tells that none will be. */
struct header_set {
    uint64_t ids[(HEADER_ID_MAX + 1) / 64]; /* as sip_msg has them */
};

struct proxy {
    struct proxy_options options;
    const struct core_view *core; /* a reference; not the same one in the next call from outside */
    const struct conf *conf;      /* that view's */
    struct header_set crossings[2]; /* by direction, of that configuration */
    struct transactions *transactions;
    struct token_keys *tokens, *next_tokens; /* next: of the configuration to come; NULL: none */
    uint8_t run_key[32];
    struct proxy_counters counters;
    bool draining;
    struct {
        unsigned spread_ms;
        uint64_t until; /* of the loop clock */
    } drain;

    struct flow_slot *slots;
    uint32_t slot_count, slot_size, free_slot;
    unsigned flow_count;
    struct forward *forwards; /* all open ones */
    struct pool forward_pool;
    size_t forward_count;
    size_t dialog_count; /* of all flows */

    char core_host4[CORE_ADDR_TEXT], core_host6[CORE_ADDR_TEXT]; /* "10.0.0.2:5060"; "": none */

    uint64_t no_tcp_until[ENDPOINTS_MAX]; /* TCP failed there: not asked before then (T7) */
    size_t tcp_size;                      /* of the last request that TCP was chosen for */

    struct probes *probes; /* NULL: another worker's */

    struct str received; /* the bytes of the message at hand */
    uint64_t received_at;
    enum sip_framing framing;
    struct sip_msg msg; /* scratch of the message at hand */
    struct arena arena;
    struct buf out;
};

#define CORE_HOST_EMBEDDED "core.invalid"

/* ---- proxy.c ---- */

int proxy_send(struct proxy *proxy, const struct hop *to, struct str bytes);
/* Answer without a transaction. reason NULL: the standard phrase. extra: header lines or empty. */
void proxy_reply(struct proxy *proxy, const struct sip_msg *request, const struct hop *to,
                 int status, const char *reason, struct str extra);
/* The same for a refusal. */
void proxy_refuse(struct proxy *proxy, const struct sip_msg *request, const struct hop *to,
                  enum refusal refusal, struct str extra);
/* Count a refusal that is about to be answered. Returns its status. */
int refusal_count(struct proxy *proxy, enum refusal refusal);
int refusal_status(const struct proxy *proxy, enum refusal refusal);
/* The header lines that go with it: those given, else a 503 says when to come back. */
struct str refusal_headers(int status, struct str extra);
/* Is this the ACK for an INVITE that proxy_reply() answered? */
bool proxy_replied(const struct proxy *proxy, const struct sip_msg *ack);

/* UDP or TCP for a request of that size to an auto: backend, in `to` (T7). true: it changed. */
bool core_transport_choose(struct proxy *proxy, struct hop *to, size_t len, uint64_t now);

/* ---- flow.c ---- */

/* A token that names it. uri: as in struct token, borrowed. */
struct token flow_token(const struct flow *flow, enum token_kind kind, struct str uri);
/* Find the flow that a verified token names. -ENOENT: its connection is gone. */
int flow_find(struct proxy *proxy, const struct token *token, struct flow **out);
/* token_parse(), but what a flow here is named by was signed here: no MAC is computed of it (R7).
 */
int flow_token_read(struct proxy *proxy, struct str text, struct token *out);
/* The client and its registrar agreed on keepalives at least so often (RFC 5626 4.4). A stream that
 * is silent for longer, and a grace, is closed. */
void flow_keepalives_agreed(struct flow *flow, unsigned seconds, uint64_t now);
/* A response went to it. A NULL flow is fine. */
void flow_answered(struct flow *flow, enum sip_method method, int status, uint64_t now);
void flows_destroy(struct proxy *proxy);
/* The configuration was another one: what flows told others about themselves stays as it was. */
void flows_conf_changed(struct proxy *proxy, const struct conf *before);
void flows_sign(struct proxy *proxy); /* their tokens anew: by other keys */
/* limits.transactions_per_connection. In a dialog it is twice that: calls can be ended (X3). */
bool flow_is_full(const struct flow *flow, const struct sip_msg *request);
/* That many of its requests, answered ones too, are remembered. */
bool flow_keeps_enough(const struct flow *flow);

/* ---- route.c ---- */

struct target {
    struct hop hop;
    struct str uri;                  /* Request-URI to send */
    const struct endpoint *endpoint; /* chosen among others (B3); NULL: where it goes is fixed */
    struct str extra;                /* header lines for the answer, where it is refused */
};

/* Where a request goes (RFC 3261 16.4, 16.5; R2, R4, R7). Own Route values are taken off.
 */
enum refusal target_choose(struct proxy *proxy, struct sip_msg *request, const struct hop *from,
                           uint64_t now, struct target *target);
/* The same for one of the edge itself, in a dialog that a client began which is gone (T6). */
enum refusal target_choose_own(struct proxy *proxy, struct sip_msg *request, uint64_t now,
                               struct target *target);
/* The user that a request from the access side is of: what backend_choose() goes by (B3). */
struct str request_user(struct proxy *proxy, const struct sip_msg *request);
/* Host and port of our side that faces `to`, as its URIs and Via name it. */
struct str core_host(const struct proxy *proxy, const struct core_addr *to);

/* ---- cross.c ---- */

void crossings_set(struct proxy *proxy); /* of a configuration that is new */
/* What only one side may say to the other (N5), then the operator's own rules (N6). -ENOMEM. */
int headers_cross(struct proxy *proxy, struct sip_msg *msg, enum conf_direction direction);
/* The client's address, for the core to read, if it is to (N7). -ENOMEM. */
int client_address_add(struct proxy *proxy, struct sip_msg *request, const struct flow *flow);

/* ---- rewrite.c ---- */

/* RFC 3261 18.2.1, RFC 3581: received and rport in the top Via. Sets where responses go. -EINVAL:
 * a Via that can't be read. -ENOMEM. */
int via_received(struct proxy *proxy, struct sip_msg *request, const struct hop *from,
                 struct hop *reply_to);
/* V6, M1, M2, M3, M5. `extra` may become header lines for the answer. */
enum refusal request_check(struct proxy *proxy, struct sip_msg *request, const struct hop *from,
                           struct str *extra);
/* Everything but the Via (RFC 3261 16.6 steps 2 to 6). */
enum refusal request_rewrite(struct proxy *proxy, struct sip_msg *request, const struct hop *from,
                             const struct target *target);
/* Our Via on top (16.6 step 8, M3). */
enum refusal via_push(struct proxy *proxy, struct sip_msg *request, const struct hop *to,
                      const char *id);
/* The branch of that one. */
struct str via_pushed_branch(const struct sip_msg *request);
/* A response on its way back, our Via already off. 0, or -ENOMEM. */
int response_rewrite(struct proxy *proxy, struct sip_msg *response, const struct hop *from,
                     const struct hop *to, bool outbound);

/* ---- forward.c ---- */

/* -EPROTO: its Via is too broken to answer (V5). */
int request_receive(struct proxy *proxy, struct sip_msg *request, const struct hop *from,
                    uint64_t now);
void response_receive(struct proxy *proxy, struct sip_msg *response, const struct hop *from,
                      uint64_t now);
void forwards_flow_closed(struct proxy *proxy, struct flow *flow, uint64_t now); /* T6 */
/* The branch id of an ACK to a 2xx, which has no transaction: slot ffffff is nobody's. The same for
 * the same `key`, as a retransmission has to have. */
void ack_id(const struct proxy *proxy, struct str key, char id[TRANSACTION_ID_SIZE]);
/* Our Via on a request that was rewritten, and all of it into proxy->out. */
enum refusal request_print(struct proxy *proxy, struct sip_msg *request, const struct hop *to,
                           const char *id);
/* The one that it has printed, for its client transaction. */
struct client_request request_printed(const struct proxy *proxy, const struct sip_msg *request);
size_t forwards_unanswered(const struct proxy *proxy);
void forwards_destroy(struct proxy *proxy);

/* ---- drain.c ---- */

/* May this request begin something? `extra` may become header lines for the answer. */
enum refusal drain_check(struct proxy *proxy, const struct sip_msg *request, const struct hop *from,
                         uint64_t now, struct str *extra);

/* ---- dialog.c ---- */

void dialogs_flow_closed(struct flow *flow);

/* ---- hangup.c ---- */

/* A 2xx to an INVITE that nobody wants any more: ACK, so that its sender stops to repeat it, and
 * for the first of a dialog (`bye`) BYE, so that the call ends (T6, B3). `answer` becomes the
 * request. */
void call_hang_up(struct proxy *proxy, struct sip_msg *answer, bool bye, const char *why,
                  uint64_t now);

/* ---- probe.c ---- */

/* What requests tell of a backend, by its slot (B2); changes of its health are logged. */
void backend_answered(struct proxy *proxy, unsigned slot);
void backend_silent(struct proxy *proxy, unsigned slot, uint64_t now);
/* Nobody listens at a core address, or nothing leads there: down at once. */
void backend_refused(struct proxy *proxy, const struct core_addr *addr, int err, uint64_t now);
/* It answered 503: for how long it wants to be left alone (RFC 3261 21.5.4). */
void backend_overloaded(struct proxy *proxy, unsigned slot, const struct sip_msg *response,
                        uint64_t now);
int probes_create(struct proxy *proxy, uint64_t now); /* -ENOMEM */
void probes_conf_changed(struct proxy *proxy);
void probes_destroy(struct proxy *proxy);

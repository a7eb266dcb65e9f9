/* Flow tokens: an opaque, authenticated name for a flow, for URIs (RFC 5626 5.2; rules R5 to R7).
 *
 * Two kinds. A flow token is the user part of our Path and Record-Route URIs. A contact token is
 * the `flow` parameter of a masked Contact, and carries the client's own Contact URI besides, so
 * that any worker can restore it without looking anything up.
 *
 * Bytes, before base64url without padding: version and kind, key id, worker, slot (3), instance
 * (4), generation (4), the Contact's URI, HMAC-SHA-256 cut to 10.
 *
 * Threads: a set of keys belongs to one worker; the same keys on all of them.
 * Errors:  -EBADMSG: looks like a token of ours, but it isn't. -EINVAL: not a token at all. */
#pragma once

#include "proxy/str.h"

enum token_kind { TOKEN_FLOW = 0x11, TOKEN_CONTACT = 0x12 };

enum {
    TOKEN_FLOW_LEN = 32, /* characters of a flow token */
    TOKEN_URI_MAX = 1024,
    TOKEN_TEXT_MAX = TOKEN_FLOW_LEN + TOKEN_URI_MAX * 4 / 3 + 4,
};

struct token {
    enum token_kind kind;
    uint8_t worker;
    uint32_t slot; /* 24 bits */
    uint32_t instance, generation;
    struct str uri; /* TOKEN_CONTACT: what the client wrote */
};

/* Which flow a token names, in bytes: the same for all tokens of a flow. */
enum { FLOW_ID_LEN = 12 };

struct token_keys;

/* The first key signs, all verify. -ENOMEM. */
int token_keys_create(const uint8_t (*keys)[32], unsigned count, struct token_keys **out);
void token_keys_destroy(struct token_keys **keys);

/* Text of a token. p NULL: the URI is too long, or the arena is full. */
struct str token_print(struct token_keys *keys, struct arena *arena, const struct token *token);
/* The slot that it names, whoever made it: for who compares it with the token that the flow in
 * there has. -EINVAL: not a token. */
int token_slot(struct str text, uint32_t *out);
bool token_equals(struct str text, struct str kept); /* in constant time */
/* Read and verify. out->uri is in the arena. */
int token_parse(struct token_keys *keys, struct arena *arena, struct str text, struct token *out);
/* The flow that a token names, without asking whether it is ours: for who trusts its sender. false:
 * not a token. */
bool token_flow_id(struct arena *arena, struct str text, uint8_t id[FLOW_ID_LEN]);

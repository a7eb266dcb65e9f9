/* Digest authentication, the server's side (RFC 7616, RFC 8760, RFC 3261 22; rule S3).
 *
 * Algorithms: MD5 and SHA-256, qop=auth, or none as RFC 2617 allows old clients. Credentials made
 * with either are taken from a user whose password, or whose hash of that kind, is in the file.
 * What is offered is narrower, because of what clients do with two challenges:
 *   - baresip 1.0.0 (libre 1.1.0) gives up when any challenge is not MD5, wherever it stands
 *     (tried);
 *   - JsSIP 3.13 and SIP.js 0.21 see the last challenge only, and know MD5 only (their code);
 *   - Linphone 5.1 takes SHA-256 with MD5 behind it (tried).
 * So one MD5 challenge for a user with a password; SHA-256 is offered to those for whom the file
 * has ha1_sha256, before MD5 where both can be offered, as RFC 8760 2.4 prefers.
 *
 * Nonces hold their time and a MAC, so none has to be kept; the highest count that came with one
 * is, for a while (RFC 7616 3.3: a replay). Wrong passwords are counted for each user name, known
 * or not, so that an answer doesn't tell which names exist; the right password is always taken, so
 * that nobody can lock a user out.
 *
 * Ownership: credentials borrow from the message and the arena.
 * Threads:   one loop's, no locks.
 * Units:     milliseconds of the loop clock. */
#pragma once

#include "conf/conf.h"
#include "proxy/message.h"
#include "proxy/str.h"

struct digest;

enum {
    DIGEST_FAILURES_MAX = 5,         /* wrong in a row: from then on 403 instead of a challenge */
    DIGEST_FAILURE_DECAY_MS = 60000, /* one failure is forgotten each minute */
};

enum digest_algorithm { DIGEST_MD5, DIGEST_SHA256 };

struct digest_credentials {
    enum digest_algorithm algorithm;
    struct str username, nonce, uri, response, cnonce, nc;
    bool qop;       /* qop=auth; else the formula of RFC 2069 */
    unsigned index; /* of the header in its message */
};

enum digest_result {
    DIGEST_OK,
    DIGEST_STALE,   /* the password is right; the nonce is too old, not ours, or its count was used:
                       challenge again */
    DIGEST_WRONG,   /* challenge again */
    DIGEST_REFUSED, /* wrong too often: 403 */
};

/* The configuration is borrowed. -ENOMEM, -EIO: no randomness. */
int digest_create(const struct conf *conf, struct digest **out);
void digest_conf_set(struct digest *digest, const struct conf *conf); /* borrowed */
void digest_destroy(struct digest **digest);

/* Find credentials for our realm in header `id` (Authorization or Proxy-Authorization).
 * false: none that can be read, or of an algorithm that was not offered. */
bool digest_credentials(const struct digest *digest, const struct sip_msg *request,
                        enum header_id id, struct arena *arena, struct digest_credentials *out);
/* Judge them. `user` is the one that they name, NULL: there is none. */
enum digest_result digest_verify(struct digest *digest, const struct sip_msg *request,
                                 const struct digest_credentials *credentials,
                                 const struct conf_user *user, struct arena *arena, uint64_t now);
/* Header lines of challenges, WWW-Authenticate or Proxy-Authenticate, for `user` (NULL: unknown,
 * which looks like a user with a password). */
void digest_challenge(struct digest *digest, enum header_id id, const struct conf_user *user,
                      bool stale, uint64_t now, struct buf *out);

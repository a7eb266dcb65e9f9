/* The embedded registrar: registrar and proxy for the users of the file (rules S; RFC 3261 10,
 * RFC 3327, RFC 5626). A backend like any other, reached without a socket: it gets the bytes that
 * the edge sends to CORE_EMBEDDED, and what it sends reaches the edge like a datagram from there.
 *
 * Ownership: bytes are borrowed during a call and may be changed in place.
 * Threads:   one loop's, no locks.
 * Units:     milliseconds of the loop clock; seconds in SIP.
 * Errors:    every mistake in a message is a SIP response. */
#pragma once

#include "conf/conf.h"
#include "proxy/str.h"
#include "proxy/timer.h"

struct registrar;

struct registrar_options {
    const struct conf *conf; /* domain, aliases, users, registrar; borrowed, see registrar_take() */
    struct timers *timers;
    void (*send)(void *context, struct str bytes); /* to the edge */
    void *context;
};

int registrar_create(const struct registrar_options *options, struct registrar **out);
void registrar_destroy(struct registrar **registrar);
/* Another configuration: prepared, which can fail (-ENOMEM), then taken. Its users keep their
 * bindings; those of who is none any more end. */
int registrar_prepare(struct registrar *registrar, const struct conf *conf);
void registrar_take(struct registrar *registrar, const struct conf *conf); /* the one prepared */
size_t registrar_bindings(const struct registrar *registrar);
size_t registrar_transactions(const struct registrar *registrar);
uint64_t registrar_given_up(const struct registrar *registrar); /* of them, before their time */
void registrar_receive(struct registrar *registrar, char *bytes, size_t len, uint64_t now);
/* The flow that this token names is gone: its bindings lead nowhere (T6, RFC 5626 5.3). */
void registrar_flow_gone(struct registrar *registrar, struct str token);

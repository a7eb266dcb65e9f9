/* The AORs that a client registered through its flow, as it and its registrar said: for people who
 * ask who is connected. Nothing is routed by it.
 *
 * A binding is kept from the 2xx to its REGISTER on, until one that ends it, until it expires, or
 * until the flow is gone. Who registers a contact and ends another one stays registered.
 *
 * Bounds:    REGISTERED_MAX for a flow; of more the oldest is forgotten.
 * Ownership: a flow's list; NULL is empty. Without memory a binding isn't known.
 * Threads:   one worker's.
 * Units:     seconds and milliseconds of the loop clock. */
#pragma once

#include "proxy/message.h"

enum { REGISTERED_MAX = 32, REGISTERED_AOR_MAX = 255 };

struct registered {
    struct registered *next; /* older */
    uint32_t contact;        /* a hash */
    uint32_t until_s;
    uint32_t asked_s, granted_s;
    uint64_t key,
        answer; /* hashes of the REGISTER that is all about this one, 0: none, and its 2xx */
    char aor[]; /* "sip:alice@sip.example.com" */
};

/* What a REGISTER asks for, until its answer is there. free() it. */
struct registering;

/* A number for what the request says, as the client sent it; 0: it changes nothing. */
uint64_t registering_key(const struct sip_msg *request);
/* The same was said, and granted, before: it needs not be read. */
bool registered_has(struct registered *list, uint64_t key);
/* NULL: it changes nothing, or there is no memory. */
struct registering *registering_read(const struct sip_msg *request);
/* The 2xx as the client gets it. `registering` NULL: to what was said before. */
void registering_done(const struct registering *registering, uint64_t key, struct registered **list,
                      const struct sip_msg *response, uint64_t now);
/* The first that has not expired, at or behind `from`. The same AOR may come again, for another
 * contact. */
const struct registered *registered_next(const struct registered *from, uint64_t now);
void registered_clear(struct registered **list);

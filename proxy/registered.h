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
    char aor[]; /* "sip:alice@sip.example.com" */
};

/* What a REGISTER asks for, until its answer is there. free() it. */
struct registering;

/* The request as the client sent it. NULL: it changes nothing, or there is no memory. */
struct registering *registering_read(const struct sip_msg *request);
/* The 2xx as the client gets it. */
void registering_done(const struct registering *registering, struct registered **list,
                      const struct sip_msg *response, uint64_t now);
/* The first that has not expired, at or behind `from`. The same AOR may come again, for another
 * contact. */
const struct registered *registered_next(const struct registered *from, uint64_t now);
void registered_clear(struct registered **list);

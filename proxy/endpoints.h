/* From what the names of backends came to, to the view of the core side that workers get (B1).
 *
 * An address has the same slot in all views. One that no name leads to any more is retired: its
 * calls may still run, so it stays in the views for an hour.
 *
 *   priority   that of the configuration, then the resolver's; of the addresses of one name the
 *              IPv6 ones after the IPv4 ones, as they are the same machine
 *   weight     that of the configuration, shared by SRV's weights among records, and equally among
 *              the addresses of one record
 *   auto:      UDP and TCP at one address and port are one endpoint, which has both (T7)
 *
 * Ownership: endpoints_create() to endpoints_destroy(). A view has its own references.
 * Threads:   one thread's.
 * Units:     milliseconds.
 * Errors:    0, or a negative errno value. */
#pragma once

#include "conf/conf.h"
#include "proxy/backends.h"
#include "proxy/resolve.h"

enum { ENDPOINT_RETIRED_MS = 3600 * 1000 };

struct endpoints;

/* Borrowed; the slots of addresses that are new are forgotten in it. */
int endpoints_create(struct health *health, struct endpoints **out);
/* What there is now. `results` has one for each of conf->backends, NULL: nothing is known yet;
 * where there are none, the embedded registrar is it. Only families with a local address (a port)
 * are in it, and no address of our own. The configuration may be another one than before. -ENOMEM.
 */
int endpoints_view(struct endpoints *endpoints, const struct conf *conf,
                   const struct resolve_result *const *results, const struct core_addr *local4,
                   const struct core_addr *local6, uint64_t now, const struct core_view **out);
/* When the next retired address is to be left out of a new view. UINT64_MAX: there is none. */
uint64_t endpoints_next(const struct endpoints *endpoints);
void endpoints_destroy(struct endpoints **endpoints); /* a NULL *endpoints is fine */

/* Whether an address of a result is wanted: where `core` names one family only, the others are for
 * names that have none of that family. */
bool endpoint_wanted(const struct conf *conf, const struct resolve_result *result, unsigned i);
/* The address of a result, as the core side has it. */
struct core_addr endpoint_addr(const struct resolve_address *address);

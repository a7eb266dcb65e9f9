/* /api/flows: who is connected, and who was, and why not any more. Workers are asked one after
 * another, for a bounded piece at a time.
 *
 *   /api/flows?state=open|closed|failed&aor=..&peer=..&limit=..&after=ID    some of them
 *   /api/flows/ID                                                          one
 *
 * Threads: the main thread's. */
#pragma once

#include "admin/admin.h"
#include "asks.h"

void flows_list(struct asks *asks, struct admin_request *request);
void flows_show(struct asks *asks, struct admin_request *request);

/* The core side at start: what backends' names resolve to, and the addresses that the PBX sees. */
#pragma once

#include <stdio.h>

#include "proxy/proxy.h"

/* Blocks for name look-ups: before the workers start. Each mistake is one line on `errors`.
 * -EINVAL: mistakes. */
int core_view_find(const struct conf *conf, FILE *errors, struct core_view *out);

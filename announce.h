/* What the log says of a configuration that is in use from now on, but for what was so before it.
 * `before` NULL: nothing was.
 *
 * Threads: the main thread's. */
#pragma once

#include "conf/conf.h"
#include "proxy/backends.h"

void announce_listeners(const struct conf *conf, const struct conf *before);
void announce_core(const struct core_view *view, const struct conf *before);

/* Files that are watched for a change (inotify): the folders that their names lead through, so that
 * a link that is turned to another file is seen as well as a file that is written.
 *
 * Ownership: watch_open() to watch_close(); the loop must run once more after.
 * Threads:   the loop's. */
#pragma once

#include <uv.h>

struct watch;

/* changed() comes from the loop when something has changed near one of the files, once it has been
 * quiet for a moment, and at the latest 2 s after the first change. -ENOMEM. */
int watch_open(uv_loop_t *loop, void (*changed)(void *context), void *context, struct watch **out);
/* Watch what these names lead through now, and nothing else. What can't be watched is logged and
 * left out. Names are borrowed during the call. -ENOMEM: as before. */
int watch_set(struct watch *watch, const char *const *files, size_t count);
void watch_close(struct watch **watch); /* a NULL *watch is fine */

#include "watch.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proxy/log.h"

enum {
    QUIET_MS = 300,   /* a renewal writes several files */
    LATEST_MS = 2000, /* a folder in which something is always written */
    LINKS_MAX = 40,   /* of one name, as the system allows */
};

struct folder {
    struct folder *next;
    struct watch *watch;
    uv_fs_event_t event;
    bool wanted;
    char path[];
};

struct watch {
    void (*changed)(void *context);
    void *context;
    uv_timer_t quiet;
    uint64_t since; /* of the first change that was not told; 0: there is none */
    struct folder *folders;
    bool told; /* that a folder can't be watched */
};

static void quiet(uv_timer_t *timer)
{
    struct watch *watch = timer->data;

    watch->since = 0;
    watch->changed(watch->context);
}

static void seen(uv_fs_event_t *event, const char *name, int events, int status)
{
    struct watch *watch = ((struct folder *)event->data)->watch;
    uint64_t now = uv_now(event->loop), latest;

    (void)name, (void)events, (void)status;
    if (!watch->since)
        watch->since = now ? now : 1;
    latest = watch->since + LATEST_MS;
    uv_timer_start(&watch->quiet, quiet,
                   now + QUIET_MS < latest ? QUIET_MS
                   : latest > now          ? latest - now
                                           : 0,
                   0);
}

/* ---- folders ---- */

static void folder_free(uv_handle_t *handle)
{
    free(handle->data);
}

static void folder_failed(struct watch *watch, const char *path, int err)
{
    if (!watch->told)
        log_event(LOG_WARNING, "changes of a certificate won't be seen by themselves",
                  LOG_TEXT("folder", str_of(path)), LOG_TEXT("reason", str_of(strerror(-err))),
                  LOG_TEXT("remedy", STR("send SIGHUP after a renewal")));
    watch->told = true;
}

/* The folder above: false, there is none. */
static bool path_up(char *path)
{
    char *slash = strrchr(path, '/');

    if (!slash || !slash[1])
        return false;
    slash[slash == path] = '\0'; /* the root keeps its own */
    return true;
}

/* Of a folder that is not there, the one in which it will be. -ENOMEM. */
static int folder_want(struct watch *watch, const char *path)
{
    struct folder *folder;
    int err;

    for (folder = watch->folders; folder; folder = folder->next)
        if (folder->wanted && strcmp(folder->path, path) == 0)
            return 0;
    folder = calloc(1, sizeof(*folder) + strlen(path) + 1);
    if (!folder)
        return -ENOMEM;
    memcpy(folder->path, path, strlen(path) + 1);
    folder->watch = watch;
    uv_fs_event_init(watch->quiet.loop, &folder->event);
    folder->event.data = folder;
    do
        err = uv_fs_event_start(&folder->event, seen, folder->path, 0);
    while (err == -ENOENT && path_up(folder->path));
    if (err) {
        folder_failed(watch, path, err);
        uv_close((uv_handle_t *)&folder->event, folder_free);
        return 0;
    }
    folder->wanted = true;
    folder->next = watch->folders;
    watch->folders = folder;
    return 0;
}

/* Those that are not wanted, or those that are. */
static void folders_drop(struct watch *watch, bool wanted)
{
    struct folder **link = &watch->folders;

    while (*link) {
        struct folder *folder = *link;

        if (folder->wanted != wanted) {
            link = &folder->next;
            continue;
        }
        *link = folder->next;
        uv_close((uv_handle_t *)&folder->event, folder_free);
    }
}

/* ---- names ---- */

/* A path that is being walked: `at` is how far, what is behind it is still a name. */
struct walk {
    char path[PATH_MAX];
    size_t at;
    unsigned links;
};

/* The link that ends at `end` is replaced by what it says. false: that is too much. */
static bool link_follow(struct walk *walk, size_t end, const char *target, size_t len)
{
    char rest[PATH_MAX];
    size_t begin = target[0] == '/' ? 0 : walk->at;

    if (++walk->links > LINKS_MAX || begin + len + strlen(walk->path + end) >= PATH_MAX)
        return false;
    memcpy(rest, walk->path + end, strlen(walk->path + end) + 1);
    memcpy(walk->path + begin, target, len);
    memcpy(walk->path + begin + len, rest, strlen(rest) + 1);
    walk->at = begin;
    return true;
}

/* The folder that the next component is in. */
static int parent_want(struct watch *watch, struct walk *walk)
{
    char folder[PATH_MAX] = ".";

    if (walk->at) {
        memcpy(folder, walk->path, walk->at);
        folder[walk->at > 1 ? walk->at - 1 : 1] = '\0'; /* the '/', but of the root */
    }
    return folder_want(watch, folder);
}

/* Each link on the way is in a folder that is watched, and so is the file at its end. */
static int file_want(struct watch *watch, const char *file)
{
    char target[PATH_MAX];
    struct walk walk = {.at = 0};
    int err = 0;

    if (strlen(file) >= sizeof(walk.path))
        return 0;
    memcpy(walk.path, file, strlen(file) + 1);
    while (!err && walk.path[walk.at]) {
        size_t len = strcspn(walk.path + walk.at, "/"), end = walk.at + len;
        char behind = walk.path[end];
        ssize_t got;

        if (!len) {
            walk.at++;
            continue;
        }
        walk.path[end] = '\0';
        got = readlink(walk.path, target, sizeof(target));
        walk.path[end] = behind;
        if (got > 0 || !behind)
            err = parent_want(watch, &walk);
        if (got <= 0)
            walk.at = end;
        else if (!link_follow(&walk, end, target, (size_t)got))
            break;
    }
    return err;
}

/* ---- life ---- */

int watch_open(uv_loop_t *loop, void (*changed)(void *context), void *context, struct watch **out)
{
    struct watch *watch = calloc(1, sizeof(*watch));

    if (!watch)
        return -ENOMEM;
    watch->changed = changed;
    watch->context = context;
    uv_timer_init(loop, &watch->quiet);
    watch->quiet.data = watch;
    *out = watch;
    return 0;
}

/* All anew: a folder that was put in the place of another one has the same name. The new ones are
 * there before the old ones end, so nothing is missed. */
int watch_set(struct watch *watch, const char *const *files, size_t count)
{
    int err = 0;

    for (struct folder *folder = watch->folders; folder; folder = folder->next)
        folder->wanted = false;
    watch->told = false;
    for (size_t i = 0; i < count && !err; i++)
        err = file_want(watch, files[i]);
    folders_drop(watch, err != 0);
    return err;
}

static void closed(uv_handle_t *timer)
{
    free(timer->data);
}

void watch_close(struct watch **watch)
{
    if (!*watch)
        return;
    folders_drop(*watch, true);
    folders_drop(*watch, false);
    uv_close((uv_handle_t *)&(*watch)->quiet, closed);
    *watch = NULL;
}

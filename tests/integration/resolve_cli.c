/* Follows names, and prints what they come to each time that it changes:
 *
 *   resolve_cli TTL_MIN_MS GONE_KEEP_MS TIMEOUT_MS HOST[,PORT[,udp|tcp]] ...
 *
 *   HOST[,...] udp 10.0.0.1:5060 HOST; tcp [::1]:5062 priority 0 weight 10 a.test
 *
 * It ends when standard input does. Then everything must have been given back. With RESOLVE_FAIL=N
 * in the environment, the Nth piece of memory that a look-up takes can't be had. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "proxy/log.h"
#include "proxy/resolve.h"

enum { TARGETS_MAX = 32 };

static struct {
    uv_loop_t loop;
    uv_pipe_t input;
    struct resolver *resolver;
    struct resolve_name *names[TARGETS_MAX];
    const struct resolve_result *results[TARGETS_MAX]; /* the last ones, kept as a worker does */
    const char *targets[TARGETS_MAX];
} cli;

/* ---- memory that runs out: calls of the program and of proxy/ (linked with --wrap) ---- */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);

static unsigned long until_failure; /* 0: none will fail */

void *__wrap_malloc(size_t size)
{
    return until_failure && !--until_failure ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return until_failure && !--until_failure ? NULL : __real_calloc(count, size);
}

/* ---- results ---- */

static void changed(void *context, const struct resolve_result *result)
{
    const char **target = context;
    const struct resolve_result **kept = &cli.results[target - cli.targets];

    printf("%s", *target);
    for (unsigned i = 0; i < result->count; i++) {
        char text[RESOLVE_ADDRESS_TEXT];

        resolve_address_text(&result->addresses[i], text);
        printf("%s %s %s", i ? ";" : "", text, result->addresses[i].name);
    }
    printf("\n");
    resolve_result_unref(kept);
    *kept = resolve_result_ref(result);
}

static int follow(unsigned i)
{
    char *word = strdup(cli.targets[i]), *rest = word;
    struct resolve_target target = {.host = strsep(&rest, ",")};
    const char *port = strsep(&rest, ","), *transport = rest;
    int err;

    if (port)
        target.port = (uint16_t)strtoul(port, NULL, 10);
    if (transport)
        target.transport = strcmp(transport, "tcp") == 0 ? RESOLVE_TCP : RESOLVE_UDP;
    err = resolve_start(cli.resolver, &target, changed, &cli.targets[i], &cli.names[i]);
    free(word);
    return err;
}

static void room(uv_handle_t *handle, size_t wanted, uv_buf_t *buf)
{
    static char bytes[256];

    (void)handle;
    (void)wanted;
    *buf = uv_buf_init(bytes, sizeof(bytes));
}

/* A line "stop N" ends the Nth name, "good N" asks how long its result is good; the end of input
 * ends all. Lines come one at a time. */
static void typed(uv_stream_t *input, ssize_t len, const uv_buf_t *buf)
{
    unsigned i;

    if (len < 0) {
        resolver_close(&cli.resolver);
        uv_close((uv_handle_t *)input, NULL);
        return;
    }
    i = (unsigned)(buf->base[5] - '0') % TARGETS_MAX;
    if (strncmp(buf->base, "stop ", 5) == 0) {
        resolve_stop(&cli.names[i]);
        printf("stopped\n");
    } else {
        uint64_t until = cli.names[i] ? resolve_good_until(cli.names[i]) : 0;
        uint64_t now = uv_now(&cli.loop);

        printf("good %lld\n", until == UINT64_MAX ? -1 : until ? (long long)(until - now) : 0);
    }
}

static int descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    int count = 0;

    while (folder && readdir(folder))
        count++;
    if (folder)
        closedir(folder);
    return count;
}

int main(int argc, char **argv)
{
    struct resolver_options options = {.loop = &cli.loop};
    unsigned long numbers[3] = {0};
    const char *fail = getenv("RESOLVE_FAIL");
    int err, before, arg = 1;
    unsigned count = 0;

    for (size_t i = 0; i < 3 && arg < argc; i++, arg++)
        numbers[i] = strtoul(argv[arg], NULL, 10);
    options.ttl_min_ms = (unsigned)numbers[0];
    options.gone_keep_ms = (unsigned)numbers[1];
    options.query_timeout_ms = (unsigned)numbers[2];
    setvbuf(stdout, NULL, _IOLBF, 0);
    log_open(LOG_DEBUG, false);

    uv_loop_init(&cli.loop); /* the first loop of a process leaves two descriptors open */
    uv_loop_close(&cli.loop);
    before = descriptors();
    uv_loop_init(&cli.loop);
    uv_pipe_init(&cli.loop, &cli.input, 0);
    if (uv_pipe_open(&cli.input, 0) || uv_read_start((uv_stream_t *)&cli.input, room, typed) ||
        resolver_open(&options, &cli.resolver))
        return 2;
    for (; arg < argc && count < TARGETS_MAX; arg++, count++) {
        cli.targets[count] = argv[arg];
        if (follow(count))
            return 2;
    }
    if (fail)
        until_failure = strtoul(fail, NULL, 10);
    uv_run(&cli.loop, UV_RUN_DEFAULT);
    err = uv_loop_close(&cli.loop);
    for (unsigned i = 0; i < count; i++)
        resolve_result_unref(&cli.results[i]);
    printf("end loop=%d descriptors=%d\n", err, descriptors() - before);
    return err != 0;
}

/* Bytes as a configuration file. Every refusal names a line; what is accepted is printed, loads
 * again, and is printed the same. */
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "conf/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int file = -1;
static char path[64];

/* A file without a file system. */
static void file_write(const void *bytes, size_t len)
{
    if (file < 0) {
        file = memfd_create("sipward.yaml", MFD_CLOEXEC);
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
    }
    if (file < 0 || ftruncate(file, 0) || pwrite(file, bytes, len, 0) != (ssize_t)len)
        abort();
}

/* Lines of "FILE:LINE: what", in order of the lines. */
static void mistakes_check(const char *text)
{
    size_t prefix = strlen(path);
    long before = 1;

    assert(*text);
    for (const char *end; *text; text = end + 1) {
        char *colon;
        long line;

        end = strchr(text, '\n');
        assert(end && !strncmp(text, path, prefix) && text[prefix] == ':');
        assert(isdigit((unsigned char)text[prefix + 1]));
        line = strtol(text + prefix + 1, &colon, 10);
        assert(line >= before && colon[0] == ':' && colon[1] == ' ' && colon + 2 < end);
        before = line;
        for (const char *p = colon; p < end; p++)
            assert((unsigned char)*p >= ' ' && *p != 0x7f);
    }
}

static struct conf *load(void)
{
    struct conf *conf = NULL;
    char *text = NULL;
    size_t len = 0;
    FILE *errors = open_memstream(&text, &len);
    int err;

    assert(errors);
    err = conf_load(path, errors, &conf);
    (void)fclose(errors);
    assert(err == 0 || err == -EINVAL);
    assert(!err == (conf != NULL));
    if (err)
        mistakes_check(text);
    else
        assert(!len);
    free(text);
    return conf;
}

static char *printed(const struct conf *conf)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);

    assert(out);
    conf_print(conf, out);
    (void)fclose(out);
    assert(strlen(text) == len);
    return text;
}

/* Secrets are not printed: others stand in for them. */
static char *secrets_fill(const char *text)
{
    static const char secret[] = "(secret)";
    char *filled = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&filled, &len);
    const char *at, *name;
    unsigned count = 0;

    assert(out);
    for (; (at = strstr(text, secret)) != NULL; text = at + strlen(secret)) {
        (void)fwrite(text, 1, (size_t)(at - text), out);
        name = at - strlen("ha1_md5: ");
        if (!strncmp(name, "ha1_md5: ", 9))
            (void)fprintf(out, "%032x", ++count);
        else if (!strncmp(at - strlen("password: "), "password: ", 10))
            (void)fputs(secret, out);
        else
            (void)fprintf(out, "\"%064x\"", ++count);
    }
    (void)fputs(text, out);
    (void)fclose(out);
    return filled;
}

/* What the profile gave is the file's own when that is loaded again: no mark then. */
static void marks_drop(char *text)
{
    char *mark;

    while ((mark = strstr(text, " # by the profile: ")) != NULL)
        memmove(mark, mark + strcspn(mark, "\n"), strlen(mark + strcspn(mark, "\n")) + 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text, *filled, *again;
    struct conf *conf;

    file_write(data, size);
    conf = load();
    if (!conf)
        return 0;
    text = printed(conf);
    conf_free(&conf);
    filled = secrets_fill(text);
    file_write(filled, strlen(filled));
    conf = load();
    if (!conf)
        (void)fprintf(stderr, "does not load again:\n%s\n", filled);
    assert(conf);
    again = printed(conf);
    conf_free(&conf);
    marks_drop(text);
    marks_drop(again);
    if (strcmp(text, again) != 0)
        (void)fprintf(stderr, "was:\n%s\nis:\n%s\n", text, again);
    assert(strcmp(text, again) == 0);
    free(again);
    free(filled);
    free(text);
    return 0;
}

/* A corpus as a plain test: each file of the folders named is given to the fuzz target once. What
 * ends it before says at which one, and who it was if that was not the target itself. */
#include <dirent.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FILE_MAX = 1 << 20 };

static const char *volatile at = "its start";

/* dprintf() has no lock or buffer that what is interrupted may hold. */
static void ended(int number, siginfo_t *info, void *context)
{
    bool other = info->si_code == SI_USER && info->si_pid != getpid();

    (void)context;
    (void)dprintf(STDERR_FILENO, "signal %d at %s", number, at);
    if (other)
        (void)dprintf(STDERR_FILENO, ", from process %d", (int)info->si_pid);
    (void)dprintf(STDERR_FILENO, "\n");
    (void)raise(number);
}

static void tell_the_end(void)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGABRT};
    struct sigaction action = {.sa_sigaction = ended, .sa_flags = SA_SIGINFO | (int)SA_RESETHAND};

    for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++)
        (void)sigaction(signals[i], &action, NULL);
}

static int file_replay(const char *path)
{
    uint8_t *data = malloc(FILE_MAX);
    FILE *file = fopen(path, "rb");
    int err = 1;

    if (data && file) {
        size_t size = fread(data, 1, FILE_MAX, file);

        if (!ferror(file)) {
            (void)LLVMFuzzerTestOneInput(data, size);
            err = 0;
        }
    }
    if (err)
        perror(path);
    if (file)
        (void)fclose(file);
    free(data);
    return err;
}

int main(int argc, char **argv)
{
    int failed = 0, count = 0;

    tell_the_end();
    for (int i = 1; i < argc; i++) {
        DIR *folder = opendir(argv[i]);
        struct dirent *entry;
        char path[4096];

        if (!folder) {
            perror(argv[i]);
            return 1;
        }
        while ((entry = readdir(folder)) != NULL) {
            if (entry->d_name[0] == '.')
                continue;
            (void)snprintf(path, sizeof(path), "%s/%s", argv[i], entry->d_name);
            at = path;
            failed += file_replay(path);
            count++;
        }
        at = "its end";
        (void)closedir(folder);
    }
    printf("%d files, %d failed\n", count, failed);
    return failed || !count;
}

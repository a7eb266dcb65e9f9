/* A corpus as a plain test: each file of the folders named is given to the fuzz target once. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FILE_MAX = 1 << 20 };

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
            failed += file_replay(path);
            count++;
        }
        (void)closedir(folder);
    }
    printf("%d files, %d failed\n", count, failed);
    return failed || !count;
}

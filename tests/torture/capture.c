#include "capture.h"

#include <stdio.h>
#include <stdlib.h>

enum { IP_LEN = 20, UDP_LEN = 8, DATAGRAM_MAX = 65535 - IP_LEN - UDP_LEN, LINKTYPE_RAW = 101 };

static FILE *capture, *index_file;

static FILE *create(const char *path, const char *suffix)
{
    char name[4096];
    FILE *file;

    (void)snprintf(name, sizeof(name), "%s%s", path, suffix);
    file = fopen(name, "wb");
    if (!file) {
        perror(name);
        exit(2);
    }
    return file;
}

static void write_all(const void *bytes, size_t len)
{
    if (fwrite(bytes, 1, len, capture) != len) {
        perror("capture");
        exit(2);
    }
}

void capture_open(const char *path)
{
    const uint32_t header[] = {0xa1b2c3d4, 2 | 4 << 16, 0, 0, 65535, LINKTYPE_RAW};

    capture = create(path, "");
    index_file = create(path, ".index");
    write_all(header, sizeof(header));
}

void capture_add(struct str message, const char *test)
{
    uint32_t udp_len = (uint32_t)message.len + UDP_LEN, ip_len = udp_len + IP_LEN;
    const uint32_t record[] = {0, 0, ip_len, ip_len};
    const uint8_t headers[IP_LEN + UDP_LEN] = {
        0x45,
        0,
        (uint8_t)(ip_len >> 8),
        (uint8_t)ip_len, /* version, length */
        0,
        0,
        0,
        0,
        64,
        17,
        0,
        0, /* UDP, no checksum */
        10,
        0,
        0,
        2,
        10,
        0,
        0,
        5, /* from, to */
        0x13,
        0xc4,
        0x13,
        0xc4, /* 5060, 5060 */
        (uint8_t)(udp_len >> 8),
        (uint8_t)udp_len,
        0,
        0,
    };

    if (!capture || message.len > DATAGRAM_MAX)
        return;
    write_all(record, sizeof(record));
    write_all(headers, sizeof(headers));
    write_all(message.p, message.len);
    (void)fprintf(index_file, "%s\n", test);
}

void capture_close(void)
{
    if (capture && (fclose(capture) || fclose(index_file)))
        perror("capture");
    capture = index_file = NULL;
}

/* Whatever a peer sends, an event is one line that only we could have written, a JSON line is JSON,
 * and a message is logged without its secrets (X5). The first byte says what is logged, and how. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "proxy/log.h"
#include "proxy/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
ssize_t __real_write(int fd, const void *bytes, size_t len);
ssize_t __wrap_write(int fd, const void *bytes, size_t len);

#define SECRET "S3cr3tS3cr3t"

static char logged[1 << 16];
static size_t logged_len;
static bool listening;

ssize_t __wrap_write(int fd, const void *bytes, size_t len)
{
    if (!listening)
        return __real_write(fd, bytes, len);
    assert(fd == STDERR_FILENO && len <= sizeof(logged) - logged_len);
    memcpy(logged + logged_len, bytes, len);
    logged_len += len;
    return (ssize_t)len;
}

/* ---- JSON, as much as a line of ours has of it: strings and numbers in one object ---- */

static const char *json_string(const char *at, const char *end)
{
    assert(at < end && *at == '"');
    for (at++; at < end && *at != '"'; at++) {
        assert((unsigned char)*at >= ' ');
        if (*at != '\\')
            continue;
        at++;
        assert(at < end && strchr("\"\\/bfnrtu", *at));
        for (int i = 0; *at == 'u' && i < 4; i++)
            assert(at + 1 + i < end && strchr("0123456789abcdefABCDEF", at[1 + i]));
    }
    assert(at < end);
    return at + 1;
}

static void json_check(const char *at, const char *end)
{
    assert(end - at > 2 && *at == '{');
    do {
        at = json_string(at + 1, end);
        assert(at < end && *at == ':');
        at++;
        if (at < end && *at == '"')
            at = json_string(at, end);
        else
            while (at < end && *at != ',' && *at != '}')
                at++;
    } while (at < end && *at == ',');
    assert(end - at == 2 && at[0] == '}' && at[1] == '\n');
}

/* ---- text ---- */

/* No control byte but the end, and those of lines that are set in: a message's. */
static void text_check(const char *at, const char *end, bool is_message)
{
    assert(end > at && end[-1] == '\n');
    for (; at < end - 1; at++) {
        if (*at == '\n')
            assert(is_message && (at[1] == '\n' || !strncmp(at + 1, "    ", 4)));
        else
            assert((unsigned char)*at >= ' ' && *at != 0x7f);
    }
}

static void logged_check(bool json, bool is_message)
{
    listening = false;
    if (json)
        json_check(logged, logged + logged_len);
    else
        text_check(logged, logged + logged_len, is_message);
}

static void event_log(struct str given)
{
    struct str half = {given.p, given.len / 2};

    log_event(LOG_INFO, "request refused", LOG_TEXT("flow", half), LOG_NUMBER("status", -1),
              LOG_TEXT("reason", given),
              LOG_TEXT("call-id", ((struct str){given.p + half.len, given.len - half.len})));
}

/* A secret amid what is given, in the line of a header that has to be hidden. */
static void message_log(struct str given, unsigned how)
{
    static const char *const begins[] = {"\r\nAuthorization: Digest ",
                                         "\nproxy-authorization \t:",
                                         "\rAUTHORIZATION:\r\n ",
                                         "\r\na=crypto:1 ",
                                         "\r\nA=ice-pwd:",
                                         "\r\nAuthorization:a\n\t b\r\n "};
    const char *begin = begins[how % ARRAY_LEN(begins)];
    struct buf text;

    if (buf_create(&text, given.len + 100))
        abort();
    buf_add(&text, (struct str){given.p, given.len / 2});
    buf_printf(&text, "%s" SECRET, begin);
    buf_add(&text, (struct str){given.p + given.len / 2, given.len - given.len / 2});
    log_message("received", (struct str){given.p, given.len / 4}, buf_str(&text));
    buf_destroy(&text);
    listening = false;
    assert(!memmem(logged, logged_len, SECRET, strlen(SECRET)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str given = {(const char *)data + 1, size - 1};
    bool json, is_message;

    if (size < 2 || memmem(data, size, SECRET, strlen(SECRET)))
        return 0;
    json = data[0] & 1;
    is_message = data[0] & 2;
    log_open(LOG_DEBUG, json);
    logged_len = 0;
    listening = true;
    if (is_message)
        message_log(given, data[0] >> 2);
    else
        event_log(given);
    logged_check(json, is_message);
    return 0;
}

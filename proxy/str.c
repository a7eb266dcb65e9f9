#include "proxy/str.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

/* memcmp(), without a call of it for so few bytes as names and tokens have. */
static bool same(const char *a, const char *b, size_t len)
{
    uint64_t a8[2], b8[2];
    uint32_t a4[2], b4[2];

    if (len > 16)
        return memcmp(a, b, len) == 0;
    if (len >= 8) {
        memcpy(&a8[0], a, 8);
        memcpy(&b8[0], b, 8);
        memcpy(&a8[1], a + len - 8, 8);
        memcpy(&b8[1], b + len - 8, 8);
        return a8[0] == b8[0] && a8[1] == b8[1];
    }
    if (len >= 4) {
        memcpy(&a4[0], a, 4);
        memcpy(&b4[0], b, 4);
        memcpy(&a4[1], a + len - 4, 4);
        memcpy(&b4[1], b + len - 4, 4);
        return a4[0] == b4[0] && a4[1] == b4[1];
    }
    while (len && a[len - 1] == b[len - 1])
        len--;
    return len == 0;
}

bool str_same_nocase(const char *a, const char *b, size_t len)
{
    if (same(a, b, len)) /* mostly it is spelled so */
        return true;
    for (size_t i = 0; i < len; i++) {
        unsigned char differ = (unsigned char)(a[i] ^ b[i]), lower = (unsigned char)(a[i] | 0x20);

        if (differ && (differ != 0x20 || lower < 'a' || lower > 'z'))
            return false;
    }
    return true;
}

struct str str_trim_blanks(struct str s)
{
    for (; s.len && (s.p[0] == ' ' || s.p[0] == '\t'); s.len--)
        s.p++;
    while (s.len && (s.p[s.len - 1] == ' ' || s.p[s.len - 1] == '\t'))
        s.len--;
    return s;
}

int str_to_uint(struct str s, uint64_t max, uint64_t *out)
{
    uint64_t n = 0;

    if (!s.len)
        return -EINVAL;
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return -EINVAL;
        uint64_t digit = (uint64_t)(s.p[i] - '0');
        if (n > UINT64_MAX / 10 || n * 10 > UINT64_MAX - digit)
            return -EINVAL;
        n = n * 10 + digit;
    }
    if (n > max)
        return -EINVAL;
    *out = n;
    return 0;
}

int arena_create(struct arena *arena, size_t size)
{
    arena->base = malloc(size);
    arena->size = arena->base ? size : 0;
    arena->used = 0;
    arena->no_memory = false;
    return arena->base ? 0 : -ENOMEM;
}

void arena_destroy(struct arena *arena)
{
    free(arena->base);
    *arena = (struct arena){0};
}

void arena_reset(struct arena *arena)
{
    arena->used = 0;
    arena->no_memory = false;
}

void *arena_alloc(struct arena *arena, size_t size)
{
    size_t align = _Alignof(max_align_t);
    size_t at = (arena->used + align - 1) & ~(align - 1);

    if (at > arena->size || size > arena->size - at)
        return NULL;
    arena->used = at + size;
    return arena->base + at;
}

struct str arena_printf(struct arena *arena, const char *format, ...)
{
    size_t room = arena->size - arena->used;
    char *at = arena->base + arena->used;
    va_list args;
    int len;

    va_start(args, format);
    len = vsnprintf(at, room, format, args);
    va_end(args);
    if (len < 0 || (size_t)len >= room)
        return (struct str){NULL, 0};
    arena->used += (size_t)len + 1;
    return (struct str){at, (size_t)len};
}

struct str arena_dup(struct arena *arena, struct str s)
{
    char *at;

    if (s.len >= arena->size - arena->used)
        return (struct str){NULL, 0};
    at = arena->base + arena->used;
    if (s.len)
        memcpy(at, s.p, s.len);
    at[s.len] = '\0';
    arena->used += s.len + 1;
    return (struct str){at, s.len};
}

struct str arena_join(struct arena *arena, const struct str *pieces, size_t count)
{
    char *at = arena->base + arena->used;
    size_t len = 0, done = 0;

    for (size_t i = 0; i < count; i++)
        len += pieces[i].len;
    if (len >= arena->size - arena->used)
        return (struct str){NULL, 0};
    for (size_t i = 0; i < count; i++) {
        if (pieces[i].len)
            memcpy(at + done, pieces[i].p, pieces[i].len);
        done += pieces[i].len;
    }
    at[len] = '\0';
    arena->used += len + 1;
    return (struct str){at, len};
}

struct str number_text(char digits[NUMBER_SIZE], uint64_t number)
{
    size_t i = NUMBER_SIZE;

    do {
        digits[--i] = (char)('0' + number % 10);
        number /= 10;
    } while (number);
    return (struct str){digits + i, NUMBER_SIZE - i};
}

struct str arena_number(struct arena *arena, uint64_t number)
{
    char digits[NUMBER_SIZE];

    return arena_dup(arena, number_text(digits, number));
}

void number_hex(char *at, unsigned digits, uint64_t number)
{
    while (digits--) {
        at[digits] = "0123456789abcdef"[number & 15];
        number >>= 4;
    }
}

int buf_create(struct buf *buf, size_t size)
{
    buf->p = malloc(size);
    buf->size = buf->p ? size : 0;
    buf_reset(buf);
    return buf->p ? 0 : -ENOMEM;
}

void buf_destroy(struct buf *buf)
{
    free(buf->p);
    *buf = (struct buf){0};
}

void buf_reset(struct buf *buf)
{
    buf->len = 0;
    buf->overflow = false;
}

void buf_add(struct buf *buf, struct str s)
{
    if (s.len > buf->size - buf->len) {
        buf->overflow = true;
        return;
    }
    if (s.len)
        memcpy(buf->p + buf->len, s.p, s.len);
    buf->len += s.len;
}

void buf_printf(struct buf *buf, const char *format, ...)
{
    size_t room = buf->size - buf->len;
    va_list args;
    int len;

    va_start(args, format);
    len = vsnprintf(buf->p + buf->len, room, format, args);
    va_end(args);
    if (len < 0 || (size_t)len >= room)
        buf->overflow = true;
    else
        buf->len += (size_t)len;
}

/* Bytes that somebody else owns, and the few things SIP does with them.
 *
 * Ownership: a str borrows; it is valid as long as what it points into (a message, an arena, a
 *            literal). It is not terminated.
 * Threads:   no state. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct str {
    const char *p;
    size_t len;
};

#define STR(literal) ((struct str){"" literal, sizeof(literal) - 1})
#define ARRAY_LEN(array) (sizeof(array) / sizeof((array)[0]))
#define STR_FMT "%.*s"
#define STR_ARG(s) (int)(s).len, (s).p

static inline struct str str_of(const char *text)
{
    return text ? (struct str){text, strlen(text)} : (struct str){NULL, 0};
}

static inline bool str_eq(struct str a, struct str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}

bool str_same_nocase(const char *a, const char *b, size_t len);

/* ASCII, whatever the locale. */
static inline bool str_eq_nocase(struct str a, struct str b)
{
    return a.len == b.len && str_same_nocase(a.p, b.p, a.len);
}

struct str str_trim_blanks(struct str s);

/* Without blanks and tabs at both ends. */
static inline struct str str_trim(struct str s)
{
    return s.len && s.p[0] > ' ' && s.p[s.len - 1] > ' ' ? s : str_trim_blanks(s);
}

/* All of `s` as an unsigned decimal of at most `max`. -EINVAL: anything else, empty included. */
int str_to_uint(struct str s, uint64_t max, uint64_t *out);

/* Scratch memory of one message: taken piece by piece, given back all at once.
 * Bounded by the size it was made with; a request beyond it is NULL, never a crash. */
struct arena {
    char *base;
    size_t size, used;
    /* Since the last reset the heap had no room for something that belongs to this message (a MAC,
     * a hash): what was decided may be wrong. */
    bool no_memory;
};

int arena_create(struct arena *arena, size_t size); /* -ENOMEM */
void arena_destroy(struct arena *arena);
void arena_reset(struct arena *arena);
void *arena_alloc(struct arena *arena, size_t size); /* aligned for anything; NULL: full */
/* Formatted text in the arena. p NULL: full. Always followed by a NUL that len does not count. */
struct str arena_printf(struct arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
struct str arena_dup(struct arena *arena, struct str s); /* with a NUL after it; p NULL: full */
/* Into room that the caller knows is there. Returns the end. */
static inline char *str_put(char *at, struct str s)
{
    if (s.len)
        memcpy(at, s.p, s.len);
    return at + s.len;
}
/* Pieces, one behind the other; where one may be left out it is STR(""). As arena_printf(), without
 * a format to read: for what is done for every message. */
struct str arena_join(struct arena *arena, const struct str *pieces, size_t count);
#define ARENA_JOIN(arena, ...)                                                                     \
    arena_join(arena, (const struct str[]){__VA_ARGS__},                                           \
               ARRAY_LEN(((const struct str[]){__VA_ARGS__})))

enum { NUMBER_SIZE = 20 };
struct str arena_number(struct arena *arena, uint64_t number);     /* decimal; p NULL: full */
struct str number_text(char digits[NUMBER_SIZE], uint64_t number); /* decimal; borrows `digits` */
void number_hex(char *at, unsigned digits, uint64_t number);       /* lower case; no NUL */

/* Six bits (RFC 4648 5). -1: no digit of base64url. */
static inline int base64url_digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

/* Output of bounded size: what does not fit sets `overflow`, and nothing is written beyond. */
struct buf {
    char *p;
    size_t len, size;
    bool overflow;
};

int buf_create(struct buf *buf, size_t size); /* -ENOMEM */
void buf_destroy(struct buf *buf);
void buf_reset(struct buf *buf);
void buf_add(struct buf *buf, struct str s);
void buf_printf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
static inline struct str buf_str(const struct buf *buf)
{
    return (struct str){buf->p, buf->len};
}

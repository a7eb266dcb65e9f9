#include "entry.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

const char *const way_names[WAY_COUNT] = {"tls", "ws", "core"};

static const char *file_name; /* for fatal() */
static int line_number;

__attribute__((noreturn, format(printf, 1, 2))) static void fatal(const char *format, ...)
{
    va_list args;

    (void)fprintf(stderr, "%s:%d: ", file_name, line_number);
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    (void)fputc('\n', stderr);
    exit(2);
}

static void *must(void *p)
{
    if (!p)
        fatal("no memory");
    return p;
}

static char *copy(const char *text)
{
    return must(strdup(text));
}

/* ---- bytes ---- */

/* Bytes and a NUL take so much. */
static size_t room(size_t len)
{
    size_t size = 64;

    while (size < len + 1)
        size *= 2;
    return size;
}

static void add(struct str *out, const char *p, size_t len)
{
    char *at = (char *)out->p;

    if (!at || room(out->len) < room(out->len + len))
        at = must(realloc(at, room(out->len + len)));
    if (len)
        memcpy(at + out->len, p, len);
    at[out->len + len] = '\0';
    *out = (struct str){at, out->len + len};
}

/* The '}' that closes the '{' at `at`. */
static const char *brace_end(const char *at, const char *end)
{
    int depth = 0;

    for (; at < end; at++) {
        depth += *at == '{' ? 1 : *at == '}' ? -1 : 0;
        if (!depth)
            return at;
    }
    fatal("a { that is not closed");
}

static int hex(char c)
{
    const char *digits = "0123456789abcdef", *at = c ? strchr(digits, c) : NULL;

    if (!at)
        fatal("not a hex digit, repeat or word: {%c", c);
    return (int)(at - digits);
}

static void expand(struct str *out, struct str text, const char *token, const char *via)
{
    const char *end = text.p + text.len;

    for (const char *at = text.p; at < end; at++) {
        const char *close, *star;

        if (*at != '{') {
            add(out, at, 1);
            continue;
        }
        close = brace_end(at, end);
        star = at + 1;
        while (star < close && isdigit((unsigned char)*star))
            star++;
        if (star < close && *star == '*') {
            long times = strtol(at + 1, NULL, 10);
            for (long i = 0; i < times; i++)
                expand(out, (struct str){star + 1, (size_t)(close - star) - 1}, token, via);
        } else if (strncmp(at, "{token}", 7) == 0) {
            add(out, token, strlen(token));
        } else if (strncmp(at, "{via}", 5) == 0) {
            add(out, via, strlen(via));
        } else {
            for (at++; at < close; at += 2) {
                while (*at == ' ')
                    at++;
                char byte = (char)(hex(at[0]) * 16 + hex(at[1]));
                add(out, &byte, 1);
            }
        }
        at = close;
    }
}

struct str entry_expand(struct str text, const char *token, const char *via)
{
    struct str out = {NULL, 0};

    add(&out, "", 0);
    expand(&out, text, token, via);
    return out;
}

/* ---- let NAME text ---- */

enum { LETS_MAX = 16 };
static struct {
    char *name;
    struct str text;
} lets[LETS_MAX]; /* of the file that is read */
static unsigned let_count;

static struct str let_find(struct str name)
{
    for (unsigned i = let_count; i-- > 0;)
        if (str_eq(str_of(lets[i].name), name))
            return lets[i].text;
    fatal("nothing was let be {" STR_FMT "}", STR_ARG(name));
}

/* The text, with what was let be for each {NAME} in it. */
static void add_line(struct str *out, const char *text)
{
    for (; *text; text++) {
        size_t len = strcspn(text, "}");

        if (*text != '{' || !isupper((unsigned char)text[1])) {
            add(out, text, 1);
            continue;
        }
        struct str known = let_find((struct str){text + 1, len - 1});
        add(out, known.p, known.len);
        text += len;
    }
}

static void lets_forget(void)
{
    while (let_count) {
        free(lets[--let_count].name);
        free((char *)lets[let_count].text.p);
    }
}

static void let_read(char *line)
{
    size_t len = strcspn(line, " ");

    if (let_count == LETS_MAX || !line[len])
        fatal("let NAME text, and not too many");
    line[len] = '\0';
    lets[let_count].name = copy(line);
    lets[let_count].text = (struct str){NULL, 0};
    add_line(&lets[let_count].text, line + len + 1);
    let_count++; /* now it can be found, and not in its own text */
}

/* ---- lines of a file ---- */

static char *trim(char *text)
{
    while (*text == ' ')
        text++;
    for (size_t len = strlen(text); len && text[len - 1] == ' ';)
        text[--len] = '\0';
    return text;
}

/* "400 Bad Via, passes, closed" */
static void outcome_read(struct outcome *outcome, char *text)
{
    outcome->wanted = true;
    for (char *rest = text, *word; (word = strsep(&rest, ","));) {
        word = trim(word);
        if (strcmp(word, "passes") == 0)
            outcome->passes++;
        else if (strcmp(word, "closed") == 0)
            outcome->closed = true;
        else if (strcmp(word, "waits") == 0)
            outcome->waits = true;
        else if (isdigit((unsigned char)*word) && outcome->status_count < OUTCOME_STATUSES)
            outcome->statuses[outcome->status_count++] = copy(word);
        else if (strcmp(word, "dropped") != 0)
            fatal("no such outcome: %s", word);
    }
}

/* "tls ws: passes" */
static void ways_read(struct entry *entry, char *ways, char *text)
{
    for (char *rest = ways, *word; (word = strsep(&rest, " "));) {
        unsigned way = 0;

        while (way < WAY_COUNT && strcmp(way_names[way], word) != 0)
            way++;
        if (way == WAY_COUNT)
            fatal("no such key or way in: %s", word);
        char *again = copy(text);
        outcome_read(&entry->ways[way], again);
        free(again);
    }
}

static void key_read(struct entry *entry, char *line)
{
    char *colon = strchr(line, ':'), *value;

    if (!colon)
        fatal("not a line of an entry: %s", line);
    *colon = '\0';
    value = trim(colon + 1);
    if (strcmp(line, "body") == 0)
        entry->body = strcmp(value, "any") == 0 ? BODY_ANY : strtol(value, NULL, 10);
    else if (strcmp(line, "of") == 0)
        entry->of = copy(value);
    else if (strcmp(line, "tshark") == 0)
        entry->skip_tshark = true;
    else
        ways_read(entry, line, value);
}

static const struct str CRLF = STR("{0d0a}");

static void message_read(struct entry *entry, const char *line)
{
    const char *text = line[1] ? line + 2 : line + 1;

    if (line[1] && line[1] != ' ')
        fatal("a blank belongs behind the %c", *line);
    if (*line == '+' && !entry->text.len)
        fatal("nothing that goes on here");
    if (*line == '+')
        entry->text.len -= CRLF.len;
    add_line(&entry->text, text);
    if (*line == '|' || *text)
        add(&entry->text, CRLF.p, CRLF.len);
}

static void line_read(struct entry *entry, char *line)
{
    switch (*line) {
    case '#':
    case '\0': break;
    case '|':
    case '+': message_read(entry, line); break;
    case '=':
        if (entry->line_count == ENTRY_LINES)
            fatal("too many lines with =");
        entry->lines[entry->line_count++] =
            entry_expand(str_of(line + (line[1] == ' ' ? 2 : 1)), "", "");
        break;
    case '-':
        if (entry->absent_count == ENTRY_LINES)
            fatal("too many lines with -");
        entry->absent[entry->absent_count++] = copy(trim(line + 1));
        break;
    default: key_read(entry, line);
    }
}

struct entry *entries_read(const char *path, unsigned *count)
{
    FILE *file = fopen(path, "r");
    const char *base = strrchr(path, '/');
    struct entry *entries = NULL;
    char *line = NULL;
    size_t size = 0;
    ssize_t len;

    file_name = path;
    line_number = 0;
    lets_forget();
    *count = 0;
    if (!file)
        fatal("can't be read");
    while ((len = getline(&line, &size, file)) >= 0) {
        line_number++;
        if (len && line[len - 1] == '\n')
            line[len - 1] = '\0';
        if (strncmp(line, "== ", 3) == 0) {
            entries = must(realloc(entries, (*count + 1) * sizeof(*entries)));
            entries[*count] = (struct entry){
                .file = strndup(base ? base + 1 : path, strcspn(base ? base + 1 : path, ".")),
                .name = strndup(line + 3, strcspn(line + 3, ":")),
                .line = line_number,
                .body = BODY_ALL,
            };
            ++*count;
        } else if (strncmp(line, "let ", 4) == 0) {
            let_read(line + 4);
        } else if (*count) {
            line_read(&entries[*count - 1], line);
        } else if (*line && *line != '#') {
            fatal("before the first ==");
        }
    }
    free(line);
    (void)fclose(file);
    return entries;
}

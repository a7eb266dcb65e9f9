/* What was found, as text for people and as JSON for machines: the same facts. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "doctor/internal.h"

static const struct {
    const char *name, *mark, *colour;
} statuses[] = {
    [STATUS_OK] = {"ok",      "✓", "\033[32m"},
    [STATUS_WARNING] = {"warning", "!",   "\033[33m"},
    [STATUS_FAILED] = {"failed",  "✗", "\033[31m"},
};

/* What others say (a PBX, a file) must not move the cursor, and JSON is UTF-8. NULL: no memory. */
static json_t *text_make(char *text)
{
    json_t *made;

    for (char *at = text; *at; at++)
        if ((unsigned char)*at < ' ' || *at == 127)
            *at = '?';
    made = json_string(text);
    if (made)
        return made;
    for (char *at = text; *at; at++)
        if ((unsigned char)*at > 127)
            *at = '?';
    return json_string(text);
}

static json_t *text_format(const char *format, va_list args)
{
    char *text = NULL;
    json_t *made = NULL;

    if (vasprintf(&text, format, args) >= 0) {
        made = text_make(text);
        free(text);
    }
    return made;
}

void finding(struct doctor *doctor, enum status status, const char *id, const char *format, ...)
{
    json_t *text;
    va_list args;

    va_start(args, format);
    text = text_format(format, args);
    va_end(args);
    doctor->failed |= status == STATUS_FAILED;
    if (json_array_append_new(doctor->checks,
                              json_pack("{s:s++, s:s, s:o}", "id", doctor->check, ".", id, "status",
                                        statuses[status].name, "text", text)))
        doctor->no_memory = true;
}

void remedy(struct doctor *doctor, const char *format, ...)
{
    json_t *last = json_array_get(doctor->checks, json_array_size(doctor->checks) - 1);
    va_list args;

    va_start(args, format);
    if (json_object_set_new(last, "remedy", text_format(format, args)))
        doctor->no_memory = true;
    va_end(args);
}

void findings_lines(struct doctor *doctor, const char *id, const char *text)
{
    for (size_t len; *text; text += len + (text[len] == '\n')) {
        len = strcspn(text, "\n");
        finding(doctor, STATUS_FAILED, id, "%.*s", (int)len, text);
    }
}

static const char *member(const json_t *found, const char *key)
{
    return json_string_value(json_object_get(found, key));
}

static unsigned count(const struct doctor *doctor, enum status status)
{
    unsigned found = 0;

    for (size_t i = 0; i < json_array_size(doctor->checks); i++)
        found +=
            !strcmp(member(json_array_get(doctor->checks, i), "status"), statuses[status].name);
    return found;
}

static void finding_print(const json_t *found, bool colours, FILE *out)
{
    const char *advice = member(found, "remedy");

    for (size_t i = 0; i < ARRAY_LEN(statuses); i++)
        if (!strcmp(member(found, "status"), statuses[i].name))
            (void)fprintf(out, "  %s%s%s %s\n", colours ? statuses[i].colour : "", statuses[i].mark,
                          colours ? "\033[0m" : "", member(found, "text"));
    if (advice)
        (void)fprintf(out, "    → %s\n", advice);
}

void report_text(const struct doctor *doctor, FILE *out)
{
    bool colours = isatty(fileno(out)) && !getenv("NO_COLOR");
    unsigned failed = count(doctor, STATUS_FAILED), warnings = count(doctor, STATUS_WARNING);
    const char *title = "";

    for (size_t i = 0; i < json_array_size(doctor->checks); i++) {
        const json_t *found = json_array_get(doctor->checks, i);
        const char *of = check_title(member(found, "id"));

        if (strcmp(of, title) != 0)
            (void)fprintf(out, "%s%s\n", i ? "\n" : "", of);
        title = of;
        finding_print(found, colours, out);
    }
    (void)fprintf(out, "\n%u failed, %u to look at, %u fine\n", failed, warnings,
                  count(doctor, STATUS_OK));
}

void report_json(const struct doctor *doctor, FILE *out)
{
    char *path = strdup(doctor->options->path);
    json_t *file = path ? text_make(path) : NULL;
    json_t *all =
        json_pack("{s:o, s:i, s:i, s:i, s:O}", "file", file, "failed",
                  (int)count(doctor, STATUS_FAILED), "warnings", (int)count(doctor, STATUS_WARNING),
                  "ok", (int)count(doctor, STATUS_OK), "checks", doctor->checks);

    if (all && json_dumpf(all, out, JSON_INDENT(2)) == 0)
        (void)fputc('\n', out);
    json_decref(all);
    free(path);
}

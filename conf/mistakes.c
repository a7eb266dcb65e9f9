#include <stdlib.h>
#include <string.h>

#include "conf/internal.h"

static void mistake_add(struct mistakes *mistakes, int line, char *text)
{
    struct mistake *list = NULL;
    size_t at = mistakes->count;

    if (text)
        list = reallocarray(mistakes->list, mistakes->count + 1, sizeof(*list));
    if (!list) {
        free(text);
        mistakes->no_memory = true;
        return;
    }
    mistakes->list = list;
    mistakes->count++;
    while (at && list[at - 1].line > line) { /* after those of its own line */
        list[at] = list[at - 1];
        at--;
    }
    list[at] = (struct mistake){line, text};
}

void conf_mistake(struct mistakes *mistakes, int line, const char *format, ...)
{
    char *text = NULL;
    va_list args;
    int len;

    va_start(args, format);
    len = vasprintf(&text, format, args);
    va_end(args);
    mistake_add(mistakes, line, len < 0 ? NULL : text);
}

void conf_mistakes_print(struct mistakes *mistakes, FILE *errors)
{
    for (size_t i = 0; i < mistakes->count; i++) {
        const struct mistake *mistake = &mistakes->list[i];
        if (mistake->line)
            conf_place_print(mistakes->path, mistake->line, errors);
        (void)fprintf(errors, "%s\n", mistake->text);
    }
}

void conf_place_print(const char *path, int line, FILE *out)
{
    if (line < 0)
        (void)fprintf(out, "%s: ", conf_variable_at(line));
    else
        (void)fprintf(out, "%s:%d: ", path, line);
}

void conf_mistakes_free(struct mistakes *mistakes)
{
    for (size_t i = 0; i < mistakes->count; i++)
        free(mistakes->list[i].text);
    free(mistakes->list);
    *mistakes = (struct mistakes){0};
}

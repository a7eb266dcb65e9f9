/* The configuration as text: what it came to, and what it could say. Both from the schema. */
#include <inttypes.h>
#include <string.h>

#include "conf/internal.h"

static uint64_t number_load(const void *at, uint32_t size)
{
    uint64_t number = 0;
    uint32_t word;

    if (size == sizeof(number)) {
        memcpy(&number, at, sizeof(number));
    } else if (size == sizeof(word)) {
        memcpy(&word, at, sizeof(word));
        number = word;
    } else {
        number = *(const uint8_t *)at;
    }
    return number;
}

static const char *text_load(const void *at)
{
    const char *text;

    memcpy((void *)&text, at, sizeof(text));
    return text;
}

static void text_print(const struct text_rule *rule, const char *text, FILE *out)
{
    if (rule->secret) {
        (void)fputs("(secret)", out);
        return;
    }
    (void)fputc('"', out);
    for (; *text; text++) {
        if (strchr("\"\\", *text))
            (void)fputc('\\', out);
        (void)fputc(*text, out);
    }
    (void)fputc('"', out);
}

/* Why a key has a value that the file doesn't say. */
static void reason_print(const struct key *key, const struct loaded *loaded, FILE *out)
{
    const struct profile_value *row = conf_profile_value(loaded->conf.profile, key);
    const char *variable = conf_variable_of(key, loaded->by_environment);

    if (variable)
        (void)fprintf(out, " # by %s", variable);
    if (row && loaded->by_profile & 1U << (row - conf_profile_values))
        (void)fprintf(out, " # by the profile: %s", row->why);
}

static void keys_print(const struct key *keys, const char *base, int indent, FILE *out);

/* [ONE, TWO] */
static void texts_print(const struct key *key, const char *base, FILE *out)
{
    const char *list = text_load(base + key->offset);
    unsigned count;

    memcpy(&count, base + key->count_offset, sizeof(count));
    (void)fputc('[', out);
    for (unsigned i = 0; i < count; i++) {
        if (i)
            (void)fputs(", ", out);
        text_print(key->text, text_load(list + (size_t)i * key->size), out);
    }
    (void)fputc(']', out);
}

static void list_print(const struct key *key, const char *base, int indent, FILE *out)
{
    unsigned count;
    const char *list = text_load(base + key->offset);

    memcpy(&count, base + key->count_offset, sizeof(count));
    (void)fputs(count ? "" : " []", out);
    reason_print(key, (const struct loaded *)(const void *)base, out);
    (void)fputc('\n', out);
    for (unsigned i = 0; i < count; i++) {
        const char *entry = list + (size_t)i * key->size;
        (void)fprintf(out, "%*s- ", indent + 2, "");
        if (key->type == KEY_MAPS || key->type == KEY_ENTRIES) {
            keys_print(key->keys, entry, -1, out);
            continue;
        }
        text_print(key->text, text_load(entry), out);
        (void)fputc('\n', out);
    }
}

static void value_print(const struct key *key, const char *base, FILE *out)
{
    uint64_t number;

    switch (key->type) {
    case KEY_TEXTS: texts_print(key, base, out); break;
    case KEY_NUMBER:
        (void)fprintf(out, "%" PRIu64, number_load(base + key->offset, key->size));
        break;
    case KEY_CHOICE:
        number = number_load(base + key->offset, key->size);
        for (const cyaml_strval_t *choice = key->choices; choice->str; choice++)
            if ((uint64_t)choice->val == number)
                (void)fputs(choice->str, out);
        break;
    default: text_print(key->text, text_load(base + key->offset), out); break;
    }
}

static bool map_is_empty(const struct key *keys, const char *base)
{
    for (; keys->name; keys++)
        if (keys->type != KEY_TEXT || text_load(base + keys->offset))
            return false;
    return true;
}

/* `indent` -1: one line, as an entry of a list. Texts that are not set are left out. */
static void keys_print(const struct key *keys, const char *base, int indent, FILE *out)
{
    const char *between = "{";

    for (; keys->name; keys++) {
        if ((keys->type == KEY_TEXT && !text_load(base + keys->offset)) ||
            (keys->type == KEY_TEXTS && indent < 0 && !text_load(base + keys->offset)) ||
            (keys->type == KEY_MAP && map_is_empty(keys->keys, base)))
            continue;
        if (indent < 0) {
            (void)fprintf(out, "%s%s: ", between, keys->name);
            value_print(keys, base, out);
            between = ", ";
            continue;
        }
        (void)fprintf(out, "%*s%s:", indent, "", keys->name);
        if (keys->type == KEY_MAP) {
            (void)fputc('\n', out);
            keys_print(keys->keys, base, indent + 2, out);
        } else if (keys->type == KEY_TEXTS || keys->type == KEY_MAPS || keys->type == KEY_ENTRIES) {
            list_print(keys, base, indent, out);
        } else {
            (void)fputc(' ', out);
            value_print(keys, base, out);
            reason_print(keys, (const struct loaded *)(const void *)base, out);
            (void)fputc('\n', out);
        }
    }
    if (indent < 0)
        (void)fputs("}\n", out);
}

void conf_print(const struct conf *conf, FILE *out)
{
    keys_print(conf_schema, (const char *)conf, 0, out);
}

static void key_print(const struct key *key, const char *path, FILE *out)
{
    static const char *const types[] = {[KEY_NUMBER] = "number",
                                        [KEY_CHOICE] = "",
                                        [KEY_TEXT] = "text",
                                        [KEY_MAP] = "mapping",
                                        [KEY_TEXTS] = "list",
                                        [KEY_MAPS] = "list of mappings",
                                        [KEY_ENTRIES] = "list of texts or mappings"};

    (void)fprintf(out, "%s (%s", path, types[key->type]);
    if (key->type == KEY_NUMBER)
        (void)fprintf(out, " from %" PRIu64 " to %" PRIu64 ", %s", key->min, key->max, key->unit);
    if (key->type == KEY_CHOICE)
        for (const cyaml_strval_t *choice = key->choices; choice->str; choice++)
            (void)fprintf(out, "%s%s", choice == key->choices ? "" : " | ", choice->str);
    if (key->required)
        (void)fputs("; required", out);
    if (key->preset)
        (void)fprintf(out, "; default %s", key->preset);
    (void)fprintf(out, "): %s\n", key->help);
}

static void key_list_print(const struct key *keys, const char *parent, FILE *out)
{
    char path[128];

    for (; keys->name; keys++) {
        (void)snprintf(path, sizeof(path), "%s%s%s", parent, keys->name,
                       keys->type == KEY_MAPS || keys->type == KEY_ENTRIES ? "[]" : "");
        key_print(keys, path, out);
        if (!keys->keys)
            continue;
        (void)snprintf(path, sizeof(path), "%s%s%s.", parent, keys->name,
                       keys->type == KEY_MAPS || keys->type == KEY_ENTRIES ? "[]" : "");
        key_list_print(keys->keys, path, out);
    }
}

void conf_print_keys(FILE *out)
{
    key_list_print(conf_schema, "", out);
}

/* What is not the same in two configurations, by the table of keys. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "conf/internal.h"

static bool text_same(const char *one, const char *two)
{
    return one && two ? strcmp(one, two) == 0 : one == two;
}

static bool keys_same(const struct key *keys, const void *one, const void *two);

static const char *text_at(const void *base, size_t offset)
{
    return *(char *const *)(const void *)((const char *)base + offset);
}

static unsigned number_at(const void *base, size_t offset)
{
    return *(const unsigned *)(const void *)((const char *)base + offset);
}

static bool list_same(const struct key *key, const void *one, const void *two)
{
    const char *list1 = text_at(one, key->offset), *list2 = text_at(two, key->offset);
    unsigned count = number_at(one, key->count_offset);

    if (count != number_at(two, key->count_offset))
        return false;
    for (unsigned i = 0; i < count; i++) {
        const char *at1 = list1 + (size_t)i * key->size, *at2 = list2 + (size_t)i * key->size;

        if (key->keys ? !keys_same(key->keys, at1, at2)
                      : !text_same(text_at(at1, 0), text_at(at2, 0)))
            return false;
    }
    return true;
}

static bool key_same(const struct key *key, const void *one, const void *two)
{
    switch (key->type) {
    case KEY_NUMBER:
    case KEY_CHOICE:
        return memcmp((const char *)one + key->offset, (const char *)two + key->offset,
                      key->size) == 0;
    case KEY_TEXT: return text_same(text_at(one, key->offset), text_at(two, key->offset));
    case KEY_MAP: return keys_same(key->keys, one, two); /* its offsets are the file's */
    case KEY_TEXTS:
    case KEY_MAPS:
    case KEY_ENTRIES: break;
    }
    return list_same(key, one, two);
}

static bool keys_same(const struct key *keys, const void *one, const void *two)
{
    for (; keys->name; keys++)
        if (!key_same(keys, one, two))
            return false;
    return true;
}

bool conf_same(const struct conf *one, const struct conf *two, const char *key)
{
    return key_same(conf_key_find(conf_schema, key), one, two);
}

static void say(const char *map, const char *key, bool *any, FILE *out)
{
    (void)fprintf(out, "%s%s%s%s", *any ? ", " : "", map, *map ? "." : "", key);
    *any = true;
}

/* The keys of a mapping that are not the same, or its own name where they are many. */
static void map_say(const struct key *map, const void *one, const void *two, bool *any, FILE *out)
{
    enum { MANY = 4 };
    unsigned count = 0;

    for (const struct key *key = map->keys; key->name; key++)
        count += !key_same(key, one, two);
    if (count >= MANY)
        say("", map->name, any, out);
    for (const struct key *key = map->keys; key->name && count < MANY; key++)
        if (!key_same(key, one, two))
            say(map->name, key->name, any, out);
}

bool conf_changes_print(const struct conf *before, const struct conf *after, FILE *out)
{
    bool any = false;

    for (const struct key *key = conf_schema; key->name; key++) {
        if (key->type == KEY_MAP)
            map_say(key, before, after, &any, out);
        else if (!key_same(key, before, after))
            say("", key->name, &any, out);
    }
    return any;
}

int conf_keep(struct conf *conf, const struct conf *running, FILE *out)
{
    struct loaded *loaded = (struct loaded *)conf;
    const char *text = ((const struct loaded *)running)->core;
    char *core = text ? strdup(text) : NULL;
    bool any = false;

    if (text && !core)
        return -ENOMEM;
    if (!conf_same(conf, running, "core"))
        say("", "core", &any, out);
    if (!conf_same(conf, running, "workers"))
        say("", "workers", &any, out);
    free(loaded->core);
    loaded->core = core;
    conf->core4 = running->core4;
    conf->core6 = running->core6;
    conf->core_port = running->core_port;
    conf->workers = running->workers;
    return 0;
}

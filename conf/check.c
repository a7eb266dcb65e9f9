/* Every mistake of a YAML document at once: here each key by itself, against the schema; what must
 * fit together is in fit.c. Works on the document, not on loaded structs, so that a mistake in one
 * key hides none in another. */
#include <inttypes.h>
#include <string.h>
#include <strings.h>

#include "conf/internal.h"

enum { WORD_MAX = 40 };

static void map_check(struct check *check, const yaml_node_t *map, const struct key *keys,
                      const char *path);

/* ---- Words that are near -------------------------------------------------------------- */

static unsigned least(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/* How many letters must be changed, added, left out or swapped with the next to make one word of
 * the other. */
static unsigned distance(const char *one, const char *two)
{
    unsigned d[WORD_MAX + 1][WORD_MAX + 1];
    size_t len1 = strlen(one), len2 = strlen(two);

    if (len1 > WORD_MAX || len2 > WORD_MAX)
        return WORD_MAX;
    for (size_t i = 0; i <= len1; i++) {
        for (size_t j = 0; j <= len2; j++) {
            if (!i || !j) {
                d[i][j] = (unsigned)(i + j);
                continue;
            }
            d[i][j] = least(d[i - 1][j - 1] + (one[i - 1] != two[j - 1]),
                            least(d[i - 1][j], d[i][j - 1]) + 1);
            if (i > 1 && j > 1 && one[i - 1] == two[j - 2] && one[i - 2] == two[j - 1])
                d[i][j] = least(d[i][j], d[i - 2][j - 2] + 1);
        }
    }
    return d[len1][len2];
}

static void keys_join(const struct key *keys, const char *first, const char *between, char *text,
                      size_t size)
{
    size_t used = 0;

    for (; keys->name && used < size; keys++)
        used +=
            (size_t)snprintf(text + used, size - used, "%s%s", used ? between : first, keys->name);
}

/* The farthest that a word is meant to be another. */
static unsigned distance_max(const char *word)
{
    return 1 + (unsigned)strlen(word) / 6;
}

bool conf_word_near(const char *meant, const char *word)
{
    return distance(meant, word) <= distance_max(meant);
}

static const struct key *key_nearest(const struct key *keys, const char *name)
{
    unsigned best_distance = distance_max(name), d;
    const struct key *best = NULL;

    for (; keys->name; keys++) {
        d = distance(name, keys->name);
        if (d <= (best ? best_distance - 1 : best_distance)) {
            best = keys;
            best_distance = d;
        }
    }
    return best;
}

/* The key that an unknown one was meant to be: near in letters here, or the same elsewhere. */
static void unknown_key(struct check *check, const yaml_node_t *node, const char *name,
                        const struct key *keys, const char *path)
{
    const struct key *near = key_nearest(keys, name);
    const struct key *home = conf_key_find(conf_schema, name) ? conf_schema : NULL;
    char right[512];

    for (const struct key *map = conf_schema; map->name && !home; map++)
        if (map->type == KEY_MAP && conf_key_find(map->keys, name))
            home = map;

    if (!strcmp(name, "<<"))
        (void)snprintf(right, sizeof(right), "no merge keys here; each key in full");
    else if (near)
        (void)snprintf(right, sizeof(right), "no such key; did you mean '%s'?", near->name);
    else if (home == conf_schema)
        (void)snprintf(right, sizeof(right), "no such key here; '%.60s' belongs at the top", name);
    else if (home)
        (void)snprintf(right, sizeof(right), "no such key here; '%.60s' belongs under '%s'", name,
                       home->name);
    else
        keys_join(keys, "no such key; one of ", ", ", right, sizeof(right));
    conf_wrong(check, node, false, path, right);
}

/* ---- Each key by itself ---------------------------------------------------------------- */

/* A tag would ask for a type of its own, which libcyaml does not look at. */
static bool tag_is_plain(const yaml_node_t *node)
{
    static const char *const tags[] = {YAML_STR_TAG, YAML_SEQ_TAG, YAML_MAP_TAG};

    for (size_t i = 0; i < ARRAY_LEN(tags); i++)
        if (!strcmp((const char *)node->tag, tags[i]))
            return true;
    return false;
}

static void number_check(struct check *check, const yaml_node_t *node, const struct key *key,
                         const char *path)
{
    const char *text = conf_node_text(node);
    char right[128];
    uint64_t n;

    if (text && !conf_number(text, key->max, &n) && n >= key->min)
        return;
    (void)snprintf(right, sizeof(right),
                   "a whole number from %" PRIu64 " to %" PRIu64 " (%s), without leading zeros",
                   key->min, key->max, key->unit);
    conf_is_not(check, node, false, path, right);
}

static void choice_check(struct check *check, const yaml_node_t *node, const struct key *key,
                         const char *path)
{
    const char *text = conf_node_text(node);
    char right[128] = "";
    size_t used = 0;

    for (const cyaml_strval_t *choice = key->choices; choice->str; choice++) {
        if (text && !strcmp(text, choice->str))
            return;
        used += (size_t)snprintf(right + used, sizeof(right) - used, "%s%s",
                                 used ? ", " : "one of ", choice->str);
    }
    conf_is_not(check, node, false, path, right);
}

static void text_check(struct check *check, const yaml_node_t *node, const struct text_rule *rule,
                       const char *path)
{
    const char *text = conf_node_text(node);

    if (!text || !rule->valid(text))
        conf_is_not(check, node, rule->secret, path, rule->right);
}

/* Whether a list, of a length that the key allows. */
static bool list_check(struct check *check, const yaml_node_t *node, const struct key *key,
                       const char *path)
{
    char right[96];

    if (node->type != YAML_SEQUENCE_NODE) {
        conf_is_not(check, node, key->text && key->text->secret, path, "a list: [..., ...]");
        return false;
    }
    if (conf_list_count(node) < key->min || conf_list_count(node) > key->max) {
        (void)snprintf(right, sizeof(right), "a list of %" PRIu64 " to %" PRIu64 " entries",
                       key->min, key->max);
        conf_is_not(check, node, false, path, right);
        return false;
    }
    return true;
}

static void texts_check(struct check *check, const yaml_node_t *node, const struct key *key,
                        const char *path)
{
    char item_path[PATH_SIZE], right[64];

    if (!list_check(check, node, key, path))
        return;
    for (size_t i = 0; i < conf_list_count(node); i++) {
        const yaml_node_t *item = conf_list_item(check, node, i);
        const char *text = conf_node_text(item);

        conf_path_item(item_path, path, i);
        text_check(check, item, key->text, item_path);
        for (size_t j = 0; text && j < i; j++) {
            const char *other = conf_node_text(conf_list_item(check, node, j));
            if (!other ||
                !(key->text->same ? key->text->same(text, other) : !strcasecmp(text, other)))
                continue;
            (void)snprintf(right, sizeof(right), "each one once; it is entry [%zu] too", j);
            conf_wrong(check, item, key->text->secret, item_path, right);
            break;
        }
    }
}

static void entries_check(struct check *check, const yaml_node_t *node, const struct key *key,
                          const char *path)
{
    char item_path[PATH_SIZE];

    if (!list_check(check, node, key, path))
        return;
    for (size_t i = 0; i < conf_list_count(node); i++) {
        const yaml_node_t *item = conf_list_item(check, node, i);

        conf_path_item(item_path, path, i);
        if (item->type == YAML_MAPPING_NODE)
            map_check(check, item, key->keys, item_path);
        else
            text_check(check, item, key->text, item_path);
    }
}

static void value_check(struct check *check, const yaml_node_t *node, const struct key *key,
                        const char *path)
{
    char item_path[PATH_SIZE];

    if (!tag_is_plain(node)) {
        conf_wrong(check, node, key->text && key->text->secret, path,
                   "write the value without a tag (!...)");
        return;
    }
    switch (key->type) {
    case KEY_NUMBER: number_check(check, node, key, path); break;
    case KEY_CHOICE: choice_check(check, node, key, path); break;
    case KEY_TEXT: text_check(check, node, key->text, path); break;
    case KEY_TEXTS: texts_check(check, node, key, path); break;
    case KEY_ENTRIES: entries_check(check, node, key, path); break;
    case KEY_MAP:
        if (key->text && node->type == YAML_SCALAR_NODE)
            text_check(check, node, key->text, path);
        else
            map_check(check, node, key->keys, path);
        break;
    case KEY_MAPS:
        if (!list_check(check, node, key, path))
            break;
        for (size_t i = 0; i < conf_list_count(node); i++) {
            conf_path_item(item_path, path, i);
            map_check(check, conf_list_item(check, node, i), key->keys, item_path);
        }
        break;
    }
}

/* The line where this key already stands above `until`; 0: nowhere. */
static int key_line_before(struct check *check, const yaml_node_t *map, const char *name,
                           const yaml_node_pair_t *until)
{
    for (yaml_node_pair_t *pair = map->data.mapping.pairs.start; pair < until; pair++) {
        const yaml_node_t *node = yaml_document_get_node(check->document, pair->key);
        const char *text = conf_node_text(node);
        if (text && !strcmp(text, name))
            return conf_node_line(node);
    }
    return 0;
}

static void pair_check(struct check *check, const yaml_node_t *map, const yaml_node_pair_t *pair,
                       const struct key *keys, const char *path)
{
    const yaml_node_t *node = yaml_document_get_node(check->document, pair->key);
    const char *name = conf_node_text(node);
    const struct key *key;
    char key_path[PATH_SIZE], shown[VALUE_SHOWN], right[64];
    int line;

    conf_path_key(key_path, path, conf_node_show(node, false, shown));
    if (!name) {
        conf_is_not(check, node, false, key_path, "the name of a key");
        return;
    }
    line = key_line_before(check, map, name, pair);
    if (line) {
        (void)snprintf(right, sizeof(right), "each key once; it is on line %d already", line);
        conf_wrong(check, node, false, key_path, right);
        return;
    }
    key = conf_key_find(keys, name);
    if (key)
        value_check(check, yaml_document_get_node(check->document, pair->value), key, key_path);
    else
        unknown_key(check, node, name, keys, key_path);
}

static void map_check(struct check *check, const yaml_node_t *map, const struct key *keys,
                      const char *path)
{
    char key_path[PATH_SIZE], right[512];
    const char *variable;

    if (map->type != YAML_MAPPING_NODE || !tag_is_plain(map)) {
        keys_join(keys, "a mapping, {KEY: VALUE, ...}, of ", ", ", right, sizeof(right));
        conf_is_not(check, map, false, *path ? path : "(file)", right);
        return;
    }
    for (yaml_node_pair_t *pair = map->data.mapping.pairs.start; pair < map->data.mapping.pairs.top;
         pair++)
        pair_check(check, map, pair, keys, path);

    for (const struct key *key = keys; key->name; key++) {
        if (!key->required || conf_node(check->document, map, key->name))
            continue;
        conf_path_key(key_path, path, key->name);
        variable = conf_variable_of(key, ~0U);
        conf_mistake(check->mistakes, conf_node_line(map), "%s: is missing: %s%s%s", key_path,
                     key->text ? key->text->right : key->help,
                     variable ? "; or set the environment variable " : "",
                     variable ? variable : "");
    }
}

void conf_check(yaml_document_t *document, struct mistakes *mistakes)
{
    struct check check = {document, mistakes};
    const yaml_node_t *root = yaml_document_get_root_node(document);

    map_check(&check, root, conf_schema, "");
    if (root->type == YAML_MAPPING_NODE)
        conf_fit_check(&check, root);
}

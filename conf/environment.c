/* What environment variables say, as containers are told: it is put into the document of the file,
 * in the place of what stands there, and so checked, loaded and printed like it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conf/internal.h"

#define PREFIX "SIPWARD_"

struct variable {
    const char *name, *map, *key; /* `map`: that the key is in; NULL: the file itself */
};

static const struct variable variables[] = {
    {"SIPWARD_DOMAIN",            NULL,          "domain"   },
    {"SIPWARD_BACKENDS",          NULL,          "backends" },
    {"SIPWARD_PROFILE",           NULL,          "profile"  },
    {"SIPWARD_CORE",              NULL,          "core"     },
    {"SIPWARD_CERTIFICATE_CHAIN", "certificate", "chain"    },
    {"SIPWARD_CERTIFICATE_KEY",   "certificate", "key"      },
    {"SIPWARD_ADMIN",             "admin",       "listen"   },
    {"SIPWARD_ADMIN_TOKEN",       "admin",       "token"    },
    {"SIPWARD_LOG",               NULL,          "log"      },
    {"SIPWARD_LOG_LEVEL",         NULL,          "log_level"},
};

/* Lines of the file count from 1; a variable has a negative one, in the order of the table. */
static int variable_line(const struct variable *variable)
{
    return (int)(variable - variables) - (int)ARRAY_LEN(variables);
}

const char *conf_variable_at(int line)
{
    return line < 0 ? variables[(int)ARRAY_LEN(variables) + line].name : NULL;
}

/* NULL where it is not set, or empty, as Compose gives what nobody set. */
static const char *variable_value(const struct variable *variable)
{
    const char *value = getenv(variable->name);

    return value && *value ? value : NULL;
}

static const struct key *variable_key(const struct variable *variable)
{
    return conf_key_find(variable->map ? conf_key_find(conf_schema, variable->map)->keys
                                       : conf_schema,
                         variable->key);
}

unsigned conf_variables_set(void)
{
    unsigned set = 0;

    for (size_t i = 0; i < ARRAY_LEN(variables); i++)
        if (variable_value(&variables[i]))
            set |= 1U << i;
    return set;
}

const char *conf_variable_of(const struct key *key, unsigned set)
{
    for (size_t i = 0; i < ARRAY_LEN(variables); i++)
        if (set & 1U << i && variable_key(&variables[i]) == key)
            return variables[i].name;
    return NULL;
}

/* ---- Into the document. Nodes are numbers, and 0 is no memory, as libyaml has it. -------- */

static int node_mark(yaml_document_t *document, const struct variable *variable, int node)
{
    if (node)
        yaml_document_get_node(document, node)->start_mark.line =
            (size_t)(variable_line(variable) - 1); /* as conf_node_line() reads it */
    return node;
}

static int text_add(yaml_document_t *document, const struct variable *variable, const char *text,
                    size_t len)
{
    return node_mark(document, variable,
                     yaml_document_add_scalar(document, NULL, (const yaml_char_t *)text, (int)len,
                                              YAML_DOUBLE_QUOTED_SCALAR_STYLE));
}

/* ENTRY,ENTRY with blanks around or without. */
static int list_add(yaml_document_t *document, const struct variable *variable, const char *text)
{
    int list = node_mark(document, variable,
                         yaml_document_add_sequence(document, NULL, YAML_FLOW_SEQUENCE_STYLE));

    while (list) {
        size_t size, len;
        int item;

        text += strspn(text, " ");
        size = len = strcspn(text, ",");
        while (len && text[len - 1] == ' ')
            len--;
        item = text_add(document, variable, text, len);
        if (!item || !yaml_document_append_sequence_item(document, list, item))
            return 0;
        if (!text[size])
            break;
        text += size + 1;
    }
    return list;
}

static yaml_node_pair_t *pair_find(yaml_document_t *document, int map, const char *key)
{
    const yaml_node_t *node = yaml_document_get_node(document, map);
    const char *name;

    for (yaml_node_pair_t *pair = node->data.mapping.pairs.start;
         pair < node->data.mapping.pairs.top; pair++) {
        name = conf_node_text(yaml_document_get_node(document, pair->key));
        if (name && !strcmp(name, key))
            return pair;
    }
    return NULL;
}

static int pair_put(yaml_document_t *document, const struct variable *variable, int map,
                    const char *key, int value)
{
    yaml_node_pair_t *pair = pair_find(document, map, key);
    int name;

    if (!value)
        return 0;
    if (pair) {
        pair->value = value;
        return value;
    }
    name = text_add(document, variable, key, strlen(key));
    return name && yaml_document_append_mapping_pair(document, map, name, value) ? value : 0;
}

static bool is_map(yaml_document_t *document, int node)
{
    return yaml_document_get_node(document, node)->type == YAML_MAPPING_NODE;
}

/* The mapping that a variable's key is in: the file itself, or one of it, which is made where it is
 * missing, or where the text stands that is short for its first key. */
static int map_get(yaml_document_t *document, const struct variable *variable)
{
    const int root = 1;
    const struct key *key;
    int map, text = 0;

    if (!variable->map)
        return root;
    key = conf_key_find(conf_schema, variable->map);
    if (pair_find(document, root, key->name)) {
        text = pair_find(document, root, key->name)->value;
        if (!key->text || is_map(document, text))
            return text;
    }
    map = node_mark(document, variable,
                    yaml_document_add_mapping(document, NULL, YAML_BLOCK_MAPPING_STYLE));
    if (text && !pair_put(document, variable, map, key->keys->name, text))
        return 0;
    return pair_put(document, variable, root, key->name, map);
}

static bool variable_put(yaml_document_t *document, const struct variable *variable,
                         const char *value)
{
    int map = map_get(document, variable);

    if (!map || !is_map(document, map)) /* the check says what that should be */
        return map;
    return pair_put(document, variable, map, variable->key,
                    variable_key(variable)->type == KEY_ENTRIES
                        ? list_add(document, variable, value)
                        : text_add(document, variable, value, strlen(value)));
}

static bool is_ascii(const char *text)
{
    while (*text > 0)
        text++;
    return !*text;
}

int conf_environment_put(yaml_document_t *document, struct mistakes *mistakes)
{
    for (size_t i = 0; i < ARRAY_LEN(variables); i++) {
        const char *value = variable_value(&variables[i]);
        if (!value || !is_map(document, 1) || variable_put(document, &variables[i], value))
            continue;
        if (is_ascii(value))
            return -ENOMEM;
        conf_mistake(mistakes, variable_line(&variables[i]), "its value is no text in UTF-8");
    }
    return 0;
}

/* ---- What is wrong with them ------------------------------------------------------------- */

/* Names that are meant for one of ours. Others pass: Kubernetes and Docker make up variables for
 * whatever is called sipward, such as SIPWARD_SERVICE_HOST. */
static void name_check(const char *name, struct mistakes *mistakes)
{
    for (size_t i = 0; i < ARRAY_LEN(variables); i++)
        if (!strcmp(name, variables[i].name))
            return;
    for (size_t i = 0; i < ARRAY_LEN(variables); i++)
        if (conf_word_near(name + strlen(PREFIX), variables[i].name + strlen(PREFIX))) {
            conf_mistake(mistakes, 0, "%.80s: no such variable; did you mean %s?", name,
                         variables[i].name);
            return;
        }
}

void conf_environment_check(struct mistakes *mistakes)
{
    for (char **entry = environ; *entry; entry++) {
        char name[80];
        size_t len = strcspn(*entry, "=");

        if (strncmp(*entry, PREFIX, strlen(PREFIX)) != 0 || len >= sizeof(name))
            continue;
        (void)snprintf(name, sizeof(name), "%.*s", (int)len, *entry);
        name_check(name, mistakes);
    }
}

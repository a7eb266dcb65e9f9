/* Nodes of a YAML document: what they hold, and how a mistake shows them. */
#include <string.h>

#include "conf/internal.h"

int conf_node_line(const yaml_node_t *node)
{
    return node ? (int)node->start_mark.line + 1 : 1;
}

/* An empty value, ~ and null: YAML's words for nothing. */
static bool node_is_null(const yaml_node_t *node)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL"};

    if (node->type != YAML_SCALAR_NODE || node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(nulls); i++)
        if (!strcmp((const char *)node->data.scalar.value, nulls[i]))
            return true;
    return false;
}

const char *conf_node_text(const yaml_node_t *node)
{
    if (!node || node->type != YAML_SCALAR_NODE || node_is_null(node))
        return NULL;
    if (strlen((const char *)node->data.scalar.value) != node->data.scalar.length)
        return NULL; /* "\0" */
    return (const char *)node->data.scalar.value;
}

const yaml_node_t *conf_node(yaml_document_t *document, const yaml_node_t *map, const char *key)
{
    if (!map || map->type != YAML_MAPPING_NODE)
        return NULL;
    for (yaml_node_pair_t *pair = map->data.mapping.pairs.start; pair < map->data.mapping.pairs.top;
         pair++) {
        const char *name = conf_node_text(yaml_document_get_node(document, pair->key));
        if (name && !strcmp(name, key))
            return yaml_document_get_node(document, pair->value);
    }
    return NULL;
}

const char *conf_backend_place(yaml_document_t *document, const yaml_node_t *entry,
                               enum conf_transport *transport)
{
    static const char *const kinds[] = {
        [CONF_TRANSPORT_UDP] = "udp",
        [CONF_TRANSPORT_TCP] = "tcp",
        [CONF_TRANSPORT_AUTO] = "auto",
    };
    const char *text = conf_node_text(entry);

    if (text)
        return conf_transport_split(&text, transport) ? NULL : text;
    for (size_t kind = 0; kind < ARRAY_LEN(kinds); kind++) {
        text = conf_node_text(conf_node(document, entry, kinds[kind]));
        *transport = (enum conf_transport)kind;
        if (text)
            return text;
    }
    return NULL;
}

size_t conf_list_count(const yaml_node_t *list)
{
    if (!list || list->type != YAML_SEQUENCE_NODE)
        return 0;
    return (size_t)(list->data.sequence.items.top - list->data.sequence.items.start);
}

const yaml_node_t *conf_list_item(struct check *check, const yaml_node_t *list, size_t i)
{
    return yaml_document_get_node(check->document, list->data.sequence.items.start[i]);
}

const char *conf_node_show(const yaml_node_t *node, bool secret, char shown[VALUE_SHOWN])
{
    size_t len, used = 0;

    if (node->type == YAML_MAPPING_NODE)
        return "{...}";
    if (node->type == YAML_SEQUENCE_NODE)
        return "[...]";
    if (secret && !node_is_null(node))
        return "(secret)";
    len = node->data.scalar.length;
    while (used < len && used < VALUE_SHOWN - 4) {
        unsigned char c = node->data.scalar.value[used];
        shown[used++] = (char)(c < ' ' || c == 0x7f ? '?' : c);
    }
    memcpy(shown + used, used < len ? "..." : "", used < len ? 4 : 1);
    return shown;
}

static void tell(struct check *check, const yaml_node_t *node, bool secret, const char *path,
                 const char *verdict, const char *words)
{
    char shown[VALUE_SHOWN];

    conf_mistake(check->mistakes, conf_node_line(node), "%s: '%s' %s %s", path,
                 conf_node_show(node, secret, shown), verdict, words);
}

void conf_is_not(struct check *check, const yaml_node_t *node, bool secret, const char *path,
                 const char *right)
{
    tell(check, node, secret, path, "is not", right);
}

void conf_wrong(struct check *check, const yaml_node_t *node, bool secret, const char *path,
                const char *why)
{
    tell(check, node, secret, path, "is wrong:", why);
}

void conf_path_key(char path[PATH_SIZE], const char *map, const char *key)
{
    (void)snprintf(path, PATH_SIZE, "%.80s%s%.60s", map, *map ? "." : "", key);
}

void conf_path_item(char path[PATH_SIZE], const char *list, size_t i)
{
    (void)snprintf(path, PATH_SIZE, "%.100s[%zu]", list, i);
}

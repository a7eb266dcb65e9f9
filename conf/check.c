/* Every mistake of a YAML document at once: first each key by itself, against the schema, then
 * what must fit together. Works on the document, not on loaded structs, so that a mistake in one
 * key hides none in another. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/internal.h"

enum { PATH_SIZE = 160, VALUE_SHOWN = 80, WORD_MAX = 40, PORT_DEFAULT = 5060 };

struct check {
    yaml_document_t *document;
    struct mistakes *mistakes;
};

static void map_check(struct check *check, const yaml_node_t *map, const struct key *keys,
                      const char *path);

/* ---- The document ---------------------------------------------------------------------- */

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

static size_t list_count(const yaml_node_t *list)
{
    if (!list || list->type != YAML_SEQUENCE_NODE)
        return 0;
    return (size_t)(list->data.sequence.items.top - list->data.sequence.items.start);
}

static const yaml_node_t *list_item(struct check *check, const yaml_node_t *list, size_t i)
{
    return yaml_document_get_node(check->document, list->data.sequence.items.start[i]);
}

/* ---- What a mistake says --------------------------------------------------------------- */

/* A value as an error shows it: short, printable, no secret. */
static const char *value_show(const yaml_node_t *node, bool secret, char shown[VALUE_SHOWN])
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
                 value_show(node, secret, shown), verdict, words);
}

/* "log: 'xml' is not one of text, json". */
static void is_not(struct check *check, const yaml_node_t *node, bool secret, const char *path,
                   const char *right)
{
    tell(check, node, secret, path, "is not", right);
}

/* Where its form is not what is wrong. */
static void wrong(struct check *check, const yaml_node_t *node, bool secret, const char *path,
                  const char *why)
{
    tell(check, node, secret, path, "is wrong:", why);
}

static void path_key(char path[PATH_SIZE], const char *map, const char *key)
{
    (void)snprintf(path, PATH_SIZE, "%.80s%s%.60s", map, *map ? "." : "", key);
}

static void path_item(char path[PATH_SIZE], const char *list, size_t i)
{
    (void)snprintf(path, PATH_SIZE, "%.100s[%zu]", list, i);
}

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
    wrong(check, node, false, path, right);
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
    is_not(check, node, false, path, right);
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
    is_not(check, node, false, path, right);
}

static void text_check(struct check *check, const yaml_node_t *node, const struct text_rule *rule,
                       const char *path)
{
    const char *text = conf_node_text(node);

    if (!text || !rule->valid(text))
        is_not(check, node, rule->secret, path, rule->right);
}

/* Whether a list, of a length that the key allows. */
static bool list_check(struct check *check, const yaml_node_t *node, const struct key *key,
                       const char *path)
{
    char right[96];

    if (node->type != YAML_SEQUENCE_NODE) {
        is_not(check, node, key->text && key->text->secret, path, "a list: [..., ...]");
        return false;
    }
    if (list_count(node) < key->min || list_count(node) > key->max) {
        (void)snprintf(right, sizeof(right), "a list of %" PRIu64 " to %" PRIu64 " entries",
                       key->min, key->max);
        is_not(check, node, false, path, right);
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
    for (size_t i = 0; i < list_count(node); i++) {
        const yaml_node_t *item = list_item(check, node, i);
        const char *text = conf_node_text(item);

        path_item(item_path, path, i);
        text_check(check, item, key->text, item_path);
        for (size_t j = 0; text && j < i; j++) {
            const char *other = conf_node_text(list_item(check, node, j));
            if (!other ||
                !(key->text->same ? key->text->same(text, other) : !strcasecmp(text, other)))
                continue;
            (void)snprintf(right, sizeof(right), "each one once; it is entry [%zu] too", j);
            wrong(check, item, key->text->secret, item_path, right);
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
    for (size_t i = 0; i < list_count(node); i++) {
        const yaml_node_t *item = list_item(check, node, i);

        path_item(item_path, path, i);
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
        wrong(check, node, key->text && key->text->secret, path,
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
        for (size_t i = 0; i < list_count(node); i++) {
            path_item(item_path, path, i);
            map_check(check, list_item(check, node, i), key->keys, item_path);
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

    path_key(key_path, path, value_show(node, false, shown));
    if (!name) {
        is_not(check, node, false, key_path, "the name of a key");
        return;
    }
    line = key_line_before(check, map, name, pair);
    if (line) {
        (void)snprintf(right, sizeof(right), "each key once; it is on line %d already", line);
        wrong(check, node, false, key_path, right);
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
        is_not(check, map, false, *path ? path : "(file)", right);
        return;
    }
    for (yaml_node_pair_t *pair = map->data.mapping.pairs.start; pair < map->data.mapping.pairs.top;
         pair++)
        pair_check(check, map, pair, keys, path);

    for (const struct key *key = keys; key->name; key++) {
        if (!key->required || conf_node(check->document, map, key->name))
            continue;
        path_key(key_path, path, key->name);
        variable = conf_variable_of(key, ~0U);
        conf_mistake(check->mistakes, conf_node_line(map), "%s: is missing: %s%s%s", key_path,
                     key->text ? key->text->right : key->help,
                     variable ? "; or set the environment variable " : "",
                     variable ? variable : "");
    }
}

/* ---- What must fit together ------------------------------------------------------------ */

static bool key_is_kind(const struct key *key)
{
    return key->type == KEY_TEXT;
}

static bool kind_is_secure(const struct key *kind)
{
    return !strncmp(kind->name, "tls", 3) || !strcmp(kind->name, "wss");
}

/* Whether an entry of `listen` names one kind, or what is taken for one: an unknown key, which
 * has been told. */
static bool kind_is_one(struct check *check, const yaml_node_t *entry, const struct key *keys)
{
    size_t others = (size_t)(entry->data.mapping.pairs.top - entry->data.mapping.pairs.start);
    size_t kinds = 0;

    for (; keys->name; keys++)
        if (key_is_kind(keys))
            kinds += conf_node(check->document, entry, keys->name) != NULL;
        else
            others -= conf_node(check->document, entry, keys->name) != NULL;
    return kinds == 1 || others == 1;
}

/* Listeners: one kind in each entry, no socket twice. Returns whether any of them needs a
 * certificate. */
static bool listeners_check(struct check *check, const yaml_node_t *root, const struct key *kinds)
{
    const yaml_node_t *list = conf_node(check->document, root, "listen");
    union conf_sockaddr seen[CONF_LISTENERS_MAX], address;
    size_t seen_at[CONF_LISTENERS_MAX], seen_count = 0;
    char path[PATH_SIZE], key_path[PATH_SIZE], right[64];
    bool secure = false, any;

    for (size_t i = 0; i < list_count(list) && i < CONF_LISTENERS_MAX; i++) {
        const yaml_node_t *entry = list_item(check, list, i), *first = NULL;

        path_item(path, "listen", i);
        if (entry->type != YAML_MAPPING_NODE)
            continue;
        if (!kind_is_one(check, entry, kinds))
            is_not(check, entry, false, path,
                   "one of tls, wss, tcp, ws, tls+wss, tcp+ws; an entry for each listener");
        for (const struct key *kind = kinds; kind->name && !first; kind++) {
            first = key_is_kind(kind) ? conf_node(check->document, entry, kind->name) : NULL;
            if (first) {
                path_key(key_path, path, kind->name);
                secure |= kind_is_secure(kind);
            }
        }
        if (!conf_node_text(first) || conf_listener_parse(conf_node_text(first), &address, &any))
            continue;
        for (size_t j = 0; j < seen_count; j++) {
            if (!conf_sockaddr_eq(&seen[j], &address))
                continue;
            (void)snprintf(right, sizeof(right), "listen[%zu] has that port already", seen_at[j]);
            wrong(check, first, false, key_path, right);
            break;
        }
        seen[seen_count] = address;
        seen_at[seen_count++] = i;
    }
    return secure;
}

static void file_check(struct check *check, const yaml_node_t *node, const char *map_path,
                       const char *key)
{
    char key_path[PATH_SIZE], right[512], uid[32];
    const char *name = conf_node_text(node);
    struct stat status;
    char *path;
    int fd, err = 0;

    if (!name || !conf_text_valid(name))
        return;
    path = conf_file_path(check->mistakes->path, name);
    if (!path) {
        check->mistakes->no_memory = true;
        return;
    }
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &status))
        err = errno;
    else if (S_ISDIR(status.st_mode))
        err = EISDIR;
    if (fd >= 0)
        close(fd);
    if (err) {
        bool same = !strcmp(name, path);

        path_key(key_path, map_path, key);
        (void)snprintf(uid, sizeof(uid), " for uid %u", (unsigned)geteuid());
        (void)snprintf(right, sizeof(right), "a file that can be read (%s%s)%s%.400s",
                       strerror(err), err == EACCES ? uid : "", same ? "" : ": ", same ? "" : path);
        is_not(check, node, false, key_path, right);
    }
    free(path);
}

static bool listener_is_secure(struct check *check, const yaml_node_t *entry)
{
    for (const struct key *key = conf_key_find(conf_schema, "listen")->keys; key->name; key++)
        if (kind_is_secure(key) && conf_node(check->document, entry, key->name))
            return true;
    return false;
}

/* Certificates of clients: who asks for them needs to know their CAs, and the other way round. */
static void clients_check(struct check *check, const yaml_node_t *root)
{
    const yaml_node_t *list = conf_node(check->document, root, "listen");
    const yaml_node_t *ca = conf_node(check->document, root, "client_ca");
    char path[PATH_SIZE], key_path[PATH_SIZE];
    bool asked = false;

    file_check(check, ca, "", "client_ca");
    for (size_t i = 0; i < list_count(list); i++) {
        const yaml_node_t *entry = list_item(check, list, i);
        const yaml_node_t *node = conf_node(check->document, entry, "client_certificate");
        const char *text = conf_node_text(node);

        if (!text || (strcmp(text, "asked") != 0 && strcmp(text, "required") != 0))
            continue;
        asked = true;
        path_item(path, "listen", i);
        path_key(key_path, path, "client_certificate");
        if (!listener_is_secure(check, entry))
            wrong(check, node, false, key_path,
                  "only tls, wss and tls+wss listeners can ask for one");
        else if (!ca)
            wrong(check, node, false, key_path,
                  "`client_ca: FILE` at the top is missing: the CAs to accept");
    }
    if (ca && !asked)
        wrong(check, ca, false, "client_ca",
              "no listener has `client_certificate: asked` or `required`, so it is of no use");
}

static void certificate_check(struct check *check, const yaml_node_t *map, const char *path)
{
    file_check(check, conf_node(check->document, map, "chain"), path, "chain");
    file_check(check, conf_node(check->document, map, "key"), path, "key");
}

static void certificates_check(struct check *check, const yaml_node_t *root, bool needed)
{
    const yaml_node_t *one = conf_node(check->document, root, "certificate");
    const yaml_node_t *more = conf_node(check->document, root, "certificates");
    char path[PATH_SIZE];

    certificate_check(check, one, "certificate");
    for (size_t i = 0; i < list_count(more); i++) {
        path_item(path, "certificates", i);
        certificate_check(check, list_item(check, more, i), path);
    }
    if (needed && !one && !list_count(more))
        conf_mistake(check->mistakes, conf_node_line(root),
                     "certificate: is missing: {chain: FILE, key: FILE}, as tls and wss listeners "
                     "need one; or set the environment variables SIPWARD_CERTIFICATE_CHAIN and "
                     "SIPWARD_CERTIFICATE_KEY");
}

/* sipward's own core address: on one machine with the PBX both want port 5060. */
static bool place_is_core(const char *place, const union conf_sockaddr *core4,
                          const union conf_sockaddr *core6, uint16_t core_port)
{
    union conf_sockaddr address;
    char host[CONF_HOST_SIZE];
    uint16_t port;

    if (conf_place_parse(place, host, &port) || (port ? port : PORT_DEFAULT) != core_port ||
        conf_address_parse(strcasecmp(host, "localhost") ? host : "127.0.0.1", core_port, &address))
        return false;
    if (address.sa.sa_family == AF_INET)
        return core4->sa.sa_family ? conf_sockaddr_eq(&address, core4)
                                   : ntohl(address.in.sin_addr.s_addr) == INADDR_LOOPBACK;
    return core6->sa.sa_family ? conf_sockaddr_eq(&address, core6)
                               : IN6_IS_ADDR_LOOPBACK(&address.in6.sin6_addr);
}

/* Backends: one kind in each mapping, no place twice, whatever the transport. */
static void backends_check(struct check *check, const yaml_node_t *root)
{
    const yaml_node_t *list = conf_node(check->document, root, "backends");
    const struct key *kinds = conf_key_find(conf_schema, "backends")->keys;
    const char *core = conf_node_text(conf_node(check->document, root, "core"));
    const char *place, *places[CONF_BACKENDS_MAX] = {0};
    union conf_sockaddr core4 = {{0}}, core6 = {{0}};
    uint16_t core_port = PORT_DEFAULT;
    bool core_wrong = core && conf_core_parse(core, &core4, &core6, &core_port);
    enum conf_transport transport;
    char path[PATH_SIZE], right[64];

    for (size_t i = 0; i < list_count(list) && i < CONF_BACKENDS_MAX; i++) {
        const yaml_node_t *item = list_item(check, list, i);

        path_item(path, "backends", i);
        if (item->type == YAML_MAPPING_NODE && !kind_is_one(check, item, kinds))
            is_not(check, item, false, path, "one of udp, tcp, auto; an entry for each backend");
        place = places[i] = conf_backend_place(check->document, item, &transport);
        for (size_t j = 0; place && j < i; j++) {
            if (!places[j] || !conf_place_same(place, places[j]))
                continue;
            (void)snprintf(right, sizeof(right), "each one once; it is entry [%zu] too", j);
            wrong(check, item, false, path, right);
            break;
        }
        if (place && !core_wrong && place_is_core(place, &core4, &core6, core_port))
            wrong(check, item, false, path,
                  "sipward's own port on that address; give `core` another one, as in :5070");
    }
}

struct name {
    const char *text;
    const yaml_node_t *node;
    size_t at; /* in the list of users */
};

static int name_compare(const void *one, const void *two)
{
    const struct name *a = one, *b = two;
    int order = strcmp(a->text, b->text);

    return order ? order : (a->at > b->at) - (a->at < b->at);
}

/* Sorted, because there may be many. */
static void user_names_check(struct check *check, const yaml_node_t *users)
{
    size_t count = 0, first = 0;
    struct name *names = calloc(list_count(users) + 1, sizeof(*names));
    char path[PATH_SIZE], right[64];

    if (!names) {
        check->mistakes->no_memory = true;
        return;
    }
    for (size_t i = 0; i < list_count(users); i++) {
        const yaml_node_t *node = conf_node(check->document, list_item(check, users, i), "name");
        const char *text = conf_node_text(node);
        if (text)
            names[count++] = (struct name){text, node, i};
    }
    qsort(names, count, sizeof(*names), name_compare);
    for (size_t i = 1; i < count; i++) {
        if (strcmp(names[first].text, names[i].text) != 0) {
            first = i;
            continue;
        }
        (void)snprintf(path, sizeof(path), "users[%zu].name", names[i].at);
        (void)snprintf(right, sizeof(right), "each user once; users[%zu] has this name",
                       names[first].at);
        wrong(check, names[i].node, false, path, right);
    }
    free(names);
}

/* One that is no list has been told. */
static bool is_empty(const yaml_node_t *list)
{
    return !list || (list->type == YAML_SEQUENCE_NODE && !list_count(list));
}

static void users_check(struct check *check, const yaml_node_t *root)
{
    const yaml_node_t *backends = conf_node(check->document, root, "backends");
    const yaml_node_t *users = conf_node(check->document, root, "users");
    char path[PATH_SIZE];

    if (is_empty(backends) && is_empty(users))
        conf_mistake(check->mistakes, conf_node_line(root),
                     "backends: is missing: a list such as [udp:10.0.0.5:5060]; or `users`, for "
                     "sipward's own registrar; or set the environment variable "
                     "SIPWARD_BACKENDS");
    if (list_count(backends) && list_count(users))
        wrong(check, users, false, "users",
              "there are `backends` as well, and users are of sipward's own registrar, which "
              "serves only where there is no backend");

    for (size_t i = 0; i < list_count(users); i++) {
        const yaml_node_t *user = list_item(check, users, i);
        bool password = conf_node(check->document, user, "password");
        bool hash = conf_node(check->document, user, "ha1_md5") ||
                    conf_node(check->document, user, "ha1_sha256");

        path_item(path, "users", i);
        if (user->type == YAML_MAPPING_NODE && password == hash)
            conf_mistake(check->mistakes, conf_node_line(user), "%s%s", path,
                         hash ? ": '{...}' is wrong: password or ha1_md5 and ha1_sha256, not both"
                              : ".password: is missing: a password, or ha1_md5, ha1_sha256 or "
                                "both in its place");
    }
    user_names_check(check, users);
}

static void rules_check(struct check *check, const yaml_node_t *root)
{
    const yaml_node_t *rules =
        conf_node(check->document, conf_node(check->document, root, "headers"), "rules");
    char list_path[PATH_SIZE], path[PATH_SIZE];

    for (size_t i = 0; i < list_count(rules); i++) {
        const yaml_node_t *rule = list_item(check, rules, i);
        const char *action = conf_node_text(conf_node(check->document, rule, "action"));
        const yaml_node_t *value = conf_node(check->document, rule, "value");

        if (!action)
            continue;
        path_item(list_path, "headers.rules", i);
        path_key(path, list_path, "value");
        if (!strcmp(action, "remove") && value)
            wrong(check, value, false, path, "no value where the action is remove");
        else if ((!strcmp(action, "set") || !strcmp(action, "add")) && !value)
            conf_mistake(check->mistakes, conf_node_line(rule),
                         "%s: is missing: the value that the action %s puts in", path, action);
    }
}

/* One number must not be above another one of the same mapping, defaults included. */
static void order_check(struct check *check, const yaml_node_t *root, const char *map,
                        const char *low, const char *high)
{
    const struct key *keys = conf_key_find(conf_schema, map)->keys;
    const struct key *low_key = conf_key_find(keys, low), *high_key = conf_key_find(keys, high);
    const yaml_node_t *node = conf_node(check->document, root, map);
    const yaml_node_t *low_node = conf_node(check->document, node, low);
    const yaml_node_t *high_node = conf_node(check->document, node, high);
    const char *low_text = low_node ? conf_node_text(low_node) : low_key->preset;
    const char *high_text = high_node ? conf_node_text(high_node) : high_key->preset;
    char path[PATH_SIZE], right[160];
    uint64_t low_n, high_n;

    if (!low_text || !high_text || conf_number(low_text, low_key->max, &low_n) ||
        conf_number(high_text, high_key->max, &high_n) || low_n <= high_n)
        return;
    path_key(path, map, high_node ? high : low);
    (void)snprintf(right, sizeof(right), "it is %s %s, which is %" PRIu64 "%s",
                   high_node ? "below" : "above", high_node ? low : high,
                   high_node ? low_n : high_n, low_node && high_node ? "" : " unless set");
    wrong(check, high_node ? high_node : low_node, false, path, right);
}

void conf_check(yaml_document_t *document, struct mistakes *mistakes)
{
    struct check check = {document, mistakes};
    const yaml_node_t *root = yaml_document_get_root_node(document);

    map_check(&check, root, conf_schema, "");
    if (root->type != YAML_MAPPING_NODE)
        return;
    certificates_check(&check, root,
                       listeners_check(&check, root, conf_key_find(conf_schema, "listen")->keys));
    clients_check(&check, root);
    backends_check(&check, root);
    users_check(&check, root);
    rules_check(&check, root);
    order_check(&check, root, "registrar", "min_expires", "default_expires");
    order_check(&check, root, "registrar", "default_expires", "max_expires");
    order_check(&check, root, "limits", "message_size", "send_queue");
}

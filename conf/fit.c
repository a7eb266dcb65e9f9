/* What must fit together in a document: certificates and listeners, backends and users, and so on.
 */
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

enum { PORT_DEFAULT = 5060 };

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

    for (size_t i = 0; i < conf_list_count(list) && i < CONF_LISTENERS_MAX; i++) {
        const yaml_node_t *entry = conf_list_item(check, list, i), *first = NULL;

        conf_path_item(path, "listen", i);
        if (entry->type != YAML_MAPPING_NODE)
            continue;
        if (!kind_is_one(check, entry, kinds))
            conf_is_not(check, entry, false, path,
                        "one of tls, wss, tcp, ws, tls+wss, tcp+ws; an entry for each listener");
        for (const struct key *kind = kinds; kind->name && !first; kind++) {
            first = key_is_kind(kind) ? conf_node(check->document, entry, kind->name) : NULL;
            if (first) {
                conf_path_key(key_path, path, kind->name);
                secure |= kind_is_secure(kind);
            }
        }
        if (!conf_node_text(first) || conf_listener_parse(conf_node_text(first), &address, &any))
            continue;
        for (size_t j = 0; j < seen_count; j++) {
            if (!conf_sockaddr_eq(&seen[j], &address))
                continue;
            (void)snprintf(right, sizeof(right), "listen[%zu] has that port already", seen_at[j]);
            conf_wrong(check, first, false, key_path, right);
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

        conf_path_key(key_path, map_path, key);
        (void)snprintf(uid, sizeof(uid), " for uid %u", (unsigned)geteuid());
        (void)snprintf(right, sizeof(right), "a file that can be read (%s%s)%s%.400s",
                       strerror(err), err == EACCES ? uid : "", same ? "" : ": ", same ? "" : path);
        conf_is_not(check, node, false, key_path, right);
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
    for (size_t i = 0; i < conf_list_count(list); i++) {
        const yaml_node_t *entry = conf_list_item(check, list, i);
        const yaml_node_t *node = conf_node(check->document, entry, "client_certificate");
        const char *text = conf_node_text(node);

        if (!text || (strcmp(text, "asked") != 0 && strcmp(text, "required") != 0))
            continue;
        asked = true;
        conf_path_item(path, "listen", i);
        conf_path_key(key_path, path, "client_certificate");
        if (!listener_is_secure(check, entry))
            conf_wrong(check, node, false, key_path,
                       "only tls, wss and tls+wss listeners can ask for one");
        else if (!ca)
            conf_wrong(check, node, false, key_path,
                       "`client_ca: FILE` at the top is missing: the CAs to accept");
    }
    if (ca && !asked)
        conf_wrong(check, ca, false, "client_ca",
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
    for (size_t i = 0; i < conf_list_count(more); i++) {
        conf_path_item(path, "certificates", i);
        certificate_check(check, conf_list_item(check, more, i), path);
    }
    if (needed && !one && !conf_list_count(more))
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

    for (size_t i = 0; i < conf_list_count(list) && i < CONF_BACKENDS_MAX; i++) {
        const yaml_node_t *item = conf_list_item(check, list, i);

        conf_path_item(path, "backends", i);
        if (item->type == YAML_MAPPING_NODE && !kind_is_one(check, item, kinds))
            conf_is_not(check, item, false, path,
                        "one of udp, tcp, auto; an entry for each backend");
        place = places[i] = conf_backend_place(check->document, item, &transport);
        for (size_t j = 0; place && j < i; j++) {
            if (!places[j] || !conf_place_same(place, places[j]))
                continue;
            (void)snprintf(right, sizeof(right), "each one once; it is entry [%zu] too", j);
            conf_wrong(check, item, false, path, right);
            break;
        }
        if (place && !core_wrong && place_is_core(place, &core4, &core6, core_port))
            conf_wrong(check, item, false, path,
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
    struct name *names = calloc(conf_list_count(users) + 1, sizeof(*names));
    char path[PATH_SIZE], right[64];

    if (!names) {
        check->mistakes->no_memory = true;
        return;
    }
    for (size_t i = 0; i < conf_list_count(users); i++) {
        const yaml_node_t *node =
            conf_node(check->document, conf_list_item(check, users, i), "name");
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
        conf_wrong(check, names[i].node, false, path, right);
    }
    free(names);
}

/* One that is no list has been told. */
static bool is_empty(const yaml_node_t *list)
{
    return !list || (list->type == YAML_SEQUENCE_NODE && !conf_list_count(list));
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
    if (conf_list_count(backends) && conf_list_count(users))
        conf_wrong(check, users, false, "users",
                   "there are `backends` as well, and users are of sipward's own registrar, which "
                   "serves only where there is no backend");

    for (size_t i = 0; i < conf_list_count(users); i++) {
        const yaml_node_t *user = conf_list_item(check, users, i);
        bool password = conf_node(check->document, user, "password");
        bool hash = conf_node(check->document, user, "ha1_md5") ||
                    conf_node(check->document, user, "ha1_sha256");

        conf_path_item(path, "users", i);
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

    for (size_t i = 0; i < conf_list_count(rules); i++) {
        const yaml_node_t *rule = conf_list_item(check, rules, i);
        const char *action = conf_node_text(conf_node(check->document, rule, "action"));
        const yaml_node_t *value = conf_node(check->document, rule, "value");

        if (!action)
            continue;
        conf_path_item(list_path, "headers.rules", i);
        conf_path_key(path, list_path, "value");
        if (!strcmp(action, "remove") && value)
            conf_wrong(check, value, false, path, "no value where the action is remove");
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
    conf_path_key(path, map, high_node ? high : low);
    (void)snprintf(right, sizeof(right), "it is %s %s, which is %" PRIu64 "%s",
                   high_node ? "below" : "above", high_node ? low : high,
                   high_node ? low_n : high_n, low_node && high_node ? "" : " unless set");
    conf_wrong(check, high_node ? high_node : low_node, false, path, right);
}

void conf_fit_check(struct check *check, const yaml_node_t *root)
{
    certificates_check(check, root,
                       listeners_check(check, root, conf_key_find(conf_schema, "listen")->keys));
    clients_check(check, root);
    backends_check(check, root);
    users_check(check, root);
    rules_check(check, root);
    order_check(check, root, "registrar", "min_expires", "default_expires");
    order_check(check, root, "registrar", "default_expires", "max_expires");
    order_check(check, root, "limits", "message_size", "send_queue");
}

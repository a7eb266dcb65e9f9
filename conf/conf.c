#include "conf/conf.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "conf/internal.h"

/* ---- libcyaml's schema, made of ours --------------------------------------------------- */

struct schema {
    cyaml_schema_field_t fields[128];
    cyaml_schema_value_t entries[32];
    size_t field_count, entry_count;
    cyaml_schema_value_t root;
};

/* All of libcyaml's memory is the C library's: conf.c adds to it, cyaml_free() frees it. */
static void *memory(void *ctx, void *ptr, size_t size)
{
    (void)ctx;
    if (size)
        return realloc(ptr, size);
    free(ptr);
    return NULL;
}

static const cyaml_config_t cyaml = {
    .log_fn = NULL, .log_level = CYAML_LOG_ERROR, .mem_fn = memory, .flags = CYAML_CFG_DEFAULT};

static cyaml_schema_value_t text_schema(void)
{
    return (cyaml_schema_value_t){CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 0, CYAML_UNLIMITED)};
}

static const cyaml_schema_field_t *fields_make(struct schema *schema, const struct key *keys);

static cyaml_schema_value_t map_schema(struct schema *schema, const struct key *keys, uint32_t size)
{
    return (cyaml_schema_value_t){
        .type = CYAML_MAPPING, .data_size = size, .mapping = {.fields = fields_make(schema, keys)}};
}

static cyaml_schema_value_t value_make(struct schema *schema, const struct key *key)
{
    cyaml_schema_value_t *entry;

    switch (key->type) {
    case KEY_NUMBER: return (cyaml_schema_value_t){.type = CYAML_UINT, .data_size = key->size};
    case KEY_CHOICE:
        return (cyaml_schema_value_t){
            .type = CYAML_ENUM,
            .flags = CYAML_FLAG_STRICT,
            .data_size = key->size,
            .enumeration = {.strings = key->choices, .count = conf_choice_count(key)}
        };
    case KEY_TEXT: return text_schema();
    case KEY_MAP:
        return key->text ? (cyaml_schema_value_t){.type = CYAML_IGNORE}
                         : map_schema(schema, key->keys, sizeof(struct loaded));
    case KEY_ENTRIES: return (cyaml_schema_value_t){.type = CYAML_IGNORE};
    default: break;
    }

    assert(schema->entry_count < ARRAY_LEN(schema->entries));
    entry = &schema->entries[schema->entry_count++];
    *entry = key->keys ? map_schema(schema, key->keys, key->size) : text_schema();
    return (cyaml_schema_value_t){
        .type = CYAML_SEQUENCE,
        .flags = CYAML_FLAG_POINTER,
        .data_size = key->size,
        .sequence = {.entry = entry, .min = (uint32_t)key->min, .max = (uint32_t)key->max}
    };
}

static const cyaml_schema_field_t *fields_make(struct schema *schema, const struct key *keys)
{
    size_t count = 1; /* with the row that ends it */
    cyaml_schema_field_t *fields = &schema->fields[schema->field_count];

    while (keys[count - 1].name)
        count++;
    assert(schema->field_count + count <= ARRAY_LEN(schema->fields));
    schema->field_count += count;

    for (size_t i = 0; keys[i].name; i++) {
        fields[i].key = keys[i].name;
        fields[i].data_offset = (uint32_t)keys[i].offset;
        fields[i].count_offset = (uint32_t)keys[i].count_offset;
        fields[i].count_size = sizeof(unsigned);
        fields[i].value = value_make(schema, &keys[i]);
        if (!keys[i].required)
            fields[i].value.flags |= CYAML_FLAG_OPTIONAL;
    }
    return fields;
}

static void schema_make(struct schema *schema)
{
    memset(schema, 0, sizeof(*schema));
    schema->root = map_schema(schema, conf_schema, sizeof(struct loaded));
    schema->root.flags = CYAML_FLAG_POINTER;
}

/* ---- Defaults -------------------------------------------------------------------------- */

static void number_store(void *at, uint32_t size, uint64_t number)
{
    uint8_t byte = (uint8_t)number;
    uint32_t word = (uint32_t)number;

    assert(size == sizeof(byte) || size == sizeof(word) || size == sizeof(number));
    if (size == sizeof(byte))
        memcpy(at, &byte, sizeof(byte));
    else if (size == sizeof(word))
        memcpy(at, &word, sizeof(word));
    else
        memcpy(at, &number, sizeof(number));
}

static int list_store(const char *preset, char ***list, unsigned *count)
{
    unsigned room = 1;
    char **entries;

    for (const char *p = preset; *p; p++)
        room += *p == ',';
    entries = calloc(room, sizeof(*entries));
    if (!entries)
        return -ENOMEM;
    *list = entries; /* freed with the rest, however far it is filled */
    while (*count < room) {
        size_t len = strcspn(preset, ",");
        entries[*count] = strndup(preset, len);
        if (!entries[*count])
            return -ENOMEM;
        ++*count;
        preset += len + (preset[len] ? strlen(", ") : 0);
    }
    return 0;
}

static int preset_store(const struct key *key, const char *preset, struct loaded *loaded)
{
    char *at = (char *)loaded + key->offset;
    uint64_t number = 0;
    char *copy;

    switch (key->type) {
    case KEY_NUMBER:
        (void)conf_number(preset, key->max, &number);
        number_store(at, key->size, number);
        return 0;
    case KEY_CHOICE:
        for (const cyaml_strval_t *choice = key->choices; choice->str; choice++)
            if (!strcmp(choice->str, preset))
                number_store(at, key->size, (uint64_t)choice->val);
        return 0;
    case KEY_TEXT:
        copy = strdup(preset);
        if (!copy)
            return -ENOMEM;
        memcpy(at, &copy, sizeof(copy));
        return 0;
    case KEY_TEXTS:
        return list_store(preset, (char ***)(void *)at,
                          (unsigned *)(void *)((char *)loaded + key->count_offset));
    default: return 0;
    }
}

/* The default of a key: its PBX's, if that has one, else the schema's. */
static int default_store(const struct key *key, struct loaded *loaded)
{
    const struct profile_value *row = conf_profile_value(loaded->conf.profile, key);

    if (row)
        loaded->by_profile |= 1U << (row - conf_profile_values);
    return preset_store(key, row ? row->value : key->preset, loaded);
}

/* What the file does not say, from the profile and the schema. `map` NULL: it says nothing of these
 * keys. */
static int presets_fill(yaml_document_t *document, const yaml_node_t *map, const struct key *keys,
                        struct loaded *loaded)
{
    int err = 0;

    for (; keys->name && !err; keys++) {
        const yaml_node_t *node = conf_node(document, map, keys->name);
        if (keys->type == KEY_MAP)
            err = presets_fill(document, node, keys->keys, loaded);
        else if (!node && keys->preset)
            err = default_store(keys, loaded);
    }
    return err;
}

/* ---- What libcyaml can't read: addresses, keys ----------------------------------------- */

static int entry_line(yaml_document_t *document, const char *list, size_t i)
{
    const yaml_node_t *node = conf_node(document, yaml_document_get_root_node(document), list);

    return conf_node_line(yaml_document_get_node(document, node->data.sequence.items.start[i]));
}

static int networks_make(const struct listen *listen, struct conf_listener *listener)
{
    if (!listen->proxy_protocol_count)
        return 0;
    listener->proxy_protocol =
        calloc(listen->proxy_protocol_count, sizeof(*listener->proxy_protocol));
    if (!listener->proxy_protocol)
        return -ENOMEM;
    for (unsigned i = 0; i < listen->proxy_protocol_count; i++)
        (void)conf_network_parse(listen->proxy_protocol[i],
                                 &listener->proxy_protocol[listener->proxy_protocol_count++]);
    return 0;
}

static int listeners_make(struct loaded *loaded, yaml_document_t *document)
{
    struct conf *conf = &loaded->conf;

    conf->listeners = calloc(loaded->listen_count, sizeof(*conf->listeners));
    if (!conf->listeners)
        return -ENOMEM;
    for (unsigned i = 0; i < loaded->listen_count; i++) {
        const struct listen *listen = &loaded->listen[i];
        const char *const texts[] = {listen->tls, listen->wss,     listen->tcp,
                                     listen->ws,  listen->tls_wss, listen->tcp_ws};
        struct conf_listener *listener = &conf->listeners[conf->listener_count++];

        listener->line = entry_line(document, "listen", i);
        listener->client_certificate = listen->client_certificate;
        if (networks_make(listen, listener))
            return -ENOMEM;
        for (size_t kind = 0; kind < ARRAY_LEN(texts); kind++) {
            if (!texts[kind])
                continue;
            listener->kind = (enum conf_listener_kind)kind;
            if (conf_listener_parse(texts[kind], &listener->address, &listener->any))
                return -EINVAL;
        }
    }
    return 0;
}

/* A number of a mapping, checked before; or its default. */
static unsigned entry_number(yaml_document_t *document, const yaml_node_t *entry,
                             const struct key *key)
{
    const char *text = conf_node_text(conf_node(document, entry, key->name));
    uint64_t number = 0;

    (void)conf_number(text ? text : key->preset, key->max, &number);
    return (unsigned)number;
}

/* An entry as `sipward check` prints it, and what readers need of it. */
static int backend_make(yaml_document_t *document, const yaml_node_t *entry, struct backend *loaded,
                        struct conf_backend *backend)
{
    const struct key *keys = conf_key_find(conf_schema, "backends")->keys;
    char **const texts[] = {&loaded->udp, &loaded->tcp, &loaded->by_size};
    const char *place = conf_backend_place(document, entry, &backend->transport);
    char host[CONF_HOST_SIZE];

    if (!place || conf_place_parse(place, host, &backend->port))
        return -EINVAL;
    loaded->priority = entry_number(document, entry, conf_key_find(keys, "priority"));
    loaded->weight = entry_number(document, entry, conf_key_find(keys, "weight"));
    backend->priority = (uint16_t)loaded->priority;
    backend->weight = (uint16_t)loaded->weight;
    backend->line = conf_node_line(entry);
    *texts[backend->transport] = strdup(place);
    backend->host = strdup(host);
    return *texts[backend->transport] && backend->host ? 0 : -ENOMEM;
}

static int backends_make(struct loaded *loaded, yaml_document_t *document)
{
    const yaml_node_t *list =
        conf_node(document, yaml_document_get_root_node(document), "backends");
    size_t count =
        list ? (size_t)(list->data.sequence.items.top - list->data.sequence.items.start) : 0;
    struct conf *conf = &loaded->conf;
    int err = 0;

    if (!count)
        return 0;
    loaded->backends = calloc(count, sizeof(*loaded->backends));
    conf->backends = calloc(count, sizeof(*conf->backends));
    if (!loaded->backends || !conf->backends)
        return -ENOMEM;
    for (size_t i = 0; i < count && !err; i++) {
        loaded->backend_count = ++conf->backend_count; /* freed with the rest, however far it is */
        err = backend_make(document,
                           yaml_document_get_node(document, list->data.sequence.items.start[i]),
                           &loaded->backends[i], &conf->backends[i]);
    }
    return err;
}

static int certificate_add(struct conf *conf, const struct conf_certificate *files, int line)
{
    struct conf_certificate *to = &conf->certificates[conf->certificate_count++];

    to->line = line;
    to->chain = conf_file_path(conf->path, files->chain);
    to->key = conf_file_path(conf->path, files->key);
    return to->chain && to->key ? 0 : -ENOMEM;
}

/* `certificate`, then `certificates`. */
static int certificates_make(struct loaded *loaded, yaml_document_t *document)
{
    const yaml_node_t *root = yaml_document_get_root_node(document);
    struct conf *conf = &loaded->conf;
    unsigned count = loaded->certificate_count + (loaded->certificate.chain != NULL);
    int err = 0;

    if (!count)
        return 0;
    conf->certificates = calloc(count, sizeof(*conf->certificates));
    if (!conf->certificates)
        return -ENOMEM;
    if (loaded->certificate.chain)
        err = certificate_add(conf, &loaded->certificate,
                              conf_node_line(conf_node(document, root, "certificate")));
    for (unsigned i = 0; i < loaded->certificate_count && !err; i++)
        err = certificate_add(conf, &loaded->certificates[i],
                              entry_line(document, "certificates", i));
    return err;
}

static int client_ca_make(struct loaded *loaded, yaml_document_t *document)
{
    const yaml_node_t *root = yaml_document_get_root_node(document);
    struct conf *conf = &loaded->conf;

    if (!loaded->client_ca)
        return 0;
    conf->client_ca_line = conf_node_line(conf_node(document, root, "client_ca"));
    conf->client_ca = conf_file_path(conf->path, loaded->client_ca);
    return conf->client_ca ? 0 : -ENOMEM;
}

/* ADDRESS:PORT alone, or as one of a mapping; else the default, which is in `loaded`. */
static int admin_make(struct loaded *loaded, yaml_document_t *document)
{
    const yaml_node_t *node = conf_node(document, yaml_document_get_root_node(document), "admin");
    const char *token = conf_node_text(conf_node(document, node, "token"));
    const char *listen = conf_node_text(node);
    struct conf *conf = &loaded->conf;

    if (!listen)
        listen = conf_node_text(conf_node(document, node, "listen"));
    if (listen) {
        free(loaded->admin);
        loaded->admin = strdup(listen);
    }
    if (token)
        conf->admin.token = strdup(token);
    if (!loaded->admin || (token && !conf->admin.token))
        return -ENOMEM;
    conf->admin.given = node != NULL;
    conf->admin.line = conf_node_line(node);
    return conf_admin_parse(loaded->admin, &conf->admin.address);
}

static uint8_t hex_digit(char c)
{
    static const char digits[] = "0123456789abcdef";

    return (uint8_t)(strchr(digits, c >= 'A' && c <= 'F' ? c + ('a' - 'A') : c) - digits);
}

static void token_keys_make(struct loaded *loaded)
{
    struct conf *conf = &loaded->conf;

    for (unsigned i = 0; i < loaded->token_key_count; i++) {
        const char *hex = loaded->token_keys[i];
        uint8_t *key = conf->flow_token_keys[conf->flow_token_key_count++];

        for (size_t j = 0; j < sizeof(conf->flow_token_keys[0]); j++)
            key[j] = (uint8_t)(hex_digit(hex[2 * j]) << 4 | hex_digit(hex[2 * j + 1]));
    }
}

static void hex_lower(char *hex)
{
    for (; hex && *hex; hex++)
        if (*hex >= 'A' && *hex <= 'F')
            *hex = (char)(*hex + ('a' - 'A'));
}

/* An IPv6 address as everybody compares it: without brackets, in its shortest form. */
static int host_canonical(char **host)
{
    size_t len = strlen(*host);
    union conf_sockaddr address;
    char *canonical;

    if (**host == '[') { /* the check saw its end */
        memmove(*host, *host + 1, len - 2);
        (*host)[len - 2] = '\0';
    }
    if (conf_address_parse(*host, 0, &address) || address.sa.sa_family != AF_INET6)
        return 0;
    canonical = calloc(1, INET6_ADDRSTRLEN);
    if (!canonical)
        return -ENOMEM;
    (void)inet_ntop(AF_INET6, &address.in6.sin6_addr, canonical, INET6_ADDRSTRLEN);
    free(*host);
    *host = canonical;
    return 0;
}

/* Make what is left of `loaded->conf` out of the texts beside it. */
static int conf_make(struct loaded *loaded, const char *path, yaml_document_t *document)
{
    struct conf *conf = &loaded->conf;
    int err;

    conf->path = strdup(path);
    if (!conf->path)
        return -ENOMEM;
    loaded->by_environment = conf_variables_set();
    err = presets_fill(document, yaml_document_get_root_node(document), conf_schema, loaded);
    if (!err)
        err = host_canonical(&conf->domain);
    for (unsigned i = 0; i < conf->alias_count && !err; i++)
        err = host_canonical(&conf->aliases[i]);
    if (!err && !conf->registrar.realm) {
        conf->registrar.realm = strdup(conf->domain);
        err = conf->registrar.realm ? 0 : -ENOMEM;
    }
    if (!err)
        err = listeners_make(loaded, document);
    if (!err)
        err = certificates_make(loaded, document);
    if (!err)
        err = client_ca_make(loaded, document);
    if (!err)
        err = backends_make(loaded, document);
    if (!err)
        err = conf_core_parse(loaded->core ? loaded->core : ":5060", &conf->core4, &conf->core6,
                              &conf->core_port);
    if (!err)
        err = admin_make(loaded, document);
    token_keys_make(loaded);
    for (unsigned i = 0; i < conf->user_count; i++) {
        hex_lower(conf->users[i].ha1_md5);
        hex_lower(conf->users[i].ha1_sha256);
    }
    return err;
}

/* ---- From file to struct --------------------------------------------------------------- */

/* The whole file and a NUL. -EFBIG, -ENOMEM, or what reading said. */
static int file_read(const char *path, char **out, size_t *len)
{
    FILE *file = fopen(path, "re");
    char *bytes = NULL, *more;
    size_t used = 0, size = 0, got;
    int err = 0;

    if (!file)
        return -errno;
    do {
        if (size - used < 2) {
            size = size ? size * 2 : 16384;
            more = size > CONF_FILE_MAX ? NULL : realloc(bytes, size);
            if (!more) {
                err = size > CONF_FILE_MAX ? -EFBIG : -ENOMEM;
                break;
            }
            bytes = more;
        }
        errno = 0;
        got = fread(bytes + used, 1, size - used - 1, file);
        used += got;
    } while (got);
    if (!err && ferror(file))
        err = errno ? -errno : -EIO;
    (void)fclose(file);
    if (err) {
        free(bytes);
        return err;
    }
    bytes[used] = '\0';
    *out = bytes;
    *len = used;
    return 0;
}

/* What libyaml could not read at all. Of bytes that are no text it knows the offset, not the line.
 */
static int parser_mistake(const yaml_parser_t *parser, struct mistakes *mistakes)
{
    const unsigned char *bytes = parser->input.string.start;
    int line = (int)parser->problem_mark.line + 1;

    if (parser->error == YAML_MEMORY_ERROR)
        return -ENOMEM;
    if (parser->error == YAML_READER_ERROR) {
        line = 1;
        for (size_t i = 0; i < parser->problem_offset && bytes + i < parser->input.string.end; i++)
            line += bytes[i] == '\n';
    }
    conf_mistake(mistakes, line, "this is not YAML: %s%s%s",
                 parser->problem ? parser->problem : "unreadable", parser->context ? ", " : "",
                 parser->context ? parser->context : "");
    return 0;
}

/* libyaml's time grows with the square of the depth: for a small file of brackets it is minutes. A
 * file that is no YAML before it is deep is document_check()'s to refuse. -ENOMEM. */
static int depth_check(const char *bytes, size_t len, struct mistakes *mistakes)
{
    yaml_parser_t parser;
    yaml_event_t event;
    unsigned depth = 0;
    bool more = true;

    if (!yaml_parser_initialize(&parser))
        return -ENOMEM;
    yaml_parser_set_input_string(&parser, (const unsigned char *)bytes, len);
    while (more && yaml_parser_parse(&parser, &event)) {
        switch (event.type) {
        case YAML_SEQUENCE_START_EVENT:
        case YAML_MAPPING_START_EVENT: depth++; break;
        case YAML_SEQUENCE_END_EVENT:
        case YAML_MAPPING_END_EVENT: depth--; break;
        case YAML_STREAM_END_EVENT: more = false; break;
        default: break;
        }
        if (depth > CONF_DEPTH_MAX) {
            conf_mistake(mistakes, (int)event.start_mark.line + 1,
                         "(file): more than %d lists and mappings in one another are wrong: no key "
                         "has so many",
                         CONF_DEPTH_MAX);
            more = false;
        }
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    return 0;
}

/* What the environment says goes into a document. An empty one (*empty) lacks all keys but those.
 */
static int document_complete(yaml_document_t *document, struct mistakes *mistakes, bool *empty)
{
    *empty = !yaml_document_get_root_node(document);
    if (*empty && !yaml_document_add_mapping(document, NULL, YAML_ANY_MAPPING_STYLE))
        return -ENOMEM;
    return conf_environment_put(document, mistakes);
}

/* The one document of a file, checked. The caller deletes *document, whatever comes back. */
static int document_check(yaml_parser_t *parser, struct mistakes *mistakes,
                          yaml_document_t *document)
{
    yaml_document_t second;
    bool empty;
    int err;

    if (!yaml_parser_load(parser, document))
        return parser_mistake(parser, mistakes);
    err = document_complete(document, mistakes, &empty);
    if (err)
        return err;
    conf_environment_check(mistakes);
    conf_check(document, mistakes);

    if (empty)
        return 0;
    if (!yaml_parser_load(parser, &second))
        return parser_mistake(parser, mistakes);
    if (yaml_document_get_root_node(&second))
        conf_mistake(mistakes, (int)second.start_mark.line + 1,
                     "(file): '---' is wrong: only one document in a file");
    yaml_document_delete(&second);
    return 0;
}

/* The file's text with what the environment says, for libcyaml, which reads texts only. The caller
 * frees it. */
static int text_complete(const char *bytes, size_t len, char **out, size_t *out_len)
{
    struct mistakes mistakes = {0}; /* none: it was checked */
    FILE *stream = open_memstream(out, out_len);
    yaml_document_t document = {0};
    yaml_emitter_t emitter;
    yaml_parser_t parser;
    bool good, empty;

    if (!stream)
        return -ENOMEM;
    good = yaml_parser_initialize(&parser);
    if (good) {
        yaml_parser_set_input_string(&parser, (const unsigned char *)bytes, len);
        good = yaml_parser_load(&parser, &document) &&
               !document_complete(&document, &mistakes, &empty);
        yaml_parser_delete(&parser);
    }
    if (good && yaml_emitter_initialize(&emitter)) {
        yaml_emitter_set_output_file(&emitter, stream);
        good = yaml_emitter_dump(&emitter, &document); /* and deletes it */
        yaml_emitter_delete(&emitter);
    } else {
        good = false;
        yaml_document_delete(&document);
    }
    if (!fclose(stream) && good)
        return 0;
    free(*out);
    return -ENOMEM;
}

static int conf_load_checked(const char *path, const char *bytes, size_t len,
                             yaml_document_t *document, struct conf **out)
{
    struct schema schema;
    cyaml_data_t *data = NULL;
    struct conf *conf;
    cyaml_err_t result;
    char *complete = NULL;
    int err;

    if (conf_variables_set()) {
        err = text_complete(bytes, len, &complete, &len);
        if (err)
            return err;
    }
    schema_make(&schema);
    result = cyaml_load_data((const uint8_t *)(complete ? complete : bytes), len, &cyaml,
                             &schema.root, &data, NULL);
    free(complete);
    if (result == CYAML_ERR_OOM)
        return -ENOMEM;
    if (result != CYAML_OK || !data)
        return -EPROTO;
    conf = data;
    err = conf_make((struct loaded *)data, path, document);
    if (err) {
        conf_free(&conf);
        return err;
    }
    *out = conf;
    return 0;
}

int conf_load(const char *path, FILE *errors, struct conf **out)
{
    struct mistakes mistakes = {.path = path};
    yaml_document_t document = {0};
    yaml_parser_t parser;
    char *bytes = NULL;
    size_t len = 0;
    int err;

    err = file_read(path, &bytes, &len);
    if (err) {
        (void)fprintf(errors, "%s: can't be read: %s\n", path, strerror(-err));
        return err;
    }
    if (!yaml_parser_initialize(&parser)) {
        free(bytes);
        return -ENOMEM;
    }
    yaml_parser_set_input_string(&parser, (const unsigned char *)bytes, len);

    err = depth_check(bytes, len, &mistakes);
    if (!err && !mistakes.count)
        err = document_check(&parser, &mistakes, &document);
    conf_mistakes_print(&mistakes, errors);
    if (!err && mistakes.no_memory)
        err = -ENOMEM;
    if (!err && mistakes.count)
        err = -EINVAL;
    if (!err)
        err = conf_load_checked(path, bytes, len, &document, out);
    if (err == -EPROTO) { /* libcyaml knows better than our check: our own bug */
        (void)fprintf(errors, "%s: libcyaml can't load it\n", path);
        err = -EINVAL;
    }

    yaml_document_delete(&document);
    conf_mistakes_free(&mistakes);
    yaml_parser_delete(&parser);
    free(bytes);
    return err;
}

static void loaded_free(struct loaded *loaded)
{
    struct schema schema;

    for (unsigned i = 0; i < loaded->backend_count; i++) {
        free(loaded->backends[i].udp);
        free(loaded->backends[i].tcp);
        free(loaded->backends[i].by_size);
        free(loaded->conf.backends[i].host);
    }
    free(loaded->backends);
    free(loaded->conf.backends);
    for (unsigned i = 0; i < loaded->conf.certificate_count; i++) {
        free(loaded->conf.certificates[i].chain);
        free(loaded->conf.certificates[i].key);
    }
    free(loaded->conf.certificates);
    free(loaded->conf.client_ca);
    for (unsigned i = 0; i < loaded->conf.listener_count; i++)
        free(loaded->conf.listeners[i].proxy_protocol);
    free(loaded->conf.listeners);
    free(loaded->admin);
    free(loaded->conf.admin.token);
    free(loaded->conf.path);
    schema_make(&schema);
    (void)cyaml_free(&cyaml, &schema.root, loaded, 0);
}

const struct conf *conf_ref(const struct conf *conf)
{
    atomic_fetch_add(&((struct conf *)conf)->shared, 1);
    return conf;
}

void conf_unref(const struct conf **conf)
{
    struct conf *mine = (struct conf *)*conf;

    *conf = NULL;
    if (mine && atomic_fetch_sub(&mine->shared, 1) == 0)
        loaded_free((struct loaded *)mine);
}

void conf_free(struct conf **conf)
{
    const struct conf *mine = *conf;

    *conf = NULL;
    conf_unref(&mine);
}

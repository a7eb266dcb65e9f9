/* What the files of conf/ share: the schema, the mistakes of one file, and the readers of the
 * texts that mean more than themselves.
 *
 * One table of keys (schema.c) drives everything: check.c walks the YAML document against it and
 * finds every mistake, conf.c makes libcyaml's schema and fills in the defaults, print.c prints. */
#pragma once

#include <stdarg.h>

#include <cyaml/cyaml.h>
#include <yaml.h>

#include "conf/conf.h"

#define ARRAY_LEN(array) (sizeof(array) / sizeof((array)[0]))

enum {
    CONF_HOST_SIZE = 256,    /* text of the longest host name, and its NUL */
    CONF_LIST_MAX = 1024,    /* entries of lists without a limit of their own */
    CONF_USERS_MAX = 100000, /* of the embedded registrar */
    CONF_TEXT_MAX = 1024,    /* bytes of one value */
    CONF_DEPTH_MAX = 32,     /* lists and mappings in one another */
    CONF_FILE_MAX = 16 * 1024 * 1024,
};

/* What a text must look like. */
struct text_rule {
    bool (*valid)(const char *text);
    const char *right;                              /* what an error says would be right */
    bool (*same)(const char *one, const char *two); /* in a list; NULL: letter case aside */
    bool secret;                                    /* never shown */
};

enum key_type {
    KEY_NUMBER,
    KEY_CHOICE,
    KEY_TEXT,
    KEY_MAP, /* with `text`: or a text, which stands for its first key */
    KEY_TEXTS,
    KEY_MAPS,
    KEY_ENTRIES /* a list of texts or mappings, which libcyaml can't load: conf.c does */
};

/* One key of a mapping. A table of them ends with a NULL name. */
struct key {
    const char *name;
    enum key_type type;
    bool required;
    size_t offset;       /* in struct loaded, or in the entry of a list of mappings */
    size_t count_offset; /* KEY_TEXTS, KEY_MAPS, KEY_ENTRIES */
    uint32_t size;       /* of the number or choice, or of one entry */
    uint64_t min, max;   /* of the number, or how many entries */
    const char *unit;
    const char *preset; /* the default as a file would say it, a list with ", "; NULL: none */
    const char *help;
    const struct text_rule *text;
    const cyaml_strval_t *choices; /* ends with a NULL str */
    const struct key *keys;        /* KEY_MAP, KEY_MAPS, KEY_ENTRIES */
};

struct mistakes;

/* The file as libcyaml loads it. What needs no more reading is in `conf` at once; the rest is
 * what conf.c makes the other members of `conf` from. */
struct loaded {
    struct conf conf; /* first: a conf is a loaded, see conf_free() */
    struct conf_certificate certificate, *certificates;
    unsigned certificate_count;
    struct listen {
        char *tls, *wss, *tcp, *ws, *tls_wss, *tcp_ws; /* one, as enum conf_listener_kind counts */
        enum conf_client_certificate client_certificate;
        char **proxy_protocol;
        unsigned proxy_protocol_count;
    } * listen;
    unsigned listen_count;
    struct backend {
        char *udp, *tcp, *by_size; /* one, as enum conf_transport counts: HOST or HOST:PORT */
        unsigned priority, weight;
    } * backends;
    unsigned backend_count;
    char *client_ca;
    char *core;
    char *admin;             /* `listen` of it */
    unsigned by_profile;     /* bit N: row N of conf_profile_values gave its key */
    unsigned by_environment; /* as conf_variables_set() says it */
    char **token_keys;
    unsigned token_key_count;
};

extern const struct key conf_schema[];
const struct key *conf_key_find(const struct key *keys, const char *name);
unsigned conf_choice_count(const struct key *key);

/* A default of one PBX. The table ends with a NULL key. */
struct profile_value {
    enum conf_profile profile;
    const char *map; /* that the key is in; NULL: the file itself */
    const char *key, *value;
    const char *why; /* as `sipward check` says it */
};
extern const struct profile_value conf_profile_values[];
const struct profile_value *conf_profile_value(enum conf_profile profile, const struct key *key);

/* Environment variables, which win over the file (environment.c). A node that one gave has a
 * negative line. */
unsigned conf_variables_set(void);                                 /* one bit for each that is */
const char *conf_variable_of(const struct key *key, unsigned set); /* that gave it, or NULL */
const char *conf_variable_at(int line);                            /* NULL: it is one of the file */
int conf_environment_put(yaml_document_t *document, struct mistakes *mistakes); /* -ENOMEM */
void conf_environment_check(struct mistakes *mistakes); /* names that are nearly one of ours */

/* The mistakes of one file, told in the order of their lines. */
struct mistake {
    int line; /* 0: its text says where; negative: of a variable */
    char *text;
};
struct mistakes {
    const char *path;
    struct mistake *list;
    size_t count;
    bool no_memory;
};
void conf_mistake(struct mistakes *mistakes, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void conf_mistakes_print(struct mistakes *mistakes, FILE *errors);
void conf_mistakes_free(struct mistakes *mistakes);

/* check.c: a document and its mistakes. */
struct check {
    yaml_document_t *document;
    struct mistakes *mistakes;
};
void conf_check(yaml_document_t *document, struct mistakes *mistakes);
void conf_fit_check(struct check *check, const yaml_node_t *root); /* fit.c: root is a mapping */
/* Whether one was meant to be the other: near in letters. */
bool conf_word_near(const char *meant, const char *word);

/* node.c */
enum { PATH_SIZE = 160, VALUE_SHOWN = 80 };
int conf_node_line(const yaml_node_t *node);
const yaml_node_t *conf_node(yaml_document_t *document, const yaml_node_t *map, const char *key);
const char *conf_node_text(const yaml_node_t *node); /* NULL: no scalar, or none at all */
/* HOST or HOST:PORT of an entry of `backends`, a text or a mapping, and its transport. NULL: it has
 * none. */
const char *conf_backend_place(yaml_document_t *document, const yaml_node_t *entry,
                               enum conf_transport *transport);
size_t conf_list_count(const yaml_node_t *list); /* 0: or no list */
const yaml_node_t *conf_list_item(struct check *check, const yaml_node_t *list, size_t i);
/* "KEY: 'VALUE' is not RIGHT", as in: is not one of text, json. */
void conf_is_not(struct check *check, const yaml_node_t *node, bool secret, const char *path,
                 const char *right);
/* "KEY: 'VALUE' is wrong: WHY", where it is not its form. */
void conf_wrong(struct check *check, const yaml_node_t *node, bool secret, const char *path,
                const char *why);
/* A value as a mistake shows it: short, printable, no secret. */
const char *conf_node_show(const yaml_node_t *node, bool secret, char shown[VALUE_SHOWN]);
void conf_path_key(char path[PATH_SIZE], const char *map, const char *key); /* MAP.KEY */
void conf_path_item(char path[PATH_SIZE], const char *list, size_t i);      /* LIST[I] */

/* text.c: 0, or -EINVAL where the text is not of that form. */
int conf_number(const char *text, uint64_t max, uint64_t *out); /* decimal, no leading zeros */
int conf_listener_parse(const char *text, union conf_sockaddr *out, bool *any);
int conf_network_parse(const char *text, struct conf_network *out);
int conf_transport_split(const char **text, enum conf_transport *transport);       /* udp:REST */
int conf_place_parse(const char *text, char host[CONF_HOST_SIZE], uint16_t *port); /* 0: none */
int conf_core_parse(const char *text, union conf_sockaddr *core4, union conf_sockaddr *core6,
                    uint16_t *port);
int conf_admin_parse(const char *text, union conf_sockaddr *out); /* `no`: family 0 */
int conf_address_parse(const char *text, uint16_t port, union conf_sockaddr *out);
bool conf_sockaddr_eq(const union conf_sockaddr *one, const union conf_sockaddr *two);
/* A file named in the configuration: where it is not absolute, it is beside the configuration.
 * The caller frees it. NULL: no memory. */
char *conf_file_path(const char *conf_path, const char *name);

bool conf_text_valid(const char *text); /* no control bytes, nothing empty */
bool conf_host_valid(const char *text);
bool conf_listener_valid(const char *text);
bool conf_network_valid(const char *text);
bool conf_network_same(const char *one, const char *two);
bool conf_backend_valid(const char *text);
bool conf_place_valid(const char *text);
bool conf_place_same(const char *one, const char *two);
bool conf_core_valid(const char *text);
bool conf_admin_valid(const char *text);
bool conf_token_key_valid(const char *text);
bool conf_md5_valid(const char *text);
bool conf_sha256_valid(const char *text);
bool conf_user_valid(const char *text);
bool conf_secret_valid(const char *text); /* RFC 6750 2.1 */
bool conf_realm_valid(const char *text);
bool conf_url_path_valid(const char *text);
bool conf_origin_valid(const char *text);
bool conf_header_name_valid(const char *text);  /* N6: none that sipward itself needs */
bool conf_header_match_valid(const char *text); /* NAME or NAME;PARAMETER */
bool conf_header_value_valid(const char *text);

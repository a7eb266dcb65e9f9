/* Headers that cross, or not, as the configuration says (rules N5, N6, N7). */
#include <errno.h>

#include "proxy/internal.h"
#include "proxy/text.h"

/* Has one of the values of this header the parameter? Where a value ends is anyone's guess, it may.
 */
static bool has_param(struct str list, struct str param)
{
    struct str value;
    bool balanced;

    while (text_list_next(&list, &value, &balanced)) {
        const char *params = memchr(value.p, ';', value.len);
        if (!balanced ||
            (params &&
             sip_param((struct str){params, value.len - (size_t)(params - value.p)}, param, NULL)))
            return true;
    }
    return false;
}

/* A name of the configuration: "Name", or "Name;parameter". */
struct wanted {
    enum header_id id;
    struct str name;  /* canonical */
    struct str param; /* only where the header has it; p NULL: any */
};

static struct wanted wanted_read(const char *text)
{
    struct str name = str_of(text);
    const char *semicolon = strchr(text, ';');
    struct wanted wanted = {0};

    if (semicolon) {
        wanted.param = str_of(semicolon + 1);
        name.len = (size_t)(semicolon - name.p);
    }
    wanted.name = header_canonical(name, &wanted.id);
    return wanted;
}

static bool is_wanted(const struct sip_header *header, const struct wanted *wanted)
{
    return header->id == wanted->id &&
           (header->id != HEADER_OTHER || str_eq_nocase(header->name, wanted->name)) &&
           (!wanted->param.p || has_param(header->value, wanted->param));
}

static void header_remove(struct sip_msg *msg, const char *name)
{
    struct wanted wanted = wanted_read(name);

    for (int i = -1; (i = sip_find(msg, wanted.id, (unsigned)(i + 1))) >= 0;)
        if (is_wanted(&msg->headers[i], &wanted))
            sip_drop(msg, (unsigned)i--);
}

static int header_rules(const struct conf *conf, struct sip_msg *msg, enum conf_direction direction)
{
    for (unsigned i = 0; i < conf->headers.rule_count; i++) {
        const struct conf_header_rule *rule = &conf->headers.rules[i];
        if (rule->direction != direction)
            continue;
        if (rule->action != CONF_ADD)
            header_remove(msg, rule->name);
        if (rule->action != CONF_REMOVE &&
            sip_insert_name(msg, msg->header_count, str_of(rule->name), str_of(rule->value)))
            return -ENOMEM;
    }
    return 0;
}

/* "Privacy: id" asks that the identity stays among those who are trusted (RFC 3325 7 and 9.3).
 * Some have commas where RFC 3323 4.2 has semicolons. */
static bool hides_identity(const struct sip_msg *msg)
{
    for (int i = -1; (i = sip_find_name(msg, STR("Privacy"), (unsigned)(i + 1))) >= 0;) {
        struct str rest = msg->headers[i].value;
        while (rest.len) {
            size_t len = 0;
            while (len < rest.len && rest.p[len] != ';' && rest.p[len] != ',')
                len++;
            if (str_eq_nocase(str_trim((struct str){rest.p, len}), STR("id")))
                return true;
            len += len < rest.len;
            rest = (struct str){rest.p + len, rest.len - len};
        }
    }
    return false;
}

/* A Remote-Party-ID says for itself whether it may go to those who aren't trusted, by privacy=off
 * or another (draft-ietf-sip-privacy-04). FreeSWITCH, unless set otherwise, and CUCM have the
 * caller's number in it all the same. */
static bool party_is_private(struct str list)
{
    struct str party, name, value;
    bool balanced;

    while (text_list_next(&list, &party, &balanced)) {
        if (!balanced)
            return true;
        while (sip_param_next(&party, &name, &value)) /* one of the URI's is none too many */
            if (str_eq_nocase(name, STR("privacy")) && !str_eq_nocase(value, STR("off")) &&
                !str_eq_nocase(value, STR("\"off\"")))
                return true;
    }
    return false;
}

static void identities_hide(struct sip_msg *msg)
{
    bool all = hides_identity(msg);

    if (all)
        header_remove(msg, "P-Asserted-Identity");
    for (int i = -1; (i = sip_find_name(msg, STR("Remote-Party-ID"), (unsigned)(i + 1))) >= 0;)
        if (all || party_is_private(msg->headers[i].value))
            sip_drop(msg, (unsigned)i--);
}

static void names(const struct conf *conf, enum conf_direction direction, char *const **list,
                  unsigned *count)
{
    bool in = direction == CONF_TO_CORE;

    *list = in ? conf->headers.from_clients : conf->headers.to_clients;
    *count = in ? conf->headers.from_client_count : conf->headers.to_client_count;
}

static void set_add(struct header_set *set, const char *name)
{
    enum header_id id = wanted_read(name).id;

    set->ids[id / 64] |= UINT64_C(1) << id % 64;
}

void crossings_set(struct proxy *proxy)
{
    static const enum conf_direction directions[] = {CONF_TO_CORE, CONF_TO_ACCESS};

    for (size_t d = 0; d < ARRAY_LEN(directions); d++) {
        struct header_set *set = &proxy->crossings[directions[d]];
        char *const *list;
        unsigned count;

        *set = (struct header_set){0};
        names(proxy->conf, directions[d], &list, &count);
        for (unsigned i = 0; i < count; i++)
            set_add(set, list[i]);
        if (directions[d] == CONF_TO_CORE)
            continue;
        set_add(set, "Privacy"); /* identities_hide() */
        set_add(set, "Remote-Party-ID");
    }
}

static bool may_have(const struct sip_msg *msg, const struct header_set *set)
{
    uint64_t both = 0;

    for (size_t i = 0; i < ARRAY_LEN(set->ids); i++)
        both |= msg->present[i] & set->ids[i];
    return both;
}

int headers_cross(struct proxy *proxy, struct sip_msg *msg, enum conf_direction direction)
{
    char *const *list;
    unsigned count;

    if (may_have(msg, &proxy->crossings[direction])) {
        names(proxy->conf, direction, &list, &count);
        for (unsigned i = 0; i < count; i++)
            header_remove(msg, list[i]);
        if (direction == CONF_TO_ACCESS)
            identities_hide(msg);
    }
    return header_rules(proxy->conf, msg, direction);
}

int client_address_add(struct proxy *proxy, struct sip_msg *request, const struct flow *flow)
{
    const char *name = proxy->conf->headers.client_address;
    struct str value;

    if (!name)
        return 0;
    header_remove(request, name);
    value = ARENA_JOIN(&proxy->arena, str_of(flow->peer), STR(";transport="),
                       str_of(flow->transport->via));
    return value.p ? sip_insert_name(request, request->header_count, str_of(name), value) : -ENOMEM;
}

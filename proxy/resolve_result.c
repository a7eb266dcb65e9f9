#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#include "proxy/log.h"
#include "proxy/resolve_internal.h"

enum { LIST_TEXT = 512 };

/* ---- results ---- */

const struct resolve_result *resolve_result_ref(const struct resolve_result *result)
{
    atomic_fetch_add(&((struct resolve_result *)result)->references, 1);
    return result;
}

void resolve_result_unref(const struct resolve_result **result)
{
    struct resolve_result *mine = (struct resolve_result *)*result;

    *result = NULL;
    if (mine && atomic_fetch_sub(&mine->references, 1) == 1)
        free(mine);
}

const struct resolve_result *resolve_result_create(const struct resolve_walk *walk)
{
    size_t size = walk->count * sizeof(walk->addresses[0]);
    struct resolve_result *result = malloc(sizeof(*result) + size);

    if (!result)
        return NULL;
    atomic_init(&result->references, 1);
    result->count = walk->count;
    memcpy(result->addresses, walk->addresses, size);
    return result;
}

static bool address_eq(const struct resolve_address *a, const struct resolve_address *b)
{
    return a->transport == b->transport && a->priority == b->priority && a->weight == b->weight &&
           memcmp(&a->in6, &b->in6, sizeof(a->in6)) == 0 && /* the larger one; zeroed at first */
           strcmp(a->name, b->name) == 0;
}

bool resolve_address_in(const struct resolve_address *list, unsigned count,
                        const struct resolve_address *address)
{
    for (unsigned i = 0; i < count; i++)
        if (address_eq(&list[i], address))
            return true;
    return false;
}

bool resolve_result_is(const struct resolve_result *result, const struct resolve_walk *walk)
{
    if (!result || result->count != walk->count)
        return false;
    for (unsigned i = 0; i < walk->count; i++)
        if (!address_eq(&result->addresses[i], &walk->addresses[i]))
            return false;
    return true;
}

void resolve_address_text(const struct resolve_address *address, char text[RESOLVE_ADDRESS_TEXT])
{
    bool four = address->sa.sa_family == AF_INET;
    char host[INET6_ADDRSTRLEN] = "?", rank[40] = "";

    if (four)
        inet_ntop(AF_INET, &address->in.sin_addr, host, sizeof(host));
    else
        inet_ntop(AF_INET6, &address->in6.sin6_addr, host, sizeof(host));
    if (address->priority || address->weight)
        snprintf(rank, sizeof(rank), " priority %u weight %u", address->priority, address->weight);
    snprintf(text, RESOLVE_ADDRESS_TEXT, four ? "%s %s:%u%s" : "%s [%s]:%u%s",
             address->transport == RESOLVE_TCP ? "tcp" : "udp", host,
             ntohs(four ? address->in.sin_port : address->in6.sin6_port), rank);
}

/* ---- the log ---- */

/* Those of `list` that are not in `other`, or "none". */
static struct str list_text(const struct resolve_address *list, unsigned count,
                            const struct resolve_address *other, unsigned other_count,
                            char space[LIST_TEXT])
{
    struct buf text = {.p = space, .size = LIST_TEXT};
    char one[RESOLVE_ADDRESS_TEXT];

    for (unsigned i = 0; i < count; i++) {
        if (resolve_address_in(other, other_count, &list[i]))
            continue;
        resolve_address_text(&list[i], one);
        if (text.len)
            buf_add(&text, STR(", "));
        buf_add(&text, str_of(one));
    }
    return text.len ? buf_str(&text) : STR("none");
}

void resolve_change_log(const struct resolve_name *name, const struct resolve_result *before,
                        const struct resolve_result *now)
{
    static const struct resolve_result none;
    char added[LIST_TEXT], removed[LIST_TEXT];

    if (!before)
        before = &none;
    log_event(name->why[0] ? LOG_INFO : LOG_DEBUG, "backend's addresses",
              LOG_TEXT("name", str_of(name->host)), LOG_NUMBER("count", now->count),
              LOG_TEXT("added", list_text(now->addresses, now->count, before->addresses,
                                          before->count, added)),
              LOG_TEXT("removed", list_text(before->addresses, before->count, now->addresses,
                                            now->count, removed)),
              LOG_TEXT("reason", name->why[0] ? str_of(name->why) : STR("not a name")));
}

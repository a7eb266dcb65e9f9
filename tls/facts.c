#include "tls/facts.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct facts *facts_copy(const struct facts *facts)
{
    struct facts *copy = malloc(facts->size);

    return copy ? memcpy(copy, facts, facts->size) : NULL;
}

/* ---- filters ---- */

static int address_read(const char *host, union conf_sockaddr *out)
{
    *out = (union conf_sockaddr){0};
    if (inet_pton(AF_INET, host, &out->in.sin_addr) == 1)
        out->in.sin_family = AF_INET;
    else if (inet_pton(AF_INET6, host, &out->in6.sin6_addr) == 1)
        out->in6.sin6_family = AF_INET6;
    else
        return -EINVAL;
    return 0;
}

int facts_filter_peer(struct facts_filter *filter, const char *text)
{
    bool bracket = *text == '[';
    const char *colon = strrchr(text, ':');
    char host[INET6_ADDRSTRLEN];
    uint64_t port = 0;
    size_t len;

    if (!bracket && address_read(text, &filter->peer) == 0)
        return 0;
    len = colon ? (size_t)(colon - text) : strlen(text);
    if (bracket && text[strlen(text) - 1] == ']') {
        colon = NULL;
        len = strlen(text);
    }
    if (colon && (str_to_uint(str_of(colon + 1), UINT16_MAX, &port) || !port))
        return -EINVAL;
    if (bracket && (len < 2 || text[len - 1] != ']'))
        return -EINVAL;
    text += bracket;
    len -= bracket ? 2 : 0;
    if (len >= sizeof(host))
        return -EINVAL;
    memcpy(host, text, len);
    host[len] = '\0';
    if (address_read(host, &filter->peer))
        return -EINVAL;
    filter->peer.in.sin_port = htons((uint16_t)port); /* at the same place in both families */
    return 0;
}

int facts_filter_aor(struct facts_filter *filter, const char *text)
{
    size_t len = strlen(text);

    if (!len || len >= sizeof(filter->aor))
        return -EINVAL;
    memcpy(filter->aor, text, len + 1);
    return 0;
}

bool facts_peer_fits(const struct facts_filter *filter, const union conf_sockaddr *peer)
{
    const union conf_sockaddr *want = &filter->peer;

    if (!want->sa.sa_family)
        return true;
    if (want->sa.sa_family != peer->sa.sa_family ||
        (want->in.sin_port && want->in.sin_port != peer->in.sin_port))
        return false;
    if (want->sa.sa_family == AF_INET)
        return want->in.sin_addr.s_addr == peer->in.sin_addr.s_addr;
    return !memcmp(&want->in6.sin6_addr, &peer->in6.sin6_addr, sizeof(want->in6.sin6_addr));
}

bool facts_aor_fits(const struct facts_filter *filter, const char *aor)
{
    const char *address = strchr(aor, ':') + 1, *at = strchr(address, '@');
    size_t len = strlen(filter->aor);

    if (!len || !strcasecmp(filter->aor, aor) || !strcasecmp(filter->aor, address))
        return true;
    return at && len == (size_t)(at - address) && !strncasecmp(filter->aor, address, len);
}

/* ---- history ---- */

void history_add(struct history *history, struct facts *facts)
{
    if (!history->all)
        history->all = calloc(history->size, sizeof(struct facts *));
    if (!history->all) {
        free(facts);
        return;
    }
    free(history->all[history->next]);
    history->all[history->next] = facts;
    history->next = (history->next + 1) % history->size;
    history->count += history->count < history->size;
}

/* The last one is 0. */
static const struct facts *history_at(const struct history *history, unsigned age)
{
    if (age >= history->count)
        return NULL;
    return history->all[(history->next + history->size - 1 - age) % history->size];
}

static unsigned history_age(const struct history *history, uint64_t number)
{
    unsigned age = 0;

    while (age < history->count && history_at(history, age)->number != number)
        age++;
    return age;
}

const struct facts *history_before(const struct history *history, uint64_t number)
{
    return history_at(history, number ? history_age(history, number) + 1 : 0);
}

const struct facts *history_find(const struct history *history, uint64_t number)
{
    return history_at(history, history_age(history, number));
}

void history_clear(struct history *history)
{
    for (unsigned i = 0; i < history->count; i++)
        free(history->all[i]);
    free(history->all);
    history->all = NULL;
    history->count = history->next = 0;
}

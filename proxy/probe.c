/* How the backends are (B2): what requests to them and probes tell.
 *
 * A probe is an OPTIONS with Max-Forwards 70 to "sip:ADDRESS". A Request-URI without a user names
 * that very element (RFC 3261 11), so a proxy answers it itself; with Max-Forwards 0 it would have
 * to answer as well, but a 483, which logs and intrusion detection take for a loop.
 *
 * One worker probes for all. A backend that is the only one is asked until it has answered, and
 * then only while it is down: there is nowhere else to go, requests tell that it is silent, and
 * some PBXs write a warning for each OPTIONS of who is no peer of theirs, which bans its address in
 * the end (Asterisk and fail2ban). What has been silent, or is down, is asked again after a second;
 * what stays down ever less often, up to the interval. All times are a quarter more or less. */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#include <xxhash.h>

#include "proxy/internal.h"

enum {
    AGAIN_MS = 1000,         /* until a doubtful one is asked again, and the longest sleep */
    FIRST_MS = 500,          /* after the start */
    LEFT_ALONE_MS = 15000,   /* one that fails, where no probe can tell that it is back */
    RETRY_AFTER_MAX_S = 300, /* a 503 may not ask for more */
};

/* ---- what requests tell ---- */

static const struct endpoint *endpoint_in(const struct proxy *proxy, unsigned slot)
{
    for (unsigned i = 0; i < proxy->core->endpoint_count; i++)
        if (proxy->core->endpoints[i].slot == slot)
            return &proxy->core->endpoints[i];
    return NULL;
}

static bool has_another(const struct proxy *proxy, unsigned slot)
{
    for (unsigned i = 0; i < proxy->core->endpoint_count; i++)
        if (proxy->core->endpoints[i].slot != slot && !proxy->core->endpoints[i].retired)
            return true;
    return false;
}

static void changed(const struct proxy *proxy, enum log_level level, const char *what,
                    unsigned slot, const struct health_change *change)
{
    const struct endpoint *endpoint = endpoint_in(proxy, slot);
    char text[CORE_ADDR_TEXT], reason[HEALTH_CHANGE_TEXT];

    health_changed(proxy->options.health, slot, change);
    health_change_text(change, reason);
    if (!endpoint)
        return;
    core_addr_text(&endpoint->addr, text);
    log_event(level, what, LOG_TEXT("address", str_of(text)),
              LOG_TEXT("transport", endpoint->addr.kind == CORE_TCP ? STR("tcp") : STR("udp")),
              *reason ? LOG_TEXT("reason", str_of(reason))
                      : (struct log_field){.kind = LOG_FIELD_END});
}

/* Where no probe can tell that it is up again, it is not down, but left alone for a while, if there
 * is another one: without probes, or if it has never answered any, as some PBXs don't. */
static void backend_down(struct proxy *proxy, unsigned slot, enum health_cause cause,
                         unsigned number, uint64_t now)
{
    const struct health_change change = {now, cause, number};
    struct health *health = proxy->options.health;

    if (proxy->conf->probe.interval_s && health_state(health, slot) != HEALTH_UNKNOWN) {
        if (health_down(health, slot))
            changed(proxy, LOG_WARNING, "backend down", slot, &change);
        return;
    }
    if (!has_another(proxy, slot)) {
        if (cause == HEALTH_REFUSED)
            (void)health_silent(health, slot);
        if (health_change(health, slot).cause == HEALTH_NOTHING)
            changed(proxy, LOG_WARNING, "backend does not answer", slot, &change);
        return;
    }
    if (health_usable(health, slot, now))
        changed(proxy, LOG_WARNING, "backend left alone for 15 s", slot, &change);
    health_busy(health, slot, now + LEFT_ALONE_MS);
}

static void silent(struct proxy *proxy, unsigned slot, enum health_cause cause, uint64_t now)
{
    unsigned count = health_silent(proxy->options.health, slot);

    if (count >= proxy->conf->probe.down_after)
        backend_down(proxy, slot, cause, count, now);
}

/* The end of a silence of one that is not down, since no probe could tell that it is up again. */
static void spoken(struct proxy *proxy, unsigned slot, const struct health_change *change)
{
    struct health *health = proxy->options.health;

    if (!health_answered(health, slot) || health_state(health, slot) != HEALTH_UNKNOWN ||
        health_change(health, slot).cause == HEALTH_NOTHING)
        return;
    changed(proxy, LOG_INFO, "backend answers", slot, change);
}

void backend_answered(struct proxy *proxy, unsigned slot)
{
    spoken(proxy, slot, &(struct health_change){.cause = HEALTH_NOTHING});
}

void backend_silent(struct proxy *proxy, unsigned slot, uint64_t now)
{
    silent(proxy, slot, HEALTH_REQUESTS_SILENT, now);
}

void backend_refused(struct proxy *proxy, const struct core_addr *addr, int err, uint64_t now)
{
    const struct endpoint *endpoint = endpoint_at(proxy->core, addr);

    if (endpoint && endpoint->addr.kind == addr->kind)
        backend_down(proxy, endpoint->slot, HEALTH_REFUSED, (unsigned)-err, now);
}

/* "120", "18000;duration=3600", "5 (in a moment)". 0: none, or not a number. */
static unsigned retry_after_s(const struct sip_msg *response)
{
    struct str value = sip_value(response, HEADER_RETRY_AFTER);
    unsigned seconds = 0;

    for (size_t i = 0; i < value.len && value.p[i] >= '0' && value.p[i] <= '9'; i++)
        if (seconds < RETRY_AFTER_MAX_S)
            seconds = seconds * 10 + (unsigned)(value.p[i] - '0');
    return seconds < RETRY_AFTER_MAX_S ? seconds : RETRY_AFTER_MAX_S;
}

/* Without Retry-After it is as a 500, of this one request (RFC 3261 21.5.4): a PBX whose trunk is
 * congested answers a call so, and does its other work. */
void backend_overloaded(struct proxy *proxy, unsigned slot, const struct sip_msg *response,
                        uint64_t now)
{
    unsigned seconds = retry_after_s(response);
    const struct health_change change = {now, HEALTH_RETRY_AFTER, seconds};

    if (!seconds || !has_another(proxy, slot))
        return;
    if (health_usable(proxy->options.health, slot, now))
        changed(proxy, LOG_WARNING, "backend busy", slot, &change);
    health_busy(proxy->options.health, slot, now + seconds * UINT64_C(1000));
}

/* ---- probes ---- */

struct probe {
    struct probes *probes;
    struct core_addr addr;             /* of the slot, when it was looked at last */
    bool known;                        /* there is an endpoint in this slot */
    bool down;                         /* as it was when it was looked at last */
    struct client_transaction *client; /* NULL: none is under way */
    uint64_t due;                      /* the next one; under way: the end of its time */
    uint64_t pause_ms;                 /* after one that was not answered */
    unsigned bad, good;                /* in a row; good: of one that is down */
    uint32_t serial;
};

struct probes {
    struct proxy *proxy;
    struct timer timer;
    struct probe slots[ENDPOINTS_MAX];
};

static unsigned slot_of(const struct probe *probe)
{
    return (unsigned)(probe - probe->probes->slots);
}

/* A quarter more or less, so that edges and endpoints don't keep in step. */
static uint64_t jittered(struct probe *probe, uint64_t ms)
{
    const uint32_t key[] = {slot_of(probe), probe->serial++};

    return ms * 3 / 4 +
           XXH3_64bits_withSeed(key, sizeof(key), probe->probes->proxy->options.instance) %
               (ms / 2 + 1);
}

static void probe_drop(struct probe *probe)
{
    if (probe->client)
        client_transaction_drop(probe->client);
    probe->client = NULL;
}

static void look_later(struct probes *probes, uint64_t now);

static void probe_bad(struct probe *probe, enum health_cause cause, uint64_t now)
{
    struct proxy *proxy = probe->probes->proxy;
    uint64_t interval = proxy->conf->probe.interval_s * UINT64_C(1000);

    probe_drop(probe);
    probe->good = 0;
    silent(proxy, slot_of(probe), cause, now);
    if (probe->pause_ms > interval)
        probe->pause_ms = interval;
    probe->due = now + jittered(probe, probe->pause_ms);
    if (++probe->bad >= proxy->conf->probe.down_after)
        probe->pause_ms *= 2;
    look_later(probe->probes, now);
}

static void probe_good(struct probe *probe, uint64_t now)
{
    struct proxy *proxy = probe->probes->proxy;
    struct health *health = proxy->options.health;
    unsigned slot = slot_of(probe);
    uint64_t pause = proxy->conf->probe.interval_s * UINT64_C(1000);
    enum health_state state = health_state(health, slot);
    struct health_change change = {now, HEALTH_PROBES_ANSWERED, 1};

    probe_drop(probe);
    probe->bad = 0;
    spoken(proxy, slot, &change);
    if (state != HEALTH_DOWN) {
        if (state == HEALTH_UNKNOWN)
            health_changed(health, slot, &change);
        (void)health_up(health, slot);
    } else if (++probe->good >= proxy->conf->probe.up_after) {
        change.number = probe->good;
        if (health_up(health, slot))
            changed(proxy, LOG_INFO, "backend up", slot, &change);
    } else if (pause > AGAIN_MS) {
        pause = AGAIN_MS;
    }
    probe->pause_ms = AGAIN_MS;
    probe->due = now + jittered(probe, pause);
    look_later(probe->probes, now);
}

static void on_response(void *owner, struct client_transaction *client, struct sip_msg *response,
                        uint64_t now)
{
    struct probe *probe = owner;

    (void)client;
    if (response->status < 200)
        return;
    if (response->status == 503 || response->status == 408)
        probe_bad(probe, response->status == 503 ? HEALTH_PROBES_503 : HEALTH_PROBES_408, now);
    else
        probe_good(probe, now);
}

/* A refusal has made it down already. */
static void on_failed(void *owner, struct client_transaction *client, int err, uint64_t now)
{
    (void)client, (void)err;
    probe_bad(owner, HEALTH_PROBES_SILENT, now);
}

static void on_ended(void *owner, struct client_transaction *client, uint64_t now)
{
    (void)owner, (void)client, (void)now; /* each is dropped before */
}

static const struct transaction_user probe_user = {
    .response = on_response, .client_failed = on_failed, .client_ended = on_ended};

static void probe_print(struct probe *probe, const char *id, const char *own_branch)
{
    struct proxy *proxy = probe->probes->proxy;
    struct str host = core_host(proxy, &probe->addr);
    struct buf *out = &proxy->out;
    char to[CORE_ADDR_TEXT];
    bool tcp = probe->addr.kind == CORE_TCP;

    core_addr_text(&probe->addr, to);
    buf_reset(out);
    buf_printf(out, "OPTIONS sip:%s%s SIP/2.0\r\n", to, tcp ? ";transport=tcp" : "");
    buf_printf(out, "Via: SIP/2.0/%s " STR_FMT ";branch=%s;rport\r\n", tcp ? "TCP" : "UDP",
               STR_ARG(host), own_branch);
    buf_printf(out, "Max-Forwards: 70\r\n");
    buf_printf(out, "From: <sip:" STR_FMT ">;tag=%s\r\n", STR_ARG(host), id);
    buf_printf(out, "To: <sip:%s>\r\n", to);
    buf_printf(out, "Call-ID: probe-%08x-%u@" STR_FMT "\r\n", proxy->options.instance,
               slot_of(probe), STR_ARG(host));
    buf_printf(out, "CSeq: %u OPTIONS\r\n", ++probe->serial);
    buf_printf(out, "Content-Length: 0\r\n\r\n");
}

static void probe_send(struct probe *probe, uint64_t now)
{
    struct proxy *proxy = probe->probes->proxy;
    struct hop to = {.core = probe->addr};
    char id[TRANSACTION_ID_SIZE], own_branch[64];

    if (client_transaction_create(proxy->transactions, &to, &probe_user, probe, now,
                                  &probe->client)) {
        probe->due = now + AGAIN_MS; /* no room, or no memory: it says nothing about the backend */
        return;
    }
    client_transaction_id(probe->client, id);
    (void)snprintf(own_branch, sizeof(own_branch), "z9hG4bK%s.probe", id);
    probe_print(probe, id, own_branch);
    probe->due = now + proxy->conf->probe.timeout_s * UINT64_C(1000);
    client_transaction_send(probe->client,
                            &(struct client_request){.method = SIP_OPTIONS,
                                                     .bytes = buf_str(&proxy->out),
                                                     .branch = str_of(own_branch)},
                            now);
}

/* What is in this slot of the view may be new, another one, or gone. */
static void probe_see(struct probe *probe, const struct endpoint *endpoint, uint64_t now)
{
    struct proxy *proxy = probe->probes->proxy;
    enum health_state state = health_state(proxy->options.health, endpoint->slot);
    bool down = state == HEALTH_DOWN;

    if (!probe->known || !core_addr_eq(&probe->addr, &endpoint->addr)) {
        probe_drop(probe);
        probe->addr = endpoint->addr;
        probe->known = true;
        probe->down = false;
        probe->bad = 0;
        probe->pause_ms = AGAIN_MS;
        probe->due = now + jittered(probe, FIRST_MS);
    }
    if (down && !probe->down) { /* whoever found that out */
        probe->good = probe->bad = 0;
        probe->pause_ms = AGAIN_MS;
        if (!probe->client)
            probe->due = now + jittered(probe, AGAIN_MS);
    }
    probe->down = down;
    if (now < probe->due)
        return;
    if (probe->client)
        probe_bad(probe, HEALTH_PROBES_SILENT, now);
    else if (state == HEALTH_UP && !has_another(proxy, endpoint->slot))
        probe->due = now + AGAIN_MS;
    else
        probe_send(probe, now);
}

static void look(struct timer *timer, uint64_t now)
{
    struct probes *probes =
        (struct probes *)(void *)((char *)timer - offsetof(struct probes, timer));
    const struct core_view *view = probes->proxy->core;
    bool seen[ENDPOINTS_MAX] = {false};

    for (unsigned i = 0; i < view->endpoint_count; i++) {
        const struct endpoint *endpoint = &view->endpoints[i];

        if (endpoint->retired || !core_addr_is_ip(&endpoint->addr))
            continue;
        seen[endpoint->slot] = true;
        probe_see(&probes->slots[endpoint->slot], endpoint, now);
    }
    for (unsigned slot = 0; slot < ENDPOINTS_MAX; slot++)
        if (probes->slots[slot].known && !seen[slot]) {
            probe_drop(&probes->slots[slot]);
            probes->slots[slot].known = false;
        }
    look_later(probes, now);
}

/* At the next time that something is due; within a second, as others may have found one down. */
static void look_later(struct probes *probes, uint64_t now)
{
    uint64_t next = now + AGAIN_MS;

    for (unsigned slot = 0; slot < ENDPOINTS_MAX; slot++)
        if (probes->slots[slot].known && probes->slots[slot].due < next)
            next = probes->slots[slot].due;
    timer_start(probes->proxy->options.timers, &probes->timer, next, look);
}

static bool wanted(const struct conf *conf)
{
    return conf->probe.interval_s && conf->backend_count;
}

int probes_create(struct proxy *proxy, uint64_t now)
{
    struct probes *probes = calloc(1, sizeof(*probes));

    if (!probes)
        return -ENOMEM;
    probes->proxy = proxy;
    for (unsigned slot = 0; slot < ENDPOINTS_MAX; slot++)
        probes->slots[slot].probes = probes;
    proxy->probes = probes;
    if (wanted(proxy->conf))
        look(&probes->timer, now);
    return 0;
}

void probes_conf_changed(struct proxy *proxy)
{
    struct probes *probes = proxy->probes;

    if (!probes)
        return;
    if (wanted(proxy->conf)) {
        timer_start(proxy->options.timers, &probes->timer, 0, look);
        return;
    }
    timer_stop(proxy->options.timers, &probes->timer);
    for (unsigned slot = 0; slot < ENDPOINTS_MAX; slot++) {
        probe_drop(&probes->slots[slot]);
        probes->slots[slot].known = false;
    }
}

void probes_destroy(struct proxy *proxy)
{
    if (!proxy->probes)
        return;
    timer_stop(proxy->options.timers, &proxy->probes->timer);
    for (unsigned slot = 0; slot < ENDPOINTS_MAX; slot++)
        probe_drop(&proxy->probes->slots[slot]);
    free(proxy->probes);
    proxy->probes = NULL;
}

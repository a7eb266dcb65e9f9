#include "world.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include <openssl/rand.h>

/* Under AddressSanitizer: bytes that the program holds. */
size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));

enum {
    POSTED_MAX = 256,
    CAUSED_MAX = 400, /* messages that one of a peer may cause */
    STEP_BYTES_MAX = 1 << 20,
    QUIET_MS = 10 * 60 * 1000,
};

static const uint8_t KEYS[1][32] = {{7}};
static uint64_t seed;

ssize_t __wrap_getrandom(void *at, size_t len, unsigned flags);
int __wrap_RAND_bytes(unsigned char *at, int len);

ssize_t __wrap_getrandom(void *at, size_t len, unsigned flags)
{
    (void)flags;
    for (size_t i = 0; i < len; i++) {
        seed = seed * 6364136223846793005U + 1442695040888963407U;
        ((uint8_t *)at)[i] = (uint8_t)(seed >> 56);
    }
    return (ssize_t)len;
}

int __wrap_RAND_bytes(unsigned char *at, int len)
{
    return __wrap_getrandom(at, (size_t)len, 0) == len;
}

/* ---- what is kept ---- */

/* URIs of ours, for requests that use them: all that stand in brackets. */
static void uris_keep(struct world *world, struct str bytes)
{
    const char *at = bytes.p, *end = bytes.p + bytes.len;

    while ((at = memchr(at, '<', (size_t)(end - at))) != NULL) {
        char **slot = &world->uris[world->uri_count % WORLD_URIS];
        const char *close;

        at++;
        close = memchr(at, '>', (size_t)(end - at));

        if (!close || close - at > 2048)
            return;
        free(*slot);
        *slot = strndup(at, (size_t)(close - at));
        world->uri_count++;
    }
}

static void keep(struct world *world, const struct place *place, struct str bytes, bool sent)
{
    struct kept *kept = &world->kept[world->kept_count++ % WORLD_KEPT];

    free(kept->bytes);
    *kept = (struct kept){.place = *place, .bytes = malloc(bytes.len + 1), .len = bytes.len};
    assert(kept->bytes);
    memcpy(kept->bytes, bytes.p, bytes.len);
    kept->bytes[bytes.len] = '\0';
    kept->is_request = bytes.len > 4 && strncmp(kept->bytes, "SIP/", 4) != 0;
    kept->sent = sent;
}

const struct kept *world_kept(const struct world *world, unsigned back)
{
    unsigned count = world->kept_count < WORLD_KEPT ? world->kept_count : WORLD_KEPT;

    return count ? &world->kept[(world->kept_count - 1 - back % count) % WORLD_KEPT] : NULL;
}

const char *world_uri(const struct world *world, unsigned back)
{
    unsigned count = world->uri_count < WORLD_URIS ? world->uri_count : WORLD_URIS;

    return count ? world->uris[(world->uri_count - 1 - back % count) % WORLD_URIS] : NULL;
}

/* ---- what the proxy and the registrar send ---- */

/* `to_registrar`, or to the proxy, which is told that it is from `from`. */
static int post(struct world *world, bool to_registrar, enum core_kind from, struct str bytes)
{
    struct posted *posted;

    if (world->posted_count >= POSTED_MAX)
        return -ENOBUFS; /* as a mailbox that is full */
    posted = malloc(sizeof(*posted) + bytes.len);
    assert(posted);
    *posted = (struct posted){.to_registrar = to_registrar,
                              .from = from,
                              .bytes = (char *)(posted + 1),
                              .len = bytes.len};
    memcpy(posted->bytes, bytes.p, bytes.len);
    *world->posted_end = posted;
    world->posted_end = &posted->next;
    world->posted_count++;
    return 0;
}

static int core_send(void *context, const struct core_addr *to, struct str bytes)
{
    struct world *world = context;
    struct place place = {.client = -1, .core = *to};

    oracle_sent(world, &place, bytes); /* what gets lost counts too */
    if (world->core_failure)
        return world->core_failure;
    keep(world, &place, bytes, true);
    uris_keep(world, bytes);
    return core_addr_is_ip(to) ? 0 : post(world, to->kind == CORE_EMBEDDED, to->kind, bytes);
}

static void registrar_sends(void *context, struct str bytes)
{
    oracle_registrar_sent(bytes);
    (void)post(context, false, CORE_EMBEDDED, bytes);
}

/* What a client has to know to answer a challenge. */
static void challenge_keep(struct client *client, struct str bytes)
{
    const char *nonce = memmem(bytes.p, bytes.len, "nonce=\"", 7);

    if (!nonce)
        return;
    nonce += 7;
    client->challenged = true;
    client->nonce_count = 0;
    client->sha256 = memmem(bytes.p, bytes.len, "algorithm=SHA-256", 17) != NULL;
    (void)snprintf(client->nonce, sizeof(client->nonce), "%.*s", (int)(bytes.p + bytes.len - nonce),
                   nonce);
    client->nonce[strcspn(client->nonce, "\"\r\n")] = '\0';
}

static int client_sends(void *conn, struct str bytes)
{
    struct client *client = conn;
    struct place place = {.client = (int)client->number, .life = client->life};

    assert(client->flow); /* nothing after flow_close() */
    oracle_sent(client->world, &place, bytes);
    if (client->failure)
        return client->failure;
    if (bytes.len > 2) {
        keep(client->world, &place, bytes, true);
        uris_keep(client->world, bytes);
        challenge_keep(client, bytes);
    }
    return 0;
}

/* The connection is gone a little later. */
static void client_closes(void *conn, enum cause cause)
{
    struct client *client = conn;

    (void)cause;
    assert(client->flow);
    client->hung_up = true;
}

/* ---- what they are given ---- */

static size_t allocated(void)
{
    return __sanitizer_get_current_allocated_bytes ? __sanitizer_get_current_allocated_bytes() : 0;
}

/* What is open stays within its limits. */
static void limits_hold(const struct world *world)
{
    const struct conf *conf = &world->conf;

    for (unsigned i = 0; i < WORLD_CLIENTS; i++)
        if (world->clients[i].flow)
            assert(world->clients[i].flow->open_count <=
                   2 * conf->limits.transactions_per_connection);
    assert(proxy_sizes(world->proxy).transactions <= 2 * (size_t)conf->limits.transactions);
    if (world->registrar)
        assert(transactions_count(world->registrar->transactions) <=
               2 * (size_t)conf->limits.transactions);
}

/* Whatever is on its way without a socket arrives. */
static void settle(struct world *world)
{
    unsigned caused = 0;

    while (world->posted) {
        struct posted *posted = world->posted;

        world->posted = posted->next;
        if (!world->posted)
            world->posted_end = &world->posted;
        world->posted_count--;
        if (posted->to_registrar) {
            registrar_receive(world->registrar, posted->bytes, posted->len, world->now);
        } else {
            const struct place from = {.client = -1, .core = {.kind = posted->from}};

            oracle_given(world, &from, (struct str){posted->bytes, posted->len}, 0, SIP_DATAGRAM);
            proxy_receive_core(world->proxy, &from.core, posted->bytes, posted->len, world->now);
            oracle_done();
        }
        free(posted);
        assert(++caused < CAUSED_MAX); /* no storm out of one message */
    }
    limits_hold(world);
    for (unsigned i = 0; i < WORLD_CLIENTS; i++)
        if (world->clients[i].hung_up)
            client_close(&world->clients[i]);
}

void client_says(struct client *client, struct str bytes)
{
    struct world *world = client->world;
    struct place place = {.client = (int)client->number, .life = client->life};
    size_t room = sizeof(client->stream) - client->stream_len, before = allocated();
    ssize_t taken;

    if (!client->flow || bytes.len > room)
        return;
    keep(world, &place, bytes, false);
    memcpy(client->stream + client->stream_len, bytes.p, bytes.len);
    client->stream_len += bytes.len;

    char *copy = malloc(client->stream_len + !client->stream_len); /* of exactly that size */
    assert(copy);
    memcpy(copy, client->stream, client->stream_len);
    oracle_given(world, &place, (struct str){copy, client->stream_len}, client->scanned,
                 client->websocket ? SIP_DATAGRAM : SIP_STREAM);
    if (client->websocket) {
        taken = proxy_receive_message(client->flow, copy, client->stream_len, world->now);
        taken = taken ? taken : (ssize_t)client->stream_len;
    } else {
        taken = proxy_receive_stream(client->flow, copy, client->stream_len, &client->scanned,
                                     world->now);
    }
    oracle_done();
    if (taken > 0) {
        assert((size_t)taken <= client->stream_len);
        client->stream_len -= (size_t)taken;
        memcpy(client->stream, copy + taken, client->stream_len);
    }
    free(copy);
    if (taken < 0)
        client_close(client);
    settle(world);
    assert(allocated() <= before + STEP_BYTES_MAX);
}

/* What the core's side of TCP gives to the proxy is framed: one message, or nothing. */
static struct str framed(const struct world *world, struct str bytes)
{
    struct sip_frame frame;
    size_t scanned = 0;

    sip_frame(bytes, world->conf.limits.message_size, &scanned, &frame);
    return frame.kind == FRAME_MESSAGE ? (struct str){bytes.p + frame.start, frame.len} : STR("");
}

void core_says(struct world *world, const struct core_addr *from, struct str bytes)
{
    struct place place = {.client = -1, .core = *from};
    size_t before = allocated();
    char *copy;

    if (from->kind == CORE_TCP)
        bytes = framed(world, bytes);
    copy = malloc(bytes.len + !bytes.len);
    assert(copy);
    memcpy(copy, bytes.p, bytes.len);
    for (unsigned workers = 1; workers < 5; workers += 3)
        assert(core_owner((struct str){copy, bytes.len}, workers) < workers);
    keep(world, &place, bytes, false);
    oracle_given(world, &place, bytes, 0, SIP_DATAGRAM);
    proxy_receive_core(world->proxy, from, copy, bytes.len, world->now);
    oracle_done();
    free(copy);
    settle(world);
    assert(allocated() <= before + STEP_BYTES_MAX);
}

void world_wait(struct world *world, uint64_t ms)
{
    uint64_t end = world->now + ms, next;

    while ((next = timers_next(world->timers)) <= end) {
        world->now = next > world->now ? next : world->now;
        timers_run(world->timers, world->now);
        settle(world);
    }
    world->now = end;
    timers_run(world->timers, world->now);
    settle(world);
}

/* ---- connections ---- */

static const struct flow_transport TRANSPORTS[] = {
    {"tls", "TLS", "tls", 5061, client_sends, client_closes},
    {"wss", "WSS", "ws",  443,  client_sends, client_closes},
    {"tcp", "TCP", "tcp", 5060, client_sends, client_closes},
    {"ws",  "WS",  "ws",  80,   client_sends, client_closes},
};

void client_open(struct client *client, unsigned kind)
{
    struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = htons(50000)};
    struct sockaddr_in local = {.sin_family = AF_INET, .sin_port = htons(5061)};
    struct sockaddr_in6 peer6 = {.sin6_family = AF_INET6, .sin6_port = htons(50001)};
    struct flow_options options = {
        .transport = &TRANSPORTS[kind % ARRAY_LEN(TRANSPORTS)],
        .conn = client,
        .peer = kind & 4 ? (struct sockaddr *)&peer6 : (struct sockaddr *)&peer,
        .local = (struct sockaddr *)&local,
        .host = kind & 8    ? "edge.test"
                : kind & 16 ? "2001:db8::1"
                            : NULL,
    };

    if (client->flow)
        return;
    peer.sin_addr.s_addr = htonl(0xc0000207);  /* 192.0.2.7 */
    local.sin_addr.s_addr = htonl(0xc6336401); /* 198.51.100.1 */
    peer6.sin6_addr.s6_addr[15] = 9;
    if (flow_open(client->world->proxy, &options, client->world->now, &client->flow))
        return;
    client->websocket = kind & 1;
    client->life++;
    client->failure = 0;
    client->stream_len = client->scanned = 0;
}

void client_close(struct client *client)
{
    struct flow *flow = client->flow;

    if (!flow)
        return;
    client->flow = NULL; /* flow_close() sends nothing to it */
    client->hung_up = false;
    flow_close(flow, "closed by client", client->world->now);
    oracle_flow_gone(client);
    settle(client->world);
}

/* ---- the world ---- */

static struct conf_backend backends[WORLD_BACKENDS] = {
    {.host = "pbx.test",    .port = 5060},
    {.host = "10.0.0.6",    .port = 5070},
    {.host = "2001:db8::5", .port = 5060},
};
static char *aliases[] = {"alias.test"};
static char *from_clients[] = {"P-Asserted-Identity", "Remote-Party-ID",
                               "P-Access-Network-Info;network-provided"};
static char *to_clients[] = {"P-Charging-Vector"};
static struct conf_header_rule rules[] = {
    {CONF_TO_CORE,   CONF_SET,    "X-Edge", "one"},
    {CONF_TO_CORE,   CONF_ADD,    "Allow",  "FOO"},
    {CONF_TO_ACCESS, CONF_REMOVE, "Server", NULL },
};
static struct conf_user users[] = {
    {"alice", "wonder",  NULL, NULL                                                              },
    {"bob",   "builder", NULL, NULL                                                              },
    {"dave",  NULL,      NULL, "6c6766e29ffcd559d97cbfc4332697ca94d8bf184c2cd9ca4f497ac79f445c69"},
};

static void conf_make(struct world *world)
{
    const struct world_options *options = &world->options;
    bool small = options->small_limits, rewrites = options->header_rules;

    world->conf = (struct conf){
        .domain = "sip.test",
        .aliases = aliases,
        .alias_count = ARRAY_LEN(aliases),
        .backends = options->embedded ? NULL : backends,
        .backend_count = options->embedded           ? 0
                         : options->several_backends ? WORLD_BACKENDS
                                                     : 1,
        .contact_path = options->contact_path,
        .flow_gone_status = 430,
        .users = users,
        .user_count = ARRAY_LEN(users),
        .registrar = {.realm = "home",
                      .min_expires_s = 60,
                      .default_expires_s = 600,
                      .max_expires_s = 1200,
                      .max_bindings = small ? 2 : 5,
                      .nonce_lifetime_s = 300                               },
        .headers = { .from_clients = from_clients,
                      .from_client_count = ARRAY_LEN(from_clients),
                      .to_clients = to_clients,
                      .to_client_count = ARRAY_LEN(to_clients),
                      .rules = rules,
                      .rule_count = rewrites ? ARRAY_LEN(rules) : 0,
                      .client_address = rewrites ? "X-Client-Address" : NULL},
        .limits = { .message_size = small ? 1500 : 65536,
                      .udp_size = 1300,
                      .max_forwards = 70,
                      .try_timeout_ms = 1600,
                      .transactions = small ? 6 : 200,
                      .transactions_per_connection = small ? 2 : 100,
                      .idle_timeout_s = small ? 60 : 7200},
    };
    world->conf.probe.interval_s = 10; /* none are sent in this world */
    world->conf.probe.down_after = 3;
}

static struct core_addr udp4(const char *host, uint16_t port)
{
    struct core_addr addr = {.kind = CORE_UDP};

    addr.in.sin_family = AF_INET;
    addr.in.sin_port = htons(port);
    (void)inet_pton(AF_INET, host, &addr.in.sin_addr);
    return addr;
}

static struct core_addr udp6(const char *host, uint16_t port)
{
    struct core_addr addr = {.kind = CORE_UDP};

    addr.in6.sin6_family = AF_INET6;
    addr.in6.sin6_port = htons(port);
    (void)inet_pton(AF_INET6, host, &addr.in6.sin6_addr);
    return addr;
}

static void view_make(struct world *world)
{
    const struct endpoint endpoints[WORLD_BACKENDS] = {
        {.addr = udp4("10.0.0.5", 5060), .weight = 1},
        {.addr = udp4("10.0.0.6",                       5070),      .weight = 2, .tcp_too = true}, /* T7 */
        {.addr = udp6("2001:db8::5",            5060)},
    };

    if (world->options.embedded) {
        world->view = (struct core_view){
            .references = 1,
            .conf = &world->conf,
            .endpoints = {{.addr = {.kind = CORE_EMBEDDED}}},
            .endpoint_count = 1,
        };
        return;
    }
    world->view = (struct core_view){
        .references = 1,
        .conf = &world->conf,
        .endpoint_count = world->conf.backend_count,
        .local4 = udp4("10.0.0.2", 5060),
    };
    for (unsigned i = 0; i < world->conf.backend_count; i++) {
        world->view.endpoints[i] = endpoints[i];
        world->view.endpoints[i].slot = world->view.endpoints[i].backend = (uint16_t)i;
    }
    if (!world->options.several_backends)
        return;
    world->view.local6 = udp6("2001:db8::2", 5060);
    world->view.tcp = true;
    world->view.endpoints[2].addr.kind = CORE_TCP;
}

void world_open(struct world *world, const struct world_options *options)
{
    int err;

    memset(world, 0, sizeof(*world));
    seed = 1;
    world->options = *options;
    world->now = 1000000;
    world->plain = true;
    world->posted_end = &world->posted;
    for (unsigned i = 0; i < WORLD_CLIENTS; i++)
        world->clients[i] = (struct client){.world = world, .number = i};
    conf_make(world);
    world->conf.connections_max = options->small_limits ? WORLD_CLIENTS - 1 : WORLD_CLIENTS;
    view_make(world);

    err = timers_create(world->now, &world->timers);
    if (!err)
        err = proxy_create(
            &(struct proxy_options){
                .core = &world->view,
                .health = &world->health,
                .worker = 2,
                .timers = world->timers,
                .run_key = KEYS[0],
                .instance = 12345,
                .core_send = core_send,
                .context = world,
            },
            &world->proxy);
    if (!err && options->embedded)
        err = registrar_create(&(struct registrar_options){.conf = &world->conf,
                                                           .timers = world->timers,
                                                           .send = registrar_sends,
                                                           .context = world},
                               &world->registrar);
    if (!err)
        err = token_keys_create(KEYS, 1, &world->keys);
    if (!err)
        err = arena_create(&world->arena, 65536);
    assert(!err);
    oracle_reset(world);
}

/* No transaction, no timer, no binding outlives what it is for. */
static void nothing_is_left(struct world *world)
{
    static const struct str names[] = {STR("alice"), STR("bob"), STR("dave")};
    struct proxy_sizes sizes;

    world->core_failure = 0;
    world_wait(world, QUIET_MS);
    sizes = proxy_sizes(world->proxy);
    assert(!sizes.flows && !sizes.requests && !sizes.transactions);
    assert(!proxy_unanswered(world->proxy) && !world->proxy->forwards);

    world_wait(world, (uint64_t)world->conf.registrar.max_expires_s * 1000);
    assert(timers_next(world->timers) == UINT64_MAX);
    if (!world->registrar)
        return;
    assert(transactions_count(world->registrar->transactions) == 0);
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        assert(location_find(world->registrar->location, names[i])->count == 0);
    for (size_t i = 0; i < FORK_BUCKETS; i++)
        assert(!world->registrar->forks[i]);
}

static void flows_close(struct world *world)
{
    for (unsigned i = 0; i < WORLD_CLIENTS; i++)
        client_close(&world->clients[i]);
}

void world_close(struct world *world, bool at_once)
{
    flows_close(world);
    if (!at_once)
        nothing_is_left(world);
    proxy_destroy(&world->proxy);
    registrar_destroy(&world->registrar);
    timers_destroy(&world->timers);
    token_keys_destroy(&world->keys);
    arena_destroy(&world->arena);
    for (unsigned i = 0; i < WORLD_KEPT; i++)
        free(world->kept[i].bytes);
    for (unsigned i = 0; i < WORLD_URIS; i++)
        free(world->uris[i]);
}

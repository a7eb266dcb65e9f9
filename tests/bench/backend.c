/* A stand-in for the registrar and PBX behind an edge, over UDP: it answers REGISTER and OPTIONS,
 * and is a proxy for calls to its users, who are called u0, u1 and so on: where they are it knows
 * by the Contact and Path of their last REGISTER. Without any transaction, so that it costs little.
 * A call to the user "hold" rings until it is cancelled.
 *
 * backend ADDRESS PORT; at its end (SIGTERM) a JSON line says what it did, and what it could not.
 */
#include <arpa/inet.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sip.h"

enum {
    BATCH = 32,
    MESSAGE_MAX = 65536,
    USERS_MAX = 1 << 20,
    HELD_SLOTS = 1 << 17,
    RECEIVE_BUFFER = 32 << 20,
};

struct binding {
    char *contact; /* the URI; of the same block as route */
    char *route;   /* the Path, as Route lines */
};

/* A call that rings. A CANCEL does not say all that the answer to its INVITE needs. */
struct held {
    struct held *next;
    size_t len;
    char invite[];
};

struct backend {
    int fd;
    char host[64], own[80]; /* "127.0.0.1:5060"; as a Route of ours has it */
    struct binding *users;
    struct held **held; /* by branch */
    struct {
        char received[46], rport[8];
        const struct sockaddr_in *addr;
    } from; /* whom the message at hand came from */
    struct {
        unsigned long registers, options, invites, others, responses, unknown, broken, unsent;
    } count;
    struct mmsghdr out[2 * BATCH];
    struct iovec out_bytes[2 * BATCH];
    struct sockaddr_in out_to[2 * BATCH];
    char out_text[2 * BATCH][MESSAGE_MAX];
    unsigned out_count;
};

static volatile sig_atomic_t stopped;

static void stop(int signal)
{
    (void)signal;
    stopped = 1;
}

/* ---- sending, together at the end of a batch ---- */

static void flush(struct backend *backend)
{
    unsigned done = 0;

    while (done < backend->out_count) {
        int now = sendmmsg(backend->fd, backend->out + done, backend->out_count - done, 0);
        if (now <= 0) { /* refused or too long: the first one is lost */
            backend->count.unsent++;
            now = 1;
        }
        done += (unsigned)now;
    }
    backend->out_count = 0;
}

static struct out out_begin(struct backend *backend)
{
    if (backend->out_count == 2 * BATCH)
        flush(backend);
    return (struct out){backend->out_text[backend->out_count], 0, MESSAGE_MAX, false};
}

static void out_end(struct backend *backend, const struct out *out, const struct sockaddr_in *to)
{
    unsigned at = backend->out_count;

    if (out->full) {
        backend->count.broken++;
        return;
    }
    backend->out_to[at] = *to;
    backend->out_bytes[at] = (struct iovec){out->p, out->len};
    backend->out[at].msg_hdr = (struct msghdr){.msg_name = &backend->out_to[at],
                                               .msg_namelen = sizeof(backend->out_to[at]),
                                               .msg_iov = &backend->out_bytes[at],
                                               .msg_iovlen = 1};
    backend->out_count++;
}

static void answer(struct backend *backend, const struct sip *request, const char *status)
{
    struct out out = out_begin(backend);
    const struct answer answer = {.status = status,
                                  .received = backend->from.received,
                                  .rport = backend->from.rport,
                                  .to_tag = "pbx"};

    sip_answer(&out, request, &answer);
    out_end(backend, &out, backend->from.addr);
}

static void not_found(struct backend *backend, const struct sip *request)
{
    if (text_is(request->method, "ACK"))
        return; /* of a 404, or of a dialog that the clients miss it in */
    backend->count.unknown++;
    answer(backend, request, "404 Not Found");
}

/* ---- users ---- */

/* Of "u17". NULL: no such user. */
static struct binding *user_of(struct backend *backend, struct text name)
{
    unsigned long number;

    if (name.len < 2 || name.p[0] != 'u')
        return NULL;
    number = sip_number((struct text){name.p + 1, name.len - 1});
    return number < USERS_MAX ? &backend->users[number] : NULL;
}

static struct text uri_user(struct text uri)
{
    const char *colon = memchr(uri.p, ':', uri.len), *at = memchr(uri.p, '@', uri.len);

    if (!colon || !at)
        return (struct text){uri.p, 0};
    return (struct text){colon + 1, (size_t)(at - colon - 1)};
}

static void bind_user(struct backend *backend, const struct sip *request)
{
    struct binding *user = user_of(backend, uri_user(sip_uri_of(request->to)));
    struct text contact = sip_uri_of(request->contact);
    char block[4096];
    struct out out = {block, 0, sizeof(block) - 1, false};
    size_t route_at;

    if (!user || !request->contact.p) {
        backend->count.unknown++;
        return;
    }
    out_put(&out, contact);
    out_text(&out, "", 1);
    route_at = out.len;
    for (unsigned i = 0; i < request->paths.count; i++) {
        out_str(&out, "Route: ");
        out_put(&out, request->paths.value[i]);
        out_str(&out, "\r\n");
    }
    out_text(&out, "", 1);
    if (user->contact && strcmp(user->contact, block) == 0 &&
        strcmp(user->route, block + route_at) == 0)
        return; /* a refresh */
    free(user->contact);
    user->contact = malloc(out.len);
    if (!user->contact || out.full)
        exit(1);
    memcpy(user->contact, block, out.len);
    user->route = user->contact + route_at;
}

/* ---- the proxy ---- */

static bool address_of(struct text uri, struct sockaddr_in *to)
{
    struct text host;
    char name[64];
    int port;

    if (!sip_host_port(uri, &host, &port) || host.len >= sizeof(name))
        return false;
    memcpy(name, host.p, host.len);
    name[host.len] = '\0';
    *to = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    return inet_pton(AF_INET, name, &to->sin_addr) == 1;
}

static bool is_own(const struct backend *backend, struct text route)
{
    return memmem(route.p, route.len, backend->own, strlen(backend->own)) != NULL;
}

/* Route and Record-Route are printed in front, all other lines go on as they are. */
static void lines_copy(struct out *out, const struct sip *request)
{
    struct text rest = request->headers, line, name, value;

    while (sip_line(&rest, &line, &name, &value)) {
        if (text_is(name, "Route"))
            continue;
        out_put(out, line);
        out_str(out, "\r\n");
    }
}

static void forward(struct backend *backend, const struct sip *request)
{
    struct out out = out_begin(backend);
    struct text uri = request->uri, branch = sip_param(request->vias.value[0], "branch"), next;
    unsigned first = request->routes.count && is_own(backend, request->routes.value[0]);
    const struct binding *user = NULL;
    struct sockaddr_in to;

    if (!sip_param(request->to, "tag").p) {
        user = user_of(backend, uri_user(uri));
        if (!user || !user->contact) {
            not_found(backend, request);
            return;
        }
        uri = (struct text){user->contact, strlen(user->contact)};
    }
    next = uri;
    out_put(&out, request->method);
    out_str(&out, " ");
    out_put(&out, uri);
    out_str(&out, " SIP/2.0\r\nVia: SIP/2.0/UDP ");
    out_str(&out, backend->host);
    out_str(&out, ";branch=z9hG4bK-pbx-"); /* made of theirs: a CANCEL's is its INVITE's */
    if (branch.len > 7)
        out_text(&out, branch.p + 7, branch.len - 7);
    out_str(&out, "\r\n");
    if (user) {
        struct text path = {user->route, strlen(user->route)};
        out_put(&out, path);
        if (path.len)
            next = sip_uri_of(path);
        out_str(&out, "Record-Route: ");
        out_str(&out, backend->own);
        out_str(&out, "\r\n");
    } else {
        for (unsigned i = first; i < request->routes.count; i++) {
            out_str(&out, "Route: ");
            out_put(&out, request->routes.value[i]);
            out_str(&out, "\r\n");
        }
        if (request->routes.count > first)
            next = sip_uri_of(request->routes.value[first]);
    }
    lines_copy(&out, request);
    out_str(&out, "\r\n");
    out_put(&out, request->body);
    if (address_of(next, &to))
        out_end(backend, &out, &to);
    else
        not_found(backend, request);
}

/* To where the Via below ours says: its sent-by is the edge's own address. */
static void pass_response(struct backend *backend, const struct sip *response, const char *bytes)
{
    struct out out = out_begin(backend);
    struct text rest = response->headers, line, name, value, via;
    const char *space;
    struct sockaddr_in to;
    char uri[128];
    bool ours = true;

    if (response->vias.count < 2) {
        backend->count.broken++;
        return;
    }
    via = response->vias.value[1];
    space = memchr(via.p, ' ', via.len);
    if (!space)
        return;
    snprintf(uri, sizeof(uri), "sip:%.*s", (int)(via.p + via.len - space - 1), space + 1);
    out_text(&out, bytes, (size_t)(response->headers.p - bytes));
    while (sip_line(&rest, &line, &name, &value)) {
        if (ours && (text_is(name, "Via") || text_is(name, "v"))) {
            ours = false;
            continue;
        }
        out_put(&out, line);
        out_str(&out, "\r\n");
    }
    out_str(&out, "\r\n");
    out_put(&out, response->body);
    if (address_of((struct text){uri, strlen(uri)}, &to))
        out_end(backend, &out, &to);
    else
        backend->count.broken++;
}

/* ---- what it does with a message ---- */

static struct held **held_slot(struct backend *backend, const struct sip *request)
{
    struct text branch = sip_param(request->vias.value[0], "branch");
    uint64_t hash = 14695981039346656037u; /* FNV-1a */

    for (size_t i = 0; i < branch.len; i++)
        hash = (hash ^ (unsigned char)branch.p[i]) * 1099511628211u;
    return &backend->held[(hash ^ hash >> 32) % HELD_SLOTS];
}

/* The slot's call with that Call-ID, of which each held call has its own. */
static struct held **held_find(struct backend *backend, const struct sip *request)
{
    struct held **at = held_slot(backend, request);

    while (*at && !memmem((*at)->invite, (*at)->len, request->call_id.p, request->call_id.len))
        at = &(*at)->next;
    return at;
}

static void invite(struct backend *backend, const struct sip *request, const char *bytes,
                   size_t len)
{
    struct held **at, *held;

    if (!text_is(uri_user(request->uri), "hold")) {
        forward(backend, request);
        return;
    }
    at = held_find(backend, request);
    if (!*at) {
        held = malloc(sizeof(*held) + len);
        if (!held)
            exit(1);
        *held = (struct held){.next = NULL, .len = len};
        memcpy(held->invite, bytes, len);
        *at = held;
    }
    answer(backend, request, "180 Ringing");
}

static void cancel(struct backend *backend, const struct sip *request)
{
    struct held **at, *held;
    struct sip invite;

    if (!text_is(uri_user(request->uri), "hold")) {
        forward(backend, request);
        return;
    }
    at = held_find(backend, request);
    held = *at;
    if (!held) {
        answer(backend, request, "481 Call/Transaction Does Not Exist");
        return;
    }
    answer(backend, request, "200 OK");
    if (sip_read(&invite, held->invite, held->len, true) > 0)
        answer(backend, &invite, "487 Request Terminated");
    *at = held->next;
    free(held);
}

static void serve(struct backend *backend, const struct sip *request)
{
    struct out out = out_begin(backend);

    sip_serve(&out, request, backend->from.received, backend->from.rport);
    out_end(backend, &out, backend->from.addr);
}

static void message(struct backend *backend, const char *bytes, size_t len)
{
    struct sip sip;

    if (sip_read(&sip, bytes, len, true) < 0) {
        backend->count.broken++;
    } else if (sip.status) {
        backend->count.responses++;
        pass_response(backend, &sip, bytes);
    } else if (text_is(sip.method, "REGISTER")) {
        backend->count.registers++;
        bind_user(backend, &sip);
        serve(backend, &sip);
    } else if (text_is(sip.method, "OPTIONS")) {
        backend->count.options++;
        serve(backend, &sip);
    } else if (text_is(sip.method, "INVITE")) {
        backend->count.invites++;
        invite(backend, &sip, bytes, len);
    } else if (text_is(sip.method, "CANCEL")) {
        backend->count.others++;
        cancel(backend, &sip);
    } else {
        backend->count.others++;
        if (!text_is(sip.method, "ACK") || !text_is(uri_user(sip.uri), "hold"))
            forward(backend, &sip);
    }
}

static void run(struct backend *backend)
{
    static char in_text[BATCH][MESSAGE_MAX];
    static struct mmsghdr in[BATCH];
    static struct iovec in_bytes[BATCH];
    static struct sockaddr_in in_from[BATCH];

    for (unsigned i = 0; i < BATCH; i++) {
        in_bytes[i] = (struct iovec){in_text[i], MESSAGE_MAX};
        in[i].msg_hdr =
            (struct msghdr){.msg_name = &in_from[i], .msg_iov = &in_bytes[i], .msg_iovlen = 1};
    }
    while (!stopped) {
        for (unsigned i = 0; i < BATCH; i++)
            in[i].msg_hdr.msg_namelen = sizeof(in_from[i]);
        int count = recvmmsg(backend->fd, in, BATCH, MSG_WAITFORONE, NULL);
        for (int i = 0; i < count; i++) {
            backend->from.addr = &in_from[i];
            inet_ntop(AF_INET, &in_from[i].sin_addr, backend->from.received,
                      sizeof(backend->from.received));
            snprintf(backend->from.rport, sizeof(backend->from.rport), "%u",
                     ntohs(in_from[i].sin_port));
            message(backend, in_text[i], in[i].msg_len);
        }
        flush(backend);
    }
}

static int bind_to(const char *address, const char *port)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)strtoul(port, NULL, 10))};
    const struct timeval look_up = {.tv_usec = 200000}; /* for `stopped` */
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), size = RECEIVE_BUFFER;

    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &look_up, sizeof(look_up));
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)))
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    if (inet_pton(AF_INET, address, &at.sin_addr) != 1 ||
        bind(fd, (struct sockaddr *)&at, sizeof(at))) {
        perror("backend: bind");
        exit(1);
    }
    return fd;
}

int main(int argc, char **argv)
{
    static struct backend backend; /* large */

    if (argc != 3) {
        fprintf(stderr, "usage: backend ADDRESS PORT\n");
        return 2;
    }
    backend.fd = bind_to(argv[1], argv[2]);
    backend.users = calloc(USERS_MAX, sizeof(*backend.users));
    backend.held = calloc(HELD_SLOTS, sizeof(struct held *));
    if (!backend.users || !backend.held)
        return 1;
    snprintf(backend.host, sizeof(backend.host), "%s:%s", argv[1], argv[2]);
    snprintf(backend.own, sizeof(backend.own), "<sip:%s;lr>", backend.host);
    (void)signal(SIGTERM, stop);
    (void)signal(SIGINT, stop);
    run(&backend);
    printf("{\"registers\":%lu,\"options\":%lu,\"invites\":%lu,\"others\":%lu,\"responses\":%lu,"
           "\"unknown\":%lu,\"broken\":%lu,\"unsent\":%lu}\n",
           backend.count.registers, backend.count.options, backend.count.invites,
           backend.count.others, backend.count.responses, backend.count.unknown,
           backend.count.broken, backend.count.unsent);
    return 0;
}

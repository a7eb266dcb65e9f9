/* libmicrohttpd has the connections and HTTP; it is driven by our loop through its epoll
 * descriptor. Listening, and who has had time enough, is done here: it has no limit on the time of
 * a request that comes byte by byte. */
#include "admin/admin.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <microhttpd.h>
#include <openssl/crypto.h>

enum {
    REQUEST_BYTES_MAX = 8192, /* of memory for one connection: its headers, and the answer's */
    TIME_MS = 10000,
    TIME_CROWDED_MS = 1000,
    CLOCK_MS = 500,
    ACCEPT_BATCH = 16,
    BACKLOG = 128,
};

struct listener {
    uv_poll_t poll; /* first: closed() frees it */
    struct admin *admin;
    int fd;
};

struct connection {
    bool open;
    bool asked; /* its request is complete */
    int fd;
    uint64_t since; /* it was accepted, asked, or was answered */
};

struct admin {
    struct admin_options options;
    char *token;
    struct MHD_Daemon *daemon;
    struct listener *listener; /* NULL: nowhere */
    uv_poll_t events;          /* of the daemon */
    uv_timer_t timer;          /* what is due in the daemon */
    uv_timer_t clock;          /* while there are connections */
    unsigned handles;          /* that are not closed */
    bool closing;
    unsigned connection_count;
    struct connection connections[ADMIN_CONNECTIONS_MAX];
};

struct admin_request {
    unsigned references; /* the connection's, and the page's */
    struct admin *admin;
    struct MHD_Connection *connection; /* NULL: gone */
    const struct admin_page *page;
    char *path;
    bool suspended, answered;
    unsigned status;
    struct MHD_Response *response; /* NULL: none, or no memory for it */
};

static void due(uv_timer_t *timer);

static void request_unref(struct admin_request *request)
{
    if (--request->references)
        return;
    if (request->response)
        MHD_destroy_response(request->response);
    free(request->path);
    free(request);
}

/* ---- answers ---- */

static const struct {
    const char *name, *value;
} headers[] = {
    {"Cache-Control",          "no-store"},
    {"X-Content-Type-Options", "nosniff" },
};

static struct MHD_Response *response_make(const char *type, char *body, size_t len)
{
    struct MHD_Response *response =
        body ? MHD_create_response_from_buffer(len, body, MHD_RESPMEM_MUST_FREE) : NULL;
    bool complete;

    if (!response) {
        free(body);
        return NULL;
    }
    complete = MHD_add_response_header(response, "Content-Type", type) == MHD_YES;
    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++)
        complete &= MHD_add_response_header(response, headers[i].name, headers[i].value) == MHD_YES;
    if (complete)
        return response;
    MHD_destroy_response(response);
    return NULL;
}

static void answer(struct admin_request *request, int status, const char *type, char *body,
                   size_t len)
{
    request->answered = true;
    request->status = (unsigned)status;
    request->response = response_make(type, body, len);
    if (request->response && status == MHD_HTTP_UNAUTHORIZED)
        (void)MHD_add_response_header(request->response, "WWW-Authenticate",
                                      "Bearer realm=\"sipward\"");
    if (request->response && status == MHD_HTTP_METHOD_NOT_ALLOWED)
        (void)MHD_add_response_header(request->response, "Allow", "GET, HEAD");
}

static void answer_text(struct admin_request *request, int status, const char *text)
{
    char *body;
    int len = asprintf(&body, "%s\n", text);

    answer(request, status, "text/plain; charset=utf-8", len < 0 ? NULL : body, (size_t)len);
}

static void answered(struct admin_request *request)
{
    if (request->suspended) {
        MHD_resume_connection(request->connection);
        uv_timer_start(&request->admin->timer, due, 0, 0);
    }
    request->suspended = false;
    request_unref(request);
}

void admin_answer(struct admin_request *request, int status, const char *type, char *body,
                  size_t len)
{
    answer(request, status, type, body, len);
    answered(request);
}

void admin_answer_text(struct admin_request *request, int status, const char *text)
{
    answer_text(request, status, text);
    answered(request);
}

const struct admin_page *admin_request_page(const struct admin_request *request)
{
    return request->page;
}

const char *admin_request_rest(const struct admin_request *request)
{
    return request->path + strlen(request->page->path);
}

const char *admin_request_argument(const struct admin_request *request, const char *name)
{
    return MHD_lookup_connection_value(request->connection, MHD_GET_ARGUMENT_KIND, name);
}

/* ---- requests ---- */

static const struct admin_page *page_find(const struct admin *admin, const char *path)
{
    for (size_t i = 0; i < admin->options.page_count; i++) {
        const struct admin_page *page = &admin->options.pages[i];
        size_t len = strlen(page->path);
        bool below = len > 1 && page->path[len - 1] == '/';

        if (below ? !strncmp(path, page->path, len) && path[len] : !strcmp(path, page->path))
            return page;
    }
    return NULL;
}

static bool token_is_right(const struct admin_request *request)
{
    static const char scheme[] = "Bearer ";
    const char *token = request->admin->token;
    const char *given =
        MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, "Authorization");

    if (!token)
        return true;
    if (!given || strncasecmp(given, scheme, strlen(scheme)) != 0)
        return false;
    given += strlen(scheme);
    return strlen(given) == strlen(token) && !CRYPTO_memcmp(given, token, strlen(token));
}

/* What there is, as a page of its own. */
static void list_answer(struct admin_request *request)
{
    const struct admin_options *options = &request->admin->options;
    char *body = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&body, &len);

    if (!out) {
        answer(request, MHD_HTTP_INTERNAL_SERVER_ERROR, "", NULL, 0);
        return;
    }
    fprintf(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<title>sipward</title>\n"
                 "<h1>sipward</h1>\n<ul>\n");
    for (size_t i = 0; i < options->page_count; i++)
        if (options->pages[i].what)
            fprintf(out, "<li><a href=\"%s\">%s</a>: %s</li>\n", options->pages[i].path,
                    options->pages[i].path, options->pages[i].what);
    fprintf(out, "</ul>\n</html>\n");
    fclose(out);
    answer(request, MHD_HTTP_OK, "text/html; charset=utf-8", body, len);
}

/* Before anything of a body is read. */
static void request_check(struct admin_request *request, const char *method)
{
    struct MHD_Connection *connection = request->connection;
    const char *length = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Content-Length");

    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
        answer_text(request, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD are known here");
    else if ((length && strcmp(length, "0") != 0) ||
             MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Transfer-Encoding"))
        answer_text(request, MHD_HTTP_CONTENT_TOO_LARGE, "no request has a body here");
}

static void request_serve(struct admin_request *request)
{
    struct admin *admin = request->admin;
    bool list = !strcmp(request->path, "/");

    request->page = list ? NULL : page_find(admin, request->path);
    if (admin->closing) {
        answer_text(request, MHD_HTTP_SERVICE_UNAVAILABLE, "stopping");
    } else if (!(request->page && request->page->open) && !token_is_right(request)) {
        answer_text(request, MHD_HTTP_UNAUTHORIZED,
                    "a token is wanted: Authorization: Bearer TOKEN, as admin.token of the "
                    "configuration has it");
    } else if (list) {
        list_answer(request);
    } else if (!request->page) {
        answer_text(request, MHD_HTTP_NOT_FOUND, "there is no such page; / lists those there are");
    } else {
        request->references++;
        request->page->get(admin->options.context, request);
    }
}

static struct admin_request *request_create(struct admin *admin, struct MHD_Connection *connection,
                                            const char *path)
{
    struct admin_request *request = calloc(1, sizeof(*request));

    if (!request)
        return NULL;
    request->references = 1;
    request->admin = admin;
    request->connection = connection;
    request->path = strdup(path);
    if (request->path)
        return request;
    request_unref(request);
    return NULL;
}

static struct connection *connection_of(struct MHD_Connection *connection)
{
    return MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
}

/* Called with the headers, with each piece of a body, at the end, and again after a rest. */
static enum MHD_Result handle(void *context, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *upload,
                              size_t *upload_len, void **of)
{
    struct admin_request *request = *of;
    struct admin *admin = context;

    (void)version;
    (void)upload;
    if (!request) {
        *of = request = request_create(admin, connection, url);
        if (!request)
            return MHD_NO;
        request_check(request, method);
        if (!request->answered)
            return MHD_YES;
    }
    *upload_len = 0;
    if (!request->answered) {
        struct connection *place = connection_of(connection);

        place->asked = true;
        place->since = uv_now(admin->options.loop);
        request_serve(request);
    }
    if (!request->answered) {
        request->suspended = true;
        MHD_suspend_connection(connection);
        return MHD_YES;
    }
    if (!request->response)
        return MHD_NO;
    return MHD_queue_response(connection, request->status, request->response);
}

static void completed(void *context, struct MHD_Connection *connection, void **of,
                      enum MHD_RequestTerminationCode how)
{
    struct connection *place = connection_of(connection);
    struct admin_request *request = *of;
    struct admin *admin = context;

    (void)how;
    place->asked = false;
    place->since = uv_now(admin->options.loop);
    if (!request)
        return;
    request->connection = NULL;
    request_unref(request);
    *of = NULL;
}

/* ---- connections ---- */

static void drive(struct admin *admin);
static void acceptable(uv_poll_t *poll, int status, int events);

static void listener_watch(struct admin *admin)
{
    if (!admin->listener)
        return;
    if (admin->connection_count < ADMIN_CONNECTIONS_MAX)
        uv_poll_start(&admin->listener->poll, UV_READABLE, acceptable);
    else
        uv_poll_stop(&admin->listener->poll); /* the system lets them wait */
}

static void clock_ticks(uv_timer_t *clock)
{
    struct admin *admin = clock->data;
    bool crowded = admin->connection_count == ADMIN_CONNECTIONS_MAX;
    uint64_t now = uv_now(clock->loop);

    for (size_t i = 0; i < ADMIN_CONNECTIONS_MAX; i++) {
        struct connection *place = &admin->connections[i];

        if (place->open &&
            now - place->since >= (crowded && !place->asked ? TIME_CROWDED_MS : TIME_MS))
            shutdown(place->fd, SHUT_RDWR);
    }
    listener_watch(admin);
    drive(admin);
}

/* The daemon takes no more connections than there are places. */
static void connection_changed(void *context, struct MHD_Connection *connection, void **of,
                               enum MHD_ConnectionNotificationCode what)
{
    struct admin *admin = context;
    struct connection *place = admin->connections;

    if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
        ((struct connection *)*of)->open = false;
        if (!--admin->connection_count)
            uv_timer_stop(&admin->clock);
        listener_watch(admin);
        return;
    }
    while (place->open)
        place++;
    *place = (struct connection){
        .open = true,
        .fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd,
        .since = uv_now(admin->options.loop),
    };
    *of = place;
    if (!admin->connection_count++)
        uv_timer_start(&admin->clock, clock_ticks, CLOCK_MS, CLOCK_MS);
}

static void acceptable(uv_poll_t *poll, int status, int events)
{
    struct listener *listener = (struct listener *)poll;
    struct admin *admin = listener->admin;

    (void)status;
    (void)events;
    for (unsigned i = 0; i < ACCEPT_BATCH && admin->connection_count < ADMIN_CONNECTIONS_MAX; i++) {
        union conf_sockaddr peer;
        socklen_t len = sizeof(peer);
        int fd = accept4(listener->fd, &peer.sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)) {
            uv_poll_stop(poll); /* until the clock ticks */
            uv_timer_start(&admin->clock, clock_ticks, CLOCK_MS, CLOCK_MS);
            return;
        }
        if (fd < 0)
            break;
        (void)MHD_add_connection(admin->daemon, fd, &peer.sa, len); /* it closes what it refuses */
    }
    listener_watch(admin);
    drive(admin);
}

/* ---- the daemon ---- */

static void due(uv_timer_t *timer)
{
    drive(timer->data);
}

static void happened(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    drive(poll->data);
}

static void drive(struct admin *admin)
{
    MHD_UNSIGNED_LONG_LONG ms;

    MHD_run(admin->daemon);
    if (MHD_get_timeout(admin->daemon, &ms) == MHD_YES)
        uv_timer_start(&admin->timer, due, ms, 0);
    else
        uv_timer_stop(&admin->timer);
}

static int daemon_open(struct admin *admin)
{
    const union MHD_DaemonInfo *info;

    admin->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET, 0, NULL, NULL, handle,
        admin, MHD_OPTION_CONNECTION_LIMIT, (unsigned)ADMIN_CONNECTIONS_MAX,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)REQUEST_BYTES_MAX, MHD_OPTION_NOTIFY_COMPLETED,
        completed, admin, MHD_OPTION_NOTIFY_CONNECTION, connection_changed, admin, MHD_OPTION_END);
    if (!admin->daemon)
        return -ENOMEM;
    info = MHD_get_daemon_info(admin->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    return info ? uv_poll_init(admin->options.loop, &admin->events, info->epoll_fd) : -EIO;
}

/* ---- where it listens ---- */

static void listener_closed(uv_handle_t *poll)
{
    free(poll);
}

static void listener_close(struct listener **listener)
{
    if (!*listener)
        return;
    uv_close((uv_handle_t *)&(*listener)->poll, listener_closed);
    close((*listener)->fd);
    *listener = NULL;
}

static int socket_listen(const union conf_sockaddr *address, int *out)
{
    bool six = address->sa.sa_family == AF_INET6;
    int fd = socket(address->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const int on = 1;
    int err;

    if (fd < 0)
        return -errno;
    err = setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (!err)
        err = bind(fd, &address->sa, six ? sizeof(address->in6) : sizeof(address->in));
    if (!err)
        err = listen(fd, BACKLOG);
    if (err) {
        err = -errno;
        close(fd);
        return err;
    }
    *out = fd;
    return 0;
}

static int listener_open(struct admin *admin, const union conf_sockaddr *address,
                         struct listener **out)
{
    struct listener *listener = calloc(1, sizeof(*listener));
    int err = listener ? socket_listen(address, &listener->fd) : -ENOMEM;

    if (!err) {
        err = uv_poll_init(admin->options.loop, &listener->poll, listener->fd);
        if (err)
            close(listener->fd);
    }
    if (err) {
        free(listener);
        return err;
    }
    listener->admin = admin;
    *out = listener;
    return 0;
}

static bool sockaddr_of(const struct listener *listener, union conf_sockaddr *address)
{
    socklen_t len = sizeof(*address);

    return listener && !getsockname(listener->fd, &address->sa, &len);
}

static bool port_is_same(const union conf_sockaddr *one, const union conf_sockaddr *two)
{
    return one->in.sin_port && one->in.sin_port == two->in.sin_port; /* as in6 has it */
}

int admin_listen(struct admin *admin, const union conf_sockaddr *address)
{
    struct listener *listener = NULL;
    union conf_sockaddr before = {{0}};
    int err = 0;

    if (address->sa.sa_family)
        err = listener_open(admin, address, &listener);
    if (err == -EADDRINUSE && sockaddr_of(admin->listener, &before) &&
        port_is_same(address, &before)) { /* by ourselves: 127.0.0.1 and 0.0.0.0 */
        listener_close(&admin->listener);
        err = listener_open(admin, address, &listener);
        if (err)
            (void)listener_open(admin, &before, &admin->listener);
    }
    if (!err) {
        listener_close(&admin->listener);
        admin->listener = listener;
    }
    listener_watch(admin);
    return err;
}

bool admin_address(const struct admin *admin, char text[ADMIN_ADDRESS_TEXT])
{
    union conf_sockaddr address = {{0}};
    char host[INET6_ADDRSTRLEN];

    if (!sockaddr_of(admin->listener, &address))
        return false;
    if (address.sa.sa_family == AF_INET)
        (void)inet_ntop(AF_INET, &address.in.sin_addr, host, sizeof(host));
    else
        (void)inet_ntop(AF_INET6, &address.in6.sin6_addr, host, sizeof(host));
    (void)snprintf(text, ADMIN_ADDRESS_TEXT, address.sa.sa_family == AF_INET ? "%s:%u" : "[%s]:%u",
                   host, ntohs(address.in.sin_port));
    return true;
}

/* ---- open and close ---- */

int admin_token_set(struct admin *admin, const char *token)
{
    char *copy = token ? strdup(token) : NULL;

    if (token && !copy)
        return -ENOMEM;
    free(admin->token);
    admin->token = copy;
    return 0;
}

static void closed(uv_handle_t *handle)
{
    struct admin *admin = handle->data;

    if (--admin->handles)
        return;
    free(admin->token);
    free(admin);
}

int admin_open(const struct admin_options *options, struct admin **out)
{
    struct admin *admin = calloc(1, sizeof(*admin));
    int err;

    if (!admin)
        return -ENOMEM;
    admin->options = *options;
    err = daemon_open(admin);
    if (err) {
        if (admin->daemon)
            MHD_stop_daemon(admin->daemon);
        free(admin);
        return err;
    }
    uv_timer_init(options->loop, &admin->timer);
    uv_timer_init(options->loop, &admin->clock);
    admin->events.data = admin->timer.data = admin->clock.data = admin;
    admin->handles = 3;
    uv_poll_start(&admin->events, UV_READABLE, happened);
    *out = admin;
    return 0;
}

void admin_close(struct admin **admin)
{
    struct admin *closing = *admin;

    if (!closing)
        return;
    *admin = NULL;
    closing->closing = true;
    listener_close(&closing->listener);
    MHD_run(closing->daemon); /* the last answers */
    uv_close((uv_handle_t *)&closing->events, closed);
    MHD_stop_daemon(closing->daemon);
    uv_close((uv_handle_t *)&closing->timer, closed);
    uv_close((uv_handle_t *)&closing->clock, closed);
}

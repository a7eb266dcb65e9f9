/* The opening handshake: which upgrade requests are accepted, and what the others are told (F5;
 * RFC 6455 4.2, RFC 7118 4.1). No body is read, and no second request. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>

#include <openssl/evp.h>

#include "proxy/log.h"
#include "ws/internal.h"
#include "ws/request.h"

enum {
    KEY_SIZE = 24,    /* 16 bytes, base64 */
    ACCEPT_SIZE = 28, /* of a SHA-1, base64 */
    ANSWER_SIZE = 512,
};

static const char about[] = "This is a SIP over WebSocket server (RFC 7118).";

/* Always nonzero. */
static int refuse(struct ws_conn *conn, const char *status, const char *fields, const char *text)
{
    char answer[ANSWER_SIZE], name[FLOW_NAME_SIZE], peer[SOCKET_TEXT];
    int len = snprintf(answer, sizeof(answer),
                       "HTTP/1.1 %s\r\n"
                       "%s"
                       "Content-Type: text/plain; charset=utf-8\r\n"
                       "Content-Length: %zu\r\n"
                       "Connection: close\r\n"
                       "\r\n"
                       "%s\n",
                       status, fields, strlen(text) + 1, text);

    (void)stream_send(conn->stream, (struct str){answer, (size_t)len});
    stream_name(conn->stream, name);
    stream_peer(conn->stream, peer);
    log_event(LOG_INFO, "upgrade refused", LOG_TEXT("flow", str_of(name)),
              LOG_TEXT("peer", str_of(peer)), LOG_TEXT("status", str_of(status)),
              LOG_TEXT("reason", str_of(text)));
    stream_close(conn->stream, CAUSE_UPGRADE_REFUSED, text);
    return -EPROTO;
}

void handshake_refuse(struct ws_conn *conn, const char *status, const char *text)
{
    (void)refuse(conn, status, "", text);
}

/* The next of a comma-separated list, without blanks. */
static bool list_next(struct str *list, struct str *element)
{
    const char *comma;

    if (!list->len)
        return false;
    comma = memchr(list->p, ',', list->len);
    *element = (struct str){list->p, comma ? (size_t)(comma - list->p) : list->len};
    *list = comma ? (struct str){comma + 1, list->len - element->len - 1} : (struct str){NULL, 0};
    *element = str_trim(*element);
    return true;
}

/* Is it in the list that all lines of that header are together (RFC 9110 5.2)? */
static bool listed(const struct request *request, enum field field, struct str what, bool any_case)
{
    struct str list, element;

    for (unsigned n = 0; (list = request_field(request, field, n)).p; n++)
        while (list_next(&list, &element))
            if (any_case ? str_eq_nocase(element, what) : str_eq(element, what))
                return true;
    return false;
}

static bool path_ours(const struct conf *conf, const struct request *request)
{
    struct str path = request_target(request);
    const char *query = memchr(path.p, '?', path.len);

    if (query)
        path.len = (size_t)(query - path.p);
    return strcmp(conf->websocket.path, "/") == 0 || str_eq(path, str_of(conf->websocket.path));
}

/* Browsers always send Origin; other clients mostly don't, and could send what they like. So the
 * list keeps foreign pages in browsers out, and an absent Origin is no reason to refuse. */
static bool origin_allowed(const struct conf *conf, const struct request *request)
{
    struct str origin = request_field(request, FIELD_ORIGIN, 0);

    if (!conf->websocket.origin_count || !origin.p)
        return true;
    for (unsigned i = 0; i < conf->websocket.origin_count; i++)
        if (str_eq_nocase(origin, str_of(conf->websocket.origins[i])))
            return true;
    return false;
}

/* 16 bytes in base64 (RFC 6455 4.1): 22 characters and "==". */
static bool key_valid(struct str key)
{
    if (key.len != KEY_SIZE || memcmp(key.p + KEY_SIZE - 2, "==", 2) != 0)
        return false;
    for (size_t i = 0; i < KEY_SIZE - 2; i++)
        if (!isalnum((unsigned char)key.p[i]) && key.p[i] != '+' && key.p[i] != '/')
            return false;
    return true;
}

/* Headers that would mean something else if they came twice. */
static bool repeated(const struct request *request)
{
    static const enum field fields[] = {FIELD_HOST, FIELD_ORIGIN, FIELD_VERSION, FIELD_KEY};

    for (size_t i = 0; i < ARRAY_LEN(fields); i++)
        if (request_field(request, fields[i], 1).p)
            return true;
    return false;
}

static bool has_body(const struct request *request)
{
    struct str length = request_field(request, FIELD_CONTENT_LENGTH, 0);

    return request_field(request, FIELD_TRANSFER_ENCODING, 0).p ||
           (length.p && !str_eq(length, STR("0")));
}

/* 0, or it is answered. */
static int check(struct ws_conn *conn, const struct request *request)
{
    const struct conf *conf = stream_conf(conn->stream);
    bool upgrades = listed(request, FIELD_CONNECTION, STR("upgrade"), true);

    if (request->parser.method != HTTP_GET)
        return refuse(conn, "405 Method Not Allowed", "Allow: GET\r\n", about);
    if (!request_field(request, FIELD_UPGRADE, 0).p)
        return refuse(conn, "426 Upgrade Required",
                      "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n", about);
    if (!listed(request, FIELD_UPGRADE, STR("websocket"), true))
        return refuse(conn, "400 Bad Request", "", "Only an upgrade to websocket is served.");
    if (repeated(request))
        return refuse(conn, "400 Bad Request", "", "A header that may stand once stands twice.");
    if (!path_ours(conf, request))
        return refuse(conn, "404 Not Found", "", "There is nothing at this path.");
    if (!origin_allowed(conf, request))
        return refuse(conn, "403 Forbidden", "", "This Origin is not allowed here.");
    if (!str_eq(request_field(request, FIELD_VERSION, 0), STR("13")))
        return refuse(conn, "426 Upgrade Required",
                      "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
                      "Sec-WebSocket-Version must be 13 (RFC 6455).");
    if (request->parser.http_major != 1 || request->parser.http_minor != 1)
        return refuse(conn, "400 Bad Request", "", "HTTP must be 1.1 (RFC 6455 4.1).");
    if (!upgrades || !request_field(request, FIELD_HOST, 0).len)
        return refuse(conn, "400 Bad Request", "", "Connection or Host is missing or wrong.");
    if (has_body(request))
        return refuse(conn, "400 Bad Request", "", "An upgrade request has no body.");
    if (!key_valid(request_field(request, FIELD_KEY, 0)))
        return refuse(conn, "400 Bad Request", "", "Sec-WebSocket-Key is missing or wrong.");
    if (!listed(request, FIELD_PROTOCOL, STR("sip"), false))
        return refuse(conn, "400 Bad Request", "",
                      "The sub-protocol sip must be offered (RFC 7118 4.1).");
    return 0;
}

/* RFC 6455 4.2.2: what shows that the key was read, and by whom. */
static bool accept_make(struct str key, char accept[ACCEPT_SIZE + 1])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    char text[KEY_SIZE + sizeof(guid)];
    unsigned char hash[EVP_MAX_MD_SIZE];
    unsigned len;

    memcpy(text, key.p, KEY_SIZE);
    memcpy(text + KEY_SIZE, guid, sizeof(guid));
    if (!EVP_Digest(text, sizeof(text) - 1, hash, &len, EVP_sha1(), NULL))
        return false;
    return EVP_EncodeBlock((unsigned char *)accept, hash, (int)len) == ACCEPT_SIZE;
}

int handshake_answer(struct ws_conn *conn, const struct request *request)
{
    char answer[ANSWER_SIZE], accept[ACCEPT_SIZE + 1];
    int len, err = check(conn, request);

    if (err)
        return err;
    if (!accept_make(request_field(request, FIELD_KEY, 0), accept))
        return refuse(conn, "500 Internal Server Error", "", "There is no SHA-1 here.");
    len = snprintf(answer, sizeof(answer),
                   "HTTP/1.1 101 Switching Protocols\r\n"
                   "Upgrade: websocket\r\n"
                   "Connection: Upgrade\r\n"
                   "Sec-WebSocket-Accept: %s\r\n"
                   "Sec-WebSocket-Protocol: sip\r\n"
                   "\r\n",
                   accept);
    return stream_send(conn->stream, (struct str){answer, (size_t)len});
}

const char *handshake_host(const struct conf *conf, const struct request *request)
{
    struct str host = request_field(request, FIELD_HOST, 0);
    const char *end;

    if (!host.len)
        return NULL;
    if (host.p[0] == '[') { /* [2001:db8::1]:8080 */
        end = memchr(host.p, ']', host.len);
        host = (struct str){host.p + 1, end ? (size_t)(end - host.p - 1) : 0};
    } else {
        end = memchr(host.p, ':', host.len);
        host.len = end ? (size_t)(end - host.p) : host.len;
    }

    if (str_eq_nocase(host, str_of(conf->domain)))
        return conf->domain;
    for (unsigned i = 0; i < conf->alias_count; i++)
        if (str_eq_nocase(host, str_of(conf->aliases[i])))
            return conf->aliases[i];
    return NULL;
}

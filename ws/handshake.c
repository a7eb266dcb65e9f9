/* The opening handshake: which upgrade requests are accepted (F5; RFC 6455 4.2, RFC 7118 4.1).
 *
 * libwebsockets 4.1 would accept some that it should not (any version, no sub-protocol, HTTP/2) and
 * hang up on others without a word, so everything is looked at here first, and answered here. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "proxy/log.h"
#include "ws/internal.h"

enum {
    FIELD_SIZE = 256,    /* of the fields looked at; longer ones are not understood */
    PROTOCOLS_SIZE = 64, /* libwebsockets': the longest sub-protocol it reads */
    PROTOCOL_LIST_SIZE = 127,
    KEY_SIZE = 24, /* 16 bytes, base64 */
    ANSWER_SIZE = 512,
};

static const char about[] = "This is a SIP over WebSocket server (RFC 7118).";

/* A header field of the request; an absent one is empty, one that is too long has p NULL. */
static struct str field(struct lws *wsi, enum lws_token_indexes token, char text[FIELD_SIZE])
{
    int len = lws_hdr_copy(wsi, text, FIELD_SIZE, token);

    return len < 0 ? (struct str){NULL, 0} : str_trim(str_of(text));
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

/* Answer and hang up: no body is read, no second request. Always nonzero. */
static int refuse(struct ws_conn *conn, struct lws *wsi, const char *status, const char *fields,
                  const char *text)
{
    unsigned char answer[LWS_PRE + ANSWER_SIZE];
    char peer[SOCKET_TEXT];
    int len;

    len = snprintf((char *)answer + LWS_PRE, ANSWER_SIZE,
                   "HTTP/1.1 %s\r\n"
                   "%s"
                   "Content-Type: text/plain; charset=utf-8\r\n"
                   "Content-Length: %zu\r\n"
                   "Connection: close\r\n"
                   "\r\n"
                   "%s\n",
                   status, fields, strlen(text) + 1, text);
    if (len > 0 && len < ANSWER_SIZE)
        lws_write(wsi, answer + LWS_PRE, (size_t)len, LWS_WRITE_HTTP_HEADERS);

    conn_text(conn, peer);
    log_event(LOG_INFO, "upgrade refused", LOG_TEXT("peer", str_of(peer)),
              LOG_TEXT("status", str_of(status)), LOG_TEXT("reason", str_of(text)));
    return -1;
}

static bool path_ours(const struct conf *conf, struct lws *wsi)
{
    char text[FIELD_SIZE];
    const char *path = conf->websocket.path;

    return strcmp(path, "/") == 0 || str_eq(field(wsi, WSI_TOKEN_GET_URI, text), str_of(path));
}

/* Browsers always send Origin; other clients mostly don't, and could send what they like. So the
 * list keeps foreign pages in browsers out, and an absent Origin is no reason to refuse. */
static bool origin_allowed(const struct conf *conf, struct lws *wsi)
{
    char text[FIELD_SIZE];
    struct str origin = field(wsi, WSI_TOKEN_ORIGIN, text);

    if (!conf->websocket.origin_count || !lws_hdr_total_length(wsi, WSI_TOKEN_ORIGIN))
        return true;
    for (unsigned i = 0; i < conf->websocket.origin_count; i++)
        if (str_eq_nocase(origin, str_of(conf->websocket.origins[i])))
            return true;
    return false;
}

/* `sip` must be among them. Lists that libwebsockets, which reads them again, would choke on are
 * refused here, with an answer. */
static bool protocol_offered(struct lws *wsi)
{
    char text[FIELD_SIZE];
    struct str list = field(wsi, WSI_TOKEN_PROTOCOL, text), element;
    bool offered = false;

    if (list.len >= PROTOCOL_LIST_SIZE)
        return false;
    while (!offered && list_next(&list, &element)) {
        if (element.len >= PROTOCOLS_SIZE)
            return false;
        offered = str_eq(element, STR("sip"));
    }
    return offered;
}

static bool connection_upgrades(struct lws *wsi)
{
    char text[FIELD_SIZE];
    struct str list = field(wsi, WSI_TOKEN_CONNECTION, text), element;

    while (list_next(&list, &element))
        if (str_eq_nocase(element, STR("upgrade")))
            return true;
    return false;
}

/* 16 bytes in base64 (RFC 6455 4.1): 22 characters and "==". */
static bool key_valid(struct lws *wsi)
{
    char text[FIELD_SIZE];
    struct str key = field(wsi, WSI_TOKEN_KEY, text);

    if (key.len != KEY_SIZE || memcmp(key.p + KEY_SIZE - 2, "==", 2) != 0)
        return false;
    for (size_t i = 0; i < KEY_SIZE - 2; i++)
        if (!isalnum((unsigned char)key.p[i]) && key.p[i] != '+' && key.p[i] != '/')
            return false;
    return true;
}

static bool field_is(struct lws *wsi, enum lws_token_indexes token, struct str value)
{
    char text[FIELD_SIZE];

    return str_eq(field(wsi, token, text), value);
}

int handshake_check(struct ws_conn *conn, struct lws *wsi, const char *upgrade)
{
    const struct conf *conf = conn->ws->options.conf;

    if (!lws_hdr_total_length(wsi, WSI_TOKEN_GET_URI) ||
        !str_eq_nocase(str_of(upgrade), STR("websocket")))
        return refuse(conn, wsi, "400 Bad Request", "", "Only an upgrade to websocket is served.");
    if (conn->ws->closing)
        return refuse(conn, wsi, "503 Service Unavailable", "", "The server is stopping.");
    if (!path_ours(conf, wsi))
        return refuse(conn, wsi, "404 Not Found", "", "There is nothing at this path.");
    if (!origin_allowed(conf, wsi))
        return refuse(conn, wsi, "403 Forbidden", "", "This Origin is not allowed here.");
    if (!field_is(wsi, WSI_TOKEN_VERSION, STR("13")))
        return refuse(conn, wsi, "426 Upgrade Required",
                      "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
                      "Sec-WebSocket-Version must be 13 (RFC 6455).");
    if (field_is(wsi, WSI_TOKEN_HTTP, STR("HTTP/1.0")))
        return refuse(conn, wsi, "400 Bad Request", "", "HTTP must be 1.1 (RFC 6455 4.1).");
    if (!connection_upgrades(wsi) || !lws_hdr_total_length(wsi, WSI_TOKEN_HOST))
        return refuse(conn, wsi, "400 Bad Request", "", "Connection or Host is missing or wrong.");
    if (!key_valid(wsi))
        return refuse(conn, wsi, "400 Bad Request", "", "Sec-WebSocket-Key is missing or wrong.");
    if (!protocol_offered(wsi))
        return refuse(conn, wsi, "400 Bad Request", "",
                      "The sub-protocol sip must be offered (RFC 7118 4.1).");
    return 0;
}

int handshake_refuse(struct ws_conn *conn, struct lws *wsi)
{
    if (!lws_hdr_total_length(wsi, WSI_TOKEN_GET_URI))
        return refuse(conn, wsi, "405 Method Not Allowed", "Allow: GET\r\n", about);
    return refuse(conn, wsi, "426 Upgrade Required", "Upgrade: websocket\r\n", about);
}

const char *handshake_host(const struct ws_conn *conn, struct lws *wsi)
{
    const struct conf *conf = conn->ws->options.conf;
    char text[FIELD_SIZE];
    struct str host = field(wsi, WSI_TOKEN_HOST, text);
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

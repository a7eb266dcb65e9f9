#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "conf/internal.h"

enum { PORT_CORE_DEFAULT = 5060, NAME_MAX_BYTES = 253, LABEL_MAX_BYTES = 63 };

/* The C library's are for the locale; SIP is ASCII. */
static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_alpha(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_in(char c, const char *others)
{
    return is_alpha(c) || is_digit(c) || (c && strchr(others, c));
}

/* All of `text`, and at least one byte of it, is letters, digits or of `others`. */
static bool all_in(const char *text, const char *others)
{
    const char *p = text;

    while (is_in(*p, others))
        p++;
    return p > text && !*p;
}

int conf_number(const char *text, uint64_t max, uint64_t *out)
{
    uint64_t n = 0;

    if (!*text || (text[0] == '0' && text[1]))
        return -EINVAL;
    for (const char *p = text; *p; p++) {
        if (!is_digit(*p))
            return -EINVAL;
        uint64_t digit = (uint64_t)(*p - '0');
        if (digit > max || n > (max - digit) / 10)
            return -EINVAL;
        n = n * 10 + digit;
    }
    *out = n;
    return 0;
}

static int port_parse(const char *text, uint16_t *port)
{
    uint64_t n;

    if (conf_number(text, UINT16_MAX, &n) || !n)
        return -EINVAL;
    *port = (uint16_t)n;
    return 0;
}

int conf_address_parse(const char *text, uint16_t port, union conf_sockaddr *out)
{
    union conf_sockaddr address;

    memset(&address, 0, sizeof(address));
    if (inet_pton(AF_INET, text, &address.in.sin_addr) == 1) {
        address.in.sin_family = AF_INET;
        address.in.sin_port = htons(port);
    } else if (inet_pton(AF_INET6, text, &address.in6.sin6_addr) == 1) {
        address.in6.sin6_family = AF_INET6;
        address.in6.sin6_port = htons(port);
    } else {
        return -EINVAL;
    }
    *out = address;
    return 0;
}

bool conf_sockaddr_eq(const union conf_sockaddr *one, const union conf_sockaddr *two)
{
    if (one->sa.sa_family != two->sa.sa_family)
        return false;
    if (one->sa.sa_family == AF_INET)
        return one->in.sin_port == two->in.sin_port &&
               one->in.sin_addr.s_addr == two->in.sin_addr.s_addr;
    return one->in6.sin6_port == two->in6.sin6_port &&
           !memcmp(&one->in6.sin6_addr, &two->in6.sin6_addr, sizeof(one->in6.sin6_addr));
}

int conf_backend_at(const struct conf *conf, const struct conf_backend *backend)
{
    for (unsigned i = 0; i < conf->backend_count; i++)
        if (conf->backends[i].transport == backend->transport &&
            conf->backends[i].port == backend->port &&
            strcasecmp(conf->backends[i].host, backend->host) == 0)
            return (int)i;
    return -1;
}

int conf_listener_at(const struct conf *conf, const struct conf_listener *listener)
{
    for (unsigned i = 0; i < conf->listener_count; i++)
        if (conf->listeners[i].any == listener->any &&
            conf_sockaddr_eq(&conf->listeners[i].address, &listener->address))
            return (int)i;
    return -1;
}

/* HOST, HOST:PORT, [v6] or [v6]:PORT. `port` stays as it is where none is given. */
static int host_port_split(const char *text, char host[CONF_HOST_SIZE], uint16_t *port)
{
    union conf_sockaddr address;
    const char *from = text, *rest;
    size_t len;

    if (*text == '[') {
        from = text + 1;
        len = strcspn(from, "]");
        if (!from[len])
            return -EINVAL;
        rest = from + len + 1;
    } else {
        len = strcspn(from, ":");
        rest = from + len;
    }
    if (!len || len >= CONF_HOST_SIZE)
        return -EINVAL;
    memcpy(host, from, len);
    host[len] = '\0';
    if (*text == '[' && (conf_address_parse(host, 0, &address) || address.sa.sa_family != AF_INET6))
        return -EINVAL;
    if (!*rest)
        return 0;
    return *rest == ':' ? port_parse(rest + 1, port) : -EINVAL;
}

int conf_listener_parse(const char *text, union conf_sockaddr *out, bool *any)
{
    char host[CONF_HOST_SIZE];
    uint16_t port = 0;
    int err;

    if (!port_parse(text, &port)) {
        err = conf_address_parse("::", port, out);
        if (!err)
            *any = true;
        return err;
    }
    if (host_port_split(text, host, &port) || !port)
        return -EINVAL;
    err = conf_address_parse(host, port, out);
    if (!err)
        *any = false;
    return err;
}

/* The address's bytes, and how many. */
static const uint8_t *address_bytes(const struct sockaddr *address, size_t *len)
{
    const struct sockaddr_in *in = (const void *)address;
    const struct sockaddr_in6 *in6 = (const void *)address;

    *len = address->sa_family == AF_INET ? sizeof(in->sin_addr) : sizeof(in6->sin6_addr);
    return address->sa_family == AF_INET ? (const uint8_t *)&in->sin_addr
                                         : (const uint8_t *)&in6->sin6_addr;
}

/* Is this bit (0: the highest) set? */
static bool bit_of(const uint8_t *bytes, size_t i)
{
    return bytes[i / 8] >> (7 - i % 8) & 1;
}

int conf_network_parse(const char *text, struct conf_network *out)
{
    struct conf_network network;
    char host[CONF_HOST_SIZE];
    size_t len = strcspn(text, "/"), size;
    const uint8_t *bytes;
    uint64_t bits;

    if (len >= sizeof(host))
        return -EINVAL;
    memcpy(host, text, len);
    host[len] = '\0';
    if (conf_address_parse(host, 0, &network.address))
        return -EINVAL;
    bytes = address_bytes(&network.address.sa, &size);
    bits = size * 8;
    if (text[len] && conf_number(text + len + 1, size * 8, &bits))
        return -EINVAL;
    for (size_t i = bits; i < size * 8; i++)
        if (bit_of(bytes, i))
            return -EINVAL;
    network.bits = (unsigned)bits;
    *out = network;
    return 0;
}

bool conf_network_has(const struct conf_network *network, const struct sockaddr *address)
{
    size_t len;
    const uint8_t *ours = address_bytes(&network->address.sa, &len);
    const uint8_t *theirs = address_bytes(address, &len);

    if (network->address.sa.sa_family != address->sa_family)
        return false;
    for (size_t i = 0; i < network->bits; i++)
        if (bit_of(ours, i) != bit_of(theirs, i))
            return false;
    return true;
}

bool conf_network_valid(const char *text)
{
    struct conf_network network;

    return !conf_network_parse(text, &network);
}

bool conf_network_same(const char *one, const char *two)
{
    struct conf_network network1, network2;

    return !conf_network_parse(one, &network1) && !conf_network_parse(two, &network2) &&
           network1.bits == network2.bits && conf_sockaddr_eq(&network1.address, &network2.address);
}

/* RFC 1123 2.1, RFC 3261 25.1 hostname. A last label of digits is an address gone wrong. */
static bool name_valid(const char *text)
{
    const char *label = text;

    if (strlen(text) > NAME_MAX_BYTES)
        return false;
    for (;;) {
        size_t len = strcspn(label, ".");
        if (!len || len > LABEL_MAX_BYTES || label[0] == '-' || label[len - 1] == '-')
            return false;
        for (size_t i = 0; i < len; i++)
            if (!is_in(label[i], "-"))
                return false;
        if (!label[len])
            return is_alpha(label[0]);
        label += len + 1;
    }
}

bool conf_host_valid(const char *text)
{
    union conf_sockaddr address;
    char host[CONF_HOST_SIZE];
    uint16_t port = 0;

    if (*text == '[') /* as a URI writes it */
        return !host_port_split(text, host, &port) && text[strlen(text) - 1] == ']';
    return name_valid(text) || !conf_address_parse(text, 0, &address);
}

int conf_transport_split(const char **text, enum conf_transport *transport)
{
    static const char *const names[] = {
        [CONF_TRANSPORT_UDP] = "udp:",
        [CONF_TRANSPORT_TCP] = "tcp:",
        [CONF_TRANSPORT_AUTO] = "auto:",
    };

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (!strncmp(*text, names[i], strlen(names[i]))) {
            *text += strlen(names[i]);
            *transport = (enum conf_transport)i;
            return 0;
        }
    return -EINVAL;
}

int conf_place_parse(const char *text, char host[CONF_HOST_SIZE], uint16_t *port)
{
    union conf_sockaddr address;
    char name[CONF_HOST_SIZE];
    uint16_t number = 0;

    if (host_port_split(text, name, &number))
        return -EINVAL;
    if (!name_valid(name) &&
        (conf_address_parse(name, number, &address) ||
         (address.sa.sa_family == AF_INET && address.in.sin_addr.s_addr == htonl(INADDR_ANY)) ||
         (address.sa.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&address.in6.sin6_addr))))
        return -EINVAL;
    memcpy(host, name, sizeof(name));
    *port = number;
    return 0;
}

bool conf_place_same(const char *one, const char *two)
{
    char host1[CONF_HOST_SIZE], host2[CONF_HOST_SIZE];
    union conf_sockaddr address1, address2;
    uint16_t port1, port2;

    if (conf_place_parse(one, host1, &port1) || conf_place_parse(two, host2, &port2))
        return false;
    if (!conf_address_parse(host1, port1 ? port1 : PORT_CORE_DEFAULT, &address1) &&
        !conf_address_parse(host2, port2 ? port2 : PORT_CORE_DEFAULT, &address2))
        return conf_sockaddr_eq(&address1, &address2);
    return port1 == port2 && !strcasecmp(host1, host2); /* a name without a port may have SRV */
}

/* One of the parts of `core`: ADDRESS or ADDRESS:PORT. `port` 0: none given. */
static int core_part_parse(const char *text, union conf_sockaddr *out, uint16_t *port)
{
    char host[CONF_HOST_SIZE];
    int err;

    *port = 0;
    err = host_port_split(text, host, port);
    if (!err)
        err = conf_address_parse(host, 0, out);
    if (err)
        return err;
    if (out->sa.sa_family == AF_INET)
        return out->in.sin_addr.s_addr == htonl(INADDR_ANY) ? -EINVAL : 0;
    return IN6_IS_ADDR_UNSPECIFIED(&out->in6.sin6_addr) ? -EINVAL : 0;
}

int conf_core_parse(const char *text, union conf_sockaddr *core4, union conf_sockaddr *core6,
                    uint16_t *port)
{
    union conf_sockaddr parts[2], *four, *six;
    uint16_t ports[2] = {0, 0}, number;
    char first[CONF_HOST_SIZE];
    size_t len = strcspn(text, ",");
    const char *second = text[len] ? text + len + 1 + strspn(text + len + 1, " ") : NULL;

    memset(parts, 0, sizeof(parts));
    if (*text == ':') {
        if (port_parse(text + 1, &number))
            return -EINVAL;
        *core4 = *core6 = parts[0];
        *port = number;
        return 0;
    }

    while (len && text[len - 1] == ' ')
        len--;
    if (len >= sizeof(first))
        return -EINVAL;
    memcpy(first, text, len);
    first[len] = '\0';
    if (core_part_parse(first, &parts[0], &ports[0]) ||
        (second && core_part_parse(second, &parts[1], &ports[1])))
        return -EINVAL;
    if (second && parts[0].sa.sa_family == parts[1].sa.sa_family)
        return -EINVAL;
    if (ports[0] && ports[1] && ports[0] != ports[1]) /* the core has one port */
        return -EINVAL;

    number = ports[0] ? ports[0] : ports[1];
    if (!number)
        number = PORT_CORE_DEFAULT;
    four = &parts[parts[0].sa.sa_family == AF_INET ? 0 : 1];
    six = &parts[parts[0].sa.sa_family == AF_INET ? 1 : 0];
    if (four->sa.sa_family)
        four->in.sin_port = htons(number);
    if (six->sa.sa_family)
        six->in6.sin6_port = htons(number);
    *core4 = *four;
    *core6 = *six;
    *port = number;
    return 0;
}

int conf_admin_parse(const char *text, union conf_sockaddr *out)
{
    const char *colon = strrchr(text, ':');
    char place[CONF_HOST_SIZE], host[CONF_HOST_SIZE];
    uint16_t none = 0;
    uint64_t port;

    memset(out, 0, sizeof(*out));
    if (!strcmp(text, "no"))
        return 0;
    if (!colon || (size_t)(colon - text) >= sizeof(place) ||
        conf_number(colon + 1, UINT16_MAX, &port))
        return -EINVAL;
    memcpy(place, text, (size_t)(colon - text));
    place[colon - text] = '\0';
    if (host_port_split(place, host, &none) || none)
        return -EINVAL;
    return conf_address_parse(host, (uint16_t)port, out);
}

char *conf_file_path(const char *conf_path, const char *name)
{
    const char *slash = strrchr(conf_path, '/');
    char *path;
    int len = *name != '/' && slash ? (int)(slash - conf_path) + 1 : 0;

    return asprintf(&path, "%.*s%s", len, conf_path, name) < 0 ? NULL : path;
}

bool conf_text_valid(const char *text)
{
    size_t len = strlen(text);

    if (!len || len > CONF_TEXT_MAX)
        return false;
    for (const char *p = text; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            return false;
    return true;
}

bool conf_listener_valid(const char *text)
{
    union conf_sockaddr address;
    bool any;

    return !conf_listener_parse(text, &address, &any);
}

bool conf_place_valid(const char *text)
{
    char host[CONF_HOST_SIZE];
    uint16_t port;

    return !conf_place_parse(text, host, &port);
}

bool conf_backend_valid(const char *text)
{
    enum conf_transport transport;

    return !conf_transport_split(&text, &transport) && conf_place_valid(text);
}

bool conf_core_valid(const char *text)
{
    union conf_sockaddr core4, core6;
    uint16_t port;

    return !conf_core_parse(text, &core4, &core6, &port);
}

bool conf_admin_valid(const char *text)
{
    union conf_sockaddr address;

    return !conf_admin_parse(text, &address);
}

bool conf_secret_valid(const char *text)
{
    size_t len = strlen(text);

    return len >= 16 && len <= CONF_TEXT_MAX && all_in(text, "-._~+/=");
}

static bool hex_valid(const char *text, size_t digits)
{
    return strlen(text) == digits && strspn(text, "0123456789abcdefABCDEF") == digits;
}

bool conf_token_key_valid(const char *text)
{
    return hex_valid(text, 64);
}

bool conf_md5_valid(const char *text)
{
    return hex_valid(text, 32);
}

bool conf_sha256_valid(const char *text)
{
    return hex_valid(text, 64);
}

bool conf_user_valid(const char *text) /* RFC 3261 25.1 user, without escapes */
{
    return conf_text_valid(text) && all_in(text, "-_.!~*'()&=+$,;?/");
}

bool conf_realm_valid(const char *text) /* goes into a quoted string as it is */
{
    return conf_text_valid(text) && !strpbrk(text, "\"\\");
}

bool conf_url_path_valid(const char *text) /* RFC 3986 3.3, as a request line has it */
{
    return conf_text_valid(text) && text[0] == '/' &&
           (!text[1] || all_in(text + 1, "/-._~%!$&'()*+,;=:@"));
}

bool conf_origin_valid(const char *text) /* RFC 6454 6.2, as browsers write it */
{
    const char *colon = strstr(text, "://");
    char host[CONF_HOST_SIZE];
    uint16_t port = 0;

    if (!conf_text_valid(text) || !colon || !is_alpha(*text))
        return false;
    for (const char *p = text; *p; p++)
        if (*p >= 'A' && *p <= 'Z')
            return false;
    for (const char *p = text; p < colon; p++)
        if (!is_in(*p, "+-."))
            return false;
    if (host_port_split(colon + 3, host, &port) || !conf_host_valid(host))
        return false;
    /* a browser leaves the scheme's own port out, so this would never match */
    return !(port == 443 && !strncmp(text, "https:", 6)) &&
           !(port == 80 && !strncmp(text, "http:", 5));
}

static const char token_others[] = "-.!%*_+`'~"; /* RFC 3261 25.1 */

bool conf_header_name_valid(const char *text)
{
    static const char *const ours[] = {
        "Via",
        "v",
        "Call-ID",
        "i",
        "CSeq",
        "From",
        "f",
        "To",
        "t",
        "Max-Forwards",
        "Content-Length",
        "l",
        "Route",
        "Record-Route",
    };

    for (size_t i = 0; i < ARRAY_LEN(ours); i++)
        if (!strcasecmp(text, ours[i]))
            return false;
    return conf_text_valid(text) && all_in(text, token_others);
}

bool conf_header_match_valid(const char *text)
{
    char name[CONF_HOST_SIZE];
    size_t len = strcspn(text, ";");

    if (len >= sizeof(name))
        return false;
    memcpy(name, text, len);
    name[len] = '\0';
    return conf_header_name_valid(name) && (!text[len] || all_in(text + len + 1, token_others));
}

bool conf_header_value_valid(const char *text)
{
    return conf_text_valid(text) && text[0] != ' ' && text[strlen(text) - 1] != ' ';
}

const char *conf_listener_kind_name(enum conf_listener_kind kind)
{
    static const char *const names[] = {
        [CONF_TLS] = "tls", [CONF_WSS] = "wss",         [CONF_TCP] = "tcp",
        [CONF_WS] = "ws",   [CONF_TLS_WSS] = "tls+wss", [CONF_TCP_WS] = "tcp+ws",
    };

    return names[kind];
}

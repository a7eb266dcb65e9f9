/* From bytes to an index of them: sip_scan(), and the edits of a scanned message. */
#include "proxy/message.h"

#include <assert.h>
#include <errno.h>

#include "proxy/text.h"
#include "proxy/value.h"

/* Where the scan stands. What is wrong first is what it is refused for; it reads on, so that the
 * rest can be used to answer. */
struct scan {
    char *at, *end;
    struct sip_msg *msg;
    bool peer_2543;
    bool via_read, cseq_read;
    uint8_t addr; /* of the header that will be added next */
    bool repair;  /* likewise */
    uint64_t content_length;
};

static void refuse(struct scan *scan, enum refusal refusal)
{
    if (!scan->msg->refusal)
        scan->msg->refusal = refusal;
}

/* ---- which headers there are ---- */

static void mark(struct sip_msg *msg, enum header_id id)
{
    msg->present[id / 64] |= UINT64_C(1) << id % 64;
}

static bool marked(const struct sip_msg *msg, enum header_id id)
{
    return msg->present[id / 64] >> id % 64 & 1;
}

/* ---- lines ---- */

/* One line without its end, scan->at behind it. false: no line end is left. */
static bool line_cut(struct scan *scan, char **start, char **stop)
{
    char *lf;

    if (scan->at == scan->end)
        return false;
    lf = memchr(scan->at, '\n', (size_t)(scan->end - scan->at));
    if (!lf)
        return false;
    *start = scan->at;
    *stop = lf > scan->at && lf[-1] == '\r' ? lf - 1 : lf;
    scan->at = lf + 1;
    return true;
}

/* The folded lines that continue the one from start to stop (RFC 3261 7.3.1): each fold, with the
 * blanks around it, becomes one SP, and what is won becomes blanks before the line end, so that the
 * buffer still holds the same message. */
static bool unfold(struct scan *scan, char *start, char *stop, struct str *line)
{
    char *write = stop, *from, *to;

    while (stop != start && scan->at < scan->end && text_blank(*scan->at)) {
        if (!line_cut(scan, &from, &to))
            return false;
        while (from < to && text_blank(*from))
            from++;
        while (write > start && text_blank(write[-1]))
            write--;
        if (from < to) {
            *write++ = ' ';
            memmove(write, from, (size_t)(to - from));
            write += to - from;
        }
        stop = to;
    }
    memset(write, ' ', (size_t)(stop - write));
    *line = (struct str){start, (size_t)(write - start)};
    return true;
}

/* A header line, unfolded. false: no line end is left. */
static bool line_next(struct scan *scan, struct str *line)
{
    char *start, *stop;

    if (!line_cut(scan, &start, &stop))
        return false;
    if (scan->at < scan->end && text_blank(*scan->at))
        return unfold(scan, start, stop, line);
    *line = (struct str){start, (size_t)(stop - start)};
    return true;
}

/* ---- start line ---- */

static bool starts_with_sip(struct str s)
{
    return s.len >= 4 && str_eq_nocase((struct str){s.p, 4}, STR("SIP/"));
}

static int status_line(struct scan *scan, struct str line)
{
    static const struct str version = STR("SIP/2.0 ");
    struct sip_msg *msg = scan->msg;
    uint64_t status;

    if (line.len < version.len + 3 || !str_eq_nocase((struct str){line.p, version.len}, version) ||
        str_to_uint((struct str){line.p + version.len, 3}, 699, &status) || status < 100)
        return -EBADMSG;
    line.p += version.len + 3;
    line.len -= version.len + 3;
    if (line.len && line.p[0] != ' ') /* the SP may be missing when the phrase is */
        return -EBADMSG;
    msg->status = (int)status;
    msg->reason = str_trim(line);
    return 0;
}

/* A Request-URI has no headers (RFC 3261 19.1.1): a PBX might take them for the request's own. */
static bool has_uri_headers(struct str uri, const struct text_uri *cut)
{
    struct str rest = cut->host.p ? cut->rest : uri;
    const char *at = cut->host.p ? NULL : memchr(uri.p, '@', uri.len);

    if (at)
        rest = (struct str){at, uri.len - (size_t)(at - uri.p)};
    return rest.len && memchr(rest.p, '?', rest.len);
}

static void request_uri_check(struct scan *scan)
{
    struct str uri = scan->msg->uri;
    struct text_uri *cut = &scan->msg->uri_cut;

    if (!text_uri_cut(uri, cut) || has_uri_headers(uri, cut))
        refuse(scan, REFUSE_REQUEST_URI);
    else if (!cut->host.p && !str_eq_nocase(cut->scheme, STR("tel")))
        refuse(scan, REFUSE_URI_SCHEME);
}

/* Method SP Request-URI SP SIP-Version, with exactly these two spaces (RFC 3261 7.1). Without a
 * method there is nothing to answer. */
static int request_line(struct scan *scan, struct str line)
{
    struct sip_msg *msg = scan->msg;
    const char *space = line.len ? memchr(line.p, ' ', line.len) : NULL, *last;
    struct str version;
    bool clear;

    if (!space)
        return -EBADMSG;
    msg->method_name = (struct str){line.p, (size_t)(space - line.p)};
    if (!text_is_token(msg->method_name))
        return -EBADMSG;
    msg->is_request = true;
    msg->method = sip_method_of(msg->method_name);

    line = str_trim(line); /* blanks at the end are clear (N8) */
    last = memrchr(line.p, ' ', line.len);
    if (!last || last <= space + 1) {
        refuse(scan, REFUSE_REQUEST_LINE);
        return 0;
    }
    msg->uri = (struct str){space + 1, (size_t)(last - space) - 1};
    version = (struct str){last + 1, (size_t)(line.p + line.len - last) - 1};
    clear = text_uri_clear(msg->uri);
    if ((!clear && text_has_any(msg->uri, " \t")) || !starts_with_sip(version))
        refuse(scan, REFUSE_REQUEST_LINE);
    else if (!str_eq_nocase(version, STR("SIP/2.0")))
        refuse(scan, REFUSE_VERSION);
    else if (!clear)
        refuse(scan, REFUSE_REQUEST_URI);
    else
        request_uri_check(scan);
    return 0;
}

static int start_line(struct scan *scan)
{
    char *start, *stop;
    struct str line;

    while (scan->at < scan->end && (*scan->at == '\r' || *scan->at == '\n'))
        scan->at++; /* F2 */
    if (!line_cut(scan, &start, &stop))
        return -EBADMSG;
    line = (struct str){start, (size_t)(stop - start)};
    if (text_has_control(line))
        refuse(scan, REFUSE_REQUEST_LINE_CONTROL);
    else if (line.len > SIP_LINE_MAX)
        refuse(scan, REFUSE_REQUEST_URI_LONG);
    else if (scan->at < scan->end && text_blank(*scan->at))
        refuse(scan, REFUSE_REQUEST_LINE_FOLDED);
    if (starts_with_sip(line)) {
        int err = scan->msg->refusal ? -EBADMSG : status_line(scan, line);

        if (err)
            scan->msg->status = -1;
        return err;
    }
    return request_line(scan, line);
}

/* ---- the headers that the scan reads ---- */

/* Its pieces stay with the message, or in `spare`. NULL: they are not clear. */
static const struct text_addr *addr_read(struct scan *scan, struct str value,
                                         struct text_addr *spare)
{
    struct sip_msg *msg = scan->msg;
    bool keep = msg->addr_count < SIP_ADDRS_KEPT;
    struct text_addr *addr = keep ? &msg->addrs[msg->addr_count] : spare;

    if (!text_addr_cut(value, addr))
        return NULL;
    scan->repair = !addr->brackets || addr->wants_quotes || addr->untidy;
    scan->addr = (uint8_t)(keep ? ++msg->addr_count : 0);
    return addr;
}

static void from_read(struct scan *scan, struct str value)
{
    struct sip_msg *msg = scan->msg;
    struct text_addr spare;
    const struct text_addr *addr = addr_read(scan, value, &spare);

    if (!addr || !addr->tag_clear) {
        refuse(scan, REFUSE_FROM);
        return;
    }
    msg->from_tag = addr->tag;
    if (!addr->tag.p && msg->is_request && !scan->peer_2543) /* a response echoes it */
        refuse(scan, REFUSE_FROM_TAG);
}

static void to_read(struct scan *scan, struct str value)
{
    struct text_addr spare;
    const struct text_addr *addr = addr_read(scan, value, &spare);

    if (!addr || !addr->tag_clear)
        refuse(scan, REFUSE_TO);
    else
        scan->msg->to_tag = addr->tag;
}

static void call_id_read(struct scan *scan, struct str value)
{
    if (!value.len || text_has_any(value, " \t,"))
        refuse(scan, REFUSE_CALL_ID);
    else
        scan->msg->call_id = value;
}

static void cseq_read(struct scan *scan, struct str value)
{
    struct sip_msg *msg = scan->msg;
    struct str method;
    uint64_t number;
    size_t i = 0;

    while (i < value.len && text_digit(value.p[i]))
        i++;
    method = str_trim((struct str){value.p + i, value.len - i});
    if (i == 0 || i == value.len || !text_blank(value.p[i]) || !text_is_token(method)) {
        refuse(scan, REFUSE_CSEQ);
        return;
    }
    scan->cseq_read = true;
    if (str_to_uint((struct str){value.p, i}, INT32_MAX, &number))
        refuse(scan, REFUSE_CSEQ);
    else
        msg->cseq = (uint32_t)number;
    if (!msg->is_request) {
        msg->method_name = method;
        msg->method = sip_method_of(method);
    } else if (!str_eq(method, msg->method_name)) {
        refuse(scan, REFUSE_CSEQ_METHOD);
    }
}

static void content_length_read(struct scan *scan, struct str value)
{
    scan->msg->has_content_length = true;
    if (str_to_uint(value, UINT32_MAX, &scan->content_length))
        refuse(scan, REFUSE_CONTENT_LENGTH);
}

/* Any Via; the first one is ours to read (RFC 3261 18.2.1). */
static bool via_clear(struct scan *scan, struct str value)
{
    struct text_via via;

    if (!text_via_cut(value, &via) || !str_eq_nocase(via.protocol, STR("SIP")))
        return false;
    scan->repair = via.untidy;
    if (marked(scan->msg, HEADER_VIA))
        return true;
    if (!via.branch_clear)
        return false;
    scan->msg->top_via = via;
    scan->msg->top_branch = via.branch;
    scan->via_read = true;
    return true;
}

/* "*" stands alone (RFC 3261 20.10). */
static bool contact_clear(struct scan *scan, struct str value)
{
    struct text_addr spare;
    bool again = marked(scan->msg, HEADER_CONTACT);

    if (str_eq(value, STR("*")))
        return !again;
    return !(again && str_eq(sip_value(scan->msg, HEADER_CONTACT), STR("*"))) &&
           addr_read(scan, value, &spare);
}

/* Route, Record-Route, Path: a sip or sips URI without headers (RFC 3261 19.1.1). Outside of
 * brackets, whose would the parameters be? */
static bool route_clear(struct scan *scan, struct str value)
{
    struct text_addr spare;
    const struct text_addr *addr = addr_read(scan, value, &spare);

    return addr && (addr->brackets || !addr->params.len) && addr->pieces.host.p &&
           !has_uri_headers(addr->uri, &addr->pieces);
}

static bool value_clear(struct scan *scan, enum header_id id, struct str value)
{
    switch (id) {
    case HEADER_VIA: return via_clear(scan, value);
    case HEADER_CONTACT: return contact_clear(scan, value);
    default: return route_clear(scan, value);
    }
}

/* ---- headers ---- */

static void header_add(struct scan *scan, enum header_id id, struct str name, struct str value)
{
    struct sip_msg *msg = scan->msg;

    mark(msg, id);
    if (msg->header_count == SIP_HEADERS_MAX) {
        refuse(scan, REFUSE_HEADERS_MANY);
        return;
    }
    msg->headers[msg->header_count++] =
        (struct sip_header){id, name, value, scan->addr, scan->repair};
    scan->addr = 0;
    scan->repair = false;
}

/* A list header: one for each value (N2). */
static void list_add(struct scan *scan, enum header_id id, struct str name, struct str list)
{
    static const enum refusal bad[HEADER_ID_COUNT] = {
        [HEADER_VIA] = REFUSE_VIA,
        [HEADER_ROUTE] = REFUSE_ROUTE,
        [HEADER_RECORD_ROUTE] = REFUSE_RECORD_ROUTE,
        [HEADER_PATH] = REFUSE_PATH,
        [HEADER_CONTACT] = REFUSE_CONTACT,
    };
    struct str value;
    bool balanced;

    if (list.len && value_clear(scan, id, list)) { /* then it is one value, and balanced */
        header_add(scan, id, name, list);
        return;
    }
    while (text_list_next(&list, &value, &balanced)) {
        if (!balanced || !value_clear(scan, id, value)) {
            refuse(scan, bad[id]);
            scan->addr = 0; /* these would be another header's */
            scan->repair = false;
            return;
        }
        header_add(scan, id, name, value);
    }
}

/* May stand once (V3), and what the scan wants of it. */
static const struct {
    enum refusal twice;
    void (*read)(struct scan *scan, struct str value);
} singles[HEADER_ID_COUNT] = {
    [HEADER_FROM] = {REFUSE_FROM_TWICE,           from_read          },
    [HEADER_TO] = {REFUSE_TO_TWICE,             to_read            },
    [HEADER_CALL_ID] = {REFUSE_CALL_ID_TWICE,        call_id_read       },
    [HEADER_CSEQ] = {REFUSE_CSEQ_TWICE,           cseq_read          },
    [HEADER_MAX_FORWARDS] = {REFUSE_MAX_FORWARDS_TWICE,   NULL               },
    [HEADER_MAX_BREADTH] = {REFUSE_MAX_BREADTH_TWICE,    NULL               },
    [HEADER_CONTENT_LENGTH] = {REFUSE_CONTENT_LENGTH_TWICE, content_length_read},
};

static void single_add(struct scan *scan, enum header_id id, struct str name, struct str value)
{
    if (singles[id].twice && marked(scan->msg, id)) {
        refuse(scan, singles[id].twice);
        return;
    }
    if (singles[id].read)
        singles[id].read(scan, value);
    header_add(scan, id, name, value);
}

static void header_line(struct scan *scan, struct str line)
{
    const char *colon = memchr(line.p, ':', line.len);
    enum header_id id;
    struct str spelled, name, value;

    if (line.len > SIP_LINE_MAX) {
        refuse(scan, REFUSE_HEADER_LONG);
        return;
    }
    if (text_has_control(line)) {
        refuse(scan, REFUSE_HEADER_CONTROL);
        return;
    }
    if (!colon) {
        refuse(scan, REFUSE_HEADER_COLON);
        return;
    }
    spelled = str_trim((struct str){line.p, (size_t)(colon - line.p)});
    name = header_canonical(spelled, &id);
    value = (struct str){colon + 1, (size_t)(line.p + line.len - colon) - 1};
    if (value.len && value.p[0] == ' ') /* as nearly all have it */
        value = (struct str){value.p + 1, value.len - 1};
    value = str_trim(value);
    if (name.p == spelled.p && !text_is_token(spelled)) {
        refuse(scan, REFUSE_HEADER_NAME);
        return;
    }

    switch (id) {
    case HEADER_VIA:
    case HEADER_ROUTE:
    case HEADER_RECORD_ROUTE:
    case HEADER_PATH:
    case HEADER_CONTACT: list_add(scan, id, name, value); break;
    default:
        if (id < HEADER_ID_COUNT)
            single_add(scan, id, name, value);
        else
            header_add(scan, id, name, value);
    }
}

/* All of them, and the empty line. */
static void headers_read(struct scan *scan, const char *bytes)
{
    struct str line;

    while (line_next(scan, &line)) {
        if ((size_t)(scan->at - bytes) > SIP_HEADERS_BYTES) {
            refuse(scan, REFUSE_TOO_LARGE);
            return;
        }
        if (!line.len)
            return;
        header_line(scan, line);
    }
    refuse(scan, REFUSE_HEADERS_END);
}

static void mandatory_check(struct scan *scan)
{
    static const struct {
        enum header_id id;
        enum refusal missing;
    } mandatory[] = {
        {HEADER_VIA,     REFUSE_VIA_MISSING    },
        {HEADER_FROM,    REFUSE_FROM_MISSING   },
        {HEADER_TO,      REFUSE_TO_MISSING     },
        {HEADER_CALL_ID, REFUSE_CALL_ID_MISSING},
        {HEADER_CSEQ,    REFUSE_CSEQ_MISSING   },
    };

    for (size_t i = 0; i < ARRAY_LEN(mandatory); i++)
        if (!marked(scan->msg, mandatory[i].id))
            refuse(scan, mandatory[i].missing);
    /* sip_response() stands in for an unreadable From or To: a branch is what answers match by. */
    scan->msg->readable = scan->via_read && scan->cseq_read && scan->msg->call_id.p;
}

static void body_cut(struct scan *scan, enum sip_framing framing)
{
    struct sip_msg *msg = scan->msg;
    size_t came = (size_t)(scan->end - scan->at);

    msg->body = (struct str){scan->at, came};
    if (!msg->has_content_length) {
        if (framing == SIP_STREAM)
            refuse(scan, REFUSE_CONTENT_LENGTH_MISSING); /* F3 */
    } else if (scan->content_length > came ||
               (framing == SIP_STREAM && scan->content_length != came)) {
        refuse(scan, REFUSE_CONTENT_LENGTH_BODY);
    } else {
        msg->body.len = (size_t)scan->content_length; /* F4 */
    }
}

int sip_scan(char *bytes, size_t len, enum sip_framing framing, bool peer_2543, struct sip_msg *msg)
{
    struct scan scan = {.at = bytes, .end = bytes + len, .msg = msg, .peer_2543 = peer_2543};

    memset(msg, 0, offsetof(struct sip_msg, headers));
    if (start_line(&scan))
        return -EBADMSG;
    headers_read(&scan, bytes);
    mandatory_check(&scan);
    body_cut(&scan, framing);
    return msg->refusal && !msg->is_request ? -EBADMSG : refusals[msg->refusal].status;
}

bool sip_answerable(const struct sip_msg *msg)
{
    return msg->is_request && msg->readable && msg->method != SIP_ACK;
}

/* ---- finding and editing ---- */

int sip_find(const struct sip_msg *msg, enum header_id id, unsigned from)
{
    for (unsigned i = from; marked(msg, id) && i < msg->header_count; i++)
        if (msg->headers[i].id == id)
            return (int)i;
    return -1;
}

int sip_find_name(const struct sip_msg *msg, struct str name, unsigned from)
{
    enum header_id id;

    name = header_canonical(name, &id);
    for (int i = sip_find(msg, id, from); i >= 0; i = sip_find(msg, id, (unsigned)i + 1))
        if (id != HEADER_OTHER || str_eq_nocase(msg->headers[i].name, name))
            return i;
    return -1;
}

struct str sip_value(const struct sip_msg *msg, enum header_id id)
{
    int i = sip_find(msg, id, 0);

    return i < 0 ? (struct str){NULL, 0} : msg->headers[i].value;
}

bool sip_addr_cut(const struct sip_msg *msg, unsigned index, struct text_addr *out)
{
    const struct sip_header *header = &msg->headers[index];
    const struct text_addr *kept = header->addr ? &msg->addrs[header->addr - 1] : NULL;

    if (!kept || kept->text.p != header->value.p || kept->text.len != header->value.len)
        return text_addr_cut(header->value, out);
    *out = *kept;
    return true;
}

void sip_drop(struct sip_msg *msg, unsigned index)
{
    assert(index < msg->header_count);
    msg->header_count--;
    memmove(&msg->headers[index], &msg->headers[index + 1],
            (msg->header_count - index) * sizeof(msg->headers[0]));
}

void sip_headers_set(struct sip_msg *msg, const struct sip_header *headers, unsigned count)
{
    assert(count <= SIP_HEADERS_MAX);
    memset(msg->present, 0, sizeof(msg->present));
    for (unsigned i = 0; i < count; i++) {
        msg->headers[i] = headers[i];
        msg->headers[i].addr = 0;
        mark(msg, headers[i].id);
    }
    msg->header_count = count;
}

static int insert(struct sip_msg *msg, unsigned index, struct sip_header header)
{
    assert(index <= msg->header_count);
    if (msg->header_count == SIP_HEADERS_MAX)
        return -ENOSPC;
    memmove(&msg->headers[index + 1], &msg->headers[index],
            (msg->header_count - index) * sizeof(msg->headers[0]));
    msg->headers[index] = header;
    msg->header_count++;
    mark(msg, header.id);
    return 0;
}

int sip_insert(struct sip_msg *msg, unsigned index, enum header_id id, struct str value)
{
    return insert(msg, index, (struct sip_header){id, header_name(id), value, 0, false});
}

int sip_insert_name(struct sip_msg *msg, unsigned index, struct str name, struct str value)
{
    enum header_id id;

    name = header_canonical(name, &id);
    return insert(msg, index, (struct sip_header){id, name, value, 0, false});
}

int sip_push(struct sip_msg *msg, enum header_id id, struct str value)
{
    static const enum header_id top[] = {HEADER_VIA, HEADER_ROUTE, HEADER_RECORD_ROUTE,
                                         HEADER_PATH};
    int first = sip_find(msg, id, 0);
    unsigned rank = 0, index = 0;

    if (first >= 0)
        return sip_insert(msg, (unsigned)first, id, value);
    while (rank < ARRAY_LEN(top) && top[rank] != id)
        rank++;
    if (rank == ARRAY_LEN(top))
        return sip_insert(msg, msg->header_count, id, value);
    for (unsigned i = 0; i < msg->header_count; i++)
        for (unsigned before = 0; before < rank; before++)
            if (msg->headers[i].id == top[before])
                index = i + 1;
    return sip_insert(msg, index, id, value);
}

bool sip_has_token(const struct sip_msg *msg, enum header_id id, struct str token)
{
    for (int i = sip_find(msg, id, 0); i >= 0; i = sip_find(msg, id, (unsigned)i + 1)) {
        struct str list = msg->headers[i].value, value;

        while (sip_list_next(&list, &value))
            if (str_eq_nocase(value, token))
                return true;
    }
    return false;
}

/* From an index to bytes: the canonical form of a message, and responses of this element. */
#include "proxy/message.h"
#include "proxy/text.h"
#include "proxy/value.h"

static void add_number(struct buf *out, uint64_t number)
{
    char digits[NUMBER_SIZE];

    buf_add(out, number_text(digits, number));
}

/* Parameters without those that are none, and without a '=' that nothing follows (N8). */
static void add_params(struct buf *out, struct str params)
{
    struct str name, value;

    while (sip_param_next(&params, &name, &value)) {
        buf_add(out, STR(";"));
        buf_add(out, name);
        buf_add(out, value.len ? STR("=") : STR(""));
        buf_add(out, value);
    }
}

/* A URI outside of brackets gets them (N4), a display name that needs quotes those (N8). */
static void add_addr(struct buf *out, struct str value)
{
    struct text_addr addr;

    if (!text_addr_cut(value, &addr)) {
        buf_add(out, value);
        return;
    }
    if (addr.display.len) {
        struct str quote = addr.wants_quotes ? STR("\"") : STR("");

        buf_add(out, quote);
        buf_add(out, addr.display);
        buf_add(out, quote);
        buf_add(out, STR(" "));
    }
    buf_add(out, STR("<"));
    buf_add(out, addr.uri);
    buf_add(out, STR(">"));
    if (addr.untidy)
        add_params(out, addr.params);
    else
        buf_add(out, addr.params);
}

static void add_via(struct buf *out, struct str value)
{
    struct text_via via;

    if (!text_via_cut(value, &via)) {
        buf_add(out, value);
        return;
    }
    buf_add(out, str_trim((struct str){value.p, (size_t)(via.params.p - value.p)}));
    add_params(out, via.params);
}

/* Only what the scan found in need of it is repaired; all else stays the sender's bytes. */
static void add_value(struct buf *out, const struct sip_header *header)
{
    if (!header->repair)
        buf_add(out, header->value);
    else if (header->id == HEADER_VIA)
        add_via(out, header->value);
    else
        add_addr(out, header->value);
}

/* Piece by piece: it needs repair, or may not fit. */
__attribute__((noinline)) static void add_header_pieces(struct buf *out,
                                                        const struct sip_header *header)
{
    buf_add(out, header->name);
    buf_add(out, header->value.len ? STR(": ") : STR(":"));
    add_value(out, header);
    buf_add(out, STR("\r\n"));
}

/* Name, colon, blank, value, line end: gathered at once. */
static inline void add_header(struct buf *out, const struct sip_header *header)
{
    struct str name = header->name, value = header->value;
    size_t len = name.len + value.len + strlen(": \r\n");
    char *at = out->p + out->len;

    if (header->repair || !value.len || len > out->size - out->len) {
        add_header_pieces(out, header);
        return;
    }
    at = str_put(str_put(at, name), STR(": "));
    str_put(str_put(at, value), STR("\r\n"));
    out->len += len;
}

void sip_print(const struct sip_msg *msg, struct buf *out)
{
    if (msg->is_request) {
        buf_add(out, msg->method_name);
        buf_add(out, STR(" "));
        buf_add(out, msg->uri);
        buf_add(out, STR(" SIP/2.0\r\n"));
    } else {
        buf_add(out, STR("SIP/2.0 "));
        add_number(out, (uint64_t)msg->status);
        buf_add(out, STR(" "));
        buf_add(out, msg->reason);
        buf_add(out, STR("\r\n"));
    }
    for (unsigned i = 0; i < msg->header_count; i++)
        if (msg->headers[i].id != HEADER_CONTENT_LENGTH)
            add_header(out, &msg->headers[i]);
    buf_add(out, STR("Content-Length: "));
    add_number(out, msg->body.len);
    buf_add(out, STR("\r\n\r\n"));
    buf_add(out, msg->body);
}

/* From or To of a response. One without clear seams, which the scan refused, can't be sent (V7),
 * nor be left out: who sent it knows the response by its branch (RFC 3261 17.1.3). */
static void add_party(struct buf *out, const struct sip_msg *request, enum header_id id)
{
    int index = sip_find(request, id, 0);
    struct text_addr addr;

    buf_add(out, header_name(id));
    buf_add(out, STR(": "));
    if (index >= 0 &&
        (!request->refusal || (sip_addr_cut(request, (unsigned)index, &addr) && addr.tag_clear)))
        add_value(out, &request->headers[index]);
    else
        buf_add(out, STR("<sip:unreadable@invalid>"));
}

void sip_response(const struct sip_msg *request, int status, const char *reason, struct str to_tag,
                  struct str extra, struct buf *out)
{
    static const struct sip_header none = {HEADER_CONTENT_LENGTH, STR("Content-Length"), STR("0"),
                                           0, false};
    static const enum header_id copied[] = {HEADER_CALL_ID, HEADER_CSEQ};
    int i;

    buf_add(out, STR("SIP/2.0 "));
    add_number(out, (uint64_t)status);
    buf_add(out, STR(" "));
    buf_add(out, str_of(reason ? reason : sip_reason(status)));
    buf_add(out, STR("\r\n"));
    for (i = sip_find(request, HEADER_VIA, 0); i >= 0;
         i = sip_find(request, HEADER_VIA, (unsigned)i + 1))
        add_header(out, &request->headers[i]);
    add_party(out, request, HEADER_FROM);
    buf_add(out, STR("\r\n"));
    add_party(out, request, HEADER_TO);
    if (status != 100 && to_tag.len && !request->to_tag.p) {
        buf_add(out, STR(";tag="));
        buf_add(out, to_tag);
    }
    buf_add(out, STR("\r\n"));
    for (size_t k = 0; k < ARRAY_LEN(copied); k++)
        if ((i = sip_find(request, copied[k], 0)) >= 0)
            add_header(out, &request->headers[i]);
    if (status == 100 && (i = sip_find(request, HEADER_TIMESTAMP, 0)) >= 0)
        add_header(out, &request->headers[i]);
    buf_add(out, extra);
    add_header(out, &none);
    buf_add(out, STR("\r\n"));
}

/* Whatever is accepted comes out canonical and comes in again the same, and whoever reads it with
 * libosip2 reads the same; whatever can be answered gets an answer that is a message (V7, N8). */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <osipparser2/osip_parser.h>

#include "proxy/message.h"
#include "proxy/value.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct sip_msg msg;
static struct buf out, again;
static struct arena arena;

static void values_read(void)
{
    for (unsigned i = 0; i < msg.header_count; i++) {
        struct sip_header *header = &msg.headers[i];
        struct sip_addr addr;
        struct text_addr kept, cut;
        struct sip_via via;
        int err;

        arena_reset(&arena);
        if (header->id == HEADER_VIA) {
            err = sip_via_parse(&arena, header->value, &via);
            assert(err || via.host.len);
        } else {
            bool clear = text_addr_cut(header->value, &cut);

            assert(sip_addr_cut(&msg, i, &kept) == clear);
            assert(!clear || (str_eq(kept.uri, cut.uri) && str_eq(kept.tag, cut.tag) &&
                              str_eq(kept.params, cut.params)));
            err = sip_addr_parse(&arena, header->value, &addr);
            assert(err || addr.uri.text.len);
            if (!err)
                sip_param_drop(&arena, addr.params, STR("tag"));
        }
        assert(!err || err == -EINVAL || err == -ENOMEM);
    }
}

/* A response has the request's CSeq, also where it is the number that is refused. */
static bool cseq_in_range(void)
{
    struct str number = sip_value(&msg, HEADER_CSEQ);
    uint64_t value;

    for (size_t i = 0; i < number.len; i++)
        if (number.p[i] < '0' || number.p[i] > '9')
            number.len = i;
    return !str_to_uint(number, INT32_MAX, &value);
}

/* ---- libosip2's reading of it ---- */

static unsigned header_count(enum header_id id)
{
    unsigned count = 0;

    for (int i = -1; (i = sip_find(&msg, id, (unsigned)(i + 1))) >= 0;)
        count++;
    return count;
}

static bool param_agrees(osip_list_t *params, char *name, struct str ours)
{
    osip_generic_param_t *param = NULL;

    if (osip_generic_param_get_byname(params, name, &param) || !param->gvalue)
        return !ours.len;
    return str_eq(str_trim(str_of(param->gvalue)), ours) || param->gvalue[0] == '"';
}

static bool call_id_agrees(const osip_call_id_t *call_id)
{
    struct str ours = msg.call_id, number = str_of(call_id->number), host = str_of(call_id->host);
    size_t at = host.p ? 1 : 0;

    return ours.len == number.len + at + host.len && !memcmp(ours.p, number.p, number.len) &&
           (!at || (ours.p[number.len] == '@' &&
                    str_eq((struct str){ours.p + number.len + 1, host.len}, host)));
}

static bool agrees(osip_message_t *theirs)
{
    osip_via_t *via = osip_list_get(&theirs->vias, 0);

    return (!msg.is_request || str_eq(str_of(theirs->sip_method), msg.method_name)) &&
           (msg.is_request || theirs->status_code == msg.status) &&
           osip_list_size(&theirs->vias) == (int)header_count(HEADER_VIA) &&
           osip_list_size(&theirs->routes) == (int)header_count(HEADER_ROUTE) &&
           osip_list_size(&theirs->contacts) == (int)header_count(HEADER_CONTACT) &&
           param_agrees(&via->via_params, "branch", msg.top_branch) &&
           str_eq(str_of(theirs->cseq->method), msg.method_name) &&
           strtoul(theirs->cseq->number, NULL, 10) == msg.cseq && call_id_agrees(theirs->call_id) &&
           param_agrees(&theirs->from->gen_params, "tag", msg.from_tag) &&
           param_agrees(&theirs->to->gen_params, "tag", msg.to_tag);
}

/* The headers that decide where a message belongs. libosip2 may find them wrong where we do not,
 * but what it takes it takes as we do: a second reading is a way around all rules. */
static void has_one_reading(void)
{
    osip_message_t *theirs;

    for (unsigned i = 0; i < msg.header_count;)
        if (msg.headers[i].id == HEADER_OTHER || msg.headers[i].id > HEADER_CONTACT)
            sip_drop(&msg, i);
        else
            i++;
    msg.body.len = 0;
    buf_reset(&again);
    sip_print(&msg, &again);
    if (osip_message_init(&theirs))
        abort();
    if (!osip_message_parse(theirs, again.p, again.len) && !agrees(theirs)) {
        fprintf(stderr, "libosip2 reads it in another way:\n" STR_FMT "\n", STR_ARG(again));
        abort();
    }
    osip_message_free(theirs);
}

/* `text` is one message that sip_scan() has nothing against. */
static void must_scan(const struct buf *text)
{
    char *copy = malloc(text->len);

    assert(copy);
    memcpy(copy, text->p, text->len);
    int status = sip_scan(copy, text->len, SIP_STREAM, true, &msg);
    assert(status == 0);
    buf_reset(&again);
    sip_print(&msg, &again);
    assert(!again.overflow && str_eq(buf_str(&again), buf_str(text)));
    has_one_reading();
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *bytes;
    int status;

    if (!arena.size) {
        sip_values_init();
        if (arena_create(&arena, 65536) || buf_create(&out, 1 << 20) || buf_create(&again, 1 << 20))
            abort();
    }
    bytes = malloc(size + !size);
    assert(bytes);
    memcpy(bytes, data, size);
    status = sip_scan(bytes, size, SIP_DATAGRAM, false, &msg);
    assert(status == 0 || status == -EBADMSG || (status >= 400 && status <= 513 && msg.refusal));
    values_read();

    buf_reset(&out);
    if (status == 0) {
        sip_print(&msg, &out);
        must_scan(&out);
    } else if (sip_answerable(&msg) && cseq_in_range()) {
        sip_response(&msg, status, refusals[msg.refusal].reason, STR("t"), (struct str){NULL, 0},
                     &out);
        must_scan(&out);
    }
    free(bytes);
    return 0;
}

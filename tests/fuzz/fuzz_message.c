/* Whatever is accepted comes out canonical and comes in again the same; whatever can be answered
 * gets an answer that is a message (V7, N8). */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

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
        struct sip_via via;
        int err;

        arena_reset(&arena);
        if (header->id == HEADER_VIA) {
            err = sip_via_parse(&arena, header->value, &via);
            assert(err || via.host.len);
        } else {
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
    assert(status == 0 || status == -EBADMSG || (status >= 400 && status <= 513 && msg.error));
    values_read();

    buf_reset(&out);
    if (status == 0) {
        sip_print(&msg, &out);
        must_scan(&out);
    } else if (sip_answerable(&msg) && cseq_in_range()) {
        sip_response(&msg, status, msg.error, STR("t"), (struct str){NULL, 0}, &out);
        must_scan(&out);
    }
    free(bytes);
    return 0;
}

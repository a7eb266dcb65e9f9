/* However a stream is split, its messages are the same, and where a message ends is no question to
 * the scan (F1, F2, F3). The first byte says into what pieces. */
#include <assert.h>
#include <stdlib.h>

#include "proxy/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MESSAGE_MAX = 2048 };

struct ends { /* where messages begin and end, pings, and the end of the connection, as numbers */
    size_t n[4096];
    unsigned count;
};

static struct sip_msg msg;
static struct ends whole, pieces;

static void end_add(struct ends *ends, size_t n)
{
    if (ends->count < ARRAY_LEN(ends->n))
        ends->n[ends->count++] = n;
}

static void message_check(struct str text)
{
    char *copy = malloc(text.len);
    int status;

    assert(copy);
    memcpy(copy, text.p, text.len);
    status = sip_scan(copy, text.len, SIP_STREAM, false, &msg);
    if (status && msg.error)
        assert(strcmp(msg.error, "Content-Length does not match the body") != 0 &&
               strcmp(msg.error, "Missing Content-Length") != 0);
    free(copy);
}

/* false: framing is lost. */
static bool frames_add(struct ends *ends, struct str stream, size_t have, size_t *taken,
                       size_t *scanned)
{
    for (;;) {
        struct sip_frame frame;

        sip_frame((struct str){stream.p + *taken, have - *taken}, MESSAGE_MAX, scanned, &frame);
        assert(frame.start + frame.len <= have - *taken && frame.taken <= have - *taken);
        switch (frame.kind) {
        case FRAME_MORE:
            assert(frame.need > have - *taken && frame.need <= MESSAGE_MAX);
            return true;
        case FRAME_PING: end_add(ends, *taken + frame.taken); break;
        case FRAME_IGNORE: break;
        case FRAME_MESSAGE:
            end_add(ends, *taken);
            end_add(ends, *taken + frame.len);
            message_check((struct str){stream.p + *taken, frame.len});
            break;
        case FRAME_BROKEN: end_add(ends, (size_t)frame.status); return false;
        }
        assert(frame.taken > 0);
        *taken += frame.taken;
    }
}

static void frames(struct ends *ends, struct str stream, size_t piece)
{
    size_t taken = 0, scanned = 0, have = 0;

    ends->count = 0;
    do
        have = stream.len - have > piece ? have + piece : stream.len;
    while (frames_add(ends, stream, have, &taken, &scanned) && have < stream.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str stream;

    if (size < 2)
        return 0;
    stream = (struct str){(const char *)data + 1, size - 1};
    frames(&whole, stream, stream.len);
    frames(&pieces, stream, data[0] ? data[0] : 1);
    assert(whole.count == pieces.count);
    assert(memcmp(whole.n, pieces.n, whole.count * sizeof(whole.n[0])) == 0);
    return 0;
}

/* However a stream is cut, its messages are the same, and where a message ends is no question to
 * the scan (F1, F2, F3). The first bytes say into what pieces. */
#include <assert.h>
#include <stdlib.h>

#include <xxhash.h>

#include "proxy/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    MESSAGE_MAX = 2048,
    CUTS = 4,             /* lengths of pieces, in turn */
    EVERY_CUT_MAX = 200,  /* bytes of a stream that is cut at each place */
    EVERY_BYTE_MAX = 1024 /* and of one that comes byte by byte */
};

/* What comes out: messages, pings, and the end of the connection, in order. */
struct result {
    size_t n[4096];
    unsigned count;
};

static struct sip_msg msg;
static struct result whole, pieces;

static void result_add(struct result *result, size_t n)
{
    if (result->count < ARRAY_LEN(result->n))
        result->n[result->count++] = n;
}

static void message_check(struct str text)
{
    char *copy = malloc(text.len);
    int status;

    assert(copy);
    memcpy(copy, text.p, text.len);
    status = sip_scan(copy, text.len, SIP_STREAM, false, &msg);
    if (status)
        assert(msg.refusal != REFUSE_CONTENT_LENGTH_BODY &&
               msg.refusal != REFUSE_CONTENT_LENGTH_MISSING);
    free(copy);
}

/* Nothing behind `bytes` is there to be looked at. */
static void frame_look(struct str bytes, size_t *scanned, struct sip_frame *frame)
{
    char *exact = malloc(bytes.len + !bytes.len);

    assert(exact);
    memcpy(exact, bytes.p, bytes.len);
    sip_frame((struct str){exact, bytes.len}, MESSAGE_MAX, scanned, frame);
    free(exact);
}

/* Take what is whole of the first `have` bytes. false: framing is lost. */
static bool frames_add(struct result *result, struct str stream, size_t have, size_t *taken,
                       size_t *scanned)
{
    for (;;) {
        struct str rest = {stream.p + *taken, have - *taken}, message;
        struct sip_frame frame;

        frame_look(rest, scanned, &frame);
        assert(frame.start + frame.len <= rest.len && frame.taken <= rest.len);
        message = (struct str){rest.p + frame.start, frame.len};
        switch (frame.kind) {
        case FRAME_MORE: assert(frame.need > rest.len && frame.need <= MESSAGE_MAX); return true;
        case FRAME_PING: result_add(result, *taken + frame.taken); break;
        case FRAME_IGNORE: break;
        case FRAME_MESSAGE:
            assert(frame.start + frame.len == frame.taken);
            result_add(result, *taken + frame.start);
            result_add(result, XXH3_64bits(message.p, message.len));
            message_check(message);
            break;
        case FRAME_BROKEN: /* how much of the head is there by then is no matter */
            result_add(result, (size_t)refusals[frame.refusal].status);
            return false;
        }
        assert(frame.taken > 0);
        *taken += frame.taken;
    }
}

/* Pieces of these lengths in turn; 0: all that is left. */
static void frames(struct result *result, struct str stream, const size_t *lengths, size_t count)
{
    size_t taken = 0, scanned = 0, have = 0, turn = 0;

    result->count = 0;
    do {
        size_t piece = lengths[turn++ % count];

        have = piece && stream.len - have > piece ? have + piece : stream.len;
    } while (frames_add(result, stream, have, &taken, &scanned) && have < stream.len);
}

static void same_as_whole(struct str stream, const size_t *lengths, size_t count)
{
    frames(&pieces, stream, lengths, count);
    assert(whole.count == pieces.count);
    assert(memcmp(whole.n, pieces.n, whole.count * sizeof(whole.n[0])) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t lengths[CUTS];
    struct str stream;

    if (size < CUTS + 1)
        return 0;
    for (unsigned i = 0; i < CUTS; i++)
        lengths[i] = data[i] + 1U;
    stream = (struct str){(const char *)data + CUTS, size - CUTS};

    frames(&whole, stream, (const size_t[]){0}, 1);
    same_as_whole(stream, lengths, CUTS);
    if (stream.len <= EVERY_BYTE_MAX)
        same_as_whole(stream, (const size_t[]){1}, 1);
    for (size_t cut = 1; stream.len <= EVERY_CUT_MAX && cut < stream.len; cut++)
        same_as_whole(stream, (const size_t[]){cut, 0}, 2);
    return 0;
}

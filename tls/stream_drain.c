/* Connections are closed one by one, so that their clients don't come back all at once. */
#include <stdlib.h>

#include "tls/stream_internal.h"

void streams_drain(struct streams *streams, unsigned spread_ms)
{
    streams->drain_since = uv_now(streams->options.loop);
    for (struct stream *stream = streams->all; stream; stream = stream->next)
        stream->leaves_ms = arc4random_uniform(spread_ms + 1);
    streams_drain_look(streams);
}

void streams_drain_look(struct streams *streams)
{
    uint64_t passed = uv_now(streams->options.loop) - streams->drain_since;

    for (struct stream *stream = streams->all; stream; stream = stream->next)
        if (!stream->ending && stream->leaves_ms <= passed &&
            !(stream->flow && flow_is_busy(stream->flow)))
            stream_end(stream, CAUSE_DRAINING, NULL,
                       stream->state <= STREAM_HANDSHAKE ? END_AT_ONCE : END_PROPERLY);
}

/* Why sipward answers a request itself: one row for each reason, with the rule of the wire that it
 * is by (tests/RULES.md), the status and the reason phrase. The code that refuses names a row; the
 * answer, the log and the metric come from it. 0 is no refusal: the request goes on.
 *
 * Threads: constants. */
#pragma once

enum refusal {
    REFUSE_NOT,

    /* What is no message at all, or not a clear one (sip_frame(), sip_scan()). */
    REFUSE_REQUEST_LINE,
    REFUSE_REQUEST_LINE_CONTROL,
    REFUSE_REQUEST_LINE_FOLDED,
    REFUSE_REQUEST_URI,
    REFUSE_REQUEST_URI_LONG,
    REFUSE_URI_SCHEME,
    REFUSE_VERSION,
    REFUSE_HEADER_LONG,
    REFUSE_HEADER_CONTROL,
    REFUSE_HEADER_COLON,
    REFUSE_HEADER_NAME,
    REFUSE_HEADERS_MANY,
    REFUSE_HEADERS_END,
    REFUSE_VIA,
    REFUSE_VIA_MISSING,
    REFUSE_FROM,
    REFUSE_FROM_TAG,
    REFUSE_FROM_MISSING,
    REFUSE_FROM_TWICE,
    REFUSE_TO,
    REFUSE_TO_MISSING,
    REFUSE_TO_TWICE,
    REFUSE_CALL_ID,
    REFUSE_CALL_ID_MISSING,
    REFUSE_CALL_ID_TWICE,
    REFUSE_CSEQ,
    REFUSE_CSEQ_METHOD,
    REFUSE_CSEQ_MISSING,
    REFUSE_CSEQ_TWICE,
    REFUSE_ROUTE,
    REFUSE_RECORD_ROUTE,
    REFUSE_PATH,
    REFUSE_CONTACT,
    REFUSE_MAX_FORWARDS_TWICE,
    REFUSE_MAX_BREADTH_TWICE,
    REFUSE_CONTENT_LENGTH,
    REFUSE_CONTENT_LENGTH_BODY,
    REFUSE_CONTENT_LENGTH_CONFLICT,
    REFUSE_CONTENT_LENGTH_MISSING,
    REFUSE_CONTENT_LENGTH_TWICE,
    REFUSE_TOO_LARGE,

    /* What may not go on (RFC 3261 16.3). */
    REFUSE_MAX_FORWARDS,
    REFUSE_MAX_FORWARDS_ZERO,
    ANSWER_MAX_FORWARDS_ZERO, /* no refusal: OPTIONS asks who is here */
    REFUSE_MAX_BREADTH,
    REFUSE_MAX_BREADTH_ZERO,
    REFUSE_LOOP,
    REFUSE_PROXY_REQUIRE,
    REFUSE_STOPPING,
    REFUSE_FLOW_FULL,
    REFUSE_NO_ROOM,

    /* What has nowhere to go (16.4, 16.5). */
    REFUSE_TOKEN_FORGED,
    REFUSE_TOKEN_MISSING,
    REFUSE_FLOW_GONE, /* or with conf->flow_gone_status: refusal_status() */
    REFUSE_ROUTE_FOREIGN,
    REFUSE_URI_FOREIGN,
    ANSWER_CORE_OPTIONS, /* no refusal: a PBX asks whether we live */
    REFUSE_CANCEL_UNKNOWN,
    REFUSE_NO_BACKEND,

    /* What went on, and came to nothing. */
    REFUSE_BACKENDS_FAILED,
    REFUSE_TIMEOUT,
    REFUSE_CANCELLED,
    REFUSE_RESPONSE,
    REFUSE_RESPONSE_NO_ROOM,

    REFUSAL_COUNT,
};

/* Indexed by enum refusal. */
extern const struct refusal_row {
    const char *rule; /* "R7" */
    int status;
    const char *reason;
} refusals[REFUSAL_COUNT];

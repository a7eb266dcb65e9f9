/* What the log says of what goes through the proxy, at its lowest level: all that an operator
 * needs, and no secret (rule X5). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "calls.h"
#include "proxy/log.h"

#define PASSWORD "hunter2"
#define RESPONSE "6629fae49393a05397450978507c4ef1"
#define MEDIA_KEY "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz"

static struct {
    int saved, file;
    char text[1 << 20];
} capture;

static void capture_begin(bool json)
{
    capture.saved = dup(STDERR_FILENO);
    capture.file = memfd_create("log", MFD_CLOEXEC);
    assert_true(capture.saved >= 0 && capture.file >= 0);
    assert_true(dup2(capture.file, STDERR_FILENO) >= 0);
    log_open(LOG_DEBUG, json);
}

static const char *capture_end(void)
{
    ssize_t len = pread(capture.file, capture.text, sizeof(capture.text) - 1, 0);

    dup2(capture.saved, STDERR_FILENO);
    close(capture.saved);
    close(capture.file);
    log_open(LOG_INFO, false);
    assert_true(len > 0 && len < (ssize_t)sizeof(capture.text) - 1);
    capture.text[len] = '\0';
    return capture.text;
}

/* All flow tokens that the core was sent: what stands before "@10.0.0.2" and behind "flow=". */
static char tokens[64][512];
static unsigned token_count;

static void token_keep(const char *at, const char *stops)
{
    snprintf(tokens[token_count], sizeof(tokens[0]), "%.*s", (int)strcspn(at, stops), at);
    if (strlen(tokens[token_count]) >= 32 && token_count < ARRAY_LEN(tokens) - 1)
        token_count++;
}

static void tokens_keep(const char *message)
{
    for (const char *at = message; (at = strstr(at, "sip:")); at++)
        token_keep(at + 4, "@;> \r\n");
    for (const char *at = message; (at = strstr(at, "flow=")); at++)
        token_keep(at + 5, ";> \r\n");
}

static void inbox_keep(struct inbox *inbox)
{
    for (unsigned i = 0; i < inbox->count; i++)
        tokens_keep(inbox->messages[i]);
}

static const char credentials[] =
    "Authorization: Digest username=\"alice\", realm=\"x\", nonce=\"n\", uri=\"sip:sip.test\", "
    "response=\"" RESPONSE
    "\"\nProxy-Authorization: Digest username=\"alice\",\n response=\"" RESPONSE "\"\n";

/* Whatever is logged: requests that pass and that are refused, calls, flows that are gone. */
static void all_that_is_logged(void)
{
    char uri[1024], forged[1024], routes[2048];

    edge_from_client(alice, REGISTER("Contact: <sip:alice:" PASSWORD "@client.invalid>\n%s"),
                     credentials);
    inbox_keep(&edge.core);
    edge_from_client(alice,
                     INVITE("%sContent-Type: application/sdp\n\nv=0\n"
                            "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" MEDIA_KEY "\n"),
                     credentials);
    inbox_keep(&edge.core);
    edge_from_core(&edge, "%s", response_to(inbox_last(&edge.core), "486 Busy Here", "b", NULL));
    edge_from_client(alice, "ACK sip:bob@sip.test SIP/2.0\n"
                            "Via: SIP/2.0/TLS client.invalid;branch=z9hG4bKinv1;rport\n"
                            "From: <sip:alice@sip.test>;tag=a\nTo: <sip:bob@sip.test>;tag=b\n"
                            "Call-ID: call1\nCSeq: 1 ACK");
    edge_wait(&edge, 1);
    call_up(routes);
    snprintf(uri, sizeof(uri), "%s", masked_contact(bob, "bob"));
    tokens_keep(uri);
    tokens_keep(routes);
    /* refused, with the Request-URI in the log: no such backend, forged, gone */
    edge_from_client(alice, IN_DIALOG("BYE", "2"), "sip:bob:" PASSWORD "@10.9.9.9", routes);
    edge_from_client(alice, REQUEST("MESSAGE", "Max-Forwards: 0\n%s"), credentials);
    edge_from_client(alice, REQUEST("INFO", "CSeq: 3 INFO\n%s"), credentials);
    snprintf(forged, sizeof(forged), "%s", uri);
    forged[strlen(forged) - 1] = forged[strlen(forged) - 1] == 'A' ? 'B' : 'A';
    edge_from_core(&edge, FROM_PBX("MESSAGE", forged, ""));
    tokens_keep(forged);
    edge_hang_up(bob);
    edge_from_core(&edge, FROM_PBX("INFO", uri, ""));
    bob = edge_client(&edge, 1, "WSS");
}

static void no_secret_is_logged(void **state) /* X5 refused */
{
    (void)state;
    for (int json = 0; json < 2; json++) {
        capture_begin(json);
        token_count = 0;
        all_that_is_logged();
        const char *text = capture_end();

        assert_null(strstr(text, PASSWORD));
        assert_null(strstr(text, RESPONSE));
        assert_null(strstr(text, MEDIA_KEY));
        assert_true(token_count >= 4);
        for (unsigned i = 0; i < token_count; i++)
            if (strstr(text, tokens[i]) || strstr(text, tokens[i] + strlen(tokens[i]) - 16))
                fail_msg("token %s is in the log:\n%s", tokens[i], text);
        edge_wait(&edge, 40000);
    }
}

static void what_an_operator_needs_is_logged(void **state) /* X5 */
{
    static const char *const wanted[] = {
        "flow=2.1",
        "peer=192.0.2.7:50001",
        "transport=wss",
        "status=486",
        "call-id=call1",
        "method=BYE status=403",
        "reason=\"Forged Flow Token\"",
        "status=430",
        "uri=sip:bob:…@10.9.9.9",
        "Authorization: (hidden)",
        "Max-Forwards: 0",
    };
    (void)state;
    capture_begin(false);
    all_that_is_logged();
    const char *text = capture_end();
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++)
        if (!strstr(text, wanted[i]))
            fail_msg("no %s in\n%s", wanted[i], text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        MASK(no_secret_is_logged),
        PATH(no_secret_is_logged),
        MASK(what_an_operator_needs_is_logged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Another configuration under a proxy that has connections and requests. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "calls.h"

/* The edge's configuration, and what a test makes of it. */
static struct conf next;
static struct core_view next_view;

static void next_begin(void)
{
    next = edge.conf;
    next_view = edge.view;
    next_view.references = 1;
    next_view.conf = &next;
}

static void next_take(void)
{
    assert_int_equal(proxy_conf_prepare(edge.proxy, &next), 0);
    proxy_view_set(edge.proxy, &next_view);
}

/* As it was: before `next` is used again. */
static void back(void)
{
    assert_int_equal(proxy_conf_prepare(edge.proxy, &edge.conf), 0);
    proxy_view_set(edge.proxy, &edge.view);
}

static int teardown_after(void **state)
{
    back();
    return teardown(state);
}

static void registers(struct client *client, const char *user)
{
    static unsigned serial;

    serial++;
    edge_from_client(client,
                     "REGISTER sip:sip.test SIP/2.0\n"
                     "Via: SIP/2.0/TLS client.invalid;branch=z9hG4bKr%u\n"
                     "From: <sip:%s@sip.test>;tag=a\nTo: <sip:%s@sip.test>\n"
                     "Call-ID: r%u\nCSeq: 1 REGISTER\nMax-Forwards: 70\n"
                     "Contact: <sip:%s@client.invalid>",
                     serial, user, user, serial, user);
}

/* Its masked Contact, as the core is told now. */
static const char *contact_of(struct client *client, const char *user)
{
    registers(client, user);
    return between(header_of(inbox_last(&edge.core), "Contact", 0), "<", ">");
}

static const char *status_of_core_request(const char *uri)
{
    static unsigned serial;
    char id[16];

    snprintf(id, sizeof(id), "%u", ++serial);
    inbox_take(&alice->inbox);
    inbox_take(&edge.core);
    edge_from_core(&edge,
                   "MESSAGE %s SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bKc%s\n"
                   "From: <sip:x@sip.test>;tag=x\nTo: <sip:y@sip.test>\nCall-ID: c%s\n"
                   "CSeq: 1 MESSAGE\nMax-Forwards: 70",
                   uri, id, id);
    return edge.core.count ? start_line(inbox_last(&edge.core))
                           : start_line(inbox_last(&alice->inbox));
}

static void set_key(struct conf *conf, unsigned index, uint8_t byte)
{
    memset(conf->flow_token_keys[index], byte, sizeof(conf->flow_token_keys[index]));
    if (conf->flow_token_key_count <= index)
        conf->flow_token_key_count = index + 1;
}

static void tokens_are_good_for_as_long_as_their_key_is(void **state) /* R7, R7 refused */
{
    static struct conf second;
    struct core_view second_view;
    char of_run[512], of_first[512], of_second[512];

    (void)state;
    snprintf(of_run, sizeof(of_run), "%s", contact_of(alice, "alice"));
    next_begin();
    set_key(&next, 0, 1);
    next_take();
    snprintf(of_first, sizeof(of_first), "%s", contact_of(alice, "alice"));
    assert_string_not_equal(of_run, of_first);
    assert_string_equal(status_of_core_request(of_run), "MESSAGE sip:alice@client.invalid SIP/2.0");
    assert_string_equal(status_of_core_request(of_first),
                        "MESSAGE sip:alice@client.invalid SIP/2.0");

    second = next; /* a new one in front, then the old one away */
    set_key(&second, 0, 2);
    set_key(&second, 1, 1);
    second_view = next_view;
    second_view.references = 1;
    second_view.conf = &second;
    assert_int_equal(proxy_conf_prepare(edge.proxy, &second), 0);
    proxy_view_set(edge.proxy, &second_view);
    snprintf(of_second, sizeof(of_second), "%s", contact_of(alice, "alice"));
    assert_string_equal(status_of_core_request(of_first),
                        "MESSAGE sip:alice@client.invalid SIP/2.0");
    next.flow_token_key_count = 0;
    set_key(&next, 0, 2);
    next_take();
    assert_string_equal(status_of_core_request(of_first), "SIP/2.0 403 Forged Flow Token");
    assert_string_equal(status_of_core_request(of_second),
                        "MESSAGE sip:alice@client.invalid SIP/2.0");
    assert_string_equal(status_of_core_request(of_run), "MESSAGE sip:alice@client.invalid SIP/2.0");
}

/* The URI of our side that faces the client, in what it is sent. */
static const char *name_towards(struct client *client, const char *user)
{
    inbox_take(&client->inbox);
    edge_from_core(&edge,
                   "INVITE %s SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bKn%s\n"
                   "From: <sip:x@sip.test>;tag=x\nTo: <sip:y@sip.test>\nCall-ID: n%s\n"
                   "CSeq: 1 INVITE\nMax-Forwards: 70\nContact: <sip:x@10.0.0.5>",
                   contact_of(client, user), user, user);
    return between(header_of(inbox_last(&client->inbox), "Record-Route", 0), "@", ":");
}

static void a_client_is_not_told_another_name_of_ours(void **state) /* R3 to access */
{
    (void)state;
    next_begin();
    next.domain = (char *)"new.test";
    next_take();
    assert_string_equal(name_towards(alice, "alice"), "sip.test");
    struct client *dave = edge_client(&edge, 3, "TLS");
    assert_string_equal(name_towards(dave, "dave"), "new.test");
}

static void limits_follow(void **state) /* X2, F6, M2 */
{
    char *body;

    (void)state;
    next_begin();
    next.connections_max = 1;
    next.limits.transactions = 1;
    next.limits.message_size = 200000;
    next.limits.max_forwards = 10;
    next_take();
    registers(alice, "alice");
    assert_string_equal(header_of(inbox_last(&edge.core), "Max-Forwards", 0), "9");
    registers(alice, "bob"); /* the first waits for its answer */
    assert_string_equal(start_line(inbox_last(&alice->inbox)), "SIP/2.0 503 Service Unavailable");
    edge_wait(&edge, 40000);

    struct conf larger = next;
    larger.limits.transactions = 100;
    struct core_view view = edge.view;
    view.references = 1;
    view.conf = &larger;
    assert_int_equal(proxy_conf_prepare(edge.proxy, &larger), 0);
    proxy_view_set(edge.proxy, &view);
    body = calloc(1, 150001);
    assert_non_null(body);
    memset(body, 'x', 150000);
    inbox_take(&edge.core);
    edge_from_client(alice,
                     "MESSAGE sip:sip.test SIP/2.0\nVia: SIP/2.0/TLS x;branch=z9hG4bKbig\n"
                     "From: <sip:a@sip.test>;tag=a\nTo: <sip:b@sip.test>\nCall-ID: big\n"
                     "CSeq: 1 MESSAGE\n\n%s",
                     body);
    free(body);
    assert_int_equal(edge.core.count, 1);
    assert_true(edge.core.lengths[0] > 150000);
    back();
}

static void probes_begin_and_end(void **state) /* B2 */
{
    (void)state;
    edge_hang_up(alice);
    edge_hang_up(bob);
    edge.probes = true;
    edge.conf.probe.interval_s = 0;
    edge_start(&edge);
    edge_wait(&edge, 5000);
    assert_int_equal(edge.core.count, 0);
    next_begin();
    next.probe.interval_s = 10;
    next_take();
    edge_wait(&edge, 2000);
    assert_memory_equal(inbox_last(&edge.core), "OPTIONS ", 8);
    back();
    inbox_take(&edge.core);
    edge_wait(&edge, 60000);
    assert_int_equal(edge.core.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup_mask, teardown_after)
        T(tokens_are_good_for_as_long_as_their_key_is),
        T(a_client_is_not_told_another_name_of_ours),
        T(limits_follow),
        T(probes_begin_and_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

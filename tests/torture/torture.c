/* Every torture entry (entry.h), through the whole proxy core, each way in, with Contacts masked
 * and not; what goes out is judged by a reader of plain lines, by libosip2, by our own scan, and,
 * from a capture file, by tshark.
 *
 *   torture [-w CAPTURE] [-t TEST] FILE ... */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <osipparser2/osip_parser.h>

#include "../unit/check.h"
#include "../unit/edge.h"
#include "capture.h"
#include "entry.h"
#include "proxy/internal.h"
#include "proxy/text.h"

struct trial {
    const struct entry *entry;
    enum way way;
    bool mask;
    char name[128];
};

static struct edge edge;
static struct client *tls, *ws;

/* ---- what goes out, line by line, as the plainest reader there is would have it ---- */

enum { LINES_MAX = 1024 };

struct plain {
    struct str start;
    unsigned count;
    struct {
        struct str line, name, value;
    } headers[LINES_MAX];
    struct str body;
};

/* One line up to CRLF; a bare CR or LF is none. false: no more. */
static bool plain_line(struct str *rest, struct str *line)
{
    const char *end = rest->len ? memmem(rest->p, rest->len, "\r\n", 2) : NULL;

    if (!end)
        return false;
    *line = (struct str){rest->p, (size_t)(end - rest->p)};
    rest->p = end + 2;
    rest->len -= line->len + 2;
    return true;
}

static bool is_name(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (!isalnum((unsigned char)s.p[i]) && !strchr("-.!%*_+`'~", s.p[i]))
            return false;
    return s.len > 0;
}

static void plain_read(const char *what, struct str text, struct plain *plain)
{
    struct str line;

    plain->count = 0;
    assert_true(plain_line(&text, &plain->start));
    while (plain_line(&text, &line) && line.len) {
        const char *colon = memchr(line.p, ':', line.len);
        struct str name, value;

        if (!colon || plain->count == LINES_MAX) {
            fail_msg("%s: sent with the line\n" STR_FMT, what, STR_ARG(line));
            return;
        }
        name = (struct str){line.p, (size_t)(colon - line.p)};
        value = (struct str){colon + 1, line.len - name.len - 1};
        if (value.len && (value.p[0] != ' ' || value.len == 1))
            fail_msg("%s: no blank behind the colon:\n" STR_FMT, what, STR_ARG(line));
        if (value.len)
            value = (struct str){value.p + 1, value.len - 1};
        if (!is_name(name) || name.len == 1 || str_trim(value).len != value.len)
            fail_msg("%s: not canonical:\n" STR_FMT, what, STR_ARG(line));
        for (size_t i = 0; i < line.len; i++)
            if (line.p[i] == '\x7f' || ((unsigned char)line.p[i] < 0x20 && line.p[i] != '\t'))
                fail_msg("%s: control byte %02x sent", what, line.p[i]);
        plain->headers[plain->count].line = line;
        plain->headers[plain->count].name = name;
        plain->headers[plain->count++].value = value;
    }
    plain->body = text;
}

static unsigned plain_count(const struct plain *plain, const char *name)
{
    unsigned count = 0;

    for (unsigned i = 0; i < plain->count; i++)
        count += str_eq_nocase(plain->headers[i].name, str_of(name));
    return count;
}

static struct str plain_value(const struct plain *plain, const char *name)
{
    for (unsigned i = 0; i < plain->count; i++)
        if (str_eq_nocase(plain->headers[i].name, str_of(name)))
            return plain->headers[i].value;
    return STR("");
}

/* ---- judges of one message that went out ---- */

/* What stands once, stands once; lists are one value a line; the length is exact (V3, N2, N3). */
static void check_shape(const char *what, const struct plain *plain)
{
    static const char *const once[] = {"From", "To", "Call-ID", "CSeq", "Content-Length"};
    char length[24];

    for (size_t i = 0; i < ARRAY_LEN(once); i++)
        CHECK_INT(what, plain_count(plain, once[i]), 1);
    assert_true(plain_count(plain, "Max-Forwards") <= 1);
    assert_true(plain_count(plain, "Via") >= 1);
    (void)snprintf(length, sizeof(length), "%zu", plain->body.len);
    CHECK_STR(what, plain_value(plain, "Content-Length"), str_of(length));
}

static struct str osip_tag(osip_from_t *party)
{
    osip_generic_param_t *tag = NULL;

    (void)osip_from_get_tag(party, &tag);
    return str_of(tag ? tag->gvalue : NULL);
}

/* libosip2's full parser finds the values that the proxy went by (V7, N8). */
static void check_osip(const char *what, struct str text, const struct plain *plain,
                       const struct sip_msg *believed)
{
    osip_message_t *theirs;
    char *call_id;

    assert_int_equal(osip_message_init(&theirs), 0);
    if (osip_message_parse(theirs, text.p, text.len))
        fail_msg("%s: libosip2 can't read\n" STR_FMT, what, STR_ARG(text));
    CHECK_INT(what, osip_list_size(&theirs->vias), plain_count(plain, "Via"));
    CHECK_INT(what, osip_list_size(&theirs->routes), plain_count(plain, "Route"));
    CHECK_INT(what, osip_list_size(&theirs->record_routes), plain_count(plain, "Record-Route"));
    CHECK_INT(what, osip_list_size(&theirs->contacts), plain_count(plain, "Contact"));
    assert_non_null(theirs->from);
    assert_non_null(theirs->to);
    CHECK_STR(what, osip_tag(theirs->from), believed->from_tag);
    if (believed->to_tag.p)
        CHECK_STR(what, osip_tag(theirs->to), believed->to_tag);
    CHECK_STR(what, str_of(theirs->cseq->method), believed->method_name);
    CHECK_INT(what, strtoll(theirs->cseq->number, NULL, 10), believed->cseq);
    CHECK_INT(what, strtoll(theirs->content_length->value, NULL, 10), plain->body.len);
    assert_int_equal(osip_call_id_to_str(theirs->call_id, &call_id), 0);
    CHECK_STR(what, str_of(call_id), believed->call_id);
    osip_free(call_id);
    if (theirs->sip_method)
        CHECK_STR(what, str_of(theirs->sip_method), believed->method_name);
    osip_message_free(theirs);
}

/* Our own scan takes it, and prints the same again. */
static void check_fixed_point(const char *what, struct str text)
{
    struct sip_msg *msg = malloc(sizeof(*msg));
    char *copy = malloc(text.len);
    struct buf out;

    memcpy(copy, text.p, text.len);
    assert_int_equal(buf_create(&out, text.len + 1024), 0);
    if (sip_scan(copy, text.len, SIP_STREAM, true, msg))
        fail_msg("%s: sent, but refused if it came: %s\n" STR_FMT, what,
                 refusals[msg->refusal].reason, STR_ARG(text));
    sip_print(msg, &out);
    CHECK_STR(what, buf_str(&out), text);
    buf_destroy(&out);
    free(copy);
    free(msg);
}

static void check_sent(const struct trial *trial, struct str text, struct plain *plain,
                       const struct sip_msg *believed)
{
    plain_read(trial->name, text, plain);
    check_shape(trial->name, plain);
    if (believed)
        check_osip(trial->name, text, plain, believed);
    check_fixed_point(trial->name, text);
    if (!trial->entry->skip_tshark)
        capture_add(text, trial->name);
}

/* ---- what the entry wants of a message that passed ---- */

/* Name of a line, up to ':' or ' ', and if it is one that the proxy's own rules change. */
static bool may_change(const struct trial *trial, struct str line, struct str name)
{
    static const char *const ours[] = {"Via",  "Route",    "Max-Forwards", "Content-Length",
                                       "CSeq", "Supported"};
    const struct entry *entry = trial->entry;

    for (size_t i = 0; i < ARRAY_LEN(ours); i++)
        if (str_eq_nocase(name, str_of(ours[i])))
            return true;
    for (unsigned i = 0; i < entry->line_count; i++)
        if (entry->lines[i].len > name.len && entry->lines[i].p[name.len] == ':' &&
            str_eq_nocase((struct str){entry->lines[i].p, name.len}, name))
            return true;
    for (unsigned i = 0; i < entry->absent_count; i++)
        if (str_eq_nocase(name, str_of(entry->absent[i])))
            return true;
    return name.len == 1 || (trial->mask && str_eq_nocase(name, STR("Contact"))) ||
           ((str_eq_nocase(name, STR("Contact")) || str_eq_nocase(name, STR("Record-Route")) ||
             str_eq_nocase(name, STR("Path"))) &&
            memchr(line.p, ',', line.len));
}

/* Each header of one line whose value the proxy has no business with comes out with the same bytes
 * (N2). Whatever it does on purpose, the entry says with = and -. */
static void check_unchanged(const struct trial *trial, struct str in, const struct plain *plain)
{
    struct str line;

    plain_line(&in, &line); /* start line */
    while (plain_line(&in, &line) && line.len) {
        const char *colon = memchr(line.p, ':', line.len);
        struct str name, value;
        bool found = false;

        if (!colon || text_has_any(line, "\r\n") || (in.len && (*in.p == ' ' || *in.p == '\t')) ||
            *line.p == ' ' || *line.p == '\t')
            continue;
        name = str_trim((struct str){line.p, (size_t)(colon - line.p)});
        value = str_trim((struct str){colon + 1, (size_t)(line.p + line.len - colon) - 1});
        if (may_change(trial, line, name))
            continue;
        for (unsigned i = 0; i < plain->count && !found; i++)
            found = str_eq_nocase(plain->headers[i].name, name) &&
                    str_eq(plain->headers[i].value, value);
        if (!found)
            fail_msg("%s: not as it came:\n" STR_FMT, trial->name, STR_ARG(line));
    }
}

static void check_wanted(const struct trial *trial, struct str in, struct str out,
                         const struct plain *plain)
{
    const struct entry *entry = trial->entry;
    const char *end = memmem(in.p, in.len, "\r\n\r\n", 4);

    for (unsigned i = 0; i < entry->line_count; i++) {
        struct str want = entry->lines[i];
        unsigned count = str_eq(plain->start, want);

        if (trial->mask && want.len > 8 && memcmp(want.p, "Contact:", 8) == 0)
            continue;
        for (unsigned h = 0; h < plain->count; h++)
            count += str_eq(plain->headers[h].line, want);
        if (count != 1)
            fail_msg("%s: %u times, not once:\n" STR_FMT "\nin\n" STR_FMT, trial->name, count,
                     STR_ARG(want), STR_ARG(out));
    }
    for (unsigned i = 0; i < entry->absent_count; i++)
        if (plain_count(plain, entry->absent[i]))
            fail_msg("%s: %s goes out in\n" STR_FMT, trial->name, entry->absent[i], STR_ARG(out));
    if (end && entry->body != 0 && entry->body != BODY_ANY) {
        struct str body = {end + 4, (size_t)(in.p + in.len - end) - 4};
        if (entry->body > 0)
            body.len = (size_t)entry->body;
        CHECK_STR(trial->name, plain->body, body);
    } else if (entry->body == 0) {
        CHECK_INT(trial->name, plain->body.len, 0);
    }
    check_unchanged(trial, in, plain);
}

/* ---- one trial ---- */

/* Bytes come in, in memory of exactly their size. */
static void receive(const struct trial *trial, const struct outcome *want, struct str bytes)
{
    char *copy = malloc(bytes.len + !bytes.len);
    size_t scanned = 0;
    ssize_t taken;

    memcpy(copy, bytes.p, bytes.len);
    switch (trial->way) {
    case WAY_TLS:
        taken = proxy_receive_stream(tls->flow, copy, bytes.len, &scanned, edge.now);
        CHECK_INT(trial->name, taken < 0, want->closed);
        CHECK_INT(trial->name, taken >= 0 && (size_t)taken < bytes.len, want->waits);
        break;
    case WAY_WS:
        CHECK_INT(trial->name, proxy_receive_message(ws->flow, copy, bytes.len, edge.now), 0);
        break;
    default: proxy_receive_core(edge.proxy, &edge.pbx, copy, bytes.len, edge.now);
    }
    free(copy);
}

/* The Via lines that a response to a request of `method` needs, if the request comes from the other
 * side. */
static const char *request_before(enum way way, const char *method)
{
    static char vias[8192];
    const struct inbox *inbox;
    const char *via;
    int len = 0;

    if (way == WAY_CORE) {
        edge_from_client(tls,
                         "%s sip:bob@sip.test SIP/2.0\nVia: SIP/2.0/TLS x.invalid;branch=z9hG4bK1\n"
                         "From: <sip:alice@sip.test>;tag=a\nTo: <sip:bob@sip.test>\n"
                         "Call-ID: before\nCSeq: 1 %s",
                         method, method);
        inbox = &edge.core;
    } else {
        struct client *client = way == WAY_TLS ? tls : ws;
        edge_from_core(&edge,
                       "%s sip:bob@x.invalid SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.5;branch=z9hG4bK1\n"
                       "Route: <sip:%s@10.0.0.2;lr>\nFrom: <sip:alice@sip.test>;tag=a\n"
                       "To: <sip:bob@sip.test>\nCall-ID: before\nCSeq: 1 %s",
                       method, client->flow->token, method);
        inbox = &client->inbox;
    }
    for (unsigned i = 0; *(via = header_of(inbox_last(inbox), "Via", i)); i++)
        len += snprintf(vias + len, sizeof(vias) - (size_t)len, "%sVia: %s", i ? "\r\n" : "", via);
    inbox_take(&edge.core);
    inbox_take(&tls->inbox);
    inbox_take(&ws->inbox);
    return vias;
}

/* A request of the core says which client it is for: a Route behind its first line. */
static struct str routed(struct str text)
{
    const char *lf = memchr(text.p, '\n', text.len);
    struct str out = {NULL, 0};
    char route[128];
    int len = snprintf(route, sizeof(route), "Route: <sip:%s@10.0.0.2;lr>\r\n", ws->flow->token);
    size_t head = lf ? (size_t)(lf - text.p) + 1 : text.len;
    char *all = malloc(text.len + (size_t)len);

    memcpy(all, text.p, head);
    memcpy(all + head, route, (size_t)len);
    memcpy(all + head + len, text.p + head, text.len - head);
    out = (struct str){all, text.len + (size_t)len};
    free((char *)text.p);
    return out;
}

static struct str bytes_of(const struct entry *entry, enum way way)
{
    const char *via = entry->of ? request_before(way, entry->of) : "";
    struct str bytes = entry_expand(entry->text, ws->flow->token, via);
    bool named = memmem(entry->text.p, entry->text.len, "{token}", 7) != NULL;

    return way == WAY_CORE && !entry->of && !named ? routed(bytes) : bytes;
}

/* What the scan reads in the message itself: what the proxy goes by. */
static struct sip_msg *believe(enum way way, struct str bytes)
{
    struct sip_msg *msg = malloc(sizeof(*msg));
    static char *copy;

    free(copy);
    copy = malloc(bytes.len);
    memcpy(copy, bytes.p, bytes.len);
    if (sip_scan(copy, bytes.len, SIP_DATAGRAM, way == WAY_CORE, msg) < 0) {
        free(msg);
        return NULL;
    }
    return msg;
}

static bool is_response(const char *message)
{
    return strncmp(message, "SIP/2.0 ", 8) == 0;
}

/* Answers to the sender: in the entry's order, well formed, about its own request. */
static void check_answers(const struct trial *trial, const struct outcome *want,
                          const struct inbox *inbox, struct plain *plain,
                          const struct sip_msg *believed)
{
    unsigned count = 0;

    for (unsigned i = 0; i < inbox->count; i++) {
        struct str text = {inbox->messages[i], inbox->lengths[i]};
        const char *status = start_line(text.p);

        if (!is_response(text.p) || strncmp(status, "SIP/2.0 100", 11) == 0)
            continue;
        if (count == want->status_count)
            fail_msg("%s: answered %s", trial->name, status);
        CHECK_STR(trial->name, str_of(status + 8), str_of(want->statuses[count]));
        count++;
        plain_read(trial->name, text, plain);
        check_shape(trial->name, plain);
        if (believed && believed->call_id.p)
            CHECK_STR(trial->name, plain_value(plain, "Call-ID"), believed->call_id);
        if (!trial->entry->skip_tshark)
            capture_add(text, trial->name);
    }
    CHECK_INT(trial->name, count, want->status_count);
}

static void check_passed(const struct trial *trial, const struct outcome *want, struct str in,
                         const struct inbox *inbox, struct plain *plain,
                         const struct sip_msg *believed)
{
    unsigned count = 0;

    for (unsigned i = 0; i < inbox->count; i++) {
        struct str text = {inbox->messages[i], inbox->lengths[i]};

        if (is_response(text.p) != (trial->entry->of != NULL))
            continue;
        if (count == want->passes)
            fail_msg("%s: went out\n" STR_FMT, trial->name, STR_ARG(text));
        bool first = count++ == 0 && believed && !believed->refusal; /* and not one behind it */
        check_sent(trial, text, plain, first ? believed : NULL);
        if (first)
            check_wanted(trial, in, text, plain);
    }
    CHECK_INT(trial->name, count, want->passes);
}

static int setup(void **state)
{
    const struct trial *trial = *state;

    edge_setup(&edge, !trial->mask);
    tls = edge_client(&edge, 0, "TLS");
    ws = edge_client(&edge, 1, "WSS");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    edge_teardown(&edge);
    return 0;
}

static void run(void **state)
{
    static struct plain plain;
    const struct trial *trial = *state;
    const struct entry *entry = trial->entry;
    enum way way = trial->way;
    const struct outcome *want = &entry->ways[way];
    struct client *there = entry->of && way == WAY_CORE ? tls : ws; /* where the core's goes */
    struct str bytes = bytes_of(entry, way);
    struct sip_msg *believed = believe(way, bytes);
    const struct inbox *sender = way == WAY_CORE  ? &edge.core
                                 : way == WAY_TLS ? &tls->inbox
                                                  : &ws->inbox;

    receive(trial, want, bytes);
    check_answers(trial, want, sender, &plain, believed);
    check_passed(trial, want, bytes, way == WAY_CORE ? &there->inbox : &edge.core, &plain,
                 believed);
    free(believed);
    free((char *)bytes.p);
}

/* ---- all of them ---- */

static struct CMUnitTest *tests;
static size_t test_count;

static void tests_of(const struct entry *entry, const char *only)
{
    for (unsigned way = 0; way < WAY_COUNT; way++) {
        for (unsigned mask = 0; entry->ways[way].wanted && mask < 2; mask++) {
            struct trial *trial = malloc(sizeof(*trial));

            *trial = (struct trial){.entry = entry, .way = way, .mask = mask};
            (void)snprintf(trial->name, sizeof(trial->name), "%s:%d %s %s%s", entry->file,
                           entry->line, entry->name, way_names[way], mask ? " masked" : "");
            if (only && !strstr(trial->name, only))
                continue;
            tests = realloc(tests, (test_count + 1) * sizeof(*tests));
            tests[test_count++] = (struct CMUnitTest){trial->name, run, setup, teardown, trial};
        }
    }
}

int main(int argc, char **argv)
{
    const char *only = NULL;
    int option, failed;

    while ((option = getopt(argc, argv, "w:t:")) > 0) {
        switch (option) {
        case 'w': capture_open(optarg); break;
        case 't': only = optarg; break;
        default: return 2;
        }
    }
    sip_values_init();
    log_open(LOG_ERROR, false);
    for (int i = optind; i < argc; i++) {
        unsigned count;
        const struct entry *entries = entries_read(argv[i], &count);

        for (unsigned e = 0; e < count; e++)
            tests_of(&entries[e], only);
    }
    failed = _cmocka_run_group_tests("torture", tests, test_count, NULL, NULL);
    capture_close();
    return failed || !test_count;
}

/* The load generator: SIP clients over TLS or WSS. It is told what to do by lines on standard
 * input, one at a time, and answers each with a JSON line:
 *
 * - connect clients=N [parallel=P] [register=1] [resume=1]: have N clients connected (registered).
 * - run what=register|options|call|mixed (seconds=S | count=N) [rate=R] [parallel=P] [clients=N]:
 *   a closed loop with P requests open, over all clients in turn (P: all of them); or R a second,
 *   whose times count from when they should have been sent.
 * - stop: the run that is on ends early; it answers, not this.
 * - handshake (seconds=S | count=N) [parallel=P] [resume=1]: connect, shake hands (WSS: and
 *   upgrade), close.
 * - hold count=N: N more INVITEs that ring. release: all of them are cancelled.
 * - storm [resume=1] [parallel=P]: all clients are cut off at once, come back and register.
 * - state: how many connections there are. drop: all are closed.
 *
 * A run with `mistakes` is worth nothing. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "client.h"

enum {
    CLIENTS_MAX = 1 << 20,
    EVENTS_MAX = 128,
    SHAKERS_MAX = 1024,
    HOLD_WINDOW = 200, /* held calls that have not rung yet */
    SEND_BURST = 32,   /* requests sent before answers are looked at again */
};
#define SECOND UINT64_C(1000000000)

enum job_kind { JOB_NONE, JOB_CONNECT, JOB_RUN, JOB_HANDSHAKE, JOB_HOLD, JOB_RELEASE };
enum what { WHAT_REGISTER, WHAT_OPTIONS, WHAT_CALL, WHAT_MIXED };
static const char *const whats[] = {"register", "options", "call", "mixed"};

struct job {
    enum job_kind kind;
    const char *name;
    enum what what;
    unsigned clients, parallel;
    uint64_t count; /* how much of it is wanted; UINT64_MAX: until the time is over */
    double rate;    /* 0: closed loop */
    bool registers, resumes;
    uint64_t begun, until, ended; /* ended: when the last of it was */
    double cpu;
    uint64_t issued, done, open;
    uint64_t failures, resumed;
    unsigned next; /* client to look at */
};

static struct {
    struct crowd crowd;
    struct sockaddr_in server;
    unsigned sources, source;
    uint64_t timeout;
    struct client *clients;
    unsigned client_count; /* that have a place */
    struct client shakers[SHAKERS_MAX];
    unsigned *ring, ring_from, ring_len; /* clients that can ask something, longest idle first */
    SSL_SESSION *session;                /* the last that came */
    struct histogram connects;
    struct job job;
    char line[512];
    size_t line_len;
    bool ended;
} load;

static double cpu_seconds(void)
{
    struct rusage use;

    (void)getrusage(RUSAGE_SELF, &use);
    return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
           (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
}

/* ---- who can ask something ---- */

static void ring_put(const struct client *client)
{
    load.ring[(load.ring_from + load.ring_len++) % CLIENTS_MAX] = client->number;
}

static struct client *ring_take(void)
{
    struct client *client = NULL;

    while (load.ring_len && !client) {
        client = &load.clients[load.ring[load.ring_from]];
        load.ring_from = (load.ring_from + 1) % CLIENTS_MAX;
        load.ring_len--;
        if (client->wire.state != WIRE_OPEN)
            client = NULL;
    }
    return client;
}

static void ring_fill(void)
{
    const struct job *job = &load.job;
    unsigned step = job->what == WHAT_CALL ? 2 : 1; /* the even ones call the odd ones */

    load.ring_from = load.ring_len = 0;
    for (unsigned i = 0; i < job->clients; i += step)
        ring_put(&load.clients[i]);
}

/* ---- connections ---- */

static void connection_begin(struct client *client, bool resume)
{
    struct sockaddr_in from = {.sin_family = AF_INET};
    /* a copy: OpenSSL resumes no session of TLS 1.3 twice */
    SSL_SESSION *session = resume && load.session ? SSL_SESSION_dup(load.session) : NULL;

    from.sin_addr.s_addr = htonl((127u << 24) + (1u << 16) + 1 + load.source++ % load.sources);
    client->begun = now_ns();
    client->is_ready = false;
    wire_open(&client->wire, &load.crowd.kind, &from, &load.server, session);
    SSL_SESSION_free(session);
}

/* A client of `connect` or `storm` has come as far as it should. */
static void connection_ready(struct client *client)
{
    client->is_ready = true;
    load.job.open--;
    load.job.done++;
    load.job.ended = now_ns();
    histogram_add(&load.connects, load.job.ended - client->begun);
}

/* It is over when the server has closed too: only then has that done all of its handshake. */
static void shaker_ready(struct client *shaker)
{
    shaker->is_ready = true;
    if (shaker->wire.ssl && SSL_session_reused(shaker->wire.ssl))
        load.job.resumed++;
}

static void opened(struct wire *wire)
{
    struct client *client = (struct client *)wire;

    if (client->is_shaker) {
        shaker_ready(client);
        return;
    }
    client_named(client);
    if (load.job.registers)
        client_register(client, now_ns());
    else
        connection_ready(client);
}

static int ticket_came(SSL *ssl, SSL_SESSION *session)
{
    (void)ssl;
    SSL_SESSION_free(load.session);
    load.session = session;
    return 1; /* the session is ours now */
}

/* A client of `connect` or `storm` was refused or cut off: it tries again half a second later. */
static void connection_failed(struct client *client)
{
    if (!load.job.failures++)
        snprintf(load.crowd.counts.mistake, sizeof(load.crowd.counts.mistake), "u%u: %s",
                 client->number, client->wire.why);
    load.job.open--;
    client_reset(client);
    wire_drop(&client->wire, true);
    client->retry_at = now_ns() + SECOND / 2 + (uint64_t)(random() % 1000) * (SECOND / 1000);
}

static void connection_look(struct client *client)
{
    bool job_is_ours = load.job.kind == JOB_CONNECT || load.job.kind == JOB_HANDSHAKE;

    if (client->is_shaker) {
        if (client->wire.state == WIRE_OPEN)
            wire_end(&client->wire);
        if (client->wire.state != WIRE_DEAD)
            return;
        load.job.open--;
        load.job.done += client->is_ready;
        load.job.ended = now_ns();
        if (client->is_ready)
            histogram_add(&load.connects, load.job.ended - client->begun);
        else
            mistake(&load.crowd, client, client->wire.why, (struct text){"handshake", 9});
        wire_drop(&client->wire, true);
    } else if (client->wire.state == WIRE_DEAD) {
        if (job_is_ours && !client->is_ready) {
            connection_failed(client);
            return;
        }
        client_failed(client, client->wire.why);
        client_reset(client);
        wire_drop(&client->wire, true);
        client->is_ready = false;
    }
}

/* ---- jobs ---- */

static void finished(struct client *client)
{
    struct job *job = &load.job;

    if (job->kind == JOB_CONNECT) {
        if (!client->is_ready && client->wire.state == WIRE_OPEN)
            connection_ready(client);
        return;
    }
    job->open--;
    job->done++;
    job->ended = now_ns();
    ring_put(client);
}

static void connect_go_on(void)
{
    struct job *job = &load.job;
    uint64_t now = now_ns();

    for (unsigned seen = 0; job->open < job->parallel && seen < job->clients; seen++) {
        struct client *client = &load.clients[job->next++ % job->clients];
        if (client->wire.state != WIRE_NONE || client->retry_at > now)
            continue;
        job->open++;
        connection_begin(client, job->resumes);
        if (client->wire.state == WIRE_DEAD)
            connection_failed(client);
        if (job->open % SEND_BURST == 0)
            return;
    }
}

static void handshake_go_on(void)
{
    struct job *job = &load.job;
    bool resume = job->resumes && load.session;
    unsigned parallel = job->resumes && !resume ? 1 : job->parallel; /* the first one is full */

    if (now_ns() >= job->until)
        return;
    for (unsigned i = 0; i < parallel && job->issued < job->count; i++) {
        struct client *shaker = &load.shakers[i];
        if (shaker->wire.state != WIRE_NONE)
            continue;
        job->issued++;
        job->open++;
        connection_begin(shaker, resume);
        connection_look(shaker);
    }
}

static void ask(struct client *client, uint64_t since)
{
    static const enum what mix[] = {WHAT_REGISTER, WHAT_REGISTER, WHAT_OPTIONS,  WHAT_REGISTER,
                                    WHAT_REGISTER, WHAT_CALL,     WHAT_REGISTER, WHAT_REGISTER,
                                    WHAT_OPTIONS,  WHAT_REGISTER};
    enum what what = load.job.what == WHAT_MIXED ? mix[load.job.issued % 10] : load.job.what;

    load.job.issued++;
    load.job.open++;
    switch (what) {
    case WHAT_REGISTER: client_register(client, since); break;
    case WHAT_OPTIONS: client_options(client, since); break;
    default: client_call(client, client->number ^ 1, since);
    }
}

static uint64_t due(void) /* when the next request should be sent */
{
    return load.job.begun + (uint64_t)((double)load.job.issued / load.job.rate * 1e9);
}

static void run_go_on(void)
{
    struct job *job = &load.job;
    uint64_t now = now_ns(), since = now;

    for (unsigned i = 0; i < SEND_BURST && load.ring_len && job->issued < job->count; i++) {
        struct client *client;
        if (job->rate > 0) {
            since = due();
            if (since > now || since >= job->until)
                return;
        } else if (job->open >= job->parallel || now >= job->until) {
            return;
        }
        client = ring_take();
        if (client)
            ask(client, since);
        if (job->rate <= 0)
            since = now_ns();
    }
}

static void hold_go_on(void)
{
    struct job *job = &load.job;
    struct counts *counts = &load.crowd.counts;
    uint64_t done = job->kind == JOB_HOLD ? counts->ringing : counts->ended;
    unsigned idle = 0;

    if (done > job->done)
        job->ended = now_ns();
    job->done = done;
    while (job->issued < job->count && job->issued - job->done < HOLD_WINDOW &&
           idle < job->clients) {
        struct client *client = &load.clients[job->next++ % job->clients];
        if (client->wire.state != WIRE_OPEN || (job->kind == JOB_RELEASE && !client->held)) {
            idle++;
            continue;
        }
        idle = 0;
        job->issued++;
        if (job->kind == JOB_HOLD)
            client_hold(client);
        else
            client_release(client);
    }
    job->open = job->issued - job->done;
}

static bool job_is_over(void)
{
    const struct job *job = &load.job;

    switch (job->kind) {
    case JOB_CONNECT:
    case JOB_HOLD:
    case JOB_RELEASE: return job->done >= job->count;
    case JOB_RUN:
        if (!job->open && !load.ring_len)
            return true; /* all have lost their connections */
        if (job->rate > 0 && job->issued < job->count && due() < job->until)
            return false; /* also where all clients are busy: it is late, not over */
        if (job->rate <= 0 && job->issued < job->count && now_ns() < job->until)
            return false;
        /* what was called says nothing more: the last ACK may be on its way */
        return !job->open && (load.crowd.counts.acked >= load.crowd.counts.called ||
                              now_ns() > job->ended + SECOND);
    case JOB_HANDSHAKE: return !job->open && (job->issued >= job->count || now_ns() >= job->until);
    default: return false;
    }
}

static void job_print(void)
{
    static const char *const methods[] = {"REGISTER", "OPTIONS", "INVITE", "BYE"};
    const struct job *job = &load.job;
    struct counts *counts = &load.crowd.counts;
    double seconds = (double)(job->ended - job->begun) / 1e9;
    uint64_t requests = 0;
    const char *comma = "";

    if (counts->acked < counts->called)
        mistake(&load.crowd, &load.clients[0], "an ACK did not come", (struct text){"", 0});
    for (unsigned i = 0; i < REQUEST_KINDS; i++)
        requests += counts->times[i].count;
    printf("{\"command\":\"%s\"", job->name);
    if (job->kind == JOB_RUN)
        printf(",\"what\":\"%s\",\"rate\":%.0f", whats[job->what], job->rate);
    printf(",\"clients\":%u,\"parallel\":%u,\"seconds\":%.4f,\"done\":%llu,\"requests\":%llu",
           job->clients, job->parallel, seconds, (unsigned long long)job->done,
           (unsigned long long)requests);
    printf(",\"per_second\":%.1f,\"calls\":%llu,\"failures\":%llu,\"resumed\":%llu",
           seconds > 0 ? (double)job->done / seconds : 0, (unsigned long long)counts->calls,
           (unsigned long long)job->failures, (unsigned long long)job->resumed);
    printf(",\"repeated\":%llu", (unsigned long long)counts->repeated);
    printf(",\"generator_cpu\":%.3f,\"mistakes\":%llu,\"mistake\":\"", cpu_seconds() - job->cpu,
           (unsigned long long)counts->mistakes);
    for (const char *p = counts->mistake; *p; p++)
        putchar(*p < ' ' || *p == '"' || *p == '\\' ? '?' : *p);
    printf("\",\"latency_us\":{");
    for (unsigned i = 0; i < REQUEST_KINDS; i++) {
        if (!counts->times[i].count)
            continue;
        printf("%s\"%s\":", comma, methods[i]);
        histogram_print(&counts->times[i], stdout);
        comma = ",";
    }
    if (load.connects.count) {
        printf("%s\"connection\":", comma);
        histogram_print(&load.connects, stdout);
    }
    printf("}}\n");
    fflush(stdout);
    memset(counts, 0, sizeof(*counts));
    histogram_clear(&load.connects);
    load.job = (struct job){.kind = JOB_NONE};
}

static void job_go_on(void)
{
    switch (load.job.kind) {
    case JOB_CONNECT: connect_go_on(); break;
    case JOB_RUN: run_go_on(); break;
    case JOB_HANDSHAKE: handshake_go_on(); break;
    case JOB_HOLD:
    case JOB_RELEASE: hold_go_on(); break;
    case JOB_NONE: return;
    }
    if (job_is_over())
        job_print();
}

static void late(struct client *client, uint64_t now)
{
    bool connecting = client->wire.state != WIRE_NONE && !client->is_ready;
    bool waiting = client->wire.state == WIRE_OPEN && client->pending.open;

    if (!(connecting && now > client->begun + load.timeout) &&
        !(waiting && now > client->pending.since + load.timeout))
        return;
    client->wire.why = connecting ? "not connected and registered in time" : "no answer";
    client->wire.state = WIRE_DEAD;
    connection_look(client);
}

/* Once a second: what has no answer for too long will get none. */
static void late_look(void)
{
    static uint64_t looked;
    const struct job *job = &load.job;
    uint64_t now = now_ns();

    if (now < looked + SECOND)
        return;
    looked = now;
    for (unsigned i = 0; i < load.client_count; i++)
        late(&load.clients[i], now);
    for (unsigned i = 0; i < SHAKERS_MAX; i++)
        late(&load.shakers[i], now);
    if (job->kind != JOB_NONE && job->kind != JOB_RUN && now > job->ended + 2 * load.timeout) {
        mistake(&load.crowd, &load.clients[0], "it does not go on", (struct text){"", 0});
        job_print();
    }
}

/* ---- commands ---- */

static double number_of(const char *line, const char *key, double otherwise)
{
    char with_space[32];
    const char *at;

    snprintf(with_space, sizeof(with_space), " %s=", key);
    at = strstr(line, with_space);
    return at ? strtod(at + strlen(with_space), NULL) : otherwise;
}

static bool what_of(const char *line, enum what *what)
{
    const char *at = strstr(line, " what=");

    for (unsigned i = 0; at && i < 4; i++)
        if (strncmp(at + 6, whats[i], strlen(whats[i])) == 0) {
            *what = (enum what)i;
            return true;
        }
    return false;
}

static unsigned held_count(void)
{
    unsigned count = 0;

    for (unsigned i = 0; i < load.client_count; i++)
        count += load.clients[i].held;
    return count;
}

static unsigned open_count(void)
{
    unsigned count = 0;

    for (unsigned i = 0; i < load.client_count; i++)
        count += load.clients[i].wire.state == WIRE_OPEN;
    return count;
}

static void drop_all(bool abort)
{
    for (unsigned i = 0; i < load.client_count; i++) {
        client_reset(&load.clients[i]);
        wire_drop(&load.clients[i].wire, abort);
        load.clients[i].is_ready = false;
    }
}

static void clients_add(unsigned count)
{
    for (; load.client_count < count; load.client_count++)
        client_init(&load.clients[load.client_count], &load.crowd, load.client_count);
}

static void job_begin(const char *line, enum job_kind kind, const char *name)
{
    double seconds = number_of(line, "seconds", 0);
    struct job job = {.kind = kind, .name = name};

    job.clients = (unsigned)number_of(line, "clients", load.client_count);
    job.parallel = (unsigned)number_of(line, "parallel", job.clients);
    job.count = (uint64_t)number_of(line, "count", seconds > 0 ? 1e18 : 0);
    job.rate = number_of(line, "rate", 0);
    job.registers = number_of(line, "register", 0) > 0;
    job.resumes = number_of(line, "resume", 0) > 0;
    job.cpu = cpu_seconds();
    job.begun = job.ended = now_ns();
    job.until = seconds > 0 ? job.begun + (uint64_t)(seconds * 1e9) : UINT64_MAX;
    load.job = job;
}

static void say(const char *error)
{
    printf("{\"error\":\"%s\"}\n", error);
    fflush(stdout);
}

static void command_connect(const char *line, bool storm)
{
    struct job *job = &load.job;

    job_begin(line, JOB_CONNECT, storm ? "storm" : "connect");
    job->clients = job->clients < CLIENTS_MAX ? job->clients : CLIENTS_MAX;
    if (!storm && !strstr(line, " parallel="))
        job->parallel = 64;
    job->registers |= storm;
    clients_add(job->clients);
    if (storm)
        drop_all(true);
    job->count = job->clients - open_count();
    for (unsigned i = 0; i < job->clients; i++)
        load.clients[i].retry_at = 0;
    job->begun = job->ended = now_ns();
}

static void command(const char *line)
{
    enum what what;

    if (strncmp(line, "stop", 4) == 0) {
        load.job.until = now_ns();
    } else if (load.job.kind != JOB_NONE) {
        say("busy");
    } else if (strncmp(line, "connect ", 8) == 0) {
        command_connect(line, false);
    } else if (strncmp(line, "storm", 5) == 0) {
        command_connect(line, true);
    } else if (strncmp(line, "run ", 4) == 0 && what_of(line, &what)) {
        job_begin(line, JOB_RUN, "run");
        load.job.what = what;
        ring_fill();
    } else if (strncmp(line, "handshake ", 10) == 0) {
        job_begin(line, JOB_HANDSHAKE, "handshake");
        load.job.parallel = (unsigned)number_of(line, "parallel", 16);
    } else if (strncmp(line, "hold ", 5) == 0) {
        job_begin(line, JOB_HOLD, "hold");
    } else if (strncmp(line, "release", 7) == 0) {
        job_begin(line, JOB_RELEASE, "release");
        load.job.count = held_count();
    } else if (strncmp(line, "state", 5) == 0) {
        printf("{\"command\":\"state\",\"open\":%u,\"mistakes\":%llu}\n", open_count(),
               (unsigned long long)load.crowd.counts.mistakes);
        fflush(stdout);
    } else if (strncmp(line, "drop", 4) == 0) {
        drop_all(false);
        printf("{\"command\":\"drop\",\"mistakes\":0}\n");
        fflush(stdout);
    } else {
        say("no such command");
    }
}

static void commands_read(void)
{
    ssize_t len = read(0, load.line + load.line_len, sizeof(load.line) - 1 - load.line_len);
    char *end;

    if (len <= 0) {
        load.ended = true;
        return;
    }
    load.line_len += (size_t)len;
    while ((end = memchr(load.line, '\n', load.line_len)) != NULL) {
        size_t size = (size_t)(end + 1 - load.line);
        *end = '\0';
        command(load.line);
        load.line_len -= size;
        memmove(load.line, load.line + size, load.line_len);
    }
}

/* ---- the loop ---- */

/* Until the next request should be sent. The timer's slack is 1 ns (main()). */
static struct timespec wait_time(void)
{
    const struct job *job = &load.job;
    uint64_t now = now_ns(), wait = SECOND / 20, at;

    if (job->kind == JOB_RUN && job->rate > 0 && load.ring_len && job->issued < job->count) {
        at = due();
        if (at < job->until)
            wait = at <= now ? 0 : at - now < wait ? at - now : wait;
    } else if (job->kind == JOB_RUN && load.ring_len && job->open < job->parallel &&
               job->issued < job->count && now < job->until) {
        wait = 0;
    } else if (job->kind == JOB_CONNECT && job->open < job->parallel &&
               job->open + job->done < job->count) {
        wait = SECOND / 1000;
    }
    return (struct timespec){.tv_sec = 0, .tv_nsec = (long)wait};
}

static void loop(int epoll)
{
    struct epoll_event events[EVENTS_MAX], event = {.events = EPOLLIN, .data.ptr = NULL};

    (void)epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &event);
    while (!load.ended) {
        struct timespec wait = wait_time();
        int count = epoll_pwait2(epoll, events, EVENTS_MAX, &wait, NULL);
        for (int i = 0; i < count; i++) {
            struct client *client = events[i].data.ptr;
            if (!client) {
                commands_read();
                continue;
            }
            wire_ready(&client->wire, events[i].events);
            connection_look(client);
            if (load.job.kind == JOB_RUN)
                run_go_on();
        }
        job_go_on();
        late_look();
    }
}

/* ---- start ---- */

static bool transport_set(const char *name)
{
    static const struct {
        const char *name, *via, *contact;
        bool tls, websocket;
    } transports[] = {
        {"tls", "TLS", "tls", true,  false},
        {"wss", "WSS", "ws",  true,  true },
        {"tcp", "TCP", "tcp", false, false},
        {"ws",  "WS",  "ws",  false, true },
    };

    for (unsigned i = 0; i < 4; i++) {
        if (strcmp(name, transports[i].name) != 0)
            continue;
        crowd_init(&load.crowd, "bench.test", transports[i].via, transports[i].contact);
        load.crowd.kind.websocket = transports[i].websocket;
        if (transports[i].tls) {
            load.crowd.kind.tls = wire_tls(true, NULL, NULL);
            SSL_CTX_sess_set_new_cb(load.crowd.kind.tls, ticket_came);
        }
        return true;
    }
    return false;
}

static int usage(void)
{
    fprintf(stderr, "usage: load [-s SOURCES] [-t TIMEOUT] tls|wss|tcp|ws ADDRESS PORT\n"
                    "Commands on standard input; see load.c.\n");
    return 2;
}

int main(int argc, char **argv)
{
    struct rlimit files;
    int option;

    load.sources = 20;
    load.timeout = 32 * SECOND;
    while ((option = getopt(argc, argv, "s:t:")) != -1) {
        switch (option) {
        case 's': load.sources = (unsigned)strtoul(optarg, NULL, 10); break;
        case 't': load.timeout = strtoul(optarg, NULL, 10) * SECOND; break;
        default: return usage();
        }
    }
    if (argc - optind != 3 || !load.sources || !transport_set(argv[optind]))
        return usage();
    load.server.sin_family = AF_INET;
    load.server.sin_port = htons((uint16_t)strtoul(argv[optind + 2], NULL, 10));
    if (inet_pton(AF_INET, argv[optind + 1], &load.server.sin_addr) != 1)
        return usage();

    (void)signal(SIGPIPE, SIG_IGN);
    (void)prctl(PR_SET_TIMERSLACK, 1);
    (void)getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &files);
    load.clients = calloc(CLIENTS_MAX, sizeof(*load.clients)); /* touched as they come */
    load.ring = calloc(CLIENTS_MAX, sizeof(*load.ring));
    if (!load.clients || !load.ring)
        return 1;
    for (unsigned i = 0; i < SHAKERS_MAX; i++) {
        client_init(&load.shakers[i], &load.crowd, i);
        load.shakers[i].is_shaker = true;
    }
    load.crowd.finished = finished;
    load.crowd.kind.client = true;
    load.crowd.kind.opened = opened;
    load.crowd.kind.message = client_message;
    load.crowd.kind.epoll = epoll_create1(EPOLL_CLOEXEC);
    loop(load.crowd.kind.epoll);
    drop_all(false);
    return 0;
}

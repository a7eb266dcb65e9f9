/* What the checks of the doctor share: what they know, and how they say what they found.
 *
 * Each file has one family of checks; the table in doctor.c has their order. What needs the network
 * is asked for all of them at once, names first, then backends: a check only reads answers.
 *
 * Ownership: strings given are copied. Out of memory is noted, and said at the end. */
#pragma once

#include <jansson.h>
#include <uv.h>

#include "doctor/doctor.h"
#include "proxy/core.h"
#include "proxy/dns.h"
#include "proxy/resolve.h"

enum {
    MACHINE_ADDRESSES_MAX = 64,
    QUESTIONS_MAX = 256,
    ASKS_MAX = 128,
    ASK_TEXT_SIZE = 128,
    ASK_BYTES = 8192,
    PROGRAM_TEXT = 64,
};

enum status {
    STATUS_OK,
    STATUS_WARNING, /* works, but should be looked at */
    STATUS_FAILED,
};

/* A question to the DNS about a name that clients use. */
struct question {
    enum dns_type type;
    char name[DNS_NAME_SIZE];
    bool answered;
    int err;
    struct dns_answer *answer; /* NULL: none */
};

/* One OPTIONS to one address of a backend, and what came of it. */
struct ask {
    struct core_addr to; /* CORE_UDP or CORE_TCP */
    unsigned backend;    /* of the configuration */
    bool advice;         /* not as configured: to know whether it would do */

    int fd;
    enum { ASK_CONNECTING, ASK_WAITING, ASK_ANSWERED, ASK_SILENT, ASK_FAILED } state;
    int err;                 /* ASK_FAILED: a negative errno; -EBADMSG: an answer that is none */
    struct core_addr from;   /* what the backend sees */
    unsigned mtu;            /* of the way there; 0: not known */
    uint64_t started, again; /* when, in ms of uv_hrtime(); when to send it again */
    unsigned pause_ms, number;
    size_t len;
    size_t scanned;
    char bytes[ASK_BYTES];

    /* ASK_ANSWERED */
    unsigned took_ms;
    int code;
    char reason[ASK_TEXT_SIZE], server[ASK_TEXT_SIZE]; /* printable; server "": it says none */
    bool lists_supported, supports_path;
    int64_t date_s; /* 0: none */
};

struct doctor {
    const struct doctor_options *options;
    struct conf *conf;
    json_t *checks;    /* what was found */
    const char *check; /* family of the check that runs */
    bool no_memory, failed;

    struct core_addr addresses[MACHINE_ADDRESSES_MAX]; /* of this machine; port 0 */
    unsigned address_count;
    pid_t running; /* a sipward with the same file; 0: none is seen */
    bool answers;  /* a sipward is at the admin address of the file */
    char answers_at[CORE_ADDR_TEXT];

    uv_loop_t loop;
    struct question questions[QUESTIONS_MAX];
    unsigned question_count;
    const struct resolve_result *backends[CONF_BACKENDS_MAX]; /* NULL: no answer in time */
    struct core_addr local4, local6; /* the core address; port 0: that family has none */
    bool core_taken;                 /* so OPTIONS go from another port */
    struct ask *asks;                /* ASKS_MAX */
    unsigned ask_count;
};

/* ---- report.c ---- */

/* Something was found. `id` is completed by the family's: "domain" is "names.domain". Control bytes
 * become '?'. */
void finding(struct doctor *doctor, enum status status, const char *id, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* What to do about what was found last: something that one can type or do. */
void remedy(struct doctor *doctor, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Each line of `text` as a failure. */
void findings_lines(struct doctor *doctor, const char *id, const char *text);
void report_text(const struct doctor *doctor, FILE *out);
void report_json(const struct doctor *doctor, FILE *out);

/* ---- doctor.c ---- */

const char *check_title(const char *family);

/* ---- machine.c ---- */

void machine_look(struct doctor *doctor);
/* How many the running sipward may have; 0: none is seen. */
unsigned long running_descriptors(const struct doctor *doctor);
bool machine_has(const struct doctor *doctor, const struct core_addr *addr); /* port aside */
bool addr_is_loopback(const struct core_addr *addr);
/* Of a network without a way to the internet of its own (RFC 1918, 6598, 4193, link-local). */
bool addr_is_private(const struct core_addr *addr);
void addr_host_text(const struct core_addr *addr, char text[CORE_ADDR_TEXT]); /* without port */
/* "10.0.0.2 and 2001:db8::2": of a family, loopback aside; 0: of both. "": none */
void machine_text(const struct doctor *doctor, int family, char *text, size_t size);

/* Who has a local port. */
struct taker {
    bool found; /* somebody has it */
    bool ours;  /* the running sipward with the same file, or one at its admin address */
    pid_t pid;  /* 0: not visible to this user */
    char program[PROGRAM_TEXT];
};
struct taker port_taker(const struct doctor *doctor, int type, const struct core_addr *addr);
/* "nginx (process 812)" */
enum { TAKER_TEXT = PROGRAM_TEXT + 64 };
void taker_text(const struct taker *taker, char text[TAKER_TEXT]);
/* Of one that is ours: "the sipward that runs (process 812)" */
void ours_text(const struct doctor *doctor, char text[TAKER_TEXT]);

/* ---- pbx.c ---- */

/* Which PBX a Server or User-Agent header is of; CONF_GENERIC: nobody knows. */
enum conf_profile pbx_recognise(const char *server);
const char *pbx_name(enum conf_profile profile);    /* "Asterisk" */
const char *pbx_keyword(enum conf_profile profile); /* as `profile` has it */
/* What to do where it refuses, or where nothing comes back. %1: where it should be,
 * "10.0.0.5:5060"; %2: "udp" or "tcp"; %3: sipward's address. */
void pbx_refused(struct doctor *doctor, enum conf_profile profile, const struct ask *ask);
void pbx_silent(struct doctor *doctor, enum conf_profile profile, const struct ask *ask);

/* ---- ask.c ---- */

/* Send all of doctor->asks and wait for the answers, a few seconds at the most. */
void asks_run(struct doctor *doctor);
const char *ask_transport(const struct ask *ask); /* "udp", "tcp" */

/* ---- the families of checks ---- */

/* What a sipward at work would do first: questions for the domain and its aliases. */
void names_ask(struct doctor *doctor);
void question_send(struct question *question, struct dns *dns);
void names_check(struct doctor *doctor);
void certificates_check(struct doctor *doctor);
void listeners_check(struct doctor *doctor);
/* The core addresses, and whether they are taken: before OPTIONS are sent. */
void core_find(struct doctor *doctor);
void core_check(struct doctor *doctor);
/* Make doctor->asks of what the backends' names came to. */
void backends_asks(struct doctor *doctor);
void backends_check(struct doctor *doctor);
void admin_ask(struct doctor *doctor); /* sets doctor->answers */
void admin_check(struct doctor *doctor);
void system_check(struct doctor *doctor);
bool listener_has_tls(const struct conf_listener *listener);
bool listener_has_websocket(const struct conf_listener *listener);
uint16_t listener_port_of(const struct conf_listener *listener);

/* The command line. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "conf/conf.h"
#include "doctor/doctor.h"
#include "healthcheck.h"
#include "machine.h"
#include "proxy/log.h"
#include "server.h"
#include "tls/certificate.h"
#include "tls/memory.h"

#define CONF_FILE "/etc/sipward/sipward.yaml"

enum { EXIT_FINE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

static const char help[] =
    "sipward " SIPWARD_VERSION ": phones on TLS and browsers on WSS reach your PBX\n"
    "\n"
    "Usage:\n"
    "  sipward FILE          run with this configuration, in the foreground\n"
    "  sipward check FILE    name every mistake in it, or print what it comes to\n"
    "  sipward doctor FILE [--json]\n"
    "                        try what it needs (names, certificates, ports, PBX),\n"
    "                        and say what is wrong and what helps\n"
    "  sipward --healthcheck [FILE]\n"
    "                        ask the sipward that runs with it whether it is well;\n"
    "                        without FILE: " CONF_FILE "\n"
    "  sipward --version, sipward --help\n"
    "\n"
    "While it runs, SIGHUP takes over what has changed in FILE, SIGTERM lets calls\n"
    "end and then stops it, Ctrl-C (SIGINT) stops it at once. It logs to standard\n"
    "error.\n"
    "\n"
    "Exit codes: 0 fine, 1 failed or not well, 2 wrong usage or configuration.\n"
    "\n"
    "The smallest useful FILE:\n"
    "  domain: sip.example.com\n"
    "  certificate:\n"
    "    chain: /etc/sipward/fullchain.pem\n"
    "    key: /etc/sipward/privkey.pem\n"
    "  listen:\n"
    "    - tls: 5061\n"
    "    - wss: 443\n"
    "  backends:\n"
    "    - udp:10.0.0.5:5060\n"
    "\n"
    "Every key: man sipward.yaml, or deploy/sipward.yaml beside the source.\n";

/* 0, or an exit code: mistakes were reported. */
static int load(const char *path, struct conf **conf)
{
    switch (conf_load(path, stderr, conf)) {
    case 0: return EXIT_FINE;
    case -ENOMEM: fprintf(stderr, "out of memory\n"); return EXIT_FAILED;
    default: return EXIT_USAGE;
    }
}

/* What is in the files of the certificates. 0, or an exit code: mistakes were reported. */
static int check_certificates(const struct conf *conf)
{
    struct certificates *certificates = NULL;
    struct certificates_options options = {.conf = conf, .errors = stderr};
    int err;

    if (!conf->certificate_count)
        return EXIT_FINE;
    err = pems_read(conf, &options.pems);
    if (!err)
        err = certificates_load(&options, &certificates);
    certificates_unref(&certificates);
    pems_free(&options.pems);
    return err ? EXIT_USAGE : EXIT_FINE;
}

static int check(const char *path)
{
    struct conf *conf = NULL;
    int result = load(path, &conf);

    if (result)
        return result;
    log_open((enum log_level)conf->log_level, conf->log_json);
    result = check_certificates(conf);
    if (!result)
        conf_print(conf, stdout);
    conf_free(&conf);
    if (fflush(stdout)) {
        fprintf(stderr, "can't write: %s\n", strerror(errno));
        result = EXIT_FAILED;
    }
    return result;
}

static int ask_health(const char *path)
{
    struct conf *conf = NULL;
    int result = load(path, &conf);

    if (result)
        return result;
    switch (healthcheck(conf)) {
    case HEALTHY: result = EXIT_FINE; break;
    case UNHEALTHY: result = EXIT_FAILED; break;
    case HEALTH_UNASKED: result = EXIT_USAGE; break;
    }
    conf_free(&conf);
    return result;
}

static int run(const char *path)
{
    struct conf *conf = NULL;
    int result;

    (void)tls_memory_use(); /* slower without, that is all */
    result = load(path, &conf);
    if (result)
        return result;
    log_open((enum log_level)conf->log_level, conf->log_json);
    result = machine_fit(conf, stderr) || server_run(conf) ? EXIT_FAILED : EXIT_FINE;
    conf_free(&conf);
    return result;
}

static unsigned connections_max(struct conf *conf)
{
    if (!conf->workers)
        conf->workers = machine_cores();
    return machine_connections_max(conf);
}

static int usage(const char *what, const char *which)
{
    fprintf(stderr, "sipward: %s%s; sipward --help shows how it is used\n", what, which);
    return EXIT_USAGE;
}

static int doctor(int argc, char **argv)
{
    struct doctor_options options = {.out = stdout, .connections_max = connections_max};

    for (int i = 0; i < argc; i++) {
        if (!strcmp(argv[i], "--json"))
            options.json = true;
        else if (options.path)
            return usage("doctor takes one FILE and --json, not also ", argv[i]);
        else
            options.path = argv[i];
    }
    if (!options.path)
        return usage("doctor takes one FILE", "");
    return doctor_run(&options);
}

/* The first option that the command doesn't have; NULL: none. */
static const char *unknown_option(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        bool known = i == 1 ? !strcmp(argv[1], "--healthcheck")
                            : !strcmp(argv[1], "doctor") && !strcmp(argv[i], "--json");

        if (argv[i][0] == '-' && !known)
            return argv[i];
    }
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return usage("a configuration file is missing", "");
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            fputs(help, stdout);
            return EXIT_FINE;
        }
    }
    if (argc == 2 && (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V"))) {
        puts("sipward " SIPWARD_VERSION);
        return EXIT_FINE;
    }
    if (unknown_option(argc, argv))
        return usage("unknown option ", unknown_option(argc, argv));
    if (!strcmp(argv[1], "doctor"))
        return doctor(argc - 2, argv + 2);
    if (!strcmp(argv[1], "--healthcheck")) {
        if (argc > 3)
            return usage("--healthcheck takes one FILE at most", "");
        return ask_health(argc == 3 ? argv[2] : CONF_FILE);
    }
    if (!strcmp(argv[1], "check")) {
        if (argc != 3)
            return usage("check takes one FILE", "");
        return check(argv[2]);
    }
    if (argc != 2)
        return usage("one FILE at a time, not also ", argv[2]);
    return run(argv[1]);
}

/* The listeners of one worker, and their change to those of another configuration: one of the same
 * address keeps its socket, and with it who is waiting there.
 *
 * Ownership: a configuration is borrowed from listeners_open() or _take() to the next _take().
 * Threads:   one worker's. The loop must run once more after one is closed. */
#pragma once

#include <stdio.h>

#include "proxy/core.h"
#include "tls/listener.h"

struct listeners {
    struct listener_options options; /* but for the listener itself */
    const struct conf *conf;         /* that `now` is of; NULL: closed, and stays so */
    struct listener *now[CONF_LISTENERS_MAX];
    struct listener *next[CONF_LISTENERS_MAX]; /* prepared; NULL: `now` has it, or nothing is */
};

/* Whether each can be had by one program alone (listener_probe()), but for those of a port that the
 * configuration that runs has as well (NULL: none does). -EADDRINUSE, ...: each mistake is a line
 * on `errors`, with its remedy. For the main thread. */
int listeners_probe(const struct conf *conf, const struct conf *running, FILE *errors);
enum { LISTENER_TEXT = CORE_ADDR_TEXT };
/* "443" or "192.0.2.1:443". */
void listener_text(const struct conf_listener *listener, char text[LISTENER_TEXT]);

/* All or none; each mistake is a line on `errors`. As listener_open(). */
int listeners_open(struct listeners *listeners, const struct conf *conf, FILE *errors);
int listeners_start(struct listeners *listeners); /* accept. -ENOMEM */
/* Open what another configuration has and this one has not: nothing is accepted there yet. As
 * listeners_open(); after an error nothing is prepared. */
int listeners_prepare(struct listeners *listeners, const struct conf *conf, FILE *errors);
/* It is this one from here on. What it has not is closed, but for the connections there. */
void listeners_take(struct listeners *listeners, const struct conf *conf);
void listeners_forget(struct listeners *listeners); /* what was prepared */
void listeners_close(struct listeners *listeners);

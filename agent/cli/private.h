/* private.h - an agent of our own for `dyno local` and `dyno run`: a `dynod --local DIR` that is
 * gone, with its dynos and its directory, when we are. It watches its stdin, which we hold, so it
 * ends even when we are killed. */
#ifndef CLI_PRIVATE_H
#define CLI_PRIVATE_H

#include "base/err.h"

#include <stdbool.h>

#define PRIVATE_START_MS 30000 /* until its socket answers */
#define PRIVATE_STOP_MS  60000 /* for stopping its dynos, once told; then it is killed */

struct private_agent;

/* Starts it and waits until it answers. Blocked signals: it starts with none blocked. While it
 * starts, a signal that CANCEL_FD (a signalfd, or -1) has makes this -EINTR. The error carries what
 * it wrote to its log. */
int private_start(int cancel_fd, struct private_agent **ret, struct err *e);

const char *private_socket(const struct private_agent *p);
/* A pidfd: readable when the agent ended by itself, which it should not. */
int private_pidfd(const struct private_agent *p);
/* The end of its log, for the error after an end of its own; "" when there is none. The caller's;
 * NULL without memory. */
char *private_log(const struct private_agent *p);

/* Has it stop what runs, waits for its end, and removes the directory. An agent that had died
 * is started once more for this: what it left running is its to stop. */
int private_stop(struct private_agent **p, struct err *e);

#endif

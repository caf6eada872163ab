/* attach.h - the near end of a command that runs in a dyno: its terminal or its pipes, signals, and
 * its exit status. Blocks until the command has ended and all it wrote was passed on. */
#ifndef CLI_ATTACH_H
#define CLI_ATTACH_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>

/* A PTY when both stdin and stdout are terminals, unless told otherwise. */
enum attach_tty { ATTACH_TTY_AUTO, ATTACH_TTY_FORCE, ATTACH_TTY_NEVER };
bool attach_wants_tty(enum attach_tty mode);

/* Puts "tty": {"rows", "cols", "term"} into SPEC. -ENOMEM. */
int attach_describe_tty(json_t *spec, struct err *e);

/* Blocks the signals that attach_run() takes: call it before the request, so that none of them ends
 * this process while the command is being started. */
void attach_block_signals(bool tty);

/* SOCK (taken) is what client_upgrade() gave. Returns 0 with the status as a shell has it, 128 + n
 * for a signal, the command's or one that ended us. What the agent says about a command that never
 * ran is told on stderr here. -EPIPE: the agent went away and the status is not known. */
int attach_run(int sock, bool tty, int *ret_status, struct err *e);

#endif

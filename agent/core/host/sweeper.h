/* sweeper.h - removing trees that dynos wrote, out of the loop: a rename takes them out of sight at
 * once, a child process removes them in its own time. */
#ifndef CORE_SWEEPER_H
#define CORE_SWEEPER_H

#include "base/err.h"

#include <stdbool.h>
#include <systemd/sd-event.h>

struct sweeper;

/* TRASH_PATH is a directory of the sweeper's own, on the filesystem of all it will be given; made
 * if missing. What an earlier agent left in it goes first. */
int sweeper_open(sd_event *loop, const char *trash_path, struct sweeper **ret, struct err *e);
void sweeper_freep(struct sweeper **s);

/* All that it was given has been removed. */
bool sweeper_idle(const struct sweeper *s);

/* NAME below DIRFD is gone when this returns 0 (a missing one too). */
int sweeper_take(struct sweeper *s, int dirfd, const char *name, struct err *e);

#endif

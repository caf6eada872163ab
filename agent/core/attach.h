/* attach.h - a client's hold on a command: a one-off's main command, or an exec. Its bytes never
 * pass through the agent; what does is its start, its end, and its client's going away (SIGHUP at
 * 0, 5, 10 s, R16 at 15). */
#ifndef CORE_ATTACH_H
#define CORE_ATTACH_H

#include "core/agent.h"
#include "core/run/run.h"

struct dyno;

/* A one-off's client; dyno->attach is set. */
int attach_new_oneoff(struct dyno *d, const struct attach_ops *ops, void *userdata,
                      struct attach **ret, struct err *e);
/* An exec's client; TOKEN of run_exec(). */
int attach_new_exec(struct dyno *d, uint32_t token, const struct attach_ops *ops, void *userdata,
                    struct attach **ret, struct err *e);

/* FDS is taken. NULL AT: nobody is there any more, they are closed. */
void attach_started(struct attach *at, struct run_attach_fds *fds);
/* STATUS as a shell has it; WHY: it never ran. The attach is freed. NULL AT is fine. */
void attach_ended(struct attach *at, int status, const struct err *why);

/* The agent goes: no callback after this, and no SIGHUP either. NULL is fine. */
void attach_abandon(struct attach *at);

/* Every process of RUN is gone: so are its execs that nobody told of. */
void attach_run_over(const struct run *run);

struct attach *attach_find_exec(const struct run *run, uint32_t token);

#endif

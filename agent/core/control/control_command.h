/* control_command.h - one command on its way, for what carries it out. control.c, control_ops.c
 * only. */
#ifndef CORE_CONTROL_COMMAND_H
#define CORE_CONTROL_COMMAND_H

#include "core/control/control_priv.h"

struct command {
    struct agent *agent;
    const char *store;
    const json_t *json;
    const char *id, *op; /* "" where there is none */
    uint64_t generation; /* 0: none */
    struct change_limits limits;
    struct change change; /* what it comes to, its answer, the code of a refusal */
};

/* The "by" of the journal entries of C. FULL: with that entry the command is settled. NULL: no
 * memory. */
json_t *command_by(const struct command *c, bool full);
/* Puts it down in the journal with nothing else: OUTCOME is "done" or "refused". */
int command_settle(const struct command *c, const char *outcome, struct err *e);
/* Applies its change's entries, which are tried as a whole before the first; the last settles it.
 */
int command_apply(const struct command *c, struct err *e);

/* --- control_ops.c: each checks its fields, does it and settles it --- */

int control_run(struct command *c, struct err *e);
/* Settled when the fetch has begun; its failure is told by a notice. */
int control_prefetch(struct command *c, struct err *e);
int control_drain(struct command *c, struct err *e);
int control_undrain(struct command *c, struct err *e);

#endif

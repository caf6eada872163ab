/* control.h - a controller's commands (docs/protocol.md, "Commands"): which of them still count,
 * and what each comes to as a change of the desired state. Whoever carried one out and died in the
 * middle is asked again: each compares with what is there, so that doing it twice does nothing. */
#ifndef CORE_CONTROL_H
#define CORE_CONTROL_H

#include "core/agent.h"
#include "core/state/model.h"

/* --- Numbering. Pure. --- */

enum control_verdict {
    CONTROL_APPLY,
    CONTROL_DUPLICATE,   /* its id is settled */
    CONTROL_STALE,       /* its generation is not above the last one settled */
    CONTROL_WRONG_STORE, /* another store is obeyed */
};

/* NOW: whom the agent obeys. OUTCOME: what model_command_outcome() says about ID. REPLACES: the
 * store that this one says it replaces ("sync" only); NULL: none.
 *
 * The store comes first: another store's ids and generations say nothing about ours. */
enum control_verdict control_judge(const struct control *now, const char *outcome,
                                   const char *store, uint64_t generation, const char *replaces);

/* --- What a command comes to. Pure: reads the model, changes nothing. --- */

/* What a command comes to. */
struct change {
    json_t *entries;  /* for the journal, in this order, without their "by" */
    json_t *answer;   /* NULL: nothing to say */
    const char *code; /* of a refusal, as the protocol has it; NULL: see change_code() */
};

struct change_limits {
    const struct config *config; /* dynos_max, sizes, which slugs */
    bool draining;
};

/* COMMAND: one of start, stop, restart, scale, sync. *ret: for change_done(), also after
 * an error, which is a refusal when it is the operator's fault. */
int change_command(const struct model *m, const struct change_limits *limits, const json_t *command,
                   struct change *ret, struct err *e);
void change_done(struct change *p);
/* "bad-command", "limit", …: what to call the refusal E. */
const char *change_code(const struct change *p, const struct err *e);
/* A refusal under a name of its own. */
int change_refuse(struct change *p, const char *code, struct err *e, int errnum, const char *fmt,
                  ...) __attribute__((format(printf, 5, 6)));
/* What is wrong with N more wanted dynos, if anything. */
int change_room(struct change *p, const struct model *m, const struct change_limits *limits,
                size_t more, struct err *e);

/* --- Carrying out --- */

/* COMMAND of STORE, as it came. Returns the RESULT (docs/protocol.md) with "settled"
 * (linkproto.h); NULL: no memory. */
json_t *control_command(struct agent *a, const char *store, const json_t *command);

#endif

/* audit.h - the record of who entered what: an event "enter" for every command that somebody has
 * run in a dyno or as a one-off, "leave" for the end of one in a dyno (a one-off's end is an
 * "exit"). Both also go to the agent's own log, which the machine keeps where no caller of the API
 * can change it. The command's words are recorded, its environment is not: that holds config vars.
 */
#ifndef CORE_AUDIT_H
#define CORE_AUDIT_H

#include "base/err.h"
#include "base/name.h"

#include <jansson.h>
#include <stdint.h>
#include <sys/types.h>

#define AUDIT_COMMAND_MAX 1000 /* bytes of the command that are kept */

struct agent;

/* Who asks: the peer of the local API's socket, as the kernel says (SO_PEERCRED, unix(7)). */
struct caller {
    uid_t uid;
    pid_t pid; /* when it connected; it may be another's by now. 0: of another PID namespace */
};

/* NAME was entered by an exec: SPEC as of agent_exec(), TOKEN names it within the dyno. */
void audit_exec(struct agent *a, const struct dyno_name *name, uint32_t token, const json_t *spec,
                const struct caller *caller);
/* The one-off NAME was started for CALLER, or for the controller's command BY (model.h). One of the
 * two is NULL. SPEC as of agent_run(). */
void audit_run(struct agent *a, const struct dyno_name *name, const json_t *spec,
               const struct caller *caller, const json_t *by);
/* The exec TOKEN is over: STATUS as a shell has it. WHY: it never ran. */
void audit_leave(struct agent *a, const struct dyno_name *name, uint32_t token, int status,
                 const struct err *why);

#endif

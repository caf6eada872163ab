/* agent_open.h - the agent's birth and death, for main.c. */
#ifndef CORE_AGENT_OPEN_H
#define CORE_AGENT_OPEN_H

#include "core/agent.h"

/* Opens everything the agent needs, adopts what an earlier one left, and acts on the desired state.
 * Must be single-threaded. CONFIG is copied. The error names what is missing. */
int agent_open(sd_event *loop, const struct config *config, bool rootless, struct agent **ret,
               struct err *e);
/* Frees it; dynos run on, for the next agent. */
void agent_freep(struct agent **a);
/* Stops every dyno, then ends the loop (sd_event_exit 0): for local mode, whose dynos are nobody's
 * after it. */
void agent_shutdown(struct agent *a);

#endif

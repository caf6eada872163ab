/* claims.h - which uids and ports the agents of one machine have, so that no two have the same:
 * dynos of two agents that are one user could reach each other, and a port leads to one of them.
 *
 * Each agent has a file in a directory that all share (claims_dir), locked while it lives, so one
 * that was left behind is told from one that is in use. What a dead agent's dynos may still have
 * counts: its runtime directory tells whether some are left. As root only: an ordinary user's dynos
 * are all that user. Networks' addresses are compared with what the kernel has (isolate/net.h). */
#ifndef CORE_CLAIMS_H
#define CORE_CLAIMS_H

#include "base/err.h"

#include <sys/types.h>

/* Texts are borrowed for the call. */
struct claims {
    const char *dir; /* "": nothing is claimed, and nobody asked */
    const char *state_dir, *runtime_dir;
    uid_t uid_first, uid_last;
    unsigned port_first, port_last; /* of the network namespace that the caller is in */
};

/* Claims C; *ret_fd holds it and is the caller's; -1 without a directory. -EADDRINUSE, the
 * operator's fault: another agent of this machine has a part of it. E says whose it is. May wait
 * 2 s for another one that does the same. */
int claims_take(const struct claims *c, int *ret_fd, struct err *e);
/* Another agent's that overlaps, as claims_take() has it: for one who holds C. Changes nothing. */
int claims_check(const struct claims *c, struct err *e);
/* For one who ends: the claim goes, unless there are runs. */
void claims_drop(const struct claims *c);

#endif

/* helper.h - starting the agent's helper programs with as little as they need. */
#ifndef CORE_HELPER_H
#define CORE_HELPER_H

#include "base/err.h"
#include "isolate/cgroup.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

struct helper {
    const char *path;
    char *const *argv; /* NULL-terminated */
    uid_t uid;         /* become this user; (uid_t)-1: stay (rootless) */
    int fd3;           /* becomes its fd 3; -1: none. Borrowed */
    int fd4;           /* fd 4 */
    /* CLONE_NEW*: namespaces of its own. It makes all but the pid namespace itself: a network
     * namespace takes its time. With a mount namespace no mount of its own reaches others. */
    unsigned namespaces;
    struct cgroup *cgroup; /* joined before anything else happens; NULL: ours. Borrowed */
    uint64_t data_max;     /* bytes of memory of its own (RLIMIT_DATA); 0: no limit */
    bool low;              /* others come first */
};

/* Starts it: fd 0 a socketpair whose other end is *ret_sock (the caller's), fd 1 /dev/null, fd 2
 * ours, nothing else open but fd3 and fd4; an empty environment but PATH; its own session.
 * *ret_pidfd is the caller's too. */
int helper_spawn(const struct helper *h, int *ret_sock, int *ret_pidfd, struct err *e);

/* Kills the child behind PIDFD (taken) if it still runs, and has the loop reap it. */
void helper_dispose(sd_event *loop, int pidfd);

/* Waits up to a second for the child behind PIDFD (taken) to end by itself, kills it if it does
 * not, reaps it. For the agent's own end: the loop does not run any more. */
void helper_join(int pidfd);

/* The same, to be decided on: true when it has ended with status 0. */
bool helper_ended_well(int pidfd, char *out, size_t cap);

/* Reaps the child behind PIDFD if it has ended: words for a log, "exited with status 1", into OUT.
 */
void helper_reap(int pidfd, char *out, size_t cap);

#endif

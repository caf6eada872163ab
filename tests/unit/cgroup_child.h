/* cgroup_child.h - a process that joins a cgroup as a dyno's does. */
#ifndef TESTS_CGROUP_CHILD_H
#define TESTS_CGROUP_CHILD_H

#include "isolate/cgroup.h"

#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

/* A child in the cgroup that runs FN. The test ends it. */
static inline pid_t start_in(struct cgroup *c, void (*fn)(void))
{
    struct cgroup_join join;
    struct err e = ERR_INIT;

    if (cgroup_join_prepare(c, &join, &e) < 0)
        fail_msg("%s", e.text);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (size_t i = 0; i < join.n_tasks; i++)
            if (write(join.tasks[i], "0", 1) != 1)
                _exit(99);
        fn();
        _exit(0);
    }
    cgroup_join_done(&join);
    return pid;
}

#endif

/* steps.c - what the child does between clone and execve. No memory is allocated and no lock taken:
 * it may share the
 * agent's memory, which it must leave as it is. */
#include "base/fdio.h"
#include "base/scoped.h"
#include "isolate/initproto.h"
#include "isolate/kernel.h"
#include "isolate/sandbox_impl.h"
#include "isolate/seccomp.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <sys/utsname.h>

#define FD_ASIDE 64 /* above every target: where descriptors wait while the targets fill up */

enum { FD_INIT = INIT_FD_COUNT, FD_REPORT, FD_FIRST_CLOSED };

static int step_cgroups(struct start *st, struct err *e)
{
    for (size_t i = 0; i < st->join.n_tasks; i++)
        if (write(st->join.tasks[i], "0", 1) < 0)
            return err_set(e, errno, "join");
    return 0;
}

static int step_network(struct start *st, struct err *e)
{
    if (st->plan->netns_fd < 0)
        return 0;
    return setns(st->plan->netns_fd, CLONE_NEWNET) < 0 ? err_set(e, errno, "setns") : 0;
}

int step_hostname(struct start *st, struct err *e)
{
    size_t len = 0;

    while (st->plan->hostname[len] != '\0')
        len++;
    return sethostname(st->plan->hostname, len) < 0 ? err_set(e, errno, "sethostname") : 0;
}

static int step_descriptors(struct start *st, struct err *e)
{
    const struct plan *p = st->plan;
    int from[FD_FIRST_CLOSED] = {
        [INIT_FD_STDIN] = p->stdio[0] >= 0 ? p->stdio[0] : st->s->null_fd,
        [INIT_FD_STDOUT] = p->stdio[1] >= 0 ? p->stdio[1] : p->log_write,
        [INIT_FD_STDERR] = p->stdio[2] >= 0 ? p->stdio[2] : p->log_write,
        [INIT_FD_CTL] = p->ctl_fd,
        [INIT_FD_LISTEN] = p->listen_fd,
        [INIT_FD_RECORD] = p->record_fd,
        [INIT_FD_LAUNCH] = st->spare ? st->s->null_fd : p->launch_fd,
        [INIT_FD_LOG] = p->log_read,
        [FD_INIT] = st->s->init_fd,
        [FD_REPORT] = st->report,
    };

    /* Twice, because one's target may be where another still lies. */
    for (int i = 0; i < FD_FIRST_CLOSED; i++) {
        from[i] = fcntl(from[i], F_DUPFD_CLOEXEC, FD_ASIDE);
        if (from[i] < 0)
            return err_set(e, errno, "set descriptor %d aside", i);
    }
    st->report = from[FD_REPORT]; /* reachable at every moment */
    for (int i = 0; i < FD_FIRST_CLOSED; i++)
        if (dup3(from[i], i, i < INIT_FD_COUNT ? 0 : O_CLOEXEC) < 0)
            return err_set(e, errno, "place descriptor %d", i);
    st->report = FD_REPORT;
    return k_close_range(FD_FIRST_CLOSED, ~0u) < 0 ? err_set(e, errno, "close the rest") : 0;
}

static int step_seccomp(struct start *st, struct err *e)
{
    int r = filter_load(&st->s->filter);

    return r < 0 ? err_set(e, -r, "load the filter") : 0;
}

static int step_execute(struct start *st, struct err *e)
{
    char name[] = "dyno-init", spare[] = INIT_SPARE_ARG, dressed[] = INIT_DRESSED_ARG;
    char *how = !st->spare ? NULL : st->dressed ? dressed : spare;
    char *argv[] = {name, how, NULL}, *envp[] = {NULL};

    (void)syscall(SYS_execveat, FD_INIT, "", argv, envp, AT_EMPTY_PATH);
    return err_set(e, errno, "dyno-init");
}

/* The order is the sandbox. Each step says what it must come before, or after, and why. */
static const struct step {
    const char *name;
    int (*run)(struct start *st, struct err *e);
    /* Not before this is known. A spare has it done when it is taken. */
    enum { NOTHING, THE_SLUG, THE_NAME } needs;
} steps[] = {
    /* First: all that follows is accounted to the dyno, and the cgroup namespace is rooted here. */
    {"join the cgroups", step_cgroups, NOTHING},
    /* While we have the power to. From here on nothing of the host's network is in reach. */
    {"join the network", step_network, NOTHING},
    /* In the agent's mount namespace: a user namespace may mount a proc only where one is seen. */
    {"make /proc", step_proc, NOTHING},
    /* Then no path leads to the host's files any more. */
    {"enter the root", step_namespaces, NOTHING},
    {"mount the files", step_files, NOTHING},
    {"mount the slug", step_slug, THE_SLUG}, /* after the scratch, which has its upper layer */
    {"mount the devices", step_devices, NOTHING},
    {"mask /proc", step_mask_proc, NOTHING},        /* after it is mounted */
    {"set the host name", step_hostname, THE_NAME}, /* these two while we have the power to */
    {"reset the OOM score", step_oom_score, NOTHING},
    {"reset the scheduling", step_scheduling, NOTHING},
    {"switch user", step_user, NOTHING}, /* after the mounts, of the outer user namespace */
    /* In the dyno's user namespace, which is where its processes are counted. */
    {"set the limits", step_limits, NOTHING},
    {"drop the capabilities", step_capabilities, NOTHING}, /* after the last that needs one */
    {"set no-new-privileges", step_no_new_privs, NOTHING}, /* the filter and landlock ask for it */
    /* After the mounts; it forbids any change of them. A spare that gets its slug late only gets
     * the rules: it has to enter them itself, when it is taken, and does so before anything else.
     */
    {"enter landlock", step_landlock, THE_SLUG},
    {"reset what is inherited", step_inherited, NOTHING},
    {"arrange the descriptors", step_descriptors, NOTHING}, /* late: steps use the agent's */
    {"load the seccomp filter", step_seccomp, NOTHING},     /* last: it forbids the rest */
    {"execute", step_execute, NOTHING},
};

/* A spare has to be taken before it can have it. */
static bool is_late(const struct start *st, const struct step *step)
{
    return st->spare && (step->needs == THE_NAME || (step->needs == THE_SLUG && !st->dressed));
}

/* Those that are late, or the others; of a fresh start there are none but others. */
static int run_all(struct start *st, bool late, struct err *e)
{
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
        if (is_late(st, &steps[i]) == late && steps[i].run(st, e) < 0)
            return err_wrap(e, "%s", steps[i].name);
    return 0;
}

int steps_fit(struct start *st, struct err *e)
{
    return run_all(st, true, e);
}

_Noreturn void steps_run(struct start *st)
{
    struct err e = ERR_INIT;

    (void)run_all(st, false, &e);
    /* One write below PIPE_BUF is one piece. The reader gone: nobody to tell. */
    (void)write(st->report, &e, sizeof(e));
    _exit(1);
}

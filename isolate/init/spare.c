/* spare.c - a dyno-init that was made ahead waits to be told what to run. Nothing of an app is in
 * its sandbox before that; all steps of the sandbox are done when it is told. */
#include "isolate/init/init.h"
#include "isolate/init/sys.h"

#include <linux/futex.h>
#include <linux/resource.h>
#include <linux/sched.h>
#include <linux/signal.h>

static void close_from(const int *fds, long first, long n)
{
    for (long i = first; i < n; i++)
        (void)sys1(__NR_close, fds[i]);
}

static bool limit_procs(uint32_t procs)
{
    struct rlimit64 limit;

    if (procs == 0)
        return true;
    if (sys4(__NR_prlimit64, 0, RLIMIT_NPROC, NULL, &limit) < 0)
        return false;
    if (limit.rlim_max > procs)
        limit.rlim_max = procs;
    limit.rlim_cur = limit.rlim_max;
    return sys4(__NR_prlimit64, 0, RLIMIT_NPROC, &limit, NULL) == 0;
}

/* Puts what came where a dyno-init that is no spare finds it. */
static bool place(struct init *in, const struct init_request *req, int *fds, long n)
{
    bool rules = req->token & INIT_TAKE_RULES, stdio = req->token & INIT_TAKE_STDIO;
    int *from = fds + 2 + rules;

    if (!limit_procs(req->reserved[0]))
        return false;
    if (n != 2 + rules + (stdio ? 3 : 0) ||
        (rules && sys2(__NR_landlock_restrict_self, fds[2], 0) < 0) ||
        sys3(__NR_dup3, fds[0], INIT_FD_LAUNCH, 0) < 0)
        return false;
    for (int i = INIT_FD_STDIN; stdio && i <= INIT_FD_STDERR; i++)
        if (sys3(__NR_dup3, from[i], i, 0) < 0)
            return false;
    in->identity = fds[1];
    (void)sys1(__NR_close, fds[0]);
    close_from(fds, 2, n);
    return true;
}

/* A dressed one has entered landlock, and has the limits that it will have: what PID 1 does not
 * share with the process that waits must not be left to that. */
static bool place_dressed(struct init *in, const struct init_request *req, int *fds, long n)
{
    return !(req->token & INIT_TAKE_RULES) && req->reserved[0] == 0 && place(in, req, fds, n);
}

static bool wait_for_take(struct init *in, bool dressed)
{
    for (;;) {
        struct init_request req = {0};
        int fds[REQUEST_FDS];
        long got = 0;
        long n = agent_receive(INIT_FD_CTL, 0, &req, fds, &got);

        if (n == -EINTR)
            continue;
        if (n <= 0)
            return false; /* the agent went, or has no use for us */
        if (n == sizeof(req) && req.version == INIT_PROTO_VERSION && req.kind == INIT_TAKE)
            return dressed ? place_dressed(in, &req, fds, got) : place(in, &req, fds, got);
        close_from(fds, 0, got);
    }
}

bool spare_wait(struct init *in)
{
    return wait_for_take(in, false);
}

/* What a waiting process and its parent, PID 1, have in common. */
struct waiting {
    struct init *in;
    struct command *command;
    uint32_t alive; /* the kernel clears it when the process executes something, or ends */
    bool taken;
    int failed;
};

/* A SIGTERM that came before was not meant for the command. */
static void forget_sigterm(void)
{
    static const unsigned long ignore[4] = {1}, fallback[4] = {0};

    (void)sys4(__NR_rt_sigaction, SIGTERM, ignore, NULL, sizeof(uint64_t));
    (void)sys4(__NR_rt_sigaction, SIGTERM, fallback, NULL, sizeof(uint64_t));
}

static void wait_and_become(void *arg)
{
    struct waiting *w = arg;

    if (wait_for_take(w->in, true)) {
        forget_sigterm();
        w->in->started_usec = init_now();
        w->taken = true;
        w->failed = command_become(w->command);
    }
    for (;;)
        (void)sys1(__NR_exit_group, 127);
}

/* Not as vfork(2), whose parent would count as load for as long as it waits. */
bool spare_wait_dressed(struct init *in, struct command *c, int *ret)
{
    static struct waiting w;

    w = (struct waiting){.in = in, .command = c, .alive = 1};
    long pid =
        command_clone(CLONE_VM | CLONE_FILES | CLONE_CHILD_CLEARTID, wait_and_become, &w, &w.alive);
    if (pid < 0)
        return false;
    while (__atomic_load_n(&w.alive, __ATOMIC_ACQUIRE) != 0)
        (void)sys6(__NR_futex, (long)&w.alive, FUTEX_WAIT, 1, 0, 0, 0);
    if (!w.taken)
        return false;
    if (w.failed < 0)
        (void)sys4(__NR_wait4, pid, NULL, 0, NULL);
    command_became(c, w.failed);
    c->pid = w.failed < 0 ? 0 : (int)pid;
    *ret = w.failed;
    return true;
}

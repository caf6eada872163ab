/* spare.c - a dyno-init that was made ahead waits to be told what to run. Nothing of an app is in
 * its sandbox before that; all steps of the sandbox are done when it is told. */
#include "isolate/init/init.h"
#include "isolate/init/sys.h"

#include <linux/resource.h>

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

bool spare_wait(struct init *in)
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
            return place(in, &req, fds, got);
        close_from(fds, 0, got);
    }
}

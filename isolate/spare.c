/* spare.c - taking a sandbox that was made ahead: the steps that it has not had, and its command.
 */
#include "base/fdio.h"
#include "base/scoped.h"
#include "isolate/initproto.h"
#include "isolate/kernel.h"
#include "isolate/sandbox_impl.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>

#define TAKE_FDS_MAX 6    /* launch record, identity, landlock's rules, stdio */
#define BACK_TRIES   1000 /* to get the few bytes that leaving a namespace takes */

struct fitting {
    struct start start;
    int pidfd; /* of the spare */
    bool resize;
};

bool spare_fits(const struct spare_cut *cut, const struct limits *limits, int slug_fd)
{
    const struct limits *made = &cut->limits;
    struct stat root;

    if (cut->dressed)
        return limits_equal(made, limits) && slug_fd >= 0 && fstat(slug_fd, &root) == 0 &&
               root.st_dev == cut->slug_dev && root.st_ino == cut->slug_ino;
    return made->disk_bytes == limits->disk_bytes && made->disk_inodes == limits->disk_inodes &&
           made->rate_bits == limits->rate_bits && made->open_files == limits->open_files &&
           made->io_weight == limits->io_weight;
}

static int fit(void *arg, struct told *told)
{
    struct fitting *f = arg;
    struct err *e = &told->err;
    int r = 0;

    if (setns(f->pidfd, CLONE_NEWNS | CLONE_NEWUTS) < 0)
        r = err_set(e, errno, "enter the spare sandbox");
    if (r == 0 && f->resize)
        r = step_resize_shm(&f->start, e);
    if (r == 0)
        r = steps_fit(&f->start, e);
    told->fd[0] = f->start.rules;
    return r;
}

static int run_fitter(struct fitting *f, struct err *e)
{
    int r = errand_run(f->start.s, 0, fit, f, "what fits a spare sandbox", e);

    f->start.rules = f->start.s->told->fd[0];
    return r;
}

static int send_take(const struct start *st, int ctl_fd, int identity_fd, struct err *e)
{
    const struct plan *p = st->plan;
    struct init_request request = {.version = INIT_PROTO_VERSION, .kind = INIT_TAKE};
    uint64_t pids = p->limits.procs_max ? p->limits.procs_max : p->limits.pids;
    uint64_t procs = pids ? pids + 1 : 0; /* as step_limits() */
    int fds[TAKE_FDS_MAX] = {p->launch_fd, identity_fd};
    size_t n = 2;

    if (!st->dressed) /* which has it already */
        request.reserved[0] = procs < UINT32_MAX ? (uint32_t)procs : 0;
    if (st->rules >= 0) {
        request.token |= INIT_TAKE_RULES;
        fds[n++] = st->rules;
    }
    if (p->stdio[0] >= 0 || p->stdio[1] >= 0 || p->stdio[2] >= 0) {
        request.token |= INIT_TAKE_STDIO;
        fds[n++] = p->stdio[0] >= 0 ? p->stdio[0] : st->s->null_fd;
        fds[n++] = p->stdio[1] >= 0 ? p->stdio[1] : p->log_write;
        fds[n++] = p->stdio[2] >= 0 ? p->stdio[2] : p->log_write;
    }
    ssize_t sent = fd_send(ctl_fd, &request, sizeof(request), fds, n);
    return sent < 0 ? err_set(e, (int)-sent, "tell the spare what to run") : 0;
}

/* The host name alone needs no process. This one is in another's UTS namespace meanwhile; nobody
 * sees that but a child that it would make now. */
static int name_in_place(struct fitting *f, struct err *e)
{
    struct err back = ERR_INIT;

    if (setns(f->pidfd, CLONE_NEWUTS) < 0)
        return err_set(e, errno, "enter the spare sandbox");
    int r = step_hostname(&f->start, e);
    if (r < 0)
        (void)err_wrap(e, "set the host name");
    for (int tries = 0; setns(f->start.s->uts_ns, CLONE_NEWUTS) < 0; tries++)
        if (errno != ENOMEM || tries == BACK_TRIES)
            return err_set(r < 0 ? &back : e, errno, "leave the spare sandbox");
    return r;
}

/* Rootless the agent's own UTS namespace is not its own: it could not come back. */
static int do_missing(struct fitting *f, struct err *e)
{
    if (f->start.dressed)
        return f->start.s->rootless ? run_fitter(f, e) : name_in_place(f, e);
    int r = start_detach_slug(&f->start, e);
    return r < 0 ? r : run_fitter(f, e);
}

int sandbox_take(struct sandbox *s, const struct spawned *spare, const struct spare_cut *cut,
                 const struct plan *plan, int ctl_fd, int identity_fd, struct err *e)
{
    struct fitting f = {.start = START_INIT(s, plan), .pidfd = spare->pidfd};
    int r = plan_check_rest(plan, e);

    f.start.spare = true;
    f.start.dressed = cut->dressed;
    f.resize = cut->limits.memory_quota != plan->limits.memory_quota ||
               cut->limits.memory_max != plan->limits.memory_max;
    if (r == 0 && !spare_fits(cut, &plan->limits, plan->slug_fd))
        r = err_say(e, EINVAL, "plan: the spare was made for another one");
    if (r == 0)
        r = do_missing(&f, e);
    if (r == 0)
        r = send_take(&f.start, ctl_fd, identity_fd, e);
    start_done(&f.start);
    return r;
}

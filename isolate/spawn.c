/* spawn.c - the parent's side of a start: what only it can prepare, then the clone. */
#include "base/fdio.h"
#include "base/scoped.h"
#include "isolate/clonevm.h"
#include "isolate/kernel.h"
#include "isolate/sandbox_impl.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

void start_done(struct start *st)
{
    cgroup_join_done(&st->join);
    fd_closep(&st->slug_tree);
    fd_closep(&st->scratch_tree);
    fd_closep(&st->proc_tree);
    fd_closep(&st->report);
    fd_closep(&st->rules);
    room_done(&st->room);
}

/* A detached mount of the directory FD, which the child attaches in its own namespace: a descriptor
 * of the agent's mount namespace could not be mounted there. */
static int detach(int fd, const char *what, const struct k_mount_attr *attr, int *ret,
                  struct err *e)
{
    scoped_fd tree = k_open_tree(fd, "", AT_EMPTY_PATH | K_TREE_CLONE | K_TREE_CLOEXEC);

    if (tree < 0)
        return err_set(e, errno, "clone the mount of %s", what);
    if (k_mount_setattr(tree, "", AT_EMPTY_PATH, attr) < 0) {
        int errnum = errno;
        struct statfs fs = {0};

        if (!(attr->attr_set & K_ATTR_IDMAP))
            return err_set(e, errnum, "set the mount attributes of %s", what);
        (void)fstatfs(fd, &fs); /* only for the text */
        return err_set(e, errnum,
                       "the filesystem of %s (type 0x%lx) has no idmapped mounts on this kernel: "
                       "keep the cache on ext4, xfs or btrfs",
                       what, (unsigned long)fs.f_type);
    }
    *ret = TAKE_FD(tree);
    return 0;
}

/* A mount that is attached nowhere yet: the child attaches it as it is. Kernels before 6.15 could
 * not clone it. */
static int take_mount(int fd, int *ret, struct err *e)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);

    if (copy < 0)
        return err_set(e, errno, "take the mount of the scratch");
    *ret = copy;
    return 0;
}

int start_detach_slug(struct start *st, struct err *e)
{
    struct k_mount_attr slug = {.attr_set = K_ATTR_RDONLY | K_ATTR_NOSUID | K_ATTR_NODEV,
                                .propagation = MS_PRIVATE};

    if (st->plan->slug_fd < 0)
        return 0;
    if (!st->s->rootless) {
        slug.attr_set |= K_ATTR_IDMAP;
        slug.userns_fd = (uint64_t)st->plan->userns_fd;
    }
    return detach(st->plan->slug_fd, "the slug", &slug, &st->slug_tree, e);
}

static int prepare_trees(struct start *st, struct err *e)
{
    const struct plan *p = st->plan;
    struct k_mount_attr scratch = {.attr_set = K_ATTR_NOSUID | K_ATTR_NODEV,
                                   .propagation = MS_PRIVATE};
    int r = p->scratch_mounted
                ? take_mount(p->scratch_fd, &st->scratch_tree, e)
                : detach(p->scratch_fd, "the scratch directory", &scratch, &st->scratch_tree, e);

    return r < 0 || (st->spare && !st->dressed) ? r : start_detach_slug(st, e);
}

int child_stack_new(void **ret, struct err *e)
{
    char *at = mmap(NULL, CHILD_STACK, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);

    if (at == MAP_FAILED || mprotect(at, 4096, PROT_NONE) < 0) {
        int r = err_set(e, errno, "make a child's stack");

        child_stack_free(at == MAP_FAILED ? NULL : at);
        return r;
    }
    *ret = at;
    return 0;
}

void child_stack_free(void *stack)
{
    if (stack)
        (void)munmap(stack, CHILD_STACK); /* only fails on our own bugs */
}

/* With the agent's memory, but not its record of the start: the steps change theirs. */
static void run_steps(void *arg)
{
    struct start own = *(const struct start *)arg;

    steps_run(&own);
}

/* Sharing memory makes a start twice as fast. Not where the child makes its own user namespace:
 * unshare(2) refuses that to a process whose memory is shared. */
static pid_t clone_now(struct start *st, struct clone_args *args)
{
#ifndef __SANITIZE_ADDRESS__ /* knows of one stack only */
    if (!st->s->rootless) {
        args->flags |= CLONE_VM | CLONE_VFORK;
        args->stack = (uint64_t)(uintptr_t)st->s->stack;
        args->stack_size = CHILD_STACK;
        return clone_vm(args, run_steps, st);
    }
#endif
    pid_t pid = k_clone3(args);
    if (pid == 0)
        run_steps(st);
    return pid;
}

static int clone_child(struct start *st, struct spawned *ret, struct err *e)
{
    int pidfd = -1;
    struct clone_args args = {
        .flags = CLONE_PIDFD | CLONE_NEWPID | CLONE_NEWUTS | (st->room.ipc < 0 ? CLONE_NEWIPC : 0),
        .pidfd = (uint64_t)(uintptr_t)&pidfd,
        .exit_signal = SIGCHLD,
    };
    sigset_t all, old;

    if (st->join.into >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t)st->join.into;
    }
    /* No handler of the agent's may run in the child. */
    sigfillset(&all);
    (void)sigprocmask(SIG_SETMASK, &all, &old);
    pid_t pid = clone_now(st, &args);
    int errnum = errno;
    (void)sigprocmask(SIG_SETMASK, &old, NULL);
    if (pid < 0)
        return err_set(e, errnum, "clone into new namespaces");
    ret->pid = pid;
    ret->pidfd = pidfd;
    return 0;
}

static int spawn(struct start *st, struct spawned *ret, struct err *e)
{
    struct spawned out = {.pidfd = -1};
    int report[2];
    int r = cgroup_join_prepare(st->plan->cgroup, &st->join, e);

    if (r == 0)
        r = prepare_trees(st, e);
    if (r < 0)
        return r;
    /* Programs open /dev/stdout and /dev/stderr by name. To write: its log is not the dyno's. */
    if (fchmod(st->plan->log_write, 0622) < 0)
        return err_set(e, errno, "set the mode of the log's pipe");
    if (pipe2(report, O_CLOEXEC) < 0)
        return err_set(e, errno, "pipe");
    scoped_fd report_read = report[0];
    st->report = report[1];
    r = fd_set_nonblock(report_read, true);
    if (r < 0)
        return err_set(e, -r, "make the report pipe non-blocking");
    r = clone_child(st, &out, e);
    if (r < 0)
        return r;
    out.report_fd = TAKE_FD(report_read);
    *ret = out;
    return 0;
}

int sandbox_spawn(struct sandbox *s, const struct plan *plan, struct spawned *ret, struct err *e)
{
    scoped(start_done) struct start st = START_INIT(s, plan);
    int r = plan_check(s, plan, e);

    if (r < 0)
        return r;
    room_take(s, &plan->limits, &st.room);
    return spawn(&st, ret, e);
}

int sandbox_prepare(struct sandbox *s, const struct plan *plan, struct spawned *ret,
                    struct spare_cut *ret_cut, struct err *e)
{
    scoped(start_done) struct start st = START_INIT(s, plan);
    struct spare_cut cut = {.limits = plan->limits, .dressed = plan->slug_fd >= 0};
    struct stat root = {0};
    int r = plan_check_ahead(s, plan, e);

    if (r == 0 && cut.dressed && fstat(plan->slug_fd, &root) < 0)
        r = err_set(e, errno, "look at the slug");
    if (r == 0 && cut.dressed && !S_ISDIR(root.st_mode))
        r = err_say(e, EINVAL, "plan: the slug is not a directory");
    cut.slug_dev = root.st_dev;
    cut.slug_ino = root.st_ino;
    st.spare = true;
    st.dressed = cut.dressed;
    if (r == 0)
        r = spawn(&st, ret, e);
    if (r == 0)
        *ret_cut = cut;
    return r;
}

int sandbox_report(int report_fd, struct err *e)
{
    struct err told;
    ssize_t n = read(report_fd, &told, sizeof(told));

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n < 0)
        return err_set(e, errno, "read the report of the start");
    if (n == 0)
        return 1; /* the descriptor closed itself at execve */
    if (n != (ssize_t)sizeof(told) || told.errnum <= 0)
        return err_say(e, EPROTO, "the report of the start is not one");
    told.text[sizeof(told.text) - 1] = '\0';
    *e = told;
    return -e->errnum;
}

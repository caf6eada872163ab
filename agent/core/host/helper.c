#include "core/host/helper.h"

#include "base/fdio.h"
#include "base/scoped.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <linux/ioprio.h>
#include <linux/sched.h>

#define HELPER_FDS       5
#define LOW_PRIORITY     10
#define JOIN_PATIENCE_MS 1000
#define REAP_PATIENCE_MS 5 /* its socket closes just before it can be reaped */

/* In the child. Descriptors first move above the fixed places, so that none is overwritten. */
static int arrange_fds(int sock, const struct helper *h)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int want[HELPER_FDS] = {sock, null, STDERR_FILENO, h->fd3, h->fd4};

    for (int i = 0; i < HELPER_FDS; i++)
        if (want[i] >= 0 && (want[i] = fcntl(want[i], F_DUPFD_CLOEXEC, HELPER_FDS)) < 0)
            return -errno;
    for (int i = 0; i < HELPER_FDS; i++) {
        if (want[i] < 0)
            (void)close(i); /* may be closed already */
        else if (dup2(want[i], i) < 0)
            return -errno;
    }
    return close_range(HELPER_FDS, ~0u, 0) < 0 ? -errno : 0;
}

static int become(uid_t uid)
{
    if (uid == (uid_t)-1)
        return 0;
    if (setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0)
        return -errno;
    return 0;
}

/* In the child, while it still has the power. */
static int apart(const struct helper *h, const struct cgroup_join *join)
{
    unsigned own = h->namespaces & ~(unsigned)CLONE_NEWPID;
    struct rlimit data = {h->data_max, h->data_max};
    int fd;

    for (size_t i = 0; i < join->n_tasks; i++)
        if (write(join->tasks[i], "0", 1) < 0)
            return -errno;
    /* The agent may be spared when memory is short; who has a cgroup of its own is not. */
    if (h->cgroup && (fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC)) >= 0) {
        (void)write(fd, "0", 1); /* raising it is always allowed */
        (void)close(fd);
    }
    if (own && unshare((int)own) < 0)
        return -errno;
    /* A slave: what the machine unmounts is not kept busy here. */
    if ((own & CLONE_NEWNS) && mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
        return -errno;
    if (h->data_max && setrlimit(RLIMIT_DATA, &data) < 0)
        return -errno;
    if (h->low) { /* a refusal changes nothing */
        (void)setpriority(PRIO_PROCESS, 0, LOW_PRIORITY);
        (void)syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0,
                      IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0));
    }
    return 0;
}

static void child(int sock, const struct helper *h, const struct cgroup_join *join)
{
    static char *const env[] = {"PATH=/usr/local/bin:/usr/bin:/bin",
#ifdef __SANITIZE_ADDRESS__
                                "ASAN_OPTIONS=detect_leaks=0", /* that needs ptrace(2) */
#endif
                                NULL};
    sigset_t none;

    (void)sigemptyset(&none); /* cannot fail */
    (void)setsid();           /* a terminal's Ctrl-C is for dynod to handle */
    if (sigprocmask(SIG_SETMASK, &none, NULL) < 0 || apart(h, join) < 0 || become(h->uid) < 0 ||
        arrange_fds(sock, h) < 0)
        _exit(126);
    (void)signal(SIGPIPE, SIG_DFL);
    execve(h->path, h->argv, env);
    _exit(127);
}

int helper_spawn(const struct helper *h, int *ret_sock, int *ret_pidfd, struct err *e)
{
    scoped(cgroup_join_done) struct cgroup_join join = {.into = -1};
    int sv[2], pidfd = -1;

    if (access(h->path, X_OK) < 0)
        return err_set(e, errno, "find the program %s", h->path);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
        return err_set(e, errno, "make a socket pair");
    scoped_fd ours = sv[0];
    scoped_fd theirs = sv[1];
    int r = h->cgroup ? cgroup_join_prepare(h->cgroup, &join, e) : 0;
    if (r < 0)
        return r;
    struct clone_args args = {.flags = CLONE_PIDFD | (h->namespaces & CLONE_NEWPID),
                              .pidfd = (uint64_t)(uintptr_t)&pidfd,
                              .exit_signal = SIGCHLD};
    if (join.into >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t)join.into;
    }
    long pid = syscall(SYS_clone3, &args, sizeof(args));
    if (pid < 0)
        return err_set(e, errno, "start %s", h->path);
    if (pid == 0)
        child(theirs, h, &join);
    *ret_sock = TAKE_FD(ours);
    *ret_pidfd = pidfd;
    return 0;
}

/* The source, and the descriptor that it owns, go with this. */
static int on_disposed(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
    siginfo_t info;

    (void)revents;
    (void)userdata;
    (void)waitid(P_PIDFD, (id_t)fd, &info, WEXITED | WNOHANG); /* ECHILD: reaped already */
    sd_event_source_disable_unref(s);
    return 0;
}

void helper_dispose(sd_event *loop, int pidfd)
{
    sd_event_source *s = NULL;

    (void)pidfd_send_signal(pidfd, SIGKILL, NULL, 0); /* it may have ended already */
    /* Not sd_event_add_child_pidfd(): where epoll takes no more (ENOMEM, ENOSPC) it aborts. */
    if (sd_event_add_io(loop, &s, pidfd, EPOLLIN, on_disposed, NULL) < 0 ||
        sd_event_source_set_io_fd_own(s, true) < 0)
        close(pidfd); /* a zombie, until we go */
}

void helper_join(int pidfd)
{
    struct pollfd p = {.fd = pidfd, .events = POLLIN};
    siginfo_t info;

    if (poll(&p, 1, JOIN_PATIENCE_MS) != 1)
        (void)pidfd_send_signal(pidfd, SIGKILL, NULL, 0); /* it may have ended just now */
    (void)waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED);
    close(pidfd);
}

bool helper_ended_well(int pidfd, char *out, size_t cap)
{
    struct pollfd p = {.fd = pidfd, .events = POLLIN};
    siginfo_t info = {0};

    (void)poll(&p, 1, REAP_PATIENCE_MS);
    if (waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG) < 0 || info.si_pid == 0)
        (void)snprintf(out, cap, "still there");
    else if (info.si_code == CLD_EXITED)
        (void)snprintf(out, cap, "exited with status %d", info.si_status);
    else
        (void)snprintf(out, cap, "killed by SIG%s", sigabbrev_np(info.si_status));
    return info.si_pid != 0 && info.si_code == CLD_EXITED && info.si_status == 0;
}

void helper_reap(int pidfd, char *out, size_t cap)
{
    (void)helper_ended_well(pidfd, out, cap);
}

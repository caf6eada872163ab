/* steps_user.c - the steps that give powers away. Raw system calls where libc's wrappers would
 * address the threads of the agent that this process is a copy of (setresuid and its kin). */
#include "base/scoped.h"
#include "isolate/kernel.h"
#include "isolate/landlock.h"
#include "isolate/sandbox_impl.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/ioprio.h>
#include <linux/keyctl.h>
#include <linux/securebits.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define TIMER_SLACK_NSEC 50000UL /* as init has it, prctl(2) */

/* A dyno is as good a victim of the OOM killer as any process, however dear the agent is. */
int step_oom_score(struct start *st, struct err *e)
{
    scoped_fd fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

    (void)st;
    if (fd < 0)
        return err_set(e, errno, "open /proc/self/oom_score_adj");
    /* Refused: lowering it. Then we are a better victim already. */
    if (write(fd, "0", 1) < 0 && errno != EACCES && errno != EPERM)
        return err_set(e, errno, "set /proc/self/oom_score_adj");
    return 0;
}

/* Whose agent is dear to its machine, or cheap, has dynos that are neither. Refused, rootless:
 * becoming dearer again. */
int step_scheduling(struct start *st, struct err *e)
{
    static const struct sched_param none;

    (void)st;
    /* To set what it is already takes 7 us. */
    if (syscall(SYS_sched_getscheduler, 0) != SCHED_OTHER &&
        syscall(SYS_sched_setscheduler, 0, SCHED_OTHER, &none) < 0 && errno != EPERM)
        return err_set(e, errno, "sched_setscheduler");
    if (setpriority(PRIO_PROCESS, 0, 0) < 0 && errno != EACCES && errno != EPERM)
        return err_set(e, errno, "setpriority");
    if (syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, 0) < 0 && errno != EPERM)
        return err_set(e, errno, "ioprio_set");
    if (prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NSEC, 0, 0, 0) < 0)
        return err_set(e, errno, "set the timer slack");
    return 0;
}

static int drop_root(const struct start *st, struct err *e)
{
    /* The agent's session keyring is not a dyno's. ENOSYS: a kernel without keys. */
    if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0 && errno != ENOSYS)
        return err_set(e, errno, "leave the session keyring");
    if (syscall(SYS_setgroups, 0, NULL) < 0)
        return err_set(e, errno, "setgroups");
    if (setns(st->plan->userns_fd, CLONE_NEWUSER) < 0)
        return err_set(e, errno, "join the user namespace");
    return 0;
}

static int make_own_userns(const struct start *st, struct err *e)
{
    if (unshare(CLONE_NEWUSER) < 0)
        return err_set(e, errno, "make a user namespace");
    return userns_write_map("/proc/self", st->s->inner, st->plan->uid, st->plan->gid, e);
}

int step_user(struct start *st, struct err *e)
{
    uid_t inner = st->s->inner;
    int r = st->s->rootless ? make_own_userns(st, e) : drop_root(st, e);

    if (r < 0)
        return r;
    if (syscall(SYS_setresgid, inner, inner, inner) < 0)
        return err_set(e, errno, "setresgid");
    if (syscall(SYS_setresuid, inner, inner, inner) < 0)
        return err_set(e, errno, "setresuid");
    return 0;
}

/* What the agent was started with must not show: each limit is set, and where the agent has less
 * than we want, what it has (raising is not for everyone). */
static int set_limit(__rlimit_resource_t which, rlim_t soft, rlim_t hard)
{
    struct rlimit now;

    if (getrlimit(which, &now) < 0)
        return -errno;
    struct rlimit want = {.rlim_cur = soft < now.rlim_max ? soft : now.rlim_max,
                          .rlim_max = hard < now.rlim_max ? hard : now.rlim_max};
    return setrlimit(which, &want) < 0 ? -errno : 0;
}

int step_limits(struct start *st, struct err *e)
{
    const rlim_t none = RLIM_INFINITY;
    /* One more for dyno-init. Counted in the dyno's user namespace; the cgroup counts too. */
    const struct limits *size = &st->plan->limits;
    const rlim_t pids = size->procs_max ? size->procs_max : size->pids;
    const rlim_t procs = pids ? pids + 1 : none;
    const rlim_t files = size->open_files ? size->open_files : LIMITS_OPEN_FILES;
    const struct {
        const char *name;
        __rlimit_resource_t which;
        rlim_t soft, hard;
    } limits[] = {
        {"nofile", RLIMIT_NOFILE, files, files},
        {"nproc", RLIMIT_NPROC, procs, procs},
        /* 1, not 0: less than any core has, and what keeps the kernel from starting a program that
         * core_pattern pipes to, which 0 does not (do_coredump()). The filter sees that it stays.
         */
        {"core", RLIMIT_CORE, CORE_LIMIT, CORE_LIMIT},
        {"stack", RLIMIT_STACK, 8 << 20, none},
        {"memlock", RLIMIT_MEMLOCK, 8 << 20, 8 << 20},
        {"msgqueue", RLIMIT_MSGQUEUE, 819200, 819200},
        {"sigpending", RLIMIT_SIGPENDING, 4096, 4096},
        {"nice", RLIMIT_NICE, 0, 0},
        {"rtprio", RLIMIT_RTPRIO, 0, 0},
        {"as", RLIMIT_AS, none, none},
        {"data", RLIMIT_DATA, none, none},
        {"fsize", RLIMIT_FSIZE, none, none},
        {"cpu", RLIMIT_CPU, none, none},
        {"rss", RLIMIT_RSS, none, none},
        {"locks", RLIMIT_LOCKS, none, none},
        {"rttime", RLIMIT_RTTIME, none, none},
    };

    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        int r = set_limit(limits[i].which, limits[i].soft, limits[i].hard);

        if (r < 0)
            return err_set(e, -r, "%s", limits[i].name);
    }
    return 0;
}

int step_capabilities(struct start *st, struct err *e)
{
    static const unsigned long locked = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED |
                                        SECBIT_NO_SETUID_FIXUP | SECBIT_NO_SETUID_FIXUP_LOCKED |
                                        SECBIT_KEEP_CAPS_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE |
                                        SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};

    (void)st;
    /* The bounding set and the secure bits first: changing them takes CAP_SETPCAP. */
    for (unsigned long cap = 0; prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0; cap++)
        ;
    if (errno != EINVAL) /* past the last capability */
        return err_set(e, errno, "empty the bounding set");
    if (prctl(PR_SET_SECUREBITS, locked, 0, 0, 0) < 0)
        return err_set(e, errno, "lock the secure bits");
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
        return err_set(e, errno, "empty the ambient set");
    if (syscall(SYS_capset, &head, none) < 0)
        return err_set(e, errno, "capset");
    return 0;
}

int step_no_new_privs(struct start *st, struct err *e)
{
    (void)st;
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? err_set(e, errno, "prctl") : 0;
}

int step_landlock(struct start *st, struct err *e)
{
    const struct sandbox *s = st->s;

    if (!s->landlock)
        return 0;
    return st->spare && !st->dressed ? landlock_rules(s->landlock, s->init_fd, &st->rules, e)
                                     : landlock_enter(s->landlock, s->init_fd, e);
}

/* What execve(2) hands on from the agent, set to what a fresh login would have. */
int step_inherited(struct start *st, struct err *e)
{
    (void)st;
    umask(022);
    (void)setsid(); /* fails when we lead a session already, which is what we want */
    if (personality(PER_LINUX) < 0)
        return err_set(e, errno, "personality");
    /* Raw: libc keeps two signals to itself. {0} is SIG_DFL without flags, whatever the layout. */
    static const unsigned long fallback[8] = {0};
    for (int signo = 1; signo <= 64; signo++)
        if (syscall(SYS_rt_sigaction, signo, fallback, NULL, 8) < 0 && signo != SIGKILL &&
            signo != SIGSTOP)
            return err_set(e, errno, "reset signal %d", signo);
    static const unsigned long open_mask = 0;
    if (syscall(SYS_rt_sigprocmask, SIG_SETMASK, &open_mask, NULL, sizeof(open_mask)) < 0)
        return err_set(e, errno, "unblock the signals");
    return 0;
}

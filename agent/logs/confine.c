#include "logs/logs.h"

#include "base/scoped.h"

#include <errno.h>
#include <linux/capability.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

static int drop_capabilities(struct err *e)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};

    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 && errno != EINVAL)
        return err_set(e, errno, "drop ambient capabilities");
    if (syscall(SYS_capset, &header, none) < 0)
        return err_set(e, errno, "drop capabilities");
    return 0;
}

static int set_limits(struct err *e)
{
    struct rlimit files, core = {0, 0};

    if (setrlimit(RLIMIT_CORE, &core) < 0)
        return err_set(e, errno, "forbid core dumps");
    /* Two descriptors a dyno: as many as are allowed. Nothing here uses select(2). */
    if (getrlimit(RLIMIT_NOFILE, &files) < 0)
        return err_set(e, errno, "read the limit of descriptors");
    files.rlim_cur = files.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &files) < 0)
        return err_set(e, errno, "raise the limit of descriptors");
    return 0;
}

/* All that this program, sd-event and malloc call once it is set up; some under two names, for
 * other architectures and C libraries. No socket, no program, no process, no other kind of
 * descriptor. */
static const char *const allowed[] = {
    "read",
    "write",
    "pread64",
    "pwrite64",
    "readv",
    "writev",
    "splice",
    "fallocate",
    "ftruncate",
    "lseek",
    "_llseek",
    "openat",
    "close",
    "fstat",
    "newfstatat",
    "statx",
    "fstatfs",
    "getdents64",
    "unlinkat",
    "renameat",
    "renameat2",
    "fchmod",
    "fcntl",
    "fcntl64",
    "flock",
    "munmap",
    "mremap",
    "madvise",
    "brk",
    "epoll_ctl",
    "epoll_wait",
    "epoll_pwait",
    "epoll_pwait2",
    "poll",
    "ppoll",
    "timerfd_create",
    "timerfd_settime",
    "recvmsg",
    "sendmsg",
    "getrandom",
    "clock_gettime",
    "gettimeofday",
    "clock_gettime64",
    "rt_sigprocmask",
    "rt_sigreturn",
    "restart_syscall",
    "futex",
    "getpid",
    "gettid",
    "tgkill",
    "exit",
    "exit_group",
};

/* Memory is data: nothing may become code. */
static const char *const no_exec[] = {"mmap", "mmap2", "mprotect"};

static void filter_freep(scmp_filter_ctx *ctx)
{
    if (*ctx)
        seccomp_release(*ctx);
}

/* Names that libseccomp does not know are left out: what it cannot name nobody calls by that name.
 */
static int filter_add(scmp_filter_ctx ctx)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < sizeof(allowed) / sizeof(*allowed); i++) {
        int nr = seccomp_syscall_resolve_name(allowed[i]);

        if (nr != __NR_SCMP_ERROR)
            r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, nr, 0);
    }
    for (size_t i = 0; r == 0 && i < sizeof(no_exec) / sizeof(*no_exec); i++) {
        int nr = seccomp_syscall_resolve_name(no_exec[i]);

        if (nr != __NR_SCMP_ERROR)
            r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, nr, 1,
                                 SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    }
    return r;
}

/* ENOSYS for the rest: a C library that tries a newer call goes back to the older one. */
static int filter_calls(struct err *e)
{
#if defined(__SANITIZE_ADDRESS__)
    (void)filter_add; /* the sanitizers' own threads, signals and /proc need more than this */
    (void)filter_freep;
    (void)e;
    return 0;
#else
    scoped(filter_freep) scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));

    if (!ctx)
        return err_set(e, ENOMEM, "make a system call filter");
    int r = filter_add(ctx);
    if (r == 0)
        r = seccomp_load(ctx);
    return r < 0 ? err_set(e, -r, "filter system calls") : 0;
#endif
}

int logs_confine(struct err *e)
{
    int r = set_limits(e);

    if (r < 0)
        return r;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return err_set(e, errno, "forbid new privileges");
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return err_set(e, errno, "forbid dumping");
    r = drop_capabilities(e);
    return r < 0 ? r : filter_calls(e);
}

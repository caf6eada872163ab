#include "link/confine.h"

#include "base/scoped.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/capability.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* --- privileges --------------------------------------------------------------------------------
 */

static int drop_caps(struct err *e)
{
    cap_t none = cap_init(), now;
    int differ = -1;

    /* Without CAP_SETPCAP it fails, and the bounding set does not matter: no_new_privs is on. */
    for (int cap = 0; cap <= CAP_LAST_CAP; cap++)
        (void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); /* checked below */
    if (!none || cap_set_proc(none) < 0) {
        int r = err_set(e, errno, "drop the capabilities");

        (void)cap_free(none);
        return r;
    }
    now = cap_get_proc(); /* the kernel is asked rather than trusted */
    if (now)
        differ = cap_compare(now, none);
    (void)cap_free(now);
    (void)cap_free(none);
    return differ == 0 ? 0 : err_say(e, EPERM, "capabilities are left");
}

static int limit(int resource, rlim_t value, struct err *e)
{
    struct rlimit now;

    if (getrlimit(resource, &now) < 0)
        return err_set(e, errno, "read a resource limit");
    if (now.rlim_max < value) /* never more than there was */
        value = now.rlim_max;
    if (setrlimit(resource, &(struct rlimit){value, value}) < 0)
        return err_set(e, errno, "set a resource limit");
    return 0;
}

static int drop_privileges(struct err *e)
{
    if (geteuid() == 0 || getuid() == 0)
        return err_say(e, EPERM, "root never speaks to the network: start it as another user");
    int r = drop_caps(e);
    if (r < 0)
        return r;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return err_set(e, errno, "set no_new_privs");
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0) /* no ptrace by another process of this user */
        return err_set(e, errno, "become undumpable");
    (void)umask(077);
    r = limit(RLIMIT_CORE, 0, e);
    if (r == 0)
        r = limit(RLIMIT_NOFILE, LINK_NOFILE_MAX, e);
    return r < 0 ? r : limit(RLIMIT_DATA, LINK_DATA_MAX, e);
}

/* --- files: landlock(7) ------------------------------------------------------------------------
 */

#define ABI_MIN 1

/* Newer than some of the headers that we build with. */
#define FS_REFER            (1ULL << 13) /* ABI 2 */
#define FS_TRUNCATE         (1ULL << 14) /* ABI 3 */
#define FS_IOCTL_DEV        (1ULL << 15) /* ABI 5 */
#define NET_BIND_TCP        (1ULL << 0)  /* ABI 4 */
#define SCOPE_ABSTRACT_UNIX (1ULL << 0)  /* ABI 6 */
#define SCOPE_SIGNAL        (1ULL << 1)  /* ABI 6 */

struct ruleset {
    uint64_t fs;
    uint64_t net;
    uint64_t scoped;
};

/* What TLS and DNS read. Missing ones are skipped; links are followed to where they lead now. */
static const char *const readable[] = {
    "/etc/ssl",
    "/etc/pki",
    "/etc/crypto-policies",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/usr/share/pki",
    "/usr/lib/ssl",
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/dev/urandom",
    "/dev/null",
};

static uint64_t handled_fs(long abi)
{
    uint64_t fs = FS_REFER - 1; /* ABI 1: all bits below */

    if (abi >= 2)
        fs |= FS_REFER;
    if (abi >= 3)
        fs |= FS_TRUNCATE;
    if (abi >= 5)
        fs |= FS_IOCTL_DEV;
    return fs;
}

static int allow_read(int ruleset, const char *path, struct err *e)
{
    scoped_fd fd = open(path, O_PATH | O_CLOEXEC);
    struct landlock_path_beneath_attr rule = {.allowed_access = LANDLOCK_ACCESS_FS_READ_FILE,
                                              .parent_fd = fd};
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return 0;
    if (S_ISDIR(st.st_mode))
        rule.allowed_access |= LANDLOCK_ACCESS_FS_READ_DIR;
    if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0)
        return err_set(e, errno, "add a landlock rule");
    return 0;
}

static int limit_files(struct err *e)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    struct ruleset attr = {.fs = handled_fs(abi)};
    int r = 0;

    if (abi < ABI_MIN)
        return 0;
    if (abi >= 4)
        attr.net = NET_BIND_TCP;
    if (abi >= 6)
        attr.scoped = SCOPE_ABSTRACT_UNIX | SCOPE_SIGNAL;
    /* Older kernels take a longer struct when what they do not know is 0. */
    scoped_fd ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
    if (ruleset < 0)
        return err_set(e, errno, "make a landlock ruleset");
    for (size_t i = 0; r == 0 && i < sizeof(readable) / sizeof(readable[0]); i++)
        r = allow_read(ruleset, readable[i], e);
    if (r == 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
        r = err_set(e, errno, "enter landlock");
    return r;
}

/* --- system calls: seccomp(2) --------------------------------------------------------------------
 */

#if !defined(__SANITIZE_ADDRESS__)

/* What is not here fails with ENOSYS: a C library that tries a newer call goes back to an older
 * one. */
static const int allowed[] = {
    /* memory; not executable: see add_conditions() */
    SCMP_SYS(brk),
    SCMP_SYS(madvise),
    SCMP_SYS(mremap),
    SCMP_SYS(munmap),
    /* threads: libcurl resolves names in one */
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(futex),
    SCMP_SYS(get_robust_list),
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    SCMP_SYS(rseq),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(sched_yield),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(set_tid_address),
    SCMP_SYS(sigaltstack),
    /* time and chance */
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(getrandom),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(nanosleep),
    SCMP_SYS(restart_syscall),
    /* who we are: OpenSSL and the libc ask before they trust the environment; the load */
    SCMP_SYS(getegid),
    SCMP_SYS(geteuid),
    SCMP_SYS(getgid),
    SCMP_SYS(getuid),
    SCMP_SYS(sysinfo),
    SCMP_SYS(uname),
    /* the event loop */
    SCMP_SYS(epoll_create1),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_pwait2),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(eventfd2),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(timerfd_create),
    SCMP_SYS(timerfd_settime),
    /* descriptors; files are landlock's matter */
    SCMP_SYS(access),
    SCMP_SYS(close),
    SCMP_SYS(dup),
    SCMP_SYS(faccessat),
    SCMP_SYS(faccessat2),
    SCMP_SYS(fcntl),
    SCMP_SYS(fstat),
    SCMP_SYS(getdents64),
    SCMP_SYS(lseek),
    SCMP_SYS(lstat),
    SCMP_SYS(newfstatat),
    SCMP_SYS(open),
    SCMP_SYS(openat),
    SCMP_SYS(pipe2),
    SCMP_SYS(pread64),
    SCMP_SYS(read),
    SCMP_SYS(readlink),
    SCMP_SYS(readlinkat),
    SCMP_SYS(readv),
    SCMP_SYS(stat),
    SCMP_SYS(statx),
    SCMP_SYS(write),
    SCMP_SYS(writev),
    /* the network, and dynod's socket */
    SCMP_SYS(bind), /* netlink, by getaddrinfo(3); landlock forbids it for TCP */
    SCMP_SYS(connect),
    SCMP_SYS(getpeername),
    SCMP_SYS(getsockname),
    SCMP_SYS(getsockopt),
    SCMP_SYS(recvfrom),
    SCMP_SYS(recvmmsg),
    SCMP_SYS(recvmsg),
    SCMP_SYS(sendmmsg),
    SCMP_SYS(sendmsg),
    SCMP_SYS(sendto),
    SCMP_SYS(setsockopt),
    SCMP_SYS(shutdown),
    SCMP_SYS(socketpair),
};

/* Only an intruder calls these: somebody is to notice. */
static const int deadly[] = {
    SCMP_SYS(execve),
    SCMP_SYS(execveat),
    SCMP_SYS(fork),
    SCMP_SYS(vfork),
    SCMP_SYS(ptrace),
    SCMP_SYS(process_vm_readv),
    SCMP_SYS(process_vm_writev),
    SCMP_SYS(mount),
    SCMP_SYS(umount2),
    SCMP_SYS(pivot_root),
    SCMP_SYS(chroot),
    SCMP_SYS(unshare),
    SCMP_SYS(setns),
    SCMP_SYS(bpf),
    SCMP_SYS(init_module),
    SCMP_SYS(finit_module),
    SCMP_SYS(kexec_load),
    SCMP_SYS(perf_event_open),
    SCMP_SYS(userfaultfd),
    SCMP_SYS(io_uring_setup),
};

static int allow_equal(scmp_filter_ctx ctx, int call, const uint64_t *values, size_t n,
                       unsigned argument)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < n; i++)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, call, 1,
                             SCMP_CMP(argument, SCMP_CMP_EQ, values[i]));
    return r;
}

/* System calls of which only some arguments are fine. */
static int add_conditions(scmp_filter_ctx ctx)
{
    static const uint64_t families[] = {AF_INET, AF_INET6, AF_NETLINK};
    /* Of a one-off's terminal: its window, its end-of-file character. TIOCSTI is not among them. */
    static const uint64_t controls[] = {FIONBIO, FIONREAD, TCGETS, TIOCGWINSZ, TIOCSWINSZ};
    const uint64_t thread = CLONE_VM | CLONE_THREAD | CLONE_SIGHAND;
    int r = allow_equal(ctx, SCMP_SYS(socket), families, sizeof(families) / sizeof(*families), 0);

    if (r == 0)
        r = allow_equal(ctx, SCMP_SYS(ioctl), controls, sizeof(controls) / sizeof(*controls), 1);
    /* No memory becomes executable: not from the heap, not from a file. */
    if (r == 0)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
                             SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    if (r == 0)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
                             SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    if (r == 0)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
                             SCMP_A0(SCMP_CMP_MASKED_EQ, thread, thread));
    if (r == 0)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1,
                             SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME));
    if (r == 0) /* abort(3) */
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
                             SCMP_A0(SCMP_CMP_EQ, (uint64_t)getpid()));
    return r;
}

static int add_all(scmp_filter_ctx ctx, uint32_t action, const int *calls, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int r = seccomp_rule_add(ctx, action, calls[i], 0);

        if (r < 0 && r != -EDOM) /* this machine has no such call */
            return r;
    }
    return 0;
}

static void filter_freep(scmp_filter_ctx *ctx)
{
    if (*ctx)
        seccomp_release(*ctx);
}

static int limit_calls(struct err *e)
{
    scoped(filter_freep) scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
    int r;

    if (!ctx)
        return err_set(e, ENOMEM, "make a seccomp filter");
    r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    if (r == 0)
        r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a tree, not a list */
    if (r == 0)
        r = add_all(ctx, SCMP_ACT_ALLOW, allowed, sizeof(allowed) / sizeof(allowed[0]));
    if (r == 0)
        r = add_all(ctx, SCMP_ACT_KILL_PROCESS, deadly, sizeof(deadly) / sizeof(deadly[0]));
    if (r == 0)
        r = add_conditions(ctx);
    if (r == 0)
        r = seccomp_load(ctx);
    return r < 0 ? err_set(e, -r, "load the seccomp filter") : 0;
}
#endif

int link_confine(struct err *e)
{
    int r = drop_privileges(e);

    if (r == 0)
        r = limit_files(e);
#if !defined(__SANITIZE_ADDRESS__) /* the sanitizers' own threads and /proc need more than this */
    if (r == 0)
        r = limit_calls(e); /* last: it forbids the rest */
#endif
    return r < 0 ? err_wrap(e, "confine the link") : 0;
}

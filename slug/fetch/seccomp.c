/* seccomp.c - which system calls a role may make. What is not on its lists fails with EPERM; what
 * only an intruder would call kills the process, so that somebody notices. */
#include "slug/fetch/confine.h"

#include "base/scoped.h"

#include <errno.h>
#include <linux/netlink.h>
#include <sched.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* --- every role --- */

static const int common[] = {
    /* memory; not executable: see add_common() */
    SCMP_SYS(brk),
    SCMP_SYS(madvise),
    SCMP_SYS(mremap),
    SCMP_SYS(munmap),
    /* its end, and its locks */
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(futex),
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sched_yield),
    SCMP_SYS(sigaltstack),
    /* time and chance */
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(getrandom),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(nanosleep),
    SCMP_SYS(restart_syscall),
    /* what is open: the agent's socket, pipes, files */
    SCMP_SYS(close),
    SCMP_SYS(fcntl),
    SCMP_SYS(fdatasync),
    SCMP_SYS(fstat),
    SCMP_SYS(lseek),
    SCMP_SYS(newfstatat), /* fstat(3) of some libcs; without open nothing comes of a path */
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(pread64),
    SCMP_SYS(pwrite64),
    SCMP_SYS(read),
    SCMP_SYS(readv),
    SCMP_SYS(recvmsg),
    SCMP_SYS(sendmsg),
    SCMP_SYS(shutdown),
    SCMP_SYS(sync_file_range),
    SCMP_SYS(write),
    SCMP_SYS(writev),
};

/* --- download, unpack: several threads, libraries that look around --- */

static const int threads[] = {
    SCMP_SYS(get_robust_list),
    SCMP_SYS(rseq),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(set_tid_address),
    /* OpenSSL and the libc ask who they are before they trust the environment */
    SCMP_SYS(getegid),
    SCMP_SYS(geteuid),
    SCMP_SYS(getgid),
    SCMP_SYS(getuid),
    SCMP_SYS(sysinfo),
    SCMP_SYS(uname),
    SCMP_SYS(dup),
    SCMP_SYS(eventfd2),
    SCMP_SYS(fallocate),
    SCMP_SYS(ftruncate),
    SCMP_SYS(pipe2),
};

/* --- download; unpack into a directory --- */

static const int files[] = {
    SCMP_SYS(access),     SCMP_SYS(faccessat), SCMP_SYS(faccessat2), SCMP_SYS(lstat),
    SCMP_SYS(open),       SCMP_SYS(openat),    SCMP_SYS(openat2),    SCMP_SYS(readlink),
    SCMP_SYS(readlinkat), SCMP_SYS(stat),      SCMP_SYS(statx),
};

/* --- unpack into a directory --- */

static const int tree[] = {
    SCMP_SYS(fchmod),   SCMP_SYS(fsync),     SCMP_SYS(getdents64), SCMP_SYS(linkat),
    SCMP_SYS(mkdirat),  SCMP_SYS(renameat2), SCMP_SYS(symlinkat),  SCMP_SYS(syncfs),
    SCMP_SYS(unlinkat), SCMP_SYS(utimensat),
};

/* --- download --- */

static const int network[] = {
    SCMP_SYS(connect),    SCMP_SYS(getpeername), SCMP_SYS(getsockname), SCMP_SYS(getsockopt),
    SCMP_SYS(recvfrom),   SCMP_SYS(recvmmsg),    SCMP_SYS(sendmmsg),    SCMP_SYS(sendto),
    SCMP_SYS(setsockopt), SCMP_SYS(socketpair),
};

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

struct list {
    const int *calls;
    size_t n;
};
#define LIST(a)                                                                                    \
    {                                                                                              \
        (a), sizeof(a) / sizeof((a)[0])                                                            \
    }

enum { COMMON, THREADS, FILES, TREE, NETWORK, N_LISTS };

static const struct list lists[N_LISTS] = {
    [COMMON] = LIST(common), [THREADS] = LIST(threads), [FILES] = LIST(files),
    [TREE] = LIST(tree),     [NETWORK] = LIST(network),
};

#define HAS(list) (1u << (list))

static const unsigned of_role[] = {
    [CONFINE_DOWNLOAD] = HAS(COMMON) | HAS(THREADS) | HAS(FILES) | HAS(NETWORK),
    [CONFINE_UNPACK] = HAS(COMMON) | HAS(THREADS),
    [CONFINE_UNPACK_TREE] = HAS(COMMON) | HAS(THREADS) | HAS(FILES) | HAS(TREE),
    [CONFINE_IMAGE] = HAS(COMMON),
    [CONFINE_SEAL] = HAS(COMMON),
};

static int add_all(scmp_filter_ctx ctx, uint32_t action, const int *calls, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int r = seccomp_rule_add(ctx, action, calls[i], 0);

        if (r < 0 && r != -EDOM) /* this machine has no such call */
            return r;
    }
    return 0;
}

/* System calls of which only some arguments are fine. */
static int add_common(scmp_filter_ctx ctx)
{
    /* No memory becomes executable: not from the heap, not from a file. */
    int r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
                             SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));

    if (r == 0)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
                             SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    if (r == 0) /* abort(3) */
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
                             SCMP_A0(SCMP_CMP_EQ, (uint64_t)getpid()));
    return r;
}

static int add_threads(scmp_filter_ctx ctx)
{
    const uint64_t thread = CLONE_VM | CLONE_THREAD | CLONE_SIGHAND;
    int r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
                             SCMP_A0(SCMP_CMP_MASKED_EQ, thread, thread));

    /* Its flags lie in memory, where a filter cannot look: the libc falls back to clone. */
    if (r == 0)
        r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    if (r == 0)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1,
                             SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME));
    return r;
}

static int add_network(scmp_filter_ctx ctx)
{
    static const int families[] = {AF_INET, AF_INET6, AF_NETLINK};
    const uint64_t netlink = sizeof(struct sockaddr_nl);
    int r =
        seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1, SCMP_A1(SCMP_CMP_EQ, FIONBIO));

    /* netlink, by getaddrinfo(3), and nothing else: no other address is as short. Landlock forbids
     * it for TCP, from Linux 6.7 on. */
    if (r == 0)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(bind), 1, SCMP_A2(SCMP_CMP_EQ, netlink));
    for (size_t i = 0; r == 0 && i < sizeof(families) / sizeof(families[0]); i++)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
                             SCMP_A0(SCMP_CMP_EQ, (uint64_t)families[i]));
    return r;
}

static int add_role(scmp_filter_ctx ctx, unsigned has)
{
    int r = add_common(ctx);

    for (unsigned i = 0; r == 0 && i < N_LISTS; i++)
        if (has & HAS(i))
            r = add_all(ctx, SCMP_ACT_ALLOW, lists[i].calls, lists[i].n);
    if (r == 0 && (has & HAS(THREADS)))
        r = add_threads(ctx);
    if (r == 0 && (has & HAS(NETWORK)))
        r = add_network(ctx);
    return r;
}

static void releasep(scmp_filter_ctx *ctx)
{
    if (*ctx)
        seccomp_release(*ctx);
}

int confine_seccomp(enum confine_role role, struct err *e)
{
    scoped(releasep) scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    int r;

    if (!ctx)
        return err_set(e, ENOMEM, "make a seccomp filter");
    r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    if (r == 0)
        r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a tree, not a list */
    if (r == 0)
        r = add_role(ctx, of_role[role]);
    if (r == 0)
        r = add_all(ctx, SCMP_ACT_KILL_PROCESS, deadly, sizeof(deadly) / sizeof(deadly[0]));
    if (r == 0)
        r = seccomp_load(ctx);
    return r < 0 ? err_set(e, -r, "load the seccomp filter") : 0;
}

/* seccomp_table.c - which system calls a dyno may make, and why not the others.
 *
 * The line drawn: what an ordinary program of an ordinary user needs is allowed, also where the
 * kernel will refuse it by itself for want of a capability. What only an administrator, a container
 * runtime or a debugger of the kernel needs is not, since most of the kernel's holes are there. */
#include "isolate/seccomp_table.h"

#include <asm/ioctls.h>
#include <errno.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

static const char *const files[] = {"open",
                                    "openat",
                                    "openat2",
                                    "creat",
                                    "close",
                                    "close_range",
                                    "read",
                                    "write",
                                    "readv",
                                    "writev",
                                    "pread64",
                                    "pwrite64",
                                    "preadv",
                                    "pwritev",
                                    "preadv2",
                                    "pwritev2",
                                    "lseek",
                                    "stat",
                                    "fstat",
                                    "lstat",
                                    "newfstatat",
                                    "statx",
                                    "access",
                                    "faccessat",
                                    "faccessat2",
                                    "statfs",
                                    "fstatfs",
                                    "truncate",
                                    "ftruncate",
                                    "fallocate",
                                    "fadvise64",
                                    "readahead",
                                    "sync",
                                    "syncfs",
                                    "fsync",
                                    "fdatasync",
                                    "sync_file_range",
                                    "sendfile",
                                    "splice",
                                    "tee",
                                    "vmsplice",
                                    "copy_file_range",
                                    "dup",
                                    "dup2",
                                    "dup3",
                                    "fcntl",
                                    "flock",
                                    "umask",
                                    "cachestat",
                                    NULL};
static const char *const names_and_directories[] = {"rename",
                                                    "renameat",
                                                    "renameat2",
                                                    "mkdir",
                                                    "mkdirat",
                                                    "rmdir",
                                                    "link",
                                                    "linkat",
                                                    "unlink",
                                                    "unlinkat",
                                                    "symlink",
                                                    "symlinkat",
                                                    "readlink",
                                                    "readlinkat",
                                                    "getcwd",
                                                    "chdir",
                                                    "fchdir",
                                                    "getdents",
                                                    "getdents64",
                                                    "chmod",
                                                    "fchmod",
                                                    "fchmodat",
                                                    "fchmodat2",
                                                    "chown",
                                                    "fchown",
                                                    "lchown",
                                                    "fchownat",
                                                    "utime",
                                                    "utimes",
                                                    "futimesat",
                                                    "utimensat",
                                                    "setxattr",
                                                    "lsetxattr",
                                                    "fsetxattr",
                                                    "getxattr",
                                                    "lgetxattr",
                                                    "fgetxattr",
                                                    "listxattr",
                                                    "llistxattr",
                                                    "flistxattr",
                                                    "removexattr",
                                                    "lremovexattr",
                                                    "fremovexattr",
                                                    "setxattrat",
                                                    "getxattrat",
                                                    "listxattrat",
                                                    "removexattrat",
                                                    "file_getattr",
                                                    "file_setattr",
                                                    "inotify_init",
                                                    "inotify_init1",
                                                    "inotify_add_watch",
                                                    "inotify_rm_watch",
                                                    NULL};
static const char *const memory[] = {"brk",
                                     "mmap",
                                     "munmap",
                                     "mremap",
                                     "mprotect",
                                     "madvise",
                                     "mincore",
                                     "msync",
                                     "mlock",
                                     "mlock2",
                                     "munlock",
                                     "mlockall",
                                     "munlockall",
                                     "remap_file_pages",
                                     "pkey_mprotect",
                                     "pkey_alloc",
                                     "pkey_free",
                                     "memfd_create",
                                     "memfd_secret",
                                     "membarrier",
                                     "mseal",
                                     "map_shadow_stack",
                                     "process_madvise",
                                     "process_mrelease",
                                     "get_mempolicy",
                                     "set_mempolicy",
                                     "mbind",
                                     "shmget",
                                     "shmat",
                                     "shmdt",
                                     "shmctl",
                                     NULL};
static const char *const processes[] = {
    "fork", "vfork", "execve", "execveat", "exit", "exit_group", "wait4", "waitid", "kill", "tkill",
    "tgkill", "getpid", "getppid", "gettid", "getpgid", "getpgrp", "setpgid", "getsid", "setsid",
    "pidfd_open", "pidfd_send_signal", "pidfd_getfd", "prctl", "arch_prctl", "set_tid_address",
    "set_robust_list", "get_robust_list", "rseq", "getrlimit", "getrusage", "times", "getpriority",
    "ioprio_get", "sched_yield", "sched_getparam", "sched_getscheduler", "sched_get_priority_max",
    "sched_get_priority_min", "sched_rr_get_interval", "sched_getaffinity", "sched_getattr",
    "getcpu", "set_thread_area", "get_thread_area", "restart_syscall",
    /* Of its own children only: the user namespace, the PID namespace and dyno-init's
     * not being dumpable see to that. */
    "ptrace", "process_vm_readv", "process_vm_writev", NULL};
static const char *const identity[] = {"getuid",
                                       "geteuid",
                                       "getgid",
                                       "getegid",
                                       "getgroups",
                                       "getresuid",
                                       "getresgid",
                                       "setuid",
                                       "setgid",
                                       "setreuid",
                                       "setregid",
                                       "setresuid",
                                       "setresgid",
                                       "setgroups",
                                       "setfsuid",
                                       "setfsgid",
                                       "capget",
                                       "capset",
                                       "seccomp",
                                       "landlock_create_ruleset",
                                       "landlock_add_rule",
                                       "landlock_restrict_self",
                                       "uname",
                                       "sysinfo",
                                       "getrandom",
                                       NULL};
static const char *const signals_and_time[] = {"rt_sigaction",
                                               "rt_sigprocmask",
                                               "rt_sigreturn",
                                               "rt_sigpending",
                                               "rt_sigtimedwait",
                                               "rt_sigqueueinfo",
                                               "rt_tgsigqueueinfo",
                                               "rt_sigsuspend",
                                               "sigaltstack",
                                               "pause",
                                               "alarm",
                                               "signalfd",
                                               "signalfd4",
                                               "eventfd",
                                               "eventfd2",
                                               "getitimer",
                                               "setitimer",
                                               "nanosleep",
                                               "clock_nanosleep",
                                               "clock_gettime",
                                               "clock_getres",
                                               "gettimeofday",
                                               "time",
                                               "timer_create",
                                               "timer_settime",
                                               "timer_gettime",
                                               "timer_getoverrun",
                                               "timer_delete",
                                               "timerfd_create",
                                               "timerfd_settime",
                                               "timerfd_gettime",
                                               NULL};
static const char *const waiting[] = {"poll",
                                      "ppoll",
                                      "select",
                                      "pselect6",
                                      "epoll_create",
                                      "epoll_create1",
                                      "epoll_ctl",
                                      "epoll_wait",
                                      "epoll_pwait",
                                      "epoll_pwait2",
                                      "futex",
                                      "futex_waitv",
                                      "futex_wake",
                                      "futex_wait",
                                      "futex_requeue",
                                      "io_setup",
                                      "io_destroy",
                                      "io_submit",
                                      "io_cancel",
                                      "io_getevents",
                                      "io_pgetevents",
                                      "semget",
                                      "semop",
                                      "semtimedop",
                                      "semctl",
                                      "msgget",
                                      "msgsnd",
                                      "msgrcv",
                                      "msgctl",
                                      "mq_open",
                                      "mq_unlink",
                                      "mq_timedsend",
                                      "mq_timedreceive",
                                      "mq_notify",
                                      "mq_getsetattr",
                                      "pipe",
                                      "pipe2",
                                      NULL};
static const char *const sockets[] = {
    "bind",        "listen",      "accept",     "accept4",    "connect", "shutdown",
    "getsockname", "getpeername", "setsockopt", "getsockopt", "sendto",  "recvfrom",
    "sendmsg",     "recvmsg",     "sendmmsg",   "recvmmsg",   NULL};

static const char *const namespaces_and_mounts[] = {
    "unshare",        "setns",       "mount",         "umount",    "umount2",   "pivot_root",
    "chroot",         "fsopen",      "fsconfig",      "fsmount",   "fspick",    "open_tree",
    "open_tree_attr", "move_mount",  "mount_setattr", "statmount", "listmount", "quotactl",
    "quotactl_fd",    "sethostname", "setdomainname", NULL};
static const char *const past_the_root[] = {
    /* A file handle names any file of a filesystem, also those outside the root. */
    "name_to_handle_at", "open_by_handle_at", "lookup_dcookie",
    "fanotify_init",     "fanotify_mark",     NULL};
static const char *const kernel_interfaces[] = {
    /* Keys are not namespaced; the others are where kernels get broken into. */
    "keyctl",
    "add_key",
    "request_key",
    "bpf",
    "perf_event_open",
    "userfaultfd",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "kcmp",
    "syslog",
    "migrate_pages",
    "move_pages",
    "set_mempolicy_home_node",
    "modify_ldt",
    "iopl",
    "ioperm",
    "lsm_get_self_attr",
    "lsm_set_self_attr",
    "lsm_list_modules",
    NULL};
static const char *const the_machine[] = {
    "settimeofday", "clock_settime", "adjtimex", "clock_adjtime", "acct", "vhangup", NULL};
static const char *const never[] = {
    "kexec_load",    "kexec_file_load", "init_module", "finit_module", "delete_module",
    "create_module", "reboot",          "swapon",      "swapoff",      NULL};
static const char *const with_a_fallback[] = {
    /* Its flags are in memory, where a filter cannot look. Every libc falls back to clone. */
    "clone3", NULL};

static const struct syscall_group groups[] = {
    {"files and descriptors", VERDICT_ALLOW, files},
    {"names, directories, attributes, watches", VERDICT_ALLOW, names_and_directories},
    {"memory", VERDICT_ALLOW, memory},
    {"processes, threads, scheduling", VERDICT_ALLOW, processes},
    {"who am I; making oneself smaller", VERDICT_ALLOW, identity},
    {"signals, timers, clocks", VERDICT_ALLOW, signals_and_time},
    {"waiting, and System V and POSIX IPC", VERDICT_ALLOW, waiting},
    {"sockets", VERDICT_ALLOW, sockets},
    {"building sandboxes or leaving one", VERDICT_DENY, namespaces_and_mounts},
    {"reaching files past the root", VERDICT_DENY, past_the_root},
    {"kernel interfaces of little use and long histories", VERDICT_DENY, kernel_interfaces},
    {"the machine's clock and accounting", VERDICT_DENY, the_machine},
    {"replacing or stopping the kernel", VERDICT_KILL, never},
    {"what has a safer sibling", VERDICT_NOSYS, with_a_fallback},
};

/* Namespace flags of clone(2). CLONE_NEWTIME is not among them: its bit is part of the signal. */
#define CLONE_NAMESPACES                                                                           \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |  \
     CLONE_NEWNET)
#define LOW32      0xffffffffu
#define SOCK_TYPES 0xfu /* the rest are flags, linux/net.h */

/* Newer than some headers. */
#define IPPROTO_L2TP 115
#ifndef IPPROTO_SMC
#define IPPROTO_SMC 256
#endif

static const struct syscall_check checks[] = {
    {"clone", 1, {{0, CLONE_NAMESPACES, 0, .errnum = 0}}, EPERM},
    /* What types into somebody else's terminal, and what loads a line discipline's module. */
    {"ioctl",
     3,
     {{1, LOW32, TIOCSTI, .errnum = EPERM},
      {1, LOW32, TIOCLINUX, .errnum = EPERM},
      {1, LOW32, TIOCSETD, .errnum = EPERM}},
     0},
    /* Protocols of the internet that come as modules, which the kernel would load for anybody who
     * asks, are not asked for. */
    {"socket",
     11,
     {{0, LOW32, AF_UNIX, .errnum = 0},
      {1, SOCK_TYPES, SOCK_SEQPACKET, .errnum = ESOCKTNOSUPPORT},
      {1, SOCK_TYPES, SOCK_DCCP, .errnum = ESOCKTNOSUPPORT},
      {2, LOW32, IPPROTO_DCCP, .errnum = EPROTONOSUPPORT},
      {2, LOW32, IPPROTO_L2TP, .errnum = EPROTONOSUPPORT},
      {2, LOW32, IPPROTO_SCTP, .errnum = EPROTONOSUPPORT},
      {2, LOW32, IPPROTO_SMC, .errnum = EPROTONOSUPPORT},
      {0, LOW32, AF_INET, .errnum = 0},
      {0, LOW32, AF_INET6, .errnum = 0},
      {0, LOW32, AF_NETLINK, .negated = true, .errnum = EAFNOSUPPORT},
      {2, LOW32, NETLINK_ROUTE, .errnum = 0}}, /* getifaddrs(3) */
     EAFNOSUPPORT},
    /* Makes a socket of the family before it finds out that the family has no pairs. */
    {"socketpair",
     3,
     {{0, LOW32, AF_UNIX, .errnum = 0},
      {0, LOW32, AF_INET, .errnum = EOPNOTSUPP},
      {0, LOW32, AF_INET6, .errnum = EOPNOTSUPP}},
     EAFNOSUPPORT},
    /* FIFOs and the like, not devices. */
    {"mknod", 2, {{1, S_IFMT, S_IFCHR, .errnum = EPERM}, {1, S_IFMT, S_IFBLK, .errnum = EPERM}}, 0},
    {"mknodat",
     2,
     {{2, S_IFMT, S_IFCHR, .errnum = EPERM}, {2, S_IFMT, S_IFBLK, .errnum = EPERM}},
     0},
    /* The limit of core files stays at the 1 that it has (step_limits), whatever a program says. */
    {"setrlimit", 1, {{0, LOW32, RLIMIT_CORE, .errnum = PRETEND}}, 0},
    /* PID 1 has the dyno's uid, and would let itself be starved by it: then it tells of no end, and
     * an agent that has just started takes it for dead. */
    {"sched_setparam", 1, {{0, LOW32, 1, .errnum = EPERM}}, 0},
    {"sched_setscheduler", 1, {{0, LOW32, 1, .errnum = EPERM}}, 0},
    {"sched_setattr", 1, {{0, LOW32, 1, .errnum = EPERM}}, 0},
    {"sched_setaffinity", 1, {{0, LOW32, 1, .errnum = EPERM}}, 0},
    {"setpriority", 1, {{1, LOW32, 1, .errnum = EPERM}}, 0},
    {"ioprio_set", 1, {{1, LOW32, 1, .errnum = EPERM}}, 0},
    /* PID 1 has the dyno's uid and would take any limits from it: over RLIMIT_CPU the kernel kills
     * it, and the end of dyno-init is laid at the platform's door. */
    {"prlimit64",
     4,
     {{0, LOW32, 1, .errnum = EPERM},
      {1, LOW32, RLIMIT_CORE, .negated = true, .errnum = 0},
      {2, LOW32, 0, .negated = true, .errnum = PRETEND},
      {2, LOW32, 0, .negated = true, .high = true, .errnum = PRETEND}}, /* NULL: only asking */
     0},
    /* Asking, Linux itself, and what `setarch` and debuggers set; READ_IMPLIES_EXEC is not. */
    {"personality",
     6,
     {{0, LOW32, LOW32, .errnum = 0},
      {0, LOW32, PER_LINUX, .errnum = 0},
      {0, LOW32, PER_LINUX32, .errnum = 0},
      {0, LOW32, UNAME26, .errnum = 0},
      {0, LOW32, UNAME26 | PER_LINUX32, .errnum = 0},
      {0, LOW32, ADDR_NO_RANDOMIZE, .errnum = 0}},
     EPERM},
};

static const struct syscall_number new_numbers[] = {
    {"memfd_secret", 447},
    {"process_mrelease", 448},
    {"futex_waitv", 449},
    {"cachestat", 451},
    {"fchmodat2", 452},
    {"map_shadow_stack", 453},
    {"futex_wake", 454},
    {"futex_wait", 455},
    {"futex_requeue", 456},
    {"statmount", 457},
    {"listmount", 458},
    {"lsm_get_self_attr", 459},
    {"lsm_set_self_attr", 460},
    {"lsm_list_modules", 461},
    {"mseal", 462},
    {"setxattrat", 463},
    {"getxattrat", 464},
    {"listxattrat", 465},
    {"removexattrat", 466},
    {"open_tree_attr", 467},
    {"file_getattr", 468},
    {"file_setattr", 469},
    {"set_mempolicy_home_node", 450},
};

const struct syscall_group *filter_groups(size_t *ret_n)
{
    *ret_n = sizeof(groups) / sizeof(groups[0]);
    return groups;
}

const struct syscall_check *filter_checks(size_t *ret_n)
{
    *ret_n = sizeof(checks) / sizeof(checks[0]);
    return checks;
}

const struct syscall_number *filter_new_numbers(size_t *ret_n)
{
    *ret_n = sizeof(new_numbers) / sizeof(new_numbers[0]);
    return new_numbers;
}

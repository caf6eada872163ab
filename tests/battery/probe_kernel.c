/* probe_kernel.c - namespaces, and the kernel's own interfaces. */
#include "probe.h"

#include <fcntl.h>
#include <linux/keyctl.h>
#include <linux/netlink.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

/* Reached the kernel's own checks of arguments: it would have been done. */
static int reached(long r)
{
    int e = result(r);

    return e == EFAULT || e == EINVAL || e == EBADF || e == ENOKEY || e == ENOTTY ? 0 : e;
}

static int unshare_user(void)
{
    return result(unshare(CLONE_NEWUSER));
}

static int unshare_mounts(void)
{
    return result(unshare(CLONE_NEWNS));
}

static int set_ns(void)
{
    int fd = open("/proc/self/ns/uts", O_RDONLY);

    return fd < 0 ? errno : result(setns(fd, CLONE_NEWUTS));
}

static int set_ns_pidfd(void)
{
    int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);

    return fd < 0 ? errno : result(setns(fd, CLONE_NEWUTS));
}

static int clone_flags(unsigned long flags)
{
    long pid = syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, NULL);

    if (pid == 0)
        _exit(0);
    return result(pid);
}

static int clone_user(void)
{
    return clone_flags(CLONE_NEWUSER);
}

static int clone_user_junk(void)
{
    return clone_flags((UINT64_C(1) << 40) | CLONE_NEWUSER);
}

static int clone_3(void)
{
    struct clone_args args = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
    long pid = syscall(SYS_clone3, &args, sizeof(args));

    if (pid == 0)
        _exit(0);
    return result(pid);
}

static int host_name(void)
{
    return result(sethostname("owned", 5));
}

static int key_ctl(void)
{
    return reached(syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0));
}

static int key_add(void)
{
    return reached(syscall(SYS_add_key, "user", "probe", "x", 1, KEY_SPEC_PROCESS_KEYRING));
}

static int key_request(void)
{
    return reached(syscall(SYS_request_key, "user", "probe", NULL, 0));
}

static int io_uring(void)
{
    return reached(syscall(SYS_io_uring_setup, 0, NULL));
}

static int bpf(void)
{
    return reached(syscall(SYS_bpf, 0, NULL, 0));
}

static int perf(void)
{
    return reached(syscall(SYS_perf_event_open, NULL, 0, 0, 0, 0));
}

static int user_fault(void)
{
    return reached(syscall(SYS_userfaultfd, 1 /* UFFD_USER_MODE_ONLY */));
}

static int family(int domain, int type, int protocol)
{
    return result(socket(domain, type, protocol));
}

static int packet(void)
{
    return family(AF_PACKET, SOCK_DGRAM, 0);
}

static int packet_junk(void)
{
    return result(syscall(SYS_socket, (UINT64_C(7) << 32) | AF_PACKET, SOCK_DGRAM, 0));
}

static int netlink_other(void)
{
    return family(AF_NETLINK, SOCK_RAW, NETLINK_KOBJECT_UEVENT);
}

static int netlink_route(void)
{
    return family(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
}

/* AF_UNIX is not asked: a family that has no pairs, but whose sockets are made before it says so.
 */
static int pair_netlink(void)
{
    int sv[2], r = result(socketpair(AF_NETLINK, SOCK_RAW, NETLINK_KOBJECT_UEVENT, sv));

    return r == EOPNOTSUPP ? 0 : r;
}

/* On a terminal of one's own. */
static int terminal_ioctl(uint64_t request)
{
    int master = posix_openpt(O_RDWR), status = 0;
    char arg[8] = "x";

    if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0)
        return errno + 100;
    pid_t pid = fork();
    if (pid == 0) {
        setsid();
        int tty = open(ptsname(master), O_RDWR);

        if (tty < 0)
            _exit(201);
        ioctl(tty, TIOCSCTTY, 0);
        _exit(reached(syscall(SYS_ioctl, tty, request, arg)));
    }
    waitpid(pid, &status, 0);
    return WEXITSTATUS(status);
}

static int type_into(void)
{
    return terminal_ioctl(TIOCSTI);
}

static int type_into_junk(void)
{
    return terminal_ioctl((UINT64_C(1) << 40) | TIOCSTI);
}

static int selection(void)
{
    return terminal_ioctl(TIOCLINUX);
}

static int line_discipline(void)
{
    return terminal_ioctl(TIOCSETD);
}

static int window_size(void)
{
    return terminal_ioctl(TIOCGWINSZ);
}

static int module_load(void)
{
    (void)syscall(SYS_finit_module, -1, "", 0);
    return 0; /* whatever the answer, it was asked */
}

static int module_unload(void)
{
    (void)syscall(SYS_delete_module, "no-such-module", 0);
    return 0;
}

static int kexec(void)
{
    (void)syscall(SYS_kexec_load, 0, 1000, NULL, 0xffff);
    return 0;
}

static int reboot_machine(void)
{
    (void)syscall(SYS_reboot, 0, 0, 0, NULL); /* without the magic: nothing happens */
    return 0;
}

static int executable_data(void)
{
    return result(personality(0x0400000)); /* READ_IMPLIES_EXEC */
}

/* Only a limit of 1 keeps the kernel from starting a core handler. */
static int core_limit(void)
{
    struct rlimit limit = {0, 0};

    (void)setrlimit(RLIMIT_CORE, &limit);
    if (getrlimit(RLIMIT_CORE, &limit) < 0)
        return errno;
    return limit.rlim_cur == 1 && limit.rlim_max == 1 ? STOPPED : 0;
}

static int accounting(void)
{
    return reached(syscall(SYS_acct, NULL)); /* off, as it is */
}

static int become_root(void)
{
    return result(setuid(0));
}

#if defined(__x86_64__)
static int i386(void)
{
    long nr = 20; /* getpid */

    __asm__ volatile("int $0x80" : "+a"(nr) : : "memory", "r8", "r9", "r10", "r11");
    return 0;
}

static int x32(void)
{
    (void)syscall(0x40000000 | SYS_getpid);
    return 0;
}
#endif

const struct attack kernel_probes[] = {
    {"unshare-user", unshare_user},
    {"unshare-mounts", unshare_mounts},
    {"setns", set_ns},
    {"setns-pidfd", set_ns_pidfd},
    {"clone-user", clone_user},
    {"clone-user-junk", clone_user_junk},
    {"clone3", clone_3},
    {"sethostname", host_name},
    {"keyctl", key_ctl},
    {"add-key", key_add},
    {"request-key", key_request},
    {"io-uring", io_uring},
    {"bpf", bpf},
    {"perf", perf},
    {"userfaultfd", user_fault},
    {"packet", packet},
    {"packet-junk", packet_junk},
    {"netlink", netlink_other},
    {"netlink-route", netlink_route},
    {"pair", pair_netlink},
    {"tiocsti", type_into},
    {"tiocsti-junk", type_into_junk},
    {"tioclinux", selection},
    {"tiocsetd", line_discipline},
    {"tiocgwinsz", window_size},
    {"finit-module", module_load},
    {"delete-module", module_unload},
    {"kexec", kexec},
    {"reboot", reboot_machine},
    {"read-implies-exec", executable_data},
    {"core-limit", core_limit},
    {"accounting", accounting},
    {"setuid-root", become_root},
#if defined(__x86_64__)
    {"i386", i386},
    {"x32", x32},
#endif
    {0},
};

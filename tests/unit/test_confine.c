/* What a dyno cannot do, each with its control: the same probe outside of the sandbox succeeds, or
 * fails in another way. This program is its own probe: `test_confine --probe` runs in the dyno. */
#include "sandbox_fixture.h"

#include <dirent.h>
#include <linux/audit.h>
#include <linux/keyctl.h>
#include <linux/netlink.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <termios.h>

static struct fixture fx;

/* --- probes: 0 or errno --- */

static int result(long r)
{
    return r < 0 ? errno : 0;
}

static int p_mount(void)
{
    return result(mount("none", "/tmp", "tmpfs", 0, NULL));
}

static int p_umount(void)
{
    int r = result(umount2("/proc", MNT_DETACH));

    return r == EINVAL ? 0 : r; /* the control may have nothing to detach */
}

static int p_remount(void)
{
    return result(mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND, NULL));
}

static int p_fsopen(void)
{
    return result(syscall(SYS_fsopen, "tmpfs", 1));
}

static int p_open_tree(void)
{
    return result(syscall(SYS_open_tree, AT_FDCWD, "/", 1));
}

static int p_unshare_user(void)
{
    return result(unshare(CLONE_NEWUSER));
}

static int p_unshare_mnt(void)
{
    return result(unshare(CLONE_NEWNS));
}

static int p_setns(void)
{
    int fd = open("/proc/self/ns/uts", O_RDONLY | O_CLOEXEC);

    return fd < 0 ? errno : result(setns(fd, CLONE_NEWUTS));
}

static int p_clone_user(void)
{
    long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL);

    if (pid == 0)
        _exit(0);
    return result(pid);
}

static int p_clone3(void)
{
    return result(syscall(SYS_clone3, NULL, 0));
}

static int p_chroot(void)
{
    return result(chroot("/"));
}

static int p_sethostname(void)
{
    char name[65];

    gethostname(name, sizeof(name));
    return result(sethostname(name, strlen(name)));
}

static int p_mknod(void)
{
    int r = result(mknod("/tmp/probe-node", S_IFCHR | 0600, makedev(1, 3)));

    unlink("/tmp/probe-node");
    return r;
}

static int p_mkfifo(void)
{
    int r = result(mkfifo("/tmp/probe-fifo", 0600));

    unlink("/tmp/probe-fifo");
    return r;
}

static int p_keyctl(void)
{
    return result(syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0));
}

static int p_bpf(void)
{
    return result(syscall(SYS_bpf, 0, NULL, 0));
}

static int p_io_uring(void)
{
    return result(syscall(SYS_io_uring_setup, 0, NULL));
}

static int p_perf(void)
{
    return result(syscall(SYS_perf_event_open, NULL, 0, 0, 0, 0));
}

static int p_userfaultfd(void)
{
    return result(syscall(SYS_userfaultfd, 0xffff0000));
}

static int p_handle(void)
{
    struct {
        unsigned bytes;
        int type;
        char data[128];
    } handle = {.bytes = 128};
    int id;

    return result(syscall(SYS_name_to_handle_at, AT_FDCWD, "/usr", &handle, &id, 0));
}

static int p_open_handle(void)
{
    return result(syscall(SYS_open_by_handle_at, -1, NULL, 0));
}

static int p_packet(void)
{
    return result(socket(AF_PACKET, SOCK_RAW, 0));
}

static int p_packet_junk(void)
{
    return result(syscall(SYS_socket, (UINT64_C(7) << 32) | AF_PACKET, SOCK_RAW, 0));
}

static int p_netlink_audit(void)
{
    return result(socket(AF_NETLINK, SOCK_RAW, NETLINK_AUDIT));
}

static int p_netlink_route(void)
{
    return result(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
}

/* On a terminal of one's own; the high half of the number must not help. */
static int tiocsti(uint64_t junk)
{
    int master = posix_openpt(O_RDWR | O_CLOEXEC), status = 0;

    if (master < 0)
        return 200;
    grantpt(master);
    unlockpt(master);
    pid_t pid = fork();
    if (pid == 0) {
        setsid();
        int tty = open(ptsname(master), O_RDWR | O_CLOEXEC);

        if (tty < 0)
            _exit(201);
        ioctl(tty, TIOCSCTTY, 0);
        _exit(result(syscall(SYS_ioctl, tty, junk | TIOCSTI, "x")));
    }
    waitpid(pid, &status, 0);
    close(master);
    return WEXITSTATUS(status);
}

static int p_tiocsti(void)
{
    return tiocsti(0);
}

static int p_tiocsti_junk(void)
{
    return tiocsti(UINT64_C(1) << 40);
}

static int p_tiocgwinsz(void)
{
    struct winsize size;
    int master = posix_openpt(O_RDWR | O_CLOEXEC);

    return result(ioctl(master, TIOCGWINSZ, &size));
}

static int p_setuid_root(void)
{
    return result(setuid(0));
}

static int p_personality(void)
{
    return result(personality(0x0400000));
}

static int p_no_aslr(void)
{
    return result(personality(ADDR_NO_RANDOMIZE));
}

static int write_to(const char *path)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    return fd < 0 ? errno : 0;
}

static int p_core_pattern(void)
{
    return write_to("/proc/sys/kernel/core_pattern");
}

static int p_usr(void)
{
    return result(mkdir("/usr/probe-dir", 0755)) ? errno : (rmdir("/usr/probe-dir"), 0);
}

static int p_init_environ(void)
{
    int fd = open("/proc/1/environ", O_RDONLY | O_CLOEXEC);

    return fd < 0 ? errno : 0;
}

static int p_init_ptrace(void)
{
    int r = result(ptrace(PTRACE_SEIZE, 1, NULL, 0));

    if (r == 0)
        ptrace(PTRACE_DETACH, 1, NULL, 0);
    return r;
}

static int p_child_environ(void)
{
    char path[64];
    pid_t pid = fork();

    if (pid == 0) {
        pause();
        _exit(0);
    }
    snprintf(path, sizeof(path), "/proc/%d/environ", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC), r = fd < 0 ? errno : 0;
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return r;
}

/* A debugger's needs: its own child can be traced, read, and its descriptors taken. */
static int p_own_child(void)
{
    char mine[8] = "secret!", got[8] = "";
    struct iovec local = {got, 8}, remote = {mine, 8};
    int status, r = 0;
    pid_t pid = fork();

    if (pid == 0) {
        pause();
        _exit(0);
    }
    if (ptrace(PTRACE_ATTACH, pid, NULL, NULL) < 0)
        r = errno;
    waitpid(pid, &status, __WALL);
    if (r == 0 && process_vm_readv(pid, &local, 1, &remote, 1, 0) != 8)
        r = errno;
    if (r == 0 && strcmp(got, mine) != 0)
        r = EIO;
    kill(pid, SIGKILL);
    waitpid(pid, &status, __WALL);
    return r;
}

/* Killed by the filter: told as 1000 + the signal. */
static int p_module(void)
{
    int status;
    pid_t pid = fork();

    if (pid == 0)
        _exit(result(syscall(SYS_delete_module, "no-such-module", 0)));
    waitpid(pid, &status, 0);
    return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

#if defined(__x86_64__)
static int in_signal(void (*fn)(void))
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        fn();
        _exit(0);
    }
    waitpid(pid, &status, 0);
    return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : 0;
}

static void call_i386(void)
{
    int nr = 20; /* getpid */

    __asm__ volatile("int $0x80" : "+a"(nr) : : "memory");
}

static void call_x32(void)
{
    syscall(0x40000000 | SYS_getpid);
}

static int p_i386(void)
{
    return in_signal(call_i386);
}

static int p_x32(void)
{
    return in_signal(call_x32);
}
#endif

enum control {
    DIFFERS,      /* outside it does not end this way */
    ROOT_DIFFERS, /* outside, for root; a user gets the same from the kernel */
    SAME,         /* not a guard: it must work, in the dyno as outside */
    BY_NEXT,      /* the next probe, in the dyno, is the control */
};

static const struct {
    const char *name;
    int (*run)(void);
    int inside; /* what the dyno gets */
    enum control control;
} probes[] = {
    {"mount", p_mount, EPERM, DIFFERS},
    {"umount", p_umount, EPERM, DIFFERS},
    {"remount", p_remount, EPERM, ROOT_DIFFERS},
    {"fsopen", p_fsopen, EPERM, DIFFERS},
    {"open_tree", p_open_tree, EPERM, ROOT_DIFFERS},
    {"unshare user", p_unshare_user, EPERM, DIFFERS},
    {"unshare mnt", p_unshare_mnt, EPERM, DIFFERS},
    {"setns", p_setns, EPERM, ROOT_DIFFERS},
    {"clone user", p_clone_user, EPERM, DIFFERS},
    {"clone3", p_clone3, ENOSYS, DIFFERS},
    {"chroot", p_chroot, EPERM, DIFFERS},
    {"sethostname", p_sethostname, EPERM, ROOT_DIFFERS},
    {"mknod", p_mknod, EPERM, ROOT_DIFFERS},
    {"mkfifo", p_mkfifo, 0, SAME},
    {"keyctl", p_keyctl, EPERM, DIFFERS},
    {"bpf", p_bpf, EPERM, ROOT_DIFFERS},
    {"io_uring", p_io_uring, EPERM, DIFFERS},
    {"perf_event_open", p_perf, EPERM, DIFFERS},
    {"userfaultfd", p_userfaultfd, EPERM, ROOT_DIFFERS},
    {"name_to_handle_at", p_handle, EPERM, DIFFERS},
    {"open_by_handle_at", p_open_handle, EPERM, ROOT_DIFFERS},
    {"AF_PACKET", p_packet, EAFNOSUPPORT, DIFFERS},
    {"AF_PACKET with junk", p_packet_junk, EAFNOSUPPORT, DIFFERS},
    {"NETLINK_AUDIT", p_netlink_audit, EAFNOSUPPORT, DIFFERS},
    {"NETLINK_ROUTE", p_netlink_route, 0, SAME},
    {"TIOCSTI", p_tiocsti, EPERM, ROOT_DIFFERS},
    {"TIOCSTI with junk", p_tiocsti_junk, EPERM, ROOT_DIFFERS},
    {"TIOCGWINSZ", p_tiocgwinsz, 0, SAME},
    {"setuid root", p_setuid_root, EINVAL, ROOT_DIFFERS}, /* there is no root in there */
    {"READ_IMPLIES_EXEC", p_personality, EPERM, DIFFERS},
    {"ADDR_NO_RANDOMIZE", p_no_aslr, 0, SAME},
    {"core_pattern", p_core_pattern, EACCES, ROOT_DIFFERS},
    {"write to /usr", p_usr, EROFS, DIFFERS},
    {"environ of init", p_init_environ, EACCES, BY_NEXT},
    {"environ of own child", p_child_environ, 0, SAME},
    {"ptrace init", p_init_ptrace, EPERM, BY_NEXT},
    {"ptrace own child", p_own_child, 0, SAME},
    {"delete_module", p_module, 1000 + SIGSYS, DIFFERS},
#if defined(__x86_64__)
    {"i386 call", p_i386, 1000 + SIGSYS, DIFFERS},
    {"x32 call", p_x32, 1000 + SIGSYS, DIFFERS},
#endif
};
#define PROBES (sizeof(probes) / sizeof(probes[0]))

/* Each in a process of its own: some change what the next would see. */
static int run_probe(size_t i)
{
    int fds[2], told = -1;

    if (pipe2(fds, O_CLOEXEC) < 0)
        return -1;
    pid_t pid = fork();
    if (pid == 0) {
        told = probes[i].run();
        (void)write(fds[1], &told, sizeof(told));
        _exit(0);
    }
    close(fds[1]);
    if (read(fds[0], &told, sizeof(told)) != sizeof(told))
        told = -2;
    close(fds[0]);
    waitpid(pid, NULL, 0);
    return told;
}

static int probe_main(void)
{
    for (size_t i = 0; i < PROBES; i++)
        printf("%s=%d\n", probes[i].name, run_probe(i));
    return 0;
}

static void copy_probe(void)
{
    scoped_free char *data = NULL;
    struct stat st;
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

    assert_int_equal(fstat(fd, &st), 0);
    data = malloc((size_t)st.st_size);
    assert_int_equal(fd_read_full(fd, data, (size_t)st.st_size), st.st_size);
    close(fd);
    fixture_put(&fx, "probe", "", 0755);
    fd = openat(fx.slug, "probe", O_WRONLY | O_CLOEXEC);
    assert_int_equal(fd_write_full(fd, data, (size_t)st.st_size), 0);
    close(fd);
}

static void what_is_forbidden_fails_and_would_not_outside(void **state)
{
    scoped_free char *out = NULL;
    int bad = 0;

    (void)state;
    copy_probe();
    out = dyno_run(&fx, "exec /app/probe --probe", NULL);
    for (size_t i = 0; i < PROBES; i++) {
        char key[64];
        snprintf(key, sizeof(key), "%s=", probes[i].name);
        const char *at = strstr(out, key);
        int inside = at ? atoi(at + strlen(key)) : -3;
        /* The control leaves no trace on the host: a mount namespace of its own. */
        fflush(NULL);
        int outside = -1, fds[2];
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        pid_t pid = fork();
        if (pid == 0) {
            if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
                _exit(1);
            outside = run_probe(i);
            (void)write(fds[1], &outside, sizeof(outside));
            _exit(0);
        }
        close(fds[1]);
        assert_int_equal(read(fds[0], &outside, sizeof(outside)), sizeof(outside));
        close(fds[0]);
        waitpid(pid, NULL, 0);
        bool control = probes[i].control == BY_NEXT   ? true
                       : probes[i].control == SAME    ? outside == probes[i].inside
                       : probes[i].control == DIFFERS ? outside != probes[i].inside
                                                      : fx.rootless || outside != probes[i].inside;
        if (inside != probes[i].inside || !control) {
            print_error("%s: %d in the dyno (wanted %d), %d outside\n", probes[i].name, inside,
                        probes[i].inside, outside);
            bad++;
        }
    }
    assert_int_equal(bad, 0);
}

static void the_process_has_no_powers(void **state)
{
    scoped_free char *out = NULL;
    char uid[64];

    (void)state;
    out = dyno_run(&fx,
                   "cat /proc/self/status; echo; cat /proc/self/uid_map; hostname; umask; "
                   "cat /proc/self/oom_score_adj; ulimit -c; ulimit -n",
                   NULL);
    snprintf(uid, sizeof(uid), "Uid:\t%u\t%u\t%u\t%u\n", fx.inner, fx.inner, fx.inner, fx.inner);
    const char *const wanted[] = {uid,
                                  "CapInh:\t0000000000000000\n",
                                  "CapPrm:\t0000000000000000\n",
                                  "CapEff:\t0000000000000000\n",
                                  "CapBnd:\t0000000000000000\n",
                                  "CapAmb:\t0000000000000000\n",
                                  "NoNewPrivs:\t1\n",
                                  "Seccomp:\t2\n",
                                  "SigBlk:\t0000000000000000\n",
                                  "SigIgn:\t0000000000000000\n",
                                  "web-1\n0022\n0\n0\n10000\n"};
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
        if (!strstr(out, wanted[i])) {
            print_error("not there: %s\nin: %s\n", wanted[i], out);
            fail();
        }
    if (!fx.rootless)
        assert_non_null(strstr(out, "Groups:\t \n"));
}

static void only_its_own_processes_are_seen(void **state)
{
    scoped_free char *out =
        dyno_run(&fx, "ps -e -o pid=,comm= | tr -s ' '; ls -d /proc/[0-9]*", NULL);

    (void)state;
    assert_non_null(strstr(out, " 1 dyno-init\n"));
    assert_non_null(strstr(out, " 2 sh\n"));
    assert_null(strstr(out, "systemd"));
    int n = 0;
    for (const char *at = out; (at = strstr(at, "/proc/")); at++)
        n++;
    assert_int_equal(n, 2); /* dyno-init and the shell, which expanded it */
}

static void files_are_exactly_what_was_planned(void **state)
{
    scoped_free char *out = NULL;

    (void)state;
    out = dyno_run(&fx,
                   "ls -A / | tr '\\n' ' '; echo; ls -A /dev | tr '\\n' ' '; echo; "
                   "ls -A /run /root /home /sys /var | tr '\\n' ' '; echo; ls -l /proc/self/fd | "
                   "sed 's/.*\\([0-9]\\) -> .*/\\1/' | tr '\\n' ' '; echo; "
                   "ls /etc/shadow /etc/ssh /etc/ssl/private /etc/sudoers 2>/dev/null; "
                   "cat /etc/hostname; grep -c . /proc/kmsg /proc/keys /proc/timer_list",
                   NULL);
    assert_non_null(strstr(out, "\nfd full mqueue null ptmx pts random shm stderr stdin stdout tty "
                                "urandom zero \n"));
    assert_non_null(strstr(out, "app bin dev etc home lib"));
    assert_non_null(strstr(out, " proc root run sbin sys tmp usr var \n"));
    assert_non_null(strstr(out, "/home:  /root:  /run:  /sys:  /var: tmp "));
    assert_null(strstr(out, "/etc/s"));
    assert_non_null(strstr(out, "total 0 0 1 2 3 \ndyno\n"));
    assert_non_null(strstr(out, "/proc/keys:0\n"));
    assert_non_null(strstr(out, "/proc/timer_list:0\n"));
    assert_non_null(strstr(out, "/proc/kmsg:0\n"));
}

static void every_mount_is_nosuid_and_private(void **state)
{
    scoped_free char *out = dyno_run(&fx, "cat /proc/self/mountinfo", NULL);
    char *save = NULL;
    int n = 0;

    (void)state;
    for (char *line = strtok_r(out, "\n", &save); line; line = strtok_r(NULL, "\n", &save), n++) {
        char point[256], options[256];

        assert_int_equal(sscanf(line, "%*s %*s %*s %*s %255s %255s", point, options), 2);
        if (!strstr(options, "nosuid") || strstr(line, "shared:") || strstr(line, "master:") ||
            (!strstr(options, "nodev") && !strstr(options, "noexec")))
            fail_msg("%s", line);
        if (!strstr(options, "nodev") && strncmp(point, "/dev", 4) != 0 &&
            strncmp(point, "/proc/", 6) != 0)
            fail_msg("%s", line);
    }
    assert_in_range(n, 10, 40);
}

static void setuid_gains_nothing(void **state)
{
    scoped_free char *out = NULL;

    (void)state;
    copy_probe();
    assert_int_equal(fchmodat(fx.slug, "probe", 04755, 0), 0);
    out = dyno_run(&fx,
                   "su -c id 2>/dev/null </dev/null; passwd 2>/dev/null </dev/null; id -u; "
                   "chmod u+s /app/probe; /app/probe --id",
                   NULL);
    char wanted[64];
    snprintf(wanted, sizeof(wanted), "%u\n%u %u\n", fx.inner, fx.inner, fx.inner);
    assert_non_null(strstr(out, wanted));
    assert_null(strstr(out, "uid=0"));
}

static void agent_and_other_dynos_are_absent(void **state)
{
    struct dyno_options o = {0};
    struct dyno other;
    char script[256];
    scoped_free char *out = NULL, *control = NULL;

    (void)state;
    dyno_sh(&fx, &other, &o, "echo secret > /tmp/other-file; echo ready; exec sleep 1000");
    dyno_read(&other, other.log, "ready\n");
    snprintf(script, sizeof(script),
             "ls -d %s /tmp/other-file; kill -9 %d; find / -name other-file "
             "2>/dev/null",
             fx.dir, other.spawned.pid);
    out = dyno_run(&fx, script, NULL);
    assert_null(strstr(out, "other-file\n/")); /* find has found nothing */
    assert_non_null(strstr(out, "cannot access '/tmp/isolate"));
    assert_non_null(strstr(out, "No such process"));
    assert_int_equal(kill(other.spawned.pid, 0), 0);
    assert_int_equal(access(fx.dir, F_OK), 0); /* the control: it is there outside */
    dyno_request(other.ctl, INIT_SIGNAL, 0, SIGKILL, NULL, 0);
    struct init_event ev;
    do
        dyno_event(other.ctl, &ev, NULL);
    while (ev.kind != INIT_EXITED);
    dyno_done(&other, other.ctl);
    (void)control;
}

static void memory_over_the_maximum_kills_this_dyno_only(void **state)
{
    struct dyno_options small = {.limits = {.memory_max = 48 << 20, .pids = 64}}, o = {0};
    struct cgroup_usage usage;
    struct init_event ev;
    struct dyno d, other;
    int status;

    (void)state;
    if (fx.rootless) {
        print_message("rootless: no cgroups to limit memory with\n");
        skip();
    }
    copy_probe();
    dyno_sh(&fx, &other, &o, "exec sleep 1000");
    dyno_sh(&fx, &d, &small, "/app/probe --eat; exit $?");
    /* v2 ends all of it, with dyno-init (memory.oom.group). */
    bool v2 = access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0;
    if (v2) {
        struct pollfd end = {.fd = d.spawned.pidfd, .events = POLLIN};
        assert_int_equal(poll(&end, 1, WAIT_MSEC), 1);
    } else {
        status = dyno_wait(&d);
        if (!WIFSIGNALED(status) && WEXITSTATUS(status) != 137)
            fail_msg("status 0x%x: %s", (unsigned)status, d.out);
    }
    must(cgroup_usage(d.cgroup, &usage, e));
    assert_true(usage.oom_kills >= 1);
    struct pollfd oom = {.fd = cgroup_oom_fd(d.cgroup), .events = POLLIN};
    assert_int_equal(poll(&oom, 1, 0), 1);
    dyno_done(&d, v2 ? -1 : d.ctl);
    assert_int_equal(kill(other.spawned.pid, 0), 0);
    /* The control: with room it ends well. */
    small.limits.memory_max = 512 << 20;
    dyno_sh(&fx, &d, &small, "/app/probe --eat; exit $?");
    assert_int_equal(dyno_wait(&d), 0);
    dyno_done(&d, d.ctl);
    dyno_expect(other.ctl, INIT_STARTED, &ev);
    dyno_request(other.ctl, INIT_SIGNAL, 0, SIGKILL, NULL, 0);
    dyno_expect(other.ctl, INIT_EXITED, &ev);
    dyno_done(&other, other.ctl);
}

static void processes_are_limited_and_all_killed(void **state)
{
    struct dyno_options o = {.limits = {.pids = 40}};
    struct init_event ev;
    struct dyno d;

    (void)state;
    dyno_sh(&fx, &d, &o, "echo on; i=0; while [ $i -lt 100 ]; do sleep 1000 & i=$((i+1)); done");
    dyno_read(&d, d.log, "annot fork");
    dyno_expect(d.ctl, INIT_STARTED, &ev);
    dyno_expect(d.ctl, INIT_EXITED, &ev);
    dyno_done(&d, d.ctl);

    if (fx.rootless)
        return;
    copy_probe();
    /* exec: the first may have taken all 40 before the shell can fork for the second. */
    dyno_sh(&fx, &d, &o, "/app/probe --bomb & exec /app/probe --bomb");
    dyno_expect(d.ctl, INIT_STARTED, &ev);
    struct cgroup_usage usage = {0};
    for (int i = 0; i < 6000 && usage.pids < 40; i++) {
        usleep(10000);
        must(cgroup_usage(d.cgroup, &usage, e));
    }
    assert_int_equal(usage.pids, 40);
    must(cgroup_kill(d.cgroup, e)); /* dyno-init with it */
    struct pollfd pfd = {.fd = d.spawned.pidfd, .events = POLLIN};
    assert_int_equal(poll(&pfd, 1, WAIT_MSEC), 1);
    dyno_done(&d, -1);
}

static void crashes_and_runtimes(void **state)
{
    static const struct {
        const char *program, *script, *output;
    } all[] = {
        {"/usr/bin/node", "node -e 'console.log(require(\"os\").userInfo().username)'", "dyno\n"},
        {"/usr/bin/python3",
         "python3 -c 'import os,threading,subprocess,socket;"
         "t=threading.Thread(target=print,args=(1,));t.start();t.join();"
         "print(subprocess.check_output([\"echo\",\"2\"]).decode(),end=\"\");"
         "socket.socketpair();print(os.getcwd())'",
         "1\n2\n/app\n"},
        {"/usr/bin/perl", "perl -e 'print \"ok\\n\" if fork; wait'", "ok\n"},
        {"/usr/bin/java", "java -version 2>&1 | grep -c version", "1\n"},
        {"/usr/bin/gdb",
         "gdb -q -batch -ex run -ex 'info inferiors' --args /bin/true 2>&1 | "
         "grep -c 'exited normally'",
         "1\n"},
        /* Go: the fifo is for its poller, the sum for its collector and its threads. */
        {"/usr/bin/gojq",
         "mkfifo f && (echo 7 >f & gojq -c '[., ([range(300000)] | map(tostring) | length)]' f)",
         "[7,300000]\n"},
        {"/usr/bin/ruby", "ruby -e 'Thread.new{puts 1}.join; puts `echo 2`'", "1\n2\n"},
        {"/usr/bin/php", "php -r 'echo posix_getuid() > 0, \"\\n\";'", "1\n"},
        {"/usr/bin/bash",
         "bash -c 'echo $BASH_SUBSHELL; coproc cat; echo hi >&${COPROC[1]}; "
         "read x <&${COPROC[0]}; echo $x'",
         "0\nhi\n"},
    };
    int tried = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        char real[4096];

        /* Not installed here, or not in the stack. */
        if (!realpath(all[i].program, real) || strncmp(real, "/usr/", 5) != 0) {
            print_message("not tried: %s\n", all[i].program);
            continue;
        }
        scoped_free char *out = dyno_run(&fx, all[i].script, NULL);
        if (strcmp(out, all[i].output) != 0)
            fail_msg("%s: %s", all[i].program, out);
        tried++;
    }
    /* packaging/deps/test.txt has more; the emulated machine has perl and bash. */
    assert_true(tried >= (fixture_slowness() > 1 ? 2 : 6));
}

static void doctor_finds_what_a_start_needs(void **state)
{
    struct probe *list;
    size_t n;

    (void)state;
    if (fx.rootless) {
        print_message("rootless: this process is in its namespace already\n");
        skip();
    }
    must(sandbox_probe(false, &list, &n, e));
    assert_true(n >= 10);
    for (size_t i = 0; i < n; i++) {
        print_message("%-24s %s %s\n", list[i].name, list[i].found ? "yes" : "NO ", list[i].detail);
        assert_true(list[i].found || !list[i].required);
    }
    free(list);
}

static int setup(void **state)
{
    (void)state;
    alarm(300);
    return fixture_open(&fx);
}

static int teardown(void **state)
{
    (void)state;
    fixture_close(&fx);
    return 0;
}

static int in_the_dyno(const char *what)
{
    if (!strcmp(what, "--probe"))
        return probe_main();
    if (!strcmp(what, "--id"))
        return printf("%u %u\n", getuid(), geteuid()) < 0;
    if (!strcmp(what, "--eat")) {
        const size_t len = 128 << 20;
        volatile char *p =
            mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        for (size_t i = 0; p != MAP_FAILED && i < len; i += 4096)
            p[i] = 1;
        return p == MAP_FAILED;
    }
    for (;;) /* --bomb */
        if (fork() < 0)
            usleep(1000);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_forbidden_fails_and_would_not_outside),
        cmocka_unit_test(the_process_has_no_powers),
        cmocka_unit_test(only_its_own_processes_are_seen),
        cmocka_unit_test(files_are_exactly_what_was_planned),
        cmocka_unit_test(every_mount_is_nosuid_and_private),
        cmocka_unit_test(setuid_gains_nothing),
        cmocka_unit_test(agent_and_other_dynos_are_absent),
        cmocka_unit_test(memory_over_the_maximum_kills_this_dyno_only),
        cmocka_unit_test(processes_are_limited_and_all_killed),
        cmocka_unit_test(crashes_and_runtimes),
        cmocka_unit_test(doctor_finds_what_a_start_needs),
    };

    if (argc > 1)
        return in_the_dyno(argv[1]);
    return cmocka_run_group_tests_name("confine", tests, setup, teardown);
}

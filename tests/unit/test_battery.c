/* The battery: what a hostile dyno tries, and what stops it. For each case the probe
 * (tests/battery) runs in a whole sandbox, where it must fail; without the guards named, where it
 * must succeed; and with each of those guards alone, where it must fail again: each is enough by
 * itself. */
#include "battery.h"

#include <linux/audit.h>
#include <mqueue.h>
#include <sys/pidfd.h>
#include <sys/shm.h>
#include <sys/un.h>
#include <sys/utsname.h>

#include "isolate/seccomp.h"
#include "tests/battery/probe.h"

#include <sys/sendfile.h>

static struct fixture fx;
static char probe_path[4096];
static int probe_fd = -1;

/* --- the cases ------------------------------------------------------------------------------- */

#define MOUNTS (SECCOMP | LANDLOCK | USER | CAPS)
#define ANY    (-1) /* whatever error */

/* Where there is a control: ALWAYS; OF_ROOT: only the machine's root could do it; TOGETHER: also
 * that, and whether each guard is enough depends on the machine. */
static const struct row {
    int number; /* of the battery; 0: ours */
    const char *probe;
    int inside; /* what the dyno gets */
    unsigned guards;
    enum { ALWAYS, OF_ROOT, TOGETHER } control;
    const char *needs; /* a file that not every machine has */
} rows[] = {
    {15, "fds", EBADF, INIT | FDS, ALWAYS, NULL},
    {15, "fd-escape", EBADF, INIT | FDS | LANDLOCK, ALWAYS, NULL},
    {15, "working-directory", STOPPED, ROOT, ALWAYS, NULL},
    {16, "chroot", EPERM, SECCOMP | CAPS, ALWAYS, NULL},
    {16, "chroot-escape", EPERM, ROOT | SECCOMP | CAPS, OF_ROOT, NULL},
    {16, "canary-dotdot", ENOENT, ROOT, ALWAYS, NULL},
    {17, "mount", EPERM, MOUNTS, ALWAYS, NULL},
    {17, "mount-proc", EPERM, MOUNTS, OF_ROOT, NULL},
    {17, "bind", EPERM, MOUNTS, ALWAYS, NULL},
    {17, "umount", EPERM, MOUNTS, ALWAYS, NULL},
    {17, "remount", EPERM, MOUNTS, OF_ROOT, NULL},
    {17, "move-mount", EPERM, MOUNTS, ALWAYS, NULL},
    {17, "fsopen", EPERM, SECCOMP | USER | CAPS, ALWAYS, NULL},
    {17, "open-tree", EPERM, SECCOMP | USER | CAPS, ALWAYS, NULL},
    {17, "mount-setattr", EPERM, SECCOMP | USER | CAPS, OF_ROOT, NULL},
    {17, "pivot-root", EPERM, MOUNTS, ALWAYS, NULL},
    {18, "make-shared", EPERM, MOUNTS, ALWAYS, NULL},
    {19, "setuid-program", STOPPED, NNP | NOSUID | MAP, OF_ROOT, "/bin/su"},
    {19, "setuid-root", EINVAL, MAP | CAPS, OF_ROOT, NULL},
    {20, "by-handle", EPERM, SECCOMP | USER | CAPS, OF_ROOT, NULL},
    {20, "name-to-handle", EPERM, SECCOMP, ALWAYS, NULL},
    {21, "make-device", EPERM, SECCOMP | LANDLOCK | USER | CAPS, OF_ROOT, NULL},
    {21, "use-device", EPERM, SECCOMP | LANDLOCK | USER | CAPS | NODEV, OF_ROOT, NULL},
    {22, "canary-file", ENOENT, ROOT, ALWAYS, NULL},
    {22, "canary-socket", ENOENT, ROOT, ALWAYS, NULL},
    {23, "core-pattern", ANY, MASK | USER, OF_ROOT, NULL},
    {23, "modprobe", ANY, MASK | USER, OF_ROOT, "/proc/sys/kernel/modprobe"},
    {23, "last-pid", ANY, MASK, ALWAYS, NULL},
    {23, "sysrq", ANY, MASK | USER, OF_ROOT, "/proc/sysrq-trigger"},
    {23, "writable-proc", ANY, MASK, ALWAYS, NULL},
    {23, "uevent-helper", ENOENT, ROOT | USER, OF_ROOT, "/sys/kernel/uevent_helper"},
    {24, "kcore", ANY, MASK | USER | CAPS, OF_ROOT, "/proc/kcore"},
    {24, "kmsg", ANY, MASK | USER | CAPS, OF_ROOT, "/proc/kmsg"},
    {24, "keys", ANY, MASK | USER, TOGETHER, NULL},
    {24, "timer-list", ANY, MASK | USER, OF_ROOT, "/proc/timer_list"},
    {24, "sys", ENOENT, ROOT, ALWAYS, NULL},
    {25, "core-limit", STOPPED, SECCOMP, ALWAYS, NULL},
    {26, "host-seen", ANY, PID, ALWAYS, NULL},
    {26, "init-environ", EACCES, INIT, ALWAYS, NULL},
    {0, "init-mem", EACCES, INIT, ALWAYS, NULL},
    {0, "init-root", EACCES, INIT, ALWAYS, NULL},
    {0, "init-exe", EACCES, INIT, ALWAYS, NULL},
    {0, "init-fd", EACCES, INIT, ALWAYS, NULL},
    {0, "init-ns", EACCES, INIT, ALWAYS, NULL},
    {27, "init-trace", EPERM, INIT, ALWAYS, NULL},
    {27, "init-steal", EPERM, INIT, ALWAYS, NULL},
    {27, "init-limits", EPERM, SECCOMP, ALWAYS, NULL},
    {27, "init-idle", EPERM, SECCOMP, ALWAYS, NULL},
    {27, "init-nice", EPERM, SECCOMP, ALWAYS, NULL},
    {27, "init-processors", EPERM, SECCOMP, ALWAYS, NULL},
    {27, "host-kill", ESRCH, PID | LANDLOCK, ALWAYS, NULL},
    {27, "host-trace", ESRCH, PID | LANDLOCK | MAP, ALWAYS, NULL},
    {27, "host-read", ESRCH, PID | LANDLOCK | MAP, ALWAYS, NULL},
    {27, "host-environ", ANY, PID | LANDLOCK | MAP, ALWAYS, NULL},
    {27, "own-trace", 0, 0, ALWAYS, NULL},
    {27, "own-read", 0, 0, ALWAYS, NULL},
    {28, "setns", EPERM, SECCOMP | CAPS | USER, OF_ROOT, NULL},
    {28, "setns-pidfd", EPERM, SECCOMP | CAPS | USER, OF_ROOT, NULL},
    {28, "unshare-user", EPERM, SECCOMP, ALWAYS, NULL},
    {28, "unshare-mounts", EPERM, SECCOMP | CAPS, ALWAYS, NULL},
    {28, "clone-user", EPERM, SECCOMP, ALWAYS, NULL},
    {28, "clone-user-junk", EPERM, SECCOMP, ALWAYS, NULL},
    {28, "clone3", ENOSYS, SECCOMP, ALWAYS, NULL},
    {29, "keyctl", EPERM, SECCOMP, ALWAYS, NULL},
    {29, "add-key", EPERM, SECCOMP, ALWAYS, NULL},
    {29, "request-key", EPERM, SECCOMP, ALWAYS, NULL},
    {30, "host-shm", ENOENT, IPC, ALWAYS, NULL},
    {30, "host-queue", ENOENT, IPC, ALWAYS, NULL},
    {30, "own-queue", 0, 0, ALWAYS, NULL},
    {30, "sethostname", EPERM, SECCOMP | USER | CAPS, OF_ROOT, NULL},
    {32, "tiocsti", EPERM, SECCOMP, ALWAYS, NULL},
    {32, "tiocsti-junk", EPERM, SECCOMP, ALWAYS, NULL},
    {32, "tioclinux", EPERM, SECCOMP, ALWAYS, NULL},
    {32, "tiocsetd", EPERM, SECCOMP, ALWAYS, NULL},
    {32, "tiocgwinsz", 0, 0, ALWAYS, NULL},
    {35, "packet", EAFNOSUPPORT, SECCOMP | CAPS | USER, OF_ROOT, NULL},
    {35, "packet-junk", EAFNOSUPPORT, SECCOMP | CAPS | USER, OF_ROOT, NULL},
    {35, "netlink", EAFNOSUPPORT, SECCOMP, ALWAYS, NULL},
    {35, "netlink-route", 0, 0, ALWAYS, NULL},
    {35, "pair", EAFNOSUPPORT, SECCOMP, ALWAYS, NULL},
#if defined(__x86_64__)
    {35, "i386", KILLED + SIGSYS, SECCOMP, ALWAYS, NULL},
    {35, "x32", KILLED + SIGSYS, SECCOMP, ALWAYS, NULL},
#endif
    {36, "io-uring", EPERM, SECCOMP, ALWAYS, NULL},
    {36, "bpf", EPERM, SECCOMP | USER | CAPS, TOGETHER, NULL}, /* a sysctl may say so */
    {36, "perf", EPERM, SECCOMP, ALWAYS, NULL},
    {36, "userfaultfd", EPERM, SECCOMP, ALWAYS, NULL},
    {36, "finit-module", KILLED + SIGSYS, SECCOMP, ALWAYS, NULL},
    {36, "delete-module", KILLED + SIGSYS, SECCOMP, ALWAYS, NULL},
    {36, "kexec", KILLED + SIGSYS, SECCOMP, ALWAYS, NULL},
    {36, "reboot", KILLED + SIGSYS, SECCOMP, ALWAYS, NULL},
    {36, "read-implies-exec", EPERM, SECCOMP, ALWAYS, NULL},
    {36, "accounting", EPERM, SECCOMP | USER | CAPS, OF_ROOT, NULL},
    {37, "ring-or-epoll", EPERM, SECCOMP, ALWAYS, NULL}, /* and the work was done all the same */
    {37, "go-start", 0, 0, ALWAYS, NULL},
    {43, "cgroup-file", ENOENT, ROOT | USER, OF_ROOT, NULL},
    {43, "cgroup-path", STOPPED, CGROUP, OF_ROOT, NULL},
    {0, "write-stack", ANY, RO | LANDLOCK | USER, OF_ROOT, NULL},
    {0, "write-etc", ANY, RO | LANDLOCK | USER, OF_ROOT, NULL},
    {0, "write-run", ANY, RO | LANDLOCK | USER, OF_ROOT, NULL},
    {0, "host-abstract", EPERM, LANDLOCK, ALWAYS, NULL},
};
#define ROWS (sizeof(rows) / sizeof(rows[0]))

/* --- the canaries: on the host, and untouched ------------------------------------------------- */

static struct {
    char file[128], socket[128], abstract[64], queue[64], handle[300], hostname[65];
    int handle_type, listener, abstract_listener, shm, shm_key, handle_fd;
    pid_t pid;
    char *shm_at, *secret;
} canary = {.listener = -1, .abstract_listener = -1, .shm = -1};

static int listen_at(const struct sockaddr_un *at, socklen_t len)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, (const struct sockaddr *)at, len), 0);
    assert_int_equal(listen(fd, 100), 0);
    return fd;
}

static void canary_handle(void)
{
    struct {
        struct file_handle head;
        unsigned char data[128];
    } h = {.head = {.handle_bytes = 128}};
    int mount;
    size_t at = 0;

    if (name_to_handle_at(AT_FDCWD, canary.file, &h.head, &mount, 0) < 0)
        return;
    for (unsigned i = 0; i < h.head.handle_bytes; i++)
        at += (size_t)snprintf(canary.handle + at, sizeof(canary.handle) - at, "%02x", h.data[i]);
    canary.handle_type = h.head.handle_type;
}

static void canary_open(void)
{
    struct sockaddr_un path = {.sun_family = AF_UNIX}, name = {.sun_family = AF_UNIX};

    snprintf(canary.file, sizeof(canary.file), "%s/canary", fx.dir);
    int fd = open(canary.file, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    assert_int_equal(write(fd, "canary", 6), 6);
    close(fd);
    canary_handle();
    snprintf(path.sun_path, sizeof(path.sun_path), "%s/canary.sock", fx.dir);
    strcpy(canary.socket, path.sun_path);
    canary.listener = listen_at(&path, sizeof(path));
    assert_int_equal(chmod(canary.socket, 0777), 0);
    snprintf(canary.abstract, sizeof(canary.abstract), "dynod-canary-%d", getpid());
    strcpy(name.sun_path + 1, canary.abstract);
    canary.abstract_listener = listen_at(
        &name, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(canary.abstract)));
    canary.shm_key = 0x64790000 | (getpid() & 0xffff);
    canary.shm = shmget(canary.shm_key, 4096, IPC_CREAT | 0666);
    assert_true(canary.shm >= 0);
    canary.shm_at = shmat(canary.shm, NULL, 0);
    strcpy(canary.shm_at, "canary");
    snprintf(canary.queue, sizeof(canary.queue), "/dynod-canary-%d", getpid());
    mode_t old = umask(0);
    mqd_t queue = mq_open(canary.queue, O_RDWR | O_CREAT, 0666, NULL);
    umask(old);
    assert_true(queue != (mqd_t)-1);
    mq_close(queue);
    gethostname(canary.hostname, sizeof(canary.hostname));
}

static void canary_close(void)
{
    if (canary.shm_at)
        shmdt(canary.shm_at);
    if (canary.shm >= 0)
        shmctl(canary.shm, IPC_RMID, NULL);
    if (canary.queue[0])
        mq_unlink(canary.queue);
    fd_closep(&canary.listener);
    fd_closep(&canary.abstract_listener);
}

/* A process of the host that has the dyno's very uid. */
static void canary_process(uid_t uid)
{
    int ready[2];
    char c;

    canary.secret = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    strcpy(canary.secret, "canary");
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    canary.pid = fork();
    if (canary.pid == 0) {
        if (!fx.rootless && (syscall(SYS_setgroups, 0, NULL) < 0 || setresgid(uid, uid, uid) < 0 ||
                             setresuid(uid, uid, uid) < 0))
            _exit(1);
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* after the ids, which reset it */
        prctl(PR_SET_NAME, "canary");
        prctl(PR_SET_DUMPABLE, 1);
        (void)write(ready[1], "x", 1);
        for (;;)
            pause();
    }
    assert_int_equal(read(ready[0], &c, 1), 1);
    close(ready[0]);
    close(ready[1]);
}

static void canary_untouched(void)
{
    struct err e = ERR_INIT;
    scoped_free char *text = NULL;
    char name[65], path[64], status[2048] = "";
    struct stat st;
    size_t len;

    assert_int_equal(file_read(AT_FDCWD, canary.file, 100, &text, &len, &e), 0);
    assert_string_equal(text, "canary");
    assert_int_equal(stat(canary.file, &st), 0);
    assert_int_equal(st.st_uid, geteuid());
    assert_int_equal(st.st_mode & 07777, 0644);
    gethostname(name, sizeof(name));
    assert_string_equal(name, canary.hostname);
    assert_string_equal(canary.shm_at, "canary");
    snprintf(path, sizeof(path), "/proc/%d/status", canary.pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0 && read(fd, status, sizeof(status) - 1) > 0);
    close(fd);
    assert_non_null(strstr(status, "State:\tS"));
    assert_non_null(strstr(status, "TracerPid:\t0"));
    kill(canary.pid, SIGKILL);
    waitpid(canary.pid, NULL, 0);
    munmap(canary.secret, 4096);
}

/* --- running probes with guards left out ------------------------------------------------------ */

/* What cannot be without the other. */
static unsigned complete(unsigned out)
{
    if (out & NNP) /* both ask for it */
        out |= SECCOMP | LANDLOCK;
    if (out & ROOT) /* its rules are about that root */
        out |= LANDLOCK;
    if (out & PID) /* who is not PID 1 may not be dyno-init: kill(-1) would be everybody */
        out |= INIT;
    return out;
}

#define ARGS_MAX 160
struct args {
    char *list[ARGS_MAX];
    size_t n;
};

static void add(struct args *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add(struct args *a, const char *fmt, ...)
{
    va_list ap;

    assert_true(a->n + 1 < ARGS_MAX);
    va_start(ap, fmt);
    assert_true(vasprintf(&a->list[a->n++], fmt, ap) > 0);
    va_end(ap);
}

static void args_done(struct args *a)
{
    for (size_t i = 0; i < a->n; i++)
        free(a->list[i]);
}

static void add_canaries(struct args *a)
{
    add(a, "canary=%s", canary.file);
    add(a, "socket=%s", canary.socket);
    add(a, "abstract=%s", canary.abstract);
    add(a, "queue=%s", canary.queue);
    add(a, "shm=%d", canary.shm_key);
    add(a, "handle=%s", canary.handle);
    add(a, "handle-type=%d", canary.handle_type);
    add(a, "pid=%d", canary.pid);
    add(a, "address=%ld", (long)(uintptr_t)canary.secret);
}

/* Runs A in a sandbox without OUT; its output, to free. */
static char *run_without(unsigned out, struct args *a)
{
    struct dyno_options o = {0};
    struct dyno d;
    int init = fx.sandbox->init_fd;

    /* It would be root of the machine among all its processes. */
    assert_false((out & PID) && (out & USER));
    left_out = out;
    if (out & INIT)
        fx.sandbox->init_fd = probe_fd;
    a->list[a->n] = NULL;
    dyno_exec(&fx, &d, &o, a->list);
    fx.sandbox->init_fd = init;
    left_out = 0;
    if (out & INIT)
        dyno_read(&d, d.log, NULL);
    else
        (void)dyno_wait(&d);
    char *text = TAKE_PTR(d.out);
    dyno_done(&d, out & INIT ? -1 : d.ctl);
    return text;
}

static int answer(const char *out, const char *probe)
{
    char key[64];

    snprintf(key, sizeof(key), "\n%s=", probe);
    const char *at = out ? strstr(out, key) : NULL;
    return at ? atoi(at + strlen(key)) : -9;
}

/* The guards of a row that there are here. */
static unsigned guards_of(const struct row *r)
{
    int abi = fx.sandbox->landlock;
    bool scopes = !strcmp(r->probe, "host-kill") || !strcmp(r->probe, "host-abstract");

    return abi == 0 || (scopes && abi < 6) ? r->guards & ~(unsigned)LANDLOCK : r->guards;
}

static bool is_tried(const struct row *r)
{
    return r->guards == 0 || guards_of(r) != 0;
}

static bool has_control(const struct row *r)
{
    if (r->needs && access(r->needs, F_OK) < 0)
        return false;
    /* Rootless nobody mounts the /proc, or the queues, of a namespace that is not his own. */
    if (fx.rootless && (r->guards & (PID | IPC)))
        return false;
    return guards_of(r) != 0 && !(fx.rootless && r->control != ALWAYS);
}

/* Whether R wants to be run without OUT. */
static bool wants(const struct row *r, unsigned out)
{
    unsigned guards = guards_of(r);

    if (!is_tried(r))
        return false;
    if (out == 0)
        return true;
    if (!has_control(r))
        return false;
    if (out == complete(guards) || r->control == TOGETHER)
        return out == complete(guards);
    for (unsigned g = 1; g <= guards; g <<= 1)
        if ((guards & g) && out == complete(guards & ~g) && !(out & g))
            return true;
    return false;
}

#define SANDBOXES_MAX 100
static unsigned sandboxes[SANDBOXES_MAX];
static size_t n_sandboxes;

static void add_sandbox(unsigned out)
{
    for (size_t i = 0; i < n_sandboxes; i++)
        if (sandboxes[i] == out)
            return;
    assert_true(n_sandboxes < SANDBOXES_MAX);
    sandboxes[n_sandboxes++] = out;
}

static void find_sandboxes(void)
{
    add_sandbox(0);
    for (size_t i = 0; i < ROWS; i++) {
        unsigned guards = guards_of(&rows[i]);

        if (!has_control(&rows[i]))
            continue;
        add_sandbox(complete(guards));
        for (unsigned g = 1; g <= guards; g <<= 1)
            if (guards & g)
                add_sandbox(complete(guards & ~g));
    }
}

static bool is_right(const struct row *r, unsigned out, int got)
{
    if (out == 0)
        return r->inside == ANY ? got > 0 : got == r->inside;
    if (out == complete(guards_of(r)))
        return got == 0;
    return got > 0;
}

static const char *words(unsigned guards)
{
    static const char *const names[] = {"ROOT",    "USER",   "MAP",    "CAPS",  "NNP", "LANDLOCK",
                                        "SECCOMP", "MASK",   "NOSUID", "NODEV", "RO",  "PID",
                                        "IPC",     "CGROUP", "INIT",   "FDS",   "JOIN"};
    static char text[200];

    text[0] = '\0';
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (guards & 1u << i)
            snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s ", names[i]);
    return text;
}

static unsigned try_sandbox(unsigned out, unsigned *done)
{
    struct args a = {0};
    unsigned bad = 0;

    scoped_fd leak = fcntl(fx.dirfd, F_DUPFD_CLOEXEC, 200); /* out of the steps' way */
    leak_fd = leak;
    canary_process(fx.rootless ? geteuid() : fixture_uid(fx.serial + 1));
    add(&a, "%s", out & ROOT ? probe_path : "/app/probe");
    add_canaries(&a);
    if (out & USER)
        add(&a, "own-mounts=1"); /* what one probe mounts the next is not to find */
    for (size_t i = 0; i < ROWS; i++)
        if (wants(&rows[i], out))
            add(&a, "%s", rows[i].probe);
    scoped_free char *text = run_without(out, &a);
    canary_untouched();
    for (size_t i = 0; i < ROWS; i++) {
        if (!wants(&rows[i], out))
            continue;
        int got = answer(text, rows[i].probe);

        ++*done;
        if (is_right(&rows[i], out, got))
            continue;
        print_error("case %d, %s: %d without [ %s] of [ ", rows[i].number, rows[i].probe, got,
                    words(out));
        print_error("%s]\n", words(guards_of(&rows[i])));
        bad++;
    }
    if (bad)
        print_error("%s\n", text);
    args_done(&a);
    return bad;
}

static void each_guard_is_enough_and_without_them_it_works(void **state)
{
    unsigned bad = 0, done = 0;

    (void)state;
    find_sandboxes();
    for (size_t i = 0; i < n_sandboxes; i++)
        bad += try_sandbox(sandboxes[i], &done);
    print_message("%u probes in %zu sandboxes\n", done, n_sandboxes);
    assert_int_equal(bad, 0);
    assert_true(done > ROWS);
}

/* --- 35: every system call ---------------------------------------------------------------------
 */

#define CALL_ALLOWED 4000 /* as tests/battery/probe_syscalls.c has it */
#define CALL_NUMBERS 600

static int expected_answer(enum verdict v)
{
    return v == VERDICT_ALLOW  ? CALL_ALLOWED
           : v == VERDICT_DENY ? EPERM
           : v == VERDICT_KILL ? KILLED + SIGSYS
                               : ENOSYS;
}

/* uretprobe and uprobe: traps that the kernel puts into programs that it traces, taken before any
 * filter is asked; called by hand they are SIGILL. */
static bool is_before_seccomp(int nr)
{
#if defined(__x86_64__)
    return nr == 335 || nr == 336;
#else
    (void)nr;
    return false;
#endif
}

static void every_system_call_is_answered_as_the_table_says(void **state)
{
    enum verdict verdicts[CALL_NUMBERS] = {VERDICT_UNKNOWN}, v;
    struct args a = {0};
    const char *name;
    char abi[16];
    int nr, got, n = 0, bad = 0;

    (void)state;
    for (size_t i = 0; (name = filter_table_entry(i, &v)); i++) {
        nr = filter_number(filter_native_arch(), name);
        if (nr >= 0 && nr < CALL_NUMBERS)
            verdicts[nr] = v;
    }
    add(&a, "/app/probe");
    add(&a, "--syscalls");
    scoped_free char *text = run_without(0, &a);
    args_done(&a);
    for (char *line = text; line && sscanf(line, "%15s %d %d", abi, &nr, &got) == 3; n++) {
        bool native = !strcmp(abi, "native");
        int want = native ? expected_answer(verdicts[nr]) : KILLED + SIGSYS;
        bool right = native && verdicts[nr] == VERDICT_CHECKED
                         ? got != ENOSYS && got <= CALL_ALLOWED
                         : got == want;

        line = strchr(line, '\n');
        line = line ? line + 1 : NULL;
        if (right || (native && is_before_seccomp(nr)))
            continue;
        print_error("%s %d: %d, not %d\n", abi, nr, got, want);
        bad++;
    }
#if defined(__x86_64__)
    assert_int_equal(n, 3 * CALL_NUMBERS);
#else
    assert_int_equal(n, CALL_NUMBERS);
#endif
    assert_int_equal(bad, 0);
}

/* --- nothing of a dyno's runs before it is in its cgroups ---------------------------------------
 */

/* A process of its own starts D, which says who dyno-init is once that is executed: until then who
 * starts it stands still, as clone(2) with CLONE_VFORK has it. */
static pid_t start_apart(struct dyno *d, const struct plan *p, unsigned out, int *ret_told)
{
    int told[2];

    assert_int_equal(pipe2(told, O_CLOEXEC), 0);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        struct err e = ERR_INIT;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        left_out = out;
        into_asked = 0; /* not of those before */
        if (sandbox_spawn(d->f->sandbox, p, &d->spawned, &e) < 0) {
            print_error("%s\n", e.text);
            _exit(1);
        }
        dyno_wait_report(d);
        const unsigned long long all[] = {(unsigned long long)d->spawned.pid, into_asked};
        _exit(write(told[1], all, sizeof(all)) != sizeof(all));
    }
    assert_true(pid > 0);
    close(told[1]);
    *ret_told = told[0];
    return pid;
}

static int is_init(pid_t pid, void *userdata)
{
    char path[64], exe[4096] = "";

    snprintf(path, sizeof(path), "/proc/%d/exe", pid);
    ssize_t n = readlink(path, exe, sizeof(exe) - 1);
    ++*(int *)userdata;
    return n > 0 && strstr(exe, "dyno-init") ? 1 : 0;
}

/* Waits until somebody is in the cgroup; whether that is still who started it. */
static void is_held(struct dyno *d)
{
    struct pollfd said = {.fd = d->log, .events = POLLIN};
    int n = 0;

    for (int i = 0; i < WAIT_MSEC / 10 && n == 0; i++) {
        usleep(10000);
        must(cgroup_each_process(d->cgroup, is_init, &n, e));
    }
    assert_int_equal(n, 1);
    assert_int_equal(poll(&said, 1, 300), 0); /* the control needs a tenth of that */
    n = 0;
    assert_int_equal(cgroup_each_process(d->cgroup, is_init, &n, &(struct err)ERR_INIT), 0);
    assert_int_equal(n, 1);
}

/* In a cgroup that is frozen before the start. */
static void start_frozen(unsigned out)
{
    static char sh[] = "/bin/sh", c[] = "-c", command[] = "echo it ran";
    char *argv[] = {sh, c, command, NULL};
    struct dyno_options o = {0};
    unsigned long long told[2];
    struct dyno d;
    struct plan p;
    int launch;
    scoped_fd teller = -1;

    dyno_prepare(&fx, &d, &o, &p, &launch, argv);
    must(cgroup_freeze(d.cgroup, true, e));
    pid_t starter = start_apart(&d, &p, out, &teller);
    close(p.log_write);
    close(p.ctl_fd);
    close(launch);
    if (!(out & JOIN)) {
        is_held(&d);
        must(cgroup_freeze(d.cgroup, false, e));
    }
    assert_int_equal(fd_read_full(teller, told, sizeof(told)), sizeof(told));
    assert_int_equal(waitpid(starter, NULL, 0), starter); /* from then on dyno-init is our child */
    assert_int_equal(told[1], cgroup_tree_version(fx.tree) == CGROUP_V2);
    d.spawned.pid = (pid_t)told[0];
    d.spawned.pidfd = pidfd_open(d.spawned.pid, 0);
    assert_true(d.spawned.pidfd >= 0);
    assert_int_equal(dyno_wait(&d), 0);
    assert_string_equal(d.out, "it ran\n");
    dyno_done(&d, d.ctl);
}

static void nothing_runs_before_it_is_in_its_cgroups(void **state)
{
    (void)state;
    if (!cgroup_tree_can(fx.tree, CGROUP_CAN_FREEZE)) {
        print_message("no cgroups\n");
        skip();
    }
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    start_frozen(0);
    start_frozen(JOIN); /* the control: it is not in there, and runs */
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 0), 0);
}

/* --- set up -------------------------------------------------------------------------------------
 */

static void install_probe(void)
{
    struct stat st;
    ssize_t n = readlink("/proc/self/exe", probe_path, sizeof(probe_path) - 1);

    assert_true(n > 0);
    probe_path[n] = '\0';
    strcpy(strrchr(probe_path, '/') + 1, "battery/probe");
    int in = open(probe_path, O_RDONLY | O_CLOEXEC);
    if (in < 0) {
        print_error("%s is not there\n", probe_path);
        fail();
    }
    assert_int_equal(fstat(in, &st), 0);
    fixture_put(&fx, "probe", "", 0755);
    int out = openat(fx.slug, "probe", O_WRONLY | O_CLOEXEC);
    assert_int_equal(sendfile(out, in, NULL, (size_t)st.st_size), st.st_size);
    close(in);
    close(out);
    snprintf(probe_path, sizeof(probe_path), "%s/slug/probe", fx.dir);
    probe_fd = open(probe_path, O_PATH | O_CLOEXEC);
    assert_true(probe_fd >= 0);
}

static int setup(void **state)
{
    (void)state;
    alarm(200 * (unsigned)fixture_slowness());
    fixture_open(&fx);
    assert_int_equal(chmod(fx.dir, 0711), 0);
    install_probe();
    canary_open();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    canary_close();
    fd_closep(&probe_fd);
    fixture_close(&fx);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_guard_is_enough_and_without_them_it_works),
        cmocka_unit_test(every_system_call_is_answered_as_the_table_says),
        cmocka_unit_test(nothing_runs_before_it_is_in_its_cgroups),
    };

    return cmocka_run_group_tests_name("battery", tests, setup, teardown);
}

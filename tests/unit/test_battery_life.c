/* The battery's cases about what a dyno is born with, takes from others, and leaves behind. */
#include "sandbox_fixture.h"

#include "isolate/kernel.h"
#include "isolate/sandbox_impl.h"

#include <linux/ioprio.h>
#include <sched.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>

#define MANY_ZOMBIES 10000
#define GONE_USEC    1000000 /* after the grace */

static struct fixture fx;
static char probe_path[4096];

static void install(void)
{
    struct stat st;
    ssize_t n = readlink("/proc/self/exe", probe_path, sizeof(probe_path) - 1);

    assert_true(n > 0);
    probe_path[n] = '\0';
    strcpy(strrchr(probe_path, '/') + 1, "battery/probe");
    int in = open(probe_path, O_RDONLY | O_CLOEXEC);
    assert_true(in >= 0 && fstat(in, &st) == 0);
    fixture_put(&fx, "probe", "", 0755);
    int out = openat(fx.slug, "probe", O_WRONLY | O_CLOEXEC);
    assert_int_equal(sendfile(out, in, NULL, (size_t)st.st_size), st.st_size);
    close(in);
    close(out);
}

static void start(struct dyno *d, const struct dyno_options *o, const char *what, const char *arg)
{
    char *argv[] = {(char *)"/app/probe", (char *)(uintptr_t)what, (char *)(uintptr_t)arg, NULL};

    dyno_exec(&fx, d, o, argv);
}

static void end(struct dyno *d)
{
    struct init_event ev;

    dyno_request(d->ctl, INIT_SIGNAL, 0, SIGKILL, NULL, 0);
    do
        dyno_event(d->ctl, &ev, NULL);
    while (ev.kind != INIT_EXITED);
    dyno_done(d, d->ctl);
}

/* --- 31 ----------------------------------------------------------------------------------------
 */

static const char *const things[] = {"watchers", "pipes",     "signals",
                                     "queues",   "processes", "locked"};

/* What the probe says when it takes one of WHAT, in a dyno of its own. */
static int take_one_elsewhere(const char *what)
{
    struct dyno_options o = {.limits = {.pids = 64}};
    struct dyno d;
    char key[32];

    start(&d, &o, "--take", what);
    (void)dyno_wait(&d);
    snprintf(key, sizeof(key), "%s=", what);
    const char *at = strstr(d.out, key);
    int r = at ? atoi(at + strlen(key)) : -1;
    dyno_done(&d, d.ctl);
    return r;
}

static void one_that_takes_all_leaves_the_others_theirs(void **state)
{
    (void)state;
    if (fx.rootless) {
        print_message("rootless: all dynos are one user's\n");
        skip();
    }
    for (size_t i = 0; i < sizeof(things) / sizeof(things[0]); i++) {
        struct dyno_options o = {.limits = {.pids = 64}};
        struct dyno greedy;

        start(&greedy, &o, "--exhaust", things[i]);
        dyno_read(&greedy, greedy.log, "ready\n");
        int other = take_one_elsewhere(things[i]);
        if (other != 0 || strstr(greedy.out, "Success") || strstr(greedy.out, "took 0,"))
            fail_msg("%s: %d for the other; %s", things[i], other, greedy.out);
        end(&greedy);
    }
}

/* A user namespace for UID as sandbox_userns() makes it, but root's. */
static int roots_namespace(uid_t uid)
{
    int hold[2];
    char path[64], c;

    assert_int_equal(pipe2(hold, O_CLOEXEC), 0);
    struct clone_args args = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
    int pid = k_clone3(&args);
    if (pid == 0) {
        close(hold[1]);
        (void)read(hold[0], &c, 1);
        _exit(0);
    }
    snprintf(path, sizeof(path), "/proc/%d", pid);
    must(userns_write_map(path, fx.inner, uid, uid, e));
    snprintf(path, sizeof(path), "/proc/%d/ns/user", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    close(hold[0]);
    close(hold[1]);
    waitpid(pid, NULL, 0);
    return fd;
}

/* The owner of a user namespace pays for those in it. */
static int uses_of(int owner_is_root)
{
    int status, ns[2], ready[2];
    struct err e = ERR_INIT;

    for (int i = 0; i < 2; i++) {
        uid_t uid = fixture_uid(500 + (unsigned)i);

        if (owner_is_root)
            ns[i] = roots_namespace(uid);
        else
            assert_int_equal(sandbox_userns(fx.sandbox, uid, uid, &ns[i], &e), 0);
    }
    assert_int_equal(pipe(ready), 0);
    pid_t greedy = fork();
    for (int i = 0; i < 2; i++) {
        pid_t pid = i == 0 ? greedy : fork();

        if (pid == 0) {
            if (setns(ns[i], CLONE_NEWUSER) < 0 ||
                syscall(SYS_setresuid, fx.inner, fx.inner, fx.inner) < 0)
                _exit(99);
            dup2(ready[1], 1);
            execl(probe_path, "probe", i == 0 ? "--exhaust" : "--take", "queues", NULL);
            _exit(98);
        }
        if (i == 0) {
            char text[200] = "";

            while (!strstr(text, "ready"))
                assert_true(read(ready[0], text + strlen(text), sizeof(text) - 1 - strlen(text)) >
                            0);
        } else {
            char text[64] = "";

            waitpid(pid, &status, 0);
            assert_true(read(ready[0], text, sizeof(text) - 1) > 0);
            assert_true(WIFEXITED(status) && sscanf(text, "queues=%d", &status) == 1);
        }
    }
    kill(greedy, SIGKILL);
    waitpid(greedy, NULL, 0);
    close(ready[0]);
    close(ready[1]);
    close(ns[0]);
    close(ns[1]);
    return status;
}

static void a_namespace_of_roots_would_share_what_root_may_have(void **state)
{
    (void)state;
    if (fx.rootless) {
        print_message("rootless: all dynos are one user's\n");
        skip();
    }
    /* In an IPC namespace of its own: the queues that are used up are not the machine's. */
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit l = {819200, 819200};

        if (unshare(CLONE_NEWIPC) < 0 || setrlimit(RLIMIT_MSGQUEUE, &l) < 0)
            _exit(9);
        int own = uses_of(0), roots = uses_of(1);
        if (own != 0 || roots == 0)
            print_error("own %d, root's %d\n", own, roots);
        _exit(own == 0 && roots != 0 ? 0 : 1);
    }
    int status;
    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
}

/* --- 33 ----------------------------------------------------------------------------------------
 */

/* How many lines of OUT are not as GOLDEN has them. */
static int compare_golden(char *out, const char *golden)
{
    scoped(file_closep) FILE *f = fmemopen(out, strlen(out), "r");
    const char *at = golden;
    struct rlimit own;
    char line[256];
    int bad = 0;

    assert_non_null(f);
    assert_int_equal(getrlimit(RLIMIT_SIGPENDING, &own), 0);
    while (fgets(line, sizeof(line), f)) {
        size_t n = strlen(line);

        if (!strncmp(line, "limit sigpending", 16) && own.rlim_max < 4096) {
            at += strcspn(at, "\n") + 1; /* a small machine's user has less */
            continue;
        }
        if (fx.rootless && (!strncmp(line, "Groups:", 7) || strstr(line, "groups") ||
                            !strncmp(line, "limit ", 6) || !strncmp(line, "io priority", 11))) {
            at += strcspn(at, "\n") + 1; /* the user's own, which nobody can drop or raise */
            continue;
        }
        if (strncmp(line, at, n) != 0) {
            print_error("in the dyno: %swanted: %.*s\n", line, (int)strcspn(at, "\n"), at);
            bad++;
        }
        at += strcspn(at, "\n") + 1;
    }
    if (bad || *at)
        print_error("%s", out);
    return bad + (*at != '\0');
}

/* Whatever sandbox it starts in. */
static void what_is_inherited_is_as_the_golden_file_says(void **state)
{
    static const enum ahead ways[] = {FRESH, ROOM, SPARE, DRESSED};
    struct dyno_options o = {.limits = {.pids = 64}};
    scoped_free char *golden = NULL;
    char path[4200];
    struct err e = ERR_INIT;
    struct dyno d[4];
    size_t len;

    (void)state;
    /* An agent that was started by somebody odd. */
    umask(077);
    sigset_t set;
    sigfillset(&set);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGUSR1, SIG_IGN);
    signal(SIGCHLD, SIG_DFL);
    prctl(PR_SET_TIMERSLACK, 1234567);
    setenv("AGENT_SECRET", "yes", 1);
    personality(ADDR_NO_RANDOMIZE);
    syscall(SYS_ioprio_set, 1, 0, (2 << 13) | 7);
    sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0});
    if (!fx.rootless) /* who cannot come back would stay so */
        setpriority(PRIO_PROCESS, 0, 5);
    int open_one = open("/", O_RDONLY), oom = open("/proc/self/oom_score_adj", O_WRONLY);
    if (!fx.rootless)
        (void)write(oom, "300", 3);
    snprintf(path, sizeof(path), "%.*s/state.golden", (int)(strrchr(probe_path, '/') - probe_path),
             probe_path);
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        o.ahead = ways[i];
        start(&d[i], &o, "--state", NULL);
        (void)dyno_wait(&d[i]);
    }
    /* The control: a child of ours has all of it. */
    int fds[2];
    char outside[8192] = "";
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(fds[1], 1);
        execl(probe_path, "probe", "--state", NULL);
        _exit(1);
    }
    close(fds[1]);
    (void)fd_read_full(fds[0], outside, sizeof(outside) - 1);
    close(fds[0]);
    waitpid(pid, NULL, 0);
    assert_non_null(strstr(outside, "umask 077\n"));
    assert_non_null(strstr(outside, "env AGENT_SECRET=yes\n"));
    assert_non_null(strstr(outside, "timer slack 1234567\n"));
    assert_non_null(strstr(outside, "policy 3\n"));
    assert_null(strstr(outside, "SigBlk: 0000000000000000\n"));
    assert_null(strstr(outside, "SigIgn: 0000000000000000\n"));
    close(open_one);
    close(oom);
    sched_setscheduler(0, SCHED_OTHER, &(struct sched_param){0});
    sigemptyset(&set);
    sigprocmask(SIG_SETMASK, &set, NULL);
    umask(022);
    personality(0);
    setpriority(PRIO_PROCESS, 0, 0);

    assert_int_equal(file_read(AT_FDCWD, path, 65536, &golden, &len, &e), 0);
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        assert_int_equal(compare_golden(d[i].out, golden), 0);
        dyno_done(&d[i], d[i].ctl);
    }
}

/* --- 45 ----------------------------------------------------------------------------------------
 */

/* A small machine has no room for more. */
static unsigned zombies(void)
{
    unsigned most = 0;
    scoped(file_closep) FILE *f = fopen("/proc/sys/kernel/threads-max", "r");

    assert_true(f && fscanf(f, "%u", &most) == 1);
    if (fx.rootless)
        return 500;
    return most / 3 < MANY_ZOMBIES ? most / 3 : MANY_ZOMBIES;
}

/* Among how many each processor is divided, us included: the second is one of a whole one. */
static uint64_t sharers(void)
{
    unsigned running = 0;
    scoped(file_closep) FILE *f = fopen("/proc/loadavg", "r");

    assert_true(f && fscanf(f, "%*f %*f %*f %u", &running) == 1);
    return 1 + running / (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
}

static void daemons_and_zombies_are_gone_at_once(void **state)
{
    unsigned n = zombies();
    struct dyno_options o = {.limits = {.pids = fx.rootless ? 0 : n + 200}};
    char number[16], made[32];
    struct init_event ev;
    struct dyno d;

    (void)state;
    snprintf(number, sizeof(number), "%u", n);
    snprintf(made, sizeof(made), "made %u\n", n);
    start(&d, &o, "--hard-to-kill", number);
    dyno_read(&d, d.log, "ready\n");
    if (!fx.rootless) /* whose user may have fewer */
        assert_non_null(strstr(d.out, made));
    dyno_expect(d.ctl, INIT_STARTED, &ev);
    dyno_request(d.ctl, INIT_STOP, 0, SIGTERM, NULL, 0);
    /* The control: SIGTERM alone ends none of them. */
    struct pollfd pfd = {.fd = d.ctl, .events = POLLIN};
    assert_int_equal(poll(&pfd, 1, 200), 0);
    uint64_t share = sharers(), then = clock_boot();
    if (fx.rootless)
        dyno_request(d.ctl, INIT_SIGNAL, 0, SIGKILL, NULL, 0);
    else
        must(cgroup_kill(d.cgroup, e));
    pfd = (struct pollfd){.fd = d.spawned.pidfd, .events = POLLIN};
    if (!fx.rootless)
        assert_int_equal(poll(&pfd, 1, WAIT_MSEC), 1);
    while (fx.rootless && ev.kind != INIT_EXITED)
        dyno_event(d.ctl, &ev, NULL);
    uint64_t took = clock_boot() - then;
    print_message("%u gone after %ju ms\n", n, (uintmax_t)took / 1000);
    if (took > GONE_USEC * share * (uint64_t)fixture_slowness())
        fail_msg("%ju ms", (uintmax_t)took / 1000);
    dyno_done(&d, fx.rootless ? d.ctl : -1); /* the cgroup can be removed */
}

/* --- CVE-2019-5736 ------------------------------------------------------------------------------
 */

static void dyno_init_cannot_be_overwritten(void **state)
{
    struct dyno_options o = {0};
    struct dyno d;
    char path[64];

    (void)state;
    dyno_sh(&fx, &d, &o, "exec sleep 1000");
    snprintf(path, sizeof(path), "/proc/%d/exe", d.spawned.pid);
    /* As what the dyno would get if it could: by a descriptor that outlives the program. */
    scoped_fd exe = open(path, O_PATH | O_CLOEXEC);
    assert_true(exe >= 0);
    end(&d);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", exe);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(fd, -1);
    assert_true(errno == EROFS || errno == ETXTBSY || (fx.rootless && errno == EACCES));
    if (errno == ETXTBSY)
        print_message("another dyno-init runs\n");
    /* The control: the same file by its own path. */
    fd = open(fx.init, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        assert_true(errno == ETXTBSY || (fx.rootless && errno == EACCES));
    else
        close(fd);
}

/* --- the shipped programs have no switch
 * ---------------------------------------------------------- */

static void the_shipped_programs_have_none_of_the_battery(void **state)
{
    static const char *const programs[] = {"dynod", "dyno", "dyno-init"};
    static const char *const words[] = {"left_out", "shipped_steps_run", "user_without_map",
                                        "keep_capabilities"};

    (void)state;
    for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++) {
        char path[4200];
        struct stat st;

        snprintf(path, sizeof(path), "%.*s/%s", (int)(strrchr(fx.init, '/') - fx.init), fx.init,
                 programs[i]);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            print_message("%s is not built\n", path);
            continue;
        }
        assert_int_equal(fstat(fd, &st), 0);
        char *at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        assert_true(at != MAP_FAILED);
        for (size_t w = 0; w < sizeof(words) / sizeof(words[0]); w++)
            if (memmem(at, (size_t)st.st_size, words[w], strlen(words[w])))
                fail_msg("%s has %s", path, words[w]);
        munmap(at, (size_t)st.st_size);
        close(fd);
    }
}

static int setup(void **state)
{
    (void)state;
    alarm(200 * (unsigned)fixture_slowness());
    fixture_open(&fx);
    install();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_close(&fx);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_that_takes_all_leaves_the_others_theirs),
        cmocka_unit_test(a_namespace_of_roots_would_share_what_root_may_have),
        cmocka_unit_test(daemons_and_zombies_are_gone_at_once),
        cmocka_unit_test(dyno_init_cannot_be_overwritten),
        cmocka_unit_test(the_shipped_programs_have_none_of_the_battery),
        cmocka_unit_test(what_is_inherited_is_as_the_golden_file_says), /* last: changes us */
    };

    return cmocka_run_group_tests_name("battery_life", tests, setup, teardown);
}

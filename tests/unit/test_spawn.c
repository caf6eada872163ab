/* Real dynos, as root and rootless: how they start, talk, end, and survive their agent. */
#include "sandbox_fixture.h"

#include <sys/ioctl.h>
#include <termios.h>

static struct fixture fx;

static void output_and_status_come_back(void **state)
{
    int status;
    scoped_free char *out = NULL;

    (void)state;
    out = dyno_run(&fx, "echo out; echo err >&2; pwd; echo $HOME $GREETING; exit 7", &status);
    assert_string_equal(out, "out\nerr\n/app\n/app hello world\n");
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 7);
}

static void the_log_can_be_opened_by_its_names(void **state)
{
    scoped_free char *out = NULL;

    (void)state;
    out =
        dyno_run(&fx, "echo one > /dev/stdout; echo two > /dev/stderr; : < /dev/stdout || :", NULL);
    assert_memory_equal(out, "one\ntwo\n", 8);
    if (!fx.rootless) /* whose pipe it is */
        assert_non_null(strstr(out, "Permission denied"));
}

static void a_signal_is_a_status(void **state)
{
    int status;
    scoped_free char *out = dyno_run(&fx, "kill -ABRT $$", &status);

    (void)state;
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    assert_false(WCOREDUMP(status)); /* no core handler of the host hears of it */
}

static void the_shell_reads_the_profiles_in_order(void **state)
{
    static char home[] = "HOME=/app", path[] = "PATH=/custom:/usr/local/bin:/usr/bin:/bin";
    char *env[] = {home, path, NULL};
    struct dyno_options o = {.env = env};
    const char *shell[5];
    struct dyno d;

    (void)state;
    fixture_mkdir(&fx, ".profile.d");
    fixture_put(&fx, ".profile.d/20-b.sh", "ORDER=\"$ORDER b\"\n", 0644);
    fixture_put(&fx, ".profile.d/10-a.sh", "ORDER=\"$ORDER a\"\nexport PATH=\"/one:$PATH\"\n",
                0644);
    fixture_put(&fx, ".profile", "ORDER=\"$ORDER profile\"\n", 0644);
    for (int bash = 0; bash <= (int)sandbox_has_bash(fx.sandbox); bash++) {
        launch_shell(bash, "echo $ORDER; echo $PATH; umask", shell);
        dyno_exec(&fx, &d, &o, (char *const *)(uintptr_t)shell);
        assert_int_equal(dyno_wait(&d), 0);
        assert_string_equal(d.out,
                            "a b profile\n/one:/custom:/usr/local/bin:/usr/bin:/bin\n0022\n");
        dyno_done(&d, d.ctl);
    }
}

static void what_is_written_vanishes(void **state)
{
    scoped_free char *first = NULL, *second = NULL, *slug = NULL;
    struct stat st;
    size_t len;
    int status;

    (void)state;
    fixture_mkdir(&fx, "lib");
    fixture_put(&fx, "lib/code.rb", "original", 0644);
    first = dyno_run(&fx,
                     "set -e; echo changed > lib/code.rb; mv lib moved; cat moved/code.rb;"
                     "echo x > new; echo y > /tmp/t; echo z > /var/tmp/v; echo s > /dev/shm/s;"
                     "ls -d new /tmp/t /tmp/v /dev/shm/s; test ! -e lib",
                     &status);
    assert_string_equal(first, "changed\n/dev/shm/s\n/tmp/t\n/tmp/v\nnew\n");
    assert_int_equal(status, 0);
    second = dyno_run(&fx, "cat lib/code.rb; ls new /tmp /dev/shm moved 2>/dev/null", NULL);
    assert_string_equal(second, "original/dev/shm:\n\n/tmp:\n");
    must(file_read(fx.slug, "lib/code.rb", 100, &slug, &len, e));
    assert_string_equal(slug, "original");
    assert_int_equal(fstatat(fx.slug, "lib", &st, 0), 0);
    assert_int_equal(st.st_uid, fx.inner);
}

static void without_a_slug_app_is_empty_and_writable(void **state)
{
    struct dyno_options o = {.no_slug = true};
    struct dyno d;

    (void)state;
    dyno_sh(&fx, &d, &o, "pwd; ls -A; echo 1 > x && cat x");
    assert_int_equal(dyno_wait(&d), 0);
    assert_string_equal(d.out, "/app\n1\n");
    dyno_done(&d, d.ctl);
}

static void a_command_that_cannot_start_says_why(void **state)
{
    static const struct {
        const char *command;
        int errnum, exit;
    } cases[] = {{"no-such-command", ENOENT, 127},
                 {"/app/noexec", EACCES, 126},
                 {"/app", EACCES, 126},
                 {"", ENOENT, 127}};
    struct dyno_options o = {0};

    (void)state;
    fixture_put(&fx, "noexec", "#!/bin/sh\n", 0644);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *argv[] = {(char *)(uintptr_t)cases[i].command, NULL};
        struct init_event ev;
        struct dyno d;

        dyno_exec(&fx, &d, &o, argv);
        dyno_expect(d.ctl, INIT_START_FAILED, &ev);
        assert_int_equal(ev.status, cases[i].errnum);
        dyno_read(&d, d.log, NULL);
        dyno_expect(d.ctl, INIT_EXITED, &ev);
        assert_int_equal(ev.start_errno, cases[i].errnum);
        assert_int_equal(WEXITSTATUS(ev.status), cases[i].exit);
        dyno_done(&d, d.ctl);
    }
}

static void a_script_without_an_interpreter_is_the_shells(void **state)
{
    struct dyno_options o = {0};
    char *argv[] = {(char *)"/app/script", (char *)"arg", NULL};
    struct dyno d;

    (void)state;
    fixture_put(&fx, "script", "echo script $1\n", 0755);
    dyno_exec(&fx, &d, &o, argv);
    assert_int_equal(dyno_wait(&d), 0);
    assert_string_equal(d.out, "script arg\n");
    dyno_done(&d, d.ctl);
}

static void the_rest_dies_with_the_command(void **state)
{
    int status;
    /* The background process keeps the log pipe open: its end is the end of all. */
    scoped_free char *out =
        dyno_run(&fx, "(trap '' TERM HUP; setsid sleep 1000) & exit 3", &status);

    (void)state;
    assert_string_equal(out, "");
    assert_int_equal(WEXITSTATUS(status), 3);
}

static void ten_thousand_orphans_are_reaped(void **state)
{
    int status;
    scoped_free char *out = NULL;

    (void)state;
    /* Each inner shell's child is orphaned and becomes dyno-init's. */
    out = dyno_run(&fx,
                   "i=0; while [ $i -lt 2000 ]; do (: & : & : & : & : &) ; i=$((i+1)); "
                   "[ $((i % 200)) != 0 ] || echo on; done; wait; "
                   "while ps -e -o stat= | grep -q Z; do sleep 0.1; done; echo none",
                   &status);
    assert_string_equal(out, "on\non\non\non\non\non\non\non\non\non\nnone\n");
}

static void stop_reaches_every_process_and_waits_for_them(void **state)
{
    struct dyno_options o = {0};
    struct init_event ev;
    struct dyno d;

    (void)state;
    dyno_sh(
        &fx, &d, &o,
        "(trap 'sleep 0.3; echo child done; exit' TERM; echo c; while :; do sleep 0.05; done) & "
        "trap 'echo main done; exit 5' TERM; echo m; while :; do sleep 0.05; done");
    dyno_expect(d.ctl, INIT_STARTED, &ev);
    dyno_read(&d, d.log, "c\n");
    dyno_read(&d, d.log, "m\n");
    dyno_request(d.ctl, INIT_STOP, 0, SIGTERM, NULL, 0);
    dyno_read(&d, d.log, NULL);
    assert_non_null(strstr(d.out, "main done\n"));
    assert_non_null(strstr(d.out, "child done\n"));
    dyno_expect(d.ctl, INIT_MAIN_ENDED, &ev);
    assert_int_equal(WEXITSTATUS(ev.status), 5);
    dyno_expect(d.ctl, INIT_EXITED, &ev);
    assert_int_equal(WEXITSTATUS(ev.status), 5);
    dyno_done(&d, d.ctl);
}

static void what_ignores_stop_is_killed_by_a_signal(void **state)
{
    struct dyno_options o = {0};
    struct init_event ev;
    struct dyno d;

    (void)state;
    dyno_sh(&fx, &d, &o, "trap '' TERM; echo ready; while :; do sleep 1; done");
    dyno_expect(d.ctl, INIT_STARTED, &ev);
    dyno_read(&d, d.log, "ready\n");
    dyno_request(d.ctl, INIT_STOP, 0, SIGTERM, NULL, 0);
    struct pollfd pfd = {.fd = d.ctl, .events = POLLIN};
    assert_int_equal(poll(&pfd, 1, 200), 0);
    dyno_request(d.ctl, INIT_SIGNAL, 0, SIGKILL, NULL, 0);
    do
        dyno_event(d.ctl, &ev, NULL);
    while (ev.kind != INIT_EXITED);
    assert_int_equal(WTERMSIG(ev.status), SIGKILL);
    dyno_done(&d, d.ctl);
}

/* A machine that goes down sends SIGTERM to all and waits for all, and no agent is there any more.
 */
static void sigterm_from_outside_lets_it_go(void **state)
{
    struct dyno_options o = {0};
    struct init_event ev, record = {0};
    struct dyno d;

    (void)state;
    dyno_sh(&fx, &d, &o, "echo ready; while [ ! -e /tmp/go ]; do sleep 0.05; done; exit 4");
    dyno_expect(d.ctl, INIT_STARTED, &ev);
    dyno_read(&d, d.log, "ready\n");
    assert_int_equal(kill(d.spawned.pid, SIGTERM), 0);
    struct pollfd pfd = {.fd = d.spawned.pidfd, .events = POLLIN};
    assert_int_equal(poll(&pfd, 1, 300), 0); /* not before all has ended */
    struct launch l = {.argv = (char *[]){(char *)"touch", (char *)"/tmp/go", NULL},
                       .env = (char *[]){NULL}};
    int launch, null = open("/dev/null", O_RDWR | O_CLOEXEC);
    must(launch_memfd(&l, &launch, e));
    dyno_request(d.ctl, INIT_EXEC, 1, 0, (int[]){launch, null, null, null}, 4);
    close(launch);
    close(null);
    assert_int_equal(poll(&pfd, 1, WAIT_MSEC), 1);
    assert_int_equal(pread(d.record, &record, sizeof(record), 0), sizeof(record));
    assert_int_equal(record.kind, INIT_EXITED);
    assert_int_equal(WEXITSTATUS(record.status), 4);
    dyno_done(&d, -1);
}

/* The control: from inside it means nothing, and the end waits for somebody to hear it. */
static void sigterm_from_inside_does_not(void **state)
{
    struct dyno_options o = {0};
    struct init_event ev;
    struct dyno d;

    (void)state;
    dyno_sh(&fx, &d, &o, "kill -TERM 1; exit 4");
    dyno_read(&d, d.log, NULL);
    do
        dyno_event(d.ctl, &ev, NULL);
    while (ev.kind != INIT_EXITED);
    struct pollfd pfd = {.fd = d.spawned.pidfd, .events = POLLIN};
    assert_int_equal(poll(&pfd, 1, 300), 0);
    dyno_done(&d, d.ctl);
}

/* The exit must be there for an agent that was dead when it happened. */
static void a_new_agent_adopts(void **state)
{
    struct dyno_options o = {0};
    struct init_event ev, record;
    int first, second, log, again;
    struct dyno d;

    (void)state;
    dyno_sh(&fx, &d, &o,
            "echo one; while [ ! -e /tmp/go ]; do "
            "sleep 0.05; done; echo two; exit 9");
    dyno_expect(d.ctl, INIT_STARTED, &ev);
    dyno_read(&d, d.log, "one\n");
    close(d.ctl);
    close(d.log);

    must(unix_connect(d.socket, SOCK_SEQPACKET, &first, e));
    dyno_request(first, INIT_HELLO, 0, 0, NULL, 0);
    dyno_event(first, &ev, &log);
    assert_int_equal(ev.kind, INIT_STATE);
    assert_int_equal(ev.phase, INIT_PHASE_RUNNING);
    assert_true(ev.pid > 1 && ev.started_boot_usec > 0 && ev.ended_boot_usec == 0);

    /* The latest wins: the one before is closed. */
    must(unix_connect(d.socket, SOCK_SEQPACKET, &second, e));
    dyno_request(second, INIT_HELLO, 0, 0, NULL, 0);
    dyno_event(second, &ev, &again);
    assert_int_equal(read(first, &ev, sizeof(ev)), 0);
    close(first);
    close(again);

    /* It dies too; the command ends with nobody there. */
    dyno_request(second, INIT_EXEC, 0, 0, NULL, 0); /* garbage on the way out */
    close(second);
    struct launch l = {.argv = (char *[]){(char *)"touch", (char *)"/tmp/go", NULL},
                       .env = (char *[]){NULL}};
    int launch, null = open("/dev/null", O_RDWR | O_CLOEXEC);
    must(launch_memfd(&l, &launch, e));
    must(unix_connect(d.socket, SOCK_SEQPACKET, &first, e));
    dyno_request(first, INIT_HELLO, 0, 0, NULL, 0);
    dyno_event(first, &ev, &again);
    close(again);
    dyno_request(first, INIT_EXEC, 1, 0, (int[]){launch, null, null, null}, 4);
    dyno_expect(first, INIT_EXEC_STARTED, &ev);
    close(first);
    dyno_read(&d, log, NULL);
    assert_string_equal(d.out, "one\ntwo\n");
    record = (struct init_event){0};
    for (int i = 0; i < 6000 && record.kind != INIT_EXITED; i++) {
        usleep(10000);
        (void)pread(d.record, &record, sizeof(record), 0);
    }
    assert_int_equal(record.kind, INIT_EXITED);
    assert_int_equal(WEXITSTATUS(record.status), 9);

    must(unix_connect(d.socket, SOCK_SEQPACKET, &d.ctl, e));
    dyno_request(d.ctl, INIT_HELLO, 0, 0, NULL, 0);
    dyno_event(d.ctl, &ev, &d.log);
    assert_int_equal(ev.phase, INIT_PHASE_ENDED);
    assert_int_equal(ev.pid, 0);
    assert_int_equal(WEXITSTATUS(ev.status), 9);
    assert_true(ev.ended_boot_usec >= ev.started_boot_usec);
    close(log);
    close(launch);
    close(null);
    dyno_done(&d, d.ctl);
}

/* What INIT_WHO brings back on CONN, which said nothing before. */
static void expect_identity(int conn, const char *text)
{
    struct init_event ev;
    char back[64] = "";
    int fd;

    dyno_request(conn, INIT_WHO, 0, 0, NULL, 0);
    dyno_event(conn, &ev, &fd);
    assert_int_equal(ev.kind, INIT_IAM);
    assert_int_equal(pread(fd, back, sizeof(back) - 1, 0), strlen(text));
    assert_string_equal(back, text);
    assert_int_equal(fcntl(fd, F_GET_SEALS) & F_SEAL_WRITE, F_SEAL_WRITE);
    close(fd);
}

/* Its agent tells it before it exists and dies at once; nobody else can tell, and nothing in the
 * dyno can reach what it knows. */
static void it_keeps_who_it_is_for_any_agent(void **state)
{
    char *argv[] = {(char *)"/bin/sh", (char *)"-c",
                    (char *)"ls -l /proc/1/fd/ >/tmp/1 2>&1 && echo open; "
                            "ls -l /proc/[0-9]*/fd/ 2>&1 | grep -c memfd; "
                            "while [ ! -e /tmp/go ]; do sleep 0.05; done",
                    NULL};
    struct dyno_options o = {0};
    struct init_event ev;
    int launch, mine, other, current, log, stranger;
    struct dyno d;
    struct plan p;

    (void)state;
    dyno_prepare(&fx, &d, &o, &p, &launch, argv);
    must(memfd_with("dyno-identity", "web.1", 5, &mine, e));
    must(memfd_with("dyno-identity", "else", 4, &other, e));
    dyno_request(d.ctl, INIT_IDENTITY, 0, 0, &mine, 1);
    must(sandbox_spawn(fx.sandbox, &p, &d.spawned, e));
    fd_closep(&d.ctl);
    close(p.log_write);
    close(p.ctl_fd);
    close(launch);
    dyno_read(&d, d.log, "\n");
    assert_string_equal(d.out, "0\n");

    must(unix_connect(d.socket, SOCK_SEQPACKET, &current, e));
    dyno_request(current, INIT_HELLO, 0, 0, NULL, 0);
    dyno_event(current, &ev, &log);
    close(log);
    dyno_request(current, INIT_IDENTITY, 0, 0, &other, 1);
    must(unix_connect(d.socket, SOCK_SEQPACKET, &stranger, e));
    expect_identity(stranger, "web.1");
    expect_identity(stranger, "web.1");
    close(stranger);
    expect_identity(current, "web.1"); /* which it still is */
    dyno_request(current, INIT_SIGNAL, 0, SIGKILL, NULL, 0);
    dyno_expect(current, INIT_EXITED, &ev);
    expect_identity(current, "web.1");
    close(d.spawned.report_fd);
    close(mine);
    close(other);
    dyno_done(&d, current);
    close(current);
}

#ifndef SANDBOX_SPARES /* which are always told */
static void one_that_was_told_nothing_says_so(void **state)
{
    struct dyno_options o = {0};
    struct init_event ev;
    struct dyno d;

    (void)state;
    dyno_sh(&fx, &d, &o, "sleep 1000");
    dyno_expect(d.ctl, INIT_STARTED, &ev);
    dyno_request(d.ctl, INIT_WHO, 0, 0, NULL, 0);
    dyno_expect(d.ctl, INIT_IAM, &ev); /* without a descriptor */
    dyno_request(d.ctl, INIT_SIGNAL, 0, SIGKILL, NULL, 0);
    dyno_expect(d.ctl, INIT_EXITED, &ev);
    dyno_done(&d, d.ctl);
}
#endif

static void garbage_is_ignored(void **state)
{
    struct dyno_options o = {0};
    struct init_event ev;
    struct init_request req = {.version = 99, .kind = INIT_SIGNAL, .signo = SIGKILL};
    char big[4096] = {0};
    struct dyno d;
    int stranger;

    (void)state;
    dyno_sh(&fx, &d, &o, "echo on; sleep 1000");
    dyno_expect(d.ctl, INIT_STARTED, &ev);
    dyno_read(&d, d.log, "on\n");
    assert_int_equal(fd_send(d.ctl, &req, sizeof(req), NULL, 0), sizeof(req));
    req.version = INIT_PROTO_VERSION;
    assert_int_equal(fd_send(d.ctl, &req, sizeof(req) - 1, NULL, 0), sizeof(req) - 1);
    assert_int_equal(fd_send(d.ctl, big, sizeof(big), NULL, 0), sizeof(big));
    dyno_request(d.ctl, 4711, 0, SIGKILL, NULL, 0);
    dyno_request(d.ctl, INIT_SIGNAL, 0, 65, NULL, 0);
    dyno_request(d.ctl, INIT_SIGNAL, 0, -9, NULL, 0);
    dyno_request(d.ctl, INIT_RELEASE, 0, 0, NULL, 0); /* not before the end */
    /* One that never says hello may not command. */
    must(unix_connect(d.socket, SOCK_SEQPACKET, &stranger, e));
    dyno_request(stranger, INIT_SIGNAL, 0, SIGKILL, NULL, 0);
    dyno_request(d.ctl, INIT_HELLO, 0, 0, NULL, 0);
    int log;
    dyno_event(d.ctl, &ev, &log);
    assert_int_equal(ev.phase, INIT_PHASE_RUNNING);
    usleep(50000);
    struct pollfd pfd = {.fd = d.ctl, .events = POLLIN};
    assert_int_equal(poll(&pfd, 1, 0), 0);
    dyno_request(d.ctl, INIT_SIGNAL, 0, SIGKILL, NULL, 0); /* the control: a good one works */
    dyno_expect(d.ctl, INIT_EXITED, &ev);
    close(log);
    close(stranger);
    dyno_done(&d, d.ctl);
}

static int exec_in(struct dyno *d, uint32_t token, const char *script, bool tty, int out)
{
    struct launch l = {
        .argv = (char *[]){(char *)"/bin/sh", (char *)"-c", (char *)(uintptr_t)script, NULL},
        .env = (char *[]){(char *)"PATH=/usr/bin:/bin", NULL},
        .tty = tty,
        .rows = 40,
        .cols = 120};
    int launch, null = open("/dev/null", O_RDWR | O_CLOEXEC);

    must(launch_memfd(&l, &launch, e));
    dyno_request(d->ctl, INIT_EXEC, token, 0, (int[]){launch, null, out, out}, tty ? 1 : 4);
    close(launch);
    close(null);
    return 0;
}

static void exec_runs_one_more_process(void **state)
{
    struct dyno_options o = {0};
    struct init_event ev;
    struct dyno d;
    int p[2];

    (void)state;
    dyno_sh(&fx, &d, &o, "echo on; exec sleep 1000");
    dyno_expect(d.ctl, INIT_STARTED, &ev);
    dyno_read(&d, d.log, "on\n");
    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    exec_in(&d, 7, "pwd; ls -l /proc/self/fd | wc -l; exit 4", false, p[1]);
    dyno_expect(d.ctl, INIT_EXEC_STARTED, &ev);
    assert_int_equal(ev.token, 7);
    dyno_expect(d.ctl, INIT_EXEC_EXITED, &ev);
    assert_int_equal(ev.token, 7);
    assert_int_equal(WEXITSTATUS(ev.status), 4);
    close(p[1]);
    dyno_read(&d, p[0], NULL);
    assert_string_equal(d.out, "on\n/app\n5\n"); /* total, 0, 1, 2, and ls's own */
    /* Signals reach its process group, and only that. */
    exec_in(&d, 8, "sleep 1000", false, d.log);
    dyno_expect(d.ctl, INIT_EXEC_STARTED, &ev);
    exec_in(&d, 8, "true", false, d.log);
    dyno_expect(d.ctl, INIT_EXEC_FAILED, &ev);
    assert_int_equal(ev.status, EEXIST);
    dyno_request(d.ctl, INIT_EXEC_SIGNAL, 8, SIGUSR1, NULL, 0);
    dyno_expect(d.ctl, INIT_EXEC_EXITED, &ev);
    assert_int_equal(WTERMSIG(ev.status), SIGUSR1);
    dyno_request(d.ctl, INIT_EXEC, 9, 0, NULL, 0);
    dyno_expect(d.ctl, INIT_EXEC_FAILED, &ev);
    assert_int_equal(ev.status, EINVAL);
    close(p[0]);
    dyno_request(d.ctl, INIT_SIGNAL, 0, SIGKILL, NULL, 0);
    dyno_expect(d.ctl, INIT_EXITED, &ev);
    exec_in(&d, 10, "true", false, 2);
    dyno_expect(d.ctl, INIT_EXEC_FAILED, &ev);
    assert_int_equal(ev.status, ESRCH);
    dyno_done(&d, d.ctl);
}

static void execs_are_bounded(void **state)
{
    struct dyno_options o = {0};
    struct init_event ev;
    struct dyno d;
    int started = 0, refused = 0;

    (void)state;
    dyno_sh(&fx, &d, &o, "exec sleep 1000");
    dyno_expect(d.ctl, INIT_STARTED, &ev);
    for (uint32_t i = 1; i <= 70; i++) {
        exec_in(&d, i, "exec sleep 1000", false, 2);
        dyno_event(d.ctl, &ev, NULL);
        started += ev.kind == INIT_EXEC_STARTED;
        refused += ev.kind == INIT_EXEC_FAILED && ev.status == EAGAIN;
    }
    assert_int_equal(started, 64);
    assert_int_equal(refused, 6);
    dyno_request(d.ctl, INIT_SIGNAL, 0, SIGKILL, NULL, 0);
    do
        dyno_event(d.ctl, &ev, NULL);
    while (ev.kind != INIT_EXITED);
    dyno_done(&d, d.ctl);
}

static void a_terminal_is_the_dynos_own(void **state)
{
    struct dyno_options o = {.tty = true};
    struct init_event ev;
    struct dyno d;
    int master;

    (void)state;
    dyno_sh(&fx, &d, &o,
            "tty; stty size; test -t 0 && test -t 1 && test -t 2 && echo all; "
            "echo via tty > /dev/tty; read line; echo got $line; exit 6");
    dyno_event(d.ctl, &ev, &master);
    assert_int_equal(ev.kind, INIT_STARTED);
    dyno_read(&d, master, "via tty");
    assert_non_null(strstr(d.out, "/dev/pts/0\r\n30 90\r\nall\r\n"));
    assert_int_equal(write(master, "hello\n", 6), 6);
    dyno_read(&d, master, "got hello");
    dyno_expect(d.ctl, INIT_EXITED, &ev);
    assert_int_equal(WEXITSTATUS(ev.status), 6);
    close(master);
    dyno_done(&d, d.ctl);

    /* The same for an exec; its ^C comes from the terminal. */
    struct dyno_options plain = {0};
    dyno_sh(&fx, &d, &plain, "exec sleep 1000");
    dyno_expect(d.ctl, INIT_STARTED, &ev);
    exec_in(&d, 3, "stty size; sleep 1000", true, -1);
    dyno_event(d.ctl, &ev, &master);
    assert_int_equal(ev.kind, INIT_EXEC_STARTED);
    dyno_read(&d, master, "40 120");
    /* Again and again: a shell that is about to fork swallows one. */
    struct pollfd pfd = {.fd = d.ctl, .events = POLLIN};
    do
        assert_int_equal(write(master, "\003", 1), 1);
    while (poll(&pfd, 1, 50) == 0);
    dyno_expect(d.ctl, INIT_EXEC_EXITED, &ev);
    assert_int_equal(WTERMSIG(ev.status), SIGINT);
    close(master);
    dyno_request(d.ctl, INIT_SIGNAL, 0, SIGKILL, NULL, 0);
    dyno_expect(d.ctl, INIT_EXITED, &ev);
    dyno_done(&d, d.ctl);
}

static void the_death_of_init_ends_all(void **state)
{
    struct dyno_options o = {0};
    struct init_event ev;
    struct dyno d;
    char c;

    (void)state;
    dyno_sh(&fx, &d, &o, "echo on; (setsid sleep 1000) & sleep 1000");
    dyno_expect(d.ctl, INIT_STARTED, &ev);
    dyno_read(&d, d.log, "on\n");
    assert_int_equal(kill(d.spawned.pid, SIGKILL), 0);
    assert_int_equal(read(d.log, &c, 1), 0); /* every process with the log pipe is gone */
    assert_int_equal(read(d.ctl, &ev, sizeof(ev)), 0);
    /* That the command ran is on record, how it ended is not. */
    assert_int_equal(pread(d.record, &ev, sizeof(ev), 0), sizeof(ev));
    assert_int_equal(ev.kind, INIT_STARTED);
    dyno_done(&d, -1);
}

static void nothing_in_the_dyno_can_end_init(void **state)
{
    int status;
    scoped_free char *out = dyno_run(&fx,
                                     "for s in 1 2 3 6 9 10 11 13 14 15 17 19 20 34 64; do "
                                     "kill -$s 1; done; sleep 0.1; echo alive",
                                     &status);

    (void)state;
    assert_string_equal(out, "alive\n");
    assert_int_equal(status, 0);
}

static void a_step_that_fails_fails_the_start(void **state)
{
    struct dyno_options o = {0};
    char *argv[] = {(char *)"/bin/true", NULL};
    struct spawned spawned;
    struct err why = ERR_INIT;
    struct plan p;
    struct dyno d;
    int launch;

    (void)state;
    dyno_prepare(&fx, &d, &o, &p, &launch, argv);
    /* The overlay has no work directory. */
    assert_int_equal(unlinkat(p.scratch_fd, "work", AT_REMOVEDIR), 0);
    must(sandbox_spawn(fx.sandbox, &p, &spawned, e));
    struct pollfd pfd = {.fd = spawned.report_fd, .events = POLLIN};
    assert_int_equal(poll(&pfd, 1, WAIT_MSEC), 1);
    assert_int_equal(sandbox_report(spawned.report_fd, &why), -ENOENT);
    assert_non_null(strstr(why.text, "mount the slug"));
    close(spawned.report_fd);
    d.spawned = spawned;

    /* And a plan that is not whole is never started. */
    p.hostname = "not/a/name";
    assert_int_equal(sandbox_spawn(fx.sandbox, &p, &spawned, &why), -EINVAL);
    p.hostname = "web-1";
    p.uid = 0;
    assert_int_equal(sandbox_spawn(fx.sandbox, &p, &spawned, &why), -EINVAL);
    p.uid = fx.rootless ? geteuid() : 1234;
    p.record_fd = 4000;
    assert_int_equal(sandbox_spawn(fx.sandbox, &p, &spawned, &why), -EINVAL);
    assert_non_null(strstr(why.text, "record"));
    close(p.log_write);
    close(p.ctl_fd);
    close(launch);
    dyno_done(&d, -1);
}

static int count_fds(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");

    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static void the_agent_leaks_nothing(void **state)
{
    (void)state;
    free(dyno_run(&fx, "true", NULL));
    int before = count_fds();
    for (int i = 0; i < 3; i++)
        free(dyno_run(&fx, "true", NULL));
    assert_int_equal(count_fds(), before);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(output_and_status_come_back),
        cmocka_unit_test(the_log_can_be_opened_by_its_names),
        cmocka_unit_test(a_signal_is_a_status),
        cmocka_unit_test(the_shell_reads_the_profiles_in_order),
        cmocka_unit_test(what_is_written_vanishes),
        cmocka_unit_test(without_a_slug_app_is_empty_and_writable),
        cmocka_unit_test(a_command_that_cannot_start_says_why),
        cmocka_unit_test(a_script_without_an_interpreter_is_the_shells),
        cmocka_unit_test(the_rest_dies_with_the_command),
        cmocka_unit_test(ten_thousand_orphans_are_reaped),
        cmocka_unit_test(stop_reaches_every_process_and_waits_for_them),
        cmocka_unit_test(what_ignores_stop_is_killed_by_a_signal),
        cmocka_unit_test(sigterm_from_outside_lets_it_go),
        cmocka_unit_test(sigterm_from_inside_does_not),
        cmocka_unit_test(a_new_agent_adopts),
        cmocka_unit_test(it_keeps_who_it_is_for_any_agent),
#ifndef SANDBOX_SPARES
        cmocka_unit_test(one_that_was_told_nothing_says_so),
#endif
        cmocka_unit_test(garbage_is_ignored),
        cmocka_unit_test(exec_runs_one_more_process),
        cmocka_unit_test(execs_are_bounded),
        cmocka_unit_test(a_terminal_is_the_dynos_own),
        cmocka_unit_test(the_death_of_init_ends_all),
        cmocka_unit_test(nothing_in_the_dyno_can_end_init),
        cmocka_unit_test(a_step_that_fails_fails_the_start),
        cmocka_unit_test(the_agent_leaks_nothing),
    };

    return cmocka_run_group_tests_name("spawn", tests, setup, teardown);
}

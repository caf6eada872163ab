/* What the processes of a dyno can do to dyno-init while it serves its agent. */
#include "sandbox_fixture.h"

#define EXECS   8
#define ATTACKS 50
#if defined(__x86_64__)
#define SIGQUEUEINFO "129" /* rt_sigqueueinfo */
#else
#define SIGQUEUEINFO "138"
#endif
/* It says "on" when the shell around it is stopped, not merely about to be. */
#define STOP_PARENT "kill -STOP $$; until grep -q '^State:.T' /proc/$$/status; do :; done; echo on"

static struct fixture fx;

/* A search path that takes execve some 0.1 s: the child is on its way for as long. */
static char *long_path(void)
{
    enum { DIRS = 40000 };
    char *env = malloc(sizeof("PATH=") + (size_t)DIRS * 3 + sizeof("/usr/bin:/bin")), *at = env;

    assert_non_null(env);
    at = stpcpy(at, "PATH=");
    for (int i = 0; i < DIRS; i++)
        at = stpcpy(at, "/x:");
    (void)strcpy(at, "/usr/bin:/bin");
    return env;
}

static void ask_exec(const struct dyno *d, uint32_t token, bool tty)
{
    scoped_free char *path = long_path();
    struct launch l = {.argv = (char *[]){(char *)"sleep", (char *)"1000", NULL},
                       .env = (char *[]){path, NULL},
                       .tty = tty};
    int launch, null = open("/dev/null", O_RDWR | O_CLOEXEC);

    must(launch_memfd(&l, &launch, e));
    dyno_request(d->ctl, INIT_EXEC, token, 0, (int[]){launch, null, null, null}, tty ? 1 : 4);
    close(launch);
    close(null);
}

/* As dyno_event(), whatever it brings. */
static void hear(int conn, struct init_event *ev)
{
    struct pollfd pfd = {.fd = conn, .events = POLLIN};
    int fds[FD_PASS_MAX];
    size_t n = 0;

    assert_int_equal(poll(&pfd, 1, WAIT_MSEC), 1);
    assert_int_equal(fd_recv(conn, ev, sizeof(*ev), fds, &n), sizeof(*ev));
    for (size_t i = 0; i < n; i++)
        close(fds[i]);
}

/* Whatever else it says before. */
static void hear_exit(int ctl, struct init_event *ev)
{
    do
        hear(ctl, ev);
    while (ev->kind != INIT_EXITED);
}

/* How long a new agent waits for the first word, in microseconds. */
static uint64_t time_hello(const struct dyno *d, int *ret_conn)
{
    uint64_t from = clock_boot();
    struct init_event ev;

    must(unix_connect(d->socket, SOCK_SEQPACKET, ret_conn, e));
    dyno_request(*ret_conn, INIT_HELLO, 0, 0, NULL, 0);
    hear(*ret_conn, &ev);
    assert_int_equal(ev.kind, INIT_STATE);
    return clock_boot() - from;
}

/* Asks for EXECS commands; returns how many of them a stop kept from beginning. */
static int time_out_some(const struct dyno *d)
{
    struct init_event ev;
    int answered = 0, timed_out = 0;

    for (uint32_t i = 1; i <= EXECS; i++)
        ask_exec(d, i, i % 2);
    while (answered < EXECS) {
        hear(d->ctl, &ev);
        if (ev.kind == INIT_EXEC_FAILED)
            assert_int_equal(ev.status, ETIMEDOUT);
        timed_out += ev.kind == INIT_EXEC_FAILED;
        answered += ev.kind == INIT_EXEC_FAILED || ev.kind == INIT_EXEC_STARTED;
    }
    return timed_out;
}

/* Whether a dyno that stops everybody kept an EXEC from beginning; dyno-init goes on in any case.
 */
static bool stop_everybody(void)
{
    struct dyno_options o = {0};
    struct init_event ev;
    struct dyno d;
    int second;

    dyno_sh(&fx, &d, &o, "echo on; while :; do kill -STOP -1; done");
    dyno_expect(d.ctl, INIT_STARTED, &ev);
    dyno_read(&d, d.log, "on\n");
    int timed_out = time_out_some(&d);
    ask_exec(&d, 100, false);
    assert_true(time_hello(&d, &second) < UINT64_C(20000000) * (uint64_t)fixture_slowness());
    dyno_request(second, INIT_STOP, 0, SIGTERM, NULL, 0);
    hear_exit(second, &ev);
    assert_int_equal(WTERMSIG(ev.status), SIGTERM);
    dyno_done(&d, second);
    close(second);
    return timed_out > 0;
}

/* kill(-1) is everybody but dyno-init and the caller: also a child of dyno-init's on its way to
 * execve, for which dyno-init waited. Whether it hits one there is for the scheduler to say. */
static void stopping_everybody_does_not_stop_init(void **state)
{
    bool bit = false;

    (void)state;
    for (int i = 0; !bit && i < ATTACKS; i++)
        bit = stop_everybody();
    assert_true(bit);
}

static void a_stop_reaches_who_is_stopped(void **state)
{
    struct dyno_options o = {0};
    struct init_event ev;
    struct dyno d;

    (void)state;
    dyno_sh(&fx, &d, &o, "trap 'exit 3' TERM; (" STOP_PARENT "; exec sleep 1000) & wait; wait");
    dyno_expect(d.ctl, INIT_STARTED, &ev);
    dyno_read(&d, d.log, "on\n");
    dyno_request(d.ctl, INIT_STOP, 0, SIGTERM, NULL, 0);
    hear_exit(d.ctl, &ev);
    assert_int_equal(WEXITSTATUS(ev.status), 3);
    dyno_done(&d, d.ctl);
}

/* The control of both: who is stopped hears nothing of a signal that is no stop. */
static void a_signal_leaves_them_stopped(void **state)
{
    struct dyno_options o = {0};
    struct init_event ev;
    struct dyno d;

    (void)state;
    dyno_sh(&fx, &d, &o, "(" STOP_PARENT ") & wait; exit 3");
    dyno_expect(d.ctl, INIT_STARTED, &ev);
    dyno_read(&d, d.log, "on\n");
    dyno_request(d.ctl, INIT_SIGNAL, 0, SIGTERM, NULL, 0);
    struct pollfd pfd = {.fd = d.ctl, .events = POLLIN};
    assert_int_equal(poll(&pfd, 1, 300), 0);
    dyno_request(d.ctl, INIT_SIGNAL, 0, SIGKILL, NULL, 0);
    dyno_expect(d.ctl, INIT_EXITED, &ev);
    dyno_done(&d, d.ctl);
}

/* Orphans without end, each a child of dyno-init's to take. */
static void a_storm_of_orphans_leaves_time_for_the_agent(void **state)
{
    struct dyno_options o = {0};
    struct init_event ev;
    struct dyno d;
    int conns[5];

    (void)state;
    dyno_sh(&fx, &d, &o,
            "for i in 1 2 3 4; do (while :; do (: & : & : & : &); done) & done; echo on; wait");
    dyno_expect(d.ctl, INIT_STARTED, &ev);
    dyno_read(&d, d.log, "on\n");
    for (int i = 0; i < 5; i++) {
        assert_true(time_hello(&d, &conns[i]) < UINT64_C(20000000) * (uint64_t)fixture_slowness());
        usleep(50000);
    }
    dyno_request(conns[4], INIT_SIGNAL, 0, SIGKILL, NULL, 0);
    hear_exit(conns[4], &ev);
    dyno_done(&d, conns[4]);
    for (int i = 0; i < 5; i++)
        close(conns[i]);
}

/* What a signal looks like that is no kill(2): whoever believes it leaves before its exit is heard.
 */
static void a_forged_sigterm_is_not_from_outside(void **state)
{
    static const char *const ways[] = {
        /* rt_sigqueueinfo: SI_QUEUE, and 0 for a sender */
        "perl -e '$i = pack(\"l4l2x104\", 15, 0, -1, 0, 0, 5);"
        " print syscall(" SIGQUEUEINFO ", 1, 15, $i);'",
        /* a descriptor's owner: F_SETOWN, F_SETSIG, O_ASYNC */
        "perl -e 'use Socket; socketpair(A, B, AF_UNIX, SOCK_STREAM, 0);"
        " fcntl(A, 8, 1) or die; fcntl(A, 10, 15) or die; fcntl(A, 4, 020000) or die;"
        " syswrite(B, \"x\"); print 0;'",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        struct dyno_options o = {0};
        struct init_event ev;
        struct dyno d;

        dyno_sh(&fx, &d, &o, ways[i]);
        dyno_read(&d, d.log, NULL);
        assert_string_equal(d.out, "0");
        hear_exit(d.ctl, &ev);
        struct pollfd pfd = {.fd = d.spawned.pidfd, .events = POLLIN};
        assert_int_equal(poll(&pfd, 1, 300), 0);
        dyno_done(&d, d.ctl);
    }
}

static void an_exec_that_fails_says_why(void **state)
{
    struct launch l = {.argv = (char *[]){(char *)"no-such-command", NULL},
                       .env = (char *[]){(char *)"PATH=/usr/bin", NULL}};
    struct dyno_options o = {0};
    int launch, null = open("/dev/null", O_RDWR | O_CLOEXEC);
    struct init_event ev;
    struct dyno d;

    (void)state;
    dyno_sh(&fx, &d, &o, "exec sleep 1000");
    dyno_expect(d.ctl, INIT_STARTED, &ev);
    must(launch_memfd(&l, &launch, e));
    for (uint32_t token = 1; token <= 100; token++) { /* more than there are places */
        dyno_request(d.ctl, INIT_EXEC, token, 0, (int[]){launch, null, null, null}, 4);
        dyno_expect(d.ctl, INIT_EXEC_FAILED, &ev);
        assert_int_equal(ev.token, token);
        assert_int_equal(ev.status, ENOENT);
    }
    close(launch);
    close(null);
    dyno_request(d.ctl, INIT_SIGNAL, 0, SIGKILL, NULL, 0);
    dyno_expect(d.ctl, INIT_EXITED, &ev);
    dyno_done(&d, d.ctl);
}

static int setup(void **state)
{
    (void)state;
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
        cmocka_unit_test(stopping_everybody_does_not_stop_init),
        cmocka_unit_test(a_stop_reaches_who_is_stopped),
        cmocka_unit_test(a_signal_leaves_them_stopped),
        cmocka_unit_test(a_storm_of_orphans_leaves_time_for_the_agent),
        cmocka_unit_test(a_forged_sigterm_is_not_from_outside),
        cmocka_unit_test(an_exec_that_fails_says_why),
    };

    return cmocka_run_group_tests_name("init_hostile", tests, setup, teardown);
}

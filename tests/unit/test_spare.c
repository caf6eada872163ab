/* What a spare sandbox is before it is taken, and when taking it fails. */
#include "sandbox_fixture.h"

static struct fixture fx;
static char *true_argv[] = {(char *)"/bin/true", NULL};

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

/* A spare, its plan as a dyno of it would have it, the launch record. */
static void make(struct dyno *d, struct plan *p, struct limits *built, int *launch)
{
    struct dyno_options o = {0};

    dyno_prepare(&fx, d, &o, p, launch, true_argv);
    dyno_spare(d, p, built);
    close(p->ctl_fd);
}

static void done(struct dyno *d, struct plan *p, int launch)
{
    int status;

    fd_closep(&d->ctl);
    assert_int_equal(waitpid(d->spawned.pid, &status, 0), d->spawned.pid);
    d->spawned.pid = 0;
    close(p->log_write);
    close(launch);
    for (int i = 0; i < 200 && cgroup_remove(d->cgroup, &(struct err)ERR_INIT) < 0; i++)
        usleep(1000);
    cgroup_freep(&d->cgroup);
    int fds[] = {d->userns, d->scratch, d->record, d->log, d->listen, d->spawned.pidfd};
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
        if (fds[i] >= 0)
            close(fds[i]);
    must(tree_remove(fx.dirfd, d->name, e));
}

static bool status_has(pid_t pid, const char *line)
{
    char path[64], text[4096];

    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    scoped_fd fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd_read_full(fd, text, sizeof(text) - 1);
    assert_true(n > 0);
    text[n] = '\0';
    return strstr(text, line) != NULL;
}

/* All guards are up before it is anybody's. */
static void it_is_confined_while_it_waits(void **state)
{
    struct limits built;
    struct dyno d;
    struct plan p;
    int launch;

    (void)state;
    make(&d, &p, &built, &launch);
    assert_true(status_has(d.spawned.pid, "\nSeccomp:\t2\n"));
    assert_true(status_has(d.spawned.pid, "\nNoNewPrivs:\t1\n"));
    assert_true(status_has(d.spawned.pid, "\nCapEff:\t0000000000000000\n"));
    assert_true(status_has(d.spawned.pid, "\nCapBnd:\t0000000000000000\n"));
    assert_true(status_has(d.spawned.pid, "Name:\tdyno-init\n"));
    done(&d, &p, launch);
}

static void it_goes_with_its_agent(void **state)
{
    struct limits built;
    struct dyno d;
    struct plan p;
    int launch, status;

    (void)state;
    make(&d, &p, &built, &launch);
    assert_int_equal(waitpid(d.spawned.pid, &status, WNOHANG), 0);
    fd_closep(&d.ctl);
    struct pollfd pfd = {.fd = d.spawned.pidfd, .events = POLLIN};
    assert_int_equal(poll(&pfd, 1, WAIT_MSEC), 1);
    done(&d, &p, launch);
}

/* Only INIT_TAKE, whole, starts something. */
static void nothing_else_wakes_it(void **state)
{
    struct init_event event;
    struct limits built;
    struct dyno d;
    struct plan p;
    int launch;

    (void)state;
    make(&d, &p, &built, &launch);
    dyno_request(d.ctl, INIT_HELLO, 0, 0, NULL, 0);
    dyno_request(d.ctl, INIT_EXEC, 1, 0, &launch, 1);
    assert_int_equal(fd_send(d.ctl, "x", 1, NULL, 0), 1);
    struct pollfd pfd = {.fd = d.ctl, .events = POLLIN};
    assert_int_equal(poll(&pfd, 1, 50), 0);
    /* One without its descriptors is its end: it cannot run anything. */
    dyno_request(d.ctl, INIT_TAKE, 0, 0, NULL, 0);
    assert_int_equal(poll(&pfd, 1, WAIT_MSEC), 1);
    assert_int_equal(recv(d.ctl, &event, sizeof(event), 0), 0);
    done(&d, &p, launch);
}

static int take(struct dyno *d, struct plan *p, const struct limits *built, struct err *why)
{
    scoped_fd identity = -1;

    must(memfd_with("dyno-identity", "web.1", 5, &identity, e));
    return sandbox_take(fx.sandbox, &d->spawned, built, p, d->ctl, identity, why);
}

static void a_step_that_fails_fails_the_start(void **state)
{
    struct err why = ERR_INIT;
    struct limits built;
    struct dyno d;
    struct plan p;
    int launch;

    (void)state;
    make(&d, &p, &built, &launch);
    /* The overlay has no work directory. */
    assert_int_equal(unlinkat(p.scratch_fd, "work", AT_REMOVEDIR), 0);
    assert_int_equal(take(&d, &p, &built, &why), -ENOENT);
    assert_non_null(strstr(why.text, "mount the slug"));
    /* It was not told to run anything. */
    struct pollfd pfd = {.fd = d.log, .events = POLLIN};
    assert_int_equal(poll(&pfd, 1, 20), 0);
    p.hostname = "not/a/name";
    assert_int_equal(take(&d, &p, &built, &why), -EINVAL);
    done(&d, &p, launch);
}

static void a_dead_one_cannot_be_taken(void **state)
{
    struct err why = ERR_INIT;
    struct limits built;
    struct dyno d;
    struct plan p;
    int launch;

    (void)state;
    make(&d, &p, &built, &launch);
    assert_int_equal(kill(d.spawned.pid, SIGKILL), 0);
    struct pollfd pfd = {.fd = d.spawned.pidfd, .events = POLLIN};
    assert_int_equal(poll(&pfd, 1, WAIT_MSEC), 1);
    assert_true(take(&d, &p, &built, &why) < 0);
    done(&d, &p, launch);
}

/* What was decided late is as it is for a fresh start: name, size of /dev/shm, processes. */
static void it_becomes_what_the_plan_says(void **state)
{
    char *argv[] = {(char *)"/bin/bash", (char *)"-c",
                    (char *)"hostname; ulimit -u; df -B1 /dev/shm | tail -1 | tr -s ' ' | "
                            "cut -d' ' -f2; ls /app",
                    NULL};
    struct dyno_options o = {
        .limits = {.memory_quota = 64 << 20, .memory_max = 128 << 20, .pids = 77}};
    struct limits built;
    struct dyno d;
    struct plan p;
    int launch;

    (void)state;
    fixture_put(&fx, "file", "x", 0644);
    dyno_prepare(&fx, &d, &o, &p, &launch, argv);
    dyno_spare(&d, &p, &built);
    close(p.ctl_fd);
    must(take(&d, &p, &built, e));
    fd_closep(&p.log_write);
    dyno_read(&d, d.log, "file\n");
    assert_string_equal(d.out, "web-1\n78\n67108864\nfile\n");
    must(memfd_with("x", "", 0, &p.log_write, e)); /* done() closes it */
    struct init_event ev = {0};
    while (ev.kind != INIT_EXITED)
        dyno_event(d.ctl, &ev, NULL);
    dyno_request(d.ctl, INIT_RELEASE, 0, 0, NULL, 0);
    free(d.out);
    done(&d, &p, launch);
}

static unsigned rollup(pid_t pid, const char *key)
{
    char path[64], text[4096];

    snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
    scoped_fd fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd_read_full(fd, text, sizeof(text) - 1);
    assert_true(n > 0);
    text[n] = '\0';
    const char *at = strstr(text, key);
    assert_non_null(at);
    return (unsigned)strtoul(at + strlen(key), NULL, 10);
}

static void it_costs_little_memory(void **state)
{
    struct limits built;
    struct dyno d;
    struct plan p;
    int launch;

    (void)state;
    make(&d, &p, &built, &launch);
    assert_true(rollup(d.spawned.pid, "Private_Dirty:") <= 32); /* kB; nothing of the agent's */
    assert_true(rollup(d.spawned.pid, "Rss:") <= 64);
    done(&d, &p, launch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_confined_while_it_waits),
        cmocka_unit_test(it_goes_with_its_agent),
        cmocka_unit_test(nothing_else_wakes_it),
        cmocka_unit_test(a_step_that_fails_fails_the_start),
        cmocka_unit_test(a_dead_one_cannot_be_taken),
        cmocka_unit_test(it_becomes_what_the_plan_says),
        cmocka_unit_test(it_costs_little_memory),
    };

    return cmocka_run_group_tests_name("spare", tests, setup, teardown);
}

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

static bool yes = true;

/* Of a test's: a spare that is dressed for the fixture's slug. */
static bool is_dressed(void **state)
{
    return *state == &yes;
}

/* A spare, its plan as a dyno of it would have it, the launch record. */
static void make(struct dyno *d, struct plan *p, bool dressed, struct spare_cut *cut, int *launch)
{
    struct dyno_options o = {0};

    dyno_prepare(&fx, d, &o, p, launch, true_argv);
    dyno_spare(d, p, dressed, cut);
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
    for (int i = 0; i < WAIT_MSEC && cgroup_remove(d->cgroup, &(struct err)ERR_INIT) < 0; i++)
        usleep(1000);
    cgroup_freep(&d->cgroup);
    int fds[] = {d->userns, d->scratch, d->record, d->log, d->listen, d->spawned.pidfd};
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
        if (fds[i] >= 0)
            close(fds[i]);
    must(tree_remove(fx.dirfd, d->name, e));
}

/* It was not told to run anything. */
static void runs_nothing(const struct dyno *d)
{
    struct pollfd pfd = {.fd = d->log, .events = POLLIN};

    assert_int_equal(poll(&pfd, 1, 20), 0);
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

static int take(struct dyno *d, struct plan *p, const struct spare_cut *cut, struct err *why)
{
    scoped_fd identity = -1;

    must(memfd_with("dyno-identity", "web.1", 5, &identity, e));
    return sandbox_take(fx.sandbox, &d->spawned, cut, p, d->ctl, identity, why);
}

/* The process that a dressed one has beside PID 1, once it waits. */
static pid_t waiting_of(const struct dyno *d)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", d->spawned.pid, d->spawned.pid);
    for (int i = 0; i < WAIT_MSEC; i++) {
        char text[64] = "";
        scoped_fd fd = open(path, O_RDONLY | O_CLOEXEC);

        if (fd_read_full(fd, text, sizeof(text) - 1) > 0 &&
            status_has((pid_t)strtol(text, NULL, 10), "\nState:\tS") &&
            status_has(d->spawned.pid, "\nState:\tS")) /* D would count as load */
            return (pid_t)strtol(text, NULL, 10);
        usleep(1000);
    }
    fail_msg("nothing waits in the spare");
    return 0;
}

/* All guards are up before it is anybody's. */
static void it_is_confined_while_it_waits(void **state)
{
    struct spare_cut cut;
    struct dyno d;
    struct plan p;
    int launch;

    make(&d, &p, is_dressed(state), &cut, &launch);
    assert_true(status_has(d.spawned.pid, "\nSeccomp:\t2\n"));
    assert_true(status_has(d.spawned.pid, "\nNoNewPrivs:\t1\n"));
    assert_true(status_has(d.spawned.pid, "\nCapEff:\t0000000000000000\n"));
    assert_true(status_has(d.spawned.pid, "\nCapBnd:\t0000000000000000\n"));
    assert_true(status_has(d.spawned.pid, "Name:\tdyno-init\n"));
    done(&d, &p, launch);
}

/* What becomes the command waits behind the same guards. */
static void what_waits_is_confined_too(void **state)
{
    struct spare_cut cut;
    struct dyno d;
    struct plan p;
    int launch;

    make(&d, &p, is_dressed(state), &cut, &launch);
    pid_t pid = waiting_of(&d);
    assert_true(status_has(pid, "\nSeccomp:\t2\n"));
    assert_true(status_has(pid, "\nNoNewPrivs:\t1\n"));
    assert_true(status_has(pid, "\nCapEff:\t0000000000000000\n"));
    done(&d, &p, launch);
}

static void without_what_waits_it_ends(void **state)
{
    struct spare_cut cut;
    struct dyno d;
    struct plan p;
    int launch;

    make(&d, &p, is_dressed(state), &cut, &launch);
    assert_int_equal(kill(waiting_of(&d), SIGKILL), 0);
    struct pollfd pfd = {.fd = d.spawned.pidfd, .events = POLLIN};
    assert_int_equal(poll(&pfd, 1, WAIT_MSEC), 1);
    done(&d, &p, launch);
}

static void it_goes_with_its_agent(void **state)
{
    struct spare_cut cut;
    struct dyno d;
    struct plan p;
    int launch, status;

    make(&d, &p, is_dressed(state), &cut, &launch);
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
    struct spare_cut cut;
    struct dyno d;
    struct plan p;
    int launch;

    make(&d, &p, is_dressed(state), &cut, &launch);
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

/* It has landlock and its limits: it could only be told to have less. */
static void a_dressed_one_takes_no_rules_and_limits(void **state)
{
    for (int i = 0; i < 2; i++) {
        struct init_request req = {.version = INIT_PROTO_VERSION, .kind = INIT_TAKE};
        struct init_event event;
        struct spare_cut cut;
        struct dyno d;
        struct plan p;
        int launch;

        make(&d, &p, is_dressed(state), &cut, &launch);
        int fds[] = {launch, launch, launch};
        if (i == 0)
            req.token = INIT_TAKE_RULES;
        else
            req.reserved[0] = 10;
        assert_int_equal(fd_send(d.ctl, &req, sizeof(req), fds, i == 0 ? 3 : 2), sizeof(req));
        struct pollfd pfd = {.fd = d.ctl, .events = POLLIN};
        assert_int_equal(poll(&pfd, 1, WAIT_MSEC), 1);
        assert_int_equal(recv(d.ctl, &event, sizeof(event), 0), 0);
        done(&d, &p, launch);
    }
}

static void a_dressed_one_serves_nobody_else(void **state)
{
    struct err why = ERR_INIT;
    struct spare_cut cut;
    struct dyno d;
    struct plan p;
    int launch;

    make(&d, &p, is_dressed(state), &cut, &launch);
    assert_true(spare_fits(&cut, &p.limits, p.slug_fd));
    assert_false(spare_fits(&cut, &p.limits, fx.dirfd));
    assert_false(spare_fits(&cut, &p.limits, -1));
    /* Each of the limits. */
    for (size_t i = 0; i < 11; i++) {
        struct limits other = p.limits;

        *(i == 0   ? &other.memory_quota
          : i == 1 ? &other.memory_max
          : i == 2 ? &other.pids
          : i == 3 ? &other.disk_bytes
          : i == 4 ? &other.disk_inodes
          : i == 5 ? &other.rate_bits
                   : &other.procs_max) += i < 7;
        *(i == 7   ? &other.cpu_shares
          : i == 8 ? &other.cpu_percent
          : i == 9 ? &other.io_weight
                   : &other.open_files) += i >= 7;
        assert_false(spare_fits(&cut, &other, p.slug_fd));
    }
    int slug = p.slug_fd;
    p.slug_fd = fx.dirfd;
    assert_int_equal(take(&d, &p, &cut, &why), -EINVAL);
    p.slug_fd = slug;
    p.limits.pids++;
    assert_int_equal(take(&d, &p, &cut, &why), -EINVAL);
    runs_nothing(&d);
    done(&d, &p, launch);
}

static void a_step_that_fails_fails_the_start(void **state)
{
    struct err why = ERR_INIT;
    struct spare_cut cut;
    struct dyno d;
    struct plan p;
    int launch;

    make(&d, &p, is_dressed(state), &cut, &launch);
    /* The overlay has no work directory. */
    assert_int_equal(unlinkat(p.scratch_fd, "work", AT_REMOVEDIR), 0);
    assert_int_equal(take(&d, &p, &cut, &why), -ENOENT);
    assert_non_null(strstr(why.text, "mount the slug"));
    runs_nothing(&d);
    p.hostname = "not/a/name";
    assert_int_equal(take(&d, &p, &cut, &why), -EINVAL);
    done(&d, &p, launch);
}

static void a_dead_one_cannot_be_taken(void **state)
{
    struct err why = ERR_INIT;
    struct spare_cut cut;
    struct dyno d;
    struct plan p;
    int launch;

    make(&d, &p, is_dressed(state), &cut, &launch);
    assert_int_equal(kill(d.spawned.pid, SIGKILL), 0);
    struct pollfd pfd = {.fd = d.spawned.pidfd, .events = POLLIN};
    assert_int_equal(poll(&pfd, 1, WAIT_MSEC), 1);
    assert_true(take(&d, &p, &cut, &why) < 0);
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
    struct spare_cut cut;
    char own[65] = "";
    struct dyno d;
    struct plan p;
    int launch;

    assert_int_equal(gethostname(own, sizeof(own) - 1), 0);
    fixture_put(&fx, "file", "x", 0644);
    dyno_prepare(&fx, &d, &o, &p, &launch, argv);
    dyno_spare(&d, &p, is_dressed(state), &cut);
    close(p.ctl_fd);
    must(take(&d, &p, &cut, e));
    fd_closep(&p.log_write);
    dyno_read(&d, d.log, "file\n");
    assert_string_equal(d.out, "web-1\n78\n67108864\nfile\n");
    char now[65] = "";
    assert_int_equal(gethostname(now, sizeof(now) - 1), 0);
    assert_string_equal(now, own);                 /* we are where we were */
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
    struct spare_cut cut;
    struct dyno d;
    struct plan p;
    int launch;

    make(&d, &p, is_dressed(state), &cut, &launch);
    assert_true(rollup(d.spawned.pid, "Private_Dirty:") <= 32); /* kB; nothing of the agent's */
    assert_true(rollup(d.spawned.pid, "Rss:") <= 64);
    done(&d, &p, launch);
}

#define DRESSED(test)                                                                              \
    {                                                                                              \
        "dressed: " #test, test, NULL, NULL, &yes                                                  \
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
        DRESSED(it_is_confined_while_it_waits),
        DRESSED(what_waits_is_confined_too),
        DRESSED(without_what_waits_it_ends),
        DRESSED(it_goes_with_its_agent),
        DRESSED(nothing_else_wakes_it),
        DRESSED(a_dressed_one_takes_no_rules_and_limits),
        DRESSED(a_dressed_one_serves_nobody_else),
        DRESSED(a_dead_one_cannot_be_taken),
        DRESSED(it_becomes_what_the_plan_says),
        DRESSED(it_costs_little_memory),
    };

    return cmocka_run_group_tests_name("spare", tests, setup, teardown);
}

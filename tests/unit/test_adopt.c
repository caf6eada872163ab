/* An end is reported once, whatever instruction the agent died at: what the next one makes of the
 * files that its death leaves, and of a dyno-init that lives, has ended, or goes just then. */
#include "corelink_agent.h"

#include "core/run/run_priv.h"
#include "core/host/sweeper.h"

#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define RUN    "hello.worker.1.d367e2f8"
#define STATUS 7

static const char run_json[] =
    "{\"v\":1,\"id\":\"" RUN "\",\"record\":{\"app\":\"hello\",\"type\":\"worker\",\"num\":1,"
    "\"generation\":1,\"release\":1,\"uid\":0,\"port\":0,\"port_given\":false,\"size\":"
    "\"standard-1x\",\"oneoff\":false,\"attached\":false,\"crashes\":0,\"restarts\":0,\"command\":"
    "\"x\"}}";

/* --- The agent --- */

static void env_up(struct world *w)
{
    static const struct scratch_quota none = {0, 0};
    const struct config *c = &w->a.config;
    struct agent *a = &w->a;
    struct run_env *env = &a->env;
    struct err e = ERR_INIT;
    char path[512];

    (void)snprintf(env->runtime_dir, sizeof(env->runtime_dir), "%s", c->runtime_dir);
    (void)snprintf(path, sizeof(path), "%s/run", c->runtime_dir);
    (void)mkdir(path, 0700);
    env->run_dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    (void)snprintf(path, sizeof(path), "%s/scratch", c->state_dir);
    (void)mkdir(path, 0700);
    env->scratch_dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(env->run_dirfd >= 0 && env->scratch_dirfd >= 0);
    const struct scratch_config sc = {.dirfd = env->scratch_dirfd,
                                      .path = path,
                                      .way = "none",
                                      .rootless = true,
                                      .quotas = &none,
                                      .n_quotas = 1,
                                      .overcommit = 1};
    assert_int_equal(scratches_open(&sc, &a->scratches, &e), 0);
    (void)snprintf(path, sizeof(path), "%s/trash", c->state_dir);
    assert_int_equal(sweeper_open(a->loop, path, &a->sweeper, &e), 0);
    (void)snprintf(path, sizeof(path), "/dynod-test-adopt-%d", getpid());
    assert_int_equal(cgroup_tree_open(path, false, &a->cgroups, &e), 0);
    assert_int_equal(slots_init(&a->uids, 1, 2, &e), 0);
    env->loop = a->loop;
    env->cgroups = a->cgroups;
    env->logger = a->logger;
    env->rootless = true;
    env->scratches = a->scratches;
    env->sweeper = a->sweeper;
}

static void env_down(struct world *w)
{
    struct agent *a = &w->a;
    struct err e = ERR_INIT;

    link_abandon(a->link);
    while (!TAILQ_EMPTY(&a->dynos))
        dyno_free(TAILQ_FIRST(&a->dynos));
    agent_endings_done(a);
    sweeper_freep(&a->sweeper);
    scratches_freep(&a->scratches);
    assert_int_equal(cgroup_tree_remove(a->cgroups, &e), 0);
    cgroup_tree_freep(&a->cgroups);
    slots_done(&a->uids);
    fd_closep(&a->env.run_dirfd);
    fd_closep(&a->env.scratch_dirfd);
}

static int adopting_up(void **state)
{
    sigset_t chld;

    (void)sigemptyset(&chld);
    (void)sigaddset(&chld, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &chld, NULL);
    int r = world_up(state);
    env_up(*state);
    return r;
}

static int adopting_down(void **state)
{
    env_down(*state);
    return world_down(state);
}

/* --- What is on disk --- */

static void path_of(const struct world *w, char out[256], const char *name)
{
    (void)snprintf(out, 256, "%s/run/run/" RUN "/%s", w->dir, name);
}

static void put(const struct world *w, const char *name, const void *data, size_t len)
{
    char path[256];
    struct err e = ERR_INIT;

    path_of(w, path, "");
    (void)mkdir(path, 0700);
    path_of(w, path, name);
    assert_int_equal(file_write_atomic(AT_FDCWD, path, data, len, 0600, &e), 0);
}

static struct init_event ended(uint32_t kind)
{
    return (struct init_event){.version = INIT_PROTO_VERSION,
                               .kind = kind,
                               .phase =
                                   kind == INIT_STARTED ? INIT_PHASE_RUNNING : INIT_PHASE_ENDED,
                               .status = kind == INIT_STARTED ? 0 : STATUS << 8,
                               .started_boot_usec = 1,
                               .ended_boot_usec = kind == INIT_STARTED ? 0 : 2};
}

static int listen_for(const struct world *w)
{
    char path[256];
    struct err e = ERR_INIT;
    int fd;

    path_of(w, path, RUN_SOCKET);
    (void)unlink(path);
    assert_int_equal(unix_listen(path, SOCK_SEQPACKET, 0600, &fd, &e), 0);
    return fd;
}

/* A run whose dyno-init is dead. KIND: what its record says; 0: nothing. */
static void put_dead(const struct world *w, uint32_t kind)
{
    const struct init_event record = ended(kind);

    put(w, RUN_RECORD, run_json, strlen(run_json));
    put(w, RUN_EXIT, &record, kind ? sizeof(record) : 0);
    close(listen_for(w));
}

/* --- What was reported --- */

/* The ends of RUN that the event log has; *ret_status of the last. */
static unsigned reported(const struct world *w, int64_t *ret_status)
{
    json_t *list = events_list(w->a.events, 0, EVENTS_KEPT), *event;
    unsigned n = 0;
    size_t i;

    json_array_foreach (list, i, event)
        if (!strcmp(json_str(event, "kind", ""), "exit") &&
            !strcmp(json_str(event, "run", ""), RUN)) {
            *ret_status = json_int(event, "status", -2);
            n++;
        }
    json_decref(list);
    return n;
}

static void adopt(struct world *w)
{
    struct err e = ERR_INIT;

    if (agent_adopt_all(&w->a, &e) < 0)
        fail_msg("%s", e.text);
}

/* Until the end of RUN is reported, and for a moment after it. */
static void run_to_end(struct world *w)
{
    uint64_t patience = clock_boot() + 20 * USEC_PER_SEC;
    int64_t status;

    while (reported(w, &status) == 0 && clock_boot() < patience)
        run_loop(w, 10000);
    turn(w);
}

/* Once, to whoever asks and to the controller. */
static void expect_reported(struct world *w, int64_t want_status)
{
    int64_t status = -2;

    run_to_end(w);
    assert_int_equal(reported(w, &status), 1);
    assert_int_equal(status, want_status);
    assert_int_equal(outbox_waiting(w->a.link->outbox), 1);
    const json_t *exit = outbox_next(w->a.link->outbox);
    assert_string_equal(json_str(exit, "id", ""), RUN);
    assert_int_equal(json_int(exit, "status", -2), want_status);
    outbox_rewind(w->a.link->outbox);
}

/* Nothing is taken away by who dies. */
static void die(struct world *w)
{
    struct dyno *d;

    TAILQ_FOREACH (d, &w->a.dynos, link)
        d->tomb[0] = '\0';
    env_down(w);
    agent_down(w);
}

static void next_agent(struct world *w)
{
    agent_up(w);
    env_up(w);
    adopt(w);
}

/* --- Deaths of an agent while it records an end --- */

enum death {
    BEFORE_ALL,
    AFTER_THE_OUTBOX,
    AFTER_THE_EVENT,
    AFTER_THE_TRACE,
    AFTER_THE_CLEANUP,
    N_DEATHS
};

static void forget_file(const struct world *w, const char *name)
{
    char path[256];

    (void)snprintf(path, sizeof(path), "%s/state/%s", w->dir, name);
    assert_int_equal(unlink(path), 0);
}

/* An agent has recorded all; what it wrote after DEATH is taken back. */
static void die_at(struct world *w, enum death death)
{
    const struct init_event record = ended(INIT_EXITED);

    die(w);
    if (death < AFTER_THE_OUTBOX)
        forget_file(w, OUTBOX_FILE);
    if (death < AFTER_THE_EVENT)
        forget_file(w, "events.jsonl");
    if (death < AFTER_THE_TRACE)
        put(w, RUN_RECORD, run_json, strlen(run_json));
    if (death < AFTER_THE_CLEANUP) {
        put(w, RUN_EXIT, &record, sizeof(record));
        close(listen_for(w));
    }
}

static void an_end_is_reported_once_wherever_the_agent_dies(void **state)
{
    struct world *w = *state;

    put_dead(w, INIT_EXITED);
    adopt(w);
    expect_reported(w, STATUS);
    for (int death = BEFORE_ALL; death < N_DEATHS; death++) {
        die_at(w, (enum death)death);
        next_agent(w);
        expect_reported(w, STATUS);
    }
    for (int i = 0; i < 2; i++) { /* and by no later one */
        die(w);
        next_agent(w);
        expect_reported(w, STATUS);
    }
}

/* The controller has it: it is not told again because the trace was not written. */
static void an_acknowledged_end_is_told_no_more(void **state)
{
    struct world *w = *state;
    json_t *ids = json_pack("[s]", RUN);
    struct err e = ERR_INIT;
    int64_t status;

    put_dead(w, INIT_EXITED);
    adopt(w);
    expect_reported(w, STATUS);
    assert_int_equal(outbox_ack(w->a.link->outbox, ids, &e), 0);
    json_decref(ids);
    die_at(w, AFTER_THE_EVENT);
    next_agent(w);
    turn(w);
    assert_int_equal(reported(w, &status), 1);
    assert_int_equal(outbox_waiting(w->a.link->outbox), 0);
}

/* --- Dead dyno-inits --- */

static void the_end_of_the_command_is_the_end(void **state)
{
    put_dead(*state, INIT_MAIN_ENDED);
    adopt(*state);
    expect_reported(*state, STATUS);
}

static void one_that_ran_and_left_no_status_is_reported(void **state)
{
    put_dead(*state, INIT_STARTED);
    adopt(*state);
    expect_reported(*state, -1);
}

static void one_that_never_ran_is_a_failed_start(void **state)
{
    put_dead(*state, 0);
    adopt(*state);
    expect_reported(*state, -1);
}

static void a_torn_record_is_no_reason_for_silence(void **state)
{
    put_dead(*state, INIT_EXITED);
    put(*state, RUN_EXIT, "x", 1);
    adopt(*state);
    expect_reported(*state, -1);
}

/* An earlier agent had told it to stop: its end is no crash. */
static void a_stop_outlives_the_agent(void **state)
{
    struct world *w = *state;

    put_dead(w, INIT_EXITED);
    put(w, RUN_STOP, "", 0);
    adopt(w);
    expect_reported(w, STATUS);
    assert_string_equal(json_str(outbox_next(w->a.link->outbox), "cause", ""), "stopped");
    assert_true(TAILQ_EMPTY(&w->a.dynos));
}

/* --- Living ones --- */

enum manner {
    RUNS,           /* and ends a moment later */
    HAS_ENDED,      /* and waits to be let go */
    HANGS_UP,       /* on the first who asks */
    DIES_WHEN_ASKED /* having written its record */
};

static void say(int conn, uint32_t kind, uint32_t phase)
{
    struct init_event ev = ended(phase == INIT_PHASE_ENDED ? INIT_EXITED : INIT_STARTED);

    ev.kind = kind;
    (void)fd_send(conn, &ev, sizeof(ev), NULL, 0); /* who asked may have gone */
}

/* Ends with 0 when it is let go after its end. */
static void serve(int listening, const char *record, enum manner manner)
{
    const struct init_event last = ended(INIT_EXITED);
    struct init_request req;

    for (;;) {
        int conn = accept4(listening, NULL, NULL, SOCK_CLOEXEC);

        if (manner == HANGS_UP) {
            manner = HAS_ENDED;
            close(conn);
            continue;
        }
        while (read(conn, &req, sizeof(req)) == sizeof(req)) {
            if (req.kind == INIT_HELLO && manner == DIES_WHEN_ASKED) {
                int fd = open(record, O_WRONLY | O_CLOEXEC);

                (void)!write(fd, &last, sizeof(last));
                _exit(3);
            }
            if (req.kind == INIT_HELLO && manner == RUNS) {
                say(conn, INIT_STATE, INIT_PHASE_RUNNING);
                (void)usleep(20000);
                say(conn, INIT_EXITED, INIT_PHASE_ENDED);
            } else if (req.kind == INIT_HELLO) {
                say(conn, INIT_STATE, INIT_PHASE_ENDED);
            } else if (req.kind == INIT_RELEASE) {
                _exit(0);
            }
        }
        close(conn);
    }
}

static pid_t put_living(const struct world *w, enum manner manner)
{
    char path[256];

    put_dead(w, 0);
    int listening = listen_for(w);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        path_of(w, path, RUN_EXIT);
        serve(listening, path, manner);
    }
    close(listening);
    return pid;
}

/* It is let go, once its log has been read too; *ret_status of wait(2). */
static void let_go(struct world *w, pid_t pid)
{
    uint64_t patience = clock_boot() + 20 * USEC_PER_SEC;
    struct run *r = agent_find_run(&w->a, RUN);
    siginfo_t info = {0};

    assert_non_null(r);
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT), 0);
    assert_int_equal(info.si_pid, 0); /* not before */
    run_log_eof(r);
    while (agent_find_run(&w->a, RUN) && clock_boot() < patience)
        run_loop(w, 10000);
    assert_null(agent_find_run(&w->a, RUN));
}

static void living(void **state, enum manner manner)
{
    struct world *w = *state;
    pid_t pid = put_living(w, manner);

    adopt(w);
    expect_reported(w, STATUS);
    let_go(w, pid);
    die(w);
    next_agent(w);
    expect_reported(w, STATUS);
}

static void one_that_runs_is_heard_to_its_end(void **state)
{
    living(state, RUNS);
}

static void one_that_ended_meanwhile_has_waited(void **state)
{
    living(state, HAS_ENDED);
}

static void a_connection_that_breaks_is_made_again(void **state)
{
    living(state, HANGS_UP);
}

static void one_that_dies_when_it_is_asked_has_left_its_record(void **state)
{
    struct world *w = *state;
    pid_t pid = put_living(w, DIES_WHEN_ASKED);
    int status = 0;

    adopt(w);
    expect_reported(w, STATUS);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(WEXITSTATUS(status), 3);
}

/* --- One that the loop cannot watch --- */

static void note_failed(void *owner, struct run *r, const struct err *why)
{
    (void)r;
    assert_int_equal(why->errnum, ENOMEM);
    ++*(unsigned *)owner;
}

static void note_nothing(void *owner, struct run *r)
{
    (void)owner;
    (void)r;
}

/* As run_watch() leaves one for which epoll had no memory: it is killed, and its end must show. */
static void what_cannot_be_watched_ends_too(void **state)
{
    static const struct run_ops ops = {.failed = note_failed, .gone = note_nothing};
    const struct dyno_name name = {.app = "hello", .type = "worker", .num = 1};
    uint64_t patience = clock_boot() + 20 * USEC_PER_SEC;
    struct world *w = *state;
    struct err e = ERR_INIT;
    struct run *r = NULL;
    unsigned told = 0;

    put_dead(w, 0);
    assert_int_equal(run_new(&w->a.env, RUN, &name, &ops, &told, &r, &e), 0);
    r->dirfd = openat(w->a.env.run_dirfd, RUN, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    r->pid = fork();
    assert_true(r->pid >= 0);
    if (r->pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
            pause();
    }
    r->pidfd = (int)syscall(SYS_pidfd_open, r->pid, 0);
    assert_true(r->pidfd >= 0);
    (void)err_set(&r->failed, ENOMEM, "watch it");
    run_kill(r);
    while (!told && clock_boot() < patience)
        run_loop(w, 10000);
    turn(w);
    assert_int_equal(told, 1);
    assert_int_equal(r->pidfd, -1);
    run_freep(&r);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, adopting_up, adopting_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_end_is_reported_once_wherever_the_agent_dies),
        TEST(an_acknowledged_end_is_told_no_more),
        TEST(the_end_of_the_command_is_the_end),
        TEST(one_that_ran_and_left_no_status_is_reported),
        TEST(one_that_never_ran_is_a_failed_start),
        TEST(a_torn_record_is_no_reason_for_silence),
        TEST(a_stop_outlives_the_agent),
        TEST(one_that_runs_is_heard_to_its_end),
        TEST(one_that_ended_meanwhile_has_waited),
        TEST(a_connection_that_breaks_is_made_again),
        TEST(one_that_dies_when_it_is_asked_has_left_its_record),
        TEST(what_cannot_be_watched_ends_too),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("adopt", tests, NULL, NULL);
}

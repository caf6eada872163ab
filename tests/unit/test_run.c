/* What becomes of a run where the kernel has no memory for a message, or for an event source, and
 * where its dyno-init goes at a bad moment. Dyno-inits are played by processes of this test. */
#include "core/run/run_priv.h"

#include "base/clock.h"
#include "base/scoped.h"
#include "core/host/sweeper.h"
#include "isolate/cgroup_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdalign.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define RUN      "shop.web.1.d367e2f8"
#define PATIENCE (60 * USEC_PER_SEC) /* for what takes a moment */

/* --- A kernel that refuses --- */

static int refuse_messages;   /* errno of sendmsg(2); 0: as ever */
static int refuse_watch = -1; /* epoll has no memory for this descriptor, once */

ssize_t sendmsg(int sock, const struct msghdr *msg, int flags)
{
    if (!refuse_messages)
        return syscall(SYS_sendmsg, sock, msg, flags);
    errno = refuse_messages;
    return -1;
}

int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
    if (op != EPOLL_CTL_ADD || fd != refuse_watch)
        return (int)syscall(SYS_epoll_ctl, epfd, op, fd, event);
    refuse_watch = -1;
    errno = ENOMEM;
    return -1;
}

/* --- A place --- */

struct place {
    char path[64];
    struct run_env env;
    struct run *run;
    pid_t pid; /* of a dyno-init; 0: none */
    int n_failed, n_ended, n_gone;
    struct err why;
};

static struct place place;

static int place_make(void **state)
{
    static alignas(max_align_t) char no_logger[4096]; /* nobody there: it says nothing */
    const struct scratch_config scratch = {
        .dirfd = -1, .path = "", .way = "none", .rootless = true, .overcommit = 1};
    char path[128];
    struct err e = ERR_INIT;

    (void)state;
    place = (struct place){0};
    (void)snprintf(place.path, sizeof(place.path), "/tmp/test-run-XXXXXX");
    assert_non_null(mkdtemp(place.path));
    (void)snprintf(place.env.runtime_dir, sizeof(place.env.runtime_dir), "%s", place.path);
    (void)snprintf(path, sizeof(path), "%s/run", place.path);
    assert_int_equal(mkdir(path, 0700), 0);
    place.env.run_dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    (void)snprintf(path, sizeof(path), "%s/scratch", place.path);
    assert_int_equal(mkdir(path, 0700), 0);
    place.env.scratch_dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(sd_event_new(&place.env.loop) >= 0);
    (void)snprintf(path, sizeof(path), "%s/trash", place.path);
    assert_int_equal(sweeper_open(place.env.loop, path, &place.env.sweeper, &e), 0);
    assert_int_equal(scratches_open(&scratch, &place.env.scratches, &e), 0);
    (void)snprintf(path, sizeof(path), "/dynod-test-run-%d", getpid());
    assert_int_equal(cgroup_tree_open(path, false, &place.env.cgroups, &e), 0);
    place.env.logger = (struct logger *)(void *)no_logger;
    return 0;
}

static int place_drop(void **state)
{
    struct err e = ERR_INIT;

    (void)state;
    refuse_messages = 0;
    refuse_watch = -1;
    run_freep(&place.run);
    if (place.pid > 0) {
        (void)kill(place.pid, SIGKILL);
        (void)waitpid(place.pid, NULL, 0); /* a run may have waited for it */
    }
    sweeper_freep(&place.env.sweeper);
    scratches_freep(&place.env.scratches);
    close(place.env.run_dirfd);
    close(place.env.scratch_dirfd);
    assert_int_equal(cgroup_tree_remove(place.env.cgroups, &e), 0);
    cgroup_tree_freep(&place.env.cgroups);
    sd_event_unref(place.env.loop);
    assert_int_equal(tree_remove(AT_FDCWD, place.path, &e), 0);
    return 0;
}

static void run_has_failed(void *owner, struct run *r, const struct err *why)
{
    (void)owner;
    (void)r;
    place.n_failed++;
    place.why = *why;
}

static void run_has_ended(void *owner, struct run *r)
{
    (void)owner;
    (void)r;
    place.n_ended++;
}

static void run_is_gone(void *owner, struct run *r)
{
    (void)owner;
    (void)r;
    place.n_gone++;
}

static const struct run_ops ops = {
    .failed = run_has_failed, .ended = run_has_ended, .gone = run_is_gone};
static const struct dyno_name name = {.app = "shop", .type = "web", .num = 1};

/* Turns the loop until *N is 1. */
static void wait_for(const int *n)
{
    uint64_t until = clock_boot() + PATIENCE;

    while (*n == 0 && clock_boot() < until)
        assert_true(sd_event_run(place.env.loop, 100 * USEC_PER_MSEC) >= 0);
    assert_int_equal(*n, 1);
}

static void make_dir(void)
{
    assert_int_equal(mkdirat(place.env.run_dirfd, RUN, 0700), 0);
}

/* A run whose dyno-init is a process that does nothing; *ret_ctl is that one's end. */
static void make_run(int *ret_ctl, int *ret_ours)
{
    struct err e = ERR_INIT;
    int sv[2];

    make_dir();
    assert_int_equal(run_new(&place.env, RUN, &name, &ops, NULL, &place.run, &e), 0);
    place.run->dirfd = openat(place.env.run_dirfd, RUN, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv), 0);
    place.pid = fork();
    assert_true(place.pid >= 0);
    if (place.pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
            pause();
    }
    place.run->pid = place.pid;
    place.run->pidfd = pidfd_open(place.pid, 0);
    assert_true(place.run->pidfd >= 0);
    *ret_ours = sv[0];
    *ret_ctl = sv[1];
}

/* --- Adoption --- */

static struct run_trace listening_trace(int *ret_listen)
{
    struct run_trace trace = {.record = json_pack("{s:i,s:s,s:{}}", "v", 1, "id", RUN, "record")};
    char path[256];
    struct err e = ERR_INIT;

    make_dir();
    (void)snprintf(trace.id, sizeof(trace.id), RUN);
    (void)snprintf(path, sizeof(path), "%s/run/" RUN "/" RUN_SOCKET, place.path);
    assert_int_equal(unix_listen(path, SOCK_SEQPACKET, 0600, ret_listen, &e), 0);
    return trace;
}

static void one_that_goes_as_it_is_greeted_is_dead(void **state)
{
    scoped_fd listening = -1;
    struct run_trace trace = listening_trace(&listening);
    struct err e = ERR_INIT;

    (void)state;
    refuse_messages = ECONNRESET;
    assert_int_equal(run_adopt(&place.env, &trace, &name, &ops, NULL, &place.run, &e), 0);
    wait_for(&place.n_failed); /* it never ran */
    json_decref(trace.record);
}

static void one_that_we_cannot_greet_is_not_taken_for_adopted(void **state)
{
    scoped_fd listening = -1;
    struct run_trace trace = listening_trace(&listening);
    struct err e = ERR_INIT;

    (void)state;
    refuse_messages = ENOBUFS;
    assert_int_equal(run_adopt(&place.env, &trace, &name, &ops, NULL, &place.run, &e), -ENOBUFS);
    assert_int_equal(e.errnum, ENOBUFS);
    assert_null(place.run);
    json_decref(trace.record);
}

/* --- A start --- */

static void one_that_cannot_be_watched_has_an_end(void **state)
{
    scoped_fd theirs = -1;
    int ours, null = open("/dev/null", O_RDONLY | O_CLOEXEC);

    (void)state;
    make_run(&theirs, &ours);
    refuse_watch = place.run->pidfd;
    run_watch(place.run, ours, null);
    wait_for(&place.n_failed);
    assert_int_equal(place.why.errnum, ENOMEM);
}

/* --- The end --- */

static void one_that_cannot_be_released_goes_as_well(void **state)
{
    scoped_fd theirs = -1;
    int ours, null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    const struct init_event exited = {.version = INIT_PROTO_VERSION,
                                      .kind = INIT_EXITED,
                                      .phase = INIT_PHASE_ENDED,
                                      .started_boot_usec = 1,
                                      .ended_boot_usec = 2};

    (void)state;
    make_run(&theirs, &ours);
    run_watch(place.run, ours, null);
    assert_int_equal(send(theirs, &exited, sizeof(exited), 0), sizeof(exited));
    wait_for(&place.n_ended);
    refuse_messages = ENOBUFS;
    run_log_eof(place.run);
    wait_for(&place.n_gone);
    assert_int_equal(place.n_failed, 0);
}

/* --- What belongs to nobody --- */

/* What run_sweep() logs. */
static char *sweep_log(void)
{
    char path[128];
    char *text = NULL;
    size_t len;
    struct err e = ERR_INIT;
    int kept = dup(STDERR_FILENO);

    (void)snprintf(path, sizeof(path), "%s/log", place.path);
    scoped_fd log = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(kept >= 0 && log >= 0);
    assert_int_equal(dup2(log, STDERR_FILENO), STDERR_FILENO);
    run_sweep(&place.env, NULL, 0);
    assert_int_equal(dup2(kept, STDERR_FILENO), STDERR_FILENO);
    close(kept);
    assert_int_equal(file_read(AT_FDCWD, path, 1 << 20, &text, &len, &e), 0);
    return text;
}

/* One with another below it cannot be removed, and no process of it is to blame. */
static void a_cgroup_that_stays_is_not_said_to_be_removed(void **state)
{
    static const struct limits limits = {.pids = 10};
    struct cgroup *c = NULL;
    struct err e = ERR_INIT;

    (void)state;
    if (cgroup_tree_version(place.env.cgroups) == CGROUP_NONE)
        skip(); /* only root has cgroups here */
    assert_int_equal(cgroup_create(place.env.cgroups, RUN, &limits, &c, &e), 0);
    int dir = place.env.cgroups->dirs[CTRL_MEMORY];
    assert_int_equal(mkdirat(dir, RUN "/below", 0700), 0);
    scoped_free char *text = sweep_log();
    assert_int_equal(unlinkat(dir, RUN "/below", AT_REMOVEDIR), 0);
    assert_int_equal(cgroup_remove(c, &e), 0);
    cgroup_freep(&c);
    assert_non_null(strstr(text, RUN ": a leftover cgroup stays: "));
    assert_null(strstr(text, "removed"));
}

#define placed(test) cmocka_unit_test_setup_teardown(test, place_make, place_drop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        placed(one_that_goes_as_it_is_greeted_is_dead),
        placed(one_that_we_cannot_greet_is_not_taken_for_adopted),
        placed(one_that_cannot_be_watched_has_an_end),
        placed(one_that_cannot_be_released_goes_as_well),
        placed(a_cgroup_that_stays_is_not_said_to_be_removed),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("run", tests, NULL, NULL);
}

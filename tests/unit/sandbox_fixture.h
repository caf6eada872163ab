/* sandbox_fixture.h - starts real dynos for the tests: as root, or rootless as an ordinary user.
 * dyno-init is looked for beside the test, in ../bin. */
#ifndef TESTS_SANDBOX_FIXTURE_H
#define TESTS_SANDBOX_FIXTURE_H

#include "base/clock.h"
#include "base/fdio.h"
#include "base/scoped.h"
#include "isolate/cgroup.h"
#include "isolate/initproto.h"
#include "isolate/launch.h"
#include "isolate/sandbox.h"
#include "isolate/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define INNER_UID  28000u /* as root; rootless: the user's own */
#define UIDS_MAX   1000   /* users that one test may take */
#define WAIT_MSEC  (60000 * fixture_slowness())
#define OUTPUT_MAX (256u << 10)

/* How often longer everything may take: on a machine that is emulated. */
static inline int fixture_slowness(void)
{
    const char *text = getenv("DYNOD_TEST_SLOWNESS");

    return text ? atoi(text) : 1;
}

/* User N of the dynos of this test, and of no other that runs: the kernel counts by user what may
 * be taken of it, and there are dynos here that take it all. */
static inline uid_t fixture_uid(unsigned n)
{
    assert_true(n < UIDS_MAX);
    return 1000000000u + (uid_t)getpid() % 1000000u * UIDS_MAX + n;
}

struct fixture {
    char dir[64];
    char init[4096];
    bool rootless;
    bool entered;
    uid_t inner;
    int dirfd;
    int slug;
    struct sandbox *sandbox;
    struct scratches *scratches;
    struct cgroup_tree *tree;
    unsigned serial;
};

struct dyno {
    struct fixture *f;
    struct cgroup *cgroup;
    struct spawned spawned;
    int userns, scratch, ctl, record, log, listen;
    char name[32], socket[128];
    char *out;
    size_t len;
};

/* In which sandbox a dyno starts: in one of its own, in one of whose parts some were made ahead, in
 * one that was made ahead, in one that was made ahead for its slug and limits. */
enum ahead { FRESH, ROOM, SPARE, DRESSED };
#ifndef SANDBOX_AHEAD
#define SANDBOX_AHEAD FRESH
#endif

struct dyno_options {
    const char *stack_command;
    char *const *env;
    struct limits limits;
    struct scratch_quota disk; /* of a fixture whose scratches have quotas */
    bool no_slug, tty, no_log_pump;
    enum ahead ahead; /* FRESH: as SANDBOX_AHEAD says */
    int stdio[3];
};

#define must(call)                                                                                 \
    do {                                                                                           \
        struct err must_e_ = ERR_INIT;                                                             \
        struct err *e = &must_e_;                                                                  \
        if ((call) < 0) {                                                                          \
            print_error("%s: %s\n", #call, must_e_.text);                                          \
            fail();                                                                                \
        }                                                                                          \
    } while (0)

static inline void fixture_put(struct fixture *f, const char *path, const char *text, mode_t mode)
{
    int fd = openat(f->slug, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    if (!f->rootless)
        assert_int_equal(fchown(fd, f->inner, f->inner), 0);
    close(fd);
}

static inline void fixture_mkdir(struct fixture *f, const char *path)
{
    assert_int_equal(mkdirat(f->slug, path, 0755), 0);
    if (!f->rootless)
        assert_int_equal(fchownat(f->slug, path, f->inner, f->inner, 0), 0);
}

static inline void fixture_find_init(struct fixture *f)
{
    ssize_t n = readlink("/proc/self/exe", f->init, sizeof(f->init) - 1);

    assert_true(n > 0);
    f->init[n] = '\0';
    *strrchr(f->init, '/') = '\0';
    strcat(f->init, "/../bin/dyno-init");
    if (access(f->init, X_OK) < 0) {
        print_error("%s is not there: build bin/dyno-init first\n", f->init);
        fail();
    }
}

static inline int fixture_open_stack(struct fixture *f, const char *stack)
{
    char parent[64], path[128];

    *f = (struct fixture){.rootless = geteuid() != 0, .slug = -1, .dirfd = -1};
    signal(SIGPIPE, SIG_IGN);
    f->inner = f->rootless ? geteuid() : INNER_UID;
    fixture_find_init(f);
    if (f->rootless)
        must(sandbox_enter_rootless(e)); /* first: descriptors from outside cannot be mounted */
    strcpy(f->dir, "/tmp/isolate-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->dirfd = open(f->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(mkdirat(f->dirfd, "slug", 0755), 0);
    assert_int_equal(mkdirat(f->dirfd, "run", 0700), 0);
    f->slug = openat(f->dirfd, "slug", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (!f->rootless)
        assert_int_equal(fchown(f->slug, f->inner, f->inner), 0);
    snprintf(parent, sizeof(parent), "/dynod-test-%d", getpid());
    must(cgroup_tree_open(parent, !f->rootless, &f->tree, e));
    snprintf(path, sizeof(path), "%s/run", f->dir);
    struct sandbox_config config = {.stack = stack,
                                    .runtime_dir = path,
                                    .init_path = f->init,
                                    .rootless = f->rootless,
                                    .slug_owner = f->inner};
    must(sandbox_open(&config, &f->sandbox, e));
    struct scratch_config files = {
        .dirfd = f->dirfd, .path = f->dir, .way = "none", .rootless = f->rootless, .overcommit = 1};
    must(scratches_open(&files, &f->scratches, e));
    return 0;
}

static inline int fixture_open(struct fixture *f)
{
    return fixture_open_stack(f, "host");
}

/* Also what fixture_open() left half made: cmocka tears down after a setup that failed. */
static inline void fixture_close(struct fixture *f)
{
    sandbox_freep(&f->sandbox);
    scratches_freep(&f->scratches);
    if (f->tree)
        must(cgroup_tree_remove(f->tree, e));
    cgroup_tree_freep(&f->tree);
    fd_closep(&f->slug);
    if (f->dirfd < 0)
        return;
    fd_closep(&f->dirfd);
    scoped_fd tmp = open("/tmp", O_PATH | O_DIRECTORY | O_CLOEXEC);
    must(tree_remove(tmp, strrchr(f->dir, '/') + 1, e));
}

static inline void dyno_prepare(struct fixture *f, struct dyno *d, const struct dyno_options *o,
                                struct plan *p, int *launch, char *const *argv)
{
    char path[160];
    int sv[2], pipe_fds[2];
    struct launch l = {.argv = argv, .env = o->env, .tty = o->tty, .rows = 30, .cols = 90};
    static char home[] = "HOME=/app", path_var[] = "PATH=/usr/local/bin:/usr/bin:/bin",
                greeting[] = "GREETING=hello world";
    static char *const default_env[] = {home, path_var, greeting, NULL};

    *d = (struct dyno){.f = f, .userns = -1, .scratch = -1};
    if (!l.env)
        l.env = default_env;
    snprintf(d->name, sizeof(d->name), "t%u.web.1", ++f->serial);
    must(cgroup_create(f->tree, d->name, &o->limits, &d->cgroup, e));
    uid_t uid = f->rootless ? geteuid() : fixture_uid(f->serial);
    gid_t gid = f->rootless ? getegid() : uid;
    if (!f->rootless)
        must(sandbox_userns(f->sandbox, uid, gid, &d->userns, e));
    struct scratch scratch = SCRATCH_INIT;
    must(scratch_take(f->scratches, d->name, uid, gid, &o->disk, &scratch, e));
    d->scratch = scratch.fd;
    must(launch_memfd(&l, launch, e));
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv), 0);
    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    d->ctl = sv[0];
    d->log = pipe_fds[0];
    snprintf(d->socket, sizeof(d->socket), "%s/run/%s.sock", f->dir, d->name);
    must(unix_listen(d->socket, SOCK_SEQPACKET, 0600, &d->listen, e));
    snprintf(path, sizeof(path), "%s/run/%s.record", f->dir, d->name);
    d->record = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    *p = (struct plan){.hostname = "web-1",
                       .uid = uid,
                       .gid = gid,
                       .userns_fd = d->userns,
                       .netns_fd = -1,
                       .slug_fd = o->no_slug ? -1 : f->slug,
                       .scratch_fd = d->scratch,
                       .scratch_mounted = scratch.mounted,
                       .cgroup = d->cgroup,
                       .limits = o->limits,
                       .stdio = {-1, -1, -1},
                       .log_read = pipe_fds[0],
                       .log_write = pipe_fds[1],
                       .ctl_fd = sv[1],
                       .listen_fd = d->listen,
                       .record_fd = d->record,
                       .launch_fd = *launch};
}

static inline void dyno_wait_report(struct dyno *d)
{
    for (;;) {
        struct pollfd pfd = {.fd = d->spawned.report_fd, .events = POLLIN};
        struct err e = ERR_INIT;

        assert_int_equal(poll(&pfd, 1, WAIT_MSEC), 1);
        int r = sandbox_report(d->spawned.report_fd, &e);
        if (r < 0) {
            print_error("start: %s\n", e.text);
            fail();
        }
        if (r > 0)
            break;
    }
    close(d->spawned.report_fd);
}

/* Makes the sandbox of P before anything is known that a spare is not told, and waits until it is
 * there. With other limits, unless it is DRESSED for P. */
static inline void dyno_spare(struct dyno *d, const struct plan *p, bool dressed,
                              struct spare_cut *cut)
{
    struct plan ahead = *p;

    ahead.hostname = NULL;
    ahead.launch_fd = -1;
    if (!dressed) {
        ahead.limits =
            (struct limits){.memory_quota = 3 << 20, .memory_max = 4 << 20, .pids = 4000};
        ahead.slug_fd = -1;
    }
    for (int i = 0; i < 3; i++)
        ahead.stdio[i] = -1;
    must(sandbox_prepare(d->f->sandbox, &ahead, &d->spawned, cut, e));
    dyno_wait_report(d);
}

/* Starts ARGV and waits until dyno-init runs. */
static inline void dyno_exec(struct fixture *f, struct dyno *d, const struct dyno_options *o,
                             char *const *argv)
{
    struct plan p;
    int launch;

    dyno_prepare(f, d, o, &p, &launch, argv);
    enum ahead ahead = o->ahead == FRESH ? SANDBOX_AHEAD : o->ahead;

    if (ahead == SPARE || ahead == DRESSED) {
        struct spare_cut cut;
        int identity;

        dyno_spare(d, &p, ahead == DRESSED, &cut);
        must(memfd_with("dyno-identity", "web.1", 5, &identity, e));
        must(sandbox_take(f->sandbox, &d->spawned, &cut, &p, d->ctl, identity, e));
        close(identity);
    } else {
        if (ahead == ROOM)
            must(sandbox_ready(f->sandbox, &o->limits, e));
        must(sandbox_spawn(f->sandbox, &p, &d->spawned, e));
        dyno_wait_report(d);
    }
    close(p.log_write);
    close(p.ctl_fd);
    close(launch);
}

static inline void dyno_sh(struct fixture *f, struct dyno *d, const struct dyno_options *o,
                           const char *script)
{
    char *argv[] = {(char *)"/bin/sh", (char *)"-c", (char *)(uintptr_t)script, NULL};

    dyno_exec(f, d, o, argv);
}

/* Receives one event, with at most one descriptor. */
#define dyno_event(conn, ev, fd) dyno_event_at(conn, ev, fd, __LINE__)
static inline void dyno_event_at(int conn, struct init_event *ev, int *fd, int line)
{
    int fds[FD_PASS_MAX];
    size_t n_fds = 0;
    struct pollfd pfd = {.fd = conn, .events = POLLIN};

    if (poll(&pfd, 1, WAIT_MSEC) != 1) {
        print_error("line %d: no event came\n", line);
        fail();
    }
    assert_int_equal(fd_recv(conn, ev, sizeof(*ev), fds, &n_fds), sizeof(*ev));
    assert_int_equal(ev->version, INIT_PROTO_VERSION);
    if (fd) {
        assert_int_equal(n_fds, 1);
        *fd = fds[0];
    } else {
        assert_int_equal(n_fds, 0);
    }
}

#define dyno_expect(conn, wanted, ev) dyno_expect_at(conn, wanted, ev, __LINE__)
static inline void dyno_expect_at(int conn, uint32_t kind, struct init_event *ev, int line)
{
    dyno_event_at(conn, ev, NULL, line);
    if (ev->kind != kind)
        print_error("line %d: event %u instead of %u\n", line, ev->kind, kind);
    assert_int_equal(ev->kind, kind);
}

static inline void dyno_request(int conn, uint32_t kind, uint32_t token, int signo, const int *fds,
                                size_t n_fds)
{
    struct init_request req = {
        .version = INIT_PROTO_VERSION, .kind = kind, .token = token, .signo = signo};

    assert_int_equal(fd_send(conn, &req, sizeof(req), fds, n_fds), sizeof(req));
}

/* Reads FD to its end, or until TEXT has come (NULL: the end). */
static inline void dyno_read(struct dyno *d, int fd, const char *until)
{
    if (!d->out) {
        d->out = calloc(1, OUTPUT_MAX + 1);
        assert_non_null(d->out);
    }
    while (!until || !strstr(d->out, until)) {
        struct pollfd pfd = {.fd = fd, .events = POLLIN};

        if (poll(&pfd, 1, WAIT_MSEC) != 1) {
            print_error("no more output after: %s\n", d->out);
            fail();
        }
        ssize_t n = read(fd, d->out + d->len, OUTPUT_MAX - d->len);
        if (n <= 0) {
            if (until) {
                print_error("the end came after: %s\n", d->out);
                fail();
            }
            return;
        }
        d->len += (size_t)n;
    }
}

/* Waits for the end of the command; returns its wait status. */
static inline int dyno_wait(struct dyno *d)
{
    struct init_event ev;

    dyno_expect(d->ctl, INIT_STARTED, &ev);
    assert_true(ev.pid > 1);
    dyno_read(d, d->log, NULL);
    dyno_expect(d->ctl, INIT_EXITED, &ev);
    assert_int_equal(ev.phase, INIT_PHASE_ENDED);
    return ev.status;
}

/* Lets dyno-init go, checks that it goes, and that nothing stays. */
static inline void dyno_done(struct dyno *d, int conn)
{
    siginfo_t si = {0};

    if (conn >= 0)
        dyno_request(conn, INIT_RELEASE, 0, 0, NULL, 0);
    else
        must(cgroup_kill(d->cgroup, e));
    struct pollfd pfd = {.fd = d->spawned.pidfd, .events = POLLIN};
    if (poll(&pfd, 1, conn >= 0 || !d->f->rootless ? WAIT_MSEC : 0) != 1)
        assert_int_equal(kill(d->spawned.pid, SIGKILL), 0);
    assert_int_equal(waitid(P_PIDFD, (id_t)d->spawned.pidfd, &si, WEXITED), 0);
    for (int i = 0; i < 6000; i++) {
        struct err e = ERR_INIT;

        if (cgroup_remove(d->cgroup, &e) == 0)
            break;
        assert_int_equal(e.errnum, EBUSY);
        assert_true(i < 5999);
        usleep(10000);
    }
    assert_false(cgroup_populated(d->cgroup));
    cgroup_freep(&d->cgroup);
    close(d->spawned.pidfd);
    close(d->ctl);
    close(d->log);
    close(d->record);
    close(d->listen);
    fd_closep(&d->userns);
    fd_closep(&d->scratch);
    must(tree_remove(d->f->dirfd, d->name, e));
    free(d->out);
}

/* The common case: run SCRIPT, return its output (to free) and status. */
static inline char *dyno_run(struct fixture *f, const char *script, int *ret_status)
{
    struct dyno_options o = {0};
    struct dyno d;

    dyno_sh(f, &d, &o, script);
    int status = dyno_wait(&d);
    char *out = TAKE_PTR(d.out);
    dyno_done(&d, d.ctl);
    if (ret_status)
        *ret_status = status;
    return out;
}

#endif

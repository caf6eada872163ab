/* bench_spawn.c - from sandbox_spawn() to the first byte of the dyno's command, dyno-init and all.
 *
 * bench_spawn HELLO-BYTE DYNO-INIT [N]: prints milliseconds; as root, or rootless. Compare with
 * floor.c. What a start needs before (cgroup, user namespace, scratch directory, launch record) is
 * told apart. */
#include "base/fdio.h"
#include "base/scoped.h"
#include "isolate/initproto.h"
#include "isolate/launch.h"
#include "isolate/sandbox.h"
#include "isolate/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#define INNER 28000u

struct bench {
    char dir[64];
    bool rootless;
    int dirfd, slug;
    struct sandbox *sandbox;
    struct scratches *scratches;
    struct cgroup_tree *tree;
    int userns;
    uid_t uid;
    gid_t gid;
};

static double now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void must(int r, const struct err *e)
{
    if (r >= 0)
        return;
    fprintf(stderr, "bench_spawn: %s\n", e->text);
    _exit(1);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static void report(const char *what, double *all, int n)
{
    qsort(all, (size_t)n, sizeof(*all), by_value);
    printf("%s: n=%d p50=%.3f ms p90=%.3f ms min=%.3f ms\n", what, n, all[n / 2], all[n * 9 / 10],
           all[0]);
}

static void open_all(struct bench *b, const char *hello, const char *init)
{
    struct err e = ERR_INIT;
    char command[512], run[128];

    *b = (struct bench){.rootless = geteuid() != 0, .userns = -1, .dir = "/tmp/bench-XXXXXX"};
    b->uid = b->rootless ? geteuid() : 200000;
    b->gid = b->rootless ? getegid() : 200000;
    if (b->rootless)
        must(sandbox_enter_rootless(&e), &e);
    if (!mkdtemp(b->dir))
        _exit(2);
    snprintf(command, sizeof(command), "mkdir %s/slug %s/run && cp '%s' %s/slug/hello", b->dir,
             b->dir, hello, b->dir);
    if (system(command) != 0)
        _exit(2);
    b->dirfd = open(b->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    b->slug = openat(b->dirfd, "slug", O_PATH | O_DIRECTORY | O_CLOEXEC);
    must(cgroup_tree_open("/dynod-bench", !b->rootless, &b->tree, &e), &e);
    snprintf(run, sizeof(run), "%s/run", b->dir);
    struct sandbox_config config = {.stack = "host",
                                    .runtime_dir = run,
                                    .init_path = init,
                                    .rootless = b->rootless,
                                    .slug_owner = b->rootless ? geteuid() : INNER};
    double start = now_ms();
    must(sandbox_open(&config, &b->sandbox, &e), &e);
    struct scratch_config files = {
        .dirfd = b->dirfd, .path = b->dir, .way = "none", .rootless = b->rootless, .overcommit = 1};
    must(scratches_open(&files, &b->scratches, &e), &e);
    printf("sandbox_open: %.1f ms\n", now_ms() - start);
    start = now_ms();
    if (!b->rootless)
        must(sandbox_userns(b->sandbox, b->uid, b->gid, &b->userns, &e), &e);
    printf("sandbox_userns: %.3f ms\n", now_ms() - start);
}

static void end(struct bench *b, struct plan *p, struct spawned *s, int ctl)
{
    struct init_request req = {.version = INIT_PROTO_VERSION, .kind = INIT_RELEASE};
    struct init_event ev = {0};
    struct err e = ERR_INIT;

    while (ev.kind != INIT_EXITED && read(ctl, &ev, sizeof(ev)) == sizeof(ev))
        ;
    if (write(ctl, &req, sizeof(req)) != sizeof(req))
        _exit(3);
    waitpid(s->pid, NULL, 0);
    must(sandbox_report(s->report_fd, &e), &e);
    for (int i = 0; i < 100 && cgroup_remove(p->cgroup, &e) < 0; i++)
        usleep(1000);
    cgroup_freep(&p->cgroup);
    scratch_forget(b->scratches, "scratch");
    must(tree_remove(b->dirfd, "scratch", &e), &e);
}

static double once(struct bench *b, double *prepared)
{
    struct launch l = {.argv = (char *[]){(char *)"/app/hello", NULL}, .env = (char *[]){NULL}};
    struct limits limits = {.memory_quota = 512 << 20, .memory_max = 1 << 30, .pids = 256};
    struct plan p = {.hostname = "bench",
                     .uid = b->uid,
                     .gid = b->gid,
                     .userns_fd = b->userns,
                     .netns_fd = -1,
                     .slug_fd = b->slug,
                     .limits = limits,
                     .stdio = {-1, -1, -1}};
    struct err e = ERR_INIT;
    struct spawned s;
    char socket_path[128], c;
    int sv[2], log[2];

    must(sandbox_ready(b->sandbox, &limits, &e), &e); /* as the agent does it, after a start */
    double start = now_ms();
    must(cgroup_create(b->tree, "bench.1", &limits, &p.cgroup, &e), &e);
    struct scratch scratch = SCRATCH_INIT;
    static const struct scratch_quota no_quota;
    must(scratch_take(b->scratches, "scratch", p.uid, p.gid, &no_quota, &scratch, &e), &e);
    p.scratch_fd = scratch.fd;
    must(launch_memfd(&l, &p.launch_fd, &e), &e);
    snprintf(socket_path, sizeof(socket_path), "%s/run/sock", b->dir);
    must(unix_listen(socket_path, SOCK_SEQPACKET, 0600, &p.listen_fd, &e), &e);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0 || pipe2(log, O_CLOEXEC) < 0)
        _exit(2);
    p.record_fd = openat(b->dirfd, "run/record", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    p.log_read = log[0];
    p.log_write = log[1];
    p.ctl_fd = sv[1];
    *prepared = now_ms() - start;

    start = now_ms();
    must(sandbox_spawn(b->sandbox, &p, &s, &e), &e);
    close(log[1]);
    if (read(log[0], &c, 1) != 1) {
        (void)sandbox_report(s.report_fd, &e);
        must(-1, &e);
    }
    double took = now_ms() - start;
    end(b, &p, &s, sv[0]);
    int fds[] = {p.scratch_fd, p.launch_fd, p.listen_fd, p.record_fd, log[0],
                 sv[0],        sv[1],       s.pidfd,     s.report_fd};
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
        close(fds[i]);
    return took;
}

int main(int argc, char **argv)
{
    int n = argc > 3 ? atoi(argv[3]) : 200;
    double *all = calloc((size_t)n, sizeof(*all)), *prepared = calloc((size_t)n, sizeof(*all));
    struct err e = ERR_INIT;
    struct bench b;

    if (argc < 3 || n < 1 || !all || !prepared)
        return 2;
    signal(SIGPIPE, SIG_IGN);
    open_all(&b, argv[1], argv[2]);
    for (int i = 0; i < n; i++)
        all[i] = once(&b, &prepared[i]);
    report("prepare (cgroup, scratch, launch record, sockets)", prepared, n);
    report("sandbox_spawn to the first byte", all, n);
    must(cgroup_tree_remove(b.tree, &e), &e);
    must(tree_remove(AT_FDCWD, b.dir, &e), &e);
    return 0;
}

/* spares.c - making sandboxes ahead, and taking away those that nobody took. */
#include "core/spares.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/scoped.h"
#include "core/network.h"
#include "core/run_priv.h"
#include "core/sweeper.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define SPARE_DIR          "spare"
#define REFILL_PAUSE       (3 * USEC_PER_MSEC) /* after a start, whose dyno has the processor first */
#define REPORT_PATIENCE_MS 2
#define REMOVE_PAUSE       (2 * USEC_PER_MSEC) /* a dying process still counts in its cgroup */
#define REMOVE_TRIES       1000
#define REMOVE_NOW_TRIES   200 /* of a millisecond, when the loop does not run */

/* --- The end of one --- */

/* All but the process, which is gone or somebody else's. */
static void free_spare(struct spare *sp)
{
    sd_event_source_disable_unref(sp->on_end);
    sd_event_source_disable_unref(sp->timer);
    fd_closep(&sp->userns_fd);
    fd_closep(&sp->dirfd);
    fd_closep(&sp->child.pidfd);
    fd_closep(&sp->child.report_fd);
    fd_closep(&sp->ctl);
    fd_closep(&sp->log_read);
    cgroup_freep(&sp->cgroup);
    free(sp);
}

/* Its last traces. Its process is gone. */
static void clean_up(struct spare *sp)
{
    struct spares *s = sp->all;
    struct run_env *env = s->env;
    struct err e = ERR_INIT;

    scratch_forget(env->scratches, sp->id);
    if (sweeper_take(env->sweeper, env->scratch_dirfd, sp->id, &e) < 0 ||
        tree_remove(s->dirfd, sp->id, &e) < 0)
        log_warn("%s: %s", sp->id, e.text);
    if (sp->uid)
        ids_put(&s->agent->ids, sp->uid);
    network_put(s->agent, sp->slot);
    if (sp->dying)
        TAILQ_REMOVE(&s->dying, sp, link);
    free_spare(sp);
}

static int on_remove(sd_event_source *source, uint64_t usec, void *userdata);

static void remove_cgroup(struct spare *sp)
{
    struct err e = ERR_INIT;

    if (sp->cgroup && cgroup_remove(sp->cgroup, &e) < 0) {
        if (e.errnum == EBUSY && sp->tries++ < REMOVE_TRIES &&
            timer_set(sp->all->env->loop, &sp->timer, "spare-remove", clock_boot() + REMOVE_PAUSE,
                      on_remove, sp) >= 0)
            return;
        log_warn("%s: %s", sp->id, e.text);
    }
    clean_up(sp);
}

static int on_remove(sd_event_source *source, uint64_t usec, void *userdata)
{
    (void)source;
    (void)usec;
    remove_cgroup(userdata);
    return 0;
}

static void reap(struct spare *sp, int flags)
{
    siginfo_t info = {0};

    while (waitid(P_PIDFD, (id_t)sp->child.pidfd, &info, WEXITED | flags) < 0 && errno == EINTR)
        ;
}

static int on_end(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
    struct spare *sp = userdata;
    struct spares *s = sp->all;

    (void)source;
    (void)fd;
    (void)revents;
    reap(sp, WNOHANG);
    sp->on_end = sd_event_source_disable_unref(sp->on_end);
    if (!sp->dying) { /* by itself */
        TAILQ_REMOVE(&s->ready, sp, link);
        TAILQ_INSERT_TAIL(&s->dying, sp, link);
        s->n_ready--;
        sp->dying = true;
        s->lost++;
        log_warn("%s: the spare sandbox ended by itself", sp->id);
    }
    remove_cgroup(sp);
    return 0;
}

static void kill_spare(struct spare *sp)
{
    fd_closep(&sp->ctl);
    if (sp->child.pidfd >= 0)
        (void)pidfd_send_signal(sp->child.pidfd, SIGKILL, NULL, 0); /* ESRCH: it has ended */
}

void spare_end(struct spare *sp)
{
    TAILQ_INSERT_TAIL(&sp->all->dying, sp, link);
    sp->dying = true;
    kill_spare(sp);
    if (!sp->on_end) /* nothing watches it: it was never made */
        remove_cgroup(sp);
}

/* Without the loop. SP is on no list but that of the dying. */
static void end_now(struct spare *sp)
{
    struct err e = ERR_INIT;

    kill_spare(sp);
    if (sp->child.pidfd >= 0)
        reap(sp, 0);
    for (int i = 0; sp->cgroup && i < REMOVE_NOW_TRIES && cgroup_remove(sp->cgroup, &e) == -EBUSY;
         i++)
        (void)usleep(1000);
    clean_up(sp);
}

unsigned spares_shed(struct spares *s)
{
    struct spare *sp;
    unsigned n = 0;

    while ((sp = TAILQ_FIRST(&s->ready))) {
        TAILQ_REMOVE(&s->ready, sp, link);
        TAILQ_INSERT_TAIL(&s->dying, sp, link);
        sp->dying = true;
    }
    s->n_ready = 0;
    TAILQ_FOREACH (sp, &s->dying, link) /* together, they end in the time of one */
        kill_spare(sp);
    for (; (sp = TAILQ_FIRST(&s->dying)); n++)
        end_now(sp);
    return n;
}

void spare_used(struct spare *sp)
{
    sp->all->taken++;
    free_spare(sp);
}

/* --- The making of one --- */

/* What a run's directory has but its record. */
static int make_dir(struct spare *sp, int *ret_listen, int *ret_exit, struct err *e)
{
    const struct spares *s = sp->all;
    char path[512];

    if (mkdirat(s->dirfd, sp->id, 0700) < 0)
        return err_set(e, errno, "make the directory of %s", sp->id);
    sp->dirfd = openat(s->dirfd, sp->id, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (sp->dirfd < 0)
        return err_set(e, errno, "open the directory of %s", sp->id);
    (void)snprintf(path, sizeof(path), "%s/" SPARE_DIR "/%s/" RUN_SOCKET, s->env->runtime_dir,
                   sp->id);
    int r = unix_listen(path, SOCK_SEQPACKET, 0600, ret_listen, e);
    if (r < 0)
        return r;
    *ret_exit = openat(sp->dirfd, RUN_EXIT, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    return *ret_exit < 0 ? err_set(e, errno, "make the exit record") : 0;
}

static int prepare(struct spare *sp, struct plan *plan, struct err *e)
{
    struct spares *s = sp->all;
    const struct scratch_quota quota = {s->limits.disk_bytes, s->limits.disk_inodes};
    scoped(scratch_done) struct scratch scratch = SCRATCH_INIT;
    bool rootless = s->agent->rootless;
    uid_t uid = rootless ? getuid() : sp->uid;
    scoped_fd netns = -1;
    int r = scratch_take(s->env->scratches, sp->id, uid, uid, &quota, &scratch, e);

    if (r == 0)
        r = cgroup_create(s->env->cgroups, sp->id, &s->limits, &sp->cgroup, e);
    if (r == 0)
        r = network_make(s->agent, &s->limits, &sp->slot, &netns, e);
    if (r < 0)
        return r;
    plan->uid = uid;
    plan->gid = rootless ? getgid() : (gid_t)uid;
    plan->netns_fd = netns;
    plan->userns_fd = sp->userns_fd;
    plan->scratch_fd = scratch.fd;
    plan->scratch_mounted = scratch.mounted;
    plan->cgroup = sp->cgroup;
    plan->limits = s->limits;
    return sandbox_prepare(s->env->sandbox, plan, &sp->child, e);
}

static int make_process(struct spare *sp, struct err *e)
{
    int log[2], ctl[2];
    scoped_fd listen_fd = -1, exit_fd = -1;
    int r = make_dir(sp, &listen_fd, &exit_fd, e);

    if (r < 0)
        return r;
    if (pipe2(log, O_CLOEXEC) < 0)
        return err_set(e, errno, "make the log pipe");
    scoped_fd log_write = log[1];
    sp->log_read = log[0];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ctl) < 0)
        return err_set(e, errno, "make the socket pair for dyno-init");
    scoped_fd theirs = ctl[1];
    sp->ctl = ctl[0];
    struct plan plan = {.slug_fd = -1,
                        .stdio = {-1, -1, -1},
                        .log_read = sp->log_read,
                        .log_write = log_write,
                        .ctl_fd = theirs,
                        .listen_fd = listen_fd,
                        .record_fd = exit_fd,
                        .launch_fd = -1};
    r = prepare(sp, &plan, e);
    if (r < 0)
        return r;
    r = sd_event_add_io(sp->all->env->loop, &sp->on_end, sp->child.pidfd, EPOLLIN, on_end, sp);
    return r < 0 ? err_set(e, -r, "watch %s", sp->id) : 0;
}

static int make(struct spares *s, struct err *e)
{
    struct spare *sp = calloc(1, sizeof(*sp));
    int r = 0;

    if (!sp)
        return err_set(e, ENOMEM, "make a spare sandbox");
    *sp = (struct spare){.all = s,
                         .built = s->limits,
                         .userns_fd = -1,
                         .dirfd = -1,
                         .child = {.pidfd = -1, .report_fd = -1},
                         .ctl = -1,
                         .log_read = -1};
    (void)snprintf(sp->id, sizeof(sp->id), RUN_SPARE_PREFIX "%016" PRIx64, random_u64());
    if (!s->agent->rootless)
        r = ids_take(&s->agent->ids, &sp->uid, &sp->userns_fd, e);
    if (r == 0)
        r = make_process(sp, e);
    if (r < 0) {
        TAILQ_INSERT_TAIL(&s->dying, sp, link);
        sp->dying = true;
        end_now(sp);
        return r;
    }
    TAILQ_INSERT_TAIL(&s->ready, sp, link);
    s->n_ready++;
    s->made++;
    return 0;
}

static int on_refill(sd_event_source *source, uint64_t usec, void *userdata)
{
    struct spares *s = userdata;
    struct err e = ERR_INIT;
    uint64_t began = clock_boot();

    (void)source;
    (void)usec;
    if (!s->env->sandbox || s->n_ready >= s->wanted)
        return 0;
    if (make(s, &e) < 0) { /* the next start asks again, and does without */
        if (!s->complained)
            log_warn("spare sandboxes: %s", e.text);
        s->complained = true;
        return 0;
    }
    s->complained = false;
    s->made_usec = clock_boot() - began;
    if (!s->agent->rootless)
        ids_refill(&s->agent->ids);
    spares_refill(s);
    return 0;
}

void spares_refill(struct spares *s)
{
    int enabled = 0;

    if (!s->env || s->n_ready >= s->wanted)
        return;
    if (s->refill)
        (void)sd_event_source_get_enabled(s->refill, &enabled);
    if (enabled)
        return;
    if (timer_set(s->env->loop, &s->refill, "spare-refill", clock_boot() + REFILL_PAUSE, on_refill,
                  s) >= 0) /* one who waits for a start comes first */
        (void)sd_event_source_set_priority(s->refill, SD_EVENT_PRIORITY_IDLE);
}

/* --- All of them --- */

int spares_open(struct spares *s, struct agent *a, const struct limits *limits, struct err *e)
{
    struct run_env *env = &a->env;
    scoped_fd runtime = open(env->runtime_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    *s = (struct spares){.agent = a, .limits = *limits, .dirfd = -1};
    TAILQ_INIT(&s->ready);
    TAILQ_INIT(&s->dying);
    if (runtime < 0)
        return err_set(e, errno, "open %s", env->runtime_dir);
    int r = tree_remove(runtime, SPARE_DIR, e);
    if (r < 0)
        return r;
    if (mkdirat(runtime, SPARE_DIR, 0700) < 0)
        return err_set(e, errno, "make %s/" SPARE_DIR, env->runtime_dir);
    s->dirfd = openat(runtime, SPARE_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->dirfd < 0)
        return err_set(e, errno, "open %s/" SPARE_DIR, env->runtime_dir);
    s->env = env;
    return 0;
}

void spares_done(struct spares *s)
{
    if (!s->env)
        return;
    s->wanted = 0;
    (void)spares_shed(s);
    s->refill = sd_event_source_disable_unref(s->refill);
    fd_closep(&s->dirfd);
}

void spares_want(struct spares *s, unsigned n)
{
    struct spare *sp;

    if (!s->env)
        return;
    s->wanted = n;
    while (s->n_ready > n) {
        sp = TAILQ_LAST(&s->ready, spare_list);
        TAILQ_REMOVE(&s->ready, sp, link);
        s->n_ready--;
        spare_end(sp);
    }
    spares_refill(s);
}

/* Everything else is set when it is taken. */
static bool fits(const struct limits *built, const struct limits *wanted)
{
    return built->disk_bytes == wanted->disk_bytes && built->disk_inodes == wanted->disk_inodes &&
           built->rate_bits == wanted->rate_bits && built->open_files == wanted->open_files &&
           built->io_weight == wanted->io_weight;
}

/* One that has just been made is in the middle of its execve, some microseconds from the end. */
static int hear_report(const struct spare *sp, struct err *e)
{
    struct pollfd pfd = {.fd = sp->child.report_fd, .events = POLLIN};
    int r = sandbox_report(pfd.fd, e);

    if (r == 0 && poll(&pfd, 1, REPORT_PATIENCE_MS) == 1)
        r = sandbox_report(pfd.fd, e);
    return r;
}

struct spare *spares_take(struct spares *s, const struct limits *limits)
{
    struct spare *sp, *next;
    struct err e = ERR_INIT;

    if (!s->env || s->wanted == 0)
        return NULL;
    if (!fits(&s->limits, limits)) {
        s->unfit++;
        return NULL;
    }
    for (sp = TAILQ_FIRST(&s->ready); sp; sp = next) {
        int r = hear_report(sp, &e);

        next = TAILQ_NEXT(sp, link);
        if (r == 0) /* on its way */
            continue;
        TAILQ_REMOVE(&s->ready, sp, link);
        s->n_ready--;
        if (r > 0)
            return sp;
        log_warn("%s: %s", sp->id, e.text);
        s->lost++;
        spare_end(sp);
    }
    s->empty++;
    return NULL;
}

json_t *spares_json(const struct spares *s)
{
    return json_pack("{s:i,s:i,s:I,s:I,s:I,s:I,s:I,s:I}", "wanted", (int)s->wanted, "ready",
                     (int)s->n_ready, "made", (json_int_t)s->made, "taken", (json_int_t)s->taken,
                     "empty", (json_int_t)s->empty, "unfit", (json_int_t)s->unfit, "lost",
                     (json_int_t)s->lost, "made_us", (json_int_t)s->made_usec);
}

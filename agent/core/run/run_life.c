/* run_life.c - what happens to a run between its start and its last trace. */
#include "core/run/run_priv.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/scoped.h"
#include "core/host/sweeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

/* For dyno-init, asked to kill all, to tell of the end: it is there for the status, and taking down
 * gigabytes of memory takes seconds. Shorter than drain.h's margin. */
#define KILL_PATIENCE    (4 * USEC_PER_SEC)
#define KILL_PAUSE_FIRST (500 * USEC_PER_MSEC) /* SIGKILL had no effect: once more */
#define KILL_PAUSE_MAX   (10 * USEC_PER_SEC)
#define LOG_EOF_PATIENCE (60 * USEC_PER_SEC) /* for dynod-logs to read what the pipe holds */
#define CLEANUP_PAUSE    (2 * USEC_PER_MSEC) /* a dying process still counts in its cgroup */
#define RELINKS_MAX      100                 /* of one run's connections that broke */
#define CLEANUP_TRIES    1000
#define OOM_PAUSE        (5 * USEC_PER_MSEC) /* from an OOM to the look at who was killed for it */
#define OOM_LOOKS        100

static void run_finish(struct run *r);

static int ask(struct run *r, uint32_t kind, int signo)
{
    struct init_request request = {.kind = kind, .signo = signo};

    return r->link ? initlink_send(r->link, &request, NULL, 0) : -ENOTCONN;
}

void run_request(struct run *r, uint32_t kind, int signo)
{
    (void)ask(r, kind, signo); /* a dead dyno-init shows at its pidfd */
}

/* Its dyno's end is on record, and so it may go. One that cannot be told has nothing left to do. */
static void release(struct run *r)
{
    if (!r->released && ask(r, INIT_RELEASE, 0) < 0)
        (void)pidfd_send_signal(r->pidfd, SIGKILL, NULL, 0); /* ESRCH: it is gone already */
    r->released = true;
}

/* --- The end --- */

int run_read_exit(struct run *r)
{
    scoped_free char *data = NULL;
    struct err why = ERR_INIT;
    struct init_event event = {0};
    size_t len = 0;
    int rc = file_read(r->dirfd, RUN_EXIT, sizeof(event), &data, &len, &why);

    if (rc == -ENOENT || (rc == 0 && len == 0))
        return 0;
    if (rc == 0 && len == sizeof(event))
        memcpy(&event, data, sizeof(event));
    if (rc < 0 || len != sizeof(event) || event.version != INIT_PROTO_VERSION) {
        char from[RUN_ID_MAX + 16], kept[RUN_KEPT_MAX];

        (void)snprintf(from, sizeof(from), "%s/" RUN_EXIT, r->id);
        run_set_aside(r->env, from, kept);
        log_warn("%s: its exit record is torn or of another version, set aside as %s", r->id, kept);
        return -EBADMSG;
    }
    r->started_boot = event.started_boot_usec;
    r->started = r->started || r->started_boot != 0;
    r->start_errno = (int)event.start_errno;
    /* The command's end counts even if dyno-init died before the others were gone. */
    if (event.kind == INIT_EXITED || event.kind == INIT_MAIN_ENDED) {
        r->status = event.status;
        r->status_known = true;
        r->ended_boot = event.ended_boot_usec;
    }
    return 1;
}

void run_note_end(struct run *r)
{
    if (r->told_ended)
        return;
    r->told_ended = true;
    r->ended = true;
    r->kill_pause = 0;
    (void)timer_set(r->env->loop, &r->timer, "run", USEC_NEVER, NULL, NULL);
    if (!r->ended_boot)
        r->ended_boot = clock_boot();
    run_execs_fail(r);
    attach_fds_close(&r->attach);
    if (r->failed.errnum)
        r->ops->failed(r->owner, r, &r->failed);
    else
        r->ops->ended(r->owner, r);
    run_finish(r);
}

static int on_cleanup(sd_event_source *s, uint64_t usec, void *userdata)
{
    (void)s;
    (void)usec;
    run_finish(userdata);
    return 0;
}

static int on_patience(sd_event_source *s, uint64_t usec, void *userdata)
{
    struct run *r = userdata;

    (void)s;
    (void)usec;
    log_warn("%s: its log pipe was not read to the end in time", r->id);
    r->log_eof = true;
    run_finish(r);
    return 0;
}

static void set_timer(struct run *r, const char *name, uint64_t pause, sd_event_time_handler_t fn)
{
    /* One timer with one meaning at a time: its handler changes, so it is made anew. */
    r->timer = sd_event_source_disable_unref(r->timer);
    if (timer_set(r->env->loop, &r->timer, name, clock_boot() + pause, fn, r) < 0)
        log_err("%s: no memory for a timer", r->id);
}

/* Takes away what is left, step by step as far as it can go now; called again when more can. */
static void run_finish(struct run *r)
{
    struct err e = ERR_INIT;

    if (!r->ended || r->gone)
        return;
    if (!r->log_eof) {
        if (!r->timer || sd_event_source_get_enabled(r->timer, NULL) == 0)
            set_timer(r, "run-log-eof", LOG_EOF_PATIENCE, on_patience);
        return;
    }
    if (r->pidfd >= 0) { /* dyno-init lives until it is told that its dyno's end is on record */
        release(r);
        return;
    }
    if (r->cgroup && cgroup_remove(r->cgroup, &e) < 0) {
        if (e.errnum == EBUSY && r->cleanup_tries++ < CLEANUP_TRIES) {
            (void)cgroup_kill(r->cgroup, &e); /* nothing lives in it by right any more */
            set_timer(r, "run-cleanup", CLEANUP_PAUSE, on_cleanup);
            return;
        }
        log_warn("%s: %s", r->id, e.text);
    }
    scratch_forget(r->env->scratches, r->id);
    if (sweeper_take(r->env->sweeper, r->env->scratch_dirfd, r->id, &e) < 0)
        log_warn("%s: %s", r->id, e.text);
    logger_forget_inc(r->env->logger, r->id);
    if (r->has_slot && r->env->nets)
        slots_put(r->env->nets, run_slot(r));
    r->has_slot = false;
    (void)unlinkat(r->dirfd, RUN_SOCKET, 0); /* run.json stays: the dyno's last end */
    (void)unlinkat(r->dirfd, RUN_EXIT, 0);
    run_disk_tell(r, false);
    (void)timer_set(r->env->loop, &r->timer, "run", USEC_NEVER, NULL, NULL);
    r->gone = true;
    r->ops->gone(r->owner, r);
}

void run_log_eof(struct run *r)
{
    r->log_eof = true;
    run_finish(r);
}

void run_reopen_log(struct run *r)
{
    if (r->gone || r->log_eof)
        return;
    if (r->link)
        run_request(r, INIT_HELLO, 0); /* its INIT_STATE carries the pipe */
    else if (r->ended)
        run_log_eof(r); /* both who held the pipe are dead: nothing is left to read */
}

/* --- The process --- */

/* What the child's steps said. True: there is nothing more to hear. */
static bool read_report(struct run *r)
{
    struct err e = ERR_INIT;
    int rc = r->report_fd >= 0 ? sandbox_report(r->report_fd, &e) : 1;

    if (rc == 0)
        return false;
    if (rc < 0 && !r->failed.errnum)
        r->failed = e;
    r->on_report = sd_event_source_disable_unref(r->on_report);
    fd_closep(&r->report_fd);
    return true;
}

static int on_report(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
    (void)s;
    (void)fd;
    (void)revents;
    (void)read_report(userdata);
    return 0;
}

/* dyno-init (or the child that was to become it) is gone. */
static int on_pidfd(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
    struct run *r = userdata;
    siginfo_t info = {0};

    (void)s;
    (void)fd;
    (void)revents;
    (void)waitid(P_PIDFD, (id_t)r->pidfd, &info, WEXITED | WNOHANG); /* ECHILD: an adopted one */
    (void)read_report(r);
    r->on_pidfd = sd_event_source_disable_unref(r->on_pidfd);
    fd_closep(&r->pidfd);
    initlink_freep(&r->link);
    if (!r->told_ended && run_read_exit(r) == 0 && !r->started && !r->failed.errnum)
        (void)err_say(&r->failed, EIO, "the start ended before the command ran");
    if (r->told_ended)
        run_finish(r);
    else
        run_note_end(r);
    return 0;
}

int run_watch_process(struct run *r, struct err *e)
{
    int rc = sd_event_add_io(r->env->loop, &r->on_pidfd, r->pidfd, EPOLLIN, on_pidfd, r);

    if (rc >= 0 && r->report_fd >= 0)
        rc = sd_event_add_io(r->env->loop, &r->on_report, r->report_fd, EPOLLIN, on_report, r);
    return rc < 0 ? err_set(e, -rc, "watch the process of %s", r->id) : 0;
}

static int on_oom_look(sd_event_source *s, uint64_t usec, void *userdata);

/* The kernel tells, then chooses, then kills and counts; or finds nobody to kill. */
static void look_for_oom(struct run *r)
{
    struct cgroup_usage usage = {0};
    struct err ignored = ERR_INIT;

    if (r->ended || cgroup_usage(r->cgroup, &usage, &ignored) < 0)
        return;
    if (usage.oom_kills > r->oom_kills) {
        r->oom_kills = usage.oom_kills;
        r->ops->oom(r->owner, r);
    } else if (r->oom_looks++ < OOM_LOOKS) {
        (void)timer_set(r->env->loop, &r->oom_timer, "run-oom", clock_boot() + OOM_PAUSE,
                        on_oom_look, r);
    }
}

static int on_oom_look(sd_event_source *s, uint64_t usec, void *userdata)
{
    (void)s;
    (void)usec;
    look_for_oom(userdata);
    return 0;
}

static int on_oom(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
    struct run *r = userdata;

    (void)s;
    (void)fd;
    (void)revents;
    cgroup_oom_read(r->cgroup);
    r->oom_looks = 0;
    look_for_oom(r);
    return 0;
}

void run_watch_oom(struct run *r)
{
    int fd = r->cgroup ? cgroup_oom_fd(r->cgroup) : -1;

    /* Without it an OOM kill still shows in the cgroup's counters at the end. */
    if (fd >= 0 && sd_event_add_io(r->env->loop, &r->on_oom, fd, EPOLLIN, on_oom, r) < 0)
        log_warn("%s: OOM kills are not watched: no memory", r->id);
}

/* --- dyno-init's words --- */

static void on_started(struct run *r, const struct init_event *event, int fd)
{
    r->started = true;
    r->started_boot = event->started_boot_usec;
    if (r->attached) {
        struct run_attach_fds fds = r->attach;

        if (fds.tty)
            fds.fds[0] = TAKE_FD(fd);
        r->attach.fds[0] = r->attach.fds[1] = r->attach.fds[2] = -1;
        r->ops->started(r->owner, r, &fds);
    } else {
        r->ops->started(r->owner, r, NULL);
    }
    fd_closep(&fd);
}

static void take_end(struct run *r, const struct init_event *event)
{
    r->status = event->status;
    r->status_known = true;
    r->start_errno = (int)event->start_errno;
    r->started_boot = event->started_boot_usec;
    r->started = r->started || r->started_boot != 0; /* its INIT_STARTED went to an earlier agent */
    r->ended_boot = event->ended_boot_usec;
    run_note_end(r);
}

/* The answer to INIT_HELLO: at adoption, or when dynod-logs needs the pipe again. */
static void on_state(struct run *r, const struct init_event *event, pid_t pid, int fd)
{
    char dyno[DYNO_TEXT_MAX];
    struct err e = ERR_INIT;

    if (fd >= 0 && !r->log_eof)
        logger_pipe(r->env->logger, dyno_name_text(&r->name, dyno), r->id, TAKE_FD(fd));
    fd_closep(&fd);
    if (r->pidfd < 0) {
        r->pid = pid;
        r->pidfd = pidfd_open(pid, 0);
        if (r->pidfd < 0 || run_watch_process(r, &e) < 0) {
            log_warn("%s: cannot watch dyno-init (pid %d)", r->id, (int)pid);
            fd_closep(&r->pidfd); /* its connection tells, then */
        }
        (void)timer_set(r->env->loop, &r->timer, "run", USEC_NEVER, NULL, NULL);
    }
    if (event->phase == INIT_PHASE_ENDED)
        take_end(r, event);
    else if (event->phase == INIT_PHASE_RUNNING && !r->started)
        on_started(r, event, -1);
}

static void on_init_event(void *userdata, const struct init_event *event, pid_t pid, int fd)
{
    struct run *r = userdata;

    switch (event->kind) {
    case INIT_STATE:
        on_state(r, event, pid, fd);
        return;
    case INIT_STARTED:
        if (!r->started)
            on_started(r, event, TAKE_FD(fd));
        break;
    case INIT_START_FAILED:
        r->start_errno = event->status;
        break;
    case INIT_EXITED:
        take_end(r, event);
        break;
    case INIT_EXEC_STARTED:
    case INIT_EXEC_FAILED:
    case INIT_EXEC_EXITED:
        run_exec_answer(r, event, TAKE_FD(fd));
        break;
    default: /* a newer dyno-init's; nothing we wait for */
        break;
    }
    fd_closep(&fd);
}

static void on_init_close(void *userdata)
{
    struct run *r = userdata;
    struct err ignored = ERR_INIT;

    initlink_freep(&r->link);
    /* Dead, its pidfd tells the rest; alive, the connection broke on our side. */
    if (!r->ended && r->pidfd >= 0 && r->relinks++ < RELINKS_MAX)
        (void)run_connect_init(r, &ignored);
    if (r->pidfd < 0 && !r->ended) /* in the middle of an adoption: do not wait for the answer */
        (void)timer_set(r->env->loop, &r->timer, "run-adopt", 0, NULL, NULL);
}

int run_watch_link(struct run *r, int sock, struct err *e)
{
    static const struct initlink_ops ops = {.on_event = on_init_event, .on_close = on_init_close};

    return initlink_new(r->env->loop, sock, &ops, r, &r->link, e);
}

/* --- Signals --- */

void run_stop(struct run *r, int signo)
{
    /* First, so that a later agent knows whose doing the end is. Without it (no memory on tmpfs) it
     * only looks like the app's. */
    scoped_fd mark = openat(r->dirfd, RUN_STOP, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    run_request(r, INIT_STOP, signo);
    run_thaw(r); /* SIGTERM is the first that it sees */
}

void run_signal(struct run *r, int signo)
{
    run_request(r, INIT_SIGNAL, signo);
}

/* It has ended, and there was no memory to have the loop tell. */
static bool ended_unseen(const struct run *r)
{
    struct pollfd pfd = {.fd = r->pidfd, .events = POLLIN};

    return !r->on_pidfd && r->pidfd >= 0 && poll(&pfd, 1, 0) == 1;
}

static int on_kill(sd_event_source *s, uint64_t usec, void *userdata)
{
    struct run *r = userdata;

    (void)s;
    (void)usec;
    if (ended_unseen(r))
        return on_pidfd(NULL, r->pidfd, 0, r);
    run_kill(r);
    return 0;
}

void run_kill(struct run *r)
{
    struct err e = ERR_INIT;

    if (r->ended)
        return;
    if (r->paused && r->link)
        run_request(r, INIT_SIGNAL, SIGKILL); /* before it runs again */
    run_thaw(r);
    if (r->kill_pause == 0) { /* in one step, and dyno-init stays to tell the status */
        r->kill_pause = KILL_PAUSE_FIRST;
        if (r->link && r->report_fd < 0) {
            run_request(r, INIT_SIGNAL, SIGKILL);
            set_timer(r, "run-kill", KILL_PATIENCE, on_kill);
            return;
        }
    }
    /* The end of a PID namespace's first process is the end of all in it. */
    if (r->pidfd >= 0)
        (void)pidfd_send_signal(r->pidfd, SIGKILL, NULL, 0);
    if (r->cgroup && cgroup_kill(r->cgroup, &e) < 0)
        log_warn("%s: %s", r->id, e.text);
    r->kill_pause = r->kill_pause * 2 < KILL_PAUSE_MAX ? r->kill_pause * 2 : KILL_PAUSE_MAX;
    set_timer(r, "run-kill", r->kill_pause, on_kill);
}

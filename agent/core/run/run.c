/* run.c - making and starting a run, and the small questions about one. */
#include "core/run/run_priv.h"

#include "base/clock.h"
#include "base/loop.h"
#include "base/scoped.h"
#include "core/host/sweeper.h"
#include "isolate/launch.h"
#include "isolate/net.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

void attach_fds_close(struct run_attach_fds *fds)
{
    for (int i = 0; i < 3; i++)
        fd_closep(&fds->fds[i]);
}

int run_new(struct run_env *env, const char *id, const struct dyno_name *name,
            const struct run_ops *ops, void *owner, struct run **ret, struct err *e)
{
    struct run *r = calloc(1, sizeof(*r));

    if (!r)
        return err_set(e, ENOMEM, "make a run");
    *r = (struct run){.env = env,
                      .ops = ops,
                      .owner = owner,
                      .name = *name,
                      .dirfd = -1,
                      .pidfd = -1,
                      .report_fd = -1,
                      .attach = {.fds = {-1, -1, -1}},
                      .next_token = 1};
    (void)snprintf(r->id, sizeof(r->id), "%s", id);
    *ret = r;
    return 0;
}

void run_freep(struct run **rp)
{
    struct run *r = *rp;

    if (!r)
        return;
    run_execs_fail(r);
    initlink_freep(&r->link);
    sd_event_source_disable_unref(r->on_report);
    sd_event_source_disable_unref(r->on_pidfd);
    sd_event_source_disable_unref(r->on_oom);
    sd_event_source_disable_unref(r->oom_timer);
    sd_event_source_disable_unref(r->timer);
    fd_closep(&r->report_fd);
    fd_closep(&r->pidfd);
    fd_closep(&r->dirfd);
    attach_fds_close(&r->attach);
    cgroup_freep(&r->cgroup);
    json_decref(r->record);
    free(r);
    *rp = NULL;
}

/* --- Start
 * ------------------------------------------------------------------------------------------------
 */

/* Everything one start opens; closed on every way out. */
struct start_fds {
    int log[2], ctl[2], listen, exit, launch, stdio[3];
    struct scratch scratch;
};

static void start_fds_done(struct start_fds *f)
{
    int *all[] = {&f->log[0], &f->log[1],     &f->ctl[0],   &f->ctl[1],   &f->listen,  &f->exit,
                  &f->launch, &f->scratch.fd, &f->stdio[0], &f->stdio[1], &f->stdio[2]};

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        fd_closep(all[i]);
}

int run_write_record(struct run *r, struct err *e)
{
    scoped_free char *text = json_dumps(r->record, JSON_COMPACT);

    if (!text)
        return err_set(e, ENOMEM, "write " RUN_RECORD);
    return file_write_atomic(r->dirfd, RUN_RECORD, text, strlen(text), 0600, e);
}

int run_dir_new(int parent, const char *id, int *ret_dirfd, struct err *e)
{
    if (mkdirat(parent, id, 0700) < 0)
        return err_set(e, errno, "make the directory of %s", id);
    int fd = openat(parent, id, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_set(e, errno, "open the directory of %s", id);
    *ret_dirfd = fd;
    return 0;
}

int run_dir_fill(const struct run_env *env, const char *place, const char *id, int dirfd,
                 int *ret_listen, int *ret_exit, struct err *e)
{
    char path[512];
    scoped_fd sock = -1;

    (void)snprintf(path, sizeof(path), "%s/%s/%s/" RUN_SOCKET, env->runtime_dir, place, id);
    int r = unix_listen(path, SOCK_SEQPACKET, 0600, &sock, e);
    if (r < 0)
        return r;
    scoped_fd fd = openat(dirfd, RUN_EXIT, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_set(e, errno, "make the exit record");
    /* Its room is its own before anything runs: an end must be on record where the disk is full. */
    if (fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, sizeof(struct init_event)) < 0 &&
        (errno == ENOSPC || errno == EDQUOT))
        return err_set(e, errno, "make room for the exit record");
    *ret_listen = TAKE_FD(sock);
    *ret_exit = TAKE_FD(fd);
    return 0;
}

/* The run's directory with all that must be there before anything runs. */
static int make_dir(struct run *r, const struct run_spec *spec, struct start_fds *f, struct err *e)
{
    int ret = run_dir_new(r->env->run_dirfd, r->id, &r->dirfd, e);

    if (ret < 0)
        return ret;
    r->record =
        json_pack("{s:i,s:s,s:O}", "v", RUN_RECORD_VERSION, "id", r->id, "record", spec->record);
    ret = r->record ? run_write_record(r, e) : err_set(e, ENOMEM, "write " RUN_RECORD);
    if (ret < 0)
        return ret;
    return run_dir_fill(r->env, "run", r->id, r->dirfd, &f->listen, &f->exit, e);
}

int run_make_command(struct run *r, const struct run_spec *spec, int stdio[3], int *ret_launch,
                     struct err *e)
{
    struct launch launch = {.argv = spec->argv,
                            .env = spec->env,
                            .tty = spec->tty,
                            .rows = spec->rows,
                            .cols = spec->cols};
    int ret = 0;

    r->attached = spec->attached;
    r->attach.tty = spec->tty;
    if (spec->attached && !spec->tty)
        ret = run_pipes(stdio, r->attach.fds, e);
    return ret < 0 ? ret : launch_memfd(&launch, ret_launch, e);
}

static int make_channels(struct run *r, const struct run_spec *spec, struct start_fds *f,
                         struct err *e)
{
    scoped_fd identity = -1;

    if (pipe2(f->log, O_CLOEXEC) < 0)
        return err_set(e, errno, "make the log pipe");
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, f->ctl) < 0)
        return err_set(e, errno, "make the socket pair for dyno-init");
    int ret = run_identity_make(r, spec->record, &identity, e);
    if (ret == 0)
        ret = run_identity_give(r, identity, f->ctl[0], e);
    return ret < 0 ? ret : run_make_command(r, spec, f->stdio, &f->launch, e);
}

static int take_scratch(struct run *r, const struct run_spec *spec, struct start_fds *f,
                        struct err *e)
{
    const struct scratch_quota quota = {spec->limits.disk_bytes, spec->limits.disk_inodes};

    return scratch_take(r->env->scratches, r->id, spec->uid, spec->uid, &quota, &f->scratch, e);
}

static int spawn(struct run *r, const struct run_spec *spec, struct start_fds *f, struct err *e)
{
    struct spawned child;
    struct plan plan = {.hostname = spec->hostname,
                        .uid = spec->uid,
                        .gid = r->env->rootless ? getegid() : (gid_t)spec->uid,
                        .userns_fd = spec->userns_fd,
                        .netns_fd = spec->netns_fd,
                        .slug_fd = spec->slug_fd,
                        .scratch_fd = f->scratch.fd,
                        .scratch_mounted = f->scratch.mounted,
                        .cgroup = r->cgroup,
                        .limits = spec->limits,
                        .stdio = {f->stdio[0], f->stdio[1], f->stdio[2]},
                        .log_read = f->log[0],
                        .log_write = f->log[1],
                        .ctl_fd = f->ctl[1],
                        .listen_fd = f->listen,
                        .record_fd = f->exit,
                        .launch_fd = f->launch};
    int ret = sandbox_spawn(r->env->sandbox, &plan, &child, e);

    if (ret < 0)
        return ret;
    r->pid = child.pid;
    r->pidfd = child.pidfd;
    r->report_fd = child.report_fd;
    return 0;
}

/* Nothing of it may be left: it never ran. */
static void undo(struct run *r)
{
    struct err ignored = ERR_INIT;

    if (r->cgroup)
        (void)cgroup_remove(r->cgroup,
                            &ignored); /* the next agent's sweep finds what this misses */
    scratch_forget(r->env->scratches, r->id);
    (void)sweeper_take(r->env->sweeper, r->env->scratch_dirfd, r->id, &ignored);
    (void)tree_remove(r->env->run_dirfd, r->id, &ignored);
}

/* From here on there is a child: failures are told by its end, not by the call. */
void run_watch(struct run *r, int ctl, int log)
{
    char dyno[DYNO_TEXT_MAX];
    struct err late = ERR_INIT;

    if (run_watch_process(r, &late) < 0) {
        r->failed = late;
        fd_closep(&ctl);
    } else if (run_watch_link(r, ctl, &late) < 0) {
        r->failed = late;
    }
    if (r->failed.errnum)
        run_kill(r);
    run_watch_oom(r);
    logger_pipe(r->env->logger, dyno_name_text(&r->name, dyno), r->id, log);
}

static int start_steps(struct run *r, const struct run_spec *spec, struct start_fds *f,
                       struct err *e)
{
    int ret = make_dir(r, spec, f, e);

    if (ret == 0)
        ret = make_channels(r, spec, f, e);
    if (ret == 0)
        ret = take_scratch(r, spec, f, e);
    if (ret == 0)
        ret = cgroup_create(r->env->cgroups, r->id, &spec->limits, &r->cgroup, e);
    if (ret == 0)
        ret = spawn(r, spec, f, e);
    if (ret < 0)
        return ret;
    run_watch(r, TAKE_FD(f->ctl[0]), TAKE_FD(f->log[0]));
    return 0;
}

char *run_make_id(const struct dyno_name *name, char out[RUN_ID_MAX])
{
    (void)snprintf(out, RUN_ID_MAX, "%s.%s.%u.%08" PRIx32, name->app, name->type, name->num,
                   (uint32_t)random_u64());
    return out;
}

int run_start(struct run_env *env, const struct run_spec *spec, const struct run_ops *ops,
              void *owner, struct run **ret, struct err *e)
{
    struct start_fds fds = {{-1, -1}, {-1, -1}, -1, -1, -1, {-1, -1, -1}, SCRATCH_INIT};
    struct run *r;

    int rc = run_new(env, spec->id, &spec->name, ops, owner, &r, e);
    if (rc < 0)
        return rc;
    rc = start_steps(r, spec, &fds, e);
    start_fds_done(&fds);
    if (rc < 0) {
        undo(r);
        run_freep(&r);
        return rc;
    }
    r->has_slot = run_slot(r) != 0;
    *ret = r;
    return 0;
}

/* --- Questions --- */

const char *run_id(const struct run *r)
{
    return r->id;
}

bool run_started(const struct run *r)
{
    return r->started;
}

bool run_ended(const struct run *r)
{
    return r->ended;
}

uint64_t run_started_boot(const struct run *r)
{
    return r->started_boot;
}

uint64_t run_ended_boot(const struct run *r)
{
    return r->ended_boot;
}

bool run_status(const struct run *r, int *ret_wait_status, int *ret_errno)
{
    *ret_wait_status = r->status;
    *ret_errno = r->start_errno;
    return r->status_known;
}

static const json_t *network_of(const struct run *r)
{
    return json_object_get(json_object_get(r->record, "record"), "network");
}

uint32_t run_slot(const struct run *r)
{
    int64_t slot = json_int(network_of(r), "slot", 0);

    return slot > 0 && slot <= NET_SLOTS_MAX ? (uint32_t)slot : 0;
}

const char *run_address(const struct run *r)
{
    return json_str(network_of(r), "address", "");
}

const char *run_address6(const struct run *r)
{
    return json_str(network_of(r), "address6", "");
}

int run_set_rate(const struct run *r, struct net *n, uint64_t rate, struct err *e)
{
    if (r->pidfd < 0)
        return err_say(e, ESRCH, "%s is gone", r->id);
    return net_set_rate(n, r->pidfd, run_slot(r), rate, e);
}

int run_diag_open(const struct run *r, int *ret_fd, struct err *e)
{
    if (r->pidfd < 0)
        return err_say(e, ESRCH, "%s is gone", r->id);
    return net_socket(r->pidfd, AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG, ret_fd, e);
}

pid_t run_pid(const struct run *r)
{
    return r->pid;
}

int run_usage(const struct run *r, struct cgroup_usage *ret, struct err *e)
{
    if (!r->cgroup)
        return err_say(e, ENOENT, "no cgroup");
    return cgroup_usage(r->cgroup, ret, e);
}

void run_hand_over(struct run *r, const struct run_ops *ops, void *owner)
{
    r->ops = ops;
    r->owner = owner;
}

int run_record_end(struct run *r, const json_t *fields, struct err *e)
{
    if (json_object_set(r->record, "end", (json_t *)(uintptr_t)fields) < 0)
        return err_set(e, ENOMEM, "record the end of %s", r->id);
    int ret = run_write_record(r, e);
    if (ret < 0)
        run_mark_told(r->dirfd, ".");
    return ret;
}

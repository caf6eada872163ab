/* run_spare.c - starting a run in a sandbox that was made ahead. */
#include "core/run/run_priv.h"

#include "base/log.h"
#include "base/scoped.h"
#include "core/run/spares.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* The spare's directory becomes the run's in one step, with all that must be there before anything
 * runs. */
static int take_dir(struct run *r, struct spare *sp, const struct run_spec *spec, struct err *e)
{
    r->record =
        json_pack("{s:i,s:s,s:O}", "v", RUN_RECORD_VERSION, "id", r->id, "record", spec->record);
    scoped_free char *text = r->record ? json_dumps(r->record, JSON_COMPACT) : NULL;
    if (!text)
        return err_set(e, ENOMEM, "write " RUN_RECORD);
    scoped_fd fd =
        openat(sp->dirfd, RUN_RECORD, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_set(e, errno, "make " RUN_RECORD);
    int ret = fd_write_full(fd, text, strlen(text));
    if (ret < 0)
        return err_set(e, -ret, "write " RUN_RECORD);
    if (renameat(sp->all->dirfd, r->id, r->env->run_dirfd, r->id) < 0)
        return err_set(e, errno, "make the directory of %s", r->id);
    r->dirfd = TAKE_FD(sp->dirfd);
    return 0;
}

/* The dyno's name is there twice, and on its cgroup: the run's id does not tell it, and who finds a
 * torn run.json, or no directory, and nobody to ask needs it (run_trace.c). That can wait until the
 * dyno runs: an agent that dies before it leaves a run.json that is whole. */
static void leave_name(const struct run *r)
{
    char dyno[DYNO_TEXT_MAX];

    if (symlinkat(dyno_name_text(&r->name, dyno), r->dirfd, RUN_NAME) < 0)
        log_warn("write the name of %s: %s", r->id, strerror(errno));
    (void)cgroup_note(r->cgroup, dyno); /* a kernel that cannot: the other two are still there */
}

static int take_sandbox(struct run *r, const struct spare *sp, const struct run_spec *spec,
                        struct err *e)
{
    scoped_fd identity = -1, launch = -1;
    int stdio[3] = {-1, -1, -1};
    int ret = run_identity_make(r, spec->record, &identity, e);

    if (ret == 0)
        ret = run_make_command(r, spec, stdio, &launch, e);
    if (ret == 0 && !limits_equal(&sp->cut.limits, &spec->limits))
        ret = cgroup_set_limits(sp->cgroup, &spec->limits, NULL, e);
    if (ret == 0) {
        const struct plan plan = {.hostname = spec->hostname,
                                  .userns_fd = sp->userns_fd,
                                  .slug_fd = spec->slug_fd,
                                  .limits = spec->limits,
                                  .stdio = {stdio[0], stdio[1], stdio[2]},
                                  .launch_fd = launch};
        ret = sandbox_take(r->env->sandbox, &sp->child, &sp->cut, &plan, sp->ctl, identity, e);
    }
    for (int i = 0; i < 3; i++)
        fd_closep(&stdio[i]);
    return ret;
}

int run_start_spare(struct run_env *env, const struct run_spec *spec, struct spare *sp,
                    const struct run_ops *ops, void *owner, struct run **ret, struct err *e)
{
    struct run *r;
    int rc = run_new(env, sp->id, &spec->name, ops, owner, &r, e);

    if (rc < 0)
        return rc;
    rc = take_dir(r, sp, spec, e);
    if (rc == 0)
        rc = take_sandbox(r, sp, spec, e);
    if (rc < 0) { /* what else it has is the spare's */
        struct err ignored = ERR_INIT;

        (void)tree_remove(env->run_dirfd, r->id, &ignored);
        run_freep(&r);
        return rc;
    }
    r->cgroup = TAKE_PTR(sp->cgroup);
    r->pid = sp->child.pid;
    r->pidfd = TAKE_FD(sp->child.pidfd);
    sp->on_end = sd_event_source_disable_unref(sp->on_end); /* ours watches that now */
    r->has_slot = run_slot(r) != 0;
    leave_name(r);
    run_watch(r, TAKE_FD(sp->ctl), TAKE_FD(sp->log_read));
    *ret = r;
    return 0;
}

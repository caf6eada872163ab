/* spare_make.c - making one sandbox ahead. */
#include "base/clock.h"
#include "base/fdio.h"
#include "base/scoped.h"
#include "core/host/network.h"
#include "core/run/run_priv.h"
#include "core/slugs/slugs.h"
#include "core/run/spares_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static int prepare(struct spare *sp, const struct limits *limits, struct plan *plan, struct err *e)
{
    struct spares *s = sp->all;
    const struct scratch_quota quota = {limits->disk_bytes, limits->disk_inodes};
    scoped(scratch_done) struct scratch scratch = SCRATCH_INIT;
    bool rootless = s->agent->rootless;
    uid_t uid = rootless ? getuid() : sp->uid;
    scoped_fd netns = -1;
    int r = scratch_take(s->env->scratches, sp->id, uid, uid, &quota, &scratch, e);

    if (r == 0)
        r = cgroup_create(s->env->cgroups, sp->id, limits, &sp->cgroup, e);
    if (r == 0)
        r = network_make(s->agent, limits, &sp->slot, &netns, e);
    if (r < 0)
        return r;
    plan->uid = uid;
    plan->gid = rootless ? getgid() : (gid_t)uid;
    plan->netns_fd = netns;
    plan->userns_fd = sp->userns_fd;
    plan->scratch_fd = scratch.fd;
    plan->scratch_mounted = scratch.mounted;
    plan->cgroup = sp->cgroup;
    plan->limits = *limits;
    return sandbox_prepare(s->env->sandbox, plan, &sp->child, &sp->cut, e);
}

/* SLUG_FD: what it is dressed with; -1: nothing. */
static int make_process(struct spare *sp, const struct limits *limits, int slug_fd, struct err *e)
{
    int log[2], ctl[2];
    scoped_fd listen_fd = -1, exit_fd = -1;
    int r = run_dir_new(sp->all->dirfd, sp->id, &sp->dirfd, e);

    if (r == 0)
        r = run_dir_fill(sp->all->env, SPARE_DIR, sp->id, sp->dirfd, &listen_fd, &exit_fd, e);
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
    struct plan plan = {.slug_fd = slug_fd,
                        .stdio = {-1, -1, -1},
                        .log_read = sp->log_read,
                        .log_write = log_write,
                        .ctl_fd = theirs,
                        .listen_fd = listen_fd,
                        .record_fd = exit_fd,
                        .launch_fd = -1};
    r = prepare(sp, limits, &plan, e);
    if (r < 0)
        return r;
    r = sd_event_add_io(sp->all->env->loop, &sp->on_end, sp->child.pidfd, EPOLLIN, spare_on_end,
                        sp);
    return r < 0 ? err_set(e, -r, "watch %s", sp->id) : 0;
}

static struct spare *spare_new(struct spares *s)
{
    struct spare *sp = calloc(1, sizeof(*sp));

    if (!sp)
        return NULL;
    *sp = (struct spare){.all = s,
                         .userns_fd = -1,
                         .dirfd = -1,
                         .child = {.pidfd = -1, .report_fd = -1},
                         .ctl = -1,
                         .log_read = -1};
    (void)snprintf(sp->id, sizeof(sp->id), RUN_SPARE_PREFIX "%016" PRIx64, random_u64());
    return sp;
}

int spare_make(struct spares *s, const struct dress_key *key, struct err *e)
{
    int slug_fd = -1, r = key ? slugs_app(s->agent->slugs, &key->digest, &slug_fd, e) : 0;

    if (r < 0)
        return r;
    struct spare *sp = spare_new(s);
    if (!sp)
        return err_set(e, ENOMEM, "make a spare sandbox");
    if (key)
        sp->key = *key;
    if (!s->agent->rootless)
        r = ids_take(&s->agent->ids, &sp->uid, &sp->userns_fd, e);
    if (r == 0)
        r = make_process(sp, key ? &key->limits : &s->limits, slug_fd, e);
    if (r < 0) {
        TAILQ_INSERT_TAIL(&s->dying, sp, link);
        sp->dying = true;
        spare_end_now(sp);
        return r;
    }
    TAILQ_INSERT_TAIL(&s->ready, sp, link);
    s->n_ready++;
    s->n_dressed += spare_is_dressed(sp);
    s->made++;
    return 0;
}

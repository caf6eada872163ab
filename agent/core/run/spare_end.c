/* spare_end.c - taking away what is left of a spare sandbox, and of one that nobody took. */
#include "base/clock.h"
#include "base/fdio.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/scoped.h"
#include "core/host/network.h"
#include "core/run/run_priv.h"
#include "core/run/spares_priv.h"
#include "core/host/sweeper.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

#define REMOVE_PAUSE     (2 * USEC_PER_MSEC) /* a dying process still counts in its cgroup */
#define REMOVE_TRIES     1000
#define REMOVE_NOW_TRIES 200 /* of a millisecond, when the loop does not run */

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
    /* Nothing was written in it. When the loop has ended, nobody sweeps any more. */
    int r = s->closing ? tree_remove(env->scratch_dirfd, sp->id, &e)
                       : sweeper_take(env->sweeper, env->scratch_dirfd, sp->id, &e);
    if (r < 0)
        log_warn("%s: %s", sp->id, e.text);
    if (tree_remove(s->dirfd, sp->id, &e) < 0)
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

int spare_on_end(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
    struct spare *sp = userdata;
    struct spares *s = sp->all;

    (void)source;
    (void)fd;
    (void)revents;
    reap(sp, WNOHANG);
    sp->on_end = sd_event_source_disable_unref(sp->on_end);
    if (!sp->dying) { /* by itself */
        spare_unlist(sp);
        TAILQ_INSERT_TAIL(&s->dying, sp, link);
        sp->dying = true;
        s->lost++;
        log_warn("%s: the spare sandbox ended by itself", sp->id);
    }
    remove_cgroup(sp);
    return 0;
}

void spare_kill(struct spare *sp)
{
    fd_closep(&sp->ctl);
    if (sp->child.pidfd >= 0)
        (void)pidfd_send_signal(sp->child.pidfd, SIGKILL, NULL, 0); /* ESRCH: it has ended */
}

void spare_end(struct spare *sp)
{
    TAILQ_INSERT_TAIL(&sp->all->dying, sp, link);
    sp->dying = true;
    spare_kill(sp);
    if (!sp->on_end) /* nothing watches it: it was never made */
        remove_cgroup(sp);
}

void spare_end_now(struct spare *sp)
{
    struct err e = ERR_INIT;

    spare_kill(sp);
    if (sp->child.pidfd >= 0)
        reap(sp, 0);
    for (int i = 0; sp->cgroup && i < REMOVE_NOW_TRIES && cgroup_remove(sp->cgroup, &e) == -EBUSY;
         i++)
        (void)usleep(1000);
    clean_up(sp);
}

void spare_used(struct spare *sp)
{
    sp->all->taken++;
    sp->all->taken_dressed += spare_is_dressed(sp);
    free_spare(sp);
}

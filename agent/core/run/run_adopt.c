/* run_adopt.c - taking over what an earlier agent left: the kernel and each dyno-init say what
 * runs, the traces say what it is. */
#include "core/run/run_priv.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define ADOPT_TRIES 3
/* For a child in the middle of its steps to become dyno-init, and for one that has to wait for a
 * processor. Counted in looks of a loop that runs: that we stood still, or the machine did, is not
 * its silence. */
#define ADOPT_LOOK  (1 * USEC_PER_SEC)
#define ADOPT_LOOKS 30

/* Processes, but no way to their dyno-init: somebody took the files away. In a start, the socket
 * comes before the cgroup. */
static bool is_lost(const struct run *r)
{
    return r->cgroup && faccessat(r->dirfd, RUN_SOCKET, F_OK, AT_SYMLINK_NOFOLLOW) < 0 &&
           errno == ENOENT && cgroup_populated(r->cgroup);
}

/* Nobody listens: it ended, or it never got so far. */
static int on_dead(sd_event_source *s, uint64_t usec, void *userdata)
{
    struct run *r = userdata;
    struct err e = ERR_INIT;

    (void)s;
    (void)usec;
    if (run_read_exit(r) == 0 && !is_lost(r))
        (void)err_say(&r->failed, EINTR, "the agent died while it started this dyno");
    /* Before a restart can run beside it. */
    if (r->cgroup && cgroup_populated(r->cgroup) && cgroup_kill(r->cgroup, &e) < 0)
        log_warn("%s: %s", r->id, e.text);
    r->log_eof = true; /* dyno-init held the pipe */
    run_note_end(r);
    return 0;
}

int run_connect_init(struct run *r, struct err *e)
{
    struct init_request hello = {.kind = INIT_HELLO};
    char path[512];
    int sock = -1;

    (void)snprintf(path, sizeof(path), "%s/run/%s/" RUN_SOCKET, r->env->runtime_dir, r->id);
    int rc = unix_connect(path, SOCK_SEQPACKET | SOCK_NONBLOCK, &sock, e);
    if (rc == 0)
        rc = run_watch_link(r, sock, e);
    if (rc == 0) {
        rc = initlink_send(r->link, &hello, NULL, 0);
        if (rc < 0) {
            initlink_freep(&r->link);
            rc = err_set(e, -rc, "greet the dyno-init of %s", r->id);
        }
    }
    return rc;
}

bool run_nobody_listens(int errnum)
{
    return errnum == ECONNREFUSED || errnum == ENOENT || errnum == ENOTSOCK || errnum == EPIPE ||
           errnum == ECONNRESET;
}

static int on_silent(sd_event_source *s, uint64_t usec, void *userdata);

static int look_again(struct run *r)
{
    return timer_set(r->env->loop, &r->timer, "run-adopt", clock_boot() + ADOPT_LOOK, on_silent, r);
}

/* It took the connection and did not answer yet; in the end it will not come up. */
static int on_silent(sd_event_source *s, uint64_t usec, void *userdata)
{
    struct run *r = userdata;
    struct err e = ERR_INIT;

    (void)s;
    (void)usec;
    if (r->link && ++r->adopt_looks < ADOPT_LOOKS && look_again(r) >= 0)
        return 0;
    /* A connection that broke may have done so on our side. */
    while (!r->link && r->adopt_tries++ < ADOPT_TRIES) {
        if (run_connect_init(r, &e) == 0 && look_again(r) >= 0)
            return 0;
        if (run_nobody_listens(e.errnum))
            return on_dead(NULL, 0, r);
    }
    log_warn("%s: no answer from dyno-init: killed", r->id);
    if (r->cgroup && cgroup_kill(r->cgroup, &e) < 0)
        log_warn("%s: %s", r->id, e.text);
    initlink_freep(&r->link);
    return on_dead(NULL, 0, r);
}

/* Its dyno-init cannot answer. What it will say when it runs again, it says to the link. */
static int on_paused(sd_event_source *s, uint64_t usec, void *userdata)
{
    struct run *r = userdata;

    (void)s;
    (void)usec;
    r->timer = sd_event_source_disable_unref(r->timer); /* the next has another handler */
    if (run_adopt_paused(r))
        r->ops->started(r->owner, r, NULL);
    else if (look_again(r) < 0)
        log_err("%s: no memory for a timer", r->id);
    return 0;
}

int run_adopt(struct run_env *env, const struct run_trace *trace, const struct dyno_name *name,
              const struct run_ops *ops, void *owner, struct run **ret, struct err *e)
{
    struct run *r;
    struct err why = ERR_INIT;
    char dyno[DYNO_TEXT_MAX];
    int rc = run_new(env, trace->id, name, ops, owner, &r, e);

    if (rc < 0)
        return rc;
    r->record = json_incref(trace->record);
    /* Agents before us counted from 1, or from their time: what they asked for may still run. */
    r->next_token = (uint32_t)(clock_boot() >> 10) | 1;
    r->dirfd = openat(env->run_dirfd, r->id, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (r->dirfd < 0) {
        rc = err_set(e, errno, "open the directory of %s", r->id);
        run_freep(&r);
        return rc;
    }
    if (cgroup_open(env->cgroups, r->id, &r->cgroup, &why) < 0)
        r->cgroup = NULL; /* it died before it was made, or after it was removed */
    run_find_marks(r);
    run_watch_oom(r);
    why = (struct err)ERR_INIT;
    bool alive = run_connect_init(r, &why) == 0;
    if (!alive && !run_nobody_listens(why.errnum))
        rc = err_wrap(&why, "adopt %s, run %s", dyno_name_text(name, dyno), trace->id);
    else if ((rc = timer_set(env->loop, &r->timer, "run-adopt",
                             alive && !r->paused ? clock_boot() + ADOPT_LOOK : 0,
                             !alive      ? on_dead
                             : r->paused ? on_paused
                                         : on_silent,
                             r)) < 0)
        rc = err_set(&why, -rc, "adopt %s, run %s", dyno_name_text(name, dyno), trace->id);
    if (rc < 0) {
        run_freep(&r);
        *e = why;
        return rc;
    }
    r->has_slot = env->nets && run_slot(r) && slots_take(env->nets, run_slot(r));
    *ret = r;
    return 0;
}

#include "core/slugs/crew.h"

#include "base/clock.h"
#include "base/frame.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/scoped.h"
#include "core/host/helper.h"
#include "core/policy/slots.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/queue.h>

#define SPARE_SOON   (20 * USEC_PER_MSEC) /* the fetch that took the last one comes first */
#define SPARE_PAUSE  (1 * USEC_PER_SEC)   /* before another spare, when one has died */
#define CGROUP_PAUSE (10 * USEC_PER_MSEC)
#define CGROUP_TRIES 200
#define CPU_SHARES   1024 /* as much as a standard dyno's: a start waits for it */
#ifndef __SANITIZE_ADDRESS__
#define DATA_MAX CREW_DATA_MAX
#else
#define DATA_MAX 0 /* its shadow counts as well */
#endif
#define MEMBERS_MAX     FETCH_ROLES
#define ID_MAX          40
#define END_CGROUP_USEC (200 * USEC_PER_MSEC)

struct member {
    struct crew *crew;
    struct peer *peer;
    int pidfd;
    sd_event_source *on_exit;
};

struct crew {
    LIST_ENTRY(crew) link;
    struct crews *all;
    enum crew_kind kind;
    uid_t uid; /* 0: none of its own */
    char id[ID_MAX];
    struct cgroup *cgroup;
    struct member members[MEMBERS_MAX];
    const struct crew_ops *ops; /* NULL: a spare, or one that is going */
    void *userdata;
    bool going;
    unsigned tries;         /* to remove the cgroup */
    sd_event_source *again; /* timer "fetch-cgroup" */
};

struct crews {
    struct crews_options o;
    struct slots uids;
    struct crew *spare;
    LIST_HEAD(, crew) all;
    sd_event_source *prepare; /* timer "fetch-spare" */
    bool closing;
};

/* --- the end of one ------------------------------------------------------------------------ */

static bool any_left(const struct crew *crew)
{
    for (size_t i = 0; i < MEMBERS_MAX; i++)
        if (crew->members[i].pidfd >= 0)
            return true;
    return false;
}

static void forget(struct crew *crew)
{
    LIST_REMOVE(crew, link);
    sd_event_source_disable_unref(crew->again);
    cgroup_freep(&crew->cgroup);
    if (crew->uid)
        slots_put(&crew->all->uids, crew->uid);
    free(crew);
}

static int on_again(sd_event_source *s, uint64_t usec, void *userdata);

/* A cgroup is busy for a moment after its last process is gone. The uid waits for it, so that
 * nothing of the last crew is near the next. */
static void clean(struct crew *crew)
{
    struct err e = ERR_INIT;

    if (crew->cgroup && cgroup_remove(crew->cgroup, &e) < 0 && ++crew->tries < CGROUP_TRIES &&
        timer_set(crew->all->o.loop, &crew->again, "fetch-cgroup", clock_boot() + CGROUP_PAUSE,
                  on_again, crew) >= 0)
        return;
    if (e.errnum)
        log_warn("fetch: the cgroup %s stays: %s", crew->id, e.text);
    forget(crew);
}

static int on_again(sd_event_source *s, uint64_t usec, void *userdata)
{
    (void)s;
    (void)usec;
    clean(userdata);
    return 0;
}

static void member_done(struct member *m)
{
    peer_freep(&m->peer);
    m->on_exit = sd_event_source_disable_unref(m->on_exit);
    fd_closep(&m->pidfd);
}

void crew_freep(struct crew **cp)
{
    struct crew *crew = *cp;

    if (!crew)
        return;
    *cp = NULL;
    crew->ops = NULL;
    crew->going = true;
    for (size_t i = 0; i < MEMBERS_MAX; i++) {
        struct member *m = &crew->members[i];

        peer_freep(&m->peer);
        if (m->pidfd >= 0) /* it may have ended already */
            (void)pidfd_send_signal(m->pidfd, SIGKILL, NULL, 0);
        if (m->pidfd >= 0 && !m->on_exit) /* nobody would hear of its end */
            helper_dispose(crew->all->o.loop, TAKE_FD(m->pidfd));
    }
    if (!any_left(crew))
        clean(crew);
}

/* --- what it says -------------------------------------------------------------------------- */

static unsigned number_of(const struct member *m)
{
    return (unsigned)(m - m->crew->members);
}

static void prepare_at(struct crews *c, uint64_t at);

static void spare_died(struct crews *c, const char *how)
{
    log_warn("fetch: a waiting dynod-fetch has %s", how);
    crew_freep(&c->spare);
    prepare_at(c, clock_boot() + SPARE_PAUSE);
}

static int on_gone(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
    struct member *m = userdata;
    struct crew *crew = m->crew;
    char how[64];

    (void)s;
    (void)revents;
    if (m->peer) /* its last words may still be unread; its end is closed: not for long */
        return 0;
    bool well = helper_ended_well(fd, how, sizeof(how));
    unsigned number = number_of(m);
    member_done(m);
    if (crew->going) {
        if (!any_left(crew))
            clean(crew);
    } else if (crew->ops) {
        crew->ops->gone(crew->userdata, number, well, how);
    } else {
        spare_died(crew->all, how);
    }
    return 0;
}

static void on_frame(void *userdata, struct frame *f)
{
    struct member *m = userdata;

    if (m->crew->ops)
        m->crew->ops->frame(m->crew->userdata, number_of(m), f->json);
}

/* Its exit tells, not its silence: but a process that has closed its end has no more to do. */
static void on_close(void *userdata, const struct err *why)
{
    struct member *m = userdata;

    (void)why;
    peer_freep(&m->peer);
}

/* --- the beginning of one ------------------------------------------------------------------ */

static const char *role_of(const struct crew *crew, unsigned number)
{
    return crew->kind == CREW_SEAL ? "seal" : fetch_role_name((enum fetch_role)number);
}

static bool wanted(const struct crew *crew, unsigned number)
{
    if (crew->kind == CREW_SEAL)
        return number == 0;
    return number != FETCH_IMAGE || crew->all->o.images;
}

static uid_t uid_of(const struct crew *crew, unsigned number)
{
    const struct crews_options *o = &crew->all->o;

    if (o->rootless)
        return (uid_t)-1;
    /* What it unpacks into a directory belongs to whom dynos' ids are mapped from. */
    return crew->kind == CREW_FETCH && number == FETCH_UNPACK && !o->images ? o->owner : crew->uid;
}

static int start_member(struct crew *crew, unsigned number, struct err *e)
{
    static const struct peer_ops ops = {.on_frame = on_frame, .on_close = on_close};
    struct crews *c = crew->all;
    struct member *m = &crew->members[number];
    bool download = crew->kind == CREW_FETCH && number == FETCH_DOWNLOAD;
    char *const argv[] = {"dynod-fetch", (char *)(uintptr_t)role_of(crew, number), NULL};
    struct helper h = {.path = c->o.program,
                       .argv = argv,
                       .uid = uid_of(crew, number),
                       .fd3 = -1,
                       .fd4 = -1,
                       .namespaces = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC |
                                     (download ? 0 : CLONE_NEWNET),
                       .cgroup = crew->cgroup,
                       .data_max = DATA_MAX,
                       .low = crew->kind == CREW_SEAL};
    int sock = -1, r = helper_spawn(&h, &sock, &m->pidfd, e);

    if (r == 0)
        r = peer_new(c->o.loop, sock, &ops, m, &m->peer, e);
    if (r == 0 && sd_event_add_io(c->o.loop, &m->on_exit, m->pidfd, EPOLLIN, on_gone, m) < 0)
        r = err_set(e, ENOMEM, "watch a fetch");
    return r;
}

static int prepare_crew(struct crew *crew, struct err *e)
{
    const struct limits limits = {
        .memory_max = CREW_MEMORY_MAX, .pids = CREW_PIDS_MAX, .cpu_shares = CPU_SHARES};
    struct crews *c = crew->all;
    uint32_t uid = 0;
    int r = 0;

    if (!c->o.rootless && slots_get(&c->uids, &uid) < 0)
        return err_say(e, EAGAIN, "all users for fetches are taken");
    crew->uid = uid;
    (void)snprintf(crew->id, sizeof(crew->id), "fetch-%016" PRIx64, random_u64());
    r = cgroup_create(c->o.cgroups, crew->id, &limits, &crew->cgroup, e);
    for (unsigned i = 0; r == 0 && i < MEMBERS_MAX; i++)
        if (wanted(crew, i))
            r = start_member(crew, i, e);
    return r;
}

static int crew_new(struct crews *c, enum crew_kind kind, struct crew **ret, struct err *e)
{
    struct crew *crew = calloc(1, sizeof(*crew));

    if (!crew)
        return err_set(e, ENOMEM, "start a fetch");
    crew->all = c;
    crew->kind = kind;
    for (size_t i = 0; i < MEMBERS_MAX; i++) {
        crew->members[i].crew = crew;
        crew->members[i].pidfd = -1;
    }
    LIST_INSERT_HEAD(&c->all, crew, link);
    int r = prepare_crew(crew, e);
    if (r < 0)
        crew_freep(&crew);
    else
        *ret = crew;
    return r;
}

int crews_take(struct crews *c, enum crew_kind kind, const struct crew_ops *ops, void *userdata,
               struct crew **ret, struct err *e)
{
    struct crew *crew = kind == CREW_FETCH ? TAKE_PTR(c->spare) : NULL;
    int r = crew ? 0 : crew_new(c, kind, &crew, e);

    if (r == -EAGAIN && c->spare) { /* a seal is no reason to have one wait */
        crew_freep(&c->spare);
        crews_prepare(c);
    }
    if (r < 0)
        return r;
    crew->ops = ops;
    crew->userdata = userdata;
    *ret = crew;
    return 0;
}

bool crew_has(const struct crew *crew, unsigned member)
{
    return wanted(crew, member);
}

int crew_send(struct crew *crew, unsigned member, const json_t *json, const int *fds, size_t n_fds,
              struct err *e)
{
    struct member *m = &crew->members[member];

    if (!json)
        return err_set(e, ENOMEM, "ask for a fetch");
    if (!m->peer)
        return err_say(e, EPIPE, "dynod-fetch %s is gone", role_of(crew, member));
    return peer_send(m->peer, json, fds, n_fds, e);
}

/* --- all of them
 * ---------------------------------------------------------------------------------- */

static int on_prepare(sd_event_source *s, uint64_t usec, void *userdata)
{
    struct crews *c = userdata;
    struct err e = ERR_INIT;

    (void)s;
    (void)usec;
    if (!c->spare && crew_new(c, CREW_FETCH, &c->spare, &e) < 0 && e.errnum != EAGAIN)
        log_warn("fetch: %s", e.text); /* the fetch that needs one will say so too */
    return 0;
}

static void prepare_at(struct crews *c, uint64_t at)
{
    int on = 0;

    if (c->prepare)
        (void)sd_event_source_get_enabled(c->prepare, &on);
    if (!on && !c->closing &&
        timer_set(c->o.loop, &c->prepare, "fetch-spare", at, on_prepare, c) < 0)
        log_warn("fetch: no memory to have one wait");
}

void crews_prepare(struct crews *c)
{
    if (!c->spare)
        prepare_at(c, clock_boot() + SPARE_SOON);
}

bool crews_dying(const struct crews *c)
{
    const struct crew *crew;

    LIST_FOREACH (crew, &c->all, link)
        if (crew->going && crew->kind == CREW_FETCH && any_left(crew))
            return true;
    return false;
}

unsigned crews_max(const struct crews *c)
{
    return c->o.rootless ? UINT32_MAX : c->uids.last - c->uids.first + 1;
}

int crews_open(const struct crews_options *o, struct crews **ret, struct err *e)
{
    scoped(crews_freep) struct crews *c = calloc(1, sizeof(*c));

    if (!c)
        return err_set(e, ENOMEM, "make the fetches' crews");
    c->o = *o;
    LIST_INIT(&c->all);
    int r = o->rootless ? 0 : slots_init(&c->uids, o->first, o->last, e);
    if (r < 0)
        return r;
    prepare_at(c, 0);
    *ret = TAKE_PTR(c);
    return 0;
}

/* The loop does not run any more. */
static void end_now(struct crew *crew)
{
    struct err e = ERR_INIT;
    uint64_t until = clock_boot() + END_CGROUP_USEC;

    for (size_t i = 0; i < MEMBERS_MAX; i++) {
        struct member *m = &crew->members[i];

        if (m->pidfd >= 0)
            (void)pidfd_send_signal(m->pidfd, SIGKILL, NULL, 0);
        m->on_exit = sd_event_source_disable_unref(m->on_exit);
        peer_freep(&m->peer);
        if (m->pidfd >= 0)
            helper_join(TAKE_FD(m->pidfd));
    }
    while (crew->cgroup && cgroup_remove(crew->cgroup, &e) < 0 && clock_boot() < until)
        (void)usleep(1000);
    forget(crew);
}

void crews_freep(struct crews **cp)
{
    struct crews *c = *cp;

    if (!c)
        return;
    c->closing = true;
    while (!LIST_EMPTY(&c->all))
        end_now(LIST_FIRST(&c->all));
    sd_event_source_disable_unref(c->prepare);
    slots_done(&c->uids);
    free(c);
    *cp = NULL;
}

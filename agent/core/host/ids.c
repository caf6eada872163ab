#include "core/host/ids.h"

#include "base/log.h"
#include "base/scoped.h"

#include <errno.h>
#include <sys/epoll.h>

void ids_init(struct ids *ids, sd_event *loop, struct sandbox *sandbox, struct slots *uids,
              struct scratches *scratches, struct cgroup_tree *cgroups, const struct limits *limits)
{
    *ids = (struct ids){.loop = loop,
                        .sandbox = sandbox,
                        .uids = uids,
                        .spare_fd = -1,
                        .scratches = scratches,
                        .quota = {limits->disk_bytes, limits->disk_inodes},
                        .cgroups = cgroups,
                        .limits = *limits};
}

void ids_put(struct ids *ids, uid_t uid)
{
    slots_put(ids->uids, uid);
}

void ids_done(struct ids *ids)
{
    if (!ids->loop)
        return;
    if (ids->spare_uid)
        ids_put(ids, ids->spare_uid);
    ids->spare_uid = 0;
    fd_closep(&ids->spare_fd);
    cgroup_ready_drop(ids->cgroups);
    ids->made = sd_event_source_disable_unref(ids->made);
    ids->refill = sd_event_source_disable_unref(ids->refill);
}

static void watch_maker(struct ids *ids);

static int make(struct ids *ids, uid_t *ret_uid, int *ret_fd, struct err *e)
{
    uid_t uid;

    if (slots_get(ids->uids, &uid) < 0)
        return err_say(e, ENOSPC, "no uid of %u-%u is free (uid_range)", ids->uids->first,
                       ids->uids->last);
    int r = sandbox_userns(ids->sandbox, uid, uid, ret_fd, e);
    if (r < 0)
        slots_put(ids->uids, uid);
    else
        *ret_uid = uid;
    return r;
}

static int on_made(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
    struct ids *ids = userdata;
    struct err e = ERR_INIT;

    (void)s;
    (void)fd;
    (void)revents;
    if (scratch_ready_hear(ids->scratches, &e) < 0)
        log_warn("scratch: %s", e.text);
    watch_maker(ids);
    if (ids->ahead) /* what was asked for may be wanted no more */
        (void)scratch_ready_fewer(ids->scratches, &ids->quota, ids->ahead);
    if (ids->heard)
        ids->heard(ids->userdata);
    return 0;
}

/* Without the watch the starts make their own. */
static void watch_maker(struct ids *ids)
{
    int fd = scratch_ready_fd(ids->scratches);

    if (ids->made && sd_event_source_get_io_fd(ids->made) == fd)
        return;
    ids->made = sd_event_source_disable_unref(ids->made);
    if (fd >= 0)
        (void)sd_event_add_io(ids->loop, &ids->made, fd, EPOLLIN, on_made, ids);
}

/* A process makes images, and may be asked for several; a directory is made here and now. */
static void ready_scratches(struct ids *ids, unsigned n)
{
    struct err ignored = ERR_INIT; /* the start that needs it will say so */

    while (scratch_ready(ids->scratches, &ids->quota, n, &ignored) > 0 && n > 1)
        ;
    watch_maker(ids);
}

void ids_want(struct ids *ids, unsigned n)
{
    if (!ids->loop || scratches_way(ids->scratches) != SCRATCH_IMAGE)
        return;
    bool fewer = n < ids->ahead;

    ids->ahead = n;
    ready_scratches(ids, n);
    if (fewer) /* some may be too many: starts that were taken back */
        ids_refill(ids);
}

bool ids_coming(const struct ids *ids)
{
    return ids->loop && scratch_coming(ids->scratches, &ids->quota);
}

static int on_refill(sd_event_source *s, void *userdata)
{
    struct ids *ids = userdata;
    struct err ignored = ERR_INIT; /* the start that needs it will say so */

    (void)s;
    ready_scratches(ids, ids->ahead > 1 ? ids->ahead : 1);
    if (ids->ahead && scratch_ready_fewer(ids->scratches, &ids->quota, ids->ahead))
        ids_refill(ids); /* one in a turn: the last user of a mount waits for its end */
    (void)cgroup_ready(ids->cgroups, &ids->limits, &ignored);
    (void)sandbox_ready(ids->sandbox, &ids->limits, &ignored);
    if (!ids->spare_uid)
        (void)make(ids, &ids->spare_uid, &ids->spare_fd, &ignored);
    return 0;
}

void ids_refill(struct ids *ids)
{
    int r = ids->refill ? 0 : sd_event_add_defer(ids->loop, &ids->refill, on_refill, ids);

    if (r >= 0) /* without it the next start makes its own */
        (void)sd_event_source_set_enabled(ids->refill, SD_EVENT_ONESHOT);
}

int ids_take(struct ids *ids, uid_t *ret_uid, int *ret_fd, struct err *e)
{
    if (!ids->spare_uid)
        return make(ids, ret_uid, ret_fd, e);
    *ret_uid = ids->spare_uid;
    *ret_fd = TAKE_FD(ids->spare_fd);
    ids->spare_uid = 0;
    return 0;
}

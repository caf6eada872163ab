#include "core/ids.h"

#include "base/fdio.h"
#include "base/scoped.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#define SPARE_NAME_MAX 32

void ids_init(struct ids *ids, sd_event *loop, struct sandbox *sandbox, struct slots *uids,
              int scratch_dirfd)
{
    *ids = (struct ids){.loop = loop,
                        .sandbox = sandbox,
                        .uids = uids,
                        .spare_fd = -1,
                        .scratch_dirfd = scratch_dirfd};
}

static char *spare_name(uid_t uid, char out[SPARE_NAME_MAX])
{
    (void)snprintf(out, SPARE_NAME_MAX, "spare-%u", (unsigned)uid);
    return out;
}

static void drop_spare(struct ids *ids, uid_t uid)
{
    char name[SPARE_NAME_MAX];
    struct err ignored = ERR_INIT; /* the next agent sweeps it */

    (void)tree_remove(ids->scratch_dirfd, spare_name(uid, name), &ignored);
}

void ids_put(struct ids *ids, uid_t uid)
{
    drop_spare(ids, uid); /* there is one when no start of its came so far as to take it */
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
    ids->refill = sd_event_source_disable_unref(ids->refill);
}

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

static int on_refill(sd_event_source *s, void *userdata)
{
    struct ids *ids = userdata;
    struct err ignored = ERR_INIT; /* the start that needs it will say so */
    char name[SPARE_NAME_MAX];
    scoped_fd scratch = -1;

    (void)s;
    if (ids->spare_uid || make(ids, &ids->spare_uid, &ids->spare_fd, &ignored) < 0)
        return 0;
    if (sandbox_scratch(ids->sandbox, ids->scratch_dirfd, spare_name(ids->spare_uid, name),
                        ids->spare_uid, ids->spare_uid, &scratch, &ignored) < 0)
        drop_spare(ids, ids->spare_uid); /* half of one would fail the start that takes it */
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

int ids_scratch(struct sandbox *sandbox, int scratch_dirfd, const char *name, uid_t uid,
                int *ret_fd, struct err *e)
{
    char spare[SPARE_NAME_MAX];

    if (renameat(scratch_dirfd, spare_name(uid, spare), scratch_dirfd, name) < 0)
        return sandbox_scratch(sandbox, scratch_dirfd, name, uid, uid, ret_fd, e);
    int fd = openat(scratch_dirfd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_set(e, errno, "open the scratch directory %s", name);
    *ret_fd = fd;
    return 0;
}

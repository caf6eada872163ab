#include "core/ids.h"

#include "base/clock.h"
#include "base/loop.h"
#include "base/scoped.h"

#include <errno.h>

#define REFILL_PAUSE (20 * USEC_PER_MSEC) /* after a start has got its own: when it is on its way  \
                                           */

void ids_init(struct ids *ids, sd_event *loop, struct sandbox *sandbox, struct slots *uids)
{
    *ids = (struct ids){.loop = loop, .sandbox = sandbox, .uids = uids, .spare_fd = -1};
}

void ids_done(struct ids *ids)
{
    if (ids->spare_uid)
        slots_put(ids->uids, ids->spare_uid);
    ids->spare_uid = 0;
    if (ids->loop)
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

static int on_refill(sd_event_source *s, uint64_t usec, void *userdata)
{
    struct ids *ids = userdata;
    struct err ignored = ERR_INIT; /* the start that needs it will say so */

    (void)s;
    (void)usec;
    if (!ids->spare_uid)
        (void)make(ids, &ids->spare_uid, &ids->spare_fd, &ignored);
    return 0;
}

int ids_take(struct ids *ids, uid_t *ret_uid, int *ret_fd, struct err *e)
{
    (void)timer_set(ids->loop, &ids->refill, "ids-refill", clock_boot() + REFILL_PAUSE, on_refill,
                    ids); /* without it the next start makes its own */
    if (!ids->spare_uid)
        return make(ids, ret_uid, ret_fd, e);
    *ret_uid = ids->spare_uid;
    *ret_fd = TAKE_FD(ids->spare_fd);
    ids->spare_uid = 0;
    return 0;
}

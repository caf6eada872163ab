/* dyno_disk.c - a dyno's disk quota: that it is full is said once an episode. */
#include "core/dyno.h"

#include "base/str.h"

#include <errno.h>

/* The quota was met, and this much is free again: the episode is over. */
#define EASED 20 /* a twentieth */

int dyno_disk(const struct dyno *d, struct scratch_usage *ret)
{
    struct limits limits;
    struct err ignored = ERR_INIT;

    if (!d->run || dyno_limits(d, &limits, &ignored) < 0)
        return -ENODATA;
    const struct scratch_quota quota = {limits.disk_bytes, limits.disk_inodes};
    return run_disk(d->run, &quota, ret);
}

static void tell(struct dyno *d, const struct scratch_usage *u)
{
    char used[24], max[24], name[DYNO_TEXT_MAX];

    /* No code: the platform that this follows has none for it. */
    logger_line(d->agent->logger, dyno_name_text(&d->name, name),
                "Error (Disk quota exceeded) -> %s of %s written, %ju of %ju files",
                format_bytes(used, sizeof(used), u->bytes),
                format_bytes(max, sizeof(max), u->bytes_max), (uintmax_t)u->inodes,
                (uintmax_t)u->inodes_max);
    agent_event(d->agent, "disk", &d->name,
                json_pack("{s:I,s:I,s:I,s:I}", "disk", (json_int_t)u->bytes, "disk_quota",
                          (json_int_t)u->bytes_max, "inodes", (json_int_t)u->inodes, "inodes_quota",
                          (json_int_t)u->inodes_max));
}

void dyno_sample_disk(struct dyno *d)
{
    struct scratch_usage u;

    if (dyno_disk(d, &u) < 0)
        return;
    bool full = scratch_is_full(&u);
    bool eased = u.bytes < u.bytes_max - u.bytes_max / EASED &&
                 (!u.inodes_max || u.inodes < u.inodes_max - u.inodes_max / EASED);
    bool told = run_disk_told(d->run);
    if (full && !told)
        tell(d, &u);
    if (full != told && (full || eased))
        run_disk_tell(d->run, full);
}

/* run_disk.c - how full a run's scratch is. */
#include "core/run/run_priv.h"

#include "base/scoped.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

/* The dyno's /tmp, by its first process: the mount is attached nowhere else, and nothing in a dyno
 * can put a link there. It is not held on to: its last user waits until it is taken apart. */
int run_disk(const struct run *r, const struct scratch_quota *quota, struct scratch_usage *ret)
{
    char path[64];

    if (r->pid <= 0 || r->pidfd < 0 || quota->bytes == 0 ||
        scratches_way(r->env->scratches) == SCRATCH_PLAIN)
        return -ENODATA;
    (void)snprintf(path, sizeof(path), "/proc/%d/root/tmp", (int)r->pid);
    scoped_fd fd = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = scratch_usage(fd, quota, ret);
    if (rc == 0)
        scratch_note(r->env->scratches, r->id, ret->bytes);
    return rc;
}

bool run_disk_told(const struct run *r)
{
    return faccessat(r->dirfd, RUN_FULL, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Without the mark (no memory on tmpfs) the line comes once more. */
void run_disk_tell(const struct run *r, bool full)
{
    if (!full) {
        (void)unlinkat(r->dirfd, RUN_FULL, 0);
        return;
    }
    scoped_fd mark = openat(r->dirfd, RUN_FULL, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
}

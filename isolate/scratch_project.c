/* scratch_project.c - project quotas, the same calls for ext4 and XFS. quotactl(2),
 * ioctl_fs(FS_IOC_FSSETXATTR). A dyno cannot leave its project: only the machine's own user
 * namespace may change one. */
#include "isolate/scratch_impl.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/scoped.h"
#include "isolate/kernel.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <linux/quota.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#ifndef SYS_quotactl_fd
#define SYS_quotactl_fd 443
#endif

/* The kernel counts limits in these, but what is used in bytes. */
#define BLOCK UINT64_C(1024) /* QIF_DQBLKSIZE */
/* What a scratch is made of before anything is in it: its directories, the overlay's own. */
#define OWN_INODES 16
#define OWN_BYTES  (UINT64_C(128) << 10)

static int quota_call(int fd, unsigned command, uint32_t id, void *arg)
{
    return (int)syscall(SYS_quotactl_fd, fd, QCMD(command, PRJQUOTA), id, arg);
}

int scratch_project_mark(int dir, uint32_t id, struct err *e)
{
    struct fsxattr attr = {0};

    if (ioctl(dir, FS_IOC_FSGETXATTR, &attr) < 0)
        return err_set(e, errno, "read the project of a scratch directory");
    attr.fsx_projid = id;
    attr.fsx_xflags |= FS_XFLAG_PROJINHERIT;
    if (ioctl(dir, FS_IOC_FSSETXATTR, &attr) < 0)
        return err_set(e, errno, "give a scratch directory the project %u", id);
    return 0;
}

int scratch_project_limit(int fd, uint32_t id, const struct scratch_quota *quota, struct err *e)
{
    struct if_dqblk limits = {.dqb_valid = QIF_LIMITS};

    if (quota->bytes) {
        limits.dqb_bhardlimit = (quota->bytes + OWN_BYTES + BLOCK - 1) / BLOCK;
        limits.dqb_bsoftlimit = limits.dqb_bhardlimit;
    }
    if (quota->bytes && quota->inodes) {
        limits.dqb_ihardlimit = quota->inodes + OWN_INODES;
        limits.dqb_isoftlimit = limits.dqb_ihardlimit;
    }
    if (quota_call(fd, Q_SETQUOTA, id, &limits) < 0)
        return err_set(e, errno, "set the quota of the project %u", id);
    return 0;
}

bool scratch_project_empty(int fd, uint32_t id)
{
    struct if_dqblk is = {0};

    if (quota_call(fd, Q_GETQUOTA, id, &is) < 0)
        return errno == ENOENT || errno == ESRCH; /* never heard of */
    return is.dqb_curspace == 0 && is.dqb_curinodes == 0;
}

void scratch_project_sweep(int fd)
{
    static const struct scratch_quota none;
    struct err ignored = ERR_INIT; /* the next agent tries again */
    struct if_nextdqblk is = {0};
    uint32_t id = SCRATCH_PROJECT_FIRST;

    while (quota_call(fd, Q_GETNEXTQUOTA, id, &is) == 0 && is.dqb_id >= id &&
           is.dqb_id <= SCRATCH_PROJECT_LAST) {
        if (is.dqb_curspace == 0 && is.dqb_curinodes == 0)
            (void)scratch_project_limit(fd, is.dqb_id, &none, &ignored);
        id = is.dqb_id + 1;
    }
}

/* Limits show in statfs(2) only where they are enforced, and not merely counted. */
static int try_limit(int dir, uint32_t id, struct err *e)
{
    static const struct scratch_quota probe = {.bytes = 1 << 20, .inodes = 100};
    struct statfs fs;
    int r = scratch_project_mark(dir, id, e);

    if (r == 0)
        r = scratch_project_limit(dir, id, &probe, e);
    if (r < 0)
        return r;
    if (fstatfs(dir, &fs) < 0)
        return err_set(e, errno, "look at a scratch directory");
    if ((uint64_t)fs.f_blocks * (uint64_t)fs.f_bsize > 4 * probe.bytes)
        return err_say(e, EOPNOTSUPP,
                       "it counts by projects, but holds nobody to "
                       "limits: mount it with prjquota (ext4) or pquota (XFS)");
    return 0;
}

static uint32_t unused_id(int fd)
{
    uint32_t id = 0;

    for (int i = 0; i < 100; i++) {
        id = SCRATCH_PROJECT_FIRST +
             (uint32_t)(random_u64() % (SCRATCH_PROJECT_LAST - SCRATCH_PROJECT_FIRST));
        if (scratch_project_empty(fd, id))
            break;
    }
    return id;
}

int scratch_project_works(int dirfd, struct err *e)
{
    static const struct scratch_quota none;
    struct err ignored = ERR_INIT; /* of the clean-up: the sweep of the next agent */
    struct if_dqinfo info;
    char name[40];

    if (quota_call(dirfd, Q_GETINFO, 0, &info) < 0)
        return err_set(e, errno,
                       "no project quotas on this filesystem (ext4: tune2fs -O project,quota, "
                       "mounted with prjquota; XFS: mounted with pquota)");
    (void)snprintf(name, sizeof(name), "probe-%016" PRIx64, random_u64());
    if (mkdirat(dirfd, name, 0700) < 0)
        return err_set(e, errno, "make a scratch directory");
    scoped_fd dir = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    uint32_t id = unused_id(dirfd);
    int r = dir < 0 ? err_set(e, errno, "open a scratch directory") : try_limit(dir, id, e);
    (void)unlinkat(dirfd, name, AT_REMOVEDIR);
    (void)scratch_project_limit(dirfd, id, &none, &ignored);
    return r;
}

/* steps_mount.c - the steps that build what a dyno sees of files. All paths are of the root
 * template: neither slug nor stack can put a link in their way. */
#include "base/scoped.h"
#include "isolate/kernel.h"
#include "isolate/sandbox_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

#define PTYS_MAX        "256"
#define SHM_INODES      "65536"
#define OVERLAY_OPTIONS "lowerdir=/app,upperdir=/tmp/upper,workdir=/tmp/work,uuid=off,volatile"
#define SHM_SIZE_NONE   "64m" /* of a dyno without a memory limit */

/* Makes the filesystem that FS describes; a detached mount, or -1. */
static int fs_mount(int fs, unsigned attr)
{
    if (k_fsconfig(fs, K_FSCONFIG_CMD_CREATE, NULL, NULL) < 0)
        return -1;
    return k_fsmount(fs, attr);
}

static int set_string(int fs, const char *key, const char *value)
{
    return k_fsconfig(fs, K_FSCONFIG_SET_STRING, key, value);
}

/* A second place for what is mounted or lies at FROM, with the flags of the mount that it is in.
 * mount(2), as all that it takes is fixed text: by descriptors it is three calls, and a mount
 * namespace for the tree that is attached nowhere yet. */
static int bind(const char *from, const char *to, struct err *e)
{
    return mount(from, to, NULL, MS_BIND, NULL) < 0 ? err_set(e, errno, "mount %s on %s", from, to)
                                                    : 0;
}

/* Read-only until it is masked: step_mask_proc(). */
int step_proc(struct start *st, struct err *e)
{
    scoped_fd fs = k_fsopen("proc");

    if (fs < 0)
        return err_set(e, errno, "fsopen proc");
    st->proc_tree = fs_mount(fs, K_ATTR_RDONLY | K_ATTR_NOSUID | K_ATTR_NODEV | K_ATTR_NOEXEC);
    return st->proc_tree < 0 ? err_set(e, errno, "make /proc") : 0;
}

/* A room made ahead (room.c) is a copy already. */
static int enter_room(const struct room *room, struct err *e)
{
    if (setns(room->ipc, CLONE_NEWIPC) < 0)
        return err_set(e, errno, "enter the IPC namespace");
    if (setns(room->mnt, CLONE_NEWNS) < 0)
        return err_set(e, errno, "enter the copy of the root template");
    return unshare(CLONE_NEWCGROUP) < 0 ? err_set(e, errno, "make a cgroup namespace") : 0;
}

int step_namespaces(struct start *st, struct err *e)
{
    if (st->room.mnt >= 0)
        return enter_room(&st->room, e);
    if (setns(st->s->template_ns, CLONE_NEWNS) < 0)
        return err_set(e, errno, "enter the root template");
    if (unshare(CLONE_NEWNS | CLONE_NEWCGROUP) < 0)
        return err_set(e, errno, "copy the root template");
    return 0;
}

/* What an overlay does in its layers it does with the powers of whoever mounted it. This one is
 * above disk quotas, also when it is a dyno that writes. */
static int set_above_quotas(bool on)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3];
    uint32_t bit = CAP_TO_MASK(CAP_SYS_RESOURCE);
    size_t i = CAP_TO_INDEX(CAP_SYS_RESOURCE);

    if (syscall(SYS_capget, &head, caps) < 0)
        return -1;
    if (on)
        caps[i].effective |= caps[i].permitted & bit;
    else
        caps[i].effective &= ~bit;
    return (int)syscall(SYS_capset, &head, caps);
}

/* Layers by path: by descriptor needs Linux 6.13. Directory renames in the lower layer need
 * redirect_dir, which root may use. What a dyno writes is gone at its next start, so nothing is
 * ever synced to the disk (volatile): neither an app's fsync nor the unmount waits for it; and as a
 * layer is never used twice, it needs no mark of its identity (uuid). */
static int mount_overlay(const struct start *st, struct err *e)
{
    const char *options =
        st->s->rootless ? OVERLAY_OPTIONS ",userxattr" : OVERLAY_OPTIONS ",redirect_dir=on";

    if (set_above_quotas(false) < 0)
        return err_set(e, errno, "give up CAP_SYS_RESOURCE");
    if (mount("overlay", "/app", "overlay", MS_NOSUID | MS_NODEV, options) < 0)
        return err_set(e, errno, "mount the overlay of /app");
    if (set_above_quotas(true) < 0) /* later steps may need it */
        return err_set(e, errno, "take CAP_SYS_RESOURCE back");
    return 0;
}

/* /tmp first holds the whole scratch directory, where the overlay finds its layers. */
int step_files(struct start *st, struct err *e)
{
    if (k_move_mount(st->scratch_tree, AT_FDCWD, "/tmp") < 0)
        return err_set(e, errno, "mount the scratch directory");
    if (k_move_mount(st->proc_tree, AT_FDCWD, "/proc") < 0)
        return err_set(e, errno, "mount /proc");
    return 0;
}

/* The scratch's own tmp then covers the rest of it. Nothing in a dyno can uncover it. */
int step_slug(struct start *st, struct err *e)
{
    int r;

    if (st->slug_tree < 0) {
        r = bind("/tmp/upper", "/app", e);
    } else {
        if (k_move_mount(st->slug_tree, AT_FDCWD, "/app") < 0)
            return err_set(e, errno, "mount the slug");
        r = mount_overlay(st, e);
    }
    return r == 0 ? bind("/tmp/tmp", "/tmp", e) : r;
}

uint64_t shm_bytes(const struct limits *limits)
{
    return limits->memory_quota ? limits->memory_quota : limits->memory_max;
}

/* The same, as tmpfs(5) wants it. */
static const char *shm_size(const struct limits *limits, char out[24])
{
    uint64_t size = shm_bytes(limits);

    if (size == 0)
        return SHM_SIZE_NONE;
    (void)snprintf(out, 24, "%" PRIu64, size);
    return out;
}

static int mount_shm(const struct limits *limits, struct err *e)
{
    char text[24];
    scoped_fd fs = k_fsopen("tmpfs");

    if (fs < 0 || set_string(fs, "mode", "1777") < 0 ||
        set_string(fs, "size", shm_size(limits, text)) < 0 ||
        set_string(fs, "nr_inodes", SHM_INODES) < 0)
        return err_set(e, errno, "configure /dev/shm");
    scoped_fd tree = fs_mount(fs, K_ATTR_NOSUID | K_ATTR_NODEV | K_ATTR_NOEXEC);
    if (tree < 0 || k_move_mount(tree, AT_FDCWD, "/dev/shm") < 0)
        return err_set(e, errno, "mount /dev/shm");
    return 0;
}

/* The message queues of the dyno's IPC namespace: for mq_open(3) they need no path, but landlock
 * lets nobody use a file of a filesystem that it knows no path of. */
static int mount_mqueue(struct err *e)
{
    scoped_fd fs = k_fsopen("mqueue");

    if (fs < 0 && errno == ENODEV) /* a kernel without them */
        return 0;
    scoped_fd tree = fs < 0 ? -1 : fs_mount(fs, K_ATTR_NOSUID | K_ATTR_NODEV | K_ATTR_NOEXEC);
    if (tree < 0 || k_move_mount(tree, AT_FDCWD, "/dev/mqueue") < 0)
        return err_set(e, errno, "mount /dev/mqueue");
    return 0;
}

int step_devices(struct start *st, struct err *e)
{
    if (st->room.mnt >= 0)
        return 0; /* it has them */
    scoped_fd fs = k_fsopen("devpts");

    if (fs < 0 || set_string(fs, "ptmxmode", "0666") < 0 || set_string(fs, "mode", "0620") < 0 ||
        set_string(fs, "max", PTYS_MAX) < 0)
        return err_set(e, errno, "configure /dev/pts");
    scoped_fd tree = fs_mount(fs, K_ATTR_NOSUID | K_ATTR_NOEXEC);
    if (tree < 0 || k_move_mount(tree, AT_FDCWD, "/dev/pts") < 0)
        return err_set(e, errno, "mount /dev/pts");
    int r = mount_mqueue(e);
    return r < 0 ? r : mount_shm(&st->plan->limits, e);
}

/* In a namespace that no code of an app has been in. */
int step_resize_shm(struct start *st, struct err *e)
{
    char text[24];
    scoped_fd fs = k_fspick("/dev/shm");

    if (fs < 0 || set_string(fs, "size", shm_size(&st->plan->limits, text)) < 0 ||
        k_fsconfig(fs, K_FSCONFIG_CMD_RECONFIGURE, NULL, NULL) < 0)
        return err_set(e, errno, "resize /dev/shm");
    return 0;
}

/* What is to be read-only is mounted on itself while all of /proc is: it inherits that. */
int step_mask_proc(struct start *st, struct err *e)
{
    static const struct k_mount_attr writable = {.attr_clr = K_ATTR_RDONLY};
    int r = 0;

    for (size_t i = 0; r == 0 && i < st->s->n_masks; i++) {
        const struct mask *m = &st->s->masks[i];

        r = bind(m->read_only ? m->path : "/dev/null", m->path, e);
    }
    if (r == 0 && k_mount_setattr(AT_FDCWD, "/proc", 0, &writable) < 0)
        r = err_set(e, errno, "make /proc writable");
    return r;
}

/* kernel.h - system calls that the C libraries of the oldest supported systems do not wrap, under
 * names of our own, with the constants of linux/mount.h that clash with sys/mount.h there. Each
 * returns a result or -1 with errno, as libc's wrappers do. */
#ifndef ISOLATE_KERNEL_H
#define ISOLATE_KERNEL_H

#include <fcntl.h>
#include <linux/sched.h>
#include <linux/types.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

struct k_mount_attr { /* struct mount_attr, mount_setattr(2) */
    uint64_t attr_set;
    uint64_t attr_clr;
    uint64_t propagation;
    uint64_t userns_fd;
};

enum {
    K_ATTR_RDONLY = 0x1,
    K_ATTR_NOSUID = 0x2,
    K_ATTR_NODEV = 0x4,
    K_ATTR_NOEXEC = 0x8,
    K_ATTR_IDMAP = 0x00100000,
    K_FSOPEN_CLOEXEC = 1,
    K_FSMOUNT_CLOEXEC = 1,
    K_FSCONFIG_SET_FLAG = 0,
    K_FSCONFIG_SET_STRING = 1,
    K_FSCONFIG_CMD_CREATE = 6,
    K_FSCONFIG_CMD_RECONFIGURE = 7,
    K_FSPICK_CLOEXEC = 1,
    K_MOVE_F_EMPTY = 0x4, /* MOVE_MOUNT_F_EMPTY_PATH */
    K_TREE_CLONE = 1,     /* OPEN_TREE_CLONE */
    K_TREE_CLOEXEC = O_CLOEXEC,
    K_RECURSIVE = 0x8000, /* AT_RECURSIVE */
};

struct k_open_how { /* struct open_how, openat2(2) */
    uint64_t flags;
    uint64_t mode;
    uint64_t resolve;
};
enum { K_BENEATH = 0x08 | 0x04 | 0x02 }; /* BENEATH, NO_SYMLINKS, NO_MAGICLINKS */

/* PATH below DIRFD, and nowhere else: no link is followed. For names that come
 * from a stack or a slug. */
static inline int k_open_beneath(int dirfd, const char *path, int flags)
{
    struct k_open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC), .resolve = K_BENEATH};

    return (int)syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
}

static inline int k_open_tree(int dirfd, const char *path, unsigned flags)
{
    return (int)syscall(SYS_open_tree, dirfd, path, flags);
}

static inline int k_mount_setattr(int dirfd, const char *path, unsigned flags,
                                  const struct k_mount_attr *attr)
{
    return (int)syscall(SYS_mount_setattr, dirfd, path, flags, attr, sizeof(*attr));
}

static inline int k_move_mount(int from, int to_dirfd, const char *to)
{
    return (int)syscall(SYS_move_mount, from, "", to_dirfd, to, K_MOVE_F_EMPTY);
}

static inline int k_fsopen(const char *type)
{
    return (int)syscall(SYS_fsopen, type, K_FSOPEN_CLOEXEC);
}

static inline int k_fspick(const char *path)
{
    return (int)syscall(SYS_fspick, AT_FDCWD, path, K_FSPICK_CLOEXEC);
}

static inline int k_fsconfig(int fs, unsigned command, const char *key, const void *value)
{
    return (int)syscall(SYS_fsconfig, fs, command, key, value, 0);
}

static inline int k_fsmount(int fs, unsigned attr)
{
    return (int)syscall(SYS_fsmount, fs, K_FSMOUNT_CLOEXEC, attr);
}

static inline int k_pivot_root(const char *new_root, const char *put_old)
{
    return (int)syscall(SYS_pivot_root, new_root, put_old);
}

static inline int k_close_range(unsigned first, unsigned last)
{
    return (int)syscall(SYS_close_range, first, last, 0);
}

static inline int k_clone3(struct clone_args *args)
{
    return (int)syscall(SYS_clone3, args, sizeof(*args));
}

#endif

/* rootfs_stack.c - the stack that a root template is built from: opened, checked, and made harmless
 * before anything in it is looked at. */
#include "base/scoped.h"
#include "isolate/image.h"
#include "isolate/kernel.h"
#include "isolate/sandbox_impl.h"

#include <errno.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define PARENTS_MAX 256 /* of a directory of the agent's */

static int operators_fault(struct err *e)
{
    return err_blame(e, FAULT_OPERATOR);
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Whether the directory DIR is TOP or below it; one that is not there is not. */
static int is_below(const char *dir, const struct stat *top, bool *ret, struct err *e)
{
    scoped_fd fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct stat st, above;

    *ret = false;
    if (fd < 0)
        return errno == ENOENT ? 0 : err_set(e, errno, "open %s", dir);
    if (fstat(fd, &st) < 0)
        return err_set(e, errno, "stat %s", dir);
    for (int i = 0; i < PARENTS_MAX; i++) {
        if (same_file(&st, top)) {
            *ret = true;
            return 0;
        }
        int up = openat(fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);

        if (up < 0)
            return err_set(e, errno, "open what %s is in", dir);
        fd_closep(&fd);
        fd = up;
        if (fstat(fd, &above) < 0)
            return err_set(e, errno, "stat what %s is in", dir);
        if (same_file(&st, &above)) /* the root is its own parent */
            return 0;
        st = above;
    }
    return err_say(e, ELOOP, "%s is more than %d directories deep", dir, PARENTS_MAX);
}

/* Every dyno would see what is in there, and could connect to its sockets. */
static int check_hides_agent(const struct sandbox_config *c, const char *name,
                             const struct stat *top, struct err *e)
{
    const char *const ours[] = {c->runtime_dir, c->state_dir};

    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++) {
        bool below = false;
        int r = ours[i] ? is_below(ours[i], top, &below, e) : 0;

        if (r < 0)
            return r;
        if (below) {
            (void)err_say(e, EINVAL, "every dyno would see %s, which is in %s: move %s", ours[i],
                          name, i == 0 ? "runtime_dir" : "state_dir");
            return operators_fault(e);
        }
    }
    return 0;
}

static int check_host(const struct sandbox_config *c, struct err *e)
{
    static const char *const shown[] = {"/usr",   "/bin",   "/sbin",   "/lib",
                                        "/lib32", "/lib64", "/libx32", NULL};
    struct stat st;
    int r = 0;

    for (const char *const *dir = shown; r == 0 && *dir; dir++)
        if (stat(*dir, &st) == 0)
            r = check_hides_agent(c, *dir, &st, e);
    return r;
}

static int check_dir(const struct sandbox_config *c, int fd, struct err *e)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return err_set(e, errno, "stat the stack %s", c->stack);
    if (!c->rootless && st.st_uid != 0) { /* rootless: root is nobody in our user namespace */
        (void)err_say(e, EPERM, "the stack %s belongs to uid %u: chown root it", c->stack,
                      (unsigned)st.st_uid);
        return operators_fault(e);
    }
    if (st.st_mode & (S_IWGRP | S_IWOTH)) {
        (void)err_say(e, EPERM, "others may write to the stack %s: chmod go-w it", c->stack);
        return operators_fault(e);
    }
    return check_hides_agent(c, c->stack, &st, e);
}

/* A mount of our own of the directory. */
static int clone_dir(const struct sandbox_config *c, int *ret, struct err *e)
{
    scoped_fd dir = open(c->stack, O_PATH | O_CLOEXEC);
    struct stat st;

    if (dir < 0) {
        (void)err_set(e, errno, "open the stack %s", c->stack);
        return operators_fault(e);
    }
    if (fstat(dir, &st) < 0 || !S_ISDIR(st.st_mode)) {
        (void)err_say(e, ENOTDIR,
                      "the stack %s is neither a directory nor an image (.squashfs, .erofs)",
                      c->stack);
        return operators_fault(e);
    }
    int r = check_dir(c, dir, e);
    if (r < 0)
        return r;
    int tree =
        k_open_tree(dir, "", AT_EMPTY_PATH | K_TREE_CLONE | K_TREE_CLOEXEC | (unsigned)K_RECURSIVE);
    if (tree < 0)
        return err_set(e, errno, "clone the stack %s", c->stack);
    *ret = tree;
    return 0;
}

static int open_image(const struct sandbox_config *c, int *ret, bool *ret_loop, struct err *e)
{
    int r = image_mount_any(c->image_type, c->image_fd, ret, ret_loop, e);

    if (r == -ENODEV) {
        (void)err_wrap(e,
                       "this kernel has no %s (modprobe %s, or take an image of another kind, or a "
                       "directory)",
                       c->image_type, c->image_type);
        return operators_fault(e);
    }
    if (r == -EINVAL || r == -EIO || r == -EBADMSG || r == -EUCLEAN || r == -EOPNOTSUPP) {
        (void)err_wrap(e, "the stack %s is no %s, or not one that this kernel reads (dmesg)",
                       c->stack, c->image_type);
        return operators_fault(e);
    }
    return r < 0 ? err_wrap(e, "the stack %s", c->stack) : 0;
}

int rootfs_stack(const struct sandbox_config *config, const char *place, int *ret_fd,
                 bool *ret_loop, struct err *e)
{
    static const struct k_mount_attr attr = {
        .attr_set = K_ATTR_RDONLY | K_ATTR_NOSUID | K_ATTR_NODEV, .propagation = MS_PRIVATE};
    bool host = !strcmp(config->stack, "host");
    scoped_fd tree = -1;
    int r = host                 ? check_host(config, e)
            : config->image_type ? open_image(config, &tree, ret_loop, e)
                                 : clone_dir(config, &tree, e);

    if (r < 0)
        return r;
    if (host) {
        *ret_fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        return *ret_fd < 0 ? err_set(e, errno, "open /") : 0;
    }
    if (k_mount_setattr(tree, "", AT_EMPTY_PATH | (unsigned)K_RECURSIVE, &attr) < 0)
        return err_set(e, errno, "make the stack read-only");
    /* Attached, because before Linux 6.15 only what is can be cloned. */
    if (k_move_mount(tree, AT_FDCWD, place) < 0)
        return err_set(e, errno, "mount the stack");
    *ret_fd = TAKE_FD(tree);
    return 0;
}

/* As a dyno would: root finds everything executable. Nothing of the stack is run by us. */
int rootfs_has_shell(const struct sandbox_config *config, uid_t inner, struct err *e)
{
    struct stat st;

    (void)setfsuid(inner); /* in a process that only looks from now on */
    (void)setfsgid(inner);
    if (stat("/bin/sh", &st) == 0 && S_ISREG(st.st_mode) &&
        syscall(SYS_faccessat2, AT_FDCWD, "/bin/sh", X_OK, AT_EACCESS) == 0)
        return 0;
    (void)err_say(e, ENOENT, "the stack %s has no /bin/sh that a dyno could execute",
                  config->stack);
    return operators_fault(e);
}

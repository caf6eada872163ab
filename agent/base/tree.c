/* tree.c - removing a tree that a stranger wrote: iterative (its depth is theirs to choose), by
 * descriptors, never through a symbolic link, never into another mount. */
#include "base/fdio.h"

#include "base/scoped.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Makes the directory NAME ours to read and change. fchmodat(2) would follow a symbolic link, so it
 * goes through a descriptor of what is sure to be a directory. */
static int chmod_dir(int dirfd, const char *name)
{
    scoped_fd fd = openat(dirfd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    char path[32];

    if (fd < 0)
        return -errno;
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return chmod(path, 0700) < 0 ? -errno : 0;
}

static int open_dir(int dirfd, const char *name)
{
    int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0 && errno == EACCES && chmod_dir(dirfd, name) == 0)
        fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* A stream of its own over DIR, from the start. */
static DIR *list_dir(int dir)
{
    int fd = fcntl(dir, F_DUPFD_CLOEXEC, 0);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);

    if (d)
        rewinddir(d);
    else
        fd_closep(&fd);
    return d;
}

static bool is_dots(const char *name)
{
    return !strcmp(name, ".") || !strcmp(name, "..");
}

/* Moves the directory NAME of DIR to the top, under a name that nothing there has. */
static int move_to_top(int top, int dir, const char *name, unsigned long *serial)
{
    char fresh[64];

    /* A directory needs write permission on itself for its ".." to change. */
    (void)chmod_dir(dir, name);
    do {
        (void)snprintf(fresh, sizeof(fresh), ".rm-%lu", (*serial)++);
        if (renameat2(dir, name, top, fresh, RENAME_NOREPLACE) == 0)
            return 0;
    } while (errno == EEXIST); /* the tree's owner may have thought of that name, too */
    return -errno;
}

/* Unlinks NAME of DIR, or sees that it is a directory: -EISDIR. */
static int unlink_file(int dir, const char *name)
{
    if (unlinkat(dir, name, 0) == 0)
        return 0;
    if (errno != EACCES && errno != EPERM)
        return -errno;
    int saved = errno;
    if (fchmod(dir, 0700) < 0)
        return -saved;
    return unlinkat(dir, name, 0) == 0 ? 0 : -errno;
}

/* Moves each subdirectory that is not empty up to the top as a fresh name, so that depth never
 * exceeds one level and no descriptor stack is needed. */
static int empty_dir(int top, int dir, unsigned long *serial)
{
    scoped(dir_closep) DIR *d = list_dir(dir);
    struct dirent *entry;

    if (!d)
        return -errno;
    while ((entry = readdir(d))) {
        if (is_dots(entry->d_name))
            continue;
        int r = unlink_file(dir, entry->d_name);
        if (r < 0 && r != -EISDIR)
            return r;
        if (r == 0 || unlinkat(dir, entry->d_name, AT_REMOVEDIR) == 0)
            continue;
        if (errno != ENOTEMPTY && errno != EEXIST)
            return -errno; /* EBUSY: a mount point, not ours to enter */
        if (dir == top)
            continue; /* it is at the top already; the next round empties it */
        r = move_to_top(top, dir, entry->d_name, serial);
        if (r < 0)
            return r;
    }
    return 0;
}

static int next_subdir(int top, char name[256])
{
    scoped(dir_closep) DIR *d = list_dir(top);
    struct dirent *entry;

    if (!d)
        return -errno;
    while ((entry = readdir(d)))
        if (!is_dots(entry->d_name)) {
            (void)snprintf(name, 256, "%s", entry->d_name);
            return 1;
        }
    return 0;
}

int tree_remove(int dirfd, const char *name, struct err *e)
{
    unsigned long serial = 0;
    char sub[256];
    int r;

    if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (unlinkat(dirfd, name, AT_REMOVEDIR) == 0)
        return 0;
    if (errno == EBUSY)
        return err_set(e, EBUSY, "remove %s", name); /* a mount point, not ours to enter */
    int top_fd = open_dir(dirfd, name);
    if (top_fd < 0)
        return err_set(e, -top_fd, "open %s to remove it", name);
    scoped_fd top = top_fd;

    r = empty_dir(top, top, &serial);
    while (r == 0 && (r = next_subdir(top, sub)) > 0) {
        int dir_fd = open_dir(top, sub);
        scoped_fd dir = dir_fd;

        r = dir_fd < 0 ? dir_fd : empty_dir(top, dir, &serial);
        if (r == 0 && unlinkat(top, sub, AT_REMOVEDIR) < 0)
            r = -errno;
    }
    if (r == 0 && unlinkat(dirfd, name, AT_REMOVEDIR) < 0)
        r = -errno;
    return r < 0 ? err_set(e, -r, "remove %s", name) : 0;
}

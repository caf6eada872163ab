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

static int open_dir(int dirfd, const char *name)
{
    int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0 && errno == EACCES && fchmodat(dirfd, name, 0700, 0) == 0)
        fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static bool is_dots(const char *name)
{
    return !strcmp(name, ".") || !strcmp(name, "..");
}

/* Moves each subdirectory that is not empty up to the top as a fresh name, so that depth never
 * exceeds one level and no descriptor stack is needed. */
static int empty_dir(int top, int dir, unsigned long *serial)
{
    scoped(dir_closep) DIR *d = fdopendir(dup(dir));
    struct dirent *entry;

    if (!d)
        return -errno;
    rewinddir(d);
    while ((entry = readdir(d))) {
        char fresh[64];

        if (is_dots(entry->d_name) || unlinkat(dir, entry->d_name, 0) == 0)
            continue;
        if (errno == EACCES || errno == EPERM) {
            if (fchmod(dir, 0700) == 0 && unlinkat(dir, entry->d_name, 0) == 0)
                continue;
        }
        if (errno != EISDIR && errno != EPERM)
            return -errno;
        if (unlinkat(dir, entry->d_name, AT_REMOVEDIR) == 0)
            continue;
        if (errno == EBUSY)
            return -EBUSY; /* a mount point: not ours to enter */
        if (dir == top)
            continue; /* it is at the top already; the next round empties it */
        /* A directory needs write permission on itself for its ".." to change. */
        (void)fchmodat(dir, entry->d_name, 0700, 0);
        (void)snprintf(fresh, sizeof(fresh), ".rm-%lu", (*serial)++);
        if (renameat(dir, entry->d_name, top, fresh) < 0)
            return -errno;
    }
    return 0;
}

static int next_subdir(int top, char name[256])
{
    scoped(dir_closep) DIR *d = fdopendir(dup(top));
    struct dirent *entry;

    if (!d)
        return -errno;
    rewinddir(d);
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

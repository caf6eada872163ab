/* run_odd.c - where state files go that are not as they should be: out of the way, and not lost. */
#include "core/run/run_priv.h"

#include "base/clock.h"
#include "base/scoped.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define ODD_DIR       "odd"
#define ODD_LABEL_MAX 150

static int open_odd(const struct run_env *env)
{
    char path[sizeof(env->runtime_dir) + sizeof(ODD_DIR) + 1];

    (void)snprintf(path, sizeof(path), "%s/" ODD_DIR, env->runtime_dir);
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return -errno;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* TIME-LABEL: the order of the names is that of their age. FROM may be anything. */
static void odd_name(const char *from, char out[NAME_MAX + 1])
{
    uint64_t now = clock_real();
    time_t sec = (time_t)(now / USEC_PER_SEC);
    char label[ODD_LABEL_MAX + 1], stamp[32];
    struct tm tm;

    (void)snprintf(label, sizeof(label), "%s", from);
    for (char *c = label; *c; c++)
        if (*c == '/')
            *c = '.';
        else if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", *c))
            *c = '_';
    if (!gmtime_r(&sec, &tm) || strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%S", &tm) == 0)
        stamp[0] = '\0';
    (void)snprintf(out, NAME_MAX + 1, "%s.%06uZ-%s", stamp, (unsigned)(now % USEC_PER_SEC), label);
}

/* How many are in D; OLDEST: the first of them by name. */
static size_t count(DIR *d, char oldest[NAME_MAX + 1])
{
    struct dirent *entry;
    size_t n = 0;

    rewinddir(d);
    while ((entry = readdir(d))) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        if (n++ == 0 || strcmp(entry->d_name, oldest) < 0)
            (void)snprintf(oldest, NAME_MAX + 1, "%s", entry->d_name);
    }
    return n;
}

static void drop_oldest(int odd_fd)
{
    int fd = openat(odd_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    scoped(dir_closep) DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    char oldest[NAME_MAX + 1];
    struct err ignored = ERR_INIT; /* the next one tries again */

    if (!d)
        fd_closep(&fd);
    while (d && count(d, oldest) > RUN_ODD_KEPT)
        if (tree_remove(odd_fd, oldest, &ignored) < 0)
            return;
}

void run_set_aside(const struct run_env *env, const char *from, char kept[RUN_KEPT_MAX])
{
    scoped_fd odd = open_odd(env);
    char name[NAME_MAX + 1];
    int errnum = odd < 0 ? -odd : 0;

    odd_name(from, name);
    if (!errnum && renameat(env->run_dirfd, from, odd, name) < 0)
        errnum = errno;
    if (errnum)
        (void)snprintf(kept, RUN_KEPT_MAX, "nothing: %s", strerror(errnum));
    else
        (void)snprintf(kept, RUN_KEPT_MAX, ODD_DIR "/%s", name);
    if (odd >= 0)
        drop_oldest(odd);
}

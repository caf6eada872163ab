#include "isolate/image.h"

#include "base/scoped.h"
#include "isolate/kernel.h"
#include "isolate/loopdev.h"

#include <errno.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#define IMAGE_ATTRS (K_ATTR_RDONLY | K_ATTR_NOSUID | K_ATTR_NODEV)

/* A detached mount of what lies at SOURCE. */
static int mount_source(const char *type, const char *source, int *ret, struct err *e)
{
    scoped_fd fs = k_fsopen(type);

    if (fs < 0)
        return err_set(e, errno, "fsopen %s", type);
    /* "ro": without it a read-only loop device is refused. */
    if (k_fsconfig(fs, K_FSCONFIG_SET_STRING, "source", source) < 0 ||
        k_fsconfig(fs, K_FSCONFIG_SET_FLAG, "ro", NULL) < 0 ||
        k_fsconfig(fs, K_FSCONFIG_CMD_CREATE, NULL, NULL) < 0)
        return err_set(e, errno, "mount the image");
    int fd = k_fsmount(fs, IMAGE_ATTRS);
    if (fd < 0)
        return err_set(e, errno, "mount the image");
    *ret = fd;
    return 0;
}

/* --- loop devices --- */

/* The whole of that file, and nothing can be written through it. */
static bool reads(int loop, const struct stat *image)
{
    struct loop_info64 info;

    return ioctl(loop, LOOP_GET_STATUS64, &info) == 0 && info.lo_inode == image->st_ino &&
           info.lo_device == image->st_dev && (info.lo_flags & LO_FLAGS_READ_ONLY) &&
           !(info.lo_flags & LO_FLAGS_PARTSCAN) && info.lo_offset == 0 && info.lo_sizelimit == 0;
}

/* One that reads IMAGE already: of an agent before this one, whose dynos still run from it. */
static int find_loop(int image, char path[LOOPDEV_PATH_MAX], int *ret)
{
    scoped(dir_closep) DIR *d = opendir("/sys/block");
    struct dirent *entry;
    struct stat st;

    if (!d || fstat(image, &st) < 0)
        return -errno;
    while ((entry = readdir(d))) {
        if (strncmp(entry->d_name, "loop", 4) != 0 ||
            snprintf(path, LOOPDEV_PATH_MAX, "/dev/%.40s", entry->d_name) >= LOOPDEV_PATH_MAX)
            continue;
        scoped_fd loop = open(path, O_RDONLY | O_CLOEXEC);
        if (loop >= 0 && reads(loop, &st)) {
            *ret = TAKE_FD(loop);
            return 0;
        }
    }
    return -ENOENT;
}

static int mount_loop(const char *type, int image, bool share, int *ret, struct err *e)
{
    scoped_fd loop = -1;
    char path[LOOPDEV_PATH_MAX];
    int r =
        share && find_loop(image, path, &loop) == 0 ? 0 : loopdev_take(image, true, path, &loop, e);

    return r < 0 ? r : mount_source(type, path, ret, e);
}

/* --- either --- */

static int mount_file(const char *type, int image, int *ret, struct err *e)
{
    char source[64];

    (void)snprintf(source, sizeof(source), "/proc/self/fd/%d", image);
    return mount_source(type, source, ret, e);
}

int image_mount(const char *type, bool loop, int image, int *ret, struct err *e)
{
    return loop ? mount_loop(type, image, false, ret, e) : mount_file(type, image, ret, e);
}

int image_mount_any(const char *type, int image, int *ret, bool *ret_loop, struct err *e)
{
    struct err by_file = ERR_INIT;
    bool loop = strcmp(type, "erofs") != 0 || mount_file(type, image, ret, &by_file) < 0;
    int r = loop ? mount_loop(type, image, true, ret, e) : 0;

    if (r < 0)
        return by_file.errnum ? err_wrap(e, "%.60s; by a loop device", by_file.text) : r;
    *ret_loop = loop;
    return 0;
}

int image_type_known(const char *type)
{
    scoped_fd fs = k_fsopen(type);

    return fs < 0 ? -errno : 0;
}

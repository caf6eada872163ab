#include "isolate/loopdev.h"

#include "base/scoped.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define TRIES_FREE 8  /* others take loop devices too; so often the one that is said to be free, */
#define TRIES_NEXT 40 /* then those after it, */
#define TRIES      48 /* then new ones */
#define BLOCK_SIZE 4096

static int take_number(int number, int file, bool read_only, char path[LOOPDEV_PATH_MAX],
                       int *ret_fd, struct err *e)
{
    struct loop_config config = {.fd = (uint32_t)file, .info = {.lo_flags = LO_FLAGS_AUTOCLEAR}};

    if (read_only) {
        config.info.lo_flags |= LO_FLAGS_READ_ONLY;
    } else {
        /* Else everything written is in memory twice. The kernel does without where it must. */
        config.info.lo_flags |= LO_FLAGS_DIRECT_IO;
        config.block_size = BLOCK_SIZE;
    }
    (void)snprintf(path, LOOPDEV_PATH_MAX, "/dev/loop%d", number);
    scoped_fd fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    if (fd < 0)
        return err_set(e, errno, "open %s%s", path,
                       errno == ENOENT ? " (is /dev a devtmpfs?)" : "");
    if (ioctl(fd, LOOP_CONFIGURE, &config) < 0)
        return err_set(e, errno, "bind %s", path);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

/* Which one to try as number TRY, after *NUMBER. Between "is free" and "is mine" it may become
 * somebody else's, who holds the kernel's claim on it before it is no longer free: for as long as
 * the scheduler likes on a busy machine, and it is named again and again. Then one of the next may
 * do, and in the end a new one, which few will find before us. */
static int choose(int control, int try, int *number)
{
    int n = try < TRIES_FREE   ? ioctl(control, LOOP_CTL_GET_FREE)
            : try < TRIES_NEXT ? *number + 1
                               : ioctl(control, LOOP_CTL_ADD, -1);

    if (n >= 0)
        *number = n;
    return n;
}

int loopdev_take(int file, bool read_only, char path[LOOPDEV_PATH_MAX], int *ret_fd, struct err *e)
{
    scoped_fd control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    struct err last = ERR_INIT; /* of the last try: success tells of none */
    int r = -EBUSY, number = -1;

    if (control < 0)
        return err_set(e, errno, "open /dev/loop-control%s",
                       errno == ENOENT ? " (modprobe loop)" : "");
    for (int try = 0; try < TRIES && r < 0; try++) {
        if (choose(control, try, &number) < 0)
            return err_set(e, errno, "find a free loop device");
        last = (struct err)ERR_INIT;
        r = take_number(number, file, read_only, path, ret_fd, &last);
        if (r != -EBUSY && (r != -ENOENT || try < TRIES_FREE || try >= TRIES_NEXT))
            break;
    }
    if (r < 0)
        *e = last;
    return r;
}

/* loopdev.h - a file as a block device, for the length of one mount. */
#ifndef ISOLATE_LOOPDEV_H
#define ISOLATE_LOOPDEV_H

#include "base/err.h"

#include <stdbool.h>

#define LOOPDEV_PATH_MAX 64

/* Binds a free loop device to FILE (may be closed after). It goes with its last user, which is to
 * be a mount: close *ret_fd when that is there. PATH: of the device. Written to past the page
 * cache where FILE's filesystem can do that. Some 0.3 ms. Errors name what is missing: -ENOENT: the
 * loop module, or the device's node in /dev. loop(4), linux/loop.h */
int loopdev_take(int file, bool read_only, char path[LOOPDEV_PATH_MAX], int *ret_fd, struct err *e);

#endif

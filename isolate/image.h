/* image.h - mounting a file that is a read-only file system: a slug's image, a stack's.
 *
 * The kernel parses it as root: whoever calls this answers for its bytes, and that nobody writes to
 * it from now on. A mount is attached nowhere and goes with its last holder, its loop device with
 * it. */
#ifndef ISOLATE_IMAGE_H
#define ISOLATE_IMAGE_H

#include "base/err.h"

#include <stdbool.h>

/* The file system TYPE ("erofs", "squashfs") in the file IMAGE (readable; may be closed after):
 * read-only, without devices and set-id programs. LOOP: through a loop device; else straight from
 * the file, which only EROFS can, since Linux 6.12. *ret is the caller's. */
int image_mount(const char *type, bool loop, int image, int *ret, struct err *e);

/* The first of these two ways that works, for an image that there is one of: a loop device that
 * reads the same file already is used again, and with it what the kernel has cached of it.
 * *ret_loop: which way. */
int image_mount_any(const char *type, int image, int *ret, bool *ret_loop, struct err *e);

/* 0, or the error of a kernel that has no file system TYPE (after trying to load its module). */
int image_type_known(const char *type);

#endif

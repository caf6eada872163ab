/* stack.h - the image of [sandbox] stack, made fit for being mounted.
 *
 * The kernel parses an image as root, so none is mounted of which not every byte is what the
 * configuration's stack_digest says. What is checked, and mounted, is a copy, STATE_DIR/stack/HEX:
 * a file that nobody but us has ever had open and that nobody writes to any more, so that what was
 * read is what is mounted, whatever happens to the original: replaced, written to meanwhile or
 * later, by a link or through a descriptor that somebody kept. (A lease would tell of a writer, but
 * not stop root's `cp` over an image that dynos run from; fs-verity would, but few file systems
 * have it switched on.) On xfs and btrfs the copy takes no space.
 *
 * That takes some seconds for each GB, once: RUNTIME_DIR/stack remembers which file was found good,
 * by its inode, size and time of change, until the next boot. */
#ifndef CORE_STACK_H
#define CORE_STACK_H

#include "base/err.h"
#include "core/config/config.h"

#include <stdbool.h>

#define STACK_IMAGE_MAX (UINT64_C(16) << 30)       /* bytes of an image */
#define STACK_CHECK_MS  (15 * 60 * 1000)           /* how long it may be copied or read */
#define STACK_UID       (CONFIG_UIDS_RESERVED - 1) /* of the uid range: who reads it */

/* "squashfs", "erofs": the name PATH is an image's; NULL: a directory's, or "host". */
const char *stack_image_type(const char *path);
/* What the configuration alone shows: an image needs a digest, nothing else has one. */
int config_check_stack(const struct config *c, struct err *e);

/* Blocking, see above. *ret_type and *ret_fd, the caller's, for struct sandbox_config; NULL and -1
 * for a stack that is no image. Removes the copies of other images: who runs from one keeps it. The
 * operator's faults: no such file, one that others may write to, another digest, rootless. */
int stack_prepare(const struct config *c, bool rootless, const char **ret_type, int *ret_fd,
                  struct err *e);

#endif

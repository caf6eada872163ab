/* slugimage.h - mounting the image of a slug, for dynos to have as the lower layer of their /app.
 *
 * An image is a file that dynod holds open; nothing is looked up by a path. It is mounted straight
 * from the file where the kernel can do that (EROFS, Linux 6.12), through a loop device that goes
 * with its mount where it cannot. A rootless agent, and a kernel without EROFS, mount none: slugs
 * are directories there.
 *
 * A mount is attached nowhere, but held by a descriptor: it goes with its last holder, so an agent
 * that is killed leaves nothing, and dynos keep what they run from. Before Linux 6.15 such a mount
 * could not be cloned for a dyno: there it is attached below a directory of the agent's, in a mount
 * namespace that must be the agent's own: slugimages_namespace(). */
#ifndef ISOLATE_SLUGIMAGE_H
#define ISOLATE_SLUGIMAGE_H

#include "base/err.h"

#include <stdbool.h>

struct slugimages;

enum slugimage_way {
    SLUGIMAGE_NONE,
    SLUGIMAGE_FILE, /* the file itself is mounted */
    SLUGIMAGE_LOOP, /* through a loop device */
};

/* Before anything else is opened, as what was opened in another mount namespace cannot be mounted
 * from this one: gives the process a mount namespace of its own where it needs one. Mounts made
 * outside later are seen in it. Root only; nothing on kernels that clone detached mounts. */
int slugimages_namespace(struct err *e);

/* Finds out, with an image of nothing, what works for files below DIR, where one is made and
 * removed. PLACE: a directory of the agent's own, for mounts that must be attached; made when
 * needed; "": only looking, nothing will be mounted for dynos. Always succeeds, if need be with
 * SLUGIMAGE_NONE, but for want of memory. */
int slugimages_open(const char *dir, const char *place, bool rootless, struct slugimages **ret,
                    struct err *e);
void slugimages_freep(struct slugimages **s);
enum slugimage_way slugimages_way(const struct slugimages *s);
/* Words for a log and for `dyno doctor`: the way, or what stands in it. */
const char *slugimages_text(const struct slugimages *s);

/* Mounts the image IMAGE_FD (readable; may be closed after): read-only, without devices and set-id
 * programs. *ret_fd is the root directory, O_PATH, the caller's: slugimages_unmount(). Some 0.1 ms
 * when the image is in memory. -EINVAL and its kin: the image is none. */
int slugimages_mount(struct slugimages *s, int image_fd, int *ret_fd, struct err *e);

/* Takes FD, of slugimages_mount(). Blocking, for long when it was the last holder of a large tree:
 * in a process of its own (which must have the agent's mount namespace). */
void slugimages_unmount(struct slugimages *s, int fd);

/* For tests: mounts by WAY, ATTACHed or not. */
void slugimages_force(struct slugimages *s, enum slugimage_way way, bool attach);

#endif

/* erofs.h - writes the metadata of an image behind the data that lie in it already.
 *
 *     block 0                 the superblock
 *     to the data's end       files' data, each file from the start of a block (unpack's)
 *     from there              whole blocks of large directories, targets over 4032 bytes
 *     then, to the end        inodes; small directories, ends of large ones and targets in them
 *
 * The same tree, data and identity give the same image, byte for byte: no clock, no chance.
 *
 * The superblock is written last, over a first block that was cleared first. Until then, whatever
 * wrote to the file before and wherever a kill comes, it is no image to anybody: neither the
 * kernel nor fsck.erofs takes it. (What a power cut leaves is not promised: see role.h, seal.)
 *
 * Writes are pwrite(2) of OUT_BUFFER bytes, two streams and the first block: two buffers of memory.
 */
#ifndef SLUG_IMAGE_EROFS_H
#define SLUG_IMAGE_EROFS_H

#include "base/name.h"
#include "slug/image/tree.h"

#include <sys/types.h>

#define EROFS_OUT_BUFFER (256u << 10)

struct erofs_identity {
    uid_t uid; /* who owns everything in it */
    gid_t gid;
    unsigned char uuid[16];
};

/* An identity for the slug DIGEST: its uuid is made of the digest. */
struct erofs_identity erofs_identity_for(const struct digest *digest, uid_t uid, gid_t gid);

/* Makes IMAGE, whose data end at DATA_END, an image of the finished tree T, which it numbers; once
 * a tree. The file must end where the data do: -EBADMSG. *ret_bytes: what it is now. */
int erofs_write(struct tree *t, int image, uint64_t data_end, const struct erofs_identity *who,
                uint64_t *ret_bytes, struct err *e);

#endif

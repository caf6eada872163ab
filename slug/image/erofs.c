#include "slug/image/erofs.h"

#include "base/scoped.h"
#include "slug/image/dirblocks.h"
#include "slug/image/erofs_format.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define INODE      ((uint32_t)sizeof(struct erofs_inode))
#define INLINE_MAX (EROFS_BLOCK - INODE) /* what fits behind an inode in its block */
#define NID_FIRST  2u /* nobody likes a file whose number is 0: the first inode lies further on */

/* Bytes on their way to one place of the image. */
struct out {
    int fd;
    uint64_t at; /* where BUF goes */
    size_t used;
    unsigned char *buf; /* EROFS_OUT_BUFFER */
};

/* One image being written. */
struct image {
    struct tree *t;
    const struct erofs_identity *who;
    uint64_t first; /* where the inodes begin */
    struct out blocks, inodes;
    uint64_t whole; /* where the next whole blocks go */
};

/* How an inode's content is spread. */
struct shape {
    uint64_t whole; /* bytes in whole blocks, the last of which may not be full */
    uint32_t tail;  /* bytes behind the inode */
};

struct erofs_identity erofs_identity_for(const struct digest *digest, uid_t uid, gid_t gid)
{
    struct erofs_identity who = {.uid = uid, .gid = gid};

    for (size_t i = 0; i < sizeof(who.uuid); i++) {
        char hex[3] = {digest->hex[2 * i], digest->hex[2 * i + 1]};

        who.uuid[i] = (unsigned char)strtoul(hex, NULL, 16);
    }
    who.uuid[6] = (who.uuid[6] & 0x0f) | 0x80; /* RFC 9562: version 8, made in a way of our own */
    who.uuid[8] = (who.uuid[8] & 0x3f) | 0x80;
    return who;
}

/* --- bytes ---------------------------------------------------------------------------------- */

static int disk_failed(struct err *e, int errnum)
{
    return err_set(e, errnum, "write the image");
}

static int write_at(int fd, const void *data, size_t len, uint64_t at, struct err *e)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pwrite(fd, (const char *)data + done, len - done, (off_t)(at + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return disk_failed(e, n < 0 ? errno : ENOSPC);
        done += (size_t)n;
    }
    return 0;
}

static int out_flush(struct out *o, struct err *e)
{
    int r = write_at(o->fd, o->buf, o->used, o->at, e);

    if (r < 0)
        return r;
    o->at += o->used;
    o->used = 0;
    return 0;
}

static uint64_t out_at(const struct out *o)
{
    return o->at + o->used;
}

/* LEN bytes of DATA, of zeros when it is NULL. */
static int out_put(struct out *o, const void *data, size_t len, struct err *e)
{
    int r = len > EROFS_OUT_BUFFER - o->used ? out_flush(o, e) : 0;

    if (r < 0)
        return r;
    assert(len <= EROFS_OUT_BUFFER);
    if (data)
        memcpy(o->buf + o->used, data, len);
    else
        memset(o->buf + o->used, 0, len);
    o->used += len;
    return 0;
}

static uint64_t round_up(uint64_t bytes)
{
    return image_blocks(bytes) * EROFS_BLOCK;
}

/* --- where everything goes ------------------------------------------------------------------ */

static struct shape shape_of(const struct tree *t, uint32_t dent)
{
    const struct inode *inode = inode_of(t, dent);
    uint64_t size = inode->kind == NODE_DIR ? dir_size(t, dent) : inode->size;
    uint32_t tail = (uint32_t)(size % EROFS_BLOCK);

    if (inode->kind == NODE_FILE)
        return (struct shape){0};
    if (tail > INLINE_MAX)
        tail = 0;
    return (struct shape){.whole = size - tail, .tail = tail};
}

/* Where an inode with TAIL goes, from AT on: both lie in one block. */
static uint64_t place(uint64_t at, uint32_t tail)
{
    const uint64_t unit = 1u << EROFS_NID_BITS;

    at = (at + unit - 1) & ~(unit - 1);
    return at % EROFS_BLOCK + INODE + tail > EROFS_BLOCK ? round_up(at) : at;
}

/* Calls FN for each inode in the order of the image: a directory, then what is in it but for other
 * directories. An inode of several names comes as often. */
static int each_inode(struct image *im, int (*fn)(struct image *im, uint32_t dent, struct err *e),
                      struct err *e)
{
    const struct tree *t = im->t;
    int r = 0;

    for (size_t d = 0; r == 0 && d < t->n_dirs; d++) {
        const struct inode *dir = inode_of(t, t->dirs[d]);

        r = fn(im, t->dirs[d], e);
        for (uint32_t i = 0; r == 0 && i < dir->count; i++)
            if (inode_of(t, t->order[dir->first + i])->kind != NODE_DIR)
                r = fn(im, t->order[dir->first + i], e);
    }
    return r;
}

/* Numbers an inode. Here INODES.at counts from 0, and WHOLE only how much there is. */
static int number(struct image *im, uint32_t dent, struct err *e)
{
    struct inode *inode = inode_of(im->t, dent);

    if (inode->nid != 0)
        return 0;
    struct shape shape = shape_of(im->t, dent);
    uint64_t at = place(im->inodes.at, shape.tail);
    if (at >> EROFS_NID_BITS > UINT32_MAX)
        return err_say(e, EFBIG, "the image has too much metadata");
    inode->nid = (uint32_t)(at >> EROFS_NID_BITS);
    im->inodes.at = at + INODE + shape.tail;
    im->whole += round_up(shape.whole);
    return 0;
}

/* --- writing -------------------------------------------------------------------------------- */

/* The blocks of the directory DENT; its TAIL goes behind the inode. */
static int put_dir(struct image *im, uint32_t dent, struct shape shape, struct err *e)
{
    struct dir_names ahead = dir_names(im->t, dent), names = ahead;
    unsigned char block[EROFS_BLOCK];
    uint32_t n, used;
    int r = 0;

    for (uint64_t at = 0; r == 0 && (n = dir_block_fill(&ahead, &used)) > 0; at += EROFS_BLOCK) {
        bool tail = at >= shape.whole;

        memset(block, 0, sizeof(block));
        dir_block_write(&names, n, used, block);
        assert(!tail || used == shape.tail);
        r = out_put(tail ? &im->inodes : &im->blocks, block, tail ? used : sizeof(block), e);
    }
    return r;
}

static int put_target(struct image *im, const struct inode *inode, struct shape shape,
                      struct err *e)
{
    const char *target = im->t->texts + inode->target;
    int r;

    if (shape.tail > 0)
        return out_put(&im->inodes, target, shape.tail, e);
    r = out_put(&im->blocks, target, shape.whole, e);
    return r < 0 ? r : out_put(&im->blocks, NULL, EROFS_BLOCK - shape.whole, e);
}

static uint16_t mode_of(const struct inode *inode)
{
    return (uint16_t)(inode->mode | (inode->kind == NODE_DIR       ? S_IFDIR
                                     : inode->kind == NODE_SYMLINK ? S_IFLNK
                                                                   : S_IFREG));
}

/* The inode of DENT as it is in the image; WHOLE blocks of its begin at im->whole. */
static struct erofs_inode to_disk(const struct image *im, uint32_t dent, struct shape shape)
{
    const struct inode *inode = inode_of(im->t, dent);
    uint32_t layout = shape.tail > 0 ? EROFS_INODE_INLINE : EROFS_INODE_PLAIN;
    uint64_t size = inode->kind == NODE_FILE ? inode->size : shape.whole + shape.tail;
    uint64_t block = inode->kind == NODE_FILE ? inode->block
                     : shape.whole > 0        ? im->whole / EROFS_BLOCK
                                              : 0;

    return (struct erofs_inode){
        .format = htole16((uint16_t)(EROFS_INODE_LONG | layout)),
        .mode = htole16(mode_of(inode)),
        .size = htole64(size),
        .block = htole32((uint32_t)block),
        .ino = htole32(inode->nid),
        .uid = htole32(im->who->uid),
        .gid = htole32(im->who->gid),
        .mtime = htole64((uint64_t)inode->mtime),
        .mtime_nsec = htole32(inode->nsec),
        .nlink = htole32(inode->nlink),
    };
}

static int put_inode(struct image *im, uint32_t dent, struct err *e)
{
    const struct inode *inode = inode_of(im->t, dent);
    uint64_t at = im->first + ((uint64_t)inode->nid << EROFS_NID_BITS);

    if (at < out_at(&im->inodes)) /* by another name already */
        return 0;
    struct shape shape = shape_of(im->t, dent);
    struct erofs_inode disk = to_disk(im, dent, shape);
    int r = out_put(&im->inodes, NULL, at - out_at(&im->inodes), e);
    if (r == 0)
        r = out_put(&im->inodes, &disk, sizeof(disk), e);
    if (r == 0 && inode->kind == NODE_DIR)
        r = put_dir(im, dent, shape, e);
    if (r == 0 && inode->kind == NODE_SYMLINK)
        r = put_target(im, inode, shape, e);
    im->whole += round_up(shape.whole);
    return r;
}

static int put_super(const struct image *im, uint64_t bytes, struct err *e)
{
    unsigned char block[EROFS_BLOCK] = {0};
    struct erofs_super super = {
        .magic = htole32(EROFS_MAGIC),
        .compat = htole32(EROFS_COMPAT_CHECKSUM | EROFS_COMPAT_MTIME),
        .block_bits = EROFS_BLOCK_BITS,
        .root_nid = htole16((uint16_t)inode_of(im->t, im->t->root)->nid),
        .inodes = htole64(tree_inodes(im->t)),
        .blocks = htole32((uint32_t)(bytes / EROFS_BLOCK)),
        .meta_block = htole32((uint32_t)(im->first / EROFS_BLOCK)),
    };

    memcpy(super.uuid, im->who->uuid, sizeof(super.uuid));
    memcpy(block + EROFS_SUPER_AT, &super, sizeof(super));
    super.checksum = htole32(erofs_checksum(block + EROFS_SUPER_AT, EROFS_BLOCK - EROFS_SUPER_AT));
    memcpy(block + EROFS_SUPER_AT, &super, sizeof(super));
    return write_at(im->inodes.fd, block, sizeof(block), 0, e);
}

/* Everything is known: the inodes from FIRST, whole blocks from the data's end, BYTES in all. */
static int write_all(struct image *im, uint64_t bytes, struct err *e)
{
    static const unsigned char nothing[EROFS_BLOCK];
    int r = write_at(im->inodes.fd, nothing, sizeof(nothing), 0, e);

    if (r == 0)
        r = each_inode(im, put_inode, e);
    if (r < 0)
        return r;
    assert(out_at(&im->blocks) == im->first && im->whole == im->first);
    r = out_put(&im->inodes, NULL, bytes - out_at(&im->inodes), e);
    if (r == 0)
        r = out_flush(&im->blocks, e);
    if (r == 0)
        r = out_flush(&im->inodes, e);
    return r < 0 ? r : put_super(im, bytes, e);
}

static int check_file(int image, uint64_t data_end, struct err *e)
{
    struct stat st;

    if (fstat(image, &st) < 0)
        return disk_failed(e, errno);
    if (!S_ISREG(st.st_mode))
        return err_say(e, EBADMSG, "the image is no file");
    if ((uint64_t)st.st_size == data_end)
        return 0;
    return err_say(e, EBADMSG, "the image has %lld bytes, but its data end at %llu",
                   (long long)st.st_size, (unsigned long long)data_end);
}

int erofs_write(struct tree *t, int image, uint64_t data_end, const struct erofs_identity *who,
                uint64_t *ret_bytes, struct err *e)
{
    scoped_free unsigned char *buffers = malloc((size_t)2 * EROFS_OUT_BUFFER);
    struct image im = {.t = t, .who = who};
    int r = check_file(image, data_end, e);

    if (r < 0)
        return r;
    if (!buffers)
        return err_set(e, ENOMEM, "write the image");
    im.inodes.at = NID_FIRST << EROFS_NID_BITS;
    r = each_inode(&im, number, e);
    if (r < 0)
        return r;
    uint64_t bytes = data_end + im.whole + round_up(im.inodes.at);
    if (bytes / EROFS_BLOCK > UINT32_MAX)
        return err_say(e, EFBIG, "the image is over the limit of 2^32 blocks");
    im.first = data_end + im.whole;
    im.whole = data_end;
    im.blocks = (struct out){.fd = image, .at = data_end, .buf = buffers};
    im.inodes = (struct out){.fd = image, .at = im.first, .buf = buffers + EROFS_OUT_BUFFER};
    r = write_all(&im, bytes, e);
    if (r == 0)
        *ret_bytes = bytes;
    return r;
}

/* erofs_check.h - reads an image of a slug with nobody's code but its own and says what is wrong
 * with it, or nothing. Stricter than fsck.erofs: only what slug/image/erofs.h writes passes. For
 * the tests and the fuzzer. */
#ifndef TESTS_EROFS_CHECK_H
#define TESTS_EROFS_CHECK_H

#include "slug/image/erofs_format.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct erofs_check {
    const unsigned char *image;
    uint64_t len;
    uint64_t data_end;
    uint64_t meta; /* where inodes begin */
    uint32_t uid, gid;
    uint32_t *names; /* of each nid: how many names there are; of a directory: 1 */
    uint32_t *dirs;  /* of each nid: how many directories are in it */
    uint64_t *todo;  /* directories */
    size_t n_todo, n_inodes;
};

static inline struct erofs_super erofs_super_of(const unsigned char *image)
{
    struct erofs_super s;

    memcpy(&s, image + EROFS_SUPER_AT, sizeof(s));
    return s;
}

static inline const char *erofs_check_super(struct erofs_check *c)
{
    static unsigned char copy[EROFS_BLOCK];
    struct erofs_super s, zero = {0};

    if (c->len < EROFS_BLOCK)
        return "no first block";
    s = erofs_super_of(c->image);
    if (s.magic != EROFS_MAGIC)
        return "no magic number";
    memcpy(copy, c->image, sizeof(copy));
    memset(copy + EROFS_SUPER_AT + 4, 0, 4);
    if (s.checksum != erofs_checksum(copy + EROFS_SUPER_AT, EROFS_BLOCK - EROFS_SUPER_AT))
        return "the checksum is wrong";
    if (s.block_bits != 12 || s.extra_slots || s.xattr_block || s.incompat || s.compat != 3 ||
        memcmp(s.unused, zero.unused, sizeof(s.unused)) != 0)
        return "the superblock has what it should not";
    if ((uint64_t)s.blocks * EROFS_BLOCK != c->len)
        return "the number of blocks is wrong";
    c->meta = (uint64_t)s.meta_block * EROFS_BLOCK;
    return c->meta < c->data_end || c->meta >= c->len ? "the metadata lie elsewhere" : NULL;
}

/* The inode NID, checked by itself. */
static inline const char *erofs_check_inode(const struct erofs_check *c, uint64_t nid,
                                            struct erofs_inode *ret)
{
    uint64_t at, tail, whole;
    struct erofs_inode i;

    if (nid == 0 || nid >= (c->len - c->meta) >> EROFS_NID_BITS)
        return "an inode's number is out of range";
    at = c->meta + (nid << EROFS_NID_BITS);
    if (at / EROFS_BLOCK != (at + sizeof(i) - 1) / EROFS_BLOCK)
        return "an inode lies in two blocks";
    memcpy(&i, c->image + at, sizeof(i));
    bool in = i.format == (EROFS_INODE_LONG | EROFS_INODE_INLINE);
    if (!in && i.format != (EROFS_INODE_LONG | EROFS_INODE_PLAIN))
        return "an inode's format is unknown";
    if (i.xattrs || i.unused || i.uid != c->uid || i.gid != c->gid || i.ino != nid)
        return "an inode has what it should not";
    if (i.mtime_nsec >= 1000000000 || i.nlink == 0 || (i.mode & 07000))
        return "an inode's time, links or mode are wrong";
    if (!S_ISREG(i.mode) && !S_ISDIR(i.mode) && !S_ISLNK(i.mode))
        return "an inode's kind is wrong";
    tail = in ? i.size % EROFS_BLOCK : 0;
    whole = i.size - tail;
    if (in && (tail == 0 || at % EROFS_BLOCK + sizeof(i) + tail > EROFS_BLOCK))
        return "inline data are none or pass their block";
    if (S_ISREG(i.mode) && (in || (i.size == 0 && i.block != 0)))
        return "a file lies where files do not";
    if (whole > 0) {
        uint64_t from = (uint64_t)i.block * EROFS_BLOCK;
        uint64_t low = S_ISREG(i.mode) ? EROFS_BLOCK : c->data_end;
        uint64_t high = S_ISREG(i.mode) ? c->data_end : c->meta;

        if (from < low || from > high || whole > high - from)
            return "an inode's blocks are out of range";
    }
    *ret = i;
    return NULL;
}

/* The bytes of a directory or link at AT. */
static inline const unsigned char *erofs_bytes(const struct erofs_check *c, uint64_t nid,
                                               const struct erofs_inode *i, uint64_t at)
{
    uint64_t inode = c->meta + (nid << EROFS_NID_BITS);
    bool in = i->format == (EROFS_INODE_LONG | EROFS_INODE_INLINE);

    if (in && at >= i->size - i->size % EROFS_BLOCK)
        return c->image + inode + sizeof(*i) + at % EROFS_BLOCK;
    return c->image + (uint64_t)i->block * EROFS_BLOCK + at;
}

static inline uint8_t erofs_kind(uint16_t mode)
{
    return S_ISDIR(mode) ? EROFS_KIND_DIR : S_ISLNK(mode) ? EROFS_KIND_SYMLINK : EROFS_KIND_FILE;
}

/* What the name NAME in DIR says about CHILD. */
static inline const char *erofs_check_child(struct erofs_check *c, uint64_t dir, uint64_t parent,
                                            const char *name, size_t len,
                                            const struct erofs_dirent *d)
{
    bool dot = len == 1 && name[0] == '.', dotdot = len == 2 && !memcmp(name, "..", 2);
    struct erofs_inode child;
    const char *why = erofs_check_inode(c, d->nid, &child);

    if (why)
        return why;
    if (d->kind != erofs_kind(child.mode) || d->unused)
        return "a name and its inode are of different kinds";
    if (dot || dotdot)
        return d->nid == (dot ? dir : parent) ? NULL : "a dot names something else";
    if (len == 0 || len > 255 || memchr(name, '/', len) || memchr(name, '\0', len))
        return "a name is none";
    c->n_inodes += c->names[d->nid]++ == 0;
    if (!S_ISDIR(child.mode))
        return NULL;
    if (c->names[d->nid] > 1)
        return "a directory has two names";
    c->dirs[dir]++;
    c->todo[2 * c->n_todo] = d->nid;
    c->todo[2 * c->n_todo++ + 1] = dir;
    return NULL;
}

static inline const char *erofs_check_dir(struct erofs_check *c, uint64_t nid, uint64_t parent)
{
    struct erofs_inode i;
    const char *why = erofs_check_inode(c, nid, &i), *last = NULL;
    size_t last_len = 0, dots = 0;

    if (why)
        return why;
    if (!S_ISDIR(i.mode) || i.size == 0)
        return "a directory is none";
    for (uint64_t at = 0; at < i.size; at += EROFS_BLOCK) {
        const unsigned char *block = erofs_bytes(c, nid, &i, at);
        uint32_t size = i.size - at < EROFS_BLOCK ? (uint32_t)(i.size - at) : EROFS_BLOCK;
        struct erofs_dirent d, next = {0};

        if (size < sizeof(d))
            return "a directory's block is too short";
        memcpy(&d, block, sizeof(d));
        uint32_t n = d.name_at / (uint32_t)sizeof(d);
        if (n == 0 || d.name_at % sizeof(d) != 0 || d.name_at > size)
            return "a directory's first name lies wrong";
        for (uint32_t k = 0; k < n; k++, d = next) {
            uint32_t end = size;

            if (k + 1 < n)
                memcpy(&next, block + (k + 1) * sizeof(d), sizeof(d));
            if (k + 1 < n)
                end = next.name_at;
            else if (at + EROFS_BLOCK < i.size ||
                     i.format == (EROFS_INODE_LONG | EROFS_INODE_PLAIN))
                end = d.name_at +
                      (uint32_t)strnlen((const char *)block + d.name_at, size - d.name_at);
            if (d.name_at >= end || end > size)
                return "a directory's names lie wrong";
            const char *name = (const char *)block + d.name_at;
            size_t len = end - d.name_at;
            if (last) {
                int order = memcmp(last, name, last_len < len ? last_len : len);
                if (order > 0 || (order == 0 && last_len >= len))
                    return "a directory is not sorted";
            }
            last = name;
            last_len = len;
            dots += (len == 1 && name[0] == '.') || (len == 2 && !memcmp(name, "..", 2));
            if ((why = erofs_check_child(c, nid, parent, name, len, &d)))
                return why;
        }
    }
    return dots == 2 ? NULL : "a directory has no dots, or too many";
}

static inline const char *erofs_check_links(const struct erofs_check *c)
{
    for (uint64_t nid = 1; nid < (c->len - c->meta) >> EROFS_NID_BITS; nid++) {
        struct erofs_inode i;

        if (c->names[nid] == 0)
            continue;
        if (erofs_check_inode(c, nid, &i))
            return "an inode went bad";
        if (i.nlink != (S_ISDIR(i.mode) ? c->dirs[nid] + 2 : c->names[nid]))
            return "an inode's number of links is wrong";
    }
    return NULL;
}

/* NULL: the image of LEN bytes, whose data end at DATA_END and whose files are UID's and GID's, is
 * in order. */
static inline const char *erofs_check(const void *image, uint64_t len, uint64_t data_end,
                                      uint32_t uid, uint32_t gid)
{
    struct erofs_check c = {
        .image = image, .len = len, .data_end = data_end, .uid = uid, .gid = gid};
    const char *why = erofs_check_super(&c);
    uint64_t nids;

    if (why)
        return why;
    nids = (len - c.meta) >> EROFS_NID_BITS;
    c.names = calloc(nids, sizeof(*c.names));
    c.dirs = calloc(nids, sizeof(*c.dirs));
    c.todo = calloc(nids + 1, 2 * sizeof(*c.todo));
    if (!c.names || !c.dirs || !c.todo)
        abort();
    uint64_t root = erofs_super_of(image).root_nid;
    c.todo[0] = c.todo[1] = root;
    c.n_todo = 1;
    if (root < nids)
        c.names[root] = 1;
    c.n_inodes = 1;
    while (!why && c.n_todo > 0) {
        c.n_todo--;
        why = erofs_check_dir(&c, c.todo[2 * c.n_todo], c.todo[2 * c.n_todo + 1]);
    }
    if (!why && c.n_inodes != erofs_super_of(image).inodes)
        why = "the number of inodes is wrong";
    if (!why)
        why = erofs_check_links(&c);
    free(c.names);
    free(c.dirs);
    free(c.todo);
    return why;
}

#endif

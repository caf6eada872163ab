/* dirblocks.h - a directory of the tree as EROFS blocks: how its names, "." and ".." among them,
 * are spread over blocks, and the blocks themselves. */
#ifndef SLUG_IMAGE_DIRBLOCKS_H
#define SLUG_IMAGE_DIRBLOCKS_H

#include "slug/image/nodes.h"

/* How far one has come in a directory's names. */
struct dir_names {
    const struct tree *t;
    uint32_t dir;  /* dent */
    uint32_t next; /* of its dents */
    bool dot, dotdot;
};
struct dir_names dir_names(const struct tree *t, uint32_t dir);

/* Passes the names that fit into the next block. Returns how many, 0: there are no more. *ret_used
 * bytes of the block are used. */
uint32_t dir_block_fill(struct dir_names *names, uint32_t *ret_used);

/* Writes the block of the next N names to OUT, USED bytes: what dir_block_fill() has told. */
void dir_block_write(struct dir_names *names, uint32_t n, uint32_t used, unsigned char *out);

/* The size of the whole directory; its last block is not filled up. */
uint64_t dir_size(const struct tree *t, uint32_t dir);

#endif

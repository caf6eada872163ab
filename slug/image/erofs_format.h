/* erofs_format.h - the part of EROFS that images of slugs use, after the kernel's
 * Documentation/filesystems/erofs.rst. Little endian; offsets and sizes in bytes.
 *
 * The superblock lies 1024 bytes into the first block. An inode is found by its number: it lies
 * nid * 32 behind the start of the metadata. What belongs to it lies in whole blocks that follow
 * each other (PLAIN), or in such blocks but the last part, which follows the inode in the same
 * block (INLINE).
 *
 * A directory is a row of blocks, each complete in itself: its entries, 12 bytes each, then their
 * names in the same order without NUL. The first name's offset tells how many entries there are,
 * the next one's where a name ends; the last name goes on to the end of the block or to a NUL.
 * Names are sorted by their bytes through all blocks, "." and ".." among them: the kernel searches
 * by halves.
 */
#ifndef SLUG_IMAGE_EROFS_FORMAT_H
#define SLUG_IMAGE_EROFS_FORMAT_H

#include <stdint.h>

#define EROFS_BLOCK_BITS 12
#define EROFS_BLOCK      (1u << EROFS_BLOCK_BITS)
#define EROFS_SUPER_AT   1024u
#define EROFS_MAGIC      0xe0f5e1e2u
#define EROFS_NID_BITS   5 /* inodes lie at multiples of 32 */

/* Compatible features: the checksum is there; inodes have the time of modification. */
#define EROFS_COMPAT_CHECKSUM 0x1u
#define EROFS_COMPAT_MTIME    0x2u

struct erofs_super {
    uint32_t magic;
    uint32_t checksum; /* CRC-32C from here's start to the block's end, with 0 in its place */
    uint32_t compat;
    uint8_t block_bits;
    uint8_t extra_slots;
    uint16_t root_nid;
    uint64_t inodes;
    uint64_t build_sec; /* the time of inodes of the short kind, which there are none of */
    uint32_t build_nsec;
    uint32_t blocks;
    uint32_t meta_block;
    uint32_t xattr_block;
    uint8_t uuid[16];
    uint8_t volume[16];
    uint32_t incompat; /* features that a reader must know: none */
    uint8_t unused[44];
};

#define EROFS_INODE_LONG   0x1u /* bit 0 of an inode's format */
#define EROFS_INODE_PLAIN  (0u << 1)
#define EROFS_INODE_INLINE (2u << 1)

struct erofs_inode {
    uint16_t format;
    uint16_t xattrs;
    uint16_t mode; /* with the kind, as st_mode */
    uint16_t unused;
    uint64_t size;
    uint32_t block; /* the first whole one */
    uint32_t ino;   /* for 32-bit stat(2) */
    uint32_t uid;
    uint32_t gid;
    uint64_t mtime; /* signed */
    uint32_t mtime_nsec;
    uint32_t nlink;
    uint8_t unused2[16];
};

struct erofs_dirent {
    uint64_t nid;
    uint16_t name_at; /* in the block */
    uint8_t kind;
    uint8_t unused;
} __attribute__((packed));

#define EROFS_KIND_FILE    1u
#define EROFS_KIND_DIR     2u
#define EROFS_KIND_SYMLINK 7u

_Static_assert(sizeof(struct erofs_super) == 128, "the superblock's size");
_Static_assert(sizeof(struct erofs_inode) == 64, "the long inode's size");
_Static_assert(sizeof(struct erofs_dirent) == 12, "a directory entry's size");

/* CRC-32C as EROFS has it: the polynomial of Castagnoli, all ones before, nothing done after. */
static inline uint32_t erofs_checksum(const void *data, uint32_t len)
{
    uint32_t crc = UINT32_MAX;

    for (const uint8_t *p = data; len-- > 0; p++) {
        crc ^= *p;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ ((crc & 1) ? 0x82f63b78u : 0);
    }
    return crc;
}

#endif

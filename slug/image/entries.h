/* entries.h - the stream of entries by which the role `unpack` tells the role `image` what is in an
 * archive, and the one reply that comes back. Both ends.
 *
 * The two are one program, but the writer has read an archive and is a stranger to the reader: each
 * field is checked, a violation ends the stream with an error that names record and field. The
 * channel is a SOCK_STREAM socketpair with SIGPIPE ignored.
 *
 * unpack -> image: records in the order of the archive, little endian, without padding:
 *
 *     u32 magic    ENTRIES_MAGIC
 *     u8  kind     enum entry_kind
 *     u8  zero
 *     u16 mode     at most 0777
 *     s64 mtime    seconds
 *     u64 size     of a file; of the end: where the data end in the image, a multiple of a block
 *     u64 offset   of a file's data in the image, a multiple of a block, not in the first block;
 *                  0 of an empty file
 *     u32 nsec     below 1000000000
 *     u16 path_len, target_len     below FETCH_NAME_MAX, without NUL
 *     path NUL, target NUL
 *
 * Paths and targets are struct slug_entry's (archive.h): normal, beneath the root, "" the root
 * itself; the target of a symbolic link is any text. What a kind has no use for is 0 and empty.
 * Directories above an entry need no records of their own. Data of two files may overlap: these are
 * then two names for the same bytes, which harms nobody.
 *
 * image -> unpack: one struct entries_reply, after the end record or in place of reading on. */
#ifndef SLUG_IMAGE_ENTRIES_H
#define SLUG_IMAGE_ENTRIES_H

#include "slug/archive.h"

#define ENTRIES_MAGIC      0x31657964u /* "dye1" */
#define ENTRIES_HEADER     40u
#define ENTRIES_RECORD_MAX (ENTRIES_HEADER + 2u * FETCH_NAME_MAX)
#define IMAGE_BLOCK        4096u

enum entry_kind {
    ENTRY_FILE = 1,
    ENTRY_DIR = 2,
    ENTRY_SYMLINK = 3,
    ENTRY_HARDLINK = 4,
    ENTRY_END = 9,
};

struct entry {
    bool end;
    struct slug_entry e; /* of all but the end; its texts lie in the reader's buffer */
    uint64_t offset;     /* of a file */
    uint64_t data_end;   /* of the end */
};

/* What a stream may have at most. Passing one is the app's fault; slug_limits have the words. */
struct image_limits {
    uint64_t entries; /* records */
    uint64_t nodes;   /* directories that only their content names counted too */
    uint64_t depth;   /* components of a path */
    uint64_t name;    /* bytes of a component */
    uint64_t data;    /* bytes up to the data's end, blocks counted whole */
    uint64_t texts;   /* bytes of names and targets that are kept in memory */
};
#define IMAGE_TEXTS_MAX (1024ull + ARCHIVE_TEXTS_MAX + ARCHIVE_IMPLIED_TEXTS_MAX)
/* Those that go with LIMITS. */
void image_limits_for(const struct slug_limits *limits, struct image_limits *ret);

/* Where the bytes of a file of the app lie in the image. States as those of struct slug_text. */
struct entries_text {
    uint32_t state;
    uint64_t offset, size; /* when the state is SLUG_TEXT_HERE */
};

/* The reply is plain data: both ends are the same program on the same machine. */
struct entries_reply {
    uint32_t magic;
    struct err error; /* errnum 0: the image can be made */
    struct entries_text procfile, release;
    uint64_t inodes;
};

/* --- unpack's end --------------------------------------------------------------------------- */

/* The blocks that SIZE bytes of data take. */
static inline uint64_t image_blocks(uint64_t size)
{
    return size / IMAGE_BLOCK + (size % IMAGE_BLOCK != 0);
}

#define ENTRIES_BUFFER (64u << 10)
struct entries_out {
    int fd; /* borrowed */
    size_t used;
    unsigned char buf[ENTRIES_BUFFER];
};
void entries_out_init(struct entries_out *o, int fd);

/* Writes one record; OFFSET is of a file's data. Blocking. When the other side has refused an
 * earlier one, its error is ours. */
int entries_put(struct entries_out *o, const struct slug_entry *entry, uint64_t offset,
                struct err *e);
/* The end record, and the wait for the reply, whose error is ours. */
int entries_end(struct entries_out *o, uint64_t data_end, struct entries_reply *ret, struct err *e);

/* --- image's end ---------------------------------------------------------------------------- */

/* Decodes the record that BUF starts with. 1: *ret and *ret_used are set; 0: the record is longer
 * than LEN; -EBADMSG; -EFBIG, -ENAMETOOLONG: over LIMITS. Pure. */
int entry_decode(const void *buf, size_t len, const struct image_limits *limits, struct entry *ret,
                 size_t *ret_used, struct err *e);

struct entries_in {
    int fd; /* borrowed */
    const struct image_limits *limits;
    uint64_t records;
    uint64_t data_end; /* the highest of those seen */
    size_t start, used;
    unsigned char buf[ENTRIES_BUFFER];
};
void entries_in_init(struct entries_in *in, int fd, const struct image_limits *limits);

/* The next record; *ret is good until the next call. After the end record nothing is read. -EPIPE:
 * the stream ended without one. */
int entries_next(struct entries_in *in, struct entry *ret, struct err *e);

/* Sends REPLY. One with an error ends the stream: a writer that blocks gets EPIPE. */
int entries_answer(int fd, const struct entries_reply *reply, struct err *e);

/* After the answer: whether the writer is gone, and has said no more. -EBUSY: it is still there;
 * -EBADMSG: it has said more. Does not wait. */
int entries_gone(int fd, struct err *e);

#endif

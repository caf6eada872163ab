/* imagefixture.h - images made in a test: what unpack does, without its sandbox, and the two ways
 * to look at the result: fsck.erofs and the kernel. */
#ifndef TESTS_IMAGEFIXTURE_H
#define TESTS_IMAGEFIXTURE_H

#include "base/fdio.h"
#include "base/scoped.h"
#include "erofs_check.h"
#include "slug/image/erofs.h"
#include "tarball.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TEST_UID    4711u
#define TEST_GID    4712u
#define TEST_DIGEST "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

/* The sink that lays a slug's data into an image and tells its entries. */
struct image_sink {
    struct slug_sink sink;
    struct entries_out out;
    int image;
    uint64_t end;     /* of the data */
    uint64_t file_at; /* of the last file */
};

static inline int image_sink_entry(struct slug_sink *s, const struct slug_entry *entry,
                                   struct err *e)
{
    struct image_sink *sink = (struct image_sink *)s;

    sink->file_at = sink->end;
    if (entry->kind == SLUG_FILE)
        sink->end += image_blocks(entry->size) * IMAGE_BLOCK;
    return entries_put(&sink->out, entry, sink->file_at, e);
}

static inline int image_sink_data(struct slug_sink *s, const void *buf, size_t len, uint64_t offset,
                                  struct err *e)
{
    struct image_sink *sink = (struct image_sink *)s;

    if (pwrite(sink->image, buf, len, (off_t)(sink->file_at + offset)) != (ssize_t)len)
        return err_set(e, errno, "write data");
    return 0;
}

static inline int image_sink_file_end(struct slug_sink *s, struct err *e)
{
    (void)s, (void)e;
    return 0;
}

static inline void image_sink_init(struct image_sink *sink, int entries, int image)
{
    sink->sink = (struct slug_sink){
        .entry = image_sink_entry, .data = image_sink_data, .file_end = image_sink_file_end};
    entries_out_init(&sink->out, entries);
    sink->image = image;
    sink->end = IMAGE_BLOCK;
}

/* What `image` does with the entries in the file STREAM, without waiting for anybody. */
static inline int image_from(int stream, int image, const struct image_limits *limits,
                             uint64_t *ret_end, uint64_t *ret_bytes, struct err *e)
{
    scoped_free struct entries_in *in = malloc(sizeof(*in));
    scoped(tree_freep) struct tree *t = NULL;
    struct entry entry;
    struct digest digest;
    int r = tree_new(limits, &t, e);

    entries_in_init(in, stream, limits);
    while (r == 0 && (r = entries_next(in, &entry, e)) == 0 && !entry.end)
        r = tree_put(t, &entry, e);
    if (r == 0)
        r = tree_finish(t, e);
    if (r < 0)
        return r;
    (void)digest_parse(TEST_DIGEST, &digest);
    struct erofs_identity who = erofs_identity_for(&digest, TEST_UID, TEST_GID);
    *ret_end = entry.data_end;
    return erofs_write(t, image, entry.data_end, &who, ret_bytes, e);
}

/* An image of the tar T (borrowed, ended) in the file IMAGE. */
static inline int image_of_tar(const struct str *t, int image, const struct slug_limits *limits,
                               uint64_t *ret_end, struct err *e)
{
    scoped_fd stream = memfd_create("entries", MFD_CLOEXEC);
    scoped_free struct image_sink *sink = malloc(sizeof(*sink));
    struct slug_counts counts;
    struct image_limits image_limits;
    struct entries_reply reply;
    struct stream_mem mem;
    struct err ignored = ERR_INIT;
    uint64_t bytes;

    image_limits_for(limits, &image_limits);
    image_sink_init(sink, stream, image);
    stream_mem_init(&mem, t->data, t->len);
    int r = archive_walk(&mem.s, limits, &sink->sink, &counts, e);
    /* A file is no peer: entries_end() gets no reply from it, but all is written. Whatever was
     * written before an archive's error is judged too, as it comes before that. */
    (void)entries_end(&sink->out, sink->end, &reply, &ignored);
    if (ftruncate(image, (off_t)sink->end) < 0 || lseek(stream, 0, SEEK_SET) < 0)
        return err_set(e, errno, "prepare the image");
    struct err why = ERR_INIT;
    int made = image_from(stream, image, &image_limits, ret_end, &bytes, &why);
    if (made < 0)
        *e = why;
    return made < 0 ? made : r;
}

/* The kernel's view of IMAGE: a directory of a mount that ends with it. -errno. */
static inline int image_mount(int image)
{
    char source[64];
    int fs = (int)syscall(SYS_fsopen, "erofs", FSOPEN_CLOEXEC), mount = -1;

    if (fs < 0)
        return -errno;
    (void)snprintf(source, sizeof(source), "/proc/self/fd/%d", image);
    if (syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "source", source, 0) == 0 &&
        syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, "ro", NULL, 0) == 0 &&
        syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
        mount = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, 0);
    int r = mount < 0 ? -errno : mount;
    close(fs);
    return r;
}

/* What fsck.erofs says: its exit status; its words are shown when it is not 0. */
static inline int image_fsck(int image)
{
    char command[200];

    (void)snprintf(command, sizeof(command),
                   "out=$(fsck.erofs /proc/%d/fd/%d 2>&1) || { echo \"$out\" | tail -5; exit 1; }",
                   (int)getpid(), image);
    return system(command);
}

#endif

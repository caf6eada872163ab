/* Slugs. The first byte says what the rest is: even: gzip, given to both inflaters, which must
 * agree; odd: the tar itself, walked as inspect walks it, into a directory, and into an image. The
 * three must agree, nothing is touched outside of the directory, and the image is sound and has as
 * many inodes as the directory. */
#include "slug/fetch/image_sink.h"
#include "slug/fetch/writer.h"
#include "slug/gunzip.h"
#include "slug/shadow.h"

/* The fixture's sink is another one. */
#define image_sink fixture_image_sink
#include "../unit/imagefixture.h"
#undef image_sink

#include <dirent.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define OUT_MAX (1u << 20)

struct fuzz_sink {
    struct slug_sink sink;
    struct shadow *shadow;
};

static int on_entry(struct slug_sink *sink, const struct slug_entry *entry, struct err *e)
{
    struct fuzz_sink *f = (struct fuzz_sink *)sink;

    if (entry->path[0] == '/' || strstr(entry->path, "//") || !strcmp(entry->path, "..") ||
        !strncmp(entry->path, "../", 3) || strstr(entry->path, "/../") || (entry->mode & ~0777u))
        abort();
    return shadow_put(f->shadow, entry, e);
}

static int on_data(struct slug_sink *sink, const void *buf, size_t len, uint64_t offset,
                   struct err *e)
{
    (void)sink, (void)offset, (void)e;
    volatile char last = len ? ((const char *)buf)[len - 1] : 0;
    (void)last;
    return 0;
}

static int on_file_end(struct slug_sink *sink, struct err *e)
{
    (void)sink, (void)e;
    return 0;
}

static const struct slug_limits limits = {OUT_MAX, OUT_MAX, 1000, 64, 1000};

/* What came of a walk. */
struct found {
    int r;
    struct err e;
    uint64_t inodes; /* of the app, when it went well */
};

static int walk(const uint8_t *data, size_t len, struct slug_sink *sink, struct slug_counts *counts,
                struct err *e)
{
    struct stream_mem mem;

    stream_mem_init(&mem, data, len);
    int r = archive_walk(&mem.s, &limits, sink, counts, e);
    if ((r < 0 && !e->text[0]) || counts->unpacked > OUT_MAX || counts->entries > limits.entries)
        abort();
    return r;
}

static struct found into_shadow(const uint8_t *data, size_t len)
{
    struct fuzz_sink sink = {
        .sink = {.entry = on_entry, .data = on_data, .file_end = on_file_end},
        .shadow = shadow_new(),
    };
    struct found f = {.e = ERR_INIT};
    struct slug_counts counts;

    f.r = walk(data, len, &sink.sink, &counts, &f.e);
    shadow_freep(&sink.shadow);
    return f;
}

/* Inodes seen so far, by number. */
static ino_t seen[4 * 1024 * 64];
static size_t n_seen;

static int see(const char *path, const struct stat *st, int flag, struct FTW *at)
{
    (void)path, (void)flag, (void)at;
    for (size_t i = 0; !S_ISDIR(st->st_mode) && st->st_nlink > 1 && i < n_seen; i++)
        if (seen[i] == st->st_ino)
            return 0;
    if (n_seen == sizeof(seen) / sizeof(seen[0]) || (st->st_mode & 07000))
        abort();
    seen[n_seen++] = st->st_ino;
    return 0;
}

/* Names in BASE but TOP and the canary. */
static int others_in(const char *base)
{
    DIR *d = opendir(base);
    struct dirent *entry;
    int n = 0;

    while (d && (entry = readdir(d)))
        n++;
    if (!d || closedir(d) < 0)
        abort();
    return n - 4;
}

static struct found into_dir(const uint8_t *data, size_t len)
{
    char base[] = "/dev/shm/fuzz-tar-XXXXXX", top[64], canary[64], app[64];
    struct found f = {.e = ERR_INIT};
    struct slug_counts counts;
    struct writer w;
    struct stat st;
    int dir, fd = -1, r;

    if (!mkdtemp(base))
        abort();
    (void)snprintf(top, sizeof(top), "%s/top", base);
    (void)snprintf(app, sizeof(app), "%s/top/app", base);
    (void)snprintf(canary, sizeof(canary), "%s/canary", base);
    if (mkdir(top, 0700) < 0 || mkdir(canary, 0700) < 0 ||
        (dir = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0 || writer_init(&w, dir, &f.e) < 0)
        abort();
    f.r = walk(data, len, &w.sink, &counts, &f.e);
    if (f.r == 0 && (r = writer_finish(&w, &counts, &fd, &f.e)) < 0)
        abort();
    if (f.r < 0 && access(app, F_OK) == 0)
        abort();
    writer_done(&w);
    n_seen = 0;
    if (f.r == 0 && nftw(app, see, 16, FTW_PHYS) != 0)
        abort();
    f.inodes = n_seen;
    if (others_in(base) != 0 || rmdir(canary) < 0 || lstat(base, &st) < 0 || st.st_nlink != 3)
        abort();
    fd_closep(&fd);
    close(dir);
    struct err e = ERR_INIT;
    if (tree_remove(AT_FDCWD, base, &e) < 0)
        abort();
    return f;
}

static void look_at(int image, uint64_t bytes, uint64_t data_end, struct found *f)
{
    void *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, image, 0);

    if (map == MAP_FAILED || erofs_check(map, bytes, data_end, TEST_UID, TEST_GID))
        abort();
    f->inodes = erofs_super_of(map).inodes;
    (void)munmap(map, bytes);
}

/* As the roles do it, one after the other: the entries wait in a file. */
static struct found into_image(const uint8_t *data, size_t len)
{
    scoped_fd image = memfd_create("image", MFD_CLOEXEC);
    scoped_fd stream = memfd_create("entries", MFD_CLOEXEC);
    scoped(image_sink_freep) struct image_sink *sink = NULL;
    struct image_limits of_image;
    struct entries_reply reply;
    struct slug_counts counts;
    struct found f = {.e = ERR_INIT};
    struct err ignored = ERR_INIT, refused = ERR_INIT;
    uint64_t end = 0, bytes = 0;

    image_limits_for(&limits, &of_image);
    if (image_sink_new(image, stream, &sink, &f.e) < 0)
        abort();
    f.r = walk(data, len, &sink->sink, &counts, &f.e);
    (void)image_sink_finish(sink, &reply, &ignored); /* a file does not answer */
    if (lseek(stream, 0, SEEK_SET) < 0)
        abort();
    int r = image_from(stream, image, &of_image, &end, &bytes, &refused);
    if (r < 0) { /* comes before whatever the walk met after */
        f.r = r;
        f.e = refused;
    }
    if (bytes > 8 * OUT_MAX + 1000 * IMAGE_BLOCK)
        abort();
    if (r == 0 && f.r == 0)
        look_at(image, bytes, end, &f);
    return f;
}

static void assert_same(const struct found *a, const struct found *b)
{
    if (a->r != b->r || strcmp(a->e.text, b->e.text) != 0 || a->e.fault != b->e.fault)
        abort();
}

/* Makes the checksums of headers right, which hardly any mutation is. */
static void mend(uint8_t *tar, size_t len)
{
    for (uint8_t *h = tar; h + 512 <= tar + len; h += 512) {
        unsigned sum = 0;

        if (memcmp(h + 257, "ustar", 5) != 0)
            continue;
        memset(h + 148, ' ', 8);
        for (int i = 0; i < 512; i++)
            sum += h[i];
        (void)snprintf((char *)h + 148, 8, "%06o", sum);
    }
}

static void all_ways(const uint8_t *given, size_t len)
{
    scoped_free uint8_t *data = malloc(len + 1);

    memcpy(data, given, len);
    mend(data, len);
    struct found shadow = into_shadow(data, len), dir = into_dir(data, len),
                 image = into_image(data, len);

    assert_same(&shadow, &dir);
    /* Directories that are only implied are the image's to count. */
    if (strstr(image.e.text, "entries and directories"))
        return;
    assert_same(&dir, &image);
    if (dir.inodes != image.inodes)
        abort();
}

/* Unpacks by OPS into OUT. The length, or -errno. */
static ssize_t gunzip(const uint8_t *data, size_t len, const struct inflate_ops *ops, char *out)
{
    struct stream_mem mem;
    struct gunzip g;
    struct err e = ERR_INIT;
    size_t used = 0;
    ssize_t n;

    stream_mem_init(&mem, data, len);
    mem.chunk = ops == &inflate_zlib ? 3 : 0;
    if (gunzip_init(&g, &mem.s, ops, &e) < 0)
        abort();
    g.out_max = OUT_MAX;
    while ((n = stream_read(&g.s, out + used, 2 * OUT_MAX - used, &e)) > 0)
        used += (size_t)n;
    if (n < 0 && (e.fault != FAULT_APP || !e.text[0]))
        abort();
    gunzip_done(&g);
    return n < 0 ? -1 : (ssize_t)used;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static char one[2 * OUT_MAX], two[2 * OUT_MAX];

    if (len == 0)
        return 0;
    if (data[0] & 1) {
        all_ways(data + 1, len - 1);
        return 0;
    }
    ssize_t n = gunzip(data + 1, len - 1, &inflate_zlib, one);
    ssize_t m = gunzip(data + 1, len - 1, inflate_best(), two);
    if (n != m || (n > 0 && memcmp(one, two, (size_t)n) != 0))
        abort();
    return 0;
}

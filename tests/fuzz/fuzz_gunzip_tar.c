/* Slugs. The first byte says what the rest is: even: gzip, given to both inflaters, which must
 * agree; odd: the tar itself, walked as inspect walks it. */
#include "slug/archive.h"
#include "slug/gunzip.h"
#include "slug/shadow.h"

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

static void walk(const uint8_t *data, size_t len)
{
    struct fuzz_sink sink = {
        .sink = {.entry = on_entry, .data = on_data, .file_end = on_file_end},
        .shadow = shadow_new(),
    };
    struct slug_limits limits = {OUT_MAX, OUT_MAX, 1000, 64, 1000};
    struct slug_counts counts;
    struct stream_mem mem;
    struct err e = ERR_INIT;

    stream_mem_init(&mem, data, len);
    if (archive_walk(&mem.s, &limits, &sink.sink, &counts, &e) < 0 && !e.text[0])
        abort();
    shadow_freep(&sink.shadow);
    if (counts.unpacked > OUT_MAX || counts.entries > 1000)
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
        walk(data + 1, len - 1);
        return 0;
    }
    ssize_t n = gunzip(data + 1, len - 1, &inflate_zlib, one);
    ssize_t m = gunzip(data + 1, len - 1, inflate_best(), two);
    if (n != m || (n > 0 && memcmp(one, two, (size_t)n) != 0))
        abort();
    return 0;
}

#include "slug/archive.h"

#include "base/scoped.h"
#include "base/str.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define READ_CHUNK  65536
#define QUOTE_MAX   200
#define MODE_FILE   0400 /* what the owner always gets */
#define MODE_DIR    0500
#define TAR_PADDING (1u << 20)
#define TAR_HEADERS 1024 /* bytes around an entry: a header and what rounds its data up */

/* One walk. */
struct walk {
    struct archive *a;
    struct stream *stream;
    const struct slug_limits *limits;
    struct slug_sink *sink;
    struct slug_counts *counts;
    struct err io; /* why on_read() failed, which libarchive does not carry, */
    bool failed;   /* if it has */
    bool in_header;
    size_t header_bytes;
    uint64_t texts; /* bytes of names and links so far */
    char path[FETCH_NAME_MAX];
    char target[FETCH_NAME_MAX];
    char chunk[READ_CHUNK];
};

void slug_limits_default(struct slug_limits *limits)
{
    *limits = (struct slug_limits){
        .compressed = FETCH_COMPRESSED_MAX,
        .unpacked = FETCH_UNPACKED_MAX,
        .entries = FETCH_ENTRIES_MAX,
        .depth = FETCH_DEPTH_MAX,
        .name = FETCH_COMPONENT_MAX,
        .ratio = FETCH_RATIO_MAX,
    };
}

uint64_t slug_limits_stream(const struct slug_limits *limits)
{
    uint64_t sum;

    if (__builtin_mul_overflow(limits->entries, (uint64_t)TAR_HEADERS, &sum) ||
        __builtin_add_overflow(sum, limits->unpacked, &sum) ||
        __builtin_add_overflow(sum, (uint64_t)TAR_PADDING, &sum))
        return UINT64_MAX;
    return sum;
}

int archive_refuse(struct err *e, const char *path, const char *why)
{
    char quoted[QUOTE_MAX];

    err_say(e, EBADMSG, "%s: %s", text_escape(quoted, sizeof(quoted), path, strlen(path)), why);
    return err_blame(e, FAULT_APP);
}

int archive_over_limit(struct err *e, const char *what, uint64_t limit)
{
    err_say(e, EFBIG, "the archive is over the limit of %llu %s", (unsigned long long)limit, what);
    return err_blame(e, FAULT_APP);
}

static int refuse_length(struct err *e, const char *path, const char *why)
{
    (void)archive_refuse(e, path, why);
    e->errnum = ENAMETOOLONG;
    return -ENAMETOOLONG;
}

int archive_path(const char *path, uint64_t depth_max, uint64_t name_most, char ret[FETCH_NAME_MAX],
                 struct err *e)
{
    char why[80];
    size_t used = 0;
    uint64_t depth = 0;

    if (strnlen(path, FETCH_NAME_MAX) >= FETCH_NAME_MAX)
        return refuse_length(e, path, "the path is over the limit of 4096 bytes");
    if (path[0] == '/')
        return archive_refuse(e, path, "the path is absolute");
    for (const char *p = path; *p;) {
        size_t len = strcspn(p, "/");
        const char *next = p + len + (p[len] == '/');

        if (len == 2 && p[0] == '.' && p[1] == '.')
            return archive_refuse(e, path, "the path has '..' in it");
        if (len > name_most) {
            (void)snprintf(why, sizeof(why), "a name is over the limit of %llu bytes (name_max)",
                           (unsigned long long)name_most);
            return refuse_length(e, path, why);
        }
        if (len > 0 && !(len == 1 && p[0] == '.')) {
            if (++depth > depth_max) {
                (void)snprintf(why, sizeof(why),
                               "over the limit of %llu directories in one another (depth_max)",
                               (unsigned long long)depth_max);
                return refuse_length(e, path, why);
            }
            if (used > 0)
                ret[used++] = '/';
            memcpy(ret + used, p, len);
            used += len;
        }
        p = next;
    }
    ret[used] = '\0';
    return 0;
}

int archive_imply(struct slug_implied *i, size_t len, struct err *e)
{
    if (++i->dirs > ARCHIVE_IMPLIED_MAX)
        return archive_over_limit(e, "directories that have no entry of their own",
                                  ARCHIVE_IMPLIED_MAX);
    i->texts += len + 1;
    return i->texts <= ARCHIVE_IMPLIED_TEXTS_MAX
               ? 0
               : archive_over_limit(e, "bytes of names of directories without an entry",
                                    ARCHIVE_IMPLIED_TEXTS_MAX);
}

static la_ssize_t on_read(struct archive *a, void *userdata, const void **ret)
{
    struct walk *w = userdata;
    ssize_t n;

    if (w->in_header && w->header_bytes > ARCHIVE_HEADER_MAX) {
        err_say(&w->io, EFBIG, "the headers of one entry are over the limit of %u bytes",
                ARCHIVE_HEADER_MAX);
        (void)err_blame(&w->io, FAULT_APP);
        w->failed = true;
        archive_set_error(a, EFBIG, "%s", w->io.text);
        return -1;
    }
    n = stream_next(w->stream, w->chunk, sizeof(w->chunk), ret, &w->io);
    if (n < 0) {
        w->failed = true;
        archive_set_error(a, w->io.errnum, "%s", w->io.text);
        return -1;
    }
    if (w->in_header)
        w->header_bytes += (size_t)n;
    return n;
}

/* The error of the last libarchive call. */
static int archive_failed(struct walk *w, struct err *e)
{
    char quoted[QUOTE_MAX];
    const char *why = archive_error_string(w->a);

    if (w->failed) {
        *e = w->io;
        return -e->errnum;
    }
    if (archive_errno(w->a) == ENOMEM)
        return err_set(e, ENOMEM, "read the archive");
    why = why ? why : "cannot be read";
    err_say(e, EBADMSG, "the archive is damaged or no tar: %s",
            text_escape(quoted, sizeof(quoted), why, strlen(why)));
    return err_blame(e, FAULT_APP);
}

static void archive_donep(struct archive **a)
{
    if (*a)
        archive_read_free(*a);
}

/* Only tar, and no filter: what gunzip gives is never unpacked again. */
static int reader_open(struct walk *w, struct err *e)
{
    if (archive_read_support_format_tar(w->a) != ARCHIVE_OK ||
        archive_read_support_format_empty(w->a) != ARCHIVE_OK)
        return archive_failed(w, e);
    w->in_header = true;
    return archive_read_open(w->a, w, NULL, on_read, NULL) == ARCHIVE_OK ? 0 : archive_failed(w, e);
}

/* The kind of ENTRY, or why there is none for it. */
static const char *kind_of(struct archive_entry *entry, enum slug_kind *ret)
{
    if (archive_entry_hardlink(entry)) {
        *ret = SLUG_HARDLINK;
        return NULL;
    }
    switch (archive_entry_filetype(entry)) {
    case AE_IFREG:
        *ret = SLUG_FILE;
        return NULL;
    case AE_IFDIR:
        *ret = SLUG_DIR;
        return NULL;
    case AE_IFLNK:
        *ret = SLUG_SYMLINK;
        return NULL;
    case AE_IFCHR:
    case AE_IFBLK:
        return "is a device";
    case AE_IFIFO:
        return "is a FIFO";
    case AE_IFSOCK:
        return "is a socket";
    default:
        return "is of an unknown kind";
    }
}

static int take_target(struct walk *w, struct archive_entry *entry, struct slug_entry *ret,
                       struct err *e)
{
    const char *symlink = archive_entry_symlink(entry);

    if (ret->kind == SLUG_HARDLINK) {
        int r = archive_path(archive_entry_hardlink(entry), w->limits->depth, w->limits->name,
                             w->target, e);

        if (r < 0)
            return err_wrap(e, "a hard link's target");
        if (!w->target[0]) /* "." */
            return archive_refuse(e, ret->path, WHY_LINK_TO_OTHER);
        ret->target = w->target;
        return 0;
    }
    if (ret->kind != SLUG_SYMLINK)
        return 0;
    if (!symlink || !*symlink)
        return archive_refuse(e, ret->path, "is a symbolic link to nothing");
    if (strnlen(symlink, FETCH_NAME_MAX) >= FETCH_NAME_MAX)
        return refuse_length(e, ret->path, "links to a path over the limit of 4096 bytes");
    ret->target = symlink;
    return 0;
}

/* What the archive says of one entry, as far as it is believed. */
static int take_entry(struct walk *w, struct archive_entry *entry, struct slug_entry *ret,
                      struct err *e)
{
    const char *name = archive_entry_pathname(entry), *why;
    long nsec = archive_entry_mtime_nsec(entry);
    int r;

    if (!name && archive_error_string(w->a)) /* the warning was about that */
        return archive_failed(w, e);
    if (!name || !*name)
        return archive_refuse(e, "(no name)", "an entry without a name");
    r = archive_path(name, w->limits->depth, w->limits->name, w->path, e);
    if (r < 0)
        return r;
    *ret = (struct slug_entry){.path = w->path};
    why = kind_of(entry, &ret->kind);
    if (!why && w->path[0] == '\0' && ret->kind != SLUG_DIR)
        why = "the root is no directory";
    if (why)
        return archive_refuse(e, name, why);
    ret->mode = (archive_entry_mode(entry) & 0777) | (ret->kind == SLUG_DIR ? MODE_DIR : MODE_FILE);
    ret->mtime.tv_sec = archive_entry_mtime(entry);
    ret->mtime.tv_nsec = nsec >= 0 && nsec < 1000000000L ? nsec : 0;
    if (ret->kind == SLUG_FILE && archive_entry_size(entry) > 0)
        ret->size = (uint64_t)archive_entry_size(entry);
    return take_target(w, entry, ret, e);
}

static int count(struct walk *w, const struct slug_entry *entry, struct err *e)
{
    struct slug_counts *c = w->counts;
    const char *name = strrchr(entry->path, '/');
    bool is_app = !strncmp(entry->path, "app", 3) && (!entry->path[3] || entry->path[3] == '/');

    if (c->entries >= w->limits->entries)
        return archive_over_limit(e, "entries (entries_max)", w->limits->entries);
    if (entry->size > w->limits->unpacked || c->unpacked > w->limits->unpacked - entry->size)
        return archive_over_limit(e, "unpacked bytes (unpacked_max)", w->limits->unpacked);
    w->texts += strlen(name ? name : entry->path) + 1;
    w->texts += entry->kind == SLUG_SYMLINK ? strlen(entry->target) : 0;
    if (w->texts > ARCHIVE_TEXTS_MAX)
        return archive_over_limit(e, "bytes of names and links", ARCHIVE_TEXTS_MAX);
    c->entries++;
    c->files += entry->kind == SLUG_FILE;
    c->unpacked += entry->size;
    if (is_app)
        c->app_dir = entry->path[3] == '/' || entry->kind == SLUG_DIR;
    else if (entry->path[0])
        c->others = true;
    return 0;
}

/* A map of holes that goes back would give two accounts of the same bytes. */
static int take_data(struct walk *w, const struct slug_entry *entry, struct err *e)
{
    const void *buf;
    size_t len;
    la_int64_t offset;
    uint64_t end = 0;
    int r;

    while ((r = archive_read_data_block(w->a, &buf, &len, &offset)) == ARCHIVE_OK) {
        if (offset < 0 || (uint64_t)offset > entry->size || len > entry->size - (uint64_t)offset)
            return archive_refuse(e, entry->path, "has more data than its size");
        if (len == 0)
            continue;
        if ((uint64_t)offset < end)
            return archive_refuse(e, entry->path, "has data that are not in order");
        end = (uint64_t)offset + len;
        r = w->sink->data(w->sink, buf, len, (uint64_t)offset, e);
        if (r < 0)
            return r;
    }
    return r == ARCHIVE_EOF ? w->sink->file_end(w->sink, e) : archive_failed(w, e);
}

/* The next header. 1, 0 at the end of the archive, -errno. */
static int next_header(struct walk *w, struct archive_entry **ret, struct err *e)
{
    int r;

    w->in_header = true;
    w->header_bytes = 0;
    r = archive_read_next_header(w->a, ret);
    w->in_header = false;
    if (w->failed) /* libarchive may take it for a mere warning */
        return archive_failed(w, e);
    if (r == ARCHIVE_EOF)
        return 0;
    /* A warning is about what is not taken over anyway: attributes, a character set. */
    return r == ARCHIVE_OK || r == ARCHIVE_WARN ? 1 : archive_failed(w, e);
}

static int walk_all(struct walk *w, struct err *e)
{
    struct archive_entry *raw;
    struct slug_entry entry = {.path = ""};
    int r = reader_open(w, e);

    if (r < 0)
        return r;
    while ((r = next_header(w, &raw, e)) > 0) {
        r = take_entry(w, raw, &entry, e);
        if (r == 0)
            r = count(w, &entry, e);
        if (r == 0)
            r = w->sink->entry(w->sink, &entry, e);
        if (r == 0 && entry.kind == SLUG_FILE)
            r = take_data(w, &entry, e);
        /* A hard link may carry data, which is the file's that it names: passed here, so that it
         * does not count as a header. */
        else if (r == 0 && archive_read_data_skip(w->a) < ARCHIVE_WARN)
            r = archive_failed(w, e);
        if (r < 0)
            return r;
    }
    return r;
}

int archive_walk(struct stream *stream, const struct slug_limits *limits, struct slug_sink *sink,
                 struct slug_counts *counts, struct err *e)
{
    scoped(archive_donep) struct archive *a = archive_read_new();
    scoped_free struct walk *w = calloc(1, sizeof(*w));
    int r;

    if (!a || !w)
        return err_set(e, ENOMEM, "read the archive");
    *counts = (struct slug_counts){0};
    w->a = a;
    w->stream = stream;
    w->limits = limits;
    w->sink = sink;
    w->counts = counts;
    r = walk_all(w, e);
    /* What follows the end-of-archive marker is padding, but it must arrive whole. */
    if (r == 0)
        r = stream_drain(stream, e);
    if (r < 0)
        return r;
    if (counts->files == 0) {
        err_say(e, EBADMSG, "the archive holds no file");
        return err_blame(e, FAULT_APP);
    }
    return 0;
}

#include "slug/image/entries.h"

#include "base/fdio.h"
#include "base/scoped.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define NSEC_PER_SEC 1000000000u
#define NODES_MAX    (1u << 30) /* nodes have 32 bits */

/* A record's head as it goes over the wire; every member lies at a multiple of its size. */
struct wire {
    uint32_t magic;
    uint8_t kind;
    uint8_t zero;
    uint16_t mode;
    uint64_t mtime;
    uint64_t size;
    uint64_t offset;
    uint32_t nsec;
    uint16_t path_len;
    uint16_t target_len;
};
static_assert(sizeof(struct wire) == ENTRIES_HEADER, "no padding");
static_assert(ENTRIES_BUFFER >= 2 * ENTRIES_RECORD_MAX, "a record fits");

void image_limits_for(const struct slug_limits *limits, struct image_limits *ret)
{
    uint64_t padding, nodes = limits->entries < NODES_MAX ? limits->entries : NODES_MAX;

    *ret = (struct image_limits){
        .entries = limits->entries,
        .nodes = nodes + ARCHIVE_IMPLIED_MAX,
        .depth = limits->depth,
        .name = limits->name,
        .texts = IMAGE_TEXTS_MAX,
    };
    /* The first block and, of each file, what fills its last one. */
    if (__builtin_mul_overflow(limits->entries + 1, (uint64_t)IMAGE_BLOCK, &padding) ||
        __builtin_add_overflow(limits->unpacked, padding, &ret->data))
        ret->data = INT64_MAX;
}

/* --- unpack's end --------------------------------------------------------------------------- */

void entries_out_init(struct entries_out *o, int fd)
{
    o->fd = fd;
    o->used = 0;
}

/* Reads the reply; its error becomes ours. */
static int take_reply(int fd, struct entries_reply *ret, struct err *e)
{
    struct entries_reply reply;
    ssize_t n = fd_read_full(fd, &reply, sizeof(reply));

    if (n < 0)
        return err_set(e, (int)-n, "read what the image's writer says");
    if (n != sizeof(reply) || reply.magic != ENTRIES_MAGIC)
        return err_say(e, EPIPE, "the image's writer is gone");
    if (reply.error.errnum == 0) {
        *ret = reply;
        return 0;
    }
    *e = reply.error;
    e->text[sizeof(e->text) - 1] = '\0';
    return -e->errnum;
}

static int flush(struct entries_out *o, struct err *e)
{
    struct entries_reply reply;
    int r = fd_write_full(o->fd, o->buf, o->used);

    o->used = 0;
    if (r != -EPIPE && r != -ECONNRESET)
        return r < 0 ? err_set(e, -r, "tell the image's writer about an entry") : 0;
    r = take_reply(o->fd, &reply, e);
    return r < 0 ? r : err_say(e, EPROTO, "the image's writer ended early");
}

static int put(struct entries_out *o, struct wire *w, const char *path, const char *target,
               struct err *e)
{
    size_t path_len = strlen(path), target_len = strlen(target);
    size_t len = sizeof(*w) + path_len + target_len + 2;

    assert(path_len < FETCH_NAME_MAX && target_len < FETCH_NAME_MAX);
    if (len > sizeof(o->buf) - o->used) {
        int r = flush(o, e);

        if (r < 0)
            return r;
    }
    w->magic = htole32(ENTRIES_MAGIC);
    w->path_len = htole16((uint16_t)path_len);
    w->target_len = htole16((uint16_t)target_len);
    memcpy(o->buf + o->used, w, sizeof(*w));
    memcpy(o->buf + o->used + sizeof(*w), path, path_len + 1);
    memcpy(o->buf + o->used + sizeof(*w) + path_len + 1, target, target_len + 1);
    o->used += len;
    return 0;
}

int entries_put(struct entries_out *o, const struct slug_entry *entry, uint64_t offset,
                struct err *e)
{
    static const uint8_t kinds[] = {
        [SLUG_FILE] = ENTRY_FILE,
        [SLUG_DIR] = ENTRY_DIR,
        [SLUG_SYMLINK] = ENTRY_SYMLINK,
        [SLUG_HARDLINK] = ENTRY_HARDLINK,
    };
    bool file = entry->kind == SLUG_FILE;
    struct wire w = {
        .kind = kinds[entry->kind],
        .mode = htole16((uint16_t)entry->mode),
        .mtime = htole64((uint64_t)entry->mtime.tv_sec),
        .nsec = htole32((uint32_t)entry->mtime.tv_nsec),
        .size = htole64(file ? entry->size : 0),
        .offset = htole64(file && entry->size > 0 ? offset : 0),
    };

    return put(o, &w, entry->path, entry->target ? entry->target : "", e);
}

int entries_end(struct entries_out *o, uint64_t data_end, struct entries_reply *ret, struct err *e)
{
    struct wire w = {.kind = ENTRY_END, .size = htole64(data_end)};
    int r = put(o, &w, "", "", e);

    if (r == 0)
        r = flush(o, e);
    return r < 0 ? r : take_reply(o->fd, ret, e);
}

/* --- image's end ---------------------------------------------------------------------------- */

static int violates(struct err *e, const char *what)
{
    return err_say(e, EBADMSG, "%s", what);
}

/* TEXT as a path of the archive: as archive_path() would have made it. */
static int check_path(const char *text, const struct image_limits *limits, const char *what,
                      struct err *e)
{
    char normal[FETCH_NAME_MAX];
    int r = archive_path(text, limits->depth, limits->name, normal, e);

    if (r == 0 && strcmp(normal, text) != 0)
        r = err_say(e, EBADMSG, "is not in its normal form");
    if (r == -EBADMSG) /* unpack lets none of these through: not the archive's doing */
        (void)err_blame(e, FAULT_PLATFORM);
    return r < 0 ? err_wrap(e, "%s", what) : 0;
}

static int check_data(const struct wire *w, const struct image_limits *limits, struct err *e)
{
    uint64_t end;

    if (w->size == 0)
        return w->offset == 0 ? 0 : violates(e, "an empty file has an offset");
    if (w->offset % IMAGE_BLOCK != 0)
        return violates(e, "the data's offset is not a multiple of a block");
    if (w->offset < IMAGE_BLOCK)
        return violates(e, "the data lie in the first block");
    if (__builtin_add_overflow(w->offset, w->size, &end) || end > limits->data)
        return archive_over_limit(e, "bytes of data", limits->data);
    return 0;
}

static int check_end(const struct wire *w, const struct image_limits *limits, struct err *e)
{
    if (w->mode || w->mtime || w->nsec || w->offset || w->path_len || w->target_len)
        return violates(e, "the end has fields of an entry");
    if (w->size < IMAGE_BLOCK || w->size % IMAGE_BLOCK != 0)
        return violates(e, "the data's end is not a multiple of a block");
    return w->size > limits->data ? archive_over_limit(e, "bytes of data", limits->data) : 0;
}

/* The fields of all entries. */
static int check_head(const struct wire *w, const struct image_limits *limits, struct err *e)
{
    bool link = w->kind == ENTRY_SYMLINK || w->kind == ENTRY_HARDLINK;

    if (w->magic != ENTRIES_MAGIC)
        return violates(e, "the magic number is wrong");
    if (w->zero != 0)
        return violates(e, "the zero is none");
    if (w->path_len >= FETCH_NAME_MAX || w->target_len >= FETCH_NAME_MAX)
        return violates(e, "a text is over the limit of 4095 bytes");
    if (w->kind == ENTRY_END)
        return check_end(w, limits, e);
    if (w->kind < ENTRY_FILE || w->kind > ENTRY_HARDLINK)
        return violates(e, "the kind is unknown");
    if (w->mode > 0777)
        return violates(e, "the mode has more than rights");
    if (w->nsec >= NSEC_PER_SEC)
        return violates(e, "the time has a second of nanoseconds");
    if (w->path_len == 0 && w->kind != ENTRY_DIR)
        return violates(e, "the root is no directory");
    if (!link && w->target_len > 0)
        return violates(e, "what is no link has a target");
    if (w->kind == ENTRY_SYMLINK && w->target_len == 0)
        return violates(e, "a symbolic link to nothing");
    if (w->kind != ENTRY_FILE && (w->size || w->offset))
        return violates(e, "what is no file has data");
    return check_data(w, limits, e);
}

static int check_texts(const struct wire *w, const char *path, const char *target,
                       const struct image_limits *limits, struct err *e)
{
    if (memchr(path, '\0', w->path_len + 1u) != path + w->path_len ||
        memchr(target, '\0', w->target_len + 1u) != target + w->target_len)
        return violates(e, "a text and its length differ");
    int r = check_path(path, limits, "the path", e);
    if (r == 0 && w->kind == ENTRY_HARDLINK)
        r = check_path(target, limits, "the hard link's target", e);
    return r;
}

static void from_wire(struct wire *w)
{
    w->magic = le32toh(w->magic);
    w->mode = le16toh(w->mode);
    w->mtime = le64toh(w->mtime);
    w->size = le64toh(w->size);
    w->offset = le64toh(w->offset);
    w->nsec = le32toh(w->nsec);
    w->path_len = le16toh(w->path_len);
    w->target_len = le16toh(w->target_len);
}

static struct entry entry_of(const struct wire *w, const char *path, const char *target)
{
    static const enum slug_kind kinds[] = {
        [ENTRY_FILE] = SLUG_FILE,
        [ENTRY_DIR] = SLUG_DIR,
        [ENTRY_SYMLINK] = SLUG_SYMLINK,
        [ENTRY_HARDLINK] = SLUG_HARDLINK,
    };

    if (w->kind == ENTRY_END)
        return (struct entry){.end = true, .data_end = w->size};
    return (struct entry){
        .e = {.kind = kinds[w->kind],
              .path = path,
              .target = w->target_len > 0 || w->kind == ENTRY_HARDLINK ? target : NULL,
              .mode = w->mode,
              .mtime = {.tv_sec = (int64_t)w->mtime, .tv_nsec = (long)w->nsec},
              .size = w->size},
        .offset = w->offset,
    };
}

int entry_decode(const void *buf, size_t len, const struct image_limits *limits, struct entry *ret,
                 size_t *ret_used, struct err *e)
{
    struct wire w;
    int r;

    if (len < sizeof(w))
        return 0;
    memcpy(&w, buf, sizeof(w));
    from_wire(&w);
    r = check_head(&w, limits, e);
    if (r < 0)
        return r;
    if (len - sizeof(w) < (size_t)w.path_len + w.target_len + 2)
        return 0;
    const char *path = (const char *)buf + sizeof(w), *target = path + w.path_len + 1;
    r = check_texts(&w, path, target, limits, e);
    if (r < 0)
        return r;
    *ret = entry_of(&w, path, target);
    *ret_used = sizeof(w) + w.path_len + w.target_len + 2u;
    return 1;
}

void entries_in_init(struct entries_in *in, int fd, const struct image_limits *limits)
{
    in->fd = fd;
    in->limits = limits;
    in->records = in->data_end = 0;
    in->start = in->used = 0;
}

/* More bytes behind those that are there. */
static int fill(struct entries_in *in, struct err *e)
{
    ssize_t n;

    memmove(in->buf, in->buf + in->start, in->used - in->start);
    in->used -= in->start;
    in->start = 0;
    do
        n = read(in->fd, in->buf + in->used, sizeof(in->buf) - in->used);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return err_set(e, errno, "read the entries");
    if (n == 0)
        return err_say(e, EPIPE, "the stream of entries ended before its end");
    in->used += (size_t)n;
    return 0;
}

/* What only the stream as a whole can violate. */
static int check_order(struct entries_in *in, const struct entry *entry, struct err *e)
{
    uint64_t end = entry->offset + image_blocks(entry->e.size) * IMAGE_BLOCK;

    if (!entry->end && in->records > in->limits->entries)
        return archive_over_limit(e, "entries (entries_max)", in->limits->entries);
    if (!entry->end && end > in->data_end)
        in->data_end = end;
    if (entry->end && entry->data_end < in->data_end)
        return violates(e, "a file's data lie behind the data's end");
    if (entry->end && in->start != in->used)
        return violates(e, "there is something behind the end");
    return 0;
}

int entries_next(struct entries_in *in, struct entry *ret, struct err *e)
{
    struct entry entry = {0};
    size_t used = 0;
    int r;

    while ((r = entry_decode(in->buf + in->start, in->used - in->start, in->limits, &entry, &used,
                             e)) == 0)
        if ((r = fill(in, e)) < 0)
            return r;
    if (r > 0) {
        in->records++;
        in->start += used;
        r = check_order(in, &entry, e);
    } else {
        in->records++;
    }
    if (r == -EBADMSG)
        return err_wrap(e, "the stream of entries, record %llu", (unsigned long long)in->records);
    if (r == 0)
        *ret = entry;
    return r;
}

int entries_answer(int fd, const struct entries_reply *reply, struct err *e)
{
    int r = fd_write_full(fd, reply, sizeof(*reply));

    if (r < 0)
        return err_set(e, -r, "answer the unpacker");
    if (reply->error.errnum != 0)
        (void)shutdown(fd, SHUT_RDWR); /* no socket: no writer that blocks */
    return 0;
}

int entries_gone(int fd, struct err *e)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char byte;

    if (poll(&p, 1, 0) <= 0)
        return err_say(e, EBUSY, "the unpacker still has its end of the entries");
    ssize_t n = read(fd, &byte, 1);
    if (n > 0)
        return violates(e, "the stream of entries goes on behind its end");
    /* Gone without having read the answer is gone as well. */
    return n < 0 && errno != ECONNRESET ? err_set(e, errno, "read the entries") : 0;
}

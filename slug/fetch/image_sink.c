#include "slug/fetch/image_sink.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/scoped.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define DIRECT_MIN (128u << 10) /* so much at once is not worth collecting */

static uint64_t round_up(uint64_t n)
{
    return (n + IMAGE_BLOCK - 1) & ~(uint64_t)(IMAGE_BLOCK - 1);
}

static int disk_failed(struct image_sink *s, int errnum, struct err *e)
{
    s->sink.failed = "disk";
    (void)archive_refuse(e, s->path, strerror(errnum));
    e->errnum = errnum;
    return err_blame(e, FAULT_PLATFORM);
}

static int write_at(struct image_sink *s, const char *buf, size_t len, uint64_t at, struct err *e)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pwrite(s->image, buf + done, len - done, (off_t)(at + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return disk_failed(s, n < 0 ? errno : ENOSPC, e);
        done += (size_t)n;
    }
    return 0;
}

/* Writes the buffer, which is full or the last. */
static int flush(struct image_sink *s, struct err *e)
{
    int r = write_at(s, s->buf, s->used, s->at, e);

    s->at += s->used;
    s->used = 0;
    return r;
}

/* Puts LEN bytes at the buffer's end. */
static int append(struct image_sink *s, const char *data, size_t len, struct err *e)
{
    int r = 0;

    while (r == 0 && len > 0) {
        size_t n = IMAGE_SINK_BUFFER - s->used;

        if (s->used == 0 && len >= DIRECT_MIN) {
            n = len - len % IMAGE_BLOCK;
            r = write_at(s, data, n, s->at, e);
            s->at += n;
        } else {
            n = n < len ? n : len;
            memcpy(s->buf + s->used, data, n);
            s->used += n;
            if (s->used == IMAGE_SINK_BUFFER)
                r = flush(s, e);
        }
        data += n;
        len -= n;
    }
    return r;
}

/* Goes on to TO with zeros, or with a hole where there are many: behind the buffer, so never into a
 * block that has been written. */
static int skip(struct image_sink *s, uint64_t to, struct err *e)
{
    uint64_t gap = to - (s->at + s->used);

    assert(to >= s->at + s->used);
    if (gap < IMAGE_SINK_BUFFER - s->used) {
        memset(s->buf + s->used, 0, gap);
        s->used += gap;
        return 0;
    }
    int r = flush(s, e);
    if (r < 0)
        return r;
    s->used = to % IMAGE_BLOCK;
    s->at = to - s->used;
    memset(s->buf, 0, s->used);
    return 0;
}

static int on_entry(struct slug_sink *sink, const struct slug_entry *entry, struct err *e)
{
    struct image_sink *s = (struct image_sink *)sink;
    uint64_t start = clock_boot();

    if (entry->kind == SLUG_FILE) {
        s->path = entry->path;
        s->file = s->end;
        s->end = round_up(s->file + entry->size);
    }
    int r = entries_put(&s->out, entry, s->file, e);
    if (r < 0 && e->fault != FAULT_APP)
        s->sink.failed = "image";
    s->usec += clock_boot() - start;
    return r;
}

static int on_data(struct slug_sink *sink, const void *buf, size_t len, uint64_t offset,
                   struct err *e)
{
    struct image_sink *s = (struct image_sink *)sink;
    uint64_t start = clock_boot();
    int r = skip(s, s->file + offset, e);

    if (r == 0)
        r = append(s, buf, len, e);
    s->usec += clock_boot() - start;
    return r;
}

/* Nothing: the next file's skip() fills this one up. */
static int on_file_end(struct slug_sink *sink, struct err *e)
{
    (void)sink;
    (void)e;
    return 0;
}

int image_sink_new(int image, int entries, struct image_sink **ret, struct err *e)
{
    scoped(image_sink_freep) struct image_sink *s = calloc(1, sizeof(*s));

    if (!s)
        return err_set(e, ENOMEM, "prepare to write the image");
    s->sink = (struct slug_sink){.entry = on_entry, .data = on_data, .file_end = on_file_end};
    s->image = image;
    s->at = s->file = s->end = IMAGE_BLOCK;
    s->path = "the image";
    s->buf = malloc(IMAGE_SINK_BUFFER);
    if (!s->buf)
        return err_set(e, ENOMEM, "prepare to write the image");
    entries_out_init(&s->out, entries);
    *ret = TAKE_PTR(s);
    return 0;
}

void image_sink_freep(struct image_sink **s)
{
    if (*s)
        free((*s)->buf);
    free(*s);
    *s = NULL;
}

int image_sink_finish(struct image_sink *s, struct entries_reply *ret, struct err *e)
{
    uint64_t start = clock_boot();
    int r;

    s->path = "the image";
    r = skip(s, s->end, e);
    if (r == 0)
        r = flush(s, e);
    if (r == 0 && ftruncate(s->image, (off_t)s->end) < 0) /* what ends with a hole */
        r = disk_failed(s, errno, e);
    if (r == 0 && (r = entries_end(&s->out, s->end, ret, e)) < 0)
        s->sink.failed = e->fault == FAULT_APP ? "archive" : "image";
    free(TAKE_PTR(s->buf));
    s->usec += clock_boot() - start;
    return r;
}

int image_sink_explain(struct image_sink *s, struct err *e)
{
    struct entries_reply reply = {0};

    /* Whoever has refused does not read any more, and has answered already. */
    (void)fd_write_full(s->out.fd, s->out.buf, s->out.used);
    s->out.used = 0;
    if (shutdown(s->out.fd, SHUT_WR) == 0 &&
        fd_read_full(s->out.fd, &reply, sizeof(reply)) == sizeof(reply) &&
        reply.magic == ENTRIES_MAGIC && reply.error.errnum > 0 && reply.error.fault == FAULT_APP) {
        *e = reply.error;
        e->text[sizeof(e->text) - 1] = '\0';
        s->sink.failed = "archive";
    }
    return -e->errnum;
}

int image_sink_text(struct image_sink *s, const struct entries_text *where, struct slug_text *ret,
                    struct err *e)
{
    struct slug_text t = {.len = where->size};
    size_t done = 0;

    if (where->state != SLUG_TEXT_HERE || where->size > PROCFILE_MAX_BYTES) {
        t.len = 0;
        t.state = where->state == SLUG_TEXT_HERE ? SLUG_TEXT_TOO_LARGE : where->state;
        *ret = t;
        return 0;
    }
    scoped_free char *data = calloc(1, t.len + 1);
    if (!data)
        return err_set(e, ENOMEM, "read a file back");
    while (done < t.len) {
        ssize_t n = pread(s->image, data + done, t.len - done, (off_t)(where->offset + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return disk_failed(s, n < 0 ? errno : EIO, e);
        done += (size_t)n;
    }
    t.state = SLUG_TEXT_HERE;
    t.data = TAKE_PTR(data);
    *ret = t;
    return 0;
}

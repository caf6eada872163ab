#include "slug/stream.h"

#include "base/clock.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

ssize_t stream_read(struct stream *s, void *buf, size_t cap, struct err *e)
{
    uint64_t start = clock_boot();
    ssize_t n = s->read(s, buf, cap, e);

    s->usec += clock_boot() - start;
    if (n < 0 && !s->failed)
        s->failed = s->step;
    return n;
}

ssize_t stream_next(struct stream *s, void *buf, size_t cap, const void **ret, struct err *e)
{
    uint64_t start;
    ssize_t n;

    if (!s->next) {
        *ret = buf;
        return stream_read(s, buf, cap, e);
    }
    start = clock_boot();
    n = s->next(s, ret, e);
    s->usec += clock_boot() - start;
    if (n < 0 && !s->failed)
        s->failed = s->step;
    return n;
}

int stream_drain(struct stream *s, struct err *e)
{
    char buf[16384];
    const void *bytes;
    ssize_t n;

    while ((n = stream_next(s, buf, sizeof(buf), &bytes, e)) > 0)
        ;
    return (int)n;
}

static ssize_t fd_read(struct stream *base, void *buf, size_t cap, struct err *e)
{
    struct stream_fd *s = (struct stream_fd *)base;
    ssize_t n;

    do
        n = read(s->fd, buf, cap);
    while (n < 0 && errno == EINTR);
    return n < 0 ? err_set(e, errno, "read the slug's file") : n;
}

void stream_fd_init(struct stream_fd *s, int fd)
{
    *s = (struct stream_fd){.s = {.read = fd_read, .step = "download"}, .fd = fd};
}

static ssize_t mem_read(struct stream *base, void *buf, size_t cap, struct err *e)
{
    struct stream_mem *s = (struct stream_mem *)base;
    size_t n = s->len < cap ? s->len : cap;

    (void)e;
    if (s->chunk && n > s->chunk)
        n = s->chunk;
    if (n > 0)
        memcpy(buf, s->data, n);
    s->data += n;
    s->len -= n;
    return (ssize_t)n;
}

void stream_mem_init(struct stream_mem *s, const void *data, size_t len)
{
    *s = (struct stream_mem){.s = {.read = mem_read, .step = "download"}, .data = data, .len = len};
}

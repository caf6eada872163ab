/* stream.h - the stages that a slug flows through, each pulling from the one above it:
 *
 *   source (file, HTTP) -> hash -> gunzip -> the tar reader of archive.h -> a sink
 *
 * One pass, bounded buffers. A stage is embedded as the first member of its own struct. */
#ifndef SLUG_STREAM_H
#define SLUG_STREAM_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct stream {
    /* At most CAP bytes into BUF: their count, 0 at the end, -errno. After an error or the end it
     * is not called again. */
    ssize_t (*read)(struct stream *s, void *buf, size_t cap, struct err *e);
    /* May be NULL: the next bytes where they lie, good until the next call. Otherwise as read. */
    ssize_t (*next)(struct stream *s, const void **ret, struct err *e);
    const char *step;   /* of fetch.h: what to call a failure of this stage */
    const char *failed; /* NULL, or the step of the failure that passed through here */
    uint64_t usec;      /* spent in it and in the stages above it */
};

/* Calls S->read and keeps S->failed and S->usec. */
ssize_t stream_read(struct stream *s, void *buf, size_t cap, struct err *e);

/* The next bytes, without a copy where S can: *ret is BUF, or good until the next call. */
ssize_t stream_next(struct stream *s, void *buf, size_t cap, const void **ret, struct err *e);

/* Reads S to its end and throws it away. */
int stream_drain(struct stream *s, struct err *e);

/* The bytes of a file descriptor, which is borrowed. */
struct stream_fd {
    struct stream s;
    int fd;
};
void stream_fd_init(struct stream_fd *s, int fd);

/* The bytes of a memory area, which is borrowed. For tests and texts. */
struct stream_mem {
    struct stream s;
    const char *data;
    size_t len;
    size_t chunk; /* at most so many bytes a read; 0: any */
};
void stream_mem_init(struct stream_mem *s, const void *data, size_t len);

#endif

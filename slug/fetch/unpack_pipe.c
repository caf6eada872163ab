#include "slug/fetch/unpack_pipe.h"

#include "base/scoped.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Waits until there is something to read, the end included, or a stop. */
static int wait_readable(struct unpack_pipe *p, struct err *e)
{
    struct pollfd fds[] = {{.fd = p->fd, .events = POLLIN}, {.fd = p->stop, .events = POLLIN}};

    while (poll(fds, 2, -1) < 0)
        if (errno != EINTR)
            return err_set(e, errno, "wait for the slug");
    return fds[1].revents ? err_set(e, ECANCELED, "read the slug") : 0;
}

static ssize_t pipe_read(struct stream *base, void *buf, size_t cap, struct err *e)
{
    struct unpack_pipe *p = (struct unpack_pipe *)base;
    ssize_t n;

    do {
        int r = wait_readable(p, e);

        if (r < 0)
            return r;
        n = read(p->fd, buf, cap);
    } while (n < 0 && (errno == EINTR || errno == EAGAIN));
    if (n < 0)
        return err_set(e, errno, "read the slug");
    p->bytes += (uint64_t)n;
    if (p->bytes > p->max) {
        err_say(e, EFBIG, "the slug is over the limit of %llu compressed bytes (compressed_max)",
                (unsigned long long)p->max);
        return err_blame(e, FAULT_APP);
    }
    return n;
}

int unpack_pipe_init(struct unpack_pipe *p, int fd, uint64_t max, struct err *e)
{
    int stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    if (stop < 0)
        return err_set(e, errno, "prepare to read the slug");
    *p = (struct unpack_pipe){
        .s = {.read = pipe_read, .step = "download"}, .fd = fd, .stop = stop, .max = max};
    (void)fcntl(fd, F_SETPIPE_SZ,
                (int)UNPACK_PIPE_BYTES); /* no pipe, or a smaller one, works too */
    return 0;
}

void unpack_pipe_done(struct unpack_pipe *p)
{
    fd_closep(&p->stop);
}

void unpack_pipe_stop(struct unpack_pipe *p)
{
    (void)eventfd_write(p->stop, 1); /* full: it is stopped already */
}

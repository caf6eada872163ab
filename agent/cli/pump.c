#include "cli/pump.h"

#include "base/scoped.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

void pump_init(struct pump *p, int src, int dst)
{
    struct stat st;

    memset(p, 0, offsetof(struct pump, buf));
    p->src = src;
    p->dst = dst;
    p->src_over = src < 0;
    p->dst_broken = dst < 0;
    /* pipe(7): poll says writable when PIPE_BUF bytes fit. */
    bool file = fstat(dst, &st) == 0 && S_ISREG(st.st_mode);
    p->write_max = file ? PUMP_BUFFER : PIPE_BUF;
}

bool pump_holds(const struct pump *p)
{
    return p->end > p->start && !p->dst_broken;
}

bool pump_over(const struct pump *p)
{
    return p->dst_broken || (p->src_over && !pump_holds(p));
}

struct pollfd pump_poll(const struct pump *p)
{
    if (pump_over(p))
        return (struct pollfd){.fd = -1};
    if (pump_holds(p))
        return (struct pollfd){.fd = p->dst, .events = POLLOUT};
    return (struct pollfd){.fd = p->src, .events = POLLIN};
}

static void pump_read(struct pump *p)
{
    ssize_t n = read(p->src, p->buf, sizeof(p->buf));

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    p->start = 0;
    p->end = n > 0 ? (size_t)n : 0;
    /* EIO is how a PTY's master says that nobody has the other side open any more. */
    if (n <= 0)
        p->src_over = true;
}

static void pump_write(struct pump *p)
{
    size_t len = p->end - p->start;
    ssize_t n = write(p->dst, p->buf + p->start, len < p->write_max ? len : p->write_max);

    if (n > 0)
        p->start += (size_t)n;
    else if (n < 0 && errno != EAGAIN && errno != EINTR)
        p->dst_broken = true;
}

void pump_move(struct pump *p, const struct pollfd *ready)
{
    if (pump_over(p) || ready->fd < 0 || !ready->revents)
        return;
    if (ready->revents & POLLNVAL) {
        p->src_over = p->src_over || ready->fd == p->src;
        p->dst_broken = p->dst_broken || ready->fd == p->dst;
    } else if (pump_holds(p)) {
        pump_write(p);
    } else {
        pump_read(p);
    }
    if (pump_over(p))
        pump_done(p);
}

void pump_put(struct pump *p, const char *text, size_t len)
{
    if (!pump_holds(p))
        p->start = p->end = 0;
    if (len > sizeof(p->buf) - p->end)
        return;
    memcpy(p->buf + p->end, text, len);
    p->end += len;
}

void pump_done(struct pump *p)
{
    if (p->close_dst)
        fd_closep(&p->dst);
    if (p->close_src)
        fd_closep(&p->src);
    p->src_over = true;
    p->dst_broken = true;
}

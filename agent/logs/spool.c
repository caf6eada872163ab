#include "logs/spool.h"

#include "base/fdio.h"
#include "base/logproto.h"
#include "base/scoped.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define SUFFIX        ".spool"
#define SPOOL_PAGE    4096u
#define NAME_BYTES    (LOG_INC_MAX + sizeof(SUFFIX))
#define SPOOL_OFF_MAX (UINT64_C(1) << 62) /* a size that an off_t holds */

bool inc_valid(const char *inc)
{
    size_t len = strlen(inc);

    return len >= 1 && len <= LOG_INC_MAX &&
           strspn(inc, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == len;
}

bool spool_name_parse(const char *name, char *out)
{
    size_t len = strlen(name), suffix = strlen(SUFFIX);

    if (len <= suffix || len - suffix > LOG_INC_MAX || strcmp(name + len - suffix, SUFFIX) != 0)
        return false;
    memcpy(out, name, len - suffix);
    out[len - suffix] = '\0';
    return inc_valid(out);
}

static char *spool_name(const char *inc, char out[NAME_BYTES])
{
    (void)snprintf(out, NAME_BYTES, "%s%s", inc, SUFFIX);
    return out;
}

/* Where FD's data starts: what is before was punched out, so it is on record whatever POS says. */
static uint64_t first_data(int fd, uint64_t size)
{
    off_t at = lseek(fd, 0, SEEK_DATA);

    if (at < 0)
        return errno == ENXIO ? size : 0; /* only a hole; or a filesystem that cannot tell */
    return (uint64_t)at;
}

int spool_open(int dirfd, const char *inc, uint64_t pos, struct spool *ret, struct err *e)
{
    char name[NAME_BYTES];
    struct stat st;
    scoped_fd fd = openat(dirfd, spool_name(inc, name),
                          O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);

    if (fd < 0)
        return err_set(e, errno, "open the spool of %s", inc);
    if (fstat(fd, &st) < 0)
        return err_set(e, errno, "stat the spool of %s", inc);
    if (!S_ISREG(st.st_mode))
        return err_say(e, EINVAL, "the spool of %s is not a regular file", inc);
    uint64_t size = (uint64_t)st.st_size, data = first_data(fd, size);
    if (pos < data)
        pos = data;
    if (pos > SPOOL_OFF_MAX)
        return err_say(e, EINVAL, "the spool of %s is too long", inc);
    /* A spool shorter than its record was lost: offsets go on from the record. */
    if (size < pos && ftruncate(fd, (off_t)pos) < 0)
        return err_set(e, errno, "extend the spool of %s", inc);
    *ret = (struct spool){
        .fd = TAKE_FD(fd),
        .size = size < pos ? pos : size,
        .pos = pos,
        .punched = data & ~(uint64_t)(SPOOL_PAGE - 1),
    };
    return 0;
}

void spool_close(struct spool *s)
{
    fd_closep(&s->fd);
}

int spool_remove(int dirfd, const char *inc, struct err *e)
{
    char name[NAME_BYTES];

    if (unlinkat(dirfd, spool_name(inc, name), 0) < 0 && errno != ENOENT)
        return err_set(e, errno, "remove the spool of %s", inc);
    return 0;
}

/* As splice(2), with a buffer between. The room is taken before the bytes are, so that a full
 * filesystem loses none. */
static ssize_t bounce(struct spool *s, int pipe, size_t want)
{
    char buf[SPOOL_BOUNCE];

    if (want > sizeof(buf))
        want = sizeof(buf);
    if (fallocate(s->fd, FALLOC_FL_KEEP_SIZE, (off_t)s->size, (off_t)want) < 0 &&
        errno != EOPNOTSUPP)
        return -1;
    int r = fd_set_nonblock(pipe, true);
    if (r < 0) {
        errno = -r;
        return -1;
    }
    ssize_t n = read(pipe, buf, want);
    if (n <= 0)
        return n;
    for (ssize_t done = 0; done < n;) {
        ssize_t w = pwrite(s->fd, buf + done, (size_t)(n - done), (off_t)s->size + done);

        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return -1;
        done += w;
    }
    return n;
}

static ssize_t move(struct spool *s, int pipe, size_t want)
{
    off64_t at = (off64_t)s->size;

    if (!s->no_splice) {
        ssize_t n = splice(pipe, NULL, s->fd, &at, want, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);

        if (n >= 0 || errno != EINVAL)
            return n;
        s->no_splice = true;
    }
    return bounce(s, pipe, want);
}

int spool_fill(struct spool *s, int pipe, struct err *e)
{
    if (spool_backlog(s) >= SPOOL_BACKLOG_MAX)
        return -EAGAIN;
    for (;;) {
        ssize_t n = move(s, pipe, (size_t)(SPOOL_BACKLOG_MAX - spool_backlog(s)));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EIO)
            return 0; /* a terminal whose other side closed */
        if (n < 0)
            return errno == EAGAIN ? -EAGAIN : err_set(e, errno, "move bytes to a spool");
        s->size += (uint64_t)n;
        return n > 0;
    }
}

ssize_t spool_peek(const struct spool *s, void *buf, size_t cap, struct err *e)
{
    size_t want = spool_backlog(s) < cap ? (size_t)spool_backlog(s) : cap, done = 0;

    while (done < want) {
        ssize_t n = pread(s->fd, (char *)buf + done, want - done, (off_t)(s->pos + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(e, errno, "read a spool");
        if (n == 0)
            return err_say(e, EIO, "a spool is shorter than it was");
        done += (size_t)n;
    }
    return (ssize_t)done;
}

void spool_consume(struct spool *s, uint64_t len)
{
    s->pos += len;
    uint64_t upto = s->pos & ~(uint64_t)(SPOOL_PAGE - 1);

    if (upto - s->punched < SPOOL_PUNCH_MIN)
        return;
    /* Only memory is at stake: where it fails, the file is dropped with its dyno. */
    (void)fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)s->punched,
                    (off_t)(upto - s->punched));
    s->punched = upto;
}

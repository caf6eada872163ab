#include "base/fdio.h"

#include "base/scoped.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

void fd_closep(int *fd)
{
    int saved = errno;

    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    errno = saved;
}

ssize_t fd_read_full(int fd, void *buf, size_t len)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = read(fd, (char *)buf + done, len - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

int fd_write_full(int fd, const void *buf, size_t len)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = write(fd, (const char *)buf + done, len - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        done += (size_t)n;
    }
    return 0;
}

int file_read(int dirfd, const char *name, size_t max, char **ret, size_t *ret_len, struct err *e)
{
    /* O_NONBLOCK: opening a FIFO must not wait for a writer. */
    scoped_fd fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    struct stat st;

    if (fd < 0)
        return err_set(e, errno, "open %s", name);
    if (fstat(fd, &st) < 0)
        return err_set(e, errno, "stat %s", name);
    if (!S_ISREG(st.st_mode))
        return err_say(e, EINVAL, "%s: not a regular file", name);

    /* procfs and sysfs say 0 for everything, so the size is only a hint. */
    size_t cap = st.st_size > 0 && (size_t)st.st_size <= max ? (size_t)st.st_size + 1 : 4096;
    scoped_free char *buf = malloc(cap + 1);
    size_t len = 0;

    if (!buf)
        return err_set(e, ENOMEM, "read %s", name);
    for (;;) {
        ssize_t n = fd_read_full(fd, buf + len, cap - len);

        if (n < 0)
            return err_set(e, (int)-n, "read %s", name);
        len += (size_t)n;
        if (len > max)
            return err_say(e, EFBIG, "%s: larger than %zu bytes", name, max);
        if (len < cap)
            break;
        cap *= 2;
        char *bigger = realloc(buf, cap + 1);
        if (!bigger)
            return err_set(e, ENOMEM, "read %s", name);
        buf = bigger;
    }
    buf[len] = '\0';
    *ret = TAKE_PTR(buf);
    *ret_len = len;
    return 0;
}

int file_write_atomic(int dirfd, const char *name, const void *data, size_t len, mode_t mode,
                      struct err *e)
{
    char tmp[512];

    if (snprintf(tmp, sizeof(tmp), "%s.new", name) >= (int)sizeof(tmp))
        return err_set(e, ENAMETOOLONG, "write %s", name);
    (void)unlinkat(dirfd, tmp, 0); /* what an earlier death left */
    scoped_fd fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0)
        return err_set(e, errno, "create %s", tmp);
    int r = fd_write_full(fd, data, len);
    if (r == 0 && fchmod(fd, mode) < 0) /* whatever the umask */
        r = -errno;
    if (r == 0 && renameat(dirfd, tmp, dirfd, name) < 0)
        r = -errno;
    if (r < 0) {
        (void)unlinkat(dirfd, tmp, 0);
        return err_set(e, -r, "write %s", name);
    }
    return 0;
}

int dir_make_all(const char *path, mode_t mode, struct err *e)
{
    scoped_free char *copy = strdup(path);
    struct stat st;

    if (!copy)
        return err_set(e, ENOMEM, "make the directory %s", path);
    for (char *p = copy; *p; p++) {
        if (*p != '/' || p == copy)
            continue;
        *p = '\0';
        if (mkdir(copy, mode) < 0 && errno != EEXIST)
            return err_set(e, errno, "make the directory %s", copy);
        *p = '/';
    }
    if (mkdir(copy, mode) < 0 && errno != EEXIST)
        return err_set(e, errno, "make the directory %s", copy);
    if (stat(copy, &st) < 0) /* EEXIST may have been a file, or a link to nowhere */
        return err_set(e, errno, "make the directory %s", copy);
    return S_ISDIR(st.st_mode) ? 0 : err_set(e, ENOTDIR, "make the directory %s", copy);
}

int memfd_with(const char *name, const void *data, size_t len, int *ret_fd, struct err *e)
{
    scoped_fd fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0)
        return err_set(e, errno, "memfd %s", name);
    int r = fd_write_full(fd, data, len);
    if (r < 0)
        return err_set(e, -r, "fill the memfd %s", name);
    if (lseek(fd, 0, SEEK_SET) < 0)
        return err_set(e, errno, "rewind the memfd %s", name);
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
        return err_set(e, errno, "seal the memfd %s", name);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

int fd_set_nonblock(int fd, bool on)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK) < 0)
        return -errno;
    return 0;
}

/* share-write FILE - tries every way there is to change FILE or what the kernel has cached of it,
 * and prints a line for each: its name, "ok" or the error, and "CHANGED" when the file then has
 * other bytes for whoever opens it. Static: it runs in any stack. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define SIZE 4096

static const char *path;

static int with_fd(int flags, int (*fn)(int fd))
{
    int fd = open(path, flags | O_CLOEXEC), r = -1;

    if (fd >= 0) {
        r = fn(fd);
        int errnum = errno;
        close(fd);
        errno = errnum;
    }
    return r;
}

static int put(int fd)
{
    return pwrite(fd, "W", 1, 0) == 1 ? 0 : -1;
}

static int put_block(int fd)
{
    void *block;

    if (posix_memalign(&block, SIZE, SIZE))
        return -1;
    memset(block, 'D', SIZE);
    ssize_t n = pwrite(fd, block, SIZE, 0);
    free(block);
    return n == SIZE ? 0 : -1;
}

static int shared_map(int fd)
{
    char *p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (p == MAP_FAILED)
        return -1;
    p[0] = 'M';
    return munmap(p, SIZE);
}

static int later_writable(int fd)
{
    char *p = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);

    if (p == MAP_FAILED || mprotect(p, SIZE, PROT_READ | PROT_WRITE) < 0)
        return -1;
    p[0] = 'P';
    return munmap(p, SIZE);
}

/* A private page is a copy: what is written there is nobody else's. */
static int private_map(int fd)
{
    char *p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);

    if (p == MAP_FAILED)
        return -1;
    p[0] = 'C';
    return madvise(p, SIZE, MADV_DONTNEED) | munmap(p, SIZE);
}

/* The way of Dirty COW: the kernel writes for us, into a mapping that we may not write to. */
static int by_proc_mem(int fd)
{
    char *p = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);
    int mem = open("/proc/self/mem", O_RDWR | O_CLOEXEC);

    if (p == MAP_FAILED || mem < 0)
        return -1;
    ssize_t n = pwrite(mem, "F", 1, (off_t)(size_t)p);
    int errnum = errno;
    close(mem);
    munmap(p, SIZE);
    errno = errnum;
    return n == 1 ? 0 : -1;
}

/* The way of Dirty Pipe: a page of the file in a pipe, then more is written behind it. */
static int by_pipe(int fd)
{
    static char full[1 << 16];
    int p[2];
    loff_t at = 0;

    if (pipe(p) < 0 || write(p[1], full, sizeof(full)) < 0 || read(p[0], full, sizeof(full)) < 0)
        return -1; /* every buffer has been used */
    ssize_t n = splice(fd, &at, p[1], NULL, 1, 0);
    if (n == 1 && write(p[1], "SSSS", 4) != 4)
        n = -1;
    close(p[0]);
    close(p[1]);
    return n == 1 ? 0 : -1;
}

static int into_file(int fd)
{
    int p[2];
    loff_t at = 0;

    if (pipe(p) < 0 || write(p[1], "T", 1) != 1)
        return -1;
    ssize_t n = splice(p[0], NULL, fd, &at, 1, 0);
    int errnum = errno;
    close(p[0]);
    close(p[1]);
    errno = errnum;
    return n == 1 ? 0 : -1;
}

static int reopen(int fd)
{
    char link[64];

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    int again = open(link, O_RDWR | O_CLOEXEC);
    int r = again < 0 ? -1 : pwrite(again, "R", 1, 0) == 1 ? 0 : -1;
    if (again >= 0)
        close(again);
    return r;
}

static int punch(int fd)
{
    return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, SIZE);
}

static int cut(int fd)
{
    return ftruncate(fd, 1);
}

static int set_flags(int fd)
{
    int flags = 0;

    if (ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0)
        return -1;
    flags |= FS_NODUMP_FL;
    return ioctl(fd, FS_IOC_SETFLAGS, &flags);
}

static int w_write(void)
{
    return with_fd(O_RDWR, put);
}
static int w_append(void)
{
    return with_fd(O_WRONLY | O_APPEND, put);
}
static int w_direct(void)
{
    return with_fd(O_RDWR | O_DIRECT, put_block);
}
static int w_map(void)
{
    return with_fd(O_RDWR, shared_map);
}
static int w_map_ro(void)
{
    return with_fd(O_RDONLY, shared_map);
}
static int w_mprotect(void)
{
    return with_fd(O_RDONLY, later_writable);
}
static int w_private(void)
{
    return with_fd(O_RDONLY, private_map);
}
static int w_mem(void)
{
    return with_fd(O_RDONLY, by_proc_mem);
}
static int w_pipe(void)
{
    return with_fd(O_RDONLY, by_pipe);
}
static int w_splice(void)
{
    return with_fd(O_WRONLY, into_file);
}
static int w_reopen(void)
{
    return with_fd(O_RDONLY, reopen);
}
static int w_punch(void)
{
    return with_fd(O_RDWR, punch);
}
static int w_punch_ro(void)
{
    return with_fd(O_RDONLY, punch);
}
static int w_flags(void)
{
    return with_fd(O_RDONLY, set_flags);
}
static int w_times(void)
{
    return utimensat(AT_FDCWD, path, NULL, 0);
}
static int w_chmod(void)
{
    return chmod(path, 0640);
}
static int w_chown(void)
{
    return chown(path, 0, 0);
}
static int w_xattr(void)
{
    return setxattr(path, "user.x", "x", 1, 0);
}
static int w_ftruncate(void)
{
    return with_fd(O_RDWR, cut);
}
static int w_truncate(void)
{
    return truncate(path, 1);
}
static int w_trunc(void)
{
    int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);

    return fd < 0 ? -1 : close(fd);
}
static int w_rename(void)
{
    char other[512];

    snprintf(other, sizeof(other), "%s.other", path);
    return rename(path, other) < 0 ? -1 : rename(other, path);
}
static int w_unlink(void)
{
    return unlink(path);
}

static const struct way {
    const char *name;
    int (*fn)(void);
} ways[] = {
    {"private-map", w_private},  {"proc-mem", w_mem},      {"pipe", w_pipe},
    {"map-read-only", w_map_ro}, {"mprotect", w_mprotect}, {"punch-read-only", w_punch_ro},
    {"times", w_times},          {"chown", w_chown},       {"xattr", w_xattr},
    {"flags", w_flags},          {"write", w_write},       {"append", w_append},
    {"direct", w_direct},        {"map", w_map},           {"splice", w_splice},
    {"reopen", w_reopen},        {"punch", w_punch},       {"chmod", w_chmod},
    {"ftruncate", w_ftruncate},  {"truncate", w_truncate}, {"open-truncate", w_trunc},
    {"rename", w_rename},        {"unlink", w_unlink},
};

/* What anybody who opens it sees: its size and all bytes; 0: it is not there. */
static unsigned long content(void)
{
    static unsigned char buf[1 << 16];
    unsigned long hash = 14695981039346656037UL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0)
        return 0;
    while ((n = read(fd, buf, sizeof(buf))) > 0)
        for (ssize_t i = 0; i < n; i++)
            hash = (hash ^ buf[i]) * 1099511628211UL;
    close(fd);
    return hash;
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    path = argv[1];
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        unsigned long before = content();
        int r = ways[i].fn(), errnum = errno;

        printf("%s %s%s\n", ways[i].name, r < 0 ? strerrorname_np(errnum) : "ok",
               content() != before ? " CHANGED" : "");
    }
    return 0;
}

/* unixsock.c - Unix sockets by paths of any length, and descriptors over them. */
#include "base/fdio.h"

#include "base/scoped.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

/* sun_path holds 108 bytes; a longer path is reached through its directory's descriptor, which the
 * caller keeps open until the address has been used. */
static int unix_address(const char *path, struct sockaddr_un *sa, int *ret_dir)
{
    *sa = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (strlen(path) < sizeof(sa->sun_path)) {
        memcpy(sa->sun_path, path, strlen(path) + 1);
        return 0;
    }

    const char *slash = strrchr(path, '/');
    char dir[4096];
    if (!slash || (size_t)(slash - path) >= sizeof(dir))
        return -ENAMETOOLONG;
    memcpy(dir, path, (size_t)(slash - path));
    dir[slash - path] = '\0';
    *ret_dir = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (*ret_dir < 0)
        return -errno;
    int n =
        snprintf(sa->sun_path, sizeof(sa->sun_path), "/proc/self/fd/%d/%s", *ret_dir, slash + 1);
    return n < (int)sizeof(sa->sun_path) ? 0 : -ENAMETOOLONG;
}

int unix_listen(const char *path, int type, mode_t mode, int *ret_fd, struct err *e)
{
    scoped_fd dir = -1;
    struct sockaddr_un sa;
    int r = unix_address(path, &sa, &dir);

    if (r < 0)
        return err_set(e, -r, "socket path %s", path);
    scoped_fd fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_set(e, errno, "make a Unix socket");
    (void)unlink(path); /* a dead agent's; the caller holds the lock that says nobody lives there */
    /* Bound closed and opened after, so that there is no moment with the umask's mode. */
    if (fchmod(fd, mode) < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
        return err_set(e, errno, "bind %s", path);
    if (chmod(path, mode) < 0)
        return err_set(e, errno, "set the mode of %s", path);
    if (listen(fd, SOMAXCONN) < 0)
        return err_set(e, errno, "listen on %s", path);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

int unix_connect(const char *path, int type, int *ret_fd, struct err *e)
{
    scoped_fd dir = -1;
    struct sockaddr_un sa;
    int r = unix_address(path, &sa, &dir);

    if (r < 0)
        return err_set(e, -r, "socket path %s", path);
    scoped_fd fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_set(e, errno, "make a Unix socket");
    if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
        return err_set(e, errno, "connect to %s", path);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

union fd_control {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int) * FD_PASS_MAX)];
};

ssize_t fd_send(int sock, const void *buf, size_t len, const int *fds, size_t n_fds)
{
    union fd_control control = {0};
    struct iovec iov = {.iov_base = (void *)(uintptr_t)buf, .iov_len = len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    ssize_t n;

    if (n_fds > FD_PASS_MAX)
        return -E2BIG;
    if (n_fds > 0) {
        msg.msg_control = control.space;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
        struct cmsghdr *c = &control.header;
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
    }
    do
        n = sendmsg(sock, &msg, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

ssize_t fd_recv(int sock, void *buf, size_t len, int *fds, size_t *n_fds)
{
    union fd_control control;
    struct iovec iov = {.iov_base = buf, .iov_len = len};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.space,
                         .msg_controllen = sizeof(control.space)};
    ssize_t n;

    *n_fds = 0;
    do
        n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        *n_fds = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(fds, CMSG_DATA(c), sizeof(int) * *n_fds);
    }
    return n;
}

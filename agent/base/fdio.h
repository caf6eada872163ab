/* fdio.h - whole reads and writes, atomic files, fds over sockets. All fds made are CLOEXEC. */
#ifndef BASE_FDIO_H
#define BASE_FDIO_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Reads until LEN bytes, or end of file; returns the count, or -errno. Blocking; retries EINTR. */
ssize_t fd_read_full(int fd, void *buf, size_t len);

/* Writes all LEN bytes; 0 or -errno. Blocking; retries EINTR. */
int fd_write_full(int fd, const void *buf, size_t len);

/* Reads the file NAME below DIRFD (AT_FDCWD: a path) into a NUL-terminated buffer that the caller
 * frees. Only a regular file of at most MAX bytes, a symbolic link in the last place is not
 * followed, a FIFO does not block. -EFBIG: larger. -EINVAL: not a regular file. */
int file_read(int dirfd, const char *name, size_t max, char **ret, size_t *ret_len, struct err *e);

/* Replaces the file NAME below DIRFD: temporary file, write, rename. A reader sees the old or the
 * new content. Not synced: use for what a power cut takes with it anyway. */
int file_write_atomic(int dirfd, const char *name, const void *data, size_t len, mode_t mode,
                      struct err *e);

/* Removes NAME below DIRFD and all below it, without following symbolic links or crossing into
 * other mounts. A missing NAME is success. Blocking: large trees belong in a process of their own.
 */
int tree_remove(int dirfd, const char *name, struct err *e);

/* mkdir -p PATH; directories that exist are left as they are. */
int dir_make_all(const char *path, mode_t mode, struct err *e);

/* A sealed-size anonymous file holding DATA, positioned at 0. */
int memfd_with(const char *name, const void *data, size_t len, int *ret_fd, struct err *e);

int fd_set_nonblock(int fd, bool on);

/* PATH as a sockaddr_un: a path too long for sun_path goes through /proc/self/fd, so any length
 * works. Listening sockets get MODE. */
int unix_listen(const char *path, int type, mode_t mode, int *ret_fd, struct err *e);
int unix_connect(const char *path, int type, int *ret_fd, struct err *e);

/* One sendmsg/recvmsg with up to FD_PASS_MAX descriptors. Results as of sendmsg/recvmsg, but
 * -errno instead of -1. fd_recv sets *n_fds to how many came; the caller owns them. */
#define FD_PASS_MAX 8
ssize_t fd_send(int sock, const void *buf, size_t len, const int *fds, size_t n_fds);
ssize_t fd_recv(int sock, void *buf, size_t len, int *fds, size_t *n_fds);

#endif

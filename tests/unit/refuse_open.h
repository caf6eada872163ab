/* refuse_open.h - a kernel that has no descriptor for one open, and then has again. */
#ifndef TESTS_REFUSE_OPEN_H
#define TESTS_REFUSE_OPEN_H

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>

static int refuse_open; /* this one from now; 0: none */

int openat(int dirfd, const char *path, int flags, ...)
{
    va_list ap;

    if (refuse_open > 0 && --refuse_open == 0) {
        errno = ENFILE;
        return -1;
    }
    va_start(ap, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;
    va_end(ap);
    return (int)syscall(SYS_openat, dirfd, path, flags, mode);
}

#endif

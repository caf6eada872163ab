/* scoped.h - scoped cleanup with explicit transfer. fds start at -1 and are always CLOEXEC. */
#ifndef BASE_SCOPED_H
#define BASE_SCOPED_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Runs FN(&variable) when the variable goes out of scope. */
#define scoped(fn) __attribute__((cleanup(fn)))

/* Hands the value over to the caller and leaves the variable empty. */
#define TAKE_FD(fd)                                                                                \
    __extension__({                                                                                \
        int taken_ = (fd);                                                                         \
        (fd) = -1;                                                                                 \
        taken_;                                                                                    \
    })
#define TAKE_PTR(ptr)                                                                              \
    __extension__({                                                                                \
        __typeof__(ptr) taken_ = (ptr);                                                            \
        (ptr) = NULL;                                                                              \
        taken_;                                                                                    \
    })

/* Closes *fd if it is open and sets it to -1. Keeps errno. */
void fd_closep(int *fd);

static inline void mem_freep(void *p)
{
    free(*(void **)p);
}

static inline void dir_closep(DIR **d)
{
    if (*d)
        closedir(*d);
}

static inline void file_closep(FILE **f)
{
    if (*f)
        fclose(*f);
}

#define scoped_fd   scoped(fd_closep) int
#define scoped_free scoped(mem_freep)

#endif

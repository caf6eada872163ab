/* shortage.h - a process that has few descriptors left. */
#ifndef TESTS_SHORTAGE_H
#define TESTS_SHORTAGE_H

#include <fcntl.h>
#include <sys/resource.h>

/* Only N more can be opened until fds_allow(). Returns what that wants. */
static inline struct rlimit fds_limit(int n)
{
    struct rlimit was, now;
    int limit = 0;

    (void)getrlimit(RLIMIT_NOFILE, &was);
    for (int fd = 0; n > 0; limit = ++fd)
        n -= fcntl(fd, F_GETFD) < 0;
    now = (struct rlimit){(rlim_t)limit, was.rlim_max};
    (void)setrlimit(RLIMIT_NOFILE, &now);
    return was;
}

static inline void fds_allow(const struct rlimit *was)
{
    (void)setrlimit(RLIMIT_NOFILE, was);
}

#endif

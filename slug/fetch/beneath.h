/* beneath.h - opening what a stranger named: never outside, never through a symbolic link. */
#ifndef SLUG_FETCH_BENEATH_H
#define SLUG_FETCH_BENEATH_H

/* openat2(2) with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS; an fd, or -1 with errno: ELOOP for a
 * link, EXDEV for a path that leaves DIRFD. */
int open_beneath(int dirfd, const char *path, int flags);

#endif

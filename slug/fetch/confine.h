/* confine.h - what each role of the fetch gives up before it reads a byte from outside. None owns
 * anything to begin with (dynod starts them as a user of their own, without capabilities); here
 * they also give up:
 *
 *   every capability and new privileges, core dumps and being looked at by their own user,
 *   files: by landlock,
 *   system calls: by seccomp, all but what the role needs (seccomp.c has the lists).
 *
 *   role         files                              sockets       processes
 *   ------------------------------------------------------------------------------
 *   download     reads what TLS and DNS need        makes them    threads
 *   unpack       none; into a directory: below it   none          threads
 *   image, seal  none                               none          none
 *
 * What a role was handed by descriptor it keeps. Each step that fails fails the fetch, but for
 * landlock where the kernel has none. */
#ifndef SLUG_FETCH_CONFINE_H
#define SLUG_FETCH_CONFINE_H

#include "base/err.h"

enum confine_role {
    CONFINE_DOWNLOAD,
    CONFINE_UNPACK,      /* into an image */
    CONFINE_UNPACK_TREE, /* into a directory */
    CONFINE_IMAGE,
    CONFINE_SEAL,
};

struct confinement {
    enum confine_role role;
    int dir;             /* may be written below; -1: none */
    const char *ca_file; /* may be read; NULL: none */
};

/* The platform's fault. */
int confine(const struct confinement *c, struct err *e);

/* The steps, for tests. */
int confine_privileges(struct err *e);
/* 1: in force; 0: this kernel has none that fits. */
int confine_landlock(const struct confinement *c, struct err *e);
int confine_seccomp(enum confine_role role, struct err *e);

#endif

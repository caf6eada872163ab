/* tmpdir.h - a directory of a test's own, and paths in it. */
#ifndef TESTS_TMPDIR_H
#define TESTS_TMPDIR_H

#include "base/fdio.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

static char base[200];

/* NAME is a part of the directory's. 0, or -1. */
static inline int base_make(const char *name)
{
    (void)snprintf(base, sizeof(base), "%s/%s-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp",
                   name);
    return mkdtemp(base) ? 0 : -1;
}

/* cmocka's tear-down. */
static inline int base_remove(void **state)
{
    struct err e = ERR_INIT;

    (void)state;
    return tree_remove(AT_FDCWD, base, &e);
}

/* Good until the fourth call from here. */
static inline const char *in_base(const char *name)
{
    static char paths[4][1024];
    static int i;

    i = (i + 1) % 4;
    (void)snprintf(paths[i], sizeof(paths[i]), "%s/%s", base, name);
    return paths[i];
}

#endif

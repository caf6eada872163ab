/* writer.h - the sink that writes a slug to disk, inside the one directory that the fetch was
 * handed.
 *
 * Nothing is opened by a path that a stranger chose but beneath the stage and without following a
 * symbolic link (openat2). Files are made new; what was there under the name is unlinked first, as
 * tar does, but a directory never gives way. Modes and times of directories are applied at the end:
 * until then the owner can write to all of them. One that only its content names gets the time of
 * the entry that named it first, so that the same archive gives the same tree at any hour. What is
 * to be applied waits in an unlinked file on the same disk, so memory does not grow with the
 * archive. */
#ifndef SLUG_FETCH_WRITER_H
#define SLUG_FETCH_WRITER_H

#include "slug/archive.h"

#include <stdio.h>

#define WRITER_STAGE ".stage"
#define WRITER_APP   "app"

struct writer {
    struct slug_sink sink;
    int top;    /* borrowed: the directory handed over */
    int stage;  /* TOP/.stage */
    int parent; /* the directory of the last entry, O_PATH */
    char parent_path[FETCH_NAME_MAX];
    bool begun;              /* there has been an entry */
    struct slug_entry entry; /* the last one; its texts are the walk's */
    int file;                /* what its data goes to */
    struct slug_implied implied;
    FILE *dirs; /* what is to be applied to directories */
    uint64_t usec;
};

/* TOP must be empty: -ENOTEMPTY. */
int writer_init(struct writer *w, int top, struct err *e);
void writer_done(struct writer *w);

/* Names the app `app` in TOP, applies what waits, and syncs. *ret_app is the caller's. */
int writer_finish(struct writer *w, const struct slug_counts *counts, int *ret_app, struct err *e);

#endif

/* unpack.h - the role `unpack`: compressed bytes from a pipe become an image's data and entries, or
 * a tree in a directory. It knows no store and no digest; who publishes has to compare that.
 *
 * Two threads: one inflates, the other walks the tar and writes. Memory is bounded, whatever the
 * archive. */
#ifndef SLUG_FETCH_UNPACK_H
#define SLUG_FETCH_UNPACK_H

#include "slug/archive.h"
#include "slug/procfile.h"

struct unpack_request {
    struct slug_limits limits;
    int in; /* the slug: a pipe's read end, or a file */
    /* Either an image, */
    int image;   /* a new file, to write to and read; else -1 */
    int entries; /* the socket to the role `image` */
    /* or a tree. */
    int dir; /* an empty directory */
};

struct unpack_watch {
    /* Called a few times a second at least, much oftener when all goes well; an error ends the run.
     * COUNTS is what has been seen so far. May be NULL. */
    int (*progress)(void *userdata, const struct slug_counts *counts, struct err *e);
    void *userdata;
};

struct unpack_outcome {
    uint64_t compressed; /* bytes that were read */
    struct slug_counts counts;
    struct procfile types;
    /* How long the pipe was waited for and read, inflating took (in a thread of its own), writing
     * took, and the whole; on the wall's clock. */
    uint64_t read_ms, inflate_ms, write_ms, ms;
    const char *step; /* of fetch.h, after a failure */
};
void unpack_outcome_done(struct unpack_outcome *o);

/* Unpacks to the end of the pipe and reads the process types. Blocking. *ret is filled in either
 * case; free it. Into an image: the role `image` has agreed, and has all it needs, but nobody has
 * synced anything. Into a directory: as writer_finish() leaves it. */
int unpack_run(const struct unpack_request *rq, const struct unpack_watch *watch,
               struct unpack_outcome *ret, struct err *e);

#endif

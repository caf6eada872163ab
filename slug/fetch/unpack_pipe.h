/* unpack_pipe.h - the source stage of the role `unpack`: the pipe that the download writes the
 * compressed slug into, counted. One thread reads it, any other may stop it, as the download may
 * be slow and what comes not wanted any more. */
#ifndef SLUG_FETCH_UNPACK_PIPE_H
#define SLUG_FETCH_UNPACK_PIPE_H

#include "slug/stream.h"

#define UNPACK_PIPE_BYTES                                                                          \
    (1u << 20) /* asked for; what a plain user gets unless the machine says                        \
                * otherwise (pipe(7), pipe-max-size) */

struct unpack_pipe {
    struct stream s;
    int fd;   /* borrowed: a pipe, or a file */
    int stop; /* an eventfd */
    uint64_t bytes;
    uint64_t max; /* over it: an error, the app's fault */
};

int unpack_pipe_init(struct unpack_pipe *p, int fd, uint64_t max, struct err *e);
void unpack_pipe_done(struct unpack_pipe *p);

/* Makes the read that waits, and all later ones, end with -ECANCELED. Any thread. */
void unpack_pipe_stop(struct unpack_pipe *p);

#endif

/* err.h - one error value, filled once at its source, given context on the way up.
 *
 * A fixed buffer: needs no memory, and crosses from a child to its parent unchanged (it is
 * plain data: write(2) and read(2) it). Every function that can fail takes a struct err * as
 * its last argument and returns 0 or -errno. E is never NULL. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include "base/fault.h"

#include <stdarg.h>
#include <stdbool.h>

#define ERR_TEXT_MAX 480

struct err {
    int errnum;              /* positive errno; 0: no error */
    enum fault fault;        /* FAULT_PLATFORM unless the source knows better */
    char text[ERR_TEXT_MAX]; /* one line, no newline at its end */
};

#define ERR_INIT                                                                                   \
    {                                                                                              \
        0, FAULT_PLATFORM,                                                                         \
        {                                                                                          \
            0                                                                                      \
        }                                                                                          \
    }

/* Fills E with "FMT: strerror(ERRNUM)" and returns -ERRNUM. */
int err_set(struct err *e, int errnum, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The same without the strerror text, for errors that errno has no good words for. */
int err_say(struct err *e, int errnum, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Puts "FMT: " before the text that E has. Returns -E->errnum. */
int err_wrap(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Says whose fault E is, and returns -E->errnum, so that it chains: return err_blame(e, …). */
int err_blame(struct err *e, enum fault fault);

/* Whether ERRNUM is a shortage of ours (memory, descriptors, processes), which passes. It says
 * nothing of what was asked for: that may be there, be sound, and be nobody's fault. */
bool err_is_shortage(int errnum);

/* E is of something that the operator names: theirs, unless it is a shortage of ours or a disk that
 * cannot be read (EIO). Returns -E->errnum. */
int err_blame_operator(struct err *e);

#endif

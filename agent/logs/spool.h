/* spool.h - the bytes of one incarnation that have left its pipe and are not on record yet.
 *
 * They go from the pipe into the file by splice(2): the kernel takes them out of the pipe exactly
 * as it has written them, also when SIGKILL comes meanwhile (iter_file_splice_write() in
 * fs/splice.c dismisses what generic_perform_write() has written, and a process dies only on its
 * way out of the call). So the file's size says what was consumed, whatever dies when; offsets
 * count from the incarnation's first byte, and what is on record is punched out of the file's
 * front.
 *
 * Where splice(2) cannot do it (a socket instead of a pipe, a filesystem without it) read(2) and
 * pwrite(2) take its place: then a kill between the two loses at most SPOOL_BOUNCE bytes. */
#ifndef LOGS_SPOOL_H
#define LOGS_SPOOL_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SPOOL_BACKLOG_MAX                                                                          \
    (128u << 10)                    /* bytes not on record, over which a pipe is left to fill      \
                                     */
#define SPOOL_PUNCH_MIN (64u << 10) /* bytes on record, over which they are punched out */
#define SPOOL_BOUNCE    (16u << 10)

/* -1 in fd: not open. */
struct spool {
    int fd;
    uint64_t size; /* consumed from the pipe */
    uint64_t pos;  /* on record */
    uint64_t punched;
    bool no_splice;
};

/* [A-Za-z0-9._-], 1 to LOG_INC_MAX of them. */
bool inc_valid(const char *inc);

/* INC of the file NAME in the directory; false when it is no spool. OUT has LOG_INC_MAX + 1 bytes.
 */
bool spool_name_parse(const char *name, char *out);

/* Opens INC's spool below DIRFD, of which POS is on record; made when it is missing. */
int spool_open(int dirfd, const char *inc, uint64_t pos, struct spool *ret, struct err *e);
void spool_close(struct spool *s);
/* Removes INC's file; a missing one is success. */
int spool_remove(int dirfd, const char *inc, struct err *e);

/* Takes what PIPE has now, as far as SPOOL_BACKLOG_MAX allows. 1: something came, 0: PIPE is at its
 * end, -EAGAIN: nothing now, or no room. -ENOSPC: the filesystem is full, the pipe keeps its bytes.
 */
int spool_fill(struct spool *s, int pipe, struct err *e);

static inline uint64_t spool_backlog(const struct spool *s)
{
    return s->size - s->pos;
}

/* Up to CAP bytes from where the record ends. The count or -errno. */
ssize_t spool_peek(const struct spool *s, void *buf, size_t cap, struct err *e);
/* LEN more bytes are on record. */
void spool_consume(struct spool *s, uint64_t len);

#endif

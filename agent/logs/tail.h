/* tail.h - the newest lines of one app, on record: two files, APP.GEN.tail, the newer one grows.
 *
 * A file is a line of magic and then records (record.h), the first of them a checkpoint: every
 * position that the app's older records gave. So a file says by itself how far each spool is on
 * record, and the older one can go at any time. A record that a kill tore off at the end is cut
 * when the file is read again. */
#ifndef LOGS_TAIL_H
#define LOGS_TAIL_H

#include "base/err.h"
#include "base/logproto.h"
#include "base/name.h"
#include "logs/record.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TAIL_BYTES_DEFAULT (1u << 20) /* of one file, over which the next is begun */
#define TAIL_BYTES_MIN     (4u << 10)
#define TAIL_BYTES_MAX     LOG_TAIL_BYTES_MAX

struct tail;

/* An app's tail below DIRFD (borrowed), without any file yet. */
int tail_new(int dirfd, const char *app, uint64_t max_bytes, struct tail **ret, struct err *e);
void tail_freep(struct tail **t);

/* APP and GEN of the file NAME in the directory; false when it is none. */
bool tail_name_parse(const char *name, char app[APP_NAME_MAX + 1], uint64_t *ret_gen);
/* The directory holds generation GEN: the two newest are kept, older ones removed. */
void tail_found(struct tail *t, uint64_t gen);
/* Reads what was found, oldest record first, cutting off what is torn (*ret_cut bytes). A file that
 * is no tail is set aside as NAME.bad; then the result is -EBADMSG and the tail goes on without. */
int tail_load(struct tail *t, void (*on_record)(void *userdata, const struct record *r),
              void *userdata, uint64_t *ret_cut, struct err *e);

/* There is no file, or it is full: call tail_rotate() before the next tail_append(). */
bool tail_full(const struct tail *t);
/* Begins a new file with CHECKPOINT, records in a row, and drops the oldest. */
int tail_rotate(struct tail *t, const void *checkpoint, size_t len, struct err *e);
/* Writes RECORDS, whole ones in a row. On success they are on record; else none of them is, unless
 * this process dies before it has said so. */
int tail_append(struct tail *t, const void *records, size_t len, struct err *e);
/* Removes all files. */
int tail_remove(struct tail *t, struct err *e);
/* Removes the older file. */
int tail_remove_older(struct tail *t, struct err *e);

/* Walks a tail backwards, from its last record at the time of the call. */
struct tail_view {
    struct {
        const unsigned char *data;
        size_t len;  /* of the mapping */
        size_t left; /* not walked yet */
    } file[2];       /* the newer one first */
};
int tail_view_open(const struct tail *t, struct tail_view *ret, struct err *e);
/* False: that was the first. *ret points into the view. */
bool tail_view_prev(struct tail_view *v, struct record *ret);
void tail_view_done(struct tail_view *v);

#endif

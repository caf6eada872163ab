/* record.h - one entry of an app's tail, as bytes in a file.
 *
 * A record is written whole or torn, never changed. It carries its length at both ends (so that a
 * tail can be walked backwards) and a CRC over everything else. Byte order is the machine's: the
 * file never leaves it. */
#ifndef LOGS_RECORD_H
#define LOGS_RECORD_H

#include "base/logproto.h"
#include "base/name.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum record_kind {
    RECORD_APP = 1,  /* a line of the app: INC's spool is on record up to END */
    RECORD_PLATFORM, /* a line of the platform, with its SEQ */
    RECORD_POSITION, /* no line: INC's spool is on record up to END */
    RECORD_SEQ,      /* no line: the platform's lines are on record up to SEQ */
};

struct record {
    enum record_kind kind;
    uint64_t t;       /* CLOCK_REALTIME, microseconds */
    uint64_t seq;     /* RECORD_PLATFORM, RECORD_SEQ */
    uint64_t end;     /* RECORD_APP, RECORD_POSITION: an offset in the spool */
    const char *dyno; /* "web.1"; not NUL-terminated, as the next two */
    size_t dyno_len;
    const char *inc;
    size_t inc_len;
    const char *text;
    size_t text_len;
};

#define RECORD_DYNO_MAX (TYPE_NAME_MAX + 1 + 7)
#define RECORD_FIXED    44u /* bytes of a record without its strings */
#define RECORD_OVERHEAD (RECORD_FIXED + RECORD_DYNO_MAX + LOG_INC_MAX)
#define RECORD_MAX      (RECORD_OVERHEAD + LOG_LINE_MAX)

size_t record_size(const struct record *r);
/* Writes R to OUT, which has record_size() bytes. R is within the limits above. Returns the size.
 */
size_t record_encode(const struct record *r, void *out);

/* The record that starts at DATA; *ret points into it. Returns its size; -EBADMSG: torn, damaged,
 * or no record. CHECK false leaves the CRC out, for what this process has checked or written. */
ssize_t record_decode(const void *data, size_t len, bool check, struct record *ret);
/* The record that ends at DATA + LEN. */
ssize_t record_decode_last(const void *data, size_t len, struct record *ret);

static inline bool record_is_line(const struct record *r)
{
    return r->kind == RECORD_APP || r->kind == RECORD_PLATFORM;
}

#endif

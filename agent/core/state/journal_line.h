/* journal_line.h - one line of the journal, "CRC32 LENGTH JSON\n": making it, and reading a file of
 * them of which nothing is sure. */
#ifndef CORE_JOURNAL_LINE_H
#define CORE_JOURNAL_LINE_H

#include "base/err.h"
#include "base/str.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* CRC-32 as of zlib and IEEE 802.3 (reflected, polynomial 0xEDB88320). */
uint32_t crc32_of(const void *data, size_t len);

/* Adds the line of JSON to OUT. -EMSGSIZE: over JOURNAL_LINE_MAX. */
int line_encode(const json_t *json, struct str *out, struct err *e);

struct line_reader {
    int fd; /* borrowed, read from its position on */
    char *buf;
    size_t cap, start, end; /* unread: buf[start..end) */
    off_t offset;           /* in the file, of buf[start]: where the next line begins */
    bool eof;
};

void line_reader_done(struct line_reader *r);

enum line_kind {
    LINE_END,  /* the file ended after a whole line, or is empty */
    LINE_GOOD, /* *ret_json is the caller's */
    LINE_BAD,  /* from r->offset on nothing is to be trusted; *ret_why says it, a static string */
};

/* Reads the next line. Negative: the file cannot be read, or no memory. */
int line_next(struct line_reader *r, enum line_kind *ret, json_t **ret_json, const char **ret_why,
              struct err *e);

#endif

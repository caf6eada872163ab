/* progress.h - how far a download is, for people: rate, time left, a bar. Pure: the time comes in,
 * text goes out. */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>

/* {0} has not begun. Times are any clock's usec. */
struct progress {
    uint64_t begun, at, bytes;
    double rate; /* bytes a second, of the last few seconds; 0: not known yet */
    uint64_t total;
    bool has_total;
};

/* BYTES are there at NOW, of TOTAL (below 0: not known). */
void progress_update(struct progress *p, uint64_t now, uint64_t bytes, int64_t total);

/* "[#####-----]  52%  76.4 of 147 MB  112 MB/s  0:01 left", at most WIDTH columns: without the bar
 * where there is no room, or no total. WIDTH 0: as wide as it gets, without a bar. */
void progress_line(const struct progress *p, unsigned width, struct str *out);

/* Whole per cent; -1: the total is not known. */
int progress_percent(const struct progress *p);

#endif

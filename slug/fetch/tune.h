/* tune.h - how many connections a download asks for: TUNE_FIRST at first, twice as many as long as
 * that made it clearly faster. To a store that is far away, up to sixteen times as many from the
 * beginning: TCP's slow start takes each connection many round trips (RFC 5681, 3.1), and so would
 * finding out. Pure. */
#ifndef SLUG_FETCH_TUNE_H
#define SLUG_FETCH_TUNE_H

#include <stdbool.h>
#include <stdint.h>

#define TUNE_FIRST       4u
#define TUNE_FAR_USEC    20000u  /* from a request to its answer */
#define TUNE_WINDOW_USEC 200000u /* one measurement */
#define TUNE_GAIN        20u     /* percent, to be worth as many connections again */

struct tune {
    unsigned wanted, max;
    bool settled;
    bool measuring;
    uint64_t since, bytes; /* the measurement's start */
    uint64_t rate;         /* bytes a second before the last doubling; 0: none yet */
};

/* WAIT: microseconds from a request to the first byte of its answer. */
void tune_init(struct tune *t, unsigned max, uint64_t wait);
/* The shortest part that is worth a request of its own, when MOST is the longest: half of that, but
 * far away an eighth: a connection there has not even got up to speed after so many bytes, so it
 * is the number of connections that counts. */
uint64_t tune_part_least(uint64_t wait, uint64_t most);
/* BYTES have come by NOW (microseconds); FLOWING connections give some. A measurement begins when
 * all that are wanted do. */
void tune_step(struct tune *t, uint64_t now, uint64_t bytes, unsigned flowing);
/* The store wants fewer: never more than N again. */
void tune_limit(struct tune *t, unsigned n);

#endif

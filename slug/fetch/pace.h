/* pace.h - how fast a connection is, and what is to be expected of a new one. Pure: times are
 * microseconds of any one clock. */
#ifndef SLUG_FETCH_PACE_H
#define SLUG_FETCH_PACE_H

#include <stdbool.h>
#include <stdint.h>

struct pace {
    uint64_t began;        /* the transfer */
    uint64_t since, bytes; /* the measurement's start, and what had come by then */
    uint64_t rate; /* bytes a second in the last measurement; 0: none yet, or nothing came */
    bool settled;  /* it no longer grows: TCP's slow start (RFC 5681, 3.1) is over */
};

void pace_start(struct pace *p, uint64_t now);
/* GOT bytes have come; WAIT is the round trip. To be called now and then. */
void pace_note(struct pace *p, uint64_t now, uint64_t got, uint64_t wait);
/* How long LEFT more bytes take if it goes on as it did. */
uint64_t pace_left(const struct pace *p, uint64_t now, uint64_t got, uint64_t left);
/* How long a new connection is about to take for LEN bytes when nothing but the distance slows it
 * down: what it may have under way doubles with each round trip, WAIT; its first byte comes after
 * FIRST. */
uint64_t pace_fresh(uint64_t first, uint64_t wait, uint64_t len);

#endif

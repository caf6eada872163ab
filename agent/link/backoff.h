/* backoff.h - how long to wait after all endpoints have failed: full jitter, so that a fleet whose
 * controller was away does not come back in step. Pure. */
#ifndef LINK_BACKOFF_H
#define LINK_BACKOFF_H

#include "base/clock.h"

#define BACKOFF_BASE_USEC (USEC_PER_SEC / 2)
#define BACKOFF_MAX_USEC  (60 * USEC_PER_SEC)

/* A time between 0 and min(BACKOFF_MAX_USEC, BACKOFF_BASE_USEC * 2^ROUND), both included; ROUND
 * counts from 0, RANDOM is 64 random bits. */
uint64_t backoff_usec(unsigned round, uint64_t random);

#endif

/* restart.h - when a crashed dyno runs again. Pure.
 *
 * The first restart is immediate; later ones wait min(max, first * 2^(n-1)), n from 1, with full
 * jitter over the upper half, so that a fleet that crashed together does not come back together. A
 * run that stayed up for `reset` clears the count; so do a release, a restart command, and scaling
 * to 0 and back. */
#ifndef CORE_RESTART_H
#define CORE_RESTART_H

#include <stdint.h>

struct restart_policy {
    uint64_t delay, delay_max; /* microseconds: of the second restart, and the cap */
    uint64_t reset;            /* microseconds; 0: only the agent's commands clear the count */
};

struct restart_state {
    unsigned crashes; /* in a row */
};

/* A run ended by itself after having been up for UP_USEC (0: never up). RANDOM: 64 random bits.
 * Counts the crash in *S and returns the delay before the next start, in microseconds, within
 * [half, full] of the formula above. To clear the count: *S = {0}. */
uint64_t restart_delay(const struct restart_policy *p, struct restart_state *s, uint64_t up_usec,
                       uint64_t random);

#endif

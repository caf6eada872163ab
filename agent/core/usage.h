/* usage.h - arithmetic on what the kernel counts. Pure: `now` is CLOCK_BOOTTIME usec. */
#ifndef CORE_USAGE_H
#define CORE_USAGE_H

#include <stdbool.h>
#include <stdint.h>

/* CPU time as it was at two moments; {0} is one that has seen nothing. */
struct cpu_meter {
    struct cpu_mark {
        uint64_t cpu_usec, at; /* at 0: not there */
    } last, before;
};

/* The counter is CPU_USEC now. */
void cpu_meter_mark(struct cpu_meter *m, uint64_t cpu_usec, uint64_t now);
/* Percent of one core since the last mark, or since the one before where the last is younger than a
 * second; FROM, when nothing was marked, is when the counter began (0: not known). 0: no telling.
 */
double cpu_meter_percent(const struct cpu_meter *m, uint64_t cpu_usec, uint64_t from, uint64_t now);

/* Whether what HELD bytes are held of fits into MAX; 0: no limit. */
bool usage_fits(uint64_t held, uint64_t max);

#endif

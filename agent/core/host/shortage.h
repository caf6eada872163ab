/* shortage.h - whether memory is too short for what is only kept ahead (spares.h). */
#ifndef CORE_SHORTAGE_H
#define CORE_SHORTAGE_H

#include "isolate/cgroup.h"

#include <stdbool.h>
#include <stdint.h>

/* What the kernel says at one moment. */
struct memory_view {
    uint64_t available;       /* of the machine, bytes: MemAvailable; UINT64_MAX: not known */
    struct cgroup_room level; /* of the cgroups that the dynos and the agent are in */
    double
        pressure; /* percent of the last 10 s in which somebody waited for memory; 0: not known */
};

/* Some 100 microseconds. */
void memory_look(const struct cgroup_tree *t, struct memory_view *ret);

/* --- pure ------------------------------------------------------------------------------------ */

/* Whether it is short: less than KEEP_FREE is left, or less than four times that and the kernel
 * says that processes wait for it. Pressure alone is no shortage: a dyno that thrashes at its own
 * limit waits too, and takes nothing from anybody. IS_SHORT: it was, and for that to be over there
 * must be a quarter more, and half the pressure. KEEP_FREE 0: never. */
bool memory_is_short(const struct memory_view *v, uint64_t keep_free, bool is_short);

#define MEMORY_TEXT_MAX 400
/* "48.0 MB of memory are left on the machine, processes waited ...", "... in /sys/fs/cgroup/dynod,
 * ...". Returns OUT. */
char *memory_text(const struct memory_view *v, char out[MEMORY_TEXT_MAX]);

/* Of /proc/meminfo; UINT64_MAX: it does not say. */
uint64_t memory_available(const char *meminfo);
/* Of /proc/pressure/memory, the line "some", avg10. Kernel: Documentation/accounting/psi.rst. */
double memory_pressure(const char *psi);

#endif

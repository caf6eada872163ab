/* slots.h - small numbers out of a range, each given once: uids and ports. Pure. */
#ifndef CORE_SLOTS_H
#define CORE_SLOTS_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct slots {
    uint32_t first, last;
    uint32_t
        next; /* where the search goes on: a number given back is not given out again at once */
    uint64_t *taken;
};

int slots_init(struct slots *s, uint32_t first, uint32_t last, struct err *e);
void slots_done(struct slots *s);
/* The next free number. -ENOSPC. */
int slots_get(struct slots *s, uint32_t *ret);
/* Marks N as given; false when it is out of range or given already. */
bool slots_take(struct slots *s, uint32_t n);
/* Numbers out of the range are ignored: an older configuration's. */
void slots_put(struct slots *s, uint32_t n);
/* How many are given. Of an S that was never made: none. */
uint32_t slots_taken(const struct slots *s);

#endif

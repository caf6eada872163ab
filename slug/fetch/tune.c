#include "slug/fetch/tune.h"

#include "base/clock.h"

void tune_init(struct tune *t, unsigned max, uint64_t wait)
{
    unsigned times = wait < TUNE_FAR_USEC       ? 1
                     : wait < 2 * TUNE_FAR_USEC ? 2
                     : wait < 4 * TUNE_FAR_USEC ? 4
                                                : 16;
    unsigned first = TUNE_FIRST * times;

    *t = (struct tune){.wanted = max < first ? max : first, .max = max};
}

uint64_t tune_part_least(uint64_t wait, uint64_t most)
{
    return wait < 2 * TUNE_FAR_USEC ? most / 2 : most / 8;
}

void tune_step(struct tune *t, uint64_t now, uint64_t bytes, unsigned flowing)
{
    if (t->settled || flowing < t->wanted)
        return;
    if (!t->measuring) {
        t->measuring = true;
        t->since = now;
        t->bytes = bytes;
    }
    uint64_t took = now > t->since ? now - t->since : 0;
    if (took < TUNE_WINDOW_USEC)
        return;
    uint64_t rate = (bytes - t->bytes) * USEC_PER_SEC / took;
    t->measuring = false;
    t->settled = t->wanted >= t->max || (t->rate > 0 && rate < t->rate + t->rate * TUNE_GAIN / 100);
    if (t->settled)
        return;
    t->rate = rate > 0 ? rate : 1;
    t->wanted = t->wanted * 2 < t->max ? t->wanted * 2 : t->max;
}

void tune_limit(struct tune *t, unsigned n)
{
    t->max = n < 1 ? 1 : n < t->max ? n : t->max;
    if (t->wanted > t->max)
        t->wanted = t->max;
    t->settled = true;
}

#include "core/usage.h"

#include "base/clock.h"

void cpu_meter_mark(struct cpu_meter *m, uint64_t cpu_usec, uint64_t now)
{
    if (m->last.at)
        m->before = m->last;
    m->last = (struct cpu_mark){.cpu_usec = cpu_usec, .at = now};
}

double cpu_meter_percent(const struct cpu_meter *m, uint64_t cpu_usec, uint64_t from, uint64_t now)
{
    struct cpu_mark since = m->last;

    if (since.at && now - since.at < USEC_PER_SEC)
        since = m->before;
    if (!since.at)
        since = (struct cpu_mark){.cpu_usec = 0, .at = from};
    /* Another run's mark, or a counter that was lost, tells nothing. */
    if (!since.at || now <= since.at || cpu_usec < since.cpu_usec)
        return 0;
    return 100.0 * (double)(cpu_usec - since.cpu_usec) / (double)(now - since.at);
}

bool usage_fits(uint64_t held, uint64_t max)
{
    return max == 0 || held <= max;
}

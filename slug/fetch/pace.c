#include "slug/fetch/pace.h"

#include "base/clock.h"

#define WINDOW_USEC  (200 * USEC_PER_MSEC) /* one measurement, and a round trip more */
#define FIRST_WINDOW 14600u /* what a connection may send before it hears of it: RFC 6928 */

void pace_start(struct pace *p, uint64_t now)
{
    *p = (struct pace){.began = now, .since = now};
}

void pace_note(struct pace *p, uint64_t now, uint64_t got, uint64_t wait)
{
    if (now < p->since + WINDOW_USEC + wait)
        return;
    uint64_t rate = (got - p->bytes) * USEC_PER_SEC / (now - p->since);

    p->settled = p->since > p->began && rate <= p->rate + p->rate / 2;
    p->rate = rate;
    p->since = now;
    p->bytes = got;
}

uint64_t pace_left(const struct pace *p, uint64_t now, uint64_t got, uint64_t left)
{
    uint64_t took = now > p->began ? now - p->began : 1;

    if (p->rate > 0)
        return left * USEC_PER_SEC / p->rate;
    return got == 0 ? took : left * took / got;
}

uint64_t pace_fresh(uint64_t first, uint64_t wait, uint64_t len)
{
    uint64_t usec = first;

    for (uint64_t n = len / FIRST_WINDOW; n > 0; n /= 2)
        usec += wait;
    return usec;
}

#include "core/policy/restart.h"

#include <limits.h>

/* min(max, first * 2^n), without overflow whatever n is. */
static uint64_t backoff(uint64_t first, uint64_t max, unsigned n)
{
    uint64_t delay = first;

    for (; n > 0 && delay > 0 && delay < max; n--)
        delay = delay > UINT64_MAX / 2 ? UINT64_MAX : delay * 2;
    return delay < max ? delay : max;
}

uint64_t restart_delay(const struct restart_policy *p, struct restart_state *s, uint64_t up_usec,
                       uint64_t random)
{
    if (p->reset > 0 && up_usec >= p->reset)
        s->crashes = 0;
    if (s->crashes < UINT_MAX)
        s->crashes++;
    if (s->crashes == 1)
        return 0;
    uint64_t full = backoff(p->delay, p->delay_max, s->crashes - 2);
    uint64_t half = full / 2;
    /* The modulo's bias is below 2^-20 for any delay under half a year. */
    return full - random % (half + 1);
}

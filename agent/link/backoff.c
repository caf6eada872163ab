#include "link/backoff.h"

uint64_t backoff_usec(unsigned round, uint64_t random)
{
    uint64_t top = BACKOFF_BASE_USEC;

    while (round-- > 0 && top < BACKOFF_MAX_USEC)
        top *= 2;
    if (top > BACKOFF_MAX_USEC)
        top = BACKOFF_MAX_USEC;
    return random % (top + 1);
}

#include "base/clock.h"

#include <stdio.h>
#include <sys/random.h>
#include <time.h>

static uint64_t clock_usec(clockid_t id)
{
    struct timespec ts;

    (void)clock_gettime(id, &ts); /* cannot fail for these clocks */
    return (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / 1000;
}

uint64_t clock_boot(void)
{
    return clock_usec(CLOCK_BOOTTIME);
}

uint64_t clock_real(void)
{
    return clock_usec(CLOCK_REALTIME);
}

char *clock_text(uint64_t real_usec, char out[CLOCK_TEXT_MAX])
{
    time_t sec = (time_t)(real_usec / USEC_PER_SEC);
    struct tm tm;
    size_t n;

    if (!gmtime_r(&sec, &tm))
        tm = (struct tm){.tm_mday = 1, .tm_year = 70};
    n = strftime(out, CLOCK_TEXT_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
    (void)snprintf(out + n, CLOCK_TEXT_MAX - n, ".%06u+00:00",
                   (unsigned)(real_usec % USEC_PER_SEC));
    return out;
}

uint64_t random_u64(void)
{
    uint64_t value = 0;

    while (getrandom(&value, sizeof(value), 0) != sizeof(value))
        ;
    return value;
}

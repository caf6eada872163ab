/* virtual_time.h - a test whose time passes only while its event loop waits, and then at once: no
 * machine is too slow for it, and a minute costs nothing. For tests whose events are timers and
 * calls, no other processes: these live in another time.
 *
 * Included once, it takes the place of what sd-event and clock.h ask the C library for. */
#ifndef TESTS_VIRTUAL_TIME_H
#define TESTS_VIRTUAL_TIME_H

#include "base/clock.h"

#include <assert.h>
#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define VIRTUAL_TIMERS 8
#define VIRTUAL_BEGIN  UINT64_C(1795262400000000)
#define VIRTUAL_TURN   10 /* us that each turn of a loop costs: one that does not wait is seen */

static struct {
    uint64_t passed; /* us */
    struct {
        int fd;
        uint64_t at; /* of all clocks; USEC_NEVER: not set */
    } timers[VIRTUAL_TIMERS];
    unsigned n_timers;
} virtual_time;

static uint64_t virtual_now(void)
{
    return VIRTUAL_BEGIN + virtual_time.passed;
}

static void virtual_at(const struct timespec *ts, uint64_t *ret)
{
    *ret = (uint64_t)ts->tv_sec * USEC_PER_SEC + ((uint64_t)ts->tv_nsec + 999) / 1000;
}

int clock_gettime(clockid_t id, struct timespec *ts)
{
    uint64_t now = virtual_now();

    (void)id;
    ts->tv_sec = (time_t)(now / USEC_PER_SEC);
    ts->tv_nsec = (long)(now % USEC_PER_SEC * 1000);
    return 0;
}

/* Makes the timer readable, or not. */
static int virtual_ring(int fd, bool now)
{
    struct itimerspec past = {.it_value.tv_nsec = now ? 1 : 0};

    return (int)syscall(SYS_timerfd_settime, fd, TFD_TIMER_ABSTIME, &past, NULL);
}

int timerfd_settime(int fd, int flags, const struct itimerspec *when, struct itimerspec *old)
{
    unsigned i = 0;

    (void)old;
    while (i < virtual_time.n_timers && virtual_time.timers[i].fd != fd)
        i++;
    assert(i < VIRTUAL_TIMERS && !when->it_interval.tv_sec && !when->it_interval.tv_nsec);
    if (i == virtual_time.n_timers)
        virtual_time.n_timers++;
    uint64_t at;
    virtual_at(&when->it_value, &at);
    at = at == 0 ? USEC_NEVER : flags & TFD_TIMER_ABSTIME ? at : virtual_now() + at;
    virtual_time.timers[i].fd = fd;
    virtual_time.timers[i].at = at;
    return virtual_ring(fd, at <= virtual_now());
}

/* Lets USEC pass, less if a timer ends before. */
static void virtual_pass(uint64_t usec)
{
    uint64_t until = virtual_now() + usec;

    for (unsigned i = 0; i < virtual_time.n_timers; i++)
        if (virtual_time.timers[i].at < until)
            until = virtual_time.timers[i].at;
    if (until > virtual_now())
        virtual_time.passed = until - VIRTUAL_BEGIN;
    for (unsigned i = 0; i < virtual_time.n_timers; i++)
        if (virtual_time.timers[i].at <= virtual_now()) {
            virtual_time.timers[i].at = USEC_NEVER;
            (void)virtual_ring(virtual_time.timers[i].fd, true);
        }
}

static int virtual_wait(int epfd, struct epoll_event *events, int max, uint64_t usec)
{
    virtual_pass(VIRTUAL_TURN);
    int r = (int)syscall(SYS_epoll_pwait, epfd, events, max, 0, NULL, 0);

    if (r != 0 || usec == 0)
        return r;
    virtual_pass(usec);
    return (int)syscall(SYS_epoll_pwait, epfd, events, max, 0, NULL, 0);
}

int epoll_wait(int epfd, struct epoll_event *events, int max, int timeout)
{
    assert(timeout >= 0);
    return virtual_wait(epfd, events, max, (uint64_t)timeout * USEC_PER_MSEC);
}

/* What later versions of sd-event call. */
int epoll_pwait2(int epfd, struct epoll_event *events, int max, const struct timespec *timeout,
                 const sigset_t *mask)
{
    uint64_t usec;

    assert(timeout && !mask);
    virtual_at(timeout, &usec);
    return virtual_wait(epfd, events, max, usec);
}

#endif

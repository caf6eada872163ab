/* hello-byte.c - the smallest thing to start: its first instruction writes one byte to standard
 * output, then it exits; `hello-byte stay` stays. `hello-byte stamp` writes "S NANOSECONDS" at its
 * start and "E NANOSECONDS" before its end (CLOCK_MONOTONIC), for a reader that was not there;
 * `hello-byte now` only the first of them.
 * Linked with isolate/init/start.c, no libc. */
#include "isolate/init/sys.h"

#include <linux/time.h>

static void stamp(char what)
{
    struct __kernel_timespec t = {0};
    char line[32];
    int i = sizeof(line);

    (void)sys2(__NR_clock_gettime, CLOCK_MONOTONIC, &t);
    unsigned long n = (unsigned long)t.tv_sec * 1000000000 + (unsigned long)t.tv_nsec;
    line[--i] = '\n';
    do
        line[--i] = (char)('0' + n % 10);
    while (n /= 10);
    line[--i] = ' ';
    line[--i] = what;
    (void)sys3(__NR_write, 1, line + i, sizeof(line) - (unsigned)i);
}

int start_main(int argc, char **argv)
{
    if (argc > 1 && argv[1][2] == 'a' && argv[1][3] == 'm') {
        struct __kernel_timespec pause = {
            .tv_nsec = 15000000}; /* long enough up for an immediate restart */

        stamp('S');
        (void)sys2(__NR_nanosleep, &pause, NULL);
        stamp('E');
        return 1;
    }
    if (argc > 1 && argv[1][0] == 'n') {
        stamp('S');
        return 0;
    }
    (void)sys3(__NR_write, 1, "x", 1);
    while (argc > 1)
        (void)sys5(__NR_ppoll, NULL, 0, NULL, NULL, 0);
    return 0;
}

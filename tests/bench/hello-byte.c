/* hello-byte.c - the smallest thing to start: writes one byte to standard output, then exits, or
 * with an argument stays. Linked with isolate/init/start.c, no libc. */
#include "isolate/init/sys.h"

int start_main(int argc, char **argv)
{
    (void)argv;
    (void)sys3(__NR_write, 1, "x", 1);
    while (argc > 1)
        (void)sys5(__NR_ppoll, NULL, 0, NULL, NULL, 0);
    return 0;
}

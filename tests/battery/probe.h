/* probe.h - the attacks. A probe returns 0 when its attack succeeded, else the errno that stopped
 * it, or STOPPED when nothing said no and it still came to nothing. */
#ifndef TESTS_PROBE_H
#define TESTS_PROBE_H

#include <errno.h>

#define STOPPED EXDEV /* an errno that none of the guards gives */
#define KILLED  1000  /* and the signal */

struct attack {
    const char *name;
    int (*run)(void);
};

/* "NAME=value" of the command line: what the test says of its canaries. "" when it says nothing. */
const char *told(const char *name);
long told_number(const char *name);

static inline int result(long r)
{
    return r < 0 ? errno : 0;
}

extern const struct attack file_probes[], process_probes[], kernel_probes[], runtime_probes[];

/* probe_syscalls.c: every system call number, asked for in earnest. Prints "ABI NUMBER ANSWER". */
int every_syscall(void);
/* probe_state.c: what was inherited, a line each. */
int print_state(void);
/* probe_exhaust.c: takes all there is of WHAT and stays, or takes one. */
int exhaust(const char *what);
int take_one(const char *what);
/* Daemons that ignore SIGTERM, and N zombies. */
int be_hard_to_kill(int n);

#endif

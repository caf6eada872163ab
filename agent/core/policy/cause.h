/* cause.h - why a dyno ended, and whose doing it was. Pure: from what is known about one end to the
 * one cause and fault that are recorded (promise 5). */
#ifndef CORE_CAUSE_H
#define CORE_CAUSE_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

/* What is known about an end. */
struct end_facts {
    bool started;      /* the command was executed */
    bool status_known; /* status is the command's wait status */
    int status;
    int start_errno;    /* not 0: execve failed */
    bool told_to_stop;  /* an operator's command, or a replacement */
    bool boot_timeout;  /* R10 */
    bool exit_timeout;  /* R12 */
    uint64_t oom_kills; /* processes that the kernel killed for memory: */
    bool oom_own;       /* for the dyno's own limit; false: the machine had none */
    bool over;          /* it held more memory than its limit where the kernel does not kill */
    bool oneoff;
    bool attach_failed; /* R13: nobody came to its terminal, so it was told to stop */
    bool detached;      /* R16: its client went away and it ignored SIGHUP */
    const struct err
        *failed; /* not NULL: the start failed in a step of ours, or the slug's fetch did */
};

struct end_cause {
    const char *name; /* "stopped", "exited", "signalled", "boot-timeout", "exit-timeout", "memory",
                       * "machine-memory", "complete", "start-failed", "init-lost", "detached",
                       * "attach-failed" */
    enum fault fault;
    int exit_status;              /* as a shell has it: 128 + signal; -1: none */
    char text[ERR_TEXT_MAX + 64]; /* one sentence for a person */
};

void end_classify(const struct end_facts *facts, struct end_cause *ret);

#endif

/* launch.h - the launch record: a command and its environment for dyno-init, in a sealed memfd, so
 * that config vars never appear in an argv or a readable file. Format: initproto.h. */
#ifndef ISOLATE_LAUNCH_H
#define ISOLATE_LAUNCH_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct launch {
    char *const
        *argv; /* NULL-terminated; argv[0] is looked up in the PATH of env when it has no '/' */
    char *const *env; /* NULL-terminated "NAME=value" */
    bool tty;
    uint16_t rows, cols; /* of the terminal; 0: unknown */
};

/* *ret_fd: the sealed memfd, the caller's. -E2BIG: over INIT_LAUNCH_MAX or one string over what
 * execve(2) takes (131,072 bytes with its NUL); the operator's fault, the text names the variable.
 */
int launch_memfd(const struct launch *launch, int *ret_fd, struct err *e);

/* The platform's shell form of COMMAND: `bash --login -c COMMAND`, or `/bin/sh
 * -l -c COMMAND` when the stack has no bash. ARGV gets 5 entries, the last NULL; strings are
 * borrowed. */
void launch_shell(bool stack_has_bash, const char *command, const char *argv[5]);

#endif

/* seccomp_table.h - the table of seccomp.h; private to seccomp.c and seccomp_table.c. */
#ifndef ISOLATE_SECCOMP_TABLE_H
#define ISOLATE_SECCOMP_TABLE_H

#include "isolate/seccomp.h"

#include <stdbool.h>

struct syscall_group {
    const char *why;
    enum verdict verdict;
    const char *const *names; /* NULL-terminated */
};
const struct syscall_group *filter_groups(size_t *ret_n);

/* "if ((low 32 bits of argument ARG & MASK) == VALUE) is not NEGATED: return ERRNUM (0: allow)".
 * HIGH: the other half, which only pointers and sizes have. */
struct term {
    unsigned arg;
    uint32_t mask;
    uint32_t value;
    bool negated;
    bool high;
    int errnum;
};
#define TERMS_MAX 12
#define PRETEND   (-1) /* as an errnum: the call succeeds and does nothing */

/* A system call whose arguments decide: the first term that holds, else OTHERWISE (0: allow). */
struct syscall_check {
    const char *name;
    size_t n_terms;
    struct term terms[TERMS_MAX];
    int otherwise;
};
const struct syscall_check *filter_checks(size_t *ret_n);

/* Calls newer than the libseccomp of the oldest supported system; from 424 on a number is the same
 * on every architecture. */
struct syscall_number {
    const char *name;
    int number;
};
const struct syscall_number *filter_new_numbers(size_t *ret_n);

#endif

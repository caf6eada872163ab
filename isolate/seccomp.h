/* seccomp.h - the system calls that a dyno may make: one table, compiled once to a BPF program that
 * is loaded at every start.
 *
 * libseccomp resolves the names. The program is generated here, because libseccomp cannot say
 * "everything but these values of the low 32 bits", which is what ioctl(2) and socket(2) need (the
 * kernel ignores the high half of these arguments, so must the filter), and because the kernel
 * checks and translates the program anew at every start: a search over ranges of numbers is half of
 * libseccomp's tree in length and loads in half the time (an eighth of its list's). */
#ifndef ISOLATE_SECCOMP_H
#define ISOLATE_SECCOMP_H

#include "base/err.h"

#include <linux/filter.h>
#include <stddef.h>
#include <stdint.h>

/* What the table says. Anything that it does not name is ENOSYS, as on a kernel without it. */
enum verdict {
    VERDICT_UNKNOWN, /* ENOSYS */
    VERDICT_ALLOW,
    VERDICT_DENY,   /* EPERM */
    VERDICT_KILL,   /* the process: nothing honest calls it */
    VERDICT_NOSYS,  /* ENOSYS, on purpose: callers have a fallback */
    VERDICT_CHECKED /* depends on arguments */
};

/* Compiles for ARCH (AUDIT_ARCH_X86_64, AUDIT_ARCH_AARCH64). *ret: filter to free(). */
int filter_compile(uint32_t arch, struct sock_fprog *ret, struct err *e);
/* The architecture that this program was built for. */
uint32_t filter_native_arch(void);
/* Loads it for the calling thread, which has no_new_privs. 0 or -errno. Async-signal-safe. */
int filter_load(const struct sock_fprog *program);

/* The table itself, for the tests: entry I, or NULL past the end. */
const char *filter_table_entry(size_t i, enum verdict *ret_verdict);
/* The number of the system call NAME on ARCH; negative: it has none. */
int filter_number(uint32_t arch, const char *name);

#endif

/* landlock.h - the second wall around a dyno's files: landlock(7). What a dyno may write to is said
 * once more, by the tree, beside the mounts that say it: a mount that turns out writable by our or
 * the kernel's mistake is not written to, and a descriptor that leads out of the dyno's root leads
 * nowhere. It also forbids every change of mounts, tracing anything outside of the dyno, and, from
 * ABI 6 on, signals to and abstract Unix sockets of anything outside. */
#ifndef ISOLATE_LANDLOCK_H
#define ISOLATE_LANDLOCK_H

#include "base/err.h"

/* The kernel's ABI, or 0: no landlock, or one that would break apps (ABI 1 knows no rename or hard
 * link from one directory to another). */
int landlock_abi(void);

/* Confines the calling thread, which has no_new_privs and is in the dyno's root, for good. INIT_FD:
 * dyno-init, which lies outside of that and may be executed nevertheless. ABI is not 0.
 * Async-signal-safe. */
int landlock_enter(int abi, int init_fd, struct err *e);
/* The rules that landlock_enter() enters, for another process to do it: landlock_restrict_self(2).
 * *ret_fd is the caller's. */
int landlock_rules(int abi, int init_fd, int *ret_fd, struct err *e);

/* Words for `dyno doctor` about ABI. */
const char *landlock_text(int abi);

#endif

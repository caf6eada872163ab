/* confine.h - what dynod-link gives up before it reads a byte from outside. It owns nothing to
 * begin with (dynod starts it as a user of its own, without capabilities); here it also gives up:
 *
 *   every capability and new privileges, core dumps and being looked at by its own user,
 *   files: by landlock, all but reading what TLS and name resolution need,
 *   system calls: by seccomp, all but what HTTP, TLS, attaches and the event loop need,
 *   memory and descriptors beyond a limit.
 *
 * A step that fails fails the start, but for landlock where the kernel has none. */
#ifndef LINK_CONFINE_H
#define LINK_CONFINE_H

#include "base/err.h"

#define LINK_NOFILE_MAX 1024         /* eight for each of 100 attaches, and the connections */
#define LINK_DATA_MAX   (1ULL << 30) /* bytes of memory */

/* After everything that is opened or loaded at the start. -EPERM: as root it does not run. */
int link_confine(struct err *e);

#endif

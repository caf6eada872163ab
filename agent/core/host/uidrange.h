/* uidrange.h - that nobody else has the uids that dynos get: a user of the machine, or somebody to
 * whom subuid(5) gives them. */
#ifndef CORE_UIDRANGE_H
#define CORE_UIDRANGE_H

#include "base/err.h"

#include <sys/types.h>

/* -EEXIST, the operator's fault, names whose they are. Reads ETC/passwd and ETC/subuid ("/etc" but
 * in tests); either may be missing. Ranges of root's and dynod's own in subuid are ours. */
int uidrange_check(const char *etc, uid_t first, uid_t last, struct err *e);

#endif

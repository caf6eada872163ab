/* slugfile.h - a slug on this machine's disk, as the CLI looks at it before it is started. */
#ifndef CLI_SLUGFILE_H
#define CLI_SLUGFILE_H

#include "base/err.h"
#include "slug/procfile.h"

/* The path that a file:// address means, or the text itself when it has no scheme. NULL: the
 * address is not of a file. */
const char *slugfile_path(const char *url);

/* The process types of the slug at URL, which must be a file's. */
int slugfile_types(const char *url, struct procfile *ret, struct err *e);

#endif

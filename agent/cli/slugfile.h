/* slugfile.h - a slug on this machine's disk, as the CLI looks at it before it is started. */
#ifndef CLI_SLUGFILE_H
#define CLI_SLUGFILE_H

#include "base/err.h"
#include "base/str.h"
#include "slug/inspect.h"

#include <jansson.h>

/* The path in a file:// address; NULL: the address is not of a file. */
const char *slugfile_path(const char *url);

/* Reads the slug file PATH. Errors begin with its name. */
int slugfile_inspect(const char *path, struct slug_report *ret, struct err *e);

/* The process types of the slug at URL, which must be a file's; the caller's. */
int slugfile_types(const char *url, struct procfile *ret, struct err *e);

/* What was found, as JSON for --json; NULL without memory. And as text. Pure. */
json_t *slugfile_json(const char *path, const struct slug_report *r);
void slugfile_text(const char *path, const struct slug_report *r, struct str *out);

#endif

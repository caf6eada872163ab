/* foreman.h - the lines of `dyno local`, as foreman's users know them:
 *     12:34:56 web.1    | text
 * The name is as wide as the longest one, each process type has its colour. Pure. */
#ifndef CLI_FOREMAN_H
#define CLI_FOREMAN_H

#include "base/str.h"
#include "slug/procfile.h"

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

struct foreman {
    const struct procfile *types; /* borrowed */
    size_t width;                 /* of the names */
    bool color;
    bool terminal; /* app output must not reach it raw */
};

/* COUNTS: dynos per type. */
void foreman_init(struct foreman *f, const struct procfile *types, const unsigned *counts,
                  bool color, bool terminal);

/* Appends one line. NAME: "web.1", or "system". WHEN is local time. */
void foreman_line(const struct foreman *f, struct str *out, const struct tm *when, const char *name,
                  const char *text, size_t len);

#endif

/* ignore.h - `.slugignore`: what stays out of a slug. A line is a glob, as in .gitignore: `*` and
 * `?` do not match `/`; one with a `/` in it matches from the top, else any name; a `/` at its end
 * matches directories only. Blank lines and `#` lines are silent. There is no `!`. Pure. */
#ifndef SLUG_IGNORE_H
#define SLUG_IGNORE_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

#define IGNORE_MAX_BYTES    (256u << 10)
#define IGNORE_MAX_PATTERNS 10000

struct ignore_pattern;
struct ignore {
    struct ignore_pattern *patterns;
    size_t n;
};

/* *ret is set on success only; the operator's fault. */
int ignore_parse(const char *text, size_t len, struct ignore *ret, struct err *e);
void ignore_done(struct ignore *i);

/* Whether PATH ("a/b", from the top) stays out. `.git` always does. */
bool ignore_matches(const struct ignore *i, const char *path, bool is_dir);

#endif

/* target.h - what the operator named: an app, or one dyno of it; paths and addresses. Pure. */
#ifndef CLI_TARGET_H
#define CLI_TARGET_H

#include "base/err.h"
#include "base/name.h"
#include "base/str.h"

#include <stdbool.h>

struct target {
    char app[APP_NAME_MAX + 1];
    char dyno[DYNO_TEXT_MAX]; /* "web.1"; "": the whole app */
};

/* "APP" or "APP/TYPE.N". -EINVAL, the operator's fault, quotes TEXT. */
int target_parse(const char *text, struct target *ret, struct err *e);
/* The same, where only "APP/TYPE.N" will do. */
int target_parse_dyno(const char *text, struct target *ret, struct err *e);

/* Appends TEXT percent-encoded for a query (RFC 3986, unreserved characters stay). */
void url_escape(struct str *out, const char *text);

/* The address of a slug: what has a scheme stays as it is, a path becomes file://ABSOLUTE, seen
 * from the directory CWD. -EINVAL: empty, or not a usable path. *ret is the caller's. */
int slug_url(const char *text, const char *cwd, char **ret, struct err *e);

#endif

/* inspect.h - what a slug holds, without unpacking it: says what a fetch of it would say. Blocking;
 * touches nothing but the file it is given. */
#ifndef SLUG_INSPECT_H
#define SLUG_INSPECT_H

#include "base/name.h"
#include "slug/archive.h"
#include "slug/procfile.h"

struct slug_report {
    struct digest digest;
    uint64_t compressed;
    struct slug_counts counts; /* entries, files, unpacked bytes */
    bool app_layout;           /* everything under ./app/, rather than at the top */
    struct procfile types;     /* with warnings */
};
void slug_report_done(struct slug_report *r);

/* Reads the slug from FD (any that read(2) takes) to its end. LIMITS NULL: those of fetch.h. Errors
 * are a fetch's, but for a Procfile that is a hard link to another file: -ENOTSUP, for its content
 * has gone by already. */
int slug_inspect(int fd, const struct slug_limits *limits, struct slug_report *ret, struct err *e);

#endif

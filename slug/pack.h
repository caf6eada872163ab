/* pack.h - makes a slug of a directory: a gzip tar with everything under `./app/`. The same
 * directory gives the same bytes: entries sorted, owners 0, modes without special bits, times to
 * the second. What `.slugignore` names stays out, and so does `.git` always. Hard links become
 * files. Blocking. */
#ifndef SLUG_PACK_H
#define SLUG_PACK_H

#include "base/err.h"
#include "base/name.h"

#include <stdint.h>
#include <stddef.h>

struct slug_packed {
    struct digest digest;
    uint64_t compressed;
    uint64_t unpacked;
    uint64_t entries;
    char **warnings; /* what could not be packed: sockets, devices */
    size_t n_warnings;
};
void slug_packed_done(struct slug_packed *p);

/* Packs the directory DIRFD into OUT_FD, which is written from where it stands and not synced. A
 * process type is not asked for: see slug/inspect.h. */
int slug_pack(int dirfd, int out_fd, struct slug_packed *ret, struct err *e);

#endif

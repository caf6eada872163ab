/* cache_priv.h - what cache.c and cache_index.c share. */
#ifndef SLUG_CACHE_PRIV_H
#define SLUG_CACHE_PRIV_H

#include "slug/cache.h"

#include <fcntl.h>

#define CACHE_META     "meta.json"
#define CACHE_APP      "app"
#define CACHE_IMG      "image"
#define CACHE_BOOT_MAX 64
#define OPEN_DIR       (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
#define OPEN_PATH_DIR  (O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

struct cache {
    struct cache_options o;
    char boot[CACHE_BOOT_MAX];
    int slugs;    /* ROOT/sha256 */
    int incoming; /* ROOT/incoming */
    struct cache_entry *all;
    size_t n, room;
};

/* NAME below DIRFD goes, by whichever way. */
int cache_discard(struct cache *c, int dirfd, const char *name, struct err *e);
/* The directory of DIGEST. */
int cache_open_entry(struct cache *c, const struct digest *digest, int *ret, struct err *e);

/* Reads all entries into memory, and drops those that are none. */
int cache_index_fill(struct cache *c, struct err *e);
/* The entry with META, put in or replaced. */
int cache_index_put(struct cache *c, const struct digest *digest, const json_t *meta,
                    uint64_t used_usec, struct err *e);
void cache_index_drop(struct cache *c, const struct digest *digest);

#endif

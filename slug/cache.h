/* cache.h - slugs by digest, on local disk. Never touches the network and never opens an archive.
 *
 *   ROOT/sha256/HEX/app/...      the unpacked slug, owned by the slug owner (see config)
 *   ROOT/sha256/HEX/meta.json    what the fetch reported: process types, sizes, warnings
 *   ROOT/incoming/RANDOM/        being filled by one dynod-fetch
 *
 * An entry that has its name is whole: the rename is the last thing that happens to it. Directories
 * are held by descriptor and no symbolic link is followed: what lies in an entry was written by an
 * unprivileged process. */
#ifndef SLUG_CACHE_H
#define SLUG_CACHE_H

#include "base/err.h"
#include "base/name.h"
#include "slug/procfile.h"

#include <jansson.h>
#include <stdint.h>
#include <sys/types.h>

struct cache;

/* Opens (makes) the cache at ROOT. OWNER owns the unpacked files: the fetch's uid. Sweeps what a
 * dead fetch left in incoming/: no fetch may run. */
int cache_open(const char *root, uid_t owner, struct cache **ret, struct err *e);
void cache_freep(struct cache **c);

/* The app directory of DIGEST. *ret_fd: O_PATH directory, the caller's. -ENOENT: not cached. */
int cache_lookup(struct cache *c, const struct digest *digest, int *ret_fd, struct err *e);

/* What the fetch reported about DIGEST: the caller's reference. -ENOENT. */
int cache_meta(struct cache *c, const struct digest *digest, json_t **ret, struct err *e);

/* A fresh directory for one fetch, owned by OWNER, mode 0700. NAME names it until published or
 * dropped; *ret_fd is an O_RDONLY directory for the fetch. */
#define CACHE_INCOMING_MAX 32
int cache_incoming(struct cache *c, char name[CACHE_INCOMING_MAX], int *ret_fd, struct err *e);

/* Publishes incoming NAME, which holds `app` and nothing else, as DIGEST, with META beside it:
 * write, sync, rename. The entry's own directory becomes the caller's, so that no process of OWNER
 * can touch META. The fetch must have exited: it could change the tree behind the digest's back. An
 * entry that exists already wins and NAME is dropped, a broken one is replaced. -EBADMSG: not what
 * a fetch leaves. */
int cache_publish(struct cache *c, const char *name, const struct digest *digest,
                  const json_t *meta, struct err *e);

/* Removes incoming NAME and all below it. Blocking: call it in a child for what may be large. */
int cache_drop(struct cache *c, const char *name, struct err *e);

/* Forgets DIGEST: out of the way by a rename, then removed. Blocking, as cache_drop(). A missing
 * one is success. Whoever runs from it keeps its files only as long as it holds the directory. */
int cache_remove(struct cache *c, const struct digest *digest, struct err *e);

/* Calls FN for each entry, with its size as its meta.json says (0: unknown) and the time it was
 * published. Stops when FN returns other than 0, and returns that. */
typedef int cache_list_fn(const struct digest *digest, uint64_t bytes, uint64_t real_usec,
                          void *userdata);
int cache_list(struct cache *c, cache_list_fn *fn, void *userdata, struct err *e);

/* --- meta.json: the "ok" object of slug/fetch.h ----------------------------------------------- */

#define SLUG_META_MAX (8u << 20) /* bytes of a meta.json */

/* The process types in META, as procfile_parse() would have given them. Checks every field: META
 * was written from the words of an unprivileged process. */
int slug_meta_types(const json_t *meta, struct procfile *ret, struct err *e);

/* The reverse, a new array for "types". A command that is not UTF-8, which JSON cannot hold, is
 * given as "command_hex" instead. NULL: no memory. */
json_t *slug_meta_types_json(const struct procfile *p);

#endif

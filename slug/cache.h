/* cache.h - slugs by digest, on local disk. Never touches the network and never opens an archive.
 *
 *   ROOT/sha256/HEX/image        the slug as a filesystem image, root's alone; or
 *   ROOT/sha256/HEX/app/...      the unpacked slug, owned by the slug owner (see config)
 *   ROOT/sha256/HEX/meta.json    what the fetch reported: process types, sizes, warnings; and what
 *                                the cache adds: "kind", "owner", "disk", "synced", "boot", "image"
 *   ROOT/incoming/RANDOM/        being filled by one fetch
 *
 * An entry that has its name is whole: the rename is the last thing that happens to it. Directories
 * are held by descriptor and no symbolic link is followed: what lies in an entry was written by an
 * unprivileged process.
 *
 * Publishing does not wait for the disk. An entry says in its meta.json whether its data are known
 * to be on the disk ("synced"), and if not, in which boot it was published: an agent of another
 * boot drops it, for the power may have gone in between. So what can be seen is complete whatever
 * moment that was; a meta.json that is itself torn makes an entry that is none.
 *
 * Nothing here waits for the disk, or removes anything large, when there is a `discard`. */
#ifndef SLUG_CACHE_H
#define SLUG_CACHE_H

#include "base/err.h"
#include "base/name.h"
#include "slug/procfile.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct cache;

enum cache_kind {
    CACHE_DIRECTORY,
    CACHE_IMAGE,
};

struct cache_options {
    const char *root;
    uid_t owner; /* whose the app's files are: on the disk, and as images have it inside */
    /* NAME below DIRFD is gone when it returns 0, at once: renamed, and removed by somebody else.
     * NULL: the cache removes it itself, however long that takes. */
    int (*discard)(void *userdata, int dirfd, const char *name, struct err *e);
    /* An entry was dropped by cache_open(). May be NULL. */
    void (*dropped)(void *userdata, const char *name, const char *why);
    void *userdata;
    const char *boot; /* NULL: the kernel's boot id */
};

/* Opens (makes) the cache. Drops what a dead fetch left in incoming/ (no fetch may run), what an
 * earlier boot published and did not sync, what another OWNER has, and what is no entry. */
int cache_open(const struct cache_options *o, struct cache **ret, struct err *e);
void cache_freep(struct cache **c);

/* The slug DIGEST. *ret_fd is the caller's: an O_PATH directory of the app, or the image, O_RDONLY.
 * -ENOENT: not cached. */
int cache_lookup(struct cache *c, const struct digest *digest, enum cache_kind *ret_kind,
                 int *ret_fd, struct err *e);

/* What the fetch reported about DIGEST: the caller's reference. -ENOENT. */
int cache_meta(struct cache *c, const struct digest *digest, json_t **ret, struct err *e);

/* DIGEST is used now. Cheap: at most one system call, and that once a minute. */
void cache_touch(struct cache *c, const struct digest *digest);

/* --- fetching ------------------------------------------------------------------------------- */

/* A place for one fetch, which NAME names until it is published or dropped. For a directory: owned
 * by OWNER, mode 0700, *ret_fd O_RDONLY. For an image: an empty file that nobody but us could open,
 * *ret_fd O_RDWR. */
#define CACHE_INCOMING_MAX 32
int cache_incoming(struct cache *c, enum cache_kind kind, char name[CACHE_INCOMING_MAX],
                   int *ret_fd, struct err *e);

/* An empty file without a name, O_RDWR, on the cache's disk. */
int cache_spool(struct cache *c, int *ret_fd, struct err *e);

/* Publishes incoming NAME, which holds `app` or `image` and nothing else, as DIGEST, with META
 * beside it. The entry's own directory becomes the caller's, so that no process of OWNER can touch
 * META. The fetch must have exited: it could change what it wrote behind the digest's back. SYNCED:
 * the data are on the disk. An entry that exists already wins and NAME is dropped, a broken one is
 * replaced. -EBADMSG: not what a fetch leaves. */
int cache_publish(struct cache *c, const char *name, const struct digest *digest,
                  const json_t *meta, bool synced, struct err *e);

/* Removes incoming NAME and all below it. */
int cache_drop(struct cache *c, const char *name, struct err *e);

/* DIGEST's data are on the disk now, and its image's own digest is IMAGE. -ENOENT. */
int cache_seal(struct cache *c, const struct digest *digest, const struct digest *image,
               struct err *e);

/* Forgets DIGEST: out of the way by a rename, then removed. A missing one is success. Whoever runs
 * from a directory keeps its files only as long as it holds the directory; from an image, for ever.
 */
int cache_remove(struct cache *c, const struct digest *digest, struct err *e);

/* --- what is there -------------------------------------------------------------------------- */

struct cache_entry {
    struct digest digest;
    enum cache_kind kind;
    uint64_t bytes;     /* on the disk, about */
    uint64_t used_usec; /* CLOCK_REALTIME */
    bool synced;
    bool has_image; /* sealed: */
    struct digest image;
};

/* From memory: no disk is asked. An address is good until the next call that changes the cache. */
size_t cache_count(const struct cache *c);
const struct cache_entry *cache_at(const struct cache *c, size_t i);
const struct cache_entry *cache_find(const struct cache *c, const struct digest *digest); /* NULL */
uint64_t cache_bytes(const struct cache *c);

/* Bytes that are free on the cache's disk for all but root, and how large it is. */
int cache_space(const struct cache *c, uint64_t *ret_free, uint64_t *ret_size, struct err *e);

/* --- meta.json: the "ok" objects of slug/fetch.h --------------------------------------------- */

#define SLUG_META_MAX (8u << 20) /* bytes of a meta.json */

/* The process types in META, as procfile_parse() would have given them. Checks every field: META
 * was written from the words of an unprivileged process. */
int slug_meta_types(const json_t *meta, struct procfile *ret, struct err *e);

/* The reverse, a new array for "types". A command that is not UTF-8, which JSON cannot hold, is
 * given as "command_hex" instead. NULL: no memory. */
json_t *slug_meta_types_json(const struct procfile *p);

#endif

/* cache_index.c - the entries of the cache in memory: what may go, and in which order, is decided
 * without asking the disk. */
#include "slug/cache_priv.h"

#include "base/clock.h"
#include "base/frame.h"
#include "base/scoped.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define BLOCK_BYTES 4096 /* what a file of an unpacked slug takes beyond its content, at most */

static struct cache_entry *find(const struct cache *c, const struct digest *digest)
{
    for (size_t i = 0; i < c->n; i++)
        if (digest_equal(&c->all[i].digest, digest))
            return &c->all[i];
    return NULL;
}

size_t cache_count(const struct cache *c)
{
    return c->n;
}

const struct cache_entry *cache_at(const struct cache *c, size_t i)
{
    return &c->all[i];
}

const struct cache_entry *cache_find(const struct cache *c, const struct digest *digest)
{
    return find(c, digest);
}

uint64_t cache_bytes(const struct cache *c)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < c->n; i++)
        sum += c->all[i].bytes;
    return sum;
}

static uint64_t positive(int64_t n)
{
    return n > 0 ? (uint64_t)n : 0;
}

/* Entries from before there were images say nothing of the disk, and are synced. */
static uint64_t size_of(const json_t *meta)
{
    uint64_t disk = positive(json_int(meta, "disk", 0));

    return disk ? disk
                : positive(json_int(meta, "unpacked", 0)) +
                      positive(json_int(meta, "entries", 0)) * BLOCK_BYTES;
}

int cache_index_put(struct cache *c, const struct digest *digest, const json_t *meta,
                    uint64_t used_usec, struct err *e)
{
    struct cache_entry *entry = find(c, digest);

    if (!entry && (!c->all || c->n == c->room)) {
        size_t room = c->room ? 2 * c->room : 16;
        struct cache_entry *all = reallocarray(c->all, room, sizeof(*all));

        if (!all)
            return err_set(e, ENOMEM, "list the slug cache");
        c->all = all;
        c->room = room;
    }
    if (!entry)
        entry = &c->all[c->n++];
    *entry = (struct cache_entry){
        .digest = *digest,
        .kind = strcmp(json_str(meta, "kind", ""), "image") ? CACHE_DIRECTORY : CACHE_IMAGE,
        .bytes = size_of(meta),
        .used_usec = used_usec,
        .synced = json_bool(meta, "synced", true),
    };
    entry->has_image = digest_parse(json_str(meta, "image", ""), &entry->image) == 0;
    return 0;
}

void cache_index_drop(struct cache *c, const struct digest *digest)
{
    struct cache_entry *entry = find(c, digest);

    if (entry)
        *entry = c->all[--c->n];
}

/* Why the entry NAME cannot stay, and in *CAUSE what may have kept us from seeing it as it is;
 * NULL: it can, *ret_meta and *ret_used are set. */
static const char *judge(struct cache *c, const char *name, struct digest *ret_digest,
                         json_t **ret_meta, uint64_t *ret_used, struct err *cause)
{
    scoped(json_freep) json_t *meta = NULL;
    enum cache_kind kind;
    scoped_fd fd = -1;
    struct stat st, dir;

    if (digest_parse(name, ret_digest) < 0 || strcmp(ret_digest->hex, name) != 0)
        return "its name is no digest";
    if (cache_lookup(c, ret_digest, &kind, &fd, cause) < 0 || fstat(fd, &st) < 0 ||
        fstatat(c->slugs, name, &dir, AT_SYMLINK_NOFOLLOW) < 0)
        return "it is not whole";
    if (cache_meta(c, ret_digest, &meta, cause) < 0 ||
        kind != (strcmp(json_str(meta, "kind", ""), "image") ? CACHE_DIRECTORY : CACHE_IMAGE))
        return "its " CACHE_META " cannot be read";
    if (!json_bool(meta, "synced", true) && strcmp(json_str(meta, "boot", ""), c->boot) != 0)
        return "the machine restarted before it was known to be on the disk";
    if (kind == CACHE_IMAGE ? json_int(meta, "owner", -1) != (int64_t)c->o.owner
                            : st.st_uid != c->o.owner)
        return "its files belong to another user than dynos read them as now";
    if (kind == CACHE_IMAGE && st.st_size != json_int(meta, "size", -1))
        return "its image is not as long as it was";
    *ret_used = (uint64_t)dir.st_mtim.tv_sec * USEC_PER_SEC + (uint64_t)dir.st_mtim.tv_nsec / 1000;
    *ret_meta = TAKE_PTR(meta);
    return NULL;
}

static int take(struct cache *c, const char *name, struct err *e)
{
    scoped(json_freep) json_t *meta = NULL;
    struct err cause = ERR_INIT;
    struct digest digest;
    uint64_t used = 0;
    const char *why = judge(c, name, &digest, &meta, &used, &cause);

    if (!why)
        return cache_index_put(c, &digest, meta, used, e);
    if (err_is_shortage(cause.errnum)) { /* it may be sound */
        *e = cause;
        return -cause.errnum;
    }
    if (c->o.dropped)
        c->o.dropped(c->o.userdata, name, why);
    return cache_discard(c, c->slugs, name, e);
}

int cache_index_fill(struct cache *c, struct err *e)
{
    int fd = openat(c->slugs, ".", OPEN_DIR), r = 0;
    scoped(dir_closep) DIR *d = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;

    if (!d) {
        r = err_set(e, errno, "read the slug cache");
        fd_closep(&fd);
        return r;
    }
    while (r == 0 && (entry = readdir(d)))
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
            r = take(c, entry->d_name, e);
    return r;
}

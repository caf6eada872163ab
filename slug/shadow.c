#include "slug/shadow.h"

#include "base/clock.h"
#include "base/scoped.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS_FIRST 1024

enum kind {
    KIND_NONE, /* an empty slot */
    KIND_FILE,
    KIND_DIR,
    KIND_LINK,
};

struct slot {
    uint64_t hash;
    enum kind kind;
};

/* Open addressing, at most half full. The seed keeps the archive from choosing collisions. */
struct shadow {
    uint64_t seed;
    struct slot *slots;
    size_t n_slots;
    size_t used;
    struct slug_implied implied;
};

struct shadow *shadow_new(void)
{
    struct shadow *s = calloc(1, sizeof(*s));

    if (!s)
        return NULL;
    s->seed = random_u64();
    s->n_slots = SLOTS_FIRST;
    s->slots = calloc(s->n_slots, sizeof(*s->slots));
    if (!s->slots)
        shadow_freep(&s);
    return s;
}

void shadow_freep(struct shadow **s)
{
    if (*s)
        free((*s)->slots);
    free(*s);
    *s = NULL;
}

/* FNV-1a, then the finishing steps of MurmurHash3, with the seed going in before both. */
static uint64_t hash_path(const struct shadow *s, const char *path, size_t len)
{
    uint64_t h = s->seed ^ 0xcbf29ce484222325u;

    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)path[i]) * 0x100000001b3u;
    h = (h ^ s->seed ^ (h >> 33)) * 0xff51afd7ed558ccdu;
    h = (h ^ (h >> 33)) * 0xc4ceb9fe1a85ec53u;
    return h ^ (h >> 33);
}

static struct slot *slot_of(const struct shadow *s, uint64_t hash)
{
    size_t i = hash & (s->n_slots - 1);

    while (s->slots[i].kind != KIND_NONE && s->slots[i].hash != hash)
        i = (i + 1) & (s->n_slots - 1);
    return &s->slots[i];
}

static int grow(struct shadow *s)
{
    struct shadow next = {.seed = s->seed, .n_slots = s->n_slots * 2};

    next.slots = calloc(next.n_slots, sizeof(*next.slots));
    if (!next.slots)
        return -ENOMEM;
    for (size_t i = 0; i < s->n_slots; i++)
        if (s->slots[i].kind != KIND_NONE)
            *slot_of(&next, s->slots[i].hash) = s->slots[i];
    next.used = s->used;
    next.implied = s->implied;
    free(s->slots);
    *s = next;
    return 0;
}

static int set(struct shadow *s, const char *path, size_t len, enum kind kind, struct err *e)
{
    if (s->used * 2 >= s->n_slots && grow(s) < 0)
        return err_set(e, ENOMEM, "remember the archive's paths");
    uint64_t hash = hash_path(s, path, len);
    struct slot *slot = slot_of(s, hash);
    s->used += slot->kind == KIND_NONE;
    *slot = (struct slot){hash, kind};
    return 0;
}

static enum kind get(const struct shadow *s, const char *path, size_t len)
{
    return len == 0 ? KIND_DIR : slot_of(s, hash_path(s, path, len))->kind;
}

/* A directory that only what is in it names. */
static int imply(struct shadow *s, const char *path, size_t len, struct err *e)
{
    const char *slash = memrchr(path, '/', len);
    int r = archive_imply(&s->implied, slash ? len - (size_t)(slash + 1 - path) : len, e);

    return r < 0 ? r : set(s, path, len, KIND_DIR, e);
}

/* Goes through the directories above PATH. MAKE: missing ones appear; else they are missing. */
static int walk_parents(struct shadow *s, const char *path, bool make, const char *blame,
                        struct err *e)
{
    for (const char *slash = path; (slash = strchr(slash, '/')); slash++) {
        size_t len = (size_t)(slash - path);
        enum kind kind = get(s, path, len);
        int r = 0;

        if (kind == KIND_LINK)
            r = archive_refuse(e, blame, WHY_THROUGH_SYMLINK);
        else if (!make && kind != KIND_DIR)
            r = archive_refuse(e, blame, WHY_LINK_MISSING);
        else if (kind == KIND_FILE)
            r = archive_refuse(e, blame, WHY_THROUGH_FILE);
        else if (kind == KIND_NONE)
            r = imply(s, path, len, e);
        if (r < 0)
            return r;
    }
    return 0;
}

static int check_target(struct shadow *s, const struct slug_entry *entry, struct err *e)
{
    int r = walk_parents(s, entry->target, false, entry->path, e);

    if (r < 0)
        return r;
    switch (get(s, entry->target, strlen(entry->target))) {
    case KIND_FILE:
        return 0;
    case KIND_NONE:
        return archive_refuse(e, entry->path, WHY_LINK_MISSING);
    default:
        return archive_refuse(e, entry->path, WHY_LINK_TO_OTHER);
    }
}

int shadow_put(struct shadow *s, const struct slug_entry *entry, struct err *e)
{
    size_t len = strlen(entry->path);
    enum kind kind = entry->kind == SLUG_DIR       ? KIND_DIR
                     : entry->kind == SLUG_SYMLINK ? KIND_LINK
                                                   : KIND_FILE;
    int r = walk_parents(s, entry->path, true, entry->path, e);

    if (r == 0 && entry->kind == SLUG_HARDLINK)
        r = check_target(s, entry, e);
    if (r < 0 || len == 0)
        return r;
    if (kind != KIND_DIR && get(s, entry->path, len) == KIND_DIR)
        return archive_refuse(e, entry->path, WHY_OVER_DIR);
    return set(s, entry->path, len, kind, e);
}

#include "slug/image/nodes.h"

#include "base/clock.h"
#include "base/scoped.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SLOTS_FIRST 1024
#define STEP        65536u /* bytes: what arrays begin with and grow by multiples of */
#define NO_INODE    UINT32_MAX

static_assert(sizeof(struct dent) == 12 && sizeof(struct inode) <= 36, "as small as promised");

static int no_memory(struct err *e)
{
    return err_set(e, ENOMEM, "remember the archive's entries");
}

/* What reserve() took for LEN bytes: whole steps. */
static size_t bytes_of(size_t len)
{
    return (len + STEP - 1) & ~(size_t)(STEP - 1);
}

/* Makes room for NEED members of SIZE bytes in *ARRAY, growing by half. Pages that are moved, not
 * copied: realloc(3) would for a moment have both, in the heap. */
static int reserve(void **array, size_t *cap, size_t need, size_t size)
{
    size_t bytes = bytes_of(*cap * size), grown = bytes;
    void *to;

    if (need <= *cap)
        return 0;
    while (grown < need * size)
        grown = grown ? bytes_of(grown + grown / 2) : STEP;
    if (*array)
        to = mremap(*array, bytes, grown, MREMAP_MAYMOVE);
    else
        to = mmap(NULL, grown, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (to == MAP_FAILED)
        return -ENOMEM;
    *array = to;
    *cap = grown / size;
    return 0;
}

static void release(void *array, size_t cap, size_t size)
{
    if (array)
        (void)munmap(array, bytes_of(cap * size));
}

/* FNV-1a, then the finishing steps of MurmurHash3, with the seed going in before both. */
static size_t hash_name(const struct tree *t, uint32_t parent, const char *name, size_t len)
{
    uint64_t h = (t->seed ^ 0xcbf29ce484222325u) + parent;

    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)name[i]) * 0x100000001b3u;
    h = (h ^ t->seed ^ (h >> 33)) * 0xff51afd7ed558ccdu;
    h = (h ^ (h >> 33)) * 0xc4ceb9fe1a85ec53u;
    return (size_t)(h ^ (h >> 33));
}

/* The slot of NAME in PARENT, or the empty one where it would go. */
static uint32_t *slot_of(const struct tree *t, uint32_t parent, const char *name, size_t len)
{
    size_t mask = t->n_slots - 1;

    for (size_t i = hash_name(t, parent, name, len) & mask;; i = (i + 1) & mask) {
        uint32_t *slot = &t->slots[i];
        size_t other;

        if (*slot == 0)
            return slot;
        const char *text = name_of(t, *slot, &other);
        if (t->dents[*slot].parent == parent && other == len && memcmp(text, name, len) == 0)
            return slot;
    }
}

uint32_t tree_find(const struct tree *t, uint32_t parent, const char *name, size_t len)
{
    return *slot_of(t, parent, name, len);
}

/* Keeps the index at most three quarters full. */
static int grow_slots(struct tree *t)
{
    if ((t->n_dents + 1) * 4 <= t->n_slots * 3)
        return 0;
    uint32_t *slots = calloc(t->n_slots * 2, sizeof(*slots));
    if (!slots)
        return -ENOMEM;
    free(t->slots);
    t->slots = slots;
    t->n_slots *= 2;
    for (size_t i = 1; i < t->n_dents; i++) {
        size_t len;
        const char *name = name_of(t, (uint32_t)i, &len);

        *slot_of(t, t->dents[i].parent, name, len) = (uint32_t)i;
    }
    return 0;
}

static int add_text(struct tree *t, const void *text, size_t len, struct err *e)
{
    if (t->n_texts + len > t->limits->texts || t->n_texts + len > UINT32_MAX)
        return archive_over_limit(e, "bytes of names and links", t->limits->texts);
    if (reserve((void **)&t->texts, &t->cap_texts, t->n_texts + len, 1) < 0)
        return no_memory(e);
    memcpy(t->texts + t->n_texts, text, len);
    t->n_texts += len;
    return 0;
}

/* An inode of its own for DENT, with one link (a directory: two). */
static int add_inode(struct tree *t, enum node_kind kind, uint32_t mode,
                     const struct timespec *mtime, uint32_t *ret, struct err *e)
{
    uint32_t i = t->free_inode;

    if (i != NO_INODE) {
        t->free_inode = t->inodes[i].next;
        t->n_free--;
    } else {
        if (reserve((void **)&t->inodes, &t->cap_inodes, t->n_inodes + 1, sizeof(*t->inodes)) < 0)
            return no_memory(e);
        i = (uint32_t)t->n_inodes++;
    }
    t->inodes[i] = (struct inode){
        .mtime = mtime->tv_sec,
        .nsec = (uint32_t)mtime->tv_nsec,
        .nlink = kind == NODE_DIR ? 2 : 1,
        .mode = (uint16_t)(mode & 0777),
        .kind = (uint16_t)kind,
    };
    *ret = i;
    return 0;
}

static void unlink_inode(struct tree *t, uint32_t i)
{
    if (--t->inodes[i].nlink > 0)
        return;
    t->inodes[i].next = t->free_inode;
    t->free_inode = i;
    t->n_free++;
}

/* The name NAME in PARENT for INODE, which it is the first name of, or another. */
static int add_dent(struct tree *t, uint32_t parent, const char *name, size_t len, uint32_t inode,
                    uint32_t *ret, struct err *e)
{
    unsigned char head = (unsigned char)len;
    uint32_t at = (uint32_t)t->n_texts;
    int r;

    if (t->n_dents > t->limits->nodes)
        return archive_over_limit(e, "entries and directories", t->limits->nodes);
    if (reserve((void **)&t->dents, &t->cap_dents, t->n_dents + 1, sizeof(*t->dents)) < 0 ||
        grow_slots(t) < 0)
        return no_memory(e);
    r = add_text(t, &head, 1, e);
    if (r == 0)
        r = add_text(t, name, len, e);
    if (r < 0)
        return r;
    uint32_t dent = (uint32_t)t->n_dents++;
    t->dents[dent] = (struct dent){.parent = parent, .name = at, .inode = inode};
    *slot_of(t, parent, name, len) = dent;
    if (t->inodes[inode].kind == NODE_DIR)
        inode_of(t, parent)->nlink++;
    *ret = dent;
    return 0;
}

int tree_new(const struct image_limits *limits, struct tree **ret, struct err *e)
{
    static const struct timespec never = {0};
    scoped(tree_freep) struct tree *t = calloc(1, sizeof(*t));
    uint32_t top;

    if (!t)
        return no_memory(e);
    t->limits = limits;
    t->seed = random_u64();
    t->free_inode = NO_INODE;
    t->n_slots = SLOTS_FIRST;
    t->slots = calloc(t->n_slots, sizeof(*t->slots));
    if (!t->slots || reserve((void **)&t->dents, &t->cap_dents, 1, sizeof(*t->dents)) < 0 ||
        add_text(t, "", 1, e) < 0 ||
        add_inode(t, NODE_DIR, IMAGE_MODE_IMPLIED, &never, &top, e) < 0)
        return no_memory(e);
    t->dents[t->n_dents++] = (struct dent){.inode = top};
    *ret = TAKE_PTR(t);
    return 0;
}

void tree_freep(struct tree **t)
{
    if (*t) {
        release((*t)->dents, (*t)->cap_dents, sizeof(*(*t)->dents));
        release((*t)->inodes, (*t)->cap_inodes, sizeof(*(*t)->inodes));
        release((*t)->texts, (*t)->cap_texts, 1);
        free((*t)->slots);
        free((*t)->order);
        free((*t)->dirs);
    }
    free(*t);
    *t = NULL;
}

/* Goes one name down from *DIR. MAKE: a missing directory appears, with ENTRY's time. */
static int step_down(struct tree *t, const struct slug_entry *entry, const char *name, size_t len,
                     bool make, uint32_t *dir, struct err *e)
{
    uint32_t next = tree_find(t, *dir, name, len), inode;
    int r = 0;

    if (next == 0 && !make)
        return archive_refuse(e, entry->path, WHY_LINK_MISSING);
    if (next == 0) {
        r = archive_imply(&t->implied, len, e);
        if (r == 0)
            r = add_inode(t, NODE_DIR, IMAGE_MODE_IMPLIED, &entry->mtime, &inode, e);
        if (r == 0)
            r = add_dent(t, *dir, name, len, inode, &next, e);
    } else if (inode_of(t, next)->kind == NODE_SYMLINK) {
        return archive_refuse(e, entry->path, WHY_THROUGH_SYMLINK);
    } else if (inode_of(t, next)->kind != NODE_DIR) {
        return archive_refuse(e, entry->path, make ? WHY_THROUGH_FILE : WHY_LINK_MISSING);
    }
    if (r == 0)
        *dir = next;
    return r;
}

/* The directory nearest above PATH that the last path went through too: entries of one directory
 * follow each other. *ret_len: of its own path. */
static uint32_t common_dir(const struct tree *t, const char *path, size_t len, size_t *ret_len)
{
    size_t have = t->last_len;
    uint32_t dir = t->last_dir;

    while (have > 0 && (have > len || path[have] != '/' || memcmp(path, t->last_path, have) != 0)) {
        const char *slash = memrchr(t->last_path, '/', have);

        have = slash ? (size_t)(slash - t->last_path) : 0;
        dir = t->dents[dir].parent;
    }
    *ret_len = have;
    return dir;
}

/* The directory that holds PATH, which is ENTRY's or its target. *ret_name points into PATH. */
static int walk(struct tree *t, const struct slug_entry *entry, const char *path, bool make,
                uint32_t *ret, const char **ret_name, struct err *e)
{
    const char *slash = strrchr(path, '/');
    size_t len = slash ? (size_t)(slash - path) : 0, have;
    uint32_t dir = common_dir(t, path, len, &have);

    *ret_name = slash ? slash + 1 : path;
    for (const char *p = path + have + (have > 0); p < path + len;) {
        size_t part = (size_t)(strchrnul(p, '/') - p);
        int r = step_down(t, entry, p, part, make, &dir, e);

        if (r < 0)
            return r;
        p += part + 1;
    }
    memcpy(t->last_path, path, len);
    t->last_len = len;
    *ret = t->last_dir = dir;
    return 0;
}

/* Gives NAME in DIR to INODE, in place of what it named, OLD (0: nothing). */
static int name_inode(struct tree *t, uint32_t dir, const char *name, uint32_t old, uint32_t inode,
                      struct err *e)
{
    uint32_t dent;

    if (old == 0)
        return add_dent(t, dir, name, strlen(name), inode, &dent, e);
    unlink_inode(t, t->dents[old].inode);
    t->dents[old].inode = inode;
    if (t->inodes[inode].kind == NODE_DIR)
        inode_of(t, dir)->nlink++;
    return 0;
}

static int put_dir(struct tree *t, const struct slug_entry *entry, uint32_t dir, const char *name,
                   struct err *e)
{
    uint32_t old = *name ? tree_find(t, dir, name, strlen(name)) : 0, inode;
    int r;

    if (!*name || (old != 0 && inode_of(t, old)->kind == NODE_DIR)) {
        struct inode *same = inode_of(t, old);

        same->mode = entry->mode & 0777;
        same->mtime = entry->mtime.tv_sec;
        same->nsec = (uint32_t)entry->mtime.tv_nsec;
        return 0;
    }
    r = add_inode(t, NODE_DIR, entry->mode, &entry->mtime, &inode, e);
    return r < 0 ? r : name_inode(t, dir, name, old, inode, e);
}

static int put_new(struct tree *t, const struct entry *entry, uint32_t dir, const char *name,
                   struct err *e)
{
    bool link = entry->e.kind == SLUG_SYMLINK;
    uint32_t old = tree_find(t, dir, name, strlen(name)), inode, target = (uint32_t)t->n_texts;
    int r = 0;

    if (old != 0 && inode_of(t, old)->kind == NODE_DIR)
        return archive_refuse(e, entry->e.path, WHY_OVER_DIR);
    if (link)
        r = add_text(t, entry->e.target, strlen(entry->e.target), e);
    if (r == 0)
        r = add_inode(t, link ? NODE_SYMLINK : NODE_FILE, link ? 0777 : entry->e.mode,
                      &entry->e.mtime, &inode, e);
    if (r < 0)
        return r;
    t->inodes[inode].size = link ? strlen(entry->e.target) : entry->e.size;
    t->inodes[inode].block = link ? target : (uint32_t)(entry->offset / IMAGE_BLOCK);
    return name_inode(t, dir, name, old, inode, e);
}

/* What is checked comes in writer.c's order: the target, that it is a file, what is in its way. */
static int put_hardlink(struct tree *t, const struct slug_entry *entry, uint32_t dir,
                        const char *name, struct err *e)
{
    const char *to_name;
    uint32_t to_dir;
    int r = walk(t, entry, entry->target, false, &to_dir, &to_name, e);

    if (r < 0)
        return r;
    uint32_t to = *to_name ? tree_find(t, to_dir, to_name, strlen(to_name)) : 0;
    if (to == 0)
        return archive_refuse(e, entry->path, WHY_LINK_MISSING);
    uint32_t inode = t->dents[to].inode, old = tree_find(t, dir, name, strlen(name));
    if (t->inodes[inode].kind != NODE_FILE)
        return archive_refuse(e, entry->path, WHY_LINK_TO_OTHER);
    if (old != 0 && inode_of(t, old)->kind == NODE_DIR)
        return archive_refuse(e, entry->path, WHY_OVER_DIR);
    t->inodes[inode].nlink++; /* before the old name goes, which may be of the same */
    return name_inode(t, dir, name, old, inode, e);
}

int tree_put(struct tree *t, const struct entry *entry, struct err *e)
{
    const struct slug_entry *s = &entry->e;
    const char *name;
    uint32_t dir;

    assert(!entry->end);
    if (!t->begun) { /* unless it has an entry, the top too is named by what is in it */
        t->inodes[0].mtime = s->mtime.tv_sec;
        t->inodes[0].nsec = (uint32_t)s->mtime.tv_nsec;
        t->begun = true;
    }
    int r = walk(t, s, s->path, true, &dir, &name, e);
    if (r < 0)
        return r;
    switch (s->kind) {
    case SLUG_DIR:
        return put_dir(t, s, dir, name, e);
    case SLUG_HARDLINK:
        return put_hardlink(t, s, dir, name, e);
    default:
        return put_new(t, entry, dir, name, e);
    }
}

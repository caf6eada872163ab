/* order.c - the finished tree: which directory is the root, and the order of everything. */
#include "slug/image/nodes.h"

#include "base/scoped.h"
#include "slug/layout.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int no_memory(struct err *e)
{
    return err_set(e, ENOMEM, "sort the archive's entries");
}

/* Asks layout.h which directory is the app. */
static void choose_root(struct tree *t)
{
    uint32_t app = tree_find(t, 0, IMAGE_APP, strlen(IMAGE_APP));
    struct slug_counts counts = {.app_dir = app != 0 && inode_of(t, app)->kind == NODE_DIR};

    for (uint32_t i = 1; i < t->n_dents && !counts.others; i++)
        counts.others = t->dents[i].parent == 0 && i != app;
    t->root = slug_layout_app(&counts) ? app : 0;
}

/* Puts the dents of each directory together in ORDER. */
static void group(struct tree *t)
{
    uint32_t next = 0;

    for (uint32_t i = 0; i < t->n_dents; i++)
        if (inode_of(t, i)->kind == NODE_DIR)
            inode_of(t, i)->first = inode_of(t, i)->count = 0;
    for (uint32_t i = 1; i < t->n_dents; i++)
        inode_of(t, t->dents[i].parent)->count++;
    for (uint32_t i = 0; i < t->n_dents; i++) {
        struct inode *dir = inode_of(t, i);

        if (dir->kind != NODE_DIR)
            continue;
        dir->first = next;
        next += dir->count;
        dir->count = 0;
    }
    for (uint32_t i = 1; i < t->n_dents; i++) {
        struct inode *dir = inode_of(t, t->dents[i].parent);

        t->order[dir->first + dir->count++] = i;
    }
}

/* As the kernel searches: by bytes, the shorter of equal beginnings first. */
static int by_name(const void *a, const void *b, void *userdata)
{
    const struct tree *t = userdata;
    size_t len_a, len_b;
    const char *name_a = name_of(t, *(const uint32_t *)a, &len_a);
    const char *name_b = name_of(t, *(const uint32_t *)b, &len_b);
    int order = memcmp(name_a, name_b, len_a < len_b ? len_a : len_b);

    return order != 0 ? order : (len_a > len_b) - (len_a < len_b);
}

/* Lists the directories from ROOT on, what is in one before what comes after it: what is near in
 * the tree is near in the image. The end of DIRS serves as the stack: a directory that waits there
 * has no place at the front yet. */
static void list_dirs(struct tree *t, size_t cap)
{
    size_t stack = cap;

    t->dirs[--stack] = t->root;
    while (stack < cap) {
        uint32_t dent = t->dirs[stack++];
        const struct inode *dir = inode_of(t, dent);

        t->dirs[t->n_dirs++] = dent;
        for (uint32_t i = dir->count; i-- > 0;)
            if (inode_of(t, t->order[dir->first + i])->kind == NODE_DIR)
                t->dirs[--stack] = t->order[dir->first + i];
    }
}

int tree_finish(struct tree *t, struct err *e)
{
    size_t n_dirs = 0;

    choose_root(t);
    free(t->slots); /* tree_text() searches in order */
    t->slots = NULL;
    t->order = calloc(t->n_dents, sizeof(*t->order));
    if (!t->order)
        return no_memory(e);
    group(t);
    for (uint32_t i = 0; i < t->n_dents; i++) {
        const struct inode *dir = inode_of(t, i);

        if (dir->kind != NODE_DIR)
            continue;
        n_dirs++;
        if (dir->count > 1)
            qsort_r(t->order + dir->first, dir->count, sizeof(*t->order), by_name, t);
    }
    assert(n_dirs > 0); /* the top */
    t->dirs = calloc(n_dirs, sizeof(*t->dirs));
    if (!t->dirs)
        return no_memory(e);
    list_dirs(t, n_dirs);
    return 0;
}

struct entries_text tree_text(const struct tree *t, const char *name)
{
    struct entries_text text = {.state = SLUG_TEXT_ABSENT};
    const struct inode *root = inode_of(t, t->root);

    for (uint32_t i = 0; i < root->count; i++) {
        uint32_t dent = t->order[root->first + i];
        const struct inode *inode = inode_of(t, dent);
        size_t len;
        const char *found = name_of(t, dent, &len);

        if (len != strlen(name) || memcmp(found, name, len) != 0)
            continue;
        text.state = inode->kind != NODE_FILE           ? SLUG_TEXT_NOT_FILE
                     : inode->size > PROCFILE_MAX_BYTES ? SLUG_TEXT_TOO_LARGE
                                                        : SLUG_TEXT_HERE;
        if (text.state == SLUG_TEXT_HERE) {
            text.offset = (uint64_t)inode->block * IMAGE_BLOCK;
            text.size = inode->size;
        }
    }
    return text;
}

uint64_t tree_inodes(const struct tree *t)
{
    return t->n_inodes - t->n_free - (t->root != 0);
}

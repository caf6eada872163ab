/* nodes.h - what the tree of an image consists of: for tree.c, which builds it, order.c, which
 * sorts it, and erofs.c, which writes it. Everything is an index into an array; 0 is the top. */
#ifndef SLUG_IMAGE_NODES_H
#define SLUG_IMAGE_NODES_H

#include "slug/image/tree.h"

enum node_kind {
    NODE_FILE,
    NODE_DIR,
    NODE_SYMLINK,
};

/* A name in a directory. Never goes away; what it names may change. */
struct dent {
    uint32_t parent; /* dent of the directory */
    uint32_t name;   /* in the texts: its length in one byte, then the name */
    uint32_t inode;
};

/* What names name. Packed: there may be a million. */
struct inode {
    int64_t mtime;
    union {
        uint64_t size; /* of a file; of a symbolic link's target */
        struct {
            uint32_t first, count; /* of a directory, after tree_finish(): its part of ORDER */
        };
    };
    uint32_t nsec;
    union {
        uint32_t block;  /* of a file: its first one */
        uint32_t target; /* of a symbolic link: in the texts */
        uint32_t next;   /* of a free one */
    };
    uint32_t nlink; /* 0: free. Of a directory: 2, and one for each directory in it. */
    uint32_t nid;   /* erofs.c's; 0: none yet */
    uint16_t mode : 14;
    uint16_t kind : 2;
} __attribute__((packed, aligned(4)));

struct tree {
    const struct image_limits *limits;
    struct dent *dents;
    struct inode *inodes;
    char *texts;
    uint32_t *slots; /* index by parent and name: a dent, 0: empty */
    size_t n_dents, n_inodes, n_texts, n_slots;
    size_t cap_dents, cap_inodes, cap_texts;
    uint32_t free_inode; /* UINT32_MAX: none */
    size_t n_free;
    struct slug_implied implied;
    uint64_t seed;
    bool begun;        /* there was an entry */
    uint32_t last_dir; /* the dent of the directory of the last path, */
    size_t last_len;   /* and that directory's path, */
    char last_path[FETCH_NAME_MAX];

    /* After tree_finish(). */
    uint32_t root;   /* dent */
    uint32_t *order; /* dents, those of a directory together, sorted by name */
    uint32_t *dirs;  /* dents of directories, each after its parent: ROOT is the first */
    size_t n_dirs;
};

static inline struct inode *inode_of(const struct tree *t, uint32_t dent)
{
    return &t->inodes[t->dents[dent].inode];
}

static inline const char *name_of(const struct tree *t, uint32_t dent, size_t *ret_len)
{
    const char *name = t->texts + t->dents[dent].name;

    *ret_len = (unsigned char)name[0];
    return name + 1;
}

/* The dent of NAME in the directory PARENT; 0: there is none. */
uint32_t tree_find(const struct tree *t, uint32_t parent, const char *name, size_t len);

#endif

/* tree.h - the tree of an image, built in memory from validated entries (entries.h) by tar's rules,
 * exactly as slug/fetch/writer.c has them on disk, in the same words (archive.h): a later entry
 * replaces an earlier one, but a directory never gives way; nothing goes through a symbolic link or
 * a file; a hard link is to a file that is there, another name of its inode. Replaced files stay as
 * long as they have another name.
 *
 * A directory that only its content names has the rights IMAGE_MODE_IMPLIED and the time of the
 * entry that named it first: the same archive gives the same tree at any hour.
 *
 * 12 bytes a name and 36 an inode, an index of 5 to 11 bytes a name, and the names: no pointers. No
 * recursion. Everything is O(n log n) but the work for a path, which is O(its components). */
#ifndef SLUG_IMAGE_TREE_H
#define SLUG_IMAGE_TREE_H

#include "slug/image/entries.h"

#define IMAGE_MODE_IMPLIED 0755
#define IMAGE_APP          "app"

struct tree;

/* LIMITS is borrowed. */
int tree_new(const struct image_limits *limits, struct tree **ret, struct err *e);
void tree_freep(struct tree **t);

/* Puts one entry into the tree, or refuses it. Not the end. */
int tree_put(struct tree *t, const struct entry *entry, struct err *e);

/* After the last entry: decides which directory is the app (slug_layout_app()), which becomes the
 * image's root, and brings everything into the order in which it is written. */
int tree_finish(struct tree *t, struct err *e);

/* After tree_finish(): where the app's file NAME lies, as slug_text_read() would find it. */
struct entries_text tree_text(const struct tree *t, const char *name);
/* Inodes in the image. */
uint64_t tree_inodes(const struct tree *t);

#endif

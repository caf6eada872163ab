#include "slug/image/dirblocks.h"

#include "slug/image/erofs_format.h"

#include <assert.h>
#include <endian.h>
#include <string.h>

/* One name of a directory. */
struct name {
    const char *text;
    size_t len;
    uint32_t dent; /* what it names */
};

struct dir_names dir_names(const struct tree *t, uint32_t dir)
{
    return (struct dir_names){.t = t, .dir = dir};
}

/* Whether DOTS sorts before the name TEXT, which is neither "." nor "..". */
static bool dots_first(const char *dots, const char *text, size_t len)
{
    size_t n = strlen(dots);

    return memcmp(dots, text, n < len ? n : len) <= 0;
}

/* The next name, without passing it. */
static bool peek(const struct dir_names *names, struct name *ret)
{
    const struct inode *dir = inode_of(names->t, names->dir);
    const char *dots = !names->dot ? "." : !names->dotdot ? ".." : NULL;
    bool more = names->next < dir->count;

    if (more) {
        ret->dent = names->t->order[dir->first + names->next];
        ret->text = name_of(names->t, ret->dent, &ret->len);
    }
    if (dots && (!more || dots_first(dots, ret->text, ret->len))) {
        ret->text = dots;
        ret->len = strlen(dots);
        ret->dent = !names->dot || names->dir == names->t->root
                        ? names->dir
                        : names->t->dents[names->dir].parent;
        return true;
    }
    return more;
}

static void pass(struct dir_names *names, const struct name *name)
{
    if (!names->dot && name->len == 1 && name->text[0] == '.')
        names->dot = true;
    else if (!names->dotdot && name->len == 2 && memcmp(name->text, "..", 2) == 0)
        names->dotdot = true;
    else
        names->next++;
}

uint32_t dir_block_fill(struct dir_names *names, uint32_t *ret_used)
{
    uint32_t n = 0, used = 0;
    struct name name;

    while (peek(names, &name) && used + sizeof(struct erofs_dirent) + name.len <= EROFS_BLOCK) {
        used += (uint32_t)(sizeof(struct erofs_dirent) + name.len);
        pass(names, &name);
        n++;
    }
    *ret_used = used;
    return n;
}

static uint8_t kind_of(const struct inode *inode)
{
    return inode->kind == NODE_DIR       ? EROFS_KIND_DIR
           : inode->kind == NODE_SYMLINK ? EROFS_KIND_SYMLINK
                                         : EROFS_KIND_FILE;
}

void dir_block_write(struct dir_names *names, uint32_t n, uint32_t used, unsigned char *out)
{
    uint32_t at = n * (uint32_t)sizeof(struct erofs_dirent);
    struct name name;

    for (uint32_t i = 0; i < n; i++) {
        bool there = peek(names, &name);

        assert(there && at + name.len <= used);
        const struct inode *inode = inode_of(names->t, name.dent);
        struct erofs_dirent d = {
            .nid = htole64(inode->nid),
            .name_at = htole16((uint16_t)at),
            .kind = kind_of(inode),
        };
        memcpy(out + i * sizeof(d), &d, sizeof(d));
        memcpy(out + at, name.text, name.len);
        at += (uint32_t)name.len;
        pass(names, &name);
    }
}

uint64_t dir_size(const struct tree *t, uint32_t dir)
{
    struct dir_names names = dir_names(t, dir);
    uint64_t blocks = 0;
    uint32_t used, last = 0;

    while (dir_block_fill(&names, &used) > 0) {
        last = used;
        blocks++;
    }
    return (blocks - 1) * EROFS_BLOCK + last;
}

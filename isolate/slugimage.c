#include "isolate/slugimage.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/scoped.h"
#include "isolate/image.h"
#include "isolate/kernel.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define PATH_TEXT_MAX 320

struct slugimages {
    enum slugimage_way way;
    bool attach;
    char place[256];
    char text[200];
};

/* --- an image of nothing ---------------------------------------------------------------------- */

#define EMPTY_BLOCK  4096u
#define EMPTY_SUPER  1024u /* linux/fs/erofs/erofs_fs.h has these structures */
#define EMPTY_INODE  1152u
#define EMPTY_NID    (EMPTY_INODE / 32)
#define EMPTY_DIR    27u /* bytes of a directory with "." and ".." */
#define EMPTY_FORMAT 4u  /* a short inode whose data follow it */

static void put(unsigned char *at, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        at[i] = (unsigned char)(value >> (8 * i));
}

/* The smallest EROFS: a root directory. */
static void make_empty(unsigned char block[EMPTY_BLOCK])
{
    unsigned char *super = block + EMPTY_SUPER, *inode = block + EMPTY_INODE, *dir = inode + 32;

    memset(block, 0, EMPTY_BLOCK);
    put(super, 0xe0f5e1e2u, 4);    /* magic */
    put(super + 12, 12, 1);        /* log2 of the block's size */
    put(super + 14, EMPTY_NID, 2); /* root */
    put(super + 16, 1, 8);         /* inodes */
    put(super + 36, 1, 4);         /* blocks */
    put(inode, EMPTY_FORMAT, 2);
    put(inode + 4, S_IFDIR | 0755, 2);
    put(inode + 6, 2, 2); /* links */
    put(inode + 8, EMPTY_DIR, 4);
    put(inode + 20, 1, 4); /* ino */
    for (size_t i = 0; i < 2; i++) {
        put(dir + 12 * i, EMPTY_NID, 8);
        put(dir + 12 * i + 8, 24 + i, 2); /* where the name begins */
        put(dir + 12 * i + 10, 2, 1);     /* a directory */
    }
    memset(dir + 24, '.', 3); /* "." and ".." */
}

/* A file below DIR that has no name any more. */
static int open_empty(const char *dir, int *ret, struct err *e)
{
    unsigned char block[EMPTY_BLOCK];
    char path[PATH_TEXT_MAX];

    (void)snprintf(path, sizeof(path), "%s/probe-%016" PRIx64, dir, random_u64());
    scoped_fd fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_set(e, errno, "make %s", path);
    (void)unlink(path);
    make_empty(block);
    int r = fd_write_full(fd, block, sizeof(block));
    if (r < 0)
        return err_set(e, -r, "write %s", path);
    *ret = TAKE_FD(fd);
    return 0;
}

/* --- mounting ------------------------------------------------------------------------------ */

/* Attaches the mount TREE, which then is *ret. */
static int attach(const struct slugimages *s, int tree, int *ret, struct err *e)
{
    char path[PATH_TEXT_MAX];

    (void)snprintf(path, sizeof(path), "%s/%016" PRIx64, s->place, random_u64());
    if (mkdir(path, 0700) < 0)
        return err_set(e, errno, "make %s", path);
    if (k_move_mount(tree, AT_FDCWD, path) < 0) {
        int errnum = errno;

        (void)rmdir(path);
        return err_set(e, errnum, "attach the image");
    }
    int fd = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_set(e, errno, "open %s", path);
    *ret = fd;
    return 0;
}

int slugimages_mount(struct slugimages *s, int image_fd, int *ret_fd, struct err *e)
{
    scoped_fd tree = -1;
    int r;

    if (s->way == SLUGIMAGE_NONE)
        return err_say(e, EOPNOTSUPP, "no images are mounted here: %s", s->text);
    r = image_mount("erofs", s->way == SLUGIMAGE_LOOP, image_fd, &tree, e);
    if (r < 0)
        return r;
    if (s->attach)
        return attach(s, tree, ret_fd, e);
    *ret_fd = TAKE_FD(tree);
    return 0;
}

void slugimages_unmount(struct slugimages *s, int fd)
{
    char link[64], path[PATH_TEXT_MAX] = "";

    if (s->attach && fd >= 0) {
        (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        if (readlink(link, path, sizeof(path) - 1) < 0)
            path[0] = '\0';
    }
    fd_closep(&fd);
    if (path[0]) {
        (void)umount2(path, MNT_DETACH); /* dynos keep their own clones */
        (void)rmdir(path);
    }
}

/* --- what works
 * ----------------------------------------------------------------------------------- */

/* 0, or why a mount that is attached nowhere cannot be cloned. */
static int clone_detached(void)
{
    scoped_fd fs = k_fsopen("tmpfs");

    if (fs < 0 || k_fsconfig(fs, K_FSCONFIG_CMD_CREATE, NULL, NULL) < 0)
        return -errno;
    scoped_fd tree = k_fsmount(fs, K_ATTR_NOSUID);
    scoped_fd copy =
        tree < 0 ? -1 : k_open_tree(tree, "", AT_EMPTY_PATH | K_TREE_CLONE | K_TREE_CLOEXEC);
    return copy < 0 ? -errno : 0;
}

int slugimages_namespace(struct err *e)
{
    if (clone_detached() == 0)
        return 0;
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
        return err_set(e, errno, "make a mount namespace for slugs");
    return 0;
}

/* Whether an image can be mounted the way that S says, and a dyno could have it. */
static int try_mount(struct slugimages *s, int image, struct err *e)
{
    struct stat st;
    int fd = -1, r = slugimages_mount(s, image, &fd, e);

    if (r < 0)
        return r;
    scoped_fd copy = k_open_tree(fd, "", AT_EMPTY_PATH | K_TREE_CLONE | K_TREE_CLOEXEC);
    if (copy < 0 && s->place[0])
        r = err_set(e, errno, "clone the mount");
    else if (fstat(fd, &st) < 0 || !S_ISDIR(st.st_mode))
        r = err_say(e, EBADMSG, "an image of nothing has no root directory");
    slugimages_unmount(s, fd);
    return r;
}

/* Empty directories, of an agent that was killed: its mounts went with its namespace. */
static void clear_place(const char *place)
{
    scoped(dir_closep) DIR *d = opendir(place);
    struct dirent *entry;

    while (d && (entry = readdir(d)))
        if (entry->d_name[0] != '.')
            (void)unlinkat(dirfd(d), entry->d_name, AT_REMOVEDIR);
}

static int look(struct slugimages *s, const char *dir, struct err *e)
{
    struct err by_file = ERR_INIT;
    scoped_fd image = -1;

    s->attach = clone_detached() < 0;
    if (!s->place[0]) /* only looking: nothing is attached, and so nothing could be cloned */
        s->attach = false;
    if (s->attach) {
        int r = dir_make_all(s->place, 0700, e);

        if (r < 0)
            return r;
        clear_place(s->place);
    }
    if (open_empty(dir, &image, e) < 0)
        return -e->errnum;
    s->way = SLUGIMAGE_FILE;
    if (try_mount(s, image, &by_file) == 0)
        return 0;
    s->way = SLUGIMAGE_LOOP;
    return try_mount(s, image, e) == 0 ? 0 : err_wrap(e, "%.60s; by a loop device", by_file.text);
}

int slugimages_open(const char *dir, const char *place, bool rootless, struct slugimages **ret,
                    struct err *e)
{
    struct slugimages *s = calloc(1, sizeof(*s));
    struct err why = ERR_INIT;

    if (!s)
        return err_set(e, ENOMEM, "see how images can be mounted");
    (void)snprintf(s->place, sizeof(s->place), "%s", place);
    int r = rootless ? err_say(&why, EPERM, "only root may") : look(s, dir, &why);
    if (r < 0)
        s->way = SLUGIMAGE_NONE;
    if (s->way == SLUGIMAGE_NONE)
        (void)snprintf(s->text, sizeof(s->text), "%.190s", why.text);
    else
        (void)snprintf(s->text, sizeof(s->text), "EROFS, %s%s",
                       s->way == SLUGIMAGE_FILE ? "from the file" : "through loop devices",
                       s->attach ? ", in a namespace of their own" : "");
    *ret = s;
    return 0;
}

void slugimages_freep(struct slugimages **s)
{
    free(*s);
    *s = NULL;
}

enum slugimage_way slugimages_way(const struct slugimages *s)
{
    return s->way;
}

const char *slugimages_text(const struct slugimages *s)
{
    return s->text;
}

void slugimages_force(struct slugimages *s, enum slugimage_way way, bool attach_them)
{
    s->way = way;
    s->attach = attach_them;
    if (attach_them && mkdir(s->place, 0700) < 0 && errno != EEXIST)
        s->way = SLUGIMAGE_NONE;
}

#include "slug/cache_priv.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/frame.h"
#include "base/scoped.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define INCOMING_HEX 16
#define TOUCH_USEC   (60 * USEC_PER_SEC)
#define STAT_BLOCK   512 /* the unit of st_blocks */
#define IMAGE_MODE   0600
#define BOOT_ID_PATH "/proc/sys/kernel/random/boot_id"

void cache_freep(struct cache **cp)
{
    struct cache *c = *cp;

    if (!c)
        return;
    fd_closep(&c->slugs);
    fd_closep(&c->incoming);
    free(c->all);
    free(c);
    *cp = NULL;
}

/* Opens the directory NAME of ROOT, made when missing. Only the agent may pass through it: a fetch
 * gets what it needs by descriptor. */
static int open_part(int root, const char *name, int *ret, struct err *e)
{
    if (mkdirat(root, name, 0700) < 0 && errno != EEXIST)
        return err_set(e, errno, "make the slug cache's %s", name);
    int fd = openat(root, name, OPEN_DIR);
    if (fd < 0)
        return err_set(e, errno, "open the slug cache's %s", name);
    *ret = fd;
    return 0;
}

static bool is_dots(const char *name)
{
    return !strcmp(name, ".") || !strcmp(name, "..");
}

static DIR *read_dir(int fd)
{
    int copy = openat(fd, ".", OPEN_DIR);
    DIR *d = copy < 0 ? NULL : fdopendir(copy);

    if (!d && copy >= 0)
        close(copy);
    return d;
}

int cache_discard(struct cache *c, int dirfd, const char *name, struct err *e)
{
    return c->o.discard ? c->o.discard(c->o.userdata, dirfd, name, e) : tree_remove(dirfd, name, e);
}

static int sweep(struct cache *c, struct err *e)
{
    scoped(dir_closep) DIR *d = read_dir(c->incoming);
    struct dirent *entry;

    if (!d)
        return err_set(e, errno, "read the slug cache's incoming");
    while ((entry = readdir(d))) {
        int r = is_dots(entry->d_name) ? 0 : cache_discard(c, c->incoming, entry->d_name, e);

        if (r < 0)
            return r;
    }
    return 0;
}

/* What tells this boot from others. Without one ("") no entry is taken for this boot's. */
static void read_boot(const struct cache_options *o, char out[CACHE_BOOT_MAX])
{
    struct err ignored = ERR_INIT;
    scoped_free char *text = NULL;
    size_t len;

    if (!o->boot && file_read(AT_FDCWD, BOOT_ID_PATH, CACHE_BOOT_MAX, &text, &len, &ignored) == 0)
        text[strcspn(text, "\n")] = '\0';
    (void)snprintf(out, CACHE_BOOT_MAX, "%s", o->boot ? o->boot : text ? text : "");
}

int cache_open(const struct cache_options *o, struct cache **ret, struct err *e)
{
    scoped(cache_freep) struct cache *c = calloc(1, sizeof(*c));

    if (!c)
        return err_set(e, ENOMEM, "open the slug cache");
    c->o = *o;
    c->o.root = NULL; /* the caller's, and not needed any more */
    c->slugs = c->incoming = -1;
    read_boot(o, c->boot);
    int r = dir_make_all(o->root, 0755, e);
    if (r < 0)
        return r;
    scoped_fd dir = open(o->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return err_set(e, errno, "open the slug cache %s", o->root);
    r = open_part(dir, "sha256", &c->slugs, e);
    if (r == 0)
        r = open_part(dir, "incoming", &c->incoming, e);
    if (r == 0)
        r = sweep(c, e);
    if (r == 0)
        r = cache_index_fill(c, e);
    if (r < 0)
        return err_wrap(e, "the slug cache %s", o->root);
    *ret = TAKE_PTR(c);
    return 0;
}

int cache_open_entry(struct cache *c, const struct digest *digest, int *ret, struct err *e)
{
    int fd = openat(c->slugs, digest->hex, OPEN_DIR);

    if (fd < 0)
        return err_set(e, errno, "open the slug %s", digest->hex);
    *ret = fd;
    return 0;
}

/* The image of ENTRY, or its app. -errno: neither, or a shortage. */
static int open_content(int entry, enum cache_kind *ret_kind)
{
    struct stat st;
    scoped_fd image = openat(entry, CACHE_IMG, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);

    if (image >= 0) {
        *ret_kind = CACHE_IMAGE;
        return fstat(image, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0 ? TAKE_FD(image)
                                                                               : -ENOENT;
    }
    if (err_is_shortage(errno))
        return -errno;
    *ret_kind = CACHE_DIRECTORY;
    int app = openat(entry, CACHE_APP, OPEN_PATH_DIR);
    return app < 0 ? -errno : app;
}

int cache_lookup(struct cache *c, const struct digest *digest, enum cache_kind *ret_kind,
                 int *ret_fd, struct err *e)
{
    scoped_fd entry = -1;
    enum cache_kind kind = CACHE_DIRECTORY;
    struct stat st;
    int r = cache_open_entry(c, digest, &entry, e);

    if (r < 0)
        return r;
    scoped_fd content = open_content(entry, &kind);
    if (content < 0 && err_is_shortage(-content))
        return err_set(e, -content, "open the slug %s", digest->hex);
    /* Half an entry (a disk that lost a write) is none: it is fetched and replaced. */
    if (content < 0 || fstatat(entry, CACHE_META, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_size == 0)
        return err_say(e, ENOENT, "the slug %s is not whole", digest->hex);
    *ret_kind = kind;
    *ret_fd = TAKE_FD(content);
    return 0;
}

int cache_meta(struct cache *c, const struct digest *digest, json_t **ret, struct err *e)
{
    scoped_fd entry = -1;
    scoped_free char *text = NULL;
    size_t len;
    int r = cache_open_entry(c, digest, &entry, e);

    if (r == 0)
        r = file_read(entry, CACHE_META, SLUG_META_MAX, &text, &len, e);
    if (r == 0)
        r = json_parse(text, len, SLUG_META_MAX, ret, e);
    return r < 0 ? err_wrap(e, "the slug %s", digest->hex) : 0;
}

/* For the next agent's order: an entry's time is that of its directory. Without it the entry looks
 * older, or younger, than it is. */
static void write_used(const struct cache *c, const struct digest *digest, uint64_t usec)
{
    const struct timespec at = {.tv_sec = (time_t)(usec / USEC_PER_SEC),
                                .tv_nsec = (long)(usec % USEC_PER_SEC * 1000)};
    const struct timespec both[2] = {at, at};

    (void)utimensat(c->slugs, digest->hex, both, AT_SYMLINK_NOFOLLOW);
}

void cache_touch(struct cache *c, const struct digest *digest)
{
    struct cache_entry *entry = (struct cache_entry *)(uintptr_t)cache_find(c, digest);
    uint64_t now = clock_real();

    if (!entry || (now >= entry->used_usec && now - entry->used_usec < TOUCH_USEC))
        return;
    entry->used_usec = now;
    write_used(c, digest, now);
}

/* --- incoming ------------------------------------------------------------------------------- */

static void random_name(char name[CACHE_INCOMING_MAX])
{
    (void)snprintf(name, CACHE_INCOMING_MAX, "%0*llx", INCOMING_HEX,
                   (unsigned long long)random_u64());
}

/* A directory for OWNER, or an image in one of our own. */
static int prepare_incoming(const struct cache *c, enum cache_kind kind, int *fd)
{
    if (fchmod(*fd, 0700) < 0) /* whatever the umask */
        return -errno;
    if (kind == CACHE_DIRECTORY)
        return c->o.owner != geteuid() && fchown(*fd, c->o.owner, (gid_t)-1) < 0 ? -errno : 0;
    int image =
        openat(*fd, CACHE_IMG, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, IMAGE_MODE);
    if (image < 0)
        return -errno;
    close(*fd);
    *fd = image;
    return fchmod(image, IMAGE_MODE) < 0 ? -errno : 0;
}

int cache_incoming(struct cache *c, enum cache_kind kind, char name[CACHE_INCOMING_MAX],
                   int *ret_fd, struct err *e)
{
    char fresh[CACHE_INCOMING_MAX];
    struct err ignored = ERR_INIT;

    random_name(fresh);
    if (mkdirat(c->incoming, fresh, 0700) < 0)
        return err_set(e, errno, "make a directory for a slug");
    int opened = openat(c->incoming, fresh, OPEN_DIR);
    int r = opened < 0 ? -errno : prepare_incoming(c, kind, &opened);
    scoped_fd fd = opened;
    if (r < 0) {
        (void)tree_remove(c->incoming, fresh, &ignored); /* next to nothing is in it */
        return err_set(e, -r, "make a place for a slug");
    }
    memcpy(name, fresh, sizeof(fresh));
    *ret_fd = TAKE_FD(fd);
    return 0;
}

int cache_spool(struct cache *c, int *ret_fd, struct err *e)
{
    char name[CACHE_INCOMING_MAX];
    int fd = openat(c->incoming, ".", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);

    if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT)) {
        random_name(name);
        fd = openat(c->incoming, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd >= 0)
            (void)unlinkat(c->incoming, name, 0); /* else the next agent sweeps it */
    }
    if (fd < 0)
        return err_set(e, errno, "make a file for what is downloaded");
    *ret_fd = fd;
    return 0;
}

/* NAME is one of ours: it never leads elsewhere. */
static bool incoming_valid(const char *name)
{
    return strlen(name) == INCOMING_HEX && strspn(name, "0123456789abcdef") == INCOMING_HEX;
}

int cache_drop(struct cache *c, const char *name, struct err *e)
{
    if (!incoming_valid(name))
        return err_say(e, EINVAL, "not a directory of the slug cache");
    return cache_discard(c, c->incoming, name, e);
}

/* --- publishing ----------------------------------------------------------------------------- */

/* DIR holds one thing, and that is what it should be: *ret_kind, and what it is, O_PATH. */
static int look(int dir, enum cache_kind *ret_kind, int *ret_fd, struct err *e)
{
    scoped(dir_closep) DIR *d = read_dir(dir);
    struct dirent *entry;
    const char *only = NULL;

    if (!d)
        return err_set(e, errno, "read the fetched slug");
    while ((entry = readdir(d))) {
        if (is_dots(entry->d_name))
            continue;
        bool app = !strcmp(entry->d_name, CACHE_APP);

        if (only || (!app && strcmp(entry->d_name, CACHE_IMG) != 0))
            return err_say(e, EBADMSG, "the fetch left more than the app");
        only = app ? CACHE_APP : CACHE_IMG;
        *ret_kind = app ? CACHE_DIRECTORY : CACHE_IMAGE;
    }
    int fd = only ? openat(dir, only, O_PATH | O_NOFOLLOW | O_CLOEXEC) : -1;
    if (fd < 0)
        return err_say(e, EBADMSG, "the fetch left no app");
    *ret_fd = fd;
    return 0;
}

/* Takes the directory over from the fetch's user, then looks at what it left. */
static int claim(int dir, enum cache_kind *ret_kind, struct stat *ret_st, struct err *e)
{
    scoped_fd fd = -1;

    if (fchown(dir, geteuid(), getegid()) < 0 || fchmod(dir, 0755) < 0)
        return err_set(e, errno, "take over the fetched slug");
    int r = look(dir, ret_kind, &fd, e);
    if (r < 0)
        return r;
    if (fstat(fd, ret_st) < 0)
        return err_set(e, errno, "look at the fetched slug");
    if (*ret_kind == CACHE_DIRECTORY)
        return S_ISDIR(ret_st->st_mode) ? 0
                                        : err_say(e, EBADMSG, "the fetch left no app directory");
    if (!S_ISREG(ret_st->st_mode) || ret_st->st_uid != geteuid() || ret_st->st_nlink != 1 ||
        (ret_st->st_mode & 07777) != IMAGE_MODE || ret_st->st_size == 0)
        return err_say(e, EBADMSG, "the fetch left no image");
    return 0;
}

static int write_meta(int dir, const json_t *meta, struct err *e)
{
    scoped_free char *text = json_dumps(meta, JSON_COMPACT);

    if (!text)
        return err_set(e, ENOMEM, "write the slug's " CACHE_META);
    if (strlen(text) > SLUG_META_MAX)
        return err_say(e, EFBIG, "the slug's " CACHE_META " is over the limit of %u bytes",
                       SLUG_META_MAX);
    return file_write_atomic(dir, CACHE_META, text, strlen(text), 0644, e);
}

/* META with what the cache knows. */
static json_t *complete_meta(const struct cache *c, const json_t *meta, enum cache_kind kind,
                             const struct stat *st, bool synced)
{
    json_t *full = json_copy((json_t *)(uintptr_t)meta);
    scoped(json_freep) json_t *ours =
        json_pack("{s:s,s:I,s:b,s:s}", "kind", kind == CACHE_IMAGE ? "image" : "directory", "owner",
                  (json_int_t)c->o.owner, "synced", synced, "boot", c->boot);
    int r = full && ours ? json_object_update(full, ours) : -1;

    if (r == 0 && kind == CACHE_IMAGE)
        r = json_object_set_new(full, "size", json_integer(st->st_size)) |
            json_object_set_new(full, "disk", json_integer((json_int_t)st->st_blocks * STAT_BLOCK));
    /* Only cache_seal() may say these. */
    if (full && r == 0)
        (void)json_object_del(full, "image");
    if (r != 0) {
        json_decref(full);
        full = NULL;
    }
    return full;
}

/* Gives incoming NAME its final name. An entry that is whole stays; a broken one changes places
 * with NAME. 1: what NAME names now is to be dropped; *ret_ours: NAME's is the entry. */
static int give_name(struct cache *c, const char *name, const struct digest *digest, bool *ret_ours,
                     struct err *e)
{
    struct err ignored = ERR_INIT;
    enum cache_kind kind;
    scoped_fd fd = -1;

    *ret_ours = true;
    if (renameat2(c->incoming, name, c->slugs, digest->hex, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EEXIST)
        return err_set(e, errno, "publish the slug %s", digest->hex);
    if (cache_lookup(c, digest, &kind, &fd, &ignored) == 0) {
        *ret_ours = false;
        return 1;
    }
    if (renameat2(c->incoming, name, c->slugs, digest->hex, RENAME_EXCHANGE) < 0)
        return err_set(e, errno, "replace the broken slug %s", digest->hex);
    return 1;
}

int cache_publish(struct cache *c, const char *name, const struct digest *digest,
                  const json_t *meta, bool synced, struct err *e)
{
    enum cache_kind kind = CACHE_DIRECTORY;
    struct stat st;
    bool ours = false;

    if (!incoming_valid(name))
        return err_say(e, EINVAL, "not a directory of the slug cache");
    scoped_fd dir = openat(c->incoming, name, OPEN_DIR);
    if (dir < 0)
        return err_set(e, errno, "open the fetched slug");
    int r = claim(dir, &kind, &st, e);
    if (r < 0)
        return r;
    scoped(json_freep) json_t *full = complete_meta(c, meta, kind, &st, synced);
    r = full ? write_meta(dir, full, e) : err_set(e, ENOMEM, "publish a slug");
    if (r == 0)
        r = give_name(c, name, digest, &ours, e);
    if (r < 0)
        return r;
    if (ours && cache_index_put(c, digest, full, clock_real(), e) < 0)
        return -e->errnum;
    return r == 1 ? cache_drop(c, name, e) : 0;
}

int cache_seal(struct cache *c, const struct digest *digest, const struct digest *image,
               struct err *e)
{
    scoped(json_freep) json_t *meta = NULL;
    const struct cache_entry *entry = cache_find(c, digest);
    scoped_fd dir = -1;
    int r = cache_meta(c, digest, &meta, e);

    if (r == 0)
        r = cache_open_entry(c, digest, &dir, e);
    if (r < 0)
        return r;
    if (json_object_set_new(meta, "synced", json_true()) < 0 ||
        json_object_set_new(meta, "image", json_string(image->hex)) < 0)
        return err_set(e, ENOMEM, "seal the slug %s", digest->hex);
    uint64_t used = entry ? entry->used_usec : clock_real();
    r = write_meta(dir, meta, e);
    write_used(c, digest, used); /* to be sealed is no use */
    return r < 0 ? r : cache_index_put(c, digest, meta, used, e);
}

int cache_remove(struct cache *c, const struct digest *digest, struct err *e)
{
    char name[CACHE_INCOMING_MAX];

    /* Renamed first: half an entry never has its name, and a death leaves it to the sweep. */
    random_name(name);
    if (renameat2(c->slugs, digest->hex, c->incoming, name, RENAME_NOREPLACE) < 0 &&
        errno != ENOENT)
        return err_set(e, errno, "remove the slug %s", digest->hex);
    cache_index_drop(c, digest);
    return cache_drop(c, name, e);
}

int cache_space(const struct cache *c, uint64_t *ret_free, uint64_t *ret_size, struct err *e)
{
    struct statvfs fs;

    if (fstatvfs(c->slugs, &fs) < 0)
        return err_set(e, errno, "ask for the free space of the slug cache");
    *ret_free = (uint64_t)fs.f_bavail * fs.f_frsize;
    *ret_size = (uint64_t)fs.f_blocks * fs.f_frsize;
    return 0;
}

#include "slug/cache.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/frame.h"
#include "base/scoped.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define META_NAME     "meta.json"
#define APP_NAME      "app"
#define INCOMING_HEX  16
#define OPEN_DIR      (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
#define OPEN_PATH_DIR (O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

struct cache {
    uid_t owner;
    int slugs;    /* ROOT/sha256 */
    int incoming; /* ROOT/incoming */
};

void cache_freep(struct cache **cp)
{
    struct cache *c = *cp;

    if (!c)
        return;
    fd_closep(&c->slugs);
    fd_closep(&c->incoming);
    free(c);
    *cp = NULL;
}

/* Opens the directory NAME of ROOT, made when missing. Only the agent may pass through it: a fetch
 * gets its one directory by descriptor. */
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

static int sweep(struct cache *c, struct err *e)
{
    scoped(dir_closep) DIR *d = read_dir(c->incoming);
    struct dirent *entry;

    if (!d)
        return err_set(e, errno, "read the slug cache's incoming");
    while ((entry = readdir(d))) {
        int r = is_dots(entry->d_name) ? 0 : tree_remove(c->incoming, entry->d_name, e);

        if (r < 0)
            return r;
    }
    return 0;
}

int cache_open(const char *root, uid_t owner, struct cache **ret, struct err *e)
{
    scoped(cache_freep) struct cache *c = calloc(1, sizeof(*c));

    if (!c)
        return err_set(e, ENOMEM, "open the slug cache");
    c->owner = owner;
    c->slugs = c->incoming = -1;
    int r = dir_make_all(root, 0755, e);
    if (r < 0)
        return r;
    scoped_fd dir = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return err_set(e, errno, "open the slug cache %s", root);
    r = open_part(dir, "sha256", &c->slugs, e);
    if (r == 0)
        r = open_part(dir, "incoming", &c->incoming, e);
    if (r == 0)
        r = sweep(c, e);
    if (r < 0)
        return err_wrap(e, "the slug cache %s", root);
    *ret = TAKE_PTR(c);
    return 0;
}

/* The directory of DIGEST. -ENOENT without an error text worth telling: not there. */
static int open_entry(struct cache *c, const struct digest *digest, int *ret, struct err *e)
{
    int fd = openat(c->slugs, digest->hex, OPEN_DIR);

    if (fd < 0)
        return err_set(e, errno, "open the slug %s", digest->hex);
    *ret = fd;
    return 0;
}

int cache_lookup(struct cache *c, const struct digest *digest, int *ret_fd, struct err *e)
{
    scoped_fd entry = -1;
    struct stat st;
    int r = open_entry(c, digest, &entry, e);

    if (r < 0)
        return r;
    int app = openat(entry, APP_NAME, OPEN_PATH_DIR);
    scoped_fd app_fd = app;
    /* Half an entry (a disk that lost a write) is none: it is fetched and replaced. */
    if (app < 0 || fstatat(entry, META_NAME, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_size == 0)
        return err_say(e, ENOENT, "the slug %s is not whole", digest->hex);
    *ret_fd = TAKE_FD(app_fd);
    return 0;
}

int cache_meta(struct cache *c, const struct digest *digest, json_t **ret, struct err *e)
{
    scoped_fd entry = -1;
    scoped_free char *text = NULL;
    size_t len;
    int r = open_entry(c, digest, &entry, e);

    if (r == 0)
        r = file_read(entry, META_NAME, SLUG_META_MAX, &text, &len, e);
    if (r == 0)
        r = json_parse(text, len, SLUG_META_MAX, ret, e);
    return r < 0 ? err_wrap(e, "the slug %s", digest->hex) : 0;
}

int cache_incoming(struct cache *c, char name[CACHE_INCOMING_MAX], int *ret_fd, struct err *e)
{
    char fresh[CACHE_INCOMING_MAX];

    (void)snprintf(fresh, sizeof(fresh), "%0*llx", INCOMING_HEX, (unsigned long long)random_u64());
    if (mkdirat(c->incoming, fresh, 0700) < 0)
        return err_set(e, errno, "make a directory for a slug");
    scoped_fd fd = openat(c->incoming, fresh, OPEN_DIR);
    int r = fd < 0 ? -errno : 0;
    if (r == 0 && fchmod(fd, 0700) < 0) /* whatever the umask */
        r = -errno;
    if (r == 0 && c->owner != geteuid() && fchown(fd, c->owner, (gid_t)-1) < 0)
        r = -errno;
    if (r < 0) {
        (void)unlinkat(c->incoming, fresh, AT_REMOVEDIR);
        return err_set(e, -r, "make a directory for a slug");
    }
    memcpy(name, fresh, sizeof(fresh));
    *ret_fd = TAKE_FD(fd);
    return 0;
}

/* NAME is one of ours: it never leads elsewhere. */
static bool incoming_valid(const char *name)
{
    return strlen(name) == INCOMING_HEX && strspn(name, "0123456789abcdef") == INCOMING_HEX;
}

/* Takes the directory over from the fetch's user, then looks at what it left. */
static int claim(int dir, struct err *e)
{
    if (fchown(dir, geteuid(), getegid()) < 0 || fchmod(dir, 0755) < 0)
        return err_set(e, errno, "take over the fetched slug");
    scoped(dir_closep) DIR *d = read_dir(dir);
    struct dirent *entry;
    bool app = false;

    if (!d)
        return err_set(e, errno, "read the fetched slug");
    while ((entry = readdir(d))) {
        if (is_dots(entry->d_name))
            continue;
        if (strcmp(entry->d_name, APP_NAME) != 0)
            return err_say(e, EBADMSG, "the fetch left more than the app");
        app = true;
    }
    int fd = app ? openat(dir, APP_NAME, OPEN_PATH_DIR) : -1;
    if (fd < 0)
        return err_say(e, EBADMSG, "the fetch left no app directory");
    close(fd);
    return 0;
}

static int write_meta(int dir, const json_t *meta, struct err *e)
{
    scoped_free char *text = json_dumps(meta, JSON_COMPACT);
    int r;

    if (!text)
        return err_set(e, ENOMEM, "write the slug's " META_NAME);
    if (strlen(text) > SLUG_META_MAX)
        return err_say(e, EFBIG, "the slug's " META_NAME " is over the limit of %u bytes",
                       SLUG_META_MAX);
    r = file_write_atomic(dir, META_NAME, text, strlen(text), 0644, e);
    if (r < 0)
        return r;
    /* A name must never show what a power cut can still take away. */
    scoped_fd fd = openat(dir, META_NAME, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0 || fsync(dir) < 0)
        return err_set(e, errno, "sync the slug's " META_NAME);
    return 0;
}

/* Gives incoming NAME its final name. An entry that is whole stays; a broken one changes places
 * with NAME. 1: what NAME names now is to be dropped. */
static int give_name(struct cache *c, const char *name, const struct digest *digest, struct err *e)
{
    scoped_fd app = -1;
    struct err ignored = ERR_INIT;

    if (renameat2(c->incoming, name, c->slugs, digest->hex, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EEXIST)
        return err_set(e, errno, "publish the slug %s", digest->hex);
    if (cache_lookup(c, digest, &app, &ignored) == 0)
        return 1;
    if (renameat2(c->incoming, name, c->slugs, digest->hex, RENAME_EXCHANGE) < 0)
        return err_set(e, errno, "replace the broken slug %s", digest->hex);
    return 1;
}

int cache_publish(struct cache *c, const char *name, const struct digest *digest,
                  const json_t *meta, struct err *e)
{
    if (!incoming_valid(name))
        return err_say(e, EINVAL, "not a directory of the slug cache");
    scoped_fd dir = openat(c->incoming, name, OPEN_DIR);
    if (dir < 0)
        return err_set(e, errno, "open the fetched slug");
    int r = claim(dir, e);
    if (r == 0)
        r = write_meta(dir, meta, e);
    if (r == 0)
        r = give_name(c, name, digest, e);
    if (r < 0)
        return r;
    if (fsync(c->slugs) < 0)
        return err_set(e, errno, "sync the slug cache");
    return r == 1 ? cache_drop(c, name, e) : 0;
}

int cache_drop(struct cache *c, const char *name, struct err *e)
{
    if (!incoming_valid(name))
        return err_say(e, EINVAL, "not a directory of the slug cache");
    return tree_remove(c->incoming, name, e);
}

int cache_remove(struct cache *c, const struct digest *digest, struct err *e)
{
    char name[CACHE_INCOMING_MAX];

    /* Renamed first: half an entry never has its name, and a death leaves it to the sweep. */
    (void)snprintf(name, sizeof(name), "%0*llx", INCOMING_HEX, (unsigned long long)random_u64());
    if (renameat2(c->slugs, digest->hex, c->incoming, name, RENAME_NOREPLACE) < 0)
        return errno == ENOENT ? 0 : err_set(e, errno, "remove the slug %s", digest->hex);
    return cache_drop(c, name, e);
}

static int list_one(struct cache *c, const char *name, cache_list_fn *fn, void *userdata)
{
    scoped(json_freep) json_t *meta = NULL;
    struct err ignored = ERR_INIT;
    struct digest digest;
    struct stat st;

    if (digest_parse(name, &digest) < 0 || strcmp(digest.hex, name) != 0 ||
        fstatat(c->slugs, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return 0;
    (void)cache_meta(c, &digest, &meta, &ignored); /* a broken entry is listed with size 0 */
    int64_t bytes = json_int(meta, "unpacked", 0);
    uint64_t at = (uint64_t)st.st_ctim.tv_sec * USEC_PER_SEC + (uint64_t)st.st_ctim.tv_nsec / 1000;
    return fn(&digest, bytes > 0 ? (uint64_t)bytes : 0, at, userdata);
}

int cache_list(struct cache *c, cache_list_fn *fn, void *userdata, struct err *e)
{
    scoped(dir_closep) DIR *d = read_dir(c->slugs);
    struct dirent *entry;

    if (!d)
        return err_set(e, errno, "read the slug cache");
    while ((entry = readdir(d))) {
        int r = is_dots(entry->d_name) ? 0 : list_one(c, entry->d_name, fn, userdata);

        if (r != 0)
            return r;
    }
    return 0;
}

/* scratch.c - what is promised, what is made ahead, and whose it is. */
#include "isolate/scratch.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/scoped.h"
#include "base/str.h"
#include "isolate/kernel.h"
#include "isolate/scratch_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <sys/statfs.h>

static bool same_quota(const struct scratch_quota *a, const struct scratch_quota *b)
{
    return a->bytes == b->bytes && a->inodes == b->inodes;
}

void scratch_done(struct scratch *scratch)
{
    fd_closep(&scratch->fd);
}

/* --- What is promised --- */

static uint64_t outstanding(const struct scratch_entries *list)
{
    const struct scratch_entry *entry;
    uint64_t sum = 0;

    TAILQ_FOREACH (entry, list, link)
        sum += entry->quota.bytes > entry->used ? entry->quota.bytes - entry->used : 0;
    return sum;
}

uint64_t scratch_kept_free(const struct scratches *s, uint64_t disk)
{
    return s->keep_free < disk / 20 ? s->keep_free : disk / 20;
}

/* Whether so many more bytes can be promised. */
static int check_room(const struct scratches *s, uint64_t wanted, struct err *e)
{
    char want[24], have[24], keep[24], owed[24];
    struct statfs fs;

    if (wanted == 0 || s->way == SCRATCH_PLAIN)
        return 0;
    if (fstatfs(s->dirfd, &fs) < 0)
        return err_set(e, errno, "look at the disk of %s", s->path);
    uint64_t block = (uint64_t)fs.f_bsize, available = (uint64_t)fs.f_bavail * block;
    uint64_t kept = scratch_kept_free(s, (uint64_t)fs.f_blocks * block);
    uint64_t promised = outstanding(&s->dynos) + outstanding(&s->spares) + outstanding(&s->asked);
    double room = available > kept ? (double)(available - kept) * s->overcommit : 0;
    if ((double)promised + (double)wanted <= room)
        return 0;
    return err_say(e, ENOSPC,
                   "no room on the disk of %s for a dyno's %s: %s are free, %s of that are kept "
                   "(disk_keep_free), and %s promised to other dynos (disk_overcommit = %g)",
                   s->path, format_bytes(want, sizeof(want), wanted),
                   format_bytes(have, sizeof(have), available),
                   format_bytes(keep, sizeof(keep), kept),
                   format_bytes(owed, sizeof(owed), promised), s->overcommit);
}

/* --- Making one --- */

/* One of the three directories of a scratch. */
static int make_part(int dir, const char *name, mode_t mode, struct err *e)
{
    if (mkdirat(dir, name, 0700) < 0)
        return err_set(e, errno, "make the scratch directory %s", name);
    return fchmodat(dir, name, mode, 0) < 0 ? err_set(e, errno, "set the mode of %s", name) : 0;
}

int scratch_make_parts(int dir, struct err *e)
{
    int r = make_part(dir, "upper", 0755, e);

    if (r == 0)
        r = make_part(dir, "work", 0700, e); /* the overlay's own */
    return r == 0 ? make_part(dir, "tmp", 01777, e) : r;
}

static int give_parts(const struct scratches *s, int dir, uid_t uid, gid_t gid, struct err *e)
{
    if (s->rootless) /* ours already */
        return 0;
    if (fchownat(dir, "upper", uid, gid, AT_SYMLINK_NOFOLLOW) < 0 ||
        fchownat(dir, "work", (uid_t)-1, gid, AT_SYMLINK_NOFOLLOW) < 0 ||
        fchownat(dir, "tmp", uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
        return err_set(e, errno, "give the scratch directories to %u:%u", uid, gid);
    return 0;
}

/* An id that nothing belongs to: files of a dyno that is gone count until they are removed. */
static uint32_t take_project(struct scratches *s)
{
    for (size_t i = 0; i < s->n_retired && i < 8; i++)
        if (scratch_project_empty(s->dirfd, s->retired[i])) {
            uint32_t id = s->retired[i];

            s->retired[i] = s->retired[--s->n_retired];
            return id;
        }
    for (uint32_t tries = 0; tries < 1000; tries++) {
        uint32_t id = s->next_project++;

        if (s->next_project > SCRATCH_PROJECT_LAST)
            s->next_project = SCRATCH_PROJECT_FIRST;
        if (scratch_project_empty(s->dirfd, id))
            return id;
    }
    return 0;
}

static void retire_project(struct scratches *s, uint32_t id)
{
    if (id && s->n_retired < SCRATCH_RETIRED_MAX)
        s->retired[s->n_retired++] = id; /* more: the next agent's sweep */
}

static int make_dir(struct scratches *s, struct scratch_entry *entry, int *ret_fd, struct err *e)
{
    int r = 0;

    if (mkdirat(s->dirfd, entry->name, 0700) < 0)
        return err_set(e, errno, "make the scratch directory %s", entry->name);
    scoped_fd fd = openat(s->dirfd, entry->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_set(e, errno, "open the scratch directory %s", entry->name);
    if (s->way == SCRATCH_PROJECT && entry->quota.bytes) {
        entry->project = take_project(s);
        r = entry->project ? scratch_project_limit(fd, entry->project, &entry->quota, e)
                           : err_say(e, EUSERS, "no project id is free for a scratch");
        if (r == 0)
            r = scratch_project_mark(fd, entry->project, e);
    }
    if (r == 0)
        r = scratch_make_parts(fd, e);
    if (r == 0)
        *ret_fd = TAKE_FD(fd);
    return r;
}

static const struct scratch_template *find_template(const struct scratches *s,
                                                    const struct scratch_quota *quota)
{
    for (size_t i = 0; i < s->n_templates; i++)
        if (same_quota(&s->templates[i].quota, quota))
            return &s->templates[i];
    return NULL;
}

static int make_image(const struct scratches *s, const struct scratch_entry *entry, int *ret_fd,
                      struct err *e)
{
    const struct scratch_template *t = find_template(s, &entry->quota);
    scoped_fd fd = -1;

    if (!t)
        return err_say(e, EINVAL, "no template for a scratch of %" PRIu64 " bytes",
                       entry->quota.bytes);
    int r = scratch_image_mount(s->dirfd, t, &fd, e);
    if (r == 0)
        r = scratch_make_parts(fd, e);
    if (r == 0)
        *ret_fd = TAKE_FD(fd);
    return r;
}

static bool is_image(const struct scratches *s, const struct scratch_quota *quota)
{
    return s->way == SCRATCH_IMAGE && quota->bytes;
}

static void entry_free(struct scratch_entry *entry)
{
    if (entry)
        fd_closep(&entry->fd);
    free(entry);
}

static void forget_asked(struct scratches *s)
{
    struct scratch_entry *entry;

    while ((entry = TAILQ_FIRST(&s->asked))) {
        TAILQ_REMOVE(&s->asked, entry, link);
        entry_free(entry);
    }
}

static void entry_freep(struct scratch_entry **entry)
{
    entry_free(*entry);
}

static int make(struct scratches *s, const char *name, const struct scratch_quota *quota,
                struct scratch_entry **ret, struct err *e)
{
    int r = check_room(s, quota->bytes, e);

    if (r < 0)
        return r;
    scoped(entry_freep) struct scratch_entry *entry = calloc(1, sizeof(*entry));
    if (!entry)
        return err_set(e, ENOMEM, "make a scratch");
    *entry = (struct scratch_entry){.quota = *quota, .fd = -1};
    if (snprintf(entry->name, sizeof(entry->name), "%s", name) >= (int)sizeof(entry->name))
        return err_say(e, ENAMETOOLONG, "a scratch named %s", name);
    r = is_image(s, quota) ? make_image(s, entry, &entry->fd, e)
                           : make_dir(s, entry, &entry->fd, e);
    if (r < 0) {
        retire_project(s, entry->project);
        return r;
    }
    *ret = TAKE_PTR(entry);
    return 0;
}

/* --- Taking one --- */

/* A spare's directory was made, used by nobody, and holds only its three. */
static void remove_spare(struct scratches *s, struct scratch_entry *entry)
{
    struct err ignored = ERR_INIT; /* the next agent sweeps it */

    TAILQ_REMOVE(&s->spares, entry, link);
    if (!is_image(s, &entry->quota)) {
        (void)tree_remove(s->dirfd, entry->name, &ignored);
        retire_project(s, entry->project);
    }
    entry_free(entry);
}

static struct scratch_entry *find_spare(struct scratches *s, const struct scratch_quota *quota)
{
    struct scratch_entry *entry;

    TAILQ_FOREACH (entry, &s->spares, link)
        if (same_quota(&entry->quota, quota))
            return entry;
    return NULL;
}

static int rename_spare(struct scratches *s, struct scratch_entry *entry, const char *name,
                        struct err *e)
{
    if (!is_image(s, &entry->quota) &&
        syscall(SYS_renameat2, s->dirfd, entry->name, s->dirfd, name, 1 /* RENAME_NOREPLACE */) < 0)
        return err_set(e, errno, "make the scratch directory %s", name);
    (void)snprintf(entry->name, sizeof(entry->name), "%s", name);
    return 0;
}

/* Where there is no room, those that are of other sizes go first: a start goes before them. */
static int make_in_place_of_spares(struct scratches *s, const char *name,
                                   const struct scratch_quota *quota, struct scratch_entry **ret,
                                   struct err *e)
{
    struct err first = ERR_INIT, ignored = ERR_INIT;
    struct scratch_entry *entry;
    int r = make(s, name, quota, ret, &first);

    if (r != -ENOSPC || TAILQ_EMPTY(&s->spares)) {
        if (r < 0)
            *e = first;
        return r;
    }
    while ((entry = TAILQ_FIRST(&s->spares)))
        remove_spare(s, entry);
    (void)tree_remove(s->dirfd, name, &ignored); /* half of one, which would be in the way */
    return make(s, name, quota, ret, e);
}

/* *ret is on no list. */
static int take_entry(struct scratches *s, const char *name, const struct scratch_quota *quota,
                      struct scratch_entry **ret, struct err *e)
{
    struct scratch_entry *entry = find_spare(s, quota);

    if (!entry)
        return make_in_place_of_spares(s, name, quota, ret, e);
    if (strlen(name) >= sizeof(entry->name))
        return err_say(e, ENAMETOOLONG, "a scratch named %s", name);
    int r = rename_spare(s, entry, name, e);
    if (r < 0)
        return r;
    TAILQ_REMOVE(&s->spares, entry, link);
    *ret = entry;
    return 0;
}

int scratch_take(struct scratches *s, const char *name, uid_t uid, gid_t gid,
                 const struct scratch_quota *quota, struct scratch *ret, struct err *e)
{
    static const struct scratch_quota none;
    struct scratch_entry *entry = NULL;
    int r;

    if (s->way == SCRATCH_PLAIN)
        quota = &none;
    r = take_entry(s, name, quota, &entry, e);
    if (r < 0)
        return r;
    r = give_parts(s, entry->fd, uid, gid, e);
    if (r < 0) { /* its directory is the caller's to remove, as after a success */
        retire_project(s, entry->project);
        entry_free(entry);
        return r;
    }
    *ret = (struct scratch){.fd = TAKE_FD(entry->fd), .mounted = is_image(s, quota)};
    TAILQ_INSERT_TAIL(&s->dynos, entry, link);
    return 0;
}

/* So many are there, or asked for. */
static unsigned count_ready(const struct scratches *s, const struct scratch_quota *quota)
{
    const struct scratch_entry *entry;
    unsigned n = 0;

    TAILQ_FOREACH (entry, &s->spares, link)
        n += same_quota(&entry->quota, quota);
    TAILQ_FOREACH (entry, &s->asked, link)
        n += same_quota(&entry->quota, quota);
    return n;
}

static int ask(struct scratches *s, const struct scratch_quota *quota, struct err *e)
{
    int r = check_room(s, quota->bytes, e);

    if (r < 0)
        return r;
    struct scratch_entry *entry = calloc(1, sizeof(*entry));
    if (!entry)
        return err_set(e, ENOMEM, "ask for a scratch");
    *entry = (struct scratch_entry){.quota = *quota, .fd = -1};
    TAILQ_INSERT_TAIL(&s->asked, entry, link);
    r = scratch_maker_ask(s, quota, e);
    if (r < 0)
        forget_asked(s); /* with the maker go all that it was asked for */
    return r;
}

int scratch_ready(struct scratches *s, const struct scratch_quota *quota, unsigned n, struct err *e)
{
    static const struct scratch_quota none;
    struct scratch_entry *entry;
    char name[40];

    if (s->way == SCRATCH_PLAIN)
        quota = &none;
    if (count_ready(s, quota) >= n)
        return 0;
    if (is_image(s, quota)) {
        int r = ask(s, quota, e);

        return r < 0 ? r : 1;
    }
    (void)snprintf(name, sizeof(name), "spare-%016" PRIx64, random_u64());
    int r = make(s, name, quota, &entry, e);
    if (r < 0) {
        struct err ignored = ERR_INIT; /* half of one; the next agent sweeps it */

        (void)tree_remove(s->dirfd, name, &ignored);
        return r;
    }
    TAILQ_INSERT_TAIL(&s->spares, entry, link);
    return 1;
}

bool scratch_ready_fewer(struct scratches *s, const struct scratch_quota *quota, unsigned n)
{
    struct scratch_entry *entry, *last = NULL;
    unsigned count = 0;

    TAILQ_FOREACH (entry, &s->spares, link)
        if (same_quota(&entry->quota, quota)) {
            last = entry;
            count++;
        }
    if (count <= n)
        return false;
    remove_spare(s, last);
    return true;
}

bool scratch_coming(const struct scratches *s, const struct scratch_quota *quota)
{
    const struct scratch_entry *entry;
    bool asked = false;

    TAILQ_FOREACH (entry, &s->spares, link)
        if (same_quota(&entry->quota, quota))
            return false;
    TAILQ_FOREACH (entry, &s->asked, link)
        asked = asked || same_quota(&entry->quota, quota);
    return asked;
}

int scratch_ready_fd(const struct scratches *s)
{
    return s->maker.sock;
}

int scratch_ready_hear(struct scratches *s, struct err *e)
{
    int fd = -1, r = scratch_maker_hear(s, &fd, e);
    struct scratch_entry *entry = TAILQ_FIRST(&s->asked);

    if (r == 0)
        return 0;
    if (r == -EPIPE || !entry) {
        fd_closep(&fd);
        forget_asked(s);
        return r < 0 ? r : err_say(e, EPROTO, "a scratch that nobody asked for");
    }
    TAILQ_REMOVE(&s->asked, entry, link);
    if (r < 0) {
        entry_free(entry);
        return r;
    }
    entry->fd = fd;
    TAILQ_INSERT_TAIL(&s->spares, entry, link);
    return 1;
}

/* --- Whose they are --- */

static struct scratch_entry *find_dyno(const struct scratches *s, const char *name)
{
    struct scratch_entry *entry;

    TAILQ_FOREACH (entry, &s->dynos, link)
        if (!strcmp(entry->name, name))
            return entry;
    return NULL;
}

int scratch_adopt(struct scratches *s, const char *name, const struct scratch_quota *quota,
                  struct err *e)
{
    if (find_dyno(s, name))
        return 0;
    struct scratch_entry *entry = calloc(1, sizeof(*entry));
    if (!entry)
        return err_set(e, ENOMEM, "remember the scratch of %s", name);
    *entry = (struct scratch_entry){.quota = *quota, .fd = -1};
    (void)snprintf(entry->name, sizeof(entry->name), "%s", name);
    TAILQ_INSERT_TAIL(&s->dynos, entry, link);
    return 0;
}

void scratch_forget(struct scratches *s, const char *name)
{
    struct scratch_entry *entry = find_dyno(s, name);

    if (!entry)
        return;
    TAILQ_REMOVE(&s->dynos, entry, link);
    retire_project(s, entry->project);
    entry_free(entry);
}

void scratch_note(struct scratches *s, const char *name, uint64_t bytes)
{
    struct scratch_entry *entry = find_dyno(s, name);

    if (entry)
        entry->used = bytes;
}

int scratch_usage(int fd, const struct scratch_quota *quota, struct scratch_usage *ret)
{
    struct statfs fs;

    if (quota->bytes == 0)
        return -ENODATA;
    if (fstatfs(fd, &fs) < 0)
        return -errno;
    uint64_t block = (uint64_t)fs.f_bsize, all = (uint64_t)fs.f_blocks * block;
    if (all > quota->bytes + quota->bytes / 2 + (UINT64_C(64) << 20))
        return -ENODATA; /* the whole disk: a plain directory of an earlier configuration */
    *ret = (struct scratch_usage){
        .bytes = ((uint64_t)fs.f_blocks - (uint64_t)fs.f_bfree) * block,
        .bytes_max =
            (((uint64_t)fs.f_blocks - (uint64_t)fs.f_bfree) + (uint64_t)fs.f_bavail) * block,
        .inodes = (uint64_t)fs.f_files - (uint64_t)fs.f_ffree,
        .inodes_max = (uint64_t)fs.f_files};
    return 0;
}

bool scratch_is_full(const struct scratch_usage *usage)
{
    /* A write of more than is left fails, and one of a byte may need a block of its own and one for
     * the file's map. */
    uint64_t margin = usage->bytes_max / 512 > 65536 ? usage->bytes_max / 512 : 65536;

    return usage->bytes + margin >= usage->bytes_max ||
           (usage->inodes_max > 0 && usage->inodes >= usage->inodes_max);
}

void scratches_freep(struct scratches **sp)
{
    struct scratches *s = *sp;
    struct scratch_entry *entry;

    if (!s)
        return;
    maker_stop(&s->maker);
    forget_asked(s);
    while ((entry = TAILQ_FIRST(&s->spares)))
        remove_spare(s, entry);
    while ((entry = TAILQ_FIRST(&s->dynos))) {
        TAILQ_REMOVE(&s->dynos, entry, link);
        entry_free(entry);
    }
    scratch_templates_free(s->templates, s->n_templates);
    free(s);
    *sp = NULL;
}

enum scratch_way scratches_way(const struct scratches *s)
{
    return s->way;
}

const char *scratches_text(const struct scratches *s)
{
    return s->text;
}

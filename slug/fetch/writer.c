#include "slug/fetch/writer.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/scoped.h"
#include "slug/fetch/beneath.h"
#include "slug/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define MODE_BUILDING 0700 /* of directories until the end */
#define MODE_IMPLIED  0755 /* of a directory that only its content names */
/* Without O_NOFOLLOW, which would make a link at the end ENOTDIR: open_beneath() says ELOOP. */
#define OPEN_PATH_DIR (O_PATH | O_DIRECTORY | O_CLOEXEC)

/* A directory's record in the file DIRS; PATH follows without its NUL. */
struct dir_record {
    struct timespec mtime;
    mode_t mode;
    uint32_t len;
};

/* The disk's refusal of what was allowed: mostly the platform's. */
static int disk_failed(struct writer *w, int errnum, const char *path, struct err *e)
{
    if (errnum == EMLINK || errnum == ENAMETOOLONG)
        return archive_refuse(e, path, strerror(errnum));
    w->sink.failed = "disk";
    (void)archive_refuse(e, path, strerror(errnum));
    e->errnum = errnum;
    return err_blame(e, FAULT_PLATFORM);
}

/* Why PATH could not be opened beneath the stage. */
static int path_failed(struct writer *w, int errnum, const char *path, struct err *e)
{
    if (errnum == ELOOP || errnum == EXDEV)
        return archive_refuse(e, path, WHY_THROUGH_SYMLINK);
    if (errnum == ENOTDIR)
        return archive_refuse(e, path, WHY_THROUGH_FILE);
    return disk_failed(w, errnum, path, e);
}

static int keep_dir(struct writer *w, const char *path, mode_t mode, const struct timespec *mtime,
                    struct err *e)
{
    struct dir_record record = {.mtime = *mtime, .mode = mode, .len = (uint32_t)strlen(path)};

    if (fwrite(&record, sizeof(record), 1, w->dirs) != 1 ||
        fwrite(path, 1, record.len, w->dirs) != record.len)
        return disk_failed(w, errno, path, e);
    return 0;
}

/* Makes and opens the directory PATH, which lacks one or more of its components. */
static int make_path(struct writer *w, const char *path, int *ret, struct err *e)
{
    char part[FETCH_NAME_MAX];
    scoped_fd dir = fcntl(w->stage, F_DUPFD_CLOEXEC, 3);

    if (dir < 0)
        return disk_failed(w, errno, w->entry.path, e);
    for (const char *p = path; *p;) {
        size_t len = strcspn(p, "/");

        memcpy(part, p, len);
        part[len] = '\0';
        bool made = mkdirat(dir, part, MODE_BUILDING) == 0;
        if (made && archive_imply(&w->implied, len, e) < 0)
            return -e->errnum;
        if (!made && errno != EEXIST)
            return disk_failed(w, errno, w->entry.path, e);
        int next = open_beneath(dir, part, OPEN_PATH_DIR);
        if (next < 0)
            return path_failed(w, errno, w->entry.path, e);
        fd_closep(&dir);
        dir = next;
        p += len + (p[len] == '/');
        if (made) {
            memcpy(part, path, (size_t)(p - path));
            part[p - path - (p[-1] == '/')] = '\0';
            int r = keep_dir(w, part, MODE_IMPLIED, &w->entry.mtime, e);
            if (r < 0)
                return r;
        }
    }
    *ret = TAKE_FD(dir);
    return 0;
}

/* Opens the directory that holds PATH, making what is missing. *ret is borrowed, *ret_name points
 * into PATH. Entries of one directory follow each other, so the last one is kept. */
static int open_parent(struct writer *w, const char *path, int *ret, const char **ret_name,
                       struct err *e)
{
    const char *slash = strrchr(path, '/');
    size_t len = slash ? (size_t)(slash - path) : 0;
    char dir[FETCH_NAME_MAX];

    *ret_name = slash ? slash + 1 : path;
    *ret = w->stage;
    if (len == 0)
        return 0;
    memcpy(dir, path, len);
    dir[len] = '\0';
    if (w->parent < 0 || strcmp(w->parent_path, dir) != 0) {
        int fd = open_beneath(w->stage, dir, OPEN_PATH_DIR);
        int r = fd >= 0           ? 0
                : errno == ENOENT ? make_path(w, dir, &fd, e)
                                  : path_failed(w, errno, path, e);
        if (r < 0)
            return r;
        fd_closep(&w->parent);
        w->parent = fd;
        memcpy(w->parent_path, dir, len + 1);
    }
    *ret = w->parent;
    return 0;
}

/* Makes room for NAME, as an entry of the same path replaces an earlier one. */
static int unlink_old(struct writer *w, int dir, const char *name, const char *path, struct err *e)
{
    if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno == EISDIR || errno == EPERM)
        return archive_refuse(e, path, WHY_OVER_DIR);
    return disk_failed(w, errno, path, e);
}

static int put_dir(struct writer *w, const struct slug_entry *entry, int dir, const char *name,
                   struct err *e)
{
    struct stat st;

    if (entry->path[0] && mkdirat(dir, name, MODE_BUILDING) < 0) {
        if (errno != EEXIST || fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            return disk_failed(w, errno, entry->path, e);
        if (!S_ISDIR(st.st_mode)) {
            int r = unlink_old(w, dir, name, entry->path, e);

            if (r < 0)
                return r;
            if (mkdirat(dir, name, MODE_BUILDING) < 0)
                return disk_failed(w, errno, entry->path, e);
        }
    }
    return keep_dir(w, entry->path, entry->mode, &entry->mtime, e);
}

static int put_file(struct writer *w, const struct slug_entry *entry, int dir, const char *name,
                    struct err *e)
{
    const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;

    w->file = openat(dir, name, flags, 0600);
    if (w->file < 0 && errno == EEXIST) {
        int r = unlink_old(w, dir, name, entry->path, e);

        if (r < 0)
            return r;
        w->file = openat(dir, name, flags, 0600);
    }
    if (w->file < 0)
        return disk_failed(w, errno, entry->path, e);
    return 0;
}

static int put_symlink(struct writer *w, const struct slug_entry *entry, int dir, const char *name,
                       struct err *e)
{
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, entry->mtime};
    int r = unlink_old(w, dir, name, entry->path, e);

    if (r < 0)
        return r;
    if (symlinkat(entry->target, dir, name) < 0)
        return disk_failed(w, errno, entry->path, e);
    (void)utimensat(dir, name, times,
                    AT_SYMLINK_NOFOLLOW); /* a time beyond the disk's is no loss */
    return 0;
}

/* Opens the directory of a hard link's target, which must be there already. */
static int open_target(struct writer *w, const struct slug_entry *entry, int *ret,
                       const char **ret_name, struct err *e)
{
    const char *slash = strrchr(entry->target, '/');
    char dir[FETCH_NAME_MAX] = ".";

    *ret_name = slash ? slash + 1 : entry->target;
    if (slash) {
        memcpy(dir, entry->target, (size_t)(slash - entry->target));
        dir[slash - entry->target] = '\0';
    }
    int fd = open_beneath(w->stage, dir, OPEN_PATH_DIR);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return archive_refuse(e, entry->path, WHY_LINK_MISSING);
    if (fd < 0)
        return path_failed(w, errno, entry->path, e);
    *ret = fd;
    return 0;
}

static int put_hardlink(struct writer *w, const struct slug_entry *entry, int dir, const char *name,
                        struct err *e)
{
    scoped_fd from = -1;
    const char *from_name;
    struct stat st, old;
    int r = open_target(w, entry, &from, &from_name, e);

    if (r < 0)
        return r;
    if (fstatat(from, from_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return archive_refuse(e, entry->path, WHY_LINK_MISSING);
    if (!S_ISREG(st.st_mode))
        return archive_refuse(e, entry->path, WHY_LINK_TO_OTHER);
    if (fstatat(dir, name, &old, AT_SYMLINK_NOFOLLOW) == 0 && old.st_ino == st.st_ino &&
        old.st_dev == st.st_dev)
        return 0;
    r = unlink_old(w, dir, name, entry->path, e);
    if (r < 0)
        return r;
    if (linkat(from, from_name, dir, name, 0) < 0)
        return disk_failed(w, errno, entry->path, e);
    return 0;
}

static int on_entry(struct slug_sink *sink, const struct slug_entry *entry, struct err *e)
{
    struct writer *w = (struct writer *)sink;
    uint64_t start = clock_boot();
    const char *name;
    int dir, r;

    w->entry = *entry;
    r = w->begun ? 0 : keep_dir(w, "", MODE_IMPLIED, &entry->mtime, e);
    w->begun = true;
    if (r == 0)
        r = open_parent(w, entry->path, &dir, &name, e);
    if (r == 0 && entry->kind == SLUG_DIR)
        r = put_dir(w, entry, dir, name, e);
    else if (r == 0 && entry->kind == SLUG_FILE)
        r = put_file(w, entry, dir, name, e);
    else if (r == 0 && entry->kind == SLUG_SYMLINK)
        r = put_symlink(w, entry, dir, name, e);
    else if (r == 0)
        r = put_hardlink(w, entry, dir, name, e);
    w->usec += clock_boot() - start;
    return r;
}

static int on_data(struct slug_sink *sink, const void *buf, size_t len, uint64_t offset,
                   struct err *e)
{
    struct writer *w = (struct writer *)sink;
    uint64_t start = clock_boot();

    for (size_t done = 0; done < len;) {
        ssize_t n = pwrite(w->file, (const char *)buf + done, len - done, (off_t)(offset + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return disk_failed(w, n < 0 ? errno : ENOSPC, w->entry.path, e);
        done += (size_t)n;
    }
    w->usec += clock_boot() - start;
    return 0;
}

static int on_file_end(struct slug_sink *sink, struct err *e)
{
    struct writer *w = (struct writer *)sink;
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, w->entry.mtime};
    uint64_t start = clock_boot();
    struct stat st;
    int r = 0;

    /* A hole at the end has no data to say so. */
    if (fstat(w->file, &st) < 0 ||
        ((uint64_t)st.st_size < w->entry.size && ftruncate(w->file, (off_t)w->entry.size) < 0) ||
        fchmod(w->file, w->entry.mode) < 0)
        r = disk_failed(w, errno, w->entry.path, e);
    (void)futimens(w->file, times); /* a time beyond the disk's is no loss */
    fd_closep(&w->file);
    w->usec += clock_boot() - start;
    return r;
}

static int check_empty(int top, struct err *e)
{
    int copy = openat(top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    scoped(dir_closep) DIR *d = copy < 0 ? NULL : fdopendir(copy);
    struct dirent *entry;

    if (!d) {
        fd_closep(&copy);
        return err_set(e, errno, "read the directory for the slug");
    }
    while ((entry = readdir(d)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            return err_say(e, ENOTEMPTY, "the directory for the slug is not empty");
    return 0;
}

int writer_init(struct writer *w, int top, struct err *e)
{
    *w = (struct writer){
        .sink = {.entry = on_entry, .data = on_data, .file_end = on_file_end},
        .top = top,
        .stage = -1,
        .parent = -1,
        .file = -1,
    };
    int r = check_empty(top, e);
    if (r < 0)
        return r;
    scoped_fd spool = openat(top, WRITER_STAGE, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (spool < 0 || unlinkat(top, WRITER_STAGE, 0) < 0 || !(w->dirs = fdopen(spool, "w+")))
        return err_set(e, errno, "make a file in the directory for the slug");
    (void)TAKE_FD(spool);
    if (mkdirat(top, WRITER_STAGE, MODE_BUILDING) == 0)
        w->stage = openat(top, WRITER_STAGE, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (w->stage < 0) {
        r = err_set(e, errno, "make a directory in the directory for the slug");
        writer_done(w);
    }
    return r;
}

void writer_done(struct writer *w)
{
    fd_closep(&w->stage);
    fd_closep(&w->parent);
    fd_closep(&w->file);
    file_closep(&w->dirs);
    w->dirs = NULL;
}

/* Gives the app its name in TOP. */
static int name_app(struct writer *w, bool app_layout, struct err *e)
{
    const char *from = app_layout ? WRITER_STAGE "/" WRITER_APP : WRITER_STAGE;

    if (renameat2(w->top, from, w->top, WRITER_APP, RENAME_NOREPLACE) < 0 ||
        (app_layout && unlinkat(w->top, WRITER_STAGE, AT_REMOVEDIR) < 0))
        return disk_failed(w, errno, WRITER_APP, e);
    return 0;
}

/* One directory's mode and time. Every mode lets the owner read and enter, so the order does not
 * matter for reaching them, and neither changes the time of a parent. */
static int apply_dir(struct writer *w, int app, const struct dir_record *record, const char *path,
                     struct err *e)
{
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, record->mtime};
    scoped_fd fd = open_beneath(app, *path ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0 || fchmod(fd, record->mode) < 0)
        return disk_failed(w, errno, path, e);
    (void)futimens(fd, times); /* a time beyond the disk's is no loss */
    return 0;
}

static int apply_dirs(struct writer *w, int app, bool app_layout, struct err *e)
{
    struct dir_record record;
    char path[FETCH_NAME_MAX];

    if (fflush(w->dirs) != 0 || fseek(w->dirs, 0, SEEK_SET) != 0)
        return disk_failed(w, errno, WRITER_APP, e);
    while (fread(&record, sizeof(record), 1, w->dirs) == 1) {
        const char *p = path;

        if (record.len >= sizeof(path) || fread(path, 1, record.len, w->dirs) != record.len)
            return disk_failed(w, EIO, WRITER_APP, e);
        path[record.len] = '\0';
        if (app_layout && path[0] == '\0')
            continue; /* what held `app` is gone */
        if (app_layout)
            p += path[3] == '/' ? 4 : 3;
        int r = apply_dir(w, app, &record, p, e);
        if (r < 0)
            return r;
    }
    return ferror(w->dirs) ? disk_failed(w, EIO, WRITER_APP, e) : 0;
}

int writer_finish(struct writer *w, const struct slug_counts *counts, int *ret_app, struct err *e)
{
    bool app_layout = slug_layout_app(counts);
    uint64_t start = clock_boot();
    int r = name_app(w, app_layout, e);

    if (r < 0)
        return r;
    scoped_fd app = openat(w->top, WRITER_APP, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (app < 0)
        return disk_failed(w, errno, WRITER_APP, e);
    r = apply_dirs(w, app, app_layout, e);
    if (r == 0 && syncfs(w->top) < 0)
        r = disk_failed(w, errno, WRITER_APP, e);
    w->usec += clock_boot() - start;
    if (r == 0)
        *ret_app = TAKE_FD(app);
    return r;
}

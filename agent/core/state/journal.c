#include "core/state/journal.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/frame.h"
#include "base/scoped.h"
#include "base/str.h"
#include "core/state/journal_line.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define WRITE_CHUNK (1u << 20)

struct journal {
    int dirfd; /* borrowed */
    int fd;    /* O_APPEND */
    char *name;
    struct model *model; /* borrowed */
    off_t size;          /* up to the last whole line */
    off_t compact_at;
    bool outdated; /* the file is of an older version: nothing of ours may be added to it */
};

void journal_freep(struct journal **j)
{
    if (!*j)
        return;
    fd_closep(&(*j)->fd);
    free((*j)->name);
    free(*j);
    *j = NULL;
}

/* --- Writing the whole --- */

static int write_out(int fd, struct str *text, off_t *size, struct err *e)
{
    int r = fd_write_full(fd, str_text(text), text->len);

    if (r < 0)
        return err_set(e, -r, "write the journal");
    *size += (off_t)text->len;
    str_done(text);
    return 0;
}

static int write_header(struct str *out, struct err *e)
{
    scoped(json_freep) json_t *header = json_pack("{s:i}", "dynod-journal", JOURNAL_VERSION);

    if (!header)
        return err_set(e, ENOMEM, "write the journal");
    return line_encode(header, out, e);
}

/* All that the model has, to FD. */
static int write_model(const struct model *model, int fd, off_t *ret_size, struct err *e)
{
    scoped(json_freep) json_t *entries = model_entries(model);
    scoped(str_done) struct str text = {0};
    off_t size = 0;
    json_t *entry;
    size_t i;

    if (!entries)
        return err_set(e, ENOMEM, "write the journal");
    int r = write_header(&text, e);
    json_array_foreach (entries, i, entry) {
        if (r == 0)
            r = line_encode(entry, &text, e);
        if (r == 0 && text.len >= WRITE_CHUNK)
            r = write_out(fd, &text, &size, e);
        if (r < 0)
            return r;
    }
    if (r == 0)
        r = write_out(fd, &text, &size, e);
    if (r == 0)
        *ret_size = size;
    return r;
}

/* Puts a new file in the place of the old: compaction, and the first one of all. */
static int rewrite(struct journal *j, struct err *e)
{
    char tmp[NAME_MAX + 1];
    off_t size = 0;
    int r;

    if (snprintf(tmp, sizeof(tmp), "%s.new", j->name) >= (int)sizeof(tmp))
        return err_set(e, ENAMETOOLONG, "make the journal %s", j->name);
    (void)unlinkat(j->dirfd, tmp, 0); /* what an earlier death left */
    scoped_fd fd =
        openat(j->dirfd, tmp, O_RDWR | O_APPEND | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_set(e, errno, "make %s", tmp);
    r = write_model(j->model, fd, &size, e);
    /* Else a power cut soon after the rename may leave an empty file (xfs). */
    if (r == 0 && fdatasync(fd) < 0)
        r = err_set(e, errno, "write %s", tmp);
    if (r == 0 && renameat(j->dirfd, tmp, j->dirfd, j->name) < 0)
        r = err_set(e, errno, "put %s in its place", tmp);
    if (r < 0) {
        (void)unlinkat(j->dirfd, tmp, 0);
        return r;
    }
    fd_closep(&j->fd);
    j->fd = TAKE_FD(fd);
    j->size = size;
    j->outdated = false;
    j->compact_at = size * 2 > JOURNAL_COMPACT_AT ? size * 2 : JOURNAL_COMPACT_AT;
    return 0;
}

/* --- Replay --- */

struct replay {
    off_t good;      /* up to here the file is sound */
    const char *why; /* what the bad line has; NULL: none is bad */
    bool foreign;    /* of a version that we do not know */
    bool outdated;   /* of an older one that we do */
    char foreign_what[96];
    unsigned long entries, refused;
    struct err first_refusal;
};

/* The first line. */
static void replay_header(const json_t *json, struct replay *p)
{
    int64_t version = json_int(json, "dynod-journal", 0);

    p->outdated = version < JOURNAL_VERSION;
    if (version >= JOURNAL_VERSION_OLDEST && version <= JOURNAL_VERSION)
        return;
    p->foreign = version > JOURNAL_VERSION;
    if (p->foreign)
        (void)snprintf(p->foreign_what, sizeof(p->foreign_what), "version %jd", (intmax_t)version);
    else
        p->why = "no journal's first line";
}

static int replay_entry(struct model *model, const json_t *json, struct replay *p, struct err *e)
{
    int r = model_apply(model, json, NULL, e);

    p->entries++;
    if (r == 0 || r == -ENOMEM)
        return r;
    if (r == -EOPNOTSUPP) {
        p->foreign = true;
        (void)snprintf(p->foreign_what, sizeof(p->foreign_what), "%.90s", e->text);
    } else if (p->refused++ == 0) {
        p->first_refusal = *e;
    }
    return 0;
}

static int replay(int fd, struct model *model, struct replay *p, struct err *e)
{
    scoped(line_reader_done) struct line_reader reader = {.fd = fd};
    enum line_kind kind;
    bool first = true;

    for (;;) {
        scoped(json_freep) json_t *json = NULL;
        int r = line_next(&reader, &kind, &json, &p->why, e);

        if (r < 0 || kind != LINE_GOOD)
            return r;
        if (first)
            replay_header(json, p);
        else
            r = replay_entry(model, json, p, e);
        if (r < 0 || p->foreign || p->why)
            return r;
        first = false;
        p->good = reader.offset;
    }
}

/* --- What to do with a file that is not sound. Keeping a copy of what is lost must not keep the
 * agent from starting: where it fails, the notice says so. --- */

static void bad_name(const struct journal *j, char out[NAME_MAX + 1])
{
    uint64_t now = clock_real();
    time_t sec = (time_t)(now / USEC_PER_SEC);
    char stamp[32];
    struct tm tm;

    if (!gmtime_r(&sec, &tm) || strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%S", &tm) == 0)
        stamp[0] = '\0';
    (void)snprintf(out, NAME_MAX + 1, "%.200s.bad-%s.%06uZ", j->name, stamp,
                   (unsigned)(now % USEC_PER_SEC));
}

/* Copies what is in FD from OFFSET on into the new file NAME. */
static int copy_tail(const struct journal *j, int fd, off_t offset, const char *name)
{
    scoped_fd out =
        openat(j->dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    scoped_free char *buf = malloc(WRITE_CHUNK);
    ssize_t n;
    int r = 0;

    if (out < 0 || !buf)
        return out < 0 ? -errno : -ENOMEM;
    while (r == 0 && (n = pread(fd, buf, WRITE_CHUNK, offset)) != 0) {
        r = n < 0 ? -errno : fd_write_full(out, buf, (size_t)n);
        offset += n;
    }
    if (r < 0)
        (void)unlinkat(j->dirfd, name, 0); /* half a copy would only mislead */
    return r;
}

static void tell_kept(struct str *notice, int r, const char *name)
{
    if (r == 0)
        str_addf(notice, "; kept in %s", name);
    else
        str_addf(notice, "; a copy could not be kept: %s", strerrordesc_np(-r));
}

/* Cuts the file after its last sound line. */
static int cut_tail(struct journal *j, const struct replay *p, off_t size, struct str *notice,
                    struct err *e)
{
    char name[NAME_MAX + 1];

    bad_name(j, name);
    str_addf(notice, "%s: cut %jd bytes after %lu entries: %s", j->name, (intmax_t)(size - p->good),
             p->entries, p->why);
    tell_kept(notice, copy_tail(j, j->fd, p->good, name), name);
    if (ftruncate(j->fd, p->good) < 0)
        return err_set(e, errno, "cut %s", j->name);
    j->size = p->good;
    return 0;
}

/* Moves the file out of the way and starts anew with what the model has: nothing when the file is
 * FOREIGN, else all but the refused entries. */
static int set_aside(struct journal *j, const struct replay *p, struct str *notice, struct err *e)
{
    char name[NAME_MAX + 1];

    bad_name(j, name);
    if (p->foreign) {
        model_clear(j->model);
        str_addf(notice, "%s%s: set aside: from a later version of dynod (%s)",
                 notice->len ? "; " : "", j->name, p->foreign_what);
    } else {
        str_addf(notice, "%s%s: skipped %lu of %lu entries, the first: %s", notice->len ? "; " : "",
                 j->name, p->refused, p->entries, p->first_refusal.text);
    }
    int r = linkat(j->dirfd, j->name, j->dirfd, name, 0) < 0 ? -errno : 0;
    tell_kept(notice, r, name);
    return rewrite(j, e); /* renames over the old name */
}

static int open_existing(struct journal *j, struct str *notice, struct err *e)
{
    struct replay p = {0};
    struct stat st;
    int r;

    if (fstat(j->fd, &st) < 0)
        return err_set(e, errno, "stat the journal %s", j->name);
    if (!S_ISREG(st.st_mode))
        return err_say(e, EINVAL, "the journal %s is not a regular file", j->name);
    r = replay(j->fd, j->model, &p, e);
    if (r < 0)
        return r;
    j->size = p.good;
    j->compact_at = JOURNAL_COMPACT_AT;
    if (p.foreign)
        return set_aside(j, &p, notice, e);
    if (p.why)
        r = cut_tail(j, &p, st.st_size, notice, e);
    if (r == 0 && p.refused)
        return set_aside(j, &p, notice, e);
    if (r == 0 && p.good == 0) /* without even a first line */
        return rewrite(j, e);
    if (r == 0 && p.outdated) {
        struct err later = ERR_INIT;

        j->outdated = true;
        (void)rewrite(j, &later); /* a disk that is full is no reason not to start */
    }
    return r;
}

int journal_open(int dirfd, const char *name, struct model *model, struct journal **ret,
                 char **ret_notice, struct err *e)
{
    scoped(journal_freep) struct journal *j = calloc(1, sizeof(*j));
    scoped(str_done) struct str notice = {0};
    int r;

    if (!j)
        return err_set(e, ENOMEM, "open the journal");
    j->fd = -1;
    j->dirfd = dirfd;
    j->model = model;
    if (!(j->name = strdup(name)))
        return err_set(e, ENOMEM, "open the journal");
    /* O_NONBLOCK: a FIFO must not stop the start. */
    j->fd = openat(dirfd, name, O_RDWR | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (j->fd < 0 && errno != ENOENT)
        return err_set(e, errno, "open the journal %s", name);
    r = j->fd < 0 ? rewrite(j, e) : open_existing(j, &notice, e);
    if (r < 0)
        return r;
    if (notice.failed)
        return err_set(e, ENOMEM, "open the journal");
    *ret_notice = TAKE_PTR(notice.data);
    *ret = TAKE_PTR(j);
    return 0;
}

/* --- One entry --- */

/* The file must be as we left it, and of our version: an unfinished line that could not be taken
 * back is in the way, and somebody may have removed or changed it. */
static int heal(struct journal *j, struct err *e)
{
    struct stat st;

    if (fstat(j->fd, &st) < 0)
        return err_set(e, errno, "stat the journal %s", j->name);
    if (!j->outdated && st.st_nlink > 0 && st.st_size == j->size)
        return 0;
    return rewrite(j, e);
}

static int append(struct journal *j, const struct str *line, struct err *e)
{
    ssize_t n;
    int r = heal(j, e);

    if (r < 0)
        return r;
    do {
        n = write(j->fd, line->data, line->len);
    } while (n < 0 && errno == EINTR);
    if (n == (ssize_t)line->len) {
        j->size += n;
        return 0;
    }
    r = n < 0 ? errno : ENOSPC;      /* a short write to a file: no room for the rest */
    (void)ftruncate(j->fd, j->size); /* where it fails, the next heal() sees to it */
    return err_set(e, r, "write the journal %s", j->name);
}

/* Compaction is a saving, not a need: where it fails, the file just goes on growing for a while. */
static void maybe_compact(struct journal *j)
{
    struct err ignored = ERR_INIT;

    if (j->size >= j->compact_at && rewrite(j, &ignored) < 0)
        j->compact_at = j->size + JOURNAL_COMPACT_AT;
}

int journal_apply(struct journal *j, const json_t *entry, json_t **ret_entry, struct err *e)
{
    scoped(model_drop) struct model_change *change = NULL;
    scoped(json_freep) json_t *out = NULL;
    scoped(str_done) struct str line = {0};
    int r = model_prepare(j->model, entry, &change, &out, e);

    if (r == 0)
        r = line_encode(out, &line, e);
    if (r == 0)
        r = append(j, &line, e);
    if (r < 0)
        return r;
    model_commit(&change);
    maybe_compact(j);
    if (ret_entry)
        *ret_entry = TAKE_PTR(out);
    return 0;
}

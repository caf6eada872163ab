#include "core/control/outbox.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/frame.h"
#include "base/linkproto.h"
#include "base/scoped.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <unistd.h>

#define OUTBOX_NEW    OUTBOX_FILE ".new"
#define INDEX_SLOTS   4096u /* a power of two */
#define HEADER_KEY    "dynod-exits"
#define TRIMMED_TEXT  "too long to be kept"
#define ACKS_MAX      1000u      /* ids in one line; more: the file is written anew */
#define READ_LINE_MAX (1u << 20) /* such a line, or an exit, with room */

struct kept {
    TAILQ_ENTRY(kept) link;
    LIST_ENTRY(kept) same_slot;
    json_t *exit;
    bool saved; /* it is in the file */
    bool given; /* by outbox_next() */
};

struct outbox {
    int dirfd;        /* borrowed */
    int fd;           /* O_APPEND; -1: there is no file yet */
    off_t size, live; /* bytes of the file; of the exits in it that wait */
    size_t max, n, n_given, n_unsaved;
    uint64_t dropped;
    TAILQ_HEAD(kept_list, kept) kept;
    LIST_HEAD(, kept) index[INDEX_SLOTS]; /* by id */
};

static const char *kept_id(const struct kept *k)
{
    return json_str(k->exit, "id", "");
}

/* FNV-1a. */
static unsigned slot_of(const char *id)
{
    uint32_t hash = 2166136261u;

    for (; *id; id++)
        hash = (hash ^ (unsigned char)*id) * 16777619u;
    return hash & (INDEX_SLOTS - 1);
}

static struct kept *find(struct outbox *o, const char *id)
{
    struct kept *k;

    LIST_FOREACH (k, &o->index[slot_of(id)], same_slot)
        if (!strcmp(kept_id(k), id))
            return k;
    return NULL;
}

static void forget(struct outbox *o, struct kept *k)
{
    TAILQ_REMOVE(&o->kept, k, link);
    LIST_REMOVE(k, same_slot);
    o->n--;
    o->n_given -= k->given;
    o->n_unsaved -= !k->saved;
    json_decref(k->exit);
    free(k);
}

static struct kept *keep(struct outbox *o, json_t *exit, bool saved)
{
    struct kept *k = calloc(1, sizeof(*k));

    if (!k)
        return NULL;
    k->exit = json_incref(exit);
    k->saved = saved;
    TAILQ_INSERT_TAIL(&o->kept, k, link);
    LIST_INSERT_HEAD(&o->index[slot_of(kept_id(k))], k, same_slot);
    o->n++;
    o->n_unsaved += !saved;
    return k;
}

/* --- Writing --- */

static int add_line(struct str *out, const json_t *json)
{
    scoped_free char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;

    if (!text)
        return -ENOMEM;
    str_add(out, text);
    str_add(out, "\n");
    return out->failed ? -ENOMEM : 0;
}

static int add_exit_line(struct str *out, json_t *exit)
{
    scoped(json_freep) json_t *line = json_pack("{s:O}", "exit", exit);

    return add_line(out, line);
}

/* A new file with what waits, in the place of the old one. */
static int rewrite(struct outbox *o, struct err *e)
{
    scoped(json_freep) json_t *header = json_pack("{s:i}", HEADER_KEY, OUTBOX_VERSION);
    scoped(str_done) struct str text = {.max = OUTBOX_FILE_MAX};
    struct kept *k;

    int r = add_line(&text, header);
    TAILQ_FOREACH (k, &o->kept, link)
        if (r == 0)
            r = add_exit_line(&text, k->exit);
    if (r < 0)
        return err_set(e, ENOMEM, "write " OUTBOX_FILE);
    (void)unlinkat(o->dirfd, OUTBOX_NEW, 0); /* what an earlier death left */
    scoped_fd fd = openat(o->dirfd, OUTBOX_NEW,
                          O_RDWR | O_APPEND | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_set(e, errno, "make " OUTBOX_NEW);
    r = fd_write_full(fd, text.data, text.len);
    if (r == 0 && renameat(o->dirfd, OUTBOX_NEW, o->dirfd, OUTBOX_FILE) < 0)
        r = -errno;
    if (r < 0) {
        (void)unlinkat(o->dirfd, OUTBOX_NEW, 0);
        return err_set(e, -r, "write " OUTBOX_FILE);
    }
    fd_closep(&o->fd);
    o->fd = TAKE_FD(fd);
    o->size = o->live = (off_t)text.len;
    TAILQ_FOREACH (k, &o->kept, link)
        k->saved = true;
    o->n_unsaved = 0;
    return 0;
}

/* The file is as we left it: nobody removed it, and a short write could be taken back. */
static bool file_sound(const struct outbox *o)
{
    struct stat st;

    return o->fd >= 0 && fstat(o->fd, &st) == 0 && st.st_nlink > 0 && st.st_size == o->size;
}

static int append(struct outbox *o, const struct str *text, struct err *e)
{
    ssize_t n;

    do {
        n = write(o->fd, text->data, text->len);
    } while (n < 0 && errno == EINTR);
    if (n == (ssize_t)text->len) {
        o->size += n;
        return 0;
    }
    int errnum = n < 0 ? errno : ENOSPC; /* a short write to a file: no room for the rest */
    if (n > 0)
        (void)ftruncate(o->fd, o->size); /* where it fails, the file is not sound: made anew */
    return err_set(e, errnum, "write " OUTBOX_FILE);
}

int outbox_save(struct outbox *o, struct err *e)
{
    scoped(str_done) struct str text = {.max = OUTBOX_FILE_MAX};
    struct kept *k;

    if (o->n_unsaved == 0)
        return 0;
    if (!file_sound(o))
        return rewrite(o, e);
    TAILQ_FOREACH (k, &o->kept, link)
        if (!k->saved && add_exit_line(&text, k->exit) < 0)
            return err_set(e, ENOMEM, "write " OUTBOX_FILE);
    int r = append(o, &text, e);
    if (r < 0)
        return r;
    TAILQ_FOREACH (k, &o->kept, link)
        k->saved = true;
    o->n_unsaved = 0;
    o->live += (off_t)text.len;
    return 0;
}

/* IDS wait no more. What cannot be noted is told to the controller once more after a restart. */
static int note_acked(struct outbox *o, const json_t *ids, struct err *e)
{
    scoped(json_freep) json_t *line = json_pack("{s:O}", "ack", ids);
    scoped(str_done) struct str text = {0};

    if (!file_sound(o) || json_array_size(ids) > ACKS_MAX ||
        o->size > 2 * o->live + OUTBOX_COMPACT_AT)
        return rewrite(o, e);
    if (add_line(&text, line) < 0)
        return err_set(e, ENOMEM, "write " OUTBOX_FILE);
    return append(o, &text, e);
}

/* --- Reading --- */

struct reading {
    size_t bad;   /* lines */
    bool foreign; /* from a later version */
    int64_t version;
};

static void remove_id(struct outbox *o, const char *id)
{
    struct kept *k = find(o, id);

    if (k)
        forget(o, k);
}

static bool exit_valid(const json_t *exit)
{
    size_t len = strlen(json_str(exit, "id", ""));

    return len > 0 && len <= LINK_EXIT_ID_MAX;
}

static int take_line(struct outbox *o, const json_t *line, struct reading *p)
{
    const json_t *acked = json_object_get(line, "ack");
    json_t *exit = json_object_get(line, "exit"), *id;
    size_t i;

    if (json_object_get(line, HEADER_KEY)) {
        p->version = json_int(line, HEADER_KEY, 0);
        p->foreign = p->version > OUTBOX_VERSION;
    } else if (json_is_array(acked)) {
        json_array_foreach (acked, i, id)
            if (json_is_string(id))
                remove_id(o, json_string_value(id));
    } else if (!exit_valid(exit)) {
        p->bad++;
    } else if (!find(o, json_str(exit, "id", "")) && !keep(o, exit, true)) {
        return -ENOMEM;
    }
    return 0;
}

static int take_lines(struct outbox *o, char *text, size_t len, struct reading *p)
{
    char *line = text, *end;
    int r = 0;

    while (r == 0 && !p->foreign && (end = memchr(line, '\n', len - (size_t)(line - text)))) {
        scoped(json_freep) json_t *json = NULL;
        struct err why = ERR_INIT;

        if (end > line) {
            r = json_parse(line, (size_t)(end - line), READ_LINE_MAX, &json, &why);
            if (r == 0)
                r = take_line(o, json, p);
            else if (r != -ENOMEM)
                p->bad++, r = 0;
        }
        line = end + 1;
    }
    if (*line && !p->foreign)
        p->bad++; /* torn */
    return r;
}

/* Out of the way, under a name of its own. */
static void set_aside(struct outbox *o, const char *why, struct str *notice)
{
    char name[96];

    (void)snprintf(name, sizeof(name), OUTBOX_FILE ".bad-%" PRIu64, clock_real());
    str_addf(notice, OUTBOX_FILE ": set aside: %s", why);
    if (renameat(o->dirfd, OUTBOX_FILE, o->dirfd, name) == 0)
        str_addf(notice, "; kept in %s", name);
    else
        str_addf(notice, "; it could not be kept: %s", strerrordesc_np(errno));
}

static void drop_over(struct outbox *o)
{
    while (o->n > o->max) {
        forget(o, TAILQ_FIRST(&o->kept));
        o->dropped++;
    }
}

static int load(struct outbox *o, struct str *notice, struct err *e)
{
    scoped_free char *text = NULL;
    struct reading p = {0};
    struct err why = ERR_INIT;
    char from[64];
    size_t len = 0;
    int r = file_read(o->dirfd, OUTBOX_FILE, OUTBOX_FILE_MAX, &text, &len, &why);

    if (r == -ENOENT)
        return 0;
    if (r == -ENOMEM || r == -EIO || r == -EMFILE || r == -ENFILE) { /* our means, not the file */
        *e = why;
        return r;
    }
    if (r < 0) {
        set_aside(o, why.text, notice);
        return 0;
    }
    if (take_lines(o, text, len, &p) < 0)
        return err_set(e, ENOMEM, "read " OUTBOX_FILE);
    if (p.foreign) {
        while (!TAILQ_EMPTY(&o->kept))
            forget(o, TAILQ_FIRST(&o->kept));
        (void)snprintf(from, sizeof(from), "from a later version of dynod (%jd)",
                       (intmax_t)p.version);
        set_aside(o, from, notice);
    } else if (p.bad) {
        str_addf(notice, OUTBOX_FILE ": %zu lines could not be read", p.bad);
    }
    drop_over(o);
    return 0;
}

int outbox_open(int dirfd, size_t max, struct outbox **ret, char **ret_notice, struct err *e)
{
    scoped(outbox_freep) struct outbox *o = calloc(1, sizeof(*o));
    scoped(str_done) struct str notice = {0};
    struct err full = ERR_INIT;

    if (!o)
        return err_set(e, ENOMEM, "open " OUTBOX_FILE);
    o->dirfd = dirfd;
    o->fd = -1;
    o->max = max;
    TAILQ_INIT(&o->kept);
    int r = load(o, &notice, e);
    if (r < 0)
        return r;
    /* Made anew: history goes, and what was torn too. Where the disk is full the old one stays, and
     * the next change tries again. */
    if (rewrite(o, &full) < 0)
        str_addf(&notice, "%s%s", notice.len ? "; " : "", full.text);
    *ret_notice = TAKE_PTR(notice.data);
    *ret = TAKE_PTR(o);
    return 0;
}

void outbox_freep(struct outbox **op)
{
    struct outbox *o = *op;

    if (!o)
        return;
    while (!TAILQ_EMPTY(&o->kept))
        forget(o, TAILQ_FIRST(&o->kept));
    fd_closep(&o->fd);
    free(o);
    *op = NULL;
}

/* --- What is asked of it --- */

/* EXIT, or without its evidence where it is longer than a line may be. */
static json_t *bounded(const json_t *exit)
{
    json_t *copy = json_copy((json_t *)(uintptr_t)exit);

    if (copy && json_dumpb(copy, NULL, 0, JSON_COMPACT) > OUTBOX_LINE_MAX) {
        (void)json_object_set_new(copy, "evidence", json_object());
        (void)json_object_set_new(copy, "text", json_string(TRIMMED_TEXT));
    }
    return copy;
}

int outbox_add(struct outbox *o, const json_t *exit, struct err *e)
{
    scoped(json_freep) json_t *copy = NULL;

    if (!exit_valid(exit))
        return err_say(e, EINVAL, "an exit without an id");
    if (find(o, json_str(exit, "id", "")))
        return 0;
    copy = bounded(exit);
    if (!copy || !keep(o, copy, false))
        return err_set(e, ENOMEM, "keep an exit for the controller");
    drop_over(o); /* a later rewrite, or the next start, drops them from the file too */
    return outbox_save(o, e);
}

int outbox_ack(struct outbox *o, const json_t *ids, struct err *e)
{
    scoped(json_freep) json_t *known = json_array();
    json_t *id;
    size_t i, before = o->n;

    json_array_foreach (ids, i, id)
        if (json_is_string(id) && find(o, json_string_value(id))) {
            remove_id(o, json_string_value(id));
            if (json_array_append(known, id) < 0)
                return err_set(e, ENOMEM, "note what the controller has");
        }
    if (o->n == before)
        return 0;
    if (o->n == 0)
        o->live = 0;
    else /* about: what it is for is to know when a rewrite pays */
        o->live -= o->live / (off_t)before * (off_t)(before - o->n);
    return note_acked(o, known, e);
}

size_t outbox_waiting(const struct outbox *o)
{
    return o->n;
}

uint64_t outbox_dropped(const struct outbox *o)
{
    return o->dropped;
}

bool outbox_unsaved(const struct outbox *o)
{
    return o->n_unsaved > 0;
}

const json_t *outbox_next(struct outbox *o)
{
    struct kept *k;

    if (o->n_given >= OUTBOX_WINDOW)
        return NULL;
    TAILQ_FOREACH (k, &o->kept, link)
        if (!k->given) {
            k->given = true;
            o->n_given++;
            return k->exit;
        }
    return NULL;
}

void outbox_rewind(struct outbox *o)
{
    struct kept *k;

    TAILQ_FOREACH (k, &o->kept, link)
        k->given = false;
    o->n_given = 0;
}

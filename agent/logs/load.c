#include "logs/logs.h"

#include "base/fdio.h"
#include "base/log.h"
#include "base/scoped.h"
#include "base/str.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Spools by the ID of their incarnation, in order, while the tails say where they stand. */
struct found {
    struct logs *logs;
    struct dyno **dynos;
    size_t n;
    struct app *app; /* whose tail is being read */
};

static int load_entry(struct logs *l, const char *name, const json_t *keep, struct err *e)
{
    char app_name[APP_NAME_MAX + 1], inc[LOG_INC_MAX + 1];
    size_t len = strlen(name);
    struct app *app;
    struct dyno *d;
    uint64_t gen;
    int r = 0;

    (void)keep;
    if (len > 4 && !strcmp(name + len - 4, ".new")) {
        (void)unlinkat(l->dirfd, name, 0); /* the write that a death interrupted never happened */
    } else if (tail_name_parse(name, app_name, &gen)) {
        r = app_get(l, app_name, &app, e);
        if (r == 0)
            tail_found(app->tail, gen);
    } else if (spool_name_parse(name, inc)) {
        r = logdyno_new(l, inc, &d, e);
    }
    return r;
}

typedef int (*on_name)(struct logs *l, const char *name, const json_t *keep, struct err *e);

static int each_name(struct logs *l, on_name fn, const json_t *keep, struct err *e)
{
    scoped_fd fd = openat(l->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    scoped(dir_closep) DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    int r = 0;

    if (!dir)
        return err_set(e, errno, "list the directory");
    (void)TAKE_FD(fd); /* the DIR's now */
    while (r == 0) {
        errno = 0;
        struct dirent *entry = readdir(dir);
        if (!entry)
            return errno ? err_set(e, errno, "list the directory") : 0;
        r = fn(l, entry->d_name, keep, e);
    }
    return r;
}

static int drop_spool(struct logs *l, const char *name, const json_t *keep, struct err *e)
{
    char inc[LOG_INC_MAX + 1];

    if (!spool_name_parse(name, inc) || json_object_get(keep, inc) || logdyno_find(l, inc))
        return 0;
    return spool_remove(l->dirfd, inc, e);
}

int logs_drop_spools(struct logs *l, const json_t *keep, struct err *e)
{
    return each_name(l, drop_spool, keep, e);
}

static int by_inc(const void *a, const void *b)
{
    return strcmp((*(struct dyno *const *)a)->inc, (*(struct dyno *const *)b)->inc);
}

static struct dyno *found_dyno(const struct found *f, const struct record *r)
{
    struct dyno key, *pkey = &key;

    memcpy(key.inc, r->inc, r->inc_len);
    key.inc[r->inc_len] = '\0';
    struct dyno **hit = f->n ? bsearch(&pkey, f->dynos, f->n, sizeof(*f->dynos), by_inc) : NULL;
    return hit ? *hit : NULL;
}

/* Records come in the order of their writing: the last one of an incarnation holds. */
static void on_record(void *userdata, const struct record *r)
{
    struct found *f = userdata;

    if (r->kind == RECORD_PLATFORM || r->kind == RECORD_SEQ) {
        if (r->seq > f->logs->seq)
            f->logs->seq = r->seq;
        return;
    }
    struct dyno *d = found_dyno(f, r);
    if (!d)
        return;
    d->app = f->app;
    d->found_pos = r->end;
    memcpy(d->name, r->dyno, r->dyno_len);
    d->name[r->dyno_len] = '\0';
}

static int load_tails(struct found *f, struct err *e)
{
    for (f->app = f->logs->apps; f->app; f->app = f->app->next) {
        uint64_t cut = 0;
        int r = tail_load(f->app->tail, on_record, f, &cut, e);

        if (r == -EBADMSG)
            log_warn("%s", e->text);
        else if (r < 0)
            return r;
        if (cut > 0)
            log_info("%s: cut %" PRIu64 " bytes of an unfinished write off the tail", f->app->name,
                     cut);
    }
    return 0;
}

static int load_seq(struct logs *l, struct err *e)
{
    scoped_free char *text = NULL;
    size_t len;
    uint64_t seq;
    int r = file_read(l->dirfd, SEQ_FILE, 32, &text, &len, e);

    if (r == -ENOENT)
        return 0;
    if (r < 0)
        return r;
    if (parse_u64(text, 0, INT64_MAX, &seq) < 0)
        return err_say(e, EBADMSG, "%s is not a number", SEQ_FILE);
    if (seq > l->seq)
        l->seq = seq;
    return 0;
}

static int open_spools(struct found *f, struct err *e)
{
    for (size_t i = 0; i < f->n; i++) {
        struct dyno *d = f->dynos[i];

        if (!d->app) {
            log_warn("no record says whose %s is: its spool waits until it is opened again",
                     d->inc);
            logdyno_free(d);
            continue;
        }
        int r = spool_open(f->logs->dirfd, d->inc, d->found_pos, &d->spool, e);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Bytes that left their pipe and are not on record have their turn before any query. All spools are
 * open by then: a checkpoint leaves out what is not, and two of them would drop the only record of
 * where it stands. Nothing is freed in these turns: nobody has been forgotten yet. */
static void tell_rest(struct logs *l)
{
    for (struct dyno *d = l->dynos; d; d = d->next)
        logdyno_run(d);
}

int logs_load(struct logs *l, struct err *e)
{
    struct found f = {.logs = l};
    int r = each_name(l, load_entry, NULL, e);

    if (r < 0)
        return r;
    scoped_free struct dyno **dynos = calloc(l->n_dynos + 1, sizeof(*dynos));
    if (!dynos)
        return err_set(e, ENOMEM, "load the spools");
    for (struct dyno *d = l->dynos; d; d = d->next)
        dynos[f.n++] = d;
    qsort(dynos, f.n, sizeof(*dynos), by_inc);
    f.dynos = dynos;
    r = load_tails(&f, e);
    if (r == 0)
        r = load_seq(l, e);
    if (r == 0)
        r = open_spools(&f, e);
    if (r == 0)
        tell_rest(l);
    return r;
}

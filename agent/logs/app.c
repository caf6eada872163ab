#include "logs/logs.h"

#include "base/fdio.h"
#include "base/log.h"
#include "base/str.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct app *app_find(const struct logs *l, const char *name)
{
    struct app *app = l->apps;

    while (app && strcmp(app->name, name) != 0)
        app = app->next;
    return app;
}

int app_get(struct logs *l, const char *name, struct app **ret, struct err *e)
{
    struct app *app = app_find(l, name);

    if (!app) {
        app = calloc(1, sizeof(*app));
        if (!app)
            return err_set(e, ENOMEM, "make an app");
        (void)snprintf(app->name, sizeof(app->name), "%s", name);
        int r = tail_new(l->dirfd, name, l->options.tail_bytes, &app->tail, e);
        if (r < 0) {
            free(app);
            return r;
        }
        app->next = l->apps;
        l->apps = app;
    }
    *ret = app;
    return 0;
}

static void checkpoint_add(struct str *out, const struct record *r)
{
    unsigned char record[RECORD_MAX];

    str_add_n(out, record, record_encode(r, record));
}

/* What the app's older records say beyond their lines. */
static int rotate(struct logs *l, struct app *app, struct err *e)
{
    struct str checkpoint = {0};

    checkpoint_add(&checkpoint, &(struct record){.kind = RECORD_SEQ, .seq = l->seq});
    for (struct dyno *d = l->dynos; d; d = d->next)
        if (d->app == app && d->spool.fd >= 0)
            checkpoint_add(&checkpoint, &(struct record){.kind = RECORD_POSITION,
                                                         .end = d->spool.pos,
                                                         .dyno = d->name,
                                                         .dyno_len = strlen(d->name),
                                                         .inc = d->inc,
                                                         .inc_len = strlen(d->inc)});
    int r = checkpoint.failed ? err_set(e, ENOMEM, "make a checkpoint")
                              : tail_rotate(app->tail, checkpoint.data, checkpoint.len, e);
    str_done(&checkpoint);
    return r;
}

int app_append(struct logs *l, struct app *app, const void *records, size_t len, struct err *e)
{
    int r = tail_full(app->tail) ? rotate(l, app, e) : 0;

    if (r == 0)
        r = tail_append(app->tail, records, len, e);
    if (r == 0)
        readers_publish(l, app, records, len);
    return r;
}

static bool app_has_dynos(const struct logs *l, const struct app *app)
{
    for (const struct dyno *d = l->dynos; d; d = d->next)
        if (d->app == app)
            return true;
    return false;
}

/* The app's records may be the only ones that have the highest SEQ. */
static int keep_seq(struct logs *l, struct err *e)
{
    char text[24];
    int n = snprintf(text, sizeof(text), "%" PRIu64, l->seq);

    return file_write_atomic(l->dirfd, SEQ_FILE, text, (size_t)n, 0600, e);
}

int app_forget(struct logs *l, struct app *app, struct err *e)
{
    int r = keep_seq(l, e);

    if (r < 0)
        return r;
    app->forgotten = true;
    if (!app_has_dynos(l, app)) {
        app_collect(l, app);
        return 0;
    }
    /* Its dynos' positions stay, the lines go. */
    r = rotate(l, app, e);
    return r < 0 ? r : tail_remove_older(app->tail, e);
}

void app_collect(struct logs *l, struct app *app)
{
    struct err e = ERR_INIT;

    if (!app->forgotten || app_has_dynos(l, app))
        return;
    if (tail_remove(app->tail, &e) < 0) {
        log_err("%s",
                e.text); /* only memory: the next start finds it, the next forget tries again */
        return;
    }
    for (struct app **p = &l->apps; *p; p = &(*p)->next)
        if (*p == app) {
            *p = app->next;
            break;
        }
    tail_freep(&app->tail);
    free(app);
}

#include "logs/reader.h"

#include "base/log.h"
#include "base/scoped.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* One app's tail, walked backwards. */
struct walk {
    const struct app *app;
    struct tail_view view;
    struct record line;
    bool has; /* LINE is the last one not taken yet */
};

static void walk_step(struct walk *w, const struct filter *filter)
{
    do
        w->has = tail_view_prev(&w->view, &w->line);
    while (w->has && !filter_line(filter, &w->line));
}

static struct walk *latest(struct walk *walks, size_t n)
{
    struct walk *best = NULL;

    for (size_t i = 0; i < n; i++)
        if (walks[i].has && (!best || walks[i].line.t > best->line.t))
            best = &walks[i];
    return best;
}

static size_t walks_open(const struct logs *l, const struct filter *filter, struct walk *walks)
{
    struct err e = ERR_INIT;
    size_t n = 0;

    for (const struct app *app = l->apps; app; app = app->next) {
        if (!filter_app(filter, app->name))
            continue;
        if (tail_view_open(app->tail, &walks[n].view, &e) < 0) {
            log_err("%s", e.text); /* the other apps' lines are still worth showing */
            continue;
        }
        walks[n].app = app;
        walk_step(&walks[n], filter);
        n++;
    }
    return n;
}

/* Fills HISTORY from its end; returns how many. */
static size_t take(struct walk *walks, size_t n_walks, const struct filter *filter,
                   struct msg **history, size_t max)
{
    size_t n = 0, bytes = 0;

    while (n < max) {
        struct walk *w = latest(walks, n_walks);

        if (!w || (bytes += record_size(&w->line)) > HISTORY_BYTES_MAX)
            break;
        struct msg *m = msg_new(w->app->name, &w->line);
        if (!m)
            break; /* fewer lines rather than none */
        history[max - ++n] = m;
        walk_step(w, filter);
    }
    return n;
}

int history_find(const struct logs *l, const struct filter *filter, size_t max, struct msg ***ret,
                 size_t *ret_n, struct err *e)
{
    size_t n_apps = 0;

    for (const struct app *app = l->apps; app; app = app->next)
        n_apps++;
    scoped_free struct walk *walks = calloc(n_apps + 1, sizeof(*walks));
    scoped_free struct msg **history = calloc(max + 1, sizeof(*history));
    if (!walks || !history)
        return err_set(e, ENOMEM, "look for lines");
    size_t n_walks = walks_open(l, filter, walks);
    size_t n = take(walks, n_walks, filter, history, max);
    for (size_t i = 0; i < n_walks; i++)
        tail_view_done(&walks[i].view);
    memmove(history, history + (max - n), n * sizeof(*history));
    *ret = TAKE_PTR(history);
    *ret_n = n;
    return 0;
}

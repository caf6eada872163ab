/* slugs_pins.c - which slugs are in use: what the model wants to run, what dynos run from, what is
 * being fetched. */
#include "core/slugs/slugs_priv.h"

#include "core/dyno.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int compare(const void *a, const void *b)
{
    return strcmp(((const struct digest *)a)->hex, ((const struct digest *)b)->hex);
}

static int add(struct pins *p, const struct digest *digest, struct err *e)
{
    if (p->n == p->room) {
        size_t room = p->room ? 2 * p->room : 64;
        struct digest *all = reallocarray(p->all, room, sizeof(*all));

        if (!all)
            return err_set(e, ENOMEM, "see which slugs are in use");
        p->all = all;
        p->room = room;
    }
    p->all[p->n++] = *digest;
    return 0;
}

/* Something of it is to run. */
static bool wanted(const struct app *app)
{
    if (app->n_oneoffs > 0)
        return true;
    for (size_t i = 0; !app->stopped && i < app->n_types; i++)
        if (app->types[i].count > 0)
            return true;
    return false;
}

static int add_dyno(struct pins *p, const struct dyno *d, struct err *e)
{
    if (!d->run)
        return 0;
    p->unknown |= d->slug_unknown;
    return d->has_slug ? add(p, &d->slug, e) : 0;
}

int pins_collect(struct slugs *s, struct pins *ret, struct err *e)
{
    const struct agent *a = s->agent;
    const struct dyno *d;
    struct pins p = {0};
    int r = 0;

    for (size_t i = 0; r == 0 && i < model_n_apps(a->model); i++) {
        const struct app *app = model_app_at(a->model, i);

        if (app->release.has_digest && wanted(app))
            r = add(&p, &app->release.digest, e);
    }
    TAILQ_FOREACH (d, &a->dynos, link)
        if (r == 0)
            r = add_dyno(&p, d, e);
    for (size_t i = 0; r == 0 && i < cache_count(a->cache); i++)
        if (a->fetcher && fetcher_wants(a->fetcher, &cache_at(a->cache, i)->digest))
            r = add(&p, &cache_at(a->cache, i)->digest, e);
    if (r < 0) {
        pins_done(&p);
        return r;
    }
    if (p.n > 0)
        qsort(p.all, p.n, sizeof(*p.all), compare);
    *ret = p;
    return 0;
}

bool pins_have(const struct pins *p, const struct cache_entry *entry)
{
    if (p->unknown && entry->kind == CACHE_DIRECTORY)
        return true;
    return p->n > 0 && bsearch(&entry->digest, p->all, p->n, sizeof(*p->all), compare);
}

void pins_done(struct pins *p)
{
    free(p->all);
    *p = (struct pins){0};
}

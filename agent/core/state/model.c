/* gcc's analyzer loses track of who holds it: the list of apps grows and is the model's. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif

#include "core/state/model.h"

#include "base/scoped.h"
#include "core/state/model_parts.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct model {
    struct app **apps; /* in name order; each keeps its address */
    size_t n, cap;
    uint64_t n_dynos; /* of all formations */
    uint64_t generation;
    struct standing *standing; /* NULL: nothing yet */
};

struct model_change {
    struct model *m;
    struct app *old; /* the model's; NULL: a new app, or none */
    struct op op;
};

int model_new(struct model **ret, struct err *e)
{
    struct model *m = calloc(1, sizeof(*m));

    if (!m)
        return err_set(e, ENOMEM, "make the model");
    *ret = m;
    return 0;
}

void model_clear(struct model *m)
{
    for (size_t i = 0; i < m->n; i++)
        app_freep(&m->apps[i]);
    free(m->apps);
    free(m->standing);
    *m = (struct model){0};
}

void model_freep(struct model **m)
{
    if (!*m)
        return;
    model_clear(*m);
    free(*m);
    *m = NULL;
}

/* The place of NAME, or where it belongs. */
static size_t app_place(const struct model *m, const char *name, bool *found)
{
    size_t lo = 0, hi = m->n;

    assert(name);
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (strcmp(m->apps[mid]->name, name) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    *found = lo < m->n && !strcmp(m->apps[lo]->name, name);
    return lo;
}

const struct app *model_app(const struct model *m, const char *name)
{
    bool found;
    size_t i = app_place(m, name, &found);

    return found ? m->apps[i] : NULL;
}

size_t model_n_apps(const struct model *m)
{
    return m->n;
}

const struct app *model_app_at(const struct model *m, size_t i)
{
    return m->apps[i];
}

uint64_t model_generation(const struct model *m)
{
    return m->generation;
}

const struct standing *model_standing(const struct model *m)
{
    static const struct standing nothing;

    return m->standing ? m->standing : &nothing;
}

/* --- Changes --- */

void model_drop(struct model_change **change)
{
    struct model_change *c = *change;

    if (!c)
        return;
    app_freep(&c->op.app);
    free(c->op.standing);
    json_decref(c->op.out);
    free(c);
    *change = NULL;
}

/* A place for one more app, so that the commit needs no memory. */
static int reserve_app(struct model *m, struct err *e)
{
    size_t cap = m->cap ? m->cap * 2 : 16;

    if (m->n >= MODEL_APPS_MAX)
        return refuse(e, EBUSY, "release: at the limit of %d apps", MODEL_APPS_MAX);
    if (m->n < m->cap)
        return 0;
    struct app **apps = reallocarray(m->apps, cap, sizeof(struct app *));
    if (!apps)
        return err_set(e, ENOMEM, "make room for an app");
    m->apps = apps;
    m->cap = cap;
    return 0;
}

/* Gives the operation a copy of its app, or a new one. */
static int bring_app(struct model_change *c, enum op_app which, struct err *e)
{
    const char *name = json_string_value(json_object_get(c->op.entry, "app"));
    char q[QUOTE_MAX];
    bool found;

    if (!app_name_valid(name))
        return refuse(e, EINVAL, "%s: '%s' is no name of an app", c->op.name, quote(q, name));
    size_t i = app_place(c->m, name, &found);
    if (!found && which == OP_APP_KNOWN)
        return refuse(e, ENOENT, "%s: no app '%s'", c->op.name, name);
    if (!found && reserve_app(c->m, e) < 0)
        return -e->errnum;
    c->old = found ? c->m->apps[i] : NULL;
    c->op.app = found ? app_copy(c->old) : app_new(name);
    if (!c->op.app)
        return err_set(e, ENOMEM, "%s of %s", c->op.name, name);
    if (json_object_get(c->op.entry, "by"))
        c->op.app->controlled = true;
    return 0;
}

/* Gives the operation a copy of what is beside the apps. */
static int bring_standing(struct model_change *c, struct err *e)
{
    c->op.standing = malloc(sizeof(*c->op.standing));
    if (!c->op.standing)
        return err_set(e, ENOMEM, "%s", c->op.name);
    *c->op.standing = *model_standing(c->m);
    return 0;
}

/* How many dynos the change adds; less than none is fine. */
static int check_dynos(const struct model_change *c, struct err *e)
{
    uint64_t before = c->old ? app_n_dynos(c->old) : 0;
    uint64_t after = c->op.app && !c->op.forget ? app_n_dynos(c->op.app) : 0;

    if (after > before && c->m->n_dynos - before + after > MODEL_DYNOS_MAX)
        return refuse(e, EBUSY, "%s: over the limit of %d dynos", c->op.name, MODEL_DYNOS_MAX);
    return 0;
}

int model_prepare(struct model *m, const json_t *entry, struct model_change **ret,
                  json_t **ret_entry, struct err *e)
{
    const char *name = json_string_value(json_object_get(entry, "op"));
    const struct op_rule *rule = name ? op_rule(name) : NULL;
    char q[QUOTE_MAX];
    int r;

    if (!name)
        return refuse(e, EINVAL, "an entry without 'op'");
    if (!rule)
        return refuse(e, EOPNOTSUPP, "unknown op '%s'", quote(q, name));
    r = fields_check(rule->name, entry, rule->fields, e);
    if (r < 0)
        return r;
    scoped(model_drop) struct model_change *c = calloc(1, sizeof(*c));
    if (!c || !(c->op.out = json_copy((json_t *)entry))) /* its signature lacks a const */
        return err_set(e, ENOMEM, "%s", rule->name);
    c->m = m;
    c->op.name = rule->name;
    c->op.entry = entry;
    c->op.generation = m->generation;
    if (rule->standing || json_object_get(entry, "by"))
        r = bring_standing(c, e);
    if (r == 0)
        r = op_by(&c->op, e);
    if (r == 0 && rule->app != OP_APP_NONE)
        r = bring_app(c, rule->app, e);
    if (r == 0)
        r = rule->run(&c->op, e);
    if (r == 0)
        r = check_dynos(c, e);
    if (r < 0)
        return r;
    if (ret_entry)
        *ret_entry = json_incref(c->op.out);
    *ret = TAKE_PTR(c);
    return 0;
}

static void insert_app(struct model *m, struct app *app)
{
    bool found;
    size_t i = app_place(m, app->name, &found);

    memmove(&m->apps[i + 1], &m->apps[i], (m->n - i) * sizeof(struct app *));
    m->apps[i] = app;
    m->n++;
}

static void remove_app(struct model *m, const char *name)
{
    bool found;
    size_t i = app_place(m, name, &found);

    app_freep(&m->apps[i]);
    m->n--;
    memmove(&m->apps[i], &m->apps[i + 1], (m->n - i) * sizeof(struct app *));
}

void model_commit(struct model_change **change)
{
    struct model_change *c = *change;

    assert(c);
    struct model *m = c->m;
    m->generation = c->op.generation;
    if (c->op.standing) {
        free(m->standing);
        m->standing = TAKE_PTR(c->op.standing);
    }
    if (c->old)
        m->n_dynos -= app_n_dynos(c->old);
    if (c->op.forget) {
        remove_app(m, c->old->name);
    } else if (c->op.app) {
        m->n_dynos += app_n_dynos(c->op.app);
        if (c->old) {
            struct app former = *c->old;

            *c->old = *c->op.app; /* in place: its address stays */
            *c->op.app = former;
        } else {
            insert_app(m, TAKE_PTR(c->op.app));
        }
    }
    model_drop(change);
}

int model_apply(struct model *m, const json_t *entry, json_t **ret_entry, struct err *e)
{
    struct model_change *change = NULL;
    int r = model_prepare(m, entry, &change, ret_entry, e);

    if (r == 0)
        model_commit(&change);
    return r;
}

/* --- Wants --- */

static struct want want_of(const struct app *app, const char *type, unsigned num)
{
    struct want w = {.name.num = num, .app = app};

    memcpy(w.name.app, app->name, sizeof(w.name.app));
    memcpy(w.name.type, type, strlen(type) + 1);
    return w;
}

static size_t add_formation(const struct app *app, struct want *out)
{
    size_t n = 0;

    for (size_t i = 0; i < app->n_types && !app->stopped; i++) {
        const struct want_type *t = &app->types[i];
        unsigned stop_after =
            (unsigned)json_integer_value(json_object_get(app->release.stop_after, t->name));

        for (unsigned k = 0; k < t->count; k++) {
            unsigned num = type_num(t, k);

            if (app_is_marked_stopped(app, t->name, num))
                continue;
            out[n] = want_of(app, t->name, num);
            out[n].type = t;
            out[n].stop_after = stop_after;
            out[n++].generation = app_generation_of(app, t->name, num);
        }
    }
    return n;
}

static size_t add_oneoffs(const struct app *app, struct want *out)
{
    size_t n = 0;

    for (size_t i = 0; i < app->n_oneoffs; i++) {
        const struct oneoff *o = &app->oneoffs[i];

        if (app_is_marked_stopped(app, ONEOFF_TYPE, o->num))
            continue;
        out[n] = want_of(app, ONEOFF_TYPE, o->num);
        out[n].oneoff = o;
        out[n++].generation = o->generation;
    }
    return n;
}

int model_wants(const struct model *m, struct want **ret, size_t *ret_n, struct err *e)
{
    size_t n = 0, room = (size_t)m->n_dynos + 1; /* + 1: calloc(0) may be NULL */

    for (size_t i = 0; i < m->n; i++)
        room += m->apps[i]->n_oneoffs;
    struct want *wants = calloc(room, sizeof(*wants));
    if (!wants)
        return err_set(e, ENOMEM, "list %zu wanted dynos", room - 1);
    for (size_t i = 0; i < m->n; i++) {
        n += add_formation(m->apps[i], wants + n);
        n += add_oneoffs(m->apps[i], wants + n);
    }
    *ret = wants;
    *ret_n = n;
    return 0;
}

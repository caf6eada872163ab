/* model_app.c - the value of one app: copies, its types, the marks on single dynos. */
#include "core/state/model_parts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- Types and one-offs --- */

void type_set_command(struct want_type *t, json_t *text)
{
    json_decref(t->text);
    t->text = text;
    t->command = json_string_value(text);
}

void types_free(struct want_type *types, size_t n)
{
    for (size_t i = 0; types && i < n; i++) {
        json_decref(types[i].text);
        json_decref(types[i].nums);
    }
    free(types);
}

void type_set_numbers(struct want_type *t, unsigned count, json_t *nums)
{
    json_decref(t->nums);
    t->nums = nums;
    t->count = count;
}

struct want_type *app_type(const struct app *app, const char *name)
{
    for (size_t i = 0; i < app->n_types; i++)
        if (!strcmp(app->types[i].name, name))
            return &app->types[i];
    return NULL;
}

struct want_type *app_add_type(struct app *app, const char *name)
{
    struct want_type *types = reallocarray(app->types, app->n_types + 1, sizeof(*types));

    if (!types)
        return NULL;
    app->types = types;
    struct want_type *t = &types[app->n_types++];
    *t = (struct want_type){0};
    (void)snprintf(t->name, sizeof(t->name), "%s", name);
    return t;
}

uint64_t app_n_dynos(const struct app *app)
{
    uint64_t n = 0;

    for (size_t i = 0; i < app->n_types; i++)
        n += app->types[i].count;
    return n;
}

const struct oneoff *app_oneoff(const struct app *app, unsigned num)
{
    for (size_t i = 0; i < app->n_oneoffs; i++)
        if (app->oneoffs[i].num == num)
            return &app->oneoffs[i];
    return NULL;
}

void oneoff_done(struct oneoff *o)
{
    json_decref(o->argv);
    json_decref(o->text);
    json_decref(o->env);
    *o = (struct oneoff){0};
}

int app_add_oneoff(struct app *app, struct oneoff *taken)
{
    struct oneoff *list = reallocarray(app->oneoffs, app->n_oneoffs + 1, sizeof(*list));

    if (!list)
        return -ENOMEM;
    app->oneoffs = list;
    list[app->n_oneoffs++] = *taken;
    *taken = (struct oneoff){0};
    return 0;
}

void app_remove_oneoff(struct app *app, unsigned num)
{
    for (size_t i = 0; i < app->n_oneoffs; i++)
        if (app->oneoffs[i].num == num) {
            oneoff_done(&app->oneoffs[i]);
            app->n_oneoffs--;
            memmove(&app->oneoffs[i], &app->oneoffs[i + 1],
                    (app->n_oneoffs - i) * sizeof(*app->oneoffs));
            break;
        }
    app_unmark_stopped(app, ONEOFF_TYPE, num);
}

/* --- The whole value --- */

void release_done(struct release *r)
{
    free(r->url);
    free(r->dir);
    json_decref(r->env);
    json_decref(r->stop_after);
    json_decref(r->meta);
    *r = (struct release){0};
}

void app_freep(struct app **app)
{
    struct app *a = *app;

    if (!a)
        return;
    release_done(&a->release);
    json_decref(a->sizes);
    types_free(a->types, a->n_types);
    for (size_t i = 0; i < a->n_oneoffs; i++)
        oneoff_done(&a->oneoffs[i]);
    free(a->oneoffs);
    free(a->stopped_dynos);
    free(a->dyno_gens);
    free(a);
    *app = NULL;
}

struct app *app_new(const char *name)
{
    struct app *a = calloc(1, sizeof(*a));

    if (!a)
        return NULL;
    (void)snprintf(a->name, sizeof(a->name), "%s", name);
    a->sizes = json_object();
    if (!a->sizes)
        app_freep(&a);
    return a;
}

/* A copy of N elements; *OK turns false without memory. */
static void *copy_array(const void *from, size_t n, size_t size, bool *ok)
{
    if (n == 0)
        return NULL;
    void *to = reallocarray(NULL, n, size);
    if (to)
        memcpy(to, from, n * size);
    else
        *ok = false;
    return to;
}

static char *copy_string(const char *from, bool *ok)
{
    char *to = from ? strdup(from) : NULL;

    *ok = *ok && (!from || to);
    return to;
}

static void copy_release(struct release *to, const struct release *from, bool *ok)
{
    *to = *from;
    to->url = copy_string(from->url, ok);
    to->dir = copy_string(from->dir, ok);
    json_incref(to->env);
    json_incref(to->stop_after);
    json_incref(to->meta);
}

struct app *app_copy(const struct app *from)
{
    struct app *a = app_new(from->name);
    bool ok = true;

    if (!a)
        return NULL;
    copy_release(&a->release, &from->release, &ok);
    json_decref(a->sizes);
    a->sizes = json_incref(from->sizes);
    a->controlled = from->controlled;
    a->stopped = from->stopped;
    a->generation = from->generation;
    a->types = copy_array(from->types, from->n_types, sizeof(*a->types), &ok);
    a->n_types = a->types ? from->n_types : 0;
    for (size_t i = 0; i < a->n_types; i++) {
        json_incref(a->types[i].text);
        json_incref(a->types[i].nums);
    }
    a->oneoffs = copy_array(from->oneoffs, from->n_oneoffs, sizeof(*a->oneoffs), &ok);
    a->n_oneoffs = a->oneoffs ? from->n_oneoffs : 0;
    for (size_t i = 0; i < a->n_oneoffs; i++) {
        json_incref(a->oneoffs[i].argv);
        json_incref(a->oneoffs[i].text);
        json_incref(a->oneoffs[i].env);
    }
    a->stopped_dynos =
        copy_array(from->stopped_dynos, from->n_stopped, sizeof(*a->stopped_dynos), &ok);
    a->n_stopped = a->stopped_dynos ? from->n_stopped : 0;
    a->dyno_gens = copy_array(from->dyno_gens, from->n_dyno_gens, sizeof(*a->dyno_gens), &ok);
    a->n_dyno_gens = a->dyno_gens ? from->n_dyno_gens : 0;
    if (!ok)
        app_freep(&a);
    return a;
}

/* --- Marks on single dynos, two sorted lists --- */

static int dyno_compare(const char *type, unsigned num, const struct dyno_name *b)
{
    int r = strcmp(type, b->type);

    return r ? r : (num > b->num) - (num < b->num);
}

static struct dyno_name name_in(const struct app *app, const char *type, unsigned num)
{
    struct dyno_name name = {.num = num};

    memcpy(name.app, app->name, sizeof(name.app));
    (void)snprintf(name.type, sizeof(name.type), "%s", type);
    return name;
}

/* The place of TYPE.NUM in STOPPED_DYNOS, or where it belongs. */
static size_t stopped_place(const struct app *app, const char *type, unsigned num, bool *found)
{
    size_t lo = 0, hi = app->n_stopped;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (dyno_compare(type, num, &app->stopped_dynos[mid]) > 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    *found = lo < app->n_stopped && dyno_compare(type, num, &app->stopped_dynos[lo]) == 0;
    return lo;
}

bool app_is_marked_stopped(const struct app *app, const char *type, unsigned num)
{
    bool found;

    (void)stopped_place(app, type, num, &found);
    return found;
}

int app_mark_stopped(struct app *app, const char *type, unsigned num)
{
    bool found;
    size_t i = stopped_place(app, type, num, &found);

    if (found)
        return 0;
    struct dyno_name *list = reallocarray(app->stopped_dynos, app->n_stopped + 1, sizeof(*list));
    if (!list)
        return -ENOMEM;
    app->stopped_dynos = list;
    memmove(&list[i + 1], &list[i], (app->n_stopped - i) * sizeof(*list));
    list[i] = name_in(app, type, num);
    app->n_stopped++;
    return 0;
}

void app_unmark_stopped(struct app *app, const char *type, unsigned num)
{
    bool found;
    size_t i = stopped_place(app, type, num, &found);

    if (!found)
        return;
    app->n_stopped--;
    memmove(&app->stopped_dynos[i], &app->stopped_dynos[i + 1],
            (app->n_stopped - i) * sizeof(*app->stopped_dynos));
}

static int by_name(const void *a, const void *b)
{
    const struct dyno_name *x = a;

    return dyno_compare(x->type, x->num, b);
}

int app_mark_formation(struct app *app)
{
    size_t n = app->n_stopped + (size_t)app_n_dynos(app);

    app_unmark_type(app, NULL);
    struct dyno_name *list = reallocarray(app->stopped_dynos, n + 1, sizeof(*list));
    if (!list)
        return -ENOMEM;
    app->stopped_dynos = list;
    for (size_t i = 0; i < app->n_types; i++)
        for (unsigned k = 0; k < app->types[i].count; k++)
            list[app->n_stopped++] = name_in(app, app->types[i].name, type_num(&app->types[i], k));
    qsort(list, app->n_stopped, sizeof(*list), by_name);
    return 0;
}

void app_unmark_type(struct app *app, const char *type)
{
    size_t kept = 0;

    for (size_t i = 0; i < app->n_stopped; i++) {
        const char *t = app->stopped_dynos[i].type;

        if (!strcmp(t, ONEOFF_TYPE) || (type && strcmp(t, type) != 0))
            app->stopped_dynos[kept++] = app->stopped_dynos[i];
    }
    app->n_stopped = kept;
}

static size_t gen_place(const struct app *app, const char *type, unsigned num, bool *found)
{
    size_t lo = 0, hi = app->n_dyno_gens;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (dyno_compare(type, num, &app->dyno_gens[mid].name) > 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    *found = lo < app->n_dyno_gens && dyno_compare(type, num, &app->dyno_gens[lo].name) == 0;
    return lo;
}

uint64_t app_generation_of(const struct app *app, const char *type, unsigned num)
{
    bool found;
    size_t i = gen_place(app, type, num, &found);

    return found ? app->dyno_gens[i].generation : app->generation;
}

int app_set_generation_of(struct app *app, const char *type, unsigned num, uint64_t generation)
{
    bool found;
    size_t i = gen_place(app, type, num, &found);

    if (!found) {
        struct dyno_generation *list =
            reallocarray(app->dyno_gens, app->n_dyno_gens + 1, sizeof(*list));

        if (!list)
            return -ENOMEM;
        app->dyno_gens = list;
        memmove(&list[i + 1], &list[i], (app->n_dyno_gens - i) * sizeof(*list));
        list[i].name = name_in(app, type, num);
        app->n_dyno_gens++;
    }
    app->dyno_gens[i].generation = generation;
    return 0;
}

void app_prune(struct app *app)
{
    size_t kept = 0;

    for (size_t i = 0; i < app->n_stopped; i++) {
        const struct dyno_name *d = &app->stopped_dynos[i];

        if (!strcmp(d->type, ONEOFF_TYPE) || app_in_formation(app, d->type, d->num))
            app->stopped_dynos[kept++] = *d;
    }
    app->n_stopped = kept;
    kept = 0;
    for (size_t i = 0; i < app->n_dyno_gens; i++) {
        const struct dyno_name *d = &app->dyno_gens[i].name;

        if (app_in_formation(app, d->type, d->num))
            app->dyno_gens[kept++] = app->dyno_gens[i];
    }
    app->n_dyno_gens = kept;
}

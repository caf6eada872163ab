#include "core/control/control_set.h"

#include "base/scoped.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void dynoset_done(struct dynoset *s)
{
    for (size_t i = 0; i < s->n_types; i++)
        free(s->types[i].nums);
    free(s->types);
    *s = (struct dynoset){0};
}

static struct typeset *find_type(const struct dynoset *s, const char *type)
{
    for (size_t i = 0; s->types && i < s->n_types; i++)
        if (!strcmp(s->types[i].type, type))
            return &s->types[i];
    return NULL;
}

/* The first place whose number is not below NUM. */
static size_t place_of(const struct typeset *t, unsigned num)
{
    size_t lo = 0, hi = t->n;

    if (t->n > 0 && t->nums[t->n - 1] < num) /* mostly they come in order */
        return t->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (t->nums[mid] < num)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static bool has_num(const struct typeset *t, unsigned num)
{
    size_t at = place_of(t, num);

    return at < t->n && t->nums[at] == num;
}

bool dynoset_has(const struct dynoset *s, const char *type, unsigned num)
{
    const struct typeset *t = find_type(s, type);

    return t && has_num(t, num);
}

static int add_type(struct dynoset *s, const char *type, struct typeset **ret, struct err *e)
{
    struct typeset *types = reallocarray(s->types, s->n_types + 1, sizeof(*types));

    if (!types)
        return err_set(e, ENOMEM, "compare formations");
    s->types = types;
    *ret = &types[s->n_types++];
    **ret = (struct typeset){.n = 0};
    (void)snprintf((*ret)->type, sizeof((*ret)->type), "%s", type);
    return 0;
}

int dynoset_add(struct dynoset *s, const char *type, unsigned num, struct err *e)
{
    struct typeset *t = find_type(s, type);
    int r = t ? 0 : add_type(s, type, &t, e);

    if (r < 0)
        return r;
    size_t at = place_of(t, num);
    if (at < t->n && t->nums[at] == num)
        return 0;
    if (t->n == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 8;
        unsigned *nums = reallocarray(t->nums, cap, sizeof(*nums));

        if (!nums)
            return err_set(e, ENOMEM, "compare formations");
        t->nums = nums;
        t->cap = cap;
    }
    memmove(&t->nums[at + 1], &t->nums[at], (t->n - at) * sizeof(*t->nums));
    t->nums[at] = num;
    t->n++;
    return 0;
}

void dynoset_remove(struct dynoset *s, const char *type, unsigned num)
{
    struct typeset *t = find_type(s, type);

    if (!t || !has_num(t, num))
        return;
    size_t at = place_of(t, num);
    t->n--;
    memmove(&t->nums[at], &t->nums[at + 1], (t->n - at) * sizeof(*t->nums));
}

void dynoset_drop_type(struct dynoset *s, const char *type)
{
    struct typeset *t = find_type(s, type);

    if (t)
        t->n = 0;
}

size_t dynoset_count(const struct dynoset *s)
{
    size_t n = 0;

    for (size_t i = 0; i < s->n_types; i++)
        n += s->types[i].n;
    return n;
}

bool dynoset_within(const struct dynoset *small, const struct dynoset *big)
{
    for (size_t i = 0; i < small->n_types; i++)
        for (size_t j = 0; j < small->types[i].n; j++)
            if (!dynoset_has(big, small->types[i].type, small->types[i].nums[j]))
                return false;
    return true;
}

static int gather(const struct app *app, bool stopped_too, struct dynoset *ret, struct err *e)
{
    scoped(dynoset_done) struct dynoset s = {0};

    for (size_t i = 0; app && i < app->n_types; i++) {
        const struct want_type *t = &app->types[i];

        for (unsigned j = 0; j < t->count; j++) {
            unsigned num = type_num(t, j);

            if ((stopped_too || app_wants(app, t->name, num)) &&
                dynoset_add(&s, t->name, num, e) < 0)
                return -e->errnum;
        }
    }
    *ret = s;
    s = (struct dynoset){0};
    return 0;
}

int dynoset_wanted(const struct app *app, struct dynoset *ret, struct err *e)
{
    return gather(app, false, ret, e);
}

int dynoset_formation(const struct app *app, struct dynoset *ret, struct err *e)
{
    return gather(app, true, ret, e);
}

/* FILTER NULL: all. */
static int copy_if(const struct dynoset *from, const struct dynoset *filter, struct dynoset *ret,
                   struct err *e)
{
    scoped(dynoset_done) struct dynoset s = {0};

    for (size_t i = 0; i < from->n_types; i++) {
        const struct typeset *t = &from->types[i];

        for (size_t j = 0; j < t->n; j++)
            if ((!filter || dynoset_has(filter, t->type, t->nums[j])) &&
                dynoset_add(&s, t->type, t->nums[j], e) < 0)
                return -e->errnum;
    }
    *ret = s;
    s = (struct dynoset){0};
    return 0;
}

int dynoset_copy(const struct dynoset *from, struct dynoset *ret, struct err *e)
{
    return copy_if(from, NULL, ret, e);
}

int dynoset_common(const struct dynoset *a, const struct dynoset *b, struct dynoset *ret,
                   struct err *e)
{
    return copy_if(a, b, ret, e);
}

static json_t *nums_json(const struct typeset *t)
{
    json_t *list = json_array();

    for (size_t i = 0; t && i < t->n; i++)
        if (json_array_append_new(list, json_integer(t->nums[i])) < 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

json_t *dynoset_json(const struct dynoset *s)
{
    json_t *all = json_object();

    for (size_t i = 0; i < s->n_types; i++)
        if (s->types[i].n > 0 &&
            json_object_set_new(all, s->types[i].type, nums_json(&s->types[i])) < 0) {
            json_decref(all);
            return NULL;
        }
    return all;
}

static bool same_nums(const struct typeset *a, const struct typeset *b)
{
    size_t n_a = a ? a->n : 0, n_b = b ? b->n : 0;

    return n_a == n_b && (n_a == 0 || !memcmp(a->nums, b->nums, n_a * sizeof(*a->nums)));
}

struct difference {
    json_t *formation;
    bool differs, failed;
};

/* A scale ends the app's stop, so of a stopped app every type must be said. */
static void compare_type(struct difference *d, const struct app *app, const char *type,
                         const struct typeset *wanted, const struct typeset *target)
{
    bool same = same_nums(wanted, target);

    d->differs = d->differs || !same;
    if ((!same || app->stopped) && json_object_set_new(d->formation, type, nums_json(target)) < 0)
        d->failed = true;
}

int dynoset_difference(const struct app *app, const struct dynoset *wanted,
                       const struct dynoset *target, json_t **ret, struct err *e)
{
    struct difference d = {.formation = json_object()};

    for (size_t i = 0; i < target->n_types; i++)
        compare_type(&d, app, target->types[i].type, find_type(wanted, target->types[i].type),
                     &target->types[i]);
    for (size_t i = 0; i < app->n_types; i++)
        if (app->types[i].count > 0 && !find_type(target, app->types[i].name))
            compare_type(&d, app, app->types[i].name, find_type(wanted, app->types[i].name), NULL);
    if (d.failed || !d.differs) {
        json_decref(d.formation);
        *ret = NULL;
        return d.failed || !d.formation ? err_set(e, ENOMEM, "compare formations") : 0;
    }
    *ret = d.formation;
    return 0;
}

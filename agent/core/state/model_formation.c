/* model_formation.c - which dynos of each process type: counted, or by their numbers. */
#include "core/state/model_parts.h"

#include "base/frame.h"
#include "base/scoped.h"
#include "base/str.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PORT_MAX 65535u

/* --- Questions --- */

unsigned type_num(const struct want_type *t, unsigned i)
{
    return t->nums ? (unsigned)json_integer_value(json_array_get(t->nums, i)) : i + 1;
}

static bool type_has(const struct want_type *t, unsigned num)
{
    unsigned lo = 0, hi = t->count;

    while (lo < hi) {
        unsigned mid = lo + (hi - lo) / 2;

        if (type_num(t, mid) < num)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < t->count && type_num(t, lo) == num;
}

bool app_in_formation(const struct app *app, const char *type, unsigned num)
{
    const struct want_type *t = app_type(app, type);

    return t && type_has(t, num);
}

bool app_wants(const struct app *app, const char *type, unsigned num)
{
    bool there = !strcmp(type, ONEOFF_TYPE) ? app_oneoff(app, num) != NULL
                                            : !app->stopped && app_in_formation(app, type, num);

    return there && !app_is_marked_stopped(app, type, num);
}

json_t *type_formation_json(const struct want_type *t)
{
    return t->nums ? json_copy(t->nums) : json_integer(t->count);
}

int app_formation_json(const struct app *app, json_t **ret, struct err *e)
{
    scoped(json_freep) json_t *formation = json_object();
    bool ok = formation != NULL;

    for (size_t i = 0; i < app->n_types; i++)
        if (app->types[i].count > 0)
            ok = json_object_set_new(formation, app->types[i].name,
                                     type_formation_json(&app->types[i])) == 0 &&
                 ok;
    if (!ok)
        return err_set(e, ENOMEM, "list the formation of %s", app->name);
    *ret = TAKE_PTR(formation);
    return 0;
}

/* --- Reading one --- */

static int by_number(const void *a, const void *b)
{
    const unsigned *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* NUMS in their order, as a list that nobody changes any more; none for 1 to N. */
static int keep_numbers(struct want_type *t, const unsigned *nums, size_t n, struct err *e)
{
    scoped(json_freep) json_t *list = n > 0 && nums[n - 1] != n ? json_array() : NULL;
    bool ok = n == 0 || nums[n - 1] == n || list;

    for (size_t i = 0; list && i < n; i++)
        ok = json_array_append_new(list, json_integer(nums[i])) == 0 && ok;
    if (!ok)
        return err_set(e, ENOMEM, "copy the numbers of %s", t->name);
    type_set_numbers(t, (unsigned)n, TAKE_PTR(list));
    return 0;
}

static int take_number(const char *op, const char *type, const json_t *value, unsigned *ret,
                       struct err *e)
{
    json_int_t num = json_integer_value(value);

    if (!json_is_integer(value) || num < 1 || num > (json_int_t)DYNO_NUM_MAX)
        return refuse(e, EINVAL, "%s: formation of '%s' lists what is no number within 1 to %u", op,
                      type, DYNO_NUM_MAX);
    *ret = (unsigned)num;
    return 0;
}

static int set_list(const char *op, struct want_type *t, const json_t *list, struct err *e)
{
    size_t n = json_array_size(list);

    if (n > MODEL_COUNT_MAX)
        return refuse(e, EINVAL, "%s: formation of '%s' lists %zu numbers, over the limit of %d",
                      op, t->name, n, MODEL_COUNT_MAX);
    scoped_free unsigned *nums = calloc(n + 1, sizeof(*nums)); /* + 1: calloc(0) may be NULL */
    if (!nums)
        return err_set(e, ENOMEM, "copy the numbers of %s", t->name);
    for (size_t i = 0; i < n; i++) {
        int r = take_number(op, t->name, json_array_get(list, i), &nums[i], e);

        if (r < 0)
            return r;
    }
    qsort(nums, n, sizeof(*nums), by_number);
    for (size_t i = 1; i < n; i++)
        if (nums[i] == nums[i - 1])
            return refuse(e, EINVAL, "%s: formation of '%s' lists %u twice", op, t->name, nums[i]);
    return keep_numbers(t, nums, n, e);
}

/* --- Changes --- */

static int no_such_type(const struct op *o, const char *type, struct err *e)
{
    struct str has = {.max = 200};

    for (size_t i = 0; i < o->app->n_types; i++)
        if (strcmp(o->app->types[i].name, "release") != 0)
            str_addf(&has, "%s%s", has.len ? ", " : "", o->app->types[i].name);
    int r = refuse(e, EINVAL, "no process type '%s' in release v%u of %s (it has: %s%s)", type,
                   o->app->release.version, o->app->name, str_text(&has), has.failed ? ", …" : "");
    str_done(&has);
    return r;
}

int op_need_type(struct op *o, const char *name, struct want_type **ret, struct err *e)
{
    struct want_type *t = app_type(o->app, name);

    if (!t && o->app->release.resolved)
        return no_such_type(o, name, e);
    if (!t && o->app->n_types >= MODEL_TYPES_MAX)
        return refuse(e, EBUSY, "%s: over the limit of %d process types", o->name, MODEL_TYPES_MAX);
    if (!t)
        t = app_add_type(o->app, name);
    if (!t)
        return op_no_memory(o, e);
    *ret = t;
    return 0;
}

int op_set_formation(struct op *o, const json_t *formation, struct err *e)
{
    struct want_type *t = NULL;
    const char *name;
    json_t *value;
    int r;

    json_object_foreach ((json_t *)formation, name, value) {
        r = json_is_array(value)
                ? field_type_name(o->name, name, e)
                : field_count(o->name, "formation", formation, name, 0, MODEL_COUNT_MAX, e);
        if (r == 0)
            r = op_need_type(o, name, &t, e);
        if (r < 0)
            return r;
        assert(t);
        if (!json_is_array(value))
            type_set_numbers(t, (unsigned)json_integer_value(value), NULL);
        else if ((r = set_list(o->name, t, value, e)) < 0)
            return r;
    }
    return 0;
}

int op_set_ports(struct op *o, const json_t *ports, struct err *e)
{
    struct want_type *t = NULL;
    const char *name;
    json_t *value;
    int r = field_counts(o->name, "ports", ports, 1, PORT_MAX, e);

    if (r < 0)
        return r;
    json_object_foreach ((json_t *)ports, name, value) {
        r = op_need_type(o, name, &t, e);
        if (r < 0)
            return r;
        assert(t);
        t->port = (unsigned)json_integer_value(value);
    }
    return 0;
}

int op_check_ports(const struct op *o, struct err *e)
{
    for (size_t i = 0; i < o->app->n_types; i++) {
        const struct want_type *t = &o->app->types[i];
        unsigned last = t->count ? type_num(t, t->count - 1) : 0;

        if (t->port && last && t->port + last - 1 > PORT_MAX)
            return refuse(e, EINVAL, "%s: the port of %s.%u would be %u, over %u", o->name, t->name,
                          last, t->port + last - 1, PORT_MAX);
    }
    return 0;
}

/* model_size.c - the sizes that resize gave, over that of the release. Their object is shared
 * between a value and its copies, so it is never changed in place. */
#include "core/state/model_parts.h"

#include "base/scoped.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WHOLE_APP "*" /* no name of a type */

const char *app_size(const struct app *app, const struct dyno_name *name, const char *def)
{
    const struct oneoff *one = !strcmp(name->type, ONEOFF_TYPE) ? app_oneoff(app, name->num) : NULL;
    char dyno[DYNO_TEXT_MAX];
    const char *own = json_string_value(json_object_get(app->sizes, dyno_name_short(name, dyno)));

    if (one && one->size[0])
        return one->size;
    if (!own)
        own = json_string_value(json_object_get(app->sizes, name->type));
    if (!own)
        own = json_string_value(json_object_get(app->sizes, WHOLE_APP));
    if (own)
        return own;
    return app->release.size[0] ? app->release.size : def;
}

/* KEY is "*", "web" or "web.1": whether a resize of WHAT ("*" or "web") covers it too. */
static bool covers(const char *what, const char *key)
{
    size_t len = strlen(what);

    return !strcmp(what, WHOLE_APP) || (!strncmp(what, key, len) && (!key[len] || key[len] == '.'));
}

/* The size of KEY, and no more of what it covers. */
static int set_size(struct app *app, const char *what, const char *size)
{
    json_t *sizes = json_object(), *value;
    const char *key;
    bool ok = sizes != NULL;

    json_object_foreach (app->sizes, key, value) {
        if (!covers(what, key))
            ok = json_object_set(sizes, key, value) == 0 && ok;
    }
    ok = ok && json_object_set_new(sizes, what, json_string(size)) == 0;
    if (!ok) {
        json_decref(sizes);
        return -ENOMEM;
    }
    json_decref(app->sizes);
    app->sizes = sizes;
    return 0;
}

static bool is_there(const struct app *app, const char *key)
{
    char full[DYNO_TEXT_MAX + APP_NAME_MAX];
    struct dyno_name d;

    if (!strchr(key, '.')) /* scaled to none, it may come back */
        return !strcmp(key, WHOLE_APP) || !app->release.resolved || app_type(app, key);
    (void)snprintf(full, sizeof(full), "%s/%s", app->name, key);
    return dyno_name_parse(full, &d) == 0 && app_in_formation(app, d.type, d.num);
}

int app_prune_sizes(struct app *app, bool all)
{
    json_t *sizes = json_object(), *value;
    const char *key;
    bool ok = sizes != NULL;

    json_object_foreach (app->sizes, key, value) {
        if (!all && is_there(app, key))
            ok = json_object_set(sizes, key, value) == 0 && ok;
    }
    if (!ok) {
        json_decref(sizes);
        return -ENOMEM;
    }
    json_decref(app->sizes);
    app->sizes = sizes;
    return 0;
}

static int resize_oneoff(struct op *o, const struct dyno_name *d, const char size[32],
                         struct err *e)
{
    for (size_t i = 0; i < o->app->n_oneoffs; i++)
        if (o->app->oneoffs[i].num == d->num) {
            memcpy(o->app->oneoffs[i].size, size, sizeof(o->app->oneoffs[i].size));
            return 0;
        }
    return op_no_such_dyno(o, d, e);
}

int op_resize(struct op *o, struct err *e)
{
    const char *type = json_string_value(field_get(o->entry, "type"));
    char size[32], dyno[DYNO_TEXT_MAX];
    struct want_type *ignored = NULL;
    struct dyno_name d = {0};
    int r = field_size(o->name, o->entry, size, e);
    int one = r == 0 ? op_dyno(o, &d, e) : r;

    if (one < 0)
        return one;
    if (!size[0])
        return refuse(e, EINVAL, "resize: 'size' is empty");
    if (type && one)
        return refuse(e, EINVAL, "resize: only one of 'type' and 'dyno' may be there");
    if (one && !strcmp(d.type, ONEOFF_TYPE))
        return resize_oneoff(o, &d, size, e);
    if (one && !app_in_formation(o->app, d.type, d.num))
        return op_no_such_dyno(o, &d, e);
    if (type && ((r = field_type_name(o->name, type, e)) < 0 ||
                 /* what a release will have, nobody knows before it is resolved */
                 (o->app->release.resolved && (r = op_need_type(o, type, &ignored, e)) < 0)))
        return r;
    r = set_size(o->app, type ? type : one ? dyno_name_short(&d, dyno) : WHOLE_APP, size);
    return r < 0 ? op_no_memory(o, e) : 0;
}

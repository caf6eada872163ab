/* control_sync.c - the whole desired list at once: each app compared, the absent ones forgotten. */
#include "core/control/control_priv.h"

#include "base/frame.h"
#include "base/scoped.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One app of the list. */
struct synced {
    const char *name;
    const json_t *release;
    const struct app *app; /* NULL: new here */
    struct dynoset wanted, target;
};

struct syncing {
    struct synced *apps;
    size_t n;
    json_t *names; /* object, to find doubles and what is absent */
};

static void syncing_done(struct syncing *s)
{
    for (size_t i = 0; i < s->n; i++) {
        dynoset_done(&s->apps[i].wanted);
        dynoset_done(&s->apps[i].target);
    }
    free(s->apps);
    json_decref(s->names);
}

static int take_app(const struct task *t, struct syncing *s, const json_t *item, struct err *e)
{
    static const struct field fields[] = {FIELD_APP,
                                          {"release", FIELD_OBJECT | FIELD_REQUIRED},
                                          {"formation", FIELD_OBJECT | FIELD_REQUIRED},
                                          FIELD_END};
    struct synced *one = &s->apps[s->n];
    struct task mine = *t;
    int r = json_is_object(item) ? fields_check("sync", item, fields, e)
                                 : change_bad(t->change, e, "sync: 'apps' is a list of objects");

    if (r < 0)
        return r;
    *one = (struct synced){.release = json_object_get(item, "release")};
    s->n++;
    mine.command = item;
    r = change_app(&mine, false, &one->name, &one->app, e);
    if (r == 0 && json_object_get(s->names, one->name))
        r = change_refuse(t->change, "bad-command", e, EINVAL, "sync: %s is there twice",
                          one->name);
    if (r == 0 && json_object_set_new(s->names, one->name, json_true()) < 0)
        r = change_no_memory(e);
    if (r == 0)
        r = change_release(t, one->release, e);
    if (r == 0)
        r = change_formation(t, json_object_get(item, "formation"), &one->target, e);
    if (r == 0)
        r = dynoset_wanted(one->app, &one->wanted, e);
    return r < 0 ? err_wrap(e, "%s", one->name ? one->name : "sync") : 0;
}

/* Only what this store has commanded goes for being absent. */
static bool goes(const struct syncing *s, const struct app *app)
{
    return app->controlled && !json_object_get(s->names, app->name);
}

static size_t oneoffs_wanted(const struct app *app)
{
    size_t n = 0;

    for (size_t i = 0; i < app->n_oneoffs; i++)
        n += app_wants(app, ONEOFF_TYPE, app->oneoffs[i].num);
    return n;
}

/* The sum of what would be wanted, if that is more than now. */
static int check_sync_room(const struct task *t, const struct syncing *s, struct err *e)
{
    size_t now = 0, then = 0;
    int r = change_wanted_now(t->model, &now, e);

    then = now;
    for (size_t i = 0; i < s->n; i++)
        then += dynoset_count(&s->apps[i].target) - dynoset_count(&s->apps[i].wanted);
    for (size_t i = 0; r == 0 && i < model_n_apps(t->model); i++) {
        const struct app *app = model_app_at(t->model, i);
        scoped(dynoset_done) struct dynoset wanted = {0};

        if (!goes(s, app) || (r = dynoset_wanted(app, &wanted, e)) < 0)
            continue;
        then -= dynoset_count(&wanted) + oneoffs_wanted(app);
    }
    if (r == 0 && then > now && then > t->limits->config->dynos_max)
        return change_refuse(t->change, "capacity", e, EBUSY,
                             "%zu dynos are over this instance's limit of %u", then,
                             t->limits->config->dynos_max);
    return r;
}

/* While draining: what runs may become less, nothing else. */
static int hold(const struct task *t, struct synced *one, bool changed, struct err *e)
{
    struct dynoset less = {0};

    if (!changed && dynoset_within(&one->target, &one->wanted))
        return 0;
    json_t *held = json_object_get(t->change->answer, "held");
    if (!held) {
        held = json_array();
        json_decref(t->change->answer);
        t->change->answer = json_pack("{s:o}", "held", held);
    }
    if (!t->change->answer || json_array_append_new(held, json_string(one->name)) < 0)
        return change_no_memory(e);
    int r = dynoset_common(&one->target, &one->wanted, &less, e);
    if (r == 0) {
        dynoset_done(&one->target);
        one->target = less;
    }
    return r;
}

static int sync_app(const struct task *t, struct synced *one, struct err *e)
{
    bool changed = !one->app || !change_same_release(one->app, one->release);
    size_t before = json_array_size(t->change->entries);
    int r = t->limits->draining ? hold(t, one, changed, e) : 0;

    if (r < 0 || (t->limits->draining && !one->app))
        return r;
    if (changed && !t->limits->draining)
        return change_add_release(t, one->name, one->release, &one->target, e);
    r = change_add_scale(t, one->app, &one->wanted, &one->target, e);
    if (r == 0 && json_array_size(t->change->entries) == before)
        r = change_add_claim(t, one->app, &one->wanted, e);
    return r;
}

static int take_apps(const struct task *t, struct syncing *s, struct err *e)
{
    const json_t *list = json_object_get(t->command, "apps"), *item;
    size_t i;
    int r = 0;

    if (json_array_size(list) > MODEL_APPS_MAX)
        return change_refuse(t->change, "limit", e, EBUSY, "sync: more than %d apps",
                             MODEL_APPS_MAX);
    s->apps = calloc(json_array_size(list) + 1, sizeof(*s->apps));
    s->names = json_object();
    if (!s->apps || !s->names)
        return change_no_memory(e);
    json_array_foreach (list, i, item)
        if ((r = take_app(t, s, item, e)) < 0)
            return r;
    return r;
}

int change_sync(const struct task *t, struct err *e)
{
    static const struct field fields[] = {FIELDS_ENVELOPE,
                                          {"apps", FIELD_ARRAY | FIELD_REQUIRED},
                                          {"replaces", FIELD_STRING | FIELD_NULL},
                                          FIELD_END};
    scoped(syncing_done) struct syncing s = {0};
    int r = fields_check("sync", t->command, fields, e);

    if (r == 0)
        r = take_apps(t, &s, e);
    if (r == 0 && !t->limits->draining)
        r = check_sync_room(t, &s, e);
    for (size_t i = 0; r == 0 && i < model_n_apps(t->model); i++)
        if (goes(&s, model_app_at(t->model, i)))
            r = change_add_op(t, "forget", model_app_at(t->model, i), NULL, 0, e);
    for (size_t i = 0; r == 0 && i < s.n; i++)
        r = sync_app(t, &s.apps[i], e);
    return r;
}

/* control_change.c - a command as the smallest change of the desired state. */
#include "core/control/control_priv.h"

#include "base/frame.h"
#include "base/scoped.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* --- start, scale --- */

static int do_start(const struct task *t, struct err *e)
{
    static const struct field fields[] = {FIELDS_ENVELOPE,
                                          FIELD_APP,
                                          {"release", FIELD_OBJECT},
                                          {"dynos", FIELD_ARRAY | FIELD_REQUIRED},
                                          FIELD_END};
    scoped(dynoset_done) struct dynoset wanted = {0}, target = {0};
    const json_t *rel = json_object_get(t->command, "release");
    const struct app *app = NULL;
    const char *name = NULL;
    int r = fields_check("start", t->command, fields, e);

    if (r == 0)
        r = change_app(t, rel == NULL, &name, &app, e);
    if (r == 0 && rel)
        r = change_release(t, rel, e);
    if (r == 0 && !rel && app->release.version == 0)
        r = change_bad(t->change, e, "start: the app has no release here, so one must be given");
    if (r == 0 && t->limits->draining)
        r = change_draining(t, e);
    if (r == 0)
        r = dynoset_wanted(app, &wanted, e);
    if (r == 0)
        r = dynoset_wanted(app, &target, e);
    struct dynoset named = {0};
    if (r == 0)
        r = change_dynos(t, name, false, &named, e);
    for (size_t i = 0; r == 0 && i < named.n_types; i++)
        for (size_t j = 0; r == 0 && j < named.types[i].n; j++)
            r = dynoset_add(&target, named.types[i].type, named.types[i].nums[j], e);
    dynoset_done(&named);
    if (r == 0)
        r = change_growth(t, &wanted, &target, e);
    if (r < 0)
        return r;
    return rel && !(app && change_same_release(app, rel))
               ? change_add_release(t, name, rel, &target, e)
               : change_add_scale(t, app, &wanted, &target, e);
}

static int do_scale(const struct task *t, struct err *e)
{
    static const struct field fields[] = {
        FIELDS_ENVELOPE, FIELD_APP, {"formation", FIELD_OBJECT | FIELD_REQUIRED}, FIELD_END};
    scoped(dynoset_done) struct dynoset wanted = {0}, target = {0};
    const json_t *formation = json_object_get(t->command, "formation");
    const struct app *app = NULL;
    const char *name = NULL, *type;
    json_t *value;
    int r = fields_check("scale", t->command, fields, e);

    if (r == 0)
        r = change_app(t, true, &name, &app, e);
    if (r == 0 && json_object_size(formation) == 0)
        r = change_bad(t->change, e, "scale: the formation names no process type");
    if (r == 0)
        r = dynoset_wanted(app, &wanted, e);
    if (r == 0)
        r = dynoset_wanted(app, &target, e);
    if (r < 0)
        return r;
    json_object_foreach ((json_t *)(uintptr_t)formation, type, value) {
        dynoset_drop_type(&target, type);
    }
    r = change_formation(t, formation, &target, e);
    if (r == 0 && t->limits->draining && !dynoset_within(&target, &wanted))
        r = change_draining(t, e);
    if (r == 0)
        r = change_growth(t, &wanted, &target, e);
    return r < 0 ? r : change_add_scale(t, app, &wanted, &target, e);
}

/* --- stop, restart --- */

static int stop_app(const struct task *t, const struct app *app, const struct dynoset *wanted,
                    struct err *e)
{
    bool any = dynoset_count(wanted) > 0;

    for (size_t i = 0; i < app->n_oneoffs; i++)
        any = any || app_wants(app, ONEOFF_TYPE, app->oneoffs[i].num);
    return any ? change_add_op(t, "stop", app, NULL, 0, e) : 0;
}

/* What is not wanted anyway needs no stop. */
static int stop_dynos(const struct task *t, const struct app *app, const struct dynoset *wanted,
                      const struct dynoset *named, struct err *e)
{
    scoped(dynoset_done) struct dynoset target = {0};
    int r = dynoset_copy(wanted, &target, e);

    for (size_t i = 0; r == 0 && i < named->n_types; i++) {
        const struct typeset *s = &named->types[i];

        for (size_t j = 0; r == 0 && j < s->n; j++)
            if (strcmp(s->type, ONEOFF_TYPE) != 0)
                dynoset_remove(&target, s->type, s->nums[j]);
            else if (app_wants(app, ONEOFF_TYPE, s->nums[j]))
                r = change_add_op(t, "stop", app, ONEOFF_TYPE, s->nums[j], e);
    }
    return r < 0 ? r : change_add_scale(t, app, wanted, &target, e);
}

static int do_stop(const struct task *t, struct err *e)
{
    static const struct field fields[] = {
        FIELDS_ENVELOPE, FIELD_APP, {"dynos", FIELD_ARRAY}, {"forget", FIELD_BOOL}, FIELD_END};
    scoped(dynoset_done) struct dynoset wanted = {0}, named = {0};
    bool forget = json_is_true(json_object_get(t->command, "forget"));
    bool some = json_object_get(t->command, "dynos") != NULL;
    const struct app *app = NULL;
    const char *name = NULL;
    int r = fields_check("stop", t->command, fields, e);

    if (r == 0 && some && forget)
        r = change_bad(t->change, e, "stop: either some dynos, or the app is forgotten");
    if (r == 0)
        r = change_app(t, true, &name, &app, e);
    if (r == 0 && some)
        r = change_dynos(t, name, true, &named, e);
    if (r == 0)
        r = dynoset_wanted(app, &wanted, e);
    if (r < 0)
        return r;
    assert(app); /* it must be known */
    if (forget)
        return change_add_op(t, "forget", app, NULL, 0, e);
    return some ? stop_dynos(t, app, &wanted, &named, e) : stop_app(t, app, &wanted, e);
}

/* What was stopped stays so: without a stop anywhere, one entry says it for all. */
static int restart_dynos(const struct task *t, const struct app *app, const struct dynoset *named,
                         struct err *e)
{
    scoped(dynoset_done) struct dynoset formation = {0};
    int r = dynoset_formation(app, &formation, e);

    if (r == 0 && dynoset_count(named) > 0 && dynoset_within(&formation, named))
        return change_add_op(t, "restart", app, NULL, 0, e);
    for (size_t i = 0; r == 0 && i < named->n_types; i++)
        for (size_t j = 0; r == 0 && j < named->types[i].n; j++)
            r = change_add_op(t, "restart", app, named->types[i].type, named->types[i].nums[j], e);
    return r;
}

static int do_restart(const struct task *t, struct err *e)
{
    static const struct field fields[] = {
        FIELDS_ENVELOPE, FIELD_APP, {"dynos", FIELD_ARRAY}, FIELD_END};
    scoped(dynoset_done) struct dynoset wanted = {0}, named = {0};
    bool some = json_object_get(t->command, "dynos") != NULL;
    const struct app *app = NULL;
    const char *name = NULL;
    int r = fields_check("restart", t->command, fields, e);

    if (r == 0)
        r = change_app(t, true, &name, &app, e);
    if (r == 0 && some)
        r = change_dynos(t, name, false, &named, e);
    if (r == 0 && t->limits->draining)
        r = change_draining(t, e);
    if (r == 0)
        r = dynoset_wanted(app, &wanted, e);
    if (r == 0 && some && !dynoset_within(&named, &wanted))
        r = change_refuse(t->change, "unknown-dyno", e, ENOENT,
                          "one of the dynos is not of those of %s that run here", name);
    return r < 0 ? r : restart_dynos(t, app, some ? &named : &wanted, e);
}

/* --- All of them --- */

static const struct {
    const char *op;
    int (*carry)(const struct task *t, struct err *e);
} ops[] = {
    {"start", do_start}, {"stop", do_stop},     {"restart", do_restart},
    {"scale", do_scale}, {"sync", change_sync},
};

int change_command(const struct model *m, const struct change_limits *limits, const json_t *command,
                   struct change *ret, struct err *e)
{
    const char *op = json_str(command, "op", "");
    struct task t = {m, limits, command, ret};
    char q[QUOTE_MAX];

    *ret = (struct change){.entries = json_array()};
    if (!ret->entries)
        return change_no_memory(e);
    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
        if (!strcmp(ops[i].op, op))
            return ops[i].carry(&t, e);
    return change_refuse(ret, "unknown-op", e, EOPNOTSUPP, "no command is called '%s'",
                         quote(q, op));
}

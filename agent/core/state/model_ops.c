/* model_ops.c - what each entry does to its app, and the table of all. Works on a copy: an error
 * may leave it half done. */
#include "core/state/model_parts.h"

#include "base/scoped.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* --- scale, stop, restart, forget --- */

static int op_scale(struct op *o, struct err *e)
{
    const json_t *formation = json_object_get(o->entry, "formation");
    const char *name;
    json_t *value;

    if (json_object_size(formation) == 0)
        return refuse(e, EINVAL, "scale: the formation names no process type");
    int r = op_set_formation(o, formation, e);
    if (r == 0)
        r = op_check_ports(o, e);
    if (r < 0)
        return r;
    o->app->stopped = false;
    json_object_foreach ((json_t *)formation, name, value) {
        app_unmark_type(o->app, name);
    }
    app_prune(o->app);
    return app_prune_sizes(o->app, false) < 0 ? op_no_memory(o, e) : 0;
}

int op_dyno(const struct op *o, struct dyno_name *ret, struct err *e)
{
    const char *text = json_string_value(json_object_get(o->entry, "dyno"));
    char full[DYNO_TEXT_MAX], q[QUOTE_MAX];

    if (!text)
        return 0;
    if (snprintf(full, sizeof(full), "%s/%s", o->app->name, text) >= (int)sizeof(full) ||
        dyno_name_parse(full, ret) < 0)
        return refuse(e, EINVAL, "%s: '%s' is no name of a dyno, like web.1", o->name,
                      quote(q, text));
    return 1;
}

int op_no_such_dyno(const struct op *o, const struct dyno_name *d, struct err *e)
{
    return refuse(e, ENOENT, "%s: no dyno %s.%u of %s", o->name, d->type, d->num, o->app->name);
}

static int stop_all(struct op *o, struct err *e)
{
    o->app->stopped = true;
    app_unmark_type(o->app, NULL); /* the one mark covers them */
    for (size_t i = 0; i < o->app->n_oneoffs; i++)
        if (app_mark_stopped(o->app, ONEOFF_TYPE, o->app->oneoffs[i].num) < 0)
            return op_no_memory(o, e);
    return 0;
}

static int op_stop(struct op *o, struct err *e)
{
    struct dyno_name d = {0};
    int r = op_dyno(o, &d, e);

    if (r < 0)
        return r;
    if (r == 0)
        return stop_all(o, e);
    bool oneoff = !strcmp(d.type, ONEOFF_TYPE);
    if (oneoff ? !app_oneoff(o->app, d.num) : !app_in_formation(o->app, d.type, d.num))
        return op_no_such_dyno(o, &d, e);
    if (o->app->stopped && !oneoff)
        return 0;
    return app_mark_stopped(o->app, d.type, d.num) < 0 ? op_no_memory(o, e) : 0;
}

static int op_restart(struct op *o, struct err *e)
{
    struct app *app = o->app;
    struct dyno_name d = {0};
    uint64_t generation;
    int r = op_dyno(o, &d, e);

    if (r <= 0)
        return r < 0 ? r : op_start_anew(o, e);
    if (!strcmp(d.type, ONEOFF_TYPE))
        return refuse(e, EINVAL, "restart: a one-off is never restarted");
    if (!app_in_formation(app, d.type, d.num))
        return op_no_such_dyno(o, &d, e);
    if (app->stopped) { /* the others stay stopped */
        app->stopped = false;
        if (app_mark_formation(app) < 0)
            return op_no_memory(o, e);
    }
    app_unmark_stopped(app, d.type, d.num);
    r = op_next_generation(o, &generation, e);
    if (r < 0)
        return r;
    return app_set_generation_of(app, d.type, d.num, generation) < 0 ? op_no_memory(o, e) : 0;
}

static int op_forget(struct op *o, struct err *e)
{
    (void)e;
    o->forget = true;
    return 0;
}

/* --- One-offs --- */

static int entry_num(const struct op *o, unsigned *ret, struct err *e)
{
    uint64_t num = 0;
    int r = field_uint(o->name, o->entry, "num", 1, DYNO_NUM_MAX, &num, e);

    if (r == 0)
        *ret = (unsigned)num;
    return r;
}

static int parse_oneoff(struct op *o, struct oneoff *one, struct err *e)
{
    const json_t *argv = json_object_get(o->entry, "argv");
    json_t *command = json_object_get(o->entry, "command");

    if (!argv == !command)
        return refuse(e, EINVAL, "run: exactly one of 'argv' and 'command' is needed");
    int r = argv ? field_argv(o->name, argv, &one->argv, e) : field_command(o->name, command, e);
    if (r < 0)
        return r;
    one->text = json_incref(command);
    one->command = json_string_value(command);
    one->attached = json_is_true(json_object_get(o->entry, "attached"));
    r = field_size(o->name, o->entry, one->size, e);
    if (r == 0)
        r = field_env(o->name, o->entry, &one->env, e);
    if (r == 0)
        r = op_next_generation(o, &one->generation, e);
    return r;
}

static int op_run(struct op *o, struct err *e)
{
    scoped(oneoff_done) struct oneoff one = {0};
    int r = entry_num(o, &one.num, e);

    if (r < 0)
        return r;
    if (app_oneoff(o->app, one.num))
        return refuse(e, EEXIST, "run: %s has a run.%u", o->app->name, one.num);
    if (o->app->n_oneoffs >= MODEL_ONEOFFS_MAX)
        return refuse(e, EBUSY, "run: %s is at the limit of %d one-offs", o->app->name,
                      MODEL_ONEOFFS_MAX);
    r = parse_oneoff(o, &one, e);
    if (r < 0)
        return r;
    return app_add_oneoff(o->app, &one) < 0 ? op_no_memory(o, e) : 0;
}

static int op_ran(struct op *o, struct err *e)
{
    unsigned num = 0;
    int r = entry_num(o, &num, e);

    if (r < 0)
        return r;
    if (!app_oneoff(o->app, num))
        return refuse(e, ENOENT, "ran: no dyno run.%u of %s", num, o->app->name);
    app_remove_oneoff(o->app, num);
    return 0;
}

static int op_generation(struct op *o, struct err *e)
{
    uint64_t at_least = 0;
    int r = field_uint(o->name, o->entry, "generation", 1, MODEL_GENERATION_MAX, &at_least, e);

    if (r == 0 && at_least > o->generation)
        o->generation = at_least;
    return r;
}

/* --- The table --- */

#define FIELD_OP                                                                                   \
    {                                                                                              \
        "op", FIELD_STRING | FIELD_REQUIRED                                                        \
    }
#define FIELD_APP                                                                                  \
    {                                                                                              \
        "app", FIELD_STRING | FIELD_REQUIRED                                                       \
    }
/* Every entry may have it. */
#define FIELD_BY                                                                                   \
    {                                                                                              \
        "by", FIELD_OBJECT                                                                         \
    }
#define FIELD_END                                                                                  \
    {                                                                                              \
        NULL, 0                                                                                    \
    }

static const struct field release_fields[] = {
    FIELD_OP,
    FIELD_BY,
    FIELD_APP,
    {"url", FIELD_STRING},
    {"dir", FIELD_STRING},
    {"digest", FIELD_STRING | FIELD_NULL},
    {"env", FIELD_OBJECT},
    {"size", FIELD_STRING},
    {"types", FIELD_ARRAY | FIELD_NULL},
    {"formation", FIELD_OBJECT | FIELD_NULL},
    {"created", FIELD_INT},
    {"ports", FIELD_OBJECT},
    {"restart", FIELD_BOOL},
    {"stop_after", FIELD_OBJECT},
    {"meta", FIELD_OBJECT},
    {"controlled", FIELD_BOOL},
    {"version", FIELD_INT},
    {"generation", FIELD_INT},
    {"unknown_types", FIELD_ARRAY},
    FIELD_END,
};
static const struct field resolve_fields[] = {
    FIELD_OP,
    FIELD_BY,
    FIELD_APP,
    {"version", FIELD_INT | FIELD_REQUIRED},
    {"digest", FIELD_STRING | FIELD_NULL},
    {"types", FIELD_ARRAY | FIELD_REQUIRED},
    {"unknown_types", FIELD_ARRAY},
    FIELD_END,
};
static const struct field scale_fields[] = {
    FIELD_OP, FIELD_BY, FIELD_APP, {"formation", FIELD_OBJECT | FIELD_REQUIRED}, FIELD_END,
};
static const struct field stop_fields[] = {
    FIELD_OP, FIELD_BY, FIELD_APP, {"dyno", FIELD_STRING}, FIELD_END,
};
static const struct field restart_fields[] = {
    FIELD_OP, FIELD_BY, FIELD_APP, {"dyno", FIELD_STRING}, {"generation", FIELD_INT}, FIELD_END,
};
static const struct field resize_fields[] = {
    FIELD_OP,
    FIELD_BY,
    FIELD_APP,
    {"size", FIELD_STRING | FIELD_REQUIRED},
    {"type", FIELD_STRING},
    {"dyno", FIELD_STRING},
    FIELD_END,
};
static const struct field run_fields[] = {
    FIELD_OP,
    FIELD_BY,
    FIELD_APP,
    {"num", FIELD_INT | FIELD_REQUIRED},
    {"argv", FIELD_ARRAY},
    {"command", FIELD_STRING},
    {"env", FIELD_OBJECT},
    {"size", FIELD_STRING},
    {"attached", FIELD_BOOL},
    {"generation", FIELD_INT},
    FIELD_END,
};
static const struct field ran_fields[] = {
    FIELD_OP, FIELD_BY, FIELD_APP, {"num", FIELD_INT | FIELD_REQUIRED}, FIELD_END,
};
static const struct field forget_fields[] = {
    FIELD_OP,
    FIELD_BY,
    FIELD_APP,
    FIELD_END,
};
static const struct field generation_fields[] = {
    FIELD_OP,
    FIELD_BY,
    {"generation", FIELD_INT | FIELD_REQUIRED},
    FIELD_END,
};

static const struct field drain_fields[] = {
    FIELD_OP,
    FIELD_BY,
    {"reason", FIELD_STRING | FIELD_REQUIRED},
    {"deadline", FIELD_INT},
    {"since", FIELD_INT},
    FIELD_END,
};
static const struct field undrain_fields[] = {
    FIELD_OP,
    FIELD_BY,
    FIELD_END,
};
static const struct field control_fields[] = {
    FIELD_OP,
    FIELD_BY,
    {"outcome", FIELD_STRING},
    {"store", FIELD_STRING},
    {"generation", FIELD_INT},
    {"settled", FIELD_ARRAY},
    FIELD_END,
};

static const struct op_rule rules[] = {
    {"release", OP_APP_ANY, release_fields, op_release, false},
    {"resolve", OP_APP_KNOWN, resolve_fields, op_resolve, false},
    {"scale", OP_APP_KNOWN, scale_fields, op_scale, false},
    {"stop", OP_APP_KNOWN, stop_fields, op_stop, false},
    {"restart", OP_APP_KNOWN, restart_fields, op_restart, false},
    {"resize", OP_APP_KNOWN, resize_fields, op_resize, false},
    {"run", OP_APP_KNOWN, run_fields, op_run, false},
    {"ran", OP_APP_KNOWN, ran_fields, op_ran, false},
    {"forget", OP_APP_KNOWN, forget_fields, op_forget, false},
    {"generation", OP_APP_NONE, generation_fields, op_generation, false},
    {"drain", OP_APP_NONE, drain_fields, op_drain, true},
    {"undrain", OP_APP_NONE, undrain_fields, op_undrain, true},
    {"control", OP_APP_NONE, control_fields, op_control, true},
};

const struct op_rule *op_rule(const char *name)
{
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
        if (!strcmp(rules[i].name, name))
            return &rules[i];
    return NULL;
}

/* control_fields.c - what a command names, checked, and the entries that it may come to. */
#include "core/control/control_priv.h"

#include "base/frame.h"
#include "base/scoped.h"
#include "core/slugs/mirrors.h"
#include "core/run/spec.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void change_done(struct change *p)
{
    json_decref(p->entries);
    json_decref(p->answer);
    *p = (struct change){0};
}

int change_refuse(struct change *p, const char *code, struct err *e, int errnum, const char *fmt,
                  ...)
{
    char text[ERR_TEXT_MAX];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap); /* a cut text is still the best we have */
    va_end(ap);
    p->code = code;
    return refuse(e, errnum, "%s", text);
}

const char *change_code(const struct change *p, const struct err *e)
{
    if (p->code)
        return p->code;
    if (e->fault != FAULT_OPERATOR)
        return "internal";
    if (e->errnum == EBUSY || e->errnum == EMSGSIZE)
        return "limit";
    return e->errnum == EOPNOTSUPP ? "unknown-op" : "bad-command";
}

int change_bad(struct change *p, struct err *e, const char *what)
{
    return change_refuse(p, "bad-command", e, EINVAL, "%s", what);
}

int change_no_memory(struct err *e)
{
    return err_set(e, ENOMEM, "carry out a command");
}

/* ENTRY is taken. */
int change_add(struct change *p, json_t *entry, struct err *e)
{
    return json_array_append_new(p->entries, entry) < 0 ? change_no_memory(e) : 0;
}

int change_add_op(const struct task *t, const char *op, const struct app *app, const char *type,
                  unsigned num, struct err *e)
{
    char dyno[DYNO_TEXT_MAX];

    (void)snprintf(dyno, sizeof(dyno), "%s.%u", type ? type : "", num);
    json_t *entry =
        json_pack("{s:s,s:s,s:s*}", "op", op, "app", app->name, "dyno", type ? dyno : NULL);
    return entry ? change_add(t->change, entry, e) : change_no_memory(e);
}

/* --- Room --- */

int change_wanted_now(const struct model *m, size_t *ret, struct err *e)
{
    scoped_free struct want *wants = NULL;

    return model_wants(m, &wants, ret, e);
}

int change_room(struct change *p, const struct model *m, const struct change_limits *limits,
                size_t more, struct err *e)
{
    size_t now = 0;
    int r = more ? change_wanted_now(m, &now, e) : 0;

    if (r == 0 && more && now + more > limits->config->dynos_max)
        return change_refuse(p, "capacity", e, EBUSY,
                             "%zu more dynos, beside %zu, are over this instance's limit of %u",
                             more, now, limits->config->dynos_max);
    return r;
}

int change_growth(const struct task *t, const struct dynoset *wanted, const struct dynoset *target,
                  struct err *e)
{
    size_t now = dynoset_count(wanted), then = dynoset_count(target);

    return change_room(t->change, t->model, t->limits, then > now ? then - now : 0, e);
}

int change_draining(const struct task *t, struct err *e)
{
    return change_refuse(t->change, "draining", e, EBUSY,
                         "the instance is being emptied: nothing is started on it");
}

/* --- What a command names --- */

int change_app(const struct task *t, bool must, const char **ret_name, const struct app **ret,
               struct err *e)
{
    char q[QUOTE_MAX];
    const char *name = json_string_value(json_object_get(t->command, "app"));

    if (!app_name_valid(name))
        return change_refuse(t->change, "bad-command", e, EINVAL, "'%s' is no name of an app",
                             quote(q, name));
    *ret = model_app(t->model, name);
    *ret_name = name;
    if (must && !*ret)
        return change_refuse(t->change, "unknown-app", e, ENOENT, "no app %s here", name);
    return 0;
}

/* "web.1". ONEOFFS: "run.N" too. */
static int parse_dyno(const struct task *t, const char *app, const json_t *text, bool oneoffs,
                      struct dyno_name *ret, struct err *e)
{
    char full[DYNO_TEXT_MAX], q[QUOTE_MAX];

    if (!json_is_string(text))
        return change_bad(t->change, e, "'dynos' is a list of names like web.1");
    if (snprintf(full, sizeof(full), "%s/%s", app, json_string_value(text)) >= (int)sizeof(full) ||
        dyno_name_parse(full, ret) < 0)
        return change_refuse(t->change, "bad-command", e, EINVAL,
                             "'%s' is no name of a dyno, like web.1",
                             quote(q, json_string_value(text)));
    if (!oneoffs && !strcmp(ret->type, ONEOFF_TYPE))
        return change_bad(t->change, e, "a one-off is started by 'run', and never again");
    return 0;
}

/* The list "dynos", no two of one name. */
int change_dynos(const struct task *t, const char *app, bool oneoffs, struct dynoset *ret,
                 struct err *e)
{
    const json_t *list = json_object_get(t->command, "dynos"), *text;
    struct dyno_name name = {0};
    size_t i;

    if (json_array_size(list) == 0)
        return change_bad(t->change, e, "'dynos' is an empty list");
    if (json_array_size(list) > MODEL_DYNOS_MAX)
        return change_refuse(t->change, "limit", e, EBUSY, "'dynos' names more than %d",
                             MODEL_DYNOS_MAX);
    json_array_foreach (list, i, text) {
        int r = parse_dyno(t, app, text, oneoffs, &name, e);

        if (r == 0 && dynoset_has(ret, name.type, name.num))
            r = change_refuse(t->change, "bad-command", e, EINVAL, "'dynos' has %s.%u twice",
                              name.type, name.num);
        if (r == 0)
            r = dynoset_add(ret, name.type, name.num, e);
        if (r < 0)
            return r;
    }
    return 0;
}

/* A formation's value: a number, or a list of distinct ones. */
static int take_nums(const struct task *t, const char *type, const json_t *value,
                     struct dynoset *ret, struct err *e)
{
    const json_t *num;
    size_t i;
    int r = 0;

    if (json_is_integer(value)) {
        json_int_t n = json_integer_value(value);

        if (n < 0 || n > MODEL_COUNT_MAX)
            return change_refuse(t->change, "bad-command", e, EINVAL,
                                 "%s: 0 to %d dynos, or a list", type, MODEL_COUNT_MAX);
        for (json_int_t k = 1; r == 0 && k <= n; k++)
            r = dynoset_add(ret, type, (unsigned)k, e);
        return r;
    }
    if (!json_is_array(value) || json_array_size(value) > MODEL_COUNT_MAX)
        return change_refuse(t->change, "bad-command", e, EINVAL,
                             "%s: a number of dynos, or a list of at most %d", type,
                             MODEL_COUNT_MAX);
    json_array_foreach (value, i, num) {
        json_int_t n = json_integer_value(num); /* 0 for anything else */

        if (n < 1 || n > DYNO_NUM_MAX || dynoset_has(ret, type, (unsigned)n))
            return change_refuse(t->change, "bad-command", e, EINVAL,
                                 "%s: distinct numbers from 1 to %u", type, DYNO_NUM_MAX);
        if ((r = dynoset_add(ret, type, (unsigned)n, e)) < 0)
            return r;
    }
    return r;
}

int change_formation(const struct task *t, const json_t *formation, struct dynoset *ret,
                     struct err *e)
{
    const char *type;
    json_t *value;
    char q[QUOTE_MAX];

    if (json_object_size(formation) > MODEL_TYPES_MAX)
        return change_refuse(t->change, "limit", e, EBUSY, "more than %d process types",
                             MODEL_TYPES_MAX);
    json_object_foreach ((json_t *)(uintptr_t)formation, type, value) {
        if (!type_name_valid(type, strlen(type)) || !strcmp(type, ONEOFF_TYPE))
            return change_refuse(t->change, "bad-command", e, EINVAL,
                                 "'%s' is no name of a process type", quote(q, type));
        int r = take_nums(t, type, value, ret, e);
        if (r < 0)
            return r;
    }
    return dynoset_count(ret) > MODEL_DYNOS_MAX
               ? change_refuse(t->change, "limit", e, EBUSY, "more than %d dynos", MODEL_DYNOS_MAX)
               : 0;
}

/* --- Releases --- */

static const struct field release_fields[] = {
    {"version", FIELD_INT | FIELD_REQUIRED},
    {"slug", FIELD_STRING | FIELD_ARRAY | FIELD_REQUIRED},
    {"digest", FIELD_STRING},
    {"env", FIELD_OBJECT},
    {"size", FIELD_STRING},
    {"stop_after", FIELD_OBJECT},
    {"meta", FIELD_OBJECT},
    FIELD_END,
};

int change_release(const struct task *t, const json_t *rel, struct err *e)
{
    struct digest digest;
    const char *text = json_str(rel, "digest", NULL);
    int64_t version = json_int(rel, "version", 0);
    int r = fields_check("release", rel, release_fields, e);

    if (r == 0 && (version < 1 || version > MODEL_VERSION_MAX))
        r = change_bad(t->change, e, "release: 'version' is from 1 up");
    if (r == 0 && text && digest_parse(text, &digest) < 0)
        r = change_bad(t->change, e, "release: 'digest' is sha256: and 64 hexadecimal digits");
    if (r == 0)
        r = spec_check_size(t->limits->config, rel, e);
    return r < 0 ? r : spec_check_slug(t->limits->config, rel, e);
}

static bool same_object(const json_t *have, const json_t *spec)
{
    return json_object_size(spec) == 0
               ? json_object_size(have) == 0
               : json_equal((json_t *)(uintptr_t)have, (json_t *)(uintptr_t)spec) != 0;
}

/* A URL that is signed differs each time it is made: where there is a digest, that is what counts.
 */
static bool same_slug(const struct release *have, const json_t *spec)
{
    struct digest digest;
    const char *text = json_str(spec, "digest", NULL);

    if (text && have->has_digest)
        return digest_parse(text, &digest) == 0 && digest_equal(&digest, &have->digest);
    scoped(json_freep) json_t *url = NULL;
    struct err ignored = ERR_INIT; /* it was checked */
    return !text && have->url &&
           mirrors_of_json(json_object_get(spec, "slug"), &url, &ignored) == 0 &&
           !strcmp(have->url, json_string_value(url));
}

/* Nothing of it is new, so its dynos run on. */
bool change_same_release(const struct app *app, const json_t *spec)
{
    const struct release *have = &app->release;

    return json_int(spec, "version", 0) == have->version && !have->dir && same_slug(have, spec) &&
           !strcmp(have->size, json_str(spec, "size", "")) &&
           same_object(have->env, json_object_get(spec, "env")) &&
           same_object(have->stop_after, json_object_get(spec, "stop_after")) &&
           same_object(have->meta, json_object_get(spec, "meta"));
}

int change_add_release(const struct task *t, const char *app, const json_t *spec,
                       const struct dynoset *target, struct err *e)
{
    static const char *const same[] = {"version", "digest", "env", "size", "stop_after", "meta"};
    json_t *url = NULL;
    int r = mirrors_of_json(json_object_get(spec, "slug"), &url, e);
    json_t *entry = r < 0 ? NULL
                          : json_pack("{s:s,s:s,s:o,s:o}", "op", "release", "app", app, "url", url,
                                      "formation", dynoset_json(target));

    if (r < 0)
        return r;

    for (size_t i = 0; entry && i < sizeof(same) / sizeof(same[0]); i++) {
        json_t *value = json_object_get(spec, same[i]);

        if (value && json_object_set(entry, same[i], value) < 0) {
            json_decref(entry);
            return change_no_memory(e);
        }
    }
    return entry ? change_add(t->change, entry, e) : change_no_memory(e);
}

int change_add_scale(const struct task *t, const struct app *app, const struct dynoset *wanted,
                     const struct dynoset *target, struct err *e)
{
    json_t *formation = NULL;
    int r = dynoset_difference(app, wanted, target, &formation, e);

    if (r < 0 || !formation)
        return r;
    json_t *entry =
        json_pack("{s:s,s:s,s:o}", "op", "scale", "app", app->name, "formation", formation);
    return entry ? change_add(t->change, entry, e) : change_no_memory(e);
}

int change_add_claim(const struct task *t, const struct app *app, const struct dynoset *wanted,
                     struct err *e)
{
    if (app->controlled || dynoset_count(wanted) == 0)
        return 0;
    json_t *entry = json_pack("{s:s,s:s,s:o}", "op", "scale", "app", app->name, "formation",
                              dynoset_json(wanted));
    return entry ? change_add(t->change, entry, e) : change_no_memory(e);
}

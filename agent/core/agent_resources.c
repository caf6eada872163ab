/* agent_resources.c - commands about what dynos use while they run: pause, resume, resize. */
#include "core/dyno.h"

#include "base/frame.h"
#include "base/scoped.h"
#include "core/run/spec.h"

#include <errno.h>
#include <string.h>

/* What one command is about. */
struct scope {
    const char *app, *type, *dyno; /* NULL: all */
};

static bool in_scope(const struct scope *s, const struct dyno *d)
{
    char text[DYNO_TEXT_MAX];

    return !strcmp(d->name.app, s->app) && (!s->type || !strcmp(d->name.type, s->type)) &&
           (!s->dyno || !strcmp(dyno_name_short(&d->name, text), s->dyno));
}

static int no_such(const struct scope *s, struct err *e)
{
    if (s->dyno)
        (void)err_say(e, ENOENT, "no dyno '%s' of '%s' here: see `dyno ps`", s->dyno, s->app);
    else
        (void)err_say(e, ENOENT, "no app '%s' here: see `dyno ps`", s->app);
    return err_blame(e, FAULT_OPERATOR);
}

static bool add_name(json_t *list, const struct dyno *d)
{
    char text[DYNO_TEXT_MAX];

    return json_array_append_new(list, json_string(dyno_name_short(&d->name, text))) == 0;
}

/* --- pause, resume --- */

/* FROM is the state that it changes. Of a whole app, only dynos in that state are meant. */
static int for_each(struct agent *a, const struct scope *s, enum dyno_state from,
                    int (*fn)(struct dyno *d, struct err *e), json_t *names, struct err *e)
{
    struct dyno *d, *next;
    bool any = false;
    int r = 0;

    for (d = TAILQ_FIRST(&a->dynos); r == 0 && d; d = next) {
        next = TAILQ_NEXT(d, link);
        if (!in_scope(s, d))
            continue;
        any = true;
        if (!s->dyno && d->state != from)
            continue;
        r = fn(d, e);
        if (r == 0 && !add_name(names, d))
            r = err_set(e, ENOMEM, "list the dynos");
    }
    return r == 0 && !any && (s->dyno || !model_app(a->model, s->app)) ? no_such(s, e) : r;
}

static int stand(struct agent *a, const char *app, const char *dyno, bool still, json_t **ret,
                 struct err *e)
{
    const struct scope scope = {.app = app, .dyno = dyno};
    scoped(json_freep) json_t *names = json_array();
    int r = for_each(a, &scope, still ? DYNO_UP : DYNO_PAUSED, still ? dyno_pause : dyno_resume,
                     names, e);

    if (r < 0)
        return r;
    agent_event(a, still ? "pause" : "resume", NULL,
                json_pack("{s:s,s:O}", "app", app, "dynos", names));
    *ret = json_pack("{s:O}", still ? "paused" : "resumed", names);
    return 0;
}

int agent_pause(struct agent *a, const char *app, const char *dyno, json_t **ret, struct err *e)
{
    return stand(a, app, dyno, true, ret, e);
}

int agent_resume(struct agent *a, const char *app, const char *dyno, json_t **ret, struct err *e)
{
    return stand(a, app, dyno, false, ret, e);
}

/* --- resize --- */

static int take_spec(struct agent *a, const json_t *spec, bool one, struct scope *s,
                     const char **ret_size, struct err *e)
{
    const json_t *type = json_object_get(spec, "type"), *value;
    const char *key;

    json_object_foreach ((json_t *)(uintptr_t)spec, key, value) {
        if (strcmp(key, "size") != 0 && (one || strcmp(key, "type") != 0)) {
            (void)err_say(e, EINVAL, "unknown field \"%.40s\"", key);
            return err_blame(e, FAULT_OPERATOR);
        }
    }
    if (!json_object_get(spec, "size") || (type && !json_is_string(type))) {
        (void)err_say(e, EINVAL, type ? "\"type\" must be a string" : "\"size\" is needed");
        return err_blame(e, FAULT_OPERATOR);
    }
    s->type = json_string_value(type);
    *ret_size = json_str(spec, "size", "");
    return spec_check_size(&a->config, spec, e);
}

/* Which of them a resize to NAME of S is about, while they run. */
static bool will_change(const struct scope *s, const struct dyno *d, const char *name)
{
    /* A dyno of the formation is not resized with its app's one-offs. */
    return in_scope(s, d) && d->run && (s->dyno || !d->oneoff) && strcmp(d->size, name) != 0;
}

static int check_all(struct agent *a, const struct scope *s, const char *size, struct err *e)
{
    struct dyno *d;
    int r = 0;

    TAILQ_FOREACH (d, &a->dynos, link)
        if (r == 0 && will_change(s, d, size))
            r = dyno_check_size(d, size, e);
    return r;
}

static json_t *later_json(const struct dyno *d, unsigned later)
{
    static const char *const names[] = {"io_weight", "open_files", "disk", "bandwidth"};
    json_t *limits = json_array();
    char text[DYNO_TEXT_MAX];

    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (later & 1u << i) /* RUN_LATER_* */
            (void)json_array_append_new(limits, json_string(names[i]));
    return json_pack("{s:s,s:o}", "dyno", dyno_name_short(&d->name, text), "limits", limits);
}

/* The desired state has changed; here it is made true, dyno by dyno. */
static json_t *settle_all(struct agent *a, const struct scope *s, const char *size)
{
    json_t *resized = json_array(), *at_next = json_array(), *failed = json_array();
    char text[DYNO_TEXT_MAX];
    struct dyno *d;

    TAILQ_FOREACH (d, &a->dynos, link) {
        struct err e = ERR_INIT;
        unsigned later = 0;

        if (!will_change(s, d, size))
            continue;
        if (dyno_settle_size(d, &later, &e) < 0)
            (void)json_array_append_new(
                failed,
                json_pack("{s:s,s:s}", "dyno", dyno_name_short(&d->name, text), "text", e.text));
        else if (!strcmp(d->size, size))
            (void)add_name(resized, d);
        if (later)
            (void)json_array_append_new(at_next, later_json(d, later));
    }
    return json_pack("{s:s,s:o,s:o,s:o}", "size", size, "resized", resized, "at_next_start",
                     at_next, "failed", failed);
}

int agent_resize(struct agent *a, const char *app, const char *dyno, const json_t *spec,
                 json_t **ret, struct err *e)
{
    struct scope scope = {.app = app, .dyno = dyno};
    const char *size;

    if (take_spec(a, spec, dyno != NULL, &scope, &size, e) < 0)
        return -e->errnum;
    if (!model_app(a->model, app))
        return no_such(&(struct scope){.app = app}, e);
    if (check_all(a, &scope, size, e) < 0)
        return -e->errnum;
    json_t *entry = json_pack("{s:s,s:s,s:s,s:s*,s:s*}", "op", "resize", "app", app, "size", size,
                              "type", scope.type, "dyno", dyno);
    int r = entry ? agent_change(a, entry, NULL, e) : err_set(e, ENOMEM, "resize");
    json_decref(entry);
    if (r == 0)
        *ret = settle_all(a, &scope, size);
    return r < 0 || *ret ? r : err_set(e, ENOMEM, "resize");
}

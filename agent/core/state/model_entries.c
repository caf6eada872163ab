/* model_entries.c - the model said again as entries, the shortest list that makes it anew. */
#include "core/state/model_parts.h"

#include "base/name.h"

#include <stdio.h>
#include <string.h>

/* Members that have no value to tell are left out, so that no entry is longer than the one it came
 * from. FAILED is sticky: checked once, at the end. */
struct writer {
    json_t *list;
    bool failed;
};

static void put(struct writer *w, json_t *obj, const char *key, json_t *value)
{
    if (json_object_set_new(obj, key, value) < 0)
        w->failed = true;
}

static json_t *begin(struct writer *w, const char *op, const struct app *app)
{
    json_t *entry = json_object();

    put(w, entry, "op", json_string(op));
    if (app)
        put(w, entry, "app", json_string(app->name));
    return entry;
}

static void end(struct writer *w, json_t *entry)
{
    if (json_array_append_new(w->list, entry) < 0)
        w->failed = true;
}

static void put_generation(struct writer *w, json_t *entry, uint64_t generation)
{
    put(w, entry, "generation", json_integer((json_int_t)generation));
}

static void put_digest(struct writer *w, json_t *entry, const struct release *r)
{
    if (r->has_digest)
        put(w, entry, "digest", json_sprintf("sha256:%s", r->digest.hex));
}

static void put_formation(struct writer *w, json_t *entry, const struct app *app)
{
    json_t *formation = json_object(), *ports = json_object();

    for (size_t i = 0; i < app->n_types; i++) {
        const struct want_type *t = &app->types[i];

        /* Until the release is resolved, this list is all that knows the types' places. */
        if (t->count || !app->release.resolved)
            put(w, formation, t->name, type_formation_json(t));
        if (t->port)
            put(w, ports, t->name, json_integer(t->port));
    }
    put(w, entry, "formation", formation);
    if (json_object_size(ports) > 0)
        put(w, entry, "ports", json_incref(ports));
    json_decref(ports);
}

/* Without its types: together with a large environment they could be over the limit of a line. */
static void add_release(struct writer *w, const struct app *app)
{
    const struct release *r = &app->release;
    json_t *entry = begin(w, "release", app);

    put(w, entry, r->url ? "url" : "dir", json_string(r->url ? r->url : r->dir));
    put_digest(w, entry, r);
    if (json_object_size(r->env) > 0)
        put(w, entry, "env", json_incref(r->env));
    if (r->size[0])
        put(w, entry, "size", json_string(r->size));
    put_formation(w, entry, app);
    if (json_object_size(r->stop_after) > 0)
        put(w, entry, "stop_after", json_incref(r->stop_after));
    if (json_object_size(r->meta) > 0)
        put(w, entry, "meta", json_incref(r->meta));
    if (app->controlled)
        put(w, entry, "controlled", json_true());
    if (r->created)
        put(w, entry, "created", json_integer((json_int_t)r->created));
    if (!r->restart)
        put(w, entry, "restart", json_false());
    put(w, entry, "version", json_integer(r->version));
    put_generation(w, entry, app->generation);
    end(w, entry);
}

static void add_types(struct writer *w, const struct app *app)
{
    json_t *entry = begin(w, "resolve", app);
    json_t *types = json_array();

    for (size_t i = 0; i < app->n_types; i++) {
        const struct want_type *t = &app->types[i];
        json_t *type = json_object();

        put(w, type, "name", json_string(t->name));
        put(w, type, "command", json_incref(t->text));
        if (t->from_release_file)
            put(w, type, "from_release_file", json_true());
        if (t->direct)
            put(w, type, "direct", json_true());
        if (json_array_append_new(types, type) < 0)
            w->failed = true;
    }
    put(w, entry, "version", json_integer(app->release.version));
    put(w, entry, "types", types);
    end(w, entry);
}

static void put_dyno(struct writer *w, json_t *entry, const struct dyno_name *name)
{
    char text[DYNO_TEXT_MAX];

    put(w, entry, "dyno", json_string(dyno_name_short(name, text)));
}

static void add_restarts(struct writer *w, const struct app *app)
{
    for (size_t i = 0; i < app->n_dyno_gens; i++) {
        json_t *entry = begin(w, "restart", app);

        put_dyno(w, entry, &app->dyno_gens[i].name);
        put_generation(w, entry, app->dyno_gens[i].generation);
        end(w, entry);
    }
}

/* Those of types and dynos that are in none of these entries cannot be told. */
static void add_sizes(struct writer *w, const struct app *app)
{
    const char *key;
    json_t *size;

    json_object_foreach (app->sizes, key, size) {
        json_t *entry = begin(w, "resize", app);

        if (strcmp(key, "*") != 0)
            put(w, entry, strchr(key, '.') ? "dyno" : "type", json_string(key));
        put(w, entry, "size", json_incref(size));
        end(w, entry);
    }
}

static void add_oneoffs(struct writer *w, const struct app *app)
{
    for (size_t i = 0; i < app->n_oneoffs; i++) {
        const struct oneoff *o = &app->oneoffs[i];
        json_t *entry = begin(w, "run", app);

        put(w, entry, "num", json_integer(o->num));
        if (o->argv)
            put(w, entry, "argv", json_incref(o->argv));
        else
            put(w, entry, "command", json_incref(o->text));
        if (json_object_size(o->env) > 0)
            put(w, entry, "env", json_incref(o->env));
        if (o->size[0])
            put(w, entry, "size", json_string(o->size));
        if (o->attached)
            put(w, entry, "attached", json_true());
        put_generation(w, entry, o->generation);
        end(w, entry);
    }
}

/* After the one-offs are there: each has a mark of its own, which `stop` of the whole app would set
 * on all of them. */
static void add_stops(struct writer *w, const struct app *app)
{
    for (size_t i = 0; i < app->n_stopped; i++) {
        json_t *entry = begin(w, "stop", app);

        put_dyno(w, entry, &app->stopped_dynos[i]);
        end(w, entry);
    }
}

static void add_app(struct writer *w, const struct app *app)
{
    add_release(w, app);
    if (app->release.resolved)
        add_types(w, app);
    add_restarts(w, app);
    add_sizes(w, app);
    if (app->stopped)
        end(w, begin(w, "stop", app));
    add_oneoffs(w, app);
    add_stops(w, app);
}

static void add_control(struct writer *w, const struct standing *s)
{
    json_t *entry, *settled;

    if (!s->control.store[0])
        return;
    entry = begin(w, "control", NULL);
    settled = json_array();
    put(w, entry, "store", json_string(s->control.store));
    put_generation(w, entry, s->control.generation);
    for (size_t i = 0; i < s->n_settled; i++)
        if (json_array_append_new(settled, json_pack("{s:s,s:s}", "id", s->settled[i].id, "outcome",
                                                     s->settled[i].refused ? "refused" : "done")) <
            0)
            w->failed = true;
    put(w, entry, "settled", settled);
    end(w, entry);
}

static void add_drain(struct writer *w, const struct drain *drain)
{
    if (!drain->on)
        return;
    json_t *entry = begin(w, "drain", NULL);
    put(w, entry, "reason", json_string(drain->reason));
    if (drain->deadline_real)
        put(w, entry, "deadline", json_integer((json_int_t)drain->deadline_real));
    if (drain->since_real)
        put(w, entry, "since", json_integer((json_int_t)drain->since_real));
    end(w, entry);
}

json_t *model_entries(const struct model *m)
{
    struct writer w = {.list = json_array()};

    if (!w.list)
        return NULL;
    if (model_generation(m) > 0) {
        json_t *entry = begin(&w, "generation", NULL);

        put_generation(&w, entry, model_generation(m));
        end(&w, entry);
    }
    add_control(&w, model_standing(m));
    add_drain(&w, model_drain_state(m));
    for (size_t i = 0; i < model_n_apps(m); i++)
        add_app(&w, model_app_at(m, i));
    if (w.failed) {
        json_decref(w.list);
        return NULL;
    }
    return w.list;
}

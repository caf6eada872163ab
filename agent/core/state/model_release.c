/* model_release.c - releases and formations. Works on a copy of the app: an error may leave it half
 * done. */
#include "core/state/model_parts.h"

#include "base/scoped.h"
#include "core/slugs/mirrors.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int op_no_memory(const struct op *o, struct err *e)
{
    return err_set(e, ENOMEM, "%s of %s", o->name, o->app ? o->app->name : "the model");
}

/* Puts VALUE (taken) into the entry as completed. */
static int complete(struct op *o, const char *key, json_t *value, struct err *e)
{
    return json_object_set_new(o->out, key, value) < 0 ? op_no_memory(o, e) : 0;
}

/* The generation that the entry has (a replay), or the next one. */
int op_next_generation(struct op *o, uint64_t *ret, struct err *e)
{
    uint64_t generation = o->generation + 1;
    int r = field_uint(o->name, o->entry, "generation", 1, MODEL_GENERATION_MAX, &generation, e);

    if (r < 0)
        return r;
    if (generation > MODEL_GENERATION_MAX)
        return refuse(e, EBUSY, "%s: out of generations", o->name);
    if (generation > o->generation)
        o->generation = generation;
    *ret = generation;
    return complete(o, "generation", json_integer((json_int_t)generation), e);
}

/* A type list that its app has parted with. */
struct former {
    struct want_type *types;
    size_t n;
};

static void former_done(struct former *f)
{
    types_free(f->types, f->n);
}

static struct former take_types(struct app *app)
{
    struct former f = {app->types, app->n_types};

    app->types = NULL;
    app->n_types = 0;
    return f;
}

/* Counts (and PORTS) of the former types for the ones of the same name; what is wanted and not
 * there any more goes to UNKNOWN. */
static int carry_over(struct op *o, const struct former *f, bool ports, json_t *unknown,
                      struct err *e)
{
    for (size_t i = 0; i < f->n; i++) {
        struct want_type *t = app_type(o->app, f->types[i].name);

        if (!t && f->types[i].count > 0 && !o->app->release.resolved)
            t = app_add_type(o->app, f->types[i].name);
        else if (!t && f->types[i].count == 0)
            continue;
        else if (!t && json_array_append_new(unknown, json_string(f->types[i].name)) == 0)
            continue;
        if (!t)
            return op_no_memory(o, e);
        type_set_numbers(t, f->types[i].count, json_incref(f->types[i].nums));
        if (ports)
            t->port = f->types[i].port;
    }
    return 0;
}

static int carry_over_and_tell(struct op *o, const struct former *f, bool ports, struct err *e)
{
    json_t *unknown = json_array();
    int r = unknown ? carry_over(o, f, ports, unknown, e) : op_no_memory(o, e);

    if (r == 0 && json_array_size(unknown) > 0)
        r = complete(o, "unknown_types", json_incref(unknown), e);
    json_decref(unknown);
    return r;
}

/* --- release, resolve --- */

static int set_version(struct op *o, struct release *r, struct err *e)
{
    uint64_t version = (uint64_t)o->app->release.version + 1;
    int x = field_uint(o->name, o->entry, "version", 1, MODEL_VERSION_MAX, &version, e);

    if (x < 0)
        return x;
    if (version > MODEL_VERSION_MAX)
        return refuse(e, EBUSY, "release: %s is at the last version, v%u", o->app->name,
                      MODEL_VERSION_MAX);
    r->version = (unsigned)version;
    return complete(o, "version", json_integer((json_int_t)version), e);
}

/* url or dir, exactly one. */
static int set_source(const struct op *o, struct release *r, struct err *e)
{
    const char *url = json_string_value(json_object_get(o->entry, "url"));
    const char *dir = json_string_value(json_object_get(o->entry, "dir"));
    const char *wrong = url ? mirrors_wrong(url) : NULL;

    if (!url == !dir)
        return refuse(e, EINVAL, "release: exactly one of 'url' and 'dir' is needed");
    if (wrong)
        return refuse(e, EINVAL, "release: 'url' %s", wrong);
    if (dir && (*dir != '/' || strlen(dir) > MODEL_DIR_MAX))
        return refuse(e, EINVAL, "release: 'dir' is not an absolute path of at most %d bytes",
                      MODEL_DIR_MAX);
    r->url = url ? strdup(url) : NULL;
    r->dir = dir ? strdup(dir) : NULL;
    return r->url || r->dir ? 0 : op_no_memory(o, e);
}

static int parse_release(struct op *o, struct release *r, struct err *e)
{
    const json_t *restart = field_get(o->entry, "restart");
    int x = set_version(o, r, e);

    r->restart = !restart || json_is_true(restart);
    if (x == 0)
        x = set_source(o, r, e);
    if (x == 0)
        x = field_size(o->name, o->entry, r->size, e);
    if (x == 0)
        x = field_uint(o->name, o->entry, "created", 0, INT64_MAX, &r->created, e);
    if (x == 0)
        x = field_env(o->name, o->entry, &r->env, e);
    if (x == 0)
        x = field_stop_after(o->name, o->entry, &r->stop_after, e);
    if (x == 0)
        x = field_meta(o->name, o->entry, &r->meta, e);
    if (x == 0)
        x = field_digest(o->name, o->entry, &r->digest, e);
    r->has_digest = x == 1;
    return x < 0 ? x : 0;
}

/* The formation of a new release: see the header. */
static int release_formation(struct op *o, const struct former *f, bool first, struct err *e)
{
    const json_t *formation = field_get(o->entry, "formation");
    struct want_type *web = NULL;

    if (formation)
        return op_set_formation(o, formation, e);
    if (!first)
        return carry_over_and_tell(o, f, false, e);
    if (o->app->release.resolved && !app_type(o->app, "web"))
        return 0;
    int r = op_need_type(o, "web", &web, e);
    if (web)
        type_set_numbers(web, 1, NULL);
    return r;
}

/* Nothing of the former life counts any more, but one-offs and their marks. */
int op_start_anew(struct op *o, struct err *e)
{
    o->app->stopped = false;
    app_unmark_type(o->app, NULL);
    o->app->n_dyno_gens = 0;
    return op_next_generation(o, &o->app->generation, e);
}

int op_release(struct op *o, struct err *e)
{
    const json_t *types = field_get(o->entry, "types");
    const json_t *ports = field_get(o->entry, "ports");
    scoped(release_done) struct release release = {0};
    bool first = o->app->release.version == 0;
    int r = parse_release(o, &release, e);

    if (r < 0)
        return r;
    scoped(former_done) struct former former = take_types(o->app);
    release_done(&o->app->release);
    o->app->release = release;
    release = (struct release){0}; /* it is the app's now */
    if (json_is_true(json_object_get(o->entry, "controlled")))
        o->app->controlled = true;
    if (types)
        r = field_types(o->name, types, &o->app->types, &o->app->n_types, e);
    o->app->release.resolved = types && r == 0;
    if (r == 0)
        r = release_formation(o, &former, first, e);
    if (r == 0 && ports)
        r = op_set_ports(o, ports, e);
    if (r == 0)
        r = op_check_ports(o, e);
    if (r == 0 && app_prune_sizes(o->app, o->app->release.size[0]) < 0)
        r = op_no_memory(o, e);
    return r < 0 ? r : op_start_anew(o, e);
}

/* The digest that the fetch found is the release's from now on. */
static int set_digest(struct op *o, struct err *e)
{
    struct release *r = &o->app->release;
    struct digest digest;
    int x = field_digest(o->name, o->entry, &digest, e);

    if (x <= 0)
        return x;
    if (r->has_digest && !digest_equal(&r->digest, &digest))
        return refuse(e, EINVAL, "resolve: digest %.12s… is not %.12s… of release v%u of %s",
                      digest.hex, r->digest.hex, r->version, o->app->name);
    r->digest = digest;
    r->has_digest = true;
    return 0;
}

int op_resolve(struct op *o, struct err *e)
{
    struct release *release = &o->app->release;
    uint64_t version = 0;
    int r = field_uint(o->name, o->entry, "version", 1, MODEL_VERSION_MAX, &version, e);

    if (r < 0)
        return r;
    if (version != release->version)
        return refuse(e, ESTALE, "resolve: release v%ju of %s is not the current one, v%u",
                      (uintmax_t)version, o->app->name, release->version);
    if (release->resolved && (release->has_digest || release->dir))
        return refuse(e, EALREADY, "resolve: release v%u of %s is resolved", release->version,
                      o->app->name);
    r = set_digest(o, e);
    if (r < 0)
        return r;
    scoped(former_done) struct former former = take_types(o->app);
    r = field_types(o->name, json_object_get(o->entry, "types"), &o->app->types, &o->app->n_types,
                    e);
    if (r < 0)
        return r;
    release->resolved = true;
    r = carry_over_and_tell(o, &former, true, e);
    app_prune(o->app);
    if (r == 0 && app_prune_sizes(o->app, false) < 0)
        r = op_no_memory(o, e);
    return r;
}

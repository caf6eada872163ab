/* model_release.c - releases and formations. Works on a copy of the app: an error may leave it half
 * done. */
#include "core/model_parts.h"

#include "base/scoped.h"
#include "base/str.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PORT_MAX 65535u

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

/* --- Formations --- */

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

/* The type NAME; one of a release that is not resolved yet is made. */
static int need_type(struct op *o, const char *name, struct want_type **ret, struct err *e)
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

int op_set_counts(struct op *o, const json_t *counts, struct err *e)
{
    struct want_type *t = NULL;
    const char *name;
    json_t *value;
    int r = field_counts(o->name, "formation", counts, 0, MODEL_COUNT_MAX, e);

    if (r < 0)
        return r;
    json_object_foreach ((json_t *)counts, name, value) {
        r = need_type(o, name, &t, e);
        if (r < 0)
            return r;
        assert(t);
        t->count = (unsigned)json_integer_value(value);
    }
    return 0;
}

static int set_ports(struct op *o, const json_t *ports, struct err *e)
{
    struct want_type *t = NULL;
    const char *name;
    json_t *value;
    int r = field_counts(o->name, "ports", ports, 1, PORT_MAX, e);

    if (r < 0)
        return r;
    json_object_foreach ((json_t *)ports, name, value) {
        r = need_type(o, name, &t, e);
        if (r < 0)
            return r;
        assert(t);
        t->port = (unsigned)json_integer_value(value);
    }
    return 0;
}

/* The last instance of each type must have a port too. */
int op_check_ports(const struct op *o, struct err *e)
{
    for (size_t i = 0; i < o->app->n_types; i++) {
        const struct want_type *t = &o->app->types[i];

        if (t->port && t->count && t->port + t->count - 1 > PORT_MAX)
            return refuse(e, EINVAL, "%s: the port of %s.%u would be %u, over %u", o->name, t->name,
                          t->count, t->port + t->count - 1, PORT_MAX);
    }
    return 0;
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
        t->count = f->types[i].count;
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
    unsigned last = o->app->release.version;
    uint64_t version = (uint64_t)last + 1;
    int x = field_uint(o->name, o->entry, "version", 1, UINT_MAX, &version, e);

    if (x < 0)
        return x;
    if (version <= last || version > UINT_MAX)
        return refuse(e, EINVAL, "release: version %ju does not follow v%u of %s",
                      (uintmax_t)version, last, o->app->name);
    r->version = (unsigned)version;
    return complete(o, "version", json_integer((json_int_t)version), e);
}

static bool is_plain(const char *url)
{
    for (const unsigned char *p = (const unsigned char *)url; *p; p++)
        if (*p <= ' ' || *p == 0x7f)
            return false;
    return true;
}

/* url or dir, exactly one. */
static int set_source(const struct op *o, struct release *r, struct err *e)
{
    const char *url = json_string_value(json_object_get(o->entry, "url"));
    const char *dir = json_string_value(json_object_get(o->entry, "dir"));

    if (!url == !dir)
        return refuse(e, EINVAL, "release: exactly one of 'url' and 'dir' is needed");
    if (url && (!*url || strlen(url) > MODEL_URL_MAX || !is_plain(url)))
        return refuse(e, EINVAL, "release: 'url' is empty, over %d bytes, or has blanks in it",
                      MODEL_URL_MAX);
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
        return op_set_counts(o, formation, e);
    if (!first)
        return carry_over_and_tell(o, f, false, e);
    if (o->app->release.resolved && !app_type(o->app, "web"))
        return 0;
    int r = need_type(o, "web", &web, e);
    if (web)
        web->count = 1;
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
    if (types)
        r = field_types(o->name, types, &o->app->types, &o->app->n_types, e);
    o->app->release.resolved = types && r == 0;
    if (r == 0)
        r = release_formation(o, &former, first, e);
    if (r == 0 && ports)
        r = set_ports(o, ports, e);
    if (r == 0)
        r = op_check_ports(o, e);
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
    int r = field_uint(o->name, o->entry, "version", 1, UINT_MAX, &version, e);

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
    return r;
}

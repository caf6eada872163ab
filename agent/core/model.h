/* model.h - what is wanted: apps, their current release, their formation. Pure: every change is one
 * JSON entry (as journaled), applied by one function, whichever way the command came.
 *
 * Entries ("op" and fields; anything else is an error):
 *   release    app, url, digest|null, env {NAME: VALUE}, size, types|null [{name, command}],
 * formation {type: n}, created (real usec), dir (local mode: a directory instead of a url)
 *              ports {type: n}|absent (local mode: instance i of type listens on n + i - 1, every
 * type has a PORT), restart B (default true; false: a dyno that ended stays down)
 *              -> version = last + 1 ("version" in the entry when replayed)
 *   resolve    app, version, digest, types: the fetch has said what the release holds
 *   scale      app, formation {type: n}: only the named types change
 *   stop       app [, dyno "web.1"]: wanted no more, until scale, restart or release
 *   restart    app [, dyno]: run again from anew; also undoes `stop`
 *   run        app, num, argv [..] or command S, env {..}, size, attached B: a one-off
 *   ran        app, num: the one-off is over
 *   forget     app: its release and formation go
 * Each wanted dyno carries a generation: it grows whenever the dyno must be replaced (release,
 * restart), so "running, but of an old generation" is all that the reconciler needs to know. */
#ifndef CORE_MODEL_H
#define CORE_MODEL_H

#include "base/err.h"
#include "base/name.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define MODEL_APPS_MAX    10000
#define MODEL_TYPES_MAX   1000
#define MODEL_ONEOFFS_MAX 1000

struct want_type {
    char name[TYPE_NAME_MAX + 1];
    char *command; /* NULL until the release is resolved */
    unsigned count;
    bool from_release_file;
    unsigned port; /* local mode: of instance 1; 0: the agent chooses, for `web` only */
};

struct release {
    unsigned version; /* v1, v2, … */
    char *url;        /* NULL in local mode */
    char *dir;        /* local mode: unpacked app, used in place */
    struct digest digest;
    bool has_digest; /* given, or known since the fetch */
    bool resolved;   /* types and commands are known */
    json_t *env;     /* object of strings */
    char size[32];
    bool restart; /* crashed dynos run again */
    uint64_t created;
};

struct oneoff {
    unsigned num;
    json_t *argv;  /* array of strings, or NULL: */
    char *command; /* shell text */
    json_t *env;   /* beside the release's */
    char size[32];
    bool attached; /* a client holds its terminal: it does not outlive an agent that never started
                      it */
    uint64_t generation;
};

struct app {
    char name[APP_NAME_MAX + 1];
    struct release release; /* version 0: none yet */
    struct want_type *types;
    size_t n_types;
    bool stopped;
    struct dyno_name *stopped_dynos; /* single ones */
    size_t n_stopped;
    uint64_t generation; /* of the whole app: grows with each release and restart */
    struct dyno_generation {
        struct dyno_name name;
        uint64_t generation;
    } * dyno_gens; /* restarted singly */
    size_t n_dyno_gens;
    struct oneoff *oneoffs;
    size_t n_oneoffs;
};

struct model;

int model_new(struct model **ret, struct err *e);
void model_freep(struct model **m);

/* Applies ENTRY (borrowed), or leaves M unchanged and says why (unknown app, unknown type, bad
 * field: the operator's fault; a limit). *ret_entry, when not NULL: the entry completed with what
 * it was given (version, num), as to be journaled; the caller's reference. */
int model_apply(struct model *m, const json_t *entry, json_t **ret_entry, struct err *e);

/* The whole model as a list of entries that make it anew: compaction. */
json_t *model_entries(const struct model *m);

const struct app *model_app(const struct model *m, const char *name); /* NULL */
/* In name order. */
size_t model_n_apps(const struct model *m);
const struct app *model_app_at(const struct model *m, size_t i);

/* One dyno that should run. Strings are the model's. */
struct want {
    struct dyno_name name;
    uint64_t generation;
    const struct app *app;
    const struct want_type *type; /* NULL: a one-off */
    const struct oneoff *oneoff;  /* NULL: of the formation */
};

/* Every wanted dyno, in a stable order; freed with free(). Types named `release` never. */
int model_wants(const struct model *m, struct want **ret, size_t *ret_n, struct err *e);

#endif

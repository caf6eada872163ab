/* model.h - what is wanted: apps, their current release, their formation. Pure: every change is one
 * JSON entry (as journaled), applied by one function, whichever way the command came.
 *
 * An entry is an object with "op" and the fields below; those in [] may be absent. Anything else in
 * it is an error that names the field.
 *
 * A formation is {type: n}, the dynos 1 to n, or {type: [numbers]}, these dynos: distinct, in any
 * order.
 *
 * - release: app, url (as a text of mirrors.h) or dir (local mode: an unpacked app, used in
 *   place), [digest|null], [env {NAME: VALUE}], [size] ("": the default size), [types|null [{name,
 * command, [from_release_file], [direct]}]] (direct: the command is cut at blanks and executed
 * without a shell), [formation|null], [created] (real usec), [restart] (false: a dyno that ended
 * stays down), [ports {type: n}] (local mode: instance i of type listens on n + i - 1), [version]
 * (a controller's own numbering: any), [stop_after {type: seconds}] (without a word from a
 *   controller for so long, dynos of that type are not wanted), [meta {[app_id], [app_name],
 *   [created_at], [slug_commit], [slug_description]}] (what the dynos are told about themselves),
 *   [controlled] (compaction). A formation given is the whole one: types not named get none.
 *   Without one, the former release's is kept; a first release gets web=1. Nothing else is kept.
 *   Completed with: version (the last one plus 1), generation, unknown_types as below.
 * - resolve: app, version, [digest|null], types: the fetch has said what the release holds.
 *   -ESTALE: a newer release has come; -EALREADY: it was resolved. Types of the formation that the
 *   release lacks are dropped; *ret_entry lists them as "unknown_types".
 * - scale: app, formation: only the named types change. Ends `stop`: the app's, and that
 *   of the named types' single dynos.
 * - stop: app, [dyno "web.1"]: wanted no more, until scale, restart or release. One-offs too, and
 *   for those it is final.
 * - restart: app, [dyno], completed with generation: run again from anew; also undoes `stop` (of
 *   that dyno only). -ENOENT: not in the formation.
 * - resize: app, size, [type "web" or dyno "web.1"]: what its dynos are limited to, for good: a
 * dyno's own size goes before its type's, that before the app's, that before the release's. Ends
 * those of what it covers. A release that names a size ends all of them; one without keeps them. Of
 * a one-off it is the size that it has. -ENOENT: no such type or dyno in the formation.
 * - run: app, num, argv [..] or command, [env {..}], [size], [attached], completed with generation:
 *   a one-off. -EEXIST: the number is taken.
 * - ran: app, num: the one-off is over. -ENOENT.
 * - forget: app: its release, formation and one-offs go.
 * - generation: generation N: the counter is at least N from here on (compaction; or an agent that
 *   adopts a dyno of a generation that the journal has lost).
 * - drain: reason, [deadline] (real usec; 0: none), [since] (real usec; when it is draining
 * already, absent keeps the first one's): the instance is to be emptied. What is wanted stays: it
 * is the reconciler that starts nothing. undrain: no more; nothing when it is not draining.
 * - control: [by], [outcome "done"|"refused"], [settled [{id, outcome}]] (compaction: the oldest
 *   first): nothing but what "by" does.
 *
 * Each of them may carry "by" {store, [generation, id]}, the controller's command that it comes
 * from: the app that it names is `controlled` from then on, and, with generation and id, the
 * command is settled: model_control() is that store and generation, the id one of the last
 * MODEL_COMMANDS_KEPT with its outcome ("done", but for what a control entry says; an id that is
 * among them stays as it is). A command of several entries carries generation and id in its last
 * one only, so that one cut off in the middle is asked for again. A generation of the same store
 * that is not above the last one: -ESTALE, nothing is done; another store's may be any (the caller
 * knows whether it may).
 *
 * Unknown app: -ENOENT; unknown op: -EOPNOTSUPP; bad field: -EINVAL; a limit: -EBUSY. All are the
 * operator's fault.
 *
 * Each wanted dyno carries a generation, from one counter for the whole model: it grows whenever
 * the dyno must be replaced (release, restart), so "running, but of another generation" is all that
 * the reconciler needs to know, also when an app was forgotten and made again under the same name.
 */
#ifndef CORE_MODEL_H
#define CORE_MODEL_H

#include "base/err.h"
#include "base/linkproto.h"
#include "base/name.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define MODEL_APPS_MAX        10000
#define MODEL_TYPES_MAX       1000       /* of one release */
#define MODEL_TYPES_BYTES_MAX (1u << 20) /* all commands of one release */
#define MODEL_COUNT_MAX       10000      /* dynos of one type */
#define MODEL_DYNOS_MAX       100000     /* of all formations */
#define MODEL_ONEOFFS_MAX     1000       /* of one app */
#define MODEL_ENV_BYTES_MAX   (1u << 20) /* all NAME=VALUE of one release or one-off */
#define MODEL_STRING_MAX      131071u /* one NAME=VALUE, one argument: execve(2)'s MAX_ARG_STRLEN */
#define MODEL_ARGV_MAX        1000    /* arguments of a one-off, together MODEL_STRING_MAX bytes */
#define MODEL_DIR_MAX         4095
#define MODEL_VERSION_MAX     2147483647u /* of a release */
#define MODEL_STOP_AFTER_MAX  86400       /* seconds */
#define MODEL_META_MAX        4096        /* bytes of one member of meta */
#define MODEL_COMMANDS_KEPT   256         /* settled commands whose ids are known */
#define ONEOFF_TYPE           "run"       /* the type in a one-off's name */

struct want_type {
    char name[TYPE_NAME_MAX + 1];
    const char *command; /* NULL until the release is resolved; lies in TEXT */
    json_t *text;
    unsigned count; /* dynos of it that are wanted: */
    json_t *nums;   /* their numbers, rising; NULL: 1 to count. See type_num() */
    bool from_release_file;
    bool direct;   /* no shell: the words of the command are its arguments */
    unsigned port; /* local mode: of instance 1; 0: the agent chooses, for `web` only */
};

struct release {
    unsigned version; /* v1, v2, … */
    char *url;        /* of mirrors.h; NULL in local mode */
    char *dir;        /* local mode: unpacked app, used in place */
    struct digest digest;
    bool has_digest;    /* given, or known since the fetch */
    bool resolved;      /* types and commands are known */
    json_t *env;        /* object of strings, never NULL */
    char size[32];      /* "": the default size */
    json_t *stop_after; /* {type: seconds}, never NULL */
    json_t *meta;       /* object of strings, never NULL */
    bool restart;       /* crashed dynos run again */
    uint64_t created;
};

struct oneoff {
    unsigned num;
    json_t *argv;        /* array of strings, or NULL: */
    const char *command; /* shell text; lies in TEXT */
    json_t *text;
    json_t *env; /* object of strings, never NULL: beside the release's */
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
    json_t *sizes;                   /* of resize: {"*": S, "web": S, "web.1": S}, never NULL */
    bool controlled;                 /* a controller has commanded it */
    bool stopped;                    /* the formation, not the one-offs */
    struct dyno_name *stopped_dynos; /* single ones, and one-offs; in name order */
    size_t n_stopped;
    uint64_t generation; /* of the whole app: grows with each release and restart */
    struct dyno_generation {
        struct dyno_name name;
        uint64_t generation;
    } * dyno_gens; /* restarted singly; in name order */
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

/* The same in two steps, for who must write ENTRY down in between. A prepared change holds all the
 * memory that it needs: model_commit() cannot fail. Nothing else may be applied to M in between.
 * Either function takes *CHANGE; NULL in it is fine for model_drop(). */
struct model_change;
int model_prepare(struct model *m, const json_t *entry, struct model_change **ret,
                  json_t **ret_entry, struct err *e);
void model_commit(struct model_change **change);
void model_drop(struct model_change **change);

/* Back to what model_new() gave. */
void model_clear(struct model *m);

/* The whole model as a list of entries that make it anew: compaction. NULL: no memory. */
json_t *model_entries(const struct model *m);

/* An app's address stays the same until the app is forgotten; what its fields point to is good only
 * until the next change of that app. */
const struct app *model_app(const struct model *m, const char *name); /* NULL */
/* In name order. */
size_t model_n_apps(const struct model *m);
const struct app *model_app_at(const struct model *m, size_t i);

/* The number of T's dyno I, from 0 to count - 1; they rise. */
unsigned type_num(const struct want_type *t, unsigned i);
/* The same as in an entry's formation: 3, or [1,4]. NULL: no memory. */
json_t *type_formation_json(const struct want_type *t);
/* Whether the formation has it, stopped or not. */
bool app_in_formation(const struct app *app, const char *type, unsigned num);
/* Whether it is wanted: in the formation and not stopped, or a one-off that is not. */
bool app_wants(const struct app *app, const char *type, unsigned num);
/* The size of the dyno NAME, or the default one DEF. */
const char *app_size(const struct app *app, const struct dyno_name *name, const char *def);
/* The formation as an entry has it; types without dynos are left out. *ret: the caller's. */
int app_formation_json(const struct app *app, json_t **ret, struct err *e);

/* The last generation that was given out; 0: none. */
uint64_t model_generation(const struct model *m);

/* The store that is obeyed, and the last of its generations that is settled. */
struct control {
    char store[LINK_STORE_MAX + 1]; /* "": none yet */
    uint64_t generation;
};
const struct control *model_control(const struct model *m);
/* "done" or "refused"; NULL: not among the last MODEL_COMMANDS_KEPT. */
const char *model_command_outcome(const struct model *m, const char *id);

/* Whether the instance is being emptied. */
struct drain {
    bool on;
    uint64_t deadline_real; /* 0: none */
    uint64_t since_real;    /* 0: not known */
    char reason[16];        /* [A-Za-z0-9_-]{1,15} */
};
const struct drain *model_drain_state(const struct model *m);

/* One dyno that should run. Strings are the model's. */
struct want {
    struct dyno_name name;
    uint64_t generation;
    const struct app *app;
    const struct want_type *type; /* NULL: a one-off */
    const struct oneoff *oneoff;  /* NULL: of the formation */
    unsigned stop_after;          /* seconds without contact; 0: however long */
};

/* Every wanted dyno: apps in name order, types in their places, numbers up, then one-offs as they
 * came. Types named `release` never; those of a release that is not resolved yet (command NULL)
 * too. *ret: freed with free(), good until the next change. */
int model_wants(const struct model *m, struct want **ret, size_t *ret_n, struct err *e);

#endif

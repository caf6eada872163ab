/* model_parts.h - what model_*.c share: the value of one app, and the checks of an entry's fields.
 * Beside those, control_*.c uses the checks. */
#ifndef CORE_MODEL_PARTS_H
#define CORE_MODEL_PARTS_H

#include "core/state/model.h"

#define MODEL_GENERATION_MAX ((uint64_t)INT64_MAX) /* what a JSON number holds */

/* --- One app's value (model_app.c)
 * Strings and JSON are shared by reference between a value and its copy, so that a copy is cheap;
 * they are never changed in place. */

/* NULL: no memory. */
struct app *app_new(const char *name);
struct app *app_copy(const struct app *from);
void app_freep(struct app **app);
void release_done(struct release *r);
void types_free(struct want_type *types, size_t n);

struct want_type *app_type(const struct app *app, const char *name);  /* NULL */
const struct oneoff *app_oneoff(const struct app *app, unsigned num); /* NULL */
uint64_t app_n_dynos(const struct app *app);                          /* of its formation */

/* Adds a type that is not resolved yet. NULL: no memory. */
struct want_type *app_add_type(struct app *app, const char *name);
/* Takes TEXT, a command. */
void type_set_command(struct want_type *t, json_t *text);
/* Takes NUMS (rising; NULL: 1 to COUNT). */
void type_set_numbers(struct want_type *t, unsigned count, json_t *nums);

bool app_is_marked_stopped(const struct app *app, const char *type, unsigned num);
/* 0 or -ENOMEM. A mark that is there already is success. */
int app_mark_stopped(struct app *app, const char *type, unsigned num);
void app_unmark_stopped(struct app *app, const char *type, unsigned num);
/* Marks each dyno of the formation. */
int app_mark_formation(struct app *app);
/* Drops the marks of TYPE (NULL: of every type of the formation), never those of one-offs. */
void app_unmark_type(struct app *app, const char *type);

uint64_t app_generation_of(const struct app *app, const char *type, unsigned num);
int app_set_generation_of(struct app *app, const char *type, unsigned num, uint64_t generation);
/* Drops marks and generations of dynos that the formation has no more. */
void app_prune(struct app *app);

int app_add_oneoff(struct app *app, struct oneoff *taken);
void app_remove_oneoff(struct app *app, unsigned num);
void oneoff_done(struct oneoff *o);

/* --- Fields of an entry (model_fields.c). All errors are the operator's and name OP and the
 * field. */

/* Kinds of JSON that a field may be. */
enum {
    FIELD_STRING = 1 << 0,
    FIELD_INT = 1 << 1,
    FIELD_BOOL = 1 << 2,
    FIELD_OBJECT = 1 << 3,
    FIELD_ARRAY = 1 << 4,
    FIELD_NULL = 1 << 5,
    FIELD_REQUIRED = 1 << 6,
};

struct field {
    const char *name; /* NULL: the end */
    unsigned kinds;
};

/* An error with the operator's fault; returns -ERRNUM. */
int refuse(struct err *e, int errnum, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* TEXT from outside, made safe and short for a message. Returns OUT. */
#define QUOTE_MAX 80
char *quote(char out[QUOTE_MAX], const char *text);

/* Every field of OBJ is in FIELDS, of a kind that it may be; the required ones are there. WHAT
 * names OBJ in errors. */
int fields_check(const char *what, const json_t *obj, const struct field *fields, struct err *e);

/* Member KEY, or NULL where it is absent or null. */
const json_t *field_get(const json_t *obj, const char *key);
/* Member KEY within [min, max]; absent: *RET is left as it is. */
int field_uint(const char *op, const json_t *obj, const char *key, uint64_t min, uint64_t max,
               uint64_t *ret, struct err *e);
/* A size's name, or "" for none. */
int field_size(const char *op, const json_t *obj, char out[32], struct err *e);
/* 1: given, 0: absent. */
int field_digest(const char *op, const json_t *obj, struct digest *ret, struct err *e);
/* A new reference to a deep copy; absent: an empty object. */
int field_env(const char *op, const json_t *obj, json_t **ret, struct err *e);
/* The argument list, checked: a new reference to a deep copy. */
int field_argv(const char *op, const json_t *argv, json_t **ret, struct err *e);
/* A command of 1 to COMMAND_MAX_BYTES bytes. */
int field_command(const char *op, const json_t *command, struct err *e);
/* The types of a release, for types_free(). At least one, no two of one name. */
int field_types(const char *op, const json_t *list, struct want_type **ret, size_t *ret_n,
                struct err *e);
/* The seconds of each type, and what the dynos are told: new references to deep copies; absent: an
 * empty object. */
int field_stop_after(const char *op, const json_t *obj, json_t **ret, struct err *e);
int field_meta(const char *op, const json_t *obj, json_t **ret, struct err *e);
/* NAME may be that of a type in a formation. */
int field_type_name(const char *op, const char *name, struct err *e);
/* Member NAME of COUNTS, {type: n}: a name that may be scaled, n is within [min, max]. KEY is what
 * COUNTS is called in errors. */
int field_count(const char *op, const char *key, const json_t *counts, const char *name,
                uint64_t min, uint64_t max, struct err *e);
/* The same for every member. */
int field_counts(const char *op, const char *key, const json_t *counts, uint64_t min, uint64_t max,
                 struct err *e);

/* --- What the model has beside the apps (model_control.c) */

struct standing {
    struct control control;
    struct drain drain;
    size_t n_settled;
    struct settled {
        char id[LINK_ID_MAX + 1];
        bool refused;
    } settled[MODEL_COMMANDS_KEPT]; /* the oldest first */
};

/* --- Operations (model_ops.c) */

/* One entry on its way. The operations change only what is in here. */
struct op {
    const char *name;
    const json_t *entry;
    struct app *app;           /* a copy to change, or a new one; NULL: the entry names none */
    struct standing *standing; /* a copy to change; NULL: it stays as it is */
    bool forget;               /* the app is to go */
    uint64_t generation;       /* the model's counter */
    json_t *out;               /* the entry as completed */
};

enum op_app { OP_APP_KNOWN, OP_APP_ANY, OP_APP_NONE };

struct op_rule {
    const char *name;
    enum op_app app;
    const struct field *fields;
    int (*run)(struct op *o, struct err *e);
    bool standing; /* it changes what is beside the apps, also without a "by" */
};

int op_no_memory(const struct op *o, struct err *e);
/* The generation that the entry has (a replay), or the next one; completes the entry. */
int op_next_generation(struct op *o, uint64_t *ret, struct err *e);
/* The type NAME; one of a release that is not resolved yet is made. */
int op_need_type(struct op *o, const char *name, struct want_type **ret, struct err *e);
/* Sets the dynos of the types that FORMATION names. */
int op_set_formation(struct op *o, const json_t *formation, struct err *e);
/* {type: n}, local mode. */
int op_set_ports(struct op *o, const json_t *ports, struct err *e);
/* The last instance of each type must have a port too. */
int op_check_ports(const struct op *o, struct err *e);
/* A new generation for the whole formation: nothing of its former life counts any more. */
int op_start_anew(struct op *o, struct err *e);
int op_release(struct op *o, struct err *e);
int op_resolve(struct op *o, struct err *e);
/* model_size.c */
int op_resize(struct op *o, struct err *e);
/* Drops the sizes of dynos that the formation has no more (ALL: every size that resize gave). */
int app_prune_sizes(struct app *app, bool all);
/* The dyno that the entry names, "web.1". 1: given, 0: absent. */
int op_dyno(const struct op *o, struct dyno_name *ret, struct err *e);
int op_no_such_dyno(const struct op *o, const struct dyno_name *d, struct err *e);
/* model_control.c */
int op_drain(struct op *o, struct err *e);
int op_undrain(struct op *o, struct err *e);
int op_control(struct op *o, struct err *e);
/* What the entry's "by" does; nothing without one. */
int op_by(struct op *o, struct err *e);

/* What M has beside the apps, never NULL. */
const struct standing *model_standing(const struct model *m);

/* NULL: unknown. */
const struct op_rule *op_rule(const char *name);

#endif

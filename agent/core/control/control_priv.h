/* control_priv.h - what the commands share: checks of what a command names, and the
 * entries that they add. control_*.c only. */
#ifndef CORE_CONTROL_PRIV_H
#define CORE_CONTROL_PRIV_H

#include "core/control/control.h"
#include "core/control/control_set.h"
#include "core/state/model_parts.h"

#define FIELDS_ENVELOPE                                                                            \
    {"id", FIELD_STRING | FIELD_REQUIRED}, {"generation", FIELD_INT | FIELD_REQUIRED},             \
    {                                                                                              \
        "op", FIELD_STRING | FIELD_REQUIRED                                                        \
    }
#define FIELD_APP                                                                                  \
    {                                                                                              \
        "app", FIELD_STRING | FIELD_REQUIRED                                                       \
    }
#define FIELD_END                                                                                  \
    {                                                                                              \
        NULL, 0                                                                                    \
    }

/* What each op is told. */
struct task {
    const struct model *model;
    const struct change_limits *limits;
    const json_t *command;
    struct change *change;
};

int change_no_memory(struct err *e);
int change_bad(struct change *p, struct err *e, const char *what);
/* ENTRY is taken. */
int change_add(struct change *p, json_t *entry, struct err *e);
/* "app", or "app" and "dyno": TYPE NULL: all of it. */
int change_add_op(const struct task *t, const char *op, const struct app *app, const char *type,
                  unsigned num, struct err *e);
int change_add_release(const struct task *t, const char *app, const json_t *spec,
                       const struct dynoset *target, struct err *e);
/* Nothing where TARGET is wanted already. */
int change_add_scale(const struct task *t, const struct app *app, const struct dynoset *wanted,
                     const struct dynoset *target, struct err *e);

/* An app that somebody started here is the controller's from now on: the same formation again. */
int change_add_claim(const struct task *t, const struct app *app, const struct dynoset *wanted,
                     struct err *e);

/* Where the rest of change_room() comes from a comparison. */
int change_growth(const struct task *t, const struct dynoset *wanted, const struct dynoset *target,
                  struct err *e);
int change_wanted_now(const struct model *m, size_t *ret, struct err *e);
int change_draining(const struct task *t, struct err *e);

/* The command's "app". MUST: it has to be known; else *ret may be NULL. */
int change_app(const struct task *t, bool must, const char **ret_name, const struct app **ret,
               struct err *e);
/* The command's list "dynos", no two of one name. ONEOFFS: "run.N" too. */
int change_dynos(const struct task *t, const char *app, bool oneoffs, struct dynoset *ret,
                 struct err *e);
/* {type: n or [numbers]} */
int change_formation(const struct task *t, const json_t *formation, struct dynoset *ret,
                     struct err *e);
int change_release(const struct task *t, const json_t *rel, struct err *e);
/* Nothing of SPEC is new to APP, so its dynos run on. */
bool change_same_release(const struct app *app, const json_t *spec);

int change_sync(const struct task *t, struct err *e);

#endif

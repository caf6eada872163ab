/* control_set.h - sets of one app's dynos, by type and number: what runs, what a command wants to
 * run, and the difference as the smallest entry of the journal. Pure. */
#ifndef CORE_CONTROL_SET_H
#define CORE_CONTROL_SET_H

#include "core/state/model.h"

struct typeset {
    char type[TYPE_NAME_MAX + 1];
    unsigned *nums; /* rising */
    size_t n, cap;
};

/* {0} is the empty one. */
struct dynoset {
    struct typeset *types;
    size_t n_types;
};

void dynoset_done(struct dynoset *s);

/* All that may fail fails with -ENOMEM, and the set is then good for dynoset_done() only. */
int dynoset_add(struct dynoset *s, const char *type, unsigned num, struct err *e);
void dynoset_remove(struct dynoset *s, const char *type, unsigned num);
bool dynoset_has(const struct dynoset *s, const char *type, unsigned num);
size_t dynoset_count(const struct dynoset *s);
/* Every dyno of SMALL is in BIG. */
bool dynoset_within(const struct dynoset *small, const struct dynoset *big);

/* Those of APP's formation that are wanted, stopped ones not. NULL APP: none. */
int dynoset_wanted(const struct app *app, struct dynoset *ret, struct err *e);
/* All of APP's formation, stopped or not. */
int dynoset_formation(const struct app *app, struct dynoset *ret, struct err *e);
int dynoset_copy(const struct dynoset *from, struct dynoset *ret, struct err *e);
/* ret: in A and in B. */
int dynoset_common(const struct dynoset *a, const struct dynoset *b, struct dynoset *ret,
                   struct err *e);
/* Takes all of TYPE out. */
void dynoset_drop_type(struct dynoset *s, const char *type);

/* {"web": [1,4]}; types without dynos are left out. NULL: no memory. */
json_t *dynoset_json(const struct dynoset *s);
/* The formation of a `scale` that makes TARGET wanted of APP, where now WANTED is: only the types
 * in which they differ. NULL: none do. */
int dynoset_difference(const struct app *app, const struct dynoset *wanted,
                       const struct dynoset *target, json_t **ret, struct err *e);

#endif

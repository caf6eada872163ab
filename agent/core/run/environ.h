/* environ.h - the environment of a dyno (docs/contract.md, "Environment"). Pure. */
#ifndef CORE_ENVIRON_H
#define CORE_ENVIRON_H

#include "base/err.h"
#include "core/state/model.h"

/* What the platform sets. Strings are borrowed. */
struct environ_facts {
    const struct app *app;
    const char *dyno; /* "web.1" */
    const char *run;  /* the run's id; NULL: none */
    unsigned port;    /* 0: none */
    const char *term; /* of an attached terminal; NULL: none */
    unsigned rows, cols;
};

/* The platform's defaults, the release's meta (with HEROKU_DYNO_ID, where there is any), then the
 * release's config vars, then EXTRA (may be NULL: an object of strings, of a one-off); later ones
 * win, but for PORT and DYNO. *ret: a NULL-terminated array, freed with environ_free(). */
int environ_make(const struct environ_facts *facts, const json_t *extra, char ***ret,
                 struct err *e);
void environ_free(char **env);

#endif

/* localplan.h - what `dyno local` and `dyno run` are going to start: the directory or slug, its
 * process types, config vars, formation and ports. Everything is read and checked here, before
 * anything starts. Reads files; warnings ("FILE:LINE: why") go to stderr. */
#ifndef CLI_LOCALPLAN_H
#define CLI_LOCALPLAN_H

#include "base/err.h"
#include "base/name.h"
#include "slug/procfile.h"

#include <jansson.h>
#include <stdbool.h>

/* What the operator gave; NULL: not given. */
struct local_options {
    const char *dir;
    const char *procfile;
    const char *env; /* "FILE,FILE": later ones win */
    const char *formation;
    const char *port;
    const char *slug;
    bool one_off; /* no formation, no ports; process types are not required */
};

struct local_plan {
    char app[APP_NAME_MAX + 1];
    char *dir; /* absolute, or NULL with a slug */
    char *slug_url;
    json_t *env;
    struct procfile types;
    unsigned counts[PROCFILE_MAX_TYPES]; /* by the types' places */
    unsigned ports[PROCFILE_MAX_TYPES];  /* of instance 1 */
};

/* Errors are the operator's or the app's, and name the file and line, or quote the part. */
int local_plan_new(const struct local_options *o, struct local_plan **ret, struct err *e);
void local_plan_freep(struct local_plan **p);

/* Whether every dyno's port can be listened on. -EADDRINUSE, -EACCES: names the type, the port and
 * a way out. Another program may still take it before the dyno does. */
int local_plan_check_ports(const struct local_plan *p, struct err *e);

/* What to POST as the release; the caller's. */
int local_plan_release(const struct local_plan *p, json_t **ret, struct err *e);

/* Config vars from FILES ("a,b"; later ones win) or, when that is NULL, from DEFAULT_FILE if it
 * exists (NULL: none). *ret is an object, the caller's. */
int env_load(const char *files, const char *default_file, json_t **ret, struct err *e);

#endif

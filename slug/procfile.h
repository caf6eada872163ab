/* procfile.h - the process types of a slug: its Procfile, filled in by its .release. Pure: text in,
 * types and warnings out. Rules: docs/contract.md, "Procfile". */
#ifndef SLUG_PROCFILE_H
#define SLUG_PROCFILE_H

#include "base/err.h"
#include "base/name.h"

#include <stdbool.h>
#include <stddef.h>

#define PROCFILE_MAX_BYTES (2u << 20) /* several copies of it are in memory at once */
#define PROCFILE_MAX_TYPES 1000
#define COMMAND_MAX_BYTES  131071u /* execve(2): MAX_ARG_STRLEN, less its NUL */

struct proc_type {
    char name[TYPE_NAME_MAX + 1];
    char *command;
    bool from_release_file; /* from `.release`, not the Procfile: only `web` starts by default */
};

/* Process types in their places. {0} is empty. */
struct procfile {
    struct proc_type *types;
    size_t n_types;
    char **warnings; /* "Procfile:3: no ':'", safe to print */
    size_t n_warnings;
};

void procfile_done(struct procfile *p);

/* Parses TEXT, the content of FILE (a name for messages). Adds to P, which is empty or was filled
 * by an earlier call. An error names file:line and leaves P as it was. A text without any type is
 * no error here: see procfile_check(). */
int procfile_parse(struct procfile *p, const char *file, const char *text, size_t len,
                   struct err *e);

/* Adds the default_process_types of the YAML TEXT, content of FILE, for names that P lacks, `web`
 * first, then in their order. What is not YAML, and reserved names, become warnings. */
int procfile_add_release(struct procfile *p, const char *file, const char *text, size_t len,
                         struct err *e);

/* -EINVAL, the app's fault: no process type at all. */
int procfile_check(const struct procfile *p, const char *file, struct err *e);

/* `run` and `all` name no process type: they mean one-offs and every type. */
bool type_name_reserved(const char *name, size_t len);

/* Puts a type at the end of P, or replaces the command of the one of that name. NAME is valid. 1:
 * replaced, 0: added, -E2BIG: over PROCFILE_MAX_TYPES, -ENOMEM. */
int procfile_put(struct procfile *p, const char *name, size_t name_len, const char *command,
                 size_t command_len, bool from_release_file);

/* A copy that shares nothing. -ENOMEM. */
int procfile_copy(const struct procfile *p, struct procfile *ret);

/* NULL when there is no such type. */
const struct proc_type *procfile_find(const struct procfile *p, const char *name);

#endif

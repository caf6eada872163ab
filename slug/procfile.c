#include "slug/procfile.h"

#include "base/scoped.h"
#include "base/str.h"
#include "slug/lines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#if defined(__GNUC__) && !defined(__clang__)
/* gcc's analyzer loses sight of what is stored in an array of pointers and calls it leaked; the
 * tests run under LeakSanitizer. */
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif

#define QUOTE_MAX 64 /* how much of a stranger's word a message shows */

void procfile_done(struct procfile *p)
{
    for (size_t i = 0; i < p->n_types; i++)
        free(p->types[i].command);
    free(p->types);
    warnings_free(&p->warnings, &p->n_warnings);
    *p = (struct procfile){0};
}

bool type_name_reserved(const char *name, size_t len)
{
    return len == 3 && (!memcmp(name, "run", 3) || !memcmp(name, "all", 3));
}

static struct proc_type *find(const struct procfile *p, const char *name, size_t len)
{
    for (size_t i = 0; i < p->n_types; i++)
        if (!strncmp(p->types[i].name, name, len) && p->types[i].name[len] == '\0')
            return &p->types[i];
    return NULL;
}

const struct proc_type *procfile_find(const struct procfile *p, const char *name)
{
    return strlen(name) <= TYPE_NAME_MAX ? find(p, name, strlen(name)) : NULL;
}

int procfile_put(struct procfile *p, const char *name, size_t name_len, const char *command,
                 size_t command_len, bool from_release_file)
{
    struct proc_type *type = find(p, name, name_len);
    scoped_free char *copy = strndup(command, command_len);

    if (!copy)
        return -ENOMEM;
    if (type) {
        free(type->command);
        type->command = TAKE_PTR(copy);
        return 1;
    }
    if (p->n_types == PROCFILE_MAX_TYPES)
        return -E2BIG;
    struct proc_type *bigger = realloc(p->types, (p->n_types + 1) * sizeof(*bigger));
    if (!bigger)
        return -ENOMEM;
    p->types = bigger;
    type = &bigger[p->n_types++];
    *type = (struct proc_type){.from_release_file = from_release_file};
    memcpy(type->name, name, name_len);
    type->command = TAKE_PTR(copy);
    return 0;
}

int procfile_copy(const struct procfile *p, struct procfile *ret)
{
    scoped(procfile_done) struct procfile copy = {0};

    for (size_t i = 0; i < p->n_types; i++) {
        const struct proc_type *t = &p->types[i];
        int r = procfile_put(&copy, t->name, strlen(t->name), t->command, strlen(t->command),
                             t->from_release_file);

        if (r < 0)
            return r;
    }
    for (size_t i = 0; i < p->n_warnings; i++)
        if (warnings_add(&copy.warnings, &copy.n_warnings, "%s", p->warnings[i]) < 0)
            return -ENOMEM;
    *ret = copy;
    copy = (struct procfile){0};
    return 0;
}

/* Where one line is, for messages. */
struct place {
    const char *file;
    unsigned line;
};

static int warn(struct procfile *p, const struct place *at, const char *why)
{
    return warnings_add(&p->warnings, &p->n_warnings, "%s:%u: %s", at->file, at->line, why);
}

static int warn_name(struct procfile *p, const struct place *at, const char *name, size_t len)
{
    char quoted[QUOTE_MAX];

    if (len == 0)
        return warn(p, at, "no name before ':'");
    if (len > TYPE_NAME_MAX)
        return warnings_add(&p->warnings, &p->n_warnings, "%s:%u: a name has at most %d characters",
                            at->file, at->line, TYPE_NAME_MAX);
    if (!type_name_valid(name, 1))
        return warnings_add(&p->warnings, &p->n_warnings, "%s:%u: a name cannot start with '%s'",
                            at->file, at->line, text_escape(quoted, sizeof(quoted), name, 1));
    return warnings_add(&p->warnings, &p->n_warnings,
                        "%s:%u: '%s' is not a name: letters, digits, '-' and '_'", at->file,
                        at->line, text_escape(quoted, sizeof(quoted), name, len));
}

static int too_many(const struct place *at, struct err *e)
{
    return err_say(e, E2BIG, "%s:%u: over the limit of %d process types", at->file, at->line,
                   PROCFILE_MAX_TYPES);
}

/* A line with a valid name and a command. */
static int take_type(struct procfile *p, const struct place *at, const char *name, size_t name_len,
                     const char *command, size_t command_len, struct err *e)
{
    if (type_name_reserved(name, name_len))
        return err_say(e, EINVAL, "%s:%u: the name '%.3s' is reserved", at->file, at->line, name);
    if (command_len > COMMAND_MAX_BYTES)
        return err_say(e, E2BIG, "%s:%u: the command of %zu bytes is over the limit of %u",
                       at->file, at->line, command_len, COMMAND_MAX_BYTES);
    int r = procfile_put(p, name, name_len, command, command_len, false);
    if (r == -E2BIG)
        return too_many(at, e);
    if (r == 1)
        r = warnings_add(&p->warnings, &p->n_warnings,
                         "%s:%u: '%.*s' was there before: this command replaces the earlier one",
                         at->file, at->line, (int)name_len, name);
    return r < 0 ? err_set(e, -r, "parse %s", at->file) : 0;
}

static int take_line(struct procfile *p, const struct place *at, const char *line, size_t len,
                     struct err *e)
{
    const char *colon, *name, *command;
    size_t name_len, command_len;
    int r;

    if (line_is_conflict(line, len))
        return err_say(e, EINVAL, "%s:%u: a conflict marker of git", at->file, at->line);
    trim_blanks(&line, &len);
    if (len == 0 || line[0] == '#')
        return 0;
    colon = memchr(line, ':', len);
    name = line;
    name_len = colon ? (size_t)(colon - line) : 0;
    trim_blanks(&name, &name_len);
    command = colon ? colon + 1 : line;
    command_len = (size_t)(line + len - command);
    trim_blanks(&command, &command_len);
    if (!colon && !type_name_valid(line, 1))
        r = warn_name(p, at, line, 1);
    else if (!colon)
        r = warn(p, at, "no ':'");
    else if (!type_name_valid(name, name_len))
        r = warn_name(p, at, name, name_len);
    else if (command_len == 0)
        r = warn(p, at, "no command");
    else
        return take_type(p, at, name, name_len, command, command_len, e);
    return r < 0 ? err_set(e, -r, "parse %s", at->file) : 0;
}

/* A text that is refused as a whole. */
static int check_text(const char *file, const char *text, size_t len, struct err *e)
{
    unsigned nul = lines_find_nul(text, len);

    if (len > PROCFILE_MAX_BYTES)
        return err_say(e, EFBIG, "%s: over the limit of %u bytes", file, PROCFILE_MAX_BYTES);
    if (nul)
        return err_say(e, EINVAL, "%s:%u: a NUL byte", file, nul);
    return 0;
}

int procfile_parse(struct procfile *p, const char *file, const char *text, size_t len,
                   struct err *e)
{
    scoped(procfile_done) struct procfile next = {0};
    struct place at = {.file = file};
    struct lines lines;
    const char *line;
    size_t line_len;

    if (check_text(file, text, len, e) < 0)
        return err_blame(e, FAULT_APP);
    if (procfile_copy(p, &next) < 0)
        return err_set(e, ENOMEM, "parse %s", file);
    lines_init(&lines, text, len);
    while (lines_next(&lines, &line, &line_len)) {
        at.line = lines.line;
        int r = take_line(&next, &at, line, line_len, e);
        if (r < 0)
            return r == -ENOMEM ? r : err_blame(e, FAULT_APP);
    }
    procfile_done(p);
    *p = next;
    next = (struct procfile){0};
    return 0;
}

int procfile_check(const struct procfile *p, const char *file, struct err *e)
{
    if (p->n_types > 0)
        return 0;
    err_say(e, EINVAL, "%s: no process type", file);
    return err_blame(e, FAULT_APP);
}

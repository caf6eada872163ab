/* release.c - the `.release` of a slug, YAML as buildpacks write it. In a file of its own: what
 * parses no YAML must not link libyaml. Read event by event: aliases are never expanded, so a text
 * cannot grow. */
#include "slug/procfile.h"

#include "base/scoped.h"
#include "base/str.h"
#include "slug/lines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#define QUOTE_MAX 64

/* What one reading holds. Warnings go to P; types to FOUND, for their order is not P's. */
struct reading {
    yaml_parser_t yaml;
    yaml_event_t event;
    const char *file;
    struct procfile *p;
    struct procfile found;
};

static void event_next_free(struct reading *rd)
{
    yaml_event_delete(&rd->event);
    rd->event = (yaml_event_t){0};
}

/* The next event. 0, or -EBADMSG: not YAML. */
static int next(struct reading *rd)
{
    event_next_free(rd);
    return yaml_parser_parse(&rd->yaml, &rd->event) ? 0 : -EBADMSG;
}

/* Passes the node that the current event starts. */
static int skip_node(struct reading *rd)
{
    unsigned depth = 0;

    for (;;) {
        yaml_event_type_t t = rd->event.type;

        if (t == YAML_MAPPING_START_EVENT || t == YAML_SEQUENCE_START_EVENT)
            depth++;
        else if (t == YAML_MAPPING_END_EVENT || t == YAML_SEQUENCE_END_EVENT)
            depth--;
        if (depth == 0)
            return 0;
        int r = next(rd);
        if (r < 0)
            return r;
    }
}

static bool scalar_is(const yaml_event_t *ev, const char *text)
{
    return ev->type == YAML_SCALAR_EVENT && ev->data.scalar.length == strlen(text) &&
           !memcmp(ev->data.scalar.value, text, ev->data.scalar.length);
}

/* A plain scalar that YAML reads as nothing. */
static bool scalar_is_null(const yaml_event_t *ev)
{
    return ev->type == YAML_SCALAR_EVENT && ev->data.scalar.plain_implicit &&
           (scalar_is(ev, "") || scalar_is(ev, "~") || scalar_is(ev, "null"));
}

static int warn(struct reading *rd, size_t line, const char *word, size_t len, const char *why)
{
    char quoted[QUOTE_MAX];

    return warnings_add(&rd->p->warnings, &rd->p->n_warnings, "%s:%zu: '%s' %s", rd->file, line + 1,
                        text_escape(quoted, sizeof(quoted), word, len), why);
}

/* Why the pair cannot be a process type; NULL when it can. */
static const char *refusal(const char *name, size_t name_len, const yaml_event_t *value)
{
    if (!type_name_valid(name, name_len))
        return "is not a name of a process type";
    if (type_name_reserved(name, name_len))
        return "is a reserved name";
    if (value->type != YAML_SCALAR_EVENT)
        return "has no command: its value is not text";
    if (value->data.scalar.length > COMMAND_MAX_BYTES)
        return "has a command over the limit of 131071 bytes";
    if (memchr(value->data.scalar.value, '\0', value->data.scalar.length))
        return "has a NUL byte in its command";
    return NULL;
}

/* One pair; its value's event is current. The name's bytes are the caller's. */
static int take_pair(struct reading *rd, const char *name, size_t len, size_t line)
{
    const yaml_event_t *value = &rd->event;
    const char *why = refusal(name, len, value);
    const char *command = why ? NULL : (const char *)value->data.scalar.value;
    size_t command_len = why ? 0 : value->data.scalar.length;

    /* A block scalar ends with its line's end. */
    while (command_len > 0 && strchr(" \t\r\n", command[command_len - 1]))
        command_len--;
    while (command_len > 0 && strchr(" \t\r\n", command[0])) {
        command++;
        command_len--;
    }
    if (!why && (command_len == 0 || scalar_is_null(value)))
        why = "has no command";
    if (why)
        return warn(rd, line, name, len, why) < 0 ? -ENOMEM : skip_node(rd);
    int r = procfile_put(&rd->found, name, len, command, command_len, true);
    if (r == 1)
        r = warn(rd, line, name, len, "was there before: this command replaces the earlier one");
    return r;
}

/* The pairs of a mapping whose start is current. */
static int take_types(struct reading *rd)
{
    for (;;) {
        int r = next(rd);

        if (r < 0 || rd->event.type == YAML_MAPPING_END_EVENT)
            return r;
        size_t line = rd->event.start_mark.line;
        scoped_free char *name = NULL;
        size_t len = 0;
        if (rd->event.type == YAML_SCALAR_EVENT) {
            len = rd->event.data.scalar.length;
            name = malloc(len + 1);
            if (!name)
                return -ENOMEM;
            memcpy(name, rd->event.data.scalar.value, len);
        }
        r = skip_node(rd);
        if (r == 0)
            r = next(rd);
        if (r == 0)
            r = take_pair(rd, name ? name : "?", name ? len : 1, line);
        if (r < 0)
            return r;
    }
}

/* The pairs of the root mapping, whose start is current. */
static int take_root(struct reading *rd)
{
    for (;;) {
        int r = next(rd);

        if (r < 0 || rd->event.type == YAML_MAPPING_END_EVENT)
            return r;
        bool ours = scalar_is(&rd->event, "default_process_types");
        size_t line = rd->event.start_mark.line;
        r = skip_node(rd);
        if (r == 0)
            r = next(rd);
        if (r < 0)
            return r;
        if (ours && rd->event.type == YAML_MAPPING_START_EVENT)
            r = take_types(rd);
        else
            r = skip_node(rd);
        if (r == 0 && ours && rd->event.type == YAML_SCALAR_EVENT && !scalar_is_null(&rd->event))
            r = warn(rd, line, "default_process_types", 21, "is not a mapping: skipped");
        else if (r == 0 && ours && rd->event.type == YAML_SEQUENCE_END_EVENT)
            r = warn(rd, line, "default_process_types", 21, "is not a mapping: skipped");
        if (r < 0)
            return r;
    }
}

/* The first document; others have no meaning here, but must be YAML too. */
static int read_stream(struct reading *rd)
{
    bool first = true;
    int r;

    while ((r = next(rd)) == 0 && rd->event.type != YAML_STREAM_END_EVENT) {
        if (rd->event.type != YAML_DOCUMENT_START_EVENT)
            continue;
        r = next(rd);
        if (r == 0 && first && rd->event.type == YAML_MAPPING_START_EVENT)
            r = take_root(rd);
        else if (r == 0 && first && !scalar_is_null(&rd->event))
            r = warnings_add(&rd->p->warnings, &rd->p->n_warnings, "%s: not a mapping: skipped",
                             rd->file) < 0
                    ? -ENOMEM
                    : skip_node(rd);
        else if (r == 0)
            r = skip_node(rd);
        if (r < 0)
            return r;
        first = false;
    }
    return r;
}

/* Puts what was FOUND into P, for the names that it lacks: `web` first, then in their order. */
static int merge(struct procfile *p, const struct procfile *found)
{
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < found->n_types; i++) {
            const struct proc_type *t = &found->types[i];
            bool is_web = !strcmp(t->name, "web");

            if (is_web != (pass == 0) || procfile_find(p, t->name))
                continue;
            int r = procfile_put(p, t->name, strlen(t->name), t->command, strlen(t->command), true);
            if (r < 0)
                return r;
        }
    return 0;
}

static int warn_not_yaml(struct reading *rd)
{
    const char *why = rd->yaml.problem ? rd->yaml.problem : "cannot be read";
    char quoted[2 * QUOTE_MAX];

    return warnings_add(&rd->p->warnings, &rd->p->n_warnings, "%s:%zu: not YAML: %s: skipped",
                        rd->file, rd->yaml.problem_mark.line + 1,
                        text_escape(quoted, sizeof(quoted), why, strlen(why)));
}

int procfile_add_release(struct procfile *p, const char *file, const char *text, size_t len,
                         struct err *e)
{
    scoped(procfile_done) struct procfile copy = {0};
    struct reading rd = {.file = file, .p = &copy};
    int r;

    if (len > PROCFILE_MAX_BYTES) {
        err_say(e, EFBIG, "%s: over the limit of %u bytes", file, PROCFILE_MAX_BYTES);
        return err_blame(e, FAULT_APP);
    }
    if (procfile_copy(p, &copy) < 0 || !yaml_parser_initialize(&rd.yaml))
        return err_set(e, ENOMEM, "parse %s", file);
    yaml_parser_set_input_string(&rd.yaml, (const unsigned char *)text, len);
    r = read_stream(&rd);
    if (r == 0)
        r = merge(&copy, &rd.found);
    else if (r == -EBADMSG && rd.yaml.error != YAML_MEMORY_ERROR)
        r = warn_not_yaml(&rd);
    event_next_free(&rd);
    yaml_parser_delete(&rd.yaml);
    procfile_done(&rd.found);
    if (r == -E2BIG) {
        err_say(e, E2BIG, "%s: over the limit of %d process types", file, PROCFILE_MAX_TYPES);
        return err_blame(e, FAULT_APP);
    }
    if (r < 0)
        return err_set(e, -r, "parse %s", file);
    procfile_done(p);
    *p = copy;
    copy = (struct procfile){0};
    return 0;
}

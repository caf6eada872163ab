/* slugmeta.c - process types as JSON and back. */
#include "slug/cache.h"

#include "base/frame.h"
#include "base/scoped.h"
#include "base/str.h"
#include "slug/lines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static json_t *command_json(const char *command, const char **ret_key)
{
    json_t *text = json_string(command);
    struct str hex = {0};

    *ret_key = "command";
    if (text)
        return text;
    *ret_key = "command_hex";
    for (const char *p = command; *p; p++)
        str_addf(&hex, "%02x", (unsigned char)*p);
    text = hex.failed ? NULL : json_string(str_text(&hex));
    str_done(&hex);
    return text;
}

json_t *slug_meta_types_json(const struct procfile *p)
{
    scoped(json_freep) json_t *list = json_array();

    for (size_t i = 0; list && i < p->n_types; i++) {
        const struct proc_type *t = &p->types[i];
        const char *key;
        json_t *command = command_json(t->command, &key);
        json_t *type = command ? json_pack("{s:s,s:o,s:b}", "name", t->name, key, command,
                                           "release_file", t->from_release_file)
                               : NULL;

        if (!type || json_array_append_new(list, type) < 0)
            return NULL;
    }
    return TAKE_PTR(list);
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The bytes of HEX as a string; NULL when they are none, or hold a NUL. */
static char *hex_text(const char *hex, size_t len)
{
    scoped_free char *out = len % 2 == 0 ? malloc(len / 2 + 1) : NULL;

    if (!out)
        return NULL;
    for (size_t i = 0; i < len; i += 2) {
        int high = hex_digit(hex[i]), low = hex_digit(hex[i + 1]);

        if (high < 0 || low < 0 || (high == 0 && low == 0))
            return NULL;
        out[i / 2] = (char)(high * 16 + low);
    }
    out[len / 2] = '\0';
    return TAKE_PTR(out);
}

/* The command of one type, the caller's; NULL when there is no valid one. */
static char *type_command(const json_t *type)
{
    const json_t *text = json_object_get(type, "command");
    const json_t *hex = json_object_get(type, "command_hex");
    const char *s = json_string_value(text ? text : hex);
    size_t len = s ? json_string_length(text ? text : hex) : 0;

    if (!s || (text && hex) || len == 0 || strlen(s) != len)
        return NULL;
    char *command = text ? strdup(s) : hex_text(s, len);
    if (command && strlen(command) > COMMAND_MAX_BYTES) {
        free(command);
        return NULL;
    }
    return command;
}

static int refuse(struct err *e, size_t i, const char *why)
{
    return err_say(e, EBADMSG, "the slug's process type %zu: %s", i + 1, why);
}

static int take_type(struct procfile *p, const json_t *type, size_t i, struct err *e)
{
    const json_t *name = json_object_get(type, "name");
    const json_t *from = json_object_get(type, "release_file");
    const char *text = json_string_value(name);
    size_t len = text ? json_string_length(name) : 0;

    if (!text || strlen(text) != len || !type_name_valid(text, len))
        return refuse(e, i, "no valid name");
    if (type_name_reserved(text, len))
        return refuse(e, i, "a reserved name");
    if (from && !json_is_boolean(from))
        return refuse(e, i, "\"release_file\" is not a boolean");
    scoped_free char *command = type_command(type);
    if (!command)
        return refuse(e, i, "no valid command");
    int r = procfile_put(p, text, len, command, strlen(command), json_is_true(from));
    if (r == 1)
        return refuse(e, i, "its name was there before");
    if (r == -E2BIG)
        return refuse(e, i, "over the limit of process types");
    return r < 0 ? err_set(e, -r, "read the slug's process types") : 0;
}

int slug_meta_types(const json_t *meta, struct procfile *ret, struct err *e)
{
    scoped(procfile_done) struct procfile p = {0};
    const json_t *types = json_object_get(meta, "types");
    const json_t *warnings = json_object_get(meta, "warnings");
    const json_t *item;
    size_t i;

    if (!json_is_array(types) || json_array_size(types) == 0)
        return err_say(e, EBADMSG, "the slug has no process types");
    if (warnings && !json_is_array(warnings))
        return err_say(e, EBADMSG, "the slug's warnings are not a list");
    json_array_foreach (types, i, item) {
        int r = take_type(&p, item, i, e);
        if (r < 0)
            return r;
    }
    json_array_foreach (warnings, i, item) {
        char safe[WARNING_TEXT_MAX];
        const char *text = json_string_value(item);

        if (!text)
            return err_say(e, EBADMSG, "a warning of the slug is not text");
        text_escape(safe, sizeof(safe), text, json_string_length(item));
        if (warnings_add(&p.warnings, &p.n_warnings, "%s", safe) < 0)
            return err_set(e, ENOMEM, "read the slug's warnings");
    }
    *ret = p;
    p = (struct procfile){0};
    return 0;
}

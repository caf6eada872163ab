/* model_fields.c - the fields of an entry: what each may be, and how large. */
#include "core/state/model_parts.h"

#include "base/scoped.h"
#include "base/str.h"
#include "slug/procfile.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int refuse(struct err *e, int errnum, const char *fmt, ...)
{
    char text[ERR_TEXT_MAX];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap); /* a cut text is still the best we have */
    va_end(ap);
    (void)err_say(e, errnum, "%s", text);
    return err_blame(e, FAULT_OPERATOR);
}

char *quote(char out[QUOTE_MAX], const char *text)
{
    return text_escape(out, QUOTE_MAX, text, strnlen(text, QUOTE_MAX));
}

static unsigned kind_of(const json_t *j)
{
    switch (json_typeof(j)) {
    case JSON_STRING:
        return FIELD_STRING;
    case JSON_INTEGER:
        return FIELD_INT;
    case JSON_TRUE:
    case JSON_FALSE:
        return FIELD_BOOL;
    case JSON_OBJECT:
        return FIELD_OBJECT;
    case JSON_ARRAY:
        return FIELD_ARRAY;
    case JSON_NULL:
        return FIELD_NULL;
    case JSON_REAL:
        break;
    }
    return 0;
}

static const char *kind_words(unsigned kinds)
{
    static const struct {
        unsigned kind;
        const char *words;
    } names[] = {
        {FIELD_STRING, "a string"},  {FIELD_INT, "a whole number"}, {FIELD_BOOL, "true or false"},
        {FIELD_OBJECT, "an object"}, {FIELD_ARRAY, "a list"},
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (kinds & names[i].kind)
            return names[i].words;
    return "null";
}

static bool has_nul(const json_t *string)
{
    return strlen(json_string_value(string)) != json_string_length(string);
}

static int field_check(const char *what, const char *key, const json_t *value,
                       const struct field *fields, struct err *e)
{
    char q[QUOTE_MAX];

    while (fields->name && strcmp(fields->name, key) != 0)
        fields++;
    if (!fields->name)
        return refuse(e, EINVAL, "%s: unknown field '%s'", what, quote(q, key));
    if (!(kind_of(value) & fields->kinds))
        return refuse(e, EINVAL, "%s: '%s' is not %s", what, key, kind_words(fields->kinds));
    if (json_is_string(value) && has_nul(value))
        return refuse(e, EINVAL, "%s: '%s' has a NUL in it", what, key);
    return 0;
}

int fields_check(const char *what, const json_t *obj, const struct field *fields, struct err *e)
{
    const char *key;
    json_t *value;
    int r;

    /* The macro wants a pointer it could write through; nothing is written. */
    json_object_foreach ((json_t *)obj, key, value) {
        r = field_check(what, key, value, fields, e);
        if (r < 0)
            return r;
    }
    for (const struct field *f = fields; f->name; f++)
        if ((f->kinds & FIELD_REQUIRED) && !json_object_get(obj, f->name))
            return refuse(e, EINVAL, "%s: '%s' is missing", what, f->name);
    return 0;
}

const json_t *field_get(const json_t *obj, const char *key)
{
    const json_t *value = json_object_get(obj, key);

    return json_is_null(value) ? NULL : value;
}

int field_uint(const char *op, const json_t *obj, const char *key, uint64_t min, uint64_t max,
               uint64_t *ret, struct err *e)
{
    const json_t *value = field_get(obj, key);

    if (!value)
        return 0;
    json_int_t n = json_integer_value(value);
    if (n < 0 || (uint64_t)n < min || (uint64_t)n > max)
        return refuse(e, EINVAL, "%s: '%s' is %" JSON_INTEGER_FORMAT ", not within %ju to %ju", op,
                      key, n, (uintmax_t)min, (uintmax_t)max);
    *ret = (uint64_t)n;
    return 0;
}

int field_size(const char *op, const json_t *obj, char out[32], struct err *e)
{
    const json_t *value = field_get(obj, "size");
    const char *size = value ? json_string_value(value) : "";
    size_t len = strlen(size);
    char q[QUOTE_MAX];

    /* The characters are those of [size NAME] in dynod.conf. */
    if (len >= 32 || strspn(size, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789-_") != len)
        return refuse(e, EINVAL, "%s: '%s' is no name of a size", op, quote(q, size));
    memset(out, 0, 32);
    memcpy(out, size, len + 1);
    return 0;
}

int field_digest(const char *op, const json_t *obj, struct digest *ret, struct err *e)
{
    const json_t *value = field_get(obj, "digest");
    char q[QUOTE_MAX];

    if (!value)
        return 0;
    if (digest_parse(json_string_value(value), ret) < 0)
        return refuse(e, EINVAL, "%s: digest '%s' is not sha256: and 64 hex digits", op,
                      quote(q, json_string_value(value)));
    return 1;
}

static int env_check_one(const char *op, const char *name, const json_t *value, size_t *total,
                         struct err *e)
{
    char q[QUOTE_MAX];

    if (!*name || strchr(name, '='))
        return refuse(e, EINVAL, "%s: env name '%s' is empty or has a '='", op, quote(q, name));
    if (!json_is_string(value))
        return refuse(e, EINVAL, "%s: env '%s' is not a string", op, quote(q, name));
    if (has_nul(value))
        return refuse(e, EINVAL, "%s: env '%s' has a NUL in it", op, quote(q, name));
    size_t len = strlen(name) + 1 + json_string_length(value);
    if (len > MODEL_STRING_MAX)
        return refuse(e, EINVAL, "%s: env '%s' has %zu bytes, over the limit of %u", op,
                      quote(q, name), len, MODEL_STRING_MAX);
    *total += len;
    if (*total > MODEL_ENV_BYTES_MAX)
        return refuse(e, EINVAL, "%s: env is over the limit of %u bytes", op, MODEL_ENV_BYTES_MAX);
    return 0;
}

int field_env(const char *op, const json_t *obj, json_t **ret, struct err *e)
{
    const json_t *env = field_get(obj, "env");
    const char *name;
    size_t total = 0;
    json_t *value;
    int r;

    json_object_foreach ((json_t *)env, name, value) {
        r = env_check_one(op, name, value, &total, e);
        if (r < 0)
            return r;
    }
    json_t *copy = env ? json_deep_copy(env) : json_object();
    if (!copy)
        return err_set(e, ENOMEM, "copy the environment");
    *ret = copy;
    return 0;
}

int field_argv(const char *op, const json_t *argv, json_t **ret, struct err *e)
{
    size_t n = json_array_size(argv), total = 0;

    if (n == 0 || n > MODEL_ARGV_MAX)
        return refuse(e, EINVAL, "%s: argv has %zu arguments, not within 1 to %d", op, n,
                      MODEL_ARGV_MAX);
    for (size_t i = 0; i < n; i++) {
        const json_t *arg = json_array_get(argv, i);

        if (!json_is_string(arg) || has_nul(arg))
            return refuse(e, EINVAL, "%s: argv[%zu] is not a string without NUL", op, i);
        total += json_string_length(arg) + 1;
        if (total > MODEL_STRING_MAX)
            return refuse(e, EINVAL, "%s: argv is over the limit of %u bytes", op,
                          MODEL_STRING_MAX);
    }
    if (json_string_length(json_array_get(argv, 0)) == 0)
        return refuse(e, EINVAL, "%s: argv[0] is empty", op);
    json_t *copy = json_deep_copy(argv);
    if (!copy)
        return err_set(e, ENOMEM, "copy the arguments");
    *ret = copy;
    return 0;
}

int field_command(const char *op, const json_t *command, struct err *e)
{
    size_t len = json_string_length(command);

    if (len == 0)
        return refuse(e, EINVAL, "%s: the command is empty", op);
    if (len > COMMAND_MAX_BYTES)
        return refuse(e, EINVAL, "%s: a command of %zu bytes is over the limit of %u", op, len,
                      COMMAND_MAX_BYTES);
    return 0;
}

static bool is_reserved(const char *type)
{
    return !strcmp(type, ONEOFF_TYPE) || !strcmp(type, "all");
}

static int check_type_name(const char *op, const char *name, struct err *e)
{
    char q[QUOTE_MAX];

    if (!type_name_valid(name, strlen(name)))
        return refuse(e, EINVAL, "%s: '%s' is no name of a process type", op, quote(q, name));
    if (is_reserved(name))
        return refuse(e, EINVAL, "%s: the name '%s' is reserved", op, name);
    return 0;
}

static const struct field type_fields[] = {
    {"name", FIELD_STRING | FIELD_REQUIRED},
    {"command", FIELD_STRING | FIELD_REQUIRED},
    {"from_release_file", FIELD_BOOL},
    {"direct", FIELD_BOOL},
    {NULL, 0},
};

/* Fills *T, whose place is I of TYPES: the ones before it are filled. */
static int parse_type(const char *op, const json_t *obj, struct want_type *types, size_t i,
                      struct err *e)
{
    struct want_type *t = &types[i];
    int r;

    if (!json_is_object(obj))
        return refuse(e, EINVAL, "%s: types[%zu] is not an object", op, i);
    r = fields_check("types", obj, type_fields, e);
    if (r < 0)
        return err_wrap(e, "%s", op);
    const char *name = json_string_value(json_object_get(obj, "name"));
    json_t *command = json_object_get(obj, "command");
    r = check_type_name(op, name, e);
    if (r == 0)
        r = field_command(op, command, e);
    if (r < 0)
        return r;
    for (size_t k = 0; k < i; k++)
        if (!strcmp(types[k].name, name))
            return refuse(e, EINVAL, "%s: the type '%s' is there twice", op, name);
    (void)snprintf(t->name, sizeof(t->name), "%s", name);
    type_set_command(t, json_incref(command));
    t->from_release_file = json_is_true(json_object_get(obj, "from_release_file"));
    t->direct = json_is_true(json_object_get(obj, "direct"));
    return 0;
}

int field_types(const char *op, const json_t *list, struct want_type **ret, size_t *ret_n,
                struct err *e)
{
    size_t n = json_array_size(list), total = 0;
    int r = 0;

    if (n == 0 || n > MODEL_TYPES_MAX)
        return refuse(e, EINVAL, "%s: %zu process types, not within 1 to %d", op, n,
                      MODEL_TYPES_MAX);
    struct want_type *types = calloc(n, sizeof(*types));
    if (!types)
        return err_set(e, ENOMEM, "copy the process types");
    for (size_t i = 0; i < n && r == 0; i++) {
        r = parse_type(op, json_array_get(list, i), types, i, e);
        total += types[i].command ? strlen(types[i].command) : 0;
        if (total > MODEL_TYPES_BYTES_MAX)
            r = refuse(e, EINVAL, "%s: the commands are over the limit of %u bytes", op,
                       MODEL_TYPES_BYTES_MAX);
    }
    if (r < 0) {
        types_free(types, n);
        return r;
    }
    *ret = types;
    *ret_n = n;
    return 0;
}

int field_type_name(const char *op, const char *name, struct err *e)
{
    int r = check_type_name(op, name, e);

    if (r == 0 && !strcmp(name, "release"))
        r = refuse(e, EINVAL, "%s: 'release' is never part of a formation", op);
    return r;
}

int field_count(const char *op, const char *key, const json_t *counts, const char *name,
                uint64_t min, uint64_t max, struct err *e)
{
    uint64_t ignored;
    int r = field_type_name(op, name, e);

    if (r < 0)
        return r;
    if (!json_is_integer(json_object_get(counts, name)))
        return refuse(e, EINVAL, "%s: %s of '%s' is not a whole number", op, key, name);
    r = field_uint(key, counts, name, min, max, &ignored, e);
    return r < 0 ? err_wrap(e, "%s", op) : 0;
}

int field_counts(const char *op, const char *key, const json_t *counts, uint64_t min, uint64_t max,
                 struct err *e)
{
    const char *name;
    json_t *value;
    int r;

    json_object_foreach ((json_t *)counts, name, value) {
        r = field_count(op, key, counts, name, min, max, e);
        if (r < 0)
            return r;
    }
    return 0;
}

/* A deep copy of OBJ, or an empty object. */
static int copy_object(const json_t *obj, json_t **ret, struct err *e)
{
    json_t *copy = obj ? json_deep_copy(obj) : json_object();

    if (!copy)
        return err_set(e, ENOMEM, "copy a release");
    *ret = copy;
    return 0;
}

int field_stop_after(const char *op, const json_t *obj, json_t **ret, struct err *e)
{
    const json_t *seconds = field_get(obj, "stop_after");
    int r = field_counts(op, "stop_after", seconds, 1, MODEL_STOP_AFTER_MAX, e);

    return r < 0 ? r : copy_object(seconds, ret, e);
}

static const struct field meta_fields[] = {
    {"app_id", FIELD_STRING},      {"app_name", FIELD_STRING},         {"created_at", FIELD_STRING},
    {"slug_commit", FIELD_STRING}, {"slug_description", FIELD_STRING}, {NULL, 0},
};

int field_meta(const char *op, const json_t *obj, json_t **ret, struct err *e)
{
    const json_t *meta = field_get(obj, "meta");
    const char *name;
    json_t *value;
    int r = fields_check("meta", meta, meta_fields, e);

    if (r < 0)
        return err_wrap(e, "%s", op);
    json_object_foreach ((json_t *)meta, name, value) {
        if (json_string_length(value) > MODEL_META_MAX)
            return refuse(e, EINVAL, "%s: meta '%s' has %zu bytes, over the limit of %d", op, name,
                          json_string_length(value), MODEL_META_MAX);
    }
    return copy_object(meta, ret, e);
}

/* json.c - JSON text from outside, with limits that jansson does not have. */
#include "base/frame.h"

#include "base/str.h"

#include <errno.h>
#include <string.h>

#define JSON_DEPTH_MAX 64

/* The deepest nesting in TEXT, counted without building anything. */
static unsigned json_depth(const char *text, size_t len)
{
    unsigned depth = 0, deepest = 0;
    bool in_string = false;

    for (size_t i = 0; i < len; i++) {
        char c = text[i];

        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > deepest)
                deepest = depth;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return deepest;
}

int json_parse(const char *text, size_t len, size_t max, json_t **ret, struct err *e)
{
    json_error_t why;
    char quoted[200];

    if (len > max)
        return err_say(e, EMSGSIZE, "JSON of %zu bytes is over the limit of %zu", len, max);
    unsigned depth = json_depth(text, len);
    if (depth > JSON_DEPTH_MAX)
        return err_say(e, EBADMSG, "JSON nested %u deep is over the limit of %d", depth,
                       JSON_DEPTH_MAX);
    json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
    if (!json) /* its words quote the text */
        return err_say(e, EBADMSG, "not JSON: line %d, column %d: %s", why.line, why.column,
                       text_escape(quoted, sizeof(quoted), why.text, strlen(why.text)));
    *ret = json;
    return 0;
}

const char *json_str(const json_t *obj, const char *key, const char *def)
{
    const char *value = json_string_value(json_object_get(obj, key));

    return value ? value : def;
}

int64_t json_int(const json_t *obj, const char *key, int64_t def)
{
    const json_t *value = json_object_get(obj, key);

    return json_is_integer(value) ? json_integer_value(value) : def;
}

bool json_bool(const json_t *obj, const char *key, bool def)
{
    const json_t *value = json_object_get(obj, key);

    return json_is_boolean(value) ? json_is_true(value) : def;
}

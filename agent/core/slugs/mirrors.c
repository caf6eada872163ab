#include "core/slugs/mirrors.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define STR(x)  STR_(x)
#define STR_(x) #x

static const char too_long[] = "has an address of over " STR(MIRROR_MAX) " bytes";

const char *mirrors_next(const char **text, size_t *ret_len)
{
    const char *at = *text;
    size_t len = strcspn(at, " ");

    if (len == 0)
        return NULL;
    *text = at + len + (at[len] == ' ');
    *ret_len = len;
    return at;
}

static bool is_plain(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] <= ' ' || text[i] == 0x7f)
            return false;
    return true;
}

const char *mirrors_wrong(const char *text)
{
    size_t n = 0, total = 0, len;
    const char *p = text, *url;

    if (!*text)
        return "is empty";
    while ((url = mirrors_next(&p, &len))) {
        if (len > MIRROR_MAX)
            return too_long;
        if (!is_plain(url, len))
            return "has a control character in it";
        if (++n > MIRRORS_MAX)
            return "names more than " STR(FETCH_MIRRORS_MAX) " addresses";
        total += len;
    }
    /* One blank between any two, and none elsewhere: what is left is a blank too many. */
    return total + n - 1 == strlen(text) ? NULL : "has blanks in it";
}

static int refuse(struct err *e, const char *what)
{
    (void)err_say(e, EINVAL, "\"slug\" %s", what);
    return err_blame(e, FAULT_OPERATOR);
}

/* One URL that JSON gave: nothing between the quotes may end or part it. */
static int check_one(const json_t *json, struct err *e)
{
    const char *url = json_string_value(json);

    if (!url)
        return refuse(e, "must be a URL, or a list of them");
    if (!*url)
        return refuse(e, "is empty");
    if (!is_plain(url, json_string_length(json)))
        return refuse(e, "has blanks or control characters in it");
    return json_string_length(json) > MIRROR_MAX ? refuse(e, too_long) : 0;
}

int mirrors_of_json(const json_t *json, json_t **ret, struct err *e)
{
    json_t *text = NULL;
    const json_t *one;
    size_t i;
    int r;

    if (!json_is_array(json)) {
        r = check_one(json, e);
        if (r == 0)
            *ret = json_incref((json_t *)(uintptr_t)json);
        return r;
    }
    if (json_array_size(json) == 0 || json_array_size(json) > MIRRORS_MAX)
        return refuse(e, "must name 1 to " STR(FETCH_MIRRORS_MAX) " addresses");
    json_array_foreach (json, i, one) {
        if ((r = check_one(one, e)) < 0) {
            json_decref(text);
            return r;
        }
        json_t *longer =
            text ? json_sprintf("%s %s", json_string_value(text), json_string_value(one))
                 : json_string(json_string_value(one));
        json_decref(text);
        if (!longer)
            return err_set(e, ENOMEM, "read the addresses of a slug");
        text = longer;
    }
    *ret = text;
    return 0;
}

json_t *mirrors_json(const char *text)
{
    json_t *list;
    const char *url;
    size_t len;

    if (!text || !strchr(text, ' '))
        return text ? json_string(text) : NULL;
    list = json_array();
    while ((url = mirrors_next(&text, &len)))
        if (json_array_append_new(list, json_stringn(url, len)) < 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

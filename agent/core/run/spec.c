#include "core/run/spec.h"

#include "base/frame.h"
#include "base/scoped.h"
#include "base/str.h"
#include "core/slugs/mirrors.h"

#include <errno.h>
#include <string.h>

int spec_check_size(const struct config *c, const json_t *spec, struct err *e)
{
    const json_t *size = json_object_get(spec, "size");
    char safe[64];

    if (!size || (json_is_string(size) && config_size(c, json_string_value(size))))
        return 0;
    const char *text = json_is_string(size) ? json_string_value(size) : "(not a string)";
    (void)err_say(e, EINVAL, "unknown size '%s'",
                  text_escape(safe, sizeof(safe), text, strlen(text)));
    return err_blame(e, FAULT_OPERATOR);
}

static bool knows_scheme(const struct config *c, const char *url)
{
    static const char *const known[] = {"https://", "file:///", "s3://", "swift://"};

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (str_starts(url, known[i]))
            return true;
    return c->allow_http && str_starts(url, "http://");
}

int spec_check_slug(const struct config *c, const json_t *spec, struct err *e)
{
    const json_t *slug = json_object_get(spec, "slug");
    scoped(json_freep) json_t *text = NULL;
    size_t len;
    int r = slug ? mirrors_of_json(slug, &text, e) : 0;
    const char *p = text ? json_string_value(text) : "", *url;

    if (r < 0)
        return r;
    while ((url = mirrors_next(&p, &len)))
        if (!knows_scheme(c, url)) {
            (void)err_say(
                e, EINVAL, "\"slug\" must be https://, s3://, swift:// or file:/// URLs%s",
                str_starts(url, "http://") ? "; http:// only where allow_http says so" : "");
            return err_blame(e, FAULT_OPERATOR);
        }
    return 0;
}

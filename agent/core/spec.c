#include "core/spec.h"

#include "base/str.h"

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

int spec_check_slug(const struct config *c, const json_t *spec, struct err *e)
{
    const json_t *slug = json_object_get(spec, "slug");
    const char *url = json_is_string(slug) ? json_string_value(slug) : NULL;

    if (!slug || (url && (str_starts(url, "https://") || str_starts(url, "file:///"))))
        return 0;
    if (url && str_starts(url, "http://") && c->allow_http)
        return 0;
    (void)err_say(e, EINVAL, "\"slug\" must be an https:// or file:/// URL");
    return err_blame(e, FAULT_OPERATOR);
}

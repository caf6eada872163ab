#include "cli/target.h"

#include "base/scoped.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

static int bad_target(const char *text, const char *want, struct err *e)
{
    char safe[128];

    (void)err_say(e, EINVAL, "'%s' is not %s", text_escape(safe, sizeof(safe), text, strlen(text)),
                  want);
    return err_blame(e, FAULT_OPERATOR);
}

int target_parse_dyno(const char *text, struct target *ret, struct err *e)
{
    struct dyno_name name;
    struct target t;

    if (dyno_name_parse(text, &name) < 0)
        return bad_target(text, "a dyno's name (APP/web.1)", e);
    memcpy(t.app, name.app, sizeof(t.app));
    (void)dyno_name_short(&name, t.dyno);
    *ret = t;
    return 0;
}

int target_parse(const char *text, struct target *ret, struct err *e)
{
    struct target t = {0};

    if (strchr(text, '/'))
        return target_parse_dyno(text, ret, e);
    if (!app_name_valid(text))
        return bad_target(text, "an app's name (a-z, 0-9 and '-', a letter first) or APP/web.1", e);
    memcpy(t.app, text, strlen(text) + 1);
    *ret = t;
    return 0;
}

void url_escape(struct str *out, const char *text)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;

        if ((c < 0x80 && isalnum(c)) || strchr("-._~", c))
            str_add_n(out, text, 1);
        else
            str_addf(out, "%%%02X", c);
    }
}

/* "https:", "s3:" … (RFC 3986, 3.1), followed by "//". */
static bool has_scheme(const char *text)
{
    const char *p = text;

    if (!isalpha((unsigned char)*p))
        return false;
    while (isalnum((unsigned char)*p) || (*p && strchr("+-.", *p)))
        p++;
    return str_starts(p, "://");
}

int slug_url(const char *text, const char *cwd, char **ret, struct err *e)
{
    scoped(str_done) struct str s = {0};

    if (!*text) {
        (void)err_say(e, EINVAL, "a slug's address is empty");
        return err_blame(e, FAULT_OPERATOR);
    }
    if (has_scheme(text))
        str_add(&s, text);
    else if (*text == '/')
        str_addf(&s, "file://%s", text);
    else
        str_addf(&s, "file://%s/%s", strcmp(cwd, "/") ? cwd : "", text);
    if (s.failed)
        return err_set(e, ENOMEM, "make a slug's address");
    *ret = TAKE_PTR(s.data);
    return 0;
}

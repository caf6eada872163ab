#include "core/run/environ.h"

#include "base/clock.h"
#include "base/scoped.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int put(json_t *vars, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static int put(json_t *vars, const char *name, const char *fmt, ...)
{
    char value[512];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(value, sizeof(value), fmt, ap); /* all of these are short */
    va_end(ap);
    return json_object_set_new(vars, name, json_string(value));
}

static int put_defaults(json_t *vars, const struct environ_facts *f)
{
    char created[CLOCK_TEXT_MAX];
    int r = put(vars, "HOME", "/app");

    r |= put(vars, "PATH", "/usr/local/bin:/usr/bin:/bin");
    r |= put(vars, "USER", "dyno");
    r |= put(vars, "LOGNAME", "dyno");
    r |= put(vars, "SHELL", "/bin/bash");
    r |= put(vars, "HEROKU_APP_NAME", "%s", f->app->name);
    r |= put(vars, "HEROKU_RELEASE_VERSION", "v%u", f->app->release.version);
    r |= put(vars, "HEROKU_RELEASE_CREATED_AT", "%s", clock_text(f->app->release.created, created));
    if (f->term) {
        r |= put(vars, "TERM", "%s", f->term);
        r |= put(vars, "COLUMNS", "%u", f->cols);
        r |= put(vars, "LINES", "%u", f->rows);
    }
    return r;
}

/* What a controller said about the release. */
static int put_meta(json_t *vars, const struct environ_facts *f)
{
    static const struct {
        const char *member, *name;
    } known[] = {
        {"app_id", "HEROKU_APP_ID"},
        {"app_name", "HEROKU_APP_NAME"},
        {"created_at", "HEROKU_RELEASE_CREATED_AT"},
        {"slug_commit", "HEROKU_SLUG_COMMIT"},
        {"slug_description", "HEROKU_SLUG_DESCRIPTION"},
    };
    const json_t *meta = f->app->release.meta;
    int r = 0;

    if (json_object_size(meta) == 0)
        return 0;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        json_t *value = json_object_get(meta, known[i].member);

        if (value)
            r |= json_object_set(vars, known[i].name, value);
    }
    if (f->run)
        r |= put(vars, "HEROKU_DYNO_ID", "%s", f->run);
    return r;
}

static int put_fixed(json_t *vars, const struct environ_facts *f)
{
    int r = put(vars, "DYNO", "%s", f->dyno);

    if (f->port)
        r |= put(vars, "PORT", "%u", f->port);
    return r;
}

void environ_free(char **env)
{
    for (size_t i = 0; env && env[i]; i++)
        free(env[i]);
    free(env);
}

int environ_make(const struct environ_facts *facts, const json_t *extra, char ***ret, struct err *e)
{
    json_t *vars = json_object();
    const char *name;
    json_t *value;
    size_t n = 0;
    int r = put_defaults(vars, facts);

    r |= put_meta(vars, facts);
    if (facts->app->release.env)
        r |= json_object_update(vars, facts->app->release.env);
    if (extra)
        r |= json_object_update(vars, (json_t *)(uintptr_t)extra);
    r |= put_fixed(vars, facts);
    char **env = calloc(json_object_size(vars) + 1, sizeof(*env));
    json_object_foreach (vars, name, value)
        if (env && asprintf(&env[n++], "%s=%s", name, json_string_value(value)) < 0) {
            env[--n] = NULL;
            r = -1;
        }
    json_decref(vars);
    if (r != 0 || !env) {
        environ_free(env);
        return err_set(e, ENOMEM, "make the environment");
    }
    *ret = env;
    return 0;
}
